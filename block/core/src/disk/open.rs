//! Who has a device open, and who has it for itself.
//!
//! A mount, or an open(2) with `O_EXCL`, *claims* a device: nobody else can, nor its disk if it is a partition, nor its partitions if it is a
//! disk. Other opens go on.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use mm::fallible::TryVec;

use crate::disk::device::BlockDevice;
use crate::disk::gendisk::After;

/// What a device is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// To be read.
    pub read: bool,
    /// To be written.
    pub write: bool,
}

/// Somebody who claims devices. Who claims one twice is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderId(u64);

impl HolderId {
    /// One that there was not before.
    #[expect(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What one who claims a device wants to know: a file system.
pub trait Holder: Send + Sync {
    /// The device is gone: nothing can be read or written any more. May sleep.
    fn device_gone(&self, device: &BlockDevice);
}

/// A claim that is wanted.
#[derive(Clone)]
pub struct Claim {
    /// For whom.
    pub id: HolderId,
    /// Who wants to be told.
    pub holder: Option<Weak<dyn Holder>>,
}

impl Claim {
    /// A claim of nobody who wants to be told.
    pub fn new(id: HolderId) -> Self {
        Self { id, holder: None }
    }
}

/// Who claims a device.
#[derive(Default)]
pub(crate) struct Claims {
    by: Option<HolderId>,
    count: u32,
    /// Claims of partitions, for a whole disk.
    parts: u32,
    holders: Vec<(HolderId, Weak<dyn Holder>)>,
}

/// A device that is open. Closes it when dropped, in task context: may sleep.
pub struct Opened {
    device: Arc<BlockDevice>,
    claim: Option<HolderId>,
}

impl Opened {
    /// The device.
    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    /// Whether it was claimed.
    pub fn is_exclusive(&self) -> bool {
        self.claim.is_some()
    }
}

impl Deref for Opened {
    type Target = Arc<BlockDevice>;

    fn deref(&self) -> &Arc<BlockDevice> {
        &self.device
    }
}

impl BlockDevice {
    /// Opens the device. May sleep.
    ///
    /// # Errors
    /// `ENXIO`: it is gone; `EBUSY`: somebody else has claimed it; those of the driver.
    pub fn open(self: &Arc<Self>, access: Access, claim: Option<Claim>) -> Result<Opened> {
        let disk = &self.disk;
        let _opening = disk.opening.lock();
        let whole = disk.whole().filter(|_| disk.is_live()).ok_or(Errno::ENXIO)?;
        if let Some(claim) = &claim {
            self.may_claim(&whole, claim.id)?;
        }
        disk.ops.open(disk, access)?;
        let opened = self.open_locked(&whole, claim);
        if opened.is_err() {
            let _ = disk.ops.release(disk, whole.openers() == 0);
        }
        opened
    }

    fn open_locked(self: &Arc<Self>, whole: &Arc<Self>, claim: Option<Claim>) -> Result<Opened> {
        let disk = &self.disk;
        if disk.scan_wanted.swap(false, Ordering::AcqRel)
            && disk.scans_partitions()
            && !disk.has_open_partitions()
        {
            disk.find_partitions(whole);
        }
        // It may have been one that is not there any more.
        let still = disk.partition(self.partition().unwrap_or(0));
        if still.is_none_or(|still| !Arc::ptr_eq(&still, self))
            || self.partition().is_some() && self.sectors() == 0
        {
            return Err(Errno::ENXIO);
        }
        if let Some(claim) = &claim {
            if let Some(holder) = &claim.holder {
                self.claims.lock().holders.try_push((claim.id, holder.clone()))?;
            }
            let mut claims = self.claims.lock();
            claims.by = Some(claim.id);
            claims.count += 1;
            drop(claims);
            if self.partition().is_some() {
                whole.claims.lock().parts += 1;
            }
        }
        if self.openers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.set_first_block_size();
        }
        if self.partition().is_some() {
            whole.openers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Opened { device: self.clone(), claim: claim.map(|claim| claim.id) })
    }

    /// Whether `who` could claim the device.
    fn may_claim(&self, whole: &Self, who: HolderId) -> Result<()> {
        let claims = self.claims.lock();
        let mine = match claims.by {
            Some(by) if by == who => return Ok(()),
            by => by.is_none() && claims.parts == 0,
        };
        drop(claims);
        let all = self.partition().is_none() || whole.claims.lock().by.is_none();
        if mine && all { Ok(()) } else { Err(Errno::EBUSY) }
    }

    /// Claims a device that is open already (`BLKBSZSET`, loop devices), for as long as the result lives.
    ///
    /// # Errors
    /// `EBUSY`; `ENXIO`.
    pub fn claim(self: &Arc<Self>, claim: Claim) -> Result<Opened> {
        self.open(Access::default(), Some(claim))
    }

    /// Who has claimed it.
    pub fn claimed_by(&self) -> Option<HolderId> {
        self.claims.lock().by
    }

    /// Tells those who have claimed it that it is gone.
    pub(super) fn tell_holders(&self) {
        let holders = core::mem::take(&mut self.claims.lock().holders);
        for (_, holder) in holders {
            if let Some(holder) = holder.upgrade() {
                holder.device_gone(self);
            }
        }
    }

    /// Writes what its special file has in the page cache.
    pub(super) fn write_back(&self) {
        if let Some(mapping) = self.mapping()
            && let Err(error) = mapping.write_back(0..u64::MAX)
        {
            log::warn!("{}: write-back failed: {error:?}", self.name());
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let device = &self.device;
        let disk = &device.disk;
        // Not under the lock: it may take a while. Somebody may come meanwhile.
        if device.openers() == 1 {
            device.write_back();
        }
        let opening = disk.opening.lock();
        let whole = disk.whole();
        if let Some(claim) = self.claim {
            let mut claims = device.claims.lock();
            claims.count = claims.count.saturating_sub(1);
            let at = claims.holders.iter().position(|(id, _)| *id == claim);
            let held = at.map(|at| claims.holders.swap_remove(at));
            if claims.count == 0 {
                claims.by = None;
            }
            drop(claims);
            drop(held);
            if device.partition().is_some()
                && let Some(whole) = &whole
            {
                let mut claims = whole.claims.lock();
                claims.parts = claims.parts.saturating_sub(1);
            }
        }
        let last_here = device.openers.fetch_sub(1, Ordering::Relaxed) == 1;
        if last_here && let Some(mapping) = device.mapping() {
            // What is dirty still came since; nobody is there any more who could be told of failures.
            device.write_back();
            mapping.truncate(0);
            mapping.set_size(device.bytes());
        }
        let mut last = last_here;
        if device.partition().is_some()
            && let Some(whole) = &whole
        {
            last = whole.openers.fetch_sub(1, Ordering::Relaxed) == 1;
        }
        if disk.ops.release(disk, last) == After::DropPartitions {
            disk.withdraw_partitions();
        }
        drop(opening);
    }
}
