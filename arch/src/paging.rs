//! Page tables: the entry format and the geometry; the walks belong to `mm`.

use bitflags::bitflags;

pub use crate::imp::paging::*;

bitflags! {
    /// What a mapping allows, in terms every architecture can encode.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct Prot: u32 {
        /// Loads.
        const READ = 1 << 0;
        /// Stores.
        const WRITE = 1 << 1;
        /// Instruction fetches.
        const EXEC = 1 << 2;
        /// From user mode.
        const USER = 1 << 3;
        /// The same in all address spaces: survives address space switches in the TLB.
        const GLOBAL = 1 << 4;
        /// Not cached, ordered as device memory.
        const DEVICE = 1 << 5;
        /// Not cached, writes may combine.
        const WRITECOMBINE = 1 << 6;
        /// Not cached.
        const NOCACHE = 1 << 7;
        /// The protection key, four bits ([`Self::key`]); 0 where there are none.
        const KEY = 0xf << 8;
    }
}

impl Prot {
    /// Kernel data.
    pub const KERNEL_RW: Self = Self::READ.union(Self::WRITE).union(Self::GLOBAL);
    /// Kernel constants.
    pub const KERNEL_RO: Self = Self::READ.union(Self::GLOBAL);
    /// Kernel code.
    pub const KERNEL_RX: Self = Self::READ.union(Self::EXEC).union(Self::GLOBAL);
    /// Device registers.
    pub const KERNEL_DEVICE: Self = Self::KERNEL_RW.union(Self::DEVICE);

    /// The key of a user page.
    #[inline]
    pub const fn key(self) -> crate::pkey::Key {
        (self.bits() >> 8 & 0xf) as crate::pkey::Key
    }

    /// `key` as bits of a protection.
    #[inline]
    pub const fn of_key(key: crate::pkey::Key) -> Self {
        Self::from_bits_retain((key as u32 & 0xf) << 8)
    }
}

/// A level of the page table; a leaf at level 0 maps 4 KiB, at 1 2 MiB, at 2 1 GiB.
pub type Level = u8;

/// Bytes that one entry of `level` spans.
#[inline]
pub const fn level_size(level: Level) -> usize {
    1 << level_shift(level)
}

/// log2 of [`level_size`].
#[inline]
pub const fn level_shift(level: Level) -> u32 {
    crate::addr::PAGE_SHIFT + 9 * level as u32
}

/// Entries in a table.
pub const ENTRIES: usize = 512;

/// The entry of a table of `level` that translates `va`.
#[inline]
pub const fn index(level: Level, va: usize) -> usize {
    (va >> level_shift(level)) & (ENTRIES - 1)
}

/// The kernel cannot get memory for a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfTables;
