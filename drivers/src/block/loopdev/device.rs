//! A loop device: bound to a file or not.

use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use block::Queue;
use block::bio::SECTOR_SHIFT;
use block::disk::{Access, After, Attribute, BlockDevice, Call, Disk, DiskOps};
use block::limits::{Features, Limits};
use mm::try_arc;
use sched::mutex::Mutex;
use vfs::file::{File, FileMode};
use vfs::types::FileType;

use super::super::serve::{Server, Waiting};
use super::ioctl;

/// `LO_FLAGS_READ_ONLY`.
pub(super) const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: it lets the file go with the last close.
pub(super) const AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_PARTSCAN`: partitions are looked for.
pub(super) const PARTSCAN: u32 = 8;
/// `LO_FLAGS_DIRECT_IO`: the file is read and written past its page cache.
pub(super) const DIRECT_IO: u32 = 16;
/// `LO_NAME_SIZE`.
pub(super) const NAME: usize = 64;

/// The file, as transfers need it.
pub(super) struct Backing {
    pub(super) file: Arc<File>,
    /// Where the disk begins in it, in bytes.
    pub(super) offset: u64,
    pub(super) direct: bool,
}

/// What a device is bound to.
pub(super) struct Binding {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) size_limit: u64,
    pub(super) flags: u32,
    pub(super) name: [u8; NAME],
}

/// Where a device is in its life.
pub(super) enum State {
    Unbound,
    Bound(Binding),
    /// The last close lets the file go; nobody opens it any more.
    RunDown(Binding),
    /// It is being taken away.
    Retired,
}

/// A loop device.
pub(super) struct Loop {
    pub(super) number: u32,
    pub(super) state: Mutex<State>,
    backing: SpinLock<Option<Arc<Backing>>>,
    pub(super) waiting: Waiting,
}

impl Loop {
    pub(super) fn new(number: u32) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            number,
            state: Mutex::new(State::Unbound),
            backing: SpinLock::new(None),
            waiting: Waiting::new()?,
        })?)
    }

    /// This is its queue.
    pub(super) fn attach(self: &Arc<Self>, queue: &Arc<Queue>) {
        let server: Arc<dyn Server> = self.clone();
        self.waiting.attach(Arc::downgrade(&server), queue);
    }

    /// The file that it is bound to.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.backing().map(|backing| backing.file.clone())
    }

    /// The file that it reads and writes.
    pub(super) fn backing(&self) -> Option<Arc<Backing>> {
        self.backing.lock().clone()
    }

    /// From now on transfers go as `state` says. Nothing is under way.
    fn set_backing(&self, backing: Option<Arc<Backing>>) {
        let old = core::mem::replace(&mut *self.backing.lock(), backing);
        drop(old);
    }

    pub(super) fn is_unbound(&self) -> bool {
        matches!(*self.state.lock(), State::Unbound)
    }

    /// Nobody may use it any more.
    pub(super) fn retire(&self, disk: &Disk) -> Result<()> {
        let mut state = self.state.lock();
        let openers = disk.whole().map_or(0, |whole| whole.openers());
        if openers > 0 || !matches!(*state, State::Unbound) {
            return Err(Errno::EBUSY);
        }
        *state = State::Retired;
        Ok(())
    }

    /// Applies what `binding` says: file, place, size. The queue is frozen for it.
    pub(super) fn apply(&self, disk: &Disk, binding: &Binding) -> Result<()> {
        let backing = try_arc(Backing {
            file: binding.file.clone(),
            offset: binding.offset,
            direct: binding.flags & DIRECT_IO != 0,
        })?;
        disk.queue().freeze();
        self.set_backing(Some(backing));
        disk.queue().unfreeze();
        Ok(())
    }

    /// What its disk can do, with this block size over this file.
    pub(super) fn set_limits(&self, disk: &Disk, binding: &Binding, block_size: Option<u32>) -> Result<()> {
        let file = &binding.file;
        let granularity = file.inode().sb().block_size();
        let device = block_device_of(file);
        let punches = binding.flags & READ_ONLY == 0 && can_punch(file);
        disk.queue().update_limits(|limits| {
            if let Some(block_size) = block_size {
                *limits = Limits {
                    logical_block_size: block_size,
                    physical_block_size: block_size,
                    io_min: block_size,
                    ..*limits
                };
            }
            let most = if punches { u32::MAX >> SECTOR_SHIFT } else { 0 };
            limits.max_discard_sectors = most;
            limits.max_write_zeroes_sectors = most;
            limits.discard_granularity = if punches { granularity } else { 0 };
            limits.features.set(Features::WRITE_CACHE, binding.flags & READ_ONLY == 0);
            let rotational =
                device.as_ref().is_some_and(|device| device.limits().features.contains(Features::ROTATIONAL));
            limits.features.set(Features::ROTATIONAL, rotational);
        })
    }

    /// Lets the file go. Nobody has the disk open.
    fn clear(&self, disk: &Disk, binding: Binding) {
        disk.queue().freeze();
        self.set_backing(None);
        disk.queue().unfreeze();
        disk.set_capacity(0);
        disk.set_read_only(false);
        disk.set_scans_partitions(false);
        let _ = disk.queue().update_limits(|limits| {
            limits.logical_block_size = 512;
            limits.physical_block_size = 512;
            limits.io_min = 512;
        });
        disk.media_changed();
        drop(binding);
    }
}

/// How long a file is, in bytes: that of a disk if it is one.
pub(super) fn length_of(file: &File) -> u64 {
    match block_device_of(file) {
        Some(device) => device.bytes(),
        None => file.inode().size(),
    }
}

/// The device that a special file is open for.
pub(super) fn block_device_of(file: &File) -> Option<Arc<BlockDevice>> {
    file.private::<blkdev::BlockFile>().map(|file| file.device().clone())
}

fn can_punch(file: &File) -> bool {
    match block_device_of(file) {
        Some(device) => device.limits().max_write_zeroes_sectors != 0,
        None => file.file_type() == FileType::Regular,
    }
}

impl Binding {
    /// How many sectors the disk has.
    pub(super) fn sectors(&self) -> u64 {
        let length = length_of(&self.file).saturating_sub(self.offset);
        let limited = if self.size_limit > 0 { length.min(self.size_limit) } else { length };
        limited >> SECTOR_SHIFT
    }

    /// Whether the file can be read and written past its page cache, for blocks of this size.
    pub(super) fn can_be_direct(&self, block_size: u32) -> bool {
        let unit = match block_device_of(&self.file) {
            Some(device) => device.limits().logical_block_size,
            None if self.file.ops().supports_direct() => block_size,
            None => return false,
        };
        block_size >= unit && self.offset.is_multiple_of(u64::from(unit))
    }

    /// Whether it may not be written.
    pub(super) fn is_read_only(file: &File, access: Access) -> bool {
        !file.mode().contains(FileMode::WRITE) || !access.write
    }
}

const ATTRIBUTES: &[Attribute] = &[
    Attribute { group: "loop", name: "backing_file", writable: false },
    Attribute { group: "loop", name: "offset", writable: false },
    Attribute { group: "loop", name: "sizelimit", writable: false },
    Attribute { group: "loop", name: "autoclear", writable: false },
    Attribute { group: "loop", name: "partscan", writable: false },
    Attribute { group: "loop", name: "dio", writable: false },
];

impl DiskOps for Loop {
    fn open(&self, _: &Disk, _: Access) -> Result<()> {
        match *self.state.lock() {
            State::Unbound | State::Bound(_) => Ok(()),
            State::RunDown(_) | State::Retired => Err(Errno::ENXIO),
        }
    }

    fn release(&self, disk: &Disk, last: bool) -> After {
        if !last {
            return After::Nothing;
        }
        let binding = {
            let mut state = self.state.lock();
            match &*state {
                State::RunDown(_) => {}
                State::Bound(binding) if binding.flags & AUTOCLEAR != 0 => {}
                _ => return After::Nothing,
            }
            match core::mem::replace(&mut *state, State::Unbound) {
                State::Bound(binding) | State::RunDown(binding) => binding,
                _ => return After::Nothing,
            }
        };
        self.clear(disk, binding);
        After::DropPartitions
    }

    fn ioctl(&self, device: &Arc<BlockDevice>, call: &Call<'_>) -> Result<u64> {
        ioctl::ioctl(self, device, call)
    }

    fn has_attributes(&self) -> bool {
        matches!(*self.state.lock(), State::Bound(_))
    }

    fn attributes(&self) -> &'static [Attribute] {
        ATTRIBUTES
    }

    fn show(&self, _: &Disk, attribute: &Attribute, to: &mut dyn fmt::Write) -> Result<()> {
        let state = self.state.lock();
        let State::Bound(binding) = &*state else { return Err(Errno::EIO) };
        let flag = |flag: u32| u8::from(binding.flags & flag != 0);
        let written = match attribute.name {
            "backing_file" => {
                let path = vfs::path::d_path(binding.file.path(), None)?;
                to.write_str(core::str::from_utf8(&path).map_err(|_| Errno::EIO)?)
            }
            "offset" => write!(to, "{}", binding.offset),
            "sizelimit" => write!(to, "{}", binding.size_limit),
            "autoclear" => write!(to, "{}", flag(AUTOCLEAR)),
            "partscan" => write!(to, "{}", flag(PARTSCAN)),
            "dio" => write!(to, "{}", flag(DIRECT_IO)),
            _ => return Err(Errno::EIO),
        };
        written.map_err(|_| Errno::ENOMEM)
    }
}
