//! Layouts and numbers of the `asm-generic` headers, which arm64 uses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub pad1: u64,
    pub size: i64,
    pub blksize: i32,
    pub pad2: i32,
    pub blocks: i64,
    pub atime: i64,
    pub atime_nsec: u64,
    pub mtime: i64,
    pub mtime_nsec: u64,
    pub ctime: i64,
    pub ctime_nsec: u64,
    pub unused: [u32; 2],
}

/// `struct epoll_event`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct EpollEvent {
    pub events: u32,
    pub pad: u32,
    pub data: u64,
}

impl EpollEvent {
    /// An event as `epoll_wait(2)` reports it.
    pub const fn new(events: u32, data: u64) -> Self {
        Self { events, pad: 0, data }
    }
}

/// `struct semid64_ds`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Semid64Ds {
    pub perm: crate::ipc::Ipc64Perm,
    pub otime: i64,
    pub ctime: i64,
    pub nsems: u64,
    pub unused: [u64; 2],
}

/// `O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT` and `O_LARGEFILE` have their own values on arm64.
#[allow(missing_docs)]
pub mod open {
    pub const O_DIRECTORY: u32 = 0o40000;
    pub const O_NOFOLLOW: u32 = 0o100000;
    pub const O_DIRECT: u32 = 0o200000;
    pub const O_LARGEFILE: u32 = 0o400000;
}

/// The name that `uname(2)` gives the machine.
pub const MACHINE: &str = "aarch64";

/// The one of two layouts that this architecture has.
pub const fn stat_from(_: crate::x86_64::Stat, generic: Stat) -> Stat {
    generic
}

/// The number that `call` has on this architecture.
pub const fn syscall_number(call: &crate::nr::Nr) -> Option<u16> {
    call.generic
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<super::Stat>(), 128);
        assert_eq!(size_of::<super::EpollEvent>(), 16);
        assert_eq!(size_of::<super::Semid64Ds>(), 88);
    }
}
