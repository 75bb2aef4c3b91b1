//! Small helpers.

use alloc::vec::Vec;

use abi::{Errno, Result};

/// A copy of `bytes`, or `ENOMEM`.
pub fn try_to_vec(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
