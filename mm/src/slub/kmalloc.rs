//! Caches by size: what is behind [`kmalloc`] and the global allocator.
//!
//! Sizes as in Linux, with those halfway between two powers of two in addition from 256 on: kernel objects of every size live
//! here (Rust's `Arc` and `Box` go through the global allocator).

use super::cache::RawCache;
use super::slab::Slab;
use crate::gfp::Gfp;
use core::ptr::NonNull;

/// The largest size with a cache; more comes in pages.
pub const MAX_CACHED: usize = 8192;

const SIZES: [usize; 18] =
    [8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192];

static CACHES: [RawCache; SIZES.len()] = [
    RawCache::new("kmalloc-8", 8, 8),
    RawCache::new("kmalloc-16", 16, 16),
    RawCache::new("kmalloc-32", 32, 32),
    RawCache::new("kmalloc-64", 64, 64),
    RawCache::new("kmalloc-96", 96, 32),
    RawCache::new("kmalloc-128", 128, 128),
    RawCache::new("kmalloc-192", 192, 64),
    RawCache::new("kmalloc-256", 256, 256),
    RawCache::new("kmalloc-384", 384, 128),
    RawCache::new("kmalloc-512", 512, 512),
    RawCache::new("kmalloc-768", 768, 256),
    RawCache::new("kmalloc-1k", 1024, 1024),
    RawCache::new("kmalloc-1536", 1536, 512),
    RawCache::new("kmalloc-2k", 2048, 2048),
    RawCache::new("kmalloc-3k", 3072, 1024),
    RawCache::new("kmalloc-4k", 4096, 4096),
    RawCache::new("kmalloc-6k", 6144, 2048),
    RawCache::new("kmalloc-8k", 8192, 4096),
];

/// The class of sizes up to 1024, by eighths of 64; and above, by KiB halves.
const SMALL: [u8; 129] = classes(8);
const LARGE: [u8; 17] = classes(512);

/// For each multiple of `step`: the smallest class that holds it.
const fn classes<const N: usize>(step: usize) -> [u8; N] {
    let mut table = [0; N];
    let mut i = 0;
    while i < N {
        let mut class = 0;
        while SIZES[class] < i * step {
            class += 1;
        }
        table[i] = class as u8;
        i += 1;
    }
    table
}

/// The cache for `size` bytes (at most [`MAX_CACHED`]) aligned to `align`.
#[inline]
pub(crate) fn cache_for(size: usize, align: usize) -> Option<&'static RawCache> {
    // Every class is aligned to 8; powers of two to themselves.
    let size = if align > 8 { size.max(align).next_power_of_two() } else { size };
    let class = if size <= 1024 {
        SMALL[size.div_ceil(8)]
    } else if size <= MAX_CACHED && align <= 4096 {
        LARGE[size.div_ceil(512)]
    } else {
        return None;
    };
    Some(&CACHES[class as usize])
}

/// Allocates `size` bytes with explicit flags (at most [`MAX_CACHED`]); zeroed with [`Gfp::ZERO`].
pub fn kmalloc(size: usize, gfp: Gfp) -> Option<NonNull<u8>> {
    let object = cache_for(size, 8)?.alloc(|| gfp)?;
    if gfp.contains(Gfp::ZERO) {
        // SAFETY: the object is at least `size` bytes and ours.
        unsafe { object.as_ptr().write_bytes(0, size) };
    }
    Some(object)
}

/// Frees what [`kmalloc`] gave, of whatever size.
///
/// # Safety
/// `object` came from `kmalloc` and nobody uses it any more.
pub unsafe fn kfree(object: NonNull<u8>) {
    let cache = Slab::of_known(object.as_ptr()).cache();
    // SAFETY: the descriptor of a slab holds the address of its cache, a static.
    let cache = unsafe { &*core::ptr::with_exposed_provenance::<RawCache>(cache) };
    // SAFETY: the caller's promise.
    unsafe { cache.free(object) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class() {
        for size in 1..=MAX_CACHED {
            let expected = SIZES.iter().find(|s| **s >= size).unwrap();
            assert_eq!(cache_for(size, 8).unwrap().object_size(), *expected, "{size}");
        }
        assert!(cache_for(MAX_CACHED + 1, 8).is_none());
        assert_eq!(cache_for(24, 16).unwrap().object_size(), 32);
        assert_eq!(cache_for(8, 4096).unwrap().object_size(), 4096);
        assert!(cache_for(16384, 16384).is_none());
    }
}
