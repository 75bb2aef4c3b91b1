//! Numbers for `/proc/meminfo`, `/proc/vmstat` and friends.
//!
//! *Items* are quantities that go up and down (pages of a kind); *events* only count up. Each CPU adds to counters of its own;
//! a reader sums them. So an update is a few instructions and a read is exact when nothing moves.

use arch::cpu::{CpuId, possible};
use arch::preempt::PreemptOff;
use core::sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident, $count:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        /// How many there are.
        pub const $count: usize = [$($text),+].len();

        impl $name {
            /// All, in the order of `/proc/vmstat`.
            pub const ALL: [$name; $count] = [$($name::$variant),+];

            /// The name in `/proc/vmstat`.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}

counters! {
    /// A quantity, in pages unless it says otherwise.
    Item, NR_ITEMS {
        /// Anonymous, inactive list.
        InactiveAnon = "nr_inactive_anon",
        /// Anonymous, active list.
        ActiveAnon = "nr_active_anon",
        /// Page cache, inactive list.
        InactiveFile = "nr_inactive_file",
        /// Page cache, active list.
        ActiveFile = "nr_active_file",
        /// Not evictable.
        Unevictable = "nr_unevictable",
        /// Mlocked.
        Mlock = "nr_mlock",
        /// Slab pages that shrink.
        SlabReclaimable = "nr_slab_reclaimable",
        /// Other slab pages.
        SlabUnreclaimable = "nr_slab_unreclaimable",
        /// Mapped anonymous pages.
        AnonPages = "nr_anon_pages",
        /// Mapped page-cache pages.
        FileMapped = "nr_mapped",
        /// Page cache, with shmem.
        FilePages = "nr_file_pages",
        /// Dirty page cache.
        FileDirty = "nr_dirty",
        /// Under writeback.
        Writeback = "nr_writeback",
        /// Shared memory and tmpfs.
        Shmem = "nr_shmem",
        /// Kernel stacks, in KiB.
        KernelStackKb = "nr_kernel_stack",
        /// Page tables of processes.
        PageTables = "nr_page_table_pages",
        /// Page tables of the kernel.
        KernelTables = "nr_kernel_page_table_pages",
        /// Pages in vmalloc areas.
        Vmalloc = "nr_vmalloc_pages",
        /// Huge anonymous pages.
        AnonThps = "nr_anon_transparent_hugepages",
        /// In the swap cache.
        SwapCached = "nr_swapcached",
    }
}

counters! {
    /// Something that happened.
    Event, NR_EVENTS {
        /// Pages allocated in zone DMA.
        AllocDma = "pgalloc_dma",
        /// Pages allocated in zone DMA32.
        AllocDma32 = "pgalloc_dma32",
        /// Pages allocated in zone Normal.
        AllocNormal = "pgalloc_normal",
        /// Pages allocated in zone Movable.
        AllocMovable = "pgalloc_movable",
        /// Slow-path entries that had to reclaim themselves.
        AllocStall = "allocstall_normal",
        /// Pages freed.
        Free = "pgfree",
        /// Moved to the active list.
        Activate = "pgactivate",
        /// Moved to the inactive list.
        Deactivate = "pgdeactivate",
        /// Page faults.
        Fault = "pgfault",
        /// Page faults with I/O.
        MajorFault = "pgmajfault",
        /// Active list entries looked at.
        Refill = "pgrefill",
        /// Pages reclaimed by the background thread.
        StealKswapd = "pgsteal_kswapd",
        /// Pages reclaimed by allocators.
        StealDirect = "pgsteal_direct",
        /// Pages looked at by the background thread.
        ScanKswapd = "pgscan_kswapd",
        /// Pages looked at by allocators.
        ScanDirect = "pgscan_direct",
        /// Caches dropped by hand.
        DropPagecache = "drop_pagecache",
        /// Slab caches dropped by hand.
        DropSlab = "drop_slab",
        /// Killed for memory.
        OomKill = "oom_kill",
        /// KiB read from disk.
        PageIn = "pgpgin",
        /// KiB written to disk.
        PageOut = "pgpgout",
        /// Page-cache pages that became dirty.
        Dirtied = "nr_dirtied",
        /// Page-cache pages that were written.
        Written = "nr_written",
        /// Swapped in.
        SwapIn = "pswpin",
        /// Swapped out.
        SwapOut = "pswpout",
    }
}

struct Counters {
    items: [AtomicIsize; NR_ITEMS],
    events: [AtomicU64; NR_EVENTS],
}

arch::per_cpu! {
    static COUNTERS: Counters = Counters {
        items: [const { AtomicIsize::new(0) }; NR_ITEMS],
        events: [const { AtomicU64::new(0) }; NR_EVENTS],
    };
}

#[inline]
fn here() -> &'static Counters {
    // SAFETY: the copy of a CPU lives for ever and is all atomics: being moved to another CPU meanwhile only means that its
    // counter is the one changed.
    unsafe { &*COUNTERS.current_raw() }
}

/// Changes a quantity.
#[inline]
pub fn add(item: Item, delta: isize) {
    here().items[item as usize].fetch_add(delta, Relaxed);
}

/// Counts an event.
#[inline]
pub fn count(event: Event, n: u64) {
    here().events[event as usize].fetch_add(n, Relaxed);
}

/// Counts a page fault. No interrupt handler does, so that with preemption off nobody else writes this counter.
#[inline]
pub(crate) fn count_fault(here: &impl PreemptOff) {
    let counter = &COUNTERS.get(here).events[Event::Fault as usize];
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

fn all() -> impl Iterator<Item = &'static Counters> {
    possible().iter().map(|cpu: CpuId| COUNTERS.on(cpu))
}

/// A quantity, not below 0.
pub fn item(item: Item) -> usize {
    all().map(|c| c.items[item as usize].load(Relaxed)).sum::<isize>().max(0) as usize
}

/// How often an event happened.
pub fn event(event: Event) -> u64 {
    let counted = all().map(|c| c.events[event as usize].load(Relaxed)).sum::<u64>();
    counted + crate::page_alloc::hot_event(event)
}

/// The part of `/proc/meminfo` that physical memory knows. All in pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemInfo {
    /// MemTotal.
    pub total: usize,
    /// MemFree.
    pub free: usize,
    /// MemAvailable: free, less the reserves, plus half of what can be dropped easily.
    pub available: usize,
    /// Slab that shrinks.
    pub slab_reclaimable: usize,
    /// Slab that does not.
    pub slab_unreclaimable: usize,
    /// KernelStack, in KiB.
    pub kernel_stack_kb: usize,
    /// PageTables.
    pub page_tables: usize,
    /// VmallocTotal.
    pub vmalloc_total: usize,
    /// VmallocUsed.
    pub vmalloc_used: usize,
    /// Percpu.
    pub percpu: usize,
}

/// Collects [`MemInfo`].
pub fn meminfo() -> MemInfo {
    let zones = || crate::node::zones();
    let free: usize = zones().map(|z| z.free_pages()).sum();
    let total: usize = zones().map(|z| z.managed_pages()).sum();
    let reserve: usize = zones()
        .map(|z| {
            let lowmem = crate::gfp::ZoneKind::ALL.iter().map(|k| z.lowmem_reserve(*k)).max().unwrap_or(0);
            (z.mark(crate::zone::Mark::High) + lowmem).min(z.managed_pages())
        })
        .sum();
    let low: usize = zones().map(|z| z.mark(crate::zone::Mark::Low)).sum();
    let cache = item(Item::InactiveFile) + item(Item::ActiveFile);
    let slab = item(Item::SlabReclaimable);
    let available =
        free.saturating_sub(reserve) + (cache - (cache / 2).min(low)) + (slab - (slab / 2).min(low));
    MemInfo {
        total,
        free,
        available,
        slab_reclaimable: slab,
        slab_unreclaimable: item(Item::SlabUnreclaimable),
        kernel_stack_kb: item(Item::KernelStackKb),
        page_tables: item(Item::PageTables),
        vmalloc_total: crate::vmalloc::total_bytes() >> arch::addr::PAGE_SHIFT,
        vmalloc_used: item(Item::Vmalloc),
        percpu: 0,
    }
}
