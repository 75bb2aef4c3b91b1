//! The virtual file system: what every file system, device and kernel object with a descriptor looks like from above, and
//! the calls that user programs make on them.
//!
//! | concept | module | man page |
//! |---|---|---|
//! | super block, file system types | [`super_block`], [`fs_type`] | `filesystems(5)` |
//! | a mount in the making | [`fs_context`] | `fsopen(2)` |
//! | inode and its operations, inodes by number | [`inode`], [`inode_ops`], [`inode_table`] | `inode(7)` |
//! | directory entries and their cache | [`dentry`], [`dcache`] | |
//! | names to places | [`namei`], [`path`] | `path_resolution(7)` |
//! | mounts, namespaces, propagation | [`mount`] | `mount_namespaces(7)` |
//! | open files and their operations | [`file`], [`file_ops`], [`fdtable`] | `open(2)` |
//! | moving data | [`rw`], [`splice`], [`dir`] | `read(2)`, `splice(2)` |
//! | attributes, permissions | [`attr`], [`stat`], [`permission`], [`acl`], [`xattr`], [`cred`] | `credentials(7)` |
//! | file handles | [`export`] | `open_by_handle_at(2)` |
//! | locks | [`lock`] | `fcntl_locking(2)` |
//! | readiness | [`poll`], [`epoll`] | `epoll(7)` |
//! | kernel objects | [`pipe`], [`eventfd`], [`timerfd`], [`anon`] | |
//! | device numbers | [`chrdev`] | |
//! | file events | [`notify`], [`inotify`], [`fanotify`], [`fasync`] | `inotify(7)`, `fanotify(7)` |
//!
//! System calls are thin wrappers in the kernel: they bring user memory as `mm::IovIter`, the acting credentials, root and
//! working directory as [`LookupContext`], and turn errors into results. Nothing here knows what a process is.
//!
//! # Lock order
//!
//! `rename_mutex` of a super block; `rwsem` of directories, ancestor first; `rwsem` of other inodes; [`mount`]'s namespace
//! lock; page cache locks (`mm`); spin locks: hash buckets, inode times, descriptor table, file locks.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acl;
pub mod anon;
pub mod attr;
pub mod chrdev;
pub mod cred;
pub mod dcache;
pub mod dentry;
pub mod dir;
pub mod dnotify;
pub mod epoll;
pub mod eventfd;
pub mod export;
pub mod fanotify;
pub mod fasync;
pub mod fcntl;
pub mod fdtable;
pub mod file;
pub mod file_ops;
pub mod fileattr;
pub mod fs_context;
pub mod fs_type;
pub mod inode;
pub mod inode_ops;
pub mod inode_table;
pub mod inotify;
pub mod ioctl;
pub mod lock;
pub mod mount;
pub mod namei;
pub mod notify;
pub mod ns_count;
pub mod path;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod rw;
pub mod security;
pub mod splice;
pub mod stat;
pub mod super_block;
pub mod time;
pub mod timerfd;
pub mod types;
pub mod util;
mod vm_file;
pub mod xattr;

pub use cred::{Credentials, UserNamespace};
pub use dentry::Dentry;
pub use dir::{DirContext, DirEntry};
pub use fdtable::{Fd, FdFlags, FdTable};
pub use file::{File, FileImpl, FileMode, OpenFile};
pub use file_ops::{FileOps, IoFlags, Whence};
pub use fs_type::{FsFlags, FsType, register_filesystem};
pub use inode::{Inode, InodeFlags, InodeInit};
pub use inode_ops::{InodeOps, LinkTarget, Rename, Revalidate};
pub use mount::{Mount, MountNamespace};
pub use namei::{At, LookupFlags, OpenArgs};
pub use path::{FsStruct, LookupContext, Path};
pub use poll::{PollEvents, PollTable, Poller};
pub use super_block::{MountRequest, SuperBlock, SuperInfo, SuperOps};
pub use types::{FileType, Iattr, Ino, Kstat, MayAccess, Timestamp};

/// Sizes the caches for a machine with `pages` pages and registers the kernel's own file systems. Call once, before the
/// first mount.
pub fn init(pages: usize) -> abi::Result<()> {
    dcache::init(pages);
    // A tenth of the memory, at a kilobyte per file, as on Linux.
    file::set_max_files((pages * (arch::addr::PAGE_SIZE / 1024) / 10).max(8192));
    sched::time::on_clock_set(timerfd::clock_was_set);
    notify::account::init(pages);
    dnotify::init();
    anon::init()
}
