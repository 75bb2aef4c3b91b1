//! What a task is doing: the bits of `task_struct::__state`, with Linux's numbers.

use bitflags::bitflags;

bitflags! {
    /// The state of a task; no bit set means that it runs or is on a run queue.
    ///
    /// The sleeper's protocol is Linux's: set the state, look at the condition, call
    /// [`crate::schedule`]. The waker changes the condition first and then calls
    /// [`crate::wake_up`]; full barriers on both sides make one of the two see the other.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct State: u32 {
        /// Sleeps; signals wake it.
        const INTERRUPTIBLE = 0x0001;
        /// Sleeps; only what it waits for wakes it.
        const UNINTERRUPTIBLE = 0x0002;
        /// Stopped by job control (without the kill bit; use [`Self::STOPPED`]).
        const STOPPED_BIT = 0x0004;
        /// Stopped for its tracer (without the kill bit; use [`Self::TRACED`]).
        const TRACED_BIT = 0x0008;
        /// A kernel thread that is parked for a CPU going down.
        const PARKED = 0x0040;
        /// Will never run again; the last switch away from it releases its stack.
        const DEAD = 0x0080;
        /// Fatal signals wake it.
        const WAKEKILL = 0x0100;
        /// A waker has claimed it and will put it on a run queue.
        const WAKING = 0x0200;
        /// Does not count for the load average.
        const NOLOAD = 0x0400;
        /// Made, and not yet woken for the first time.
        const NEW = 0x0800;

        /// Sleeps; only fatal signals and what it waits for wake it.
        const KILLABLE = Self::WAKEKILL.bits() | Self::UNINTERRUPTIBLE.bits();
        /// Sleeps uninterruptibly without counting as load: idle kernel threads.
        const IDLE = Self::UNINTERRUPTIBLE.bits() | Self::NOLOAD.bits();
        /// Stopped by job control.
        const STOPPED = Self::WAKEKILL.bits() | Self::STOPPED_BIT.bits();
        /// Stopped for its tracer.
        const TRACED = Self::WAKEKILL.bits() | Self::TRACED_BIT.bits();
        /// What [`crate::wake_up`] wakes normally: any ordinary sleep.
        const NORMAL = Self::INTERRUPTIBLE.bits() | Self::UNINTERRUPTIBLE.bits();
    }
}

impl State {
    /// Running or waiting for a CPU.
    pub const RUNNING: Self = Self::empty();
}

impl State {
    /// Whether the task runs or waits only for a CPU.
    pub const fn is_running(self) -> bool {
        self.is_empty()
    }

    /// The letter of `/proc/PID/stat` (`proc_pid_stat(5)`). `DEAD` shows as `X`; whether a dead task
    /// is a zombie is for the owner of processes to say.
    pub const fn letter(self) -> char {
        if self.is_empty() || self.intersects(Self::NEW) {
            'R'
        } else if self.intersects(Self::TRACED_BIT) {
            't'
        } else if self.intersects(Self::STOPPED_BIT) {
            'T'
        } else if self.intersects(Self::DEAD) {
            'X'
        } else if self.intersects(Self::PARKED) {
            'P'
        } else if self.intersects(Self::INTERRUPTIBLE) {
            'S'
        } else if self.contains(Self::IDLE) {
            'I'
        } else if self.intersects(Self::UNINTERRUPTIBLE) {
            'D'
        } else {
            'R'
        }
    }

    /// Whether this sleep counts for the load average.
    pub const fn contributes_to_load(self) -> bool {
        self.intersects(Self::UNINTERRUPTIBLE) && !self.intersects(Self::NOLOAD)
    }
}

/// A sleep ended because of a signal (or, for killable sleeps, a fatal one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for abi::Errno {
    /// `ERESTARTSYS`: signal delivery decides between `EINTR` and a restart.
    fn from(_: Interrupted) -> Self {
        Self::ERESTARTSYS
    }
}

/// Why a wait with a deadline ended without its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// A signal.
    Interrupted,
    /// The deadline.
    TimedOut,
}

impl From<WaitError> for abi::Errno {
    /// `ERESTARTSYS` or `ETIMEDOUT`.
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Self::ERESTARTSYS,
            WaitError::TimedOut => Self::ETIMEDOUT,
        }
    }
}
