//! Tracing: ptrace(2), and what wait4(2) tells a tracer.

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

tests![
    traceme_and_stops,
    peek_and_poke,
    attach_and_detach,
    attach_to_stopped,
    permissions,
    syscall_stops,
    syscall_skipped_and_changed,
    syscall_info,
    emulated_calls,
    registers,
    register_sets,
    siginfo_changes,
    signals_are_intercepted,
    queued_signals,
    signal_masks,
    restarted_calls,
    options_and_errors,
    proc_shows_tracing,
    rseq_configuration,
];

pub(crate) const PTRACE_EVENT_STOP_: i32 = 128;

/// `ptrace` itself, without the C library's dance around the peeks.
pub(crate) fn ptrace(request: i32, pid: i32, at: usize, data: usize) -> crate::sys::Result<usize> {
    sys!(SYS_ptrace, request, pid, at, data)
}

pub(crate) fn cont(pid: i32, signal: i32) -> crate::sys::Result<()> {
    ptrace(PTRACE_CONT, pid, 0, signal as usize).map(drop)
}

/// A child that asks to be traced, stops itself, and goes on with `body`. It stands in that stop.
pub(crate) fn traced(body: impl FnOnce() -> i32) -> Result<i32, Failure> {
    let child = fork(|| {
        if ptrace(PTRACE_TRACEME, 0, 0, 0).is_err() {
            return 99;
        }
        let _ = kill(getpid(), SIGSTOP);
        body()
    })?;
    expect_stop(child, SIGSTOP)?;
    Ok(child)
}

/// Waits for `pid` to stop, and says with what: signal, and event in the second byte.
pub(crate) fn stop_code(pid: i32) -> Result<i32, Failure> {
    let (_, status) = wait_options(pid, __WALL)?;
    check!(WIFSTOPPED(status), "status {status:#x}");
    Ok(status >> 8)
}

pub(crate) fn expect_stop(pid: i32, code: i32) -> Outcome {
    let got = stop_code(pid)?;
    check!(got == code, "stopped with {got:#x}, not {code:#x}");
    Ok(())
}

pub(crate) fn event(number: i32) -> i32 {
    SIGTRAP | number << 8
}

pub(crate) fn message(pid: i32) -> crate::sys::Result<usize> {
    let mut message = 0_usize;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, addr_mut(&mut message))?;
    Ok(message)
}

pub(crate) fn siginfo(pid: i32) -> crate::sys::Result<siginfo_t> {
    let mut info: siginfo_t = zeroed();
    ptrace(PTRACE_GETSIGINFO, pid, 0, addr_mut(&mut info))?;
    Ok(info)
}

#[cfg(target_arch = "x86_64")]
mod machine {
    pub const WORDS: usize = 27;
    pub const NR: usize = 15;
    pub const ARG0: usize = 14;
    pub const RESULT: usize = 10;
    pub const IP: usize = 16;
    pub const SP: usize = 19;
    pub const AUDIT_ARCH: u32 = 0xc000_003e;
    pub const SYSCALL_LEN: u64 = 2;
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub const WORDS: usize = 34;
    pub const NR: usize = 8;
    pub const ARG0: usize = 0;
    pub const RESULT: usize = 0;
    pub const IP: usize = 32;
    pub const SP: usize = 31;
    pub const AUDIT_ARCH: u32 = 0xc000_00b7;
    pub const SYSCALL_LEN: u64 = 4;
}

pub(crate) use machine::*;

pub(crate) type Regs = [u64; WORDS];
pub(crate) const NT_PRSTATUS_: usize = 1;
pub(crate) const NT_PRFPREG_: usize = 2;

pub(crate) fn get_set(pid: i32, note: usize, buffer: &mut [u8]) -> crate::sys::Result<usize> {
    let mut vector = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    ptrace(PTRACE_GETREGSET, pid, note, addr_mut(&mut vector))?;
    Ok(vector.iov_len)
}

pub(crate) fn set_set(pid: i32, note: usize, buffer: &mut [u8]) -> crate::sys::Result<usize> {
    let mut vector = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    ptrace(PTRACE_SETREGSET, pid, note, addr_mut(&mut vector))?;
    Ok(vector.iov_len)
}

pub(crate) fn regs(pid: i32) -> crate::sys::Result<Regs> {
    let mut bytes = [0_u8; WORDS * 8];
    get_set(pid, NT_PRSTATUS_, &mut bytes)?;
    let mut regs = [0; WORDS];
    for (reg, word) in regs.iter_mut().zip(bytes.chunks_exact(8)) {
        *reg = u64::from_ne_bytes(word.try_into().unwrap_or_default());
    }
    Ok(regs)
}

pub(crate) fn set_regs(pid: i32, regs: &Regs) -> crate::sys::Result<()> {
    let mut bytes: Vec<u8> = regs.iter().flat_map(|r| r.to_ne_bytes()).collect();
    set_set(pid, NT_PRSTATUS_, &mut bytes).map(drop)
}

/// Makes the system call that the child is about to make another one.
pub(crate) fn set_syscall(pid: i32, nr: i64) -> crate::sys::Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut all = regs(pid)?;
        all[NR] = nr as u64;
        set_regs(pid, &all)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut bytes = (nr as i32).to_ne_bytes();
        set_set(pid, 0x404, &mut bytes).map(drop)
    }
}

pub(crate) fn peek_word(pid: i32, at: usize) -> crate::sys::Result<usize> {
    let mut word = 0_usize;
    ptrace(PTRACE_PEEKDATA, pid, at, addr_mut(&mut word))?;
    Ok(word)
}

pub(crate) fn sleeper() -> crate::sys::Result<i32> {
    fork(|| {
        loop {
            sleep_ms(1000);
        }
    })
}

pub(crate) fn finish(pid: i32) -> Outcome {
    kill(pid, SIGKILL)?;
    loop {
        let (_, status) = wait_options(pid, __WALL)?;
        if WIFSIGNALED(status) {
            check_eq!(WTERMSIG(status), SIGKILL);
            return Ok(());
        }
    }
}

fn traceme_and_stops() -> Outcome {
    let child = traced(|| {
        let _ = kill(getpid(), SIGUSR1);
        let _ = kill(getpid(), SIGCHLD);
        7
    })?;
    // A stop is reported once.
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    cont(child, 0)?;
    // Any signal stops, also one that is ignored.
    expect_stop(child, SIGUSR1)?;
    cont(child, 0)?;
    expect_stop(child, SIGCHLD)?;
    cont(child, SIGCHLD)?;
    check_eq!(wait_exit(child)?, 7);
    // A signal that is passed on does what it does.
    let child = traced(|| {
        let _ = kill(getpid(), SIGUSR1);
        7
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGUSR1)?;
    cont(child, SIGTERM)?;
    check_eq!(wait_exit(child)?, -SIGTERM);
    // SIGKILL is not shown.
    let child = traced(|| 7)?;
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    let child = traced(|| 7)?;
    ptrace(PTRACE_KILL, child, 0, 0)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    // Twice is once too often.
    let status = in_child(|| {
        let first = ptrace(PTRACE_TRACEME, 0, 0, 0).is_ok();
        let second = ptrace(PTRACE_TRACEME, 0, 0, 0) == Err(Errno(EPERM));
        i32::from(!(first && second))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn peek_and_poke() -> Outcome {
    let page = map_anon(8192)?;
    munmap(page + 4096, 4096)?;
    let word = page + 64;
    atomic(word).store(0x1234, SeqCst);
    let code = peek_and_poke as *const () as usize & !7;
    let child = traced(|| i32::from(atomic(word).load(SeqCst) != 0x4321))?;
    check_eq!(peek_word(child, word)?, 0x1234);
    ptrace(PTRACE_POKEDATA, child, word, 0x4321)?;
    check_eq!(peek_word(child, word)?, 0x4321);
    check_eq!(atomic(word).load(SeqCst), 0x1234);
    // Program text, which the child itself cannot write: a private copy.
    let old = peek_word(child, code)?;
    ptrace(PTRACE_POKETEXT, child, code, !old)?;
    check_eq!(peek_word(child, code)?, !old);
    // SAFETY: reads this program's own text.
    check_eq!(unsafe { std::ptr::read_volatile(code as *const usize) }, old);
    ptrace(PTRACE_POKETEXT, child, code, old)?;
    // Not aligned, and over the end.
    check_eq!(peek_word(child, word + 1)?, 0x43);
    check_err!(peek_word(child, page + 4096 - 4), EIO);
    check_err!(peek_word(child, 8), EIO);
    check_err!(ptrace(PTRACE_POKEDATA, child, page + 4096, 0), EIO);
    check_err!(ptrace(PTRACE_PEEKDATA, child, word, 8), EFAULT);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn attach_and_detach() -> Outcome {
    let word = map_shared(4096)?;
    let child = fork(|| {
        while atomic(word).load(SeqCst) == 0 {
            sleep_ms(1);
        }
        5
    })?;
    ptrace(PTRACE_ATTACH, child, 0, 0)?;
    check_err!(ptrace(PTRACE_ATTACH, child, 0, 0), EPERM);
    expect_stop(child, SIGSTOP)?;
    check_eq!(state(child), Some('t'));
    cont(child, 0)?;
    // It runs: requests fail, and so does a detach.
    check_err!(peek_word(child, word), ESRCH);
    check_err!(ptrace(PTRACE_DETACH, child, 0, 0), ESRCH);
    kill(child, SIGUSR1)?;
    expect_stop(child, SIGUSR1)?;
    check_err!(ptrace(PTRACE_DETACH, child, 0, 1000), EIO);
    ptrace(PTRACE_DETACH, child, 0, 0)?;
    check_err!(cont(child, 0), ESRCH);
    atomic(word).store(1, SeqCst);
    check_eq!(wait_exit(child)?, 5);
    // Detaching with a signal.
    let child = fork(|| {
        loop {
            sleep_ms(10);
        }
    })?;
    ptrace(PTRACE_ATTACH, child, 0, 0)?;
    expect_stop(child, SIGSTOP)?;
    ptrace(PTRACE_DETACH, child, 0, SIGTERM as usize)?;
    check_eq!(wait_exit(child)?, -SIGTERM);
    Ok(())
}

fn attach_to_stopped() -> Outcome {
    let child = fork(|| {
        loop {
            sleep_ms(10);
        }
    })?;
    kill(child, SIGSTOP)?;
    check!(WIFSTOPPED(wait_options(child, WUNTRACED)?.1));
    ptrace(PTRACE_ATTACH, child, 0, 0)?;
    // No moment between: it is in the tracer's hands when the call returns.
    check_eq!(state(child), Some('t'));
    let (pid, status) = wait_options(child, WNOHANG)?;
    check!(pid == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "{pid} {status:#x}");
    ptrace(PTRACE_DETACH, child, 0, 0)?;
    // The group is still stopped, with the attach's SIGSTOP to come.
    check!(eventually(|| state(child) == Some('T')));
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn permissions() -> Outcome {
    check_err!(ptrace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    check_err!(ptrace(PTRACE_SEIZE, getpid(), 0, 0), EPERM);
    check_err!(ptrace(PTRACE_ATTACH, 4_000_000, 0, 0), ESRCH);
    check_err!(cont(1, 0), ESRCH);
    // A kernel thread.
    check_err!(ptrace(PTRACE_ATTACH, 2, 0, 0), EPERM);
    let ready = map_shared(4096)?;
    let other = fork(|| {
        let _ = sys!(SYS_setresuid, 1234, 1234, 1234);
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        atomic(ready).fetch_add(1, SeqCst);
        loop {
            sleep_ms(10);
        }
    })?;
    let quiet = fork(|| {
        let _ = sys!(SYS_setresuid, 1234, 1234, 1234);
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
        atomic(ready).fetch_add(1, SeqCst);
        loop {
            sleep_ms(10);
        }
    })?;
    check!(eventually(|| atomic(ready).load(SeqCst) == 2));
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1234, 1234, 1234);
        // Root's groups are not the other's, but the ids count.
        let own = ptrace(PTRACE_ATTACH, other, 0, 0);
        let root = ptrace(PTRACE_ATTACH, 1, 0, 0);
        let undumpable = ptrace(PTRACE_ATTACH, quiet, 0, 0);
        if own.is_err() {
            return 1;
        }
        if root != Err(Errno(EPERM)) {
            return 2;
        }
        if undumpable != Err(Errno(EPERM)) {
            return 3;
        }
        0
    })?;
    check_eq!(status, 0);
    // Who has the capability may in any case.
    ptrace(PTRACE_SEIZE, quiet, 0, 0)?;
    for pid in [other, quiet] {
        kill(pid, SIGKILL)?;
        check_eq!(wait_exit(pid)?, -SIGKILL);
    }
    Ok(())
}

fn syscall_stops() -> Outcome {
    let child = traced(|| {
        let _ = sys!(SYS_getppid);
        3
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    let mut calls = Vec::new();
    loop {
        ptrace(PTRACE_SYSCALL, child, 0, 0)?;
        let (_, status) = wait_options(child, 0)?;
        if !WIFSTOPPED(status) {
            check!(WIFEXITED(status) && WEXITSTATUS(status) == 3);
            break;
        }
        check_eq!(WSTOPSIG(status), SIGTRAP | 0x80);
        let entry = message(child)? == 1;
        let all = regs(child)?;
        calls.push((entry, all[NR] as i64, all[RESULT] as i64));
        let info = siginfo(child)?;
        check!(info.si_signo == SIGTRAP && info.si_code == SIGTRAP | 0x80);
    }
    let getppid = calls.iter().position(|c| c.0 && c.1 == SYS_getppid as i64);
    check!(getppid.is_some(), "{calls:?}");
    let after = getppid.and_then(|at| calls.get(at + 1)).copied();
    check!(after.is_some_and(|c| !c.0 && c.2 == i64::from(getpid())), "{calls:?}");
    #[cfg(target_arch = "x86_64")]
    check!(getppid.and_then(|at| calls.get(at)).is_some_and(|c| c.2 == -i64::from(ENOSYS)), "{calls:?}");
    // The last call has an entry only.
    check!(calls.last().is_some_and(|c| c.0 && c.1 == SYS_exit_group as i64), "{calls:?}");
    Ok(())
}

/// Lets the child run to the entry (or exit) of the next call `nr`.
pub(crate) fn run_to(child: i32, nr: i64) -> Outcome {
    loop {
        ptrace(PTRACE_SYSCALL, child, 0, 0)?;
        expect_stop(child, SIGTRAP | 0x80)?;
        if message(child)? == 1 && regs(child)?[NR] as i64 == nr {
            return Ok(());
        }
    }
}

fn syscall_skipped_and_changed() -> Outcome {
    let word = map_shared(4096)?;
    let child = traced(|| {
        let skipped = sys!(SYS_getppid);
        atomic(word).store(skipped.map_or(0, |v| v as u32), SeqCst);
        let changed = sys!(SYS_getppid);
        atomic(word + 4).store(changed.map_or(0, |v| v as u32), SeqCst);
        let failed = sys!(SYS_getppid);
        atomic(word + 8).store(failed.map_or_else(|e| e.0 as u32, |_| 0), SeqCst);
        let argument = sys!(SYS_dup, 4711);
        i32::from(argument.is_err())
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_getppid)?;
    // Not made at all, with a result of the tracer's.
    set_syscall(child, -1)?;
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGTRAP | 0x80)?;
    let mut all = regs(child)?;
    all[RESULT] = 77;
    set_regs(child, &all)?;
    // Another call.
    run_to(child, SYS_getppid)?;
    set_syscall(child, SYS_getpid)?;
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGTRAP | 0x80)?;
    check_eq!(regs(child)?[RESULT] as i32, child);
    // One that is not there.
    run_to(child, SYS_getppid)?;
    set_syscall(child, 7777)?;
    // Another argument.
    run_to(child, SYS_dup)?;
    let mut all = regs(child)?;
    check_eq!(all[ARG0], 4711);
    all[ARG0] = 0;
    set_regs(child, &all)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(atomic(word).load(SeqCst), 77);
    check_eq!(atomic(word + 4).load(SeqCst), child as u32);
    check_eq!(atomic(word + 8).load(SeqCst), ENOSYS as u32);
    Ok(())
}

fn syscall_info() -> Outcome {
    const GET_SYSCALL_INFO: i32 = 0x420e;
    let child = traced(|| {
        let _ = sys!(SYS_tgkill, -5_i32, 2, 3);
        0
    })?;
    let mut info = [0_u64; 11];
    let size = size_of_val(&info);
    let read = |info: &mut [u64; 11]| {
        *info = [0; 11];
        ptrace(GET_SYSCALL_INFO, child, size, addr_mut(info))
    };
    check_eq!(read(&mut info)?, 24);
    let head = |info: &[u64; 11]| (info[0] as u8, (info[0] >> 32) as u32);
    check_eq!(head(&info), (0, AUDIT_ARCH));
    check_eq!((info[1], info[2]), (regs(child)?[IP], regs(child)?[SP]));
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_tgkill)?;
    check_eq!(read(&mut info)?, 80);
    check_eq!(head(&info).0, 1);
    check_eq!(info[3] as i64, SYS_tgkill as i64);
    check_eq!((info[4] as i64, info[5], info[6]), (-5, 2, 3));
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGTRAP | 0x80)?;
    check_eq!(read(&mut info)?, 33);
    check_eq!(head(&info).0, 2);
    check_eq!((info[3] as i64, info[4] as u8), (-i64::from(EINVAL), 1));
    // Less room, and none.
    info = [0; 11];
    check_eq!(ptrace(GET_SYSCALL_INFO, child, 8, addr_mut(&mut info))?, 33);
    check_eq!(info[1], 0);
    check_eq!(ptrace(GET_SYSCALL_INFO, child, 0, 0)?, 33);
    check_err!(ptrace(GET_SYSCALL_INFO, child, 33, 8), EFAULT);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn emulated_calls() -> Outcome {
    let (sysemu, singlestep) = (31, 32);
    let child = traced(|| sys!(SYS_getppid).map_or(1, |v| v as i32))?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    loop {
        // The tail of the kill that stopped it comes first.
        ptrace(sysemu, child, 0, 0)?;
        expect_stop(child, SIGTRAP | 0x80)?;
        let mut all = regs(child)?;
        if all[NR] as i64 == SYS_getppid as i64 {
            all[RESULT] = 55;
            set_regs(child, &all)?;
            break;
        }
        check!(all[NR] as i64 != SYS_exit_group as i64, "getppid was not seen");
    }
    // Steps, and a call that is seen and not made.
    let mut steps = 0;
    loop {
        ptrace(singlestep, child, 0, 0)?;
        let code = stop_code(child)?;
        let all = regs(child)?;
        if code == SIGTRAP | 0x80 {
            check!(all[NR] as i64 == SYS_exit_group as i64 || all[NR] as i64 == SYS_exit as i64);
            check_eq!(all[ARG0], 55);
            break;
        }
        check_eq!(code, SIGTRAP);
        steps += 1;
        check!(steps < 10_000);
    }
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn registers() -> Outcome {
    let child = traced(|| 0)?;
    let all = regs(child)?;
    check!(all[SP] != 0 && all[IP] != 0);
    // Shorter transfers: whole registers only.
    let mut some = [0_u8; 16];
    check_eq!(get_set(child, NT_PRSTATUS_, &mut some)?, 16);
    check_eq!(some[..8], all[0].to_ne_bytes());
    check_err!(get_set(child, NT_PRSTATUS_, &mut some[..12]), EINVAL);
    check_err!(get_set(child, 0x1234, &mut some), EINVAL);
    check_err!(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS_, 8), EFAULT);
    check_err!(ptrace(PTRACE_SETREGSET, child, NT_PRSTATUS_, 8), EFAULT);
    let mut long = [0_u8; 4096];
    check_eq!(get_set(child, NT_PRSTATUS_, &mut long)?, WORDS * 8);
    #[cfg(target_arch = "x86_64")]
    {
        let mut old = [0_u64; WORDS];
        ptrace(PTRACE_GETREGS, child, 0, addr_mut(&mut old))?;
        check_eq!(old, all);
        old[0] = 0xabcd;
        ptrace(PTRACE_SETREGS, child, 0, addr(&old))?;
        let mut word = 0_usize;
        ptrace(PTRACE_PEEKUSER, child, 0, addr_mut(&mut word))?;
        check_eq!(word, 0xabcd);
        ptrace(PTRACE_POKEUSER, child, 0, all[0] as usize)?;
        check_eq!(regs(child)?, all);
        check_err!(ptrace(PTRACE_PEEKUSER, child, 4, addr_mut(&mut word)), EIO);
        check_err!(ptrace(PTRACE_PEEKUSER, child, 928, addr_mut(&mut word)), EIO);
        ptrace(PTRACE_PEEKUSER, child, 300, addr_mut(&mut word)).err();
        ptrace(PTRACE_PEEKUSER, child, 304, addr_mut(&mut word))?;
        check_eq!(word, 0);
        check_err!(ptrace(PTRACE_POKEUSER, child, 304, 0), EIO);
        // Selectors and bases that would harm the kernel.
        let mut bad = all;
        bad[21] = 0xffff_8000_0000_0000;
        check_err!(set_regs(child, &bad), EIO);
        check_err!(ptrace(PTRACE_POKEUSER, child, 17 * 8, 0), EIO);
        check_err!(ptrace(PTRACE_POKEUSER, child, 17 * 8, 0x10), EIO);
        // Flags of the system are not the program's.
        let mut flags = all;
        flags[18] |= 0x3000;
        set_regs(child, &flags)?;
        check_eq!(regs(child)?[18] & 0x3000, 0);
        set_regs(child, &all)?;
        // ARCH_GET_FS.
        ptrace(30, child, addr_mut(&mut word), 0x1003)?;
        check_eq!(word as u64, all[21]);
        check_err!(ptrace(30, child, addr_mut(&mut word), 0x9999), EINVAL);
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut word = 0_usize;
        check_err!(ptrace(PTRACE_PEEKUSER, child, 0, addr_mut(&mut word)), EIO);
        let mut bad = all;
        bad[33] |= 5;
        check_err!(set_regs(child, &bad), EINVAL);
        let mut tls = [0_u8; 8];
        check_eq!(get_set(child, 0x401, &mut tls)?, 8);
        check!(tls != [0; 8]);
        let mut nr = [0_u8; 4];
        check_eq!(get_set(child, 0x404, &mut nr)?, 4);
    }
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn register_sets() -> Outcome {
    let child = traced(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let value: u64;
            // SAFETY: reads a vector register that the tracer has set; nothing else uses it between.
            unsafe {
                std::arch::asm!(
                    "mov rax, 0x1111", "movq xmm5, rax", "mov rax, 39", "syscall", "movq {}, xmm5",
                    out(reg) value, out("rax") _, out("rcx") _, out("r11") _, out("xmm5") _
                );
            }
            i32::from(value != 0x2222)
        }
        #[cfg(target_arch = "aarch64")]
        {
            let value: u64;
            // SAFETY: as above.
            unsafe {
                std::arch::asm!(
                    "mov x9, #0x1111", "fmov d5, x9", "mov x8, #172", "svc #0", "fmov {}, d5",
                    out(reg) value, out("x9") _, out("x8") _, out("x0") _, out("v5") _
                );
            }
            i32::from(value != 0x2222)
        }
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_getpid)?;
    let mut fp = [0_u8; 1024];
    let len = get_set(child, NT_PRFPREG_, &mut fp)?;
    #[cfg(target_arch = "x86_64")]
    let at = 160 + 5 * 16;
    #[cfg(target_arch = "aarch64")]
    let at = 5 * 16;
    check_eq!(fp[at..at + 2], [0x11, 0x11]);
    fp[at..at + 2].copy_from_slice(&[0x22, 0x22]);
    #[cfg(target_arch = "x86_64")]
    {
        check_eq!(len, 512);
        // By the whole area, if there is one.
        let mut area = vec![0_u8; 16384];
        match get_set(child, 0x202, &mut area) {
            Ok(size) => {
                check!(size >= 576 && area[at..at + 2] == [0x11, 0x11]);
                // Software's bytes say which components there are.
                check!(area[464] & 3 == 3);
                area[at..at + 2].copy_from_slice(&[0x33, 0x33]);
                check_eq!(set_set(child, 0x202, &mut area[..size])?, size);
                check_err!(set_set(child, 0x202, &mut area[..512]), EFAULT);
                area[520] = 0xff;
                check_err!(set_set(child, 0x202, &mut area[..size]), EINVAL);
                let mut again = [0_u8; 512];
                get_set(child, NT_PRFPREG_, &mut again)?;
                check_eq!(again[at..at + 2], [0x33, 0x33]);
            }
            Err(errno) => check_eq!(errno, Errno(ENODEV)),
        }
        check_err!(set_set(child, NT_PRFPREG_, &mut fp[..256]), EINVAL);
        let mut bad = fp;
        bad[27] = 0xff;
        check_err!(set_set(child, NT_PRFPREG_, &mut bad[..512]), EINVAL);
        let mut old = [0_u8; 512];
        ptrace(PTRACE_GETFPREGS, child, 0, addr_mut(&mut old))?;
        check_eq!(old[at..at + 2], [0x33, 0x33]);
        ptrace(PTRACE_SETFPREGS, child, 0, addr(&fp))?;
    }
    #[cfg(target_arch = "aarch64")]
    {
        check_eq!(len, 528);
        check_eq!(set_set(child, NT_PRFPREG_, &mut fp[..len])?, 528);
    }
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

pub(crate) static VALUE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

pub(crate) extern "C" fn note_value(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (code, value) = unsafe { ((*info).si_code, (*info).si_value().sival_ptr as usize) };
    VALUE.store(code * 1000 + value as i32, SeqCst);
}

pub(crate) fn handle(signal: i32, handler: usize, flags: i32) {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    let _ = c!(sigaction(signal, &raw const action, std::ptr::null_mut()));
}

fn siginfo_changes() -> Outcome {
    let child = traced(|| {
        handle(SIGUSR1, note_value as *const () as usize, SA_SIGINFO);
        let _ = kill(getpid(), SIGUSR1);
        VALUE.load(SeqCst)
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGUSR1)?;
    let mut info = siginfo(child)?;
    check_eq!((info.si_signo, info.si_code), (SIGUSR1, SI_USER));
    // SAFETY: SI_USER has a pid.
    check_eq!(unsafe { info.si_pid() }, child);
    info.si_code = 0;
    let words: &mut [u32; 32] =
        // SAFETY: a siginfo is 128 bytes of integers.
        unsafe { &mut *std::ptr::from_mut(&mut info).cast::<[u32; 32]>() };
    words[6] = 42;
    words[7] = 0;
    ptrace(PTRACE_SETSIGINFO, child, 0, addr(&info))?;
    cont(child, SIGUSR1)?;
    check_eq!(wait_exit(child)?, 42);
    // Another signal in its place comes from the tracer.
    let child = traced(|| {
        handle(SIGUSR2, note_value as *const () as usize, SA_SIGINFO);
        let _ = kill(getpid(), SIGUSR1);
        i32::from(VALUE.load(SeqCst) == 0)
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGUSR1)?;
    check_err!(ptrace(PTRACE_GETSIGINFO, child, 0, 8), EFAULT);
    check_err!(ptrace(PTRACE_SETSIGINFO, child, 0, 8), EFAULT);
    cont(child, SIGUSR2)?;
    wait_exit(child)?;
    Ok(())
}

fn signals_are_intercepted() -> Outcome {
    // What is blocked is not shown, what is unblocked is.
    let child = traced(|| {
        let set = 1_u64 << (SIGUSR1 - 1);
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8);
        let _ = kill(getpid(), SIGUSR1);
        let _ = kill(getpid(), SIGUSR2);
        let _ = sys!(SYS_rt_sigprocmask, SIG_UNBLOCK, addr(&set), 0, 8);
        9
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGUSR2)?;
    // A blocked one that is passed is pending.
    cont(child, SIGUSR1)?;
    expect_stop(child, SIGUSR1)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 9);
    // A fault is shown with its address; without the signal the instruction runs again.
    let page = map_anon(4096)?;
    sys!(SYS_mprotect, page, 4096, PROT_NONE)?;
    let child = traced(|| {
        handle(SIGSEGV, SIG_DFL, 0);
        poke(page, 1);
        1
    })?;
    for _ in 0..3 {
        cont(child, 0)?;
        expect_stop(child, SIGSEGV)?;
        let info = siginfo(child)?;
        // SAFETY: SIGSEGV has an address.
        check_eq!((info.si_code, unsafe { info.si_addr() } as usize), (2, page));
    }
    cont(child, SIGSEGV)?;
    let (_, status) = wait_options(child, 0)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    // An ignored signal that is passed does nothing.
    let child = traced(|| {
        handle(SIGTERM, SIG_IGN, 0);
        let _ = kill(getpid(), SIGTERM);
        4
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGTERM)?;
    cont(child, SIGTERM)?;
    check_eq!(wait_exit(child)?, 4);
    Ok(())
}

#[repr(C)]
pub(crate) struct Peek {
    off: u64,
    flags: u32,
    nr: i32,
}

fn queued_signals() -> Outcome {
    let child = traced(|| {
        let set = !0_u64;
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8);
        for value in 0..3 {
            let value = sigval { sival_ptr: (value + 10) as *mut _ };
            let _ = c!(sigqueue(getpid(), 40, value));
        }
        let _ = sys!(SYS_tgkill, getpid(), getpid(), SIGUSR1);
        let _ = sys!(SYS_getppid);
        0
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_getppid)?;
    let mut infos: [siginfo_t; 4] = zeroed();
    let peek = |args: &Peek, infos: &mut [siginfo_t; 4]| {
        ptrace(PTRACE_PEEKSIGINFO as i32, child, addr(args), addr_mut(infos))
    };
    check_eq!(peek(&Peek { off: 0, flags: 1, nr: 4 }, &mut infos)?, 3);
    // SAFETY: sigqueue passes a value.
    let values: Vec<usize> = infos[..3].iter().map(|i| unsafe { i.si_value() }.sival_ptr as usize).collect();
    check_eq!(values, [10, 11, 12]);
    check_eq!(peek(&Peek { off: 2, flags: 1, nr: 4 }, &mut infos)?, 1);
    check_eq!(peek(&Peek { off: 9, flags: 1, nr: 4 }, &mut infos)?, 0);
    check_eq!(peek(&Peek { off: 0, flags: 0, nr: 4 }, &mut infos)?, 1);
    check_eq!(infos[0].si_signo, SIGUSR1);
    check_eq!(peek(&Peek { off: 0, flags: 0, nr: 0 }, &mut infos)?, 0);
    check_err!(peek(&Peek { off: 0, flags: 0, nr: -1 }, &mut infos), EINVAL);
    check_err!(peek(&Peek { off: 0, flags: 2, nr: 1 }, &mut infos), EINVAL);
    check_err!(ptrace(PTRACE_PEEKSIGINFO as i32, child, 8, addr_mut(&mut infos)), EFAULT);
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn signal_masks() -> Outcome {
    const GETSIGMASK: i32 = 0x420a;
    const SETSIGMASK: i32 = 0x420b;
    let child = traced(|| {
        let _ = kill(getpid(), SIGUSR1);
        let mut set = 0_u64;
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, 0, addr_mut(&mut set), 8);
        i32::from(set != 1 << (SIGUSR1 - 1))
    })?;
    let mut mask = 1_u64;
    ptrace(GETSIGMASK, child, 8, addr_mut(&mut mask))?;
    check_eq!(mask, 0);
    // SIGKILL cannot be blocked.
    mask = 1 << (SIGUSR1 - 1) | 1 << (SIGKILL - 1);
    ptrace(SETSIGMASK, child, 8, addr(&mask))?;
    ptrace(GETSIGMASK, child, 8, addr_mut(&mut mask))?;
    check_eq!(mask, 1 << (SIGUSR1 - 1));
    check_err!(ptrace(GETSIGMASK, child, 4, addr_mut(&mut mask)), EINVAL);
    check_err!(ptrace(SETSIGMASK, child, 16, addr(&mask)), EINVAL);
    check_err!(ptrace(GETSIGMASK, child, 8, 8), EFAULT);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

#[inline(never)]
pub(crate) extern "C" fn count_to(n: u64) -> u64 {
    let mut sum = 0;
    for i in 0..n {
        sum = std::hint::black_box(sum + i);
    }
    sum
}

pub(crate) extern "C" fn leave_with_17(_: i32) {
    exit(17);
}

fn restarted_calls() -> Outcome {
    let ends = pipe(0)?;
    let child = traced(|| {
        let mut byte = [0];
        let got = crate::sys::read(ends[0], &mut byte);
        i32::from(got != Ok(1) || byte[0] != 9)
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_read)?;
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    kill(child, SIGUSR1)?;
    // The call ends for the signal, with the kernel's own error.
    expect_stop(child, SIGTRAP | 0x80)?;
    check_eq!(regs(child)?[RESULT] as i64, -512);
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGUSR1)?;
    // On arm64 it has been rewound by now: the result's register is that of the first argument.
    let shown = if cfg!(target_arch = "aarch64") { ends[0].into() } else { -512 };
    check_eq!(regs(child)?[RESULT] as i64, shown);
    // Without the signal it is made again.
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGTRAP | 0x80)?;
    check_eq!(message(child)?, 1);
    check_eq!(regs(child)?[ARG0] as i32, ends[0]);
    cont(child, 0)?;
    write(ends[1], &[9])?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn options_and_errors() -> Outcome {
    let child = traced(|| 0)?;
    check_err!(ptrace(PTRACE_SETOPTIONS, child, 0, 1 << 9), EINVAL);
    check_err!(ptrace(PTRACE_SETOPTIONS, child, 0, 1 << 30), EINVAL);
    ptrace(PTRACE_SETOPTIONS, child, 0, 0x0010_00ff)?;
    ptrace(PTRACE_SETOPTIONS, child, 0, 0)?;
    check_err!(ptrace(0x3333, child, 0, 0), EIO);
    check_err!(ptrace(PTRACE_CONT, child, 0, 65), EIO);
    check_err!(ptrace(PTRACE_SINGLESTEP, child, 0, 1000), EIO);
    check_err!(ptrace(PTRACE_GETEVENTMSG, child, 0, 8), EFAULT);
    check_err!(ptrace(PTRACE_TRACEME + 0x4000, child, 0, 0), EIO);
    check_err!(ptrace(0x3333, 4_000_000, 0, 0), ESRCH);
    // The C library's way of asking: of a process that is not traced.
    check_err!(ptrace(PTRACE_SETOPTIONS, getpid(), 0, 0), ESRCH);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn proc_shows_tracing() -> Outcome {
    let child = traced(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    let status = || std::fs::read_to_string(format!("/proc/{child}/status"));
    check!(status()?.contains(&format!("TracerPid:\t{}\n", getpid())));
    check!(status()?.contains("State:\tt (tracing stop)\n"));
    cont(child, 0)?;
    check!(eventually(|| state(child) == Some('S')));
    check!(status()?.contains(&format!("TracerPid:\t{}\n", getpid())));
    ptrace(PTRACE_INTERRUPT, child, 0, 0).err();
    kill(child, SIGUSR1)?;
    expect_stop(child, SIGUSR1)?;
    ptrace(PTRACE_DETACH, child, 0, 0)?;
    check!(status()?.contains("TracerPid:\t0\n"));
    finish(child)
}

fn rseq_configuration() -> Outcome {
    let child = traced(|| 0)?;
    let mut words = [!0_u64; 4];
    check_eq!(ptrace(0x420f, child, 24, addr_mut(&mut words))?, 24);
    // musl does not register an area.
    check_eq!(words, [0, 0, 0, !0]);
    check_err!(ptrace(0x420f, child, 24, 8), EFAULT);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}
