//! The attributes of `chattr(1)`: `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`, `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`, on tmpfs,
//! and what immutable and append-only files do not allow. `ioctl_iflags(2)`, `<linux/fs.h>`.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use std::ffi::CStr;

tests![
    flags_are_kept_and_shown,
    only_some_flags_can_be_set,
    attributes_and_flags_are_one,
    attributes_that_are_not_kept,
    new_entries_inherit,
    an_immutable_file_does_not_change,
    an_immutable_directory_does_not_change,
    an_appended_file_only_grows,
    an_appended_directory_only_grows,
    changing_takes_privilege,
    a_change_sets_ctime,
    files_without_attributes,
    memfds_have_attributes,
    bad_arguments,
];

const GETFLAGS: usize = 0x8008_6601;
const SETFLAGS: usize = 0x4008_6602;
const FSGETXATTR: usize = 0x801c_581f;
const FSSETXATTR: usize = 0x401c_5820;

const SYNC: u32 = 0x8;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
const DAX: u32 = 0x200_0000;
const PROJINHERIT: u32 = 0x2000_0000;

const X_IMMUTABLE: u32 = 0x8;
const X_APPEND: u32 = 0x10;
const X_SYNC: u32 = 0x20;
const X_NOATIME: u32 = 0x40;
const X_NODUMP: u32 = 0x80;
const X_PROJINHERIT: u32 = 0x200;
const X_EXTSIZE: u32 = 0x800;
const X_EXTSZINHERIT: u32 = 0x1000;
const X_COWEXTSIZE: u32 = 0x1_0000;

/// `struct fsxattr`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

fn get(fd: i32) -> SysResult<u32> {
    let mut flags = 0_u32;
    sys!(SYS_ioctl, fd, GETFLAGS, addr_mut(&mut flags))?;
    Ok(flags)
}

fn set(fd: i32, flags: u32) -> SysResult<usize> {
    sys!(SYS_ioctl, fd, SETFLAGS, addr(&flags))
}

fn get_x(fd: i32) -> SysResult<Attributes> {
    let mut attributes = Attributes { pad: [9; 8], ..Attributes::default() };
    sys!(SYS_ioctl, fd, FSGETXATTR, addr_mut(&mut attributes))?;
    Ok(attributes)
}

fn set_x(fd: i32, attributes: Attributes) -> SysResult<usize> {
    sys!(SYS_ioctl, fd, FSSETXATTR, addr(&attributes))
}

fn x(xflags: u32) -> Attributes {
    Attributes { xflags, ..Attributes::default() }
}

/// The attributes and which ones there can be, of `statx(2)`.
fn statx_of(path: &CStr) -> SysResult<(u64, u64)> {
    let mut out: statx = zeroed();
    sys!(SYS_statx, CWD, path.as_ptr(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, addr_mut(&mut out))?;
    Ok((out.stx_attributes, out.stx_attributes_mask))
}

/// Takes the flags away when the test is over, so that its files can be removed.
struct Flagged(i32);

impl Drop for Flagged {
    fn drop(&mut self) {
        let _ = set(self.0, 0);
    }
}

fn flags_are_kept_and_shown() -> Outcome {
    let shown = (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP) as u64;
    mkdir(c"d", 0o755)?;
    let file = create(c"f", b"")?;
    let directory = open(c"d", O_RDONLY, 0)?;
    for (fd, path) in [(file, c"f"), (directory, c"d")] {
        let _flagged = Flagged(fd);
        check_eq!(get(fd)?, 0);
        let (attributes, mask) = statx_of(path)?;
        check_eq!(attributes & shown, 0);
        check_eq!(mask & shown, shown);
        for flags in [NODUMP, NOATIME, APPEND, IMMUTABLE, IMMUTABLE | APPEND | NODUMP | NOATIME, 0] {
            set(fd, flags)?;
            check_eq!(get(fd)?, flags);
            let bit = |flag, attribute: i32| if flags & flag != 0 { attribute as u64 } else { 0 };
            let expected = bit(NODUMP, STATX_ATTR_NODUMP)
                | bit(APPEND, STATX_ATTR_APPEND)
                | bit(IMMUTABLE, STATX_ATTR_IMMUTABLE);
            check_eq!(statx_of(path)?.0 & shown, expected);
        }
    }
    // They are the file's, not the descriptor's.
    set(file, NODUMP)?;
    check_eq!(get(open(c"f", O_RDONLY, 0)?)?, NODUMP);
    check_err!(get(open(c"f", O_PATH, 0)?), EBADF);
    check_err!(set(open(c"f", O_PATH, 0)?, 0), EBADF);
    Ok(())
}

fn only_some_flags_can_be_set() -> Outcome {
    let fd = create(c"f", b"")?;
    let _flagged = Flagged(fd);
    set(fd, NOATIME)?;
    for bit in 0..32 {
        let flag = 1_u32 << bit;
        if flag & (IMMUTABLE | APPEND | NODUMP | NOATIME) == 0 {
            // Case folding came to tmpfs after 6.12, and concerns empty directories only.
            check_err!(set(fd, flag), EOPNOTSUPP);
            check_err!(set(fd, flag | NODUMP), EOPNOTSUPP);
        }
    }
    check_eq!(get(fd)?, NOATIME);
    Ok(())
}

fn attributes_and_flags_are_one() -> Outcome {
    let fd = create(c"f", b"")?;
    let _flagged = Flagged(fd);
    check_eq!(get_x(fd)?, x(0));
    for (flag, xflag) in
        [(IMMUTABLE, X_IMMUTABLE), (APPEND, X_APPEND), (NODUMP, X_NODUMP), (NOATIME, X_NOATIME)]
    {
        set(fd, flag)?;
        check_eq!(get_x(fd)?, x(xflag));
        set(fd, 0)?;
        set_x(fd, x(xflag))?;
        check_eq!(get(fd)?, flag);
        set_x(fd, x(0))?;
        check_eq!(get(fd)?, 0);
    }
    Ok(())
}

fn attributes_that_are_not_kept() -> Outcome {
    let fd = create(c"f", b"")?;
    mkdir(c"d", 0o755)?;
    let directory = open(c"d", O_RDONLY, 0)?;
    set_x(fd, x(X_NODUMP))?;
    for xflag in [X_SYNC, X_PROJINHERIT, 0x1, 0x2, 0x400, 0x8000, 0x8000_0000] {
        check_err!(set_x(fd, x(xflag)), EOPNOTSUPP);
    }
    check_err!(set_x(fd, Attributes { projid: 5, ..x(0) }), EOPNOTSUPP);
    check_err!(set_x(fd, Attributes { projid: u32::MAX, ..x(0) }), EINVAL);
    check_err!(set_x(fd, Attributes { extsize: 4096, ..x(X_EXTSIZE) }), EOPNOTSUPP);
    check_err!(set_x(fd, Attributes { extsize: 4096, ..x(0) }), EOPNOTSUPP);
    check_err!(set_x(fd, Attributes { cowextsize: 4096, ..x(X_COWEXTSIZE) }), EOPNOTSUPP);
    // What only one type of file can have.
    check_err!(set_x(directory, x(X_EXTSIZE)), EINVAL);
    check_err!(set_x(fd, x(X_EXTSZINHERIT)), EINVAL);
    check_eq!(get_x(fd)?, x(X_NODUMP));
    // A size of nothing is none, and the number of extents is not to be set.
    set_x(fd, x(X_EXTSIZE | X_COWEXTSIZE))?;
    check_eq!(get_x(fd)?, x(0));
    set_x(directory, x(X_EXTSZINHERIT))?;
    set_x(fd, Attributes { nextents: 7, pad: [1; 8], ..x(X_NOATIME) })?;
    check_eq!(get_x(fd)?, x(X_NOATIME));
    Ok(())
}

fn new_entries_inherit() -> Outcome {
    mkdir(c"d", 0o755)?;
    let directory = open(c"d", O_RDONLY, 0)?;
    let _flagged = Flagged(directory);
    set(directory, NODUMP | NOATIME | APPEND)?;
    check_eq!(get(create(c"d/f", b"")?)?, NODUMP | NOATIME);
    mkdir(c"d/sub", 0o755)?;
    check_eq!(get(open(c"d/sub", O_RDONLY, 0)?)?, NODUMP | NOATIME);
    symlink(c"f", c"d/l")?;
    check_eq!(statx_of(c"d/l")?.0 & STATX_ATTR_NODUMP as u64, STATX_ATTR_NODUMP as u64);
    check_eq!(get(open(c"d", O_TMPFILE | O_RDWR, 0o600)?)?, NODUMP | NOATIME);
    // Moving changes nothing.
    set(directory, 0)?;
    let plain = create(c"d/plain", b"")?;
    check_eq!(get(plain)?, 0);
    check_eq!(get(open(c"d/f", O_RDONLY, 0)?)?, NODUMP | NOATIME);
    Ok(())
}

fn an_immutable_file_does_not_change() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    let _flagged = Flagged(fd);
    set(fd, IMMUTABLE)?;
    check_eq!(read_vec(open(c"f", O_RDONLY, 0)?, 20)?, b"0123456789");
    for flags in [O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC] {
        check_err!(open(c"f", flags, 0), EPERM);
    }
    check_err!(sys!(SYS_faccessat, CWD, c"f".as_ptr(), W_OK), EPERM);
    check_err!(sys!(SYS_truncate, c"f".as_ptr(), 1), EPERM);
    check_err!(sys!(SYS_fchmod, fd, 0o600), EPERM);
    check_err!(sys!(SYS_fchown, fd, 1, 1), EPERM);
    check_err!(sys!(SYS_utimensat, CWD, c"f".as_ptr(), 0, 0), EPERM);
    check_err!(sys!(SYS_setxattr, c"f".as_ptr(), c"user.a".as_ptr(), c"".as_ptr(), 0, 0), EPERM);
    check_err!(sys!(SYS_setxattr, c"f".as_ptr(), c"trusted.a".as_ptr(), c"".as_ptr(), 0, 0), EPERM);
    check_err!(unlink(c"f"), EPERM);
    check_err!(sys!(SYS_linkat, CWD, c"f".as_ptr(), CWD, c"g".as_ptr(), 0), EPERM);
    check_err!(sys!(SYS_renameat2, CWD, c"f".as_ptr(), CWD, c"g".as_ptr(), 0), EPERM);
    create(c"other", b"")?;
    check_err!(sys!(SYS_renameat2, CWD, c"other".as_ptr(), CWD, c"f".as_ptr(), 0), EPERM);
    // Who had it open for writing still writes, but does not allocate.
    check_eq!(write(fd, b"x")?, 1);
    check_err!(sys!(SYS_fallocate, fd, 0, 0, 4096), EPERM);
    set(fd, 0)?;
    unlink(c"f")?;
    Ok(())
}

fn an_immutable_directory_does_not_change() -> Outcome {
    mkdir(c"d", 0o755)?;
    let inside = create(c"d/f", b"")?;
    let directory = open(c"d", O_RDONLY, 0)?;
    let _flagged = Flagged(directory);
    set(directory, IMMUTABLE)?;
    check_err!(open(c"d/new", O_CREAT | O_RDWR, 0o600), EPERM);
    check_err!(open(c"d", O_TMPFILE | O_RDWR, 0o600), EPERM);
    check_err!(mkdir(c"d/new", 0o755), EPERM);
    check_err!(unlink(c"d/f"), EPERM);
    check_err!(rmdir(c"d"), EPERM);
    check_err!(sys!(SYS_renameat2, CWD, c"d/f".as_ptr(), CWD, c"f".as_ptr(), 0), EPERM);
    // What is inside is another matter.
    check_eq!(write(inside, b"x")?, 1);
    check_eq!(open(c"d/f", O_CREAT | O_RDWR, 0o600).is_ok(), true);
    Ok(())
}

fn an_appended_file_only_grows() -> Outcome {
    let fd = create(c"f", b"0123")?;
    let _flagged = Flagged(fd);
    set(fd, APPEND)?;
    for flags in [O_WRONLY, O_RDWR, O_WRONLY | O_APPEND | O_TRUNC] {
        check_err!(open(c"f", flags, 0), EPERM);
    }
    let log = open(c"f", O_RDWR | O_APPEND, 0)?;
    check_eq!(write(log, b"45")?, 2);
    check_eq!(read_vec(open(c"f", O_RDONLY, 0)?, 20)?, b"012345");
    check_err!(fcntl(log, F_SETFL, 0), EPERM);
    fcntl(log, F_SETFL, (O_APPEND | O_NONBLOCK) as usize)?;
    check_err!(sys!(SYS_ftruncate, log, 0), EPERM);
    check_err!(sys!(SYS_truncate, c"f".as_ptr(), 100), EPERM);
    check_err!(sys!(SYS_fallocate, log, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096), EPERM);
    sys!(SYS_fallocate, log, 0, 0, 4096)?;
    check_err!(sys!(SYS_fchmod, fd, 0o600), EPERM);
    check_err!(sys!(SYS_fchown, fd, 1, 1), EPERM);
    let times = [timespec { tv_sec: 1, tv_nsec: 0 }; 2];
    check_err!(sys!(SYS_utimensat, CWD, c"f".as_ptr(), addr(&times), 0), EPERM);
    sys!(SYS_utimensat, CWD, c"f".as_ptr(), 0, 0)?;
    check_err!(sys!(SYS_setxattr, c"f".as_ptr(), c"user.a".as_ptr(), c"".as_ptr(), 0, 0), EPERM);
    check_err!(unlink(c"f"), EPERM);
    check_err!(sys!(SYS_linkat, CWD, c"f".as_ptr(), CWD, c"g".as_ptr(), 0), EPERM);
    check_err!(sys!(SYS_renameat2, CWD, c"f".as_ptr(), CWD, c"g".as_ptr(), 0), EPERM);
    // A shared mapping could write anywhere: not through a descriptor that may write.
    for prot in [PROT_READ, PROT_READ | PROT_WRITE] {
        check_err!(mmap(0, 4096, prot, MAP_SHARED, log, 0), EACCES);
    }
    mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, log, 0)?;
    mmap(0, 4096, PROT_READ, MAP_SHARED, open(c"f", O_RDONLY, 0)?, 0)?;
    Ok(())
}

fn an_appended_directory_only_grows() -> Outcome {
    mkdir(c"d", 0o755)?;
    let directory = open(c"d", O_RDONLY, 0)?;
    let _flagged = Flagged(directory);
    set(directory, APPEND)?;
    create(c"d/f", b"")?;
    mkdir(c"d/sub", 0o755)?;
    check_err!(unlink(c"d/f"), EPERM);
    check_err!(rmdir(c"d/sub"), EPERM);
    check_err!(sys!(SYS_renameat2, CWD, c"d/f".as_ptr(), CWD, c"d/g".as_ptr(), 0), EPERM);
    create(c"g", b"")?;
    sys!(SYS_renameat2, CWD, c"g".as_ptr(), CWD, c"d/g".as_ptr(), 0)?;
    Ok(())
}

fn changing_takes_privilege() -> Outcome {
    let mine = create(c"mine", b"")?;
    let others = create(c"others", b"")?;
    let frozen = create(c"frozen", b"")?;
    let _flagged = Flagged(frozen);
    sys!(SYS_fchown, mine, 1000, 1000)?;
    sys!(SYS_fchown, frozen, 1000, 1000)?;
    set(frozen, IMMUTABLE)?;
    let status = in_child(|| {
        if sys!(SYS_setresgid, 1000, 1000, 1000).is_err() || sys!(SYS_setresuid, 1000, 1000, 1000).is_err() {
            return 99;
        }
        let refused = |result: SysResult<usize>| result == Err(Errno(EPERM));
        let checks = [
            set(mine, NODUMP | NOATIME).is_ok() && get(mine) == Ok(NODUMP | NOATIME),
            refused(set(mine, IMMUTABLE)),
            refused(set(mine, APPEND)),
            refused(set_x(mine, x(X_IMMUTABLE))),
            get(mine) == Ok(NODUMP | NOATIME),
            // Privilege is asked for before support.
            refused(set(mine, SYNC | APPEND)),
            set(mine, SYNC) == Err(Errno(EOPNOTSUPP)),
            set(mine, DAX | PROJINHERIT) == Err(Errno(EOPNOTSUPP)),
            refused(set(others, 0)),
            refused(set(others, NODUMP)),
            get(others) == Ok(0),
            refused(set(frozen, 0)),
            // It stays immutable, so nothing that is guarded changes.
            set(frozen, IMMUTABLE | NODUMP).is_ok(),
        ];
        checks.iter().position(|good| !good).map_or(0, |at| at as i32 + 1)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn a_change_sets_ctime() -> Outcome {
    let fd = create(c"f", b"")?;
    let before = fstat(fd)?;
    sleep_ms(30);
    get(fd)?;
    check_eq!((fstat(fd)?.st_ctime, fstat(fd)?.st_ctime_nsec), (before.st_ctime, before.st_ctime_nsec));
    set(fd, 0)?;
    let after = fstat(fd)?;
    check!((after.st_ctime, after.st_ctime_nsec) > (before.st_ctime, before.st_ctime_nsec));
    check_eq!((after.st_mtime, after.st_mtime_nsec), (before.st_mtime, before.st_mtime_nsec));
    Ok(())
}

fn files_without_attributes() -> Outcome {
    sys!(SYS_mknodat, CWD, c"fifo".as_ptr(), S_IFIFO | 0o600, 0)?;
    let ends = pipe(0)?;
    let fds = [
        open(c"fifo", O_RDWR, 0)?,
        ends[0],
        open(c"/proc/self/status", O_RDONLY, 0)?,
        open(c"/proc", O_RDONLY, 0)?,
        open(c"/dev/null", O_RDWR, 0)?,
    ];
    for fd in fds {
        check_err!(get(fd), ENOTTY);
        check_err!(set(fd, 0), ENOTTY);
        check_err!(get_x(fd), ENOTTY);
        check_err!(set_x(fd, x(0)), ENOTTY);
        // What is not there is not read or written either; but flags are read first.
        check_err!(sys!(SYS_ioctl, fd, GETFLAGS, 8), ENOTTY);
        check_err!(sys!(SYS_ioctl, fd, SETFLAGS, 8), EFAULT);
        check_err!(sys!(SYS_ioctl, fd, FSSETXATTR, 8), EFAULT);
    }
    Ok(())
}

fn memfds_have_attributes() -> Outcome {
    let fd = sys!(SYS_memfd_create, c"m".as_ptr(), 0)? as i32;
    check_eq!(get(fd)?, 0);
    set(fd, NODUMP | APPEND)?;
    check_eq!(get_x(fd)?.xflags, X_NODUMP | X_APPEND);
    Ok(())
}

fn bad_arguments() -> Outcome {
    let fd = create(c"f", b"")?;
    for request in [GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR] {
        check_err!(sys!(SYS_ioctl, fd, request, 8), EFAULT);
        check_err!(sys!(SYS_ioctl, usize::MAX, request, 8), EBADF);
    }
    // A mount that may not be written, and one that does not have them.
    mkdir(c"m", 0o755)?;
    let none = c"none".as_ptr();
    sys!(SYS_mount, none, c"m".as_ptr(), c"tmpfs".as_ptr(), 0, 0)?;
    let file = create(c"m/f", b"")?;
    close(file)?;
    sys!(SYS_mount, none, c"m".as_ptr(), 0, MS_REMOUNT | MS_RDONLY, 0)?;
    let file = open(c"m/f", O_RDONLY, 0)?;
    check_eq!(get(file)?, 0);
    check_err!(set(file, NODUMP), EROFS);
    check_err!(set_x(file, x(X_NODUMP)), EROFS);
    close(file)?;
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    sys!(SYS_mount, none, c"m".as_ptr(), c"ramfs".as_ptr(), 0, 0)?;
    let file = create(c"m/f", b"")?;
    check_err!(get(file), ENOTTY);
    check_err!(set(file, 0), ENOTTY);
    close(file)?;
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    Ok(())
}
