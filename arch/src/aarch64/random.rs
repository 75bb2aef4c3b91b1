//! Randomness from the hardware.

/// 64 bits from RDSEED/RDRAND/RNDR, if there is such an instruction and it delivers.
pub fn hw_seed() -> Option<u64> {
    None
}

/// A few bits of timing jitter, for mixing only.
pub fn jitter() -> u64 {
    crate::time::now_raw()
}
