//! `io_uring(7)`: asynchronous system calls through rings in shared memory, as of Linux 6.12.
//!
//! ```text
//!   user: SQ ring ──submit──▶ Request ──issue──▶ done at once ───────────────▶ CQ ring :user
//!                                │                                               ▲
//!                                ├─ would block: wait queue ──▶ task work ─issue─┤
//!                                ├─ time, futex, child ───────▶ task work ───────┤
//!                                └─ may sleep ────────────────▶ worker ──────────┘
//! ```
//!
//! | what | where |
//! |---|---|
//! | the ring, its file and shared memory | [`ring`], [`layout`], [`setup`], [`enter`], [`fdinfo`] |
//! | submissions, links, drains | [`submit`], [`request`], [`inflight`] |
//! | completions | [`cq`], [`complete`] |
//! | what a thread has under way; exit | [`task`], [`work`], [`cancel`] |
//! | waiting | [`poll`], [`timeout`] |
//! | threads | [`wq`], [`sqpoll`], [`ghost`], [`ring_list`] |
//! | registered files, buffers and settings | [`rsrc`], [`kbuf`], [`register`] |
//! | the operations | [`op`] |
//!
//! # Who runs a request
//!
//! The thread that submits tries it first, without waiting. A request that cannot go on either waits in the queues of its file,
//! and goes on in its thread when that is ready; or, if it may sleep elsewhere (names, storage), it goes to a worker, which has the
//! thread's memory, files and credentials. Nothing of a request happens after its thread has passed [`exit`].
//!
//! # Differences from Linux
//!
//! Workers and the thread of `SQPOLL` belong to the process (limits, accounts), but are not in `/proc/PID/task`. There are no commands of drivers
//! (`IORING_OP_URING_CMD`), no device completes by polling (`IOPOLL` transfers are `EOPNOTSUPP`), and sends are not bundled.

pub mod cancel;
pub mod complete;
pub mod cq;
pub mod enter;
pub mod fdinfo;
pub mod ghost;
pub mod inflight;
pub mod kbuf;
pub mod layout;
pub mod op;
pub mod poll;
pub mod register;
pub mod request;
pub mod ring;
pub mod ring_list;
pub mod rsrc;
pub mod setup;
pub mod sqpoll;
pub mod submit;
pub mod task;
pub mod timeout;
pub mod work;
pub mod wq;

pub use task::{TaskCtx, exit, has_work, on_resume};
