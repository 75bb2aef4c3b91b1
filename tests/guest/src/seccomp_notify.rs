//! Seccomp filters that ask a supervisor: `SECCOMP_RET_USER_NOTIF`, seccomp_unotify(2).

use crate::prelude::*;
use crate::seccomp::{
    ADDFD, ARCH, AddFd, ID_VALID, ID_VALID_OLD, NEW_LISTENER, Notif, RECV, RET_ALLOW, RET_USER_NOTIF, Resp,
    SEND, SET_FLAGS, WAIT_KILLABLE, all, errno_of, install, jeq, load, only, ret, under,
};

tests![
    notify_reply,
    notify_continue,
    notify_errors,
    notify_poll_and_order,
    notify_listener_closed,
    notify_target_dies,
    notify_signal_interrupts,
    notify_wait_killable,
    notify_addfd,
    notify_addfd_errors,
    notify_one_listener,
    notify_orphan,
];

/// A child under a listener, which it has sent here.
struct Supervised {
    child: i32,
    listener: i32,
}

/// Starts a child with a filter that asks about `getppid` (and `mkdirat`), and runs `body` in it.
fn supervise(flags: usize, body: impl FnOnce() -> i32) -> Result<Supervised, Failure> {
    let (there, back) = (pipe(0)?, pipe(0)?);
    let child = fork(|| {
        let insns = [
            load(0),
            jeq(SYS_getppid as u32, 1, 0),
            jeq(SYS_mkdirat as u32, 0, 1),
            ret(RET_USER_NOTIF),
            ret(RET_ALLOW),
        ];
        let Ok(fd) = install(NEW_LISTENER | flags, &insns) else { return 99 };
        let _ = write(there[1], &[fd as u8]);
        // The parent has its copy now.
        let _ = read_vec(back[0], 1);
        let _ = close(fd as i32);
        body()
    })?;
    let number = read_vec(there[0], 1)?;
    let number = i32::from(*number.first().ok_or_else(|| Failure::new("no listener"))?);
    let pidfd = sys!(SYS_pidfd_open, child, 0)? as i32;
    let listener = sys!(SYS_pidfd_getfd, pidfd, number, 0)? as i32;
    write(back[1], b"x")?;
    for fd in [there[0], there[1], back[0], back[1], pidfd] {
        close(fd)?;
    }
    Ok(Supervised { child, listener })
}

fn ioctl_at<T>(fd: i32, request: usize, at: &mut T) -> crate::sys::Result<usize> {
    sys!(SYS_ioctl, fd, request, addr_mut(at))
}

fn receive(fd: i32) -> crate::sys::Result<Notif> {
    let mut notif = Notif::default();
    ioctl_at(fd, RECV, &mut notif)?;
    Ok(notif)
}

fn send(fd: i32, resp: Resp) -> crate::sys::Result<usize> {
    let mut resp = resp;
    ioctl_at(fd, SEND, &mut resp)
}

fn poll_events(fd: i32) -> crate::sys::Result<i16> {
    let mut entry = pollfd { fd, events: POLLIN | POLLOUT, revents: 0 };
    let none = [0_i64; 2];
    sys!(SYS_ppoll, addr_mut(&mut entry), 1, addr(&none), 0, 8)?;
    Ok(entry.revents)
}

fn notify_reply() -> Outcome {
    let s = supervise(0, || {
        let value = sys!(SYS_getppid);
        let error = errno_of(sys!(SYS_mkdirat, CWD, c"made".as_ptr(), 0o755));
        all(&[value == Ok(1234), error == 88])
    })?;
    check_eq!(fcntl(s.listener, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDWR);
    let first = receive(s.listener)?;
    check_eq!((first.pid as i32, first.flags), (s.child, 0));
    check_eq!((first.data.nr, first.data.arch), (SYS_getppid as i32, ARCH));
    check!(first.data.ip != 0);
    send(s.listener, Resp { id: first.id, val: 1234, ..Resp::default() })?;
    let second = receive(s.listener)?;
    check_eq!((second.data.nr, second.data.args[2]), (SYS_mkdirat as i32, 0o755));
    check_eq!(second.id, first.id.wrapping_add(1));
    send(s.listener, Resp { id: second.id, error: -88, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 0);
    check_err!(stat(c"made"), ENOENT);
    Ok(())
}

fn notify_continue() -> Outcome {
    let s = supervise(0, || errno_of(sys!(SYS_mkdirat, CWD, c"made".as_ptr(), 0o755)))?;
    let notif = receive(s.listener)?;
    for (val, error) in [(1, 0), (0, -1)] {
        check_err!(send(s.listener, Resp { id: notif.id, val, error, flags: 1 }), EINVAL);
    }
    send(s.listener, Resp { id: notif.id, flags: 1, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 0);
    check!(stat(c"made").is_ok());
    Ok(())
}

fn notify_errors() -> Outcome {
    let s = supervise(0, || sys!(SYS_getppid).map_or(0, |v| v as i32))?;
    let fd = s.listener;
    check_err!(sys!(SYS_ioctl, fd, RECV, 16), EFAULT);
    check_err!(sys!(SYS_ioctl, fd, SEND, 16), EFAULT);
    check_err!(sys!(SYS_ioctl, fd, ID_VALID, 16), EFAULT);
    check_err!(sys!(SYS_ioctl, fd, 0x4008_2199_usize, 0), EINVAL);
    check_err!(read_vec(fd, 8), EINVAL);
    let mut dirty = Notif { flags: 1, ..Notif::default() };
    check_err!(ioctl_at(fd, RECV, &mut dirty), EINVAL);
    let mut id = 5_u64;
    check_err!(ioctl_at(fd, ID_VALID, &mut id), ENOENT);
    check_err!(send(fd, Resp { id: 5, ..Resp::default() }), ENOENT);
    check_err!(send(fd, Resp { id: 5, flags: 2, ..Resp::default() }), EINVAL);
    check_eq!(sys!(SYS_ioctl, fd, SET_FLAGS, 1)?, 0);
    check_eq!(sys!(SYS_ioctl, fd, SET_FLAGS, 0)?, 0);
    check_err!(sys!(SYS_ioctl, fd, SET_FLAGS, 2), EINVAL);
    let notif = receive(fd)?;
    id = notif.id;
    check_eq!(ioctl_at(fd, ID_VALID, &mut id)?, 0);
    check_eq!(ioctl_at(fd, ID_VALID_OLD, &mut id)?, 0);
    send(fd, Resp { id, val: 3, ..Resp::default() })?;
    // A second answer comes too late, whichever way it is noticed.
    let again = errno_of(send(fd, Resp { id, val: 3, ..Resp::default() }));
    check!(again == EINPROGRESS || again == ENOENT, "{again}");
    check_err!(ioctl_at(fd, ID_VALID, &mut id), ENOENT);
    check_eq!(wait_exit(s.child)?, 3);
    Ok(())
}

fn notify_poll_and_order() -> Outcome {
    let s = supervise(0, || {
        let other = fork(|| sys!(SYS_getppid).map_or(0, |v| v as i32)).unwrap_or(0);
        sleep_ms(50);
        let mine = sys!(SYS_getppid).map_or(0, |v| v as i32);
        all(&[wait_exit(other) == Ok(21), mine == 22])
    })?;
    let fd = s.listener;
    check!(eventually(|| poll_events(fd) == Ok(POLLIN)));
    let first = receive(fd)?;
    check!(first.pid as i32 != s.child);
    check!(eventually(|| poll_events(fd) == Ok(POLLIN | POLLOUT)));
    let second = receive(fd)?;
    check_eq!(second.pid as i32, s.child);
    check_eq!(poll_events(fd)?, POLLOUT);
    send(fd, Resp { id: second.id, val: 22, ..Resp::default() })?;
    send(fd, Resp { id: first.id, val: 21, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 0);
    Ok(())
}

fn notify_listener_closed() -> Outcome {
    let s = supervise(0, || {
        let first = errno_of(sys!(SYS_getppid));
        let second = errno_of(sys!(SYS_getppid));
        all(&[first == ENOSYS, second == ENOSYS])
    })?;
    let notif = receive(s.listener)?;
    check_eq!(notif.pid as i32, s.child);
    sleep_ms(20);
    close(s.listener)?;
    check_eq!(wait_exit(s.child)?, 0);
    // Without a listener from the start.
    check_eq!(under(&only(SYS_getppid, RET_USER_NOTIF), || errno_of(sys!(SYS_getppid)))?, ENOSYS);
    Ok(())
}

fn notify_target_dies() -> Outcome {
    let s = supervise(0, || sys!(SYS_getppid).map_or(0, |v| v as i32))?;
    let mut notif = receive(s.listener)?;
    kill(s.child, SIGKILL)?;
    check_eq!(wait_exit(s.child)?, -SIGKILL);
    check_err!(ioctl_at(s.listener, ID_VALID, &mut notif.id), ENOENT);
    check_err!(send(s.listener, Resp { id: notif.id, ..Resp::default() }), ENOENT);
    Ok(())
}

extern "C" fn nothing(_: c_int) {}

fn catch_usr1(flags: c_int) {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = nothing as *const () as usize;
    action.sa_flags = flags;
    let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
}

fn notify_signal_interrupts() -> Outcome {
    // Without SA_RESTART the call fails; the listener's answer finds nobody.
    let s = supervise(0, || {
        catch_usr1(0);
        errno_of(sys!(SYS_getppid))
    })?;
    let notif = receive(s.listener)?;
    kill(s.child, SIGUSR1)?;
    check_eq!(wait_exit(s.child)?, EINTR);
    check_err!(send(s.listener, Resp { id: notif.id, ..Resp::default() }), ENOENT);
    // With it the call asks again, under a new number.
    let s = supervise(0, || {
        catch_usr1(SA_RESTART);
        sys!(SYS_getppid).map_or(0, |v| v as i32)
    })?;
    let notif = receive(s.listener)?;
    kill(s.child, SIGUSR1)?;
    let again = receive(s.listener)?;
    check!(again.id != notif.id);
    send(s.listener, Resp { id: again.id, val: 44, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 44);
    Ok(())
}

fn notify_wait_killable() -> Outcome {
    let s = supervise(WAIT_KILLABLE, || {
        catch_usr1(0);
        sys!(SYS_getppid).map_or(0, |v| v as i32)
    })?;
    let notif = receive(s.listener)?;
    kill(s.child, SIGUSR1)?;
    sleep_ms(50);
    // The signal has to wait for the answer.
    send(s.listener, Resp { id: notif.id, val: 45, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 45);
    // A fatal one does not.
    let s = supervise(WAIT_KILLABLE, || sys!(SYS_getppid).map_or(0, |v| v as i32))?;
    let notif = receive(s.listener)?;
    kill(s.child, SIGKILL)?;
    check_eq!(wait_exit(s.child)?, -SIGKILL);
    check_err!(send(s.listener, Resp { id: notif.id, ..Resp::default() }), ENOENT);
    Ok(())
}

fn notify_addfd() -> Outcome {
    let file = create(c"given", b"hello")?;
    let s = supervise(0, || {
        // The answers are descriptors.
        let first = sys!(SYS_getppid).unwrap_or(99) as i32;
        let text = read_vec(first, 5);
        let cloexec = fcntl(first, F_GETFD, 0);
        let fixed = read_vec(77, 5);
        let plain = fcntl(77, F_GETFD, 0);
        let atomic = sys!(SYS_getppid).unwrap_or(99) as i32;
        let text2 = seek(atomic, 0, SEEK_SET).and_then(|_| read_vec(atomic, 2));
        all(&[
            text.as_deref() == Ok(b"hello"),
            cloexec == Ok(1),
            fixed.as_deref() == Ok(b""),
            plain == Ok(0),
            text2.as_deref() == Ok(b"he"),
        ])
    })?;
    let notif = receive(s.listener)?;
    let mut add =
        AddFd { id: notif.id, srcfd: file as u32, newfd_flags: O_CLOEXEC as u32, ..AddFd::default() };
    let fd = ioctl_at(s.listener, ADDFD, &mut add)?;
    let mut set = AddFd { id: notif.id, srcfd: file as u32, flags: 1, newfd: 77, newfd_flags: 0 };
    check_eq!(ioctl_at(s.listener, ADDFD, &mut set)?, 77);
    // What was there is replaced.
    check_eq!(ioctl_at(s.listener, ADDFD, &mut set)?, 77);
    send(s.listener, Resp { id: notif.id, val: fd as i64, ..Resp::default() })?;
    let notif = receive(s.listener)?;
    let mut both = AddFd { id: notif.id, srcfd: file as u32, flags: 2, ..AddFd::default() };
    let fd = ioctl_at(s.listener, ADDFD, &mut both)?;
    check!(fd > 2);
    // That was the answer.
    check!(errno_of(send(s.listener, Resp { id: notif.id, ..Resp::default() })) != 0);
    check_eq!(wait_exit(s.child)?, 0);
    Ok(())
}

fn notify_addfd_errors() -> Outcome {
    let file = create(c"given", b"hello")?;
    let s = supervise(0, || {
        let limit = rlimit { rlim_cur: 20, rlim_max: 20 };
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, addr(&limit), 0);
        sys!(SYS_getppid).map_or(0, |v| v as i32)
    })?;
    let good = AddFd { srcfd: file as u32, ..AddFd::default() };
    let early = |add: AddFd| {
        let mut add = add;
        ioctl_at(s.listener, ADDFD, &mut add)
    };
    check_err!(early(good), ENOENT);
    check_err!(early(AddFd { flags: 4, ..good }), EINVAL);
    check_err!(early(AddFd { newfd: 5, ..good }), EINVAL);
    check_err!(early(AddFd { newfd_flags: O_NONBLOCK as u32, ..good }), EINVAL);
    check_err!(early(AddFd { srcfd: 250, ..good }), EBADF);
    check_err!(sys!(SYS_ioctl, s.listener, ADDFD, 16), EFAULT);
    // The size is part of the number: too short, and longer with something in it.
    let mut short = good;
    check_err!(ioctl_at(s.listener, 0x4010_2103, &mut short), EINVAL);
    let mut longer = (good, 1_u64);
    check_err!(ioctl_at(s.listener, 0x4020_2103, &mut longer), E2BIG);
    longer.1 = 0;
    check_err!(ioctl_at(s.listener, 0x4020_2103, &mut longer), ENOENT);
    let notif = receive(s.listener)?;
    let good = AddFd { id: notif.id, ..good };
    // Beyond the limit of the child.
    check_err!(early(AddFd { flags: 1, newfd: 30, ..good }), EBADF);
    // With a failure the call is still to be answered.
    check_err!(early(AddFd { flags: 3, newfd: 30, ..good }), EBADF);
    send(s.listener, Resp { id: notif.id, val: 9, ..Resp::default() })?;
    check_eq!(wait_exit(s.child)?, 9);
    Ok(())
}

fn notify_one_listener() -> Outcome {
    let allow = [ret(RET_ALLOW)];
    let status = in_child(|| {
        let first = install(NEW_LISTENER, &allow).unwrap_or(0);
        let second = errno_of(install(NEW_LISTENER, &allow));
        let plain = install(0, &allow);
        let cloexec = fcntl(first as i32, F_GETFD, 0);
        let _ = close(first as i32);
        // A closed one does not count.
        all(&[second == EBUSY, plain == Ok(0), cloexec == Ok(1), install(NEW_LISTENER, &allow).is_ok()])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn notify_orphan() -> Outcome {
    let s = supervise(0, || 0)?;
    check_eq!(wait_exit(s.child)?, 0);
    // Nobody is left who could ask.
    check!(eventually(|| poll_events(s.listener).is_ok_and(|events| events & POLLHUP != 0)));
    check_err!(receive(s.listener), ENOENT);
    Ok(())
}
