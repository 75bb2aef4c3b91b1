//! File systems of the kernel's own data: the frame of procfs and sysfs.
//!
//! A tree is made of [`Node`]s that are declared beside the data they show. Nothing is stored in
//! inodes: a node answers when it is asked.
//!
//! | kind | trait | examples |
//! |---|---|---|
//! | directory that is built once | [`StaticDir`] | `/proc/sys/kernel`, `/sys/class` |
//! | directory that follows the kernel's state | [`Dir`] | `/proc`, `/proc/PID`, `/proc/PID/fd` |
//! | text, perhaps writable | [`Show`], [`Attr`] | `/proc/meminfo`, sysctls |
//! | symbolic link | [`Link`] | `/proc/self`, `/proc/PID/exe` |
//! | a file with operations of its own | [`Node::Custom`] | `/proc/PID/mem`, `/proc/kmsg` |
//!
//! Text is produced whole when it is first read and kept until the reader goes back to the start, so
//! that a slow reader sees one state and not a mixture (`proc(5)` promises as much for a single
//! `read(2)` only).
//!
//! Locks: [`StaticDir`] has one over its names; an open text file one over its text (sleeping: `show` may
//! wait). Neither is held while another node is asked.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod dir;
mod fs;
mod inode;
mod node;
mod text;

pub use dir::{StaticDir, next_ino};
pub use fs::{KernFs, KernSuper, Options, RootOf, new_super};
pub use inode::directory;
pub use node::{
    Access, Attr, Context, Dir, Entry, Link, Listing, Node, PermissionFn, Show, attr, file_entry,
};
pub use text::{Text, open_text};
