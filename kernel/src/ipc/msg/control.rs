//! `msgget(2)`, `msgctl(2)`.

use super::queue::{MsgQueue, Receivers, Senders};
use crate::ipc::ids::{Object, Wanted};
use crate::ipc::{IpcNamespace, current_ns, now, perm};
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::ipc::{Msginfo, Msqid64Ds, cmd};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MSGGET, MSGCTL];

/// What `IPC_INFO` shows of limits that do not exist: the size of a pool in kilobytes, of a segment, and how many segments.
const MSGPOOL: i32 = 32000 * (16384 / 1024);
const MSGSSZ: i32 = 16;
const MSGSEG: u16 = 0xffff;
const MSGMAP: i32 = 16384;
const MSGTQL: i32 = 16384;

#[macros::syscall(msgget)]
fn sys_msgget(key: i32, msgflg: u32) -> Result<i32> {
    let ns = current_ns()?;
    let wanted = Wanted { key, flags: msgflg };
    ns.msg.get_or_make(
        &ns,
        wanted,
        |_| Ok(()),
        |index| {
            let limit = ns.limits.msg_mni.load(Relaxed).max(0) as u32;
            let qbytes = ns.limits.msg_mnb.load(Relaxed).max(0) as usize;
            ns.msg.insert(index, wanted, limit, |perm| MsgQueue::new(perm, qbytes))
        },
    )
}

#[macros::syscall(msgctl)]
fn sys_msgctl(msqid: i32, command: i32, buf: usize) -> Result<i32> {
    if msqid < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    let ns = current_ns()?;
    match command {
        cmd::IPC_INFO | cmd::MSG_INFO => info(&ns, command, UserPtr::new(buf)),
        cmd::IPC_STAT | cmd::MSG_STAT | cmd::MSG_STAT_ANY => {
            let (ds, result) = stat(&ns, msqid, command)?;
            UserPtr::new(buf).write(&ds)?;
            Ok(result)
        }
        cmd::IPC_SET => set(&ns, msqid, &UserPtr::new(buf).read()?),
        cmd::IPC_RMID => {
            let mut index = ns.msg.write();
            let queue = ns.msg.get_to_control(&ns, msqid)?;
            queue.remove();
            ns.msg.remove(&mut index, &queue);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn info(ns: &IpcNamespace, command: i32, to: UserPtr<Msginfo>) -> Result<i32> {
    let mut info = Msginfo {
        msgpool: MSGPOOL,
        msgmap: MSGMAP,
        msgmax: ns.limits.msg_max.load(Relaxed),
        msgmnb: ns.limits.msg_mnb.load(Relaxed),
        msgmni: ns.limits.msg_mni.load(Relaxed),
        msgssz: MSGSSZ,
        msgtql: MSGTQL,
        msgseg: MSGSEG,
        pad: 0,
    };
    let highest = {
        let index = ns.msg.read();
        if command == cmd::MSG_INFO {
            let (mut messages, mut bytes) = (0usize, 0usize);
            ns.msg.for_each(&index, |queue| {
                let state = queue.lock();
                messages += state.messages.len();
                bytes = bytes.saturating_add(state.cbytes);
                true
            });
            info.msgpool = index.in_use() as i32;
            info.msgmap = i32::try_from(messages).unwrap_or(i32::MAX);
            info.msgtql = i32::try_from(bytes).unwrap_or(i32::MAX);
        }
        ns.msg.max_slot(&index)
    };
    to.write(&info)?;
    Ok(highest)
}

fn stat(ns: &IpcNamespace, msqid: i32, command: i32) -> Result<(Msqid64Ds, i32)> {
    let queue = if command == cmd::IPC_STAT { ns.msg.get(msqid) } else { ns.msg.get_slot(msqid) }?;
    if command != cmd::MSG_STAT_ANY {
        queue.perm().check(ns, perm::READ)?;
    }
    let pid_ns = current().pid_ns();
    let perm = queue.perm().to_abi();
    let state = queue.lock();
    queue.perm().check_alive()?;
    let ds = Msqid64Ds {
        perm,
        stime: state.stime,
        rtime: state.rtime,
        ctime: state.ctime,
        cbytes: state.cbytes as u64,
        qnum: state.messages.len() as u64,
        qbytes: state.qbytes as u64,
        lspid: state.lspid.nr_in(&pid_ns),
        lrpid: state.lrpid.nr_in(&pid_ns),
        ..Msqid64Ds::default()
    };
    Ok((ds, if command == cmd::IPC_STAT { 0 } else { queue.perm().id() }))
}

fn set(ns: &IpcNamespace, msqid: i32, new: &Msqid64Ds) -> Result<i32> {
    let (mut receivers, mut senders) = (Receivers::new(), Senders::new());
    let _index = ns.msg.write();
    let queue = ns.msg.get_to_control(ns, msqid)?;
    if new.qbytes > ns.limits.msg_mnb.load(Relaxed).max(0) as u64
        && !current().with_cred(|cred| cred.capable(Cap::SysResource))
    {
        return Err(Errno::EPERM);
    }
    let mut state = queue.lock();
    queue.perm().set(&new.perm)?;
    state.qbytes = usize::try_from(new.qbytes).unwrap_or(usize::MAX);
    state.ctime = now();
    // Receivers may have lost the right to read; senders may have got room.
    state.tell_receivers(Errno::EAGAIN, &mut receivers);
    state.tell_senders(&mut senders);
    Ok(0)
}
