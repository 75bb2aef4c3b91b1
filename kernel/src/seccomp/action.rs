//! What becomes of a call: the mode of the thread, the answer of its filters.

use super::{log, notify};
use crate::process::{CurrentThread, current};
use crate::signal::force::{Mode, bad_syscall};
use crate::signal::{Siginfo, Signal};
use abi::Errno;
use abi::seccomp::{SeccompData, c};
use arch::trap::TrapFrame;

/// The actions by name, most restrictive first: `actions_avail`.
pub const ACTIONS: [(u32, &str); 8] = [
    (c::SECCOMP_RET_KILL_PROCESS, "kill_process"),
    (c::SECCOMP_RET_KILL_THREAD, "kill_thread"),
    (c::SECCOMP_RET_TRAP, "trap"),
    (c::SECCOMP_RET_ERRNO, "errno"),
    (c::SECCOMP_RET_USER_NOTIF, "user_notif"),
    (c::SECCOMP_RET_TRACE, "trace"),
    (c::SECCOMP_RET_LOG, "log"),
    (c::SECCOMP_RET_ALLOW, "allow"),
];

/// Largest error number that a filter can return.
const MAX_ERRNO: u32 = 4095;

/// Before a system call of a restricted thread: whether it is made. If not, the frame holds its result.
pub fn enter(frame: &mut TrapFrame) -> bool {
    let me = current();
    if me.trace.flags() & abi::ptrace::option::SUSPEND_SECCOMP != 0 {
        return true;
    }
    match me.seccomp.mode() {
        c::SECCOMP_MODE_FILTER => {
            let nr = frame.syscall_nr() as i32;
            let allowed = {
                let guard = sched::rcu::read_lock();
                me.seccomp.filter.load(&guard).is_none_or(|filter| filter.always_allows(nr))
            };
            allowed || filtered(frame, &me, Trace::Due)
        }
        c::SECCOMP_MODE_STRICT => strict(frame),
        _ => true,
    }
}

/// `SECCOMP_MODE_STRICT`: read, write, exit and the return from a signal handler.
fn strict(frame: &TrapFrame) -> bool {
    use abi::nr::{EXIT, READ, RT_SIGRETURN, WRITE};
    let nr = frame.syscall_nr() as i32;
    let is = |call| arch::uapi::syscall_nr(call).is_some_and(|n| i32::from(n) == nr);
    if [READ, WRITE, EXIT, RT_SIGRETURN].into_iter().any(is) {
        return true;
    }
    log::record(&data_of(frame), Signal::SIGKILL.number(), c::SECCOMP_RET_KILL_THREAD, true);
    crate::exit::exit(Signal::SIGKILL.number())
}

fn data_of(frame: &TrapFrame) -> SeccompData {
    SeccompData {
        nr: frame.syscall_nr() as i32,
        arch: arch::uapi::AUDIT_ARCH,
        instruction_pointer: frame.ip() as u64,
        args: frame.syscall_args().map(|arg| arg as u64),
    }
}

/// Whether a tracer is still to be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    Due,
    Done,
}

fn filtered(frame: &mut TrapFrame, me: &CurrentThread, trace: Trace) -> bool {
    let Some(path) = me.seccomp.filter() else { return true };
    let data = data_of(frame);
    let (value, filter) = path.ask(&data);
    let (action, reason) = (value & c::SECCOMP_RET_ACTION_FULL, value & c::SECCOMP_RET_DATA);
    match action {
        c::SECCOMP_RET_ALLOW => true,
        c::SECCOMP_RET_ERRNO => {
            log::record(&data, 0, action, filter.log);
            frame.set_return(-(reason.min(MAX_ERRNO) as isize));
            false
        }
        c::SECCOMP_RET_TRAP => {
            log::record(&data, 0, action, filter.log);
            // The handler sees the call as it was made, and may emulate it.
            frame.rollback_syscall();
            bad_syscall(info(&data, reason), Mode::Catchable);
            false
        }
        // A tracer that has seen the call and let it through is not asked again.
        c::SECCOMP_RET_TRACE if trace == Trace::Done => true,
        c::SECCOMP_RET_TRACE => match trace_event(frame, reason as u16) {
            Traced::NoTracer => {
                log::record(&data, 0, action, filter.log);
                frame.set_return(Errno::ENOSYS.to_return());
                false
            }
            // The tracer may have changed the call, so everybody else is asked about what it is now.
            Traced::Continue => filtered(frame, me, Trace::Done),
            Traced::Skip => false,
        },
        c::SECCOMP_RET_USER_NOTIF => {
            log::record(&data, 0, action, filter.log);
            notify::ask(frame, me, filter, &data)
        }
        c::SECCOMP_RET_LOG => {
            log::record(&data, 0, action, true);
            true
        }
        _ => kill(frame, me, action, reason, &data),
    }
}

/// The siginfo of `SIGSYS`.
fn info(data: &SeccompData, reason: u32) -> Siginfo {
    let at = data.instruction_pointer as usize;
    let mut info = Siginfo::from_syscall(c::SYS_SECCOMP, at, data.nr, data.arch);
    info.errno = reason as i32;
    info
}

/// The thread or its process ends; an action that nobody knows is `SECCOMP_RET_KILL_PROCESS`.
fn kill(frame: &mut TrapFrame, me: &CurrentThread, action: u32, reason: u32, data: &SeccompData) -> bool {
    let sigsys = Signal::SIGSYS.number();
    log::record(data, sigsys, action, true);
    if action == c::SECCOMP_RET_KILL_THREAD && me.process.thread_count() > 1 {
        crate::exit::exit(sigsys);
    }
    frame.rollback_syscall();
    bad_syscall(info(data, reason), Mode::Fatal);
    false
}

/// What a tracer did about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traced {
    /// There is none that asked for `PTRACE_O_TRACESECCOMP`: the call fails with `ENOSYS`.
    NoTracer,
    /// It has seen (and perhaps changed) the call.
    Continue,
    /// The call is not made: the thread is being killed, or the tracer set the number to -1. The result register
    /// is as the tracer left it.
    Skip,
}

/// Stops the running thread with `PTRACE_EVENT_SECCOMP` and message `reason`.
fn trace_event(frame: &mut TrapFrame, reason: u16) -> Traced {
    match crate::ptrace::stop::seccomp(frame, reason) {
        None => Traced::NoTracer,
        Some(true) => Traced::Continue,
        Some(false) => Traced::Skip,
    }
}
