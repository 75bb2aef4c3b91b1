//! Transfers past the page cache (`O_DIRECT`).
//!
//! What is asked for goes to the device as it is: positions, lengths and addresses must be aligned to what the device can do, or that is
//! `EINVAL`. The page cache is written back and dropped before, and dropped again behind a write, so that both ways see the same.
//!
//! The data passes through pages of the kernel's, in waves of up to a mebibyte with all of their bios in flight at once. The user's own pages
//! are not given to the device: that would save the copy.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLockIrq;
use block::{Bio, BlockDevice, End, EndIo, Limits, Op, OpFlags, Plug};
use collections::fifo::Chained;
use mm::fallible::{TryVec, try_with_capacity};
use mm::{Folio, Gfp, IovIter, Mapping, Order, try_arc};
use sched::wait::WaitQueue;

use crate::extent::{Kind, Mapper, Purpose, map};
use crate::pieces::sector;

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes of a wave.
const WAVE: u64 = 1 << 20;

/// Bios that somebody waits for.
struct Flight {
    open: AtomicUsize,
    error: SpinLockIrq<Option<Errno>>,
    over: WaitQueue,
}

impl EndIo for Flight {
    fn end_io(&self, bio: Chained<Bio>) {
        if let Err(error) = bio.status.result() {
            self.error.lock().get_or_insert(error);
        }
        drop(bio);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.over.wake_all();
        }
    }
}

/// Memory that the data passes through, and the bios that are on their way.
struct Wave<'a> {
    device: &'a BlockDevice,
    op: Op,
    folios: Vec<Folio>,
    flight: Arc<Flight>,
    plug: Plug,
}

impl<'a> Wave<'a> {
    fn new(device: &'a BlockDevice, op: Op, len: u64) -> Result<Self> {
        let pages = len.div_ceil(PAGE) as usize;
        let mut folios = try_with_capacity(pages)?;
        for _ in 0..pages {
            folios.push_reserved(Folio::alloc(Gfp::KERNEL, Order::ZERO)?);
        }
        let flight = try_arc(Flight {
            open: AtomicUsize::new(1),
            error: SpinLockIrq::new(None),
            over: WaitQueue::new(),
        })?;
        Ok(Self { device, op, folios, flight, plug: Plug::new() })
    }

    /// Calls `f` with the parts of pages that `range` of the memory consists of.
    fn parts(&self, range: Range<u64>, mut f: impl FnMut(&Folio, usize, usize) -> Result<()>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let inside = (at % PAGE) as usize;
            let len = (range.end - at).min((PAGE_SIZE - inside) as u64) as usize;
            f(self.folios.get((at / PAGE) as usize).ok_or(Errno::EIO)?, inside, len)?;
            at += len as u64;
        }
        Ok(())
    }

    fn send(&mut self, bio: Chained<Bio>) {
        self.flight.open.fetch_add(1, Ordering::Relaxed);
        self.device.submit(bio, Some(&mut self.plug));
    }

    /// Transfers `range` of the memory to or from `addr`.
    fn transfer(&mut self, range: Range<u64>, addr: u64) -> Result<()> {
        let pieces = (range.end - range.start).div_ceil(PAGE) as usize + 1;
        let end = End::Shared(self.flight.clone());
        let mut bio = Bio::new(self.op, OpFlags::SYNC, sector(addr), pieces, end)?;
        self.parts(range, |folio, inside, len| bio.push(folio, inside, len))?;
        self.send(bio);
        Ok(())
    }

    /// Writes zeros to `len` bytes at `addr`, less than a block of the file system.
    fn write_zeros(&mut self, addr: u64, len: u64) -> Result<()> {
        let zeros = Folio::alloc(Gfp::KERNEL | Gfp::ZERO, Order::ZERO)?;
        let end = End::Shared(self.flight.clone());
        let mut bio = Bio::new(Op::Write, OpFlags::SYNC, sector(addr), 1, end)?;
        bio.push(&zeros, 0, len as usize)?;
        self.send(bio);
        Ok(())
    }

    /// Sleeps until all is over; also behind a failure, since the memory is in use until then.
    fn wait(&mut self) -> Result<()> {
        self.plug.flush();
        self.flight.open.fetch_sub(1, Ordering::AcqRel);
        self.flight.over.wait_event(|| self.flight.open.load(Ordering::Acquire) == 0);
        self.flight.open.store(1, Ordering::Relaxed);
        self.flight.error.lock().take().map_or(Ok(()), Err)
    }
}

/// Whether the device can do it as it is asked for: `EINVAL`.
fn check_alignment(iter: &mut IovIter<'_>, pos: u64, limits: &Limits) -> Result<()> {
    let block = u64::from(limits.logical_block_size.max(512));
    if !(pos | iter.count() as u64).is_multiple_of(block) {
        return Err(Errno::EINVAL);
    }
    let start = iter.position();
    let mut result = Ok(());
    while !iter.is_empty() {
        let len = iter.segment_len();
        let memory = iter.user_addr().unwrap_or(0) & limits.dma_alignment as usize;
        if memory != 0 || !(len as u64).is_multiple_of(block) {
            result = Err(Errno::EINVAL);
            break;
        }
        if len == 0 {
            break;
        }
        iter.advance(len);
    }
    iter.restore(start);
    result
}

/// Reads at `pos` to the end of the file at most. A short count means the end of the file or memory that cannot be reached.
///
/// # Errors
/// `EINVAL`: not aligned; `ENOTBLK`: the data is with the inode, to be read through the page cache; `EFAULT`, `ENOMEM`; those of the device and the
/// file system.
pub fn direct_read<M: Mapper>(
    mapper: &M,
    mapping: &Mapping,
    iter: &mut IovIter<'_>,
    pos: u64,
) -> Result<usize> {
    let device = mapper.device()?;
    let limits = device.limits();
    check_alignment(iter, pos, &limits)?;
    let size = mapping.size();
    if iter.is_empty() || pos >= size {
        return Ok(0);
    }
    let block = u64::from(limits.logical_block_size.max(512));
    let end = size.min(pos + iter.count() as u64);
    mapping.write_back(pos..end)?;
    let mut at = pos;
    while at < end {
        let stop = end.min(at + WAVE);
        let mut wave = Wave::new(&device, Op::Read, (stop - at).next_multiple_of(block))?;
        {
            // The blocks stay the file's while they are read; not while the user's memory is touched, which may be a mapping of this file.
            let _shared = mapping.invalidate_lock().read();
            let gathered = gather(mapper, &mut wave, at..stop, block);
            let flown = wave.wait();
            gathered.and(flown)?;
        }
        let mut moved = 0;
        let _ = wave.parts(0..stop - at, |folio, inside, len| {
            let now = iter.copy_folio_to_iter(folio, inside, len);
            moved += now as u64;
            if now < len { Err(Errno::EFAULT) } else { Ok(()) }
        });
        at += moved;
        if at < stop {
            return mm::iov::short_or_fault((at - pos) as usize);
        }
    }
    Ok((at - pos) as usize)
}

/// Reads `range` of the file into the memory of the wave.
fn gather<M: Mapper>(mapper: &M, wave: &mut Wave<'_>, range: Range<u64>, block: u64) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let extent = map(mapper, at, range.end - at, Purpose::Read)?;
        let stop = extent.end().min(range.end);
        let (from, to) = (at - range.start, stop - range.start);
        match extent.kind {
            Kind::Mapped => {
                let addr = extent.addr_of(at).ok_or(Errno::EIO)?;
                wave.transfer(from..to.next_multiple_of(block), addr)?;
            }
            Kind::Inline => return Err(Errno::ENOTBLK),
            Kind::Hole | Kind::Delayed | Kind::Unwritten => {
                wave.parts(from..to, |folio, inside, len| folio.fill(inside, len, 0).map_err(|_| Errno::EIO))?
            }
        }
        at = stop;
    }
    Ok(())
}

/// Writes at `pos`, enlarging the file as needed. The caller holds the inode's lock exclusively and has checked limits. Returns the bytes written,
/// if any.
///
/// # Errors
/// `EINVAL`: not aligned; `ENOTBLK`: something of the file is in use in the page cache, and it must be written through that; `EFAULT`, `ENOMEM`;
/// those of the device and the file system.
pub fn direct_write<M: Mapper>(
    mapper: &M,
    mapping: &Mapping,
    iter: &mut IovIter<'_>,
    pos: u64,
) -> Result<usize> {
    let device = mapper.device()?;
    let limits = device.limits();
    check_alignment(iter, pos, &limits)?;
    if iter.is_empty() {
        return Ok(0);
    }
    let end = pos.checked_add(iter.count() as u64).ok_or(Errno::EFBIG)?;
    mapping.write_back(pos..end)?;
    let pages = pos / PAGE..end.div_ceil(PAGE);
    mapping.invalidate_all(pages.clone()).map_err(|_| Errno::ENOTBLK)?;
    let block = u64::from(limits.logical_block_size.max(512));
    let mut at = pos;
    let mut result = Ok(());
    while at < end && result.is_ok() {
        match write_wave(mapper, &device, iter, at..end.min(at + WAVE), block) {
            Ok(0) => break,
            Ok(moved) => {
                at += moved;
                if at > mapping.size() {
                    mapping.set_size(at);
                }
            }
            Err(error) => result = Err(error),
        }
    }
    // Somebody may have read, or had a page fault, meanwhile; what cannot go because it is dirty is newer anyway.
    let _ = mapping.invalidate_all(pages);
    match result {
        Err(error) if at == pos => Err(error),
        _ => mm::iov::short_or_fault((at - pos) as usize),
    }
}

/// Writes a part; how many bytes, 0 if nothing could be had from the user.
fn write_wave<M: Mapper>(
    mapper: &M,
    device: &BlockDevice,
    iter: &mut IovIter<'_>,
    range: Range<u64>,
    block: u64,
) -> Result<u64> {
    let mut wave = Wave::new(device, Op::Write, range.end - range.start)?;
    let mut moved = 0;
    let _ = wave.parts(0..range.end - range.start, |folio, inside, len| {
        let now = iter.copy_folio_from_iter(folio, inside, len);
        moved += now as u64;
        if now < len { Err(Errno::EFAULT) } else { Ok(()) }
    });
    let whole = moved / block * block;
    iter.unwind((moved - whole) as usize);
    let end = range.start + whole;
    let mut follows: Option<Range<u64>> = None;
    let scattered = scatter(mapper, &mut wave, range.start..end, &mut follows);
    let flown = wave.wait();
    let result = scattered.and(flown);
    match follows {
        Some(range) => mapper.written(range, result)?,
        None => result?,
    }
    Ok(whole)
}

/// Writes the memory of the wave to `range` of the file. `follows`: what the file system has to hear of.
fn scatter<M: Mapper>(
    mapper: &M,
    wave: &mut Wave<'_>,
    range: Range<u64>,
    follows: &mut Option<Range<u64>>,
) -> Result<()> {
    let block = u64::from(mapper.block_size());
    let disk_size = mapper.disk_size();
    let mut at = range.start;
    while at < range.end {
        let extent = map(mapper, at, range.end - at, Purpose::DirectWrite)?;
        let stop = extent.end().min(range.end);
        let addr = extent.addr_of(at).ok_or(Errno::EIO)?;
        let fresh = extent.kind == Kind::Unwritten || extent.new;
        if fresh || stop > disk_size {
            let first = follows.as_ref().map_or(at, |range| range.start);
            *follows = Some(first..stop);
        }
        if fresh {
            // The rest of the first and the last block holds what is not the file's.
            let (head, tail) = (at % block, stop.next_multiple_of(block) - stop);
            if head != 0 {
                wave.write_zeros(addr.checked_sub(head).ok_or(Errno::EIO)?, head)?;
            }
            if tail != 0 {
                wave.write_zeros(addr + (stop - at), tail)?;
            }
        }
        wave.transfer(at - range.start..stop - range.start, addr)?;
        at = stop;
    }
    Ok(())
}
