//! High-resolution timers: callbacks in interrupt context at a given nanosecond.
//!
//! Each CPU has one time line per clock, a red-black tree ordered by expiry, under one lock. The
//! earliest expiry of all programs the CPU's one-shot timer. A timer is queued on the CPU that
//! started it. Cancelling leaves the hardware programmed: an interrupt too many costs less than
//! programming it twice.
//!
//! [`HrTimer`] owns its callback and lives on the heap (posix timers, timerfd, itimers);
//! [`SleepTimer`] lives on the stack of a sleeping task and wakes it.
//!
//! Locks: a base's lock is taken with interrupts off and never held across a callback. Callbacks
//! may start timers and wake tasks. See `hrtimer` in the Linux documentation for the model.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arch::cpu::{CpuId, MAX_CPUS};
use arch::irq::IrqGuard;
use arch::sync::SpinLockIrq;
use collections::rbtree::{RbNode, RbTree};
use sync::SpinLockGuard;

use crate::state::State;
use crate::task::Task;
use crate::time::{self, Clock};
use collections::fallible::try_box;

/// A point in time on some clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The clock.
    pub clock: Clock,
    /// Nanoseconds on that clock.
    pub ns: u64,
    /// How much later is still good, in nanoseconds: lets wake-ups coincide.
    pub slack_ns: u64,
}

impl Deadline {
    /// At `ns` of `clock`.
    pub const fn at(clock: Clock, ns: u64) -> Self {
        Self { clock, ns, slack_ns: 0 }
    }

    /// In `ns` nanoseconds from now.
    pub fn after_ns(ns: u64) -> Self {
        Self::at(Clock::Monotonic, time::monotonic_ns().saturating_add(ns))
    }

    /// In `ms` milliseconds from now.
    pub fn after_ms(ms: u64) -> Self {
        Self::after_ns(ms.saturating_mul(1_000_000))
    }

    /// With `slack_ns` of tolerance.
    pub const fn with_slack(mut self, slack_ns: u64) -> Self {
        self.slack_ns = slack_ns;
        self
    }

    /// Nanoseconds left, 0 if it has passed.
    pub fn remaining_ns(&self) -> u64 {
        self.ns.saturating_sub(time::clock_ns(self.clock))
    }
}

/// What a timer does after its callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Nothing.
    No,
    /// Expires again at this time of its clock.
    At(u64),
}

/// A queued timer, as `/proc/timer_list` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Its clock.
    pub clock: Clock,
    /// Earliest expiry, nanoseconds of the clock.
    pub soft: u64,
    /// Latest expiry.
    pub hard: u64,
    /// The function that it calls.
    pub func: usize,
}

/// The timers of a CPU by clock and expiry, and what its hardware is programmed to (monotonic nanoseconds;
/// `u64::MAX`: nothing). `None` without memory.
#[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
pub fn list(cpu: CpuId) -> Option<(Vec<Listed>, u64)> {
    let mut list: Vec<Listed> = Vec::new();
    loop {
        let wanted = BASES[cpu.index()].lock().count();
        // A few more than there are now: others come meanwhile.
        list.try_reserve_exact(wanted + wanted / 8 + 4).ok()?;
        let base = BASES[cpu.index()].lock();
        if base.count() > list.capacity() {
            continue;
        }
        base.for_each(&mut |timer| {
            let (clock, soft, hard) = (timer.clock.get(), timer.soft.get(), timer.hard.get());
            list.push(Listed { clock, soft, hard, func: timer.func as usize });
        });
        return Some((list, base.next_event));
    }
}

/// The heart of every timer. Pinned: the tree points to it.
#[repr(C)]
struct RawTimer {
    node: RbNode,
    /// Earliest expiry, in nanoseconds of `clock`.
    soft: Cell<u64>,
    /// Latest expiry: what the tree is ordered by.
    hard: Cell<u64>,
    clock: Cell<Clock>,
    queued: Cell<bool>,
    /// The CPU whose base protects this timer, or [`MIGRATING`].
    base: AtomicU32,
    /// Called with the time on the timer's clock; interrupts are off.
    func: unsafe fn(NonNull<RawTimer>, u64) -> Restart,
}

const MIGRATING: u32 = u32::MAX;

// SAFETY: the cells are accessed under the lock of the base that `base` names.
unsafe impl Send for RawTimer {}
// SAFETY: as above.
unsafe impl Sync for RawTimer {}

struct Base {
    trees: [RbTree; Clock::COUNT],
    /// Whose callback runs at this moment.
    running: *const RawTimer,
    /// What the hardware is programmed to, in monotonic nanoseconds.
    next_event: u64,
}

// SAFETY: the pointers in it are followed under its lock.
unsafe impl Send for Base {}

static BASES: [SpinLockIrq<Base>; MAX_CPUS] = [const { SpinLockIrq::new(Base::new()) }; MAX_CPUS];

type Locked = SpinLockGuard<'static, Base, arch::sync::Irq>;

impl Base {
    const fn new() -> Self {
        Self { trees: [const { RbTree::new() }; Clock::COUNT], running: ptr::null(), next_event: u64::MAX }
    }

    fn first(&self, clock: Clock) -> Option<&RawTimer> {
        // SAFETY: nodes are the first fields of live timers.
        unsafe { self.trees[clock as usize].first().cast::<RawTimer>().as_ref() }
    }

    /// Calls `f` with every timer, clock by clock, in order of expiry.
    fn for_each(&self, f: &mut dyn FnMut(&RawTimer)) {
        for tree in &self.trees {
            let mut at = tree.first();
            // SAFETY: nodes are the first fields of live timers, and the tree is locked.
            while let Some(timer) = unsafe { at.cast::<RawTimer>().as_ref() } {
                f(timer);
                // SAFETY: the node is in this tree.
                at = unsafe { tree.next(at) };
            }
        }
    }

    fn count(&self) -> usize {
        let mut count = 0;
        self.for_each(&mut |_| count += 1);
        count
    }

    /// # Safety
    /// `timer` is not queued and this base protects it.
    unsafe fn insert(&mut self, timer: &RawTimer) -> bool {
        timer.queued.set(true);
        // SAFETY: pinned, and removed before it dies; nodes are first fields of timers.
        unsafe {
            self.trees[timer.clock.get() as usize].insert(&timer.node, |a, b| {
                (*a.cast::<RawTimer>()).hard.get() < (*b.cast::<RawTimer>()).hard.get()
            })
        }
    }

    /// # Safety
    /// `timer` is queued here.
    unsafe fn remove(&mut self, timer: &RawTimer) {
        timer.queued.set(false);
        // SAFETY: it is in this tree.
        unsafe { self.trees[timer.clock.get() as usize].remove(&timer.node) };
    }

    /// The earliest latest-expiry of all clocks, in monotonic time.
    fn earliest(&self) -> u64 {
        let mut earliest = u64::MAX;
        for clock in Clock::ALL {
            if let Some(timer) = self.first(clock) {
                earliest = earliest.min(time::to_monotonic(clock, timer.hard.get()));
            }
        }
        earliest
    }

    fn program(&mut self) {
        let next = self.earliest();
        if next != self.next_event {
            self.next_event = next;
            arch::time::set_oneshot_ns(time::monotonic_to_raw(next));
        }
    }
}

impl RawTimer {
    const fn new(func: unsafe fn(NonNull<Self>, u64) -> Restart) -> Self {
        Self {
            node: RbNode::new(),
            soft: Cell::new(0),
            hard: Cell::new(0),
            clock: Cell::new(Clock::Monotonic),
            queued: Cell::new(false),
            base: AtomicU32::new(0),
            func,
        }
    }

    /// Locks the base that protects this timer.
    fn lock_base(&self) -> Locked {
        loop {
            let cpu = self.base.load(Ordering::Acquire);
            if cpu != MIGRATING {
                let base = BASES[CpuId(cpu).index()].lock();
                if self.base.load(Ordering::Relaxed) == cpu {
                    return base;
                }
            }
            arch::cpu::relax();
        }
    }

    fn start(&self, deadline: Deadline) {
        let _here = IrqGuard::new();
        let here = arch::cpu::current();
        let mut base = self.lock_base();
        if self.queued.get() {
            // SAFETY: queued, and we hold its base.
            unsafe { base.remove(self) };
        }
        if self.base.load(Ordering::Relaxed) != here.0 && !ptr::eq(base.running, self) {
            self.base.store(MIGRATING, Ordering::Relaxed);
            drop(base);
            base = BASES[here.index()].lock();
            self.base.store(here.0, Ordering::Release);
        }
        self.soft.set(deadline.ns);
        self.hard.set(deadline.ns.saturating_add(deadline.slack_ns));
        self.clock.set(deadline.clock);
        // SAFETY: not queued (removed above), and we hold its base.
        let first = unsafe { base.insert(self) };
        if first && self.base.load(Ordering::Relaxed) == here.0 {
            let at = time::to_monotonic(deadline.clock, self.hard.get());
            if at < base.next_event {
                base.next_event = at;
                arch::time::set_oneshot_ns(time::monotonic_to_raw(at));
            }
        }
    }

    /// `None`: the callback is running on some CPU.
    fn try_cancel(&self) -> Option<bool> {
        let mut base = self.lock_base();
        if self.queued.get() {
            // SAFETY: queued, and we hold its base.
            unsafe { base.remove(self) };
            return Some(true);
        }
        (!ptr::eq(base.running, self)).then_some(false)
    }

    fn cancel(&self) -> bool {
        loop {
            match self.try_cancel() {
                Some(was_queued) => return was_queued,
                None => arch::cpu::relax(),
            }
        }
    }
}

/// Runs this CPU's expired timers and programs the next interrupt. Interrupts off, in the timer
/// interrupt.
pub fn run_expired() {
    let mut base = BASES[arch::cpu::current().index()].lock();
    base.next_event = u64::MAX;
    for clock in Clock::ALL {
        let mut now = None;
        while let Some(timer) = base.first(clock) {
            let now = *now.get_or_insert_with(|| time::clock_ns(clock));
            if timer.soft.get() > now {
                break;
            }
            let timer = NonNull::from(timer);
            // SAFETY: it is queued here; it stays alive until `running` is cleared, because
            // whoever frees it cancels it first.
            let func = unsafe {
                base.remove(timer.as_ref());
                timer.as_ref().func
            };
            base.running = timer.as_ptr();
            drop(base);
            // SAFETY: as above; the callback belongs to this timer.
            let restart = unsafe { func(timer, now) };
            base = BASES[arch::cpu::current().index()].lock();
            if let Restart::At(at) = restart {
                // SAFETY: alive, as above. Unless the callback restarted it, it is not queued.
                unsafe {
                    let timer = timer.as_ref();
                    if !timer.queued.get() {
                        timer.soft.set(at);
                        timer.hard.set(at);
                        base.insert(timer);
                    }
                }
            }
            base.running = ptr::null();
        }
    }
    base.next_event = 0;
    base.program();
}

/// The earliest expiry on this CPU, in monotonic nanoseconds; `u64::MAX` if there is none.
pub fn next_event() -> u64 {
    BASES[arch::cpu::current().index()].lock().earliest()
}

/// The wall clock was set: this CPU's timers may be due earlier. Interrupts off.
pub(crate) fn reprogram() {
    BASES[arch::cpu::current().index()].lock().program();
}

/// Moves the timers of a CPU that went down to this one.
pub fn migrate_from(dead: CpuId) {
    let here = arch::cpu::current();
    loop {
        let mut base = BASES[dead.index()].lock();
        let Some(timer) = Clock::ALL.into_iter().find_map(|c| base.first(c)) else { return };
        let timer = NonNull::from(timer);
        // SAFETY: queued there; between the two locks `MIGRATING` keeps everybody else away.
        unsafe {
            base.remove(timer.as_ref());
            timer.as_ref().base.store(MIGRATING, Ordering::Relaxed);
            drop(base);
            let mut base = BASES[here.index()].lock();
            timer.as_ref().base.store(here.0, Ordering::Release);
            base.insert(timer.as_ref());
            base.program();
        }
    }
}

/// A timer on the stack of a task that goes to sleep: wakes it at a deadline.
#[repr(C)]
pub struct SleepTimer {
    raw: RawTimer,
    task: NonNull<Task>,
    started: AtomicBool,
    fired: AtomicBool,
    pinned: PhantomPinned,
}

impl SleepTimer {
    /// For the running task `task`.
    pub(crate) fn new(task: &Task) -> Self {
        /// # Safety
        /// `raw` is the first field of a live `SleepTimer`.
        unsafe fn fire(raw: NonNull<RawTimer>, _now: u64) -> Restart {
            // SAFETY: the caller's promise; the task cannot leave its sleep for good before it has
            // cancelled the timer, which waits for this function.
            unsafe {
                let timer = raw.cast::<SleepTimer>().as_ref();
                timer.fired.store(true, Ordering::Release);
                crate::wake_up_state(timer.task.as_ref(), State::NORMAL);
            }
            Restart::No
        }
        Self {
            raw: RawTimer::new(fire),
            task: NonNull::from(task),
            started: AtomicBool::new(false),
            fired: AtomicBool::new(false),
            pinned: PhantomPinned,
        }
    }

    /// Starts it. (In place: the tree points to it until it is dropped.)
    pub(crate) fn start(self: Pin<&Self>, deadline: Deadline) {
        self.started.store(true, Ordering::Relaxed);
        self.get_ref().raw.start(deadline);
    }

    /// Whether the deadline came.
    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

impl Drop for SleepTimer {
    fn drop(&mut self) {
        if *self.started.get_mut() {
            self.raw.cancel();
        }
    }
}

/// A timer with a callback of its own.
///
/// The callback runs in interrupt context on the CPU that started the timer, with interrupts off;
/// it gets the time on the timer's clock.
pub struct HrTimer {
    inner: Pin<Box<Inner>>,
}

#[repr(C)]
struct Inner {
    raw: RawTimer,
    expiries: AtomicU64,
    callback: Box<dyn Fn(u64) -> Restart + Send + Sync>,
    pinned: PhantomPinned,
}

impl HrTimer {
    /// A stopped timer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(callback: impl Fn(u64) -> Restart + Send + Sync + 'static) -> abi::Result<Self> {
        /// # Safety
        /// `raw` is the first field of a live `Inner`.
        unsafe fn fire(raw: NonNull<RawTimer>, now: u64) -> Restart {
            // SAFETY: the caller's promise.
            let inner = unsafe { raw.cast::<Inner>().as_ref() };
            inner.expiries.fetch_add(1, Ordering::Relaxed);
            (inner.callback)(now)
        }
        let callback: Box<dyn Fn(u64) -> Restart + Send + Sync> = try_box(callback)?;
        Ok(Self {
            inner: Box::into_pin(try_box(Inner {
                raw: RawTimer::new(fire),
                expiries: AtomicU64::new(0),
                callback,
                pinned: PhantomPinned,
            })?),
        })
    }

    /// Starts the timer, or moves it if it is started already.
    pub fn start(&self, deadline: Deadline) {
        self.inner.raw.start(deadline);
    }

    /// Stops the timer and waits for a running callback; whether it was started. Not from the
    /// callback itself, nor while holding a lock that the callback takes.
    pub fn cancel(&self) -> bool {
        self.inner.raw.cancel()
    }

    /// Stops the timer; `None` if its callback is running at this moment.
    pub fn try_cancel(&self) -> Option<bool> {
        self.inner.raw.try_cancel()
    }

    /// When it expires, if it is started.
    pub fn deadline(&self) -> Option<Deadline> {
        let _base = self.inner.raw.lock_base();
        let raw = &self.inner.raw;
        raw.queued.get().then(|| Deadline {
            clock: raw.clock.get(),
            ns: raw.soft.get(),
            slack_ns: raw.hard.get() - raw.soft.get(),
        })
    }

    /// Whether it is started.
    pub fn is_queued(&self) -> bool {
        self.deadline().is_some()
    }

    /// How often it expired so far.
    pub fn expiries(&self) -> u64 {
        self.inner.expiries.load(Ordering::Relaxed)
    }
}

// SAFETY: the raw timer is protected by its base's lock and the callback is `Send + Sync`.
unsafe impl Send for HrTimer {}
// SAFETY: as above.
unsafe impl Sync for HrTimer {}

impl Drop for HrTimer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl core::fmt::Debug for HrTimer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HrTimer({:?})", self.deadline())
    }
}
