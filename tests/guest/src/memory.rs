//! Memory: mappings, protection, faults (mmap(2), mprotect(2), mremap(2), madvise(2), brk(2), …).

use crate::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4096;
/// si_code values that the libc crate does not name for musl.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const RW: i32 = PROT_READ | PROT_WRITE;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

tests![
    mmap_anonymous_is_zero,
    mmap_errors,
    mmap_fixed_replaces,
    mmap_fixed_noreplace,
    mmap_hint,
    mmap_file_private,
    mmap_file_shared,
    mmap_file_after_close_and_unlink,
    mmap_past_end_of_file,
    mmap_permissions,
    munmap_splits,
    mprotect_faults,
    mprotect_splits_and_merges,
    segv_codes,
    bus_error,
    stack_grows,
    stack_overflow,
    grows_down,
    mremap_grows,
    mremap_moves,
    mremap_errors,
    brk_moves,
    cow_after_fork,
    cow_tree,
    shared_between_processes,
    madvise_dontneed,
    madvise_misc,
    mincore_counts,
    msync_flags,
    mlock_limits,
    mlockall_future,
    rlimit_as,
    zero_page_reads,
    populate,
    exec_page,
    fork_with_many_maps,
    truncate_under_mapping,
    write_through_proc_mem,
    user_pointer_across_pages,
    membarrier_query,
    dev_zero_mapping,
    null_page,
    big_sparse_map,
    wipe_and_dont_fork,
    file_mapping_sees_writes,
    map_shared_validate,
    mseal_protects,
];

/// What the last fault handler saw: signal, code, address.
static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

extern "C" fn record(signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    SEEN[0].store(signal as usize, Ordering::SeqCst);
    SEEN[1].store(code as usize, Ordering::SeqCst);
    SEEN[2].store(address, Ordering::SeqCst);
    // Exit status tells the test; returning would fault again.
    exit(100 + signal);
}

/// Runs `body` in a child that records a fault: exit status, si_code, address; 0 if none came.
fn fault(body: impl FnOnce()) -> crate::sys::Result<(i32, i32, usize)> {
    // The signal travels in the exit status, code and address in shared memory: at a fixed place,
    // so that it does not fill a hole that the test has just made.
    let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    let shared = mmap(0x2000_0000, 32 * PAGE, RW, flags, -1, 0)?;
    SHARED.store(shared, Ordering::SeqCst);
    let status = in_child(|| {
        let mut action: sigaction = zeroed();
        action.sa_sigaction = share as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        let stack = shared + 16 * PAGE;
        let alternative = stack_t { ss_sp: stack as *mut _, ss_flags: 0, ss_size: 65536 };
        let _ = c!(sigaltstack(&raw const alternative, std::ptr::null_mut()));
        for signal in [SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE] {
            let _ = c!(sigaction(signal, &raw const action, std::ptr::null_mut()));
        }
        body();
        0
    })?;
    let code = atomic(shared).load(Ordering::SeqCst) as i32;
    let low = atomic(shared + 8).load(Ordering::SeqCst) as usize;
    let high = atomic(shared + 12).load(Ordering::SeqCst) as usize;
    munmap(shared, 32 * PAGE)?;
    Ok((if status > 100 { status - 100 } else { -status }, code, high << 32 | low))
}

/// Reads the byte at `at`.
fn touch(at: usize) {
    let _ = peek(at);
}

static SHARED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn share(signal: i32, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let shared = SHARED.load(Ordering::SeqCst);
    atomic(shared).store(code as u32, Ordering::SeqCst);
    atomic(shared + 8).store(address as u32, Ordering::SeqCst);
    atomic(shared + 12).store((address >> 32) as u32, Ordering::SeqCst);
    record(signal, info, context);
}

fn mmap_anonymous_is_zero() -> Outcome {
    let at = map_anon(16 * PAGE)?;
    check_eq!(at % PAGE, 0);
    check!((0..16 * PAGE).step_by(511).all(|n| peek(at + n) == 0));
    poke(at + 5 * PAGE, 7);
    check_eq!(peek(at + 5 * PAGE), 7);
    munmap(at, 16 * PAGE)?;
    let again = map_anon(16 * PAGE)?;
    check_eq!(peek(again + 5 * PAGE), 0);
    check_eq!(map_anon(1).map(|a| a % PAGE)?, 0);
    Ok(())
}

fn mmap_errors() -> Outcome {
    check_err!(mmap(0, 0, RW, ANON, -1, 0), EINVAL);
    check_err!(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, 99, 0), EBADF);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
    check_err!(mmap(1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    check_err!(mmap(0, usize::MAX, RW, ANON, -1, 0), ENOMEM);
    check_err!(mmap(0, 1 << 62, RW, ANON, -1, 0), ENOMEM);
    check_err!(mmap(0xffff_8000_0000_0000, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    let fd = create(c"f", b"x")?;
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 1), EINVAL);
    check_err!(mmap(0, PAGE, RW, MAP_SHARED, open(c"f", O_RDONLY, 0)?, 0), EACCES);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, open(c"f", O_WRONLY, 0)?, 0), EACCES);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, open(c".", O_RDONLY, 0)?, 0), ENODEV);
    check_err!(mmap(0, PAGE, RW, MAP_PRIVATE, pipe(0)?[0], 0), ENODEV);
    check_err!(munmap(1, PAGE), EINVAL);
    check_err!(munmap(0, 0), EINVAL);
    check_err!(munmap(0, usize::MAX), EINVAL);
    // Nothing there: nothing to do.
    munmap(0x10_0000, PAGE)?;
    Ok(())
}

fn mmap_fixed_replaces() -> Outcome {
    let at = map_anon(3 * PAGE)?;
    poke(at, 1);
    poke(at + PAGE, 2);
    poke(at + 2 * PAGE, 3);
    check_eq!(mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0)?, at + PAGE);
    check_eq!((peek(at), peek(at + PAGE), peek(at + 2 * PAGE)), (1, 0, 3));
    Ok(())
}

fn mmap_fixed_noreplace() -> Outcome {
    let at = map_anon(3 * PAGE)?;
    let flags = ANON | MAP_FIXED_NOREPLACE;
    check_err!(mmap(at + PAGE, PAGE, RW, flags, -1, 0), EEXIST);
    munmap(at + PAGE, PAGE)?;
    check_eq!(mmap(at + PAGE, PAGE, RW, flags, -1, 0)?, at + PAGE);
    check_err!(mmap(at, 10 * PAGE, RW, flags, -1, 0), EEXIST);
    Ok(())
}

fn mmap_hint() -> Outcome {
    let at = map_anon(8 * PAGE)?;
    munmap(at, 8 * PAGE)?;
    check_eq!(mmap(at + PAGE, PAGE, RW, ANON, -1, 0)?, at + PAGE);
    // Taken: somewhere else, not an error.
    check!(mmap(at + PAGE, PAGE, RW, ANON, -1, 0)? != at + PAGE);
    Ok(())
}

fn mmap_file_private() -> Outcome {
    let fd = create(c"f", &[b'a'; 2 * PAGE])?;
    let at = mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0)?;
    check_eq!(peek(at), b'a');
    poke(at, b'b');
    check_eq!(slurp(c"f")?.as_bytes()[0], b'a');
    // What is not yet copied shows later writes to the file.
    sys!(SYS_pwrite64, fd, b"z".as_ptr(), 1, PAGE)?;
    check_eq!(peek(at + PAGE), b'z');
    let second = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE as u64)?;
    check_eq!(peek(second), b'z');
    Ok(())
}

fn mmap_file_shared() -> Outcome {
    let fd = create(c"f", &[b'a'; 100])?;
    let at = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    let other = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0)?;
    poke(at + 10, b'X');
    check_eq!(peek(other + 10), b'X');
    check_eq!(slurp(c"f")?.as_bytes()[10], b'X');
    write(fd, b"hello")?;
    check_eq!(peek(at + 4), b'o');
    // Beyond the end of the file, in the last page: zero, and never written back.
    check_eq!(peek(at + 100), 0);
    poke(at + 200, 9);
    check_eq!(fstat(fd)?.st_size, 100);
    let status = in_child(|| {
        poke(at + 20, b'C');
        0
    })?;
    check_eq!((status, peek(other + 20)), (0, b'C'));
    Ok(())
}

fn mmap_file_after_close_and_unlink() -> Outcome {
    let fd = create(c"f", b"still here")?;
    let at = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    close(fd)?;
    unlink(c"f")?;
    check_eq!(peek(at), b's');
    poke(at, b'S');
    check_eq!(peek(at), b'S');
    let maps = slurp(c"/proc/self/maps")?;
    check!(maps.contains("/f (deleted)"));
    Ok(())
}

fn mmap_past_end_of_file() -> Outcome {
    let fd = create(c"f", b"x")?;
    let at = mmap(0, 3 * PAGE, PROT_READ, MAP_SHARED, fd, 0)?;
    check_eq!(peek(at + 5), 0);
    check_eq!(fault(|| touch(at + PAGE))?, (SIGBUS, BUS_ADRERR, at + PAGE));
    sys!(SYS_ftruncate, fd, 2 * PAGE)?;
    check_eq!(peek(at + PAGE), 0);
    // A system call gets EFAULT where an access would get SIGBUS.
    check_err!(sys!(SYS_write, open(c"g", O_CREAT | O_WRONLY, 0o600)?, at + 2 * PAGE, 8), EFAULT);
    Ok(())
}

fn mmap_permissions() -> Outcome {
    let none = mmap(0, PAGE, PROT_NONE, ANON, -1, 0)?;
    check_eq!(fault(|| touch(none))?, (SIGSEGV, SEGV_ACCERR, none));
    let read = mmap(0, PAGE, PROT_READ, ANON, -1, 0)?;
    check_eq!(peek(read), 0);
    check_eq!(fault(|| poke(read + 8, 1))?, (SIGSEGV, SEGV_ACCERR, read + 8));
    check_err!(sys!(SYS_read, open(c"/dev/zero", O_RDONLY, 0)?, read, 8), EFAULT);
    // Writable implies readable on both architectures.
    let write = mmap(0, PAGE, PROT_WRITE, ANON, -1, 0)?;
    poke(write, 3);
    check_eq!(peek(write), 3);
    Ok(())
}

fn munmap_splits() -> Outcome {
    let at = map_anon(5 * PAGE)?;
    for n in 0..5 {
        poke(at + n * PAGE, n as u8 + 1);
    }
    munmap(at + 2 * PAGE, PAGE)?;
    check_eq!((peek(at + PAGE), peek(at + 3 * PAGE)), (2, 4));
    check_eq!(fault(|| touch(at + 2 * PAGE))?, (SIGSEGV, SEGV_MAPERR, at + 2 * PAGE));
    // One call over holes and several mappings.
    munmap(at, 5 * PAGE)?;
    check_eq!(fault(|| touch(at + 4 * PAGE))?, (SIGSEGV, SEGV_MAPERR, at + 4 * PAGE));
    Ok(())
}

fn mprotect_faults() -> Outcome {
    let at = map_anon(PAGE)?;
    poke(at, 1);
    sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
    check_eq!(peek(at), 1);
    check_eq!(fault(|| poke(at, 2))?, (SIGSEGV, SEGV_ACCERR, at));
    sys!(SYS_mprotect, at, PAGE, PROT_NONE)?;
    check_eq!(fault(|| touch(at))?, (SIGSEGV, SEGV_ACCERR, at));
    sys!(SYS_mprotect, at, PAGE, RW)?;
    check_eq!(peek(at), 1);
    poke(at, 5);
    check_err!(sys!(SYS_mprotect, at + 1, PAGE, RW), EINVAL);
    check_err!(sys!(SYS_mprotect, at, PAGE, 0x100), EINVAL);
    munmap(at, PAGE)?;
    check_err!(sys!(SYS_mprotect, at, PAGE, RW), ENOMEM);
    let fd = create(c"f", b"x")?;
    let at = mmap(0, PAGE, PROT_READ, MAP_SHARED, open(c"f", O_RDONLY, 0)?, 0)?;
    check_err!(sys!(SYS_mprotect, at, PAGE, RW), EACCES);
    close(fd)?;
    Ok(())
}

/// The lines of /proc/self/maps that lie in `[from, to)`.
fn maps_in(from: usize, to: usize) -> crate::sys::Result<Vec<String>> {
    let text = slurp(c"/proc/self/maps")?;
    Ok(text
        .lines()
        .filter(|line| {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            range.is_some_and(|(a, b)| {
                let (a, b) = (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16));
                a.is_ok_and(|a| a < to) && b.is_ok_and(|b| b > from)
            })
        })
        .map(str::to_string)
        .collect())
}

fn mprotect_splits_and_merges() -> Outcome {
    // Guarded on both sides, so that nothing else merges with it.
    let guard = mmap(0, 7 * PAGE, PROT_NONE, ANON, -1, 0)?;
    let at = guard + PAGE;
    mmap(at, 5 * PAGE, RW, ANON | MAP_FIXED, -1, 0)?;
    let end = at + 5 * PAGE;
    check_eq!(maps_in(at, end)?.len(), 1);
    sys!(SYS_mprotect, at + PAGE, PAGE, PROT_READ)?;
    let lines = maps_in(at, end)?;
    check_eq!(lines.len(), 3);
    check!(lines[1].contains(" r--p "), "{}", lines[1]);
    sys!(SYS_mprotect, at + PAGE, PAGE, RW)?;
    check_eq!(maps_in(at, end)?.len(), 1);
    Ok(())
}

fn segv_codes() -> Outcome {
    check_eq!(fault(|| touch(0x1000))?, (SIGSEGV, SEGV_MAPERR, 0x1000));
    check_eq!(fault(|| poke(0x123, 1))?, (SIGSEGV, SEGV_MAPERR, 0x123));
    let at = map_anon(PAGE)?;
    let (signal, code, _) = fault(|| {
        // SAFETY: there is no code at the address; the jump is meant to fault.
        let function: extern "C" fn() = unsafe { std::mem::transmute(at) };
        function();
    })?;
    check_eq!((signal, code), (SIGSEGV, SEGV_ACCERR));
    // The kernel's half of the address space is as good as not mapped.
    let (signal, _, _) = fault(|| touch(0xffff_ffff_8000_0000))?;
    check_eq!(signal, SIGSEGV);
    let (signal, _, _) = fault(|| poke(0xffff_8000_0000_0000, 1))?;
    check_eq!(signal, SIGSEGV);
    Ok(())
}

fn bus_error() -> Outcome {
    let fd = create(c"f", &[1; 2 * PAGE])?;
    let at = mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0)?;
    check_eq!(peek(at + PAGE), 1);
    sys!(SYS_ftruncate, fd, PAGE)?;
    check_eq!(fault(|| touch(at + PAGE))?, (SIGBUS, BUS_ADRERR, at + PAGE));
    check_eq!(fault(|| poke(at + PAGE + 7, 1))?, (SIGBUS, BUS_ADRERR, at + PAGE + 7));
    Ok(())
}

fn stack_grows() -> Outcome {
    #[inline(never)]
    fn recurse(n: usize) -> usize {
        let block = std::hint::black_box([n as u8; 4096]);
        if n == 0 { 0 } else { recurse(n - 1) + usize::from(block[n % 4096] != n as u8) }
    }
    // Four megabytes of an eight megabyte stack, on the first thread's stack.
    check_eq!(in_child(|| recurse(900) as i32)?, 0);
    Ok(())
}

fn stack_overflow() -> Outcome {
    let status = in_child(|| {
        let args = [c"helper:smash".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), args.as_ptr(), 0);
        1
    })?;
    // Rust's own handler reports it and aborts; a program without one dies of SIGSEGV.
    check!(status == -SIGSEGV || status == -SIGABRT, "{status}");
    Ok(())
}

fn grows_down() -> Outcome {
    let area = mmap(0, 512 * PAGE, PROT_NONE, ANON, -1, 0)?;
    munmap(area, 512 * PAGE)?;
    let top = area + 511 * PAGE;
    let flags = ANON | MAP_FIXED | MAP_GROWSDOWN;
    let at = mmap(top, PAGE, RW, flags, -1, 0)?;
    poke(at, 1);
    poke(at - PAGE, 2);
    poke(at - 2 * PAGE, 3);
    check_eq!((peek(at), peek(at - PAGE), peek(at - 2 * PAGE)), (1, 2, 3));
    check!(!maps_in(at - 2 * PAGE, at)?.is_empty());
    Ok(())
}

fn mremap_grows() -> Outcome {
    let area = mmap(0, 8 * PAGE, PROT_NONE, ANON, -1, 0)?;
    let at = mmap(area, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0)?;
    poke(at, 1);
    poke(at + PAGE, 2);
    check_err!(sys!(SYS_mremap, at, 2 * PAGE, 4 * PAGE, 0), ENOMEM);
    munmap(area + 2 * PAGE, 6 * PAGE)?;
    check_eq!(sys!(SYS_mremap, at, 2 * PAGE, 4 * PAGE, 0)?, at);
    check_eq!((peek(at + PAGE), peek(at + 3 * PAGE)), (2, 0));
    check_eq!(sys!(SYS_mremap, at, 4 * PAGE, PAGE, 0)?, at);
    check_eq!(fault(|| touch(at + PAGE))?.1, SEGV_MAPERR);
    check_eq!(peek(at), 1);
    Ok(())
}

fn mremap_moves() -> Outcome {
    let area = mmap(0, 2 * PAGE, PROT_NONE, ANON, -1, 0)?;
    let at = mmap(area, PAGE, RW, ANON | MAP_FIXED, -1, 0)?;
    poke(at, 42);
    let moved = sys!(SYS_mremap, at, PAGE, 3 * PAGE, MREMAP_MAYMOVE)?;
    check!(moved != at);
    check_eq!((peek(moved), peek(moved + 2 * PAGE)), (42, 0));
    check_eq!(fault(|| touch(at))?.1, SEGV_MAPERR);
    let target = map_anon(4 * PAGE)?;
    poke(target, 9);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    check_eq!(sys!(SYS_mremap, moved, PAGE, PAGE, flags, target)?, target);
    check_eq!(peek(target), 42);
    // MREMAP_DONTUNMAP leaves an empty mapping behind.
    let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let twin = sys!(SYS_mremap, target, PAGE, PAGE, flags, 0)?;
    check_eq!((peek(twin), peek(target)), (42, 0));
    Ok(())
}

fn mremap_errors() -> Outcome {
    let at = map_anon(2 * PAGE)?;
    check_err!(sys!(SYS_mremap, at + 1, PAGE, PAGE, 0), EINVAL);
    check_err!(sys!(SYS_mremap, at, PAGE, 0, 0), EINVAL);
    check_err!(sys!(SYS_mremap, at, PAGE, PAGE, 0x100), EINVAL);
    check_err!(sys!(SYS_mremap, at, PAGE, PAGE, MREMAP_FIXED, at), EINVAL);
    check_err!(sys!(SYS_mremap, at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at), EINVAL);
    munmap(at + PAGE, PAGE)?;
    check_err!(sys!(SYS_mremap, at, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE), EFAULT);
    check_err!(sys!(SYS_mremap, 0x1000, PAGE, PAGE, MREMAP_MAYMOVE), EFAULT);
    Ok(())
}

fn brk_moves() -> Outcome {
    let start = sys!(SYS_brk, 0)?;
    check_eq!(sys!(SYS_brk, start + 10 * PAGE)?, start + 10 * PAGE);
    poke(start + 9 * PAGE, 1);
    check_eq!(peek(start + 5 * PAGE), 0);
    check_eq!(sys!(SYS_brk, start)?, start);
    check_eq!(fault(|| touch(start + 9 * PAGE))?.0, SIGSEGV);
    check_eq!(sys!(SYS_brk, start + 10 * PAGE)?, start + 10 * PAGE);
    check_eq!(peek(start + 9 * PAGE), 0);
    // Refusal is told by the old value.
    check_eq!(sys!(SYS_brk, 1)?, start + 10 * PAGE);
    check_eq!(sys!(SYS_brk, usize::MAX - PAGE)?, start + 10 * PAGE);
    check!(slurp(c"/proc/self/maps")?.contains("[heap]"));
    let limit = rlimit { rlim_cur: 0, rlim_max: RLIM_INFINITY };
    sys!(SYS_prlimit64, 0, RLIMIT_DATA, addr(&limit), 0)?;
    check_eq!(sys!(SYS_brk, start + 2000 * PAGE)?, start + 10 * PAGE);
    Ok(())
}

fn cow_after_fork() -> Outcome {
    let at = map_anon(64 * PAGE)?;
    for n in 0..64 {
        poke(at + n * PAGE, n as u8);
    }
    let status = in_child(|| {
        let same = (0..64).all(|n| peek(at + n * PAGE) == n as u8);
        for n in 0..64 {
            poke(at + n * PAGE, 200);
        }
        let mine = (0..64).all(|n| peek(at + n * PAGE) == 200);
        i32::from(!(same && mine))
    })?;
    check_eq!(status, 0);
    check!((0..64).all(|n| peek(at + n * PAGE) == n as u8));
    // The kernel too writes to the child's own copy.
    let zero = open(c"/dev/zero", O_RDONLY, 0)?;
    let status = in_child(|| i32::from(sys!(SYS_read, zero, at + PAGE, PAGE) != Ok(PAGE)))?;
    check_eq!((status, peek(at + PAGE)), (0, 1));
    Ok(())
}

fn cow_tree() -> Outcome {
    let at = map_anon(PAGE)?;
    poke(at, 1);
    let status = in_child(|| {
        let inner = in_child(|| {
            poke(at, 3);
            i32::from(peek(at) != 3)
        });
        let kept = peek(at) == 1;
        poke(at, 2);
        i32::from(inner != Ok(0)) | i32::from(!kept) << 1 | i32::from(peek(at) != 2) << 2
    })?;
    check_eq!((status, peek(at)), (0, 1));
    Ok(())
}

fn shared_between_processes() -> Outcome {
    let at = map_shared(PAGE)?;
    let count = 20_000;
    let body = || {
        for _ in 0..count {
            atomic(at).fetch_add(1, Ordering::SeqCst);
        }
        0
    };
    let children = [fork(body)?, fork(body)?, fork(body)?];
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!(atomic(at).load(Ordering::SeqCst), 3 * count);
    Ok(())
}

fn madvise_dontneed() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    poke(at + PAGE, 5);
    poke(at + 2 * PAGE, 6);
    sys!(SYS_madvise, at + PAGE, PAGE, MADV_DONTNEED)?;
    check_eq!((peek(at + PAGE), peek(at + 2 * PAGE)), (0, 6));
    let fd = create(c"f", b"file")?;
    let map = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0)?;
    poke(map, b'X');
    sys!(SYS_madvise, map, PAGE, MADV_DONTNEED)?;
    check_eq!(peek(map), b'f');
    sys!(SYS_madvise, at, 4 * PAGE, MADV_FREE)?;
    Ok(())
}

fn madvise_misc() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    for advice in [MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_COLD] {
        sys!(SYS_madvise, at, 4 * PAGE, advice)?;
    }
    check_err!(sys!(SYS_madvise, at, PAGE, 999), EINVAL);
    check_err!(sys!(SYS_madvise, at + 1, PAGE, MADV_NORMAL), EINVAL);
    munmap(at + PAGE, PAGE)?;
    check_err!(sys!(SYS_madvise, at, 4 * PAGE, MADV_NORMAL), ENOMEM);
    sys!(SYS_madvise, at, PAGE, MADV_POPULATE_WRITE)?;
    let mut resident = [0_u8; 1];
    sys!(SYS_mincore, at, PAGE, resident.as_mut_ptr())?;
    check_eq!(resident[0] & 1, 1);
    // MADV_REMOVE punches a hole into a shared mapping's file.
    let shared = map_shared(2 * PAGE)?;
    poke(shared, 1);
    sys!(SYS_madvise, shared, PAGE, MADV_REMOVE)?;
    check_eq!(peek(shared), 0);
    Ok(())
}

fn mincore_counts() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    poke(at + PAGE, 1);
    let mut resident = [9_u8; 4];
    sys!(SYS_mincore, at, 4 * PAGE, resident.as_mut_ptr())?;
    check_eq!(resident.map(|b| b & 1), [0, 1, 0, 0]);
    munmap(at + 2 * PAGE, PAGE)?;
    check_err!(sys!(SYS_mincore, at, 4 * PAGE, resident.as_mut_ptr()), ENOMEM);
    check_err!(sys!(SYS_mincore, at + 1, PAGE, resident.as_mut_ptr()), EINVAL);
    check_err!(sys!(SYS_mincore, at, PAGE, 1), EFAULT);
    Ok(())
}

fn msync_flags() -> Outcome {
    let fd = create(c"f", b"data")?;
    let at = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    poke(at, b'D');
    sys!(SYS_msync, at, PAGE, MS_SYNC)?;
    sys!(SYS_msync, at, PAGE, MS_ASYNC)?;
    check_err!(sys!(SYS_msync, at, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    check_err!(sys!(SYS_msync, at + 1, PAGE, MS_SYNC), EINVAL);
    check_err!(sys!(SYS_msync, at, PAGE, 64), EINVAL);
    munmap(at, PAGE)?;
    check_err!(sys!(SYS_msync, at, PAGE, MS_SYNC), ENOMEM);
    Ok(())
}

fn mlock_limits() -> Outcome {
    let at = map_anon(16 * PAGE)?;
    sys!(SYS_mlock, at, 16 * PAGE)?;
    let mut resident = [0_u8; 16];
    sys!(SYS_mincore, at, 16 * PAGE, resident.as_mut_ptr())?;
    check!(resident.iter().all(|b| b & 1 == 1));
    let status = slurp(c"/proc/self/status")?;
    check!(status.contains("VmLck:\t      64 kB"), "{status}");
    sys!(SYS_munlock, at, 16 * PAGE)?;
    check_err!(sys!(SYS_mlock, 0x1000, PAGE), ENOMEM);
    check_err!(sys!(SYS_mlock2, at, PAGE, 8), EINVAL);
    sys!(SYS_mlock2, at, PAGE, MLOCK_ONFAULT)?;
    let status = in_child(|| {
        let limit = rlimit { rlim_cur: 8192, rlim_max: 8192 };
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_MEMLOCK, addr(&limit), 0);
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let over = sys!(SYS_mlock, at, 16 * PAGE) == Err(Errno(ENOMEM));
        let fine = sys!(SYS_mlock, at, PAGE).is_ok();
        i32::from(!over) | i32::from(!fine) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn mlockall_future() -> Outcome {
    sys!(SYS_mlockall, MCL_CURRENT | MCL_FUTURE)?;
    let at = map_anon(4 * PAGE)?;
    let mut resident = [0_u8; 4];
    sys!(SYS_mincore, at, 4 * PAGE, resident.as_mut_ptr())?;
    check_eq!(resident.map(|b| b & 1), [1; 4]);
    sys!(SYS_munlockall)?;
    check_err!(sys!(SYS_mlockall, 0), EINVAL);
    check_err!(sys!(SYS_mlockall, 64), EINVAL);
    Ok(())
}

fn rlimit_as() -> Outcome {
    let limit = rlimit { rlim_cur: 256 << 20, rlim_max: 256 << 20 };
    sys!(SYS_prlimit64, 0, RLIMIT_AS, addr(&limit), 0)?;
    check_err!(map_anon(512 << 20), ENOMEM);
    check!(map_anon(16 << 20).is_ok());
    Ok(())
}

fn zero_page_reads() -> Outcome {
    // Reading untouched memory costs no memory.
    let at = map_anon(64 << 20)?;
    let before = rss()?;
    for n in (0..64 << 20).step_by(PAGE) {
        check_eq!(peek(at + n), 0);
    }
    let grown = rss()?.saturating_sub(before);
    check!(grown < 1024, "{grown} kB");
    poke(at + PAGE, 1);
    check_eq!((peek(at + PAGE), peek(at + 2 * PAGE)), (1, 0));
    Ok(())
}

/// Resident anonymous memory in kB.
fn rss() -> Result<usize, Failure> {
    let status = slurp(c"/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).ok_or_else(|| Failure::new("no RssAnon"))
}

fn populate() -> Outcome {
    let at = mmap(0, 8 * PAGE, RW, ANON | MAP_POPULATE, -1, 0)?;
    let mut resident = [0_u8; 8];
    sys!(SYS_mincore, at, 8 * PAGE, resident.as_mut_ptr())?;
    check!(resident.iter().all(|b| b & 1 == 1));
    let before = rss()?;
    let at = map_anon(1 << 20)?;
    for n in 0..256 {
        poke(at + n * PAGE, 1);
    }
    let grown = rss()? - before;
    check!((1000..1200).contains(&grown), "{grown} kB");
    munmap(at, 1 << 20)?;
    check!(rss()? < before + 100);
    Ok(())
}

fn exec_page() -> Outcome {
    #[cfg(target_arch = "x86_64")]
    let code: &[u8] = &[0xb8, 0x2a, 0, 0, 0, 0xc3];
    #[cfg(target_arch = "aarch64")]
    let code: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];
    // Through a file, so that the kernel makes the instruction cache coherent.
    let fd = create(c"code", code)?;
    let at = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0)?;
    // SAFETY: the page holds a complete function that returns 42.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(at) };
    check_eq!(function(), 42);
    sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
    let (signal, code, address) = fault(|| {
        function();
    })?;
    check_eq!((signal, code, address), (SIGSEGV, SEGV_ACCERR, at));
    Ok(())
}

fn fork_with_many_maps() -> Outcome {
    let base = mmap(0, 2000 * PAGE, PROT_NONE, ANON, -1, 0)?;
    for n in (0..2000).step_by(2) {
        sys!(SYS_mprotect, base + n * PAGE, PAGE, RW)?;
        poke(base + n * PAGE, n as u8);
    }
    let status = in_child(|| {
        let same = (0..2000).step_by(2).all(|n| peek(base + n * PAGE) == n as u8);
        i32::from(!same)
    })?;
    check_eq!(status, 0);
    munmap(base, 2000 * PAGE)?;
    Ok(())
}

fn truncate_under_mapping() -> Outcome {
    let fd = create(c"f", &[5; 3 * PAGE])?;
    let private = mmap(0, 3 * PAGE, RW, MAP_PRIVATE, fd, 0)?;
    poke(private + 2 * PAGE, 9);
    sys!(SYS_ftruncate, fd, PAGE / 2)?;
    sys!(SYS_ftruncate, fd, 3 * PAGE)?;
    // What was cut away is gone, for private copies too; what comes back is zero.
    check_eq!(peek(private + 2 * PAGE), 0);
    check_eq!((peek(private + PAGE / 2 - 1), peek(private + PAGE / 2)), (5, 0));
    Ok(())
}

fn write_through_proc_mem() -> Outcome {
    let at = map_anon(PAGE)?;
    poke(at, 1);
    let fd = open(c"/proc/self/mem", O_RDWR, 0)?;
    let mut byte = [0_u8];
    sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, at)?;
    check_eq!(byte, [1]);
    sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
    sys!(SYS_pwrite64, fd, [7_u8].as_ptr(), 1, at)?;
    check_eq!(peek(at), 7);
    check_err!(sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, 0x1000), EIO);
    Ok(())
}

fn user_pointer_across_pages() -> Outcome {
    // A name that ends right before an unmapped page, and one that does not end.
    let at = map_anon(2 * PAGE)?;
    munmap(at + PAGE, PAGE)?;
    for (n, byte) in b"/dev\0".iter().enumerate() {
        poke(at + PAGE - 5 + n, *byte);
    }
    check!(sys!(SYS_openat, CWD, at + PAGE - 5, O_RDONLY, 0).is_ok());
    poke(at + PAGE - 1, b'/');
    check_err!(sys!(SYS_openat, CWD, at + PAGE - 5, O_RDONLY, 0), EFAULT);
    // A structure across the edge.
    check_err!(sys!(SYS_newfstatat, CWD, c"/".as_ptr(), at + PAGE - 16, 0), EFAULT);
    Ok(())
}

fn membarrier_query() -> Outcome {
    let commands = sys!(SYS_membarrier, 0, 0, 0)?;
    check!(commands & 1 == 1);
    check_err!(sys!(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
    // MEMBARRIER_CMD_PRIVATE_EXPEDITED needs to be registered first.
    check_err!(sys!(SYS_membarrier, 8, 0, 0), EPERM);
    sys!(SYS_membarrier, 16, 0, 0)?;
    sys!(SYS_membarrier, 8, 0, 0)?;
    Ok(())
}

fn dev_zero_mapping() -> Outcome {
    let fd = open(c"/dev/zero", O_RDWR, 0)?;
    let at = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0)?;
    poke(at, 1);
    check_eq!((peek(at), peek(at + 1)), (1, 0));
    let shared = mmap(0, PAGE, RW, MAP_SHARED, fd, 0)?;
    let status = in_child(|| {
        poke(shared, 3);
        0
    })?;
    check_eq!((status, peek(shared)), (0, 3));
    Ok(())
}

fn null_page() -> Outcome {
    let minimum: usize = slurp(c"/proc/sys/vm/mmap_min_addr")?.trim().parse().unwrap_or(0);
    check!(minimum >= 4096, "{minimum}");
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(mmap(0, PAGE, RW, ANON | MAP_FIXED, -1, 0) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn big_sparse_map() -> Outcome {
    let flags = ANON | MAP_NORESERVE;
    let at = mmap(0, 1 << 40, RW, flags, -1, 0)?;
    for n in 0..16 {
        poke(at + (n << 36), n as u8 + 1);
    }
    check!((0..16).all(|n| peek(at + (n << 36)) == n as u8 + 1));
    munmap(at, 1 << 40)?;
    // Without it, the overcommit heuristic refuses what can never be had.
    check_err!(map_anon(1 << 40), ENOMEM);
    Ok(())
}

fn wipe_and_dont_fork() -> Outcome {
    let (wiped, absent) = (map_anon(PAGE)?, map_anon(PAGE)?);
    poke(wiped, 1);
    poke(absent, 2);
    sys!(SYS_madvise, wiped, PAGE, MADV_WIPEONFORK)?;
    sys!(SYS_madvise, absent, PAGE, MADV_DONTFORK)?;
    let status = in_child(|| {
        let zero = peek(wiped) == 0;
        let gone = sys!(SYS_msync, absent, PAGE, MS_ASYNC) == Err(Errno(ENOMEM));
        i32::from(!zero) | i32::from(!gone) << 1
    })?;
    check_eq!((status, peek(wiped), peek(absent)), (0, 1, 2));
    Ok(())
}

fn file_mapping_sees_writes() -> Outcome {
    // Through fork and exec of the mapping's owner: page cache and mapping are one.
    let fd = create(c"f", &[0; 3 * PAGE])?;
    let at = mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0)?;
    for n in 0..3 * PAGE {
        if n % 997 == 0 {
            poke(at + n, (n % 251) as u8 + 1);
        }
    }
    let bytes = std::fs::read("f")?;
    for n in (0..3 * PAGE).step_by(997) {
        check_eq!(bytes[n], (n % 251) as u8 + 1);
    }
    sys!(SYS_pwrite64, fd, [0xaa_u8; 100].as_ptr(), 100, PAGE - 50)?;
    check!((PAGE - 50..PAGE + 50).all(|n| peek(at + n) == 0xaa));
    Ok(())
}

fn map_shared_validate() -> Outcome {
    let fd = create(c"f", b"x")?;
    check!(mmap(0, PAGE, RW, MAP_SHARED_VALIDATE, fd, 0).is_ok());
    check_err!(mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
    check_err!(mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | 0x20_0000, fd, 0), EOPNOTSUPP);
    Ok(())
}

fn mseal_protects() -> Outcome {
    let at = map_anon(PAGE)?;
    sys!(SYS_mseal, at, PAGE, 0)?;
    check_err!(munmap(at, PAGE), EPERM);
    check_err!(sys!(SYS_mprotect, at, PAGE, PROT_READ), EPERM);
    poke(at, 1);
    Ok(())
}
