//! Sending and receiving: `send(2)`, `recv(2)`, `sendmmsg(2)`, `recvmmsg(2)`.

use abi::socket::{MSG_WAITFORONE, Mmsghdr, Msghdr, SOCKADDR_MAX};
use abi::time::Timespec;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::mem::offset_of;
use macros::syscall;
use mm::IovIter;
use mm::iov::{Direction, UIO_MAXIOV, import_iovec};
use mm::user::UserPtr;
use socket::{Control, MessageFlags, Received, SendMessage, SocketAddr};
use vfs::fdtable::Fd;

use super::address;
use super::control::{self, Writer};
use super::sockfs::{SocketFile, socket_file};
use crate::fs::context::Caller;
use crate::signal;
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SENDTO, RECVFROM, SENDMSG, RECVMSG, SENDMMSG, RECVMMSG];

/// The only flags of a received message that users see.
pub(super) const SHOWN: MessageFlags = MessageFlags::CTRUNC
    .union(MessageFlags::TRUNC)
    .union(MessageFlags::EOR)
    .union(MessageFlags::OOB)
    .union(MessageFlags::CMSG_CLOEXEC);

pub(super) fn send(
    file: &SocketFile,
    iter: &mut IovIter<'_>,
    to: Option<SocketAddr>,
    control: Vec<Control>,
    flags: MessageFlags,
) -> Result<usize> {
    let socket = file.socket()?;
    let caller = Caller::current()?;
    let nonblock = file.nonblock() || flags.contains(MessageFlags::DONTWAIT);
    let message = SendMessage { to, control, flags, nonblock };
    let result = socket.ops().send(Some(&caller.ctx()), iter, message, socket.options());
    if result == Err(Errno::EPIPE)
        && !flags.contains(MessageFlags::NOSIGNAL)
        && socket.kind() == socket::Kind::Stream
    {
        signal::raise_sigpipe();
    }
    result
}

pub(super) fn receive(file: &SocketFile, iter: &mut IovIter<'_>, flags: MessageFlags) -> Result<Received> {
    let socket = file.socket()?;
    let nonblock = file.nonblock() || flags.contains(MessageFlags::DONTWAIT);
    socket.ops().receive(iter, flags, nonblock, socket.options())
}

#[syscall(sendto)]
fn sys_sendto(fd: Fd, buf: usize, len: usize, flags: u32, addr: usize, addrlen: i32) -> Result<usize> {
    let mut iter = IovIter::user(Direction::Source, buf, len)?;
    let file = socket_file(fd)?;
    let to = if addr == 0 { None } else { Some(address::read(addr, addrlen)?) };
    send(&file, &mut iter, to, Vec::new(), MessageFlags::from_bits_retain(flags))
}

#[syscall(recvfrom)]
fn sys_recvfrom(
    fd: Fd,
    buf: usize,
    len: usize,
    flags: u32,
    addr: usize,
    addrlen: UserPtr<i32>,
) -> Result<usize> {
    let mut iter = IovIter::user(Direction::Dest, buf, len)?;
    let file = socket_file(fd)?;
    let received = receive(&file, &mut iter, MessageFlags::from_bits_retain(flags))?;
    if addr != 0 {
        match &received.from {
            Some(from) => address::write(from, addr, addrlen)?,
            None => addrlen.write(&0)?,
        }
    }
    Ok(received.len)
}

/// A user's `struct msghdr`, checked.
pub(super) fn read_header(user: UserPtr<Msghdr>) -> Result<Msghdr> {
    let mut header = user.read()?;
    if header.name == 0 {
        header.namelen = 0;
    }
    if header.namelen < 0 {
        return Err(Errno::EINVAL);
    }
    header.namelen = header.namelen.min(SOCKADDR_MAX as i32);
    if header.iovlen > UIO_MAXIOV as u64 {
        return Err(Errno::EMSGSIZE);
    }
    Ok(header)
}

fn send_one(file: &SocketFile, user: UserPtr<Msghdr>, flags: MessageFlags) -> Result<usize> {
    let header = read_header(user)?;
    let to = match header.namelen {
        0 => None,
        len => Some(address::read(header.name as usize, len)?),
    };
    if header.controllen > i32::MAX as u64 {
        return Err(Errno::ENOBUFS);
    }
    let mut iter = import_iovec(Direction::Source, header.iov as usize, header.iovlen as usize)?;
    let control = control::read(header.control as usize, header.controllen as usize)?;
    send(file, &mut iter, to, control, flags)
}

fn receive_one(file: &SocketFile, user: UserPtr<Msghdr>, flags: MessageFlags) -> Result<usize> {
    let header = read_header(user)?;
    let mut iter = import_iovec(Direction::Dest, header.iov as usize, header.iovlen as usize)?;
    let received = receive(file, &mut iter, flags)?;
    write_header(user, &header, received, flags)
}

/// Tells the user what came with a message; returns its length.
pub(super) fn write_header(
    user: UserPtr<Msghdr>,
    header: &Msghdr,
    received: Received,
    flags: MessageFlags,
) -> Result<usize> {
    let mut writer = Writer::new(header.control as usize, header.controllen as usize);
    control::write(received.control, &mut writer, flags)?;
    if header.name != 0 {
        let len = user.byte_add::<i32>(offset_of!(Msghdr, namelen));
        match &received.from {
            Some(from) => {
                // The user's length again: it bounds what is copied.
                address::write(from, header.name as usize, len)?;
            }
            None => len.write(&0)?,
        }
    }
    let mut shown = received.flags & SHOWN;
    if writer.truncated {
        shown |= MessageFlags::CTRUNC;
    }
    shown |= flags & MessageFlags::CMSG_CLOEXEC;
    user.byte_add::<u32>(offset_of!(Msghdr, flags)).write(&shown.bits())?;
    user.byte_add::<u64>(offset_of!(Msghdr, controllen)).write(&(writer.used() as u64))?;
    Ok(received.len)
}

#[syscall(sendmsg)]
fn sys_sendmsg(fd: Fd, message: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    send_one(&socket_file(fd)?, message, MessageFlags::from_bits_retain(flags))
}

#[syscall(recvmsg)]
fn sys_recvmsg(fd: Fd, message: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    receive_one(&socket_file(fd)?, message, MessageFlags::from_bits_retain(flags))
}

/// Runs `one` on each of `count` messages and notes their lengths. A failure ends the list; it is the result
/// only if nothing was done before.
fn each_message(
    list: UserPtr<Mmsghdr>,
    count: u32,
    mut one: impl FnMut(UserPtr<Msghdr>, usize) -> Result<Option<usize>>,
) -> Result<usize> {
    for index in 0..count as usize {
        let user = list.add(index);
        let result = one(user.cast(), index);
        let result = result.and_then(|len| match len {
            Some(len) => user.byte_add::<u32>(offset_of!(Mmsghdr, len)).write(&(len as u32)).map(|()| true),
            None => Ok(false),
        });
        match result {
            Ok(true) => {}
            Ok(false) => return Ok(index),
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count as usize)
}

#[syscall(sendmmsg)]
fn sys_sendmmsg(fd: Fd, list: UserPtr<Mmsghdr>, count: u32, flags: u32) -> Result<usize> {
    let file = socket_file(fd)?;
    let flags = MessageFlags::from_bits_retain(flags);
    each_message(list, count.min(UIO_MAXIOV as u32), |user, _| send_one(&file, user, flags).map(Some))
}

#[syscall(recvmmsg)]
fn sys_recvmmsg(
    fd: Fd,
    list: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
) -> Result<usize> {
    let deadline = match timeout.read_opt()? {
        Some(limit) => Some(sched::time::monotonic_ns().saturating_add(limit.to_ns()?)),
        None => None,
    };
    let file = socket_file(fd)?;
    let wait_for_one = flags & MSG_WAITFORONE != 0;
    let flags = MessageFlags::from_bits_retain(flags & !MSG_WAITFORONE);
    let result = each_message(list, count.min(UIO_MAXIOV as u32), |user, index| {
        // The time is looked at between messages only, as documented under BUGS in the manual.
        if index > 0 && deadline.is_some_and(|deadline| sched::time::monotonic_ns() >= deadline) {
            return Ok(None);
        }
        let impatient = wait_for_one && index > 0;
        let flags = if impatient { flags | MessageFlags::DONTWAIT } else { flags };
        receive_one(&file, user, flags).map(Some)
    })?;
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(sched::time::monotonic_ns());
        timeout.write(&Timespec::from_ns(left))?;
    }
    Ok(result)
}
