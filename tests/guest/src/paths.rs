//! Names: directories, links, renames, attributes (mkdir(2), link(2), rename(2), chmod(2), …).

use crate::prelude::*;
use std::ffi::{CStr, CString};

tests![
    mkdir_rmdir,
    unlink_kinds,
    hard_links,
    symlinks_resolve,
    rename_basics,
    rename_flags,
    rename_directories,
    chmod_bits,
    chown_ids,
    utimensat_times,
    time_stamps_move,
    getdents_lists,
    getdents_offsets,
    getdents_partial_buffer,
    getdents_while_deleting,
    statx_fields,
    stat_fields,
    access_checks,
    xattrs,
    mknod_kinds,
    dot_dot_and_slashes,
    getcwd_follows,
    chdir_errors,
    statfs_numbers,
    permission_denied,
    sticky_directory,
    readlink_truncates,
    deep_paths,
    many_files,
    inotify_events,
    name_to_handle,
];

fn cstring(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn link(from: &CStr, to: &CStr) -> crate::sys::Result<()> {
    sys!(SYS_linkat, CWD, from.as_ptr(), CWD, to.as_ptr(), 0).map(drop)
}

fn rename(from: &CStr, to: &CStr, flags: u32) -> crate::sys::Result<()> {
    sys!(SYS_renameat2, CWD, from.as_ptr(), CWD, to.as_ptr(), flags).map(drop)
}

fn readlink(path: &CStr) -> crate::sys::Result<String> {
    let mut buffer = vec![0_u8; 4096];
    let count = sys!(SYS_readlinkat, CWD, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// Runs `body` as user and group 1000 in a child.
fn as_user(body: impl FnOnce() -> i32) -> crate::sys::Result<i32> {
    in_child(|| {
        let dropped = sys!(SYS_setgroups, 0, 0)
            .and_then(|_| sys!(SYS_setresgid, 1000, 1000, 1000))
            .and_then(|_| sys!(SYS_setresuid, 1000, 1000, 1000));
        if dropped.is_err() { 99 } else { body() }
    })
}

fn mkdir_rmdir() -> Outcome {
    mkdir(c"d", 0o755)?;
    check_eq!(stat(c"d")?.st_nlink, 2);
    check_err!(mkdir(c"d", 0o755), EEXIST);
    check_err!(mkdir(c".", 0o755), EEXIST);
    check_err!(mkdir(c"/", 0o755), EEXIST);
    check_err!(mkdir(c"x/y", 0o755), ENOENT);
    mkdir(c"d/e/", 0o755)?;
    check_eq!(stat(c"d")?.st_nlink, 3);
    check_err!(rmdir(c"d"), ENOTEMPTY);
    check_err!(rmdir(c"d/."), EINVAL);
    check_err!(rmdir(c"d/e/.."), ENOTEMPTY);
    check_err!(rmdir(c"missing"), ENOENT);
    check_err!(rmdir(c"/"), EBUSY);
    create(c"f", b"")?;
    check_err!(rmdir(c"f"), ENOTDIR);
    check_err!(mkdir(c"f/x", 0o755), ENOTDIR);
    rmdir(c"d/e")?;
    check_eq!(stat(c"d")?.st_nlink, 2);
    // A removed directory that is somebody's current directory holds nothing any more.
    mkdir(c"gone", 0o755)?;
    sys!(SYS_chdir, c"gone".as_ptr())?;
    rmdir(c"../gone")?;
    check_err!(open(c"x", O_CREAT | O_WRONLY, 0o600), ENOENT);
    check_err!(mkdir(c"x", 0o700), ENOENT);
    let mut buffer = [0_u8; 100];
    check_err!(sys!(SYS_getcwd, buffer.as_mut_ptr(), 100), ENOENT);
    check_eq!(stat(c".")?.st_nlink, 0);
    Ok(())
}

fn unlink_kinds() -> Outcome {
    let fd = create(c"f", b"kept")?;
    unlink(c"f")?;
    check_err!(stat(c"f"), ENOENT);
    check_eq!(fstat(fd)?.st_nlink, 0);
    check_eq!(read_vec(fd, 10)?, b"kept");
    check_err!(unlink(c"f"), ENOENT);
    mkdir(c"d", 0o755)?;
    check_err!(unlink(c"d"), EISDIR);
    create(c"g", b"")?;
    check_err!(unlink(c"g/"), ENOTDIR);
    symlink(c"g", c"l")?;
    unlink(c"l")?;
    check!(stat(c"g").is_ok());
    check_err!(sys!(SYS_unlinkat, CWD, c"g".as_ptr(), 0x1), EINVAL);
    Ok(())
}

fn hard_links() -> Outcome {
    let fd = create(c"a", b"x")?;
    link(c"a", c"b")?;
    check_eq!(fstat(fd)?.st_nlink, 2);
    check_eq!(stat(c"a")?.st_ino, stat(c"b")?.st_ino);
    check_err!(link(c"a", c"b"), EEXIST);
    check_err!(link(c"missing", c"c"), ENOENT);
    mkdir(c"d", 0o755)?;
    check_err!(link(c"d", c"e"), EPERM);
    symlink(c"a", c"s")?;
    link(c"s", c"t")?;
    check_eq!(lstat(c"t")?.st_mode & S_IFMT, S_IFLNK);
    sys!(SYS_linkat, CWD, c"s".as_ptr(), CWD, c"u".as_ptr(), AT_SYMLINK_FOLLOW)?;
    check_eq!(fstat(fd)?.st_nlink, 3);
    unlink(c"a")?;
    check_eq!(slurp(c"b")?, "x");
    check_err!(link(c"b", c"/dev/x"), EXDEV);
    sys!(SYS_linkat, fd, c"".as_ptr(), CWD, c"v".as_ptr(), AT_EMPTY_PATH)?;
    check_eq!(fstat(fd)?.st_nlink, 3);
    Ok(())
}

fn symlinks_resolve() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"x")?;
    symlink(c"d", c"l")?;
    check_eq!(slurp(c"l/f")?, "x");
    check_eq!(slurp(c"l/../d/f")?, "x");
    check_err!(symlink(c"x", c"l"), EEXIST);
    check_err!(symlink(c"", c"empty"), ENOENT);
    check_eq!(readlink(c"l")?, "d");
    check_eq!(lstat(c"l")?.st_size, 1);
    check_err!(readlink(c"d"), EINVAL);
    // 40 links are followed, 41 are not.
    create(c"s0", b"end")?;
    for n in 1..=41 {
        symlink(&cstring(&format!("s{}", n - 1)), &cstring(&format!("s{n}")))?;
    }
    check_eq!(slurp(c"s40")?, "end");
    check_err!(slurp(c"s41"), ELOOP);
    check_err!(stat(c"s41"), ELOOP);
    check!(lstat(c"s41").is_ok());
    symlink(c"l/", c"slash")?;
    check_eq!(stat(c"slash")?.st_mode & S_IFMT, S_IFDIR);
    check_eq!(lstat(c"l/")?.st_mode & S_IFMT, S_IFDIR);
    let long = "x".repeat(4095);
    symlink(&cstring(&long), c"long")?;
    check_eq!(lstat(c"long")?.st_size, 4095);
    check_err!(symlink(&cstring(&"x".repeat(4096)), c"longer"), ENAMETOOLONG);
    Ok(())
}

fn rename_basics() -> Outcome {
    create(c"a", b"A")?;
    let b = create(c"b", b"B")?;
    rename(c"a", c"b", 0)?;
    check_err!(stat(c"a"), ENOENT);
    check_eq!(slurp(c"b")?, "A");
    check_eq!(fstat(b)?.st_nlink, 0);
    check_err!(rename(c"missing", c"c", 0), ENOENT);
    rename(c"b", c"b", 0)?;
    // Two names of one file: nothing happens, both stay.
    link(c"b", c"hard")?;
    rename(c"b", c"hard", 0)?;
    check!(stat(c"b").is_ok() && stat(c"hard").is_ok());
    mkdir(c"d", 0o755)?;
    check_err!(rename(c"b", c"d", 0), EISDIR);
    check_err!(rename(c"d", c"b", 0), ENOTDIR);
    check_err!(rename(c"b", c"d/", 0), ENOTDIR);
    check_err!(rename(c"b", c"/proc/x", 0), EXDEV);
    check_err!(rename(c".", c"x", 0), EBUSY);
    Ok(())
}

fn rename_flags() -> Outcome {
    create(c"a", b"A")?;
    create(c"b", b"B")?;
    check_err!(rename(c"a", c"b", RENAME_NOREPLACE), EEXIST);
    rename(c"a", c"c", RENAME_NOREPLACE)?;
    rename(c"b", c"c", RENAME_EXCHANGE)?;
    check_eq!(slurp(c"b")?, "A");
    check_eq!(slurp(c"c")?, "B");
    check_err!(rename(c"b", c"missing", RENAME_EXCHANGE), ENOENT);
    mkdir(c"d", 0o755)?;
    rename(c"b", c"d", RENAME_EXCHANGE)?;
    check_eq!(stat(c"b")?.st_mode & S_IFMT, S_IFDIR);
    check_err!(rename(c"b", c"c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    check_err!(rename(c"b", c"c", 0x80), EINVAL);
    Ok(())
}

fn rename_directories() -> Outcome {
    mkdir(c"a", 0o755)?;
    mkdir(c"a/b", 0o755)?;
    mkdir(c"c", 0o755)?;
    check_err!(rename(c"a", c"a/b/x", 0), EINVAL);
    check_err!(rename(c"a/b", c"a", 0), ENOTEMPTY);
    rename(c"a", c"c", 0)?;
    check_eq!(stat(c"c")?.st_nlink, 3);
    mkdir(c"e", 0o755)?;
    create(c"e/f", b"")?;
    check_err!(rename(c"c", c"e", 0), ENOTEMPTY);
    rename(c"c/b", c"e/b", 0)?;
    check_eq!(stat(c"c")?.st_nlink, 2);
    check_eq!(stat(c"e")?.st_nlink, 3);
    check_eq!(stat(c"e/b/..")?.st_ino, stat(c"e")?.st_ino);
    Ok(())
}

fn chmod_bits() -> Outcome {
    let fd = create(c"f", b"")?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o4751)?;
    check_eq!(stat(c"f")?.st_mode, S_IFREG | 0o4751);
    sys!(SYS_fchmod, fd, 0o600)?;
    check_eq!(fstat(fd)?.st_mode & 0o7777, 0o600);
    symlink(c"f", c"l")?;
    sys!(SYS_fchmodat, CWD, c"l".as_ptr(), 0o640)?;
    check_eq!(stat(c"f")?.st_mode & 0o7777, 0o640);
    let no_follow = sys!(SYS_fchmodat2, CWD, c"l".as_ptr(), 0o600, AT_SYMLINK_NOFOLLOW);
    check_err!(no_follow, EOPNOTSUPP);
    check_err!(sys!(SYS_fchmodat, CWD, c"missing".as_ptr(), 0o600), ENOENT);
    let status = as_user(|| i32::from(sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o777) != Err(Errno(EPERM))))?;
    check_eq!(status, 0);
    Ok(())
}

fn chown_ids() -> Outcome {
    create(c"f", b"")?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o6755)?;
    sys!(SYS_fchownat, CWD, c"f".as_ptr(), 1000, 1001, 0)?;
    let now = stat(c"f")?;
    check_eq!((now.st_uid, now.st_gid), (1000, 1001));
    // A change of owner drops the set-id bits.
    check_eq!(now.st_mode & 0o7777, 0o755);
    sys!(SYS_fchownat, CWD, c"f".as_ptr(), -1_i64, 7, 0)?;
    check_eq!((stat(c"f")?.st_uid, stat(c"f")?.st_gid), (1000, 7));
    symlink(c"f", c"l")?;
    sys!(SYS_fchownat, CWD, c"l".as_ptr(), 5, 5, AT_SYMLINK_NOFOLLOW)?;
    check_eq!(lstat(c"l")?.st_uid, 5);
    check_eq!(stat(c"f")?.st_uid, 1000);
    let status = as_user(|| {
        let give = sys!(SYS_fchownat, CWD, c"f".as_ptr(), 1001, -1_i64, 0) == Err(Errno(EPERM));
        let group = sys!(SYS_fchownat, CWD, c"f".as_ptr(), -1_i64, 1000, 0).is_ok();
        i32::from(!give) | i32::from(!group) << 1
    })?;
    check_eq!(status, 0);
    // With set-group-id on the directory new files take its group.
    mkdir(c"d", 0o755)?;
    sys!(SYS_fchownat, CWD, c"d".as_ptr(), 0, 55, 0)?;
    sys!(SYS_fchmodat, CWD, c"d".as_ptr(), 0o2755)?;
    create(c"d/x", b"")?;
    mkdir(c"d/y", 0o755)?;
    check_eq!(stat(c"d/x")?.st_gid, 55);
    check_eq!(stat(c"d/y")?.st_mode & 0o7777, 0o2755);
    Ok(())
}

fn utimensat_times() -> Outcome {
    let fd = create(c"f", b"")?;
    let time = |sec, nsec| timespec { tv_sec: sec, tv_nsec: nsec };
    let set = |times: [timespec; 2]| sys!(SYS_utimensat, CWD, c"f".as_ptr(), times.as_ptr(), 0);
    set([time(1000, 5), time(2_000_000_000, 999_999_999)])?;
    let now = stat(c"f")?;
    check_eq!((now.st_atime, now.st_atime_nsec), (1000, 5));
    check_eq!((now.st_mtime, now.st_mtime_nsec), (2_000_000_000, 999_999_999));
    set([time(0, UTIME_OMIT), time(0, UTIME_NOW)])?;
    let now = stat(c"f")?;
    check_eq!(now.st_atime, 1000);
    check!(now.st_mtime != 2_000_000_000);
    check_err!(set([time(0, 1_000_000_000), time(0, 0)]), EINVAL);
    check_err!(set([time(0, -1), time(0, 0)]), EINVAL);
    sys!(SYS_utimensat, fd, 0, 0, 0)?;
    check!(stat(c"f")?.st_atime > 1000);
    symlink(c"f", c"l")?;
    let times = [time(77, 0), time(88, 0)];
    sys!(SYS_utimensat, CWD, c"l".as_ptr(), times.as_ptr(), AT_SYMLINK_NOFOLLOW)?;
    check_eq!(lstat(c"l")?.st_mtime, 88);
    check!(stat(c"f")?.st_mtime != 88);
    Ok(())
}

fn time_stamps_move() -> Outcome {
    let fd = create(c"f", b"x")?;
    mkdir(c"d", 0o755)?;
    let nano = |s: libc::stat| (s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    let before = nano(fstat(fd)?);
    let dir_before = nano(stat(c"d")?);
    sleep_ms(20);
    write(fd, b"y")?;
    create(c"d/x", b"")?;
    let after = nano(fstat(fd)?);
    check!(after > before, "{after:?} {before:?}");
    check!(nano(stat(c"d")?) > dir_before);
    sleep_ms(20);
    // chmod changes ctime only.
    sys!(SYS_fchmod, fd, 0o600)?;
    let last = nano(fstat(fd)?);
    check_eq!((last.0, last.1), (after.0, after.1));
    check!((last.2, last.3) > (after.2, after.3));
    Ok(())
}

/// One record of getdents64(2).
struct Entry {
    ino: u64,
    offset: i64,
    kind: u8,
    name: String,
}

fn getdents(fd: i32, size: usize) -> crate::sys::Result<Vec<Entry>> {
    let mut buffer = vec![0_u8; size];
    let count = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), size)?;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < count {
        let field = |from: usize, len: usize| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(&buffer[at + from..at + from + len]);
            u64::from_le_bytes(bytes)
        };
        let length = field(16, 2) as usize;
        let name = &buffer[at + 19..at + length];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        entries.push(Entry {
            ino: field(0, 8),
            offset: field(8, 8) as i64,
            kind: buffer[at + 18],
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
        });
        at += length;
    }
    Ok(entries)
}

fn getdents_lists() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/file", b"")?;
    mkdir(c"d/dir", 0o755)?;
    symlink(c"x", c"d/link")?;
    sys!(SYS_mknodat, CWD, c"d/pipe".as_ptr(), S_IFIFO | 0o600, 0)?;
    let fd = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    let mut entries = getdents(fd, 4096)?;
    check_eq!(entries.first().map(|e| e.name.as_str()), Some("."));
    check_eq!(entries.get(1).map(|e| e.name.as_str()), Some(".."));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<(&str, u8)> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    let expected = [
        (".", DT_DIR),
        ("..", DT_DIR),
        ("dir", DT_DIR),
        ("file", DT_REG),
        ("link", DT_LNK),
        ("pipe", DT_FIFO),
    ];
    check_eq!(seen, expected);
    check_eq!(entries[3].ino, stat(c"d/file")?.st_ino);
    check_eq!(getdents(fd, 4096)?.len(), 0);
    seek(fd, 0, SEEK_SET)?;
    check_eq!(getdents(fd, 4096)?.len(), 6);
    check_err!(getdents(open(c"d/file", O_RDONLY, 0)?, 4096), ENOTDIR);
    seek(fd, 0, SEEK_SET)?;
    check_err!(getdents(fd, 8), EINVAL);
    Ok(())
}

fn getdents_offsets() -> Outcome {
    mkdir(c"d", 0o755)?;
    for n in 0..200 {
        create(&cstring(&format!("d/file-{n:03}")), b"").and_then(close)?;
    }
    let fd = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    let (mut names, mut marks) = (Vec::new(), Vec::new());
    loop {
        let part = getdents(fd, 256)?;
        if part.is_empty() {
            break;
        }
        for entry in part {
            names.push(entry.name);
            marks.push(entry.offset);
        }
    }
    check_eq!(names.len(), 202);
    // Each offset leads to the entry after its own.
    for n in [0, 1, 2, 50, 150] {
        seek(fd, marks[n], SEEK_SET)?;
        let next = getdents(fd, 256)?;
        check_eq!(next.first().map(|e| e.name.clone()), names.get(n + 1).cloned());
    }
    names.sort();
    names.dedup();
    check_eq!(names.len(), 202);
    Ok(())
}

/// A buffer of which only the beginning can be written gets the records that fit there; the next call goes on.
fn getdents_partial_buffer() -> Outcome {
    mkdir(c"d", 0o700)?;
    for index in 0..100 {
        let path = std::ffi::CString::new(format!("d/a-name-of-some-length-{index:03}")).unwrap_or_default();
        close(create(&path, b"")?)?;
    }
    let map = map_anon(8192)?;
    munmap(map + 4096, 4096)?;
    let fd = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    check_err!(sys!(SYS_getdents64, fd, map + 4096, 4096), EFAULT);
    check_err!(sys!(SYS_getdents64, fd, map + 4090, 4096), EFAULT);
    let mut count = 0;
    loop {
        // Room for ten records of 48 bytes and a half.
        match sys!(SYS_getdents64, fd, map + 4096 - 504, 4096)? {
            0 => break,
            len => {
                check!(len <= 504, "{len} bytes");
                let mut at = map + 4096 - 504;
                while at < map + 4096 - 504 + len {
                    count += 1;
                    at += usize::from(u16::from_ne_bytes([peek(at + 16), peek(at + 17)]));
                }
            }
        }
    }
    check_eq!(count, 102);
    Ok(())
}

fn getdents_while_deleting() -> Outcome {
    mkdir(c"d", 0o755)?;
    for n in 0..300 {
        create(&cstring(&format!("d/{n}")), b"").and_then(close)?;
    }
    let fd = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    let mut removed = 0;
    loop {
        let part = getdents(fd, 512)?;
        if part.is_empty() {
            break;
        }
        for entry in part.iter().filter(|e| !e.name.starts_with('.')) {
            unlink(&cstring(&format!("d/{}", entry.name)))?;
            removed += 1;
        }
    }
    check_eq!(removed, 300);
    rmdir(c"d")?;
    Ok(())
}

fn statx_fields() -> Outcome {
    let fd = create(c"f", b"12345")?;
    let mut x: statx = zeroed();
    sys!(SYS_statx, CWD, c"f".as_ptr(), 0, STATX_BASIC_STATS | STATX_BTIME, addr_mut(&mut x))?;
    let s = fstat(fd)?;
    check_eq!(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    check_eq!(u32::from(x.stx_mode), s.st_mode);
    check_eq!(x.stx_size, 5);
    check_eq!(x.stx_ino, s.st_ino);
    check_eq!(x.stx_nlink, 1);
    check_eq!(makedev(x.stx_dev_major, x.stx_dev_minor), s.st_dev);
    check_eq!(x.stx_mtime.tv_sec, s.st_mtime);
    check_eq!(x.stx_blksize, 4096);
    sys!(SYS_statx, fd, c"".as_ptr(), AT_EMPTY_PATH, STATX_SIZE, addr_mut(&mut x))?;
    check_eq!(x.stx_size, 5);
    symlink(c"f", c"l")?;
    sys!(SYS_statx, CWD, c"l".as_ptr(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, addr_mut(&mut x))?;
    check_eq!(u32::from(x.stx_mode) & S_IFMT, S_IFLNK);
    check_err!(sys!(SYS_statx, CWD, c"f".as_ptr(), 0, 0x8000_0000_u32, addr_mut(&mut x)), EINVAL);
    check_err!(sys!(SYS_statx, CWD, c"f".as_ptr(), 0x10_0000, 0, addr_mut(&mut x)), EINVAL);
    check_err!(sys!(SYS_statx, CWD, c"f".as_ptr(), 0, STATX_SIZE, 1), EFAULT);
    check_err!(sys!(SYS_statx, CWD, c"".as_ptr(), 0, STATX_SIZE, addr_mut(&mut x)), ENOENT);
    Ok(())
}

fn stat_fields() -> Outcome {
    let s = stat(c"/dev/null")?;
    check_eq!(s.st_mode, S_IFCHR | 0o666);
    check_eq!(s.st_rdev, makedev(1, 3));
    let fd = create(c"f", &[1; 5000])?;
    let s = fstat(fd)?;
    check_eq!((s.st_size, s.st_blksize, s.st_blocks), (5000, 4096, 16));
    check_eq!((s.st_uid, s.st_gid, s.st_nlink), (0, 0, 1));
    let ends = pipe(0)?;
    check_eq!(fstat(ends[0])?.st_mode, S_IFIFO | 0o600);
    check_err!(fstat(99), EBADF);
    check_err!(stat(c""), ENOENT);
    let mut s: libc::stat = zeroed();
    sys!(SYS_newfstatat, fd, c"".as_ptr(), addr_mut(&mut s), AT_EMPTY_PATH)?;
    check_eq!(s.st_size, 5000);
    check_err!(sys!(SYS_newfstatat, CWD, c"f".as_ptr(), addr_mut(&mut s), 0x1), EINVAL);
    check_err!(sys!(SYS_newfstatat, CWD, c"f".as_ptr(), 8, 0), EFAULT);
    Ok(())
}

fn access_checks() -> Outcome {
    create(c"f", b"")?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o640)?;
    let access = |path: &CStr, mode: i32| sys!(SYS_faccessat, CWD, path.as_ptr(), mode);
    check!(access(c"f", F_OK).is_ok());
    check!(access(c"f", R_OK | W_OK).is_ok());
    // Root too needs an execute bit somewhere.
    check_err!(access(c"f", X_OK), EACCES);
    check_err!(access(c"missing", F_OK), ENOENT);
    check_err!(access(c"f", 8), EINVAL);
    check_err!(access(c"f/x", F_OK), ENOTDIR);
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o600)?;
    // access() asks for the real user, AT_EACCESS for the effective one.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 0, 0);
        let real = access(c"f", R_OK) == Err(Errno(EACCES));
        let effective = sys!(SYS_faccessat2, CWD, c"f".as_ptr(), R_OK, AT_EACCESS).is_ok();
        i32::from(!real) | i32::from(!effective) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn xattrs() -> Outcome {
    let fd = create(c"f", b"")?;
    let set = |name: &CStr, value: &[u8], flags: i32| {
        sys!(SYS_setxattr, c"f".as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), flags)
    };
    let get = |name: &CStr, buffer: &mut [u8]| {
        let len = buffer.len();
        sys!(SYS_getxattr, c"f".as_ptr(), name.as_ptr(), buffer.as_mut_ptr(), len)
    };
    let mut buffer = [0_u8; 64];
    set(c"trusted.a", b"value", 0)?;
    check_eq!(get(c"trusted.a", &mut buffer)?, 5);
    check_eq!(&buffer[..5], b"value");
    check_eq!(get(c"trusted.a", &mut [])?, 5);
    check_err!(get(c"trusted.a", &mut buffer[..3]), ERANGE);
    check_err!(get(c"trusted.missing", &mut buffer), ENODATA);
    check_err!(set(c"trusted.a", b"x", XATTR_CREATE), EEXIST);
    check_err!(set(c"trusted.b", b"x", XATTR_REPLACE), ENODATA);
    set(c"trusted.b", b"", XATTR_CREATE)?;
    check_err!(set(c"nonsense.b", b"", 0), EOPNOTSUPP);
    check_err!(set(c"trusted.c", b"", 99), EINVAL);
    let count = sys!(SYS_flistxattr, fd, buffer.as_mut_ptr(), 64)?;
    let names = String::from_utf8_lossy(&buffer[..count]).into_owned();
    check!(names.contains("trusted.a\0") && names.contains("trusted.b\0"), "{names:?}");
    sys!(SYS_fremovexattr, fd, c"trusted.a".as_ptr())?;
    check_err!(sys!(SYS_fremovexattr, fd, c"trusted.a".as_ptr()), ENODATA);
    Ok(())
}

fn mknod_kinds() -> Outcome {
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o644, 0)?;
    sys!(SYS_mknodat, CWD, c"n".as_ptr(), S_IFCHR | 0o644, makedev(1, 3))?;
    sys!(SYS_mknodat, CWD, c"r".as_ptr(), S_IFREG | 0o644, 0)?;
    sys!(SYS_mknodat, CWD, c"s".as_ptr(), S_IFSOCK | 0o644, 0)?;
    check_eq!(stat(c"p")?.st_mode, S_IFIFO | 0o644);
    check_eq!(stat(c"s")?.st_mode, S_IFSOCK | 0o644);
    let fd = open(c"n", O_RDWR, 0)?;
    check_eq!(write(fd, b"lost")?, 4);
    check_eq!(read_vec(fd, 4)?, b"");
    check_err!(open(c"s", O_RDONLY, 0), ENXIO);
    sys!(SYS_mknodat, CWD, c"x".as_ptr(), S_IFCHR | 0o644, makedev(250, 250))?;
    check_err!(open(c"x", O_RDONLY, 0), ENXIO);
    check_err!(sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o644, 0), EEXIST);
    check_err!(sys!(SYS_mknodat, CWD, c"d".as_ptr(), S_IFDIR | 0o755, 0), EPERM);
    let status = as_user(|| {
        let call = sys!(SYS_mknodat, CWD, c"/tmp/dev".as_ptr(), S_IFCHR | 0o644, makedev(1, 3));
        i32::from(call != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn dot_dot_and_slashes() -> Outcome {
    mkdir(c"a", 0o755)?;
    create(c"a/f", b"x")?;
    check_eq!(slurp(c"a//f")?, "x");
    check_eq!(slurp(c"./a/././f")?, "x");
    check_eq!(slurp(c"a/../a/f")?, "x");
    check_eq!(stat(c"/..")?.st_ino, stat(c"/")?.st_ino);
    check_err!(stat(c"a/f/.."), ENOTDIR);
    check_err!(stat(c"missing/.."), ENOENT);
    check_err!(stat(c"a/f/"), ENOTDIR);
    check_eq!(stat(c"//")?.st_ino, stat(c"/")?.st_ino);
    Ok(())
}

fn getcwd_follows() -> Outcome {
    let cwd = || {
        let mut buffer = [0_u8; 4096];
        sys!(SYS_getcwd, buffer.as_mut_ptr(), 4096)
            .map(|n| String::from_utf8_lossy(&buffer[..n - 1]).into_owned())
    };
    let here = cwd()?;
    mkdir(c"a", 0o755)?;
    mkdir(c"a/b", 0o755)?;
    sys!(SYS_chdir, c"a/b".as_ptr())?;
    check_eq!(cwd()?, format!("{here}/a/b"));
    rename(c"../../a", c"../../z", 0)?;
    check_eq!(cwd()?, format!("{here}/z/b"));
    sys!(SYS_chdir, c"..".as_ptr())?;
    check_eq!(cwd()?, format!("{here}/z"));
    let mut small = [0_u8; 3];
    check_err!(sys!(SYS_getcwd, small.as_mut_ptr(), 3), ERANGE);
    sys!(SYS_chdir, c"/".as_ptr())?;
    check_eq!(cwd()?, "/");
    check_eq!(std::fs::read_link("/proc/self/cwd")?.to_string_lossy(), "/");
    Ok(())
}

fn chdir_errors() -> Outcome {
    create(c"f", b"")?;
    check_err!(sys!(SYS_chdir, c"f".as_ptr()), ENOTDIR);
    check_err!(sys!(SYS_chdir, c"missing".as_ptr()), ENOENT);
    check_err!(sys!(SYS_fchdir, open(c"f", O_RDONLY, 0)?), ENOTDIR);
    mkdir(c"d", 0o700)?;
    let status = as_user(|| i32::from(sys!(SYS_chdir, c"d".as_ptr()) != Err(Errno(EACCES))))?;
    check_eq!(status, 0);
    Ok(())
}

fn statfs_numbers() -> Outcome {
    let mut s: libc::statfs = zeroed();
    sys!(SYS_statfs, c"/tmp".as_ptr(), addr_mut(&mut s))?;
    check_eq!(s.f_type as u64, 0x0102_1994);
    check_eq!((s.f_bsize as u64, s.f_namelen as u64), (4096, 255));
    check!(s.f_blocks > 0 && s.f_bfree <= s.f_blocks);
    let before = s.f_bfree;
    let fd = create(c"f", &vec![1; 1 << 20])?;
    sys!(SYS_fstatfs, fd, addr_mut(&mut s))?;
    check!(before - s.f_bfree >= 256, "{before} {}", s.f_bfree);
    sys!(SYS_statfs, c"/proc".as_ptr(), addr_mut(&mut s))?;
    check_eq!(s.f_type as u64, 0x9fa0);
    check_err!(sys!(SYS_statfs, c"/missing".as_ptr(), addr_mut(&mut s)), ENOENT);
    Ok(())
}

fn permission_denied() -> Outcome {
    create(c"f", b"secret")?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o600)?;
    mkdir(c"d", 0o711)?;
    create(c"d/x", b"")?;
    sys!(SYS_fchmodat, CWD, c".".as_ptr(), 0o755)?;
    let status = as_user(|| {
        let read = open(c"f", O_RDONLY, 0) == Err(Errno(EACCES));
        let create = open(c"new", O_CREAT | O_WRONLY, 0o600) == Err(Errno(EACCES));
        let remove = unlink(c"f") == Err(Errno(EACCES));
        let list = open(c"d", O_RDONLY, 0) == Err(Errno(EACCES));
        let pass = stat(c"d/x").is_ok();
        let device = open(c"/dev/kmsg", O_WRONLY, 0) == Err(Errno(EACCES));
        let all = [read, create, remove, list, pass, device];
        all.iter().enumerate().map(|(n, ok)| i32::from(!ok) << n).sum()
    })?;
    check_eq!(status, 0);
    // Owner bits count for the owner even if others would be allowed.
    sys!(SYS_fchownat, CWD, c"f".as_ptr(), 1000, 1000, 0)?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o077)?;
    let status = as_user(|| i32::from(open(c"f", O_RDONLY, 0) != Err(Errno(EACCES))))?;
    check_eq!(status, 0);
    Ok(())
}

fn sticky_directory() -> Outcome {
    mkdir(c"d", 0o777)?;
    sys!(SYS_fchmodat, CWD, c"d".as_ptr(), 0o1777)?;
    create(c"d/roots", b"")?;
    let status = as_user(|| {
        let own = open(c"d/mine", O_CREAT | O_WRONLY, 0o600).is_ok() && unlink(c"d/mine").is_ok();
        let other = unlink(c"d/roots") == Err(Errno(EPERM));
        let renamed = rename(c"d/roots", c"d/x", 0) == Err(Errno(EPERM));
        i32::from(!own) | i32::from(!other) << 1 | i32::from(!renamed) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn readlink_truncates() -> Outcome {
    symlink(c"0123456789", c"l")?;
    let mut buffer = [b'#'; 8];
    check_eq!(sys!(SYS_readlinkat, CWD, c"l".as_ptr(), buffer.as_mut_ptr(), 4)?, 4);
    check_eq!(&buffer, b"0123####");
    check_err!(sys!(SYS_readlinkat, CWD, c"l".as_ptr(), buffer.as_mut_ptr(), 0), EINVAL);
    check_err!(sys!(SYS_readlinkat, CWD, c"missing".as_ptr(), buffer.as_mut_ptr(), 4), ENOENT);
    check_eq!(readlink(c"/proc/self")?, getpid().to_string());
    Ok(())
}

fn deep_paths() -> Outcome {
    let name = cstring(&"d".repeat(100));
    for _ in 0..60 {
        mkdir(&name, 0o755)?;
        sys!(SYS_chdir, name.as_ptr())?;
    }
    // The path is longer than PATH_MAX now; relative names still work, getcwd cannot.
    create(c"f", b"deep")?;
    check_eq!(slurp(c"f")?, "deep");
    let mut buffer = vec![0_u8; 8192];
    check_err!(sys!(SYS_getcwd, buffer.as_mut_ptr(), 8192), ENAMETOOLONG);
    for _ in 0..60 {
        sys!(SYS_chdir, c"..".as_ptr())?;
    }
    check!(stat(&name).is_ok());
    Ok(())
}

fn many_files() -> Outcome {
    mkdir(c"d", 0o755)?;
    for n in 0..2000 {
        create(&cstring(&format!("d/{n}")), n.to_string().as_bytes()).and_then(close)?;
    }
    for n in (0..2000).step_by(37) {
        check_eq!(slurp(&cstring(&format!("d/{n}")))?, n.to_string());
    }
    check_eq!(std::fs::read_dir("d")?.count(), 2000);
    for n in (0..2000).step_by(2) {
        unlink(&cstring(&format!("d/{n}")))?;
    }
    check_eq!(std::fs::read_dir("d")?.count(), 1000);
    check_err!(stat(c"d/0"), ENOENT);
    check!(stat(c"d/1999").is_ok());
    Ok(())
}

fn inotify_events() -> Outcome {
    let fd = sys!(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC)? as i32;
    mkdir(c"d", 0o755)?;
    let mask = IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO;
    let watch = sys!(SYS_inotify_add_watch, fd, c"d".as_ptr(), mask)? as i32;
    let file = create(c"d/a", b"x")?;
    close(file)?;
    rename(c"d/a", c"d/b", 0)?;
    unlink(c"d/b")?;
    let bytes = read_vec(fd, 4096)?;
    let (mut at, mut seen) = (0, Vec::new());
    while at + 16 <= bytes.len() {
        let word = |n: usize| {
            let mut b = [0; 4];
            b.copy_from_slice(&bytes[at + n..at + n + 4]);
            u32::from_le_bytes(b)
        };
        check_eq!(word(0) as i32, watch);
        seen.push(word(4));
        at += 16 + word(12) as usize;
    }
    check_eq!(seen, [IN_CREATE, IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE]);
    check_err!(read_vec(fd, 4096), EAGAIN);
    sys!(SYS_inotify_rm_watch, fd, watch)?;
    check_err!(sys!(SYS_inotify_rm_watch, fd, watch), EINVAL);
    Ok(())
}

fn name_to_handle() -> Outcome {
    create(c"f", b"by handle")?;
    let mut handle = [0_u32; 34];
    let mut mount = 0;
    let mut call = |size: u32| {
        handle[0] = size;
        let path = c"f".as_ptr();
        let at = handle.as_mut_ptr();
        sys!(SYS_name_to_handle_at, CWD, path, at, addr_mut(&mut mount), 0).map(|_| ())
    };
    check_err!(call(0), EOVERFLOW);
    call(128)?;
    let dir = open(c".", O_RDONLY, 0)?;
    let fd = sys!(SYS_open_by_handle_at, dir, handle.as_ptr(), O_RDONLY)? as i32;
    check_eq!(read_vec(fd, 20)?, b"by handle");
    Ok(())
}
