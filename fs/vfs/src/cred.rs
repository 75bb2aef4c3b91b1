//! Credentials: who acts. `credentials(7)`, `capabilities(7)`, `user_namespaces(7)`.
//!
//! [`Credentials`] are immutable once shared: a change makes a new object (`kernel` publishes it in
//! the task), so a reader needs no lock. They live here because this is the lowest layer that
//! checks them. Ids are kept as they are in the initial user namespace; [`UserNamespace`] maps
//! them where a user sees them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::cap::{Cap, CapSet};
use abi::creds::{Gid, OVERFLOW_ID, Uid};
use abi::{Errno, Result};
use arch::sync::SpinLock;
use sync::{Lazy, Once};

use crate::ns_count::{NsCharge, NsLimits};
use crate::security::Domain;

/// One line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdExtent {
    /// First id inside the namespace.
    pub first: u32,
    /// First id in the parent namespace.
    pub lower_first: u32,
    /// How many.
    pub count: u32,
}

/// A map between ids inside a user namespace and ids of the initial one.
#[derive(Debug, Default)]
pub struct IdMap(Vec<IdExtent>);

impl IdMap {
    /// A map from its lines.
    pub const fn new(extents: Vec<IdExtent>) -> Self {
        Self(extents)
    }

    /// The lines.
    pub fn extents(&self) -> &[IdExtent] {
        &self.0
    }

    /// The id of the initial namespace for `id` inside.
    pub fn to_kernel(&self, id: u32) -> Option<u32> {
        let extent = self.0.iter().find(|e| id.checked_sub(e.first).is_some_and(|d| d < e.count))?;
        extent.lower_first.checked_add(id - extent.first)
    }

    /// The id inside for `id` of the initial namespace.
    pub fn from_kernel(&self, id: u32) -> Option<u32> {
        let extent = self.0.iter().find(|e| id.checked_sub(e.lower_first).is_some_and(|d| d < e.count))?;
        extent.first.checked_add(id - extent.lower_first)
    }
}

/// A user namespace.
#[derive(Debug)]
pub struct UserNamespace {
    /// The namespace that this one was made in.
    pub parent: Option<Arc<UserNamespace>>,
    /// How deep it is nested; 0 for the initial one.
    pub level: u32,
    /// Effective user id of its creator.
    pub owner: Uid,
    /// Effective group id of its creator.
    pub group: Gid,
    /// The number that `/proc/PID/ns/user` shows.
    pub ns_inum: u32,
    /// `/proc/PID/uid_map`, with `lower_first` already in terms of the initial namespace.
    pub uid_map: SpinLock<IdMap>,
    /// `/proc/PID/gid_map`.
    pub gid_map: SpinLock<IdMap>,
    /// Its creator had `CAP_SETFCAP`: may map the parent's root by itself.
    pub parent_could_setfcap: bool,
    /// `/proc/PID/setgroups` says `deny`: `setgroups(2)` fails inside.
    pub setgroups_denied: AtomicBool,
    /// How many namespaces may be made inside.
    pub limits: NsLimits,
    /// Itself on its makers' accounts.
    pub charge: NsCharge,
}

#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
static INIT_USER_NS: Lazy<Arc<UserNamespace>> = Lazy::new(|| {
    let all = || IdMap(alloc::vec![IdExtent { first: 0, lower_first: 0, count: u32::MAX }]);
    Arc::new(UserNamespace {
        parent: None,
        level: 0,
        owner: Uid(0),
        group: Gid(0),
        ns_inum: 0xEFFF_FFFD,
        uid_map: SpinLock::new(all()),
        gid_map: SpinLock::new(all()),
        parent_could_setfcap: false,
        setgroups_denied: AtomicBool::new(false),
        limits: NsLimits::none(),
        charge: NsCharge::none(),
    })
});

impl UserNamespace {
    /// The namespace the system boots in.
    pub fn initial() -> &'static Arc<Self> {
        &INIT_USER_NS
    }

    /// Whether it is `ancestor` or inside of it.
    pub fn is_inside(&self, ancestor: &Self) -> bool {
        let mut at = self;
        while !core::ptr::eq(at, ancestor) {
            match &at.parent {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        true
    }

    /// Whether this is the initial namespace.
    pub fn is_initial(&self) -> bool {
        self.parent.is_none()
    }

    /// The user id that `uid`, as a user inside writes it, stands for.
    pub fn make_uid(&self, uid: u32) -> Option<Uid> {
        if self.is_initial() {
            return (uid != u32::MAX).then_some(Uid(uid));
        }
        self.uid_map.lock().to_kernel(uid).map(Uid)
    }

    /// The group id that `gid`, as a user inside writes it, stands for.
    pub fn make_gid(&self, gid: u32) -> Option<Gid> {
        if self.is_initial() {
            return (gid != u32::MAX).then_some(Gid(gid));
        }
        self.gid_map.lock().to_kernel(gid).map(Gid)
    }

    /// The number that a user inside sees for `uid` ([`OVERFLOW_UID`] when unmapped).
    pub fn from_uid(&self, uid: Uid) -> u32 {
        if self.is_initial() {
            return uid.0;
        }
        self.uid_map.lock().from_kernel(uid.0).unwrap_or_else(overflow_uid)
    }

    /// The number that a user inside sees for `gid` ([`OVERFLOW_GID`] when unmapped).
    pub fn from_gid(&self, gid: Gid) -> u32 {
        if self.is_initial() {
            return gid.0;
        }
        self.gid_map.lock().from_kernel(gid.0).unwrap_or_else(overflow_gid)
    }

    /// Whether `uid` and `gid` both have a name inside.
    pub fn has_mapping(&self, uid: u32, gid: u32) -> bool {
        self.is_initial()
            || (self.uid_map.lock().from_kernel(uid).is_some()
                && self.gid_map.lock().from_kernel(gid).is_some())
    }
}

/// Securebits of `prctl(PR_SET_SECUREBITS)`.
pub mod securebits {
    /// Root gets no capabilities by being root.
    pub const NOROOT: u32 = 1 << 0;
    /// Changing from root to others keeps capabilities.
    pub const NO_SETUID_FIXUP: u32 = 1 << 2;
    /// Keep permitted capabilities over a user id change.
    pub const KEEP_CAPS: u32 = 1 << 4;
    /// No new ambient capabilities.
    pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    /// All bits that exist.
    pub const ALL: u32 = 0xff;
}

/// The identity of a task. See the module text.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Credentials {
    pub uid: Uid,
    pub gid: Gid,
    pub suid: Uid,
    pub sgid: Gid,
    pub euid: Uid,
    pub egid: Gid,
    pub fsuid: Uid,
    pub fsgid: Gid,
    pub securebits: u32,
    pub cap_inheritable: CapSet,
    pub cap_permitted: CapSet,
    pub cap_effective: CapSet,
    pub cap_bset: CapSet,
    pub cap_ambient: CapSet,
    /// Supplementary groups, sorted.
    pub groups: Arc<[Gid]>,
    /// What restricts it beyond these; see [`crate::security`].
    pub domain: Option<Arc<dyn Domain>>,
    pub user_ns: Arc<UserNamespace>,
}

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
static ROOT: Lazy<Arc<Credentials>> = Lazy::new(|| Arc::new(Credentials::root()));

/// `kernel.overflowuid`: what is shown of a user without a number.
pub static OVERFLOW_UID: AtomicU32 = AtomicU32::new(OVERFLOW_ID);
/// `kernel.overflowgid`: what is shown of a group without a number.
pub static OVERFLOW_GID: AtomicU32 = AtomicU32::new(OVERFLOW_ID);

/// See [`OVERFLOW_UID`].
pub fn overflow_uid() -> u32 {
    OVERFLOW_UID.load(Ordering::Relaxed)
}

/// See [`OVERFLOW_GID`].
pub fn overflow_gid() -> u32 {
    OVERFLOW_GID.load(Ordering::Relaxed)
}

static USED: Once<fn()> = Once::new();

/// Registers who notes that the running thread used a capability. Once.
pub fn on_use(hook: fn()) {
    USED.call_once(|| hook);
}

#[inline]
fn used(capable: bool) -> bool {
    if capable && let Some(hook) = USED.get() {
        hook();
    }
    capable
}

impl Credentials {
    /// What the first process has: root with every capability.
    pub fn root() -> Self {
        Self {
            uid: Uid(0),
            gid: Gid(0),
            suid: Uid(0),
            sgid: Gid(0),
            euid: Uid(0),
            egid: Gid(0),
            fsuid: Uid(0),
            fsgid: Gid(0),
            securebits: 0,
            cap_inheritable: CapSet::EMPTY,
            cap_permitted: CapSet::FULL,
            cap_effective: CapSet::FULL,
            cap_bset: CapSet::FULL,
            cap_ambient: CapSet::EMPTY,
            groups: Arc::from([]),
            domain: None,
            user_ns: UserNamespace::initial().clone(),
        }
    }

    /// The kernel's own shared root credentials.
    pub fn kernel() -> &'static Arc<Self> {
        &ROOT
    }

    /// An ordinary user without capabilities.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn user(uid: Uid, gid: Gid, groups: &[Gid]) -> Self {
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        Self {
            uid,
            gid,
            suid: uid,
            sgid: gid,
            euid: uid,
            egid: gid,
            fsuid: uid,
            fsgid: gid,
            cap_permitted: CapSet::EMPTY,
            cap_effective: CapSet::EMPTY,
            groups: groups.into(),
            ..Self::root()
        }
    }

    /// Whether `gid` is the file system group or a supplementary one.
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether `gid` is the effective group or a supplementary one.
    pub fn in_egroup(&self, gid: Gid) -> bool {
        self.egid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether `cap` is effective over the initial user namespace.
    pub fn capable(&self, cap: Cap) -> bool {
        used(self.user_ns.is_initial() && self.cap_effective.has(cap))
    }

    /// Whether `cap` is effective over `ns`: held in it or in an ancestor, or by the owner of a
    /// child namespace.
    pub fn ns_capable(&self, ns: &Arc<UserNamespace>, cap: Cap) -> bool {
        let mut ns = ns;
        loop {
            if Arc::ptr_eq(ns, &self.user_ns) {
                return used(self.cap_effective.has(cap));
            }
            if ns.level <= self.user_ns.level {
                return false;
            }
            match &ns.parent {
                Some(parent) if Arc::ptr_eq(parent, &self.user_ns) && ns.owner == self.euid => {
                    return used(true);
                }
                Some(parent) => ns = parent,
                None => return false,
            }
        }
    }

    /// Whether `cap` is effective over an object owned by `uid` and `gid`: held in a namespace that
    /// maps both.
    pub fn capable_wrt(&self, uid: u32, gid: u32, cap: Cap) -> bool {
        used(self.cap_effective.has(cap) && self.user_ns.has_mapping(uid, gid))
    }

    /// `EPERM` unless [`Credentials::capable`].
    pub fn require(&self, cap: Cap) -> Result<()> {
        if self.capable(cap) { Ok(()) } else { Err(Errno::EPERM) }
    }
}
