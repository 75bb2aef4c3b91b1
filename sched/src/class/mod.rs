//! Scheduling classes: who of the runnable tasks runs.
//!
//! Classes are asked in the order of [`Class`]; the first that has a task wins. Each class is one file
//! with the same functions over its part of the run queue (Linux's `struct sched_class`), called through
//! the `match` in [`Class`]'s methods: the compiler sees the callee, and a run queue with fair tasks
//! only never asks anybody else.
//!
//! All functions run under the run queue's lock with interrupts off.

pub(crate) mod deadline;
pub(crate) mod fair;
pub(crate) mod idle;
pub mod realtime;
pub(crate) mod stop;

use core::ptr::NonNull;

use crate::rq::Rq;
use crate::task::Task;

/// A run queue's pointer to a task that it keeps alive.
pub(crate) type TaskPtr = NonNull<Task>;

/// Who schedules a task; earlier ones go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Stops the CPU for migration and hot-plug.
    Stop,
    /// Earliest deadline first.
    Deadline,
    /// Fixed priorities.
    Realtime,
    /// Fair shares.
    Fair,
    /// The idle task.
    Idle,
}

/// `SCHED_*`, with Linux's numbers; see `sched(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// `SCHED_NORMAL`, also known as `SCHED_OTHER`.
    Normal = 0,
    /// `SCHED_FIFO`.
    Fifo = 1,
    /// `SCHED_RR`.
    RoundRobin = 2,
    /// `SCHED_BATCH`.
    Batch = 3,
    /// `SCHED_IDLE`.
    Idle = 5,
    /// `SCHED_DEADLINE`.
    Deadline = 6,
}

impl Policy {
    /// From the number of `sched_setscheduler(2)`.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Normal,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            6 => Self::Deadline,
            _ => return None,
        })
    }

    /// The class that implements it.
    pub const fn class(self) -> Class {
        match self {
            Self::Normal | Self::Batch | Self::Idle => Class::Fair,
            Self::Fifo | Self::RoundRobin => Class::Realtime,
            Self::Deadline => Class::Deadline,
        }
    }

    /// Whether it is one of the fixed-priority policies.
    pub const fn is_realtime(self) -> bool {
        matches!(self, Self::Fifo | Self::RoundRobin)
    }
}

/// Why a task is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueue {
    /// It woke up.
    Wakeup,
    /// It runs for the first time.
    New,
    /// It was taken off only to change something, or comes from another CPU.
    Restore,
}

/// Why a task is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dequeue {
    /// It sleeps.
    Sleep,
    /// It comes back at once, here or elsewhere.
    Save,
}

macro_rules! dispatch {
    ($class:expr, $name:ident($($arg:expr),*)) => {
        match $class {
            Class::Stop => stop::$name($($arg),*),
            Class::Deadline => deadline::$name($($arg),*),
            Class::Realtime => realtime::$name($($arg),*),
            Class::Fair => fair::$name($($arg),*),
            Class::Idle => idle::$name($($arg),*),
        }
    };
}

impl Class {
    /// Puts a task on the run queue.
    pub(crate) fn enqueue(self, rq: &mut Rq, task: TaskPtr, why: Enqueue) {
        dispatch!(self, enqueue(rq, task, why));
    }

    /// Takes a task off the run queue.
    pub(crate) fn dequeue(self, rq: &mut Rq, task: TaskPtr, why: Dequeue) {
        dispatch!(self, dequeue(rq, task, why));
    }

    /// The running task gives way to its equals.
    pub(crate) fn yield_current(self, rq: &mut Rq) {
        dispatch!(self, yield_current(rq));
    }

    /// `woken`, of the same class as the running task, was queued: should it run now?
    pub(crate) fn preempts(self, rq: &mut Rq, woken: TaskPtr) -> bool {
        dispatch!(self, preempts(rq, woken))
    }

    /// The running task stops running (it may be off the queue already).
    pub(crate) fn put_prev(self, rq: &mut Rq, task: TaskPtr) {
        dispatch!(self, put_prev(rq, task));
    }

    /// The queued task `task` is going to run, or is running and entered the class.
    pub(crate) fn set_next(self, rq: &mut Rq, task: TaskPtr) {
        dispatch!(self, set_next(rq, task));
    }

    /// The task of this class that should run, made the running one.
    pub(crate) fn pick_next(self, rq: &mut Rq) -> Option<TaskPtr> {
        dispatch!(self, pick_next(rq))
    }

    /// Accounts the running task up to the run queue's clock.
    pub(crate) fn update_current(self, rq: &mut Rq) {
        dispatch!(self, update_current(rq));
    }

    /// A tick interrupted the running task.
    pub(crate) fn tick(self, rq: &mut Rq, task: TaskPtr) {
        dispatch!(self, tick(rq, task));
    }
}

/// The task that should run: the heart of `schedule`.
pub(crate) fn pick_next_task(rq: &mut Rq) -> TaskPtr {
    if rq.nr_running == rq.fair.h_nr_running.get()
        && let Some(task) = fair::pick_next(rq)
    {
        return task;
    }
    for class in [Class::Stop, Class::Deadline, Class::Realtime, Class::Fair] {
        if let Some(task) = class.pick_next(rq) {
            return task;
        }
    }
    idle::pick(rq)
}
