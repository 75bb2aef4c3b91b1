//! Directories and links.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use block::BlockDevice;
use block::disk::{self, Attribute};
use kernfs::{Context, Entry, Link, Listing, Node, Show, Text};
use mm::fallible::{TryVec, try_arc, try_arc_slice, try_format};
use vfs::inode_ops::LinkTarget;

use super::{REVISION, device, queue};
use crate::sysfs::{Access, FILE_SIZE, directory};

/// A file of a device.
pub(super) struct File {
    pub(super) name: &'static str,
    /// For whom there is one.
    pub(super) of: Of,
    pub(super) show: fn(&BlockDevice, &mut Text) -> Result<()>,
    /// Takes what a user wrote, without the end of the line.
    pub(super) store: Option<fn(&BlockDevice, &str) -> Result<()>>,
}

/// Which devices have a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Both,
    Disk,
    Partition,
}

/// A directory.
pub(super) enum Dir {
    /// `/sys/block`: a link for each disk.
    Disks,
    /// `/sys/class/block`: one for each device.
    Devices,
    /// `/sys/dev/block`: one for each device, by number.
    Numbers,
    /// `/sys/devices/virtual/block`: the disks that are no real devices.
    Virtual,
    /// The disks of the device at this path below `/sys/devices`.
    Below(String),
    /// A disk or a partition.
    Device(Arc<BlockDevice>),
    /// `queue` of a disk.
    Queue(Arc<BlockDevice>),
    /// `queue/iosched`.
    Scheduler(Arc<BlockDevice>),
    /// `mq`: one for each hardware queue.
    HwQueues(Arc<BlockDevice>),
    /// One hardware queue.
    HwQueue(Arc<BlockDevice>, usize),
    /// A group of the driver's own files.
    Driver(Arc<BlockDevice>, &'static str),
    /// Nothing: `holders`, `slaves`, `power`.
    Empty,
}

type Named = (u64, Cow<'static, str>, Entry);

/// Inode numbers: far above those of other nodes.
const FIRST_INO: u64 = 1 << 46;

/// The inode number of the file `index` of a device.
fn ino(device: &BlockDevice, index: u64) -> u64 {
    FIRST_INO + (u64::from(device.dev().encode()) << 12) + index
}

/// Where the directory of a device is, below `/sys`.
fn home(device: &BlockDevice) -> Result<String> {
    let disk = device.disk();
    let base = match disk.parent() {
        Some(parent) => try_format(format_args!("devices/{parent}/block/{}", disk.name()))?,
        None => try_format(format_args!("devices/virtual/block/{}", disk.name()))?,
    };
    match device.partition() {
        None => Ok(base),
        Some(_) => Ok(try_format(format_args!("{base}/{}", device.name()))?),
    }
}

struct Path(Arc<[u8]>);

impl Link for Path {
    fn target(&self, _: &Context<'_>) -> Result<LinkTarget> {
        Ok(LinkTarget::Path(self.0.clone()))
    }
}

fn link(ino: u64, target: &str) -> Result<Entry> {
    let path = try_arc(Path(try_arc_slice(target.as_bytes())?))?;
    Ok(Entry::new(Node::Link(path), ino, 0o777))
}

fn dir(ino: u64, dir: Dir) -> Result<Entry> {
    Ok(Entry::new(Node::Dir(try_arc(dir)?), ino, 0o755))
}

/// A file of a table.
struct Shown {
    device: Arc<BlockDevice>,
    file: &'static File,
}

fn word(data: &[u8]) -> Result<&str> {
    core::str::from_utf8(data).map(str::trim).map_err(|_| Errno::EINVAL)
}

impl Show for Shown {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        (self.file.show)(&self.device, out)
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        self.file.store.ok_or(Errno::EIO)?(&self.device, word(data)?)
    }
}

/// An attribute of the scheduler.
struct Scheduled {
    device: Arc<BlockDevice>,
    name: &'static str,
}

impl Show for Scheduled {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let elevator = self.device.queue().elevator().ok_or(Errno::ENODEV)?;
        let value = elevator.get(self.name)?;
        crate::sysfs::print(out, format_args!("{value}\n"))
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        let value = word(data)?.parse().map_err(|_| Errno::EINVAL)?;
        self.device.queue().elevator().ok_or(Errno::ENODEV)?.set(self.name, value)
    }
}

/// A file of the driver's.
struct Drivers {
    device: Arc<BlockDevice>,
    attribute: &'static Attribute,
}

impl Show for Drivers {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let disk = self.device.disk();
        disk.ops().show(disk, self.attribute, out)?;
        out.push(b"\n");
        Ok(())
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        let disk = self.device.disk();
        disk.ops().store(disk, self.attribute, word(data)?)
    }
}

/// A file that says one thing about a hardware queue.
struct HwFile {
    device: Arc<BlockDevice>,
    hw: usize,
    show: fn(&BlockDevice, usize, &mut Text) -> Result<()>,
}

impl Show for HwFile {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        (self.show)(&self.device, self.hw, out)
    }
}

fn file(ino: u64, show: Arc<dyn Show>, writable: bool) -> Entry {
    let mode = if writable { 0o644 } else { 0o444 };
    Entry::new(Node::Text(show), ino, mode).sized(FILE_SIZE).accessed_by(Access::Bits)
}

/// Files of a table, from index `first` on.
fn files(device: &Arc<BlockDevice>, first: u64, table: &'static [File], to: &mut Vec<Named>) -> Result<()> {
    let kind = if device.partition().is_some() { Of::Partition } else { Of::Disk };
    for (index, of) in (first..).zip(table) {
        if of.of == Of::Both || of.of == kind {
            let shown = try_arc(Shown { device: device.clone(), file: of })?;
            let entry = file(ino(device, index), shown, of.store.is_some());
            to.try_push((index, Cow::Borrowed(of.name), entry))?;
        }
    }
    Ok(())
}

/// Where the numbers of each kind of file of a device begin.
const DIRS: u64 = 64;
const QUEUE: u64 = 128;
const SCHEDULER: u64 = 256;
const DRIVER: u64 = 320;
const HW: u64 = 512;
const PARTITIONS: u64 = 1 << 12;

impl Dir {
    /// All that is in it, by position.
    fn entries(&self) -> Result<Vec<Named>> {
        let mut to = Vec::new();
        match self {
            Self::Disks | Self::Devices | Self::Numbers => self.links(&mut to)?,
            Self::Virtual => disks(None, &mut to)?,
            Self::Below(parent) => disks(Some(parent), &mut to)?,
            Self::Device(device) => device_dir(device, &mut to)?,
            Self::Queue(device) => {
                files(device, QUEUE, queue::FILES, &mut to)?;
                if device.queue().elevator().is_some() {
                    let entry = dir(ino(device, SCHEDULER - 1), Self::Scheduler(device.clone()))?;
                    to.try_push((SCHEDULER - 1, Cow::Borrowed("iosched"), entry))?;
                }
            }
            Self::Scheduler(device) => {
                let elevator = device.queue().elevator().ok_or(Errno::ENOENT)?;
                for (index, name) in (SCHEDULER..).zip(elevator.attributes()) {
                    let shown = try_arc(Scheduled { device: device.clone(), name })?;
                    to.try_push((index, Cow::Borrowed(*name), file(ino(device, index), shown, true)))?;
                }
            }
            Self::HwQueues(device) => {
                for hw in 0..device.queue().hw_queues() {
                    let index = HW + 8 * hw as u64;
                    let entry = dir(ino(device, index), Self::HwQueue(device.clone(), hw))?;
                    to.try_push((index, Cow::Owned(try_format(format_args!("{hw}"))?), entry))?;
                }
            }
            Self::HwQueue(device, hw) => {
                for (n, (name, show)) in queue::HW_FILES.iter().enumerate() {
                    let index = HW + 8 * *hw as u64 + 1 + n as u64;
                    let shown = try_arc(HwFile { device: device.clone(), hw: *hw, show: *show })?;
                    to.try_push((index, Cow::Borrowed(*name), file(ino(device, index), shown, false)))?;
                }
            }
            Self::Driver(device, group) => drivers(device, group, &mut to)?,
            Self::Empty => {}
        }
        Ok(to)
    }

    fn links(&self, to: &mut Vec<Named>) -> Result<()> {
        for device in disk::all()? {
            if matches!(self, Self::Disks) && device.partition().is_some() {
                continue;
            }
            let home = home(&device)?;
            let (up, kind) = match self {
                Self::Disks => ("..", 1),
                Self::Devices => ("../..", 2),
                _ => ("../..", 3),
            };
            let dev = device.dev();
            let name = match self {
                Self::Numbers => try_format(format_args!("{}:{}", dev.major, dev.minor))?,
                _ => try_format(format_args!("{}", device.name()))?,
            };
            let entry = link(ino(&device, PARTITIONS - kind), &try_format(format_args!("{up}/{home}"))?)?;
            to.try_push((u64::from(dev.encode()) + 1, Cow::Owned(name), entry))?;
        }
        to.sort_unstable_by_key(|(at, ..)| *at);
        Ok(())
    }
}

/// Directories of the disks of a device, or of those that are no real ones.
fn disks(parent: Option<&str>, to: &mut Vec<Named>) -> Result<()> {
    for device in disk::all()? {
        if device.partition().is_none() && device.disk().parent() == parent {
            let name = try_format(format_args!("{}", device.name()))?;
            let at = u64::from(device.dev().encode()) + 1;
            to.try_push((at, Cow::Owned(name), dir(ino(&device, 0), Dir::Device(device))?))?;
        }
    }
    to.sort_unstable_by_key(|(at, ..)| *at);
    Ok(())
}

fn device_dir(device: &Arc<BlockDevice>, to: &mut Vec<Named>) -> Result<()> {
    files(device, 1, device::FILES, to)?;
    let whole = device.partition().is_none();
    let mut at = DIRS;
    let mut add = |name: &'static str, entry: Result<Entry>| {
        at += 1;
        to.try_push((at, Cow::Borrowed(name), entry?)).map_err(Errno::from)
    };
    let number = |n: u64| ino(device, DIRS + n);
    add("power", dir(number(1), Dir::Empty))?;
    add("holders", dir(number(2), Dir::Empty))?;
    // From the device's own directory up to the root.
    let depth = 1 + home(device)?.matches('/').count();
    let mut up = String::new();
    up.try_reserve(3 * depth + 16).map_err(|_| Errno::ENOMEM)?;
    up.extend(core::iter::repeat_n("../", depth));
    up.extend(["class/block"]);
    add("subsystem", link(number(3), &up))?;
    if !whole {
        return Ok(());
    }
    add("slaves", dir(number(4), Dir::Empty))?;
    add("queue", dir(number(5), Dir::Queue(device.clone())))?;
    add("mq", dir(number(6), Dir::HwQueues(device.clone())))?;
    if let Some(parent) = device.disk().parent() {
        let last = parent.rsplit('/').next().unwrap_or_default();
        add("device", link(number(7), &try_format(format_args!("../../../{last}"))?))?;
    }
    let ops = device.disk().ops();
    if ops.has_attributes() {
        drivers(device, "", to)?;
        let mut last = "";
        for (index, attribute) in ops.attributes().iter().enumerate() {
            if !attribute.group.is_empty() && attribute.group != last {
                last = attribute.group;
                let at = DRIVER + 128 + index as u64;
                to.try_push((
                    at,
                    Cow::Borrowed(last),
                    dir(ino(device, at), Dir::Driver(device.clone(), last))?,
                ))?;
            }
        }
    }
    for partition in device.disk().all()? {
        if let Some(number) = partition.partition() {
            let name = try_format(format_args!("{}", partition.name()))?;
            let entry = dir(ino(&partition, 0), Dir::Device(partition))?;
            to.try_push((PARTITIONS + u64::from(number), Cow::Owned(name), entry))?;
        }
    }
    Ok(())
}

/// The driver's own files of a group.
fn drivers(device: &Arc<BlockDevice>, group: &str, to: &mut Vec<Named>) -> Result<()> {
    for (index, attribute) in (DRIVER..).zip(device.disk().ops().attributes()) {
        if attribute.group == group {
            let shown = try_arc(Drivers { device: device.clone(), attribute })?;
            let entry = file(ino(device, index), shown, attribute.writable);
            to.try_push((index, Cow::Borrowed(attribute.name), entry))?;
        }
    }
    Ok(())
}

impl kernfs::Dir for Dir {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let found = self.entries()?.into_iter().find(|(_, of, _)| of.as_bytes() == name);
        Ok(found.map(|(.., entry)| entry.accessed_by(Access::Bits)))
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        for (at, name, entry) in self.entries()? {
            if at >= from && !emit(name.as_bytes(), entry.ino, entry.node.file_type(), at + 1) {
                break;
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        match self {
            Self::Device(device)
            | Self::Queue(device)
            | Self::Scheduler(device)
            | Self::HwQueues(device)
            | Self::HwQueue(device, _)
            | Self::Driver(device, _) => {
                disk::by_number(device.dev()).is_some_and(|now| Arc::ptr_eq(&now, device))
            }
            _ => true,
        }
    }

    fn revision(&self) -> Option<usize> {
        Some(REVISION.load(Ordering::Acquire))
    }

    fn access(&self) -> Access {
        Access::Bits
    }

    fn nlink(&self) -> u32 {
        let entries = self.entries().unwrap_or_default();
        2 + entries.iter().filter(|(.., entry)| matches!(entry.node, Node::Dir(_))).count() as u32
    }
}

/// The directory `block` of the device at `parent` below `/sys/devices`.
pub(super) fn add_below(parent: &str) -> Result<()> {
    let path = try_format(format_args!("devices/{parent}"))?;
    let of = directory(&path);
    if of.get(b"block").is_none() {
        let below = try_arc(Dir::Below(try_format(format_args!("{parent}"))?))?;
        of.add_entry("block", Entry::new(Node::Dir(below), kernfs::next_ino(), 0o755));
    }
    Ok(())
}
