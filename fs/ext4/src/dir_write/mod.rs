//! Changing directories.
//!
//! | what | module |
//! |---|---|
//! | blocks: reading, changing with the checksum, adding one at the end | [`block`] |
//! | names: finding, adding, removing, pointing elsewhere | [`entry`] |
//! | the hash tree: the way to a leaf, splitting leaves and nodes, making a tree of one block | [`tree`] |
//! | directories whose names are in their inode become ones with a block | [`inline`] |
//!
//! Who calls holds the directory's lock (`rwsem`) for writing, and has looked the name up.

use alloc::sync::Arc;

use crate::raw::RawInode;
use crate::volume::Volume;

pub mod block;
pub mod entry;
pub mod inline;
pub mod tree;

/// A directory that is changed.
#[derive(Clone, Copy)]
pub struct Dir<'a> {
    /// The file system.
    pub volume: &'a Arc<Volume>,
    /// Its inode.
    pub node: &'a RawInode,
}

/// Where a name is.
pub struct Place {
    /// The inode that it names.
    pub ino: u32,
    /// The type that the entry says.
    pub file_type: u8,
    /// The block of the directory.
    pub block: u32,
    /// The same on the device.
    pub buffer: Arc<buffer::Buffer>,
    /// Where the entry begins there.
    pub offset: usize,
    /// Where the one before it begins.
    pub before: Option<usize>,
}
