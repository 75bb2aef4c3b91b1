//! Locks, one-time initialisation and RCU pointers: what every layer above needs and
//! what knows nothing of a kernel.
//!
//! Owned here: the spinning locks ([`SpinLock`], [`RwSpinLock`], [`SeqLock`]), [`Once`] and
//! [`Lazy`], [`CachePadded`], and [`RcuPtr`], the pointer that readers follow without a lock.
//! Not owned here: sleeping locks, wait queues and RCU grace periods (`sched`), and the
//! knowledge of what a lock must switch off (`arch::sync` instantiates [`Context`]).
//!
//! # Contexts
//!
//! Every lock is generic over a [`Context`], the thing that is switched off while it is held:
//! preemption, or preemption and interrupts. A lock that an interrupt handler may take is
//! therefore of another *type* than one it may not take.
//!
//! # The validator
//!
//! With `debug_assertions` every lock carries the place of its construction as its class, and
//! [`lockdep`] keeps the order in which classes were ever taken. An inversion is reported the
//! first time both orders have been seen, not when two CPUs meet. Release builds carry none of it.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod context;
pub mod lockdep;
mod once;
mod padded;
mod raw;
mod rcu;
mod rwlock;
mod seqlock;
mod slot;
mod spin;

pub use context::{Bare, Context};
pub use once::{Lazy, Once};
pub use padded::CachePadded;
pub use rcu::{RcuPtr, RcuReadSide, Retired, set_reclaimer};
pub use rwlock::{RwReadGuard, RwSpinLock, RwWriteGuard};
pub use seqlock::{SeqCount, SeqLock, SeqLockGuard};
pub use slot::BoxSlot;
pub use spin::{SpinLock, SpinLockGuard, lock_pair};

#[cfg(test)]
mod tests;
