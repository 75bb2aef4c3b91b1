//! The rest of the file family: transfer flags, advice, cache statistics, quotas, attributes that fall away, allocation.

use crate::prelude::*;
use std::ffi::CStr;

tests![
    rwf_flags,
    cachestat_counts,
    quota_errors,
    copy_file_range_rules,
    fallocate_rules,
    advice_errors,
    sync_errors,
    file_capabilities,
    capabilities_fall_away,
    acl_attributes,
    xattr_calls_of_later_kernels,
    fchmodat2_flags,
    openat2_rules,
    close_range_rules,
    renameat2_rules,
    utimensat_rules,
    statx_rules,
    vmsplice_and_tee_errors,
];

const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;

fn pwritev2(fd: i32, text: &[u8], pos: i64, flags: u32) -> Result<usize, Errno> {
    let iov = [text.as_ptr() as usize, text.len()];
    sys!(SYS_pwritev2, fd, addr(&iov), 1, pos, 0, flags)
}

fn preadv2(fd: i32, len: usize, pos: i64, flags: u32) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; len];
    let iov = [buffer.as_mut_ptr() as usize, len];
    let count = sys!(SYS_preadv2, fd, addr(&iov), 1, pos, 0, flags)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn rwf_flags() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    check_eq!(preadv2(fd, 4, 2, 0)?, b"2345");
    // -1 is the file's own position.
    check_eq!(preadv2(fd, 2, -1, 0)?, b"01");
    check_eq!(seek(fd, 0, SEEK_CUR)?, 2);
    check_err!(preadv2(fd, 2, -2, 0), EINVAL);
    for flag in [RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_APPEND, RWF_NOAPPEND] {
        check_eq!(preadv2(fd, 2, 0, flag)?, b"01");
    }
    // tmpfs does not promise not to wait.
    check_err!(preadv2(fd, 2, 0, RWF_NOWAIT), EOPNOTSUPP);
    check_err!(preadv2(fd, 2, 0, 0x4000_0000), EOPNOTSUPP);
    check_err!(pwritev2(fd, b"x", 0, 0x4000_0000), EOPNOTSUPP);
    check_err!(pwritev2(fd, b"x", 0, RWF_APPEND | RWF_NOAPPEND), EINVAL);
    for flag in [RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_SYNC] {
        check_eq!(pwritev2(fd, b"ab", 0, flag)?, 2);
    }
    check_eq!(pwritev2(fd, b"end", 0, RWF_APPEND)?, 3);
    check_eq!(slurp(c"f")?, "ab23456789end");
    // O_APPEND, taken back for one write.
    let append = open(c"f", O_RDWR | O_APPEND, 0)?;
    check_eq!(pwritev2(append, b"X", 0, RWF_NOAPPEND)?, 1);
    check_eq!(pwritev2(append, b"Y", 0, 0)?, 1);
    check_eq!(slurp(c"f")?, "Xb23456789endY");
    // Without waiting: pipes that are empty or full.
    let ends = crate::sys::pipe(0)?;
    check_err!(preadv2(ends[0], 1, -1, RWF_NOWAIT), EAGAIN);
    check_err!(preadv2(ends[0], 1, 0, 0), ESPIPE);
    check_eq!(pwritev2(ends[1], b"x", -1, RWF_NOWAIT)?, 1);
    let tiny = fcntl(ends[1], 1031, 4096)?;
    check_eq!(tiny, 4096);
    check_err!(
        pwritev2(ends[1], &[0; 8192], -1, RWF_NOWAIT)
            .and_then(|_| pwritev2(ends[1], &[0; 4096], -1, RWF_NOWAIT)),
        EAGAIN
    );
    let dir = open(c".", O_RDONLY, 0)?;
    check_err!(preadv2(dir, 1, 0, 0), EISDIR);
    Ok(())
}

fn cachestat_counts() -> Outcome {
    let page = 4096;
    let fd = create(c"f", &vec![1; 5 * page])?;
    let call = |fd: i32, off: u64, len: u64, flags: u32| -> Result<[u64; 5], Errno> {
        let mut out = [9_u64; 5];
        sys!(SYS_cachestat, fd, addr(&[off, len]), addr_mut(&mut out), flags)?;
        Ok(out)
    };
    check_eq!(call(fd, 0, 0, 0)?[0], 5);
    check_eq!(call(fd, 0, 4 * page as u64, 0)?[0], 4);
    check_eq!(call(fd, 4095, 2, 0)?[0], 2);
    check_eq!(call(fd, 100 * page as u64, 0, 0)?[0], 0);
    check_eq!(call(fd, 0, 0, 0)?[3], 0);
    check_err!(call(fd, 0, 0, 1), EINVAL);
    check_err!(call(999, 0, 0, 0), EBADF);
    check_err!(sys!(SYS_cachestat, fd, 8, addr_mut(&mut [0_u64; 5]), 0), EFAULT);
    check_err!(sys!(SYS_cachestat, fd, addr(&[0_u64; 2]), 8, 0), EFAULT);
    // A hole is not cached.
    sys!(SYS_ftruncate, fd, 10 * page)?;
    check_eq!(call(fd, 0, 0, 0)?[0], 5);
    let path = open(c"f", O_PATH, 0)?;
    check_err!(call(path, 0, 0, 0), EBADF);
    Ok(())
}

fn quota_errors() -> Outcome {
    let call = |cmd: u32, name: Option<&CStr>| {
        let name = name.map_or(std::ptr::null(), CStr::as_ptr);
        sys!(SYS_quotactl, cmd, name, 0, 0)
    };
    create(c"f", b"").and_then(close)?;
    let (sync, on) = (0x80_0001 << 8, 0x80_0002 << 8);
    check_err!(call(sync | 3, None), EINVAL);
    check_eq!(call(sync, None)?, 0);
    check_err!(call(on, None), ENODEV);
    check_err!(call(on, Some(c"missing")), ENOENT);
    check_err!(call(on, Some(c"f")), ENOTBLK);
    check_err!(call(on, Some(c"/dev/null")), ENOTBLK);
    let fd = open(c"f", O_RDONLY, 0)?;
    check_err!(sys!(SYS_quotactl_fd, fd, on | 3, 0, 0), EINVAL);
    check_err!(sys!(SYS_quotactl_fd, fd, on, 0, 0), ENOSYS);
    check_err!(sys!(SYS_quotactl_fd, 999, on, 0, 0), EBADF);
    Ok(())
}

fn copy_file_range_rules() -> Outcome {
    let a = create(c"a", b"0123456789")?;
    let b = create(c"b", b"")?;
    let copy = |from: i32, off_in: i64, to: i32, off_out: i64, len: usize, flags: u32| {
        let (mut i, mut o) = (off_in, off_out);
        sys!(SYS_copy_file_range, from, addr_mut(&mut i), to, addr_mut(&mut o), len, flags)
    };
    check_eq!(copy(a, 2, b, 0, 4, 0)?, 4);
    check_eq!(slurp(c"b")?, "2345");
    check_eq!(copy(a, 100, b, 0, 4, 0)?, 0);
    check_err!(copy(a, 0, b, 0, 4, 1), EINVAL);
    check_err!(copy(a, 0, a, 2, 4, 0), EINVAL);
    check_eq!(copy(a, 0, a, 10, 4, 0)?, 4);
    let dir = open(c".", O_RDONLY, 0)?;
    check_err!(copy(dir, 0, b, 0, 4, 0), EISDIR);
    let ends = crate::sys::pipe(0)?;
    check_err!(copy(a, 0, ends[1], 0, 4, 0), EINVAL);
    check_err!(sys!(SYS_copy_file_range, a, 0, ends[1], 0, 4, 0), EINVAL);
    let read = open(c"b", O_RDONLY, 0)?;
    check_err!(copy(a, 0, read, 0, 4, 0), EBADF);
    let append = open(c"b", O_WRONLY | O_APPEND, 0)?;
    check_err!(copy(a, 0, append, 0, 4, 0), EBADF);
    // Not to another file system.
    let other = open(c"/dev/shm/h4-copy", O_RDWR | O_CREAT, 0o600)?;
    let crossed = copy(a, 0, other, 0, 4, 0);
    unlink(c"/dev/shm/h4-copy")?;
    check_err!(crossed, EXDEV);
    Ok(())
}

fn fallocate_rules() -> Outcome {
    const KEEP: i32 = 1;
    const PUNCH: i32 = 2;
    const COLLAPSE: i32 = 8;
    const ZERO: i32 = 16;
    const INSERT: i32 = 32;
    const UNSHARE: i32 = 64;
    let fd = create(c"f", &[7; 10000])?;
    let call = |fd: i32, mode: i32, at: i64, len: i64| sys!(SYS_fallocate, fd, mode, at, len);
    let blocks = |fd| fstat(fd).map(|stat| stat.st_blocks);
    check_err!(call(fd, 0, -1, 10), EINVAL);
    check_err!(call(fd, 0, 0, 0), EINVAL);
    check_err!(call(fd, 0, 0, -1), EINVAL);
    check_err!(call(fd, 0x100, 0, 10), EOPNOTSUPP);
    check_err!(call(fd, PUNCH, 0, 10), EOPNOTSUPP);
    check_err!(call(fd, PUNCH | ZERO | KEEP, 0, 10), EOPNOTSUPP);
    for mode in [COLLAPSE, INSERT, ZERO, UNSHARE, ZERO | KEEP] {
        check_err!(call(fd, mode, 0, 4096), EOPNOTSUPP);
    }
    check_err!(call(fd, 0, i64::MAX - 5, 10), EFBIG);
    // Beyond the end without changing the size.
    call(fd, KEEP, 0, 40960)?;
    check_eq!((fstat(fd)?.st_size, blocks(fd)?), (10000, 80));
    call(fd, 0, 0, 20480)?;
    check_eq!(fstat(fd)?.st_size, 20480);
    // A hole reads as zeros; whole pages are given back.
    call(fd, PUNCH | KEEP, 100, 12188)?;
    check_eq!(blocks(fd)?, 64);
    let mut byte = [9];
    for (at, value) in [(99, 7), (100, 0), (9999, 0), (12288, 0)] {
        sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, at)?;
        check_eq!(byte[0], value);
    }
    let read = open(c"f", O_RDONLY, 0)?;
    check_err!(call(read, 0, 0, 10), EBADF);
    let dir = open(c".", O_RDONLY, 0)?;
    check_err!(call(dir, 0, 0, 10), EBADF);
    let ends = crate::sys::pipe(0)?;
    check_err!(call(ends[1], 0, 0, 10), ESPIPE);
    let null = open(c"/dev/null", O_RDWR, 0)?;
    check_err!(call(null, 0, 0, 10), ENODEV);
    // More than there is of a file system.
    mkdir(c"m", 0o755)?;
    let options = c"size=64k".as_ptr();
    sys!(SYS_mount, c"x".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, options)?;
    let small = create(c"m/f", b"")?;
    let (fits, over) = (call(small, 0, 0, 32768), call(small, 0, 0, 1 << 20));
    let size = fstat(small)?.st_size;
    close(small)?;
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    check!(fits.is_ok());
    check_err!(over, ENOSPC);
    check_eq!(size, 32768);
    // The limit of file sizes counts for what is only allocated as well.
    let status = in_child(|| {
        let _ = c!(signal(SIGXFSZ, SIG_IGN));
        let limit = [50000_u64, 50000];
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_FSIZE, addr(&limit), 0);
        let over = call(fd, KEEP, 0, 60000) != Err(Errno(EFBIG));
        i32::from(over) | i32::from(call(fd, 0, 0, 45000).is_err()) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn advice_errors() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    for advice in 0..=5 {
        check_eq!(sys!(SYS_fadvise64, fd, 0, 0, advice)?, 0);
    }
    check_err!(sys!(SYS_fadvise64, fd, 0, 0, 6), EINVAL);
    check_err!(sys!(SYS_fadvise64, fd, 0, -1_i64, 0), EINVAL);
    check_err!(sys!(SYS_fadvise64, 999, 0, 0, 0), EBADF);
    let ends = crate::sys::pipe(0)?;
    check_err!(sys!(SYS_fadvise64, ends[0], 0, 0, 0), ESPIPE);
    check_eq!(sys!(SYS_readahead, fd, 0, 10)?, 0);
    check_err!(sys!(SYS_readahead, ends[0], 0, 10), EINVAL);
    let write = open(c"f", O_WRONLY, 0)?;
    check_err!(sys!(SYS_readahead, write, 0, 10), EBADF);
    let dir = open(c".", O_RDONLY, 0)?;
    check_err!(sys!(SYS_readahead, dir, 0, 10), EINVAL);
    let path = open(c"f", O_PATH, 0)?;
    check_err!(sys!(SYS_fadvise64, path, 0, 0, 0), EBADF);
    Ok(())
}

fn sync_errors() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    check_eq!(sys!(SYS_sync_file_range, fd, 0, 0, 7)?, 0);
    check_err!(sys!(SYS_sync_file_range, fd, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_sync_file_range, fd, -1_i64, 0, 0), EINVAL);
    check_err!(sys!(SYS_sync_file_range, fd, 0, -1_i64, 0), EINVAL);
    check_err!(sys!(SYS_sync_file_range, fd, i64::MAX, 10, 0), EINVAL);
    let ends = crate::sys::pipe(0)?;
    check_err!(sys!(SYS_sync_file_range, ends[0], 0, 0, 0), ESPIPE);
    check_eq!(sys!(SYS_syncfs, fd)?, 0);
    check_eq!(sys!(SYS_syncfs, ends[0])?, 0);
    check_err!(sys!(SYS_syncfs, 999), EBADF);
    let path = open(c"f", O_PATH, 0)?;
    check_err!(sys!(SYS_syncfs, path), EBADF);
    check_err!(sys!(SYS_fsync, ends[0]), EINVAL);
    check_err!(sys!(SYS_fsync, path), EBADF);
    Ok(())
}

const CAPS: &CStr = c"security.capability";

/// Revision 2 with `permitted`, effective.
fn caps(permitted: u32) -> [u32; 5] {
    [0x0200_0001, permitted, 0, 0, 0]
}

fn set_caps(path: &CStr, value: &[u32]) -> Result<usize, Errno> {
    sys!(SYS_setxattr, path.as_ptr(), CAPS.as_ptr(), value.as_ptr(), value.len() * 4, 0)
}

fn has_caps(path: &CStr) -> bool {
    sys!(SYS_getxattr, path.as_ptr(), CAPS.as_ptr(), 0, 0).is_ok()
}

fn file_capabilities() -> Outcome {
    // Where set-user-id programs count.
    mkdir(c"m", 0o755)?;
    sys!(SYS_mount, c"x".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, c"mode=0755".as_ptr())?;
    sys!(SYS_chdir, c"m".as_ptr())?;
    let result = with_capable_mount();
    sys!(SYS_chdir, c"..".as_ptr())?;
    sys!(SYS_umount2, c"m".as_ptr(), MNT_DETACH)?;
    result
}

fn with_capable_mount() -> Outcome {
    std::fs::copy("/proc/self/exe", "prog")?;
    sys!(SYS_fchmodat, CWD, c"prog".as_ptr(), 0o755)?;
    check_err!(set_caps(c"prog", &[0x0200_0001]), EINVAL);
    check_err!(set_caps(c"prog", &[0x0500_0001, 0, 0, 0, 0]), EINVAL);
    check_eq!(set_caps(c"prog", &[])?, 0);
    // CAP_NET_ADMIN and CAP_SYS_TIME.
    let wanted = 1_u32 << 12 | 1 << 25;
    set_caps(c"prog", &caps(wanted))?;
    let mut back = [0_u32; 5];
    check_eq!(sys!(SYS_getxattr, c"prog".as_ptr(), CAPS.as_ptr(), addr_mut(&mut back), 20)?, 20);
    check_eq!(back, caps(wanted));
    let effective = |path: &CStr| -> Result<String, Failure> {
        let ends = crate::sys::pipe(0)?;
        let child = fork(|| {
            let _ = sys!(SYS_dup3, ends[1], 1, 0);
            let _ = sys!(SYS_setresgid, 1000, 1000, 1000);
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            let argv = [path.as_ptr(), c"helper:caps".as_ptr(), std::ptr::null()];
            let envp = [std::ptr::null::<u8>()];
            sys!(SYS_execve, path.as_ptr(), addr(&argv), addr(&envp)).err().map_or(0, |errno| errno.0)
        })?;
        close(ends[1])?;
        let text = read_all(ends[0])?;
        close(ends[0])?;
        let status = wait_exit(child)?;
        check_eq!(status, 0);
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    check_eq!(effective(c"./prog")?, format!("{wanted:016x}"));
    sys!(SYS_removexattr, c"prog".as_ptr(), CAPS.as_ptr())?;
    check_eq!(effective(c"./prog")?, format!("{:016x}", 0));
    // Only with CAP_SETFCAP.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(set_caps(c"prog", &caps(1)) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn capabilities_fall_away() -> Outcome {
    let change = |name: &CStr, f: &dyn Fn(i32) -> Result<(), Errno>| -> Result<bool, Errno> {
        let fd = create(name, b"0123456789")?;
        set_caps(name, &caps(1))?;
        f(fd)?;
        close(fd)?;
        Ok(has_caps(name))
    };
    // Writing, truncating and giving away take them; attributes and names do not.
    check!(!change(c"a", &|fd| write(fd, b"x").map(drop))?);
    check!(!change(c"b", &|fd| sys!(SYS_ftruncate, fd, 3).map(drop))?);
    check!(!change(c"c", &|fd| sys!(SYS_fchown, fd, 1, 1).map(drop))?);
    check!(change(c"d", &|fd| sys!(SYS_fchmod, fd, 0o700).map(drop))?);
    check!(change(c"e", &|_| sys!(SYS_renameat, CWD, c"e".as_ptr(), CWD, c"e2".as_ptr())
        .and_then(|_| sys!(SYS_renameat, CWD, c"e2".as_ptr(), CWD, c"e".as_ptr()))
        .map(drop))?);
    // Root keeps the set-user-id bit when it writes, not the capabilities.
    let fd = create(c"s", b"x")?;
    sys!(SYS_fchmod, fd, 0o4755)?;
    set_caps(c"s", &caps(1))?;
    write(fd, b"y")?;
    check_eq!(fstat(fd)?.st_mode & 0o7777, 0o4755);
    check!(!has_caps(c"s"));
    Ok(())
}

const ACCESS: &CStr = c"system.posix_acl_access";
const DEFAULT: &CStr = c"system.posix_acl_default";

/// A list: version, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

fn set_acl(path: &CStr, name: &CStr, value: &[u8]) -> Result<usize, Errno> {
    sys!(SYS_setxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0)
}

fn get_acl(path: &CStr, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    let len = sys!(SYS_getxattr, path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr(), 256)?;
    buffer.truncate(len);
    Ok(buffer)
}

fn acl_attributes() -> Outcome {
    const NONE: u32 = u32::MAX;
    create(c"f", b"x").and_then(close)?;
    let minimal = |u, g, o| acl(&[(1, u, NONE), (4, g, NONE), (0x20, o, NONE)]);
    // What a mode can say becomes the mode.
    set_acl(c"f", ACCESS, &minimal(6, 4, 0))?;
    check_eq!(stat(c"f")?.st_mode & 0o777, 0o640);
    check_err!(get_acl(c"f", ACCESS), ENODATA);
    let named = acl(&[(1, 6, NONE), (2, 6, 1000), (4, 0, NONE), (0x10, 6, NONE), (0x20, 0, NONE)]);
    set_acl(c"f", ACCESS, &named)?;
    check_eq!(stat(c"f")?.st_mode & 0o777, 0o660);
    check_eq!(get_acl(c"f", ACCESS)?, named);
    let reads = |uid: usize| {
        in_child(|| {
            let _ = sys!(SYS_setresgid, 2000, 2000, 2000);
            let _ = sys!(SYS_setresuid, uid, uid, uid);
            open(c"f", O_RDWR, 0).err().map_or(0, |errno| errno.0)
        })
    };
    check_eq!(reads(1000)?, 0);
    check_eq!(reads(1001)?, EACCES);
    // chmod changes the mask.
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o604)?;
    check_eq!(reads(1000)?, EACCES);
    check_eq!(get_acl(c"f", ACCESS)?[28..32], [0x10, 0, 0, 0]);
    sys!(SYS_removexattr, c"f".as_ptr(), ACCESS.as_ptr())?;
    check_err!(get_acl(c"f", ACCESS), ENODATA);
    // Lists that are none.
    for bad in [
        acl(&[(1, 6, NONE), (4, 0, NONE)]),
        acl(&[(1, 6, NONE), (2, 6, 1000), (4, 0, NONE), (0x20, 0, NONE)]),
        acl(&[(1, 9, NONE), (4, 0, NONE), (0x20, 0, NONE)]),
        acl(&[(3, 6, NONE), (4, 0, NONE), (0x20, 0, NONE)]),
    ] {
        check_err!(set_acl(c"f", ACCESS, &bad), EINVAL);
    }
    check_err!(set_acl(c"f", ACCESS, &[3, 0, 0, 0]), EOPNOTSUPP);
    check_err!(set_acl(c"f", DEFAULT, &named), EACCES);
    // Inherited.
    mkdir(c"d", 0o755)?;
    set_acl(
        c"d",
        DEFAULT,
        &acl(&[(1, 7, NONE), (2, 7, 1000), (4, 5, NONE), (0x10, 7, NONE), (0x20, 0, NONE)]),
    )?;
    open(c"d/f", O_CREAT | O_WRONLY, 0o666).and_then(close)?;
    check_eq!(stat(c"d/f")?.st_mode & 0o777, 0o660);
    check!(get_acl(c"d/f", ACCESS).is_ok());
    mkdir(c"d/sub", 0o777)?;
    check_eq!(get_acl(c"d/sub", DEFAULT)?, get_acl(c"d", DEFAULT)?);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(set_acl(c"f", ACCESS, &named) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn xattr_calls_of_later_kernels() -> Outcome {
    // setxattrat and its relatives came with 6.13.
    for number in 463..=466 {
        // SAFETY: no such call, or one that fails on its arguments.
        let value = unsafe { syscall(number, -1_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
        check_err!(crate::sys::result(value), ENOSYS);
    }
    Ok(())
}

fn fchmodat2_flags() -> Outcome {
    let fd = create(c"f", b"")?;
    symlink(c"f", c"l")?;
    let call =
        |dir: i32, name: &CStr, mode: u32, flags: i32| sys!(SYS_fchmodat2, dir, name.as_ptr(), mode, flags);
    call(CWD, c"l", 0o600, 0)?;
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o600);
    check_err!(call(CWD, c"l", 0o640, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    call(CWD, c"f", 0o640, AT_SYMLINK_NOFOLLOW)?;
    call(fd, c"", 0o604, AT_EMPTY_PATH)?;
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o604);
    let path = open(c"f", O_PATH, 0)?;
    call(path, c"", 0o644, AT_EMPTY_PATH)?;
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o644);
    check_err!(call(fd, c"", 0o600, 0), ENOENT);
    check_err!(call(CWD, c"f", 0o600, 0x8000), EINVAL);
    check_err!(call(999, c"f", 0o600, 0), EBADF);
    Ok(())
}

fn openat2_rules() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"in d").and_then(close)?;
    create(c"out", b"outside").and_then(close)?;
    symlink(c"../out", c"d/up")?;
    symlink(c"/f", c"d/abs")?;
    symlink(c"f", c"d/same")?;
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    let call = |name: &CStr, flags: u64, mode: u64, resolve: u64| {
        let how = [flags, mode, resolve];
        sys!(SYS_openat2, dir, name.as_ptr(), addr(&how), 24).map(|fd| fd as i32)
    };
    let (xdev, magic, links, beneath, root, cached) = (1, 2, 4, 8, 16, 32);
    check_err!(call(c"up", 0, 0, beneath), EXDEV);
    check_err!(call(c"../out", 0, 0, beneath), EXDEV);
    check_err!(call(c"/out", 0, 0, beneath), EXDEV);
    check_err!(call(c"abs", 0, 0, beneath), EXDEV);
    check_eq!(read_vec(call(c"same", 0, 0, beneath)?, 10)?, b"in d");
    check_eq!(read_vec(call(c"abs", 0, 0, root)?, 10)?, b"in d");
    check_err!(call(c"../out", 0, 0, root), ENOENT);
    check_eq!(read_vec(call(c"../f", 0, 0, root)?, 10)?, b"in d");
    check_err!(call(c"same", 0, 0, links), ELOOP);
    check_err!(call(c"f", 0, 0, beneath | root), EINVAL);
    check_err!(call(c"f", 0, 0, 64), EINVAL);
    check_err!(call(c"f", 0, 0o600, 0), EINVAL);
    check_err!(call(c"f", 1 << 40, 0, 0), EINVAL);
    check_err!(call(c"f", O_CREAT as u64, 0o17777, 0), EINVAL);
    check_err!(call(c"f", (O_PATH | O_RDWR) as u64, 0, 0), EINVAL);
    check_err!(call(c"f", (O_CREAT | O_DIRECTORY) as u64, 0o600, 0), EINVAL);
    check_err!(call(c"f", O_TRUNC as u64 | O_RDWR as u64, 0, cached), EAGAIN);
    check_eq!(read_vec(call(c"f", 0, 0, cached)?, 10)?, b"in d");
    check_err!(call(c"/proc/self/exe", 0, 0, magic), ELOOP);
    check_err!(call(c"/proc/self/status", 0, 0, xdev), EXDEV);
    let made = call(c"new", (O_CREAT | O_RDWR) as u64, 0o640, beneath)?;
    check_eq!(fstat(made)?.st_mode & 0o777, 0o640);
    // The structure can be longer, if the rest is zero, and not shorter.
    let long = [0_u64; 4];
    close(sys!(SYS_openat2, dir, c"f".as_ptr(), addr(&long), 32)? as i32)?;
    let long = [0_u64, 0, 0, 1];
    check_err!(sys!(SYS_openat2, dir, c"f".as_ptr(), addr(&long), 32), E2BIG);
    check_err!(sys!(SYS_openat2, dir, c"f".as_ptr(), addr(&long), 16), EINVAL);
    check_err!(sys!(SYS_openat2, dir, c"f".as_ptr(), 8, 24), EFAULT);
    Ok(())
}

fn close_range_rules() -> Outcome {
    check_err!(sys!(SYS_close_range, 10, 5, 0), EINVAL);
    check_err!(sys!(SYS_close_range, 0, 5, 1), EINVAL);
    check_err!(sys!(SYS_close_range, 0, 5, 8), EINVAL);
    let fd = open(c".", O_RDONLY, 0)?;
    let high = fcntl(fd, F_DUPFD, 100)? as i32;
    sys!(SYS_close_range, 100, u32::MAX, 4)?;
    check_eq!(fcntl(high, F_GETFD, 0)?, FD_CLOEXEC as usize);
    // A thread that shares the table leaves it first.
    let thread = std::thread::spawn(move || {
        let done = sys!(SYS_close_range, 100, u32::MAX, 2).is_ok();
        done && fcntl(high, F_GETFD, 0) == Err(Errno(EBADF)) && fcntl(fd, F_GETFD, 0).is_ok()
    });
    check!(thread.join().unwrap_or(false));
    check!(fcntl(high, F_GETFD, 0).is_ok());
    sys!(SYS_close_range, 100, 1000, 0)?;
    check_err!(fcntl(high, F_GETFD, 0), EBADF);
    Ok(())
}

fn renameat2_rules() -> Outcome {
    create(c"a", b"a").and_then(close)?;
    create(c"b", b"b").and_then(close)?;
    mkdir(c"d", 0o755)?;
    let call =
        |from: &CStr, to: &CStr, flags: u32| sys!(SYS_renameat2, CWD, from.as_ptr(), CWD, to.as_ptr(), flags);
    let (noreplace, exchange, whiteout) = (1, 2, 4);
    check_err!(call(c"a", c"b", noreplace), EEXIST);
    check_err!(call(c"a", c"b", 8), EINVAL);
    check_err!(call(c"a", c"b", noreplace | exchange), EINVAL);
    check_err!(call(c"a", c"b", whiteout | exchange), EINVAL);
    check_err!(call(c"a", c"missing", exchange), ENOENT);
    check_err!(call(c"missing", c"c", 0), ENOENT);
    check_err!(call(c"a", c".", noreplace), EEXIST);
    check_err!(call(c"a", c".", 0), EBUSY);
    check_err!(call(c"d", c"d/sub", 0), EINVAL);
    check_err!(call(c"a", c"d", 0), EISDIR);
    check_err!(call(c"d", c"a", 0), ENOTDIR);
    call(c"a", c"b", exchange)?;
    check_eq!((slurp(c"a")?, slurp(c"b")?), ("b".to_string(), "a".to_string()));
    call(c"a", c"c", noreplace)?;
    // A whiteout stays behind.
    call(c"b", c"e", whiteout)?;
    let left = lstat(c"b")?;
    check_eq!((left.st_mode & S_IFMT, left.st_rdev), (S_IFCHR, 0));
    // And noreplace with it.
    check_err!(call(c"c", c"e", noreplace | whiteout), EEXIST);
    Ok(())
}

fn utimensat_rules() -> Outcome {
    let fd = create(c"f", b"")?;
    symlink(c"f", c"l")?;
    let call = |dir: i32, name: Option<&CStr>, times: Option<[i64; 4]>, flags: i32| {
        let name = name.map_or(std::ptr::null(), CStr::as_ptr);
        sys!(SYS_utimensat, dir, name, times.as_ref().map_or(0, addr), flags)
    };
    let (now, omit) = (UTIME_NOW as i64, UTIME_OMIT as i64);
    call(CWD, Some(c"l"), Some([5, 6, 7, 8]), AT_SYMLINK_NOFOLLOW)?;
    check!(fstat(fd)?.st_mtime != 7);
    check_eq!((lstat(c"l")?.st_mtime, lstat(c"l")?.st_mtime_nsec), (7, 8));
    call(CWD, Some(c"l"), Some([1, 2, 3, 4]), 0)?;
    let stat = fstat(fd)?;
    check_eq!((stat.st_atime, stat.st_atime_nsec, stat.st_mtime, stat.st_mtime_nsec), (1, 2, 3, 4));
    check_err!(call(CWD, Some(c"f"), Some([0, 1_000_000_000, 0, 0]), 0), EINVAL);
    check_err!(call(CWD, Some(c"f"), Some([0, -1, 0, 0]), 0), EINVAL);
    check_err!(call(CWD, Some(c"f"), None, 0x8000), EINVAL);
    call(fd, None, Some([9, 0, 0, omit]), 0)?;
    check_eq!((fstat(fd)?.st_atime, fstat(fd)?.st_mtime), (9, 3));
    check_err!(call(fd, None, None, AT_SYMLINK_NOFOLLOW), EINVAL);
    call(fd, Some(c""), Some([10, 0, 0, omit]), AT_EMPTY_PATH)?;
    check_eq!(fstat(fd)?.st_atime, 10);
    // Nothing to do is done without looking.
    call(CWD, Some(c"missing"), Some([0, omit, 0, omit]), 0)?;
    check_err!(call(CWD, Some(c"missing"), None, 0), ENOENT);
    check_err!(call(999, None, None, 0), EBADF);
    check_err!(sys!(SYS_utimensat, CWD, c"f".as_ptr(), 8, 0), EFAULT);
    // Who may write may touch; setting times is for the owner.
    sys!(SYS_fchmod, fd, 0o666)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let touch = call(CWD, Some(c"f"), None, 0).is_ok();
        let both = call(CWD, Some(c"f"), Some([0, now, 0, now]), 0).is_ok();
        let set = call(CWD, Some(c"f"), Some([1, 0, 1, 0]), 0) == Err(Errno(EPERM));
        let half = call(CWD, Some(c"f"), Some([0, now, 0, omit]), 0) == Err(Errno(EPERM));
        i32::from(!touch) | i32::from(!both) << 1 | i32::from(!set) << 2 | i32::from(!half) << 3
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn statx_rules() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    let call = |dir: i32, name: &CStr, flags: i32, mask: u32| -> Result<libc::statx, Errno> {
        let mut out: libc::statx = zeroed();
        sys!(SYS_statx, dir, name.as_ptr(), flags, mask, addr_mut(&mut out))?;
        Ok(out)
    };
    let all = call(CWD, c"f", 0, 0xfff)?;
    check_eq!(all.stx_mask & 0xfff, 0xfff);
    check_eq!((all.stx_size, all.stx_nlink), (10, 1));
    check!(all.stx_btime.tv_sec != 0);
    let plain = call(CWD, c"f", 0, 0)?;
    check_eq!(plain.stx_mask & 0x7ff, 0x7ff);
    check_err!(call(CWD, c"f", 0, 0x8000_0000), EINVAL);
    check_err!(call(CWD, c"f", 0x6000, 0), EINVAL);
    check_err!(call(CWD, c"f", 0x10_0000, 0), EINVAL);
    for sync in [0, 0x2000, 0x4000] {
        check_eq!(call(CWD, c"f", sync, 0x7ff)?.stx_size, 10);
    }
    check_err!(call(fd, c"", 0, 0x7ff), ENOENT);
    check_eq!(call(fd, c"", AT_EMPTY_PATH, 0x7ff)?.stx_size, 10);
    // The root of a mount says so; what can be said at all is in the mask.
    let root = call(CWD, c"/proc", 0, 0x7ff)?;
    check_eq!(root.stx_attributes & 0x2000, 0x2000);
    check_eq!(plain.stx_attributes & 0x2000, 0);
    check_eq!(plain.stx_attributes_mask & 0x2000, 0x2000);
    let old = call(CWD, c"f", 0, 0x1000)?;
    let unique = call(CWD, c"f", 0, 0x4000)?;
    check_eq!(old.stx_mask & 0x5000, 0x1000);
    check_eq!(unique.stx_mask & 0x5000, 0x4000);
    check!(old.stx_mnt_id != unique.stx_mnt_id);
    check_err!(sys!(SYS_statx, CWD, c"f".as_ptr(), 0, 0, 8), EFAULT);
    Ok(())
}

fn vmsplice_and_tee_errors() -> Outcome {
    let (a, b) = (crate::sys::pipe(O_NONBLOCK)?, crate::sys::pipe(O_NONBLOCK)?);
    let file = create(c"f", b"0123456789")?;
    let text = b"hello";
    let iov = [text.as_ptr() as usize, text.len()];
    check_eq!(sys!(SYS_vmsplice, a[1], addr(&iov), 1, 0)?, 5);
    check_err!(sys!(SYS_vmsplice, file, addr(&iov), 1, 0), EBADF);
    check_err!(sys!(SYS_vmsplice, a[1], addr(&iov), 1, 0x100), EINVAL);
    check_err!(sys!(SYS_vmsplice, a[1], addr(&iov), 2000, 0), EINVAL);
    check_eq!(sys!(SYS_tee, a[0], b[1], 3, 0)?, 3);
    check_err!(sys!(SYS_tee, a[0], a[1], 3, 0), EINVAL);
    check_err!(sys!(SYS_tee, file, b[1], 3, 0), EINVAL);
    check_err!(sys!(SYS_tee, a[0], b[1], 3, 0x100), EINVAL);
    check_err!(sys!(SYS_tee, a[1], b[1], 3, 0), EBADF);
    check_eq!(read_vec(b[0], 10)?, b"hel");
    check_eq!(read_vec(a[0], 10)?, b"hello");
    check_err!(sys!(SYS_tee, a[0], b[1], 3, 0), EAGAIN);
    let mut off = 0_i64;
    check_err!(sys!(SYS_splice, a[0], addr_mut(&mut off), file, 0, 3, 0), ESPIPE);
    check_err!(sys!(SYS_splice, file, 0, file, 0, 3, 0), EINVAL);
    check_err!(sys!(SYS_splice, a[0], 0, a[1], 0, 3, 0), EINVAL);
    check_err!(sys!(SYS_splice, file, 0, a[1], 0, 3, 0x100), EINVAL);
    check_eq!(sys!(SYS_splice, file, addr_mut(&mut off), a[1], 0, 4, 0)?, 4);
    check_eq!(off, 4);
    check_eq!(sys!(SYS_splice, a[0], 0, b[1], 0, 2, 0)?, 2);
    check_eq!(read_vec(b[0], 10)?, b"01");
    let append = open(c"f", O_WRONLY | O_APPEND, 0)?;
    check_err!(sys!(SYS_splice, a[0], 0, append, 0, 2, 0), EINVAL);
    check_err!(sys!(SYS_sendfile, append, file, 0, 2), EINVAL);
    close(a[0])?;
    let status = in_child(|| {
        let _ = write(a[1], b"x");
        0
    })?;
    check_eq!(status, -SIGPIPE);
    Ok(())
}
