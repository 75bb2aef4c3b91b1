//! Protection keys: PKRU.
//!
//! PKRU is one of XSAVE's components, but unlike the others it is never lazy: the kernel's copies from and to user memory
//! obey it. So it is left out of what [`super::fpu`] saves and loads, and is switched with the thread
//! ([`switch`]); only signal frames and debuggers see it in its place in the area.

use core::arch::asm;

use super::features;
use super::thread::Thread;
use crate::pkey::KeyRights;

/// PKRU's bit among the components of XSAVE.
pub(super) const COMPONENT: u64 = 1 << 9;

/// The restrictions that `pkey_alloc(2)` takes: `PKEY_ACCESS_MASK`.
pub const RESTRICTIONS: u32 = 3;

/// Keys that are allocated before any was asked for, a bit for each: key 0, which all pages have.
pub fn before_any() -> u32 {
    u32::from(supported())
}

/// Whether there are keys.
#[inline]
pub fn supported() -> bool {
    features::has_pku()
}

#[inline]
fn read() -> u32 {
    let value: u32;
    // SAFETY: callers know that the feature is on. It reads no memory.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nomem, nostack, preserves_flags))
    };
    value
}

#[inline]
fn write(value: u32) {
    // SAFETY: callers know that the feature is on. Only user pages are affected; that accesses to them are not moved over it
    // is what the missing `nomem` says.
    unsafe { asm!("wrpkru", in("eax") value, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags)) };
}

/// What the running thread may do.
#[inline]
pub fn rights() -> KeyRights {
    if supported() { KeyRights(read()) } else { KeyRights::ALL }
}

/// Sets what the running thread may do.
#[inline]
pub fn set_rights(rights: KeyRights) {
    if supported() && read() != rights.0 {
        write(rights.0);
    }
}

/// Gives a thread of the kernel that works in a program's memory that program's rights. The running thread.
pub fn adopt(rights: KeyRights) {
    let _irq = crate::irq::IrqGuard::new();
    // SAFETY: the running thread's own field, which nobody else touches while it runs.
    unsafe { crate::thread::current().as_mut() }.has_keys = true;
    set_rights(rights);
}

/// Part of the switch from `prev` to `next`. A thread that never touches user memory runs with whatever is there.
#[inline]
pub(super) fn switch(prev: &mut Thread, next: &Thread) {
    if !supported() {
        return;
    }
    let live = KeyRights(read());
    if prev.has_keys {
        prev.key_rights = live;
    }
    if next.has_keys && next.key_rights != live {
        write(next.key_rights.0);
    }
}

/// Switches keys on.
///
/// # Safety
/// Once per CPU, before user mode, with XSAVE set up.
pub(super) unsafe fn init_cpu() {
    if supported() {
        // SAFETY: the feature is there.
        unsafe { super::insn::write_cr4(super::insn::read_cr4() | super::msr::CR4_PKE) };
        write(KeyRights::FRESH.0);
    }
}
