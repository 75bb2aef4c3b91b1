//! Buffered reads and writes: `generic_file_read_iter` and `generic_perform_write`.

use super::{Mapping, PAGE, READ_BATCH};
use crate::iov::{IovIter, short_or_fault};
use crate::lru;
use crate::page::PageFlags;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;

impl Mapping {
    /// Reads at `pos` into `iter` (`generic_file_read_iter`): to the end of the file at most. A short count means end of file or an
    /// inaccessible page; `EFAULT` if not even one byte could be delivered.
    pub fn read(&self, iter: &mut IovIter<'_>, mut pos: u64) -> Result<usize> {
        let mut done = 0;
        while !iter.is_empty() {
            let size = self.size();
            if pos >= size {
                break;
            }
            let want = (iter.count() as u64).min(size - pos) as usize;
            let step = match self.read_some(iter, pos, want) {
                Ok(step) => step,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            done += step.moved;
            pos += step.moved as u64;
            if step.faulted {
                return short_or_fault(done);
            }
        }
        Ok(done)
    }

    fn read_some(&self, iter: &mut IovIter<'_>, pos: u64, want: usize) -> Result<Step> {
        let mut batch = [const { None }; READ_BATCH];
        let offset = (pos % PAGE) as usize;
        let pages = (offset + want).div_ceil(PAGE_SIZE).min(READ_BATCH);
        let index = pos / PAGE;
        let mut found = self.get_batch(index, &mut batch[..pages]);
        if found == 0 {
            if self.memory {
                let len = want.min(PAGE_SIZE - offset);
                let moved = iter.zero(len);
                return Ok(Step { moved, faulted: moved < len });
            }
            batch[0] = Some(self.read_page(index)?);
            found = 1;
        }
        let mut moved = 0;
        let mut offset = offset;
        for folio in batch.iter().take(found).flatten() {
            if !folio.test(PageFlags::UPTODATE) {
                if moved > 0 {
                    break;
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
        while !iter.is_empty() {
            match self.write_page(iter, pos) {
                Ok(0) => {
                    let offset = (pos % PAGE) as usize;
                    if iter.fault_in_readable((PAGE_SIZE - offset).min(iter.count())) == 0 {
                        return short_or_fault(done);
                    }
                }
                Ok(moved) => {
                    done += moved;
                    pos += moved as u64;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write_page(&self, iter: &mut IovIter<'_>, pos: u64) -> Result<usize> {
        if pos >= self.ops.max_bytes() {
            return Err(Errno::EFBIG);
        }
        let offset = (pos % PAGE) as usize;
        let index = pos / PAGE;
        let room = (self.ops.max_bytes() - pos).min((PAGE_SIZE - offset) as u64) as usize;
        let len = room.min(iter.count());
        self.ops.prepare_write(self, index, false)?;
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
        let moved = {
            // The source may be a mapping of this very folio, whose fault would wait for our lock.
            let _no_fault = iter.is_user().then(arch::uaccess::NoFault::new);
            iter.copy_folio_from_iter(guard.folio(), offset, len)
        };
        if moved < len && !guard.page().test(PageFlags::UPTODATE) {
            // The bytes that did not come are what the object has there: zeros, or (a whole page was to be
            // overwritten) what a read would bring, in which case the write begins again.
            if whole && !self.memory && index * PAGE < self.size() {
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
