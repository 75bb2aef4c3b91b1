//! Time namespaces: time_namespaces(7).

use crate::prelude::*;

tests![
    offsets_are_zero_at_first,
    children_see_the_offsets,
    offsets_only_before_the_first_process,
    offsets_that_are_not,
    offsets_need_cap_sys_time,
    exec_enters,
    threads_stay,
    setns_enters,
    setns_of_threads,
    absolute_times_are_the_namespaces,
    the_vdso_follows,
    proc_shows_the_namespaces_time,
    a_copy_keeps_the_offsets,
    the_page_can_move,
];

const FILE: &std::ffi::CStr = c"/proc/self/timens_offsets";
const DAY: i64 = 86400;
const SECOND: i64 = 1_000_000_000;

fn by_call(clock: i32) -> crate::sys::Result<i64> {
    let mut t: timespec = zeroed();
    sys!(SYS_clock_gettime, clock, addr_mut(&mut t))?;
    Ok(t.tv_sec * SECOND + t.tv_nsec)
}

/// Through the C library, and so the vDSO.
fn by_vdso(clock: i32) -> crate::sys::Result<i64> {
    let mut t: timespec = zeroed();
    c!(clock_gettime(clock, &raw mut t))?;
    Ok(t.tv_sec * SECOND + t.tv_nsec)
}

fn unshare_with(offsets: &str) -> Outcome {
    sys!(SYS_unshare, CLONE_NEWTIME)?;
    spew(FILE, offsets)?;
    Ok(())
}

fn offsets_are_zero_at_first() -> Outcome {
    check_eq!(slurp(FILE)?, "monotonic           0         0\nboottime            0         0\n");
    // The first namespace has processes.
    check_err!(spew(FILE, "monotonic 1 0"), EACCES);
    check_err!(stat(c"/proc/thread-self/timens_offsets"), ENOENT);
    check_eq!(stat(FILE)?.st_mode, S_IFREG | 0o644);
    Ok(())
}

fn children_see_the_offsets() -> Outcome {
    checked_child(|| {
        let before = (by_call(CLOCK_MONOTONIC)?, by_call(CLOCK_BOOTTIME)?);
        unshare_with("monotonic 86400 5\nboottime 172800 0\n")?;
        check_eq!(slurp(FILE)?, "monotonic       86400         5\nboottime       172800         0\n");
        // Not this process itself.
        check!(by_call(CLOCK_MONOTONIC)? < before.0 + 1000 * SECOND);
        let real = by_call(CLOCK_REALTIME)?;
        checked_child(|| {
            let clocks = [CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE];
            for (clock, base, days) in
                clocks.map(|clock| (clock, before.0, 1)).into_iter().chain([(CLOCK_BOOTTIME, before.1, 2)])
            {
                let ahead = by_call(clock)? - base;
                // The coarse clock may be late.
                let range = days * DAY * SECOND - SECOND..(days * DAY + 1000) * SECOND;
                check!(range.contains(&ahead), "clock {clock}: {ahead}");
            }
            check!((by_call(CLOCK_REALTIME)? - real) < 1000 * SECOND);
            Ok(())
        })
    })
}

fn offsets_only_before_the_first_process() -> Outcome {
    checked_child(|| {
        unshare_with("monotonic 10 0")?;
        // As often as one likes, one or the other.
        spew(FILE, "boottime 20 1\n")?;
        spew(FILE, "1 -0 3\n7 21 0\n")?;
        check_eq!(slurp(FILE)?, "monotonic           0         3\nboottime           21         0\n");
        checked_child(|| Ok(()))?;
        check_err!(spew(FILE, "monotonic 11 0"), EACCES);
        Ok(())
    })
}

fn offsets_that_are_not() -> Outcome {
    checked_child(|| {
        sys!(SYS_unshare, CLONE_NEWTIME)?;
        for bad in [
            "monotonic",
            "monotonic 1",
            "monotonic 1 1000000000",
            "realtime 1 0",
            "0 1 0",
            "monotonic x 0",
            "monotonic 1 0\n\nboottime 1 0\n",
        ] {
            check!(spew(FILE, bad) == Err(Errno(EINVAL)), "{bad}");
        }
        let seconds = by_call(CLOCK_BOOTTIME)? / SECOND;
        let most = i64::MAX / SECOND / 2;
        for far in [
            format!("boottime {} 0", -seconds - 1000),
            format!("monotonic {} 0", most + 1000),
            format!("monotonic {} 0", i64::MAX),
            format!("monotonic {} 0", i64::MIN),
        ] {
            check!(spew(FILE, &far) == Err(Errno(ERANGE)), "{far}");
        }
        // All or none.
        check_err!(spew(FILE, &format!("monotonic 5 0\nboottime {} 0\n", i64::MAX)), ERANGE);
        check_eq!(slurp(FILE)?, "monotonic           0         0\nboottime            0         0\n");
        spew(FILE, &format!("monotonic {} 0", most - seconds - 1000))?;
        Ok(())
    })
}

fn offsets_need_cap_sys_time() -> Outcome {
    checked_child(|| {
        sys!(SYS_unshare, CLONE_NEWTIME)?;
        // The rights of who opened it.
        let file = open(FILE, O_RDWR, 0)?;
        sys!(SYS_setresgid, 1000, 1000, 1000)?;
        sys!(SYS_setresuid, 1000, 1000, 1000)?;
        check!(write(file, b"monotonic 3 0").is_ok());
        sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)?;
        check_err!(spew(FILE, "monotonic 4 0"), EPERM);
        // Its owner's namespace is what counts.
        sys!(SYS_unshare, CLONE_NEWUSER)?;
        check_err!(spew(FILE, "monotonic 4 0"), EPERM);
        sys!(SYS_unshare, CLONE_NEWTIME)?;
        spew(FILE, "monotonic 5 0")?;
        Ok(())
    })
}

fn exec_enters() -> Outcome {
    let ends = pipe(0)?;
    checked_child(|| {
        unshare_with("boottime 864000 0\n")?;
        sys!(SYS_dup3, ends[1], 1, 0)?;
        let path = c"/proc/self/exe";
        let argv = [c"guest-tests".as_ptr(), c"helper:boottime".as_ptr(), std::ptr::null()];
        sys!(SYS_execve, path.as_ptr(), addr(&argv), 0)?;
        Ok(())
    })?;
    close(ends[1])?;
    let text = String::from_utf8(read_all(ends[0])?).unwrap_or_default();
    let seconds: Vec<i64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
    check_eq!(seconds.len(), 3);
    check!(seconds.iter().all(|seconds| (864_000..870_000).contains(seconds)), "{text}");
    Ok(())
}

fn threads_stay() -> Outcome {
    checked_child(|| {
        unshare_with("boottime 864000 0\n")?;
        // A thread is where its process is.
        let seen = std::thread::spawn(|| by_call(CLOCK_BOOTTIME)).join();
        let seen = seen.map_err(|_| Failure::new("thread"))??;
        check!(seen < 864_000 * SECOND);
        Ok(())
    })
}

fn setns_enters() -> Outcome {
    checked_child(|| {
        let old = open(c"/proc/self/ns/time", O_RDONLY, 0)?;
        unshare_with("monotonic 864000 0\n")?;
        let new = open(c"/proc/self/ns/time_for_children", O_RDONLY, 0)?;
        let first = by_vdso(CLOCK_MONOTONIC)?;
        check!(first < 864_000 * SECOND);
        sys!(SYS_setns, new, CLONE_NEWTIME)?;
        check!(by_vdso(CLOCK_MONOTONIC)? >= 864_000 * SECOND);
        check!(by_call(CLOCK_MONOTONIC)? >= 864_000 * SECOND);
        check_err!(spew(FILE, "monotonic 1 0"), EACCES);
        sys!(SYS_setns, old, 0)?;
        check!(by_vdso(CLOCK_MONOTONIC)? < 864_000 * SECOND);
        check!(by_call(CLOCK_MONOTONIC)? < 864_000 * SECOND);
        for _ in 0..50 {
            sys!(SYS_setns, new, 0)?;
            check!(by_vdso(CLOCK_MONOTONIC)? >= 864_000 * SECOND);
            sys!(SYS_setns, old, 0)?;
            check!(by_vdso(CLOCK_MONOTONIC)? < 864_000 * SECOND);
        }
        Ok(())
    })
}

fn setns_of_threads() -> Outcome {
    checked_child(|| {
        let old = open(c"/proc/self/ns/time", O_RDONLY, 0)?;
        let ends = pipe(0)?;
        let waiter = std::thread::spawn(move || read_vec(ends[0], 1));
        check_err!(sys!(SYS_setns, old, 0), EUSERS);
        close(ends[1])?;
        let _ = waiter.join();
        Ok(())
    })
}

fn absolute_times_are_the_namespaces() -> Outcome {
    checked_child(|| {
        unshare_with("monotonic 864000 0\nboottime 1728000 0\n")?;
        checked_child(|| {
            for (clock, offset) in [(CLOCK_MONOTONIC, 864_000), (CLOCK_BOOTTIME, 1_728_000)] {
                let start = by_call(clock)?;
                let at = start + 50_000_000;
                let until = timespec { tv_sec: at / SECOND, tv_nsec: at % SECOND };
                sys!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, addr(&until), 0)?;
                let took = by_call(clock)? - start;
                check!((50_000_000..20 * SECOND).contains(&took), "clock {clock}: {took}");
                // What was before the namespace began is over.
                let past = timespec { tv_sec: offset - 500_000, tv_nsec: 0 };
                sys!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, addr(&past), 0)?;

                let fd = sys!(SYS_timerfd_create, clock, 0)? as i32;
                let start = by_call(clock)?;
                let at = start + 50_000_000;
                let mut spec: itimerspec = zeroed();
                spec.it_value = timespec { tv_sec: at / SECOND, tv_nsec: at % SECOND };
                sys!(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, addr(&spec), 0)?;
                let mut left: itimerspec = zeroed();
                sys!(SYS_timerfd_gettime, fd, addr_mut(&mut left))?;
                check!(left.it_value.tv_sec == 0, "clock {clock}: {} s", left.it_value.tv_sec);
                check_eq!(read_vec(fd, 8)?, 1_u64.to_ne_bytes());
                check!(by_call(clock)? - start >= 50_000_000);

                let mut event: sigevent = zeroed();
                event.sigev_notify = SIGEV_NONE;
                let mut id = 0_i32;
                sys!(SYS_timer_create, clock, addr_mut(&mut event), addr_mut(&mut id))?;
                let at = by_call(clock)? / SECOND + 1000;
                spec.it_value = timespec { tv_sec: at, tv_nsec: 0 };
                sys!(SYS_timer_settime, id, TIMER_ABSTIME, addr(&spec), 0)?;
                sys!(SYS_timer_gettime, id, addr_mut(&mut left))?;
                check!(
                    (900..=1000).contains(&left.it_value.tv_sec),
                    "clock {clock}: {} s",
                    left.it_value.tv_sec
                );
            }
            // A futex waits on the monotonic clock.
            let word = 0_u32;
            let at = by_call(CLOCK_MONOTONIC)? + 50_000_000;
            let until = timespec { tv_sec: at / SECOND, tv_nsec: at % SECOND };
            let op = FUTEX_WAIT_BITSET;
            check_err!(sys!(SYS_futex, addr(&word), op, 0, addr(&until), 0, u32::MAX), ETIMEDOUT);
            check!(by_call(CLOCK_MONOTONIC)? >= at);
            Ok(())
        })
    })
}

fn the_vdso_follows() -> Outcome {
    checked_child(|| {
        unshare_with("monotonic 864000 999999999\nboottime 1728000 0\n")?;
        checked_child(|| {
            for clock in [CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_MONOTONIC_RAW] {
                let mut last = by_call(clock)?;
                for n in 0..500 {
                    let fast = by_vdso(clock)?;
                    check!(fast >= last, "clock {clock}, round {n}: {fast} after {last}");
                    last = by_call(clock)?;
                    check!(last >= fast, "clock {clock}, round {n}: {last} after {fast}");
                }
            }
            for clock in [CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE] {
                let (one, two, three) = (by_call(clock)?, by_vdso(clock)?, by_call(clock)?);
                check!(one <= two && two <= three, "clock {clock}: {one} {two} {three}");
            }
            let mut wall: timeval = zeroed();
            c!(gettimeofday(&raw mut wall, std::ptr::null_mut()))?;
            check!((wall.tv_sec - by_call(CLOCK_REALTIME)? / SECOND).abs() < 100);
            let mut res: timespec = zeroed();
            c!(clock_getres(CLOCK_MONOTONIC_COARSE, &raw mut res))?;
            check_eq!((res.tv_sec, res.tv_nsec), (0, 4_000_000));
            // And in a child of the child.
            checked_child(|| {
                check!(by_vdso(CLOCK_BOOTTIME)? >= 1_728_000 * SECOND);
                Ok(())
            })
        })
    })
}

/// Start time in ticks.
fn started(pid: i32) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn proc_shows_the_namespaces_time() -> Outcome {
    checked_child(|| {
        let outside = started(getpid()).ok_or(Failure::new("stat"))?;
        let btime = |text: String| -> i64 {
            let line = text.lines().find_map(|line| line.strip_prefix("btime ").map(str::to_string));
            line.and_then(|line| line.parse().ok()).unwrap_or(0)
        };
        let boot = btime(slurp(c"/proc/stat")?);
        let parent = getpid();
        unshare_with("boottime 864000 0\n")?;
        checked_child(|| {
            let mut info: sysinfo = zeroed();
            sys!(SYS_sysinfo, addr_mut(&mut info))?;
            check!((864_000..870_000).contains(&info.uptime), "{}", info.uptime);
            let uptime = slurp(c"/proc/uptime")?;
            let seconds = uptime.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            check!((864_000..870_000).contains(&seconds), "{uptime}");
            check_eq!(started(parent), Some(outside + 86_400_000));
            let moved = boot - btime(slurp(c"/proc/stat")?);
            check!((864_000 - 2..=864_000 + 2).contains(&moved), "{moved}");
            Ok(())
        })
    })
}

fn a_copy_keeps_the_offsets() -> Outcome {
    checked_child(|| {
        unshare_with("monotonic 100 0\n")?;
        checked_child(|| {
            sys!(SYS_unshare, CLONE_NEWTIME)?;
            check_eq!(slurp(FILE)?, "monotonic         100         0\nboottime            0         0\n");
            spew(FILE, "monotonic 864000 0")?;
            checked_child(|| {
                check!(by_vdso(CLOCK_MONOTONIC)? >= 864_000 * SECOND);
                Ok(())
            })
        })
    })
}

/// A process may move the vDSO and its data elsewhere.
fn the_page_can_move() -> Outcome {
    checked_child(|| {
        let old = open(c"/proc/self/ns/time", O_RDONLY, 0)?;
        unshare_with("monotonic 864000 0\n")?;
        let new = open(c"/proc/self/ns/time_for_children", O_RDONLY, 0)?;
        let maps = slurp(c"/proc/self/maps")?;
        let area = |name: &str| -> Option<(usize, usize)> {
            let line = maps.lines().find(|line| line.ends_with(name))?;
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
        };
        let (Some(data), Some(code)) = (area("[vvar]"), area("[vdso]")) else {
            return Err(Failure::new("no vDSO"));
        };
        let len = code.1 - data.0;
        let target = map_anon(len)?;
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        let data_len = data.1 - data.0;
        // Entered once more while they are where nobody calls them.
        by_vdso(CLOCK_MONOTONIC)?;
        sys!(SYS_mremap, data.0, data_len, data_len, flags, target)?;
        sys!(SYS_setns, new, 0)?;
        sys!(SYS_mremap, target, data_len, data_len, flags, data.0)?;
        check!(by_vdso(CLOCK_MONOTONIC)? >= 864_000 * SECOND);
        sys!(SYS_setns, old, 0)?;
        check!(by_vdso(CLOCK_MONOTONIC)? < 864_000 * SECOND);
        Ok(())
    })
}
