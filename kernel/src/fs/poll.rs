//! Waiting for files: `poll(2)`, `ppoll(2)`, `select(2)`, `pselect(2)`.
//!
//! Both families come down to rounds over a list of (file, wanted events): the first round
//! registers with each file's wait queues, later ones only look. Files are looked up once and held
//! for the time of the call; for a handful of them everything is on the stack.

use alloc::sync::Arc;

use abi::poll::{PollEvents, Pollfd};
use abi::time::{Timespec, Timeval};
use abi::{Errno, Result};
use macros::syscall;
use mm::user::{UserPtr, UserSlice};
use sched::hrtimer::Deadline;
use smallvec::SmallVec;
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
    /// `None`: not an open descriptor (or, for a negative `fd` of `poll`, not to be looked at).
    file: Option<Arc<File>>,
    wanted: PollEvents,
    ready: PollEvents,
}

/// Watches; as many as most programs have fit on the stack.
type Watches = SmallVec<[Watch; 16]>;

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
                None if watch.fd < 0 => PollEvents::empty(),
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

/// How many `struct pollfd` are copied at a time.
const CHUNK: usize = 16;

/// Adds the files behind the user's descriptors, one watch for each, also for negative ones. (Filled in place: a
/// list on the stack is half a KiB to move.)
fn watch_all(user: UserSlice<Pollfd>, watches: &mut Watches) -> Result<()> {
    let files = current().files().ok_or(Errno::EBADF)?;
    watches.try_reserve_exact(user.len()).map_err(|_| Errno::ENOMEM)?;
    let mut chunk = [Pollfd::default(); CHUNK];
    let mut left = user;
    while !left.is_empty() {
        let part = left.take(CHUNK);
        let Some(entries) = chunk.get_mut(..part.len()) else { break };
        part.copy_to(entries)?;
        watches.extend(entries.iter().map(|entry| Watch {
            fd: entry.fd,
            file: u32::try_from(entry.fd).ok().and_then(|fd| files.get(Fd(fd)).ok()),
            wanted: PollEvents::from_bits_retain(u32::from(entry.events.cast_unsigned())),
            ready: PollEvents::empty(),
        }));
        left = left.skip(part.len());
    }
    Ok(())
}

/// Tells the user what is ready.
fn write_back(user: UserSlice<Pollfd>, watches: &[Watch]) -> Result<()> {
    let mut chunk = [Pollfd::default(); CHUNK];
    let mut left = user;
    for part in watches.chunks(CHUNK) {
        let Some(entries) = chunk.get_mut(..part.len()) else { break };
        for (entry, watch) in entries.iter_mut().zip(part) {
            let [events, revents] = [watch.wanted, watch.ready].map(|set| (set.bits() as u16).cast_signed());
            *entry = Pollfd { fd: watch.fd, events, revents };
        }
        left.copy_from(entries)?;
        left = left.skip(part.len());
    }
    Ok(())
}

fn do_poll(addr: usize, count: u32, deadline: Option<Deadline>, immediately: bool) -> Result<usize> {
    if u64::from(count) > current().process.limits.cur(Resource::Nofile) {
        return Err(Errno::EINVAL);
    }
    let user = UserSlice::<Pollfd>::new(addr, count as usize);
    let mut watches = Watches::new();
    watch_all(user, &mut watches)?;
    let ready = wait(&mut watches, deadline, immediately)?;
    write_back(user, &watches)?;
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

/// Until when a call waits.
#[derive(Clone, Copy)]
enum Until {
    Ever,
    Deadline(Deadline),
    /// A timeout of zero: no clock is read.
    Now,
}

impl Until {
    fn after(timeout_ns: Option<u64>) -> Self {
        match timeout_ns {
            None => Self::Ever,
            Some(0) => Self::Now,
            Some(ns) => Self::Deadline(Deadline::after_ns(ns)),
        }
    }

    /// From an optional relative timeout in user memory.
    fn read(addr: usize) -> Result<Self> {
        Ok(Self::after(UserPtr::<Timespec>::new(addr).read_opt()?.map(Timespec::to_ns).transpose()?))
    }

    fn deadline(self) -> Option<Deadline> {
        match self {
            Self::Deadline(deadline) => Some(deadline),
            Self::Ever | Self::Now => None,
        }
    }

    fn is_now(self) -> bool {
        matches!(self, Self::Now)
    }
}

/// Writes back what is left of a timeout, as Linux does; a bad address is not an error then.
fn write_remaining(addr: usize, until: Until) {
    if let Some(deadline) = until.deadline() {
        let _ = UserPtr::<Timespec>::new(addr).write(&Timespec::from_ns(deadline.remaining_ns()));
    }
}

#[syscall(ppoll)]
fn sys_ppoll(fds: usize, nfds: u32, timeout_addr: usize, mask: usize, mask_size: usize) -> Result<usize> {
    let until = Until::read(timeout_addr)?;
    let mask = UserPtr::new(mask);
    set_user_mask(mask, mask_size)?;
    let result = do_poll(fds, nfds, until.deadline(), until.is_now());
    write_remaining(timeout_addr, until);
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

/// One descriptor set; that of 256 descriptors fits on the stack.
type Bits = SmallVec<[u64; 4]>;

/// The three sets of a `select(2)`, as bit words.
struct Sets {
    count: usize,
    users: [usize; 3],
    bits: [Bits; 3],
}

/// What each set waits for, and which readiness counts for it. What they wait for is disjoint.
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
        let mut bits = [(); 3].map(|()| Bits::new());
        for (set, &addr) in bits.iter_mut().zip(&users) {
            if addr != 0 {
                set.try_reserve_exact(words(count)).map_err(|_| Errno::ENOMEM)?;
                set.resize(words(count), 0);
                UserSlice::<u64>::new(addr, words(count)).copy_to(set)?;
            }
        }
        Ok(Self { count, users, bits })
    }

    /// Word `index` of each set; zero for a set that was not given.
    fn word(&self, index: usize) -> [u64; 3] {
        self.bits.each_ref().map(|bits| bits.get(index).copied().unwrap_or(0))
    }

    /// Adds the descriptors in any set, with what is wanted of them.
    fn watch(&self, out: &mut Watches) -> Result<()> {
        let files = current().files().ok_or(Errno::EBADF)?;
        let any = |sets: [u64; 3]| sets.into_iter().fold(0, |any, word| any | word);
        let all: u32 = (0..words(self.count)).map(|index| any(self.word(index)).count_ones()).sum();
        out.try_reserve_exact(all as usize).map_err(|_| Errno::ENOMEM)?;
        for index in 0..words(self.count) {
            let sets = self.word(index);
            let mut any = any(sets);
            while any != 0 {
                let bit = any & any.wrapping_neg();
                any ^= bit;
                let fd = index * 64 + bit.trailing_zeros() as usize;
                if fd >= self.count {
                    break;
                }
                let mut wanted = PollEvents::empty();
                for (word, (events, _)) in sets.iter().zip(&SET_EVENTS) {
                    if word & bit != 0 {
                        wanted |= *events;
                    }
                }
                let file = Some(files.get(Fd(fd as u32))?);
                out.push(Watch { fd: fd as i32, file, wanted, ready: PollEvents::empty() });
            }
        }
        Ok(())
    }

    /// Replaces the sets by what is ready; the number of bits set.
    fn write(&mut self, watches: &[Watch]) -> Result<usize> {
        let mut count = 0;
        for ((bits, &addr), (wanted, counts)) in self.bits.iter_mut().zip(&self.users).zip(&SET_EVENTS) {
            if addr == 0 {
                continue;
            }
            bits.fill(0);
            for watch in watches {
                if watch.wanted.intersects(*wanted)
                    && watch.ready.intersects(*counts)
                    && let Some(word) = bits.get_mut(watch.fd as usize / 64)
                {
                    *word |= 1 << (watch.fd % 64);
                    count += 1;
                }
            }
            UserSlice::<u64>::new(addr, bits.len()).copy_from(bits)?;
        }
        Ok(count)
    }
}

fn do_select(count: i32, users: [usize; 3], until: Until) -> Result<usize> {
    let mut sets = Sets::read(count, users)?;
    let mut watches = Watches::new();
    sets.watch(&mut watches)?;
    wait(&mut watches, until.deadline(), until.is_now()).map_err(no_restart)?;
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
    let until = Until::after(timeout_ns);
    let result = do_select(count, [read, write, except], until);
    if let Some(deadline) = until.deadline() {
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
    let until = Until::read(timeout_addr)?;
    let [mask, size] = match sigmask {
        0 => [0, 8],
        addr => UserPtr::<[usize; 2]>::new(addr).read()?,
    };
    let mask = UserPtr::new(mask);
    set_user_mask(mask, size)?;
    let result = do_select(count, [read, write, except], until);
    write_remaining(timeout_addr, until);
    restore_user_mask(result == Err(Errno::ERESTARTNOHAND));
    result
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[POLL, PPOLL, SELECT, PSELECT6];
