//! Read-copy-update: readers that take no lock, and memory that is freed when the last of them is gone.
//!
//! A read section is a section with preemption off, so [`read_lock`] costs what switching
//! preemption off costs. Spin locks and interrupt handlers are read sections too. A *grace period*
//! is over when every CPU has passed a quiescent state after its beginning: a context switch, the
//! idle loop, a tick that interrupted user mode.
//!
//! [`call`] and retired [`RcuPtr`](sync::RcuPtr) values queue on the CPU they come from; when a
//! grace period has passed, the CPU's `ksoftirqd` thread runs them, in task context with preemption
//! on, so they may take spin locks but must not sleep for long. Freed tasks queue through a
//! link inside themselves and need no memory.
//!
//! The mechanism behind it is [`crate::platform`]'s: on the host a grace period is simply one pass
//! through every virtual CPU.
//!
//! Locks: the per-CPU queue's (interrupts off), then the platform's state lock.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use arch::cpu::{CpuMask, MAX_CPUS};
use arch::preempt::PreemptGuard;
use arch::sync::SpinLockIrq;
use sync::{Once, RcuReadSide, Retired};

use crate::completion::Completion;
use crate::heap::NoFailScope;
use crate::platform::rcu as grace;

/// A read section. Preemption is off while it lives.
#[must_use]
pub struct ReadGuard {
    _preempt: PreemptGuard,
}

// SAFETY: preemption is off while the guard lives, so this CPU passes no quiescent state.
unsafe impl RcuReadSide for ReadGuard {}
// SAFETY: it holds a guard that does the same.
unsafe impl arch::preempt::PreemptOff for ReadGuard {}

/// Begins a read section.
#[inline]
pub fn read_lock() -> ReadGuard {
    ReadGuard { _preempt: PreemptGuard::new() }
}

/// A grace period's number: `poll` and `wait` tell when everything that was visible when it was
/// taken is invisible to all readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub(crate) u64);

type HeadFn = unsafe fn(NonNull<RcuHead>);

/// A link for objects that are freed through RCU without allocating.
#[derive(Debug)]
pub struct RcuHead {
    next: Cell<*const RcuHead>,
    func: Cell<Option<HeadFn>>,
}

// SAFETY: the cells belong to whoever queued the head, then to the queue's lock.
unsafe impl Send for RcuHead {}
// SAFETY: as above.
unsafe impl Sync for RcuHead {}

impl RcuHead {
    /// Not queued.
    pub const fn new() -> Self {
        Self { next: Cell::new(ptr::null()), func: Cell::new(None) }
    }
}

impl Default for RcuHead {
    fn default() -> Self {
        Self::new()
    }
}

type ReleaseFn = unsafe fn(NonNull<()>);

type Release = (NonNull<()>, ReleaseFn);

/// What waits for one grace period.
struct Batch {
    heads: *const RcuHead,
    releases: Vec<Release>,
    /// The grace period after which it is due.
    seq: Seq,
}

impl Batch {
    const fn new() -> Self {
        Self { heads: ptr::null(), releases: Vec::new(), seq: Seq(0) }
    }

    fn is_empty(&self) -> bool {
        self.heads.is_null() && self.releases.is_empty()
    }

    /// Runs everything in it.
    fn run(self) {
        let mut at = self.heads;
        // SAFETY: queued heads are alive until their function was called.
        while let Some(head) = unsafe { at.as_ref() } {
            at = head.next.get();
            if let Some(func) = head.func.take() {
                // SAFETY: the grace period is over; each head is called once.
                unsafe { func(NonNull::from(head)) };
            }
        }
        for (value, release) in self.releases {
            // SAFETY: the grace period is over; each value is released once.
            unsafe { release(value) };
        }
    }
}

struct Queue {
    /// Arrived since the last batch was closed.
    new: Batch,
    /// Closed; waits for its grace period.
    waiting: Batch,
}

// SAFETY: the raw pointers are owned by the queue; what they point to may be freed anywhere.
unsafe impl Send for Queue {}

static QUEUES: [SpinLockIrq<Queue>; MAX_CPUS] =
    [const { SpinLockIrq::new(Queue { new: Batch::new(), waiting: Batch::new() }) }; MAX_CPUS];

/// Calls `func(head)` after a grace period.
///
/// # Safety
/// `head` stays where it is until then, is not queued already, and `func` may be called with it on
/// any CPU.
pub(crate) unsafe fn call_head(head: &RcuHead, func: unsafe fn(NonNull<RcuHead>)) {
    let stay = PreemptGuard::new();
    head.func.set(Some(func));
    let mut queue = QUEUES[arch::cpu::current().index()].lock();
    head.next.set(queue.new.heads);
    queue.new.heads = head;
    drop(queue);
    grace::callbacks_queued();
    drop(stay);
}

#[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
fn defer(value: NonNull<()>, release: unsafe fn(NonNull<()>)) {
    let stay = PreemptGuard::new();
    // A value that could not be noted would be lost.
    let _no_fail = NoFailScope::enter();
    let here = &QUEUES[arch::cpu::current().index()];
    // The list grows outside of the lock: the allocator may itself want to wake somebody.
    let mut spare: Vec<Release> = Vec::new();
    loop {
        let mut queue = here.lock();
        let list = &mut queue.new.releases;
        if list.len() < list.capacity() {
            list.push((value, release));
            break;
        }
        if spare.capacity() > list.len() {
            spare.append(list);
            core::mem::swap(list, &mut spare);
            list.push((value, release));
            break;
        }
        let wanted = (list.len() * 2).max(64);
        drop(queue);
        if spare.try_reserve_exact(wanted).is_err() {
            // Without memory the value is not freed: better lost than freed under a reader.
            log::warn!("rcu: no memory to queue a callback");
            return;
        }
    }
    grace::callbacks_queued();
    drop(stay);
}

/// Calls `f` after a grace period.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub fn call(f: Box<dyn FnOnce() + Send>) {
    let _no_fail = NoFailScope::enter();
    /// # Safety
    /// `value` came from `Box::into_raw` below.
    unsafe fn run(value: NonNull<()>) {
        // SAFETY: the caller's promise.
        let f = unsafe { Box::from_raw(value.cast::<Box<dyn FnOnce() + Send>>().as_ptr()) };
        f();
    }
    let boxed = Box::into_raw(Box::new(f));
    if let Some(value) = NonNull::new(boxed.cast::<()>()) {
        defer(value, run);
    }
}

/// Drops `value` after a grace period.
pub fn drop_later<T: Send + 'static>(value: Box<T>) {
    /// # Safety
    /// `value` came from a `Box<T>`.
    unsafe fn release<T>(value: NonNull<()>) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(value.cast::<T>().as_ptr()) });
    }
    if let Some(value) = NonNull::new(Box::into_raw(value).cast::<()>()) {
        defer(value, release::<T>);
    }
}

/// Releases a retired value after a grace period. (The same as dropping it.)
pub fn retire<T: Send + Sync + 'static>(retired: Retired<T>) {
    drop(retired);
}

/// Waits for a grace period: every read section that runs now has ended when it returns. Sleeps.
pub fn synchronize() {
    crate::might_sleep();
    grace::synchronize();
}

/// Waits until every callback queued so far, on any CPU, has run. Sleeps.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub fn barrier() {
    let _no_fail = NoFailScope::enter();
    let done = alloc::sync::Arc::new((core::sync::atomic::AtomicUsize::new(1), Completion::new()));
    for cpu in arch::cpu::online().iter() {
        let done = done.clone();
        done.0.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        crate::platform::queue_on(cpu, move || {
            call(Box::new(move || barrier_step(&done)));
        });
    }
    barrier_step(&done);
    done.1.wait();
}

fn barrier_step(done: &(core::sync::atomic::AtomicUsize, Completion)) {
    if done.0.fetch_sub(1, core::sync::atomic::Ordering::AcqRel) == 1 {
        done.1.complete_all();
    }
}

/// Runs what is due on `cpu`; returns whether anything is left there. Task context.
pub(crate) fn run_callbacks(cpu: arch::cpu::CpuId) -> bool {
    loop {
        let mut queue = QUEUES[cpu.index()].lock();
        let mut due = None;
        if !queue.waiting.is_empty() && grace::is_over(queue.waiting.seq) {
            due = Some(core::mem::replace(&mut queue.waiting, Batch::new()));
        }
        if queue.waiting.is_empty() && !queue.new.is_empty() {
            queue.waiting = core::mem::replace(&mut queue.new, Batch::new());
            queue.waiting.seq = grace::request();
        }
        let left = !queue.waiting.is_empty();
        drop(queue);
        match due {
            Some(batch) => batch.run(),
            None => return left,
        }
    }
}

/// Whether `run_callbacks` would find something to do now.
pub(crate) fn has_work(cpu: arch::cpu::CpuId) -> bool {
    let queue = QUEUES[cpu.index()].lock();
    if queue.waiting.is_empty() { !queue.new.is_empty() } else { grace::is_over(queue.waiting.seq) }
}

/// Whether anything on `cpu` waits for a grace period.
pub(crate) fn is_waiting(cpu: arch::cpu::CpuId) -> bool {
    let queue = QUEUES[cpu.index()].lock();
    !queue.waiting.is_empty() || !queue.new.is_empty()
}

/// How long a grace period may take before CPUs that keep it from ending are reported, in nanoseconds; 0 for ever.
pub static STALL_NS: AtomicU64 = AtomicU64::new(21_000_000_000);
static ON_STALL: Once<fn(CpuMask)> = Once::new();

/// Registers who reports, with interrupts off, that CPUs keep a grace period from ending.
pub fn on_stall(report: fn(CpuMask)) {
    ON_STALL.call_once(|| report);
}

/// `cpus` keep a grace period from ending. Interrupts off.
pub(crate) fn stalled(cpus: CpuMask) {
    if let Some(report) = ON_STALL.get() {
        report(cpus);
    }
}

/// Makes retired `RcuPtr` values come here. Once, at boot, before any is dropped.
pub(crate) fn init() {
    // SAFETY: `defer` calls the function after a grace period for all sections with preemption
    // off, and every `RcuReadSide` in the kernel is one.
    unsafe { sync::set_reclaimer(defer) };
}
