//! Unix domain sockets: `unix(7)`.
//!
//! | file | what it owns |
//! |---|---|
//! | `account` | what a socket has sent and nobody has received yet |
//! | `address` | names: paths, the abstract namespace, and who is bound to them |
//! | `queue` | what waits in a socket: messages with bytes, files and credentials |
//! | `endpoint` | the socket itself: states, connecting, listening |
//! | `transfer` | sending and receiving |
//! | `urgent` | the urgent byte of a stream (`MSG_OOB`) |
//! | `gc` | files in flight, and the collector of sockets that only each other's messages refer to |
//! | `show` | a socket's row in `/proc/net/unix` |
//!
//! # Locks
//!
//! An endpoint has one spin lock over its state and one over its queue. A lock of the state may be
//! held when that of a queue is taken, never the other way round, and never two of one kind. The maps of
//! `address` are leaves. The lock of `gc` comes before both, and a reader's mutex, which sleeps, before all of them.
//! Wake-ups happen after unlocking, and so do drops of files, messages and endpoints.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod address;
mod endpoint;
mod gc;
mod queue;
mod show;
#[cfg(test)]
mod tests;
mod transfer;
mod urgent;

use alloc::sync::Arc;

use abi::{Errno, Result, raw_sys::net};
use socket::{Family, Kind, Protocol, SocketOps};

use endpoint::Endpoint;

/// The family `AF_UNIX`.
pub struct Unix;

impl Unix {
    fn endpoint(protocol: Protocol) -> Result<Arc<Endpoint>> {
        if protocol.number != 0 && protocol.number != net::AF_UNIX as i32 {
            return Err(Errno::EPROTONOSUPPORT);
        }
        match protocol.kind {
            Kind::Stream | Kind::Dgram | Kind::Seqpacket => Ok(Endpoint::new(protocol.kind)?),
            // Linux makes a datagram socket of it.
            Kind::Raw => Ok(Endpoint::new(Kind::Dgram)?),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        }
    }
}

impl Family for Unix {
    fn number(&self) -> u16 {
        net::AF_UNIX as u16
    }

    fn create(&self, protocol: Protocol) -> Result<Arc<dyn SocketOps>> {
        Ok(Self::endpoint(protocol)?)
    }

    fn pair(&self, protocol: Protocol) -> Result<(Arc<dyn SocketOps>, Arc<dyn SocketOps>)> {
        let (a, b) = (Self::endpoint(protocol)?, Self::endpoint(protocol)?);
        Endpoint::join(&a, &b);
        Ok((a, b))
    }
}

/// The rows of `/proc/net/unix`. Addresses of kernel objects are not given out.
///
/// # Errors
/// Those of `out`.
pub fn show(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    let mut after = 0;
    while let Some((at, endpoint)) = address::next_listed(after) {
        after = at;
        endpoint.show(out)?;
    }
    Ok(())
}

/// Makes the family known.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    gc::init()?;
    socket::register(&Unix);
    Ok(())
}
