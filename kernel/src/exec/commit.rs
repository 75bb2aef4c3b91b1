//! The point of no return: the process becomes another program.

use super::Program;
use crate::cred::exec::NewCred;
use crate::process::thread::{AltStack, Restart, flags};
use crate::process::{CurrentThread, tree};
use crate::signal::Signal;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::try_arc;

/// Turns the running process over to `space` with the credentials `cred`. Says whether the new program runs with
/// more rights than its caller (`AT_SECURE`).
///
/// # Errors
/// `EAGAIN`, `EINTR`: being killed, or another thread was first.
pub fn commit(
    me: &CurrentThread,
    space: &Arc<AddressSpace>,
    program: &Program,
    name: &[u8],
    cred: NewCred,
) -> Result<bool> {
    end_other_threads(me)?;
    // Nothing may go on that uses the old memory.
    crate::io_uring::exit(me);
    // Closing on exec must not close another process's descriptors.
    crate::process::unshare_files()?;
    unshare_sighand(me)?;
    me.process.timers.exec();
    // The list lies in the old memory: locks in shared memory are marked while it is still there.
    crate::futex::robust::exit(me, sched::pi::After::Exec);
    let cred = cred.for_traced(me);
    switch_memory(me, space);
    enter_time_namespace(me, space)?;
    *me.process.exe.lock() = Some(program.exe.clone());

    me.clear_child_tid.store(0, Ordering::Relaxed);
    me.rseq.clear();
    *me.signals.altstack.lock() = AltStack::default();
    *me.restart.lock() = Restart::None;
    me.process.sighand().flush_handlers();
    me.task().set_comm(name);
    me.process.did_exec.store(true, Ordering::Relaxed);
    // A parent in another process hears of the end as usual, whatever clone asked for.
    if me.process.exit_signal.load(Ordering::Relaxed) != 0 {
        me.process.exit_signal.store(Signal::SIGCHLD.number(), Ordering::Relaxed);
    }
    let secure = cred.secure;
    if cred.secure {
        me.pdeath_signal.store(0, Ordering::Relaxed);
    }
    cred.install(me)?;
    crate::keys::slots::exec(me);
    if let Some(files) = me.files() {
        files.close_on_exec();
    }
    me.process.exec_decides.store(false, Ordering::Relaxed);
    me.clear(flags::EXECING);
    me.process.sig.lock().group_exec = false;
    Ok(secure)
}

/// An exec that failed half-way: other threads' orders are withdrawn.
pub fn abandon(me: &CurrentThread) {
    if me.has(flags::EXECING) {
        me.clear(flags::EXECING);
        me.process.sig.lock().group_exec = false;
    }
}

/// Sends all other threads away, waits until they are gone, and takes the leader's id (`de_thread`).
fn end_other_threads(me: &CurrentThread) -> Result<()> {
    let process = &me.process;
    {
        let mut state = process.sig.lock();
        if state.is_exiting() {
            return Err(Errno::EAGAIN);
        }
        if state.threads.len() > 1 {
            state.group_exec = true;
            me.set(flags::EXECING);
            state.stop.stopped = false;
            state.zap_others(Some(me.task()));
        }
    }
    if me.has(flags::EXECING) {
        let alone = || process.sig.lock().threads.len() <= 1;
        process.child_wait.wait_event_killable(alone).map_err(|_| Errno::EAGAIN)?;
    }
    if !me.is_leader() {
        take_leader_id(me);
    }
    Ok(())
}

fn take_leader_id(me: &CurrentThread) {
    // Dropped behind the lock.
    let _unlinked;
    let tree = tree::lock();
    _unlinked = crate::ptrace::link::leader_replaced(&tree, me);
    let old = me.pid();
    let leader = me.process.pid.clone();
    leader.with_links(|l| l.task = Some(me.task_arc()));
    drop(me.pid.replace(Some(leader)));
    old.unlink(|l| l.task = None);
    old.exit_wait.wake_all();
}

fn unshare_sighand(me: &CurrentThread) -> Result<()> {
    let mut state = me.process.sig.lock();
    if Arc::strong_count(&state.sighand) > 1 {
        let copy = try_arc(state.sighand.duplicate())?;
        let old = core::mem::replace(&mut state.sighand, copy);
        drop(state);
        drop(old);
    }
    Ok(())
}

/// A new program is in the time namespace that its process made for its children.
fn enter_time_namespace(me: &CurrentThread, space: &AddressSpace) -> Result<()> {
    let proxy = me.nsproxy().ok_or(Errno::EINVAL)?;
    if let Some(new) = proxy.with_time_of_children()? {
        new.time.enter(space);
        drop(me.nsproxy.replace(Some(new)));
    } else {
        proxy.time.enter(space);
    }
    Ok(())
}

fn switch_memory(me: &CurrentThread, space: &Arc<AddressSpace>) {
    space.get_user();
    let old = me.mm.replace(Some(space.clone()));
    let old_mm = old.arc();
    drop(old);
    drop(sched::current().replace_mm(Some(space.switch_handle())));
    // The new memory knows no keys yet.
    arch::pkey::set_rights(arch::pkey::KeyRights::FRESH);
    // A vfork parent can have its memory back.
    crate::exit::complete_vfork(me);
    if let Some(mm) = old_mm {
        let mut accounts = me.process.accounts.lock();
        accounts.dead.max_rss = accounts.dead.max_rss.max(mm.counters().hiwater_rss() as u64);
        drop(accounts);
        mm.put_user();
        if mm.users() == 0 {
            crate::aio::exit(&mm);
        }
    }
}
