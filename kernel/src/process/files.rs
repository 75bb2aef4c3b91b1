//! Who uses a file table.
//!
//! References to the table are counted by `Arc`, but some of those are passing looks of other threads (and of
//! RCU). `FdTable::users` counts threads: when the last one leaves, the files close at once, so that a
//! pipe's reader sees the end before a parent's `wait` returns.

use super::current;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::fallible::try_arc;
use vfs::fdtable::FdTable;
use vfs::path::FsStruct;

/// One more user of the same table: `CLONE_FILES`.
pub fn share(files: &Arc<FdTable>) -> Arc<FdTable> {
    files.users.fetch_add(1, Ordering::Relaxed);
    files.clone()
}

/// A copy with one user.
///
/// # Errors
/// `ENOMEM`.
pub fn copy(files: &FdTable) -> Result<Arc<FdTable>> {
    Ok(try_arc(files.copy(None)?)?)
}

/// One user less; the last one closes everything.
pub fn put_user(files: &FdTable) {
    if files.users.fetch_sub(1, Ordering::AcqRel) == 1 {
        files.close_all();
    }
}

/// Gives the running thread a table of its own: exec, `unshare(CLONE_FILES)`, `close_range(CLOSE_RANGE_UNSHARE)`.
///
/// # Errors
/// `ENOMEM`.
pub fn unshare_files() -> Result<()> {
    let me = current();
    let files = me.files().ok_or(Errno::EBADF)?;
    if files.users.load(Ordering::Acquire) > 1 {
        let own = copy(&files)?;
        drop(me.files.replace(Some(own)));
        put_user(&files);
    }
    Ok(())
}

/// Directories and a mask for the running thread alone, if it shares its own: for [`replace_fs`].
///
/// # Errors
/// `EINVAL` for an exiting thread.
pub fn own_fs() -> Result<Option<Arc<FsStruct>>> {
    let fs = current().fs().ok_or(Errno::EINVAL)?;
    let shared = fs.users.load(Ordering::Acquire) > 1;
    Ok(if shared { Some(try_arc(fs.copy())?) } else { None })
}

/// Gives the running thread directories and a mask of its own.
pub fn replace_fs(new: Arc<FsStruct>) {
    let me = current();
    if let Some(old) = me.fs() {
        drop(me.fs.replace(Some(new)));
        old.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `pivot_root(2)`: every thread whose root or working directory is `old` goes to `new`.
pub fn replace_roots(old: &vfs::path::Path, new: &vfs::path::Path) {
    for process in super::init_pid_ns().processes() {
        for task in process.threads() {
            if let Some(fs) = task.data::<super::Thread>().and_then(super::Thread::fs) {
                fs.replace_path(old, new);
            }
        }
    }
}
