//! The reverse map: from a page to the page-table entries that map it.
//!
//! * A page-cache page belongs to a [`Mapping`](crate::filemap::Mapping), which lists the areas that map the file.
//! * An anonymous page belongs to an [`AnonVma`], which lists the areas that may map it.
//!
//! # Anonymous pages
//!
//! Every area that has anonymous pages is a member of exactly one `AnonVma`. Fork makes the child's area
//! a member of the *parent's* (one list insertion per area). When the child then gets a page of its own, it
//! moves to a new `AnonVma` below the inherited one. So the `AnonVma`s of a family of processes form a
//! tree, and a page that belongs to one can be mapped only by members of its subtree: pages that a child
//! made are looked for in that child and its descendants only. This is the information that Linux keeps in chains
//! (n areas × m ancestors), with one link per area. A child that is the last member of what it
//! inherited keeps it, so that daemons that fork and exit do not build a ladder.
//!
//! # Locks
//!
//! One spin lock per family guards all of its lists; table locks nest inside it. A walker that
//! holds it may follow [`Vma::space`]: areas leave the lists before their space is gone.
//! An `AnonVma` lives as long as an area of its subtree, and so as long as any of its pages is mapped.

use crate::fallible::{TryVec, try_arc};
use crate::page::{Page, tag};
use crate::ptable::Marker;
use crate::vma::{VmFlags, Vma};
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;
use arch::sync::SpinLock;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// The lock of a family.
type Family = SpinLock<()>;

#[derive(Default)]
struct Members {
    vmas: Vec<Arc<Vma>>,
    children: Vec<NonNull<AnonVma>>,
}

/// One node of a family tree. See the module documentation.
pub struct AnonVma {
    family: Arc<Family>,
    parent: Option<Arc<AnonVma>>,
    members: UnsafeCell<Members>,
}

// SAFETY: `members` is only touched under the family's lock; children are removed by their own drop.
unsafe impl Send for AnonVma {}
// SAFETY: as above.
unsafe impl Sync for AnonVma {}

impl AnonVma {
    fn new(parent: Option<Arc<AnonVma>>) -> Result<Arc<Self>> {
        let family = match &parent {
            Some(parent) => parent.family.clone(),
            None => try_arc(SpinLock::new(()))?,
        };
        let node = try_arc(Self { family, parent, members: UnsafeCell::new(Members::default()) })?;
        if let Some(parent) = &node.parent {
            let _lock = node.family.lock();
            // SAFETY: the family's lock is held.
            let members = unsafe { &mut *parent.members.get() };
            members.children.try_push(NonNull::from(&*node))?;
        }
        Ok(node)
    }

    /// Makes `vma` a member.
    fn link(&self, vma: &Arc<Vma>) -> Result<()> {
        let _lock = self.family.lock();
        // SAFETY: the family's lock is held.
        let members = unsafe { &mut *self.members.get() };
        let slot = members.vmas.len() as u32;
        members.vmas.try_push(vma.clone())?;
        vma.anon_slot.store(slot, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the membership of `vma`. The reference that the list held is returned, to be dropped without the lock.
    fn unlink(&self, vma: &Vma) -> Option<Arc<Vma>> {
        let _lock = self.family.lock();
        // SAFETY: the family's lock is held.
        let members = unsafe { &mut *self.members.get() };
        let slot = vma.anon_slot.load(Ordering::Relaxed) as usize;
        if !members.vmas.get(slot).is_some_and(|v| core::ptr::eq(Arc::as_ptr(v), vma)) {
            return None;
        }
        let gone = members.vmas.swap_remove(slot);
        if let Some(moved) = members.vmas.get(slot) {
            moved.anon_slot.store(slot as u32, Ordering::Relaxed);
        }
        Some(gone)
    }

    /// Whether `vma` is the only area that can map pages of this node.
    fn is_sole_member(&self, vma: &Vma) -> bool {
        let _lock = self.family.lock();
        // SAFETY: the family's lock is held.
        let members = unsafe { &*self.members.get() };
        members.children.is_empty()
            && members.vmas.len() == 1
            && members.vmas.iter().all(|v| core::ptr::eq(Arc::as_ptr(v), vma))
    }

    /// The word that `Page::mapping` of this node's pages holds.
    #[inline]
    pub(crate) fn tagged(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).expose_provenance() | tag::ANON
    }

    /// Calls `f` with every area that may map page `index` of this node, and the address there.
    pub(crate) fn for_each(&self, index: u64, f: &mut dyn FnMut(&Vma, usize)) {
        let _lock = self.family.lock();
        // SAFETY: the family's lock is held.
        unsafe { self.visit(index, f) };
    }

    /// # Safety
    /// The family's lock is held.
    unsafe fn visit(&self, index: u64, f: &mut dyn FnMut(&Vma, usize)) {
        // SAFETY: the lock is held by the caller.
        let members = unsafe { &*self.members.get() };
        for vma in &members.vmas {
            if let Some(addr) = vma.addr_of_index(index) {
                f(vma, addr);
            }
        }
        for child in &members.children {
            // SAFETY: a child removes itself under the lock before it is freed.
            unsafe { child.as_ref().visit(index, f) };
        }
    }
}

impl Drop for AnonVma {
    fn drop(&mut self) {
        if let Some(parent) = &self.parent {
            let _lock = self.family.lock();
            // SAFETY: the family's lock is held.
            let members = unsafe { &mut *parent.members.get() };
            let me = NonNull::from(&*self);
            if let Some(slot) = members.children.iter().position(|c| *c == me) {
                members.children.swap_remove(slot);
            }
        }
    }
}

/// Makes sure that new anonymous pages of `vma` have a node of their own to belong to, and returns it.
/// `mmap_lock` (shared) or the area's read lock is held; two faults may meet here.
pub(crate) fn prepare_anon(vma: &Arc<Vma>) -> Result<()> {
    if vma.has_own_anon() {
        return Ok(());
    }
    prepare_anon_slow(vma)
}

#[cold]
fn prepare_anon_slow(vma: &Arc<Vma>) -> Result<()> {
    let inherited = vma.anon();
    if let Some(old) = &inherited
        && old.is_sole_member(vma)
    {
        vma.set_own_anon(old);
        return Ok(());
    }
    let new = AnonVma::new(inherited.clone())?;
    // Whoever wins the slot does the linking; the other's node goes away unused.
    let mut slot = vma.anon_slot_lock();
    if slot.own {
        drop(slot);
        // The winner may not have come to this yet, and a page needs the word now.
        vma.publish_own_anon();
        return Ok(());
    }
    if let Some(old) = &slot.node {
        let _still_listed = old.unlink(vma);
    }
    new.link(vma)?;
    slot.node = Some(new);
    slot.own = true;
    drop(slot);
    vma.publish_own_anon();
    Ok(())
}

/// Makes `child` (a copy by fork, a split or a move) a member of whatever `vma` is a member of.
/// `own`: new pages of the child may belong there as well (the same process).
pub(crate) fn clone_anon(vma: &Vma, child: &Arc<Vma>, own: Inherit) -> Result<()> {
    let Some(node) = vma.anon() else { return Ok(()) };
    node.link(child)?;
    let mut slot = child.anon_slot_lock();
    slot.own = own == Inherit::SameProcess && vma.has_own_anon();
    slot.node = Some(node);
    let own = slot.own;
    drop(slot);
    if own {
        child.publish_own_anon();
    }
    Ok(())
}

/// Who the copy of an area belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inherit {
    /// The same process: a split or a move.
    SameProcess,
    /// A child process.
    Fork,
}

/// Ends the membership of an area that is going away.
pub(crate) fn unlink_anon(vma: &Vma) {
    let node = {
        let mut slot = vma.anon_slot_lock();
        slot.own = false;
        slot.node.take()
    };
    if let Some(node) = node {
        let listed = node.unlink(vma);
        drop(listed);
    }
}

/// What belongs to `page`: calls `f` for each place where it may be mapped.
///
/// # Safety
/// For an anonymous page: it is mapped somewhere and stays so (the caller holds a table lock or an
/// `mmap_lock` under which it is mapped), because the node lives only as long. For a page-cache page: it is locked and in its mapping.
pub(crate) unsafe fn for_each_mapping(page: &Page, f: &mut dyn FnMut(&Vma, usize)) {
    let word = page.mapping();
    let pointer = word & !tag::MASK;
    if pointer == 0 {
        return;
    }
    match word & tag::MASK {
        tag::ANON => {
            let node = core::ptr::with_exposed_provenance::<AnonVma>(pointer);
            // SAFETY: by this function's contract the node is alive.
            unsafe { (*node).for_each(page.index(), f) };
        }
        tag::FILE => {
            // SAFETY: a locked page in the page cache keeps its mapping alive.
            let mapping = unsafe { crate::filemap::Mapping::of_locked_page(pointer) };
            mapping.for_each_vma(page.index(), f);
        }
        _ => {}
    }
}

/// As [`for_each_mapping`], and then calls `last` before the lock of the list is released, so that what `f` collected in
/// `state` still holds.
///
/// # Safety
/// As for [`for_each_mapping`].
pub(crate) unsafe fn with_mappings<S>(
    page: &Page,
    state: &mut S,
    f: &mut dyn FnMut(&mut S, &Vma, usize),
    last: &mut dyn FnMut(&mut S),
) {
    let word = page.mapping();
    let pointer = word & !tag::MASK;
    if pointer == 0 {
        return;
    }
    match word & tag::MASK {
        tag::ANON => {
            let node = core::ptr::with_exposed_provenance::<AnonVma>(pointer);
            // SAFETY: by this function's contract the node is alive.
            let node = unsafe { &*node };
            let _lock = node.family.lock();
            // SAFETY: the family's lock is held.
            unsafe { node.visit(page.index(), &mut |vma, addr| f(state, vma, addr)) };
            last(state);
        }
        tag::FILE => {
            // SAFETY: a locked page in the page cache keeps its mapping alive.
            let mapping = unsafe { crate::filemap::Mapping::of_locked_page(pointer) };
            mapping.with_vmas(page.index(), state, f, last);
        }
        _ => {}
    }
}

/// How a page was used lately through mappings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Mappings through which it was accessed.
    pub hits: usize,
    /// One of them allows execution.
    pub exec: bool,
    /// A locked area maps it (`mlock(2)`).
    pub locked: bool,
}

/// Collects and clears the accessed marks of a locked page-cache page: the LRU's second chance.
pub(crate) fn referenced(page: &Page) -> Used {
    let mut used = Used::default();
    if page.mapcount() == 0 {
        return used;
    }
    // SAFETY: the page is a locked page of the page cache (caller).
    unsafe {
        for_each_mapping(page, &mut |vma, addr| {
            // SAFETY: the lock of the list that the area is on is held.
            let space = vma.space();
            let Some(table) = space.pgd().table(addr) else { return };
            let table = table.lock();
            let cell = table.cell(addr);
            let pte = cell.load();
            if !maps(pte, page) {
                return;
            }
            used.locked |= vma.flags().contains(VmFlags::LOCKED);
            if pte.is_accessed() {
                let _ = cell.compare_exchange(pte, pte.with_accessed(false));
                used.hits += 1;
                used.exec |= vma.flags().contains(VmFlags::EXEC);
            }
        });
    }
    used
}

/// Whether `pte` maps `page`.
pub(crate) fn maps(pte: Pte, page: &Page) -> bool {
    !pte.is_none()
        && pte.as_software().is_none()
        && !pte.is_special()
        && pte.pfn() == crate::frames::pfn_of(page)
}

/// Removes every mapping of a locked page-cache page. Returns whether none is left.
pub(crate) fn unmap_file_page(page: &'static Page) -> bool {
    if page.mapcount() == 0 {
        return true;
    }
    // SAFETY: the page is a locked page of the page cache (caller).
    unsafe {
        for_each_mapping(page, &mut |vma, addr| {
            // SAFETY: the lock of the list that the area is on is held.
            let space = vma.space();
            let Some(table) = space.pgd().table(addr) else { return };
            {
                let table = table.lock();
                let cell = table.cell(addr);
                if !maps(cell.load(), page) {
                    return;
                }
                let guarded = cell.load().is_uffd_wp() && vma.flags().contains(VmFlags::UFFD_WP);
                let old = cell.swap(if guarded { Marker::UFFD_WP.entry() } else { Pte::NONE });
                if old.is_dirty() {
                    crate::filemap::mark_dirty_from_pte(page);
                }
                if page.map_dec() == 0 {
                    crate::frames::count_unmapped(page);
                }
                space.counters().sub_page(page);
            }
            arch::tlb::flush_range(space.pgd().context(), addr..addr + PAGE_SIZE, 0, false);
            crate::frames::put(page);
        });
    }
    page.mapcount() == 0
}

/// Write-protects and cleans every shared mapping of a locked page before it is written back;
/// returns whether one of them was dirty (`folio_mkclean`).
pub(crate) fn make_clean(page: &Page) -> bool {
    let mut dirty = false;
    if page.mapcount() == 0 {
        return false;
    }
    // SAFETY: the page is a locked page of the page cache (caller).
    unsafe {
        for_each_mapping(page, &mut |vma, addr| {
            if !vma.flags().contains(VmFlags::SHARED) {
                return;
            }
            // SAFETY: the lock of the list that the area is on is held.
            let space = vma.space();
            let Some(table) = space.pgd().table(addr) else { return };
            let table = table.lock();
            let cell = table.cell(addr);
            let pte = cell.load();
            if maps(pte, page) && (pte.is_dirty() || pte.is_writable()) {
                let old = cell.swap(Pte::NONE);
                cell.store(old.with_writable(false).with_dirty(false));
                dirty |= old.is_dirty();
                arch::tlb::flush_range(space.pgd().context(), addr..addr + PAGE_SIZE, 0, false);
            }
        });
    }
    dirty
}
