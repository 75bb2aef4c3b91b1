//! x86_64: PVH entry, relocation, page tables.
