//! Waiting for System V semaphores: semop(2), semtimedop(2).

use crate::prelude::*;
use crate::sysv::{
    GETNCNT, GETPID, GETZCNT, SEM_UNDO, buffers, code, fresh, semctl, semget, semop, set, value, waiting,
};
use std::sync::atomic::Ordering::SeqCst;

tests![
    sem_waits_are_counted,
    sem_timeouts,
    sem_interrupted,
    sem_removed_while_waiting,
    sem_first_come_first_served,
    sem_complex_waiters,
];

fn sem_waits_are_counted() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    set(id, 1, 1)?;
    let children = [
        fork(|| code(semop(id, &[(0, -1, 0)])))?,
        fork(|| code(semop(id, &[(0, -3, 0)])))?,
        fork(|| code(semop(id, &[(1, 0, 0)])))?,
        // Held up at the second: it counts there only.
        fork(|| code(semop(id, &[(1, 1, 0), (0, -2, 0)])))?,
        fork(|| code(semop(id, &[(1, 0, 0), (0, 0, 0)])))?,
    ];
    check!(waiting(id, 0, 3));
    check!(eventually(|| semctl(id, 1, GETZCNT, 0) == Ok(2)));
    check_eq!(semctl(id, 1, GETNCNT, 0)?, 0);
    check_eq!(semctl(id, 0, GETZCNT, 0)?, 0);
    kill(children[0], SIGKILL)?;
    wait(children[0])?;
    check_eq!(semctl(id, 0, GETNCNT, 0)?, 2);
    set(id, 1, 0)?;
    for child in [children[2], children[4]] {
        check_eq!(wait_exit(child)?, 0);
    }
    semop(id, &[(0, 2, 0)])?;
    check_eq!(wait_exit(children[3])?, 0);
    check_eq!((value(id, 0), value(id, 1)), (0, 1));
    semctl(id, 0, IPC_RMID, 0)?;
    check_eq!(wait_exit(children[1])?, EIDRM);
    Ok(())
}

fn sem_timeouts() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 1, 0o600)?;
    let wait_for = |op: i16, sec: i64, nsec: i64| {
        let (ops, time) = (buffers(&[(0, op, 0)]), timespec { tv_sec: sec, tv_nsec: nsec });
        sys!(SYS_semtimedop, id, ops.as_ptr(), 1, addr(&time))
    };
    let started = std::time::Instant::now();
    check_err!(wait_for(-1, 0, 30_000_000), EAGAIN);
    check!(started.elapsed().as_millis() >= 30);
    check_eq!(semctl(id, 0, GETNCNT, 0)?, 0);
    check_err!(wait_for(-1, 0, 0), EAGAIN);
    check_err!(wait_for(-1, 0, 1_000_000_000), EINVAL);
    check_err!(wait_for(1, -1, 0), EINVAL);
    check_eq!(wait_for(0, 0, 0)?, 0);
    let ops = buffers(&[(0, 1, 0)]);
    check_err!(sys!(SYS_semtimedop, id, ops.as_ptr(), 1, 8), EFAULT);
    check_eq!(value(id, 0), 0);
    sys!(SYS_semtimedop, id, ops.as_ptr(), 1, 0)?;
    let child = fork(|| {
        sleep_ms(20);
        code(semop(id, &[(0, 5, 0)]))
    })?;
    wait_for(-6, 50, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

extern "C" fn ignore(_: i32) {}

/// Catches SIGUSR1 with a handler that restarts what can be restarted.
pub fn catch_restarting() -> Outcome {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = ignore as *const () as usize;
    action.sa_flags = SA_RESTART;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    Ok(())
}

fn sem_interrupted() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    catch_restarting()?;
    for ops in [&[(0, -1, 0)][..], &[(0, -1, 0), (1, -1, 0)]] {
        let child = fork(|| code(semop(id, ops)))?;
        check!(waiting(id, 0, 1));
        kill(child, SIGUSR1)?;
        check_eq!(wait_exit(child)?, EINTR);
        check_eq!(semctl(id, 0, GETNCNT, 0)?, 0);
    }
    let child = fork(|| code(semop(id, &[(0, -1, 0)])))?;
    check!(waiting(id, 0, 1));
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    check_eq!(semctl(id, 0, GETNCNT, 0)?, 0);
    Ok(())
}

fn sem_removed_while_waiting() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    set(id, 1, 1)?;
    let children = [
        fork(|| code(semop(id, &[(0, -1, 0)])))?,
        fork(|| code(semop(id, &[(0, -1, SEM_UNDO)])))?,
        fork(|| code(semop(id, &[(1, 0, 0)])))?,
        fork(|| code(semop(id, &[(0, -1, 0), (1, 1, 0)])))?,
        fork(|| code(semop(id, &[(1, 0, 0), (0, 0, 0)])))?,
    ];
    check!(waiting(id, 0, 3) && eventually(|| semctl(id, 1, GETZCNT, 0) == Ok(2)));
    semctl(id, 0, IPC_RMID, 0)?;
    for child in children {
        check_eq!(wait_exit(child)?, EIDRM);
    }
    Ok(())
}

fn sem_first_come_first_served() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 1, 0o600)?;
    let shared = map_shared(4096)?;
    let mut children = Vec::new();
    for number in 0..4 {
        children.push(fork(|| {
            let result = semop(id, &[(0, -1, 0)]);
            atomic(shared).fetch_add(1, SeqCst);
            code(result)
        })?);
        check!(waiting(id, 0, number + 1));
    }
    for (at, child) in children.iter().enumerate() {
        semop(id, &[(0, 1, 0)])?;
        // The operation is done for the one that came first, at once.
        check_eq!(value(id, 0), 0);
        check_eq!(semctl(id, 0, GETPID, 0)?, *child);
        check_eq!(wait_exit(*child)?, 0);
        check_eq!(atomic(shared).load(SeqCst) as usize, at + 1);
    }
    // Who wants more than there is does not hold up those behind it.
    let large = fork(|| code(semop(id, &[(0, -2, 0)])))?;
    check!(waiting(id, 0, 1));
    let small = fork(|| code(semop(id, &[(0, -1, 0)])))?;
    check!(waiting(id, 0, 2));
    semop(id, &[(0, 1, 0)])?;
    check_eq!(wait_exit(small)?, 0);
    semop(id, &[(0, 2, 0)])?;
    check_eq!(wait_exit(large)?, 0);
    check_eq!(value(id, 0), 0);
    Ok(())
}

fn sem_complex_waiters() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 3, 0o600)?;
    // Simple ones first, then one that wants two, then simple ones again.
    let first = fork(|| code(semop(id, &[(0, -1, 0)])))?;
    check!(waiting(id, 0, 1));
    let both = fork(|| code(semop(id, &[(0, -1, 0), (1, -1, 0)])))?;
    check!(waiting(id, 0, 2));
    let last = fork(|| code(semop(id, &[(0, -1, 0)])))?;
    check!(waiting(id, 0, 3));
    semop(id, &[(0, 1, 0)])?;
    check_eq!(wait_exit(first)?, 0);
    // Not possible for the one that wants two: the one behind it gets it.
    semop(id, &[(0, 1, 0)])?;
    check_eq!(wait_exit(last)?, 0);
    check_eq!(value(id, 0), 0);
    semop(id, &[(1, 1, 0)])?;
    check_eq!(semctl(id, 0, GETNCNT, 0)?, 1);
    semop(id, &[(0, 1, 0)])?;
    check_eq!(wait_exit(both)?, 0);
    check_eq!((value(id, 0), value(id, 1)), (0, 0));
    // One operation sets the next going, and that one the next.
    let chain = [
        fork(|| code(semop(id, &[(0, -1, 0), (1, 1, 0)])))?,
        fork(|| code(semop(id, &[(1, -1, 0), (2, 1, 0)])))?,
    ];
    check!(waiting(id, 0, 1) && waiting(id, 1, 1));
    semop(id, &[(0, 1, 0)])?;
    check_eq!((value(id, 0), value(id, 1), value(id, 2)), (0, 0, 1));
    for child in chain {
        check_eq!(wait_exit(child)?, 0);
    }
    // Waiting for zero of two, one of which an operation passes through.
    set(id, 0, 1)?;
    set(id, 1, 1)?;
    let zero = fork(|| code(semop(id, &[(0, 0, 0), (1, 0, 0), (2, -1, 0)])))?;
    check!(eventually(|| semctl(id, 0, GETZCNT, 0) == Ok(1)));
    set(id, 0, 0)?;
    check!(eventually(|| semctl(id, 1, GETZCNT, 0) == Ok(1)));
    check_eq!(semctl(id, 0, GETZCNT, 0)?, 0);
    semop(id, &[(1, -1, 0)])?;
    check_eq!(wait_exit(zero)?, 0);
    check_eq!(value(id, 2), 0);
    Ok(())
}
