//! Blocks of a directory that is changed.

use alloc::sync::Arc;

use abi::{Errno, Result};
use buffer::Buffer;

use super::Dir;
use crate::disk::at;
use crate::disk::dir::{Damage, Header, Tail};
use crate::disk::features::{Compat, Incompat};
use crate::disk::htree::{self, places_offset};
use crate::disk::inode::Flags;
use crate::extent_write::map::Create;
use crate::extent_write::{Kind, Map};
use crate::space::Reserve;
use crate::tx::Handle;

impl Dir<'_> {
    pub(super) fn map(&self) -> Map<'_> {
        Map { volume: self.volume, node: self.node }
    }

    /// Blocks, by its size.
    pub(super) fn blocks(&self) -> u32 {
        u32::try_from(self.node.size() >> self.volume.layout.block_bits).unwrap_or(u32::MAX)
    }

    /// Whether it has a hash tree that is used.
    pub(super) fn has_tree(&self) -> bool {
        self.node.flags().contains(Flags::INDEX) && self.volume.compat.contains(Compat::DIR_INDEX)
    }

    fn is_node(&self, block: u32, bytes: &[u8], has_tree: bool) -> bool {
        has_tree
            && (block == 0
                || at::<Header>(bytes, 0).is_some_and(|first| {
                    first.inode.get() == 0 && usize::from(first.rec_len.get()) == bytes.len()
                }))
    }

    /// Block `block` of the directory; none for a hole.
    pub(super) fn block(&self, block: u32) -> Result<Option<Arc<Buffer>>> {
        let found = self.map().lookup(block, 1)?;
        if found.kind != Kind::Mapped {
            return Ok(None);
        }
        let buffer = self.volume.cache.read(found.start)?;
        if !buffer.is_verified() {
            let (data, sums) = (buffer.data(), &self.volume.sums);
            let bytes = data.bytes();
            let right = match self.is_node(block, bytes, self.has_tree()) {
                false => sums.dir_is_right(self.node.seed, bytes),
                true => {
                    let offset = places_offset(bytes);
                    !sums.metadata
                        || offset.is_some_and(|offset| sums.htree_is_right(self.node.seed, bytes, offset))
                        || block != 0 && sums.dir_is_right(self.node.seed, bytes)
                }
            };
            if !right {
                return Err(self.volume.bad_checksum("__ext4_read_dirblock", self.node.ino, found.start));
            }
            buffer.set_verified();
        }
        Ok(Some(buffer))
    }

    /// The same, where a hole is damage.
    pub(super) fn block_there(&self, block: u32) -> Result<Arc<Buffer>> {
        self.block(block)?.ok_or_else(|| {
            let text = format_args!("Directory hole found for block {block}");
            self.volume.damaged("__ext4_read_dirblock", self.node.ino, 0, text)
        })
    }

    /// Changes a block, and its checksum.
    pub(super) fn modify<R>(
        &self,
        tx: &mut Handle,
        block: u32,
        buffer: &Arc<Buffer>,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R> {
        let has_tree = self.has_tree();
        tx.modify(buffer, |bytes| {
            let result = f(bytes);
            self.seal(block, bytes, has_tree);
            result
        })
    }

    /// Gives a block its checksum.
    pub(super) fn seal(&self, block: u32, bytes: &mut [u8], has_tree: bool) {
        let sums = &self.volume.sums;
        if !self.is_node(block, bytes, has_tree) {
            sums.set_dir(self.node.seed, bytes);
        } else if let Some(offset) = places_offset(bytes) {
            sums.set_htree(self.node.seed, bytes, offset);
        }
    }

    /// Blocks that [`append`](Self::append) changes.
    pub(super) fn append_credits(&self) -> Result<u32> {
        Ok(self.map().create_credits()? + 1)
    }

    /// A new block at the end, that `fill` gets with zeros.
    pub(super) fn append(&self, tx: &mut Handle, fill: impl FnOnce(&mut [u8])) -> Result<(u32, Arc<Buffer>)> {
        let block = self.blocks();
        // Without `large_dir` the size has 32 bits.
        let large = self.volume.incompat.contains(Incompat::LARGEDIR);
        let size = (u64::from(block) + 1) << self.volume.layout.block_bits;
        if block >= htree::BLOCK_MASK || !large && size >= 1 << 31 {
            return Err(Errno::ENOSPC);
        }
        let how = Create { unwritten: false, reserve: Reserve::Root, promised: false };
        let found = self.map().create(tx, block, 1, &how)?;
        let buffer = self.volume.cache.get(found.start)?;
        let has_tree = self.has_tree();
        tx.create(&buffer, |bytes| {
            fill(bytes);
            self.seal(block, bytes, has_tree);
        })?;
        self.node.update(self.volume, tx, |core| core.set_size(size))?;
        Ok((block, buffer))
    }

    /// An entry is damaged.
    #[cold]
    pub(super) fn bad_entry(&self, damage: &Damage, buffer: &Buffer) -> Errno {
        let text = format_args!(
            "bad entry in directory: {} - offset={}, inode={}, rec_len={}, size={} fake=0",
            damage.what,
            damage.offset,
            damage.inode,
            damage.rec_len,
            buffer.size()
        );
        self.volume.damaged("ext4_find_dest_de", self.node.ino, buffer.block(), text)
    }

    /// Bytes of a block that have entries.
    pub(super) fn entry_bytes(&self) -> usize {
        self.volume.dir_format().entry_bytes(self.volume.block_size())
    }

    /// The tail of a block, where blocks have one: the checksum follows.
    pub(super) fn put_tail(&self, bytes: &mut [u8]) {
        if self.volume.sums.metadata {
            let end = bytes.len().saturating_sub(crate::disk::dir::TAIL_SIZE);
            if let Some(tail) = crate::disk::at_mut::<Tail>(bytes, end) {
                *tail = Tail::new();
            }
        }
    }
}
