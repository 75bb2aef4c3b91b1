//! Waiting for files: `poll(2)`, `ppoll(2)`, `select(2)`, `pselect(2)`.
//!
//! Both families come down to rounds over a list of (file, wanted events): the first round
//! registers with each file's wait queues, later ones only look. Files are looked up once and held for the time of the call.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::poll::{PollEvents, Pollfd};
use abi::time::{Timespec, Timeval};
use abi::{Errno, Result};
use macros::syscall;
use mm::user::{UserPtr, UserSlice};
use sched::hrtimer::Deadline;
use vfs::fdtable::Fd;
use vfs::file::File;
use vfs::poll::Poller;

use crate::process::thread::Restart;
use crate::process::{Resource, current};
use crate::signal::wait::{restore_user_mask, set_user_mask};
use crate::syscall::Syscall;

/// One file that is waited for.
struct Watch {
    fd: i32,
    file: Option<Arc<File>>,
    wanted: PollEvents,
    ready: PollEvents,
}

/// Waits until some watch is ready; the number of ready ones, 0 at the deadline.
fn wait(watches: &mut [Watch], deadline: Option<Deadline>, immediately: bool) -> Result<usize> {
    let mut poller = Poller::new();
    if immediately {
        poller.stop_registering();
    }
    loop {
        let mut count = 0;
        for watch in watches.iter_mut() {
            watch.ready = match &watch.file {
                Some(file) => poller.check(file, watch.wanted),
                None => PollEvents::NVAL,
            };
            count += usize::from(!watch.ready.is_empty());
        }
        if count > 0 || immediately {
            return Ok(count);
        }
        match poller.wait(deadline) {
            Ok(()) => {}
            Err(Errno::ETIMEDOUT) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

/// The files behind the user's descriptors. Negative ones are skipped: nothing wanted, nothing ready.
fn watches_of(fds: &[Pollfd]) -> Result<Vec<Watch>> {
    let files = current().files().ok_or(Errno::EBADF)?;
    let mut watches = Vec::new();
    watches.try_reserve_exact(fds.len()).map_err(|_| Errno::ENOMEM)?;
    for entry in fds.iter().filter(|entry| entry.fd >= 0) {
        watches.push(Watch {
            fd: entry.fd,
            file: files.get(Fd(entry.fd as u32)).ok(),
            wanted: PollEvents::from_bits_truncate(u32::from(entry.events as u16)),
            ready: PollEvents::empty(),
        });
    }
    Ok(watches)
}

fn do_poll(addr: usize, count: u32, deadline: Option<Deadline>, immediately: bool) -> Result<usize> {
    if u64::from(count) > current().process.limits.cur(Resource::Nofile) {
        return Err(Errno::EINVAL);
    }
    let user = UserSlice::<Pollfd>::new(addr, count as usize);
    let mut fds = user.to_vec()?;
    let mut watches = watches_of(&fds)?;
    let ready = wait(&mut watches, deadline, immediately)?;
    let mut results = watches.iter();
    for entry in &mut fds {
        entry.revents = match entry.fd {
            0.. => results.next().map_or(0, |watch| watch.ready.bits() as i16),
            _ => 0,
        };
    }
    user.copy_from(&fds)?;
    Ok(ready)
}

#[syscall(poll)]
fn sys_poll(fds: usize, nfds: u32, timeout_ms: i32) -> Result<usize> {
    let deadline =
        (timeout_ms >= 0).then(|| Deadline::after_ns(u64::from(timeout_ms.max(0) as u32) * 1_000_000));
    poll_until(fds, nfds, deadline, timeout_ms == 0)
}

/// `poll(2)` with an absolute deadline: also how an interrupted one goes on.
pub fn poll_until(fds: usize, nfds: u32, deadline: Option<Deadline>, immediately: bool) -> Result<usize> {
    do_poll(fds, nfds, deadline, immediately).map_err(|error| match error {
        Errno::EINTR => {
            let deadline_ns = deadline.map(|deadline| deadline.ns);
            *current().restart.lock() = Restart::Poll { fds, nfds, deadline_ns };
            Errno::ERESTART_RESTARTBLOCK
        }
        other => other,
    })
}

/// Reads an optional relative timeout. `Some(0)` means: do not wait.
fn timeout(addr: usize) -> Result<Option<u64>> {
    UserPtr::<Timespec>::new(addr).read_opt()?.map(Timespec::to_ns).transpose()
}

/// Writes back what is left of a timeout, as Linux does; a bad address is not an error then.
fn write_remaining(addr: usize, deadline: Option<Deadline>) {
    if let Some(deadline) = deadline
        && addr != 0
    {
        let _ = UserPtr::<Timespec>::new(addr).write(&Timespec::from_ns(deadline.remaining_ns()));
    }
}

#[syscall(ppoll)]
fn sys_ppoll(fds: usize, nfds: u32, timeout_addr: usize, mask: usize, mask_size: usize) -> Result<usize> {
    let timeout_ns = timeout(timeout_addr)?;
    let deadline = timeout_ns.map(Deadline::after_ns);
    let mask = UserPtr::new(mask);
    set_user_mask(mask, mask_size)?;
    let result = do_poll(fds, nfds, deadline, timeout_ns == Some(0));
    write_remaining(timeout_addr, deadline);
    restore_user_mask(result == Err(Errno::EINTR));
    result.map_err(no_restart)
}

/// A call that a signal interrupted and whose mask was temporary runs again only if no handler ran.
fn no_restart(error: Errno) -> Errno {
    if error == Errno::EINTR { Errno::ERESTARTNOHAND } else { error }
}

/// Words of a descriptor set of `count` descriptors.
fn words(count: usize) -> usize {
    count.div_ceil(64)
}

/// The three sets of a `select(2)`, as bit words.
struct Sets {
    count: usize,
    users: [usize; 3],
    bits: [Vec<u64>; 3],
}

/// What each set waits for, and which readiness counts for it.
const SET_EVENTS: [(PollEvents, PollEvents); 3] = {
    const READ: PollEvents = PollEvents::IN.union(PollEvents::RDNORM).union(PollEvents::RDBAND);
    const WRITE: PollEvents = PollEvents::OUT.union(PollEvents::WRNORM).union(PollEvents::WRBAND);
    [
        (READ, READ.union(PollEvents::HUP).union(PollEvents::ERR).union(PollEvents::NVAL)),
        (WRITE, WRITE.union(PollEvents::ERR).union(PollEvents::NVAL)),
        (PollEvents::PRI, PollEvents::PRI.union(PollEvents::NVAL)),
    ]
};

impl Sets {
    fn read(count: i32, users: [usize; 3]) -> Result<Self> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        let count = count.min(current().files().ok_or(Errno::EBADF)?.size());
        let mut bits = [const { Vec::new() }; 3];
        for (set, &addr) in bits.iter_mut().zip(&users) {
            if addr != 0 {
                *set = UserSlice::<u64>::new(addr, words(count)).to_vec()?;
            }
        }
        Ok(Self { count, users, bits })
    }

    fn has(&self, set: usize, fd: usize) -> bool {
        self.bits.get(set).and_then(|bits| bits.get(fd / 64)).is_some_and(|word| word & (1 << (fd % 64)) != 0)
    }

    /// The descriptors in any set, with what is wanted of them.
    fn watches(&self) -> Result<Vec<Watch>> {
        let files = current().files().ok_or(Errno::EBADF)?;
        let mut out = Vec::new();
        for fd in 0..self.count {
            let mut wanted = PollEvents::empty();
            for (set, (events, _)) in SET_EVENTS.iter().enumerate() {
                if self.has(set, fd) {
                    wanted |= *events;
                }
            }
            if wanted.is_empty() {
                continue;
            }
            let file = files.get(Fd(fd as u32))?;
            out.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            out.push(Watch { fd: fd as i32, file: Some(file), wanted, ready: PollEvents::empty() });
        }
        Ok(out)
    }

    /// Replaces the sets by what is ready; the number of bits set.
    fn write(&mut self, watches: &[Watch]) -> Result<usize> {
        let mut count = 0;
        for (set, (_, counts)) in SET_EVENTS.iter().enumerate() {
            for watch in watches {
                let fd = watch.fd as usize;
                if !self.has(set, fd) {
                    continue;
                }
                if watch.ready.intersects(*counts) {
                    count += 1;
                } else if let Some(word) = self.bits.get_mut(set).and_then(|bits| bits.get_mut(fd / 64)) {
                    *word &= !(1 << (fd % 64));
                }
            }
            if let (Some(bits), Some(&addr)) = (self.bits.get(set), self.users.get(set))
                && addr != 0
            {
                UserSlice::<u64>::new(addr, bits.len()).copy_from(bits)?;
            }
        }
        Ok(count)
    }
}

fn do_select(count: i32, users: [usize; 3], deadline: Option<Deadline>, immediately: bool) -> Result<usize> {
    let mut sets = Sets::read(count, users)?;
    let mut watches = sets.watches()?;
    wait(&mut watches, deadline, immediately).map_err(no_restart)?;
    sets.write(&watches)
}

#[syscall(select)]
fn sys_select(count: i32, read: usize, write: usize, except: usize, timeout_addr: usize) -> Result<usize> {
    let user = UserPtr::<Timeval>::new(timeout_addr);
    let timeout_ns = match user.read_opt()? {
        None => None,
        Some(time) => {
            // Linux carries whole seconds over from the microseconds here.
            let sec = time.sec.checked_add(time.usec / 1_000_000).ok_or(Errno::EINVAL)?;
            Some(Timeval { sec, usec: time.usec % 1_000_000 }.to_ns()?)
        }
    };
    let deadline = timeout_ns.map(Deadline::after_ns);
    let result = do_select(count, [read, write, except], deadline, timeout_ns == Some(0));
    if let Some(deadline) = deadline {
        let _ = user.write(&Timeval::from_ns(deadline.remaining_ns()));
    }
    result
}

#[syscall(pselect6)]
fn sys_pselect6(
    count: i32,
    read: usize,
    write: usize,
    except: usize,
    timeout_addr: usize,
    sigmask: usize,
) -> Result<usize> {
    let timeout_ns = timeout(timeout_addr)?;
    let deadline = timeout_ns.map(Deadline::after_ns);
    let [mask, size] = match sigmask {
        0 => [0, 8],
        addr => UserPtr::<[usize; 2]>::new(addr).read()?,
    };
    let mask = UserPtr::new(mask);
    set_user_mask(mask, size)?;
    let result = do_select(count, [read, write, except], deadline, timeout_ns == Some(0));
    write_remaining(timeout_addr, deadline);
    restore_user_mask(result == Err(Errno::ERESTARTNOHAND));
    result
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[POLL, PPOLL, SELECT, PSELECT6];
