//! Whole operations, each in one change (or, where what is freed or taken has no limit, in several, noted as an orphan between them).
//!
//! | what | module |
//! |---|---|
//! | new inodes with a name | [`create`] |
//! | names of inodes that are there, removing names | [`link`] |
//! | renaming, exchanging | [`rename`] |
//! | sizes, ranges of files | [`range`] |
//! | inodes that nobody has any more, and what a crash left | [`evict`] |
//!
//! Who calls is the VFS: it has checked rights and types, looked the names up, and holds the locks of the inodes. The counts of links are
//! those on the device.

pub mod create;
pub mod evict;
pub mod link;
pub mod range;
pub mod rename;

use abi::{Errno, Result};
use alloc::sync::Arc;

use crate::dir_write::Dir;
use crate::disk::dir::file_type;
use crate::disk::features::{Compat, RoCompat};
use crate::disk::inode::{Flags, LINK_MAX};
use crate::raw::{RawInode, Time, mode};
use crate::tx::Handle;
use crate::volume::Volume;

/// Seconds and nanoseconds.
pub type Now = (i64, u32);

/// The type that entries say of a mode.
pub fn type_of(mode: u16) -> u8 {
    match mode & mode::MASK {
        mode::REG => file_type::REG_FILE,
        mode::DIR => file_type::DIR,
        mode::CHAR => file_type::CHRDEV,
        mode::BLOCK => file_type::BLKDEV,
        mode::FIFO => file_type::FIFO,
        mode::SOCK => file_type::SOCK,
        mode::LINK => file_type::SYMLINK,
        _ => file_type::UNKNOWN,
    }
}

impl Volume {
    fn dir<'a>(self: &'a Arc<Self>, node: &'a RawInode) -> Dir<'a> {
        Dir { volume: self, node }
    }

    /// Blocks that a change of a directory's names needs, whatever it has to do for it.
    fn name_credits(self: &Arc<Self>, node: &RawInode) -> Result<u32> {
        let dir = self.dir(node);
        // Its own inode too.
        if node.is_inline() { Ok(2 * (2 + 12) + 4) } else { Ok(dir.add_credits()? + 1) }
    }

    /// The directory, with blocks of its own.
    pub(crate) fn opened<'a>(self: &'a Arc<Self>, tx: &mut Handle, node: &'a RawInode) -> Result<Dir<'a>> {
        let dir = self.dir(node);
        dir.leave_inline(tx)?;
        Ok(dir)
    }

    fn touch(&self, tx: &mut Handle, dir: &RawInode, now: Now) -> Result<()> {
        dir.set_times(self, tx, &[Time::Change, Time::Modify], now)
    }

    fn is_indexed(&self, node: &RawInode) -> bool {
        self.compat.contains(Compat::DIR_INDEX) && node.flags().contains(Flags::INDEX)
    }

    /// Whether a directory can have one more directory.
    fn check_links(&self, dir: &RawInode) -> Result<()> {
        let unlimited = self.ro_compat.contains(RoCompat::DIR_NLINK) && self.is_indexed(dir);
        match u32::from(dir.core().links_count.get()) >= LINK_MAX && !unlimited {
            true => Err(Errno::EMLINK),
            false => Ok(()),
        }
    }

    /// One link more. A directory with a tree and too many directories says 1: nobody knows how many.
    fn add_link(&self, tx: &mut Handle, node: &RawInode) -> Result<()> {
        let many = node.is_dir() && self.is_indexed(node);
        node.update(self, tx, |core| {
            let links = core.links_count.get().saturating_add(1);
            let unknown = many && (u32::from(links) >= LINK_MAX || links == 2);
            core.links_count.set(if unknown { 1 } else { links });
        })
    }

    /// One link less. A directory keeps two.
    fn remove_link(&self, tx: &mut Handle, node: &RawInode) -> Result<u16> {
        let is_dir = node.is_dir();
        node.update(self, tx, |core| {
            let links = core.links_count.get();
            if !is_dir || links > 2 {
                core.links_count.set(links.saturating_sub(1));
            }
            core.links_count.get()
        })
    }
}
