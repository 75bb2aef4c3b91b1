//! The lock-order validator of debug builds. Release builds compile it to nothing.

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

/// The class of a lock: the place where it was constructed.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    #[cfg(debug_assertions)]
    #[allow(dead_code)]
    site: &'static core::panic::Location<'static>,
}

impl Class {
    /// The class named after the caller's source position.
    #[track_caller]
    pub const fn here() -> Self {
        Self {
            #[cfg(debug_assertions)]
            site: core::panic::Location::caller(),
        }
    }
}

/// Notes that a lock is about to be taken.
#[inline(always)]
pub fn acquire(_class: &Class, _address: usize, _mode: Mode, _irqs_off: bool) {}

/// Notes that a lock is about to be released.
#[inline(always)]
pub fn release(_class: &Class, _address: usize) {}
