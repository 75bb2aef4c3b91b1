//! What processes have used: getrusage(2), times(2), wait4(2), proc_pid_io(5).

use crate::prelude::*;

tests![
    io_counts_calls_and_bytes,
    io_of_threads_adds_up,
    io_of_children_is_added,
    io_is_for_tracers_only,
    times_never_go_back,
    times_of_children_never_go_back,
    all_calls_tell_the_same,
    thread_usage_is_its_own,
    faults_and_switches,
];

/// `rchar`, `wchar`, `syscr`, `syscw`, `read_bytes`, `write_bytes`, `cancelled_write_bytes`.
fn io(path: &str) -> Result<Vec<u64>, Failure> {
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    let text = std::fs::read_to_string(path)?;
    let values: Vec<u64> = text
        .lines()
        .zip(names)
        .filter_map(|(line, name)| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
        .collect();
    check_eq!(values.len(), names.len());
    check_eq!(text.lines().count(), names.len());
    Ok(values)
}

const ZERO: &std::ffi::CStr = c"/dev/zero";
const NULL: &std::ffi::CStr = c"/dev/null";

fn io_counts_calls_and_bytes() -> Outcome {
    let (zero, null) = (open(ZERO, O_RDONLY, 0)?, open(NULL, O_WRONLY, 0)?);
    let file = create(c"f", &[7; 1000])?;
    let before = io("/proc/self/io")?;
    let again = io("/proc/self/io")?;
    // What reading the file itself costs: the first reading is in the second.
    let (cost, calls) = (again[0] - before[0], again[2] - before[2]);
    check!(cost >= 80 && calls >= 1);
    let mut buffer = [0_u8; 5000];
    sys!(SYS_read, zero, addr_mut(&mut buffer), 5000)?;
    sys!(SYS_pread64, file, addr_mut(&mut buffer), 300, 800)?;
    let parts = [
        iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 10 },
        iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 20 },
    ];
    sys!(SYS_readv, zero, addr(&parts), 2)?;
    sys!(SYS_write, null, addr(&buffer), 4000)?;
    sys!(SYS_pwrite64, file, addr(&buffer), 6, 0)?;
    sys!(SYS_writev, null, addr(&parts), 2)?;
    let mut offset = 0_i64;
    let mut to = [0; 2];
    sys!(SYS_pipe2, addr_mut(&mut to), 0)?;
    sys!(SYS_sendfile, to[1], file, addr_mut(&mut offset), 100)?;
    // A call that fails is a call.
    check_err!(sys!(SYS_read, zero, 8, 8), EFAULT);
    let after = io("/proc/self/io")?;
    let (read, written) = (5000 + 200 + 30 + 100, 4000 + 6 + 30 + 100);
    let rchar = after[0] - again[0] - cost;
    // The numbers that are shown may have become longer.
    check!((read..read + 20).contains(&rchar), "{rchar}");
    check_eq!(after[1] - again[1], written);
    check_eq!(after[2] - again[2] - calls, 5);
    check_eq!(after[3] - again[3], 4);
    Ok(())
}

fn io_of_threads_adds_up() -> Outcome {
    let null = open(NULL, O_WRONLY, 0)?;
    let before = io("/proc/self/io")?;
    let (tid, end) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let thread = std::thread::spawn(move || {
        let _ = sys!(SYS_write, null, addr(&[0_u8; 700]), 700);
        let _ = tid.0.send(sys!(SYS_gettid).unwrap_or(0));
        let _ = end.1.recv();
    });
    let other = tid.1.recv().map_err(|error| Failure::new(error))?;
    let of = io(&format!("/proc/self/task/{other}/io"))?;
    check_eq!(of[1], 700);
    check!(of[3] == 1, "{}", of[3]);
    check_eq!(io("/proc/self/io")?[1] - before[1], 700);
    check!(io("/proc/thread-self/io")?[1] < io("/proc/self/io")?[1]);
    let _ = end.0.send(());
    thread.join().map_err(|_| Failure::new("thread"))?;
    // It is gone, what it wrote is not.
    check_eq!(io("/proc/self/io")?[1] - before[1], 700);
    Ok(())
}

fn io_of_children_is_added() -> Outcome {
    let null = open(NULL, O_WRONLY, 0)?;
    let before = io("/proc/self/io")?;
    let child = fork(|| {
        let _ = sys!(SYS_write, null, addr(&[0_u8; 900]), 900);
        0
    })?;
    check!(eventually(|| state(child) == Some('Z')));
    check_eq!(io("/proc/self/io")?[1], before[1]);
    wait(child)?;
    check_eq!(io("/proc/self/io")?[1] - before[1], 900);
    Ok(())
}

fn io_is_for_tracers_only() -> Outcome {
    check_eq!(stat(c"/proc/self/io")?.st_mode & 0o777, 0o400);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(open(c"/proc/1/io", O_RDONLY, 0) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn usage(who: i32) -> crate::sys::Result<rusage> {
    let mut usage: rusage = zeroed();
    sys!(SYS_getrusage, who, addr_mut(&mut usage))?;
    Ok(usage)
}

fn us(time: timeval) -> i64 {
    time.tv_sec * 1_000_000 + time.tv_usec as i64
}

/// Uses CPU time in both modes.
fn work(rounds: u32) {
    let mut value = 1_u64;
    for round in 0..rounds {
        for _ in 0..2000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        if round % 3 == 0 {
            let _ = std::fs::read_to_string("/proc/self/stat");
        }
    }
}

fn times_never_go_back() -> Outcome {
    for who in [RUSAGE_SELF, RUSAGE_THREAD] {
        let mut last = usage(who)?;
        for round in 0..400 {
            work(if round % 40 < 20 { 1 } else { 4 });
            let now = usage(who)?;
            check!(us(now.ru_utime) >= us(last.ru_utime), "{who} user, round {round}");
            check!(us(now.ru_stime) >= us(last.ru_stime), "{who} system, round {round}");
            last = now;
        }
        check!(us(last.ru_utime) + us(last.ru_stime) > 0);
    }
    Ok(())
}

fn times_of_children_never_go_back() -> Outcome {
    let mut last = usage(RUSAGE_CHILDREN)?;
    check_eq!(us(last.ru_utime) + us(last.ru_stime), 0);
    for round in 0..30 {
        in_child(|| {
            work(10 + round);
            0
        })?;
        let now = usage(RUSAGE_CHILDREN)?;
        check!(us(now.ru_utime) >= us(last.ru_utime) && us(now.ru_stime) >= us(last.ru_stime));
        check!(us(now.ru_utime) + us(now.ru_stime) > us(last.ru_utime) + us(last.ru_stime));
        last = now;
    }
    Ok(())
}

fn all_calls_tell_the_same() -> Outcome {
    let child = fork(|| {
        work(300);
        0
    })?;
    let mut told: rusage = zeroed();
    sys!(SYS_wait4, child, 0, 0, addr_mut(&mut told))?;
    let children = usage(RUSAGE_CHILDREN)?;
    check_eq!(us(told.ru_utime), us(children.ru_utime));
    check_eq!(us(told.ru_stime), us(children.ru_stime));
    check_eq!(told.ru_maxrss, children.ru_maxrss);
    check_eq!((told.ru_minflt, told.ru_majflt), (children.ru_minflt, children.ru_majflt));
    check_eq!((told.ru_nvcsw, told.ru_nivcsw), (children.ru_nvcsw, children.ru_nivcsw));
    check!(told.ru_maxrss > 0);
    let mut ticks: tms = zeroed();
    work(50);
    let before = usage(RUSAGE_SELF)?;
    sys!(SYS_times, addr_mut(&mut ticks))?;
    let after = usage(RUSAGE_SELF)?;
    let within =
        |ticks: i64, low: timeval, high: timeval| (us(low) / 10_000..=us(high) / 10_000).contains(&ticks);
    check!(within(ticks.tms_utime, before.ru_utime, after.ru_utime), "{}", ticks.tms_utime);
    check!(within(ticks.tms_stime, before.ru_stime, after.ru_stime), "{}", ticks.tms_stime);
    check_eq!(ticks.tms_cutime, us(children.ru_utime) / 10_000);
    check_eq!(ticks.tms_cstime, us(children.ru_stime) / 10_000);
    Ok(())
}

fn thread_usage_is_its_own() -> Outcome {
    let mine = usage(RUSAGE_THREAD)?;
    let theirs = std::thread::spawn(|| {
        work(300);
        usage(RUSAGE_THREAD)
    });
    let theirs = theirs.join().map_err(|_| Failure::new("thread"))??;
    let total = |usage: &rusage| us(usage.ru_utime) + us(usage.ru_stime);
    check!(total(&theirs) > 0);
    let process = usage(RUSAGE_SELF)?;
    // The thread is gone, its time is not.
    check!(total(&process) >= total(&theirs) + total(&mine), "{} {}", total(&process), total(&theirs));
    Ok(())
}

fn faults_and_switches() -> Outcome {
    let before = usage(RUSAGE_THREAD)?;
    let pages = 50;
    let at = map_anon(pages * 4096)?;
    for page in 0..pages {
        poke(at + page * 4096, 1);
    }
    for _ in 0..10 {
        sleep_ms(5);
    }
    let after = usage(RUSAGE_THREAD)?;
    // Huge pages may take several at once.
    check!(after.ru_minflt > before.ru_minflt);
    check_eq!(after.ru_majflt, before.ru_majflt);
    check!(after.ru_nvcsw - before.ru_nvcsw >= 5, "{}", after.ru_nvcsw - before.ru_nvcsw);
    check!(after.ru_nivcsw >= before.ru_nivcsw);
    check!(usage(RUSAGE_SELF)?.ru_maxrss * 1024 >= (pages * 4096) as i64);
    Ok(())
}
