//! Capabilities: `capabilities(7)`, `capget(2)`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct __user_cap_header_struct`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct CapHeader {
    pub version: u32,
    pub pid: i32,
}

/// `struct __user_cap_data_struct`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct CapData {
    pub effective: u32,
    pub permitted: u32,
    pub inheritable: u32,
}

macro_rules! capabilities {
    ($($name:ident $bit:literal;)*) => {
        /// One capability.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Cap { $($name = $bit),* }
    };
}

capabilities! {
    Chown 0; DacOverride 1; DacReadSearch 2; Fowner 3; Fsetid 4; Kill 5; Setgid 6; Setuid 7;
    Setpcap 8; LinuxImmutable 9; NetBindService 10; NetBroadcast 11; NetAdmin 12; NetRaw 13;
    IpcLock 14; IpcOwner 15; SysModule 16; SysRawio 17; SysChroot 18; SysPtrace 19; SysPacct 20;
    SysAdmin 21; SysBoot 22; SysNice 23; SysResource 24; SysTime 25; SysTtyConfig 26; Mknod 27;
    Lease 28; AuditWrite 29; AuditControl 30; Setfcap 31; MacOverride 32; MacAdmin 33; Syslog 34;
    WakeAlarm 35; BlockSuspend 36; AuditRead 37; Perfmon 38; Bpf 39; CheckpointRestore 40;
}

/// The highest capability there is (`/proc/sys/kernel/cap_last_cap`).
pub const CAP_LAST_CAP: u32 = 40;

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability.
    pub const FULL: Self = Self((1 << (CAP_LAST_CAP + 1)) - 1);

    /// Whether `cap` is in the set.
    pub const fn has(self, cap: Cap) -> bool {
        self.0 & (1 << cap as u8) != 0
    }

    /// Whether every member of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}
