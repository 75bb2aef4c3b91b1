//! Copies between kernel and user memory. Every address is checked against `ACCESS_END`; a fault that cannot be
//! resolved ends the copy with an error, never an oops.
//!
//! The instructions that touch user memory lie in `.uaccess.text`, each with an entry in the exception table. Where the
//! CPU has PAN, user memory is accessible only between the two instructions that [`super::alternative`] puts in place of
//! the `nop`s of `pan_off` and `pan_on`.
//!
//! The copy loops move 64 bytes with eight instructions and keep the destination register behind the data until a whole
//! step is done: after a fault, a byte loop goes on from there and finds the exact byte. Where the CPU has memory copy
//! instructions (MOPS) they do the bulk; their registers tell how far they came, too.

use core::arch::global_asm;
use core::marker::PhantomData;

use super::alternative::{MOPS, PAN};
use super::thread;
use crate::layout::{ACCESS_END, TASK_SIZE};
use crate::preempt::PreemptGuard;

/// A user address could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault;

/// A copy stopped early; the number of bytes **not** copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCopied(pub usize);

global_asm!(
    r#"
    .macro ex_entry from, to
    .pushsection .ex_table, "a"
    .balign 4
    .long   \from - .
    .long   \to - .
    .popsection
    .endm

    // The instruction may fault; go on at \to then.
    .macro u to, insn:vararg
9999:
    \insn
    ex_entry 9999b, \to
    .endm

    .macro alternative feature, new
    .pushsection .alternatives, "a"
    .balign 4
    .long   9998f - .
    .long   \feature
    .long   \new
    .popsection
9998:
    .endm

    .macro pan_off
    alternative {PAN}, 0xd500409f           // msr pan, #0
    nop
    .endm

    .macro pan_on
    alternative {PAN}, 0xd500419f           // msr pan, #1
    nop
    .endm

    // The branch goes away where the CPU has MOPS.
    .macro unless_has_mops target
    alternative {MOPS}, 0xd503201f          // nop
    b       \target
    .endm

    .arch_extension mops
    .section .uaccess.text, "ax"
    .balign 64
// x0: to, x1: from, x2: bytes. Returns the number of bytes not copied.
    .globl  arch_copy_user
arch_copy_user:
    add     x4, x0, x2                      // end
    sub     x5, x1, x0                      // from - to
    pan_off
    subs    x2, x2, #64
    b.lo    2f
    unless_has_mops 1f
    add     x2, x2, #64
    u 6f,   cpyfp [x0]!, [x1]!, x2!
    u 6f,   cpyfm [x0]!, [x1]!, x2!
    u 6f,   cpyfe [x0]!, [x1]!, x2!
    b       7f
1:  u 8f,   ldp x6, x7, [x1], #64
    u 8f,   ldp x8, x9, [x1, #-48]
    u 8f,   ldp x10, x11, [x1, #-32]
    u 8f,   ldp x12, x13, [x1, #-16]
    u 8f,   stp x8, x9, [x0, #16]
    u 8f,   stp x10, x11, [x0, #32]
    u 8f,   stp x12, x13, [x0, #48]
    u 8f,   stp x6, x7, [x0], #64
    subs    x2, x2, #64
    b.hs    1b
2:  tst     x2, #63
    b.eq    7f
    tbz     x2, #5, 3f
    u 8f,   ldp x6, x7, [x1], #32
    u 8f,   ldp x8, x9, [x1, #-16]
    u 8f,   stp x8, x9, [x0, #16]
    u 8f,   stp x6, x7, [x0], #32
3:  tbz     x2, #4, 3f
    u 8f,   ldp x6, x7, [x1], #16
    u 8f,   stp x6, x7, [x0], #16
3:  tbz     x2, #3, 3f
    u 8f,   ldr x6, [x1], #8
    u 8f,   str x6, [x0], #8
3:  tbz     x2, #2, 3f
    u 8f,   ldr w6, [x1], #4
    u 8f,   str w6, [x0], #4
3:  tbz     x2, #1, 3f
    u 8f,   ldrh w6, [x1], #2
    u 8f,   strh w6, [x0], #2
3:  tbz     x2, #0, 7f
    u 8f,   ldrb w6, [x1]
    u 8f,   strb w6, [x0]
7:  pan_on
    mov     x0, xzr
    ret
6:  tbz     x2, #63, 8f                     // a negative count is relative to the end
    add     x0, x0, x2
8:  add     x1, x0, x5                      // both where the last whole step ended
81: cmp     x0, x4
    b.eq    7b
    u 9f,   ldrb w6, [x1], #1
    u 9f,   strb w6, [x0], #1
    b       81b
9:  pan_on
    sub     x0, x4, x0
    ret

    .balign 64
// x0: to, x1: bytes. Returns the number of bytes not cleared.
    .globl  arch_clear_user
arch_clear_user:
    add     x4, x0, x1
    pan_off
    subs    x1, x1, #64
    b.lo    2f
    unless_has_mops 1f
    add     x1, x1, #64
    u 6f,   setp [x0]!, x1!, xzr
    u 6f,   setm [x0]!, x1!, xzr
    u 6f,   sete [x0]!, x1!, xzr
    b       7f
6:  tbz     x1, #63, 8f                     // as above
    add     x0, x0, x1
    b       8f
1:  u 8f,   stp xzr, xzr, [x0, #16]
    u 8f,   stp xzr, xzr, [x0, #32]
    u 8f,   stp xzr, xzr, [x0, #48]
    u 8f,   stp xzr, xzr, [x0], #64
    subs    x1, x1, #64
    b.hs    1b
2:  tbz     x1, #5, 3f
    u 8f,   stp xzr, xzr, [x0, #16]
    u 8f,   stp xzr, xzr, [x0], #32
3:  tbz     x1, #4, 3f
    u 8f,   stp xzr, xzr, [x0], #16
3:  tbz     x1, #3, 8f
    u 8f,   str xzr, [x0], #8
8:  cmp     x0, x4
    b.eq    7f
    u 9f,   strb wzr, [x0], #1
    b       8b
7:  pan_on
    mov     x0, xzr
    ret
9:  pan_on
    sub     x0, x4, x0
    ret

    .balign 64
// x0: to, x1: from, x2: room. Returns in x0 the length of the string (x2 if there is no NUL), in x1 whether it faulted.
    .globl  arch_strncpy_user
arch_strncpy_user:
    mov     x3, xzr                         // length so far
    mov     x8, #0x0101010101010101
    pan_off
1:  sub     x4, x2, x3
    cmp     x4, #8
    b.lo    3f
    add     x5, x1, x3
    and     x5, x5, #0xfff
    cmp     x5, #0xff8
    b.hi    3f                              // eight bytes might cross into a page that is not there
    u 9f,   ldr x6, [x1, x3]
    str     x6, [x0, x3]
    sub     x7, x6, x8
    bic     x7, x7, x6
    ands    x7, x7, #0x8080808080808080
    b.ne    2f
    add     x3, x3, #8
    b       1b
2:  rbit    x7, x7
    clz     x7, x7
    add     x3, x3, x7, lsr #3
    b       8f
3:  cbz     x4, 8f
    u 9f,   ldrb w6, [x1, x3]
    strb    w6, [x0, x3]
    cbz     w6, 8f
    add     x3, x3, #1
    b       1b
8:  pan_on
    mov     x0, x3
    mov     x1, xzr
    ret
9:  pan_on
    mov     x1, #1
    ret

    .macro user_load name, insn:vararg
    .balign 32
    .globl  \name
\name:
    pan_off
    u 9f,   \insn
    pan_on
    mov     x1, xzr
    ret
9:  pan_on
    mov     x1, #1
    ret
    .endm
    // x0: address. Returns the value in x0, whether it faulted in x1.
    user_load arch_get_user_1, ldrb w0, [x0]
    user_load arch_get_user_4, ldr w0, [x0]
    user_load arch_get_user_8, ldr x0, [x0]

    .macro user_store name, insn:vararg
    .balign 32
    .globl  \name
\name:
    pan_off
    u 9f,   \insn
    pan_on
    mov     x0, xzr
    ret
9:  pan_on
    mov     x0, #1
    ret
    .endm
    // x0: address, x1: value. Returns whether it faulted.
    user_store arch_put_user_1, strb w1, [x0]
    user_store arch_put_user_4, str w1, [x0]
    user_store arch_put_user_8, str x1, [x0]

    .balign 32
// x0: address, w1: old, w2: new. Returns what was there, and whether it faulted.
    .globl  arch_cmpxchg_user
arch_cmpxchg_user:
    pan_off
1:  u 9f,   ldxr w3, [x0]
    cmp     w3, w1
    b.ne    2f
    u 9f,   stlxr w4, w2, [x0]
    cbnz    w4, 1b
2:  dmb     ish
    pan_on
    mov     w0, w3
    mov     x1, xzr
    ret
9:  pan_on
    mov     x1, #1
    ret

    .macro futex_op name, insn:vararg
    .balign 32
    .globl  \name
\name:
    pan_off
1:  u 9f,   ldxr w3, [x0]
    \insn
    u 9f,   stlxr w5, w4, [x0]
    cbnz    w5, 1b
    dmb     ish
    pan_on
    mov     w0, w3
    mov     x1, xzr
    ret
9:  pan_on
    mov     x1, #1
    ret
    .endm
    futex_op arch_futex_set, mov w4, w1
    futex_op arch_futex_add, add w4, w3, w1
    futex_op arch_futex_or, orr w4, w3, w1
    futex_op arch_futex_andn, bic w4, w3, w1
    futex_op arch_futex_xor, eor w4, w3, w1
    .arch_extension nomops
    "#,
    PAN = const PAN,
    MOPS = const MOPS,
);

/// A value and whether reading it faulted: returned in two registers.
#[repr(C)]
struct Loaded {
    value: u64,
    faulted: u64,
}

impl Loaded {
    fn ok(self) -> Result<u64, UserFault> {
        if self.faulted == 0 { Ok(self.value) } else { Err(UserFault) }
    }
}

unsafe extern "C" {
    fn arch_copy_user(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn arch_clear_user(to: usize, len: usize) -> usize;
    fn arch_strncpy_user(to: *mut u8, from: usize, room: usize) -> Loaded;
    fn arch_get_user_1(from: usize) -> Loaded;
    fn arch_get_user_4(from: usize) -> Loaded;
    fn arch_get_user_8(from: usize) -> Loaded;
    fn arch_put_user_1(to: usize, value: u8) -> u64;
    fn arch_put_user_4(to: usize, value: u32) -> u64;
    fn arch_put_user_8(to: usize, value: u64) -> u64;
    fn arch_cmpxchg_user(addr: usize, old: u32, new: u32) -> Loaded;
    fn arch_futex_set(addr: usize, arg: u32) -> Loaded;
    fn arch_futex_add(addr: usize, arg: u32) -> Loaded;
    fn arch_futex_or(addr: usize, arg: u32) -> Loaded;
    fn arch_futex_andn(addr: usize, arg: u32) -> Loaded;
    fn arch_futex_xor(addr: usize, arg: u32) -> Loaded;
}

/// Whether a range lies in the half of users, where every access that fails is fixed up.
#[inline(always)]
fn access_ok(addr: usize, len: usize) -> bool {
    len <= ACCESS_END && addr <= ACCESS_END - len
}

#[inline(always)]
fn done(left: usize) -> Result<(), NotCopied> {
    if left == 0 { Ok(()) } else { Err(NotCopied(left)) }
}

/// Copies from user memory. On error the rest of `dst` is unchanged.
#[inline]
pub fn copy_from_user(dst: &mut [u8], src: usize) -> Result<(), NotCopied> {
    // SAFETY: `dst` is exclusive memory of that length.
    unsafe { copy_from_user_raw(dst.as_mut_ptr(), src, dst.len()) }
}

/// Copies to user memory.
#[inline]
pub fn copy_to_user(dst: usize, src: &[u8]) -> Result<(), NotCopied> {
    // SAFETY: `src` is readable memory of that length.
    unsafe { copy_to_user_raw(dst, src.as_ptr(), src.len()) }
}

/// Zeroes user memory.
pub fn clear_user(dst: usize, len: usize) -> Result<(), NotCopied> {
    if !access_ok(dst, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: a user range; faults are fixed up.
    done(unsafe { arch_clear_user(dst, len) })
}

/// As [`copy_from_user`] into memory that others may write at the same time (page cache).
///
/// # Safety
/// `dst..dst+len` is mapped kernel memory; concurrent writers only tear bytes.
#[inline]
pub unsafe fn copy_from_user_raw(dst: *mut u8, src: usize, len: usize) -> Result<(), NotCopied> {
    if !access_ok(src, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: the source is a user range whose faults are fixed up; the caller vouches for the destination.
    done(unsafe { arch_copy_user(dst, core::ptr::without_provenance(src), len) })
}

/// As [`copy_to_user`] from memory that others may write at the same time (page cache).
///
/// # Safety
/// `src..src+len` is mapped kernel memory; concurrent writers only tear bytes.
#[inline]
pub unsafe fn copy_to_user_raw(dst: usize, src: *const u8, len: usize) -> Result<(), NotCopied> {
    if !access_ok(dst, len) {
        return Err(NotCopied(len));
    }
    // SAFETY: the destination is a user range whose faults are fixed up; the caller vouches for the source.
    done(unsafe { arch_copy_user(core::ptr::without_provenance_mut(dst), src, len) })
}

/// Copies a string up to and including its NUL if that fits; returns its length without NUL, or `dst.len()` if there
/// was no NUL in as many bytes.
pub fn strncpy_from_user(dst: &mut [u8], src: usize) -> Result<usize, UserFault> {
    if src >= TASK_SIZE {
        return Err(UserFault);
    }
    let room = dst.len().min(TASK_SIZE - src);
    // SAFETY: writes at most `room` bytes of `dst`; faults on the user side are fixed up.
    let len = unsafe { arch_strncpy_user(dst.as_mut_ptr(), src, room) }.ok()? as usize;
    // A string that runs into the end of user space has no end.
    if len == room && room < dst.len() { Err(UserFault) } else { Ok(len) }
}

macro_rules! get {
    ($(#[$doc:meta])* $name:ident, $asm:ident, $ty:ty) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(src: usize) -> Result<$ty, UserFault> {
            if !access_ok(src, size_of::<$ty>()) {
                return Err(UserFault);
            }
            // SAFETY: a user address; faults are fixed up.
            unsafe { $asm(src) }.ok().map(|v| v as $ty)
        }
    };
}

macro_rules! put {
    ($(#[$doc:meta])* $name:ident, $asm:ident, $ty:ty) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(dst: usize, value: $ty) -> Result<(), UserFault> {
            // SAFETY: a user address; faults are fixed up.
            if access_ok(dst, size_of::<$ty>()) && unsafe { $asm(dst, value) } == 0 { Ok(()) } else { Err(UserFault) }
        }
    };
}

get!(
    /// Reads a byte.
    get_u8, arch_get_user_1, u8
);
get!(
    /// Reads a `u32`; atomic if aligned.
    get_u32, arch_get_user_4, u32
);
get!(
    /// Reads a `u64`; atomic if aligned.
    get_u64, arch_get_user_8, u64
);
put!(
    /// Writes a byte.
    put_u8, arch_put_user_1, u8
);
put!(
    /// Writes a `u32`; atomic if aligned.
    put_u32, arch_put_user_4, u32
);
put!(
    /// Writes a `u64`; atomic if aligned.
    put_u64, arch_put_user_8, u64
);

/// Reads a word of kernel memory that may not be mapped.
pub(super) fn load_kernel(src: usize) -> Option<usize> {
    // SAFETY: any address; faults are fixed up.
    unsafe { arch_get_user_8(src) }.ok().ok().map(|v| v as usize)
}

/// Atomically replaces `old` by `new`; returns what was there. The address must be aligned.
pub fn cmpxchg_u32(addr: usize, old: u32, new: u32) -> Result<u32, UserFault> {
    if !access_ok(addr, 4) || !addr.is_multiple_of(4) {
        return Err(UserFault);
    }
    // SAFETY: an aligned user address; faults are fixed up.
    unsafe { arch_cmpxchg_user(addr, old, new) }.ok().map(|v| v as u32)
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
    if !access_ok(addr, 4) || !addr.is_multiple_of(4) {
        return Err(UserFault);
    }
    // SAFETY: an aligned user address; faults are fixed up.
    let loaded = unsafe {
        match op {
            FutexOp::Set => arch_futex_set(addr, arg),
            FutexOp::Add => arch_futex_add(addr, arg),
            FutexOp::Or => arch_futex_or(addr, arg),
            FutexOp::AndNot => arch_futex_andn(addr, arg),
            FutexOp::Xor => arch_futex_xor(addr, arg),
        }
    };
    loaded.ok().map(|v| v as u32)
}

/// With page faults disabled for user copies of this thread: they fail at once instead of calling the handler
/// (for copies under a spin lock or a folio lock). Preemption is off while it lives.
pub struct NoFault {
    _guard: PreemptGuard,
    _not_send: PhantomData<*mut ()>,
}

impl NoFault {
    /// Begins.
    pub fn new() -> Self {
        let guard = PreemptGuard::new();
        // SAFETY: only the running thread and traps above it touch its counter.
        unsafe { thread::current().as_mut() }.no_fault += 1;
        Self { _guard: guard, _not_send: PhantomData }
    }
}

impl Default for NoFault {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NoFault {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { thread::current().as_mut() }.no_fault -= 1;
    }
}
