//! Files that stand for events: `epoll(7)`, `eventfd(2)`, `timerfd_create(2)`.

use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result, raw};
use arch::uapi::EpollEvent;
use macros::syscall;
use mm::user::UserPtr;
use sched::hrtimer::Deadline;
use vfs::fdtable::Fd;
use vfs::{epoll, eventfd, timerfd};

use super::context::{Caller, file, install};
use crate::signal::wait::{restore_user_mask, set_user_mask};
use crate::syscall::Syscall;
use crate::time::clock::from_namespace;

#[syscall(epoll_create1)]
fn sys_epoll_create1(flags: u32) -> Result<Fd> {
    if flags & !raw::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(epoll::epoll_create(Caller::current()?.cred())?, flags & raw::EPOLL_CLOEXEC != 0)
}

#[syscall(epoll_create)]
fn sys_epoll_create(size: i32) -> Result<Fd> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(0)
}

#[syscall(epoll_ctl)]
fn sys_epoll_ctl(epfd: Fd, op: u32, fd: Fd, event: UserPtr<EpollEvent>) -> Result<()> {
    let (events, data) = match op {
        raw::EPOLL_CTL_DEL => (0, 0),
        _ => {
            let event = event.read()?;
            (event.events, event.data)
        }
    };
    epoll::epoll_ctl(&file(epfd)?, op, fd.0, &file(fd)?, events, data)
}

/// Most events that fit the arithmetic of Linux (`EP_MAX_EVENTS`).
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

fn do_epoll_wait(epfd: Fd, events: usize, max: i32, timeout_ns: Option<u64>) -> Result<usize> {
    let max = usize::try_from(max).ok().filter(|&max| max > 0 && max <= MAX_EVENTS).ok_or(Errno::EINVAL)?;
    if !mm::user::access_ok(events, max * size_of::<EpollEvent>()) {
        return Err(Errno::EFAULT);
    }
    let file = file(epfd)?;
    let deadline = timeout_ns.map(Deadline::after_ns);
    let mut next = events;
    epoll::epoll_wait(&file, max, timeout_ns != Some(0), deadline, &mut |events, data| {
        UserPtr::<EpollEvent>::new(next).write(&EpollEvent::new(events, data))?;
        next += size_of::<EpollEvent>();
        Ok(())
    })
}

fn milliseconds(timeout: i32) -> Option<u64> {
    u64::try_from(timeout).ok().map(|ms| ms * 1_000_000)
}

#[syscall(epoll_wait)]
fn sys_epoll_wait(epfd: Fd, events: usize, max: i32, timeout: i32) -> Result<usize> {
    do_epoll_wait(epfd, events, max, milliseconds(timeout))
}

fn masked_wait(
    epfd: Fd,
    events: usize,
    max: i32,
    timeout_ns: Option<u64>,
    mask: usize,
    size: usize,
) -> Result<usize> {
    set_user_mask(UserPtr::new(mask), size)?;
    let result = do_epoll_wait(epfd, events, max, timeout_ns);
    restore_user_mask(result == Err(Errno::EINTR));
    result
}

#[syscall(epoll_pwait)]
fn sys_epoll_pwait(
    epfd: Fd,
    events: usize,
    max: i32,
    timeout: i32,
    mask: usize,
    size: usize,
) -> Result<usize> {
    masked_wait(epfd, events, max, milliseconds(timeout), mask, size)
}

#[syscall(epoll_pwait2)]
fn sys_epoll_pwait2(
    epfd: Fd,
    events: usize,
    max: i32,
    timeout: UserPtr<Timespec>,
    mask: usize,
    size: usize,
) -> Result<usize> {
    let timeout_ns = timeout.read_opt()?.map(Timespec::to_ns).transpose()?;
    masked_wait(epfd, events, max, timeout_ns, mask, size)
}

#[syscall(eventfd2)]
fn sys_eventfd2(initial: u32, flags: u32) -> Result<Fd> {
    let file = eventfd::eventfd(Caller::current()?.cred(), initial, flags)?;
    install(file, flags & raw::EFD_CLOEXEC != 0)
}

#[syscall(eventfd)]
fn sys_eventfd(initial: u32) -> Result<Fd> {
    sys_eventfd2(initial, 0)
}

#[syscall(timerfd_create)]
fn sys_timerfd_create(clock: u32, flags: u32) -> Result<Fd> {
    let file = timerfd::timerfd_create(Caller::current()?.cred(), clock, flags)?;
    install(file, flags & raw::TFD_CLOEXEC != 0)
}

#[syscall(timerfd_settime)]
fn sys_timerfd_settime(fd: Fd, flags: u32, new: UserPtr<Itimerspec>, old: UserPtr<Itimerspec>) -> Result<()> {
    let mut new = new.read()?;
    let file = file(fd)?;
    let clock = timerfd::clock_id(&file)?;
    let value = new.value.to_ns()?;
    if flags & raw::TFD_TIMER_ABSTIME != 0 && value != 0 {
        // 0 would stop it.
        new.value = Timespec::from_ns(from_namespace(clock as i32, value).max(1));
    }
    let before = timerfd::timerfd_settime(&file, flags, &new)?;
    old.write_opt(&before)
}

#[syscall(timerfd_gettime)]
fn sys_timerfd_gettime(fd: Fd, current: UserPtr<Itimerspec>) -> Result<()> {
    current.write(&timerfd::timerfd_gettime(&*file(fd)?)?)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    EPOLL_CREATE1,
    EPOLL_CREATE,
    EPOLL_CTL,
    EPOLL_WAIT,
    EPOLL_PWAIT,
    EPOLL_PWAIT2,
    EVENTFD2,
    EVENTFD,
    TIMERFD_CREATE,
    TIMERFD_SETTIME,
    TIMERFD_GETTIME,
];
