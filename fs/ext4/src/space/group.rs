//! Groups: their descriptors on the device, and what is known of them in memory.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Result;
use buffer::{Buffer, BufferCache};
use mm::TryCollect;
use mm::fallible::{try_into_boxed_slice, try_vec};
use sched::mutex::{Mutex, MutexGuard};

use super::bits::{self, Words};
use super::index::Index;
use crate::disk::group::{BLOCK_UNINIT, GroupDesc, INODE_UNINIT};
use crate::layout::Layout;
use crate::tx::Handle;
use crate::volume::{CORRUPT, Volume};

/// A group in memory. The numbers are those of its descriptor, for decisions without a lock.
pub struct Group {
    /// Free clusters.
    pub free: AtomicU32,
    /// Free inodes.
    pub free_inodes: AtomicU32,
    /// Directories.
    pub used_dirs: AtomicU32,
    state: Mutex<State>,
}

/// What is behind a group's lock.
pub struct State {
    /// What must not be taken. Empty until it is wanted first.
    pub(super) taken: Box<[u64]>,
    /// Not less than the longest run that is not taken.
    pub(super) longest: u32,
    /// The block bitmap is damaged: nothing is allocated or freed.
    blocks_damaged: bool,
    /// The inode bitmap is damaged.
    inodes_damaged: bool,
}

/// All groups.
pub struct Groups {
    all: Box<[Group]>,
    /// The blocks of descriptors.
    descs: Box<[Arc<Buffer>]>,
    desc_size: usize,
    per_block: u32,
    /// Where long runs are.
    pub index: Index,
    /// Where the last long run ended that had no room at its goal: the next one goes on there (stream allocation).
    pub(super) stream: AtomicU64,
    /// Blocks that were freed by changes that are not on the device yet.
    pub(super) waiting: AtomicU64,
}

impl Groups {
    /// Reads the descriptors, which were checked when the file system was mounted.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`.
    pub fn read(layout: &Layout, cache: &Arc<BufferCache>) -> Result<Self> {
        let descs = (0..layout.desc_blocks).map(|index| layout.desc_block(index)).try_collect_vec()?;
        cache.readahead(&descs);
        let mut buffers = mm::fallible::try_with_capacity(descs.len())?;
        for block in descs {
            mm::TryVec::try_push(&mut buffers, cache.read(block)?)?;
        }
        let index = Index::new(layout.groups)?;
        let mut this = Self {
            all: Box::default(),
            descs: try_into_boxed_slice(buffers)?,
            desc_size: layout.desc_size.into(),
            per_block: layout.descs_per_block(),
            index,
            stream: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        };
        let mut all = mm::fallible::try_with_capacity(layout.groups as usize)?;
        for number in 0..layout.groups {
            let desc = this.desc(number)?;
            let free = desc.free_clusters.min(layout.group_blocks(number));
            this.index.set(number, free);
            let state =
                State { taken: Box::default(), longest: free, blocks_damaged: false, inodes_damaged: false };
            let group = Group {
                free: AtomicU32::new(free),
                free_inodes: AtomicU32::new(desc.free_inodes.min(layout.inodes_per_group)),
                used_dirs: AtomicU32::new(desc.used_dirs),
                state: Mutex::new(state),
            };
            mm::TryVec::try_push(&mut all, group)?;
        }
        this.all = try_into_boxed_slice(all)?;
        Ok(this)
    }

    /// Blocks that were freed by changes that are not on the device yet.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Blocks of a group, which has `count`, may be taken again: what freed them is on the device.
    pub(super) fn release(&self, number: u32, range: core::ops::Range<u32>, count: u32) {
        self.waiting.fetch_sub(u64::from(range.end - range.start), Ordering::Relaxed);
        let Ok(group) = self.get(number) else { return };
        let mut state = group.state.lock();
        Words(&mut state.taken).change(range.clone(), false);
        let start = bits::run_start(&state.taken, range.start);
        let end = bits::next(&state.taken, range.end, count, true);
        if end - start > state.longest {
            state.longest = end - start;
            self.index.set(number, state.longest);
        }
    }

    /// A group.
    ///
    /// # Errors
    /// `EFSCORRUPTED` if there is none with this number.
    pub fn get(&self, number: u32) -> Result<&Group> {
        self.all.get(number as usize).ok_or(CORRUPT)
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.all.iter()
    }

    fn desc_place(&self, group: u32) -> Result<(&Arc<Buffer>, usize)> {
        let buffer = self.descs.get((group / self.per_block) as usize).ok_or(CORRUPT)?;
        Ok((buffer, (group % self.per_block) as usize * self.desc_size))
    }

    /// The descriptor of a group.
    ///
    /// # Errors
    /// `EFSCORRUPTED` if there is no such group.
    pub fn desc(&self, group: u32) -> Result<GroupDesc> {
        let (buffer, at) = self.desc_place(group)?;
        let content = buffer.lock();
        let bytes = content.data().bytes();
        bytes.get(at..at + self.desc_size).and_then(GroupDesc::read).ok_or(CORRUPT)
    }

    /// Free clusters of all groups.
    pub fn free_clusters(&self) -> u64 {
        self.all.iter().map(|group| u64::from(group.free.load(Ordering::Relaxed))).sum()
    }

    /// Free inodes of all groups.
    pub fn free_inodes(&self) -> u32 {
        self.all.iter().map(|group| group.free_inodes.load(Ordering::Relaxed)).fold(0, u32::saturating_add)
    }

    /// Directories of all groups.
    pub fn used_dirs(&self) -> u64 {
        self.all.iter().map(|group| u64::from(group.used_dirs.load(Ordering::Relaxed))).sum()
    }
}

/// Which bitmap of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bitmap {
    Blocks,
    Inodes,
}

impl Volume {
    /// Changes the descriptor of a group, whose lock is held, with its checksum.
    pub(super) fn modify_desc(
        &self,
        tx: &mut Handle,
        number: u32,
        f: impl FnOnce(&mut GroupDesc),
    ) -> Result<()> {
        let (buffer, at) = self.groups.desc_place(number)?;
        let desc = tx.modify(buffer, |bytes| {
            let bytes = bytes.get_mut(at..at + self.groups.desc_size)?;
            let mut desc = GroupDesc::read(bytes)?;
            f(&mut desc);
            desc.write(bytes)?;
            if self.sums.has_groups() {
                desc.checksum = self.sums.group(number, bytes);
                desc.write(bytes)?;
            }
            Some(desc)
        })?;
        let (desc, group) = (desc.ok_or(CORRUPT)?, self.groups.get(number)?);
        group.free.store(desc.free_clusters, Ordering::Relaxed);
        group.free_inodes.store(desc.free_inodes, Ordering::Relaxed);
        group.used_dirs.store(desc.used_dirs, Ordering::Relaxed);
        Ok(())
    }

    /// Locks a group.
    pub(super) fn lock_group(&self, number: u32) -> Result<MutexGuard<'_, State>> {
        Ok(self.groups.get(number)?.state.lock())
    }

    /// Locks a group whose inode bitmap can be used.
    pub(super) fn lock_inodes(&self, number: u32) -> Result<MutexGuard<'_, State>> {
        let state = self.lock_group(number)?;
        if state.inodes_damaged { Err(CORRUPT) } else { Ok(state) }
    }

    /// Locks a group and reads its block bitmap, if that was not done before.
    pub(super) fn lock_blocks(&self, number: u32) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock_group(number)?;
        if state.blocks_damaged {
            return Err(CORRUPT);
        }
        if !state.taken.is_empty() {
            return Ok(state);
        }
        let desc = self.groups.desc(number)?;
        let count = self.layout.group_blocks(number);
        let mut words = try_vec(u64::MAX, self.layout.clusters_per_group.div_ceil(64) as usize)?;
        if desc.has(BLOCK_UNINIT) {
            Words(&mut words).change(0..count, false);
            for range in self.own_metadata(number, &desc) {
                Words(&mut words).change(range, true);
            }
        } else {
            let read = self.read_bitmap(number, &desc, Bitmap::Blocks);
            let buffer = read.inspect_err(|_| state.blocks_damaged = true)?;
            let data = buffer.data();
            for (word, bytes) in words.iter_mut().zip(data.bytes().as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            Words(&mut words).change(count..self.layout.clusters_per_group.next_multiple_of(64), true);
        }
        let (mut free, mut longest) = (0, 0);
        for (_, len) in bits::free_runs(&words, 0, count) {
            free += len;
            longest = longest.max(len);
        }
        if free != desc.free_clusters {
            state.blocks_damaged = true;
            self.groups.index.set(number, 0);
            return Err(self.damaged(
                "ext4_mb_generate_buddy",
                0,
                0,
                format_args!(
                    "group {number}, block bitmap and bg descriptor inconsistent: {free} vs {} free clusters",
                    desc.free_clusters
                ),
            ));
        }
        state.taken = try_into_boxed_slice(words)?;
        state.longest = longest;
        self.groups.index.set(number, longest);
        Ok(state)
    }

    /// The blocks of a group, as numbers in it, that its own metadata has: all that is in use while `BLOCK_UNINIT`.
    fn own_metadata(&self, number: u32, desc: &GroupDesc) -> impl Iterator<Item = core::ops::Range<u32>> {
        let layout = self.layout;
        let mut base = u32::from(layout.has_super(number)) + layout.desc_blocks_in(number);
        if layout.has_super(number) && number / layout.descs_per_block() < layout.first_meta_bg {
            base += self.reserved_desc_blocks();
        }
        let start = layout.group_start(number);
        let within = move |block: u64, count: u32| {
            let end = start + u64::from(layout.group_blocks(number));
            let (from, to) = (block.max(start), (block + u64::from(count)).min(end));
            if from < to { (from - start) as u32..(to - start) as u32 } else { 0..0 }
        };
        [
            0..base.min(layout.group_blocks(number)),
            within(desc.block_bitmap, 1),
            within(desc.inode_bitmap, 1),
            within(desc.inode_table, layout.table_blocks()),
        ]
        .into_iter()
    }

    fn reserved_desc_blocks(&self) -> u32 {
        let data = self.sb.data();
        let sb: Option<&crate::disk::super_block::SuperBlock> = crate::disk::at(data.bytes(), self.sb_offset);
        sb.map_or(0, |sb| sb.reserved_gdt_blocks.get().into())
    }

    fn bitmap_bytes(&self, which: Bitmap) -> usize {
        let count = match which {
            Bitmap::Blocks => self.layout.clusters_per_group,
            Bitmap::Inodes => self.layout.inodes_per_group,
        };
        (count / 8) as usize
    }

    fn bitmap_block(desc: &GroupDesc, which: Bitmap) -> u64 {
        match which {
            Bitmap::Blocks => desc.block_bitmap,
            Bitmap::Inodes => desc.inode_bitmap,
        }
    }

    /// Reads a bitmap that is on the device, and checks it once.
    pub(super) fn read_bitmap(&self, number: u32, desc: &GroupDesc, which: Bitmap) -> Result<Arc<Buffer>> {
        let block = Self::bitmap_block(desc, which);
        let function = match which {
            Bitmap::Blocks => "ext4_validate_block_bitmap",
            Bitmap::Inodes => "ext4_validate_inode_bitmap",
        };
        if !self.layout.is_valid(block, 1) {
            let text = format_args!("Invalid bitmap block {block} in block_group {number}");
            return Err(self.damaged("ext4_read_bitmap", 0, block, text));
        }
        let buffer = self.cache.read(block)?;
        if buffer.is_verified() {
            return Ok(buffer);
        }
        let data = buffer.data();
        if self.sums.metadata {
            let stored = match which {
                Bitmap::Blocks => desc.block_bitmap_csum,
                Bitmap::Inodes => desc.inode_bitmap_csum,
            };
            let bytes = data.bytes().get(..self.bitmap_bytes(which)).unwrap_or_default();
            if self.sums.bitmap(bytes, self.groups.desc_size) != stored {
                return Err(self.bad_checksum(function, 0, block));
            }
        }
        if which == Bitmap::Blocks {
            for range in self.own_metadata_on_disk(number, desc) {
                if range.clone().any(|bit| !bits::is_set(data.bytes(), bit)) {
                    let text = format_args!("bg {number}: block {block}: invalid block bitmap");
                    return Err(self.damaged(function, 0, block, text));
                }
            }
        }
        buffer.set_verified();
        Ok(buffer)
    }

    /// Bitmaps and table of a group, where they are in the group itself: always in use.
    fn own_metadata_on_disk(
        &self,
        number: u32,
        desc: &GroupDesc,
    ) -> impl Iterator<Item = core::ops::Range<u32>> {
        self.own_metadata(number, desc).skip(1)
    }

    /// Changes a bitmap and the descriptor together; the group's lock is held. A bitmap that is not on the device yet is made first.
    pub(super) fn modify_bitmap<R>(
        &self,
        tx: &mut Handle,
        number: u32,
        which: Bitmap,
        change: impl FnOnce(&mut [u8]) -> R,
        then: impl FnOnce(&mut GroupDesc, &R),
    ) -> Result<R> {
        let desc = self.groups.desc(number)?;
        let uninit = match which {
            Bitmap::Blocks => BLOCK_UNINIT,
            Bitmap::Inodes => INODE_UNINIT,
        };
        let count = self.bitmap_bytes(which);
        let finish = |bytes: &mut [u8]| {
            let result = change(bytes);
            let csum = match self.sums.metadata {
                true => self.sums.bitmap(bytes.get(..count).unwrap_or_default(), self.groups.desc_size),
                false => 0,
            };
            (result, csum)
        };
        let (result, csum) = if desc.has(uninit) {
            let buffer = self.cache.get(Self::bitmap_block(&desc, which))?;
            tx.create(&buffer, |bytes| {
                self.fill_bitmap(number, &desc, which, bytes);
                finish(bytes)
            })?
        } else {
            let buffer = self.read_bitmap(number, &desc, which)?;
            tx.modify(&buffer, finish)?
        };
        self.modify_desc(tx, number, |desc| {
            desc.flags &= !uninit;
            match which {
                _ if !self.sums.metadata => {}
                Bitmap::Blocks => desc.block_bitmap_csum = csum,
                Bitmap::Inodes => desc.inode_bitmap_csum = csum,
            }
            then(desc, &result);
        })?;
        Ok(result)
    }

    /// The contents of a bitmap that was never written.
    fn fill_bitmap(&self, number: u32, desc: &GroupDesc, which: Bitmap, bytes: &mut [u8]) {
        let all = bytes.len() as u32 * 8;
        match which {
            Bitmap::Blocks => {
                for range in self.own_metadata(number, desc) {
                    bits::change(bytes, range, true);
                }
                bits::change(bytes, self.layout.group_blocks(number)..all, true);
            }
            Bitmap::Inodes => {
                bits::change(bytes, self.layout.inodes_per_group..all, true);
            }
        }
    }

    /// Notes that the inode bitmap of a group, whose lock is held, is damaged.
    pub(super) fn inodes_damaged(&self, state: &mut State) {
        state.inodes_damaged = true;
    }
}
