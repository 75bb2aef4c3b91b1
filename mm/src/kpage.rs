//! What `/proc/kpagecount` and `/proc/kpageflags` say of a page frame (pagemap in the Linux kernel's administration guide,
//! `linux/kernel-page-flags.h`).
//!
//! Nothing is held while a descriptor is read: it may change at any time, and two words need not fit together.

use crate::buddy::Frames;
use crate::frames;
use crate::gfp::MAX_PAGE_ORDER;
use crate::page::{Page, PageFlags, PageType, tag};
use crate::vmemmap::{self, Memory};
use arch::addr::Pfn;

/// Numbers of bits (`KPF_*`).
mod bit {
    pub const LOCKED: u32 = 0;
    pub const REFERENCED: u32 = 2;
    pub const UPTODATE: u32 = 3;
    pub const DIRTY: u32 = 4;
    pub const LRU: u32 = 5;
    pub const ACTIVE: u32 = 6;
    pub const SLAB: u32 = 7;
    pub const WRITEBACK: u32 = 8;
    pub const RECLAIM: u32 = 9;
    pub const BUDDY: u32 = 10;
    pub const MMAP: u32 = 11;
    pub const ANON: u32 = 12;
    pub const SWAPCACHE: u32 = 13;
    pub const SWAPBACKED: u32 = 14;
    pub const COMPOUND_HEAD: u32 = 15;
    pub const COMPOUND_TAIL: u32 = 16;
    pub const UNEVICTABLE: u32 = 18;
    pub const HWPOISON: u32 = 19;
    pub const NOPAGE: u32 = 20;
    pub const KSM: u32 = 21;
    pub const OFFLINE: u32 = 23;
    pub const ZERO_PAGE: u32 = 24;
    pub const PGTABLE: u32 = 26;
    pub const MLOCKED: u32 = 33;
    pub const PRIVATE: u32 = 35;
    pub const OWNER_PRIVATE: u32 = 37;
    pub const ARCH: u32 = 38;
}

/// Flags of a descriptor, and the bits that show them.
const SHOWN: [(PageFlags, u32); 16] = [
    (PageFlags::LOCKED, bit::LOCKED),
    (PageFlags::REFERENCED, bit::REFERENCED),
    (PageFlags::UPTODATE, bit::UPTODATE),
    (PageFlags::DIRTY, bit::DIRTY),
    (PageFlags::LRU, bit::LRU),
    (PageFlags::ACTIVE, bit::ACTIVE),
    (PageFlags::WRITEBACK, bit::WRITEBACK),
    (PageFlags::READAHEAD, bit::RECLAIM),
    (PageFlags::SWAPCACHE, bit::SWAPCACHE),
    (PageFlags::SWAPBACKED, bit::SWAPBACKED),
    (PageFlags::UNEVICTABLE, bit::UNEVICTABLE),
    (PageFlags::HWPOISON, bit::HWPOISON),
    (PageFlags::MLOCKED, bit::MLOCKED),
    (PageFlags::PRIVATE, bit::PRIVATE),
    (PageFlags::OWNER, bit::OWNER_PRIVATE),
    (PageFlags::ARCH, bit::ARCH),
];

/// One past the last frame that the files tell of.
pub fn end() -> u64 {
    vmemmap::end().into()
}

/// How many page-table entries map frame `pfn`; 0 if there is no such frame.
pub fn count(pfn: u64) -> u64 {
    vmemmap::valid(Pfn(pfn)).map_or(0, |page| page.mapcount().into())
}

/// The flags of frame `pfn`.
pub fn flags(pfn: u64) -> u64 {
    let Some(page) = vmemmap::valid(Pfn(pfn)) else {
        // Memory that was never needed yet has no descriptor.
        let kind = if vmemmap::zone_of(Pfn(pfn)).is_some() { bit::BUDDY } else { bit::NOPAGE };
        return 1 << kind;
    };
    let number = pfn as u32;
    if Pfn(pfn) == frames::zero_page() {
        return 1 << bit::ZERO_PAGE;
    }
    if page.is_typed() {
        return typed(page);
    }
    if page.refcount() == 0 && is_in_free_block(number) {
        return 1 << bit::BUDDY;
    }
    let word = page.mapping();
    if word & tag::MASK == tag::TAIL {
        let slab = vmemmap::valid(Pfn((word >> 2) as u64)).is_some_and(|head| head.has_type(PageType::Slab));
        return 1 << bit::COMPOUND_TAIL | u64::from(slab) << bit::SLAB;
    }
    let state = page.flags();
    let mut bits =
        SHOWN.iter().filter(|(flag, _)| state.contains(*flag)).fold(0, |all, (_, bit)| all | 1 << bit);
    bits |= u64::from(state.contains(PageFlags::HEAD)) << bit::COMPOUND_HEAD;
    bits |= u64::from(page.mapcount() != 0) << bit::MMAP;
    match word & tag::MASK {
        tag::ANON => bits | 1 << bit::ANON,
        tag::KSM => bits | 1 << bit::ANON | 1 << bit::KSM,
        _ => bits,
    }
}

/// The flags of a page that nobody maps.
fn typed(page: &Page) -> u64 {
    if page.has_type(PageType::Buddy) || page.has_type(PageType::Isolated) {
        1 << bit::BUDDY
    } else if page.has_type(PageType::Slab) {
        // Its detail says how many pages it has.
        let head = page.type_detail() >> 16 != 0;
        1 << bit::SLAB | u64::from(head) << bit::COMPOUND_HEAD
    } else if page.has_type(PageType::Table) {
        1 << bit::PGTABLE
    } else if page.has_type(PageType::Offline) {
        1 << bit::OFFLINE
    } else {
        0
    }
}

/// Whether the frame is free, and part of a larger free block.
fn is_in_free_block(pfn: u32) -> bool {
    (1..=MAX_PAGE_ORDER).any(|order| {
        let head = pfn & !((1 << order) - 1);
        let Some(page) = vmemmap::valid(Pfn(head.into())).map(|_| Memory.page(head)) else { return false };
        page.has_type(PageType::Buddy) && page.type_detail() >= u32::from(order)
    })
}
