//! What a controller says of itself and of its namespaces.

use alloc::string::String;

use abi::{Errno, Result};
use mm::dma::Coherent;
use mm::fallible::TryVec;

use super::regs::PAGE_SHIFT;
use crate::text::printable;

/// A structure that the controller filled in.
pub struct Page<'a>(pub &'a Coherent<u8>);

impl Page<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|byte| self.0.read(at + byte).unwrap_or_default())
    }

    fn u8(&self, at: usize) -> u8 {
        self.bytes::<1>(at)[0]
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    /// Text without the blanks around it.
    fn text(&self, at: usize, len: usize) -> Result<String> {
        printable((at..at + len).map(|at| self.u8(at)))
    }
}

/// The controller.
#[derive(Debug, PartialEq, Eq)]
pub struct Controller {
    /// Who made it.
    pub vendor: u16,
    /// Of what kind.
    pub model: String,
    /// Which one of them.
    pub serial: String,
    /// What runs on it.
    pub firmware: String,
    /// The longest transfer in bytes.
    pub max_transfer: u64,
    /// Whether data may be in a volatile cache.
    pub write_cache: bool,
    /// Whether it takes back unused blocks.
    pub discard: bool,
    /// Whether it writes zeroes by itself.
    pub write_zeroes: bool,
}

impl Controller {
    /// From its structure.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn parse(page: &Page<'_>, min_page_shift: u32) -> Result<Self> {
        let commands = page.u16(520);
        let transfer = u32::from(page.u8(77));
        // In pages, as a power of two; 0: any.
        let max_transfer = if transfer == 0 {
            u64::MAX
        } else {
            1_u64.checked_shl(min_page_shift + transfer).unwrap_or(u64::MAX)
        };
        Ok(Self {
            vendor: page.u16(0),
            serial: page.text(4, 20)?,
            model: page.text(24, 40)?,
            firmware: page.text(64, 8)?,
            max_transfer: max_transfer.max(1 << PAGE_SHIFT),
            write_cache: page.u8(525) & 1 != 0,
            discard: commands & 1 << 2 != 0,
            write_zeroes: commands & 1 << 3 != 0,
        })
    }
}

/// A namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its blocks.
    pub blocks: u64,
    /// log2 of a block's bytes.
    pub shift: u32,
    /// Its identifier, for `wwid`: NGUID, or all zeroes.
    pub guid: [u8; 16],
    /// Its identifier, EUI-64, or all zeroes.
    pub eui: [u8; 8],
}

impl Namespace {
    /// From its structure.
    ///
    /// # Errors
    /// `ENODEV`: its blocks have metadata, or a size that cannot be used.
    pub fn parse(page: &Page<'_>) -> Result<Self> {
        let format = page.u8(26);
        let index = usize::from(format & 0xf | (format & 0x60) >> 1);
        let format = page.u32(128 + 4 * index);
        let (metadata, shift) = (format & 0xffff, format >> 16 & 0xff);
        if metadata != 0 || !(9..=12).contains(&shift) {
            return Err(Errno::ENODEV);
        }
        let blocks = page.u64(0);
        blocks.checked_shl(shift).filter(|bytes| bytes >> shift == blocks).ok_or(Errno::ENODEV)?;
        Ok(Self { blocks, shift, guid: page.bytes(104), eui: page.bytes(120) })
    }
}

/// The active namespaces that a list names, at most as many as a page holds.
pub fn namespaces(page: &Coherent<u8>) -> Result<alloc::vec::Vec<u32>> {
    let mut ids = alloc::vec::Vec::new();
    let page = Page(page);
    for at in (0..super::admin::PAGE).step_by(4) {
        match page.u32(at) {
            0 => break,
            id => ids.try_push(id)?,
        }
    }
    Ok(ids)
}
