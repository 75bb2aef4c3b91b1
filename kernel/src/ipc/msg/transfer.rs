//! `msgsnd(2)`, `msgrcv(2)`.

use super::queue::{Message, MsgQueue, Receiver, Receivers, Select, Sender, Senders, State};
use crate::ipc::ids::Object;
use crate::ipc::{IpcNamespace, current_ns, now, perm};
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use crate::time::sleep::wait_until;
use abi::ipc::flag::{IPC_NOWAIT, MSG_COPY, MSG_EXCEPT, MSG_NOERROR};
use abi::{Errno, Result};
use arch::sync::Preempt;
use core::sync::atomic::Ordering::Relaxed;
use mm::fallible::TryVec;
use mm::user::{UserPtr, UserSlice};
use sync::SpinLockGuard;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MSGSND, MSGRCV];

/// Bytes of a message's type, before its text.
const HEADER: usize = size_of::<i64>();

#[macros::syscall(msgsnd)]
fn sys_msgsnd(msqid: i32, msgp: usize, msgsz: usize, msgflg: u32) -> Result<()> {
    let kind: i64 = UserPtr::new(msgp).read()?;
    let ns = current_ns()?;
    if msgsz > ns.limits.msg_max.load(Relaxed).max(0) as usize || msqid < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let text = UserSlice::<u8>::new(msgp.wrapping_add(HEADER), msgsz).to_vec()?;
    let me = current();
    let queue = ns.msg.get(msqid)?;
    let mut batch = Receivers::new();
    let mut state = wait_for_room(&me, &ns, &queue, msgsz, msgflg)?;
    state.lspid.set(&me.process.pid);
    state.stime = now();
    if let Some(message) = state.offer(Message { kind, text }, &mut batch) {
        state.push(message);
    }
    Ok(())
}

/// The locked queue, as soon as it has room for a text of `len` bytes.
fn wait_for_room<'a>(
    me: &CurrentThread,
    ns: &IpcNamespace,
    queue: &'a MsgQueue,
    len: usize,
    flags: u32,
) -> Result<SpinLockGuard<'a, State, Preempt>> {
    loop {
        let mut state = queue.lock_with_room()?;
        queue.perm().check(ns, perm::WRITE)?;
        queue.perm().check_alive()?;
        if state.fits(len) {
            return Ok(state);
        }
        if flags & IPC_NOWAIT != 0 {
            return Err(Errno::EAGAIN);
        }
        let sender = Sender::new(me.task_arc(), len)?;
        state.enqueue_sender(&sender)?;
        drop(state);
        wait_until(None, || sender.is_told());
        let mut state = queue.lock();
        queue.perm().check_alive()?;
        state.dequeue_sender(&sender);
        drop(state);
        if me.task().has_pending_signal() {
            return Err(Errno::ERESTARTNOHAND);
        }
    }
}

#[macros::syscall(msgrcv)]
fn sys_msgrcv(msqid: i32, msgp: usize, msgsz: usize, msgtyp: i64, msgflg: u32) -> Result<usize> {
    let ns = current_ns()?;
    if msqid < 0 || isize::try_from(msgsz).is_err() {
        return Err(Errno::EINVAL);
    }
    if msgflg & MSG_COPY != 0 {
        if msgflg & MSG_EXCEPT != 0 || msgflg & IPC_NOWAIT == 0 {
            return Err(Errno::EINVAL);
        }
        return copy(&ns, msqid, msgp, msgsz, msgtyp, msgflg);
    }
    let select = Select::new(msgtyp, msgflg & MSG_EXCEPT != 0);
    let me = current();
    let queue = ns.msg.get(msqid)?;
    loop {
        match receive(&me, &ns, &queue, select, msgsz, msgflg) {
            // The queue's owner or permissions changed: look again.
            Err(Retry::Again) => {}
            Err(Retry::Failed(error)) => return Err(error),
            Ok(message) => return deliver(&message, msgp, msgsz),
        }
    }
}

/// Why there is no message.
enum Retry {
    Again,
    Failed(Errno),
}

impl From<Errno> for Retry {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

fn receive(
    me: &CurrentThread,
    ns: &IpcNamespace,
    queue: &MsgQueue,
    select: Select,
    room: usize,
    flags: u32,
) -> Result<Message, Retry> {
    queue.perm().check(ns, perm::READ)?;
    let mut batch = Senders::new();
    let mut state = queue.lock();
    queue.perm().check_alive()?;
    if let Some(at) = select.find(&state.messages) {
        let len = state.messages.get(at).map_or(0, |message| message.text.len());
        if room < len && flags & MSG_NOERROR == 0 {
            return Err(Errno::E2BIG.into());
        }
        state.rtime = now();
        state.lrpid.set(&me.process.pid);
        return state.take(at, &mut batch).ok_or(Retry::Again);
    }
    if flags & IPC_NOWAIT != 0 {
        return Err(Errno::ENOMSG.into());
    }
    let room = if flags & MSG_NOERROR != 0 { usize::MAX } else { room };
    let receiver = Receiver::new(me.task_arc(), me.process.pid.clone(), select, room)?;
    state.enqueue_receiver(&receiver)?;
    drop(state);
    wait_until(None, || receiver.is_done());
    let mut result = receiver.result();
    if result.is_none() {
        let mut state = queue.lock();
        // Somebody may have been faster than the signal.
        result = receiver.result();
        if result.is_none() {
            state.dequeue_receiver(&receiver);
        }
    }
    match result {
        Some(Ok(message)) => Ok(message),
        Some(Err(Errno::EAGAIN)) => Err(Retry::Again),
        Some(Err(error)) => Err(error.into()),
        None => Err(Errno::ERESTARTNOHAND.into()),
    }
}

/// Writes a message to the user: its type, and as much of its text as there is room for. It is out of the queue already; a bad
/// address loses it.
fn deliver(message: &Message, to: usize, room: usize) -> Result<usize> {
    UserPtr::new(to).write(&message.kind)?;
    let len = message.text.len().min(room);
    let text = message.text.get(..len).unwrap_or_default();
    UserSlice::new(to.wrapping_add(HEADER), len).copy_from(text)?;
    Ok(len)
}

/// `MSG_COPY`: the message at a position, which stays.
fn copy(ns: &IpcNamespace, msqid: i32, to: usize, room: usize, position: i64, flags: u32) -> Result<usize> {
    let most = room.min(ns.limits.msg_max.load(Relaxed).max(0) as usize);
    // As on Linux the buffer must be readable, although it is only written.
    let mut text = UserSlice::<u8>::new(to, most).to_vec()?;
    text.clear();
    let queue = ns.msg.get(msqid)?;
    queue.perm().check(ns, perm::READ)?;
    let state = queue.lock();
    queue.perm().check_alive()?;
    let at = Select::Position(position).find(&state.messages).ok_or(Errno::ENOMSG)?;
    let message = state.messages.get(at).ok_or(Errno::ENOMSG)?;
    if room < message.text.len() && flags & MSG_NOERROR == 0 {
        return Err(Errno::E2BIG);
    }
    // A text longer than what was set aside: the limit has been lowered meanwhile.
    if message.text.len() > most {
        return Err(Errno::EINVAL);
    }
    text.try_extend_from_slice(&message.text)?;
    let kind = message.kind;
    drop(state);
    deliver(&Message { kind, text }, to, room)
}
