//! Tasks as OS threads.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the build machine does not run out of memory"
)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use arch::cpu::CpuId;
use arch::hosted;
use sync::Once;

use crate::entity::Sched;
use crate::state::State;
use crate::task::{Current, Task, TaskFlags};

/// OS threads that wait for each other must not burn the CPU that the other needs.
pub(crate) const SPIN_ON_OWNER: bool = false;

thread_local! {
    static TASK: Cell<Option<NonNull<Task>>> = const { Cell::new(None) };
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned(None)) };
}

/// The OS thread's reference to its task.
struct Owned(Option<Arc<Task>>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.state.store(State::DEAD.bits(), Ordering::Release);
            TASK.set(None);
            hosted::set_current(None);
            // Somebody may be looking at the task under RCU.
            crate::rcu::drop_later(Box::new(task));
        }
    }
}

/// The running task; an OS thread that has none becomes one.
pub(crate) fn current() -> Current {
    match TASK.get() {
        Some(task) => Current::new(task),
        None => {
            set_up();
            let task = Arc::new(Task::build(b"host", TaskFlags::empty(), Sched::default(), State::RUNNING));
            adopt(task)
        }
    }
}

/// The running task, if this OS thread has one already.
pub(crate) fn try_current() -> Option<Current> {
    TASK.get().map(Current::new)
}

/// Makes `task` the task of this OS thread.
pub(crate) fn adopt(task: Arc<Task>) -> Current {
    let ptr = NonNull::from(&*task);
    task.cpu.store(hosted::cpu().0, Ordering::Relaxed);
    task.on_cpu.store(true, Ordering::Relaxed);
    // SAFETY: `OWNED` keeps the task alive until the thread ends, and clears it then.
    unsafe { arch::thread::set_current(ptr.cast()) };
    TASK.set(Some(ptr));
    let _ = OWNED.try_with(|owned| owned.borrow_mut().0 = Some(task));
    Current::new(ptr)
}

/// Sets up what the tests of every crate need: the timer interrupt and RCU.
fn set_up() {
    static DONE: Once<()> = Once::new();
    DONE.call_once(|| {
        hosted::set_timer_hook(crate::hrtimer::run_expired);
        crate::lockcheck::init();
        crate::rcu::init();
        crate::time::init();
    });
}

/// Sleeps until woken, if the task's state says so.
pub(crate) fn schedule() {
    let task = current();
    let state = task.state();
    if state.is_running() {
        std::thread::yield_now();
        return;
    }
    if task.signal_pending_state(state) {
        task.set_running();
        return;
    }
    if state.intersects(State::DEAD) {
        panic!("a dead task cannot sleep: leave the thread's function instead");
    }
    task.nvcsw.fetch_add(1, Ordering::Relaxed);
    task.on_cpu.store(false, Ordering::Release);
    // SAFETY: this thread runs the task, so nobody holds `&mut Thread`.
    let parker = unsafe { (*task.thread.get()).parker() };
    while !task.state().is_running() {
        parker.park();
    }
    task.on_cpu.store(true, Ordering::Relaxed);
}

/// Wakes `task` if its state is among `states`.
pub(crate) fn try_to_wake_up(task: &Task, states: State) -> bool {
    let _pi = task.pi_lock.lock();
    // Pairs with the barrier in `set_state`.
    fence(Ordering::SeqCst);
    if !task.state().intersects(states) {
        return false;
    }
    task.state.store(State::RUNNING.bits(), Ordering::Release);
    // SAFETY: the parker is made for being shared; no `&mut Thread` exists while the task sleeps.
    unsafe { (*task.thread.get()).parker() }.unpark();
    true
}

/// Lets other threads run.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

/// There is nothing to interrupt.
pub(crate) fn kick(_task: &Task) {}

/// Starts `task` on an OS thread.
pub(crate) fn wake_up_new(task: &Arc<Task>) {
    let task = task.clone();
    task.state.store(State::RUNNING.bits(), Ordering::Release);
    let name = alloc::format!("{}", task.comm());
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // SAFETY: this thread is the only one that runs the task.
        let entry = unsafe { (*task.entry.get()).take() };
        adopt(task);
        match entry {
            Some(crate::fork::Entry::Kernel(f)) => f(),
            // There is no user mode here.
            Some(crate::fork::Entry::User | crate::fork::Entry::Program(_)) | None => {}
        }
    });
    drop(thread.expect("an OS thread for a task"));
}

/// Calls `f(arg)` on every CPU with interrupts off.
pub(crate) fn on_each_cpu(f: fn(usize), arg: usize) {
    arch::smp::call_on(arch::cpu::online(), f, arg);
}

/// Runs `f` in task context on `cpu` (on the host: at once).
pub(crate) fn queue_on(_cpu: CpuId, f: impl FnOnce() + Send + 'static) {
    f();
}

/// Grace periods: one pass through all virtual CPUs.
pub(crate) mod rcu {
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Condvar, Mutex, Once};

    use arch::cpu::CpuMask;
    use arch::hosted;

    use crate::rcu::Seq;

    static REQUESTED: AtomicU64 = AtomicU64::new(1);
    static COMPLETED: AtomicU64 = AtomicU64::new(0);
    static WORK: Mutex<bool> = Mutex::new(false);
    static QUEUED: Condvar = Condvar::new();

    /// Starts the thread that runs callbacks, or wakes it.
    pub(crate) fn callbacks_queued() {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            std::thread::Builder::new().name("rcu".into()).spawn(run).expect("a thread for RCU");
        });
        *WORK.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        QUEUED.notify_one();
    }

    fn run() {
        loop {
            let mut work = WORK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            while !*work {
                work = QUEUED.wait(work).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            *work = false;
            drop(work);
            // What arrives while a batch waits makes the next batch, so go on until nothing is left.
            while CpuMask::ALL.iter().fold(false, |left, cpu| left | crate::rcu::run_callbacks(cpu)) {
                synchronize();
            }
        }
    }

    /// The number of a grace period that begins now or later.
    pub(crate) fn request() -> Seq {
        Seq(REQUESTED.fetch_add(1, Ordering::SeqCst))
    }

    /// Whether that grace period has passed.
    pub(crate) fn is_over(seq: Seq) -> bool {
        COMPLETED.load(Ordering::SeqCst) >= seq.0
    }

    /// Waits for a grace period.
    pub(crate) fn synchronize() {
        let upto = REQUESTED.load(Ordering::SeqCst) - 1;
        hosted::pass_through();
        COMPLETED.fetch_max(upto, Ordering::SeqCst);
    }
}

/// OS threads start by themselves.
pub(crate) extern "C" fn first_run(_task: usize) -> ! {
    unreachable!("OS threads start by themselves")
}

/// Scheduling parameters mean nothing to the host.
pub(crate) fn sched_fork(_task: &Task, _parent: &Task) -> abi::Result<()> {
    Ok(())
}

/// As [`sched_fork`].
pub(crate) fn sched_fork_kthread(_task: &Task) {}

/// The OS knows.
pub(crate) fn update_exec(_task: &Task) {}

/// Run queues on the host exist in simulations only: the request is the task's flag.
pub(crate) fn resched(_cpu: CpuId, task: &Task) {
    task.thread_flags().set(arch::thread::ThreadFlags::NEED_RESCHED);
}

/// Simulations look at `Rq::dl_next`.
pub(crate) fn start_dl_timer(_cpu: CpuId, _at: u64) {}

/// The host has no run queues; tasks that are not queued anywhere keep their parameters under this one.
pub(crate) fn lock_task_rq(_task: &Task) -> (&'static crate::rq::RunQueue, crate::rq::RqGuard<'static>) {
    static NOWHERE: Once<crate::rq::RunQueue> = Once::new();
    let queue = NOWHERE.call_once(|| {
        let idle = Box::leak(Box::new(Arc::new(Task::build(
            b"swapper/0",
            TaskFlags::IDLE | TaskFlags::KTHREAD,
            Sched::idle(),
            State::RUNNING,
        ))));
        crate::rq::RunQueue::new(CpuId::BOOT, NonNull::from(&**idle))
    });
    (queue, queue.lock.lock())
}

/// Nothing moves on the host.
pub(crate) fn task_changed(_task: &Task) {}

/// The timer of the next expiry: on the host each start gets an alarm of its own.
pub(crate) fn timer_started(cpu: CpuId) {
    use crate::hrtimer::{HrTimer, Restart};
    static ALARM: Once<HrTimer> = Once::new();
    let _ = cpu;
    let alarm = ALARM.call_once(|| {
        HrTimer::new(|now| {
            crate::time::tick();
            std::thread::spawn(|| {
                static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
                let Ok(_one) = ONE.try_lock() else { return };
                for cpu in arch::cpu::possible().iter() {
                    crate::timer::run_expired(cpu);
                }
            });
            Restart::At(now + crate::time::TICK_NS)
        })
        .expect("the host has memory")
    });
    if !alarm.is_queued() {
        alarm.start(crate::Deadline::after_ns(crate::time::TICK_NS));
    }
}

/// The boot of a machine, which the host has behind it.
pub(crate) fn init() {
    current();
}

/// As [`init`].
pub(crate) fn start_secondaries(_most: usize) -> abi::Result<usize> {
    Ok(arch::cpu::count())
}

/// As [`init`].
pub(crate) fn start_threads() -> abi::Result<()> {
    Ok(())
}

/// As [`init`].
pub(crate) fn start_tick() {}

/// As [`init`].
pub(crate) fn irq_enter() {}

/// As [`init`].
pub(crate) fn preempt_schedule() {}

/// As [`init`].
pub(crate) fn preempt_schedule_irq() {}

/// The timer fired.
pub(crate) fn timer_interrupt(_from_user: bool) {
    crate::hrtimer::run_expired();
}

/// There is no idle loop on the host.
pub(crate) fn run_idle() -> ! {
    loop {
        std::thread::park();
    }
}

/// An OS thread ends by leaving its function.
pub(crate) fn exit() -> ! {
    panic!("a task of the host ends by leaving its function")
}
