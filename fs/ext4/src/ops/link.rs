//! Names of inodes that are there.

use abi::{Errno, Result};
use alloc::sync::Arc;

use super::{Now, type_of};
use crate::dir_write::{Dir, Place};
use crate::disk::inode::LINK_MAX;
use crate::raw::{RawInode, Time};
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};

impl Volume {
    /// One name more for an inode that is no directory. One without any is no orphan any more.
    ///
    /// # Errors
    /// `EMLINK`; `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn link_node(self: &Arc<Self>, dir: &RawInode, name: &[u8], node: &RawInode, now: Now) -> Result<()> {
        self.with_room(|| {
            if u32::from(node.core().links_count.get()) >= LINK_MAX {
                return Err(Errno::EMLINK);
            }
            self.change("link_node", self.name_credits(dir)? + 1 + crate::orphan::CREDITS, |tx| {
                self.opened(tx, dir)?.add(tx, name, node.ino, type_of(node.mode()))?;
                let unnamed = node.core().links_count.get() == 0;
                node.set_times(self, tx, &[Time::Change], now)?;
                self.add_link(tx, node)?;
                if unnamed {
                    self.remove_orphan(tx, node)?;
                }
                self.touch(tx, dir, now)
            })
        })
    }

    /// Finds a name that must be `node`'s.
    pub(super) fn place_of(&self, dir: &Dir<'_>, name: &[u8], node: &RawInode) -> Result<Place> {
        let place = dir.find(name)?.ok_or(Errno::ENOENT)?;
        if place.ino != node.ino {
            let text = format_args!("a name is that of inode {} instead of {}", place.ino, node.ino);
            return Err(self.damaged("ext4_unlink", dir.node.ino, 0, text));
        }
        Ok(place)
    }

    /// Removes a name of an inode that is no directory. Returns how many it has left; one without any is noted as an orphan, and goes with
    /// [`evict`](Self::evict) when nobody uses it any more.
    ///
    /// # Errors
    /// `ENOENT`; `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn unlink_node(
        self: &Arc<Self>,
        dir: &RawInode,
        name: &[u8],
        node: &RawInode,
        now: Now,
    ) -> Result<u16> {
        self.change("unlink_node", self.name_credits(dir)? + 1 + crate::orphan::CREDITS, |tx| {
            let opened = self.opened(tx, dir)?;
            let place = self.place_of(&opened, name, node)?;
            opened.remove(tx, &place)?;
            self.touch(tx, dir, now)?;
            self.drop_link(tx, node, now)
        })
    }

    /// One name less.
    pub(super) fn drop_link(&self, tx: &mut Handle, node: &RawInode, now: Now) -> Result<u16> {
        if node.core().links_count.get() == 0 {
            return Err(CORRUPT);
        }
        let links = self.remove_link(tx, node)?;
        node.set_times(self, tx, &[Time::Change], now)?;
        if links == 0 {
            self.add_orphan(tx, node)?;
        }
        Ok(links)
    }

    /// Removes an empty directory: like [`unlink_node`](Self::unlink_node).
    ///
    /// # Errors
    /// `ENOTEMPTY`; `ENOENT`; `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn remove_dir(
        self: &Arc<Self>,
        dir: &RawInode,
        name: &[u8],
        node: &RawInode,
        now: Now,
    ) -> Result<()> {
        let credits = self.name_credits(dir)? + self.name_credits(node)? + 1 + crate::orphan::CREDITS;
        self.change("remove_dir", credits, |tx| {
            let opened = self.opened(tx, dir)?;
            let place = self.place_of(&opened, name, node)?;
            if !self.opened(tx, node)?.is_empty()? {
                return Err(Errno::ENOTEMPTY);
            }
            opened.remove(tx, &place)?;
            self.clear_links(tx, node, now)?;
            self.remove_link(tx, dir)?;
            self.touch(tx, dir, now)
        })
    }

    /// A directory without a name.
    pub(super) fn clear_links(&self, tx: &mut Handle, node: &RawInode, now: Now) -> Result<()> {
        node.update(self, tx, |core| {
            core.links_count.set(0);
            core.set_size(0);
        })?;
        node.set_times(self, tx, &[Time::Change], now)?;
        self.add_orphan(tx, node)
    }
}
