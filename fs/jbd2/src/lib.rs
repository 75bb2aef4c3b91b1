//! jbd2: the journal of ext4. Changes of many blocks reach the disk together or not at all.
//!
//! | file | what |
//! |---|---|
//! | [`journal`] | [`Journal`]: loading, waiting, freezing, aborting; its thread |
//! | [`handle`] | [`Handle`]: one operation of the file system |
//! | [`transaction`] | many operations, that reach the disk together |
//! | `commit` | a transaction goes to the log |
//! | `checkpoint` | from the log to the places in the file system |
//! | [`recover`] | after a crash |
//! | [`format`](mod@format), `checksum`, `super_block`, `log` | bytes and blocks of the log |
//!
//! The format is Linux's (`Documentation/filesystems/ext4/journal.rst`), and so are the terms. The idea of one transaction that many operations
//! join is Tweedie's (*Journaling the Linux ext2fs Filesystem*, LinuxExpo 1998).
//!
//! # Versions
//!
//! A buffer is part of at most two transactions that are not on disk: the one that runs, and the one that is being committed. What the older one
//! writes must stay as it was when the younger one changes the buffer. The contents of buffers are copied when they are changed while somebody holds
//! them (`buffer`'s text), so nothing needs to be done for that but to hold them:
//!
//! - the commit takes a snapshot of each buffer, and has it until the log is written;
//! - a handle that changes a buffer *before* the commit has come to it leaves the commit a snapshot ([`buffer::JournalState::frozen`]).
//!
//! These are Linux's shadow and frozen copies. Where nobody changes a buffer at the wrong moment there is no copy.
//!
//! # Freed blocks
//!
//! A block of metadata that is freed may have older versions in the log, and may be used for a file's data afterwards, which the log does not
//! know. Replaying the old version would destroy that data. So the transaction that frees it has a *revoke* record: blocks of that transaction and
//! of older ones are not replayed. If the block becomes metadata again in the same transaction, there is no such record. Until the transaction is on
//! disk the block still belongs to what the older ones say, so whoever allocates blocks gives it to nobody before
//! [`Handle::on_commit`] says so.
//!
//! # Room in the log
//!
//! A handle reserves *credits* with one atomic addition. A transaction has at most a quarter of the log, and begins only when there is
//! room for the largest one, so a commit never waits for room. Who begins a transaction makes that room, by writing the oldest ones to their places.
//!
//! # Locks
//!
//! `checkpointing` → `state` → `super_block`; a buffer's contents → a transaction's lists. The state is not touched by a handle that joins a running
//! transaction: that is an RCU read, a reference and one compare-and-swap. Changing a buffer that is part of the transaction already takes the
//! buffer's own mutex, and allocates nothing.
//!
//! Waiting: handles → the thread (a commit) → handles of the transaction that is committed. So within a handle nothing waits for a transaction.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

mod checkpoint;
mod checksum;
mod commit;
pub mod format;
pub mod handle;
pub mod journal;
mod log;
pub mod recover;
mod shared;
mod super_block;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use self::log::{Extent, JournalPlace};
pub use handle::Handle;
pub use journal::{DEFAULT_INTERVAL_MS, Journal, Options};
pub use recover::Recovery;
pub use super_block::Features;
pub use transaction::{Committed, OrderedData, Tid};
