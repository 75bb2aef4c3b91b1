//! userfaultfd(2), ioctl_userfaultfd(2), /dev/userfaultfd.

use crate::prelude::*;
use std::thread::{JoinHandle, spawn};

tests![
    who_may_have_one,
    handshake,
    what_can_be_registered,
    reading_and_polling,
    missing_private,
    missing_shared,
    copies_in_part,
    minor_faults,
    write_protection,
    protects_what_is_not_there,
    protects_shared,
    protection_without_waiting,
    signal_instead,
    poisoned_pages,
    kernel_faults,
    other_processes_fault,
    exact_and_by_thread,
    closing_wakes,
    signals_interrupt,
    forks_without_event,
    fork_event,
    fork_unheard,
    remap_event,
    remove_event,
    unmap_event,
    moves_pages,
    shows_itself,
];

const PAGE: usize = 4096;

const MISSING: u64 = 1;
const WP: u64 = 2;
const MINOR: u64 = 4;

const F_FLAG_WP: u64 = 1;
const F_FORK: u64 = 1 << 1;
const F_REMAP: u64 = 1 << 2;
const F_REMOVE: u64 = 1 << 3;
const F_SHMEM: u64 = 1 << 5;
const F_UNMAP: u64 = 1 << 6;
const F_SIGBUS: u64 = 1 << 7;
const F_TID: u64 = 1 << 8;
const F_MINOR_SHMEM: u64 = 1 << 10;
const F_EXACT: u64 = 1 << 11;
const F_WP_SHMEM: u64 = 1 << 12;
const F_WP_UNPOPULATED: u64 = 1 << 13;
const F_POISON: u64 = 1 << 14;
const F_WP_ASYNC: u64 = 1 << 15;
const F_MOVE: u64 = 1 << 16;

const API: u32 = 0xc018_aa3f;
const REGISTER: u32 = 0xc020_aa00;
const UNREGISTER: u32 = 0x8010_aa01;
const WAKE: u32 = 0x8010_aa02;
const COPY: u32 = 0xc028_aa03;
const ZEROPAGE: u32 = 0xc020_aa04;
const MOVE: u32 = 0xc028_aa05;
const WRITEPROTECT: u32 = 0xc018_aa06;
const CONTINUE: u32 = 0xc020_aa07;
const POISON: u32 = 0xc020_aa08;
const NEW: u32 = 0xaa00;

const EVENT_PAGEFAULT: u8 = 0x12;
const EVENT_FORK: u8 = 0x13;
const EVENT_REMAP: u8 = 0x14;
const EVENT_REMOVE: u8 = 0x15;
const EVENT_UNMAP: u8 = 0x16;

const USER_MODE_ONLY: i32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Msg {
    event: u8,
    reserved: [u8; 7],
    args: [u64; 3],
}

/// A descriptor with its features agreed.
#[derive(Clone, Copy)]
struct Uffd(i32);

fn syscall(flags: i32) -> Result<i32, Errno> {
    sys!(SYS_userfaultfd, flags).map(|fd| fd as i32)
}

fn ioctl<const N: usize>(fd: i32, cmd: u32, words: &mut [u64; N]) -> Result<usize, Errno> {
    sys!(SYS_ioctl, fd, cmd, words.as_mut_ptr())
}

/// A blocking descriptor, or none if the features cannot be had.
fn with(features: u64) -> Result<Option<Uffd>, Failure> {
    let fd = syscall(O_CLOEXEC)?;
    let mut api = [0xaa, features, 0];
    match ioctl(fd, API, &mut api) {
        Ok(_) => Ok(Some(Uffd(fd))),
        Err(Errno(EINVAL)) => {
            println!("not offered: {features:#x}");
            close(fd)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

macro_rules! uffd {
    ($features:expr) => {
        match with($features)? {
            Some(uffd) => uffd,
            None => return Ok(()),
        }
    };
}

impl Uffd {
    fn register(self, at: usize, len: usize, mode: u64) -> Result<u64, Errno> {
        let mut words = [at as u64, len as u64, mode, 0];
        ioctl(self.0, REGISTER, &mut words).map(|_| words[3])
    }

    fn range(self, cmd: u32, at: usize, len: usize) -> Result<usize, Errno> {
        ioctl(self.0, cmd, &mut [at as u64, len as u64])
    }

    /// Error or not, and the result word.
    fn transfer(
        self,
        cmd: u32,
        dst: usize,
        src: usize,
        len: usize,
        mode: u64,
    ) -> (Result<usize, Errno>, i64) {
        let mut words = [dst as u64, src as u64, len as u64, mode, 0x55];
        let result = ioctl(self.0, cmd, &mut words);
        (result, words[4] as i64)
    }

    fn copy(self, dst: usize, src: usize, len: usize, mode: u64) -> Result<i64, Errno> {
        let (result, copied) = self.transfer(COPY, dst, src, len, mode);
        result.map(|_| copied)
    }

    fn fill(self, cmd: u32, at: usize, len: usize, mode: u64) -> (Result<usize, Errno>, i64) {
        let mut words = [at as u64, len as u64, mode, 0x55];
        let result = ioctl(self.0, cmd, &mut words);
        (result, words[3] as i64)
    }

    fn protect(self, at: usize, len: usize, mode: u64) -> Result<usize, Errno> {
        ioctl(self.0, WRITEPROTECT, &mut [at as u64, len as u64, mode])
    }

    fn read(self) -> Result<Msg, Errno> {
        let mut msg = Msg::default();
        let got = sys!(SYS_read, self.0, &raw mut msg, size_of::<Msg>())?;
        if got == size_of::<Msg>() { Ok(msg) } else { Err(Errno(0)) }
    }

    /// The next message, which is a fault: flags and address.
    fn fault(self) -> Result<(u64, usize), Failure> {
        let msg = self.read()?;
        check_eq!((msg.event, msg.reserved), (EVENT_PAGEFAULT, [0; 7]));
        Ok((msg.args[0], msg.args[1] as usize))
    }

    fn is_ready(self) -> Result<i16, Errno> {
        let mut poll = pollfd { fd: self.0, events: POLLIN, revents: 0 };
        sys!(SYS_ppoll, &raw mut poll, 1, &raw const ZERO, 0, 0)?;
        Ok(poll.revents)
    }
}

static ZERO: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// A page of `value`, to copy from.
fn page_of(value: u8) -> Result<usize, Errno> {
    let at = map_anon(PAGE)?;
    (0..PAGE).for_each(|n| poke(at + n, value));
    Ok(at)
}

fn joined<T>(thread: JoinHandle<T>) -> Result<T, Failure> {
    thread.join().map_err(|_| Failure::new("a thread panicked"))
}

fn memfd(len: usize) -> Result<i32, Errno> {
    let fd = sys!(SYS_memfd_create, c"uffd".as_ptr(), 0)? as i32;
    sys!(SYS_ftruncate, fd, len)?;
    Ok(fd)
}

fn map_fd(fd: i32, len: usize, flags: i32) -> Result<usize, Errno> {
    mmap(0, len, PROT_READ | PROT_WRITE, flags, fd, 0)
}

fn vm_flags(at: usize) -> Result<String, Errno> {
    let smaps = slurp(c"/proc/self/smaps")?;
    let start = format!("{at:x}-");
    let mut inside = false;
    for line in smaps.lines() {
        if line.starts_with(&start) {
            inside = true;
        }
        if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            return Ok(format!("{flags} "));
        }
    }
    Ok(String::new())
}

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

fn fdinfo(fd: i32) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default()
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

fn write_protection() -> Outcome {
    let uffd = uffd!(F_FLAG_WP);
    let at = map_anon(8 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, n as u8 + 1));
    uffd.register(at, 8 * PAGE, WP)?;
    poke(at, 1);
    uffd.protect(at, 8 * PAGE, 1)?;
    check_eq!((peek(at), peek(at + PAGE)), (1, 2));
    let writer = spawn(move || poke(at, 50));
    check_eq!(uffd.fault()?, (3, at));
    check_eq!(peek(at), 1);
    uffd.protect(at, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(at), 50);
    poke(at + 1, 51);
    // Without being woken nobody goes on.
    let writer = spawn(move || poke(at + PAGE, 60));
    check_eq!(uffd.fault()?, (3, at + PAGE));
    uffd.protect(at + PAGE, PAGE, 2)?;
    sleep_ms(30);
    check_eq!(peek(at + PAGE), 2);
    uffd.range(WAKE, at + PAGE, PAGE)?;
    joined(writer)?;
    check_eq!(peek(at + PAGE), 60);
    // There was no page: nothing to protect.
    poke(at + 5 * PAGE, 1);
    check_err!(uffd.protect(at, PAGE, 3), EINVAL);
    check_err!(uffd.protect(at, PAGE, 4), EINVAL);
    check_err!(uffd.protect(at, 0, 1), EINVAL);
    check_err!(uffd.protect(at + 1, PAGE, 1), EINVAL);
    // mprotect does not undo it.
    sys!(SYS_mprotect, at + 2 * PAGE, PAGE, PROT_READ)?;
    sys!(SYS_mprotect, at + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE)?;
    let writer = spawn(move || poke(at + 2 * PAGE, 70));
    check_eq!(uffd.fault()?, (3, at + 2 * PAGE));
    uffd.protect(at + 2 * PAGE, PAGE, 0)?;
    joined(writer)?;
    // The end of the registration does.
    uffd.range(UNREGISTER, at, 8 * PAGE)?;
    poke(at + 3 * PAGE, 80);
    check_eq!((peek(at + 2 * PAGE), peek(at + 3 * PAGE)), (70, 80));
    // Pages that come with their protection.
    let fresh = map_anon(2 * PAGE)?;
    let source = page_of(5)?;
    uffd.register(fresh, 2 * PAGE, MISSING | WP)?;
    let reader = spawn(move || peek(fresh));
    check_eq!(uffd.fault()?, (0, fresh));
    uffd.copy(fresh, source, PAGE, 2)?;
    check_eq!(joined(reader)?, 5);
    let writer = spawn(move || poke(fresh, 6));
    check_eq!(uffd.fault()?, (3, fresh));
    uffd.protect(fresh, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(fresh), 6);
    // Closing it does, too.
    uffd.protect(fresh, PAGE, 1)?;
    close(uffd.0)?;
    poke(fresh, 7);
    check_eq!(peek(fresh), 7);
    Ok(())
}

fn protects_what_is_not_there() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_UNPOPULATED);
    let at = map_anon(1024 * PAGE)?;
    uffd.register(at, 1024 * PAGE, WP)?;
    uffd.protect(at, 1024 * PAGE, 1)?;
    for page in [0, 511, 512, 1023] {
        let place = at + page * PAGE;
        let writer = spawn(move || poke(place, 3));
        check_eq!(uffd.fault()?, (3, place));
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(place), 3);
    }
    // Reading does not end it.
    check_eq!(peek(at + 7 * PAGE), 0);
    let writer = spawn(move || poke(at + 7 * PAGE, 4));
    check_eq!(uffd.fault()?, (3, at + 7 * PAGE));
    uffd.protect(at + 7 * PAGE, PAGE, 0)?;
    joined(writer)?;
    // Dropping private pages does.
    sys!(SYS_madvise, at, 1024 * PAGE, MADV_DONTNEED)?;
    poke(at + 9 * PAGE, 1);
    check_eq!((peek(at + 7 * PAGE), peek(at + 9 * PAGE)), (0, 1));
    // A missing page is missing first.
    let both = map_anon(2 * PAGE)?;
    let source = page_of(6)?;
    uffd.register(both, 2 * PAGE, WP | MISSING)?;
    uffd.protect(both, 2 * PAGE, 1)?;
    let writer = spawn(move || poke(both, 4));
    check_eq!(uffd.fault()?, (1, both));
    uffd.copy(both, source, PAGE, 0)?;
    joined(writer)?;
    check_eq!((peek(both), peek(both + 1)), (4, 6));
    Ok(())
}

fn protects_shared() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_SHMEM);
    let fd = memfd(8 * PAGE)?;
    let at = map_fd(fd, 8 * PAGE, MAP_SHARED)?;
    let twin = map_fd(fd, 8 * PAGE, MAP_SHARED)?;
    poke(at, 1);
    poke(twin + PAGE, 2);
    uffd.register(at, 8 * PAGE, WP)?;
    uffd.protect(at, 8 * PAGE, 1)?;
    // Only through this mapping.
    poke(twin, 9);
    for page in [0, 1, 2] {
        let place = at + page * PAGE;
        let before = peek(place);
        let writer = spawn(move || poke(place, 30));
        check_eq!(uffd.fault()?, (3, place));
        check_eq!(peek(twin + page * PAGE), before);
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(twin + page * PAGE), 30);
    }
    // The protection outlives the page.
    check_eq!(peek(at + 3 * PAGE), 0);
    sys!(SYS_madvise, at + 3 * PAGE, PAGE, MADV_DONTNEED)?;
    sys!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, PAGE)?;
    for page in [3, 4] {
        let place = at + page * PAGE;
        let writer = spawn(move || poke(place, 31));
        check_eq!(uffd.fault()?, (3, place));
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(twin + page * PAGE), 31);
    }
    Ok(())
}

fn protection_without_waiting() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_ASYNC);
    let at = map_anon(4 * PAGE)?;
    poke(at, 1);
    uffd.register(at, 4 * PAGE, WP)?;
    uffd.protect(at, 4 * PAGE, 1)?;
    let written = |page: usize| -> Result<bool, Failure> {
        let fd = open(c"/proc/self/pagemap", O_RDONLY, 0)?;
        let mut word = 0u64;
        check_eq!(sys!(SYS_pread64, fd, &raw mut word, 8, (at / PAGE + page) * 8)?, 8);
        close(fd)?;
        Ok(word & 1 << 57 == 0)
    };
    check!(!written(0)? && !written(1)?);
    poke(at, 2);
    poke(at + PAGE, 3);
    check!(written(0)? && written(1)? && !written(2)?);
    check_eq!((peek(at), peek(at + PAGE)), (2, 3));
    check_eq!(peek(at + 2 * PAGE), 0);
    check!(!written(2)?);
    poke(at + 2 * PAGE, 3);
    check!(written(2)?);
    // Any memory can be watched so, a file's as well.
    let file = create(c"file", &[1; PAGE])?;
    let mapped = map_fd(file, PAGE, MAP_PRIVATE)?;
    uffd.register(mapped, PAGE, WP)?;
    check_err!(uffd.register(at, PAGE, MINOR), EINVAL);
    uffd.protect(mapped, PAGE, 1)?;
    poke(mapped, 2);
    check_eq!((peek(mapped), peek(mapped + 1)), (2, 1));
    Ok(())
}

/// The signal that ends a child doing something, with its code.
fn bus_error(at: usize, write: bool) -> Result<i32, Errno> {
    in_child(move || {
        catch_bus();
        if write {
            poke(at, 1);
        } else {
            peek(at);
        }
        0
    })
}

extern "C" fn on_bus(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let (code, lsb) = unsafe { ((*info).si_code, *info.cast::<u8>().add(24).cast::<i16>()) };
    exit(if code == BUS_ADRERR {
        10
    } else if code == 4 {
        100 + i32::from(lsb)
    } else {
        1
    });
}

fn catch_bus() {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = on_bus as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    let _ = c!(sigaction(SIGBUS, &raw const action, std::ptr::null_mut()));
}

fn signal_instead() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    let codes = in_child(|| {
        let Ok(Some(uffd)) = with(F_SIGBUS) else { return 0 };
        if uffd.register(at, 4 * PAGE, MISSING).is_err() {
            return 2;
        }
        // The kernel gets an error for it.
        let Ok([read, write_end]) = pipe(0) else { return 3 };
        if write(write_end, b"abc").is_err() || sys!(SYS_read, read, at, 3) != Err(Errno(EFAULT)) {
            return 4;
        }
        let Ok(source) = page_of(3) else { return 5 };
        if uffd.copy(at, source, PAGE, 0).is_err() || peek(at) != 3 {
            return 6;
        }
        catch_bus();
        poke(at + PAGE, 1);
        7
    })?;
    check!(codes == 0 || codes == 10, "{codes}");
    Ok(())
}

fn poisoned_pages() -> Outcome {
    let uffd = uffd!(F_POISON);
    let at = map_anon(8 * PAGE)?;
    poke(at + 5 * PAGE, 1);
    uffd.register(at, 8 * PAGE, MISSING)?;
    check_eq!(uffd.fill(POISON, at, 2 * PAGE, 0), (Ok(0), 2 * PAGE as i64));
    check_eq!(uffd.fill(POISON, at, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    check_eq!(uffd.fill(POISON, at + 5 * PAGE, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    check_err!(uffd.fill(POISON, at + 2 * PAGE, PAGE, 2).0, EINVAL);
    let source = page_of(1)?;
    check_err!(uffd.fill(ZEROPAGE, at, PAGE, 0).0, EEXIST);
    // A child inherits the damage.
    check_eq!(bus_error(at, false)?, 112);
    check_eq!(bus_error(at + PAGE, true)?, 112);
    let [read, write_end] = pipe(0)?;
    check_err!(sys!(SYS_write, write_end, at, 10), EFAULT);
    let _ = read;
    // A thread that waits is told.
    let waiting = in_child(|| {
        let Ok(Some(uffd)) = with(F_POISON) else { return 1 };
        if uffd.register(at + 2 * PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        catch_bus();
        let _thread = spawn(move || {
            let _ = uffd.fault();
            let _ = uffd.fill(POISON, at + 2 * PAGE, PAGE, 0);
        });
        i32::from(peek(at + 2 * PAGE))
    })?;
    check_eq!(waiting, 112);
    // A copy heals it, and so does dropping it.
    uffd.copy(at + PAGE, source, PAGE, 0)?;
    check_eq!(peek(at + PAGE), 1);
    sys!(SYS_madvise, at, PAGE, MADV_DONTNEED)?;
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(peek(at), 1);
    Ok(())
}

fn kernel_faults() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(4 * PAGE)?;
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(b'z')?;
    let [read_end, write_end] = pipe(0)?;
    let writer = spawn(move || sys!(SYS_write, write_end, at + 10, 5));
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(joined(writer)?, Ok(5));
    check_eq!(read_vec(read_end, 9)?, b"zzzzz");
    write(write_end, b"hello")?;
    let reader = spawn(move || sys!(SYS_read, read_end, at + PAGE, 5));
    check_eq!(uffd.fault()?, (1, at + PAGE));
    uffd.fill(ZEROPAGE, at + PAGE, PAGE, 0).0?;
    check_eq!(joined(reader)?, Ok(5));
    check_eq!(peek(at + PAGE), b'h');
    // A descriptor for user mode only.
    let fd = syscall(USER_MODE_ONLY)?;
    ioctl(fd, API, &mut [0xaa, 0, 0])?;
    let user = Uffd(fd);
    let own = map_anon(2 * PAGE)?;
    user.register(own, 2 * PAGE, MISSING)?;
    check_err!(sys!(SYS_write, write_end, own, 5), EFAULT);
    let reader = spawn(move || peek(own));
    check_eq!(user.fault()?, (0, own));
    user.copy(own, source, PAGE, 0)?;
    check_eq!(joined(reader)?, b'z');
    // Populating asks as well.
    let populate = spawn(move || sys!(SYS_madvise, at + 2 * PAGE, PAGE, MADV_POPULATE_WRITE));
    check_eq!(uffd.fault()?, (1, at + 2 * PAGE));
    uffd.copy(at + 2 * PAGE, source, PAGE, 0)?;
    check_eq!(joined(populate)?, Ok(0));
    Ok(())
}

fn other_processes_fault() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(4 * PAGE)?;
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(0x77)?;
    let parent = getpid();
    let child = fork(|| {
        let mut byte = [0u8; 4];
        let local = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 4 };
        let remote = iovec { iov_base: at as *mut c_void, iov_len: 4 };
        let got = sys!(SYS_process_vm_readv, parent, &raw const local, 1, &raw const remote, 1, 0);
        i32::from(got != Ok(4) || byte != [0x77; 4])
    })?;
    check_eq!(uffd.fault()?, (0, at));
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(wait_exit(child)?, 0);
    // A debugger's look does not wait.
    let fd = open(c"/proc/self/mem", O_RDONLY, 0)?;
    let mut byte = [0u8; 1];
    check_err!(sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, at + PAGE), EIO);
    // The descriptor works in another process, for the memory of the one that made it.
    let child = fork(|| {
        // This is the child's own page.
        poke(at + 2 * PAGE, 1);
        let copied = uffd.copy(at + 2 * PAGE, source, PAGE, 0);
        i32::from(copied != Ok(PAGE as i64))
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(peek(at + 2 * PAGE), 0x77);
    // With nobody left in that memory there is nothing to do.
    let [read_end, write_end] = pipe(0)?;
    let child = fork(|| {
        let Ok(Some(own)) = with(0) else { return 1 };
        if own.register(at + 3 * PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        let inner = fork(|| {
            sleep_ms(100);
            let result = own.copy(at + 3 * PAGE, source, PAGE, 0);
            let verdict = u8::from(result == Err(Errno(ESRCH)));
            let _ = write(write_end, &[verdict]);
            0
        });
        i32::from(inner.is_err())
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(read_vec(read_end, 1)?, [1]);
    Ok(())
}

fn exact_and_by_thread() -> Outcome {
    let uffd = uffd!(F_EXACT | F_TID);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        peek(at + 123)
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    let msg = uffd.read()?;
    check_eq!(msg.args, [0, (at + 123) as u64, tid as u64]);
    uffd.fill(ZEROPAGE, at, PAGE, 0).0?;
    joined(thread)?;
    Ok(())
}

fn closing_wakes() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let pending = spawn(move || peek(at));
    let taken = spawn(move || peek(at + PAGE));
    uffd.fault()?;
    check!(eventually(|| fdinfo(uffd.0).contains("pending:\t1\ntotal:\t2\n")));
    close(uffd.0)?;
    check_eq!((joined(pending)?, joined(taken)?), (0, 0));
    check!(!vm_flags(at)?.contains(" um "));
    // So does unregistering, and unmapping does not.
    let uffd = uffd!(0);
    sys!(SYS_madvise, at, 2 * PAGE, MADV_DONTNEED)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let reader = spawn(move || peek(at));
    uffd.fault()?;
    uffd.range(UNREGISTER, at, 2 * PAGE)?;
    check_eq!(joined(reader)?, 0);
    // The end of the process closes it.
    let child = fork(|| {
        let Ok(Some(uffd)) = with(0) else { return 1 };
        let _ = uffd.register(at, 2 * PAGE, MISSING);
        let _thread = spawn(move || peek(at + PAGE));
        let _ = uffd.fault();
        33
    })?;
    let _ = wait_exit(child)?;
    Ok(())
}

extern "C" fn count_signal(_: i32) {
    COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn signals_interrupt() -> Outcome {
    let uffd = uffd!(0);
    let at = map_anon(2 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let mut action: sigaction = zeroed();
    action.sa_sigaction = count_signal as *const () as usize;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        peek(at)
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    check_eq!(uffd.fault()?, (0, at));
    sys!(SYS_tgkill, getpid(), tid, SIGUSR1)?;
    check!(eventually(|| COUNT.load(std::sync::atomic::Ordering::SeqCst) == 1));
    // The handler ran, and the access is asked about again.
    check_eq!(uffd.fault()?, (0, at));
    uffd.fill(ZEROPAGE, at, PAGE, 0).0?;
    check_eq!(joined(thread)?, 0);
    // A reader that is interrupted.
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = spawn(move || {
        let _ = sender.send(sys!(SYS_gettid).unwrap_or(0));
        uffd.read()
    });
    let tid = receiver.recv().map_err(|_| Failure::new("thread"))?;
    check!(eventually(|| state(tid as i32) == Some('S')));
    sys!(SYS_tgkill, getpid(), tid, SIGUSR1)?;
    check_eq!(joined(reader)?.map(|_| ()), Err(Errno(EINTR)));
    // Whoever waits can be killed, in user mode and in the kernel.
    for kernel in [false, true] {
        let [_read, write_end] = pipe(0)?;
        let [ready, tell] = pipe(0)?;
        let child = fork(|| {
            let Ok(Some(uffd)) = with(0) else { return 1 };
            if uffd.register(at + PAGE, PAGE, MISSING).is_err() {
                return 2;
            }
            let _ = write(tell, b"x");
            if kernel {
                let _ = sys!(SYS_write, write_end, at + PAGE, 4);
            } else {
                peek(at + PAGE);
            }
            3
        })?;
        read_vec(ready, 1)?;
        check!(eventually(|| matches!(state(child), Some('S' | 'D'))));
        kill(child, SIGKILL)?;
        check_eq!(wait_exit(child)?, -SIGKILL);
    }
    Ok(())
}

fn forks_without_event() -> Outcome {
    let uffd = uffd!(F_FLAG_WP);
    let at = map_anon(4 * PAGE)?;
    poke(at, 1);
    uffd.register(at, 4 * PAGE, MISSING | WP)?;
    uffd.protect(at, PAGE, 1)?;
    // The child's memory is its own.
    let status = in_child(|| {
        poke(at, 2);
        poke(at + PAGE, 3);
        let clean = !vm_flags(at).unwrap_or_default().contains(" um ");
        i32::from(peek(at) != 2 || peek(at + PAGE) != 3 || !clean)
    })?;
    check_eq!(status, 0);
    // The parent's protection is still there.
    let writer = spawn(move || poke(at, 9));
    check_eq!(uffd.fault()?, (3, at));
    check_eq!(peek(at), 1);
    uffd.protect(at, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(at), 9);
    Ok(())
}

fn fork_event() -> Outcome {
    let uffd = uffd!(F_FORK | F_FLAG_WP);
    let at = map_anon(4 * PAGE)?;
    let source = page_of(0x42)?;
    poke(at + 2 * PAGE, 1);
    uffd.register(at, 4 * PAGE, MISSING | WP)?;
    uffd.protect(at + 2 * PAGE, PAGE, 1)?;
    let parent = spawn(move || -> Result<i32, Errno> {
        let child = fork(|| {
            let value = peek(at);
            poke(at + 2 * PAGE, 8);
            i32::from(value != 0x42 || peek(at + 2 * PAGE) != 8)
        })?;
        wait_exit(child)
    });
    let msg = uffd.read()?;
    check_eq!((msg.event, msg.args[0] >> 32), (EVENT_FORK, 0));
    let child = Uffd(msg.args[0] as i32);
    check_eq!(fcntl(child.0, F_GETFL, 0)? as i32 & O_NONBLOCK, 0);
    check_eq!(child.fault()?, (0, at));
    child.copy(at, source, PAGE, 0)?;
    check_eq!(child.fault()?, (3, at + 2 * PAGE));
    child.protect(at + 2 * PAGE, PAGE, 0)?;
    check_eq!(joined(parent)?, Ok(0));
    check_err!(child.copy(at + PAGE, source, PAGE, 0), ESRCH);
    // The parent's page is still missing.
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(peek(at), 0x42);
    Ok(())
}

fn fork_unheard() -> Outcome {
    // Whoever forks and is not heard can be killed.
    let at = map_anon(4 * PAGE)?;
    let [ready, tell] = pipe(0)?;
    let forking = fork(|| {
        let Ok(Some(own)) = with(F_FORK) else { return 1 };
        if own.register(at + PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        let _ = write(tell, b"x");
        let _ = fork(|| 0);
        3
    })?;
    read_vec(ready, 1)?;
    check!(eventually(|| matches!(state(forking), Some('S' | 'D'))));
    kill(forking, SIGKILL)?;
    check_eq!(wait_exit(forking)?, -SIGKILL);
    Ok(())
}

fn remap_event() -> Outcome {
    let source = page_of(0x31)?;
    let moved = |at: usize, to: usize, flags: i32| {
        sys!(SYS_mremap, at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to)
    };
    // Without the event the new place is an ordinary one.
    let plain = uffd!(F_FLAG_WP);
    let at = map_anon(2 * PAGE)?;
    poke(at, 5);
    plain.register(at, 2 * PAGE, MISSING | WP)?;
    plain.protect(at, PAGE, 1)?;
    let to = map_anon(4 * PAGE)?;
    moved(at, to, 0)?;
    check!(!vm_flags(to)?.contains(" um "));
    check_eq!((peek(to), peek(to + PAGE)), (5, 0));
    close(plain.0)?;
    let uffd = uffd!(F_REMAP);
    let at = map_anon(2 * PAGE)?;
    let to = map_anon(4 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let mover = spawn(move || moved(at, to, 0));
    let msg = uffd.read()?;
    check_eq!((msg.event, msg.args), (EVENT_REMAP, [at as u64, to as u64, 2 * PAGE as u64]));
    check_eq!(joined(mover)?, Ok(to));
    check!(vm_flags(to)?.contains(" um "));
    let reader = spawn(move || peek(to));
    check_eq!(uffd.fault()?, (0, to));
    uffd.copy(to, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 0x31);
    // With the old area left behind both are registered.
    let next = map_anon(2 * PAGE)?;
    let mover = spawn(move || moved(to, next, MREMAP_DONTUNMAP));
    let msg = uffd.read()?;
    check_eq!(msg.args, [to as u64, next as u64, 2 * PAGE as u64]);
    joined(mover)??;
    check!(vm_flags(to)?.contains(" um ") && vm_flags(next)?.contains(" um "));
    check_eq!(peek(next), 0x31);
    Ok(())
}

fn remove_event() -> Outcome {
    let uffd = uffd!(F_REMOVE);
    let at = map_anon(4 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, 1));
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(2)?;
    let dropper = spawn(move || sys!(SYS_madvise, at + PAGE, 2 * PAGE, MADV_DONTNEED));
    // While the event is unread pages cannot be put.
    check!(eventually(|| uffd.transfer(COPY, at, source, PAGE, 0).0 == Err(Errno(EAGAIN))));
    check_err!(uffd.fill(ZEROPAGE, at, PAGE, 0).0, EAGAIN);
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_REMOVE, &[(at + PAGE) as u64, (at + 3 * PAGE) as u64][..]));
    check_eq!(joined(dropper)?, Ok(0));
    let reader = spawn(move || peek(at + PAGE));
    check_eq!(uffd.fault()?, (0, at + PAGE));
    uffd.copy(at + PAGE, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 2);
    check_eq!(peek(at + 3 * PAGE), 1);
    let fd = memfd(2 * PAGE)?;
    let shared = map_fd(fd, 2 * PAGE, MAP_SHARED)?;
    poke(shared, 1);
    uffd.register(shared, 2 * PAGE, MISSING)?;
    let dropper = spawn(move || sys!(SYS_madvise, shared, PAGE, MADV_REMOVE));
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_REMOVE, &[shared as u64, (shared + PAGE) as u64][..]));
    check_eq!(joined(dropper)?, Ok(0));
    let dropper = spawn(move || sys!(SYS_madvise, at, PAGE, MADV_FREE));
    check_eq!(uffd.read()?.event, EVENT_REMOVE);
    check_eq!(joined(dropper)?, Ok(0));
    Ok(())
}

fn unmap_event() -> Outcome {
    let uffd = uffd!(F_UNMAP);
    let at = map_anon(8 * PAGE)?;
    uffd.register(at + PAGE, 2 * PAGE, MISSING)?;
    let remover = spawn(move || munmap(at, 4 * PAGE));
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_UNMAP, &[at as u64, (at + 4 * PAGE) as u64][..]));
    check_eq!(joined(remover)?, Ok(()));
    // What is mapped over is unmapped.
    uffd.register(at + 4 * PAGE, 4 * PAGE, MISSING)?;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let mapper = spawn(move || mmap(at + 5 * PAGE, PAGE, PROT_READ, flags, -1, 0));
    let msg = uffd.read()?;
    let want = [(at + 5 * PAGE) as u64, (at + 6 * PAGE) as u64];
    check_eq!((msg.event, &msg.args[..2]), (EVENT_UNMAP, &want[..]));
    check_eq!(joined(mapper)?, Ok(at + 5 * PAGE));
    // Nobody is told of what was not registered, and the end of a process waits for nobody.
    munmap(at + 5 * PAGE, PAGE)?;
    let status = in_child(|| {
        let Ok(Some(own)) = with(F_UNMAP) else { return 1 };
        i32::from(own.register(at + 6 * PAGE, PAGE, MISSING).is_err())
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn moves_pages() -> Outcome {
    let uffd = uffd!(F_MOVE);
    let dst = map_anon(8 * PAGE)?;
    let src = map_anon(8 * PAGE)?;
    (0..4).for_each(|n| poke(src + n * PAGE, n as u8 + 1));
    check_err!(uffd.transfer(MOVE, dst, src, PAGE, 0).0, EINVAL);
    uffd.register(dst, 8 * PAGE, MISSING)?;
    let reader = spawn(move || peek(dst));
    check_eq!(uffd.fault()?, (0, dst));
    check_eq!(uffd.transfer(MOVE, dst, src, 2 * PAGE, 0), (Ok(0), 2 * PAGE as i64));
    check_eq!(joined(reader)?, 1);
    check_eq!((peek(dst + PAGE), peek(src), peek(src + PAGE)), (2, 0, 0));
    poke(dst, 7);
    check_eq!(peek(dst), 7);
    check_eq!(uffd.transfer(MOVE, dst, src + 2 * PAGE, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    // Holes.
    check_eq!(
        uffd.transfer(MOVE, dst + 6 * PAGE, src + 6 * PAGE, PAGE, 0),
        (Err(Errno(ENOENT)), -i64::from(ENOENT))
    );
    check_eq!(
        uffd.transfer(MOVE, dst + 3 * PAGE, src + 3 * PAGE, 3 * PAGE, 0),
        (Err(Errno(EAGAIN)), PAGE as i64)
    );
    check_eq!(peek(dst + 3 * PAGE), 4);
    check_eq!(uffd.transfer(MOVE, dst + 4 * PAGE, src + 4 * PAGE, 2 * PAGE, 2), (Ok(0), 2 * PAGE as i64));
    // The page of zeros: it was read.
    check_eq!(peek(src + 7 * PAGE), 0);
    uffd.transfer(MOVE, dst + 7 * PAGE, src + 7 * PAGE, PAGE, 0).0?;
    check_eq!(peek(dst + 7 * PAGE), 0);
    // Bad requests.
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 4).0, EINVAL);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE + 1, PAGE, 0).0, EINVAL);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, 0, 0).0, EINVAL);
    let shared = map_shared(PAGE)?;
    poke(shared, 1);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, shared, PAGE, 0).0, EINVAL);
    let hole = map_anon(PAGE)?;
    munmap(hole, PAGE)?;
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, hole, PAGE, 0).0, ENOENT);
    sys!(SYS_mprotect, src + 2 * PAGE, PAGE, PROT_READ)?;
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0).0, EINVAL);
    sys!(SYS_mprotect, src + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE)?;
    // A page that a child has too.
    let [go, tell] = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(go, 1);
        i32::from(peek(src + 2 * PAGE) != 3)
    })?;
    check_eq!(
        uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0),
        (Err(Errno(EBUSY)), -i64::from(EBUSY))
    );
    write(tell, b"x")?;
    check_eq!(wait_exit(child)?, 0);
    poke(src + 2 * PAGE, 9);
    uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0).0?;
    check_eq!(peek(dst + 2 * PAGE), 9);
    // The moved page is one like any other.
    check_eq!(
        in_child(|| {
            poke(dst + 2 * PAGE, 1);
            i32::from(peek(dst + 2 * PAGE) != 1)
        })?,
        0
    );
    check_eq!(peek(dst + 2 * PAGE), 9);
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
