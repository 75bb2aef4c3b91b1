//! Segments of programs: modify_ldt(2), and what becomes of selectors that lead nowhere.

use crate::prelude::*;
use std::arch::asm;

tests![
    write_and_read,
    write_errors,
    read_default,
    unknown_functions,
    segments_work,
    threads_share_the_table,
    other_cpus_are_told,
    children_have_a_copy,
    exec_has_none,
    selectors_survive_switches,
    removed_segments,
    sigreturn_to_bad_segments,
    sigreturn_to_own_segments,
    ptrace_sets_selectors,
    tls_is_not_a_segment,
];

/// `struct user_desc`
#[repr(C)]
#[derive(Clone, Copy)]
struct Desc {
    entry: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

const SEG_32BIT: u32 = 1;
const CODE: u32 = 2 << 1;
const CONFORMING: u32 = 3 << 1;
const READ_EXEC_ONLY: u32 = 1 << 3;
const IN_PAGES: u32 = 1 << 4;
const NOT_PRESENT: u32 = 1 << 5;
const USEABLE: u32 = 1 << 6;

fn modify(func: i32, at: usize, len: usize) -> Result<i32, Errno> {
    // The result is an `int`, whatever the register says above it.
    match sys!(SYS_modify_ldt, func, at, len)? as i32 {
        error if error < 0 => Err(Errno(-error)),
        count => Ok(count),
    }
}

fn set(desc: Desc) -> Result<(), Errno> {
    modify(0x11, addr(&desc), 16).map(drop)
}

fn selector(entry: u32) -> u16 {
    (entry << 3 | 7) as u16
}

/// A page below 4 GiB with a number at its start.
fn low_page(value: u32) -> Result<u32, Errno> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    let at = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0)?;
    for (n, byte) in value.to_ne_bytes().iter().enumerate() {
        poke(at + n, *byte);
    }
    Ok(at as u32)
}

fn data(entry: u32, base: u32) -> Desc {
    Desc { entry, base, limit: 4095, flags: SEG_32BIT }
}

/// The number at the start of the segment.
fn through_fs(selector: u16) -> u32 {
    let value: u32;
    // SAFETY: fs is the C library's, so it is put back; the segment has four bytes.
    unsafe {
        asm!(
            "rdfsbase {base}", "mov fs, {sel:x}", "mov {value:e}, fs:[0]", "xor {sel:e}, {sel:e}", "mov fs, {sel:x}",
            "wrfsbase {base}",
            base = out(reg) _, sel = inout(reg) u64::from(selector) => _, value = out(reg) value,
        );
    }
    value
}

fn load_gs(selector: u16) {
    // SAFETY: nobody uses gs here.
    unsafe { asm!("mov gs, {0:x}", in(reg) selector) };
}

fn gs() -> u16 {
    let value: u16;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0:x}, gs", out(reg) value) };
    value
}

fn through_gs() -> u32 {
    let value: u32;
    // SAFETY: the segment in gs has four bytes.
    unsafe { asm!("mov {0:e}, gs:[0]", out(reg) value) };
    value
}

fn write_and_read() -> Outcome {
    let mut bytes = [0xaa_u8; 64];
    check_eq!(modify(0, addr_mut(&mut bytes), 64), Ok(0));
    set(Desc { entry: 2, base: 0x1234_5678, limit: 0x9_abcd, flags: SEG_32BIT | CODE | IN_PAGES | USEABLE })?;
    check_eq!(modify(0, addr_mut(&mut bytes), 64), Ok(64));
    check_eq!(bytes[..16], [0; 16]);
    check_eq!(bytes[16..24], [0xcd, 0xab, 0x78, 0x56, 0x34, 0xfb, 0xd9, 0x12]);
    check_eq!(bytes[24..], [0; 40]);
    // As much as asked for.
    check_eq!(modify(0, addr_mut(&mut bytes), 20), Ok(20));
    check_eq!(modify(0, addr_mut(&mut bytes), 0), Ok(0));
    let mut all = vec![1_u8; 100_000];
    check_eq!(modify(0, all.as_mut_ptr() as usize, all.len()), Ok(65536));
    check!(all[24..65536].iter().all(|byte| *byte == 0) && all[65536] == 1);
    check_err!(modify(0, 8, 64), EFAULT);
    // The old function does not know the last flag.
    let old =
        Desc { entry: 2, base: 0x1234_5678, limit: 0x9_abcd, flags: SEG_32BIT | CODE | IN_PAGES | USEABLE };
    check_eq!(modify(1, addr(&old), 16), Ok(0));
    modify(0, addr_mut(&mut bytes), 64)?;
    check_eq!(bytes[16..24], [0xcd, 0xab, 0x78, 0x56, 0x34, 0xfb, 0xc9, 0x12]);
    // And takes an empty one for none.
    let none = Desc { entry: 2, base: 0, limit: 0, flags: SEG_32BIT };
    check_eq!(modify(1, addr(&none), 16), Ok(0));
    modify(0, addr_mut(&mut bytes), 64)?;
    check_eq!(bytes, [0; 64]);
    set(none)?;
    modify(0, addr_mut(&mut bytes), 64)?;
    check_eq!(bytes[16..24], [0, 0, 0, 0, 0, 0xf3, 0x40, 0]);
    set(Desc { flags: READ_EXEC_ONLY | NOT_PRESENT, ..none })?;
    modify(0, addr_mut(&mut bytes), 64)?;
    check_eq!(bytes, [0; 64]);
    Ok(())
}

fn write_errors() -> Outcome {
    let good = data(0, 0);
    check_err!(modify(0x11, addr(&good), 15), EINVAL);
    check_err!(modify(0x11, addr(&good), 17), EINVAL);
    check_err!(modify(0x11, 8, 16), EFAULT);
    check_err!(set(Desc { entry: 8192, ..good }), EINVAL);
    check_err!(set(Desc { entry: u32::MAX, ..good }), EINVAL);
    check_err!(set(Desc { flags: CONFORMING | SEG_32BIT, ..good }), EINVAL);
    let absent = Desc { flags: CONFORMING | NOT_PRESENT | SEG_32BIT, ..good };
    check!(set(absent).is_ok());
    check_err!(modify(1, addr(&absent), 16), EINVAL);
    check!(set(Desc { entry: 8191, ..good }).is_ok());
    // No 16 bits.
    check_err!(set(Desc { flags: 0, ..good }), EINVAL);
    check_err!(set(Desc { flags: CODE, ..good }), EINVAL);
    Ok(())
}

fn read_default() -> Outcome {
    let mut bytes = [1_u8; 200];
    check_eq!(modify(2, addr_mut(&mut bytes), 200), Ok(128));
    check!(bytes[..128].iter().all(|byte| *byte == 0) && bytes[128] == 1);
    check_eq!(modify(2, addr_mut(&mut bytes), 5), Ok(5));
    check_err!(modify(2, 8, 5), EFAULT);
    Ok(())
}

fn unknown_functions() -> Outcome {
    for func in [3, 0x10, 0x12, -1] {
        check!(modify(func, 0, 16) == Err(Errno(ENOSYS)), "{func}");
    }
    // These were never for 64 bits.
    check_err!(sys!(SYS_set_thread_area, addr(&data(12, 0))), ENOSYS);
    check_err!(sys!(SYS_get_thread_area, addr(&data(12, 0))), ENOSYS);
    Ok(())
}

fn segments_work() -> Outcome {
    let (one, two) = (low_page(0x1111_2222)?, low_page(0x3333_4444)?);
    set(data(0, one))?;
    set(data(700, two))?;
    check_eq!(through_fs(selector(0)), 0x1111_2222);
    check_eq!(through_fs(selector(700)), 0x3333_4444);
    load_gs(selector(700));
    check_eq!((gs(), through_gs()), (selector(700), 0x3333_4444));
    // A system call keeps it.
    getpid();
    check_eq!((gs(), through_gs()), (selector(700), 0x3333_4444));
    load_gs(0);
    // The base that was set by call is no segment's.
    const ARCH_SET_GS: i32 = 0x1001;
    sys!(SYS_arch_prctl, ARCH_SET_GS, two)?;
    check_eq!((gs(), through_gs()), (0, 0x3333_4444));
    load_gs(selector(0));
    check_eq!(through_gs(), 0x1111_2222);
    sys!(SYS_arch_prctl, ARCH_SET_GS, two)?;
    check_eq!((gs(), through_gs()), (0, 0x3333_4444));
    Ok(())
}

fn threads_share_the_table() -> Outcome {
    let page = low_page(7)?;
    let thread = std::thread::spawn(move || set(data(5, page)));
    thread.join().map_err(|_| Failure::new("thread"))??;
    check_eq!(through_fs(selector(5)), 7);
    Ok(())
}

/// A table that another thread changed holds on all CPUs, for what is loaded from then on.
fn other_cpus_are_told() -> Outcome {
    use std::sync::atomic::{AtomicU32, Ordering};
    let (one, two) = (low_page(1)?, low_page(2)?);
    set(data(1, one))?;
    let round = AtomicU32::new(1);
    let seen = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut wrong = 0;
            loop {
                let now = round.load(Ordering::SeqCst);
                if now == 0 {
                    return wrong;
                }
                let value = through_fs(selector(1));
                // Unless it was changed meanwhile.
                let still = now != u32::MAX && round.load(Ordering::SeqCst) == now;
                if still && value != 2 - now % 2 {
                    wrong += 1;
                }
                seen.store(now, Ordering::SeqCst);
            }
        });
        for n in 1..200_u32 {
            // Nobody looks while it is changed.
            while seen.load(Ordering::SeqCst) != n {
                std::thread::yield_now();
            }
            round.store(u32::MAX, Ordering::SeqCst);
            let base = if (n + 1) % 2 == 1 { one } else { two };
            if set(data(1, base)).is_err() {
                break;
            }
            round.store(n + 1, Ordering::SeqCst);
        }
        round.store(0, Ordering::SeqCst);
        check_eq!(reader.join().unwrap_or(999), 0);
        Ok(())
    })
}

fn children_have_a_copy() -> Outcome {
    let (one, two) = (low_page(1)?, low_page(2)?);
    set(data(1, one))?;
    load_gs(selector(1));
    let status = in_child(|| {
        let inherited = through_gs() == 1 && through_fs(selector(1)) == 1;
        let changed = set(data(1, two)).is_ok() && through_fs(selector(1)) == 2;
        i32::from(!inherited) | i32::from(!changed) << 1
    })?;
    check_eq!(status, 0);
    check_eq!(through_fs(selector(1)), 1);
    load_gs(0);
    Ok(())
}

fn exec_has_none() -> Outcome {
    set(data(1, low_page(1)?))?;
    load_gs(selector(1));
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_dup3, ends[1], 1, 0);
        let argv = [c"x".as_ptr(), c"helper:segments".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), addr(&argv), 0);
        1
    })?;
    load_gs(0);
    close(ends[1])?;
    let text = read_all(ends[0])?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(String::from_utf8_lossy(&text), "0 0");
    Ok(())
}

fn selectors_survive_switches() -> Outcome {
    let workers: Vec<_> = (1..5_u32)
        .map(|n| {
            fork(move || {
                let Ok(page) = low_page(n) else { return 1 };
                if set(data(n, page)).is_err() {
                    return 2;
                }
                load_gs(selector(n));
                // SAFETY: these are not used in 64-bit mode.
                unsafe { asm!("mov es, {0:x}", in(reg) selector(n)) };
                for round in 0..200 {
                    let _ = sys!(SYS_sched_yield);
                    if round % 50 == 0 {
                        sleep_ms(1);
                    }
                    let es: u16;
                    // SAFETY: reads a register.
                    unsafe { asm!("mov {0:x}, es", out(reg) es) };
                    if gs() != selector(n) || es != selector(n) || through_gs() != n {
                        return 3;
                    }
                }
                0
            })
        })
        .collect();
    for worker in workers {
        check_eq!(wait_exit(worker?)?, 0);
    }
    // Ours are as they were.
    check_eq!(gs(), 0);
    Ok(())
}

/// A register that still has the selector of a segment that is gone.
fn removed_segments() -> Outcome {
    let page = low_page(9)?;
    set(data(1, page))?;
    load_gs(selector(1));
    // SAFETY: not used in 64-bit mode.
    unsafe { asm!("mov ds, {0:x}", in(reg) selector(1)) };
    set(Desc { entry: 1, base: 0, limit: 0, flags: READ_EXEC_ONLY | NOT_PRESENT })?;
    for _ in 0..20 {
        sleep_ms(1);
    }
    let status = in_child(|| {
        sleep_ms(1);
        load_gs(selector(1));
        0
    })?;
    check_eq!(status, -SIGSEGV);
    for bad in [selector(2), selector(8191), 0x13, 0x43, 0x53, 0x7fff] {
        let status = in_child(|| {
            load_gs(bad);
            0
        })?;
        check!(status == -SIGSEGV, "{bad:#x}: {status}");
    }
    load_gs(0);
    Ok(())
}

/// Changes the segments of the interrupted program: cs, and above it ss.
extern "C" fn change_segments(_: i32, _: *mut siginfo_t, context: *mut c_void) {
    let wanted = WANTED.load(std::sync::atomic::Ordering::SeqCst);
    // SAFETY: the kernel hands over a ucontext.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let word = registers[REG_CSGSFS as usize] as u64;
    let (cs, ss) = (u64::from(wanted & 0xffff), u64::from(wanted >> 16));
    registers[REG_CSGSFS as usize] = (word & 0x0000_ffff_ffff_0000 | cs | ss << 48) as i64;
}

static WANTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn handle(signal: i32, handler: extern "C" fn(i32, *mut siginfo_t, *mut c_void)) {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    let _ = c!(sigaction(signal, &raw const action, std::ptr::null_mut()));
}

const USER_CS: u16 = 0x33;
const USER_DS: u16 = 0x2b;

/// How a child ends whose signal handler returns to these segments.
fn return_to(cs: u16, ss: u16) -> Result<i32, Errno> {
    WANTED.store(u32::from(cs) | u32::from(ss) << 16, std::sync::atomic::Ordering::SeqCst);
    in_child(|| {
        handle(SIGUSR1, change_segments);
        let _ = kill(getpid(), SIGUSR1);
        0
    })
}

fn sigreturn_to_bad_segments() -> Outcome {
    set(data(1, low_page(1)?))?;
    set(Desc { flags: SEG_32BIT | NOT_PRESENT, ..data(2, 0) })?;
    set(Desc { flags: SEG_32BIT | CODE | NOT_PRESENT, ..data(3, 0) })?;
    check_eq!(return_to(USER_CS, USER_DS)?, 0);
    // The kernel's, data for code and code for data, what is not there, beyond the tables.
    for cs in [0x10, 0x18, USER_DS, 0x43, 0x53, 0x7b, selector(1), selector(4), selector(8191), 0xfff8, 0] {
        check!(return_to(cs, USER_DS)? == -SIGSEGV, "cs {cs:#x}: {}", return_to(cs, USER_DS)?);
    }
    for ss in [0x10, 0x18, USER_CS, 0x43, 0x53, selector(4), selector(8191), 0xfff8, 0] {
        check!(return_to(USER_CS, ss)? == -SIGSEGV, "ss {ss:#x}: {}", return_to(USER_CS, ss)?);
    }
    // What is marked as not present has signals of its own.
    check_eq!(return_to(selector(3), USER_DS)?, -SIGBUS);
    check_eq!(return_to(USER_CS, selector(2))?, -SIGBUS);
    // Whatever happened, others go on.
    check_eq!(return_to(USER_CS, USER_DS)?, 0);
    Ok(())
}

/// 32-bit code in a segment of its own raises an exception with its own selectors, and goes back by sigreturn.
fn sigreturn_to_own_segments() -> Outcome {
    static SEEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    extern "C" fn on_trap(_: i32, _: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel hands over a ucontext.
        let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
        let seen = registers[REG_CSGSFS as usize] as u64;
        SEEN.store(seen, std::sync::atomic::Ordering::SeqCst);
    }
    let status = in_child(|| {
        let Ok(code) = low_page(0) else { return 1 };
        let Ok(stack) = low_page(0) else { return 2 };
        // int3; jmp far back to 64-bit mode, through a pointer in the data segment at 100.
        let program = [0xcc, 0xff, 0x2d, 100, 0, 0, 0];
        for (n, byte) in program.iter().enumerate() {
            poke(code as usize + n, *byte);
        }
        let flat =
            |entry, flags| Desc { entry, base: 0, limit: 0xf_ffff, flags: SEG_32BIT | IN_PAGES | flags };
        let made = set(Desc { entry: 0, base: code, limit: 4095, flags: SEG_32BIT | CODE })
            .and_then(|()| set(data(1, code)))
            .and_then(|()| set(flat(2, 0)));
        if made.is_err() {
            return 3;
        }
        handle(SIGTRAP, on_trap);
        // SAFETY: goes to the program above and comes back to label 3, with the stack as it was.
        unsafe {
            asm!(
                "push rbx", "push rbp",
                "mov r12, rsp",
                "lea rax, [rip + 3f]",
                "mov [{code} + 100], eax",
                "mov word ptr [{code} + 104], 0x33",
                "mov r13, [rip + 4f]",
                // The way back must be below 4 GiB: a jump that is copied there.
                "mov byte ptr [{code} + 200], 0x49", "mov byte ptr [{code} + 201], 0xbb",
                "mov [{code} + 202], rax",
                "mov byte ptr [{code} + 210], 0x41", "mov byte ptr [{code} + 211], 0xff", "mov byte ptr [{code} + 212], 0xe3",
                "lea rax, [{code} + 200]",
                "mov [{code} + 100], eax",
                "mov ds, {data:x}",
                "lea rax, [{stack} + 4000]",
                "push {ss}", "push rax", "pushfq", "push {cs}", "push 0",
                "iretq",
                "4:", ".quad 0",
                "3:",
                "mov eax, 0x2b", "mov ss, eax",
                "mov rsp, r12",
                "xor eax, eax", "mov ds, eax",
                "pop rbp", "pop rbx",
                code = in(reg) u64::from(code), stack = in(reg) u64::from(stack), data = in(reg) u64::from(selector(1)),
                ss = in(reg) u64::from(selector(2)), cs = in(reg) u64::from(selector(0)),
                out("rax") _, out("r11") _, out("r12") _, out("r13") _,
            );
        }
        let seen = SEEN.load(std::sync::atomic::Ordering::SeqCst);
        let good = seen as u16 == selector(0) && (seen >> 48) as u16 == selector(2);
        i32::from(!good) * 4
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn ptrace_sets_selectors() -> Outcome {
    let child = fork(|| {
        let _ = sys!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
        let _ = set(data(1, low_page(3).unwrap_or(0)));
        let _ = kill(getpid(), SIGSTOP);
        i32::from(through_gs() != 3)
    })?;
    wait(child)?;
    let mut registers: user_regs_struct = zeroed();
    sys!(SYS_ptrace, PTRACE_GETREGS, child, 0, addr_mut(&mut registers))?;
    check_eq!((registers.cs, registers.ss), (u64::from(USER_CS), u64::from(USER_DS)));
    check_eq!((registers.ds, registers.es, registers.fs, registers.gs), (0, 0, 0, 0));
    // Not the kernel's.
    for bad in [1_u64, 0x10, 0x42] {
        let changed = user_regs_struct { gs: bad, ..registers };
        check_err!(sys!(SYS_ptrace, PTRACE_SETREGS, child, 0, addr(&changed)), EIO);
        let changed = user_regs_struct { cs: bad, ..registers };
        check_err!(sys!(SYS_ptrace, PTRACE_SETREGS, child, 0, addr(&changed)), EIO);
    }
    let page = registers.gs_base;
    let changed = user_regs_struct { gs: selector(1).into(), es: selector(1).into(), ..registers };
    sys!(SYS_ptrace, PTRACE_SETREGS, child, 0, addr(&changed))?;
    let mut again: user_regs_struct = zeroed();
    sys!(SYS_ptrace, PTRACE_GETREGS, child, 0, addr_mut(&mut again))?;
    check_eq!((again.gs, again.es), (selector(1).into(), selector(1).into()));
    check_eq!(again.gs_base, page);
    // Code segments that are none end in a signal.
    let changed = user_regs_struct { cs: selector(1).into(), ..registers };
    sys!(SYS_ptrace, PTRACE_SETREGS, child, 0, addr(&changed))?;
    sys!(SYS_ptrace, PTRACE_CONT, child, 0, 0)?;
    let status = wait(child)?;
    check!(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSEGV, "{status:#x}");
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn tls_is_not_a_segment() -> Outcome {
    // The C library's own base is still there after all of this.
    set(data(1, low_page(1)?))?;
    let before: u64;
    // SAFETY: reads a register.
    unsafe { asm!("rdfsbase {0}", out(reg) before) };
    check_eq!(through_fs(selector(1)), 1);
    sleep_ms(2);
    let after: u64;
    // SAFETY: reads a register.
    unsafe { asm!("rdfsbase {0}", out(reg) after) };
    check_eq!(before, after);
    Ok(())
}
