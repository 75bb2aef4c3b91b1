//! Randomness from the hardware.

use core::arch::asm;

use super::features;

/// 64 bits from RDSEED or RDRAND, if there is such an instruction and it delivers.
pub fn hw_seed() -> Option<u64> {
    macro_rules! draw {
        ($insn:literal) => {{
            let (value, ok): (u64, u8);
            // SAFETY: CPUID shows the instruction.
            unsafe { asm!(concat!($insn, " {}"), "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
            (ok != 0).then_some(value)
        }};
    }
    (0..10).find_map(|_| {
        let seed = if features::has_rdseed() { draw!("rdseed") } else { None };
        seed.or_else(|| if features::has_rdrand() { draw!("rdrand") } else { None })
    })
}

/// A few bits of timing jitter, for mixing only.
pub fn jitter() -> u64 {
    super::insn::rdtsc()
}
