//! Signals as a file: signalfd(2).
//!
//! A read takes pending signals of the set from the *reading* thread and its process. Signals in the set are
//! meant to be blocked, so that they wait for a reader.

use super::syscalls::check_set_size;
use super::{SigSet, Siginfo};
use crate::fs::context::{file_raw, install};
use crate::process::current;
use crate::syscall::{Fd, Syscall};
use abi::poll::PollEvents;
use abi::signal::{SI_KERNEL, SI_TIMER, SignalfdSiginfo};
use abi::{Errno, Result, raw};
use core::sync::atomic::{AtomicU64, Ordering};
use mm::fallible::try_arc;
use mm::iov::IovIter;
use mm::user::UserPtr;
use vfs::fdtable::Fd as VfsFd;
use vfs::file::{File, FileImpl};
use vfs::file_ops::{FileOps, IoFlags};
use vfs::poll::PollTable;
use zerocopy::{FromZeros, IntoBytes};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SIGNALFD, SIGNALFD4];

struct SignalFile {
    set: AtomicU64,
}

impl SignalFile {
    fn set(&self) -> SigSet {
        SigSet(self.set.load(Ordering::Relaxed))
    }

    fn take(&self) -> Option<Siginfo> {
        let me = current();
        let others = SigSet(!self.set().0);
        let mut state = me.process.sig.lock();
        let own = me.signals.pending.lock().take(others);
        let taken = own.or_else(|| state.shared.take(others));
        state.recalculate(me.task(), &me);
        drop(state);
        let (_, mut info) = taken?;
        crate::time::delivered(&me.process, &mut info);
        Some(info)
    }
}

/// The fixed layout that a reader sees, filled by the signal's source.
fn shown(info: &Siginfo) -> SignalfdSiginfo {
    let mut out = SignalfdSiginfo::new_zeroed();
    out.signo = info.signo as u32;
    out.errno = info.errno;
    out.code = info.code;
    let is_fault =
        info.code > 0 && SigSet::SYNCHRONOUS.0 & 1u64.unbounded_shl(out.signo.wrapping_sub(1)) != 0;
    if info.signo == raw::SIGCHLD as i32 && info.code > 0 {
        out.pid = info.pid() as u32;
        out.uid = info.uid();
        out.status = info.status();
        out.utime = u64::from_ne_bytes(info.get(16));
        out.stime = u64::from_ne_bytes(info.get(24));
    } else if is_fault && info.code != SI_KERNEL {
        out.addr = info.addr() as u64;
    } else if info.code == SI_TIMER {
        out.tid = info.pid() as u32;
        out.overrun = info.uid();
        out.ptr = info.value();
        out.int = info.value() as i32;
    } else {
        out.pid = info.pid() as u32;
        out.uid = info.uid();
        out.ptr = info.value();
        out.int = info.value() as i32;
    }
    out
}

impl FileOps for SignalFile {
    fn show_fdinfo(&self, _: &File, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(out, "sigmask:\t{:016x}", self.set().0)
    }

    fn read_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        _pos: &mut u64,
        _flags: IoFlags,
    ) -> Result<usize> {
        let size = size_of::<SignalfdSiginfo>();
        if iter.count() < size {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while iter.count() >= size {
            let info = match self.take() {
                Some(info) => info,
                None if done > 0 => break,
                None if file.nonblock() => return Err(Errno::EAGAIN),
                None => {
                    let me = current();
                    me.process.signalfd_wait.wait(sched::Wait::INTERRUPTIBLE, || self.take())?
                }
            };
            if iter.copy_to_iter(shown(&info).as_bytes()) < size {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            done += size;
        }
        Ok(done)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let me = current();
        table.wait(&me.process.signalfd_wait);
        let state = me.process.sig.lock();
        let pending = me.signals.pending.lock().set().union(state.shared.set());
        if pending.and(self.set()).is_empty() {
            PollEvents::empty()
        } else {
            PollEvents::IN | PollEvents::RDNORM
        }
    }
}

fn signalfd(fd: i32, mask: UserPtr<u64>, size: usize, flags: u32) -> Result<Fd> {
    check_set_size(size)?;
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = SigSet(mask.read()?).blockable();
    if fd != -1 {
        let file = file_raw(VfsFd::from_raw(fd)?)?;
        let object = file.private::<SignalFile>().ok_or(Errno::EINVAL)?;
        object.set.store(set.0, Ordering::Relaxed);
        current().process.signalfd_wait.wake_all();
        return Ok(Fd(fd));
    }
    let object = try_arc(SignalFile { set: AtomicU64::new(set.0) })?;
    let file = vfs::anon::anon_file(
        &current().cred(),
        "[signalfd]",
        FileImpl::Shared(object),
        raw::O_RDWR | flags & raw::O_NONBLOCK,
    )?;
    Ok(Fd(install(file, flags & raw::O_CLOEXEC != 0)?.raw()))
}

#[macros::syscall(signalfd)]
fn sys_signalfd(fd: i32, mask: UserPtr<u64>, size: usize) -> Result<Fd> {
    signalfd(fd, mask, size, 0)
}

#[macros::syscall(signalfd4)]
fn sys_signalfd4(fd: i32, mask: UserPtr<u64>, size: usize, flags: u32) -> Result<Fd> {
    signalfd(fd, mask, size, flags)
}
