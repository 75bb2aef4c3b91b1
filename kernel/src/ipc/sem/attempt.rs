//! A list of operations, done as a whole or not at all: the core of `semop(2)`.

use super::undo::Undo;
use super::{ADJUST_MAX, VALUE_MAX};
use crate::ipc::actor::LastPid;
use crate::process::Pid;
use abi::Errno;
use abi::ipc::Sembuf;
use abi::ipc::flag::{IPC_NOWAIT, SEM_UNDO};
use alloc::sync::Arc;

/// One semaphore.
#[derive(Default)]
pub struct Sem {
    /// `semval`: 0 to [`VALUE_MAX`].
    pub value: i32,
    /// `sempid`.
    pub pid: LastPid,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    /// All operations are done.
    Done,
    /// Nothing is done: the operation with this index would have to wait.
    Blocked(usize),
    /// Nothing is done, and waiting does not help.
    Failed(Errno),
}

/// Does `ops` for `pid` if all of them can be done now. `undo` is there if one of them asks for it. The set is locked; every
/// `num` is inside it.
pub fn attempt(sems: &mut [Sem], ops: &[Sembuf], undo: Option<&Undo>, pid: &Arc<Pid>) -> Attempt {
    for (index, op) in ops.iter().enumerate() {
        let refused = match step(sems, op, undo) {
            Ok(()) => continue,
            Err(refused) => refused,
        };
        for done in ops.iter().take(index).rev() {
            take_back(sems, done, undo);
        }
        return match refused {
            Refused::Range => Attempt::Failed(Errno::ERANGE),
            Refused::Wait if op.flg as u32 & IPC_NOWAIT != 0 => Attempt::Failed(Errno::EAGAIN),
            Refused::Wait => Attempt::Blocked(index),
        };
    }
    for op in ops {
        if let Some(sem) = sems.get_mut(usize::from(op.num)) {
            sem.pid.set(pid);
        }
    }
    Attempt::Done
}

enum Refused {
    Wait,
    Range,
}

fn step(sems: &mut [Sem], op: &Sembuf, undo: Option<&Undo>) -> Result<(), Refused> {
    let sem = sems.get_mut(usize::from(op.num)).ok_or(Refused::Range)?;
    let value = sem.value + i32::from(op.op);
    if op.op == 0 && sem.value != 0 || value < 0 {
        return Err(Refused::Wait);
    }
    if value > VALUE_MAX {
        return Err(Refused::Range);
    }
    if op.flg & SEM_UNDO != 0
        && let Some(undo) = undo
    {
        let adjusted = undo.get(op.num) - i32::from(op.op);
        if !(-ADJUST_MAX - 1..=ADJUST_MAX).contains(&adjusted) {
            return Err(Refused::Range);
        }
        undo.set(op.num, adjusted);
    }
    sem.value = value;
    Ok(())
}

fn take_back(sems: &mut [Sem], op: &Sembuf, undo: Option<&Undo>) {
    if let Some(sem) = sems.get_mut(usize::from(op.num)) {
        sem.value -= i32::from(op.op);
    }
    if op.flg & SEM_UNDO != 0
        && let Some(undo) = undo
    {
        undo.set(op.num, undo.get(op.num) + i32::from(op.op));
    }
}
