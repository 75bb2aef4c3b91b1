//! The machine part of a thread: saved registers, kernel stack, work flags.
//!
//! `Thread` is the first field of the scheduler's `Task` (`repr(C)`), so a pointer to the one is a pointer to the
//! other; [`current`] gives it without a load from memory that other CPUs write.

use core::sync::atomic::{AtomicU32, Ordering};

use bitflags::bitflags;

pub use crate::imp::thread::*;

bitflags! {
    /// Work that a thread does before it returns to user mode, and modes of its system calls. Numbers are internal.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ThreadFlags: u32 {
        /// A signal is pending and not blocked.
        const SIGPENDING = 1 << 0;
        /// Call the scheduler.
        const NEED_RESCHED = 1 << 1;
        /// Run the work queued for the return to user mode (task work, rseq).
        const NOTIFY_RESUME = 1 << 2;
        /// uprobe or single-step work.
        const SINGLESTEP = 1 << 3;
        /// The whole user frame was replaced (exec, sigreturn, ptrace): return by the slow path that restores all of it.
        /// Next to the flags of `EXIT_WORK`, so that the exit tests all of them with one immediate.
        const FULL_RETURN = 1 << 4;
        /// A live `rt_sigsuspend`/`ppoll` mask has to be put back if no handler runs.
        const RESTORE_SIGMASK = 1 << 5;
        /// The FPU registers do not hold this thread's values: load them before user mode. The architecture's own.
        const NEED_FPU_LOAD = 1 << 6;

        /// Stop at system call entry and exit (ptrace).
        const SYSCALL_TRACE = 1 << 8;
        /// System calls are audited, counted or filtered.
        const SYSCALL_AUDIT = 1 << 9;
        /// seccomp filters.
        const SECCOMP = 1 << 10;
        /// `PTRACE_SYSEMU`.
        const SYSCALL_EMU = 1 << 11;

        /// A tracer steps through the thread: its system calls end with a trap.
        const SYSCALL_STEP = 1 << 12;
        /// Has a tracer. Its system calls take the long way, so that a stop in their middle can ask for one at their end.
        const TRACED = 1 << 13;
        /// System calls may become signals (`PR_SET_SYSCALL_USER_DISPATCH`).
        const USER_DISPATCH = 1 << 14;

        /// Allocations of this thread may use all reserves: it is freeing memory (`mm::context`).
        const MEMALLOC = 1 << 16;
        /// Allocations of this thread start no I/O (`mm::context`).
        const MEMALLOC_NOIO = 1 << 17;
        /// Allocations of this thread do not enter file systems (`mm::context`).
        const MEMALLOC_NOFS = 1 << 18;
        /// Allocations of this thread wait rather than fail (`sched::heap`).
        const MEMALLOC_NOFAIL = 1 << 19;
        /// The thread has a memory policy (`mm::mempolicy`).
        const MEMPOLICY = 1 << 20;

        /// Any of these sends the exit to user mode through [`crate::trap::TrapHandler::exit_to_user`].
        const EXIT_WORK = Self::SIGPENDING.bits() | Self::NEED_RESCHED.bits() | Self::NOTIFY_RESUME.bits()
            | Self::SINGLESTEP.bits();
        /// Any of these makes system calls do more (the kernel's `syscall` handler looks at them).
        const SYSCALL_WORK = Self::SYSCALL_TRACE.bits() | Self::SYSCALL_AUDIT.bits() | Self::SECCOMP.bits()
            | Self::SYSCALL_EMU.bits() | Self::SYSCALL_STEP.bits() | Self::TRACED.bits()
            | Self::USER_DISPATCH.bits();
    }
}

/// [`ThreadFlags`] that other CPUs may set.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicThreadFlags(AtomicU32);

impl AtomicThreadFlags {
    /// No flag set.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// All flags at this moment.
    #[inline]
    pub fn load(&self) -> ThreadFlags {
        ThreadFlags::from_bits_retain(self.0.load(Ordering::Relaxed))
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub fn contains(&self, flags: ThreadFlags) -> bool {
        self.load().intersects(flags)
    }

    /// Sets flags (`SeqCst`: the waker's flag against the sleeper's state); returns whether any was set before.
    #[inline]
    pub fn set(&self, flags: ThreadFlags) -> bool {
        self.0.fetch_or(flags.bits(), Ordering::SeqCst) & flags.bits() != 0
    }

    /// Clears flags; returns whether any was set.
    #[inline]
    pub fn clear(&self, flags: ThreadFlags) -> bool {
        self.0.fetch_and(!flags.bits(), Ordering::SeqCst) & flags.bits() != 0
    }
}

/// A shared reference to the machine part of the running thread.
#[inline]
pub fn current_ref() -> &'static Thread {
    // SAFETY: `current` always points to a live thread (the boot thread is a static), and the running thread cannot go
    // away while it runs this code. The 'static is a convenience: the reference must not outlive the thread.
    unsafe { current().as_ref() }
}
