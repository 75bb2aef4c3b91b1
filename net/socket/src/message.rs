//! What travels through `sendmsg(2)` and `recvmsg(2)` besides bytes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;

use abi::{Errno, Result, raw_sys::net};
use bitflags::bitflags;
use vfs::file::File;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::host::ProcessRef;

/// Bytes of the largest address (`struct sockaddr_storage`).
pub const ADDRESS_MAX: usize = 128;

/// A socket address in the form users pass it.
#[derive(Clone, Copy, Debug)]
pub struct SocketAddr {
    bytes: [u8; ADDRESS_MAX],
    len: usize,
}

impl SocketAddr {
    /// An address from its bytes.
    ///
    /// # Errors
    /// `EINVAL` when it is longer than any address.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut storage = [0; ADDRESS_MAX];
        storage.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
        Ok(Self { bytes: storage, len: bytes.len() })
    }

    /// The bytes, family first.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The family, if there are enough bytes for one.
    pub fn family(&self) -> Option<u16> {
        let bytes = self.bytes().first_chunk()?;
        Some(u16::from_ne_bytes(*bytes))
    }
}

/// `struct ucred`: who sent a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Credentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// One control message.
#[derive(Clone)]
pub enum Control {
    /// `SCM_RIGHTS`: open files.
    Rights(Vec<Arc<File>>),
    /// `SCM_CREDENTIALS`.
    Credentials(Credentials),
    /// `SCM_PIDFD`: who sent it.
    Process(ProcessRef),
    /// When it came, in nanoseconds of real time, in the form of the option with this number: `SO_TIMESTAMP`, `SO_TIMESTAMPNS` or
    /// `SO_TIMESTAMPING`, old or new.
    Time(u32, u64),
}

bitflags! {
    /// `MSG_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MessageFlags: u32 {
        /// Out-of-band data.
        const OOB = net::MSG_OOB;
        /// Leave the data in the queue.
        const PEEK = net::MSG_PEEK;
        /// Do not route.
        const DONTROUTE = net::MSG_DONTROUTE;
        /// Control data did not fit.
        const CTRUNC = net::MSG_CTRUNC;
        /// Data did not fit; as an argument: report the real length.
        const TRUNC = net::MSG_TRUNC;
        /// Do not wait.
        const DONTWAIT = net::MSG_DONTWAIT;
        /// End of a record.
        const EOR = net::MSG_EOR;
        /// Wait for the whole request.
        const WAITALL = net::MSG_WAITALL;
        /// No `SIGPIPE`.
        const NOSIGNAL = net::MSG_NOSIGNAL;
        /// More will follow.
        const MORE = net::MSG_MORE;
        /// Received descriptors are close-on-exec.
        const CMSG_CLOEXEC = net::MSG_CMSG_CLOEXEC;
    }
}

/// What goes with the bytes of a send.
pub struct SendMessage {
    /// Where to; connected sockets need none.
    pub to: Option<SocketAddr>,
    /// Control messages.
    pub control: Vec<Control>,
    /// `MSG_*`.
    pub flags: MessageFlags,
    /// Whether the call may not wait.
    pub nonblock: bool,
}

/// What control messages are received in: there is at most one of each kind, so that nothing is allocated once a message
/// has been taken.
pub type ControlList = SmallVec<[Control; 5]>;

/// What came with received bytes.
pub struct Received {
    /// Bytes copied, or with `MSG_TRUNC` the message's length.
    pub len: usize,
    /// Sender's address.
    pub from: Option<SocketAddr>,
    /// Control messages.
    pub control: ControlList,
    /// `MSG_*` for `msg_flags`.
    pub flags: MessageFlags,
}
