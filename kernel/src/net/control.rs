//! Control messages: `cmsg(3)`, `unix(7)` "Ancillary messages".
//!
//! Ids are kept as the initial namespaces know them and translated here: a sender may name only itself unless it
//! is privileged, and a receiver sees the sender as its own namespaces do.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cap::Cap;
use abi::creds::{Gid, Uid};
use abi::raw_sys::net;
use abi::socket::{Cmsghdr, SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS};
use abi::time::{Timespec, Timeval};
use abi::{Errno, Result};
use mm::OutOfMemory;
use mm::fallible::{TryVec, try_with_capacity};
use mm::user::{UserPtr, UserSlice};
use socket::{Control, Credentials, MessageFlags, ProcessRef};
use vfs::cred::{overflow_gid, overflow_uid};
use vfs::fdtable::Fd;
use vfs::file::File;
use zerocopy::{FromBytes, IntoBytes};

use super::caller;
use crate::fs::context;
use crate::pidfd;
use crate::process::{current, init_pid_ns};

const HEADER: usize = size_of::<Cmsghdr>();
const ALIGN: usize = size_of::<usize>();
/// Most control bytes of one send (`net.core.optmem_max`).
const LONGEST: usize = 131_072;

const fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Splits control bytes into messages: header and data.
///
/// # Errors
/// `EINVAL` for a length that does not fit.
fn split(mut bytes: &[u8], mut f: impl FnMut(Cmsghdr, &[u8]) -> Result<()>) -> Result<()> {
    while bytes.len() >= HEADER {
        let (header, _) = Cmsghdr::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        let data = bytes.get(HEADER..len).ok_or(Errno::EINVAL)?;
        f(header, data)?;
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    Ok(())
}

/// Reads the control messages of a send.
///
/// # Errors
/// `ENOBUFS`, `EFAULT`, `EINVAL`, `EBADF` for a descriptor that is not open, `EPERM` and `ESRCH` for credentials that
/// the caller may not claim.
pub(super) fn read(addr: usize, len: usize) -> Result<Vec<Control>> {
    if len == 0 || addr == 0 {
        return Ok(Vec::new());
    }
    if len > LONGEST {
        return Err(Errno::ENOBUFS);
    }
    let bytes = UserSlice::<u8>::new(addr, len).to_vec()?;
    let mut files: Vec<Arc<File>> = Vec::new();
    let mut sender = None;
    split(&bytes, |header, data| {
        if header.level != net::SOL_SOCKET as i32 {
            return Ok(());
        }
        match header.type_ {
            SCM_RIGHTS => take_files(data, &mut files),
            SCM_CREDENTIALS => {
                let claimed = Credentials::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                sender = Some(claim(claimed)?);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    })?;
    let mut list = try_with_capacity(3)?;
    if !files.is_empty() {
        list.push_reserved(Control::Rights(files));
    }
    if let Some((credentials, pid)) = sender {
        list.push_reserved(Control::Credentials(credentials));
        list.push_reserved(Control::Process(pid));
    }
    Ok(list)
}

fn take_files(data: &[u8], files: &mut Vec<Arc<File>>) -> Result<()> {
    let count = data.len() / size_of::<i32>();
    if files.len() + count > SCM_MAX_FD {
        return Err(Errno::EINVAL);
    }
    files.try_reserve(count).map_err(OutOfMemory::from)?;
    for fd in data.chunks_exact(size_of::<i32>()) {
        let fd = i32::read_from_bytes(fd).map_err(|_| Errno::EINVAL)?;
        files.push_reserved(context::file_raw(Fd::from_raw(fd)?)?);
    }
    Ok(())
}

/// Credentials as the sender wrote them, in the initial namespaces' terms, and the process they name.
fn claim(claimed: Credentials) -> Result<(Credentials, ProcessRef)> {
    let me = current();
    let cred = me.cred();
    let uid = cred.user_ns.make_uid(claimed.uid).ok_or(Errno::EINVAL)?;
    let gid = cred.user_ns.make_gid(claimed.gid).ok_or(Errno::EINVAL)?;
    let own_pid = claimed.pid == me.process.id();
    let own_uid = [cred.uid, cred.euid, cred.suid].contains(&uid);
    let own_gid = [cred.gid, cred.egid, cred.sgid].contains(&gid);
    let pid_ns = me.pid_ns();
    let may = |own, ns, cap| own || cred.ns_capable(ns, cap);
    if !(may(own_pid, pid_ns.user_ns(), Cap::SysAdmin)
        && may(own_uid, &cred.user_ns, Cap::Setuid)
        && may(own_gid, &cred.user_ns, Cap::Setgid))
    {
        return Err(Errno::EPERM);
    }
    let pid = pid_ns.find(claimed.pid).ok_or(Errno::ESRCH)?;
    Ok((Credentials { pid: pid.global(), uid: uid.0, gid: gid.0 }, pid))
}

/// Credentials as the calling thread's namespaces show them.
pub(super) fn seen_by_caller(credentials: Credentials) -> Credentials {
    let me = current();
    let ns = me.pid_ns();
    let pid = if ns.level() == 0 {
        credentials.pid
    } else {
        init_pid_ns().find(credentials.pid).map_or(0, |pid| pid.nr_in(&ns))
    };
    let known = |id: u32| id != u32::MAX;
    me.with_cred(|cred| Credentials {
        pid,
        uid: if known(credentials.uid) { cred.user_ns.from_uid(Uid(credentials.uid)) } else { u32::MAX },
        gid: if known(credentials.gid) { cred.user_ns.from_gid(Gid(credentials.gid)) } else { u32::MAX },
    })
}

/// Room for control messages in user memory.
pub(super) struct Writer {
    addr: usize,
    room: usize,
    used: usize,
    /// Something did not fit.
    pub(super) truncated: bool,
}

impl Writer {
    /// The user's buffer.
    pub(super) fn new(addr: usize, len: usize) -> Self {
        Self { addr, room: if addr == 0 { 0 } else { len }, used: 0, truncated: false }
    }

    /// Bytes written: the new `msg_controllen`.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn left(&self) -> usize {
        self.room - self.used
    }

    fn finish(&mut self, level: i32, type_: i32, len: usize) -> Result<()> {
        let header = Cmsghdr { len: len as u64, level, type_ };
        UserPtr::<Cmsghdr>::new(self.addr.wrapping_add(self.used)).write(&header)?;
        self.used += align(len).min(self.left());
        Ok(())
    }

    /// Writes one message, cut off where the room ends.
    pub(super) fn put(&mut self, level: i32, type_: i32, data: &[u8]) -> Result<()> {
        if self.left() < HEADER {
            self.truncated = true;
            return Ok(());
        }
        let mut len = HEADER + data.len();
        if len > self.left() {
            self.truncated = true;
            len = self.left();
        }
        let part = data.get(..len - HEADER).unwrap_or_default();
        UserSlice::<u8>::new(self.addr.wrapping_add(self.used + HEADER), part.len()).copy_from(part)?;
        self.finish(level, type_, len)
    }

    /// Gives the receiver a pidfd of the sender; an error number in place of it, as Linux has it.
    fn put_process(&mut self, process: &ProcessRef) -> Result<()> {
        const SCM_PIDFD: i32 = 4;
        if self.left() < HEADER + size_of::<i32>() {
            self.truncated = true;
            return Ok(());
        }
        let made = caller::pid_of(process).ok_or(Errno::ESRCH).and_then(|pid| pidfd::for_process(&pid));
        let table = context::files()?;
        let slot = made.and_then(|file| {
            let slot = table.reserve(context::nofile(), context::fd_flags(true))?;
            Ok((slot, file))
        });
        let number = match &slot {
            Ok((slot, _)) => slot.fd().raw(),
            Err(error) => -error.code(),
        };
        self.put(net::SOL_SOCKET as i32, SCM_PIDFD, number.as_bytes())?;
        if let Ok((slot, file)) = slot {
            slot.install(file);
        }
        Ok(())
    }

    /// Gives the receiver descriptors for `files`, as many as there is room for; the rest is closed.
    fn put_files(&mut self, files: Vec<Arc<File>>, cloexec: bool) -> Result<()> {
        let most = self.left().saturating_sub(HEADER) / size_of::<i32>();
        let total = files.len();
        let mut count = 0;
        let table = context::files()?;
        for file in files.into_iter().take(most) {
            let Ok(slot) = table.reserve(context::nofile(), context::fd_flags(cloexec)) else { break };
            let offset = self.used + HEADER + count * size_of::<i32>();
            let place = UserPtr::<i32>::new(self.addr.wrapping_add(offset));
            if place.write(&slot.fd().raw()).is_err() {
                break;
            }
            slot.install(file);
            count += 1;
        }
        if count > 0 {
            self.finish(net::SOL_SOCKET as i32, SCM_RIGHTS, HEADER + count * size_of::<i32>())?;
        }
        self.truncated |= count < total;
        Ok(())
    }
}

/// Hands received control messages to the user: credentials first, then files, as Linux orders them.
pub(super) fn write(list: socket::ControlList, writer: &mut Writer, flags: MessageFlags) -> Result<()> {
    let mut files = Vec::new();
    for control in list {
        match control {
            Control::Credentials(credentials) => {
                let mut seen = seen_by_caller(credentials);
                for (id, overflow) in [(&mut seen.uid, overflow_uid()), (&mut seen.gid, overflow_gid())] {
                    if *id == u32::MAX {
                        *id = overflow;
                    }
                }
                writer.put(net::SOL_SOCKET as i32, SCM_CREDENTIALS, seen.as_bytes())?;
            }
            Control::Rights(rights) => files = rights,
            Control::Process(process) => writer.put_process(&process)?,
            Control::Time(option, ns) => {
                let level = net::SOL_SOCKET as i32;
                let (kind, time) = (option as i32, Timespec::from_ns(ns));
                match option {
                    net::SO_TIMESTAMPNS_OLD | net::SO_TIMESTAMPNS_NEW => {
                        writer.put(level, kind, time.as_bytes())?;
                    }
                    // Software's, and those that a device would have.
                    net::SO_TIMESTAMPING_OLD | net::SO_TIMESTAMPING_NEW => {
                        let none = Timespec::from_ns(0);
                        writer.put(level, kind, [time, none, none].as_bytes())?;
                    }
                    _ => writer.put(level, kind, Timeval::from_ns(ns).as_bytes())?,
                }
            }
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    writer.put_files(files, flags.contains(MessageFlags::CMSG_CLOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u64, type_: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Cmsghdr { len, level: 1, type_ }.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn messages_are_aligned_to_words() {
        let mut bytes = message(20, SCM_RIGHTS, &[1, 2, 3, 4]);
        bytes.extend(message(28, SCM_CREDENTIALS, &[0; 12]));
        let mut seen = Vec::new();
        split(&bytes, |header, data| {
            seen.push((header.type_, data.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(SCM_RIGHTS, 4), (SCM_CREDENTIALS, 12)]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for len in [0, 15, 25, u64::MAX] {
            assert_eq!(split(&message(len, 1, &[0; 4]), |_, _| Ok(())), Err(Errno::EINVAL));
        }
    }
}
