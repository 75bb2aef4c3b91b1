//! Local descriptor tables, which this processor does not have.

use abi::Errno;

use super::asid::MmContext;

/// Bytes that reading the default table gives.
pub const DEFAULT_LEN: usize = 0;
/// Most bytes of a table.
pub const MAX_LEN: usize = 0;

/// Copies the table, as far as `out` reaches; how many bytes it was.
pub fn read(_mm: &MmContext, _out: &mut [u8]) -> usize {
    0
}

/// Changes a descriptor of the running program's table.
///
/// # Errors
/// `ENOSYS`.
pub fn write(_mm: &MmContext, _data: &[u8; 16], _old: bool) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

/// Gives the new space `to` the table of `from`.
///
/// # Errors
/// None.
pub fn copy(_from: &MmContext, _to: &MmContext) -> Result<(), Errno> {
    Ok(())
}
