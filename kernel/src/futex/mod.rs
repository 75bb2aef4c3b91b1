//! Futexes: sleeping on a word of user memory until another thread says it changed. futex(2), futex(7).
//!
//! # How it works
//!
//! A [`key::Key`] names the word: address space and address for private futexes, object and offset for
//! memory that processes share. Keys hash into an array of buckets sized by the number of CPUs; each [`bucket::Bucket`]
//! holds the waiters of all its keys, oldest first, under one spin lock.
//!
//! # No lost wake-ups
//!
//! A waiter takes the bucket's lock, counts itself as waiting, reads the word and queues itself before it lets
//! the lock go; a waker changes the word (in user space) before it looks at the count. The full barriers on both
//! sides make one see the other. The word is read under the lock with page faults off; a page that is not there is
//! fetched without the lock, and the wait begins again.
//!
//! # No allocation
//!
//! What a waiter is lives in its thread ([`waiter::Waiter`]); a bucket's queue keeps its memory. Waiting and waking
//! allocate only when a bucket grows beyond anything it held before, and then a failure is `ENOMEM`.
//!
//! # Locks
//!
//! Two bucket locks are taken in the order of their indices (requeue). Inside of them is only the lock of `sched::pi`. Wake-ups
//! happen after the lock is released.

pub mod bucket;
pub mod detached;
pub mod futex2;
pub mod key;
pub mod op;
pub mod pi;
pub mod pi_requeue;
pub mod requeue;
pub mod robust;
pub mod syscalls;
pub mod wait;
pub mod waiter;
pub mod waitv;
pub mod wake;

pub use key::{Key, Scope};
pub use waiter::Waiter;
