//! File events: who wants to hear of them, and the one place where they are announced. `inotify(7)`, `fanotify(7)`,
//! `fcntl(2)` (`F_NOTIFY`).
//!
//! A [`Mark`] joins an object (an inode, a mount, a file system) and a [`Group`]: an inotify or fanotify instance, or the one
//! group of `F_NOTIFY`. Each object has a [`Watched`]: its marks, and the union of what they want. The functions of [`hooks`]
//! are called where things happen; [`dispatch`] finds the groups that care and hands each of them the event once, with all of
//! the marks of the group that it concerns.
//!
//! Cost: nobody watches anything, and every hook is one load of a counter that all share and nobody writes. Somebody watches
//! elsewhere: one more counter, that of the file system.
//!
//! An event of an object is shown to its directory as well, with the name, if the directory's marks want the events of children
//! ([`mask::ON_CHILD`]), and to marks of the object, mount and file system that asked for directory and name.
//!
//! Locks: the registry ([`mark`]) is taken to attach, change and remove marks; [`Watched`]'s own lock is a leaf inside of it.
//! Groups are called with no lock of this module held; directory locks may be held, so only permission events may sleep.
//!
//! Files: [`mask`] (bits), [`mark`] (objects and marks), [`dispatch`], [`hooks`], [`account`] (limits of users).

pub mod account;
pub mod dispatch;
pub mod hooks;
pub mod mark;
pub mod mask;

pub use dispatch::{Data, Event, Found, Kind};
pub use hooks::{
    inode_removed, may_open, may_read, on_close, on_dentry, on_entry, on_file, on_inode, on_move, on_open,
    unmounted,
};
pub use mark::{Group, Mark, MarkFlags, Object, Priority, Watched};
