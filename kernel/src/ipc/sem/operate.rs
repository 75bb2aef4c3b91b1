//! `semop(2)`, `semtimedop(2)`.

use super::attempt::{Attempt, attempt};
use super::set::{Batch, Changed, INLINE_OPS, SemSet, Waiter, alters};
use super::undo::Undo;
use crate::ipc::ids::Object;
use crate::ipc::{IpcNamespace, current_ns, perm};
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use crate::time::sleep::{deadline, wait_until};
use abi::ipc::Sembuf;
use abi::ipc::flag::SEM_UNDO;
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::user::{UserPtr, UserSlice};
use sched::Deadline;
use smallvec::SmallVec;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SEMOP, SEMTIMEDOP];

type Ops = SmallVec<[Sembuf; INLINE_OPS]>;

#[macros::syscall(semop)]
fn sys_semop(semid: i32, sops: UserPtr<Sembuf>, nsops: u32) -> Result<()> {
    operate(semid, sops, nsops as usize, None)
}

#[macros::syscall(semtimedop)]
fn sys_semtimedop(semid: i32, sops: UserPtr<Sembuf>, nsops: u32, timeout: UserPtr<Timespec>) -> Result<()> {
    operate(semid, sops, nsops as usize, timeout.read_opt()?)
}

fn operate(semid: i32, sops: UserPtr<Sembuf>, nsops: usize, timeout: Option<Timespec>) -> Result<()> {
    let ns = current_ns()?;
    if nsops > ns.limits.sem_opm.load(Ordering::Relaxed).max(0) as usize {
        return Err(Errno::E2BIG);
    }
    if nsops < 1 {
        return Err(Errno::EINVAL);
    }
    let ops = read_ops(sops.slice(nsops))?;
    if semid < 0 {
        return Err(Errno::EINVAL);
    }
    let until = match timeout {
        Some(timeout) => {
            let now = sched::time::monotonic_ns();
            Some(deadline(raw::CLOCK_MONOTONIC as i32, now.saturating_add(timeout.to_ns()?)))
        }
        None => None,
    };
    perform(&ns, semid, ops, until)
}

fn read_ops(from: UserSlice<Sembuf>) -> Result<Ops> {
    let mut ops = Ops::new();
    ops.try_reserve_exact(from.len()).map_err(|_| Errno::ENOMEM)?;
    ops.resize(from.len(), Sembuf::default());
    from.copy_to(&mut ops)?;
    Ok(ops)
}

fn perform(ns: &IpcNamespace, semid: i32, ops: Ops, until: Option<Deadline>) -> Result<()> {
    let me = current();
    let set = ns.sem.get(semid)?;
    let undo = if ops.iter().any(|op| op.flg & SEM_UNDO != 0) {
        Some(me.ipc.undo_list(&me)?.of(&set)?)
    } else {
        None
    };
    if ops.iter().any(|op| usize::from(op.num) >= set.len()) {
        return Err(Errno::EFBIG);
    }
    set.perm().check(ns, if alters(&ops) { perm::WRITE } else { perm::READ })?;
    let Some(waiter) = start(&me, &set, ops, undo)? else { return Ok(()) };
    let timed_out = wait_until(until, || waiter.result().is_some());
    if let Some(result) = waiter.result() {
        return result;
    }
    let mut state = set.lock();
    // Somebody may have been faster than the signal or the timer.
    if let Some(result) = waiter.result() {
        return result;
    }
    state.dequeue(&waiter);
    drop(state);
    Err(if timed_out { Errno::EAGAIN } else { Errno::EINTR })
}

/// Does the operations, or queues the running thread. `None`: done.
fn start(
    me: &CurrentThread,
    set: &Arc<SemSet>,
    ops: Ops,
    undo: Option<Arc<Undo>>,
) -> Result<Option<Arc<Waiter>>> {
    let mut batch = Batch::new();
    let mut state = set.lock();
    set.check_alive()?;
    match attempt(&mut state.sems, &ops, undo.as_deref(), &me.process.pid) {
        Attempt::Done => {
            state.touch();
            if alters(&ops) {
                state.update(Changed::Ops(&ops), &mut batch);
            }
            Ok(None)
        }
        Attempt::Failed(error) => Err(error),
        Attempt::Blocked(at) => {
            let waiter = Waiter::new(me.task_arc(), me.process.pid.clone(), ops, undo, at)?;
            state.enqueue(&waiter)?;
            Ok(Some(waiter))
        }
    }
}
