//! The one place where file events are announced: the hooks of inotify and fanotify.
//!
//! Every function is called after the event happened, with no directory lock that a listener could
//! want. An inode without watches costs one flag test. `inotify(7)`.

use alloc::sync::Arc;

use arch::sync::RwSpinLock;

use crate::dentry::Dentry;
use crate::file::{File, FileMode};
use crate::inode::{Inode, InodeFlags};

/// What happened, for [`Listener::event`]; the values are those of `IN_*`.
pub mod event {
    use abi::raw;
    #[allow(missing_docs)]
    pub const ACCESS: u32 = raw::IN_ACCESS;
    #[allow(missing_docs)]
    pub const MODIFY: u32 = raw::IN_MODIFY;
    #[allow(missing_docs)]
    pub const ATTRIB: u32 = raw::IN_ATTRIB;
    #[allow(missing_docs)]
    pub const CLOSE_WRITE: u32 = raw::IN_CLOSE_WRITE;
    #[allow(missing_docs)]
    pub const CLOSE_NOWRITE: u32 = raw::IN_CLOSE_NOWRITE;
    #[allow(missing_docs)]
    pub const OPEN: u32 = raw::IN_OPEN;
    #[allow(missing_docs)]
    pub const MOVED_FROM: u32 = raw::IN_MOVED_FROM;
    #[allow(missing_docs)]
    pub const MOVED_TO: u32 = raw::IN_MOVED_TO;
    #[allow(missing_docs)]
    pub const CREATE: u32 = raw::IN_CREATE;
    #[allow(missing_docs)]
    pub const DELETE: u32 = raw::IN_DELETE;
    #[allow(missing_docs)]
    pub const DELETE_SELF: u32 = raw::IN_DELETE_SELF;
    #[allow(missing_docs)]
    pub const MOVE_SELF: u32 = raw::IN_MOVE_SELF;
    #[allow(missing_docs)]
    pub const ISDIR: u32 = raw::IN_ISDIR;
}

/// Receives events of inodes that carry `InodeFlags::WATCHED`, and of entries of such directories.
pub trait Listener: Send + Sync {
    /// `mask` happened to `inode` itself, or to its entry `name`; `cookie` joins the two halves of
    /// a rename.
    fn event(&self, inode: &Arc<Inode>, mask: u32, name: Option<&[u8]>, cookie: u32);
}

static LISTENER: RwSpinLock<Option<&'static dyn Listener>> = RwSpinLock::new(None);

/// Registers who turns events into inotify and fanotify records.
pub fn set_listener(listener: &'static dyn Listener) {
    *LISTENER.write() = Some(listener);
}

fn send(inode: &Arc<Inode>, mask: u32, name: Option<&[u8]>, cookie: u32) {
    let listener = *LISTENER.read();
    if let Some(listener) = listener {
        let dir = if inode.is_dir() && name.is_none() { event::ISDIR } else { 0 };
        listener.event(inode, mask | dir, name, cookie);
    }
}

#[inline]
fn watched(inode: &Inode) -> bool {
    inode.flags().contains(InodeFlags::WATCHED)
}

/// An event of the object behind `dentry`, seen by it and by its directory.
#[inline]
pub fn on_dentry(dentry: &Dentry, mask: u32) {
    let Some(inode) = dentry.inode() else { return };
    if watched(inode) {
        send(inode, mask, None, 0);
    }
    if let Some(parent) = dentry.parent()
        && let Some(dir) = parent.inode()
        && watched(dir)
        && let Some(name) = dentry.name_arc()
    {
        let kind = if inode.is_dir() { event::ISDIR } else { 0 };
        send(dir, mask | kind, Some(name.bytes()), 0);
    }
}

/// Whether anybody listens at all.
#[inline]
pub fn enabled() -> bool {
    LISTENER.read().is_some()
}

/// An event of an open file.
#[inline]
pub fn on_file(file: &File, mask: u32) {
    if !file.mode().contains(FileMode::NONOTIFY) && enabled() {
        on_dentry(&file.path().dentry, mask);
    }
}

/// A file was closed for good.
pub fn on_close(file: &File) {
    let written = file.mode().contains(FileMode::WRITE);
    on_file(file, if written { event::CLOSE_WRITE } else { event::CLOSE_NOWRITE });
}

/// An entry of `dir` appeared or went.
#[inline]
pub fn on_entry(dir: &Arc<Inode>, mask: u32, name: &[u8], is_dir: bool, cookie: u32) {
    if watched(dir) {
        send(dir, mask | if is_dir { event::ISDIR } else { 0 }, Some(name), cookie);
    }
}

/// The inode itself changed or went.
#[inline]
pub fn on_inode(inode: &Arc<Inode>, mask: u32) {
    if watched(inode) {
        send(inode, mask, None, 0);
    }
}
