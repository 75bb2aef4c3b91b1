//! Instructions chosen at boot by what the CPU can do.
//!
//! The image holds the ARMv8.0 form; the section `.alternatives` lists, for each place, a feature and the instruction to
//! put there if the boot CPU has the feature. [`apply`] runs once, before the image becomes read-only and before any of
//! those instructions ran, so nothing has to be synchronised but the instruction cache. All CPUs are assumed to have
//! what the boot CPU has: `cpu::check_secondary` refuses those that have not.

use super::sysreg::read_sysreg;

/// FEAT_PAN: user memory is inaccessible to the kernel except between `msr pan, #0` and `msr pan, #1`.
pub const PAN: u32 = 0;
/// FEAT_MOPS: memory copy and set instructions.
pub const MOPS: u32 = 1;

#[repr(C)]
struct Entry {
    /// Distance from this field to the instruction.
    at: i32,
    feature: u32,
    instruction: u32,
}

/// The features of this CPU, a bit each.
pub fn features() -> u32 {
    let pan = read_sysreg!("id_aa64mmfr1_el1") >> 20 & 0xf != 0;
    let mops = read_sysreg!("S3_0_C0_C6_2") >> 16 & 0xf != 0;
    u32::from(pan) << PAN | u32::from(mops) << MOPS
}

/// Patches the image.
///
/// # Safety
/// Once, on the boot CPU, from the identity map (where code is writable), before patched code runs. Uses nothing but
/// PC-relative addresses.
pub unsafe fn apply() {
    unsafe extern "C" {
        static _alternatives_start: Entry;
        static _alternatives_end: Entry;
    }
    let features = features();
    let mut entry = &raw const _alternatives_start;
    while entry < &raw const _alternatives_end {
        // SAFETY: entries lie between the two symbols and name instructions of the image, which is writable now.
        unsafe {
            if features & 1 << (*entry).feature != 0 {
                let at = entry.cast::<u8>().offset((*entry).at as isize).cast_mut().cast::<u32>();
                at.write_volatile((*entry).instruction);
                core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags));
            }
            entry = entry.add(1);
        }
    }
    // SAFETY: barriers and instruction cache maintenance.
    unsafe { core::arch::asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
