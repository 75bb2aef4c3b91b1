//! The root file system, where no initramfs has mounted it: `root=` and its relatives, `bootparam(7)`.
//!
//! The device is mounted on `/root`, and that is moved over the first root directory.

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use block::disk::{self, BlockDevice};
use vfs::fs_type::{FsFlags, filesystems};
use vfs::mount::ops;
use vfs::namei::{self, At};
use vfs::path::LookupContext;

use super::cmdline::command_line;
use crate::fs::context::Caller;
use mm::fallible::{TryCollect, try_format};

const MS: u64 = 1_000_000;
/// How long to sleep between two looks for the device.
const POLL_NS: u64 = 5 * MS;

/// What the command line says of the root file system.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    root: Option<&'a str>,
    types: Option<&'a str>,
    options: &'a str,
    read_only: bool,
    /// In seconds.
    delay: u64,
    /// Wait for the device; how long, in seconds, if not for ever.
    wait: Option<Option<u64>>,
}

impl<'a> Wanted<'a> {
    fn parse(line: &'a str) -> Self {
        let mut wanted = Self { root: None, types: None, options: "", read_only: true, delay: 0, wait: None };
        for word in line.split_ascii_whitespace().take_while(|word| *word != "--") {
            match word.split_once('=') {
                Some(("root", name)) => wanted.root = Some(name),
                Some(("rootfstype", types)) => wanted.types = Some(types),
                Some(("rootflags", options)) => wanted.options = options,
                Some(("rootdelay", seconds)) => wanted.delay = seconds.parse().unwrap_or(0),
                Some(("rootwait", seconds)) => wanted.wait = Some(seconds.parse().ok()),
                None if word == "rootwait" => wanted.wait = Some(None),
                None if word == "ro" => wanted.read_only = true,
                None if word == "rw" => wanted.read_only = false,
                _ => {}
            }
        }
        wanted
    }
}

fn find(matches: impl Fn(&BlockDevice) -> bool) -> Option<DevId> {
    disk::all().ok()?.iter().find(|device| matches(device)).map(|device| device.dev())
}

/// The partition that is `offset` behind the one with a UUID on the same disk.
fn by_partuuid(text: &str) -> Option<DevId> {
    let (uuid, offset) = match text.split_once("/PARTNROFF=") {
        Some((uuid, offset)) => (uuid, offset.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let all = disk::all().ok()?;
    let is_it = |device: &&alloc::sync::Arc<BlockDevice>| {
        !uuid.is_empty() && device.uuid().eq_ignore_ascii_case(uuid)
    };
    let found = all.iter().find(is_it)?;
    if offset == 0 {
        return Some(found.dev());
    }
    let number = i64::from(found.partition()?).checked_add(offset)?;
    let other = found.disk().partition(u32::try_from(number).ok().filter(|number| *number > 0)?)?;
    Some(other.dev())
}

/// The device that `root=` names: `/dev/NAME`, `PARTUUID=`, `PARTLABEL=`, `UUID=` and `LABEL=` of a file system, `MAJOR:MINOR`,
/// or a number in hexadecimal.
fn device(name: &str) -> Option<DevId> {
    if let Some(uuid) = name.strip_prefix("PARTUUID=") {
        return by_partuuid(uuid);
    }
    if let Some(label) = name.strip_prefix("PARTLABEL=") {
        return find(|device| !label.is_empty() && device.label() == label);
    }
    for (prefix, is_uuid) in [("UUID=", true), ("LABEL=", false)] {
        if let Some(wanted) = name.strip_prefix(prefix) {
            let all = disk::all().ok()?;
            let device = all.iter().find(|device| {
                ext4::mount::device::identify(device)
                    .is_ok_and(|id| if is_uuid { id.is_uuid(wanted) } else { id.is_label(wanted) })
            });
            return device.map(|device| device.dev());
        }
    }
    if let Some(name) = name.strip_prefix("/dev/") {
        return disk::by_name(name).map(|device| device.dev());
    }
    number(name)
}

fn number(text: &str) -> Option<DevId> {
    if let Some((major, minor)) = text.split_once(':') {
        return Some(DevId::new(major.parse().ok()?, minor.parse().ok()?));
    }
    u32::from_str_radix(text, 16).ok().map(DevId::decode)
}

/// Waits for the device as long as the command line wants.
fn wait(wanted: &Wanted<'_>, name: &str) -> Option<DevId> {
    if wanted.delay > 0 {
        log::info!("Waiting {} sec before mounting root device...", wanted.delay);
        sched::sleep_ns(wanted.delay.saturating_mul(1000 * MS));
    }
    drivers::probe::wait();
    let exists = |dev: &DevId| disk::by_number(*dev).is_some();
    let found = device(name);
    let Some(limit) = wanted.wait else { return found };
    if found.as_ref().is_some_and(exists) {
        return found;
    }
    log::info!("Waiting for root device {name}...");
    let mut slept = 0;
    loop {
        if let Some(dev) = device(name).filter(exists) {
            return Some(dev);
        }
        if limit.is_some_and(|seconds| slept >= seconds.saturating_mul(1000 * MS)) {
            log::error!("Timed out waiting for root device {name}");
            return None;
        }
        sched::sleep_ns(POLL_NS);
        slept += POLL_NS;
    }
}

/// What Linux calls a device of which nothing is known but its number.
struct Unknown(DevId);

impl core::fmt::Display for Unknown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "unknown-block({},{})", self.0.major, self.0.minor)
    }
}

/// Mounts the root file system and goes there.
///
/// # Errors
/// `ENOMEM` and the like; there is a panic if it cannot be mounted.
pub(super) fn mount() -> Result<()> {
    let wanted = Wanted::parse(command_line());
    let Some(name) = wanted.root else { panic!("VFS: Unable to mount root fs on unknown-block(0,0)") };
    let dev = wait(&wanted, name).unwrap_or_default();
    let caller = Caller::current()?;
    let ctx = caller.ctx();
    for dir in [&b"/dev"[..], b"/root"] {
        match namei::mkdir(&ctx, At::Cwd, dir, 0o700) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    let _ = namei::unlink(&ctx, At::Cwd, b"/dev/root");
    namei::mknod(&ctx, At::Cwd, b"/dev/root", raw::S_IFBLK | 0o600, dev)?;
    let (kind, read_only) = try_types(&ctx, &wanted, name, dev)?;
    let how = if read_only { " readonly" } else { "" };
    namei::chdir(&ctx, b"/root")?;
    log::info!("VFS: Mounted root ({kind} filesystem){how} on device {}:{}.", dev.major, dev.minor);
    ops::mount(&ctx, b".", b"/", None, raw::MS_MOVE, b"", None)?;
    namei::chroot(&ctx, b".")
}

/// Tries the types of file systems one after the other, for writing if that is wanted, then for reading.
fn try_types(
    ctx: &LookupContext<'_>,
    wanted: &Wanted<'_>,
    name: &str,
    dev: DevId,
) -> Result<(&'static str, bool)> {
    let named = |kind: &str| wanted.types.is_none_or(|types| types.split(',').any(|name| name == kind));
    let types = filesystems()?
        .into_iter()
        .filter(|fs| fs.flags().contains(FsFlags::REQUIRES_DEV) && named(fs.name()))
        .map(|fs| fs.name())
        .try_collect_vec()?;
    let accesses: &[u32] = if wanted.read_only { &[raw::MS_RDONLY] } else { &[0, raw::MS_RDONLY] };
    for access in accesses {
        for kind in &types {
            // Of what it is not, nothing is said.
            let flags = access | raw::MS_SILENT;
            let options = wanted.options.as_bytes();
            let done = ops::mount(ctx, b"/dev/root", b"/root", Some(kind.as_bytes()), flags, options, None);
            match done {
                Ok(()) => return Ok((kind, access & raw::MS_RDONLY != 0)),
                Err(Errno::EACCES | Errno::EINVAL | Errno::EROFS) => {}
                Err(error) => {
                    log::error!(
                        "VFS: Cannot open root device \"{name}\" or {}: error {}",
                        Unknown(dev),
                        -error.code()
                    );
                    say_what_there_is();
                    panic!("VFS: Unable to mount root fs on {}", Unknown(dev));
                }
            }
        }
    }
    log::error!("List of all bdev filesystems:");
    for kind in &types {
        log::error!(" {kind}");
    }
    panic!("VFS: Unable to mount root fs on \"{name}\" or {}", Unknown(dev));
}

fn say_what_there_is() {
    log::error!("Please append a correct \"root=\" boot option; here are the available partitions:");
    for device in disk::all().unwrap_or_default() {
        let (dev, blocks) = (device.dev(), device.sectors() / 2);
        if let Ok(line) = try_format(format_args!(
            "{:02x}{:02x} {blocks:>10} {} {}",
            dev.major,
            dev.minor,
            device.name(),
            device.uuid()
        )) {
            log::error!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let wanted =
            Wanted::parse("root=/dev/sda ro rw rootwait=3 root=PARTUUID=x rootflags=noload,a=b -- ro");
        let expected = Wanted {
            root: Some("PARTUUID=x"),
            types: None,
            options: "noload,a=b",
            read_only: false,
            delay: 0,
            wait: Some(Some(3)),
        };
        assert_eq!(wanted, expected);
        assert_eq!(Wanted::parse("rootwait rootdelay=7 rootfstype=ext4,ext3").wait, Some(None));
    }

    #[test]
    fn numbers() {
        assert_eq!(number("254:1"), Some(DevId::new(254, 1)));
        assert_eq!(number("fe01"), Some(DevId::new(254, 1)));
        assert_eq!(number("nonsense"), None);
    }
}
