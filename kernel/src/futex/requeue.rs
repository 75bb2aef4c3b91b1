//! `FUTEX_REQUEUE`, `FUTEX_CMP_REQUEUE`: wake some waiters and let the others wait for another word.

use super::bucket::{Kind, bucket, index_of, lock_two, push, reserve};
use super::wait::{fetch, peek};
use super::wake::Batch;
use super::{Key, Scope};
use abi::{Errno, Result};

/// Wakes up to `wake` waiters of `addr` and moves up to `limit` others to `addr2`. With `expected`, only while the
/// word holds it. Returns how many were woken or moved.
///
/// # Errors
/// `EAGAIN`: the word holds something else; `EINVAL`: negative counts, or it met a waiter of a priority-inheriting lock;
/// `EFAULT`; `ENOMEM`.
pub fn requeue(
    addr: usize,
    scope: Scope,
    addr2: usize,
    scope2: Scope,
    (wake, limit): (i32, i32),
    expected: Option<u32>,
) -> Result<usize> {
    if wake < 0 || limit < 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(addr, scope)?;
    let key2 = Key::of(addr2, scope2)?;
    let (from, to) = (index_of(&key), index_of(&key2));
    let (wake, limit) = (wake as usize, limit as usize);
    let mut woken = 0;
    let mut checked = false;
    loop {
        let (mut queue, mut second) = lock_two(from, to);
        if let (Some(expected), false) = (expected, checked) {
            match peek(addr) {
                Some(now) if now == expected => checked = true,
                Some(_) => return Err(Errno::EAGAIN),
                None => {
                    drop(second);
                    drop(queue);
                    fetch(addr)?;
                    continue;
                }
            }
        }
        let mut batch = Batch::default();
        let mut taken = 0;
        let mut moved = 0;
        let mut at = 0;
        let mut full = false;
        let mut misplaced = false;
        let mut no_room = false;
        while let Some(entry) = queue.get_mut(at) {
            if entry.key != key {
                at += 1;
                continue;
            }
            if !matches!(entry.kind, Kind::Plain) {
                misplaced = true;
                break;
            }
            if woken + taken < wake {
                if batch.is_full() {
                    full = true;
                    break;
                }
                if let Some(entry) = queue.remove(at) {
                    batch.add(entry);
                    taken += 1;
                }
            } else if moved < limit {
                let Some(second) = second.as_mut() else {
                    entry.key = key2;
                    moved += 1;
                    at += 1;
                    continue;
                };
                // A waiter leaves its place only when it has another one.
                if reserve(second).is_err() {
                    no_room = true;
                    break;
                }
                if let Some(mut entry) = queue.remove(at) {
                    entry.key = key2;
                    entry.moved_to(to);
                    push(second, entry)?;
                    moved += 1;
                }
            } else {
                break;
            }
        }
        if from != to {
            bucket(to).enter(moved);
            bucket(from).leave(moved);
        }
        bucket(from).leave(taken);
        drop(second);
        drop(queue);
        batch.wake();
        woken += taken;
        if misplaced {
            return Err(Errno::EINVAL);
        }
        if no_room && woken + moved == 0 {
            return Err(Errno::ENOMEM);
        }
        if !full {
            return Ok(woken + moved);
        }
    }
}
