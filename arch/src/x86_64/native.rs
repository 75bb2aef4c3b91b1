//! What only this architecture has: for `boot`, and for drivers of PC devices.

pub use super::init;
pub use super::layout::{DIRECT_MAP_BASE, DIRECT_MAP_SIZE, IMAGE_BASE, IMAGE_ROOM, IOREMAP, slide};
pub use super::mmio::ioremap_cached;
pub use super::paging::{map_kernel_large, preallocate, translate_kernel};
pub use super::{features, insn, msr, platform, trampoline};
