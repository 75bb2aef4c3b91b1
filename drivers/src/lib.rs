//! Device drivers: one module per device.
//!
//! A driver reaches its hardware only through the safe types of `arch` (`MmioRegion`, `PortRegion`)
//! and `mm::dma`, and registers what it found with the layers above: terminals, consoles, disks;
//! network devices later.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod ahci;
pub mod block;
pub mod console;
pub mod irq;
pub mod mem;
pub mod nvme;
pub mod pci;
pub mod probe;
pub mod resource;
pub mod rtc;
pub mod sd;
pub mod serial;
mod text;
pub mod tty;
pub mod virtio;
