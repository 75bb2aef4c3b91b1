//! Small helpers.

use alloc::vec::Vec;
use core::fmt;

use abi::Result;

/// A copy of `bytes`, or `ENOMEM`.
pub fn try_to_vec(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(mm::try_to_vec(bytes)?)
}

/// Shows bytes that need not be UTF-8, the others as U+FFFD.
pub struct Lossy<'a>(pub &'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}
