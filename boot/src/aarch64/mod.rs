//! arm64: Image header, entry, page tables.
