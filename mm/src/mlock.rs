//! `mlock(2)`, `mlock2(2)`, `munlock(2)`, `mlockall(2)`, `munlockall(2)`.
//!
//! A lock is a flag of the area; pages of locked areas are brought in at once (unless
//! `MLOCK_ONFAULT`) and never reclaimed, because reclaim passes over pages that a locked area maps.

use crate::mmap::page_align;
use crate::space::{AddressSpace, Limits};
use crate::vma::VmFlags;
use abi::raw::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT};
use abi::{Errno, Result};
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::layout::TASK_SIZE;
use core::ops::Range;

const LOCK_BITS: VmFlags = VmFlags::LOCKED.union(VmFlags::LOCKONFAULT);

fn lockable(flags: VmFlags) -> bool {
    !flags.intersects(VmFlags::IO | VmFlags::PFNMAP | VmFlags::HUGETLB | VmFlags::SPECIAL)
}

impl AddressSpace {
    /// `mlock2(2)`; `mlock(2)` with `flags` 0.
    pub fn mlock(&self, addr: usize, len: usize, flags: u32, limits: &Limits) -> Result<()> {
        if flags & !MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        if limits.memlock == 0 && !limits.can_lock {
            return Err(Errno::EPERM);
        }
        let range = lock_range(addr, len)?;
        let bits = if flags & MLOCK_ONFAULT != 0 { LOCK_BITS } else { VmFlags::LOCKED };
        {
            let areas = self.areas().read();
            let mut bytes = (self.counters().locked_vm() << PAGE_SHIFT).saturating_add(range.len());
            if bytes > limits.memlock && !limits.can_lock {
                // What is locked already does not count twice.
                let again: usize = areas
                    .overlapping(range.clone())
                    .filter(|e| e.value.flags().contains(VmFlags::LOCKED))
                    .map(|e| e.end().min(range.end) - e.start().max(range.start))
                    .sum();
                bytes = bytes.saturating_sub(again);
            }
            if bytes > limits.memlock && !limits.can_lock {
                return Err(Errno::ENOMEM);
            }
        }
        self.apply_lock(range.clone(), bits)?;
        if bits == VmFlags::LOCKED {
            self.populate(range).map_err(|error| match error {
                // What cannot be touched cannot be locked, mlock(2).
                Errno::EFAULT => Errno::ENOMEM,
                Errno::ENOMEM => Errno::EAGAIN,
                other => other,
            })?;
        }
        Ok(())
    }

    /// `munlock(2)`.
    pub fn munlock(&self, addr: usize, len: usize) -> Result<()> {
        self.apply_lock(lock_range(addr, len)?, VmFlags::empty())
    }

    fn apply_lock(&self, range: Range<usize>, bits: VmFlags) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut areas = self.areas().write();
        let mut at = range.start;
        let mut result = Ok(());
        while at < range.end {
            let Some(vma) = areas.get(at).map(|e| e.value.clone()) else {
                result = Err(Errno::ENOMEM);
                break;
            };
            let part = at..vma.end().min(range.end);
            at = part.end;
            let old = vma.flags();
            if !lockable(old) || vma.is_secret() {
                continue;
            }
            if let Err(error) = self.change_flags(&mut areas, &vma, part, (old - LOCK_BITS) | bits) {
                result = Err(error);
                break;
            }
        }
        self.merge_around(&mut areas, range);
        result
    }

    /// `mlockall(2)`.
    pub fn mlockall(&self, flags: u32, limits: &Limits) -> Result<()> {
        if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if limits.memlock == 0 && !limits.can_lock {
            return Err(Errno::EPERM);
        }
        let current = flags & MCL_CURRENT != 0;
        if current && !limits.can_lock && self.counters().total_vm() << PAGE_SHIFT > limits.memlock {
            return Err(Errno::ENOMEM);
        }
        let bits = if flags & MCL_ONFAULT != 0 { LOCK_BITS } else { VmFlags::LOCKED };
        self.set_def_flags(if flags & MCL_FUTURE != 0 { bits } else { VmFlags::empty() });
        if current {
            self.lock_everything(bits);
            if bits == VmFlags::LOCKED {
                let _ = self.populate_locked(0..TASK_SIZE);
            }
        }
        Ok(())
    }

    /// `munlockall(2)`.
    pub fn munlockall(&self) -> Result<()> {
        self.set_def_flags(VmFlags::empty());
        self.lock_everything(VmFlags::empty());
        Ok(())
    }

    fn lock_everything(&self, bits: VmFlags) {
        let mut areas = self.areas().write();
        let mut at = 0;
        while let Some(vma) = areas.first_ending_after(at).map(|e| e.value.clone()) {
            at = vma.end();
            let old = vma.flags();
            if lockable(old) && !vma.is_secret() {
                let _ = self.change_flags(&mut areas, &vma, vma.range(), (old - LOCK_BITS) | bits);
            }
        }
        self.merge_around(&mut areas, 0..TASK_SIZE);
    }
}

/// The pages that `len` bytes at `addr` touch.
fn lock_range(addr: usize, len: usize) -> Result<Range<usize>> {
    let len = len.checked_add(addr & (PAGE_SIZE - 1)).and_then(page_align).ok_or(Errno::EINVAL)?;
    let start = addr & !(PAGE_SIZE - 1);
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}
