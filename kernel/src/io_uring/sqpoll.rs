//! `IORING_SETUP_SQPOLL`: a thread that takes submissions as they come, so that the user makes no system calls.
//!
//! Rings made with `IORING_SETUP_ATTACH_WQ` share one thread. It looks at its rings in turn; when nothing came for the idle time it says
//! so (`IORING_SQ_NEED_WAKEUP`) and sleeps.
//!
//! The thread ends when its last ring is closed, or when the process that made it ends.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::io_uring::raw;
use abi::{Errno, Result};
use arch::cpu::CpuMask;
use mm::{try_arc, try_format};
use sched::Task;
use sched::completion::Completion;
use sched::hrtimer::Deadline;
use sched::wait::{Wait, WaitQueue};
use sync::Once;

use super::layout::SQ_FLAGS;
use super::ring::Ring;
use super::ring_list::RingList;
use super::task::TaskCtx;
use super::{ghost, submit};
use crate::process::{Process, current};

/// See the module text.
pub struct SqThread {
    rings: RingList<Ring>,
    idle_ms: AtomicU32,
    wake: WaitQueue,
    stopping: AtomicBool,
    ended: Completion,
    task: Once<Arc<Task>>,
    process: Weak<Process>,
    work_ns: core::sync::atomic::AtomicU64,
}

/// Submissions taken from one ring before the next has its turn, if there are several.
const FAIR: u32 = 8;

impl SqThread {
    /// Makes the thread, on `cpu` if given. `idle_ms` zero is a second.
    ///
    /// # Errors
    /// `EINVAL` for a CPU that is not there, `ENOMEM`, `EAGAIN`.
    pub fn start(idle_ms: u32, cpu: Option<u32>) -> Result<Arc<Self>> {
        let mask = match cpu {
            Some(cpu) => {
                let bit = 1_u64.checked_shl(cpu).unwrap_or(0);
                let mask = CpuMask::from_bits(bit).and(arch::cpu::online());
                if mask.bits() == 0 {
                    return Err(Errno::EINVAL);
                }
                Some(mask)
            }
            None => None,
        };
        let me = current();
        let name = try_format(format_args!("iou-sqp-{}", me.tid()))?;
        let this = try_arc(Self {
            rings: RingList::new(),
            idle_ms: AtomicU32::new(if idle_ms == 0 { 1000 } else { idle_ms }),
            wake: WaitQueue::new(),
            stopping: AtomicBool::new(false),
            ended: Completion::new(),
            task: Once::new(),
            process: Arc::downgrade(&me.process),
            work_ns: core::sync::atomic::AtomicU64::new(0),
        })?;
        let inside = this.clone();
        let task = ghost::spawn(&name, move || {
            run(&inside);
            inside.ended.complete_all();
        })?;
        if let Some(mask) = mask {
            task.set_affinity(mask)?;
        }
        this.task.call_once(|| task);
        Ok(this)
    }

    /// Whether the process that made it is `process`.
    pub fn belongs_to(&self, process: &Arc<Process>) -> bool {
        core::ptr::eq(self.process.as_ptr(), Arc::as_ptr(process))
    }

    /// Its thread id and CPU, and the nanoseconds it worked, for `fdinfo`.
    pub fn describe(&self) -> (i32, i32, u64) {
        let task = self.task.get();
        let pid = task.and_then(|task| task.data::<crate::process::Thread>()).map_or(-1, |t| t.tid());
        (pid, task.map_or(-1, |task| task.cpu().0 as i32), self.work_ns.load(Ordering::Relaxed))
    }

    /// Serves `ring` too.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&self, ring: &Arc<Ring>, idle_ms: u32) -> Result<()> {
        self.rings.add(ring)?;
        self.idle_ms.fetch_max(idle_ms, Ordering::Relaxed);
        self.wake.wake_all();
        Ok(())
    }

    /// Serves `ring` no more, if one is given; the thread ends with its last ring.
    pub fn remove(&self, ring: Option<&Arc<Ring>>) {
        if let Some(ring) = ring {
            self.rings.remove(ring);
        }
        if self.rings.is_empty() {
            self.stop();
        } else {
            self.wake.wake_all();
        }
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.wake_all();
        if let Some(task) = self.task.get() {
            ghost::interrupt(task);
            // The thread may be the one that drops the ring's last reference.
            if !core::ptr::eq(Arc::as_ptr(task), &raw const *sched::current()) {
                self.ended.wait();
            }
        }
    }

    /// Whether the thread is gone or going.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// `IORING_ENTER_SQ_WAKEUP`.
    pub fn wake_up(&self) {
        self.wake.wake_all();
    }
}

/// The process that made the thread of `ring` ends, or becomes another program.
pub fn creator_exits(ring: &Arc<Ring>, process: &Arc<Process>) {
    if let Some(thread) = &ring.sq_thread
        && thread.belongs_to(process)
    {
        thread.stop();
    }
}

/// One round over all rings; whether anything was done.
fn round(thread: &SqThread, ctx: &Arc<TaskCtx>) -> bool {
    let mut any = false;
    let several = thread.rings.len() > 1;
    for ring in thread.rings.iter() {
        let ring = &ring;
        ring.flush_overflow();
        let waiting = ring.pending_submissions();
        if waiting == 0 || ring.is_dying() || ring.disabled.load(Ordering::Acquire) {
            continue;
        }
        let count = if several { waiting.min(FAIR) } else { waiting };
        let cred = ring.cred.clone();
        let taken = super::op::as_personality(Some(&cred), || {
            let mut state = ring.submit.lock();
            submit::submit(ring, &mut state, ctx, count)
        });
        // Without memory for requests it is tried again in the next round.
        any |= taken.is_ok_and(|taken| taken > 0);
        ring.sq_wait.wake_all();
        if ring.pending_submissions() < ring.layout.sq_entries {
            ring.poll_wait.wake_all_poll(sched::wait::PollEvents::OUT);
        }
    }
    any | ctx.run()
}

fn run(thread: &Arc<SqThread>) {
    let Some(ctx) = context(thread) else { return };
    let idle_ns = || u64::from(thread.idle_ms.load(Ordering::Relaxed)) * 1_000_000;
    let mut until = sched::time::monotonic_ns().saturating_add(idle_ns());
    while !thread.is_stopping() {
        let before = sched::time::monotonic_ns();
        if round(thread, &ctx) {
            let now = sched::time::monotonic_ns();
            thread.work_ns.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
            until = now.saturating_add(idle_ns());
            ghost::clear_interrupt();
            sched::cond_resched();
            continue;
        }
        ghost::clear_interrupt();
        if before < until && !thread.rings.is_empty() {
            // Others go first: this one only looks.
            sched::yield_now();
            continue;
        }
        sleep(thread, &ctx);
        until = sched::time::monotonic_ns().saturating_add(idle_ns());
    }
    super::task::exit(&current());
    tell_gone(thread);
}

/// What the thread has under way; `None` if there is no memory for that before it is to stop.
fn context(thread: &SqThread) -> Option<Arc<TaskCtx>> {
    loop {
        if let Ok(ctx) = TaskCtx::current() {
            return Some(ctx);
        }
        let how = Wait::INTERRUPTIBLE.until(Some(Deadline::after_ms(20)));
        if thread.wake.wait(how, || thread.is_stopping().then_some(())).is_ok() {
            tell_gone(thread);
            return None;
        }
        ghost::clear_interrupt();
    }
}

/// Nobody takes submissions any more: those who wait for that stop waiting.
fn tell_gone(thread: &SqThread) {
    for ring in thread.rings.iter() {
        ring.rings.set_bits(SQ_FLAGS, raw::IORING_SQ_NEED_WAKEUP);
        ring.sq_wait.wake_all();
    }
}

/// Says that it sleeps, and sleeps until something comes.
fn sleep(thread: &SqThread, ctx: &Arc<TaskCtx>) {
    // Before the rings are marked: one that comes while they are is not.
    let additions = thread.rings.additions();
    for ring in thread.rings.iter() {
        ring.rings.set_bits(SQ_FLAGS, raw::IORING_SQ_NEED_WAKEUP);
    }
    let busy = || {
        thread.is_stopping()
            || !ctx.work.is_empty()
            || thread.rings.additions() != additions
            || thread
                .rings
                .iter()
                .any(|ring| ring.pending_submissions() > 0 && !ring.disabled.load(Ordering::Acquire))
    };
    // The deadline is for completions that overflowed: room for them is made without a call.
    let how = Wait::INTERRUPTIBLE.until(Some(Deadline::after_ms(10_000)));
    let _ = thread.wake.wait(how, || busy().then_some(()));
    for ring in thread.rings.iter() {
        ring.rings.clear_bits(SQ_FLAGS, raw::IORING_SQ_NEED_WAKEUP);
    }
}
