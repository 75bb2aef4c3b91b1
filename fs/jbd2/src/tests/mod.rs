//! Tests over a simulated disk: [`basic`], power cuts ([`crash`]), damaged logs ([`damage`]), other people's tools ([`interop`]).

mod basic;
mod crash;
mod damage;
mod interop;

use std::sync::Arc;

use buffer::testing::Disk;
use buffer::{Buffer, BufferCache};

use crate::format::{self, kind, put, sb};
use crate::{Extent, Features, Journal, JournalPlace, Options};

/// A disk with `fs` blocks of a file system and a journal of `len` blocks behind them, in two pieces that are not neighbours.
#[derive(Clone, Copy)]
struct Layout {
    block_size: usize,
    fs: u64,
    len: u32,
}

impl Layout {
    fn image(&self, sequence: u32) -> Vec<u8> {
        let mut image = vec![0; (self.fs as usize + self.len as usize + 1) * self.block_size];
        let block = &mut image[self.fs as usize * self.block_size..][..sb::SIZE];
        format::put_header(block, kind::SUPER_V2, 0);
        put(block, sb::BLOCK_SIZE, (self.block_size as u32).to_be_bytes());
        put(block, sb::MAX_LEN, self.len.to_be_bytes());
        put(block, sb::FIRST, 1u32.to_be_bytes());
        put(block, sb::SEQUENCE, sequence.to_be_bytes());
        put(block, sb::USERS, 1u32.to_be_bytes());
        put(block, sb::UUID, [7; 16]);
        image
    }

    fn place(&self) -> JournalPlace {
        let half = self.len / 2;
        JournalPlace::Inode(vec![
            Extent { first: 0, len: half, physical: self.fs },
            Extent { first: half, len: self.len - half, physical: self.fs + u64::from(half) + 1 },
        ])
    }

    fn open(&self, disk: Disk, features: Features) -> Machine {
        self.try_open(disk, features).unwrap_or_else(|errno| panic!("no journal: {errno:?}"))
    }

    fn try_open(&self, disk: Disk, features: Features) -> abi::Result<Machine> {
        sched::kthread::set_hook(&NoHook);
        let disk = Arc::new(disk);
        let cache = BufferCache::new(disk.clone(), self.block_size as u32)?;
        let options = Options { name: "test", features, interval_ms: 3_600_000, ..Options::default() };
        let journal = Journal::load(cache.clone(), self.place(), options)?;
        Ok(Machine { journal, cache, disk })
    }
}

/// There are no processes to which threads of the kernel would be announced. Without a hook they would be kept for a later one.
struct NoHook;

impl sched::kthread::KthreadHook for NoHook {
    fn created(&self, _: &Arc<sched::Task>) {}
    fn exiting(&self, _: &sched::Task) {}
}

/// A file system's view: its journal goes first when it is dropped.
struct Machine {
    journal: Arc<Journal>,
    cache: Arc<BufferCache>,
    disk: Arc<Disk>,
}

impl Machine {
    fn read(&self, block: u64) -> Arc<Buffer> {
        self.cache.read(block).unwrap()
    }

    fn number(&self, block: u64) -> u64 {
        number(self.read(block).data().bytes())
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn fill(bytes: &mut [u8], value: u64) {
    bytes.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&value.to_le_bytes()));
}

const CHECKSUMS: Features = Features { big_blocks: true, checksums: true };
const PLAIN: Features = Features { big_blocks: false, checksums: false };
