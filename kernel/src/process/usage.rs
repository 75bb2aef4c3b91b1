//! What threads and processes have used: getrusage(2), times(2), proc_pid_io(5).
//!
//! The scheduler knows how long a task ran, exactly, and in which mode ticks found it. [`Usage`] divides the former by the
//! latter. As more ticks come the share of one mode can shrink, but nobody may see a time that goes backwards: [`Shown`]
//! remembers what was told, one per thread and one per process, and the other mode gets what the one does not.

use super::Thread;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicU64, Ordering};
use sched::Task;

/// Times and counts of a thread, of all threads of a process, of threads that exited, or of children that were waited for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// Time in user mode.
    pub utime_ns: u64,
    /// Time in the kernel.
    pub stime_ns: u64,
    /// Ticks that found it in user mode and in the kernel, in nanoseconds.
    ticks_ns: (u64, u64),
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// Page faults without I/O.
    pub min_flt: u64,
    /// Page faults with I/O.
    pub maj_flt: u64,
    /// Largest resident set, in pages.
    pub max_rss: u64,
    /// What was read and written.
    pub io: Io,
}

impl Usage {
    /// Adds `other`; the resident set is a maximum.
    pub fn add(&mut self, other: &Self) {
        self.utime_ns += other.utime_ns;
        self.stime_ns += other.stime_ns;
        self.ticks_ns.0 += other.ticks_ns.0;
        self.ticks_ns.1 += other.ticks_ns.1;
        self.nvcsw += other.nvcsw;
        self.nivcsw += other.nivcsw;
        self.min_flt += other.min_flt;
        self.maj_flt += other.maj_flt;
        self.max_rss = self.max_rss.max(other.max_rss);
        self.io.add(&other.io);
    }

    /// What one thread has used.
    pub fn of(task: &Task) -> Self {
        let (nvcsw, nivcsw) = task.context_switches();
        let mut usage = Self { nvcsw, nivcsw, ticks_ns: task.tick_times(), ..Self::default() };
        if task.is_kthread() {
            usage.stime_ns = task.exec_runtime_ns();
        }
        let Some(thread) = task.data::<Thread>() else { return usage };
        usage.min_flt = thread.min_flt.load(Ordering::Relaxed);
        usage.maj_flt = thread.maj_flt.load(Ordering::Relaxed);
        usage.io = thread.io.get();
        if task.is_kthread() {
            return usage;
        }
        let mut shown = thread.shown.lock();
        // Read under the lock: a later reader must not find less.
        let total = task.exec_runtime_ns();
        (usage.utime_ns, usage.stime_ns) = shown.divide(total, usage.ticks_ns);
        usage
    }

    /// A sum over threads, divided anew: parts that were divided one by one do not add up to times that never go back.
    pub fn divided(mut self, shown: &mut Shown) -> Self {
        (self.utime_ns, self.stime_ns) = shown.divide(self.utime_ns + self.stime_ns, self.ticks_ns);
        self
    }
}

/// The times in user mode and in the kernel that were told last, in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shown {
    user: u64,
    system: u64,
}

impl Shown {
    /// Divides `total` as the ticks in user mode and in the kernel say; neither part is less than it was.
    pub fn divide(&mut self, total: u64, (user, system): (u64, u64)) -> (u64, u64) {
        if total > self.user + self.system {
            let by_ticks = match (user, system) {
                // Without ticks: programs live in user mode.
                (_, 0) => 0,
                (0, _) => total,
                _ => {
                    let all = u128::from(user) + u128::from(system);
                    (u128::from(total) * u128::from(system) / all) as u64
                }
            };
            self.system = by_ticks.clamp(self.system, total - self.user);
            self.user = total - self.system;
        }
        (self.user, self.system)
    }
}

/// Bytes and calls, as in `/proc/PID/io`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Io {
    /// Bytes that read calls returned.
    pub rchar: u64,
    /// Bytes that were given to write calls.
    pub wchar: u64,
    /// Read calls.
    pub syscr: u64,
    /// Write calls.
    pub syscw: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes that will go to storage.
    pub write_bytes: u64,
    /// Of those, what was truncated before it went.
    pub cancelled_write_bytes: u64,
}

impl Io {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.rchar += other.rchar;
        self.wchar += other.wchar;
        self.syscr += other.syscr;
        self.syscw += other.syscw;
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
        self.cancelled_write_bytes += other.cancelled_write_bytes;
    }
}

/// The counters of a thread. Only the thread itself counts, so that nothing here is an atomic addition.
#[derive(Default, Debug)]
pub struct IoCounters {
    rchar: AtomicU64,
    wchar: AtomicU64,
    syscr: AtomicU64,
    syscw: AtomicU64,
}

#[inline(always)]
fn bump(counter: &AtomicU64, by: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by as u64), Ordering::Relaxed);
}

impl IoCounters {
    /// A read call of the running thread, whose counters these are, returned `result`.
    #[inline(always)]
    pub fn read<E>(&self, result: &Result<usize, E>) {
        if let Ok(bytes) = result {
            bump(&self.rchar, *bytes);
        }
        bump(&self.syscr, 1);
    }

    /// As [`Self::read`], for a write call.
    #[inline(always)]
    pub fn write<E>(&self, result: &Result<usize, E>) {
        if let Ok(bytes) = result {
            bump(&self.wchar, *bytes);
        }
        bump(&self.syscw, 1);
    }

    /// Their values. There is no file system on storage yet that would fetch or write back anything.
    pub fn get(&self) -> Io {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Io {
            rchar: get(&self.rchar),
            wchar: get(&self.wchar),
            syscr: get(&self.syscr),
            syscw: get(&self.syscw),
            ..Io::default()
        }
    }
}

/// What a process has used beside its living threads.
#[derive(Default)]
pub struct Accounts {
    /// Threads that have exited, and what children that were waited for read and wrote.
    pub dead: Usage,
    /// Children that were waited for, with theirs.
    pub children: Usage,
    /// Times of the process that were told.
    pub shown: Shown,
}

impl Accounts {
    /// A child that used `own`, and whose children used `grandchildren`, was waited for.
    pub fn add_child(&mut self, own: &Usage, grandchildren: &Usage) {
        self.children.add(own);
        self.children.add(grandchildren);
        self.dead.io.add(&own.io);
    }
}

/// What a thread keeps for [`Usage::of`].
pub type ShownTimes = SpinLock<Shown>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_ticks_and_never_shrink() {
        let mut shown = Shown::default();
        assert_eq!(shown.divide(100, (0, 0)), (100, 0));
        // All ticks in the kernel: user time stays.
        assert_eq!(shown.divide(150, (0, 4)), (100, 50));
        assert_eq!(shown.divide(150, (400, 4)), (100, 50));
        assert_eq!(shown.divide(1000, (4, 4)), (500, 500));
        assert_eq!(shown.divide(1001, (400, 4)), (501, 500));
        // A sum that was read earlier.
        assert_eq!(shown.divide(900, (400, 4)), (501, 500));
        assert_eq!(shown.divide(u64::MAX, (1, 1)).1, u64::MAX / 2);
    }
}
