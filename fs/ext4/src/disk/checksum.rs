//! CRC32c and CRC16, and the checksums of each structure (`metadata_csum`, `uninit_bg`).
//!
//! All checksums begin with a seed of the file system, and those of what belongs to an inode with one of that inode, so
//! that a block in the wrong place does not pass.

use crc::{Algorithm, Crc, Table};

use super::features::{Incompat, RoCompat};
use super::inode::extra_end;
use super::super_block::SuperBlock;
use super::{at, dir, extent, group, htree, inode, mmp, orphan, super_block, xattr};

/// CRC32c (Castagnoli) without the final inversion: what is stored is the register itself.
const CASTAGNOLI: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0x58e3_fa20,
    residue: 0,
};

/// CRC16 with the polynomial 0x8005, reflected.
const CRC16: Algorithm<u16> = Algorithm {
    width: 16,
    poly: 0x8005,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0xbb3d,
    residue: 0,
};

static CRC32C_TABLE: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CASTAGNOLI);
static CRC16_TABLE: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC16);

/// CRC32c of `bytes`, going on from `crc`. A first one begins with `!0`.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C_TABLE.digest_with_initial(crc.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC16 of `bytes`, going on from `crc`.
pub fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    let mut digest = CRC16_TABLE.digest_with_initial(crc.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// `checksum_type` of the super block: CRC32c, the only one.
pub const TYPE_CRC32C: u8 = 1;

/// The seed of an inode and of what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeSeed(pub u32);

/// Which checksums a file system has, and what they begin with.
#[derive(Clone, Copy, Debug)]
pub struct Checksums {
    /// The feature `metadata_csum`.
    pub metadata: bool,
    /// The feature `uninit_bg` without the one above: group descriptors have a CRC16.
    pub gdt: bool,
    /// The seed of the file system.
    pub seed: u32,
    uuid: [u8; 16],
    incompat_64: bool,
}

/// The checksum of a super block, which has no seed.
pub fn super_block(bytes: &[u8]) -> u32 {
    crc32c(!0, bytes.get(..super_block::SIZE - 4).unwrap_or_default())
}

impl Checksums {
    /// What a super block says.
    pub fn new(sb: &SuperBlock) -> Self {
        let metadata = sb.ro_compat().contains(RoCompat::METADATA_CSUM);
        let seed = match sb.incompat().contains(Incompat::CSUM_SEED) {
            true => sb.checksum_seed.get(),
            false => crc32c(!0, &sb.uuid),
        };
        Self {
            metadata,
            gdt: !metadata && sb.ro_compat().contains(RoCompat::GDT_CSUM),
            seed,
            uuid: sb.uuid,
            incompat_64: sb.incompat().contains(Incompat::BITS_64),
        }
    }

    /// Whether group descriptors have a checksum.
    pub fn has_groups(&self) -> bool {
        self.metadata || self.gdt
    }

    /// The checksum of a group descriptor; `desc` is all of it.
    pub fn group(&self, group: u32, desc: &[u8]) -> u16 {
        let (before, after) = desc.split_at_checked(group::CHECKSUM_OFFSET).unwrap_or_default();
        let after = after.get(2..).unwrap_or_default();
        let number = group.to_le_bytes();
        if self.metadata {
            let crc = crc32c(crc32c(self.seed, &number), before);
            return crc32c(crc32c(crc, &[0; 2]), after) as u16;
        }
        if !self.gdt {
            return 0;
        }
        let crc = crc16(crc16(crc16(!0, &self.uuid), &number), before);
        if self.incompat_64 { crc16(crc, after) } else { crc }
    }

    /// The checksum of a bitmap; `bitmap` is as many bytes as count. A descriptor of 32 bytes has room for the lower half.
    pub fn bitmap(&self, bitmap: &[u8], desc_size: usize) -> u32 {
        let crc = crc32c(self.seed, bitmap);
        if desc_size >= group::SIZE_64 { crc } else { crc & 0xffff }
    }

    /// The seed of an inode.
    pub fn inode_seed(&self, ino: u32, generation: u32) -> InodeSeed {
        InodeSeed(crc32c(crc32c(self.seed, &ino.to_le_bytes()), &generation.to_le_bytes()))
    }

    /// The checksum of an inode; `raw` is all of it. What has no room for the upper half has the lower.
    pub fn inode(&self, seed: InodeSeed, raw: &[u8]) -> u32 {
        let lo = inode::CHECKSUM_LO_OFFSET;
        let hi = inode::CHECKSUM_HI_OFFSET;
        let part = |from: usize, to: usize| raw.get(from..to).unwrap_or_default();
        let mut crc = crc32c(seed.0, part(0, lo));
        crc = crc32c(crc, &[0; 2]);
        crc = crc32c(crc, part(lo + 2, inode::CORE_SIZE));
        if raw.len() <= inode::CORE_SIZE {
            return crc & 0xffff;
        }
        crc = crc32c(crc, part(inode::CORE_SIZE, hi));
        if !inode_has_high_checksum(raw) {
            return crc32c(crc, part(hi, raw.len())) & 0xffff;
        }
        crc = crc32c(crc, &[0; 2]);
        crc32c(crc, part(hi + 2, raw.len()))
    }

    /// Whether an inode has the checksum that it should have.
    pub fn inode_is_right(&self, seed: InodeSeed, raw: &[u8]) -> bool {
        !self.metadata || stored_inode_checksum(raw) == Some(self.inode(seed, raw))
    }

    /// Gives an inode its checksum. Nothing without `metadata_csum`.
    pub fn set_inode(&self, seed: InodeSeed, raw: &mut [u8]) {
        if !self.metadata {
            return;
        }
        let crc = self.inode(seed, raw).to_le_bytes();
        let high = raw.len() > inode::CORE_SIZE && inode_has_high_checksum(raw);
        let [a, b, c, d] = crc;
        put(raw, inode::CHECKSUM_LO_OFFSET, &[a, b]);
        if high {
            put(raw, inode::CHECKSUM_HI_OFFSET, &[c, d]);
        }
    }

    /// Whether a node of an extent tree in a block of its own has the right checksum.
    pub fn extent_is_right(&self, seed: InodeSeed, node: &[u8]) -> bool {
        if !self.metadata {
            return true;
        }
        let Some(header) = at::<extent::Header>(node, 0) else { return false };
        let end = extent::tail_offset(header.max.get());
        let Some(tail) = at::<extent::Tail>(node, end) else { return false };
        node.get(..end).is_some_and(|bytes| crc32c(seed.0, bytes) == tail.checksum.get())
    }

    /// Gives a node of an extent tree in a block of its own its checksum.
    pub fn set_extent(&self, seed: InodeSeed, node: &mut [u8]) {
        if !self.metadata {
            return;
        }
        let Some(header) = at::<extent::Header>(node, 0) else { return };
        let end = extent::tail_offset(header.max.get());
        let crc = crc32c(seed.0, node.get(..end).unwrap_or_default());
        put(node, end, &crc.to_le_bytes());
    }

    /// Whether a directory block has the right checksum.
    pub fn dir_is_right(&self, seed: InodeSeed, block: &[u8]) -> bool {
        if !self.metadata {
            return true;
        }
        let Some(tail) = dir::tail(block) else { return false };
        let bytes = block.get(..block.len() - dir::TAIL_SIZE).unwrap_or_default();
        crc32c(seed.0, bytes) == tail.checksum.get()
    }

    /// Gives a directory block its tail, with the checksum. The last 12 bytes are not an entry's.
    pub fn set_dir(&self, seed: InodeSeed, block: &mut [u8]) {
        if !self.metadata {
            return;
        }
        let Some(end) = block.len().checked_sub(dir::TAIL_SIZE) else { return };
        let crc = crc32c(seed.0, block.get(..end).unwrap_or_default());
        if let Some(tail) = super::at_mut::<dir::Tail>(block, end) {
            *tail = dir::Tail::new();
            tail.checksum.set(crc);
        }
    }

    /// The checksum of a node of a hash tree whose places begin at `offset`, and where it is; none if its counts are not possible.
    pub fn htree(&self, seed: InodeSeed, block: &[u8], offset: usize) -> Option<(u32, usize)> {
        let counts: &htree::CountLimit = at(block, offset)?;
        let place = size_of::<htree::Place>();
        let used = offset + usize::from(counts.count.get()) * place;
        let tail = offset + usize::from(counts.limit.get()) * place;
        if counts.count.get() > counts.limit.get() {
            return None;
        }
        let crc = crc32c(seed.0, block.get(..used)?);
        let crc = crc32c(crc, block.get(tail..tail + 4)?);
        block.get(tail..tail + size_of::<htree::Tail>())?;
        Some((crc32c(crc, &[0; 4]), tail + 4))
    }

    /// Whether a node of a hash tree has the right checksum.
    pub fn htree_is_right(&self, seed: InodeSeed, block: &[u8], offset: usize) -> bool {
        !self.metadata
            || self.htree(seed, block, offset).is_some_and(|(crc, place)| {
                block.get(place..).and_then(|bytes| bytes.first_chunk()) == Some(&crc.to_le_bytes())
            })
    }

    /// Gives a node of a hash tree its checksum.
    pub fn set_htree(&self, seed: InodeSeed, block: &mut [u8], offset: usize) {
        if self.metadata
            && let Some((crc, place)) = self.htree(seed, block, offset)
        {
            put(block, place, &crc.to_le_bytes());
        }
    }

    /// The checksum of block `number` of extended attributes.
    pub fn xattr(&self, number: u64, block: &[u8]) -> u32 {
        let (before, after) = block.split_at_checked(xattr::CHECKSUM_OFFSET).unwrap_or_default();
        let crc = crc32c(crc32c(self.seed, &number.to_le_bytes()), before);
        crc32c(crc32c(crc, &[0; 4]), after.get(4..).unwrap_or_default())
    }

    /// Whether a block of extended attributes has the right checksum.
    pub fn xattr_is_right(&self, number: u64, block: &[u8]) -> bool {
        let stored = at::<xattr::BlockHeader>(block, 0).map(|header| header.checksum.get());
        !self.metadata || stored == Some(self.xattr(number, block))
    }

    /// Gives a block of extended attributes its checksum.
    pub fn set_xattr(&self, number: u64, block: &mut [u8]) {
        if self.metadata {
            let crc = self.xattr(number, block);
            put(block, xattr::CHECKSUM_OFFSET, &crc.to_le_bytes());
        }
    }

    /// The hash of a value that has an inode of its own.
    pub fn ea_inode(&self, value: &[u8]) -> u32 {
        crc32c(self.seed, value)
    }

    /// The checksum of block `number` (of the device) of the orphan file, whose inode has `seed`.
    pub fn orphan(&self, seed: InodeSeed, number: u64, block: &[u8]) -> u32 {
        let inodes = block.get(..orphan::inodes_in_block(block.len()) * 4).unwrap_or_default();
        crc32c(crc32c(seed.0, &number.to_le_bytes()), inodes)
    }

    /// The checksum of the block of [`mmp`].
    pub fn mmp(&self, block: &[u8]) -> u32 {
        crc32c(self.seed, block.get(..mmp::CHECKSUM_OFFSET).unwrap_or_default())
    }
}

/// Whether the upper half of the checksum is among the fields that an inode of more than 128 bytes has.
fn inode_has_high_checksum(raw: &[u8]) -> bool {
    at::<inode::Extra>(raw, inode::CORE_SIZE).is_some_and(|extra| extra.has(extra_end::CHECKSUM))
}

fn stored_inode_checksum(raw: &[u8]) -> Option<u32> {
    let core: &inode::Core = at(raw, 0)?;
    let low = u32::from(core.checksum_lo.get());
    if raw.len() > inode::CORE_SIZE && inode_has_high_checksum(raw) {
        let extra: &inode::Extra = at(raw, inode::CORE_SIZE)?;
        return Some(low | u32::from(extra.checksum_hi.get()) << 16);
    }
    Some(low)
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..value.len())) {
        place.copy_from_slice(value);
    }
}
