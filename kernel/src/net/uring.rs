//! Socket calls on an open file, for `io_uring(7)`: what the user may change is read once, the call is tried as often as needed.

use abi::io_uring::RecvmsgOut;
use abi::socket::{Msghdr, SOCKADDR_MAX};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::IovIter;
use mm::iov::{Direction, KeptIovec};
use mm::user::{UserPtr, UserSlice};
use socket::{MessageFlags, Shutdown, SocketAddr};
use vfs::file::File;

use super::control::{self, Writer};
use super::sockfs::SocketFile;
use super::{address, syscalls, transfer};
use crate::fs::context::Caller;

/// Reads an address of the user.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn read_address(addr: usize, len: i32) -> Result<SocketAddr> {
    address::read(addr, len)
}

/// Whether `file` is a socket.
///
/// # Errors
/// `ENOTSOCK`.
pub fn check_socket(file: &File) -> Result<()> {
    if file.private::<socket::Socket>().is_some() { Ok(()) } else { Err(Errno::ENOTSOCK) }
}

/// `send(2)`, `sendto(2)`.
///
/// # Errors
/// Those of the call.
pub fn send(
    file: &Arc<File>,
    iter: &mut IovIter<'_>,
    to: Option<SocketAddr>,
    flags: MessageFlags,
) -> Result<usize> {
    transfer::send(&SocketFile::new(file)?, iter, to, Vec::new(), flags)
}

/// `recv(2)`.
///
/// # Errors
/// Those of the call.
pub fn receive(file: &Arc<File>, iter: &mut IovIter<'_>, flags: MessageFlags) -> Result<usize> {
    transfer::receive(&SocketFile::new(file)?, iter, flags).map(|received| received.len)
}

/// A message to send.
#[derive(Debug)]
pub struct SendHeader {
    to: Option<SocketAddr>,
    control: (usize, usize),
    iov: KeptIovec,
}

impl SendHeader {
    /// Reads a `struct msghdr`.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`, `EMSGSIZE`, `ENOBUFS`.
    pub fn read(user: UserPtr<Msghdr>) -> Result<Self> {
        let header = transfer::read_header(user)?;
        if header.controllen > i32::MAX as u64 {
            return Err(Errno::ENOBUFS);
        }
        Ok(Self {
            to: match header.namelen {
                0 => None,
                len => Some(address::read(header.name as usize, len)?),
            },
            control: (header.control as usize, header.controllen as usize),
            iov: KeptIovec::import(header.iov as usize, header.iovlen as usize)?,
        })
    }

    /// `sendmsg(2)`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn send(&self, file: &Arc<File>, flags: MessageFlags) -> Result<usize> {
        let file = SocketFile::new(file)?;
        let control = control::read(self.control.0, self.control.1)?;
        transfer::send(&file, &mut self.iov.iter(Direction::Source), self.to, control, flags)
    }
}

/// Room for a message to receive.
#[derive(Debug)]
pub struct ReceiveHeader {
    user: UserPtr<Msghdr>,
    header: Msghdr,
    iov: KeptIovec,
    /// Bytes wanted of a provided buffer.
    select: usize,
}

impl ReceiveHeader {
    /// Reads a `struct msghdr`. With provided buffers there is one segment at most, whose length counts.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`, `EMSGSIZE`, `EOVERFLOW`.
    pub fn read(user: UserPtr<Msghdr>, selects: bool, multishot: bool) -> Result<Self> {
        let mut header = transfer::read_header(user)?;
        if multishot {
            // Room for the name is in the buffer, whether there is an address for it or not.
            let room = user.byte_add::<i32>(core::mem::offset_of!(Msghdr, namelen)).read()?;
            header.namelen = usize::try_from(room).map_err(|_| Errno::EINVAL)?.min(SOCKADDR_MAX) as i32;
        }
        let iov = KeptIovec::import(header.iov as usize, header.iovlen as usize)?;
        if selects && header.iovlen > 1 {
            return Err(Errno::EINVAL);
        }
        if multishot && header.controllen > i32::MAX as u64 {
            return Err(Errno::EOVERFLOW);
        }
        let select = if multishot { 0 } else { iov.total() };
        Ok(Self { user, header, iov, select })
    }

    /// Bytes wanted of a provided buffer; zero: all of it.
    pub fn select_len(&self) -> usize {
        self.select
    }

    /// `recvmsg(2)`, into a provided buffer if there is one.
    ///
    /// # Errors
    /// Those of the call.
    pub fn receive(
        &self,
        file: &Arc<File>,
        flags: MessageFlags,
        place: Option<(usize, usize)>,
    ) -> Result<usize> {
        let file = SocketFile::new(file)?;
        let received = match place {
            Some((addr, len)) => {
                transfer::receive(&file, &mut IovIter::user(Direction::Dest, addr, len)?, flags)?
            }
            None => transfer::receive(&file, &mut self.iov.iter(Direction::Dest), flags)?,
        };
        transfer::write_header(self.user, &self.header, received, flags)
    }

    /// A message of a multishot `recvmsg`: header, name, control messages and data all go into the buffer, each with the
    /// room that the first call gave it.
    ///
    /// # Errors
    /// `EFAULT` for a buffer that has no room for the first three; those of the call.
    pub fn receive_into(
        &self,
        file: &Arc<File>,
        flags: MessageFlags,
        place: Option<(usize, usize)>,
    ) -> Result<usize> {
        let (addr, len) = place.ok_or(Errno::EINVAL)?;
        let file = SocketFile::new(file)?;
        let name_room = (self.header.namelen as usize).min(SOCKADDR_MAX);
        let control_room = self.header.controllen as usize;
        let name_at = size_of::<RecvmsgOut>();
        let control_at = name_at + name_room;
        let data_at = control_at.checked_add(control_room).ok_or(Errno::EFAULT)?;
        let data_len = len.checked_sub(data_at).ok_or(Errno::EFAULT)?;
        let mut iter = IovIter::user(Direction::Dest, addr.wrapping_add(data_at), data_len)?;
        let received = transfer::receive(&file, &mut iter, flags)?;
        if received.len == 0 {
            return Ok(0);
        }
        let mut namelen = 0;
        if let Some(from) = &received.from {
            let bytes = from.bytes();
            namelen = bytes.len();
            let part = bytes.get(..namelen.min(name_room)).unwrap_or_default();
            UserSlice::<u8>::new(addr.wrapping_add(name_at), part.len()).copy_from(part)?;
        }
        let mut writer = Writer::new(addr.wrapping_add(control_at), control_room);
        control::write(received.control, &mut writer, flags)?;
        let mut shown = received.flags & transfer::SHOWN;
        if writer.truncated {
            shown |= MessageFlags::CTRUNC;
        }
        let out = RecvmsgOut {
            namelen: namelen as u32,
            controllen: writer.used() as u32,
            payloadlen: received.len as u32,
            flags: shown.bits(),
        };
        UserPtr::new(addr).write(&out)?;
        Ok(data_at + received.len.min(data_len))
    }
}

/// `accept4(2)`: the file of the connection.
///
/// # Errors
/// Those of the call.
pub fn accept(
    file: &Arc<File>,
    addr: usize,
    len: UserPtr<i32>,
    flags: u32,
    nonblock: bool,
) -> Result<Arc<File>> {
    let file = SocketFile::new(file)?;
    let nonblock = nonblock || file.nonblock();
    syscalls::accept(&file, addr, len, flags, nonblock)
}

/// `connect(2)`.
///
/// # Errors
/// Those of the call.
pub fn connect(file: &Arc<File>, addr: &SocketAddr, nonblock: bool) -> Result<()> {
    let file = SocketFile::new(file)?;
    let nonblock = nonblock || file.nonblock();
    let socket = file.socket()?;
    socket.ops().clone().connect(&Caller::current()?.ctx(), addr, socket.options(), nonblock)
}

/// The error that a connection attempt left.
///
/// # Errors
/// `ENOTSOCK`.
pub fn take_error(file: &Arc<File>) -> Result<Option<Errno>> {
    Ok(SocketFile::new(file)?.socket()?.ops().take_error())
}

/// `shutdown(2)`.
///
/// # Errors
/// Those of the call.
pub fn shutdown(file: &Arc<File>, how: i32) -> Result<()> {
    SocketFile::new(file)?.socket()?.ops().shutdown(Shutdown::from_raw(how)?)
}

/// `socket(2)`: the file.
///
/// # Errors
/// Those of the call.
pub fn socket(domain: i32, kind: u32, protocol: i32) -> Result<Arc<File>> {
    syscalls::create(domain, kind, protocol).map(|(file, _)| file)
}

/// `bind(2)`.
///
/// # Errors
/// Those of the call.
pub fn bind(file: &Arc<File>, addr: &SocketAddr) -> Result<()> {
    SocketFile::new(file)?.socket()?.ops().bind(&Caller::current()?.ctx(), addr)
}

/// `listen(2)`.
///
/// # Errors
/// Those of the call.
pub fn listen(file: &Arc<File>, backlog: i32) -> Result<()> {
    SocketFile::new(file)?.socket()?.ops().listen(backlog as u32)
}
