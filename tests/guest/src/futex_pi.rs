//! Priority-inheriting futexes and the futex calls of one operation each (futex(2), futex_wait(2), futex_wake(2),
//! futex_requeue(2)).

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

tests![
    inheritance_follows_chains,
    inheritance_follows_changes,
    inheritance_ends_with_the_wait,
    owner_runs_before_what_is_between,
    deadline_tasks_lend_theirs,
    the_most_important_is_next,
    circles_are_deadlocks,
    timeouts,
    signals_restart_the_wait,
    owner_exits_without_unlock,
    owner_on_a_robust_list_exits,
    owner_execs,
    other_operations_are_refused,
    bad_owners,
    requeue_moves_waiters,
    requeue_takes_a_free_lock,
    requeue_errors,
    wait_requeue_errors,
    wakes_real_time_first,
    futex2_wait_wake,
    futex2_requeue,
    futex2_errors,
];

const TID: u32 = FUTEX_TID_MASK;

fn futex(at: usize, op: i32, value: u32, time: usize, at2: usize, v3: u32) -> crate::sys::Result<usize> {
    sys!(SYS_futex, at, op, value, time, at2, v3)
}

fn lock(at: usize) -> crate::sys::Result<usize> {
    futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0)
}

fn unlock(at: usize) -> crate::sys::Result<usize> {
    futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0)
}

fn word(at: usize) -> u32 {
    atomic(at).load(SeqCst)
}

fn tid() -> u32 {
    sys!(SYS_gettid).unwrap_or(0) as u32
}

fn set_fifo(pid: i32, priority: i32) -> crate::sys::Result<usize> {
    let policy = if priority == 0 { SCHED_OTHER } else { SCHED_FIFO };
    sys!(SYS_sched_setscheduler, pid, policy, addr(&priority))
}

fn priority(pid: i32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(15)?.parse().ok()
}

fn asleep(pid: i32) -> bool {
    eventually(|| state(pid) == Some('S'))
}

/// Sleeps until the word at `at` is `value` or more.
fn until(at: usize, value: u32) -> bool {
    eventually(|| word(at) >= value)
}

/// A child that takes `locks` in turn, then says so in `ready`, then takes `last` (if not 0), then frees all when `go` is set.
fn holder(locks: &[usize], last: usize, ready: usize, go: usize) -> crate::sys::Result<i32> {
    fork(|| {
        let mut good = locks.iter().all(|l| lock(*l).is_ok());
        atomic(ready).fetch_add(1, SeqCst);
        if last != 0 {
            good &= lock(last).is_ok() && word(last) & TID == tid() && unlock(last).is_ok();
        }
        good &= until(go, 1);
        good &= locks.iter().all(|l| unlock(*l).is_ok());
        i32::from(!good)
    })
}

/// A child of this real-time priority (0: none) that takes and frees `at`.
fn waiter(at: usize, fifo: i32) -> crate::sys::Result<i32> {
    fork(|| {
        let set = fifo == 0 || set_fifo(0, fifo).is_ok();
        let got = lock(at).is_ok() && word(at) & TID == tid();
        i32::from(!(set && got && unlock(at).is_ok()))
    })
}

fn inheritance_follows_chains() -> Outcome {
    let page = map_shared(4096)?;
    let (a, b, c, ready, go) = (page, page + 64, page + 128, page + 192, page + 256);
    let first = holder(&[a], 0, ready, go)?;
    check!(until(ready, 1));
    let second = holder(&[b], a, ready, go)?;
    check!(until(ready, 2) && asleep(second));
    let third = holder(&[c], b, ready, go)?;
    check!(until(ready, 3) && asleep(third));
    let chain = [first, second, third];
    check!(chain.iter().all(|p| priority(*p) == Some(20)));
    let last = waiter(c, 40)?;
    check!(eventually(|| chain.iter().all(|p| priority(*p) == Some(-41))));
    check_eq!(priority(last), Some(-41));
    // It is borrowed only: what the program asked for stays.
    check_eq!(sys!(SYS_sched_getscheduler, first)?, SCHED_OTHER as usize);
    atomic(go).store(1, SeqCst);
    for child in [first, second, third, last] {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!((word(a), word(b), word(c)), (0, 0, 0));
    Ok(())
}

fn inheritance_follows_changes() -> Outcome {
    let page = map_shared(4096)?;
    let (a, b, ready, go) = (page, page + 64, page + 128, page + 192);
    let owner = holder(&[a, b], 0, ready, go)?;
    check!(until(ready, 1));
    let one = waiter(a, 0)?;
    let two = waiter(b, 30)?;
    check!(eventually(|| priority(owner) == Some(-31)) && asleep(one) && asleep(two));
    set_fifo(one, 50)?;
    check_eq!(priority(owner), Some(-51));
    set_fifo(one, 10)?;
    check_eq!(priority(owner), Some(-31));
    // Its own priority counts when it is higher, and is what remains.
    set_fifo(owner, 60)?;
    check_eq!(priority(owner), Some(-61));
    set_fifo(owner, 0)?;
    check_eq!(priority(owner), Some(-31));
    set_fifo(two, 0)?;
    check_eq!(priority(owner), Some(-11));
    atomic(go).store(1, SeqCst);
    for child in [owner, one, two] {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn inheritance_ends_with_the_wait() -> Outcome {
    let page = map_shared(4096)?;
    let (a, b, ready, go) = (page, page + 64, page + 128, page + 192);
    let owner = fork(|| {
        let mut good = lock(a).is_ok() && lock(b).is_ok();
        atomic(ready).store(1, SeqCst);
        good &= until(go, 1) && unlock(a).is_ok();
        atomic(ready).store(2, SeqCst);
        good &= until(go, 2) && unlock(b).is_ok();
        i32::from(!good)
    })?;
    check!(until(ready, 1));
    let high = waiter(a, 70)?;
    let low = waiter(b, 20)?;
    let killed = waiter(b, 80)?;
    check!(asleep(high) && asleep(low) && asleep(killed));
    check_eq!(priority(owner), Some(-81));
    kill(killed, SIGKILL)?;
    wait(killed)?;
    check_eq!(priority(owner), Some(-71));
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(high)?, 0);
    check!(until(ready, 2));
    check_eq!(priority(owner), Some(-21));
    atomic(go).store(2, SeqCst);
    check_eq!(wait_exit(low)?, 0);
    check_eq!(wait_exit(owner)?, 0);
    Ok(())
}

fn owner_runs_before_what_is_between() -> Outcome {
    // One CPU; the owner is the least of three, and the one in the middle never sleeps.
    let at = map_shared(4096)?;
    for _ in 0..5 {
        let low = fork(|| {
            let _ = sys!(SYS_setpgid, 0, 0);
            let cpu = 1_u64;
            let _ = sys!(SYS_sched_setaffinity, 0, 8, addr(&cpu));
            let _ = set_fifo(0, 1);
            atomic(at).store(tid(), SeqCst);
            let high = fork(|| {
                let medium = fork(|| {
                    let _ = set_fifo(0, 2);
                    loop {
                        std::hint::spin_loop();
                    }
                });
                let good = set_fifo(0, 3).is_ok() && lock(at).is_ok();
                let good = good && medium.is_ok_and(|pid| kill(pid, SIGKILL).is_ok() && wait(pid).is_ok());
                i32::from(!good)
            });
            let time = timespec { tv_sec: 0, tv_nsec: 500_000 };
            let _ = sys!(SYS_nanosleep, addr(&time), 0);
            if atomic(at).compare_exchange(tid(), 0, SeqCst, SeqCst).is_err() {
                let _ = unlock(at);
            }
            high.and_then(wait_exit).unwrap_or(99)
        })?;
        let ended = eventually(|| state(low) == Some('Z'));
        if !ended {
            let seen = priority(low);
            kill(-low, SIGKILL)?;
            wait(low)?;
            check!(ended, "priority {seen:?}");
        }
        check_eq!(wait_exit(low)?, 0);
        atomic(at).store(0, SeqCst);
    }
    Ok(())
}

fn deadline_tasks_lend_theirs() -> Outcome {
    #[repr(C)]
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
    let page = map_shared(4096)?;
    let (a, ready, go) = (page, page + 64, page + 128);
    let owner = holder(&[a], 0, ready, go)?;
    check!(until(ready, 1));
    let child = fork(|| {
        let (runtime, period) = (10_000_000, 100_000_000);
        let attr =
            Attr { size: 48, policy: 6, flags: 0, nice: 0, priority: 0, runtime, deadline: period, period };
        let set = sys!(SYS_sched_setattr, 0, addr(&attr), 0).is_ok();
        i32::from(!(set && lock(a).is_ok() && unlock(a).is_ok()))
    })?;
    check!(eventually(|| priority(owner) == Some(-101)), "{:?}", priority(owner));
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(child)?, 0);
    check_eq!(wait_exit(owner)?, 0);
    Ok(())
}

fn the_most_important_is_next() -> Outcome {
    let page = map_shared(4096)?;
    let (a, order) = (page, page + 64);
    lock(a)?;
    let mut children = Vec::new();
    for (n, fifo) in [0, 20, 0, 60, 40].into_iter().enumerate() {
        let child = fork(|| {
            let set = fifo == 0 || set_fifo(0, fifo).is_ok();
            let got = lock(a).is_ok();
            // The place of this waiter in the order, four bits each.
            let _ = atomic(order).fetch_update(SeqCst, SeqCst, |seen| Some((seen << 4) | (n as u32 + 1)));
            i32::from(!(set && got && unlock(a).is_ok()))
        })?;
        children.push(child);
        check!(eventually(|| word(a) & FUTEX_WAITERS != 0) && asleep(child));
    }
    unlock(a)?;
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!(format!("{:x}", word(order)), "45213");
    Ok(())
}

fn circles_are_deadlocks() -> Outcome {
    let page = map_shared(4096)?;
    let (a, b, c, ready, go) = (page, page + 64, page + 128, page + 192, page + 256);
    lock(a)?;
    check_err!(lock(a), EDEADLK);
    check_err!(futex(a, FUTEX_TRYLOCK_PI, 0, 0, 0, 0), EDEADLK);
    let one = holder(&[b], a, ready, go)?;
    check!(until(ready, 1) && asleep(one));
    let two = holder(&[c], b, ready, go)?;
    check!(until(ready, 2) && asleep(two));
    check_err!(lock(c), EDEADLK);
    check_err!(lock(b), EDEADLK);
    // Nobody was harmed.
    atomic(go).store(1, SeqCst);
    unlock(a)?;
    check_eq!(wait_exit(one)?, 0);
    check_eq!(wait_exit(two)?, 0);
    lock(c)?;
    unlock(c)?;
    check_eq!((word(a), word(b), word(c)), (0, 0, 0));
    Ok(())
}

fn timeouts() -> Outcome {
    let page = map_shared(4096)?;
    let (a, ready, go) = (page, page + 64, page + 128);
    let owner = holder(&[a], 0, ready, go)?;
    check!(until(ready, 1));
    set_fifo(0, 25)?;
    // Absolute times: LOCK_PI on the real-time clock, LOCK_PI2 on either.
    let past = timespec { tv_sec: 1, tv_nsec: 0 };
    check_err!(futex(a, FUTEX_LOCK_PI, 0, addr(&past), 0, 0), ETIMEDOUT);
    check_err!(futex(a, FUTEX_LOCK_PI2, 0, addr(&past), 0, 0), ETIMEDOUT);
    check_err!(futex(a, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, addr(&past), 0, 0), ETIMEDOUT);
    let mut soon: timespec = zeroed();
    c!(clock_gettime(CLOCK_REALTIME, &raw mut soon))?;
    soon.tv_sec += 1;
    check_err!(futex(a, FUTEX_LOCK_PI, 0, addr(&soon), 0, 0), ETIMEDOUT);
    check_eq!(priority(owner), Some(20));
    set_fifo(0, 0)?;
    let bad = timespec { tv_sec: 0, tv_nsec: -1 };
    check_err!(futex(a, FUTEX_LOCK_PI, 0, addr(&bad), 0, 0), EINVAL);
    check_err!(futex(a, FUTEX_LOCK_PI, 0, 8, 0, 0), EFAULT);
    check_err!(futex(a, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0), ENOSYS);
    check_err!(futex(a, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0), ENOSYS);
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(owner)?, 0);
    check_eq!(word(a), 0);
    Ok(())
}

fn signals_restart_the_wait() -> Outcome {
    static SEEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    extern "C" fn handler(_: i32) {
        SEEN.fetch_add(1, SeqCst);
    }
    let page = map_shared(4096)?;
    lock(page)?;
    let child = fork(|| {
        let mut action: sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
        atomic(page + 64).store(1, SeqCst);
        let got = lock(page).is_ok() && unlock(page).is_ok();
        i32::from(!got) + 2 * i32::from(SEEN.load(SeqCst) != 1)
    })?;
    check!(until(page + 64, 1) && asleep(child));
    kill(child, SIGUSR1)?;
    // Without SA_RESTART too.
    let pending = || {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("ShdPnd") && !l.ends_with("0000000000000000"))
    };
    check!(eventually(|| !pending()) && asleep(child));
    unlock(page)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn owner_exits_without_unlock() -> Outcome {
    let page = map_shared(4096)?;
    let (a, ready, go) = (page, page + 64, page + 128);
    let owner = fork(|| {
        let _ = lock(a);
        atomic(ready).store(1, SeqCst);
        let _ = until(go, 1);
        0
    })?;
    check!(until(ready, 1));
    let two: Vec<i32> = (0..2)
        .map(|_| {
            fork(|| {
                let got = lock(a).is_ok();
                let word = word(a);
                let died = word & FUTEX_OWNER_DIED != 0;
                let mine = word & TID == tid();
                let freed = unlock(a).is_ok();
                i32::from(!(got && mine && freed)) + 2 * i32::from(died)
            })
        })
        .collect::<Result<_, _>>()?;
    check!(asleep(two[0]) && asleep(two[1]));
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(owner)?, 0);
    // One of them took it from the dead, the other from the first.
    let mut how = [wait_exit(two[0])?, wait_exit(two[1])?];
    how.sort_unstable();
    check_eq!(how, [0, 2]);
    check_eq!(word(a), 0);
    // Without a waiter nobody notices, until somebody asks who has it.
    let child = fork(|| i32::from(lock(a).is_err()))?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(word(a), child as u32);
    check_err!(lock(a), ESRCH);
    Ok(())
}

fn owner_on_a_robust_list_exits() -> Outcome {
    #[repr(C)]
    struct Head {
        next: usize,
        offset: i64,
        pending: usize,
    }
    let page = map_shared(4096)?;
    let (node, a, ready, go) = (page + 64, page + 96, page + 192, page + 256);
    let owner = fork(|| {
        // Bit 0 of a link: a priority-inheriting futex.
        let head = Head { next: node | 1, offset: 32, pending: 0 };
        // SAFETY: the page is ours, large enough and aligned.
        unsafe {
            (page as *mut Head).write(head);
            (node as *mut usize).write(page);
        }
        let good = sys!(SYS_set_robust_list, page, size_of::<Head>()).is_ok() && lock(a).is_ok();
        atomic(ready).store(1, SeqCst);
        i32::from(!(good && until(go, 1)))
    })?;
    check!(until(ready, 1));
    let child = fork(|| {
        let got = lock(a).is_ok();
        let seen = word(a) & !FUTEX_WAITERS;
        i32::from(!got) + 2 * i32::from(seen != tid() | FUTEX_OWNER_DIED)
    })?;
    check!(asleep(child));
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(owner)?, 0);
    check_eq!(wait_exit(child)?, 0);
    // A free word that remembers a death is taken with the memory of it.
    atomic(a).store(FUTEX_OWNER_DIED, SeqCst);
    lock(a)?;
    check_eq!(word(a), tid() | FUTEX_OWNER_DIED);
    unlock(a)?;
    check_eq!(word(a), 0);
    Ok(())
}

fn owner_execs() -> Outcome {
    let page = map_shared(4096)?;
    let (a, ready, go) = (page, page + 64, page + 128);
    let owner = fork(|| {
        let _ = lock(a);
        atomic(ready).store(1, SeqCst);
        let _ = until(go, 1);
        let argv = [c"guest-tests".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let _ = c!(execv(c"/proc/self/exe".as_ptr(), argv.as_ptr()));
        1
    })?;
    check!(until(ready, 1));
    let child = fork(|| {
        let got = lock(a).is_ok();
        i32::from(!got) + 2 * i32::from(word(a) & !FUTEX_WAITERS != tid() | FUTEX_OWNER_DIED)
    })?;
    check!(asleep(child));
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(child)?, 0);
    kill(owner, SIGKILL)?;
    wait(owner)?;
    Ok(())
}

fn other_operations_are_refused() -> Outcome {
    let page = map_shared(4096)?;
    let (a, plain) = (page, page + 64);
    lock(a)?;
    let child = waiter(a, 0)?;
    check!(asleep(child));
    check_err!(futex(a, FUTEX_WAKE, 1, 0, 0, 0), EINVAL);
    check_err!(futex(a, FUTEX_REQUEUE, 0, 1, plain, 0), EINVAL);
    unlock(a)?;
    check_eq!(wait_exit(child)?, 0);
    // A plain waiter on a word that is then used as a lock.
    let child = fork(|| i32::from(futex(plain, FUTEX_WAIT, 0, 0, 0, 0).is_err()))?;
    check!(asleep(child));
    atomic(plain).store(child as u32, SeqCst);
    check_err!(lock(plain), EINVAL);
    atomic(plain).store(tid(), SeqCst);
    check_err!(unlock(plain), EINVAL);
    check_eq!(futex(plain, FUTEX_WAKE, 1, 0, 0, 0)?, 1);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn bad_owners() -> Outcome {
    let page = map_shared(4096)?;
    let (a, ready, go) = (page, page + 64, page + 128);
    check_err!(unlock(a), EPERM);
    check_err!(lock(a + 2), EINVAL);
    check_err!(lock(0x1000), EFAULT);
    check_err!(unlock(0x1000), EFAULT);
    let read_only = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    check_err!(lock(read_only), EFAULT);
    // Kernel threads own nothing. (Number 2 is one.)
    atomic(a).store(2, SeqCst);
    check_err!(lock(a), EPERM);
    // A word that does not name the owner that others wait for.
    atomic(a).store(0, SeqCst);
    let owner = holder(&[a], 0, ready, go)?;
    check!(until(ready, 1));
    let child = waiter(a, 0)?;
    check!(asleep(child));
    let good = word(a);
    atomic(a).store(getppid_tid(), SeqCst);
    check_err!(lock(a), EINVAL);
    atomic(a).store(tid(), SeqCst);
    check_err!(unlock(a), EINVAL);
    atomic(a).store(good, SeqCst);
    atomic(go).store(1, SeqCst);
    check_eq!(wait_exit(owner)?, 0);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn getppid_tid() -> u32 {
    sys!(SYS_getppid).unwrap_or(1) as u32
}

fn requeue_moves_waiters() -> Outcome {
    let page = map_shared(4096)?;
    let (cond, a, order) = (page, page + 64, page + 128);
    lock(a)?;
    let mut children = Vec::new();
    for (n, fifo) in [0, 30, 10].into_iter().enumerate() {
        let child = fork(|| {
            let set = fifo == 0 || set_fifo(0, fifo).is_ok();
            let got = futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, 0, a, 0).is_ok() && word(a) & TID == tid();
            let _ = atomic(order).fetch_update(SeqCst, SeqCst, |seen| Some((seen << 4) | (n as u32 + 1)));
            i32::from(!(set && got && unlock(a).is_ok()))
        })?;
        check!(asleep(child));
        children.push(child);
    }
    check_err!(futex(cond, FUTEX_WAKE, 1, 0, 0, 0), EINVAL);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 9, a, 7), EAGAIN);
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 9, a, 0)?, 3);
    check!(children.iter().all(|c| state(*c) == Some('S')));
    check_eq!(word(a), tid() | FUTEX_WAITERS);
    // We run with the priority of the most important of them.
    check_eq!(priority(getpid()), Some(-31));
    unlock(a)?;
    check_eq!(priority(getpid()), Some(20));
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!((format!("{:x}", word(order)), word(a)), ("231".into(), 0));
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 9, a, 0)?, 0);
    Ok(())
}

fn requeue_takes_a_free_lock() -> Outcome {
    let page = map_shared(4096)?;
    let (cond, a, go) = (page, page + 64, page + 128);
    let children: Vec<i32> = (0..3)
        .map(|_| {
            fork(|| {
                let got = futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, 0, a, 0).is_ok() && word(a) & TID == tid();
                i32::from(!(got && until(go, 1) && unlock(a).is_ok()))
            })
        })
        .collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, a, 0)?, 2);
    let first = word(a) & TID;
    check!(children.contains(&(first as i32)));
    check_eq!(word(a), first | FUTEX_WAITERS);
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, a, 0)?, 1);
    atomic(go).store(1, SeqCst);
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!(word(a), 0);
    Ok(())
}

fn requeue_errors() -> Outcome {
    let page = map_shared(4096)?;
    let (cond, a, b) = (page, page + 64, page + 128);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, cond, 0), EINVAL);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 2, 1, a, 0), EINVAL);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 0, 1, a, 0), EINVAL);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, -1_i32 as usize, a, 0), EINVAL);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, 0x1000, 0), EFAULT);
    // A waiter that wants another lock, and one that wants none.
    let child = fork(|| i32::from(futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, 0, a, 0).is_err()))?;
    check!(asleep(child));
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, b, 0), EINVAL);
    check_err!(futex(cond, FUTEX_REQUEUE, 0, 1, a, 0), EINVAL);
    // The lock would be its own.
    atomic(a).store(child as u32, SeqCst);
    check_err!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 1, a, 0), EDEADLK);
    atomic(a).store(0, SeqCst);
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 0, a, 0)?, 1);
    check_eq!(wait_exit(child)?, 0);
    let child = fork(|| i32::from(futex(b, FUTEX_WAIT, 0, 0, 0, 0).is_err()))?;
    check!(asleep(child));
    check_err!(futex(b, FUTEX_CMP_REQUEUE_PI, 1, 1, cond, 0), EINVAL);
    check_eq!(futex(b, FUTEX_WAKE, 1, 0, 0, 0)?, 1);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn wait_requeue_errors() -> Outcome {
    let page = map_shared(4096)?;
    let (cond, a) = (page, page + 64);
    check_err!(futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, 0, cond, 0), EINVAL);
    check_err!(futex(cond, FUTEX_WAIT_REQUEUE_PI, 1, 0, a, 0), EAGAIN);
    let past = timespec { tv_sec: 1, tv_nsec: 0 };
    check_err!(futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, addr(&past), a, 0), ETIMEDOUT);
    let op = FUTEX_WAIT_REQUEUE_PI | FUTEX_CLOCK_REALTIME;
    check_err!(futex(cond, op, 0, addr(&past), a, 0), ETIMEDOUT);
    // A time that passes after the move.
    lock(a)?;
    let child = fork(|| {
        let mut soon: timespec = zeroed();
        let _ = c!(clock_gettime(CLOCK_MONOTONIC, &raw mut soon));
        soon.tv_sec += 2;
        let result = futex(cond, FUTEX_WAIT_REQUEUE_PI, 0, addr(&soon), a, 0);
        i32::from(result != Err(Errno(ETIMEDOUT)))
    })?;
    check!(asleep(child));
    check_eq!(futex(cond, FUTEX_CMP_REQUEUE_PI, 1, 0, a, 0)?, 1);
    check_eq!(wait_exit(child)?, 0);
    unlock(a)?;
    check_eq!(word(a), 0);
    Ok(())
}

fn wakes_real_time_first() -> Outcome {
    let page = map_shared(4096)?;
    let mut children = Vec::new();
    for fifo in [0, 5, 50] {
        let child = fork(|| {
            let set = fifo == 0 || set_fifo(0, fifo).is_ok();
            i32::from(!(set && futex(page, FUTEX_WAIT, 0, 0, 0, 0).is_ok()))
        })?;
        check!(asleep(child));
        children.push(child);
    }
    for child in children.into_iter().rev() {
        check_eq!(futex(page, FUTEX_WAKE, 1, 0, 0, 0)?, 1);
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

const SIZE_32: u32 = 2;
const ALL: usize = u32::MAX as usize;

fn futex2_wait_wake() -> Outcome {
    let at = map_shared(4096)?;
    check_eq!(sys!(SYS_futex_wake, at, ALL, 1, SIZE_32)?, 0);
    let children: Vec<i32> = (0..3)
        .map(|n| fork(|| i32::from(sys!(SYS_futex_wait, at, 0, 1 << n, SIZE_32, 0, 0).is_err())))
        .collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    check_eq!(sys!(SYS_futex_wake, at, 0b100, 9, SIZE_32)?, 1);
    check_eq!(wait_exit(children[2])?, 0);
    // None means none here.
    check_eq!(sys!(SYS_futex_wake, at, ALL, 0, SIZE_32)?, 0);
    check_eq!(sys!(SYS_futex_wake, at, ALL, 9, SIZE_32)?, 2);
    check_eq!(wait_exit(children[0])? + wait_exit(children[1])?, 0);
    // They meet the waiters of futex(2) at the same word.
    let child = fork(|| i32::from(futex(at, FUTEX_WAIT, 0, 0, 0, 0).is_err()))?;
    check!(asleep(child));
    check_eq!(sys!(SYS_futex_wake, at, ALL, 1, SIZE_32)?, 1);
    check_eq!(wait_exit(child)?, 0);
    let past = timespec { tv_sec: 1, tv_nsec: 0 };
    check_err!(sys!(SYS_futex_wait, at, 0, ALL, SIZE_32, addr(&past), CLOCK_MONOTONIC), ETIMEDOUT);
    check_err!(sys!(SYS_futex_wait, at, 0, ALL, SIZE_32, addr(&past), CLOCK_REALTIME), ETIMEDOUT);
    check_err!(sys!(SYS_futex_wait, at, 1, ALL, SIZE_32, 0, 0), EAGAIN);
    Ok(())
}

#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

fn futex2_requeue() -> Outcome {
    let at = map_shared(4096)?;
    let other = at + 64;
    let children: Vec<i32> = (0..4)
        .map(|_| fork(|| i32::from(sys!(SYS_futex_wait, at, 0, ALL, SIZE_32, 0, 0).is_err())))
        .collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    let waiter =
        |address: usize, value: u64| Waiter { value, address: address as u64, flags: SIZE_32, reserved: 0 };
    check_err!(sys!(SYS_futex_requeue, [waiter(at, 1), waiter(other, 0)].as_ptr(), 0, 1, 2), EAGAIN);
    check_eq!(sys!(SYS_futex_requeue, [waiter(at, 0), waiter(other, 5)].as_ptr(), 0, 1, 2)?, 3);
    check_eq!(sys!(SYS_futex_wake, other, ALL, 9, SIZE_32)?, 2);
    check_eq!(sys!(SYS_futex_wake, at, ALL, 9, SIZE_32)?, 1);
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn futex2_errors() -> Outcome {
    let at = map_shared(4096)?;
    for flags in [0_u32, 1, 3, SIZE_32 | 4, SIZE_32 | 0x100] {
        check_err!(sys!(SYS_futex_wake, at, ALL, 1, flags), EINVAL);
        check_err!(sys!(SYS_futex_wait, at, 0, ALL, flags, 0, 0), EINVAL);
    }
    check_err!(sys!(SYS_futex_wake, at, 0, 1, SIZE_32), EINVAL);
    check_err!(sys!(SYS_futex_wake, at, ALL + 1, 1, SIZE_32), EINVAL);
    check_err!(sys!(SYS_futex_wake, at + 1, ALL, 1, SIZE_32), EINVAL);
    check_err!(sys!(SYS_futex_wait, at, 0, 0, SIZE_32, 0, 0), EINVAL);
    check_err!(sys!(SYS_futex_wait, at, ALL + 1, ALL, SIZE_32, 0, 0), EINVAL);
    let past = timespec { tv_sec: 1, tv_nsec: 0 };
    check_err!(sys!(SYS_futex_wait, at, 0, ALL, SIZE_32, addr(&past), CLOCK_BOOTTIME), EINVAL);
    check_err!(sys!(SYS_futex_wait, at, 0, ALL, SIZE_32, 8, 0), EFAULT);
    let pair = |flags: u32, value: u64| {
        [0, 64].map(|n| Waiter { value, address: (at + n) as u64, flags, reserved: 0 })
    };
    check_err!(sys!(SYS_futex_requeue, pair(SIZE_32, 0).as_ptr(), 1, 1, 1), EINVAL);
    check_err!(sys!(SYS_futex_requeue, 0, 0, 1, 1), EINVAL);
    check_err!(sys!(SYS_futex_requeue, 8, 0, 1, 1), EFAULT);
    check_err!(sys!(SYS_futex_requeue, pair(1, 0).as_ptr(), 0, 1, 1), EINVAL);
    check_err!(sys!(SYS_futex_requeue, pair(SIZE_32, 1 << 32).as_ptr(), 0, 1, 1), EINVAL);
    check_err!(sys!(SYS_futex_requeue, pair(SIZE_32, 0).as_ptr(), 0, -1_i32, 1), EINVAL);
    check_err!(sys!(SYS_futex_requeue, pair(SIZE_32, 0).as_ptr(), 0, 1, -1_i32), EINVAL);
    Ok(())
}
