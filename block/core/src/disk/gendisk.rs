//! A disk: what a driver makes of its device, so that others can use it.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::fs::DevId;
use abi::{Errno, Result};
use arch::sync::RwSpinLock;
use collections::sorted::SortedMap;
use mm::fallible::{TryCollect, TryVec};
use mm::try_format;
use mm::writeback::BackingDevice;
use sched::mutex::Mutex;

use crate::disk::device::{BlockDevice, Parts};
use crate::disk::open::Access;
use crate::disk::registry::{self, Number};
use crate::limits::Features;
use crate::partition::Label;
use crate::queue::Queue;

/// Which numbers a disk and its partitions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Its own: the disk has the first, the partitions those behind it. Partitions beyond `count` get numbers of
    /// [`BLKEXT_MAJOR`](registry::BLKEXT_MAJOR).
    Own {
        /// The driver's major number.
        major: u32,
        /// The disk's minor number.
        first: u32,
        /// How many minor numbers it has.
        count: u32,
    },
    /// Any of [`BLKEXT_MAJOR`](registry::BLKEXT_MAJOR).
    Extended,
}

/// The geometry that old programs ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Heads.
    pub heads: u8,
    /// Sectors of a track.
    pub sectors: u8,
    /// Cylinders.
    pub cylinders: u16,
}

/// What is to be done when somebody has closed a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// Its medium is gone: it has no partitions any more.
    DropPartitions,
}

/// Files that a driver adds to its disk's folder in sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The folder below the disk's; empty: none.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it can be written.
    pub writable: bool,
}

/// An ioctl(2).
pub struct Call<'a> {
    /// For what the caller has it open.
    pub access: Access,
    /// Whether the caller has it for itself (`O_EXCL`).
    pub exclusive: bool,
    /// The command.
    pub command: u32,
    /// What the command says it is.
    pub arg: u64,
    /// Whether the caller has `CAP_SYS_ADMIN`.
    pub is_admin: &'a dyn Fn() -> bool,
}

/// What a driver does for its disk beyond transfers. All functions are in task context and may sleep.
pub trait DiskOps: Send + Sync {
    /// The disk or a partition is being opened. [`release`](Self::release) follows if this returns `Ok`.
    ///
    /// # Errors
    /// Why it cannot be.
    fn open(&self, _disk: &Disk, _access: Access) -> Result<()> {
        Ok(())
    }

    /// One who had it open has it no more; `last`: it was the last.
    fn release(&self, _disk: &Disk, _last: bool) -> After {
        After::Nothing
    }

    /// An ioctl(2) that the block layer does not know. What `arg` is, the command says.
    ///
    /// # Errors
    /// `ENOTTY`: nor does the driver.
    fn ioctl(&self, _device: &Arc<BlockDevice>, _call: &Call<'_>) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// Somebody wants it (not) to be written.
    ///
    /// # Errors
    /// Why it cannot be.
    fn set_read_only(&self, _disk: &Disk, _read_only: bool) -> Result<()> {
        Ok(())
    }

    /// Its geometry, if it has one.
    fn geometry(&self, _disk: &Disk) -> Option<Geometry> {
        None
    }

    /// Whether the driver's own files in sysfs are there now.
    fn has_attributes(&self) -> bool {
        true
    }

    /// The driver's own files in sysfs.
    fn attributes(&self) -> &'static [Attribute] {
        &[]
    }

    /// What one of them says, without the end of the line.
    ///
    /// # Errors
    /// `EIO`: there is no such file.
    fn show(&self, _disk: &Disk, _attribute: &Attribute, _to: &mut dyn fmt::Write) -> Result<()> {
        Err(Errno::EIO)
    }

    /// One of them is written.
    ///
    /// # Errors
    /// `EIO`: it cannot be; `EINVAL`.
    fn store(&self, _disk: &Disk, _attribute: &Attribute, _value: &str) -> Result<()> {
        Err(Errno::EIO)
    }
}

/// A disk to be made.
pub struct Spec {
    /// Its name below `/dev`.
    pub name: String,
    /// Its numbers.
    pub numbers: Numbers,
    /// Where the device is below `/sys/devices`, if it is a real one.
    pub parent: Option<String>,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether it may have partitions.
    pub partitions: bool,
    /// The driver's side.
    pub ops: Arc<dyn DiskOps>,
}

/// How a disk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// What was written through its special files is written to it first.
    Orderly,
    /// It is gone already.
    Surprise,
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has another size.
    Resized,
    /// It may be written, or may not any more.
    ReadOnly(bool),
    /// It has another medium.
    Media,
    /// Its partitions were looked for again.
    Rescanned,
}

/// A disk. See the [module](crate::disk).
pub struct Disk {
    pub(super) name: String,
    pub(super) numbers: Numbers,
    parent: Option<String>,
    removable: bool,
    partitions: bool,
    pub(super) ops: Arc<dyn DiskOps>,
    queue: Arc<Queue>,
    capacity: AtomicU64,
    read_only: AtomicBool,
    /// Changes with the medium; no two disks have the same.
    sequence: AtomicU64,
    /// As the page cache sees it.
    backing: Arc<BackingDevice>,
    /// It was added, and not removed.
    live: AtomicBool,
    /// Its partitions are to be looked for when it is opened next.
    pub(super) scan_wanted: AtomicBool,
    /// No partitions are looked for, though it may have some (loop devices).
    pub(super) no_scan: AtomicBool,
    /// Who opens, closes, or changes partitions. Nothing is found any more after the removal.
    pub(super) opening: Mutex<()>,
    /// The whole (0) and the partitions, while they are there. They hold the disk.
    pub(super) devices: RwSpinLock<SortedMap<u32, Arc<BlockDevice>>>,
}

/// Bytes.
const DEFAULT_READ_AHEAD: u32 = 128 << 10;

static SEQUENCE: AtomicU64 = AtomicU64::new(1);

impl Disk {
    /// A disk over `queue` that nobody sees yet, without any sectors.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(spec: Spec, queue: Arc<Queue>) -> Result<Arc<Self>> {
        let Spec { name, numbers, parent, removable, partitions, ops } = spec;
        let limits = queue.limits()?;
        let backing = BackingDevice::new(&name)?;
        let best = limits.io_opt.saturating_mul(2).max(DEFAULT_READ_AHEAD);
        backing.set_read_ahead_kb(best >> 10);
        backing.set_stable_pages(limits.features.contains(Features::STABLE_WRITES));
        Ok(mm::try_arc(Self {
            name,
            numbers,
            parent,
            removable,
            partitions,
            ops,
            queue,
            capacity: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
            sequence: AtomicU64::new(SEQUENCE.fetch_add(1, Ordering::Relaxed)),
            backing,
            live: AtomicBool::new(false),
            scan_wanted: AtomicBool::new(false),
            no_scan: AtomicBool::new(false),
            opening: Mutex::new(()),
            devices: RwSpinLock::new(SortedMap::new()),
        })?)
    }

    /// Its name below `/dev`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The driver's side.
    pub fn ops(&self) -> &Arc<dyn DiskOps> {
        &self.ops
    }

    /// Where the device is below `/sys/devices`.
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// Whether its medium can be taken out.
    pub fn is_removable(&self) -> bool {
        self.removable
    }

    /// Whether it may have partitions.
    pub fn has_partitions(&self) -> bool {
        self.partitions
    }

    /// How many numbers it and its partitions can have.
    pub fn range(&self) -> u32 {
        match self.numbers {
            Numbers::Own { count, .. } => count,
            Numbers::Extended => 0,
        }
    }

    /// How many devices it can be at most: one if it has no partitions.
    pub fn extended_range(&self) -> u32 {
        if self.partitions { crate::partition::MAX as u32 } else { 1 }
    }

    /// Whether it was added and not removed.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Whether nobody may write it.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// The driver says whether it can be written.
    pub fn set_read_only(&self, read_only: bool) {
        if self.read_only.swap(read_only, Ordering::Relaxed) != read_only {
            self.tell(Event::ReadOnly(read_only));
        }
    }

    /// A number that changes with the medium (`BLKGETDISKSEQ`).
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// It has another medium: it gets another sequence number, and its partitions are looked for when it is opened next.
    pub fn media_changed(&self) {
        self.sequence.store(SEQUENCE.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.scan_wanted.store(true, Ordering::Release);
        self.tell(Event::Media);
    }

    /// How far is read ahead at most, in bytes (`BLKRAGET`, `read_ahead_kb`).
    pub fn read_ahead(&self) -> u32 {
        self.backing.read_ahead_kb() << 10
    }

    /// Changes that.
    pub fn set_read_ahead(&self, bytes: u32) {
        self.backing.set_read_ahead_kb(bytes >> 10);
    }

    /// The disk as write-back and readahead see it: for the page caches of its special files and of file systems on it.
    pub fn backing(&self) -> &Arc<BackingDevice> {
        &self.backing
    }

    /// Its length in sectors.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    /// Says how many sectors it has.
    pub fn set_capacity(&self, sectors: u64) {
        self.capacity.store(sectors, Ordering::Release);
        if let Some(whole) = self.whole() {
            whole.set_sectors(sectors);
        }
    }

    /// The same, and those who watch it get to know if it changes.
    pub fn set_capacity_and_notify(&self, sectors: u64) {
        let before = self.capacity();
        self.set_capacity(sectors);
        if before != sectors && before != 0 && sectors != 0 && self.is_live() {
            log::info!("{}: detected capacity change from {before} to {sectors}", self.name);
            self.tell(Event::Resized);
        }
    }

    /// Whether partitions are looked for.
    pub fn scans_partitions(&self) -> bool {
        self.partitions && !self.no_scan.load(Ordering::Relaxed)
    }

    /// Says whether partitions are looked for.
    pub fn set_scans_partitions(&self, scans: bool) {
        self.no_scan.store(!scans, Ordering::Relaxed);
    }

    fn tell(&self, event: Event) {
        if self.is_live()
            && let Some(whole) = self.whole()
        {
            registry::changed(&whole, event);
        }
    }

    /// The whole disk, from when it is added until it is removed.
    pub fn whole(&self) -> Option<Arc<BlockDevice>> {
        self.partition(0)
    }

    /// The partition of that number; 0: the whole disk.
    pub fn partition(&self, number: u32) -> Option<Arc<BlockDevice>> {
        self.devices.read().get(&number).cloned()
    }

    /// The whole and its partitions, by number.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn all(&self) -> Result<alloc::vec::Vec<Arc<BlockDevice>>> {
        Ok(self.devices.read().values().cloned().try_collect_vec()?)
    }

    /// Makes it a device that others can use, and looks for its partitions. May sleep.
    ///
    /// # Errors
    /// `EBUSY`: its name or number is taken; `ENOMEM`.
    pub fn add(self: &Arc<Self>) -> Result<()> {
        let opening = self.opening.lock();
        if self.is_live() {
            return Err(Errno::EBUSY);
        }
        let whole = BlockDevice::new(
            self.clone(),
            Parts {
                id: self.number_of(0)?,
                name: try_format(format_args!("{}", self.name))?,
                number: 0,
                start: 0,
                sectors: self.capacity(),
                stats: self.queue.accounts().whole().clone(),
                uuid: Label::EMPTY,
                label: Label::EMPTY,
            },
        )?;
        self.publish(&whole)?;
        self.backing.set_numbers((whole.dev().major, whole.dev().minor));
        self.live.store(true, Ordering::Release);
        registry::added(&whole);
        if self.scans_partitions() && self.capacity() > 0 {
            self.find_partitions(&whole);
        }
        drop(opening);
        Ok(())
    }

    /// The number of the partition `number`.
    pub(super) fn number_of(&self, number: u32) -> Result<Number> {
        match self.numbers {
            Numbers::Own { major, first, count } if number < count => {
                Ok(Number::Own(DevId::new(major, first + number)))
            }
            _ => Number::extended(),
        }
    }

    /// The device can be found from now on.
    pub(super) fn publish(&self, device: &Arc<BlockDevice>) -> Result<()> {
        registry::insert(device)?;
        let inserted =
            self.devices.write().try_insert(device.partition().unwrap_or(0), device.clone()).map(drop);
        if inserted.is_err() {
            registry::remove(device);
        }
        Ok(inserted?)
    }

    /// It cannot be found any more.
    pub(super) fn withdraw(&self, device: &Arc<BlockDevice>) {
        registry::remove(device);
        let held = self.devices.write().remove(&device.partition().unwrap_or(0));
        registry::removed(device);
        drop(held);
    }

    /// Takes it away, with its partitions. Who has it open gets errors from now on. Waits until the driver has ended what it has. May sleep.
    pub fn remove(&self, how: Removal) {
        if how == Removal::Surprise {
            // First: who is opening it may wait for it.
            self.live.store(false, Ordering::Release);
            self.end_all();
        }
        let mut gone = {
            let _opening = self.opening.lock();
            // A removal that comes second finds nothing.
            let devices = self.all().unwrap_or_default();
            if how == Removal::Orderly {
                for device in &devices {
                    device.write_back();
                }
            }
            self.live.store(false, Ordering::Release);
            devices
        };
        if gone.is_empty() {
            self.end_all();
            // No memory for the list: one by one.
            while let Some(device) = self.last_device() {
                device.tell_holders();
                self.withdraw(&device);
            }
        }
        if how == Removal::Orderly {
            self.end_all();
        }
        while let Some(device) = gone.pop() {
            device.tell_holders();
            self.withdraw(&device);
        }
    }

    fn last_device(&self) -> Option<Arc<BlockDevice>> {
        self.devices.read().values().next_back().cloned()
    }

    fn end_all(&self) {
        self.capacity.store(0, Ordering::Release);
        self.devices.read().values().for_each(|device| device.set_sectors(0));
        self.queue.kill();
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} {} sectors)", self.name, self.capacity())
    }
}

/// The name of the disk with this index, as `sda`, `vdb`, `vdaa` are named.
///
/// # Errors
/// `ENOMEM`.
pub fn letters(prefix: &str, index: u32) -> Result<String> {
    let mut tail = alloc::vec::Vec::new();
    let mut left = u64::from(index) + 1;
    while left > 0 {
        left -= 1;
        tail.try_push(char::from(b'a' + (left % 26) as u8))?;
        left /= 26;
    }
    let mut name = String::new();
    name.try_reserve_exact(prefix.len() + tail.len()).map_err(|_| Errno::ENOMEM)?;
    name.extend(prefix.chars().chain(tail.into_iter().rev()));
    Ok(name)
}
