//! What execve does to credentials: set-user-id, set-group-id and file capabilities.
//!
//! capabilities(7), "Transformation of capabilities during execve()".

use super::commit;
use crate::coredump::SUID_DUMPABLE;
use crate::process::thread::flags;
use crate::process::{CurrentThread, tree};
use abi::cap::{Cap, CapSet};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vfs::cred::{Credentials, securebits};
use vfs::file::File;

/// Credentials that wait for the point of no return.
pub struct NewCred {
    cred: Credentials,
    /// The program has more rights than its caller.
    pub secure: bool,
    /// The program gets ids or capabilities that its caller has not.
    gains: bool,
    /// `personality(2)` flags that such a program does not inherit.
    pub clear_personality: u32,
}

/// `PER_CLEAR_ON_SETID`.
const CLEAR_ON_SETID: u32 = 0x0010_0000 | 0x0040_0000 | 0x0200_0000 | 0x0004_0000;

/// The capabilities of a file: extended attribute `security.capability`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct FileCaps {
    permitted: CapSet,
    inheritable: CapSet,
    effective: bool,
}

impl FileCaps {
    /// Reads revision 2 (and 3, whose owner must be this namespace's root).
    fn parse(bytes: &[u8], root: u32) -> Option<Self> {
        let word = |i: usize| Some(u32::from_le_bytes(bytes.get(i * 4..i * 4 + 4)?.try_into().ok()?));
        let magic = word(0)?;
        match (magic & 0xff00_0000, bytes.len()) {
            (0x0200_0000, 20) => {}
            (0x0300_0000, 24) if word(5)? == root => {}
            _ => return None,
        }
        let set =
            |i: usize| Some(CapSet((u64::from(word(i)?) | u64::from(word(i + 2)?) << 32) & CapSet::FULL.0));
        Some(Self { permitted: set(1)?, inheritable: set(2)?, effective: magic & 1 != 0 })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Works out the credentials a program runs with.
///
/// # Errors
/// `EPERM`: a program whose file demands capabilities that it cannot get.
pub fn prepare(me: &CurrentThread, file: &Arc<File>) -> Result<NewCred> {
    let old = me.cred();
    let mut new = Credentials::clone(&old);
    new.securebits &= !securebits::KEEP_CAPS;
    let inode = file.inode();
    let trusted = !me.has(flags::NO_NEW_PRIVS) && file.path().mnt.flags() & raw::MS_NOSUID == 0;
    let mode = inode.mode();
    let mapped = old.user_ns.has_mapping(inode.uid().0, inode.gid().0);
    if trusted && mapped {
        if mode & raw::S_ISUID != 0 {
            new.euid = inode.uid();
        }
        // Without group execution the bit means mandatory locking.
        if mode & raw::S_ISGID != 0 && mode & 0o010 != 0 {
            new.egid = inode.gid();
        }
    }
    let caps = if trusted { file_caps(file, &old) } else { FileCaps::default() };
    apply_caps(&old, &mut new, caps, old.user_ns.make_uid(0))?;
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    let ids = new.euid != old.uid || new.egid != old.gid;
    let changed = new.euid != old.euid || new.egid != old.egid;
    let gained = !caps.is_empty() && new.uid.0 != 0 && new.cap_permitted.0 & !new.cap_ambient.0 != 0;
    let permitted = new.cap_permitted;
    Ok(NewCred {
        cred: new,
        secure: ids || gained,
        gains: ids || !old.cap_permitted.contains(permitted),
        clear_personality: if changed || gained { CLEAR_ON_SETID } else { 0 },
    })
}

fn file_caps(file: &Arc<File>, cred: &Credentials) -> FileCaps {
    let inode = file.inode();
    let root = cred.user_ns.make_uid(0).unwrap_or_default().0;
    match inode.ops().getxattr(inode, b"security.capability") {
        Ok(bytes) => FileCaps::parse(&bytes, root).unwrap_or_default(),
        Err(_) => FileCaps::default(),
    }
}

fn apply_caps(
    old: &Credentials,
    new: &mut Credentials,
    caps: FileCaps,
    root: Option<abi::creds::Uid>,
) -> Result<()> {
    let mut file = caps;
    let has_caps = !caps.is_empty();
    let is_root = |uid| Some(uid) == root;
    let root_rules = new.securebits & securebits::NOROOT == 0;
    // A set-user-id-root program with file capabilities gets just those when an ordinary user runs it.
    let only_file = has_caps && !is_root(old.uid) && is_root(new.euid);
    if root_rules && !only_file && (is_root(new.euid) || is_root(new.uid)) {
        file.permitted = CapSet::FULL;
        file.inheritable = CapSet::FULL;
        file.effective = is_root(new.euid);
    }
    let granted = file.permitted.0 & old.cap_bset.0 | file.inheritable.0 & old.cap_inheritable.0;
    if has_caps && caps.effective && caps.permitted.0 & !granted != 0 {
        return Err(Errno::EPERM);
    }
    let setid = new.euid != old.uid || new.egid != old.gid;
    if has_caps || setid {
        new.cap_ambient = CapSet::EMPTY;
    }
    new.cap_permitted = CapSet(granted | new.cap_ambient.0);
    new.cap_effective = if file.effective { new.cap_permitted } else { new.cap_ambient };
    Ok(())
}

impl NewCred {
    /// What is left of them if the thread has a tracer: no more than that one could give itself. From here until the new
    /// credentials are in place nobody becomes a tracer, and nobody looks into a memory that will be theirs.
    pub fn for_traced(mut self, me: &CurrentThread) -> Self {
        if !self.gains {
            return self;
        }
        let _tree = tree::lock();
        me.process.exec_decides.store(true, Ordering::Relaxed);
        me.process.dumpable.store(0, Ordering::Relaxed);
        let tracer = me.trace.link.lock().cred.clone();
        let spared = tracer.is_none_or(|t| t.ns_capable(&self.cred.user_ns, Cap::SysPtrace));
        if spared || !me.trace.is_traced() {
            return self;
        }
        let (old, new) = (me.cred(), &mut self.cred);
        if !old.ns_capable(&new.user_ns, Cap::Setuid) {
            (new.euid, new.egid) = (new.uid, new.gid);
            (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
        }
        new.cap_permitted = CapSet(new.cap_permitted.0 & old.cap_permitted.0);
        new.cap_effective = CapSet(new.cap_effective.0 & new.cap_permitted.0);
        self
    }

    /// Makes them the thread's, and the process dumpable if nothing was gained.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn install(self, me: &CurrentThread) -> Result<()> {
        let plain = self.cred.uid == self.cred.euid && self.cred.gid == self.cred.egid && !self.secure;
        // The old program is gone.
        let _no_fail = mm::context::NoFailScope::enter();
        commit::commit(me, self.cred)?;
        let dumpable = if plain { 1 } else { SUID_DUMPABLE.load(Ordering::Relaxed) };
        me.process.dumpable.store(dumpable, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::creds::{Gid, Uid};

    #[test]
    fn root_gets_all_and_users_keep_ambient() {
        let root = Credentials::root();
        let mut new = root.clone();
        apply_caps(&root, &mut new, FileCaps::default(), Some(Uid(0))).unwrap();
        assert_eq!((new.cap_permitted, new.cap_effective), (CapSet::FULL, CapSet::FULL));
        let mut user = Credentials::user(Uid(5), Gid(5), &[]);
        user.cap_ambient = CapSet(1 << 10);
        user.cap_inheritable = CapSet(1 << 10);
        user.cap_permitted = CapSet(1 << 10 | 1);
        let mut new = user.clone();
        apply_caps(&user, &mut new, FileCaps::default(), Some(Uid(0))).unwrap();
        assert_eq!((new.cap_permitted.0, new.cap_effective.0), (1 << 10, 1 << 10));
    }

    #[test]
    fn file_capabilities_parse() {
        let mut bytes = [0u8; 20];
        bytes[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
        let caps = FileCaps::parse(&bytes, 0).unwrap();
        assert_eq!((caps.permitted.0, caps.effective), (1 << 13, true));
        let user = Credentials::user(Uid(5), Gid(5), &[]);
        let mut new = user.clone();
        apply_caps(&user, &mut new, caps, Some(Uid(0))).unwrap();
        assert_eq!(new.cap_effective.0, 1 << 13);
        assert_eq!(FileCaps::parse(&bytes[..19], 0), None);
    }

    #[test]
    fn a_bounded_capability_fails_the_exec() {
        let caps = FileCaps { permitted: CapSet(1 << 13), inheritable: CapSet::EMPTY, effective: true };
        let mut user = Credentials::user(Uid(5), Gid(5), &[]);
        user.cap_bset = CapSet::EMPTY;
        let mut new = user.clone();
        assert_eq!(apply_caps(&user, &mut new, caps, Some(Uid(0))), Err(Errno::EPERM));
    }
}
