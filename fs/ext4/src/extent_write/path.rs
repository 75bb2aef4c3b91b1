//! The way from the root of an extent tree to a place in a leaf.

use alloc::sync::Arc;

use abi::Result;
use buffer::Buffer;
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Map;
use crate::disk::at_mut;
use crate::disk::extent::{self, ENTRY_SIZE, Extent, Header, Index, MAX_DEPTH, check_header};
use crate::disk::inode::BLOCK_BYTES;
use crate::disk::{U32, at};
use crate::tx::Handle;
use crate::volume::CORRUPT;

/// Where the root is in an inode.
const ROOT_OFFSET: usize = 0x28;

/// An entry, of a leaf or not: what matters to who moves it is its key.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Slot {
    /// The first block of the file that is in or below it.
    pub key: U32,
    rest: [u8; 8],
}

impl From<Extent> for Slot {
    fn from(extent: Extent) -> Self {
        zerocopy::transmute!(extent)
    }
}

impl From<Index> for Slot {
    fn from(index: Index) -> Self {
        zerocopy::transmute!(index)
    }
}

impl From<Slot> for Extent {
    fn from(slot: Slot) -> Self {
        zerocopy::transmute!(slot)
    }
}

impl From<Slot> for Index {
    fn from(slot: Slot) -> Self {
        zerocopy::transmute!(slot)
    }
}

/// A node on the way.
pub struct Level {
    /// Its block; none for the root.
    pub buffer: Option<Arc<Buffer>>,
    /// In an inner node the entry below which the way goes on; in a leaf the number of entries that begin at or before the block that was
    /// looked for.
    pub at: usize,
    /// Entries.
    pub count: usize,
    /// Entries there is room for.
    pub max: usize,
}

/// The way: root first.
pub type Path = SmallVec<[Level; MAX_DEPTH as usize + 1]>;

/// The entries of a node whose header was checked.
pub fn slots(node: &[u8]) -> &[Slot] {
    at::<Header>(node, 0).map_or(&[], |header| extent::entries(node, header))
}

impl Map<'_> {
    /// Looks at a node's bytes.
    pub(super) fn with<R>(&self, level: &Level, f: impl FnOnce(&[u8]) -> R) -> R {
        match &level.buffer {
            None => {
                self.node.read(|raw| f(raw.get(ROOT_OFFSET..ROOT_OFFSET + BLOCK_BYTES).unwrap_or_default()))
            }
            Some(buffer) => f(buffer.lock().data().bytes()),
        }
    }

    /// Changes a node, and its checksum.
    pub(super) fn modify_node<R>(
        &self,
        tx: &mut Handle,
        buffer: Option<&Arc<Buffer>>,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R> {
        match buffer {
            None => self.node.modify(self.volume, tx, |raw| {
                f(raw.get_mut(ROOT_OFFSET..ROOT_OFFSET + BLOCK_BYTES).unwrap_or_default())
            }),
            Some(buffer) => tx.modify(buffer, |bytes| {
                let result = f(bytes);
                self.volume.sums.set_extent(self.node.seed, bytes);
                result
            }),
        }
    }

    #[cold]
    fn bad(&self, block: u64, what: &str) -> abi::Errno {
        let text = format_args!("pblk {block} bad header/extent: {what}");
        self.volume.damaged("ext4_ext_check_inode", self.node.ino, block, text)
    }

    fn level(&self, buffer: Option<Arc<Buffer>>, depth: u16) -> Result<Level> {
        let block = buffer.as_ref().map_or(0, |buffer| buffer.block());
        let in_inode = buffer.is_none();
        let mut level = Level { buffer, at: 0, count: 0, max: 0 };
        let counts = self.with(&level, |node| {
            check_header(node, depth, in_inode)
                .map(|header| (header.entries.get().into(), header.max.get().into()))
        });
        (level.count, level.max) = counts.map_err(|what| self.bad(block, what))?;
        Ok(level)
    }

    /// Levels below the root.
    pub(super) fn depth(&self) -> Result<u16> {
        let core = self.node.core();
        let header: &Header = at(&core.block, 0).ok_or(CORRUPT)?;
        if header.magic.get() != extent::MAGIC || header.depth.get() > MAX_DEPTH {
            return Err(self.bad(0, "invalid magic"));
        }
        Ok(header.depth.get())
    }

    /// The way to `block`.
    pub(super) fn find(&self, block: u32) -> Result<Path> {
        let mut depth = self.depth()?;
        let mut path = Path::new();
        let mut buffer = None;
        loop {
            let mut level = self.level(buffer.take(), depth)?;
            let (before, child) = self.with(&level, |node| {
                let slots = slots(node);
                let before = slots.partition_point(|slot| slot.key.get() <= block);
                let child = slots.get(before.saturating_sub(1)).map(|slot| Index::from(*slot).leaf());
                (before, child)
            });
            if depth == 0 {
                level.at = before;
                path.push(level);
                return Ok(path);
            }
            level.at = before.saturating_sub(1);
            path.push(level);
            let child = child.ok_or(CORRUPT)?;
            depth -= 1;
            buffer = Some(self.read_node(child, depth)?);
        }
    }

    /// Reads a node that is a block of its own.
    pub(super) fn read_node(&self, block: u64, depth: u16) -> Result<Arc<Buffer>> {
        if !self.volume.is_valid(block, 1) {
            return Err(self.bad(block, "invalid index"));
        }
        let buffer = self.volume.cache.read(block)?;
        if !buffer.is_verified() {
            let data = buffer.data();
            check_header(data.bytes(), depth, false).map_err(|what| self.bad(block, what))?;
            if !self.volume.sums.extent_is_right(self.node.seed, data.bytes()) {
                return Err(self.volume.bad_checksum("ext4_extent_block_csum_verify", self.node.ino, block));
            }
            buffer.set_verified();
        }
        Ok(buffer)
    }

    /// An extent of the leaf at the end of a way.
    pub(super) fn extent(&self, path: &Path, at: usize) -> Option<Extent> {
        let level = path.last()?;
        self.with(level, |node| slots(node).get(at).map(|slot| Extent::from(*slot)))
    }

    /// The first block with an entry behind those that begin at or before the one that was looked for.
    pub(super) fn next_key(&self, path: &Path) -> Option<u32> {
        let leaf = path.len().checked_sub(1)?;
        path.iter().enumerate().rev().find_map(|(number, level)| {
            let at = if number == leaf { level.at } else { level.at + 1 };
            self.with(level, |node| slots(node).get(at).map(|slot| slot.key.get()))
        })
    }

    /// The first key of the leaf behind the one at the end of a way.
    pub(super) fn next_leaf(&self, path: &Path) -> Option<u32> {
        let (_, inner) = path.split_last()?;
        inner.iter().rev().find_map(|level| {
            self.with(level, |node| slots(node).get(level.at + 1).map(|slot| slot.key.get()))
        })
    }

    /// Sets the key of the nodes above `level` whose first entry it is.
    pub(super) fn fix_keys(&self, tx: &mut Handle, path: &Path, level: usize, key: u32) -> Result<()> {
        for above in path.get(..level).unwrap_or_default().iter().rev() {
            self.modify_node(tx, above.buffer.as_ref(), |node| {
                if let Some(slot) = at_mut::<Slot>(node, ENTRY_SIZE * (1 + above.at)) {
                    slot.key.set(key);
                }
            })?;
            if above.at != 0 {
                break;
            }
        }
        Ok(())
    }
}
