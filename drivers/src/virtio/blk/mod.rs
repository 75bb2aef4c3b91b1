//! virtio disks (5.2): `vda` and so on.
//!
//! Each CPU has a queue of its own if the device has as many, each queue an interrupt. A request's tag is its token in the
//! queue; its header and status are in memory that belongs to the tag. A batch of requests goes to the device with one
//! lock and one notification.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use block::bio::SECTOR_SHIFT;
use block::disk::{self, Attribute, Disk, DiskOps, Geometry, Numbers, Removal, Spec};
use block::limits::Features as Can;
use block::{Batch, Limits, Op, Queue as BlockQueue, Request, Shape, Status};
use collections::idalloc::IdAlloc;
use mm::dma::{Coherent, Reach};
use mm::fallible::{TryVec, try_arc, try_box, try_format, try_into_boxed_slice, try_with_capacity};
use sched::rcu;
use sched::workqueue::{self, Work};
use sync::{Once, RcuPtr};

use super::queue::{Full, Piece, Queue};
use super::{Bound, Callbacks, Device, Done, Driver, Features, QueueSpec, id};

mod config;
#[cfg(test)]
mod tests;

use config::feature;

/// The driver.
pub static DRIVER: Driver = Driver { name: "virtio_blk", id: id::BLOCK, probe };

/// Requests of a queue at a time.
const DEPTH: u16 = 256;
/// Numbers of a disk: itself and its partitions.
const MINORS: u32 = 16;
/// Bytes of a serial number.
const SERIAL: usize = 20;
/// After how many milliseconds without an answer something is done.
const TIMEOUT_MS: u32 = 30_000;

/// Kinds of requests (5.2.6).
mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// How a request ended.
mod answer {
    pub const OK: u8 = 0;
    pub const UNSUPPORTED: u8 = 2;
    /// Ours: the device has not answered.
    pub const NONE: u8 = 0xff;
}

static MAJOR: Once<u32> = Once::new();
static INDEXES: SpinLock<IdAlloc> = SpinLock::new(IdAlloc::new(0, 1 << 16));

/// A queue of the device and what belongs to its tags.
struct Lane {
    queue: Arc<Queue>,
    /// For each tag: kind and priority, sector, and for discards the range.
    headers: Coherent<u64>,
    /// For each tag how it ended.
    answers: Coherent<u8>,
}

/// Words of a header with its range.
const HEADER: usize = 4;

struct Blk {
    device: Arc<Device>,
    index: u32,
    lanes: Box<[Lane]>,
    limits: Limits,
    may_unmap: bool,
    serial: Once<String>,
    /// The device was stopped: nothing goes to it any more.
    stopped: AtomicBool,
    /// While there is one.
    disk: RcuPtr<Disk>,
}

impl Lane {
    fn new(queue: Arc<Queue>) -> Result<Self> {
        let tokens = usize::from(queue.tokens());
        let headers = Coherent::new(tokens * HEADER, Reach::Full)?;
        Ok(Self { queue, headers, answers: Coherent::new(tokens, Reach::Full)? })
    }

    fn write_header(&self, tag: usize, kind: u32, ioprio: u16, sector: u64) {
        self.headers.write(tag * HEADER, u64::from(kind) | u64::from(ioprio) << 32);
        self.headers.write(tag * HEADER + 1, sector);
        self.answers.write(tag, answer::NONE);
    }

    fn piece(&self, tag: usize, word: usize) -> Piece {
        let address = self.headers.device_addr().0 + ((tag * HEADER + word) * 8) as u64;
        Piece { address, len: 16, device_writes: false }
    }

    fn header(&self, tag: usize) -> Piece {
        self.piece(tag, 0)
    }

    fn range(&self, tag: usize) -> Piece {
        self.piece(tag, 2)
    }

    fn answer(&self, tag: usize) -> Piece {
        Piece { address: self.answers.device_addr().0 + tag as u64, len: 1, device_writes: true }
    }

    fn status(&self, tag: u16) -> Status {
        match self.answers.read(tag.into()) {
            Some(answer::OK) => Status::Ok,
            Some(answer::UNSUPPORTED) => Status::NotSupported,
            _ => Status::IoError,
        }
    }
}

impl Blk {
    /// Puts a request into the ring.
    fn put(
        &self,
        lane: &Lane,
        ring: &mut super::queue::Batch<'_>,
        request: &Request,
    ) -> core::result::Result<(), Full> {
        let token = u16::try_from(request.tag()).map_err(|_| Full)?;
        let tag = usize::from(token);
        let (kind, sector) = match request.op() {
            Op::Read => (kind::IN, request.sector()),
            Op::Write => (kind::OUT, request.sector()),
            Op::Flush => (kind::FLUSH, 0),
            Op::Discard | Op::SecureErase => (kind::DISCARD, 0),
            Op::WriteZeroes => (kind::WRITE_ZEROES, 0),
        };
        lane.write_header(tag, kind, request.ioprio(), sector);
        let (first, last) = (lane.header(tag), lane.answer(tag));
        let ends = |pieces| core::iter::once(first).chain(pieces).chain([last]);
        match request.op() {
            Op::Read | Op::Write => {
                let device_writes = request.op() == Op::Read;
                let pieces = request.pieces(&self.limits);
                let data = pieces.map(|(address, len)| Piece { address, len, device_writes });
                let at_most = request.max_pieces() as usize + 2;
                ring.add(token, at_most, core::iter::once(first).chain(data).chain([last]))
            }
            Op::Flush => ring.add(token, 2, ends(None)),
            Op::Discard | Op::SecureErase | Op::WriteZeroes => {
                let unmap = request.op() == Op::WriteZeroes && self.may_unmap;
                let sectors = u64::from(request.len() >> SECTOR_SHIFT);
                lane.headers.write(tag * HEADER + 2, request.sector());
                lane.headers.write(tag * HEADER + 3, sectors | u64::from(unmap) << 32);
                ring.add(token, 3, ends(Some(lane.range(tag))))
            }
        }
    }

    /// Ends what the device is done with; how many.
    fn reap(&self, queue: &BlockQueue, index: usize) -> usize {
        let Some(lane) = self.lanes.get(index) else { return 0 };
        lane.queue.drain(|Done { token, .. }| {
            queue.complete(index, token.into(), lane.status(token));
        })
    }

    /// An interrupt of a queue.
    fn interrupt(&self, index: usize) {
        let rcu = rcu::read_lock();
        if let Some(disk) = self.disk.load(&rcu) {
            self.reap(disk.queue(), index);
        }
    }

    fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.load_arc(&rcu::read_lock())
    }

    /// The configuration may have changed.
    fn look_again(&self) {
        if let Some(disk) = self.disk() {
            disk.set_capacity_and_notify(config::capacity(&self.device));
        }
    }

    /// Asks for the serial number, before anybody else uses the device. May sleep.
    fn ask_serial(&self) -> Result<()> {
        let Some(lane) = self.lanes.first() else { return Ok(()) };
        let text: Coherent<u8> = Coherent::new(SERIAL, Reach::Full)?;
        lane.write_header(0, kind::GET_ID, 0, 0);
        let place = Piece { address: text.device_addr().0, len: SERIAL as u32, device_writes: true };
        let pieces = [lane.header(0), place, lane.answer(0)];
        lane.queue.batch().add(0, 3, pieces.into_iter()).map_err(|Full| Errno::EIO)?;
        let mut done = [Done::default(); super::queue::BATCH];
        for _ in 0..1000 {
            if !lane.queue.take(&mut done).is_empty() {
                let _ = lane.queue.arm();
                if lane.status(0).is_ok() {
                    let bytes = (0..SERIAL).map_while(|at| text.read(at).filter(|byte| *byte != 0));
                    let mut serial = String::new();
                    serial.try_reserve(SERIAL * 2).map_err(|_| Errno::ENOMEM)?;
                    serial.extend(bytes.map(char::from));
                    let _ = self.serial.set(serial);
                }
                return Ok(());
            }
            sched::sleep_ns(100_000);
        }
        // It may still write there: that is the end of this memory and of the device.
        core::mem::forget(text);
        Err(Errno::EIO)
    }

    /// Has the device stop, and ends what it had.
    fn end(&self, disk: &Disk, status: Status) {
        self.stopped.store(true, Ordering::SeqCst);
        self.device.stop();
        for (index, lane) in self.lanes.iter().enumerate() {
            for tag in 0..lane.queue.tokens() {
                disk.queue().complete(index, tag.into(), status);
            }
        }
    }
}

impl block::Driver for Blk {
    fn queue_rqs(&self, queue: &BlockQueue, hw: usize, batch: &mut Batch) {
        let Some(lane) = self.lanes.get(hw) else { return };
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let mut ring = lane.queue.batch();
        while let Some(request) = batch.next() {
            if self.put(lane, &mut ring, &request).is_err() {
                batch.put_back(request);
                break;
            }
            // The device does not see it before the end of the batch.
            queue.start(hw, request);
        }
    }

    fn timed_out(&self, queue: &BlockQueue, hw: usize, tag: u32, _sequence: u64) {
        let Some(disk) = self.disk() else { return };
        let name = disk.name();
        let found = self.reap(queue, hw);
        if found > 0 {
            log::warn!("{name}: an interrupt of queue {hw} is missing; {found} requests were done");
            return;
        }
        if self.device.is_gone() {
            return self.end(&disk, Status::Offline);
        }
        log::warn!("{name}: request {tag} of queue {hw} takes long");
    }

    fn poll(&self, queue: &BlockQueue, hw: usize) -> usize {
        self.reap(queue, hw)
    }
}

const ATTRIBUTES: &[Attribute] = &[
    Attribute { group: "", name: "serial", writable: false },
    Attribute { group: "", name: "cache_type", writable: true },
];

/// What users can do with the disk.
struct Ops(Arc<Blk>);

impl DiskOps for Ops {
    fn geometry(&self, disk: &Disk) -> Option<Geometry> {
        let (heads, sectors, cylinders) = config::geometry(&self.0.device).unwrap_or((
            64,
            32,
            u16::try_from(disk.capacity() >> 11).unwrap_or(u16::MAX),
        ));
        Some(Geometry { heads, sectors, cylinders })
    }

    fn attributes(&self) -> &'static [Attribute] {
        ATTRIBUTES
    }

    fn show(&self, disk: &Disk, attribute: &Attribute, to: &mut dyn fmt::Write) -> Result<()> {
        let text = match attribute.name {
            "serial" => self.0.serial.get().map_or("", String::as_str),
            "cache_type" if disk.queue().limits()?.has_write_cache() => "write back",
            "cache_type" => "write through",
            _ => return Err(Errno::EIO),
        };
        to.write_str(text).map_err(|_| Errno::ENOMEM)
    }

    fn store(&self, disk: &Disk, attribute: &Attribute, value: &str) -> Result<()> {
        if attribute.name != "cache_type" {
            return Err(Errno::EIO);
        }
        let on = match value.trim() {
            "write back" => true,
            "write through" => false,
            _ => return Err(Errno::EINVAL),
        };
        if !self.0.device.has(feature::CONFIG_WCE) {
            return Err(Errno::EPERM);
        }
        config::set_cache(&self.0.device, on);
        disk.queue().update_limits(|limits| limits.features.set(Can::WRITE_CACHE, on))
    }
}

struct Here(Arc<Blk>);

impl Bound for Here {
    fn remove(&self) {
        let Some(disk) = self.0.disk() else { return };
        if self.0.device.is_gone() {
            self.0.end(&disk, Status::Offline);
            disk.remove(Removal::Surprise);
        } else {
            disk.remove(Removal::Orderly);
            self.0.end(&disk, Status::Offline);
        }
        // Disk and driver know each other no more.
        drop(self.0.disk.replace(None));
        INDEXES.lock().free(self.0.index);
    }
}

fn probe(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    let major = match MAJOR.get() {
        Some(major) => *major,
        None => {
            let major = disk::register_major("virtblk", 0)?;
            *MAJOR.call_once(|| major)
        }
    };
    let features = device.negotiate(feature::WANTED)?;
    let direct = features & Features::INDIRECT_DESC.bits() == 0;
    let limits = config::limits(device, direct).validated()?;
    let cpus = arch::cpu::possible().count();
    let count = config::queues(device).min(cpus).min(arch::cpu::MAX_CPUS);
    let mut names: Vec<String> = Vec::new();
    for index in 0..count {
        names.try_push(try_format(format_args!("req.{index}"))?)?;
    }
    let pieces = limits.max_segments.saturating_add(2);
    let mut specs = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    for name in &names {
        specs.try_push(QueueSpec { name, pieces, tokens: DEPTH })?;
        texts.try_push(name)?;
    }
    let queues = device.make_queues(&specs)?;
    let depth = queues.iter().map(|queue| queue.tokens()).min().ok_or(Errno::ENODEV)?;
    let mut lanes = try_with_capacity(queues.len())?;
    for queue in &queues {
        lanes.extend([Lane::new(queue.clone())?]);
    }
    let index = INDEXES.lock().alloc().map_err(|_| Errno::ENOSPC)?;
    let blk = try_arc(Blk {
        device: device.clone(),
        index,
        lanes: try_into_boxed_slice(lanes)?,
        limits,
        may_unmap: config::may_unmap(device),
        serial: Once::new(),
        stopped: AtomicBool::new(false),
        disk: RcuPtr::new(None),
    })?;
    let started = start(&blk, &queues, &texts, major, depth);
    if let Err(error) = started {
        device.stop();
        drop(blk.disk.replace(None));
        INDEXES.lock().free(index);
        return Err(error);
    }
    Ok(try_box(Here(blk))?)
}

fn start(blk: &Arc<Blk>, queues: &[Arc<Queue>], names: &[&str], major: u32, depth: u16) -> Result<()> {
    let device = &blk.device;
    let look = Arc::downgrade(blk);
    let work = Work::new(move || {
        if let Some(blk) = look.upgrade() {
            blk.look_again();
        }
    })?;
    // Until the device is stopped.
    let of = blk.clone();
    let queue = move |index: usize| of.interrupt(index);
    let config = move || {
        workqueue::system().queue_work(&work);
    };
    let callbacks = Callbacks { config: try_box(config)?, queue: try_arc(queue)? };
    device.start(queues, names, callbacks)?;
    blk.ask_serial()?;
    let shape = Shape { queues: queues.len(), depth: depth.into(), timeout_ms: TIMEOUT_MS };
    let queue = BlockQueue::new(blk.clone(), shape, blk.limits)?;
    let first = blk.index.checked_mul(MINORS).ok_or(Errno::ENOSPC)?;
    let spec = Spec {
        name: disk::letters("vd", blk.index)?,
        numbers: Numbers::Own { major, first, count: MINORS },
        parent: Some(device.path()?),
        removable: false,
        partitions: true,
        ops: try_arc(Ops(blk.clone()))?,
    };
    let disk = Disk::new(spec, queue)?;
    disk.set_read_only(device.has(feature::RO));
    let sectors = config::capacity(device);
    disk.set_capacity(sectors);
    log::info!(
        "virtio_blk {}: [{}] {} {}-byte logical blocks ({} MB)",
        device.name(),
        disk.name(),
        sectors / u64::from((blk.limits.logical_block_size >> SECTOR_SHIFT).max(1)),
        blk.limits.logical_block_size,
        sectors >> 11
    );
    drop(blk.disk.replace(Some(disk.clone())));
    disk.add()
}
