//! `/proc/sys/kernel` and `/proc/sys/fs`: numbers that can be set, and what they do. proc_sys_kernel(5), proc_sys_fs(5).

use crate::prelude::*;
use std::ffi::{CStr, CString};

tests![
    last_pid_can_be_set,
    last_pid_is_the_namespaces,
    realtime_bandwidth,
    realtime_tasks_are_throttled,
    round_robin_slice,
    epoll_watches_are_limited,
    descriptors_are_limited,
    overflow_ids,
    log_limits,
    sysrq_mask,
    sysrq_requests,
    sysrq_file,
];

fn path(file: &str) -> CString {
    CString::new(format!("/proc/sys/{file}")).unwrap_or_default()
}

fn get(file: &str) -> Result<String, Failure> {
    Ok(slurp(&path(file))?.trim().to_string())
}

fn set(file: &str, value: impl std::fmt::Display) -> Result<(), Errno> {
    spew(&path(file), &value.to_string())
}

/// Puts a value back at the end.
struct Kept(&'static str, String);

impl Kept {
    fn new(file: &'static str) -> Result<Self, Failure> {
        Ok(Self(file, get(file)?))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = set(self.0, &self.1);
    }
}

fn last_pid_can_be_set() -> Outcome {
    check_eq!(stat(&path("kernel/ns_last_pid"))?.st_mode & 0o777, 0o666);
    let child = fork(|| 0)?;
    let last: i32 = get("kernel/ns_last_pid")?.parse().unwrap_or(0);
    wait(child)?;
    check!(last >= child, "{last} {child}");
    let _back = Kept::new("kernel/ns_last_pid")?;
    set("kernel/ns_last_pid", 20_000)?;
    let child = fork(|| 0)?;
    wait(child)?;
    check_eq!(child, 20_001);
    check_err!(set("kernel/ns_last_pid", -1), EINVAL);
    check_err!(set("kernel/ns_last_pid", 5_000_000), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(set("kernel/ns_last_pid", 21_000) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn last_pid_is_the_namespaces() -> Outcome {
    let outer = get("kernel/ns_last_pid")?;
    let status = in_child(|| {
        if sys!(SYS_unshare, CLONE_NEWPID).is_err() {
            return 1;
        }
        in_child(|| {
            let first = get("kernel/ns_last_pid").is_ok_and(|last| last == "1");
            let moved = set("kernel/ns_last_pid", 299).is_ok();
            let child = fork(|| 0);
            let found = child == Ok(300);
            let _ = child.and_then(wait);
            i32::from(!first) | i32::from(!moved) << 1 | i32::from(!found) << 2
        })
        .unwrap_or(9)
    })?;
    check_eq!(status, 0);
    check!(get("kernel/ns_last_pid")? != "300" || outer == "300");
    Ok(())
}

fn realtime_bandwidth() -> Outcome {
    let _period = Kept::new("kernel/sched_rt_period_us")?;
    let _runtime = Kept::new("kernel/sched_rt_runtime_us")?;
    check_eq!(get("kernel/sched_rt_period_us")?, "1000000");
    check_eq!(get("kernel/sched_rt_runtime_us")?, "950000");
    // No more than the period, whichever is changed.
    check_err!(set("kernel/sched_rt_runtime_us", 1_000_001), EINVAL);
    check_err!(set("kernel/sched_rt_period_us", 900_000), EINVAL);
    check_err!(set("kernel/sched_rt_period_us", 0), EINVAL);
    check_err!(set("kernel/sched_rt_runtime_us", -2), EINVAL);
    check_eq!(get("kernel/sched_rt_runtime_us")?, "950000");
    set("kernel/sched_rt_runtime_us", 500_000)?;
    set("kernel/sched_rt_period_us", 900_000)?;
    check_eq!(get("kernel/sched_rt_period_us")?, "900000");
    set("kernel/sched_rt_runtime_us", -1)?;
    check_eq!(get("kernel/sched_rt_runtime_us")?, "-1");
    Ok(())
}

/// A real-time task that never sleeps leaves others of its CPU a part of the time.
fn realtime_tasks_are_throttled() -> Outcome {
    let _period = Kept::new("kernel/sched_rt_period_us")?;
    let _runtime = Kept::new("kernel/sched_rt_runtime_us")?;
    set("kernel/sched_rt_runtime_us", 100_000)?;
    let cpu = 1_u64;
    sys!(SYS_sched_setaffinity, 0, 8, addr(&cpu))?;
    let turns = map_shared(4096)?;
    let other = fork(|| {
        loop {
            atomic(turns).fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    })?;
    let seen = || atomic(turns).load(std::sync::atomic::Ordering::Relaxed);
    check!(eventually(|| seen() > 0));
    let runaway = fork(|| {
        let param = 50_i32;
        if sys!(SYS_sched_setscheduler, 0, SCHED_FIFO, addr(&param)).is_err() {
            exit(1);
        }
        // It watches the other one itself: nobody else gets a turn before.
        let start = seen();
        let mut t: timespec = zeroed();
        let _ = sys!(SYS_clock_gettime, CLOCK_MONOTONIC, addr_mut(&mut t));
        let began = t.tv_sec;
        while seen().wrapping_sub(start) < 1000 {
            let _ = sys!(SYS_clock_gettime, CLOCK_MONOTONIC, addr_mut(&mut t));
            if t.tv_sec - began > 20 {
                return 2;
            }
        }
        0
    })?;
    let status = wait_exit(runaway);
    kill(other, SIGKILL)?;
    wait(other)?;
    check_eq!(status?, 0);
    Ok(())
}

fn round_robin_slice() -> Outcome {
    let _back = Kept::new("kernel/sched_rr_timeslice_ms")?;
    check_eq!(get("kernel/sched_rr_timeslice_ms")?, "100");
    let param = 1_i32;
    sys!(SYS_sched_setscheduler, 0, SCHED_RR, addr(&param))?;
    let interval = || -> crate::sys::Result<i64> {
        let mut t: timespec = zeroed();
        sys!(SYS_sched_rr_get_interval, 0, addr_mut(&mut t))?;
        Ok(t.tv_sec * 1000 + t.tv_nsec / 1_000_000)
    };
    check_eq!(interval()?, 100);
    set("kernel/sched_rr_timeslice_ms", 40)?;
    check_eq!((get("kernel/sched_rr_timeslice_ms")?.as_str(), interval()?), ("40", 40));
    set("kernel/sched_rr_timeslice_ms", 0)?;
    check_eq!(interval()?, 100);
    set("kernel/sched_rr_timeslice_ms", -5)?;
    check_eq!(get("kernel/sched_rr_timeslice_ms")?, "100");
    Ok(())
}

fn epoll_watches_are_limited() -> Outcome {
    let file = "fs/epoll/max_user_watches";
    let _back = Kept::new(file)?;
    let default: u64 = get(file)?.parse().unwrap_or(0);
    check!(default > 1000, "{default}");
    set(file, 5)?;
    check_eq!(get(file)?, "5");
    let status = in_child(watch_too_much)?;
    check_eq!(status, 0);
    Ok(())
}

/// With five watches for each user; what went wrong.
fn watch_too_much() -> i32 {
    // A user who has none.
    let _ = sys!(SYS_setresuid, 4321, 4321, 4321);
    let (Ok(first), Ok(second)) = (sys!(SYS_epoll_create1, 0), sys!(SYS_epoll_create1, 0)) else { return 1 };
    let Ok(fds) = (0..8).map(|_| sys!(SYS_eventfd2, 0, 0)).collect::<Result<Vec<_>, _>>() else { return 2 };
    let event = epoll_event { events: EPOLLIN as u32, u64: 0 };
    let add =
        |epoll: usize, n: usize| sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fds[n], addr(&event)).map(drop);
    let full = Err(Errno(ENOSPC));
    if (0..5).any(|n| add(first, n).is_err()) {
        return 3;
    }
    // Not in another epoll of the same user either.
    if add(first, 5) != full || add(second, 6) != full {
        return 4;
    }
    if sys!(SYS_epoll_ctl, first, EPOLL_CTL_DEL, fds[0], 0).is_err() || add(first, 5).is_err() {
        return 5;
    }
    // A file that is closed gives its place back, and so does the epoll itself.
    if close(fds[5] as i32).is_err() || add(first, 6).is_err() || add(first, 7) != full {
        return 6;
    }
    if close(first as i32).is_err() || (0..4).any(|n| !eventually(|| add(second, n + 1).is_ok())) {
        return 7;
    }
    0
}

fn descriptors_are_limited() -> Outcome {
    let _back = Kept::new("fs/nr_open")?;
    check_eq!(get("fs/nr_open")?, "1048576");
    check_err!(set("fs/nr_open", 63), EINVAL);
    check_err!(set("fs/nr_open", 2_147_483_585_u64), EINVAL);
    set("fs/nr_open", 2_147_483_584_u64)?;
    let limit = |n: u64| {
        let limit = rlimit { rlim_cur: n, rlim_max: n };
        sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, addr(&limit), 0).map(drop)
    };
    let file = open(c"/dev/null", O_RDONLY, 0)?;
    let status = in_child(|| {
        // More than the default.
        let more = limit(1_200_000).is_ok() && sys!(SYS_dup3, file, 1_100_000, 0).is_ok();
        i32::from(!more)
    })?;
    check_eq!(status, 0);
    let status = in_child(|| {
        let lower = set("fs/nr_open", 128).is_ok();
        let beyond = limit(129) == Err(Errno(EPERM)) && limit(1_000_000) == Err(Errno(EPERM));
        // The limit of the process is still the old one.
        let refused = sys!(SYS_dup3, file, 128, 0) == Err(Errno(EBADF));
        let last = sys!(SYS_dup3, file, 127, 0).is_ok();
        let full = fcntl(file, F_DUPFD, 128) == Err(Errno(EMFILE));
        let bad = [!lower, !beyond, !refused, !last, !full];
        bad.iter().enumerate().fold(0, |all, (n, bad)| all | i32::from(*bad) << n)
    })?;
    set("fs/nr_open", 1_048_576)?;
    check_eq!(status, 0);
    Ok(())
}

fn overflow_ids() -> Outcome {
    for file in ["kernel/overflowuid", "kernel/overflowgid", "fs/overflowuid", "fs/overflowgid"] {
        let file: &'static str = file;
        let _back = Kept::new(file)?;
        check_eq!((file, get(file)?.as_str()), (file, "65534"));
        check_err!(set(file, 65536), EINVAL);
        check_err!(set(file, -1), EINVAL);
        set(file, 65535)?;
        check_eq!((file, get(file)?.as_str()), (file, "65535"));
    }
    let (_uid, _gid) = (Kept::new("kernel/overflowuid")?, Kept::new("kernel/overflowgid")?);
    set("kernel/overflowuid", 1234)?;
    set("kernel/overflowgid", 4321)?;
    let status = in_child(|| {
        if sys!(SYS_unshare, CLONE_NEWUSER).is_err() {
            return 1;
        }
        let own = sys!(SYS_getuid) == Ok(1234) && sys!(SYS_getgid) == Ok(4321);
        let file = stat(c"/proc/version").is_ok_and(|s| s.st_uid == 1234 && s.st_gid == 4321);
        i32::from(!own) << 1 | i32::from(!file) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn log_limits() -> Outcome {
    for (file, value) in [("kernel/printk_ratelimit", "5"), ("kernel/printk_ratelimit_burst", "10")] {
        let file: &'static str = file;
        let _back = Kept::new(file)?;
        check_eq!((file, get(file)?.as_str()), (file, value));
        set(file, 7)?;
        check_eq!((file, get(file)?.as_str()), (file, "7"));
        check_err!(set(file, "x"), EINVAL);
    }
    Ok(())
}

fn sysrq_mask() -> Outcome {
    let _back = Kept::new("kernel/sysrq")?;
    check_eq!(get("kernel/sysrq")?, "438");
    set("kernel/sysrq", 1)?;
    check_eq!(get("kernel/sysrq")?, "1");
    set("kernel/sysrq", 0)?;
    check_eq!(get("kernel/sysrq")?, "0");
    Ok(())
}

const TRIGGER: &CStr = c"/proc/sysrq-trigger";

/// What the log says from here on.
fn log_of(body: impl FnOnce() -> Outcome) -> Result<String, Failure> {
    let fd = open(c"/dev/kmsg", O_RDONLY | O_NONBLOCK, 0)?;
    sys!(SYS_lseek, fd, 0, SEEK_END)?;
    body()?;
    let mut text = String::new();
    loop {
        let mut buffer = [0_u8; 8192];
        match sys!(SYS_read, fd, addr_mut(&mut buffer), buffer.len()) {
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(Errno(EPIPE)) => {}
            Err(_) => break,
        }
    }
    close(fd)?;
    Ok(text)
}

fn sysrq_requests() -> Outcome {
    // A slow console would take its time.
    let console = slurp(c"/proc/sys/kernel/printk")?;
    spew(c"/proc/sys/kernel/printk", "1")?;
    let said = log_of(|| Ok(spew(TRIGGER, "h")?))?;
    check!(said.contains("sysrq: HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e)"), "{said}");
    check!(said.contains("kill-all-tasks(i)") && said.contains("sync(s)"), "{said}");
    // Something unknown is asked for help as well; only the first letter counts.
    let said = log_of(|| Ok(spew(TRIGGER, "#b\n")?))?;
    check!(said.contains("sysrq: HELP"), "{said}");
    let said = log_of(|| Ok(spew(TRIGGER, "m")?))?;
    check!(said.contains("sysrq: Show Memory") && said.contains("Mem-Info:"), "{said}");
    let said = log_of(|| Ok(spew(TRIGGER, "w")?))?;
    check!(said.contains("sysrq: Show Blocked State"), "{said}");
    let said = log_of(|| {
        spew(TRIGGER, "s")?;
        sleep_ms(200);
        Ok(())
    })?;
    check!(said.contains("sysrq: Emergency Sync"), "{said}");
    let said = log_of(|| Ok(spew(TRIGGER, "t")?))?;
    check!(said.contains("sysrq: Show State"), "{said}");
    check!(said.contains(";task:kthreadd") && said.contains("pid:2 "), "{said}");
    let said = log_of(|| Ok(spew(TRIGGER, "4")?))?;
    check!(said.contains("sysrq: Changing Loglevel") && said.contains("Loglevel set to 4"), "{said}");
    check_eq!(slurp(c"/proc/sys/kernel/printk")?.split('\t').next(), Some("4"));
    spew(c"/proc/sys/kernel/printk", &console)?;
    Ok(())
}

fn sysrq_file() -> Outcome {
    check_eq!(stat(TRIGGER)?.st_mode, S_IFREG | 0o200);
    check_err!(read_vec(open(TRIGGER, O_RDONLY, 0)?, 1), EIO);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(open(TRIGGER, O_WRONLY, 0) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}
