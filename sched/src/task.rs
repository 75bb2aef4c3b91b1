//! The task: everything the scheduler knows of a thread of execution.
//!
//! A `Task` always lives in an [`Arc`]. Its first field is the architecture's `Thread`, so the
//! architecture's pointer to the running thread is the pointer to the running task and
//! [`current`] costs one load. What the kernel proper knows of a thread (process, signals, files,
//! credentials) lives in the same allocation as the task's *payload*, see [`Task::data`].
//!
//! # Who may touch what
//!
//! | field | written by | protected by |
//! |---|---|---|
//! | `thread` | the running task itself; the creator before the first wake-up; a tracer while stopped | being (not) running |
//! | `state` | the task itself; wakers | `pi_lock` for wakers |
//! | `sched` | scheduling classes | the run queue lock of the task's CPU |
//! | `cpu` | migration, wake-up | `pi_lock` or run queue lock |
//! | `mm` | the running task itself; read by the switch | being (not) running |
//!
//! # Lifetime
//!
//! A task that was woken once owns a reference to itself, which is released after the last switch
//! away from it and an RCU grace period. Run queues, timers and sleeping locks therefore refer to
//! live tasks by plain pointers.

use alloc::sync::Arc;
use core::any::TypeId;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arch::cpu::CpuId;
use arch::sync::SpinLockIrq;
use arch::thread::{Thread, ThreadFlags};
use arch::trap::TrapFrame;
use bitflags::bitflags;
use sync::Once;

use crate::cputime::TaskTimes;
use crate::entity::Sched;
use crate::mm::Mm;
use crate::pi::PiState;
use crate::rcu::RcuHead;
use crate::stack::Stack;
use crate::state::State;

/// Bytes of a task's name, with its NUL, as `TASK_COMM_LEN`.
pub const COMM_LEN: usize = 16;

/// Bytes of a task reserved for the kernel's payload. Locks know their class in debug builds, and are larger.
pub const PAYLOAD_SIZE: usize = if cfg!(debug_assertions) { 1536 } else { 1024 };

bitflags! {
    /// Lasting properties of a task, changed seldom.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TaskFlags: u32 {
        /// Runs in the kernel only.
        const KTHREAD = 1 << 0;
        /// An idle task.
        const IDLE = 1 << 1;
        /// Is exiting.
        const EXITING = 1 << 2;
        /// Its affinity belongs to the kernel (per-CPU threads).
        const NO_SETAFFINITY = 1 << 3;
        /// A signal that cannot be survived is pending.
        const FATAL_SIGNAL = 1 << 4;
        /// Runs work items (must not wait for its own queue).
        const WORKER = 1 << 5;
    }
}

/// Failures that the memory manager injects into a task (debug builds).
#[cfg(debug_assertions)]
#[derive(Debug, Default)]
pub struct Faults {
    /// `/proc/PID/make-it-fail`: failures that are only for some tasks are for this one. Inherited.
    pub make_it_fail: AtomicBool,
    /// `/proc/PID/fail-nth`: how many calls until one fails; 0 for none.
    pub fail_nth: AtomicU32,
}

#[cfg(debug_assertions)]
impl Faults {
    /// A child is as likely to fail as its parent.
    pub fn inherit_from(&self, parent: &Self) {
        self.make_it_fail.store(parent.make_it_fail.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts a call of the task itself: whether it fails, or `None` if nothing is counted.
    pub fn count_down(&self) -> Option<bool> {
        match self.fail_nth.load(Ordering::Relaxed) {
            0 => None,
            left => {
                self.fail_nth.store(left - 1, Ordering::Relaxed);
                Some(left == 1)
            }
        }
    }
}

/// Where a task stands with respect to run queues (`Task::on_rq`).
pub(crate) mod on_rq {
    /// Not queued: sleeping.
    pub const NO: u8 = 0;
    /// Queued or running.
    pub const QUEUED: u8 = 1;
    /// On its way from one queue to another.
    pub const MIGRATING: u8 = 2;
}

/// A schedulable thread.
#[repr(C)]
pub struct Task {
    /// First: the architecture's pointer to the running thread points here.
    pub(crate) thread: UnsafeCell<Thread>,
    pub(crate) state: AtomicU32,
    pub(crate) cpu: AtomicU32,
    /// The CPU it ran on when it last went to sleep.
    pub(crate) wake_cpu: AtomicU32,
    /// Executes on a CPU right now (until the switch away from it is complete).
    pub(crate) on_cpu: AtomicBool,
    pub(crate) on_rq: AtomicU8,
    /// See [`Task::queue_rank`]; changed with the policy.
    pub(crate) queue_rank: AtomicU8,
    pub(crate) io: crate::io::TaskIo,
    pub(crate) flags: AtomicU32,
    pub(crate) sched: UnsafeCell<Sched>,
    pub(crate) times: TaskTimes,
    /// The address space; see the table above.
    pub(crate) mm: UnsafeCell<Option<Mm>>,
    pub(crate) pi_lock: SpinLockIrq<PiState>,
    pub(crate) stack: UnsafeCell<Option<Stack>>,
    pub(crate) entry: UnsafeCell<Option<crate::fork::Entry>>,
    /// Read in interrupts, where the watchdog names tasks.
    comm: SpinLockIrq<[u8; COMM_LEN]>,
    pub(crate) rcu: RcuHead,
    /// Voluntary and involuntary switches.
    pub(crate) nvcsw: AtomicU64,
    pub(crate) nivcsw: AtomicU64,
    /// Locks it holds, for the validator.
    #[cfg(debug_assertions)]
    pub(crate) held: sync::lockdep::Held,
    #[cfg(debug_assertions)]
    faults: Faults,
    payload: Payload,
}

// SAFETY: every field that is not itself `Sync` is an `UnsafeCell` with the protection that the
// module documentation names.
unsafe impl Sync for Task {}
// SAFETY: as above; nothing in a task belongs to the CPU that made it.
unsafe impl Send for Task {}

impl Task {
    pub(crate) fn build(comm: &[u8], flags: TaskFlags, sched: Sched, state: State) -> Self {
        let task = Self {
            thread: UnsafeCell::new(Thread::new()),
            state: AtomicU32::new(state.bits()),
            cpu: AtomicU32::new(0),
            wake_cpu: AtomicU32::new(0),
            on_cpu: AtomicBool::new(false),
            on_rq: AtomicU8::new(on_rq::NO),
            queue_rank: AtomicU8::new(102),
            io: crate::io::TaskIo::default(),
            flags: AtomicU32::new(flags.bits()),
            sched: UnsafeCell::new(sched),
            times: TaskTimes::new(),
            mm: UnsafeCell::new(None),
            pi_lock: SpinLockIrq::new(PiState::new()),
            stack: UnsafeCell::new(None),
            entry: UnsafeCell::new(None),
            comm: SpinLockIrq::new([0; COMM_LEN]),
            rcu: RcuHead::new(),
            nvcsw: AtomicU64::new(0),
            nivcsw: AtomicU64::new(0),
            #[cfg(debug_assertions)]
            held: sync::lockdep::Held::new(),
            #[cfg(debug_assertions)]
            faults: Faults::default(),
            payload: Payload::empty(),
        };
        task.set_comm(comm);
        task.io.publish_default(crate::class::Policy::Normal, 0);
        task
    }

    /// Which of its allocations shall fail.
    #[cfg(debug_assertions)]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The name of `/proc/PID/comm`, NUL-padded.
    pub fn comm(&self) -> Comm {
        Comm(*self.comm.lock())
    }

    /// Renames the task; longer names are cut to 15 bytes.
    pub fn set_comm(&self, name: &[u8]) {
        let mut comm = [0; COMM_LEN];
        let len = name.iter().position(|&b| b == 0).unwrap_or(name.len()).min(COMM_LEN - 1);
        comm[..len].copy_from_slice(&name[..len]);
        *self.comm.lock() = comm;
    }

    /// What the task is doing at this moment.
    #[inline]
    pub fn state(&self) -> State {
        State::from_bits_retain(self.state.load(Ordering::Acquire))
    }

    /// The CPU the task runs or last ran on.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        CpuId(self.cpu.load(Ordering::Relaxed))
    }

    /// Whether it executes on a CPU right now.
    pub fn is_on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }

    /// Its lasting properties.
    pub fn flags(&self) -> TaskFlags {
        TaskFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Adds lasting properties.
    pub fn set_flags(&self, flags: TaskFlags) {
        self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
    }

    /// Removes lasting properties.
    pub fn clear_flags(&self, flags: TaskFlags) {
        self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
    }

    /// Whether it runs in the kernel only.
    pub fn is_kthread(&self) -> bool {
        self.flags().contains(TaskFlags::KTHREAD)
    }

    /// The architecture's work flags.
    #[inline]
    pub fn thread_flags(&self) -> &arch::thread::AtomicThreadFlags {
        // SAFETY: the flags are atomic; no `&mut Thread` is formed over them while the task is
        // shared (see `with_thread`: it borrows through the same cell but the flags are only
        // ever reached as atomics).
        unsafe { (*self.thread.get()).flags() }
    }

    /// Whether a signal is pending: interruptible sleeps end.
    #[inline]
    pub fn has_pending_signal(&self) -> bool {
        self.thread_flags().contains(ThreadFlags::SIGPENDING)
    }

    /// Whether a fatal signal is pending: killable sleeps end.
    #[inline]
    pub fn has_fatal_signal(&self) -> bool {
        self.has_pending_signal() && self.flags().contains(TaskFlags::FATAL_SIGNAL)
    }

    /// Whether a task in `state` must not go to sleep because of a pending signal.
    #[inline]
    pub(crate) fn signal_pending_state(&self, state: State) -> bool {
        if !state.intersects(State::INTERRUPTIBLE.union(State::WAKEKILL)) || !self.has_pending_signal() {
            return false;
        }
        state.intersects(State::INTERRUPTIBLE) || self.has_fatal_signal()
    }

    /// Context switches so far: (voluntary, involuntary).
    pub fn context_switches(&self) -> (u64, u64) {
        (self.nvcsw.load(Ordering::Relaxed), self.nivcsw.load(Ordering::Relaxed))
    }

    /// The kernel's payload, if it is there and of type `T`.
    #[inline]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.payload.get()
    }

    /// Gives the task its payload, for good. Fails with the value if there is one already.
    pub fn set_data<T: Send + Sync + 'static>(&self, data: T) -> Result<(), T> {
        self.payload.set(data)
    }

    /// Runs `f` on the machine part of a task that is not running: new, stopped, traced or dead.
    /// `None` if it does run (or could at any moment).
    pub fn with_stopped_thread<R>(&self, f: impl FnOnce(&mut Thread) -> R) -> Option<R> {
        // Wakers need `pi_lock` too, so the task stays where it is.
        let _wakers_out = self.pi_lock.lock();
        let stopped = State::STOPPED_BIT | State::TRACED_BIT | State::DEAD | State::NEW;
        if !self.state().intersects(stopped) || self.on_rq.load(Ordering::Acquire) != on_rq::NO {
            return None;
        }
        while self.is_on_cpu() {
            arch::cpu::relax();
        }
        // SAFETY: it does not run and cannot be woken while `pi_lock` is held.
        Some(f(unsafe { &mut *self.thread.get() }))
    }

    /// Runs `f` on the machine part and the user registers of a task that has stopped for its tracer. `None` if it does
    /// not stand there, or is still on its way to sleep. `f` runs with interrupts off.
    pub fn with_traced<R>(&self, f: impl FnOnce(&mut Thread, &mut TrapFrame) -> R) -> Option<R> {
        let _wakers_out = self.pi_lock.lock();
        let asleep = self.on_rq.load(Ordering::Acquire) == on_rq::NO;
        if !self.state().intersects(State::TRACED_BIT) || self.is_kthread() || !asleep {
            return None;
        }
        while self.is_on_cpu() {
            arch::cpu::relax();
        }
        // SAFETY: it does not run and cannot be woken while `pi_lock` is held. A task that is TRACED came from user mode
        // and will go back there: the frame at the top of its stack is its user registers.
        unsafe {
            let thread = &mut *self.thread.get();
            let frame = thread.user_frame();
            Some(f(thread, &mut *frame))
        }
    }

    pub(crate) fn thread_ptr(&self) -> *mut Thread {
        self.thread.get()
    }

    /// A counted reference. Sound because every task is made by `Arc::new`.
    pub fn to_arc(&self) -> Arc<Self> {
        let ptr = core::ptr::from_ref(self);
        // SAFETY: tasks exist only inside an `Arc`, whose count is at least one while `self` is
        // borrowed.
        unsafe {
            Arc::increment_strong_count(ptr);
            Arc::from_raw(ptr)
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("comm", &self.comm())
            .field("state", &self.state())
            .field("cpu", &self.cpu())
            .finish_non_exhaustive()
    }
}

/// A task's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm([u8; COMM_LEN]);

impl Comm {
    /// All 16 bytes, as `prctl(PR_GET_NAME)` returns them.
    pub fn padded(&self) -> &[u8; COMM_LEN] {
        &self.0
    }

    /// The name without padding.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
        &self.0[..len]
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The running task. Not `Send`: it is "current" only where it was asked for.
#[derive(Clone, Copy)]
pub struct Current {
    task: NonNull<Task>,
    not_send: PhantomData<*mut ()>,
}

impl Deref for Current {
    type Target = Task;
    #[inline(always)]
    fn deref(&self) -> &Task {
        // SAFETY: the running task owns a reference to itself, and `Current` cannot leave it.
        unsafe { self.task.as_ref() }
    }
}

impl Current {
    pub(crate) fn new(task: NonNull<Task>) -> Self {
        Self { task, not_send: PhantomData }
    }

    /// Runs `f` on the machine part of this task (TLS, FPU, exec). Preemption is off meanwhile;
    /// `f` must not ask for the machine part again.
    pub fn with_thread<R>(&self, f: impl FnOnce(&mut Thread) -> R) -> R {
        let _stay = arch::preempt::PreemptGuard::new();
        // SAFETY: only the running task touches its machine part, the switch cannot happen with
        // preemption off, and interrupt handlers use nothing of it but the atomic flags.
        f(unsafe { &mut *self.thread.get() })
    }

    /// Runs `f` on the machine part of this task and a copy of its user registers. Only for a task that has some: not
    /// for kernel threads, which get `None`.
    pub fn with_registers<R>(&self, f: impl FnOnce(&mut Thread, &mut TrapFrame) -> R) -> Option<R> {
        if self.is_kthread() {
            return None;
        }
        Some(self.with_thread(|thread| {
            // SAFETY: the frame lies at the top of this task's own stack, and holds its user registers from its entry into the
            // kernel to its return.
            let mut frame = unsafe { thread.user_frame().read() };
            f(thread, &mut frame)
        }))
    }

    /// Sets the state before the condition is looked at; see [`State`].
    #[inline]
    pub fn set_state(&self, state: State) {
        // The store comes before the look at the condition that follows.
        self.state.swap(state.bits(), Ordering::SeqCst);
        arch::cpu::barrier_after_atomic();
    }

    /// Sets a state that is not the wait for a condition: stopped, traced, dead. Nobody looks at it again in a loop, so it must not be
    /// lost to a waker that was meant for an earlier sleep: one that saw the task asleep before it went on by itself, and is about to
    /// write that it runs. Such a waker holds `pi_lock` (`set_special_state`).
    pub fn set_special_state(&self, state: State) {
        let _wakers_out = self.pi_lock.lock();
        self.set_state(state);
    }

    /// The condition came true: do not sleep after all.
    #[inline]
    pub fn set_running(&self) {
        self.state.store(State::RUNNING.bits(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The running task.
#[inline(always)]
pub fn current() -> Current {
    crate::platform::current()
}

/// Sets the state of the running task; see [`State`].
#[inline]
pub fn set_current_state(state: State) {
    current().set_state(state);
}

/// One value of any type up to [`PAYLOAD_SIZE`] bytes, inside the task's own allocation.
struct Payload {
    vtable: Once<PayloadType>,
    bytes: UnsafeCell<PayloadBytes>,
}

#[repr(align(64))]
struct PayloadBytes {
    _room: MaybeUninit<[u8; PAYLOAD_SIZE]>,
}

#[derive(Clone, Copy)]
struct PayloadType {
    id: TypeId,
    drop: unsafe fn(*mut u8),
}

impl Payload {
    const fn empty() -> Self {
        Self { vtable: Once::new(), bytes: UnsafeCell::new(PayloadBytes { _room: MaybeUninit::uninit() }) }
    }

    #[inline]
    fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let kind = self.vtable.get()?;
        if kind.id != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: `set` wrote a `T` (the type id says so) before it filled `vtable`, and nothing
        // writes afterwards; size and alignment were checked there at compile time.
        Some(unsafe { &*self.bytes.get().cast::<T>() })
    }

    fn set<T: Send + Sync + 'static>(&self, data: T) -> Result<(), T> {
        const {
            assert!(size_of::<T>() <= PAYLOAD_SIZE, "the payload does not fit into a task");
            assert!(align_of::<T>() <= align_of::<PayloadBytes>(), "the payload's alignment is too large");
        }
        /// # Safety
        /// `ptr` must point to a live `T`, which is dead afterwards.
        unsafe fn drop_in_place<T>(ptr: *mut u8) {
            // SAFETY: the caller's promise.
            unsafe { core::ptr::drop_in_place(ptr.cast::<T>()) }
        }
        let mut data = Some(data);
        self.vtable.call_once(|| {
            if let Some(data) = data.take() {
                // SAFETY: `call_once` lets one caller in, and readers wait for `vtable`.
                unsafe { self.bytes.get().cast::<T>().write(data) };
            }
            PayloadType { id: TypeId::of::<T>(), drop: drop_in_place::<T> }
        });
        data.map_or(Ok(()), Err)
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(kind) = self.vtable.get() {
            // SAFETY: a filled `vtable` says that a value of its type is there; dropped once.
            unsafe { (kind.drop)(self.bytes.get().cast()) };
        }
    }
}
