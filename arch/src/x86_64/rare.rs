//! What few threads change of their processor: `rdtsc` faults for them (CR4.TSD).
//!
//! The processor is the way the running thread wants it; the switch looks at one flag of either thread.

use super::insn;

/// CR4: the cycle counter is for the kernel only.
const CR4_TSD: u64 = 1 << 2;

/// A thread's wishes.
#[derive(Clone, Copy, Default)]
pub(super) struct Rare {
    /// There are some.
    pub(super) active: bool,
    tsc_faults: bool,
}

impl Rare {
    pub(super) const fn new() -> Self {
        Self { active: false, tsc_faults: false }
    }

    pub(super) fn tsc_faults(&self) -> bool {
        self.tsc_faults
    }

    /// The caller loads it, if the thread runs.
    pub(super) fn set_tsc_faults(&mut self, on: bool) {
        self.tsc_faults = on;
        self.active = on;
    }

    /// Makes this CPU the way the thread wants it. Interrupts off.
    #[cold]
    pub(super) fn load(&self) {
        let old = insn::read_cr4();
        let new = if self.tsc_faults { old | CR4_TSD } else { old & !CR4_TSD };
        if new != old {
            // SAFETY: the bit concerns user mode only.
            unsafe { insn::write_cr4(new) };
        }
    }
}
