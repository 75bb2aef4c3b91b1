//! The contents of a disk in memory: pages that are there once they are written.

use alloc::sync::Arc;

use abi::{Errno, Result};
use block::bio::{SECTOR_SHIFT, Segment};
use block::{Op, Request, Status};
use mm::IovIter;
use mm::fallible::{try_arc, try_vec};
use mm::filemap::{Mapping, MemoryOps};
use mm::iov::Direction;

/// The contents of a disk.
pub(super) struct Contents(Mapping);

impl Contents {
    /// `bytes` zeroes.
    pub(super) fn new(bytes: u64) -> Result<Self> {
        Ok(Self(Mapping::new(try_arc(MemoryOps).map(|ops: Arc<MemoryOps>| ops)?, bytes)))
    }

    /// Does what a request asks for. May sleep.
    pub(super) fn serve(&self, request: &Request) -> Status {
        let mut pos = request.sector() << SECTOR_SHIFT;
        let end = pos + u64::from(request.len());
        if end > self.0.size() {
            return Status::IoError;
        }
        let done = match request.op() {
            Op::Flush => Ok(()),
            Op::Discard | Op::SecureErase | Op::WriteZeroes => {
                self.0.punch_hole(pos..end);
                Ok(())
            }
            op => request.for_each_segment(|segment| {
                self.segment(op, segment, pos).map_err(|error| match error {
                    Errno::ENOMEM => Status::Resource,
                    _ => Status::IoError,
                })?;
                pos += u64::from(segment.len());
                Ok(())
            }),
        };
        done.err().unwrap_or(Status::Ok)
    }

    fn segment(&self, op: Op, segment: &Segment, pos: u64) -> Result<()> {
        let len = segment.len() as usize;
        let moved = match (op, segment.folio()) {
            (Op::Read, Some((folio, offset))) => {
                self.0.read(&mut IovIter::folio(Direction::Dest, folio, offset, len), pos)?
            }
            (Op::Write, Some((folio, offset))) => {
                self.0.write(&mut IovIter::folio(Direction::Source, folio, offset, len), pos)?
            }
            (Op::Write, None) => {
                let mut bytes = try_vec(0, len)?;
                segment.copy_out(0, &mut bytes)?;
                self.0.write(&mut IovIter::source(&bytes), pos)?
            }
            _ => 0,
        };
        if moved == len { Ok(()) } else { Err(Errno::EIO) }
    }
}
