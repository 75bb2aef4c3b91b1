//! overlayfs: one tree of files made of several, of which only the topmost is written to. Linux's
//! `Documentation/filesystems/overlayfs.rst`; `mount(8)`.
//!
//! # Layers
//!
//! A mount has *lower* layers, which it never changes, and perhaps an *upper* one with a *work* directory beside it. A directory of
//! the mount shows the entries of the directories of that name in all layers, upper layers first; of everything else the topmost
//! is shown. A *whiteout* (a character device 0/0) in a layer hides the name in those below, an *opaque* directory (an attribute
//! says so) hides everything that is below it. What is changed is copied to the upper layer first (*copy up*).
//!
//! Each inode here ([`inode`]) stands for *real* ones: one in the upper layer or none, and a stack of them in lower layers. It has
//! their attributes in its own fields, so that the path walk checks permissions and finds names without asking anybody; the
//! dentry cache holds what was merged once. Data is read and written through an open file of the real inode ([`file`]).
//!
//! All that happens in the layers is done with the credentials of who mounted ([`vfs::namei::layer`]), after the caller was checked
//! against the attributes shown here.
//!
//! | file | what it owns |
//! |---|---|
//! | [`options`] | mount options |
//! | [`mount`], [`workdir`] | making a mount: layers, what they must not be; the work directory |
//! | [`fs`] | a mounted file system: its layers, inode numbers, the table of inodes |
//! | [`xattr`] | attributes that are ours, and how others that look like them are shown |
//! | [`origin`] | where a copied file came from, by file handle |
//! | [`lookup`] | names in all layers: whiteouts, opaque directories, redirects |
//! | [`inode`], [`table`] | inodes and their attributes; making and finding them |
//! | [`copy_up`] | copies to the upper layer |
//! | [`work`] | temporary names in the work directory, whiteouts |
//! | [`dir`], [`rename`] | names that appear, go and move |
//! | [`readdir`] | merged listings |
//! | [`file`] | open files |
//!
//! # Locks
//!
//! Those of the layers are inside of ours: each level of a stack of file systems has lock classes of its own. Inside of an
//! inode's `rwsem`, `Node::copying` (one copy up of an inode at a time) is taken, parents not inside of children; then locks of
//! layers.
//!
//! There are no indexes, NFS export, metadata-only copies and data-only layers, and no fs-verity: mounts that ask for an index,
//! NFS export or metadata-only copies are made without, with a warning.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod copy_up;
mod dir;
mod file;
mod fs;
mod inode;
mod lookup;
mod mount;
mod options;
mod origin;
mod readdir;
mod rename;
mod table;
mod work;
mod workdir;
mod xattr;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use mm::try_box;
use vfs::fs_context::{Making, ParamError, ParamResult, Params};
use vfs::super_block::{MountRequest, SuperBlock};
use vfs::{FsFlags, FsType};

/// The name of the type.
const NAME: &str = "overlay";

/// The file system type `overlay`.
pub struct Overlay;

/// The type, for [`vfs::register_filesystem`].
pub static OVERLAY: Overlay = Overlay;

impl FsType for Overlay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn flags(&self) -> FsFlags {
        FsFlags::USERNS_MOUNT | FsFlags::CHECKS_PARAMS
    }

    fn check_param(&self, _: &str, _: Option<&str>) -> ParamResult {
        Err(ParamError::Unknown)
    }

    fn params(&self) -> Result<Option<Box<dyn Params>>> {
        Ok(Some(try_box(options::Setup::default())?))
    }

    fn mount(&self, _: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        // Layers cannot come any other way than by parameters.
        Err(Errno::EINVAL)
    }

    fn mount_prepared(&self, request: &MountRequest<'_>, making: Making<'_>) -> Result<Arc<SuperBlock>> {
        let Making { ctx, cred, params, .. } = making;
        let params: Box<dyn Any> = params;
        let setup = params.downcast::<options::Setup>().map_err(|_| Errno::EINVAL)?;
        mount::mount(ctx, cred, request, *setup)
    }
}
