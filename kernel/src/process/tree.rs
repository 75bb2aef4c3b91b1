//! The process tree: parents, children, groups, sessions.
//!
//! One global lock (Linux: `tasklist_lock`) orders all changes of who belongs to whom. It is held for a few
//! list operations in fork, exit, wait, setpgid and setsid, never while anything sleeps. Functions
//! that need it take a [`TreeGuard`].

use super::process::State;
use super::{Pid, Process};
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::Ordering;
use mm::fallible::TryVec;

static TREE: SpinLock<()> = SpinLock::new(());

/// Proof that the tree lock is held.
pub struct TreeGuard(#[allow(dead_code)] sync::SpinLockGuard<'static, (), arch::sync::Preempt>);

/// Takes the tree lock.
pub fn lock() -> TreeGuard {
    TreeGuard(TREE.lock())
}

/// Takes `item` out of `list`, keeping the order; the youngest are tried first.
pub fn remove(list: &mut Vec<Arc<Process>>, item: &Process) -> bool {
    let at = list.iter().rposition(|p| core::ptr::eq(Arc::as_ptr(p), item));
    if let Some(at) = at {
        list.remove(at);
    }
    at.is_some()
}

fn push(list: &mut Vec<Arc<Process>>, item: &Arc<Process>) -> Result<()> {
    Ok(list.try_push(item.clone())?)
}

/// Makes `child` a child of `parent`.
///
/// # Errors
/// `ENOMEM`.
pub fn adopt(_tree: &TreeGuard, parent: &Arc<Process>, child: &Arc<Process>) -> Result<()> {
    push(&mut parent.children.lock(), child)?;
    drop(child.parent.replace(Some(parent.clone())));
    Ok(())
}

/// Puts `process` into group `pgrp` and session `session`; it must be in none.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub fn enter(_tree: &TreeGuard, process: &Arc<Process>, pgrp: &Arc<Pid>, session: &Arc<Pid>) -> Result<()> {
    pgrp.with_links(|l| push(&mut l.group, process))?;
    if let Err(errno) = session.with_links(|l| push(&mut l.session, process)) {
        pgrp.with_links(|l| remove(&mut l.group, process));
        return Err(errno);
    }
    drop(process.pgrp.replace(Some(pgrp.clone())));
    drop(process.session.replace(Some(session.clone())));
    Ok(())
}

/// Moves `process` to group `pgrp`.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub fn change_group(_tree: &TreeGuard, process: &Arc<Process>, pgrp: &Arc<Pid>) -> Result<()> {
    let old = process.pgrp();
    if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, pgrp)) {
        return Ok(());
    }
    pgrp.with_links(|l| push(&mut l.group, process))?;
    drop(process.pgrp.replace(Some(pgrp.clone())));
    if let Some(old) = old {
        old.unlink(|l| {
            remove(&mut l.group, process);
        });
    }
    Ok(())
}

/// Moves `process` to session `session`.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub fn change_session(_tree: &TreeGuard, process: &Arc<Process>, session: &Arc<Pid>) -> Result<()> {
    session.with_links(|l| push(&mut l.session, process))?;
    let old = process.session.replace(Some(session.clone()));
    if let Some(old) = old.arc() {
        old.unlink(|l| {
            remove(&mut l.session, process);
        });
    }
    Ok(())
}

/// Takes a reaped process out of everything: its parent's children, group, session, its own id.
pub fn release(_tree: &TreeGuard, process: &Process) {
    if let Some(parent) = process.parent() {
        remove(&mut parent.children.lock(), process);
    }
    drop(process.parent.replace(None));
    // The group and session references stay readable: a late getpgid answers what it was.
    if let Some(pgrp) = process.pgrp() {
        pgrp.unlink(|l| {
            remove(&mut l.group, process);
        });
    }
    if let Some(session) = process.session() {
        session.unlink(|l| {
            remove(&mut l.session, process);
        });
    }
    process.pid.unlink(|l| l.process = None);
}

/// Whether job control can still reach group `pgrp`: some member has a parent in another group of the same session.
/// `ignored` does not count: it is about to exit.
pub fn is_orphaned(_tree: &TreeGuard, pgrp: &Arc<Pid>, ignored: Option<&Process>) -> bool {
    pgrp.with_links(|l| {
        l.group.iter().all(|member| {
            let skip = ignored.is_some_and(|i| core::ptr::eq(i, Arc::as_ptr(member)));
            if skip || member.state() != State::Alive {
                return true;
            }
            let Some(parent) = member.parent() else { return true };
            if parent.unkillable.load(Ordering::Relaxed) && parent.pid.is_reaper() {
                return true;
            }
            let connected = parent.pgrp.as_ptr() != Arc::as_ptr(pgrp)
                && parent.session.as_ptr() == member.session.as_ptr();
            !connected
        })
    })
}

/// Whether group `pgrp` has a stopped member.
pub fn has_stopped(_tree: &TreeGuard, pgrp: &Pid) -> bool {
    pgrp.group().iter().any(|p| p.sig.lock().stop.is_stopped())
}
