//! The pages of one slab. The state is in the head's descriptor; who changes it holds the lock of the node's list.
//!
//! ```text
//! mapping   the cache
//! type      PageType::Slab, detail = order << 16 | objects
//! index     fresh (12 bits) | in use (16) | first free (16, offset in units of 8 bytes, NONE if the list is empty)
//! prev/next the node's list
//! ```
//!
//! Objects from number `fresh` on were never handed out and are not linked: a new slab is not touched until it is used.

use crate::page::{Page, PageFlags, PageType, tag};
use crate::vmemmap;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr, virt_to_phys};

const NONE: u16 = u16::MAX;
/// Most objects in a slab.
pub const MAX_OBJECTS: usize = 4095;

/// A slab, by its head page.
#[derive(Clone, Copy)]
pub struct Slab {
    pub(crate) page: &'static Page,
}

/// Which objects are free.
#[derive(Clone, Copy)]
struct State {
    free: u16,
    in_use: u16,
    fresh: u16,
}

impl Slab {
    /// Makes the block at `pfn` a slab of `cache`.
    pub(crate) fn create(pfn: u32, order: u8, objects: usize, cache: usize) -> Self {
        let page = vmemmap::page(pfn);
        page.set_type(PageType::Slab, u32::from(order) << 16 | objects.min(MAX_OBJECTS) as u32);
        page.set_mapping(cache);
        let slab = Slab { page };
        slab.store(State { free: NONE, in_use: 0, fresh: 0 });
        for tail in 1..1u32 << order {
            vmemmap::page(pfn + tail).set_mapping((pfn as usize) << 2 | tag::TAIL);
        }
        slab
    }

    /// Makes it plain pages again; returns the block.
    pub(crate) fn destroy(self) -> (u32, u8) {
        let (pfn, order) = (self.pfn(), self.order());
        self.page.clear_type();
        for tail in 1..1u32 << order {
            vmemmap::page(pfn + tail).prepare_free();
        }
        (pfn, order)
    }

    /// The slab an object lies in; `None` if the address is in no slab.
    pub fn of(object: *const u8) -> Option<Self> {
        let pa = virt_to_phys(VirtAddr(object.addr()));
        let head = crate::folio::head_of(vmemmap::page_of_phys(pa)?);
        head.has_type(PageType::Slab).then_some(Slab { page: head })
    }

    /// As [`of`](Self::of), for a pointer that certainly came from a cache.
    #[inline]
    pub(crate) fn of_known(object: *const u8) -> Self {
        let pa = virt_to_phys(VirtAddr(object.addr()));
        Slab { page: crate::folio::head_of(vmemmap::page((pa.0 >> PAGE_SHIFT) as u32)) }
    }

    pub(crate) fn pfn(self) -> u32 {
        vmemmap::pfn_of(self.page)
    }

    /// Address of the cache.
    pub(crate) fn cache(self) -> usize {
        self.page.mapping()
    }

    /// Order of its block.
    pub fn order(self) -> u8 {
        (self.page.type_detail() >> 16) as u8
    }

    /// Number of objects.
    pub fn objects(self) -> usize {
        (self.page.type_detail() & 0xffff) as usize
    }

    /// Number of objects handed out (also to stashes).
    pub fn in_use(self) -> usize {
        usize::from(self.load().in_use)
    }

    /// Its first byte.
    pub(crate) fn base(self) -> *mut u8 {
        vmemmap::frame_ptr(self.pfn())
    }

    /// Its size in bytes.
    pub(crate) fn bytes(self) -> usize {
        PAGE_SIZE << self.order()
    }

    fn load(self) -> State {
        let word = self.page.index();
        State { free: word as u16, in_use: (word >> 16) as u16, fresh: (word >> 32) as u16 & 0xfff }
    }

    fn store(self, state: State) {
        let word = u64::from(state.free) | u64::from(state.in_use) << 16 | u64::from(state.fresh) << 32;
        self.page.init_index_flags(word, PageFlags::empty());
    }

    /// Whether every object is handed out.
    pub(crate) fn is_full(self) -> bool {
        self.in_use() == self.objects()
    }

    /// Takes an object. `link` is where a free object keeps the offset of the next.
    pub(crate) fn take(self, stride: usize, link: usize) -> Option<*mut u8> {
        let mut state = self.load();
        let object = if state.free != NONE {
            let object = self.base().wrapping_add(usize::from(state.free) * 8);
            // SAFETY: a free object of this slab; its link was written by `put`.
            state.free = unsafe { object.add(link).cast::<u16>().read() };
            object
        } else if usize::from(state.fresh) < self.objects() {
            state.fresh += 1;
            self.base().wrapping_add(usize::from(state.fresh - 1) * stride)
        } else {
            return None;
        };
        state.in_use += 1;
        self.store(state);
        Some(object)
    }

    /// Takes an object back; true if none is in use any more.
    ///
    /// # Safety
    /// The object belongs to this slab, was taken from it, and nobody uses it.
    pub(crate) unsafe fn put(self, object: *mut u8, link: usize) -> bool {
        let mut state = self.load();
        // SAFETY: inside the object, which is free now.
        unsafe { object.add(link).cast::<u16>().write(state.free) };
        state.free = ((object.addr() - self.base().addr()) / 8) as u16;
        state.in_use -= 1;
        self.store(state);
        state.in_use == 0
    }

    /// Whether `object` is on the free list or fresh (debugging: walks the list).
    pub(crate) fn is_free(self, object: *const u8, stride: usize, link: usize) -> bool {
        let state = self.load();
        let offset = object.addr().wrapping_sub(self.base().addr());
        if offset / stride >= usize::from(state.fresh) {
            return true;
        }
        let mut at = state.free;
        for _ in 0..self.objects() {
            if at == NONE {
                return false;
            }
            if usize::from(at) * 8 == offset {
                return true;
            }
            let word = usize::from(at) * 8 + link;
            if word + 2 > self.bytes() {
                return false;
            }
            // SAFETY: inside the slab (just checked: debugging may meet a broken list); any bytes are a u16.
            at = unsafe { self.base().add(word).cast::<u16>().read() };
        }
        false
    }
}
