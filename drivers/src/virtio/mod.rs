//! virtio: OASIS Virtual I/O Device 1.2, without what is called legacy there.
//!
//! | file | what it owns |
//! |---|---|
//! | [`queue`] | virtqueues, split and packed |
//! | [`transport`] | what is common to the ways a device is reached |
//! | [`pci`] | devices on PCI |
//! | [`mmio`] | devices without a bus |
//! | [`device`] | a device: agreement on features, queues, reset |
//! | [`blk`] | disks |
//!
//! A driver is a [`Driver`] in [`DRIVERS`]. Its `probe` gets a device that is reset and knows that there is a driver:
//!
//! ```ignore
//! let features = device.negotiate(WANTED)?;       // VERSION_1 and features of queues are agreed on for it
//! let queues = device.make_queues(&specs)?;       // memory; the device does not know it yet
//! device.start(queues, callbacks)?;               // interrupts, memory, DRIVER_OK
//! ```
//!
//! What a device says is checked wherever it would matter: sizes, offsets, tokens. A device that misbehaves loses its queue.
//!
//! Locks: a queue's two (interrupts off), leaves; a device's list of queues and a transport's interrupts sleep.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Result;
use bitflags::bitflags;

pub mod blk;
pub mod device;
pub mod mmio;
pub mod pci;
pub mod queue;
pub mod transport;

pub use device::{Device, QueueSpec};
pub use queue::{Done, Piece, Queue};
pub use transport::Callbacks;

bitflags! {
    /// Features that are no matter of the kind of device (chapter 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Tables of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Both sides say by a place in the ring when they want to be told.
        const EVENT_IDX = 1 << 29;
        /// This specification.
        const VERSION_1 = 1 << 32;
        /// Addresses are not physical ones.
        const ACCESS_PLATFORM = 1 << 33;
        /// Packed rings.
        const RING_PACKED = 1 << 34;
        /// Memory is ordered as for a real device.
        const ORDER_PLATFORM = 1 << 36;
    }
}

/// Kinds of devices (chapter 5).
pub mod id {
    /// A disk.
    pub const BLOCK: u32 = 2;
    /// A SCSI host.
    pub const SCSI: u32 = 8;
}

/// All drivers.
pub const DRIVERS: &[&Driver] = &[&blk::DRIVER];

/// A driver.
pub struct Driver {
    /// Its name, as `/sys/bus/virtio/drivers` shows it.
    pub name: &'static str,
    /// The kind of device.
    pub id: u32,
    /// Takes a device into use; may sleep.
    pub probe: fn(&Arc<Device>) -> Result<Box<dyn Bound>>,
}

/// A device in the hands of its driver.
pub trait Bound: Send + Sync {
    /// The device is to be given up; it may be gone already. May sleep.
    fn remove(&self);
}
