//! ramfs: tmpfs without limits, and without what tmpfs adds to plain files in memory.
//!
//! It has no extended attributes, seals, `fallocate(2)`, direct I/O or inode flags, and `statfs(2)` says nothing of space.
//! Its one mount option is `mode=`; it ignores all others, as it always did.

use alloc::sync::Arc;
use core::fmt;

use abi::Result;
use mm::IovIter;
use vfs::file_ops::{FileOps, IoFlags};
use vfs::super_block::{MountRequest, SuperBlock, parse_options};
use vfs::{DirContext, File, FsFlags, FsType, Inode};

use crate::file::DIR_OPS;
use crate::options::Options;
use crate::{Flavor, TmpfsSuper};

/// The file system type `ramfs`.
pub struct Ramfs;

/// The type, for [`vfs::register_filesystem`].
pub static RAMFS: Ramfs = Ramfs;

/// `RAMFS_MAGIC`.
pub(crate) const MAGIC: u64 = 0x8584_58f6;
/// Permissions of the root directory unless `mode=` says otherwise.
const DEFAULT_MODE: u32 = 0o755;

/// Whether an inode of this crate belongs to a ramfs.
pub(crate) fn is_ramfs(inode: &Inode) -> bool {
    inode.sb().private::<TmpfsSuper>().is_some_and(|sb| sb.flavor == Flavor::Ramfs)
}

/// The options of a ramfs.
pub(crate) fn parse(text: &[u8]) -> Result<Options> {
    let mut options = Options::unlimited(DEFAULT_MODE);
    for (key, value) in parse_options(text) {
        if key == "mode" {
            options.set_mode(value)?;
        }
    }
    Ok(options)
}

/// The options as `/proc/mounts` shows them.
pub(crate) fn show(options: &Options, out: &mut dyn fmt::Write) -> fmt::Result {
    if options.mode == DEFAULT_MODE { Ok(()) } else { write!(out, ",mode={:o}", options.mode) }
}

impl FsType for Ramfs {
    fn name(&self) -> &'static str {
        "ramfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::USERNS_MOUNT
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        crate::new_super(&RAMFS, request, Flavor::Ramfs)
    }
}

/// Operations of regular files.
pub(crate) struct RamfsFile;
/// Operations of directories.
pub(crate) struct RamfsDir;

pub(crate) static RAMFS_FILE: RamfsFile = RamfsFile;
pub(crate) static RAMFS_DIR: RamfsDir = RamfsDir;

impl FileOps for RamfsFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        vfs::rw::generic_file_read(file, iter, pos)
    }

    fn write_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        pos: &mut u64,
        flags: IoFlags,
    ) -> Result<usize> {
        vfs::rw::generic_file_write(file, iter, pos, flags)
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}

impl FileOps for RamfsDir {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        DIR_OPS.iterate(file, ctx)
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
