//! The operations of `io_uring(7)` on sockets, futexes and children.

use crate::prelude::*;
use crate::uring::*;

tests![
    futex_wait_and_wake,
    futex_vectors,
    children,
    socket_transfers,
    socket_messages,
    socket_multishot,
    socket_connections,
    zero_copy_is_refused,
];

const SENDMSG: u8 = 9;
const RECVMSG: u8 = 10;
const ACCEPT: u8 = 13;
const CONNECT: u8 = 16;
const SEND: u8 = 26;
const RECV: u8 = 27;
const SHUTDOWN: u8 = 34;
const SOCKET: u8 = 45;
const SEND_ZC: u8 = 47;
const WAITID: u8 = 50;
const FUTEX_WAIT: u8 = 51;
const FUTEX_WAKE: u8 = 52;
const FUTEX_WAITV: u8 = 53;
const BIND: u8 = 56;
const LISTEN: u8 = 57;
const FUTEX2_U32: i32 = 2;
const FUTEX2_PRIVATE: i32 = 128;
const WAKE_PRIVATE: i32 = 1 | 128;

fn futex_wait(at: usize, val: u64) -> Sqe {
    Sqe { addr3: u64::from(u32::MAX), ..sqe(FUTEX_WAIT, FUTEX2_U32 | FUTEX2_PRIVATE, at, 0, val) }
}

fn futex_wake(at: usize, count: u64) -> Sqe {
    Sqe { addr3: u64::from(u32::MAX), ..sqe(FUTEX_WAKE, FUTEX2_U32 | FUTEX2_PRIVATE, at, 0, count) }
}

fn futex_wait_and_wake() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let at = map_anon(4096)?;
    check_eq!(ring.res(futex_wait(at, 5))?, -EAGAIN);
    check_eq!(ring.res(futex_wake(at, 1))?, 0);
    for i in 1..=3 {
        ring.push(tagged(i, futex_wait(at, 0)));
    }
    check_eq!(ring.submit()?, 3);
    check_eq!(ring.ready(), 0);
    ring.push(tagged(9, futex_wake(at, 2)));
    ring.submit_wait(3)?;
    let woken = ring.collect(3)?;
    check_eq!(woken.iter().map(|c| (c.user_data, c.res)).collect::<Vec<_>>(), [(1, 0), (2, 0), (9, 2)]);
    // By the ordinary call.
    check_eq!(sys!(SYS_futex, at, WAKE_PRIVATE, 10, 0)?, 1);
    check_eq!(ring.wait()?.user_data, 3);
    ring.push(tagged(4, futex_wait(at, 0)));
    ring.push(Sqe { user_data: 5, ..sqe(14, -1, 4, 0, 0) });
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, 1]);
    check_eq!(ring.res(futex_wake(at, 1))?, 0);
    check_eq!(ring.res(Sqe { addr3: 0, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { fd: 64, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 1, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(futex_wait(at + 1, 0))?, -EINVAL);
    check_eq!(ring.res(futex_wait(16, 0))?, -EFAULT);
    Ok(())
}

fn futex_vectors() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let at = map_anon(4096)?;
    let flags = (FUTEX2_U32 | FUTEX2_PRIVATE) as u64;
    let words = [[0, at as u64, flags], [0, at as u64 + 4, flags], [0, at as u64 + 8, flags]];
    ring.push(tagged(1, sqe(FUTEX_WAITV, 0, addr(&words), 3, 0)));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    check_eq!(sys!(SYS_futex, at + 4, WAKE_PRIVATE, 10, 0)?, 1);
    check_eq!(ring.wait()?.res, 1);
    // It is gone from the others.
    check_eq!(sys!(SYS_futex, at + 8, WAKE_PRIVATE, 10, 0)?, 0);
    let other = [[7, at as u64, flags]];
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 1, 0))?, -EAGAIN);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 0, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 129, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, 16, 1, 0))?, -EFAULT);
    Ok(())
}

fn waitid(pid: i32, info: usize, options: i32) -> Sqe {
    Sqe { file_index: options as u32, ..sqe(WAITID, pid, 0, P_PID as usize, info as u64) }
}

fn children() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut info = [0_i32; 32];
    check_eq!(ring.res(waitid(getpid(), addr_mut(&mut info), WEXITED))?, -ECHILD);
    // One that ends while it is being waited for completes the request once.
    for _ in 0..100 {
        let child = fork(|| 7)?;
        check_eq!(ring.res(waitid(child, addr_mut(&mut info), WEXITED))?, 0);
        check_eq!((ring.ready(), info[4]), (0, child));
    }
    let child = fork(|| 7)?;
    check_eq!(ring.res(waitid(child, addr_mut(&mut info), WEXITED))?, 0);
    check_eq!((info[0], info[2], info[4], info[6]), (SIGCHLD, CLD_EXITED, child, 7));
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(ends[0], 1);
        3
    })?;
    check_eq!(ring.res(waitid(child, addr_mut(&mut info), WEXITED | WNOHANG))?, 0);
    ring.push(waitid(child, addr_mut(&mut info), WEXITED));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    write(ends[1], b"x")?;
    check_eq!(ring.wait()?.res, 0);
    check_eq!((info[2], info[4], info[6]), (CLD_EXITED, child, 3));
    check_err!(wait(child), ECHILD);
    check_eq!(ring.res(waitid(1, addr_mut(&mut info), 0))?, -EINVAL);
    Ok(())
}

fn pair(kind: i32) -> Result<[i32; 2], Errno> {
    let mut pair = [0_i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind, 0, addr_mut(&mut pair))?;
    Ok(pair)
}

fn socket_transfers() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, b] = pair(SOCK_STREAM)?;
    let mut buffer = [0_u8; 8];
    let recv = sqe(RECV, b, addr_mut(&mut buffer), 8, 0);
    ring.push(tagged(1, recv));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    ring.push(tagged(2, sqe(SEND, a, b"hello".as_ptr() as usize, 5, 0)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [5, 5]);
    check_eq!(&buffer[..5], b"hello");
    check_eq!(ring.res(Sqe { op_flags: MSG_DONTWAIT as u32, ..recv })?, -EAGAIN);
    // Polling first.
    ring.push(Sqe { ioprio: 1, ..recv });
    ring.submit()?;
    write(a, b"later")?;
    check_eq!(ring.wait()?.res, 5);
    let ends = pipe(0)?;
    check_eq!(ring.res(Sqe { fd: ends[0], ..recv })?, -ENOTSOCK);
    check_eq!(ring.res(Sqe { ioprio: 1 << 14, ..recv })?, -EINVAL);
    // The end is told without a signal.
    check_eq!(ring.res(sqe(SHUTDOWN, b, 0, SHUT_WR as usize, 0))?, 0);
    check_eq!(ring.res(sqe(RECV, a, addr_mut(&mut buffer), 8, 0))?, 0);
    close(b)?;
    check_eq!(ring.res(sqe(SEND, a, b"x".as_ptr() as usize, 1, 0))?, -EPIPE);
    check_eq!(ring.res(sqe(SHUTDOWN, a, 0, 9, 0))?, -EINVAL);
    Ok(())
}

fn socket_messages() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, b] = pair(SOCK_DGRAM)?;
    let mut parts = iov(&[(b"one".as_ptr() as usize, 3), (b"two".as_ptr() as usize, 3)]);
    let mut message: msghdr = zeroed();
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = 2;
    check_eq!(ring.res(sqe(SENDMSG, a, addr(&message), 1, 0))?, 6);
    let mut buffer = [0_u8; 4];
    let mut parts = iov(&[(addr_mut(&mut buffer), 4)]);
    let mut message: msghdr = zeroed();
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = 1;
    check_eq!(ring.res(sqe(RECVMSG, b, addr_mut(&mut message), 1, 0))?, 4);
    check_eq!(&buffer, b"onet");
    check_eq!(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
    ring.push(sqe(RECVMSG, b, addr_mut(&mut message), 1, 0));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    write(a, b"wake")?;
    check_eq!(ring.wait()?.res, 4);
    check_eq!(ring.res(sqe(RECVMSG, b, 16, 1, 0))?, -EFAULT);
    Ok(())
}

fn socket_multishot() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let memory = map_anon(4096)?;
    let [a, b] = pair(SOCK_DGRAM)?;
    check_eq!(ring.res(provide(memory, 256, 8, 1, 0))?, 0);
    let recv = Sqe { flags: SELECT, buf_index: 1, ioprio: 2, ..sqe(RECV, b, 0, 0, 0) };
    check_eq!(ring.res(Sqe { flags: 0, ..recv })?, -EINVAL);
    check_eq!(ring.res(Sqe { len: 5, ..recv })?, -EINVAL);
    ring.push(tagged(1, recv));
    ring.submit()?;
    for i in 0..3 {
        write(a, b"data")?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.res, cqe.flags & !4), (1, 4, 3 | i << 16));
    }
    ring.push(tagged(9, sqe(14, -1, 1, 0, 0)));
    ring.submit_wait(2)?;
    check_eq!(
        ring.collect(2)?.iter().map(|c| (c.res, c.flags & 2)).collect::<Vec<_>>(),
        [(-ECANCELED, 0), (0, 0)]
    );
    // With a header in the buffer.
    let mut message: msghdr = zeroed();
    message.msg_namelen = 8;
    let recvmsg = Sqe { flags: SELECT, buf_index: 1, ioprio: 2, ..sqe(RECVMSG, b, addr(&message), 1, 0) };
    ring.push(tagged(2, recvmsg));
    ring.submit()?;
    write(a, b"message")?;
    let cqe = ring.wait()?;
    check_eq!((cqe.user_data, cqe.res, cqe.flags & !4), (2, 16 + 8 + 7, 3 | 3 << 16));
    check_eq!((peek(memory + 3 * 256 + 8), peek(memory + 3 * 256 + 24)), (7, b'm'));
    Ok(())
}

fn socket_connections() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut name = [0_u8; 16];
    name[0] = AF_UNIX as u8;
    name[2..8].copy_from_slice(b"./sock");
    let socket = |kind: i32| sqe(SOCKET, AF_UNIX, 0, 0, kind as u64);
    let listener = ring.res(socket(SOCK_STREAM | SOCK_CLOEXEC))?;
    check!(listener >= 0);
    check_eq!(fcntl(listener, F_GETFD, 0)?, 1);
    check_eq!(ring.res(sqe(BIND, listener, addr(&name), 0, 9))?, 0);
    check_eq!(ring.res(sqe(LISTEN, listener, 0, 8, 0))?, 0);
    let accept = sqe(ACCEPT, listener, 0, 0, 0);
    ring.push(tagged(1, accept));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    let client = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)? as i32;
    let connect = sqe(CONNECT, client, addr(&name), 0, 9);
    ring.push(tagged(2, connect));
    ring.submit_wait(2)?;
    let both = ring.collect(2)?;
    check!(both[0].res >= 0);
    check_eq!(both[1].res, 0);
    write(client, b"hi")?;
    check_eq!(read_vec(both[0].res, 4)?, b"hi");
    check_eq!(ring.res(connect)?, -EISCONN);
    // Every connection, until it is cancelled.
    ring.push(tagged(3, Sqe { ioprio: 1, ..accept }));
    ring.submit()?;
    for _ in 0..2 {
        let client = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)? as i32;
        sys!(SYS_connect, client, addr(&name), 9)?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.flags), (3, 2));
        check!(cqe.res >= 0);
    }
    ring.push(tagged(9, sqe(14, -1, 3, 0, 0)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?[0].res, -ECANCELED);
    check_eq!(ring.res(Sqe { ioprio: 2, ..accept })?, -EAGAIN);
    check_eq!(ring.res(Sqe { len: 1, ..accept })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 1, ..accept })?, -EINVAL);
    check_eq!(ring.res(Sqe { addr: 16, ..connect })?, -EFAULT);
    check_eq!(ring.res(sqe(SOCKET, 99, 0, 0, SOCK_STREAM as u64))?, -EAFNOSUPPORT);
    Ok(())
}

fn zero_copy_is_refused() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, _b] = pair(SOCK_STREAM)?;
    check_eq!(ring.res(sqe(SEND_ZC, a, b"x".as_ptr() as usize, 1, 0))?, -EOPNOTSUPP);
    Ok(())
}
