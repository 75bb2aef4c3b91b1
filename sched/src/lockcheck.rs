//! The lock-order validator, for locks that sleep.

pub(crate) use sync::lockdep::Class;
use sync::lockdep::{self, Mode};

#[inline(always)]
#[track_caller]
pub(crate) fn acquire(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Sleep, false);
}

#[inline(always)]
pub(crate) fn acquire_nested(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Nested, false);
}

#[inline(always)]
pub(crate) fn acquired_try(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Try, false);
}

#[inline(always)]
pub(crate) fn release(class: &Class, address: usize) {
    lockdep::release(class, address);
}
