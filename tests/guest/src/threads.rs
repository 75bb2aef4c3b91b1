//! Threads and futexes (futex(2), pthreads(7), set_robust_list(2), set_tid_address(2)).

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};

tests![
    futex_wait_wake,
    futex_value_changed,
    futex_timeouts,
    futex_bitset,
    futex_requeue,
    futex_cmp_requeue,
    futex_wake_op,
    futex_errors,
    futex_shared,
    futex_wake_op_read_only,
    futex_pi,
    futex_pi_errors,
    futex_waitv_works,
    robust_list,
    clear_child_tid,
    hundred_threads,
    mutex_contention,
    condvar_ping_pong,
    channels,
    thread_locals,
    tls_survives_switch,
    thread_stacks_and_exit,
    threads_and_fork,
    threads_share_files,
    rseq_registers,
    thread_names,
    barrier_rounds,
    create_and_join_many,
];

const PRIVATE: i32 = FUTEX_PRIVATE_FLAG;

fn futex(at: usize, op: i32, value: u32, time: usize, at2: usize, v3: u32) -> crate::sys::Result<usize> {
    sys!(SYS_futex, at, op, value, time, at2, v3)
}

fn wait_on(at: usize, value: u32) -> crate::sys::Result<usize> {
    futex(at, FUTEX_WAIT, value, 0, 0, 0)
}

fn wake(at: usize, count: u32) -> crate::sys::Result<usize> {
    futex(at, FUTEX_WAKE, count, 0, 0, 0)
}

fn asleep(pid: i32) -> bool {
    eventually(|| state(pid) == Some('S'))
}

fn futex_wait_wake() -> Outcome {
    let at = map_shared(4096)?;
    check_eq!(wake(at, 1)?, 0);
    let children: Vec<i32> =
        (0..3).map(|_| fork(|| i32::from(wait_on(at, 0) != Ok(0)))).collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    check_eq!(wake(at, 2)?, 2);
    check_eq!(wake(at, u32::MAX >> 1)?, 1);
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn futex_value_changed() -> Outcome {
    let at = map_shared(4096)?;
    atomic(at).store(5, SeqCst);
    check_err!(wait_on(at, 4), EAGAIN);
    Ok(())
}

fn futex_timeouts() -> Outcome {
    let at = map_shared(4096)?;
    let short = timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    let started = std::time::Instant::now();
    check_err!(futex(at, FUTEX_WAIT, 0, addr(&short), 0, 0), ETIMEDOUT);
    check!(started.elapsed().as_millis() >= 30);
    // FUTEX_WAIT_BITSET takes an absolute time.
    let past = timespec { tv_sec: 0, tv_nsec: 1 };
    let op = FUTEX_WAIT_BITSET;
    check_err!(futex(at, op, 0, addr(&past), 0, u32::MAX), ETIMEDOUT);
    let op = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
    check_err!(futex(at, op, 0, addr(&past), 0, u32::MAX), ETIMEDOUT);
    let bad = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    check_err!(futex(at, FUTEX_WAIT, 0, addr(&bad), 0, 0), EINVAL);
    check_err!(futex(at, FUTEX_WAIT, 0, 1, 0, 0), EFAULT);
    Ok(())
}

fn futex_bitset() -> Outcome {
    let at = map_shared(4096)?;
    let one = fork(|| i32::from(futex(at, FUTEX_WAIT_BITSET, 0, 0, 0, 0b01).is_err()))?;
    let two = fork(|| i32::from(futex(at, FUTEX_WAIT_BITSET, 0, 0, 0, 0b10).is_err()))?;
    check!(asleep(one) && asleep(two));
    check_eq!(futex(at, FUTEX_WAKE_BITSET, 10, 0, 0, 0b10)?, 1);
    check_eq!(wait_exit(two)?, 0);
    check_eq!(state(one), Some('S'));
    check_eq!(futex(at, FUTEX_WAKE_BITSET, 10, 0, 0, 0b11)?, 1);
    check_eq!(wait_exit(one)?, 0);
    check_err!(futex(at, FUTEX_WAIT_BITSET, 0, 0, 0, 0), EINVAL);
    check_err!(futex(at, FUTEX_WAKE_BITSET, 1, 0, 0, 0), EINVAL);
    Ok(())
}

fn futex_requeue() -> Outcome {
    let at = map_shared(4096)?;
    let other = at + 64;
    let children: Vec<i32> =
        (0..4).map(|_| fork(|| i32::from(wait_on(at, 0).is_err()))).collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    // Wakes one, moves two.
    check_eq!(futex(at, FUTEX_REQUEUE, 1, 2, other, 0)?, 3);
    check_eq!(wake(at, 10)?, 1);
    check_eq!(wake(other, 10)?, 2);
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn futex_cmp_requeue() -> Outcome {
    let at = map_shared(4096)?;
    let other = at + 64;
    let children: Vec<i32> =
        (0..3).map(|_| fork(|| i32::from(wait_on(at, 0).is_err()))).collect::<Result<_, _>>()?;
    check!(children.iter().all(|c| asleep(*c)));
    check_err!(futex(at, FUTEX_CMP_REQUEUE, 1, 9, other, 7), EAGAIN);
    check_eq!(futex(at, FUTEX_CMP_REQUEUE, 1, 9, other, 0)?, 3);
    check_eq!(wake(other, 10)?, 2);
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn futex_wake_op() -> Outcome {
    let at = map_shared(4096)?;
    let other = at + 64;
    let child = fork(|| i32::from(wait_on(other, 0).is_err()))?;
    check!(asleep(child));
    // other += 1; wake a waiter of other if the old value was 0.
    let operation = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0);
    check_eq!(futex(at, FUTEX_WAKE_OP, 1, 1, other, operation as u32)?, 1);
    check_eq!(atomic(other).load(SeqCst), 1);
    check_eq!(wait_exit(child)?, 0);
    check_eq!(futex(at, FUTEX_WAKE_OP, 1, 1, other, operation as u32)?, 0);
    check_eq!(atomic(other).load(SeqCst), 2);
    Ok(())
}

fn futex_errors() -> Outcome {
    let at = map_shared(4096)?;
    check_err!(wait_on(at + 1, 0), EINVAL);
    check_err!(wait_on(0x1000, 0), EFAULT);
    check_err!(wake(0xffff_8000_0000_0000, 1), EFAULT);
    check_err!(futex(at, 99, 0, 0, 0, 0), ENOSYS);
    check_err!(futex(at, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, 0, 0, 0), ENOSYS);
    Ok(())
}

fn futex_shared() -> Outcome {
    // A file mapped at different addresses is one futex.
    let fd = create(c"f", &[0; 4096])?;
    let prot = PROT_READ | PROT_WRITE;
    let one = mmap(0, 4096, prot, MAP_SHARED, fd, 0)?;
    let two = mmap(0, 4096, prot, MAP_SHARED, fd, 0)?;
    let child = fork(|| i32::from(wait_on(one + 8, 0).is_err()))?;
    check!(asleep(child));
    check_eq!(futex(two + 8, FUTEX_WAKE | PRIVATE, 1, 0, 0, 0)?, 0);
    check_eq!(wake(two + 8, 1)?, 1);
    check_eq!(wait_exit(child)?, 0);
    // A private mapping after fork is two futexes.
    let at = map_anon(4096)?;
    poke(at, 0);
    let child = fork(|| {
        let time = timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        i32::from(futex(at, FUTEX_WAIT, 0, addr(&time), 0, 0) != Err(Errno(ETIMEDOUT)))
    })?;
    check!(asleep(child));
    check_eq!(wake(at, 1)?, 0);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn tid() -> u32 {
    sys!(SYS_gettid).unwrap_or(0) as u32
}

fn futex_pi() -> Outcome {
    let at = map_shared(4096)?;
    check_eq!(futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0)?, 0);
    check_eq!(atomic(at).load(SeqCst), tid());
    let child = fork(|| {
        let busy = futex(at, FUTEX_TRYLOCK_PI, 0, 0, 0, 0) == Err(Errno(EAGAIN));
        let got = futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0).is_ok();
        let mine = atomic(at).load(SeqCst) & FUTEX_TID_MASK == tid();
        let freed = futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0).is_ok();
        let all = [busy, got, mine, freed];
        all.iter().enumerate().map(|(n, ok)| i32::from(!ok) << n).sum()
    })?;
    check!(asleep(child));
    check_eq!(atomic(at).load(SeqCst), tid() | FUTEX_WAITERS);
    futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(atomic(at).load(SeqCst), 0);
    // The waiter lends its priority to the owner. (Needs a real-time waiter.)
    let ready = map_shared(4096)?;
    let owner = fork(|| {
        let _ = futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0);
        atomic(ready).store(1, SeqCst);
        let _ = eventually(|| atomic(ready).load(SeqCst) == 2);
        let _ = futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
        0
    })?;
    check!(eventually(|| atomic(ready).load(SeqCst) == 1));
    let waiter = fork(|| {
        let _ = sys!(SYS_sched_setscheduler, 0, SCHED_FIFO, addr(&50_i32));
        i32::from(futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0).is_err())
    })?;
    let priority = |pid: i32| -> Option<i64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(15)?.parse().ok()
    };
    check!(eventually(|| priority(owner) == Some(-51)), "{:?}", priority(owner));
    atomic(ready).store(2, SeqCst);
    check_eq!(wait_exit(waiter)?, 0);
    check_eq!(wait_exit(owner)?, 0);
    Ok(())
}

fn futex_pi_errors() -> Outcome {
    let at = map_shared(4096)?;
    check_err!(futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0), EPERM);
    futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0)?;
    check_err!(futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0), EDEADLK);
    atomic(at).store(4_000_000, SeqCst);
    check_err!(futex(at, FUTEX_LOCK_PI, 0, 0, 0, 0), ESRCH);
    Ok(())
}

fn futex_waitv_works() -> Outcome {
    #[repr(C)]
    struct Waiter {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    let at = map_shared(4096)?;
    let waiter = |n: usize| Waiter { value: 0, address: (at + n * 64) as u64, flags: 2, reserved: 0 };
    let list = [waiter(0), waiter(1), waiter(2)];
    let child = fork(|| sys!(SYS_futex_waitv, list.as_ptr(), 3, 0, 0, 0).map_or(99, |n| n as i32))?;
    check!(asleep(child));
    check_eq!(wake(at + 64, 1)?, 1);
    check_eq!(wait_exit(child)?, 1);
    atomic(at).store(1, SeqCst);
    check_err!(sys!(SYS_futex_waitv, list.as_ptr(), 3, 0, 0, 0), EAGAIN);
    check_err!(sys!(SYS_futex_waitv, list.as_ptr(), 0, 0, 0, 0), EINVAL);
    Ok(())
}

fn robust_list() -> Outcome {
    #[repr(C)]
    struct Head {
        next: usize,
        offset: i64,
        pending: usize,
    }
    let at = map_shared(4096)?;
    let status = in_child(|| {
        // The list lives in the shared page: head at 0, one entry at 64 whose futex is at 96.
        let head = Head { next: at + 64, offset: 32, pending: 0 };
        // SAFETY: the page is ours, large enough and aligned.
        unsafe {
            (at as *mut Head).write(head);
            ((at + 64) as *mut usize).write(at);
        }
        atomic(at + 96).store(tid(), SeqCst);
        i32::from(sys!(SYS_set_robust_list, at, size_of::<Head>()).is_err())
    })?;
    check_eq!(status, 0);
    check_eq!(atomic(at + 96).load(SeqCst), FUTEX_OWNER_DIED);
    check_err!(sys!(SYS_set_robust_list, at, 3), EINVAL);
    let (mut head, mut size) = (0_usize, 0_usize);
    sys!(SYS_get_robust_list, 0, addr_mut(&mut head), addr_mut(&mut size))?;
    check_eq!(size, 24);
    Ok(())
}

fn clear_child_tid() -> Outcome {
    let at = map_shared(4096)?;
    atomic(at).store(77, SeqCst);
    let child = fork(|| {
        let own = sys!(SYS_set_tid_address, at);
        i32::from(own != Ok(tid() as usize))
    })?;
    check_eq!(wait_exit(child)?, 0);
    // The word is cleared for the other threads of the address space; the last one leaves it.
    check_eq!(atomic(at).load(SeqCst), 77);
    Ok(())
}

fn hundred_threads() -> Outcome {
    let total = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..100_u64)
        .map(|n| {
            let total = total.clone();
            std::thread::spawn(move || {
                let mut sum = 0;
                for k in 0..1000 {
                    sum += n * k;
                    if k % 100 == 0 {
                        std::thread::yield_now();
                    }
                }
                if let Ok(mut total) = total.lock() {
                    *total += sum;
                }
                sum
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().filter_map(|t| t.join().ok()).sum();
    check_eq!(sum, 4950 * 499_500);
    check_eq!(total.lock().map(|t| *t).unwrap_or(0), sum);
    check_eq!(std::fs::read_dir("/proc/self/task")?.count(), 1);
    Ok(())
}

fn mutex_contention() -> Outcome {
    let counter = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let counter = counter.clone();
            std::thread::spawn(move || {
                for _ in 0..5000 {
                    if let Ok(mut value) = counter.lock() {
                        *value += 1;
                    }
                }
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok()));
    check_eq!(counter.lock().map(|v| *v).unwrap_or(0), 40_000);
    Ok(())
}

fn condvar_ping_pong() -> Outcome {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = shared.clone();
    let play = move |shared: &(Mutex<i32>, Condvar), parity: i32| {
        for _ in 0..1000 {
            let Ok(guard) = shared.0.lock() else { return false };
            let Ok(mut turn) = shared.1.wait_while(guard, |t| *t % 2 != parity) else { return false };
            *turn += 1;
            shared.1.notify_all();
        }
        true
    };
    let other = std::thread::spawn(move || play(&theirs, 1));
    check!(play(&shared, 0));
    check!(other.join().is_ok_and(|ok| ok));
    check_eq!(shared.0.lock().map(|t| *t).unwrap_or(0), 2000);
    Ok(())
}

fn channels() -> Outcome {
    let (to, from) = mpsc::sync_channel(4);
    for n in 0..10_u64 {
        let to = to.clone();
        std::thread::spawn(move || {
            for k in 0..200 {
                let _ = to.send(n * 1000 + k);
            }
        });
    }
    drop(to);
    let all: Vec<u64> = from.iter().collect();
    check_eq!(all.len(), 2000);
    check_eq!(all.iter().sum::<u64>(), (0..10).map(|n| n * 200_000 + 19_900).sum::<u64>());
    Ok(())
}

thread_local! {
    static LOCAL: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn thread_locals() -> Outcome {
    LOCAL.set(1);
    let threads: Vec<_> = (2..20)
        .map(|n| {
            std::thread::spawn(move || {
                let fresh = LOCAL.get() == 0;
                LOCAL.set(n);
                std::thread::yield_now();
                fresh && LOCAL.get() == n
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|ok| ok)));
    check_eq!(LOCAL.get(), 1);
    Ok(())
}

fn tls_survives_switch() -> Outcome {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (1..9)
        .map(|n| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                LOCAL.set(n);
                let mut good = true;
                while !stop.load(SeqCst) {
                    good &= LOCAL.get() == n;
                }
                good
            })
        })
        .collect();
    sleep_ms(200);
    stop.store(true, SeqCst);
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|ok| ok)));
    Ok(())
}

fn thread_stacks_and_exit() -> Outcome {
    fn deep(n: u32) -> u32 {
        let block = std::hint::black_box([n as u8; 1024]);
        if n == 0 { 0 } else { deep(n - 1) + u32::from(block[0] != n as u8) }
    }
    let threads: Vec<_> = (0..10).map(|_| std::thread::spawn(|| deep(1000))).collect();
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|n| n == 0)));
    Ok(())
}

fn threads_and_fork() -> Outcome {
    // Only the forking thread is in the child.
    let barrier = Arc::new(Barrier::new(4));
    for _ in 0..3 {
        let barrier = barrier.clone();
        std::thread::spawn(move || {
            barrier.wait();
            sleep_ms(10_000);
        });
    }
    barrier.wait();
    let status = in_child(|| {
        let tasks = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        i32::from(tasks != 1)
    })?;
    check_eq!(status, 0);
    check_eq!(std::fs::read_dir("/proc/self/task")?.count(), 4);
    Ok(())
}

fn threads_share_files() -> Outcome {
    let fd = std::thread::spawn(|| create(c"f", b"from a thread"));
    let Ok(fd) = fd.join() else { return Err(Failure::new("panicked")) };
    let fd = fd?;
    check_eq!(read_vec(fd, 20)?, b"from a thread");
    mkdir(c"d", 0o755)?;
    check!(std::thread::spawn(|| sys!(SYS_chdir, c"d".as_ptr())).join().is_ok_and(|r| r.is_ok()));
    check!(std::env::current_dir()?.ends_with("d"));
    // unshare(CLONE_FS) makes it private.
    check!(
        std::thread::spawn(|| sys!(SYS_unshare, CLONE_FS).and(sys!(SYS_chdir, c"/".as_ptr())))
            .join()
            .is_ok_and(|r| r.is_ok())
    );
    check!(std::env::current_dir()?.ends_with("d"));
    Ok(())
}

fn rseq_registers() -> Outcome {
    #[repr(C, align(32))]
    struct Rseq([u32; 8]);
    let mut area = Rseq([0; 8]);
    area.0[1] = u32::MAX;
    let at = addr_mut(&mut area);
    sys!(SYS_rseq, at, 32, 0, 0x5305_3053)?;
    check_err!(sys!(SYS_rseq, at, 32, 0, 0x5305_3053), EBUSY);
    sleep_ms(1);
    let cpu = atomic(at + 4).load(SeqCst);
    check!(cpu < 64, "{cpu}");
    check_err!(sys!(SYS_rseq, at, 32, 1, 1), EPERM);
    sys!(SYS_rseq, at, 32, 1, 0x5305_3053)?;
    check_err!(sys!(SYS_rseq, at, 32, 1, 0x5305_3053), EINVAL);
    Ok(())
}

fn thread_names() -> Outcome {
    let thread = std::thread::Builder::new().name("worker".into()).spawn(|| {
        let tid = tid();
        std::fs::read_to_string(format!("/proc/self/task/{tid}/comm"))
    })?;
    let Ok(name) = thread.join() else { return Err(Failure::new("panicked")) };
    check_eq!(name?, "worker\n");
    check!(slurp(c"/proc/self/comm")? != "worker\n");
    Ok(())
}

fn barrier_rounds() -> Outcome {
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let barrier = barrier.clone();
            std::thread::spawn(move || (0..100).filter(|_| barrier.wait().is_leader()).count())
        })
        .collect();
    check_eq!(threads.into_iter().map(|t| t.join().unwrap_or(0)).sum::<usize>(), 100);
    Ok(())
}

fn create_and_join_many() -> Outcome {
    for n in 0..500_u32 {
        check!(std::thread::spawn(move || n).join().is_ok_and(|v| v == n));
    }
    Ok(())
}

/// A second word that can be read but not written is an error, not a loop.
fn futex_wake_op_read_only() -> Outcome {
    let map = map_anon(4096)?;
    poke(map, 1);
    sys!(SYS_mprotect, map, 4096, PROT_READ)?;
    let wake_op = |addr2: usize| sys!(SYS_futex, map, FUTEX_WAKE_OP, 1, 1, addr2, 1 << 28 | 1 << 12);
    check_err!(wake_op(map), EFAULT);
    sys!(SYS_mprotect, map, 4096, PROT_READ | PROT_WRITE)?;
    wake_op(map)?;
    sys!(SYS_mprotect, map, 4096, PROT_NONE)?;
    check_err!(wake_op(map), EFAULT);
    Ok(())
}
