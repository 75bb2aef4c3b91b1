//! Sockets: `SENDMSG`, `RECVMSG`, `SEND`, `RECV`, `ACCEPT`, `CONNECT`, `SHUTDOWN`, `SOCKET`, `BIND`, `LISTEN`.

use abi::io_uring::{Sqe, raw};
use abi::poll::PollEvents;
use abi::socket::{Msghdr, SOCK_CLOEXEC, SOCK_NONBLOCK};
use abi::{Errno, Result};
use mm::IovIter;
use mm::iov::{Direction, MAX_RW_COUNT};
use mm::user::UserPtr;
use socket::{MessageFlags, SocketAddr};

use super::super::kbuf;
use super::super::request::flags;
use super::open::Target;
use super::{Call, Issue, Op, Prep};
use crate::net::uring as calls;

/// What to do.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum NetOp {
    Send { addr: usize, len: usize, flags: MessageFlags, to: Option<SocketAddr>, options: u16 },
    SendMsg { message: calls::SendHeader, flags: MessageFlags, options: u16 },
    Recv { addr: usize, len: usize, flags: MessageFlags, options: u16 },
    RecvMsg { message: calls::ReceiveHeader, flags: MessageFlags, options: u16 },
    Accept { addr: usize, len: usize, flags: u32, target: Target, options: u16 },
    Connect { addr: SocketAddr, started: bool },
    Shutdown { how: i32 },
    Socket { domain: i32, kind: u32, protocol: i32, target: Target },
    Bind { addr: SocketAddr },
    Listen { backlog: i32 },
    ZeroCopy,
}

const POLL_FIRST: u16 = raw::IORING_RECVSEND_POLL_FIRST as u16;
const MULTISHOT: u16 = raw::IORING_RECV_MULTISHOT as u16;
const ACCEPT_MULTISHOT: u16 = raw::IORING_ACCEPT_MULTISHOT as u16;
const ACCEPT_DONTWAIT: u16 = raw::IORING_ACCEPT_DONTWAIT as u16;
const ACCEPT_POLL_FIRST: u16 = raw::IORING_ACCEPT_POLL_FIRST as u16;

fn message_flags(bits: u32) -> MessageFlags {
    MessageFlags::from_bits_retain(bits)
}

/// Prepares `IORING_OP_SEND`.
pub fn prep_send(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.ioprio & !POLL_FIRST != 0 {
        return Err(Errno::EINVAL);
    }
    let to = match entry.off {
        0 => None,
        addr => Some(calls::read_address(addr as usize, (entry.file_index & 0xffff) as i32)?),
    };
    Ok(Op::Net(NetOp::Send {
        addr: entry.addr as usize,
        len: (entry.len as usize).min(MAX_RW_COUNT),
        // A broken connection is told by the result only.
        flags: message_flags(entry.op_flags) | MessageFlags::NOSIGNAL,
        to,
        options: entry.ioprio,
    }))
}

/// Prepares `IORING_OP_SENDMSG`.
pub fn prep_sendmsg(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.file_index != 0 || entry.off != 0 || entry.ioprio & !POLL_FIRST != 0 {
        return Err(Errno::EINVAL);
    }
    let message = calls::SendHeader::read(UserPtr::<Msghdr>::new(entry.addr as usize))?;
    let flags = message_flags(entry.op_flags) | MessageFlags::NOSIGNAL;
    Ok(Op::Net(NetOp::SendMsg { message, flags, options: entry.ioprio }))
}

/// Prepares `IORING_OP_RECV`.
pub fn prep_recv(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.file_index != 0 || entry.off != 0 || entry.ioprio & !(POLL_FIRST | MULTISHOT) != 0 {
        return Err(Errno::EINVAL);
    }
    if entry.ioprio & MULTISHOT != 0
        && (!prep.has(flags::BUFFER_SELECT)
            || entry.op_flags & MessageFlags::WAITALL.bits() != 0
            || entry.len != 0)
    {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Net(NetOp::Recv {
        addr: entry.addr as usize,
        len: (entry.len as usize).min(MAX_RW_COUNT),
        flags: message_flags(entry.op_flags),
        options: entry.ioprio,
    }))
}

/// Prepares `IORING_OP_RECVMSG`.
pub fn prep_recvmsg(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.file_index != 0 || entry.off != 0 || entry.ioprio & !(POLL_FIRST | MULTISHOT) != 0 {
        return Err(Errno::EINVAL);
    }
    let multishot = entry.ioprio & MULTISHOT != 0;
    if multishot && (!prep.has(flags::BUFFER_SELECT) || entry.op_flags & MessageFlags::WAITALL.bits() != 0) {
        return Err(Errno::EINVAL);
    }
    let user = UserPtr::<Msghdr>::new(entry.addr as usize);
    let message = calls::ReceiveHeader::read(user, prep.has(flags::BUFFER_SELECT), multishot)?;
    let flags = message_flags(entry.op_flags);
    Ok(Op::Net(NetOp::RecvMsg { message, flags, options: entry.ioprio }))
}

/// Prepares `IORING_OP_ACCEPT`.
pub fn prep_accept(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.len != 0 || entry.buf_index != 0 {
        return Err(Errno::EINVAL);
    }
    let known = ACCEPT_MULTISHOT | ACCEPT_DONTWAIT | ACCEPT_POLL_FIRST;
    let flags = entry.op_flags;
    if entry.ioprio & !known != 0 || flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = Target::new(entry.file_index, flags & SOCK_CLOEXEC != 0)?;
    if entry.ioprio & ACCEPT_MULTISHOT != 0 && matches!(target, Target::Slot(Some(_))) {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Net(NetOp::Accept {
        addr: entry.addr as usize,
        len: entry.off as usize,
        flags,
        target,
        options: entry.ioprio,
    }))
}

/// Prepares `IORING_OP_CONNECT`.
pub fn prep_connect(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.len != 0 || entry.buf_index != 0 || entry.op_flags != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let addr = calls::read_address(entry.addr as usize, entry.off as i32)?;
    Ok(Op::Net(NetOp::Connect { addr, started: false }))
}

/// Prepares `IORING_OP_SHUTDOWN`.
pub fn prep_shutdown(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.off != 0
        || entry.addr != 0
        || entry.op_flags != 0
        || entry.buf_index != 0
        || entry.file_index != 0
    {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Net(NetOp::Shutdown { how: entry.len as i32 }))
}

/// Prepares `IORING_OP_SOCKET`.
pub fn prep_socket(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.addr != 0 || entry.op_flags != 0 || entry.buf_index != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = entry.off as u32;
    let target = Target::new(entry.file_index, kind & SOCK_CLOEXEC != 0)?;
    Ok(Op::Net(NetOp::Socket { domain: entry.fd, kind, protocol: entry.len as i32, target }))
}

/// Prepares `IORING_OP_BIND`.
pub fn prep_bind(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.len != 0 || entry.buf_index != 0 || entry.op_flags != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let addr = calls::read_address(entry.addr as usize, entry.off as i32)?;
    Ok(Op::Net(NetOp::Bind { addr }))
}

/// Prepares `IORING_OP_LISTEN`.
pub fn prep_listen(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.addr != 0
        || entry.buf_index != 0
        || entry.op_flags != 0
        || entry.file_index != 0
        || entry.off != 0
    {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Net(NetOp::Listen { backlog: entry.len as i32 }))
}

/// Prepares `IORING_OP_SEND_ZC` and `IORING_OP_SENDMSG_ZC`. No protocol here sends without copying, which is Linux's answer for
/// those protocols too.
pub fn prep_send_zc(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    let known =
        raw::IORING_RECVSEND_POLL_FIRST | raw::IORING_RECVSEND_FIXED_BUF | raw::IORING_SEND_ZC_REPORT_USAGE;
    if u32::from(entry.ioprio) & !known != 0 || entry.pad2 != 0 || entry.addr3 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Net(NetOp::ZeroCopy))
}

const READABLE: PollEvents = PollEvents::IN.union(PollEvents::RDNORM);
const WRITABLE: PollEvents = PollEvents::OUT.union(PollEvents::WRNORM);

/// The first attempt of a request that wants to be polled first.
fn polls_first(call: &Call<'_, '_>, options: u16, bit: u16) -> bool {
    !call.worker
        && options & bit != 0
        && call.req.poll_retries.load(core::sync::atomic::Ordering::Relaxed) == 0
}

impl NetOp {
    /// Tries it.
    pub fn issue(&mut self, call: &mut Call<'_, '_>) -> Issue {
        match self {
            Self::Recv { .. } | Self::RecvMsg { .. } => self.receive(call),
            Self::Send { .. } | Self::SendMsg { .. } => self.send(call),
            Self::Accept { .. } => self.accept(call),
            Self::Connect { addr, started } => connect(call, addr, started),
            Self::Shutdown { .. } if !call.worker => Issue::Punt,
            _ => Issue::of(self.simple(call)),
        }
    }

    fn simple(&self, call: &Call<'_, '_>) -> Result<usize> {
        match self {
            Self::Shutdown { how } => calls::shutdown(call.file()?, *how).map(|()| 0),
            Self::Bind { addr } => calls::bind(call.file()?, addr).map(|()| 0),
            Self::Listen { backlog } => calls::listen(call.file()?, *backlog).map(|()| 0),
            Self::Socket { domain, kind, protocol, target } => {
                let file = calls::socket(*domain, *kind, *protocol)?;
                target.install(call.ring(), file)
            }
            Self::ZeroCopy => {
                calls::check_socket(call.file()?)?;
                Err(Errno::EOPNOTSUPP)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn send(&self, call: &mut Call<'_, '_>) -> Issue {
        let (flags, options) = match self {
            Self::Send { flags, options, .. } | Self::SendMsg { flags, options, .. } => (*flags, *options),
            _ => return Issue::of(Err(Errno::EINVAL)),
        };
        if polls_first(call, options, POLL_FIRST) {
            return Issue::WouldBlock(WRITABLE);
        }
        if flags.contains(MessageFlags::DONTWAIT) {
            call.req.set(flags::NOWAIT);
        }
        let now = if call.worker { flags } else { flags | MessageFlags::DONTWAIT };
        let sent = call.file().and_then(|file| match self {
            Self::Send { addr, len, to, .. } => {
                let mut iter = IovIter::user(Direction::Source, *addr, *len)?;
                calls::send(&file, &mut iter, *to, now)
            }
            Self::SendMsg { message, .. } => message.send(&file, now),
            _ => Err(Errno::EINVAL),
        });
        match sent {
            Err(Errno::EAGAIN) if !call.worker => Issue::WouldBlock(WRITABLE),
            other => Issue::of(other),
        }
    }

    fn receive(&self, call: &mut Call<'_, '_>) -> Issue {
        let (flags, options) = match self {
            Self::Recv { flags, options, .. } | Self::RecvMsg { flags, options, .. } => (*flags, *options),
            _ => return Issue::of(Err(Errno::EINVAL)),
        };
        if polls_first(call, options, POLL_FIRST) {
            return Issue::WouldBlock(READABLE);
        }
        if flags.contains(MessageFlags::DONTWAIT) {
            call.req.set(flags::NOWAIT);
        }
        let now = if call.worker { flags } else { flags | MessageFlags::DONTWAIT };
        let multishot = options & MULTISHOT != 0;
        loop {
            match self.receive_once(call, now, multishot) {
                Err(Errno::EAGAIN) if !call.worker => return Issue::WouldBlock(READABLE),
                Err(errno) => return Issue::of(Err(errno)),
                Ok((len, cflags)) => {
                    let res = len as i32;
                    if multishot && len > 0 && call.cx.post_more(call.req, res, cflags) {
                        continue;
                    }
                    return Issue::Done(res, cflags);
                }
            }
        }
    }

    fn receive_once(&self, call: &Call<'_, '_>, now: MessageFlags, multishot: bool) -> Result<(usize, u32)> {
        let file = call.file()?;
        let wanted = match self {
            Self::Recv { len, .. } => *len,
            Self::RecvMsg { message, .. } => message.select_len(),
            _ => 0,
        };
        let selected = if call.req.has(flags::BUFFER_SELECT) {
            Some(kbuf::select(call.ring(), call.req.buf_group, wanted)?)
        } else {
            None
        };
        let place = selected.map(|buffer| (buffer.addr as usize, buffer.len as usize));
        let received = match self {
            Self::Recv { addr, len, .. } => {
                let (addr, len) = place.unwrap_or((*addr, *len));
                IovIter::user(Direction::Dest, addr, len)
                    .and_then(|mut iter| calls::receive(&file, &mut iter, now))
            }
            Self::RecvMsg { message, .. } if multishot => message.receive_into(&file, now, place),
            Self::RecvMsg { message, .. } => message.receive(&file, now, place),
            _ => Err(Errno::EINVAL),
        };
        let Some(selected) = selected else { return received.map(|len| (len, 0)) };
        let mut groups = call.ring().kbufs.lock();
        match received {
            Ok(0) if multishot => {
                groups.put_back(selected);
                Ok((0, 0))
            }
            Ok(len) => Ok((len, groups.used(&selected, len))),
            Err(errno) => {
                groups.put_back(selected);
                Err(errno)
            }
        }
    }

    fn accept(&self, call: &mut Call<'_, '_>) -> Issue {
        let Self::Accept { addr, len, flags, target, options } = self else {
            return Issue::of(Err(Errno::EINVAL));
        };
        if polls_first(call, *options, ACCEPT_POLL_FIRST) {
            return Issue::WouldBlock(READABLE);
        }
        if options & ACCEPT_DONTWAIT != 0 {
            call.req.set(flags::NOWAIT);
        }
        let multishot = options & ACCEPT_MULTISHOT != 0;
        loop {
            let accepted = call
                .file()
                .and_then(|file| calls::accept(&file, *addr, UserPtr::new(*len), *flags, !call.worker))
                .and_then(|file| target.install(call.ring(), file));
            match accepted {
                Err(Errno::EAGAIN) if !call.worker => return Issue::WouldBlock(READABLE),
                Ok(value) if multishot && call.cx.post_more(call.req, value as i32, 0) => {}
                other => return Issue::of(other),
            }
        }
    }
}

fn connect(call: &Call<'_, '_>, addr: &SocketAddr, started: &mut bool) -> Issue {
    let result = call.file().and_then(|file| {
        if *started && let Some(error) = calls::take_error(&file)? {
            return Err(error);
        }
        calls::connect(&file, addr, !call.worker)
    });
    match result {
        Err(Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY) if !call.worker => {
            *started = true;
            Issue::WouldBlock(WRITABLE)
        }
        // The attempt that was under way has come to its end.
        Err(Errno::EISCONN) if *started => Issue::of(Ok(0)),
        other => Issue::of(other.map(|()| 0)),
    }
}
