//! What a disk says of itself (5.2.4), and what the block layer makes of it.

use block::Limits;
use block::bio::SECTOR_SIZE;
use block::limits::Features as Can;

use crate::virtio::Device;

/// Features of disks (5.2.3).
pub mod feature {
    /// Pieces have a size at most.
    pub const SIZE_MAX: u64 = 1 << 1;
    /// Requests have so many pieces at most.
    pub const SEG_MAX: u64 = 1 << 2;
    /// It has a geometry.
    pub const GEOMETRY: u64 = 1 << 4;
    /// It cannot be written.
    pub const RO: u64 = 1 << 5;
    /// It says how large its blocks are.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// It has a cache that can be flushed.
    pub const FLUSH: u64 = 1 << 9;
    /// It says which transfers are good.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// Its cache can be switched between write-back and write-through.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// It has several queues.
    pub const MQ: u64 = 1 << 12;
    /// It can discard.
    pub const DISCARD: u64 = 1 << 13;
    /// It can write zeroes.
    pub const WRITE_ZEROES: u64 = 1 << 14;

    /// All that the driver can make use of.
    pub const WANTED: u64 = SIZE_MAX
        | SEG_MAX
        | GEOMETRY
        | RO
        | BLK_SIZE
        | FLUSH
        | TOPOLOGY
        | CONFIG_WCE
        | MQ
        | DISCARD
        | WRITE_ZEROES;
}

/// Offsets in its configuration.
mod at {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const CYLINDERS: usize = 16;
    pub const HEADS: usize = 18;
    pub const SECTORS: usize = 19;
    pub const BLK_SIZE: usize = 20;
    pub const PHYSICAL_EXPONENT: usize = 24;
    pub const MIN_IO: usize = 26;
    pub const OPT_IO: usize = 28;
    pub const WRITEBACK: usize = 32;
    pub const NUM_QUEUES: usize = 34;
    pub const MAX_DISCARD: usize = 36;
    pub const DISCARD_ALIGNMENT: usize = 44;
    pub const MAX_WRITE_ZEROES: usize = 48;
    pub const MAY_UNMAP: usize = 56;
}

/// The most pieces of data in a request.
const MAX_PIECES: u32 = 254;

fn word(device: &Device, feature: u64, offset: usize) -> Option<u32> {
    if !device.has(feature) {
        return None;
    }
    device.config(|transport| transport.config32(offset))
}

fn byte(device: &Device, feature: u64, offset: usize) -> Option<u8> {
    if !device.has(feature) {
        return None;
    }
    device.config(|transport| transport.config8(offset))
}

fn half(device: &Device, feature: u64, offset: usize) -> Option<u16> {
    if !device.has(feature) {
        return None;
    }
    device.config(|transport| transport.config16(offset))
}

/// Its length in sectors.
pub fn capacity(device: &Device) -> u64 {
    let read = |offset| {
        device.config(|transport| Some((transport.config32(offset)?, transport.config32(offset + 4)?)))
    };
    read(at::CAPACITY)
        .map_or(0, |(low, high)| u64::from(low) | u64::from(high) << 32)
        .min(u64::MAX / SECTOR_SIZE)
}

/// How many queues it has.
pub fn queues(device: &Device) -> usize {
    half(device, feature::MQ, at::NUM_QUEUES).map_or(1, usize::from).max(1)
}

/// Heads, sectors, cylinders.
pub fn geometry(device: &Device) -> Option<(u8, u8, u16)> {
    let cylinders = half(device, feature::GEOMETRY, at::CYLINDERS)?;
    let heads = byte(device, feature::GEOMETRY, at::HEADS)?;
    Some((heads, byte(device, feature::GEOMETRY, at::SECTORS)?, cylinders))
}

/// Whether it may lose what was not flushed.
pub fn has_cache(device: &Device) -> bool {
    match byte(device, feature::CONFIG_WCE, at::WRITEBACK) {
        Some(on) => on != 0,
        None => device.has(feature::FLUSH),
    }
}

/// Switches its cache.
pub fn set_cache(device: &Device, on: bool) {
    device.set_config8(at::WRITEBACK, on.into());
}

/// Whether blocks that are to be zero may be given up.
pub fn may_unmap(device: &Device) -> bool {
    byte(device, feature::WRITE_ZEROES, at::MAY_UNMAP).is_some_and(|may| may != 0)
}

/// What it can do. Without tables of descriptors, requests have few pieces: `direct`.
pub fn limits(device: &Device, direct: bool) -> Limits {
    let mut limits =
        Limits { max_hw_sectors: u32::MAX, features: Can::IO_STAT | Can::ROTATIONAL, ..Limits::default() };
    let most = if direct { 14 } else { MAX_PIECES };
    let pieces = word(device, feature::SEG_MAX, at::SEG_MAX).unwrap_or(1);
    limits.max_segments = pieces.clamp(1, most) as u16;
    limits.max_segment_size = word(device, feature::SIZE_MAX, at::SIZE_MAX).unwrap_or(u32::MAX);
    limits.seg_boundary_mask = u64::MAX;
    limits.dma_alignment = 3;
    let block = word(device, feature::BLK_SIZE, at::BLK_SIZE).unwrap_or(512);
    limits.logical_block_size = block;
    if let Some(exponent) = byte(device, feature::TOPOLOGY, at::PHYSICAL_EXPONENT) {
        limits.physical_block_size = block.checked_shl(exponent.into()).unwrap_or(block);
    }
    if let Some(blocks) = half(device, feature::TOPOLOGY, at::MIN_IO) {
        limits.io_min = block.saturating_mul(blocks.into());
    }
    if let Some(blocks) = word(device, feature::TOPOLOGY, at::OPT_IO) {
        limits.io_opt = block.saturating_mul(blocks);
    }
    if let Some(most) = word(device, feature::DISCARD, at::MAX_DISCARD) {
        limits.max_discard_sectors = if most == 0 { u32::MAX } else { most };
        let alignment = word(device, feature::DISCARD, at::DISCARD_ALIGNMENT).unwrap_or(0);
        limits.discard_granularity = alignment.saturating_mul(512).max(block);
    }
    if let Some(most) = word(device, feature::WRITE_ZEROES, at::MAX_WRITE_ZEROES) {
        limits.max_write_zeroes_sectors = if most == 0 { u32::MAX } else { most };
    }
    if has_cache(device) {
        limits.features |= Can::WRITE_CACHE;
    }
    limits
}
