//! Translation look-aside buffers.

use core::ops::Range;

use crate::asid::MmContext;
use crate::paging::Level;

/// Forgets, on every CPU that may hold them, translations of `range` in `mm`. `level`: the level of the leaves that
/// changed. `tables_freed`: tables were unlinked too, so that lazy CPUs must hear of it before they are freed.
pub fn flush_range(_mm: &MmContext, _range: Range<usize>, _level: Level, _tables_freed: bool) {}

/// Forgets one page, on every CPU.
pub fn flush_page(mm: &MmContext, va: usize) {
    flush_range(mm, va..va + crate::addr::PAGE_SIZE, 0, false);
}

/// Forgets one page on this CPU only: for a spurious fault.
pub fn flush_page_local(_va: usize) {}

/// Forgets all of an address space, on every CPU.
pub fn flush_mm(_mm: &MmContext) {}

/// Forgets translations of kernel addresses, on every CPU. Interrupts on.
pub fn flush_kernel(_range: Range<usize>) {}
