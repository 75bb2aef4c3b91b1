//! Options of sockets, and who the peer is: `socket(7)`, `unix(7)`.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use crate::unix::{BAD, accept, connect, listener, option, pair, poll, receive, send, set_option, socket};
use crate::unix_control::words;
use std::time::Instant;

tests![
    timeouts,
    socket_options,
    option_errors,
    peer_credentials,
    peer_pidfd,
    peer_groups,
    peek_offset,
    low_water_mark,
    send_buffer_holds_messages,
    bytes_waiting,
];

fn socket_options() -> Outcome {
    let fd = socket(SOCK_STREAM)?;
    let bits = [SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_DONTROUTE, SO_DEBUG];
    for name in bits {
        check_eq!(option(fd, name)?, 0);
        set_option(fd, name, 5)?;
        check_eq!(option(fd, name)?, 1);
        set_option(fd, name, 0)?;
        check_eq!(option(fd, name)?, 0);
    }
    // Twice what was asked for, and never too little.
    set_option(fd, SO_SNDBUF, 20_000)?;
    check_eq!(option(fd, SO_SNDBUF)?, 40_000);
    set_option(fd, SO_SNDBUF, 1)?;
    check_eq!(option(fd, SO_SNDBUF)?, 4608);
    set_option(fd, SO_RCVBUF, 1)?;
    check_eq!(option(fd, SO_RCVBUF)?, 2304);
    set_option(fd, SO_SNDBUF, i32::MAX)?;
    // net.core.wmem_max, doubled.
    check!(option(fd, SO_SNDBUF)? >= 425_984);
    set_option(fd, SO_SNDBUFFORCE, 1_000_000)?;
    check_eq!(option(fd, SO_SNDBUF)?, 2_000_000);
    set_option(fd, SO_RCVBUFFORCE, 1_000_000)?;
    check_eq!(option(fd, SO_RCVBUF)?, 2_000_000);
    check_eq!(option(fd, SO_RCVLOWAT)?, 1);
    check_eq!(option(fd, SO_SNDLOWAT)?, 1);
    check_eq!(option(fd, SO_ERROR)?, 0);
    check_eq!(option(fd, SO_PRIORITY)?, 0);
    set_option(fd, SO_PRIORITY, 6)?;
    check_eq!(option(fd, SO_PRIORITY)?, 6);
    check_eq!(option(fd, SO_MARK)?, 0);
    set_option(fd, SO_MARK, 77)?;
    check_eq!(option(fd, SO_MARK)?, 77);
    check_eq!(option(fd, SO_PEEK_OFF)?, -1);
    let value = linger { l_onoff: 1, l_linger: 9 };
    sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, addr(&value), 8)?;
    let (mut got, mut len): (linger, i32) = (zeroed(), 8);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_LINGER, addr_mut(&mut got), addr_mut(&mut len))?;
    check_eq!((got.l_onoff, got.l_linger), (1, 9));
    let (mut cookie, mut len) = (0_u64, 8_i32);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, addr_mut(&mut cookie), addr_mut(&mut len))?;
    check!(cookie != 0);
    let status = crate::sysv::as_user(1000, || {
        let cases = [
            set_option(fd, SO_SNDBUFFORCE, 1) == Err(Errno(EPERM)),
            set_option(fd, SO_RCVBUFFORCE, 1) == Err(Errno(EPERM)),
            set_option(fd, SO_DEBUG, 1) == Err(Errno(EACCES)),
            set_option(fd, SO_PRIORITY, 7) == Err(Errno(EPERM)),
            set_option(fd, SO_PRIORITY, 6).is_ok(),
            set_option(fd, SO_MARK, 1) == Err(Errno(EPERM)),
        ];
        cases.iter().position(|good| !good).map_or(0, |index| index as i32 + 1)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn option_errors() -> Outcome {
    let fd = socket(SOCK_STREAM)?;
    let (mut value, mut len) = (0_i32, 4_i32);
    for name in [SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN, SO_PEERCRED, SO_SNDLOWAT, 9999] {
        check_err!(set_option(fd, name, 1), ENOPROTOOPT);
    }
    check_err!(option(fd, 9999), ENOPROTOOPT);
    check_err!(sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, addr_mut(&mut value), BAD), EFAULT);
    check_err!(sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, BAD, addr_mut(&mut len)), EFAULT);
    len = -1;
    check_err!(
        sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, addr_mut(&mut value), addr_mut(&mut len)),
        EINVAL
    );
    // As much of the value as there is room for.
    len = 1;
    value = -1;
    sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, addr_mut(&mut value), addr_mut(&mut len))?;
    check_eq!((value.to_ne_bytes(), len), ([1, 0xff, 0xff, 0xff], 1));
    len = 100;
    sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, addr_mut(&mut value), addr_mut(&mut len))?;
    check_eq!((value, len), (1, 4));
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, addr(&value), 3), EINVAL);
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, addr(&value), -1_i32), EINVAL);
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, BAD, 4), EFAULT);
    check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, addr(&value), 4), EINVAL);
    check_err!(set_option(9999, SO_REUSEADDR, 1), EBADF);
    check_err!(set_option(pipe(0)?[0], SO_REUSEADDR, 1), ENOTSOCK);
    check_err!(option(9999, SO_TYPE), EBADF);
    check_err!(option(pipe(0)?[0], SO_TYPE), ENOTSOCK);
    check_err!(sys!(SYS_setsockopt, fd, IPPROTO_TCP, 1, addr(&value), 4), EOPNOTSUPP);
    check_err!(
        sys!(SYS_getsockopt, fd, IPPROTO_TCP, 1, addr_mut(&mut value), addr_mut(&mut len)),
        EOPNOTSUPP
    );
    Ok(())
}

fn credentials_of(fd: i32) -> SysResult<Vec<i32>> {
    let (mut got, mut len) = ([0_u8; 12], 12_i32);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, got.as_mut_ptr(), addr_mut(&mut len))?;
    Ok(words(&got[..len as usize]))
}

fn peer_credentials() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    check_eq!(credentials_of(ends[0])?, [getpid(), 0, 0]);
    check_eq!(credentials_of(socket(SOCK_STREAM)?)?, [0, -1, -1]);
    let server = listener(SOCK_STREAM, b"s\0", 5)?;
    sys!(SYS_fchmodat, CWD, c"s".as_ptr(), 0o777)?;
    let hold = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_setresgid, 1001, 1001, 1001);
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let done = socket(SOCK_STREAM).and_then(|fd| {
            connect(fd, b"s\0")?;
            read_vec(hold[0], 1)?;
            credentials_of(fd)
        });
        // Who listened, not who accepted.
        i32::from(done != Ok(vec![parent(), 0, 0]))
    })?;
    let fd = accept(server)?;
    check_eq!(credentials_of(fd)?, [child, 1000, 1001]);
    write(hold[1], b"x")?;
    check_eq!(wait_exit(child)?, 0);
    // They stay those of the time of connecting.
    check_eq!(credentials_of(fd)?[1..], [1000, 1001]);
    Ok(())
}

fn parent() -> i32 {
    sys!(SYS_getppid).unwrap_or(0) as i32
}

fn peer_pidfd() -> Outcome {
    const SO_PEERPIDFD: i32 = 77;
    let ends = pair(SOCK_STREAM)?;
    let fd = option(ends[0], SO_PEERPIDFD)?;
    check!(slurp_fdinfo(fd)?.lines().any(|line| line == format!("Pid:\t{}", getpid())));
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_err!(option(socket(SOCK_STREAM)?, SO_PEERPIDFD), ENODATA);
    Ok(())
}

pub(crate) fn slurp_fdinfo(fd: i32) -> SysResult<String> {
    let path = std::ffi::CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    slurp(&path)
}

fn timeouts() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let ends = pair(kind)?;
        let limit = timeval { tv_sec: 0, tv_usec: 60_000 };
        for name in [SO_RCVTIMEO, SO_SNDTIMEO] {
            sys!(SYS_setsockopt, ends[0], SOL_SOCKET, name, addr(&limit), 16)?;
            let (mut got, mut len): (timeval, i32) = (zeroed(), 16);
            sys!(SYS_getsockopt, ends[0], SOL_SOCKET, name, addr_mut(&mut got), addr_mut(&mut len))?;
            check_eq!((got.tv_sec, got.tv_usec, len), (0, 60_000, 16));
        }
        let start = Instant::now();
        check_err!(receive(ends[0], 1, 0), EAGAIN);
        check!(start.elapsed().as_millis() >= 55);
        while send(ends[0], &[0; 4096], MSG_DONTWAIT).is_ok() {}
        let start = Instant::now();
        let result = loop {
            if let Err(error) = send(ends[0], &[0; 4096], 0) {
                break error;
            }
        };
        check_eq!(result, Errno(EAGAIN));
        check!(start.elapsed().as_millis() >= 55);
    }
    let server = listener(SOCK_STREAM, b"s\0", 0)?;
    let limit = timeval { tv_sec: 0, tv_usec: 60_000 };
    sys!(SYS_setsockopt, server, SOL_SOCKET, SO_RCVTIMEO, addr(&limit), 16)?;
    check_err!(accept(server), EAGAIN);
    let bad = timeval { tv_sec: 0, tv_usec: 1_000_000 };
    check_err!(sys!(SYS_setsockopt, server, SOL_SOCKET, SO_RCVTIMEO, addr(&bad), 16), EDOM);
    check_err!(sys!(SYS_setsockopt, server, SOL_SOCKET, SO_RCVTIMEO, addr(&limit), 8), EINVAL);
    check_err!(sys!(SYS_setsockopt, server, SOL_SOCKET, SO_RCVTIMEO, BAD, 16), EFAULT);
    Ok(())
}

fn bytes_waiting() -> Outcome {
    const SIOCOUTQ: u64 = 0x5411;
    let ends = pair(SOCK_STREAM)?;
    let waiting = |fd: i32, request: u64| -> SysResult<i32> {
        let mut count = -1_i32;
        sys!(SYS_ioctl, fd, request, addr_mut(&mut count))?;
        Ok(count)
    };
    check_eq!(waiting(ends[1], FIONREAD as u64)?, 0);
    check_eq!(waiting(ends[0], SIOCOUTQ)?, 0);
    write(ends[0], b"12345")?;
    write(ends[0], b"678")?;
    check_eq!(waiting(ends[1], FIONREAD as u64)?, 8);
    check!(waiting(ends[0], SIOCOUTQ)? >= 8);
    let ends = pair(SOCK_DGRAM)?;
    write(ends[0], b"12345")?;
    write(ends[0], b"678")?;
    // The next one's alone.
    check_eq!(waiting(ends[1], FIONREAD as u64)?, 5);
    let server = listener(SOCK_STREAM, b"s\0", 1)?;
    check_err!(waiting(server, FIONREAD as u64), EINVAL);
    check_err!(sys!(SYS_ioctl, ends[0], FIONREAD, BAD), EFAULT);
    Ok(())
}

fn peer_groups() -> Outcome {
    let status = in_child(|| {
        let groups = [7_u32, 100, 2000];
        let run = || -> SysResult<bool> {
            sys!(SYS_setgroups, 3, addr(&groups))?;
            let ends = pair(SOCK_STREAM)?;
            let (mut got, mut len) = ([0_u32; 8], 32_i32);
            sys!(SYS_getsockopt, ends[0], SOL_SOCKET, SO_PEERGROUPS, got.as_mut_ptr(), addr_mut(&mut len))?;
            let whole = len == 12 && got[..3] == groups;
            len = 8;
            let short = sys!(
                SYS_getsockopt,
                ends[0],
                SOL_SOCKET,
                SO_PEERGROUPS,
                got.as_mut_ptr(),
                addr_mut(&mut len)
            );
            let fresh = socket(SOCK_STREAM)?;
            let mut room = 32_i32;
            let none =
                sys!(SYS_getsockopt, fresh, SOL_SOCKET, SO_PEERGROUPS, got.as_mut_ptr(), addr_mut(&mut room));
            Ok(whole && short == Err(Errno(ERANGE)) && len == 12 && none == Err(Errno(ENODATA)))
        };
        i32::from(run() != Ok(true))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn peek_offset() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    check_eq!(option(ends[1], SO_PEEK_OFF)?, -1);
    write(ends[0], b"abcdef")?;
    write(ends[0], b"ghi")?;
    set_option(ends[1], SO_PEEK_OFF, 2)?;
    check_eq!(receive(ends[1], 3, MSG_PEEK)?, b"cde");
    check_eq!(option(ends[1], SO_PEEK_OFF)?, 5);
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"fghi");
    check_err!(receive(ends[1], 8, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
    // Receiving moves the offset along.
    check_eq!(receive(ends[1], 4, 0)?, b"abcd");
    check_eq!(option(ends[1], SO_PEEK_OFF)?, 5);
    set_option(ends[1], SO_PEEK_OFF, 0)?;
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"efghi");
    set_option(ends[1], SO_PEEK_OFF, -1)?;
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"efghi");
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"efghi");
    let ends = pair(SOCK_DGRAM)?;
    write(ends[0], b"abc")?;
    write(ends[0], b"defg")?;
    set_option(ends[1], SO_PEEK_OFF, 0)?;
    check_eq!(receive(ends[1], 2, MSG_PEEK)?, b"ab");
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"c");
    check_eq!(receive(ends[1], 8, MSG_PEEK)?, b"defg");
    check_err!(receive(ends[1], 8, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
    check_eq!(receive(ends[1], 8, 0)?, b"abc");
    check_eq!(option(ends[1], SO_PEEK_OFF)?, 4);
    Ok(())
}

fn low_water_mark() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    set_option(ends[1], SO_RCVLOWAT, 4)?;
    write(ends[0], b"ab")?;
    let child = fork(|| {
        sleep_ms(20);
        i32::from(write(ends[0], b"cd").is_err())
    })?;
    check_eq!(receive(ends[1], 8, 0)?, b"abcd");
    check_eq!(wait_exit(child)?, 0);
    // There is not so much to wait for.
    write(ends[0], b"x")?;
    check_eq!(receive(ends[1], 1, 0)?, b"x");
    write(ends[0], b"y")?;
    check_eq!(receive(ends[1], 8, MSG_DONTWAIT)?, b"y");
    Ok(())
}

fn send_buffer_holds_messages() -> Outcome {
    // As many as their memory allows, whatever the receiver's buffer is.
    let fill = |kind: i32, size: usize| -> SysResult<(usize, i16)> {
        let ends = pair(kind)?;
        set_option(ends[1], SO_RCVBUF, 1)?;
        let bytes = vec![0_u8; size];
        let mut count = 0;
        while send(ends[0], &bytes, MSG_DONTWAIT).is_ok() {
            count += 1;
        }
        Ok((count, poll(ends[0], POLLOUT)?))
    };
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let (small, ready) = fill(kind, 1)?;
        check_eq!(ready, 0);
        check!((150..400).contains(&small), "{small}");
        let (large, ready) = fill(kind, 20_000)?;
        check_eq!(ready, 0);
        check!((8..=11).contains(&large), "{large}");
    }
    // Three quarters have to be free before poll says so.
    let ends = pair(SOCK_STREAM)?;
    let mut count = 0;
    while send(ends[0], &[0; 4096], MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    receive(ends[1], 4096, 0)?;
    check_eq!(poll(ends[0], POLLOUT)?, 0);
    for _ in 0..count - count / 4 {
        receive(ends[1], 4096, 0)?;
    }
    check_eq!(poll(ends[0], POLLOUT)?, POLLOUT);
    Ok(())
}
