//! `WAITID`.

use abi::io_uring::Sqe;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::try_box;
use mm::user::UserPtr;
use sched::wait::Share;

use super::super::poll::{Armed, arm};
use super::super::timeout;
use super::{Call, Issue, Op, Prep};
use crate::process::current;
use crate::wait::{Report, WaitId};

/// `IORING_OP_WAITID`.
pub struct WaitIdOp {
    idtype: i32,
    id: i32,
    options: i32,
    info: usize,
    wait: Option<WaitId>,
    /// What was found while a wake-up took the request over.
    found: Option<Result<Report>>,
}

impl core::fmt::Debug for WaitIdOp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitId({}, {})", self.idtype, self.id)
    }
}

/// Prepares it.
pub fn prep(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.addr != 0 || entry.buf_index != 0 || entry.addr3 != 0 || entry.op_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let op = WaitIdOp {
        idtype: entry.len as i32,
        id: entry.fd,
        options: entry.file_index as i32,
        info: entry.off as usize,
        wait: None,
        found: None,
    };
    Ok(Op::WaitId(try_box(op)?))
}

impl WaitIdOp {
    /// Looks for a child, and waits for one.
    pub fn issue(&mut self, call: &mut Call<'_, '_>) -> Issue {
        if self.wait.is_none() {
            match WaitId::new(self.idtype, self.id, self.options as u32) {
                Ok(wait) => self.wait = Some(wait),
                Err(errno) => return Issue::of(Err(errno)),
            }
        }
        let Some(wait) = &self.wait else { return Issue::of(Err(Errno::EINVAL)) };
        let process = current().process.clone();
        let info = self.info;
        let done = |found: Result<Report>| {
            Issue::of(found.and_then(|found| found.write(UserPtr::new(info))).map(|()| 0))
        };
        loop {
            if let Some(found) = self.found.take().or_else(|| wait.look()) {
                return done(found);
            }
            let Some(req) = call.shared else { return Issue::Share };
            // The queue is registered with before the children are looked at again.
            let mut again = None;
            let look = |table: &mut vfs::poll::PollTable<'_>| {
                table.wait(&process.child_wait);
                again = wait.look();
                if again.is_some() { PollEvents::IN } else { PollEvents::empty() }
            };
            match arm(call.cx.ring, req, PollEvents::IN, look, Share::All) {
                Armed::Failed(errno) => return Issue::of(Err(errno)),
                Armed::Waiting => {
                    // A wake-up that came at the same time has the request, and will complete it: the child is found once only.
                    self.found = again;
                    if self.found.is_none() {
                        timeout::start_limit(call.cx, req);
                    }
                    return Issue::Pending;
                }
                Armed::Ready(_) => {}
            }
            if let Some(found) = again {
                return done(found);
            }
        }
    }
}
