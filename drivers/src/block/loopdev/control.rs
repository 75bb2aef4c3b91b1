//! `/dev/loop-control`, and which loop devices there are.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::fs::DevId;
use abi::{Errno, Result};
use block::disk::{self, Disk, LOOP_MAJOR, Numbers, Removal, Spec};
use block::limits::Limits;
use block::{Queue, Shape};
use collections::sorted::SortedMap;
use mm::fallible::{try_box, try_format};
use sched::mutex::Mutex;
use sync::Once;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::FileOps;

use super::device::Loop;

/// Major number of miscellaneous devices.
const MISC_MAJOR: u32 = 10;
/// Minor number of `/dev/loop-control` (`linux/miscdevice.h`).
pub const CONTROL_MINOR: u32 = 237;
/// Minor numbers end here.
const MINORS: u32 = 1 << 20;

const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_REMOVE: u32 = 0x4c81;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;

struct Entry {
    device: Arc<Loop>,
    disk: Arc<Disk>,
}

static TABLE: Mutex<SortedMap<u32, Entry>> = Mutex::new(SortedMap::new());
static FILES: Once<Lookup> = Once::new();

/// Finds the open file behind a descriptor of the calling process.
pub type Lookup = fn(i32) -> Result<Arc<File>>;

/// How a descriptor of the calling process is looked up.
pub fn set_files(lookup: Lookup) {
    let _ = FILES.set(lookup);
}

/// The open file behind a descriptor of the caller.
pub(super) fn file(fd: i32) -> Result<Arc<File>> {
    FILES.get().ok_or(Errno::EBADF)?(fd)
}

/// Makes device `number` and adds it to the table.
fn add(table: &mut SortedMap<u32, Entry>, number: u32) -> Result<()> {
    let device = Loop::new(number)?;
    let shape = Shape { queues: 1, depth: 128, timeout_ms: 30_000 };
    let limits = Limits {
        max_hw_sectors: 2560,
        max_segments: 128,
        max_segment_size: u32::MAX,
        seg_boundary_mask: u64::MAX,
        features: block::Features::IO_STAT,
        ..Limits::default()
    };
    let queue = Queue::new(device.clone(), shape, limits)?;
    let spec = Spec {
        name: try_format(format_args!("loop{number}"))?,
        numbers: Numbers::Own { major: LOOP_MAJOR, first: number, count: 1 },
        parent: None,
        removable: false,
        partitions: true,
        ops: device.clone(),
    };
    let disk = Disk::new(spec, queue)?;
    disk.set_scans_partitions(false);
    device.attach(disk.queue());
    table.try_insert(number, Entry { device, disk: disk.clone() })?;
    if let Err(error) = disk.add() {
        let gone = table.remove(&number);
        drop(gone);
        return Err(error);
    }
    Ok(())
}

/// Makes the lowest device that is not there yet.
fn add_any(table: &mut SortedMap<u32, Entry>) -> Result<u32> {
    let number = (0..MINORS).find(|number| !table.contains_key(number)).ok_or(Errno::ENOSPC)?;
    add(table, number).map(|()| number)
}

fn add_one(wanted: i32) -> Result<u32> {
    let mut table = TABLE.lock();
    match u32::try_from(wanted) {
        Err(_) => add_any(&mut table),
        Ok(number) if number >= MINORS => Err(Errno::EINVAL),
        Ok(number) if table.contains_key(&number) => Err(Errno::EEXIST),
        Ok(number) => add(&mut table, number).map(|()| number),
    }
}

fn remove(number: i32) -> Result<()> {
    let number = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
    let entry = {
        let mut table = TABLE.lock();
        let entry = table.get(&number).ok_or(Errno::ENODEV)?;
        entry.device.retire(&entry.disk)?;
        table.remove(&number)
    };
    if let Some(entry) = entry {
        entry.disk.remove(Removal::Surprise);
    }
    Ok(())
}

fn get_free() -> Result<u32> {
    let mut table = TABLE.lock();
    let free = table.iter().find(|(_, entry)| entry.device.is_unbound()).map(|(number, _)| *number);
    match free {
        Some(number) => Ok(number),
        None => add_any(&mut table),
    }
}

struct Control;

impl FileOps for Control {
    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        let number = match cmd {
            LOOP_CTL_ADD => add_one(arg as i32)?,
            LOOP_CTL_REMOVE => remove(arg as i32).map(|()| 0)?,
            LOOP_CTL_GET_FREE => get_free()?,
            _ => return Err(Errno::ENOSYS),
        };
        Ok(number as isize)
    }
}

struct Driver;

impl DeviceDriver for Driver {
    fn open(&self, _: DevId, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Owned(try_box(Control)?))
    }
}

/// `max_loop`: how many devices there are from the beginning.
pub static COUNT: AtomicU32 = AtomicU32::new(0);

/// The file that a device is bound to, if it is.
pub(super) fn bound_file(number: u32) -> Result<Option<Arc<File>>> {
    let table = TABLE.lock();
    Ok(table.get(&number).ok_or(Errno::ENXIO)?.device.file())
}

/// Registers the driver, and makes the first devices. The caller makes the node of `loop-control`.
///
/// # Errors
/// `EBUSY`: somebody has its numbers; `ENOMEM`.
pub fn init() -> Result<DevId> {
    disk::register_major("loop", LOOP_MAJOR)?;
    CHAR_DEVICES.register("loop-control", MISC_MAJOR, CONTROL_MINOR, 1, &Driver)?;
    for number in 0..COUNT.load(Ordering::Relaxed).min(MINORS) {
        add(&mut TABLE.lock(), number)?;
    }
    Ok(DevId::new(MISC_MAJOR, CONTROL_MINOR))
}
