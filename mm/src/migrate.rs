//! Moving a page to another node: `migrate_pages(2)`, `move_pages(2)`, `mbind(2)`.
//!
//! The page's lists of mappings say which entries map it. With the locks of all their tables held the entries are taken away, the
//! TLBs flushed, the contents copied and entries for the new page put in their place: nobody sees anything between. A
//! page that somebody else has a reference to (I/O, a reader) stays, as do those with more mappings than [`MOST_MAPPINGS`]
//! and those of the page cache of files with a backing store.
//!
//! Locks: folio lock → list of areas or `AnonVma` family → the tables (the first with waiting, others by trying) → the mapping's tree.

use crate::fallible::TryVec;
use crate::filemap::Mapping;
use crate::folio::Folio;
use crate::folio_lock;
use crate::frames;
use crate::page::{Page, PageFlags, tag};
use crate::ptable::{LockedTable, Table};
use crate::rmap;
use crate::space::AddressSpace;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;

/// Mappings that a page may have to be moved.
const MOST_MAPPINGS: usize = 64;

/// Why a page was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMoved {
    /// In use, or of a kind that stays.
    Busy,
    /// There is no memory where it should go.
    NoMemory,
}

/// One entry that maps the page.
struct Place<'a> {
    space: &'a AddressSpace,
    addr: usize,
    /// Which of the locked tables it is in.
    table: usize,
    old: Pte,
}

/// All entries that map a page, their tables locked.
struct Places<'a> {
    tables: Vec<(Table<'a>, LockedTable<'a>)>,
    places: Vec<Place<'a>>,
    complete: bool,
}

impl<'a> Places<'a> {
    fn new() -> Result<Self, NotMoved> {
        let mut tables = Vec::new();
        let mut places = Vec::new();
        tables.try_reserve(MOST_MAPPINGS).map_err(|_| NotMoved::NoMemory)?;
        places.try_reserve(MOST_MAPPINGS).map_err(|_| NotMoved::NoMemory)?;
        Ok(Self { tables, places, complete: true })
    }

    fn add(&mut self, space: &'a AddressSpace, addr: usize, page: &Page) {
        let Some(table) = space.pgd().table(addr) else { return };
        let known = self.tables.iter().position(|(t, _)| t.same(&table));
        let index = match known {
            Some(index) => index,
            None => {
                if !rmap::maps(table.peek(addr), page) {
                    return;
                }
                let locked = if self.tables.is_empty() { Some(table.lock()) } else { table.try_lock() };
                match locked.filter(|_| self.tables.len() < MOST_MAPPINGS) {
                    Some(locked) => self.tables.push_reserved((table, locked)),
                    None => {
                        self.complete = false;
                        return;
                    }
                }
                self.tables.len() - 1
            }
        };
        let Some((_, locked)) = self.tables.get(index) else { return };
        let old = locked.cell(addr).load();
        if !rmap::maps(old, page) {
            return;
        }
        if self.places.len() == MOST_MAPPINGS {
            self.complete = false;
            return;
        }
        self.places.push_reserved(Place { space, addr, table: index, old });
    }

    /// Takes the entries away.
    fn clear(&mut self) {
        for place in &mut self.places {
            if let Some((_, table)) = self.tables.get(place.table) {
                place.old = table.cell(place.addr).swap(Pte::NONE);
            }
        }
        for place in &self.places {
            let range = place.addr..place.addr + PAGE_SIZE;
            arch::tlb::flush_range(place.space.pgd().context(), range, 0, false);
        }
    }

    /// Unlocks the tables, which live only as long as the lock of the list is held.
    fn forget(&mut self) {
        self.places.clear();
        self.tables.clear();
    }

    /// Puts entries for `page` where [`Self::clear`] took them away.
    fn restore(&self, page: &Page) {
        for place in &self.places {
            if let Some((_, table)) = self.tables.get(place.table) {
                table.cell(place.addr).store(place.old.with_pfn(frames::pfn_of(page)));
            }
        }
    }
}

/// Moves the page that `addr` of `space` maps to `new`, which is free and nobody else's. `old` is a reference to the page;
/// `mmap_lock` of `space` is held (shared), which keeps what the page belongs to.
pub(crate) fn move_page(old: Folio, new: Folio) -> Result<(), NotMoved> {
    if old.order() != 0 || old.mapcount() as usize > MOST_MAPPINGS {
        return Err(NotMoved::Busy);
    }
    match old.mapping() & tag::MASK {
        tag::ANON => move_anon(&old, new),
        tag::FILE => move_cached(old, new),
        _ => Err(NotMoved::Busy),
    }
}

fn move_anon(old: &Folio, new: Folio) -> Result<(), NotMoved> {
    let page = old.page();
    let mut places = Places::new()?;
    let mut result = Err(NotMoved::Busy);
    // SAFETY: the caller holds `mmap_lock` of a space that has an area in the page's family.
    unsafe {
        rmap::with_mappings(
            page,
            &mut places,
            &mut |places, vma, addr| {
                // SAFETY: the lock of the list that the area is on is held until `with_mappings` returns.
                places.add(vma.space(), addr, page);
            },
            &mut |places| result = exchange(places, old, &new, None),
        );
    }
    drop(places);
    if result.is_ok() {
        // Each entry passes on its reference.
        let _ = new.into_raw();
    }
    result
}

fn move_cached(old: Folio, new: Folio) -> Result<(), NotMoved> {
    let guard = folio_lock::try_lock(old).ok_or(NotMoved::Busy)?;
    let page = guard.page();
    let word = page.mapping();
    if word == 0 || word & tag::MASK != tag::FILE {
        return Err(NotMoved::Busy);
    }
    // SAFETY: the page is locked and in the cache.
    let mapping = unsafe { Mapping::of_locked_page(word) };
    if !mapping.is_memory() || mapping.is_secret() || !page.test(PageFlags::UPTODATE) {
        return Err(NotMoved::Busy);
    }
    let mut places = Places::new()?;
    let mut result = Err(NotMoved::Busy);
    // SAFETY: the page is locked and in the cache.
    unsafe {
        rmap::with_mappings(
            page,
            &mut places,
            &mut |places, vma, addr| {
                // SAFETY: the lock of the list that the area is on is held until `with_mappings` returns.
                places.add(vma.space(), addr, page);
            },
            &mut |places| result = exchange(places, guard.folio(), &new, Some(mapping)),
        );
    }
    drop(places);
    if result.is_ok() {
        let _ = new.into_raw();
    }
    result
}

/// The exchange itself, with all tables locked. On success the reference that `new` stands for belongs to an entry or the cache.
fn exchange(
    places: &mut Places<'_>,
    old: &Folio,
    new: &Folio,
    mapping: Option<&Mapping>,
) -> Result<(), NotMoved> {
    let page = old.page();
    let maps = places.places.len() as u32;
    if !places.complete || maps != page.mapcount() || maps == 0 && mapping.is_none() {
        places.forget();
        return Err(NotMoved::Busy);
    }
    places.clear();
    // One of each entry, the caller's, and the cache's.
    let expected = maps + 1 + u32::from(mapping.is_some());
    let taken = match mapping {
        None => page.freeze(expected),
        Some(mapping) => mapping.exchange_frozen(page, new, expected, &mut || fill(new, old, maps)),
    };
    if !taken {
        places.restore(page);
        places.forget();
        return Err(NotMoved::Busy);
    }
    if mapping.is_none() {
        fill(new, old, maps);
    }
    places.restore(new.page());
    for _ in 0..maps {
        page.map_dec();
    }
    // The caller's own reference is all that is left of the old page.
    page.set_mapping(0);
    page.replace_flags(
        PageFlags::DIRTY | PageFlags::ANON_EXCLUSIVE | PageFlags::SWAPBACKED,
        PageFlags::empty(),
    );
    page.unfreeze(1);
    places.forget();
    Ok(())
}

/// Makes `new` what `old` was: contents, place, state, and as many references as it will have.
fn fill(new: &Folio, old: &Folio, maps: u32) {
    let page = old.page();
    frames::copy_page(new.page(), page);
    let kept = page.flags()
        & (PageFlags::UPTODATE
            | PageFlags::DIRTY
            | PageFlags::REFERENCED
            | PageFlags::SWAPBACKED
            | PageFlags::ANON_EXCLUSIVE
            | PageFlags::ACTIVE
            | PageFlags::WORKINGSET);
    new.init_index_flags(page.index(), kept);
    new.set_mapping(page.mapping());
    for _ in 0..maps {
        new.map_inc();
    }
    let cached = u32::from(page.mapping() & tag::MASK == tag::FILE);
    new.get_many(maps + cached - 1);
}
