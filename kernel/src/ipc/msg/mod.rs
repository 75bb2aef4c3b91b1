//! System V message queues: `msgget(2)`, `msgop(2)`, `msgctl(2)`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`queue`] | a queue: messages in order, who waits to send and to receive |
//! | [`transfer`] | `msgsnd(2)`, `msgrcv(2)` |
//! | [`control`] | `msgget(2)`, `msgctl(2)` |
//!
//! A message for which somebody waits goes to that receiver and never enters the queue. A sender that waits for room is told
//! when its message would fit and tries again itself.

pub mod control;
pub mod queue;
pub mod transfer;

pub use queue::MsgQueue;
