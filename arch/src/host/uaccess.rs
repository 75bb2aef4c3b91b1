//! Copies between kernel and user memory. Every address is checked against `TASK_SIZE`; a fault that cannot be
//! resolved ends the copy with an error, never an oops.

/// A user address could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

/// A copy stopped early; the number of bytes **not** copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCopied(pub usize);

/// Copies from user memory. On error the rest of `dst` is unchanged.
pub fn copy_from_user(_dst: &mut [u8], _src: usize) -> Result<(), NotCopied> {
    todo!()
}

/// Copies to user memory.
pub fn copy_to_user(_dst: usize, _src: &[u8]) -> Result<(), NotCopied> {
    todo!()
}

/// Zeroes user memory.
pub fn clear_user(_dst: usize, _len: usize) -> Result<(), NotCopied> {
    todo!()
}

/// As [`copy_from_user`] into memory that others may write at the same time (page cache).
///
/// # Safety
/// `dst..dst+len` is mapped kernel memory; concurrent writers only tear bytes.
pub unsafe fn copy_from_user_raw(_dst: *mut u8, _src: usize, _len: usize) -> Result<(), NotCopied> {
    todo!()
}

/// As [`copy_to_user`] from memory that others may write at the same time (page cache).
///
/// # Safety
/// `src..src+len` is mapped kernel memory; concurrent writers only tear bytes.
pub unsafe fn copy_to_user_raw(_dst: usize, _src: *const u8, _len: usize) -> Result<(), NotCopied> {
    todo!()
}

/// Copies a string up to and including its NUL if that fits; returns its length without NUL, or `dst.len()` if there
/// was no NUL in as many bytes.
pub fn strncpy_from_user(_dst: &mut [u8], _src: usize) -> Result<usize, UserFault> {
    todo!()
}

/// Reads a `u32`; atomic if aligned.
pub fn get_u32(_src: usize) -> Result<u32, UserFault> {
    todo!()
}

/// Reads a `u64`; atomic if aligned.
pub fn get_u64(_src: usize) -> Result<u64, UserFault> {
    todo!()
}

/// Reads a byte.
pub fn get_u8(_src: usize) -> Result<u8, UserFault> {
    todo!()
}

/// Writes a byte.
pub fn put_u8(_dst: usize, _value: u8) -> Result<(), UserFault> {
    todo!()
}

/// Writes a `u32`; atomic if aligned.
pub fn put_u32(_dst: usize, _value: u32) -> Result<(), UserFault> {
    todo!()
}

/// Writes a `u64`; atomic if aligned.
pub fn put_u64(_dst: usize, _value: u64) -> Result<(), UserFault> {
    todo!()
}

/// Atomically replaces `old` by `new`; returns what was there. The address must be aligned.
pub fn cmpxchg_u32(_addr: usize, _old: u32, _new: u32) -> Result<u32, UserFault> {
    todo!()
}

/// The operations of `FUTEX_WAKE_OP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FutexOp {
    /// `*addr = arg`
    Set,
    /// `*addr += arg`
    Add,
    /// `*addr |= arg`
    Or,
    /// `*addr &= ~arg`
    AndNot,
    /// `*addr ^= arg`
    Xor,
}

/// Applies `op` atomically; returns the old value. The address must be aligned.
pub fn futex_op(_op: FutexOp, _addr: usize, _arg: u32) -> Result<u32, UserFault> {
    todo!()
}

/// With page faults disabled for user copies of this thread: they fail at once instead of calling the handler
/// (for copies under a spin lock or a folio lock). Preemption is off while it lives.
pub struct NoFault {}

impl NoFault {
    /// Begins.
    pub fn new() -> Self {
        todo!()
    }
}

impl Default for NoFault {
    fn default() -> Self {
        Self::new()
    }
}
