//! Which kernel this is: `uname(2)`, `/proc/version`, `/proc/sys/kernel/osrelease`.

use abi::system::Utsname;

/// The Linux release whose interfaces this kernel has, with our mark.
pub const RELEASE: &str = "6.12.0-karst";
/// The build: programs look for `SMP` and `PREEMPT` here.
pub const VERSION: &str = concat!("#1 SMP PREEMPT_DYNAMIC Karst ", env!("CARGO_PKG_VERSION"));
/// Host name until somebody sets one.
const NODENAME: &str = "(none)";
/// Domain name until somebody sets one.
const DOMAINNAME: &str = "(none)";

/// The line of `/proc/version`, which is also the first one of the log.
pub struct Banner;

impl core::fmt::Display for Banner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Linux version {RELEASE} (karst@karst) (rustc) {VERSION}")
    }
}

/// See [`Banner`].
pub const fn banner() -> Banner {
    Banner
}

fn field(text: &str) -> [u8; 65] {
    let mut out = [0; 65];
    for (slot, byte) in out.iter_mut().take(64).zip(text.bytes()) {
        *slot = byte;
    }
    out
}

/// The names of the initial uts namespace.
pub fn utsname() -> Utsname {
    Utsname {
        sysname: field("Linux"),
        nodename: field(NODENAME),
        release: field(RELEASE),
        version: field(VERSION),
        machine: field(arch::uapi::MACHINE),
        domainname: field(DOMAINNAME),
    }
}
