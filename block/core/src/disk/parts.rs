//! Partitions of a disk: found, added, taken away.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use mm::try_format;

use crate::bio::SECTOR_SHIFT;
use crate::disk::device::{BlockDevice, Parts};
use crate::disk::gendisk::{Disk, Event};
use crate::disk::registry;
use crate::disk::stat::Stats;
use crate::partition::{self, Label, Medium, Partition};

impl Medium for BlockDevice {
    fn block_size(&self) -> u32 {
        // Not the one of the special file.
        self.limits().logical_block_size
    }

    fn blocks(&self) -> u64 {
        self.bytes() / u64::from(Medium::block_size(self))
    }

    fn read(&self, first: u64, to: &mut [u8]) -> Result<()> {
        let pos = first.checked_mul(u64::from(Medium::block_size(self))).ok_or(Errno::EIO)?;
        self.read_bytes(pos, to)
    }
}

impl Disk {
    /// Whether a partition is open. Under `opening`.
    pub(super) fn has_open_partitions(&self) -> bool {
        self.devices.read().iter().any(|(number, device)| *number != 0 && device.openers() > 0)
    }

    /// Looks for the partitions of a disk that has none open, and replaces those that are there. What cannot be read has none.
    pub(super) fn find_partitions(self: &Arc<Self>, whole: &Arc<BlockDevice>) {
        self.withdraw_partitions();
        if self.capacity() == 0 {
            return;
        }
        let found = match partition::scan(&**whole) {
            Ok(found) => found,
            Err(error) => return log::warn!("{}: unable to read partition table ({error:?})", self.name()),
        };
        for partition in &found {
            if let Err(error) = self.add_locked(partition) {
                log::warn!("{}: could not add partition {} ({error:?})", self.name(), partition.number);
            }
        }
        if !found.is_empty() {
            log::info!(" {}:{}", self.name(), Names(self));
        }
    }

    /// Takes all partitions away. Under `opening`.
    pub(super) fn withdraw_partitions(&self) {
        loop {
            let last =
                self.devices.read().iter().next_back().map(|(number, device)| (*number, device.clone()));
            match last {
                Some((number, device)) if number != 0 => self.withdraw_partition(number, &device),
                _ => return,
            }
        }
    }

    fn withdraw_partition(&self, number: u32, device: &Arc<BlockDevice>) {
        self.withdraw(device);
        let _ = self.queue().accounts().set_part(number, None);
    }

    /// Looks for partitions again (`BLKRRPART`).
    ///
    /// # Errors
    /// `EINVAL`: it has no partitions; `EBUSY`: one is open; `ENXIO`: it is gone.
    pub fn rescan(self: &Arc<Self>) -> Result<()> {
        if !self.scans_partitions() {
            return Err(Errno::EINVAL);
        }
        let _opening = self.opening.lock();
        let whole = self.live_whole()?;
        if self.has_open_partitions() {
            return Err(Errno::EBUSY);
        }
        whole.write_back();
        if let Some(mapping) = whole.mapping() {
            mapping.invalidate(0..u64::MAX);
        }
        self.scan_wanted.store(false, Ordering::Release);
        self.find_partitions(&whole);
        registry::changed(&whole, Event::Rescanned);
        Ok(())
    }

    fn live_whole(&self) -> Result<Arc<BlockDevice>> {
        self.whole().filter(|_| self.is_live()).ok_or(Errno::ENXIO)
    }

    /// Whether any partition but `but` has sectors of these.
    fn overlaps(&self, start: u64, sectors: u64, but: u32) -> bool {
        let end = start.saturating_add(sectors);
        self.devices.read().iter().any(|(number, device)| {
            *number != 0
                && *number != but
                && device.start() < end
                && start < device.start().saturating_add(device.sectors())
        })
    }

    /// Adds a partition that is in no table (`BLKPG_ADD_PARTITION`); in sectors.
    ///
    /// # Errors
    /// `EINVAL`: it is not in the disk, has an impossible number, or there can be none; `EBUSY`: it overlaps another or its number is taken;
    /// `ENXIO`: the disk is gone; `ENOMEM`.
    pub fn add_partition(self: &Arc<Self>, number: u32, start: u64, sectors: u64) -> Result<()> {
        let _opening = self.opening.lock();
        self.live_whole()?;
        if !self.has_partitions() {
            return Err(Errno::EINVAL);
        }
        let end = start.checked_add(sectors).ok_or(Errno::EINVAL)?;
        if sectors == 0 || end > self.capacity() {
            return Err(Errno::EINVAL);
        }
        if self.overlaps(start, sectors, 0) {
            return Err(Errno::EBUSY);
        }
        self.add_locked(&Partition { number, start, sectors, uuid: Label::EMPTY, label: Label::EMPTY })
    }

    fn add_locked(self: &Arc<Self>, partition: &Partition) -> Result<()> {
        let Partition { number, start, sectors, uuid, label } = *partition;
        if number == 0 || number >= self.extended_range() {
            return Err(Errno::EINVAL);
        }
        if self.partition(number).is_some() {
            return Err(Errno::EBUSY);
        }
        let stats = Stats::new()?;
        let between = if self.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        let parts = Parts {
            id: self.number_of(number)?,
            name: try_format(format_args!("{}{between}{number}", self.name))?,
            number,
            start,
            sectors,
            stats: stats.clone(),
            uuid,
            label,
        };
        let device = BlockDevice::new(self.clone(), parts)?;
        self.queue().accounts().set_part(number, Some(stats))?;
        self.publish(&device)?;
        registry::added(&device);
        Ok(())
    }

    /// Takes a partition away (`BLKPG_DEL_PARTITION`).
    ///
    /// # Errors
    /// `ENXIO`: there is none of that number; `EBUSY`: it is open.
    pub fn remove_partition(&self, number: u32) -> Result<()> {
        let _opening = self.opening.lock();
        let device = self.partition(number).filter(|_| number != 0).ok_or(Errno::ENXIO)?;
        if device.openers() > 0 {
            return Err(Errno::EBUSY);
        }
        self.withdraw_partition(number, &device);
        Ok(())
    }

    /// Changes the length of a partition (`BLKPG_RESIZE_PARTITION`); `start` is where it must begin.
    ///
    /// # Errors
    /// `ENXIO`: there is none; `EINVAL`: it begins elsewhere, or would end beyond the disk; `EBUSY`: it would overlap another.
    pub fn resize_partition(&self, number: u32, start: u64, sectors: u64) -> Result<()> {
        let _opening = self.opening.lock();
        let device = self.partition(number).filter(|_| number != 0).ok_or(Errno::ENXIO)?;
        let end = start.checked_add(sectors).ok_or(Errno::EINVAL)?;
        if start != device.start() || sectors == 0 || end > self.capacity() || end >> (63 - SECTOR_SHIFT) != 0
        {
            return Err(Errno::EINVAL);
        }
        if self.overlaps(start, sectors, number) {
            return Err(Errno::EBUSY);
        }
        device.set_sectors(sectors);
        registry::changed(&device, Event::Resized);
        Ok(())
    }
}

/// The names of a disk's partitions, as the log has them.
struct Names<'a>(&'a Disk);

impl core::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for number in 1..self.0.extended_range() {
            if let Some(device) = self.0.partition(number) {
                write!(f, " {}", device.name())?;
            }
        }
        Ok(())
    }
}
