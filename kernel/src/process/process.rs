//! A process: the thread group and what its threads share.
//!
//! Linux's `signal_struct` together with what it keeps in the group leader's `task_struct`. A process is in one of
//! three states: alive (it has threads), zombie (the last thread has exited, the parent has not asked yet), reaped
//! (nobody can find it by number any more). Every state change happens under the tree lock.
//!
//! # Locks, outermost first
//!
//! 1. [`super::tree`]: the global tree lock. Parent, children, groups, sessions, zombie state.
//! 2. `siglock` ([`Process::sig`], interrupts off): threads, pending signals, group stop, group exit.
//! 3. A thread's `pending` queue; the action table's lock; the pid lock; `children`.
//!
//! `parent`, `pgrp` and `session` are written under the tree lock and read under RCU.

use super::limits::{Limits, Resource};
use super::usage::{Accounts, Usage};
use super::{Pid, PidNamespace, Thread};
use crate::signal::{SigHand, SignalState};
use crate::time::ProcessTimers;
use abi::cap::Cap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::{SpinLock, SpinLockIrq};
use core::sync::atomic::{AtomicBool, AtomicI16, AtomicI32, AtomicU8, AtomicU32, Ordering};
use mm::AddressSpace;
use sched::Task;
use sched::mutex::Mutex;
use sched::wait::WaitQueue;
use sync::RcuPtr;

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// It has threads.
    Alive = 0,
    /// All threads have exited; the parent has not waited yet.
    Zombie = 1,
    /// Gone: its number may be given out again.
    Reaped = 2,
}

/// A thread group.
pub struct Process {
    /// The id of the process, which is that of its leader.
    pub pid: Arc<Pid>,
    state: AtomicU8,
    /// The parent; none for the first process and for what is reaped.
    pub parent: RcuPtr<Process>,
    /// Process group.
    pub pgrp: RcuPtr<Pid>,
    /// Session.
    pub session: RcuPtr<Pid>,
    /// Children, oldest first; zombies included. Under the tree lock.
    pub children: SpinLock<Vec<Arc<Process>>>,
    /// Woken when a child changes state.
    pub child_wait: WaitQueue,
    /// The `siglock`.
    pub sig: SpinLockIrq<SignalState>,
    /// Woken when a signal arrives: signalfd.
    pub signalfd_wait: WaitQueue,
    /// Resource limits.
    pub limits: Limits,
    /// Serialises writers of `limits`.
    pub limits_lock: SpinLock<()>,
    /// What dead threads and children used.
    pub accounts: SpinLock<Accounts>,
    /// POSIX timers and interval timers.
    pub timers: ProcessTimers,
    /// Status for `wait`, valid once it is a zombie.
    pub exit_code: AtomicI32,
    /// The signal for the parent when it exits; 0 for none, -1 for a thread-like child.
    pub exit_signal: AtomicI32,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub is_subreaper: AtomicBool,
    /// Some ancestor is a subreaper.
    pub has_subreaper: AtomicBool,
    /// Signals without a handler do nothing to it: the init of a pid namespace.
    pub unkillable: AtomicBool,
    /// Has called exec since fork: `setpgid` by the parent fails with `EACCES`.
    pub did_exec: AtomicBool,
    /// `PR_SET_DUMPABLE` is the address space's; kept here because it outlives none.
    pub dumpable: AtomicU8,
    /// `/proc/<pid>/oom_score_adj`.
    pub oom_score_adj: AtomicI16,
    /// The lowest value it may be set to without `CAP_SYS_RESOURCE`.
    pub oom_score_adj_min: AtomicI16,
    /// The controlling terminal's slot; the terminal layer puts its object in.
    pub tty: SpinLock<Option<Arc<dyn core::any::Any + Send + Sync>>>,
    /// Foreground group before the terminal was given up (`tty_old_pgrp`).
    pub tty_old_pgrp: SpinLock<Option<Arc<Pid>>>,
    /// `autogroup`, `coredump_filter` and other small settings of `/proc/<pid>`.
    pub coredump_filter: AtomicU32,
    /// Held from the moment exec works out new credentials until they are in force, and by whoever changes in
    /// between what that depends on: filters for other threads. Outside of all locks here.
    pub exec_guard: Mutex<()>,
    /// Threads that its threads trace; under the tree lock.
    pub tracees: SpinLock<Vec<Arc<Task>>>,
    /// How many these are, for those who only want to know whether there are any.
    pub tracee_count: AtomicU32,
    /// Who traces the leader: the first to be told of the end. Under the tree lock.
    pub leader_tracer: SpinLock<Option<Arc<Process>>>,
    /// The thread that made it, by its number in the initial namespace.
    pub forked_by: AtomicI32,
    /// An exec is deciding what the new program may do: nobody may become a tracer. Under the tree lock.
    pub exec_decides: AtomicBool,
    /// The program it runs.
    pub exe: SpinLock<Option<Arc<crate::exec::Exe>>>,
    /// User id when the last thread went, for `wait`.
    pub last_uid: AtomicU32,
    /// Name of the last thread, for what is shown of a zombie.
    pub last_comm: SpinLock<[u8; sched::task::COMM_LEN]>,
    /// When it was made, on the boot-time clock.
    pub start_ns: u64,
}

impl Process {
    /// A process with id `pid` and no thread yet.
    pub fn new(pid: Arc<Pid>, sighand: Arc<SigHand>, limits: Limits, exit_signal: i32) -> Self {
        Self {
            pid,
            state: AtomicU8::new(State::Alive as u8),
            parent: RcuPtr::empty(),
            pgrp: RcuPtr::empty(),
            session: RcuPtr::empty(),
            children: SpinLock::new(Vec::new()),
            child_wait: WaitQueue::new(),
            sig: SpinLockIrq::new(SignalState::new(sighand)),
            signalfd_wait: WaitQueue::new(),
            limits,
            limits_lock: SpinLock::new(()),
            accounts: SpinLock::new(Accounts::default()),
            timers: ProcessTimers::new(),
            exit_code: AtomicI32::new(0),
            exit_signal: AtomicI32::new(exit_signal),
            is_subreaper: AtomicBool::new(false),
            has_subreaper: AtomicBool::new(false),
            unkillable: AtomicBool::new(false),
            did_exec: AtomicBool::new(false),
            dumpable: AtomicU8::new(1),
            oom_score_adj: AtomicI16::new(0),
            oom_score_adj_min: AtomicI16::new(0),
            tty: SpinLock::new(None),
            tty_old_pgrp: SpinLock::new(None),
            coredump_filter: AtomicU32::new(0x33),
            exec_guard: Mutex::new(()),
            tracees: SpinLock::new(Vec::new()),
            tracee_count: AtomicU32::new(0),
            leader_tracer: SpinLock::new(None),
            forked_by: AtomicI32::new(0),
            exec_decides: AtomicBool::new(false),
            exe: SpinLock::new(None),
            last_uid: AtomicU32::new(0),
            last_comm: SpinLock::new([0; sched::task::COMM_LEN]),
            start_ns: sched::time::boottime_ns(),
        }
    }

    /// Alive, zombie or reaped.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Alive,
            1 => State::Zombie,
            _ => State::Reaped,
        }
    }

    /// Moves on in life; under the tree lock.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Claims a zombie for reaping; one caller wins.
    pub fn claim_zombie(&self) -> bool {
        let (zombie, reaped) = (State::Zombie as u8, State::Reaped as u8);
        self.state.compare_exchange(zombie, reaped, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether it has exited and its parent may wait for it: no tracer has to do so first.
    pub fn is_reapable(&self) -> bool {
        self.state() == State::Zombie
            && self.leader_tracer.lock().is_none()
            && self.sig.lock().zombie_threads == 0
    }

    /// The process's number as it sees itself.
    #[inline]
    pub fn id(&self) -> i32 {
        self.pid.vnr()
    }

    /// The process's number as `ns` sees it; 0 if it does not.
    pub fn id_in(&self, ns: &PidNamespace) -> i32 {
        self.pid.nr_in(ns)
    }

    /// The pid namespace the process lives in.
    pub fn pid_ns(&self) -> Arc<PidNamespace> {
        match self.pid.namespace() {
            Some(ns) => ns.clone(),
            None => super::init_pid_ns(),
        }
    }

    /// The parent.
    pub fn parent(&self) -> Option<Arc<Process>> {
        self.parent.load_arc(&sched::rcu::read_lock())
    }

    /// The process group.
    pub fn pgrp(&self) -> Option<Arc<Pid>> {
        self.pgrp.load_arc(&sched::rcu::read_lock())
    }

    /// The session.
    pub fn session(&self) -> Option<Arc<Pid>> {
        self.session.load_arc(&sched::rcu::read_lock())
    }

    /// Whether it leads its session.
    pub fn is_session_leader(&self) -> bool {
        core::ptr::eq(self.session.as_ptr(), Arc::as_ptr(&self.pid))
    }

    /// The live threads, leader first if it lives.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        super::pid::snapshot(|take| take(&self.sig.lock().threads))
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.sig.lock().threads.len()
    }

    /// The leader, or another live thread when it is gone.
    pub fn any_task(&self) -> Option<Arc<Task>> {
        self.sig.lock().threads.first().cloned()
    }

    /// Runs `f` on the thread that stands for the process: its leader, or another one while any lives.
    pub fn with_thread<R>(&self, f: impl FnOnce(&Task, &Thread) -> R) -> Option<R> {
        let task = self.any_task()?;
        let thread = task.data::<Thread>()?;
        Some(f(&task, thread))
    }

    /// Its memory, while it has some.
    pub fn mm(&self) -> Option<Arc<AddressSpace>> {
        self.with_thread(|_, thread| thread.mm()).flatten()
    }

    /// What the process has used: dead threads and the living.
    pub fn usage(&self) -> Usage {
        let mut mm = None;
        let mut usage = {
            // Threads leave the list and are added to the dead under the lock.
            let threads = self.sig.lock();
            let mut accounts = self.accounts.lock();
            let mut sum = accounts.dead;
            threads.for_each(|task, thread| {
                sum.add(&Usage::of(task));
                mm = mm.take().or_else(|| thread.mm());
            });
            sum.divided(&mut accounts.shown)
        };
        if let Some(mm) = mm {
            usage.max_rss = usage.max_rss.max(mm.counters().hiwater_rss() as u64);
        }
        usage
    }

    /// What the children that were waited for have used.
    pub fn children_usage(&self) -> Usage {
        self.accounts.lock().children
    }

    /// Where a signal handler returns to on architectures without `sa_restorer`; 0 where there is none.
    pub fn sigreturn_trampoline(&self) -> usize {
        let Some(offset) = arch::vdso::SIGRETURN_OFFSET else { return 0 };
        let mm = crate::process::with_current(Thread::mm).flatten();
        match mm.map_or(0, |mm| mm.layout.vdso.load(Ordering::Relaxed)) {
            0 => 0,
            base => base.wrapping_add(offset),
        }
    }

    /// The real user id of the process when its last thread went, as the running thread sees it.
    pub fn exit_uid(&self) -> u32 {
        let uid = abi::creds::Uid(self.last_uid.load(Ordering::Relaxed));
        crate::process::current().with_cred(|c| c.user_ns.from_uid(uid))
    }

    /// What its limits and the running thread's rights allow to the memory manager.
    pub fn mm_limits(&self) -> mm::space::Limits {
        let limit = |r| usize::try_from(self.limits.cur(r)).unwrap_or(usize::MAX);
        let can = |cap| crate::process::with_current(|t| t.with_cred(|c| c.capable(cap))).unwrap_or(true);
        mm::space::Limits {
            address_space: limit(Resource::As),
            data: limit(Resource::Data),
            stack: limit(Resource::Stack),
            memlock: limit(Resource::Memlock),
            can_lock: can(Cap::IpcLock),
            can_map_low: can(Cap::SysRawio),
            is_admin: can(Cap::SysAdmin),
        }
    }

    /// The signal table.
    pub fn sighand(&self) -> Arc<SigHand> {
        self.sig.lock().sighand.clone()
    }
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Process({})", self.pid.global())
    }
}
