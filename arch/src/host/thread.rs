//! The machine part of a thread.

use core::ptr::NonNull;

use crate::addr::VirtAddr;
use crate::fpu::FpuState;
use crate::thread::AtomicThreadFlags;
use crate::trap::TrapFrame;

/// What the architecture keeps for a thread; the first field of a task.
#[repr(C)]
pub struct Thread {
    flags: AtomicThreadFlags,
    fpu: Option<FpuState>,
}

impl Thread {
    /// Without a stack; see [`Self::init`].
    pub const fn new() -> Self {
        Self { flags: AtomicThreadFlags::new(), fpu: None }
    }

    /// Gives it a kernel stack; when first switched to it calls `entry(arg)` on it with interrupts off and the
    /// preemption count [`crate::preempt::SWITCH_COUNT`].
    ///
    /// # Safety
    /// `stack_top` is the end of a stack that lives as long as the thread; the thread is not running.
    pub unsafe fn init(&mut self, _stack_top: VirtAddr, _entry: extern "C" fn(usize) -> !, _arg: usize) {
        todo!()
    }

    /// Work flags.
    #[inline]
    pub fn flags(&self) -> &AtomicThreadFlags {
        &self.flags
    }

    /// End of the kernel stack.
    pub fn stack_top(&self) -> VirtAddr {
        todo!()
    }

    /// The registers of user mode, at the top of the kernel stack.
    pub fn user_frame(&self) -> *mut TrapFrame {
        todo!()
    }

    /// Gives the thread FPU registers (user threads). `Err` without memory.
    pub fn alloc_fpu(&mut self) -> Result<(), ()> {
        todo!()
    }

    /// Copies TLS registers and FPU state of `parent`, which is the running thread, into this new one.
    pub fn fork_from(&mut self, _parent: &mut Thread) -> Result<(), ()> {
        todo!()
    }

    /// Fresh registers for a new program. The running thread only.
    pub fn reset_for_exec(&mut self) {
        todo!()
    }

    /// The TLS register (x86 fs base, arm64 TPIDR_EL0).
    pub fn tls(&self) -> usize {
        todo!()
    }

    /// Sets the TLS register, also of the running thread.
    pub fn set_tls(&mut self, _tls: usize) {
        todo!()
    }

    /// FPU registers in memory, up to date: of the running thread they are saved first.
    pub fn fpu_mut(&mut self) -> Option<&mut FpuState> {
        self.fpu.as_mut()
    }
}

impl Default for Thread {
    fn default() -> Self {
        Self::new()
    }
}

/// The running thread.
#[inline]
pub fn current() -> NonNull<Thread> {
    todo!()
}

/// Declares which thread runs now, without a switch: boot and idle threads.
///
/// # Safety
/// `thread` is live and describes the stack this code runs on.
pub unsafe fn set_current(_thread: NonNull<Thread>) {
    todo!()
}

/// Switches from the running thread `prev` to `next`; returns when something switches back. Interrupts off, preemption
/// count [`crate::preempt::SWITCH_COUNT`]. Returns the thread that ran on this CPU just before (not `prev`).
///
/// # Safety
/// `prev` is the running thread, `next` is initialised and runs nowhere; both stay alive.
pub unsafe fn switch(_prev: *mut Thread, _next: *mut Thread) -> *mut Thread {
    todo!()
}
