//! RAM disks, `/dev/ram0` and so on (`Documentation/admin-guide/blockdev/ramdisk.rst`): only as many as `brd.rd_nr=` asks for.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Result;
use block::bio::SECTOR_SHIFT;
use block::disk::{self, Disk, DiskOps, Numbers, RAM_MAJOR, Spec};
use block::{Batch, Driver, Features, Limits, Queue, Request, Shape, Status};
use mm::fallible::{try_arc, try_format};

use super::memory::Contents;
use super::serve::{Server, Waiting};

/// `brd.rd_nr`: how many.
pub static COUNT: AtomicU32 = AtomicU32::new(0);
/// `brd.rd_size`: how large each is, in KiB.
pub static SIZE_KB: AtomicU64 = AtomicU64::new(4096);

struct Ram {
    contents: Contents,
    waiting: Waiting,
}

impl Server for Ram {
    fn serve(&self, request: &Request) -> Status {
        self.contents.serve(request)
    }
}

impl Driver for Ram {
    fn queue_rqs(&self, _: &Queue, _: usize, batch: &mut Batch) {
        self.waiting.take(batch);
    }
}

impl DiskOps for Ram {}

/// Makes those that are wanted.
///
/// # Errors
/// `EBUSY`: somebody has the numbers; `ENOMEM`.
pub fn init() -> Result<()> {
    let count = COUNT.load(Ordering::Relaxed);
    if count == 0 {
        return Ok(());
    }
    disk::register_major("ramdisk", RAM_MAJOR)?;
    (0..count).try_for_each(add)
}

fn add(number: u32) -> Result<()> {
    let sectors = SIZE_KB.load(Ordering::Relaxed).saturating_mul(1024).min(i64::MAX as u64) >> SECTOR_SHIFT;
    let ram = try_arc(Ram { contents: Contents::new(sectors << SECTOR_SHIFT)?, waiting: Waiting::new()? })?;
    let limits = Limits {
        physical_block_size: 4096,
        max_hw_sectors: 2560,
        max_discard_sectors: u32::MAX >> SECTOR_SHIFT,
        discard_granularity: 4096,
        features: Features::IO_STAT,
        ..Limits::default()
    };
    let queue = Queue::new(ram.clone(), Shape::default(), limits)?;
    let server: Arc<dyn Server> = ram.clone();
    ram.waiting.attach(Arc::downgrade(&server), &queue);
    let spec = Spec {
        name: try_format(format_args!("ram{number}"))?,
        numbers: Numbers::Own { major: RAM_MAJOR, first: number, count: 1 },
        parent: None,
        removable: false,
        partitions: true,
        ops: ram,
    };
    let disk = Disk::new(spec, queue)?;
    disk.set_capacity(sectors);
    disk.add()
}
