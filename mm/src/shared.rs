//! Rings: memory that kernel and user share, contiguous in kernel addresses.
//!
//! The kernel's own (for a user to map: `io_uring(7)`, `io_setup(2)`) or a user's, pinned. A ring is where two sides talk to each other
//! without a call, so every access is an atomic one, whatever the user writes at the same time: the words that are synchronisation by
//! [`SharedRing::load`] and [`SharedRing::store`], entries by [`SharedRing::read`] and [`SharedRing::write`], which move them in
//! words of eight bytes. A value is read once and is the reader's own from then on.
//!
//! Small rings are one folio in the direct map; larger ones, and users' pages, are mapped together ([`crate::vmalloc`]). Either
//! way an access is a bounds check and a load or store.

use crate::folio::Folio;
use crate::gfp::{Gfp, Order};
use crate::pinned::PinnedPages;
use crate::space::AddressSpace;
use crate::vmalloc;
use abi::{Errno, Result};
use arch::addr::{PAGE_SIZE, Pfn};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Largest order that is taken from the direct map: above it free blocks are rare.
const MAX_ORDER: u8 = 3;

/// What keeps the bytes where they are.
enum Memory {
    /// One block of the direct map.
    Folio(Folio),
    /// Single pages; mapped together if there are several.
    Pages(PinnedPages),
}

/// See the module text.
pub struct SharedRing {
    /// Aligned to pages; valid for `len` bytes rounded up to pages as long as `memory` lives.
    base: NonNull<u8>,
    len: usize,
    memory: Memory,
}

// SAFETY: the memory belongs to the ring, wherever it is dropped; all accesses are atomic.
unsafe impl Send for SharedRing {}
// SAFETY: as above.
unsafe impl Sync for SharedRing {}

impl core::fmt::Debug for SharedRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SharedRing({} bytes)", self.len)
    }
}

impl SharedRing {
    /// `len` zero bytes of the kernel's.
    ///
    /// # Errors
    /// `EINVAL` for nothing, `ENOMEM`.
    pub fn alloc(len: usize) -> Result<Self> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let order = Order::for_size(len).filter(|order| order.get() <= MAX_ORDER || !vmalloc::is_up());
        if let Some(order) = order
            && let Ok(folio) = Folio::alloc(Gfp::KERNEL | Gfp::ZERO, order)
            && let Some(base) = NonNull::new(folio.as_ptr())
        {
            return Ok(Self { base, len, memory: Memory::Folio(folio) });
        }
        Self::of(PinnedPages::alloc(len)?)
    }

    /// The pages that `len` bytes at `addr` of `space` lie in, made present and writable.
    ///
    /// # Errors
    /// `EINVAL` for an address inside a page, `EFAULT` where nothing (or nothing writable) is mapped, `ENOMEM`.
    pub fn pin_user(space: &AddressSpace, addr: usize, len: usize) -> Result<Self> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        Self::of(PinnedPages::pin_user(space, addr, len)?)
    }

    /// Makes pages contiguous; the first byte is at the start of the first.
    fn of(pages: PinnedPages) -> Result<Self> {
        let len = pages.len();
        let base = match pages.single() {
            Some(first) => NonNull::new(first).ok_or(Errno::EFAULT)?,
            None => vmalloc::map(pages.frames(), pages.nr_pages()).map_err(|_| Errno::ENOMEM)?,
        };
        Ok(Self { base, len, memory: Memory::Pages(pages) })
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: there is no ring of nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frame of page `index`, for mapping it into user memory. The mapping must hold what holds `self`.
    pub fn frame(&self, index: usize) -> Option<Pfn> {
        if index >= self.len.div_ceil(PAGE_SIZE) {
            return None;
        }
        match &self.memory {
            Memory::Folio(folio) => Some(folio.pfn() + index as u64),
            Memory::Pages(pages) => pages.frame(index),
        }
    }

    /// Where `size` bytes at `offset` are, if they are all inside and aligned to `align`.
    #[inline(always)]
    fn at(&self, offset: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        if !offset.is_multiple_of(align) || offset > self.len.checked_sub(size)? {
            return None;
        }
        // SAFETY: inside the memory, by the check.
        Some(unsafe { self.base.add(offset) })
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at(offset, 4, 4)?;
        // SAFETY: aligned and inside memory that `self` keeps, which is only ever accessed atomically. The formats that are shared
        // this way have each byte in a word of one size.
        Some(unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) })
    }

    /// The eight-byte words that `size` bytes at `offset` consist of.
    #[inline(always)]
    fn words(&self, offset: usize, size: usize) -> Option<&[AtomicU64]> {
        let at = self.at(offset, size, 8)?;
        // SAFETY: as for `word`; `size / 8` words lie inside.
        Some(unsafe { core::slice::from_raw_parts(at.as_ptr().cast(), size / 8) })
    }

    /// The word at `offset`, with `Acquire`; 0 outside.
    #[inline(always)]
    pub fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores the word at `offset` with `Release`.
    #[inline(always)]
    pub fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Sets bits of the word at `offset`, before anything that follows.
    pub fn set_bits(&self, offset: usize, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_or(bits, Ordering::SeqCst);
            arch::cpu::barrier_after_atomic();
        }
    }

    /// Clears bits of the word at `offset` (`SeqCst`).
    pub fn clear_bits(&self, offset: usize, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_and(!bits, Ordering::SeqCst);
        }
    }

    /// Copies a value out, in words of eight bytes. `None` outside.
    #[inline(always)]
    pub fn read<T: FromBytes>(&self, offset: usize) -> Option<T> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let words = self.words(offset, size_of::<T>())?;
        let mut value = MaybeUninit::<T>::uninit();
        let to: *mut u64 = value.as_mut_ptr().cast();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: there are as many words as the value has.
            unsafe { to.add(index).write_unaligned(word.load(Ordering::Relaxed)) };
        }
        // SAFETY: every byte was written, and any bytes are a `T`.
        Some(unsafe { value.assume_init() })
    }

    /// Copies a value in, in words of eight bytes; nothing happens outside.
    #[inline(always)]
    pub fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let Some(words) = self.words(offset, size_of::<T>()) else { return };
        let from: *const u64 = value.as_bytes().as_ptr().cast();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: there are as many words as the value has, and all its bytes are initialised.
            word.store(unsafe { from.add(index).read_unaligned() }, Ordering::Relaxed);
        }
    }

    /// Copies values in, one after the other; nothing happens if they do not all fit.
    #[inline]
    pub fn write_all<T: IntoBytes + Immutable>(&self, offset: usize, values: &[T]) {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let Some(words) = self.words(offset, size_of_val(values)) else { return };
        let mut to = words.as_ptr();
        for value in values {
            let from: *const u64 = value.as_bytes().as_ptr().cast();
            for index in 0..size_of::<T>() / 8 {
                // SAFETY: there are as many words as all values have, and all their bytes are initialised.
                unsafe { (*to.add(index)).store(from.add(index).read_unaligned(), Ordering::Relaxed) };
            }
            to = to.wrapping_add(size_of::<T>() / 8);
        }
    }

    /// Sets all bytes to zero.
    pub fn zero(&self) {
        for word in self.words(0, self.len & !7).unwrap_or_default() {
            word.store(0, Ordering::Relaxed);
        }
        if !self.len.is_multiple_of(8) {
            self.store(self.len & !7, 0);
        }
    }
}

impl Drop for SharedRing {
    fn drop(&mut self) {
        if let Memory::Pages(pages) = &self.memory
            && pages.single().is_none()
        {
            // SAFETY: `of` mapped them, and `self` is going.
            unsafe { vmalloc::unmap(self.base.as_ptr()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_accessed() {
        crate::testing::init();
        let ring = SharedRing::alloc(PAGE_SIZE + 8).unwrap();
        assert_eq!((ring.len(), ring.frame(2)), (PAGE_SIZE + 8, None));
        assert_eq!(ring.frame(1), ring.frame(0).map(|pfn| pfn + 1));
        ring.write(PAGE_SIZE - 8, &[1_u64, 2]);
        assert_eq!(ring.read::<[u64; 2]>(PAGE_SIZE - 8), Some([1, 2]));
        assert_eq!(ring.read::<[u64; 2]>(PAGE_SIZE), None);
        assert_eq!(ring.read::<u64>(PAGE_SIZE + 8), None);
        assert_eq!(ring.read::<u64>(usize::MAX - 7), None);
        assert_eq!(ring.read::<u64>(4), None);
        ring.write(PAGE_SIZE, &[7_u64; 2]);
        ring.store(PAGE_SIZE + 8, 7);
        ring.store(2, 7);
        assert_eq!((ring.load(PAGE_SIZE + 4), ring.load(PAGE_SIZE + 8), ring.load(0)), (0, 0, 0));
        ring.write_all(PAGE_SIZE - 8, &[8_u64, 9, 10]);
        assert_eq!(ring.read::<[u64; 2]>(PAGE_SIZE - 8), Some([1, 2]));
        ring.write_all(PAGE_SIZE - 8, &[8_u64, 9]);
        assert_eq!(ring.read::<[u64; 2]>(PAGE_SIZE - 8), Some([8, 9]));
        ring.write(PAGE_SIZE, &0_u64);
        ring.store(PAGE_SIZE + 4, 3);
        ring.set_bits(PAGE_SIZE + 4, 12);
        ring.clear_bits(PAGE_SIZE + 4, 1);
        assert_eq!(ring.load(PAGE_SIZE + 4), 14);
        ring.zero();
        assert_eq!(ring.read::<[u64; 2]>(PAGE_SIZE - 8), Some([0, 0]));
        assert!(SharedRing::alloc(0).is_err());
    }

    #[test]
    fn words_are_never_torn() {
        crate::testing::init();
        let ring = SharedRing::alloc(64).unwrap();
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..rounds).for_each(|n: u64| ring.write(0, &[n | n << 32; 8])));
            for _ in 0..rounds {
                let seen: [u64; 8] = ring.read(0).unwrap();
                assert!(seen.iter().all(|word| word >> 32 == word & 0xffff_ffff));
            }
        });
    }
}
