//! Addresses that the architecture itself drives: for `/proc/iomem` and `/proc/ioports`.
#![cfg_attr(not(target_os = "none"), allow(dead_code))] // the host has no devices to report

pub use crate::imp::resource::for_each;

/// Which addresses are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// Physical memory.
    Memory,
    /// I/O ports.
    Ports,
}

/// A range of addresses with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// Of which kind.
    pub space: Space,
    /// First.
    pub start: u64,
    /// Last.
    pub last: u64,
    /// What is there.
    pub name: &'static str,
}

impl Used {
    /// `len` bytes of physical memory.
    pub(crate) const fn memory(start: u64, len: u64, name: &'static str) -> Self {
        Self { space: Space::Memory, start, last: start + (len - 1), name }
    }
}
