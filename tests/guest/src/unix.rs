//! Sockets of the family `AF_UNIX`: `unix(7)`, `socket(7)`, `cmsg(3)`. Other families are only asked for where no kernel
//! under test has them.

use crate::prelude::*;
use crate::sys::Result as SysResult;

tests![
    kinds_and_their_errors,
    families_that_are_not_there,
    bind_makes_an_inode,
    bind_checks_addresses,
    abstract_names,
    autobind,
    names_of_both_ends,
    connect_errors,
    listen_and_backlog,
    accept_flags_and_errors,
    stream_is_bytes,
    stream_end_and_sigpipe,
    datagrams_keep_bounds,
    datagram_peers,
    seqpacket_keeps_records,
    peek_trunc_waitall,
    shutdown_halves,
    poll_states,
];

pub(crate) const BAD: usize = 1;

pub(crate) fn socket(kind: i32) -> SysResult<i32> {
    sys!(SYS_socket, AF_UNIX, kind, 0).map(|fd| fd as i32)
}

pub(crate) fn pair(kind: i32) -> SysResult<[i32; 2]> {
    let mut ends = [-1; 2];
    sys!(SYS_socketpair, AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    Ok(ends)
}

/// A `sockaddr_un`: what stands in `sun_path`, as it is.
pub(crate) fn address(path: &[u8]) -> Vec<u8> {
    let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(path);
    bytes
}

pub(crate) fn bind(fd: i32, path: &[u8]) -> SysResult<usize> {
    let name = address(path);
    sys!(SYS_bind, fd, name.as_ptr(), name.len())
}

pub(crate) fn connect(fd: i32, path: &[u8]) -> SysResult<usize> {
    let name = address(path);
    sys!(SYS_connect, fd, name.as_ptr(), name.len())
}

pub(crate) fn listener(kind: i32, path: &[u8], backlog: i32) -> SysResult<i32> {
    let fd = socket(kind)?;
    bind(fd, path)?;
    sys!(SYS_listen, fd, backlog)?;
    Ok(fd)
}

pub(crate) fn accept(fd: i32) -> SysResult<i32> {
    sys!(SYS_accept, fd, 0, 0).map(|fd| fd as i32)
}

/// The two ends of a connection through the listening socket `path`.
pub(crate) fn connected(kind: i32, path: &[u8]) -> SysResult<(i32, i32)> {
    let server = listener(kind, path, 5)?;
    let client = socket(kind)?;
    connect(client, path)?;
    let accepted = accept(server)?;
    close(server)?;
    Ok((client, accepted))
}

pub(crate) fn send(fd: i32, bytes: &[u8], flags: i32) -> SysResult<usize> {
    sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0)
}

pub(crate) fn send_to(fd: i32, bytes: &[u8], path: &[u8]) -> SysResult<usize> {
    let name = address(path);
    sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), MSG_NOSIGNAL, name.as_ptr(), name.len())
}

pub(crate) fn receive(fd: i32, room: usize, flags: i32) -> SysResult<Vec<u8>> {
    let mut buffer = vec![0; room];
    let count = sys!(SYS_recvfrom, fd, buffer.as_mut_ptr(), room, flags, 0, 0)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// What a call that fills in an address gave: the bytes, and the length it says the address has.
pub(crate) fn name_of(fd: i32, peer: bool) -> SysResult<(Vec<u8>, usize)> {
    let mut buffer = [0xee_u8; 128];
    let mut len = 128_i32;
    if peer {
        sys!(SYS_getpeername, fd, buffer.as_mut_ptr(), addr_mut(&mut len))?;
    } else {
        sys!(SYS_getsockname, fd, buffer.as_mut_ptr(), addr_mut(&mut len))?;
    }
    Ok((buffer[..len as usize].to_vec(), len as usize))
}

pub(crate) fn option(fd: i32, name: i32) -> SysResult<i32> {
    let (mut value, mut len) = (-1_i32, 4_i32);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, name, addr_mut(&mut value), addr_mut(&mut len))?;
    Ok(value)
}

pub(crate) fn set_option(fd: i32, name: i32, value: i32) -> SysResult<usize> {
    sys!(SYS_setsockopt, fd, SOL_SOCKET, name, addr(&value), 4)
}

pub(crate) fn poll(fd: i32, events: i16) -> SysResult<i16> {
    let mut list = pollfd { fd, events, revents: 0 };
    let none = timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(SYS_ppoll, addr_mut(&mut list), 1, addr(&none), 0, 0)?;
    Ok(list.revents)
}

/// Control messages, each aligned.
pub(crate) fn control(messages: &[(i32, i32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (level, kind, data) in messages {
        bytes.extend((16 + data.len() as u64).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

pub(crate) fn rights(fds: &[i32]) -> Vec<u8> {
    let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
    control(&[(SOL_SOCKET, SCM_RIGHTS, &data)])
}

pub(crate) fn send_with(fd: i32, bytes: &[u8], control: &[u8], flags: i32) -> SysResult<usize> {
    let vector = iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    let mut header: msghdr = zeroed();
    header.msg_iov = (&raw const vector).cast_mut();
    header.msg_iovlen = 1;
    header.msg_control = control.as_ptr() as *mut _;
    header.msg_controllen = control.len() as _;
    sys!(SYS_sendmsg, fd, addr(&header), flags)
}

/// What `recvmsg` gave.
pub(crate) struct Message {
    pub(crate) data: Vec<u8>,
    /// Level, type and data of each control message.
    pub(crate) control: Vec<(i32, i32, Vec<u8>)>,
    pub(crate) flags: i32,
}

pub(crate) fn receive_with(fd: i32, room: usize, control_room: usize, flags: i32) -> SysResult<Message> {
    let mut data = vec![0_u8; room];
    let mut space = vec![0_u64; control_room.div_ceil(8)];
    let vector = iovec { iov_base: data.as_mut_ptr().cast(), iov_len: room };
    let mut header: msghdr = zeroed();
    header.msg_iov = (&raw const vector).cast_mut();
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    header.msg_controllen = control_room as _;
    let count = sys!(SYS_recvmsg, fd, addr_mut(&mut header), flags)?;
    data.truncate(count);
    let bytes: Vec<u8> = space.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut rest = &bytes[..header.msg_controllen as usize];
    let mut control = Vec::new();
    let word = |bytes: &[u8], at: usize| {
        i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    while rest.len() >= 16 {
        let len = word(rest, 0) as usize;
        control.push((word(rest, 8), word(rest, 12), rest[16..len.min(rest.len())].to_vec()));
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok(Message { data, control, flags: header.msg_flags })
}

pub(crate) fn fds_in(message: &Message) -> Vec<i32> {
    let of = |data: &Vec<u8>| {
        data.chunks_exact(4).map(|fd| i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]])).collect::<Vec<_>>()
    };
    message.control.iter().filter(|c| c.1 == SCM_RIGHTS).flat_map(|c| of(&c.2)).collect()
}

fn kinds_and_their_errors() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = socket(kind | SOCK_CLOEXEC | SOCK_NONBLOCK)?;
        check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
        check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
        check_eq!(fstat(fd)?.st_mode & S_IFMT, S_IFSOCK);
        check_err!(seek(fd, 0, SEEK_SET), ESPIPE);
        check_eq!(option(fd, SO_TYPE)?, kind);
        check_eq!(option(fd, SO_DOMAIN)?, AF_UNIX);
        let fd = socket(kind)?;
        check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
        check_eq!(option(fd, SO_PROTOCOL)?, 0);
        let ends = pair(kind | SOCK_NONBLOCK | SOCK_CLOEXEC)?;
        check_eq!(fcntl(ends[1], F_GETFL, 0)? as i32 & O_NONBLOCK, O_NONBLOCK);
        check_eq!(fcntl(ends[0], F_GETFD, 0)?, FD_CLOEXEC as usize);
    }
    // A raw one becomes a datagram socket; the family's own number is a protocol.
    check_eq!(option(socket(SOCK_RAW)?, SO_TYPE)?, SOCK_DGRAM);
    sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 1)?;
    check_err!(sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 2), EPROTONOSUPPORT);
    check_err!(socket(SOCK_RDM), ESOCKTNOSUPPORT);
    check_err!(socket(0), ESOCKTNOSUPPORT);
    check_err!(socket(11), EINVAL);
    check_err!(socket(SOCK_STREAM | 0x100), EINVAL);
    let mut ends = [-1; 2];
    check_err!(sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 2, ends.as_mut_ptr()), EPROTONOSUPPORT);
    check_err!(sys!(SYS_socketpair, AF_UNIX, SOCK_RDM, 0, ends.as_mut_ptr()), ESOCKTNOSUPPORT);
    check_err!(sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM | 0x100, 0, ends.as_mut_ptr()), EINVAL);
    check_err!(sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD), EFAULT);
    let top = sys!(SYS_dup, 0)? as u64;
    let limit = rlimit { rlim_cur: top + 1, rlim_max: 4096 };
    c!(setrlimit(RLIMIT_NOFILE as _, &raw const limit))?;
    check_err!(sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr()), EMFILE);
    check_err!(socket(SOCK_STREAM), EMFILE);
    Ok(())
}

fn families_that_are_not_there() -> Outcome {
    let mut ends = [-1; 2];
    for family in [AF_UNSPEC, AF_APPLETALK, AF_ECONET, 46, 255, -1] {
        check_err!(sys!(SYS_socket, family, SOCK_STREAM, 0), EAFNOSUPPORT);
        check_err!(sys!(SYS_socketpair, family, SOCK_DGRAM, 0, ends.as_mut_ptr()), EAFNOSUPPORT);
    }
    Ok(())
}

fn bind_makes_an_inode() -> Outcome {
    sys!(SYS_umask, 0o027)?;
    let fd = socket(SOCK_STREAM)?;
    bind(fd, b"s\0")?;
    check_eq!(lstat(c"s")?.st_mode, S_IFSOCK | 0o750);
    check_err!(bind(fd, b"other\0"), EINVAL);
    check_err!(bind(socket(SOCK_STREAM)?, b"s\0"), EADDRINUSE);
    check_err!(open(c"s", O_RDWR, 0), ENXIO);
    // The name stays when the socket is closed, and nobody answers.
    close(fd)?;
    check_err!(connect(socket(SOCK_STREAM)?, b"s\0"), ECONNREFUSED);
    check_err!(bind(socket(SOCK_STREAM)?, b"s\0"), EADDRINUSE);
    unlink(c"s")?;
    let fd = socket(SOCK_DGRAM)?;
    // No NUL at the end is needed.
    bind(fd, b"s")?;
    check_eq!(name_of(fd, false)?.0, address(b"s\0"));
    // A renamed socket is found under its new name.
    sys!(SYS_renameat, CWD, c"s".as_ptr(), CWD, c"t".as_ptr())?;
    check_eq!(send_to(socket(SOCK_DGRAM)?, b"x", b"t\0")?, 1);
    check_err!(send_to(socket(SOCK_DGRAM)?, b"x", b"s\0"), ENOENT);
    Ok(())
}

fn bind_checks_addresses() -> Outcome {
    let fd = socket(SOCK_STREAM)?;
    let name = address(b"s\0");
    check_err!(sys!(SYS_bind, 9999, name.as_ptr(), name.len()), EBADF);
    check_err!(sys!(SYS_bind, pipe(0)?[0], name.as_ptr(), name.len()), ENOTSOCK);
    check_err!(sys!(SYS_bind, fd, BAD, name.len()), EFAULT);
    check_err!(sys!(SYS_bind, fd, name.as_ptr(), 1), EINVAL);
    check_err!(sys!(SYS_bind, fd, name.as_ptr(), -1_i32), EINVAL);
    check_err!(sys!(SYS_bind, fd, name.as_ptr(), 129), EINVAL);
    check_err!(bind(fd, &[b'x'; 109]), EINVAL);
    check_err!(bind(fd, b"no/s\0"), ENOENT);
    create(c"f", b"")?;
    check_err!(bind(fd, b"f/s\0"), ENOTDIR);
    let other = [AF_INET as u8, 0, b's', 0];
    check_err!(sys!(SYS_bind, fd, other.as_ptr(), 4), EINVAL);
    // The whole of sun_path without a NUL is a name.
    bind(fd, &[b'x'; 108])?;
    check_eq!(name_of(fd, false)?.1, 2 + 109);
    let status = crate::sysv::as_user(1000, || {
        let denied = socket(SOCK_STREAM).and_then(|fd| bind(fd, b"mine\0"));
        i32::from(denied != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn abstract_names() -> Outcome {
    let server = listener(SOCK_STREAM, b"\0unix-test-a\0b", 5)?;
    check_eq!(name_of(server, false)?.0, address(b"\0unix-test-a\0b"));
    check_err!(bind(socket(SOCK_STREAM)?, b"\0unix-test-a\0b"), EADDRINUSE);
    // Every byte counts, also NULs.
    check_err!(connect(socket(SOCK_STREAM)?, b"\0unix-test-a"), ECONNREFUSED);
    check_err!(connect(socket(SOCK_STREAM)?, b"\0unix-test-a\0b\0"), ECONNREFUSED);
    let client = socket(SOCK_STREAM)?;
    connect(client, b"\0unix-test-a\0b")?;
    // Other types have names of their own.
    let dgram = socket(SOCK_DGRAM)?;
    bind(dgram, b"\0unix-test-a\0b")?;
    close(server)?;
    check_err!(connect(socket(SOCK_STREAM)?, b"\0unix-test-a\0b"), ECONNREFUSED);
    bind(socket(SOCK_STREAM)?, b"\0unix-test-a\0b")?;
    Ok(())
}

fn autobind() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    bind(fd, b"")?;
    let (name, len) = name_of(fd, false)?;
    check_eq!(len, 8);
    check_eq!(name[2], 0);
    check!(name[3..].iter().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    // Once more changes nothing.
    bind(fd, b"")?;
    check_eq!(name_of(fd, false)?.0, name);
    let other = socket(SOCK_DGRAM)?;
    bind(other, b"")?;
    check!(name_of(other, false)?.0 != name);
    check_eq!(send_to(other, b"hi", &name[2..])?, 2);
    check_eq!(receive(fd, 8, 0)?, b"hi");
    // With SO_PASSCRED, connecting and sending give a name.
    let server = listener(SOCK_STREAM, b"auto\0", 5)?;
    let client = socket(SOCK_STREAM)?;
    set_option(client, SO_PASSCRED, 1)?;
    connect(client, b"auto\0")?;
    check_eq!(name_of(client, false)?.1, 8);
    let accepted = accept(server)?;
    check_eq!(name_of(accepted, true)?.0, name_of(client, false)?.0);
    let sender = socket(SOCK_DGRAM)?;
    set_option(sender, SO_PASSCRED, 1)?;
    send_to(sender, b"x", &name[2..])?;
    check_eq!(name_of(sender, false)?.1, 8);
    Ok(())
}

fn names_of_both_ends() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    check_eq!(name_of(ends[0], false)?.0, address(b""));
    check_eq!(name_of(ends[0], true)?.0, address(b""));
    let server = listener(SOCK_STREAM, b"s\0", 5)?;
    check_err!(name_of(server, true), ENOTCONN);
    let client = socket(SOCK_STREAM)?;
    bind(client, b"c\0")?;
    check_err!(name_of(client, true), ENOTCONN);
    connect(client, b"s\0")?;
    check_eq!(name_of(client, true)?.0, address(b"s\0"));
    let (mut name, mut len) = ([0_u8; 128], 128_i32);
    let accepted = sys!(SYS_accept, server, name.as_mut_ptr(), addr_mut(&mut len))? as i32;
    check_eq!(name[..len as usize], address(b"c\0"));
    check_eq!(name_of(accepted, true)?.0, address(b"c\0"));
    check_eq!(name_of(accepted, false)?.0, address(b"s\0"));
    // The address is cut off at the room there is; the length is the whole one's.
    let (mut name, mut len) = ([0xee_u8; 8], 3_i32);
    sys!(SYS_getsockname, accepted, name.as_mut_ptr(), addr_mut(&mut len))?;
    check_eq!((len, name[2], name[3]), (4, b's', 0xee));
    let mut negative = -1_i32;
    check_err!(sys!(SYS_getsockname, accepted, name.as_mut_ptr(), addr_mut(&mut negative)), EINVAL);
    check_err!(sys!(SYS_getsockname, accepted, name.as_mut_ptr(), BAD), EFAULT);
    len = 8;
    check_err!(sys!(SYS_getsockname, accepted, BAD, addr_mut(&mut len)), EFAULT);
    check_err!(sys!(SYS_getpeername, accepted, BAD, addr_mut(&mut len)), EFAULT);
    check_err!(sys!(SYS_getsockname, 9999, name.as_mut_ptr(), addr_mut(&mut len)), EBADF);
    check_err!(sys!(SYS_getpeername, pipe(0)?[0], name.as_mut_ptr(), addr_mut(&mut len)), ENOTSOCK);
    Ok(())
}

fn connect_errors() -> Outcome {
    let fd = socket(SOCK_STREAM)?;
    check_err!(connect(fd, b"none\0"), ENOENT);
    create(c"f", b"")?;
    check_err!(connect(fd, b"f\0"), ECONNREFUSED);
    check_err!(connect(fd, b"f/g\0"), ENOTDIR);
    check_err!(connect(fd, b""), EINVAL);
    let name = address(b"s\0");
    check_err!(sys!(SYS_connect, 9999, name.as_ptr(), name.len()), EBADF);
    check_err!(sys!(SYS_connect, pipe(0)?[0], name.as_ptr(), name.len()), ENOTSOCK);
    check_err!(sys!(SYS_connect, fd, BAD, name.len()), EFAULT);
    check_err!(sys!(SYS_connect, fd, name.as_ptr(), -1_i32), EINVAL);
    check_err!(sys!(SYS_connect, fd, name.as_ptr(), 129), EINVAL);
    let other = [AF_INET as u8, 0, b's', 0];
    check_err!(sys!(SYS_connect, fd, other.as_ptr(), 4), EINVAL);
    // Bound but not listening.
    let server = socket(SOCK_STREAM)?;
    bind(server, b"s\0")?;
    check_err!(connect(fd, b"s\0"), ECONNREFUSED);
    sys!(SYS_listen, server, 1)?;
    check_err!(connect(socket(SOCK_DGRAM)?, b"s\0"), EPROTOTYPE);
    check_err!(connect(socket(SOCK_SEQPACKET)?, b"s\0"), EPROTOTYPE);
    connect(fd, b"s\0")?;
    check_err!(connect(fd, b"s\0"), EISCONN);
    check_err!(connect(server, b"s\0"), EINVAL);
    check_err!(sys!(SYS_listen, fd, 1), EINVAL);
    sys!(SYS_fchmodat, CWD, c"s".as_ptr(), 0o755)?;
    let status = crate::sysv::as_user(1000, || {
        i32::from(socket(SOCK_STREAM).and_then(|fd| connect(fd, b"s\0")) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn listen_and_backlog() -> Outcome {
    check_err!(sys!(SYS_listen, socket(SOCK_STREAM)?, 1), EINVAL);
    check_err!(sys!(SYS_listen, socket(SOCK_DGRAM)?, 1), EOPNOTSUPP);
    check_err!(sys!(SYS_listen, 9999, 1), EBADF);
    check_err!(sys!(SYS_listen, pipe(0)?[0], 1), ENOTSOCK);
    let server = listener(SOCK_STREAM, b"s\0", 1)?;
    check_eq!(option(server, SO_ACCEPTCONN)?, 1);
    check_eq!(option(socket(SOCK_STREAM)?, SO_ACCEPTCONN)?, 0);
    let mut clients = Vec::new();
    loop {
        let client = socket(SOCK_STREAM | SOCK_NONBLOCK)?;
        match connect(client, b"s\0") {
            Ok(_) => clients.push(client),
            Err(Errno(EAGAIN)) => break,
            Err(error) => return Err(error.into()),
        }
        check!(clients.len() < 10);
    }
    check_eq!(clients.len(), 2);
    // A larger backlog has room at once.
    sys!(SYS_listen, server, 2)?;
    let client = socket(SOCK_STREAM | SOCK_NONBLOCK)?;
    connect(client, b"s\0")?;
    // One that waits gets in when there is room.
    let waiting = fork(|| {
        let done = socket(SOCK_STREAM).and_then(|fd| connect(fd, b"s\0"));
        i32::from(done.is_err())
    })?;
    sleep_ms(50);
    check_eq!(wait_options(waiting, WNOHANG)?.0, 0);
    accept(server)?;
    check_eq!(wait_exit(waiting)?, 0);
    // Connections nobody accepted end with the listener.
    close(server)?;
    check_err!(receive(clients[1], 1, 0), ECONNRESET);
    Ok(())
}

fn accept_flags_and_errors() -> Outcome {
    let server = listener(SOCK_STREAM | SOCK_NONBLOCK, b"s\0", 9)?;
    check_err!(accept(server), EAGAIN);
    let connect_one = || socket(SOCK_STREAM).and_then(|fd| connect(fd, b"s\0"));
    connect_one()?;
    check_err!(sys!(SYS_accept4, server, 0, 0, 1), EINVAL);
    let fd = sys!(SYS_accept4, server, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)? as i32;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_NONBLOCK, O_NONBLOCK);
    connect_one()?;
    // accept(2): the flags of the listener are not inherited.
    let fd = accept(server)?;
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_NONBLOCK, 0);
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    check_err!(accept(9999), EBADF);
    check_err!(accept(pipe(0)?[0]), ENOTSOCK);
    check_err!(accept(socket(SOCK_STREAM)?), EINVAL);
    check_err!(accept(socket(SOCK_DGRAM)?), EOPNOTSUPP);
    check_err!(accept(fd), EINVAL);
    // A bad address costs the connection.
    connect_one()?;
    check_err!(sys!(SYS_accept, server, BAD, BAD), EFAULT);
    // A client that is gone already is accepted all the same.
    let client = socket(SOCK_STREAM)?;
    connect(client, b"s\0")?;
    write(client, b"left")?;
    close(client)?;
    let fd = accept(server)?;
    check_eq!(receive(fd, 16, 0)?, b"left");
    check_eq!(receive(fd, 16, 0)?, b"");
    let waiting = fork(|| i32::from(fcntl(server, F_SETFL, 0).and_then(|_| accept(server)).is_err()))?;
    sleep_ms(30);
    connect_one()?;
    check_eq!(wait_exit(waiting)?, 0);
    Ok(())
}

fn stream_is_bytes() -> Outcome {
    let (client, server) = connected(SOCK_STREAM, b"s\0")?;
    check_eq!(write(client, b"one")?, 3);
    check_eq!(send(client, b"two", 0)?, 3);
    check_eq!(receive(server, 4, 0)?, b"onet");
    check_eq!(read_vec(server, 16)?, b"wo");
    check_err!(receive(server, 4, MSG_DONTWAIT), EAGAIN);
    check_eq!(send(client, b"", 0)?, 0);
    check_err!(receive(server, 4, MSG_DONTWAIT), EAGAIN);
    check_err!(send_to(client, b"x", b"s\0"), EISCONN);
    check_err!(send_to(socket(SOCK_STREAM)?, b"x", b"s\0"), EOPNOTSUPP);
    check_err!(send(socket(SOCK_STREAM)?, b"x", 0), ENOTCONN);
    check_err!(receive(socket(SOCK_STREAM)?, 1, 0), EINVAL);
    // Much goes through whole, in order.
    let all: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let child = fork(|| i32::from(write(client, &all) != Ok(all.len())))?;
    let mut got = Vec::new();
    while got.len() < all.len() {
        got.extend(receive(server, 50_000, 0)?);
    }
    check!(got == all);
    check_eq!(wait_exit(child)?, 0);
    // A full one does not block who does not want to.
    let filled = loop {
        if let Err(error) = send(client, &[0; 65536], MSG_DONTWAIT) {
            break error;
        }
    };
    check_eq!(filled, Errno(EAGAIN));
    Ok(())
}

fn stream_end_and_sigpipe() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"last")?;
    close(ends[0])?;
    check_eq!(receive(ends[1], 2, 0)?, b"la");
    check_eq!(receive(ends[1], 16, 0)?, b"st");
    check_eq!(receive(ends[1], 16, 0)?, b"");
    check_err!(send(ends[1], b"x", MSG_NOSIGNAL), EPIPE);
    check_eq!(in_child(|| send(ends[1], b"x", 0).map_or(1, |_| 2))?, -SIGPIPE);
    check_eq!(in_child(|| write(ends[1], b"x").map_or(1, |_| 2))?, -SIGPIPE);
    c!(signal(SIGPIPE, SIG_IGN))?;
    check_err!(write(ends[1], b"x"), EPIPE);
    // Closing with data unread resets.
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"unread")?;
    close(ends[1])?;
    check_err!(receive(ends[0], 1, 0), ECONNRESET);
    check_eq!(receive(ends[0], 1, 0)?, b"");
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"unread")?;
    close(ends[1])?;
    check_eq!(option(ends[0], SO_ERROR)?, ECONNRESET);
    check_eq!(option(ends[0], SO_ERROR)?, 0);
    // Packets raise no signal.
    c!(signal(SIGPIPE, SIG_DFL))?;
    let ends = pair(SOCK_SEQPACKET)?;
    close(ends[1])?;
    check_err!(send(ends[0], b"x", 0), EPIPE);
    let ends = pair(SOCK_DGRAM)?;
    close(ends[1])?;
    check_err!(send(ends[0], b"x", 0), ECONNREFUSED);
    Ok(())
}

fn datagrams_keep_bounds() -> Outcome {
    let server = socket(SOCK_DGRAM)?;
    bind(server, b"s\0")?;
    let client = socket(SOCK_DGRAM)?;
    check_eq!(send_to(client, b"one", b"s\0")?, 3);
    check_eq!(send_to(client, b"", b"s\0")?, 0);
    let mut from = [0_u8; 128];
    let mut buffer = [0_u8; 16];
    let mut take = |room: usize| -> SysResult<(Vec<u8>, Vec<u8>)> {
        let mut len = 128_i32;
        let count =
            sys!(SYS_recvfrom, server, buffer.as_mut_ptr(), room, 0, from.as_mut_ptr(), addr_mut(&mut len))?;
        Ok((buffer[..count].to_vec(), from[..len as usize].to_vec()))
    };
    check_eq!(take(16)?, (b"one".to_vec(), vec![]));
    check_eq!(take(16)?, (vec![], vec![]));
    bind(client, b"c\0")?;
    check_eq!(send_to(client, b"three", b"s\0")?, 5);
    check_eq!(take(3)?, (b"thr".to_vec(), address(b"c\0")));
    check_err!(receive(server, 1, MSG_DONTWAIT), EAGAIN);
    check_err!(send(client, b"x", 0), ENOTCONN);
    check_err!(send_to(client, b"x", b"none\0"), ENOENT);
    check_err!(send_to(client, b"x", b"\0unix-test-none"), ECONNREFUSED);
    check_err!(send_to(client, &vec![0; 1 << 20], b"s\0"), EMSGSIZE);
    close(server)?;
    check_err!(send_to(client, b"x", b"s\0"), ECONNREFUSED);
    let stream = socket(SOCK_STREAM)?;
    bind(stream, b"t\0")?;
    check_err!(send_to(client, b"x", b"t\0"), EPROTOTYPE);
    Ok(())
}

fn datagram_peers() -> Outcome {
    let server = socket(SOCK_DGRAM)?;
    bind(server, b"s\0")?;
    let client = socket(SOCK_DGRAM)?;
    bind(client, b"c\0")?;
    connect(client, b"s\0")?;
    check_eq!(send(client, b"default", 0)?, 7);
    check_eq!(receive(server, 16, 0)?, b"default");
    check_eq!(name_of(client, true)?.0, address(b"s\0"));
    // A connected one hears its peer only.
    check_err!(send_to(socket(SOCK_DGRAM)?, b"x", b"c\0"), EPERM);
    check_eq!(send_to(server, b"reply", b"c\0")?, 5);
    check_eq!(receive(client, 16, 0)?, b"reply");
    // It may be connected elsewhere, and let go.
    let other = socket(SOCK_DGRAM)?;
    bind(other, b"o\0")?;
    connect(client, b"o\0")?;
    send(client, b"x", 0)?;
    check_eq!(receive(other, 16, 0)?, b"x");
    let nobody = [0_u8; 2];
    sys!(SYS_connect, client, nobody.as_ptr(), 2)?;
    check_err!(send(client, b"x", 0), ENOTCONN);
    check_err!(name_of(client, true), ENOTCONN);
    // A full queue: only so many wait.
    let mut sent = 0;
    while send_to_now(socket(SOCK_DGRAM)?, b"x", b"o\0").is_ok() {
        sent += 1;
        check!(sent < 1000);
    }
    check_eq!(sent, 11);
    Ok(())
}

fn send_to_now(fd: i32, bytes: &[u8], path: &[u8]) -> SysResult<usize> {
    let name = address(path);
    let result = sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), MSG_DONTWAIT, name.as_ptr(), name.len());
    close(fd)?;
    result
}

fn seqpacket_keeps_records() -> Outcome {
    let (client, server) = connected(SOCK_SEQPACKET, b"s\0")?;
    write(client, b"first")?;
    write(client, b"second")?;
    let message = receive_with(server, 3, 0, 0)?;
    check_eq!(message.data, b"fir");
    check_eq!(message.flags & MSG_TRUNC, MSG_TRUNC);
    check_eq!(receive(server, 16, 0)?, b"second");
    // An address with a message does not matter here.
    check_eq!(send_to(client, b"x", b"nowhere\0")?, 1);
    check_eq!(receive(server, 16, 0)?, b"x");
    check_err!(send(socket(SOCK_SEQPACKET)?, b"x", 0), ENOTCONN);
    check_err!(receive(socket(SOCK_SEQPACKET)?, 1, 0), ENOTCONN);
    close(client)?;
    check_eq!(receive(server, 16, 0)?, b"");
    Ok(())
}

fn peek_trunc_waitall() -> Outcome {
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"abc")?;
    write(ends[0], b"def")?;
    check_eq!(receive(ends[1], 2, MSG_PEEK)?, b"ab");
    check_eq!(receive(ends[1], 16, MSG_PEEK)?, b"abcdef");
    let child = fork(|| {
        sleep_ms(50);
        i32::from(write(ends[0], b"ghi").is_err())
    })?;
    check_eq!(receive(ends[1], 9, MSG_WAITALL)?, b"abcdefghi");
    check_eq!(wait_exit(child)?, 0);
    write(ends[0], b"end")?;
    close(ends[0])?;
    check_eq!(receive(ends[1], 9, MSG_WAITALL)?, b"end");
    let ends = pair(SOCK_DGRAM)?;
    write(ends[0], b"whole")?;
    check_eq!(receive(ends[1], 2, MSG_PEEK)?, b"wh");
    let mut small = [0_u8; 2];
    check_eq!(sys!(SYS_recvfrom, ends[1], small.as_mut_ptr(), 2, MSG_PEEK | MSG_TRUNC, 0, 0)?, 5);
    check_eq!(sys!(SYS_recvfrom, ends[1], small.as_mut_ptr(), 2, MSG_TRUNC, 0, 0)?, 5);
    check_err!(receive(ends[1], 2, MSG_DONTWAIT), EAGAIN);
    check_err!(send(ends[0], b"x", MSG_OOB), EOPNOTSUPP);
    check_err!(receive(ends[1], 2, MSG_OOB), EOPNOTSUPP);
    Ok(())
}

fn shutdown_halves() -> Outcome {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        let ends = pair(kind)?;
        write(ends[0], b"before")?;
        sys!(SYS_shutdown, ends[0], SHUT_WR)?;
        check_err!(send(ends[0], b"x", MSG_NOSIGNAL), EPIPE);
        check_eq!(receive(ends[1], 16, 0)?, b"before");
        check_eq!(receive(ends[1], 16, 0)?, b"");
        write(ends[1], b"back")?;
        check_eq!(receive(ends[0], 16, 0)?, b"back");
        sys!(SYS_shutdown, ends[0], SHUT_RD)?;
        check_eq!(receive(ends[0], 16, 0)?, b"");
        check_err!(send(ends[1], b"x", MSG_NOSIGNAL), EPIPE);
        let ends = pair(kind)?;
        sys!(SYS_shutdown, ends[0], SHUT_RDWR)?;
        check_eq!(receive(ends[1], 16, 0)?, b"");
        check_err!(send(ends[1], b"x", MSG_NOSIGNAL), EPIPE);
    }
    let ends = pair(SOCK_DGRAM)?;
    sys!(SYS_shutdown, ends[0], SHUT_RD)?;
    check_err!(send(ends[1], b"x", MSG_NOSIGNAL), EPIPE);
    check_eq!(receive(ends[0], 16, 0)?, b"");
    check_err!(sys!(SYS_shutdown, ends[0], 3), EINVAL);
    check_err!(sys!(SYS_shutdown, ends[0], -1_i32), EINVAL);
    check_err!(sys!(SYS_shutdown, 9999, 0), EBADF);
    check_err!(sys!(SYS_shutdown, pipe(0)?[0], 0), ENOTSOCK);
    // Not connected: nothing to say, but allowed.
    sys!(SYS_shutdown, socket(SOCK_STREAM)?, SHUT_RDWR)?;
    // Someone who waits wakes up.
    let ends = pair(SOCK_STREAM)?;
    let child = fork(|| receive(ends[1], 1, 0).map_or(99, |got| got.len() as i32))?;
    sleep_ms(30);
    sys!(SYS_shutdown, ends[1], SHUT_RD)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn poll_states() -> Outcome {
    const ALL: i16 = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;
    let fresh = socket(SOCK_STREAM)?;
    check_eq!(poll(fresh, ALL)?, POLLOUT | POLLHUP);
    check_eq!(poll(socket(SOCK_DGRAM)?, ALL)?, POLLOUT);
    let server = listener(SOCK_STREAM, b"s\0", 5)?;
    check_eq!(poll(server, ALL)? & POLLIN, 0);
    connect(fresh, b"s\0")?;
    check_eq!(poll(server, ALL)? & POLLIN, POLLIN);
    let accepted = accept(server)?;
    check_eq!(poll(server, ALL)? & POLLIN, 0);
    check_eq!(poll(fresh, ALL)?, POLLOUT);
    write(fresh, b"x")?;
    check_eq!(poll(accepted, ALL)?, POLLIN | POLLOUT);
    receive(accepted, 1, 0)?;
    while send(fresh, &[0; 4096], MSG_DONTWAIT).is_ok() {}
    check_eq!(poll(fresh, ALL)?, 0);
    sys!(SYS_shutdown, fresh, SHUT_WR)?;
    check_eq!(poll(accepted, ALL)? & (POLLIN | POLLRDHUP | POLLHUP), POLLIN | POLLRDHUP);
    sys!(SYS_shutdown, accepted, SHUT_WR)?;
    check_eq!(poll(accepted, ALL)? & POLLHUP, POLLHUP);
    let ends = pair(SOCK_STREAM)?;
    close(ends[1])?;
    check_eq!(poll(ends[0], ALL)?, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    let ends = pair(SOCK_STREAM)?;
    write(ends[0], b"unread")?;
    close(ends[1])?;
    check_eq!(poll(ends[0], ALL)? & POLLERR, POLLERR);
    let ends = pair(SOCK_DGRAM)?;
    while send(ends[0], b"x", MSG_DONTWAIT).is_ok() {}
    check_eq!(poll(ends[0], POLLOUT)?, 0);
    // Room for one more message is not enough: most of the buffer has to be free.
    while receive(ends[1], 1, MSG_DONTWAIT).is_ok() {}
    check_eq!(poll(ends[0], POLLOUT)?, POLLOUT);
    Ok(())
}
