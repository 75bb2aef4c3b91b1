//! Sockets as system calls see them: `socket(7)`.
//!
//! The protocols are crates below `net/`; here user structures are decoded, descriptors made, and credentials
//! translated between namespaces.
//!
//! | file | what it owns |
//! |---|---|
//! | [`sockfs`] | the files behind sockets, called `socket:[N]` |
//! | [`caller`] | who calls, as the protocols ask for it |
//! | [`address`] | addresses in and out |
//! | [`control`] | control messages: `cmsg(3)`, `SCM_RIGHTS`, `SCM_CREDENTIALS` |
//! | [`transfer`] | `sendto`, `recvfrom`, `sendmsg`, `recvmsg`, `sendmmsg`, `recvmmsg` |
//! | [`options`] | `getsockopt`, `setsockopt` |
//! | [`syscalls`] | making, naming and connecting |

mod address;
mod caller;
mod control;
pub mod options;
mod sockfs;
pub mod syscalls;
pub mod transfer;
pub mod uring;

pub use caller::Caller;
pub use sockfs::{init, sockets_in_use};
