//! Address spaces as the processor sees them: a root, an identity for the TLB, and who runs it.

pub use crate::imp::asid::*;
