//! `read(2)` of a userfaultfd: whole messages, as many as fit. It waits for the first only.

use super::{Armed, FILE_FLAGS, Userfaultfd, file_of};
use crate::fs::context::{fd_flags, files, nofile};
use abi::uffd::UffdMsg;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::any::Any;
use mm::IovIter;
use mm::uffd::{Change, Context, ForkOffer};
use sched::wait::Wait;
use zerocopy::IntoBytes;

/// Bytes of a message.
const SIZE: usize = size_of::<UffdMsg>();

/// Reads messages. `file_flags` are those of the descriptor, which a child's descriptor gets too.
pub(super) fn read(
    context: &Arc<Context>,
    nonblock: bool,
    file_flags: u32,
    iter: &mut IovIter<'_>,
) -> Result<usize> {
    if !context.is_agreed() {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    loop {
        if iter.count() < SIZE {
            return if done > 0 { Ok(done) } else { Err(Errno::EINVAL) };
        }
        match read_one(context, nonblock || done > 0, file_flags, iter) {
            Ok(()) => done += SIZE,
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
    }
}

/// Something to tell.
enum Next {
    Message(UffdMsg),
    Fork(ForkOffer),
}

fn next(context: &Arc<Context>) -> Option<Next> {
    if let Some(fault) = context.take_fault() {
        let args = [fault.flags, fault.address as u64, u64::from(fault.tid as u32)];
        return Some(Next::Message(message(raw::UFFD_EVENT_PAGEFAULT, args)));
    }
    let (change, offer) = context.take_event()?;
    let range = |range: core::ops::Range<usize>| [range.start as u64, range.end as u64, 0];
    Some(Next::Message(match change {
        Change::Fork(_) => return offer.map(Next::Fork),
        Change::Remap { from, to, len } => {
            message(raw::UFFD_EVENT_REMAP, [from as u64, to as u64, len as u64])
        }
        Change::Remove(pages) => message(raw::UFFD_EVENT_REMOVE, range(pages)),
        Change::Unmap(pages) => message(raw::UFFD_EVENT_UNMAP, range(pages)),
    }))
}

fn message(event: u32, args: [u64; 3]) -> UffdMsg {
    UffdMsg { event: event as u8, reserved: [0; 7], args }
}

fn read_one(context: &Arc<Context>, nonblock: bool, file_flags: u32, iter: &mut IovIter<'_>) -> Result<()> {
    let next = match next(context) {
        Some(next) => next,
        None if nonblock => return Err(Errno::EAGAIN),
        None => {
            let woken = context.readers.wait(Wait::INTERRUPTIBLE, || next(context));
            woken.map_err(|_| Errno::ERESTARTSYS)?
        }
    };
    match next {
        Next::Message(message) => iter.write_all(message.as_bytes()),
        Next::Fork(offer) => fork(offer, file_flags, iter),
    }
}

/// Gives the reader a descriptor for the child's memory.
fn fork(offer: ForkOffer, file_flags: u32, iter: &mut IovIter<'_>) -> Result<()> {
    let child = offer.child().ok_or(Errno::ENOENT)?;
    let file = file_of(child, file_flags & FILE_FLAGS & raw::O_NONBLOCK, Armed::No)?;
    let files = files()?;
    let fd = files.reserve(nofile(), fd_flags(file_flags & raw::O_CLOEXEC != 0))?;
    let message = message(raw::UFFD_EVENT_FORK, [u64::from(fd.fd().0), 0, 0]);
    iter.write_all(message.as_bytes())?;
    offer.accept()?;
    let ops: &dyn Any = file.ops();
    if let Some(ops) = ops.downcast_ref::<Userfaultfd>() {
        ops.arm();
    }
    fd.install(file);
    Ok(())
}
