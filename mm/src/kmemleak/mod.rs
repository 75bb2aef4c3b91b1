//! Memory that nobody can reach any more, in debug builds booted with `kmemleak=on`. `Documentation/dev-tools/kmemleak.rst`.
//!
//! Every block of the heap and of the typed caches is noted with who allocated it and where ([`table`]). A scan ([`scan`]) starts from what
//! is always there (the kernel's variables, per-CPU areas, stacks, page descriptors), takes every word that could be an address in
//! a block for one, and so finds what can be reached. A block that was not found, did not change since the scan before and
//! is old enough is *suspected*.
//!
//! What the heap calls costs nothing in release builds and a test of a flag otherwise. The files of debugfs are the kernel's.
//!
//! Lock: the table's, innermost of all.

#[cfg(all(debug_assertions, target_os = "none"))]
pub use enabled::*;

#[cfg(not(all(debug_assertions, target_os = "none")))]
mod disabled {
    use core::ptr::NonNull;

    #[inline(always)]
    pub(crate) fn allocated(_: Option<NonNull<u8>>, _: usize) {}

    #[inline(always)]
    pub(crate) fn freed(_: NonNull<u8>) {}

    #[inline(always)]
    pub(crate) fn init(_: usize) {}
}

#[cfg(not(all(debug_assertions, target_os = "none")))]
pub(crate) use disabled::*;

#[cfg(all(debug_assertions, target_os = "none"))]
mod area;
#[cfg(all(debug_assertions, target_os = "none"))]
mod scan;
#[cfg(all(debug_assertions, target_os = "none"))]
mod table;

#[cfg(all(debug_assertions, target_os = "none"))]
mod enabled {
    pub use super::scan::scan;
    pub use super::table::{
        Object, clear, for_each_suspect, holding, is_on, set_task_number, switch_off, switch_on,
    };
    pub(crate) use super::table::{allocated, freed, init};
}
