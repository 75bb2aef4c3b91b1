//! Linux's native asynchronous I/O, io_submit(2): the structures of `linux/aio_abi.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct iocb` (little-endian order of `aio_key` and `aio_rw_flags`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Iocb {
    pub data: u64,
    pub key: u32,
    pub rw_flags: u32,
    pub opcode: u16,
    pub reqprio: i16,
    pub fildes: u32,
    pub buf: u64,
    pub nbytes: u64,
    pub offset: i64,
    pub reserved2: u64,
    pub flags: u32,
    pub resfd: u32,
}

/// `struct io_event`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IoEvent {
    pub data: u64,
    pub obj: u64,
    pub res: i64,
    pub res2: i64,
}

/// The head of the ring at a context's address, which `libaio` reads directly (`struct aio_ring`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AioRing {
    pub id: u32,
    pub nr: u32,
    pub head: u32,
    pub tail: u32,
    pub magic: u32,
    pub compat_features: u32,
    pub incompat_features: u32,
    pub header_length: u32,
}

/// `struct __aio_sigset`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct AioSigset {
    pub sigmask: u64,
    pub size: u64,
}

/// `magic` of the ring.
pub const AIO_RING_MAGIC: u32 = 0xa10a_10a1;
#[allow(missing_docs)]
pub const IOCB_CMD_PREAD: u16 = 0;
#[allow(missing_docs)]
pub const IOCB_CMD_PWRITE: u16 = 1;
#[allow(missing_docs)]
pub const IOCB_CMD_FSYNC: u16 = 2;
#[allow(missing_docs)]
pub const IOCB_CMD_FDSYNC: u16 = 3;
#[allow(missing_docs)]
pub const IOCB_CMD_POLL: u16 = 5;
#[allow(missing_docs)]
pub const IOCB_CMD_PREADV: u16 = 7;
#[allow(missing_docs)]
pub const IOCB_CMD_PWRITEV: u16 = 8;
#[allow(missing_docs)]
pub const IOCB_FLAG_RESFD: u32 = 1;
#[allow(missing_docs)]
pub const IOCB_FLAG_IOPRIO: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<Iocb>(), 64);
        assert_eq!(size_of::<IoEvent>(), 32);
        assert_eq!(size_of::<AioRing>(), 32);
    }
}
