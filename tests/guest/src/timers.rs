//! POSIX timers and CPU time: timer_create(2), timer_getoverrun(2), clock_nanosleep(2) on CPU clocks, setitimer(2),
//! `RLIMIT_CPU` and `RLIMIT_RTTIME` of getrlimit(2).

use crate::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

tests![
    process_time_timer,
    thread_time_timer,
    another_process_time_timer,
    cpu_timer_settings,
    cpu_timers_of_the_dead,
    cpu_clock_kinds,
    overruns_are_counted,
    overruns_of_cpu_time,
    shortest_interval,
    ignored_signals_keep_the_timer,
    quiet_timers,
    each_timer_has_its_signal,
    deleted_and_stopped_timers,
    timers_and_fork_exec,
    timer_limit,
    sleep_on_cpu_time,
    sleep_on_another_process_time,
    cpu_sleep_errors,
    real_interval_timer_waits_for_its_signal,
    cpu_limit,
    cpu_limit_of_a_handler,
    realtime_limit,
];

const MS: i64 = 1_000_000;

fn now(clock: i32) -> crate::sys::Result<i64> {
    let mut t: timespec = zeroed();
    sys!(SYS_clock_gettime, clock, addr_mut(&mut t))?;
    Ok(t.tv_sec * 1_000_000_000 + t.tv_nsec)
}

fn spec(ns: i64) -> timespec {
    timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

fn nanos(t: timespec) -> i64 {
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn burn(ns: i64) -> crate::sys::Result<()> {
    let end = now(CLOCK_THREAD_CPUTIME_ID)? + ns;
    while now(CLOCK_THREAD_CPUTIME_ID)? < end {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    }
    Ok(())
}

/// Burns CPU time until the condition; gives up after many seconds of it.
fn burn_until(mut done: impl FnMut() -> bool) -> crate::sys::Result<bool> {
    let end = now(CLOCK_THREAD_CPUTIME_ID)? + 20_000 * MS;
    while !done() {
        burn(MS)?;
        if now(CLOCK_THREAD_CPUTIME_ID)? > end {
            return Ok(false);
        }
    }
    Ok(true)
}

static FIRED: AtomicI32 = AtomicI32::new(0);
static OVERRUN: AtomicI32 = AtomicI32::new(0);
static THREAD: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(_signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo; the overrun count is its second field after the head.
    let (code, overrun) = unsafe { ((*info).si_code, info.cast::<i32>().add(5).read()) };
    if code == SI_TIMER {
        OVERRUN.store(overrun, SeqCst);
    }
    THREAD.store(sys!(SYS_gettid).unwrap_or(0) as i32, SeqCst);
    FIRED.fetch_add(1, SeqCst);
}

fn on(signal: i32) -> crate::sys::Result<()> {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    c!(sigaction(signal, &raw const action, std::ptr::null_mut())).map(drop)
}

fn set_action(signal: i32, action: usize) -> crate::sys::Result<()> {
    let mut new: sigaction = zeroed();
    new.sa_sigaction = action;
    c!(sigaction(signal, &raw const new, std::ptr::null_mut())).map(drop)
}

fn mask(how: i32, signal: i32) -> crate::sys::Result<usize> {
    let set = 1_u64 << (signal - 1);
    sys!(SYS_rt_sigprocmask, how, addr(&set), 0, 8)
}

/// `struct sigevent` as the kernel has it.
fn event(signal: i32, how: i32, thread: i32) -> [u64; 8] {
    [77, u64::from(signal as u32) | u64::from(how as u32) << 32, thread as u64, 0, 0, 0, 0, 0]
}

fn create(clock: i32, event: &[u64; 8]) -> crate::sys::Result<i32> {
    let mut id = -1_i32;
    sys!(SYS_timer_create, clock, addr(event), addr_mut(&mut id))?;
    Ok(id)
}

fn settime(id: i32, flags: i32, first: i64, interval: i64) -> crate::sys::Result<itimerspec> {
    let new = itimerspec { it_interval: spec(interval), it_value: spec(first) };
    let mut old: itimerspec = zeroed();
    sys!(SYS_timer_settime, id, flags, addr(&new), addr_mut(&mut old))?;
    Ok(old)
}

fn gettime(id: i32) -> crate::sys::Result<(i64, i64)> {
    let mut value: itimerspec = zeroed();
    sys!(SYS_timer_gettime, id, addr_mut(&mut value))?;
    Ok((nanos(value.it_value), nanos(value.it_interval)))
}

fn process_clock(pid: i32, kind: i32) -> i32 {
    (!pid << 3) | kind
}

/// A child that burns CPU time.
fn burner() -> crate::sys::Result<i32> {
    fork(|| {
        loop {
            std::hint::spin_loop();
        }
    })
}

fn process_time_timer() -> Outcome {
    on(SIGUSR1)?;
    let id = create(CLOCK_PROCESS_CPUTIME_ID, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 60 * MS, 0)?;
    // It does not run while we sleep.
    sleep_ms(200);
    check_eq!(FIRED.load(SeqCst), 0);
    let (left, _) = gettime(id)?;
    check!(left > 0 && left <= 60 * MS, "{left}");
    let start = now(CLOCK_PROCESS_CPUTIME_ID)?;
    check!(burn_until(|| FIRED.load(SeqCst) == 1)?);
    check!(now(CLOCK_PROCESS_CPUTIME_ID)? - start + 60 * MS - left >= 55 * MS);
    check_eq!(gettime(id)?, (0, 0));
    // Other threads count.
    settime(id, 0, 40 * MS, 0)?;
    let thread = std::thread::spawn(|| burn_until(|| FIRED.load(SeqCst) == 2));
    check!(thread.join().is_ok_and(|r| r == Ok(true)));
    // Repeating.
    settime(id, 0, 10 * MS, 10 * MS)?;
    check!(burn_until(|| FIRED.load(SeqCst) >= 6)?);
    let (left, interval) = gettime(id)?;
    check!(left > 0 && left <= 10 * MS && interval == 10 * MS, "{left} {interval}");
    settime(id, 0, 0, 0)?;
    let fired = FIRED.load(SeqCst);
    burn(50 * MS)?;
    check!(FIRED.load(SeqCst) <= fired + 1);
    Ok(())
}

fn thread_time_timer() -> Outcome {
    on(SIGUSR1)?;
    let tid = sys!(SYS_gettid)? as i32;
    let id = create(CLOCK_THREAD_CPUTIME_ID, &event(SIGUSR1, SIGEV_THREAD_ID, tid))?;
    settime(id, 0, 50 * MS, 0)?;
    // The time of another thread is not ours.
    let thread = std::thread::spawn(|| burn(150 * MS));
    check!(thread.join().is_ok_and(|r| r.is_ok()));
    check_eq!(FIRED.load(SeqCst), 0);
    check!(burn_until(|| FIRED.load(SeqCst) == 1)?);
    check_eq!(THREAD.load(SeqCst), tid);
    check_err!(create(CLOCK_THREAD_CPUTIME_ID, &event(SIGUSR1, SIGEV_THREAD_ID, 1)), EINVAL);
    // A thread's clock by its number; one of another process is refused.
    let id = create(process_clock(tid, 2) | 4, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 20 * MS, 0)?;
    check!(burn_until(|| FIRED.load(SeqCst) == 2)?);
    check_err!(create(process_clock(1, 2) | 4, &event(SIGUSR1, SIGEV_SIGNAL, 0)), EINVAL);
    Ok(())
}

fn another_process_time_timer() -> Outcome {
    on(SIGUSR1)?;
    let child = burner()?;
    let id = create(process_clock(child, 2), &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 30 * MS, 30 * MS)?;
    check!(eventually(|| FIRED.load(SeqCst) >= 3));
    check_eq!(THREAD.load(SeqCst), getpid());
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn cpu_timer_settings() -> Outcome {
    on(SIGUSR1)?;
    let id = create(CLOCK_PROCESS_CPUTIME_ID, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    check_eq!(gettime(id)?, (0, 0));
    settime(id, 0, 5_000 * MS, 7_000 * MS)?;
    let old = settime(id, TIMER_ABSTIME, now(CLOCK_PROCESS_CPUTIME_ID)? + 9_000 * MS, 0)?;
    let (value, interval) = (nanos(old.it_value), nanos(old.it_interval));
    check!(value > 3_000 * MS && value <= 5_000 * MS && interval == 7_000 * MS, "{value} {interval}");
    let (left, interval) = gettime(id)?;
    check!(left > 7_000 * MS && left <= 9_000 * MS && interval == 0, "{left} {interval}");
    // A time that has passed is due at once.
    settime(id, TIMER_ABSTIME, 1, 0)?;
    check_eq!(FIRED.load(SeqCst), 1);
    check_err!(settime(id, 0, -1, 0), EINVAL);
    check_err!(settime(id + 9, 0, 1, 0), EINVAL);
    check_err!(sys!(SYS_timer_settime, id, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_timer_settime, id, 0, 8, 0), EFAULT);
    Ok(())
}

fn cpu_timers_of_the_dead() -> Outcome {
    let child = burner()?;
    let id = create(process_clock(child, 2), &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 50_000 * MS, 0)?;
    check!(gettime(id)?.0 > 0);
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(gettime(id)?.0, 0);
    check_err!(settime(id, 0, MS, 0), ESRCH);
    check_err!(create(process_clock(child, 2), &event(SIGUSR1, SIGEV_SIGNAL, 0)), EINVAL);
    sys!(SYS_timer_delete, id)?;
    // A thread that ended.
    let (tx, rx) = std::sync::mpsc::channel();
    let (go, wait_for) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ = tx.send(sys!(SYS_gettid).unwrap_or(0) as i32);
        let _ = wait_for.recv();
    });
    let tid = rx.recv().map_err(Failure::new)?;
    let id = create(process_clock(tid, 2) | 4, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 50_000 * MS, 0)?;
    drop(go);
    let _ = thread.join();
    check!(eventually(|| settime(id, 0, MS, 0).is_err()));
    check_err!(settime(id, 0, MS, 0), ESRCH);
    Ok(())
}

fn cpu_clock_kinds() -> Outcome {
    let child = burner()?;
    for kind in 0..3 {
        check!(eventually(|| now(process_clock(child, kind)).is_ok_and(|t| t > 10 * MS)), "{kind}");
        let mut res: timespec = zeroed();
        sys!(SYS_clock_getres, process_clock(child, kind), addr_mut(&mut res))?;
        check_eq!(nanos(res), if kind == 2 { 1 } else { 4 * MS });
        check_err!(sys!(SYS_clock_settime, process_clock(child, kind), addr(&spec(1))), EPERM);
    }
    check!(now(process_clock(child, 1))? <= now(process_clock(child, 0))?);
    check_err!(now(process_clock(child, 3)), EINVAL);
    check_err!(sys!(SYS_clock_settime, CLOCK_PROCESS_CPUTIME_ID, addr(&spec(1))), EINVAL);
    // Number 0 is oneself.
    check!(now(process_clock(0, 2))? > 0);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn overruns_are_counted() -> Outcome {
    on(SIGUSR1)?;
    let id = create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    check_eq!(sys!(SYS_timer_getoverrun, id)?, 0);
    mask(SIG_BLOCK, SIGUSR1)?;
    settime(id, 0, 10 * MS, 10 * MS)?;
    sleep_ms(205);
    // Still one signal; the timer goes on as if nothing was missed.
    let (left, interval) = gettime(id)?;
    check!(left > 0 && left <= 10 * MS && interval == 10 * MS, "{left} {interval}");
    check_eq!(sys!(SYS_timer_getoverrun, id)?, 0);
    // Taken by hand, so that the next expiry cannot come between.
    let mut info: siginfo_t = zeroed();
    let set = 1_u64 << (SIGUSR1 - 1);
    check_eq!(sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), 0, 8)?, SIGUSR1 as usize);
    check_eq!(info.si_code, SI_TIMER);
    // SAFETY: a siginfo of SI_TIMER: id, overrun, value.
    let (number, overrun, value) = unsafe {
        let words = (&raw const info).cast::<i32>();
        (words.add(4).read(), words.add(5).read(), info.si_value().sival_ptr as usize)
    };
    check_eq!((number, value), (id, 77));
    check!(overrun >= 18, "{overrun}");
    check_eq!(sys!(SYS_timer_getoverrun, id)?, overrun as usize);
    // And it goes on.
    check_eq!(sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), 0, 8)?, SIGUSR1 as usize);
    settime(id, 0, 0, 0)?;
    check_eq!(sys!(SYS_timer_getoverrun, id)?, 0);
    check_err!(sys!(SYS_timer_getoverrun, id + 1), EINVAL);
    Ok(())
}

fn overruns_of_cpu_time() -> Outcome {
    on(SIGUSR1)?;
    let id = create(CLOCK_PROCESS_CPUTIME_ID, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    mask(SIG_BLOCK, SIGUSR1)?;
    settime(id, 0, MS, MS)?;
    burn(60 * MS)?;
    mask(SIG_UNBLOCK, SIGUSR1)?;
    check!(FIRED.load(SeqCst) >= 1);
    check!(OVERRUN.load(SeqCst) >= 0);
    settime(id, 0, 0, 0)?;
    // A tick is longer than the interval, so that each signal reports some.
    settime(id, 0, 100_000, 100_000)?;
    check!(burn_until(|| OVERRUN.load(SeqCst) >= 5)?);
    Ok(())
}

fn shortest_interval() -> Outcome {
    on(SIGUSR1)?;
    let ids = [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_PROCESS_CPUTIME_ID]
        .map(|clock| create(clock, &event(SIGUSR1, SIGEV_SIGNAL, 0)));
    mask(SIG_BLOCK, SIGUSR1)?;
    for id in ids {
        settime(id?, 0, 1, 1)?;
    }
    // The machine goes on.
    burn(20 * MS)?;
    mask(SIG_UNBLOCK, SIGUSR1)?;
    check!(FIRED.load(SeqCst) >= 1);
    mask(SIG_BLOCK, SIGUSR1)?;
    for id in ids {
        sys!(SYS_timer_delete, id?)?;
    }
    // The same with a signal that is ignored.
    set_action(SIGUSR2, SIG_IGN)?;
    let id = create(CLOCK_MONOTONIC, &event(SIGUSR2, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 1, 1)?;
    burn(20 * MS)?;
    Ok(())
}

fn ignored_signals_keep_the_timer() -> Outcome {
    set_action(SIGUSR1, SIG_IGN)?;
    let id = create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 5 * MS, 5 * MS)?;
    sleep_ms(50);
    on(SIGUSR1)?;
    check!(eventually(|| FIRED.load(SeqCst) >= 3));
    Ok(())
}

fn quiet_timers() -> Outcome {
    let id = create(CLOCK_MONOTONIC, &event(0, SIGEV_NONE, 0))?;
    settime(id, 0, 20 * MS, 0)?;
    check!(gettime(id)?.0 > 0);
    sleep_ms(40);
    check_eq!(gettime(id)?, (0, 0));
    settime(id, 0, 20 * MS, 15 * MS)?;
    sleep_ms(60);
    let (left, interval) = gettime(id)?;
    check!(left > 0 && left <= 15 * MS && interval == 15 * MS, "{left} {interval}");
    let id = create(CLOCK_PROCESS_CPUTIME_ID, &event(0, SIGEV_NONE, 0))?;
    settime(id, 0, 20 * MS, 0)?;
    burn(40 * MS)?;
    check_eq!(gettime(id)?.0, 0);
    check_err!(create(CLOCK_MONOTONIC, &event(0, SIGEV_SIGNAL, 0)), EINVAL);
    check_err!(create(CLOCK_MONOTONIC, &event(65, SIGEV_SIGNAL, 0)), EINVAL);
    check_err!(create(CLOCK_MONOTONIC, &event(SIGUSR1, 9, 0)), EINVAL);
    check_err!(create(CLOCK_MONOTONIC_COARSE, &event(SIGUSR1, SIGEV_SIGNAL, 0)), EOPNOTSUPP);
    Ok(())
}

fn each_timer_has_its_signal() -> Outcome {
    mask(SIG_BLOCK, SIGUSR1)?;
    let ids: Vec<i32> = (0..3)
        .map(|_| create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0)))
        .collect::<Result<_, _>>()?;
    for id in &ids {
        settime(*id, 0, MS, 0)?;
    }
    sleep_ms(50);
    // Not one for all, though it is no real-time signal.
    let mut seen = Vec::new();
    let set = 1_u64 << (SIGUSR1 - 1);
    for _ in 0..3 {
        let mut info: siginfo_t = zeroed();
        let none = spec(0);
        sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), addr(&none), 8)?;
        // SAFETY: a siginfo of SI_TIMER begins with the id.
        seen.push(unsafe { (&raw const info).cast::<i32>().add(4).read() });
    }
    seen.sort_unstable();
    check_eq!(seen, ids);
    Ok(())
}

fn deleted_and_stopped_timers() -> Outcome {
    on(SIGUSR1)?;
    let id = create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    mask(SIG_BLOCK, SIGUSR1)?;
    settime(id, 0, MS, MS)?;
    sleep_ms(20);
    // The signal of an earlier setting does not start this one.
    settime(id, 0, 50_000 * MS, MS)?;
    mask(SIG_UNBLOCK, SIGUSR1)?;
    let fired = FIRED.load(SeqCst);
    check!(fired <= 1);
    sleep_ms(30);
    check_eq!(FIRED.load(SeqCst), fired);
    check!(gettime(id)?.0 > 10_000 * MS);
    sys!(SYS_timer_delete, id)?;
    check_err!(sys!(SYS_timer_delete, id), EINVAL);
    // Numbers are not given out again at once.
    check!(create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0))? != id);
    Ok(())
}

fn timers_and_fork_exec() -> Outcome {
    let id = create(CLOCK_MONOTONIC, &event(SIGUSR1, SIGEV_SIGNAL, 0))?;
    settime(id, 0, 500 * MS, 0)?;
    check_eq!(in_child(|| i32::from(gettime(id) != Err(Errno(EINVAL))))?, 0);
    // They do not survive exec: the signal would kill.
    let child = fork(|| {
        let _ =
            create(CLOCK_MONOTONIC, &event(SIGKILL, SIGEV_SIGNAL, 0)).map(|id| settime(id, 0, 300 * MS, 0));
        let argv = [c"guest-tests".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let _ = c!(execv(c"/proc/self/exe".as_ptr(), argv.as_ptr()));
        1
    })?;
    settime(id, 0, 0, 0)?;
    sleep_ms(800);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn timer_limit() -> Outcome {
    let status = in_child(|| {
        let limit = rlimit { rlim_cur: 3, rlim_max: 3 };
        let _ = c!(setrlimit(RLIMIT_SIGPENDING, &raw const limit));
        let quiet = event(0, SIGEV_NONE, 0);
        // A user of our own, whose signals nobody else queues.
        let _ = sys!(SYS_setresuid, 4711, 4711, 4711);
        let mut ids = Vec::new();
        while let Ok(id) = create(CLOCK_MONOTONIC, &quiet) {
            ids.push(id);
        }
        let full = create(CLOCK_MONOTONIC, &quiet) == Err(Errno(EAGAIN)) && ids.len() == 3;
        let _ = sys!(SYS_timer_delete, ids[0]);
        let again = create(CLOCK_MONOTONIC, &quiet).is_ok();
        i32::from(!full) + 2 * i32::from(!again)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn sleep_on_cpu_time() -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let burner = {
        let stop = stop.clone();
        std::thread::spawn(move || burn_until(|| stop.load(SeqCst)))
    };
    let start = now(CLOCK_PROCESS_CPUTIME_ID)?;
    sys!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, addr(&spec(50 * MS)), 0)?;
    let middle = now(CLOCK_PROCESS_CPUTIME_ID)?;
    check!(middle - start >= 50 * MS);
    let until = spec(middle + 30 * MS);
    sys!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, addr(&until), 0)?;
    check!(now(CLOCK_PROCESS_CPUTIME_ID)? >= middle + 30 * MS);
    // One that has passed.
    sys!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, addr(&spec(1)), 0)?;
    stop.store(true, SeqCst);
    check!(burner.join().is_ok_and(|r| r == Ok(true)));
    Ok(())
}

fn sleep_on_another_process_time() -> Outcome {
    let child = burner()?;
    let clock = process_clock(child, 2);
    let start = now(clock)?;
    sys!(SYS_clock_nanosleep, clock, 0, addr(&spec(40 * MS)), 0)?;
    check!(now(clock)? - start >= 40 * MS);
    kill(child, SIGSTOP)?;
    check!(eventually(|| state(child) == Some('T')));
    // Its time stands, so that only a signal ends this.
    let sleeper = fork(|| {
        let _ = on(SIGUSR1);
        let mut left = spec(0);
        let result = sys!(SYS_clock_nanosleep, clock, 0, addr(&spec(900_000 * MS)), addr_mut(&mut left));
        let told = nanos(left) > 800_000 * MS && nanos(left) <= 900_000 * MS;
        let until = spec(900_000 * MS);
        let result2 = sys!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, addr(&until), 0);
        let interrupted = Err(Errno(EINTR));
        i32::from(result != interrupted) + 2 * i32::from(!told) + 4 * i32::from(result2 != interrupted)
    })?;
    for _ in 0..2 {
        check!(eventually(|| state(sleeper) == Some('S')));
        sleep_ms(100);
        kill(sleeper, SIGUSR1)?;
        sleep_ms(200);
    }
    check_eq!(wait_exit(sleeper)?, 0);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn cpu_sleep_errors() -> Outcome {
    let tid = sys!(SYS_gettid)? as i32;
    let short = spec(1);
    check_err!(sys!(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, addr(&short), 0), EOPNOTSUPP);
    check_err!(sys!(SYS_clock_nanosleep, process_clock(0, 2) | 4, 0, addr(&short), 0), EINVAL);
    check_err!(sys!(SYS_clock_nanosleep, process_clock(tid, 2) | 4, 0, addr(&short), 0), EINVAL);
    check_err!(sys!(SYS_clock_nanosleep, process_clock(4_000_000, 2), 0, addr(&short), 0), EINVAL);
    check_err!(sys!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, addr(&spec(-1)), 0), EINVAL);
    check_err!(sys!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, 8, 0), EFAULT);
    Ok(())
}

fn real_interval_timer_waits_for_its_signal() -> Outcome {
    on(SIGALRM)?;
    mask(SIG_BLOCK, SIGALRM)?;
    let every = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 1 },
        it_value: timeval { tv_sec: 0, tv_usec: 1 },
    };
    sys!(SYS_setitimer, ITIMER_REAL, addr(&every), 0)?;
    burn(20 * MS)?;
    mask(SIG_UNBLOCK, SIGALRM)?;
    check!(FIRED.load(SeqCst) >= 1);
    let every = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 20_000 },
        it_value: timeval { tv_sec: 0, tv_usec: 20_000 },
    };
    sys!(SYS_setitimer, ITIMER_REAL, addr(&every), 0)?;
    FIRED.store(0, SeqCst);
    check!(eventually(|| FIRED.load(SeqCst) >= 4));
    let mut left: itimerval = zeroed();
    sys!(SYS_getitimer, ITIMER_REAL, addr_mut(&mut left))?;
    check!(left.it_value.tv_usec <= 20_000 && left.it_interval.tv_usec == 20_000);
    Ok(())
}

fn set_limit(resource: u32, soft: u64, hard: u64) -> crate::sys::Result<usize> {
    let limit = [soft, hard];
    sys!(SYS_prlimit64, 0, resource, addr(&limit), 0)
}

fn soft_limit(resource: u32) -> crate::sys::Result<u64> {
    let mut limit = [0_u64; 2];
    sys!(SYS_prlimit64, 0, resource, 0, addr_mut(&mut limit))?;
    Ok(limit[0])
}

fn cpu_limit() -> Outcome {
    // The default action of SIGXCPU ends the process.
    let child = fork(|| {
        let core = [0_u64; 2];
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_CORE as u32, addr(&core), 0);
        let _ = set_limit(RLIMIT_CPU as u32, 1, 3);
        let _ = burn(10_000 * MS);
        1
    })?;
    let status = wait(child)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU, "{status:#x}");
    Ok(())
}

fn cpu_limit_of_a_handler() -> Outcome {
    // Who catches it gets it again after another second, and is killed at the hard limit.
    let seen = map_shared(4096)?;
    let child = fork(|| {
        let _ = on(SIGXCPU);
        let _ = set_limit(RLIMIT_CPU as u32, 1, 2);
        let _ = burn_until(|| FIRED.load(SeqCst) > 0);
        atomic(seen).store(soft_limit(RLIMIT_CPU as u32).unwrap_or(0) as u32, SeqCst);
        let _ = burn(10_000 * MS);
        1
    })?;
    let status = wait(child)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "{status:#x}");
    check_eq!(atomic(seen).load(SeqCst), 2);
    Ok(())
}

fn realtime_limit() -> Outcome {
    let seen = map_shared(4096)?;
    let child = fork(|| {
        let _ = on(SIGXCPU);
        let _ = set_limit(RLIMIT_RTTIME as u32, 100_000, 1_500_000);
        let _ = sys!(SYS_sched_setscheduler, 0, SCHED_FIFO, addr(&1_i32));
        // Sleeping starts the count anew.
        for _ in 0..5 {
            let _ = burn(40 * MS);
            sleep_ms(10);
        }
        atomic(seen).store(1 + FIRED.load(SeqCst) as u32, SeqCst);
        let _ = burn_until(|| FIRED.load(SeqCst) > 0);
        atomic(seen + 4).store(soft_limit(RLIMIT_RTTIME as u32).unwrap_or(0) as u32, SeqCst);
        let _ = burn(10_000 * MS);
        1
    })?;
    let status = wait(child)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "{status:#x}");
    check_eq!(atomic(seen).load(SeqCst), 1);
    check_eq!(atomic(seen + 4).load(SeqCst), 1_100_000);
    // Ordinary tasks are not limited.
    let child = fork(|| {
        let _ = set_limit(RLIMIT_RTTIME as u32, 20_000, 20_000);
        i32::from(burn(200 * MS).is_err())
    })?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}
