//! Where the bytes of a dump go: a file with holes, or a pipe without.

use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use vfs::file::File;

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Takes a dump in order.
pub struct Sink {
    file: Arc<File>,
    /// Where the next byte goes.
    at: u64,
    /// Bytes that may still be written.
    left: u64,
    has_holes: bool,
    /// The last thing was a hole, which a file does not see.
    ends_in_hole: bool,
}

impl Sink {
    /// A file, of which at most `limit` bytes are written.
    pub fn file(file: Arc<File>, limit: u64) -> Self {
        Self { file, at: 0, left: limit, has_holes: true, ends_in_hole: false }
    }

    /// A pipe.
    pub fn pipe(file: Arc<File>) -> Self {
        Self { file, at: 0, left: u64::MAX, has_holes: false, ends_in_hole: false }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Writes.
    ///
    /// # Errors
    /// `EFBIG`: beyond the limit. `EINTR`: killed. Those of the file.
    pub fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if sched::current().has_fatal_signal() {
            return Err(Errno::EINTR);
        }
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        vfs::rw::kernel_write(&self.file, bytes, &mut self.at)?;
        self.ends_in_hole = false;
        sched::cond_resched();
        Ok(())
    }

    /// Leaves `len` bytes zero.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn skip(&mut self, len: u64) -> Result<()> {
        if self.has_holes {
            self.at = self.at.checked_add(len).ok_or(Errno::EFBIG)?;
            self.ends_in_hole |= len > 0;
            return if sched::current().has_fatal_signal() { Err(Errno::EINTR) } else { Ok(()) };
        }
        let mut left = len;
        while left > 0 {
            let step = left.min(PAGE_SIZE as u64);
            self.emit(ZEROS.get(..step as usize).unwrap_or_default())?;
            left -= step;
        }
        Ok(())
    }

    /// Skips to `position`.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn skip_to(&mut self, position: u64) -> Result<()> {
        self.skip(position.saturating_sub(self.at))
    }

    /// Makes a hole at the end part of the file.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn finish(&mut self) -> Result<()> {
        if self.ends_in_hole {
            self.at = self.at.saturating_sub(1);
            self.emit(&[0])?;
        }
        Ok(())
    }
}
