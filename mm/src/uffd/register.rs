//! Registering areas with a context, and taking them from it.

use super::Context;
use super::guard::clear_protection;
use crate::mmap::is_aligned;
use crate::space::{AddressSpace, mmap_min_addr};
use crate::vma::{Backing, VmFlags, Vma, VmaTree};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SHIFT;
use arch::layout::TASK_SIZE;
use core::ops::Range;

/// A range of whole pages that an `ioctl(2)` names.
///
/// # Errors
/// `EINVAL`: not of whole pages, empty, or outside of what users can map.
pub fn check_range(start: u64, len: u64) -> Result<Range<usize>> {
    let range = check_source(start, len)?;
    let outside = range.start < mmap_min_addr() || range.end > TASK_SIZE;
    if range.is_empty() || !is_aligned(range.start) || !is_aligned(range.end) || outside {
        return Err(Errno::EINVAL);
    }
    Ok(range)
}

/// The source of a copy, which may begin anywhere; whether it can be read turns out later.
///
/// # Errors
/// `EINVAL`: it reaches beyond the last address.
pub fn check_source(start: u64, len: u64) -> Result<Range<usize>> {
    let start = usize::try_from(start).map_err(|_| Errno::EINVAL)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}

/// Whether faults on the area can be put to a context for what `flags` says.
fn can_register(vma: &Vma, flags: VmFlags, wp_async: bool) -> bool {
    let flags = flags & VmFlags::UFFD;
    if vma.flags().contains(VmFlags::DROPPABLE) {
        return false;
    }
    let (anonymous, memory) = match vma.backing() {
        Backing::Anonymous => (true, false),
        Backing::File(_, Some(mapping)) if mapping.is_secret() => return false,
        Backing::File(_, Some(mapping)) => (false, mapping.is_memory()),
        _ => (false, false),
    };
    if flags.contains(VmFlags::UFFD_MINOR) && !memory {
        return false;
    }
    // Protection that nobody waits for works for any pages.
    wp_async && flags == VmFlags::UFFD_WP || anonymous || memory
}

impl Context {
    /// `UFFDIO_REGISTER`: from now on the context is asked about `range` for what `flags` (of [`VmFlags::UFFD`]) says.
    ///
    /// # Errors
    /// `EINVAL`: nothing is mapped there, or something of the wrong kind. `EPERM`: something that may not be written. `EBUSY`: another
    /// context has it. `ENOMEM`, also for a process that has ended.
    pub fn register(self: &Arc<Self>, range: Range<usize>, flags: VmFlags) -> Result<()> {
        let space = self.space().map_err(|_| Errno::ENOMEM)?;
        let mut areas = space.areas().write();
        let mut found = false;
        for entry in areas.overlapping(range.clone()) {
            let vma = &entry.value;
            found = true;
            if !can_register(vma, flags, self.is_wp_async()) {
                return Err(Errno::EINVAL);
            }
            if !vma.flags().contains(VmFlags::MAYWRITE) {
                return Err(Errno::EPERM);
            }
            if vma.uffd().is_some_and(|other| !Arc::ptr_eq(&other, self)) {
                return Err(Errno::EBUSY);
            }
        }
        if !found {
            return Err(Errno::EINVAL);
        }
        let mut at = range.start;
        let mut result = Ok(());
        while let Some(vma) = next_area(&areas, at, range.end) {
            let part = vma.start().max(at)..vma.end().min(range.end);
            at = part.end;
            let old = vma.flags();
            if vma.uffd().is_some() && old.contains(flags) {
                continue;
            }
            result = space.set_userfaultfd(&mut areas, &vma, part, flags, Some(self));
            if result.is_err() {
                break;
            }
        }
        space.merge_around(&mut areas, range);
        result
    }

    /// `UFFDIO_UNREGISTER`: nobody is asked about `range` any more; faults there that wait are tried again.
    ///
    /// # Errors
    /// `EINVAL`: nothing is mapped there, or something that cannot be registered. `ENOMEM`, also for a process that has ended.
    pub fn unregister(&self, range: Range<usize>) -> Result<()> {
        let space = self.space().map_err(|_| Errno::ENOMEM)?;
        let mut areas = space.areas().write();
        let mut found = false;
        for entry in areas.overlapping(range.clone()) {
            found = true;
            if !can_register(&entry.value, entry.value.flags(), self.is_wp_async()) {
                return Err(Errno::EINVAL);
            }
        }
        if !found {
            return Err(Errno::EINVAL);
        }
        let mut at = range.start;
        let mut result = Ok(());
        while let Some(vma) = next_area(&areas, at, range.end) {
            let part = vma.start().max(at)..vma.end().min(range.end);
            at = part.end;
            let Some(context) = vma.uffd() else { continue };
            if vma.flags().contains(VmFlags::UFFD_MISSING) {
                context.wake(part.clone());
            }
            result = space.set_userfaultfd(&mut areas, &vma, part, VmFlags::empty(), None);
            if result.is_err() {
                break;
            }
        }
        space.merge_around(&mut areas, range);
        result
    }

    /// The descriptor is closed: all areas are left alone from now on, and whoever waits goes on.
    pub fn release(&self) {
        self.state.lock().released = true;
        if let Ok(space) = self.space() {
            let mut areas = space.areas().write();
            let mut at = 0;
            while let Some(vma) = next_area(&areas, at, TASK_SIZE) {
                at = vma.end();
                if vma.uffd().is_some_and(|context| core::ptr::eq(Arc::as_ptr(&context), self)) {
                    // Whole areas: nothing is split, so nothing can fail.
                    let _ = space.set_userfaultfd(&mut areas, &vma, vma.range(), VmFlags::empty(), None);
                }
            }
            space.merge_around(&mut areas, 0..TASK_SIZE);
        }
        loop {
            let next = {
                let mut state = self.state.lock();
                state.pending.pop().or_else(|| state.taken.pop())
            };
            match next {
                Some(wait) => wait.answer(),
                None => break,
            }
        }
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.events.pop();
                next.inspect(|event| event.give_up())
            };
            match next {
                Some(event) => event.wake(),
                None => break,
            }
        }
    }
}

fn next_area(areas: &VmaTree, at: usize, end: usize) -> Option<Arc<Vma>> {
    if at >= end {
        return None;
    }
    areas.first_ending_after(at).filter(|entry| entry.start() < end).map(|entry| entry.value.clone())
}

impl AddressSpace {
    /// Makes `context` the one that is asked about `part` of `vma` for `flags`; with none, protections end as well.
    fn set_userfaultfd(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        part: Range<usize>,
        flags: VmFlags,
        context: Option<&Arc<Context>>,
    ) -> Result<()> {
        let pages = (part.end - part.start) >> PAGE_SHIFT;
        let vma = self.isolate(areas, vma, part.clone())?;
        let _write = vma.write();
        let old = vma.flags();
        let new = (old - VmFlags::UFFD) | flags;
        if old.contains(VmFlags::UFFD_WP) && !new.contains(VmFlags::UFFD_WP) {
            clear_protection(self, part);
        }
        vma.set_flags(new);
        vma.set_uffd(context.cloned());
        self.counters().change_area(old, new, pages as isize);
        Ok(())
    }
}
