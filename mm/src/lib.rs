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
//! | [`folio`] | owned frames and counted references |
//! | [`slub`], [`heap`] | kernel objects; the global allocator |
//! | [`pgtable`], [`kmap`], [`vmalloc`], [`stack`] | page-table walker, kernel mappings, kernel stacks |
//! | [`dma`] | memory shared with devices |
//! | [`init`] | taking memory over at boot |
//! | [`stats`], [`report`] | numbers; the texts of `/proc` |
//!
//! Lock order: vmalloc areas → slab node list → (page allocator:) deferred memory → zone. All safe in interrupts.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod buddy;
pub mod context;
pub mod dma;
pub mod folio;
pub mod gfp;
pub mod heap;
pub mod init;
pub mod kmap;
mod local;
pub mod node;
pub mod page;
pub mod page_alloc;
pub mod pageblock;
pub mod pcp;
pub mod pgtable;
pub mod pressure;
pub mod report;
pub mod slub;
mod smp;
pub mod stack;
pub mod stats;
pub mod vmalloc;
pub mod vmemmap;
mod vmemmap_grow;
pub mod zone;
pub mod zone_setup;

#[cfg(any(test, not(target_os = "none")))]
pub mod testing;

pub use folio::{Folio, Frame};
pub use gfp::{Gfp, Order, OutOfMemory};
pub use heap::KernelHeap;
pub use page::{Page, PageFlags};
pub use page_alloc::{alloc_page, alloc_pages};
