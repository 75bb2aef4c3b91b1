//! Stress on OS threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::*;

/// How often a test repeats: miri, which looks at every access, needs few rounds.
const fn rounds(n: u64) -> u64 {
    if cfg!(miri) { n.div_ceil(50) } else { n }
}

fn threads(n: usize, f: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for i in 0..n {
            let f = &f;
            scope.spawn(move || f(i));
        }
    });
}

#[test]
fn spin_locks_exclude() {
    let counter = SpinLock::<u64, Bare>::new(0);
    threads(4, |_| {
        for _ in 0..rounds(2000) {
            *counter.lock() += 1;
        }
    });
    assert_eq!(counter.into_inner(), 4 * rounds(2000));
}

#[test]
fn pairs_do_not_deadlock() {
    let a = SpinLock::<u64, Bare>::new(0);
    let b = SpinLock::<u64, Bare>::new(0);
    threads(2, |i| {
        for _ in 0..rounds(1000) {
            let (mut x, mut y) = if i == 0 { lock_pair(&a, &b) } else { lock_pair(&b, &a) };
            *x += 1;
            *y += 1;
        }
    });
    assert_eq!((a.into_inner(), b.into_inner()), (2 * rounds(1000), 2 * rounds(1000)));
}

#[test]
fn rw_locks_share_and_exclude() {
    let pair = RwSpinLock::<(u64, u64), Bare>::new((0, 0));
    threads(4, |i| {
        for _ in 0..rounds(500) {
            if i == 0 {
                let mut guard = pair.write();
                guard.0 += 1;
                std::thread::yield_now();
                guard.1 += 1;
            } else {
                let guard = pair.read();
                assert_eq!(guard.0, guard.1);
            }
        }
    });
}

#[test]
fn sequence_locks_never_show_half_a_change() {
    let pair = SeqLock::<[u64; 4], Bare>::new([0; 4]);
    let stop = AtomicBool::new(false);
    threads(3, |i| {
        if i == 0 {
            for n in 0..rounds(5000) {
                *pair.write() = [n, n * 2, n * 3, n * 4];
            }
            stop.store(true, Ordering::Release);
        } else {
            while !stop.load(Ordering::Acquire) {
                let [a, b, c, d] = pair.read();
                assert_eq!((b, c, d), (a * 2, a * 3, a * 4));
            }
        }
    });
}

#[test]
fn once_runs_once() {
    for _ in 0..50 {
        let once = Once::new();
        let runs = AtomicUsize::new(0);
        threads(4, |_| {
            let value = once.call_once(|| runs.fetch_add(1, Ordering::SeqCst) + 41);
            assert_eq!(*value, 41);
        });
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(once.set(7), Err(7));
    }
}

struct Pinned;

// SAFETY: these tests never reclaim while a guard lives.
unsafe impl RcuReadSide for Pinned {}

#[test]
fn rcu_pointers_count_their_references() {
    let value = Arc::new(5);
    let pointer = RcuPtr::new(Some(value.clone()));
    assert_eq!(pointer.load(&Pinned), Some(&5));
    let held = pointer.load_arc(&Pinned);
    assert_eq!(Arc::strong_count(&value), 3);
    let retired = pointer.replace(None);
    assert!(pointer.is_none());
    // SAFETY: no reader is left.
    drop(unsafe { retired.reclaim() });
    drop(held);
    assert_eq!(Arc::strong_count(&value), 1);
    let other = Arc::new(6);
    assert!(pointer.compare_replace(Arc::as_ptr(&value), Some(other.clone())).is_err());
    assert!(pointer.compare_replace(core::ptr::null(), Some(other)).is_ok());
    assert_eq!(pointer.into_inner().as_deref(), Some(&6));
}

#[test]
fn one_of_many_takes_what_is_in_a_slot() {
    let slot = BoxSlot::new();
    assert!(slot.is_empty() && slot.take().is_none());
    for round in 0..rounds(1000) {
        assert!(slot.put(Box::new(round)).is_none());
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| slot.take())).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken, [Box::new(round)]);
    }
    assert_eq!(slot.put(Box::new(1)), None);
    assert_eq!(slot.put(Box::new(2)).as_deref(), Some(&1));
}
