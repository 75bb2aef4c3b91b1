//! The calls that x86_64 kept from before the `*at` and flag-taking ones, and arm64 never had: each by its own number,
//! with the defaults that set it apart.

use crate::prelude::*;
use std::time::Instant;

tests![
    open_and_creat,
    stat_and_lstat,
    access_uses_the_real_ids,
    pipe_has_no_flags,
    rename_replaces,
    mkdir_and_rmdir,
    link_and_unlink,
    symlink_and_readlink,
    chmod_follows,
    chown_and_lchown,
    mknod_kinds,
    utime_and_utimes,
    futimesat_of_a_directory,
    getpgrp_is_getpgid,
    time_is_seconds,
    epoll_create_and_wait,
    inotify_init_has_no_flags,
    signalfd_and_eventfd,
    alarm_and_pause,
    dup2_to_itself,
    fork_has_no_flags,
    vfork_waits_for_its_child,
    select_takes_microseconds,
    select_errors,
    getdents_records,
    ustat_of_a_device,
    sysfs_names_types,
];

/// The path argument of a call that must not get anywhere.
const BAD: usize = 1;

/// Whether `fd` closes on exec, and whether it does not block.
fn flags_of(fd: i32) -> crate::sys::Result<(bool, bool)> {
    let cloexec = fcntl(fd, F_GETFD, 0)? & FD_CLOEXEC as usize != 0;
    let nonblock = fcntl(fd, F_GETFL, 0)? & O_NONBLOCK as usize != 0;
    Ok((cloexec, nonblock))
}

fn long_name() -> Vec<u8> {
    let mut name = vec![b'x'; 256];
    name.push(0);
    name
}

fn open_and_creat() -> Outcome {
    sys!(SYS_umask, 0o022)?;
    let fd = sys!(SYS_creat, c"f".as_ptr(), 0o666)? as i32;
    check_eq!(fstat(fd)?.st_mode, S_IFREG | 0o644);
    check_eq!(write(fd, b"abc")?, 3);
    check_err!(read_vec(fd, 1), EBADF);
    let fd = sys!(SYS_creat, c"f".as_ptr(), 0o600)? as i32;
    check_eq!(fstat(fd)?.st_size, 0);
    check_eq!(fstat(fd)?.st_mode, S_IFREG | 0o644);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_WRONLY);
    mkdir(c"d", 0o755)?;
    check_err!(sys!(SYS_creat, c"d".as_ptr(), 0o600), EISDIR);
    check_err!(sys!(SYS_creat, c"no/f".as_ptr(), 0o600), ENOENT);
    check_err!(sys!(SYS_creat, c"f/f".as_ptr(), 0o600), ENOTDIR);
    check_err!(sys!(SYS_creat, BAD, 0o600), EFAULT);

    let fd = sys!(SYS_open, c"g".as_ptr(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)? as i32;
    check_eq!(flags_of(fd)?, (true, false));
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o640);
    check_err!(sys!(SYS_open, c"g".as_ptr(), O_RDWR | O_CREAT | O_EXCL, 0o640), EEXIST);
    check_err!(sys!(SYS_open, c"no".as_ptr(), O_RDONLY), ENOENT);
    check_err!(sys!(SYS_open, c"d".as_ptr(), O_WRONLY), EISDIR);
    check_err!(sys!(SYS_open, c"g".as_ptr(), O_RDONLY | O_DIRECTORY), ENOTDIR);
    check_err!(sys!(SYS_open, c"".as_ptr(), O_RDONLY), ENOENT);
    check_err!(sys!(SYS_open, BAD, O_RDONLY), EFAULT);
    check_err!(sys!(SYS_open, long_name().as_ptr(), O_RDONLY), ENAMETOOLONG);
    symlink(c"g", c"l")?;
    check_err!(sys!(SYS_open, c"l".as_ptr(), O_RDONLY | O_NOFOLLOW), ELOOP);
    Ok(())
}

fn stat_and_lstat() -> Outcome {
    create(c"f", b"12345")?;
    symlink(c"f", c"l")?;
    let (mut through, mut itself): (stat, stat) = (zeroed(), zeroed());
    sys!(SYS_stat, c"l".as_ptr(), addr_mut(&mut through))?;
    sys!(SYS_lstat, c"l".as_ptr(), addr_mut(&mut itself))?;
    check_eq!(through.st_size, 5);
    check_eq!(through.st_mode & S_IFMT, S_IFREG);
    check_eq!(itself.st_size, 1);
    check_eq!(itself.st_mode, S_IFLNK | 0o777);
    check_eq!(through.st_ino, stat(c"f")?.st_ino);
    symlink(c"none", c"dangling")?;
    check_err!(sys!(SYS_stat, c"dangling".as_ptr(), addr_mut(&mut through)), ENOENT);
    sys!(SYS_lstat, c"dangling".as_ptr(), addr_mut(&mut itself))?;
    check_err!(sys!(SYS_stat, c"".as_ptr(), addr_mut(&mut through)), ENOENT);
    check_err!(sys!(SYS_stat, c"f/x".as_ptr(), addr_mut(&mut through)), ENOTDIR);
    check_err!(sys!(SYS_stat, BAD, addr_mut(&mut through)), EFAULT);
    check_err!(sys!(SYS_stat, c"f".as_ptr(), BAD), EFAULT);
    check_err!(sys!(SYS_lstat, c"f".as_ptr(), BAD), EFAULT);
    check_err!(sys!(SYS_lstat, long_name().as_ptr(), addr_mut(&mut itself)), ENAMETOOLONG);
    Ok(())
}

fn access_uses_the_real_ids() -> Outcome {
    create(c"f", b"")?;
    sys!(SYS_chmod, c"f".as_ptr(), 0o600)?;
    check_eq!(sys!(SYS_access, c"f".as_ptr(), R_OK | W_OK)?, 0);
    check_err!(sys!(SYS_access, c"f".as_ptr(), X_OK), EACCES);
    check_err!(sys!(SYS_access, c"f".as_ptr(), 8), EINVAL);
    check_err!(sys!(SYS_access, c"g".as_ptr(), F_OK), ENOENT);
    check_err!(sys!(SYS_access, BAD, F_OK), EFAULT);
    // Effective root, real user: the real one counts.
    let status = in_child(|| {
        let _ = sys!(SYS_setresgid, 1000, -1_i32, -1_i32);
        let _ = sys!(SYS_setresuid, 1000, -1_i32, -1_i32);
        let denied = sys!(SYS_access, c"f".as_ptr(), R_OK) == Err(crate::sys::Errno(EACCES));
        let opens = open(c"f", O_RDONLY, 0).is_ok();
        i32::from(denied) | i32::from(opens) << 1
    })?;
    check_eq!(status, 3);
    Ok(())
}

fn pipe_has_no_flags() -> Outcome {
    let mut ends = [-1_i32; 2];
    sys!(SYS_pipe, ends.as_mut_ptr())?;
    check_eq!(flags_of(ends[0])?, (false, false));
    check_eq!(flags_of(ends[1])?, (false, false));
    write(ends[1], b"through")?;
    check_eq!(read_vec(ends[0], 16)?, b"through");
    check_err!(sys!(SYS_pipe, BAD), EFAULT);
    let limit = rlimit { rlim_cur: ends[1] as u64 + 2, rlim_max: 4096 };
    sys!(SYS_setrlimit, RLIMIT_NOFILE, addr(&limit))?;
    check_err!(sys!(SYS_pipe, ends.as_mut_ptr()), EMFILE);
    Ok(())
}

fn rename_replaces() -> Outcome {
    create(c"a", b"a")?;
    create(c"b", b"bb")?;
    sys!(SYS_rename, c"a".as_ptr(), c"b".as_ptr())?;
    check_eq!(slurp(c"b")?, "a");
    check_err!(stat(c"a"), ENOENT);
    mkdir(c"d", 0o755)?;
    mkdir(c"e", 0o755)?;
    create(c"e/x", b"")?;
    check_err!(sys!(SYS_rename, c"b".as_ptr(), c"d".as_ptr()), EISDIR);
    check_err!(sys!(SYS_rename, c"d".as_ptr(), c"b".as_ptr()), ENOTDIR);
    check_err!(sys!(SYS_rename, c"d".as_ptr(), c"e".as_ptr()), ENOTEMPTY);
    check_err!(sys!(SYS_rename, c"d".as_ptr(), c"d/in".as_ptr()), EINVAL);
    check_err!(sys!(SYS_rename, c"no".as_ptr(), c"b".as_ptr()), ENOENT);
    check_err!(sys!(SYS_rename, c".".as_ptr(), c"b".as_ptr()), EBUSY);
    check_err!(sys!(SYS_rename, BAD, c"b".as_ptr()), EFAULT);
    check_err!(sys!(SYS_rename, c"b".as_ptr(), c"/proc/b".as_ptr()), EXDEV);
    sys!(SYS_rename, c"e".as_ptr(), c"d".as_ptr())?;
    stat(c"d/x")?;
    Ok(())
}

fn mkdir_and_rmdir() -> Outcome {
    sys!(SYS_umask, 0o027)?;
    sys!(SYS_mkdir, c"d".as_ptr(), 0o777)?;
    check_eq!(stat(c"d")?.st_mode, S_IFDIR | 0o750);
    sys!(SYS_mkdir, c"t".as_ptr(), 0o7777)?;
    // mkdir(2): of the special bits only the sticky one is for the caller to set.
    check_eq!(stat(c"t")?.st_mode & 0o7000, 0o1000);
    check_err!(sys!(SYS_mkdir, c"d".as_ptr(), 0o777), EEXIST);
    check_err!(sys!(SYS_mkdir, c"no/d".as_ptr(), 0o777), ENOENT);
    check_err!(sys!(SYS_mkdir, BAD, 0o777), EFAULT);
    check_err!(sys!(SYS_mkdir, long_name().as_ptr(), 0o777), ENAMETOOLONG);
    create(c"d/f", b"")?;
    check_err!(sys!(SYS_rmdir, c"d".as_ptr()), ENOTEMPTY);
    check_err!(sys!(SYS_rmdir, c"d/f".as_ptr()), ENOTDIR);
    check_err!(sys!(SYS_rmdir, c"d/.".as_ptr()), EINVAL);
    check_err!(sys!(SYS_rmdir, c"no".as_ptr()), ENOENT);
    check_err!(sys!(SYS_rmdir, BAD), EFAULT);
    sys!(SYS_unlink, c"d/f".as_ptr())?;
    sys!(SYS_rmdir, c"d".as_ptr())?;
    check_err!(stat(c"d"), ENOENT);
    Ok(())
}

fn link_and_unlink() -> Outcome {
    create(c"f", b"x")?;
    sys!(SYS_link, c"f".as_ptr(), c"g".as_ptr())?;
    check_eq!(stat(c"f")?.st_nlink, 2);
    check_err!(sys!(SYS_link, c"f".as_ptr(), c"g".as_ptr()), EEXIST);
    check_err!(sys!(SYS_link, c"no".as_ptr(), c"h".as_ptr()), ENOENT);
    check_err!(sys!(SYS_link, BAD, c"h".as_ptr()), EFAULT);
    mkdir(c"d", 0o755)?;
    check_err!(sys!(SYS_link, c"d".as_ptr(), c"h".as_ptr()), EPERM);
    check_err!(sys!(SYS_link, c"f".as_ptr(), c"/dev/shm/h".as_ptr()), EXDEV);
    // The symbolic link itself gets the second name.
    symlink(c"f", c"l")?;
    sys!(SYS_link, c"l".as_ptr(), c"m".as_ptr())?;
    check_eq!(lstat(c"m")?.st_mode & S_IFMT, S_IFLNK);
    sys!(SYS_unlink, c"f".as_ptr())?;
    check_eq!(stat(c"g")?.st_nlink, 1);
    check_err!(sys!(SYS_unlink, c"f".as_ptr()), ENOENT);
    check_err!(sys!(SYS_unlink, c"d".as_ptr()), EISDIR);
    check_err!(sys!(SYS_unlink, c"g/".as_ptr()), ENOTDIR);
    check_err!(sys!(SYS_unlink, BAD), EFAULT);
    Ok(())
}

fn symlink_and_readlink() -> Outcome {
    sys!(SYS_symlink, c"some/where".as_ptr(), c"l".as_ptr())?;
    let mut buffer = [0xaa_u8; 16];
    check_eq!(sys!(SYS_readlink, c"l".as_ptr(), buffer.as_mut_ptr(), 16)?, 10);
    check_eq!(&buffer[..11], b"some/where\xaa");
    check_eq!(sys!(SYS_readlink, c"l".as_ptr(), buffer.as_mut_ptr(), 4)?, 4);
    check_err!(sys!(SYS_readlink, c"l".as_ptr(), buffer.as_mut_ptr(), 0), EINVAL);
    check_err!(sys!(SYS_readlink, c"l".as_ptr(), buffer.as_mut_ptr(), -1_i32), EINVAL);
    check_err!(sys!(SYS_readlink, c"l".as_ptr(), BAD, 16), EFAULT);
    check_err!(sys!(SYS_readlink, BAD, buffer.as_mut_ptr(), 16), EFAULT);
    create(c"f", b"")?;
    check_err!(sys!(SYS_readlink, c"f".as_ptr(), buffer.as_mut_ptr(), 16), EINVAL);
    check_err!(sys!(SYS_readlink, c"no".as_ptr(), buffer.as_mut_ptr(), 16), ENOENT);
    check_err!(sys!(SYS_symlink, c"x".as_ptr(), c"l".as_ptr()), EEXIST);
    check_err!(sys!(SYS_symlink, c"".as_ptr(), c"m".as_ptr()), ENOENT);
    check_err!(sys!(SYS_symlink, c"x".as_ptr(), c"no/m".as_ptr()), ENOENT);
    check_err!(sys!(SYS_symlink, BAD, c"m".as_ptr()), EFAULT);
    Ok(())
}

fn chmod_follows() -> Outcome {
    create(c"f", b"")?;
    symlink(c"f", c"l")?;
    sys!(SYS_chmod, c"l".as_ptr(), 0o4751)?;
    check_eq!(stat(c"f")?.st_mode, S_IFREG | 0o4751);
    check_eq!(lstat(c"l")?.st_mode & 0o777, 0o777);
    check_err!(sys!(SYS_chmod, c"no".as_ptr(), 0o600), ENOENT);
    check_err!(sys!(SYS_chmod, BAD, 0o600), EFAULT);
    let status = crate::sysv::as_user(1000, || match sys!(SYS_chmod, c"f".as_ptr(), 0o777) {
        Err(crate::sys::Errno(errno)) => errno,
        Ok(_) => 0,
    })?;
    check_eq!(status, EPERM);
    Ok(())
}

fn chown_and_lchown() -> Outcome {
    create(c"f", b"")?;
    symlink(c"f", c"l")?;
    sys!(SYS_chmod, c"f".as_ptr(), 0o6777)?;
    sys!(SYS_chown, c"l".as_ptr(), 1000, 1001)?;
    let of = |s: stat| (s.st_uid, s.st_gid);
    check_eq!(of(stat(c"f")?), (1000, 1001));
    check_eq!(of(lstat(c"l")?), (0, 0));
    check_eq!(stat(c"f")?.st_mode & 0o7777, 0o777);
    sys!(SYS_lchown, c"l".as_ptr(), 5, -1_i32)?;
    check_eq!(of(lstat(c"l")?), (5, 0));
    sys!(SYS_chown, c"f".as_ptr(), -1_i32, 7)?;
    check_eq!(of(stat(c"f")?), (1000, 7));
    check_err!(sys!(SYS_chown, c"no".as_ptr(), 1, 1), ENOENT);
    check_err!(sys!(SYS_lchown, c"no".as_ptr(), 1, 1), ENOENT);
    check_err!(sys!(SYS_chown, BAD, 1, 1), EFAULT);
    check_err!(sys!(SYS_lchown, BAD, 1, 1), EFAULT);
    let status = crate::sysv::as_user(1000, || {
        let stolen = sys!(SYS_chown, c"f".as_ptr(), 0, -1_i32) == Err(crate::sys::Errno(EPERM));
        let own_group = sys!(SYS_chown, c"f".as_ptr(), -1_i32, 1000).is_ok();
        i32::from(stolen) | i32::from(own_group) << 1
    })?;
    check_eq!(status, 3);
    Ok(())
}

fn mknod_kinds() -> Outcome {
    sys!(SYS_umask, 0)?;
    for (name, kind, dev) in [
        (c"reg", S_IFREG, 0),
        (c"plain", 0, 0),
        (c"fifo", S_IFIFO, 0),
        (c"sock", S_IFSOCK, 0),
        (c"chr", S_IFCHR, 0x103),
        (c"blk", S_IFBLK, 0x701),
    ] {
        sys!(SYS_mknod, name.as_ptr(), kind | 0o640, dev)?;
        let made = lstat(name)?;
        let kind = if kind == 0 { S_IFREG } else { kind };
        check_eq!(made.st_mode, kind | 0o640);
        check_eq!(made.st_rdev, dev as u64);
        check_err!(sys!(SYS_mknod, name.as_ptr(), kind | 0o640, dev), EEXIST);
    }
    let fd = open(c"chr", O_RDWR, 0)?;
    check_eq!(write(fd, b"gone")?, 4);
    check_err!(open(c"sock", O_RDWR, 0), ENXIO);
    check_err!(sys!(SYS_mknod, c"d".as_ptr(), S_IFDIR | 0o755, 0), EPERM);
    check_err!(sys!(SYS_mknod, c"l".as_ptr(), S_IFLNK | 0o755, 0), EINVAL);
    check_err!(sys!(SYS_mknod, c"no/x".as_ptr(), S_IFREG, 0), ENOENT);
    check_err!(sys!(SYS_mknod, BAD, S_IFREG, 0), EFAULT);
    mkdir(c"d", 0o777)?;
    let status = crate::sysv::as_user(1000, || {
        let device =
            sys!(SYS_mknod, c"d/c".as_ptr(), S_IFCHR | 0o666, 0x103) == Err(crate::sys::Errno(EPERM));
        let fifo = sys!(SYS_mknod, c"d/f".as_ptr(), S_IFIFO | 0o666, 0).is_ok();
        i32::from(device) | i32::from(fifo) << 1
    })?;
    check_eq!(status, 3);
    Ok(())
}

/// Times of access and modification, in nanoseconds.
fn times(path: &std::ffi::CStr) -> crate::sys::Result<[i64; 2]> {
    let s = lstat(path)?;
    Ok([s.st_atime * 1_000_000_000 + s.st_atime_nsec, s.st_mtime * 1_000_000_000 + s.st_mtime_nsec])
}

fn utime_and_utimes() -> Outcome {
    create(c"f", b"")?;
    symlink(c"f", c"l")?;
    let before = times(c"l")?[1];
    sys!(SYS_utime, c"l".as_ptr(), addr(&[11_i64, 22]))?;
    check_eq!(times(c"f")?, [11_000_000_000, 22_000_000_000]);
    check_eq!(times(c"l")?[1], before);
    sys!(SYS_utimes, c"f".as_ptr(), addr(&[[1_i64, 999_999], [2, 1]]))?;
    check_eq!(times(c"f")?, [1_999_999_000, 2_000_001_000]);
    check_err!(sys!(SYS_utimes, c"f".as_ptr(), addr(&[[1_i64, 1_000_000], [2, 1]])), EINVAL);
    check_err!(sys!(SYS_utimes, c"f".as_ptr(), addr(&[[1_i64, 0], [2, -1]])), EINVAL);
    check_err!(sys!(SYS_utimes, c"f".as_ptr(), BAD), EFAULT);
    check_err!(sys!(SYS_utime, c"f".as_ptr(), BAD), EFAULT);
    check_err!(sys!(SYS_utime, BAD, 0), EFAULT);
    check_err!(sys!(SYS_utime, c"no".as_ptr(), 0), ENOENT);
    check_err!(sys!(SYS_utimes, c"no".as_ptr(), 0), ENOENT);
    for call in 0..2 {
        sys!(SYS_utime, c"f".as_ptr(), addr(&[11_i64, 22]))?;
        let now = || -> crate::sys::Result<i64> { sys!(SYS_time, 0).map(|s| s as i64) };
        let start = now()?;
        if call == 0 {
            sys!(SYS_utime, c"f".as_ptr(), 0)?
        } else {
            sys!(SYS_utimes, c"f".as_ptr(), 0)?
        };
        let [atime, mtime] = times(c"f")?.map(|ns| ns / 1_000_000_000);
        check!(atime >= start - 1 && mtime >= start - 1 && mtime <= now()? + 1);
    }
    sys!(SYS_chmod, c"f".as_ptr(), 0o644)?;
    let status = crate::sysv::as_user(1000, || {
        let exact = sys!(SYS_utime, c"f".as_ptr(), addr(&[1_i64, 2])) == Err(crate::sys::Errno(EPERM));
        let now = sys!(SYS_utimes, c"f".as_ptr(), 0) == Err(crate::sys::Errno(EACCES));
        i32::from(exact) | i32::from(now) << 1
    })?;
    check_eq!(status, 3);
    Ok(())
}

fn futimesat_of_a_directory() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"")?;
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    sys!(SYS_futimesat, dir, c"f".as_ptr(), addr(&[[5_i64, 6], [7, 8]]))?;
    check_eq!(times(c"d/f")?, [5_000_006_000, 7_000_008_000]);
    // Without a name: the descriptor's own file.
    sys!(SYS_futimesat, dir, 0, addr(&[[9_i64, 0], [10, 0]]))?;
    check_eq!(times(c"d")?, [9_000_000_000, 10_000_000_000]);
    check_err!(sys!(SYS_futimesat, dir, c"f".as_ptr(), addr(&[[5_i64, 1_000_000], [7, 8]])), EINVAL);
    check_err!(sys!(SYS_futimesat, dir, c"no".as_ptr(), 0), ENOENT);
    check_err!(sys!(SYS_futimesat, 9999, c"f".as_ptr(), 0), EBADF);
    let file = open(c"d/f", O_RDONLY, 0)?;
    check_err!(sys!(SYS_futimesat, file, c"f".as_ptr(), 0), ENOTDIR);
    check_err!(sys!(SYS_futimesat, dir, c"f".as_ptr(), BAD), EFAULT);
    sys!(SYS_futimesat, CWD, c"d/f".as_ptr(), 0)?;
    Ok(())
}

fn getpgrp_is_getpgid() -> Outcome {
    check_eq!(sys!(SYS_getpgrp)?, sys!(SYS_getpgid, 0)?);
    let status = in_child(|| {
        let _ = sys!(SYS_setpgid, 0, 0);
        i32::from(sys!(SYS_getpgrp) != Ok(getpid() as usize))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn time_is_seconds() -> Outcome {
    let mut stored = 0_i64;
    let returned = sys!(SYS_time, addr_mut(&mut stored))? as i64;
    check_eq!(returned, stored);
    let mut now: timespec = zeroed();
    sys!(SYS_clock_gettime, CLOCK_REALTIME, addr_mut(&mut now))?;
    check!((0..=1).contains(&(now.tv_sec - returned)));
    check!(sys!(SYS_time, 0)? as i64 >= returned);
    check_err!(sys!(SYS_time, BAD), EFAULT);
    Ok(())
}

fn epoll_create_and_wait() -> Outcome {
    check_err!(sys!(SYS_epoll_create, 0), EINVAL);
    check_err!(sys!(SYS_epoll_create, -1_i32), EINVAL);
    let ep = sys!(SYS_epoll_create, 1)? as i32;
    check_eq!(flags_of(ep)?.0, false);
    let ends = pipe(0)?;
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 77 };
    sys!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, ends[0], addr(&event))?;
    check_eq!(sys!(SYS_epoll_wait, ep, addr_mut(&mut event), 1, 0)?, 0);
    let start = Instant::now();
    check_eq!(sys!(SYS_epoll_wait, ep, addr_mut(&mut event), 1, 30)?, 0);
    check!(start.elapsed().as_millis() >= 30);
    write(ends[1], b"x")?;
    event.u64 = 0;
    check_eq!(sys!(SYS_epoll_wait, ep, addr_mut(&mut event), 1, -1_i32)?, 1);
    check_eq!({ event.u64 }, 77);
    check_eq!({ event.events }, EPOLLIN as u32);
    check_err!(sys!(SYS_epoll_wait, ep, addr_mut(&mut event), 0, 0), EINVAL);
    check_err!(sys!(SYS_epoll_wait, ep, addr_mut(&mut event), -1_i32, 0), EINVAL);
    check_err!(sys!(SYS_epoll_wait, ep, BAD, 1, 0), EFAULT);
    check_err!(sys!(SYS_epoll_wait, ends[0], addr_mut(&mut event), 1, 0), EINVAL);
    check_err!(sys!(SYS_epoll_wait, 9999, addr_mut(&mut event), 1, 0), EBADF);
    Ok(())
}

fn inotify_init_has_no_flags() -> Outcome {
    let fd = sys!(SYS_inotify_init)? as i32;
    check_eq!(flags_of(fd)?, (false, false));
    let watch = sys!(SYS_inotify_add_watch, fd, c".".as_ptr(), IN_CREATE)? as i32;
    create(c"new", b"")?;
    let bytes = read_vec(fd, 256)?;
    check_eq!(bytes[..4], watch.to_ne_bytes());
    check_eq!(bytes[4..8], IN_CREATE.to_ne_bytes());
    check!(bytes[16..].starts_with(b"new\0"));
    Ok(())
}

fn signalfd_and_eventfd() -> Outcome {
    let mask = 1_u64 << (SIGUSR1 - 1);
    let mut old = 0_u64;
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&mask), addr_mut(&mut old), 8)?;
    let fd = sys!(SYS_signalfd, -1_i32, addr(&mask), 8)? as i32;
    check_eq!(flags_of(fd)?, (false, false));
    kill(getpid(), SIGUSR1)?;
    let info = read_vec(fd, 128)?;
    check_eq!(info.len(), 128);
    check_eq!(info[..4], (SIGUSR1 as u32).to_ne_bytes());
    check_eq!(sys!(SYS_signalfd, fd, addr(&mask), 8)? as i32, fd);
    check_err!(sys!(SYS_signalfd, -1_i32, addr(&mask), 4), EINVAL);
    check_err!(sys!(SYS_signalfd, -1_i32, BAD, 8), EFAULT);
    check_err!(sys!(SYS_signalfd, 9999, addr(&mask), 8), EBADF);
    check_err!(sys!(SYS_signalfd, pipe(0)?[0], addr(&mask), 8), EINVAL);

    let fd = sys!(SYS_eventfd, 5)? as i32;
    check_eq!(flags_of(fd)?, (false, false));
    check_eq!(read_vec(fd, 8)?, 5_u64.to_ne_bytes());
    write(fd, &3_u64.to_ne_bytes())?;
    write(fd, &4_u64.to_ne_bytes())?;
    check_eq!(read_vec(fd, 8)?, 7_u64.to_ne_bytes());
    check_err!(read_vec(fd, 4), EINVAL);
    check_err!(write(fd, &u64::MAX.to_ne_bytes()), EINVAL);
    Ok(())
}

extern "C" fn nothing(_: c_int) {}

fn alarm_and_pause() -> Outcome {
    c!(signal(SIGALRM, nothing as *const () as usize))?;
    check_eq!(sys!(SYS_alarm, 100)?, 0);
    let left = sys!(SYS_alarm, 1)?;
    check!((99..=100).contains(&left), "{left}");
    let start = Instant::now();
    check_err!(sys!(SYS_pause), EINTR);
    check!(start.elapsed().as_millis() >= 900);
    check_eq!(sys!(SYS_alarm, 50)?, 0);
    check!(sys!(SYS_alarm, 0)? >= 49);
    check_eq!(sys!(SYS_alarm, 0)?, 0);
    // A child inherits no alarm.
    sys!(SYS_alarm, 100)?;
    check_eq!(in_child(|| sys!(SYS_alarm, 0).unwrap_or(9) as i32)?, 0);
    sys!(SYS_alarm, 0)?;
    check_eq!(
        in_child(|| {
            let _ = c!(signal(SIGALRM, SIG_DFL));
            let _ = sys!(SYS_alarm, 1);
            let _ = sys!(SYS_pause);
            0
        })?,
        -SIGALRM
    );
    Ok(())
}

fn dup2_to_itself() -> Outcome {
    let fd = open(c"/dev/null", O_RDWR | O_CLOEXEC, 0)?;
    check_eq!(sys!(SYS_dup2, fd, fd)? as i32, fd);
    check_eq!(flags_of(fd)?.0, true);
    check_eq!(sys!(SYS_dup2, fd, 77)?, 77);
    check_eq!(flags_of(77)?.0, false);
    check_err!(sys!(SYS_dup2, 9999, 9999), EBADF);
    check_err!(sys!(SYS_dup2, 9999, 3), EBADF);
    check_err!(sys!(SYS_dup2, fd, -1_i32), EBADF);
    Ok(())
}

fn fork_has_no_flags() -> Outcome {
    let pid = sys!(SYS_fork)? as i32;
    if pid == 0 {
        exit(7);
    }
    check_eq!(wait_exit(pid)?, 7);
    Ok(())
}

/// `vfork`; the child sleeps 50 ms, stores 5 at `mark` and exits with 9. Without a stack of its own it must not return
/// through a frame that the parent still needs, so all of it is one block.
fn vfork_and_store(mark: &mut u64) -> Result<usize, Errno> {
    let pause = timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let pid: i64;
    // SAFETY: the child makes calls that touch only what is passed, writes one word and is gone; the parent sleeps.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 35", // nanosleep
            "mov rdi, {pause}",
            "xor esi, esi",
            "syscall",
            "mov qword ptr [{mark}], 5",
            "mov eax, 60", // exit
            "mov edi, 9",
            "syscall",
            "2:",
            pause = in(reg) &raw const pause,
            mark = in(reg) mark,
            inout("rax") SYS_vfork => pid,
            out("rcx") _,
            out("r11") _,
            out("rdi") _,
            out("rsi") _,
        );
    }
    if pid < 0 { Err(Errno(-pid as i32)) } else { Ok(pid as usize) }
}

fn vfork_waits_for_its_child() -> Outcome {
    let mut mark = 0;
    let start = Instant::now();
    let pid = vfork_and_store(&mut mark)? as i32;
    // It had our memory, and we waited until it was gone.
    check_eq!(mark, 5);
    check!(start.elapsed().as_millis() >= 50, "{:?}", start.elapsed());
    check_eq!(wait_exit(pid)?, 9);
    Ok(())
}

fn select(nfds: i32, sets: [usize; 3], time: &mut timeval) -> Result<usize, Errno> {
    sys!(SYS_select, nfds, sets[0], sets[1], sets[2], addr_mut(time))
}

fn select_takes_microseconds() -> Outcome {
    let [r, w] = pipe(0)?;
    let (mut reading, mut writing) = ([1_u64 << r, 0], [1_u64 << w, 0]);
    let sets = [addr_mut(&mut reading), addr_mut(&mut writing), 0];
    let mut time = timeval { tv_sec: 5, tv_usec: 0 };
    check_eq!(select(w.max(r) + 1, sets, &mut time)?, 1);
    check_eq!((reading[0], writing[0]), (0, 1 << w));
    // What is left of the time is told.
    check!(time.tv_sec == 4 && time.tv_usec > 0 || (time.tv_sec, time.tv_usec) == (5, 0));
    reading[0] = 1 << r;
    let mut time = timeval { tv_sec: 0, tv_usec: 30_000 };
    let start = Instant::now();
    check_eq!(select(r + 1, [sets[0], 0, 0], &mut time)?, 0);
    check!(start.elapsed().as_millis() >= 30);
    check_eq!((time.tv_sec, time.tv_usec, reading[0]), (0, 0, 0));
    // More microseconds than a second has are seconds.
    let mut time = timeval { tv_sec: 0, tv_usec: 3_500_000 };
    check_eq!(select(w + 1, [0, sets[1], 0], &mut time)?, 1);
    check!((2..4).contains(&time.tv_sec), "{}", time.tv_sec);
    let child = fork(|| {
        sleep_ms(30);
        i32::from(write(w, b"x").is_err())
    })?;
    let mut reading = [1_u64 << r, 0];
    let sets = [addr_mut(&mut reading), 0, 0];
    check_eq!(sys!(SYS_select, r + 1, sets[0], 0, 0, 0)?, 1);
    check_eq!(reading[0], 1 << r);
    check_eq!(wait_exit(child)?, 0);
    // Nothing to watch is a sleep; bits behind the number are not looked at.
    let mut time = timeval { tv_sec: 0, tv_usec: 1000 };
    check_eq!(select(0, [0; 3], &mut time)?, 0);
    let mut reading = [1_u64 << r | 1 << 60, 0];
    check_eq!(select(r + 1, [addr_mut(&mut reading), 0, 0], &mut timeval { tv_sec: 1, tv_usec: 0 })?, 1);
    check_eq!(reading[0] & ((1 << (r + 1)) - 1), 1 << r);
    Ok(())
}

fn select_errors() -> Outcome {
    let mut reading = [1_u64 << 60, 0];
    let sets = [addr_mut(&mut reading), 0, 0];
    let zero = timeval { tv_sec: 0, tv_usec: 0 };
    check_err!(select(61, sets, &mut { zero }), EBADF);
    check_err!(select(-1, [0; 3], &mut { zero }), EINVAL);
    check_err!(select(0, [0; 3], &mut timeval { tv_sec: -1, tv_usec: 0 }), EINVAL);
    check_err!(select(0, [0; 3], &mut timeval { tv_sec: 0, tv_usec: -1 }), EINVAL);
    check_err!(select(1, [BAD, 0, 0], &mut { zero }), EFAULT);
    check_err!(sys!(SYS_select, 0, 0, 0, 0, BAD), EFAULT);
    let mut action: sigaction = zeroed();
    extern "C" fn nothing(_: i32) {}
    action.sa_sigaction = nothing as *const () as usize;
    action.sa_flags = SA_RESTART;
    c!(sigaction(SIGALRM, &raw const action, std::ptr::null_mut()))?;
    sys!(SYS_setitimer, ITIMER_REAL, addr(&[0_i64, 0, 0, 30_000]), 0)?;
    // It is not restarted, whatever the handler says.
    check_err!(select(0, [0; 3], &mut timeval { tv_sec: 5, tv_usec: 0 }), EINTR);
    Ok(())
}

/// Names and types of `getdents` records, checked for shape.
fn old_records(bytes: &[u8]) -> Result<Vec<(String, u8)>, Failure> {
    let mut at = 0;
    let mut found = Vec::new();
    while at < bytes.len() {
        let length = u16::from_ne_bytes([bytes[at + 16], bytes[at + 17]]) as usize;
        check!(length >= 20 && length.is_multiple_of(8) && at + length <= bytes.len());
        let name = &bytes[at + 18..at + length - 1];
        let end = name.iter().position(|byte| *byte == 0);
        let name = &name[..end.unwrap_or(name.len())];
        found.push((String::from_utf8_lossy(name).into_owned(), bytes[at + length - 1]));
        at += length;
    }
    Ok(found)
}

fn getdents_records() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/file", b"")?;
    mkdir(c"d/sub", 0o755)?;
    symlink(c"x", c"d/link")?;
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    let mut buffer = vec![0_u8; 4096];
    let count = sys!(SYS_getdents, dir, buffer.as_mut_ptr(), buffer.len())?;
    let mut all = old_records(&buffer[..count])?;
    check_eq!(sys!(SYS_getdents, dir, buffer.as_mut_ptr(), buffer.len())?, 0);
    all.sort();
    let expected = [(".", DT_DIR), ("..", DT_DIR), ("file", DT_REG), ("link", DT_LNK), ("sub", DT_DIR)];
    check_eq!(all, expected.map(|(name, kind)| (name.to_string(), kind)));
    // One at a time gives the same ones.
    seek(dir, 0, SEEK_SET)?;
    let mut single = Vec::new();
    loop {
        let count = sys!(SYS_getdents, dir, buffer.as_mut_ptr(), 32)?;
        if count == 0 {
            break;
        }
        single.extend(old_records(&buffer[..count])?);
    }
    single.sort();
    check_eq!(single, all);
    seek(dir, 0, SEEK_SET)?;
    check_err!(sys!(SYS_getdents, dir, buffer.as_mut_ptr(), 8), EINVAL);
    check_err!(sys!(SYS_getdents, dir, BAD, 4096), EFAULT);
    check_err!(sys!(SYS_getdents, 9999, buffer.as_mut_ptr(), 4096), EBADF);
    let file = open(c"d/file", O_RDONLY, 0)?;
    check_err!(sys!(SYS_getdents, file, buffer.as_mut_ptr(), 4096), ENOTDIR);
    sys!(SYS_unlink, c"d/file".as_ptr())?;
    sys!(SYS_unlink, c"d/link".as_ptr())?;
    sys!(SYS_rmdir, c"d/sub".as_ptr())?;
    sys!(SYS_rmdir, c"d".as_ptr())?;
    check_err!(sys!(SYS_getdents, dir, buffer.as_mut_ptr(), 4096), ENOENT);
    Ok(())
}

fn ustat_of_a_device() -> Outcome {
    let mut got = [0xee_u8; 40];
    let dev = stat(c".")?.st_dev;
    sys!(SYS_ustat, dev, got.as_mut_ptr())?;
    check_eq!(got[16..28], [0; 12]);
    check_eq!(got[32..], [0xee; 8]);
    let free = i32::from_ne_bytes([got[0], got[1], got[2], got[3]]);
    check!(free > 0);
    check_err!(sys!(SYS_ustat, dev, BAD), EFAULT);
    check_err!(sys!(SYS_ustat, 0xfff_ff00, got.as_mut_ptr()), EINVAL);
    Ok(())
}

fn sysfs_names_types() -> Outcome {
    let count = sys!(SYS_sysfs, 3)?;
    check!(count > 3);
    let mut name = [0xee_u8; 64];
    let listed = slurp(c"/proc/filesystems")?;
    check_eq!(listed.lines().count(), count);
    for (index, line) in listed.lines().enumerate() {
        check_eq!(sys!(SYS_sysfs, 2, index, name.as_mut_ptr())?, 0);
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
        check_eq!(String::from_utf8_lossy(&name[..end]), line.rsplit('\t').next().unwrap_or_default());
        check_eq!(sys!(SYS_sysfs, 1, name.as_ptr())?, index);
    }
    check_err!(sys!(SYS_sysfs, 2, count, name.as_mut_ptr()), EINVAL);
    check_err!(sys!(SYS_sysfs, 2, 0, BAD), EFAULT);
    check_err!(sys!(SYS_sysfs, 1, c"no such type".as_ptr()), EINVAL);
    check_err!(sys!(SYS_sysfs, 1, BAD), EFAULT);
    check_err!(sys!(SYS_sysfs, 0), EINVAL);
    check_err!(sys!(SYS_sysfs, 4), EINVAL);
    Ok(())
}
