//! A cache of objects of one size.

use super::debug::{self, DebugFlags};
use super::slab::{MAX_OBJECTS, Slab};
use crate::gfp::{COSTLY_ORDER, Gfp};
use crate::kmemleak;
use crate::local::Local;
use crate::node::MAX_NODES;
use crate::page::NIL;
use crate::page_alloc;
use crate::stats::{self, Item};
use crate::vmemmap;
use arch::addr::PAGE_SIZE;
use arch::cpu;
use arch::preempt::PreemptGuard;
use arch::sync::SpinLockIrq;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The free objects of one CPU: a stack linked through the first word of each.
struct Stash {
    head: *mut u8,
    count: u32,
    limit: u32,
}

#[repr(align(64))]
struct CpuSlot(Local<Stash>);

/// Slabs of one node that have free objects, and counts of all.
struct NodeList {
    head: u32,
    partial: usize,
    slabs: usize,
    objects: usize,
}

/// What is made when the cache is first used.
struct Body {
    slots: &'static [CpuSlot],
    nodes: &'static [SpinLockIrq<NodeList>],
    layout: ObjectLayout,
}

/// Where things lie in and around an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectLayout {
    /// From one object to the next.
    pub stride: usize,
    /// The part the user sees begins here.
    pub start: usize,
    /// Its size.
    pub size: usize,
    /// A free object's link.
    pub link: usize,
    /// Order of a slab.
    pub order: u8,
    /// Debugging.
    pub flags: DebugFlags,
}

/// A cache. Made as a constant, comes to life at its first allocation.
pub struct RawCache {
    name: &'static str,
    size: usize,
    align: usize,
    reclaimable: bool,
    /// The slots of [`Body`]; null before the first use. What the fast path loads.
    slots: AtomicPtr<CpuSlot>,
    body: sync::Once<Body>,
    /// Next in the list of all caches.
    next: AtomicPtr<RawCache>,
}

/// All caches in use, for `/proc/slabinfo`.
static CACHES: AtomicPtr<RawCache> = AtomicPtr::new(null_mut());

/// Slabs without a used object that a node keeps.
const KEEP_EMPTY: usize = 3;

impl RawCache {
    /// A cache of objects of `size` bytes, aligned to `align` (a power of two).
    pub const fn new(name: &'static str, size: usize, align: usize) -> Self {
        Self {
            name,
            size: if size < 8 { 8 } else { size },
            align: if align < 8 { 8 } else { align },
            reclaimable: false,
            slots: AtomicPtr::new(null_mut()),
            body: sync::Once::new(),
            next: AtomicPtr::new(null_mut()),
        }
    }

    /// As [`new`](Self::new), for objects of caches that shrink under pressure (`SLAB_RECLAIM_ACCOUNT`).
    pub const fn reclaimable(name: &'static str, size: usize, align: usize) -> Self {
        let mut cache = Self::new(name, size, align);
        cache.reclaimable = true;
        cache
    }

    /// Its name in `/proc/slabinfo`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of an object.
    pub fn object_size(&self) -> usize {
        self.size
    }

    // ---- fast paths --------------------------------------------------------------------------

    /// An object. `gfp` is asked only if this CPU's stash is empty.
    #[inline]
    pub fn alloc(&'static self, gfp: impl Fn() -> Gfp) -> Option<NonNull<u8>> {
        if crate::inject::slab_fails(&gfp, self.size) {
            return None;
        }
        self.alloc_or(|cache| cache.alloc_slow(gfp()))
    }

    /// Whether this CPU's stash holds an object: then the next allocation here takes it.
    #[cfg(target_os = "none")]
    #[inline]
    pub(crate) fn is_stocked(&'static self, here: &PreemptGuard) -> bool {
        let slots = self.slots.load(Ordering::Acquire);
        // SAFETY: there is a slot for every possible CPU; this one is this CPU's, and preemption is off.
        !slots.is_null()
            && unsafe { (*slots.add(cpu::current().index())).0.with(here, |stash| !stash.head.is_null()) }
                == Some(true)
    }

    /// An object from this CPU's stash, or else from `slow`.
    #[inline]
    pub(crate) fn alloc_or(
        &'static self,
        slow: impl FnOnce(&'static Self) -> Option<NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        let object = self.pop_or(slow);
        kmemleak::allocated(object, self.size);
        object
    }

    /// An object from this CPU's stash, or else from `slow`. The guard goes along into the slow half, so that the fast one
    /// has nothing to keep in registers.
    #[inline]
    fn pop_or(&'static self, slow: impl FnOnce(&'static Self) -> Option<NonNull<u8>>) -> Option<NonNull<u8>> {
        let guard = PreemptGuard::new();
        let slots = self.slots.load(Ordering::Acquire);
        if !slots.is_null() {
            // SAFETY: there is a slot for every possible CPU; this one is this CPU's, and preemption is off.
            let object = unsafe { (*slots.add(cpu::current().index())).0.with(&guard, Stash::pop) };
            if let Some(Some(object)) = object {
                return Some(object);
            }
        }
        outlined(guard, move || slow(self))
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// The object came from this cache and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&'static self, object: NonNull<u8>) {
        kmemleak::freed(object);
        let guard = PreemptGuard::new();
        let slots = self.slots.load(Ordering::Relaxed);
        // SAFETY: an object exists, so the slots do; this one is this CPU's, and preemption is off.
        let done = unsafe {
            (*slots.add(cpu::current().index())).0.with(&guard, |stash| {
                let room = stash.count < stash.limit;
                if room {
                    stash.push(object.as_ptr());
                }
                room
            })
        };
        if done != Some(true) {
            // SAFETY: as promised by the caller.
            outlined(guard, move || unsafe { self.free_slow(object) });
        }
    }

    // ---- slow paths --------------------------------------------------------------------------

    pub(crate) fn alloc_slow(&'static self, gfp: Gfp) -> Option<NonNull<u8>> {
        let body = self.body(gfp)?;
        if !body.layout.flags.is_empty() {
            return self.alloc_debug(body, gfp);
        }
        let want = batch(body.layout.stride);
        let node = page_alloc::local_node_id().min(body.nodes.len() - 1);
        let mut chain = Chain::new();
        self.collect(body, node, want, &mut chain);
        if chain.is_empty() {
            if let Some(slab) = self.new_slab(body, gfp) {
                self.take_from_new(body, slab, want, &mut chain);
            } else {
                // Other nodes may have free objects.
                (0..body.nodes.len()).for_each(|other| self.collect(body, other, 1, &mut chain));
            }
        }
        let object = chain.pop()?;
        if let Some(rest) = self.stash(body, chain) {
            self.put_back(body, rest);
        }
        Some(object)
    }

    unsafe fn free_slow(&'static self, object: NonNull<u8>) {
        let Some(body) = self.body.get() else { return };
        if !body.layout.flags.is_empty() {
            return self.free_debug(body, object);
        }
        let mut chain = Chain::new();
        let guard = PreemptGuard::new();
        // SAFETY: this CPU's slot, and preemption is off.
        unsafe {
            body.slots[cpu::current().index()].0.with(&guard, |stash| {
                for _ in 0..batch(body.layout.stride) {
                    match stash.pop() {
                        Some(old) => chain.push(old.as_ptr()),
                        None => break,
                    }
                }
            });
        }
        drop(guard);
        chain.push(object.as_ptr());
        self.put_back(body, chain);
    }

    /// Takes up to `want` objects from the slabs on a node's list.
    fn collect(&self, body: &Body, node: usize, want: usize, chain: &mut Chain) {
        let mut list = body.nodes[node].lock();
        while chain.len < want && list.head != NIL {
            let slab = Slab { page: vmemmap::page(list.head) };
            while chain.len < want
                && let Some(object) = slab.take(body.layout.stride, body.layout.link)
            {
                chain.push(object);
            }
            if slab.is_full() {
                list.unlink(slab);
            }
        }
    }

    /// Gets pages for a slab: of the cache's order, or if they are not to be had, of the smallest that holds an object.
    fn new_slab(&'static self, body: &Body, gfp: Gfp) -> Option<Slab> {
        let layout = &body.layout;
        let gfp = if self.reclaimable { gfp | Gfp::RECLAIMABLE } else { gfp } & !Gfp::ZERO;
        let smallest = order_holding(layout.stride, 1);
        let (pfn, order) = if layout.order > smallest {
            let eager = gfp & !(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL) | Gfp::NOWARN;
            match page_alloc::alloc_block(eager, layout.order) {
                Some(pfn) => (pfn, layout.order),
                None => (page_alloc::alloc_block(gfp, smallest)?, smallest),
            }
        } else {
            (page_alloc::alloc_block(gfp, smallest)?, smallest)
        };
        let objects = ((PAGE_SIZE << order) / layout.stride).min(MAX_OBJECTS);
        let slab = Slab::create(pfn, order, objects, core::ptr::from_ref(self).expose_provenance());
        debug::prepare_slab(slab, layout);
        stats::add(self.item(), 1 << order);
        let mut list = body.nodes[node_of(body, slab)].lock();
        list.slabs += 1;
        list.objects += objects;
        Some(slab)
    }

    fn take_from_new(&self, body: &Body, slab: Slab, want: usize, chain: &mut Chain) {
        let mut list = body.nodes[node_of(body, slab)].lock();
        while chain.len < want
            && let Some(object) = slab.take(body.layout.stride, body.layout.link)
        {
            chain.push(object);
        }
        if !slab.is_full() {
            list.link(slab);
        }
    }

    /// Puts objects into this CPU's stash; returns those that found no room.
    fn stash(&self, body: &Body, mut chain: Chain) -> Option<Chain> {
        let guard = PreemptGuard::new();
        // SAFETY: this CPU's slot, and preemption is off.
        unsafe {
            body.slots[cpu::current().index()].0.with(&guard, |stash| {
                while stash.count < stash.limit
                    && let Some(object) = chain.pop()
                {
                    stash.push(object.as_ptr());
                }
            });
        }
        (!chain.is_empty()).then_some(chain)
    }

    /// Returns objects to their slabs.
    fn put_back(&self, body: &Body, mut chain: Chain) {
        let mut doomed = NIL;
        let mut next = chain.pop();
        while let Some(first) = next {
            let node = node_of(body, Slab::of_known(first.as_ptr()));
            let mut list = body.nodes[node].lock();
            while let Some(object) = next {
                let slab = Slab::of_known(object.as_ptr());
                if node_of(body, slab) != node {
                    break;
                }
                let was_full = slab.is_full();
                // SAFETY: a free object of this cache, taken from this slab.
                let empty = unsafe { slab.put(object.as_ptr(), body.layout.link) };
                if was_full {
                    list.link(slab);
                }
                if empty && list.partial > KEEP_EMPTY {
                    list.drop_slab(slab);
                    slab.page.set_next(doomed);
                    doomed = slab.pfn();
                }
                next = chain.pop();
            }
        }
        self.destroy(doomed);
    }

    /// Frees slabs linked by `next`.
    fn destroy(&self, mut doomed: u32) {
        while doomed != NIL {
            let slab = Slab { page: vmemmap::page(doomed) };
            doomed = slab.page.next();
            let (pfn, order) = slab.destroy();
            stats::add(self.item(), -(1 << order));
            page_alloc::free_block(pfn, order);
        }
    }

    fn item(&self) -> Item {
        if self.reclaimable { Item::SlabReclaimable } else { Item::SlabUnreclaimable }
    }

    // ---- debugging ---------------------------------------------------------------------------

    fn alloc_debug(&'static self, body: &Body, gfp: Gfp) -> Option<NonNull<u8>> {
        let mut chain = Chain::new();
        loop {
            for node in 0..body.nodes.len() {
                self.collect_unlinked(body, node, &mut chain);
            }
            if chain.single.is_none() {
                let slab = self.new_slab(body, gfp)?;
                let mut list = body.nodes[node_of(body, slab)].lock();
                chain.single = slab.take(body.layout.stride, body.layout.link);
                if !slab.is_full() {
                    list.link(slab);
                }
            }
            let object = chain.single.take()?;
            // A damaged object stays out of use for ever.
            if debug::check_alloc(self.name, object, &body.layout) {
                return NonNull::new(object.wrapping_add(body.layout.start));
            }
        }
    }

    /// One object, without writing a link into it.
    fn collect_unlinked(&self, body: &Body, node: usize, chain: &mut Chain) {
        if chain.single.is_some() {
            return;
        }
        let mut list = body.nodes[node].lock();
        if list.head != NIL {
            let slab = Slab { page: vmemmap::page(list.head) };
            chain.single = slab.take(body.layout.stride, body.layout.link);
            if slab.is_full() {
                list.unlink(slab);
            }
        }
    }

    fn free_debug(&'static self, body: &Body, object: NonNull<u8>) {
        let object = object.as_ptr().wrapping_sub(body.layout.start);
        let Some(slab) = Slab::of(object).filter(|s| s.cache() == core::ptr::from_ref(self).addr()) else {
            debug::report(self.name, "Invalid object pointer", object, &body.layout);
            return;
        };
        let mut list = body.nodes[node_of(body, slab)].lock();
        let offset = object.addr().wrapping_sub(slab.base().addr());
        if !offset.is_multiple_of(body.layout.stride) || offset / body.layout.stride >= slab.objects() {
            drop(list);
            debug::report(self.name, "Invalid object pointer", object, &body.layout);
            return;
        }
        if slab.is_free(object, body.layout.stride, body.layout.link) {
            drop(list);
            debug::report(self.name, "Object already free", object, &body.layout);
            return;
        }
        if !debug::check_free(self.name, object, &body.layout) {
            return;
        }
        let was_full = slab.is_full();
        // SAFETY: checked above: an object of this slab that is in use, and the caller gave it up.
        let empty = unsafe { slab.put(object, body.layout.link) };
        if was_full {
            list.link(slab);
        }
        let mut doomed = NIL;
        if empty && list.partial > KEEP_EMPTY {
            list.drop_slab(slab);
            slab.page.set_next(NIL);
            doomed = slab.pfn();
        }
        drop(list);
        self.destroy(doomed);
    }

    // ---- set-up, shrinking, numbers ----------------------------------------------------------

    fn body(&'static self, gfp: Gfp) -> Option<&'static Body> {
        if let Some(body) = self.body.get() {
            // Whoever made it may not have come to this yet.
            self.slots.store(body.slots.as_ptr().cast_mut(), Ordering::Release);
            return Some(body);
        }
        let flags = debug::flags_for(self.name);
        let layout = ObjectLayout::new(self.size, self.align, flags);
        let limit = if flags.is_empty() { stash_limit(layout.stride) } else { 0 };
        // What a loser of the race allocates here stays allocated: a few hundred bytes, once.
        let cpus = possible_cpus();
        let slots = carve(cpus, gfp, |_| CpuSlot(Local::new(Stash { head: null_mut(), count: 0, limit })))?;
        let nodes = crate::node::nodes().map(|n| n.id() + 1).max()?.min(MAX_NODES);
        let nodes = carve(nodes, gfp, |_| {
            SpinLockIrq::new(NodeList { head: NIL, partial: 0, slabs: 0, objects: 0 })
        })?;
        let mut first = false;
        let body = self.body.call_once(|| {
            first = true;
            Body { slots, nodes, layout }
        });
        if first {
            let me = core::ptr::from_ref(self).cast_mut();
            let _ = CACHES.fetch_update(Ordering::AcqRel, Ordering::Acquire, |head| {
                self.next.store(head, Ordering::Release);
                Some(me)
            });
            self.slots.store(body.slots.as_ptr().cast_mut(), Ordering::Release);
        }
        Some(body)
    }

    /// Empties this CPU's stash and gives slabs without used objects back (`/sys/kernel/slab/*/shrink`, memory pressure). Returns the pages
    /// freed.
    pub fn shrink(&'static self) -> usize {
        let Some(body) = self.body.get() else { return 0 };
        self.flush_local(body);
        let mut freed = 0;
        for node in body.nodes {
            let mut doomed = NIL;
            let mut list = node.lock();
            let mut at = list.head;
            while at != NIL {
                let slab = Slab { page: vmemmap::page(at) };
                at = slab.page.next();
                if slab.in_use() == 0 {
                    list.drop_slab(slab);
                    slab.page.set_next(doomed);
                    doomed = slab.pfn();
                    freed += 1 << slab.order();
                }
            }
            drop(list);
            self.destroy(doomed);
        }
        freed
    }

    fn flush_local(&self, body: &Body) {
        let mut chain = Chain::new();
        let guard = PreemptGuard::new();
        // SAFETY: this CPU's slot, and preemption is off.
        unsafe {
            body.slots[cpu::current().index()].0.with(&guard, |stash| {
                while let Some(object) = stash.pop() {
                    chain.push(object.as_ptr());
                }
            });
        }
        drop(guard);
        self.put_back(body, chain);
    }

    /// A line of `/proc/slabinfo`.
    pub fn info(&self) -> SlabInfo {
        let Some(body) = self.body.get() else { return SlabInfo::default() };
        let mut info = SlabInfo {
            object_size: body.layout.stride,
            objects_per_slab: (PAGE_SIZE << body.layout.order) / body.layout.stride,
            pages_per_slab: 1 << body.layout.order,
            ..SlabInfo::default()
        };
        for node in body.nodes {
            let list = node.lock();
            info.slabs += list.slabs;
            info.objects += list.objects;
            let mut at = list.head;
            while at != NIL {
                let slab = Slab { page: vmemmap::page(at) };
                info.free_objects += slab.objects() - slab.in_use();
                at = slab.page.next();
            }
        }
        info
    }
}

/// Ends the guard and goes on with `slow`, out of the way of the fast path.
#[cold]
#[inline(never)]
fn outlined<R>(guard: PreemptGuard, slow: impl FnOnce() -> R) -> R {
    drop(guard);
    slow()
}

/// Numbers of a cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlabInfo {
    /// Bytes from one object to the next.
    pub object_size: usize,
    /// Objects in a slab.
    pub objects_per_slab: usize,
    /// Pages of a slab.
    pub pages_per_slab: usize,
    /// Slabs.
    pub slabs: usize,
    /// Objects in all slabs.
    pub objects: usize,
    /// Those that are free (not counting stashes).
    pub free_objects: usize,
}

/// Calls `f` with every cache that was ever used.
pub fn for_each_cache(mut f: impl FnMut(&'static RawCache)) {
    let mut at = CACHES.load(Ordering::Acquire);
    // SAFETY: only `'static` caches are on the list, and they stay.
    while let Some(cache) = unsafe { at.as_ref() } {
        f(cache);
        at = cache.next.load(Ordering::Acquire);
    }
}

/// Shrinks all caches; returns the pages freed.
pub fn shrink_all() -> usize {
    let mut freed = 0;
    for_each_cache(|cache| freed += cache.shrink());
    freed
}

impl Stash {
    #[inline]
    fn pop(&mut self) -> Option<NonNull<u8>> {
        let object = NonNull::new(self.head)?;
        // SAFETY: objects in the stash are free and begin with the link to the next.
        self.head = unsafe { object.cast::<*mut u8>().read() };
        self.count -= 1;
        Some(object)
    }

    #[inline]
    fn push(&mut self, object: *mut u8) {
        // SAFETY: a free object, at least a word large and aligned for one.
        unsafe { object.cast::<*mut u8>().write(self.head) };
        self.head = object;
        self.count += 1;
    }
}

/// Free objects on their way, linked like a stash.
struct Chain {
    head: *mut u8,
    len: usize,
    /// Debugging: one object whose contents must not be touched.
    single: Option<*mut u8>,
}

impl Chain {
    const fn new() -> Self {
        Self { head: null_mut(), len: 0, single: None }
    }
    fn is_empty(&self) -> bool {
        self.len == 0
    }
    fn push(&mut self, object: *mut u8) {
        // SAFETY: a free object, at least a word large and aligned for one.
        unsafe { object.cast::<*mut u8>().write(self.head) };
        self.head = object;
        self.len += 1;
    }
    fn pop(&mut self) -> Option<NonNull<u8>> {
        let object = NonNull::new(self.head)?;
        // SAFETY: written by `push`.
        self.head = unsafe { object.cast::<*mut u8>().read() };
        self.len -= 1;
        Some(object)
    }
}

impl NodeList {
    fn link(&mut self, slab: Slab) {
        slab.page.set_prev(NIL);
        slab.page.set_next(self.head);
        if self.head != NIL {
            vmemmap::page(self.head).set_prev(slab.pfn());
        }
        self.head = slab.pfn();
        self.partial += 1;
    }

    fn unlink(&mut self, slab: Slab) {
        let (prev, next) = (slab.page.prev(), slab.page.next());
        if prev == NIL {
            self.head = next;
        } else {
            vmemmap::page(prev).set_next(next);
        }
        if next != NIL {
            vmemmap::page(next).set_prev(prev);
        }
        self.partial -= 1;
    }

    /// Takes an empty slab out of list and counts.
    fn drop_slab(&mut self, slab: Slab) {
        self.unlink(slab);
        self.slabs -= 1;
        self.objects -= slab.objects();
    }
}

impl ObjectLayout {
    /// The layout of objects of `size` bytes.
    pub(crate) fn new(size: usize, align: usize, flags: DebugFlags) -> Self {
        let (start, extra) = debug::room(size, align, flags);
        let stride = (start + size + extra).next_multiple_of(align);
        let link = if flags.is_empty() { 0 } else { debug::link_offset(start, size) };
        Self { stride, start, size, link, order: slab_order(stride), flags }
    }
}

/// The order of slabs: at least four objects and at most an eighth wasted, if order 3 allows it.
fn slab_order(stride: usize) -> u8 {
    let smallest = order_holding(stride, 1);
    (smallest..=COSTLY_ORDER)
        .find(|order| {
            let bytes = PAGE_SIZE << order;
            bytes / stride >= 4 && (bytes % stride) * 8 <= bytes
        })
        .unwrap_or(smallest.max(COSTLY_ORDER))
}

fn order_holding(stride: usize, objects: usize) -> u8 {
    crate::gfp::Order::for_size(stride * objects).map_or(crate::gfp::MAX_PAGE_ORDER, |o| o.get())
}

/// How many free objects a CPU keeps: a few pages' worth at most.
fn stash_limit(stride: usize) -> u32 {
    match stride {
        0..=64 => 60,
        65..=256 => 30,
        257..=1024 => 14,
        1025..=4096 => 6,
        _ => 3,
    }
}

fn batch(stride: usize) -> usize {
    stash_limit(stride) as usize / 2 + 1
}

fn node_of(body: &Body, slab: Slab) -> usize {
    if body.nodes.len() == 1 { 0 } else { vmemmap::block(slab.pfn()).zone().node().min(body.nodes.len() - 1) }
}

fn possible_cpus() -> usize {
    if cfg!(target_os = "none") {
        cpu::possible().iter().last().map_or(1, |c| c.index() + 1)
    } else {
        cpu::MAX_CPUS
    }
}

/// Where [`carve`] goes on: start and end of what is left of a page.
static CARVED: SpinLockIrq<(usize, usize)> = SpinLockIrq::new((0, 0));
/// Bytes handed out by [`carve`].
static CARVED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Memory for the caches' own tables, never freed.
fn carve<T>(len: usize, gfp: Gfp, mut make: impl FnMut(usize) -> T) -> Option<&'static [T]> {
    let (size, align) = (size_of::<T>() * len, align_of::<T>());
    let mut left = CARVED.lock();
    let mut start = left.0.next_multiple_of(align);
    if start + size > left.1 {
        let order = crate::gfp::Order::for_size(size)?;
        let atomic = gfp & !(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL | Gfp::ZERO);
        let pfn = page_alloc::alloc_block(atomic, order.get())?;
        start = vmemmap::frame_ptr(pfn).expose_provenance();
        left.1 = start + order.bytes();
    }
    left.0 = start + size;
    drop(left);
    CARVED_BYTES.fetch_add(size, Ordering::Relaxed);
    let at = core::ptr::with_exposed_provenance_mut::<T>(start);
    for i in 0..len {
        // SAFETY: the range was carved for `len` values just now.
        unsafe { at.add(i).write(make(i)) };
    }
    // SAFETY: initialised above, never freed.
    Some(unsafe { core::slice::from_raw_parts(at, len) })
}
