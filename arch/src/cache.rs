//! The processor's caches, as it describes them itself.

use crate::cpu::{CpuId, CpuMask};

/// What a cache keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Data.
    Data,
    /// Instructions.
    Instruction,
    /// Both.
    Unified,
}

/// A cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// 1 is nearest to the processor.
    pub level: u8,
    /// What it keeps.
    pub kind: Kind,
    /// Bytes of a line.
    pub line: u32,
    /// Lines that a tag covers.
    pub partitions: u32,
    /// Ways of associativity.
    pub ways: u32,
    /// Sets.
    pub sets: u32,
    /// A number that the caches of this level have, each its own.
    pub id: u32,
    /// The CPUs that share it.
    pub shared: CpuMask,
}

impl Cache {
    /// Bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.line) * u64::from(self.partitions) * u64::from(self.ways) * u64::from(self.sets)
    }
}

/// Cache number `index` of a CPU; `None` behind the last. All CPUs are taken to be like the one that asks.
pub fn of(cpu: CpuId, index: u32) -> Option<Cache> {
    crate::imp::cache::of(cpu, index)
}
