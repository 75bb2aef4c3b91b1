//! Allocation failures on purpose, in debug builds: `failslab` and `fail_page_alloc`
//! (`Documentation/fault-injection/fault-injection.rst`).
//!
//! Each allocation that may fail asks here first. Two ways decide: the running thread's countdown
//! (`/proc/self/task/TID/fail-nth`), or the [`Attributes`] of the kind of allocation (debugfs). What happens in
//! interrupts, what was promised ([`crate::fallible`]) and what cannot fail ([`Gfp::NOFAIL`]) is left alone. In release builds
//! the questions compile to `false`.

#[cfg(debug_assertions)]
pub use enabled::*;

#[cfg(not(debug_assertions))]
mod disabled {
    use crate::gfp::Gfp;

    #[inline(always)]
    pub(crate) fn slab_fails(_: impl FnOnce() -> Gfp, _: usize) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn page_fails(_: Gfp, _: u8) -> bool {
        false
    }
}

#[cfg(not(debug_assertions))]
pub(crate) use disabled::*;

#[cfg(debug_assertions)]
mod enabled {
    use crate::context;
    use crate::fallible;
    use crate::gfp::Gfp;
    use arch::thread::{ThreadFlags, current_ref};
    use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

    /// Somebody has ever asked for failures: until then nothing else is looked at.
    static IN_USE: AtomicBool = AtomicBool::new(false);

    /// The knobs of a kind of failure; each is a file in debugfs.
    pub struct Attributes {
        /// What fails, as its directory is called.
        pub name: &'static str,
        /// Percentage of calls that fail.
        pub probability: AtomicU32,
        /// Only every n-th call can fail.
        pub interval: AtomicU32,
        /// Failures left; -1 for no limit.
        pub times: AtomicI32,
        /// Bytes (or pages) that are allocated before the first failure.
        pub space: AtomicI32,
        /// 0: silent; 1: a line per failure; 2: with a backtrace.
        pub verbose: AtomicU32,
        /// Only in threads with `/proc/PID/make-it-fail` set.
        pub task_filter: AtomicBool,
        /// Allocations that may reclaim (sleep) do not fail.
        pub ignore_gfp_wait: AtomicBool,
        /// Allocations of user pages do not fail.
        pub ignore_gfp_highmem: AtomicBool,
        /// The smallest order of pages that fails.
        pub min_order: AtomicU32,
        calls: AtomicU32,
        /// Failures injected so far.
        pub injected: AtomicU64,
    }

    impl Attributes {
        const fn new(name: &'static str) -> Self {
            Self {
                name,
                probability: AtomicU32::new(0),
                interval: AtomicU32::new(1),
                times: AtomicI32::new(1),
                space: AtomicI32::new(0),
                verbose: AtomicU32::new(2),
                task_filter: AtomicBool::new(false),
                ignore_gfp_wait: AtomicBool::new(true),
                ignore_gfp_highmem: AtomicBool::new(true),
                min_order: AtomicU32::new(1),
                calls: AtomicU32::new(0),
                injected: AtomicU64::new(0),
            }
        }

        /// Whether this call of `size` (bytes or pages) fails.
        fn decides(&self, size: usize) -> bool {
            let task = sched::current();
            let faults = task.faults();
            match faults.count_down() {
                Some(false) => return false,
                Some(true) => return self.fail(),
                None => {}
            }
            let probability = self.probability.load(Relaxed);
            if probability == 0 || self.times.load(Relaxed) == 0 {
                return false;
            }
            if self.task_filter.load(Relaxed) && !faults.make_it_fail.load(Relaxed) {
                return false;
            }
            let size = i32::try_from(size).unwrap_or(i32::MAX);
            if self.space.fetch_update(Relaxed, Relaxed, |n| (n > size).then(|| n - size)).is_ok() {
                return false;
            }
            let interval = self.interval.load(Relaxed);
            if interval > 1 && !(self.calls.fetch_add(1, Relaxed) + 1).is_multiple_of(interval) {
                return false;
            }
            if probability <= random(100) {
                return false;
            }
            let _ = self.times.fetch_update(Relaxed, Relaxed, |n| (n > 0).then(|| n - 1));
            self.fail()
        }

        fn fail(&self) -> bool {
            self.injected.fetch_add(1, Relaxed);
            let verbose = self.verbose.load(Relaxed);
            if verbose > 0 {
                let task = sched::current();
                log::warn!("FAULT_INJECTION: forcing a failure. name {}, comm {}", self.name, task.comm());
            }
            if verbose > 1 {
                arch::backtrace::frames(arch::backtrace::frame_pointer(), |ip| {
                    log::warn!(" {}", arch::symbols::At(ip));
                    true
                });
            }
            true
        }
    }

    /// A number below `below`; good enough to spread failures.
    fn random(below: u32) -> u32 {
        static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
        let step = |x: u64| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            x ^ (x << 17)
        };
        let old = STATE.fetch_update(Relaxed, Relaxed, |x| Some(step(x))).unwrap_or(1);
        ((old >> 32) % u64::from(below)) as u32
    }

    /// Allocations of kernel objects.
    pub static FAILSLAB: Attributes = Attributes::new("failslab");
    /// Allocations of pages.
    pub static FAIL_PAGE_ALLOC: Attributes = Attributes::new("fail_page_alloc");

    /// From now on allocations ask.
    pub fn enable() {
        IN_USE.store(true, Relaxed);
    }

    fn exempt(gfp: Gfp) -> bool {
        let no_fail = ThreadFlags::MEMALLOC_NOFAIL;
        gfp.contains(Gfp::NOFAIL)
            || arch::irq::in_interrupt()
            || fallible::is_committed()
            || current_ref().flags().contains(no_fail)
    }

    /// Whether an allocation of `size` bytes from the caches shall fail.
    #[inline]
    pub(crate) fn slab_fails(gfp: impl FnOnce() -> Gfp, size: usize) -> bool {
        IN_USE.load(Relaxed) && slab_fails_slow(gfp(), size)
    }

    #[cold]
    fn slab_fails_slow(gfp: Gfp, size: usize) -> bool {
        let gfp = context::narrow(gfp);
        let ignored = FAILSLAB.ignore_gfp_wait.load(Relaxed) && gfp.contains(Gfp::DIRECT_RECLAIM);
        !ignored && !exempt(gfp) && FAILSLAB.decides(size)
    }

    /// Whether an allocation of 2^`order` pages shall fail.
    #[inline]
    pub(crate) fn page_fails(gfp: Gfp, order: u8) -> bool {
        IN_USE.load(Relaxed) && page_fails_slow(gfp, order)
    }

    #[cold]
    fn page_fails_slow(gfp: Gfp, order: u8) -> bool {
        let gfp = context::narrow(gfp);
        let attributes = &FAIL_PAGE_ALLOC;
        let ignored = u32::from(order) < attributes.min_order.load(Relaxed)
            || attributes.ignore_gfp_highmem.load(Relaxed) && gfp.contains(Gfp::HIGHMEM)
            || attributes.ignore_gfp_wait.load(Relaxed) && gfp.contains(Gfp::DIRECT_RECLAIM);
        !ignored && !exempt(gfp) && attributes.decides(1 << order)
    }
}
