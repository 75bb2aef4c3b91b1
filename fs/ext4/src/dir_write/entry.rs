//! Names.

use abi::{Errno, Result};
use alloc::sync::Arc;
use buffer::Buffer;

use super::{Dir, Place};
use crate::disk::dir::{self, Damage, Format, Header, entry_size, file_type, put_entry};
use crate::disk::features::Compat;
use crate::disk::inode::Flags;
use crate::disk::{U16, at_mut};
use crate::tx::Handle;
use crate::volume::CORRUPT;

/// Puts a name into the first place of a block that has room for it; `false` if none has.
pub(super) fn put_in(
    bytes: &mut [u8],
    format: &Format,
    name: &[u8],
    ino: u32,
    kind: u8,
) -> core::result::Result<bool, Damage> {
    let needed = entry_size(name.len());
    let mut found = None;
    for entry in dir::entries(bytes, 0, *format) {
        let entry = entry?;
        let used = if entry.inode == 0 { 0 } else { entry_size(entry.name.len()) };
        if entry.rec_len - used >= needed {
            found = Some((entry.offset, used, entry.rec_len));
            break;
        }
    }
    let Some((offset, used, rec_len)) = found else { return Ok(false) };
    if used > 0
        && let Some(header) = at_mut::<Header>(bytes, offset)
    {
        header.rec_len = U16::new(used as u16);
    }
    Ok(put_entry(bytes, offset + used, rec_len - used, ino, name, kind, format).is_some())
}

impl Dir<'_> {
    /// The first block of a new directory: `.` and `..`. The handle has [`first_credits`](Self::first_credits) for it.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn init(&self, tx: &mut Handle, parent: u32) -> Result<()> {
        let (format, end) = (self.volume.dir_format(), self.entry_bytes());
        self.append(tx, |bytes| {
            put_entry(bytes, 0, entry_size(1), self.node.ino, b".", file_type::DIR, &format);
            let first = entry_size(1);
            put_entry(bytes, first, end - first, parent, b"..", file_type::DIR, &format);
            self.put_tail(bytes);
        })?;
        Ok(())
    }

    /// Blocks that [`init`](Self::init) changes.
    ///
    /// # Errors
    /// `EFSCORRUPTED`.
    pub fn first_credits(&self) -> Result<u32> {
        self.append_credits()
    }

    /// Finds a name.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; what a damaged directory is answered.
    pub fn find(&self, name: &[u8]) -> Result<Option<Place>> {
        if self.has_tree() && !matches!(name, b"." | b"..") {
            return self.find_in_tree(name);
        }
        let blocks = self.blocks();
        let mut number = 0;
        while number < blocks {
            match self.block(number)? {
                Some(buffer) => {
                    if let Some(place) = self.find_in(number, &buffer, name)? {
                        return Ok(Some(place));
                    }
                    number += 1;
                }
                None => number = number.saturating_add(self.map().lookup(number, blocks - number)?.len),
            }
        }
        Ok(None)
    }

    pub(super) fn find_in(&self, block: u32, buffer: &Arc<Buffer>, name: &[u8]) -> Result<Option<Place>> {
        let data = buffer.data();
        let mut before = None;
        for entry in dir::entries(data.bytes(), 0, self.volume.dir_format()) {
            let entry = entry.map_err(|damage| self.bad_entry(&damage, buffer))?;
            if entry.inode != 0 && entry.name == name {
                return Ok(Some(Place {
                    ino: entry.inode,
                    file_type: entry.file_type,
                    block,
                    buffer: buffer.clone(),
                    offset: entry.offset,
                    before,
                }));
            }
            before = Some(entry.offset);
        }
        Ok(None)
    }

    /// Blocks that [`add`](Self::add) changes at most.
    ///
    /// # Errors
    /// `EIO`; what a damaged directory is answered.
    pub fn add_credits(&self) -> Result<u32> {
        // A leaf and each node above it may be split; a directory of one block may become a tree, whose leaf is split.
        let appends = if self.has_tree() { self.levels()? + 2 } else { 2 };
        Ok(appends * (self.append_credits()? + 2) + 2)
    }

    /// Adds a name that is not there.
    ///
    /// # Errors
    /// `ENOSPC`, also if the tree has no room for more; `EIO`, `ENOMEM`; what a damaged directory is answered.
    pub fn add(&self, tx: &mut Handle, name: &[u8], ino: u32, kind: u8) -> Result<()> {
        if name.is_empty() || name.len() > dir::NAME_LEN {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.has_tree() {
            return self.add_to_tree(tx, name, ino, kind);
        }
        if self.node.flags().contains(Flags::INDEX) {
            // The file system has no trees any more: this one would be wrong from now on.
            self.node.update(self.volume, tx, |core| {
                core.flags.set((core.flags() - Flags::INDEX).bits());
            })?;
        }
        let blocks = self.blocks();
        for number in 0..blocks {
            let Some(buffer) = self.block(number)? else { continue };
            if self.put_in_block(tx, number, &buffer, name, ino, kind)? {
                return Ok(());
            }
        }
        if blocks == 1 && self.volume.compat.contains(Compat::DIR_INDEX) {
            self.make_tree(tx)?;
            return self.add_to_tree(tx, name, ino, kind);
        }
        let (format, end) = (self.volume.dir_format(), self.entry_bytes());
        self.append(tx, |bytes| {
            put_entry(bytes, 0, end, ino, name, kind, &format);
            self.put_tail(bytes);
        })?;
        Ok(())
    }

    /// Puts a name into a block, if there is room.
    pub(super) fn put_in_block(
        &self,
        tx: &mut Handle,
        number: u32,
        buffer: &Arc<Buffer>,
        name: &[u8],
        ino: u32,
        kind: u8,
    ) -> Result<bool> {
        let format = self.volume.dir_format();
        // Whether there is room is seen without making the block part of the change.
        let needed = entry_size(name.len());
        let mut has_room = false;
        {
            let data = buffer.data();
            for entry in dir::entries(data.bytes(), 0, format) {
                let entry = entry.map_err(|damage| self.bad_entry(&damage, buffer))?;
                let used = if entry.inode == 0 { 0 } else { entry_size(entry.name.len()) };
                if entry.rec_len - used >= needed {
                    has_room = true;
                    break;
                }
            }
        }
        if !has_room {
            return Ok(false);
        }
        self.modify(tx, number, buffer, |bytes| put_in(bytes, &format, name, ino, kind))?
            .map_err(|damage| self.bad_entry(&damage, buffer))
    }

    /// Removes a name: its place goes to the entry before it.
    ///
    /// # Errors
    /// Those of the handle; `EFSCORRUPTED` if the directory was changed since the place was found.
    pub fn remove(&self, tx: &mut Handle, place: &Place) -> Result<()> {
        let done = self.modify(tx, place.block, &place.buffer, |bytes| {
            let header: &mut Header = at_mut(bytes, place.offset)?;
            if header.inode.get() != place.ino {
                return None;
            }
            let rec_len = header.rec_len.get();
            header.inode.set(0);
            if let Some(before) = place.before {
                let before: &mut Header = at_mut(bytes, before)?;
                before.rec_len.set(before.rec_len.get().checked_add(rec_len)?);
            }
            Some(())
        })?;
        done.ok_or(CORRUPT)
    }

    /// Points a name at another inode.
    ///
    /// # Errors
    /// Those of the handle; `EFSCORRUPTED` if the directory was changed since the place was found.
    pub fn set_ino(&self, tx: &mut Handle, place: &Place, ino: u32, kind: u8) -> Result<()> {
        let has_types = self.volume.dir_format().has_types;
        let done = self.modify(tx, place.block, &place.buffer, |bytes| {
            let header: &mut Header = at_mut(bytes, place.offset)?;
            if header.inode.get() != place.ino {
                return None;
            }
            header.inode.set(ino);
            if has_types {
                header.file_type = kind;
            }
            Some(())
        })?;
        done.ok_or(CORRUPT)
    }

    /// Whether it has only `.` and `..`.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; what a damaged directory is answered.
    pub fn is_empty(&self) -> Result<bool> {
        let blocks = self.blocks();
        let mut number = 0;
        while number < blocks {
            let Some(buffer) = self.block(number)? else {
                number = number.saturating_add(self.map().lookup(number, blocks - number)?.len);
                continue;
            };
            let data = buffer.data();
            for entry in dir::entries(data.bytes(), 0, self.volume.dir_format()) {
                let entry = entry.map_err(|damage| self.bad_entry(&damage, &buffer))?;
                if entry.inode != 0 && !(number == 0 && matches!(entry.name, b"." | b"..")) {
                    return Ok(false);
                }
            }
            number += 1;
        }
        Ok(true)
    }
}
