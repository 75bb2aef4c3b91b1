//! Signals with information of the sender's own, and the way back from a handler: rt_tgsigqueueinfo(2), sigreturn(2).

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

tests![queued_to_a_thread, queue_errors, handlers_change_the_mask_they_return_to, a_frame_that_is_none];

/// `siginfo_t` of a signal that a process queues.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Info {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

fn info(code: i32, value: u64) -> Info {
    Info { code, pid: 77, uid: 88, value, ..Info::default() }
}

fn queue(tgid: i32, tid: i32, signal: i32, info: &Info) -> Result<usize, Errno> {
    sys!(SYS_rt_tgsigqueueinfo, tgid, tid, signal, addr(info))
}

fn set_of(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn block(signal: i32) -> Result<usize, Errno> {
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set_of(signal)), 0, 8)
}

/// Takes a pending `signal`.
fn take(signal: i32) -> Result<Info, Errno> {
    let mut got = Info::default();
    let zero: timespec = zeroed();
    sys!(SYS_rt_sigtimedwait, addr(&set_of(signal)), addr_mut(&mut got), addr(&zero), 8)?;
    Ok(got)
}

fn queued_to_a_thread() -> Outcome {
    let signal = SIGRTMIN() + 2;
    block(signal)?;
    let (pid, tid) = (getpid(), sys!(SYS_gettid)? as i32);
    for value in [5, 6] {
        queue(pid, tid, signal, &info(SI_QUEUE, value))?;
    }
    // What the sender says of itself is passed on as it is.
    for value in [5, 6] {
        let got = take(signal)?;
        check_eq!((got.signo, got.code, got.pid, got.uid, got.value), (signal, SI_QUEUE, 77, 88, value));
    }
    check_err!(take(signal), EAGAIN);
    // It is the thread's own: another one does not see it.
    queue(pid, tid, signal, &info(SI_QUEUE, 1))?;
    let other = std::thread::spawn(move || take(signal).map(drop)).join();
    check_eq!(other.map_err(|_| Failure::new("panicked"))?, Err(Errno(EAGAIN)));
    take(signal)?;
    // Only itself is told what the kernel and kill(2) say.
    queue(pid, tid, signal, &info(SI_USER, 2))?;
    check_eq!(take(signal)?.code, SI_USER);
    queue(pid, tid, 0, &info(SI_QUEUE, 0))?;
    Ok(())
}

fn queue_errors() -> Outcome {
    let child = fork(|| {
        sleep_ms(60_000);
        0
    })?;
    let (pid, fine) = (getpid(), info(SI_QUEUE, 0));
    for code in [SI_USER, SI_TKILL, SI_KERNEL] {
        check_err!(queue(child, child, SIGUSR1, &info(code, 0)), EPERM);
    }
    check_err!(queue(child, child, SIGUSR1, &info(SI_USER, 0)), EPERM);
    check_err!(queue(0, child, SIGUSR1, &fine), EINVAL);
    check_err!(queue(child, 0, SIGUSR1, &fine), EINVAL);
    check_err!(queue(child, -1, SIGUSR1, &fine), EINVAL);
    check_err!(queue(child, child, 65, &fine), EINVAL);
    check_err!(queue(child, child, -1, &fine), EINVAL);
    check_err!(queue(pid, child, SIGUSR1, &fine), ESRCH);
    check_err!(queue(child, 4_000_000, SIGUSR1, &fine), ESRCH);
    check_err!(sys!(SYS_rt_tgsigqueueinfo, child, child, SIGUSR1, 8), EFAULT);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(queue(child, child, SIGUSR1, &fine) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    queue(child, child, SIGUSR1, &fine)?;
    check_eq!(wait_exit(child)?, -SIGUSR1);
    Ok(())
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn blocks_usr2(signal: i32, _: *mut siginfo_t, context: *mut c_void) {
    SEEN.store(signal, SeqCst);
    // SAFETY: the kernel passes the frame that rt_sigreturn will read.
    unsafe { sigaddset(&raw mut (*context.cast::<ucontext_t>()).uc_sigmask, SIGUSR2) };
}

fn handlers_change_the_mask_they_return_to() -> Outcome {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = blocks_usr2 as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    kill(getpid(), SIGUSR1)?;
    check_eq!(SEEN.load(SeqCst), SIGUSR1);
    let mut mask = 0_u64;
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, 0, addr_mut(&mut mask), 8)?;
    // Its own signal is free again, the one that it added is blocked.
    check_eq!(mask & (set_of(SIGUSR1) | set_of(SIGUSR2)), set_of(SIGUSR2));
    Ok(())
}

/// `rt_sigreturn` with the stack at `stack`.
fn sigreturn_from(stack: usize) -> ! {
    // Not that of Rust's runtime.
    let _ = c!(signal(SIGSEGV, SIG_DFL));
    // SAFETY: the process does not live on, whatever the kernel makes of the frame.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov rsp, {}", "syscall", "ud2", in(reg) stack, in("rax") SYS_rt_sigreturn, options(noreturn));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov sp, {}", "svc #0", "udf #0", in(reg) stack, in("x8") SYS_rt_sigreturn, options(noreturn));
    }
}

fn a_frame_that_is_none() -> Outcome {
    // Nothing there, half of one, kernel addresses, not aligned.
    let edge = map_anon(8192)?;
    munmap(edge + 4096, 4096)?;
    for stack in [4096, edge + 4096 - 64, !0xfff_usize, edge + 3] {
        check_eq!(in_child(|| sigreturn_from(stack))?, -SIGSEGV);
    }
    Ok(())
}
