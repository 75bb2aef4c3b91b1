//! Blocks of a directory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;

use crate::disk::dir::{self, Damage, Entry, Format};
use crate::disk::htree;
use crate::disk::inode::{BLOCK_BYTES, Flags};
use crate::disk::{U32, at};
use crate::error::{EFSCORRUPTED, place, there};
use crate::inode::Node;

/// What a block of a directory is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Entries.
    Entries,
    /// A node of the hash tree.
    Node,
    /// Either.
    Any,
}

/// Where the names of a directory with inline data are, in the bytes of [`Node::inline_bytes`]: the first four are its parent.
const INLINE_FIRST: usize = 4;

/// The names of a directory in its inode.
pub struct InlineDir {
    bytes: Vec<u8>,
    /// `..`.
    pub parent: u32,
}

impl InlineDir {
    /// Its entries: in the first part, then in the second, each filled by its last entry.
    pub fn entries(&self, format: Format) -> impl Iterator<Item = core::result::Result<Entry<'_>, Damage>> {
        let format = Format { has_tail: false, ..format };
        let first = self.bytes.get(INLINE_FIRST..BLOCK_BYTES).unwrap_or_default();
        let second = self.bytes.get(BLOCK_BYTES..).unwrap_or_default();
        let shifted = dir::entries(second, 0, format).map(|entry| {
            entry.map(|entry| Entry { offset: entry.offset + BLOCK_BYTES - INLINE_FIRST, ..entry })
        });
        dir::entries(first, 0, format).chain(shifted)
    }
}

impl Node {
    /// Whether the directory has a hash tree that is used.
    pub(crate) fn has_tree(&self) -> bool {
        self.flags().contains(Flags::INDEX) && self.fs.has_dir_index()
    }

    /// Whether its names are in the inode.
    pub(crate) fn is_inline(&self) -> bool {
        self.flags().contains(Flags::INLINE_DATA)
    }

    /// The names in the inode.
    pub(crate) fn inline_dir(&self) -> Result<InlineDir> {
        let mut bytes = self.inline_bytes()?;
        let size = self.disk_size.load(core::sync::atomic::Ordering::Relaxed);
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX).max(BLOCK_BYTES));
        let parent = there(at::<U32>(&bytes, 0))?.get();
        Ok(InlineDir { bytes, parent })
    }

    /// Block `block` of the directory, with its checksum looked at; none for a hole.
    ///
    /// # Errors
    /// `EBADMSG`, `EUCLEAN`, those of [`Node::map`] and of the device.
    pub(crate) fn dir_block(&self, block: u32, expect: Expect) -> Result<Option<Arc<mm::Block>>> {
        let data = self.read_block(block, |bytes| self.check_dir_block(block, bytes))?;
        if let Some(data) = &data
            && expect != Expect::Any
            && self.is_node(block, data.bytes()) != (expect == Expect::Node)
        {
            let text = format_args!("directory leaf block found instead of index block");
            return Err(self.fs.error(place!("__ext4_read_dirblock", self.ino), EFSCORRUPTED, text));
        }
        Ok(data)
    }

    /// Whether the block looks like a node of the hash tree.
    fn is_node(&self, block: u32, bytes: &[u8]) -> bool {
        if !self.has_tree() {
            return false;
        }
        let header: Option<&dir::Header> = at(bytes, 0);
        block == 0
            || header.is_some_and(|header| {
                header.inode.get() == 0 && usize::from(header.rec_len.get()) == bytes.len()
            })
    }

    fn check_dir_block(&self, block: u32, bytes: &[u8]) -> Result<()> {
        let checksums = &self.fs.checksums;
        if !checksums.metadata {
            return Ok(());
        }
        if self.is_node(block, bytes) {
            let right = htree::places_offset(bytes)
                .is_some_and(|offset| checksums.htree_is_right(self.seed, bytes, offset));
            // An empty leaf looks like an inner node.
            if right || block != 0 && checksums.dir_is_right(self.seed, bytes) {
                return Ok(());
            }
            let place = place!("__ext4_read_dirblock", self.ino);
            return Err(self.fs.bad_checksum(place, "Directory index failed checksum"));
        }
        if checksums.dir_is_right(self.seed, bytes) {
            return Ok(());
        }
        let place = place!("__ext4_read_dirblock", self.ino);
        Err(self.fs.bad_checksum(place, "Directory block failed checksum"))
    }

    /// An entry is damaged.
    #[cold]
    pub(crate) fn bad_entry(&self, damage: &Damage, block: u64, size: usize) -> abi::Errno {
        let text = format_args!(
            "bad entry in directory: {} - offset={}, inode={}, rec_len={}, size={size} fake=0",
            damage.what, damage.offset, damage.inode, damage.rec_len
        );
        self.fs.error(place!("ext4_find_entry", self.ino, block), EFSCORRUPTED, text)
    }

    /// The block on the device that has `block` of the directory, for messages.
    pub(crate) fn place_of(&self, block: u32) -> u64 {
        self.map(block).map_or(0, |mapped| mapped.start)
    }
}
