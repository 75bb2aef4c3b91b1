//! A port with a disk: requests to commands, and back.
//!
//! A request's tag is its slot. Queued commands and others cannot be under way together: one that cannot go yet stays in the
//! batch, with all behind it.
//!
//! # Errors
//!
//! When a command fails the port stops. A thread finds out which one it was (for queued ones the disk keeps a log), starts the
//! port again, resetting the link if need be, ends that one or tries it again, and has all others tried again.
//!
//! Locks: `recovering` (sleeps) → `state` (irq-safe, a leaf but for the places of requests in flight).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use abi::{Errno, Result};
use arch::mmio::MmioRegion;
use arch::sync::SpinLockIrq;
use block::bio::SECTOR_SHIFT;
use block::disk::{Disk, DiskOps, Removal};
use block::{Batch, Driver, Features, Limits, Op, Queue, Request, Status};
use mm::dma;
use sched::mutex::Mutex;
use sched::rcu;
use sync::RcuPtr;

use super::ata::{self, Command, Identity, command};
use super::regs::port as reg;
use super::regs::{PIECE_BYTES, PIECES, PORT_BYTES, port_at};
use super::slots::{SLOTS, Slots};

/// How often a request is tried that could work the next time.
const TRIES: u8 = 4;
/// Milliseconds that a port may take to stop or start.
const STOP_MS: u64 = 500;
/// Milliseconds until there is something at the other end of a link.
const LINK_MS: u64 = 100;
/// Milliseconds that a disk may take to become ready.
const READY_MS: u64 = 10_000;

#[derive(Default)]
struct State {
    /// Slots that the disk has.
    active: u32,
    /// Those of them with queued commands.
    queued: u32,
    /// Nothing is to be sent.
    stopped: bool,
    /// Nor ever again.
    dead: bool,
}

/// What the layers above have of a port.
pub struct Attached {
    pub queue: Arc<Queue>,
    pub disk: Arc<Disk>,
    /// Its name is its own as long.
    pub _index: crate::sd::Index,
}

/// See the module text.
pub struct Port {
    registers: Arc<MmioRegion>,
    number: usize,
    name: alloc::string::String,
    slots: Slots,
    state: SpinLockIrq<State>,
    tries: [AtomicU8; SLOTS],
    recovering: Mutex<()>,
    identity: sync::Once<Identity>,
    /// Whether the controller can have several commands under way.
    queuing: bool,
    pub(super) attached: RcuPtr<Attached>,
}

/// Waits until `done`, for `ms` milliseconds at most. May sleep.
fn wait_for(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = sched::time::monotonic_ns() + ms * 1_000_000;
    let mut pause = 10_000;
    loop {
        if done() {
            return true;
        }
        if sched::time::monotonic_ns() > deadline {
            return false;
        }
        sched::sleep_ns(pause);
        pause = (pause * 2).min(5_000_000);
    }
}

impl Port {
    /// The port `number` of the controller with these registers.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(registers: Arc<MmioRegion>, number: usize, controller: u32, queuing: bool) -> Result<Self> {
        Ok(Self {
            registers,
            number,
            name: mm::try_format(format_args!("ahci{controller}.{number}"))?,
            slots: Slots::new()?,
            state: SpinLockIrq::new(State { stopped: true, ..State::default() }),
            tries: [const { AtomicU8::new(0) }; SLOTS],
            recovering: Mutex::new(()),
            identity: sync::Once::new(),
            queuing,
            attached: RcuPtr::empty(),
        })
    }

    fn read(&self, register: usize) -> u32 {
        debug_assert!(register < PORT_BYTES);
        self.registers.read32(port_at(self.number) + register)
    }

    fn write(&self, register: usize, value: u32) {
        self.registers.write32(port_at(self.number) + register, value);
    }

    fn change(&self, register: usize, clear: u32, set: u32) {
        self.write(register, self.read(register) & !clear | set);
    }

    fn is_linked(&self) -> bool {
        self.read(reg::SSTS) & reg::DETECT == reg::DETECT_READY
    }

    fn is_busy(&self) -> bool {
        self.read(reg::TFD) & (reg::TFD_BUSY | reg::TFD_DATA_REQUEST) != 0
    }

    // ---- start and stop ----------------------------------------------------------------------

    /// Stops it: it forgets its commands. May sleep.
    fn stop(&self) -> Result<()> {
        self.write(reg::IE, 0);
        self.change(reg::CMD, reg::CMD_START, 0);
        let stopped = wait_for(STOP_MS, || self.read(reg::CMD) & reg::CMD_RUNNING == 0);
        self.change(reg::CMD, reg::CMD_RECEIVE, 0);
        let silent = wait_for(STOP_MS, || self.read(reg::CMD) & reg::CMD_RECEIVING == 0);
        if stopped && silent { Ok(()) } else { Err(Errno::ETIMEDOUT) }
    }

    /// Has it listen to the device.
    fn listen(&self) {
        let (list, received) = (self.slots.list_at(), self.slots.received_at());
        self.write(reg::CLB, list as u32);
        self.write(reg::CLBU, (list >> 32) as u32);
        self.write(reg::FB, received as u32);
        self.write(reg::FBU, (received >> 32) as u32);
        self.change(reg::CMD, 0, reg::CMD_RECEIVE | reg::CMD_SPIN_UP | reg::CMD_POWER_ON);
        self.write(reg::SERR, u32::MAX);
        self.write(reg::IS, u32::MAX);
    }

    fn start(&self) {
        self.write(reg::SERR, u32::MAX);
        self.write(reg::IS, u32::MAX);
        self.change(reg::CMD, 0, reg::CMD_START);
    }

    /// Resets the link, and with it the disk.
    fn reset_link(&self) -> Result<()> {
        self.change(reg::SCTL, reg::DETECT, reg::SCTL_RESET);
        sched::sleep_ns(1_000_000);
        self.change(reg::SCTL, reg::DETECT, 0);
        if !wait_for(LINK_MS, || self.is_linked()) {
            return Err(Errno::ENODEV);
        }
        self.write(reg::SERR, u32::MAX);
        if wait_for(READY_MS, || !self.is_busy()) { Ok(()) } else { Err(Errno::ETIMEDOUT) }
    }

    /// Gives its memory up: the controller does not write there any more, if this returns `Ok`.
    ///
    /// # Errors
    /// `ETIMEDOUT`.
    pub fn shut_down(&self) -> Result<()> {
        self.state.lock().stopped = true;
        self.stop()
    }

    // ---- looking for a disk ------------------------------------------------------------------

    /// Finds out what is at the other end. `None`: nothing that this driver knows. May sleep for long.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `EIO`, `ENODEV`, `ENOMEM`.
    pub fn find(&self) -> Result<Option<&Identity>> {
        self.stop()?;
        self.listen();
        if !wait_for(LINK_MS, || self.is_linked()) {
            return Ok(None);
        }
        self.write(reg::SERR, u32::MAX);
        if !wait_for(READY_MS, || !self.is_busy()) {
            self.reset_link()?;
        }
        match self.read(reg::SIG) {
            reg::SIG_ATA => {}
            reg::SIG_ATAPI => {
                log::info!("{}: packet devices are not supported", self.name);
                return Ok(None);
            }
            other => {
                log::info!("{}: a device of unknown kind {other:#x}", self.name);
                return Ok(None);
            }
        }
        self.start();
        self.ask(&Command::plain(command::IDENTIFY_DEVICE))?;
        let identity = Identity::parse(|word| self.slots.word(word))?;
        Ok(Some(self.identity.call_once(|| identity)))
    }

    /// Has the disk fill the driver's own sector; nothing else is under way. May sleep.
    fn ask(&self, command: &Command) -> Result<()> {
        let memory = core::iter::once(self.slots.sector_at());
        self.slots.put(0, command, memory).map_err(|_| Errno::EIO)?;
        dma::write_barrier();
        self.write(reg::CI, 1);
        let over = || self.read(reg::CI) & 1 == 0 || self.read(reg::IS) & reg::INT_ERRORS != 0;
        let answered = wait_for(READY_MS, over);
        let failed = self.read(reg::TFD) & reg::TFD_ERROR != 0 || self.read(reg::CI) & 1 != 0;
        self.write(reg::IS, u32::MAX);
        dma::read_barrier();
        match (answered, failed) {
            (false, _) => Err(Errno::ETIMEDOUT),
            (true, true) => Err(Errno::EIO),
            (true, false) => Ok(()),
        }
    }

    /// Requests that it takes.
    pub fn depth(&self, slots: u32) -> u32 {
        let disk = self.identity.get().map_or(1, |identity| identity.depth);
        if self.is_queuing() { disk.min(slots).min(SLOTS as u32) } else { 1 }
    }

    fn is_queuing(&self) -> bool {
        self.queuing && self.identity.get().is_some_and(|identity| identity.depth > 1)
    }

    /// What the block layer has to know.
    pub fn limits(identity: &Identity) -> Limits {
        let scale = identity.shift - SECTOR_SHIFT;
        let mut features = Features::IO_STAT;
        features.set(Features::WRITE_CACHE, identity.write_cache);
        features.set(Features::FUA, identity.write_cache && identity.fua);
        features.set(Features::ROTATIONAL | Features::ADD_RANDOM, identity.rotational);
        let physical = identity.shift + identity.physical_shift;
        Limits {
            logical_block_size: 1 << identity.shift,
            physical_block_size: 1 << physical.min(16),
            max_hw_sectors: 0xffff << scale,
            max_segments: PIECES as u16,
            max_segment_size: PIECE_BYTES,
            max_discard_sectors: if identity.trim { (ata::MAX_TRIM << scale) as u32 } else { 0 },
            features,
            ..Limits::default()
        }
    }

    /// It takes requests from now on.
    pub fn go(&self) {
        self.write(reg::IS, u32::MAX);
        self.state.lock().stopped = false;
        self.write(reg::IE, reg::INT_ALL);
    }

    // ---- requests ----------------------------------------------------------------------------

    /// Makes the slot of a request its command.
    fn prepare(&self, request: &Request, queued: bool, limits: &Limits) -> Result<(), Status> {
        let identity = self.identity.get().ok_or(Status::IoError)?;
        let (slot, scale) = (request.tag(), identity.shift - SECTOR_SHIFT);
        let (lba, sectors) = (request.sector() >> scale, request.len() >> identity.shift);
        match request.op() {
            Op::Read | Op::Write => {
                let queued = queued.then_some(slot);
                let command = Command::transfer(request.op(), request.flags(), lba, sectors, queued)
                    .map_err(|_| Status::IoError)?;
                self.slots.put(slot, &command, request.pieces(limits))
            }
            Op::Flush => self.slots.put(slot, &Command::plain(command::FLUSH_CACHE_EXT), core::iter::empty()),
            Op::Discard => {
                let entries = ata::trim_entries(lba, sectors.into()).map_err(|_| Status::IoError)?;
                let memory = self.slots.put_trim(slot, entries);
                self.slots.put(slot, &Command::trim(), core::iter::once(memory))
            }
            Op::SecureErase | Op::WriteZeroes => Err(Status::NotSupported),
        }
    }

    /// Takes what is over from the disk.
    fn reap(&self, queue: &Queue) -> u32 {
        let mut done = {
            let mut state = self.state.lock();
            let pending = self.read(reg::SACT) | self.read(reg::CI);
            let done = state.active & !pending;
            state.active &= pending;
            state.queued &= pending;
            done
        };
        dma::read_barrier();
        let all = done;
        while done != 0 {
            let tag = done.trailing_zeros();
            done &= done - 1;
            if let Some(tries) = self.tries.get(tag as usize) {
                tries.store(0, Ordering::Relaxed);
            }
            queue.complete(0, tag, Status::Ok);
        }
        all
    }

    /// An interrupt of this port. Whether it needs [`recover`](Self::recover), which may sleep.
    pub fn interrupt(&self) -> bool {
        let status = self.read(reg::IS);
        self.write(reg::IS, status);
        let lost = status & reg::INT_LINK != 0 && !self.is_linked();
        let failed = status & reg::INT_ERRORS != 0 || lost;
        if failed {
            self.state.lock().stopped = true;
            self.write(reg::IE, 0);
        }
        let guard = rcu::read_lock();
        if let Some(attached) = self.attached.load(&guard) {
            self.reap(&attached.queue);
        }
        failed
    }

    /// Finds out what failed, and goes on. `expired`: a request that was not answered. May sleep.
    pub fn recover(&self, expired: Option<u32>) {
        let _alone = self.recovering.lock();
        let attached = self.attached.load_arc(&rcu::read_lock());
        let Some(attached) = attached else { return };
        let queue = &attached.queue;
        let current = self.read(reg::CMD) >> 8 & 0x1f;
        let error = (self.read(reg::TFD) >> 8) as u8;
        self.reap(queue);
        let (active, queued, dead) = {
            let state = self.state.lock();
            (state.active, state.queued, state.dead)
        };
        if dead {
            return;
        }
        log::warn!("{}: error {error:#x}, commands {active:#x}, starting again", self.name);
        let restarted = self.restart(expired.is_some());
        let failed = match (expired, &restarted) {
            (_, Err(_)) => None,
            (Some(tag), _) => Some((tag, Status::Timeout)),
            (None, _) if queued != 0 => self.failed_of_queue(),
            (None, _) if active != 0 => Some((current, ata::failure(error))),
            (None, _) => None,
        };
        {
            let mut state = self.state.lock();
            (state.active, state.queued) = (0, 0);
            state.dead = restarted.is_err();
        }
        for tag in (0..SLOTS as u32).filter(|tag| active & 1 << tag != 0) {
            let own = failed.filter(|(failed, _)| *failed == tag);
            self.again(queue, tag, own.map(|(_, status)| status), restarted.is_err());
        }
        match restarted {
            Ok(()) => self.go(),
            Err(error) => {
                log::error!("{}: the disk does not come back: error {}", self.name, -error.code());
                attached.disk.remove(Removal::Surprise);
            }
        }
        queue.kick(0);
    }

    /// The controller is gone: all requests end.
    pub fn give_up(&self, queue: &Queue) {
        let active = {
            let mut state = self.state.lock();
            (state.stopped, state.dead) = (true, true);
            state.queued = 0;
            core::mem::take(&mut state.active)
        };
        for tag in (0..SLOTS as u32).filter(|tag| active & 1 << tag != 0) {
            queue.complete(0, tag, Status::Offline);
        }
        queue.kick(0);
    }

    /// What becomes of a request that the disk has forgotten.
    fn again(&self, queue: &Queue, tag: u32, failure: Option<Status>, dead: bool) {
        let Some(tries) = self.tries.get(tag as usize) else { return };
        if dead {
            queue.complete(0, tag, Status::Offline);
            return;
        }
        match failure {
            // The medium does not get better; the link may.
            Some(status @ (Status::Medium | Status::Target)) => drop(queue.complete(0, tag, status)),
            Some(status) if tries.fetch_add(1, Ordering::Relaxed) + 1 >= TRIES => {
                tries.store(0, Ordering::Relaxed);
                queue.complete(0, tag, status);
            }
            _ => drop(queue.requeue(0, tag)),
        }
    }

    fn restart(&self, reset: bool) -> Result<()> {
        let stopped = self.stop();
        self.listen();
        if reset || stopped.is_err() || self.is_busy() || !self.is_linked() {
            self.reset_link()?;
        }
        self.start();
        Ok(())
    }

    /// The queued command that failed, by the disk's log of it.
    fn failed_of_queue(&self) -> Option<(u32, Status)> {
        const LOG: u64 = 0x10;
        let command = Command { lba: LOG, count: 1, ..Command::plain(command::READ_LOG_EXT) };
        if self.ask(&command).is_err() {
            return None;
        }
        let [flags, _] = self.slots.word(0).to_le_bytes();
        let [_, error] = self.slots.word(1).to_le_bytes();
        let not_queued = flags & 1 << 7 != 0;
        (!not_queued).then(|| (u32::from(flags & 0x1f), ata::failure(error)))
    }
}

impl Driver for Port {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        let Ok(limits) = queue.limits() else { return };
        let queuing = self.is_queuing();
        let mut wrong: Option<(_, Status)> = None;
        loop {
            {
                let mut state = self.state.lock();
                let (mut issue, mut tags) = (0, 0);
                while let Some(request) = batch.peek() {
                    let queued = queuing && request.op().has_data();
                    let others = if queued { state.active & !state.queued } else { state.active };
                    if others != 0 || state.stopped {
                        break;
                    }
                    let prepared = self.prepare(request, queued, &limits);
                    let Some(request) = batch.next() else { break };
                    if let Err(status) = prepared {
                        wrong = Some((request, status));
                        break;
                    }
                    let bit = 1_u32.checked_shl(request.tag()).unwrap_or(0);
                    queue.start(hw, request);
                    state.active |= bit;
                    issue |= bit;
                    if queued {
                        state.queued |= bit;
                        tags |= bit;
                    }
                }
                if issue != 0 {
                    dma::write_barrier();
                    if tags != 0 {
                        self.write(reg::SACT, tags);
                    }
                    self.write(reg::CI, issue);
                }
            }
            match wrong.take() {
                Some((request, status)) => queue.end(hw, request, status),
                None => break,
            }
        }
        if !batch.is_empty() && self.state.lock().dead {
            while let Some(request) = batch.next() {
                queue.end(hw, request, Status::Offline);
            }
        }
    }

    fn timed_out(&self, queue: &Queue, _hw: usize, tag: u32, _sequence: u64) {
        let answered = self.reap(queue);
        if answered & 1_u32.checked_shl(tag).unwrap_or(0) != 0 {
            log::warn!("{}: command {tag} was over, but no interrupt came", self.name);
            return;
        }
        self.state.lock().stopped = true;
        self.write(reg::IE, 0);
        self.recover(Some(tag));
    }
}

impl DiskOps for Port {}
