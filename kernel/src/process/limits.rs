//! Resource limits of a process: getrlimit(2), prlimit(2).
//!
//! Each soft limit is one atomic word: `open`, `write`, a page fault and `brk` read theirs without
//! a lock. Writers change both words of a limit under the caller's serialisation (the `limits`
//! lock of [`super::Process`]); a reader that needs the pair takes the same lock.

use abi::process::Rlimit;
use abi::raw;
use core::sync::atomic::{AtomicU64, Ordering};

/// How many limits there are (`RLIM_NLIMITS`).
pub const COUNT: usize = 16;

/// The resources that can be limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Resource {
    Cpu = raw::RLIMIT_CPU as u8,
    Fsize = raw::RLIMIT_FSIZE as u8,
    Data = raw::RLIMIT_DATA as u8,
    Stack = raw::RLIMIT_STACK as u8,
    Core = raw::RLIMIT_CORE as u8,
    Rss = raw::RLIMIT_RSS as u8,
    Nproc = raw::RLIMIT_NPROC as u8,
    Nofile = raw::RLIMIT_NOFILE as u8,
    Memlock = raw::RLIMIT_MEMLOCK as u8,
    As = raw::RLIMIT_AS as u8,
    Locks = raw::RLIMIT_LOCKS as u8,
    Sigpending = raw::RLIMIT_SIGPENDING as u8,
    Msgqueue = raw::RLIMIT_MSGQUEUE as u8,
    Nice = raw::RLIMIT_NICE as u8,
    Rtprio = raw::RLIMIT_RTPRIO as u8,
    Rttime = raw::RLIMIT_RTTIME as u8,
}

impl Resource {
    /// Every resource, by number; the order of `/proc/<pid>/limits`.
    pub const ALL: [Self; COUNT] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The resource that a system call names.
    pub fn new(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

const INF: u64 = Rlimit::INFINITY;

/// The limits of the first process: Linux's `INIT_RLIMITS`.
const INITIAL: [Rlimit; COUNT] = {
    let mut all = [Rlimit::new(INF, INF); COUNT];
    all[Resource::Stack as usize] = Rlimit::new(8 << 20, INF);
    all[Resource::Core as usize] = Rlimit::new(0, INF);
    all[Resource::Nproc as usize] = Rlimit::new(0, 0);
    all[Resource::Nofile as usize] = Rlimit::new(1024, 4096);
    all[Resource::Memlock as usize] = Rlimit::new(8 << 20, 8 << 20);
    all[Resource::Sigpending as usize] = Rlimit::new(0, 0);
    all[Resource::Msgqueue as usize] = Rlimit::new(819_200, 819_200);
    all[Resource::Nice as usize] = Rlimit::new(0, 0);
    all[Resource::Rtprio as usize] = Rlimit::new(0, 0);
    all
};

/// The limits of one process.
pub struct Limits {
    cur: [AtomicU64; COUNT],
    max: [AtomicU64; COUNT],
}

impl Limits {
    fn from_values(values: impl Fn(usize) -> Rlimit) -> Self {
        Self {
            cur: core::array::from_fn(|i| AtomicU64::new(values(i).cur)),
            max: core::array::from_fn(|i| AtomicU64::new(values(i).max)),
        }
    }

    /// What the first process has; `max_threads` sets the number of processes and queued signals.
    pub fn initial(max_threads: u64) -> Self {
        let half = max_threads / 2;
        Self::from_values(|i| {
            if i == Resource::Nproc as usize || i == Resource::Sigpending as usize {
                Rlimit::new(half, half)
            } else {
                INITIAL.get(i).copied().unwrap_or_default()
            }
        })
    }

    /// A copy for a child.
    pub fn duplicate(&self) -> Self {
        Self::from_values(|i| match Resource::ALL.get(i) {
            Some(resource) => self.get(*resource),
            None => Rlimit::default(),
        })
    }

    /// The soft limit.
    #[inline]
    pub fn cur(&self, resource: Resource) -> u64 {
        self.cur[resource as usize].load(Ordering::Relaxed)
    }

    /// Both limits.
    pub fn get(&self, resource: Resource) -> Rlimit {
        Rlimit::new(self.cur(resource), self.max[resource as usize].load(Ordering::Relaxed))
    }

    /// Sets both limits; the caller serialises writers and has checked the rights.
    pub fn set(&self, resource: Resource, limit: Rlimit) {
        self.cur[resource as usize].store(limit.cur, Ordering::Relaxed);
        self.max[resource as usize].store(limit.max, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_headers() {
        for (i, resource) in Resource::ALL.iter().enumerate() {
            assert_eq!(*resource as usize, i);
            assert_eq!(Resource::new(i as u32), Some(*resource));
        }
        assert_eq!(Resource::new(16), None);
    }

    #[test]
    fn initial_values() {
        let l = Limits::initial(1000);
        assert_eq!(l.cur(Resource::Nproc), 500);
        assert_eq!(l.get(Resource::Stack), Rlimit::new(8 << 20, u64::MAX));
        assert_eq!(l.duplicate().cur(Resource::Nofile), 1024);
    }
}
