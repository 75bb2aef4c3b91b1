//! Transfers that somebody waits for.

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use collections::fifo::Chained;
use mm::{Folio, Gfp, Order, try_arc};
use sched::completion::Completion;

use crate::bio::{Bio, End, EndIo, Op, OpFlags, SECTOR_SHIFT, SECTOR_SIZE};
use crate::disk::device::BlockDevice;

/// log2 of the pages of a piece of memory that bytes go through.
const BUFFER_ORDER: u8 = 4;
/// How often a bio that writes zeroes has the same memory in it.
const ZERO_PIECES: usize = 16;

/// How sectors are to become zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeroing {
    /// The device may not give the space back.
    pub keep_space: bool,
    /// If the device has no command for it, that is an error: nothing is written instead.
    pub no_fallback: bool,
}

/// One who waits for a bio.
struct Waiter {
    over: Completion,
    bio: SpinLockIrq<Option<Chained<Bio>>>,
}

impl EndIo for Waiter {
    fn end_io(&self, bio: Chained<Bio>) {
        *self.bio.lock() = Some(bio);
        self.over.complete();
    }
}

impl BlockDevice {
    /// Submits a bio and sleeps until it is over. To whom it would go otherwise does not matter.
    ///
    /// # Errors
    /// What [`crate::Status`] says; `ENOMEM`.
    pub fn submit_and_wait(&self, mut bio: Chained<Bio>) -> Result<Chained<Bio>> {
        let waiter = try_arc(Waiter { over: Completion::new(), bio: SpinLockIrq::new(None) })?;
        bio.set_end(End::Shared(waiter.clone()));
        self.submit(bio, None);
        waiter.over.wait();
        let bio = waiter.bio.lock().take().ok_or(Errno::EIO)?;
        bio.status.result()?;
        Ok(bio)
    }

    /// What the device has taken survives a power cut from now on. Does nothing for a device without a write cache.
    ///
    /// # Errors
    /// What the device says; `ENOMEM`.
    pub fn flush(&self) -> Result<()> {
        if !self.queue().limits()?.has_write_cache() {
            return Ok(());
        }
        let bio = Bio::without_data(Op::Flush, OpFlags::SYNC, 0, 0, End::Nobody)?;
        self.submit_and_wait(bio).map(drop)
    }

    /// Nobody needs these sectors' contents any more.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: there is no discard; `EPERM`: it is read-only; `EINVAL`: not whole blocks; what the device says.
    pub fn discard(&self, sector: u64, sectors: u64) -> Result<()> {
        self.without_data(Op::Discard, OpFlags::empty(), sector, sectors)
    }

    /// The same, and nobody may be able to read them again.
    ///
    /// # Errors
    /// Those of [`discard`](Self::discard).
    pub fn secure_erase(&self, sector: u64, sectors: u64) -> Result<()> {
        self.without_data(Op::SecureErase, OpFlags::empty(), sector, sectors)
    }

    /// The sectors read as zeroes from now on: by a command of the device if it has one, by writing zeroes otherwise.
    ///
    /// # Errors
    /// `EPERM`: it is read-only; `EINVAL`: not whole blocks; `EOPNOTSUPP`: there is no command, and that was all that was wanted; what the
    /// device says; `ENOMEM`.
    pub fn write_zeroes(&self, sector: u64, sectors: u64, how: Zeroing) -> Result<()> {
        let flags = if how.keep_space { OpFlags::NOUNMAP } else { OpFlags::empty() };
        match self.without_data(Op::WriteZeroes, flags, sector, sectors) {
            Err(Errno::EOPNOTSUPP) if !how.no_fallback => self.write_zero_pages(sector, sectors),
            result => result,
        }
    }

    fn without_data(&self, op: Op, flags: OpFlags, sector: u64, sectors: u64) -> Result<()> {
        let limits = self.limits();
        if self.is_read_only() {
            return Err(Errno::EPERM);
        }
        let block = u64::from(limits.logical_block_size >> SECTOR_SHIFT);
        if !(sector | sectors).is_multiple_of(block) || sectors == 0 {
            return Err(Errno::EINVAL);
        }
        if limits.max_bytes(op, 0) == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.submit_and_wait(Bio::without_data(op, flags, sector, sectors, End::Nobody)?).map(drop)
    }

    fn write_zero_pages(&self, mut sector: u64, sectors: u64) -> Result<()> {
        let end = sector.checked_add(sectors).ok_or(Errno::EINVAL)?;
        let zeroes = buffer()?;
        zeroes.fill(0, zeroes.size(), 0).map_err(|_| Errno::EIO)?;
        while sector < end {
            let mut bio = Bio::new(Op::Write, OpFlags::empty(), sector, ZERO_PIECES, End::Nobody)?;
            while sector < end && bio.segments().len() < ZERO_PIECES {
                let len = ((end - sector) << SECTOR_SHIFT).min(zeroes.size() as u64);
                bio.push(&zeroes, 0, len as usize)?;
                sector += len >> SECTOR_SHIFT;
            }
            self.submit_and_wait(bio)?;
        }
        Ok(())
    }

    /// Reads `to.len()` bytes from byte `pos` on: whole blocks of the device. For tables and superblocks: there is no cache.
    ///
    /// # Errors
    /// `EIO`: beyond the end, or not whole blocks; what the device says; `ENOMEM`.
    pub fn read_bytes(&self, pos: u64, to: &mut [u8]) -> Result<()> {
        let memory = buffer()?;
        let mut sector = self.sector_of(pos, to.len())?;
        for part in to.chunks_mut(memory.size()) {
            let mut bio = Bio::new(Op::Read, OpFlags::SYNC | OpFlags::META, sector, 1, End::Nobody)?;
            bio.push(&memory, 0, part.len())?;
            self.submit_and_wait(bio)?;
            memory.copy_out(0, part).map_err(|_| Errno::EIO)?;
            sector += part.len() as u64 >> SECTOR_SHIFT;
        }
        Ok(())
    }

    /// Writes `from` from byte `pos` on: whole blocks of the device.
    ///
    /// # Errors
    /// Those of [`read_bytes`](Self::read_bytes).
    pub fn write_bytes(&self, pos: u64, from: &[u8]) -> Result<()> {
        let mut sector = self.sector_of(pos, from.len())?;
        let memory = buffer()?;
        for part in from.chunks(memory.size()) {
            memory.copy_in(0, part).map_err(|_| Errno::EIO)?;
            let mut bio = Bio::new(Op::Write, OpFlags::SYNC | OpFlags::META, sector, 1, End::Nobody)?;
            bio.push(&memory, 0, part.len())?;
            self.submit_and_wait(bio)?;
            sector += part.len() as u64 >> SECTOR_SHIFT;
        }
        Ok(())
    }

    fn sector_of(&self, pos: u64, len: usize) -> Result<u64> {
        let block = u64::from(self.limits().logical_block_size);
        if !(pos | len as u64).is_multiple_of(block.max(SECTOR_SIZE)) {
            return Err(Errno::EIO);
        }
        Ok(pos >> SECTOR_SHIFT)
    }
}

/// Memory for transfers: a large piece, or a page if there is none.
fn buffer() -> Result<Folio> {
    let of = |order| Order::new(order).ok_or(Errno::EINVAL);
    match Folio::alloc(Gfp::KERNEL, of(BUFFER_ORDER)?) {
        Ok(folio) => Ok(folio),
        Err(_) => Ok(Folio::alloc(Gfp::KERNEL, of(0)?)?),
    }
}
