//! The user's registers, and the way back to user mode.
//!
//! The frame is Linux's `pt_regs` with one word more at the low end (the vector), which also keeps the stack aligned.
//!
//! **Full return.** After a system call the fast way out restores only what the kernel's code may have changed, and
//! leaves by `sysret`. That is right as long as nobody touched the frame but for the result. Everything here that
//! changes other registers therefore sets [`FULL`] in the upper half of the `cs` slot, which no instruction looks at;
//! the exit code compares the whole slot and takes `iret` if it is not exactly the user's code segment.

use core::fmt;

use super::desc::{USER_CS, USER_DS};
use super::msr::*;
use super::thread::Selectors;
use crate::trap::{Restart, SyscallStop};

/// Mark in the `cs` slot: restore every register, by `iret`.
const FULL: u64 = 1 << 32;

/// Flags that user mode may change at will.
const USER_FLAGS: u64 =
    FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_RF | FLAG_AC;

/// All registers of user mode (or of an interrupted kernel), as saved on the kernel stack.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct TrapFrame {
    pub(super) vector: u64,
    pub(super) r15: u64,
    pub(super) r14: u64,
    pub(super) r13: u64,
    pub(super) r12: u64,
    pub(super) rbp: u64,
    pub(super) rbx: u64,
    pub(super) r11: u64,
    pub(super) r10: u64,
    pub(super) r9: u64,
    pub(super) r8: u64,
    pub(super) rax: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) orig_rax: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
}

/// Bytes of a frame; `entry` relies on it and on the order of the fields.
pub(super) const FRAME_SIZE: usize = 22 * 8;
const _: () = assert!(size_of::<TrapFrame>() == FRAME_SIZE && FRAME_SIZE.is_multiple_of(16));

/// Bytes of `user_regs_struct`, the register set of ptrace and core dumps (`NT_PRSTATUS`).
pub const USER_REGS_SIZE: usize = 27 * 8;

/// A system call that signals interrupted: all there is to know is in the frame.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl TrapFrame {
    /// The number of the system call: as it was asked for, and after tracers changed it. -1: none in progress.
    #[inline]
    pub fn syscall_nr(&self) -> isize {
        self.orig_rax as i64 as isize
    }

    /// Changes the system call (tracer); -1 skips it, and marks "no system call to restart".
    pub fn set_syscall_nr(&mut self, nr: isize) {
        self.orig_rax = nr as u64;
    }

    /// The six arguments.
    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9].map(|r| r as usize)
    }

    /// The system call's result.
    #[inline]
    pub fn set_return(&mut self, value: isize) {
        self.rax = value as u64;
    }

    /// The result register.
    #[inline]
    pub fn return_value(&self) -> isize {
        self.rax as isize
    }

    /// Program counter.
    #[inline]
    pub fn ip(&self) -> usize {
        self.rip as usize
    }

    /// Sets the program counter.
    pub fn set_ip(&mut self, ip: usize) {
        self.rip = ip as u64;
        self.full_return();
    }

    /// Stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        self.rsp as usize
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: usize) {
        self.rsp = sp as u64;
        self.full_return();
    }

    /// Frame pointer.
    pub fn fp(&self) -> usize {
        self.rbp as usize
    }

    /// Whether user mode was interrupted.
    #[inline]
    pub fn is_user(&self) -> bool {
        self.cs & 3 != 0
    }

    /// Whether interrupts were on.
    #[inline]
    pub fn interrupts_on(&self) -> bool {
        self.rflags & FLAG_IF != 0
    }

    /// The next return restores every register.
    #[inline]
    pub(super) fn full_return(&mut self) {
        self.cs |= FULL;
    }

    /// Registers of a fresh program: everything zero but these.
    pub fn set_user_entry(&mut self, entry: usize, sp: usize) {
        *self = Self {
            rip: entry as u64,
            rsp: sp as u64,
            cs: u64::from(USER_CS) | FULL,
            ss: u64::from(USER_DS),
            rflags: FLAG_IF | FLAG_FIXED,
            orig_rax: u64::MAX,
            ..Self::default()
        };
    }

    /// Puts the registers back as the system call found them, without going back to its instruction.
    pub fn rollback_syscall(&mut self) {
        self.rax = self.orig_rax;
    }

    /// Signals are about to be taken, perhaps after a system call; `asks` says whether its result asks for a restart.
    /// Tracers see, and may change, the result as it stands: nothing happens yet.
    pub fn begin_restart(&mut self, _asks: impl Fn(isize) -> bool) -> Interrupted {
        Interrupted
    }

    /// The result of the system call that was interrupted, if it is still to be decided about.
    pub fn interrupted_result(&self, _interrupted: &Interrupted) -> Option<isize> {
        (self.syscall_nr() >= 0).then(|| self.return_value())
    }

    /// Does with the interrupted system call what was decided.
    pub fn finish_restart(&mut self, _interrupted: Interrupted, what: Restart) {
        self.rax = match what {
            Restart::End(result) => return self.set_return(result),
            Restart::Again => self.orig_rax,
            Restart::Block => u64::from(abi::nr::RESTART_SYSCALL.x86_64.unwrap_or(219)),
        };
        self.rip = self.rip.wrapping_sub(2);
        self.full_return();
    }

    /// A stop for a tracer begins: nothing to mark here.
    pub fn begin_syscall_stop(&mut self, _at: SyscallStop) -> u64 {
        0
    }

    /// The other half of [`Self::begin_syscall_stop`].
    pub fn end_syscall_stop(&mut self, _saved: u64) {}

    /// Sets or clears the single-step flag.
    pub fn set_single_step(&mut self, on: bool) {
        self.rflags = if on { self.rflags | FLAG_TF } else { self.rflags & !FLAG_TF };
        self.full_return();
    }

    /// `user_regs_struct`, with TLS from the thread.
    pub fn user_regs(&self, thread: &crate::thread::Thread) -> [u8; USER_REGS_SIZE] {
        let selectors = thread.selectors();
        let words = [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs & 0xffff,
            if thread.forced_trap { self.rflags & !FLAG_TF } else { self.rflags },
            self.rsp,
            self.ss & 0xffff,
            thread.tls() as u64,
            thread.gs_base() as u64,
            selectors.ds.into(),
            selectors.es.into(),
            selectors.fs.into(),
            selectors.gs.into(),
        ];
        let mut out = [0; USER_REGS_SIZE];
        for (bytes, word) in out.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Takes registers over from ptrace; whatever could harm the kernel is sanitised or refused (false).
    pub fn set_user_regs(&mut self, thread: &mut crate::thread::Thread, regs: &[u8; USER_REGS_SIZE]) -> bool {
        let mut words = [0; USER_REGS_SIZE / 8];
        for (word, bytes) in words.iter_mut().zip(regs.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        let limit = crate::layout::TASK_SIZE as u64;
        if words[21] >= limit || words[22] >= limit {
            return false;
        }
        // cs and ss must be there and the user's, the others may be null.
        let user = |selector: u64| selector & 3 == 3;
        let selectors_good =
            user(words[17]) && user(words[20]) && words[23..27].iter().all(|s| *s & 0xffff == 0 || user(*s));
        if !selectors_good {
            return false;
        }
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
        ] = *words.first_chunk().unwrap_or(&[0; 17]);
        self.set_user_flags(words[18]);
        // A trap flag that comes back set is the program's own; one that is a tracer's stays.
        if self.rflags & FLAG_TF != 0 {
            thread.forced_trap = false;
        } else if thread.forced_trap {
            self.rflags |= FLAG_TF;
        }
        self.rsp = words[19];
        // What there is behind the selectors shows when they are loaded.
        self.cs = words[17] & 0xffff;
        self.ss = words[20] & 0xffff;
        self.full_return();
        thread.set_selectors(Selectors {
            ds: words[23] as u16,
            es: words[24] as u16,
            fs: words[25] as u16,
            gs: words[26] as u16,
        });
        thread.set_tls(words[21] as usize);
        thread.set_gs_base(words[22] as usize);
        true
    }

    /// Sets those flags that user mode may set.
    pub(super) fn set_user_flags(&mut self, flags: u64) {
        self.rflags = self.rflags & !USER_FLAGS | flags & USER_FLAGS;
    }

    /// Prints the registers as an oops shows them.
    pub fn write(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(w, "RIP: {:04x}:{:#018x}", self.cs & 0xffff, self.rip)?;
        writeln!(
            w,
            "RSP: {:04x}:{:016x} EFLAGS: {:08x} ORIG_RAX: {:016x}",
            self.ss & 0xffff,
            self.rsp,
            self.rflags,
            self.orig_rax
        )?;
        writeln!(w, "RAX: {:016x} RBX: {:016x} RCX: {:016x}", self.rax, self.rbx, self.rcx)?;
        writeln!(w, "RDX: {:016x} RSI: {:016x} RDI: {:016x}", self.rdx, self.rsi, self.rdi)?;
        writeln!(w, "RBP: {:016x} R08: {:016x} R09: {:016x}", self.rbp, self.r8, self.r9)?;
        writeln!(w, "R10: {:016x} R11: {:016x} R12: {:016x}", self.r10, self.r11, self.r12)?;
        writeln!(w, "R13: {:016x} R14: {:016x} R15: {:016x}", self.r13, self.r14, self.r15)
    }
}

impl fmt::Debug for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// Leaves for user mode with the frame at the top of the current thread's stack, after the exit work. Never returns.
///
/// # Safety
/// The current thread's user frame was filled in, and its address space is loaded.
pub unsafe fn return_to_user() -> ! {
    let frame = crate::thread::current_ref().user_frame();
    // SAFETY: the caller's promise.
    unsafe { super::entry::return_to_user(frame) }
}
