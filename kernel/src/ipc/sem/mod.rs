//! System V semaphore sets: `semget(2)`, `semop(2)`, `semctl(2)`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`set`] | a set: values, the waiters, what a change wakes |
//! | [`attempt`] | a list of operations, done as a whole or not at all |
//! | [`undo`] | adjustments that are made when a process exits |
//! | [`operate`] | `semop(2)`, `semtimedop(2)` |
//! | [`control`] | `semget(2)`, `semctl(2)` |
//!
//! # Who is woken
//!
//! Operations that wait are tried again, oldest first, whenever a value they look at has changed; the one that changed it does
//! their operations for them and wakes them with the result. Those that only wait for zero come before those that change
//! something. A single operation waits at its semaphore, so that a change looks at few waiters; while an operation on several
//! semaphores waits, all that change something wait in one queue in the order they came.

pub mod attempt;
pub mod control;
pub mod operate;
pub mod set;
pub mod undo;

pub use set::SemSet;
pub use undo::UndoList;

/// Highest value of a semaphore (`SEMVMX`).
pub const VALUE_MAX: i32 = 32767;
/// Adjustments lie in `-ADJUST_MAX - 1..=ADJUST_MAX` (`SEMAEM`).
pub const ADJUST_MAX: i32 = VALUE_MAX;
