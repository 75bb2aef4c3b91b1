//! Robust futexes: what happens to locks whose owner dies. set_robust_list(2), get_robust_list(2).
//!
//! A thread registers the head of a list, in user memory, of the futexes it holds. At exit the kernel walks it, marks
//! each word that still names the thread with `FUTEX_OWNER_DIED` and wakes a waiter. The list is the user's: every
//! pointer may be wild, and the walk is bounded.

use super::wake::wake_key;
use super::{Key, Scope};
use crate::process::{Thread, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::process::RobustListHead;
use abi::{Errno, Result, raw};
use arch::uaccess::{cmpxchg_u32, get_u32, get_u64};
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::pi::After;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SET_ROBUST_LIST, GET_ROBUST_LIST];

/// The walk ends here even if the list is circular.
const LIST_LIMIT: usize = 2048;

#[macros::syscall(set_robust_list)]
fn sys_set_robust_list(head: UserPtr<RobustListHead>, len: usize) -> Result<()> {
    if len != size_of::<RobustListHead>() {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(head.addr(), Ordering::Relaxed);
    Ok(())
}

#[macros::syscall(get_robust_list)]
fn sys_get_robust_list(pid: i32, head: UserPtr<usize>, len: UserPtr<usize>) -> Result<()> {
    let me = current();
    let addr = if pid == 0 {
        me.robust_list.load(Ordering::Relaxed)
    } else {
        let task = me.pid_ns().task(pid).ok_or(Errno::ESRCH)?;
        let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
        crate::cred::access::may_inspect(&me, thread, Cap::SysPtrace)?;
        thread.robust_list.load(Ordering::Relaxed)
    };
    len.write(&size_of::<RobustListHead>())?;
    head.write(&addr)
}

/// Gives up the locks of the running thread, which ends or leaves its address space (that is still there): walks its list,
/// then hands over the priority-inheriting locks that others wait for, listed or not.
pub fn exit(me: &Thread, after: After) {
    let head = me.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // A bad pointer ends the walk; the thread is exiting, nobody can be told.
        let _ = walk(me, head);
    }
    sched::current().abandon_mutexes(after);
}

/// A list pointer: bit 0 marks a priority-inheriting futex.
fn entry(word: u64) -> (usize, bool) {
    (word as usize & !1, word & 1 != 0)
}

fn walk(me: &Thread, head: usize) -> Result<(), arch::uaccess::UserFault> {
    let offset = get_u64(head.wrapping_add(8))? as usize;
    let (pending, pending_pi) = entry(get_u64(head.wrapping_add(16))?);
    let (mut at, mut pi) = entry(get_u64(head)?);
    let tid = me.tid() as u32;
    for _ in 0..LIST_LIMIT {
        if at == head {
            break;
        }
        // The next pointer is read first: the owner who gets the lock may reuse this one at once.
        let next = get_u64(at);
        if at != pending {
            owner_died(tid, at.wrapping_add(offset), pi, Held::Listed)?;
        }
        (at, pi) = entry(next?);
        sched::cond_resched();
    }
    if pending != 0 {
        owner_died(tid, pending.wrapping_add(offset), pending_pi, Held::Pending)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Held {
    Listed,
    /// The thread died between taking or releasing the lock and noting it.
    Pending,
}

fn owner_died(tid: u32, addr: usize, pi: bool, held: Held) -> Result<(), arch::uaccess::UserFault> {
    if !addr.is_multiple_of(4) {
        return Err(arch::uaccess::UserFault);
    }
    // On private memory this is the private key too.
    let wake = |limit| {
        if let Ok(key) = Key::of(addr, Scope::Shared) {
            let _ = wake_key(&key, limit, u32::MAX);
        }
    };
    let mut word = get_u32(addr)?;
    loop {
        let owner = word & raw::FUTEX_TID_MASK;
        // Released already, but perhaps the wake-up was not made.
        if held == Held::Pending && !pi && owner == 0 {
            wake(1);
            return Ok(());
        }
        if owner != tid {
            return Ok(());
        }
        let dead = word & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED;
        let seen = cmpxchg_u32(addr, word, dead)?;
        if seen == word {
            break;
        }
        word = seen;
    }
    // Waiters of a priority-inheriting lock get it with all others that the thread owned, in `exit`.
    if word & raw::FUTEX_WAITERS != 0 && !pi {
        wake(1);
    }
    Ok(())
}
