//! `O_DIRECT`: transfers between the caller's memory and the device, past the page cache.
//!
//! The data goes through memory of the kernel's own, of which there is a limited amount at a time: a caller's pages are not pinned for it.

use abi::{Errno, Result};
use block::bio::SECTOR_SHIFT;
use block::{Bio, BlockDevice, End, Op, OpFlags};
use mm::fallible::{TryVec, try_with_capacity};
use mm::{Folio, Gfp, IovIter, Order};

/// log2 of the pages of a piece of memory.
const ORDER: u8 = 4;
/// So many pieces are used at a time.
const PIECES: usize = 8;

/// Whether the position, the length and the memory are such that the device can do it.
pub fn check(device: &BlockDevice, iter: &IovIter<'_>, pos: u64) -> Result<()> {
    let limits = device.limits();
    let block = u64::from(limits.logical_block_size) - 1;
    let memory = iter.alignment() as u64 & u64::from(limits.dma_alignment);
    if (pos | iter.count() as u64) & block != 0 || memory != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn piece() -> Result<Folio> {
    let of = |order| Order::new(order).ok_or(Errno::EINVAL);
    match Folio::alloc(Gfp::KERNEL, of(ORDER)?) {
        Ok(folio) => Ok(folio),
        Err(_) => Ok(Folio::alloc(Gfp::KERNEL, of(0)?)?),
    }
}

/// Reads at `pos` into `iter`, of which all is within the device. How many bytes.
///
/// # Errors
/// If there were none: `EFAULT`, `ENOMEM`, and what the device says.
pub fn read(device: &BlockDevice, iter: &mut IovIter<'_>, pos: u64, flags: OpFlags) -> Result<usize> {
    each(device, Op::Read, iter, pos, flags)
}

/// Writes `iter` at `pos`; otherwise as [`read`].
///
/// # Errors
/// See there.
pub fn write(device: &BlockDevice, iter: &mut IovIter<'_>, pos: u64, flags: OpFlags) -> Result<usize> {
    each(device, Op::Write, iter, pos, flags)
}

fn each(device: &BlockDevice, op: Op, iter: &mut IovIter<'_>, pos: u64, flags: OpFlags) -> Result<usize> {
    let mut pieces = try_with_capacity::<Folio>(PIECES)?;
    let mut done = 0;
    while !iter.is_empty() {
        let step = chunk(device, op, iter, pos + done as u64, flags, &mut pieces);
        match step {
            Ok(0) => break,
            Ok(moved) => done += moved,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// As much as the memory takes.
fn chunk(
    device: &BlockDevice,
    op: Op,
    iter: &mut IovIter<'_>,
    pos: u64,
    flags: OpFlags,
    pieces: &mut alloc::vec::Vec<Folio>,
) -> Result<usize> {
    let mut bio = Bio::new(op, flags, pos >> SECTOR_SHIFT, PIECES, End::Nobody)?;
    let mut left = iter.count();
    let mut used = 0;
    while left > 0 && used < PIECES {
        if used == pieces.len() {
            pieces.try_push(piece()?)?;
        }
        let Some(folio) = pieces.get(used) else { break };
        let len = left.min(folio.size());
        if op == Op::Write && iter.copy_folio_from_iter(folio, 0, len) < len {
            return Err(Errno::EFAULT);
        }
        bio.push(folio, 0, len)?;
        left -= len;
        used += 1;
    }
    let len = bio.len() as usize;
    let bio = device.submit_and_wait(bio)?;
    if op == Op::Read {
        let mut moved = 0;
        for (segment, folio) in bio.segments().iter().zip(pieces.iter()) {
            let now = iter.copy_folio_to_iter(folio, 0, segment.len() as usize);
            moved += now;
            if now < segment.len() as usize {
                return if moved == 0 { Err(Errno::EFAULT) } else { Ok(moved) };
            }
        }
    }
    Ok(len)
}
