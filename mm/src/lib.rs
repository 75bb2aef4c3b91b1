//! Memory management: page frames, kernel memory, address spaces, the page cache.
//!
//! Physical memory, from the bottom:
//!
//! | file | what |
//! |---|---|
//! | [`page`], [`pageblock`], [`vmemmap`] | what is known of each frame, of each 2 MiB, and where it is found |
//! | [`buddy`] | free blocks of 2^0 … 2^10 pages; the algorithm |
//! | [`zone`], [`node`] | memory by kind and node, watermarks, fallback order |
//! | [`pcp`], [`page_alloc`] | per-CPU lists; [`page_alloc::alloc_pages`], the single entry |
//! | [`gfp`], [`context`], [`pressure`] | what an allocation may do, and what happens when memory is short |
//! | [`folio`], [`block`] | owned frames and counted references; blocks of metadata, that can be borrowed |
//! | [`slub`], [`heap`] | kernel objects; the global allocator |
//! | [`fallible`], [`inject`] | allocation that can fail; failures on purpose |
//! | [`kmemleak`] | finding memory that nobody can reach, in debug builds |
//! | [`pgtable`], [`kmap`], [`vmalloc`], [`stack`] | page-table walker, kernel mappings, kernel stacks |
//! | [`dma`] | memory shared with devices |
//! | [`init`] | taking memory over at boot |
//! | [`stats`], [`numa_stat`], [`report`] | numbers; the texts of `/proc` |
//!
//! Virtual memory:
//!
//! | file | what |
//! |---|---|
//! | [`user`], [`iov`] | fallible access to user memory; scatter/gather cursors |
//! | [`space`], [`vma`], [`ptable`], [`counters`] | address spaces, their areas, tables and numbers |
//! | [`fault`] | page faults |
//! | [`mmap`], `protect`, `remap`, `advise`, `mlock`, `query` | the system calls |
//! | [`vdso`] | the vDSO's pages in an address space |
//! | [`remote`] | other processes' memory, futex keys |
//! | [`pinned`], [`shared`] | pages that kernel and user share: registered buffers, rings |
//! | `copy`, `gather` | fork; unmapping behind one TLB flush |
//! | [`filemap`], [`folio_lock`], [`shmem`] | the page cache |
//! | `rmap`, `lru`, [`reclaim`], [`shrinker`], [`oom`] | from pages to mappings; giving memory back |
//! | [`mempolicy`], [`numa`], `migrate` | on which nodes pages are, and moving them |
//! | [`overcommit`] | the commit limit |
//! | [`readahead`], [`writeback`], [`errseq`] | what is read before it is asked for; when dirty pages are written; errors that each who looks sees once |
//!
//! Lock order of virtual memory: see [`space`] and [`filemap`]. Below all of it: vmalloc areas → slab node list → (page allocator:) deferred memory → zone. All safe in interrupts.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod advise;
pub mod block;
pub mod buddy;
pub mod context;
mod copy;
pub mod counters;
pub mod dma;
pub mod errseq;
pub mod fallible;
pub mod fault;
pub mod filemap;
pub mod folio;
pub mod folio_lock;
mod frames;
mod gather;
pub mod gfp;
pub mod heap;
pub mod hotplug;
pub mod init;
pub mod inject;
pub mod iov;
pub mod kmap;
pub mod kmemleak;
pub mod kpage;
mod local;
mod lru;
pub mod mempolicy;
mod migrate;
mod mlock;
pub mod mmap;
pub mod node;
pub mod numa;
pub mod numa_stat;
pub mod oom;
pub mod overcommit;
pub mod page;
pub mod page_alloc;
pub mod pageblock;
pub mod pagemap;
pub mod pcp;
pub mod pgtable;
pub mod pinned;
pub mod pkey;
pub mod pressure;
mod protect;
pub mod ptable;
pub mod query;
pub mod readahead;
pub mod reclaim;
mod remap;
pub mod remote;
pub mod report;
mod rmap;
mod seal;
pub mod shared;
pub mod shmem;
pub mod shrinker;
pub mod slub;
mod smp;
pub mod space;
pub mod stack;
pub mod stats;
pub mod uffd;
pub mod user;
pub mod vdso;
pub mod vma;
pub mod vmalloc;
pub mod vmemmap;
mod vmemmap_grow;
pub mod writeback;
pub mod zone;
pub mod zone_setup;

#[cfg(any(test, not(target_os = "none")))]
pub mod testing;

#[cfg(test)]
mod vmtest;

pub use block::Block;
pub use fault::{Access, Asker, FaultError, Resolved};
pub use filemap::{AddressSpaceOps, Mapping, Writeback, WritebackControl};
pub use folio_lock::FolioGuard;
pub use iov::{IovIter, import_iovec};
pub use mmap::MmapRequest;
pub use pinned::PinnedPages;
pub use shared::SharedRing;
pub use shrinker::Shrinker;
pub use space::{AddressSpace, Limits};
pub use user::{UserPtr, UserSlice, UserStr};
pub use vma::{VmFile, VmFlags};

pub use fallible::{SortedMap, try_arc, try_arc_cyclic, try_box, try_format, try_to_vec};
pub use fallible::{TryCollect, TryDeque, TryVec};
pub use folio::{Folio, Frame};
pub use gfp::{Gfp, Order, OutOfMemory};
pub use heap::KernelHeap;
pub use page::{Page, PageFlags};
pub use page_alloc::{alloc_page, alloc_pages};

/// Prepares virtual memory management: the zero page, the page allocator's view of the LRU lists and of reclaim. Once, when the page
/// allocator works. [`reclaim::start_kswapd`] follows when there are kernel threads.
pub fn init_virtual() {
    frames::init();
    overcommit::init(stats::meminfo().free);
    page_alloc::set_release_hook(lru::release);
    pressure::set_reclaimer(&reclaim::RECLAIMER);
    #[cfg(target_os = "none")]
    sched::heap::set_heap(&fallible::Heap);
    kmemleak::init(stats::meminfo().total);
}
