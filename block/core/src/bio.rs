//! The bio: one transfer between memory and consecutive sectors of a block device.
//!
//! Whoever wants something from a device fills in a [`Bio`] and submits it ([`crate::Queue::submit`]); it comes back, with its
//! [`Status`], to its [`EndIo`], usually in an interrupt. In between the block layer owns it. Names and meaning of the operations are those
//! of Linux's `include/uapi/linux/blktrace_api.h` and of the documentation of the block layer.

use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use bitflags::bitflags;
use collections::fifo::Chained;
use mm::{Block, Folio};
use smallvec::SmallVec;

use crate::split::Joint;

/// log2 of [`SECTOR_SIZE`].
pub const SECTOR_SHIFT: u32 = 9;
/// The unit of all positions and lengths in sectors, in bytes, whatever the device's own blocks are.
pub const SECTOR_SIZE: u64 = 1 << SECTOR_SHIFT;

/// Where the class is in a priority of ioprio_set(2); the level is in the lowest three bits.
pub const IOPRIO_CLASS_SHIFT: u32 = 13;

/// What is asked of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// What the device has taken is to survive a power cut. No sectors.
    Flush,
    /// Nobody needs these sectors' contents any more.
    Discard,
    /// The same, and nobody may be able to read them again.
    SecureErase,
    /// The sectors read as zeroes from now on.
    WriteZeroes,
}

impl Op {
    /// Whether memory takes part.
    pub fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether the device changes.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Read)
    }
}

bitflags! {
    /// How it is asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OpFlags: u32 {
        /// Somebody waits for it.
        const SYNC = 1 << 0;
        /// It is metadata of a file system.
        const META = 1 << 1;
        /// It goes before others.
        const PRIO = 1 << 2;
        /// Not to be joined with others.
        const NOMERGE = 1 << 3;
        /// Flush the device's write cache first.
        const PREFLUSH = 1 << 4;
        /// Complete when the data survives a power cut.
        const FUA = 1 << 5;
        /// Read ahead: may be dropped.
        const RAHEAD = 1 << 6;
        /// Write-back that nobody waits for.
        const BACKGROUND = 1 << 7;
        /// Rather fail with [`Status::Again`] than sleep.
        const NOWAIT = 1 << 8;
        /// The submitter will poll for the end.
        const POLLED = 1 << 9;
        /// [`Op::WriteZeroes`] may not give the space back.
        const NOUNMAP = 1 << 10;
    }
}

impl OpFlags {
    /// Whether somebody waits for an operation with these flags: all reads, and writes that say so.
    #[inline]
    pub fn is_sync(self, op: Op) -> bool {
        op == Op::Read || self.intersects(Self::SYNC | Self::FUA | Self::PREFLUSH)
    }
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[must_use]
pub enum Status {
    /// Done.
    #[default]
    Ok,
    /// The device cannot do that.
    NotSupported,
    /// It did not answer in time.
    Timeout,
    /// No room: thin provisioning, or a write beyond what it can take.
    NoSpace,
    /// The path to the device failed.
    Transport,
    /// The target failed.
    Target,
    /// Somebody else has reserved it.
    Conflict,
    /// The medium failed.
    Medium,
    /// The data was not what its checksum says.
    Protection,
    /// No memory or other means.
    Resource,
    /// [`OpFlags::NOWAIT`], and it would have slept.
    Again,
    /// The device is gone.
    Offline,
    /// Any other failure.
    IoError,
}

impl Status {
    /// Whether it worked.
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }

    /// As a result; the numbers are those that Linux gives user space.
    ///
    /// # Errors
    /// What the failure is called outside of the block layer.
    pub fn result(self) -> Result<()> {
        Err(match self {
            Self::Ok => return Ok(()),
            Self::NotSupported => Errno::EOPNOTSUPP,
            Self::Timeout => Errno::ETIMEDOUT,
            Self::NoSpace => Errno::ENOSPC,
            Self::Transport => Errno::ENOLINK,
            Self::Target => Errno::EREMOTEIO,
            Self::Conflict => Errno::EBADE,
            Self::Medium => Errno::ENODATA,
            Self::Protection => Errno::EILSEQ,
            Self::Resource => Errno::ENOMEM,
            Self::Again => Errno::EAGAIN,
            Self::Offline => Errno::ENODEV,
            Self::IoError => Errno::EIO,
        })
    }
}

/// Where a piece of memory is.
#[derive(Clone, Debug)]
enum Memory {
    Folio(Folio),
    /// Only read by the device: others may have borrowed its bytes.
    Block(Arc<Block>),
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folio(a), Self::Folio(b)) => a == b,
            (Self::Block(a), Self::Block(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A piece of memory: part of a folio or of a block of metadata, which it keeps alive until the transfer is over.
#[derive(Clone)]
pub struct Segment {
    memory: Memory,
    /// Where it begins in the folio or block, in bytes.
    offset: u32,
    /// Its length in bytes, not 0.
    len: u32,
}

#[expect(clippy::len_without_is_empty, reason = "it never is")]
impl Segment {
    /// Where it begins in physical memory.
    #[inline]
    pub fn phys(&self) -> u64 {
        let start = match &self.memory {
            Memory::Folio(folio) => folio.phys(),
            Memory::Block(block) => block.phys(),
        };
        start.0 + u64::from(self.offset)
    }

    /// The folio that it is part of, and where it begins there, in bytes; `None` for a block of metadata.
    #[inline]
    pub fn folio(&self) -> Option<(&Folio, usize)> {
        match &self.memory {
            Memory::Folio(folio) => Some((folio, self.offset as usize)),
            Memory::Block(_) => None,
        }
    }

    /// Copies its bytes from `at` on to `to`: what a device without DMA does for a write.
    ///
    /// # Errors
    /// `EINVAL` if it is not that long.
    pub fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<()> {
        let from = self.part(at, to.len())?;
        match &self.memory {
            Memory::Folio(folio) => folio.copy_out(from, to).map_err(|_| Errno::EINVAL),
            Memory::Block(block) => {
                let end = from.checked_add(to.len()).ok_or(Errno::EINVAL)?;
                to.copy_from_slice(block.bytes().get(from..end).ok_or(Errno::EINVAL)?);
                Ok(())
            }
        }
    }

    /// Copies `from` into it, from its byte `at` on: what a device without DMA does for a read.
    ///
    /// # Errors
    /// `EINVAL` if it is not that long, or is only to be read.
    pub fn copy_in(&self, at: usize, from: &[u8]) -> Result<()> {
        let to = self.part(at, from.len())?;
        let (folio, _) = self.folio().ok_or(Errno::EINVAL)?;
        folio.copy_in(to, from).map_err(|_| Errno::EINVAL)
    }

    fn part(&self, at: usize, len: usize) -> Result<usize> {
        let end = at.checked_add(len).ok_or(Errno::EINVAL)?;
        if end > self.len as usize { Err(Errno::EINVAL) } else { Ok(self.offset as usize + at) }
    }

    /// Its length in bytes, not 0.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Fills `len` bytes from its byte `at` on with zeroes.
    ///
    /// # Errors
    /// `EINVAL` if it is not that long, or is only to be read.
    pub fn zero(&self, at: usize, len: usize) -> Result<()> {
        let start = self.part(at, len)?;
        let (folio, _) = self.folio().ok_or(Errno::EINVAL)?;
        folio.fill(start, len, 0).map_err(|_| Errno::EINVAL)
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.phys(), self.len)
    }
}

/// Who takes finished bios.
pub trait EndIo: Send + Sync {
    /// `bio` is over, as [`Bio::status`] says; its flags may have changed. Often in an interrupt: may not sleep, and takes irq-safe locks only. The
    /// bio, and with it the last reference to a folio, may be dropped there.
    fn end_io(&self, bio: Chained<Bio>);
}

/// To whom a finished bio goes.
pub enum End {
    /// To nobody: it is dropped.
    Nobody,
    /// To something that is always there.
    Static(&'static dyn EndIo),
    /// To something that is counted.
    Shared(Arc<dyn EndIo>),
    /// To the other parts of the bio that this is a part of.
    #[doc(hidden)]
    Part(Arc<Joint>),
}

/// As many pieces of memory are in the bio itself; more are allocated.
const INLINE: usize = 4;

/// A transfer.
pub struct Bio {
    /// What.
    pub op: Op,
    /// How.
    pub flags: OpFlags,
    /// The first sector: of the partition until it is submitted, then of the whole disk.
    pub sector: u64,
    /// The number of the partition that it was sent to; 0: the whole disk.
    pub(crate) part: u16,
    /// The memory, in order; for operations with data.
    segments: SmallVec<[Segment; INLINE]>,
    /// Bytes on the device.
    len: u64,
    /// The priority of ioprio_set(2); 0: that of the thread that submits it.
    pub ioprio: u16,
    /// For whom it is ([`sched::io::TaskIo::context`]); 0: for the thread that submits it.
    pub context: u32,
    /// How it ended.
    pub status: Status,
    /// The submitter's own.
    pub private: u64,
    end: End,
}

impl Bio {
    /// A bio with room for `segments` pieces of memory.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(op: Op, flags: OpFlags, sector: u64, segments: usize, end: End) -> Result<Chained<Self>> {
        let mut room = SmallVec::new();
        room.try_reserve_exact(segments).map_err(|_| Errno::ENOMEM)?;
        Ok(Chained::try_new(Self {
            op,
            flags,
            sector,
            part: 0,
            segments: room,
            len: 0,
            ioprio: 0,
            context: 0,
            status: Status::Ok,
            private: 0,
            end,
        })?)
    }

    /// A bio without memory: a flush, or `sectors` sectors to be discarded or zeroed.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for more bytes than a number holds.
    pub fn without_data(
        op: Op,
        flags: OpFlags,
        sector: u64,
        sectors: u64,
        end: End,
    ) -> Result<Chained<Self>> {
        let mut bio = Self::new(op, flags, sector, 0, end)?;
        bio.len = sectors.checked_mul(SECTOR_SIZE).ok_or(Errno::EINVAL)?;
        Ok(bio)
    }

    /// Adds memory behind what is there; what continues the last piece joins it.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` if it is not within the folio, or the bio would get longer than 2^31 bytes.
    pub fn push(&mut self, folio: &Folio, offset: usize, len: usize) -> Result<()> {
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if end > folio.size() || len == 0 || self.len + len as u64 > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        self.add(Memory::Folio(folio.clone()), offset, len)
    }

    /// Adds a block of metadata behind what is there. It is only read from: for [`Op::Write`], and it may be borrowed meanwhile.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for another operation, or if the bio would get longer than 2^31 bytes.
    pub fn push_block(&mut self, block: &Arc<Block>) -> Result<()> {
        if self.op != Op::Write || self.len + block.len() as u64 > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        self.add(Memory::Block(block.clone()), 0, block.len())
    }

    fn add(&mut self, memory: Memory, offset: usize, len: usize) -> Result<()> {
        match self.segments.last_mut() {
            Some(last) if last.memory == memory && (last.offset + last.len) as usize == offset => {
                last.len += len as u32
            }
            _ => {
                self.segments.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.segments.push(Segment { memory, offset: offset as u32, len: len as u32 });
            }
        }
        self.len += len as u64;
        Ok(())
    }

    /// Whether it would have the device write into memory that is only to be read: its operation was changed after the memory came.
    pub(crate) fn overwrites_blocks(&self) -> bool {
        self.op == Op::Read && self.segments.iter().any(|segment| segment.folio().is_none())
    }

    /// Its memory, in order.
    #[inline]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes on the device.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it touches no sector.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sectors on the device.
    #[inline]
    pub fn sectors(&self) -> u64 {
        self.len >> SECTOR_SHIFT
    }

    /// The sector behind its last one.
    #[inline]
    pub fn end_sector(&self) -> u64 {
        self.sector + self.sectors()
    }

    /// Names the thread that submits it, where nobody is named yet.
    #[inline]
    pub(crate) fn fill_in_submitter(&mut self) {
        let task = sched::current();
        if self.context == 0 {
            self.context = task.io().context();
        }
        if self.ioprio >> IOPRIO_CLASS_SHIFT == 0 {
            self.ioprio = task.io().priority();
        }
    }

    /// It is over: gives it back to whom it belongs.
    pub fn finish(mut bio: Chained<Self>, status: Status) {
        bio.status = status;
        match core::mem::replace(&mut bio.end, End::Nobody) {
            End::Nobody => {}
            End::Static(end) => end.end_io(bio),
            End::Shared(end) => end.end_io(bio),
            End::Part(joint) => joint.part_is_over(bio),
        }
    }

    /// Takes its first `len` bytes off as a bio of their own, and stays the rest. When both are over, the submitter gets the whole back.
    /// `len`: whole sectors, more than none and fewer than all.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for another `len`. The bio is unchanged then.
    pub fn split(&mut self, len: u64) -> Result<Chained<Self>> {
        if len == 0 || len >= self.len || !len.is_multiple_of(SECTOR_SIZE) {
            return Err(Errno::EINVAL);
        }
        // Whole pieces that go, and what goes of the next one.
        let (mut whole, mut part) = (0, 0);
        if self.op.has_data() {
            let mut left = len;
            while let Some(segment) =
                self.segments.get(whole).filter(|segment| u64::from(segment.len) <= left)
            {
                left -= u64::from(segment.len);
                whole += 1;
            }
            part = left as u32;
        }
        let mut front =
            Self::new(self.op, self.flags, self.sector, whole + usize::from(part > 0), End::Nobody)?;
        front.end = End::Part(Joint::of(&mut self.end)?);
        (front.ioprio, front.context, front.part) = (self.ioprio, self.context, self.part);
        front.len = len;
        front.segments.extend(self.segments.drain(..whole));
        if part > 0
            && let Some(first) = self.segments.first_mut()
        {
            front.segments.push(Segment { len: part, ..first.clone() });
            first.offset += part;
            first.len -= part;
        }
        self.sector += len >> SECTOR_SHIFT;
        self.len -= len;
        Ok(front)
    }

    /// Takes back what [`split`](Self::split) took off, which ends where this one begins. Allocates nothing: the room is still there.
    pub(crate) fn rejoin(&mut self, front: &mut Self) {
        let mut moved = front.segments.len();
        if let (Some(last), Some(first)) = (front.segments.last(), self.segments.first_mut())
            && last.memory == first.memory
            && last.offset + last.len == first.offset
        {
            first.offset -= last.len;
            first.len += last.len;
            front.segments.pop();
            moved -= 1;
        }
        self.segments.extend(front.segments.drain(..));
        self.segments.rotate_right(moved);
        self.sector = front.sector;
        self.len += front.len;
        if self.status.is_ok() {
            self.status = front.status;
        }
    }

    pub(crate) fn set_end(&mut self, end: End) {
        self.end = end;
    }
}

impl fmt::Debug for Bio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bio({:?} {:?} {}+{} {:?})",
            self.op,
            self.flags,
            self.sector,
            self.sectors(),
            self.segments
        )
    }
}
