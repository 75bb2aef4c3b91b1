//! New filters: `SECCOMP_SET_MODE_STRICT`, `SECCOMP_SET_MODE_FILTER`.

use super::filter::{Filter, is_allowed};
use super::listener::{self, Listener};
use crate::fs::context::{files, nofile};
use crate::misc::sock_filter;
use crate::process::thread::flags;
use crate::process::{CurrentThread, Thread, current};
use crate::signal::SignalState;
use abi::cap::Cap;
use abi::seccomp::{SockFprog, c};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cbpf::{MAX_INSNS, Program};
use core::sync::atomic::Ordering;
use mm::fallible::{TryVec, try_arc};
use mm::user::UserPtr;
use sync::Retired;
use vfs::fdtable::FdFlags;

const KNOWN_FLAGS: u32 = 63;

/// `SECCOMP_SET_MODE_STRICT`.
///
/// # Errors
/// `EINVAL`: the thread is in the other mode.
pub fn set_strict() -> Result<isize> {
    let me = current();
    let _siglock = me.process.sig.lock();
    if !me.seccomp.may_enter(c::SECCOMP_MODE_STRICT) {
        return Err(Errno::EINVAL);
    }
    me.seccomp.enter(me.task(), c::SECCOMP_MODE_STRICT);
    Ok(0)
}

/// `SECCOMP_SET_MODE_FILTER`: the descriptor of a listener, or the id of a thread that cannot take the filter, or 0.
///
/// # Errors
/// `EINVAL`: flags, program or mode. `EFAULT`, `EMFILE`, `ENOMEM`. `EACCES`: could gain privileges by exec. `EBUSY`:
/// there is a listener. `ESRCH`: a thread cannot take the filter.
pub fn set_filter(flags: u32, args: usize) -> Result<isize> {
    check_flags(flags)?;
    let me = current();
    let program = read_program(&me, args)?;
    let has = |flag| flags & flag != 0;
    let new_listener = has(c::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    let files = files()?;
    let reserved = new_listener.then(|| files.reserve(nofile(), FdFlags::CLOEXEC)).transpose()?;
    let listener = if new_listener {
        Some(try_arc(Listener::new(has(c::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)))?)
    } else {
        None
    };
    let file = listener.as_ref().map(listener::file).transpose()?;

    // Nobody else in the process changes filters, and no exec is under way.
    let _guard = me.process.exec_guard.lock_killable().map_err(|_| Errno::EINTR)?;
    if !me.seccomp.may_enter(c::SECCOMP_MODE_FILTER) {
        return Err(Errno::EINVAL);
    }
    let before = me.seccomp.filter();
    let listens = |f: &Filter| f.listener.as_ref().is_some_and(|l| !l.is_closed());
    if new_listener && before.as_ref().is_some_and(|path| path.path().any(listens)) {
        return Err(Errno::EBUSY);
    }
    let log = has(c::SECCOMP_FILTER_FLAG_LOG);
    let filter = try_arc(Filter::new(program, before, log, listener).ok_or(Errno::ENOMEM)?)?;
    if has(c::SECCOMP_FILTER_FLAG_TSYNC) {
        if let Some(tid) = set_for_all(&me, &filter)? {
            return if has(c::SECCOMP_FILTER_FLAG_TSYNC_ESRCH) { Err(Errno::ESRCH) } else { Ok(tid) };
        }
    } else {
        let siglock = me.process.sig.lock();
        let old = me.seccomp.filter.replace(Some(filter));
        me.seccomp.enter(me.task(), c::SECCOMP_MODE_FILTER);
        drop(siglock);
        drop(old);
    }
    match (reserved, file) {
        (Some(reserved), Some(file)) => Ok(reserved.install(file).0 as isize),
        _ => Ok(0),
    }
}

fn check_flags(flags: u32) -> Result<()> {
    let has = |flag| flags & flag != 0;
    // With both, a positive result would mean two things.
    let ambiguous = has(c::SECCOMP_FILTER_FLAG_TSYNC)
        && has(c::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        && !has(c::SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
    let no_listener =
        has(c::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) && !has(c::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if flags & !KNOWN_FLAGS != 0 || ambiguous || no_listener { Err(Errno::EINVAL) } else { Ok(()) }
}

fn read_program(me: &CurrentThread, args: usize) -> Result<Program> {
    let head = UserPtr::<SockFprog>::new(args).read()?;
    let len = usize::from(head.len);
    if len == 0 || len > MAX_INSNS {
        return Err(Errno::EINVAL);
    }
    // Otherwise a program with more rights could be run under a filter that fools it.
    let capable = me.with_cred(|cred| cred.ns_capable(&cred.user_ns, Cap::SysAdmin));
    if !me.has(flags::NO_NEW_PRIVS) && !capable {
        return Err(Errno::EACCES);
    }
    let insns = sock_filter::read(head.filter as usize, head.len)?;
    Program::new(&insns, is_allowed).map_err(|error| match error {
        cbpf::Error::Invalid => Errno::EINVAL,
        cbpf::Error::NoMemory => Errno::ENOMEM,
    })
}

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads get the path of the running one, if none has gone a way of its own. Otherwise
/// the id of the first that has, and nothing is changed.
fn set_for_all(me: &CurrentThread, filter: &Arc<Filter>) -> Result<Option<isize>> {
    let before = me.seccomp.filter();
    // What is replaced is dropped after the lock; room for it is made before.
    let mut replaced: Vec<Retired<Filter>> = Vec::new();
    loop {
        let count = me.process.thread_count();
        replaced.try_reserve(count).map_err(|_| Errno::ENOMEM)?;
        let state = me.process.sig.lock();
        if state.threads.len() > replaced.capacity() {
            continue;
        }
        if let Some(tid) = first_apart(&state, me, before.as_deref()) {
            // The thread has no number here if it lives in another pid namespace.
            return if tid > 0 { Ok(Some(tid as isize)) } else { Err(Errno::ESRCH) };
        }
        let mine = me.flags.load(Ordering::Relaxed) & flags::NO_NEW_PRIVS;
        state.for_each(|task, thread| {
            if thread.has(flags::EXITING) {
                return;
            }
            replaced.push_reserved(thread.seccomp.filter.replace(Some(filter.clone())));
            thread.set(mine);
            thread.seccomp.enter(task, c::SECCOMP_MODE_FILTER);
        });
        drop(state);
        return Ok(None);
    }
}

/// The first thread whose path does not lead to `path`.
fn first_apart(state: &SignalState, me: &Thread, path: Option<&Filter>) -> Option<i32> {
    let mut found = None;
    state.for_each(|_, thread| {
        if found.is_some() || core::ptr::eq(thread, me) || thread.has(flags::EXITING) {
            return;
        }
        let theirs = thread.seccomp.filter.as_ptr();
        let before = || theirs.is_null() || path.is_some_and(|p| p.path().any(|f| core::ptr::eq(f, theirs)));
        let fits = match thread.seccomp.mode() {
            c::SECCOMP_MODE_DISABLED => true,
            c::SECCOMP_MODE_FILTER => before(),
            _ => false,
        };
        if !fits {
            found = Some(thread.tid());
        }
    });
    found
}
