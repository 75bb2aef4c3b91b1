//! Control messages of unix sockets: `unix(7)` "Ancillary messages", `cmsg(3)`; files in flight.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use crate::unix::{
    BAD, address, control, fds_in, option, pair, receive, receive_with, rights, send, send_with, set_option,
};

tests![
    rights_travel,
    rights_limits,
    rights_truncated,
    credentials_travel,
    control_is_checked,
    many_messages,
    message_errors,
    sockets_in_flight_are_freed,
    reachable_sockets_stay,
    too_many_in_flight,
    rights_are_a_barrier,
    pidfd_of_the_sender,
    time_of_reception,
];

fn rights_travel() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let ends = pair(kind)?;
        let file = create(c"f", b"0123456789")?;
        check_eq!(send_with(ends[0], b"x", &rights(&[file, ends[0]]), 0)?, 1);
        seek(file, 4, SEEK_SET)?;
        close(file)?;
        let message = receive_with(ends[1], 8, 64, 0)?;
        check_eq!(message.data, b"x");
        check_eq!(message.flags, 0);
        let fds = fds_in(&message);
        check_eq!(fds.len(), 2);
        // The open file itself came: its offset is shared.
        check_eq!(read_vec(fds[0], 3)?, b"456");
        check_eq!(fcntl(fds[0], F_GETFD, 0)?, 0);
        send_with(ends[0], b"x", &rights(&[fds[0]]), 0)?;
        let message = receive_with(ends[1], 8, 64, MSG_CMSG_CLOEXEC)?;
        check_eq!(message.flags, MSG_CMSG_CLOEXEC);
        check_eq!(fcntl(fds_in(&message)[0], F_GETFD, 0)?, FD_CLOEXEC as usize);
        // A plain read drops them; a peek gives copies.
        send_with(ends[0], b"x", &rights(&[fds[0]]), 0)?;
        check_eq!(fds_in(&receive_with(ends[1], 8, 64, MSG_PEEK)?).len(), 1);
        check_eq!(fds_in(&receive_with(ends[1], 8, 64, 0)?).len(), 1);
        send_with(ends[0], b"x", &rights(&[fds[0]]), 0)?;
        check_eq!(read_vec(ends[1], 8)?, b"x");
    }
    // On a stream a message with descriptors is a bound: what follows it is not merged with it.
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"a")?;
    send_with(ends[0], b"b", &rights(&[ends[0]]), 0)?;
    write(ends[0], b"c")?;
    let first = receive_with(ends[1], 8, 64, 0)?;
    let second = if first.control.is_empty() { receive_with(ends[1], 8, 64, 0)? } else { first };
    check!(second.data.ends_with(b"b"), "{:?}", second.data);
    check_eq!(fds_in(&second).len(), 1);
    check_eq!(receive(ends[1], 8, 0)?, b"c");
    Ok(())
}

fn rights_limits() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    check_err!(send_with(ends[0], b"x", &rights(&[9999]), 0), EBADF);
    check_err!(send_with(ends[0], b"x", &rights(&[-1]), 0), EBADF);
    check_err!(send_with(ends[0], b"x", &rights(&[0; 254]), 0), EINVAL);
    send_with(ends[0], b"x", &rights(&[ends[0]; 253]), 0)?;
    check_eq!(fds_in(&receive_with(ends[1], 8, 2048, 0)?).len(), 253);
    // None at all is no control message.
    send_with(ends[0], b"x", &rights(&[]), 0)?;
    check_eq!(receive_with(ends[1], 8, 64, 0)?.control.len(), 0);
    let opath = open(c".", O_PATH, 0)?;
    send_with(ends[0], b"x", &rights(&[opath]), 0)?;
    let fd = fds_in(&receive_with(ends[1], 8, 64, 0)?)[0];
    check_err!(read_vec(fd, 1), EBADF);
    // No room in the table: the message comes, the descriptors do not.
    send_with(ends[0], b"x", &rights(&[ends[0]; 2]), 0)?;
    let status = in_child(|| {
        let limit = rlimit { rlim_cur: 3, rlim_max: 3 };
        let _ = c!(setrlimit(RLIMIT_NOFILE as _, &raw const limit));
        match receive_with(ends[1], 8, 64, 0) {
            Ok(message) if message.control.is_empty() && message.flags == MSG_CTRUNC => 0,
            Ok(message) => 1 + message.control.len() as i32,
            Err(Errno(errno)) => errno,
        }
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn rights_truncated() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    let (keep, gone) = (pipe(0)?, pipe(0)?);
    send_with(ends[0], b"x", &rights(&[keep[1], gone[1]]), 0)?;
    close(gone[1])?;
    // Room for one: the other is closed.
    let message = receive_with(ends[1], 8, 20, 0)?;
    check_eq!(fds_in(&message).len(), 1);
    check_eq!(message.flags, MSG_CTRUNC);
    check_eq!(read_vec(gone[0], 1)?, b"");
    send_with(ends[0], b"x", &rights(&[keep[1]]), 0)?;
    let message = receive_with(ends[1], 8, 0, 0)?;
    check_eq!((message.control.len(), message.flags), (0, MSG_CTRUNC));
    // Those in a message that nobody reads are closed with the socket.
    let last = pipe(0)?;
    send_with(ends[0], b"x", &rights(&[last[1]]), 0)?;
    close(last[1])?;
    close(ends[0])?;
    close(ends[1])?;
    check_eq!(read_vec(last[0], 1)?, b"");
    Ok(())
}

pub(crate) fn words(data: &[u8]) -> Vec<i32> {
    data.chunks_exact(4).map(|word| i32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn ucred_bytes(pid: i32, uid: i32, gid: i32) -> Vec<u8> {
    [pid, uid, gid].iter().flat_map(|id| id.to_ne_bytes()).collect()
}

fn credentials_travel() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let ends = pair(kind)?;
        check_eq!(option(ends[1], SO_PASSCRED)?, 0);
        set_option(ends[1], SO_PASSCRED, 1)?;
        check_eq!(option(ends[1], SO_PASSCRED)?, 1);
        send(ends[0], b"x", 0)?;
        let message = receive_with(ends[1], 8, 64, 0)?;
        check_eq!(message.control.len(), 1);
        check_eq!((message.control[0].0, message.control[0].1), (SOL_SOCKET, SCM_CREDENTIALS));
        check_eq!(words(&message.control[0].2), [getpid(), 0, 0]);
        // Named by the sender, who is privileged here.
        let mine = ucred_bytes(1, 11, 12);
        send_with(ends[0], b"x", &control(&[(SOL_SOCKET, SCM_CREDENTIALS, &mine)]), 0)?;
        check_eq!(words(&receive_with(ends[1], 8, 64, 0)?.control[0].2), [1, 11, 12]);
        // With descriptors: credentials first.
        send_with(ends[0], b"x", &rights(&[ends[0]]), 0)?;
        let kinds: Vec<i32> = receive_with(ends[1], 8, 96, 0)?.control.iter().map(|c| c.1).collect();
        check_eq!(kinds, [SCM_CREDENTIALS, SCM_RIGHTS]);
        // Too little room cuts it off.
        send(ends[0], b"x", 0)?;
        let message = receive_with(ends[1], 8, 20, 0)?;
        check_eq!(message.flags, MSG_CTRUNC);
        let status = crate::sysv::as_user(1000, || {
            let as_who = |pid, uid, gid| {
                send_with(
                    ends[0],
                    b"x",
                    &control(&[(SOL_SOCKET, SCM_CREDENTIALS, &ucred_bytes(pid, uid, gid))]),
                    0,
                )
            };
            let cases = [
                as_who(1, 1000, 1000) == Err(Errno(EPERM)),
                as_who(getpid(), 0, 1000) == Err(Errno(EPERM)),
                as_who(getpid(), 1000, 0) == Err(Errno(EPERM)),
                as_who(getpid(), 1000, 1000) == Ok(1),
            ];
            cases.iter().position(|good| !good).map_or(0, |index| index as i32 + 1)
        })?;
        check_eq!(status, 0);
        let missing = ucred_bytes(4_000_000, 0, 0);
        check_err!(send_with(ends[0], b"x", &control(&[(SOL_SOCKET, SCM_CREDENTIALS, &missing)]), 0), ESRCH);
    }
    Ok(())
}

fn control_is_checked() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    check_err!(send_with(ends[0], b"x", &control(&[(SOL_SOCKET, 99, b"1234")]), 0), EINVAL);
    // Another level is another protocol's.
    send_with(ends[0], b"x", &control(&[(SOL_SOCKET + 1, SCM_RIGHTS, b"1234")]), 0)?;
    check_err!(send_with(ends[0], b"x", &control(&[(SOL_SOCKET, SCM_CREDENTIALS, b"1234")]), 0), EINVAL);
    let mut long = rights(&[0]);
    long[0] = 200;
    check_err!(send_with(ends[0], b"x", &long, 0), EINVAL);
    let mut short = rights(&[0]);
    short[0] = 8;
    check_err!(send_with(ends[0], b"x", &short, 0), EINVAL);
    let mut header: msghdr = zeroed();
    header.msg_control = BAD as *mut _;
    header.msg_controllen = 24;
    check_err!(sys!(SYS_sendmsg, ends[0], addr(&header), 0), EFAULT);
    Ok(())
}

fn many_messages() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    let texts = [&b"one"[..], b"two!", b"three"];
    let vectors = texts.map(|text| iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() });
    let mut list: [mmsghdr; 3] = zeroed();
    for (entry, vector) in list.iter_mut().zip(&vectors) {
        entry.msg_hdr.msg_iov = std::ptr::from_ref(vector).cast_mut();
        entry.msg_hdr.msg_iovlen = 1;
    }
    check_eq!(sys!(SYS_sendmmsg, ends[0], list.as_mut_ptr(), 3, 0)?, 3);
    check_eq!(list.map(|entry| entry.msg_len), [3, 4, 5]);
    check_eq!(sys!(SYS_sendmmsg, ends[0], list.as_mut_ptr(), 0, 0)?, 0);
    check_err!(sys!(SYS_sendmmsg, ends[0], BAD, 1, 0), EFAULT);
    check_err!(sys!(SYS_sendmmsg, 9999, list.as_mut_ptr(), 1, 0), EBADF);
    check_err!(sys!(SYS_sendmmsg, pipe(0)?[0], list.as_mut_ptr(), 1, 0), ENOTSOCK);

    let mut space = [[0_u8; 8]; 4];
    let vectors: Vec<iovec> =
        space.iter_mut().map(|room| iovec { iov_base: room.as_mut_ptr().cast(), iov_len: 8 }).collect();
    let mut list: [mmsghdr; 4] = zeroed();
    for (entry, vector) in list.iter_mut().zip(&vectors) {
        entry.msg_hdr.msg_iov = std::ptr::from_ref(vector).cast_mut();
        entry.msg_hdr.msg_iovlen = 1;
    }
    check_eq!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 4, MSG_WAITFORONE, 0)?, 3);
    check_eq!(list.map(|entry| entry.msg_len), [3, 4, 5, 0]);
    check_eq!(&space[2][..5], b"three");
    check_err!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 4, MSG_DONTWAIT, 0), EAGAIN);
    for _ in 0..2 {
        write(ends[0], b"x")?;
    }
    check_eq!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 4, MSG_DONTWAIT, 0)?, 2);
    // The time is looked at when a message has come.
    write(ends[0], b"x")?;
    let mut limit = timespec { tv_sec: 0, tv_nsec: 0 };
    check_eq!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 4, 0, addr_mut(&mut limit))?, 1);
    write(ends[0], b"x")?;
    limit.tv_sec = 100;
    check_eq!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 1, 0, addr_mut(&mut limit))?, 1);
    check!(limit.tv_sec == 99 || limit.tv_sec == 100);
    limit.tv_nsec = -1;
    check_err!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 1, 0, addr_mut(&mut limit)), EINVAL);
    check_err!(sys!(SYS_recvmmsg, ends[1], list.as_mut_ptr(), 1, 0, BAD), EFAULT);
    check_err!(sys!(SYS_recvmmsg, 9999, list.as_mut_ptr(), 1, 0, 0), EBADF);
    Ok(())
}

fn message_errors() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    let mut header: msghdr = zeroed();
    check_err!(sys!(SYS_sendmsg, ends[0], BAD, 0), EFAULT);
    check_err!(sys!(SYS_recvmsg, ends[0], BAD, 0), EFAULT);
    header.msg_iovlen = 1025;
    check_err!(sys!(SYS_sendmsg, ends[0], addr(&header), 0), EMSGSIZE);
    check_err!(sys!(SYS_recvmsg, ends[0], addr(&header), 0), EMSGSIZE);
    header.msg_iovlen = 1;
    header.msg_iov = BAD as *mut _;
    check_err!(sys!(SYS_sendmsg, ends[0], addr(&header), 0), EFAULT);
    let name = address(b"x");
    header = zeroed();
    header.msg_name = name.as_ptr() as *mut _;
    header.msg_namelen = u32::MAX;
    check_err!(sys!(SYS_sendmsg, ends[0], addr(&header), 0), EINVAL);
    check_err!(sys!(SYS_sendmsg, 9999, addr(&header), 0), EBADF);
    check_err!(sys!(SYS_recvmsg, 9999, addr(&header), 0), EBADF);
    check_err!(sys!(SYS_sendmsg, pipe(0)?[0], addr(&header), 0), ENOTSOCK);
    check_err!(sys!(SYS_recvmsg, pipe(0)?[0], addr(&header), 0), ENOTSOCK);
    check_err!(sys!(SYS_sendto, ends[0], BAD, 8, 0, 0, 0), EFAULT);
    write(ends[0], b"abc")?;
    check_err!(sys!(SYS_recvfrom, ends[1], BAD, 8, 0, 0, 0), EFAULT);
    check_eq!(receive(ends[1], 8, 0)?, b"abc");
    check_err!(sys!(SYS_sendto, 9999, name.as_ptr(), 1, 0, 0, 0), EBADF);
    check_err!(sys!(SYS_recvfrom, pipe(0)?[0], name.as_ptr(), 1, 0, 0, 0), ENOTSOCK);
    Ok(())
}

fn sockets_in_flight_are_freed() -> Outcome {
    let canary = pipe(0)?;
    // Each end is in the other's queue, and so is the canary: nobody can ever receive them.
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let ends = pair(kind)?;
        send_with(ends[0], b"x", &rights(&[ends[0], canary[1]]), 0)?;
        send_with(ends[1], b"x", &rights(&[ends[1]]), 0)?;
        close(ends[0])?;
        close(ends[1])?;
    }
    close(canary[1])?;
    // Collecting begins when a socket is closed, or with another one sent.
    let mut event = pollfd { fd: canary[0], events: POLLIN, revents: 0 };
    let freed = eventually(|| {
        let _ = pair(SOCK_STREAM).and_then(|other| {
            send_with(other[0], b"x", &rights(&[other[1]]), 0)?;
            close(other[0])?;
            close(other[1])
        });
        let none = timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = sys!(SYS_ppoll, addr_mut(&mut event), 1, addr(&none), 0, 0);
        event.revents & POLLHUP != 0
    });
    check!(freed);
    Ok(())
}

fn reachable_sockets_stay() -> Outcome {
    // A pair that carries itself, held by a third that is open: it is not garbage, and all of it arrives.
    let holder = pair(SOCK_STREAM)?;
    let ends = pair(SOCK_STREAM)?;
    send_with(ends[0], b"0", &rights(&[ends[0]]), 0)?;
    send_with(ends[1], b"1", &rights(&[ends[1]]), 0)?;
    send_with(holder[0], b"h", &rights(&[ends[0], ends[1]]), 0)?;
    close(ends[0])?;
    close(ends[1])?;
    for _ in 0..20 {
        let other = pair(SOCK_DGRAM)?;
        send_with(other[0], b"x", &rights(&[other[0], other[1]]), 0)?;
        close(other[0])?;
        close(other[1])?;
    }
    sleep_ms(20);
    let fds = fds_in(&receive_with(holder[1], 8, 64, 0)?);
    check_eq!(fds.len(), 2);
    let again = receive_with(fds[1], 8, 64, 0)?;
    check_eq!(again.data, b"0");
    check_eq!(fds_in(&again).len(), 1);
    send(fds_in(&again)[0], b"alive", 0)?;
    check_eq!(receive(fds[1], 8, 0)?, b"alive");
    check_eq!(receive_with(fds[0], 8, 64, 0)?.data, b"1");
    Ok(())
}

fn too_many_in_flight() -> Outcome {
    let status = crate::sysv::as_user(4242, || {
        let run = || -> SysResult<Vec<usize>> {
            // What earlier tests left open would be in the way.
            sys!(SYS_close_range, 3, u32::MAX, 0)?;
            let limit = rlimit { rlim_cur: 40, rlim_max: 40 };
            sys!(SYS_setrlimit, RLIMIT_NOFILE, addr(&limit))?;
            let ends = pair(SOCK_STREAM)?;
            let file = ends[0];
            let mut sent = 0;
            let error = loop {
                match send_with(ends[0], b"x", &rights(&[file]), MSG_DONTWAIT) {
                    Ok(_) => sent += 1,
                    Err(error) => break error.0 as usize,
                }
            };
            // What is received may be sent again.
            drop(receive_with(ends[1], 1, 64, 0)?);
            let again = send_with(ends[0], b"x", &rights(&[file]), MSG_DONTWAIT).is_ok();
            Ok(vec![sent, error, usize::from(again)])
        };
        match run() {
            Ok(got) if got == [41, ETOOMANYREFS as usize, 1] => 0,
            Ok(got) if got[0] != 41 => got[0].min(200) as i32,
            Ok(got) => 201 + i32::from(got[1] == ETOOMANYREFS as usize),
            Err(_) => 203,
        }
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn rights_are_a_barrier() -> Outcome {
    // As unix(7) shows it: what is received ends with the byte that the files came with.
    let ends = pair(SOCK_STREAM)?;
    send(ends[0], b"1234", 0)?;
    send_with(ends[0], b"5", &rights(&[ends[0]]), 0)?;
    send(ends[0], b"6789", 0)?;
    let first = receive_with(ends[1], 20, 64, MSG_PEEK)?;
    check_eq!((&first.data[..], fds_in(&first).len()), (&b"12345"[..], 1));
    let first = receive_with(ends[1], 20, 64, 0)?;
    check_eq!((&first.data[..], fds_in(&first).len()), (&b"12345"[..], 1));
    let second = receive_with(ends[1], 20, 64, 0)?;
    check_eq!((&second.data[..], fds_in(&second).len()), (&b"6789"[..], 0));
    Ok(())
}

const SO_PASSPIDFD: i32 = 76;
const SCM_PIDFD: i32 = 4;

fn pidfd_of_the_sender() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let ends = pair(kind)?;
        check_eq!(option(ends[1], SO_PASSPIDFD)?, 0);
        set_option(ends[1], SO_PASSPIDFD, 1)?;
        check_eq!(option(ends[1], SO_PASSPIDFD)?, 1);
        let child = fork(|| i32::from(send(ends[0], b"c", 0).is_err()))?;
        let message = receive_with(ends[1], 8, 64, 0)?;
        let [(level, SCM_PIDFD, data)] = &message.control[..] else {
            return Err(Failure::new(format!("{:?}", message.control)));
        };
        check_eq!((*level, data.len()), (SOL_SOCKET, 4));
        let fd = words(data)[0];
        check!(crate::unix_options::slurp_fdinfo(fd)?.lines().any(|line| line == format!("Pid:\t{child}")));
        check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
        check_eq!(wait_exit(child)?, 0);
        // No room: the message says so.
        send(ends[0], b"d", 0)?;
        let message = receive_with(ends[1], 8, 0, 0)?;
        check_eq!((message.flags & MSG_CTRUNC, &message.data[..]), (MSG_CTRUNC, &b"d"[..]));
    }
    let ends = pair(SOCK_STREAM)?;
    check_err!(send_with(ends[0], b"x", &control(&[(SOL_SOCKET, SCM_PIDFD, &[0; 4])]), 0), EINVAL);
    Ok(())
}

fn time_of_reception() -> Outcome {
    const SO_TIMESTAMPNS: i32 = 35;
    let ends = pair(SOCK_DGRAM)?;
    for (name, other, parts) in
        [(SO_TIMESTAMP, SO_TIMESTAMPNS, 1_000_000), (SO_TIMESTAMPNS, SO_TIMESTAMP, 1_000_000_000)]
    {
        set_option(ends[1], name, 1)?;
        check_eq!((option(ends[1], name)?, option(ends[1], other)?), (1, 0));
        send(ends[0], b"x", 0)?;
        let message = receive_with(ends[1], 8, 64, 0)?;
        check_eq!(message.control.len(), 1);
        let (level, type_, data) = &message.control[0];
        check_eq!((*level, *type_, data.len()), (SOL_SOCKET, name, 16));
        let mut now: timespec = zeroed();
        sys!(SYS_clock_gettime, CLOCK_REALTIME, addr_mut(&mut now))?;
        let word = |at: usize| data[at..at + 8].iter().rev().fold(0_i64, |n, byte| n << 8 | i64::from(*byte));
        check!((now.tv_sec - 60..=now.tv_sec).contains(&word(0)), "{} {}", word(0), now.tv_sec);
        check!((0..parts).contains(&word(8)));
    }
    set_option(ends[1], SO_TIMESTAMPNS, 0)?;
    send(ends[0], b"x", 0)?;
    check_eq!(receive_with(ends[1], 8, 64, 0)?.control.len(), 0);
    Ok(())
}
