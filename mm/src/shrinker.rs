//! Shrinkers: caches outside of the page cache that give memory back when it is short.
//!
//! Whoever keeps objects that can be read or made again [`register`]s a [`Shrinker`]. Reclaim asks all of them, in proportion to how hard it
//! has to work: a sixteenth of what each has, or as much as the page cache was asked for, whichever is more.
//!
//! A shrinker runs where memory is allocated: it takes locks by `try_lock` only, does no I/O and waits for nothing.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch::sync::SpinLock;
use collections::fallible::TryVec;

use crate::gfp::{Gfp, OutOfMemory};

/// A cache that can give memory back.
pub trait Shrinker: Send + Sync {
    /// How many objects could be freed, roughly.
    fn count(&self) -> usize;
    /// Frees up to `objects` objects; returns how many pages that is, roughly.
    fn scan(&self, objects: usize, gfp: Gfp) -> usize;
}

static ALL: SpinLock<Vec<Weak<dyn Shrinker>>> = SpinLock::new(Vec::new());

/// Adds a cache, until it is dropped.
///
/// # Errors
/// `OutOfMemory`.
pub fn register(shrinker: Weak<dyn Shrinker>) -> Result<(), OutOfMemory> {
    let mut room: Vec<Weak<dyn Shrinker>> = Vec::new();
    loop {
        let mut all = ALL.lock();
        all.retain(|weak| weak.strong_count() > 0);
        if all.len() < all.capacity() {
            return all.try_push(shrinker);
        }
        if room.capacity() > all.len() {
            core::mem::swap(&mut *all, &mut room);
            let moved = room.drain(..).map(|weak| all.push_reserved(weak)).count();
            debug_assert_eq!(moved, all.len());
            continue;
        }
        // The list grows outside of the lock: an allocation may come back here.
        let wanted = (all.len() * 2).max(8);
        drop(all);
        room.try_reserve_exact(wanted).map_err(|_| OutOfMemory)?;
    }
}

/// The `at`-th cache; `None` behind the last, `Some(None)` for one that is gone.
fn nth(at: usize) -> Option<Option<Arc<dyn Shrinker>>> {
    ALL.lock().get(at).map(Weak::upgrade)
}

/// Asks every cache; returns how many pages came free, roughly.
pub(crate) fn shrink(pages: usize, gfp: Gfp) -> usize {
    let (mut freed, mut at) = (0, 0);
    while let Some(shrinker) = nth(at) {
        if let Some(shrinker) = shrinker {
            let count = shrinker.count();
            freed += shrinker.scan((count / 16).max(pages).min(count), gfp);
        }
        at += 1;
    }
    freed
}

/// `vm.drop_caches` 2: asks every cache for all it has. Returns how many pages that was, roughly.
pub fn drop_slab() -> usize {
    let (mut freed, mut at) = (0, 0);
    while let Some(shrinker) = nth(at) {
        freed += shrinker.map_or(0, |shrinker| shrinker.scan(shrinker.count(), Gfp::KERNEL));
        at += 1;
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    struct Cache(AtomicUsize);

    impl Shrinker for Cache {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn scan(&self, objects: usize, _: Gfp) -> usize {
            self.0.fetch_sub(objects, Ordering::Relaxed);
            objects
        }
    }

    #[test]
    fn every_cache_is_asked_until_it_is_gone() {
        let caches: Vec<_> = (0..20).map(|_| Arc::new(Cache(AtomicUsize::new(1600)))).collect();
        for cache in &caches {
            let cache: Arc<dyn Shrinker> = cache.clone();
            register(Arc::downgrade(&cache)).unwrap();
        }
        assert_eq!(shrink(32, Gfp::KERNEL), 20 * 100);
        assert_eq!(shrink(200, Gfp::KERNEL), 20 * 200);
        assert!(caches.iter().all(|cache| cache.count() == 1300));
        drop(caches);
        assert_eq!(shrink(32, Gfp::KERNEL), 0);
    }
}
