//! Changing which blocks a file has: extent trees, and the addresses of ext2 and ext3.
//!
//! All that is done to a tree is one of two things: [`splice`] replaces some neighbouring entries of a leaf by others, and makes of that
//! what is needed above (nodes are split, the tree grows, nodes without entries are freed, keys follow the first entry);
//! [`shift`] moves the keys of all entries from one on. Inserting, converting, removing are lists of extents that take the place of others.
//!
//! Blocks for new nodes are taken before the first change, so that a full disk leaves the tree as it was.
//!
//! Who calls holds the inode's lock for its map (`i_data_sem`) for writing.

use alloc::sync::Arc;

use crate::raw::RawInode;
use crate::volume::Volume;

pub mod change;
pub mod indirect;
pub mod map;
pub mod path;
pub mod shift;
pub mod splice;

/// The blocks of one inode.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    /// The file system.
    pub volume: &'a Arc<Volume>,
    /// The inode.
    pub node: &'a RawInode,
}

/// What a range of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Hole,
    /// Blocks with data.
    Mapped,
    /// Blocks that read as zeros.
    Unwritten,
}

/// A range of a file that is the same all along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first block of the file.
    pub block: u32,
    /// How many.
    pub len: u32,
    /// Where it is on the device, if it is there.
    pub start: u64,
    /// What it is.
    pub kind: Kind,
    /// The blocks were taken just now.
    pub new: bool,
}
