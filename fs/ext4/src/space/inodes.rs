//! Taking inodes and giving them back.

use abi::{Errno, Result};

use super::bits;
use super::group::Bitmap;
use crate::disk::at_mut;
use crate::disk::extent;
use crate::disk::features::Incompat;
use crate::disk::group::{BLOCK_UNINIT, INODE_UNINIT};
use crate::disk::inode::{CORE_SIZE, Core, Extra, Flags, ROOT_INO, extra_end};
use crate::raw::{RawInode, Time, mode, put_time};
use crate::tx::Handle;
use crate::volume::Volume;

/// Blocks that [`Volume::new_inode`] changes: two bitmaps, the descriptor, the inode.
pub const NEW_CREDITS: u32 = 4;
/// Blocks that [`Volume::free_inode`] changes: bitmap, descriptor, inode.
pub const FREE_CREDITS: u32 = 3;

/// What a new inode is.
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub links: u16,
    /// A random number: the generation, and where directories at the top are.
    pub random: u32,
    /// All times: seconds and nanoseconds.
    pub now: (i64, u32),
}

impl Volume {
    /// Takes an inode for something in `dir`. It has no name yet.
    ///
    /// # Errors
    /// `ENOSPC`; `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn new_inode(&self, tx: &mut Handle, dir: &RawInode, new: &NewInode) -> Result<RawInode> {
        let (parent, _) = self.layout.inode_group(dir.ino);
        let is_dir = new.mode & mode::MASK == mode::DIR;
        let first = if is_dir {
            let top = dir.ino == ROOT_INO || dir.flags().contains(Flags::TOPDIR);
            self.group_for_dir(parent, top, new.random)?
        } else {
            self.group_for_file(parent, dir.ino)?
        };
        let groups = self.layout.groups;
        for group in (first..groups).chain(0..first) {
            if let Some((ino, alone)) = self.take_inode(tx, group, is_dir)? {
                return self.fill_inode(tx, dir, ino, alone, new);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Takes an inode of a group: its number, and whether no other inode of its block is in use.
    fn take_inode(&self, tx: &mut Handle, group: u32, is_dir: bool) -> Result<Option<(u32, bool)>> {
        use core::sync::atomic::Ordering::Relaxed;
        if self.groups.get(group)?.free_inodes.load(Relaxed) == 0 {
            return Ok(None);
        }
        let Ok(mut state) = self.lock_inodes(group) else { return Ok(None) };
        let desc = self.groups.desc(group)?;
        let per_group = self.layout.inodes_per_group;
        let first_ino = self.layout.first_ino;
        let from = if group == 0 { first_ino.saturating_sub(1) } else { 0 };
        let per_block = self.layout.inodes_per_block();
        let find = |bytes: &[u8]| {
            let bit = bits::first_zero(bytes, from..per_group)?;
            let block = bit / per_block * per_block;
            let alone = (block..(block + per_block).min(per_group)).all(|bit| !bits::is_set(bytes, bit));
            Some((bit, alone))
        };
        let found = if desc.has(INODE_UNINIT) {
            Some((from, from.is_multiple_of(per_block))).filter(|(bit, _)| *bit < per_group)
        } else {
            let Ok(buffer) = self.read_bitmap(group, &desc, Bitmap::Inodes) else {
                self.inodes_damaged(&mut state);
                return Ok(None);
            };
            let content = buffer.lock();
            find(content.data().bytes())
        };
        let Some((bit, alone)) = found else {
            if desc.free_inodes > 0 && group != 0 {
                self.inodes_damaged(&mut state);
                let text = format_args!("group {group}: no free inode, but {} are counted", desc.free_inodes);
                return Err(self.damaged("ext4_new_inode", 0, 0, text));
            }
            return Ok(None);
        };
        if desc.has(BLOCK_UNINIT) && self.sums.has_groups() {
            self.modify_bitmap(tx, group, Bitmap::Blocks, |_| (), |_, ()| ())?;
        }
        self.modify_bitmap(
            tx,
            group,
            Bitmap::Inodes,
            |bytes| bits::change(bytes, bit..bit + 1, true),
            |desc, changed| {
                desc.free_inodes = desc.free_inodes.saturating_sub(*changed);
                desc.used_dirs += u32::from(is_dir);
                if self.sums.has_groups() {
                    desc.itable_unused = desc.itable_unused.min(per_group - bit - 1);
                }
            },
        )?;
        Ok(Some((group * per_group + bit + 1, alone)))
    }

    fn fill_inode(
        &self,
        tx: &mut Handle,
        dir: &RawInode,
        ino: u32,
        alone: bool,
        new: &NewInode,
    ) -> Result<RawInode> {
        let kind = new.mode & mode::MASK;
        let mut flags = dir.flags() & Flags::INHERITED;
        flags -= match kind {
            mode::DIR => Flags::empty(),
            mode::REG => Flags::NOT_FOR_FILES,
            _ => !Flags::FOR_OTHERS,
        };
        let extents =
            self.incompat.contains(Incompat::EXTENTS) && matches!(kind, mode::DIR | mode::REG | mode::LINK);
        flags.set(Flags::EXTENTS, extents);
        let extra_isize = self.layout.want_extra_isize;
        let project = dir
            .flags()
            .contains(Flags::PROJINHERIT)
            .then(|| dir.read(|raw| crate::disk::at::<Extra>(raw, CORE_SIZE).map(|extra| extra.projid)));
        RawInode::create(self, tx, ino, new.random, alone, |raw| {
            let whole = raw.len();
            if let Some(extra) = at_mut::<Extra>(raw, CORE_SIZE)
                && whole > CORE_SIZE
            {
                extra.extra_isize.set(extra_isize);
                if let Some(Some(project)) = project
                    && extra.has(extra_end::PROJID)
                {
                    extra.projid = project;
                }
            }
            if let Some(core) = at_mut::<Core>(raw, 0) {
                core.mode.set(new.mode);
                core.set_owner(new.uid, new.gid);
                core.links_count.set(new.links);
                core.flags.set(flags.bits());
                core.generation.set(new.random);
                if extents && let Some(root) = at_mut(&mut core.block, 0) {
                    *root = extent::Header::new(extent::ROOT_ENTRIES, 0);
                }
            }
            for time in [Time::Access, Time::Change, Time::Modify, Time::Birth] {
                put_time(raw, time, new.now);
            }
        })
    }

    /// Gives an inode back, whose blocks were freed, and which has no name and nobody uses it.
    ///
    /// # Errors
    /// `EFSCORRUPTED` if it is free already; `EIO`, `ENOMEM`.
    pub fn free_inode(&self, tx: &mut Handle, node: &RawInode, now: u32) -> Result<()> {
        let is_dir = node.is_dir();
        let (group, bit) = self.layout.inode_group(node.ino);
        if node.ino < self.layout.first_ino {
            return Err(self.damaged(
                "ext4_free_inode",
                node.ino,
                0,
                format_args!("reserved or nonexistent inode"),
            ));
        }
        node.update(self, tx, |core| {
            core.dtime.set(now);
            core.links_count.set(0);
        })?;
        let _state = self.lock_inodes(group)?;
        let changed = self.modify_bitmap(
            tx,
            group,
            Bitmap::Inodes,
            |bytes| bits::change(bytes, bit..bit + 1, false),
            |desc, changed| {
                desc.free_inodes += *changed;
                if is_dir {
                    desc.used_dirs = desc.used_dirs.saturating_sub(*changed);
                }
            },
        )?;
        if changed == 0 {
            return Err(self.damaged("ext4_free_inode", node.ino, 0, format_args!("bit already cleared")));
        }
        Ok(())
    }
}
