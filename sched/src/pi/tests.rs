//! Chains of tasks that do not run: every step is made for them, and compared with a model. And one chain of threads.

use std::sync::Arc;
use std::vec::Vec;

use super::{Blocked, LockError, RtMutex};
use crate::class::deadline::DlParams;
use crate::completion::Completion;
use crate::entity::Sched;
use crate::policy::Attr;
use crate::rq::{rank, sched_of};
use crate::state::State;
use crate::task::{Task, TaskFlags, current};
use crate::{Policy, sleep_ns};

fn task() -> Arc<Task> {
    Arc::new(Task::build(b"pi", TaskFlags::empty(), Sched::default(), State::INTERRUPTIBLE))
}

fn fifo(task: &Task, priority: u8) {
    task.set_sched_attr(Attr::realtime(Policy::Fifo, priority)).unwrap();
}

fn rank_of(task: &Task) -> u32 {
    rank(sched_of(core::ptr::NonNull::from(task)))
}

fn of_priority(priority: u8) -> u32 {
    2 + crate::class::realtime::index_of(priority) as u32
}

fn held_by(task: &Arc<Task>) -> Arc<RtMutex> {
    let mutex = Arc::new(RtMutex::new());
    mutex.set_owner(task.clone());
    mutex
}

#[test]
fn a_chain_is_boosted_and_sinks_back() {
    let tasks: Vec<_> = (0..6).map(|_| task()).collect();
    let mutexes: Vec<_> = tasks.iter().map(held_by).collect();
    // Task n waits for task n - 1.
    for n in 1..5 {
        assert_eq!(mutexes[n - 1].block(&tasks[n]), Ok(Blocked::Waiting));
    }
    assert!(tasks.iter().all(|t| rank_of(t) == 102));
    fifo(&tasks[5], 40);
    assert_eq!(mutexes[4].block(&tasks[5]), Ok(Blocked::Waiting));
    assert!(tasks.iter().all(|t| rank_of(t) == of_priority(40)));
    // The whole chain hears of a change at its end.
    fifo(&tasks[5], 60);
    assert!(tasks.iter().all(|t| rank_of(t) == of_priority(60)));
    // One that is important by itself stays so.
    fifo(&tasks[2], 50);
    assert!(mutexes[4].withdraw(&tasks[5]));
    assert!(!mutexes[4].withdraw(&tasks[5]));
    let ranks: Vec<u32> = tasks.iter().map(|t| rank_of(t)).collect();
    let (own, lent) = (102, of_priority(50));
    assert_eq!(ranks, [lent, lent, lent, own, own, of_priority(60)]);
}

#[test]
fn circles_are_refused() {
    let (a, b, c) = (task(), task(), task());
    let (of_a, of_b, of_c) = (held_by(&a), held_by(&b), held_by(&c));
    assert_eq!(of_a.block(&a), Err(LockError::Deadlock));
    assert_eq!(of_b.block(&a), Ok(Blocked::Waiting));
    assert_eq!(of_c.block(&b), Ok(Blocked::Waiting));
    assert_eq!(of_a.block(&c), Err(LockError::Deadlock));
    assert!(!c.waits_for_mutex());
}

#[test]
fn the_most_important_goes_first_and_equals_in_turn() {
    let owner = task();
    let mutex = held_by(&owner);
    let waiters: Vec<_> = [0u8, 10, 0, 30, 10, 30]
        .iter()
        .map(|priority| {
            let task = task();
            if *priority > 0 {
                fifo(&task, *priority);
            }
            mutex.block(&task).unwrap();
            task
        })
        .collect();
    let mut holder = owner;
    for n in [3, 5, 1, 4, 0, 2] {
        let heir = mutex.hand_over_from(&holder, None).unwrap().unwrap();
        assert!(Arc::ptr_eq(&heir, &waiters[n]) && !heir.waits_for_mutex());
        assert!(Arc::ptr_eq(&mutex.owner().unwrap(), &heir));
        holder = heir;
    }
    assert!(mutex.hand_over_from(&holder, None).unwrap().is_none());
    assert!(mutex.owner().is_none());
    assert_eq!(mutex.hand_over_from(&holder, None).err(), Some(abi::Errno::EPERM));
}

#[test]
fn deadlines_are_lent_too() {
    let owner = task();
    let mutex = held_by(&owner);
    let waiter = task();
    let params = DlParams { runtime: 1_000_000, deadline: 10_000_000, period: 10_000_000 };
    waiter.set_sched_attr(Attr { policy: Policy::Deadline, deadline: params, ..Attr::normal(0) }).unwrap();
    mutex.block(&waiter).unwrap();
    assert_eq!((rank_of(&owner), owner.proc_priority()), (1, -101));
    assert_eq!(sched_of(core::ptr::NonNull::from(&*owner)).dl.effective(), params);
    assert_eq!(owner.sched_attr().policy, Policy::Normal);
    mutex.hand_over_from(&owner, Some(&waiter)).unwrap();
    assert_eq!((rank_of(&owner), owner.proc_priority()), (102, 20));
    waiter.set_sched_attr(Attr::normal(0)).unwrap();
}

#[test]
fn random_steps_agree_with_the_definition() {
    const TASKS: usize = 12;
    const MUTEXES: usize = 7;
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as usize % n
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| task()).collect();
    let mutexes: Vec<_> = (0..MUTEXES).map(|_| Arc::new(RtMutex::new())).collect();
    let mut waits = [None::<usize>; TASKS];
    let mut owner = [None::<usize>; MUTEXES];
    let mut own = [102u32; TASKS];
    for _ in 0..20_000 {
        let (t, m) = (random(TASKS), random(MUTEXES));
        match random(4) {
            0 => {
                let priority = random(5) as u8 * 20;
                let attr =
                    if priority == 0 { Attr::normal(0) } else { Attr::realtime(Policy::Fifo, priority) };
                tasks[t].set_sched_attr(attr).unwrap();
                own[t] = if priority == 0 { 102 } else { of_priority(priority) };
            }
            1 if waits[t].is_none() => {
                let mut at = owner[m];
                let mut circle = false;
                while let Some(o) = at {
                    circle |= o == t;
                    at = if circle { None } else { waits[o].and_then(|m| owner[m]) };
                }
                match mutexes[m].block(&tasks[t]) {
                    Ok(Blocked::Granted) => {
                        assert_eq!(owner[m].replace(t), None);
                    }
                    Ok(Blocked::Waiting) => {
                        assert!(owner[m].is_some() && !circle);
                        waits[t] = Some(m);
                    }
                    Err(error) => assert!(circle && error == LockError::Deadlock),
                }
            }
            2 => {
                if let Some(m) = waits[t].take() {
                    assert!(mutexes[m].withdraw(&tasks[t]));
                }
            }
            _ if owner[m] == Some(t) && waits[t].is_none() => {
                let heir = mutexes[m].hand_over_from(&tasks[t], None).unwrap();
                let heir = heir.map(|heir| tasks.iter().position(|t| Arc::ptr_eq(t, &heir)).unwrap());
                if let Some(heir) = heir {
                    assert_eq!(waits[heir].take(), Some(m));
                }
                owner[m] = heir;
            }
            _ => {}
        }
        // The least fixed point: as important as itself and all who wait for it.
        let mut wanted = own;
        for _ in 0..TASKS {
            for t in 0..TASKS {
                if let Some(o) = waits[t].and_then(|m| owner[m]) {
                    wanted[o] = wanted[o].min(wanted[t]);
                }
            }
        }
        for t in 0..TASKS {
            assert_eq!(rank_of(&tasks[t]), wanted[t]);
            assert_eq!(tasks[t].waits_for_mutex(), waits[t].is_some());
        }
    }
}

#[test]
fn threads_inherit_and_return() {
    let first = Arc::new(RtMutex::new());
    let second = Arc::new(RtMutex::new());
    let me = current().to_arc();
    assert!(first.try_lock());
    let own = rank_of(&me);
    let middle_has_second = Arc::new(Completion::new());
    std::thread::scope(|scope| {
        let (a, b, ready) = (first.clone(), second.clone(), middle_has_second.clone());
        scope.spawn(move || {
            fifo(&current(), 10);
            assert!(b.try_lock());
            ready.complete();
            a.lock(State::UNINTERRUPTIBLE, None).unwrap();
            a.unlock().unwrap();
            b.unlock().unwrap();
        });
        middle_has_second.wait();
        let b = second.clone();
        scope.spawn(move || {
            fifo(&current(), 50);
            b.lock(State::UNINTERRUPTIBLE, None).unwrap();
            b.unlock().unwrap();
        });
        // Priority 50 comes through the middle task to us.
        while rank_of(&me) != of_priority(50) {
            sleep_ns(1_000_000);
        }
        assert_eq!(second.lock(State::UNINTERRUPTIBLE, None), Err(LockError::Deadlock));
        first.unlock().unwrap();
        assert_eq!(rank_of(&me), own);
    });
    assert!(first.owner().is_none());
    assert_eq!(first.unlock().err(), Some(abi::Errno::EPERM));
}

#[test]
fn the_ending_give_away_what_they_own() {
    let mutex = Arc::new(RtMutex::new());
    let locked = Arc::new(Completion::new());
    std::thread::scope(|scope| {
        let (theirs, told) = (mutex.clone(), locked.clone());
        let owner = scope.spawn(move || {
            assert!(theirs.try_lock());
            told.complete();
            while theirs.next_owner().is_none() {
                sleep_ns(1_000_000);
            }
            current().abandon_mutexes(super::After::Exit);
            assert_eq!(rank_of(&current()), 102);
            current().to_arc()
        });
        locked.wait();
        fifo(&current(), 30);
        mutex.lock(State::UNINTERRUPTIBLE, None).unwrap();
        assert!(mutex.take_abandoned() && !mutex.is_abandoned());
        mutex.unlock().unwrap();
        let ended = owner.join().unwrap();
        let its = held_by(&ended);
        assert_eq!(its.block(&current().to_arc()), Err(LockError::OwnerEnded));
    });
}
