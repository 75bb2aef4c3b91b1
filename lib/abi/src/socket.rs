//! Sockets: `sendmsg(2)`, `recvmmsg(2)`, `cmsg(3)`, `socket(7)`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct msghdr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Msghdr {
    pub name: u64,
    pub namelen: i32,
    pub pad0: u32,
    pub iov: u64,
    pub iovlen: u64,
    pub control: u64,
    pub controllen: u64,
    pub flags: u32,
    pub pad1: u32,
}

/// `struct mmsghdr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Mmsghdr {
    pub hdr: Msghdr,
    pub len: u32,
    pub pad: u32,
}

/// `struct cmsghdr`; the data follow.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Cmsghdr {
    pub len: u64,
    pub level: i32,
    pub type_: i32,
}

/// `struct linger`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Linger {
    pub onoff: i32,
    pub seconds: i32,
}

/// Flags beside the type of `socket(2)`, `socketpair(2)` and `accept4(2)`.
pub const SOCK_CLOEXEC: u32 = 0o2_000_000;
/// See [`SOCK_CLOEXEC`].
pub const SOCK_NONBLOCK: u32 = 0o4000;
/// Bits of the type proper.
pub const SOCK_TYPE_MASK: u32 = 0xf;
/// One more than the highest family (`AF_MAX`).
pub const AF_MAX: i32 = 46;
/// `SCM_RIGHTS`: open files.
pub const SCM_RIGHTS: i32 = 1;
/// `SCM_CREDENTIALS`.
pub const SCM_CREDENTIALS: i32 = 2;
/// Most open files in one message (`SCM_MAX_FD`).
pub const SCM_MAX_FD: usize = 253;
/// `recvmmsg(2)`: do not wait after the first message.
pub const MSG_WAITFORONE: u32 = 0x1_0000;
/// `struct sockaddr_storage`.
pub const SOCKADDR_MAX: usize = 128;
