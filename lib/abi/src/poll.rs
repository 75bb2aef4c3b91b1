//! Polling: `poll(2)`, `select(2)`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Pollfd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

bitflags! {
    /// What a file is ready for: `POLL*` and `EPOLL*`, which share their values.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PollEvents: u32 {
        /// Data to read.
        const IN = 0x0001;
        /// Urgent data, or another exceptional condition.
        const PRI = 0x0002;
        /// Room to write.
        const OUT = 0x0004;
        /// An error; reported without being asked for.
        const ERR = 0x0008;
        /// Hung up; reported without being asked for.
        const HUP = 0x0010;
        /// Not an open descriptor.
        const NVAL = 0x0020;
        /// Normal data to read.
        const RDNORM = 0x0040;
        /// Priority band data to read.
        const RDBAND = 0x0080;
        /// Room for normal data.
        const WRNORM = 0x0100;
        /// Room for priority data.
        const WRBAND = 0x0200;
        /// Unused by Linux.
        const MSG = 0x0400;
        /// The peer closed its writing half.
        const RDHUP = 0x2000;
    }
}
