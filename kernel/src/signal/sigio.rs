//! `SIGIO` and what `F_SETSIG` chose instead: `fcntl(2)`, "Managing signals".

use abi::raw;
use abi::signal::{SI_SIGIO, Siginfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::fasync::{Band, FileOwner, Sigio};

use super::Signal;
use super::send::{self, Sender};
use crate::process::{Pid, Thread};

/// Sends signals to the owners of files.
pub struct SendSigio;

/// `si_band`: the `POLL*` bits of `poll(2)` that go with a reason.
fn band_bits(band: Band) -> i64 {
    match band {
        Band::In => 0x41,
        Band::Out => 0x304,
        Band::Msg => 0x441,
        Band::Err => 0x8,
        Band::Pri => 0x82,
        Band::Hup => 0x18,
    }
}

/// Signals whose `si_code` values mean something else.
fn has_own_codes(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGILL
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGBUS
            | Signal::SIGTRAP
            | Signal::SIGCHLD
            | Signal::SIGSYS
    )
}

/// Whether who set the owner may signal `target`: as it was when it was set.
fn may_signal(owner: &FileOwner, target: &Thread) -> bool {
    let (uid, suid) = target.with_cred(|cred| (cred.uid.0, cred.suid.0));
    owner.euid == 0 || [uid, suid].iter().any(|id| *id == owner.euid || *id == owner.uid)
}

/// The signals to try: what was chosen, and `SIGIO` if that finds no room.
fn attempts(owner: &FileOwner, fd: i32, band: Band) -> impl Iterator<Item = (Signal, Siginfo)> {
    let chosen = Signal::new(owner.signal).map(|signal| {
        let code = if has_own_codes(signal) { SI_SIGIO } else { band as i32 };
        (signal, Siginfo::from_poll(signal.number(), code, band_bits(band), fd))
    });
    let plain = (Signal::SIGIO, Siginfo::new(Signal::SIGIO.number(), abi::signal::SI_KERNEL));
    chosen.into_iter().chain([plain])
}

/// Sends each process or thread of `owner` the first of `attempts` that finds room.
fn send_to<I: Iterator<Item = (Signal, Siginfo)>>(owner: &FileOwner, attempts: impl Fn() -> I) {
    let Some(target) = owner.target.clone().and_then(|target| target.downcast::<Pid>().ok()) else {
        return;
    };
    if owner.kind == raw::F_OWNER_TID {
        let Some(task) = target.task() else { return };
        let allowed = task.data::<Thread>().is_some_and(|thread| may_signal(owner, thread));
        let send = |(signal, info)| send::to_thread(&task, signal, &info, Sender::Privileged).is_ok();
        let _ = allowed && attempts().any(send);
        return;
    }
    let (members, one) = match owner.kind {
        raw::F_OWNER_PGRP => (target.group(), None),
        _ => (Vec::new(), target.process()),
    };
    for process in members.into_iter().chain(one) {
        let Some(task) = process.any_task() else { continue };
        let allowed = task.data::<Thread>().is_some_and(|thread| may_signal(owner, thread));
        let process = Arc::clone(&process);
        let send = |(signal, info)| send::to_process(&process, signal, &info, Sender::Privileged).is_ok();
        let _ = allowed && attempts().any(send);
    }
}

impl Sigio for SendSigio {
    fn send(&self, owner: &FileOwner, fd: i32, band: Band) {
        send_to(owner, || attempts(owner, fd, band));
    }

    fn urgent(&self, owner: &FileOwner) {
        let info = Siginfo::new(Signal::SIGURG.number(), abi::signal::SI_KERNEL);
        send_to(owner, || core::iter::once((Signal::SIGURG, info)));
    }
}
