//! What buffers, and a journal, need of the device below them.

use abi::Result;
use block::disk::BlockDevice;
use block::{Bio, Plug};
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

impl Device for BlockDevice {
    fn submit(&self, mut bios: Fifo<Bio>) {
        let mut plug = Plug::new();
        while let Some(bio) = bios.pop_front() {
            BlockDevice::submit(self, bio, Some(&mut plug));
        }
        plug.finish();
    }

    fn flush(&self) -> Result<()> {
        BlockDevice::flush(self)
    }

    fn sectors(&self) -> u64 {
        BlockDevice::sectors(self)
    }

    fn is_read_only(&self) -> bool {
        BlockDevice::is_read_only(self)
    }

    fn logical_block_size(&self) -> u32 {
        self.limits().logical_block_size
    }
}
