//! Dirty folios are written.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Deref, Range};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLockIrq;
use block::{Bio, BlockDevice, End, EndIo, Op, OpFlags, Plug};
use collections::fifo::Chained;
use mm::context::MemallocScope;
use mm::fallible::TryVec;
use mm::{FolioGuard, Mapping, Writeback, try_arc};

use crate::ending::{Ended, Endings};
use crate::extent::{Extent, Kind, Mapper, Purpose, map};
use crate::pieces::{Piece, Pieces, sector};
use crate::read::MOST_FOLIOS;

const PAGE: u64 = PAGE_SIZE as u64;

/// What a bio has of a folio under write-back: that ends with the last part.
pub(crate) enum Part {
    Whole(Writeback),
    Shared(Arc<Writeback>),
}

impl Deref for Part {
    type Target = Writeback;

    fn deref(&self) -> &Writeback {
        match self {
            Self::Whole(writeback) => writeback,
            Self::Shared(writeback) => writeback,
        }
    }
}

/// What a failure of the device is called for those who ask: there is no other than these two.
pub(crate) fn as_seen(error: Errno) -> Errno {
    if error == Errno::ENOSPC || error == Errno::EDQUOT { error } else { Errno::EIO }
}

/// Gets a finished bio.
struct WriteEnd {
    ended: SpinLockIrq<Option<Chained<Ended>>>,
    /// Where it goes if the file system has something to do behind it.
    endings: Option<Arc<Endings>>,
}

impl EndIo for WriteEnd {
    fn end_io(&self, bio: Chained<Bio>) {
        let result = bio.status.result().map_err(as_seen);
        drop(bio);
        let Some(mut ended) = self.ended.lock().take() else { return };
        ended.result = result;
        match &self.endings {
            Some(endings) => endings.add(ended),
            None => ended.finish(result),
        }
    }
}

/// A bio that may still grow.
struct Building {
    bio: Chained<Bio>,
    end: Arc<WriteEnd>,
    ended: Chained<Ended>,
    /// The file system has something to do behind it.
    follows: bool,
    /// Where it ends on the device and in the file.
    next: (u64, u64),
}

/// Writes folios in the order of the file.
pub(crate) struct Writer<'a, M: Mapper + 'static> {
    mapper: &'a Arc<M>,
    endings: Option<&'a Arc<Endings>>,
    mapping: &'a Mapping,
    device: Arc<BlockDevice>,
    flags: OpFlags,
    extent: Option<(u64, Extent)>,
    building: Option<Building>,
    plug: Plug,
}

/// Memory that write-back needs leads to memory that comes free.
fn with_reserves<T>(make: impl Fn() -> Result<T>) -> Result<T> {
    match make() {
        Err(Errno::ENOMEM) => {
            let _reserves = MemallocScope::enter();
            make()
        }
        result => result,
    }
}

impl<'a, M: Mapper + 'static> Writer<'a, M> {
    pub(crate) fn new(
        mapper: &'a Arc<M>,
        endings: Option<&'a Arc<Endings>>,
        mapping: &'a Mapping,
        flags: OpFlags,
    ) -> Result<Self> {
        let device = mapper.device()?;
        Ok(Self { mapper, endings, mapping, device, flags, extent: None, building: None, plug: Plug::new() })
    }

    /// The extent at `pos`, with blocks.
    fn extent(&mut self, pos: u64, until: u64) -> Result<Extent> {
        let generation = self.mapper.generation();
        if let Some((of, extent)) = self.extent
            && generation == Some(of)
            && extent.contains(pos)
        {
            return Ok(extent);
        }
        let len = until.saturating_sub(pos);
        let mut extent = map(&**self.mapper, pos, len, Purpose::Report)?;
        if extent.kind == Kind::Delayed {
            // Allocation may wait for a journal, and that for what we hold back.
            self.submit();
            self.plug.flush();
            extent = map(&**self.mapper, pos, len, Purpose::WriteBack)?;
        }
        // Allocation may have changed it: what holds now is what counts.
        self.extent = self.mapper.generation().map(|generation| (generation, extent));
        Ok(extent)
    }

    fn pieces(&mut self, folio: &FolioGuard, range: Range<u64>, until: u64) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let start = range.start;
        let end = range.end.next_multiple_of(u64::from(self.mapper.block_size())).min(start + PAGE);
        let mut pos = start;
        while pos < end {
            let extent = self.extent(pos, until)?;
            let (offset, len) = ((pos - start) as usize, (extent.end().min(end) - pos) as usize);
            match extent.kind {
                Kind::Hole => {}
                Kind::Mapped | Kind::Unwritten => {
                    let addr = extent.addr_of(pos).ok_or(Errno::EIO)?;
                    pieces.push(Piece { offset, len, addr, unwritten: extent.kind == Kind::Unwritten })?;
                }
                Kind::Inline => {
                    let len = (range.end - pos).min(len as u64) as usize;
                    let mut bytes = mm::fallible::try_vec(0u8, len)?;
                    folio.folio().copy_out(offset, &mut bytes).map_err(|_| Errno::EIO)?;
                    self.mapper.write_inline(pos, &bytes)?;
                }
                Kind::Delayed => return Err(Errno::EIO),
            }
            pos += len as u64;
        }
        Ok(pieces)
    }

    /// Has a folio written. `until`: up to where more may come, for the file system to allocate in large pieces.
    pub(crate) fn add(&mut self, folio: &FolioGuard, until: u64) -> Result<()> {
        let size = self.mapping.size();
        let start = folio.index() * PAGE;
        if start >= size {
            // Truncation is about to take it.
            self.mapping.skip(folio);
            return Ok(());
        }
        let end = size.min(start + PAGE);
        // What a mapping stored behind the end of the file is not the file's.
        folio.zero((end - start) as usize..PAGE_SIZE);
        let pieces = match self.pieces(folio, start..end, until.min(size).max(end)) {
            Ok(pieces) => pieces,
            Err(error @ (Errno::ENOMEM | Errno::EAGAIN)) => {
                self.mapping.redirty(folio);
                return Err(error);
            }
            Err(error) => {
                self.mapping.skip(folio);
                return Err(as_seen(error));
            }
        };
        let result = match pieces.as_slice() {
            [] => {
                self.mapping.skip(folio);
                return Ok(());
            }
            [only] => {
                let part = Part::Whole(self.mapping.start_io(folio));
                self.push(part, only, start, end)
            }
            several => {
                // Without memory for this the write-back is over before it began.
                with_reserves(|| Ok(try_arc(self.mapping.start_io(folio))?)).and_then(|shared| {
                    several
                        .iter()
                        .try_for_each(|piece| self.push(Part::Shared(shared.clone()), piece, start, end))
                })
            }
        };
        if result.is_err() {
            // Not all of it is on its way: once more, later.
            self.mapping.redirty(folio);
        }
        result
    }

    fn push(&mut self, part: Part, piece: &Piece, start: u64, end: u64) -> Result<()> {
        let pos = start + piece.offset as u64;
        let stop = (pos + piece.len as u64).min(end);
        let follows = piece.unwritten || stop > self.mapper.disk_size();
        let fits = self.building.as_ref().is_some_and(|building| {
            building.next == (piece.addr, pos)
                && building.follows == follows
                && building.ended.parts.len() < MOST_FOLIOS
        });
        if !fits {
            self.submit();
            self.building = Some(with_reserves(|| self.begin(piece.addr, pos, follows))?);
        }
        let Some(building) = &mut self.building else { return Err(Errno::EIO) };
        let Building { bio, ended, next, .. } = building;
        let reserve = |parts: &mut Vec<Part>| parts.try_reserve(1).map_err(|_| Errno::ENOMEM);
        if reserve(&mut ended.parts).is_err() {
            let _reserves = MemallocScope::enter();
            reserve(&mut ended.parts)?;
        }
        if let Err(error) = bio.push(part.folio(), piece.offset, piece.len) {
            if error != Errno::ENOMEM {
                return Err(error);
            }
            let _reserves = MemallocScope::enter();
            bio.push(part.folio(), piece.offset, piece.len)?;
        }
        ended.parts.push_reserved(part);
        ended.range.end = stop;
        *next = (piece.addr + piece.len as u64, pos + piece.len as u64);
        Ok(())
    }

    fn begin(&self, addr: u64, pos: u64, follows: bool) -> Result<Building> {
        let mapper = follows.then(|| self.mapper.clone() as Arc<dyn Mapper>);
        let ended = Chained::try_new(Ended { mapper, range: pos..pos, parts: Vec::new(), result: Ok(()) })?;
        let endings = if follows { Some(self.endings.ok_or(Errno::EIO)?.clone()) } else { None };
        let end = try_arc(WriteEnd { ended: SpinLockIrq::new(None), endings })?;
        let bio = Bio::new(Op::Write, self.flags, sector(addr), 0, End::Shared(end.clone()))?;
        Ok(Building { bio, end, ended, follows, next: (addr, pos) })
    }

    fn submit(&mut self) {
        let Some(building) = self.building.take() else { return };
        if building.bio.is_empty() {
            return;
        }
        *building.end.ended.lock() = Some(building.ended);
        self.device.submit(building.bio, Some(&mut self.plug));
    }

    /// Lets all go.
    pub(crate) fn finish(mut self) {
        self.submit();
        self.plug.flush();
    }
}
