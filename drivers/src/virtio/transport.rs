//! How a virtio device is reached: chapter 4 of the specification.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::mmio::MmioRegion;

use super::queue::Place;

/// The device is to be looked after by its driver: bits of its status register (2.1).
pub mod status {
    /// Somebody has seen it.
    pub const ACKNOWLEDGE: u8 = 1;
    /// There is a driver.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// Features have been agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on without a reset.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}

/// Called in hard interrupt context.
pub type Callback = Box<dyn Fn() + Send + Sync>;

/// What the device tells of, and to whom.
pub struct Callbacks {
    /// Its configuration changed.
    pub config: Callback,
    /// A queue may have something that is done: its number.
    pub queue: Arc<dyn Fn(usize) + Send + Sync>,
}

/// Reaches a device.
pub trait Transport: Send + Sync {
    /// Its features.
    fn features(&self) -> u64;
    /// Those that the driver takes.
    fn set_features(&self, features: u64);
    /// Its status.
    fn status(&self) -> u8;
    /// Sets its status; 0 resets it.
    fn set_status(&self, status: u8);
    /// Changes whenever its configuration does.
    fn generation(&self) -> u32;
    /// A byte of its configuration; `None` beyond its end.
    fn config8(&self, offset: usize) -> Option<u8>;
    /// Two bytes at a multiple of two.
    fn config16(&self, offset: usize) -> Option<u16>;
    /// Four bytes at a multiple of four.
    fn config32(&self, offset: usize) -> Option<u32>;
    /// Writes a byte of its configuration.
    fn set_config8(&self, offset: usize, value: u8);
    /// Places of a queue at most; 0: there is no such queue.
    fn queue_size(&self, index: u16) -> u16;
    /// Gives the device the memory of a queue, and switches that on.
    ///
    /// # Errors
    /// `ENODEV`: it does not take it; `EINVAL`.
    fn set_queue(&self, index: u16, size: u16, place: Place) -> Result<Notify>;
    /// Gets interrupts for the first `queues` queues. `names`: what follows the device's name in `/proc/interrupts`.
    ///
    /// # Errors
    /// `ENOSPC`: there are none; `ENOMEM`.
    fn connect(&self, device: &str, names: &[&str], callbacks: Callbacks) -> Result<()>;
    /// No interrupts any more. No handler runs when it returns. May sleep.
    fn disconnect(&self);
    /// Where the interrupts of a queue go, if it has its own.
    fn set_affinity(&self, _queue: usize, _cpus: CpuMask) -> bool {
        false
    }
    /// Whether nothing answers any more.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Where a device is told that a queue has something new.
#[derive(Clone)]
pub struct Notify {
    region: Arc<MmioRegion>,
    offset: usize,
    width: Width,
}

/// How wide the register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    Half,
    Whole,
}

impl Notify {
    /// A register at `offset`.
    ///
    /// # Errors
    /// `EINVAL`: it is not within the region.
    pub(super) fn register(region: &Arc<MmioRegion>, offset: usize, width: Width) -> Result<Self> {
        let size = if width == Width::Half { 2 } else { 4 };
        let fits = offset.checked_add(size).is_some_and(|end| end <= region.len());
        if !fits
            || !(region.phys().0 as usize).wrapping_add(offset).is_multiple_of(size)
            || !offset.is_multiple_of(size)
        {
            return Err(Errno::EINVAL);
        }
        Ok(Self { region: region.clone(), offset, width })
    }

    /// Tells the device about queue `index`.
    #[inline]
    pub(super) fn notify(&self, index: u16) {
        match self.width {
            Width::Half => self.region.write16(self.offset, index),
            Width::Whole => self.region.write32(self.offset, index.into()),
        }
    }
}
