//! Sockets: the part that all protocol families share (`socket(7)`).
//!
//! Owns: the registry of families, the [`Socket`] behind each descriptor with its common options, and the
//! translation between file operations and protocol operations. A family is a crate of its own
//! (`net/unix`, later `net/ipv4`, …) that registers a [`Family`]; its sockets implement
//! [`SocketOps`].
//!
//! Not owned: system calls (they decode user structures and call into here), devices, routing.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod family;
mod filter;
mod host;
mod message;
mod ops;
mod options;
#[allow(clippy::module_inception)]
mod socket;
mod stamps;

pub use family::{Family, Protocol, create, register};
pub use filter::{Filter, FilterSlot};
pub use host::{
    FlightLimit, Host, Identity, ProcessRef, current_credentials, current_domain, current_flight_limit,
    current_identity, set_host,
};
pub use message::{Control, ControlList, Credentials, MessageFlags, Received, SendMessage, SocketAddr};
pub use ops::{Shutdown, SocketOps};
pub use options::{BUFFER_DEFAULT, Options, Rights, Timeouts, timeout_ns};
pub use socket::{Kind, Socket, in_use};
pub use stamps::Stamps;
