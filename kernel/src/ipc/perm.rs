//! Who owns an object, and what others may do with it: `sysvipc(7)`, "Resource access permissions".
//!
//! A [`Perm`] is part of every object. Its fields are atomics: checks read them without a lock, changes (`IPC_SET`, removal)
//! happen under the object's lock.

use super::{IpcNamespace, MNI, MNI_SHIFT};
use crate::process::current;
use abi::cap::Cap;
use abi::creds::{Gid, Uid};
use abi::ipc::{IPC_PRIVATE, Ipc64Perm};
use abi::{Errno, Result};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};
use vfs::cred::UserNamespace;

/// The bits of a mode that `*get` and `IPC_SET` set.
pub const RIGHTS: u32 = 0o777;
/// Read permission for everybody, as [`Perm::check`] takes it.
pub const READ: u32 = 0o444;
/// Write (semaphores: alter) permission.
pub const WRITE: u32 = 0o222;
/// Permission to attach for execution.
pub const EXEC: u32 = 0o111;

/// Identity, owner and mode of an object.
pub struct Perm {
    id: i32,
    key: AtomicI32,
    uid: AtomicU32,
    gid: AtomicU32,
    cuid: Uid,
    cgid: Gid,
    mode: AtomicU32,
    removed: AtomicBool,
}

/// The index in an identifier.
pub fn index_of(id: i32) -> u32 {
    id as u32 & (MNI - 1)
}

/// The sequence number in an identifier.
pub fn seq_of(id: i32) -> u32 {
    id as u32 >> MNI_SHIFT
}

impl Perm {
    /// Of a new object of the running thread.
    pub(super) fn new(id: i32, key: i32, mode: u32) -> Self {
        let (cuid, cgid) = current().with_cred(|cred| (cred.euid, cred.egid));
        Self {
            id,
            key: AtomicI32::new(key),
            uid: AtomicU32::new(cuid.0),
            gid: AtomicU32::new(cgid.0),
            cuid,
            cgid,
            mode: AtomicU32::new(mode),
            removed: AtomicBool::new(false),
        }
    }

    /// The identifier.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The key.
    pub fn key(&self) -> i32 {
        self.key.load(Relaxed)
    }

    /// Takes the key away: nobody finds the object by it any more.
    pub(super) fn forget_key(&self) -> i32 {
        self.key.swap(IPC_PRIVATE, Relaxed)
    }

    /// Permissions and state bits.
    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }

    /// Sets state bits of the mode.
    pub fn insert_mode(&self, bits: u32) {
        self.mode.fetch_or(bits, Relaxed);
    }

    /// Clears state bits of the mode.
    pub fn remove_mode(&self, bits: u32) {
        self.mode.fetch_and(!bits, Relaxed);
    }

    /// Whether the object was removed; certain only under its lock.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Relaxed)
    }

    /// `EIDRM` for a removed object. Call under its lock.
    pub fn check_alive(&self) -> Result<()> {
        if self.is_removed() { Err(Errno::EIDRM) } else { Ok(()) }
    }

    /// Marks the object removed, under its lock.
    pub fn mark_removed(&self) {
        self.removed.store(true, Relaxed);
    }

    /// The owner.
    pub fn uid(&self) -> Uid {
        Uid(self.uid.load(Relaxed))
    }

    /// The owner's group.
    pub fn gid(&self) -> Gid {
        Gid(self.gid.load(Relaxed))
    }

    /// The creator.
    pub fn cuid(&self) -> Uid {
        self.cuid
    }

    /// The creator's group.
    pub fn cgid(&self) -> Gid {
        self.cgid
    }

    /// Whether the running thread may do what `wanted` asks for: permission bits, of which it does not matter for whom they are
    /// written.
    ///
    /// # Errors
    /// `EACCES`.
    #[inline]
    pub fn check(&self, ns: &IpcNamespace, wanted: u32) -> Result<()> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        current().with_cred(|cred| {
            let shift = if cred.euid == self.cuid || cred.euid == self.uid() {
                6
            } else if cred.in_group(self.cgid) || cred.in_group(self.gid()) {
                3
            } else {
                0
            };
            if wanted & !(self.mode() >> shift) == 0 || cred.ns_capable(&ns.user_ns, Cap::IpcOwner) {
                return Ok(());
            }
            Err(Errno::EACCES)
        })
    }

    /// Whether the running thread may change or remove the object.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_control(&self, ns: &IpcNamespace) -> Result<()> {
        let may = self.is_owner() || current().with_cred(|c| c.ns_capable(&ns.user_ns, Cap::SysAdmin));
        if may { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether the running thread acts as owner or creator.
    pub fn is_owner(&self) -> bool {
        current().with_cred(|cred| cred.euid == self.cuid || cred.euid == self.uid())
    }

    /// `IPC_SET`: owner and permissions as the caller wrote them, under the object's lock.
    ///
    /// # Errors
    /// `EINVAL`: the ids have no meaning in the caller's user namespace.
    pub fn set(&self, new: &Ipc64Perm) -> Result<()> {
        let ns = current().with_cred(|cred| cred.user_ns.clone());
        let uid = ns.make_uid(new.uid).ok_or(Errno::EINVAL)?;
        let gid = ns.make_gid(new.gid).ok_or(Errno::EINVAL)?;
        self.uid.store(uid.0, Relaxed);
        self.gid.store(gid.0, Relaxed);
        self.mode.store(self.mode() & !RIGHTS | new.mode & RIGHTS, Relaxed);
        Ok(())
    }

    /// As the running thread sees it.
    pub fn to_abi(&self) -> Ipc64Perm {
        let ns = current().with_cred(|cred| cred.user_ns.clone());
        let [uid, gid, cuid, cgid] = self.ids_in(&ns);
        Ipc64Perm {
            key: self.key(),
            uid,
            gid,
            cuid,
            cgid,
            mode: self.mode(),
            seq: seq_of(self.id) as u16,
            ..Ipc64Perm::default()
        }
    }

    /// Owner, its group, creator, its group, as `ns` numbers them.
    pub fn ids_in(&self, ns: &UserNamespace) -> [u32; 4] {
        [ns.from_uid(self.uid()), ns.from_gid(self.gid()), ns.from_uid(self.cuid), ns.from_gid(self.cgid)]
    }
}
