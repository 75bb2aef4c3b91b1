//! Fallible access to user memory: pointers, slices and strings that the user chose.
//!
//! A user address is an integer until it is used, and every use can fail with `EFAULT`. These
//! types are the only way by which the crates above (all `forbid(unsafe_code)`) reach user
//! memory; the copies themselves are `arch::uaccess`, which checks the range and recovers from
//! faults. Values cross the boundary only as types for which every bit pattern is valid
//! (`zerocopy`). Nothing here takes a lock; any copy can fault, and so can sleep.
//!
//! Scatter lists (`readv(2)` and everything that moves file data) are in [`crate::iov`].

use crate::fallible::{TryVec, try_with_capacity};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The longest path name including its final NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;

/// Copies user bytes at `src` into `dst`, or fails with `EFAULT`.
pub fn copy_from_user(dst: &mut [u8], src: usize) -> Result<()> {
    arch::uaccess::copy_from_user(dst, src).map_err(|_| Errno::EFAULT)
}

/// Copies `src` to user bytes at `dst`, or fails with `EFAULT`.
pub fn copy_to_user(dst: usize, src: &[u8]) -> Result<()> {
    arch::uaccess::copy_to_user(dst, src).map_err(|_| Errno::EFAULT)
}

/// Sets `len` user bytes at `dst` to zero, or fails with `EFAULT`.
pub fn clear_user(dst: usize, len: usize) -> Result<()> {
    arch::uaccess::clear_user(dst, len).map_err(|_| Errno::EFAULT)
}

/// Whether `addr..addr + len` lies where a copy from or to a user may be tried at all.
pub fn access_ok(addr: usize, len: usize) -> bool {
    addr.checked_add(len).is_some_and(|end| end <= arch::layout::ACCESS_END)
}

/// The address of a `T` in user memory.
///
/// May be null, wild or misaligned: that shows when it is used.
#[repr(transparent)]
pub struct UserPtr<T> {
    addr: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserPtr<T> {}

impl<T> PartialEq for UserPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.addr == other.addr
    }
}

impl<T> Eq for UserPtr<T> {}

impl<T> fmt::Debug for UserPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> fmt::Display for UserPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addr == 0 { f.write_str("NULL") } else { write!(f, "{:#x}", self.addr) }
    }
}

impl<T> UserPtr<T> {
    /// The pointer with address `addr`, which nobody has checked.
    pub const fn new(addr: usize) -> Self {
        Self { addr, _type: PhantomData }
    }

    /// The null pointer.
    pub const fn null() -> Self {
        Self::new(0)
    }

    /// The address.
    pub const fn addr(self) -> usize {
        self.addr
    }

    /// Whether the pointer is null.
    pub const fn is_null(self) -> bool {
        self.addr == 0
    }

    /// `None` for null.
    pub const fn non_null(self) -> Option<Self> {
        if self.addr == 0 { None } else { Some(self) }
    }

    /// The same address as another type.
    pub const fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.addr)
    }

    /// The pointer `count` elements further; wraps around as user arithmetic does.
    pub const fn add(self, count: usize) -> Self {
        Self::new(self.addr.wrapping_add(count.wrapping_mul(size_of::<T>())))
    }

    /// The pointer `bytes` further, as another type: a field of a structure.
    pub const fn byte_add<U>(self, bytes: usize) -> UserPtr<U> {
        UserPtr::new(self.addr.wrapping_add(bytes))
    }

    /// `len` elements from here.
    pub const fn slice(self, len: usize) -> UserSlice<T> {
        UserSlice { ptr: self, len }
    }
}

impl<T: FromBytes + IntoBytes> UserPtr<T> {
    /// Reads the value.
    pub fn read(self) -> Result<T> {
        let mut value = T::new_zeroed();
        copy_from_user(value.as_mut_bytes(), self.addr)?;
        Ok(value)
    }

    /// Reads the value, or nothing if the pointer is null.
    pub fn read_opt(self) -> Result<Option<T>> {
        if self.is_null() { Ok(None) } else { self.read().map(Some) }
    }
}

impl<T: IntoBytes + Immutable> UserPtr<T> {
    /// Writes the value.
    pub fn write(self, value: &T) -> Result<()> {
        copy_to_user(self.addr, value.as_bytes())
    }

    /// Writes the value unless the pointer is null.
    pub fn write_opt(self, value: &T) -> Result<()> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }
}

/// Reads a structure that grew over the years and whose size the user passes: `clone3(2)`,
/// `openat2(2)`, `sched_setattr(2)`. Bytes that the user lacks are zero; bytes that the kernel does not
/// know must be zero, otherwise the error is `E2BIG`.
pub fn copy_struct_from_user<T: FromZeros + FromBytes + IntoBytes>(
    src: UserPtr<T>,
    user_size: usize,
) -> Result<T> {
    let mut value = T::new_zeroed();
    let known = size_of::<T>().min(user_size);
    if let Some(part) = value.as_mut_bytes().get_mut(..known) {
        // What follows is looked at first, so that E2BIG wins over a later EFAULT.
        if user_size > known {
            check_zeroed_user(src.addr.wrapping_add(known), user_size - known)?;
        }
        copy_from_user(part, src.addr)?;
    }
    Ok(value)
}

/// Fails with `E2BIG` if any of `len` user bytes at `addr` is not zero.
fn check_zeroed_user(mut addr: usize, mut len: usize) -> Result<()> {
    let mut chunk = [0u8; 64];
    while len > 0 {
        let now = len.min(chunk.len());
        let part = chunk.get_mut(..now).ok_or(Errno::EFAULT)?;
        copy_from_user(part, addr)?;
        if part.iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG);
        }
        addr = addr.wrapping_add(now);
        len -= now;
    }
    Ok(())
}

/// `len` consecutive `T` in user memory.
pub struct UserSlice<T> {
    ptr: UserPtr<T>,
    len: usize,
}

impl<T> Clone for UserSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserSlice<T> {}

impl<T> fmt::Debug for UserSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.ptr, self.len)
    }
}

impl<T> UserSlice<T> {
    /// `len` elements at `addr`.
    pub const fn new(addr: usize, len: usize) -> Self {
        Self { ptr: UserPtr::new(addr), len }
    }

    /// The address of the first element.
    pub const fn addr(self) -> usize {
        self.ptr.addr
    }

    /// The pointer to the first element.
    pub const fn ptr(self) -> UserPtr<T> {
        self.ptr
    }

    /// How many elements there are.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The pointer to element `index`, if there is one.
    pub const fn get(self, index: usize) -> Option<UserPtr<T>> {
        if index < self.len { Some(self.ptr.add(index)) } else { None }
    }

    /// The elements from `skip` on (none when there are fewer).
    pub const fn skip(self, skip: usize) -> Self {
        let skip = if skip < self.len { skip } else { self.len };
        Self { ptr: self.ptr.add(skip), len: self.len - skip }
    }

    /// At most the first `len` elements.
    pub const fn take(self, len: usize) -> Self {
        Self { ptr: self.ptr, len: if len < self.len { len } else { self.len } }
    }
}

impl<T: FromBytes + IntoBytes> UserSlice<T> {
    /// Fills `dst` from the first elements; `EFAULT` if there are not enough.
    pub fn copy_to(self, dst: &mut [T]) -> Result<()> {
        if dst.len() > self.len {
            return Err(Errno::EFAULT);
        }
        copy_from_user(dst.as_mut_bytes(), self.ptr.addr)
    }

    /// Reads element `index`.
    pub fn read_at(self, index: usize) -> Result<T> {
        self.get(index).ok_or(Errno::EFAULT)?.read()
    }

    /// Reads everything into kernel memory. The caller has bounded the length by what the
    /// system call allows.
    #[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
    pub fn to_vec(self) -> Result<Vec<T>> {
        let mut all = try_with_capacity(self.len)?;
        all.resize_with(self.len, T::new_zeroed);
        copy_from_user(all.as_mut_slice().as_mut_bytes(), self.ptr.addr)?;
        Ok(all)
    }
}

impl<T: IntoBytes + Immutable> UserSlice<T> {
    /// Writes `src` to the first elements; `EFAULT` if there is not enough room.
    pub fn copy_from(self, src: &[T]) -> Result<()> {
        if src.len() > self.len {
            return Err(Errno::EFAULT);
        }
        copy_to_user(self.ptr.addr, src.as_bytes())
    }

    /// Writes element `index`.
    pub fn write_at(self, index: usize, value: &T) -> Result<()> {
        self.get(index).ok_or(Errno::EFAULT)?.write(value)
    }
}

impl UserSlice<u8> {
    /// Sets all bytes to zero.
    pub fn clear(self) -> Result<()> {
        clear_user(self.ptr.addr, self.len)
    }
}

/// A NUL-terminated string in user memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct UserStr(UserPtr<u8>);

impl fmt::Debug for UserStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for UserStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl UserStr {
    /// The string at `addr`.
    pub const fn new(addr: usize) -> Self {
        Self(UserPtr::new(addr))
    }

    /// The address.
    pub const fn addr(self) -> usize {
        self.0.addr
    }

    /// Whether the pointer is null.
    pub const fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Reads into `buf` and returns the bytes before the NUL; `too_long` if `buf` has no room for
    /// the string with its NUL.
    pub fn read_into(self, buf: &mut [u8], too_long: Errno) -> Result<&[u8]> {
        let len = arch::uaccess::strncpy_from_user(buf, self.addr()).map_err(|_| Errno::EFAULT)?;
        if len >= buf.len() {
            return Err(too_long);
        }
        buf.get(..len).ok_or(too_long)
    }

    /// Reads a string of at most `max` bytes (with its NUL) into a new vector.
    pub fn read(self, max: usize, too_long: Errno) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut chunk = [0u8; 256];
        while all.len() < max {
            let room = chunk.len().min(max - all.len());
            let part = chunk.get_mut(..room).ok_or(too_long)?;
            let from = self.addr().wrapping_add(all.len());
            let len = arch::uaccess::strncpy_from_user(part, from).map_err(|_| Errno::EFAULT)?;
            all.try_extend_from_slice(part.get(..len).unwrap_or_default())?;
            if len < room {
                return Ok(all);
            }
        }
        Err(too_long)
    }

    /// Reads a path name: `ENAMETOOLONG` from [`PATH_MAX`] bytes on. (An empty one is the
    /// caller's business: `AT_EMPTY_PATH`.)
    pub fn read_path(self) -> Result<Vec<u8>> {
        self.read(PATH_MAX, Errno::ENAMETOOLONG)
    }
}
