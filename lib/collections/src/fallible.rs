//! Growth that can fail, for the containers of `alloc`.
//!
//! `Vec::push`, `collect`, `format!` and their like end the kernel when the heap is empty. What a user can bring about goes through
//! the functions here, which answer [`OutOfMemory`] and change nothing then; `clippy.toml` refuses the others. (`Arc` is `mm::fallible`'s:
//! it needs to know the heap.)

use crate::OutOfMemory;
use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use alloc::collections::{TryReserveError, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ptr::NonNull;

type Result<T = ()> = core::result::Result<T, OutOfMemory>;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// `Box::new`.
///
/// # Errors
/// `OutOfMemory`; `value` is dropped then.
#[inline]
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let layout = Layout::new::<T>();
    let place = if layout.size() == 0 {
        NonNull::<T>::dangling().as_ptr()
    } else {
        // SAFETY: the size is not zero.
        unsafe { alloc(layout) }.cast::<T>()
    };
    if place.is_null() {
        return Err(OutOfMemory);
    }
    // SAFETY: memory of the global allocator with the layout of `T` (or none, for a `T` that needs none), ours alone; initialised before
    // it becomes a box.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// `Vec::with_capacity`.
///
/// # Errors
/// `OutOfMemory`.
#[inline]
pub fn try_with_capacity<T>(capacity: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(capacity)?;
    Ok(vec)
}

/// `slice::to_vec`.
///
/// # Errors
/// `OutOfMemory`.
pub fn try_to_vec<T: Clone>(slice: &[T]) -> Result<Vec<T>> {
    let mut vec = try_with_capacity(slice.len())?;
    vec.extend_from_slice(slice);
    Ok(vec)
}

/// `vec![value; len]`.
///
/// # Errors
/// `OutOfMemory`.
pub fn try_vec<T: Clone>(value: T, len: usize) -> Result<Vec<T>> {
    let mut vec = try_with_capacity(len)?;
    vec.resize(len, value);
    Ok(vec)
}

/// `Vec::into_boxed_slice`, which moves the elements when there is capacity to spare.
///
/// # Errors
/// `OutOfMemory`.
pub fn try_into_boxed_slice<T>(vec: Vec<T>) -> Result<Box<[T]>> {
    if vec.len() == vec.capacity() {
        return Ok(vec.into_boxed_slice());
    }
    let mut exact = try_with_capacity(vec.len())?;
    exact.extend(vec);
    Ok(exact.into_boxed_slice())
}

/// `format!`, as in `try_format(format_args!(…))`.
///
/// # Errors
/// `OutOfMemory`.
pub fn try_format(args: fmt::Arguments<'_>) -> Result<String> {
    struct Out(String);
    impl Write for Out {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0.try_reserve(s.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(s);
            Ok(())
        }
    }
    let mut out = Out(String::new());
    out.write_fmt(args).map_err(|_| OutOfMemory)?;
    Ok(out.0)
}

/// Growth of a vector.
pub trait TryVec<T> {
    /// `push`.
    ///
    /// # Errors
    /// `OutOfMemory`; `value` is dropped then.
    fn try_push(&mut self, value: T) -> Result;

    /// `push`, into room that a `try_reserve` has made before what cannot be undone was done.
    fn push_reserved(&mut self, value: T);

    /// `insert`.
    ///
    /// # Errors
    /// `OutOfMemory`; `value` is dropped then.
    fn try_insert(&mut self, index: usize, value: T) -> Result;

    /// `extend`.
    ///
    /// # Errors
    /// `OutOfMemory`; a part may have been added then.
    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result;

    /// `extend_from_slice`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn try_extend_from_slice(&mut self, values: &[T]) -> Result
    where
        T: Clone;

    /// `resize`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn try_resize(&mut self, len: usize, value: T) -> Result
    where
        T: Clone;
}

impl<T> TryVec<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result {
        self.try_reserve(1)?;
        self.push(value);
        Ok(())
    }

    #[inline]
    fn push_reserved(&mut self, value: T) {
        debug_assert!(self.len() < self.capacity(), "no room was made");
        self.push(value);
    }

    #[inline]
    fn try_insert(&mut self, index: usize, value: T) -> Result {
        self.try_reserve(1)?;
        self.insert(index, value);
        Ok(())
    }

    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result {
        let values = values.into_iter();
        self.try_reserve(values.size_hint().0)?;
        for value in values {
            self.try_push(value)?;
        }
        Ok(())
    }

    #[inline]
    fn try_extend_from_slice(&mut self, values: &[T]) -> Result
    where
        T: Clone,
    {
        self.try_reserve(values.len())?;
        self.extend_from_slice(values);
        Ok(())
    }

    fn try_resize(&mut self, len: usize, value: T) -> Result
    where
        T: Clone,
    {
        self.try_reserve(len.saturating_sub(self.len()))?;
        self.resize(len, value);
        Ok(())
    }
}

/// Growth of a queue.
pub trait TryDeque<T> {
    /// `push_back`.
    ///
    /// # Errors
    /// `OutOfMemory`; `value` is dropped then.
    fn try_push_back(&mut self, value: T) -> Result;

    /// `push_back`, into room that a `try_reserve` has made.
    fn push_back_reserved(&mut self, value: T);

    /// `push_front`, into room that a `try_reserve` has made.
    fn push_front_reserved(&mut self, value: T);
}

impl<T> TryDeque<T> for VecDeque<T> {
    #[inline]
    fn try_push_back(&mut self, value: T) -> Result {
        self.try_reserve(1)?;
        self.push_back(value);
        Ok(())
    }

    #[inline]
    fn push_back_reserved(&mut self, value: T) {
        debug_assert!(self.len() < self.capacity(), "no room was made");
        self.push_back(value);
    }

    #[inline]
    fn push_front_reserved(&mut self, value: T) {
        debug_assert!(self.len() < self.capacity(), "no room was made");
        self.push_front(value);
    }
}

/// `collect` into a vector.
pub trait TryCollect: Iterator + Sized {
    /// All that is left, in order.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn try_collect_vec(self) -> Result<Vec<Self::Item>> {
        let mut vec = Vec::new();
        vec.try_extend(self)?;
        Ok(vec)
    }
}

impl<I: Iterator> TryCollect for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_the_infallible_ones_make() {
        assert_eq!(*try_box(7).unwrap(), 7);
        assert_eq!(*try_box(()).unwrap(), ());
        let made: Box<dyn Fn() -> u8> = try_box(|| 3).unwrap();
        assert_eq!(made(), 3);
        assert_eq!(try_to_vec(&[1, 2]).unwrap(), [1, 2]);
        assert_eq!(try_vec(b'x', 3).unwrap(), b"xxx");
        assert_eq!(try_format(format_args!("{}-{:02x}", "a", 11)).unwrap(), "a-0b");
        assert_eq!((0..5).filter(|n| n % 2 == 0).try_collect_vec().unwrap(), [0, 2, 4]);
        let mut v = try_with_capacity(2).unwrap();
        v.push_reserved(1);
        v.try_push(2).unwrap();
        v.try_insert(0, 0).unwrap();
        v.try_extend([3, 4]).unwrap();
        v.try_extend_from_slice(&[5]).unwrap();
        v.try_resize(8, 9).unwrap();
        assert_eq!(v, [0, 1, 2, 3, 4, 5, 9, 9]);
        v.try_resize(1, 9).unwrap();
        assert_eq!(*try_into_boxed_slice(v).unwrap(), [0]);
        let mut q = VecDeque::new();
        q.try_push_back(1).unwrap();
        q.try_reserve(2).unwrap();
        q.push_back_reserved(2);
        q.push_front_reserved(0);
        assert_eq!(q, [0, 1, 2]);
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(try_with_capacity::<u64>(usize::MAX / 4).is_err());
        assert!(try_vec(0u8, isize::MAX as usize).is_err());
    }
}
