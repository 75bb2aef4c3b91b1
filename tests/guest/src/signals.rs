//! Signals: delivery, masks, queues, stacks, restarts (signal(7), sigaction(2), sigaltstack(2), …).

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

tests![
    handler_runs,
    mask_blocks,
    pending_once,
    realtime_queue,
    siginfo_fields,
    sigqueue_limit,
    sigsuspend_waits,
    sigtimedwait_takes,
    altstack_used,
    altstack_errors,
    altstack_of_any_size,
    restart_read,
    interrupted_read,
    interrupted_sleep,
    nested_signals,
    nodefer_and_resethand,
    mask_in_handler,
    sigchld_info,
    ignored_signals,
    default_actions,
    kill_permissions,
    kill_errors,
    kill_and_stop,
    stop_and_continue,
    signal_in_thread,
    thread_directed,
    signal_interrupts_syscall_forever,
    fault_in_handler_mask,
    sigreturn_restores_registers,
    sigkill_cannot_be_caught,
    alarm_fires,
    sigpipe_and_epipe,
    signals_under_load,
    abort_and_core_flag,
    blocked_fault_kills,
    pause_returns,
    signal_during_fork,
    timeout_restart_adjusts,
    fpu_survives_signals,
];

static COUNT: AtomicI32 = AtomicI32::new(0);
static LAST: AtomicI32 = AtomicI32::new(0);
static STACK: AtomicUsize = AtomicUsize::new(0);
static INFO: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];
static ORDER: [AtomicI32; 16] = [const { AtomicI32::new(0) }; 16];

extern "C" fn count(signal: i32) {
    let here = 0_u8;
    STACK.store(std::hint::black_box(&raw const here) as usize, Ordering::SeqCst);
    LAST.store(signal, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn order(_signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let value = unsafe { (*info).si_value().sival_ptr as usize };
    let n = COUNT.fetch_add(1, Ordering::SeqCst) as usize;
    ORDER[n % 16].store(value as i32, Ordering::SeqCst);
}

extern "C" fn info(signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (code, pid, uid) = unsafe { ((*info).si_code, (*info).si_pid(), (*info).si_uid()) };
    for (slot, value) in INFO.iter().zip([signal, code, pid, uid as i32]) {
        slot.store(value, Ordering::SeqCst);
    }
    COUNT.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: i32, handler: usize, flags: i32) -> crate::sys::Result<()> {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    c!(sigaction(signal, &raw const action, std::ptr::null_mut())).map(drop)
}

fn counter(signal: i32, flags: i32) -> crate::sys::Result<()> {
    handle(signal, count as *const () as usize, flags)
}

fn set_of(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

fn procmask(how: i32, set: u64) -> crate::sys::Result<u64> {
    let mut old = 0_u64;
    sys!(SYS_rt_sigprocmask, how, addr(&set), addr_mut(&mut old), 8)?;
    Ok(old)
}

fn pending() -> crate::sys::Result<u64> {
    let mut set = 0_u64;
    sys!(SYS_rt_sigpending, addr_mut(&mut set), 8)?;
    Ok(set)
}

fn counted() -> i32 {
    COUNT.load(Ordering::SeqCst)
}

fn queue(pid: i32, signal: i32, value: usize) -> crate::sys::Result<()> {
    let value = sigval { sival_ptr: value as *mut _ };
    c!(sigqueue(pid, signal, value)).map(drop)
}

fn handler_runs() -> Outcome {
    counter(SIGUSR1, 0)?;
    kill(getpid(), SIGUSR1)?;
    check_eq!((counted(), LAST.load(Ordering::SeqCst)), (1, SIGUSR1));
    let mut old: sigaction = zeroed();
    c!(sigaction(SIGUSR1, std::ptr::null(), &raw mut old))?;
    check_eq!(old.sa_sigaction, count as *const () as usize);
    check_err!(handle(SIGKILL, SIG_IGN, 0), EINVAL);
    check_err!(handle(SIGSTOP, SIG_IGN, 0), EINVAL);
    check_err!(sys!(SYS_rt_sigaction, 65, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_rt_sigaction, SIGUSR1, 0, 0, 4), EINVAL);
    check_err!(sys!(SYS_rt_sigaction, SIGUSR1, 8, 0, 8), EFAULT);
    Ok(())
}

fn mask_blocks() -> Outcome {
    counter(SIGUSR1, 0)?;
    check_eq!(procmask(SIG_BLOCK, set_of(&[SIGUSR1]))?, 0);
    kill(getpid(), SIGUSR1)?;
    check_eq!(counted(), 0);
    check_eq!(pending()?, set_of(&[SIGUSR1]));
    check_eq!(procmask(SIG_UNBLOCK, set_of(&[SIGUSR1]))?, set_of(&[SIGUSR1]));
    check_eq!((counted(), pending()?), (1, 0));
    // KILL and STOP cannot be blocked.
    procmask(SIG_SETMASK, u64::MAX)?;
    check_eq!(procmask(SIG_SETMASK, 0)?, !set_of(&[SIGKILL, SIGSTOP]));
    check_err!(procmask(99, 0), EINVAL);
    check_err!(sys!(SYS_rt_sigprocmask, SIG_BLOCK, 1, 0, 8), EFAULT);
    check_err!(sys!(SYS_rt_sigprocmask, SIG_BLOCK, 0, 0, 16), EINVAL);
    Ok(())
}

fn pending_once() -> Outcome {
    counter(SIGUSR1, 0)?;
    procmask(SIG_BLOCK, set_of(&[SIGUSR1]))?;
    for _ in 0..5 {
        kill(getpid(), SIGUSR1)?;
    }
    procmask(SIG_SETMASK, 0)?;
    check_eq!(counted(), 1);
    Ok(())
}

fn realtime_queue() -> Outcome {
    let rt = 40;
    handle(rt, order as *const () as usize, SA_SIGINFO)?;
    handle(rt + 1, order as *const () as usize, SA_SIGINFO)?;
    procmask(SIG_BLOCK, set_of(&[rt, rt + 1]))?;
    queue(getpid(), rt + 1, 10)?;
    for value in 1..=3 {
        queue(getpid(), rt, value)?;
    }
    procmask(SIG_SETMASK, 0)?;
    check_eq!(counted(), 4);
    // All are pushed before the first handler runs, so the last pushed runs first.
    let seen: Vec<i32> = ORDER[..4].iter().map(|o| o.load(Ordering::SeqCst)).collect();
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    check_eq!(sorted, [1, 2, 3, 10]);
    // Taken one after the other, the lower number comes first, in the order of sending.
    procmask(SIG_BLOCK, set_of(&[rt, rt + 1]))?;
    queue(getpid(), rt + 1, 10)?;
    for value in 1..=3 {
        queue(getpid(), rt, value)?;
    }
    let mut taken = Vec::new();
    for _ in 0..4 {
        let mut info: siginfo_t = zeroed();
        let set = set_of(&[rt, rt + 1]);
        sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), 0, 8)?;
        check_eq!(info.si_code, SI_QUEUE);
        // SAFETY: a queued signal carries a value.
        taken.push(unsafe { info.si_value().sival_ptr } as usize);
    }
    check_eq!(taken, [1, 2, 3, 10]);
    Ok(())
}

fn siginfo_fields() -> Outcome {
    handle(SIGUSR1, info as *const () as usize, SA_SIGINFO)?;
    let get = || INFO.each_ref().map(|slot| slot.load(Ordering::SeqCst));
    kill(getpid(), SIGUSR1)?;
    check_eq!(get(), [SIGUSR1, SI_USER, getpid(), 0]);
    sys!(SYS_tgkill, getpid(), sys!(SYS_gettid)?, SIGUSR1)?;
    check_eq!(get(), [SIGUSR1, SI_TKILL, getpid(), 0]);
    queue(getpid(), SIGUSR1, 5)?;
    check_eq!(get(), [SIGUSR1, SI_QUEUE, getpid(), 0]);
    let parent = getpid();
    let child = fork(|| i32::from(kill(parent, SIGUSR1).is_err()))?;
    check!(eventually(|| counted() == 4));
    check_eq!(get(), [SIGUSR1, SI_USER, child, 0]);
    // Nobody can pretend that the kernel sent a signal to somebody else.
    let mut forged: siginfo_t = zeroed();
    forged.si_signo = SIGUSR1;
    forged.si_code = SI_KERNEL;
    let call = sys!(SYS_rt_sigqueueinfo, sys!(SYS_getppid)?, SIGUSR1, addr(&forged));
    check_err!(call, EPERM);
    Ok(())
}

fn sigqueue_limit() -> Outcome {
    let limit = rlimit { rlim_cur: 4, rlim_max: 4 };
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 4242, 4242, 4242);
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_SIGPENDING, addr(&limit), 0);
        let _ = procmask(SIG_BLOCK, set_of(&[40, SIGUSR1]));
        let sent = (0..10).take_while(|n| queue(getpid(), 40, *n).is_ok()).count();
        let full = queue(getpid(), 40, 0) == Err(Errno(EAGAIN));
        // A signal by kill() is never lost.
        let plain = kill(getpid(), SIGUSR1).is_ok();
        i32::from(sent != 4) | i32::from(!full) << 1 | i32::from(!plain) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn sigsuspend_waits() -> Outcome {
    counter(SIGUSR1, 0)?;
    procmask(SIG_BLOCK, set_of(&[SIGUSR1]))?;
    kill(getpid(), SIGUSR1)?;
    check_eq!(counted(), 0);
    let none = 0_u64;
    check_err!(sys!(SYS_rt_sigsuspend, addr(&none), 8), EINTR);
    check_eq!(counted(), 1);
    // The old mask is back.
    check_eq!(procmask(SIG_BLOCK, 0)?, set_of(&[SIGUSR1]));
    check_err!(sys!(SYS_rt_sigsuspend, addr(&none), 4), EINVAL);
    Ok(())
}

fn sigtimedwait_takes() -> Outcome {
    let set = set_of(&[SIGUSR1, SIGUSR2]);
    procmask(SIG_BLOCK, set)?;
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    check_err!(sys!(SYS_rt_sigtimedwait, addr(&set), 0, addr(&zero), 8), EAGAIN);
    let bad = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    check_err!(sys!(SYS_rt_sigtimedwait, addr(&set), 0, addr(&bad), 8), EINVAL);
    kill(getpid(), SIGUSR2)?;
    let mut info: siginfo_t = zeroed();
    let taken = sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), addr(&zero), 8)?;
    check_eq!((taken as i32, info.si_signo), (SIGUSR2, SIGUSR2));
    check_eq!(pending()?, 0);
    let short = timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let started = std::time::Instant::now();
    check_err!(sys!(SYS_rt_sigtimedwait, addr(&set), 0, addr(&short), 8), EAGAIN);
    check!(started.elapsed().as_millis() >= 50);
    let parent = getpid();
    let child = fork(|| {
        sleep_ms(50);
        i32::from(kill(parent, SIGUSR1).is_err())
    })?;
    check_eq!(sys!(SYS_rt_sigtimedwait, addr(&set), 0, 0, 8)? as i32, SIGUSR1);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn altstack_used() -> Outcome {
    let size = 64 * 1024;
    let at = map_anon(size)?;
    let stack = stack_t { ss_sp: at as *mut _, ss_flags: 0, ss_size: size };
    sys!(SYS_sigaltstack, addr(&stack), 0)?;
    counter(SIGUSR1, SA_ONSTACK)?;
    counter(SIGUSR2, 0)?;
    kill(getpid(), SIGUSR1)?;
    let inside = |p: usize| (at..at + size).contains(&p);
    check!(inside(STACK.load(Ordering::SeqCst)));
    kill(getpid(), SIGUSR2)?;
    check!(!inside(STACK.load(Ordering::SeqCst)));
    let mut old: stack_t = zeroed();
    sys!(SYS_sigaltstack, 0, addr_mut(&mut old))?;
    check_eq!((old.ss_sp as usize, old.ss_size, old.ss_flags), (at, size, 0));
    // A child has it after fork, not after exec; a thread does not.
    check_eq!(in_child(|| i32::from(!has_altstack()))?, 0);
    Ok(())
}

fn altstack_of_any_size() -> Outcome {
    // The end of the stack wraps around: our own stack is not part of it, and handlers run there.
    let high = 1_usize << 55;
    for size in [usize::MAX, usize::MAX - high + 4096, 0_usize.wrapping_sub(high - (1 << 48))] {
        let stack = stack_t { ss_sp: high as *mut _, ss_flags: 0, ss_size: size };
        sys!(SYS_sigaltstack, addr(&stack), 0)?;
        check!(has_altstack());
        counter(SIGUSR1, 0)?;
        let before = counted();
        kill(getpid(), SIGUSR1)?;
        check_eq!(counted(), before + 1);
    }
    Ok(())
}

fn has_altstack() -> bool {
    let mut old: stack_t = zeroed();
    sys!(SYS_sigaltstack, 0, addr_mut(&mut old)).is_ok() && old.ss_flags & SS_DISABLE == 0
}

fn altstack_errors() -> Outcome {
    let at = map_anon(65536)?;
    let small = stack_t { ss_sp: at as *mut _, ss_flags: 0, ss_size: 1024 };
    check_err!(sys!(SYS_sigaltstack, addr(&small), 0), ENOMEM);
    let flags = stack_t { ss_sp: at as *mut _, ss_flags: 77, ss_size: 65536 };
    check_err!(sys!(SYS_sigaltstack, addr(&flags), 0), EINVAL);
    check_err!(sys!(SYS_sigaltstack, 1, 0), EFAULT);
    let off = stack_t { ss_sp: std::ptr::null_mut(), ss_flags: SS_DISABLE, ss_size: 0 };
    sys!(SYS_sigaltstack, addr(&off), 0)?;
    check!(!has_altstack());
    Ok(())
}

/// Sends us `signal` after 50 ms.
fn later(signal: i32) -> crate::sys::Result<i32> {
    let parent = getpid();
    fork(|| {
        sleep_ms(50);
        let _ = kill(parent, signal);
        0
    })
}

fn restart_read() -> Outcome {
    counter(SIGUSR1, SA_RESTART)?;
    let ends = pipe(0)?;
    let parent = getpid();
    let child = fork(|| {
        sleep_ms(50);
        let _ = kill(parent, SIGUSR1);
        sleep_ms(50);
        let _ = write(ends[1], b"x");
        0
    })?;
    check_eq!(read_vec(ends[0], 1)?, b"x");
    check_eq!(counted(), 1);
    wait(child)?;
    Ok(())
}

fn interrupted_read() -> Outcome {
    counter(SIGUSR1, 0)?;
    let ends = pipe(0)?;
    let child = later(SIGUSR1)?;
    check_err!(read_vec(ends[0], 1), EINTR);
    check_eq!(counted(), 1);
    wait(child)?;
    // Some calls are never restarted: poll, sigsuspend, epoll_wait, …
    counter(SIGUSR1, SA_RESTART)?;
    let child = later(SIGUSR1)?;
    let mut poll = pollfd { fd: ends[0], events: POLLIN, revents: 0 };
    check_err!(sys!(SYS_ppoll, addr_mut(&mut poll), 1, 0, 0, 0), EINTR);
    wait(child)?;
    // What has been moved counts, not the interruption.
    counter(SIGUSR1, 0)?;
    let child = later(SIGUSR1)?;
    let big = vec![0; 1 << 20];
    let written = write(ends[1], &big)?;
    check_eq!(written, 65536);
    wait(child)?;
    Ok(())
}

fn interrupted_sleep() -> Outcome {
    counter(SIGUSR1, SA_RESTART)?;
    let child = later(SIGUSR1)?;
    let request = timespec { tv_sec: 10, tv_nsec: 0 };
    let mut left: timespec = zeroed();
    check_err!(sys!(SYS_nanosleep, addr(&request), addr_mut(&mut left)), EINTR);
    check!((8..=9).contains(&left.tv_sec), "{}", left.tv_sec);
    wait(child)?;
    Ok(())
}

static DEPTH: AtomicI32 = AtomicI32::new(0);

extern "C" fn nest(signal: i32) {
    let depth = DEPTH.fetch_add(1, Ordering::SeqCst);
    if signal == SIGUSR1 && depth < 5 {
        let _ = kill(getpid(), SIGUSR2);
        let _ = kill(getpid(), SIGUSR1);
    }
    COUNT.fetch_add(1, Ordering::SeqCst);
}

fn nested_signals() -> Outcome {
    handle(SIGUSR1, nest as *const () as usize, 0)?;
    handle(SIGUSR2, nest as *const () as usize, 0)?;
    kill(getpid(), SIGUSR1)?;
    // Each SIGUSR1 handler raises SIGUSR2 (runs inside) and SIGUSR1 (runs after).
    check!(counted() >= 5, "{}", counted());
    check_eq!(DEPTH.load(Ordering::SeqCst), counted());
    Ok(())
}

extern "C" fn recurse(_signal: i32) {
    if COUNT.fetch_add(1, Ordering::SeqCst) < 3 {
        let _ = kill(getpid(), SIGUSR1);
        // With SA_NODEFER the handler has run again by now.
        ORDER[0].store(counted(), Ordering::SeqCst);
    }
}

fn nodefer_and_resethand() -> Outcome {
    handle(SIGUSR1, recurse as *const () as usize, SA_NODEFER)?;
    kill(getpid(), SIGUSR1)?;
    check_eq!((counted(), ORDER[0].load(Ordering::SeqCst)), (4, 4));
    counter(SIGUSR2, SA_RESETHAND)?;
    kill(getpid(), SIGUSR2)?;
    let mut now: sigaction = zeroed();
    c!(sigaction(SIGUSR2, std::ptr::null(), &raw mut now))?;
    check_eq!(now.sa_sigaction, SIG_DFL);
    Ok(())
}

static MASK: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_mask(_signal: i32) {
    if let Ok(mask) = procmask(SIG_BLOCK, 0) {
        MASK.store(mask as usize, Ordering::SeqCst);
    }
}

fn mask_in_handler() -> Outcome {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = note_mask as *const () as usize;
    c!(sigaddset(&raw mut action.sa_mask, SIGTERM))?;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    procmask(SIG_SETMASK, set_of(&[SIGHUP]))?;
    kill(getpid(), SIGUSR1)?;
    check_eq!(MASK.load(Ordering::SeqCst) as u64, set_of(&[SIGHUP, SIGUSR1, SIGTERM]));
    check_eq!(procmask(SIG_BLOCK, 0)?, set_of(&[SIGHUP]));
    Ok(())
}

fn sigchld_info() -> Outcome {
    handle(SIGCHLD, info as *const () as usize, SA_SIGINFO)?;
    let get = || INFO.each_ref().map(|slot| slot.load(Ordering::SeqCst));
    let child = fork(|| 3)?;
    check!(eventually(|| counted() == 1));
    check_eq!(get(), [SIGCHLD, CLD_EXITED, child, 0]);
    wait(child)?;
    let child = fork(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    kill(child, SIGSTOP)?;
    check!(eventually(|| counted() == 2));
    check_eq!(get(), [SIGCHLD, CLD_STOPPED, child, 0]);
    kill(child, SIGCONT)?;
    check!(eventually(|| counted() == 3));
    check_eq!(get(), [SIGCHLD, CLD_CONTINUED, child, 0]);
    handle(SIGCHLD, info as *const () as usize, SA_SIGINFO | SA_NOCLDSTOP)?;
    kill(child, SIGSTOP)?;
    check!(eventually(|| state(child) == Some('T')));
    sleep_ms(20);
    check_eq!(counted(), 3);
    kill(child, SIGKILL)?;
    check!(eventually(|| counted() == 4));
    check_eq!(get(), [SIGCHLD, CLD_KILLED, child, 0]);
    wait(child)?;
    // SA_NOCLDWAIT leaves no zombie.
    handle(SIGCHLD, info as *const () as usize, SA_SIGINFO | SA_NOCLDWAIT)?;
    let child = fork(|| 0)?;
    check_err!(crate::sys::wait(child), ECHILD);
    Ok(())
}

fn ignored_signals() -> Outcome {
    for signal in [SIGUSR1, SIGTERM, SIGINT] {
        handle(signal, SIG_IGN, 0)?;
        kill(getpid(), signal)?;
    }
    // Ignoring throws away what is pending.
    counter(SIGUSR2, 0)?;
    procmask(SIG_BLOCK, set_of(&[SIGUSR2]))?;
    kill(getpid(), SIGUSR2)?;
    handle(SIGUSR2, SIG_IGN, 0)?;
    check_eq!(pending()?, 0);
    counter(SIGUSR2, 0)?;
    procmask(SIG_SETMASK, 0)?;
    check_eq!(counted(), 0);
    Ok(())
}

fn default_actions() -> Outcome {
    let die = [SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGIO, SIGVTALRM, 40];
    for signal in die {
        let status = in_child(|| {
            let _ = kill(getpid(), signal);
            0
        })?;
        check_eq!(status, -signal);
    }
    for signal in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        let status = in_child(|| i32::from(kill(getpid(), signal).is_err()))?;
        check_eq!(status, 0);
    }
    Ok(())
}

fn kill_permissions() -> Outcome {
    let victim = fork(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let denied = kill(victim, SIGTERM) == Err(Errno(EPERM));
        let probe = kill(victim, 0) == Err(Errno(EPERM));
        let own = kill(getpid(), 0).is_ok();
        i32::from(!denied) | i32::from(!probe) << 1 | i32::from(!own) << 2
    })?;
    check_eq!(status, 0);
    check!(state(victim).is_some_and(|s| s != 'Z'));
    kill(victim, SIGKILL)?;
    wait(victim)?;
    Ok(())
}

fn kill_errors() -> Outcome {
    check_err!(kill(getpid(), 65), EINVAL);
    check_err!(kill(getpid(), -1), EINVAL);
    check_err!(kill(4_000_000, SIGTERM), ESRCH);
    check_err!(kill(-4_000_000, SIGTERM), ESRCH);
    check_err!(sys!(SYS_tkill, 4_000_000, SIGTERM), ESRCH);
    check_err!(sys!(SYS_tkill, 0, SIGTERM), EINVAL);
    check_err!(sys!(SYS_tgkill, getpid(), 1, 0), ESRCH);
    check_err!(sys!(SYS_tgkill, -1_i64, 1, 0), EINVAL);
    Ok(())
}

fn kill_and_stop() -> Outcome {
    // KILL ends a stopped process without a CONT.
    let child = fork(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    kill(child, SIGSTOP)?;
    check!(WIFSTOPPED(wait_options(child, WUNTRACED)?.1));
    kill(child, SIGTERM)?;
    sleep_ms(20);
    check_eq!(state(child), Some('T'));
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn stop_and_continue() -> Outcome {
    let word = map_shared(4096)?;
    // In a group of its own with a parent in another one: not orphaned, so SIGTSTP stops it.
    let child = fork(|| {
        loop {
            let _ = sys!(SYS_setpgid, 0, 0);
            atomic(word).fetch_add(1, Ordering::SeqCst);
        }
    })?;
    check!(eventually(|| atomic(word).load(Ordering::SeqCst) > 0));
    kill(child, SIGTSTP)?;
    let (_, status) = wait_options(child, WUNTRACED)?;
    check!(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    let before = atomic(word).load(Ordering::SeqCst);
    sleep_ms(50);
    check_eq!(atomic(word).load(Ordering::SeqCst), before);
    kill(child, SIGCONT)?;
    check!(eventually(|| atomic(word).load(Ordering::SeqCst) != before));
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn signal_in_thread() -> Outcome {
    // A signal for the process goes to a thread that does not block it.
    counter(SIGUSR1, 0)?;
    procmask(SIG_BLOCK, set_of(&[SIGUSR1]))?;
    let thread = std::thread::spawn(|| {
        let _ = procmask(SIG_UNBLOCK, set_of(&[SIGUSR1]));
        eventually(|| counted() == 1)
    });
    kill(getpid(), SIGUSR1)?;
    check!(thread.join().is_ok_and(|ok| ok));
    check_eq!(pending()?, 0);
    Ok(())
}

fn thread_directed() -> Outcome {
    counter(SIGUSR1, 0)?;
    let tid = std::sync::Arc::new(AtomicI32::new(0));
    let theirs = tid.clone();
    let thread = std::thread::spawn(move || {
        let _ = procmask(SIG_BLOCK, set_of(&[SIGUSR1]));
        theirs.store(sys!(SYS_gettid).unwrap_or(0) as i32, Ordering::SeqCst);
        let mine = eventually(|| pending().is_ok_and(|set| set == set_of(&[SIGUSR1])));
        let _ = procmask(SIG_UNBLOCK, set_of(&[SIGUSR1]));
        mine && counted() == 1
    });
    check!(eventually(|| tid.load(Ordering::SeqCst) != 0));
    sys!(SYS_tgkill, getpid(), tid.load(Ordering::SeqCst), SIGUSR1)?;
    check_eq!(pending()?, 0);
    check!(thread.join().is_ok_and(|ok| ok));
    Ok(())
}

fn signal_interrupts_syscall_forever() -> Outcome {
    // KILL reaches a child in each kind of sleep.
    let bodies: [fn() -> i32; 4] = [
        || {
            let ends = pipe(0).unwrap_or_default();
            read_vec(ends[0], 1).map_or(1, |_| 0)
        },
        || sys!(SYS_rt_sigsuspend, addr(&0_u64), 8).map_or(1, |_| 0),
        || {
            sleep_ms(100_000);
            0
        },
        || {
            let word = 0_u32;
            sys!(SYS_futex, addr(&word), FUTEX_WAIT, 0, 0, 0, 0).map_or(1, |_| 0)
        },
    ];
    for body in bodies {
        let child = fork(body)?;
        check!(eventually(|| state(child) == Some('S')));
        kill(child, SIGKILL)?;
        check_eq!(wait_exit(child)?, -SIGKILL);
    }
    Ok(())
}

extern "C" fn step_over(_signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() as usize };
    COUNT.fetch_add(1, Ordering::SeqCst);
    // Make the page accessible: the access is repeated and succeeds.
    let _ = sys!(SYS_mprotect, address & !4095, 4096, PROT_READ | PROT_WRITE);
}

fn fault_in_handler_mask() -> Outcome {
    handle(SIGSEGV, step_over as *const () as usize, SA_SIGINFO)?;
    let at = mmap(0, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    poke(at, 1);
    poke(at + 4096, 2);
    check_eq!((peek(at), peek(at + 4096), peek(at + 8192)), (1, 2, 0));
    check_eq!(counted(), 3);
    Ok(())
}

fn sigreturn_restores_registers() -> Outcome {
    counter(SIGALRM, 0)?;
    let timer = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 1000 },
        it_value: timeval { tv_sec: 0, tv_usec: 1000 },
    };
    sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), 0)?;
    // A computation that needs all its registers, interrupted again and again.
    let compute = || {
        let (mut a, mut b, mut c, mut d) = (1_u64, 2_u64, 3_u64, 4_u64);
        let mut f = 1.0_f64;
        for n in 0..200_000_u64 {
            a = a.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(b);
            b ^= a >> 17;
            c = c.rotate_left(9).wrapping_add(d ^ n);
            d = d.wrapping_sub(c);
            f = f * 1.000_000_1 + (n % 7) as f64;
        }
        (a, b, c, d, f.to_bits())
    };
    let first = compute();
    let mut rounds = 0;
    while counted() < 50 && rounds < 3000 {
        check_eq!(compute(), first);
        rounds += 1;
    }
    check!(counted() >= 50);
    Ok(())
}

fn sigkill_cannot_be_caught() -> Outcome {
    let status = in_child(|| {
        let _ = procmask(SIG_SETMASK, u64::MAX);
        let _ = kill(getpid(), SIGKILL);
        0
    })?;
    check_eq!(status, -SIGKILL);
    Ok(())
}

fn alarm_fires() -> Outcome {
    counter(SIGALRM, 0)?;
    let timer = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 0 },
        it_value: timeval { tv_sec: 0, tv_usec: 30_000 },
    };
    let mut old: itimerval = zeroed();
    sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), addr_mut(&mut old))?;
    check_eq!(old.it_value.tv_usec, 0);
    sys!(SYS_getitimer, ITIMER_REAL, addr_mut(&mut old))?;
    check!(old.it_value.tv_usec > 0);
    check!(eventually(|| counted() == 1));
    sys!(SYS_getitimer, ITIMER_REAL, addr_mut(&mut old))?;
    check_eq!((old.it_value.tv_sec, old.it_value.tv_usec), (0, 0));
    Ok(())
}

fn sigpipe_and_epipe() -> Outcome {
    let ends = pipe(0)?;
    close(ends[0])?;
    let status = in_child(|| {
        let _ = write(ends[1], b"x");
        0
    })?;
    check_eq!(status, -SIGPIPE);
    handle(SIGPIPE, SIG_IGN, 0)?;
    check_err!(write(ends[1], b"x"), EPIPE);
    Ok(())
}

fn signals_under_load() -> Outcome {
    counter(SIGUSR1, SA_RESTART)?;
    let parent = getpid();
    let children: Vec<i32> = (0..3)
        .map(|_| {
            fork(|| {
                for _ in 0..300 {
                    let _ = kill(parent, SIGUSR1);
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check!(counted() >= 1);
    Ok(())
}

fn abort_and_core_flag() -> Outcome {
    let limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    let child = fork(|| {
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_CORE, addr(&limit), 0);
        let _ = kill(getpid(), SIGABRT);
        0
    })?;
    let status = wait(child)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && !WCOREDUMP(status));
    Ok(())
}

fn blocked_fault_kills() -> Outcome {
    // A fault whose signal is blocked or ignored kills all the same.
    let status = in_child(|| {
        let _ = counter(SIGSEGV, 0);
        let _ = procmask(SIG_BLOCK, set_of(&[SIGSEGV]));
        poke(8, 1);
        0
    })?;
    check_eq!(status, -SIGSEGV);
    let status = in_child(|| {
        let _ = handle(SIGSEGV, SIG_IGN, 0);
        poke(8, 1);
        0
    })?;
    check_eq!(status, -SIGSEGV);
    Ok(())
}

fn pause_returns() -> Outcome {
    counter(SIGUSR1, SA_RESTART)?;
    let child = later(SIGUSR1)?;
    // SAFETY: takes no arguments.
    let result = unsafe { pause() };
    check_eq!((result, crate::sys::last()), (-1, Errno(EINTR)));
    wait(child)?;
    Ok(())
}

fn signal_during_fork() -> Outcome {
    // Pending signals are not inherited, masks are.
    procmask(SIG_BLOCK, set_of(&[SIGUSR1]))?;
    kill(getpid(), SIGUSR1)?;
    let status = in_child(|| {
        let none = pending() == Ok(0);
        let mask = procmask(SIG_BLOCK, 0) == Ok(set_of(&[SIGUSR1]));
        i32::from(!none) | i32::from(!mask) << 1
    })?;
    check_eq!(status, 0);
    check_eq!(pending()?, set_of(&[SIGUSR1]));
    Ok(())
}

fn timeout_restart_adjusts() -> Outcome {
    // A stop and continue in the middle of a sleep does not make it longer.
    let child = fork(|| {
        let started = std::time::Instant::now();
        let request = timespec { tv_sec: 0, tv_nsec: 300_000_000 };
        let slept = sys!(SYS_nanosleep, addr(&request), 0).is_ok();
        let ms = started.elapsed().as_millis();
        i32::from(!slept) | i32::from(!(300..1500).contains(&ms)) << 1
    })?;
    sleep_ms(50);
    kill(child, SIGSTOP)?;
    wait_options(child, WUNTRACED)?;
    sleep_ms(50);
    kill(child, SIGCONT)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

extern "C" fn float_work(_signal: i32) {
    let mut sum = 0.0_f64;
    for n in 0..100 {
        sum += f64::from(std::hint::black_box(n)).sqrt();
    }
    std::hint::black_box(sum);
    COUNT.fetch_add(1, Ordering::SeqCst);
}

fn fpu_survives_signals() -> Outcome {
    // Handlers and other processes use the FPU: our vector registers must not notice.
    handle(SIGALRM, float_work as *const () as usize, SA_RESTART)?;
    let timer = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 2000 },
        it_value: timeval { tv_sec: 0, tv_usec: 2000 },
    };
    let work = |seed: f64| {
        let mut lanes = [seed, seed + 0.5, seed * 2.0, seed - 3.0, 1.0, 2.0, 3.0, 4.0];
        for n in 0..100_000 {
            for (k, lane) in lanes.iter_mut().enumerate() {
                *lane = *lane * 0.999_9 + f64::from(n % 13) + k as f64;
            }
        }
        lanes.map(f64::to_bits)
    };
    let (one, two) = (work(1.0), work(7.0));
    let child = fork(|| (0..30).map(|_| i32::from(work(7.0) != two)).sum())?;
    sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), 0)?;
    for _ in 0..30 {
        check_eq!(work(1.0), one);
    }
    let off: itimerval = zeroed();
    sys!(SYS_setitimer, ITIMER_REAL, addr(&off), 0)?;
    check!(counted() > 0);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}
