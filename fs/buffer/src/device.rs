//! What buffers, and a journal, need of the device below them.

use abi::Result;
use block::Bio;
use collections::fifo::Fifo;

/// A block device, or something that stands for one in tests.
pub trait Device: Send + Sync {
    /// Gives bios to the device together, so that neighbours can be joined. Each comes back to its `EndIo`, in any order. May sleep.
    fn submit(&self, bios: Fifo<Bio>);

    /// What the device has taken survives a power cut from now on. At once without a write cache.
    ///
    /// # Errors
    /// The device's.
    fn flush(&self) -> Result<()>;

    /// Its size, in 512-byte sectors.
    fn sectors(&self) -> u64;

    /// Whether it refuses to be written.
    fn is_read_only(&self) -> bool;

    /// The smallest unit of a transfer, in bytes.
    fn logical_block_size(&self) -> u32;
}
