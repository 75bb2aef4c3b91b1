//! One operation of `io_submit(2)`.

use alloc::sync::Arc;

use abi::aio::{
    IOCB_CMD_FDSYNC, IOCB_CMD_FSYNC, IOCB_CMD_POLL, IOCB_CMD_PREAD, IOCB_CMD_PREADV, IOCB_CMD_PWRITE,
    IOCB_CMD_PWRITEV, IOCB_FLAG_IOPRIO, IOCB_FLAG_RESFD, IoEvent, Iocb,
};
use abi::{Errno, Result};
use mm::IovIter;
use mm::iov::{Direction, import_iovec};
use mm::user::UserPtr;
use vfs::eventfd::EventFd;
use vfs::fdtable::Fd;
use vfs::file::{File, FileMode};
use vfs::rw::{self, Access};

use super::context::Context;
use super::poll;
use crate::fs::context;
use crate::signal;

/// What is told when an operation is complete.
pub struct Completion {
    /// The context.
    pub context: Arc<Context>,
    /// `aio_data`, and the address of the user's structure.
    pub data: u64,
    /// See `data`.
    pub obj: u64,
    /// The eventfd that is signalled.
    pub resfd: Option<Arc<File>>,
}

impl Completion {
    /// Posts the event.
    pub fn post(&self, res: i64) {
        self.context.complete(&IoEvent { data: self.data, obj: self.obj, res, res2: 0 });
        if let Some(event) = self.resfd.as_ref().and_then(|file| file.private::<EventFd>()) {
            event.signal(1);
        }
    }
}

/// Takes one operation from the user's structure at `addr`.
///
/// # Errors
/// What keeps it from starting.
pub fn one(context: &Arc<Context>, addr: usize) -> Result<()> {
    let user = UserPtr::<Iocb>::new(addr);
    let iocb = user.read()?;
    if iocb.reserved2 != 0 || iocb.nbytes > isize::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    context.reserve()?;
    let started = start(context, user, &iocb);
    if started.is_err() {
        context.unreserve();
    }
    started
}

fn start(context: &Arc<Context>, user: UserPtr<Iocb>, iocb: &Iocb) -> Result<()> {
    let file = context::file(Fd(iocb.fildes))?;
    let resfd = if iocb.flags & IOCB_FLAG_RESFD != 0 {
        let file = context::file(Fd(iocb.resfd))?;
        if file.private::<EventFd>().is_none() {
            return Err(Errno::EINVAL);
        }
        Some(file)
    } else {
        None
    };
    // What io_cancel(2) knows the structure by.
    user.byte_add::<u32>(8).write(&0)?;
    let completion = Completion { context: context.clone(), data: iocb.data, obj: user.addr() as u64, resfd };
    match iocb.opcode {
        IOCB_CMD_PREAD | IOCB_CMD_PREADV => transfer(&file, iocb, Access::Read, &completion),
        IOCB_CMD_PWRITE | IOCB_CMD_PWRITEV => transfer(&file, iocb, Access::Write, &completion),
        IOCB_CMD_FSYNC => sync(&file, iocb, false, &completion),
        IOCB_CMD_FDSYNC => sync(&file, iocb, true, &completion),
        IOCB_CMD_POLL => poll::start(&file, iocb, completion),
        _ => Err(Errno::EINVAL),
    }
}

fn transfer(file: &Arc<File>, iocb: &Iocb, access: Access, completion: &Completion) -> Result<()> {
    if iocb.flags & IOCB_FLAG_IOPRIO != 0 {
        crate::misc::sched_calls::check_ioprio(iocb.reqprio as u16)?;
    }
    let io = rw::io_flags(file, iocb.rw_flags, access)?;
    match access {
        Access::Read => file.want_read()?,
        Access::Write => file.want_write()?,
    }
    let direction = if access == Access::Read { Direction::Dest } else { Direction::Source };
    let vectored = matches!(iocb.opcode, IOCB_CMD_PREADV | IOCB_CMD_PWRITEV);
    let mut iter = if vectored {
        import_iovec(direction, iocb.buf as usize, iocb.nbytes as usize)?
    } else {
        IovIter::user(direction, iocb.buf as usize, iocb.nbytes as usize)?
    };
    let stream = file.mode().contains(FileMode::STREAM);
    let mut pos = if stream { 0 } else { u64::try_from(iocb.offset).map_err(|_| Errno::EINVAL)? };
    let moved = match access {
        Access::Read => rw::read_at(file, &mut iter, &mut pos, io),
        Access::Write => rw::write_at(file, &mut iter, &mut pos, io),
    };
    if moved == Err(Errno::EPIPE) && access == Access::Write {
        signal::raise_sigpipe();
    }
    completion.post(i64::from(crate::io_uring::complete::result(moved)));
    Ok(())
}

fn sync(file: &Arc<File>, iocb: &Iocb, datasync: bool, completion: &Completion) -> Result<()> {
    if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let synced = rw::vfs_fsync(file, 0, u64::MAX, datasync);
    if synced == Err(Errno::EINVAL) {
        // The file cannot be synchronised at all.
        return Err(Errno::EINVAL);
    }
    completion.post(i64::from(crate::io_uring::complete::result(synced.map(|()| 0))));
    Ok(())
}
