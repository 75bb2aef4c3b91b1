//! The mounted file system: what all parts of the crate share.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};

use abi::Result;
use abi::fs::DevId;
use arch::sync::SpinLock;
use block::BlockDevice;
use buffer::{Buffer, BufferCache};
use sync::Once;
use vfs::SuperBlock;
use vfs::inode_table::InodeTable;

use crate::disk::checksum::Checksums;
use crate::disk::features::{Compat, Incompat, RoCompat};
use crate::disk::group::GroupDesc;
use crate::disk::hash::Version;
use crate::disk::super_block as disk;
use crate::disk::{dir, hash};
use crate::error::{EFSBADCRC, EFSCORRUPTED, Errors, place, there};
use crate::layout::Layout;
use crate::options::Options;

/// The mounted file system. Inodes and the super block share it.
pub struct Fs {
    /// The device's name.
    pub name: String,
    /// The device's number.
    pub dev: DevId,
    /// The device.
    pub device: Arc<BlockDevice>,
    /// Its metadata.
    pub cache: Arc<BufferCache>,
    /// Its dimensions.
    pub layout: Layout,
    /// Which checksums it has.
    pub checksums: Checksums,
    /// The super block as it was when it was mounted.
    pub sb: Box<disk::SuperBlock>,
    /// The block that the super block is in, and where there.
    pub sb_buffer: (Arc<Buffer>, usize),
    /// Features.
    pub compat: Compat,
    /// Features.
    pub incompat: Incompat,
    /// Features.
    pub ro_compat: RoCompat,
    /// How names are hashed in directories that do not say it themselves.
    pub hash: HashInfo,
    /// Blocks of group descriptors.
    pub(crate) descs: Box<[Arc<Buffer>]>,
    /// Errors that were found.
    pub errors: Errors,
    /// Inodes in memory.
    pub inodes: InodeTable,
    /// Blocks that are the file system's own.
    pub overhead: u64,
    pub(crate) options: SpinLock<Arc<Options>>,
    pub(crate) default_options: Options,
    pub(crate) vfs: Once<Weak<SuperBlock>>,
}

/// How names are hashed.
#[derive(Clone, Copy, Debug)]
pub struct HashInfo {
    /// The seed.
    pub seed: [u32; 4],
    /// Characters are unsigned.
    pub unsigned: bool,
    /// The function that new trees have.
    pub version: Version,
}

impl HashInfo {
    /// What a super block says. A function that is not known is the usual one.
    pub fn new(sb: &disk::SuperBlock) -> Self {
        let flags = sb.flags.get();
        // Nothing said: characters of who writes first, and those of x86 and arm64 kernels count as signed and unsigned.
        let unsigned = match flags & (disk::FLAG_SIGNED_HASH | disk::FLAG_UNSIGNED_HASH) {
            0 => arch::uapi::CHAR_IS_UNSIGNED,
            flags => flags & disk::FLAG_UNSIGNED_HASH != 0,
        };
        let version = Version::from_disk(sb.def_hash_version, unsigned).unwrap_or(if unsigned {
            Version::HalfMd4Unsigned
        } else {
            Version::HalfMd4
        });
        Self { seed: sb.hash_seed(), unsigned, version }
    }

    /// The hash of `name`.
    pub fn of(&self, name: &[u8]) -> hash::Hash {
        hash::hash(name, self.version, &self.seed)
    }

    /// The same with another function, as the root of a tree has it; none if that is not served.
    pub fn with_version(&self, version: u8) -> Option<Self> {
        // A root never says that characters are unsigned: those that do are read as they say.
        Some(Self { version: Version::from_disk(version, self.unsigned)?, ..*self })
    }
}

impl Fs {
    /// The options now.
    pub fn options(&self) -> Arc<Options> {
        self.options.lock().clone()
    }

    /// The super block of the VFS; none before the mount is complete and after it is over.
    pub fn vfs(&self) -> Option<Arc<SuperBlock>> {
        self.vfs.get()?.upgrade()
    }

    /// How directory blocks are read.
    pub fn dir_format(&self) -> dir::Format {
        dir::Format {
            has_types: self.incompat.contains(Incompat::FILETYPE),
            inodes_count: self.layout.inodes_count,
            has_tail: self.checksums.metadata,
        }
    }

    /// The block of group descriptors with that of `group`, and where it begins there.
    ///
    /// # Errors
    /// `EUCLEAN`: there is no such group.
    pub fn group_place(&self, group: u32) -> Result<(&Arc<Buffer>, usize)> {
        let per_block = self.layout.descs_per_block();
        let buffer = self.descs.get((group / per_block) as usize).filter(|_| group < self.layout.groups);
        let offset = (group % per_block) as usize * usize::from(self.layout.desc_size);
        Ok((there(buffer)?, offset))
    }

    /// The descriptor of a group.
    ///
    /// # Errors
    /// `EUCLEAN`: there is no such group.
    pub fn group(&self, group: u32) -> Result<GroupDesc> {
        let (buffer, offset) = self.group_place(group)?;
        let block = buffer.data();
        let bytes = block.bytes().get(offset..offset + usize::from(self.layout.desc_size));
        there(bytes.and_then(GroupDesc::read))
    }

    /// The block that an inode is in, and where it begins there.
    ///
    /// # Errors
    /// `EUCLEAN`: there is no such inode, or the group's table is in an impossible place.
    pub fn inode_place(&self, ino: u32) -> Result<(u64, usize)> {
        if ino == 0 || ino > self.layout.inodes_count {
            return Err(EFSCORRUPTED);
        }
        let (group, index) = self.layout.inode_group(ino);
        let desc = self.group(group)?;
        let per_block = self.layout.inodes_per_block();
        let block = desc.inode_table.saturating_add(u64::from(index / per_block));
        if desc.inode_table <= self.layout.first_data_block.into() || block >= self.layout.blocks_count {
            return Err(self.error(
                place!("__ext4_get_inode_loc"),
                EFSCORRUPTED,
                format_args!("Invalid inode table block {} in block_group {group}", desc.inode_table),
            ));
        }
        Ok((block, (index % per_block) as usize * usize::from(self.layout.inode_size)))
    }

    /// Reads the block of an inode table, and those around it that will be wanted next.
    ///
    /// # Errors
    /// Those of the device.
    pub fn read_table(&self, block: u64, ino: u32) -> Result<Arc<Buffer>> {
        if let Some(buffer) = self.cache.find(block)
            && buffer.is_valid()
        {
            return Ok(buffer);
        }
        let ahead = u64::from(self.options().inode_readahead_blks);
        if ahead > 1 {
            let (group, _) = self.layout.inode_group(ino);
            let desc = self.group(group)?;
            let table = u64::from(self.layout.table_blocks());
            let used = match self.checksums.has_groups() {
                true => table - u64::from(desc.itable_unused / self.layout.inodes_per_block()).min(table),
                false => table,
            };
            let first = (block & !(ahead - 1)).max(desc.inode_table);
            let end = (first + ahead).min(desc.inode_table + used);
            let mut blocks = [0; 32];
            let mut from = first;
            while from < end {
                let count = (end - from).min(blocks.len() as u64) as usize;
                let some = blocks.get_mut(..count).unwrap_or_default();
                some.iter_mut().zip(from..).for_each(|(slot, block)| *slot = block);
                self.cache.readahead(some);
                from += count as u64;
            }
        }
        self.cache.read(block).map_err(|error| {
            self.error(
                place!("__ext4_get_inode_loc", ino, block),
                error,
                format_args!("unable to read itable block"),
            )
        })
    }

    /// A block of metadata whose contents are checked once, when they were read.
    ///
    /// # Errors
    /// Those of the device; `EBADMSG`, `EUCLEAN` from `check`.
    pub fn read_checked(&self, block: u64, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<Arc<Buffer>> {
        let buffer = self.cache.read(block)?;
        if !buffer.is_verified() {
            check(buffer.data().bytes())?;
            buffer.set_verified();
        }
        Ok(buffer)
    }

    /// The error for a wrong checksum, noted.
    pub(crate) fn bad_checksum(&self, place: crate::error::Place, text: &str) -> abi::Errno {
        self.error(place, EFSBADCRC, format_args!("{text}"))
    }
}
