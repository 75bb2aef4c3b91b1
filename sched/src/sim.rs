//! The scheduling classes in simulated time.
//!
//! A simulated machine has run queues but no threads: the simulation advances a clock, lets the running
//! task of each CPU "run", ticks, wakes and puts to sleep, and asks the classes who runs next, exactly as
//! `schedule` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use arch::cpu::{CpuId, CpuMask};
use arch::thread::ThreadFlags;

use crate::balance::Machine;
use crate::class::deadline::DlParams;
use crate::class::{Dequeue, Enqueue, Policy, TaskPtr, fair};
use crate::entity::Sched;
use crate::group::TaskGroup;
use crate::rq::{RunQueue, sched_mut, sched_of};
use crate::state::State;
use crate::task::{Task, TaskFlags, on_rq};
use crate::time::TICK_NS;

const MS: u64 = 1_000_000;

/// What a simulated task does.
#[derive(Clone, Copy)]
struct Behaviour {
    /// Runs for so long, nanoseconds…
    burst: u64,
    /// …then sleeps for so long; 0: never.
    sleep: u64,
}

const SPINNER: Behaviour = Behaviour { burst: u64::MAX, sleep: 0 };

struct SimTask {
    task: Arc<Task>,
    does: Behaviour,
    left: u64,
    wakes_at: u64,
    woken_at: Option<u64>,
    max_latency: u64,
    switches: u64,
}

struct Sim {
    now: u64,
    queues: Vec<&'static RunQueue>,
    tasks: Vec<SimTask>,
}

fn online(n: usize) -> CpuMask {
    CpuMask::first_n(n)
}

impl Sim {
    fn new(cpus: usize) -> Self {
        let queues = (0..cpus as u32)
            .map(|cpu| {
                let idle = Task::build(b"idle", TaskFlags::IDLE, Sched::idle(), State::RUNNING);
                let idle: &'static Arc<Task> = Box::leak(Box::new(Arc::new(idle)));
                let queue: &'static RunQueue =
                    Box::leak(Box::new(RunQueue::new(CpuId(cpu), TaskPtr::from(&**idle))));
                queue.lock.lock().publish(&queue.hints);
                queue
            })
            .collect();
        Self { now: 0, queues, tasks: Vec::new() }
    }

    fn spawn(&mut self, cpu: usize, does: Behaviour, set: impl FnOnce(&mut Sched)) -> usize {
        let task = Arc::new(Task::build(b"sim", TaskFlags::empty(), Sched::default(), State::RUNNING));
        let ptr = TaskPtr::from(&*task);
        {
            let sched = sched_mut(ptr);
            set(sched);
            sched.class = sched.policy.class();
            sched.rt.priority.set(sched.rt_priority);
        }
        fair::update_weight(ptr, self.now);
        self.tasks.push(SimTask {
            task,
            does,
            left: does.burst,
            wakes_at: 0,
            woken_at: None,
            max_latency: 0,
            switches: 0,
        });
        self.enqueue(cpu, ptr, Enqueue::New);
        self.tasks.len() - 1
    }

    fn enqueue(&mut self, cpu: usize, task: TaskPtr, why: Enqueue) {
        let mut rq = self.queues[cpu].lock.lock();
        rq.clock = self.now;
        rq.adopt(task);
        rq.activate(task, why);
        if rq.preempted_by(task) {
            rq.resched_current();
        }
        rq.publish(&self.queues[cpu].hints);
    }

    fn find(&self, ptr: TaskPtr) -> Option<usize> {
        self.tasks.iter().position(|t| TaskPtr::from(&*t.task) == ptr)
    }

    /// Lets the simulation run for `ns`, in steps of `step` (a divisor of a tick).
    fn run(&mut self, ns: u64, step: u64) {
        let end = self.now + ns;
        while self.now < end {
            self.now += step;
            for cpu in 0..self.queues.len() {
                self.advance(cpu, step);
            }
            for i in 0..self.tasks.len() {
                if self.tasks[i].wakes_at != 0 && self.tasks[i].wakes_at <= self.now {
                    self.tasks[i].wakes_at = 0;
                    self.tasks[i].woken_at = Some(self.now);
                    let ptr = TaskPtr::from(&*self.tasks[i].task);
                    let cpu = self.tasks[i].task.cpu().index();
                    self.enqueue(cpu, ptr, Enqueue::Wakeup);
                }
            }
            for cpu in 0..self.queues.len() {
                self.reschedule(cpu);
            }
        }
    }

    fn advance(&mut self, cpu: usize, step: u64) {
        let queue = self.queues[cpu];
        let curr = queue.lock.lock().curr;
        if let Some(i) = self.find(curr) {
            let task = &mut self.tasks[i];
            if let Some(woken) = task.woken_at.take() {
                task.max_latency = task.max_latency.max(self.now - step - woken);
            }
            if task.does.sleep != 0 {
                task.left = task.left.saturating_sub(step);
                if task.left == 0 {
                    task.left = task.does.burst;
                    task.wakes_at = self.now + task.does.sleep;
                    let mut rq = queue.lock.lock();
                    rq.clock = self.now;
                    rq.deactivate(curr, State::INTERRUPTIBLE);
                    rq.resched_current();
                }
            }
        }
        let mut rq = queue.lock.lock();
        rq.clock = self.now;
        if self.now >= rq.dl_next {
            rq.dl_next = u64::MAX;
            crate::class::deadline::unthrottle(&mut rq);
        }
        if self.now.is_multiple_of(TICK_NS) {
            let curr = rq.curr;
            // SAFETY: tasks of the simulation live as long as it does.
            if unsafe { curr.as_ref() }.on_rq.load(Ordering::Relaxed) == on_rq::QUEUED {
                let class = rq.current_class();
                class.tick(&mut rq, curr);
            }
            crate::class::realtime::tick_others(&mut rq);
        }
        rq.publish(&queue.hints);
    }

    fn reschedule(&mut self, cpu: usize) {
        let queue = self.queues[cpu];
        let mut rq = queue.lock.lock();
        // SAFETY: tasks of the simulation live as long as it does.
        let curr = unsafe { rq.curr.as_ref() };
        if !curr.thread_flags().clear(ThreadFlags::NEED_RESCHED) {
            return;
        }
        rq.clock = self.now;
        let prev = rq.curr;
        let next = rq.pick_next(prev);
        if next != prev {
            // SAFETY: as above.
            unsafe {
                prev.as_ref().on_cpu.store(false, Ordering::Relaxed);
                next.as_ref().on_cpu.store(true, Ordering::Relaxed);
            }
            drop(rq);
            if let Some(i) = self.find(next) {
                self.tasks[i].switches += 1;
            }
            let rq = queue.lock.lock();
            rq.publish(&queue.hints);
        }
    }

    fn ran(&self, i: usize) -> u64 {
        self.tasks[i].task.times.sum_exec.load(Ordering::Relaxed)
    }

    fn shares(&self, which: &[usize], since: &[u64]) -> Vec<f64> {
        let ran: Vec<u64> = which.iter().zip(since).map(|(i, s)| self.ran(*i) - s).collect();
        let total: u64 = ran.iter().sum();
        ran.iter().map(|r| *r as f64 / total as f64).collect()
    }
}

fn nice(n: i8) -> impl FnOnce(&mut Sched) {
    move |sched| sched.nice = n
}

fn close(a: f64, b: f64, by: f64) -> bool {
    (a - b).abs() <= by
}

#[test]
fn equal_tasks_get_equal_shares() {
    for n in [2usize, 3, 8, 17] {
        let mut sim = Sim::new(1);
        let ids: Vec<usize> = (0..n).map(|_| sim.spawn(0, SPINNER, nice(0))).collect();
        sim.run(10_000 * MS, MS / 2);
        for share in sim.shares(&ids, &vec![0; n]) {
            assert!(close(share, 1.0 / n as f64, 0.003), "{n}: {share}");
        }
    }
}

#[test]
fn nice_values_weigh_as_on_linux() {
    for (levels, expected) in [
        (vec![0i8, 1], vec![0.5556, 0.4444]),
        (vec![0, 5, 10], vec![0.697, 0.228, 0.075]),
        (vec![-20, 19], vec![0.9998, 0.0002]),
    ] {
        let mut sim = Sim::new(1);
        let ids: Vec<usize> = levels.iter().map(|n| sim.spawn(0, SPINNER, nice(*n))).collect();
        sim.run(30_000 * MS, MS);
        let shares = sim.shares(&ids, &vec![0; ids.len()]);
        for (share, want) in shares.iter().zip(&expected) {
            assert!(close(*share, *want, 0.005), "{levels:?}: {shares:?}");
        }
    }
}

#[test]
fn idle_policy_gets_the_crumbs() {
    let mut sim = Sim::new(1);
    let a = sim.spawn(0, SPINNER, nice(0));
    let b = sim.spawn(0, SPINNER, |s| s.policy = Policy::Idle);
    sim.run(20_000 * MS, MS);
    let share = sim.shares(&[a, b], &[0, 0])[1];
    assert!((0.002..0.005).contains(&share), "{share}");
}

#[test]
fn everybody_runs_within_a_period() {
    let mut sim = Sim::new(1);
    let sleeper = sim.spawn(0, Behaviour { burst: MS, sleep: 19 * MS }, nice(0));
    for _ in 0..4 {
        sim.spawn(0, SPINNER, nice(0));
    }
    sim.run(20_000 * MS, MS / 4);
    // It asks for 5 % and gets it.
    let ran = sim.ran(sleeper) as f64 / 20_000e6;
    assert!(ran >= 0.048, "{ran}");
    assert!(sim.tasks[sleeper].max_latency <= 6 * MS, "{}", sim.tasks[sleeper].max_latency);
}

#[test]
fn sleeping_does_not_save_up_time() {
    let mut sim = Sim::new(1);
    let a = sim.spawn(0, SPINNER, nice(0));
    let b = sim.spawn(0, Behaviour { burst: MS, sleep: 2000 * MS }, nice(0));
    sim.run(1000 * MS, MS / 2);
    // Slept for a second; from now on it burns.
    sim.tasks[b].does = SPINNER;
    sim.run(1010 * MS, MS / 2);
    let since = [sim.ran(a), sim.ran(b)];
    sim.run(100 * MS, MS / 2);
    let gained = (sim.ran(b) - since[1]) as i64 - (sim.ran(a) - since[0]) as i64;
    assert!(gained <= 10 * MS as i64, "{gained}");
}

#[test]
fn groups_share_whatever_their_size() {
    let mut sim = Sim::new(1);
    let root = sim.queues[0].fair_root();
    let one = TaskGroup::with_roots(None, 1, |_| root).unwrap();
    let nine = TaskGroup::with_roots(None, 1, |_| root).unwrap();
    let lonely = sim.spawn(0, SPINNER, |s| s.group = Some(one.clone()));
    for _ in 0..9 {
        sim.spawn(0, SPINNER, |s| s.group = Some(nine.clone()));
    }
    sim.run(20_000 * MS, MS);
    let share = sim.ran(lonely) as f64 / 20_000e6;
    assert!(close(share, 0.5, 0.01), "{share}");
}

#[test]
fn nested_groups_multiply() {
    let mut sim = Sim::new(1);
    let root = sim.queues[0].fair_root();
    let a = TaskGroup::with_roots(None, 1, |_| root).unwrap();
    let b = TaskGroup::with_roots(None, 1, |_| root).unwrap();
    a.set_shares(1024);
    b.set_shares(3072);
    let inner = TaskGroup::with_roots(Some(&b), 1, |_| root).unwrap();
    let in_a = sim.spawn(0, SPINNER, |s| s.group = Some(a.clone()));
    let in_b = sim.spawn(0, SPINNER, |s| s.group = Some(b.clone()));
    let in_inner = sim.spawn(0, SPINNER, |s| s.group = Some(inner.clone()));
    sim.run(20_000 * MS, MS);
    let shares = sim.shares(&[in_a, in_b, in_inner], &[0, 0, 0]);
    for (share, want) in shares.iter().zip([0.25, 0.375, 0.375]) {
        assert!(close(*share, want, 0.01), "{shares:?}");
    }
}

#[test]
fn realtime_order_and_round_robin() {
    let mut sim = Sim::new(1);
    crate::class::realtime::RUNTIME_NS.store(-1, Ordering::Relaxed);
    let rt = |policy, priority| {
        move |s: &mut Sched| {
            s.policy = policy;
            s.rt_priority = priority;
        }
    };
    let low = sim.spawn(0, SPINNER, rt(Policy::Fifo, 10));
    let a = sim.spawn(0, SPINNER, rt(Policy::RoundRobin, 20));
    let b = sim.spawn(0, SPINNER, rt(Policy::RoundRobin, 20));
    let other = sim.spawn(0, SPINNER, nice(0));
    sim.run(10_000 * MS, MS);
    assert_eq!(sim.ran(low), 0);
    assert_eq!(sim.ran(other), 0);
    let shares = sim.shares(&[a, b], &[0, 0]);
    assert!(close(shares[0], 0.5, 0.02), "{shares:?}");
    // A switch every 100 ms.
    let switches = sim.tasks[a].switches + sim.tasks[b].switches;
    assert!((98..=102).contains(&switches), "{switches}");
    let high = sim.spawn(0, Behaviour { burst: 2 * MS, sleep: 8 * MS }, rt(Policy::Fifo, 90));
    sim.run(1000 * MS, MS);
    assert!(sim.tasks[high].max_latency <= MS);
    assert!(close(sim.ran(high) as f64 / 1000e6, 0.2, 0.01));
}

fn deadline(runtime: u64, period: u64) -> impl FnOnce(&mut Sched) {
    move |s| {
        s.policy = Policy::Deadline;
        s.dl.params.set(DlParams { runtime, deadline: period, period });
    }
}

#[test]
fn overrunning_reservations_hurt_nobody() {
    let mut sim = Sim::new(1);
    let wild = sim.spawn(0, SPINNER, deadline(30 * MS, 100 * MS));
    let good = sim.spawn(0, Behaviour { burst: 5 * MS - MS / 4, sleep: 5 * MS }, deadline(5 * MS, 10 * MS));
    let fair = sim.spawn(0, SPINNER, nice(0));
    sim.run(10_000 * MS, MS / 4);
    let share = sim.ran(wild) as f64 / 10_000e6;
    // Enforced at ticks: at most a tick of overrun, which is paid back.
    assert!(close(share, 0.30, 0.01), "{share}");
    assert!(sim.tasks[good].max_latency <= 5 * MS, "{}", sim.tasks[good].max_latency);
    assert!(sim.ran(fair) > 0);
}

#[test]
fn admission_is_limited_to_the_cpus() {
    let tenth = DlParams { runtime: 10 * MS, deadline: 100 * MS, period: 100 * MS };
    let mut admitted = 0;
    while crate::class::deadline::admit(DlParams::default(), tenth, 2) {
        admitted += 1;
    }
    assert_eq!(admitted, 18);
    for _ in 0..admitted {
        assert!(crate::class::deadline::admit(tenth, DlParams::default(), 2));
    }
}

#[test]
fn balancing_converges_and_stays() {
    static QUEUES: sync::Once<Vec<&'static RunQueue>> = sync::Once::new();
    let mut sim = Sim::new(4);
    let _ = QUEUES.set(sim.queues.clone());
    let machine = Machine {
        online: online(4),
        queue: |cpu| QUEUES.get().and_then(|q| q.get(cpu.index()).copied()),
        node: |cpu| cpu.0 / 2,
    };
    let ids: Vec<usize> = (0..8).map(|_| sim.spawn(0, SPINNER, nice(0))).collect();
    for _ in 0..250 {
        sim.run(TICK_NS, MS);
        for queue in &sim.queues {
            let mut rq = queue.lock.lock();
            rq.clock = sim.now;
            if machine.periodic(&mut rq) {
                rq.resched_current();
            }
            rq.publish(&queue.hints);
        }
    }
    let mut per_cpu = BTreeMap::new();
    for id in &ids {
        *per_cpu.entry(sim.tasks[*id].task.cpu().0).or_insert(0) += 1;
    }
    assert_eq!(per_cpu.values().copied().collect::<Vec<i32>>(), [2, 2, 2, 2]);
    // Affinity is never violated.
    let pinned = sim.spawn(1, SPINNER, |s| s.affinity = CpuMask::of(CpuId(1)));
    for _ in 0..250 {
        sim.run(TICK_NS, MS);
        for queue in &sim.queues {
            let mut rq = queue.lock.lock();
            rq.clock = sim.now;
            machine.periodic(&mut rq);
        }
        assert_eq!(sim.tasks[pinned].task.cpu(), CpuId(1));
    }
}

#[test]
fn changing_nice_while_queued_keeps_the_queue_whole() {
    let mut sim = Sim::new(1);
    let ids: Vec<usize> = (0..4).map(|_| sim.spawn(0, SPINNER, nice(0))).collect();
    sim.run(100 * MS, MS);
    let ptr = TaskPtr::from(&*sim.tasks[ids[0]].task);
    {
        let mut rq = sim.queues[0].lock.lock();
        let class = sched_of(ptr).class;
        let running = rq.curr == ptr;
        class.dequeue(&mut rq, ptr, Dequeue::Save);
        if running {
            class.put_prev(&mut rq, ptr);
        }
        sched_mut(ptr).nice = 5;
        fair::update_weight(ptr, sim.now);
        class.enqueue(&mut rq, ptr, Enqueue::Restore);
        if running {
            class.set_next(&mut rq, ptr);
        }
    }
    let since: Vec<u64> = ids.iter().map(|i| sim.ran(*i)).collect();
    sim.run(20_000 * MS, MS);
    let shares = sim.shares(&ids, &since);
    let total = 335.0 + 3.0 * 1024.0;
    assert!(close(shares[0], 335.0 / total, 0.01), "{shares:?}");
}
