//! `/proc/sys`: `sysctl(8)`, with Linux's defaults.
//!
//! A value that lives in an atomic is a row of a table; others have functions of their own.

use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::cap::Cap;
use abi::{Errno, Result};
use kernfs::{Access, Attr, StaticDir, Text, attr};
use sync::Once;
use vfs::notify::account;
use vfs::ns_count::NsKind;

use super::top;
use crate::coredump;
use crate::oops::{OOPS_LIMIT, PANIC_ON_OOPS, PANIC_ON_WARN, PANIC_TIMEOUT, TAINTED, WARN_LIMIT};
use crate::process::current;
use crate::signal::unhandled::EXCEPTION_TRACE;

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

/// Stores the numbers of a write, as many as there are.
///
/// # Errors
/// `EINVAL` for something else; what stands before it is stored.
fn store_numbers(data: &[u8], to: &[core::sync::atomic::AtomicI32]) -> Result<()> {
    let words = data.split(|byte| byte.is_ascii_whitespace() || *byte == 0).filter(|word| !word.is_empty());
    for (number, word) in to.iter().zip(words) {
        number.store(parse(word, i32::MIN..=i32::MAX)?, Ordering::Relaxed);
    }
    Ok(())
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

mod sched;
mod vm;

/// `kernel.dmesg_restrict`.
pub static DMESG_RESTRICT: AtomicU32 = AtomicU32::new(0);
/// `kernel.kptr_restrict`.
pub static KPTR_RESTRICT: AtomicU32 = AtomicU32::new(0);
/// `fs.overflowuid`, for file systems with ids of 16 bits, of which there are none.
static FS_OVERFLOW_UID: AtomicU32 = AtomicU32::new(abi::creds::OVERFLOW_ID);
/// `fs.overflowgid`.
static FS_OVERFLOW_GID: AtomicU32 = AtomicU32::new(abi::creds::OVERFLOW_ID);
/// Largest number that an overflow id may be: they are shown by interfaces with 16 bits too.
const MAX_ID: u32 = 65535;

const DEBUG: &[Attr] = &[number!("exception-trace", EXCEPTION_TRACE, i32::MIN..=i32::MAX)];

const KERNEL: &[Attr] = &[
    attr("ostype", |out| line(out, "Linux")),
    attr("osrelease", |out| line(out, crate::version::RELEASE)),
    attr("version", |out| line(out, crate::version::VERSION)),
    attr("arch", |out| line(out, arch::uapi::MACHINE)),
    attr("cap_last_cap", |out| line(out, abi::cap::CAP_LAST_CAP)),
    attr("ngroups_max", |out| line(out, 65536)),
    number!("overflowuid", vfs::cred::OVERFLOW_UID, 0..=MAX_ID),
    number!("overflowgid", vfs::cred::OVERFLOW_GID, 0..=MAX_ID),
    number!("randomize_va_space", crate::exec::load::RANDOMIZE, 0..=2),
    number!("panic", PANIC_TIMEOUT, i32::MIN..=i32::MAX),
    number!("panic_on_oops", PANIC_ON_OOPS, i32::MIN..=i32::MAX),
    attr("panic_on_warn", |out| line(out, u8::from(PANIC_ON_WARN.load(Ordering::Relaxed)))).writable(
        |data| {
            PANIC_ON_WARN.store(parse(data, 0..=1)? != 0, Ordering::Relaxed);
            Ok(())
        },
    ),
    number!("oops_limit", OOPS_LIMIT, 0..=u32::MAX),
    number!("warn_limit", WARN_LIMIT, 0..=u32::MAX),
    // What has happened stays known: bits are added, none goes.
    attr("tainted", |out| line(out, TAINTED.load(Ordering::Relaxed))).writable(|data| {
        if !crate::process::current().with_cred(|cred| cred.capable(abi::cap::Cap::SysAdmin)) {
            return Err(Errno::EPERM);
        }
        TAINTED.fetch_or(parse(data, 0..=(1 << 19) - 1)?, Ordering::Relaxed);
        Ok(())
    }),
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
    number!("printk_ratelimit", crate::printk::ratelimit::INTERVAL_S, 0..=i32::MAX as u32),
    number!("printk_ratelimit_burst", crate::printk::ratelimit::BURST, 0..=i32::MAX as u32),
    attr("ns_last_pid", |out| line(out, current().pid_ns().last()))
        .writable(|data| {
            let ns = current().pid_ns();
            let may = |cap| current().with_cred(|cred| cred.ns_capable(ns.user_ns(), cap));
            if !may(Cap::CheckpointRestore) && !may(Cap::SysAdmin) {
                return Err(Errno::EPERM);
            }
            ns.set_last(parse(data, 0..=crate::process::pid::PID_MAX.load(Ordering::Relaxed))?);
            Ok(())
        })
        .mode(0o666),
    number!("pid_max", crate::process::pid::PID_MAX, 301..=4_194_304),
    number!("io_uring_disabled", crate::io_uring::setup::DISABLED, 0..=2),
    number!("io_uring_group", crate::io_uring::setup::GROUP, -1..=i32::MAX),
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
    attr("acct", |out| {
        let [resume, suspend, seconds] =
            crate::acct::LIMITS.each_ref().map(|limit| limit.load(Ordering::Relaxed));
        writeln!(out, "{resume}\t{suspend}\t{seconds}").map_err(|_| Errno::ENOMEM)
    })
    .writable(|data| store_numbers(data, &crate::acct::LIMITS)),
    attr("ctrl-alt-del", |out| {
        line(out, u8::from(crate::misc::reboot::CTRL_ALT_DEL.load(Ordering::Relaxed)))
    })
    .writable(|data| {
        crate::misc::reboot::CTRL_ALT_DEL.store(parse(data, i32::MIN..=i32::MAX)? != 0, Ordering::Relaxed);
        Ok(())
    }),
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

const FS: &[Attr] = &[
    attr("file-max", |out| line(out, vfs::file::max_files())).writable(|data| {
        vfs::file::set_max_files(parse(data, 0..=usize::MAX)?);
        Ok(())
    }),
    attr("file-nr", |out| {
        writeln!(out, "{}\t0\t{}", vfs::file::nr_files(), vfs::file::max_files()).map_err(|_| Errno::ENOMEM)
    }),
    number!("aio-max-nr", crate::aio::MAX_NR, 0..=usize::MAX),
    attr("aio-nr", |out| line(out, crate::aio::total())),
    number!("nr_open", vfs::fdtable::NR_OPEN, 64..=(i32::MAX as u32 & !63)),
    attr("dentry-state", |out| {
        writeln!(out, "{}\t0\t45\t0\t0\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)
    }),
    attr("inode-nr", |out| writeln!(out, "{}\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)),
    attr("inode-state", |out| {
        writeln!(out, "{}\t0\t0\t0\t0\t0\t0", vfs::dcache::nr_dentry()).map_err(|_| Errno::ENOMEM)
    }),
    number!("lease-break-time", vfs::lock::lease::BREAK_TIME, 0..=i32::MAX as u32),
    number!("leases-enable", vfs::lock::lease::ENABLED, 0..=i32::MAX as u32),
    number!("dir-notify-enable", vfs::dnotify::ENABLED, 0..=i32::MAX as u32),
    number!("suid_dumpable", coredump::SUID_DUMPABLE, 0..=2),
    number!("mount-max", vfs::mount::namespace::MOUNT_MAX, 1..=i32::MAX as u32),
    attr("pipe-max-size", |out| line(out, vfs::pipe::PIPE_MAX_SIZE.load(Ordering::Relaxed))).writable(
        |data| {
            // Pipes have a power of two of pages.
            let bytes = parse(data, 0..=1u32 << 31)?.max(arch::addr::PAGE_SIZE as u32).next_power_of_two();
            vfs::pipe::PIPE_MAX_SIZE.store(bytes, Ordering::Relaxed);
            Ok(())
        },
    ),
    number!("pipe-user-pages-soft", vfs::pipe::account::SOFT_LIMIT, 0..=usize::MAX),
    number!("pipe-user-pages-hard", vfs::pipe::account::HARD_LIMIT, 0..=usize::MAX),
    number!("protected_symlinks", vfs::namei::PROTECTED_SYMLINKS, 0..=1),
    number!("protected_hardlinks", vfs::namei::PROTECTED_HARDLINKS, 0..=1),
    number!("protected_fifos", vfs::namei::PROTECTED_FIFOS, 0..=2),
    number!("protected_regular", vfs::namei::PROTECTED_REGULAR, 0..=2),
    number!("overflowuid", FS_OVERFLOW_UID, 0..=MAX_ID),
    number!("overflowgid", FS_OVERFLOW_GID, 0..=MAX_ID),
];

const EPOLL: &[Attr] = &[number!("max_user_watches", account::EPOLL_LIMIT, 0..=i64::MAX as u64)];

const INOTIFY: &[Attr] = &[
    number!("max_user_instances", account::INOTIFY_INSTANCES.limit, 0..=i32::MAX as u32),
    number!("max_user_watches", account::INOTIFY_WATCHES.limit, 0..=i32::MAX as u32),
    number!("max_queued_events", vfs::inotify::MAX_QUEUED_EVENTS, 0..=i32::MAX as u32),
];

const FANOTIFY: &[Attr] = &[
    number!("max_user_groups", account::FANOTIFY_GROUPS.limit, 0..=i32::MAX as u32),
    number!("max_user_marks", account::FANOTIFY_MARKS.limit, 0..=i32::MAX as u32),
    number!("max_queued_events", vfs::fanotify::MAX_QUEUED_EVENTS, 0..=i32::MAX as u32),
];

/// Declares the limit of a kind of namespace in the caller's user namespace.
macro_rules! namespaces {
    ($name:literal, $kind:expr) => {
        attr($name, |out| {
            let ns = current().with_cred(|cred| cred.user_ns.clone());
            line(out, ns.limits.of($kind).load(Ordering::Relaxed))
        })
        .writable(|data| {
            let limit = parse(data, 0..=i32::MAX as u32)?;
            let ns = current().with_cred(|cred| cred.user_ns.clone());
            ns.limits.of($kind).store(limit, Ordering::Relaxed);
            Ok(())
        })
    };
}

const USER: &[Attr] = &[
    namespaces!("max_user_namespaces", NsKind::User),
    namespaces!("max_pid_namespaces", NsKind::Pid),
    namespaces!("max_uts_namespaces", NsKind::Uts),
    namespaces!("max_ipc_namespaces", NsKind::Ipc),
    namespaces!("max_net_namespaces", NsKind::Net),
    namespaces!("max_mnt_namespaces", NsKind::Mnt),
    namespaces!("max_cgroup_namespaces", NsKind::Cgroup),
    namespaces!("max_time_namespaces", NsKind::Time),
    number!("max_inotify_instances", account::INOTIFY_INSTANCES.limit, 0..=i32::MAX as u32),
    number!("max_inotify_watches", account::INOTIFY_WATCHES.limit, 0..=i32::MAX as u32),
    number!("max_fanotify_groups", account::FANOTIFY_GROUPS.limit, 0..=i32::MAX as u32),
    number!("max_fanotify_marks", account::FANOTIFY_MARKS.limit, 0..=i32::MAX as u32),
];

const PTY: &[Attr] = &[
    number!("max", devpts::PTY_LIMIT, 0..=i32::MAX as u32),
    number!("reserve", devpts::PTY_RESERVE, 0..=i32::MAX as u32),
    attr("nr", |out| line(out, devpts::pty_count())),
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
    kernel.add_attrs(crate::watchdog::sysctl::FILES);
    kernel.add_attrs(sched::FILES);
    kernel.add_attrs(crate::sysrq::SYSCTLS);
    kernel.mkdir("random").add_attrs(RANDOM);
    kernel.mkdir("keys").add_attrs(crate::keys::show::SYSCTLS);
    kernel.mkdir("seccomp").add_attrs(crate::seccomp::log::SYSCTLS);
    vm::init(&sys.mkdir("vm"));
    let fs = sys.mkdir("fs");
    fs.add_attrs(FS);
    fs.mkdir("epoll").add_attrs(EPOLL);
    fs.mkdir("inotify").add_attrs(INOTIFY);
    fs.mkdir("fanotify").add_attrs(FANOTIFY);
    crate::ipc::sysctl::init(&kernel, &fs);
    sys.mkdir("user").add_attrs(USER);
    kernel.mkdir("pty").add_attrs(PTY);
    sys.mkdir("net");
    sys.mkdir("dev");
    sys.mkdir("debug").add_attrs(DEBUG);
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
