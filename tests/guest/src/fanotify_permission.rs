//! Fanotify events that wait for an answer: `FAN_OPEN_PERM` and relatives, the classes of groups.

use crate::fanotify::{DIRS, add, init, mark, masks, parse, touch};
use crate::prelude::*;

tests![
    fan_permission_answers,
    fan_permission_errors,
    fan_permission_release_and_kill,
    fan_permission_exec_and_access,
    fan_class_order,
];

/// Answers one permission event; its mask.
fn answer(fd: i32, response: u32) -> Result<Option<u64>, Errno> {
    let mut bytes = Vec::new();
    eventually(|| {
        bytes = read_vec(fd, 24).unwrap_or_default();
        !bytes.is_empty()
    });
    let Some(event) = parse(&bytes).pop() else { return Ok(None) };
    if event.fd >= 0 {
        let answer = [event.fd as u32, response];
        sys!(SYS_write, fd, addr(&answer), 8)?;
        close(event.fd)?;
    }
    Ok(Some(event.mask))
}

fn fan_permission_answers() -> Outcome {
    create(c"f", b"abc").and_then(close)?;
    let fd = init(FAN_CLASS_CONTENT)?;
    add(fd, FAN_OPEN_PERM | FAN_CLOSE, c"f")?;
    let opener = || fork(|| open(c"f", O_RDONLY, 0).err().map_or(0, |errno| errno.0));
    let child = opener()?;
    check_eq!(answer(fd, FAN_ALLOW)?, Some(FAN_OPEN_PERM));
    check_eq!(wait_exit(child)?, 0);
    check_eq!(masks(fd)?, [FAN_CLOSE_NOWRITE]);
    let child = opener()?;
    check_eq!(answer(fd, FAN_DENY)?, Some(FAN_OPEN_PERM));
    check_eq!(wait_exit(child)?, EPERM);
    // What was refused is never closed.
    check_eq!(masks(fd)?, []);
    Ok(())
}

fn fan_permission_errors() -> Outcome {
    create(c"f", b"abc").and_then(close)?;
    let fd = init(FAN_CLASS_CONTENT)?;
    add(fd, FAN_OPEN_PERM, c"f")?;
    let child = fork(|| open(c"f", O_RDONLY, 0).err().map_or(0, |errno| errno.0))?;
    let mut bytes = Vec::new();
    check!(eventually(|| {
        bytes = read_vec(fd, 24).unwrap_or_default();
        !bytes.is_empty()
    }));
    let event = parse(&bytes).remove(0);
    let respond = |file: i32, response: u32, len: usize| {
        let answer = [file as u32, response, 0, 0, 0, 0];
        sys!(SYS_write, fd, addr(&answer), len)
    };
    check_err!(respond(event.fd, FAN_ALLOW, 7), EINVAL);
    check_err!(respond(event.fd, 0, 8), EINVAL);
    check_err!(respond(event.fd, 3, 8), EINVAL);
    check_err!(respond(event.fd, FAN_ALLOW | 0x80, 8), EINVAL);
    // No audit was asked for.
    check_err!(respond(event.fd, FAN_ALLOW | FAN_AUDIT, 8), EINVAL);
    check_err!(respond(-1, FAN_ALLOW, 8), EINVAL);
    check_err!(respond(event.fd + 100, FAN_ALLOW, 8), ENOENT);
    check_err!(sys!(SYS_write, fd, 8, 8), EFAULT);
    // FAN_INFO wants a rule behind the answer.
    check_err!(respond(event.fd, FAN_ALLOW | 0x20, 8), EINVAL);
    check_err!(respond(event.fd, FAN_ALLOW | 0x20, 24), EINVAL);
    let rule = [-1_i32 as u32, FAN_ALLOW | 0x20, 1 | 16 << 16, 0, 0, 0];
    check_eq!(sys!(SYS_write, fd, addr(&rule), 24)?, 24);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    // What follows an answer is not looked at.
    check_eq!(respond(event.fd, FAN_ALLOW, 24)?, 8);
    check_eq!(wait_exit(child)?, 0);
    check_err!(respond(event.fd, FAN_ALLOW, 8), ENOENT);
    close(event.fd)?;
    Ok(())
}

fn fan_permission_release_and_kill() -> Outcome {
    create(c"f", b"abc").and_then(close)?;
    // Closing the group lets everybody go on: who was asked about, and who is queued.
    let fd = init(FAN_CLASS_CONTENT)?;
    add(fd, FAN_OPEN_PERM, c"f")?;
    let openers: Vec<i32> = (0..2)
        .map(|_| {
            fork(|| {
                let _ = close(fd);
                open(c"f", O_RDONLY, 0).err().map_or(0, |errno| errno.0)
            })
        })
        .collect::<Result<_, _>>()?;
    check!(eventually(|| {
        let mut queued = 0;
        let _ = sys!(SYS_ioctl, fd, FIONREAD, addr_mut(&mut queued));
        queued == 48
    }));
    let event = parse(&read_vec(fd, 24)?).remove(0);
    close(event.fd)?;
    for child in &openers {
        check_eq!(wait_options(*child, WNOHANG)?.0, 0);
    }
    close(fd)?;
    for child in openers {
        check_eq!(wait_exit(child)?, 0);
    }
    // A fatal signal ends the wait, others do not.
    let fd = init(FAN_CLASS_CONTENT)?;
    add(fd, FAN_OPEN_PERM, c"f")?;
    let child = fork(|| {
        let mut action: sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
        open(c"f", O_RDONLY, 0).err().map_or(0, |errno| errno.0)
    })?;
    let queued = || {
        let mut queued = 0;
        let _ = sys!(SYS_ioctl, fd, FIONREAD, addr_mut(&mut queued));
        queued
    };
    check!(eventually(|| queued() == 24));
    kill(child, SIGUSR1)?;
    sleep_ms(30);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    check_eq!(queued(), 0);
    Ok(())
}

extern "C" fn on_signal(_: i32) {}

fn fan_permission_exec_and_access() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"abc").and_then(close)?;
    std::fs::copy("/proc/self/exe", "prog")?;
    let fd = init(FAN_CLASS_CONTENT)?;
    add(fd, FAN_ACCESS_PERM, c"d/f")?;
    let child = fork(|| {
        let Ok(file) = open(c"d/f", O_RDONLY, 0) else { return 1 };
        let first = read_vec(file, 1) == Err(Errno(EPERM));
        i32::from(!(first && read_vec(file, 10) == Ok(b"abc".to_vec())))
    })?;
    check_eq!(answer(fd, FAN_DENY)?, Some(FAN_ACCESS_PERM));
    check_eq!(answer(fd, FAN_ALLOW)?, Some(FAN_ACCESS_PERM));
    check_eq!(wait_exit(child)?, 0);
    // Listing a directory is reading it.
    add(fd, FAN_ACCESS_PERM | DIRS, c"d")?;
    let child = fork(|| {
        let Ok(dir) = open(c"d", O_RDONLY, 0) else { return 1 };
        let mut buffer = [0_u64; 64];
        let list = sys!(SYS_getdents64, dir, addr_mut(&mut buffer), 512);
        i32::from(list != Err(Errno(EPERM)))
    })?;
    check_eq!(answer(fd, FAN_DENY)?, Some(FAN_ACCESS_PERM));
    check_eq!(wait_exit(child)?, 0);
    mark(fd, FAN_MARK_FLUSH, 0, c".")?;
    add(fd, FAN_OPEN_EXEC_PERM, c"prog")?;
    touch(c"prog")?;
    let run = || {
        fork(|| {
            let argv = [c"prog".as_ptr(), c"helper:args".as_ptr(), std::ptr::null()];
            sys!(SYS_execve, c"./prog".as_ptr(), addr(&argv), 0).err().map_or(0, |errno| errno.0)
        })
    };
    let child = run()?;
    check_eq!(answer(fd, FAN_DENY)?, Some(FAN_OPEN_EXEC_PERM));
    check_eq!(wait_exit(child)?, EPERM);
    let child = run()?;
    check_eq!(answer(fd, FAN_ALLOW)?, Some(FAN_OPEN_EXEC_PERM));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn fan_class_order() -> Outcome {
    create(c"f", b"abc").and_then(close)?;
    let notify = init(0)?;
    let content = init(FAN_CLASS_CONTENT)?;
    let before = init(FAN_CLASS_PRE_CONTENT)?;
    for fd in [notify, content, before] {
        add(fd, FAN_OPEN, c"f")?;
    }
    for fd in [content, before] {
        add(fd, FAN_OPEN_PERM, c"f")?;
    }
    let child = fork(|| open(c"f", O_RDONLY, 0).err().map_or(0, |errno| errno.0))?;
    check!(eventually(|| state(child) == Some('S') || state(child) == Some('D')));
    sleep_ms(20);
    // The one is not asked before the other has answered.
    check_err!(read_vec(content, 24), EAGAIN);
    check_eq!(answer(before, FAN_ALLOW)?, Some(FAN_OPEN_PERM));
    check_eq!(masks(notify)?, []);
    check_eq!(answer(content, FAN_DENY)?, Some(FAN_OPEN_PERM));
    check_eq!(wait_exit(child)?, EPERM);
    for fd in [notify, content, before] {
        check_eq!(masks(fd)?, []);
    }
    Ok(())
}
