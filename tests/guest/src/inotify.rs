//! inotify(7): every event, flag and limit.

use crate::prelude::*;
use std::ffi::CStr;

tests![
    inotify_mask_errors,
    inotify_file_events,
    inotify_directory_events,
    inotify_both_parent_and_self,
    inotify_rename_cookies,
    inotify_rename_replaces,
    inotify_exchange,
    inotify_delete_self_waits_for_close,
    inotify_link_and_attrib,
    inotify_truncate_and_times,
    inotify_write_paths,
    inotify_directory_itself,
    inotify_mask_add_and_create,
    inotify_oneshot,
    inotify_excl_unlink,
    inotify_symlinks_and_dirs,
    inotify_rm_watch,
    inotify_coalesces,
    inotify_overflow,
    inotify_read_sizes,
    inotify_poll_and_fionread,
    inotify_blocking_read,
    inotify_sigio,
    inotify_limits,
    inotify_unmount,
    inotify_fdinfo,
    inotify_special_files,
    inotify_sysctls,
];

/// An event: descriptor, mask, cookie, name.
#[derive(Debug, Clone, PartialEq)]
struct Seen(i32, u32, u32, String);

fn init() -> Result<i32, Errno> {
    sys!(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC).map(|fd| fd as i32)
}

fn add(fd: i32, path: &CStr, mask: u32) -> Result<i32, Errno> {
    sys!(SYS_inotify_add_watch, fd, path.as_ptr(), mask).map(|wd| wd as i32)
}

fn parse(bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut at = 0;
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    while at + 16 <= bytes.len() {
        let len = word(at + 12) as usize;
        let name = &bytes[at + 16..at + 16 + len];
        let end = name.iter().position(|b| *b == 0).unwrap_or(len);
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        seen.push(Seen(word(at) as i32, word(at + 4), word(at + 8), name));
        at += 16 + len;
    }
    seen
}

/// All events that are queued.
fn drain(fd: i32) -> Result<Vec<Seen>, Errno> {
    let mut all = Vec::new();
    loop {
        match read_vec(fd, 65536) {
            Ok(bytes) => all.extend(parse(&bytes)),
            Err(Errno(EAGAIN)) => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

/// Masks and names of all events that are queued.
fn masks(fd: i32) -> Result<Vec<(u32, String)>, Errno> {
    Ok(drain(fd)?.into_iter().map(|seen| (seen.1, seen.3)).collect())
}

/// Fails unless exactly these events came, in this order.
macro_rules! expect {
    ($fd:expr, [$(($mask:expr, $name:expr)),* $(,)?]) => {{
        let wanted: Vec<(u32, String)> = vec![$(($mask, String::from($name))),*];
        check_eq!(masks($fd)?, wanted);
    }};
}

fn inotify_mask_errors() -> Outcome {
    create(c"f", b"")?;
    check_err!(sys!(SYS_inotify_init1, 1), EINVAL);
    check_err!(sys!(SYS_inotify_init1, O_APPEND), EINVAL);
    let blocking = sys!(SYS_inotify_init1, 0)? as i32;
    check_eq!(fcntl(blocking, F_GETFD, 0)?, 0);
    check_eq!(fcntl(blocking, F_GETFL, 0)? as i32 & (O_NONBLOCK | O_ACCMODE), O_RDONLY);
    let fd = init()?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_NONBLOCK, O_NONBLOCK);
    check_err!(add(fd, c"f", 0), EINVAL);
    // Bits that mean nothing are refused, also beside others; those of events that cannot be asked for are not.
    check_err!(add(fd, c"f", 0x1000), EINVAL);
    check_err!(add(fd, c"f", 0x1000 | IN_OPEN), EINVAL);
    check!(add(fd, c"f", IN_Q_OVERFLOW).is_ok());
    check_err!(add(fd, c"f", IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN), EINVAL);
    check_err!(add(fd, c"missing", IN_OPEN), ENOENT);
    check_err!(add(fd, c"f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
    check_err!(add(999, c"f", IN_OPEN), EBADF);
    check_err!(add(999, c"f", 0), EINVAL);
    let file = open(c"f", O_RDONLY, 0)?;
    check_err!(add(file, c"f", IN_OPEN), EINVAL);
    check_err!(sys!(SYS_inotify_add_watch, fd, 8, IN_OPEN), EFAULT);
    check_err!(sys!(SYS_inotify_rm_watch, fd, 77), EINVAL);
    check_err!(sys!(SYS_inotify_rm_watch, file, 1), EINVAL);
    check_err!(sys!(SYS_inotify_rm_watch, 999, 1), EBADF);
    check_err!(write(fd, b"x"), EBADF);
    // It has no position, and does not say so.
    check_eq!(seek(fd, 5, SEEK_SET)?, 0);
    // Reading must be allowed.
    create(c"secret", b"")?;
    let secret = open(c"secret", O_RDONLY, 0)?;
    sys!(SYS_fchmod, secret, 0o200)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(add(fd, c"secret", IN_OPEN) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn inotify_file_events() -> Outcome {
    create(c"f", b"0123456789")?;
    let fd = init()?;
    let wd = add(fd, c"f", IN_ALL_EVENTS)?;
    check_eq!(wd, 1);
    let file = open(c"f", O_RDWR, 0)?;
    read_vec(file, 4)?;
    write(file, b"xx")?;
    close(file)?;
    let file = open(c"f", O_RDONLY, 0)?;
    // Nothing read, nothing told.
    seek(file, 0, SEEK_END)?;
    read_vec(file, 4)?;
    close(file)?;
    let seen = drain(fd)?;
    check!(seen.iter().all(|seen| seen.0 == wd && seen.2 == 0 && seen.3.is_empty()));
    let masks: Vec<u32> = seen.iter().map(|seen| seen.1).collect();
    check_eq!(masks, [IN_OPEN, IN_ACCESS, IN_MODIFY, IN_CLOSE_WRITE, IN_OPEN, IN_CLOSE_NOWRITE]);
    // O_PATH is no open.
    close(open(c"f", O_PATH, 0)?)?;
    expect!(fd, []);
    sys!(SYS_truncate, c"f".as_ptr(), 3)?;
    expect!(fd, [(IN_MODIFY, "")]);
    Ok(())
}

fn inotify_directory_events() -> Outcome {
    mkdir(c"d", 0o755)?;
    let fd = init()?;
    add(fd, c"d", IN_ALL_EVENTS)?;
    let file = create(c"d/f", b"abc")?;
    read_vec(file, 1)?;
    close(file)?;
    expect!(
        fd,
        [(IN_CREATE, "f"), (IN_OPEN, "f"), (IN_MODIFY, "f"), (IN_ACCESS, "f"), (IN_CLOSE_WRITE, "f")]
    );
    sys!(SYS_fchmodat, CWD, c"d/f".as_ptr(), 0o600)?;
    expect!(fd, [(IN_ATTRIB, "f")]);
    mkdir(c"d/sub", 0o755)?;
    symlink(c"f", c"d/l")?;
    sys!(SYS_mknodat, CWD, c"d/p".as_ptr(), S_IFIFO | 0o600, 0)?;
    expect!(fd, [(IN_CREATE | IN_ISDIR, "sub"), (IN_CREATE, "l"), (IN_CREATE, "p")]);
    std::fs::read_dir("d/sub")?.count();
    expect!(
        fd,
        [(IN_OPEN | IN_ISDIR, "sub"), (IN_ACCESS | IN_ISDIR, "sub"), (IN_CLOSE_NOWRITE | IN_ISDIR, "sub")]
    );
    // What happens deeper is not told.
    create(c"d/sub/deep", b"").and_then(close)?;
    unlink(c"d/sub/deep")?;
    expect!(fd, []);
    rmdir(c"d/sub")?;
    unlink(c"d/l")?;
    unlink(c"d/f")?;
    expect!(fd, [(IN_DELETE | IN_ISDIR, "sub"), (IN_DELETE, "l"), (IN_DELETE, "f")]);
    Ok(())
}

fn inotify_both_parent_and_self() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"abc").and_then(close)?;
    let fd = init()?;
    let dir = add(fd, c"d", IN_OPEN | IN_ATTRIB | IN_DELETE)?;
    let file = add(fd, c"d/f", IN_OPEN | IN_ATTRIB | IN_DELETE_SELF)?;
    check!(dir != file);
    close(open(c"d/f", O_RDONLY, 0)?)?;
    let seen = drain(fd)?;
    check_eq!(seen, [Seen(dir, IN_OPEN, 0, "f".into()), Seen(file, IN_OPEN, 0, String::new())]);
    unlink(c"d/f")?;
    let seen = drain(fd)?;
    let wanted = [
        Seen(file, IN_ATTRIB, 0, String::new()),
        Seen(file, IN_DELETE_SELF, 0, String::new()),
        Seen(file, IN_IGNORED, 0, String::new()),
        Seen(dir, IN_DELETE, 0, "f".into()),
    ];
    check_eq!(seen, wanted);
    Ok(())
}

fn inotify_rename_cookies() -> Outcome {
    mkdir(c"a", 0o755)?;
    mkdir(c"b", 0o755)?;
    create(c"a/f", b"").and_then(close)?;
    let fd = init()?;
    let (a, b) = (add(fd, c"a", IN_ALL_EVENTS)?, add(fd, c"b", IN_ALL_EVENTS)?);
    let f = add(fd, c"a/f", IN_ALL_EVENTS)?;
    sys!(SYS_renameat, CWD, c"a/f".as_ptr(), CWD, c"b/g".as_ptr())?;
    let seen = drain(fd)?;
    check_eq!(seen.len(), 3);
    let cookie = seen[0].2;
    check!(cookie != 0);
    check_eq!(seen[0], Seen(a, IN_MOVED_FROM, cookie, "f".into()));
    check_eq!(seen[1], Seen(b, IN_MOVED_TO, cookie, "g".into()));
    check_eq!(seen[2], Seen(f, IN_MOVE_SELF, 0, String::new()));
    // Another rename, another cookie. Out of what is watched there is one half only.
    sys!(SYS_renameat, CWD, c"b/g".as_ptr(), CWD, c"g".as_ptr())?;
    let seen = drain(fd)?;
    check_eq!(seen.len(), 2);
    check!(seen[0].2 != 0 && seen[0].2 != cookie);
    check_eq!((seen[0].0, seen[0].1, seen[0].3.as_str()), (b, IN_MOVED_FROM, "g"));
    mkdir(c"sub", 0o755)?;
    sys!(SYS_renameat, CWD, c"sub".as_ptr(), CWD, c"b/sub".as_ptr())?;
    expect!(fd, [(IN_MOVED_TO | IN_ISDIR, "sub")]);
    // To the same file: nothing happens.
    sys!(SYS_linkat, CWD, c"g".as_ptr(), CWD, c"a/h".as_ptr(), 0)?;
    drain(fd)?;
    sys!(SYS_renameat, CWD, c"g".as_ptr(), CWD, c"a/h".as_ptr())?;
    expect!(fd, []);
    Ok(())
}

fn inotify_rename_replaces() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/a", b"").and_then(close)?;
    create(c"d/b", b"").and_then(close)?;
    let fd = init()?;
    let (d, b) = (add(fd, c"d", IN_ALL_EVENTS)?, add(fd, c"d/b", IN_ALL_EVENTS)?);
    sys!(SYS_renameat, CWD, c"d/a".as_ptr(), CWD, c"d/b".as_ptr())?;
    let seen: Vec<_> = drain(fd)?.into_iter().map(|seen| (seen.0, seen.1, seen.3)).collect();
    let wanted = [
        (d, IN_MOVED_FROM, "a".to_string()),
        (d, IN_MOVED_TO, "b".to_string()),
        (b, IN_ATTRIB, String::new()),
        (b, IN_DELETE_SELF, String::new()),
        (b, IN_IGNORED, String::new()),
    ];
    check_eq!(seen, wanted);
    Ok(())
}

fn inotify_exchange() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/a", b"").and_then(close)?;
    mkdir(c"d/b", 0o755)?;
    let fd = init()?;
    add(fd, c"d", IN_MOVE)?;
    sys!(SYS_renameat2, CWD, c"d/a".as_ptr(), CWD, c"d/b".as_ptr(), RENAME_EXCHANGE)?;
    let seen = drain(fd)?;
    let shown: Vec<_> = seen.iter().map(|seen| (seen.1, seen.3.as_str())).collect();
    let wanted = [
        (IN_MOVED_FROM, "a"),
        (IN_MOVED_TO, "b"),
        (IN_MOVED_FROM | IN_ISDIR, "b"),
        (IN_MOVED_TO | IN_ISDIR, "a"),
    ];
    check_eq!(shown, wanted);
    check!(seen[0].2 == seen[1].2 && seen[2].2 == seen[3].2 && seen[0].2 != seen[2].2);
    Ok(())
}

fn inotify_delete_self_waits_for_close() -> Outcome {
    mkdir(c"d", 0o755)?;
    let file = create(c"d/f", b"x")?;
    let fd = init()?;
    add(fd, c"d/f", IN_ALL_EVENTS)?;
    unlink(c"d/f")?;
    expect!(fd, [(IN_ATTRIB, "")]);
    write(file, b"y")?;
    expect!(fd, [(IN_MODIFY, "")]);
    close(file)?;
    expect!(fd, [(IN_CLOSE_WRITE, ""), (IN_DELETE_SELF, ""), (IN_IGNORED, "")]);
    // With a second name it lives on.
    create(c"d/g", b"x").and_then(close)?;
    sys!(SYS_linkat, CWD, c"d/g".as_ptr(), CWD, c"h".as_ptr(), 0)?;
    let wd = add(fd, c"d/g", IN_ALL_EVENTS)?;
    unlink(c"d/g")?;
    expect!(fd, [(IN_ATTRIB, "")]);
    check_eq!(add(fd, c"h", IN_ALL_EVENTS)?, wd);
    unlink(c"h")?;
    expect!(fd, [(IN_ATTRIB, ""), (IN_DELETE_SELF, ""), (IN_IGNORED, "")]);
    // Directories end at once, unless they are open.
    mkdir(c"d/s", 0o755)?;
    add(fd, c"d/s", IN_DELETE_SELF)?;
    rmdir(c"d/s")?;
    let masks = masks(fd)?;
    check_eq!(masks[0].0 & !IN_ISDIR, IN_DELETE_SELF);
    check_eq!(masks[1], (IN_IGNORED, String::new()));
    Ok(())
}

fn inotify_link_and_attrib() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"x").and_then(close)?;
    let fd = init()?;
    let (d, f) = (add(fd, c"d", IN_ALL_EVENTS)?, add(fd, c"d/f", IN_ALL_EVENTS)?);
    sys!(SYS_linkat, CWD, c"d/f".as_ptr(), CWD, c"d/g".as_ptr(), 0)?;
    let seen = drain(fd)?;
    check_eq!(seen, [Seen(f, IN_ATTRIB, 0, String::new()), Seen(d, IN_CREATE, 0, "g".into())]);
    let both = [Seen(d, IN_ATTRIB, 0, "f".into()), Seen(f, IN_ATTRIB, 0, String::new())];
    let path = c"d/f".as_ptr();
    sys!(SYS_fchmodat, CWD, path, 0o640)?;
    check_eq!(drain(fd)?, both);
    sys!(SYS_fchownat, CWD, path, 1, 1, 0)?;
    check_eq!(drain(fd)?, both);
    sys!(SYS_setxattr, path, c"user.a".as_ptr(), c"v".as_ptr(), 1, 0)?;
    check_eq!(drain(fd)?, both);
    sys!(SYS_removexattr, path, c"user.a".as_ptr())?;
    check_eq!(drain(fd)?, both);
    // Through the other name the directory sees the other name.
    sys!(SYS_fchmodat, CWD, c"d/g".as_ptr(), 0o600)?;
    check_eq!(drain(fd)?, [Seen(d, IN_ATTRIB, 0, "g".into()), Seen(f, IN_ATTRIB, 0, String::new())]);
    Ok(())
}

fn inotify_truncate_and_times() -> Outcome {
    create(c"f", b"0123456789").and_then(close)?;
    let fd = init()?;
    add(fd, c"f", IN_ALL_EVENTS)?;
    let file = open(c"f", O_WRONLY | O_TRUNC, 0)?;
    expect!(fd, [(IN_OPEN, ""), (IN_MODIFY, "")]);
    sys!(SYS_ftruncate, file, 100)?;
    expect!(fd, [(IN_MODIFY, "")]);
    let set = |atime: (i64, i64), mtime: (i64, i64)| {
        let times = [atime.0, atime.1, mtime.0, mtime.1];
        sys!(SYS_utimensat, file, 0, addr(&times), 0)
    };
    set((1, 0), (2, 0))?;
    expect!(fd, [(IN_ATTRIB, "")]);
    set((1, 0), (0, UTIME_OMIT))?;
    expect!(fd, [(IN_ACCESS, "")]);
    set((0, UTIME_OMIT), (1, 0))?;
    expect!(fd, [(IN_MODIFY, "")]);
    set((0, UTIME_OMIT), (0, UTIME_OMIT))?;
    expect!(fd, []);
    Ok(())
}

fn inotify_write_paths() -> Outcome {
    create(c"a", b"0123456789").and_then(close)?;
    create(c"b", b"").and_then(close)?;
    let (from, to) = (open(c"a", O_RDWR, 0)?, open(c"b", O_RDWR, 0)?);
    let fd = init()?;
    let (a, b) = (add(fd, c"a", IN_ALL_EVENTS)?, add(fd, c"b", IN_ALL_EVENTS)?);
    let seen = |fd| -> Result<Vec<(i32, u32)>, Errno> {
        let mut seen: Vec<_> = drain(fd)?.into_iter().map(|seen| (seen.0, seen.1)).collect();
        seen.dedup();
        Ok(seen)
    };
    sys!(SYS_fallocate, to, 0, 0, 100)?;
    check_eq!(seen(fd)?, [(b, IN_MODIFY)]);
    sys!(SYS_sendfile, to, from, 0, 5)?;
    let mut both = seen(fd)?;
    both.sort();
    check_eq!(both, [(a, IN_ACCESS), (b, IN_MODIFY)]);
    sys!(SYS_copy_file_range, from, 0, to, 0, 3, 0)?;
    let mut both = seen(fd)?;
    both.sort();
    check_eq!(both, [(a, IN_ACCESS), (b, IN_MODIFY)]);
    let ends = crate::sys::pipe(0)?;
    sys!(SYS_lseek, from, 0, SEEK_SET)?;
    sys!(SYS_splice, from, 0, ends[1], 0, 4, 0)?;
    check_eq!(seen(fd)?, [(a, IN_ACCESS)]);
    sys!(SYS_splice, ends[0], 0, to, 0, 4, 0)?;
    check_eq!(seen(fd)?, [(b, IN_MODIFY)]);
    // A mapping tells nothing.
    let map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0)?;
    poke(map, 7);
    munmap(map, 4096)?;
    check_eq!(seen(fd)?, []);
    // Running a program opens it.
    std::fs::copy("/proc/self/exe", "prog")?;
    let prog = add(fd, c"prog", IN_OPEN | IN_ACCESS | IN_CLOSE)?;
    std::process::Command::new("./prog").arg("helper:args").output()?;
    let run = seen(fd)?;
    check_eq!(run.first().copied(), Some((prog, IN_OPEN)));
    check_eq!(run.last().copied(), Some((prog, IN_CLOSE_NOWRITE)));
    Ok(())
}

fn inotify_directory_itself() -> Outcome {
    mkdir(c"d", 0o755)?;
    let fd = init()?;
    add(fd, c"d", IN_ALL_EVENTS)?;
    std::fs::read_dir("d")?.count();
    expect!(fd, [(IN_OPEN | IN_ISDIR, ""), (IN_ACCESS | IN_ISDIR, ""), (IN_CLOSE_NOWRITE | IN_ISDIR, "")]);
    sys!(SYS_fchmodat, CWD, c"d".as_ptr(), 0o700)?;
    expect!(fd, [(IN_ATTRIB | IN_ISDIR, "")]);
    sys!(SYS_renameat, CWD, c"d".as_ptr(), CWD, c"e".as_ptr())?;
    let moved = masks(fd)?;
    check_eq!(moved.len(), 1);
    check_eq!(moved[0].0 & !IN_ISDIR, IN_MOVE_SELF);
    Ok(())
}

fn inotify_mask_add_and_create() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    let wd = add(fd, c"f", IN_OPEN)?;
    check_err!(add(fd, c"f", IN_CLOSE | IN_MASK_CREATE), EEXIST);
    check_eq!(add(fd, c"f", IN_CLOSE | IN_MASK_ADD)?, wd);
    close(open(c"f", O_RDONLY, 0)?)?;
    expect!(fd, [(IN_OPEN, ""), (IN_CLOSE_NOWRITE, "")]);
    // Without it the mask is replaced.
    check_eq!(add(fd, c"f", IN_ATTRIB)?, wd);
    close(open(c"f", O_RDONLY, 0)?)?;
    expect!(fd, []);
    create(c"g", b"").and_then(close)?;
    check_eq!(add(fd, c"g", IN_OPEN | IN_MASK_CREATE)?, wd + 1);
    // Another name is the same file.
    sys!(SYS_linkat, CWD, c"g".as_ptr(), CWD, c"h".as_ptr(), 0)?;
    check_eq!(add(fd, c"h", IN_OPEN)?, wd + 1);
    Ok(())
}

fn inotify_oneshot() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    let wd = add(fd, c"f", IN_OPEN | IN_CLOSE | IN_ONESHOT)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    expect!(fd, [(IN_OPEN, ""), (IN_IGNORED, "")]);
    check_err!(sys!(SYS_inotify_rm_watch, fd, wd), EINVAL);
    // Descriptors are not used again at once.
    check_eq!(add(fd, c"f", IN_OPEN)?, wd + 1);
    Ok(())
}

fn inotify_excl_unlink() -> Outcome {
    mkdir(c"d", 0o755)?;
    let file = create(c"d/f", b"")?;
    let other = create(c"d/g", b"")?;
    let fd = init()?;
    add(fd, c"d", IN_MODIFY | IN_EXCL_UNLINK)?;
    let plain = init()?;
    add(plain, c"d", IN_MODIFY)?;
    unlink(c"d/f")?;
    write(file, b"x")?;
    expect!(fd, []);
    expect!(plain, [(IN_MODIFY, "f")]);
    write(other, b"x")?;
    expect!(fd, [(IN_MODIFY, "g")]);
    expect!(plain, [(IN_MODIFY, "g")]);
    Ok(())
}

fn inotify_symlinks_and_dirs() -> Outcome {
    create(c"f", b"").and_then(close)?;
    symlink(c"f", c"l")?;
    symlink(c"nowhere", c"dangling")?;
    let fd = init()?;
    let file = add(fd, c"f", IN_ALL_EVENTS)?;
    check_eq!(add(fd, c"l", IN_ALL_EVENTS)?, file);
    let link = add(fd, c"l", IN_ALL_EVENTS | IN_DONT_FOLLOW)?;
    check!(link != file);
    check_err!(add(fd, c"dangling", IN_ALL_EVENTS), ENOENT);
    check!(add(fd, c"dangling", IN_ALL_EVENTS | IN_DONT_FOLLOW).is_ok());
    drain(fd)?;
    unlink(c"l")?;
    let seen: Vec<_> = drain(fd)?.into_iter().map(|seen| (seen.0, seen.1)).collect();
    check_eq!(seen, [(link, IN_ATTRIB), (link, IN_DELETE_SELF), (link, IN_IGNORED)]);
    Ok(())
}

fn inotify_rm_watch() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    let wd = add(fd, c"f", IN_OPEN)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    sys!(SYS_inotify_rm_watch, fd, wd)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    expect!(fd, [(IN_OPEN, ""), (IN_IGNORED, "")]);
    // Two instances do not know of each other.
    let other = init()?;
    check_eq!(add(other, c"f", IN_OPEN)?, 1);
    check_eq!(add(fd, c"f", IN_OPEN)?, 2);
    close(other)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    expect!(fd, [(IN_OPEN, "")]);
    Ok(())
}

fn inotify_coalesces() -> Outcome {
    let file = create(c"f", b"0123456789")?;
    let fd = init()?;
    add(fd, c"f", IN_MODIFY | IN_ACCESS)?;
    for _ in 0..5 {
        write(file, b"x")?;
    }
    seek(file, 0, SEEK_SET)?;
    read_vec(file, 1)?;
    write(file, b"x")?;
    expect!(fd, [(IN_MODIFY, ""), (IN_ACCESS, ""), (IN_MODIFY, "")]);
    Ok(())
}

fn inotify_overflow() -> Outcome {
    mkdir(c"d", 0o755)?;
    let limit = c"/proc/sys/fs/inotify/max_queued_events";
    let old = slurp(limit)?;
    spew(limit, "4")?;
    let fd = init();
    spew(limit, &old)?;
    let fd = fd?;
    add(fd, c"d", IN_CREATE)?;
    for index in 0..8 {
        std::fs::write(format!("d/{index}"), "")?;
    }
    let seen = drain(fd)?;
    check_eq!(seen.len(), 5);
    check_eq!(seen[4], Seen(-1, IN_Q_OVERFLOW, 0, String::new()));
    check_eq!(seen[3].3, "3");
    std::fs::write("d/again", "")?;
    expect!(fd, [(IN_CREATE, "again")]);
    Ok(())
}

fn inotify_read_sizes() -> Outcome {
    mkdir(c"d", 0o755)?;
    let fd = init()?;
    add(fd, c"d", IN_CREATE)?;
    check_err!(read_vec(fd, 1000), EAGAIN);
    std::fs::write("d/a", "")?;
    std::fs::write("d/the-name-of-thirty-two-characters", "")?;
    // Names are padded to multiples of 16 with at least one NUL.
    check_err!(read_vec(fd, 15), EINVAL);
    check_err!(read_vec(fd, 31), EINVAL);
    let mut queued = 0;
    sys!(SYS_ioctl, fd, FIONREAD, addr_mut(&mut queued))?;
    check_eq!(queued, 32 + 16 + 48);
    let one = read_vec(fd, 95)?;
    check_eq!(one.len(), 32);
    check_eq!(parse(&one)[0].3, "a");
    check_eq!(&one[17..32], &[0; 15]);
    let two = read_vec(fd, 64)?;
    check_eq!(two.len(), 64);
    check_eq!(parse(&two)[0].3.len(), 33);
    // A bad address loses the event.
    std::fs::write("d/b", "")?;
    check_err!(sys!(SYS_read, fd, 8, 100), EFAULT);
    check_err!(read_vec(fd, 100), EAGAIN);
    Ok(())
}

fn inotify_poll_and_fionread() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    add(fd, c"f", IN_OPEN)?;
    let mut queued = 1;
    sys!(SYS_ioctl, fd, FIONREAD, addr_mut(&mut queued))?;
    check_eq!(queued, 0);
    check_err!(sys!(SYS_ioctl, fd, TIOCGWINSZ, 0), ENOTTY);
    let ready = || -> Result<(usize, i16), Errno> {
        let mut poll = pollfd { fd, events: POLLIN | POLLOUT, revents: 0 };
        let count = sys!(SYS_ppoll, addr_mut(&mut poll), 1, addr(&[0_u64; 2]), 0, 0)?;
        Ok((count, poll.revents))
    };
    check_eq!(ready()?, (0, 0));
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 5 };
    sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, addr_mut(&mut event))?;
    close(open(c"f", O_RDONLY, 0)?)?;
    check_eq!(ready()?, (1, POLLIN));
    let mut got = epoll_event { events: 0, u64: 0 };
    check_eq!(sys!(SYS_epoll_pwait, epoll, addr_mut(&mut got), 1, 0, 0, 8)?, 1);
    check_eq!({ got.u64 }, 5);
    drain(fd)?;
    check_eq!(ready()?, (0, 0));
    Ok(())
}

fn inotify_blocking_read() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = sys!(SYS_inotify_init1, 0)? as i32;
    add(fd, c"f", IN_OPEN)?;
    let child = fork(|| {
        sleep_ms(30);
        i32::from(open(c"f", O_RDONLY, 0).is_err())
    })?;
    check_eq!(parse(&read_vec(fd, 100)?).len(), 1);
    check_eq!(wait_exit(child)?, 0);
    // A signal ends the wait.
    let reader = fork(|| {
        let mut action: sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
        i32::from(read_vec(fd, 100) != Err(Errno(EINTR)))
    })?;
    check!(eventually(|| state(reader) == Some('S')));
    sleep_ms(20);
    kill(reader, SIGUSR1)?;
    check_eq!(wait_exit(reader)?, 0);
    Ok(())
}

extern "C" fn on_signal(_: i32) {}

fn inotify_sigio() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    add(fd, c"f", IN_OPEN)?;
    let set = 1_u64 << (SIGIO - 1) | 1_u64 << (SIGRTMIN() + 2 - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8)?;
    let pending = || -> Result<(i32, i32, i32), Errno> {
        let mut info: [i32; 32] = [0; 32];
        let none = [0_u64; 2];
        match sys!(SYS_rt_sigtimedwait, addr(&set), addr_mut(&mut info), addr(&none), 8) {
            // Number, code, descriptor.
            Ok(_) => Ok((info[0], info[2], info[6])),
            Err(Errno(EAGAIN)) => Ok((0, 0, 0)),
            Err(error) => Err(error),
        }
    };
    fcntl(fd, F_SETFL, (O_NONBLOCK | O_ASYNC) as usize)?;
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_ASYNC, O_ASYNC);
    close(open(c"f", O_RDONLY, 0)?)?;
    // Nobody owns it yet.
    check_eq!(pending()?.0, 0);
    drain(fd)?;
    fcntl(fd, F_SETOWN, getpid() as usize)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    check_eq!(pending()?.0, SIGIO);
    drain(fd)?;
    fcntl(fd, 10, SIGRTMIN() as usize + 2)?; // F_SETSIG
    close(open(c"f", O_RDONLY, 0)?)?;
    check_eq!(pending()?, (SIGRTMIN() + 2, 1, fd));
    check_eq!(pending()?.0, 0);
    drain(fd)?;
    fcntl(fd, F_SETFL, O_NONBLOCK as usize)?;
    close(open(c"f", O_RDONLY, 0)?)?;
    check_eq!(pending()?.0, 0);
    Ok(())
}

fn inotify_limits() -> Outcome {
    create(c"f", b"").and_then(close)?;
    create(c"g", b"").and_then(close)?;
    let (instances, watches) =
        (c"/proc/sys/fs/inotify/max_user_instances", c"/proc/sys/fs/inotify/max_user_watches");
    let (old_instances, old_watches) = (slurp(instances)?, slurp(watches)?);
    spew(instances, "2")?;
    spew(watches, "1")?;
    let status = in_child(|| {
        // A user whom nobody else is.
        let _ = sys!(SYS_setresuid, 4242, 4242, 4242);
        let made = (init(), init(), init());
        let (Ok(a), Ok(b), Err(Errno(EMFILE))) = made else { return 1 };
        let (Ok(wd), Err(Errno(ENOSPC))) = (add(a, c"f", IN_OPEN), add(a, c"g", IN_OPEN)) else { return 2 };
        // The limit is the user's, not the instance's.
        let Err(Errno(ENOSPC)) = add(b, c"f", IN_OPEN) else { return 3 };
        // A watch that exists can be changed; one that goes makes room.
        if add(a, c"f", IN_CLOSE).is_err() || sys!(SYS_inotify_rm_watch, a, wd).is_err() {
            return 4;
        }
        if add(b, c"f", IN_OPEN).is_err() || close(b).is_err() || add(a, c"g", IN_OPEN).is_err() {
            return 5;
        }
        i32::from(init().is_err()) * 6
    });
    spew(instances, &old_instances)?;
    spew(watches, &old_watches)?;
    check_eq!(status?, 0);
    Ok(())
}

fn inotify_unmount() -> Outcome {
    mkdir(c"m", 0o755)?;
    sys!(SYS_mount, c"x".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, 0)?;
    create(c"m/f", b"").and_then(close)?;
    let fd = init()?;
    let root = add(fd, c"m", IN_ALL_EVENTS)?;
    let file = add(fd, c"m/f", IN_OPEN)?;
    // A watch does not keep the mount busy.
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    let mut seen: Vec<_> = drain(fd)?.into_iter().map(|seen| (seen.0, seen.1 & !IN_ISDIR)).collect();
    seen.retain(|seen| seen.1 != IN_DELETE_SELF);
    seen.sort();
    let mut wanted = vec![(root, IN_UNMOUNT), (root, IN_IGNORED), (file, IN_UNMOUNT), (file, IN_IGNORED)];
    wanted.sort();
    check_eq!(seen, wanted);
    check_err!(sys!(SYS_inotify_rm_watch, fd, root), EINVAL);
    Ok(())
}

fn inotify_fdinfo() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init()?;
    add(fd, c"f", IN_OPEN | IN_ONESHOT)?;
    add(fd, c".", IN_CREATE | IN_EXCL_UNLINK)?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("inotify ")).collect();
    check_eq!(lines.len(), 2);
    let ino = stat(c"f")?.st_ino;
    let find = |start: &str| lines.iter().find(|line| line.starts_with(start)).map(|line| line.to_string());
    let line = find(&format!("inotify wd:1 ino:{ino:x} sdev:")).unwrap_or_default();
    check!(line.contains(" mask:80000020 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:"), "{text}");
    let handle = crate::handles::handle_of(c"f")?;
    let bytes: String =
        handle.data[..3].iter().flat_map(|word| word.to_ne_bytes()).map(|b| format!("{b:02x}")).collect();
    check!(line.ends_with(&bytes), "{line} {bytes}");
    let ino = stat(c".")?.st_ino;
    let line = find(&format!("inotify wd:2 ino:{ino:x} ")).unwrap_or_default();
    check!(line.contains(" mask:4000100 "), "{text}");
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(link.to_string_lossy(), "anon_inode:inotify");
    Ok(())
}

fn inotify_special_files() -> Outcome {
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o600, 0)?;
    let fd = init()?;
    add(fd, c"p", IN_ALL_EVENTS)?;
    let pipe = open(c"p", O_RDWR, 0)?;
    write(pipe, b"x")?;
    read_vec(pipe, 1)?;
    close(pipe)?;
    expect!(fd, [(IN_OPEN, ""), (IN_MODIFY, ""), (IN_ACCESS, ""), (IN_CLOSE_WRITE, "")]);
    add(fd, c"/dev/null", IN_ALL_EVENTS)?;
    let null = open(c"/dev/null", O_RDWR, 0)?;
    write(null, b"x")?;
    read_vec(null, 1)?;
    close(null)?;
    expect!(fd, [(IN_OPEN, ""), (IN_MODIFY, ""), (IN_CLOSE_WRITE, "")]);
    // O_TMPFILE and memfds have inodes too.
    let file = open(c".", O_TMPFILE | O_RDWR, 0o600)?;
    let path = std::ffi::CString::new(format!("/proc/self/fd/{file}")).unwrap_or_default();
    add(fd, &path, IN_MODIFY | IN_DELETE_SELF)?;
    write(file, b"x")?;
    close(file)?;
    expect!(fd, [(IN_MODIFY, ""), (IN_DELETE_SELF, ""), (IN_IGNORED, "")]);
    Ok(())
}

fn inotify_sysctls() -> Outcome {
    for (name, most) in
        [("max_queued_events", 1 << 30), ("max_user_instances", 1 << 30), ("max_user_watches", 1 << 30)]
    {
        let path = std::ffi::CString::new(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        let value: u64 = slurp(&path)?.trim().parse().map_err(Failure::new)?;
        check!(value >= 128 && value < most, "{name} {value}");
        check_eq!(stat(&path)?.st_mode & 0o777, 0o644);
        check_err!(spew(&path, "-1"), EINVAL);
        check_err!(spew(&path, "x"), EINVAL);
    }
    Ok(())
}
