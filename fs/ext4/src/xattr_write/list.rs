//! A list of attributes in memory, from and to the form on the device: entries from the front, values from the back.

use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::TryVec;

use crate::disk::xattr::{
    ENTRY_SIZE, Entry, SIZE_MAX, attributes, block_hash, entry_hash, entry_size, value_size, value_words,
};
use crate::disk::{U16, U32, at_mut};
use crate::volume::CORRUPT;

/// An attribute.
pub struct Attribute {
    /// Prefix.
    pub index: u8,
    /// Name without the prefix.
    pub name: Vec<u8>,
    /// Value; empty if it is in an inode of its own.
    pub value: Vec<u8>,
    /// The inode with the value, its size and the hash; 0 for values that are here.
    pub inode: (u32, u32, u32),
}

/// Attributes in the order in which they are stored.
#[derive(Default)]
pub struct List(pub Vec<Attribute>);

impl List {
    /// Reads attributes whose entries begin at `first`; values count from `base`.
    ///
    /// # Errors
    /// `EFSCORRUPTED`, `ENOMEM`.
    pub fn read(bytes: &[u8], first: usize, base: usize) -> Result<Self> {
        let mut all = Vec::new();
        for attribute in attributes(bytes, first) {
            let attribute = attribute.ok_or(CORRUPT)?;
            let entry = attribute.entry;
            let (size, inode) = (entry.value_size.get() as usize, entry.value_inum.get());
            let mut value = Vec::new();
            if inode == 0 && size > 0 {
                let start = base + usize::from(entry.value_offs.get());
                let bytes = bytes.get(start..).and_then(|rest| rest.get(..size)).ok_or(CORRUPT)?;
                value.try_extend_from_slice(bytes)?;
            }
            let mut name = Vec::new();
            name.try_extend_from_slice(attribute.name)?;
            let inode = if inode == 0 { (0, 0, 0) } else { (inode, size as u32, entry.hash.get()) };
            all.try_push(Attribute { index: entry.name_index, name, value, inode })?;
        }
        Ok(Self(all))
    }

    /// The position of a name, or where it belongs in the order of a block.
    pub fn position(&self, index: u8, name: &[u8]) -> core::result::Result<usize, usize> {
        let key = (index, name.len(), name);
        match self.0.iter().position(|a| (a.index, a.name.len(), &*a.name) == key) {
            Some(at) => Ok(at),
            None => Err(self
                .0
                .iter()
                .position(|a| (a.index, a.name.len(), &*a.name) > key)
                .unwrap_or(self.0.len())),
        }
    }

    /// Sets (`Some`) or removes a value.
    ///
    /// # Errors
    /// `ENOMEM`; `ERANGE` for a name, `ENOSPC` for a value that is too long.
    pub fn set(&mut self, index: u8, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        if name.len() > u8::MAX.into() {
            return Err(Errno::ERANGE);
        }
        let place = self.position(index, name);
        let Some(value) = value else {
            if let Ok(at) = place {
                self.0.remove(at);
            }
            return Ok(());
        };
        if value.len() > SIZE_MAX {
            return Err(Errno::ENOSPC);
        }
        let mut copy = Vec::new();
        copy.try_extend_from_slice(value)?;
        match place {
            Ok(at) => {
                if let Some(attribute) = self.0.get_mut(at) {
                    (attribute.value, attribute.inode) = (copy, (0, 0, 0));
                }
            }
            Err(at) => {
                let mut own = Vec::new();
                own.try_extend_from_slice(name)?;
                self.0.try_insert(at, Attribute { index, name: own, value: copy, inode: (0, 0, 0) })?;
            }
        }
        Ok(())
    }

    /// Bytes that the entries, their end and the values take.
    pub fn size(&self) -> usize {
        let each = |a: &Attribute| entry_size(a.name.len()) + value_size(a.value.len());
        self.0.iter().map(each).sum::<usize>() + 4
    }

    /// Writes it: entries from `first` on, values up to the end; what is between is zeros. Values count from `base`. Returns the hash of all.
    ///
    /// # Errors
    /// `ENOSPC`: there is no room, and nothing is changed.
    pub fn write(&self, bytes: &mut [u8], first: usize, base: usize, hashes: bool) -> Result<u32> {
        if bytes.len().saturating_sub(first) < self.size() {
            return Err(Errno::ENOSPC);
        }
        bytes.get_mut(first..).ok_or(Errno::ENOSPC)?.fill(0);
        let (mut at, mut end) = (first, bytes.len());
        let mut all = Vec::new();
        for attribute in &self.0 {
            let mut offset = 0;
            if !attribute.value.is_empty() {
                end -= value_size(attribute.value.len());
                offset = end - base;
                let place = bytes.get_mut(end..end + attribute.value.len()).ok_or(CORRUPT)?;
                place.copy_from_slice(&attribute.value);
            }
            let (inode, size, hash) = attribute.inode;
            let hash = match (inode, hashes) {
                (0, true) => entry_hash(&attribute.name, value_words(&attribute.value)),
                (0, false) => 0,
                _ => hash,
            };
            all.try_push(hash)?;
            let size = if inode == 0 { attribute.value.len() as u32 } else { size };
            *at_mut::<Entry>(bytes, at).ok_or(CORRUPT)? = Entry {
                name_len: attribute.name.len() as u8,
                name_index: attribute.index,
                value_offs: U16::new(offset as u16),
                value_inum: U32::new(inode),
                value_size: U32::new(size),
                hash: U32::new(hash),
            };
            let name = at + ENTRY_SIZE;
            bytes.get_mut(name..name + attribute.name.len()).ok_or(CORRUPT)?.copy_from_slice(&attribute.name);
            at += entry_size(attribute.name.len());
        }
        Ok(block_hash(all))
    }
}
