//! What a protocol implements for its sockets.

use alloc::sync::Arc;
use core::any::Any;

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use vfs::fasync::FasyncList;
use vfs::file::File;
use vfs::path::LookupContext;
use vfs::poll::PollTable;

use crate::filter::FilterSlot;
use crate::host::Identity;
use crate::message::{MessageFlags, Received, SendMessage, SocketAddr};
use crate::options::Options;
use crate::socket::Kind;

/// Which directions `shutdown(2)` closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more receiving.
    Read,
    /// No more sending.
    Write,
    /// Neither.
    Both,
}

impl Shutdown {
    /// From the number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn from_raw(how: i32) -> Result<Self> {
        Ok(match how {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Both,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Whether receiving ends.
    pub fn reads(self) -> bool {
        self != Self::Write
    }

    /// Whether sending ends.
    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

/// A socket of one protocol; `Socket` is around it. The defaults are the errors that Linux gives.
#[allow(unused_variables)]
pub trait SocketOps: Any + Send + Sync {
    /// `bind(2)`. Some addresses are paths: `ctx` says whose.
    fn bind(&self, ctx: &LookupContext<'_>, addr: &SocketAddr) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `connect(2)`.
    fn connect(
        self: Arc<Self>,
        ctx: &LookupContext<'_>,
        addr: &SocketAddr,
        options: &Options,
        nonblock: bool,
    ) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `listen(2)`.
    fn listen(&self, backlog: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `accept(2)`: the socket of the next connection.
    fn accept(&self, options: &Options, nonblock: bool) -> Result<Arc<dyn SocketOps>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The socket's own address.
    fn local_name(&self) -> Result<SocketAddr>;

    /// The address it is connected to.
    fn peer_name(&self) -> Result<SocketAddr>;

    /// Sends; `ctx` says how to read a destination that is a path.
    fn send(
        &self,
        ctx: Option<&LookupContext<'_>>,
        iter: &mut IovIter<'_>,
        message: SendMessage,
        options: &Options,
    ) -> Result<usize>;

    /// Receives.
    fn receive(
        &self,
        iter: &mut IovIter<'_>,
        flags: MessageFlags,
        nonblock: bool,
        options: &Options,
    ) -> Result<Received>;

    /// `shutdown(2)`.
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What the socket is ready for; registers first.
    fn poll(&self, table: &mut PollTable<'_>) -> PollEvents;

    /// Requests of the protocol.
    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        Err(Errno::ENOTTY)
    }

    /// Who is at the other end (`SO_PEERCRED`, `SO_PEERPIDFD`, `SO_PEERGROUPS`).
    fn peer_identity(&self) -> Identity {
        Identity::default()
    }

    /// An option was set.
    fn options_changed(&self, options: &Options) {}

    /// Takes a message of the kernel's own for the receiver of this socket (`mq_notify(2)` with `SIGEV_THREAD`). `EINVAL` for
    /// families that carry none: all but `AF_NETLINK`.
    fn kernel_message(&self, data: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Where its filter is, if the family has filters.
    fn filter(&self) -> Option<&FilterSlot> {
        None
    }

    /// Whether the socket listens (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool {
        false
    }

    /// Takes the error that waits to be reported (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// The type it really has, where that is not the one that was asked for.
    fn kind(&self) -> Option<Kind> {
        None
    }

    /// Those who want a signal when there is something to receive (`O_ASYNC`).
    fn fasync(&self) -> Option<&FasyncList> {
        None
    }

    /// The open file that stands for it. Weakly: the file holds the socket.
    fn set_file(&self, file: &Arc<File>) {}

    /// The number of its inode, for listings.
    fn set_ino(&self, ino: u64) {}

    /// The last descriptor was closed.
    fn release(&self);
}
