//! New inodes with a name.

use abi::{Errno, Result};
use alloc::sync::Arc;

use super::type_of;
use crate::dir_write::Dir;
use crate::disk::inode::{BLOCK_BYTES, Core, Flags, encode_device};
use crate::extent_write::Map;
use crate::extent_write::map::Create;
use crate::raw::{RawInode, mode};
use crate::space::Reserve;
use crate::space::inodes::{NEW_CREDITS, NewInode};
use crate::tx::Handle;
use crate::volume::Volume;

/// Blocks that the first block of a new inode changes.
const FIRST: u32 = 2 + 8 + 1;

impl Volume {
    /// A new file, device (with its number), FIFO or socket.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file system is answered. Nothing is there then.
    pub fn create_node(
        self: &Arc<Self>,
        dir: &RawInode,
        name: &[u8],
        new: &NewInode,
        device: (u32, u32),
    ) -> Result<RawInode> {
        self.with_room(|| {
            self.change("create_node", NEW_CREDITS + self.name_credits(dir)?, |tx| {
                let node = self.new_inode(tx, dir, new)?;
                let made = match new.mode & mode::MASK {
                    mode::CHAR | mode::BLOCK => {
                        let (old, wide) = encode_device(device.0, device.1);
                        node.update(self, tx, |core: &mut Core| {
                            let words = core.block.as_chunks_mut::<4>().0;
                            for (word, number) in words.iter_mut().zip([old, wide]) {
                                *word = number.to_le_bytes();
                            }
                        })
                    }
                    _ => Ok(()),
                };
                self.name_new(tx, dir, name, &node, new, made)?;
                Ok(node)
            })
        })
    }

    /// A new file without a name, noted as an orphan (`O_TMPFILE`).
    ///
    /// # Errors
    /// Like [`create_node`](Self::create_node).
    pub fn create_unnamed(self: &Arc<Self>, dir: &RawInode, new: &NewInode) -> Result<RawInode> {
        self.with_room(|| {
            self.change("create_unnamed", NEW_CREDITS + crate::orphan::CREDITS, |tx| {
                let node = self.new_inode(tx, dir, &NewInode { links: 0, ..*new })?;
                self.add_orphan(tx, &node)?;
                Ok(node)
            })
        })
    }

    /// A new directory.
    ///
    /// # Errors
    /// `EMLINK`; like [`create_node`](Self::create_node).
    pub fn make_dir(self: &Arc<Self>, dir: &RawInode, name: &[u8], new: &NewInode) -> Result<RawInode> {
        self.with_room(|| {
            self.check_links(dir)?;
            self.change("make_dir", NEW_CREDITS + FIRST + self.name_credits(dir)?, |tx| {
                let new = NewInode { links: 2, ..*new };
                let node = self.new_inode(tx, dir, &new)?;
                let made = Dir { volume: self, node: &node }.init(tx, dir.ino);
                self.name_new(tx, dir, name, &node, &new, made)?;
                self.add_link(tx, dir)?;
                Ok(node)
            })
        })
    }

    /// A new symbolic link: short ones are in the inode.
    ///
    /// # Errors
    /// `ENAMETOOLONG` for a target that is longer than a block; like [`create_node`](Self::create_node).
    pub fn make_link(
        self: &Arc<Self>,
        dir: &RawInode,
        name: &[u8],
        target: &[u8],
        new: &NewInode,
    ) -> Result<RawInode> {
        self.with_room(|| {
            if target.len() >= self.block_size() {
                return Err(Errno::ENAMETOOLONG);
            }
            self.change("make_link", NEW_CREDITS + FIRST + self.name_credits(dir)?, |tx| {
                let node = self.new_inode(tx, dir, new)?;
                let made = self.put_target(tx, &node, target);
                self.name_new(tx, dir, name, &node, new, made)?;
                Ok(node)
            })
        })
    }

    fn put_target(self: &Arc<Self>, tx: &mut Handle, node: &RawInode, target: &[u8]) -> Result<()> {
        if target.len() < BLOCK_BYTES {
            return node.update(self, tx, |core: &mut Core| {
                core.flags.set((core.flags() - Flags::EXTENTS).bits());
                core.block = [0; BLOCK_BYTES];
                for (to, from) in core.block.iter_mut().zip(target) {
                    *to = *from;
                }
                core.set_size(target.len() as u64);
            });
        }
        let map = Map { volume: self, node };
        let how = Create { unwritten: false, reserve: Reserve::Root, promised: false };
        let found = map.create(tx, 0, 1, &how)?;
        let buffer = self.cache.get(found.start)?;
        tx.create(&buffer, |bytes| {
            for (to, from) in bytes.iter_mut().zip(target) {
                *to = *from;
            }
        })?;
        node.update(self, tx, |core| core.set_size(target.len() as u64))
    }

    /// Gives a new inode its name, if it was `made`; otherwise, or if there is no room for the name, it goes again.
    fn name_new(
        self: &Arc<Self>,
        tx: &mut Handle,
        dir: &RawInode,
        name: &[u8],
        node: &RawInode,
        new: &NewInode,
        made: Result<()>,
    ) -> Result<()> {
        let named = made
            .and_then(|()| self.opened(tx, dir)?.add(tx, name, node.ino, type_of(new.mode)))
            .and_then(|()| self.touch(tx, dir, new.now));
        if let Err(error) = named {
            if node.has_extents() || node.is_dir() {
                Map { volume: self, node }.remove(tx, 0..u32::MAX)?;
            }
            self.free_inode(tx, node, new.now.0 as u32)?;
            return Err(error);
        }
        Ok(())
    }
}
