//! `FUTEX_WAIT`, `FUTEX_WAIT_BITSET`.

use super::bucket::{Entry, Kind, bucket, index_of, push};
use super::{Key, Scope};
use crate::process::{CurrentThread, current};
use abi::{Errno, Result};
use arch::uaccess::{NoFault, get_u32};
use sched::Deadline;

/// Reads the futex word under a bucket's lock: `None` if its page is not there.
pub fn peek(addr: usize) -> Option<u32> {
    let _no_faults = NoFault::new();
    get_u32(addr).ok()
}

/// Fetches the page of a futex word.
///
/// # Errors
/// `EFAULT`.
pub fn fetch(addr: usize) -> Result<()> {
    get_u32(addr).map(|_| ()).map_err(|_| Errno::EFAULT)
}

/// Queues the running thread as `entry` says, on the word at `addr` with this `key`, if it still holds `val`.
///
/// # Errors
/// `EAGAIN`: it does not; `EFAULT`, `ENOMEM`.
pub fn enqueue(
    me: &CurrentThread,
    key: &Key,
    addr: usize,
    val: u32,
    entry: impl Fn() -> Entry,
) -> Result<()> {
    let index = index_of(key);
    loop {
        let bucket = bucket(index);
        let mut queue = bucket.lock_to_wait();
        let result = match peek(addr) {
            Some(now) if now == val => push(&mut queue, entry()).map(|()| {
                me.futex.start(index);
                true
            }),
            Some(_) => Err(Errno::EAGAIN),
            None => Ok(false),
        };
        drop(queue);
        match result {
            Ok(true) => return Ok(()),
            Ok(false) => {
                bucket.leave(1);
                fetch(addr)?;
            }
            Err(errno) => {
                bucket.leave(1);
                return Err(errno);
            }
        }
    }
}

/// Takes the running thread out of its bucket. `false`: a waker was faster.
pub fn dequeue(me: &CurrentThread) -> bool {
    loop {
        let index = me.futex.bucket();
        let bucket = bucket(index);
        let mut queue = bucket.lock();
        if me.futex.is_woken() {
            return false;
        }
        if me.futex.bucket() != index {
            // Requeued between the look and the lock.
            continue;
        }
        let at =
            queue.iter().position(|e| e.notify.is_none() && core::ptr::eq(&raw const *e.task, me.task()));
        let entry = at.and_then(|at| queue.remove(at));
        drop(queue);
        // The task reference is dropped outside the lock.
        let found = entry.is_some();
        drop(entry);
        if found {
            bucket.leave(1);
        }
        return found;
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Woken.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal is pending.
    Interrupted,
}

/// Sleeps until woken, a signal or the deadline.
pub fn sleep(me: &CurrentThread, deadline: Option<Deadline>) -> End {
    let timed_out = crate::time::sleep::wait_until(deadline, || me.futex.is_woken());
    if me.futex.is_woken() {
        End::Woken
    } else if timed_out {
        End::TimedOut
    } else {
        End::Interrupted
    }
}

/// Waits on the word at `addr` while it holds `val`.
///
/// # Errors
/// `EAGAIN`: it does not; `ETIMEDOUT`; `ERESTARTSYS` when a signal came (the caller decides how to go on); `EINVAL`
/// for an empty bitset.
pub fn wait(addr: usize, scope: Scope, val: u32, deadline: Option<Deadline>, bitset: u32) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let key = Key::of(addr, scope)?;
    let entry = || Entry { bitset, ..Entry::new(key, me.task_arc(), Kind::Plain) };
    enqueue(&me, &key, addr, val, entry)?;
    let end = sleep(&me, deadline);
    let taken = end == End::Woken || !dequeue(&me);
    me.futex.finish();
    match end {
        _ if taken => Ok(()),
        End::TimedOut => Err(Errno::ETIMEDOUT),
        _ => Err(Errno::ERESTARTSYS),
    }
}
