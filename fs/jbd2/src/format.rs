//! The journal's format on disk: Linux's `Documentation/filesystems/ext4/journal.rst`. All numbers are big-endian.

use bitflags::bitflags;

use crate::checksum::crc32c;

/// The first four bytes of every block that is the journal's own.
pub const MAGIC: u32 = 0xC03B_3998;
/// Length of the header that follows: magic, type, sequence.
pub const HEADER: usize = 12;

/// Types of the journal's own blocks (`h_blocktype`).
pub mod kind {
    /// Says where the blocks behind it belong.
    pub const DESCRIPTOR: u32 = 1;
    /// Ends a transaction.
    pub const COMMIT: u32 = 2;
    /// Super block of the first version.
    pub const SUPER_V1: u32 = 3;
    /// Super block of the second version.
    pub const SUPER_V2: u32 = 4;
    /// Blocks that are not to be replayed.
    pub const REVOKE: u32 = 5;
}

/// `s_feature_compat`: transactions have a CRC32 of all their blocks in the commit block.
pub const COMPAT_CHECKSUM: u32 = 1;
/// `s_checksum_type`: CRC32c.
pub const TYPE_CRC32C: u8 = 4;
/// `h_chksum_type` of a commit block with [`COMPAT_CHECKSUM`]: CRC32.
pub const COMMIT_CRC32: u8 = 1;

bitflags! {
    /// `s_feature_incompat`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Incompat: u32 {
        /// There may be revoke blocks.
        const REVOKE = 1;
        /// Block numbers have 64 bits.
        const BIG_BLOCKS = 2;
        /// A commit block may have reached the disk before what it commits.
        const ASYNC_COMMIT = 4;
        /// Checksums, second version.
        const CSUM_V2 = 8;
        /// Checksums, third version.
        const CSUM_V3 = 16;
        /// Fast commits behind the log.
        const FAST_COMMIT = 32;
    }
}

bitflags! {
    /// Flags of a tag.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TagFlags: u32 {
        /// The block began with [`MAGIC`], and its first four bytes are zero in the log.
        const ESCAPE = 1;
        /// No UUID follows.
        const SAME_UUID = 2;
        /// Freed in the same transaction.
        const DELETED = 4;
        /// The last tag of its block.
        const LAST = 8;
    }
}

/// Positions in the super block, in bytes.
pub mod sb {
    /// Length.
    pub const SIZE: usize = 1024;
    /// `s_blocksize`.
    pub const BLOCK_SIZE: usize = 0x0c;
    /// `s_maxlen`.
    pub const MAX_LEN: usize = 0x10;
    /// `s_first`.
    pub const FIRST: usize = 0x14;
    /// `s_sequence`.
    pub const SEQUENCE: usize = 0x18;
    /// `s_start`.
    pub const START: usize = 0x1c;
    /// `s_errno`.
    pub const ERRNO: usize = 0x20;
    /// `s_feature_compat`.
    pub const COMPAT: usize = 0x24;
    /// `s_feature_incompat`.
    pub const INCOMPAT: usize = 0x28;
    /// `s_feature_ro_compat`.
    pub const RO_COMPAT: usize = 0x2c;
    /// `s_uuid`.
    pub const UUID: usize = 0x30;
    /// `s_nr_users`.
    pub const USERS: usize = 0x40;
    /// `s_checksum_type`.
    pub const CHECKSUM_TYPE: usize = 0x50;
    /// `s_num_fc_blks`.
    pub const FAST_COMMIT_BLOCKS: usize = 0x54;
    /// `s_head`.
    pub const HEAD: usize = 0x58;
    /// `s_checksum`.
    pub const CHECKSUM: usize = 0xfc;
}

/// Positions in a commit block.
pub mod commit {
    /// `h_chksum_type`.
    pub const CHECKSUM_TYPE: usize = 0x0c;
    /// `h_chksum_size`.
    pub const CHECKSUM_SIZE: usize = 0x0d;
    /// `h_chksum[0]`.
    pub const CHECKSUM: usize = 0x10;
    /// `h_commit_sec`.
    pub const SECONDS: usize = 0x30;
    /// `h_commit_nsec`.
    pub const NANOSECONDS: usize = 0x38;
}

/// `r_count` of a revoke block: bytes in use.
pub const REVOKE_COUNT: usize = 0x0c;
/// Where its block numbers begin.
pub const REVOKE_FIRST: usize = 0x10;
/// The checksum at the end of descriptor and revoke blocks.
pub const TAIL: usize = 4;
/// The UUID behind a tag without [`TagFlags::SAME_UUID`].
pub const UUID: usize = 16;

/// A number at `at`; 0 if the bytes end before.
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The same of 16 bits.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// The same of 64 bits.
#[inline]
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Writes `value` at `at`, if there is room.
#[inline]
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(part) = bytes.get_mut(at..at + N) {
        part.copy_from_slice(&value);
    }
}

/// The header of a block: type and sequence, if it is one of the journal's own.
pub fn header(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.len() >= HEADER && be32(bytes, 0) == MAGIC).then(|| (be32(bytes, 4), be32(bytes, 8)))
}

/// Writes a header.
pub fn put_header(bytes: &mut [u8], kind: u32, sequence: u32) {
    put(bytes, 0, MAGIC.to_be_bytes());
    put(bytes, 4, kind.to_be_bytes());
    put(bytes, 8, sequence.to_be_bytes());
}

/// What a tag says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Where it belongs.
    pub block: u64,
    /// How.
    pub flags: TagFlags,
    /// Of the block as it is in the log: all of it in version 3, the lower half in version 2.
    pub checksum: u32,
}

/// How blocks of a journal look, by its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bytes in a block.
    pub block_size: usize,
    /// Features.
    pub incompat: Incompat,
    /// The seed of its checksums.
    pub seed: u32,
}

impl Format {
    /// Whether its own blocks have checksums.
    pub fn has_checksums(&self) -> bool {
        self.incompat.intersects(Incompat::CSUM_V2 | Incompat::CSUM_V3)
    }

    fn is_big(&self) -> bool {
        self.incompat.contains(Incompat::BIG_BLOCKS)
    }

    /// Bytes in a tag.
    pub fn tag_size(&self) -> usize {
        if self.incompat.contains(Incompat::CSUM_V3) {
            return 16;
        }
        let checksum = if self.incompat.contains(Incompat::CSUM_V2) { 2 } else { 0 };
        8 + checksum + if self.is_big() { 4 } else { 0 }
    }

    /// Bytes of a descriptor or revoke block before its tail.
    fn body(&self) -> usize {
        self.block_size - if self.has_checksums() { TAIL } else { 0 }
    }

    /// So many tags fit into a descriptor block that has one UUID.
    pub fn tags_per_block(&self) -> usize {
        (self.body() - HEADER - UUID) / self.tag_size()
    }

    fn revoke_size(&self) -> usize {
        if self.is_big() { 8 } else { 4 }
    }

    /// So many block numbers fit into a revoke block.
    pub fn revokes_per_block(&self) -> usize {
        (self.body() - REVOKE_FIRST) / self.revoke_size()
    }

    /// Whether a tag can name `block`.
    pub fn can_name(&self, block: u64) -> bool {
        self.is_big() || block <= u64::from(u32::MAX)
    }

    /// Writes the `index`-th tag of a descriptor block.
    pub fn put_tag(&self, bytes: &mut [u8], index: usize, tag: &Tag) {
        let at = HEADER + index * self.tag_size() + if index == 0 { 0 } else { UUID };
        let high = ((tag.block >> 32) as u32).to_be_bytes();
        put(bytes, at, (tag.block as u32).to_be_bytes());
        if self.incompat.contains(Incompat::CSUM_V3) {
            put(bytes, at + 4, tag.flags.bits().to_be_bytes());
            put(bytes, at + 8, high);
            put(bytes, at + 12, tag.checksum.to_be_bytes());
            return;
        }
        put(bytes, at + 4, (tag.checksum as u16).to_be_bytes());
        put(bytes, at + 6, (tag.flags.bits() as u16).to_be_bytes());
        if self.is_big() {
            put(bytes, at + 8, high);
        }
    }

    /// The tags of a descriptor block, in order; ends with the last that is whole.
    pub fn tags<'a>(&self, bytes: &'a [u8]) -> Tags<'a> {
        Tags { format: *self, bytes, at: HEADER, over: false }
    }

    /// The block numbers of a revoke block; `None` if it claims more than it can have.
    pub fn revoked<'a>(&self, bytes: &'a [u8]) -> Option<impl Iterator<Item = u64> + 'a> {
        let (end, size, big) = (be32(bytes, REVOKE_COUNT) as usize, self.revoke_size(), self.is_big());
        let entries = bytes.get(REVOKE_FIRST..end).filter(|_| end <= self.body())?;
        Some(entries.chunks_exact(size).map(move |entry| match big {
            true => be64(entry, 0),
            false => u64::from(be32(entry, 0)),
        }))
    }

    /// Writes the `index`-th number of a revoke block, and that there are so many.
    pub fn put_revoked(&self, bytes: &mut [u8], index: usize, block: u64) {
        let size = self.revoke_size();
        let at = REVOKE_FIRST + index * size;
        if self.is_big() {
            put(bytes, at, block.to_be_bytes());
        } else {
            put(bytes, at, (block as u32).to_be_bytes());
        }
        put(bytes, REVOKE_COUNT, ((at + size) as u32).to_be_bytes());
    }

    /// The checksum of a data block in the log.
    pub fn data_checksum(&self, sequence: u32, bytes: &[u8]) -> u32 {
        crc32c(crc32c(self.seed, &sequence.to_be_bytes()), bytes)
    }

    /// Whether `tag` has the right checksum for a data block.
    pub fn data_is_right(&self, sequence: u32, tag: &Tag, bytes: &[u8]) -> bool {
        if self.incompat.contains(Incompat::CSUM_V3) {
            return tag.checksum == self.data_checksum(sequence, bytes);
        }
        !self.incompat.contains(Incompat::CSUM_V2)
            || tag.checksum == self.data_checksum(sequence, bytes) & 0xffff
    }

    /// The checksum of a whole block whose checksum is at `at`.
    fn block_checksum(&self, bytes: &[u8], at: usize) -> u32 {
        let (before, rest) = bytes.split_at(at.min(bytes.len()));
        let after = rest.get(4..).unwrap_or_default();
        crc32c(crc32c(crc32c(self.seed, before), &[0; 4]), after)
    }

    /// Writes the tail of a descriptor or revoke block.
    pub fn seal(&self, bytes: &mut [u8]) {
        self.seal_at(bytes, bytes.len() - TAIL);
    }

    /// Writes the checksum of a commit block.
    pub fn seal_commit(&self, bytes: &mut [u8]) {
        self.seal_at(bytes, commit::CHECKSUM);
    }

    fn seal_at(&self, bytes: &mut [u8], at: usize) {
        if self.has_checksums() {
            let checksum = self.block_checksum(bytes, at);
            put(bytes, at, checksum.to_be_bytes());
        }
    }

    /// Whether the tail of a descriptor or revoke block is right.
    pub fn is_sealed(&self, bytes: &[u8]) -> bool {
        self.is_sealed_at(bytes, bytes.len() - TAIL)
    }

    /// Whether the checksum of a commit block is right.
    pub fn commit_is_sealed(&self, bytes: &[u8]) -> bool {
        self.is_sealed_at(bytes, commit::CHECKSUM)
    }

    fn is_sealed_at(&self, bytes: &[u8], at: usize) -> bool {
        !self.has_checksums() || be32(bytes, at) == self.block_checksum(bytes, at)
    }
}

/// See [`Format::tags`].
pub struct Tags<'a> {
    format: Format,
    bytes: &'a [u8],
    at: usize,
    over: bool,
}

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let size = self.format.tag_size();
        let end = self.format.body().min(self.bytes.len());
        if self.over || self.at + size > end {
            return None;
        }
        let (bytes, at, big) = (self.bytes, self.at, self.format.is_big());
        let high = |at| if big { u64::from(be32(bytes, at)) << 32 } else { 0 };
        let low = u64::from(be32(bytes, at));
        let (flags, high, checksum) = if self.format.incompat.contains(Incompat::CSUM_V3) {
            (be32(bytes, at + 4), high(at + 8), be32(bytes, at + 12))
        } else {
            (u32::from(be16(bytes, at + 6)), high(at + 8), u32::from(be16(bytes, at + 4)))
        };
        let flags = TagFlags::from_bits_retain(flags);
        self.at += size + if flags.contains(TagFlags::SAME_UUID) { 0 } else { UUID };
        self.over = flags.contains(TagFlags::LAST);
        Some(Tag { block: high | low, flags, checksum })
    }
}
