//! Bringing all threads of a dying process to rest, with their registers noted.

use crate::process::thread::flags;
use crate::process::{CurrentThread, Usage};
use crate::signal::Signal;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::ptrace::REGSETS;
use arch::sync::SpinLock;
use arch::thread::ThreadFlags;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use mm::fallible::{TryVec, try_arc, try_vec};
use sched::wait::WaitQueue;

/// One register set of a thread.
pub struct Registers {
    /// `NT_*`.
    pub note: u32,
    /// The note's name; for the general registers, which are part of another note, of no use.
    pub owner: &'static str,
    /// The set.
    pub bytes: Vec<u8>,
}

/// What is noted of a thread.
pub struct ThreadState {
    /// Its id, as the process sees it.
    pub tid: i32,
    /// Pending signals.
    pub pending: u64,
    /// Blocked signals.
    pub blocked: u64,
    /// What it used.
    pub usage: Usage,
    /// General registers first. What there was no memory for is missing.
    pub registers: Vec<Registers>,
}

impl ThreadState {
    /// Of the running thread.
    pub fn of(me: &CurrentThread) -> Self {
        let pending = me.signals.pending.lock().set().0;
        let mut registers = Vec::new();
        for set in REGSETS {
            let general = set.note == arch::ptrace::NT_PRSTATUS;
            let len = (set.len)();
            if len == 0 || !(set.in_core || general) || registers.try_reserve(1).is_err() {
                continue;
            }
            let Ok(mut bytes) = try_vec(0, len) else { continue };
            sched::current().with_registers(|machine, frame| (set.get)(machine, frame, &mut bytes));
            registers.push_reserved(Registers { note: set.note, owner: set.owner, bytes });
        }
        Self { tid: me.tid(), pending, blocked: me.blocked().0, usage: Usage::of(me.task()), registers }
    }
}

/// A dump in the making: between the thread that makes it and those that stand by.
pub struct Dump {
    /// Threads that have not arrived.
    left: AtomicU32,
    /// Those that have, in the order of arrival.
    pub threads: SpinLock<Vec<ThreadState>>,
    arrived: WaitQueue,
    is_over: AtomicBool,
    over: WaitQueue,
}

/// Makes the running thread the one that dumps, and waits for all others. `None`: the process is ending already,
/// or there is no memory.
pub fn begin(me: &CurrentThread, signal: Signal) -> Option<Arc<Dump>> {
    let dump = try_arc(Dump {
        left: AtomicU32::new(0),
        threads: SpinLock::new(Vec::new()),
        arrived: WaitQueue::new(),
        is_over: AtomicBool::new(false),
        over: WaitQueue::new(),
    })
    .ok()?;
    {
        let mut state = me.process.sig.lock();
        if state.is_exiting() {
            return None;
        }
        state.group_exit = Some(signal.number());
        state.stop.stopped = false;
        state.dump = Some(dump.clone());
        state.zap_others(Some(me.task()));
        let mut left = 0;
        state.for_each(|_, thread| {
            let other = !core::ptr::eq(thread, &**me);
            left += u32::from(other && !thread.has(flags::PAST_DUMP));
        });
        dump.left.store(left, Ordering::Relaxed);
        // No signal but SIGKILL shall disturb it, and that one sets the flag again.
        me.task().thread_flags().clear(ThreadFlags::SIGPENDING);
    }
    dump.arrived.wait_event(|| dump.left.load(Ordering::Acquire) == 0);
    Some(dump)
}

/// The dump is over: notes in the status whether there is one, and lets the others go on.
pub fn finish(me: &CurrentThread, dump: &Dump, dumped: bool) {
    {
        let mut state = me.process.sig.lock();
        state.dump = None;
        if dumped
            && !me.task().has_fatal_signal()
            && let Some(code) = &mut state.group_exit
        {
            *code |= 0x80;
        }
    }
    dump.is_over.store(true, Ordering::Release);
    dump.over.wake_all();
}

impl Dump {
    /// Another thread of the process, on its way out, stands by until the dump is over.
    pub fn stand_by(&self, me: &CurrentThread) {
        let state = ThreadState::of(me);
        // Without memory it is missing.
        let _ = self.threads.lock().try_push(state);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.arrived.wake_all();
        }
        self.over.wait_event(|| self.is_over.load(Ordering::Acquire));
    }
}
