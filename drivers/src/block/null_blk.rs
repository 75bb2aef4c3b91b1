//! Disks that do nothing, or keep what is written in memory: to measure what is above them
//! (`Documentation/block/null_blk.rst`). Only as many as `null_blk.nr_devices=` asks for.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::MAX_CPUS;
use arch::sync::SpinLockIrq;
use block::bio::SECTOR_SHIFT;
use block::disk::{self, Disk, DiskOps, Numbers, Spec};
use block::{Batch, Driver, Features, Limits, Queue, Request, Shape, Status};
use collections::fifo::Fifo;
use mm::fallible::{try_arc, try_format, try_into_boxed_slice, try_with_capacity};
use sched::hrtimer::{Deadline, HrTimer, Restart};
use sync::Once;

use super::memory::Contents;
use super::serve::{Server, Waiting};

/// `null_blk.nr_devices`.
pub static COUNT: AtomicU32 = AtomicU32::new(0);
/// `null_blk.submit_queues`: hardware queues.
pub static QUEUES: AtomicU32 = AtomicU32::new(1);
/// `null_blk.hw_queue_depth`.
pub static DEPTH: AtomicU32 = AtomicU32::new(64);
/// `null_blk.gb`: the size, in GiB.
pub static GB: AtomicU32 = AtomicU32::new(250);
/// `null_blk.bs`: the block size, in bytes.
pub static BLOCK_SIZE: AtomicU32 = AtomicU32::new(512);
/// `null_blk.irqmode`: ends at once (0), by tag as after an interrupt (1), or by a timer (2).
pub static IRQ_MODE: AtomicU32 = AtomicU32::new(1);
/// `null_blk.completion_nsec`: after how long the timer ends requests.
pub static COMPLETION_NS: AtomicU64 = AtomicU64::new(10_000);
/// `null_blk.memory_backed`: whether it keeps what is written.
pub static MEMORY_BACKED: AtomicU32 = AtomicU32::new(0);

const IRQ_NONE: u32 = 0;
const IRQ_TIMER: u32 = 2;

/// Requests that a timer ends.
struct Late {
    list: Arc<SpinLockIrq<Fifo<Request>>>,
    timer: HrTimer,
}

struct Null {
    irq_mode: u32,
    completion_ns: u64,
    contents: Option<(Contents, Waiting)>,
    late: Once<Box<[Late]>>,
}

impl Server for Null {
    fn serve(&self, request: &Request) -> Status {
        self.contents.as_ref().map_or(Status::IoError, |(contents, _)| contents.serve(request))
    }
}

impl Driver for Null {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        if let Some((_, waiting)) = &self.contents {
            return waiting.take(batch);
        }
        if self.irq_mode == IRQ_TIMER
            && let Some(late) = self.late.get().and_then(|late| late.get(hw))
        {
            let mut list = late.list.lock();
            while let Some(request) = batch.next() {
                list.push_back(request);
            }
            drop(list);
            return late.timer.start(Deadline::after_ns(self.completion_ns));
        }
        while let Some(request) = batch.next() {
            if self.irq_mode == IRQ_NONE {
                queue.end(hw, request, Status::Ok);
            } else {
                let tag = request.tag();
                queue.start(hw, request);
                queue.complete(hw, tag, Status::Ok);
            }
        }
    }
}

impl DiskOps for Null {}

/// Makes those that are wanted.
///
/// # Errors
/// `EINVAL`: a parameter makes no sense; `EBUSY`; `ENOMEM`.
pub fn init() -> Result<()> {
    let count = COUNT.load(Ordering::Relaxed);
    if count == 0 {
        return Ok(());
    }
    let major = disk::register_major("nullb", 0)?;
    (0..count).try_for_each(|number| add(major, number))
}

fn late(queue: &Arc<Queue>) -> Result<Box<[Late]>> {
    let mut all = try_with_capacity(queue.hw_queues())?;
    for hw in 0..queue.hw_queues() {
        let (list, queue) = (try_arc(SpinLockIrq::new(Fifo::<Request>::new()))?, Arc::downgrade(queue));
        let of = list.clone();
        let timer = HrTimer::new(move |_| {
            let mut over = core::mem::take(&mut *of.lock());
            if let Some(queue) = queue.upgrade() {
                while let Some(request) = over.pop_front() {
                    queue.end(hw, request, Status::Ok);
                }
            }
            Restart::No
        })?;
        all.extend([Late { list, timer }]);
    }
    Ok(try_into_boxed_slice(all)?)
}

fn add(major: u32, number: u32) -> Result<()> {
    let get = |parameter: &AtomicU32| parameter.load(Ordering::Relaxed);
    let sectors = u64::from(get(&GB)) << (30 - SECTOR_SHIFT);
    let contents = match get(&MEMORY_BACKED) {
        0 => None,
        _ => Some((Contents::new(sectors << SECTOR_SHIFT)?, Waiting::new()?)),
    };
    // One thread keeps the contents.
    let queues = if contents.is_some() { 1 } else { get(&QUEUES) as usize };
    let null = try_arc(Null {
        irq_mode: get(&IRQ_MODE),
        completion_ns: COMPLETION_NS.load(Ordering::Relaxed),
        contents,
        late: Once::new(),
    })?;
    if queues == 0 || queues > MAX_CPUS || get(&DEPTH) == 0 || null.irq_mode > IRQ_TIMER {
        return Err(Errno::EINVAL);
    }
    let block_size = get(&BLOCK_SIZE);
    let limits = Limits {
        logical_block_size: block_size,
        physical_block_size: block_size,
        max_hw_sectors: 2560,
        max_discard_sectors: if null.contents.is_some() { u32::MAX >> SECTOR_SHIFT } else { 0 },
        features: Features::IO_STAT,
        ..Limits::default()
    };
    let shape = Shape { queues, depth: get(&DEPTH), timeout_ms: 30_000 };
    let queue = Queue::new(null.clone(), shape, limits)?;
    if let Some((_, waiting)) = &null.contents {
        let server: Arc<dyn Server> = null.clone();
        waiting.attach(Arc::downgrade(&server), &queue);
    }
    if null.irq_mode == IRQ_TIMER {
        let late = late(&queue)?;
        null.late.call_once(|| late);
    }
    let spec = Spec {
        name: try_format(format_args!("nullb{number}"))?,
        numbers: Numbers::Own { major, first: number, count: 1 },
        parent: None,
        removable: false,
        partitions: true,
        ops: null,
    };
    let disk = Disk::new(spec, queue)?;
    disk.set_capacity(sectors);
    disk.add()
}
