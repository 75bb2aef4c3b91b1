//! Protection keys, which this architecture is not offered with.

use crate::pkey::KeyRights;

/// The restrictions that `pkey_alloc(2)` takes: `PKEY_ACCESS_MASK`. Reading and executing have bits of their own here (`asm/mman.h`).
pub const RESTRICTIONS: u32 = 15;

/// Keys that are allocated before any was asked for, a bit for each.
pub fn before_any() -> u32 {
    1
}

/// Whether there are keys.
#[inline]
pub fn supported() -> bool {
    false
}

/// What the running thread may do: everything.
#[inline]
pub fn rights() -> KeyRights {
    KeyRights::ALL
}

/// Sets what the running thread may do: nothing happens here.
pub fn set_rights(_rights: KeyRights) {}

/// Gives a thread of the kernel that works in a program's memory that program's rights: nothing happens here.
pub fn adopt(_rights: KeyRights) {}
