//! The hash tree of a directory: the way from the root to the leaf that a hash belongs to, and on to the next leaf.

use alloc::sync::Arc;

use abi::Result;

use super::block::Expect;
use crate::disk::at;
use crate::disk::features::Incompat;
use crate::disk::htree::{
    BLOCK_MASK, MAX_LEVELS, MAX_LEVELS_LARGE, NODE_PLACES_OFFSET, Place, ROOT_INFO_OFFSET,
    ROOT_PLACES_OFFSET, RootInfo, places,
};
use crate::error::{EFSCORRUPTED, place, there};
use crate::fs::HashInfo;
use crate::inode::Node;

/// Why a tree is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// It is damaged; the blocks may be searched one after the other (`ERR_BAD_DX_DIR`).
    Damaged,
    /// Something else.
    Failed(abi::Errno),
}

impl From<abi::Errno> for TreeError {
    fn from(error: abi::Errno) -> Self {
        Self::Failed(error)
    }
}

type TreeResult<T> = core::result::Result<T, TreeError>;

/// A node on the way.
#[derive(Clone)]
pub struct Level {
    /// Its block in the directory.
    pub block: u32,
    /// Its contents.
    pub data: Arc<mm::Block>,
    /// Where its places begin.
    pub offset: usize,
    /// The place that leads on.
    pub at: usize,
}

/// Most nodes on the way.
pub const MAX_WAY: usize = MAX_LEVELS_LARGE as usize;

/// The way to a leaf.
#[derive(Clone)]
pub struct TreeWay {
    levels: [Option<Level>; MAX_WAY],
    /// How names are hashed in this directory.
    pub hash: HashInfo,
}

/// `dx_get_block`.
fn block_of(place: &Place) -> u32 {
    place.block.get() & BLOCK_MASK
}

impl TreeWay {
    /// The nodes, from the root on.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &Level> {
        self.levels.iter().flatten()
    }

    /// The leaf.
    pub fn leaf(&self, node: &Node) -> Result<u32> {
        let last = there(self.levels().next_back())?;
        let places = there(node.places(last))?;
        Ok(block_of(there(places.get(last.at))?))
    }
}

impl Node {
    /// How many levels of nodes a tree can have.
    pub fn max_levels(&self) -> u8 {
        match self.fs.incompat.contains(Incompat::LARGEDIR) {
            true => MAX_LEVELS_LARGE,
            false => MAX_LEVELS,
        }
    }

    /// The places of a node on the way.
    pub(crate) fn places<'a>(&self, level: &'a Level) -> Option<&'a [Place]> {
        places(level.data.bytes(), level.offset, self.fs.checksums.metadata)
    }

    fn bad_tree(&self, text: core::fmt::Arguments<'_>) -> TreeError {
        self.fs.warning(place!("dx_probe", self.ino), text);
        self.fs.warning(
            place!("dx_probe", self.ino),
            format_args!("Corrupt directory, running e2fsck is recommended"),
        );
        TreeError::Damaged
    }

    /// The root of the tree, and how it hashes.
    fn tree_root(&self) -> TreeResult<(Level, RootInfo, HashInfo)> {
        let data = self.dir_block(0, Expect::Node)?.ok_or(TreeError::Damaged)?;
        let info: RootInfo = *there(at(data.bytes(), ROOT_INFO_OFFSET))?;
        let Some(hash) = self.fs.hash.with_version(info.hash_version) else {
            return Err(self.bad_tree(format_args!("Unrecognised inode hash code {}", info.hash_version)));
        };
        if info.unused_flags & 1 != 0 {
            return Err(self.bad_tree(format_args!("Unimplemented hash flags: {:#06x}", info.unused_flags)));
        }
        if info.indirect_levels >= self.max_levels() {
            return Err(self.bad_tree(format_args!(
                "Directory (ino: {}) htree depth {:#06x} exceed supported value",
                self.ino, info.indirect_levels
            )));
        }
        if info.info_length != 8 {
            return Err(self.bad_tree(format_args!("dx entry: limit != root limit")));
        }
        Ok((Level { block: 0, data, offset: ROOT_PLACES_OFFSET, at: 0 }, info, hash))
    }

    /// The way to the leaf that `hash` belongs to (`dx_probe`).
    pub(crate) fn probe(&self, hash_of: impl FnOnce(&HashInfo) -> u32) -> TreeResult<TreeWay> {
        let (root, info, hash_info) = self.tree_root()?;
        let hash = hash_of(&hash_info);
        let mut way = TreeWay { levels: [const { None }; MAX_WAY], hash: hash_info };
        let mut level = root;
        for (index, slot) in way.levels.iter_mut().enumerate().take(usize::from(info.indirect_levels) + 1) {
            let Some(places) = self.places(&level) else {
                return Err(self.bad_tree(format_args!("dx entry: no count or count > limit")));
            };
            // The first has no hash: everything below the second is its.
            let at = places.get(1..).unwrap_or_default().partition_point(|place| place.hash.get() <= hash);
            let next = block_of(there(places.get(at))?);
            level.at = at;
            let last = index == usize::from(info.indirect_levels);
            *slot = Some(level.clone());
            if last {
                break;
            }
            level = self.node_level(next)?;
        }
        Ok(way)
    }

    fn node_level(&self, block: u32) -> TreeResult<Level> {
        let data = self.dir_block(block, Expect::Node)?.ok_or(TreeError::Damaged)?;
        Ok(Level { block, data, offset: NODE_PLACES_OFFSET, at: 0 })
    }

    /// Goes on to the next leaf (`ext4_htree_next_block`): its first hash, whose bit 0 says that the leaf before has names with the
    /// same. With `only`, goes on only if that is so and the hash is this one. `None`: there is no more, and the way is as it was.
    pub(crate) fn next_leaf(&self, way: &mut TreeWay, only: Option<u32>) -> TreeResult<Option<u32>> {
        // Up to the first node that has a place behind the present one.
        let mut turn = None;
        for (index, level) in way.levels.iter().enumerate().rev() {
            let Some(level) = level else { continue };
            let places = self.places(level).ok_or(TreeError::Damaged)?;
            if let Some(place) = places.get(level.at + 1) {
                turn = Some((index, place.hash.get(), block_of(place)));
                break;
            }
        }
        let Some((index, hash, mut block)) = turn else { return Ok(None) };
        if let Some(only) = only
            && (hash & 1 == 0 || hash & !1 != only)
        {
            return Ok(None);
        }
        let mut levels = way.levels.iter_mut().skip(index);
        if let Some(Some(level)) = levels.next() {
            level.at += 1;
        }
        for slot in levels {
            if slot.is_none() {
                break;
            }
            let level = self.node_level(block)?;
            let places = self.places(&level).ok_or(TreeError::Damaged)?;
            block = block_of(there(places.first())?);
            *slot = Some(level);
        }
        Ok(Some(hash))
    }

    /// A tree led to a block that the directory does not have.
    pub(crate) fn hole_in_tree(&self, block: u32) -> abi::Errno {
        let text = format_args!("Directory hole found for htree leaf block {block}");
        self.fs.error(place!("__ext4_read_dirblock", self.ino), EFSCORRUPTED, text)
    }
}
