//! Numbers and names of block devices, and who makes them visible.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fs::DevId;
use abi::{Errno, Result};
use arch::sync::{RwSpinLock, SpinLock, SpinLockIrq};
use collections::idalloc::{IdAlloc, IdError};
use collections::sorted::SortedMap;
use mm::fallible::{TryCollect, TryVec};
use sync::Once;

use crate::disk::device::BlockDevice;
use crate::disk::gendisk::Event;

/// RAM disks (`Documentation/admin-guide/devices.txt`, as all of these).
pub const RAM_MAJOR: u32 = 1;
/// Loop devices.
pub const LOOP_MAJOR: u32 = 7;
/// SCSI disks.
pub const SD_MAJOR: u32 = 8;
/// Devices and partitions for which the other numbers do not suffice.
pub const BLKEXT_MAJOR: u32 = 259;
/// Where the search for a free major number begins, downwards.
const LAST_DYNAMIC: u32 = 254;
/// Minor numbers end here.
const MINORS: u32 = 1 << 20;

static DEVICES: RwSpinLock<SortedMap<u64, Arc<BlockDevice>>> = RwSpinLock::new(SortedMap::new());
static MAJORS: SpinLock<Vec<(u32, &'static str)>> = SpinLock::new(Vec::new());
static OBSERVER: Once<&'static dyn Observer> = Once::new();

/// Makes devices visible: sysfs, `/dev`. All calls are in task context, may sleep, and hold a lock of the disk: no device is opened here.
pub trait Observer: Send + Sync {
    /// There is a new device.
    fn added(&self, device: &Arc<BlockDevice>);
    /// A device is gone.
    fn removed(&self, device: &Arc<BlockDevice>);
    /// Something about it is different.
    fn changed(&self, _device: &Arc<BlockDevice>, _event: Event) {}
}

/// Who makes devices visible from now on, and those that are there already. Once.
pub fn set_observer(observer: &'static dyn Observer) {
    if OBSERVER.set(observer).is_ok() {
        all().unwrap_or_default().iter().for_each(|device| observer.added(device));
    }
}

pub(super) fn added(device: &Arc<BlockDevice>) {
    if let Some(observer) = OBSERVER.get() {
        observer.added(device);
    }
}

pub(super) fn removed(device: &Arc<BlockDevice>) {
    if let Some(observer) = OBSERVER.get() {
        observer.removed(device);
    }
}

pub(super) fn changed(device: &Arc<BlockDevice>, event: Event) {
    if let Some(observer) = OBSERVER.get() {
        observer.changed(device, event);
    }
}

fn key(dev: DevId) -> u64 {
    u64::from(dev.major) << 32 | u64::from(dev.minor)
}

pub(super) fn insert(device: &Arc<BlockDevice>) -> Result<()> {
    let mut devices = DEVICES.write();
    let taken = devices.contains_key(&key(device.dev()))
        || devices.values().any(|other| other.name() == device.name());
    if taken {
        return Err(Errno::EBUSY);
    }
    devices.try_insert(key(device.dev()), device.clone())?;
    Ok(())
}

pub(super) fn remove(device: &Arc<BlockDevice>) {
    let held = DEVICES.write().remove(&key(device.dev()));
    drop(held);
}

/// The device of that number.
pub fn by_number(dev: DevId) -> Option<Arc<BlockDevice>> {
    DEVICES.read().get(&key(dev)).cloned()
}

/// The device of that name below `/dev`.
pub fn by_name(name: &str) -> Option<Arc<BlockDevice>> {
    DEVICES.read().values().find(|device| device.name() == name).cloned()
}

/// All devices, by number.
///
/// # Errors
/// `ENOMEM`.
pub fn all() -> Result<Vec<Arc<BlockDevice>>> {
    Ok(DEVICES.read().values().cloned().try_collect_vec()?)
}

/// Takes a major number for the driver `name`: `wanted`, or a free one if that is 0.
///
/// # Errors
/// `EBUSY`: it is taken, or all are; `ENOMEM`.
pub fn register_major(name: &'static str, wanted: u32) -> Result<u32> {
    let mut majors = MAJORS.lock();
    let free = |major: u32| !majors.iter().any(|(taken, _)| *taken == major);
    let major = match wanted {
        0 => (1..=LAST_DYNAMIC).rev().find(|major| free(*major)).ok_or(Errno::EBUSY)?,
        wanted if free(wanted) => wanted,
        _ => return Err(Errno::EBUSY),
    };
    let at = majors.iter().position(|(other, _)| *other > major).unwrap_or(majors.len());
    majors.try_insert(at, (major, name))?;
    Ok(major)
}

/// Major numbers and their drivers' names, by number, as `/proc/devices` shows them.
///
/// # Errors
/// `ENOMEM`.
pub fn majors() -> Result<Vec<(u32, &'static str)>> {
    Ok(MAJORS.lock().iter().copied().try_collect_vec()?)
}

static EXTENDED: SpinLockIrq<IdAlloc> = SpinLockIrq::new(IdAlloc::new(0, MINORS));

/// A number that a device has. One of [`BLKEXT_MAJOR`] is free again when it is dropped: when nobody has the device any more.
pub(super) enum Number {
    /// Its driver's.
    Own(DevId),
    /// A minor number of [`BLKEXT_MAJOR`].
    Extended(u32),
}

impl Number {
    /// A free one of [`BLKEXT_MAJOR`].
    pub(super) fn extended() -> Result<Self> {
        match register_major("blkext", BLKEXT_MAJOR) {
            Ok(_) | Err(Errno::EBUSY) => {}
            Err(error) => return Err(error),
        }
        match EXTENDED.lock().alloc() {
            Ok(minor) => Ok(Self::Extended(minor)),
            Err(IdError::NoSpace) => Err(Errno::EBUSY),
            Err(IdError::OutOfMemory) => Err(Errno::ENOMEM),
        }
    }

    pub(super) fn dev(&self) -> DevId {
        match self {
            Self::Own(dev) => *dev,
            Self::Extended(minor) => DevId::new(BLKEXT_MAJOR, *minor),
        }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Self::Extended(minor) = self {
            EXTENDED.lock().free(*minor);
        }
    }
}
