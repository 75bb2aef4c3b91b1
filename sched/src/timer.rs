//! Coarse timers: callbacks in task context, at the granularity of the tick.
//!
//! For time-outs that seldom happen (tty, network, block): starting and cancelling are a few
//! instructions, precision does not matter. Each CPU has a hashed timing wheel (Varghese and Lauck,
//! *Hashed and Hierarchical Timing Wheels*, 1987, scheme 6): a timer lies in the slot of its expiry
//! modulo the wheel's size and is looked at once per turn of the wheel. Expired callbacks run in the
//! CPU's `ksoftirqd` thread: they may take spin locks and wake tasks, and must not sleep for long.
//!
//! Locks: a wheel's lock (interrupts off), never held across a callback.

use alloc::boxed::Box;
use core::cell::Cell;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use arch::cpu::{CpuId, MAX_CPUS};
use arch::sync::SpinLockIrq;
use sync::SpinLockGuard;

use crate::time::{self, TICK_NS};
use collections::fallible::try_box;

const SLOTS: usize = 256;

struct Inner {
    prev: Cell<*const Inner>,
    next: Cell<*const Inner>,
    /// In jiffies.
    expires: Cell<u64>,
    queued: Cell<bool>,
    slot: Cell<usize>,
    /// The CPU whose wheel protects this timer.
    cpu: AtomicU32,
    callback: Box<dyn Fn() + Send + Sync>,
    _pinned: PhantomPinned,
}

struct Wheel {
    slots: [*const Inner; SLOTS],
    /// Jiffies up to which expired timers were run.
    done: u64,
    /// Timers in the wheel.
    count: usize,
    running: *const Inner,
}

// SAFETY: the pointers are followed under the wheel's lock.
unsafe impl Send for Wheel {}

static WHEELS: [SpinLockIrq<Wheel>; MAX_CPUS] = [const {
    SpinLockIrq::new(Wheel { slots: [ptr::null(); SLOTS], done: 0, count: 0, running: ptr::null() })
}; MAX_CPUS];

type Locked = SpinLockGuard<'static, Wheel, arch::sync::Irq>;

impl Wheel {
    fn link(&mut self, timer: &Inner) {
        if self.count == 0 {
            // Nothing was watched: the past is done.
            self.done = self.done.max(time::jiffies());
        }
        // In the past: the next turn.
        let slot = timer.expires.get().max(self.done + 1) as usize % SLOTS;
        timer.slot.set(slot);
        let head = self.slots[slot];
        timer.prev.set(ptr::null());
        timer.next.set(head);
        // SAFETY: linked timers are alive.
        if let Some(head) = unsafe { head.as_ref() } {
            head.prev.set(timer);
        }
        self.slots[slot] = timer;
        timer.queued.set(true);
        self.count += 1;
    }

    fn unlink(&mut self, timer: &Inner) {
        let (prev, next) = (timer.prev.get(), timer.next.get());
        // SAFETY: neighbours are linked, so alive.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(next),
            None => self.slots[timer.slot.get()] = next,
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.prev.set(prev);
        }
        timer.queued.set(false);
        self.count -= 1;
    }

    /// A timer that expired by `now`.
    fn expired(&mut self, now: u64) -> Option<NonNull<Inner>> {
        while self.count > 0 && self.done < now {
            let slot = (self.done + 1) as usize % SLOTS;
            let mut at = self.slots[slot];
            // SAFETY: linked timers are alive.
            while let Some(timer) = unsafe { at.as_ref() } {
                if timer.expires.get() <= now {
                    return Some(NonNull::from(timer));
                }
                at = timer.next.get();
            }
            self.done += 1;
        }
        self.done = self.done.max(now);
        None
    }

    fn next_expiry(&self) -> Option<u64> {
        let mut earliest: Option<u64> = None;
        for head in &self.slots {
            let mut at = *head;
            // SAFETY: linked timers are alive.
            while let Some(timer) = unsafe { at.as_ref() } {
                let expires = timer.expires.get();
                earliest = Some(earliest.map_or(expires, |e| e.min(expires)));
                at = timer.next.get();
            }
        }
        earliest
    }
}

impl Inner {
    fn lock(&self) -> Locked {
        loop {
            let cpu = self.cpu.load(Ordering::Acquire);
            let wheel = WHEELS[CpuId(cpu).index()].lock();
            if self.cpu.load(Ordering::Relaxed) == cpu {
                return wheel;
            }
        }
    }
}

/// A coarse timer.
pub struct Timer {
    inner: Pin<Box<Inner>>,
}

// SAFETY: the links are protected by the wheel's lock; the callback is `Send + Sync`.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// A stopped timer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(callback: impl Fn() + Send + Sync + 'static) -> abi::Result<Self> {
        let callback: Box<dyn Fn() + Send + Sync> = try_box(callback)?;
        Ok(Self {
            inner: Box::into_pin(try_box(Inner {
                prev: Cell::new(ptr::null()),
                next: Cell::new(ptr::null()),
                expires: Cell::new(0),
                queued: Cell::new(false),
                slot: Cell::new(0),
                cpu: AtomicU32::new(0),
                callback,
                _pinned: PhantomPinned,
            })?),
        })
    }

    /// Starts it, or moves it if it is started: expires at the first tick that is `ms` milliseconds from
    /// now or later. Whether it was started before.
    pub fn start_in_ms(&self, ms: u64) -> bool {
        let at = time::monotonic_ns().saturating_add(ms.saturating_mul(1_000_000));
        self.start_at_jiffy(at.div_ceil(TICK_NS))
    }

    /// The same, at a number of ticks since boot ([`time::jiffies`]).
    pub fn start_at_jiffy(&self, expires: u64) -> bool {
        let stay = arch::preempt::PreemptGuard::new();
        let timer = &*self.inner;
        let here = arch::cpu::current();
        let mut wheel = timer.lock();
        let was = timer.queued.get();
        if was {
            wheel.unlink(timer);
        }
        // A running callback keeps the timer on its wheel, so that `cancel` finds it there.
        if timer.cpu.load(Ordering::Relaxed) == here.0 || ptr::eq(wheel.running, timer) {
            timer.expires.set(expires);
            wheel.link(timer);
        } else {
            timer.cpu.store(here.0, Ordering::Release);
            drop(wheel);
            // Somebody else may have started it meanwhile: then that stands.
            let mut wheel = timer.lock();
            if !timer.queued.get() {
                timer.expires.set(expires);
                wheel.link(timer);
            }
        }
        crate::platform::timer_started(here);
        drop(stay);
        was
    }

    /// Stops it, and waits for a running callback; whether it was started. Not from the callback.
    pub fn cancel(&self) -> bool {
        let timer = &*self.inner;
        loop {
            let mut wheel = timer.lock();
            if timer.queued.get() {
                wheel.unlink(timer);
                if !ptr::eq(wheel.running, timer) {
                    return true;
                }
            } else if !ptr::eq(wheel.running, timer) {
                return false;
            }
            drop(wheel);
            crate::yield_now();
        }
    }

    /// Whether it is started.
    pub fn is_queued(&self) -> bool {
        let _wheel = self.inner.lock();
        self.inner.queued.get()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl core::fmt::Debug for Timer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Timer(queued: {})", self.is_queued())
    }
}

/// Whether a timer of `cpu` has expired.
pub(crate) fn has_expired(cpu: CpuId) -> bool {
    WHEELS[cpu.index()].lock().expired(time::jiffies()).is_some()
}

/// Runs the expired timers of `cpu`. Task context.
pub(crate) fn run_expired(cpu: CpuId) {
    let now = time::jiffies();
    let mut wheel = WHEELS[cpu.index()].lock();
    while let Some(timer) = wheel.expired(now) {
        // SAFETY: linked, so alive; its owner waits for `running` before it frees the timer.
        let timer = unsafe { timer.as_ref() };
        wheel.unlink(timer);
        wheel.running = timer;
        drop(wheel);
        (timer.callback)();
        wheel = WHEELS[cpu.index()].lock();
        wheel.running = ptr::null();
    }
}

/// When the next timer of `cpu` expires, in jiffies.
pub(crate) fn next_expiry(cpu: CpuId) -> Option<u64> {
    let wheel = WHEELS[cpu.index()].lock();
    if wheel.count == 0 { None } else { wheel.next_expiry() }
}
