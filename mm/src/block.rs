//! [`Block`]: memory of one block of a file system's metadata, that can be borrowed as bytes.
//!
//! A folio's bytes are only copied in and out, because a process or a device may write them at any time. What reads a directory or an inode
//! table wants to look at the bytes themselves. A `Block` allows that: its memory belongs to it alone. It is changed through `&mut`, and while it is
//! shared as an `Arc<Block>` it does not change, so a device may write *from* it meanwhile (`block::Bio::push_block`). Whoever wants to change a
//! shared block makes a copy ([`Block::try_clone`]) and changes that.
//!
//! A device never writes *into* a `Block`. It reads into a fresh folio, and [`Block::from_folio`] takes that over when it is done: without
//! a copy if the block is a whole page and nobody else refers to it.
//!
//! Whole pages are frames, smaller blocks come from the heap's size caches: both are contiguous in physical memory.

use crate::context::gfp_here;
use crate::folio::{Folio, Frame};
use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::page::PageFlags;
use crate::page_alloc::alloc_pages;
use alloc::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use arch::addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr, virt_to_phys};
use core::fmt;
use core::ptr::NonNull;

/// The smallest block, in bytes.
pub const MIN_SIZE: usize = 512;

enum Memory {
    Page(Frame),
    Heap(NonNull<u8>),
}

/// Memory of one block; see the module's text.
pub struct Block {
    memory: Memory,
    len: u32,
}

// SAFETY: the memory is owned, as a `Box<[u8]>`'s is.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// The layout of a block's memory on the heap: aligned to its size, so that it crosses no page.
fn layout(len: usize) -> Option<Layout> {
    (len.is_power_of_two() && (MIN_SIZE..PAGE_SIZE).contains(&len))
        .then(|| Layout::from_size_align(len, len).ok())
        .flatten()
}

impl Block {
    /// `len` bytes of zeroes. `len`: a power of two from 512 to 4096.
    ///
    /// # Errors
    /// `OutOfMemory`, also for another `len`.
    pub fn new_zeroed(len: usize) -> Result<Self, OutOfMemory> {
        if len == PAGE_SIZE {
            return Self::page(Gfp::ZERO);
        }
        let layout = layout(len).ok_or(OutOfMemory)?;
        // SAFETY: the layout is not empty.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory)?;
        Ok(Self { memory: Memory::Heap(ptr), len: len as u32 })
    }

    /// The same bytes in memory of their own.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Self::from_bytes(self.bytes())
    }

    /// A copy of `bytes`, of which there are as many as [`new_zeroed`](Self::new_zeroed) takes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OutOfMemory> {
        if bytes.len() == PAGE_SIZE {
            let mut block = Self::page(Gfp::empty())?;
            block.bytes_mut().copy_from_slice(bytes);
            return Ok(block);
        }
        let layout = layout(bytes.len()).ok_or(OutOfMemory)?;
        // SAFETY: the layout is not empty.
        let ptr = NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)?;
        // SAFETY: both are that long, and the new memory is nobody else's.
        unsafe { ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(Self { memory: Memory::Heap(ptr), len: bytes.len() as u32 })
    }

    /// `len` bytes of a folio from `offset` on: the folio's own memory if it is one page, all of it is wanted, and nobody else refers to it; otherwise a copy.
    ///
    /// # Errors
    /// `OutOfMemory`, also for what is not within the folio.
    pub fn from_folio(folio: Folio, offset: usize, len: usize) -> Result<Self, OutOfMemory> {
        let mut folio = folio;
        if (offset, len) == (0, PAGE_SIZE) {
            match Self::take_over(folio) {
                Ok(block) => return Ok(block),
                Err(back) => folio = back,
            }
        }
        let mut block = Self::new_zeroed(len)?;
        folio.copy_out(offset, block.bytes_mut()).map_err(|_| OutOfMemory)?;
        Ok(block)
    }

    fn take_over(folio: Folio) -> Result<Self, Folio> {
        let state = PageFlags::HEAD | PageFlags::LRU | PageFlags::LOCKED | PageFlags::WRITEBACK;
        let ours = |folio: &Folio| {
            !folio.flags().intersects(state)
                && (folio.mapping(), folio.mapcount(), folio.memcg()) == (0, 0, 0)
                && folio.freeze(1)
        };
        if !ours(&folio) {
            return Err(folio);
        }
        let pfn = folio.pfn();
        let _: NonNull<_> = folio.into_raw();
        // SAFETY: the only reference was ours, and nobody gains one to a page without references. It is no compound, on no list, and in
        // no mapping: what is left is a frame, with the owner that we make here.
        Ok(Self::of_frame(unsafe { Frame::from_raw(pfn, Order::ZERO) }))
    }

    fn page(gfp: Gfp) -> Result<Self, OutOfMemory> {
        let frame = alloc_pages(gfp_here() | gfp, Order::ZERO)?;
        // Without references, so that nobody makes a folio of the page by its number.
        frame.page().freeze(1);
        Ok(Self::of_frame(frame))
    }

    fn of_frame(frame: Frame) -> Self {
        Self { memory: Memory::Page(frame), len: PAGE_SIZE as u32 }
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory belongs to this value, is that long and initialised; it changes through `&mut self` only.
        unsafe { core::slice::from_raw_parts(self.ptr(), self.len as usize) }
    }

    /// Its bytes, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; this value is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.ptr(), self.len as usize) }
    }

    /// How many bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Where it is physically, for a device that reads it.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        virt_to_phys(VirtAddr(self.ptr().expose_provenance()))
    }

    /// The frame that its first byte is in.
    pub fn pfn(&self) -> Pfn {
        Pfn(self.phys().0 / PAGE_SIZE as u64)
    }

    #[inline]
    fn ptr(&self) -> *mut u8 {
        match &self.memory {
            Memory::Page(frame) => frame.as_ptr(),
            Memory::Heap(ptr) => ptr.as_ptr(),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let (Memory::Heap(ptr), Some(layout)) = (&self.memory, layout(self.len as usize)) {
            // SAFETY: allocated with this layout, and never given away.
            unsafe { dealloc(ptr.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes at {:#x})", self.len, self.phys().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folio(byte: u8) -> Folio {
        let folio = Folio::alloc(Gfp::KERNEL, Order::ZERO).unwrap();
        folio.fill(0, PAGE_SIZE, byte).unwrap();
        folio
    }

    #[test]
    fn sizes() {
        crate::testing::init();
        for len in [512, 1024, 2048, 4096] {
            let mut block = Block::new_zeroed(len).unwrap();
            assert!(block.len() == len && block.bytes().iter().all(|byte| *byte == 0));
            block.bytes_mut()[len - 1] = 7;
            let copy = block.try_clone().unwrap();
            block.bytes_mut()[len - 1] = 8;
            assert_eq!((copy.bytes().len(), copy.bytes()[len - 1]), (len, 7));
            assert!(block.phys().0.is_multiple_of(len as u64) && copy.phys() != block.phys());
        }
        for len in [0, 256, 1000, 8192] {
            assert!(Block::new_zeroed(len).is_err());
        }
    }

    #[test]
    fn a_folio_is_taken_over_only_by_its_last_owner() {
        crate::testing::init();
        let page = folio(3);
        let pfn = page.pfn();
        let shared = page.clone();
        let copy = Block::from_folio(page, 0, PAGE_SIZE).unwrap();
        assert!(copy.pfn() != pfn && copy.bytes() == [3; PAGE_SIZE]);
        shared.fill(0, PAGE_SIZE, 4).unwrap();
        assert_eq!(copy.bytes(), [3; PAGE_SIZE]);
        let block = Block::from_folio(shared, 0, PAGE_SIZE).unwrap();
        assert!(block.pfn() == pfn && block.bytes() == [4; PAGE_SIZE]);
        // Nobody gets at it by its number.
        assert!(Folio::from_pfn(pfn).is_none());
        let part = Block::from_folio(folio(5), 1024, 1024).unwrap();
        assert_eq!(part.bytes(), [5; 1024]);
        assert!(Block::from_folio(folio(5), 3584, 1024).is_err());
    }
}
