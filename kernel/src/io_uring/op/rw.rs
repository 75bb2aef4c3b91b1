//! `READ`, `WRITE` and their forms with segment lists, registered and provided buffers.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::fs::Iovec;
use abi::io_uring::{Sqe, raw};
use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::iov::{Direction, KeptIovec, MAX_RW_COUNT};
use mm::user::UserPtr;
use mm::{IovIter, try_box};
use vfs::file::{File, FileMode};
use vfs::file_ops::IoFlags;
use vfs::rw::{self, Access};

use super::super::kbuf::{self, Selected};
use super::super::request::flags;
use super::super::rsrc::FixedBuffer;
use super::{Call, Issue, Op, Prep};
use crate::signal;

/// Where the data is.
#[derive(Debug)]
enum Memory {
    User {
        addr: usize,
        len: usize,
    },
    Segments(Box<KeptIovec>),
    Fixed {
        buffer: Arc<FixedBuffer>,
        offset: usize,
        len: usize,
    },
    /// In a provided buffer, at most this long.
    Select {
        len: usize,
    },
}

/// A transfer.
#[derive(Debug)]
pub struct Rw {
    memory: Memory,
    /// `u64::MAX`: at the file's position.
    offset: u64,
    /// `RWF_*`.
    rwf: u32,
    access: Access,
    multishot: bool,
}

impl core::fmt::Debug for FixedBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FixedBuffer({:#x})", self.addr)
    }
}

fn build(entry: &Sqe, access: Access, memory: Memory) -> Result<Op> {
    crate::misc::sched_calls::check_ioprio(entry.ioprio)?;
    Ok(Op::Rw(Rw { memory, offset: entry.off, rwf: entry.op_flags, access, multishot: false }))
}

fn plain(prep: &Prep<'_>, entry: &Sqe, access: Access) -> Result<Op> {
    let len = (entry.len as usize).min(MAX_RW_COUNT);
    let memory = if prep.has(flags::BUFFER_SELECT) {
        Memory::Select { len }
    } else {
        if !mm::user::access_ok(entry.addr as usize, len) {
            return Err(Errno::EFAULT);
        }
        Memory::User { addr: entry.addr as usize, len }
    };
    build(entry, access, memory)
}

fn segments(prep: &Prep<'_>, entry: &Sqe, access: Access) -> Result<Op> {
    let memory = if prep.has(flags::BUFFER_SELECT) {
        // One segment, whose length counts.
        if entry.len != 1 {
            return Err(Errno::EINVAL);
        }
        let len = UserPtr::<Iovec>::new(entry.addr as usize).read()?.len;
        Memory::Select { len: len.min(MAX_RW_COUNT) }
    } else {
        Memory::Segments(try_box(KeptIovec::import(entry.addr as usize, entry.len as usize)?)?)
    };
    build(entry, access, memory)
}

fn fixed(prep: &Prep<'_>, entry: &Sqe, access: Access) -> Result<Op> {
    let buffer = prep.ring.buffers.lock().get(entry.buf_index)?;
    let len = entry.len as usize;
    let offset = buffer.offset(entry.addr, len)?;
    build(entry, access, Memory::Fixed { buffer, offset, len })
}

/// Prepares `IORING_OP_READ`.
pub fn prep_read(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    plain(prep, entry, Access::Read)
}

/// Prepares `IORING_OP_WRITE`.
pub fn prep_write(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    plain(prep, entry, Access::Write)
}

/// Prepares `IORING_OP_READV`.
pub fn prep_readv(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    segments(prep, entry, Access::Read)
}

/// Prepares `IORING_OP_WRITEV`.
pub fn prep_writev(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    segments(prep, entry, Access::Write)
}

/// Prepares `IORING_OP_READ_FIXED`.
pub fn prep_read_fixed(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    fixed(prep, entry, Access::Read)
}

/// Prepares `IORING_OP_WRITE_FIXED`.
pub fn prep_write_fixed(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    fixed(prep, entry, Access::Write)
}

/// Prepares `IORING_OP_READ_MULTISHOT`.
pub fn prep_read_multishot(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if !prep.has(flags::BUFFER_SELECT) || entry.addr != 0 || entry.len != 0 {
        return Err(Errno::EINVAL);
    }
    let memory = Memory::Select { len: 0 };
    Ok(Op::Rw(Rw { memory, offset: entry.off, rwf: entry.op_flags, access: Access::Read, multishot: true }))
}

impl Rw {
    /// Whether dropping it would do nothing.
    #[inline(always)]
    pub fn owns_nothing(&self) -> bool {
        matches!(self.memory, Memory::User { .. } | Memory::Select { .. })
    }

    fn events(&self) -> PollEvents {
        match self.access {
            Access::Read => PollEvents::IN | PollEvents::RDNORM,
            Access::Write => PollEvents::OUT | PollEvents::WRNORM,
        }
    }

    /// Tries the transfer.
    #[inline(never)]
    pub fn issue(&self, call: &mut Call<'_, '_>) -> Issue {
        let file = match call.file() {
            Ok(file) => file,
            Err(errno) => return Issue::of(Err(errno)),
        };
        if self.multishot && !file.ops().can_poll(file) {
            return Issue::of(Err(Errno::EBADFD));
        }
        let mut io = match self.check(call, file) {
            Ok(io) => io,
            Err(errno) => return Issue::of(Err(errno)),
        };
        if io.contains(IoFlags::NOWAIT) {
            call.req.set(flags::NOWAIT);
        }
        if !call.worker {
            if file.mode().contains(FileMode::NOWAIT) {
                io |= IoFlags::NOWAIT;
            } else if !file.ops().waits_for_storage() {
                // It is done as it is.
            } else if !file.ops().can_poll(file) {
                return Issue::Punt;
            } else if !vfs::poll::look(file).intersects(self.events()) {
                return Issue::WouldBlock(self.events());
            }
        }
        loop {
            let (outcome, expected) = self.attempt(call, file, io);
            match outcome {
                Err(Errno::EAGAIN) if !call.worker => return Issue::WouldBlock(self.events()),
                Err(errno) => return Issue::of(Err(errno)),
                Ok((done, cflags)) => {
                    let res = done as i32;
                    if self.multishot && done > 0 && call.cx.post_more(call.req, res, cflags) {
                        continue;
                    }
                    if done != expected {
                        call.req.set_fail();
                    }
                    return Issue::Done(res, cflags);
                }
            }
        }
    }

    fn check(&self, call: &Call<'_, '_>, file: &File) -> Result<IoFlags> {
        match self.access {
            Access::Read => file.want_read()?,
            Access::Write => file.want_write()?,
        }
        let io = rw::io_flags(file, self.rwf, self.access)?;
        if call.ring().has(raw::IORING_SETUP_IOPOLL) {
            // No file here completes by being polled.
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(io)
    }

    /// One attempt: the bytes moved and the flags of the completion; and how many bytes there could have been.
    fn attempt(
        &self,
        call: &mut Call<'_, '_>,
        file: &Arc<File>,
        io: IoFlags,
    ) -> (Result<(usize, u32)>, usize) {
        let direction = match self.access {
            Access::Read => Direction::Dest,
            Access::Write => Direction::Source,
        };
        let mut selected: Option<Selected> = None;
        let iter = match &self.memory {
            Memory::User { addr, len } => IovIter::user(direction, *addr, *len),
            Memory::Segments(list) => Ok(list.iter(direction)),
            Memory::Fixed { buffer, offset, len } => {
                Ok(IovIter::pages(direction, &buffer.pages, *offset, *len))
            }
            Memory::Select { len } => {
                kbuf::select(call.ring(), call.req.buf_group, *len).and_then(|buffer| {
                    selected = Some(buffer);
                    IovIter::user(direction, buffer.addr as usize, buffer.len as usize)
                })
            }
        };
        let mut iter = match iter {
            Ok(iter) => iter,
            Err(errno) => return (Err(errno), 0),
        };
        let expected = iter.count();
        let moved = self.transfer(call, file, &mut iter, io);
        let Some(selected) = selected else { return (moved.map(|done| (done, 0)), expected) };
        let mut groups = call.ring().kbufs.lock();
        let outcome = match moved {
            // Nothing came: the buffer is still there for the next one.
            Ok(0) if self.multishot => {
                groups.put_back(selected);
                Ok((0, 0))
            }
            Ok(done) => Ok((done, groups.used(&selected, done))),
            Err(errno) => {
                groups.put_back(selected);
                Err(errno)
            }
        };
        (outcome, expected)
    }

    fn transfer(
        &self,
        call: &Call<'_, '_>,
        file: &Arc<File>,
        iter: &mut IovIter<'_>,
        io: IoFlags,
    ) -> Result<usize> {
        let stream = file.mode().contains(FileMode::STREAM);
        let at_position = self.offset == u64::MAX && !stream;
        let _lock = if at_position { file.lock_pos() } else { None };
        let mut pos = match (stream, at_position) {
            (true, _) => 0,
            (_, true) => file.pos(),
            (_, false) => self.offset,
        };
        if pos > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let moved = match self.access {
            Access::Read => rw::read_at(file, iter, &mut pos, io),
            Access::Write => rw::write_at(file, iter, &mut pos, io),
        };
        if at_position {
            file.set_pos(pos);
        }
        let socket = file.file_type() == vfs::types::FileType::Socket;
        if moved == Err(Errno::EPIPE) && self.access == Access::Write && !call.worker && !socket {
            signal::raise_sigpipe();
        }
        moved
    }
}
