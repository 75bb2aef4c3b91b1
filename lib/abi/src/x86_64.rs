//! Layouts and numbers that only x86_64 has.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad0: u32,
    pub rdev: u64,
    pub size: i64,
    pub blksize: i64,
    pub blocks: i64,
    pub atime: u64,
    pub atime_nsec: u64,
    pub mtime: u64,
    pub mtime_nsec: u64,
    pub ctime: u64,
    pub ctime_nsec: u64,
    pub unused: [i64; 3],
}

/// `struct epoll_event`, packed on this architecture only.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
#[allow(missing_docs)]
pub struct EpollEvent {
    pub events: u32,
    pub data: u64,
}

impl EpollEvent {
    /// An event as `epoll_wait(2)` reports it.
    pub const fn new(events: u32, data: u64) -> Self {
        Self { events, data }
    }
}

/// `struct semid64_ds`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Semid64Ds {
    pub perm: crate::ipc::Ipc64Perm,
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused: [u64; 2],
}

/// `O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT` and `O_LARGEFILE` have their own values per architecture.
#[allow(missing_docs)]
pub mod open {
    pub const O_DIRECT: u32 = 0o40000;
    pub const O_LARGEFILE: u32 = 0o100000;
    pub const O_DIRECTORY: u32 = 0o200000;
    pub const O_NOFOLLOW: u32 = 0o400000;
}

/// The name that `uname(2)` gives the machine.
pub const MACHINE: &str = "x86_64";

/// The one of two layouts that this architecture has.
pub const fn stat_from(x86_64: Stat, _: crate::generic::Stat) -> Stat {
    x86_64
}

/// The number that `call` has on this architecture.
pub const fn syscall_number(call: &crate::nr::Nr) -> Option<u16> {
    call.x86_64
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<super::Stat>(), 144);
        assert_eq!(size_of::<super::EpollEvent>(), 12);
        assert_eq!(size_of::<super::Semid64Ds>(), 104);
    }
}
