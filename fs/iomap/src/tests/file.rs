//! A file system of one file.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use abi::{Errno, Result};
use block::BlockDevice;
use mm::Mapping;
use mm::writeback::BackingDevice;

use super::disk::{Disk, Machine, Random};
use crate::{Endings, Extent, IomapOps, Kind, Mapper, Purpose};

/// How blocks are allocated for buffered writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// When they are written back, unwritten until then.
    Delayed,
    /// At once, with whatever is in them.
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Hole,
    Delayed,
    Unwritten(u64),
    Mapped(u64),
}

struct State {
    places: Vec<Place>,
    used: Vec<bool>,
    hidden: Vec<u64>,
    random: Random,
}

pub(crate) struct Map {
    device: Arc<BlockDevice>,
    block: u32,
    kinds: Kinds,
    state: Mutex<State>,
    pub(crate) disk_size: AtomicU64,
    pub(crate) converted: AtomicUsize,
}

impl Map {
    fn allocate(state: &mut State) -> Result<u64> {
        // Mostly one behind the other, sometimes elsewhere.
        let len = state.used.len() as u64;
        let from = if state.random.below(16) == 0 { state.random.below(len) } else { 0 };
        let free = (from..len).chain(0..from).find(|&at| !state.used[at as usize]);
        let block = free.ok_or(Errno::ENOSPC)?;
        state.used[block as usize] = true;
        Ok(block)
    }

    fn place(state: &mut State, at: usize) -> &mut Place {
        if state.places.len() <= at {
            state.places.resize(at + 1, Place::Hole);
        }
        &mut state.places[at]
    }

    pub(crate) fn blocks_used(&self) -> usize {
        self.state.lock().unwrap().used.iter().filter(|used| **used).count()
    }

    pub(crate) fn preallocate(&self, first: usize, count: usize) {
        let mut state = self.state.lock().unwrap();
        for at in first..first + count {
            let block = Self::allocate(&mut state).unwrap();
            *Self::place(&mut state, at) = Place::Unwritten(block);
        }
    }

    /// The blocks are the file's no more, but nobody else's either.
    fn hide(&self, blocks: Range<usize>) {
        let mut state = self.state.lock().unwrap();
        let end = blocks.end.min(state.places.len());
        for at in blocks.start..end.max(blocks.start) {
            if let Place::Unwritten(block) | Place::Mapped(block) =
                std::mem::replace(&mut state.places[at], Place::Hole)
            {
                state.hidden.push(block);
            }
        }
    }

    fn reuse(&self) {
        let mut state = self.state.lock().unwrap();
        for block in std::mem::take(&mut state.hidden) {
            state.used[block as usize] = false;
        }
    }

    fn free(&self, blocks: Range<usize>) {
        let mut state = self.state.lock().unwrap();
        let end = blocks.end.min(state.places.len());
        for at in blocks.start..end.max(blocks.start) {
            if let Place::Unwritten(block) | Place::Mapped(block) =
                std::mem::replace(&mut state.places[at], Place::Hole)
            {
                state.used[block as usize] = false;
            }
        }
    }
}

impl Mapper for Map {
    fn device(&self) -> Result<Arc<BlockDevice>> {
        Ok(self.device.clone())
    }

    fn block_size(&self) -> u32 {
        self.block
    }

    fn map(&self, pos: u64, len: u64, purpose: Purpose) -> Result<Extent> {
        let size = u64::from(self.block);
        let (first, count) = (pos / size, (pos % size + len).div_ceil(size).min(64));
        let mut state = self.state.lock().unwrap();
        let mut new = false;
        let mut kinds = Vec::new();
        for at in first..first + count {
            let place = *Self::place(&mut state, at as usize);
            let (now, fresh) = match (purpose, place, self.kinds) {
                (Purpose::BufferedWrite, Place::Hole, Kinds::Delayed) => (Place::Delayed, true),
                (Purpose::BufferedWrite, Place::Hole, Kinds::Direct) => {
                    (Place::Mapped(Self::allocate(&mut state)?), true)
                }
                (Purpose::WriteBack, Place::Delayed, _) => {
                    (Place::Unwritten(Self::allocate(&mut state)?), true)
                }
                (Purpose::DirectWrite, Place::Hole | Place::Delayed, _) => {
                    (Place::Unwritten(Self::allocate(&mut state)?), true)
                }
                _ => (place, false),
            };
            // One extent is all of one kind.
            let step = kinds.len() as u64;
            let same = match (kinds.first(), now) {
                (None, _) => true,
                (Some(Place::Hole), Place::Hole) | (Some(Place::Delayed), Place::Delayed) => new == fresh,
                (Some(Place::Mapped(a)), Place::Mapped(b))
                | (Some(Place::Unwritten(a)), Place::Unwritten(b)) => new == fresh && b == a + step,
                _ => false,
            };
            if !same {
                // Not taken: back to what it was.
                if fresh && let Place::Mapped(block) | Place::Unwritten(block) = now {
                    state.used[block as usize] = false;
                }
                break;
            }
            new = fresh;
            *Self::place(&mut state, at as usize) = now;
            kinds.push(now);
        }
        let (kind, addr) = match kinds[0] {
            Place::Hole => (Kind::Hole, 0),
            Place::Delayed => (Kind::Delayed, 0),
            Place::Unwritten(block) => (Kind::Unwritten, block * size),
            Place::Mapped(block) => (Kind::Mapped, block * size),
        };
        Ok(Extent { offset: first * size, len: kinds.len() as u64 * size, kind, addr, new })
    }

    fn disk_size(&self) -> u64 {
        self.disk_size.load(Ordering::SeqCst)
    }

    fn written(&self, range: Range<u64>, result: Result<()>) -> Result<()> {
        result?;
        let size = u64::from(self.block);
        let mut state = self.state.lock().unwrap();
        for at in range.start / size..range.end.div_ceil(size) {
            let place = Self::place(&mut state, at as usize);
            if let Place::Unwritten(block) = *place {
                *place = Place::Mapped(block);
                self.converted.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.disk_size.fetch_max(range.end, Ordering::SeqCst);
        Ok(())
    }

    fn release_reserved(&self, range: Range<u64>) {
        let size = u64::from(self.block);
        let mut state = self.state.lock().unwrap();
        for at in range.start / size..range.end / size {
            let place = Self::place(&mut state, at as usize);
            if *place == Place::Delayed {
                *place = Place::Hole;
            }
        }
    }
}

pub(crate) struct TestFile {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) map: Arc<Map>,
    pub(crate) disk: Arc<Disk>,
    _machine: Machine,
}

impl TestFile {
    pub(crate) fn new(bytes: usize, block: u32, kinds: Kinds, seed: u64) -> Self {
        let machine = Machine::new(bytes, seed);
        let map = Arc::new(Map {
            device: machine.device.clone(),
            block,
            kinds,
            state: Mutex::new(State {
                places: Vec::new(),
                used: std::vec![false; bytes / block as usize],
                hidden: Vec::new(),
                random: Random(seed | 1),
            }),
            disk_size: AtomicU64::new(0),
            converted: AtomicUsize::new(0),
        });
        let ops = IomapOps::new(map.clone(), Endings::new().unwrap());
        let backing = BackingDevice::new("test").unwrap();
        let mapping = crate::new_mapping(ops, 0, backing).unwrap();
        Self { mapping, map, disk: machine.disk.clone(), _machine: machine }
    }

    /// What the device has of the file, as the file system sees it.
    pub(crate) fn on_disk(&self, pos: usize, len: usize) -> Vec<u8> {
        let state = self.map.state.lock().unwrap();
        let bytes = self.disk.bytes.lock().unwrap();
        let block = self.map.block as usize;
        (pos..pos + len)
            .map(|at| match state.places.get(at / block) {
                Some(Place::Mapped(number)) => bytes[*number as usize * block + at % block],
                _ => 0,
            })
            .collect()
    }

    pub(crate) fn truncate(&self, size: u64) {
        let block = u64::from(self.map.block);
        let _exclusive = self.mapping.invalidate_lock().write();
        self.mapping.truncate_locked(size);
        self.map.disk_size.fetch_min(size, Ordering::SeqCst);
        self.map.free(size.div_ceil(block) as usize..usize::MAX);
        self.zero_tail(size);
    }

    /// The rest of the last block is zero on the device.
    fn zero_tail(&self, size: u64) {
        let block = self.map.block as usize;
        let state = self.map.state.lock().unwrap();
        let (at, inside) = (size as usize / block, size as usize % block);
        if inside != 0
            && let Some(Place::Mapped(number)) = state.places.get(at)
        {
            let start = *number as usize * block;
            self.disk.bytes.lock().unwrap()[start + inside..start + block].fill(0);
        }
    }

    pub(crate) fn punch(&self, pos: u64, len: u64) {
        let block = u64::from(self.map.block);
        // Whole blocks only, as far as the map is concerned; the rest is zeroed in the cache.
        let (first, last) = (pos.next_multiple_of(block), (pos + len) / block * block);
        let end = (pos + len).min(self.mapping.size());
        for edge in [pos..first.min(end), last.max(pos)..end] {
            if edge.start < edge.end {
                let zeros = std::vec![0; (edge.end - edge.start) as usize];
                self.mapping.write(&mut mm::IovIter::source(&zeros), edge.start).unwrap();
            }
        }
        if first < last {
            let _exclusive = self.mapping.invalidate_lock().write();
            self.mapping.punch_locked(first..last);
            // Nobody gets the blocks before what is on its way to them is over: nobody else allocates.
            self.map.hide((first / block) as usize..(last / block) as usize);
            self.mapping.wait_on_writeback(first.saturating_sub(4096)..last + 4096);
            self.map.reuse();
        }
    }
}
