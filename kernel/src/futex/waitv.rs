//! futex_waitv(2): waiting for any of several words.

use super::bucket::{Entry, bucket, index_of, push};
use super::wait::{fetch, peek};
use super::{Key, Scope};
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use abi::process::FutexWaitv;
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::vec::Vec;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FUTEX_WAITV];

struct Word {
    addr: usize,
    val: u32,
    key: Key,
}

fn read_words(waiters: UserPtr<FutexWaitv>, count: usize) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    words.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for raw_word in waiters.slice(count).to_vec()? {
        if raw_word.flags & !(raw::FUTEX2_SIZE_MASK | raw::FUTEX2_PRIVATE) != 0
            || raw_word.reserved != 0
            || raw_word.flags & raw::FUTEX2_SIZE_MASK != raw::FUTEX2_SIZE_U32
        {
            return Err(Errno::EINVAL);
        }
        let scope = if raw_word.flags & raw::FUTEX2_PRIVATE != 0 { Scope::Private } else { Scope::Shared };
        let addr = raw_word.uaddr as usize;
        words.push(Word { addr, val: raw_word.val as u32, key: Key::of(addr, scope)? });
    }
    Ok(words)
}

/// Takes the running thread out of the buckets of `words`.
fn dequeue_all(me: &CurrentThread, words: &[Word]) {
    for word in words {
        let bucket = bucket(index_of(&word.key));
        loop {
            let mut queue = bucket.lock();
            let at = queue.iter().position(|e| core::ptr::eq(&raw const *e.task, me.task()));
            let entry = at.and_then(|at| queue.remove(at));
            drop(queue);
            if entry.is_none() {
                break;
            }
            bucket.leave(1);
        }
    }
}

/// Queues on every word. `Ok(Some(i))`: word `i` was woken meanwhile.
fn enqueue_all(me: &CurrentThread, words: &[Word]) -> Result<Option<u32>> {
    'again: loop {
        me.futex.start(usize::MAX);
        for (i, word) in words.iter().enumerate() {
            let bucket = bucket(index_of(&word.key));
            let mut queue = bucket.lock_to_wait();
            let seen = peek(word.addr);
            let queued = if seen == Some(word.val) {
                let entry = Entry {
                    key: word.key,
                    task: me.task_arc(),
                    bitset: u32::MAX,
                    index: i as u32,
                    pi: false,
                };
                push(&mut queue, entry)
            } else {
                Err(Errno::EAGAIN)
            };
            drop(queue);
            let Err(errno) = queued else { continue };
            bucket.leave(1);
            dequeue_all(me, words);
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
    let words = read_words(waiters, nr_futexes as usize)?;
    let me = current();
    if let Some(index) = enqueue_all(&me, &words)? {
        me.futex.finish();
        return Ok(index);
    }
    let timed_out = crate::time::sleep::wait_until(deadline, || me.futex.is_woken());
    dequeue_all(&me, &words);
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
