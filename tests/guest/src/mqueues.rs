//! POSIX message queues beyond sending: mq_notify(3), mq_getattr(3).

use crate::prelude::*;

tests![
    a_signal_tells_of_a_message,
    one_registration_at_a_time,
    receivers_come_first,
    registrations_end_with_the_descriptor,
    notify_errors,
    attributes_of_a_queue,
    attribute_errors,
];

/// `struct mq_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Attr {
    flags: i64,
    maxmsg: i64,
    msgsize: i64,
    curmsgs: i64,
    reserved: [i64; 4],
}

/// `struct sigevent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Event {
    value: u64,
    signo: i32,
    notify: i32,
    pad: [u64; 6],
}

/// A new queue whose name is gone already.
fn queue(flags: i32) -> Result<i32, Errno> {
    let attr = Attr { maxmsg: 3, msgsize: 16, ..Attr::default() };
    let name = c"mqueues-test";
    let fd = sys!(SYS_mq_open, name.as_ptr(), O_RDWR | O_CREAT | O_EXCL | flags, 0o600, addr(&attr))?;
    sys!(SYS_mq_unlink, name.as_ptr())?;
    Ok(fd as i32)
}

fn notify(fd: i32, notify: i32, signo: i32, value: u64) -> Result<usize, Errno> {
    sys!(SYS_mq_notify, fd, addr(&Event { value, signo, notify, pad: [0; 6] }))
}

fn forget(fd: i32) -> Result<usize, Errno> {
    sys!(SYS_mq_notify, fd, 0)
}

fn send(fd: i32) -> Result<usize, Errno> {
    sys!(SYS_mq_timedsend, fd, b"text".as_ptr(), 4, 0, 0)
}

fn receive(fd: i32) -> Result<usize, Errno> {
    let mut buffer = [0_u8; 16];
    sys!(SYS_mq_timedreceive, fd, buffer.as_mut_ptr(), buffer.len(), 0, 0)
}

/// Takes a pending `SIGUSR1`, which the caller has blocked: code, pid, uid and value.
fn take() -> Result<(i32, i32, u32, u64), Errno> {
    let set = 1_u64 << (SIGUSR1 - 1);
    let zero: timespec = zeroed();
    let mut info = [0_u32; 32];
    sys!(SYS_rt_sigtimedwait, addr(&set), info.as_mut_ptr(), addr(&zero), 8)?;
    Ok((info[2] as i32, info[4] as i32, info[5], u64::from(info[6]) | u64::from(info[7]) << 32))
}

fn block() -> Result<usize, Errno> {
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&(1_u64 << (SIGUSR1 - 1))), 0, 8)
}

fn a_signal_tells_of_a_message() -> Outcome {
    block()?;
    let fd = queue(0)?;
    notify(fd, SIGEV_SIGNAL, SIGUSR1, 1 << 40 | 5)?;
    check_err!(take(), EAGAIN);
    let child = fork(|| i32::from(send(fd).is_err()))?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(take()?, (SI_MESGQ, child, 0, 1 << 40 | 5));
    // Once: and only a queue that was empty tells.
    send(fd)?;
    check_err!(take(), EAGAIN);
    notify(fd, SIGEV_SIGNAL, SIGUSR1, 0)?;
    send(fd)?;
    check_err!(take(), EAGAIN);
    for _ in 0..3 {
        receive(fd)?;
    }
    send(fd)?;
    check_eq!(take()?.0, SI_MESGQ);
    Ok(())
}

fn one_registration_at_a_time() -> Outcome {
    block()?;
    let fd = queue(0)?;
    notify(fd, SIGEV_NONE, 0, 0)?;
    check_err!(notify(fd, SIGEV_SIGNAL, SIGUSR1, 0), EBUSY);
    // Others can neither take its place nor remove it.
    let other = in_child(|| {
        let busy = notify(fd, SIGEV_SIGNAL, SIGUSR1, 0) == Err(Errno(EBUSY));
        i32::from(!busy) | i32::from(forget(fd).is_err()) << 1
    })?;
    check_eq!(other, 0);
    check_err!(notify(fd, SIGEV_SIGNAL, SIGUSR1, 0), EBUSY);
    forget(fd)?;
    forget(fd)?;
    notify(fd, SIGEV_SIGNAL, SIGUSR1, 3)?;
    forget(fd)?;
    send(fd)?;
    check_err!(take(), EAGAIN);
    receive(fd)?;
    // SIGEV_NONE is used up in silence.
    notify(fd, SIGEV_NONE, 0, 0)?;
    send(fd)?;
    notify(fd, SIGEV_SIGNAL, SIGUSR1, 3)?;
    check_err!(take(), EAGAIN);
    Ok(())
}

fn receivers_come_first() -> Outcome {
    block()?;
    let fd = queue(0)?;
    let child = fork(|| i32::from(receive(fd) != Ok(4)))?;
    check!(eventually(|| state(child) == Some('S')));
    sleep_ms(20);
    notify(fd, SIGEV_SIGNAL, SIGUSR1, 0)?;
    // The message goes to who waits: the registration stays.
    send(fd)?;
    check_eq!(wait_exit(child)?, 0);
    check_err!(take(), EAGAIN);
    check_err!(notify(fd, SIGEV_NONE, 0, 0), EBUSY);
    send(fd)?;
    check_eq!(take()?.0, SI_MESGQ);
    Ok(())
}

fn registrations_end_with_the_descriptor() -> Outcome {
    block()?;
    let fd = queue(0)?;
    let copy = sys!(SYS_dup, fd)? as i32;
    notify(copy, SIGEV_SIGNAL, SIGUSR1, 0)?;
    // Closing any descriptor of the process ends it.
    close(copy)?;
    send(fd)?;
    check_err!(take(), EAGAIN);
    receive(fd)?;
    let child = fork(|| i32::from(notify(fd, SIGEV_SIGNAL, SIGUSR1, 0).is_err()))?;
    check_eq!(wait_exit(child)?, 0);
    notify(fd, SIGEV_NONE, 0, 0)?;
    Ok(())
}

fn notify_errors() -> Outcome {
    let fd = queue(0)?;
    check_err!(notify(fd, 3, 0, 0), EINVAL);
    check_err!(notify(fd, SIGEV_THREAD_ID, SIGUSR1, 0), EINVAL);
    check_err!(notify(fd, SIGEV_SIGNAL, 65, 0), EINVAL);
    check_err!(notify(fd, SIGEV_SIGNAL, -1, 0), EINVAL);
    check_err!(notify(-1, SIGEV_SIGNAL, SIGUSR1, 0), EBADF);
    check_err!(forget(9999), EBADF);
    let [r, _w] = pipe(0)?;
    check_err!(notify(r, SIGEV_SIGNAL, SIGUSR1, 0), EBADF);
    check_err!(forget(r), EBADF);
    check_err!(sys!(SYS_mq_notify, fd, 8), EFAULT);
    // The C library's way: a cookie on a netlink socket.
    check_err!(notify(fd, SIGEV_THREAD, fd, 8), EFAULT);
    let cookie = [0_u8; 32];
    check_err!(notify(fd, SIGEV_THREAD, -1, addr(&cookie) as u64), EBADF);
    check_err!(notify(fd, SIGEV_THREAD, r, addr(&cookie) as u64), ENOTSOCK);
    Ok(())
}

fn attributes(fd: i32, new: Option<Attr>) -> Result<Attr, Errno> {
    let mut old = Attr::default();
    sys!(SYS_mq_getsetattr, fd, new.as_ref().map_or(0, addr), addr_mut(&mut old))?;
    Ok(old)
}

fn attributes_of_a_queue() -> Outcome {
    let fd = queue(0)?;
    let fresh = Attr { maxmsg: 3, msgsize: 16, ..Attr::default() };
    check_eq!(attributes(fd, None)?, fresh);
    send(fd)?;
    // Only the flag is taken, and the answer is what was before.
    let new = Attr { flags: i64::from(O_NONBLOCK), maxmsg: 9, msgsize: 9, curmsgs: 9, reserved: [9; 4] };
    check_eq!(attributes(fd, Some(new))?, Attr { curmsgs: 1, ..fresh });
    check_eq!(attributes(fd, None)?, Attr { flags: i64::from(O_NONBLOCK), curmsgs: 1, ..fresh });
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_NONBLOCK, O_NONBLOCK);
    receive(fd)?;
    check_err!(receive(fd), EAGAIN);
    // It belongs to the open file, and nothing need be asked.
    sys!(SYS_mq_getsetattr, sys!(SYS_dup, fd)?, addr(&fresh), 0)?;
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_NONBLOCK, 0);
    sys!(SYS_mq_getsetattr, fd, 0, 0)?;
    let fd = queue(O_NONBLOCK)?;
    check_eq!(attributes(fd, None)?.flags, i64::from(O_NONBLOCK));
    Ok(())
}

fn attribute_errors() -> Outcome {
    let fd = queue(0)?;
    for flags in [i64::from(O_APPEND), -1, i64::from(O_NONBLOCK) | 1 << 40] {
        check_err!(attributes(fd, Some(Attr { flags, ..Attr::default() })), EINVAL);
    }
    check_err!(attributes(-1, None), EBADF);
    check_err!(attributes(pipe(0)?[0], None), EBADF);
    check_err!(sys!(SYS_mq_getsetattr, fd, 8, 0), EFAULT);
    check_err!(sys!(SYS_mq_getsetattr, fd, 0, 8), EFAULT);
    Ok(())
}
