//! A thread: what [`sched::Task`] carries for the kernel.
//!
//! The scheduler knows a task; everything that system calls know of it is here. Fields that
//! other threads read while their owner may replace them are RCU pointers: reading one is a load under a
//! guard that keeps preemption off, replacing one costs the writer a grace period later and the
//! reader nothing. Only the owner replaces `cred`, `mm`, `files`, `fs` and `nsproxy` (setuid, exec,
//! unshare, exit), so the owner needs no lock either.
//!
//! The signal state of a thread ([`ThreadSignals`]) is guarded by its process's `siglock`
//! ([`super::Process::sig`]); see [`crate::signal`].

use super::user::{SignalCharge, ThreadCharge};
use super::{NsProxy, Pid, PidNamespace, Process};
use crate::signal::Pending;
use crate::time::cpu::queue::Queue;
use abi::Result;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use arch::sync::{SpinLock, SpinLockIrq};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use mm::AddressSpace;
use mm::fallible::try_box;
use sched::Task;
use sched::completion::Completion;
use sync::{Once, RcuPtr};
use vfs::cred::Credentials;
use vfs::fdtable::FdTable;
use vfs::path::FsStruct;

/// Facts about a thread that change rarely; Linux's `PF_*` and `PFA_*`.
pub mod flags {
    /// On its way out: no more signals.
    pub const EXITING: u32 = 1 << 0;
    /// Forked and has not called exec yet.
    pub const FORKNOEXEC: u32 = 1 << 1;
    /// Used super-user rights.
    pub const SUPERPRIV: u32 = 1 << 2;
    /// A kernel thread.
    pub const KTHREAD: u32 = 1 << 3;
    /// `PR_SET_NO_NEW_PRIVS`.
    pub const NO_NEW_PRIVS: u32 = 1 << 4;
    /// The OOM killer chose it: it may use the reserves.
    pub const OOM_VICTIM: u32 = 1 << 5;
    /// Killed by a signal.
    pub const SIGNALED: u32 = 1 << 6;
    /// `PR_SET_THP_DISABLE`.
    pub const THP_DISABLE: u32 = 1 << 8;
    /// `PR_SET_IO_FLUSHER`.
    pub const IO_FLUSHER: u32 = 1 << 10;
    /// `PR_MCE_KILL` early.
    pub const MCE_EARLY: u32 = 1 << 11;
    /// Changed to a user who is over `RLIMIT_NPROC`.
    pub const NPROC_EXCEEDED: u32 = 1 << 13;
    /// Calls exec and has told the other threads to go.
    pub const EXECING: u32 = 1 << 12;
    /// Exits, and is so far on its way that a core dump does not wait for it. Set under the `siglock`.
    pub const PAST_DUMP: u32 = 1 << 15;
    /// Writes for the kernel: `RLIMIT_FSIZE` does not hold.
    pub const WRITES_UNLIMITED: u32 = 1 << 16;
    /// Has something in [`crate::ipc::task::TaskIpc`].
    pub const IPC: u32 = 1 << 14;
}

/// `sigaltstack(2)` state in native form.
#[derive(Clone, Copy, Default, Debug)]
pub struct AltStack {
    /// Lowest address.
    pub sp: usize,
    /// Length; 0 when there is none.
    pub size: usize,
    /// `SS_AUTODISARM` or 0.
    pub flags: i32,
}

impl AltStack {
    /// Whether `sp` is on it. A stack that disarms itself is never "on".
    pub fn contains(&self, sp: usize) -> bool {
        self.flags & abi::raw::SS_AUTODISARM as i32 == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

/// How `restart_syscall(2)` goes on with a call that a signal interrupted.
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// Nothing to go on with: `EINTR`.
    None,
    /// `nanosleep`: clock, absolute deadline, where the rest goes (0: nowhere).
    Nanosleep {
        /// `CLOCK_*`.
        clock: i32,
        /// Deadline on that clock.
        deadline_ns: u64,
        /// Address of the user's `rem`.
        rem: usize,
    },
    /// `futex(FUTEX_WAIT)` with a relative timeout, made absolute.
    Futex {
        /// The futex.
        uaddr: usize,
        /// Expected value.
        val: u32,
        /// `FUTEX_*` flags of the call.
        op: u32,
        /// Deadline on the monotonic clock.
        deadline_ns: u64,
        /// Which waiters a wake-up is for.
        bitset: u32,
    },
    /// `poll(2)`: descriptors, their count, and the deadline (none: forever).
    Poll {
        /// The user's array.
        fds: usize,
        /// Its length.
        nfds: u32,
        /// Deadline on the monotonic clock.
        deadline_ns: Option<u64>,
    },
}

/// Restartable sequences: rseq(2).
#[derive(Default)]
pub struct Rseq {
    /// Address of the user's `struct rseq`, 0 when not registered.
    pub addr: AtomicUsize,
    /// Its length.
    pub len: AtomicU32,
    /// The signature before each abort handler.
    pub sig: AtomicU32,
}

impl Rseq {
    /// exec: a new program registers anew.
    pub fn clear(&self) {
        self.addr.store(0, Ordering::Relaxed);
        self.len.store(0, Ordering::Relaxed);
        self.sig.store(0, Ordering::Relaxed);
    }
}

/// The signal state of one thread. Written under the process's `siglock`, `blocked` by its owner only.
pub struct ThreadSignals {
    /// Blocked signals.
    pub blocked: AtomicU64,
    /// What `sigsuspend` and friends will put back ([`arch::thread::ThreadFlags::RESTORE_SIGMASK`]).
    pub saved_mask: AtomicU64,
    /// Signals a `sigtimedwait` waits for: they wake the thread although they are blocked.
    pub waited: AtomicU64,
    /// Signals for this thread alone. Locked inside `siglock`.
    pub pending: SpinLockIrq<Pending<SignalCharge>>,
    /// Part in a group stop; see [`crate::signal::stop`].
    pub jobctl: AtomicU32,
    /// The alternate stack.
    pub altstack: SpinLock<AltStack>,
    /// Address for `sigcontext` of the last fault, trap number and error code.
    pub fault: SpinLock<(u32, u64, usize)>,
}

/// What the kernel keeps per thread.
pub struct Thread {
    /// The thread group.
    pub process: Arc<Process>,
    /// Its id. Changes once, when a thread that is not the leader calls exec.
    pub pid: RcuPtr<Pid>,
    task: Once<Weak<Task>>,
    /// `flags::*`.
    pub flags: AtomicU32,
    /// What it may do.
    pub cred: RcuPtr<Credentials>,
    /// Its address space; none for kernel threads and the dying.
    pub mm: RcuPtr<AddressSpace>,
    /// Root, working directory, umask.
    pub fs: RcuPtr<FsStruct>,
    /// Its files.
    pub files: RcuPtr<FdTable>,
    /// Its namespaces.
    pub nsproxy: RcuPtr<NsProxy>,
    /// Its keyrings.
    pub keys: crate::keys::Slots,
    /// Which system calls it may make.
    pub seccomp: crate::seccomp::State,
    /// Which of its system calls become signals.
    pub user_dispatch: SpinLock<crate::syscall::user_dispatch::UserDispatch>,
    /// Signals.
    pub signals: ThreadSignals,
    /// Its tracer.
    pub trace: crate::ptrace::Trace,
    /// Counts against its user's `RLIMIT_NPROC`; senders of signals look at it, also in interrupts.
    pub charge: SpinLockIrq<Option<ThreadCharge>>,
    /// `set_tid_address(2)`: cleared and woken at exit.
    pub clear_child_tid: AtomicUsize,
    /// `CLONE_CHILD_SETTID`: written by the child before it enters user mode.
    pub set_child_tid: AtomicUsize,
    /// `set_robust_list(2)`.
    pub robust_list: AtomicUsize,
    /// Its place among futex waiters.
    pub futex: crate::futex::Waiter,
    /// What waits for its CPU time; made for the first one.
    cpu_queue: Once<Box<Queue>>,
    /// Semaphore adjustments and segments it made.
    pub ipc: crate::ipc::task::TaskIpc,
    /// What it has under way with `io_uring(7)`; none before its first ring. Only the thread itself replaces it.
    pub io_uring: RcuPtr<crate::io_uring::TaskCtx>,
    /// `rseq(2)`.
    pub rseq: Rseq,
    /// What `restart_syscall(2)` does.
    pub restart: SpinLock<Restart>,
    /// The vfork parent waits for it.
    pub vfork_done: SpinLock<Option<Arc<Completion>>>,
    /// `PR_SET_PDEATHSIG`.
    pub pdeath_signal: AtomicI32,
    /// Timer slack in nanoseconds.
    pub timer_slack_ns: AtomicU64,
    /// What it had by default (`PR_SET_TIMERSLACK` 0).
    pub default_timer_slack_ns: AtomicU64,
    /// Page faults without I/O.
    pub min_flt: AtomicU64,
    /// Page faults with I/O.
    pub maj_flt: AtomicU64,
    /// What it read and wrote.
    pub io: super::usage::IoCounters,
    /// Its times that were told.
    pub shown: super::usage::ShownTimes,
    /// For [`crate::watchdog::hung_task`]: context switches when it last looked, and since when (monotonic nanoseconds) they are so many.
    pub last_switches: (AtomicU64, AtomicU64),
    /// `set_mempolicy(2)`.
    pub mempolicy: mm::mempolicy::TaskPolicy,
    /// `personality(2)`.
    pub personality: AtomicU32,
    /// Kinds of shadow stacks that `arch_prctl(2)` is not to change any more.
    pub shadow_stacks_locked: AtomicUsize,
    /// When it was made, on the boot-time clock.
    pub start_ns: u64,
    /// Its exit code, as `wait` shows it.
    pub exit_code: AtomicI32,
    /// Has passed the point in exit where it stops being visible.
    pub gone: AtomicBool,
}

/// The parts a new thread is made of.
pub struct Parts {
    /// Its thread group.
    pub process: Arc<Process>,
    /// Its id.
    pub pid: Arc<Pid>,
    /// Credentials.
    pub cred: Arc<Credentials>,
    /// Address space.
    pub mm: Option<Arc<AddressSpace>>,
    /// File system context.
    pub fs: Arc<FsStruct>,
    /// Files.
    pub files: Arc<FdTable>,
    /// Namespaces.
    pub nsproxy: Arc<NsProxy>,
    /// Account.
    pub charge: ThreadCharge,
}

impl Thread {
    /// A thread of these parts, everything else at its default.
    pub fn new(parts: Parts) -> Self {
        Self {
            process: parts.process,
            pid: RcuPtr::new(Some(parts.pid)),
            task: Once::new(),
            flags: AtomicU32::new(0),
            cred: RcuPtr::new(Some(parts.cred)),
            mm: RcuPtr::new(parts.mm),
            fs: RcuPtr::new(Some(parts.fs)),
            files: RcuPtr::new(Some(parts.files)),
            nsproxy: RcuPtr::new(Some(parts.nsproxy)),
            keys: crate::keys::Slots::default(),
            seccomp: crate::seccomp::State::default(),
            user_dispatch: SpinLock::default(),
            signals: ThreadSignals {
                blocked: AtomicU64::new(0),
                saved_mask: AtomicU64::new(0),
                waited: AtomicU64::new(0),
                pending: SpinLockIrq::new(Pending::new()),
                jobctl: AtomicU32::new(0),
                altstack: SpinLock::new(AltStack::default()),
                fault: SpinLock::new((0, 0, 0)),
            },
            trace: crate::ptrace::Trace::default(),
            charge: SpinLockIrq::new(Some(parts.charge)),
            clear_child_tid: AtomicUsize::new(0),
            set_child_tid: AtomicUsize::new(0),
            robust_list: AtomicUsize::new(0),
            futex: crate::futex::Waiter::default(),
            cpu_queue: Once::new(),
            ipc: crate::ipc::task::TaskIpc::default(),
            io_uring: RcuPtr::empty(),
            rseq: Rseq::default(),
            restart: SpinLock::new(Restart::None),
            vfork_done: SpinLock::new(None),
            pdeath_signal: AtomicI32::new(0),
            timer_slack_ns: AtomicU64::new(50_000),
            default_timer_slack_ns: AtomicU64::new(50_000),
            min_flt: AtomicU64::new(0),
            maj_flt: AtomicU64::new(0),
            io: super::usage::IoCounters::default(),
            shown: SpinLock::default(),
            last_switches: (AtomicU64::new(0), AtomicU64::new(0)),
            mempolicy: mm::mempolicy::TaskPolicy::default(),
            personality: AtomicU32::new(0),
            shadow_stacks_locked: AtomicUsize::new(0),
            start_ns: sched::time::boottime_ns(),
            exit_code: AtomicI32::new(0),
            gone: AtomicBool::new(false),
        }
    }

    /// Says which task carries this thread; once, by its maker.
    pub fn set_task(&self, task: &Arc<Task>) {
        self.task.call_once(|| Arc::downgrade(task));
    }

    /// The task that carries this thread.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.task.get()?.upgrade()
    }

    /// Whether all of the `flags` are set.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags == flags
    }

    /// Sets flags.
    pub fn set(&self, flags: u32) {
        self.flags.fetch_or(flags, Ordering::Relaxed);
    }

    /// Clears flags.
    pub fn clear(&self, flags: u32) {
        self.flags.fetch_and(!flags, Ordering::Relaxed);
    }

    /// Those who wait for its CPU time, now or later.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn cpu_queue(&self) -> Result<&Queue> {
        if let Some(queue) = self.cpu_queue.get() {
            return Ok(queue);
        }
        let fresh = try_box(Queue::new())?;
        Ok(self.cpu_queue.call_once(|| fresh))
    }

    /// The same, if there was ever one.
    pub(crate) fn existing_cpu_queue(&self) -> Option<&Queue> {
        self.cpu_queue.get().map(|queue| &**queue)
    }

    /// The id object.
    pub fn pid(&self) -> Arc<Pid> {
        let guard = sched::rcu::read_lock();
        match self.pid.load_arc(&guard) {
            Some(pid) => pid,
            None => self.process.pid.clone(),
        }
    }

    /// The thread's number as it sees itself.
    #[inline]
    pub fn tid(&self) -> i32 {
        let guard = sched::rcu::read_lock();
        self.pid.load(&guard).map_or(0, |p| p.vnr())
    }

    /// The thread's number in the initial namespace.
    pub fn global_tid(&self) -> i32 {
        let guard = sched::rcu::read_lock();
        self.pid.load(&guard).map_or(0, |p| p.global())
    }

    /// The thread's number as `ns` sees it; 0 if it does not.
    pub fn tid_in(&self, ns: &PidNamespace) -> i32 {
        let guard = sched::rcu::read_lock();
        self.pid.load(&guard).map_or(0, |p| p.nr_in(ns))
    }

    /// The pid namespace the thread lives in.
    pub fn pid_ns(&self) -> Arc<PidNamespace> {
        self.process.pid_ns()
    }

    /// Whether its id is that of the process.
    pub fn is_leader(&self) -> bool {
        core::ptr::eq(self.pid.as_ptr(), Arc::as_ptr(&self.process.pid))
    }

    /// Its credentials.
    #[inline]
    pub fn cred(&self) -> Arc<Credentials> {
        let guard = sched::rcu::read_lock();
        match self.cred.load_arc(&guard) {
            Some(cred) => cred,
            None => super::init_cred(),
        }
    }

    /// Looks at its credentials without counting a reference. `f` must not sleep.
    #[inline]
    pub fn with_cred<R>(&self, f: impl FnOnce(&Credentials) -> R) -> R {
        let guard = sched::rcu::read_lock();
        match self.cred.load(&guard) {
            Some(cred) => f(cred),
            None => f(&super::init_cred()),
        }
    }

    /// Its address space.
    pub fn mm(&self) -> Option<Arc<AddressSpace>> {
        self.mm.load_arc(&sched::rcu::read_lock())
    }

    /// Its files; none once it is exiting.
    pub fn files(&self) -> Option<Arc<FdTable>> {
        self.files.load_arc(&sched::rcu::read_lock())
    }

    /// Its file system context; none once it is exiting.
    pub fn fs(&self) -> Option<Arc<FsStruct>> {
        self.fs.load_arc(&sched::rcu::read_lock())
    }

    /// Its namespaces; none once it is exiting.
    pub fn nsproxy(&self) -> Option<Arc<NsProxy>> {
        self.nsproxy.load_arc(&sched::rcu::read_lock())
    }

    /// Blocked signals.
    #[inline]
    pub fn blocked(&self) -> crate::signal::SigSet {
        crate::signal::SigSet(self.signals.blocked.load(Ordering::Relaxed))
    }
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Thread({})", self.global_tid())
    }
}
