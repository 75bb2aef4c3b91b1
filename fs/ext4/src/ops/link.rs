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
            let mut tx = self.start(self.name_credits(dir)? + 1 + crate::orphan::CREDITS)?;
            self.opened(&mut tx, dir)?.add(&mut tx, name, node.ino, type_of(node.mode()))?;
            let unnamed = node.core().links_count.get() == 0;
            node.set_times(self, &mut tx, &[Time::Change], now)?;
            self.add_link(&mut tx, node)?;
            if unnamed {
                self.remove_orphan(&mut tx, node)?;
            }
            self.touch(&mut tx, dir, now)
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
        let mut tx = self.start(self.name_credits(dir)? + 1 + crate::orphan::CREDITS)?;
        let opened = self.opened(&mut tx, dir)?;
        let place = self.place_of(&opened, name, node)?;
        opened.remove(&mut tx, &place)?;
        self.touch(&mut tx, dir, now)?;
        self.drop_link(&mut tx, node, now)
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
        let mut tx = self.start(credits)?;
        let opened = self.opened(&mut tx, dir)?;
        let place = self.place_of(&opened, name, node)?;
        if !self.opened(&mut tx, node)?.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        opened.remove(&mut tx, &place)?;
        self.clear_links(&mut tx, node, now)?;
        self.remove_link(&mut tx, dir)?;
        self.touch(&mut tx, dir, now)
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
