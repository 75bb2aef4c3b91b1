//! virtio SCSI hosts (5.6).
//!
//! Queues: control, events, and those for commands, as many as there are CPUs if the device has them. All units behind the host share
//! them, so a command gets a token of its queue when it goes; its header and answer are in memory that belongs to the token.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use mm::dma::{Coherent, Reach};
use mm::fallible::{TryVec, try_arc, try_box, try_format, try_into_boxed_slice, try_with_capacity};
use sched::completion::Completion;
use sched::mutex::Mutex;

use super::queue::{Batch, Piece, Queue};
use super::{Bound, Callbacks, Device, Driver, Features, QueueSpec, id};
use crate::scsi::{self, Answer, Can, Command, Full, Host, Item, Lost, Outcome, Owner, Ring, Unit, sense};

/// The driver.
pub static DRIVER: Driver = Driver { name: "virtio_scsi", id: id::SCSI, probe };

/// Queues before those for commands.
const FIRST: usize = 2;
/// Commands of a queue at a time.
const DEPTH: u16 = 128;
/// The most pieces of data of a command.
const MAX_PIECES: u32 = 126;
/// How long a command may take that somebody waits for.
const WAIT_NS: u64 = 10_000_000_000;

/// Offsets in the configuration (5.6.4).
mod at {
    pub const NUM_QUEUES: usize = 0;
    pub const SEG_MAX: usize = 4;
    pub const MAX_SECTORS: usize = 8;
    pub const CMD_PER_LUN: usize = 12;
    pub const SENSE_SIZE: usize = 20;
    pub const CDB_SIZE: usize = 24;
    pub const MAX_TARGET: usize = 30;
    pub const MAX_LUN: usize = 32;
}

/// Of a token's memory, in words: the header of a command (51 bytes), and its answer (12 bytes and sense data).
const WORDS: usize = 32;
const HEADER: u32 = 51;
const ANSWER_AT: usize = 8;
const SENSE: u32 = 96;
const ANSWER: u32 = 12 + SENSE;

/// How a command got to its unit (5.6.6.1.1).
mod response {
    pub const OK: u8 = 0;
    pub const BAD_TARGET: u8 = 3;
    pub const RESET: u8 = 4;
    pub const BUSY: u8 = 5;
    pub const INCORRECT_LUN: u8 = 11;
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whom a command belongs to.
type Claim = Option<(Arc<dyn Owner>, u32)>;

/// A queue for commands and what belongs to its tokens.
struct Lane {
    queue: Arc<Queue>,
    memory: Coherent<u64>,
    /// Tokens that nobody has.
    free: SpinLockIrq<Vec<u16>>,
    owners: Box<[SpinLockIrq<Claim>]>,
}

struct Scsi {
    device: Arc<Device>,
    number: u32,
    lanes: Box<[Lane]>,
    can: Can,
    stopped: AtomicBool,
    disks: Mutex<Vec<Arc<scsi::disk::Disk>>>,
}

impl Lane {
    fn new(queue: Arc<Queue>) -> Result<Self> {
        let tokens = queue.tokens();
        let mut free = try_with_capacity(tokens.into())?;
        free.extend((0..tokens).rev());
        let mut owners = try_with_capacity(tokens.into())?;
        owners.extend((0..tokens).map(|_| SpinLockIrq::new(None)));
        Ok(Self {
            memory: Coherent::new(usize::from(tokens) * WORDS, Reach::Full)?,
            queue,
            free: SpinLockIrq::new(free),
            owners: try_into_boxed_slice(owners)?,
        })
    }

    fn write_header(&self, token: u16, unit: Unit, command: &Command) {
        let first = usize::from(token) * WORDS;
        let mut bytes = [0u8; 56];
        let [target, lun] = [unit.target as u8, unit.lun as u8];
        let head = [1, target, 0x40 | (unit.lun >> 8) as u8, lun];
        let id = u64::from(token).to_le_bytes();
        // The unit, an id, attributes (none), the command.
        let parts = [(0, &head[..]), (8, &id[..]), (19, command.bytes())];
        for (at, part) in parts {
            for (to, from) in bytes.iter_mut().skip(at).zip(part) {
                *to = *from;
            }
        }
        for (word, bytes) in bytes.chunks_exact(8).enumerate() {
            self.memory.write(first + word, bytes.try_into().map_or(0, u64::from_le_bytes));
        }
        // An answer that never came is a failure.
        self.memory.write(first + ANSWER_AT, 0);
        self.memory.write(first + ANSWER_AT + 1, 0xff << 24);
    }

    fn outcome(&self, token: u16) -> Outcome {
        let first = usize::from(token) * WORDS + ANSWER_AT;
        let word = |at: usize| self.memory.read(first + at).unwrap_or(0);
        // sense length, residual; qualifier, status, response, then sense data.
        let (missing, rest) = ((word(0) >> 32) as u32, word(1));
        let (status, response) = ((rest >> 16) as u8, (rest >> 24) as u8);
        match response {
            response::OK => {}
            response::BAD_TARGET | response::INCORRECT_LUN => return Err(Lost::NoDevice),
            response::RESET => return Err(Lost::Reset),
            response::BUSY => return Err(Lost::Busy),
            _ => return Err(Lost::Failed),
        }
        let mut answer = Answer { status, sense: [0; sense::LEN], missing };
        let there = (word(0) as u32).min(SENSE) as usize;
        for (at, byte) in answer.sense.iter_mut().enumerate().take(there) {
            let place = 12 + at;
            *byte = word(place / 8).to_le_bytes().get(place % 8).copied().unwrap_or(0);
        }
        Ok(answer)
    }

    /// Takes the owner of a token out, and frees the token.
    fn release(&self, token: u16) -> Claim {
        let owner = self.owners.get(usize::from(token))?.lock().take();
        if owner.is_some() {
            // There is room: it was taken from here.
            self.free.lock().extend([token]);
        }
        owner
    }

    fn reap(&self, index: usize) -> usize {
        self.queue.drain(|done| {
            let outcome = self.outcome(done.token);
            if let Some((owner, tag)) = self.release(done.token) {
                owner.done(index, tag, outcome);
            }
        })
    }
}

/// A queue that is being filled.
struct Filling<'a> {
    lane: &'a Lane,
    batch: Batch<'a>,
}

impl Ring for Filling<'_> {
    fn add(&mut self, item: Item<'_>) -> core::result::Result<(), Full> {
        let Item { unit, owner, tag, command, data, pieces, device_writes } = item;
        let lane = self.lane;
        let token = lane.free.lock().pop().ok_or(Full)?;
        lane.write_header(token, unit, &command);
        let base = lane.memory.device_addr().0 + (usize::from(token) * WORDS * 8) as u64;
        let header = Piece { address: base, len: HEADER, device_writes: false };
        let answer = Piece { address: base + (ANSWER_AT * 8) as u64, len: ANSWER, device_writes: true };
        if let Some(slot) = lane.owners.get(usize::from(token)) {
            *slot.lock() = Some((owner.clone(), tag));
        }
        let data = data.map(|(address, len)| Piece { address, len, device_writes });
        // What the device reads goes before what it writes.
        let added = if device_writes {
            let all = [header, answer].into_iter().chain(data);
            self.batch.add(token, pieces + 2, all)
        } else {
            let all = core::iter::once(header).chain(data).chain([answer]);
            self.batch.add(token, pieces + 2, all)
        };
        if added.is_err() {
            drop(lane.release(token));
            return Err(Full);
        }
        Ok(())
    }
}

/// Somebody who waits for one command.
struct Waiter {
    done: Completion,
    outcome: SpinLockIrq<Option<Outcome>>,
    /// Memory that the device may write, until the command is over.
    _buffer: Arc<Coherent<u8>>,
}

impl Owner for Waiter {
    fn done(&self, _: usize, _: u32, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.done.complete();
    }
}

impl Host for Scsi {
    fn can(&self) -> Can {
        self.can
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn path(&self) -> Result<String> {
        Ok(try_format(format_args!("{}/host{}", self.device.path()?, self.number))?)
    }

    fn submit(&self, queue: usize, fill: &mut dyn FnMut(&mut dyn Ring)) {
        if let Some(lane) = self.lanes.get(queue)
            && !self.stopped.load(Ordering::Acquire)
        {
            fill(&mut Filling { lane, batch: lane.queue.batch() });
        }
    }

    fn poll(&self, queue: usize) -> usize {
        self.lanes.get(queue).map_or(0, |lane| lane.reap(queue))
    }

    fn execute(&self, unit: Unit, command: Command, buffer: &Arc<Coherent<u8>>) -> Result<Answer> {
        let waiter = try_arc(Waiter {
            done: Completion::new(),
            outcome: SpinLockIrq::new(None),
            _buffer: buffer.clone(),
        })?;
        let owner: Arc<dyn Owner> = waiter.clone();
        let mut added = false;
        let one = (buffer.device_addr().0, u32::try_from(buffer.len()).map_err(|_| Errno::EINVAL)?);
        self.submit(0, &mut |ring| {
            let data = &mut core::iter::once(one);
            let item = Item { unit, owner: &owner, tag: 0, command, data, pieces: 1, device_writes: true };
            added = ring.add(item).is_ok();
        });
        if !added {
            return Err(Errno::EAGAIN);
        }
        if !waiter.done.wait_timeout(sched::hrtimer::Deadline::after_ns(WAIT_NS)) && self.poll(0) == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let outcome = waiter.outcome.lock().take();
        match outcome {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Lost::NoDevice)) => Err(Errno::ENODEV),
            Some(Err(_)) => Err(Errno::EIO),
            None => Err(Errno::ETIMEDOUT),
        }
    }
}

impl Scsi {
    /// Stops the device and ends all that it had.
    fn end(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.device.stop();
        for (index, lane) in self.lanes.iter().enumerate() {
            for token in 0..lane.queue.tokens() {
                if let Some((owner, tag)) = lane.release(token) {
                    owner.done(index, tag, Err(Lost::NoDevice));
                }
            }
        }
    }
}

struct Here(Arc<Scsi>);

impl Bound for Here {
    fn remove(&self) {
        self.0.end();
        let disks = core::mem::take(&mut *self.0.disks.lock());
        disks.iter().for_each(|disk| disk.detach());
    }
}

fn word(device: &Device, offset: usize) -> u32 {
    device.config(|transport| transport.config32(offset)).unwrap_or(0)
}

fn half(device: &Device, offset: usize) -> u16 {
    device.config(|transport| transport.config16(offset)).unwrap_or(0)
}

fn probe(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    let features = device.negotiate(0)?;
    // The sizes that the memory of tokens is made for are those of a reset device.
    if word(device, at::SENSE_SIZE) != SENSE || word(device, at::CDB_SIZE) != 32 {
        return Err(Errno::EINVAL);
    }
    let cpus = arch::cpu::possible().count();
    let count = (word(device, at::NUM_QUEUES) as usize).clamp(1, cpus);
    let most = if features & Features::INDIRECT_DESC.bits() == 0 { 14 } else { MAX_PIECES };
    let pieces = word(device, at::SEG_MAX).clamp(1, most) as u16;
    let mut specs = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for index in 0..FIRST + count {
        let (name, pieces, tokens) = match index {
            0 => ("control", 2, 8),
            1 => ("event", 1, 8),
            _ => ("request", pieces + 2, DEPTH),
        };
        specs.try_push(QueueSpec { name, pieces, tokens })?;
        names.try_push(name)?;
    }
    let queues = device.make_queues(&specs)?;
    let mut lanes = try_with_capacity(count)?;
    for queue in queues.iter().skip(FIRST) {
        lanes.extend([Lane::new(queue.clone())?]);
    }
    let depth = queues.iter().skip(FIRST).map(|queue| queue.tokens()).min().ok_or(Errno::ENODEV)?;
    let per_unit = word(device, at::CMD_PER_LUN).max(1);
    let can = Can {
        queues: count,
        depth: u32::from(depth).min(per_unit),
        pieces,
        sectors: match word(device, at::MAX_SECTORS) {
            0 => 0xffff,
            most => most,
        },
        last_target: half(device, at::MAX_TARGET).min(255),
        last_lun: word(device, at::MAX_LUN).min(0x3fff) as u16,
    };
    let scsi = try_arc(Scsi {
        device: device.clone(),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        lanes: try_into_boxed_slice(lanes)?,
        can,
        stopped: AtomicBool::new(false),
        disks: Mutex::new(Vec::new()),
    })?;
    let of = scsi.clone();
    let queue = move |index: usize| {
        if let Some(index) = index.checked_sub(FIRST) {
            of.poll(index);
        }
    };
    let callbacks = Callbacks { config: try_box(|| {})?, queue: try_arc(queue)?, first: FIRST };
    if let Err(error) = device.start(&queues, &names, callbacks) {
        device.stop();
        return Err(error);
    }
    let of = scsi.clone();
    crate::probe::in_background("scsi_scan", move || {
        let host: Arc<dyn Host> = of.clone();
        match scsi::scan::scan(&host) {
            Ok(found) => *of.disks.lock() = found,
            Err(error) => log::warn!("scsi host{}: {error}", of.number),
        }
    })?;
    Ok(try_box(Here(scsi))?)
}
