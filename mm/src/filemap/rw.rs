//! Buffered reads and writes: `generic_file_read_iter` and `generic_perform_write`.

use super::{Mapping, PAGE, Prepared, READ_BATCH};
use crate::iov::IovIter;
use crate::page::PageFlags;
use crate::readahead::ReadState;
use crate::{lru, writeback};
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;

/// Whether a read may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// For what is not there.
    Wait,
    /// No: `EAGAIN` instead (`RWF_NOWAIT`).
    NoWait,
}

/// The readahead state of an open file during one call.
struct Ahead<'a> {
    place: Option<&'a SpinLock<ReadState>>,
    state: Option<ReadState>,
}

impl Ahead<'_> {
    fn state(&mut self) -> &mut ReadState {
        let place = self.place;
        self.state.get_or_insert_with(|| place.map_or_else(ReadState::new, |place| *place.lock()))
    }

    /// The call has read up to `end`.
    fn finish(self, end: u64) {
        let Some(place) = self.place else { return };
        let mut place = place.lock();
        if let Some(state) = self.state {
            *place = ReadState { advice: place.advice, pages: place.pages, ..state };
        }
        place.previous = end;
    }
}

impl Mapping {
    /// Reads at `pos` into `iter` (`generic_file_read_iter`): to the end of the file at most. A short count means end of file or an
    /// inaccessible page; `EFAULT` if not even one byte could be delivered.
    pub fn read(&self, iter: &mut IovIter<'_>, pos: u64) -> Result<usize> {
        self.read_with(iter, pos, None, ReadMode::Wait)
    }

    /// The same for an open file, whose readahead state is at `place`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); `EAGAIN`.
    pub fn read_with(
        &self,
        iter: &mut IovIter<'_>,
        mut pos: u64,
        place: Option<&SpinLock<ReadState>>,
        mode: ReadMode,
    ) -> Result<usize> {
        let mut done = 0;
        let mut ahead = Ahead { place, state: None };
        let mut result = Ok(());
        while !iter.is_empty() {
            let size = self.size();
            if pos >= size {
                break;
            }
            let want = (iter.count() as u64).min(size - pos) as usize;
            let step = match self.read_some(iter, pos, want, &mut ahead, mode) {
                Ok(step) => step,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            done += step.moved;
            pos += step.moved as u64;
            if step.faulted {
                result = Err(Errno::EFAULT);
                break;
            }
        }
        if !self.memory {
            ahead.finish(pos);
        }
        match result {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    fn read_some(
        &self,
        iter: &mut IovIter<'_>,
        pos: u64,
        want: usize,
        ahead: &mut Ahead<'_>,
        mode: ReadMode,
    ) -> Result<Step> {
        let mut batch = [const { None }; READ_BATCH];
        let offset = (pos % PAGE) as usize;
        let all = (offset + want).div_ceil(PAGE_SIZE);
        let pages = all.min(READ_BATCH);
        let index = pos / PAGE;
        let mut found = self.get_batch(index, &mut batch[..pages]);
        if found == 0 {
            if self.memory {
                let len = want.min(PAGE_SIZE - offset);
                let moved = iter.zero(len);
                return Ok(Step { moved, faulted: moved < len });
            }
            if mode == ReadMode::NoWait {
                return Err(Errno::EAGAIN);
            }
            self.read_ahead_missing(ahead.state(), index, all as u32);
            found = self.get_batch(index, &mut batch[..pages]);
            if found == 0 {
                batch[0] = Some(self.read_page(index)?);
                found = 1;
            }
        }
        let mut moved = 0;
        let mut offset = offset;
        for folio in batch.iter().take(found).flatten() {
            let flags = folio.flags();
            if flags.contains(PageFlags::READAHEAD) && mode == ReadMode::Wait {
                let left = (offset + want - moved).div_ceil(PAGE_SIZE);
                self.read_ahead_marked(ahead.state(), folio, left as u32);
            }
            if !flags.contains(PageFlags::UPTODATE) {
                if moved > 0 {
                    break;
                }
                if mode == ReadMode::NoWait {
                    return Err(Errno::EAGAIN);
                }
                drop(self.read_page(folio.index())?);
                if !folio.test(PageFlags::UPTODATE) {
                    // Truncated and read again as another folio: look it up afresh.
                    return Ok(Step { moved: 0, faulted: false });
                }
            }
            let len = (PAGE_SIZE - offset).min(want - moved);
            let now = iter.copy_folio_to_iter(folio, offset, len);
            if !self.memory {
                lru::mark_accessed(folio);
            }
            moved += now;
            if now < len {
                return Ok(Step { moved, faulted: true });
            }
            offset = 0;
        }
        Ok(Step { moved, faulted: false })
    }

    /// Writes `iter` at `pos` (`generic_perform_write`), enlarging the object as needed. The caller holds the inode's lock and has
    /// checked limits. Returns the bytes written if any.
    pub fn write(&self, iter: &mut IovIter<'_>, mut pos: u64) -> Result<usize> {
        let mut done = 0;
        // Up to where the file system has room for what comes.
        let mut prepared = Prepared { end: if self.memory { u64::MAX } else { 0 }, fresh: false };
        let mut result = Ok(());
        while !iter.is_empty() {
            if pos >= prepared.end {
                let step = pos.checked_add(iter.count() as u64).ok_or(Errno::EFBIG);
                let step = step.and_then(|end| self.ops.prepare_write(self, pos, end - pos));
                match step {
                    Ok(now) if now.end > pos => prepared = now,
                    Ok(_) => result = Err(Errno::EIO),
                    Err(error) => result = Err(error),
                }
                if result.is_err() {
                    break;
                }
            }
            match self.write_page(iter, pos, prepared) {
                Ok(0) => {
                    let offset = (pos % PAGE) as usize;
                    if iter.fault_in_readable((PAGE_SIZE - offset).min(iter.count())) == 0 {
                        result = Err(Errno::EFAULT);
                        break;
                    }
                }
                Ok(moved) => {
                    done += moved;
                    pos += moved as u64;
                    if !self.memory && writeback::balance(self).is_err() {
                        result = Err(Errno::EINTR);
                        break;
                    }
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if !self.memory && pos < prepared.end {
            self.ops.unprepare(self, pos..prepared.end, prepared);
        }
        match result {
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    fn write_page(&self, iter: &mut IovIter<'_>, pos: u64, prepared: Prepared) -> Result<usize> {
        if pos >= self.ops.max_bytes() {
            return Err(Errno::EFBIG);
        }
        let offset = (pos % PAGE) as usize;
        let index = pos / PAGE;
        let room =
            (self.ops.max_bytes() - pos).min(prepared.end - pos).min((PAGE_SIZE - offset) as u64) as usize;
        let len = room.min(iter.count());
        let guard = self.find_or_create_locked(index)?;
        let whole = offset == 0 && len == PAGE_SIZE;
        let fresh = !guard.page().test(PageFlags::UPTODATE);
        if fresh && !whole {
            if index * PAGE >= self.size() {
                // Nothing on the backing store: the rest is zero.
                guard.zero(0..offset);
                guard.zero(offset + len..PAGE_SIZE);
            } else {
                self.fill(&guard)?;
            }
        }
        if !self.memory {
            self.wait_stable(guard.page());
        }
        let moved = {
            // The source may be a mapping of this very folio, whose fault would wait for our lock.
            let _no_fault = iter.is_user().then(arch::uaccess::NoFault::new);
            iter.copy_folio_from_iter(guard.folio(), offset, len)
        };
        if moved < len && !guard.page().test(PageFlags::UPTODATE) {
            // The bytes that did not come are what the object has there: zeros, or (a whole page was to be
            // overwritten) what a read would bring, in which case the write begins again.
            if whole && !self.memory && !prepared.fresh && index * PAGE < self.size() {
                iter.unwind(moved);
                self.fill(&guard)?;
                return Ok(0);
            }
            guard.zero(offset + moved..offset + len);
            guard.mark_uptodate();
        }
        if moved == 0 {
            return Ok(0);
        }
        guard.mark_uptodate();
        self.set_dirty(guard.page());
        let end = pos + moved as u64;
        if end > self.size() {
            self.set_size(end);
        }
        if !self.memory {
            lru::mark_accessed(guard.folio());
        }
        Ok(moved)
    }
}

struct Step {
    moved: usize,
    faulted: bool,
}
