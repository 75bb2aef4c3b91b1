//! The lock-order validator of debug builds. Release builds compile it to nothing.
//!
//! Locks belong to *classes*, by the place where they were constructed. Each context (task, or CPU in
//! an interrupt) has a list of the locks it holds. When a lock is about to be taken, an edge from
//! every held class to the new class enters a graph; if the graph already has a path the other way, two
//! contexts can wait for each other, whether or not they do this time, and the validator reports both
//! places. It also reports:
//!
//! - a lock of a class that is held already, unless it is taken as nested;
//! - a class taken in interrupt handlers that is elsewhere taken with interrupts on;
//! - a sleeping lock taken under a spinning one.
//!
//! Locks taken by `try_lock` are held like others but add no edge *to* themselves, as they never wait.
//!
//! The validator does not know tasks and CPUs: the scheduler tells it by [`set_environment`]. Before that
//! nothing is checked. It switches itself off after its first report.

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Exclusively.
    Write,
    /// Shared with other readers.
    Read,
    /// Without waiting: never the last link of a deadlock.
    Try,
    /// A lock that sleeps.
    Sleep,
    /// Exclusively, and a lock of the same class may be held already, in an order the caller
    /// guarantees.
    Nested,
}

#[cfg(debug_assertions)]
pub use checked::{Class, Environment, Held, acquire, held_count, release, set_environment};
#[cfg(not(debug_assertions))]
pub use unchecked::{Class, acquire, held_count, release};

#[cfg(not(debug_assertions))]
mod unchecked {
    use super::Mode;

    /// The class of a lock: nothing in release builds.
    #[derive(Debug, Clone, Copy)]
    pub struct Class;

    impl Class {
        /// The class named after the caller's source position.
        #[inline(always)]
        pub const fn here() -> Self {
            Self
        }
    }

    /// Notes that a lock is about to be taken.
    #[inline(always)]
    pub fn acquire(_class: &Class, _address: usize, _mode: Mode, _irqs_off: bool) {}

    /// Notes that a lock is about to be released.
    #[inline(always)]
    pub fn release(_class: &Class, _address: usize) {}

    /// How many locks this context holds: not known in release builds.
    #[inline(always)]
    pub fn held_count() -> usize {
        0
    }
}

#[cfg(debug_assertions)]
mod checked {
    use core::cell::Cell;
    use core::panic::Location;
    use core::ptr;
    use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering};

    use super::Mode;
    use crate::once::Once;
    use crate::raw::RawSpin;

    /// The most classes; further ones are not checked.
    const CLASSES: usize = 512;
    /// The most locks that a context holds at a time.
    const DEPTH: usize = 24;
    const UNKNOWN: u16 = u16::MAX;

    /// Who holds locks, and in what state it is; implemented by the scheduler.
    pub trait Environment: Sync {
        /// The locks that the running context holds; `None` where none can be tracked. Other contexts
        /// must not use it at the same time: the interrupt state may not change behind it.
        fn held(&self) -> Option<&Held>;
        /// Whether an interrupt handler runs.
        fn in_interrupt(&self) -> bool;
        /// Whether interrupts are on.
        fn irqs_on(&self) -> bool;
        /// Calls `f` with interrupts off on this CPU: softirqs share the list of the task they interrupt.
        fn uninterrupted(&self, f: &mut dyn FnMut()) {
            f();
        }
        /// A rule is broken.
        fn report(&self, message: core::fmt::Arguments<'_>);
    }

    static ENVIRONMENT: Once<&'static dyn Environment> = Once::new();
    static OFF: AtomicBool = AtomicBool::new(false);

    /// Switches the validator on.
    pub fn set_environment(environment: &'static dyn Environment) {
        ENVIRONMENT.call_once(|| environment);
    }

    /// The class of a lock: the place where it was constructed.
    #[derive(Debug)]
    pub struct Class {
        site: &'static Location<'static>,
        index: AtomicU16,
    }

    impl Class {
        /// The class named after the caller's source position.
        #[track_caller]
        pub const fn here() -> Self {
            Self { site: Location::caller(), index: AtomicU16::new(UNKNOWN) }
        }

        fn index(&self) -> Option<u16> {
            match self.index.load(Ordering::Relaxed) {
                UNKNOWN => {
                    let index = GRAPH.find(self.site)?;
                    self.index.store(index, Ordering::Relaxed);
                    Some(index)
                }
                index => Some(index),
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    struct Entry {
        class: u16,
        address: usize,
        sleeps: bool,
    }

    /// The locks that one context holds.
    #[derive(Debug)]
    pub struct Held {
        entries: [Cell<Entry>; DEPTH],
        len: Cell<usize>,
    }

    impl Held {
        /// None.
        pub const fn new() -> Self {
            Self {
                entries: [const { Cell::new(Entry { class: 0, address: 0, sleeps: false }) }; DEPTH],
                len: Cell::new(0),
            }
        }

        /// How many.
        pub fn len(&self) -> usize {
            self.len.get()
        }

        /// Whether none.
        pub fn is_empty(&self) -> bool {
            self.len.get() == 0
        }

        fn iter(&self) -> impl Iterator<Item = Entry> {
            self.entries.iter().take(self.len.get()).map(Cell::get)
        }

        fn push(&self, entry: Entry) {
            if let Some(slot) = self.entries.get(self.len.get()) {
                slot.set(entry);
                self.len.set(self.len.get() + 1);
            }
        }

        fn remove(&self, address: usize) {
            let len = self.len.get();
            if let Some(at) = self.entries[..len].iter().rposition(|e| e.get().address == address) {
                for i in at + 1..len {
                    self.entries[i - 1].set(self.entries[i].get());
                }
                self.len.set(len - 1);
            }
        }
    }

    impl Default for Held {
        fn default() -> Self {
            Self::new()
        }
    }

    /// Taken by an interrupt handler.
    const IN_IRQ: u8 = 1;
    /// Taken with interrupts on.
    const IRQS_ON: u8 = 2;

    /// Classes and the orders they were taken in.
    struct Graph {
        sites: [AtomicPtr<Location<'static>>; CLASSES],
        usage: [AtomicU8; CLASSES],
        /// Bit `b` of row `a`: `b` was taken while `a` was held.
        after: [[AtomicU64; CLASSES / 64]; CLASSES],
        writers: RawSpin,
    }

    static GRAPH: Graph = Graph {
        sites: [const { AtomicPtr::new(ptr::null_mut()) }; CLASSES],
        usage: [const { AtomicU8::new(0) }; CLASSES],
        after: [const { [const { AtomicU64::new(0) }; CLASSES / 64] }; CLASSES],
        writers: RawSpin::new(),
    };

    impl Graph {
        fn find(&self, site: &'static Location<'static>) -> Option<u16> {
            let hash = (site.line() as usize * 31 + site.column() as usize + site.file().len() * 7) % CLASSES;
            for probe in 0..CLASSES {
                let at = (hash + probe) % CLASSES;
                let slot = &self.sites[at];
                let wanted = ptr::from_ref(site).cast_mut();
                let found =
                    match slot.compare_exchange(ptr::null_mut(), wanted, Ordering::AcqRel, Ordering::Acquire)
                    {
                        Ok(_) => return Some(at as u16),
                        Err(found) => found,
                    };
                // SAFETY: slots hold null or a `'static` location. The same place may have several.
                if unsafe { *found == *site } {
                    return Some(at as u16);
                }
            }
            None
        }

        fn site(&self, class: u16) -> &'static Location<'static> {
            // SAFETY: a class' slot holds a `'static` location for ever.
            unsafe { &*self.sites[usize::from(class)].load(Ordering::Acquire) }
        }

        fn has(&self, from: u16, to: u16) -> bool {
            let bit = self.after[usize::from(from)][usize::from(to) / 64].load(Ordering::Relaxed);
            bit >> (to % 64) & 1 != 0
        }

        /// Adds an edge; false if there is a path back.
        fn add(&self, environment: &dyn Environment, from: u16, to: u16) -> bool {
            if self.has(from, to) {
                return true;
            }
            let mut cyclic = false;
            // An interrupt handler adds edges, too: it would wait for the one that it interrupts.
            environment.uninterrupted(&mut || {
                self.writers.lock();
                cyclic = self.reaches(to, from);
                if !cyclic {
                    self.after[usize::from(from)][usize::from(to) / 64]
                        .fetch_or(1 << (to % 64), Ordering::Relaxed);
                }
                self.writers.unlock();
            });
            !cyclic
        }

        fn reaches(&self, from: u16, to: u16) -> bool {
            let mut seen = [0u64; CLASSES / 64];
            let mut next = [0u64; CLASSES / 64];
            next[usize::from(from) / 64] |= 1 << (from % 64);
            loop {
                let Some(word) = next.iter().position(|w| *w != 0) else { return false };
                let bit = next[word].trailing_zeros() as usize;
                next[word] &= next[word] - 1;
                seen[word] |= 1 << bit;
                let class = word * 64 + bit;
                if class == usize::from(to) {
                    return true;
                }
                for (i, edges) in self.after[class].iter().enumerate() {
                    next[i] |= edges.load(Ordering::Relaxed) & !seen[i];
                }
            }
        }
    }

    fn report(environment: &dyn Environment, message: core::fmt::Arguments<'_>) {
        if !OFF.swap(true, Ordering::Relaxed) {
            environment.report(message);
        }
    }

    /// Notes that a lock is about to be taken. `irqs_off`: its context has switched interrupts off.
    #[track_caller]
    pub fn acquire(class: &Class, address: usize, mode: Mode, irqs_off: bool) {
        let Some(environment) = ENVIRONMENT.get() else { return };
        if OFF.load(Ordering::Relaxed) {
            return;
        }
        let (Some(held), Some(index)) = (environment.held(), class.index()) else { return };
        let here = Location::caller();
        let sleeps = mode == Mode::Sleep;
        if mode != Mode::Try {
            for other in held.iter() {
                let site = GRAPH.site(other.class);
                if sleeps && !other.sleeps {
                    return report(
                        *environment,
                        format_args!(
                            "sleeping lock of {} taken at {here} under spin lock of {site}",
                            class.site
                        ),
                    );
                }
                if other.address == address && mode != Mode::Read {
                    return report(
                        *environment,
                        format_args!("lock of {} taken twice, at {here}", class.site),
                    );
                }
                if other.class == index {
                    // Siblings: allowed when said so, and for sleeping locks (parent and child inodes).
                    if mode == Mode::Write {
                        return report(
                            *environment,
                            format_args!("two locks of {} taken at {here}, not as nested", class.site),
                        );
                    }
                    continue;
                }
                if !GRAPH.add(*environment, other.class, index) {
                    return report(
                        *environment,
                        format_args!(
                            "lock of {} taken at {here} while holding the one of {site}: the opposite order was seen before",
                            class.site
                        ),
                    );
                }
            }
        }
        if !sleeps && mode != Mode::Try {
            let mut usage = 0;
            if environment.in_interrupt() {
                usage |= IN_IRQ;
            } else if !irqs_off && environment.irqs_on() {
                usage |= IRQS_ON;
            }
            let all = GRAPH.usage[usize::from(index)].fetch_or(usage, Ordering::Relaxed) | usage;
            if all & (IN_IRQ | IRQS_ON) == IN_IRQ | IRQS_ON {
                return report(
                    *environment,
                    format_args!(
                        "lock of {} is taken in interrupts and with interrupts on, here at {here}",
                        class.site
                    ),
                );
            }
        }
        environment.uninterrupted(&mut || held.push(Entry { class: index, address, sleeps }));
    }

    /// Notes that a lock is about to be released.
    pub fn release(_class: &Class, address: usize) {
        if let Some(environment) = ENVIRONMENT.get()
            && !OFF.load(Ordering::Relaxed)
            && let Some(held) = environment.held()
        {
            environment.uninterrupted(&mut || held.remove(address));
        }
    }

    /// How many locks this context holds.
    pub fn held_count() -> usize {
        ENVIRONMENT.get().and_then(|e| e.held()).map_or(0, Held::len)
    }

    #[cfg(test)]
    mod tests {
        use std::cell::RefCell;
        use std::string::{String, ToString};

        use super::*;
        use crate::{Bare, SpinLock};

        std::thread_local! {
            static HELD: &'static Held = Box::leak(Box::new(Held::new()));
            static REPORTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
            static UNINTERRUPTED: Cell<u32> = const { Cell::new(0) };
        }

        struct Threads;

        impl Environment for Threads {
            fn held(&self) -> Option<&Held> {
                Some(HELD.with(|h| *h))
            }
            fn in_interrupt(&self) -> bool {
                false
            }
            fn irqs_on(&self) -> bool {
                true
            }
            fn uninterrupted(&self, f: &mut dyn FnMut()) {
                UNINTERRUPTED.set(UNINTERRUPTED.get() + 1);
                f();
            }
            fn report(&self, message: core::fmt::Arguments<'_>) {
                REPORTS.with(|r| r.borrow_mut().push(message.to_string()));
                OFF.store(false, Ordering::Relaxed);
            }
        }

        fn reports() -> Vec<String> {
            REPORTS.with(|r| core::mem::take(&mut *r.borrow_mut()))
        }

        #[test]
        fn no_interrupt_comes_while_the_graph_is_changed() {
            set_environment(&Threads);
            let outer = SpinLock::<_, Bare>::new(1);
            let inner = SpinLock::<_, Bare>::new(2);
            let uninterrupted = || {
                let before = UNINTERRUPTED.get();
                let _outer = outer.lock();
                let _inner = inner.lock();
                UNINTERRUPTED.get() - before
            };
            let first = uninterrupted();
            let again = uninterrupted();
            assert_eq!(first, again + 1, "the new edge of the first time");
        }

        #[test]
        fn inversions_are_found_before_they_deadlock() {
            set_environment(&Threads);
            let a = SpinLock::<_, Bare>::new(1);
            let b = SpinLock::<_, Bare>::new(2);
            let c = SpinLock::<_, Bare>::new(3);
            {
                let _a = a.lock();
                let _b = b.lock();
            }
            {
                let _b = b.lock();
                let _c = c.lock();
            }
            assert!(reports().is_empty());
            {
                let _c = c.lock();
                let _a = a.lock();
            }
            let found = reports();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("opposite order"), "{found:?}");
        }

        #[test]
        fn trying_is_not_ordering() {
            set_environment(&Threads);
            let a = SpinLock::<_, Bare>::new(1);
            let b = SpinLock::<_, Bare>::new(2);
            {
                let _a = a.lock();
                let _b = b.lock();
            }
            {
                let _b = b.lock();
                let _a = a.try_lock();
            }
            assert!(reports().is_empty());
        }
    }
}
