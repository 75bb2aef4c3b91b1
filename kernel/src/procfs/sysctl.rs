//! `/proc/sys`: `sysctl(8)`, with Linux's defaults.
//!
//! A value that lives in an atomic is a row of a table; others have functions of their own.

use core::fmt::Write;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::{Errno, Result};
use kernfs::{Access, Attr, StaticDir, Text, attr};
use sync::Once;

use super::top;
use crate::coredump;
use crate::oops::{PANIC_ON_OOPS, PANIC_TIMEOUT};
use crate::process::current;

/// Parses one number of a write; white space around it is fine.
///
/// # Errors
/// `EINVAL` for anything else, and for numbers outside `range`.
pub fn parse<T: core::str::FromStr + PartialOrd>(
    data: &[u8],
    range: core::ops::RangeInclusive<T>,
) -> Result<T> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let value =
        text.trim_matches(|c: char| c.is_whitespace() || c == '\0').parse().map_err(|_| Errno::EINVAL)?;
    if range.contains(&value) { Ok(value) } else { Err(Errno::EINVAL) }
}

fn line(out: &mut Text, value: impl core::fmt::Display) -> Result<()> {
    writeln!(out, "{value}").map_err(|_| Errno::ENOMEM)
}

/// Declares a number in an atomic: name, variable, range.
macro_rules! number {
    ($name:literal, $variable:expr, $range:expr) => {
        attr($name, |out| line(out, $variable.load(Ordering::Relaxed))).writable(|data| {
            $variable.store(parse(data, $range)?, Ordering::Relaxed);
            Ok(())
        })
    };
}

/// `kernel.randomize_va_space`.
pub static RANDOMIZE_VA_SPACE: AtomicU32 = AtomicU32::new(2);
/// `kernel.dmesg_restrict`.
pub static DMESG_RESTRICT: AtomicU32 = AtomicU32::new(0);
/// `kernel.kptr_restrict`.
pub static KPTR_RESTRICT: AtomicU32 = AtomicU32::new(0);
/// `fs.pipe-max-size` and others live with their owners; this one is only shown.
static OVERFLOW_ID: AtomicU32 = AtomicU32::new(abi::creds::OVERFLOW_ID);

const KERNEL: &[Attr] = &[
    attr("ostype", |out| line(out, "Linux")),
    attr("osrelease", |out| line(out, crate::version::RELEASE)),
    attr("version", |out| line(out, crate::version::VERSION)),
    attr("arch", |out| line(out, arch::uapi::MACHINE)),
    attr("cap_last_cap", |out| line(out, abi::cap::CAP_LAST_CAP)),
    attr("ngroups_max", |out| line(out, 65536)),
    attr("overflowuid", |out| line(out, OVERFLOW_ID.load(Ordering::Relaxed))),
    attr("overflowgid", |out| line(out, OVERFLOW_ID.load(Ordering::Relaxed))),
    number!("randomize_va_space", RANDOMIZE_VA_SPACE, 0..=2),
    number!("panic", PANIC_TIMEOUT, i32::MIN..=i32::MAX),
    attr("panic_on_oops", |out| line(out, u8::from(PANIC_ON_OOPS.load(Ordering::Relaxed)))).writable(
        |data| {
            PANIC_ON_OOPS.store(parse(data, 0..=1)? != 0, Ordering::Relaxed);
            Ok(())
        },
    ),
    number!("dmesg_restrict", DMESG_RESTRICT, 0..=1),
    number!("kptr_restrict", KPTR_RESTRICT, 0..=2),
    attr("hostname", |out| uts_line(out, |uts| &uts.nodename))
        .writable(|data| set_uts(data, |uts| &mut uts.nodename)),
    attr("domainname", |out| uts_line(out, |uts| &uts.domainname))
        .writable(|data| set_uts(data, |uts| &mut uts.domainname)),
    attr("printk", |out| {
        let level = crate::printk::console_level();
        writeln!(out, "{level}\t{}\t1\t7", crate::printk::DEFAULT_MESSAGE_LEVEL).map_err(|_| Errno::ENOMEM)
    })
    .writable(|data| {
        let first = data.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).ok_or(Errno::EINVAL)?;
        crate::printk::set_console_level(parse(first, 1..=8)?);
        Ok(())
    }),
    number!("pid_max", crate::process::pid::PID_MAX, 301..=4_194_304),
    number!("threads-max", crate::fork::MAX_THREADS, 20..=0x3fff_ffff),
    attr("core_pattern", |out| {
        let (bytes, len) = coredump::pattern();
        out.push(bytes.get(..len).unwrap_or_default());
        out.push(b"\n");
        Ok(())
    })
    .writable(|data| {
        coredump::set_pattern(data);
        Ok(())
    }),
    number!("core_uses_pid", coredump::USES_PID, i32::MIN..=i32::MAX),
    number!("core_pipe_limit", coredump::PIPE_LIMIT, 0..=u32::MAX),
    attr("modules_disabled", |out| line(out, 1)),
];

const RANDOM: &[Attr] = &[
    attr("boot_id", |out| line(out, boot_id())),
    attr("uuid", |out| line(out, Uuid::random())),
    attr("entropy_avail", |out| line(out, 256)),
    attr("poolsize", |out| line(out, 256)),
    attr("write_wakeup_threshold", |out| line(out, 256)),
    attr("urandom_min_reseed_secs", |out| line(out, 60)),
];

const VM: &[Attr] = &[
    number!("overcommit_memory", mm::overcommit::MODE, 0..=2),
    number!("overcommit_ratio", mm::overcommit::RATIO, 0..=i32::MAX as usize),
    number!("overcommit_kbytes", mm::overcommit::KBYTES, 0..=usize::MAX),
    number!("max_map_count", mm::space::MAX_MAP_COUNT, 0..=i32::MAX as usize),
    attr("mmap_min_addr", |out| line(out, mm::space::MMAP_MIN_ADDR)),
    number!("swappiness", SWAPPINESS, 0..=200),
    number!("admin_reserve_kbytes", mm::overcommit::ADMIN_RESERVE_KBYTES, 0..=usize::MAX),
    number!("user_reserve_kbytes", mm::overcommit::USER_RESERVE_KBYTES, 0..=usize::MAX),
    attr("drop_caches", |out| line(out, 0))
        .writable(|data| {
            match parse(data, 1..=4)? {
                1 | 3 => drop_caches(true),
                _ => drop_caches(false),
            }
            Ok(())
        })
        .mode(0o200),
];

/// A random identifier: RFC 9562, version 4.
#[derive(Clone, Copy)]
struct Uuid([u8; 16]);

impl Uuid {
    fn random() -> Self {
        let mut bytes = [0; 16];
        crate::misc::random::fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl core::fmt::Display for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_char('-')?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The identifier of this boot.
fn boot_id() -> Uuid {
    static BOOT_ID: Once<Uuid> = Once::new();
    *BOOT_ID.call_once(Uuid::random)
}

static SWAPPINESS: AtomicUsize = AtomicUsize::new(60);

fn drop_caches(pages: bool) {
    vfs::dcache::shrink(usize::MAX);
    if pages {
        mm::reclaim::drop_pagecache();
    }
}

const FS: &[Attr] = &[
    attr("file-max", |out| line(out, vfs::file::max_files())).writable(|data| {
        vfs::file::set_max_files(parse(data, 0..=usize::MAX)?);
        Ok(())
    }),
    attr("file-nr", |out| {
        writeln!(out, "{}\t0\t{}", vfs::file::nr_files(), vfs::file::max_files()).map_err(|_| Errno::ENOMEM)
    }),
    attr("nr_open", |out| line(out, vfs::fdtable::NR_OPEN)),
    attr("dentry-state", |out| {
        writeln!(out, "{}\t0\t45\t0\t0\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)
    }),
    attr("inode-nr", |out| writeln!(out, "{}\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)),
    attr("inode-state", |out| {
        writeln!(out, "{}\t0\t0\t0\t0\t0\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)
    }),
    number!("suid_dumpable", coredump::SUID_DUMPABLE, 0..=2),
    number!("mount-max", vfs::mount::namespace::MOUNT_MAX, 1..=i32::MAX as u32),
    number!("protected_symlinks", vfs::namei::PROTECTED_SYMLINKS, 0..=1),
    number!("protected_hardlinks", vfs::namei::PROTECTED_HARDLINKS, 0..=1),
    number!("protected_fifos", vfs::namei::PROTECTED_FIFOS, 0..=2),
    number!("protected_regular", vfs::namei::PROTECTED_REGULAR, 0..=2),
    attr("overflowuid", |out| line(out, OVERFLOW_ID.load(Ordering::Relaxed))),
    attr("overflowgid", |out| line(out, OVERFLOW_ID.load(Ordering::Relaxed))),
];

fn uts_line(out: &mut Text, field: fn(&abi::system::Utsname) -> &[u8; 65]) -> Result<()> {
    let proxy = current().nsproxy().ok_or(Errno::ESRCH)?;
    let name = *field(&proxy.uts.name.lock());
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    out.push(name.get(..end).unwrap_or_default());
    out.push(b"\n");
    Ok(())
}

fn set_uts(data: &[u8], field: fn(&mut abi::system::Utsname) -> &mut [u8; 65]) -> Result<()> {
    let end = data.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(data.len());
    let mut name = [0; 65];
    for (slot, &byte) in name.iter_mut().take(64).zip(data.get(..end).unwrap_or_default()) {
        *slot = byte;
    }
    let proxy = current().nsproxy().ok_or(Errno::ESRCH)?;
    *field(&mut proxy.uts.name.lock()) = name;
    Ok(())
}

/// Builds the tree.
pub(super) fn init() {
    let sys: alloc::sync::Arc<StaticDir> = top().mkdir_with("sys", 0o555, Access::Sysctl);
    let kernel = sys.mkdir("kernel");
    kernel.add_attrs(KERNEL);
    kernel.mkdir("random").add_attrs(RANDOM);
    sys.mkdir("vm").add_attrs(VM);
    let fs = sys.mkdir("fs");
    fs.add_attrs(FS);
    crate::ipc::sysctl::init(&kernel, &fs);
    sys.mkdir("net");
    sys.mkdir("dev");
    sys.mkdir("debug");
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_may_have_white_space_around_them() {
        assert_eq!(parse(b" 12\n", 0..=20), Ok(12));
        assert!(parse(b"21", 0..=20).is_err());
        assert!(parse(b"1 2", 0..=20).is_err());
        assert!(parse(b"", 0..=20).is_err());
    }
}
