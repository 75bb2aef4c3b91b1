//! One component: from the cache, or from the file system.

use alloc::sync::Arc;

use abi::{Errno, Result};

use crate::dcache;
use crate::dentry::{Dentry, DentryFlags};
use crate::inode::{Inode, InodeFlags};
use crate::inode_ops::Revalidate;
use crate::path::Path;

/// The cached dentry of `name`, if the file system agrees that it is still right.
fn cached(parent: &Arc<Dentry>, dir: &Inode, name: &[u8]) -> Option<Arc<Dentry>> {
    let child = dcache::lookup(parent, name)?;
    child.mark_used();
    if dir.flags().contains(InodeFlags::OP_REVALIDATE)
        && dir.ops().revalidate(dir, &child, true) == Revalidate::Invalid
    {
        if !child.flags().contains(DentryFlags::MOUNTED) {
            dcache::d_drop(&child);
            return None;
        }
        return child.inode().is_some().then_some(child);
    }
    Some(child)
}

/// Finds `name` in `parent`, asking the file system if the cache does not know. The result may be
/// negative. Permission to search has been checked.
pub fn lookup_one(parent: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    if let Some(child) = cached(parent, dir, name) {
        return Ok(child);
    }
    let _names = dir.rwsem.read();
    lookup_locked(parent, dir, name)
}

/// The same with the directory's `rwsem` held, at least for reading.
pub fn lookup_locked(parent: &Arc<Dentry>, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Dentry>> {
    if let Some(child) = cached(parent, dir, name) {
        return Ok(child);
    }
    if dir.flags().contains(InodeFlags::DEAD) {
        return Err(Errno::ENOENT);
    }
    let revision = if dir.flags().contains(InodeFlags::OP_REVALIDATE) { dir.ops().revision() } else { 0 };
    let inode = dir.ops().lookup(dir, name)?;
    if inode.is_none() && dir.flags().contains(InodeFlags::NO_NEGATIVE) {
        return Dentry::new_child(parent, name, None);
    }
    dcache::add(parent, name, inode, revision)
}

/// What is mounted on top at `path`.
pub fn follow_down(mut path: Path) -> Path {
    while path.dentry.flags().contains(DentryFlags::MOUNTED) {
        let Some(mounted) = path.mnt.child(&path.dentry) else { break };
        let root = mounted.root().clone();
        path = Path::new(mounted, root);
    }
    path
}
