//! Memory management: page frames, kernel memory, address spaces, the page cache.
//!
//! | part | files |
//! |---|---|
//! | physical memory | [`page`] descriptors, [`gfp`] flags, [`pgtable`] walker |
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod buddy;
pub mod gfp;
pub mod page;
pub mod pageblock;
pub mod pgtable;
