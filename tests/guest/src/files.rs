//! Files: open flags, reading, writing, positions (open(2), read(2), lseek(2), …).

use crate::prelude::*;

tests![
    open_creat_excl,
    open_trunc,
    open_append,
    open_directory,
    open_nofollow,
    open_path,
    open_tmpfile,
    open_errors,
    open_cloexec,
    umask_applies,
    lseek_whence,
    pread_pwrite,
    readv_writev,
    sparse_files,
    ftruncate_grows_and_shrinks,
    fallocate_modes,
    read_write_errors,
    dup_shares_offset,
    dup_numbers,
    close_range_works,
    fcntl_flags,
    flock_locks,
    record_locks,
    sendfile_copies,
    sendfile_from_pipe,
    copy_file_range_copies,
    splice_and_tee,
    tee_keeps_what_it_copied,
    openat2_resolve,
    memfd_and_seals,
    file_size_limits,
    fsync_family,
];

fn open_creat_excl() -> Outcome {
    check_err!(open(c"f", O_RDONLY, 0), ENOENT);
    let fd = open(c"f", O_RDWR | O_CREAT | O_EXCL, 0o600)?;
    check_eq!(fstat(fd)?.st_mode, S_IFREG | 0o600);
    check_err!(open(c"f", O_RDWR | O_CREAT | O_EXCL, 0o600), EEXIST);
    symlink(c"nowhere", c"dangling")?;
    check_err!(open(c"dangling", O_RDWR | O_CREAT | O_EXCL, 0o600), EEXIST);
    // Without O_EXCL a dangling link creates its target.
    open(c"dangling", O_RDWR | O_CREAT, 0o600)?;
    check_eq!(lstat(c"nowhere")?.st_mode & S_IFMT, S_IFREG);
    check_err!(open(c"f/x", O_RDONLY, 0), ENOTDIR);
    check_err!(open(c"f/", O_RDONLY, 0), ENOTDIR);
    check_err!(open(c"", O_RDONLY, 0), ENOENT);
    check_err!(open(c"newdir/", O_RDWR | O_CREAT, 0o600), EISDIR);
    Ok(())
}

fn open_trunc() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    let other = open(c"f", O_WRONLY | O_TRUNC, 0)?;
    check_eq!(fstat(fd)?.st_size, 0);
    write(other, b"ab")?;
    check_eq!(read_vec(fd, 10)?, b"ab");
    // Reading only does not protect from O_TRUNC, as on Linux.
    open(c"f", O_RDONLY | O_TRUNC, 0)?;
    check_eq!(fstat(fd)?.st_size, 0);
    Ok(())
}

fn open_append() -> Outcome {
    let fd = create(c"f", b"abc")?;
    let append = open(c"f", O_RDWR | O_APPEND, 0)?;
    check_eq!(seek(append, 0, SEEK_SET)?, 0);
    write(append, b"def")?;
    check_eq!(seek(append, 0, SEEK_CUR)?, 6);
    check_eq!(read_vec(fd, 10)?, b"abcdef");
    // Linux appends even with pwrite on an O_APPEND descriptor.
    sys!(SYS_pwrite64, append, b"X".as_ptr(), 1, 0)?;
    check_eq!(slurp(c"f")?, "abcdefX");
    Ok(())
}

fn open_directory() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"f", b"")?;
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0)?;
    check_err!(open(c"f", O_RDONLY | O_DIRECTORY, 0), ENOTDIR);
    check_err!(open(c"d", O_RDWR, 0), EISDIR);
    check_err!(open(c"d", O_WRONLY | O_TRUNC, 0), EISDIR);
    check_err!(open(c"d", O_RDONLY | O_CREAT, 0o600), EISDIR);
    check_err!(open(c"new", O_RDONLY | O_CREAT | O_DIRECTORY, 0o600), EINVAL);
    check_err!(read_vec(dir, 10), EISDIR);
    check_err!(write(dir, b"x"), EBADF);
    let inner = sys!(SYS_openat, dir, c"x".as_ptr(), O_CREAT | O_WRONLY, 0o600)? as i32;
    close(inner)?;
    check!(stat(c"d/x").is_ok());
    let f = open(c"f", O_RDONLY, 0)?;
    check_err!(sys!(SYS_openat, f, c"x".as_ptr(), O_RDONLY, 0), ENOTDIR);
    check_err!(sys!(SYS_openat, 999, c"x".as_ptr(), O_RDONLY, 0), EBADF);
    // An absolute path does not look at the descriptor.
    check!(sys!(SYS_openat, 999, c"/".as_ptr(), O_RDONLY, 0).is_ok());
    Ok(())
}

fn open_nofollow() -> Outcome {
    create(c"f", b"x")?;
    symlink(c"f", c"link")?;
    mkdir(c"d", 0o755)?;
    symlink(c"d", c"dlink")?;
    create(c"d/x", b"")?;
    check_err!(open(c"link", O_RDONLY | O_NOFOLLOW, 0), ELOOP);
    check_err!(open(c"dlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0), ENOTDIR);
    // Only the last component counts.
    check!(open(c"dlink/x", O_RDONLY | O_NOFOLLOW, 0).is_ok());
    let fd = open(c"link", O_PATH | O_NOFOLLOW, 0)?;
    check_eq!(fstat(fd)?.st_mode & S_IFMT, S_IFLNK);
    let mut buffer = [0; 8];
    let n = sys!(SYS_readlinkat, fd, c"".as_ptr(), buffer.as_mut_ptr(), 8)?;
    check_eq!(&buffer[..n], b"f");
    Ok(())
}

fn open_path() -> Outcome {
    create(c"f", b"data")?;
    let fd = open(c"f", O_PATH, 0)?;
    check_err!(read_vec(fd, 1), EBADF);
    check_err!(write(fd, b"x"), EBADF);
    check_err!(sys!(SYS_fchmod, fd, 0o600), EBADF);
    check_err!(sys!(SYS_ioctl, fd, TIOCGWINSZ, 0), EBADF);
    check_eq!(fstat(fd)?.st_size, 4);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_PATH, O_PATH);
    let copy = fcntl(fd, F_DUPFD, 0)? as i32;
    check_eq!(fstat(copy)?.st_size, 4);
    let again = std::fs::read(format!("/proc/self/fd/{fd}"))?;
    check_eq!(again, b"data");
    let dir = open(c".", O_PATH | O_DIRECTORY, 0)?;
    check!(sys!(SYS_openat, dir, c"f".as_ptr(), O_RDONLY, 0).is_ok());
    sys!(SYS_fchdir, dir)?;
    Ok(())
}

fn open_tmpfile() -> Outcome {
    check_err!(open(c".", O_TMPFILE | O_RDONLY, 0o600), EINVAL);
    check_err!(open(c"missing", O_TMPFILE | O_RDWR, 0o600), ENOENT);
    let fd = open(c".", O_TMPFILE | O_RDWR, 0o600)?;
    check_eq!(fstat(fd)?.st_nlink, 0);
    write(fd, b"hidden")?;
    check_eq!(std::fs::read_dir(".")?.count(), 0);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    sys!(SYS_linkat, CWD, path.as_ptr(), CWD, c"shown".as_ptr(), AT_SYMLINK_FOLLOW)?;
    check_eq!(slurp(c"shown")?, "hidden");
    check_eq!(fstat(fd)?.st_nlink, 1);
    // With O_EXCL the file can never be linked.
    let fd = open(c".", O_TMPFILE | O_RDWR | O_EXCL, 0o600)?;
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let link = sys!(SYS_linkat, CWD, path.as_ptr(), CWD, c"never".as_ptr(), AT_SYMLINK_FOLLOW);
    check_err!(link, ENOENT);
    Ok(())
}

fn open_errors() -> Outcome {
    let long = [b'a'; 256].iter().chain([0].iter()).copied().collect::<Vec<u8>>();
    check_err!(sys!(SYS_openat, CWD, long.as_ptr(), O_RDONLY, 0), ENAMETOOLONG);
    let name = &long[1..];
    check!(sys!(SYS_openat, CWD, name.as_ptr(), O_RDWR | O_CREAT, 0o600).is_ok());
    let path: Vec<u8> = b"./".iter().cycle().take(4096).chain([0].iter()).copied().collect();
    check_err!(sys!(SYS_openat, CWD, path.as_ptr(), O_RDONLY, 0), ENAMETOOLONG);
    let path = &path[2..];
    check!(sys!(SYS_openat, CWD, path.as_ptr(), O_RDONLY, 0).is_ok());
    symlink(c"b", c"a")?;
    symlink(c"a", c"b")?;
    check_err!(open(c"a", O_RDONLY, 0), ELOOP);
    create(c"f", b"")?;
    check_err!(sys!(SYS_openat, CWD, 1, O_RDONLY, 0), EFAULT);
    check_err!(open(c"/dev/null/x", O_RDONLY, 0), ENOTDIR);
    // The access mode 3 asks for both permissions and allows neither reading nor writing.
    let fd = open(c"f", O_ACCMODE, 0)?;
    check_err!(read_vec(fd, 1), EBADF);
    check_err!(write(fd, b"x"), EBADF);
    Ok(())
}

fn open_cloexec() -> Outcome {
    let fd = open(c".", O_RDONLY | O_CLOEXEC, 0)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    let fd = open(c".", O_RDONLY, 0)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    fcntl(fd, F_SETFD, FD_CLOEXEC as usize)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    Ok(())
}

fn umask_applies() -> Outcome {
    let old = sys!(SYS_umask, 0o027)?;
    check_eq!(old, 0o022);
    open(c"f", O_CREAT | O_WRONLY, 0o777)?;
    check_eq!(stat(c"f")?.st_mode & 0o7777, 0o750);
    mkdir(c"d", 0o777)?;
    check_eq!(stat(c"d")?.st_mode & 0o7777, 0o750);
    check_eq!(sys!(SYS_umask, 0o7777)?, 0o027);
    // Only the permission bits of the mask count.
    check_eq!(sys!(SYS_umask, 0)?, 0o777);
    Ok(())
}

fn lseek_whence() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    check_eq!(seek(fd, 4, SEEK_SET)?, 4);
    check_eq!(seek(fd, 2, SEEK_CUR)?, 6);
    check_eq!(seek(fd, -3, SEEK_END)?, 7);
    check_eq!(read_vec(fd, 10)?, b"789");
    check_err!(seek(fd, -1, SEEK_SET), EINVAL);
    check_err!(seek(fd, -11, SEEK_END), EINVAL);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 10);
    check_err!(seek(fd, 0, 99), EINVAL);
    check_eq!(seek(fd, 100, SEEK_SET)?, 100);
    check_eq!(read_vec(fd, 10)?, b"");
    check_eq!(seek(fd, 3, SEEK_DATA)?, 3);
    check_eq!(seek(fd, 3, SEEK_HOLE)?, 10);
    check_err!(seek(fd, 10, SEEK_DATA), ENXIO);
    check_err!(seek(fd, 10, SEEK_HOLE), ENXIO);
    let ends = pipe(0)?;
    check_err!(seek(ends[0], 0, SEEK_SET), ESPIPE);
    check_err!(seek(99, 0, SEEK_SET), EBADF);
    Ok(())
}

fn pread_pwrite() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    seek(fd, 5, SEEK_SET)?;
    let mut buffer = [0; 4];
    check_eq!(sys!(SYS_pread64, fd, buffer.as_mut_ptr(), 4, 2)?, 4);
    check_eq!(&buffer, b"2345");
    check_eq!(sys!(SYS_pwrite64, fd, b"ab".as_ptr(), 2, 12)?, 2);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 5);
    check_eq!(slurp(c"f")?, "0123456789\0\0ab");
    check_err!(sys!(SYS_pread64, fd, buffer.as_mut_ptr(), 4, -1_i64), EINVAL);
    check_err!(sys!(SYS_pwrite64, fd, buffer.as_ptr(), 4, -1_i64), EINVAL);
    let ends = pipe(0)?;
    check_err!(sys!(SYS_pread64, ends[0], buffer.as_mut_ptr(), 4, 0), ESPIPE);
    Ok(())
}

fn readv_writev() -> Outcome {
    let fd = create(c"f", b"")?;
    let vector = |slice: &[u8]| iovec { iov_base: slice.as_ptr() as *mut _, iov_len: slice.len() };
    let parts = [vector(b"ab"), vector(b""), vector(b"cdef")];
    check_eq!(sys!(SYS_writev, fd, parts.as_ptr(), 3)?, 6);
    check_eq!(slurp(c"f")?, "abcdef");
    seek(fd, 1, SEEK_SET)?;
    let (mut one, mut two) = ([0; 2], [0; 9]);
    let parts = [
        iovec { iov_base: one.as_mut_ptr().cast(), iov_len: 2 },
        iovec { iov_base: two.as_mut_ptr().cast(), iov_len: 9 },
    ];
    check_eq!(sys!(SYS_readv, fd, parts.as_ptr(), 2)?, 5);
    check_eq!((&one[..], &two[..3]), (&b"bc"[..], &b"def"[..]));
    check_eq!(sys!(SYS_preadv, fd, parts.as_ptr(), 2, 4, 0)?, 2);
    check_eq!(&one, b"ef");
    check_eq!(sys!(SYS_pwritev, fd, parts.as_ptr(), 1, 0, 0)?, 2);
    check_eq!(slurp(c"f")?, "efcdef");
    check_eq!(sys!(SYS_readv, fd, parts.as_ptr(), 0)?, 0);
    check_err!(sys!(SYS_readv, fd, parts.as_ptr(), 1025), EINVAL);
    check_err!(sys!(SYS_readv, fd, parts.as_ptr(), -1_i64), EINVAL);
    let huge = [iovec { iov_base: one.as_mut_ptr().cast(), iov_len: usize::MAX }];
    check_err!(sys!(SYS_readv, fd, huge.as_ptr(), 1), EINVAL);
    let bad = [iovec { iov_base: 1 as *mut _, iov_len: 4 }];
    seek(fd, 0, SEEK_SET)?;
    check_err!(sys!(SYS_readv, fd, bad.as_ptr(), 1), EFAULT);
    // preadv2 with offset -1 uses and moves the position; unknown flags are refused.
    check_eq!(sys!(SYS_preadv2, fd, parts.as_ptr(), 1, -1_i64, -1_i64, 0)?, 2);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 2);
    check_err!(sys!(SYS_preadv2, fd, parts.as_ptr(), 1, 0, 0, 0x4000_0000), EOPNOTSUPP);
    Ok(())
}

fn sparse_files() -> Outcome {
    let fd = create(c"f", b"")?;
    sys!(SYS_pwrite64, fd, b"end".as_ptr(), 3, 1 << 20)?;
    let stat = fstat(fd)?;
    check_eq!(stat.st_size, (1 << 20) + 3);
    check!(stat.st_blocks * 512 <= 8192, "{} blocks", stat.st_blocks);
    let mut page = [7_u8; 4096];
    check_eq!(sys!(SYS_pread64, fd, page.as_mut_ptr(), 4096, 65536)?, 4096);
    check!(page.iter().all(|b| *b == 0));
    check_eq!(seek(fd, 0, SEEK_DATA)?, 1 << 20);
    check_eq!(seek(fd, 0, SEEK_HOLE)?, 0);
    check_eq!(seek(fd, 1 << 20, SEEK_HOLE)?, (1 << 20) + 3);
    Ok(())
}

fn ftruncate_grows_and_shrinks() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    sys!(SYS_ftruncate, fd, 4)?;
    sys!(SYS_ftruncate, fd, 8)?;
    check_eq!(slurp(c"f")?, "0123\0\0\0\0");
    sys!(SYS_truncate, c"f".as_ptr(), 2)?;
    check_eq!(fstat(fd)?.st_size, 2);
    check_err!(sys!(SYS_ftruncate, fd, -1_i64), EINVAL);
    let read_only = open(c"f", O_RDONLY, 0)?;
    check_err!(sys!(SYS_ftruncate, read_only, 0), EINVAL);
    check_err!(sys!(SYS_truncate, c".".as_ptr(), 0), EISDIR);
    check_err!(sys!(SYS_truncate, c"missing".as_ptr(), 0), ENOENT);
    let ends = pipe(0)?;
    check_err!(sys!(SYS_ftruncate, ends[1], 0), EINVAL);
    Ok(())
}

fn fallocate_modes() -> Outcome {
    let fd = create(c"f", b"abc")?;
    sys!(SYS_fallocate, fd, 0, 0, 16384)?;
    check_eq!(fstat(fd)?.st_size, 16384);
    check!(fstat(fd)?.st_blocks >= 32);
    sys!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, 32768)?;
    check_eq!(fstat(fd)?.st_size, 16384);
    sys!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)?;
    let mut bytes = [1_u8; 3];
    sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 3, 0)?;
    check_eq!(bytes, [0; 3]);
    check_err!(sys!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
    check_err!(sys!(SYS_fallocate, fd, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_fallocate, fd, 0, -1_i64, 10), EINVAL);
    check_err!(sys!(SYS_fallocate, fd, 0x4000, 0, 10), EOPNOTSUPP);
    let ends = pipe(0)?;
    check_err!(sys!(SYS_fallocate, ends[1], 0, 0, 10), ESPIPE);
    let read_only = open(c"f", O_RDONLY, 0)?;
    check_err!(sys!(SYS_fallocate, read_only, 0, 0, 10), EBADF);
    Ok(())
}

fn read_write_errors() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    check_err!(sys!(SYS_read, fd, 1, 4), EFAULT);
    check_err!(sys!(SYS_write, fd, 1, 4), EFAULT);
    check_eq!(sys!(SYS_read, fd, 1, 0)?, 0);
    check_err!(sys!(SYS_read, 99, 1, 4), EBADF);
    check_err!(sys!(SYS_read, -1_i64, 1, 4), EBADF);
    let write_only = open(c"f", O_WRONLY, 0)?;
    check_err!(read_vec(write_only, 1), EBADF);
    let read_only = open(c"f", O_RDONLY, 0)?;
    check_err!(write(read_only, b"x"), EBADF);
    // A buffer that ends at an unmapped page is filled up to there.
    let at = map_anon(8192)?;
    munmap(at + 4096, 4096)?;
    seek(fd, 0, SEEK_SET)?;
    let count = sys!(SYS_read, fd, at + 4096 - 4, 10)?;
    check_eq!(count, 4);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 4);
    // A length beyond what one call moves is cut, not refused; one beyond the address space is a fault.
    seek(fd, 0, SEEK_SET)?;
    check_eq!(sys!(SYS_read, fd, at, 1_u64 << 32)?, 10);
    check_err!(sys!(SYS_read, fd, at, -1_i64), EFAULT);
    Ok(())
}

fn dup_shares_offset() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    let copy = sys!(SYS_dup, fd)? as i32;
    read_vec(fd, 3)?;
    check_eq!(read_vec(copy, 2)?, b"34");
    fcntl(copy, F_SETFL, O_APPEND as usize)?;
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_APPEND, O_APPEND);
    let other = open(c"f", O_RDONLY, 0)?;
    check_eq!(read_vec(other, 2)?, b"01");
    // Across fork too.
    in_child(|| i32::from(read_vec(fd, 2).is_err()))?;
    check_eq!(read_vec(fd, 2)?, b"78");
    Ok(())
}

fn dup_numbers() -> Outcome {
    let fd = create(c"f", b"")?;
    check_eq!(fcntl(fd, F_DUPFD, 100)?, 100);
    check_eq!(fcntl(fd, F_DUPFD_CLOEXEC, 100)?, 101);
    check_eq!(fcntl(101, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_err!(fcntl(fd, F_DUPFD, usize::MAX), EINVAL);
    check_eq!(sys!(SYS_dup3, fd, 50, O_CLOEXEC)?, 50);
    check_err!(sys!(SYS_dup3, fd, fd, 0), EINVAL);
    check_err!(sys!(SYS_dup3, fd, 51, O_APPEND), EINVAL);
    check_err!(sys!(SYS_dup3, 99, 52, 0), EBADF);
    check_err!(sys!(SYS_dup3, fd, 1 << 20, 0), EBADF);
    check_err!(sys!(SYS_dup, 99), EBADF);
    // The lowest free number is taken.
    close(50)?;
    let low = sys!(SYS_dup, fd)? as i32;
    let lower = sys!(SYS_dup, fd)? as i32;
    check_eq!(lower, low + 1);
    close(low)?;
    check_eq!(sys!(SYS_dup, fd)? as i32, low);
    check_err!(close(99), EBADF);
    Ok(())
}

fn close_range_works() -> Outcome {
    let fd = create(c"f", b"")?;
    for number in 60..70 {
        sys!(SYS_dup3, fd, number, 0)?;
    }
    sys!(SYS_close_range, 62, 64, 0)?;
    check!(fcntl(61, F_GETFD, 0).is_ok() && fcntl(65, F_GETFD, 0).is_ok());
    check_err!(fcntl(63, F_GETFD, 0), EBADF);
    sys!(SYS_close_range, 65, 66, CLOSE_RANGE_CLOEXEC)?;
    check_eq!(fcntl(65, F_GETFD, 0)?, FD_CLOEXEC as usize);
    sys!(SYS_close_range, 60, u32::MAX, CLOSE_RANGE_UNSHARE)?;
    check_err!(fcntl(69, F_GETFD, 0), EBADF);
    check_err!(sys!(SYS_close_range, 5, 4, 0), EINVAL);
    check_err!(sys!(SYS_close_range, 5, 6, 0x100), EINVAL);
    Ok(())
}

fn fcntl_flags() -> Outcome {
    let fd = open(c"f", O_RDWR | O_CREAT | O_APPEND | O_EXCL, 0o600)?;
    let flags = fcntl(fd, F_GETFL, 0)? as i32;
    check_eq!(flags & (O_ACCMODE | O_APPEND | O_CREAT | O_EXCL), O_RDWR | O_APPEND);
    fcntl(fd, F_SETFL, (O_NONBLOCK | O_WRONLY) as usize)?;
    let flags = fcntl(fd, F_GETFL, 0)? as i32;
    check_eq!(flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR | O_NONBLOCK);
    check_err!(fcntl(fd, 9999, 0), EINVAL);
    check_err!(fcntl(99, F_GETFL, 0), EBADF);
    Ok(())
}

fn flock_locks() -> Outcome {
    let one = create(c"f", b"")?;
    let two = open(c"f", O_RDONLY, 0)?;
    sys!(SYS_flock, one, LOCK_EX)?;
    check_err!(sys!(SYS_flock, two, LOCK_EX | LOCK_NB), EAGAIN);
    check_err!(sys!(SYS_flock, two, LOCK_SH | LOCK_NB), EAGAIN);
    sys!(SYS_flock, one, LOCK_SH)?;
    sys!(SYS_flock, two, LOCK_SH | LOCK_NB)?;
    sys!(SYS_flock, two, LOCK_UN)?;
    sys!(SYS_flock, one, LOCK_EX | LOCK_NB)?;
    check_err!(sys!(SYS_flock, one, 16), EINVAL);
    // A child that waits gets the lock when the last descriptor of it goes.
    let child = fork(|| {
        let _ = close(one);
        i32::from(sys!(SYS_flock, two, LOCK_EX).is_err())
    })?;
    check!(eventually(|| state(child) == Some('S')));
    close(one)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn record_locks() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    let lock = |kind: i32, start: i64, len: i64| flock {
        l_type: kind as i16,
        l_whence: SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    fcntl(fd, F_SETLK, addr(&lock(F_WRLCK, 2, 4)))?;
    let parent = getpid();
    let status = in_child(|| {
        let mut probe = lock(F_WRLCK, 0, 0);
        let refused = fcntl(fd, F_SETLK, addr(&probe)) == Err(Errno(EAGAIN));
        let told = fcntl(fd, F_GETLK, addr_mut(&mut probe)).is_ok()
            && i32::from(probe.l_type) == F_WRLCK
            && (probe.l_start, probe.l_len, probe.l_pid) == (2, 4, parent);
        let free = fcntl(fd, F_SETLK, addr(&lock(F_WRLCK, 6, 0))).is_ok();
        // Closing any descriptor of the file drops the process's locks, not the parent's.
        let _ = close(fd);
        i32::from(!refused) | i32::from(!told) << 1 | i32::from(!free) << 2
    })?;
    check_eq!(status, 0);
    // Splitting a lock in two.
    fcntl(fd, F_SETLK, addr(&lock(F_UNLCK, 3, 1)))?;
    let status = in_child(|| {
        let mid = fcntl(fd, F_SETLK, addr(&lock(F_WRLCK, 3, 1))).is_ok();
        let left = fcntl(fd, F_SETLK, addr(&lock(F_WRLCK, 2, 1))).is_err();
        let right = fcntl(fd, F_SETLK, addr(&lock(F_RDLCK, 5, 1))).is_err();
        i32::from(!(mid && left && right))
    })?;
    check_eq!(status, 0);
    // Open file description locks conflict between descriptions of one process.
    let other = open(c"f", O_RDWR, 0)?;
    fcntl(fd, F_OFD_SETLK, addr(&lock(F_WRLCK, 8, 1)))?;
    check_err!(fcntl(other, F_OFD_SETLK, addr(&lock(F_RDLCK, 8, 1))), EAGAIN);
    check_err!(fcntl(fd, F_SETLK, addr(&lock(99, 0, 0))), EINVAL);
    Ok(())
}

/// A pipe has no pages to send: splice moves its buffers.
fn sendfile_from_pipe() -> Outcome {
    let (from, to) = (pipe(0)?, pipe(0)?);
    let file = create(c"to", b"")?;
    write(from[1], b"hello")?;
    check_err!(sys!(SYS_sendfile, to[1], from[0], 0, 5), EINVAL);
    check_err!(sys!(SYS_sendfile, file, from[0], 0, 5), EINVAL);
    check_eq!(read_vec(from[0], 10)?, b"hello");
    check_eq!(sys!(SYS_sendfile, to[1], from[0], 0, 0)?, 0);
    let source = create(c"from", b"data")?;
    check_eq!(sys!(SYS_sendfile, to[1], source, 0, 0)?, 0);
    Ok(())
}

fn sendfile_copies() -> Outcome {
    let from = create(c"from", &vec![b'x'; 100_000])?;
    let to = create(c"to", b"")?;
    let mut offset: i64 = 50_000;
    let mut total = 0;
    while total < 50_000 {
        let n = sys!(SYS_sendfile, to, from, addr_mut(&mut offset), 100_000)?;
        check!(n > 0);
        total += n;
    }
    check_eq!(offset, 100_000);
    check_eq!(seek(from, 0, SEEK_CUR)?, 0);
    check_eq!(fstat(to)?.st_size, 50_000);
    check_eq!(sys!(SYS_sendfile, to, from, 0, 10)?, 10);
    check_eq!(seek(from, 0, SEEK_CUR)?, 10);
    let ends = pipe(0)?;
    check_eq!(sys!(SYS_sendfile, ends[1], from, 0, 10)?, 10);
    check_eq!(read_vec(ends[0], 20)?, b"xxxxxxxxxx");
    let read_only = open(c"to", O_RDONLY, 0)?;
    check_err!(sys!(SYS_sendfile, read_only, from, 0, 10), EBADF);
    Ok(())
}

fn copy_file_range_copies() -> Outcome {
    let from = create(c"from", b"0123456789")?;
    let to = create(c"to", b"")?;
    let (mut off_in, mut off_out): (i64, i64) = (2, 0);
    let n = sys!(SYS_copy_file_range, from, addr_mut(&mut off_in), to, addr_mut(&mut off_out), 5, 0)?;
    check_eq!((n, off_in, off_out), (5, 7, 5));
    check_eq!(slurp(c"to")?, "23456");
    check_err!(sys!(SYS_copy_file_range, from, 0, to, 0, 5, 1), EINVAL);
    let mut overlap: i64 = 1;
    let own = sys!(SYS_copy_file_range, from, 0, from, addr_mut(&mut overlap), 5, 0);
    check_err!(own, EINVAL);
    let dir = open(c".", O_RDONLY, 0)?;
    check_err!(sys!(SYS_copy_file_range, dir, 0, to, 0, 5, 0), EISDIR);
    let read_only = open(c"to", O_RDONLY, 0)?;
    check_err!(sys!(SYS_copy_file_range, from, 0, read_only, 0, 5, 0), EBADF);
    Ok(())
}

fn splice_and_tee() -> Outcome {
    let from = create(c"from", b"0123456789")?;
    let to = create(c"to", b"")?;
    let (one, two) = (pipe(0)?, pipe(0)?);
    check_eq!(sys!(SYS_splice, from, 0, one[1], 0, 8, 0)?, 8);
    check_eq!(sys!(SYS_tee, one[0], two[1], 4, 0)?, 4);
    check_eq!(read_vec(two[0], 100)?, b"0123");
    check_eq!(sys!(SYS_splice, one[0], 0, to, 0, 100, 0)?, 8);
    check_eq!(slurp(c"to")?, "01234567");
    check_err!(sys!(SYS_splice, from, 0, to, 0, 5, 0), EINVAL);
    check_err!(sys!(SYS_tee, one[0], one[1], 5, 0), EINVAL);
    check_err!(sys!(SYS_splice, one[0], 0, to, 0, 5, SPLICE_F_NONBLOCK), EAGAIN);
    let mut offset = 0_i64;
    let seek_pipe = sys!(SYS_splice, one[0], addr_mut(&mut offset), to, 0, 5, 0);
    check_err!(seek_pipe, ESPIPE);
    let part = iovec { iov_base: b"hello".as_ptr() as *mut _, iov_len: 5 };
    check_eq!(sys!(SYS_vmsplice, one[1], addr(&part), 1, 0)?, 5);
    check_eq!(read_vec(one[0], 100)?, b"hello");
    Ok(())
}

fn tee_keeps_what_it_copied() -> Outcome {
    // The source goes on: what it writes next is not what the copy shows.
    let (one, two) = (pipe(0)?, pipe(0)?);
    for round in 0..4_u8 {
        write(one[1], &[round; 100])?;
        check_eq!(sys!(SYS_tee, one[0], two[1], 100, 0)?, 100);
        check_eq!(read_vec(one[0], 100)?, [round; 100]);
        write(one[1], &[round + 100; 50])?;
        check_eq!(read_vec(two[0], 100)?, [round; 100]);
        check_eq!(read_vec(one[0], 100)?, [round + 100; 50]);
    }
    // A part that was spliced away shares the page as well.
    write(one[1], b"0123456789")?;
    check_eq!(sys!(SYS_splice, one[0], 0, two[1], 0, 5, 0)?, 5);
    check_eq!(read_vec(one[0], 100)?, b"56789");
    write(one[1], b"abcdefghij")?;
    check_eq!(read_vec(two[0], 100)?, b"01234");
    Ok(())
}

fn openat2_resolve() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"")?;
    symlink(c"f", c"d/link")?;
    symlink(c"/etc", c"d/abs")?;
    let dir = open(c"d", O_PATH, 0)?;
    let how = |flags: i32, resolve: u64| [flags as u64, 0, resolve];
    let go = |path: &std::ffi::CStr, how: [u64; 3]| sys!(SYS_openat2, dir, path.as_ptr(), how.as_ptr(), 24);
    check!(go(c"f", how(O_RDONLY, RESOLVE_BENEATH)).is_ok());
    check_err!(go(c"../x", how(O_RDONLY, RESOLVE_BENEATH)), EXDEV);
    check_err!(go(c"abs", how(O_RDONLY, RESOLVE_BENEATH)), EXDEV);
    check_err!(go(c"link", how(O_RDONLY, RESOLVE_NO_SYMLINKS)), ELOOP);
    check!(go(c"/f", how(O_RDONLY, RESOLVE_IN_ROOT)).is_ok());
    check!(go(c"../../f", how(O_RDONLY, RESOLVE_IN_ROOT)).is_ok());
    check_err!(go(c"f", how(0x4000_0000, 0)), EINVAL);
    check_err!(go(c"f", how(O_RDONLY, 0x1000)), EINVAL);
    check_err!(sys!(SYS_openat2, dir, c"f".as_ptr(), how(0, 0).as_ptr(), 8), EINVAL);
    let longer = [0_u64, 0, 0, 1];
    check_err!(sys!(SYS_openat2, dir, c"f".as_ptr(), longer.as_ptr(), 32), E2BIG);
    let zero_tail = [0_u64; 4];
    check!(sys!(SYS_openat2, dir, c"f".as_ptr(), zero_tail.as_ptr(), 32).is_ok());
    check_err!(go(c"f", [0, 0o600, 0]), EINVAL);
    Ok(())
}

fn memfd_and_seals() -> Outcome {
    let fd = sys!(SYS_memfd_create, c"name".as_ptr(), MFD_ALLOW_SEALING | MFD_CLOEXEC)? as i32;
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(link.to_string_lossy(), "/memfd:name (deleted)");
    write(fd, b"0123")?;
    check_eq!(fcntl(fd, F_GET_SEALS, 0)?, 0);
    fcntl(fd, F_ADD_SEALS, (F_SEAL_GROW | F_SEAL_SHRINK) as usize)?;
    check_err!(sys!(SYS_ftruncate, fd, 2), EPERM);
    check_err!(sys!(SYS_ftruncate, fd, 8), EPERM);
    seek(fd, 0, SEEK_SET)?;
    write(fd, b"abcd")?;
    fcntl(fd, F_ADD_SEALS, (F_SEAL_WRITE | F_SEAL_SEAL) as usize)?;
    seek(fd, 0, SEEK_SET)?;
    check_err!(write(fd, b"x"), EPERM);
    check_err!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE as usize), EPERM);
    check_err!(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    let plain = sys!(SYS_memfd_create, c"p".as_ptr(), 0)? as i32;
    check_eq!(fcntl(plain, F_GET_SEALS, 0)?, F_SEAL_SEAL as usize);
    check_err!(sys!(SYS_memfd_create, c"p".as_ptr(), 0x8000), EINVAL);
    Ok(())
}

fn file_size_limits() -> Outcome {
    let fd = create(c"f", b"")?;
    let limit = rlimit { rlim_cur: 4096, rlim_max: RLIM_INFINITY };
    sys!(SYS_prlimit64, 0, RLIMIT_FSIZE, addr(&limit), 0)?;
    c!(signal(SIGXFSZ, SIG_IGN))?;
    let data = vec![1; 8192];
    // Up to the limit is written, then EFBIG.
    check_eq!(write(fd, &data)?, 4096);
    check_err!(write(fd, &data), EFBIG);
    check_err!(sys!(SYS_ftruncate, fd, 10_000), EFBIG);
    sys!(SYS_fallocate, fd, 0, 0, 4096)?;
    check_err!(sys!(SYS_fallocate, fd, 0, 0, 4097), EFBIG);
    check_err!(sys!(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 4096, 1), EFBIG);
    let status = in_child(|| {
        let _ = c!(signal(SIGXFSZ, SIG_DFL));
        let _ = write(fd, &data);
        0
    })?;
    check_eq!(status, -SIGXFSZ);
    Ok(())
}

fn fsync_family() -> Outcome {
    let fd = create(c"f", b"x")?;
    sys!(SYS_fsync, fd)?;
    sys!(SYS_fdatasync, fd)?;
    sys!(SYS_sync)?;
    sys!(SYS_syncfs, fd)?;
    check_err!(sys!(SYS_fsync, 99), EBADF);
    let ends = pipe(0)?;
    check_err!(sys!(SYS_fsync, ends[0]), EINVAL);
    sys!(SYS_fadvise64, fd, 0, 0, POSIX_FADV_SEQUENTIAL)?;
    check_err!(sys!(SYS_fadvise64, fd, 0, 0, 99), EINVAL);
    check_err!(sys!(SYS_fadvise64, ends[0], 0, 0, 0), ESPIPE);
    sys!(SYS_readahead, fd, 0, 4096)?;
    Ok(())
}
