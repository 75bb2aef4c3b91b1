//! Folios are read.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLockIrq;
use block::{Bio, BlockDevice, End, EndIo, Op, OpFlags, Plug};
use collections::fifo::Chained;
use mm::fallible::TryVec;
use mm::{FolioGuard, try_arc};

use crate::extent::{Extent, Kind, Mapper, Purpose, map};
use crate::pieces::{Piece, Pieces, sector};

const PAGE: u64 = PAGE_SIZE as u64;
/// Folios of a bio at most: 1 MiB.
pub(crate) const MOST_FOLIOS: usize = 256;

/// A folio that has parts in several bios. With the last of them it is valid, if none failed, and unlocked.
struct Shared {
    guard: FolioGuard,
    failed: AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !*self.failed.get_mut() {
            self.guard.mark_uptodate();
        }
    }
}

/// What a bio has of a folio.
enum Part {
    Whole(FolioGuard),
    Shared(Arc<Shared>),
}

/// Gets a finished bio.
#[derive(Default)]
struct ReadEnd {
    parts: SpinLockIrq<Vec<Part>>,
}

impl EndIo for ReadEnd {
    fn end_io(&self, bio: Chained<Bio>) {
        let ok = bio.status.is_ok();
        drop(bio);
        let parts = core::mem::take(&mut *self.parts.lock());
        for part in parts {
            match part {
                Part::Whole(guard) if ok => guard.mark_uptodate(),
                // Unlocked without valid contents: who wants them tries once more, and gets to know.
                Part::Whole(_) => {}
                Part::Shared(shared) => {
                    if !ok {
                        shared.failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// A bio that may still grow.
struct Building {
    bio: Chained<Bio>,
    end: Arc<ReadEnd>,
    parts: Vec<Part>,
    /// Where it ends on the device.
    next: u64,
}

/// Reads folios in the order of the file.
pub(crate) struct Reader<'a, M: Mapper> {
    mapper: &'a M,
    device: Arc<BlockDevice>,
    flags: OpFlags,
    /// The file ends here, or a little behind.
    size: u64,
    extent: Option<Extent>,
    building: Option<Building>,
    plug: Plug,
}

impl<'a, M: Mapper> Reader<'a, M> {
    pub(crate) fn new(mapper: &'a M, size: u64, flags: OpFlags) -> Result<Self> {
        let size = size.next_multiple_of(u64::from(mapper.block_size()));
        let device = mapper.device()?;
        Ok(Self { mapper, device, flags, size, extent: None, building: None, plug: Plug::new() })
    }

    /// Zeroes what is nowhere on the device, and says where the rest is. `until`: up to where more will be wanted.
    fn pieces(&mut self, folio: &FolioGuard, until: u64) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let start = folio.index() * PAGE;
        let mut pos = start;
        while pos < start + PAGE {
            let offset = (pos - start) as usize;
            if pos >= self.size {
                folio.zero(offset..PAGE_SIZE);
                break;
            }
            let extent = match self.extent {
                Some(extent) if extent.contains(pos) => extent,
                _ => map(self.mapper, pos, until.max(start + PAGE) - pos, Purpose::Read)?,
            };
            self.extent = Some(extent);
            let len = (extent.end() - pos).min(start + PAGE - pos) as usize;
            match extent.kind {
                Kind::Mapped => {
                    let addr = extent.addr_of(pos).ok_or(Errno::EIO)?;
                    pieces.push(Piece { offset, len, addr, unwritten: false })?;
                }
                Kind::Hole | Kind::Delayed | Kind::Unwritten => folio.zero(offset..offset + len),
                Kind::Inline => {
                    let mut bytes = mm::fallible::try_vec(0u8, len)?;
                    let got = self.mapper.read_inline(pos, &mut bytes)?.min(len);
                    let bytes = bytes.get(..got).unwrap_or_default();
                    folio.folio().copy_in(offset, bytes).map_err(|_| Errno::EIO)?;
                    folio.zero(offset + got..PAGE_SIZE);
                    // It is the whole file.
                    break;
                }
            }
            pos += len as u64;
        }
        Ok(pieces)
    }

    /// Has a folio read; it is unlocked when that is over. Nothing is waited for.
    pub(crate) fn add(&mut self, guard: FolioGuard, until: u64) -> Result<()> {
        let pieces = self.pieces(&guard, until)?;
        match pieces.as_slice() {
            [] => guard.mark_uptodate(),
            [only] => self.push(Part::Whole(guard), only)?,
            several => {
                let shared = try_arc(Shared { guard, failed: AtomicBool::new(false) })?;
                for piece in several {
                    if let Err(error) = self.push(Part::Shared(shared.clone()), piece) {
                        shared.failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, part: Part, piece: &Piece) -> Result<()> {
        let fits = self
            .building
            .as_ref()
            .is_some_and(|building| building.next == piece.addr && building.parts.len() < MOST_FOLIOS);
        if !fits {
            self.submit();
            let end = try_arc(ReadEnd::default())?;
            let bio = Bio::new(Op::Read, self.flags, sector(piece.addr), 0, End::Shared(end.clone()))?;
            self.building = Some(Building { bio, end, parts: Vec::new(), next: piece.addr });
        }
        let Some(building) = &mut self.building else { return Err(Errno::EIO) };
        building.parts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let folio = match &part {
            Part::Whole(guard) => guard.folio(),
            Part::Shared(shared) => shared.guard.folio(),
        };
        building.bio.push(folio, piece.offset, piece.len)?;
        building.parts.push_reserved(part);
        building.next += piece.len as u64;
        Ok(())
    }

    fn submit(&mut self) {
        let Some(building) = self.building.take() else { return };
        if building.bio.is_empty() {
            return;
        }
        *building.end.parts.lock() = building.parts;
        self.device.submit(building.bio, Some(&mut self.plug));
    }

    /// Lets all go.
    pub(crate) fn finish(mut self) {
        self.submit();
        self.plug.flush();
    }

    /// Reads a folio and waits.
    pub(crate) fn read(mut self, folio: &FolioGuard) -> Result<()> {
        let pieces = self.pieces(folio, 0)?;
        for piece in pieces.as_slice() {
            let mut bio = Bio::new(Op::Read, self.flags, sector(piece.addr), 1, End::Nobody)?;
            bio.push(folio.folio(), piece.offset, piece.len)?;
            self.device.submit_and_wait(bio).map_err(|error| match error {
                Errno::ENOMEM => error,
                _ => Errno::EIO,
            })?;
        }
        folio.mark_uptodate();
        Ok(())
    }
}
