//! Bad input: wild pointers and lengths for every call, hostile programs, fork bombs, exhausted
//! memory. The right answer is the error or signal of the manual pages, and that nothing else is
//! harmed.

use crate::prelude::*;
use crate::sys::nr::{SYS_kexec_file_load, SYS_memfd_secret, SYS_mseal};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

tests![
    unknown_calls,
    wild_pointers,
    wild_numbers,
    kernel_pointers,
    elf_truncated,
    elf_mutated,
    elf_huge_headers,
    elf_overlapping_segments,
    elf_interpreter_missing,
    fork_bomb,
    oom_kills_the_right_one,
    oom_survivors_work,
    deep_symlink_storm,
    descriptor_exhaustion,
    signal_storm,
    memory_churn,
    thread_churn,
    bad_instructions,
    unaligned_stacks,
    epoll_chain_depth,
    many_mappings_limit,
    randomized_calls,
    sysinfo_and_uname,
    reboot_needs_magic,
    ptrace_basics,
    personality_and_arch_prctl,
];

/// Calls that would end or change the system, wait forever, or tear down the test itself.
fn skipped(number: i64) -> bool {
    [
        SYS_exit,
        SYS_exit_group,
        SYS_reboot,
        SYS_rt_sigreturn,
        SYS_rt_sigsuspend,
        SYS_clone,
        SYS_clone3,
        SYS_munmap,
        SYS_mremap,
        SYS_mprotect,
        SYS_brk,
        SYS_madvise,
        SYS_vhangup,
        SYS_execve,
        SYS_kill,
        SYS_tkill,
        SYS_tgkill,
        SYS_rt_sigaction,
        SYS_rt_sigprocmask,
        SYS_set_robust_list,
        SYS_close_range,
        SYS_setrlimit,
        SYS_prlimit64,
        SYS_prctl,
        SYS_wait4,
        SYS_waitid,
        SYS_ptrace,
        SYS_kexec_load,
        SYS_kexec_file_load,
        SYS_init_module,
        SYS_delete_module,
        SYS_finit_module,
        SYS_umount2,
        SYS_mount,
        SYS_pivot_root,
        SYS_chroot,
        SYS_setuid,
        SYS_setresuid,
        SYS_setreuid,
        SYS_setgid,
        SYS_setregid,
        SYS_setresgid,
        SYS_sched_setaffinity,
        SYS_sched_setscheduler,
        SYS_sched_setattr,
        SYS_personality,
        SYS_mlockall,
        SYS_unshare,
        SYS_seccomp,
        SYS_capset,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_swapon,
        SYS_swapoff,
        SYS_sethostname,
        SYS_setdomainname,
        SYS_syslog,
        SYS_mseal,
        SYS_remap_file_pages,
        SYS_pkey_mprotect,
        SYS_ppoll,
        SYS_pselect6,
        SYS_nanosleep,
        SYS_sched_yield,
        SYS_mmap,
        SYS_membarrier,
        SYS_rseq,
        SYS_landlock_restrict_self,
        SYS_io_uring_setup,
        SYS_bpf,
        SYS_userfaultfd,
        SYS_perf_event_open,
        SYS_quotactl,
        SYS_acct,
        SYS_setsid,
        SYS_setpgid,
        SYS_close,
        SYS_dup3,
        SYS_flock,
        SYS_fcntl,
        SYS_sync,
        SYS_rt_sigtimedwait,
        SYS_vmsplice,
        SYS_process_madvise,
        SYS_set_mempolicy,
        SYS_migrate_pages,
        SYS_mbind,
        SYS_memfd_secret,
        SYS_setpriority,
        SYS_ioprio_set,
        SYS_setitimer,
        SYS_fallocate,
        SYS_timer_create,
        SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo,
        SYS_pidfd_send_signal,
        SYS_mq_notify,
        SYS_shmat,
    ]
    .contains(&number)
        || platform_skipped(number)
}

/// Calls that only one architecture has.
#[cfg(target_arch = "x86_64")]
fn platform_skipped(number: i64) -> bool {
    [
        SYS_fork,
        SYS_vfork,
        SYS_pause,
        SYS_alarm,
        SYS_arch_prctl,
        SYS_iopl,
        SYS_ioperm,
        SYS_modify_ldt,
        SYS_poll,
        SYS_select,
        SYS_dup2,
        335,
    ]
    .contains(&number)
}

/// Calls that only one architecture has.
#[cfg(target_arch = "aarch64")]
fn platform_skipped(_number: i64) -> bool {
    false
}

/// Where `call` notes what it is about to do, for a report if that is the last thing it does.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Shared memory for `LAST`, which outlives a child.
fn record() -> crate::sys::Result<usize> {
    let at = map_shared(4096)?;
    LAST.store(at, SeqCst);
    Ok(at)
}

/// What was recorded last.
fn recorded(at: usize) -> String {
    let word = |n: usize| {
        let low = atomic(at + n * 8).load(SeqCst);
        u64::from(low) | u64::from(atomic(at + n * 8 + 4).load(SeqCst)) << 32
    };
    format!("last call {} ({:x?})", word(0), [1, 2, 3, 4, 5, 6].map(word))
}

fn call(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let last = LAST.load(SeqCst);
    if last != 0 {
        for (n, word) in [number as usize].iter().chain(&args).enumerate() {
            atomic(last + n * 8).store(*word as u32, SeqCst);
            atomic(last + n * 8 + 4).store((*word >> 32) as u32, SeqCst);
        }
    }
    // SAFETY: the arguments are wrong on purpose, and `skipped` leaves out the calls that could
    // change this process behind Rust's back.
    let value = unsafe { syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    crate::sys::result(value)
}

fn unknown_calls() -> Outcome {
    for number in [470, 512, 1000, 4000, 100_000, i64::from(i32::MAX), -1] {
        check_eq!(call(number, [0; 6]), Err(Errno(ENOSYS)));
    }
    Ok(())
}

/// Runs `body` in a child that alarm(2) ends if a call should wait.
fn guarded(body: impl FnOnce()) -> crate::sys::Result<i32> {
    in_child(|| {
        let timer = itimerval {
            it_interval: timeval { tv_sec: 0, tv_usec: 50_000 },
            it_value: timeval { tv_sec: 0, tv_usec: 50_000 },
        };
        extern "C" fn nothing(_: i32) {}
        let mut action: sigaction = zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        let _ = c!(sigaction(SIGALRM, &raw const action, std::ptr::null_mut()));
        let _ = sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), 0);
        body();
        0
    })
}

fn wild_pointers() -> Outcome {
    let last = record()?;
    for wild in [1_usize, 8, 0xfff, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xdead_0000_0000_0000] {
        let status = guarded(|| {
            for number in (0..470).filter(|n| !skipped(*n)) {
                let _ = call(number, [wild; 6]);
            }
        })?;
        check!(status == 0, "pointer {wild:#x}: status {status}, {}", recorded(last));
    }
    Ok(())
}

fn wild_numbers() -> Outcome {
    let last = record()?;
    for value in [0_usize, 2, 0xffff_ffff, 0x7fff_ffff, usize::MAX, 1 << 63] {
        let status = guarded(|| {
            let good = map_anon(65536).unwrap_or(0);
            for number in (0..470).filter(|n| !skipped(*n)) {
                let _ = call(number, [good, value, value, value, value, value]);
                let _ = call(number, [value, good, value, value, value, value]);
                let _ = call(number, [value, value, good, value, value, value]);
            }
        })?;
        check!(status == 0, "value {value:#x}: status {status}, {}", recorded(last));
    }
    Ok(())
}

fn kernel_pointers() -> Outcome {
    // The direct map, the kernel image, the vsyscall page, non-canonical addresses.
    let fd = create(c"f", b"0123456789")?;
    for at in [
        0xffff_8880_0000_0000,
        0xffff_ffff_8100_0000,
        0xffff_ffff_ff60_0000,
        0xffff_0000_0000_0000,
        0x0000_8000_0000_0000,
        usize::MAX - 10,
    ] {
        check_err!(sys!(SYS_write, fd, at, 8), EFAULT);
        check_err!(sys!(SYS_pread64, fd, at, 8, 0), EFAULT);
        check_err!(sys!(SYS_uname, at), EFAULT);
        check_err!(sys!(SYS_openat, CWD, at, O_RDONLY, 0), EFAULT);
        check_err!(sys!(SYS_pipe2, at, 0), EFAULT);
        check_err!(sys!(SYS_rt_sigprocmask, SIG_BLOCK, at, 0, 8), EFAULT);
        check_err!(sys!(SYS_nanosleep, at, 0), EFAULT);
        check_err!(sys!(SYS_futex, at & !3, FUTEX_WAIT, 0, 0, 0, 0), EFAULT);
        let vector = iovec { iov_base: at as *mut _, iov_len: 8 };
        check_err!(sys!(SYS_writev, fd, addr(&vector), 1), EFAULT);
    }
    // A range that begins in user space and ends beyond it.
    check_err!(sys!(SYS_write, fd, 0x7fff_ffff_e000_usize, 1_usize << 47), EFAULT);
    check_eq!(slurp(c"f")?, "0123456789");
    Ok(())
}

/// The program's own ELF file.
fn image() -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read("/proc/self/exe")?)
}

/// Executes `bytes`: the error of execve, or how the program ended.
fn execute(bytes: &[u8]) -> Result<Result<i32, Errno>, Failure> {
    let fd = sys!(SYS_memfd_create, c"program".as_ptr(), MFD_CLOEXEC)? as i32;
    let mut at = 0;
    while at < bytes.len() {
        at += write(fd, &bytes[at..])?;
    }
    let result = map_shared(4096)?;
    let child = fork(|| {
        let null = open(c"/dev/null", O_RDWR, 0).unwrap_or(0);
        let _ = sys!(SYS_dup3, null, 1, 0);
        let _ = sys!(SYS_dup3, null, 2, 0);
        // An alarm outlives exec: a damaged program may run or wait for ever.
        let soon = itimerval {
            it_interval: timeval { tv_sec: 0, tv_usec: 0 },
            it_value: timeval { tv_sec: 0, tv_usec: 300_000 },
        };
        let _ = sys!(SYS_setitimer, ITIMER_REAL, addr(&soon), 0);
        let core = rlimit { rlim_cur: 0, rlim_max: 0 };
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_CORE, addr(&core), 0);
        let args = [c"helper:ids".as_ptr(), std::ptr::null()];
        let none = [std::ptr::null::<c_char>()];
        let path = c"".as_ptr();
        let error = sys!(SYS_execveat, fd, path, args.as_ptr(), none.as_ptr(), AT_EMPTY_PATH);
        atomic(result).store(error.err().map_or(0, |e| e.0) as u32, SeqCst);
        1
    })?;
    let status = wait_exit(child)?;
    close(fd)?;
    let errno = atomic(result).load(SeqCst) as i32;
    munmap(result, 4096)?;
    Ok(if errno == 0 { Ok(status) } else { Err(Errno(errno)) })
}

fn put(bytes: &mut [u8], at: usize, value: u64, width: usize) {
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

fn elf_truncated() -> Outcome {
    let image = image()?;
    check_eq!(execute(&image)?, Ok(0));
    for length in [0, 1, 3, 4, 16, 63] {
        check_eq!(execute(&image[..length])?, Err(Errno(ENOEXEC)));
    }
    // The header is whole, the program headers are not.
    check!(matches!(execute(&image[..64])?, Err(Errno(ENOEXEC | EIO))));
    for length in [200, 400, 4096, 8192, 65536, 300_000] {
        // Whatever happens happens to the program only.
        let outcome = execute(&image[..length.min(image.len())])?;
        check!(outcome != Ok(0), "{length}: {outcome:?}");
    }
    Ok(())
}

fn elf_mutated() -> Outcome {
    let image = image()?;
    let refused: [(usize, u64, usize); 7] =
        [(0, 0, 4), (16, 1, 2), (16, 4, 2), (18, 8, 2), (54, 55, 2), (56, 0, 2), (56, 0xffff, 2)];
    for (at, value, width) in refused {
        let mut bytes = image.clone();
        put(&mut bytes, at, value, width);
        let outcome = execute(&bytes)?;
        check!(matches!(outcome, Err(Errno(ENOEXEC | EIO | ENOMEM))), "{at} {value}: {outcome:?}");
    }
    // Each byte of the headers set to each of a few values: anything but harm.
    let mut random = 12345_u32;
    for _ in 0..60 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut bytes = image.clone();
        let at = random as usize >> 8 & 0x1ff;
        bytes[at] = [0, 0xff, 0x80, 0x7f][random as usize >> 24 & 3];
        let _ = execute(&bytes)?;
    }
    check_eq!(execute(&image)?, Ok(0));
    Ok(())
}

/// Offsets of the PT_LOAD program headers.
fn loads(image: &[u8]) -> Vec<usize> {
    let number = |at: usize, width: usize| {
        image[at..at + width].iter().rev().fold(0_usize, |a, b| a << 8 | usize::from(*b))
    };
    (0..number(56, 2)).map(|n| number(32, 8) + n * 56).filter(|at| number(*at, 4) == 1).collect()
}

fn elf_huge_headers() -> Outcome {
    let image = image()?;
    let first = loads(&image)[0];
    let cases: [(usize, u64); 8] = [
        (first + 8, u64::MAX - 4095),
        (first + 8, 1 << 62),
        (first + 16, 0xffff_ffff_8000_0000),
        (first + 16, 0x7fff_ffff_f000),
        (first + 32, u64::MAX),
        (first + 32, 1 << 60),
        (first + 40, u64::MAX),
        (first + 40, 1 << 47),
    ];
    for (at, value) in cases {
        let mut bytes = image.clone();
        put(&mut bytes, at, value, 8);
        let outcome = execute(&bytes)?;
        check!(outcome != Ok(0), "{} {value:#x}: {outcome:?}", at - first);
    }
    // An entry point in the kernel or nowhere.
    for entry in [0, 1, 0xffff_ffff_8100_0000, 0x8000_0000_0000] {
        let mut bytes = image.clone();
        put(&mut bytes, 24, entry, 8);
        let outcome = execute(&bytes)?;
        check!(outcome != Ok(0), "entry {entry:#x}: {outcome:?}");
    }
    Ok(())
}

fn elf_overlapping_segments() -> Outcome {
    let image = image()?;
    let all = loads(&image);
    let mut bytes = image.clone();
    for pair in all.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let address = bytes[a + 16..a + 24].to_vec();
        bytes[b + 16..b + 24].copy_from_slice(&address);
    }
    check!(execute(&bytes)? != Ok(0));
    // Thousands of headers, all loading the same.
    let mut bytes = image.clone();
    let header = image[all[0]..all[0] + 56].to_vec();
    let at = bytes.len().next_multiple_of(8);
    bytes.resize(at, 0);
    for _ in 0..1170 {
        bytes.extend_from_slice(&header);
    }
    put(&mut bytes, 32, at as u64, 8);
    put(&mut bytes, 56, 1170, 2);
    let _ = execute(&bytes)?;
    put(&mut bytes, 56, 1171, 2);
    check!(matches!(execute(&bytes)?, Err(Errno(ENOEXEC | EIO))));
    Ok(())
}

fn elf_interpreter_missing() -> Outcome {
    let image = image()?;
    let with = |path: &[u8]| {
        let mut bytes = image.clone();
        // Turn the last header that is not PT_LOAD into PT_INTERP.
        let count = usize::from(bytes[56]);
        let table = usize::from(bytes[32]) | usize::from(bytes[33]) << 8;
        let loads = loads(&bytes);
        let Some(header) = (0..count).map(|n| table + n * 56).rfind(|at| !loads.contains(at)) else {
            return bytes;
        };
        let at = bytes.len() as u64;
        bytes.extend_from_slice(path);
        put(&mut bytes, header, 3, 4);
        put(&mut bytes, header + 8, at, 8);
        put(&mut bytes, header + 32, path.len() as u64, 8);
        put(&mut bytes, header + 40, path.len() as u64, 8);
        bytes
    };
    check_eq!(execute(&with(b"/missing/ld.so\0"))?, Err(Errno(ENOENT)));
    check_eq!(execute(&with(b"/dev\0"))?, Err(Errno(EACCES)));
    check_eq!(execute(&with(b"/etc/passwd\0"))?, Err(Errno(EACCES)));
    check_eq!(execute(&with(b"no end"))?, Err(Errno(ENOEXEC)));
    check_eq!(execute(&with(&[b'x'; 5000]))?, Err(Errno(ENOEXEC)));
    Ok(())
}

fn fork_bomb() -> Outcome {
    let child = fork(|| {
        let limit = rlimit { rlim_cur: 60, rlim_max: 60 };
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_NPROC, addr(&limit), 0);
        let _ = sys!(SYS_setpgid, 0, 0);
        let _ = sys!(SYS_setresuid, 7777, 7777, 7777);
        fn bomb() -> i32 {
            for _ in 0..2000 {
                let _ = fork(bomb);
            }
            0
        }
        bomb()
    })?;
    sleep_ms(300);
    // The rest of the system goes on.
    for n in 0..10 {
        check_eq!(in_child(|| n)?, n);
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(40);
    loop {
        // Killing the whole group may have to be repeated while it grows.
        let _ = kill(-child, SIGKILL);
        let _ = wait_options(child, WNOHANG);
        let left = std::fs::read_dir("/proc")?.filter_map(|e| {
            let status = std::fs::read_to_string(e.ok()?.path().join("status")).ok()?;
            (status.contains("Uid:\t7777") && !status.contains("State:\tZ")).then_some(())
        });
        if left.count() == 0 {
            break;
        }
        check!(std::time::Instant::now() < end);
        sleep_ms(10);
    }
    Ok(())
}

/// A child that eats memory until it is killed; how it ended.
fn eat(adjust: &str, shared: usize) -> crate::sys::Result<i32> {
    fork(|| {
        let _ = spew(c"/proc/self/oom_score_adj", adjust);
        atomic(shared).store(1, SeqCst);
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        loop {
            let Ok(at) = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, flags, -1, 0) else {
                continue;
            };
            for n in 0..256 {
                poke(at + n * 4096, n as u8 | 1);
            }
        }
    })
}

fn oom_kills_the_right_one() -> Outcome {
    // A bystander with a little memory, an innocent with much adjusted down, and the eater.
    spew(c"/proc/self/oom_score_adj", "-500")?;
    let shared = map_shared(4096)?;
    let ends = pipe(0)?;
    let bystander = fork(|| {
        let at = map_anon(4 << 20).unwrap_or(0);
        for n in 0..1024 {
            poke(at + n * 4096, 7);
        }
        let _ = read_vec(ends[0], 1);
        i32::from((0..1024).any(|n| peek(at + n * 4096) != 7))
    })?;
    let eater = eat("300", shared)?;
    check_eq!(wait_exit(eater)?, -SIGKILL);
    check!(state(bystander) == Some('S'), "{:?}", state(bystander));
    write(ends[1], b"x")?;
    check_eq!(wait_exit(bystander)?, 0);
    Ok(())
}

fn oom_survivors_work() -> Outcome {
    spew(c"/proc/self/oom_score_adj", "-500")?;
    let shared = map_shared(4096)?;
    let file = create(c"f", &vec![9; 1 << 20])?;
    for _ in 0..2 {
        let eater = eat("1000", shared)?;
        check_eq!(wait_exit(eater)?, -SIGKILL);
        check_eq!(in_child(|| 5)?, 5);
    }
    check!(read_all(file)?.iter().all(|b| *b == 9));
    check_eq!(std::thread::spawn(|| 3).join().unwrap_or(0), 3);
    Ok(())
}

fn deep_symlink_storm() -> Outcome {
    // Each link expands to many components: bounded by the link count and PATH_MAX.
    let target = std::ffi::CString::new("./".repeat(1000) + "next").unwrap_or_default();
    symlink(&target, c"next")?;
    check_err!(open(c"next", O_RDONLY, 0), ELOOP);
    mkdir(c"d", 0o755)?;
    symlink(c"../d/../d/../d/../d/x", c"d/x")?;
    check_err!(stat(c"d/x/../x/../x"), ELOOP);
    Ok(())
}

fn descriptor_exhaustion() -> Outcome {
    let limit = rlimit { rlim_cur: 4096, rlim_max: 4096 };
    sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, addr(&limit), 0)?;
    let mut last = 0;
    loop {
        match sys!(SYS_eventfd2, 0, 0) {
            Ok(fd) => last = fd,
            Err(errno) => {
                check_eq!(errno, Errno(EMFILE));
                break;
            }
        }
    }
    check_eq!(last, 4095);
    check_eq!(in_child(|| i32::from(fcntl(4095, F_GETFD, 0) != Ok(0)))?, 0);
    sys!(SYS_close_range, 3, u32::MAX, 0)?;
    check_eq!(open(c".", O_RDONLY, 0)?, 3);
    Ok(())
}

fn signal_storm() -> Outcome {
    extern "C" fn nothing(_: i32) {}
    let mut action: sigaction = zeroed();
    action.sa_sigaction = nothing as *const () as usize;
    action.sa_flags = SA_NODEFER;
    for signal in [SIGUSR1, SIGUSR2, 35, 36] {
        c!(sigaction(signal, &raw const action, std::ptr::null_mut()))?;
    }
    let parent = getpid();
    let children: Vec<i32> = (0..4)
        .map(|n| {
            fork(|| {
                for _ in 0..500 {
                    let _ = kill(parent, [SIGUSR1, SIGUSR2, 35, 36][n]);
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for child in children {
        loop {
            match wait_exit(child) {
                Err(Errno(EINTR)) => {}
                other => {
                    check_eq!(other, Ok(0));
                    break;
                }
            }
        }
    }
    Ok(())
}

fn memory_churn() -> Outcome {
    // Map, touch, protect, unmap in several threads of one address space.
    let threads: Vec<_> = (0..4_u64)
        .map(|seed| {
            std::thread::spawn(move || {
                let mut random = seed * 77 + 1;
                (0..300).all(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pages = (random >> 33) as usize % 30 + 1;
                    let Ok(at) = map_anon(pages * 4096) else { return false };
                    for n in 0..pages {
                        poke(at + n * 4096, n as u8 ^ seed as u8);
                    }
                    let _ = sys!(SYS_mprotect, at, pages / 2 * 4096 + 4096, PROT_READ);
                    let same = (0..pages).all(|n| peek(at + n * 4096) == n as u8 ^ seed as u8);
                    same && munmap(at, pages * 4096).is_ok()
                })
            })
        })
        .collect();
    check!(threads.into_iter().all(|t| t.join().is_ok_and(|ok| ok)));
    Ok(())
}

fn thread_churn() -> Outcome {
    // Threads that come and go while the process forks and takes signals.
    let child = fork(|| {
        for _ in 0..20 {
            let threads: Vec<_> =
                (0..8).map(|n| std::thread::spawn(move || (n, sys!(SYS_gettid).is_ok()))).collect();
            let _ = in_child(|| 0);
            if threads.into_iter().any(|t| t.join().is_err()) {
                return 1;
            }
        }
        // Exit with threads in the middle of everything.
        for _ in 0..8 {
            std::thread::spawn(|| {
                loop {
                    let _ = map_anon(4096);
                }
            });
        }
        sleep_ms(20);
        0
    })?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn bad_instructions() -> Outcome {
    let run = |code: &'static [u8]| {
        in_child(|| {
            let at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).unwrap_or(0);
            for (n, byte) in code.iter().enumerate() {
                poke(at + n, *byte);
            }
            let _ = sys!(SYS_mprotect, at, 4096, PROT_READ | PROT_EXEC);
            // SAFETY: the code faults at once, which ends this child.
            let function: extern "C" fn() = unsafe { std::mem::transmute(at) };
            function();
            0
        })
    };
    #[cfg(target_arch = "x86_64")]
    {
        check_eq!(run(&[0x0f, 0x0b])?, -SIGILL);
        check_eq!(run(&[0xf4])?, -SIGSEGV);
        check_eq!(run(&[0xcc])?, -SIGTRAP);
        check_eq!(run(&[0xfa])?, -SIGSEGV);
        check_eq!(run(&[0x0f, 0x20, 0xc0])?, -SIGSEGV);
        check_eq!(run(&[0x31, 0xc9, 0xf7, 0xf1])?, -SIGFPE);
        check_eq!(run(&[0xcd, 0x42])?, -SIGSEGV);
        check_eq!(run(&[0x0f, 0x32])?, -SIGSEGV);
        check_eq!(run(&[0xe4, 0x60])?, -SIGSEGV);
    }
    #[cfg(target_arch = "aarch64")]
    {
        check_eq!(run(&[0, 0, 0, 0])?, -SIGILL);
        check_eq!(run(&[0, 0, 0x20, 0xd4])?, -SIGTRAP);
        check_eq!(run(&[0x00, 0x10, 0x38, 0xd5])?, -SIGILL);
        check_eq!(run(&[0x02, 0, 0, 0xd4])?, -SIGILL);
        check_eq!(run(&[0x03, 0, 0, 0xd4])?, -SIGILL);
    }
    Ok(())
}

fn unaligned_stacks() -> Outcome {
    // A signal while the stack pointer is nonsense kills with SIGSEGV, no more.
    let status = in_child(|| {
        extern "C" fn nothing(_: i32) {}
        let _ = c!(signal(SIGSEGV, nothing as *const () as usize));
        wreck_stack();
        0
    })?;
    check_eq!(status, -SIGSEGV);
    Ok(())
}

fn wreck_stack() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: ends the process by a fault on the stack.
    unsafe {
        std::arch::asm!("mov rsp, 16", "push rax", options(noreturn));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: ends the process by a fault on the stack.
    unsafe {
        std::arch::asm!("mov x9, #32", "mov sp, x9", "str x9, [sp]", options(noreturn));
    }
}

fn epoll_chain_depth() -> Outcome {
    let create = || sys!(SYS_epoll_create1, 0).map(|fd| fd as i32);
    let event = epoll_event { events: EPOLLIN as u32, u64: 0 };
    let mut last = create()?;
    let mut depth = 0;
    let errno = loop {
        let next = create()?;
        match sys!(SYS_epoll_ctl, next, EPOLL_CTL_ADD, last, addr(&event)) {
            Ok(_) => depth += 1,
            Err(errno) => break errno,
        }
        last = next;
        check!(depth < 20);
    };
    check!(matches!(errno, Errno(ELOOP | EINVAL)), "{errno:?}");
    check!((4..=6).contains(&depth), "{depth}");
    Ok(())
}

fn many_mappings_limit() -> Outcome {
    let mut count = 0;
    let area = mmap(0, 140_000 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)?;
    let errno = loop {
        match sys!(SYS_mprotect, area + count * 2 * 4096, 4096, PROT_READ) {
            Ok(_) => count += 1,
            Err(errno) => break errno,
        }
        check!(count < 69_000);
    };
    check_eq!(errno, Errno(ENOMEM));
    check!((30_000..33_000).contains(&count), "{count}");
    munmap(area, 140_000 * 4096)?;
    Ok(())
}

fn randomized_calls() -> Outcome {
    // Arguments drawn from a pool of good and bad values, reproducibly.
    let last = record()?;
    for seed in 1..=8_u64 {
        let status = guarded(|| {
            let good = map_anon(65536).unwrap_or(0);
            let _ = open(c".", O_RDONLY, 0);
            let _ = pipe(O_NONBLOCK);
            let pool = [
                0,
                1,
                2,
                3,
                4,
                5,
                7,
                16,
                4096,
                65535,
                good,
                good + 4096,
                good + 65530,
                8,
                usize::MAX,
                usize::MAX >> 1,
                0xffff_ffff,
                1 << 47,
                getpid() as usize,
            ];
            let mut random = seed;
            for _ in 0..4000 {
                let mut draw = || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random as usize
                };
                let number = (draw() % 470) as i64;
                let mut args = [0; 6];
                for arg in &mut args {
                    *arg = pool[draw() % pool.len()];
                }
                if !skipped(number) {
                    let _ = call(number, args);
                }
            }
        })?;
        check!(status == 0, "seed {seed}: status {status}, {}", recorded(last));
    }
    Ok(())
}

fn sysinfo_and_uname() -> Outcome {
    let mut info: sysinfo = zeroed();
    sys!(SYS_sysinfo, addr_mut(&mut info))?;
    check!(info.totalram > 0 && info.freeram <= info.totalram && info.procs > 1);
    check!(info.mem_unit == 1 || info.mem_unit == 4096);
    check_err!(sys!(SYS_sysinfo, 1), EFAULT);
    check_err!(sys!(SYS_uname, 1), EFAULT);
    Ok(())
}

fn reboot_needs_magic() -> Outcome {
    check_err!(sys!(SYS_reboot, 1, 2, 3, 0), EINVAL);
    check_err!(sys!(SYS_reboot, 0xfee1_dead_u32, 672_274_793, 0x1234, 0), EINVAL);
    // Ctrl-Alt-Del handling on and off again.
    sys!(SYS_reboot, 0xfee1_dead_u32, 672_274_793, 0, 0)?;
    Ok(())
}

fn ptrace_basics() -> Outcome {
    let word = map_shared(4096)?;
    let child = fork(|| {
        let _ = sys!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
        let _ = kill(getpid(), SIGSTOP);
        atomic(word).store(7, SeqCst);
        9
    })?;
    let (_, status) = wait_options(child, 0)?;
    check!(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    check!(
        slurp(std::ffi::CString::new(format!("/proc/{child}/status")).unwrap_or_default().as_c_str())?
            .contains(&format!("TracerPid:\t{}\n", getpid()))
    );
    let mut value = 0_usize;
    sys!(SYS_ptrace, PTRACE_PEEKDATA, child, word, addr_mut(&mut value))?;
    check_eq!(value as u32, 0);
    check_err!(sys!(SYS_ptrace, PTRACE_PEEKDATA, child, 8, addr_mut(&mut value)), EIO);
    sys!(SYS_ptrace, PTRACE_CONT, child, 0, 0)?;
    check_eq!(wait_exit(child)?, 9);
    check_eq!(atomic(word).load(SeqCst), 7);
    check_err!(sys!(SYS_ptrace, PTRACE_CONT, 1, 0, 0), ESRCH);
    check_err!(sys!(SYS_ptrace, PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    Ok(())
}

fn personality_and_arch_prctl() -> Outcome {
    check_eq!(sys!(SYS_personality, 0xffff_ffff_u32)?, 0);
    sys!(SYS_personality, 0x004_0000)?;
    check_eq!(sys!(SYS_personality, 0xffff_ffff_u32)?, 0x004_0000);
    sys!(SYS_personality, 0)?;
    #[cfg(target_arch = "x86_64")]
    {
        let mut base = 0_usize;
        sys!(SYS_arch_prctl, 0x1003, addr_mut(&mut base))?;
        check!(base != 0);
        check_err!(sys!(SYS_arch_prctl, 0x1002, 0xffff_8000_0000_0000_usize), EPERM);
        check_err!(sys!(SYS_arch_prctl, 0x9999, 0), EINVAL);
    }
    Ok(())
}
