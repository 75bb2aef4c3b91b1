//! Linux's native asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2).
//!
//! A [`Context`] belongs to an address space and is named by the address of its ring, which the user may read directly. Transfers on
//! files without `O_DIRECT` completion run inside of `io_submit(2)`, as on Linux; polls complete later.
//!
//! | what | where |
//! |---|---|
//! | contexts, their ring | [`context`] |
//! | one operation | [`submit`], [`poll`] |
//! | the calls | [`syscalls`] |
//!
//! Locks: the table of contexts and a context's list of polls are leaves; its ring is written under `ring` with interrupts off.

pub mod context;
pub mod poll;
pub mod submit;
pub mod syscalls;

pub use context::{MAX_NR, exit, total};
