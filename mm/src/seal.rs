//! `mseal(2)`: areas that can neither be removed, moved, resized nor given other rights, for as long as the program runs.
//!
//! What would change an area asks [`check_unsealed`] before it changes anything.

use crate::mmap::{is_aligned, page_align};
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma, VmaTree};
use abi::raw::{MADV_DONTFORK, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE, MADV_REMOVE, MADV_WIPEONFORK};
use abi::{Errno, Result};
use core::ops::Range;

/// The flags that areas in `range` have; `EPERM` if one of them is sealed.
pub(crate) fn check_unsealed(areas: &VmaTree, range: Range<usize>) -> Result<VmFlags> {
    let flags = areas.overlapping(range).fold(VmFlags::empty(), |all, entry| all | entry.value.flags());
    if flags.contains(VmFlags::SEALED) { Err(Errno::EPERM) } else { Ok(flags) }
}

/// Whether `advice` would discard what a sealed area holds although the program could not overwrite it.
pub(crate) fn forbids_advice(vma: &Vma, advice: u32) -> bool {
    let discards = matches!(
        advice,
        MADV_FREE | MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_REMOVE | MADV_DONTFORK | MADV_WIPEONFORK
    );
    discards && vma.flags() & (VmFlags::SEALED | VmFlags::WRITE) == VmFlags::SEALED && vma.is_anonymous()
}

impl AddressSpace {
    /// `mseal(2)`. Nothing is sealed if a part of the range is not mapped.
    pub fn mseal(&self, addr: usize, len: usize) -> Result<()> {
        if !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == addr {
            return Ok(());
        }
        let mut areas = self.areas().write();
        let mut at = addr;
        while at < end {
            at = areas.get(at).ok_or(Errno::ENOMEM)?.end();
        }
        let mut at = addr;
        while at < end {
            let vma = areas.get(at).ok_or(Errno::ENOMEM)?.value.clone();
            let part = at..vma.end().min(end);
            at = part.end;
            self.change_flags(&mut areas, &vma, part, vma.flags() | VmFlags::SEALED)?;
        }
        self.merge_around(&mut areas, addr..end);
        Ok(())
    }
}
