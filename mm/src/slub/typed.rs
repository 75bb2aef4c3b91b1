//! Caches of one type: exact size, no size class, own line in `/proc/slabinfo`.
//!
//! ```ignore
//! static VMAS: Cache<Vma> = Cache::new("vm_area_struct");
//! let vma: CacheBox<Vma> = VMAS.alloc(Vma { … }, Gfp::KERNEL)?;
//! ```

use super::cache::RawCache;
use crate::gfp::{Gfp, OutOfMemory};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A cache of `T`s.
pub struct Cache<T: 'static> {
    raw: RawCache,
    _type: PhantomData<fn() -> T>,
}

impl<T: 'static> Cache<T> {
    /// A cache; `name` is for `/proc/slabinfo`.
    pub const fn new(name: &'static str) -> Self {
        Self { raw: RawCache::new(name, size_of::<T>(), align_of::<T>()), _type: PhantomData }
    }

    /// A cache whose objects shrink under pressure.
    pub const fn reclaimable(name: &'static str) -> Self {
        Self { raw: RawCache::reclaimable(name, size_of::<T>(), align_of::<T>()), _type: PhantomData }
    }

    /// The untyped cache.
    pub fn raw(&'static self) -> &'static RawCache {
        &self.raw
    }

    /// Allocates an object.
    #[inline]
    pub fn alloc(&'static self, value: T, gfp: Gfp) -> Result<CacheBox<T>, OutOfMemory> {
        let object = self.raw.alloc(|| gfp).ok_or(OutOfMemory)?.cast::<T>();
        // SAFETY: the object has the size and alignment of `T` and is ours.
        unsafe { object.write(value) };
        Ok(CacheBox { object, cache: self })
    }
}

/// An owned object of a [`Cache`]: a `Box` that knows where it came from.
pub struct CacheBox<T: 'static> {
    object: NonNull<T>,
    cache: &'static Cache<T>,
}

// SAFETY: owns its `T` as a `Box` does.
unsafe impl<T: Send> Send for CacheBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for CacheBox<T> {}

impl<T> CacheBox<T> {
    /// Gives up ownership.
    pub fn into_raw(self) -> NonNull<T> {
        core::mem::ManuallyDrop::new(self).object
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw) of an object of `cache`, and nobody else uses it.
    pub unsafe fn from_raw(object: NonNull<T>, cache: &'static Cache<T>) -> Self {
        Self { object, cache }
    }
}

impl<T> Deref for CacheBox<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: initialised in `alloc`, owned by this value.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for CacheBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: initialised in `alloc`, owned by this value.
        unsafe { self.object.as_mut() }
    }
}

impl<T> Drop for CacheBox<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned by this value, which is going away.
        unsafe {
            self.object.drop_in_place();
            self.cache.raw.free(self.object.cast());
        }
    }
}
