//! Making tasks, their first steps, and their end.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::thread::Thread;
use arch::trap::TrapFrame;

use crate::entity::Sched;
use crate::heap::try_arc;
use crate::mm::Mm;
use crate::stack::Stack;
use crate::state::State;
use crate::task::{Task, TaskFlags, current};

/// What a new task does first.
pub(crate) enum Entry {
    /// Calls a function in the kernel.
    Kernel(Box<dyn FnOnce() + Send>),
    /// Returns to user mode with the frame at the top of its stack.
    User,
    /// Calls a function that fills in that frame, then returns to user mode with it.
    Program(Box<StartProgram>),
}

/// Loads a program into a frame; where there is none, what the task does instead of going to user mode. See [`Task::new_program`].
pub type StartProgram = dyn FnOnce(&mut TrapFrame) -> Option<fn() -> !> + Send;

/// What a new user task is made of.
pub struct NewTask<'a, T> {
    /// Its name.
    pub comm: &'a [u8],
    /// Its address space.
    pub mm: Option<Mm>,
    /// The kernel's payload; see [`Task::data`].
    pub data: T,
}

impl Task {
    /// A child of the running task that will return to user mode: scheduling parameters, affinity, TLS and
    /// FPU state come from the running task. `setup` completes its registers: they are a copy of the
    /// running task's user registers. The task does not run before [`wake_up_new`].
    ///
    /// # Errors
    /// `ENOMEM` (also through the memory of the stack or the FPU state); `EAGAIN` if the running task has a
    /// reservation ([`crate::Policy::Deadline`]) and no reset-on-fork flag.
    pub fn new_user<T: Send + Sync + 'static>(
        new: NewTask<'_, T>,
        setup: impl FnOnce(&mut Thread, &mut TrapFrame),
    ) -> Result<Arc<Self>> {
        let parent = current();
        let stack = Stack::new().ok_or(Errno::ENOMEM)?;
        let task = try_arc(Self::build(new.comm, TaskFlags::empty(), Sched::default(), State::NEW))?;
        task.set_data(new.data).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the new task is not shared yet.
        unsafe {
            let thread = &mut *task.thread.get();
            thread.init(stack.top(), crate::platform::first_run, Arc::as_ptr(&task).expose_provenance());
            parent.with_thread(|parent| thread.fork_from(parent)).map_err(|()| Errno::ENOMEM)?;
            let frame = thread.user_frame();
            parent.with_thread(|parent| frame.write(*parent.user_frame()));
            setup(thread, &mut *frame);
            *task.stack.get() = Some(stack);
            *task.mm.get() = new.mm;
            *task.entry.get() = Some(Entry::User);
        }
        crate::platform::sched_fork(&task, &parent)?;
        task.times.start.store(crate::time::monotonic_ns(), Ordering::Relaxed);
        Ok(task)
    }

    /// A user task that the kernel begins: `start` runs in the kernel and loads a program into the frame; then the task
    /// returns to user mode. If there is no program, `start` returns what the task does instead: `start` itself must come
    /// back, for its box to be freed. The task does not run before [`wake_up_new`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new_program<T: Send + Sync + 'static>(
        new: NewTask<'_, T>,
        start: Box<StartProgram>,
    ) -> Result<Arc<Self>> {
        let stack = Stack::new().ok_or(Errno::ENOMEM)?;
        let task = try_arc(Self::build(new.comm, TaskFlags::empty(), Sched::default(), State::NEW))?;
        task.set_data(new.data).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the new task is not shared yet; an all-zero frame is a valid one.
        unsafe {
            let thread = &mut *task.thread.get();
            thread.init(stack.top(), crate::platform::first_run, Arc::as_ptr(&task).expose_provenance());
            thread.alloc_fpu().map_err(|()| Errno::ENOMEM)?;
            thread.user_frame().write(TrapFrame::default());
            *task.stack.get() = Some(stack);
            *task.mm.get() = new.mm;
            *task.entry.get() = Some(Entry::Program(start));
        }
        crate::platform::sched_fork_kthread(&task);
        task.times.start.store(crate::time::monotonic_ns(), Ordering::Relaxed);
        Ok(task)
    }

    /// A task that runs `f` in the kernel and ends when `f` returns. The task does not run before
    /// [`wake_up_new`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new_kthread(name: &[u8], f: Box<dyn FnOnce() + Send>) -> Result<Arc<Self>> {
        let stack = Stack::new().ok_or(Errno::ENOMEM)?;
        let task = try_arc(Self::build(name, TaskFlags::KTHREAD, Sched::default(), State::NEW))?;
        // SAFETY: the new task is not shared yet.
        unsafe {
            let thread = &mut *task.thread.get();
            thread.init(stack.top(), crate::platform::first_run, Arc::as_ptr(&task).expose_provenance());
            *task.stack.get() = Some(stack);
            *task.entry.get() = Some(Entry::Kernel(f));
        }
        crate::platform::sched_fork_kthread(&task);
        task.times.start.store(crate::time::monotonic_ns(), Ordering::Relaxed);
        Ok(task)
    }
}

/// Lets a new task run for the first time.
pub fn wake_up_new(task: &Arc<Task>) {
    crate::platform::wake_up_new(task);
}
