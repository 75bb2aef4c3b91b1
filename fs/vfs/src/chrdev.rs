//! The registries of device numbers: which driver opens a device node. `mknod(2)`, `/proc/devices`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fs::DevId;
use abi::{Errno, Result};
use arch::sync::RwSpinLock;
use sync::Once;

use crate::file::{FileImpl, OpenFile};
use crate::inode::Inode;
use mm::fallible::{TryCollect, TryVec};

/// Opens the devices of one range of numbers.
pub trait DeviceDriver: Send + Sync {
    /// Opens the device `dev`; may clear what the file cannot do (`open.nonseekable()`).
    fn open(&self, dev: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl>;
}

struct Range {
    name: &'static str,
    major: u32,
    first: u32,
    last: u32,
    driver: &'static dyn DeviceDriver,
}

/// Device numbers that a driver registered.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Under what name.
    pub name: &'static str,
    /// Major number.
    pub major: u32,
    /// First minor number.
    pub first: u32,
    /// Last minor number.
    pub last: u32,
}

/// A registry of devices.
pub struct DeviceTable(RwSpinLock<Vec<Range>>);

/// Character devices.
pub static CHAR_DEVICES: DeviceTable = DeviceTable(RwSpinLock::new(Vec::new()));
static BLOCK_DRIVER: Once<&'static dyn DeviceDriver> = Once::new();

/// Who opens block device nodes. Once.
pub fn set_block_driver(driver: &'static dyn DeviceDriver) {
    let _ = BLOCK_DRIVER.set(driver);
}

impl DeviceTable {
    /// Registers `count` minors from `first` on under `name`; `EBUSY` if any is taken.
    pub fn register(
        &self,
        name: &'static str,
        major: u32,
        first: u32,
        count: u32,
        driver: &'static dyn DeviceDriver,
    ) -> Result<()> {
        let last = first.checked_add(count.saturating_sub(1)).ok_or(Errno::EINVAL)?;
        let mut ranges = self.0.write();
        if ranges.iter().any(|r| r.major == major && r.first <= last && first <= r.last) {
            return Err(Errno::EBUSY);
        }
        ranges.try_push(Range { name, major, first, last, driver })?;
        ranges.sort_by_key(|r| (r.major, r.first));
        Ok(())
    }

    /// Takes a range out again.
    pub fn unregister(&self, major: u32, first: u32) {
        self.0.write().retain(|r| r.major != major || r.first != first);
    }

    /// The driver of `dev`.
    pub fn driver(&self, dev: DevId) -> Option<&'static dyn DeviceDriver> {
        let ranges = self.0.read();
        ranges
            .iter()
            .find(|r| r.major == dev.major && r.first <= dev.minor && dev.minor <= r.last)
            .map(|r| r.driver)
    }

    /// Minor numbers and names of a major.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn minors(&self, major: u32) -> Result<Vec<(u32, &'static str)>> {
        let ranges = self.0.read();
        Ok(ranges.iter().filter(|r| r.major == major).map(|r| (r.first, r.name)).try_collect_vec()?)
    }

    /// Every range that is registered.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn ranges(&self) -> Result<Vec<Numbers>> {
        let numbers = |r: &Range| Numbers { name: r.name, major: r.major, first: r.first, last: r.last };
        Ok(self.0.read().iter().map(numbers).try_collect_vec()?)
    }

    /// Major numbers and names for `/proc/devices`, each name once per major.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn majors(&self) -> Result<Vec<(u32, &'static str)>> {
        let mut list = self.0.read().iter().map(|r| (r.major, r.name)).try_collect_vec()?;
        list.dedup();
        Ok(list)
    }
}

/// Opens a character device node.
pub(crate) fn open(inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
    let driver = CHAR_DEVICES.driver(inode.rdev()).ok_or(Errno::ENXIO)?;
    driver.open(inode.rdev(), open)
}

/// Opens a block device node.
pub(crate) fn open_block(inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
    let driver = BLOCK_DRIVER.get().ok_or(Errno::ENXIO)?;
    driver.open(inode.rdev(), open)
}
