//! A place in the tree of mounts: [`Path`]; a process's root and working directory: [`FsStruct`];
//! and the way back from a place to a name: [`d_path`] (`getcwd(2)`, `/proc/PID/fd`, `mountinfo`).
//!
//! [`FsStruct`] is read under RCU: a path walk starts from it without a lock or a reference.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use sched::rcu::ReadGuard;
use sync::RcuPtr;

use crate::cred::Credentials;
use crate::dentry::{Dentry, DentryFlags};
use crate::inode::Inode;
use crate::mount::{Mount, MountNamespace};
use mm::fallible::{TryVec, try_arc};

/// A dentry as seen through a mount.
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mnt: Arc<Mount>,
    /// The dentry, in the file system of the mount.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// A path from its parts.
    pub fn new(mnt: Arc<Mount>, dentry: Arc<Dentry>) -> Self {
        Self { mnt, dentry }
    }

    /// The inode; `ENOENT` for a negative dentry.
    #[inline]
    pub fn inode(&self) -> Result<&Arc<Inode>> {
        self.dentry.inode().ok_or(Errno::ENOENT)
    }

    /// Whether both are the same place.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mnt, &other.mnt) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether this is where its mount begins.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mnt.root())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match d_path(self, None) {
            Ok(text) => write!(f, "Path({})", crate::util::Lossy(&text)),
            Err(error) => write!(f, "Path({error})"),
        }
    }
}

/// Root directory, working directory and file mode mask of a process (shared by `CLONE_FS`).
pub struct FsStruct {
    root: RcuPtr<Path>,
    cwd: RcuPtr<Path>,
    umask: AtomicU32,
    /// Threads that share it (for the check of `chroot` helpers and `unshare`).
    pub users: AtomicU32,
}

impl FsStruct {
    /// With root and working directory at `root`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(root: Path) -> Result<Self> {
        let root = try_arc(root)?;
        Ok(Self {
            root: RcuPtr::new(Some(root.clone())),
            cwd: RcuPtr::new(Some(root)),
            umask: AtomicU32::new(0o022),
            users: AtomicU32::new(1),
        })
    }

    /// A copy for `fork(2)`.
    pub fn copy(&self) -> Self {
        let guard = sched::rcu::read_lock();
        Self {
            root: RcuPtr::new(self.root.load_arc(&guard)),
            cwd: RcuPtr::new(self.cwd.load_arc(&guard)),
            umask: AtomicU32::new(self.umask()),
            users: AtomicU32::new(1),
        }
    }

    /// The root directory, borrowed.
    #[inline]
    pub fn root_rcu<'g>(&'g self, guard: &'g ReadGuard) -> Option<&'g Path> {
        self.root.load(guard)
    }

    /// The working directory, borrowed.
    #[inline]
    pub fn cwd_rcu<'g>(&'g self, guard: &'g ReadGuard) -> Option<&'g Path> {
        self.cwd.load(guard)
    }

    /// The root directory.
    pub fn root(&self) -> Result<Path> {
        let guard = sched::rcu::read_lock();
        self.root.load(&guard).cloned().ok_or(Errno::ENOENT)
    }

    /// The working directory.
    pub fn cwd(&self) -> Result<Path> {
        let guard = sched::rcu::read_lock();
        self.cwd.load(&guard).cloned().ok_or(Errno::ENOENT)
    }

    /// Changes the root directory (permissions have been checked: see [`crate::namei::chroot`]).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_root(&self, path: Path) -> Result<()> {
        drop(self.root.replace(Some(try_arc(path)?)));
        Ok(())
    }

    /// Changes the working directory (see [`crate::namei::chdir`]).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_cwd(&self, path: Path) -> Result<()> {
        drop(self.cwd.replace(Some(try_arc(path)?)));
        Ok(())
    }

    /// Moves root and working directory from `old` to `new` (for `pivot_root(2)`, for every process).
    pub fn replace_path(&self, old: &Path, new: &Path) {
        // The tree has been turned already.
        let _no_fail = mm::context::NoFailScope::enter();
        let mut done = Ok(());
        if self.root().is_ok_and(|p| p.same(old)) {
            done = self.set_root(new.clone());
        }
        if self.cwd().is_ok_and(|p| p.same(old)) {
            done = done.and(self.set_cwd(new.clone()));
        }
        if done.is_err() {
            log::error!("pivot_root: no memory to move a process along");
        }
    }

    /// The file mode creation mask.
    #[inline]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// `umask(2)`: sets the mask and returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
}

/// Who looks something up, and from where.
#[derive(Clone, Copy)]
pub struct LookupContext<'a> {
    /// The acting credentials.
    pub cred: &'a Arc<Credentials>,
    /// Root, working directory and mask.
    pub fs: &'a FsStruct,
    /// The mount namespace.
    pub ns: &'a Arc<MountNamespace>,
}

/// The name of `path` as seen from `root` (from the top of all mounts when `None`).
///
/// Unlinked names end in ` (deleted)`; what cannot be reached from `root` begins with
/// `(unreachable)`; disconnected dentries (pipes, sockets) give their plain name.
pub fn d_path(path: &Path, root: Option<&Path>) -> Result<Vec<u8>> {
    let mut text = render(path, root)?;
    let flags = path.dentry.flags();
    if flags.contains(DentryFlags::DISCONNECTED) {
        return Ok(text);
    }
    if path.dentry.is_unlinked() {
        text.try_extend_from_slice(b" (deleted)")?;
    }
    Ok(text)
}

/// `getcwd(2)`: `ENOENT` for a directory that was removed.
pub fn getcwd(ctx: &LookupContext<'_>) -> Result<Vec<u8>> {
    let cwd = ctx.fs.cwd()?;
    if cwd.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    render(&cwd, Some(&ctx.fs.root()?))
}

/// The name without a mark for deletion.
pub fn render(path: &Path, root: Option<&Path>) -> Result<Vec<u8>> {
    let guard = sched::rcu::read_lock();
    // Built backwards: components are pushed reversed and the whole is reversed at the end.
    let mut out = Vec::new();
    let mut push = |bytes: &[u8], slash: bool| -> Result<()> {
        out.try_extend(bytes.iter().rev().copied())?;
        if slash {
            out.try_push(b'/')?;
        }
        Ok(())
    };
    let mut mnt: &Arc<Mount> = &path.mnt;
    let mut dentry: &Arc<Dentry> = &path.dentry;
    let mut reachable = true;
    let mut empty = true;
    loop {
        if root.is_some_and(|r| Arc::ptr_eq(&r.dentry, dentry) && Arc::ptr_eq(&r.mnt, mnt)) {
            break;
        }
        if Arc::ptr_eq(dentry, mnt.root()) && !dentry.flags().contains(DentryFlags::DISCONNECTED) {
            match mnt.mountpoint_rcu(&guard) {
                Some(at) => {
                    mnt = &at.mount;
                    dentry = &at.dentry;
                    continue;
                }
                None => {
                    reachable = root.is_none();
                    break;
                }
            }
        }
        let Some(name) = dentry.name(&guard) else { break };
        match name.parent() {
            Some(parent) => {
                push(name.bytes(), true)?;
                empty = false;
                dentry = parent;
            }
            None => {
                push(name.bytes(), false)?;
                empty = false;
                break;
            }
        }
    }
    if empty {
        push(b"", true)?;
    }
    if !reachable && root.is_some() {
        push(b"(unreachable)", false)?;
    }
    out.reverse();
    Ok(out)
}

/// The name of `dentry` within its file system (`root` field of mountinfo).
pub fn within_super(dentry: &Arc<Dentry>) -> Result<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut at = dentry.clone();
    while let Some(name) = at.name_arc() {
        match name.parent() {
            Some(parent) => {
                parts.try_push(mm::try_to_vec(name.bytes())?)?;
                at = parent.clone();
            }
            None if at.flags().contains(DentryFlags::DISCONNECTED) => {
                return crate::util::try_to_vec(name.bytes());
            }
            None => break,
        }
    }
    let mut out = Vec::new();
    for part in parts.iter().rev() {
        out.try_push(b'/')?;
        out.try_extend_from_slice(part)?;
    }
    if out.is_empty() {
        out.try_push(b'/')?;
    }
    if dentry.is_unlinked() {
        out.try_extend_from_slice(b"//deleted")?;
    }
    Ok(out)
}
