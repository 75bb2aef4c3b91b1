//! One change of the file system, of any number of blocks: all of it is on the device after a crash, or nothing. Without a journal it is
//! written some time.

pub use jbd2::{Committed, Handle};

use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use jbd2::{Extent, JournalPlace};
use mm::TryVec;

use crate::extent_write::{Kind, Map};
use crate::raw::RawInode;
use crate::volume::{CORRUPT, Volume};

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

    /// Does something in one change of at most `credits` blocks. If it fails for want of memory or because of the device when a part of it is done,
    /// the file system is damaged, and that is reported (`ext4_std_error`); what fails otherwise has changed nothing.
    ///
    /// # Errors
    /// Those of [`start`](Self::start), of `f`, and of the end of the change.
    pub fn change<R>(
        &self,
        function: &'static str,
        credits: u32,
        f: impl FnOnce(&mut Handle) -> Result<R>,
    ) -> Result<R> {
        let mut tx = self.start(credits)?;
        let before = tx.credits();
        let result = f(&mut tx);
        if let Err(error @ (Errno::EIO | Errno::ENOMEM)) = result
            && tx.credits() != before
        {
            self.failed(function, error);
        }
        tx.stop()?;
        result
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

    /// Where the journal is that is the file `ino`. For who mounts: the volume that is asked has no journal yet, and is made once more when the
    /// journal was replayed.
    ///
    /// # Errors
    /// `EFSCORRUPTED` if it has holes or cannot be a journal; `EIO`, `ENOMEM`.
    pub fn journal_place(self: &Arc<Self>, ino: u32) -> Result<JournalPlace> {
        let node = RawInode::open(self, ino)?;
        let map = Map { volume: self, node: &node };
        let blocks = u32::try_from(node.size() >> self.layout.block_bits).map_err(|_| CORRUPT)?;
        let mut extents: Vec<Extent> = Vec::new();
        let mut first = 0;
        while first < blocks {
            let found = map.lookup(first, blocks - first)?;
            if found.kind != Kind::Mapped {
                return Err(self.damaged(
                    "ext4_journal_bmap",
                    ino,
                    0,
                    format_args!("journal bmap failed: block {first}"),
                ));
            }
            match extents.last_mut() {
                Some(last) if last.physical + u64::from(last.len) == found.start => last.len += found.len,
                _ => extents.try_push(Extent { first, len: found.len, physical: found.start })?,
            }
            first += found.len;
        }
        Ok(JournalPlace::Inode(extents))
    }
}
