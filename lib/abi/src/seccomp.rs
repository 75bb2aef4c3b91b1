//! Structures and numbers of seccomp(2) and seccomp_unotify(2): `linux/seccomp.h`, `linux/filter.h`, `linux/audit.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a filter looks at: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SeccompData {
    pub nr: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SockFilter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `struct sock_fprog`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SockFprog {
    pub len: u16,
    pub pad: [u16; 3],
    pub filter: u64,
}

/// `struct seccomp_notif_sizes`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SeccompNotifSizes {
    pub notif: u16,
    pub resp: u16,
    pub data: u16,
}

/// `struct seccomp_notif`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SeccompNotif {
    pub id: u64,
    pub pid: u32,
    pub flags: u32,
    pub data: SeccompData,
}

/// `struct seccomp_notif_resp`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SeccompNotifResp {
    pub id: u64,
    pub val: i64,
    pub error: i32,
    pub flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SeccompNotifAddfd {
    pub id: u64,
    pub flags: u32,
    pub srcfd: u32,
    pub newfd: u32,
    pub newfd_flags: u32,
}

/// The numbers.
#[allow(missing_docs)]
pub mod c {
    pub const SECCOMP_MODE_DISABLED: u8 = 0;
    pub const SECCOMP_MODE_STRICT: u8 = 1;
    pub const SECCOMP_MODE_FILTER: u8 = 2;

    pub const SECCOMP_SET_MODE_STRICT: u32 = 0;
    pub const SECCOMP_SET_MODE_FILTER: u32 = 1;
    pub const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
    pub const SECCOMP_GET_NOTIF_SIZES: u32 = 3;

    pub const SECCOMP_FILTER_FLAG_TSYNC: u32 = 1;
    pub const SECCOMP_FILTER_FLAG_LOG: u32 = 2;
    pub const SECCOMP_FILTER_FLAG_SPEC_ALLOW: u32 = 4;
    pub const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 8;
    pub const SECCOMP_FILTER_FLAG_TSYNC_ESRCH: u32 = 16;
    pub const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: u32 = 32;

    pub const SECCOMP_RET_KILL_PROCESS: u32 = 0x8000_0000;
    pub const SECCOMP_RET_KILL_THREAD: u32 = 0;
    pub const SECCOMP_RET_TRAP: u32 = 0x0003_0000;
    pub const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
    pub const SECCOMP_RET_USER_NOTIF: u32 = 0x7fc0_0000;
    pub const SECCOMP_RET_TRACE: u32 = 0x7ff0_0000;
    pub const SECCOMP_RET_LOG: u32 = 0x7ffc_0000;
    pub const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;
    pub const SECCOMP_RET_ACTION_FULL: u32 = 0xffff_0000;
    pub const SECCOMP_RET_DATA: u32 = 0xffff;

    pub const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
    pub const SECCOMP_ADDFD_FLAG_SETFD: u32 = 1;
    pub const SECCOMP_ADDFD_FLAG_SEND: u32 = 2;
    pub const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: u64 = 1;

    pub const SECCOMP_IOCTL_NOTIF_RECV: u32 = 0xc050_2100;
    pub const SECCOMP_IOCTL_NOTIF_SEND: u32 = 0xc018_2101;
    pub const SECCOMP_IOCTL_NOTIF_ID_VALID: u32 = 0x4008_2102;
    /// The number with the wrong direction, from before it was noticed.
    pub const SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR: u32 = 0x8008_2102;
    /// Without the size, which the caller chooses.
    pub const SECCOMP_IOCTL_NOTIF_ADDFD_BASE: u32 = 0x4000_2103;
    pub const SECCOMP_IOCTL_NOTIF_SET_FLAGS: u32 = 0x4008_2104;

    /// `si_code` of the `SIGSYS` that a filter sends.
    pub const SYS_SECCOMP: i32 = 1;

    pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    pub const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<SeccompData>(), 64);
        assert_eq!(size_of::<SockFilter>(), 8);
        assert_eq!(size_of::<SockFprog>(), 16);
        assert_eq!(size_of::<SeccompNotif>(), 80);
        assert_eq!(size_of::<SeccompNotifResp>(), 24);
        assert_eq!(size_of::<SeccompNotifAddfd>(), 24);
    }
}
