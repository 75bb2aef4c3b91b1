//! Clocks, sleeping and timers (clock_gettime(2), clock_nanosleep(2), timer_create(2), vdso(7)).

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

tests![
    clocks_advance,
    clock_resolutions,
    clock_errors,
    vdso_agrees,
    monotonic_across_cpus,
    nanosleep_sleeps,
    clock_nanosleep_absolute,
    posix_timers,
    posix_timer_signals,
    interval_timers,
    cpu_clocks,
    realtime_can_be_set,
    gettimeofday_agrees,
    settimeofday_sets,
    settimeofday_errors,
    short_sleeps_are_short,
    many_timers,
    process_clock_never_goes_back,
    alarm_clocks_are_for_the_privileged,
    ntp_variables_keep_what_they_are_told,
    ntp_variables_have_ranges,
    raw_clock_is_not_corrected,
    adjtime_slews,
    the_loop_steers,
    ntp_offset_steps,
    clock_adjtime_of_other_clocks,
];

fn now(clock: i32) -> crate::sys::Result<i64> {
    let mut t: timespec = zeroed();
    sys!(SYS_clock_gettime, clock, addr_mut(&mut t))?;
    Ok(t.tv_sec * 1_000_000_000 + t.tv_nsec)
}

fn spec(ns: i64) -> timespec {
    timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

fn clocks_advance() -> Outcome {
    for clock in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_MONOTONIC_RAW,
        CLOCK_BOOTTIME,
        CLOCK_TAI,
        CLOCK_REALTIME_COARSE,
        CLOCK_MONOTONIC_COARSE,
    ] {
        let one = now(clock)?;
        sleep_ms(30);
        let two = now(clock)?;
        check!(two - one >= 20_000_000, "clock {clock}: {}", two - one);
        check!(two - one < 5_000_000_000, "clock {clock}: {}", two - one);
    }
    // The epoch is this century, the boot not long ago.
    check!(now(CLOCK_REALTIME)? > 1_577_836_800_000_000_000);
    check!(now(CLOCK_BOOTTIME)? >= now(CLOCK_MONOTONIC)? - 1_000_000);
    Ok(())
}

fn clock_resolutions() -> Outcome {
    let mut t: timespec = zeroed();
    sys!(SYS_clock_getres, CLOCK_MONOTONIC, addr_mut(&mut t))?;
    check_eq!((t.tv_sec, t.tv_nsec), (0, 1));
    sys!(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, addr_mut(&mut t))?;
    check_eq!((t.tv_sec, t.tv_nsec), (0, 4_000_000));
    sys!(SYS_clock_getres, CLOCK_PROCESS_CPUTIME_ID, addr_mut(&mut t))?;
    check_eq!((t.tv_sec, t.tv_nsec), (0, 1));
    Ok(())
}

fn clock_errors() -> Outcome {
    check_err!(now(99), EINVAL);
    check_err!(sys!(SYS_clock_gettime, CLOCK_MONOTONIC, 1), EFAULT);
    check_err!(sys!(SYS_clock_settime, CLOCK_MONOTONIC, addr(&spec(0))), EINVAL);
    let bad = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    check_err!(sys!(SYS_clock_settime, CLOCK_REALTIME, addr(&bad)), EINVAL);
    check_err!(sys!(SYS_nanosleep, addr(&bad), 0), EINVAL);
    let negative = timespec { tv_sec: -1, tv_nsec: 0 };
    check_err!(sys!(SYS_nanosleep, addr(&negative), 0), EINVAL);
    check_err!(sys!(SYS_clock_nanosleep, 99, 0, addr(&spec(0)), 0), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(sys!(SYS_clock_settime, CLOCK_REALTIME, addr(&spec(0))) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn vdso_agrees() -> Outcome {
    // The C library reads the clock through the vDSO, `sys!` by a system call.
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let mut last = now(clock)?;
        for n in 0..2000 {
            let mut t: timespec = zeroed();
            c!(clock_gettime(clock, &raw mut t))?;
            let fast = t.tv_sec * 1_000_000_000 + t.tv_nsec;
            check!(fast >= last, "clock {clock}, round {n}: {fast} after {last}");
            last = now(clock)?;
            check!(last >= fast, "clock {clock}, round {n}: {last} after {fast}");
        }
    }
    Ok(())
}

fn monotonic_across_cpus() -> Outcome {
    let latest = std::sync::Arc::new(std::sync::Mutex::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let latest = latest.clone();
            std::thread::spawn(move || {
                (0..5000).all(|_| {
                    let Ok(mut latest) = latest.lock() else { return false };
                    let mut t: timespec = zeroed();
                    let _ = c!(clock_gettime(CLOCK_MONOTONIC, &raw mut t));
                    let time = t.tv_sec * 1_000_000_000 + t.tv_nsec;
                    let forward = time >= *latest;
                    *latest = time;
                    forward
                })
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|ok| ok)));
    Ok(())
}

fn nanosleep_sleeps() -> Outcome {
    for ms in [0, 1, 20, 100] {
        let start = now(CLOCK_MONOTONIC)?;
        sys!(SYS_nanosleep, addr(&spec(ms * 1_000_000)), 0)?;
        let slept = now(CLOCK_MONOTONIC)? - start;
        check!(slept >= ms * 1_000_000, "{slept} ns for {ms} ms");
        check!(slept < 3_000_000_000, "{slept} ns for {ms} ms");
    }
    check_err!(sys!(SYS_nanosleep, 1, 0), EFAULT);
    Ok(())
}

fn clock_nanosleep_absolute() -> Outcome {
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let until = now(clock)? + 40_000_000;
        sys!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, addr(&spec(until)), 0)?;
        check!(now(clock)? >= until);
    }
    let start = now(CLOCK_MONOTONIC)?;
    sys!(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, addr(&spec(1)), 0)?;
    check!(now(CLOCK_MONOTONIC)? - start < 1_000_000_000);
    let call = sys!(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, addr(&spec(1)), 0);
    check_err!(call, EOPNOTSUPP);
    Ok(())
}

static FIRED: AtomicI32 = AtomicI32::new(0);
static VALUE: AtomicI32 = AtomicI32::new(0);

extern "C" fn fired(_signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (code, value) = unsafe { ((*info).si_code, (*info).si_value().sival_ptr as usize) };
    if code == SI_TIMER || code == SI_USER || code == SI_KERNEL {
        VALUE.store(value as i32, SeqCst);
        FIRED.fetch_add(1, SeqCst);
    }
}

fn on(signal: i32) -> crate::sys::Result<()> {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = fired as *const () as usize;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    c!(sigaction(signal, &raw const action, std::ptr::null_mut())).map(drop)
}

/// `struct sigevent` as the kernel has it: value, signal, how, thread, padding to 64 bytes.
fn event(value: u64, signal: i32, how: i32) -> [u64; 8] {
    let mut event = [0; 8];
    event[0] = value;
    event[1] = u64::from(signal as u32) | u64::from(how as u32) << 32;
    event
}

fn posix_timers() -> Outcome {
    let mut id = -1_i32;
    let quiet = event(0, 0, SIGEV_NONE);
    sys!(SYS_timer_create, CLOCK_MONOTONIC, addr(&quiet), addr_mut(&mut id))?;
    let setting = itimerspec { it_interval: spec(10_000_000), it_value: spec(50_000_000) };
    let mut old: itimerspec = zeroed();
    sys!(SYS_timer_settime, id, 0, addr(&setting), addr_mut(&mut old))?;
    check_eq!((old.it_value.tv_sec, old.it_value.tv_nsec), (0, 0));
    sys!(SYS_timer_gettime, id, addr_mut(&mut old))?;
    check!(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 50_000_000);
    check_eq!(old.it_interval.tv_nsec, 10_000_000);
    sys!(SYS_timer_delete, id)?;
    check_err!(sys!(SYS_timer_gettime, id, addr_mut(&mut old)), EINVAL);
    check_err!(sys!(SYS_timer_create, 99, 0, addr_mut(&mut id)), EINVAL);
    let bad = event(0, 99, SIGEV_SIGNAL);
    check_err!(sys!(SYS_timer_create, CLOCK_MONOTONIC, addr(&bad), addr_mut(&mut id)), EINVAL);
    Ok(())
}

fn posix_timer_signals() -> Outcome {
    on(SIGUSR1)?;
    let mut id = -1_i32;
    let wanted = event(4321, SIGUSR1, SIGEV_SIGNAL);
    sys!(SYS_timer_create, CLOCK_MONOTONIC, addr(&wanted), addr_mut(&mut id))?;
    let setting = itimerspec { it_interval: spec(5_000_000), it_value: spec(5_000_000) };
    sys!(SYS_timer_settime, id, 0, addr(&setting), 0)?;
    check!(eventually(|| FIRED.load(SeqCst) >= 5));
    check_eq!(VALUE.load(SeqCst), 4321);
    // Blocked, the expiries are counted as overruns.
    let set = 1_u64 << (SIGUSR1 - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8)?;
    sleep_ms(100);
    let before = FIRED.load(SeqCst);
    sys!(SYS_rt_sigprocmask, SIG_UNBLOCK, addr(&set), 0, 8)?;
    check!(FIRED.load(SeqCst) > before);
    check!(sys!(SYS_timer_getoverrun, id)? < 1000);
    sys!(SYS_timer_delete, id)?;
    let last = FIRED.load(SeqCst);
    sleep_ms(30);
    check!(FIRED.load(SeqCst) <= last + 1);
    // To a thread of our choice.
    let mut wanted = event(5, SIGUSR1, SIGEV_THREAD_ID);
    wanted[2] = sys!(SYS_gettid)? as u64;
    sys!(SYS_timer_create, CLOCK_MONOTONIC, addr(&wanted), addr_mut(&mut id))?;
    let once = itimerspec { it_interval: spec(0), it_value: spec(1_000_000) };
    sys!(SYS_timer_settime, id, 0, addr(&once), 0)?;
    check!(eventually(|| VALUE.load(SeqCst) == 5));
    Ok(())
}

fn interval_timers() -> Outcome {
    on(SIGALRM)?;
    on(SIGVTALRM)?;
    on(SIGPROF)?;
    let every = |ms: i64| itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: ms * 1000 },
        it_value: timeval { tv_sec: 0, tv_usec: ms * 1000 },
    };
    sys!(SYS_setitimer, ITIMER_REAL, addr(&every(10)), 0)?;
    check!(eventually(|| FIRED.load(SeqCst) >= 5));
    sys!(SYS_setitimer, ITIMER_REAL, addr(&every(0)), 0)?;
    sleep_ms(20);
    // The virtual timer runs only while we compute.
    FIRED.store(0, SeqCst);
    sys!(SYS_setitimer, ITIMER_VIRTUAL, addr(&every(20)), 0)?;
    sleep_ms(100);
    check!(FIRED.load(SeqCst) <= 1);
    let end = now(CLOCK_MONOTONIC)? + 3_000_000_000;
    while FIRED.load(SeqCst) < 3 {
        std::hint::black_box((0..10_000_u64).sum::<u64>());
        check!(now(CLOCK_MONOTONIC)? < end);
    }
    check_err!(sys!(SYS_setitimer, 9, addr(&every(1)), 0), EINVAL);
    let bad = itimerval {
        it_interval: timeval { tv_sec: 0, tv_usec: 0 },
        it_value: timeval { tv_sec: 0, tv_usec: 1_000_000 },
    };
    check_err!(sys!(SYS_setitimer, ITIMER_REAL, addr(&bad), 0), EINVAL);
    Ok(())
}

fn cpu_clocks() -> Outcome {
    let (process, thread) = (now(CLOCK_PROCESS_CPUTIME_ID)?, now(CLOCK_THREAD_CPUTIME_ID)?);
    sleep_ms(100);
    let idle = now(CLOCK_PROCESS_CPUTIME_ID)? - process;
    check!(idle < 80_000_000, "{idle} ns while asleep");
    let end = now(CLOCK_MONOTONIC)? + 100_000_000;
    while now(CLOCK_MONOTONIC)? < end {}
    let busy = now(CLOCK_PROCESS_CPUTIME_ID)? - process;
    check!(busy > 10_000_000, "{busy} ns");
    check!(now(CLOCK_THREAD_CPUTIME_ID)? - thread <= now(CLOCK_PROCESS_CPUTIME_ID)? - process);
    // The clock of another process.
    let child = fork(|| {
        loop {
            std::hint::spin_loop();
        }
    })?;
    let clock = (!child << 3) | 2;
    let mine = now(clock)?;
    check!(eventually(|| now(clock).is_ok_and(|t| t > mine + 5_000_000)));
    kill(child, SIGKILL)?;
    wait(child)?;
    check_err!(now(clock), EINVAL);
    Ok(())
}

fn realtime_can_be_set() -> Outcome {
    let (real, mono) = (now(CLOCK_REALTIME)?, now(CLOCK_MONOTONIC)?);
    let target = 1_900_000_000_000_000_000;
    sys!(SYS_clock_settime, CLOCK_REALTIME, addr(&spec(target)))?;
    let after = now(CLOCK_REALTIME)?;
    check!((target..target + 2_000_000_000).contains(&after));
    let mut t: timespec = zeroed();
    c!(clock_gettime(CLOCK_REALTIME, &raw mut t))?;
    check!((1_900_000_000..1_900_000_003).contains(&t.tv_sec));
    check!(now(CLOCK_MONOTONIC)? - mono < 3_000_000_000);
    let back = real + (now(CLOCK_MONOTONIC)? - mono);
    sys!(SYS_clock_settime, CLOCK_REALTIME, addr(&spec(back)))?;
    Ok(())
}

fn gettimeofday_agrees() -> Outcome {
    let mut t: timeval = zeroed();
    let before = now(CLOCK_REALTIME)? / 1000;
    sys!(SYS_gettimeofday, addr_mut(&mut t), 0)?;
    let after = now(CLOCK_REALTIME)? / 1000;
    check!((before..=after).contains(&(t.tv_sec * 1_000_000 + t.tv_usec)));
    Ok(())
}

fn short_sleeps_are_short() -> Outcome {
    // High resolution: 100 sleeps of 100 µs take nowhere near 100 ticks of a slow clock.
    let start = now(CLOCK_MONOTONIC)?;
    for _ in 0..100 {
        sys!(SYS_nanosleep, addr(&spec(100_000)), 0)?;
    }
    let took = now(CLOCK_MONOTONIC)? - start;
    check!((10_000_000..390_000_000).contains(&took), "{took} ns");
    Ok(())
}

fn many_timers() -> Outcome {
    let threads: Vec<_> = (0..50_u64)
        .map(|n| {
            std::thread::spawn(move || {
                let start = std::time::Instant::now();
                sleep_ms(10 + n % 7 * 10);
                start.elapsed().as_millis() >= u128::from(10 + n % 7 * 10)
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|ok| ok)));
    Ok(())
}

/// Threads that end take nothing of what they used with them, and leave nothing twice.
fn process_clock_never_goes_back() -> Outcome {
    let end = now(CLOCK_MONOTONIC)? + 1_500_000_000;
    let makers: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                let burn = || {
                    let start = now(CLOCK_THREAD_CPUTIME_ID).unwrap_or(0);
                    while now(CLOCK_THREAD_CPUTIME_ID).unwrap_or(i64::MAX) < start + 300_000 {}
                };
                while now(CLOCK_MONOTONIC).unwrap_or(i64::MAX) < end {
                    let _ = std::thread::spawn(burn).join();
                }
            })
        })
        .collect();
    let mut last = 0;
    let mut back = 0;
    while now(CLOCK_MONOTONIC)? < end {
        let time = now(CLOCK_PROCESS_CPUTIME_ID)?;
        back = back.max(last - time);
        last = time;
    }
    makers.into_iter().for_each(|maker| drop(maker.join()));
    check_eq!(back, 0);
    Ok(())
}

/// timer_create(2), clock_nanosleep(2), timerfd_create(2): `CAP_WAKE_ALARM`. (`EOPNOTSUPP`: no clock that could wake the machine.)
fn alarm_clocks_are_for_the_privileged() -> Outcome {
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let mut bad = 0;
        for (n, clock) in [CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM].into_iter().enumerate() {
            let refused =
                |result: crate::sys::Result<usize>| matches!(result, Err(Errno(EPERM | EOPNOTSUPP)));
            let mut id = 0_i32;
            let made = sys!(SYS_timer_create, clock, 0, addr_mut(&mut id));
            let slept = sys!(SYS_clock_nanosleep, clock, 0, addr(&spec(1000)), 0);
            let opened = sys!(SYS_timerfd_create, clock, 0) == Err(Errno(EPERM));
            let all = i32::from(!refused(made)) | i32::from(!refused(slept)) << 1 | i32::from(!opened) << 2;
            bad |= all << (3 * n);
        }
        bad
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn adjust(modes: u32, change: impl FnOnce(&mut timex)) -> crate::sys::Result<(usize, timex)> {
    let mut tx: timex = zeroed();
    tx.modes = modes;
    change(&mut tx);
    let state = sys!(SYS_adjtimex, addr_mut(&mut tx))?;
    Ok((state, tx))
}

/// adjtimex(2).
fn ntp_variables_keep_what_they_are_told() -> Outcome {
    let (_, first) = adjust(0, |_| {})?;
    check_eq!((first.tolerance, first.precision, first.tick), (500 << 16, 1, 10_000));
    let (state, tx) = adjust(ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR, |tx| {
        (tx.status, tx.maxerror, tx.esterror) = (0, 1000, 500);
    })?;
    // An error that is known and a status without complaints are what a synchronised clock is.
    check_eq!((state, tx.status, tx.maxerror, tx.esterror), (0, 0, 1000, 500));
    let (state, tx) = adjust(0, |_| {})?;
    check_eq!((state, tx.status & STA_UNSYNC, tx.esterror), (0, 0, 500));
    check!((1000..10_000).contains(&tx.maxerror), "{}", tx.maxerror);
    // Bits that only the kernel sets are left out.
    let (_, tx) = adjust(ADJ_STATUS, |tx| tx.status = STA_PLL | STA_FREQHOLD | STA_CLOCKERR | STA_PPSSIGNAL)?;
    check_eq!(tx.status, STA_PLL | STA_FREQHOLD);
    let (_, tx) = adjust(ADJ_NANO | ADJ_TIMECONST, |tx| tx.constant = 6)?;
    check_eq!((tx.status & STA_NANO, tx.constant), (STA_NANO, 6));
    let (_, tx) = adjust(ADJ_MICRO, |_| {})?;
    check_eq!(tx.status & STA_NANO, 0);
    // In microseconds the constant is of another scale.
    let (_, tx) = adjust(ADJ_TIMECONST, |tx| tx.constant = 3)?;
    check_eq!(tx.constant, 7);
    let (_, tx) = adjust(ADJ_TICK, |tx| tx.tick = 10_001)?;
    check_eq!(tx.tick, 10_001);
    adjust(ADJ_TICK | ADJ_TIMECONST | ADJ_STATUS, |tx| (tx.tick, tx.status) = (10_000, STA_UNSYNC))?;
    let (state, tx) = adjust(ADJ_STATUS, |tx| tx.status = STA_UNSYNC)?;
    check_eq!((state, tx.status, tx.tick), (5, STA_UNSYNC, 10_000));
    Ok(())
}

/// The clock is made to run faster: not the raw one, neither by call nor in the vDSO.
fn raw_clock_is_not_corrected() -> Outcome {
    let by_call = |clock: i32| -> crate::sys::Result<i64> {
        let mut t: timespec = zeroed();
        sys!(SYS_clock_gettime, clock, addr_mut(&mut t))?;
        Ok(t.tv_sec * 1_000_000_000 + t.tv_nsec)
    };
    let by_vdso = |clock: i32| -> crate::sys::Result<i64> {
        let mut t: timespec = zeroed();
        c!(clock_gettime(clock, &raw mut t))?;
        Ok(t.tv_sec * 1_000_000_000 + t.tv_nsec)
    };
    adjust(ADJ_TICK, |tx| tx.tick = 11_000)?;
    let start = (by_call(CLOCK_MONOTONIC)?, by_vdso(CLOCK_MONOTONIC_RAW)?);
    for _ in 0..200 {
        sleep_ms(1);
        for clock in [CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC] {
            let (one, two, three) = (by_call(clock)?, by_vdso(clock)?, by_call(clock)?);
            check!(one <= two && two <= three, "clock {clock}: {one} {two} {three}");
        }
    }
    let (mono, raw) = (by_call(CLOCK_MONOTONIC)? - start.0, by_vdso(CLOCK_MONOTONIC_RAW)? - start.1);
    adjust(ADJ_TICK, |tx| tx.tick = 10_000)?;
    check!(mono > raw + raw / 20, "{mono} {raw}");
    Ok(())
}

fn ntp_variables_have_ranges() -> Outcome {
    for tick in [8_999, 11_001] {
        check_err!(adjust(ADJ_TICK, |tx| tx.tick = tick), EINVAL);
    }
    let (_, tx) = adjust(ADJ_MAXERROR | ADJ_ESTERROR, |tx| (tx.maxerror, tx.esterror) = (-1, i64::MAX))?;
    check_eq!((tx.maxerror, tx.esterror), (0, 16_000_000));
    adjust(ADJ_MAXERROR | ADJ_ESTERROR, |tx| (tx.maxerror, tx.esterror) = (16_000_000, 16_000_000))?;
    let (_, tx) = adjust(ADJ_TIMECONST, |tx| tx.constant = 77)?;
    check_eq!(tx.constant, 10);
    // Without STA_PLL an offset is nothing to steer by.
    let (_, tx) = adjust(ADJ_OFFSET, |tx| tx.offset = 100)?;
    check_eq!(tx.offset, 0);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let read = adjust(0, |_| {}).is_ok();
        let eperm = adjust(ADJ_STATUS, |tx| tx.status = STA_UNSYNC).map(drop) == Err(Errno(EPERM));
        i32::from(!read) | i32::from(!eperm) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Timezone {
    minuteswest: i32,
    dsttime: i32,
}

fn timezone() -> crate::sys::Result<Timezone> {
    let mut zone = Timezone::default();
    sys!(SYS_gettimeofday, 0, addr_mut(&mut zone))?;
    Ok(zone)
}

fn settimeofday_sets() -> Outcome {
    let (real, mono) = (now(CLOCK_REALTIME)?, now(CLOCK_MONOTONIC)?);
    let ahead = timeval { tv_sec: real / 1_000_000_000 + 1000, tv_usec: 250_000 };
    sys!(SYS_settimeofday, addr(&ahead), 0)?;
    let (moved, later) = (now(CLOCK_REALTIME)?, now(CLOCK_MONOTONIC)?);
    // Back first, whatever comes of the rest.
    let back = (real + later - mono) / 1000;
    sys!(SYS_settimeofday, addr(&timeval { tv_sec: back / 1_000_000, tv_usec: back % 1_000_000 }), 0)?;
    let expected = ahead.tv_sec * 1_000_000_000 + 250_000_000;
    check!((expected..expected + 5_000_000_000).contains(&moved), "{moved} for {expected}");
    // Only the wall clock was moved.
    check!(later - mono < 5_000_000_000, "{}", later - mono);
    let old = timezone()?;
    let zone = Timezone { minuteswest: -120, dsttime: 1 };
    sys!(SYS_settimeofday, 0, addr(&zone))?;
    let seen = timezone()?;
    sys!(SYS_settimeofday, 0, addr(&old))?;
    check_eq!(seen, zone);
    sys!(SYS_settimeofday, 0, 0)?;
    Ok(())
}

fn settimeofday_errors() -> Outcome {
    let sec = now(CLOCK_REALTIME)? / 1_000_000_000;
    for (tv_sec, tv_usec) in [(sec, 1_000_001), (sec, -1), (-1, 0), (i64::MAX, 0)] {
        check_err!(sys!(SYS_settimeofday, addr(&timeval { tv_sec, tv_usec }), 0), EINVAL);
    }
    // Before what the monotonic clock shows there is nothing.
    check_err!(sys!(SYS_settimeofday, addr(&timeval { tv_sec: 0, tv_usec: 0 }), 0), EINVAL);
    for minuteswest in [-15 * 60 - 1, 15 * 60 + 1] {
        check_err!(sys!(SYS_settimeofday, 0, addr(&Timezone { minuteswest, dsttime: 0 })), EINVAL);
    }
    check_err!(sys!(SYS_settimeofday, 8, 0), EFAULT);
    check_err!(sys!(SYS_settimeofday, 0, 8), EFAULT);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let time = timeval { tv_sec: sec, tv_usec: 0 };
        let zone = Timezone::default();
        i32::from(sys!(SYS_settimeofday, addr(&time), 0) != Err(Errno(EPERM)))
            | i32::from(sys!(SYS_settimeofday, 0, addr(&zone)) != Err(Errno(EPERM))) << 1
            | i32::from(sys!(SYS_settimeofday, 0, 0) != Err(Errno(EPERM))) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn adjtime_slews() -> Outcome {
    const ASKS: u32 = 0x2000;
    let slew = |us: i64| adjust(ADJ_OFFSET_SINGLESHOT, |tx| tx.offset = us).map(|(_, tx)| tx.offset);
    let left = || adjust(ADJ_OFFSET_SINGLESHOT | ASKS, |_| {}).map(|(_, tx)| tx.offset);
    slew(0)?;
    check_eq!(left()?, 0);
    // What is asked for is not taken; 500 microseconds are slewed in each second.
    check_eq!(slew(-2_000_000)?, 0);
    sleep_ms(2500);
    let now = left()?;
    check!((-1_999_500..=-1_998_000).contains(&now) && now % 500 == 0, "{now}");
    check_eq!(adjust(ADJ_OFFSET_SINGLESHOT | ASKS, |tx| tx.offset = 77)?.1.offset % 500, 0);
    slew(0)?;
    check_err!(adjust(0x8000, |_| {}), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let asked = left().is_ok();
        i32::from(!asked) | i32::from(slew(0).map(drop) != Err(Errno(EPERM))) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn the_loop_steers() -> Outcome {
    let modes = ADJ_STATUS | ADJ_NANO | ADJ_FREQUENCY | ADJ_TIMECONST;
    adjust(modes, |tx| (tx.status, tx.freq, tx.constant) = (STA_PLL | STA_FREQHOLD, 100 << 16, 2))?;
    let (_, tx) = adjust(ADJ_OFFSET, |tx| tx.offset = 40_000_000)?;
    check_eq!((tx.freq, tx.offset), (100 << 16, 40_000_000));
    sleep_ms(2500);
    let (_, tx) = adjust(0, |_| {})?;
    // A sixteenth of the rest, each second.
    check!((30_000_000..39_000_000).contains(&tx.offset), "{}", tx.offset);
    // More than half a second is cut off, and so is a frequency of more than 500 ppm.
    check_eq!(adjust(ADJ_OFFSET, |tx| tx.offset = 2_000_000_000)?.1.offset, 500_000_000);
    check_eq!(adjust(ADJ_OFFSET, |tx| tx.offset = -2_000_000_000)?.1.offset, -500_000_000);
    check_eq!(adjust(ADJ_FREQUENCY, |tx| tx.freq = i64::MAX / 65_536_000)?.1.freq, 500 << 16);
    check_err!(adjust(ADJ_FREQUENCY, |tx| tx.freq = i64::MIN), EINVAL);
    // Without the hold an offset teaches the frequency; a leap second is announced.
    let (_, tx) = adjust(ADJ_STATUS | ADJ_MAXERROR | ADJ_FREQUENCY, |tx| {
        (tx.status, tx.maxerror) = (STA_PLL | STA_INS, 1000);
    })?;
    check_eq!(tx.freq, 0);
    adjust(ADJ_OFFSET, |tx| tx.offset = 0)?;
    sleep_ms(2100);
    let (state, _) = adjust(0, |_| {})?;
    check_eq!(state, TIME_INS as usize);
    let (_, tx) = adjust(ADJ_OFFSET, |tx| tx.offset = 10_000_000)?;
    check!(tx.freq > 0, "{}", tx.freq);
    adjust(ADJ_STATUS, |tx| tx.status = 0)?;
    adjust(ADJ_OFFSET | ADJ_FREQUENCY | ADJ_STATUS | ADJ_MICRO, |tx| tx.status = STA_PLL)?;
    adjust(ADJ_STATUS, |tx| tx.status = STA_UNSYNC)?;
    Ok(())
}

fn ntp_offset_steps() -> Outcome {
    let (real, mono) = (now(CLOCK_REALTIME)?, now(CLOCK_MONOTONIC)?);
    let step = |sec: i64, part: i64, modes: u32| {
        adjust(ADJ_SETOFFSET | modes, |tx| tx.time = timeval { tv_sec: sec, tv_usec: part })
    };
    step(100, 500_000, 0)?;
    let moved = now(CLOCK_REALTIME)? - real - (now(CLOCK_MONOTONIC)? - mono);
    step(-101, 500_000_000, ADJ_NANO)?;
    let back = now(CLOCK_REALTIME)? - real - (now(CLOCK_MONOTONIC)? - mono);
    check!((moved - 100_500_000_000).abs() < 50_000_000, "{moved}");
    check!(back.abs() < 50_000_000, "{back}");
    for (part, modes) in [(1_000_000, 0), (-1, 0), (1_000_000_000, ADJ_NANO), (-1, ADJ_NANO)] {
        check_err!(step(0, part, modes), EINVAL);
    }
    check_err!(step(-real / 1_000_000_000 - 10, 0, 0), EINVAL);
    adjust(ADJ_MICRO, |_| {})?;
    Ok(())
}

fn clock_adjtime_of_other_clocks() -> Outcome {
    let mut tx: timex = zeroed();
    let state = sys!(SYS_clock_adjtime, CLOCK_REALTIME, addr_mut(&mut tx))?;
    check_eq!((state <= 5, tx.tolerance), (true, 500 << 16));
    for clock in [CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID] {
        check_err!(sys!(SYS_clock_adjtime, clock, addr_mut(&mut tx)), EOPNOTSUPP);
    }
    check_err!(sys!(SYS_clock_adjtime, 999, addr_mut(&mut tx)), EINVAL);
    check_err!(sys!(SYS_clock_adjtime, CLOCK_REALTIME, 8), EFAULT);
    check_err!(sys!(SYS_adjtimex, 8), EFAULT);
    Ok(())
}
