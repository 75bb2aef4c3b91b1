//! `POLL_ADD`, `POLL_REMOVE`, `EPOLL_CTL`.

use abi::io_uring::{Sqe, raw};
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::uapi::EpollEvent;
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::wait::Share;
use vfs::fdtable::Fd;

use super::super::poll::{Armed, arm};
use super::super::request::Place;
use super::super::{poll, timeout};
use super::{Call, Issue, Op, Prep};
use crate::fs::context;

/// `IORING_OP_POLL_ADD`.
#[derive(Clone, Copy, Debug)]
pub struct PollAdd {
    /// What is waited for.
    pub events: PollEvents,
    /// It stays after the first event.
    pub multishot: bool,
    /// `EPOLLEXCLUSIVE`.
    exclusive: bool,
}

/// The events of a submission: the user's word, in which only 32 bits of events count.
fn events_of(entry: &Sqe) -> (PollEvents, bool) {
    let word = entry.op_flags;
    let exclusive = word & abi::raw::EPOLLEXCLUSIVE != 0;
    (PollEvents::from_bits_truncate(word), exclusive)
}

/// Prepares it.
pub fn prep_add(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.off != 0 || entry.addr != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = entry.len;
    if flags & !(raw::IORING_POLL_ADD_MULTI | raw::IORING_POLL_ADD_LEVEL) != 0 {
        return Err(Errno::EINVAL);
    }
    let (events, exclusive) = events_of(entry);
    Ok(Op::Poll(PollAdd { events, multishot: flags & raw::IORING_POLL_ADD_MULTI != 0, exclusive }))
}

impl PollAdd {
    /// Looks, and waits.
    pub fn issue(&mut self, call: &mut Call<'_, '_>) -> Issue {
        let file = match call.file() {
            Ok(file) => file,
            Err(errno) => return Issue::of(Err(errno)),
        };
        let Some(req) = call.shared else { return Issue::Share };
        let share = if self.exclusive { Share::Exclusive } else { Share::All };
        let events = self.events | PollEvents::ERR | PollEvents::HUP;
        let mut now = PollEvents::empty();
        let multishot = self.multishot;
        let look = |table: &mut vfs::poll::PollTable<'_>| {
            now = file.ops().poll(file, table) & events;
            // It goes on waiting after this event.
            if multishot { PollEvents::empty() } else { now }
        };
        match arm(call.cx.ring, req, self.events, look, share) {
            Armed::Failed(errno) => return Issue::of(Err(errno)),
            Armed::Ready(ready) => return Issue::Done(ready.bits() as i32, 0),
            Armed::Waiting => {}
        }
        // Another event may be reported at the same time: one too many is allowed, one too few is not.
        if multishot && !now.is_empty() && !call.cx.post_more(call.req, now.bits() as i32, 0) && req.claim() {
            return Issue::Done(now.bits() as i32, 0);
        }
        timeout::start_limit(call.cx, req);
        Issue::Pending
    }
}

/// `IORING_OP_POLL_REMOVE`: removes or changes a poll.
#[derive(Clone, Copy, Debug)]
pub struct PollRemove {
    old: u64,
    new: Option<u64>,
    events: Option<(PollEvents, bool)>,
}

/// Prepares it.
pub fn prep_remove(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = entry.len;
    let known =
        raw::IORING_POLL_UPDATE_EVENTS | raw::IORING_POLL_UPDATE_USER_DATA | raw::IORING_POLL_ADD_MULTI;
    if flags & !known != 0 || flags == raw::IORING_POLL_ADD_MULTI {
        return Err(Errno::EINVAL);
    }
    let updates_data = flags & raw::IORING_POLL_UPDATE_USER_DATA != 0;
    if !updates_data && entry.off != 0 {
        return Err(Errno::EINVAL);
    }
    let updates_events = flags & raw::IORING_POLL_UPDATE_EVENTS != 0;
    if !updates_events && entry.op_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let multishot = flags & raw::IORING_POLL_ADD_MULTI != 0;
    Ok(Op::PollRemove(PollRemove {
        old: entry.addr,
        new: updates_data.then_some(entry.off),
        events: updates_events.then(|| (events_of(entry).0, multishot)),
    }))
}

impl PollRemove {
    /// Does it.
    pub fn run(&self, call: &mut Call<'_, '_>) -> Result<()> {
        let ring = call.cx.ring;
        let mut after = 0;
        let found = loop {
            let req = ring.next_known(self.old, &mut after).ok_or(Errno::ENOENT)?;
            let is_poll = req.op.try_lock().is_some_and(|op| matches!(&*op, Op::Poll(_)));
            if is_poll && req.place() == Place::Poll {
                break req;
            }
        };
        if !found.claim() {
            return Err(Errno::EALREADY);
        }
        if self.new.is_none() && self.events.is_none() {
            call.cx.fail(found, Errno::ECANCELED);
            return Ok(());
        }
        if let Some(new) = self.new {
            ring.rename(&found, new);
        }
        if let Op::Poll(poll) = &mut *found.op.lock() {
            if let Some((events, multi)) = self.events {
                poll.events = events;
                poll.multishot = multi;
            }
            let wanted = poll.events | PollEvents::ERR | PollEvents::HUP;
            found.poll_events.store(wanted.bits(), Ordering::Relaxed);
        }
        // It waits again, for what it waits for now.
        if poll::again(&found) {
            poll::woken(call.cx, found);
        }
        Ok(())
    }
}

/// `IORING_OP_EPOLL_CTL`.
#[derive(Clone, Copy, Debug)]
pub struct EpollCtl {
    epfd: i32,
    op: u32,
    fd: i32,
    events: u32,
    data: u64,
}

/// Prepares it.
pub fn prep_epoll_ctl(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let op = entry.len;
    let (events, data) = if op == abi::raw::EPOLL_CTL_DEL {
        (0, 0)
    } else {
        let event = UserPtr::<EpollEvent>::new(entry.addr as usize).read()?;
        (event.events, event.data)
    };
    Ok(Op::EpollCtl(EpollCtl { epfd: entry.fd, op, fd: entry.off as i32, events, data }))
}

impl EpollCtl {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        let (epfd, fd) = (Fd::from_raw(self.epfd)?, Fd::from_raw(self.fd)?);
        let (epoll, file) = (context::file(epfd)?, context::file(fd)?);
        vfs::epoll::epoll_ctl(&epoll, self.op, fd.0, &file, self.events, self.data)
    }
}
