//! Renaming.

use abi::Result;
use alloc::sync::Arc;

use super::{Now, type_of};
use crate::disk::dir::file_type;
use crate::raw::{RawInode, Time, mode};
use crate::space::inodes::{NEW_CREDITS, NewInode};
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};

/// A name and what it is.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    /// The directory.
    pub dir: &'a RawInode,
    /// The name.
    pub name: &'a [u8],
}

impl Volume {
    /// Renames `node` from `old` to `new`, where `target` was, which loses a name. With `whiteout` the old name becomes that of a new inode
    /// (`RENAME_WHITEOUT`). The VFS knows that a directory does not go into itself, and that a `target` that is one is replaced by one.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `EMLINK`; `ENOENT`, `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn rename_node(
        self: &Arc<Self>,
        old: Name<'_>,
        new: Name<'_>,
        node: &RawInode,
        target: Option<&RawInode>,
        whiteout: Option<&NewInode>,
        now: Now,
    ) -> Result<()> {
        self.with_room(|| {
            let (is_dir, across) = (node.is_dir(), old.dir.ino != new.dir.ino);
            if is_dir && across && target.is_none() {
                self.check_links(new.dir)?;
            }
            let mut credits =
                self.name_credits(old.dir)? + self.name_credits(new.dir)? + self.name_credits_of(node)?;
            credits += 2 + 2 * crate::orphan::CREDITS + if whiteout.is_some() { NEW_CREDITS } else { 0 };
            if let Some(target) = target {
                credits += self.name_credits_of(target)?;
            }
            self.change("rename_node", credits, |tx| {
                let from = self.opened(tx, old.dir)?;
                let to = self.opened(tx, new.dir)?;
                if is_dir && across {
                    // Its `..` changes; before anything else, for this may find no room.
                    self.opened(tx, node)?;
                }
                self.place_of(&from, old.name, node)?;
                if let Some(target) = target
                    && target.is_dir()
                    && !self.opened(tx, target)?.is_empty()?
                {
                    return Err(abi::Errno::ENOTEMPTY);
                }
                let kind = type_of(node.mode());
                let whiteout = match whiteout {
                    None => None,
                    Some(new) => {
                        let links = 1;
                        Some(self.new_inode(tx, old.dir, &NewInode { links, mode: mode::CHAR, ..*new })?)
                    }
                };
                let named = match target {
                    Some(target) => {
                        let place = self.place_of(&to, new.name, target)?;
                        to.set_ino(tx, &place, node.ino, kind)
                    }
                    None => to.add(tx, new.name, node.ino, kind),
                };
                if let Err(error) = named {
                    if let Some(whiteout) = &whiteout {
                        self.free_inode(tx, whiteout, now.0 as u32)?;
                    }
                    return Err(error);
                }
                // The addition may have moved it.
                let place = self.place_of(&from, old.name, node)?;
                match &whiteout {
                    Some(whiteout) => from.set_ino(tx, &place, whiteout.ino, file_type::CHRDEV)?,
                    None => from.remove(tx, &place)?,
                }
                node.set_times(self, tx, &[Time::Change], now)?;
                if is_dir && across {
                    self.set_parent(tx, node, old.dir, new.dir)?;
                }
                if is_dir {
                    if across || target.is_some() {
                        self.remove_link(tx, old.dir)?;
                    }
                    if across && target.is_none() {
                        self.add_link(tx, new.dir)?;
                    }
                }
                if let Some(target) = target {
                    if target.is_dir() {
                        self.clear_links(tx, target, now)?;
                    } else {
                        self.drop_link(tx, target, now)?;
                    }
                }
                self.touch(tx, old.dir, now)?;
                self.touch(tx, new.dir, now)
            })
        })
    }

    /// Two names change their places (`RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// `EMLINK`; `ENOENT`, `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn exchange_nodes(
        self: &Arc<Self>,
        one: Name<'_>,
        one_node: &RawInode,
        two: Name<'_>,
        two_node: &RawInode,
        now: Now,
    ) -> Result<()> {
        let across = one.dir.ino != two.dir.ino;
        let (one_is, two_is) = (one_node.is_dir(), two_node.is_dir());
        if across && one_is != two_is {
            self.check_links(if one_is { two.dir } else { one.dir })?;
        }
        let mut credits = self.name_credits(one.dir)? + self.name_credits(two.dir)? + 4;
        credits += self.name_credits_of(one_node)? + self.name_credits_of(two_node)?;
        self.change("exchange_nodes", credits, |tx| {
            let first = self.opened(tx, one.dir)?;
            let second = self.opened(tx, two.dir)?;
            for node in [one_node, two_node] {
                if across && node.is_dir() {
                    self.opened(tx, node)?;
                }
            }
            let one_place = self.place_of(&first, one.name, one_node)?;
            let two_place = self.place_of(&second, two.name, two_node)?;
            first.set_ino(tx, &one_place, two_node.ino, type_of(two_node.mode()))?;
            second.set_ino(tx, &two_place, one_node.ino, type_of(one_node.mode()))?;
            for node in [one_node, two_node] {
                node.set_times(self, tx, &[Time::Change], now)?;
            }
            if across {
                if one_is {
                    self.set_parent(tx, one_node, one.dir, two.dir)?;
                }
                if two_is {
                    self.set_parent(tx, two_node, two.dir, one.dir)?;
                }
                if one_is != two_is {
                    let (gains, loses) = if one_is { (two.dir, one.dir) } else { (one.dir, two.dir) };
                    self.add_link(tx, gains)?;
                    self.remove_link(tx, loses)?;
                }
            }
            self.touch(tx, one.dir, now)?;
            self.touch(tx, two.dir, now)
        })
    }

    fn name_credits_of(self: &Arc<Self>, node: &RawInode) -> Result<u32> {
        if node.is_dir() { self.name_credits(node) } else { Ok(1) }
    }

    /// Points `..` of a directory at its new parent.
    fn set_parent(
        self: &Arc<Self>,
        tx: &mut Handle,
        node: &RawInode,
        old: &RawInode,
        new: &RawInode,
    ) -> Result<()> {
        let dir = self.opened(tx, node)?;
        let place = dir.find(b"..")?.ok_or(CORRUPT)?;
        if place.ino != old.ino {
            let text = format_args!("bad '..' of a directory: inode {} instead of {}", place.ino, old.ino);
            return Err(self.damaged("ext4_rename", node.ino, 0, text));
        }
        dir.set_ino(tx, &place, new.ino, file_type::DIR)
    }
}
