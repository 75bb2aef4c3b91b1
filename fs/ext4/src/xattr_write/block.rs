//! The block of attributes, which several inodes can have.

use abi::{Errno, Result};
use alloc::sync::Arc;
use buffer::Buffer;

use super::{body, list::List};
use crate::disk::xattr::{BLOCK_HEADER_SIZE, BlockHeader, MAGIC};
use crate::disk::{U32, at, at_mut};
use crate::extent_write::Map;
use crate::raw::{RawInode, Time};
use crate::space::{Request, Reserve, Run};
use crate::tx::Handle;
use crate::volume::Volume;

/// Blocks that [`Volume::drop_attributes`] changes: the block, its bitmap and descriptor, the inode.
pub const DROP_CREDITS: u32 = 4;
/// Blocks that [`Volume::set_attribute`] changes: a new block and the old one, each with bitmap and descriptor, and the inode.
pub const SET_CREDITS: u32 = 7;

/// What an attribute must (not) be before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Either.
    Any,
    /// `XATTR_CREATE`.
    BeNew,
    /// `XATTR_REPLACE`, and removals.
    BeThere,
}

impl Volume {
    fn attribute_block(&self, node: &RawInode, block: u64) -> Result<Arc<Buffer>> {
        if !self.is_valid(block, 1) {
            let text = format_args!("bad block {block}");
            return Err(self.damaged("ext4_xattr_block_get", node.ino, block, text));
        }
        let buffer = self.cache.read(block)?;
        if !buffer.is_verified() {
            let data = buffer.data();
            let header: Option<&BlockHeader> = at(data.bytes(), 0);
            if header.is_none_or(|header| header.magic.get() != MAGIC || header.blocks.get() != 1) {
                let text = format_args!("corrupted xattr block {block}: invalid header");
                return Err(self.damaged("ext4_xattr_check_block", node.ino, block, text));
            }
            if !self.sums.xattr_is_right(block, data.bytes()) {
                return Err(self.bad_checksum("ext4_xattr_check_block", node.ino, block));
            }
            buffer.set_verified();
        }
        Ok(buffer)
    }

    fn read_attributes(&self, buffer: &Buffer) -> Result<List> {
        List::read(buffer.data().bytes(), BLOCK_HEADER_SIZE, 0)
    }

    /// One inode less has a block of attributes: the last one frees it.
    fn drop_block(self: &Arc<Self>, tx: &mut Handle, node: &RawInode, buffer: &Arc<Buffer>) -> Result<()> {
        let block = buffer.block();
        let others = {
            let content = buffer.lock();
            at::<BlockHeader>(content.data().bytes(), 0).map_or(0, |header| header.refcount.get())
        };
        if others > 1 {
            tx.modify(buffer, |bytes| {
                if let Some(header) = at_mut::<BlockHeader>(bytes, 0) {
                    header.refcount.set(others - 1);
                }
                self.sums.set_xattr(block, bytes);
            })?;
        } else {
            tx.revoke(block, Some(buffer))?;
            self.free(tx, Run { start: block, len: 1 })?;
        }
        node.add_blocks(self, tx, -1)
    }

    /// Frees what an inode that goes has of attributes. Values in inodes of their own are not: such inodes are `EOPNOTSUPP`.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn drop_attributes(self: &Arc<Self>, tx: &mut Handle, node: &RawInode) -> Result<()> {
        let block = node.core().file_acl();
        if block == 0 {
            return Ok(());
        }
        let buffer = self.attribute_block(node, block)?;
        if self.read_attributes(&buffer)?.0.iter().any(|attribute| attribute.inode.0 != 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.drop_block(tx, node, &buffer)?;
        node.update(self, tx, |core| core.set_file_acl(0))
    }

    /// Sets (`Some`) or removes an attribute: in the inode if there is room, otherwise in its block.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, as `must` says; `ENOSPC`: there is no room, and nothing is changed; `EOPNOTSUPP` if there are values in inodes of
    /// their own; `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn set_attribute(
        self: &Arc<Self>,
        node: &RawInode,
        index: u8,
        name: &[u8],
        value: Option<&[u8]>,
        must: Must,
        now: (i64, u32),
    ) -> Result<()> {
        self.with_room(|| {
            let mut inner = node.read(body::read)?;
            let old = node.core().file_acl();
            let buffer = if old == 0 { None } else { Some(self.attribute_block(node, old)?) };
            let mut outer = match &buffer {
                Some(buffer) => self.read_attributes(buffer)?,
                None => List::default(),
            };
            let in_inner = inner.position(index, name).is_ok();
            let there = in_inner || outer.position(index, name).is_ok();
            match must {
                Must::BeNew if there => return Err(Errno::EEXIST),
                Must::BeThere if !there => return Err(Errno::ENODATA),
                _ => {}
            }
            if inner.0.iter().chain(&outer.0).any(|attribute| attribute.inode.0 != 0) {
                return Err(Errno::EOPNOTSUPP);
            }
            inner.set(index, name, value)?;
            let mut fits = false;
            node.read(|raw| -> Result<()> {
                let mut copy = mm::try_to_vec(raw)?;
                fits = body::write(&mut copy, &inner).is_ok();
                Ok(())
            })?;
            if fits {
                outer.set(index, name, None)?;
            } else {
                // In the block then; what is in the inode besides stays.
                inner.set(index, name, None)?;
                outer.set(index, name, value)?;
            }
            if outer.size() + BLOCK_HEADER_SIZE > self.block_size() {
                return Err(Errno::ENOSPC);
            }
            self.change("set_attribute", SET_CREDITS, |tx| {
                self.write_outer(tx, node, buffer, &outer)?;
                node.modify(self, tx, |raw| {
                    crate::raw::put_time(raw, Time::Change, now);
                    body::write(raw, &inner)
                })?
            })
        })
    }

    /// Writes the block of attributes: in place if no other inode has it.
    fn write_outer(
        self: &Arc<Self>,
        tx: &mut Handle,
        node: &RawInode,
        old: Option<Arc<Buffer>>,
        list: &List,
    ) -> Result<()> {
        if list.0.is_empty() {
            if let Some(old) = old {
                self.drop_block(tx, node, &old)?;
                node.update(self, tx, |core| core.set_file_acl(0))?;
            }
            return Ok(());
        }
        let fill = |bytes: &mut [u8], block: u64| -> Result<()> {
            let hash = list.write(bytes, BLOCK_HEADER_SIZE, 0, true)?;
            if let Some(header) = at_mut::<BlockHeader>(bytes, 0) {
                *header = BlockHeader {
                    magic: U32::new(MAGIC),
                    refcount: U32::new(1),
                    blocks: U32::new(1),
                    hash: U32::new(hash),
                    checksum: U32::ZERO,
                    reserved: [U32::ZERO; 3],
                };
            }
            self.sums.set_xattr(block, bytes);
            Ok(())
        };
        let own = old.as_ref().filter(|buffer| {
            let content = buffer.lock();
            at::<BlockHeader>(content.data().bytes(), 0).is_some_and(|header| header.refcount.get() == 1)
        });
        if let Some(buffer) = own {
            return tx.modify(buffer, |bytes| fill(bytes, buffer.block()))?;
        }
        let goal = Map { volume: self, node }.goal();
        let request = Request { goal, len: 1, append: true, reserve: Reserve::Root, promised: false };
        let run = self.allocate(tx, &request)?;
        let buffer = self.cache.get(run.start)?;
        tx.create(&buffer, |bytes| fill(bytes, run.start))??;
        node.add_blocks(self, tx, 1)?;
        if let Some(old) = old {
            self.drop_block(tx, node, &old)?;
        }
        node.update(self, tx, |core| core.set_file_acl(run.start))
    }
}
