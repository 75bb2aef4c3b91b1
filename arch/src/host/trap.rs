//! The user's registers, for tests that look at them.

use crate::trap::{Restart, SyscallStop};

/// A register set: number, arguments, result, program counter, stack pointer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    nr: i64,
    args: [u64; 6],
    result: i64,
    ip: u64,
    sp: u64,
    user: u64,
}

/// Bytes of a system call instruction, for restarts.
const SYSCALL_LEN: u64 = 2;

/// Bytes of the register set that ptrace and core dumps show.
pub const USER_REGS_SIZE: usize = size_of::<TrapFrame>();

/// A system call that signals interrupted: all there is to know is in the frame.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl TrapFrame {
    /// All zero.
    pub const fn new() -> Self {
        Self { nr: -1, args: [0; 6], result: 0, ip: 0, sp: 0, user: 0 }
    }

    /// A frame as a system call from user mode would leave it.
    pub fn for_syscall(nr: isize, args: [usize; 6]) -> Self {
        Self { nr: nr as i64, args: args.map(|a| a as u64), result: 0, ip: 0x1000, sp: 0x8000, user: 1 }
    }

    /// The number of the system call: as it was asked for, and after tracers changed it. -1: none in progress.
    #[inline]
    pub fn syscall_nr(&self) -> isize {
        self.nr as isize
    }

    /// Changes the system call (tracer); -1 skips it, and marks "no system call to restart".
    pub fn set_syscall_nr(&mut self, nr: isize) {
        self.nr = nr as i64;
    }

    /// The six arguments.
    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        self.args.map(|a| a as usize)
    }

    /// The system call's result.
    #[inline]
    pub fn set_return(&mut self, value: isize) {
        self.result = value as i64;
    }

    /// The result register.
    #[inline]
    pub fn return_value(&self) -> isize {
        self.result as isize
    }

    /// Frame pointer: there is none to walk.
    pub fn fp(&self) -> usize {
        0
    }

    /// Program counter.
    #[inline]
    pub fn ip(&self) -> usize {
        self.ip as usize
    }

    /// Sets the program counter.
    pub fn set_ip(&mut self, ip: usize) {
        self.ip = ip as u64;
    }

    /// Stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        self.sp as usize
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: usize) {
        self.sp = sp as u64;
    }

    /// Whether user mode was interrupted.
    #[inline]
    pub fn is_user(&self) -> bool {
        self.user != 0
    }

    /// Registers of a fresh program: everything zero but these.
    pub fn set_user_entry(&mut self, entry: usize, sp: usize) {
        *self = Self { ip: entry as u64, sp: sp as u64, user: 1, ..Self::new() };
    }

    /// Puts the registers back as the system call found them, without going back to its instruction.
    pub fn rollback_syscall(&mut self) {
        self.result = self.nr;
    }

    /// Signals are about to be taken, perhaps after a system call; `asks` says whether its result asks for a restart.
    pub fn begin_restart(&mut self, _asks: impl Fn(isize) -> bool) -> Interrupted {
        Interrupted
    }

    /// The result of the system call that was interrupted, if it is still to be decided about.
    pub fn interrupted_result(&self, _interrupted: &Interrupted) -> Option<isize> {
        (self.syscall_nr() >= 0).then(|| self.return_value())
    }

    /// Does with the interrupted system call what was decided.
    pub fn finish_restart(&mut self, _interrupted: Interrupted, what: Restart) {
        match what {
            Restart::End(result) => return self.set_return(result),
            Restart::Again => {}
            Restart::Block => self.nr = 219,
        }
        self.ip -= SYSCALL_LEN;
    }

    /// A stop for a tracer begins: nothing to mark here.
    pub fn begin_syscall_stop(&mut self, _at: SyscallStop) -> u64 {
        0
    }

    /// The other half of [`Self::begin_syscall_stop`].
    pub fn end_syscall_stop(&mut self, _saved: u64) {}

    /// The registers as bytes.
    pub fn user_regs(&self, _thread: &crate::thread::Thread) -> [u8; USER_REGS_SIZE] {
        let words = [
            self.nr as u64,
            self.args[0],
            self.args[1],
            self.args[2],
            self.args[3],
            self.args[4],
            self.args[5],
            self.result as u64,
            self.ip,
            self.sp,
            self.user,
        ];
        let mut bytes = [0; USER_REGS_SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Prints the registers as an oops shows them.
    pub fn write(&self, w: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(w, "{self:?}")
    }
}

/// There is no user mode on the host.
///
/// # Panics
/// Always.
///
/// # Safety
/// None needed.
pub unsafe fn return_to_user() -> ! {
    panic!("there is no user mode on the host")
}
