//! `getsockopt(2)`, `setsockopt(2)` at level `SOL_SOCKET`: `socket(7)`.

use abi::cap::Cap;
use abi::raw_sys::net;
use abi::seccomp::SockFprog;
use abi::socket::Linger;
use abi::time::Timeval;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use macros::syscall;
use mm::try_arc;
use mm::user::{UserPtr, UserSlice};
use socket::{Credentials, Filter, FilterSlot, Rights, Socket, timeout_ns};
use vfs::fdtable::Fd;
use zerocopy::IntoBytes;

use super::caller;
use super::control::seen_by_caller;
use super::sockfs::socket_file;
use super::syscalls::SOL_SOCKET;
use crate::fs::context::{fd_flags, file_raw, files, nofile};
use crate::misc::sock_filter;
use crate::pidfd;
use crate::process::current;
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[GETSOCKOPT, SETSOCKOPT];

/// Cookies count sockets that were asked for theirs.
const SO_COOKIE: u32 = 57;

fn nanoseconds(ns: u64) -> Timeval {
    if ns == 0 { Timeval::default() } else { Timeval::from_ns(ns) }
}

/// Writes as much of a value as there is room for.
fn reply(value: &[u8], addr: usize, room: usize, len: UserPtr<i32>) -> Result<()> {
    let count = value.len().min(room);
    UserSlice::<u8>::new(addr, count).copy_from(value.get(..count).unwrap_or_default())?;
    len.write(&(count as i32))
}

fn number(socket: &Socket, option: u32) -> Result<i32> {
    Ok(match option {
        net::SO_TYPE => socket.kind() as i32,
        net::SO_DOMAIN => socket.family().into(),
        net::SO_PROTOCOL => socket.protocol(),
        net::SO_ERROR => socket.ops().take_error().map_or(0, |error| error.code()),
        net::SO_ACCEPTCONN => socket.ops().is_listening().into(),
        net::SO_LOCK_FILTER => socket.ops().filter().ok_or(Errno::ENOPROTOOPT)?.is_locked().into(),
        // Facts that filters know of, as bytes.
        net::SO_BPF_EXTENSIONS => (cbpf::code::ANCILLARY_END - cbpf::code::ANCILLARY) as i32,
        _ => socket.options().get(option)?,
    })
}

/// Groups of the peer, as the caller's namespace shows them.
fn peer_groups(socket: &Socket, value: usize, room: usize, len: UserPtr<i32>) -> Result<()> {
    let cred = socket.ops().peer_identity().cred.ok_or(Errno::ENODATA)?;
    let bytes = cred.groups.len() * size_of::<u32>();
    if room < bytes {
        len.write(&(bytes as i32))?;
        return Err(Errno::ERANGE);
    }
    let shown = UserSlice::<u32>::new(value, cred.groups.len());
    let me = current().cred();
    for (index, group) in cred.groups.iter().enumerate() {
        shown.write_at(index, &me.user_ns.from_gid(*group))?;
    }
    len.write(&(bytes as i32))
}

/// A pidfd of the peer.
fn peer_pidfd(socket: &Socket, value: usize, room: usize, len: UserPtr<i32>) -> Result<()> {
    let process = socket.ops().peer_identity().process.ok_or(Errno::ENODATA)?;
    let pid = caller::pid_of(&process).ok_or(Errno::ENODATA)?;
    let file = pidfd::for_process(&pid)?;
    let table = files()?;
    let slot = table.reserve(nofile(), fd_flags(true))?;
    reply(slot.fd().raw().as_bytes(), value, room, len)?;
    slot.install(file);
    Ok(())
}

/// The options of what filters packets; `None` for another.
fn set_filter(socket: &Socket, option: u32, value: usize, len: usize) -> Option<Result<()>> {
    let slot = socket.ops().filter()?;
    let number = || UserPtr::<i32>::new(value).read();
    let program = |make: &dyn Fn(SockFprog) -> Result<()>| {
        let head = UserPtr::<SockFprog>::new(value);
        if len != size_of::<SockFprog>() {
            return Err(Errno::EINVAL);
        }
        let head = head.read()?;
        slot.check()?;
        make(head)
    };
    let filter = |head: SockFprog| Filter::new(sock_filter::read(head.filter as usize, head.len)?);
    Some(match option {
        net::SO_ATTACH_FILTER => program(&|head| slot.attach(try_arc(filter(head)?)?)),
        net::SO_DETACH_FILTER => number().and_then(|_| slot.detach()),
        net::SO_LOCK_FILTER => number().and_then(|on| slot.lock(on != 0)),
        // Only sockets of the internet families form groups.
        net::SO_ATTACH_REUSEPORT_CBPF => program(&|head| filter(head).and(Err(Errno::EINVAL))),
        net::SO_DETACH_REUSEPORT_BPF => number().and(Err(Errno::EINVAL)),
        // No file is a program.
        net::SO_ATTACH_BPF | net::SO_ATTACH_REUSEPORT_EBPF if len == size_of::<u32>() => {
            let fd = number().and_then(|fd| slot.check().map(|()| fd)).and_then(Fd::from_raw);
            fd.and_then(file_raw).and(Err(Errno::EINVAL))
        }
        net::SO_ATTACH_BPF | net::SO_ATTACH_REUSEPORT_EBPF => Err(Errno::EINVAL),
        _ => return None,
    })
}

/// Shows the filter. Lengths are in instructions.
fn show_filter(slot: &FilterSlot, value: usize, room: usize, len: UserPtr<i32>) -> Result<()> {
    let filter = slot.get();
    let insns = filter.as_ref().map_or(&[][..], |filter| filter.insns());
    if room > 0 && !insns.is_empty() {
        if room < insns.len() {
            return Err(Errno::EINVAL);
        }
        sock_filter::write(value, insns)?;
    }
    len.write(&(insns.len() as i32))
}

/// Missing: options of devices and of networks (`SO_BINDTODEVICE`, `SO_BUSY_POLL`, `SO_MEMINFO`, `SO_RXQ_OVFL`, `SO_TXTIME`, `SO_ZEROCOPY`, …).
#[syscall(getsockopt)]
fn sys_getsockopt(fd: Fd, level: i32, option: u32, value: usize, len: UserPtr<i32>) -> Result<()> {
    let file = socket_file(fd)?;
    let socket = file.socket()?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let options = socket.options();
    match option {
        net::SO_LINGER => {
            let (onoff, seconds) = options.linger();
            reply(Linger { onoff, seconds }.as_bytes(), value, room, len)
        }
        net::SO_RCVTIMEO_OLD | net::SO_RCVTIMEO_NEW => {
            let time = nanoseconds(options.timeouts.receive_ns.load(Ordering::Relaxed));
            reply(time.as_bytes(), value, room, len)
        }
        net::SO_SNDTIMEO_OLD | net::SO_SNDTIMEO_NEW => {
            let time = nanoseconds(options.timeouts.send_ns.load(Ordering::Relaxed));
            reply(time.as_bytes(), value, room, len)
        }
        net::SO_PEERCRED => {
            let nobody = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
            let seen = seen_by_caller(socket.ops().peer_identity().ids.unwrap_or(nobody));
            reply(seen.as_bytes(), value, room, len)
        }
        net::SO_PEERPIDFD => peer_pidfd(socket, value, room, len),
        net::SO_PEERGROUPS => peer_groups(socket, value, room, len),
        net::SO_PEERNAME => {
            let name = socket.ops().peer_name()?;
            if name.bytes().len() < room {
                return reply(name.bytes(), value, room, len);
            }
            Err(Errno::EINVAL)
        }
        net::SO_TIMESTAMPING_OLD | net::SO_TIMESTAMPING_NEW => {
            let flags = options.stamps.stamping(option);
            reply([flags, 0].as_bytes(), value, room, len)
        }
        net::SO_ATTACH_FILTER => {
            let slot = socket.ops().filter().ok_or(Errno::ENOPROTOOPT)?;
            show_filter(slot, value, room, len)
        }
        SO_COOKIE if room == 8 => reply(&socket.ino().to_ne_bytes(), value, room, len),
        SO_COOKIE => Err(Errno::EINVAL),
        _ => reply(number(socket, option)?.as_bytes(), value, room, len),
    }
}

/// Missing: options of devices and of networks (`SO_BINDTODEVICE`, `SO_BUSY_POLL`, `SO_MEMINFO`, `SO_RXQ_OVFL`, `SO_TXTIME`, `SO_ZEROCOPY`, …).
#[syscall(setsockopt)]
fn sys_setsockopt(fd: Fd, level: i32, option: u32, value: usize, len: i32) -> Result<()> {
    if len < 0 {
        return Err(Errno::EINVAL);
    }
    let file = socket_file(fd)?;
    let socket = file.socket()?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let len = len as usize;
    if len < size_of::<i32>() {
        return Err(Errno::EINVAL);
    }
    if let Some(result) = set_filter(socket, option, value, len) {
        return result;
    }
    let options = socket.options();
    let time = || -> Result<u64> {
        if len < size_of::<Timeval>() {
            return Err(Errno::EINVAL);
        }
        timeout_ns(UserPtr::<Timeval>::new(value).read()?)
    };
    match option {
        net::SO_LINGER => {
            if len < size_of::<Linger>() {
                return Err(Errno::EINVAL);
            }
            let linger = UserPtr::<Linger>::new(value).read()?;
            options.set_linger(linger.onoff, linger.seconds);
            Ok(())
        }
        net::SO_RCVTIMEO_OLD | net::SO_RCVTIMEO_NEW => {
            options.timeouts.receive_ns.store(time()?, Ordering::Relaxed);
            Ok(())
        }
        net::SO_SNDTIMEO_OLD | net::SO_SNDTIMEO_NEW => {
            options.timeouts.send_ns.store(time()?, Ordering::Relaxed);
            Ok(())
        }
        net::SO_TIMESTAMPING_OLD | net::SO_TIMESTAMPING_NEW => {
            // The second word is the number of a clock.
            let flags = UserPtr::<u32>::new(value).read()?;
            if len == 2 * size_of::<u32>() {
                UserPtr::<[u32; 2]>::new(value).read()?;
            }
            options.stamps.set_stamping(option, flags)?;
            socket.ops().options_changed(options);
            Ok(())
        }
        net::SO_TYPE | net::SO_DOMAIN | net::SO_PROTOCOL | net::SO_ERROR | net::SO_ACCEPTCONN => {
            Err(Errno::ENOPROTOOPT)
        }
        _ => {
            let number = UserPtr::<i32>::new(value).read()?;
            let me = current();
            let net = me.nsproxy().ok_or(Errno::ESRCH)?.net.clone();
            let may = |cap| me.with_cred(|cred| cred.ns_capable(&net.user_ns, cap));
            options.set(option, number, Rights { admin: may(Cap::NetAdmin), raw: may(Cap::NetRaw) })?;
            socket.ops().options_changed(options);
            Ok(())
        }
    }
}
