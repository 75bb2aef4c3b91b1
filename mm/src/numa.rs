//! Memory policies of areas, and moving the pages of an address space between nodes: `mbind(2)`, `set_mempolicy_home_node(2)`,
//! `migrate_pages(2)`, `move_pages(2)`, `get_mempolicy(2)`, `/proc/PID/numa_maps`.

use crate::fallible::TryVec;
use crate::fault::Access;
use crate::folio::{Folio, Frame};
use crate::frames;
use crate::gfp::{Gfp, Order};
use crate::mempolicy::{ModeArg, NodeMask, Policy, node_of};
use crate::migrate::{NotMoved, move_page};
use crate::mmap::{is_aligned, page_align};
use crate::node::MAX_NODES;
use crate::page::{PageFlags, tag};
use crate::page_alloc;
use crate::ptable::TABLE_SPAN;
use crate::query::AreaInfo;
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma, VmaTree};
use abi::mempolicy::{MPOL_DEFAULT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::layout::TASK_SIZE;
use core::ops::Range;

/// How pages are allocated that others move to.
pub(crate) const MIGRATE: Gfp = Gfp::HIGHUSER_MOVABLE.union(Gfp::RETRY_MAYFAIL).union(Gfp::NOWARN);

/// Whose pages may be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Movable {
    /// Those that this address space has alone.
    Own,
    /// Shared ones too (`CAP_SYS_NICE`).
    All,
}

/// What an entry maps.
enum Mapped {
    Nothing,
    /// The zero page, or a page of the kernel.
    Fixed,
    Page(Folio),
}

/// The pages of an area as `/proc/PID/numa_maps` counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AreaNuma {
    /// Pages that are mapped.
    pub pages: usize,
    /// Anonymous ones.
    pub anon: usize,
    /// Dirty ones.
    pub dirty: usize,
    /// Ones on the active list.
    pub active: usize,
    /// Under writeback.
    pub writeback: usize,
    /// Most mappings of one page.
    pub most_mapped: u32,
    /// Pages by node.
    pub nodes: [usize; MAX_NODES],
}

/// Whether the pages of the area have a place that could be changed.
fn migratable(flags: VmFlags) -> bool {
    !flags.intersects(VmFlags::IO | VmFlags::PFNMAP | VmFlags::SPECIAL)
}

/// The policy that counts for a page of an area, if there is one: of shared memory that of the object.
fn policy_of(vma: &Vma, addr: usize) -> Option<Arc<Policy>> {
    match vma.mapping().filter(|mapping| mapping.is_memory()) {
        Some(mapping) => mapping.policies().get(vma.index_of(addr)),
        None => vma.policy(),
    }
}

impl AddressSpace {
    /// `mbind(2)`.
    pub fn mbind(
        &self,
        addr: usize,
        len: usize,
        arg: ModeArg,
        nodes: NodeMask,
        mut flags: u32,
    ) -> Result<()> {
        if flags & !(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 || !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if arg.mode == MPOL_DEFAULT {
            flags &= !MPOL_MF_STRICT;
        }
        // A length that wraps is none at all.
        let len = page_align(len).unwrap_or(0);
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == addr {
            return Ok(());
        }
        let policy = Policy::new(arg, nodes)?;
        let mut areas = self.areas().write();
        check_holes(&areas, addr..end, policy.is_none())?;
        let failed = self.count_misplaced(&areas, addr..end, nodes, flags)?;
        self.bind_areas(&mut areas, addr..end, policy.as_ref())?;
        let mut failed = failed;
        if flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
            let movable = if flags & MPOL_MF_MOVE_ALL != 0 { Movable::All } else { Movable::Own };
            failed += self.move_misplaced(&areas, addr..end, nodes, movable, policy.as_deref())?;
        }
        if failed > 0 && flags & MPOL_MF_STRICT != 0 { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Pages of `range` that are not on `nodes` and cannot be moved. `EIO` if there is one, they must be there, and none shall be moved.
    fn count_misplaced(
        &self,
        areas: &VmaTree,
        range: Range<usize>,
        nodes: NodeMask,
        flags: u32,
    ) -> Result<usize> {
        let moves = flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0;
        let mut failed = 0;
        if !moves && flags & MPOL_MF_STRICT == 0 {
            return Ok(0);
        }
        for entry in areas.overlapping(range.clone()) {
            if moves && migratable(entry.value.flags()) {
                continue;
            }
            let part = entry.start().max(range.start)..entry.end().min(range.end);
            self.for_each_page(part, &mut |_, folio| {
                failed += usize::from(!nodes.contains(node_of(folio.pfn())));
            })?;
        }
        if failed > 0 && !moves { Err(Errno::EIO) } else { Ok(failed) }
    }

    fn bind_areas(
        &self,
        areas: &mut VmaTree,
        range: Range<usize>,
        policy: Option<&Arc<Policy>>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let Some(vma) = areas.first_ending_after(at).filter(|e| e.start() < range.end) else { break };
            let vma = vma.value.clone();
            let part = vma.start().max(at)..vma.end().min(range.end);
            at = part.end;
            self.bind_area(areas, &vma, part, policy)?;
        }
        self.merge_around(areas, range);
        Ok(())
    }

    fn bind_area(
        &self,
        areas: &mut VmaTree,
        vma: &Arc<Vma>,
        part: Range<usize>,
        policy: Option<&Arc<Policy>>,
    ) -> Result<()> {
        // What an area has already is not set again, even if the object behind it has another by now.
        if vma.policy().as_ref() == policy {
            return Ok(());
        }
        let vma = self.isolate(areas, vma, part.clone())?;
        if let Some(mapping) = vma.mapping().filter(|mapping| mapping.is_memory()) {
            let pages = vma.index_of(part.start)..vma.index_of(part.end - 1) + 1;
            mapping.policies().set(pages, policy.cloned())?;
        }
        let _write = vma.write();
        let flags = vma.flags();
        vma.set_policy(policy.cloned());
        vma.set_flags(if policy.is_some() { flags | VmFlags::POLICY } else { flags - VmFlags::POLICY });
        Ok(())
    }

    /// Moves what is not on `nodes` to where `policy` wants it; returns how many stayed though they should have gone.
    fn move_misplaced(
        &self,
        areas: &VmaTree,
        range: Range<usize>,
        nodes: NodeMask,
        movable: Movable,
        policy: Option<&Policy>,
    ) -> Result<usize> {
        let mut failed = 0;
        for entry in areas.overlapping(range.clone()) {
            let vma = &entry.value;
            if !migratable(vma.flags()) {
                continue;
            }
            let part = entry.start().max(range.start)..entry.end().min(range.end);
            self.for_each_page(part, &mut |addr, folio| {
                if nodes.contains(node_of(folio.pfn())) || movable == Movable::Own && folio.mapcount() > 1 {
                    return;
                }
                let new = match policy {
                    Some(policy) => policy.alloc_indexed(MIGRATE, vma.index_of(addr)),
                    None => page_alloc::alloc_page(MIGRATE),
                };
                let moved = new.map(|new| move_page(folio, new.into_folio()));
                failed += usize::from(!matches!(moved, Ok(Ok(()))));
            })?;
        }
        Ok(failed)
    }

    /// Calls `f` with each page that `range` maps and that has a place; no table is locked meanwhile.
    fn for_each_page(&self, range: Range<usize>, f: &mut dyn FnMut(usize, Folio)) -> Result<()> {
        let mut found = Vec::new();
        found.try_reserve(TABLE_SPAN / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
        let mut at = range.start;
        while at < range.end {
            let stop = (at | (TABLE_SPAN - 1)).saturating_add(1).min(range.end);
            if self.pgd().table(at).is_some() {
                self.pgd().for_each_table(at..stop, &mut |cells, start| {
                    for (cell, addr) in cells.iter().zip((start..).step_by(PAGE_SIZE)) {
                        if !cell.0.load().is_none() {
                            found.push_reserved(addr);
                        }
                    }
                });
                for addr in found.drain(..) {
                    if let Mapped::Page(folio) = self.mapped_page(addr) {
                        f(addr, folio);
                    }
                }
            }
            sched::cond_resched();
            at = stop;
        }
        Ok(())
    }

    fn mapped_page(&self, addr: usize) -> Mapped {
        let Some(table) = self.pgd().table(addr) else { return Mapped::Nothing };
        let table = table.lock();
        let pte = table.cell(addr).load();
        if pte.is_none() || pte.as_software().is_some() {
            return Mapped::Nothing;
        }
        if pte.is_special() {
            return Mapped::Fixed;
        }
        Mapped::Page(frames::folio_of(frames::page_of(pte.pfn())))
    }

    /// `set_mempolicy_home_node(2)`; the node exists.
    pub fn set_home_node(&self, addr: usize, len: usize, node: usize) -> Result<()> {
        let len = page_align(len).unwrap_or(0);
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == addr {
            return Ok(());
        }
        let mut areas = self.areas().write();
        let mut at = addr;
        let mut result = Err(Errno::ENOENT);
        while at < end {
            let Some(vma) = areas.first_ending_after(at).filter(|e| e.start() < end) else { break };
            let vma = vma.value.clone();
            let part = vma.start().max(at)..vma.end().min(end);
            at = part.end;
            let Some(old) = vma.policy() else { continue };
            if !matches!(old.mode(), crate::mempolicy::Mode::Bind | crate::mempolicy::Mode::PreferredMany) {
                return Err(Errno::EOPNOTSUPP);
            }
            self.bind_area(&mut areas, &vma, part, Some(&old.with_home(node)?))?;
            result = Ok(());
        }
        self.merge_around(&mut areas, addr..end);
        result
    }

    /// `migrate_pages(2)`: moves what is on the nodes `from` to those of the same rank in `to`. Returns how many pages stayed.
    pub fn migrate_nodes(&self, from: NodeMask, to: NodeMask, movable: Movable) -> Result<usize> {
        let mut failed = 0;
        let areas = self.areas().read();
        for entry in areas.overlapping(0..TASK_SIZE) {
            if !migratable(entry.value.flags()) {
                continue;
            }
            self.for_each_page(entry.range(), &mut |_, folio| {
                let node = node_of(folio.pfn());
                let target = NodeMask::remap(node, from, to);
                let stays = from.count() != to.count() && to.contains(node);
                if target == node || stays || movable == Movable::Own && folio.mapcount() > 1 {
                    return;
                }
                failed += usize::from(move_to(folio, target).is_err());
            })?;
        }
        Ok(failed)
    }

    /// Moves the pages that it maps in a range of frames to other ones ([`crate::hotplug`]). What cannot be moved now stays.
    pub fn move_out_of(&self, range: &Range<u32>) {
        let areas = self.areas().read();
        for entry in areas.overlapping(0..TASK_SIZE) {
            if !migratable(entry.value.flags()) {
                continue;
            }
            // Without memory to remember the pages in, they stay.
            let _ = self.for_each_page(entry.range(), &mut |_, folio| {
                if crate::hotplug::contains(range, &folio)
                    && let Ok(new) = page_alloc::alloc_page(MIGRATE)
                {
                    let _ = move_page(folio, new.into_folio());
                }
            });
        }
    }

    /// `move_pages(2)` for one page: the node it is on afterwards.
    ///
    /// # Errors
    /// `EFAULT`: nothing that could be moved is mapped there; `ENOENT`: the page is not there; `EACCES`: others map it too; `EBUSY`; `ENOMEM`.
    pub fn move_page_to(&self, addr: usize, node: usize, movable: Movable) -> Result<usize> {
        let areas = self.areas().read();
        let vma = &areas.get(addr).ok_or(Errno::EFAULT)?.value;
        if !migratable(vma.flags()) {
            return Err(Errno::EFAULT);
        }
        let folio = match self.mapped_page(addr & !(PAGE_SIZE - 1)) {
            Mapped::Nothing => return Err(Errno::ENOENT),
            Mapped::Fixed => return Err(Errno::EFAULT),
            Mapped::Page(folio) => folio,
        };
        if node_of(folio.pfn()) == node {
            return Ok(node);
        }
        if movable == Movable::Own && folio.mapcount() > 1 {
            return Err(Errno::EACCES);
        }
        match move_to(folio, node) {
            Ok(()) => Ok(node),
            Err(NotMoved::Busy) => Err(Errno::EBUSY),
            Err(NotMoved::NoMemory) => Err(Errno::ENOMEM),
        }
    }

    /// The node that the page at `addr` is on (`move_pages(2)` without nodes).
    ///
    /// # Errors
    /// `EFAULT`: no area, or the zero page; `ENOENT`: no page.
    pub fn page_node(&self, addr: usize) -> Result<usize> {
        let areas = self.areas().read();
        areas.get(addr).ok_or(Errno::EFAULT)?;
        match self.mapped_page(addr & !(PAGE_SIZE - 1)) {
            Mapped::Nothing => Err(Errno::ENOENT),
            Mapped::Fixed => Err(Errno::EFAULT),
            Mapped::Page(folio) => Ok(node_of(folio.pfn())),
        }
    }

    /// The policy of the area at `addr`, if it has one.
    ///
    /// # Errors
    /// `EFAULT`: there is none.
    pub fn policy_at(&self, addr: usize) -> Result<Option<Arc<Policy>>> {
        let areas = self.areas().read();
        let vma = &areas.get(addr).ok_or(Errno::EFAULT)?.value;
        Ok(policy_of(vma, addr & !(PAGE_SIZE - 1)))
    }

    /// The node of the page at `addr`, which is brought in if need be (`MPOL_F_NODE | MPOL_F_ADDR`).
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn node_at(&self, addr: usize) -> Result<usize> {
        match self.get_user_page(addr, Access::Read) {
            Ok(folio) => Ok(node_of(folio.pfn())),
            // The zero page is where the kernel found it.
            Err(_) => {
                self.policy_at(addr)?;
                match self.mapped_page(addr & !(PAGE_SIZE - 1)) {
                    Mapped::Fixed => Ok(node_of(frames::zero_page())),
                    _ => Err(Errno::EFAULT),
                }
            }
        }
    }
}

fn move_to(folio: Folio, node: usize) -> core::result::Result<(), NotMoved> {
    let new = page_alloc::alloc_pages_node(MIGRATE | Gfp::THISNODE, Order::ZERO, node);
    move_page(folio, new.map(Frame::into_folio).map_err(|_| NotMoved::NoMemory)?)
}

/// `EFAULT` unless `range` is mapped without holes; with `sparse`, unless anything of it is.
fn check_holes(areas: &VmaTree, range: Range<usize>, sparse: bool) -> Result<()> {
    let mut at = range.start;
    let mut any = false;
    for entry in areas.overlapping(range.clone()) {
        any = true;
        if entry.start() > at && !sparse {
            return Err(Errno::EFAULT);
        }
        at = entry.end();
    }
    if !any || at < range.end && !sparse { Err(Errno::EFAULT) } else { Ok(()) }
}

impl AreaInfo<'_> {
    /// The policy of the area, if it has one.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        policy_of(self.vma(), self.range().start)
    }

    /// Counts its pages by node.
    pub fn numa(&self) -> AreaNuma {
        let mut numa = AreaNuma::default();
        self.for_each_pte(&mut |_, pte| {
            if pte.is_none() || pte.as_software().is_some() || pte.is_special() {
                return;
            }
            let page = frames::page_of(pte.pfn());
            numa.pages += 1;
            numa.anon += usize::from(page.mapping() & tag::MASK == tag::ANON);
            numa.dirty += usize::from(pte.is_dirty() || page.test(PageFlags::DIRTY));
            let active = PageFlags::ACTIVE | PageFlags::UNEVICTABLE;
            // What no list holds is never old.
            numa.active += usize::from(page.flags().intersects(active) || !page.test(PageFlags::LRU));
            numa.writeback += usize::from(page.test(PageFlags::WRITEBACK));
            numa.most_mapped = numa.most_mapped.max(page.mapcount());
            if let Some(count) = numa.nodes.get_mut(node_of(pte.pfn())) {
                *count += 1;
            }
        });
        numa
    }
}
