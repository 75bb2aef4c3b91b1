//! Transfers of a loop device.

use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use block::bio::{SECTOR_SHIFT, Segment};
use block::{Batch, Driver, Op, OpFlags, Queue, Request, Status};
use mm::IovIter;
use mm::fallible::try_vec;
use mm::iov::Direction;
use vfs::file_ops::IoFlags;

use super::super::serve::Server;
use super::device::{Backing, Loop};

impl Driver for Loop {
    fn queue_rqs(&self, _: &Queue, _: usize, batch: &mut Batch) {
        self.waiting.take(batch);
    }
}

impl Server for Loop {
    fn serve(&self, request: &Request) -> Status {
        match self.backing() {
            Some(backing) => status_of(backing.transfer(request), request.op()),
            None => Status::IoError,
        }
    }
}

fn status_of(result: Result<()>, op: Op) -> Status {
    match result {
        Ok(()) => Status::Ok,
        Err(Errno::EOPNOTSUPP | Errno::EINVAL) if !op.has_data() => Status::NotSupported,
        Err(Errno::ENOSPC) => Status::NoSpace,
        Err(Errno::ENOMEM) => Status::Resource,
        Err(_) => Status::IoError,
    }
}

impl Backing {
    fn transfer(&self, request: &Request) -> Result<()> {
        let pos = self.offset.checked_add(request.sector() << SECTOR_SHIFT).ok_or(Errno::EIO)?;
        match request.op() {
            Op::Read | Op::Write => self.data(request, pos),
            Op::Flush => vfs::rw::vfs_fsync(&self.file, 0, u64::MAX, true),
            Op::Discard => self.allocate(raw::FALLOC_FL_PUNCH_HOLE, pos, request),
            Op::WriteZeroes if request.flags().contains(OpFlags::NOUNMAP) => {
                self.allocate(raw::FALLOC_FL_ZERO_RANGE, pos, request)
            }
            Op::WriteZeroes => self.allocate(raw::FALLOC_FL_PUNCH_HOLE, pos, request),
            Op::SecureErase => Err(Errno::EOPNOTSUPP),
        }
    }

    fn allocate(&self, mode: u32, pos: u64, request: &Request) -> Result<()> {
        let mode = mode | raw::FALLOC_FL_KEEP_SIZE;
        self.file.ops().fallocate(&self.file, mode, pos, u64::from(request.len()))
    }

    fn data(&self, request: &Request, mut pos: u64) -> Result<()> {
        let mut flags = if self.direct { IoFlags::DIRECT } else { IoFlags::empty() };
        if request.flags().contains(OpFlags::FUA) {
            flags |= IoFlags::DSYNC;
        }
        let mut result = Ok(());
        let whole = request.for_each_segment(|segment| {
            let moved = match request.op() {
                Op::Read => self.read(segment, &mut pos, flags),
                _ => self.write(segment, &mut pos, flags),
            };
            result = moved;
            moved.map_err(|_| Status::IoError)
        });
        match whole {
            Ok(()) => Ok(()),
            Err(_) => result.and(Err(Errno::EIO)),
        }
    }

    /// What is behind the end of the file reads as zeroes.
    fn read(&self, segment: &Segment, pos: &mut u64, flags: IoFlags) -> Result<()> {
        let (folio, offset) = segment.folio().ok_or(Errno::EIO)?;
        let len = segment.len() as usize;
        let mut done = 0;
        while done < len {
            let mut iter = IovIter::folio(Direction::Dest, folio, offset + done, len - done);
            match vfs::rw::read_at(&self.file, &mut iter, pos, flags)? {
                0 => {
                    segment.zero(done, len - done)?;
                    *pos += (len - done) as u64;
                    done = len;
                }
                moved => done += moved,
            }
        }
        Ok(())
    }

    fn write(&self, segment: &Segment, pos: &mut u64, flags: IoFlags) -> Result<()> {
        let len = segment.len() as usize;
        let copy: Vec<u8>;
        let mut iter = match segment.folio() {
            Some((folio, offset)) => IovIter::folio(Direction::Source, folio, offset, len),
            None => {
                let mut bytes = try_vec(0, len)?;
                segment.copy_out(0, &mut bytes)?;
                copy = bytes;
                IovIter::source(&copy)
            }
        };
        while !iter.is_empty() {
            if vfs::rw::write_at(&self.file, &mut iter, pos, flags)? == 0 {
                return Err(Errno::EIO);
            }
        }
        Ok(())
    }
}
