//! Data in the inode: `inline_data`. It is read, and goes to a block before it is changed.

use alloc::vec::Vec;

use abi::Result;
use mm::TryVec;

use super::Dir;
use super::entry::put_in;
use crate::disk::dir::{self, Format, entry_size, file_type, put_entry};
use crate::disk::features::Incompat;
use crate::disk::inode::{BLOCK_BYTES, Core, Flags};
use crate::disk::xattr::{INLINE_DATA_NAME, index};
use crate::disk::{U32, at, at_mut, extent};
use crate::raw::RawInode;
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};
use crate::xattr_write::body;

/// Bytes before the names of a directory: its parent.
const PARENT: usize = 4;

impl RawInode {
    /// Whether its data is in the inode.
    pub fn is_inline(&self) -> bool {
        self.flags().contains(Flags::INLINE_DATA)
    }

    /// The data that is in the inode: as much as there is room for, also beyond its size.
    ///
    /// # Errors
    /// `EFSCORRUPTED`, `ENOMEM`.
    pub fn inline_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_extend_from_slice(&self.core().block)?;
        self.read(|raw| {
            body::find(raw, index::SYSTEM, INLINE_DATA_NAME, |value| bytes.try_extend_from_slice(value))
        })?
        .unwrap_or(Ok(()))?;
        Ok(bytes)
    }

    /// The inode has no data in itself any more, but a map without blocks. Its size stays: who calls has the data
    /// ([`inline_bytes`](Self::inline_bytes)) and writes it elsewhere.
    ///
    /// # Errors
    /// Those of the handle; `EFSCORRUPTED`, `ENOMEM`.
    pub fn drop_inline(&self, volume: &Volume, tx: &mut Handle) -> Result<()> {
        let extents = volume.incompat.contains(Incompat::EXTENTS);
        self.modify(volume, tx, |raw| {
            body::set(raw, index::SYSTEM, INLINE_DATA_NAME, None)?;
            let core: &mut Core = at_mut(raw, 0).ok_or(CORRUPT)?;
            core.block = [0; BLOCK_BYTES];
            let mut flags = core.flags() - Flags::INLINE_DATA;
            if extents {
                flags |= Flags::EXTENTS;
                if let Some(root) = at_mut(&mut core.block, 0) {
                    *root = extent::Header::new(extent::ROOT_ENTRIES, 0);
                }
            }
            core.flags.set(flags.bits());
            Ok(())
        })?
    }
}

impl Dir<'_> {
    /// Gives a directory whose names are in its inode a block. The handle has [`first_credits`](Self::first_credits) and one more.
    ///
    /// # Errors
    /// `ENOSPC`, with nothing changed; `EIO`, `ENOMEM`; what a damaged directory is answered.
    pub fn leave_inline(&self, tx: &mut Handle) -> Result<()> {
        if !self.node.is_inline() {
            return Ok(());
        }
        let bytes = self.node.inline_bytes()?;
        let size = usize::try_from(self.node.size()).unwrap_or(usize::MAX).max(BLOCK_BYTES);
        let parent: u32 = at::<U32>(&bytes, 0).ok_or(CORRUPT)?.get();
        let format = Format { has_tail: false, ..self.volume.dir_format() };
        let first = bytes.get(PARENT..BLOCK_BYTES).unwrap_or_default();
        let second = bytes.get(BLOCK_BYTES..size.min(bytes.len())).unwrap_or_default();
        let old = self.node.core();
        self.node.drop_inline(self.volume, tx)?;
        self.node.update(self.volume, tx, |core| core.set_size(0))?;
        let (full, end) = (self.volume.dir_format(), self.entry_bytes());
        let mut wrong = false;
        let done = self.append(tx, |block| {
            put_entry(block, 0, entry_size(1), self.node.ino, b".", file_type::DIR, &full);
            let dot = entry_size(1);
            put_entry(block, dot, end - dot, parent, b"..", file_type::DIR, &full);
            self.put_tail(block);
            for entry in dir::entries(first, 0, format).chain(dir::entries(second, 0, format)) {
                match entry {
                    Ok(entry) if entry.inode == 0 => {}
                    Ok(entry) => {
                        wrong |= put_in(block, &full, entry.name, entry.inode, entry.file_type) != Ok(true);
                    }
                    Err(_) => wrong = true,
                }
            }
        });
        if let Err(error) = done {
            // As it was.
            self.node.modify(self.volume, tx, |raw| {
                if let Some(core) = at_mut::<Core>(raw, 0) {
                    *core = old;
                }
                let rest = bytes.get(BLOCK_BYTES..).unwrap_or_default();
                body::set(raw, index::SYSTEM, INLINE_DATA_NAME, Some(rest))
            })??;
            return Err(error);
        }
        if wrong {
            let text = format_args!("bad entry in the data of a directory's inode");
            return Err(self.volume.damaged("ext4_convert_inline_data_nolock", self.node.ino, 0, text));
        }
        Ok(())
    }
}
