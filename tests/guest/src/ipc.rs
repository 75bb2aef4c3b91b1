//! Talking to each other: pipes, poll, epoll, event descriptors, message queues, sockets of the
//! local family (pipe(7), poll(2), epoll(7), eventfd(2), timerfd_create(2), signalfd(2), …).

use crate::prelude::*;
use std::sync::atomic::Ordering;

tests![
    pipe_basics,
    pipe_capacity,
    pipe_atomic_writes,
    pipe_blocking,
    pipe_flags,
    fifo_open_blocks,
    fifo_brief_writer,
    fifo_nonblock,
    poll_pipe,
    poll_errors,
    select_works,
    epoll_level,
    epoll_edge,
    epoll_oneshot,
    epoll_nested,
    epoll_errors,
    epoll_wakes,
    eventfd_counts,
    eventfd_semaphore,
    eventfd_blocks,
    timerfd_fires,
    timerfd_absolute_and_interval,
    signalfd_reads,
    fionread,
    pipe_throughput,
    socketpair_stream,
    sysv_shm,
    sysv_sem,
    sysv_msg,
    posix_mq_or_enosys,
];

fn poll(fds: &mut [pollfd], ms: i64) -> crate::sys::Result<usize> {
    let time = timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    let at = if ms < 0 { 0 } else { addr(&time) };
    sys!(SYS_ppoll, fds.as_mut_ptr(), fds.len(), at, 0, 0)
}

fn poll_one(fd: i32, events: i16, ms: i64) -> crate::sys::Result<i16> {
    let mut fds = [pollfd { fd, events, revents: 0 }];
    poll(&mut fds, ms)?;
    Ok(fds[0].revents)
}

fn pipe_basics() -> Outcome {
    let [r, w] = pipe(0)?;
    check_eq!(write(w, b"hello")?, 5);
    check_eq!(read_vec(r, 2)?, b"he");
    check_eq!(read_vec(r, 10)?, b"llo");
    check_err!(write(r, b"x"), EBADF);
    check_err!(read_vec(w, 1), EBADF);
    close(w)?;
    check_eq!(read_vec(r, 1)?, b"");
    check_err!(sys!(SYS_pipe2, 1, 0), EFAULT);
    let mut ends = [0; 2];
    check_err!(sys!(SYS_pipe2, ends.as_mut_ptr(), 0x10), EINVAL);
    Ok(())
}

fn pipe_capacity() -> Outcome {
    let [r, w] = pipe(O_NONBLOCK)?;
    check_eq!(fcntl(w, F_GETPIPE_SZ, 0)?, 65536);
    check_eq!(write(w, &vec![1; 100_000])?, 65536);
    check_err!(write(w, b"x"), EAGAIN);
    check_eq!(read_vec(r, 4096)?.len(), 4096);
    check_eq!(write(w, &[2; 10_000])?, 4096);
    check_eq!(fcntl(w, F_SETPIPE_SZ, 200_000)?, 262_144);
    check!(write(w, &[3; 10_000])? == 10_000);
    check_err!(fcntl(w, F_SETPIPE_SZ, 4096), EBUSY);
    check_eq!(read_vec(r, 1 << 20)?.len(), 75_536);
    check_eq!(fcntl(w, F_SETPIPE_SZ, 1)?, 4096);
    check_err!(read_vec(r, 1), EAGAIN);
    Ok(())
}

fn pipe_atomic_writes() -> Outcome {
    let [r, w] = pipe(0)?;
    // Writes of up to PIPE_BUF bytes never mix.
    let children: Vec<i32> = (0..4_u8)
        .map(|n| {
            fork(|| {
                for _ in 0..100 {
                    let _ = write(w, &[n; 1000]);
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    close(w)?;
    let mut all = Vec::new();
    loop {
        let part = read_vec(r, 1000)?;
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    check_eq!(all.len(), 400_000);
    check!(all.chunks(1000).all(|c| c.iter().all(|b| *b == c[0])));
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn pipe_blocking() -> Outcome {
    let [r, w] = pipe(0)?;
    let child = fork(|| {
        let _ = close(r);
        i32::from(write(w, &vec![7; 300_000]) != Ok(300_000))
    })?;
    close(w)?;
    check!(eventually(|| state(child) == Some('S')));
    check_eq!(read_all(r)?.len(), 300_000);
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn pipe_flags() -> Outcome {
    let [r, w] = pipe(O_CLOEXEC | O_NONBLOCK)?;
    check_eq!(fcntl(r, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(w, F_GETFL, 0)? as i32 & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_WRONLY);
    check_err!(read_vec(r, 1), EAGAIN);
    // Packet mode keeps the limits of each write.
    let [r, w] = pipe(O_DIRECT)?;
    write(w, b"abc")?;
    write(w, b"defgh")?;
    check_eq!(read_vec(r, 100)?, b"abc");
    check_eq!(read_vec(r, 2)?, b"de");
    Ok(())
}

fn fifo_open_blocks() -> Outcome {
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o600, 0)?;
    let child = fork(|| {
        let Ok(fd) = open(c"p", O_WRONLY, 0) else { return 1 };
        i32::from(write(fd, b"through the fifo").is_err())
    })?;
    check!(eventually(|| state(child) == Some('S')));
    let fd = open(c"p", O_RDONLY, 0)?;
    check_eq!(read_all(fd)?, b"through the fifo");
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

/// A writer that opened, wrote and closed before the reader's open returns was there all the same.
fn fifo_brief_writer() -> Outcome {
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o600, 0)?;
    for _ in 0..1000 {
        let child = fork(|| i32::from(open(c"p", O_WRONLY, 0).is_err()))?;
        check!(eventually(|| state(child) == Some('S')));
        let fd = open(c"p", O_RDONLY, 0)?;
        check_eq!(wait_exit(child)?, 0);
        check_eq!(read_all(fd)?, b"");
        close(fd)?;
    }
    Ok(())
}

fn fifo_nonblock() -> Outcome {
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o600, 0)?;
    check_err!(open(c"p", O_WRONLY | O_NONBLOCK, 0), ENXIO);
    let r = open(c"p", O_RDONLY | O_NONBLOCK, 0)?;
    check_eq!(read_vec(r, 1)?, b"");
    let w = open(c"p", O_WRONLY | O_NONBLOCK, 0)?;
    check_err!(read_vec(r, 1), EAGAIN);
    write(w, b"x")?;
    check_eq!(read_vec(r, 1)?, b"x");
    let both = open(c"p", O_RDWR, 0)?;
    write(both, b"y")?;
    check_eq!(read_vec(both, 1)?, b"y");
    Ok(())
}

fn poll_pipe() -> Outcome {
    let [r, w] = pipe(0)?;
    check_eq!(poll_one(r, POLLIN, 0)?, 0);
    check_eq!(poll_one(w, POLLOUT, 0)?, POLLOUT);
    write(w, b"x")?;
    check_eq!(poll_one(r, POLLIN | POLLRDNORM, 0)?, POLLIN | POLLRDNORM);
    close(w)?;
    check_eq!(poll_one(r, POLLIN, 0)?, POLLIN | POLLHUP);
    read_vec(r, 1)?;
    check_eq!(poll_one(r, POLLIN, 0)?, POLLHUP);
    let [r, w] = pipe(0)?;
    close(r)?;
    check_eq!(poll_one(w, POLLOUT, 0)?, POLLOUT | POLLERR);
    check_eq!(poll_one(999, POLLIN, 0)?, POLLNVAL);
    check_eq!(poll_one(-1, POLLIN, 0)?, 0);
    let file = create(c"f", b"")?;
    check_eq!(poll_one(file, POLLIN | POLLOUT, 0)?, POLLIN | POLLOUT);
    // A writer wakes a sleeping poll.
    let [r, w] = pipe(0)?;
    let child = fork(|| {
        sleep_ms(50);
        i32::from(write(w, b"x").is_err())
    })?;
    check_eq!(poll_one(r, POLLIN, -1)?, POLLIN);
    wait(child)?;
    Ok(())
}

fn poll_errors() -> Outcome {
    check_err!(sys!(SYS_ppoll, 1, 1, 0, 0, 0), EFAULT);
    let bad = timespec { tv_sec: 0, tv_nsec: -1 };
    check_err!(sys!(SYS_ppoll, 0, 0, addr(&bad), 0, 0), EINVAL);
    check_err!(sys!(SYS_ppoll, 0, 1 << 30, 0, 0, 0), EINVAL);
    let started = std::time::Instant::now();
    check_eq!(poll(&mut [], 30)?, 0);
    check!(started.elapsed().as_millis() >= 30);
    Ok(())
}

fn select_works() -> Outcome {
    let [r, w] = pipe(0)?;
    let call = |read: &mut [u64; 16], write: &mut [u64; 16]| {
        let zero = timespec { tv_sec: 0, tv_nsec: 0 };
        let (a, b) = (read.as_mut_ptr(), write.as_mut_ptr());
        sys!(SYS_pselect6, w.max(r) + 1, a, b, 0, addr(&zero), 0)
    };
    let (mut read, mut write_set) = ([0_u64; 16], [0_u64; 16]);
    read[0] = 1 << r;
    write_set[0] = 1 << w;
    check_eq!(call(&mut read, &mut write_set)?, 1);
    check_eq!((read[0], write_set[0]), (0, 1 << w));
    write(w, b"x")?;
    read[0] = 1 << r;
    check_eq!(call(&mut read, &mut write_set)?, 2);
    read[0] = 1 << 40;
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    check_err!(sys!(SYS_pselect6, 64, read.as_mut_ptr(), 0, 0, addr(&zero), 0), EBADF);
    check_err!(sys!(SYS_pselect6, -1_i64, 0, 0, 0, addr(&zero), 0), EINVAL);
    check_err!(sys!(SYS_pselect6, 64, 1, 0, 0, addr(&zero), 0), EFAULT);
    Ok(())
}

fn epoll_create() -> crate::sys::Result<i32> {
    sys!(SYS_epoll_create1, EPOLL_CLOEXEC).map(|fd| fd as i32)
}

fn epoll_ctl(ep: i32, op: i32, fd: i32, events: i32, data: u64) -> crate::sys::Result<usize> {
    let event = epoll_event { events: events as u32, u64: data };
    sys!(SYS_epoll_ctl, ep, op, fd, addr(&event))
}

fn epoll_wait(ep: i32, ms: i32) -> crate::sys::Result<Vec<(u32, u64)>> {
    let mut events: [epoll_event; 8] = zeroed();
    let count = sys!(SYS_epoll_pwait, ep, events.as_mut_ptr(), 8, ms, 0, 8)?;
    Ok(events[..count].iter().map(|e| (e.events, e.u64)).collect())
}

fn epoll_level() -> Outcome {
    let ep = epoll_create()?;
    let [r, w] = pipe(0)?;
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 77)?;
    check_eq!(epoll_wait(ep, 0)?, []);
    write(w, b"ab")?;
    check_eq!(epoll_wait(ep, 0)?, [(EPOLLIN as u32, 77)]);
    check_eq!(epoll_wait(ep, -1)?, [(EPOLLIN as u32, 77)]);
    read_vec(r, 10)?;
    check_eq!(epoll_wait(ep, 0)?, []);
    epoll_ctl(ep, EPOLL_CTL_ADD, w, EPOLLOUT, 1 << 40)?;
    check_eq!(epoll_wait(ep, 0)?, [(EPOLLOUT as u32, 1 << 40)]);
    epoll_ctl(ep, EPOLL_CTL_MOD, w, 0, 5)?;
    check_eq!(epoll_wait(ep, 0)?, []);
    epoll_ctl(ep, EPOLL_CTL_DEL, w, 0, 0)?;
    close(w)?;
    check_eq!(epoll_wait(ep, 0)?, [(EPOLLHUP as u32, 77)]);
    // The last close of the description removes it.
    close(r)?;
    check_eq!(epoll_wait(ep, 0)?, []);
    Ok(())
}

fn epoll_edge() -> Outcome {
    let ep = epoll_create()?;
    let [r, w] = pipe(0)?;
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLET, 1)?;
    write(w, b"a")?;
    check_eq!(epoll_wait(ep, 0)?.len(), 1);
    check_eq!(epoll_wait(ep, 0)?.len(), 0);
    write(w, b"b")?;
    check_eq!(epoll_wait(ep, 0)?.len(), 1);
    check_eq!(epoll_wait(ep, 0)?.len(), 0);
    check_eq!(read_vec(r, 10)?, b"ab");
    // Registered with data waiting, the first edge is at once.
    write(w, b"c")?;
    epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, 2)?;
    check_eq!(epoll_wait(ep, 0)?, [(EPOLLIN as u32, 2)]);
    Ok(())
}

fn epoll_oneshot() -> Outcome {
    let ep = epoll_create()?;
    let [r, w] = pipe(0)?;
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLONESHOT, 1)?;
    write(w, b"a")?;
    check_eq!(epoll_wait(ep, 0)?.len(), 1);
    write(w, b"b")?;
    check_eq!(epoll_wait(ep, 0)?.len(), 0);
    epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLONESHOT, 1)?;
    check_eq!(epoll_wait(ep, 0)?.len(), 1);
    Ok(())
}

fn epoll_nested() -> Outcome {
    let (outer, inner) = (epoll_create()?, epoll_create()?);
    let [r, w] = pipe(0)?;
    epoll_ctl(inner, EPOLL_CTL_ADD, r, EPOLLIN, 1)?;
    epoll_ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2)?;
    check_eq!(epoll_wait(outer, 0)?, []);
    write(w, b"x")?;
    check_eq!(epoll_wait(outer, 0)?, [(EPOLLIN as u32, 2)]);
    check_eq!(poll_one(outer, POLLIN, 0)?, POLLIN);
    check_err!(epoll_ctl(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 3), ELOOP);
    Ok(())
}

fn epoll_errors() -> Outcome {
    let ep = epoll_create()?;
    let [r, _w] = pipe(0)?;
    check_err!(epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN, 0), ENOENT);
    check_err!(epoll_ctl(ep, EPOLL_CTL_DEL, r, EPOLLIN, 0), ENOENT);
    epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 0)?;
    check_err!(epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, 0), EEXIST);
    check_err!(epoll_ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 0), EINVAL);
    check_err!(epoll_ctl(ep, 99, r, EPOLLIN, 0), EINVAL);
    check_err!(epoll_ctl(ep, EPOLL_CTL_ADD, create(c"f", b"")?, EPOLLIN, 0), EPERM);
    check_err!(epoll_ctl(ep, EPOLL_CTL_ADD, 999, EPOLLIN, 0), EBADF);
    check_err!(epoll_ctl(r, EPOLL_CTL_ADD, r, EPOLLIN, 0), EINVAL);
    check_err!(sys!(SYS_epoll_pwait, ep, 8, 0, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_epoll_create1, 1), EINVAL);
    check_err!(sys!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, r, 1), EFAULT);
    Ok(())
}

fn epoll_wakes() -> Outcome {
    let ep = epoll_create()?;
    let pipes = (0..50).map(|_| pipe(0)).collect::<Result<Vec<_>, _>>()?;
    for (n, ends) in pipes.iter().enumerate() {
        epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], EPOLLIN, n as u64)?;
    }
    let child = fork(|| {
        for n in [13, 27, 49] {
            sleep_ms(10);
            let _ = write(pipes[n][1], b"x");
        }
        0
    })?;
    for n in [13, 27, 49] {
        check_eq!(epoll_wait(ep, 5000)?, [(EPOLLIN as u32, n as u64)]);
        read_vec(pipes[n][0], 1)?;
    }
    wait(child)?;
    let started = std::time::Instant::now();
    check_eq!(epoll_wait(ep, 40)?, []);
    check!(started.elapsed().as_millis() >= 40);
    Ok(())
}

fn eventfd_counts() -> Outcome {
    let fd = sys!(SYS_eventfd2, 3, EFD_NONBLOCK)? as i32;
    check_eq!(read_vec(fd, 8)?, 3_u64.to_le_bytes());
    check_err!(read_vec(fd, 8), EAGAIN);
    write(fd, &5_u64.to_le_bytes())?;
    write(fd, &6_u64.to_le_bytes())?;
    check_eq!(read_vec(fd, 100)?, 11_u64.to_le_bytes());
    check_err!(read_vec(fd, 7), EINVAL);
    check_err!(write(fd, b"short"), EINVAL);
    check_err!(write(fd, &u64::MAX.to_le_bytes()), EINVAL);
    write(fd, &(u64::MAX - 1).to_le_bytes())?;
    check_err!(write(fd, &1_u64.to_le_bytes()), EAGAIN);
    check_eq!(poll_one(fd, POLLIN | POLLOUT, 0)?, POLLIN);
    check_err!(sys!(SYS_eventfd2, 0, 0x10), EINVAL);
    Ok(())
}

fn eventfd_semaphore() -> Outcome {
    let fd = sys!(SYS_eventfd2, 2, EFD_SEMAPHORE | EFD_NONBLOCK)? as i32;
    check_eq!(read_vec(fd, 8)?, 1_u64.to_le_bytes());
    check_eq!(read_vec(fd, 8)?, 1_u64.to_le_bytes());
    check_err!(read_vec(fd, 8), EAGAIN);
    Ok(())
}

fn eventfd_blocks() -> Outcome {
    let fd = sys!(SYS_eventfd2, 0, 0)? as i32;
    let child = fork(|| {
        sleep_ms(30);
        i32::from(write(fd, &9_u64.to_le_bytes()).is_err())
    })?;
    check_eq!(read_vec(fd, 8)?, 9_u64.to_le_bytes());
    wait(child)?;
    Ok(())
}

fn time(ms: i64) -> timespec {
    timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
}

fn timerfd_fires() -> Outcome {
    let fd = sys!(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK)? as i32;
    check_err!(read_vec(fd, 8), EAGAIN);
    let setting = itimerspec { it_interval: time(0), it_value: time(30) };
    let mut old: itimerspec = zeroed();
    sys!(SYS_timerfd_settime, fd, 0, addr(&setting), addr_mut(&mut old))?;
    check_eq!(poll_one(fd, POLLIN, 0)?, 0);
    sys!(SYS_timerfd_gettime, fd, addr_mut(&mut old))?;
    check!(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 30_000_000);
    check_eq!(poll_one(fd, POLLIN, 5000)?, POLLIN);
    check_eq!(read_vec(fd, 8)?, 1_u64.to_le_bytes());
    check_err!(read_vec(fd, 8), EAGAIN);
    check_err!(read_vec(fd, 4), EINVAL);
    check_err!(write(fd, &[0; 8]), EINVAL);
    check_err!(sys!(SYS_timerfd_create, 99, 0), EINVAL);
    check_err!(sys!(SYS_timerfd_create, CLOCK_MONOTONIC, 0x10), EINVAL);
    let bad = itimerspec { it_interval: time(0), it_value: timespec { tv_sec: 0, tv_nsec: -1 } };
    check_err!(sys!(SYS_timerfd_settime, fd, 0, addr(&bad), 0), EINVAL);
    Ok(())
}

fn timerfd_absolute_and_interval() -> Outcome {
    let fd = sys!(SYS_timerfd_create, CLOCK_MONOTONIC, 0)? as i32;
    let setting = itimerspec { it_interval: time(10), it_value: time(10) };
    sys!(SYS_timerfd_settime, fd, 0, addr(&setting), 0)?;
    sleep_ms(100);
    let count = read_vec(fd, 8)?[0];
    check!(count >= 9, "{count}");
    // In the past: at once.
    let past = itimerspec { it_interval: time(0), it_value: time(1) };
    sys!(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, addr(&past), 0)?;
    check_eq!(read_vec(fd, 8)?, 1_u64.to_le_bytes());
    let off: itimerspec = zeroed();
    sys!(SYS_timerfd_settime, fd, 0, addr(&off), 0)?;
    check_eq!(poll_one(fd, POLLIN, 20)?, 0);
    Ok(())
}

fn signalfd_reads() -> Outcome {
    let set = 1_u64 << (SIGUSR1 - 1) | 1 << (40 - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8)?;
    let fd = sys!(SYS_signalfd4, -1_i64, addr(&set), 8, SFD_NONBLOCK)? as i32;
    check_err!(read_vec(fd, 128), EAGAIN);
    kill(getpid(), SIGUSR1)?;
    check_eq!(poll_one(fd, POLLIN, 0)?, POLLIN);
    let bytes = read_vec(fd, 1024)?;
    check_eq!(bytes.len(), 128);
    let word = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    check_eq!((word(0), word(8), word(12)), (SIGUSR1, SI_USER, getpid()));
    check_err!(read_vec(fd, 127), EINVAL);
    let value = sigval { sival_ptr: 1234 as *mut _ };
    c!(sigqueue(getpid(), 40, value))?;
    let bytes = read_vec(fd, 128)?;
    let word = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    check_eq!((word(0), word(44)), (40, 1234));
    check_err!(sys!(SYS_signalfd4, -1_i64, addr(&set), 4, 0), EINVAL);
    Ok(())
}

fn fionread() -> Outcome {
    let [r, w] = pipe(0)?;
    write(w, &[0; 123])?;
    let mut count = 0;
    sys!(SYS_ioctl, r, FIONREAD, addr_mut(&mut count))?;
    check_eq!(count, 123);
    check_err!(sys!(SYS_ioctl, r, TCGETS, 8), ENOTTY);
    let on = 1;
    sys!(SYS_ioctl, r, FIONBIO, addr(&on))?;
    check!(fcntl(r, F_GETFL, 0)? as i32 & O_NONBLOCK != 0);
    sys!(SYS_ioctl, r, FIOCLEX)?;
    check_eq!(fcntl(r, F_GETFD, 0)?, FD_CLOEXEC as usize);
    Ok(())
}

fn pipe_throughput() -> Outcome {
    let [r, w] = pipe(0)?;
    let child = fork(|| {
        let _ = close(r);
        let block: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
        i32::from((0..512).any(|_| write(w, &block) != Ok(8192)))
    })?;
    close(w)?;
    let (mut total, mut sum) = (0_u64, 0_u64);
    loop {
        let part = read_vec(r, 7000)?;
        if part.is_empty() {
            break;
        }
        total += part.len() as u64;
        sum += part.iter().map(|b| u64::from(*b)).sum::<u64>();
    }
    let one: u64 = (0..8192_u64).map(|n| n % 251).sum();
    check_eq!((total, sum), (512 * 8192, 512 * one));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn socketpair_stream() -> Outcome {
    let mut ends = [0; 2];
    sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.as_mut_ptr())?;
    write(ends[0], b"ping")?;
    check_eq!(read_vec(ends[1], 10)?, b"ping");
    write(ends[1], b"pong")?;
    check_eq!(read_vec(ends[0], 10)?, b"pong");
    sys!(SYS_shutdown, ends[0], SHUT_WR)?;
    check_eq!(read_vec(ends[1], 1)?, b"");
    check_eq!(fstat(ends[0])?.st_mode & S_IFMT, S_IFSOCK);
    Ok(())
}

fn sysv_shm() -> Outcome {
    let id = sys!(SYS_shmget, IPC_PRIVATE, 8192, 0o600)?;
    let at = sys!(SYS_shmat, id, 0, 0)?;
    poke(at + 5000, 3);
    let status = in_child(|| {
        let seen = peek(at + 5000) == 3;
        poke(at, 9);
        i32::from(!seen)
    })?;
    check_eq!((status, peek(at)), (0, 9));
    sys!(SYS_shmctl, id, IPC_RMID, 0)?;
    sys!(SYS_shmdt, at)?;
    check_err!(sys!(SYS_shmdt, at), EINVAL);
    check_err!(sys!(SYS_shmat, id, 0, 0), EINVAL);
    check_err!(sys!(SYS_shmget, 0x4242, 4096, 0o600), ENOENT);
    Ok(())
}

fn sysv_sem() -> Outcome {
    let id = sys!(SYS_semget, IPC_PRIVATE, 2, 0o600)?;
    sys!(SYS_semctl, id, 0, 16, 1)?;
    check_eq!(sys!(SYS_semctl, id, 0, 12, 0)?, 1);
    let operation = |op: i16, flags: i16| sembuf { sem_num: 0, sem_op: op, sem_flg: flags };
    sys!(SYS_semop, id, addr(&operation(-1, 0)), 1)?;
    check_err!(sys!(SYS_semop, id, addr(&operation(-1, IPC_NOWAIT as i16)), 1), EAGAIN);
    let child = fork(|| {
        sleep_ms(30);
        i32::from(sys!(SYS_semop, id, addr(&operation(1, 0)), 1).is_err())
    })?;
    sys!(SYS_semop, id, addr(&operation(-1, 0)), 1)?;
    check_eq!(wait_exit(child)?, 0);
    sys!(SYS_semctl, id, 0, IPC_RMID, 0)?;
    check_err!(sys!(SYS_semop, id, addr(&operation(1, 0)), 1), EINVAL);
    Ok(())
}

fn sysv_msg() -> Outcome {
    #[repr(C)]
    struct Message {
        kind: i64,
        text: [u8; 8],
    }
    let id = sys!(SYS_msgget, IPC_PRIVATE, 0o600)?;
    for kind in 1..=3 {
        let message = Message { kind, text: [kind as u8; 8] };
        sys!(SYS_msgsnd, id, addr(&message), 8, 0)?;
    }
    let mut message = Message { kind: 0, text: [0; 8] };
    check_eq!(sys!(SYS_msgrcv, id, addr_mut(&mut message), 8, 2, 0)?, 8);
    check_eq!((message.kind, message.text), (2, [2; 8]));
    sys!(SYS_msgrcv, id, addr_mut(&mut message), 8, 0, 0)?;
    check_eq!(message.kind, 1);
    check_err!(sys!(SYS_msgrcv, id, addr_mut(&mut message), 8, 9, IPC_NOWAIT), ENOMSG);
    check_err!(sys!(SYS_msgrcv, id, addr_mut(&mut message), 4, 0, IPC_NOWAIT), E2BIG);
    sys!(SYS_msgctl, id, IPC_RMID, 0)?;
    Ok(())
}

fn posix_mq_or_enosys() -> Outcome {
    let flags = O_CREAT | O_RDWR | O_NONBLOCK;
    let fd = sys!(SYS_mq_open, c"karst-test".as_ptr(), flags, 0o600, 0)? as i32;
    sys!(SYS_mq_timedsend, fd, b"low".as_ptr(), 3, 1, 0)?;
    sys!(SYS_mq_timedsend, fd, b"high".as_ptr(), 4, 9, 0)?;
    let (mut buffer, mut priority) = (vec![0_u8; 8192], 0_u32);
    let at = addr_mut(&mut priority);
    let n = sys!(SYS_mq_timedreceive, fd, buffer.as_mut_ptr(), 8192, at, 0)?;
    check_eq!((&buffer[..n], priority), (&b"high"[..], 9));
    sys!(SYS_mq_unlink, c"karst-test".as_ptr())?;
    atomic(addr(&priority) & !3).load(Ordering::SeqCst);
    Ok(())
}
