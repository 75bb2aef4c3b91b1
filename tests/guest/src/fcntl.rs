//! fcntl(2): leases, F_NOTIFY, owners and signals of files, hints, queries, record locks of all kinds.

use crate::prelude::*;

tests![
    lease_errors,
    lease_conflicts,
    lease_broken_by_open,
    lease_downgrade,
    lease_time_is_up,
    lease_broken_by_truncate,
    lease_nonblock_and_signal,
    lease_shown,
    dnotify_events,
    dnotify_errors,
    owner_numbers,
    sigio_of_pipes,
    sigio_unsupported,
    rw_hints,
    dupfd_query,
    locks_deadlock,
    locks_and_close,
    locks_and_fork,
    locks_split_and_join,
    pipe_sizes,
    seal_rules,
];

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_DUPFD_QUERY: i32 = 1027;
const F_CREATED_QUERY: i32 = 1028;
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;
const DN_ACCESS: usize = 1;
const DN_MODIFY: usize = 2;
const DN_CREATE: usize = 4;
const DN_DELETE: usize = 8;
const DN_RENAME: usize = 16;
const DN_ATTRIB: usize = 32;
const DN_MULTISHOT: usize = 0x8000_0000;
const POLL_IN: i32 = 1;
const POLL_OUT: i32 = 2;
const POLL_MSG: i32 = 3;

/// Blocks SIGIO and the first real-time signals, to be taken with [`taken`].
fn block() -> Result<u64, Errno> {
    let set = 1_u64 << (SIGIO - 1) | 0xff << (SIGRTMIN() - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8)?;
    Ok(set)
}

/// The next of the blocked signals within `ms`: number, code, descriptor; zeros for none.
pub(crate) fn taken(set: u64, ms: i64) -> Result<(i32, i32, i32), Errno> {
    let mut info = [0_i32; 32];
    let time = [ms / 1000, ms % 1000 * 1_000_000];
    match sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), addr(&time), 8) {
        Ok(_) => Ok((info[0], info[2], info[6])),
        Err(Errno(EAGAIN)) => Ok((0, 0, 0)),
        Err(error) => Err(error),
    }
}

fn lease_errors() -> Outcome {
    let file = create(c"f", b"x")?;
    check_eq!(fcntl(file, F_GETLEASE, 0)?, F_UNLCK as usize);
    check_err!(fcntl(file, F_SETLEASE, 77), EINVAL);
    check_err!(fcntl(file, F_SETLEASE, F_UNLCK as usize), EAGAIN);
    mkdir(c"d", 0o755)?;
    let dir = open(c"d", O_RDONLY, 0)?;
    check_err!(fcntl(dir, F_SETLEASE, F_RDLCK as usize), EINVAL);
    let ends = crate::sys::pipe(0)?;
    check_err!(fcntl(ends[0], F_SETLEASE, F_RDLCK as usize), EINVAL);
    let path = open(c"f", O_PATH, 0)?;
    check_err!(fcntl(path, F_SETLEASE, F_RDLCK as usize), EBADF);
    check_err!(fcntl(999, F_GETLEASE, 0), EBADF);
    // Of files of others only with CAP_LEASE.
    create(c"other", b"").and_then(close)?;
    let status = in_child(|| {
        let Ok(other) = open(c"other", O_RDONLY, 0) else { return 1 };
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(fcntl(other, F_SETLEASE, F_RDLCK as usize) != Err(Errno(EACCES))) * 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn lease_conflicts() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let (read, write) = (F_RDLCK as usize, F_WRLCK as usize);
    let a = open(c"f", O_RDONLY, 0)?;
    // Open for reading once: both kinds fit.
    fcntl(a, F_SETLEASE, write)?;
    check_eq!(fcntl(a, F_GETLEASE, 0)?, write);
    fcntl(a, F_SETLEASE, read)?;
    check_eq!(fcntl(a, F_GETLEASE, 0)?, read);
    let b = open(c"f", O_RDONLY, 0)?;
    check_eq!(fcntl(b, F_GETLEASE, 0)?, F_UNLCK as usize);
    fcntl(b, F_SETLEASE, read)?;
    check_err!(fcntl(b, F_SETLEASE, write), EAGAIN);
    fcntl(a, F_SETLEASE, F_UNLCK as usize)?;
    // Still open twice.
    check_err!(fcntl(b, F_SETLEASE, write), EAGAIN);
    close(a)?;
    fcntl(b, F_SETLEASE, write)?;
    close(b)?;
    // A writer fits no read lease, not even its own.
    let w = open(c"f", O_RDWR, 0)?;
    check_err!(fcntl(w, F_SETLEASE, read), EAGAIN);
    fcntl(w, F_SETLEASE, write)?;
    // Duplicates share it, and closing one of them keeps it.
    let copy = fcntl(w, F_DUPFD, 0)? as i32;
    close(w)?;
    check_eq!(fcntl(copy, F_GETLEASE, 0)?, write);
    close(copy)?;
    let a = open(c"f", O_RDONLY, 0)?;
    check_eq!(fcntl(a, F_GETLEASE, 0)?, F_UNLCK as usize);
    Ok(())
}

fn lease_broken_by_open() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETSIG, SIGRTMIN() as usize)?;
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    // Readers go with it.
    close(open(c"f", O_RDONLY, 0)?)?;
    check_eq!(taken(set, 10)?.0, 0);
    let child = fork(|| i32::from(open(c"f", O_WRONLY, 0).is_err()))?;
    check_eq!(taken(set, 5000)?, (SIGRTMIN(), POLL_MSG, file));
    check_eq!(fcntl(file, F_GETLEASE, 0)?, F_UNLCK as usize);
    sleep_ms(20);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    // No new lease against who waits.
    check_err!(fcntl(open(c"f", O_RDONLY, 0)?, F_SETLEASE, F_RDLCK as usize), EAGAIN);
    fcntl(file, F_SETLEASE, F_UNLCK as usize)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(taken(set, 1)?.0, 0);
    // The owner and the signal are forgotten with the lease.
    check_eq!(fcntl(file, F_GETSIG, 0)?, 0);
    check_eq!(fcntl(file, F_GETOWN, 0)?, 0);
    Ok(())
}

fn lease_downgrade() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDWR, 0)?;
    fcntl(file, F_SETLEASE, F_WRLCK as usize)?;
    let child = fork(|| i32::from(open(c"f", O_RDONLY, 0).is_err()))?;
    check_eq!(taken(set, 5000)?.0, SIGIO);
    check_eq!(fcntl(file, F_GETLEASE, 0)?, F_RDLCK as usize);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    // The file is open for writing, so a read lease cannot be had; giving it up lets the reader in.
    check_err!(fcntl(file, F_SETLEASE, F_RDLCK as usize), EAGAIN);
    fcntl(file, F_SETLEASE, F_UNLCK as usize)?;
    check_eq!(wait_exit(child)?, 0);
    close(file)?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETLEASE, F_WRLCK as usize)?;
    let child = fork(|| i32::from(open(c"f", O_RDONLY, 0).is_err()))?;
    check_eq!(taken(set, 5000)?.0, SIGIO);
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(fcntl(file, F_GETLEASE, 0)?, F_RDLCK as usize);
    // Closing gives way as well.
    let child = fork(|| {
        let _ = close(file);
        i32::from(open(c"f", O_WRONLY, 0).is_err())
    })?;
    check_eq!(taken(set, 5000)?.0, SIGIO);
    close(file)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn lease_time_is_up() -> Outcome {
    let time = c"/proc/sys/fs/lease-break-time";
    let old = slurp(time)?;
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    spew(time, "1")?;
    let opened = in_child(|| i32::from(open(c"f", O_WRONLY, 0).is_err()));
    spew(time, &old)?;
    check_eq!(old, "45\n");
    check_eq!(opened?, 0);
    check_eq!(taken(set, 1)?.0, SIGIO);
    check_eq!(fcntl(file, F_GETLEASE, 0)?, F_UNLCK as usize);
    check_err!(fcntl(file, F_SETLEASE, F_UNLCK as usize), EAGAIN);
    let enable = c"/proc/sys/fs/leases-enable";
    spew(enable, "0")?;
    let refused = fcntl(file, F_SETLEASE, F_RDLCK as usize);
    spew(enable, "1")?;
    check_err!(refused, EINVAL);
    Ok(())
}

fn lease_broken_by_truncate() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    let child = fork(|| i32::from(sys!(SYS_truncate, c"f".as_ptr(), 0).is_err()))?;
    check_eq!(taken(set, 5000)?.0, SIGIO);
    fcntl(file, F_SETLEASE, F_UNLCK as usize)?;
    check_eq!(wait_exit(child)?, 0);
    // Names and attributes can change.
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o600)?;
    sys!(SYS_renameat, CWD, c"f".as_ptr(), CWD, c"g".as_ptr())?;
    unlink(c"g")?;
    check_eq!(taken(set, 1)?.0, 0);
    Ok(())
}

extern "C" fn on_signal(_: i32) {}

fn lease_nonblock_and_signal() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    check_err!(open(c"f", O_WRONLY | O_NONBLOCK, 0), EWOULDBLOCK);
    check_eq!(taken(set, 1000)?.0, SIGIO);
    // Told once.
    check_err!(open(c"f", O_RDWR | O_NONBLOCK, 0), EWOULDBLOCK);
    check_eq!(taken(set, 1)?.0, 0);
    // O_TRUNC alone is not looked at.
    close(open(c"f", O_RDONLY | O_TRUNC | O_NONBLOCK, 0)?)?;
    let child = fork(|| {
        let mut action: sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
        i32::from(open(c"f", O_WRONLY, 0) != Err(Errno(EINTR)))
    })?;
    check!(eventually(|| state(child) == Some('S')));
    sleep_ms(20);
    kill(child, SIGUSR1)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn lease_shown() -> Outcome {
    create(c"f", b"x").and_then(close)?;
    let set = block()?;
    let file = open(c"f", O_RDONLY, 0)?;
    fcntl(file, F_SETLEASE, F_RDLCK as usize)?;
    let ino = stat(c"f")?.st_ino;
    let line = || -> Result<String, Failure> {
        let text = std::fs::read_to_string("/proc/locks")?;
        let line = text.lines().find(|line| line.contains(&format!(":{ino} ")) && !line.contains("->"));
        Ok(line.unwrap_or_default().split_once(": ").map(|(_, rest)| rest.to_string()).unwrap_or_default())
    };
    let active = line()?;
    let start = format!("LEASE  ACTIVE    READ  {} ", getpid());
    check!(active.starts_with(&start) || active.starts_with(&start.replace("READ  ", "READ ")), "{active}");
    check!(active.ends_with(" 0 EOF"), "{active}");
    check_err!(open(c"f", O_WRONLY | O_NONBLOCK, 0), EWOULDBLOCK);
    taken(set, 1000)?;
    let breaking = line()?;
    check!(breaking.starts_with("LEASE  BREAKING  UNLCK "), "{breaking}");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{file}"))?;
    check!(info.contains("lock:\t1: LEASE  BREAKING  UNLCK "), "{info}");
    Ok(())
}

fn dnotify_events() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"abc").and_then(close)?;
    let set = block()?;
    let dir = open(c"d", O_RDONLY, 0)?;
    fcntl(dir, F_SETSIG, SIGRTMIN() as usize)?;
    let told = (SIGRTMIN(), POLL_MSG, dir);
    fcntl(dir, F_NOTIFY, DN_CREATE)?;
    check_eq!(fcntl(dir, F_GETOWN, 0)? as i32, getpid());
    create(c"d/g", b"").and_then(close)?;
    check_eq!(taken(set, 1000)?, told);
    // Once, unless DN_MULTISHOT.
    create(c"d/h", b"").and_then(close)?;
    check_eq!(taken(set, 1)?.0, 0);
    fcntl(dir, F_NOTIFY, DN_CREATE | DN_MULTISHOT)?;
    for name in [c"d/1", c"d/2"] {
        create(name, b"").and_then(close)?;
        check_eq!(taken(set, 1000)?, told);
    }
    // More is added to what was asked for before.
    fcntl(dir, F_NOTIFY, DN_DELETE | DN_MULTISHOT)?;
    create(c"d/3", b"").and_then(close)?;
    check_eq!(taken(set, 1000)?, told);
    unlink(c"d/3")?;
    check_eq!(taken(set, 1000)?, told);
    fcntl(dir, F_NOTIFY, 0)?;
    unlink(c"d/2")?;
    check_eq!(taken(set, 1)?.0, 0);
    fcntl(dir, F_NOTIFY, DN_ACCESS | DN_MODIFY | DN_ATTRIB | DN_RENAME | DN_MULTISHOT)?;
    let file = open(c"d/f", O_RDWR, 0)?;
    check_eq!(taken(set, 1)?.0, 0);
    read_vec(file, 1)?;
    check_eq!(taken(set, 1000)?, told);
    write(file, b"x")?;
    check_eq!(taken(set, 1000)?, told);
    sys!(SYS_fchmod, file, 0o600)?;
    check_eq!(taken(set, 1000)?, told);
    sys!(SYS_renameat, CWD, c"d/f".as_ptr(), CWD, c"d/k".as_ptr())?;
    check_eq!(taken(set, 1000)?, told);
    // A rename to elsewhere is a deletion.
    sys!(SYS_renameat, CWD, c"d/k".as_ptr(), CWD, c"k".as_ptr())?;
    check_eq!(taken(set, 1)?.0, 0);
    // The end of the descriptor is the end of it, also if the file stays open.
    let copy = fcntl(dir, F_DUPFD, 0)? as i32;
    create(c"d/m", b"").and_then(close)?;
    close(dir)?;
    while taken(set, 1)?.0 != 0 {}
    std::fs::write("d/m", "x")?;
    check_eq!(taken(set, 1)?.0, 0);
    close(copy)?;
    Ok(())
}

fn dnotify_errors() -> Outcome {
    let file = create(c"f", b"")?;
    check_err!(fcntl(file, F_NOTIFY, DN_CREATE), ENOTDIR);
    fcntl(file, F_NOTIFY, 0)?;
    let path = open(c".", O_PATH, 0)?;
    check_err!(fcntl(path, F_NOTIFY, DN_CREATE), EBADF);
    let enable = c"/proc/sys/fs/dir-notify-enable";
    check_eq!(slurp(enable)?, "1\n");
    let dir = open(c".", O_RDONLY, 0)?;
    spew(enable, "0")?;
    let refused = fcntl(dir, F_NOTIFY, DN_CREATE);
    spew(enable, "1")?;
    check_err!(refused, EINVAL);
    Ok(())
}

fn owner_numbers() -> Outcome {
    let ends = crate::sys::pipe(0)?;
    let fd = ends[0];
    check_eq!(fcntl(fd, F_GETOWN, 0)?, 0);
    let mut ex = [7_i32, 7];
    fcntl(fd, F_GETOWN_EX, addr_mut(&mut ex))?;
    check_eq!(ex, [0, 0]);
    fcntl(fd, F_SETOWN, getpid() as usize)?;
    check_eq!(fcntl(fd, F_GETOWN, 0)? as i32, getpid());
    fcntl(fd, F_GETOWN_EX, addr_mut(&mut ex))?;
    check_eq!(ex, [1, getpid()]);
    // The process group: a negative number, which a bare system call cannot tell from an error.
    let group = sys!(SYS_getpgid, 0)? as i32;
    fcntl(fd, F_SETOWN, -group as usize)?;
    fcntl(fd, F_GETOWN_EX, addr_mut(&mut ex))?;
    check_eq!(ex, [2, group]);
    let tid = sys!(SYS_gettid)? as i32;
    fcntl(fd, F_SETOWN_EX, addr(&[0, tid]))?;
    fcntl(fd, F_GETOWN_EX, addr_mut(&mut ex))?;
    check_eq!(ex, [0, tid]);
    check_eq!(fcntl(fd, F_GETOWN, 0)? as i32, tid);
    check_err!(fcntl(fd, F_SETOWN_EX, addr(&[3, tid])), EINVAL);
    check_err!(fcntl(fd, F_SETOWN_EX, addr(&[1, 0x3fff_ff00])), ESRCH);
    check_err!(fcntl(fd, F_SETOWN_EX, 8), EFAULT);
    check_err!(fcntl(fd, F_GETOWN_EX, 8), EFAULT);
    check_err!(fcntl(fd, F_SETOWN, 0x3fff_ff00), ESRCH);
    check_err!(fcntl(fd, F_SETOWN, i32::MIN as usize), EINVAL);
    fcntl(fd, F_SETOWN, 0)?;
    check_eq!(fcntl(fd, F_GETOWN, 0)?, 0);
    // A process that is gone is no owner.
    let child = fork(|| 0)?;
    fcntl(fd, F_SETOWN, child as usize)?;
    wait(child)?;
    check_eq!(fcntl(fd, F_GETOWN, 0)?, 0);
    check_eq!(fcntl(fd, F_GETSIG, 0)?, 0);
    fcntl(fd, F_SETSIG, 64)?;
    check_eq!(fcntl(fd, F_GETSIG, 0)?, 64);
    check_err!(fcntl(fd, F_SETSIG, 65), EINVAL);
    check_err!(fcntl(fd, F_SETSIG, -1_i32 as usize), EINVAL);
    fcntl(fd, F_SETSIG, 0)?;
    // The other end is another file.
    check_eq!(fcntl(ends[1], F_GETSIG, 0)?, 0);
    Ok(())
}

fn sigio_of_pipes() -> Outcome {
    let ends = crate::sys::pipe(O_NONBLOCK)?;
    let set = block()?;
    let (rt, rt2) = (SIGRTMIN(), SIGRTMIN() + 1);
    for (end, signal) in [(ends[0], rt), (ends[1], rt2)] {
        fcntl(end, F_SETOWN, getpid() as usize)?;
        fcntl(end, F_SETSIG, signal as usize)?;
    }
    let on = 1_i32;
    sys!(SYS_ioctl, ends[0], FIOASYNC, addr(&on))?;
    check_eq!(fcntl(ends[0], F_GETFL, 0)? as i32 & O_ASYNC, O_ASYNC);
    fcntl(ends[1], F_SETFL, (O_ASYNC | O_NONBLOCK) as usize)?;
    write(ends[1], b"abc")?;
    check_eq!(taken(set, 1000)?, (rt, POLL_IN, ends[0]));
    // Each write, not only the first.
    write(ends[1], b"abc")?;
    check_eq!(taken(set, 1000)?, (rt, POLL_IN, ends[0]));
    read_vec(ends[0], 2)?;
    check_eq!(taken(set, 1000)?, (rt2, POLL_OUT, ends[1]));
    // Without F_SETSIG: SIGIO, and nothing with it.
    fcntl(ends[0], F_SETSIG, 0)?;
    write(ends[1], b"x")?;
    check_eq!(taken(set, 1000)?.0, SIGIO);
    // A signal with codes of its own says SI_SIGIO.
    let off = 0_i32;
    sys!(SYS_ioctl, ends[0], FIOASYNC, addr(&off))?;
    write(ends[1], b"x")?;
    check_eq!(taken(set, 1)?.0, 0);
    // To a group: every member.
    fcntl(ends[0], F_SETFL, (O_ASYNC | O_NONBLOCK) as usize)?;
    let group = sys!(SYS_getpgid, 0)? as i32;
    fcntl(ends[0], F_SETOWN, -group as usize)?;
    let child = fork(|| i32::from(taken(set, 5000).map(|t| t.0) != Ok(SIGIO)))?;
    sleep_ms(20);
    write(ends[1], b"x")?;
    check_eq!(taken(set, 1000)?.0, SIGIO);
    check_eq!(wait_exit(child)?, 0);
    // The end of the writers is told as well.
    close(ends[1])?;
    check_eq!(taken(set, 1000)?.0, SIGIO);
    Ok(())
}

fn sigio_unsupported() -> Outcome {
    let file = create(c"f", b"")?;
    // The flag is forgotten.
    fcntl(file, F_SETFL, O_ASYNC as usize)?;
    check_eq!(fcntl(file, F_GETFL, 0)? as i32 & O_ASYNC, 0);
    let on = 1_i32;
    check_err!(sys!(SYS_ioctl, file, FIOASYNC, addr(&on)), ENOTTY);
    check_err!(sys!(SYS_ioctl, file, FIOASYNC, 8), EFAULT);
    Ok(())
}

fn rw_hints() -> Outcome {
    let file = create(c"f", b"")?;
    let mut hint = 9_u64;
    fcntl(file, F_GET_RW_HINT, addr_mut(&mut hint))?;
    check_eq!(hint, 0);
    for value in 0..=5_u64 {
        fcntl(file, F_SET_RW_HINT, addr(&value))?;
        fcntl(file, F_GET_RW_HINT, addr_mut(&mut hint))?;
        check_eq!(hint, value);
    }
    check_err!(fcntl(file, F_SET_RW_HINT, addr(&6_u64)), EINVAL);
    check_err!(fcntl(file, F_SET_RW_HINT, 8), EFAULT);
    check_err!(fcntl(file, F_GET_RW_HINT, 8), EFAULT);
    // The inode's, not the descriptor's; the file's own went with Linux 5.18.
    let other = open(c"f", O_RDONLY, 0)?;
    fcntl(other, F_GET_RW_HINT, addr_mut(&mut hint))?;
    check_eq!(hint, 5);
    check_err!(fcntl(file, 1037, addr_mut(&mut hint)), EINVAL);
    check_err!(fcntl(file, 1038, addr_mut(&mut hint)), EINVAL);
    Ok(())
}

fn dupfd_query() -> Outcome {
    let a = open(c"f", O_RDWR | O_CREAT, 0o600)?;
    let b = fcntl(a, F_DUPFD, 0)? as i32;
    let c = open(c"f", O_RDWR | O_CREAT, 0o600)?;
    let path = open(c"f", O_PATH, 0)?;
    check_eq!(fcntl(a, F_DUPFD_QUERY, b as usize)?, 1);
    check_eq!(fcntl(a, F_DUPFD_QUERY, a as usize)?, 1);
    check_eq!(fcntl(a, F_DUPFD_QUERY, c as usize)?, 0);
    check_eq!(fcntl(path, F_DUPFD_QUERY, path as usize)?, 1);
    check_err!(fcntl(999, F_DUPFD_QUERY, a as usize), EBADF);
    check_eq!(fcntl(a, F_CREATED_QUERY, 0)?, 1);
    check_eq!(fcntl(b, F_CREATED_QUERY, 0)?, 1);
    check_eq!(fcntl(c, F_CREATED_QUERY, 0)?, 0);
    check_eq!(fcntl(path, F_CREATED_QUERY, 0)?, 0);
    Ok(())
}

fn lock(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> Result<(), Errno> {
    let mut lock: flock = zeroed();
    lock.l_type = kind as i16;
    lock.l_start = start;
    lock.l_len = len;
    fcntl(fd, command, addr(&lock)).map(drop)
}

/// Who is in the way of a write lock: kind, start, length, process.
fn holder(fd: i32, start: i64, len: i64) -> Result<(i32, i64, i64, i32), Errno> {
    let mut lock: flock = zeroed();
    lock.l_type = F_WRLCK as i16;
    lock.l_start = start;
    lock.l_len = len;
    fcntl(fd, F_GETLK, addr_mut(&mut lock))?;
    Ok((i32::from(lock.l_type), lock.l_start, lock.l_len, lock.l_pid))
}

fn locks_deadlock() -> Outcome {
    let file = create(c"f", b"")?;
    lock(file, F_SETLK, F_WRLCK, 0, 1)?;
    let child = fork(|| {
        if lock(file, F_SETLK, F_WRLCK, 1, 1).is_err() {
            return 1;
        }
        i32::from(lock(file, F_SETLKW, F_WRLCK, 0, 1).is_err()) * 2
    })?;
    check!(eventually(|| holder(file, 1, 1).is_ok_and(|h| h.3 == child)));
    check!(eventually(|| state(child) == Some('S')));
    sleep_ms(30);
    check_err!(lock(file, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    lock(file, F_SETLK, F_UNLCK, 0, 1)?;
    check_eq!(wait_exit(child)?, 0);
    // Three in a circle.
    lock(file, F_SETLK, F_WRLCK, 0, 1)?;
    let third = fork(|| {
        if lock(file, F_SETLK, F_WRLCK, 2, 1).is_err() {
            return 1;
        }
        i32::from(lock(file, F_SETLKW, F_WRLCK, 0, 1).is_err()) * 2
    })?;
    check!(eventually(|| holder(file, 2, 1).is_ok_and(|h| h.3 == third)));
    let second = fork(|| {
        if lock(file, F_SETLK, F_WRLCK, 1, 1).is_err() {
            return 1;
        }
        i32::from(lock(file, F_SETLKW, F_WRLCK, 2, 1).is_err()) * 2
    })?;
    check!(eventually(|| holder(file, 1, 1).is_ok_and(|h| h.3 == second)));
    check!(eventually(|| state(second) == Some('S') && state(third) == Some('S')));
    sleep_ms(30);
    check_err!(lock(file, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    lock(file, F_SETLK, F_UNLCK, 0, 1)?;
    check_eq!(wait_exit(third)?, 0);
    check_eq!(wait_exit(second)?, 0);
    Ok(())
}

fn locks_and_close() -> Outcome {
    let a = create(c"f", b"")?;
    let b = open(c"f", O_RDWR, 0)?;
    let free = |child_lock: i32| {
        in_child(|| {
            let Ok(other) = open(c"f", O_RDWR, 0) else { return 9 };
            i32::from(lock(other, child_lock, F_WRLCK, 0, 0).is_err())
        })
    };
    lock(a, F_SETLK, F_WRLCK, 0, 0)?;
    check_eq!(free(F_SETLK)?, 1);
    // Closing any descriptor of the file drops the locks of the process.
    close(b)?;
    check_eq!(free(F_SETLK)?, 0);
    // Those of an open file stay.
    let b = open(c"f", O_RDWR, 0)?;
    lock(a, F_OFD_SETLK, F_WRLCK, 0, 0)?;
    check_err!(lock(b, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    check_err!(lock(b, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
    close(b)?;
    check_eq!(free(F_OFD_SETLK)?, 1);
    let copy = fcntl(a, F_DUPFD, 0)? as i32;
    close(a)?;
    check_eq!(free(F_OFD_SETLK)?, 1);
    close(copy)?;
    check_eq!(free(F_OFD_SETLK)?, 0);
    // F_OFD_GETLK shows -1; l_pid must be 0 when asking.
    let a = open(c"f", O_RDWR, 0)?;
    let b = open(c"f", O_RDWR, 0)?;
    lock(a, F_OFD_SETLK, F_WRLCK, 5, 10)?;
    check_eq!(holder(b, 0, 0)?, (F_WRLCK, 5, 10, -1));
    let mut ask: flock = zeroed();
    ask.l_type = F_RDLCK as i16;
    ask.l_pid = 1;
    check_err!(fcntl(b, F_OFD_GETLK, addr_mut(&mut ask)), EINVAL);
    check_err!(fcntl(b, F_OFD_SETLK, addr(&ask)), EINVAL);
    Ok(())
}

fn locks_and_fork() -> Outcome {
    let file = create(c"f", b"")?;
    lock(file, F_SETLK, F_WRLCK, 0, 1)?;
    sys!(SYS_flock, file, LOCK_EX)?;
    let status = in_child(|| {
        // The record lock is the parent's, the flock lock is everybody's with the open file.
        let record = lock(file, F_SETLK, F_WRLCK, 0, 1) == Err(Errno(EAGAIN));
        let seen = holder(file, 0, 1).is_ok_and(|h| h.3 == c!(getppid()).unwrap_or(0));
        let shared = sys!(SYS_flock, file, LOCK_EX | LOCK_NB).is_ok();
        let Ok(other) = open(c"f", O_RDWR, 0) else { return 9 };
        let refused = sys!(SYS_flock, other, LOCK_SH | LOCK_NB) == Err(Errno(EWOULDBLOCK));
        i32::from(!record) | i32::from(!seen) << 1 | i32::from(!shared) << 2 | i32::from(!refused) << 3
    })?;
    check_eq!(status, 0);
    // The child's unlock is the parent's as well.
    check_eq!(in_child(|| i32::from(sys!(SYS_flock, file, LOCK_UN).is_err()))?, 0);
    let other = open(c"f", O_RDWR, 0)?;
    sys!(SYS_flock, other, LOCK_EX | LOCK_NB)?;
    Ok(())
}

fn locks_split_and_join() -> Outcome {
    let file = create(c"f", b"0123456789")?;
    lock(file, F_SETLK, F_WRLCK, 0, 100)?;
    lock(file, F_SETLK, F_UNLCK, 40, 20)?;
    lock(file, F_SETLK, F_RDLCK, 10, 10)?;
    let seen = std::cell::RefCell::new(Vec::new());
    let status = in_child(|| {
        for at in [0, 10, 20, 50, 60, 100] {
            seen.borrow_mut().push(holder(file, at, 1).map(|h| (h.0, h.1, h.2)));
        }
        let wanted = [
            (F_WRLCK, 0, 10),
            (F_RDLCK, 10, 10),
            (F_WRLCK, 20, 20),
            (F_UNLCK, 50, 1),
            (F_WRLCK, 60, 40),
            (F_UNLCK, 100, 1),
        ];
        i32::from(seen.borrow().iter().map(|s| s.unwrap_or_default()).collect::<Vec<_>>() != wanted)
    })?;
    check_eq!(status, 0);
    // Backwards, from the end, and to wherever the file grows.
    let mut lock: flock = zeroed();
    lock.l_type = F_UNLCK as i16;
    fcntl(file, F_SETLK, addr(&lock))?;
    lock.l_type = F_WRLCK as i16;
    lock.l_whence = SEEK_END as i16;
    lock.l_len = -4;
    fcntl(file, F_SETLK, addr(&lock))?;
    let status = in_child(|| i32::from(holder(file, 0, 0).map(|h| (h.1, h.2)) != Ok((6, 4))))?;
    check_eq!(status, 0);
    lock.l_start = -20;
    check_err!(fcntl(file, F_SETLK, addr(&lock)), EINVAL);
    lock.l_whence = 7;
    check_err!(fcntl(file, F_SETLK, addr(&lock)), EINVAL);
    lock.l_whence = 0;
    lock.l_start = i64::MAX;
    lock.l_len = 10;
    check_err!(fcntl(file, F_SETLK, addr(&lock)), EOVERFLOW);
    lock.l_type = 9;
    lock.l_start = 0;
    check_err!(fcntl(file, F_SETLK, addr(&lock)), EINVAL);
    check_err!(fcntl(file, F_SETLK, 8), EFAULT);
    // A kind needs the access.
    let read = open(c"f", O_RDONLY, 0)?;
    check_err!(crate::fcntl::lock(read, F_SETLK, F_WRLCK, 0, 1), EBADF);
    let write = open(c"f", O_WRONLY, 0)?;
    check_err!(crate::fcntl::lock(write, F_SETLK, F_RDLCK, 0, 1), EBADF);
    Ok(())
}

fn pipe_sizes() -> Outcome {
    let ends = crate::sys::pipe(0)?;
    check_eq!(fcntl(ends[0], F_GETPIPE_SZ, 0)?, 65536);
    check_eq!(fcntl(ends[0], F_SETPIPE_SZ, 5000)?, 8192);
    check_eq!(fcntl(ends[1], F_GETPIPE_SZ, 0)?, 8192);
    check_eq!(fcntl(ends[0], F_SETPIPE_SZ, 1)?, 4096);
    check_eq!(fcntl(ends[0], F_SETPIPE_SZ, 0)?, 4096);
    check_err!(fcntl(ends[0], F_SETPIPE_SZ, (1 << 31) + 1), EINVAL);
    let file = create(c"f", b"")?;
    check_err!(fcntl(file, F_GETPIPE_SZ, 0), EBADF);
    check_err!(fcntl(file, F_SETPIPE_SZ, 4096), EBADF);
    fcntl(ends[0], F_SETPIPE_SZ, 8192)?;
    write(ends[1], &[7; 8192])?;
    check_err!(fcntl(ends[0], F_SETPIPE_SZ, 4096), EBUSY);
    let max: usize = slurp(c"/proc/sys/fs/pipe-max-size")?.trim().parse().map_err(Failure::new)?;
    check_eq!(max, 1 << 20);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let over = fcntl(ends[0], F_SETPIPE_SZ, max + 1) != Err(Errno(EPERM));
        i32::from(over) | i32::from(fcntl(ends[0], F_SETPIPE_SZ, max) != Ok(max)) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn seal_rules() -> Outcome {
    const F_SEAL_EXEC: usize = 0x20;
    let make = |flags: u32| sys!(SYS_memfd_create, c"x".as_ptr(), flags).map(|fd| fd as i32);
    let fd = make(MFD_ALLOW_SEALING)?;
    write(fd, b"0123456789")?;
    let map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    // A writable mapping stays usable under F_SEAL_FUTURE_WRITE, and is in the way of F_SEAL_WRITE.
    check_err!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE as usize), EBUSY);
    fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE as usize)?;
    poke(map, b'X');
    check_err!(write(fd, b"x"), EPERM);
    check_err!(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    let read = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0)?;
    check_eq!(peek(read), b'X');
    check_err!(sys!(SYS_mprotect, read, 4096, PROT_READ | PROT_WRITE), EACCES);
    check_err!(sys!(SYS_fallocate, fd, 3, 0, 4096), EPERM);
    munmap(map, 4096)?;
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE as usize)?;
    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW as usize)?;
    check_err!(sys!(SYS_ftruncate, fd, 100), EPERM);
    sys!(SYS_ftruncate, fd, 5)?;
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK as usize)?;
    check_err!(sys!(SYS_ftruncate, fd, 1), EPERM);
    check_err!(fcntl(fd, F_ADD_SEALS, 0x40), EINVAL);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL as usize)?;
    check_err!(fcntl(fd, F_ADD_SEALS, 0), EPERM);
    let all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    check_eq!(fcntl(fd, F_GET_SEALS, 0)? as i32, all);
    // F_SEAL_EXEC keeps the execute bits as they are, and with them all else.
    let fd = make(MFD_ALLOW_SEALING)?;
    fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC)?;
    check_err!(sys!(SYS_fchmod, fd, 0o666), EPERM);
    sys!(SYS_fchmod, fd, 0o755)?;
    check_eq!(fcntl(fd, F_GET_SEALS, 0)? as i32 & (F_SEAL_WRITE | F_SEAL_GROW), F_SEAL_WRITE | F_SEAL_GROW);
    let fd = make(8)?; // MFD_NOEXEC_SEAL
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o666);
    check_eq!(fcntl(fd, F_GET_SEALS, 0)?, F_SEAL_EXEC);
    check_err!(sys!(SYS_fchmod, fd, 0o777), EPERM);
    // Without permission to write there is none to seal; other files have no seals.
    let fd = make(MFD_ALLOW_SEALING)?;
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let read = open(&path, O_RDONLY, 0)?;
    check_err!(fcntl(read, F_ADD_SEALS, F_SEAL_WRITE as usize), EPERM);
    check_eq!(fcntl(read, F_GET_SEALS, 0)?, 0);
    let ends = crate::sys::pipe(0)?;
    check_err!(fcntl(ends[0], F_GET_SEALS, 0), EINVAL);
    let file = create(c"f", b"")?;
    check_eq!(fcntl(file, F_GET_SEALS, 0)? as i32, F_SEAL_SEAL);
    check_err!(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE as usize), EPERM);
    Ok(())
}
