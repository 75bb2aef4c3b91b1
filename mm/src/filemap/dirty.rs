//! Dirty folios and their way to the backing store.
//!
//! A folio is *dirty* (flag `DIRTY`) from a store until somebody takes it for writing ([`DirtyFolios`]); then it is *under write-back*
//! (flag `WRITEBACK`) until its [`Writeback`] is dropped, which happens where the transfer ends, mostly in an interrupt.
//!
//! The flags are the truth. The marks of the tree say where to look, and may be behind: the end of a write-back leaves the mark, because
//! no lock of the cache is taken in interrupts; who looks for folios under write-back takes away the marks that say so no more.
//!
//! A folio under write-back does not leave its cache: truncation waits, eviction passes it over. So its mapping is there until the end.

use super::{Mapping, PAGE};
use crate::errseq::ErrSeq;
use crate::folio::Folio;
use crate::folio_lock::{self, FolioGuard};
use crate::page::{Page, PageFlags};
use crate::rmap;
use crate::stats::{self, Event, Item};
use crate::writeback::BackingDevice;
use abi::{Errno, Result};
use alloc::sync::Arc;
use collections::xarray::{MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

/// Entries of the tree that are looked at under one hold of its lock.
const AT_ONCE: usize = 64;

/// What a mapping knows of failed write-backs.
#[derive(Debug, Default)]
pub(super) struct WriteErrors {
    sequence: ErrSeq,
    /// The same for those who have no place in the sequence: `EIO` and `ENOSPC`, until somebody looks.
    pending: AtomicU32,
}

const PENDING_EIO: u32 = 1;
const PENDING_ENOSPC: u32 = 2;

/// For whom something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// For nobody in particular: what is being written already is passed over.
    None,
    /// For somebody who relies on all that is dirty now: waits for what is being written, and takes it again.
    All,
}

/// What is to be written, and how far that has come.
#[derive(Debug)]
pub struct WritebackControl {
    /// Page indices.
    pub range: Range<u64>,
    /// For whom.
    pub mode: SyncMode,
    /// Pages that may still be taken, in [`SyncMode::None`].
    pub budget: u64,
    /// Nobody waits for it.
    pub background: bool,
    /// Pages that were taken.
    pub taken: u64,
    /// Where to go on.
    next: u64,
}

impl WritebackControl {
    /// All that is dirty in `range` (page indices).
    pub fn new(range: Range<u64>, mode: SyncMode) -> Self {
        let next = range.start;
        Self { range, mode, budget: u64::MAX, background: false, taken: 0, next }
    }

    /// The index behind the last folio that was looked at.
    pub fn position(&self) -> u64 {
        self.next
    }
}

/// A folio under write-back. Dropping it ends that, in any context.
#[derive(Debug)]
pub struct Writeback {
    folio: Folio,
}

impl Writeback {
    /// The folio.
    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    /// It could not be written, or not all of it: its contents may differ from the backing store from now on, and those who ask get to know.
    /// Any context.
    pub fn fail(&self, error: Errno) {
        // SAFETY: a folio under write-back is in its cache, see the module documentation.
        unsafe { Mapping::of_locked_page(self.folio.mapping()) }.set_write_error(error);
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        let page = self.folio.page();
        // SAFETY: as in `fail`; the mapping is not touched behind the end.
        if let Some(device) = unsafe { Mapping::of_locked_page(page.mapping()) }.device() {
            device.count_written(1);
        }
        stats::add(Item::Writeback, -1);
        stats::count(Event::Written, 1);
        folio_lock::end_writeback(page);
    }
}

/// The dirty folios of a [`WritebackControl`], one by one: locked, clean from now on, and not under write-back.
///
/// Who gets one either starts its write-back ([`Mapping::start_io`]), or says what becomes of it: [`Mapping::redirty`], or nothing, if it
/// need not be written.
pub struct DirtyFolios<'a> {
    mapping: &'a Mapping,
    control: &'a mut WritebackControl,
}

impl DirtyFolios<'_> {
    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "the control can be looked at in between")]
    pub fn next(&mut self) -> Option<FolioGuard> {
        let Self { mapping, control } = self;
        let all = control.mode == SyncMode::All;
        let mark = if all { MARK_TOWRITE } else { MARK_DIRTY };
        let last = control.range.end.checked_sub(1)?;
        while control.budget > 0 || all {
            let (at, folio) = {
                let tree = mapping.tree.lock();
                tree.next_marked(control.next..=last, mark).map(|(at, folio)| (at, folio.clone()))?
            };
            control.next = at.saturating_add(1);
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() != mapping.word() {
                continue;
            }
            if guard.page().test(PageFlags::WRITEBACK) {
                if !all {
                    continue;
                }
                folio_lock::wait_writeback(guard.page());
            }
            if !mapping.clear_dirty_for_io(&guard) {
                mapping.forget_marks(guard.page());
                continue;
            }
            control.budget = control.budget.saturating_sub(1);
            control.taken += 1;
            return Some(guard);
        }
        None
    }

    /// What it goes by.
    pub fn control(&self) -> &WritebackControl {
        self.control
    }
}

impl Mapping {
    /// Marks a folio of this mapping as newer than its backing store. Any task context, also with spin locks held.
    pub fn set_dirty(&self, page: &Page) {
        if page.test(PageFlags::DIRTY) || !page.test_and_set(PageFlags::DIRTY).is_empty() {
            return;
        }
        if !self.memory {
            self.tree.lock().set_mark(page.index(), MARK_DIRTY);
            crate::frames::count_dirty(1);
            stats::count(Event::Dirtied, 1);
            if let Some(device) = self.device() {
                device.count_dirtied(self);
            }
            self.ops.dirty_folio(self);
        }
    }

    /// Ends the dirty state of a locked folio before it is written; false if it was clean. Shared mappings are write-protected, so that the
    /// next store is noticed. The marks stay until write-back starts.
    fn clear_dirty_for_io(&self, guard: &FolioGuard) -> bool {
        let page = guard.page();
        if rmap::make_clean(page) {
            self.set_dirty(page);
        }
        if page.test_and_clear(PageFlags::DIRTY).is_empty() {
            return false;
        }
        if !self.memory {
            crate::frames::count_dirty(-1);
        }
        true
    }

    /// A folio is not dirty and not to be written: takes away what the tree says.
    fn forget_marks(&self, page: &Page) {
        let mut tree = self.tree.lock();
        if !page.test(PageFlags::DIRTY) {
            tree.clear_mark(page.index(), MARK_DIRTY);
        }
        tree.clear_mark(page.index(), MARK_TOWRITE);
    }

    /// A folio that [`DirtyFolios`] gave need not be written after all.
    pub fn skip(&self, guard: &FolioGuard) {
        self.forget_marks(guard.page());
    }

    /// A folio that [`DirtyFolios`] gave could not be written now: it is dirty as before.
    pub fn redirty(&self, guard: &FolioGuard) {
        self.set_dirty(guard.page());
        self.forget_marks(guard.page());
    }

    /// The folio, which [`DirtyFolios`] gave, is being written from now on. It may be unlocked then.
    pub fn start_io(&self, guard: &FolioGuard) -> Writeback {
        let page = guard.page();
        debug_assert_eq!(page.mapping(), self.word());
        {
            let mut tree = self.tree.lock();
            page.set(PageFlags::WRITEBACK);
            tree.set_mark(page.index(), MARK_WRITEBACK);
            if !page.test(PageFlags::DIRTY) {
                tree.clear_mark(page.index(), MARK_DIRTY);
            }
            tree.clear_mark(page.index(), MARK_TOWRITE);
        }
        stats::add(Item::Writeback, 1);
        Writeback { folio: guard.folio().clone() }
    }

    /// The dirty folios that `control` names.
    pub fn dirty_folios<'a>(&'a self, control: &'a mut WritebackControl) -> DirtyFolios<'a> {
        if control.mode == SyncMode::All {
            self.tag_for_writing(&control.range);
        }
        DirtyFolios { mapping: self, control }
    }

    /// What is dirty now is to be written; what becomes dirty meanwhile is not, so that this comes to an end.
    fn tag_for_writing(&self, range: &Range<u64>) {
        let Some(last) = range.end.checked_sub(1) else { return };
        let mut from = range.start;
        loop {
            let mut tree = self.tree.lock();
            for _ in 0..AT_ONCE {
                if from > last {
                    return;
                }
                let Some((at, _)) = tree.next_marked(from..=last, MARK_DIRTY) else { return };
                tree.set_mark(at, MARK_TOWRITE);
                from = at.saturating_add(1);
            }
        }
    }

    /// Whether something is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.memory && self.tree.lock().any_marked(MARK_DIRTY)
    }

    /// Whether certainly nothing is dirty or under write-back.
    pub(crate) fn is_settled(&self) -> bool {
        let mut tree = self.tree.lock();
        if tree.any_marked(MARK_DIRTY) {
            return false;
        }
        for _ in 0..AT_ONCE {
            let Some((at, folio)) = tree.next_marked(0..=u64::MAX, MARK_WRITEBACK) else { return true };
            if folio.test(PageFlags::WRITEBACK) {
                return false;
            }
            tree.clear_mark(at, MARK_WRITEBACK);
        }
        false
    }

    /// Whether something is dirty or under write-back in `range` (bytes).
    pub fn needs_writeback(&self, range: Range<u64>) -> bool {
        if self.memory || range.is_empty() {
            return false;
        }
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        let tree = self.tree.lock();
        tree.next_marked(first..=last, MARK_DIRTY).is_some()
            || tree.next_marked(first..=last, MARK_WRITEBACK).is_some()
    }

    /// Writes what `control` names, as far as it lets us.
    ///
    /// # Errors
    /// Those of the file system. What failed later, at the device, is not among them: see [`Self::wait_on_writeback`].
    pub fn write_folios(&self, control: &mut WritebackControl) -> Result<()> {
        if self.memory || control.range.is_empty() || !self.has_dirty() {
            return Ok(());
        }
        let result = self.ops.write_folios(self, control);
        match result {
            // All is dirty as before.
            Ok(()) | Err(Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(error) => self.set_write_error(error),
        }
        result
    }

    /// Starts writing the dirty folios of `range` (bytes), `filemap_fdatawrite_range`.
    ///
    /// # Errors
    /// As for [`Self::write_folios`].
    pub fn start_write_back(&self, range: Range<u64>, mode: SyncMode) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let pages = range.start / PAGE..(range.end - 1) / PAGE + 1;
        self.write_folios(&mut WritebackControl::new(pages, mode))
    }

    /// Waits until nothing of `range` (bytes) is under write-back that was so when this began (`filemap_fdatawait_range`, without its errors).
    pub fn wait_on_writeback(&self, range: Range<u64>) {
        if self.memory || range.is_empty() {
            return;
        }
        let last = (range.end - 1) / PAGE;
        let mut from = range.start / PAGE;
        loop {
            let waits = {
                let mut tree = self.tree.lock();
                let mut found = None;
                for _ in 0..AT_ONCE {
                    if from > last {
                        return;
                    }
                    let Some((at, folio)) = tree.next_marked(from..=last, MARK_WRITEBACK) else { return };
                    from = at.saturating_add(1);
                    if folio.test(PageFlags::WRITEBACK) {
                        found = Some(folio.clone());
                        break;
                    }
                    tree.clear_mark(at, MARK_WRITEBACK);
                }
                found
            };
            if let Some(folio) = waits {
                folio_lock::wait_writeback(folio.page());
                let mut tree = self.tree.lock();
                // Another write-back may have begun.
                if !folio.test(PageFlags::WRITEBACK) && tree.get(from - 1) == Some(&folio) {
                    tree.clear_mark(from - 1, MARK_WRITEBACK);
                }
            }
        }
    }

    /// Writes the dirty folios of `range` (bytes) and waits for them (`filemap_write_and_wait_range`).
    ///
    /// # Errors
    /// What failed since somebody asked last: `EIO`, `ENOSPC`. For an open file use its own place in the sequence:
    /// [`Self::check_write_errors`] behind this.
    pub fn write_back(&self, range: Range<u64>) -> Result<()> {
        if self.memory {
            return Ok(());
        }
        let started = self.start_write_back(range.clone(), SyncMode::All);
        // After EIO waiting may make no sense, but what was started has to end.
        self.wait_on_writeback(range);
        let late = self.take_write_error();
        started.and(late)
    }

    // ---- errors ----------------------------------------------------------------------------

    /// Something could not be written. Any context.
    pub fn set_write_error(&self, error: Errno) {
        self.errors.sequence.set(error);
        let bit = if error == Errno::ENOSPC { PENDING_ENOSPC } else { PENDING_EIO };
        self.errors.pending.fetch_or(bit, Ordering::AcqRel);
    }

    /// What failed since somebody without an open file asked last (`filemap_check_errors`).
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`.
    pub fn take_write_error(&self) -> Result<()> {
        if self.errors.pending.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        match self.errors.pending.swap(0, Ordering::AcqRel) {
            0 => Ok(()),
            bits if bits & PENDING_EIO != 0 => Err(Errno::EIO),
            _ => Err(Errno::ENOSPC),
        }
    }

    /// The same, and the next who asks gets it too.
    pub(crate) fn peek_write_error(&self) -> Result<()> {
        match self.errors.pending.load(Ordering::Acquire) {
            0 => Ok(()),
            bits if bits & PENDING_EIO != 0 => Err(Errno::EIO),
            _ => Err(Errno::ENOSPC),
        }
    }

    /// Where in the sequence of errors a file begins that is opened now.
    pub fn write_error_position(&self) -> u32 {
        self.errors.sequence.sample()
    }

    /// What failed since `position`, which moves on: each open file gets to know each failure once (`file_check_and_advance_wb_err`).
    ///
    /// # Errors
    /// The last failure.
    pub fn check_write_errors(&self, position: &AtomicU32) -> Result<()> {
        let result = self.errors.sequence.check_and_advance(position);
        if result.is_err() {
            self.errors.pending.store(0, Ordering::Release);
        }
        result
    }

    /// The device that write-back goes to, if it is known.
    #[inline]
    pub fn device(&self) -> Option<&Arc<BackingDevice>> {
        self.device.as_ref()
    }

    /// Before the contents of a locked folio are changed: waits for its write-back if the device needs them to stay the same (checksums).
    #[inline]
    pub fn wait_stable(&self, page: &'static Page) {
        if page.test(PageFlags::WRITEBACK) && self.device().is_some_and(|device| device.needs_stable_pages())
        {
            folio_lock::wait_writeback(page);
        }
    }
}
