//! The page cache: Linux's `struct address_space` and `mm/filemap.c`.
//!
//! A [`Mapping`] is the cached contents of one object (usually an inode): folios by page index, in a radix
//! tree whose empty slots can hold what an evicted folio left behind. It also knows which
//! memory areas map the object. A file system supplies [`AddressSpaceOps`]; reading, writing and
//! mapping are done here, over an [`IovIter`], and no file system copies to users itself.
//!
//! Objects without a backing store (tmpfs, shared anonymous memory) set [`AddressSpaceOps::is_memory`]:
//! their folios are never evicted, and a missing one reads as zeros.
//!
//! # Locks, in order
//!
//! 1. `invalidate`: faults and reads that fill the cache hold it shared, truncation exclusively.
//! 2. the folio lock: contents becoming valid, membership in the mapping.
//! 3. the list of areas (`areas`), with table locks below it.
//! 4. the tree (`tree`), a spin lock held for a few instructions. Table locks may be held when it is taken.
//!
//! A folio in the tree has one reference for the tree. A reader takes its own under the tree's lock.

mod dirty;
mod rw;
mod truncate;

pub use dirty::{DirtyFolios, SyncMode, Writeback, WritebackControl};
pub use rw::ReadMode;
pub(crate) use truncate::evict_if_clean;

use crate::fallible::{TryVec, try_arc_cyclic};
use crate::folio::Folio;
use crate::folio_lock::{self, FolioGuard};
use crate::gfp::Gfp;
use crate::mempolicy::SharedPolicies;
use crate::page::{Page, PageFlags, tag};
use crate::readahead::Run;
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use crate::writeback::{BackingDevice, DirtyState};
use crate::{gather, lru};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::sync::SpinLock;
use collections::xarray::{Entry, PointerLike, XArray};
use core::ops::Range;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use dirty::WriteErrors;
use intrusive_collections::LinkedListAtomicLink;
use sched::mutex::RwSemaphore;

// SAFETY: a folio is one non-null pointer to a 32-byte aligned descriptor.
unsafe impl PointerLike for Folio {}

/// Bytes in a page, as file offsets are counted.
pub(crate) const PAGE: u64 = PAGE_SIZE as u64;
/// Folios looked up at once by a read.
const READ_BATCH: usize = 16;

/// How a file system takes part. All functions may sleep.
pub trait AddressSpaceOps: Send + Sync {
    /// Makes a locked folio's contents valid ([`FolioGuard::mark_uptodate`]). The default is for objects that begin as zeros.
    fn read_folio(&self, _mapping: &Mapping, folio: &FolioGuard) -> Result<()> {
        folio.zero(0..PAGE_SIZE);
        folio.mark_uptodate();
        Ok(())
    }

    /// Starts reading the folios of `run`, as far as it can: takes them from it, and they are unlocked when they are valid, or when that
    /// failed. Waits for none of them.
    fn readahead(&self, _run: &mut Run<'_>) {}

    /// Before bytes `pos..pos + len` are written (through `write(2)` or a shared mapping): reserves space for at least the first of them. No
    /// folio is locked. `ENOSPC`, `EDQUOT`.
    fn prepare_write(&self, _mapping: &Mapping, pos: u64, len: u64) -> Result<Prepared> {
        Ok(Prepared { end: pos.saturating_add(len), fresh: false })
    }

    /// These bytes, which were prepared, were not written.
    fn unprepare(&self, _mapping: &Mapping, _range: Range<u64>, _prepared: Prepared) {}

    /// A folio was added with `charge` true or left with `charge` false: for file systems that count pages (tmpfs).
    fn account(&self, _pages: i64) -> Result<()> {
        Ok(())
    }

    /// A folio became dirty for the first time since it was clean.
    fn dirty_folio(&self, _mapping: &Mapping) {}

    /// Writes the dirty folios that [`Mapping::dirty_folios`] gives for `control`. They may still be under way when this returns.
    fn write_folios(&self, _mapping: &Mapping, _control: &mut WritebackControl) -> Result<()> {
        Err(Errno::EIO)
    }

    /// Whether the folio may leave the cache now (private data released).
    fn release_folio(&self, _folio: &Page) -> bool {
        true
    }

    /// No backing store: see the module documentation.
    fn is_memory(&self) -> bool {
        false
    }

    /// Only mappings reach the pages, nothing that the kernel does for others (`memfd_secret(2)`).
    fn is_secret(&self) -> bool {
        false
    }

    /// The largest file size.
    fn max_bytes(&self) -> u64 {
        i64::MAX as u64
    }
}

/// What [`AddressSpaceOps::prepare_write`] has done.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    /// The byte behind the last one for which it has; at least one is.
    pub end: u64,
    /// The backing store has nothing there that must be kept: what is not written is zero.
    pub fresh: bool,
}

/// Memory without a backing store or accounting.
pub struct MemoryOps;

impl AddressSpaceOps for MemoryOps {
    fn is_memory(&self) -> bool {
        true
    }
}

/// The cached contents of one object. See the module documentation.
pub struct Mapping {
    id: u64,
    ops: Arc<dyn AddressSpaceOps>,
    memory: bool,
    secret: bool,
    tree: SpinLock<XArray<Folio>>,
    size: AtomicU64,
    areas: SpinLock<Vec<Arc<Vma>>>,
    /// Areas that may write: shared writable mappings. Negative: such mappings are refused (sealed).
    writable: AtomicI32,
    invalidate: RwSemaphore<()>,
    /// Where pages of memory objects go.
    policies: SharedPolicies,
    errors: WriteErrors,
    /// Where write-back goes.
    device: Option<Arc<BackingDevice>>,
    /// Its place among what of the device is dirty.
    pub(crate) dirty_link: LinkedListAtomicLink,
    pub(crate) dirty: DirtyState,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Mapping {
    /// An empty cache of an object of `size` bytes.
    pub fn new(ops: Arc<dyn AddressSpaceOps>, size: u64) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            memory: ops.is_memory(),
            secret: ops.is_secret(),
            ops,
            tree: SpinLock::new(XArray::new()),
            size: AtomicU64::new(size),
            areas: SpinLock::new(Vec::new()),
            writable: AtomicI32::new(0),
            invalidate: RwSemaphore::new(()),
            policies: SharedPolicies::default(),
            errors: WriteErrors::default(),
            device: None,
            dirty_link: LinkedListAtomicLink::new(),
            dirty: DirtyState::default(),
        }
    }

    /// An empty cache of an object of `size` bytes, whose dirty pages are written to `device` in the background.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_device(
        ops: Arc<dyn AddressSpaceOps>,
        size: u64,
        device: Arc<BackingDevice>,
    ) -> Result<Arc<Self>> {
        Ok(try_arc_cyclic(|me| {
            let mut mapping = Self::new(ops, size);
            mapping.device = Some(device);
            mapping.dirty = DirtyState::new(me.clone());
            mapping
        })?)
    }

    /// The memory policies of its pages, which all who map it share. Only those of memory objects count.
    pub(crate) fn policies(&self) -> &SharedPolicies {
        &self.policies
    }

    /// A number that no other mapping of this boot has (shared futexes).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file system's side.
    pub fn ops(&self) -> &Arc<dyn AddressSpaceOps> {
        &self.ops
    }

    /// The size of the object in bytes (`i_size`).
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Changes the size without touching the cache; [`Self::truncate`] is what `ftruncate(2)` wants.
    pub fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Folios in the cache.
    pub fn nr_pages(&self) -> usize {
        self.tree.lock().len()
    }

    /// Whether the object has no backing store.
    pub fn is_memory(&self) -> bool {
        self.memory
    }

    /// Whether only mappings reach the pages.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// The mapping whose address a locked folio holds.
    ///
    /// # Safety
    /// `pointer` is from the mapping word of a page-cache folio that is locked and in the cache, or under write-back, for as long as the result is used.
    pub(crate) unsafe fn of_locked_page<'a>(pointer: usize) -> &'a Mapping {
        // SAFETY: the mapping empties itself, under folio locks and behind write-backs, before it goes away.
        unsafe { &*core::ptr::with_exposed_provenance(pointer) }
    }

    /// The mapping word of this object's folios while they are in the cache.
    #[inline]
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(self).expose_provenance() | tag::FILE
    }

    // ---- looking up ------------------------------------------------------------------------

    /// The folio at `index`, if it is cached.
    #[inline]
    pub fn get(&self, index: u64) -> Option<Folio> {
        self.tree.lock().get(index).cloned()
    }

    /// Folios from `index` on without a gap, as many as `into` has room for. Returns how many.
    fn get_batch(&self, index: u64, into: &mut [Option<Folio>]) -> usize {
        let tree = self.tree.lock();
        let mut count = 0;
        for (slot, at) in into.iter_mut().zip(index..) {
            match tree.get(at) {
                Some(folio) => *slot = Some(folio.clone()),
                None => break,
            }
            count += 1;
        }
        count
    }

    /// Calls `f` with each cached folio in `range`, under the tree's lock.
    pub(crate) fn for_each_cached(&self, range: Range<u64>, f: &mut dyn FnMut(u64, &Folio)) {
        if range.is_empty() {
            return;
        }
        let tree = self.tree.lock();
        for (index, folio) in tree.range(range.start..=range.end - 1) {
            f(index, folio);
        }
    }

    /// How many pages of `range` (in pages) are cached, and how many of them newer than their backing store: `cachestat(2)`.
    pub fn count_cached(&self, range: Range<u64>) -> (u64, u64) {
        let (mut cached, mut dirty) = (0, 0);
        self.for_each_cached(range, &mut |_, folio| {
            cached += 1;
            dirty += u64::from(!self.memory && folio.page().test(PageFlags::DIRTY));
        });
        (cached, dirty)
    }

    /// The folio at `index`, locked; made if missing (then not up to date).
    pub fn find_or_create_locked(&self, index: u64) -> Result<FolioGuard> {
        loop {
            let folio = match self.get(index) {
                Some(folio) => folio,
                None => match self.add_new(index, Gfp::HIGHUSER_MOVABLE)? {
                    Added::New(guard) => return Ok(guard),
                    Added::Raced(folio) => folio,
                },
            };
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() == self.word() {
                return Ok(guard);
            }
            // Truncated while we waited.
        }
    }

    /// Puts a new folio at `index` with the contents of `from` (zeros without), valid, newer than any backing store, and locked.
    ///
    /// # Errors
    /// `EEXIST`: there is one. `ENOMEM`, and what the file system has against it.
    pub(crate) fn add_filled(&self, index: u64, from: Option<&Folio>) -> Result<FolioGuard> {
        if self.get(index).is_some() {
            return Err(Errno::EEXIST);
        }
        self.prepare_page(index)?;
        let Added::New(guard) = self.add_new(index, Gfp::HIGHUSER_MOVABLE)? else {
            return Err(Errno::EEXIST);
        };
        match from {
            Some(from) => crate::frames::copy_page(guard.page(), from.page()),
            None => guard.zero(0..PAGE_SIZE),
        }
        guard.mark_uptodate();
        self.set_dirty(guard.page());
        Ok(guard)
    }

    /// Puts a new, locked folio at `index`.
    fn add_new(&self, index: u64, gfp: Gfp) -> Result<Added> {
        if index > crate::page::MAX_INDEX {
            return Err(Errno::EFBIG);
        }
        self.ops.account(1)?;
        let folio = match self.policies.alloc(gfp, index) {
            Ok(folio) => folio,
            Err(_) => {
                let _ = self.ops.account(-1);
                return Err(Errno::ENOMEM);
            }
        };
        let kind = if self.memory { PageFlags::SWAPBACKED } else { PageFlags::empty() };
        folio.init_index_flags(index, PageFlags::LOCKED | kind);
        folio.set_mapping(self.word());
        let guard = folio_lock::assume_locked(folio.clone());
        let mut shadow = 0;
        let result = {
            let mut tree = self.tree.lock();
            match tree.get(index) {
                Some(other) => Ok(Some(other.clone())),
                None => match tree.store(index, folio) {
                    Ok(before) => {
                        if let Some(Entry::Shadow(age)) = before {
                            shadow = age;
                        }
                        Ok(None)
                    }
                    Err(_) => Err(Errno::ENOMEM),
                },
            }
        };
        match result {
            Ok(None) => {
                crate::frames::count_cached(1, self.memory);
                if !self.memory {
                    if lru::refault(guard.page(), shadow) {
                        guard.page().set(PageFlags::ACTIVE | PageFlags::WORKINGSET);
                    }
                    lru::add_new(guard.page());
                }
                Ok(Added::New(guard))
            }
            Ok(Some(other)) => {
                guard.page().set_mapping(0);
                drop(guard);
                let _ = self.ops.account(-1);
                Ok(Added::Raced(other))
            }
            Err(error) => {
                guard.page().set_mapping(0);
                drop(guard);
                let _ = self.ops.account(-1);
                Err(error)
            }
        }
    }

    /// A new, locked folio at `index`, to be read; `None` if there is one.
    pub(crate) fn add_to_read(&self, index: u64, gfp: Gfp) -> Result<Option<FolioGuard>> {
        Ok(match self.add_new(index, gfp)? {
            Added::New(guard) => Some(guard),
            Added::Raced(_) => None,
        })
    }

    /// The folio at `index` with valid contents, read if need be.
    pub fn read_page(&self, index: u64) -> Result<Folio> {
        if let Some(folio) = self.get(index)
            && folio.test(PageFlags::UPTODATE)
        {
            return Ok(folio);
        }
        if self.memory {
            let guard = self.find_or_create_locked(index)?;
            self.fill(&guard)?;
            return Ok(guard.unlock());
        }
        // Truncation must not take the blocks away between the look and the end of the transfer.
        let _shared = self.invalidate.read();
        let guard = self.find_or_create_locked(index)?;
        self.fill(&guard)?;
        Ok(guard.unlock())
    }

    /// Reserves what a store to page `index` needs. The page is inside the file.
    pub(crate) fn prepare_page(&self, index: u64) -> Result<()> {
        if self.memory {
            return Ok(());
        }
        let end = (index.saturating_add(1) * PAGE).min(self.size());
        let mut pos = index * PAGE;
        while pos < end {
            let next = self.ops.prepare_write(self, pos, end - pos)?.end;
            if next <= pos {
                return Err(Errno::EIO);
            }
            pos = next;
        }
        Ok(())
    }

    /// How many pages before `index` are cached without a gap, up to `max`.
    pub(crate) fn cached_before(&self, index: u64, max: u64) -> u64 {
        let Some(last) = index.checked_sub(1) else { return 0 };
        let tree = self.tree.lock();
        let most = max.min(index);
        tree.prev_gap(last, most).map_or(most, |gap| last - gap)
    }

    /// How many pages from `index` on are cached without a gap, up to `max`.
    pub(crate) fn cached_from(&self, index: u64, max: u64) -> u64 {
        self.tree.lock().next_gap(index, max).map_or(max, |gap| gap - index)
    }

    /// Held shared by those who fill the cache, exclusively while pages and the blocks behind them are taken away (`invalidate_lock`). Before
    /// folio locks.
    pub fn invalidate_lock(&self) -> &RwSemaphore<()> {
        &self.invalidate
    }

    /// Makes a locked folio's contents valid.
    pub fn fill(&self, guard: &FolioGuard) -> Result<()> {
        if guard.page().test(PageFlags::UPTODATE) {
            return Ok(());
        }
        self.ops.read_folio(self, guard)?;
        if guard.page().test(PageFlags::UPTODATE) { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Makes the pages of `range` (bytes) exist, with valid contents: `fallocate(2)` of objects without a backing store. What was made
    /// stays if it fails half-way.
    pub fn preallocate(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        for index in range.start / PAGE..=(range.end - 1) / PAGE {
            self.read_page(index)?;
        }
        Ok(())
    }

    // ---- areas that map the object -----------------------------------------------------------

    /// Enters an area into the reverse map.
    pub(crate) fn link_vma(&self, vma: &Arc<Vma>) -> Result<()> {
        let mut areas = self.areas.lock();
        let slot = areas.len() as u32;
        areas.try_push(vma.clone())?;
        vma.file_slot.store(slot, Ordering::Relaxed);
        if vma.flags().contains(VmFlags::SHARED | VmFlags::MAYWRITE) {
            self.writable.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes an area out of the reverse map.
    pub(crate) fn unlink_vma(&self, vma: &Vma) {
        let gone = {
            let mut areas = self.areas.lock();
            let slot = vma.file_slot.load(Ordering::Relaxed) as usize;
            if !areas.get(slot).is_some_and(|v| core::ptr::eq(Arc::as_ptr(v), vma)) {
                return;
            }
            let gone = areas.swap_remove(slot);
            if let Some(moved) = areas.get(slot) {
                moved.file_slot.store(slot as u32, Ordering::Relaxed);
            }
            gone
        };
        if gone.flags().contains(VmFlags::SHARED | VmFlags::MAYWRITE) {
            self.writable.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether someone maps the object.
    pub fn is_mapped(&self) -> bool {
        !self.areas.lock().is_empty()
    }

    /// Whether someone has a shared mapping that is or can become writable (file seals, `ETXTBSY`).
    pub fn is_writably_mapped(&self) -> bool {
        self.writable.load(Ordering::Relaxed) > 0
    }

    /// Refuses shared writable mappings from now on (`F_SEAL_WRITE`); `EBUSY` if there is one.
    pub fn deny_writable(&self) -> Result<()> {
        let deny = |n: i32| (n <= 0).then(|| n - 1);
        match self.writable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, deny) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::EBUSY),
        }
    }

    /// Whether shared writable mappings are refused.
    pub(crate) fn denies_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed) < 0
    }

    /// Calls `f` with every area that maps page `index`, and the address there, under the list's lock.
    pub(crate) fn for_each_vma(&self, index: u64, f: &mut dyn FnMut(&Vma, usize)) {
        for vma in self.areas.lock().iter() {
            if let Some(addr) = vma.addr_of_index(index) {
                f(vma, addr);
            }
        }
    }

    /// As [`Self::for_each_vma`], and then `last`, under the same hold of the lock.
    pub(crate) fn with_vmas<S>(
        &self,
        index: u64,
        state: &mut S,
        f: &mut dyn FnMut(&mut S, &Vma, usize),
        last: &mut dyn FnMut(&mut S),
    ) {
        let areas = self.areas.lock();
        for vma in areas.iter() {
            if let Some(addr) = vma.addr_of_index(index) {
                f(state, vma, addr);
            }
        }
        last(state);
    }

    /// Puts `new` in the place of the locked folio `old`, if `old` has exactly `refs` references; nobody can find either meanwhile.
    /// `fill` makes `new` what `old` was and gives it the reference that the cache will have. `old` is left with none.
    pub(crate) fn exchange_frozen(&self, old: &Page, new: &Folio, refs: u32, fill: &mut dyn FnMut()) -> bool {
        let mut tree = self.tree.lock();
        if !old.freeze(refs) {
            return false;
        }
        fill();
        // SAFETY: the reference that `fill` made for the cache.
        let cached = unsafe { Folio::from_raw(core::ptr::NonNull::from(new.page())) };
        // The slot exists: nothing is allocated.
        match tree.store(old.index(), cached) {
            Ok(Some(Entry::Value(before))) => {
                // Its reference went with the freeze.
                let _ = before.into_raw();
            }
            other => debug_assert!(false, "the cache had lost a folio: {}", other.is_ok()),
        }
        true
    }

    /// Unmaps the pages of `range` from every address space (`unmap_mapping_range`).
    fn unmap_range(&self, range: Range<u64>, cows: Cows) {
        let areas = self.areas.lock();
        for vma in areas.iter() {
            let first = range.start.max(vma.pgoff());
            let end = range.end.min(vma.pgoff().saturating_add(vma.pages() as u64));
            if first >= end {
                continue;
            }
            // SAFETY: the lock of the list that the area is on is held.
            let space: &AddressSpace = unsafe { vma.space() };
            let at = |index: u64| vma.start() + (((index - vma.pgoff()) as usize) << PAGE_SHIFT);
            let which = match cows {
                Cows::Too => gather::Which::All,
                Cows::Not => gather::Which::FileOnly,
            };
            let mut gather = gather::Gather::new(space);
            gather.keep_markers_of(vma);
            gather.unmap(at(first)..at(end), which);
            gather.finish();
        }
    }
}

/// What [`Mapping::add_new`] found.
enum Added {
    New(FolioGuard),
    Raced(Folio),
}

/// Whether private copies of a page go with it: truncation takes them, a hole does not.
#[derive(Clone, Copy)]
enum Cows {
    Too,
    Not,
}

/// A page-table entry that was dirty went away: its page, which it maps, is dirty.
pub(crate) fn mark_dirty_from_pte(page: &Page) {
    if page.test(PageFlags::DIRTY) {
        return;
    }
    let word = page.mapping();
    if word == 0 || word & tag::MASK != tag::FILE {
        page.set(PageFlags::DIRTY);
        return;
    }
    // SAFETY: removal from the cache unmaps the page first, under the table lock that our caller holds; so the mapping is there.
    let mapping = unsafe { Mapping::of_locked_page(word) };
    mapping.set_dirty(page);
}

impl Drop for Mapping {
    fn drop(&mut self) {
        debug_assert!(self.areas.get_mut().is_empty());
        self.remove_range(0..u64::MAX, Cows::Too);
    }
}
