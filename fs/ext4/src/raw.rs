//! An inode, where it is on the device: what changes it, changes it there, within a handle, with its checksum.
//!
//! Who calls holds the inode's own lock: one at a time changes it.

use alloc::sync::Arc;

use abi::Result;
use buffer::Buffer;

use crate::disk::checksum::InodeSeed;
use crate::disk::inode::{CORE_SIZE, Core, Extra, Flags, encode_time, extra_end};
use crate::disk::{U32, at, at_mut};
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};

/// Type bits of a mode.
pub mod mode {
    /// All of them.
    pub const MASK: u16 = 0o170_000;
    /// FIFO.
    pub const FIFO: u16 = 0o010_000;
    /// Character device.
    pub const CHAR: u16 = 0o020_000;
    /// Directory.
    pub const DIR: u16 = 0o040_000;
    /// Block device.
    pub const BLOCK: u16 = 0o060_000;
    /// Regular file.
    pub const REG: u16 = 0o100_000;
    /// Symbolic link.
    pub const LINK: u16 = 0o120_000;
    /// Socket.
    pub const SOCK: u16 = 0o140_000;
}

/// Which times of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Of the last access.
    Access,
    /// Of the last change of the inode.
    Change,
    /// Of the last change of the contents.
    Modify,
    /// Of creation.
    Birth,
}

/// An inode.
#[derive(Clone)]
pub struct RawInode {
    /// Its number.
    pub ino: u32,
    /// The seed of its checksums.
    pub seed: InodeSeed,
    buffer: Arc<Buffer>,
    offset: usize,
    size: usize,
}

impl RawInode {
    /// Where an inode is: block, and bytes from its start.
    pub fn place(volume: &Volume, ino: u32) -> Result<(u64, usize)> {
        let layout = &volume.layout;
        if ino == 0 || ino > layout.inodes_count {
            return Err(CORRUPT);
        }
        let (group, index) = layout.inode_group(ino);
        let byte = u64::from(index) * u64::from(layout.inode_size);
        let block = volume.groups.desc(group)?.inode_table + (byte >> layout.block_bits);
        if !layout.is_valid(block, 1) {
            let text = format_args!("Invalid inode table block {block} in block_group {group}");
            return Err(volume.damaged("__ext4_get_inode_loc", ino, block, text));
        }
        Ok((block, (byte % layout.block_size() as u64) as usize))
    }

    /// The inode with a number.
    ///
    /// # Errors
    /// `EIO`; `EFSBADCRC`, `EFSCORRUPTED`.
    pub fn open(volume: &Volume, ino: u32) -> Result<Self> {
        let (block, offset) = Self::place(volume, ino)?;
        let buffer = volume.cache.read(block)?;
        let mut node =
            Self { ino, seed: InodeSeed(0), buffer, offset, size: volume.layout.inode_size.into() };
        node.seed = volume.sums.inode_seed(ino, node.core().generation.get());
        if !node.read(|raw| volume.sums.inode_is_right(node.seed, raw)) {
            return Err(volume.bad_checksum("__ext4_iget", ino, block));
        }
        Ok(node)
    }

    /// A new inode: all of it is `fill`ed, after zeros. `alone`: no other inode of the block is in use, so it is not read.
    pub(crate) fn create(
        volume: &Volume,
        tx: &mut Handle,
        ino: u32,
        generation: u32,
        alone: bool,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Self> {
        let (block, offset) = Self::place(volume, ino)?;
        let buffer = if alone { volume.cache.get(block)? } else { volume.cache.read(block)? };
        let size = usize::from(volume.layout.inode_size);
        let node = Self { ino, seed: volume.sums.inode_seed(ino, generation), buffer, offset, size };
        let make = |bytes: &mut [u8]| {
            let raw = bytes.get_mut(offset..offset + size).unwrap_or_default();
            raw.fill(0);
            fill(raw);
            volume.sums.set_inode(node.seed, raw);
        };
        if alone {
            tx.create(&node.buffer, make)?
        } else {
            tx.modify(&node.buffer, make)?
        }
        Ok(node)
    }

    /// Looks at its bytes.
    pub fn read<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let content = self.buffer.lock();
        f(content.data().bytes().get(self.offset..self.offset + self.size).unwrap_or_default())
    }

    /// Its fields.
    pub fn core(&self) -> Core {
        const ZERO: [u8; CORE_SIZE] = [0; CORE_SIZE];
        self.read(|raw| {
            let bytes: &[u8; CORE_SIZE] = raw.first_chunk().unwrap_or(&ZERO);
            zerocopy::transmute!(*bytes)
        })
    }

    /// Changes its bytes, and its checksum.
    ///
    /// # Errors
    /// Those of the handle: nothing was changed.
    pub fn modify<R>(&self, volume: &Volume, tx: &mut Handle, f: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        tx.modify(&self.buffer, |bytes| {
            let raw = bytes.get_mut(self.offset..self.offset + self.size).unwrap_or_default();
            let result = f(raw);
            volume.sums.set_inode(self.seed, raw);
            result
        })
    }

    /// Changes its fields.
    ///
    /// # Errors
    /// Those of the handle: nothing was changed.
    pub fn update<R>(&self, volume: &Volume, tx: &mut Handle, f: impl FnOnce(&mut Core) -> R) -> Result<R> {
        self.modify(volume, tx, |raw| at_mut(raw, 0).map(f))?.ok_or(CORRUPT)
    }

    /// Its flags.
    pub fn flags(&self) -> Flags {
        self.core().flags()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.core().size()
    }

    /// Type and permissions.
    pub fn mode(&self) -> u16 {
        self.core().mode.get()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode() & mode::MASK == mode::DIR
    }

    /// Whether its blocks are an extent tree.
    pub fn has_extents(&self) -> bool {
        self.flags().contains(Flags::EXTENTS)
    }

    /// Counts blocks that it has or does not have any more.
    ///
    /// # Errors
    /// Those of the handle; `EFBIG` if there is no room for the number.
    pub fn add_blocks(&self, volume: &Volume, tx: &mut Handle, blocks: i64) -> Result<()> {
        let (bits, huge) = (volume.layout.block_bits, volume.layout.huge_file);
        let fits = self.update(volume, tx, |core| {
            let old = core.sectors(huge, bits);
            core.set_sectors(old.saturating_add_signed(blocks << (bits - 9)), huge, bits)
        })?;
        if fits { Ok(()) } else { Err(abi::Errno::EFBIG) }
    }

    /// Sets times to `(seconds, nanoseconds)`.
    ///
    /// # Errors
    /// Those of the handle.
    pub fn set_times(&self, volume: &Volume, tx: &mut Handle, which: &[Time], to: (i64, u32)) -> Result<()> {
        self.modify(volume, tx, |raw| which.iter().for_each(|time| put_time(raw, *time, to)))
    }
}

/// Writes a time into an inode, as exact as it has room for.
pub fn put_time(raw: &mut [u8], which: Time, (seconds, nanoseconds): (i64, u32)) {
    let extra: Extra = at(raw, CORE_SIZE).copied().unwrap_or_default();
    let end = match which {
        Time::Access => extra_end::ATIME,
        Time::Change => extra_end::CTIME,
        Time::Modify => extra_end::MTIME,
        Time::Birth => extra_end::CRTIME_EXTRA,
    };
    let wide = raw.len() > CORE_SIZE && extra.has(end);
    let (low, high) = encode_time(crate::disk::inode::clamp_time(seconds, wide), nanoseconds);
    if let Some(core) = at_mut::<Core>(raw, 0) {
        match which {
            Time::Access => core.atime = low,
            Time::Change => core.ctime = low,
            Time::Modify => core.mtime = low,
            Time::Birth => {}
        }
    }
    if !wide {
        return;
    }
    let Some(extra) = at_mut::<Extra>(raw, CORE_SIZE) else { return };
    let place: &mut U32 = match which {
        Time::Access => &mut extra.atime_extra,
        Time::Change => &mut extra.ctime_extra,
        Time::Modify => &mut extra.mtime_extra,
        Time::Birth => {
            extra.crtime = low;
            &mut extra.crtime_extra
        }
    };
    *place = high;
}
