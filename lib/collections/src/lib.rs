//! Containers that know nothing of a kernel.
//!
//! - [`xarray`]: radix tree from `u64` to a pointer, with shadow entries and marks (page cache);
//! - [`idalloc`]: lowest-free and cyclic id allocation;
//! - [`rangemap`]: disjoint address ranges with gap search (address spaces);
//! - [`rbtree`]: intrusive red-black tree with a cached first node (run queues, timers);
//! - [`bitmap`]: bit searches over word slices;
//! - [`sorted`]: ordered map;
//! - [`fifo`]: queue of boxes linked through themselves (bios, requests);
//! - [`slottree`]: ordered set of numbered objects (requests by sector);
//! - [`fallible`]: growth of `alloc`'s own containers that can fail.
//!
//! None of them locks; the owner does. Allocation failures are reported, never a panic.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bitmap;
pub mod fallible;
pub mod fifo;
pub mod idalloc;
pub mod rangemap;
pub mod rbtree;
pub mod slottree;
pub mod sorted;
pub mod xarray;

/// No memory could be had. Becomes `ENOMEM` above `lib`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl From<OutOfMemory> for abi::Errno {
    fn from(_: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}
