//! Mount namespaces: `mount_namespaces(7)`.
//!
//! An *anonymous* namespace is not a place to live in: it holds a tree that only a descriptor refers to ([`super::detached`]), or
//! one that the kernel keeps for itself.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use sched::wait::WaitQueue;

use super::object::Mount;
use super::propagate::{self, Kind};
use super::tree::{self, CopyWhat};
use super::{NAMESPACE, attr};
use crate::cred::UserNamespace;
use crate::ns_count::NsCharge;
use crate::path::{FsStruct, Path};
use mm::context::NoFailScope;

static NEXT_NS: AtomicU32 = AtomicU32::new(FIRST_NS);
static NEXT_ID: AtomicU64 = AtomicU64::new(2);
/// Namespaces that have an id, by it.
static ALL: SpinLock<BTreeMap<u64, Weak<MountNamespace>>> = SpinLock::new(BTreeMap::new());

/// The number of the first mount namespace; the one before it is the first network namespace's, as on Linux.
pub const FIRST_NS: u32 = 0xF000_0001;

/// `/proc/sys/fs/mount-max`: mounts that a namespace can have.
pub static MOUNT_MAX: AtomicU32 = AtomicU32::new(100_000);

/// A number for a new namespace of any kind (`/proc/PID/ns`).
pub fn next_ns_inum() -> u32 {
    NEXT_NS.fetch_add(1, Ordering::Relaxed)
}

/// A tree of mounts that its members see.
pub struct MountNamespace {
    root: SpinLock<Option<Arc<Mount>>>,
    inum: u32,
    /// Never used again; zero for an anonymous namespace.
    id: u64,
    user_ns: Arc<UserNamespace>,
    mounts: AtomicUsize,
    /// Raised by every change (`poll(2)` on `/proc/PID/mounts`).
    event: AtomicU64,
    /// Woken by every change.
    pub poll: WaitQueue,
    /// Counts for its makers.
    _charge: NsCharge,
}

/// Which of the two neighbours of a namespace in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// The next older one.
    Previous,
    /// The next younger one.
    Next,
}

impl MountNamespace {
    fn make(user_ns: &Arc<UserNamespace>, inum: u32, id: u64, charge: NsCharge) -> Arc<Self> {
        let _no_fail = NoFailScope::enter();
        let ns = Arc::new(Self {
            root: SpinLock::new(None),
            inum,
            id,
            user_ns: user_ns.clone(),
            mounts: AtomicUsize::new(0),
            event: AtomicU64::new(1),
            poll: WaitQueue::new(),
            _charge: charge,
        });
        if id != 0 {
            ALL.lock().insert(id, Arc::downgrade(&ns));
        }
        ns
    }

    fn new(user_ns: &Arc<UserNamespace>, charge: NsCharge) -> Arc<Self> {
        Self::make(user_ns, next_ns_inum(), NEXT_ID.fetch_add(1, Ordering::Relaxed), charge)
    }

    /// A namespace that nobody lives in, for the tree at `root`. Runs under [`NAMESPACE`].
    pub(super) fn anonymous(user_ns: &Arc<UserNamespace>, root: &Arc<Mount>) -> Arc<Self> {
        let ns = Self::make(user_ns, 0, 0, NsCharge::none());
        ns.set_root(root.clone());
        ns
    }

    /// Whether nobody lives in it.
    pub fn is_anonymous(&self) -> bool {
        self.id == 0
    }

    /// The topmost mount.
    pub fn root(&self) -> Result<Arc<Mount>> {
        self.root.lock().clone().ok_or(Errno::ENOENT)
    }

    /// Whether `mount` is the topmost mount.
    pub fn is_root(&self, mount: &Arc<Mount>) -> bool {
        self.root.lock().as_ref().is_some_and(|root| Arc::ptr_eq(root, mount))
    }

    /// Makes `mount` the topmost one; everything below it belongs to the namespace then.
    pub(crate) fn set_root(self: &Arc<Self>, mount: Arc<Mount>) {
        for member in tree::subtree(&mount) {
            member.set_namespace(Some(self));
        }
        let old = self.root.lock().replace(mount);
        drop(old);
    }

    /// Takes the topmost mount away: the tree goes elsewhere.
    pub(super) fn take_root(&self) -> Option<Arc<Mount>> {
        self.root.lock().take()
    }

    /// The number that `/proc/PID/ns/mnt` shows.
    pub fn inum(&self) -> u32 {
        self.inum
    }

    /// The number that no other namespace ever has (`listmount(2)`).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The user namespace that owns it.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// How many mounts it has.
    pub fn mount_count(&self) -> usize {
        self.mounts.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, delta: isize) {
        self.mounts.fetch_add(delta as usize, Ordering::Relaxed);
    }

    /// Whether `more` mounts fit.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn room_for(&self, more: usize) -> Result<()> {
        let limit = MOUNT_MAX.load(Ordering::Relaxed) as usize;
        if self.mount_count().saturating_add(more) > limit { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// The number of changes so far.
    pub fn event(&self) -> u64 {
        self.event.load(Ordering::Acquire)
    }

    pub(crate) fn changed(&self) {
        self.event.fetch_add(1, Ordering::AcqRel);
        self.poll.wake_all_poll(abi::poll::PollEvents::ERR | abi::poll::PollEvents::PRI);
    }

    /// All mounts, parents before children, in the order of `/proc/PID/mounts`.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let _shape = NAMESPACE.read();
        let _no_fail = NoFailScope::enter();
        let mut all = Vec::new();
        if let Ok(root) = self.root() {
            tree::collect(&root, &mut all);
        }
        all
    }

    /// The namespace with the id `id`.
    pub fn by_id(id: u64) -> Option<Arc<Self>> {
        ALL.lock().get(&id).and_then(Weak::upgrade)
    }

    /// The nearest namespace on one side whose mounts `may` be looked at.
    pub fn neighbour(&self, side: Neighbour, may: impl Fn(&Self) -> bool) -> Option<Arc<Self>> {
        let mut at = self.id;
        loop {
            let found = {
                let all = ALL.lock();
                let found = match side {
                    Neighbour::Next => all.range(at.checked_add(1)?..).next(),
                    Neighbour::Previous => all.range(..at).next_back(),
                };
                let (id, ns) = found?;
                at = *id;
                ns.upgrade()
            };
            if let Some(ns) = found.filter(|ns| may(ns)) {
                return Some(ns);
            }
        }
    }
}

impl Drop for MountNamespace {
    /// The last reference may go in an RCU callback or under [`NAMESPACE`], which taking the tree apart needs: a
    /// worker does it.
    fn drop(&mut self) {
        if self.id != 0 {
            ALL.lock().remove(&self.id);
        }
        if let Some(root) = self.root.get_mut().take() {
            sched::workqueue::queue(move || tree::dissolve(&root));
        }
    }
}

/// The first namespace: `mount` is its root.
pub fn initial_namespace(mount: &Arc<Mount>) -> Arc<MountNamespace> {
    let ns = MountNamespace::new(UserNamespace::initial(), NsCharge::none());
    let _shape = super::change();
    // There is nothing below the root of everything.
    mount.locked.store(true, Ordering::Relaxed);
    ns.set_root(mount.clone());
    ns
}

/// A namespace in which the kernel itself works on the file system of `mount`; no process ever sees it.
pub fn kernel_namespace(mount: &Arc<Mount>) -> Arc<MountNamespace> {
    let _shape = super::change();
    MountNamespace::anonymous(UserNamespace::initial(), mount)
}

/// `unshare(CLONE_NEWNS)`: a copy of `old`. Root and working directory in `fs` move into it.
pub fn copy_namespace(
    old: &Arc<MountNamespace>,
    user_ns: &Arc<UserNamespace>,
    charge: NsCharge,
    fs: Option<&FsStruct>,
) -> Result<Arc<MountNamespace>> {
    let ns = MountNamespace::new(user_ns, charge);
    let less_privileged = !Arc::ptr_eq(old.user_ns(), user_ns);
    let shape = super::change();
    let root = old.root()?;
    let pairs = tree::copy_tree(&root.root_path(), CopyWhat::Namespace)?;
    let Some((_, top)) = pairs.first() else { return Err(Errno::EINVAL) };
    ns.set_root(top.clone());
    if less_privileged {
        for (_, copy) in &pairs {
            propagate::change_kind(copy, Kind::Slave)?;
        }
        attr::lock_tree(top);
    }
    drop(shape);
    if let Some(fs) = fs {
        let moved = |path: &Path| {
            let pair = pairs.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mnt))?;
            Some(Path::new(pair.1.clone(), path.dentry.clone()))
        };
        if let Some(path) = moved(&fs.root()?) {
            fs.set_root(path)?;
        }
        if let Some(path) = moved(&fs.cwd()?) {
            fs.set_cwd(path)?;
        }
    }
    Ok(ns)
}
