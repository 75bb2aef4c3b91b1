//! ext4, and with it ext3 and ext2: the file system, as Linux's `ext4` driver serves all three. `ext4(5)`.
//!
//! | what | module |
//! |---|---|
//! | the format on the device, checksums, hashes | [`disk`] |
//! | dimensions, checked | [`layout`] |
//! | mounting, options, what is said meanwhile | [`mount`], [`options`], [`messages`] |
//! | the mounted file system | [`fs`], [`error`] |
//! | inodes | [`inode`], [`export`] |
//! | where blocks are | [`map`], [`extents`], [`indirect`] |
//! | contents of files | [`data`], [`inline`], [`symlink`], [`file`] |
//! | directories | [`dir`] |
//! | extended attributes | [`xattr`] |
//! | what changes the disk: the file system as all of it sees it, an inode's bytes, a change | [`volume`], [`raw`], [`tx`] |
//! | taking and freeing blocks and inodes | [`space`] |
//! | changing where blocks are, directories, attributes | [`extent_write`], [`dir_write`], [`xattr_write`] |
//! | inodes that a crash must not leave behind | [`orphan`] |
//! | whole operations: create, rename, truncate … | [`ops`] |
//!
//! The format is documented in the kernel's *Documentation/filesystems/ext4*.
//!
//! # What is believed
//!
//! A device may hold anything. Numbers of the super block are checked by [`layout`] and are true from then on; a block is checked
//! when it is read, and each structure in it says by its size how far it can reach. No tree is followed deeper than the format
//! allows, and no list longer than what holds it.
//!
//! # Locks
//!
//! `rwsem` of the directory (the VFS holds it) → `rwsem` of other inodes → folio locks → [`inode::Node::tree`] → contents of a
//! buffer → spin locks of a node ([`extents::status`], its root), which are leaves.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod data;
pub mod dir;
pub mod dir_write;
pub mod disk;
pub mod error;
pub mod export;
pub mod extent_write;
pub mod extents;
pub mod file;
pub mod fs;
pub mod indirect;
pub mod inline;
pub mod inode;
mod ioctl;
pub mod layout;
pub mod map;
pub mod messages;
pub mod mount;
pub mod ops;
pub mod options;
pub mod orphan;
pub mod raw;
pub mod space;
pub mod symlink;
pub mod tx;
pub mod volume;
pub mod xattr;
pub mod xattr_write;

#[cfg(test)]
mod write_tests;
