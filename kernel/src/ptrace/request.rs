//! The system call: finds the thread, checks that the caller is its tracer and that it stands, and does what is asked.

use super::state::{ATTACHED, SEIZED};
use super::{link, registers, resume, signals};
use crate::process::{Thread, current};
use crate::signal::stop as group;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::ptrace::{EVENTMSG_SYSCALL_ENTRY, EVENTMSG_SYSCALL_EXIT, RseqConfiguration, SyscallInfo};
use abi::ptrace::{event, option, request};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::ptrace::Direction;
use core::sync::atomic::Ordering;
use mm::remote::{RemoteBuf, RemoteMode};
use mm::user::{UserPtr, copy_to_user};
use sched::Task;
use zerocopy::IntoBytes;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PTRACE];

#[macros::syscall(ptrace)]
fn sys_ptrace(request: usize, pid: i32, addr: usize, data: usize) -> Result<usize> {
    // A number that does not fit is none.
    let request = u32::try_from(request).unwrap_or(u32::MAX);
    if request == request::TRACEME {
        return link::trace_me().map(|()| 0);
    }
    let task = current().pid_ns().task(pid).ok_or(Errno::ESRCH)?;
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    if request == request::SEIZE {
        return seize(&task, addr, data).map(|()| 0);
    }
    if request == request::ATTACH {
        return link::attach(&task, None).map(|()| 0);
    }
    let anywhere = matches!(request, request::KILL | request::INTERRUPT);
    check_tracee(&task, thread, anywhere)?;
    dispatch(&task, thread, request, addr, data)
}

fn seize(task: &Arc<Task>, addr: usize, options: usize) -> Result<()> {
    let known = u32::try_from(options).ok().filter(|o| o & !option::MASK == 0);
    let options = known.filter(|_| addr == 0).ok_or(Errno::EIO)?;
    check_options(options)?;
    link::attach(task, Some(options))
}

fn check_options(options: u32) -> Result<()> {
    if options & option::SUSPEND_SECCOMP != 0 {
        let me = current();
        let suspended = me.trace.flags() & option::SUSPEND_SECCOMP != 0;
        let restricted = me.seccomp.mode() != 0;
        if suspended || restricted || !me.with_cred(|c| c.capable(Cap::SysAdmin)) {
            return Err(Errno::EPERM);
        }
    }
    Ok(())
}

/// Whether the running thread traces `thread`, and that one stands in a stop (`anywhere`: or not).
fn check_tracee(task: &Task, thread: &Thread, anywhere: bool) -> Result<()> {
    let me = current();
    if !thread.trace.is_traced_by(me.task()) {
        return Err(Errno::ESRCH);
    }
    if anywhere {
        return Ok(());
    }
    let _state = thread.process.sig.lock();
    let jobctl = thread.signals.jobctl.load(Ordering::Relaxed);
    let stands = jobctl & (group::TRACED | group::LISTENING) == group::TRACED;
    // The tracer means the leader that an exec has replaced, and does not know yet.
    let stop = thread.trace.link.lock().stop;
    let exec = (event::EXEC << 8 | raw::SIGTRAP) as i32;
    let replaced = stop.code == exec && stop.message != thread.tid_in(&me.pid_ns()) as u64;
    if !stands || replaced || task.has_fatal_signal() { Err(Errno::ESRCH) } else { Ok(()) }
}

fn dispatch(task: &Arc<Task>, thread: &Thread, request: u32, addr: usize, data: usize) -> Result<usize> {
    let done = |result: Result<()>| result.map(|()| 0);
    match request {
        request::PEEKTEXT | request::PEEKDATA => done(peek(thread, addr, data)),
        request::POKETEXT | request::POKEDATA => done(poke(thread, addr, data)),
        request::PEEKUSR => done(registers::peek_user(task, addr, data)),
        request::POKEUSR => done(registers::poke_user(task, addr, data)),
        request::GETREGSET => done(registers::by_iovec(task, Direction::Get, addr, data)),
        request::SETREGSET => done(registers::by_iovec(task, Direction::Set, addr, data)),
        request::SETOPTIONS => done(set_options(thread, data)),
        request::GETEVENTMSG => {
            let message = thread.trace.link.lock().stop.message;
            done(UserPtr::<u64>::new(data).write(&message))
        }
        request::GETSIGINFO => done(signals::get_info(thread, data)),
        request::SETSIGINFO => done(signals::set_info(thread, data)),
        request::PEEKSIGINFO => signals::peek(thread, addr, data),
        request::GETSIGMASK => done(signals::get_mask(task, thread, addr, data)),
        request::SETSIGMASK => done(signals::set_mask(task, thread, addr, data)),
        request::INTERRUPT => done(resume::interrupt(task, thread)),
        request::LISTEN => done(resume::listen(task, thread)),
        request::KILL => {
            resume::kill(task);
            Ok(0)
        }
        request::DETACH => done(link::detach(task, thread, resume::signal_number(data)?)),
        request::GET_SYSCALL_INFO => syscall_info(task, thread, addr, data),
        request::GET_RSEQ_CONFIGURATION => rseq(thread, addr, data),
        _ if resume::resumes(request) => done(resume::resume(task, thread, request, data)),
        _ if arch::ptrace::OLD_SETOPTIONS == Some(request) => done(set_options(thread, data)),
        _ if arch::ptrace::ARCH_PRCTL == Some(request) => {
            done(registers::arch_prctl(task, thread, data as i32, addr))
        }
        _ => match arch::ptrace::legacy_request(request) {
            Some((way, note)) => done(registers::whole(task, way, note, data)),
            None => Err(Errno::EIO),
        },
    }
}

fn peek(thread: &Thread, addr: usize, data: usize) -> Result<()> {
    let space = thread.mm().ok_or(Errno::EIO)?;
    let mut word = [0; size_of::<usize>()];
    if space.access_remote(addr, RemoteBuf::Read(&mut word), RemoteMode::Force) != word.len() {
        return Err(Errno::EIO);
    }
    UserPtr::<usize>::new(data).write(&usize::from_ne_bytes(word))
}

fn poke(thread: &Thread, addr: usize, data: usize) -> Result<()> {
    let space = thread.mm().ok_or(Errno::EIO)?;
    let word = data.to_ne_bytes();
    let written = space.access_remote(addr, RemoteBuf::Write(&word), RemoteMode::Force);
    if written == word.len() { Ok(()) } else { Err(Errno::EIO) }
}

fn set_options(thread: &Thread, data: usize) -> Result<()> {
    let options = u32::try_from(data).ok().filter(|o| o & !option::MASK == 0).ok_or(Errno::EINVAL)?;
    check_options(options)?;
    let _state = thread.process.sig.lock();
    let kept = thread.trace.flags() & (ATTACHED | SEIZED);
    thread.trace.set_flags(kept | options);
    Ok(())
}

/// `PTRACE_GET_SYSCALL_INFO`: as many bytes of the structure as fit into `size`; how many there are.
fn syscall_info(task: &Arc<Task>, thread: &Thread, size: usize, data: usize) -> Result<usize> {
    let stop = thread.trace.link.lock().stop;
    let (nr, args, rval, ip, sp) = registers::with(task, |_, frame| {
        (frame.syscall_nr(), frame.syscall_args(), frame.return_value(), frame.ip(), frame.sp())
    })?;
    let mut info = SyscallInfo {
        arch: arch::ptrace::AUDIT_ARCH,
        instruction_pointer: ip as u64,
        stack_pointer: sp as u64,
        ..SyscallInfo::default()
    };
    let call = |info: &mut SyscallInfo| {
        let words = core::iter::once(nr as u64).chain(args.map(|a| a as u64));
        info.words.iter_mut().zip(words).for_each(|(to, word)| *to = word);
    };
    const UNION: usize = 24;
    let syscall = (raw::SIGTRAP | 0x80) as i32;
    let seccomp = (raw::SIGTRAP | event::SECCOMP << 8) as i32;
    let len = match (stop.info.map_or(0, |i| i.code), stop.message) {
        (code, EVENTMSG_SYSCALL_ENTRY) if code == syscall => {
            info.op = 1;
            call(&mut info);
            UNION + 56
        }
        (code, EVENTMSG_SYSCALL_EXIT) if code == syscall => {
            info.op = 2;
            let is_error = (-4095..0).contains(&rval);
            info.words[0] = rval as u64;
            info.words[1] = is_error.into();
            UNION + 9
        }
        (code, message) if code == seccomp => {
            info.op = 3;
            call(&mut info);
            info.ret_data = message & 0xffff_ffff;
            UNION + 60
        }
        _ => UNION,
    };
    let bytes = info.as_bytes();
    copy_to_user(data, bytes.get(..len.min(size)).unwrap_or_default())?;
    Ok(len)
}

fn rseq(thread: &Thread, size: usize, data: usize) -> Result<usize> {
    let configuration = RseqConfiguration {
        pointer: thread.rseq.addr.load(Ordering::Relaxed) as u64,
        size: thread.rseq.len.load(Ordering::Relaxed),
        signature: thread.rseq.sig.load(Ordering::Relaxed),
        ..RseqConfiguration::default()
    };
    let bytes = configuration.as_bytes();
    copy_to_user(data, bytes.get(..size.min(bytes.len())).unwrap_or_default())?;
    Ok(bytes.len())
}
