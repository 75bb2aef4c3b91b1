//! userfaultfd(2), ioctl_userfaultfd(2), /dev/userfaultfd: who gets one, what it takes, and pages that are missing.

use crate::prelude::*;
use crate::uffd::{
    API, CONTINUE, COPY, F_EXACT, F_FLAG_WP, F_FORK, F_MINOR_SHMEM, F_SHMEM, F_SIGBUS, F_TID, F_WP_SHMEM,
    MINOR, MISSING, Msg, NEW, PAGE, REGISTER, UNREGISTER, USER_MODE_ONLY, Uffd, WAKE, WP, ZEROPAGE, fdinfo,
    ioctl, joined, map_fd, memfd, page_of, syscall, uffd, vm_flags, with,
};
use std::thread::spawn;

tests![
    who_may_have_one,
    handshake,
    what_can_be_registered,
    reading_and_polling,
    missing_private,
    missing_shared,
    copies_in_part,
    minor_faults,
    shows_itself,
];

fn who_may_have_one() -> Outcome {
    check_err!(syscall(2), EINVAL);
    check_err!(syscall(O_RDWR), EINVAL);
    let fd = syscall(O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|e| Failure::new(e.to_string()))?;
    check_eq!(link.to_str(), Some("anon_inode:[userfaultfd]"));
    check_eq!(fcntl(syscall(0)?, F_GETFD, 0)?, 0);
    check_eq!(slurp(c"/proc/sys/vm/unprivileged_userfaultfd")?, "0\n");
    check_err!(spew(c"/proc/sys/vm/unprivileged_userfaultfd", "2"), EINVAL);
    let denied = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let plain = syscall(0) == Err(Errno(EPERM)) && syscall(2) == Err(Errno(EPERM));
        let user = syscall(USER_MODE_ONLY).is_ok();
        let device = open(c"/dev/userfaultfd", O_RDWR, 0) == Err(Errno(EACCES));
        i32::from(!plain) + 2 * i32::from(!user) + 4 * i32::from(!device)
    })?;
    check_eq!(denied, 0);
    spew(c"/proc/sys/vm/unprivileged_userfaultfd", "1")?;
    let allowed = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(syscall(0).is_err())
    });
    spew(c"/proc/sys/vm/unprivileged_userfaultfd", "0")?;
    check_eq!(allowed?, 0);
    let device = open(c"/dev/userfaultfd", O_RDWR, 0)?;
    check_eq!(fstat(device)?.st_mode, S_IFCHR | 0o600);
    check_err!(sys!(SYS_ioctl, device, API, 0), EINVAL);
    check_err!(sys!(SYS_ioctl, device, NEW, 2), EINVAL);
    let fd = sys!(SYS_ioctl, device, NEW, O_CLOEXEC)? as i32;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    ioctl(fd, API, &mut [0xaa, 0, 0])?;
    Ok(())
}

fn handshake() -> Outcome {
    let fd = syscall(O_NONBLOCK)?;
    let uffd = Uffd(fd);
    let at = map_anon(PAGE)?;
    // Nothing works before.
    check_err!(uffd.register(at, PAGE, MISSING), EINVAL);
    check_err!(uffd.range(WAKE, at, PAGE), EINVAL);
    check_err!(uffd.read(), EINVAL);
    check_eq!(uffd.is_ready()?, POLLERR);
    let mut api = [0xab, 0, 7];
    check_err!(ioctl(fd, API, &mut api), EINVAL);
    check_eq!(api, [0, 0, 0]);
    let mut api = [0xaa, 1 << 40, 7];
    check_err!(ioctl(fd, API, &mut api), EINVAL);
    check_eq!(api, [0, 0, 0]);
    check_err!(sys!(SYS_ioctl, fd, API, 8), EFAULT);
    let mut api = [0xaa, 0, 0];
    ioctl(fd, API, &mut api)?;
    check_eq!(api[0], 0xaa);
    check_eq!(api[2], 1 | 2 | 1 << 63);
    // Whatever is offered can be had.
    let offered = api[1];
    check_eq!(offered & (F_SHMEM | F_SIGBUS | F_TID | F_EXACT), F_SHMEM | F_SIGBUS | F_TID | F_EXACT);
    check_err!(ioctl(fd, API, &mut [0xaa, 0, 0]), EINVAL);
    check!(with(offered)?.is_some());
    for bit in 0..63 {
        let one = 1 << bit;
        let fd = syscall(0)?;
        let got = ioctl(fd, API, &mut [0xaa, one, 0]);
        check!(got.is_ok() == (offered & one != 0), "feature {bit}: {got:?}");
        close(fd)?;
    }
    check_eq!(uffd.is_ready()?, 0);
    check_err!(uffd.read(), EAGAIN);
    check_err!(ioctl(fd, 0xaa20, &mut [0; 3]), EINVAL);
    check_err!(write(fd, b"x"), EBADF);
    check_err!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    let forks = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let Ok(fd) = syscall(USER_MODE_ONLY) else { return 1 };
        let mut api = [0xaa, F_FORK, 0];
        let refused = ioctl(fd, API, &mut api) == Err(Errno(EPERM)) && api == [0; 3];
        i32::from(!refused) * 2
    })?;
    check_eq!(forks, 0);
    Ok(())
}

fn what_can_be_registered() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(8 * PAGE)?;
    check_err!(uffd.register(at, PAGE, 0), EINVAL);
    check_err!(uffd.register(at, PAGE, 8), EINVAL);
    check_err!(uffd.register(at, 0, MISSING), EINVAL);
    check_err!(uffd.register(at + 1, PAGE, MISSING), EINVAL);
    check_err!(uffd.register(at, PAGE + 1, MISSING), EINVAL);
    check_err!(uffd.register(0, PAGE, MISSING), EINVAL);
    check_err!(uffd.register(usize::MAX - PAGE + 1, PAGE, MISSING), EINVAL);
    check_err!(uffd.register(1 << 47, PAGE, MISSING), EINVAL);
    check_err!(ioctl(uffd.0, REGISTER, &mut [at as u64, !4095, 1, 0]), EINVAL);
    check_err!(sys!(SYS_ioctl, uffd.0, REGISTER, 8), EFAULT);
    munmap(at + 4 * PAGE, 2 * PAGE)?;
    check_err!(uffd.register(at + 4 * PAGE, 2 * PAGE, MISSING), EINVAL);
    check_err!(uffd.range(UNREGISTER, at + 4 * PAGE, 2 * PAGE), EINVAL);
    // Holes are passed over.
    let ioctls = uffd.register(at, 8 * PAGE, MISSING)?;
    check_eq!(ioctls & (1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7), 1 << 2 | 1 << 3 | 1 << 4);
    check!(vm_flags(at)?.contains(" um "));
    check!(vm_flags(at + 6 * PAGE)?.contains(" um "));
    // Minor faults are for what has a cache.
    check_err!(uffd.register(at, PAGE, MINOR), EINVAL);
    let wp = uffd.register(at, PAGE, WP)?;
    check_eq!(wp & 1 << 6, 1 << 6);
    check!(vm_flags(at)?.contains(" uw ") && !vm_flags(at)?.contains(" um "));
    check!(vm_flags(at + PAGE)?.contains(" um "));
    // Somebody else's.
    let other = uffd!(0);
    check_err!(other.register(at, 2 * PAGE, MISSING), EBUSY);
    uffd.range(UNREGISTER, at, 8 * PAGE)?;
    check!(!vm_flags(at)?.contains(" um ") && !vm_flags(at)?.contains(" uw "));
    other.register(at, 2 * PAGE, MISSING | WP)?;
    close(other.0)?;
    check!(!vm_flags(at)?.contains(" um "));
    uffd.register(at, 2 * PAGE, MISSING)?;
    uffd.range(UNREGISTER, at + PAGE, PAGE)?;
    check!(!vm_flags(at + PAGE)?.contains(" um "));
    // Nothing is wrong with nothing to do.
    uffd.range(UNREGISTER, at + PAGE, PAGE)?;
    // Files with a device behind them, and what may not be written.
    let file = create(c"f", &[1; PAGE])?;
    let sealed = open(c"f", O_RDONLY, 0)?;
    let _ = file;
    let memory = memfd(PAGE)?;
    let path = std::ffi::CString::new(format!("/proc/self/fd/{memory}")).map_err(|_| Failure::new("path"))?;
    let read_only = open(&path, O_RDONLY, 0)?;
    let shared = mmap(0, PAGE, PROT_READ, MAP_SHARED, read_only, 0)?;
    check_err!(uffd.register(shared, PAGE, MISSING), EPERM);
    let ioctls = uffd.register(map_fd(memory, PAGE, MAP_SHARED)?, PAGE, MINOR)?;
    check_eq!(ioctls & (1 << 6 | 1 << 7), 1 << 7);
    let _ = sealed;
    let proc = open(c"/proc/self/exe", O_RDONLY, 0)?;
    let _ = proc;
    Ok(())
}

fn reading_and_polling() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(4 * PAGE)?;
    uffd.register(at, 4 * PAGE, MISSING)?;
    // Poll promises nothing for a descriptor that may sleep.
    check_eq!(uffd.is_ready()?, POLLERR);
    fcntl(uffd.0, F_SETFL, O_NONBLOCK as usize)?;
    check_eq!(uffd.is_ready()?, 0);
    check_err!(uffd.read(), EAGAIN);
    let mut byte = [0u8; 31];
    check_err!(sys!(SYS_read, uffd.0, byte.as_mut_ptr(), 31), EINVAL);
    let threads: Vec<_> = (0..3).map(|n| spawn(move || peek(at + n * PAGE))).collect();
    check!(eventually(|| fdinfo(uffd.0).contains("pending:\t3\n")));
    check_eq!(uffd.is_ready()?, POLLIN);
    // As many as fit, with what is left over.
    let mut two = [Msg::default(); 3];
    check_eq!(sys!(SYS_read, uffd.0, two.as_mut_ptr(), 95)?, 64);
    check_eq!(uffd.is_ready()?, POLLIN);
    check!(fdinfo(uffd.0).contains("pending:\t1\ntotal:\t3\n"), "{}", fdinfo(uffd.0));
    check_eq!(sys!(SYS_read, uffd.0, two.as_mut_ptr().wrapping_add(2), 96)?, 32);
    check_eq!(uffd.is_ready()?, 0);
    let mut pages: Vec<_> = two.iter().map(|msg| (msg.args[1] as usize - at) / PAGE).collect();
    pages.sort_unstable();
    check_eq!(pages, [0, 1, 2]);
    let source = page_of(7)?;
    // One by one, and nobody before its turn.
    uffd.copy(at, source, PAGE, 0)?;
    check!(eventually(|| fdinfo(uffd.0).contains("pending:\t0\ntotal:\t2\n")));
    uffd.copy(at + PAGE, source, PAGE, 1)?;
    uffd.copy(at + 2 * PAGE, source, PAGE, 1)?;
    sleep_ms(50);
    check!(fdinfo(uffd.0).contains("total:\t2\n"));
    uffd.range(WAKE, at, 4 * PAGE)?;
    for thread in threads {
        check_eq!(joined(thread)?, 7);
    }
    check!(fdinfo(uffd.0).contains("pending:\t0\ntotal:\t0\n"));
    // epoll sees it too.
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 9 };
    sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, uffd.0, &raw mut event)?;
    let thread = spawn(move || peek(at + 3 * PAGE));
    check_eq!(sys!(SYS_epoll_pwait, epoll, &raw mut event, 1, 5000, 0, 0)?, 1);
    check_eq!(uffd.fault()?, (0, at + 3 * PAGE));
    uffd.fill(ZEROPAGE, at + 3 * PAGE, PAGE, 0).0?;
    check_eq!(joined(thread)?, 0);
    Ok(())
}

fn missing_private() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(8 * PAGE)?;
    poke(at + 7 * PAGE, 1);
    uffd.register(at, 8 * PAGE, MISSING)?;
    // What is there is nobody's business.
    check_eq!(peek(at + 7 * PAGE), 1);
    let source = page_of(0x5a)?;
    let reader = spawn(move || peek(at + 5));
    check_eq!(uffd.fault()?, (0, at));
    check_eq!(uffd.copy(at, source, PAGE, 0)?, PAGE as i64);
    check_eq!(joined(reader)?, 0x5a);
    let writer = spawn(move || poke(at + PAGE + 9, 3));
    check_eq!(uffd.fault()?, (1, at + PAGE));
    uffd.copy(at + PAGE, source, PAGE, 0)?;
    joined(writer)?;
    check_eq!((peek(at + PAGE + 8), peek(at + PAGE + 9)), (0x5a, 3));
    let (result, zeroed) = uffd.fill(ZEROPAGE, at + 2 * PAGE, PAGE, 0);
    check_eq!((result, zeroed), (Ok(0), PAGE as i64));
    check_eq!(peek(at + 2 * PAGE), 0);
    poke(at + 2 * PAGE, 1);
    // What is there stays.
    for (cmd, page) in [(COPY, 0), (COPY, 2)] {
        let (result, word) = uffd.transfer(cmd, at + page * PAGE, source, PAGE, 0);
        check_eq!((result, word), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    }
    check_eq!(uffd.fill(ZEROPAGE, at, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    // The page comes back after it was dropped.
    sys!(SYS_madvise, at, PAGE, MADV_DONTNEED)?;
    let reader = spawn(move || peek(at));
    check_eq!(uffd.fault()?, (0, at));
    uffd.fill(ZEROPAGE, at, PAGE, 0).0?;
    check_eq!(joined(reader)?, 0);
    // Bad requests.
    check_err!(uffd.copy(at + 3 * PAGE, source, PAGE, 4), EINVAL);
    check_err!(uffd.copy(at + 3 * PAGE, source, PAGE, 2), EINVAL);
    check_err!(uffd.copy(at + 3 * PAGE, source, 0, 0), EINVAL);
    check_err!(uffd.copy(at + 3 * PAGE + 1, source, PAGE, 0), EINVAL);
    check_err!(uffd.copy(at + 3 * PAGE, source, PAGE - 1, 0), EINVAL);
    check_err!(uffd.copy(at + 3 * PAGE, 0, PAGE, 0), EFAULT);
    check_err!(uffd.copy(at + 3 * PAGE, usize::MAX - 10, PAGE, 0), EINVAL);
    check_err!(uffd.fill(ZEROPAGE, at + 3 * PAGE, PAGE, 2).0, EINVAL);
    check_err!(uffd.fill(CONTINUE, at + 3 * PAGE, PAGE, 0).0, EINVAL);
    let hole = map_anon(PAGE)?;
    munmap(hole, PAGE)?;
    check_eq!(uffd.transfer(COPY, at + 3 * PAGE, hole, PAGE, 0), (Err(Errno(EFAULT)), -i64::from(EFAULT)));
    check_err!(uffd.copy(hole, source, PAGE, 0), ENOENT);
    check_err!(uffd.copy(source, at, PAGE, 0), ENOENT);
    check_err!(uffd.protect(at, PAGE, 1), ENOENT);
    check_err!(sys!(SYS_ioctl, uffd.0, COPY, 8), EFAULT);
    // The source may begin anywhere.
    let two = map_anon(2 * PAGE)?;
    (0..2 * PAGE).for_each(|n| poke(two + n, n as u8));
    uffd.copy(at + 3 * PAGE, two + 100, PAGE, 0)?;
    check_eq!(peek(at + 3 * PAGE), 100);
    // Not registered any more: zeros, as ever.
    uffd.range(UNREGISTER, at, 8 * PAGE)?;
    check_eq!(peek(at + 4 * PAGE), 0);
    check_err!(uffd.copy(at + 5 * PAGE, source, PAGE, 0), ENOENT);
    Ok(())
}

fn missing_shared() -> Outcome {
    let uffd = uffd!(F_SHMEM);
    let source = page_of(0x21)?;
    let fd = memfd(4 * PAGE)?;
    let at = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    let twin = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    poke(twin + PAGE, 9);
    uffd.register(at, 4 * PAGE, MISSING)?;
    // It is in the cache: not missing.
    check_eq!(peek(at + PAGE), 9);
    let reader = spawn(move || peek(at));
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 0x21);
    check_eq!(peek(twin), 0x21);
    check_err!(uffd.copy(at, source, PAGE, 0), EEXIST);
    check_err!(uffd.copy(at + PAGE, source, PAGE, 0), EEXIST);
    let writer = spawn(move || poke(at + 2 * PAGE, 4));
    check_eq!(uffd.fault()?, (1, at + 2 * PAGE));
    uffd.fill(ZEROPAGE, at + 2 * PAGE, PAGE, 0).0?;
    joined(writer)?;
    check_eq!(peek(twin + 2 * PAGE), 4);
    let mut bytes = [0u8; 4];
    check_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 4, 0)?, 4);
    check_eq!(bytes, [0x21; 4]);
    // A hole in the file is one in memory.
    sys!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE)?;
    let reader = spawn(move || peek(at));
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 0x21);
    // Behind the end.
    sys!(SYS_ftruncate, fd, 3 * PAGE)?;
    check_err!(uffd.copy(at + 3 * PAGE, source, PAGE, 0), EFAULT);
    check_err!(uffd.fill(ZEROPAGE, at + 3 * PAGE, PAGE, 0).0, EFAULT);
    // A private mapping gets a page of its own.
    let other = memfd(2 * PAGE)?;
    let private = map_fd(other, 2 * PAGE, MAP_PRIVATE)?;
    uffd.register(private, 2 * PAGE, MISSING)?;
    let reader = spawn(move || peek(private));
    check_eq!(uffd.fault()?, (0, private));
    uffd.copy(private, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 0x21);
    check_eq!(sys!(SYS_pread64, other, bytes.as_mut_ptr(), 4, 0)?, 4);
    check_eq!(bytes, [0; 4]);
    // And shared memory without a name.
    let anon = map_shared(2 * PAGE)?;
    uffd.register(anon, 2 * PAGE, MISSING)?;
    let writer = spawn(move || poke(anon + PAGE, 1));
    check_eq!(uffd.fault()?, (1, anon + PAGE));
    uffd.copy(anon + PAGE, source, PAGE, 0)?;
    joined(writer)?;
    check_eq!((peek(anon + PAGE), peek(anon + PAGE + 1)), (1, 0x21));
    Ok(())
}

fn copies_in_part() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(8 * PAGE)?;
    poke(at + 2 * PAGE, 1);
    uffd.register(at, 8 * PAGE, MISSING)?;
    let source = map_anon(8 * PAGE)?;
    (0..8).for_each(|n| poke(source + n * PAGE, n as u8 + 10));
    check_eq!(uffd.transfer(COPY, at, source, 4 * PAGE, 0), (Err(Errno(EAGAIN)), 2 * PAGE as i64));
    check_eq!((peek(at), peek(at + PAGE), peek(at + 2 * PAGE)), (10, 11, 1));
    munmap(source + 6 * PAGE, PAGE)?;
    let got = uffd.transfer(COPY, at + 4 * PAGE, source + 4 * PAGE, 4 * PAGE, 0);
    check_eq!(got, (Err(Errno(EAGAIN)), 2 * PAGE as i64));
    let got = uffd.fill(ZEROPAGE, at + 3 * PAGE, 2 * PAGE, 0);
    check_eq!(got, (Err(Errno(EAGAIN)), PAGE as i64));
    // One area at a time.
    sys!(SYS_mprotect, at + 7 * PAGE, PAGE, PROT_READ)?;
    check_err!(uffd.copy(at + 6 * PAGE, source, 2 * PAGE, 0), ENOENT);
    // A page may be put where the program may not write.
    uffd.copy(at + 7 * PAGE, source, PAGE, 0)?;
    check_eq!(peek(at + 7 * PAGE), 10);
    Ok(())
}

fn minor_faults() -> Outcome {
    let uffd = uffd!(F_MINOR_SHMEM);
    let fd = memfd(4 * PAGE)?;
    let at = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    let twin = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    poke(twin, 5);
    uffd.register(at, 4 * PAGE, MINOR)?;
    check!(vm_flags(at)?.contains(" ui "));
    let reader = spawn(move || peek(at));
    check_eq!(uffd.fault()?, (4, at));
    // The contents can be changed before anybody sees them.
    poke(twin, 6);
    check_eq!(uffd.fill(CONTINUE, at, PAGE, 0), (Ok(0), PAGE as i64));
    check_eq!(joined(reader)?, 6);
    check_eq!(uffd.fill(CONTINUE, at, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    check_eq!(uffd.fill(CONTINUE, at + PAGE, PAGE, 0), (Err(Errno(EFAULT)), -i64::from(EFAULT)));
    check_err!(uffd.fill(CONTINUE, at + PAGE, PAGE, 4).0, EINVAL);
    check_err!(uffd.fill(CONTINUE, at + PAGE, PAGE, 2).0, EINVAL);
    // What is missing is not minor, and is not asked about here.
    poke(at + PAGE, 2);
    check_eq!(peek(twin + PAGE), 2);
    poke(twin + 2 * PAGE, 8);
    let writer = spawn(move || poke(at + 2 * PAGE + 1, 9));
    check_eq!(uffd.fault()?, (5, at + 2 * PAGE));
    uffd.fill(CONTINUE, at + 2 * PAGE, PAGE, 0).0?;
    joined(writer)?;
    check_eq!((peek(twin + 2 * PAGE), peek(twin + 2 * PAGE + 1)), (8, 9));
    // Both kinds at once.
    let both = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    uffd.register(both, 4 * PAGE, MINOR | MISSING)?;
    let reader = spawn(move || (peek(both), peek(both + 3 * PAGE)));
    check_eq!(uffd.fault()?, (4, both));
    uffd.fill(CONTINUE, both, PAGE, 0).0?;
    check_eq!(uffd.fault()?, (0, both + 3 * PAGE));
    uffd.fill(ZEROPAGE, both + 3 * PAGE, PAGE, 0).0?;
    check_eq!(joined(reader)?, (6, 0));
    // Protected from the beginning.
    let guarded = map_fd(fd, 4 * PAGE, MAP_SHARED)?;
    let Some(third) = with(F_MINOR_SHMEM | F_WP_SHMEM | F_FLAG_WP)? else { return Ok(()) };
    third.register(guarded, 4 * PAGE, MINOR | WP)?;
    third.fill(CONTINUE, guarded, PAGE, 2).0?;
    check_eq!(peek(guarded), 6);
    let writer = spawn(move || poke(guarded, 11));
    check_eq!(third.fault()?, (3, guarded));
    third.protect(guarded, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(twin), 11);
    Ok(())
}

fn shows_itself() -> Outcome {
    let uffd = uffd!(F_TID);
    let info = fdinfo(uffd.0);
    let line = info.lines().find(|line| line.starts_with("API:")).unwrap_or_default();
    check_eq!(line, format!("API:\taa:{:x}:{:x}", F_TID | 1 << 31, 1u64 << 63 | 0x1ff));
    check!(info.contains("pending:\t0\ntotal:\t0\n"));
    Ok(())
}
