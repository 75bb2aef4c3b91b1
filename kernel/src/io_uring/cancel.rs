//! Cancelling: `IORING_OP_ASYNC_CANCEL`, `IORING_REGISTER_SYNC_CANCEL`, exit.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::io_uring::{Sqe, raw};
use abi::{Errno, Result};
use vfs::file::File;

use super::complete::Cx;
use super::op::{self, Op, Prep};
use super::request::{Head, Place, Request, flags};
use super::ring::Ring;
use super::task::TaskCtx;
use super::timeout;

const KNOWN: u32 = raw::IORING_ASYNC_CANCEL_ALL
    | raw::IORING_ASYNC_CANCEL_FD
    | raw::IORING_ASYNC_CANCEL_ANY
    | raw::IORING_ASYNC_CANCEL_FD_FIXED
    | raw::IORING_ASYNC_CANCEL_USERDATA
    | raw::IORING_ASYNC_CANCEL_OP;

/// Which requests.
pub struct Target {
    /// `IORING_ASYNC_CANCEL_*`.
    pub bits: u32,
    /// Of the request.
    pub user_data: u64,
    /// Its file.
    pub file: Option<Arc<File>>,
    /// Its operation.
    pub opcode: u8,
}

impl Target {
    fn matches(&self, req: &Request) -> bool {
        let has = |bit: u32| self.bits & bit != 0;
        if matches!(req.place(), Place::LinkTimer) || !req.has(flags::TRACKED) {
            return false;
        }
        if has(raw::IORING_ASYNC_CANCEL_ANY) {
            return true;
        }
        let by_fd = has(raw::IORING_ASYNC_CANCEL_FD);
        let by_op = has(raw::IORING_ASYNC_CANCEL_OP);
        if by_fd && !matches!((&self.file, req.file()), (Some(a), Some(b)) if Arc::ptr_eq(a, b)) {
            return false;
        }
        if by_op && req.opcode != self.opcode {
            return false;
        }
        // The user data counts if nothing else was named, or if asked for.
        let by_data = has(raw::IORING_ASYNC_CANCEL_USERDATA) || !by_fd && !by_op;
        !by_data || req.user_data() == self.user_data
    }
}

/// Cancels one waiting request.
///
/// # Errors
/// `ENOENT`: it does not wait for anything; `EALREADY`: it is on its way, or a worker has it, which is told.
pub fn one(cx: &mut Cx<'_>, req: &Arc<Request>) -> Result<()> {
    match req.place() {
        Place::None => Err(Errno::ENOENT),
        Place::LinkTimer => Err(Errno::ENOENT),
        Place::Worker => {
            req.set(flags::CANCELED);
            if let Some(wq) = req.owner.existing_wq() {
                wq.interrupt(req);
            }
            Err(Errno::EALREADY)
        }
        place => {
            if !req.claim() {
                return Err(Errno::EALREADY);
            }
            if place == Place::Timer {
                timeout::cancelled(cx.ring, req);
            }
            cx.fail(req.clone(), Errno::ECANCELED);
            Ok(())
        }
    }
}

/// Cancels what matches. The submission lock is held. With `ALL` or `ANY` the number of requests, otherwise 0.
///
/// # Errors
/// `ENOENT`, `EALREADY`.
pub fn matching(cx: &mut Cx<'_>, target: &Target, except: Option<&Head>) -> Result<usize> {
    let every = target.bits & (raw::IORING_ASYNC_CANCEL_ALL | raw::IORING_ASYNC_CANCEL_ANY) != 0;
    let by_data = target.bits & KNOWN & !raw::IORING_ASYNC_CANCEL_ALL == 0;
    let (mut after, mut from) = (0, 0);
    let mut count = 0;
    let mut running = false;
    loop {
        let found = if by_data {
            cx.ring.next_known(target.user_data, &mut after)
        } else {
            cx.ring.next_inflight(&mut from)
        };
        let Some(req) = found else { break };
        if except.is_some_and(|except| core::ptr::eq(except, &raw const req.head)) || !target.matches(&req) {
            continue;
        }
        match one(cx, &req) {
            Ok(()) if every => count += 1,
            // What Linux counts even where only one is meant.
            Ok(()) => return Ok(usize::from(op::is_counted(req.opcode))),
            Err(Errno::EALREADY) if every => count += 1,
            Err(Errno::EALREADY) => {
                running = true;
                break;
            }
            Err(_) => {}
        }
    }
    match (every, running) {
        (true, _) => Ok(count),
        (false, true) => Err(Errno::EALREADY),
        (false, false) => Err(Errno::ENOENT),
    }
}

/// Cancels everything of a ring, or of one thread in it.
pub fn all(ring: &Arc<Ring>, owner: Option<&Arc<TaskCtx>>) {
    let mine = |req: &Request| owner.is_none_or(|owner| Arc::ptr_eq(owner, &req.owner));
    let held = ring.submit.lock();
    let mut cx = Cx::elsewhere(ring);
    // Those that wait for others go first: nothing is to start now.
    loop {
        let req = {
            let mut deferred = ring.deferred.lock();
            let at = deferred.iter().position(|req| mine(req));
            let req = at.and_then(|at| deferred.remove(at));
            ring.has_drains.store(!deferred.is_empty(), Ordering::Release);
            req
        };
        let Some(req) = req else { break };
        cx.fail(req, Errno::ECANCELED);
    }
    let mut from = 0;
    while let Some(req) = ring.next_inflight(&mut from) {
        if mine(&req) {
            // What cannot be cancelled is waited for.
            let _ = one(&mut cx, &req);
        }
    }
    drop(cx);
    drop(held);
}

/// `IORING_OP_ASYNC_CANCEL`.
#[derive(Clone, Copy, Debug)]
pub struct Cancel {
    user_data: u64,
    bits: u32,
    fd: i32,
    opcode: u8,
}

/// Checks `IORING_ASYNC_CANCEL_*`.
///
/// # Errors
/// `EINVAL`.
pub fn check_flags(bits: u32) -> Result<()> {
    const ANY: u32 = raw::IORING_ASYNC_CANCEL_ANY;
    const OTHERS: u32 = raw::IORING_ASYNC_CANCEL_FD | raw::IORING_ASYNC_CANCEL_OP;
    if bits & !KNOWN != 0 || bits & ANY != 0 && bits & OTHERS != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The file that `bits` and `fd` name.
///
/// # Errors
/// `EBADF`.
pub fn file_of(ring: &Ring, bits: u32, fd: i32, fixed: bool) -> Result<Option<Arc<File>>> {
    if bits & raw::IORING_ASYNC_CANCEL_FD == 0 {
        return Ok(None);
    }
    if fixed || bits & raw::IORING_ASYNC_CANCEL_FD_FIXED != 0 {
        return ring.files.lock().get(fd as u32).map(|(file, _)| Some(file));
    }
    crate::fs::context::file_raw(vfs::fdtable::Fd::from_raw(fd)?).map(Some)
}

impl Cancel {
    /// Prepares it.
    pub fn prepare(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
        if prep.bits & flags::BUFFER_SELECT != 0 || entry.off != 0 || entry.file_index != 0 {
            return Err(Errno::EINVAL);
        }
        let bits = entry.op_flags;
        check_flags(bits)?;
        let opcode = if bits & raw::IORING_ASYNC_CANCEL_OP != 0 { entry.len as u8 } else { 0 };
        Ok(Op::Cancel(Self { user_data: entry.addr, bits, fd: entry.fd, opcode }))
    }

    /// Does it.
    pub fn issue(&self, cx: &mut Cx<'_>, req: &Head) -> Result<usize> {
        let file = file_of(cx.ring, self.bits, self.fd, req.has(flags::FIXED_FILE))?;
        let target = Target { bits: self.bits, user_data: self.user_data, file, opcode: self.opcode };
        matching(cx, &target, Some(req))
    }
}
