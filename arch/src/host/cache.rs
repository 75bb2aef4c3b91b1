//! Caches of the virtual machine, which has none.

use crate::cache::Cache;
use crate::cpu::CpuId;

/// See [`crate::cache::of`].
pub fn of(_: CpuId, _index: u32) -> Option<Cache> {
    None
}
