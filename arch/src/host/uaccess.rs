//! Copies between kernel and user memory.
//!
//! On the host a "user address" is an address of the test process, unless the test has put its own
//! user memory in place with [`set_user_memory`] (for example the address space under test).

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use crate::layout::TASK_SIZE;

/// A user address could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

/// A copy stopped early; the number of bytes **not** copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCopied(pub usize);

/// User memory as a test defines it.
pub trait UserMemory: Send + Sync {
    /// Reads up to `dst.len()` bytes; how many it got before the first fault.
    fn read(&self, addr: usize, dst: &mut [u8]) -> usize;
    /// Writes up to `src.len()` bytes; how many before the first fault.
    fn write(&self, addr: usize, src: &[u8]) -> usize;
    /// Compares and exchanges an aligned word; `None` on a fault.
    fn cmpxchg(&self, addr: usize, old: u32, new: u32) -> Option<u32>;
}

thread_local! {
    static MEMORY: core::cell::RefCell<Option<Arc<dyn UserMemory>>> = const { core::cell::RefCell::new(None) };
    static NO_FAULT: Cell<u32> = const { Cell::new(0) };
}

/// Gives this OS thread its user memory; `None`: the test process' own.
pub fn set_user_memory(memory: Option<Arc<dyn UserMemory>>) {
    MEMORY.with(|m| *m.borrow_mut() = memory);
}

/// Whether faults of user copies must fail at once (a [`NoFault`] lives).
pub fn faults_disabled() -> bool {
    NO_FAULT.get() != 0
}

fn memory() -> Option<Arc<dyn UserMemory>> {
    MEMORY.with(|m| m.borrow().clone())
}

fn in_range(addr: usize, len: usize) -> bool {
    len == 0 || (crate::addr::PAGE_SIZE..TASK_SIZE).contains(&addr) && len <= TASK_SIZE - addr
}

fn read(addr: usize, dst: &mut [u8]) -> usize {
    if !in_range(addr, dst.len()) {
        return 0;
    }
    if let Some(memory) = memory() {
        return memory.read(addr, dst);
    }
    let from = core::ptr::with_exposed_provenance::<u8>(addr);
    // SAFETY: without user memory of its own a test passes addresses of its own buffers.
    unsafe { core::ptr::copy(from, dst.as_mut_ptr(), dst.len()) };
    dst.len()
}

fn write(addr: usize, src: &[u8]) -> usize {
    if !in_range(addr, src.len()) {
        return 0;
    }
    if let Some(memory) = memory() {
        return memory.write(addr, src);
    }
    let to = core::ptr::with_exposed_provenance_mut::<u8>(addr);
    // SAFETY: as for reading.
    unsafe { core::ptr::copy(src.as_ptr(), to, src.len()) };
    src.len()
}

fn whole(done: usize, len: usize) -> Result<(), NotCopied> {
    if done == len { Ok(()) } else { Err(NotCopied(len - done)) }
}

/// Copies from user memory. On error the rest of `dst` is unchanged.
pub fn copy_from_user(dst: &mut [u8], src: usize) -> Result<(), NotCopied> {
    let len = dst.len();
    whole(read(src, dst), len)
}

/// Copies to user memory.
pub fn copy_to_user(dst: usize, src: &[u8]) -> Result<(), NotCopied> {
    whole(write(dst, src), src.len())
}

/// Zeroes user memory.
pub fn clear_user(dst: usize, len: usize) -> Result<(), NotCopied> {
    let mut done = 0;
    while done < len {
        let chunk = (len - done).min(4096);
        let now = write(dst.wrapping_add(done), &[0; 4096][..chunk]);
        done += now;
        if now < chunk {
            break;
        }
    }
    whole(done, len)
}

/// As [`copy_from_user`] into memory that others may write at the same time (page cache).
///
/// # Safety
/// `dst..dst+len` is mapped kernel memory; concurrent writers only tear bytes.
pub unsafe fn copy_from_user_raw(dst: *mut u8, src: usize, len: usize) -> Result<(), NotCopied> {
    // SAFETY: the caller's promise.
    copy_from_user(unsafe { core::slice::from_raw_parts_mut(dst, len) }, src)
}

/// As [`copy_to_user`] from memory that others may write at the same time (page cache).
///
/// # Safety
/// `src..src+len` is mapped kernel memory; concurrent writers only tear bytes.
pub unsafe fn copy_to_user_raw(dst: usize, src: *const u8, len: usize) -> Result<(), NotCopied> {
    // SAFETY: the caller's promise.
    copy_to_user(dst, unsafe { core::slice::from_raw_parts(src, len) })
}

/// Copies a string up to and including its NUL if that fits; returns its length without NUL, or `dst.len()` if there
/// was no NUL in as many bytes.
pub fn strncpy_from_user(dst: &mut [u8], src: usize) -> Result<usize, UserFault> {
    for (i, byte) in dst.iter_mut().enumerate() {
        *byte = get_u8(src.wrapping_add(i))?;
        if *byte == 0 {
            return Ok(i);
        }
    }
    Ok(dst.len())
}

/// Reads a `u32`; atomic if aligned.
pub fn get_u32(src: usize) -> Result<u32, UserFault> {
    let mut bytes = [0; 4];
    copy_from_user(&mut bytes, src).map_err(|_| UserFault)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Reads a `u64`; atomic if aligned.
pub fn get_u64(src: usize) -> Result<u64, UserFault> {
    let mut bytes = [0; 8];
    copy_from_user(&mut bytes, src).map_err(|_| UserFault)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Reads a byte.
pub fn get_u8(src: usize) -> Result<u8, UserFault> {
    let mut byte = [0];
    copy_from_user(&mut byte, src).map_err(|_| UserFault)?;
    Ok(byte[0])
}

/// Writes a byte.
pub fn put_u8(dst: usize, value: u8) -> Result<(), UserFault> {
    copy_to_user(dst, &[value]).map_err(|_| UserFault)
}

/// Writes a `u32`; atomic if aligned.
pub fn put_u32(dst: usize, value: u32) -> Result<(), UserFault> {
    copy_to_user(dst, &value.to_ne_bytes()).map_err(|_| UserFault)
}

/// Writes a `u64`; atomic if aligned.
pub fn put_u64(dst: usize, value: u64) -> Result<(), UserFault> {
    copy_to_user(dst, &value.to_ne_bytes()).map_err(|_| UserFault)
}

/// Atomically replaces `old` by `new`; returns what was there. The address must be aligned.
pub fn cmpxchg_u32(addr: usize, old: u32, new: u32) -> Result<u32, UserFault> {
    if !in_range(addr, 4) || !addr.is_multiple_of(4) {
        return Err(UserFault);
    }
    if let Some(memory) = memory() {
        return memory.cmpxchg(addr, old, new).ok_or(UserFault);
    }
    // SAFETY: aligned, and an address of the test's own.
    let word = unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(addr)) };
    Ok(word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|now| now))
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
pub fn futex_op(op: FutexOp, addr: usize, arg: u32) -> Result<u32, UserFault> {
    let mut old = get_u32(addr)?;
    loop {
        let new = match op {
            FutexOp::Set => arg,
            FutexOp::Add => old.wrapping_add(arg),
            FutexOp::Or => old | arg,
            FutexOp::AndNot => old & !arg,
            FutexOp::Xor => old ^ arg,
        };
        let now = cmpxchg_u32(addr, old, new)?;
        if now == old {
            return Ok(old);
        }
        old = now;
    }
}

/// With page faults disabled for user copies of this thread: they fail at once instead of calling the handler
/// (for copies under a spin lock or a folio lock). Preemption is off while it lives.
pub struct NoFault {
    _preempt: crate::preempt::PreemptGuard,
}

impl NoFault {
    /// Begins.
    pub fn new() -> Self {
        NO_FAULT.set(NO_FAULT.get() + 1);
        Self { _preempt: crate::preempt::PreemptGuard::new() }
    }
}

impl Default for NoFault {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NoFault {
    fn drop(&mut self) {
        NO_FAULT.set(NO_FAULT.get() - 1);
    }
}
