//! Steps, breakpoints and watchpoints, of the processor's own: ptrace(2).

use crate::prelude::*;
use crate::ptrace::{
    ARG0, IP, NR, RESULT, SYSCALL_LEN, cont, count_to, expect_stop, handle, leave_with_17, peek_word, ptrace,
    regs, run_to, set_regs, siginfo, traced,
};
#[cfg(target_arch = "aarch64")]
use crate::ptrace::{get_set, set_set};
use std::sync::atomic::Ordering::SeqCst;

tests![
    single_steps,
    step_over_syscall,
    step_into_handler,
    hardware_breakpoints,
    hardware_watchpoints,
    code_of_the_kernel_can_be_patched,
];

fn single_steps() -> Outcome {
    let child = traced(|| i32::from(count_to(10) != 45))?;
    let at = count_to as *const () as u64;
    let (mut steps, mut inside) = (0, 0);
    let mut last = 0;
    loop {
        ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
        let (_, status) = wait_options(child, 0)?;
        if WIFEXITED(status) {
            check_eq!(WEXITSTATUS(status), 0);
            break;
        }
        check!(WIFSTOPPED(status) && status >> 8 == SIGTRAP, "{status:#x}");
        steps += 1;
        let all = regs(child)?;
        // No more of it is seen in the flags.
        #[cfg(target_arch = "x86_64")]
        check_eq!(all[18] & 0x100, 0);
        check!(all[IP] != last || steps > 1);
        last = all[IP];
        if (at..at + 64).contains(&last) {
            inside += 1;
            check_eq!(siginfo(child)?.si_code, 2);
        }
        if last == at {
            check_eq!(all[ARG0], 10);
        }
        if steps > 200_000 {
            break;
        }
        // Enough was seen; the rest is the way out.
        if inside > 30 && !(at..at + 64).contains(&last) {
            cont(child, 0)?;
            check_eq!(wait_exit(child)?, 0);
            break;
        }
    }
    check!(inside > 20, "{inside} of {steps} steps");
    Ok(())
}

fn step_over_syscall() -> Outcome {
    let child = traced(|| {
        let _ = sys!(SYS_getppid);
        0
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    run_to(child, SYS_getppid)?;
    let before = regs(child)?[IP];
    ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
    expect_stop(child, SIGTRAP)?;
    // The call is over, and nothing behind it was executed.
    check_eq!(regs(child)?[IP], before);
    check_eq!(regs(child)?[RESULT] as i32, getpid());
    ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
    expect_stop(child, SIGTRAP)?;
    check!(regs(child)?[IP] != before);
    // A step onto the instruction, and one over it.
    let mut all = regs(child)?;
    all[IP] = before - SYSCALL_LEN;
    all[if cfg!(target_arch = "x86_64") { RESULT } else { NR }] = SYS_getppid as u64;
    set_regs(child, &all)?;
    ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
    expect_stop(child, SIGTRAP)?;
    check_eq!(regs(child)?[IP], before);
    check_eq!(regs(child)?[RESULT] as i32, getpid());
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn step_into_handler() -> Outcome {
    let handler = leave_with_17 as *const () as usize;
    let child = traced(move || {
        handle(SIGUSR1, handler, 0);
        let _ = kill(getpid(), SIGUSR1);
        0
    })?;
    cont(child, 0)?;
    expect_stop(child, SIGUSR1)?;
    ptrace(PTRACE_SINGLESTEP, child, 0, SIGUSR1 as usize)?;
    expect_stop(child, SIGTRAP)?;
    // Before the first instruction of the handler.
    check_eq!(regs(child)?[IP] as usize, handler);
    check_eq!(regs(child)?[ARG0] as i32, SIGUSR1);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 17);
    Ok(())
}

/// Puts a breakpoint (`kind` 0) or a watchpoint for writing (1) at `at`, four bytes long.
fn set_hardware(child: i32, at: usize, watch: bool) -> Outcome {
    #[cfg(target_arch = "x86_64")]
    {
        const DEBUGREG: usize = 848;
        ptrace(PTRACE_POKEUSER, child, DEBUGREG, at)?;
        let control = 1 | if watch { 1 << 16 | 3 << 18 } else { 0 };
        ptrace(PTRACE_POKEUSER, child, DEBUGREG + 7 * 8, control)?;
        let mut word = 0_usize;
        ptrace(PTRACE_PEEKUSER, child, DEBUGREG, addr_mut(&mut word))?;
        check_eq!(word, at);
        ptrace(PTRACE_PEEKUSER, child, DEBUGREG + 7 * 8, addr_mut(&mut word))?;
        check_eq!(word, control);
    }
    #[cfg(target_arch = "aarch64")]
    {
        let note = if watch { 0x403 } else { 0x402 };
        let mut state = [0_u8; 264];
        let len = get_set(child, note, &mut state)?;
        check!(len >= 24 && state[0] > 0, "{len} {:?}", &state[..8]);
        state[8..16].copy_from_slice(&(at as u64).to_ne_bytes());
        let control: u32 = if watch { 1 | 2 << 3 | 0xf << 5 } else { 1 | 0xf << 5 };
        state[16..20].copy_from_slice(&control.to_ne_bytes());
        set_set(child, note, &mut state[..24])?;
        get_set(child, note, &mut state[..24])?;
        check_eq!(state[8..16], (at as u64).to_ne_bytes());
    }
    Ok(())
}

fn clear_hardware(child: i32) -> Outcome {
    #[cfg(target_arch = "x86_64")]
    ptrace(PTRACE_POKEUSER, child, 848 + 7 * 8, 0)?;
    #[cfg(target_arch = "aarch64")]
    for note in [0x402, 0x403] {
        let mut state = [0_u8; 24];
        set_set(child, note, &mut state)?;
    }
    Ok(())
}

fn hardware_breakpoints() -> Outcome {
    let child = traced(|| i32::from(count_to(3) != 3 || count_to(4) != 6))?;
    let at = count_to as *const () as usize;
    set_hardware(child, at, false)?;
    cont(child, 0)?;
    expect_stop(child, SIGTRAP)?;
    let all = regs(child)?;
    check_eq!((all[IP] as usize, all[ARG0]), (at, 3));
    check_eq!(siginfo(child)?.si_code, 4);
    #[cfg(target_arch = "x86_64")]
    {
        let mut status = 0_usize;
        ptrace(PTRACE_PEEKUSER, child, 848 + 6 * 8, addr_mut(&mut status))?;
        check_eq!(status & 0xf, 1);
        // What is none.
        check_err!(ptrace(PTRACE_POKEUSER, child, 848, 0xffff_8000_0000_0000), EINVAL);
        check_err!(ptrace(PTRACE_POKEUSER, child, 848 + 4 * 8, 0), EIO);
        check_err!(ptrace(PTRACE_POKEUSER, child, 848 + 7 * 8, 1 | 2 << 16), EINVAL);
    }
    #[cfg(target_arch = "aarch64")]
    {
        // The exception comes before the instruction: step over it without the breakpoint.
        clear_hardware(child)?;
        ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
        expect_stop(child, SIGTRAP)?;
        set_hardware(child, at, false)?;
    }
    cont(child, 0)?;
    expect_stop(child, SIGTRAP)?;
    check_eq!(regs(child)?[ARG0], 4);
    clear_hardware(child)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn hardware_watchpoints() -> Outcome {
    let word = map_anon(4096)? + 64;
    let child = traced(|| {
        for value in 1..4 {
            atomic(word).store(value, SeqCst);
            atomic(word + 8).store(value, SeqCst);
            let _ = atomic(word).load(SeqCst);
        }
        0
    })?;
    set_hardware(child, word, true)?;
    for value in 1..4 {
        cont(child, 0)?;
        expect_stop(child, SIGTRAP)?;
        let info = siginfo(child)?;
        check_eq!(info.si_code, 4);
        #[cfg(target_arch = "aarch64")]
        {
            // SAFETY: a trap has an address.
            check_eq!(unsafe { info.si_addr() } as usize, word);
            clear_hardware(child)?;
            ptrace(PTRACE_SINGLESTEP, child, 0, 0)?;
            expect_stop(child, SIGTRAP)?;
            set_hardware(child, word, true)?;
        }
        check_eq!(peek_word(child, word)? as u32, value);
    }
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    // Others are not watched, nor are children.
    let child = traced(|| {
        let status = in_child(|| {
            atomic(word).store(1, SeqCst);
            3
        });
        status.unwrap_or(1)
    })?;
    set_hardware(child, word, true)?;
    atomic(word).store(5, SeqCst);
    cont(child, 0)?;
    expect_stop(child, SIGCHLD)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 3);
    Ok(())
}

/// The addresses of the area with this name.
fn area(name: &str) -> Option<(usize, usize)> {
    let maps = slurp(c"/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(name))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

/// A debugger that waits for the end of a signal handler has its breakpoint in the vDSO, where arm64 has the way out.
fn code_of_the_kernel_can_be_patched() -> Outcome {
    let Some((start, end)) = area("[vdso]") else { return Err(Failure::new("no vdso")) };
    let at = end - 8;
    let old = peek(at);
    let patched = || i32::from(peek(at) != !old || peek(start) != 0x7f);
    // In the child alone.
    let child = traced(patched)?;
    let word = peek_word(child, at)?;
    ptrace(PTRACE_POKETEXT, child, at, word ^ 0xff)?;
    check_eq!(peek_word(child, at)?, word ^ 0xff);
    check_eq!(peek(at), old);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(peek(at), old);
    // In this process and, because it is private memory then, in its children.
    let memory = open(c"/proc/self/mem", O_RDWR, 0)?;
    check_eq!(sys!(SYS_pwrite64, memory, [!old].as_ptr(), 1, at)?, 1);
    check_eq!(peek(at), !old);
    check_eq!(in_child(patched)?, 0);
    // Time goes on.
    check!(std::time::Instant::now().elapsed().as_secs() < 60);
    // A program that wants to can do so itself. What the kernel writes is nobody else's to write.
    sys!(SYS_mprotect, start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC)?;
    poke(at, old);
    check_eq!(peek(at), old);
    sys!(SYS_mprotect, start, end - start, PROT_READ | PROT_EXEC)?;
    let Some((data, _)) = area("[vvar]") else { return Err(Failure::new("no vvar")) };
    check_err!(sys!(SYS_pwrite64, memory, [0_u8].as_ptr(), 1, data), EIO);
    check_err!(sys!(SYS_mprotect, data, 4096, PROT_READ | PROT_WRITE), EACCES);
    Ok(())
}
