//! One change of the file system, of any number of blocks: all of it is on the device after a crash, or nothing. Without a journal it is
//! written some time.

pub use jbd2::{Committed, Handle};

use abi::{Errno, Result};

use crate::volume::Volume;

/// Attempts of what finds no room while freed blocks wait for their change.
const ATTEMPTS: u32 = 3;

impl Volume {
    /// Begins a change of at most `credits` blocks. The thread has no other one.
    ///
    /// # Errors
    /// `EROFS` if the journal was aborted; `EIO`, `ENOMEM`.
    pub fn start(&self, credits: u32) -> Result<Handle> {
        match &self.journal {
            Some(journal) => journal.start(credits),
            None => Ok(Handle::without_journal(&self.cache)),
        }
    }

    /// Does what may need room: once more if there was none, but freed blocks wait for their change to be on the device.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn with_room<R>(&self, mut f: impl FnMut() -> Result<R>) -> Result<R> {
        let mut attempts = 1;
        loop {
            match f() {
                Err(Errno::ENOSPC) if attempts < ATTEMPTS && self.groups.waiting() > 0 => {
                    let Some(journal) = &self.journal else { return Err(Errno::ENOSPC) };
                    journal.force_commit()?;
                    attempts += 1;
                }
                result => return result,
            }
        }
    }
}
