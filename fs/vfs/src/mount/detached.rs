//! Trees of mounts that only a descriptor refers to: `open_tree(2)` with `OPEN_TREE_CLONE`, `fsmount(2)`.
//!
//! Such a tree is the content of an anonymous namespace, which the descriptor owns. It goes with the descriptor, unless
//! `move_mount(2)` took it out of the namespace before.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};

use super::tree::{self, CopyWhat, Going};
use super::{Mount, MountNamespace};
use crate::cred::Credentials;
use crate::file::{File, FileImpl, FileMode, OpenFile};
use crate::file_ops::FileOps;
use crate::path::{LookupContext, Path};
use mm::fallible::try_box;

/// What the descriptor owns.
struct Tree(Arc<MountNamespace>);

impl FileOps for Tree {}

impl Drop for Tree {
    fn drop(&mut self) {
        let shape = super::change();
        let gone = self.0.take_root().map(|root| tree::umount_tree(&root, Going::Together));
        drop(shape);
        tree::finish(gone.unwrap_or_default());
    }
}

/// A descriptor, as if from `O_PATH`, for the root of a tree that is attached nowhere.
fn open(cred: &Arc<Credentials>, root: &Arc<Mount>, ns: Arc<MountNamespace>) -> Result<Arc<File>> {
    let ops = FileImpl::Owned(try_box(Tree(ns))?);
    let path = root.root_path();
    let open = OpenFile { path: &path, cred, flags: raw::O_PATH, mode: FileMode::PATH };
    File::new(open, ops)
}

/// A descriptor for the new mount `mount`; `cred` are of who prepared it.
pub fn open_mount(ctx: &LookupContext<'_>, cred: &Arc<Credentials>, mount: Arc<Mount>) -> Result<Arc<File>> {
    let ns = {
        let _shape = super::change();
        MountNamespace::anonymous(ctx.ns.user_ns(), &mount)
    };
    open(cred, &mount, ns)
}

/// A descriptor for a copy of what is at `path`: the one mount, or the tree.
///
/// # Errors
/// `EINVAL` if it is not ours, cannot be bound, or hides something that the copy would show.
pub fn open_copy(ctx: &LookupContext<'_>, path: &Path, what: CopyWhat) -> Result<Arc<File>> {
    let (top, ns) = {
        let _shape = super::change();
        let top = copy(ctx, path, what)?;
        let ns = MountNamespace::anonymous(ctx.ns.user_ns(), &top);
        (top, ns)
    };
    open(ctx.cred, &top, ns)
}

/// A copy of what is at `path`, for a bind mount. Runs under [`NAMESPACE`].
pub(super) fn copy(ctx: &LookupContext<'_>, path: &Path, what: CopyWhat) -> Result<Arc<Mount>> {
    let inode = path.inode()?;
    if !path.mnt.is_in(ctx.ns) && !inode.ops().is_bindable() {
        return Err(Errno::EINVAL);
    }
    if what == CopyWhat::One && tree::has_locked_children(&path.mnt, &path.dentry) {
        return Err(Errno::EINVAL);
    }
    let pairs = tree::copy_tree(path, what)?;
    let (_, top) = pairs.first().ok_or(Errno::EINVAL)?;
    Ok(top.clone())
}

/// A mount of what is at `path` that belongs to no namespace: it stays what it is, whatever happens around it. What is mounted
/// below does not show in it.
///
/// # Errors
/// `EINVAL` if the place is not the caller's, cannot be bound, or hides something that the new mount would show.
pub fn private_copy(ctx: &LookupContext<'_>, path: &Path, mnt_flags: u32) -> Result<Arc<Mount>> {
    path.inode()?;
    let _shape = super::change();
    if !path.mnt.is_in(ctx.ns)
        || path.mnt.propagation.lock().unbindable
        || tree::has_locked_children(&path.mnt, &path.dentry)
    {
        return Err(Errno::EINVAL);
    }
    Mount::new(path.mnt.sb().clone(), path.dentry.clone(), mnt_flags, path.mnt.devname())
}
