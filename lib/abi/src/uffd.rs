//! Structures of `userfaultfd(2)` and `ioctl_userfaultfd(2)`: `linux/userfaultfd.h`. Its numbers are in [`crate::raw`], except those here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `UFFDIO_MOVE`.
pub const UFFDIO_MOVE: u32 = 0xc028_aa05;
/// `UFFDIO_POISON`.
pub const UFFDIO_POISON: u32 = 0xc020_aa08;
/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`.
pub const USERFAULTFD_IOC_NEW: u32 = 0xaa00;

/// `struct uffd_msg`: an event. What the three words mean depends on the event.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UffdMsg {
    pub event: u8,
    pub reserved: [u8; 7],
    pub args: [u64; 3],
}

/// `struct uffdio_api`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UffdioApi {
    pub api: u64,
    pub features: u64,
    pub ioctls: u64,
}

/// `struct uffdio_range`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UffdioRange {
    pub start: u64,
    pub len: u64,
}

/// The input of `UFFDIO_REGISTER`, `UFFDIO_ZEROPAGE`, `UFFDIO_CONTINUE`, `UFFDIO_POISON`, `UFFDIO_WRITEPROTECT`; the result, where there is
/// one, is the word after it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UffdioRangeMode {
    pub range: UffdioRange,
    pub mode: u64,
}

/// The input of `UFFDIO_COPY` and `UFFDIO_MOVE`; the result is the word after it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UffdioTransfer {
    pub dst: u64,
    pub src: u64,
    pub len: u64,
    pub mode: u64,
}

const _: () = assert!(size_of::<UffdMsg>() == 32 && size_of::<UffdioTransfer>() == 32);
