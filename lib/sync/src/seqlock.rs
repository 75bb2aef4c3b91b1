//! Sequence locks: readers copy and look whether a writer came by meanwhile.

use core::cell::UnsafeCell;
use core::fmt;
use core::hint::spin_loop;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};

use zerocopy::{FromBytes, IntoBytes};

use crate::context::Context;
use crate::spin::{SpinLock, SpinLockGuard};

/// The bare counter: even while the data is stable, odd while a writer is inside.
///
/// Writers must exclude each other by other means.
#[derive(Debug, Default)]
pub struct SeqCount(AtomicU32);

impl SeqCount {
    /// A counter at rest.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Waits for a stable state and returns its number, for [`Self::retry`].
    #[inline]
    pub fn begin(&self) -> u32 {
        loop {
            // Acquire pairs with the Release in `write_end`.
            let seq = self.0.load(Ordering::Acquire);
            if seq & 1 == 0 {
                return seq;
            }
            spin_loop();
        }
    }

    /// The current number without waiting: with an odd one, `retry` always says true.
    #[inline]
    pub fn peek(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether a writer was active since `begin` returned `seq`; what was read since is then void.
    #[inline]
    #[must_use]
    pub fn retry(&self, seq: u32) -> bool {
        // Orders the data reads before the second look (pairs with the fence in `write_begin`).
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) != seq || seq & 1 != 0
    }

    /// A writer enters. Writers must already exclude each other and cannot be preempted.
    #[inline]
    pub fn write_begin(&self) {
        let seq = self.0.load(Ordering::Relaxed);
        self.0.store(seq.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// The writer leaves.
    #[inline]
    pub fn write_end(&self) {
        let seq = self.0.load(Ordering::Relaxed);
        self.0.store(seq.wrapping_add(1), Ordering::Release);
    }
}

/// A small value that is read often and written seldom. Readers never write to memory.
///
/// `T` is plain old data without padding, because a reader may copy it in the middle of a
/// change (the copy is then thrown away).
pub struct SeqLock<T, C: Context> {
    count: SeqCount,
    lock: SpinLock<(), C>,
    data: UnsafeCell<T>,
}

// SAFETY: plain data.
unsafe impl<T: Send, C: Context> Send for SeqLock<T, C> {}
// SAFETY: readers copy with atomic loads; writers exclude each other with the lock and write
// with atomic stores.
unsafe impl<T: Send, C: Context> Sync for SeqLock<T, C> {}

impl<T: Copy + FromBytes + IntoBytes, C: Context> SeqLock<T, C> {
    /// A lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { count: SeqCount::new(), lock: SpinLock::new(()), data: UnsafeCell::new(value) }
    }

    /// A consistent copy of the value.
    #[inline]
    pub fn read(&self) -> T {
        loop {
            let seq = self.count.begin();
            let mut copy = MaybeUninit::<T>::uninit();
            // SAFETY: both point to a whole `T`; writers store with the same atomic accesses.
            unsafe { copy_out(self.data.get(), copy.as_mut_ptr()) };
            if !self.count.retry(seq) {
                // SAFETY: all bytes were copied and `T` accepts every bit pattern.
                return unsafe { copy.assume_init() };
            }
        }
    }

    /// Starts a read section over data that lives elsewhere; see [`SeqCount::begin`].
    pub fn read_begin(&self) -> u32 {
        self.count.begin()
    }

    /// Ends a read section; see [`SeqCount::retry`].
    #[must_use]
    pub fn read_retry(&self, seq: u32) -> bool {
        self.count.retry(seq)
    }

    /// Locks for writing: the guard holds a copy that is published when it is dropped.
    #[track_caller]
    pub fn write(&self) -> SeqLockGuard<'_, T, C> {
        let guard = self.lock.lock();
        self.count.write_begin();
        // SAFETY: writers are excluded by the lock, so a plain read is exclusive of stores.
        let value = unsafe { *self.data.get() };
        SeqLockGuard { lock: self, value, _guard: ManuallyDrop::new(guard) }
    }

    /// The value, without locking: the borrow proves that nobody else can see it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T: Copy + FromBytes + IntoBytes + fmt::Debug, C: Context> fmt::Debug for SeqLock<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SeqLock").field(&self.read()).finish()
    }
}

/// A [`SeqLock`] held for writing. Readers wait from its creation to its drop.
#[must_use = "the value is published as soon as the guard is dropped"]
pub struct SeqLockGuard<'a, T: Copy + FromBytes + IntoBytes, C: Context> {
    lock: &'a SeqLock<T, C>,
    value: T,
    _guard: ManuallyDrop<SpinLockGuard<'a, (), C>>,
}

impl<T: Copy + FromBytes + IntoBytes, C: Context> Deref for SeqLockGuard<'_, T, C> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Copy + FromBytes + IntoBytes, C: Context> DerefMut for SeqLockGuard<'_, T, C> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Copy + FromBytes + IntoBytes, C: Context> Drop for SeqLockGuard<'_, T, C> {
    fn drop(&mut self) {
        // SAFETY: both point to a whole `T`; other writers are excluded by the lock.
        unsafe { copy_in(&raw const self.value, self.lock.data.get()) };
        self.lock.count.write_end();
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self._guard) };
    }
}

/// Copies `*from` (shared with writers) to `*to` (private), word by word with relaxed loads.
///
/// # Safety
/// Both must be valid for a `T` without padding; writers of `from` use [`copy_in`].
unsafe fn copy_out<T>(from: *mut T, to: *mut T) {
    let words = if align_of::<T>() >= align_of::<usize>() { size_of::<T>() / size_of::<usize>() } else { 0 };
    for i in 0..words {
        // SAFETY: `i` is inside the value, which is aligned for words and has no padding.
        unsafe {
            let word = AtomicUsize::from_ptr(from.cast::<usize>().add(i)).load(Ordering::Relaxed);
            to.cast::<usize>().add(i).write(word);
        }
    }
    for i in words * size_of::<usize>()..size_of::<T>() {
        // SAFETY: `i` is inside the value.
        unsafe {
            let byte = AtomicU8::from_ptr(from.cast::<u8>().add(i)).load(Ordering::Relaxed);
            to.cast::<u8>().add(i).write(byte);
        }
    }
}

/// Copies `*from` (private) to `*to` (shared with readers) with the accesses of [`copy_out`].
///
/// # Safety
/// Both must be valid for a `T` without padding; the caller excludes other writers.
unsafe fn copy_in<T>(from: *const T, to: *mut T) {
    let words = if align_of::<T>() >= align_of::<usize>() { size_of::<T>() / size_of::<usize>() } else { 0 };
    for i in 0..words {
        // SAFETY: `i` is inside the value, which is aligned for words and has no padding.
        unsafe {
            let word = from.cast::<usize>().add(i).read();
            AtomicUsize::from_ptr(to.cast::<usize>().add(i)).store(word, Ordering::Relaxed);
        }
    }
    for i in words * size_of::<usize>()..size_of::<T>() {
        // SAFETY: `i` is inside the value.
        unsafe {
            let byte = from.cast::<u8>().add(i).read();
            AtomicU8::from_ptr(to.cast::<u8>().add(i)).store(byte, Ordering::Relaxed);
        }
    }
}
