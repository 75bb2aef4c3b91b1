//! ARM's PrimeCell real-time clock: PL031 Technical Reference Manual (DDI 0224).

use super::Chip;
use abi::{Errno, Result};
use arch::mmio::MmioRegion;

/// Seconds since the epoch.
const DATA: usize = 0x0;
/// What the seconds shall be.
const LOAD: usize = 0x8;

/// The chip.
pub(super) struct Pl031(MmioRegion);

impl Pl031 {
    /// With these registers.
    pub(super) fn new(registers: MmioRegion) -> Self {
        Self(registers)
    }
}

impl Chip for Pl031 {
    fn name(&self) -> &'static str {
        "rtc-pl031"
    }

    fn read(&self) -> Result<i64> {
        Ok(self.0.read32(DATA).into())
    }

    fn set(&self, seconds: i64) -> Result<()> {
        let seconds = u32::try_from(seconds).map_err(|_| Errno::ERANGE)?;
        self.0.write32(LOAD, seconds);
        Ok(())
    }
}
