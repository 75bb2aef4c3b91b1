//! Copies between kernel and user memory. Every address is checked against `TASK_SIZE`; a fault that cannot be
//! resolved ends the copy with an error, never an oops.
//!
//! Each instruction that touches user memory has an entry in the exception table. The bulk copy moves words and starts
//! over byte by byte where it faulted, so that the count of bytes not copied is exact.

use core::arch::{asm, global_asm};
use core::marker::PhantomData;

use super::extable::ex_entry;
use super::features;
use super::layout::TASK_SIZE;
use super::percpu::this_cpu_read;
use super::smap::{clac, stac};
use crate::preempt::PreemptGuard;

/// A user address could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

/// A copy stopped early; the number of bytes **not** copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCopied(pub usize);

crate::per_cpu! {
    /// How many [`NoFault`] live on this CPU.
    static NO_FAULT: u32 = 0;
}

// rdi: destination, rsi: source, rdx: length; returns in rax the number of bytes not copied. Opens user memory itself.
// Up to 63 bytes move as words with one overlapping word at the end, more as `rep movsq` (or `rep movsb`, in
// `copy_user_erms`, on CPUs that advertise it as fast).
global_asm!(
    ".pushsection .text.copy_user, \"ax\", @progbits",
    ".macro ex_entry insn, fixup",
    "  .pushsection __ex_table, \"a\", @progbits",
    "  .p2align 2",
    "  .long \\insn - .",
    "  .long \\fixup - .",
    "  .popsection",
    ".endm",
    ".p2align 4",
    ".globl copy_user",
    "copy_user:",
    stac!(),
    "mov rcx, rdx",
    "cmp rcx, 64",
    "jae 5f",
    "cmp ecx, 8",
    "jb 4f",
    "2:",
    "mov rax, [rsi]",
    "21: mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "sub ecx, 8",
    "cmp ecx, 8",
    "jae 2b",
    "test ecx, ecx",
    "jz 8f",
    // The rest as one word that overlaps what was copied.
    "22: mov rax, [rsi + rcx - 8]",
    "23: mov [rdi + rcx - 8], rax",
    "8:",
    clac!(),
    "xor eax, eax",
    "ret",
    // Byte by byte: short copies, and after a fault up to the exact byte.
    "4:",
    "test rcx, rcx",
    "jz 8b",
    "6:",
    "mov al, [rsi]",
    "61: mov [rdi], al",
    "inc rsi",
    "inc rdi",
    "dec rcx",
    "jnz 6b",
    "jmp 8b",
    "9:",
    clac!(),
    "mov rax, rcx",
    "ret",
    // Words in bulk; rcx counts words while rdx keeps the odd bytes.
    "5:",
    "mov edx, ecx",
    "and edx, 7",
    "shr rcx, 3",
    "51: rep movsq",
    "mov ecx, edx",
    "test ecx, ecx",
    "jnz 22b",
    "jmp 8b",
    "52:",
    "lea rcx, [rcx * 8 + rdx]",
    "jmp 4b",
    "ex_entry 2b, 4b",
    "ex_entry 21b, 4b",
    "ex_entry 22b, 4b",
    "ex_entry 23b, 4b",
    "ex_entry 6b, 9b",
    "ex_entry 61b, 9b",
    "ex_entry 51b, 52b",
    ".p2align 4",
    ".globl copy_user_erms",
    "copy_user_erms:",
    "cmp rdx, 64",
    "jb copy_user",
    stac!(),
    "mov rcx, rdx",
    "71: rep movsb",
    "72:",
    clac!(),
    "mov rax, rcx",
    "ret",
    "ex_entry 71b, 72b",
    // rdi: destination, rsi: length.
    ".p2align 4",
    ".globl clear_user_asm",
    "clear_user_asm:",
    stac!(),
    "xor eax, eax",
    "mov rcx, rsi",
    "mov edx, ecx",
    "and edx, 7",
    "shr rcx, 3",
    "81: rep stosq",
    "82:",
    "lea rcx, [rcx * 8 + rdx]",
    "83: rep stosb",
    "84:",
    clac!(),
    "mov rax, rcx",
    "ret",
    "ex_entry 81b, 82b",
    "ex_entry 83b, 84b",
    ".popsection",
);

unsafe extern "C" {
    fn copy_user(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn copy_user_erms(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn clear_user_asm(dst: *mut u8, len: usize) -> usize;
}

/// Whether `addr..addr+len` lies in user space.
#[inline]
fn in_user_space(addr: usize, len: usize) -> bool {
    len <= TASK_SIZE && addr <= TASK_SIZE - len
}

/// # Safety
/// One side is a checked user range, the other kernel memory of that length.
#[inline]
unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Result<(), NotCopied> {
    // SAFETY: the caller's promise; faults on the user side end the copy.
    let left = unsafe {
        if features::has_erms() { copy_user_erms(dst, src, len) } else { copy_user(dst, src, len) }
    };
    if left == 0 { Ok(()) } else { Err(NotCopied(left)) }
}

/// Copies from user memory. On error the rest of `dst` is unchanged.
#[inline]
pub fn copy_from_user(dst: &mut [u8], src: usize) -> Result<(), NotCopied> {
    // SAFETY: `dst` is exclusive kernel memory of that length.
    unsafe { copy_from_user_raw(dst.as_mut_ptr(), src, dst.len()) }
}

/// Copies to user memory.
#[inline]
pub fn copy_to_user(dst: usize, src: &[u8]) -> Result<(), NotCopied> {
    // SAFETY: `src` is kernel memory of that length.
    unsafe { copy_to_user_raw(dst, src.as_ptr(), src.len()) }
}

/// Zeroes user memory.
pub fn clear_user(dst: usize, len: usize) -> Result<(), NotCopied> {
    if !in_user_space(dst, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: a user range; faults end the loop.
    let left = unsafe { clear_user_asm(core::ptr::with_exposed_provenance_mut(dst), len) };
    if left == 0 { Ok(()) } else { Err(NotCopied(left)) }
}

/// As [`copy_from_user`] into memory that others may write at the same time (page cache).
///
/// # Safety
/// `dst..dst+len` is mapped kernel memory; concurrent writers only tear bytes.
#[inline]
pub unsafe fn copy_from_user_raw(dst: *mut u8, src: usize, len: usize) -> Result<(), NotCopied> {
    if !in_user_space(src, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: the source was checked, the destination is the caller's promise.
    unsafe { copy(dst, core::ptr::with_exposed_provenance(src), len) }
}

/// As [`copy_to_user`] from memory that others may write at the same time (page cache).
///
/// # Safety
/// `src..src+len` is mapped kernel memory; concurrent writers only tear bytes.
#[inline]
pub unsafe fn copy_to_user_raw(dst: usize, src: *const u8, len: usize) -> Result<(), NotCopied> {
    if !in_user_space(dst, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: the destination was checked, the source is the caller's promise.
    unsafe { copy(core::ptr::with_exposed_provenance_mut(dst), src, len) }
}

/// Assembly of one access to user memory (or one that may fault), at label 2: opens and closes user memory around it; on a
/// fault sets the register `err`, which was 0, to all ones and goes on behind the access.
macro_rules! guarded {
    ($access:expr) => {
        concat!(
            "xor {err:e}, {err:e}\n",
            stac!(),
            "\n2: ",
            $access,
            "\n3:\n",
            clac!(),
            "\n",
            ".pushsection .text.fixup, \"ax\", @progbits\n4: or {err:e}, -1\njmp 3b\n.popsection\n",
            ex_entry!("2b", "4b")
        )
    };
}

macro_rules! scalar {
    ($get:ident, $put:ident, $ty:ty, $load:literal, $store:literal, $class:ident, $doc:literal) => {
        #[doc = concat!("Reads ", $doc, "; atomic if aligned.")]
        #[inline]
        pub fn $get(src: usize) -> Result<$ty, UserFault> {
            if !in_user_space(src, size_of::<$ty>()) {
                return Err(UserFault);
            }
            let (value, err): ($ty, u32);
            // SAFETY: a checked user address, and a fault only sets `err`.
            unsafe {
                asm!(guarded!(concat!("mov {v", $load, "}, [{p}]")), v = out($class) value, p = in(reg) src,
                     err = out(reg) err, options(nostack));
            }
            if err == 0 { Ok(value) } else { Err(UserFault) }
        }

        #[doc = concat!("Writes ", $doc, "; atomic if aligned.")]
        #[inline]
        pub fn $put(dst: usize, value: $ty) -> Result<(), UserFault> {
            if !in_user_space(dst, size_of::<$ty>()) {
                return Err(UserFault);
            }
            let err: u32;
            // SAFETY: as for reading.
            unsafe {
                asm!(guarded!(concat!("mov ", $store, " ptr [{p}], {v", $load, "}")), v = in($class) value,
                     p = in(reg) dst, err = out(reg) err, options(nostack));
            }
            if err == 0 { Ok(()) } else { Err(UserFault) }
        }
    };
}

scalar!(get_u8, put_u8, u8, "", "byte", reg_byte, "a byte");
scalar!(get_u32, put_u32, u32, ":e", "dword", reg, "a `u32`");
scalar!(get_u64, put_u64, u64, ":r", "qword", reg, "a `u64`");

/// Copies a string up to and including its NUL if that fits; returns its length without NUL, or `dst.len()` if there
/// was no NUL in as many bytes.
pub fn strncpy_from_user(dst: &mut [u8], src: usize) -> Result<usize, UserFault> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut done = 0;
    // Words, as long as they can be read whole: one that crosses into an unmapped page may still hold the NUL.
    while let Some(word_out) = dst.get_mut(done..).and_then(|rest| rest.first_chunk_mut::<8>()) {
        let Ok(word) = get_u64(src.wrapping_add(done)) else { break };
        *word_out = word.to_le_bytes();
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Ok(done + zeros.trailing_zeros() as usize / 8);
        }
        done += 8;
    }
    for (i, out) in dst.iter_mut().enumerate().skip(done) {
        *out = get_u8(src.wrapping_add(i))?;
        if *out == 0 {
            return Ok(i);
        }
    }
    Ok(dst.len())
}

/// Atomically replaces `old` by `new`; returns what was there. The address must be aligned.
pub fn cmpxchg_u32(addr: usize, old: u32, new: u32) -> Result<u32, UserFault> {
    if !in_user_space(addr, 4) || !addr.is_multiple_of(4) {
        return Err(UserFault);
    }
    let (found, err): (u32, u32);
    // SAFETY: a checked user address, and a fault only sets `err`.
    unsafe {
        asm!(guarded!("lock cmpxchg dword ptr [{p}], {new:e}"), p = in(reg) addr, new = in(reg) new,
             err = out(reg) err, inlateout("eax") old => found, options(nostack));
    }
    if err == 0 { Ok(found) } else { Err(UserFault) }
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
        let found = cmpxchg_u32(addr, old, new)?;
        if found == old {
            return Ok(old);
        }
        old = found;
    }
}

/// With page faults disabled for user copies of this thread: they fail at once instead of calling the handler
/// (for copies under a spin lock or a folio lock). Preemption is off while it lives.
#[must_use]
pub struct NoFault {
    _preempt: PreemptGuard,
    _not_send: PhantomData<*mut ()>,
}

impl NoFault {
    /// Begins.
    #[inline]
    pub fn new() -> Self {
        let preempt = PreemptGuard::new();
        // SAFETY: this CPU's own counter, and the guard keeps us here.
        unsafe { asm!("inc dword ptr gs:[rip + {}]", sym NO_FAULT, options(nostack)) };
        Self { _preempt: preempt, _not_send: PhantomData }
    }
}

impl Default for NoFault {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NoFault {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `new`; the preemption guard is dropped after this.
        unsafe { asm!("dec dword ptr gs:[rip + {}]", sym NO_FAULT, options(nostack)) };
    }
}

/// Whether user copies shall fail at once.
#[inline]
pub(super) fn faults_disabled() -> bool {
    this_cpu_read!(NO_FAULT, u32) != 0
}

/// Reads a word of kernel memory that may not be there.
pub(super) fn probe_kernel(addr: usize) -> Option<usize> {
    let (value, err): (usize, u32);
    // SAFETY: only a read, and a fault only sets `err`.
    unsafe {
        asm!("xor {err:e}, {err:e}", "2: mov {v}, [{p}]", "3:",
             ".pushsection .text.fixup, \"ax\", @progbits", "4: or {err:e}, -1", "jmp 3b", ".popsection",
             ex_entry!("2b", "4b"), v = out(reg) value, p = in(reg) addr, err = out(reg) err, options(nostack));
    }
    (err == 0).then_some(value)
}
