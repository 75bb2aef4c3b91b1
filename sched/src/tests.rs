//! Stress on OS threads: what must hold whatever the interleaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::vec::Vec;

use crate::completion::Completion;
use crate::hrtimer::{HrTimer, Restart};
use crate::mutex::{Mutex, RwSemaphore, Semaphore};
use crate::*;

fn threads(n: usize, f: impl Fn(usize) + Send + Sync) {
    std::thread::scope(|scope| {
        for i in 0..n {
            let f = &f;
            scope.spawn(move || f(i));
        }
    });
}

#[test]
fn mutex_excludes() {
    let counter = Mutex::new(0u64);
    threads(8, |_| {
        for _ in 0..2000 {
            let mut guard = counter.lock();
            let seen = *guard;
            if seen.is_multiple_of(64) {
                std::thread::yield_now();
            }
            *guard = seen + 1;
        }
    });
    assert_eq!(*counter.lock(), 16000);
}

#[test]
fn rwsem_readers_share_and_writers_exclude() {
    let pair = RwSemaphore::new((0u64, 0u64));
    threads(8, |i| {
        for round in 0..1000 {
            if (round + i) % 4 == 0 {
                let mut guard = pair.write();
                guard.0 += 1;
                std::thread::yield_now();
                guard.1 += 1;
                if round % 8 == 0 {
                    let shared = guard.downgrade();
                    assert_eq!(shared.0, shared.1);
                }
            } else {
                let guard = pair.read();
                assert_eq!(guard.0, guard.1);
            }
        }
    });
    assert_eq!(pair.read().0, 2000);
}

#[test]
fn semaphore_limits() {
    let semaphore = Semaphore::new(3);
    let inside = AtomicUsize::new(0);
    threads(8, |_| {
        for _ in 0..500 {
            semaphore.down();
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            semaphore.up();
        }
    });
}

#[test]
fn no_wakeup_is_lost() {
    let queue = WaitQueue::new();
    let ball = AtomicUsize::new(0);
    const PLAYERS: usize = 4;
    threads(PLAYERS, |me| {
        for round in 0..1000 {
            let mine = round * PLAYERS + me;
            queue.wait_event(|| ball.load(Ordering::Acquire) == mine);
            ball.store(mine + 1, Ordering::Release);
            queue.wake_all();
        }
    });
    assert_eq!(ball.load(Ordering::Relaxed), 1000 * PLAYERS);
}

#[test]
fn exclusive_waiters_wake_one_by_one() {
    let completion = Completion::new();
    let through = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                completion.wait();
                through.fetch_add(1, Ordering::SeqCst);
            });
        }
        for _ in 0..6 {
            completion.complete();
        }
    });
    assert_eq!(through.load(Ordering::SeqCst), 6);
    assert!(!completion.is_done());
}

#[test]
fn waits_time_out() {
    let queue = WaitQueue::new();
    let before = time::monotonic_ns();
    assert!(!queue.wait_event_timeout(Deadline::after_ms(20), || false));
    assert!(time::monotonic_ns() - before >= 20_000_000);
    assert_eq!(sleep_until(Deadline::after_ms(5), State::INTERRUPTIBLE), 0);
}

#[test]
fn timers_fire_in_order() {
    // On a loaded machine the first may be due before the last is started: then once more.
    while !timers_fire_in_order_of_time() {}
}

/// Whether all timers were started before the first was due; if so, they fired in order.
fn timers_fire_in_order_of_time() -> bool {
    let order = Arc::new(arch::sync::SpinLockIrq::new(Vec::new()));
    let done = Arc::new(Completion::new());
    let base = time::monotonic_ns() + 20_000_000;
    let timers: Vec<HrTimer> = [5u64, 1, 4, 2, 3]
        .into_iter()
        .map(|n| {
            let (order, done) = (order.clone(), done.clone());
            let timer = HrTimer::new(move |_| {
                order.lock().push(n);
                done.complete();
                Restart::No
            })
            .unwrap();
            timer.start(Deadline::at(Clock::Monotonic, base + n * 1_000_000));
            timer
        })
        .collect();
    let in_time = time::monotonic_ns() < base;
    for _ in 0..timers.len() {
        done.wait();
    }
    assert!(!in_time || *order.lock() == [1, 2, 3, 4, 5]);
    assert!(timers.iter().all(|t| !t.is_queued()));
    in_time
}

#[test]
fn periodic_timers_and_cancel() {
    let ticks = Arc::new(AtomicUsize::new(0));
    let inner = ticks.clone();
    let timer = HrTimer::new(move |now| {
        inner.fetch_add(1, Ordering::SeqCst);
        Restart::At(now + 1_000_000)
    })
    .unwrap();
    timer.start(Deadline::after_ms(1));
    while ticks.load(Ordering::SeqCst) < 3 {
        sleep_ns(1_000_000);
    }
    assert!(timer.cancel());
    let after = ticks.load(Ordering::SeqCst);
    sleep_ns(5_000_000);
    assert_eq!(ticks.load(Ordering::SeqCst), after);
}

#[test]
fn rcu_keeps_what_readers_see() {
    struct Canary(AtomicBool);
    impl Drop for Canary {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let shared: sync::RcuPtr<Canary> = sync::RcuPtr::new(Some(Arc::new(Canary(AtomicBool::new(true)))));
    let stop = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let guard = rcu::read_lock();
                    if let Some(canary) = shared.load(&guard) {
                        for _ in 0..10 {
                            assert!(canary.0.load(Ordering::SeqCst));
                        }
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..200 {
            drop(shared.replace(Some(Arc::new(Canary(AtomicBool::new(true))))));
            if round % 20 == 0 {
                rcu::synchronize();
            }
        }
        // However late the readers get to run.
        while seen.load(Ordering::Relaxed) == 0 {
            drop(shared.replace(Some(Arc::new(Canary(AtomicBool::new(true))))));
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    rcu::barrier();
}

#[test]
fn callbacks_run_after_barrier() {
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = ran.clone();
        rcu::call(std::boxed::Box::new(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        }));
    }
    rcu::barrier();
    assert_eq!(ran.load(Ordering::SeqCst), 100);
}

#[test]
fn kthreads_stop() {
    let thread = kthread::Kthread::run("kworker/0:0", |stop| {
        while !stop.should_stop() {
            sleep_until(Deadline::after_ms(1000), State::INTERRUPTIBLE);
        }
    })
    .unwrap();
    assert_eq!(thread.task().comm().as_bytes(), b"kworker/0:0");
    thread.stop();
}

#[test]
fn registrations_hear_wakeups_and_survive_their_queue() {
    struct Count(AtomicUsize);
    impl wait::WakeCallback for Count {
        fn wake(&self, events: PollEvents) -> bool {
            assert_eq!(events, PollEvents::IN);
            self.0.fetch_add(1, Ordering::SeqCst);
            true
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let queue = WaitQueue::new();
    let first = queue.register(count.clone(), wait::Share::All).unwrap();
    let second = queue.register(count.clone(), wait::Share::All).unwrap();
    queue.wake_up_poll(PollEvents::IN);
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    drop(first);
    queue.wake_up_poll(PollEvents::IN);
    assert_eq!(count.0.load(Ordering::SeqCst), 3);
    drop(queue);
    drop(second);
}

#[test]
fn payload_is_typed() {
    let task = current();
    task.set_data(7u32).unwrap();
    assert_eq!(task.data::<u32>(), Some(&7));
    assert_eq!(task.data::<i32>(), None);
    assert_eq!(task.set_data(8u32), Err(8));
}

#[test]
fn coarse_timers_fire_and_cancel() {
    let fired = Arc::new(Completion::new());
    let inner = fired.clone();
    let timer = timer::Timer::new(move || inner.complete()).unwrap();
    assert!(!timer.start_in_ms(8));
    assert!(fired.wait_timeout(Deadline::after_ms(2000)));
    assert!(!timer.is_queued());
    timer.start_in_ms(60_000);
    assert!(timer.is_queued());
    assert!(timer.cancel());
    assert!(!timer.cancel());
}

#[test]
fn work_never_runs_beside_itself() {
    let queue = workqueue::WorkQueue::new("test").unwrap();
    let inside = Arc::new(AtomicUsize::new(0));
    let runs = Arc::new(AtomicUsize::new(0));
    let (gate, entered) = (Arc::new(Completion::new()), Arc::new(Completion::new()));
    let work = workqueue::Work::new({
        let (inside, runs, gate, entered) = (inside.clone(), runs.clone(), gate.clone(), entered.clone());
        move || {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            entered.complete();
            gate.wait();
            inside.fetch_sub(1, Ordering::SeqCst);
            runs.fetch_add(1, Ordering::SeqCst);
        }
    })
    .unwrap();
    assert!(queue.queue_work(&work));
    entered.wait();
    // A second thread is there for it, but it waits for its own end.
    assert!(queue.queue_work(&work));
    assert!(!queue.queue_work(&work));
    let other = Arc::new(Completion::new());
    let done = other.clone();
    queue.queue(move || done.complete());
    other.wait();
    assert_eq!((inside.load(Ordering::SeqCst), runs.load(Ordering::SeqCst)), (1, 0));
    gate.complete();
    entered.wait();
    gate.complete();
    queue.flush();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert!(!work.is_pending());
}

#[test]
fn work_runs_once_per_queueing() {
    let queue = workqueue::WorkQueue::new_ordered("test").unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let inner = runs.clone();
    let gate = Arc::new(Completion::new());
    let wait = gate.clone();
    queue.queue(move || wait.wait());
    let work = workqueue::Work::new(move || {
        inner.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    assert!(queue.queue_work(&work));
    assert!(!queue.queue_work(&work), "it waits already");
    gate.complete();
    queue.flush();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(queue.queue_work(&work));
    queue.flush();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
