//! Sending: from a cause to a pending signal and a woken thread.
//!
//! [`to_process`] and [`to_thread`] check no rights; [`super::kill`] does. They may be called from interrupt handlers
//! (timers), and never sleep. What they refuse is refused silently, as a signal that is ignored vanishes.

use super::action::SIG_DFL;
use super::set::{Default, default_action};
use super::state::{Change, Wake, wake};
use super::{Pending, SigSet, Siginfo, Signal, SignalState};
use crate::process::thread::flags;
use crate::process::user::SignalCharge;
use crate::process::{Process, Resource, Thread};
use abi::signal::{SI_QUEUE, SI_USER};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use sched::Task;

/// Who sends: decides what a namespace's init must obey.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// A process in the target's pid namespace, or below.
    User,
    /// The kernel, or a process in an ancestor namespace: `SIGKILL` and `SIGSTOP` cannot be refused.
    Privileged,
}

/// Sends to a process: any thread that does not block the signal takes it.
///
/// # Errors
/// `ESRCH`: the process has no thread left. `EAGAIN`: a real-time signal with a value found no room.
pub fn to_process(process: &Arc<Process>, signal: Signal, info: &Siginfo, from: Sender) -> Result<()> {
    let mut state = process.sig.lock();
    let Some(first) = state.threads.first().cloned() else { return Err(Errno::ESRCH) };
    let Some(thread) = first.data::<Thread>() else { return Err(Errno::ESRCH) };
    let sent = post(process, &mut state, (&first, thread), signal, info, from, Queue::Shared);
    drop(state);
    process.signalfd_wait.wake_all();
    sent
}

/// Sends to one thread.
///
/// # Errors
/// As [`to_process`].
pub fn to_thread(task: &Arc<Task>, signal: Signal, info: &Siginfo, from: Sender) -> Result<()> {
    let Some(thread) = task.data::<Thread>() else { return Err(Errno::ESRCH) };
    let mut state = thread.process.sig.lock();
    if thread.has(flags::EXITING) {
        return Err(Errno::ESRCH);
    }
    let sent = post(&thread.process, &mut state, (task, thread), signal, info, from, Queue::Private);
    drop(state);
    thread.process.signalfd_wait.wake_all();
    sent
}

/// Which queue a signal goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Private,
    Shared,
}

fn post(
    process: &Process,
    state: &mut SignalState,
    (task, thread): (&Arc<Task>, &Thread),
    signal: Signal,
    info: &Siginfo,
    from: Sender,
    queue: Queue,
) -> Result<()> {
    if !reaches(process, state, thread, signal, from) {
        return Ok(());
    }
    match queue {
        Queue::Shared => enqueue(process, &mut state.shared, thread, signal, info)?,
        Queue::Private => enqueue(process, &mut thread.signals.pending.lock(), thread, signal, info)?,
    }
    complete(process, state, task, signal, queue, from);
    Ok(())
}

/// Whether a signal is to be queued, after what its mere arrival does.
fn reaches(
    process: &Process,
    state: &mut SignalState,
    thread: &Thread,
    signal: Signal,
    from: Sender,
) -> bool {
    // What is dying takes no more signals, but a core dump can be cut short.
    if state.group_exit.is_some() {
        return state.dump.is_some() && signal == Signal::SIGKILL;
    }
    job_control(state, signal);
    !is_ignored(process, state, thread, signal, from)
}

/// What became of a timer's signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Posted {
    /// It is queued, also if another instance of it is: each timer has one.
    Queued,
    /// It is ignored, or there is nobody or no memory for it.
    Ignored,
}

/// Sends the signal of a POSIX timer to a process; `charge` is its place on the user's account, which goes with it.
pub fn timer_to_process(
    process: &Arc<Process>,
    signal: Signal,
    info: &Siginfo,
    charge: &mut Option<SignalCharge>,
) -> Posted {
    let mut state = process.sig.lock();
    let Some(first) = state.threads.first().cloned() else { return Posted::Ignored };
    let Some(thread) = first.data::<Thread>() else { return Posted::Ignored };
    let posted = post_prepaid(process, &mut state, (&first, thread), signal, info, Queue::Shared, charge);
    drop(state);
    process.signalfd_wait.wake_all();
    posted
}

/// The same to one thread.
pub fn timer_to_thread(
    task: &Arc<Task>,
    signal: Signal,
    info: &Siginfo,
    charge: &mut Option<SignalCharge>,
) -> Posted {
    let Some(thread) = task.data::<Thread>() else { return Posted::Ignored };
    let process = &thread.process;
    let mut state = process.sig.lock();
    if thread.has(flags::EXITING) {
        return Posted::Ignored;
    }
    let posted = post_prepaid(process, &mut state, (task, thread), signal, info, Queue::Private, charge);
    drop(state);
    process.signalfd_wait.wake_all();
    posted
}

fn post_prepaid(
    process: &Process,
    state: &mut SignalState,
    (task, thread): (&Arc<Task>, &Thread),
    signal: Signal,
    info: &Siginfo,
    queue: Queue,
    charge: &mut Option<SignalCharge>,
) -> Posted {
    if !reaches(process, state, thread, signal, Sender::Privileged) {
        return Posted::Ignored;
    }
    let pushed = match queue {
        Queue::Shared => state.shared.push(signal, *info, charge.take()),
        Queue::Private => thread.signals.pending.lock().push(signal, *info, charge.take()),
    };
    if pushed.is_err() {
        return Posted::Ignored;
    }
    complete(process, state, task, signal, queue, Sender::Privileged);
    Posted::Queued
}

/// `SIGCONT` takes pending stops away and the other way round; `SIGCONT` continues even if it is blocked or ignored.
fn job_control(state: &mut SignalState, signal: Signal) {
    if state.is_exiting() {
        return;
    }
    if SigSet::STOP.has(signal) {
        flush_all(state, Signal::SIGCONT.bit());
    } else if signal == Signal::SIGCONT {
        flush_all(state, SigSet::STOP);
        state.for_each(super::stop::resume);
        let change = if state.stop.stopped {
            Some(Change::Continued)
        } else if state.stop.count > 0 {
            // A stop that was under way is reported as if it had been completed.
            Some(Change::Stopped)
        } else {
            None
        };
        if let Some(change) = change {
            state.stop.notify = Some(change);
            state.stop.continued = true;
            state.stop.stopped = false;
            state.stop.count = 0;
            state.stop.code = 0;
            // Some thread has to come by and tell the parent.
            if let Some(task) = state.threads.first() {
                wake(task, Wake::Interruptible);
            }
        }
    }
}

/// Drops pending instances of `signals` from every queue of the process.
pub fn flush_all(state: &mut SignalState, signals: SigSet) {
    state.shared.flush(signals);
    state.for_each(|_, thread| thread.signals.pending.lock().flush(signals));
}

/// Whether the calling thread blocks or ignores `signal`, as terminals ask before they stop a background process.
pub fn ignores(signal: Signal) -> bool {
    let me = crate::process::current();
    me.blocked().has(signal) || me.process.sig.lock().sighand.ignored().has(signal)
}

/// Whether the arrival of `signal` changes nothing at all.
fn is_ignored(process: &Process, state: &SignalState, thread: &Thread, signal: Signal, from: Sender) -> bool {
    // A blocked signal may have another action by the time it is unblocked.
    let blocked = SigSet(
        thread.signals.blocked.load(Ordering::Relaxed) | thread.signals.waited.load(Ordering::Relaxed),
    );
    if blocked.has(signal) {
        return false;
    }
    // A tracer may want to see even what is ignored.
    if thread.trace.is_traced() && signal != Signal::SIGKILL {
        return false;
    }
    let action = state.sighand.get(signal);
    if process.unkillable.load(Ordering::Relaxed)
        && action.handler == SIG_DFL
        && !(from == Sender::Privileged && SigSet::UNBLOCKABLE.has(signal))
    {
        return true;
    }
    state.sighand.ignored().has(signal)
}

fn enqueue(
    process: &Process,
    queue: &mut Pending<SignalCharge>,
    thread: &Thread,
    signal: Signal,
    info: &Siginfo,
) -> Result<()> {
    if queue.is_duplicate(signal) {
        return Ok(());
    }
    // SIGKILL needs no siginfo: nobody will read it.
    if signal == Signal::SIGKILL {
        queue.mark(signal);
        return Ok(());
    }
    let user = thread.charge.lock().as_ref().map(|c| c.user().clone());
    // What kill and the kernel send is never refused for the limit's sake.
    let must = !signal.is_realtime() && info.code >= 0;
    let limit = if must { u64::MAX } else { process.limits.cur(Resource::Sigpending) };
    let charge = user.and_then(|user| SignalCharge::new(&user, limit));
    let queued = charge.is_some() && queue.push(signal, *info, charge).is_ok();
    if !queued {
        if signal.is_realtime() && info.code != SI_USER && info.code <= SI_QUEUE {
            return Err(Errno::EAGAIN);
        }
        queue.mark(signal);
    }
    Ok(())
}

/// Whether `thread` is a good one to take `signal`.
fn wants(task: &Task, thread: &Thread, signal: Signal) -> bool {
    if thread.blocked().has(signal) || thread.has(flags::EXITING) {
        return false;
    }
    if signal == Signal::SIGKILL {
        return true;
    }
    if task.state().intersects(sched::State::STOPPED_BIT | sched::State::TRACED_BIT) {
        return false;
    }
    task.is_on_cpu() || !task.thread_flags().contains(ThreadFlags::SIGPENDING)
}

/// Picks a thread, wakes it; a signal that ends the process for sure ends it here, for all threads at once.
fn complete(
    process: &Process,
    state: &mut SignalState,
    task: &Arc<Task>,
    signal: Signal,
    queue: Queue,
    from: Sender,
) {
    let Some(target) = pick(state, task, signal, queue) else { return };
    let Some(thread) = target.data::<Thread>() else { return };
    let kills = match default_action(signal) {
        Default::Terminate => state.sighand.get(signal).handler == SIG_DFL,
        // A core dump is made by the thread that takes the signal.
        _ => false,
    };
    let spared = process.unkillable.load(Ordering::Relaxed)
        && !(from == Sender::Privileged && signal == Signal::SIGKILL);
    let blocked =
        thread.signals.waited.load(Ordering::Relaxed) & signal.bit().0 != 0 && signal != Signal::SIGKILL;
    // What a tracer may still take away kills nobody yet.
    let shown = signal != Signal::SIGKILL && task.data::<Thread>().is_some_and(|t| t.trace.is_traced());
    let open = state.group_exit.is_none() || state.dump.is_some();
    if kills && !spared && !blocked && !shown && open {
        state.group_exit = Some(signal.number());
        state.stop.stopped = false;
        state.zap_others(None);
        return;
    }
    wake(&target, if signal == Signal::SIGKILL { Wake::Fatal } else { Wake::Interruptible });
}

fn pick(state: &mut SignalState, task: &Arc<Task>, signal: Signal, queue: Queue) -> Option<Arc<Task>> {
    if let Some(thread) = task.data::<Thread>()
        && wants(task, thread, signal)
    {
        return Some(task.clone());
    }
    if queue == Queue::Private || state.threads.len() < 2 {
        return None;
    }
    let count = state.threads.len();
    for step in 0..count {
        let index = (state.next_target + step) % count;
        let Some(other) = state.threads.get(index) else { continue };
        if other.data::<Thread>().is_some_and(|t| wants(other, t, signal)) {
            let other = other.clone();
            state.next_target = index;
            return Some(other);
        }
    }
    None
}

/// The kernel ends a process: the OOM killer, a dying pid namespace.
pub fn kill_process(process: &Arc<Process>) {
    let info = Siginfo::new(Signal::SIGKILL.number(), abi::signal::SI_KERNEL);
    // A process without threads needs no killing.
    let _ = to_process(process, Signal::SIGKILL, &info, Sender::Privileged);
}

/// A signal of the kernel's own to a process; whether it arrives is not the sender's business.
pub fn kernel_signal(process: &Arc<Process>, signal: Signal) {
    let info = Siginfo::new(signal.number(), abi::signal::SI_KERNEL);
    let _ = to_process(process, signal, &info, Sender::Privileged);
}

/// A signal of the kernel's own to every member of a process group (terminal: `SIGINT`, `SIGHUP`, `SIGWINCH` …).
pub fn kernel_signal_group(pgrp: &crate::process::Pid, signal: Signal) {
    for member in pgrp.group() {
        kernel_signal(&member, signal);
    }
}
