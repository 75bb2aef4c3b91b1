//! The stopped thread's side of seccomp_unotify(2): it asks, sleeps, takes descriptors, and goes on with the answer.

use super::Filter;
use super::listener::{Listener, sleeps_through_signals};
use crate::fs::context::{fd_flags, files, nofile};
use crate::process::{CurrentThread, Pid};
use abi::poll::PollEvents;
use abi::seccomp::SeccompData;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use arch::trap::TrapFrame;
use core::sync::atomic::{AtomicIsize, Ordering};
use mm::fallible::{TryVec, try_arc};
use sched::completion::Completion;
use vfs::fdtable::Fd;
use vfs::file::File;

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nobody has seen it.
    Asked,
    /// The listener has it.
    Taken,
    /// It is answered.
    Replied,
}

/// The answer as far as there is one.
pub struct Answer {
    /// How far it has come.
    pub stage: Stage,
    error: i32,
    value: i64,
    go_on: bool,
    /// Descriptors that the thread has yet to take, oldest first.
    pub add: Vec<Arc<AddFd>>,
}

impl Answer {
    fn none() -> Self {
        Self { stage: Stage::Asked, error: 0, value: 0, go_on: false, add: Vec::new() }
    }

    /// Nobody will answer.
    pub fn close(&mut self) {
        self.reply(Errno::ENOSYS.to_return() as i32, 0, false);
    }

    /// The answer of the listener.
    pub fn reply(&mut self, error: i32, value: i64, go_on: bool) {
        self.stage = Stage::Replied;
        (self.error, self.value, self.go_on) = (error, value, go_on);
    }
}

/// A call that somebody else decides about.
pub struct Request {
    /// Its number.
    pub id: u64,
    /// Whose call it is.
    pub pid: Arc<Pid>,
    /// The call.
    pub data: SeccompData,
    /// Inside of the listener's lock.
    pub answer: SpinLock<Answer>,
    /// Completed when the answer changes.
    pub ready: Completion,
}

/// A descriptor for the stopped thread: `SECCOMP_IOCTL_NOTIF_ADDFD`.
pub struct AddFd {
    file: SpinLock<Option<Arc<File>>>,
    at: Option<u32>,
    flags: u32,
    send: bool,
    /// The new number or an error.
    outcome: AtomicIsize,
    /// Completed when the thread has taken it, or will not.
    pub done: Completion,
}

impl AddFd {
    /// `file` for the lowest free number or number `at`; `send`: the number is the call's result.
    pub fn new(file: Arc<File>, at: Option<u32>, flags: u32, send: bool) -> Self {
        Self {
            file: SpinLock::new(Some(file)),
            at,
            flags,
            send,
            outcome: AtomicIsize::new(0),
            done: Completion::new(),
        }
    }

    /// What became of it, for the listener.
    ///
    /// # Errors
    /// Those of opening a file; `ESRCH`: the thread went away first.
    pub fn result(&self) -> Result<isize> {
        match self.outcome.load(Ordering::Acquire) {
            fd if fd >= 0 => Ok(fd),
            error => Err(Errno::new(-error as i32).unwrap_or(Errno::EINVAL)),
        }
    }

    fn finish(&self, outcome: isize) {
        self.outcome.store(outcome, Ordering::Release);
        self.done.complete();
    }

    /// Gives the running thread the descriptor.
    fn install(&self) -> Result<Fd> {
        let file = self.file.lock().take().ok_or(Errno::EBADF)?;
        let (files, flags) = (files()?, fd_flags(self.flags & raw::O_CLOEXEC != 0));
        match self.at {
            None => files.install(file, nofile(), flags),
            Some(at) => files.put_at(Fd(at), file, nofile(), flags),
        }
    }
}

/// Puts the call to the filter's listener and waits for the answer; whether the call is made. Otherwise its result is in
/// the frame.
pub fn ask(frame: &mut TrapFrame, me: &CurrentThread, filter: &Filter, data: &SeccompData) -> bool {
    match wait_for_answer(me, filter, data) {
        Ok(Some(value)) => frame.set_return(value),
        Ok(None) => return true,
        Err(errno) => frame.set_return(errno.to_return()),
    }
    false
}

/// The result of the call, or nothing if it is to be made.
fn wait_for_answer(me: &CurrentThread, filter: &Filter, data: &SeccompData) -> Result<Option<isize>> {
    let listener = filter.listener.as_deref().ok_or(Errno::ENOSYS)?;
    let mut request = Request {
        id: 0,
        pid: me.pid(),
        data: *data,
        answer: SpinLock::new(Answer::none()),
        ready: Completion::new(),
    };
    let request = {
        let mut state = listener.state.lock();
        if state.closed {
            return Err(Errno::ENOSYS);
        }
        state.requests.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        request.id = state.next_id;
        state.next_id = state.next_id.wrapping_add(1);
        let request = try_arc(request)?;
        state.requests.push_reserved(request.clone());
        request
    };
    listener.wait.wake_all_poll(PollEvents::IN | PollEvents::RDNORM);
    let outcome = sleep(listener, &request);
    let left = {
        let mut state = listener.state.lock();
        state.requests.retain(|r| !Arc::ptr_eq(r, &request));
        core::mem::take(&mut request.answer.lock().add)
    };
    for add in left {
        add.finish(Errno::ESRCH.to_return());
    }
    outcome
}

fn sleep(listener: &Listener, request: &Request) -> Result<Option<isize>> {
    loop {
        let killable = sleeps_through_signals(listener, request);
        let woken = if killable { request.ready.wait_killable() } else { request.ready.wait_interruptible() };
        if woken.is_err() {
            // The listener may just have taken it: then only a fatal signal counts.
            if !killable && sleeps_through_signals(listener, request) {
                continue;
            }
            return Err(Errno::ERESTARTSYS);
        }
        take_descriptor(listener, request);
        let answer = request.answer.lock();
        if answer.stage == Stage::Replied {
            return Ok(match (answer.go_on, answer.error) {
                (true, _) => None,
                (false, 0) => Some(answer.value as isize),
                (false, error) => Some(error as isize),
            });
        }
    }
}

/// Takes one descriptor that the listener has for the thread.
fn take_descriptor(listener: &Listener, request: &Request) {
    let add = {
        let _state = listener.state.lock();
        let mut answer = request.answer.lock();
        if answer.add.is_empty() {
            return;
        }
        answer.add.remove(0)
    };
    let outcome = add.install();
    if add.send {
        let state = listener.state.lock();
        let mut answer = request.answer.lock();
        match outcome {
            Ok(fd) => answer.reply(0, i64::from(fd.0), false),
            // Without anybody to try again the call fails.
            Err(_) if state.closed => answer.close(),
            Err(_) => answer.stage = Stage::Taken,
        }
    }
    add.finish(match outcome {
        Ok(fd) => fd.0 as isize,
        Err(errno) => errno.to_return(),
    });
}
