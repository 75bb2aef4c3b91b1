//! futex_waitv(2): waiting for any of several words.

use super::bucket::{Entry, Kind, Places, bucket, index_of, push};
use super::wait::{fetch, peek};
use super::{Key, Scope};
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use abi::process::FutexWaitv;
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::fallible::TryVec;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FUTEX_WAITV];

/// An element of the user's array.
pub(super) struct Word {
    pub addr: usize,
    pub val: u32,
    pub scope: Scope,
}

/// The scope that `FUTEX2_*` flags name.
///
/// # Errors
/// `EINVAL`: an unknown flag, or a word of another size than 32 bits.
pub(super) fn scope_of(flags: u32) -> Result<Scope> {
    let known = raw::FUTEX2_SIZE_MASK | raw::FUTEX2_PRIVATE;
    if flags & !known != 0 || flags & raw::FUTEX2_SIZE_MASK != raw::FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(if flags & raw::FUTEX2_PRIVATE != 0 { Scope::Private } else { Scope::Shared })
}

/// The user's array, checked.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`.
pub(super) fn read_words(waiters: UserPtr<FutexWaitv>, count: usize) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    words.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for word in waiters.slice(count).to_vec()? {
        let scope = scope_of(word.flags)?;
        let val = u32::try_from(word.val).map_err(|_| Errno::EINVAL)?;
        if word.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        words.push_reserved(Word { addr: word.uaddr as usize, val, scope });
    }
    Ok(words)
}

/// A word to wait for, and its key.
struct Watched {
    addr: usize,
    val: u32,
    key: Key,
}

fn watch(words: Vec<Word>) -> Result<Vec<Watched>> {
    let mut watched = Vec::new();
    watched.try_reserve_exact(words.len()).map_err(|_| Errno::ENOMEM)?;
    for word in words {
        watched.push_reserved(Watched {
            addr: word.addr,
            val: word.val,
            key: Key::of(word.addr, word.scope)?,
        });
    }
    Ok(watched)
}

/// Takes the running thread out of the buckets of its words, wherever they were moved to.
fn dequeue_all(me: &CurrentThread, words: &[Watched], places: &Places) {
    let mut number = 0;
    while number < words.len() {
        let index = places.get(number);
        let bucket = bucket(index);
        let mut queue = bucket.lock();
        if places.get(number) != index {
            // Requeued between the look and the lock.
            continue;
        }
        let mine = |e: &Entry| {
            e.index as usize == number && e.notify.is_none() && core::ptr::eq(&raw const *e.task, me.task())
        };
        let at = queue.iter().position(mine);
        let entry = at.and_then(|at| queue.remove(at));
        drop(queue);
        bucket.leave(usize::from(entry.is_some()));
        number += 1;
    }
}

/// Queues on every word. `Ok(Some(i))`: word `i` was woken meanwhile.
fn enqueue_all(me: &CurrentThread, words: &[Watched], places: &Arc<Places>) -> Result<Option<u32>> {
    'again: loop {
        me.futex.start(usize::MAX);
        words.iter().enumerate().for_each(|(i, word)| places.set(i, index_of(&word.key)));
        for (i, word) in words.iter().enumerate() {
            let bucket = bucket(index_of(&word.key));
            let mut queue = bucket.lock_to_wait();
            let seen = peek(word.addr);
            let queued = if seen == Some(word.val) {
                let entry = Entry::new(word.key, me.task_arc(), Kind::Plain);
                let entry = Entry { index: i as u32, places: Some(places.clone()), ..entry };
                push(&mut queue, entry)
            } else {
                Err(Errno::EAGAIN)
            };
            drop(queue);
            let Err(errno) = queued else { continue };
            bucket.leave(1);
            dequeue_all(me, words, places);
            if me.futex.is_woken() {
                return Ok(Some(me.futex.woken_index()));
            }
            if seen.is_none() {
                fetch(word.addr)?;
                continue 'again;
            }
            return Err(errno);
        }
        return Ok(None);
    }
}

#[macros::syscall(futex_waitv)]
fn sys_futex_waitv(
    waiters: UserPtr<FutexWaitv>,
    nr_futexes: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
    clockid: i32,
) -> Result<u32> {
    if flags != 0 || nr_futexes == 0 || nr_futexes > raw::FUTEX_WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline = match timeout.read_opt()? {
        None => None,
        Some(time) => Some(super::syscalls::absolute(clockid, time.to_ns()?)?),
    };
    let words = watch(read_words(waiters, nr_futexes as usize)?)?;
    let me = current();
    let places = Places::new(words.len())?;
    if let Some(index) = enqueue_all(&me, &words, &places)? {
        me.futex.finish();
        return Ok(index);
    }
    let timed_out = crate::time::sleep::wait_until(deadline, || me.futex.is_woken());
    dequeue_all(&me, &words, &places);
    let woken = me.futex.is_woken();
    me.futex.finish();
    if woken {
        Ok(me.futex.woken_index())
    } else if timed_out {
        Err(Errno::ETIMEDOUT)
    } else {
        Err(Errno::ERESTARTSYS)
    }
}
