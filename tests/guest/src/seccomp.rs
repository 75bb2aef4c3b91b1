//! Restricted system calls: seccomp(2), seccomp_unotify(2), `PR_SET_SECCOMP`.

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

tests![
    strict_mode,
    strict_mode_errors,
    filter_errors,
    filter_program_rules,
    filter_needs_privilege,
    errno_action,
    kill_actions,
    unknown_action_kills,
    kill_thread_spares_others,
    trap_action,
    trap_default_and_blocked,
    trace_without_tracer,
    log_and_allow,
    stacked_precedence,
    filter_sees_arguments,
    filter_sees_arch_and_ip,
    number_is_an_int,
    inherited_by_fork_and_exec,
    path_length_limit,
    action_avail,
    notif_sizes,
    status_lines,
    sysctls,
    tsync_all_threads,
    tsync_refused,
    tsync_flags,
    filter_and_restart,
];

const RET_KILL_PROCESS: u32 = 0x8000_0000;

const RET_KILL_THREAD: u32 = 0;

const RET_TRAP: u32 = 0x0003_0000;

const RET_ERRNO: u32 = 0x0005_0000;

pub(crate) const RET_USER_NOTIF: u32 = 0x7fc0_0000;

const RET_TRACE: u32 = 0x7ff0_0000;

const RET_LOG: u32 = 0x7ffc_0000;

pub(crate) const RET_ALLOW: u32 = 0x7fff_0000;

const SET_STRICT: usize = 0;

const SET_FILTER: usize = 1;

const ACTION_AVAIL: usize = 2;

const NOTIF_SIZES: usize = 3;

const TSYNC: usize = 1;

const LOG: usize = 2;

const SPEC_ALLOW: usize = 4;

pub(crate) const NEW_LISTENER: usize = 8;

const TSYNC_ESRCH: usize = 16;

pub(crate) const WAIT_KILLABLE: usize = 32;

pub(crate) const RECV: usize = 0xc050_2100;

pub(crate) const SEND: usize = 0xc018_2101;

pub(crate) const ID_VALID: usize = 0x4008_2102;

pub(crate) const ID_VALID_OLD: usize = 0x8008_2102;

pub(crate) const ADDFD: usize = 0x4018_2103;

pub(crate) const SET_FLAGS: usize = 0x4008_2104;

#[cfg(target_arch = "x86_64")]
pub(crate) const ARCH: u32 = 0xc000_003e;

#[cfg(target_arch = "aarch64")]
pub(crate) const ARCH: u32 = 0xc000_00b7;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

#[repr(C)]
struct Prog {
    len: u16,
    filter: *const Insn,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Data {
    pub(crate) nr: i32,
    pub(crate) arch: u32,
    pub(crate) ip: u64,
    pub(crate) args: [u64; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Notif {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) flags: u32,
    pub(crate) data: Data,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Resp {
    pub(crate) id: u64,
    pub(crate) val: i64,
    pub(crate) error: i32,
    pub(crate) flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct AddFd {
    pub(crate) id: u64,
    pub(crate) flags: u32,
    pub(crate) srcfd: u32,
    pub(crate) newfd: u32,
    pub(crate) newfd_flags: u32,
}

fn insn(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

pub(crate) fn ret(k: u32) -> Insn {
    insn(0x06, k)
}

/// Loads a word of the data.
pub(crate) fn load(offset: u32) -> Insn {
    insn(0x20, offset)
}

pub(crate) fn jeq(k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code: 0x15, jt, jf, k }
}

/// Answers `value` for call `nr`, "allow" for all others.
pub(crate) fn only(nr: c_long, value: u32) -> Vec<Insn> {
    vec![load(0), jeq(nr as u32, 0, 1), ret(value), ret(RET_ALLOW)]
}

fn no_new_privs() -> crate::sys::Result<usize> {
    sys!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)`.
pub(crate) fn install(flags: usize, insns: &[Insn]) -> crate::sys::Result<usize> {
    let prog = Prog { len: insns.len() as u16, filter: insns.as_ptr() };
    sys!(SYS_seccomp, SET_FILTER, flags, addr(&prog))
}

/// Runs `body` in a child under a filter: its exit status, or minus the signal that killed it.
pub(crate) fn under(insns: &[Insn], body: impl FnOnce() -> i32) -> crate::sys::Result<i32> {
    in_child(|| if install(0, insns).is_ok() { body() } else { 99 })
}

pub(crate) fn errno_of(result: crate::sys::Result<usize>) -> i32 {
    result.err().map_or(0, |e| e.0)
}

/// A child status that says what failed: 0 if all is true, otherwise the position (from 1) of the first false.
pub(crate) fn all(facts: &[bool]) -> i32 {
    facts.iter().position(|fact| !fact).map_or(0, |at| at as i32 + 1)
}

fn strict_mode() -> Outcome {
    for by_prctl in [true, false] {
        let enter = move || {
            if by_prctl {
                sys!(SYS_prctl, PR_SET_SECCOMP, 1, 0, 0, 0)
            } else {
                sys!(SYS_seccomp, SET_STRICT, 0, 0)
            }
        };
        // read, write and exit are allowed.
        let ends = pipe(0)?;
        let child = fork(|| {
            let _ = enter();
            let _ = write(ends[1], b"x");
            let _ = read_vec(ends[0], 0);
            // Not exit_group.
            let _ = sys!(SYS_exit, 7);
            0
        })?;
        check_eq!(wait_exit(child)?, 7);
        check_eq!(read_vec(ends[0], 1)?, b"x");
        // Everything else kills, by SIGKILL.
        let status = in_child(|| {
            let _ = enter();
            let _ = sys!(SYS_getppid);
            0
        })?;
        check_eq!(status, -SIGKILL);
        let status = in_child(|| {
            let _ = enter();
            let _ = sys!(SYS_exit_group, 0);
            0
        })?;
        check_eq!(status, -SIGKILL);
    }
    Ok(())
}

fn strict_mode_errors() -> Outcome {
    check_err!(sys!(SYS_seccomp, SET_STRICT, 1, 0), EINVAL);
    check_err!(sys!(SYS_seccomp, SET_STRICT, 0, 1), EINVAL);
    check_err!(sys!(SYS_seccomp, 77, 0, 0), EINVAL);
    check_err!(sys!(SYS_prctl, PR_SET_SECCOMP, 0, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_prctl, PR_SET_SECCOMP, 3, 0, 0, 0), EINVAL);
    check_eq!(sys!(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0)?, 0);
    let status = under(&[ret(RET_ALLOW)], || {
        all(&[
            sys!(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == Ok(2),
            errno_of(sys!(SYS_seccomp, SET_STRICT, 0, 0)) == EINVAL,
            errno_of(sys!(SYS_prctl, PR_SET_SECCOMP, 1, 0, 0, 0)) == EINVAL,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn filter_errors() -> Outcome {
    let allow = [ret(RET_ALLOW)];
    check_err!(sys!(SYS_seccomp, SET_FILTER, 0, 0), EFAULT);
    check_err!(sys!(SYS_seccomp, SET_FILTER, 64, 0), EINVAL);
    check_err!(install(1 << 31, &allow), EINVAL);
    check_err!(install(0, &[]), EINVAL);
    check_err!(install(0, &vec![ret(RET_ALLOW); 4097]), EINVAL);
    let prog = Prog { len: 1, filter: 16 as *const Insn };
    check_err!(sys!(SYS_seccomp, SET_FILTER, 0, addr(&prog)), EFAULT);
    let prog = Prog { len: 1, filter: std::ptr::null() };
    check_err!(sys!(SYS_seccomp, SET_FILTER, 0, addr(&prog)), EINVAL);
    check_err!(sys!(SYS_prctl, PR_SET_SECCOMP, 2, 0, 0, 0), EFAULT);
    check_err!(install(WAIT_KILLABLE, &allow), EINVAL);
    check_err!(install(TSYNC | NEW_LISTENER, &allow), EINVAL);
    // By prctl it works as well.
    let status = in_child(|| {
        let insns = only(SYS_getppid, RET_ERRNO | 33);
        let prog = Prog { len: insns.len() as u16, filter: insns.as_ptr() };
        all(&[
            sys!(SYS_prctl, PR_SET_SECCOMP, 2, addr(&prog), 0, 0).is_ok(),
            errno_of(sys!(SYS_getppid)) == 33,
        ])
    })?;
    check_eq!(status, 0);
    check_eq!(under(&vec![ret(RET_ALLOW); 4096], || 0)?, 0);
    Ok(())
}

fn filter_program_rules() -> Outcome {
    let last = ret(RET_ALLOW);
    let bad: &[&[Insn]] = &[
        // No return at the end.
        &[load(0)],
        // Loads: not aligned, behind the data, of packet data, of half words and bytes, by index.
        &[load(2), last],
        &[load(64), last],
        &[load(0xffff_f000), last],
        &[insn(0x28, 0), last],
        &[insn(0x30, 0), last],
        &[insn(0x40, 0), last],
        &[insn(0xb1, 0), last],
        // Jumps behind the end.
        &[insn(0x05, 1), last],
        &[jeq(0, 0, 1), last],
        // Division by zero, shifts too far, remainders (not for seccomp).
        &[insn(0x34, 0), last],
        &[insn(0x64, 32), last],
        &[insn(0x94, 3), last],
        &[insn(0x9c, 0), last],
        // Scratch memory: no such word, not written.
        &[insn(0x02, 16), last],
        &[insn(0x60, 3), last],
        // No such instruction; extended BPF.
        &[insn(0xffff, 0), last],
        &[insn(0x07 | 0x40, 0), last],
        &[insn(0x85, 1), last],
        &[insn(0x0e, 0)],
    ];
    for insns in bad {
        let codes: Vec<(u16, u32)> = insns.iter().map(|i| (i.code, i.k)).collect();
        let result = install(0, insns);
        check!(errno_of(result) == EINVAL, "{codes:x?} gave {result:?}");
    }
    let good: &[&[Insn]] = &[
        &[load(60), last],
        &[insn(0x80, 0), insn(0x81, 0), last],
        &[insn(0x00, 9), insn(0x01, 9), insn(0x02, 0), insn(0x03, 15), insn(0x60, 0), insn(0x61, 15), last],
        &[insn(0x04, 1), insn(0x1c, 1), insn(0x24, 3), insn(0x34, 3), insn(0x44, 1), insn(0x54, 1), last],
        &[insn(0x64, 31), insn(0x74, 1), insn(0xa4, 1), insn(0x84, 0), insn(0x07, 0), insn(0x87, 0), last],
        &[load(0), insn(0x00, RET_ALLOW), insn(0x16, 0)],
    ];
    for insns in good {
        let codes: Vec<(u16, u32)> = insns.iter().map(|i| (i.code, i.k)).collect();
        check_eq!((codes, in_child(|| errno_of(install(0, insns)))?).1, 0);
    }
    Ok(())
}

fn filter_needs_privilege() -> Outcome {
    let allow = [ret(RET_ALLOW)];
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let before = errno_of(install(0, &allow));
        let missing = errno_of(sys!(SYS_seccomp, SET_FILTER, 0, 0));
        let _ = no_new_privs();
        all(&[before == EACCES, missing == EFAULT, install(0, &allow).is_ok()])
    })?;
    check_eq!(status, 0);
    // A length that cannot be is noticed first.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        errno_of(install(0, &[]))
    })?;
    check_eq!(status, EINVAL);
    Ok(())
}

fn errno_action() -> Outcome {
    for (value, expected) in [(1, 1), (133, 133), (4095, 4095), (5000, 4095)] {
        let status = under(&only(SYS_getppid, RET_ERRNO | value), || {
            i32::from(errno_of(sys!(SYS_getppid)) != expected)
        })?;
        check_eq!((value, status), (value, 0));
    }
    // Errno 0: the call is skipped and gives 0.
    let status = under(&only(SYS_getppid, RET_ERRNO), || i32::from(sys!(SYS_getppid) != Ok(0)))?;
    check_eq!(status, 0);
    // Calls that do not exist are filtered too.
    let status = under(&only(5000, RET_ERRNO | 5), || {
        // SAFETY: no such call.
        let value = unsafe { libc::syscall(5000) };
        i32::from(errno_of(crate::sys::result(value)) != 5)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn kill_actions() -> Outcome {
    for value in [RET_KILL_PROCESS, RET_KILL_THREAD, RET_KILL_PROCESS | 77] {
        let status = under(&only(SYS_getppid, value), || {
            let _ = sys!(SYS_getppid);
            0
        })?;
        check_eq!(status, -SIGSYS);
    }
    // No handler and no mask helps.
    let status = under(&only(SYS_getppid, RET_KILL_PROCESS), || {
        let _ = c!(signal(SIGSYS, SIG_IGN));
        let mut set: sigset_t = zeroed();
        let _ = c!(sigfillset(&raw mut set));
        let _ = c!(sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()));
        let _ = sys!(SYS_getppid);
        0
    })?;
    check_eq!(status, -SIGSYS);
    Ok(())
}

fn unknown_action_kills() -> Outcome {
    let status = under(&only(SYS_getppid, 0x7fd0_0000), || {
        let _ = sys!(SYS_getppid);
        0
    })?;
    check_eq!(status, -SIGSYS);
    Ok(())
}

fn kill_thread_spares_others() -> Outcome {
    let status = under(&only(SYS_getppid, RET_KILL_THREAD), || {
        let victim = std::thread::spawn(|| {
            let _ = sys!(SYS_getppid);
        });
        // The thread is gone without a word; joining works, for the kernel clears its id.
        let _ = victim;
        let gone = eventually(|| std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) == 1);
        i32::from(!gone)
    })?;
    check_eq!(status, 0);
    let status = under(&only(SYS_getppid, RET_KILL_PROCESS), || {
        let victim = std::thread::spawn(|| {
            let _ = sys!(SYS_getppid);
        });
        let _ = victim;
        sleep_ms(5000);
        0
    })?;
    check_eq!(status, -SIGSYS);
    Ok(())
}

static TRAP_CODE: AtomicI32 = AtomicI32::new(0);

static TRAP_ERRNO: AtomicI32 = AtomicI32::new(0);

static TRAP_NR: AtomicI32 = AtomicI32::new(0);

static TRAP_ARCH: AtomicU32 = AtomicU32::new(0);

static TRAP_AT_IP: AtomicI32 = AtomicI32::new(0);

static TRAP_REGISTER: AtomicI32 = AtomicI32::new(-1);

/// Emulates the call: its result is 4321.
extern "C" fn on_sigsys(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo and a context to SA_SIGINFO handlers.
    unsafe {
        let words = info.cast::<i32>();
        TRAP_ERRNO.store(*words.add(1), Ordering::SeqCst);
        TRAP_CODE.store(*words.add(2), Ordering::SeqCst);
        let call_addr = *info.cast::<u64>().add(2);
        TRAP_NR.store(*words.add(6), Ordering::SeqCst);
        TRAP_ARCH.store(*words.add(7) as u32, Ordering::SeqCst);
        let context = context.cast::<ucontext_t>();
        #[cfg(target_arch = "x86_64")]
        {
            let registers = &mut (*context).uc_mcontext.gregs;
            TRAP_AT_IP.store(i32::from(registers[REG_RIP as usize] as u64 == call_addr), Ordering::SeqCst);
            TRAP_REGISTER.store(registers[REG_RAX as usize] as i32, Ordering::SeqCst);
            registers[REG_RAX as usize] = 4321;
        }
        #[cfg(target_arch = "aarch64")]
        {
            let machine = &mut (*context).uc_mcontext;
            TRAP_AT_IP.store(i32::from(machine.pc == call_addr), Ordering::SeqCst);
            TRAP_REGISTER.store(machine.regs[8] as i32, Ordering::SeqCst);
            machine.regs[0] = 4321;
        }
    }
}

fn catch_sigsys() {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = on_sigsys as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    let _ = c!(sigaction(SIGSYS, &raw const action, std::ptr::null_mut()));
}

fn trap_action() -> Outcome {
    let status = under(&only(SYS_getppid, RET_TRAP | 0xabc), || {
        catch_sigsys();
        let value = sys!(SYS_getppid);
        all(&[
            value == Ok(4321),
            TRAP_CODE.load(Ordering::SeqCst) == 1,
            TRAP_ERRNO.load(Ordering::SeqCst) == 0xabc,
            TRAP_NR.load(Ordering::SeqCst) == SYS_getppid as i32,
            TRAP_ARCH.load(Ordering::SeqCst) == ARCH,
            TRAP_AT_IP.load(Ordering::SeqCst) == 1,
            // The registers are those of the call.
            TRAP_REGISTER.load(Ordering::SeqCst) == SYS_getppid as i32,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn trap_default_and_blocked() -> Outcome {
    let trap = only(SYS_getppid, RET_TRAP);
    let call = || {
        let _ = sys!(SYS_getppid);
        0
    };
    check_eq!(under(&trap, call)?, -SIGSYS);
    let status = under(&trap, || {
        let _ = c!(signal(SIGSYS, SIG_IGN));
        call()
    })?;
    check_eq!(status, -SIGSYS);
    // Blocked, with a handler: the signal cannot wait.
    let status = under(&trap, || {
        catch_sigsys();
        let mut set: sigset_t = zeroed();
        let _ = c!(sigaddset(&raw mut set, SIGSYS));
        let _ = c!(sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()));
        call()
    })?;
    check_eq!(status, -SIGSYS);
    Ok(())
}

fn trace_without_tracer() -> Outcome {
    let status = under(&only(SYS_getppid, RET_TRACE | 5), || errno_of(sys!(SYS_getppid)))?;
    check_eq!(status, ENOSYS);
    Ok(())
}

fn log_and_allow() -> Outcome {
    for (flags, value) in
        [(0, RET_LOG), (LOG, RET_LOG), (LOG | SPEC_ALLOW, RET_ALLOW), (SPEC_ALLOW, RET_ALLOW)]
    {
        let status = in_child(|| {
            let parent = sys!(SYS_getppid);
            all(&[install(flags, &only(SYS_getppid, value)).is_ok(), sys!(SYS_getppid) == parent])
        })?;
        check_eq!(status, 0);
    }
    Ok(())
}

fn stacked_precedence() -> Outcome {
    // Whatever the order in which they came, the more restrictive one counts.
    let order = [RET_ALLOW, RET_LOG, RET_TRACE, RET_ERRNO | 7, RET_TRAP, RET_KILL_THREAD, RET_KILL_PROCESS];
    let alone = |value: u32| match value {
        RET_ALLOW | RET_LOG => 0,
        RET_TRACE => ENOSYS,
        RET_TRAP | RET_KILL_THREAD | RET_KILL_PROCESS => -SIGSYS,
        _ => 7,
    };
    for (a, first) in order.iter().enumerate() {
        for (b, second) in order.iter().enumerate() {
            let status = in_child(|| {
                let both = install(0, &only(SYS_getppid, *first)).is_ok()
                    && install(0, &only(SYS_getppid, *second)).is_ok();
                if both { errno_of(sys!(SYS_getppid)) } else { 99 }
            })?;
            check_eq!(((a, b), status), ((a, b), alone(order[a.max(b)])));
        }
    }
    // Of equal ones the newest counts.
    let status = in_child(|| {
        let _ = install(0, &only(SYS_getppid, RET_ERRNO | 3));
        let _ = install(0, &only(SYS_getppid, RET_ERRNO | 2));
        errno_of(sys!(SYS_getppid))
    })?;
    check_eq!(status, 2);
    Ok(())
}

fn filter_sees_arguments() -> Outcome {
    // Denies lseek with 5 as its first and 0x1_0000_0007 as its fifth argument.
    let insns = [
        load(0),
        jeq(SYS_lseek as u32, 0, 7),
        load(16),
        jeq(5, 0, 5),
        load(16 + 32),
        jeq(7, 0, 3),
        load(16 + 36),
        jeq(1, 0, 1),
        ret(RET_ERRNO | 71),
        ret(RET_ALLOW),
    ];
    let status = under(&insns, || {
        let big = (1_usize << 32) + 7;
        all(&[
            errno_of(sys!(SYS_lseek, 5, 0, 0, 0, big, 0)) == 71,
            errno_of(sys!(SYS_lseek, 5, 0, 0, 0, 7, 0)) == EBADF,
            errno_of(sys!(SYS_lseek, 6, 0, 0, 0, big, 0)) == EBADF,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn filter_sees_arch_and_ip() -> Outcome {
    // The instruction pointer lies in user memory: its upper half is small.
    let insns = [
        load(4),
        jeq(ARCH, 1, 0),
        ret(RET_KILL_PROCESS),
        load(12),
        Insn { code: 0x25, jt: 1, jf: 0, k: 0xffff },
        ret(RET_ALLOW),
        ret(RET_KILL_PROCESS),
    ];
    check_eq!(under(&insns, || 0)?, 0);
    let wrong = [load(4), jeq(ARCH, 1, 0), ret(RET_KILL_PROCESS), ret(RET_ALLOW)];
    check_eq!(under(&wrong, || 0)?, 0);
    // A length of 64 bytes.
    let len = [insn(0x80, 0), jeq(64, 1, 0), ret(RET_KILL_PROCESS), ret(RET_ALLOW)];
    check_eq!(under(&len, || 0)?, 0);
    Ok(())
}

fn number_is_an_int() -> Outcome {
    // The upper half of the register does not matter, neither to the filter nor to the call.
    let far = SYS_getppid | 1 << 32;
    // SAFETY: getppid takes no argument.
    let call = move || crate::sys::result(unsafe { libc::syscall(far) });
    check_eq!(call()?, sys!(SYS_getppid)?);
    let status = under(&only(SYS_getppid, RET_ERRNO | 8), move || errno_of(call()))?;
    check_eq!(status, 8);
    Ok(())
}

fn inherited_by_fork_and_exec() -> Outcome {
    let deny = only(SYS_getppid, RET_ERRNO | 61);
    let status = under(&deny, || in_child(|| errno_of(sys!(SYS_getppid))).unwrap_or(98))?;
    check_eq!(status, 61);
    let status = under(&deny, || std::thread::spawn(|| errno_of(sys!(SYS_getppid))).join().unwrap_or(97))?;
    check_eq!(status, 61);
    // The new program may not write to its output: it ends with what the helper's write gives, and prints nothing.
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_dup3, ends[1], 1, 0);
        let _ = install(0, &only(SYS_write, RET_ERRNO | 13));
        let path = c"/proc/self/exe";
        let args = [c"helper:args".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, path.as_ptr(), args.as_ptr(), args[1..].as_ptr());
        96
    })?;
    close(ends[1])?;
    check_eq!(read_all(ends[0])?, b"");
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn path_length_limit() -> Outcome {
    // At most 32768 instructions on a path.
    let long: Vec<Insn> = std::iter::repeat_n(load(0), 4095).chain([ret(RET_ALLOW)]).collect();
    let status = in_child(|| {
        for count in 0..20 {
            let error = errno_of(install(0, &long));
            if error != 0 {
                return if error == ENOMEM && (2..=9).contains(&count) { 0 } else { 1 + error };
            }
        }
        250
    })?;
    check_eq!(status, 0);
    // Many short ones: each counts for more than its length, and a long path is taken down in good order.
    let status = in_child(|| {
        for count in 0..40_000 {
            let error = errno_of(install(0, &[ret(RET_ALLOW)]));
            if error != 0 {
                return i32::from(error != ENOMEM || count < 1000);
            }
        }
        251
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn action_avail() -> Outcome {
    let ask = |action: u32| sys!(SYS_seccomp, ACTION_AVAIL, 0, addr(&action));
    for action in [
        RET_KILL_PROCESS,
        RET_KILL_THREAD,
        RET_TRAP,
        RET_ERRNO,
        RET_USER_NOTIF,
        RET_TRACE,
        RET_LOG,
        RET_ALLOW,
    ] {
        check_eq!(ask(action)?, 0);
    }
    check_err!(ask(0x1000_0000), EOPNOTSUPP);
    check_err!(ask(RET_ERRNO | 1), EOPNOTSUPP);
    let action = RET_ALLOW;
    check_err!(sys!(SYS_seccomp, ACTION_AVAIL, 1, addr(&action)), EINVAL);
    check_err!(sys!(SYS_seccomp, ACTION_AVAIL, 0, 0), EFAULT);
    Ok(())
}

fn notif_sizes() -> Outcome {
    let mut sizes = [0_u16; 3];
    check_eq!(sys!(SYS_seccomp, NOTIF_SIZES, 0, addr_mut(&mut sizes))?, 0);
    check_eq!(sizes, [80, 24, 64]);
    check_err!(sys!(SYS_seccomp, NOTIF_SIZES, 1, addr_mut(&mut sizes)), EINVAL);
    check_err!(sys!(SYS_seccomp, NOTIF_SIZES, 0, 16), EFAULT);
    Ok(())
}

fn status_field(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(":\t")?.to_string()))
}

fn status_lines() -> Outcome {
    check_eq!(status_field("Seccomp"), Some("0".into()));
    check_eq!(status_field("Seccomp_filters"), Some("0".into()));
    let status = under(&[ret(RET_ALLOW)], || {
        let one = status_field("Seccomp_filters");
        let _ = install(0, &[ret(RET_ALLOW)]);
        all(&[
            one.as_deref() == Some("1"),
            status_field("Seccomp_filters").as_deref() == Some("2"),
            status_field("Seccomp").as_deref() == Some("2"),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn sysctls() -> Outcome {
    let avail = slurp(c"/proc/sys/kernel/seccomp/actions_avail")?;
    check_eq!(avail, "kill_process kill_thread trap errno user_notif trace log allow\n");
    let path = c"/proc/sys/kernel/seccomp/actions_logged";
    let logged = slurp(path)?;
    check_eq!(logged, "kill_process kill_thread trap errno user_notif trace log\n");
    spew(path, "log trap")?;
    check_eq!(slurp(path)?, "trap log\n");
    check_err!(spew(path, "allow"), EINVAL);
    check_err!(spew(path, "kill"), EINVAL);
    check_eq!(slurp(path)?, "trap log\n");
    spew(path, logged.trim())?;
    check_eq!(slurp(path)?, logged);
    Ok(())
}

/// Starts a thread that says what `getppid` gives it once `go` is set.
fn asker(go: &'static AtomicU32) -> std::thread::JoinHandle<i32> {
    std::thread::spawn(move || {
        while go.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        errno_of(sys!(SYS_getppid))
    })
}

fn tsync_all_threads() -> Outcome {
    static GO: AtomicU32 = AtomicU32::new(0);
    let status = in_child(|| {
        let threads = [asker(&GO), asker(&GO)];
        let _ = no_new_privs();
        let done = install(TSYNC, &only(SYS_getppid, RET_ERRNO | 17));
        GO.store(1, Ordering::SeqCst);
        let results = threads.map(|t| t.join().unwrap_or(-1));
        all(&[done == Ok(0), results == [17, 17], errno_of(sys!(SYS_getppid)) == 17])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn tsync_refused() -> Outcome {
    static GO: AtomicU32 = AtomicU32::new(0);
    let status = in_child(|| {
        static TID: AtomicU32 = AtomicU32::new(0);
        let apart = std::thread::spawn(|| {
            let _ = install(0, &[ret(RET_ALLOW)]);
            TID.store(sys!(SYS_gettid).unwrap_or(0) as u32, Ordering::SeqCst);
            while GO.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            errno_of(sys!(SYS_getppid))
        });
        while TID.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let deny = only(SYS_getppid, RET_ERRNO | 18);
        let tid = install(TSYNC, &deny);
        let esrch = errno_of(install(TSYNC | TSYNC_ESRCH, &deny));
        // Nothing has changed for anybody.
        let mine = errno_of(sys!(SYS_getppid));
        GO.store(1, Ordering::SeqCst);
        let theirs = apart.join().unwrap_or(-1);
        all(&[
            tid == Ok(TID.load(Ordering::SeqCst) as usize),
            esrch == ESRCH,
            mine == 0,
            theirs == 0,
            // Without the other thread it works.
            install(TSYNC, &deny) == Ok(0),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn tsync_flags() -> Outcome {
    // A thread with the same path takes what is added to it.
    let status = under(&[ret(RET_ALLOW)], || {
        static GO: AtomicU32 = AtomicU32::new(0);
        let thread = asker(&GO);
        let listener = install(TSYNC | TSYNC_ESRCH | NEW_LISTENER, &only(SYS_getppid, RET_ERRNO | 19));
        GO.store(1, Ordering::SeqCst);
        all(&[listener.is_ok_and(|fd| fd > 2), thread.join().unwrap_or(-1) == 19])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn filter_and_restart() -> Outcome {
    // A sleep that is stopped and continued restarts through restart_syscall, which the filter sees as well.
    let child = fork(|| {
        let _ = install(0, &only(SYS_restart_syscall, RET_ERRNO | 51));
        let time = timespec { tv_sec: 30, tv_nsec: 0 };
        errno_of(sys!(SYS_nanosleep, addr(&time), 0))
    })?;
    check!(eventually(|| state(child) == Some('S')));
    kill(child, SIGSTOP)?;
    check!(eventually(|| state(child) == Some('T')));
    kill(child, SIGCONT)?;
    check_eq!(wait_exit(child)?, 51);
    Ok(())
}
