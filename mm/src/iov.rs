//! Scatter/gather cursors over user or kernel memory: what file data is moved through.
//!
//! An [`IovIter`] is a position in a list of segments together with a direction. A read goes
//! *to* an iterator ([`IovIter::dest`]), a write comes *from* one ([`IovIter::source`]). File systems
//! and drivers never see whether the memory is a user's or the kernel's, and never copy to users
//! themselves.
//!
//! Copies return how many bytes they moved: fewer than asked means that a user page could not
//! be accessed, and the iterator stands behind the last byte that was moved. Whether that is a short
//! result or `EFAULT` is the caller's decision ([`short_or_fault`]).
//!
//! [`import_iovec`] reads the segment list of `readv(2)` with Linux's limits.

use crate::fallible::try_vec;
use crate::folio::Folio;
use crate::pinned::PinnedPages;
use crate::user::access_ok;
use abi::fs::Iovec;
use abi::{Errno, Result};
use alloc::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

/// The most segments of one call (`IOV_MAX`).
pub const UIO_MAXIOV: usize = 1024;
/// The most bytes that one read or write transfers, as on Linux.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;
/// Segment lists up to this length need no allocation.
const UIO_FASTIOV: usize = 8;

/// Which way data moves through an iterator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The memory is read: `write(2)`.
    Source,
    /// The memory is written: `read(2)`.
    Dest,
}

/// The segments of a user list.
#[derive(Clone, Debug)]
enum UserSegments<'a> {
    Few([Iovec; UIO_FASTIOV], usize),
    Many(Vec<Iovec>),
    Kept(&'a [Iovec]),
}

impl UserSegments<'_> {
    fn as_slice(&self) -> &[Iovec] {
        match self {
            Self::Few(list, count) => list.get(..*count).unwrap_or_default(),
            Self::Many(list) => list,
            Self::Kept(list) => list,
        }
    }
}

#[derive(Debug)]
enum Memory<'a> {
    /// One user segment; the position is an offset from `base`.
    UserBuf { base: usize },
    /// Several user segments.
    User { segments: UserSegments<'a>, index: usize },
    /// Kernel bytes that are read.
    KernelSource(&'a [u8]),
    /// Kernel bytes that are written.
    KernelDest(&'a mut [u8]),
    /// Pages that are held; the position is an offset from `base` in them.
    Pages { pages: &'a PinnedPages, base: usize },
    /// Part of a folio; the position is an offset from `base` in it.
    Folio { folio: &'a Folio, base: usize },
    /// Reads as nothing but zero bytes, swallows what is written.
    Null,
}

/// A position in a list of segments. See the module documentation.
#[derive(Debug)]
pub struct IovIter<'a> {
    memory: Memory<'a>,
    direction: Direction,
    /// Position within the current segment (or the whole buffer).
    offset: usize,
    /// Bytes that are left.
    count: usize,
}

/// A position to go back to; see [`IovIter::position`].
#[derive(Clone, Copy, Debug)]
pub struct IovPosition {
    index: usize,
    offset: usize,
    count: usize,
}

impl<'a> IovIter<'a> {
    /// One user buffer. Fails with `EFAULT` if it does not lie in user space; its length is cut to
    /// [`MAX_RW_COUNT`].
    pub fn user(direction: Direction, base: usize, len: usize) -> Result<Self> {
        if !access_ok(base, len) {
            return Err(Errno::EFAULT);
        }
        let count = len.min(MAX_RW_COUNT);
        Ok(Self { memory: Memory::UserBuf { base }, direction, offset: 0, count })
    }

    /// A kernel buffer to read from.
    pub fn source(bytes: &'a [u8]) -> Self {
        let count = bytes.len();
        Self { memory: Memory::KernelSource(bytes), direction: Direction::Source, offset: 0, count }
    }

    /// A kernel buffer to write to.
    pub fn dest(bytes: &'a mut [u8]) -> Self {
        let count = bytes.len();
        Self { memory: Memory::KernelDest(bytes), direction: Direction::Dest, offset: 0, count }
    }

    /// `count` bytes at `base` of pages that are held (a registered buffer of `io_uring(7)`).
    pub fn pages(direction: Direction, pages: &'a PinnedPages, base: usize, count: usize) -> Self {
        let count = count.min(pages.len().saturating_sub(base)).min(MAX_RW_COUNT);
        Self { memory: Memory::Pages { pages, base }, direction, offset: 0, count }
    }

    /// `count` bytes at `base` of a folio (a piece of a block device's transfer).
    pub fn folio(direction: Direction, folio: &'a Folio, base: usize, count: usize) -> Self {
        let count = count.min(folio.size().saturating_sub(base));
        Self { memory: Memory::Folio { folio, base }, direction, offset: 0, count }
    }

    /// Swallows `count` bytes, or supplies as many zero bytes.
    pub fn null(direction: Direction, count: usize) -> Self {
        Self { memory: Memory::Null, direction, offset: 0, count }
    }

    /// Bytes that are left.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All bits that are set in an address or a length of what is left: how well it is aligned (`iov_iter_alignment`).
    pub fn alignment(&self) -> usize {
        match &self.memory {
            Memory::UserBuf { base } => base.wrapping_add(self.offset) | self.count,
            Memory::User { segments, index } => {
                let (mut skip, mut left, mut bits) = (self.offset, self.count, 0);
                for segment in segments.as_slice().iter().skip(*index) {
                    let len = segment.len.saturating_sub(skip).min(left);
                    if len > 0 {
                        bits |= segment.base.wrapping_add(skip) | len;
                    }
                    left -= len;
                    skip = 0;
                }
                bits
            }
            Memory::Pages { base, .. } | Memory::Folio { base, .. } => {
                base.wrapping_add(self.offset) | self.count
            }
            Memory::KernelSource(_) | Memory::KernelDest(_) | Memory::Null => self.count,
        }
    }

    /// The direction.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether the memory is a user's (and copies can fault).
    pub fn is_user(&self) -> bool {
        matches!(self.memory, Memory::UserBuf { .. } | Memory::User { .. })
    }

    /// Leaves at most `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    /// Gives back what [`Self::truncate`] cut off: `count` is what the iterator had before, less
    /// what was consumed since.
    pub fn reexpand(&mut self, count: usize) {
        self.count = count;
    }

    /// The present position.
    pub fn position(&self) -> IovPosition {
        let index = match &self.memory {
            Memory::User { index, .. } => *index,
            _ => 0,
        };
        IovPosition { index, offset: self.offset, count: self.count }
    }

    /// Goes back to a position taken earlier from this iterator.
    pub fn restore(&mut self, position: IovPosition) {
        if let Memory::User { index, .. } = &mut self.memory {
            *index = position.index;
        }
        self.offset = position.offset;
        self.count = position.count;
    }

    /// Skips `bytes` (at most what is left).
    pub fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.count);
        self.count -= bytes;
        match &mut self.memory {
            Memory::User { segments, index } => {
                let mut left = bytes + self.offset;
                while let Some(segment) = segments.as_slice().get(*index)
                    && left >= segment.len
                {
                    left -= segment.len;
                    *index += 1;
                }
                self.offset = left;
            }
            _ => self.offset += bytes,
        }
    }

    /// Hands out the user pieces that the next `len` bytes consist of until `f` moves less than a
    /// piece; returns the bytes moved and advances past them.
    fn each_user(&mut self, len: usize, mut f: impl FnMut(usize, usize, usize) -> usize) -> usize {
        let len = len.min(self.count);
        let mut done = 0;
        match &mut self.memory {
            Memory::UserBuf { base } => {
                if len > 0 {
                    done = f(base.wrapping_add(self.offset), 0, len).min(len);
                }
                self.offset += done;
            }
            Memory::User { segments, index } => {
                while done < len {
                    let Some(segment) = segments.as_slice().get(*index) else { break };
                    let piece = segment.len.saturating_sub(self.offset).min(len - done);
                    let moved = if piece == 0 {
                        0
                    } else {
                        f(segment.base.wrapping_add(self.offset), done, piece).min(piece)
                    };
                    done += moved;
                    self.offset += moved;
                    if moved < piece {
                        break;
                    }
                    if self.offset >= segment.len {
                        *index += 1;
                        self.offset = 0;
                    }
                }
            }
            _ => {}
        }
        self.count -= done;
        done
    }

    /// Copies `src` into the iterator's memory and advances; returns the bytes copied.
    pub fn copy_to_iter(&mut self, src: &[u8]) -> usize {
        debug_assert_eq!(self.direction, Direction::Dest);
        let len = src.len().min(self.count);
        match &mut self.memory {
            Memory::KernelDest(bytes) => {
                let Some(dst) = bytes.get_mut(self.offset..self.offset + len) else { return 0 };
                let Some(src) = src.get(..len) else { return 0 };
                dst.copy_from_slice(src);
                self.advance(len);
                len
            }
            Memory::Null => {
                self.advance(len);
                len
            }
            Memory::Folio { folio, base } => {
                let Some(src) = src.get(..len) else { return 0 };
                if folio.copy_in(*base + self.offset, src).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::KernelSource(_) => 0,
            Memory::Pages { pages, base } => {
                let done = pages.copy_in(*base + self.offset, src.get(..len).unwrap_or_default());
                self.advance(done);
                done
            }
            _ => self.each_user(len, |addr, done, piece| {
                let Some(part) = src.get(done..done + piece) else { return 0 };
                match arch::uaccess::copy_to_user(addr, part) {
                    Ok(()) => piece,
                    Err(left) => piece.saturating_sub(left.0),
                }
            }),
        }
    }

    /// Copies from the iterator's memory into `dst` and advances; returns the bytes copied.
    pub fn copy_from_iter(&mut self, dst: &mut [u8]) -> usize {
        debug_assert_eq!(self.direction, Direction::Source);
        let len = dst.len().min(self.count);
        match &mut self.memory {
            Memory::KernelSource(bytes) => {
                let Some(src) = bytes.get(self.offset..self.offset + len) else { return 0 };
                let Some(dst) = dst.get_mut(..len) else { return 0 };
                dst.copy_from_slice(src);
                self.advance(len);
                len
            }
            Memory::Null => {
                if let Some(dst) = dst.get_mut(..len) {
                    dst.fill(0);
                }
                self.advance(len);
                len
            }
            Memory::Folio { folio, base } => {
                let Some(dst) = dst.get_mut(..len) else { return 0 };
                if folio.copy_out(*base + self.offset, dst).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::KernelDest(_) => 0,
            Memory::Pages { pages, base } => {
                let done = pages.copy_out(*base + self.offset, dst.get_mut(..len).unwrap_or_default());
                self.advance(done);
                done
            }
            _ => self.each_user(len, |addr, done, piece| {
                let Some(part) = dst.get_mut(done..done + piece) else { return 0 };
                match arch::uaccess::copy_from_user(part, addr) {
                    Ok(()) => piece,
                    Err(left) => piece.saturating_sub(left.0),
                }
            }),
        }
    }

    /// Writes `len` zero bytes and advances; returns the bytes written.
    pub fn zero(&mut self, len: usize) -> usize {
        debug_assert_eq!(self.direction, Direction::Dest);
        let len = len.min(self.count);
        match &mut self.memory {
            Memory::KernelDest(bytes) => {
                if let Some(dst) = bytes.get_mut(self.offset..self.offset + len) {
                    dst.fill(0);
                }
                self.advance(len);
                len
            }
            Memory::Null => {
                self.advance(len);
                len
            }
            Memory::Folio { folio, base } => {
                if folio.fill(*base + self.offset, len, 0).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::KernelSource(_) => 0,
            Memory::Pages { pages, base } => {
                let done = pages.zero(*base + self.offset, len);
                self.advance(done);
                done
            }
            _ => self.each_user(len, |addr, _, piece| match arch::uaccess::clear_user(addr, piece) {
                Ok(()) => piece,
                Err(left) => piece.saturating_sub(left.0),
            }),
        }
    }

    /// Copies `len` bytes at `offset` of a folio into the iterator's memory; returns the bytes copied.
    pub fn copy_folio_to_iter(&mut self, folio: &Folio, offset: usize, len: usize) -> usize {
        debug_assert_eq!(self.direction, Direction::Dest);
        let len = len.min(self.count).min(folio.size().saturating_sub(offset));
        match &mut self.memory {
            Memory::KernelDest(bytes) => {
                let Some(dst) = bytes.get_mut(self.offset..self.offset + len) else { return 0 };
                if folio.copy_out(offset, dst).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::Null => {
                self.advance(len);
                len
            }
            Memory::Folio { folio: to, base } => {
                if to.copy_part(*base + self.offset, folio, offset, len).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::KernelSource(_) => 0,
            Memory::Pages { pages, base } => {
                let done = pages.copy_from_folio(*base + self.offset, folio, offset, len);
                self.advance(done);
                done
            }
            _ => {
                let from = folio.as_ptr().wrapping_add(offset);
                self.each_user(len, |addr, done, piece| {
                    let src = from.wrapping_add(done);
                    // SAFETY: `len` was cut to the folio, which the reference keeps.
                    match unsafe { arch::uaccess::copy_to_user_raw(addr, src, piece) } {
                        Ok(()) => piece,
                        Err(left) => piece.saturating_sub(left.0),
                    }
                })
            }
        }
    }

    /// Copies from the iterator's memory to `len` bytes at `offset` of a folio; returns the bytes copied.
    pub fn copy_folio_from_iter(&mut self, folio: &Folio, offset: usize, len: usize) -> usize {
        debug_assert_eq!(self.direction, Direction::Source);
        let len = len.min(self.count).min(folio.size().saturating_sub(offset));
        match &mut self.memory {
            Memory::KernelSource(bytes) => {
                let Some(src) = bytes.get(self.offset..self.offset + len) else { return 0 };
                if folio.copy_in(offset, src).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::Null => {
                let _ = folio.fill(offset, len, 0);
                self.advance(len);
                len
            }
            Memory::Folio { folio: from, base } => {
                if folio.copy_part(offset, from, *base + self.offset, len).is_err() {
                    return 0;
                }
                self.advance(len);
                len
            }
            Memory::KernelDest(_) => 0,
            Memory::Pages { pages, base } => {
                let done = pages.copy_to_folio(*base + self.offset, folio, offset, len);
                self.advance(done);
                done
            }
            _ => {
                let to = folio.as_ptr().wrapping_add(offset);
                self.each_user(len, |addr, done, piece| {
                    let dst = to.wrapping_add(done);
                    // SAFETY: `len` was cut to the folio, which the reference keeps.
                    match unsafe { arch::uaccess::copy_from_user_raw(dst, addr, piece) } {
                        Ok(()) => piece,
                        Err(left) => piece.saturating_sub(left.0),
                    }
                })
            }
        }
    }

    /// Steps back over the last `bytes` bytes, which were consumed from this iterator.
    pub fn unwind(&mut self, mut bytes: usize) {
        self.count += bytes;
        if let Memory::User { segments, index } = &mut self.memory {
            while bytes > self.offset {
                let Some(before) = index.checked_sub(1) else { break };
                bytes -= self.offset;
                *index = before;
                self.offset = segments.as_slice().get(before).map_or(0, |s| s.len);
            }
        }
        self.offset = self.offset.saturating_sub(bytes);
    }

    /// Copies all of `src` or fails with `EFAULT`.
    pub fn write_all(&mut self, src: &[u8]) -> Result<()> {
        if self.copy_to_iter(src) == src.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Fills all of `dst` or fails with `EFAULT`.
    pub fn read_exact(&mut self, dst: &mut [u8]) -> Result<()> {
        let len = dst.len();
        if self.copy_from_iter(dst) == len { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Everything that is left, as a vector (for small control writes); at most `max` bytes.
    pub fn read_to_vec(&mut self, max: usize) -> Result<Vec<u8>> {
        let len = self.count.min(max);
        let mut all = try_vec(0, len)?;
        self.read_exact(&mut all)?;
        Ok(all)
    }

    /// Touches the pages that the next `len` bytes of a user source lie in, so that a copy with
    /// page locks held is unlikely to fault on them. Returns how many bytes could be reached.
    pub fn fault_in_readable(&mut self, len: usize) -> usize {
        if !self.is_user() {
            return len.min(self.count);
        }
        let start = self.position();
        let reached = self.each_user(len, |addr, _, piece| {
            let mut at = addr;
            let end = addr.wrapping_add(piece);
            while at < end {
                let mut byte = [0];
                if arch::uaccess::copy_from_user(&mut byte, at).is_err() {
                    return at.wrapping_sub(addr);
                }
                at = (at & !(arch::addr::PAGE_SIZE - 1)).wrapping_add(arch::addr::PAGE_SIZE);
            }
            piece
        });
        self.restore(start);
        reached
    }

    /// The length of the segment at the position (what a datagram or `O_DIRECT` wants to know).
    pub fn segment_len(&self) -> usize {
        match &self.memory {
            Memory::User { segments, index } => segments
                .as_slice()
                .get(*index)
                .map_or(0, |s| s.len.saturating_sub(self.offset).min(self.count)),
            _ => self.count,
        }
    }

    /// The user address at the position, if it is user memory.
    pub fn user_addr(&self) -> Option<usize> {
        match &self.memory {
            Memory::UserBuf { base } => Some(base.wrapping_add(self.offset)),
            Memory::User { segments, index } => {
                segments.as_slice().get(*index).map(|s| s.base.wrapping_add(self.offset))
            }
            _ => None,
        }
    }
}

/// What a transfer that moved `done` of the bytes asked for returns when it met an inaccessible
/// page: the partial count, or `EFAULT` if there is none.
pub fn short_or_fault(done: usize) -> Result<usize> {
    if done > 0 { Ok(done) } else { Err(Errno::EFAULT) }
}

/// Reads the `count` segments at `addr` as `readv(2)`, `writev(2)` and friends do: more than
/// [`UIO_MAXIOV`] segments or a negative length are `EINVAL`, a segment outside user space is
/// `EFAULT`, and the total is cut to [`MAX_RW_COUNT`].
pub fn import_iovec(direction: Direction, addr: usize, count: usize) -> Result<IovIter<'static>> {
    if count > UIO_MAXIOV {
        return Err(Errno::EINVAL);
    }
    let (segments, total) = checked_iovec(addr, count)?;
    Ok(IovIter { memory: Memory::User { segments, index: 0 }, direction, offset: 0, count: total })
}

/// The segments at `addr`, checked, and the bytes in all of them.
fn checked_iovec(addr: usize, count: usize) -> Result<(UserSegments<'static>, usize)> {
    let mut segments = read_iovec(addr, count)?;
    let list = match &mut segments {
        UserSegments::Few(list, count) => list.get_mut(..*count).unwrap_or_default(),
        UserSegments::Many(list) => list.as_mut_slice(),
        UserSegments::Kept(_) => &mut [],
    };
    let mut total = 0;
    for segment in list {
        if (segment.len as isize) < 0 {
            return Err(Errno::EINVAL);
        }
        if !access_ok(segment.base, segment.len) {
            return Err(Errno::EFAULT);
        }
        segment.len = segment.len.min(MAX_RW_COUNT - total);
        total += segment.len;
    }
    Ok((segments, total))
}

/// A user's segment list that was read and checked once, for transfers that are tried again later.
#[derive(Debug)]
pub struct KeptIovec {
    segments: UserSegments<'static>,
    total: usize,
}

impl KeptIovec {
    /// Reads it, with the errors of [`import_iovec`].
    pub fn import(addr: usize, count: usize) -> Result<Self> {
        if count > UIO_MAXIOV {
            return Err(Errno::EINVAL);
        }
        let (segments, total) = checked_iovec(addr, count)?;
        Ok(Self { segments, total })
    }

    /// Bytes in all segments.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The segments.
    pub fn segments(&self) -> &[Iovec] {
        self.segments.as_slice()
    }

    /// A cursor at the beginning.
    pub fn iter(&self, direction: Direction) -> IovIter<'_> {
        let segments = UserSegments::Kept(self.segments.as_slice());
        IovIter { memory: Memory::User { segments, index: 0 }, direction, offset: 0, count: self.total }
    }
}

fn read_iovec(addr: usize, count: usize) -> Result<UserSegments<'static>> {
    let mut few = <[Iovec; UIO_FASTIOV]>::new_zeroed();
    if let Some(list) = few.get_mut(..count) {
        crate::user::copy_from_user(list.as_mut_bytes(), addr)?;
        return Ok(UserSegments::Few(few, count));
    }
    crate::user::UserSlice::new(addr, count).to_vec().map(UserSegments::Many)
}

/// Reads the segments at `addr` without looking at them (`process_vm_readv(2)` describes the memory
/// of another process with such a list).
pub fn import_remote_iovec(addr: usize, count: usize) -> Result<Vec<Iovec>> {
    if count > UIO_MAXIOV {
        return Err(Errno::EINVAL);
    }
    let list: Vec<Iovec> = crate::user::UserSlice::new(addr, count).to_vec()?;
    if list.iter().any(|s| (s.len as isize) < 0) {
        return Err(Errno::EINVAL);
    }
    Ok(list)
}
