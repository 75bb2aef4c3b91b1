//! Randomness from the hardware.

use core::arch::asm;

use super::sysreg::read_sysreg;

/// 64 bits from RDSEED/RDRAND/RNDR, if there is such an instruction and it delivers.
pub fn hw_seed() -> Option<u64> {
    if read_sysreg!("id_aa64isar0_el1") >> 60 & 0xf == 0 {
        return None;
    }
    for _ in 0..8 {
        let (value, failed): (u64, u64);
        // SAFETY: FEAT_RNG is there; RNDRRS and its flags have no other effect.
        unsafe {
            asm!("mrs {}, S3_3_C2_C4_1", "cset {}, eq", out(reg) value, out(reg) failed, options(nomem, nostack))
        };
        if failed == 0 {
            return Some(value);
        }
    }
    None
}

/// A few bits of timing jitter, for mixing only.
pub fn jitter() -> u64 {
    crate::time::now_raw()
}
