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

mod rw;
mod truncate;

pub(crate) use truncate::evict_if_clean;

use crate::fallible::TryVec;
use crate::folio::Folio;
use crate::folio_lock::{self, FolioGuard};
use crate::gfp::Gfp;
use crate::mempolicy::SharedPolicies;
use crate::page::{Page, PageFlags, tag};
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use crate::{gather, lru, rmap};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::sync::SpinLock;
use collections::xarray::{Entry, MARK_DIRTY, PointerLike, XArray};
use core::ops::Range;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use sched::mutex::RwSemaphore;

// SAFETY: a folio is one non-null pointer to a 32-byte aligned descriptor.
unsafe impl PointerLike for Folio {}

/// Bytes in a page, as file offsets are counted.
const PAGE: u64 = PAGE_SIZE as u64;
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

    /// May start reading folios from `index` on; called before a folio that is missing is read by [`Self::read_folio`].
    fn readahead(&self, _mapping: &Mapping, _index: u64, _pages: usize) {}

    /// Before the first byte of a folio is written (through `write(2)` or a shared mapping): reserve space. `ENOSPC`, `EDQUOT`.
    /// `new`: the folio was not in the cache.
    fn prepare_write(&self, _mapping: &Mapping, _index: u64, _new: bool) -> Result<()> {
        Ok(())
    }

    /// A folio was added with `charge` true or left with `charge` false: for file systems that count pages (tmpfs).
    fn account(&self, _pages: i64) -> Result<()> {
        Ok(())
    }

    /// A folio became dirty for the first time since it was clean.
    fn dirty_folio(&self, _mapping: &Mapping) {}

    /// Writes a locked dirty folio to the backing store. It is clean when this returns `Ok`.
    fn write_folio(&self, _mapping: &Mapping, _folio: &FolioGuard) -> Result<()> {
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
    /// Error sequence: bumped by a failed write-back, read by fsync.
    wb_errors: AtomicU32,
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
            wb_errors: AtomicU32::new(0),
        }
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

    /// The write-back error sequence; a change since the last look means `EIO` for `fsync(2)`.
    pub fn wb_error_seq(&self) -> u32 {
        self.wb_errors.load(Ordering::Relaxed)
    }

    /// The mapping whose address a locked folio holds.
    ///
    /// # Safety
    /// `pointer` is from the mapping word of a page-cache folio that is locked and in the cache, for as long as the result is used.
    pub(crate) unsafe fn of_locked_page<'a>(pointer: usize) -> &'a Mapping {
        // SAFETY: the mapping empties itself, under folio locks, before it goes away.
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
                None => match self.add_new(index)? {
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
        self.ops.prepare_write(self, index, true)?;
        let Added::New(guard) = self.add_new(index)? else { return Err(Errno::EEXIST) };
        match from {
            Some(from) => crate::frames::copy_page(guard.page(), from.page()),
            None => guard.zero(0..PAGE_SIZE),
        }
        guard.mark_uptodate();
        self.set_dirty(guard.page());
        Ok(guard)
    }

    /// Puts a new, locked folio at `index`.
    fn add_new(&self, index: u64) -> Result<Added> {
        if index > crate::page::MAX_INDEX {
            return Err(Errno::EFBIG);
        }
        self.ops.account(1)?;
        let folio = match self.policies.alloc(Gfp::HIGHUSER_MOVABLE, index) {
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

    /// The folio at `index` with valid contents, read if need be.
    pub fn read_page(&self, index: u64) -> Result<Folio> {
        if let Some(folio) = self.get(index) {
            if folio.test(PageFlags::UPTODATE) {
                return Ok(folio);
            }
        } else {
            self.ops.readahead(self, index, 32);
        }
        let guard = self.find_or_create_locked(index)?;
        self.fill(&guard)?;
        Ok(guard.unlock())
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
            self.ops.prepare_write(self, index, true)?;
            self.read_page(index)?;
        }
        Ok(())
    }

    // ---- dirty state -----------------------------------------------------------------------

    /// Marks a folio of this mapping as newer than its backing store.
    pub fn set_dirty(&self, page: &Page) {
        if page.test(PageFlags::DIRTY) || !page.test_and_set(PageFlags::DIRTY).is_empty() {
            return;
        }
        if !self.memory {
            self.tree.lock().set_mark(page.index(), MARK_DIRTY);
            crate::frames::count_dirty(1);
            self.ops.dirty_folio(self);
        }
    }

    /// Ends the dirty state before a folio is written; false if it was clean. Shared mappings are write-protected,
    /// so that the next store is noticed.
    pub fn clear_dirty_for_io(&self, guard: &FolioGuard) -> bool {
        let page = guard.page();
        if rmap::make_clean(page) {
            self.set_dirty(page);
        }
        if page.test_and_clear(PageFlags::DIRTY).is_empty() {
            return false;
        }
        if !self.memory {
            self.tree.lock().clear_mark(page.index(), MARK_DIRTY);
            crate::frames::count_dirty(-1);
        }
        true
    }

    /// Writes back the dirty folios of `range` (in bytes).
    pub fn write_back(&self, range: Range<u64>) -> Result<()> {
        if self.memory || range.is_empty() {
            return Ok(());
        }
        let last = (range.end - 1) / PAGE;
        let mut index = range.start / PAGE;
        let mut result = Ok(());
        while index <= last {
            let next = {
                let tree = self.tree.lock();
                tree.next_marked(index..=last, MARK_DIRTY).map(|(at, folio)| (at, folio.clone()))
            };
            let Some((at, folio)) = next else { break };
            index = at + 1;
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() != self.word() || !self.clear_dirty_for_io(&guard) {
                continue;
            }
            if let Err(error) = self.ops.write_folio(self, &guard) {
                self.set_dirty(guard.page());
                self.wb_errors.fetch_add(1, Ordering::Relaxed);
                result = Err(error);
            }
        }
        result
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
