//! The machine part of a thread: on the host, an OS thread's place to sleep.

use core::ptr::NonNull;

use super::hosted::{self, Parker};
use crate::addr::VirtAddr;
use crate::fpu::FpuState;
use crate::thread::AtomicThreadFlags;
use crate::trap::TrapFrame;

/// What the architecture keeps for a thread; the first field of a task.
#[repr(C)]
pub struct Thread {
    flags: AtomicThreadFlags,
    parker: Parker,
    tls: usize,
    stack_top: usize,
    frame: TrapFrame,
    fpu: Option<FpuState>,
}

impl Thread {
    /// Without a stack; see [`Self::init`].
    pub const fn new() -> Self {
        Self {
            flags: AtomicThreadFlags::new(),
            parker: Parker::new(),
            tls: 0,
            stack_top: 0,
            frame: TrapFrame::new(),
            fpu: None,
        }
    }

    /// Notes the stack. OS threads bring their own and are started by the scheduler's host half, so
    /// the entry is not used.
    ///
    /// # Safety
    /// As on other architectures; nothing is done with the stack.
    pub unsafe fn init(&mut self, stack_top: VirtAddr, _entry: extern "C" fn(usize) -> !, _arg: usize) {
        self.stack_top = stack_top.0;
    }

    /// There are no I/O ports: level 0.
    pub fn io_level(&self) -> u8 {
        0
    }

    /// Does nothing.
    pub fn set_io_level(&mut self, _level: u8) {}

    /// There are no I/O ports.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub fn set_ports(&mut self, _ports: core::ops::Range<usize>, _allowed: bool) -> Result<(), abi::Errno> {
        Err(abi::Errno::ENOSYS)
    }

    /// There is no cycle counter to forbid.
    pub fn tsc_faults(&self) -> bool {
        false
    }

    /// Does nothing.
    pub fn set_tsc_faults(&mut self, _on: bool) {}

    /// Work flags.
    #[inline]
    pub fn flags(&self) -> &AtomicThreadFlags {
        &self.flags
    }

    /// Where this thread sleeps.
    pub fn parker(&self) -> &Parker {
        &self.parker
    }

    /// End of the kernel stack.
    pub fn stack_top(&self) -> VirtAddr {
        VirtAddr(self.stack_top)
    }

    /// Where a backtrace begins: nowhere.
    pub fn saved_frame_pointer(&self) -> usize {
        0
    }

    /// The registers of user mode. (Inside the thread: there is no kernel stack to keep them on.)
    pub fn user_frame(&self) -> *mut TrapFrame {
        (&raw const self.frame).cast_mut()
    }

    /// Gives the thread FPU registers (user threads). `Err` without memory.
    #[allow(clippy::result_unit_err)]
    pub fn alloc_fpu(&mut self) -> Result<(), ()> {
        self.fpu = Some(FpuState::new().ok_or(())?);
        Ok(())
    }

    /// Copies TLS registers and FPU state of `parent`, which is the running thread, into this new one.
    #[allow(clippy::result_unit_err)]
    pub fn fork_from(&mut self, parent: &mut Thread) -> Result<(), ()> {
        self.tls = parent.tls;
        self.alloc_fpu()
    }

    /// Fresh registers for a new program. The running thread only.
    pub fn reset_for_exec(&mut self) {
        self.tls = 0;
    }

    /// The TLS register.
    pub fn tls(&self) -> usize {
        self.tls
    }

    /// Sets the TLS register.
    pub fn set_tls(&mut self, tls: usize) {
        self.tls = tls;
    }

    /// The second TLS register, which this architecture has not got.
    pub fn gs_base(&self) -> usize {
        0
    }

    /// See [`Self::gs_base`].
    pub fn set_gs_base(&mut self, _base: usize) {}

    /// There is nothing to step on the host.
    pub fn set_tracer_step(&mut self, _frame: &mut TrapFrame, _on: bool) {}

    /// FPU registers in memory.
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
    hosted::current()
}

/// Declares which thread this OS thread is.
///
/// # Safety
/// `thread` stays alive until [`hosted::set_current`] says otherwise.
pub unsafe fn set_current(thread: NonNull<Thread>) {
    hosted::set_current(Some(thread));
}

/// OS threads are switched by the OS.
///
/// # Panics
/// Always.
///
/// # Safety
/// None needed.
pub unsafe fn switch(_prev: *mut Thread, _next: *mut Thread) -> *mut Thread {
    panic!("the host switches OS threads itself")
}
