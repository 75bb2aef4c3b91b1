//! Making, naming and connecting sockets.

use abi::raw_sys::net;
use abi::socket::{AF_MAX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_TYPE_MASK};
use abi::{Errno, Result};
use alloc::sync::Arc;
use macros::syscall;
use mm::user::UserPtr;
use socket::{Family, Kind, Protocol, Shutdown, Socket};
use vfs::fdtable::Fd;
use vfs::file::File;

use super::address;
use super::sockfs::{SocketFile, install, make_file, socket_file};
use crate::fs::context::{Caller, fd_flags, files, nofile};
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[SOCKET, SOCKETPAIR, BIND, CONNECT, LISTEN, ACCEPT, ACCEPT4, GETSOCKNAME, GETPEERNAME, SHUTDOWN];

/// The first number that no socket type has.
const TYPE_MAX: u32 = 11;

/// What the first three arguments of `socket(2)` ask for.
struct Request {
    family: &'static dyn Family,
    protocol: Protocol,
    flags: u32,
}

fn request(domain: i32, kind: u32, protocol: i32) -> Result<Request> {
    let flags = kind & !SOCK_TYPE_MASK;
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if !(0..AF_MAX).contains(&domain) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind & SOCK_TYPE_MASK >= TYPE_MAX {
        return Err(Errno::EINVAL);
    }
    let family = socket::create(domain)?;
    let kind = Kind::from_raw((kind & SOCK_TYPE_MASK) as i32).map_err(|_| Errno::ESOCKTNOSUPPORT)?;
    Ok(Request { family, protocol: Protocol { kind, number: protocol }, flags })
}

impl Request {
    fn socket(&self, ops: Arc<dyn socket::SocketOps>) -> Socket {
        Socket::new(self.family.number(), ops.kind().unwrap_or(self.protocol.kind), self.protocol.number, ops)
    }
}

/// Missing: families other than `AF_UNIX`.
#[syscall(socket)]
fn sys_socket(domain: i32, kind: u32, protocol: i32) -> Result<i32> {
    let (file, flags) = create(domain, kind, protocol)?;
    install(file, flags).map(Fd::raw)
}

/// The file of a new socket, and its `SOCK_*` flags.
pub(super) fn create(domain: i32, kind: u32, protocol: i32) -> Result<(Arc<File>, u32)> {
    let request = request(domain, kind, protocol)?;
    let socket = request.socket(request.family.create(request.protocol)?);
    Ok((make_file(socket, request.flags)?, request.flags))
}

#[syscall(socketpair)]
fn sys_socketpair(domain: i32, kind: u32, protocol: i32, pair: UserPtr<[i32; 2]>) -> Result<()> {
    let request = request(domain, kind, protocol)?;
    let files = files()?;
    let flags = fd_flags(request.flags & SOCK_CLOEXEC != 0);
    let first = files.reserve(nofile(), flags)?;
    let second = files.reserve(nofile(), flags)?;
    pair.write(&[first.fd().raw(), second.fd().raw()])?;
    let (a, b) = request.family.pair(request.protocol)?;
    let a = make_file(request.socket(a), request.flags)?;
    let b = make_file(request.socket(b), request.flags)?;
    first.install(a);
    second.install(b);
    Ok(())
}

#[syscall(bind)]
fn sys_bind(fd: Fd, addr: usize, len: i32) -> Result<()> {
    let file = socket_file(fd)?;
    let addr = address::read(addr, len)?;
    file.socket()?.ops().bind(&Caller::current()?.ctx(), &addr)
}

#[syscall(connect)]
fn sys_connect(fd: Fd, addr: usize, len: i32) -> Result<()> {
    let file = socket_file(fd)?;
    let addr = address::read(addr, len)?;
    let socket = file.socket()?;
    socket.ops().clone().connect(&Caller::current()?.ctx(), &addr, socket.options(), file.nonblock())
}

#[syscall(listen)]
fn sys_listen(fd: Fd, backlog: i32) -> Result<()> {
    // A negative backlog is a very large one.
    socket_file(fd)?.socket()?.ops().listen(backlog as u32)
}

#[syscall(accept4)]
fn sys_accept4(fd: Fd, addr: usize, len: UserPtr<i32>, flags: u32) -> Result<i32> {
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = socket_file(fd)?;
    let files = files()?;
    let slot = files.reserve(nofile(), fd_flags(flags & SOCK_CLOEXEC != 0))?;
    Ok(slot.install(accept(&file, addr, len, flags, file.nonblock())?).raw())
}

/// The file of the next connection of a listening socket.
pub(super) fn accept(
    file: &SocketFile,
    addr: usize,
    len: UserPtr<i32>,
    flags: u32,
    nonblock: bool,
) -> Result<Arc<File>> {
    let socket = file.socket()?;
    let ops = socket.ops().accept(socket.options(), nonblock)?;
    let accepted = Socket::accepted(socket, ops);
    if addr != 0 {
        address::write(&accepted.ops().peer_name()?, addr, len)?;
    }
    make_file(accepted, flags)
}

#[syscall(accept)]
fn sys_accept(fd: Fd, addr: usize, len: UserPtr<i32>) -> Result<i32> {
    sys_accept4(fd, addr, len, 0)
}

#[syscall(getsockname)]
fn sys_getsockname(fd: Fd, addr: usize, len: UserPtr<i32>) -> Result<()> {
    let name = socket_file(fd)?.socket()?.ops().local_name()?;
    address::write(&name, addr, len)
}

#[syscall(getpeername)]
fn sys_getpeername(fd: Fd, addr: usize, len: UserPtr<i32>) -> Result<()> {
    let name = socket_file(fd)?.socket()?.ops().peer_name()?;
    address::write(&name, addr, len)
}

#[syscall(shutdown)]
fn sys_shutdown(fd: Fd, how: i32) -> Result<()> {
    let file = socket_file(fd)?;
    file.socket()?.ops().shutdown(Shutdown::from_raw(how)?)
}

/// `SOL_SOCKET`.
pub(super) const SOL_SOCKET: i32 = net::SOL_SOCKET as i32;
