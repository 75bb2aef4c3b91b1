//! `FUTEX_WAIT`, `FUTEX_WAKE`, `FUTEX_WAITV`.
//!
//! A waiting request stands in the buckets like a thread would, with a callback in place of the thread.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::io_uring::Sqe;
use abi::process::FutexWaitv;
use abi::{Errno, Result, raw};
use mm::fallible::try_vec;
use mm::try_arc;
use mm::user::UserPtr;

use super::super::request::{Action, Place, Request};
use super::super::{timeout, work};
use super::{Call, Issue, Op, Prep};
use crate::futex::detached::{self, Notify, Watched};

/// What to do.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum FutexOp {
    Wait { addr: usize, val: u32, mask: u32, flags: u32 },
    Wake { addr: usize, count: i32, mask: u32, flags: u32 },
    WaitV { words: Vec<FutexWaitv> },
}

fn word(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// The fields that both single operations have.
fn single(entry: &Sqe) -> Result<(usize, u32, u32)> {
    if entry.len != 0 || entry.op_flags != 0 || entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = entry.fd as u32;
    detached::check_flags(flags)?;
    Ok((entry.addr as usize, word(entry.addr3)?, flags))
}

/// Prepares `IORING_OP_FUTEX_WAIT`.
pub fn prep_wait(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    let (addr, mask, flags) = single(entry)?;
    let val = word(entry.off)?;
    Ok(Op::Futex(FutexOp::Wait { addr, val, mask, flags }))
}

/// Prepares `IORING_OP_FUTEX_WAKE`.
pub fn prep_wake(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    let (addr, mask, flags) = single(entry)?;
    Ok(Op::Futex(FutexOp::Wake { addr, count: entry.off as i32, mask, flags }))
}

/// Prepares `IORING_OP_FUTEX_WAITV`.
pub fn prep_waitv(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.fd != 0
        || entry.buf_index != 0
        || entry.file_index != 0
        || entry.off != 0
        || entry.op_flags != 0
        || entry.addr3 != 0
    {
        return Err(Errno::EINVAL);
    }
    if entry.len == 0 || entry.len > raw::FUTEX_WAITV_MAX {
        return Err(Errno::EINVAL);
    }
    let words = UserPtr::<FutexWaitv>::new(entry.addr as usize).slice(entry.len as usize).to_vec()?;
    Ok(Op::Futex(FutexOp::WaitV { words }))
}

/// A request in a bucket.
struct Waiter(Arc<Request>, AtomicBool);

impl Notify for Waiter {
    fn woken(&self, index: u32) {
        if self.0.claim() {
            self.0.result.store(index as i32, Ordering::Relaxed);
            work::queue(&self.0, Action::Complete);
        }
    }

    fn moved(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn was_moved(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl FutexOp {
    /// Tries it, and waits.
    pub fn issue(&self, call: &mut Call<'_, '_>) -> Issue {
        match self {
            Self::Wake { addr, count, mask, flags } => {
                Issue::of(detached::wake(*addr, *count, *mask, *flags))
            }
            Self::Wait { addr, val, mask, flags } => {
                if *mask == 0 {
                    return Issue::of(Err(Errno::EINVAL));
                }
                let word = Watched::new(*addr, *val, *flags).and_then(|word| Ok(try_vec(word, 1)?));
                self.wait(call, word, *mask)
            }
            Self::WaitV { words } => self.wait(call, detached::watch(words), u32::MAX),
        }
    }

    fn wait(&self, call: &mut Call<'_, '_>, words: Result<Vec<Watched>>, mask: u32) -> Issue {
        let Some(req) = call.shared else { return Issue::Share };
        let made = words.and_then(|words| Ok((words, try_arc(Waiter(req.clone(), AtomicBool::new(false)))?)));
        let (words, notify) = match made {
            Ok(made) => made,
            Err(errno) => return Issue::of(Err(errno)),
        };
        let notify: Arc<dyn Notify> = notify;
        call.cx.ring.track(req);
        req.wait_in(Place::Futex);
        match detached::enqueue(&notify, words, mask) {
            Ok(place) => {
                *req.futex.lock() = Some(place);
                timeout::start_limit(call.cx, req);
                Issue::Pending
            }
            // A waker may have been faster than the mismatch of a later word.
            Err(errno) if req.claim() => Issue::of(Err(errno)),
            Err(_) => Issue::Pending,
        }
    }
}
