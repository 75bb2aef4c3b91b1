//! The hash tree of a directory that is changed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use buffer::Buffer;
use mm::TryVec;
use smallvec::SmallVec;

use super::{Dir, Place};
use crate::disk::dir::{self, entry_size, file_type, put_entry};
use crate::disk::features::Incompat;
use crate::disk::hash::{Version, hash};
use crate::disk::htree::{
    BLOCK_MASK, CountLimit, MAX_LEVELS, MAX_LEVELS_LARGE, NODE_PLACES_OFFSET, Place as Slot,
    ROOT_INFO_OFFSET, ROOT_INFO_SIZE, ROOT_PLACES_OFFSET, RootInfo, limit, places,
};
use crate::disk::inode::Flags;
use crate::disk::{U16, U32, at, at_mut};
use crate::tx::Handle;
use crate::volume::CORRUPT;

/// A node on the way.
struct Frame {
    /// Its block in the directory.
    block: u32,
    buffer: Arc<Buffer>,
    /// Where its places begin.
    offset: usize,
    /// The place that leads on.
    at: usize,
    /// Places in use.
    count: usize,
    /// Places there is room for.
    limit: usize,
}

type Way = SmallVec<[Frame; MAX_LEVELS_LARGE as usize]>;

/// A name of a leaf that is split.
struct Named {
    hash: u32,
    ino: u32,
    kind: u8,
    name: core::ops::Range<usize>,
}

/// Splits of one addition: of each level and of the leaf, and again if all names of a leaf are on one side.
const MOST_SPLITS: u32 = 12;

impl Dir<'_> {
    fn bad_tree(&self, text: &str) -> Errno {
        self.volume.damaged("dx_probe", self.node.ino, 0, format_args!("{text}"))
    }

    fn max_levels(&self) -> u32 {
        let large = self.volume.incompat.contains(Incompat::LARGEDIR);
        (if large { MAX_LEVELS_LARGE } else { MAX_LEVELS }).into()
    }

    fn root(&self) -> Result<(Arc<Buffer>, RootInfo)> {
        let buffer = self.block_there(0)?;
        let info: RootInfo = *at(buffer.lock().data().bytes(), ROOT_INFO_OFFSET).ok_or(CORRUPT)?;
        if usize::from(info.info_length) != ROOT_INFO_SIZE || info.unused_flags & 1 != 0 {
            return Err(self.bad_tree("unimplemented hash flags or info length"));
        }
        if u32::from(info.indirect_levels) >= self.max_levels() {
            return Err(self.bad_tree("htree depth exceeds supported value"));
        }
        Ok((buffer, info))
    }

    /// Levels of nodes, the root included.
    pub(super) fn levels(&self) -> Result<u32> {
        Ok(u32::from(self.root()?.1.indirect_levels) + 1)
    }

    fn version(&self, info: &RootInfo) -> Result<Version> {
        Version::from_disk(info.hash_version, self.volume.unsigned_hash)
            .ok_or_else(|| self.bad_tree("unrecognised inode hash code"))
    }

    fn hash(&self, version: Version, name: &[u8]) -> u32 {
        hash(name, version, &self.volume.hash.1).major
    }

    fn frame(&self, block: u32, buffer: Arc<Buffer>, offset: usize, hash: u32) -> Result<(Frame, u32)> {
        let content = buffer.lock();
        let bytes = content.data().bytes();
        let Some(places) = places(bytes, offset, self.volume.sums.metadata) else {
            drop(content);
            return Err(self.bad_tree("dx entry: no count or count > limit"));
        };
        let at = places.get(1..).unwrap_or_default().partition_point(|place| place.hash.get() <= hash);
        let next = places.get(at).map_or(0, |place| place.block.get() & BLOCK_MASK);
        let count = places.len();
        let limit = limit(bytes.len(), offset, self.volume.sums.metadata);
        drop(content);
        Ok((Frame { block, buffer, offset, at, count, limit }, next))
    }

    /// The way to the leaf of a hash, and the leaf.
    fn probe(&self, name: &[u8]) -> Result<(Way, u32, u32, Version)> {
        let (root, info) = self.root()?;
        let version = self.version(&info)?;
        let wanted = self.hash(version, name);
        let mut way = Way::new();
        let (frame, mut next) = self.frame(0, root, ROOT_PLACES_OFFSET, wanted)?;
        way.push(frame);
        for _ in 0..info.indirect_levels {
            let buffer = self.block_there(next)?;
            let (frame, below) = self.frame(next, buffer, NODE_PLACES_OFFSET, wanted)?;
            way.push(frame);
            next = below;
        }
        Ok((way, next, wanted, version))
    }

    fn slot(&self, frame: &Frame, at: usize) -> Option<Slot> {
        let content = frame.buffer.lock();
        places(content.data().bytes(), frame.offset, self.volume.sums.metadata)?.get(at).copied()
    }

    /// On to the next leaf, if that may have names with the same hash.
    fn next_leaf(&self, way: &mut Way, wanted: u32) -> Result<Option<u32>> {
        let turn = way
            .iter()
            .enumerate()
            .rev()
            .find_map(|(number, frame)| self.slot(frame, frame.at + 1).map(|slot| (number, slot)));
        let Some((number, slot)) = turn else { return Ok(None) };
        if slot.hash.get() & 1 == 0 || slot.hash.get() & !1 != wanted {
            return Ok(None);
        }
        if let Some(frame) = way.get_mut(number) {
            frame.at += 1;
        }
        let mut next = slot.block.get() & BLOCK_MASK;
        for frame in way.iter_mut().skip(number + 1) {
            let buffer = self.block_there(next)?;
            (*frame, _) = self.frame(next, buffer, NODE_PLACES_OFFSET, 0)?;
            frame.at = 0;
            next = self.slot(frame, 0).ok_or(CORRUPT)?.block.get() & BLOCK_MASK;
        }
        Ok(Some(next))
    }

    pub(super) fn find_in_tree(&self, name: &[u8]) -> Result<Option<Place>> {
        let (mut way, mut leaf, wanted, _) = self.probe(name)?;
        for _ in 0..=self.blocks() {
            let buffer = self.block_there(leaf)?;
            if let Some(place) = self.find_in(leaf, &buffer, name)? {
                return Ok(Some(place));
            }
            match self.next_leaf(&mut way, wanted)? {
                Some(next) => leaf = next,
                None => return Ok(None),
            }
        }
        Err(self.bad_tree("the leaves of a hash have no end"))
    }

    pub(super) fn add_to_tree(&self, tx: &mut Handle, name: &[u8], ino: u32, kind: u8) -> Result<()> {
        for _ in 0..MOST_SPLITS {
            let (way, leaf, _, version) = self.probe(name)?;
            let buffer = self.block_there(leaf)?;
            if self.put_in_block(tx, leaf, &buffer, name, ino, kind)? {
                return Ok(());
            }
            let last = way.last().ok_or(CORRUPT)?;
            if last.count < last.limit {
                self.split_leaf(tx, last, leaf, &buffer, version)?;
            } else {
                self.split_node(tx, &way)?;
            }
        }
        Err(self.bad_tree("no room after splits"))
    }

    /// Puts a place behind the one that led on.
    fn insert(&self, tx: &mut Handle, frame: &Frame, hash: u32, block: u32) -> Result<()> {
        self.modify(tx, frame.block, &frame.buffer, |bytes| {
            set_count(bytes, frame.offset, frame.count + 1, frame.limit);
            let slots = slots_mut(bytes, frame.offset, frame.count + 1);
            let at = frame.at + 1;
            if at < slots.len() {
                slots.copy_within(at..frame.count, at + 1);
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = Slot { hash: U32::new(hash), block: U32::new(block) };
            }
        })
    }

    /// A node is full: the lowest on the way that has no room while the one above has gives half of its places to a new one. If all are
    /// full, the tree gets one level more.
    fn split_node(&self, tx: &mut Handle, way: &Way) -> Result<()> {
        let mut number = way.len() - 1;
        while let Some(above) = number.checked_sub(1).and_then(|above| way.get(above))
            && above.count == above.limit
        {
            number -= 1;
        }
        let frame = way.get(number).ok_or(CORRUPT)?;
        let mut all = mm::fallible::try_with_capacity(frame.count)?;
        {
            let content = frame.buffer.lock();
            let places = places(content.data().bytes(), frame.offset, self.volume.sums.metadata);
            all.try_extend_from_slice(places.ok_or(CORRUPT)?)?;
        }
        if number > 0 {
            let (left, right) = all.split_at(all.len() / 2);
            let first = right.first().ok_or(CORRUPT)?.hash.get();
            let block = self.new_node(tx, right)?;
            self.modify(tx, frame.block, &frame.buffer, |bytes| {
                set_count(bytes, frame.offset, left.len(), frame.limit);
            })?;
            let above = way.get(number - 1).ok_or(CORRUPT)?;
            return self.insert(tx, above, first, block);
        }
        if way.len() as u32 >= self.max_levels() {
            let large = self.volume.incompat.contains(Incompat::LARGEDIR);
            log::warn!(
                "EXT4-fs warning: Directory (ino: {}) index full, reach max htree level :{}{}",
                self.node.ino,
                self.max_levels(),
                if large { "" } else { "; large_dir feature is not enabled on this filesystem" }
            );
            return Err(Errno::ENOSPC);
        }
        let block = self.new_node(tx, &all)?;
        self.modify(tx, 0, &frame.buffer, |bytes| {
            if let Some(info) = at_mut::<RootInfo>(bytes, ROOT_INFO_OFFSET) {
                info.indirect_levels += 1;
            }
            set_count(bytes, frame.offset, 1, frame.limit);
            if let Some(slot) = slots_mut(bytes, frame.offset, 1).first_mut() {
                slot.block = U32::new(block);
            }
        })
    }

    /// A new inner node with these places.
    fn new_node(&self, tx: &mut Handle, places: &[Slot]) -> Result<u32> {
        let (format, size) = (self.volume.dir_format(), self.volume.block_size());
        let most = limit(size, NODE_PLACES_OFFSET, self.volume.sums.metadata);
        let (block, _) = self.append(tx, |bytes| {
            put_entry(bytes, 0, size, 0, b"", file_type::UNKNOWN, &format);
            for (slot, place) in slots_mut(bytes, NODE_PLACES_OFFSET, places.len()).iter_mut().zip(places) {
                *slot = *place;
            }
            set_count(bytes, NODE_PLACES_OFFSET, places.len(), most);
        })?;
        Ok(block)
    }

    /// A leaf is full: the names with the larger hashes, half of the bytes, go to a new one.
    fn split_leaf(
        &self,
        tx: &mut Handle,
        frame: &Frame,
        leaf: u32,
        buffer: &Arc<Buffer>,
        version: Version,
    ) -> Result<()> {
        let old = buffer.data();
        let mut names: Vec<Named> = Vec::new();
        for entry in dir::entries(old.bytes(), 0, self.volume.dir_format()) {
            let entry = entry.map_err(|damage| self.bad_entry(&damage, buffer))?;
            if entry.inode == 0 {
                continue;
            }
            let start = entry.offset + dir::HEADER_SIZE;
            names.try_push(Named {
                hash: self.hash(version, entry.name),
                ino: entry.inode,
                kind: entry.file_type,
                name: start..start + entry.name.len(),
            })?;
        }
        names.sort_unstable_by_key(|named| named.hash);
        let all: usize = names.iter().map(|named| entry_size(named.name.len())).sum();
        let mut left = 0;
        let mut split = 0;
        while let Some(named) = names.get(split)
            && (split == 0 || left + entry_size(named.name.len()) <= all / 2)
        {
            left += entry_size(named.name.len());
            split += 1;
        }
        // Where no names with the same hash are divided, if there is such a place.
        let apart = |at: &usize| match (at.checked_sub(1).and_then(|at| names.get(at)), names.get(*at)) {
            (Some(one), Some(two)) => one.hash != two.hash,
            _ => false,
        };
        let near = (split.saturating_sub(2)..=split + 2).filter(apart);
        let split = near.min_by_key(|at| at.abs_diff(split)).unwrap_or(split);
        let (Some(first), Some(before)) =
            (names.get(split), split.checked_sub(1).and_then(|at| names.get(at)))
        else {
            return Err(self.bad_tree("a full leaf with less than two names"));
        };
        let continued = u32::from(first.hash == before.hash);
        let hash = first.hash | continued;
        let (stay, go) = names.split_at(split);
        let (block, _) = self.append(tx, |bytes| self.pack(bytes, old.bytes(), go))?;
        self.modify(tx, leaf, buffer, |bytes| {
            bytes.fill(0);
            self.pack(bytes, old.bytes(), stay);
        })?;
        self.insert(tx, frame, hash, block)
    }

    /// Writes names one behind the other; the last one has the rest of the block.
    fn pack(&self, bytes: &mut [u8], old: &[u8], names: &[Named]) {
        let (format, end) = (self.volume.dir_format(), self.entry_bytes());
        let mut offset = 0;
        for (number, named) in names.iter().enumerate() {
            let name = old.get(named.name.clone()).unwrap_or_default();
            let last = number + 1 == names.len();
            let rec_len = if last { end - offset } else { entry_size(name.len()) };
            put_entry(bytes, offset, rec_len, named.ino, name, named.kind, &format);
            offset += rec_len;
        }
        if names.is_empty() {
            put_entry(bytes, 0, end, 0, b"", file_type::UNKNOWN, &format);
        }
        self.put_tail(bytes);
    }

    /// Makes a tree of a directory of one block: its names go to a leaf.
    pub(super) fn make_tree(&self, tx: &mut Handle) -> Result<()> {
        let root = self.block_there(0)?;
        let old = root.data();
        let format = self.volume.dir_format();
        let mut names: Vec<Named> = Vec::new();
        let mut parent = None;
        for (number, entry) in dir::entries(old.bytes(), 0, format).enumerate() {
            let entry = entry.map_err(|damage| self.bad_entry(&damage, &root))?;
            match (number, entry.name) {
                (0, b".") => {}
                (1, b"..") => parent = Some(entry.inode),
                (0 | 1, _) => return Err(self.bad_tree("no '.' and '..' at the start")),
                _ if entry.inode == 0 => {}
                _ => {
                    let start = entry.offset + dir::HEADER_SIZE;
                    names.try_push(Named {
                        hash: 0,
                        ino: entry.inode,
                        kind: entry.file_type,
                        name: start..start + entry.name.len(),
                    })?;
                }
            }
        }
        let parent = parent.ok_or(CORRUPT)?;
        let (leaf, _) = self.append(tx, |bytes| self.pack(bytes, old.bytes(), &names))?;
        self.node.update(self.volume, tx, |core| {
            core.flags.set((core.flags() | Flags::INDEX).bits());
        })?;
        let size = self.volume.block_size();
        let most = limit(size, ROOT_PLACES_OFFSET, self.volume.sums.metadata);
        self.modify(tx, 0, &root, |bytes| {
            bytes.fill(0);
            let first = entry_size(1);
            put_entry(bytes, 0, first, self.node.ino, b".", file_type::DIR, &format);
            put_entry(bytes, first, size - first, parent, b"..", file_type::DIR, &format);
            if let Some(info) = at_mut::<RootInfo>(bytes, ROOT_INFO_OFFSET) {
                *info = RootInfo {
                    reserved_zero: U32::ZERO,
                    hash_version: self.volume.hash.0.to_disk(),
                    info_length: ROOT_INFO_SIZE as u8,
                    indirect_levels: 0,
                    unused_flags: 0,
                };
            }
            if let Some(slot) = slots_mut(bytes, ROOT_PLACES_OFFSET, 1).first_mut() {
                slot.block = U32::new(leaf);
            }
            set_count(bytes, ROOT_PLACES_OFFSET, 1, most);
        })
    }
}

fn set_count(bytes: &mut [u8], offset: usize, count: usize, limit: usize) {
    if let Some(counts) = at_mut::<CountLimit>(bytes, offset) {
        *counts = CountLimit { limit: U16::new(limit as u16), count: U16::new(count as u16) };
    }
}

fn slots_mut(bytes: &mut [u8], offset: usize, count: usize) -> &mut [Slot] {
    use zerocopy::FromBytes;
    let bytes = bytes.get_mut(offset..offset + count * size_of::<Slot>());
    bytes.and_then(|bytes| <[Slot]>::mut_from_bytes(bytes).ok()).unwrap_or_default()
}
