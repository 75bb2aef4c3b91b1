//! Protection keys: pkeys(7), pkey_alloc(2), pkey_free(2), pkey_mprotect(2), and execute-only memory.
//!
//! Where the processor has no keys the calls say so, and that is all there is to test.

use crate::prelude::*;

tests![
    allocates,
    allocation_errors,
    mprotect_errors,
    closes_access,
    closes_writes,
    key_stays,
    kernel_copies,
    key_zero_closed,
    populates,
    others_are_not_asked,
    handlers_start_fresh,
    frames_hold_the_register,
    closed_signal_stacks,
    threads_have_their_own,
    children_inherit,
    programs_start_fresh,
    execute_only,
    maps_execute_only,
    shown,
    debuggers_see_it,
];

const PAGE: usize = 4096;
const NO_ACCESS: u32 = 1;
const NO_WRITE: u32 = 2;
/// The register of a fresh program: key 0 is open, all others are closed.
const FRESH: u32 = 0x5555_5554;
const RW: i32 = PROT_READ | PROT_WRITE;
const SEGV_ACCERR_: i32 = 2;
const SEGV_PKUERR_: i32 = 4;

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// A function that returns 42.
    pub const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3];

    pub fn has_keys() -> bool {
        __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ecx >> 3 & 1 != 0
    }

    /// PKRU.
    pub fn rights() -> u32 {
        let value: u32;
        // SAFETY: reads a register.
        unsafe { asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _) };
        value
    }

    pub fn set_rights(value: u32) {
        // SAFETY: changes which keys this thread may use; the tests close none that Rust's own memory has.
        unsafe { asm!("wrpkru", in("eax") value, in("ecx") 0, in("edx") 0) };
    }

    /// Where PKRU is in the processor's area of extended state.
    pub fn offset() -> usize {
        __cpuid_count(0xd, 9).ebx as usize
    }

    /// The extended state of a signal frame.
    pub fn state_of(context: *const libc::ucontext_t) -> usize {
        // Behind the general registers.
        // SAFETY: the context of a signal handler; the pointer to the extended state follows the registers.
        unsafe { (&raw const (*context).uc_mcontext.gregs).cast::<usize>().add(23).read() }
    }

    /// Makes a system call with every key closed, 0 too: neither stack nor data can be reached meanwhile.
    pub fn call_closed(nr: i64, args: [usize; 3]) -> i64 {
        let result;
        // SAFETY: no memory is touched while the keys are closed but by the kernel, and they are opened again.
        unsafe {
            asm!(
                "mov eax, 0x55555555", "xor ecx, ecx", "xor edx, edx", "wrpkru",
                "mov rax, r12", "mov rdx, r13", "syscall", "mov r12, rax",
                "mov eax, 0x55555554", "xor ecx, ecx", "xor edx, edx", "wrpkru",
                inout("r12") nr => result, in("r13") args[2], in("rdi") args[0], in("rsi") args[1],
                out("rax") _, out("rcx") _, out("rdx") _, out("r11") _, options(nostack),
            );
        }
        result
    }

    // A handler that opens all keys before it touches its stack.
    std::arch::global_asm!(
        ".pushsection .text.pkey_handler, \"ax\", @progbits",
        ".globl pkey_opening_handler",
        "pkey_opening_handler:",
        "xor eax, eax",
        "xor ecx, ecx",
        "xor edx, edx",
        "wrpkru",
        "mov rax, rsp",
        "mov [rip + PKEY_HANDLER_STACK], rax",
        "ret",
        ".popsection",
    );

    unsafe extern "C" {
        pub fn pkey_opening_handler();
    }

    #[unsafe(no_mangle)]
    pub static PKEY_HANDLER_STACK: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
}

#[cfg(target_arch = "aarch64")]
mod machine {
    /// A function that returns 42: `mov w0, #42; ret`.
    pub const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];

    pub fn has_keys() -> bool {
        false
    }

    pub fn rights() -> u32 {
        0
    }

    pub fn set_rights(_: u32) {}
}

use machine::{has_keys, rights, set_rights};

fn alloc(restrictions: u32) -> Result<u32, Errno> {
    sys!(SYS_pkey_alloc, 0, restrictions).map(|key| key as u32)
}

fn free(key: i32) -> Result<usize, Errno> {
    sys!(SYS_pkey_free, key)
}

fn protect(at: usize, len: usize, prot: i32, key: i32) -> Result<usize, Errno> {
    sys!(SYS_pkey_mprotect, at, len, prot, key)
}

/// `restrictions` as the only ones of `key`.
fn restrict(key: u32, restrictions: u32) {
    set_rights(rights() & !(3 << (2 * key)) | restrictions << (2 * key));
}

fn restrictions(key: u32) -> u32 {
    rights() >> (2 * key) & 3
}

/// What a handler of `SIGSEGV` saw.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Report {
    code: i32,
    key: u32,
    addr: usize,
    rights: u32,
    error: u32,
}

static REPORT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn report(_: i32, info: *const siginfo_t, _context: *const ucontext_t) {
    let place = REPORT.load(std::sync::atomic::Ordering::Relaxed) as *mut Report;
    // SAFETY: the place was mapped for this before the handler was set; the kernel's structures are valid while it runs.
    unsafe {
        *place = Report {
            code: (*info).si_code,
            addr: (*info).si_addr() as usize,
            key: info.cast::<u32>().add(8).read(),
            rights: rights(),
            #[cfg(target_arch = "x86_64")]
            error: (*_context).uc_mcontext.gregs[REG_ERR as usize] as u32,
            #[cfg(not(target_arch = "x86_64"))]
            error: 0,
        };
    }
    exit(99);
}

fn handle(signal: i32, handler: usize, flags: i32) -> Outcome {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    c!(sigaction(signal, &raw const action, std::ptr::null_mut()))?;
    Ok(())
}

/// How `body` faults, in a child; `None` if it does not.
fn fault(body: impl FnOnce()) -> Result<Option<Report>, Failure> {
    let place = map_shared(PAGE)?;
    let status = in_child(|| {
        REPORT.store(place, std::sync::atomic::Ordering::Relaxed);
        if handle(SIGSEGV, report as *const () as usize, SA_SIGINFO).is_err() {
            return 98;
        }
        body();
        0
    })?;
    // SAFETY: a shared mapping that the child has filled in or left zero, which is a report too.
    let seen = unsafe { (place as *const Report).read() };
    munmap(place, PAGE)?;
    check!(status == 0 || status == 99, "child: {status}");
    Ok((status == 99).then_some(seen))
}

/// That `body` is stopped at `addr` because of `key`.
fn refused(body: impl FnOnce(), addr: usize, key: u32) -> Outcome {
    let Some(seen) = fault(body)? else { return Err(Failure::new("no fault")) };
    check_eq!((seen.code, seen.addr, seen.key), (SEGV_PKUERR_, addr, key));
    check_eq!(seen.rights, FRESH);
    Ok(())
}

fn allocates() -> Outcome {
    if !has_keys() {
        check_err!(alloc(0), ENOSPC);
        check_err!(alloc(NO_ACCESS | NO_WRITE), ENOSPC);
        return Ok(());
    }
    check_eq!(rights(), FRESH);
    for key in 1..16 {
        let wish = key % 4;
        check_eq!(alloc(wish)?, key);
        check_eq!(restrictions(key), wish);
    }
    check_eq!(restrictions(0), 0);
    check_err!(alloc(0), ENOSPC);
    // The lowest that is free.
    free(9)?;
    free(4)?;
    check_err!(free(4), EINVAL);
    check_eq!(alloc(NO_WRITE)?, 4);
    check_eq!(restrictions(4), NO_WRITE);
    check_eq!(alloc(0)?, 9);
    check_err!(alloc(0), ENOSPC);
    // Giving a key back says nothing about the rights to it.
    restrict(7, NO_ACCESS);
    free(7)?;
    check_eq!(restrictions(7), NO_ACCESS);
    Ok(())
}

fn allocation_errors() -> Outcome {
    check_err!(sys!(SYS_pkey_alloc, 1, 0), EINVAL);
    check_err!(sys!(SYS_pkey_alloc, 1usize << 40, 0), EINVAL);
    // arm64 has bits for reading and executing as well.
    let unknown = if cfg!(target_arch = "x86_64") { 4 } else { 16 };
    check_err!(sys!(SYS_pkey_alloc, 0, unknown), EINVAL);
    if !has_keys() {
        check_err!(sys!(SYS_pkey_alloc, 0, unknown - 1), ENOSPC);
    }
    check_err!(sys!(SYS_pkey_alloc, 0, 0x100), EINVAL);
    check_err!(sys!(SYS_pkey_alloc, 0, 1usize << 32), EINVAL);
    for key in [-1, -2, i32::MIN, 1, 14, 15, 16, 17, 64, i32::MAX] {
        check!(free(key) == Err(Errno(EINVAL)), "{key}");
    }
    if has_keys() {
        // Key 0 is one like the others here.
        free(0)?;
        check_err!(free(0), EINVAL);
        let at = map_anon(PAGE)?;
        check_err!(protect(at, PAGE, RW, 0), EINVAL);
        check_eq!(alloc(0)?, 0);
        protect(at, PAGE, RW, 0)?;
    }
    Ok(())
}

fn mprotect_errors() -> Outcome {
    let at = map_anon(3 * PAGE)?;
    munmap(at + 2 * PAGE, PAGE)?;
    protect(at, PAGE, PROT_READ, -1)?;
    check_eq!(in_child(|| i32::from(peek(at)))?, 0);
    let stores = in_child(|| {
        poke(at, 1);
        0
    })?;
    check_eq!(stores, -SIGSEGV);
    for key in [1, 14, 15, 16, 99, -2, i32::MIN, i32::MAX] {
        check!(protect(at, PAGE, PROT_READ, key) == Err(Errno(EINVAL)), "{key}");
        // Without a length there is nothing to refuse.
        protect(at, 0, PROT_READ, key)?;
    }
    check_err!(protect(at + 1, 0, PROT_READ, -1), EINVAL);
    check_err!(protect(at, PAGE, 0x100, -1), EINVAL);
    check_err!(protect(at, PAGE, PROT_GROWSUP | PROT_GROWSDOWN, -1), EINVAL);
    check_err!(protect(at, PAGE, PROT_READ | PROT_GROWSDOWN, -1), EINVAL);
    check_err!(protect(at, 3 * PAGE, PROT_READ, -1), ENOMEM);
    check_err!(protect(at, usize::MAX - PAGE, PROT_READ, -1), ENOMEM);
    if has_keys() {
        let key = alloc(0)? as i32;
        check_err!(protect(at + 2 * PAGE, PAGE, RW, key), ENOMEM);
        free(key)?;
    }
    let fd = create(c"f", &[0; PAGE])?;
    let fd2 = open(c"f", O_RDONLY, 0)?;
    let shared = mmap(0, PAGE, PROT_READ, MAP_SHARED, fd2, 0)?;
    check_err!(protect(shared, PAGE, RW, -1), EACCES);
    close(fd)?;
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)? as i32;
    check_err!(protect(shared, PAGE, RW, key), EACCES);
    protect(at, PAGE, PROT_READ, key)?;
    free(key)?;
    // Pages keep a key that was given back, but nobody gets it any more.
    check_err!(protect(at, PAGE, PROT_READ, key), EINVAL);
    check_eq!(peek(at), 0);
    Ok(())
}

fn closes_access() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(4 * PAGE)?;
    poke(at, 7);
    protect(at, 2 * PAGE, RW, key as i32)?;
    check_eq!(peek(at), 7);
    restrict(key, NO_ACCESS);
    // A page that is there, and one that never was.
    for (page, present) in [(at, true), (at + PAGE, false)] {
        refused(|| drop(peek(page + 5)), page + 5, key)?;
        refused(|| poke(page + 9, 1), page + 9, key)?;
        // The processor knows only of pages that it finds: protection, user, key.
        let seen = fault(|| drop(peek(page)))?.ok_or(Failure::new("no fault"))?;
        check_eq!(seen.error, if present { 0x25 } else { 4 });
        let seen = fault(|| poke(page, 1))?.ok_or(Failure::new("no fault"))?;
        check_eq!(seen.error, if present { 0x27 } else { 6 });
    }
    check_eq!(peek(at + 2 * PAGE), 0);
    // Where the area itself forbids the access, that comes first.
    protect(at, PAGE, PROT_READ, key as i32)?;
    let untouched = at + PAGE;
    protect(untouched, PAGE, PROT_NONE, key as i32)?;
    let seen = fault(|| drop(peek(untouched)))?.ok_or(Failure::new("no fault"))?;
    check_eq!(seen.addr, untouched);
    check!(seen.code == SEGV_ACCERR_ || seen.code == SEGV_PKUERR_, "{seen:?}");
    restrict(key, 0);
    check_eq!(peek(at), 7);
    let seen = fault(|| poke(at, 1))?.ok_or(Failure::new("no fault"))?;
    check_eq!(seen.code, SEGV_ACCERR_);
    Ok(())
}

fn closes_writes() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(NO_WRITE)?;
    let at = map_anon(3 * PAGE)?;
    poke(at, 5);
    protect(at, 2 * PAGE, RW, key as i32)?;
    check_eq!((peek(at), peek(at + PAGE)), (5, 0));
    refused(|| poke(at, 6), at, key)?;
    refused(|| poke(at + PAGE, 6), at + PAGE, key)?;
    restrict(key, 0);
    poke(at, 6);
    // Back to key 0, and to another key.
    restrict(key, NO_ACCESS);
    protect(at, PAGE, RW, 0)?;
    check_eq!(peek(at), 6);
    let other = alloc(NO_ACCESS)?;
    protect(at, PAGE, RW, other as i32)?;
    refused(|| drop(peek(at)), at, other)?;
    Ok(())
}

fn key_stays() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(4 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, n as u8));
    protect(at, 2 * PAGE, RW, key as i32)?;
    // mprotect(2) and -1 leave the key alone, PROT_NONE too.
    for (prot, named) in [(PROT_READ, false), (PROT_NONE, false), (RW, true)] {
        if named {
            protect(at, PAGE, prot, -1)?;
        } else {
            sys!(SYS_mprotect, at, PAGE, prot)?;
        }
    }
    restrict(key, NO_ACCESS);
    refused(|| drop(peek(at)), at, key)?;
    // A page that moves.
    let room = map_anon(PAGE)?;
    let moved = sys!(SYS_mremap, at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room)?;
    refused(|| drop(peek(moved)), moved, key)?;
    restrict(key, 0);
    check_eq!(peek(moved), 0);
    // Copies that a child and its parent make of shared pages.
    let next = at + PAGE;
    let child = in_child(|| {
        poke(next, 9);
        restrict(key, NO_WRITE);
        let denied = fault(|| poke(next, 1)).is_ok_and(|f| f.is_some_and(|f| f.key == key));
        i32::from(denied) + i32::from(peek(next))
    })?;
    check_eq!(child, 10);
    check_eq!(peek(next), 1);
    // Pages that are dropped and come back.
    sys!(SYS_madvise, next, PAGE, MADV_DONTNEED)?;
    check_eq!(peek(next), 0);
    restrict(key, NO_ACCESS);
    refused(|| drop(peek(next)), next, key)?;
    Ok(())
}

fn kernel_copies() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(3 * PAGE)?;
    (0..3).for_each(|n| poke(at + n * PAGE, 1));
    protect(at + PAGE, 2 * PAGE, RW, key as i32)?;
    let closed = at + PAGE;
    let fd = create(c"f", &[3; 2 * PAGE])?;
    let ends = pipe(0)?;
    for present in [true, false] {
        if !present {
            sys!(SYS_madvise, closed, 2 * PAGE, MADV_DONTNEED)?;
        }
        restrict(key, NO_ACCESS);
        check_err!(sys!(SYS_pread64, fd, closed, 16, 0), EFAULT);
        check_err!(sys!(SYS_pwrite64, fd, closed, 16, 0), EFAULT);
        check_err!(sys!(SYS_write, ends[1], closed, 1), EFAULT);
        check_err!(sys!(SYS_openat, CWD, closed, O_RDONLY), EFAULT);
        check_err!(sys!(SYS_clock_gettime, CLOCK_REALTIME_COARSE, closed), EFAULT);
        check_err!(sys!(SYS_futex, closed, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0), EFAULT);
        // What comes before the closed page counts.
        check_eq!(sys!(SYS_pread64, fd, at, 2 * PAGE, 0)?, PAGE);
        check_eq!(sys!(SYS_pwrite64, fd, at, 2 * PAGE, 0)?, PAGE);
        restrict(key, NO_WRITE);
        check_err!(sys!(SYS_pread64, fd, closed, 16, 0), EFAULT);
        check_err!(sys!(SYS_uname, closed), EFAULT);
        check_eq!(sys!(SYS_pwrite64, fd, closed, 16, 0)?, 16);
        restrict(key, 0);
        check_eq!(sys!(SYS_pread64, fd, closed, 16, PAGE)?, 16);
        check_eq!(peek(closed), 3);
    }
    Ok(())
}

/// Pages that are brought in ahead of their use are brought in for the thread that asks.
fn populates() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(2 * PAGE)?;
    protect(at, 2 * PAGE, RW, key as i32)?;
    let populate = |write: bool| {
        let advice = if write { MADV_POPULATE_WRITE } else { MADV_POPULATE_READ };
        sys!(SYS_madvise, at, PAGE, advice)
    };
    restrict(key, NO_ACCESS);
    check_err!(populate(false), EINVAL);
    check_err!(populate(true), EINVAL);
    check_err!(sys!(SYS_mlock, at, PAGE), ENOMEM);
    sys!(SYS_munlock, at, PAGE)?;
    restrict(key, NO_WRITE);
    populate(false)?;
    check_err!(populate(true), EINVAL);
    restrict(key, 0);
    populate(true)?;
    sys!(SYS_mlock, at, PAGE)?;
    // The advice to forget needs no rights.
    poke(at, 1);
    restrict(key, NO_ACCESS);
    sys!(SYS_munlock, at, PAGE)?;
    sys!(SYS_madvise, at, PAGE, MADV_DONTNEED)?;
    restrict(key, 0);
    check_eq!(peek(at), 0);
    Ok(())
}

/// A thread that has closed everything can still make calls that use no memory, and get signals.
#[cfg(target_arch = "x86_64")]
fn key_zero_closed() -> Outcome {
    use machine::call_closed;
    if !has_keys() {
        return Ok(());
    }
    let at = map_anon(2 * PAGE)?;
    poke(at, 1);
    let pid = getpid();
    check_eq!(call_closed(SYS_getpid, [0; 3]), i64::from(pid));
    for place in [at, at + PAGE] {
        check_eq!(call_closed(SYS_uname, [place, 0, 0]), -i64::from(EFAULT));
        check_eq!(call_closed(SYS_chdir, [place, 0, 0]), -i64::from(EFAULT));
    }
    check_eq!(peek(at), 1);
    handle(SIGUSR1, note_rights as *const () as usize, 0)?;
    check_eq!(call_closed(SYS_kill, [pid as usize, SIGUSR1 as usize, 0]), 0);
    check_eq!(SEEN.load(std::sync::atomic::Ordering::Relaxed), FRESH);
    check_eq!(rights(), FRESH);
    Ok(())
}

#[cfg(target_arch = "aarch64")]
fn key_zero_closed() -> Outcome {
    Ok(())
}

/// Debuggers and readers of other processes' memory do not have this process's rights.
fn others_are_not_asked() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(PAGE)?;
    poke(at, 77);
    protect(at, PAGE, RW, key as i32)?;
    restrict(key, NO_ACCESS);
    let byte = &mut 0u8;
    let mine = iovec { iov_base: std::ptr::from_mut(byte).cast(), iov_len: 1 };
    let there = iovec { iov_base: at as *mut c_void, iov_len: 1 };
    check_eq!(sys!(SYS_process_vm_readv, getpid(), &raw const mine, 1, &raw const there, 1, 0)?, 1);
    check_eq!(*byte, 77);
    *byte = 78;
    check_eq!(sys!(SYS_process_vm_writev, getpid(), &raw const mine, 1, &raw const there, 1, 0)?, 1);
    let fd = open(c"/proc/self/mem", O_RDWR, 0)?;
    *byte = 0;
    check_eq!(sys!(SYS_pread64, fd, &raw mut *byte, 1, at)?, 1);
    check_eq!(*byte, 78);
    *byte = 79;
    check_eq!(sys!(SYS_pwrite64, fd, &raw const *byte, 1, at)?, 1);
    restrict(key, 0);
    check_eq!(peek(at), 79);
    Ok(())
}

static SEEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

extern "C" fn note_rights(_: i32) {
    SEEN.store(rights(), std::sync::atomic::Ordering::Relaxed);
    // What a handler sets for itself ends with it.
    set_rights(0);
}

fn handlers_start_fresh() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    handle(SIGUSR1, note_rights as *const () as usize, 0)?;
    for value in [0, 0x10, 0x5555_5554, 0xffff_fff8] {
        set_rights(value);
        kill(getpid(), SIGUSR1)?;
        let after = rights();
        set_rights(FRESH);
        check_eq!(after, value);
        check_eq!(SEEN.load(std::sync::atomic::Ordering::Relaxed), FRESH);
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn frames_hold_the_register() -> Outcome {
    extern "C" fn change(_: i32, _: *const siginfo_t, context: *const ucontext_t) {
        let state = machine::state_of(context);
        // The components that are there: the first word of the header behind the legacy area.
        let (header, place) = ((state + 512) as *mut u64, (state + machine::offset()) as *mut u32);
        // SAFETY: both lie in the frame of this very handler.
        unsafe {
            let there = *header >> 9 & 1 != 0;
            SEEN.store(if there { *place } else { 0 }, std::sync::atomic::Ordering::Relaxed);
            *place = 0x5555_0550;
            *header |= 1 << 9;
        }
    }
    if !has_keys() {
        return Ok(());
    }
    handle(SIGUSR1, change as *const () as usize, SA_SIGINFO)?;
    for value in [0x5555_5550, 0] {
        set_rights(value);
        kill(getpid(), SIGUSR1)?;
        check_eq!(SEEN.load(std::sync::atomic::Ordering::Relaxed), value);
        check_eq!(rights(), 0x5555_0550);
    }
    Ok(())
}

#[cfg(target_arch = "aarch64")]
fn frames_hold_the_register() -> Outcome {
    Ok(())
}

/// The kernel writes a frame to a stack that the program has closed; the handler has to open it.
#[cfg(target_arch = "x86_64")]
fn closed_signal_stacks() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let len = 16 * PAGE;
    let at = map_anon(len)?;
    protect(at, len, RW, key as i32)?;
    let stack = stack_t { ss_sp: at as *mut c_void, ss_flags: 0, ss_size: len };
    c!(sigaltstack(&raw const stack, std::ptr::null_mut()))?;
    handle(SIGUSR1, machine::pkey_opening_handler as *const () as usize, SA_ONSTACK)?;
    for closed in [NO_WRITE, NO_ACCESS] {
        machine::PKEY_HANDLER_STACK.store(0, std::sync::atomic::Ordering::Relaxed);
        restrict(key, closed);
        kill(getpid(), SIGUSR1)?;
        check_eq!(restrictions(key), closed);
        let used = machine::PKEY_HANDLER_STACK.load(std::sync::atomic::Ordering::Relaxed);
        check!((at..at + len).contains(&used));
    }
    Ok(())
}

#[cfg(target_arch = "aarch64")]
fn closed_signal_stacks() -> Outcome {
    Ok(())
}

fn threads_have_their_own() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let key = alloc(0)?;
    let at = map_anon(PAGE)?;
    protect(at, PAGE, RW, key as i32)?;
    restrict(key, NO_WRITE);
    let before = rights();
    let work = move |mine: u32| {
        let inherited = rights();
        restrict(key, mine);
        let expected = rights();
        let fd = open(c"/dev/zero", O_RDONLY, 0)?;
        for round in 0..200 {
            let _ = sys!(SYS_sched_yield);
            if round % 50 == 0 {
                sleep_ms(1);
            }
            check_eq!(rights(), expected);
            let copied = sys!(SYS_read, fd, at, 8);
            check_eq!(copied, if mine == 0 { Ok(8) } else { Err(Errno(EFAULT)) });
        }
        close(fd)?;
        Ok::<u32, Failure>(inherited)
    };
    let threads: Vec<_> =
        [0, NO_ACCESS, NO_WRITE, 0].into_iter().map(|mine| std::thread::spawn(move || work(mine))).collect();
    for thread in threads {
        let inherited = thread.join().map_err(|_| Failure::new("thread"))??;
        check_eq!(inherited, before);
    }
    check_eq!(rights(), before);
    Ok(())
}

fn children_inherit() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let (one, two) = (alloc(0)?, alloc(NO_WRITE)?);
    let before = rights();
    let status = in_child(|| {
        let same = rights() == before;
        let next = alloc(0) == Ok(two + 1);
        let freed = free(one as i32).is_ok();
        set_rights(0);
        i32::from(same && next && freed)
    })?;
    check_eq!(status, 1);
    check_eq!(rights(), before);
    check_eq!(alloc(0)?, two + 1);
    free(one as i32)?;
    Ok(())
}

/// What the helper `pkeys` prints: its register, and the first key that it gets.
pub fn describe() -> String {
    if !has_keys() {
        return String::new();
    }
    format!("{:#x} {:?}", rights(), alloc(0).map_err(|e| e.0))
}

fn programs_start_fresh() -> Outcome {
    if !has_keys() {
        return Ok(());
    }
    let (_, key) = (alloc(0)?, alloc(0)?);
    restrict(key, NO_WRITE);
    let (status, output) = crate::process::helper("pkeys", &[], &[])?;
    check_eq!(status, 0);
    check_eq!(output, "0x55555554 Ok(1)");
    Ok(())
}

fn call(at: usize) -> u32 {
    // SAFETY: the tests put a function that returns a number there.
    let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(at) };
    function()
}

fn put_code(at: usize) -> Outcome {
    for (n, byte) in machine::CODE.iter().enumerate() {
        poke(at + n, *byte);
    }
    Ok(())
}

/// Memory that may be executed but not read, where the machine can do that.
fn execute_only() -> Outcome {
    let at = map_anon(PAGE)?;
    put_code(at)?;
    sys!(SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC)?;
    check_eq!(call(at), 42);
    sys!(SYS_mprotect, at, PAGE, PROT_EXEC)?;
    check_eq!(call(at), 42);
    if !has_keys() {
        sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
        check_eq!(peek(at), machine::CODE[0]);
        return Ok(());
    }
    refused(|| drop(peek(at)), at, 1)?;
    let ends = pipe(0)?;
    check_err!(sys!(SYS_write, ends[1], at, 1), EFAULT);
    check_eq!(restrictions(1), NO_ACCESS);
    // The key is not the program's.
    check_err!(free(1), EINVAL);
    check_err!(protect(at, PAGE, PROT_READ, 1), EINVAL);
    check_eq!(alloc(0)?, 2);
    // Other pages share it.
    let other = map_anon(PAGE)?;
    sys!(SYS_mprotect, other, PAGE, PROT_EXEC)?;
    refused(|| drop(peek(other)), other, 1)?;
    // Whoever opens it can read until the next such call.
    restrict(1, 0);
    check_eq!(peek(at), machine::CODE[0]);
    sys!(SYS_mprotect, other, PAGE, PROT_READ)?;
    check_eq!(restrictions(1), 0);
    sys!(SYS_mprotect, other, PAGE, PROT_EXEC)?;
    check_eq!(restrictions(1), NO_ACCESS);
    // With more rights than execution the key goes back to 0.
    sys!(SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC)?;
    check_eq!(peek(at), machine::CODE[0]);
    check_eq!(call(at), 42);
    // A key that was named stays, whatever the protection.
    protect(at, PAGE, PROT_EXEC, 2)?;
    check_eq!(peek(at), machine::CODE[0]);
    // Without a free key there is no such memory.
    let status = in_child(|| {
        let taken = (0..16).take_while(|_| alloc(0).is_ok()).count();
        i32::from(taken == 13)
    })?;
    check_eq!(status, 1);
    Ok(())
}

fn maps_execute_only() -> Outcome {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if !has_keys() {
        mmap(0, PAGE, PROT_EXEC, flags, -1, 0)?;
        return Ok(());
    }
    let all = in_child(|| {
        while alloc(0).is_ok() {}
        let Ok(at) = mmap(0, PAGE, PROT_EXEC, flags, -1, 0) else { return 1 };
        // No key is left for it, so that it can be read.
        i32::from(peek(at)) + 2
    })?;
    check_eq!(all, 2);
    let fd = create(c"f", machine::CODE)?;
    let at = mmap(0, PAGE, PROT_EXEC, MAP_PRIVATE, fd, 0)?;
    check_eq!(call(at), 42);
    refused(|| drop(peek(at)), at, 1)?;
    check_eq!(restrictions(1), NO_ACCESS);
    let anonymous = mmap(0, PAGE, PROT_EXEC, flags, -1, 0)?;
    refused(|| drop(peek(anonymous)), anonymous, 1)?;
    check_eq!(alloc(0)?, 2);
    Ok(())
}

/// Values of the lines `name` in smaps of the areas in `range`.
fn smaps(name: &str, range: std::ops::Range<usize>) -> Result<Vec<String>, Errno> {
    let text = slurp(c"/proc/self/smaps")?;
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some((start, _)) = first.split_once('-') {
            inside = usize::from_str_radix(start, 16).is_ok_and(|start| range.contains(&start));
        } else if inside && let Some(value) = line.strip_prefix(name) {
            found.push(value.to_string());
        }
    }
    Ok(found)
}

fn shown() -> Outcome {
    // An object of its own, so that the area is not merged with one before it.
    let at = map_shared(4 * PAGE)?;
    let cpuinfo = slurp(c"/proc/cpuinfo")?;
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    for flag in ["pku", "ospke"] {
        check_eq!(flags.split(' ').any(|word| word == flag), has_keys());
    }
    if !has_keys() {
        check!(smaps("ProtectionKey:", at..at + 4 * PAGE)?.is_empty());
        return Ok(());
    }
    let (one, two) = (alloc(0)?, alloc(0)?);
    protect(at + PAGE, PAGE, RW, one as i32)?;
    protect(at + 2 * PAGE, PAGE, RW, two as i32)?;
    let keys = || smaps("ProtectionKey:", at..at + 4 * PAGE);
    check_eq!(keys()?, ["         0", "         1", "         2", "         0"]);
    // Neighbours with the same key are one area.
    protect(at + 2 * PAGE, PAGE, RW, one as i32)?;
    check_eq!(keys()?, ["         0", "         1", "         0"]);
    let line = smaps("VmFlags:", at + PAGE..at + 2 * PAGE)?;
    check!(line.iter().all(|l| l.starts_with(" rd wr sh mr mw me ms")), "{line:?}");
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn debuggers_see_it() -> Outcome {
    use crate::ptrace::{cont, get_set, set_set, stop_code, traced};
    const NT_X86_XSTATE_: usize = 0x202;
    if !has_keys() {
        return Ok(());
    }
    let child = traced(|| {
        set_rights(0x5555_5510);
        let _ = kill(getpid(), SIGUSR2);
        let second = rights();
        let _ = kill(getpid(), SIGUSR2);
        let third = rights();
        i32::from(second == 0x5555_5450) + 2 * i32::from(third == 0)
    })?;
    cont(child, 0)?;
    check_eq!(stop_code(child)?, SIGUSR2);
    let mut state = vec![0u8; 16384];
    let len = get_set(child, NT_X86_XSTATE_, &mut state)?;
    state.truncate(len);
    let at = machine::offset();
    check_eq!(&state[at..at + 4], &0x5555_5510u32.to_ne_bytes());
    check_eq!(state[513] & 2, 2);
    state[at..at + 4].copy_from_slice(&0x5555_5450u32.to_ne_bytes());
    set_set(child, NT_X86_XSTATE_, &mut state)?;
    let mut again = vec![0u8; len];
    get_set(child, NT_X86_XSTATE_, &mut again)?;
    check_eq!(&again[at..at + 4], &0x5555_5450u32.to_ne_bytes());
    cont(child, 0)?;
    check_eq!(stop_code(child)?, SIGUSR2);
    // A component that is in its initial state: everything is allowed.
    state[513] &= !2;
    set_set(child, NT_X86_XSTATE_, &mut state)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 3);
    Ok(())
}

#[cfg(target_arch = "aarch64")]
fn debuggers_see_it() -> Outcome {
    Ok(())
}
