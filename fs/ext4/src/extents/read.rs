//! Looking blocks up in an extent tree.
//!
//! Each node is checked when its block was read: its header, the order of its entries, and that they stay within the file system. The
//! way down has as many steps as the root says, at most five, so no tree makes it endless.

use abi::Result;

use crate::disk::at;
use crate::disk::checksum::InodeSeed;
use crate::disk::extent::{self, Extent, Header, Index};
use crate::disk::inode::BLOCK_BYTES;
use crate::error::{EFSCORRUPTED, place, there};
use crate::fs::Fs;
use crate::inode::Node;
use crate::map::{Mapped, State};

/// What an entry of either kind begins at.
fn last_at_or_before<T>(entries: &[T], block: u32, first: impl Fn(&T) -> u32) -> Option<usize> {
    entries.partition_point(|entry| first(entry) <= block).checked_sub(1)
}

impl Fs {
    /// Checks a node's entries: in order, not overlapping, within the file system, and within the part of the file that the node
    /// is for.
    fn check_entries(&self, node: &[u8], header: &Header) -> core::result::Result<(), &'static str> {
        if header.depth.get() > 0 {
            let mut before = None;
            for index in extent::entries::<Index>(node, header) {
                if !self.layout.is_valid(index.leaf(), 1) {
                    return Err("invalid index entries");
                }
                if before.is_some_and(|before| index.block.get() <= before) {
                    return Err("invalid index entries");
                }
                before = Some(index.block.get());
            }
            return Ok(());
        }
        let mut end = 0;
        for entry in extent::entries::<Extent>(node, header) {
            let first = u64::from(entry.block.get());
            let len = u64::from(entry.len());
            if len == 0 || !self.layout.is_valid(entry.start(), len) || first + len > u64::from(u32::MAX) + 1
            {
                return Err("invalid extent entries");
            }
            if first < end {
                return Err("invalid overlapping extent entries");
            }
            end = first + len;
        }
        Ok(())
    }

    fn bad_node(&self, ino: u32, block: u64, what: &str, node: &[u8], depth: u16) -> abi::Errno {
        let (magic, entries, max, has) = at::<Header>(node, 0).map_or((0, 0, 0, 0), |header| {
            (header.magic.get(), header.entries.get(), header.max.get(), header.depth.get())
        });
        let text = format_args!(
            "pblk {block} bad header/extent: {what} - magic {magic:x}, entries {entries}, max {max}({}), \
             depth {has}({depth})",
            extent::entries_in_block(node.len()),
        );
        self.error(place!("ext4_ext_check_inode", ino), EFSCORRUPTED, text)
    }

    /// Checks the root of a tree, which is in the inode.
    pub(crate) fn check_root(&self, ino: u32, root: &[u8; BLOCK_BYTES]) -> Result<()> {
        let depth = at::<Header>(root, 0).map_or(0, |header| header.depth.get());
        let checked =
            extent::check_header(root, depth, true).and_then(|header| self.check_entries(root, header));
        checked.map_err(|what| self.bad_node(ino, 0, what, root, depth))
    }

    /// Checks a node in a block of its own.
    pub(crate) fn check_node(
        &self,
        ino: u32,
        seed: InodeSeed,
        block: u64,
        node: &[u8],
        depth: u16,
    ) -> Result<()> {
        let checked = extent::check_header(node, depth, false);
        let header = checked.map_err(|what| self.bad_node(ino, block, what, node, depth))?;
        if !self.checksums.extent_is_right(seed, node) {
            let place = place!("ext4_ext_check_inode", ino);
            return Err(self.bad_checksum(place, "extent tree corrupted: invalid checksum"));
        }
        self.check_entries(node, header).map_err(|what| self.bad_node(ino, block, what, node, depth))
    }
}

/// What a node says about a block.
enum Step {
    /// More is in the node in this block; behind it begins what starts at the second, if anything does.
    Down(u64, Option<u32>),
    /// The answer; for a hole, where it ends, if anything follows in this node.
    Found(Mapped),
    Hole(Option<u32>),
}

fn step(node: &[u8], depth: u16, block: u32) -> Option<Step> {
    let header: &Header = at(node, 0)?;
    if depth > 0 {
        let indexes = extent::entries::<Index>(node, header);
        // What is before the first begins a hole at its start.
        let Some(position) = last_at_or_before(indexes, block, |index| index.block.get()) else {
            return Some(Step::Hole(indexes.first().map(|index| index.block.get())));
        };
        let next = indexes.get(position + 1).map(|index| index.block.get());
        return Some(Step::Down(indexes.get(position)?.leaf(), next));
    }
    let extents = extent::entries::<Extent>(node, header);
    let position = last_at_or_before(extents, block, |entry| entry.block.get());
    if let Some(entry) = position.and_then(|position| extents.get(position)) {
        let skipped = block - entry.block.get();
        if skipped < entry.len() {
            return Some(Step::Found(Mapped {
                start: entry.start() + u64::from(skipped),
                len: entry.len() - skipped,
                state: if entry.is_unwritten() { State::Unwritten } else { State::Written },
            }));
        }
    }
    let next = extents.get(position.map_or(0, |position| position + 1));
    Some(Step::Hole(next.map(|entry| entry.block.get())))
}

impl Node {
    /// Where `block` is, from the tree; a hole goes to the next extent, or to the end of all blocks.
    pub(crate) fn find_extent(&self, block: u32) -> Result<Mapped> {
        let root = self.root();
        let mut depth = there(at::<Header>(&root, 0))?.depth.get();
        let mut hole_end = None;
        let mut data;
        let mut node: &[u8] = &root;
        loop {
            let leaf = match there(step(node, depth, block))? {
                Step::Found(mapped) => {
                    // An extent that goes on where the next node begins would be in two places.
                    let room = hole_end.map_or(u32::MAX, |end: u32| end.saturating_sub(block).max(1));
                    return Ok(Mapped { len: mapped.len.min(room), ..mapped });
                }
                Step::Hole(next) => {
                    let end = next.or(hole_end).filter(|end| *end > block);
                    let len = end.map_or(u32::MAX - block, |end| end - block).max(1);
                    return Ok(Mapped { start: 0, len, state: State::Hole });
                }
                Step::Down(leaf, next) => {
                    hole_end = next.or(hole_end);
                    leaf
                }
            };
            depth = there(depth.checked_sub(1))?;
            let buffer = self
                .fs
                .read_checked(leaf, |bytes| self.fs.check_node(self.ino, self.seed, leaf, bytes, depth))?;
            data = buffer.data();
            node = data.bytes();
            // The block was checked when it was read, perhaps for another depth.
            let header: &Header = there(at(node, 0))?;
            if header.depth.get() != depth {
                return Err(self.fs.bad_node(self.ino, leaf, "unexpected eh_depth", node, depth));
            }
        }
    }
}
