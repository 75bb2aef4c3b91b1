//! What few threads change of their processor: `rdtsc` faults for them (CR4.TSD), and they may use I/O ports (the map in the TSS).
//!
//! The processor is the way the running thread wants it; the switch looks at one flag of either thread.

use alloc::vec::Vec;

use abi::Errno;

use super::desc::{self, PORT_MAP_BYTES};
use super::insn;

/// CR4: the cycle counter is for the kernel only.
const CR4_TSD: u64 = 1 << 2;

/// The level of `iopl(2)` that allows all ports.
const ALL_PORTS: u8 = 3;

/// A thread's wishes.
pub(super) struct Rare {
    /// There are some.
    pub(super) active: bool,
    tsc_faults: bool,
    /// `iopl(2)`
    level: u8,
    /// A bit per port, set if it is forbidden; empty if all are. `ioperm(2)`
    ports: Vec<u8>,
}

impl Rare {
    pub(super) const fn new() -> Self {
        Self { active: false, tsc_faults: false, level: 0, ports: Vec::new() }
    }

    /// The wishes of a child.
    pub(super) fn try_clone(&self) -> Result<Self, ()> {
        let mut ports = Vec::new();
        ports.try_reserve_exact(self.ports.len()).map_err(|_| ())?;
        ports.extend_from_slice(&self.ports);
        Ok(Self { active: self.active, tsc_faults: self.tsc_faults, level: self.level, ports })
    }

    fn update(&mut self) {
        self.active = self.tsc_faults || self.level == ALL_PORTS || !self.ports.is_empty();
    }

    pub(super) fn tsc_faults(&self) -> bool {
        self.tsc_faults
    }

    /// The caller loads it, if the thread runs; so for all that follow.
    pub(super) fn set_tsc_faults(&mut self, on: bool) {
        self.tsc_faults = on;
        self.update();
    }

    pub(super) fn io_level(&self) -> u8 {
        self.level
    }

    pub(super) fn set_io_level(&mut self, level: u8) {
        self.level = level;
        self.update();
    }

    /// Makes room for the map of ports.
    pub(super) fn reserve_ports(&mut self) -> Result<(), Errno> {
        let more = PORT_MAP_BYTES - self.ports.len();
        self.ports.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)
    }

    /// Allows or forbids ports, which exist. There is room, if they are allowed.
    pub(super) fn set_ports(&mut self, ports: core::ops::Range<usize>, allowed: bool) {
        if self.ports.is_empty() {
            if !allowed {
                return;
            }
            self.ports.resize(PORT_MAP_BYTES, 0xff);
        }
        for port in ports {
            if let Some(byte) = self.ports.get_mut(port / 8) {
                let bit = 1 << (port % 8);
                *byte = if allowed { *byte & !bit } else { *byte | bit };
            }
        }
        if self.ports.iter().all(|byte| *byte == 0xff) {
            self.ports = Vec::new();
        }
        self.update();
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
        desc::set_ports(match self.level {
            ALL_PORTS => Some(&[0; PORT_MAP_BYTES]),
            _ if self.ports.is_empty() => None,
            _ => Some(&self.ports),
        });
    }
}
