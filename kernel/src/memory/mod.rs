//! Memory calls of the running process: thin wrappers over [`mm::AddressSpace`], and faulting user pages in.

pub mod advice;
pub mod auxv;
pub mod fault_in;
pub mod layout;
pub mod map;
pub mod numa;
pub mod oom;
pub mod other;
pub mod pkeys;
pub mod remote;
pub mod secretmem;

pub use fault_in::{fault_in_readable, fault_in_writable};
pub use map::set_vma_name;

use crate::process::current;
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::AddressSpace;

/// The running process's address space.
///
/// # Errors
/// `EFAULT` for a thread without one.
pub fn space() -> Result<Arc<AddressSpace>> {
    current().mm().ok_or(Errno::EFAULT)
}
