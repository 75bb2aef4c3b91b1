//! Telling the parent: `SIGCHLD` and the wake-up of `wait`.

use super::send::{self, Sender};
use super::state::Change;
use super::{Siginfo, Signal};
use crate::process::{Process, Thread, Usage};
use abi::raw;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use sched::Task;

const TICK_NS: u64 = abi::time::NSEC_PER_SEC / abi::time::USER_HZ;

/// The siginfo of a child's state change, as `parent` sees the child.
fn child_info(child: &Process, parent: &Process, code: u32, status: i32) -> Siginfo {
    let usage = child.usage();
    let last = abi::creds::Uid(child.last_uid.load(Ordering::Relaxed));
    let uid = child.with_thread(|_, t| t.with_cred(|c| c.uid)).unwrap_or(last);
    let uid = seen_uid(parent, uid);
    let ticks = |ns: u64| (ns / TICK_NS) as i64;
    let pid = child.id_in(&parent.pid_ns());
    Siginfo::from_child(code as i32, pid, uid, status, ticks(usage.utime_ns), ticks(usage.stime_ns))
}

/// The same of one thread: what a tracer gets.
pub fn thread_info(task: &Task, thread: &Thread, viewer: &Process, code: u32, status: i32) -> Siginfo {
    let usage = Usage::of(task);
    let uid = seen_uid(viewer, thread.with_cred(|c| c.uid));
    let ticks = |ns: u64| (ns / TICK_NS) as i64;
    let pid = thread.tid_in(&viewer.pid_ns());
    Siginfo::from_child(code as i32, pid, uid, status, ticks(usage.utime_ns), ticks(usage.stime_ns))
}

/// A user id as `viewer` sees it.
fn seen_uid(viewer: &Process, uid: abi::creds::Uid) -> u32 {
    viewer.with_thread(|_, t: &Thread| t.with_cred(|c| c.user_ns.from_uid(uid))).unwrap_or(uid.0)
}

/// A process stopped or went on: `SIGCHLD` unless the parent has `SA_NOCLDSTOP`, and a look for `wait`.
pub fn parent_stopped(child: &Arc<Process>, change: Change) {
    let Some(parent) = child.parent() else { return };
    let (code, status) = match change {
        Change::Stopped => {
            let code = child.sig.lock().stop.code;
            (raw::CLD_STOPPED, if code == 0 { Signal::SIGSTOP.number() } else { code })
        }
        Change::Continued => (raw::CLD_CONTINUED, Signal::SIGCONT.number()),
    };
    stopped_child(&parent, &child_info(child, &parent, code, status));
}

/// Tells `parent` (or tracer) of a child that stopped or went on.
pub fn stopped_child(parent: &Arc<Process>, info: &Siginfo) {
    let action = parent.sighand().get(Signal::SIGCHLD);
    let quiet = action.handler == super::action::SIG_IGN || action.flags & u64::from(raw::SA_NOCLDSTOP) != 0;
    if !quiet {
        let _ = send::to_process(parent, Signal::SIGCHLD, info, Sender::Privileged);
    }
    parent.child_wait.wake_all();
}

/// Tells a tracer of a tracee that has exited.
pub fn exited_child(tracer: &Arc<Process>, signal: Signal, info: &Siginfo) {
    let mut info = *info;
    info.signo = signal.number();
    let _ = send::to_process(tracer, signal, &info, Sender::Privileged);
    tracer.child_wait.wake_all();
}

/// Splits a wait status into `si_code` and `si_status`.
pub fn exit_info(status: i32) -> (u32, i32) {
    if status & 0x7f == 0 {
        (raw::CLD_EXITED, (status >> 8) & 0xff)
    } else if status & 0x80 != 0 {
        (raw::CLD_DUMPED, status & 0x7f)
    } else {
        (raw::CLD_KILLED, status & 0x7f)
    }
}

/// The last thread of `child` has exited, and `tracer` traces its leader: the parent's turn comes later.
pub fn tracer_of_exited(child: &Arc<Process>, tracer: &Arc<Process>) {
    let is_parent = child.parent().is_some_and(|p| Arc::ptr_eq(&p, tracer));
    let own = Signal::new(child.exit_signal.load(Ordering::Relaxed));
    let signal = if is_parent { own } else { Some(Signal::SIGCHLD) };
    match signal {
        Some(signal) => {
            let (code, status) = exit_info(child.exit_code.load(Ordering::Relaxed));
            exited_child(tracer, signal, &child_info(child, tracer, code, status));
        }
        None => tracer.child_wait.wake_all(),
    }
}

/// The last thread of `child` has exited: sends its exit signal. Says whether the child is to vanish without `wait`
/// (the parent ignores `SIGCHLD` or set `SA_NOCLDWAIT`). Called with the tree lock held.
pub fn parent_exited(child: &Arc<Process>, parent: &Arc<Process>) -> bool {
    let mut signal = Signal::new(child.exit_signal.load(Ordering::Relaxed));
    let mut vanish = false;
    if signal == Some(Signal::SIGCHLD) {
        let sighand = parent.sighand();
        vanish = sighand.reaps_children();
        if sighand.get(Signal::SIGCHLD).handler == super::action::SIG_IGN {
            signal = None;
        }
    }
    if let Some(signal) = signal {
        let (code, status) = exit_info(child.exit_code.load(Ordering::Relaxed));
        let mut info = child_info(child, parent, code, status);
        info.signo = signal.number();
        let _ = send::to_process(parent, signal, &info, Sender::Privileged);
    }
    parent.child_wait.wake_all();
    vanish
}
