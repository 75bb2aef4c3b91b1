//! Commands to the controller itself: one at a time, and the caller sleeps.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use mm::dma::{Coherent, Reach};
use sched::hrtimer::Deadline;
use sched::mutex::Mutex;
use sched::wait::WaitQueue;

use super::pair::{Completion, Pair};
use super::regs::{Bells, Command, admin};

/// Entries of the queue.
const ENTRIES: u16 = 32;
/// How long a command may take.
const TIMEOUT_MS: u64 = 60_000;
/// After how long the ring is looked at although no interrupt came.
const LOOK_MS: u64 = 100;
/// Bytes of what the controller tells of itself.
pub const PAGE: usize = 4096;

/// The queue of admin commands.
pub struct Admin {
    pub(super) pair: Pair,
    /// Who sends a command, and what the last one was called.
    turn: Mutex<u16>,
    /// The last completion.
    answer: SpinLockIrq<Option<Completion>>,
    waiting: WaitQueue,
}

impl Admin {
    /// A queue that the controller does not know yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(bells: Arc<dyn Bells>) -> Result<Self> {
        Ok(Self {
            pair: Pair::new(0, ENTRIES, bells)?,
            turn: Mutex::new(0),
            answer: SpinLockIrq::new(None),
            waiting: WaitQueue::new(),
        })
    }

    /// An interrupt came. Any context.
    pub fn interrupt(&self) {
        let mut any = false;
        self.pair.reap(|completion| {
            *self.answer.lock() = Some(completion);
            any = true;
        });
        if any {
            self.waiting.wake_all();
        }
    }

    /// Has the controller do something; dword 0 of the completion.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `ENODEV`: the controller takes no commands; what the status stands for.
    pub fn run(&self, mut command: Command) -> Result<u32> {
        let mut turn = self.turn.lock();
        *turn = turn.wrapping_add(1);
        command.id = *turn;
        *self.answer.lock() = None;
        self.pair.submit().ok_or(Errno::ENODEV)?.push(&command);
        let over = |answer: Option<Completion>| answer.filter(|completion| completion.id == command.id);
        for _ in 0..TIMEOUT_MS / LOOK_MS {
            self.waiting
                .wait_event_timeout(Deadline::after_ms(LOOK_MS), || over(*self.answer.lock()).is_some());
            if over(*self.answer.lock()).is_none() {
                // Without an interrupt it may be over all the same.
                self.interrupt();
            }
            if let Some(completion) = over(*self.answer.lock()) {
                completion.status.block().result()?;
                return Ok(completion.result);
            }
        }
        Err(Errno::ETIMEDOUT)
    }

    /// What the controller says of itself, of a namespace, or which namespaces there are.
    ///
    /// # Errors
    /// As [`run`](Self::run); `ENOMEM`.
    pub fn identify(&self, what: u32, nsid: u32) -> Result<Coherent<u8>> {
        // Not given back while the controller may still write to it.
        let page = ManuallyDrop::new(Coherent::<u8>::new(PAGE, Reach::Full)?);
        let result = self.run(Command {
            opcode: admin::IDENTIFY,
            nsid,
            prp1: page.device_addr().0,
            dwords: [what, 0, 0, 0, 0, 0],
            ..Command::default()
        });
        if result == Err(Errno::ETIMEDOUT) {
            return Err(Errno::ETIMEDOUT);
        }
        let page = ManuallyDrop::into_inner(page);
        result.map(|_| page)
    }

    /// Asks for so many pairs of queues; how many there are.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn set_queues(&self, wanted: u16) -> Result<u16> {
        let most = u32::from(wanted.max(1)) - 1;
        let answer = self.run(Command {
            opcode: admin::SET_FEATURES,
            dwords: [admin::NUMBER_OF_QUEUES, most << 16 | most, 0, 0, 0, 0],
            ..Command::default()
        })?;
        Ok((answer as u16).min((answer >> 16) as u16).saturating_add(1).min(wanted))
    }

    /// Makes a pair known, with this interrupt.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn create(&self, pair: &Pair, vector: u16) -> Result<()> {
        let size_and_id = u32::from(pair.entries() - 1) << 16 | u32::from(pair.id());
        self.run(Command {
            opcode: admin::CREATE_CQ,
            prp1: pair.completions_at(),
            dwords: [
                size_and_id,
                u32::from(vector) << 16 | admin::INTERRUPTS | admin::CONTIGUOUS,
                0,
                0,
                0,
                0,
            ],
            ..Command::default()
        })?;
        self.run(Command {
            opcode: admin::CREATE_SQ,
            prp1: pair.commands_at(),
            dwords: [size_and_id, u32::from(pair.id()) << 16 | admin::CONTIGUOUS, 0, 0, 0, 0],
            ..Command::default()
        })?;
        Ok(())
    }
}
