//! Urgent data on unix stream sockets (`MSG_OOB`): one byte, its mark, and who is told: `send(2)`, `recv(2)`, `socket(7)`, `sockatmark(3)`,
//! `poll(2)`, `fcntl(2)`.

use crate::fcntl::taken;
use crate::prelude::*;
use crate::sys::Result as SysResult;
use crate::unix::{
    BAD, connected, pair, poll, receive, receive_with, rights, send, send_with, set_option, socket,
};

tests![
    urgent_byte_is_the_last_one,
    urgent_byte_is_passed_over,
    urgent_bytes_follow_each_other,
    urgent_byte_inline,
    mark,
    mark_errors,
    peeking_at_urgent_bytes,
    peeking_past_urgent_bytes,
    bytes_waiting_with_urgent_ones,
    polling_for_urgent_bytes,
    signal_for_urgent_bytes,
    chosen_signal_for_urgent_bytes,
    owner_by_ioctl,
    urgent_byte_with_files,
    urgent_errors,
    waiting_readers_pass_over_urgent_bytes,
    closing_with_urgent_bytes,
    wait_for_all_stops_at_the_mark,
    consumed_marks_do_not_pile_up,
];

const SIOCATMARK: usize = 0x8905;
const SIOCINQ: usize = 0x541b;
const FIOSETOWN: usize = 0x8901;
const SIOCSPGRP: usize = 0x8902;
const FIOGETOWN: usize = 0x8903;
const SIOCGPGRP: usize = 0x8904;

/// Blocks signals, to be taken with [`taken`].
fn take_signals(signals: &[i32]) -> SysResult<u64> {
    let set = signals.iter().fold(0_u64, |set, signal| set | 1 << (signal - 1));
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8)?;
    Ok(set)
}

fn number(fd: i32, request: usize) -> SysResult<i32> {
    let mut value = -1_i32;
    sys!(SYS_ioctl, fd, request, addr_mut(&mut value))?;
    Ok(value)
}

fn at_mark(fd: i32) -> SysResult<bool> {
    Ok(number(fd, SIOCATMARK)? == 1)
}

/// What is received now, or the error.
fn now(fd: i32, room: usize, flags: i32) -> SysResult<Vec<u8>> {
    receive(fd, room, flags | MSG_DONTWAIT)
}

fn urgent(fd: i32, flags: i32) -> SysResult<Vec<u8>> {
    now(fd, 8, MSG_OOB | flags)
}

fn urgent_byte_is_the_last_one() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    check_eq!(send(a, b"hello!", MSG_OOB)?, 6);
    check_eq!(urgent(b, 0)?, b"!");
    check_err!(urgent(b, 0), EINVAL);
    check_eq!(now(b, 10, 0)?, b"hello");
    check_err!(now(b, 10, 0), EAGAIN);
    // In flags of the message.
    send(a, b"x", MSG_OOB)?;
    let message = receive_with(b, 10, 0, MSG_OOB)?;
    check_eq!(message.data, b"x");
    check_eq!(message.flags & MSG_OOB, MSG_OOB);
    check_err!(now(b, 10, 0), EAGAIN);
    Ok(())
}

fn urgent_byte_is_passed_over() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"one!", MSG_OOB)?;
    send(a, b"two", 0)?;
    // A read ends before it; the next one passes over it, and it is gone.
    check_eq!(now(b, 10, 0)?, b"one");
    check_eq!(now(b, 10, 0)?, b"two");
    check_err!(urgent(b, 0), EINVAL);
    // Taken out of the middle, it still ends a read.
    send(a, b"one!", MSG_OOB)?;
    send(a, b"two", 0)?;
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(now(b, 10, 0)?, b"one");
    check_eq!(now(b, 10, 0)?, b"two");
    // Nothing but it: it is passed over, and there is nothing.
    send(a, b"!", MSG_OOB)?;
    check_err!(now(b, 10, 0), EAGAIN);
    check_err!(urgent(b, 0), EINVAL);
    Ok(())
}

fn urgent_bytes_follow_each_other() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    // The older becomes an ordinary byte.
    send(a, b"1", MSG_OOB)?;
    send(a, b"2", MSG_OOB)?;
    check_eq!(urgent(b, 0)?, b"2");
    check_eq!(now(b, 10, 0)?, b"1");
    check_err!(now(b, 10, 0), EAGAIN);
    send(a, b"ab1", MSG_OOB)?;
    send(a, b"cd2", MSG_OOB)?;
    send(a, b"ef", 0)?;
    check_eq!(now(b, 20, 0)?, b"ab1cd");
    check_eq!(now(b, 20, 0)?, b"ef");
    // One taken, then another.
    send(a, b"ab1", MSG_OOB)?;
    check_eq!(urgent(b, 0)?, b"1");
    send(a, b"cd2", MSG_OOB)?;
    send(a, b"ef", 0)?;
    check_eq!(now(b, 20, 0)?, b"abcd");
    check_eq!(urgent(b, 0)?, b"2");
    check_eq!(now(b, 20, 0)?, b"ef");
    Ok(())
}

fn urgent_byte_inline() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    set_option(b, SO_OOBINLINE, 1)?;
    send(a, b"one!", MSG_OOB)?;
    send(a, b"two", 0)?;
    check_err!(urgent(b, 0), EINVAL);
    check_eq!(now(b, 10, 0)?, b"one");
    check!(at_mark(b)?);
    check_eq!(now(b, 10, 0)?, b"!two");
    check!(!at_mark(b)?);
    // An older one is not special any more.
    send(a, b"1", MSG_OOB)?;
    send(a, b"2", MSG_OOB)?;
    check_eq!(now(b, 10, 0)?, b"1");
    check_eq!(now(b, 10, 0)?, b"2");
    // The option counts at the time of the read.
    send(a, b"x!", MSG_OOB)?;
    set_option(b, SO_OOBINLINE, 0)?;
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(now(b, 10, 0)?, b"x");
    Ok(())
}

fn mark() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    check!(!at_mark(b)?);
    send(a, b"ab!", MSG_OOB)?;
    check!(!at_mark(b)?);
    check_eq!(now(b, 1, 0)?, b"a");
    check!(!at_mark(b)?);
    check_eq!(now(b, 10, 0)?, b"b");
    check!(at_mark(b)?);
    // Reading the byte leaves the mark where it was.
    check_eq!(urgent(b, 0)?, b"!");
    check!(at_mark(b)?);
    send(a, b"cd", 0)?;
    check!(at_mark(b)?);
    check_eq!(now(b, 1, 0)?, b"c");
    check!(!at_mark(b)?);
    check_eq!(now(b, 1, 0)?, b"d");
    // A taken mark before a new one.
    send(a, b"1", MSG_OOB)?;
    check!(at_mark(b)?);
    check_eq!(urgent(b, 0)?, b"1");
    send(a, b"2", MSG_OOB)?;
    check!(at_mark(b)?);
    check_eq!(urgent(b, 0)?, b"2");
    check!(at_mark(b)?);
    // A taken mark, ordinary bytes, a new one.
    send(a, b"xy3", MSG_OOB)?;
    check!(!at_mark(b)?);
    check_eq!(now(b, 10, 0)?, b"xy");
    check!(at_mark(b)?);
    check_err!(now(b, 10, 0), EAGAIN);
    check!(!at_mark(b)?);
    Ok(())
}

fn mark_errors() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = socket(kind)?;
        if kind != SOCK_STREAM {
            check_err!(at_mark(fd), EOPNOTSUPP);
            continue;
        }
        check!(!at_mark(fd)?);
        check_err!(sys!(SYS_ioctl, fd, SIOCATMARK, BAD), EFAULT);
        let [a, b] = pair(kind)?;
        send(a, b"x", 0)?;
        check!(!at_mark(b)?);
    }
    check_err!(number(pipe(0)?[0], SIOCATMARK), ENOTTY);
    Ok(())
}

fn peeking_at_urgent_bytes() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"ab!", MSG_OOB)?;
    for _ in 0..2 {
        check_eq!(urgent(b, MSG_PEEK)?, b"!");
    }
    check_eq!(urgent(b, 0)?, b"!");
    check_err!(urgent(b, MSG_PEEK), EINVAL);
    check_eq!(now(b, 10, 0)?, b"ab");
    Ok(())
}

fn peeking_past_urgent_bytes() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"ab!", MSG_OOB)?;
    send(a, b"cd", 0)?;
    // A peek ends before it; one that begins there looks past it and leaves it.
    check_eq!(now(b, 10, MSG_PEEK)?, b"ab");
    check_eq!(now(b, 10, 0)?, b"ab");
    check_eq!(now(b, 10, MSG_PEEK)?, b"cd");
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(now(b, 10, MSG_PEEK)?, b"cd");
    check_eq!(now(b, 10, 0)?, b"cd");
    // Nothing but it.
    send(a, b"!", MSG_OOB)?;
    check_err!(now(b, 10, MSG_PEEK), EAGAIN);
    check_eq!(urgent(b, 0)?, b"!");
    check_err!(now(b, 10, MSG_PEEK), EAGAIN);
    // One that was taken from the middle.
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"ab!", MSG_OOB)?;
    send(a, b"cd", 0)?;
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(now(b, 10, MSG_PEEK)?, b"ab");
    send(a, b"?", MSG_OOB)?;
    check_eq!(now(b, 10, MSG_PEEK)?, b"abcd");
    check_eq!(now(b, 10, 0)?, b"abcd");
    // Inline.
    let [a, b] = pair(SOCK_STREAM)?;
    set_option(b, SO_OOBINLINE, 1)?;
    send(a, b"ab!", MSG_OOB)?;
    send(a, b"cd", 0)?;
    check_eq!(now(b, 10, MSG_PEEK)?, b"ab");
    check_eq!(now(b, 10, 0)?, b"ab");
    check_eq!(now(b, 10, MSG_PEEK)?, b"!cd");
    check!(at_mark(b)?);
    // With an offset.
    let [a, b] = pair(SOCK_STREAM)?;
    set_option(b, SO_PEEK_OFF, 1)?;
    send(a, b"ab!", MSG_OOB)?;
    send(a, b"cd", 0)?;
    check_eq!(now(b, 1, MSG_PEEK)?, b"b");
    check_eq!(now(b, 10, MSG_PEEK)?, b"!cd");
    Ok(())
}

fn bytes_waiting_with_urgent_ones() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"abc!", MSG_OOB)?;
    check_eq!(number(b, SIOCINQ)?, 4);
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(number(b, SIOCINQ)?, 3);
    check_eq!(now(b, 2, 0)?, b"ab");
    check_eq!(number(b, SIOCINQ)?, 1);
    check_eq!(now(b, 2, 0)?, b"c");
    check_eq!(number(b, SIOCINQ)?, 0);
    send(a, b"!", MSG_OOB)?;
    check_eq!(number(b, SIOCINQ)?, 1);
    // All messages of a socket that keeps their bounds, but the first of one without connections.
    let [a, b] = pair(SOCK_SEQPACKET)?;
    send(a, b"abc", 0)?;
    send(a, b"de", 0)?;
    check_eq!(number(b, SIOCINQ)?, 5);
    let [a, b] = pair(SOCK_DGRAM)?;
    send(a, b"abc", 0)?;
    send(a, b"de", 0)?;
    check_eq!(number(b, SIOCINQ)?, 3);
    Ok(())
}

fn polling_for_urgent_bytes() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    let all = POLLIN | POLLPRI | POLLRDHUP | POLLRDBAND;
    check_eq!(poll(b, all)?, 0);
    send(a, b"!", MSG_OOB)?;
    check_eq!(poll(b, all)?, POLLIN | POLLPRI);
    check_eq!(poll(a, all)?, 0);
    check_eq!(urgent(b, 0)?, b"!");
    // What is left of it still counts as something to read.
    check_eq!(poll(b, all)?, POLLIN);
    check_err!(now(b, 10, 0), EAGAIN);
    check_eq!(poll(b, all)?, 0);
    set_option(b, SO_OOBINLINE, 1)?;
    send(a, b"!", MSG_OOB)?;
    check_eq!(poll(b, all)?, POLLIN | POLLPRI);
    check_eq!(now(b, 10, 0)?, b"!");
    check_eq!(poll(b, all)?, 0);
    send(a, b"!", MSG_OOB)?;
    close(a)?;
    check_eq!(poll(b, all)?, POLLIN | POLLPRI | POLLRDHUP | POLLHUP);
    // Somebody who waits for it only.
    let [a, b] = pair(SOCK_STREAM)?;
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    let mut event = epoll_event { events: (EPOLLPRI | EPOLLET) as u32, u64: 7 };
    sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, b, addr_mut(&mut event))?;
    let child = fork(|| {
        sleep_ms(50);
        i32::from(send(a, b"!", MSG_OOB).is_err())
    })?;
    let mut got: epoll_event = zeroed();
    check_eq!(sys!(SYS_epoll_pwait, epoll, addr_mut(&mut got), 1, 10_000, 0, 8)?, 1);
    check_eq!(({ got.events } & EPOLLPRI as u32, { got.u64 }), (EPOLLPRI as u32, 7));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn signal_for_urgent_bytes() -> Outcome {
    let set = take_signals(&[SIGURG])?;
    let [a, b] = pair(SOCK_STREAM)?;
    // Nobody owns it.
    send(a, b"!", MSG_OOB)?;
    check_eq!(taken(set, 1)?.0, 0);
    sys!(SYS_fcntl, b, F_SETOWN, getpid())?;
    send(a, b"x", 0)?;
    check_eq!(taken(set, 1)?.0, 0);
    send(a, b"ab!", MSG_OOB)?;
    check_eq!(taken(set, 1000)?.0, SIGURG);
    check_eq!(taken(set, 1)?.0, 0);
    // The group; a process that is another's.
    let child = fork(|| {
        let _ = sys!(SYS_setpgid, 0, 0);
        let _ = sys!(SYS_fcntl, b, F_SETOWN, -getpid());
        let sent = send(a, b"!", MSG_OOB).is_ok();
        i32::from(!sent || taken(set, 1000).map(|t| t.0) != Ok(SIGURG))
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(taken(set, 1)?.0, 0);
    // The end of a named connection.
    let (client, server) = connected(SOCK_STREAM, b"s\0")?;
    sys!(SYS_fcntl, server, F_SETOWN, getpid())?;
    send(client, b"!", MSG_OOB)?;
    check_eq!(taken(set, 1000)?.0, SIGURG);
    sys!(SYS_fcntl, client, F_SETOWN, getpid())?;
    send(server, b"!", MSG_OOB)?;
    check_eq!(taken(set, 1000)?.0, SIGURG);
    Ok(())
}

fn chosen_signal_for_urgent_bytes() -> Outcome {
    let chosen = SIGRTMIN() + 1;
    let set = take_signals(&[SIGURG, SIGIO, chosen])?;
    let [a, b] = pair(SOCK_STREAM)?;
    sys!(SYS_fcntl, b, F_SETOWN, getpid())?;
    let flags = sys!(SYS_fcntl, b, F_GETFL)?;
    sys!(SYS_fcntl, b, F_SETFL, flags | O_ASYNC as usize)?;
    send(a, b"!", MSG_OOB)?;
    let mut seen = vec![taken(set, 1000)?.0, taken(set, 1000)?.0];
    seen.sort_unstable();
    check_eq!(seen, [SIGURG.min(SIGIO), SIGURG.max(SIGIO)]);
    check_eq!(taken(set, 1)?.0, 0);
    // With one that was chosen: that too, for urgent data and for data.
    sys!(SYS_fcntl, b, 10, chosen)?;
    send(a, b"!", MSG_OOB)?;
    check_eq!(taken(set, 1000)?.0, SIGURG);
    let codes = [taken(set, 1000)?, taken(set, 1000)?];
    check_eq!(codes.map(|t| t.0), [chosen; 2]);
    check_eq!(codes.map(|t| t.1), [POLL_PRI, POLL_IN]);
    check_eq!(taken(set, 1)?.0, 0);
    Ok(())
}

const POLL_IN: i32 = 1;
const POLL_PRI: i32 = 5;

fn owner_by_ioctl() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    check_eq!(number(b, FIOGETOWN)?, 0);
    for request in [FIOSETOWN, SIOCSPGRP] {
        let owner = getpid();
        sys!(SYS_ioctl, b, request, addr(&owner))?;
        check_eq!((number(b, FIOGETOWN)?, number(b, SIOCGPGRP)?), (owner, owner));
        check_eq!(sys!(SYS_fcntl, b, F_GETOWN)? as i32, owner);
        let group = -sys!(SYS_getpgid, 0).map(|id| id as i32)?;
        sys!(SYS_ioctl, b, request, addr(&group))?;
        check_eq!(number(b, SIOCGPGRP)?, group);
        let nobody = 0_i32;
        sys!(SYS_ioctl, b, request, addr(&nobody))?;
        check_eq!(number(b, SIOCGPGRP)?, 0);
        let missing = 0x3fff_ffff_i32;
        check_err!(sys!(SYS_ioctl, b, request, addr(&missing)), ESRCH);
        check_err!(sys!(SYS_ioctl, b, request, addr(&i32::MIN)), EINVAL);
        check_err!(sys!(SYS_ioctl, b, request, BAD), EFAULT);
        check_err!(sys!(SYS_ioctl, pipe(0)?[0], request, addr(&owner)), ENOTTY);
    }
    check_err!(sys!(SYS_ioctl, b, FIOGETOWN, BAD), EFAULT);
    check_err!(number(pipe(0)?[0], FIOGETOWN), ENOTTY);
    let set = take_signals(&[SIGURG])?;
    let owner = getpid();
    sys!(SYS_ioctl, b, SIOCSPGRP, addr(&owner))?;
    send(a, b"!", MSG_OOB)?;
    check_eq!(taken(set, 1000)?.0, SIGURG);
    Ok(())
}

fn urgent_byte_with_files() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    let file = pipe(0)?[0];
    // They go with the first byte, which is the ordinary one.
    send_with(a, b"a!", &rights(&[file]), MSG_OOB)?;
    let message = receive_with(b, 10, 64, MSG_OOB)?;
    check_eq!((message.data.as_slice(), message.control.len()), (&b"!"[..], 0));
    let message = receive_with(b, 10, 64, 0)?;
    check_eq!((message.data.as_slice(), message.control.len()), (&b"a"[..], 1));
    // With the urgent byte alone they are lost to a reader of it.
    send_with(a, b"!", &rights(&[file]), MSG_OOB)?;
    let message = receive_with(b, 10, 64, MSG_OOB)?;
    check_eq!((message.data.as_slice(), message.control.len()), (&b"!"[..], 0));
    check_err!(now(b, 10, 0), EAGAIN);
    set_option(b, SO_OOBINLINE, 1)?;
    send_with(a, b"!", &rights(&[file]), MSG_OOB)?;
    let message = receive_with(b, 10, 64, 0)?;
    check_eq!((message.data.as_slice(), message.control.len()), (&b"!"[..], 1));
    Ok(())
}

fn urgent_errors() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    check_err!(send(a, b"", MSG_OOB), EOPNOTSUPP);
    check_err!(urgent(b, 0), EINVAL);
    check_err!(urgent(socket(SOCK_STREAM)?, 0), EINVAL);
    check_err!(send(socket(SOCK_STREAM)?, b"!", MSG_OOB), ENOTCONN);
    check_err!(sys!(SYS_sendto, a, BAD, 1, MSG_OOB, 0, 0), EFAULT);
    check_err!(urgent(b, 0), EINVAL);
    // A bad buffer takes the byte all the same.
    send(a, b"!", MSG_OOB)?;
    check_err!(sys!(SYS_recvfrom, b, BAD, 1, MSG_OOB, 0, 0), EFAULT);
    check_err!(urgent(b, 0), EINVAL);
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let [a, b] = pair(kind)?;
        check_err!(send(a, b"x", MSG_OOB), EOPNOTSUPP);
        check_err!(urgent(b, 0), EOPNOTSUPP);
    }
    let [a, b] = pair(SOCK_STREAM)?;
    sys!(SYS_shutdown, b, SHUT_RD)?;
    check_err!(send(a, b"!", MSG_OOB | MSG_NOSIGNAL), EPIPE);
    let [a, b] = pair(SOCK_STREAM)?;
    close(b)?;
    check_err!(send(a, b"!", MSG_OOB | MSG_NOSIGNAL), EPIPE);
    check_err!(urgent(a, 0), EINVAL);
    Ok(())
}

fn waiting_readers_pass_over_urgent_bytes() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    let child = fork(|| {
        sleep_ms(50);
        let urgent = send(a, b"!", MSG_OOB).is_ok();
        sleep_ms(50);
        i32::from(!urgent || send(a, b"x", 0).is_err())
    })?;
    check_eq!(receive(b, 10, 0)?, b"x");
    check_eq!(wait_exit(child)?, 0);
    check_err!(urgent(b, 0), EINVAL);
    // A peek waits as well, and leaves it.
    let child = fork(|| {
        sleep_ms(50);
        let urgent = send(a, b"!", MSG_OOB).is_ok();
        sleep_ms(50);
        i32::from(!urgent || send(a, b"x", 0).is_err())
    })?;
    check_eq!(receive(b, 10, MSG_PEEK)?, b"x");
    check_eq!(wait_exit(child)?, 0);
    check_eq!(urgent(b, 0)?, b"!");
    Ok(())
}

fn closing_with_urgent_bytes() -> Outcome {
    // Unread, it resets the other end like any byte.
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"!", MSG_OOB)?;
    close(b)?;
    check_err!(now(a, 1, 0), ECONNRESET);
    // What is left of one that was read does not.
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"!", MSG_OOB)?;
    check_eq!(urgent(b, 0)?, b"!");
    close(b)?;
    check_eq!(now(a, 1, 0)?, b"");
    // It can be read after the sender is gone, and then the end.
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"x!", MSG_OOB)?;
    close(a)?;
    check_eq!(urgent(b, 0)?, b"!");
    check_eq!(now(b, 10, 0)?, b"x");
    check_eq!(now(b, 10, 0)?, b"");
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"!", MSG_OOB)?;
    close(a)?;
    check_eq!(now(b, 10, MSG_PEEK)?, b"");
    check_eq!(now(b, 10, 0)?, b"");
    check_err!(urgent(b, 0), EINVAL);
    Ok(())
}

fn wait_for_all_stops_at_the_mark() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    send(a, b"ab!", MSG_OOB)?;
    send(a, b"cdef", 0)?;
    check_eq!(receive(b, 6, MSG_WAITALL)?, b"ab");
    check_eq!(receive(b, 4, MSG_WAITALL)?, b"cdef");
    Ok(())
}

fn consumed_marks_do_not_pile_up() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    for _ in 0..100 {
        send(a, b"!", MSG_OOB)?;
        check_eq!(urgent(b, 0)?, b"!");
    }
    send(a, b"x", 0)?;
    check_eq!(now(b, 10, 0)?, b"x");
    check_err!(now(b, 10, 0), EAGAIN);
    Ok(())
}
