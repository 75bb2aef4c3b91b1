//! What was transferred: the numbers of `/sys/block/DISK/stat` and `/proc/diskstats` (Linux's `Documentation/admin-guide/iostats.rst`).
//!
//! They are counted per CPU. A partition's transfers count for its disk as well.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu;
use mm::fallible::{try_arc, try_into_boxed_slice, try_with_capacity};
use sched::rcu;
use sync::{CachePadded, Once, RcuPtr};

use crate::bio::Op;
use crate::partition;

/// Kinds of transfers that are counted apart.
const GROUPS: usize = 4;
const READ: usize = 0;
const WRITE: usize = 1;
const DISCARD: usize = 2;
const FLUSH: usize = 3;

const NS_PER_MS: u64 = 1_000_000;

/// Zeroing and flushes count as writes.
fn group(op: Op) -> usize {
    match op {
        Op::Read => READ,
        Op::Discard => DISCARD,
        Op::Write | Op::Flush | Op::SecureErase | Op::WriteZeroes => WRITE,
    }
}

#[derive(Default)]
struct PerCpu {
    ios: [AtomicU64; GROUPS],
    merges: [AtomicU64; GROUPS],
    sectors: [AtomicU64; GROUPS],
    ns: [AtomicU64; GROUPS],
    /// Begun here less ended here: only the sum over all CPUs means something.
    in_flight: [AtomicI64; 2],
    busy_ms: AtomicU64,
}

/// The numbers of one device.
pub struct Stats {
    cpus: Box<[CachePadded<PerCpu>]>,
    /// Up to when `busy_ms` is right: monotonic milliseconds.
    stamp_ms: AtomicU64,
}

/// Their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transfers that ended: reads, writes, discards, flushes.
    pub ios: [u64; GROUPS],
    /// Bios that became part of a request that was there already.
    pub merges: [u64; GROUPS],
    /// Sectors of 512 bytes.
    pub sectors: [u64; GROUPS],
    /// How long they took, together.
    pub ns: [u64; GROUPS],
    /// Under way: reads, all others.
    pub in_flight: [u64; 2],
    /// How long something was under way.
    pub busy_ms: u64,
}

impl Stats {
    /// Nothing so far.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let count = cpu::possible().iter().map(|cpu| cpu.index() + 1).max().unwrap_or(1);
        let mut cpus = try_with_capacity(count)?;
        cpus.extend((0..count).map(|_| CachePadded::new(PerCpu::default())));
        Ok(try_arc(Self { cpus: try_into_boxed_slice(cpus)?, stamp_ms: AtomicU64::new(0) })?)
    }

    fn cpu(&self) -> Option<&PerCpu> {
        self.cpus.get(cpu::current().index()).map(|cpu| &cpu.0)
    }

    fn is_busy(&self) -> bool {
        let sum = |cpu: &CachePadded<PerCpu>| -> i64 {
            cpu.0.in_flight.iter().map(|count| count.load(Ordering::Relaxed)).sum()
        };
        self.cpus.iter().map(sum).sum::<i64>() > 0
    }

    /// Brings `busy_ms` up to date before a transfer begins, or when it ends. Once in a millisecond somebody does the work.
    fn advance(&self, cpu: &PerCpu, now_ms: u64, at_end: bool) {
        let stamp = self.stamp_ms.load(Ordering::Relaxed);
        if now_ms > stamp
            && self.stamp_ms.compare_exchange(stamp, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && (at_end || self.is_busy())
        {
            // What begins says only that something is there; what ends was there all the time.
            let busy = if at_end { now_ms - stamp } else { 1 };
            cpu.busy_ms.fetch_add(busy, Ordering::Relaxed);
        }
    }

    fn started(&self, op: Op, now_ns: u64) {
        let Some(cpu) = self.cpu() else { return };
        self.advance(cpu, now_ns / NS_PER_MS, false);
        cpu.in_flight[usize::from(op.is_write())].fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, op: Op, sectors: u64, since_ns: u64, now_ns: u64) {
        let Some(cpu) = self.cpu() else { return };
        let group = group(op);
        self.advance(cpu, now_ns / NS_PER_MS, true);
        cpu.ios[group].fetch_add(1, Ordering::Relaxed);
        cpu.sectors[group].fetch_add(sectors, Ordering::Relaxed);
        cpu.ns[group].fetch_add(now_ns.saturating_sub(since_ns), Ordering::Relaxed);
        cpu.in_flight[usize::from(op.is_write())].fetch_sub(1, Ordering::Relaxed);
    }

    fn merged(&self, op: Op) {
        if let Some(cpu) = self.cpu() {
            cpu.merges[group(op)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flushed(&self, since_ns: u64, now_ns: u64) {
        if let Some(cpu) = self.cpu() {
            cpu.ios[FLUSH].fetch_add(1, Ordering::Relaxed);
            cpu.ns[FLUSH].fetch_add(now_ns.saturating_sub(since_ns), Ordering::Relaxed);
        }
    }

    /// The sums as they are now.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut in_flight = [0i64; 2];
        for cpu in self.cpus.iter().map(|cpu| &cpu.0) {
            for group in 0..GROUPS {
                totals.ios[group] += cpu.ios[group].load(Ordering::Relaxed);
                totals.merges[group] += cpu.merges[group].load(Ordering::Relaxed);
                totals.sectors[group] += cpu.sectors[group].load(Ordering::Relaxed);
                totals.ns[group] += cpu.ns[group].load(Ordering::Relaxed);
            }
            for (sum, count) in in_flight.iter_mut().zip(&cpu.in_flight) {
                *sum += count.load(Ordering::Relaxed);
            }
            totals.busy_ms += cpu.busy_ms.load(Ordering::Relaxed);
        }
        totals.in_flight = in_flight.map(|count| count.max(0) as u64);
        totals
    }

    /// The sums, with the time up to now if something is under way.
    pub fn totals_now(&self) -> Totals {
        if self.is_busy()
            && let Some(cpu) = self.cpu()
        {
            self.advance(cpu, sched::time::monotonic_ns() / NS_PER_MS, true);
        }
        self.totals()
    }
}

impl Totals {
    /// The 17 numbers in the order of the files that show them; times in milliseconds.
    pub fn numbers(&self) -> [u64; 17] {
        let ms = |group: usize| self.ns[group] / NS_PER_MS;
        let of = |group: usize| [self.ios[group], self.merges[group], self.sectors[group], ms(group)];
        let [r, w, d] = [of(READ), of(WRITE), of(DISCARD)];
        let all = self.ns.iter().sum::<u64>() / NS_PER_MS;
        let under_way = self.in_flight.iter().sum();
        [
            r[0],
            r[1],
            r[2],
            r[3],
            w[0],
            w[1],
            w[2],
            w[3],
            under_way,
            self.busy_ms,
            all,
            d[0],
            d[1],
            d[2],
            d[3],
            self.ios[FLUSH],
            ms(FLUSH),
        ]
    }

    /// Whether nothing ever was.
    pub fn is_zero(&self) -> bool {
        self.numbers().iter().all(|n| *n == 0)
    }
}

impl fmt::Display for Totals {
    /// With one blank between, as `/proc/diskstats` has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.numbers()
            .iter()
            .enumerate()
            .try_for_each(|(n, number)| if n == 0 { write!(f, "{number}") } else { write!(f, " {number}") })
    }
}

/// The numbers of all devices of one queue.
pub(crate) struct Accounts {
    whole: Arc<Stats>,
    /// By number, less one. Made with the first partition.
    parts: Once<Box<[RcuPtr<Stats>]>>,
}

impl Accounts {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { whole: Stats::new()?, parts: Once::new() })
    }

    pub(crate) fn whole(&self) -> &Arc<Stats> {
        &self.whole
    }

    /// From now on partition `number` has these numbers.
    pub(crate) fn set_part(&self, number: u32, stats: Option<Arc<Stats>>) -> Result<()> {
        if self.parts.get().is_none() {
            let mut parts = try_with_capacity(partition::MAX)?;
            parts.extend((0..partition::MAX).map(|_| RcuPtr::new(None)));
            let parts = try_into_boxed_slice(parts)?;
            self.parts.call_once(|| parts);
        }
        let index = (number as usize).wrapping_sub(1);
        let place = self.parts.get().and_then(|parts| parts.get(index)).ok_or(Errno::EINVAL)?;
        rcu::retire(place.replace(stats));
        Ok(())
    }

    /// Calls `f` with the numbers of the whole, and with those of the partition.
    #[inline]
    fn each(&self, part: u16, f: impl Fn(&Stats)) {
        // Preemption is off: both are of one CPU.
        let rcu = rcu::read_lock();
        f(&self.whole);
        if part != 0
            && let Some(place) = self.parts.get().and_then(|parts| parts.get(usize::from(part) - 1))
            && let Some(stats) = place.load(&rcu)
        {
            f(stats);
        }
    }

    pub(crate) fn started(&self, part: u16, op: Op, now_ns: u64) {
        self.each(part, |stats| stats.started(op, now_ns));
    }

    pub(crate) fn ended(&self, part: u16, op: Op, sectors: u64, since_ns: u64) {
        let now_ns = sched::time::monotonic_ns();
        self.each(part, |stats| stats.ended(op, sectors, since_ns, now_ns));
    }

    pub(crate) fn merged(&self, part: u16, op: Op) {
        self.each(part, |stats| stats.merged(op));
    }

    /// Flushes are the whole disk's.
    pub(crate) fn flushed(&self, since_ns: u64) {
        let now_ns = sched::time::monotonic_ns();
        self.each(0, |stats| stats.flushed(since_ns, now_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_counted_as_documented() {
        let accounts = Accounts::new().unwrap();
        let part = Stats::new().unwrap();
        accounts.set_part(3, Some(part.clone())).unwrap();
        assert_eq!(accounts.set_part(0, None), Err(Errno::EINVAL));
        assert_eq!(accounts.set_part(257, None), Err(Errno::EINVAL));
        let now = sched::time::monotonic_ns();
        accounts.started(3, Op::Read, now);
        accounts.started(0, Op::Write, now);
        accounts.started(3, Op::Discard, now);
        assert_eq!(part.totals().in_flight, [1, 1]);
        assert_eq!(accounts.whole().totals().in_flight, [1, 2]);
        accounts.merged(3, Op::Read);
        accounts.ended(3, Op::Read, 16, now);
        accounts.ended(0, Op::Write, 8, now);
        accounts.ended(3, Op::Discard, 100, now);
        accounts.flushed(now);
        let numbers = part.totals().numbers();
        assert_eq!((numbers[0], numbers[1], numbers[2], numbers[4], numbers[8]), (1, 1, 16, 0, 0));
        assert_eq!((numbers[11], numbers[13], numbers[15]), (1, 100, 0));
        let numbers = accounts.whole().totals().numbers();
        assert_eq!((numbers[0], numbers[1], numbers[2], numbers[4], numbers[6]), (1, 1, 16, 1, 8));
        assert_eq!((numbers[11], numbers[13], numbers[15]), (1, 100, 1));
        accounts.set_part(3, None).unwrap();
        accounts.started(3, Op::Read, now);
        assert_eq!(part.totals().in_flight, [0, 0]);
    }

    #[test]
    fn time_is_counted_while_something_is_under_way() {
        let stats = Stats::new().unwrap();
        let ms = |n: u64| n * NS_PER_MS;
        stats.started(Op::Read, ms(1000));
        assert_eq!(stats.totals().busy_ms, 0, "nothing was there before");
        stats.started(Op::Write, ms(1010));
        assert_eq!(stats.totals().busy_ms, 1, "what begins counts one");
        stats.ended(Op::Read, 8, ms(1000), ms(1030));
        assert_eq!(stats.totals().busy_ms, 21);
        stats.ended(Op::Write, 8, ms(1010), ms(1030));
        let totals = stats.totals();
        assert_eq!((totals.busy_ms, totals.ns[READ], totals.ns[WRITE]), (21, ms(30), ms(20)));
        assert_eq!(totals.numbers()[10], 50);
        // Nothing happens for a while.
        stats.started(Op::Read, ms(5000));
        assert_eq!(stats.totals().busy_ms, 21);
    }
}
