//! The user's registers, and the way back to user mode.

/// All registers of user mode (or of an interrupted kernel), as saved on the kernel stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    regs: [u64; 31],
}

/// Bytes of the register set that ptrace and core dumps show (`NT_PRSTATUS`: `user_regs_struct`).
pub const USER_REGS_SIZE: usize = 31 * 8;

impl TrapFrame {
    /// The number of the system call: as it was asked for, and after tracers changed it. -1: none in progress.
    #[inline]
    pub fn syscall_nr(&self) -> isize {
        todo!()
    }

    /// Changes the system call (tracer); -1 skips it, and marks "no system call to restart".
    pub fn set_syscall_nr(&mut self, _nr: isize) {
        todo!()
    }

    /// The six arguments.
    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        todo!()
    }

    /// The system call's result.
    #[inline]
    pub fn set_return(&mut self, _value: isize) {
        todo!()
    }

    /// The result register.
    #[inline]
    pub fn return_value(&self) -> isize {
        todo!()
    }

    /// Program counter.
    #[inline]
    pub fn ip(&self) -> usize {
        todo!()
    }

    /// Sets the program counter.
    pub fn set_ip(&mut self, _ip: usize) {
        todo!()
    }

    /// Stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        todo!()
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, _sp: usize) {
        todo!()
    }

    /// Whether user mode was interrupted.
    #[inline]
    pub fn is_user(&self) -> bool {
        todo!()
    }

    /// Registers of a fresh program: everything zero but these.
    pub fn set_user_entry(&mut self, _entry: usize, _sp: usize) {
        todo!()
    }

    /// Goes back to the system call instruction, with the first argument as it was: ERESTART*.
    pub fn restart_syscall(&mut self) {
        todo!()
    }

    /// Goes back to the system call instruction, but for `restart_syscall(2)`.
    pub fn restart_with_block(&mut self) {
        todo!()
    }

    /// `user_regs_struct`, with TLS from the thread.
    pub fn user_regs(&self, _thread: &crate::thread::Thread) -> [u8; USER_REGS_SIZE] {
        todo!()
    }

    /// Prints the registers as an oops shows them.
    pub fn write(&self, _w: &mut dyn core::fmt::Write) -> core::fmt::Result {
        todo!()
    }
}

/// Leaves for user mode with the frame at the top of the current thread's stack, after the exit work. Never returns.
///
/// # Safety
/// The current thread's user frame was filled in, and its address space is loaded.
pub unsafe fn return_to_user() -> ! {
    todo!()
}
