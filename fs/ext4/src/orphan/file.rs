//! The orphan file: blocks of inode numbers, so that those who note inodes do not all write the super block.

use abi::Result;
use mm::TryVec;

use super::State;
use crate::disk::orphan::{read, read_mut};
use crate::extent_write::{Kind, Map};
use crate::raw::RawInode;
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};

impl Volume {
    fn orphan_file(&self) -> Result<RawInode> {
        RawInode::open(self, self.orphans.file)
    }

    /// Finds the blocks of the file, and what is noted there.
    pub(crate) fn read_orphan_file(self: &alloc::sync::Arc<Self>, state: &mut State) -> Result<()> {
        let node = self.orphan_file()?;
        let map = Map { volume: self, node: &node };
        let count = u32::try_from(node.size() >> self.layout.block_bits).map_err(|_| CORRUPT)?;
        let mut block = 0;
        while block < count {
            let found = map.lookup(block, count - block)?;
            if found.kind != Kind::Mapped {
                return Err(self.damaged(
                    "ext4_init_orphan_info",
                    node.ino,
                    0,
                    format_args!("hole in orphan file"),
                ));
            }
            for at in 0..found.len {
                let buffer = self.cache.read(found.start + u64::from(at))?;
                let data = buffer.data();
                let Some((inodes, tail)) = read(data.bytes()) else {
                    let text = format_args!("orphan file block {}: bad magic", block + at);
                    return Err(self.damaged("ext4_init_orphan_info", node.ino, buffer.block(), text));
                };
                if self.sums.metadata
                    && self.sums.orphan(node.seed, buffer.block(), data.bytes()) != tail.checksum.get()
                {
                    return Err(self.bad_checksum("ext4_init_orphan_info", node.ino, buffer.block()));
                }
                for (place, ino) in inodes.iter().enumerate().filter(|(_, ino)| ino.get() != 0) {
                    state.placed.try_insert(ino.get(), (block + at, place as u32))?;
                }
                state.blocks.try_push(buffer)?;
            }
            block += found.len;
        }
        Ok(())
    }

    fn set_place(&self, tx: &mut Handle, state: &State, block: u32, at: u32, ino: u32) -> Result<()> {
        let buffer = state.blocks.get(block as usize).ok_or(CORRUPT)?;
        let seed = self.orphan_file()?.seed;
        tx.modify(buffer, |bytes| {
            if let Some((inodes, _)) = read_mut(bytes)
                && let Some(place) = inodes.get_mut(at as usize)
            {
                place.set(ino);
            }
            let crc = self.sums.orphan(seed, buffer.block(), bytes);
            if let Some((_, tail)) = read_mut(bytes)
                && self.sums.metadata
            {
                tail.checksum.set(crc);
            }
        })
    }

    /// `false`: the file is full.
    pub(super) fn add_to_file(&self, tx: &mut Handle, state: &mut State, ino: u32) -> Result<bool> {
        let blocks = state.blocks.len() as u32;
        for step in 0..blocks {
            let block = (state.next + step) % blocks;
            let Some(buffer) = state.blocks.get(block as usize) else { continue };
            let data = buffer.data();
            let free =
                read(data.bytes()).and_then(|(inodes, _)| inodes.iter().position(|ino| ino.get() == 0));
            drop(data);
            if let Some(at) = free {
                state.placed.try_insert(ino, (block, at as u32))?;
                state.next = block;
                self.set_place(tx, state, block, at as u32, ino)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn remove_from_file(
        &self,
        tx: &mut Handle,
        state: &mut State,
        block: u32,
        at: u32,
    ) -> Result<()> {
        self.set_place(tx, state, block, at, 0)
    }
}
