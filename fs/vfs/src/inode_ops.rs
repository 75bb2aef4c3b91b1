//! What a file system implements for its inodes.
//!
//! One object per inode holds the file system's data and implements [`InodeOps`]; `self` is that
//! object, `inode` (or `dir`) the inode around it. A method that a file system does not have
//! returns the error that Linux gives.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use abi::fs::DevId;
use abi::{Errno, Result};

use crate::attr;
use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::file::{FileImpl, OpenFile};
use crate::fileattr::FileAttr;
use crate::inode::Inode;
use crate::mount::MountNamespace;
use crate::namei::RenameFlags;
use crate::path::Path;
use crate::permission::generic_permission;
use crate::types::{Iattr, Kstat, MayAccess};

/// Where a symbolic link leads.
#[derive(Debug)]
pub enum LinkTarget {
    /// To a path, relative to the directory of the link.
    Path(Arc<[u8]>),
    /// Straight to an object (`/proc/PID/fd/N`).
    Jump(Path),
}

/// Whether a cached entry is still right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revalidate {
    /// It is.
    Valid,
    /// It must be looked up again.
    Invalid,
    /// Cannot say without sleeping; ask again from a context that may.
    Retry,
}

/// Operations on an inode. See the module text.
///
/// `dir.rwsem` is held for writing in `create`, `link`, `unlink`, `symlink`, `mkdir`, `rmdir`,
/// `mknod` and `rename`, and at least for reading in `lookup`. Operations that make a name return
/// the new inode; this crate attaches it to the dentry.
#[allow(unused_variables)]
pub trait InodeOps: Any + Send + Sync {
    /// Finds `name` in a directory: the inode, or `None` when there is no such name.
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a regular file with permissions `mode` (type bits included).
    fn create(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        Err(Errno::EACCES)
    }

    /// Makes a device node, FIFO or socket.
    fn mknod(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        mode: u32,
        dev: DevId,
    ) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a directory.
    fn mkdir(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a symbolic link.
    fn symlink(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        target: &[u8],
    ) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }

    /// Gives `inode` one more name.
    fn link(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes a name that is not a directory's.
    fn unlink(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory (`ENOTEMPTY` otherwise).
    fn rmdir(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Renames. Permissions, types and ancestry have been checked.
    fn rename(&self, request: &Rename<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name (`O_TMPFILE`).
    fn tmpfile(&self, cred: &Credentials, dir: &Arc<Inode>, mode: u32) -> Result<Arc<Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Where a symbolic link leads; may sleep.
    fn get_link(&self, inode: &Arc<Inode>, cred: &Arc<Credentials>) -> Result<LinkTarget> {
        match inode.cached_link() {
            Some(target) => Ok(LinkTarget::Path(target.clone())),
            None => Err(Errno::EINVAL),
        }
    }

    /// The text that `readlink(2)` shows, where it differs from [`InodeOps::get_link`] (magic links).
    fn readlink(&self, inode: &Arc<Inode>, cred: &Arc<Credentials>) -> Result<Vec<u8>> {
        match self.get_link(inode, cred)? {
            LinkTarget::Path(target) => crate::util::try_to_vec(&target),
            LinkTarget::Jump(path) => crate::path::d_path(&path, None),
        }
    }

    /// Replaces the mode check; needs `InodeFlags::OP_PERMISSION`. With `MayAccess::NOT_BLOCK` the
    /// answer `EAGAIN` asks to be called again from a context that may sleep.
    fn permission(&self, inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
        generic_permission(inode, cred, mask)
    }

    /// Whether `child`, found in the cache below this directory, is still right; needs
    /// `InodeFlags::OP_REVALIDATE` on the directory. Must not sleep unless `may_sleep`.
    fn revalidate(&self, dir: &Inode, child: &Dentry, may_sleep: bool) -> Revalidate {
        Revalidate::Valid
    }

    /// A number that changes with the names of this directory, for [`InodeOps::revalidate`]: a looked up
    /// dentry keeps what it was before the lookup in [`Dentry::revision`]. Asked of directories with
    /// `InodeFlags::OP_REVALIDATE`.
    fn revision(&self) -> usize {
        0
    }

    /// Attributes; needs `InodeFlags::OP_GETATTR`.
    fn getattr(&self, inode: &Arc<Inode>, request_mask: u32) -> Result<Kstat> {
        Ok(inode.fill_stat())
    }

    /// Changes attributes. Permissions have been checked, and `rwsem` is held for writing.
    fn setattr(&self, inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
        attr::simple_setattr(inode, attr)
    }

    /// It was read, and the mount wants to know when; needs `InodeFlags::OP_ATIME`.
    fn touch_atime(&self, inode: &Inode) {}

    /// Whether there are the attributes of `chattr(1)`.
    fn has_fileattr(&self, inode: &Inode) -> bool {
        false
    }

    /// The attributes of `chattr(1)`, if [`InodeOps::has_fileattr`].
    fn fileattr_get(&self, inode: &Arc<Inode>) -> Result<FileAttr> {
        Err(Errno::ENOTTY)
    }

    /// Changes the attributes of `chattr(1)`. Permissions have been checked, and `rwsem` is held for writing.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for what the file system does not keep.
    fn fileattr_set(&self, inode: &Arc<Inode>, attr: &FileAttr) -> Result<()> {
        Err(Errno::ENOTTY)
    }

    /// The value of extended attribute `name` (with its prefix).
    fn getxattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute; flags are `XATTR_CREATE` and `XATTR_REPLACE`.
    fn setxattr(&self, inode: &Inode, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    fn removexattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of all extended attributes, each followed by a NUL.
    fn listxattr(&self, inode: &Inode) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Whether the object can be bound to a place although its file system is mounted nowhere (`/proc/PID/ns/NAME`).
    fn is_bindable(&self) -> bool {
        false
    }

    /// The mount namespace that the inode stands for (`/proc/PID/ns/mnt`).
    fn mount_namespace(&self) -> Option<&Arc<MountNamespace>> {
        None
    }

    /// Opens the file: returns its operations. Devices and FIFOs never come here.
    fn open(&self, inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl>;

    /// The last use ended: releases space if there is no name left. Called once; may sleep.
    fn evict(&self, inode: &Inode) {}
}

/// The arguments of a rename.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Rename<'a> {
    pub cred: &'a Credentials,
    pub old_dir: &'a Arc<Inode>,
    pub old_name: &'a [u8],
    pub inode: &'a Arc<Inode>,
    pub new_dir: &'a Arc<Inode>,
    pub new_name: &'a [u8],
    /// What has the new name now.
    pub target: Option<&'a Arc<Inode>>,
    pub flags: RenameFlags,
}
