//! System V shared memory segments: `shmget(2)`, `shmop(2)`, `shmctl(2)`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`segment`] | a segment: its memory, who is attached, when it goes |
//! | [`file`] | an attached segment as memory mappings see it |
//! | [`attach`] | `shmat(2)`, `shmdt(2)` |
//! | [`control`] | `shmget(2)`, `shmctl(2)` |
//!
//! # When a segment goes
//!
//! Every memory area that maps a segment is an attachment: fork and a partial `munmap` make more of them, and the count follows
//! the areas. A segment that was removed with `IPC_RMID` goes when the count is zero; so does every segment with
//! `kernel.shm_rmid_forced`, once the thread that made it has exited. Its memory is given back at once, the record after an
//! RCU grace period.

pub mod attach;
pub mod control;
pub mod file;
pub mod segment;

pub use segment::Segment;
