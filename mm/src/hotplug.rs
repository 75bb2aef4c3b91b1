//! Memory blocks: taking 128 MiB of memory out of use while the system runs, and using it again
//! (`Documentation/admin-guide/mm/memory-hotplug.rst`, `/sys/devices/system/memory`).
//!
//! A block goes offline in these steps: its page blocks are *isolated*, so that what is freed in them stays free; the lists of the
//! CPUs are drained; user pages move elsewhere; and when all of it is free it leaves the buddy allocator. Memory that the kernel
//! uses cannot move: the block stays then (`EBUSY`). That includes the page descriptors of a section of memory, which lie at its
//! end.
//!
//! Moving user pages needs the address spaces that map them, which mm does not know: the caller of [`offline`] brings them.
//!
//! Locks: one change at a time ([`CHANGE`], a mutex); below it those of migration, and the zone's.

use crate::fallible::TryVec;
use crate::folio::Folio;
use crate::folio_lock;
use crate::frames;
use crate::gfp::{MAX_PAGE_ORDER, MigrateType};
use crate::migrate;
use crate::page::{Page, PageFlags, PageType, tag};
use crate::pageblock::{PAGEBLOCK_PAGES, ZoneId};
use crate::zone::Zone;
use crate::{node, page_alloc, vmemmap, zone_setup};
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::{PAGE_SIZE, Pfn};
use core::ops::Range;
use sched::mutex::Mutex;

/// Bytes of a memory block, the unit of `/sys/devices/system/memory`.
pub const BLOCK_BYTES: u64 = 128 << 20;
const BLOCK_PAGES: u32 = (BLOCK_BYTES / PAGE_SIZE as u64) as u32;
/// Frames of the largest buddy block, which isolation works with.
const UNIT: u32 = 1 << MAX_PAGE_ORDER;
/// How often migration is tried without any page becoming free.
const PATIENCE: u32 = 8;

/// One block at a time goes or comes.
static CHANGE: Mutex<()> = Mutex::new(());

/// What a memory block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its memory is used.
    Online,
    /// It is not.
    Offline,
}

fn frames_of(index: u64) -> Option<Range<u32>> {
    let start = u32::try_from(index.checked_mul(u64::from(BLOCK_PAGES))?).ok()?;
    let end = start.checked_add(BLOCK_PAGES)?;
    (start < vmemmap::end()).then_some(start..end.min(vmemmap::end()))
}

fn page_blocks(range: &Range<u32>) -> impl Iterator<Item = u32> + use<> {
    range.clone().step_by(PAGEBLOCK_PAGES as usize)
}

/// The state of a block; `None` if there is no memory.
pub fn state(index: u64) -> Option<State> {
    let range = frames_of(index)?;
    if page_blocks(&range).any(|pfn| vmemmap::block(pfn).is_present()) {
        return Some(State::Online);
    }
    page_blocks(&range).any(|pfn| vmemmap::block(pfn).is_offline()).then_some(State::Offline)
}

/// The zone that the whole block is in (or was, if it is offline).
pub fn zone_of_block(index: u64) -> Option<ZoneId> {
    let range = frames_of(index)?;
    let usable = |pfn: &u32| vmemmap::block(*pfn).is_present() || vmemmap::block(*pfn).is_offline();
    let first = page_blocks(&range).find(usable)?;
    let zone = vmemmap::block(first).zone();
    page_blocks(&range).filter(usable).all(|pfn| vmemmap::block(pfn).zone() == zone).then_some(zone)
}

/// Puts a block offline. `movers` is called, perhaps several times, to have every address space move what it has in a range of frames
/// ([`crate::AddressSpace::move_out_of`]).
///
/// # Errors
/// `EINVAL`: there is no such block, it has holes, lies in two zones, or is offline already; `EBUSY`: memory in it cannot be moved; `EINTR`; `ENOMEM`.
pub fn offline(index: u64, movers: &mut dyn FnMut(&Range<u32>)) -> Result<()> {
    let _change = CHANGE.lock();
    let range = frames_of(index).filter(|range| range.len() == BLOCK_PAGES as usize).ok_or(Errno::EINVAL)?;
    if !page_blocks(&range).all(|pfn| vmemmap::block(pfn).is_present()) {
        return Err(Errno::EINVAL);
    }
    let zone = zone_of_block(index).and_then(node::zone).ok_or(Errno::EINVAL)?;
    while zone.is_deferred(range.start, range.end) {
        if !zone.grow() {
            return Err(Errno::EBUSY);
        }
    }
    if !page_blocks(&range).all(|pfn| vmemmap::block(pfn).is_populated()) || has_unmovable(&range) {
        return Err(Errno::EBUSY);
    }
    let isolated = Isolated::new(zone, range.clone())?;
    let mut misses = 0;
    let mut before = u32::MAX;
    loop {
        page_alloc::drain_all();
        if zone.take_isolated(range.start, range.end) {
            break;
        }
        let left = move_cached(&range);
        movers(&range);
        misses = if left < before { 0 } else { misses + 1 };
        before = left.min(before);
        if has_unmovable(&range) {
            return Err(Errno::EBUSY);
        }
        if misses == PATIENCE {
            log::info!("memory block {index}: {left} pages cannot be moved");
            return Err(Errno::EBUSY);
        }
        if sched::current().has_fatal_signal() {
            return Err(Errno::EINTR);
        }
        sched::cond_resched();
    }
    for pfn in range.clone() {
        vmemmap::page(pfn).set_type(PageType::Offline, 0);
    }
    isolated.keep();
    for pfn in page_blocks(&range) {
        vmemmap::block(pfn).set_online(false);
    }
    zone.remove_pages(range.len());
    zone_setup::setup_watermarks();
    log::info!("Offlined Pages {}", range.len());
    Ok(())
}

/// Uses a block again that is offline.
///
/// # Errors
/// `EINVAL`: it is not.
pub fn online(index: u64) -> Result<()> {
    let _change = CHANGE.lock();
    if state(index) != Some(State::Offline) {
        return Err(Errno::EINVAL);
    }
    let range = frames_of(index).ok_or(Errno::EINVAL)?;
    let zone = zone_of_block(index).and_then(node::zone).ok_or(Errno::EINVAL)?;
    for pfn in range.clone() {
        vmemmap::page(pfn).clear_type();
    }
    for pfn in page_blocks(&range) {
        vmemmap::block(pfn).set_migrate_type(MigrateType::Movable);
        vmemmap::block(pfn).set_online(true);
    }
    zone.release(range.start, range.end);
    zone.add_pages(range.len());
    zone_setup::setup_watermarks();
    Ok(())
}

/// Page blocks that nobody gets memory from. Dropping it makes them what they were.
struct Isolated {
    zone: &'static Zone,
    range: Range<u32>,
    /// The groups the page blocks had.
    types: Vec<MigrateType>,
}

impl Isolated {
    fn new(zone: &'static Zone, range: Range<u32>) -> Result<Self> {
        let mut types = Vec::new();
        types.try_reserve(range.len() / PAGEBLOCK_PAGES as usize).map_err(|_| Errno::ENOMEM)?;
        for pfn in page_blocks(&range) {
            types.push_reserved(vmemmap::block(pfn).migrate_type());
        }
        for first in range.clone().step_by(UNIT as usize) {
            zone.retype(first, [MigrateType::Isolate; 2]);
        }
        Ok(Self { zone, range, types })
    }

    /// The memory is gone: there is nothing to give back.
    fn keep(self) {
        let mut this = core::mem::ManuallyDrop::new(self);
        drop(core::mem::take(&mut this.types));
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        for (first, types) in self.range.clone().step_by(UNIT as usize).zip(self.types.chunks_exact(2)) {
            if let [low, high] = *types {
                self.zone.retype(first, [low, high]);
            }
        }
    }
}

/// What a frame is, for somebody who wants it free.
enum Content {
    /// The beginning of so many free frames.
    Free(u32),
    /// A user's page.
    Movable,
    /// Not counted: in the lists of a CPU, on its way to or from the allocator, another part of a compound page; or reserved at boot, which
    /// shows by its staying.
    Passing,
    /// The kernel's.
    Kernel,
}

fn content(page: &Page) -> Content {
    if page.has_type(PageType::Buddy) {
        return Content::Free(1 << page.type_detail().min(u32::from(MAX_PAGE_ORDER)));
    }
    let mapping = page.mapping();
    match (page.is_typed(), page.refcount()) {
        (true, _) => Content::Kernel,
        (false, 0) => Content::Passing,
        (false, _) if mapping == 0 || mapping & tag::MASK == tag::KSM => Content::Kernel,
        (false, _) => Content::Movable,
    }
}

/// Whether there is memory of the kernel in the range.
fn has_unmovable(range: &Range<u32>) -> bool {
    let mut at = range.start;
    while at < range.end {
        match content(vmemmap::page(at)) {
            Content::Free(frames) => at += frames,
            Content::Kernel => {
                log::info!("unmovable page: pfn {at:#x} {:?}", vmemmap::page(at));
                return true;
            }
            Content::Movable | Content::Passing => at += 1,
        }
    }
    false
}

/// Moves pages of the page cache out of the range, or drops them; returns how many frames are still in use.
fn move_cached(range: &Range<u32>) -> u32 {
    let mut used = 0;
    let mut at = range.start;
    while at < range.end {
        let page = vmemmap::page(at);
        match content(page) {
            Content::Free(frames) => {
                at += frames;
                continue;
            }
            Content::Movable if page.mapping() & tag::MASK == tag::FILE => {
                if let Some(folio) = Folio::from_pfn(Pfn(u64::from(at))) {
                    move_folio(folio);
                }
                used += 1;
            }
            _ => used += 1,
        }
        at += 1;
        if at.is_multiple_of(UNIT) {
            sched::cond_resched();
        }
    }
    used
}

fn move_folio(folio: Folio) {
    // What has a place on a disk need not move.
    if let Some(guard) = folio_lock::try_lock(folio.clone())
        && crate::filemap::evict_if_clean(&guard, 2)
    {
        return;
    }
    if let Ok(new) = page_alloc::alloc_page(crate::numa::MIGRATE) {
        let _ = migrate::move_page(folio, new.into_folio());
    }
}

/// Whether a frame lies in the range, for [`crate::AddressSpace::move_out_of`].
pub(crate) fn contains(range: &Range<u32>, folio: &Folio) -> bool {
    range.contains(&(frames::pfn_of(folio.page()).0 as u32)) && !folio.test(PageFlags::HEAD)
}
