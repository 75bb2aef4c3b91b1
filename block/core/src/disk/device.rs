//! A device that has sectors: a disk or one of its partitions.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::fs::DevId;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use collections::fifo::Chained;
use mm::filemap::Mapping;
use sync::Once;

use crate::bio::{Bio, Op, SECTOR_SHIFT, Status};
use crate::disk::gendisk::Disk;
use crate::disk::open::Claims;
use crate::disk::registry::Number;
use crate::disk::stat::Stats;
use crate::limits::Limits;
use crate::partition::Label;
use crate::plug::Plug;
use crate::queue::Queue;

/// A whole disk or a partition. See the [module](crate::disk).
pub struct BlockDevice {
    pub(super) disk: Arc<Disk>,
    queue: Arc<Queue>,
    id: Number,
    name: String,
    /// 0: the whole.
    number: u32,
    /// Its first sector on the disk.
    start: u64,
    sectors: AtomicU64,
    read_only: AtomicBool,
    warned: AtomicBool,
    stats: Arc<Stats>,
    uuid: Label<36>,
    label: Label<108>,
    /// How often it is open. Changed under the disk's `opening`.
    pub(super) openers: AtomicU32,
    pub(super) claims: SpinLock<Claims>,
    /// Of the page cache of the special file, in bytes.
    soft_block_size: AtomicU32,
    mapping: Once<Arc<Mapping>>,
}

/// What a device is made of.
pub(super) struct Parts {
    pub(super) id: Number,
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) sectors: u64,
    pub(super) stats: Arc<Stats>,
    pub(super) uuid: Label<36>,
    pub(super) label: Label<108>,
}

impl BlockDevice {
    pub(super) fn new(disk: Arc<Disk>, parts: Parts) -> Result<Arc<Self>> {
        let Parts { id, name, number, start, sectors, stats, uuid, label } = parts;
        Ok(mm::try_arc(Self {
            queue: disk.queue().clone(),
            disk,
            id,
            name,
            number,
            start,
            sectors: AtomicU64::new(sectors),
            read_only: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            stats,
            uuid,
            label,
            openers: AtomicU32::new(0),
            claims: SpinLock::new(Claims::default()),
            soft_block_size: AtomicU32::new(PAGE_SIZE as u32),
            mapping: Once::new(),
        })?)
    }

    /// Its number.
    pub fn dev(&self) -> DevId {
        self.id.dev()
    }

    /// Its name below `/dev`, such as `vda1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk that it is, or is part of.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The disk's queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Which partition it is, from 1; `None`: the whole disk.
    pub fn partition(&self) -> Option<u32> {
        (self.number != 0).then_some(self.number)
    }

    /// Its first sector on the disk.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Its length in sectors of 512 bytes.
    #[inline]
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// Its length in bytes.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.sectors() << SECTOR_SHIFT
    }

    pub(super) fn set_sectors(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Release);
        if let Some(mapping) = self.mapping.get() {
            mapping.set_size(sectors << SECTOR_SHIFT);
        }
    }

    /// Whether it may not be written: the device cannot, or somebody does not want it.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed) || self.disk.is_read_only()
    }

    /// Says whether this device may be written (`BLKROSET`). That of a disk is no matter of its partitions.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
        self.warned.store(false, Ordering::Relaxed);
    }

    /// What the disk can do. Those of a plain disk if there is none any more.
    pub fn limits(&self) -> Limits {
        self.queue.limits().unwrap_or_default()
    }

    /// What was transferred.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// `PARTUUID`; empty if it has none.
    pub fn uuid(&self) -> &str {
        self.uuid.as_str()
    }

    /// `PARTLABEL`; empty if it has none.
    pub fn label(&self) -> &str {
        self.label.as_str()
    }

    /// How far its first sector is from a good place, in bytes.
    pub fn alignment_offset(&self) -> u64 {
        let granularity = u64::from(self.limits().physical_block_size);
        let past = (self.start << SECTOR_SHIFT) % granularity.max(1);
        if past == 0 { 0 } else { granularity - past }
    }

    /// How often it is open.
    pub fn openers(&self) -> u32 {
        self.openers.load(Ordering::Relaxed)
    }

    /// The block size that its special file works with, in bytes (`BLKBSZGET`).
    pub fn block_size(&self) -> u32 {
        self.soft_block_size.load(Ordering::Relaxed)
    }

    /// Changes it.
    ///
    /// # Errors
    /// `EINVAL`: no power of two from the device's block size to a page.
    pub fn set_block_size(&self, size: u32) -> Result<()> {
        let fits = (self.limits().logical_block_size..=PAGE_SIZE as u32).contains(&size);
        if !fits || !size.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        self.soft_block_size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// The largest block of which the device is a multiple, up to a page.
    pub(super) fn set_first_block_size(&self) {
        let mut size = self.limits().logical_block_size;
        while (size as usize) < PAGE_SIZE && self.bytes() & u64::from(size) == 0 {
            size <<= 1;
        }
        self.soft_block_size.store(size, Ordering::Relaxed);
    }

    /// The page cache of the special file, if there is one.
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.get()
    }

    /// The page cache of the special file. The first call makes it. What it is made of may not hold the device.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn mapping_or_init(&self, make: impl FnOnce() -> Result<Arc<Mapping>>) -> Result<&Arc<Mapping>> {
        if let Some(mapping) = self.mapping.get() {
            return Ok(mapping);
        }
        let made = make()?;
        Ok(self.mapping.call_once(|| made))
    }

    /// Gives `bio`, whose sectors count from the beginning of this device, to the disk. It comes back to its [`crate::EndIo`] in any case; what
    /// is beyond the end with [`Status::IoError`]. Task context; may sleep unless the bio says otherwise. With a plug it may stay there until
    /// the plug is flushed.
    pub fn submit(&self, mut bio: Chained<Bio>, plug: Option<&mut Plug>) {
        let (sectors, all) = (bio.sectors(), self.sectors());
        if sectors != 0 && bio.sector.checked_add(sectors).is_none_or(|end| end > all) {
            log::debug!("{}: beyond the end: {bio:?}, {all} sectors", self.name);
            return Bio::finish(bio, Status::IoError);
        }
        if sectors != 0
            && bio.op.is_write()
            && self.is_read_only()
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            // As Linux does: who has it open for writing goes on.
            log::warn!("Trying to write to read-only block-device {}", self.name);
        }
        if bio.op != Op::Flush {
            bio.sector = bio.sector.saturating_add(self.start);
        }
        bio.part = self.number as u16;
        self.queue.submit(bio, plug);
    }
}

impl fmt::Debug for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, start, .. } = self;
        let dev = self.dev();
        write!(f, "BlockDevice({name} {}:{} {start}+{})", dev.major, dev.minor, self.sectors())
    }
}
