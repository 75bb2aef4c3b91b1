//! Signals for what the running thread itself just did: faults, `SIGPIPE`, limits.
//!
//! A fault's signal cannot be put off: if it is blocked or ignored, its action goes back to the default and the
//! process dies of it, instead of running into the same fault for ever.

use super::action::{SIG_DFL, SIG_IGN};
use super::send::{self, Sender};
use super::{Siginfo, Signal};
use crate::process::current;
use abi::signal::SI_KERNEL;
use core::sync::atomic::Ordering;

/// A fault of the running thread: delivered before it executes another instruction of its program.
pub fn fault(signal: Signal, code: i32, addr: usize) {
    force(signal, Siginfo::from_fault(signal.number(), code, addr), Mode::Catchable);
}

/// `SIGBUS` for a page at `addr` whose contents are lost.
pub fn poisoned(addr: usize) {
    let info = Siginfo::from_lost_memory(addr, arch::addr::PAGE_SHIFT as u16);
    force(Signal::SIGBUS, info, Mode::Catchable);
}

/// `SIGSEGV` for an access at `addr` that the thread's rights to pages of protection key `key` forbid.
pub fn key_denied(addr: usize, key: arch::pkey::Key) {
    let info = Siginfo::from_key(addr, key.into());
    force(Signal::SIGSEGV, info, Mode::Catchable);
}

/// A signal without an address that the running thread cannot put off.
pub fn force_signal(signal: Signal) {
    force(signal, Siginfo::new(signal.number(), SI_KERNEL), Mode::Catchable);
}

/// Ends the process with `signal`, whatever its action: a signal frame that cannot be written, an exec that cannot
/// go back.
pub fn fatal(signal: Signal) {
    force(signal, Siginfo::new(signal.number(), SI_KERNEL), Mode::Fatal);
}

/// `SIGSYS` for a system call that a filter stopped.
pub fn bad_syscall(info: Siginfo, mode: Mode) {
    force(Signal::SIGSYS, info, mode);
}

/// Whether a handler may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// If the program has one and does not block the signal.
    Catchable,
    /// No: the process ends.
    Fatal,
}

fn force(signal: Signal, info: Siginfo, mode: Mode) {
    let me = current();
    {
        let state = me.process.sig.lock();
        let mut action = state.sighand.get(signal);
        let blocked = me.blocked().has(signal);
        if mode == Mode::Fatal || blocked || action.handler == SIG_IGN {
            action.handler = SIG_DFL;
            state.sighand.set(signal, action);
            me.signals.blocked.fetch_and(!signal.bit().0, Ordering::Relaxed);
        }
        // Even an init dies of its own fault, but not because it is debugged.
        if action.handler == SIG_DFL && (mode == Mode::Fatal || !me.trace.is_traced()) {
            me.process.unkillable.store(false, Ordering::Relaxed);
        }
    }
    // Cannot fail for the running thread: it lives, and standard signals find room.
    let _ = send::to_thread(&me.task_arc(), signal, &info, Sender::Privileged);
}

/// The running thread wrote to a pipe nobody reads.
pub fn sigpipe() {
    plain(Signal::SIGPIPE);
}

/// The running thread passed its `RLIMIT_FSIZE`.
pub fn sigxfsz() {
    plain(Signal::SIGXFSZ);
}

fn plain(signal: Signal) {
    let info = Siginfo::new(signal.number(), SI_KERNEL);
    let _ = send::to_thread(&current().task_arc(), signal, &info, Sender::Privileged);
}
