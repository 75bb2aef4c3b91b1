//! Kernel threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use sync::Once;

use crate::completion::Completion;
use crate::heap::try_arc;
use crate::task::{Task, current};
use collections::fallible::{TryVec, try_box};

/// Gives kernel threads what the kernel proper wants every thread to have: a pid, a place in `/proc`.
pub trait KthreadHook: Sync {
    /// A kernel thread was made and does not run yet.
    fn created(&self, task: &Arc<Task>);
    /// The running kernel thread is about to end.
    fn exiting(&self, task: &Task);
}

static HOOK: Once<&'static dyn KthreadHook> = Once::new();

/// Registers the hook. Threads made before are announced by [`for_each_early`].
pub fn set_hook(hook: &'static dyn KthreadHook) {
    HOOK.call_once(|| hook);
    let early = core::mem::take(&mut *EARLY.lock());
    for task in early {
        hook.created(&task);
    }
}

static EARLY: arch::sync::SpinLock<alloc::vec::Vec<Arc<Task>>> =
    arch::sync::SpinLock::new(alloc::vec::Vec::new());

/// Makes a kernel thread that does not run yet (see [`crate::wake_up_new`]).
pub fn create(name: &str, f: Box<dyn FnOnce() + Send>) -> Result<Arc<Task>> {
    let body = try_box(move || {
        f();
        exit_hook();
    })?;
    let task = Task::new_kthread(name.as_bytes(), body)?;
    match HOOK.get() {
        Some(hook) => hook.created(&task),
        None => EARLY.lock().try_push(task.clone())?,
    }
    Ok(task)
}

/// Makes a kernel thread and lets it run.
pub fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Result<Arc<Task>> {
    let task = create(name, try_box(f)?)?;
    crate::wake_up_new(&task);
    Ok(task)
}

fn exit_hook() {
    if let Some(hook) = HOOK.get() {
        hook.exiting(&current());
    }
}

/// A kernel thread that can be asked to end.
#[derive(Debug)]
pub struct Kthread {
    task: Arc<Task>,
    control: Arc<Control>,
}

#[derive(Debug)]
struct Control {
    should_stop: AtomicBool,
    stopped: Completion,
}

/// What a [`Kthread`]'s function sees of its owner.
#[derive(Debug, Clone)]
pub struct StopFlag(Arc<Control>);

impl StopFlag {
    /// Whether the owner wants the thread to end.
    pub fn should_stop(&self) -> bool {
        self.0.should_stop.load(Ordering::Acquire)
    }
}

impl Kthread {
    /// Makes a kernel thread and lets it run.
    pub fn run(name: &str, f: impl FnOnce(StopFlag) + Send + 'static) -> Result<Self> {
        let control = try_arc(Control { should_stop: AtomicBool::new(false), stopped: Completion::new() })?;
        let inside = control.clone();
        let task = spawn(name, move || {
            f(StopFlag(inside.clone()));
            inside.stopped.complete_all();
        })?;
        Ok(Self { task, control })
    }

    /// Its task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Asks it to end, wakes it, and waits until its function has returned.
    pub fn stop(&self) {
        self.control.should_stop.store(true, Ordering::Release);
        crate::wake_up(&self.task);
        self.control.stopped.wait();
    }
}
