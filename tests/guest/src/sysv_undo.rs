//! Adjustments of System V semaphores at exit: `SEM_UNDO` of semop(2).

use crate::prelude::*;
use crate::sysv::{GETPID, SEM_UNDO, SETALL, code, fresh, semctl, semget, semop, set, value, waiting};

tests![sem_undo_at_exit, sem_undo_is_cleared, sem_undo_shared, sem_undo_and_exec, sem_undo_range,];

fn sem_undo_at_exit() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    set(id, 0, 5)?;
    let child = in_child(|| code(semop(id, &[(0, -3, SEM_UNDO), (1, 4, SEM_UNDO)])))?;
    check_eq!(child, 0);
    check_eq!((value(id, 0), value(id, 1)), (5, 0));
    // Not those of a parent.
    semop(id, &[(0, -1, SEM_UNDO)])?;
    check_eq!(in_child(|| 0)?, 0);
    check_eq!(value(id, 0), 4);
    // Killed is as good, and the undo wakes others.
    let holder = fork(|| {
        let _ = semop(id, &[(0, -4, SEM_UNDO)]);
        sleep_ms(60_000);
        0
    })?;
    check!(eventually(|| value(id, 0) == 0));
    let waiter = fork(|| code(semop(id, &[(0, -4, 0)])))?;
    check!(waiting(id, 0, 1));
    kill(holder, SIGKILL)?;
    wait(holder)?;
    check_eq!(wait_exit(waiter)?, 0);
    // Only as far as it goes.
    let child = fork(|| {
        let _ = semop(id, &[(1, 6, SEM_UNDO)]);
        sleep_ms(60_000);
        0
    })?;
    check!(eventually(|| value(id, 1) == 6));
    semop(id, &[(1, -5, 0)])?;
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(value(id, 1), 0);
    check_eq!(semctl(id, 1, GETPID, 0)?, child);
    // What nets to nothing does nothing.
    in_child(|| code(semop(id, &[(1, 6, SEM_UNDO)]).and_then(|()| semop(id, &[(1, -6, SEM_UNDO)]))))?;
    check_eq!(value(id, 1), 0);
    Ok(())
}

fn sem_undo_is_cleared() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    for all in [false, true] {
        set(id, 0, 0)?;
        let go = pipe(0)?;
        let child = fork(|| {
            let done = semop(id, &[(0, 3, SEM_UNDO), (1, 1, SEM_UNDO)]);
            let _ = read_vec(go[0], 1);
            code(done)
        })?;
        check!(eventually(|| value(id, 0) == 3));
        if all {
            semctl(id, 0, SETALL, addr(&[9_u16, 9]))?;
        } else {
            set(id, 0, 9)?;
        }
        write(go[1], b"x")?;
        check_eq!(wait_exit(child)?, 0);
        check_eq!(value(id, 0), 9);
        check_eq!(value(id, 1), if all { 9 } else { 0 });
        close(go[0])?;
        close(go[1])?;
    }
    // Nothing is owed to a set that is gone.
    let child = in_child(|| {
        let done = semop(id, &[(0, 1, SEM_UNDO)]);
        code(done.and_then(|()| semctl(id, 0, IPC_RMID, 0)))
    })?;
    check_eq!(child, 0);
    Ok(())
}

/// `clone(flags)` like fork; `SIGCHLD` is added.
pub(crate) fn clone(flags: i32, body: impl FnOnce() -> i32) -> crate::sys::Result<i32> {
    match sys!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)? {
        0 => exit(body()),
        pid => Ok(pid as i32),
    }
}

fn sem_undo_shared() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 1, 0o600)?;
    set(id, 0, 5)?;
    // The middle process shares with its child: the child's debt is paid when both are gone.
    let go = pipe(0)?;
    let middle = fork(|| {
        let Ok(child) = clone(CLONE_SYSVSEM, || code(semop(id, &[(0, -2, SEM_UNDO)]))) else { return 98 };
        let status = wait_exit(child);
        let _ = read_vec(go[0], 1);
        if status == Ok(0) { 0 } else { 97 }
    })?;
    check!(eventually(|| value(id, 0) == 3));
    sleep_ms(20);
    check_eq!(value(id, 0), 3);
    write(go[1], b"x")?;
    check_eq!(wait_exit(middle)?, 0);
    check_eq!(value(id, 0), 5);
    // Threads share.
    let status = in_child(|| {
        let thread = std::thread::spawn(move || semop(id, &[(0, -2, SEM_UNDO)]).is_ok());
        let done = thread.join().unwrap_or(false);
        i32::from(!done || value(id, 0) != 3)
    })?;
    check_eq!((status, value(id, 0)), (0, 5));
    // Who leaves pays, if nobody else is left.
    let status = in_child(|| {
        let done = semop(id, &[(0, -1, SEM_UNDO)]).is_ok() && value(id, 0) == 4;
        let left = sys!(SYS_unshare, CLONE_SYSVSEM).is_ok();
        i32::from(!done || !left || value(id, 0) != 5)
    })?;
    check_eq!(status, 0);
    let both = CLONE_SYSVSEM | CLONE_NEWIPC;
    check_err!(clone(both, || 0), EINVAL);
    Ok(())
}

fn sem_undo_and_exec() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 1, 0o600)?;
    set(id, 0, 5)?;
    let child = fork(|| {
        let _ = semop(id, &[(0, -2, SEM_UNDO)]);
        let args = [c"guest".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), args.as_ptr(), 0);
        1
    })?;
    let name = format!("/proc/{child}/cmdline");
    check!(eventually(|| std::fs::read_to_string(&name).is_ok_and(|text| text.contains("helper:sleep"))));
    check_eq!(value(id, 0), 3);
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(value(id, 0), 5);
    Ok(())
}

fn sem_undo_range() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 1, 0o600)?;
    semop(id, &[(0, 32767, SEM_UNDO)])?;
    semop(id, &[(0, -32767, 0)])?;
    semop(id, &[(0, 1, SEM_UNDO)])?;
    // The adjustment has no room for more, and nothing of the whole is done.
    check_err!(semop(id, &[(0, 5, 0), (0, 1, SEM_UNDO)]), ERANGE);
    check_eq!(value(id, 0), 1);
    Ok(())
}
