//! What everything that changes the disk needs: dimensions, checksums, the blocks of metadata, and the groups.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use buffer::{Buffer, BufferCache};
use jbd2::Journal;

use crate::disk::checksum::Checksums;
use crate::disk::dir::Format;
use crate::disk::features::{Compat, Incompat, RoCompat};
use crate::disk::hash::Version;
use crate::disk::super_block::{self, SuperBlock};
use crate::disk::{at, at_mut};
use crate::layout::Layout;
use crate::orphan::Orphans;
use crate::space::{Groups, Space};
use crate::tx::Handle;

/// What is on the device is impossible (`EFSCORRUPTED`).
pub const CORRUPT: Errno = Errno::EUCLEAN;
/// What is on the device has another checksum (`EFSBADCRC`).
pub const BAD_CHECKSUM: Errno = Errno::EBADMSG;

/// Who is told that the file system is damaged (`ext4_error`).
pub trait Report: Send + Sync {
    /// `function` found `text` wrong, at an inode and a block, or 0.
    fn damaged(&self, function: &'static str, ino: u32, block: u64, error: Errno, text: fmt::Arguments<'_>);
}

/// A file system that is written. See the module's text.
pub struct Volume {
    /// Dimensions.
    pub layout: Layout,
    /// Checksums.
    pub sums: Checksums,
    /// Metadata in memory.
    pub cache: Arc<BufferCache>,
    /// Features.
    pub compat: Compat,
    /// Features.
    pub incompat: Incompat,
    /// Features.
    pub ro_compat: RoCompat,
    /// The hash of new directories, and the seed of all.
    pub hash: (Version, [u32; 4]),
    /// Whether names are unsigned for old hashes.
    pub unsigned_hash: bool,
    /// The block with the super block.
    pub sb: Arc<Buffer>,
    /// Where it begins there.
    pub sb_offset: usize,
    /// Groups.
    pub groups: Arc<Groups>,
    /// Free space.
    pub space: Space,
    /// Inodes to be removed after a crash.
    pub orphans: Orphans,
    /// The journal.
    pub journal: Option<Arc<Journal>>,
    report: Box<dyn Report>,
}

impl Volume {
    /// The file system of a super block, that is about to be written.
    ///
    /// # Errors
    /// `EROFS` for what cannot be written (`bigalloc`), `EIO`, `ENOMEM`, what the device has.
    pub fn new(
        layout: Layout,
        cache: Arc<BufferCache>,
        sb_offset: usize,
        report: Box<dyn Report>,
        journal: Option<Arc<Journal>>,
    ) -> Result<Self> {
        let sb = cache.read(layout.sb_block)?;
        let data = sb.data();
        let raw: &SuperBlock = at(data.bytes(), sb_offset).ok_or(Errno::EINVAL)?;
        let sums = Checksums::new(raw);
        if raw.ro_compat().contains(RoCompat::BIGALLOC) {
            log::error!("EXT4-fs: writing to a file system with clusters is not supported");
            return Err(Errno::EROFS);
        }
        let groups = mm::try_arc(Groups::read(&layout, &cache)?)?;
        let free = groups.free_clusters();
        let reserved = raw.reserved_blocks_count();
        let space =
            Space::new(free, layout.blocks_count, reserved, raw.incompat().contains(Incompat::EXTENTS))?;
        let unsigned_hash = raw.flags.get() & super_block::FLAG_UNSIGNED_HASH != 0;
        let version = Version::from_disk(raw.def_hash_version, unsigned_hash).unwrap_or(Version::HalfMd4);
        let this = Self {
            layout,
            sums,
            compat: raw.compat(),
            incompat: raw.incompat(),
            ro_compat: raw.ro_compat(),
            hash: (version, raw.hash_seed()),
            unsigned_hash,
            orphans: Orphans::new(raw),
            sb: sb.clone(),
            sb_offset,
            groups,
            space,
            journal,
            report,
            cache,
        };
        Ok(this)
    }

    /// The file system is damaged: tells it, and returns `EFSCORRUPTED`.
    #[cold]
    pub fn damaged(&self, function: &'static str, ino: u32, block: u64, text: fmt::Arguments<'_>) -> Errno {
        self.report.damaged(function, ino, block, CORRUPT, text);
        CORRUPT
    }

    /// A change failed when a part of it was done: tells it.
    #[cold]
    pub(crate) fn failed(&self, function: &'static str, error: Errno) {
        self.report.damaged(function, 0, 0, error, format_args!("a change failed in the middle: {error:?}"));
    }

    /// A checksum is wrong: tells it, and returns `EFSBADCRC`.
    #[cold]
    pub fn bad_checksum(&self, function: &'static str, ino: u32, block: u64) -> Errno {
        self.report.damaged(function, ino, block, BAD_CHECKSUM, format_args!("checksum invalid"));
        BAD_CHECKSUM
    }

    /// Bytes of a block.
    #[inline]
    pub fn block_size(&self) -> usize {
        self.layout.block_size()
    }

    /// How directory entries are read.
    pub fn dir_format(&self) -> Format {
        Format {
            has_types: self.incompat.contains(Incompat::FILETYPE),
            inodes_count: self.layout.inodes_count,
            has_tail: self.sums.metadata,
        }
    }

    /// Changes the super block, with its checksum.
    ///
    /// # Errors
    /// Those of the handle.
    pub fn modify_super<R>(&self, tx: &mut Handle, f: impl FnOnce(&mut SuperBlock) -> R) -> Result<R> {
        let (offset, metadata) = (self.sb_offset, self.sums.metadata);
        tx.modify(&self.sb, |bytes| {
            let part = bytes.get_mut(offset..).unwrap_or_default();
            let result = at_mut::<SuperBlock>(part, 0).map(f);
            if metadata {
                let crc = crate::disk::checksum::super_block(part);
                if let Some(sb) = at_mut::<SuperBlock>(part, 0) {
                    sb.checksum.set(crc);
                }
            }
            result
        })?
        .ok_or(CORRUPT)
    }

    /// Writes the counts of free blocks and inodes into the super block, as at an unmount, a `sync` or a commit.
    ///
    /// # Errors
    /// Those of the handle.
    pub fn write_counts(&self, tx: &mut Handle) -> Result<()> {
        let (blocks, inodes) = (self.space.free(), self.groups.free_inodes());
        self.modify_super(tx, |sb| {
            sb.set_free_clusters_count(blocks);
            sb.free_inodes_count.set(inodes);
        })
    }

    /// Whether a range can be blocks of a file.
    pub fn is_valid(&self, start: u64, count: u64) -> bool {
        self.layout.is_valid(start, count)
    }
}
