//! Scheduling: affinity, policies, priorities (sched(7), sched_setaffinity(2), nice(2), …).

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

tests![
    affinity_moves,
    affinity_errors,
    getcpu_agrees,
    policies,
    policy_errors,
    attributes,
    nice_values,
    nice_shares,
    fifo_preempts,
    round_robin_shares,
    yield_lets_others_run,
    idle_policy,
    reset_on_fork,
    all_cpus_work,
    deadline_admission,
    wake_up_from_many,
    context_switches_counted,
    priorities_of_groups,
    io_priorities,
    io_priority_errors,
];

fn cpus() -> crate::sys::Result<usize> {
    let mut mask = [0_u64; 16];
    sys!(SYS_sched_getaffinity, 0, 128, mask.as_mut_ptr())?;
    Ok(mask.iter().map(|m| m.count_ones() as usize).sum())
}

fn pin(pid: i32, mask: u64) -> crate::sys::Result<usize> {
    sys!(SYS_sched_setaffinity, pid, 8, addr(&mask))
}

fn cpu() -> crate::sys::Result<u32> {
    let (mut cpu, mut node) = (0_u32, 0_u32);
    sys!(SYS_getcpu, addr_mut(&mut cpu), addr_mut(&mut node), 0)?;
    Ok(cpu)
}

fn set_policy(pid: i32, policy: i32, priority: i32) -> crate::sys::Result<usize> {
    sys!(SYS_sched_setscheduler, pid, policy, addr(&priority))
}

fn affinity_moves() -> Outcome {
    for n in 0..cpus()?.min(8) as u32 {
        pin(0, 1 << n)?;
        check_eq!(cpu()?, n);
        let mut mask = 0_u64;
        check_eq!(sys!(SYS_sched_getaffinity, 0, 8, addr_mut(&mut mask))?, 8);
        check_eq!(mask, 1 << n);
        // Children inherit it.
        check_eq!(in_child(|| i32::from(cpu() != Ok(n)))?, 0);
    }
    // A running process is moved at once.
    let child = fork(|| {
        loop {
            std::hint::spin_loop();
        }
    })?;
    let last = cpus()?;
    check_eq!(last, 1);
    pin(0, u64::MAX)?;
    let last = cpus()? as u32 - 1;
    pin(child, 1 << last)?;
    let place = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(36)?.parse().ok()
    };
    check!(eventually(|| place() == Some(last)));
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn affinity_errors() -> Outcome {
    check_err!(pin(0, 0), EINVAL);
    check_err!(pin(0, 1 << 63), EINVAL);
    check_err!(pin(4_000_000, 1), ESRCH);
    check_err!(sys!(SYS_sched_setaffinity, 0, 8, 1), EFAULT);
    let mut mask = 0_u64;
    check_err!(sys!(SYS_sched_getaffinity, 0, 3, addr_mut(&mut mask)), EINVAL);
    check_err!(sys!(SYS_sched_getaffinity, 0, 0, addr_mut(&mut mask)), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(pin(1, 1) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn getcpu_agrees() -> Outcome {
    pin(0, 1)?;
    check_eq!(cpu()?, 0);
    check_eq!(c!(sched_getcpu())?, 0);
    sys!(SYS_getcpu, 0, 0, 0)?;
    check_err!(sys!(SYS_getcpu, 1, 0, 0), EFAULT);
    Ok(())
}

fn policies() -> Outcome {
    check_eq!(sys!(SYS_sched_getscheduler, 0)?, SCHED_OTHER as usize);
    check_eq!(sys!(SYS_sched_get_priority_max, SCHED_FIFO)?, 99);
    check_eq!(sys!(SYS_sched_get_priority_min, SCHED_RR)?, 1);
    check_eq!(sys!(SYS_sched_get_priority_max, SCHED_OTHER)?, 0);
    for (policy, priority) in
        [(SCHED_FIFO, 10), (SCHED_RR, 99), (SCHED_BATCH, 0), (SCHED_IDLE, 0), (SCHED_OTHER, 0)]
    {
        set_policy(0, policy, priority)?;
        check_eq!(sys!(SYS_sched_getscheduler, 0)?, policy as usize);
        let mut got = -1;
        sys!(SYS_sched_getparam, 0, addr_mut(&mut got))?;
        check_eq!(got, priority);
    }
    let mut slice: timespec = zeroed();
    set_policy(0, SCHED_RR, 1)?;
    sys!(SYS_sched_rr_get_interval, 0, addr_mut(&mut slice))?;
    check_eq!((slice.tv_sec, slice.tv_nsec), (0, 100_000_000));
    set_policy(0, SCHED_FIFO, 1)?;
    sys!(SYS_sched_rr_get_interval, 0, addr_mut(&mut slice))?;
    check_eq!((slice.tv_sec, slice.tv_nsec), (0, 0));
    sys!(SYS_sched_setparam, 0, addr(&50_i32))?;
    Ok(())
}

fn policy_errors() -> Outcome {
    check_err!(set_policy(0, SCHED_FIFO, 0), EINVAL);
    check_err!(set_policy(0, SCHED_FIFO, 100), EINVAL);
    check_err!(set_policy(0, SCHED_OTHER, 1), EINVAL);
    check_err!(set_policy(0, 42, 0), EINVAL);
    check_err!(set_policy(-1, SCHED_OTHER, 0), EINVAL);
    check_err!(set_policy(4_000_000, SCHED_OTHER, 0), ESRCH);
    check_err!(sys!(SYS_sched_get_priority_max, 42), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let denied = set_policy(0, SCHED_FIFO, 1) == Err(Errno(EPERM));
        let fine = set_policy(0, SCHED_BATCH, 0).is_ok();
        i32::from(!denied) | i32::from(!fine) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// `struct sched_attr`, first version.
#[repr(C)]
#[derive(Debug, Default, Eq, PartialEq)]
struct Attr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn set_attr(attr: &Attr) -> crate::sys::Result<usize> {
    sys!(SYS_sched_setattr, 0, addr(attr), 0)
}

fn attributes() -> Outcome {
    let mut attr = Attr { size: 48, nice: 5, ..Attr::default() };
    set_attr(&attr)?;
    attr = Attr::default();
    sys!(SYS_sched_getattr, 0, addr_mut(&mut attr), 48, 0)?;
    check_eq!((attr.size, attr.policy, attr.nice), (48, 0, 5));
    set_attr(&Attr { size: 48, policy: SCHED_RR as u32, priority: 7, ..Attr::default() })?;
    sys!(SYS_sched_getattr, 0, addr_mut(&mut attr), 48, 0)?;
    check_eq!((attr.policy, attr.priority), (SCHED_RR as u32, 7));
    check_err!(set_attr(&Attr { size: 40, ..Attr::default() }), E2BIG);
    check_err!(set_attr(&Attr { size: 48, flags: 1 << 40, ..Attr::default() }), EINVAL);
    check_err!(sys!(SYS_sched_getattr, 0, addr_mut(&mut attr), 8, 0), EINVAL);
    check_err!(sys!(SYS_sched_setattr, 0, addr(&attr), 1), EINVAL);
    Ok(())
}

fn nice_values() -> Outcome {
    let get = || sys!(SYS_getpriority, PRIO_PROCESS, 0);
    // The system call returns 20 minus the value.
    check_eq!(get()?, 20);
    sys!(SYS_setpriority, PRIO_PROCESS, 0, 7)?;
    check_eq!(get()?, 13);
    sys!(SYS_setpriority, PRIO_PROCESS, 0, -100_i64)?;
    check_eq!(get()?, 40);
    sys!(SYS_setpriority, PRIO_PROCESS, 0, 100)?;
    check_eq!(get()?, 1);
    check_eq!(in_child(|| i32::from(get() != Ok(1)))?, 0);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let lower = sys!(SYS_setpriority, PRIO_PROCESS, 0, 5) == Err(Errno(EACCES));
        let other = sys!(SYS_setpriority, PRIO_PROCESS, 1, 5) == Err(Errno(EPERM));
        i32::from(!lower) | i32::from(!other) << 1
    })?;
    check_eq!(status, 0);
    check_err!(sys!(SYS_setpriority, 9, 0, 0), EINVAL);
    check_err!(sys!(SYS_getpriority, PRIO_PROCESS, 4_000_000), ESRCH);
    Ok(())
}

/// Two children on one CPU count for `ms` milliseconds; what each has counted.
fn race(ms: u64, one: impl Fn(), two: impl Fn()) -> crate::sys::Result<(u32, u32)> {
    let at = map_shared(4096)?;
    let spin = |slot: usize, setup: &dyn Fn()| {
        // The policy first: on a CPU that a real-time task has taken we would never get to it.
        setup();
        let _ = pin(0, 1);
        atomic(at + 4).fetch_add(1, SeqCst);
        while atomic(at).load(SeqCst) == 0 {
            sleep_ms(1);
        }
        loop {
            atomic(at + slot).fetch_add(1, SeqCst);
        }
    };
    // We must stay in charge.
    set_policy(0, SCHED_FIFO, 90)?;
    let a = fork(|| {
        let _ = set_policy(0, SCHED_OTHER, 0);
        spin(8, &one)
    })?;
    let b = fork(|| {
        let _ = set_policy(0, SCHED_OTHER, 0);
        spin(16, &two)
    })?;
    let ready = eventually(|| atomic(at + 4).load(SeqCst) == 2);
    atomic(at).store(u32::from(ready), SeqCst);
    sleep_ms(ms);
    let counts = (atomic(at + 8).load(SeqCst), atomic(at + 16).load(SeqCst));
    for child in [a, b] {
        kill(child, SIGKILL)?;
        wait(child)?;
    }
    set_policy(0, SCHED_OTHER, 0)?;
    Ok(counts)
}

fn nice_shares() -> Outcome {
    let (a, b) = race(1000, || {}, || {})?;
    let ratio = f64::from(a) / f64::from(b.max(1));
    check!((0.5..2.0).contains(&ratio), "{a} {b}");
    // Five steps of nice are a factor of about three.
    let nice = |n: i32| move || drop(sys!(SYS_setpriority, PRIO_PROCESS, 0, n));
    let (a, b) = race(1500, nice(0), nice(5))?;
    let ratio = f64::from(a) / f64::from(b.max(1));
    check!((1.7..6.0).contains(&ratio), "{a} {b}: {ratio}");
    Ok(())
}

fn fifo_preempts() -> Outcome {
    // Leave the usual 5 % for others out of the picture: the race is shorter than its period.
    let fifo = |p: i32| move || drop(set_policy(0, SCHED_FIFO, p));
    let (a, b) = race(300, fifo(20), fifo(10))?;
    check!(a > 1000 && b < a / 20, "{a} {b}");
    let (a, b) = race(300, fifo(1), || {})?;
    check!(a > 1000 && b < a / 5, "{a} {b}");
    Ok(())
}

fn round_robin_shares() -> Outcome {
    let rr = || drop(set_policy(0, SCHED_RR, 10));
    let (a, b) = race(900, rr, rr)?;
    let ratio = f64::from(a.max(1)) / f64::from(b.max(1));
    check!((0.25..4.0).contains(&ratio), "{a} {b}");
    Ok(())
}

fn yield_lets_others_run() -> Outcome {
    let at = map_shared(4096)?;
    pin(0, 1)?;
    let child = fork(|| {
        while atomic(at).load(SeqCst) < 1000 {
            let value = atomic(at).load(SeqCst);
            if value.is_multiple_of(2) {
                atomic(at).store(value + 1, SeqCst);
            }
            let _ = sys!(SYS_sched_yield);
        }
        0
    })?;
    let start = std::time::Instant::now();
    while atomic(at).load(SeqCst) < 1000 {
        let value = atomic(at).load(SeqCst);
        if value % 2 == 1 {
            atomic(at).store(value + 1, SeqCst);
        }
        sys!(SYS_sched_yield)?;
        check!(start.elapsed().as_secs() < 20);
    }
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn idle_policy() -> Outcome {
    let idle = || drop(set_policy(0, SCHED_IDLE, 0));
    let (a, b) = race(600, || {}, idle)?;
    check!(b < a / 10, "{a} {b}");
    Ok(())
}

fn reset_on_fork() -> Outcome {
    set_policy(0, SCHED_FIFO | SCHED_RESET_ON_FORK, 5)?;
    let status = in_child(|| sys!(SYS_sched_getscheduler, 0).map_or(99, |p| p as i32))?;
    check_eq!(status, SCHED_OTHER);
    check_eq!(sys!(SYS_sched_getscheduler, 0)? as i32, SCHED_FIFO | SCHED_RESET_ON_FORK);
    Ok(())
}

fn all_cpus_work() -> Outcome {
    // As many busy threads as CPUs spread over all of them.
    let count = cpus()?;
    let at = map_shared(4096)?;
    let threads: Vec<_> = (0..count)
        .map(|_| {
            std::thread::spawn(move || {
                let end = std::time::Instant::now() + std::time::Duration::from_millis(1500);
                while std::time::Instant::now() < end {
                    if let Ok(cpu) = cpu() {
                        atomic(at + cpu as usize * 4).fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok()));
    let used = (0..count).filter(|n| atomic(at + n * 4).load(SeqCst) > 100).count();
    check_eq!(used, count);
    Ok(())
}

fn deadline_admission() -> Outcome {
    let attr = |runtime: u64, period: u64| Attr {
        size: 48,
        policy: 6,
        runtime,
        deadline: period,
        period,
        ..Attr::default()
    };
    set_attr(&attr(10_000_000, 100_000_000))?;
    let mut got = Attr::default();
    sys!(SYS_sched_getattr, 0, addr_mut(&mut got), 48, 0)?;
    check_eq!((got.policy, got.runtime, got.period), (6, 10_000_000, 100_000_000));
    // A deadline task may not fork without the reset flag.
    check_err!(fork(|| 0), EAGAIN);
    sys!(SYS_sched_yield)?;
    // Without a period it is the deadline.
    set_attr(&Attr { deadline: 50_000_000, ..attr(10_000_000, 0) })?;
    sys!(SYS_sched_getattr, 0, addr_mut(&mut got), 48, 0)?;
    check_eq!((got.deadline, got.period), (50_000_000, 50_000_000));
    set_policy(0, SCHED_OTHER, 0)?;
    check_err!(set_attr(&attr(200_000_000, 100_000_000)), EINVAL);
    check_err!(set_attr(&attr(10, 100_000_000)), EINVAL);
    Ok(())
}

fn wake_up_from_many() -> Outcome {
    let ends = pipe(0)?;
    let done = pipe(0)?;
    let children: Vec<i32> = (0..20)
        .map(|_| {
            fork(|| {
                for _ in 0..50 {
                    let _ = read_vec(ends[0], 1);
                    let _ = write(done[1], b"x");
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for _ in 0..1000 {
        write(ends[1], b"x")?;
    }
    let mut count = 0;
    while count < 1000 {
        count += read_vec(done[0], 1000)?.len();
    }
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn context_switches_counted() -> Outcome {
    let read = |name: &str| -> Result<u64, Failure> {
        let status = slurp(c"/proc/self/status")?;
        let line = status.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok())
            .ok_or_else(|| Failure::new(format!("no {name}")))
    };
    let before = read("voluntary_ctxt_switches:")?;
    for _ in 0..10 {
        sleep_ms(1);
    }
    check!(read("voluntary_ctxt_switches:")? >= before + 5);
    read("nonvoluntary_ctxt_switches:")?;
    Ok(())
}

fn priorities_of_groups() -> Outcome {
    let child = fork(|| {
        sleep_ms(10_000);
        0
    })?;
    sys!(SYS_setpriority, PRIO_PGRP, 0, 3)?;
    check_eq!(sys!(SYS_getpriority, PRIO_PROCESS, child)?, 17);
    check_eq!(sys!(SYS_getpriority, PRIO_PGRP, 0)?, 17);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

/// An I/O priority: class and level.
const fn io(class: usize, level: usize) -> usize {
    class << 13 | level
}

const IO_PROCESS: usize = 1;
const IO_PGRP: usize = 2;
const IO_USER: usize = 3;

fn io_priorities() -> Outcome {
    // Nobody chose one: best effort, as the nice value has it.
    check_eq!(sys!(SYS_ioprio_get, IO_PROCESS, 0)? & 0xe000, 0);
    for ioprio in [io(1, 0), io(1, 7), io(2, 3), io(3, 0), io(0, 0)] {
        sys!(SYS_ioprio_set, IO_PROCESS, 0, ioprio)?;
        let expected = if ioprio == 0 { io(2, 4) } else { ioprio };
        let got = sys!(SYS_ioprio_get, IO_PROCESS, 0)?;
        check!(got == ioprio || got == expected, "{ioprio:#x}: {got:#x}");
    }
    sys!(SYS_ioprio_set, IO_PROCESS, 0, io(2, 6))?;
    // Children have their parent's, each thread has its own.
    check_eq!(in_child(|| i32::from(sys!(SYS_ioprio_get, IO_PROCESS, 0) != Ok(io(2, 6))))?, 0);
    let other = std::thread::spawn(|| {
        let inherited = sys!(SYS_ioprio_get, IO_PROCESS, 0);
        inherited == Ok(io(2, 6)) && sys!(SYS_ioprio_set, IO_PROCESS, 0, io(3, 0)).is_ok()
    });
    check!(other.join().is_ok_and(|fine| fine));
    check_eq!(sys!(SYS_ioprio_get, IO_PROCESS, getpid())?, io(2, 6));
    // Of a group the best is told, and all are set.
    let child = fork(|| {
        sleep_ms(10_000);
        0
    })?;
    sys!(SYS_ioprio_set, IO_PROCESS, child, io(2, 1))?;
    check_eq!(sys!(SYS_ioprio_get, IO_PGRP, 0)?, io(2, 1));
    check_eq!(sys!(SYS_ioprio_get, IO_PROCESS, 0)?, io(2, 6));
    sys!(SYS_ioprio_set, IO_PGRP, 0, io(2, 5))?;
    check_eq!(sys!(SYS_ioprio_get, IO_PROCESS, child)?, io(2, 5));
    check_eq!(sys!(SYS_ioprio_get, IO_PROCESS, 0)?, io(2, 5));
    kill(child, SIGKILL)?;
    wait(child)?;
    // All of a user.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 4321, 4321, 4321);
        let set = sys!(SYS_ioprio_set, IO_USER, 4321, io(2, 2)).is_ok();
        i32::from(!set) | i32::from(sys!(SYS_ioprio_get, IO_USER, 4321) != Ok(io(2, 2))) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn io_priority_errors() -> Outcome {
    for (which, ioprio) in
        [(0, io(2, 4)), (4, io(2, 4)), (IO_PROCESS, io(0, 1)), (IO_PROCESS, io(4, 0)), (IO_PROCESS, io(7, 0))]
    {
        check_err!(sys!(SYS_ioprio_set, which, 0, ioprio), EINVAL);
    }
    for which in [0, 4] {
        check_err!(sys!(SYS_ioprio_get, which, 0), EINVAL);
    }
    check_err!(sys!(SYS_ioprio_set, IO_PROCESS, 4_000_000, io(2, 4)), ESRCH);
    check_err!(sys!(SYS_ioprio_get, IO_PROCESS, 4_000_000), ESRCH);
    check_err!(sys!(SYS_ioprio_get, IO_PGRP, 4_000_000), ESRCH);
    check_err!(sys!(SYS_ioprio_get, IO_USER, 77_777), ESRCH);
    let parent = getpid();
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let real_time = sys!(SYS_ioprio_set, IO_PROCESS, 0, io(1, 0)) == Err(Errno(EPERM));
        let others = sys!(SYS_ioprio_set, IO_PROCESS, parent, io(2, 4)) == Err(Errno(EPERM));
        let own = sys!(SYS_ioprio_set, IO_PROCESS, 0, io(3, 0)).is_ok();
        i32::from(!real_time) | i32::from(!others) << 1 | i32::from(!own) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}
