//! Buffers: the metadata blocks of one mounted file system, in memory.
//!
//! | file | what |
//! |---|---|
//! | [`cache`] | [`BufferCache`]: from block number to buffer; giving memory back |
//! | [`buffer`] | [`Buffer`]: one block, its state, its contents |
//! | [`read`] | reading, readahead |
//! | [`write`](mod@write) | writing: batches, dirty buffers of file systems without a journal |
//! | [`device`] | what is needed of the device below |
//!
//! # Contents
//!
//! The bytes of a buffer are an [`mm::Block`] behind an `Arc`. [`Buffer::data`] counts one reference up: a snapshot that stays as it was, whatever others
//! write. Who changes the buffer does so in place if there is no snapshot, and otherwise in a copy that takes the place of the old
//! block. So nobody waits for a device that writes a block, for a journal that keeps a version, or for somebody who reads a directory.
//!
//! # States
//!
//! ```text
//! get ─► (invalid) ─ read: READING ─► VALID ─ mark_dirty: DIRTY ─ write: WRITING ─► VALID
//!            ▲                          │
//!            └──────── forget ──────────┘
//! ```
//!
//! A finished read is put into the buffer by whoever wants its contents first, in a thread: the interrupt only leaves the bio in a slot.
//! At most one read and one write of a buffer are under way. What a failed write leaves behind is [`Buffer::write_failed`] and a number of the
//! cache, [`BufferCache::write_errors`].
//!
//! # Concurrency
//!
//! | who | against whom | how |
//! |---|---|---|
//! | lookup | everybody | RCU: a chain of buffers by block, then one reference; no lock |
//! | insertion | the same, removal | spin lock of a part of the table |
//! | removal | lookup | says `DEAD`, then looks at the references; lookup takes a reference, then looks for `DEAD` |
//! | `data`, changes | each other | the mutex of the buffer's contents, held for the length of a copy of a reference or of one change |
//! | readers of one block | each other | the bit `READING` |
//! | writers of one block | each other | the bit `WRITING`; a batch never waits for it with something unsubmitted |
//!
//! Lock order: contents of a buffer (never two) → set of dirty buffers; table locks are leaves. Nobody holds contents while waiting for the device.
//!
//! # Memory
//!
//! A buffer that nobody refers to stays until a limit is reached or memory is short ([`mm::Shrinker`]). A clock goes through the table, and what was
//! not looked up since its last turn goes.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buffer;
pub mod cache;
pub mod device;
pub mod read;
pub mod write;

#[cfg(not(target_os = "none"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use buffer::{Buffer, Content, JournalState};
pub use cache::BufferCache;
pub use device::Device;
pub use write::WriteBatch;
