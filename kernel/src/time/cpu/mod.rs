//! CPU time: the clocks that follow it, and what happens when a certain amount is used up.
//!
//! - [`CpuClock`]: the CPU time of a process or thread, in one of three [`Kind`]s.
//! - [`queue`]: what waits for such a clock; POSIX timers and [`sleep`] stand in it.
//! - [`itimer`]: `ITIMER_VIRTUAL`, `ITIMER_PROF`.
//! - [`limits`]: `RLIMIT_CPU`, `RLIMIT_RTTIME`.
//!
//! Everything is looked at by the tick of a thread that runs, on its way to user mode ([`check`]), so it is as exact as
//! the tick, as on Linux. A process without timers or limits costs that tick a few relaxed loads.

pub(crate) mod itimer;
mod limits;
pub(crate) mod queue;
pub mod sleep;

use crate::process::{Process, Thread, Usage};
use crate::signal::Signal;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use itimer::CpuTimer;
use queue::Queue;
use sched::Task;

/// What part of CPU time counts; the numbers of `CPUCLOCK_*` in clock ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// User and system time, as sampled by the tick.
    Prof = 0,
    /// User time.
    Virt = 1,
    /// Time on a CPU, exactly.
    Sched = 2,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Prof, Self::Virt, Self::Sched];

    /// The resolution that clock_getres(2) tells.
    pub fn resolution_ns(self) -> u64 {
        if self == Self::Sched { 1 } else { sched::time::TICK_NS }
    }
}

/// Whose CPU time a clock shows.
#[derive(Clone)]
pub enum Whose {
    /// A thread's.
    Thread(Arc<Task>),
    /// That of all threads of a process, dead and alive.
    Process(Arc<Process>),
}

/// A clock that follows CPU time.
#[derive(Clone)]
pub struct CpuClock {
    /// Of whom.
    pub whose: Whose,
    /// Which part.
    pub kind: Kind,
}

/// The same without keeping the process or thread from going away.
pub struct WeakClock {
    whose: WeakWhose,
    kind: Kind,
}

enum WeakWhose {
    Thread(Weak<Task>),
    Process(Weak<Process>),
}

impl CpuClock {
    /// Nanoseconds used so far.
    pub fn now_ns(&self) -> u64 {
        match &self.whose {
            Whose::Thread(task) => thread_time(task, self.kind),
            Whose::Process(process) => process_time(process, self.kind),
        }
    }

    /// For those who wait for the clock.
    pub fn downgrade(&self) -> WeakClock {
        let whose = match &self.whose {
            Whose::Thread(task) => WeakWhose::Thread(Arc::downgrade(task)),
            Whose::Process(process) => WeakWhose::Process(Arc::downgrade(process)),
        };
        WeakClock { whose, kind: self.kind }
    }

    /// Those who wait for this clock or another one of the same process or thread.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        match &self.whose {
            Whose::Thread(task) => task.data::<Thread>()?.cpu_queue().ok(),
            Whose::Process(process) => Some(&process.timers.cpu.queue),
        }
    }

    /// The tick has to look at the queue from now on.
    pub(crate) fn arm(&self) {
        if let Whose::Process(process) = &self.whose {
            process.timers.cpu.arm();
        }
    }
}

impl WeakClock {
    /// The clock, unless its process or thread is gone for good.
    pub fn upgrade(&self) -> Option<CpuClock> {
        let whose = match &self.whose {
            WeakWhose::Thread(task) => {
                let task = task.upgrade()?;
                let gone = task.data::<Thread>().is_none_or(|t| t.gone.load(Ordering::Acquire));
                if gone {
                    return None;
                }
                Whose::Thread(task)
            }
            WeakWhose::Process(process) => {
                let process = process.upgrade().filter(|p| p.state() != crate::process::State::Reaped)?;
                Whose::Process(process)
            }
        };
        Some(CpuClock { whose, kind: self.kind })
    }
}

/// CPU time of one thread.
pub fn thread_time(task: &Task, kind: Kind) -> u64 {
    match kind {
        Kind::Virt => Usage::of(task).utime_ns,
        Kind::Prof | Kind::Sched => task.exec_runtime_ns(),
    }
}

/// CPU time of all threads of a process, dead and alive.
pub fn process_time(process: &Process, kind: Kind) -> u64 {
    let threads = process.sig.lock();
    let dead = process.accounts.lock().dead;
    let mut sum = if kind == Kind::Virt { dead.utime_ns } else { dead.utime_ns + dead.stime_ns };
    threads.for_each(|task, _| sum += thread_time(task, kind));
    sum
}

/// What a process has that waits for its CPU time.
pub(crate) struct CpuTimers {
    /// There is any.
    armed: AtomicBool,
    pub(crate) virt: CpuTimer,
    pub(crate) prof: CpuTimer,
    pub(crate) queue: Queue,
}

impl CpuTimers {
    pub(crate) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            virt: CpuTimer::default(),
            prof: CpuTimer::default(),
            queue: Queue::new(),
        }
    }

    /// The tick has to look from now on.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }
}

/// On the way to user mode after a tick: expired timers and limits.
pub fn check(thread: &Thread) {
    let process = &thread.process;
    limits::check(thread);
    if let Some(queue) = thread.existing_cpu_queue().filter(|queue| queue.is_waited_for()) {
        let task = sched::current();
        queue.check(|kind| thread_time(&task, kind));
    }
    let timers = &process.timers.cpu;
    if !timers.armed.load(Ordering::Relaxed) {
        return;
    }
    // Who arms meanwhile sets the flag again.
    timers.armed.store(false, Ordering::Relaxed);
    let virt = timers.virt.check(process, Kind::Virt, Signal::SIGVTALRM);
    let prof = timers.prof.check(process, Kind::Prof, Signal::SIGPROF);
    timers.queue.check(|kind| process_time(process, kind));
    if virt || prof || timers.queue.is_waited_for() {
        timers.arm();
    }
}

/// The clock behind a negative id: `~pid << 3 | per_thread << 2 | kind`; clock_getcpuclockid(3), pthread_getcpuclockid(3).
///
/// # Errors
/// `EINVAL`.
pub fn clock_of(id: i32) -> Result<CpuClock> {
    let pid = !(id >> 3);
    // Kind 3 is a clock behind a descriptor; there is no such device.
    let kind = *Kind::ALL.get((id & 3) as usize).ok_or(Errno::EINVAL)?;
    let me = crate::process::current();
    let ns = me.pid_ns();
    let whose = if id & 4 != 0 {
        let task = if pid == 0 { me.task_arc() } else { ns.task(pid).ok_or(Errno::EINVAL)? };
        let same = task.data::<Thread>().is_some_and(|t| Arc::ptr_eq(&t.process, &me.process));
        same.then_some(Whose::Thread(task)).ok_or(Errno::EINVAL)?
    } else if pid == 0 {
        Whose::Process(me.process.clone())
    } else {
        Whose::Process(ns.process(pid).ok_or(Errno::EINVAL)?)
    };
    Ok(CpuClock { whose, kind })
}
