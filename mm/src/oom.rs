//! The OOM killer: when nothing more can be reclaimed, one process dies so that the others live.
//!
//! The choice is Linux's: the process whose resident pages, swap and page tables, shifted by its
//! `oom_score_adj` (thousandths of all memory), are the most. The list of processes and the signal are the kernel's
//! ([`OomVictims`]); the reaper then takes the victim's memory away without waiting for it to exit.

use crate::frames;
use crate::gfp::Gfp;
use crate::space::AddressSpace;
use crate::stats::{self, Event};
use alloc::sync::Arc;
use arch::addr::PAGE_SHIFT;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use sync::Once;

/// `oom_score_adj` that exempts a process.
pub const ADJ_MIN: i32 = -1000;
/// `oom_score_adj` of a process that volunteers.
pub const ADJ_MAX: i32 = 1000;

/// A process as the OOM killer sees it.
pub struct Candidate<'a> {
    /// The kernel's name for it.
    pub id: u64,
    /// Its memory.
    pub space: &'a AddressSpace,
    /// `/proc/PID/oom_score_adj`.
    pub adj: i32,
    /// It is dying already, or was chosen before and has not died yet.
    pub dying: bool,
    /// Must not be killed: init, kernel threads, a fork in progress (`vfork` child sharing the memory).
    pub exempt: bool,
}

/// The processes; implemented by the kernel.
pub trait OomVictims: Sync {
    /// Calls `f` with every process that has an address space.
    fn for_each(&self, f: &mut dyn FnMut(&Candidate<'_>));
    /// Kills the process, logs the choice (`Out of memory: Killed process …`), lets it use the reserves, and returns its memory.
    fn kill(&self, id: u64, points: i64) -> Option<Arc<AddressSpace>>;
    /// Whom the running thread belongs to, if it is a process with memory.
    fn allocating(&self) -> Option<u64>;
    /// Logs who could be killed: memory, adjustment and name of each.
    fn dump(&self);
    /// No process can be killed: `Out of memory and no killable processes...`.
    fn no_victim(&self);
}

/// `vm.panic_on_oom`: 0 kills a process, 1 and 2 stop the machine.
pub static PANIC_ON_OOM: AtomicU32 = AtomicU32::new(0);
/// `vm.oom_kill_allocating_task`: whoever asked for the memory dies, instead of the worst.
pub static KILL_ALLOCATING_TASK: AtomicU32 = AtomicU32::new(0);
/// `vm.oom_dump_tasks`: the candidates are logged before one is killed.
pub static DUMP_TASKS: AtomicU32 = AtomicU32::new(1);

static VICTIMS: Once<&'static dyn OomVictims> = Once::new();

/// Sets who knows the processes. The first call wins.
pub fn set_victims(victims: &'static dyn OomVictims) {
    VICTIMS.call_once(|| victims);
}

/// How bad a candidate is, in pages; `None` if it must not be chosen.
pub fn badness(space: &AddressSpace, adj: i32, total_pages: usize) -> Option<i64> {
    points(
        space.counters().rss() + space.counters().swap() + (space.pgtables_bytes() >> PAGE_SHIFT),
        adj,
        total_pages,
    )
}

fn points(used: usize, adj: i32, total_pages: usize) -> Option<i64> {
    if adj == ADJ_MIN {
        return None;
    }
    Some(used as i64 + i64::from(adj) * (total_pages as i64 / 1000))
}

/// The number in `/proc/PID/oom_score`: 0 to 2000, 1000 meaning all of memory at adjustment 0.
pub fn score(space: &AddressSpace, adj: i32) -> u32 {
    let total = (frames::total_pages() + frames::total_swap_pages()).max(1);
    match badness(space, adj, total) {
        Some(points) => ((1000 + points * 1000 / total as i64) * 2 / 3).max(0) as u32,
        None => 0,
    }
}

/// The worst of what `for_each` yields.
#[derive(Default)]
struct Choice {
    best: Option<(u64, i64)>,
    dying: bool,
}

impl Choice {
    fn consider(&mut self, candidate: &Candidate<'_>, total_pages: usize) {
        if candidate.dying {
            self.dying |= candidate.space.counters().rss() > 0 && !candidate.space.is_oom_reaped();
            return;
        }
        if candidate.exempt {
            return;
        }
        let Some(points) = badness(candidate.space, candidate.adj, total_pages) else { return };
        if self.best.is_none_or(|(_, best)| points > best) {
            self.best = Some((candidate.id, points));
        }
    }
}

/// The candidate `id`, if it may be killed.
fn only(victims: &dyn OomVictims, id: u64, total: usize) -> Option<(u64, i64)> {
    let mut choice = Choice::default();
    victims.for_each(&mut |candidate| {
        if candidate.id == id {
            choice.consider(candidate, total);
        }
    });
    choice.best
}

/// Kills a process as if there were no memory left (`sysrq`'s `f`); whether there was one to kill.
pub fn kill_worst() -> bool {
    out_of_memory(Gfp::KERNEL, 0)
}

/// Called by the allocator with nothing left. True if memory will come free.
pub(crate) fn out_of_memory(gfp: Gfp, _order: u8) -> bool {
    // An allocation that cannot even do I/O does not justify a death.
    if !gfp.contains(Gfp::FS) {
        return true;
    }
    let Some(victims) = VICTIMS.get() else { return false };
    let total = frames::total_pages() + frames::total_swap_pages();
    let mut choice = Choice::default();
    victims.for_each(&mut |candidate| choice.consider(candidate, total));
    if choice.dying {
        sched::yield_now();
        return true;
    }
    if DUMP_TASKS.load(Relaxed) != 0 {
        victims.dump();
    }
    match PANIC_ON_OOM.load(Relaxed) {
        0 => {}
        1 => panic!("Out of memory: system-wide panic_on_oom is enabled"),
        _ => panic!("Out of memory: compulsory panic_on_oom is enabled"),
    }
    let own = victims.allocating().filter(|_| KILL_ALLOCATING_TASK.load(Relaxed) != 0);
    let own = own.and_then(|id| only(*victims, id, total));
    let Some((id, points)) = own.or(choice.best) else {
        victims.no_victim();
        return false;
    };
    if let Some(space) = victims.kill(id, points) {
        stats::count(Event::OomKill, 1);
        space.oom_reap();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn adjustment_shifts_by_thousandths_of_memory() {
        assert_eq!(points(500, 0, 100_000), Some(500));
        assert_eq!(points(500, 100, 100_000), Some(10_500));
        assert_eq!(points(500, -5, 100_000), Some(0));
        assert_eq!(points(90_000, -1000, 100_000), None);
        assert_eq!(points(0, 1000, 100_000), Some(100_000));
    }
}
