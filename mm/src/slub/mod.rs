//! SLUB: objects of one size out of pages, for the kernel's own use.
//!
//! | file | what |
//! |---|---|
//! | [`cache`] | a cache: per-CPU stashes, node lists, growing and shrinking |
//! | [`slab`] | the pages of one slab: which objects are free |
//! | [`kmalloc`] | the caches behind the global allocator, by size |
//! | [`typed`] | [`Cache<T>`](typed::Cache) for objects of one type |
//! | [`debug`] | `slub_debug=FZPU`: red zones, poison, double free, last users |
//!
//! # How an object travels
//!
//! Each CPU keeps a *stash* per cache: a stack of free objects linked through their first word. Allocation pops, freeing pushes; both
//! run with preemption off on data of this CPU, take no lock and look at no page. An empty stash is refilled, and a full
//! one flushed, by half its size under the lock of the node's list. On that list are the slabs with free objects; a full slab
//! is on no list. Slabs that become empty are kept up to a few per node, and then returned to the page allocator.
//!
//! A stash may hold objects of any slab; that is what makes freeing on another CPU than the allocating one as cheap as any other.
//!
//! # Debugging
//!
//! A cache with a debug flag has stashes of size 0, so every operation goes the slow way, where it is checked. The fast
//! path pays nothing for it.
//!
//! # Locks
//!
//! The node list lock is safe in interrupts and a leaf: pages are allocated and freed outside it.

pub mod cache;
pub mod debug;
pub mod kmalloc;
pub mod slab;
pub mod typed;

pub use cache::{RawCache, for_each_cache};
pub use kmalloc::{kfree, kmalloc};
pub use typed::{Cache, CacheBox};

#[cfg(test)]
mod tests;
