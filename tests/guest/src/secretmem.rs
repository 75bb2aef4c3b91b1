//! memfd_secret(2): memory that only its owners reach.

use crate::prelude::*;

tests![
    makes,
    what_the_file_can,
    holds_bytes,
    size_is_set_once,
    never_executed,
    others_do_not_reach_it,
    the_kernel_copies,
    children_share,
    shown,
];

const PAGE: usize = 4096;
const RW: i32 = PROT_READ | PROT_WRITE;

fn secret(flags: i32) -> Result<i32, Errno> {
    sys!(SYS_memfd_secret, flags).map(|fd| fd as i32)
}

fn sized(len: usize) -> Result<i32, Errno> {
    let fd = secret(0)?;
    sys!(SYS_ftruncate, fd, len)?;
    Ok(fd)
}

fn mapped(len: usize) -> Result<usize, Errno> {
    let fd = sized(len)?;
    let at = mmap(0, len, RW, MAP_SHARED, fd, 0)?;
    close(fd)?;
    Ok(at)
}

fn makes() -> Outcome {
    let fd = secret(0)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDWR);
    let fd = secret(O_CLOEXEC)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    for flags in [1, 2, O_NONBLOCK, O_CLOEXEC | 1, i32::MIN] {
        check!(secret(flags) == Err(Errno(EINVAL)), "{flags:#x}");
    }
    Ok(())
}

fn what_the_file_can() -> Outcome {
    let fd = sized(PAGE)?;
    let mut buffer = [0u8; 16];
    check_err!(crate::sys::read(fd, &mut buffer), EINVAL);
    check_err!(write(fd, b"x"), EINVAL);
    check_err!(sys!(SYS_pread64, fd, buffer.as_mut_ptr(), 1, 0), ESPIPE);
    check_err!(seek(fd, 0, SEEK_SET), ESPIPE);
    check_err!(sys!(SYS_fallocate, fd, 0, 0, PAGE), EOPNOTSUPP);
    check_err!(fcntl(fd, F_GET_SEALS, 0), EINVAL);
    check_err!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE as usize), EINVAL);
    check_err!(sys!(SYS_fsync, fd), EINVAL);
    let to = create(c"f", b"")?;
    check_err!(sys!(SYS_sendfile, to, fd, 0, 16), EINVAL);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0), EINVAL);
    let stat = fstat(fd)?;
    check_eq!(stat.st_mode & S_IFMT, S_IFREG);
    check_eq!(stat.st_size, PAGE as i64);
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(link.to_string_lossy(), "/secretmem (deleted)");
    // It cannot be opened again.
    let again = std::fs::OpenOptions::new().read(true).open(format!("/proc/self/fd/{fd}"));
    check_eq!(again.err().and_then(|e| e.raw_os_error()), Some(ENXIO));
    Ok(())
}

fn holds_bytes() -> Outcome {
    let fd = sized(3 * PAGE)?;
    let at = mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0)?;
    check!((0..3).all(|page| peek(at + page * PAGE) == 0));
    poke(at + PAGE, 5);
    // Another mapping of the same file, read-only.
    let second = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, PAGE as u64)?;
    check_eq!(peek(second), 5);
    munmap(at, 3 * PAGE)?;
    munmap(second, PAGE)?;
    let at = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0)?;
    check_eq!(peek(at + PAGE), 5);
    check_eq!(in_child(|| i32::from(peek(at + 3 * PAGE)))?, -SIGBUS);
    sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
    let status = in_child(|| {
        poke(at, 1);
        0
    })?;
    check_eq!(status, -SIGSEGV);
    Ok(())
}

fn size_is_set_once() -> Outcome {
    let fd = secret(0)?;
    check_eq!(fstat(fd)?.st_size, 0);
    let at = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    check_eq!(in_child(|| i32::from(peek(at)))?, -SIGBUS);
    sys!(SYS_ftruncate, fd, 0)?;
    sys!(SYS_ftruncate, fd, 2 * PAGE)?;
    check_eq!(peek(at), 0);
    for len in [0, PAGE, 2 * PAGE, 3 * PAGE] {
        check!(sys!(SYS_ftruncate, fd, len) == Err(Errno(EINVAL)), "{len}");
    }
    check_eq!(fstat(fd)?.st_size, 2 * PAGE as i64);
    Ok(())
}

fn vm_flags(at: usize) -> Result<String, Errno> {
    let text = slurp(c"/proc/self/smaps")?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{at:x}-")));
    Ok(lines.find(|line| line.starts_with("VmFlags:")).unwrap_or_default().trim_end().to_string())
}

fn others_do_not_reach_it() -> Outcome {
    let at = mapped(2 * PAGE)?;
    poke(at, 42);
    let mut byte = 7u8;
    let mine = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let there = iovec { iov_base: at as *mut c_void, iov_len: 1 };
    // A page that is there, and one that is not yet.
    for offset in [0, PAGE] {
        let there = iovec { iov_base: (at + offset) as *mut c_void, ..there };
        check_err!(sys!(SYS_process_vm_readv, getpid(), &raw const mine, 1, &raw const there, 1, 0), EFAULT);
        check_err!(sys!(SYS_process_vm_writev, getpid(), &raw const mine, 1, &raw const there, 1, 0), EFAULT);
        let fd = open(c"/proc/self/mem", O_RDWR, 0)?;
        check_err!(sys!(SYS_pread64, fd, &raw mut byte, 1, at + offset), EIO);
        check_err!(sys!(SYS_pwrite64, fd, &raw const byte, 1, at + offset), EIO);
        close(fd)?;
    }
    check_eq!(byte, 7);
    // Nor are pages brought in ahead, or locked, which comes to the same.
    check_err!(sys!(SYS_madvise, at, PAGE, MADV_POPULATE_READ), EINVAL);
    check_err!(sys!(SYS_madvise, at, PAGE, MADV_POPULATE_WRITE), EINVAL);
    check_err!(sys!(SYS_mlock, at, PAGE), ENOMEM);
    check_eq!(peek(at), 42);
    // Nor does a debugger.
    let child = crate::ptrace::traced(|| i32::from(peek(at)))?;
    check_err!(crate::ptrace::peek_word(child, at), EIO);
    check_err!(crate::ptrace::ptrace(PTRACE_POKEDATA, child, at, 1), EIO);
    crate::ptrace::cont(child, 0)?;
    check_eq!(wait_exit(child)?, 42);
    Ok(())
}

fn never_executed() -> Outcome {
    let fd = sized(PAGE)?;
    check_err!(mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), EPERM);
    let at = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    check_err!(sys!(SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC), EACCES);
    Ok(())
}

/// What the process itself asks the kernel to copy is copied.
fn the_kernel_copies() -> Outcome {
    let at = mapped(2 * PAGE)?;
    let fd = create(c"f", b"hello")?;
    check_eq!(sys!(SYS_pread64, fd, at, 5, 0)?, 5);
    check_eq!(peek(at + 1), b'e');
    check_eq!(sys!(SYS_pwrite64, fd, at, 5, 5)?, 5);
    check_eq!(sys!(SYS_pread64, fd, at + PAGE, 10, 0)?, 10);
    check_eq!(peek(at + PAGE + 9), b'o');
    check_eq!(sys!(SYS_futex, at + 64, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1)?, 0);
    Ok(())
}

fn children_share() -> Outcome {
    let at = mapped(PAGE)?;
    poke(at, 1);
    let status = in_child(|| {
        let seen = peek(at);
        poke(at, 2);
        i32::from(seen)
    })?;
    check_eq!(status, 1);
    check_eq!(peek(at), 2);
    Ok(())
}

fn shown() -> Outcome {
    let at = mapped(PAGE)?;
    let text = slurp(c"/proc/self/maps")?;
    let line = text.lines().find(|line| line.starts_with(&format!("{at:x}-"))).unwrap_or_default();
    check!(line.ends_with("/secretmem (deleted)") && line.contains(" rw-s "), "{line}");
    // Not executable, and not in core dumps.
    let flags = vm_flags(at)?;
    check!(flags.starts_with("VmFlags: rd wr sh mr mw ms dd"), "{flags}");
    Ok(())
}
