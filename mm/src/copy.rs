//! Copying page tables: fork, and the moves of `mremap(2)`.

use crate::folio::Folio;
use crate::frames;
use crate::page::{PageFlags, tag};
use crate::pinned;
use crate::ptable::{Marker, TABLE_SPAN};
use crate::rmap;
use crate::space::AddressSpace;
use crate::vma::{VmFlags, Vma};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::paging::{Prot, Pte};
use core::ops::Range;

/// Copies the entries of `vma` from `parent` to `child`; private writable pages become read-only in both.
/// Pinned pages ([`crate::pinned`]) stay the parent's alone, and the child gets copies.
/// Protections of a userfaultfd end where the child's area has not `UFFD_WP`.
/// Returns whether an entry of the parent lost its write permission (so that its TLB needs a flush).
/// The parent's area is write-locked; the child, whose area is `own`, runs nowhere yet.
pub(crate) fn copy_area_tables(
    parent: &AddressSpace,
    child: &AddressSpace,
    vma: &Vma,
    own: &Arc<Vma>,
) -> Result<bool> {
    let keep_wp = own.flags().contains(VmFlags::UFFD_WP);
    let cow = vma.flags().is_cow();
    let pins = cow && parent.has_pins();
    let mut spare: Option<Folio> = None;
    let mut protected = false;
    let mut addr = vma.start();
    while addr < vma.end() {
        let mut end = (addr | (TABLE_SPAN - 1)).saturating_add(1).min(vma.end());
        if let Some(from) = parent.pgd().table(addr) {
            let to = child.pgd().table_or_alloc(addr).map_err(|_| Errno::ENOMEM)?;
            // Nobody else knows the child's table yet: its lock cannot be contended.
            let from = from.lock();
            let to = to.lock();
            let (mut anon, mut file, mut shmem) = (0, 0, 0);
            let mut at = addr;
            let mut wants_spare = false;
            while at < end {
                let cell = from.cell(at);
                let mut pte = cell.load();
                if pte.is_none() || pte.as_software().is_some() {
                    if let Some(marker) = Marker::of(pte) {
                        to.cell(at).store(marker.keeping(keep_wp).entry());
                    }
                    at += PAGE_SIZE;
                    continue;
                }
                if pins && is_pinned_copy(pte) {
                    let Some(copy) = spare.take() else {
                        // Not under the locks: the walk goes on here with a page at hand.
                        wants_spare = true;
                        end = at;
                        break;
                    };
                    let entry = copy_for_child(own, at, pte, copy);
                    to.cell(at).store(entry.with_uffd_wp(keep_wp && pte.is_uffd_wp()));
                    frames::count_anon_mapped(1);
                    anon += 1;
                    at += PAGE_SIZE;
                    continue;
                }
                if cow && pte.is_writable() {
                    // The hardware may set the dirty mark until the entry is read-only.
                    pte = protect(cell, pte);
                    protected = true;
                }
                if !pte.is_special() {
                    let page = frames::page_of(pte.pfn());
                    page.get();
                    page.map_inc();
                    if page.mapping() & tag::MASK == tag::ANON {
                        if page.test(PageFlags::ANON_EXCLUSIVE) {
                            page.clear(PageFlags::ANON_EXCLUSIVE);
                        }
                        anon += 1;
                    } else if page.test(PageFlags::SWAPBACKED) {
                        shmem += 1;
                    } else {
                        file += 1;
                    }
                }
                let mut copy = if cow { pte } else { pte.with_dirty(false) };
                if !keep_wp {
                    copy = copy.with_uffd_wp(false);
                }
                to.cell(at).store(copy.with_accessed(true));
                at += PAGE_SIZE;
            }
            child.counters().add_batch(anon, file, shmem);
            if wants_spare {
                drop((from, to));
                rmap::prepare_anon(own)?;
                spare = Some(frames::alloc_user_page(false).map_err(|_| Errno::ENOMEM)?);
            }
        }
        addr = end;
    }
    Ok(protected)
}

/// Whether an entry of a private area maps a page that may be pinned and belongs to its process alone.
fn is_pinned_copy(pte: Pte) -> bool {
    if pte.is_special() {
        return false;
    }
    let page = frames::page_of(pte.pfn());
    page.mapping() & tag::MASK == tag::ANON && page.test(PageFlags::ANON_EXCLUSIVE) && pinned::is_pinned(page)
}

/// What the child's entry for `addr` is to be: `copy`, with the contents of what the parent's entry maps. Its first write finds
/// that the page is its own.
fn copy_for_child(vma: &Arc<Vma>, addr: usize, pte: Pte, copy: Folio) -> Pte {
    let page = copy.page();
    frames::copy_page(page, frames::page_of(pte.pfn()));
    page.init_index_flags(
        vma.index_of(addr),
        PageFlags::UPTODATE
            .union(PageFlags::SWAPBACKED)
            .union(PageFlags::DIRTY)
            .union(PageFlags::ANON_EXCLUSIVE),
    );
    page.set_mapping(vma.anon_word());
    page.map_inc();
    let entry = Pte::leaf(copy.pfn(), vma.flags().prot() - Prot::WRITE, 0).with_accessed(true);
    let _ = copy.into_raw();
    // As new as any page that was just written.
    entry.with_soft_dirty(true)
}

/// Takes the write permission from an entry whose table lock is held, without losing a dirty mark that the
/// hardware sets meanwhile. Returns what the entry is now. The translation may live on in TLBs.
fn protect(cell: &arch::paging::PteCell, mut pte: Pte) -> Pte {
    loop {
        let new = pte.with_writable(false);
        match cell.compare_exchange(pte, new) {
            Ok(_) => return new,
            Err(now) => pte = now,
        }
    }
}

/// Moves the entries of `len` bytes at `from` to `to` (mremap). Both areas are write-locked. The caller has made sure that the
/// target holds nothing; `flags` are those of its area. Moved pages are soft-dirty. On failure what was moved stays moved; returns how many bytes were.
pub(crate) fn move_tables(space: &AddressSpace, from: usize, to: usize, len: usize, flags: VmFlags) -> usize {
    let keep_wp = flags.contains(VmFlags::UFFD_WP);
    let moved = |pte: Pte| match Marker::of(pte) {
        Some(marker) => marker.keeping(keep_wp).entry(),
        None if keep_wp => pte.with_soft_dirty(true),
        None => pte.with_soft_dirty(true).with_uffd_wp(false),
    };
    let mut done = 0;
    while done < len {
        let (src, dst) = (from + done, to + done);
        let left_src = TABLE_SPAN - (src & (TABLE_SPAN - 1));
        let left_dst = TABLE_SPAN - (dst & (TABLE_SPAN - 1));
        let step = left_src.min(left_dst).min(len - done);
        if let Some(table) = space.pgd().table(src) {
            let Ok(target) = space.pgd().table_or_alloc(dst) else { return done };
            // One table at a time: entries are in neither while they travel, and both areas are locked.
            let mut offset = 0;
            while offset < step {
                let mut batch = [Pte::NONE; 64];
                let chunk: Range<usize> = offset..(offset + batch.len() * PAGE_SIZE).min(step);
                let mut any = false;
                {
                    let table = table.lock();
                    for (slot, at) in batch.iter_mut().zip(chunk.clone().step_by(PAGE_SIZE)) {
                        let cell = table.cell(src + at);
                        if !cell.load().is_none() {
                            *slot = cell.swap(Pte::NONE);
                            any = true;
                        }
                    }
                }
                if any {
                    // No CPU may write through the old address once the new one can be used.
                    let range = src + chunk.start..src + chunk.end;
                    arch::tlb::flush_range(space.pgd().context(), range, 0, false);
                    let target = target.lock();
                    for (pte, at) in batch.iter().zip(chunk.clone().step_by(PAGE_SIZE)) {
                        if !pte.is_none() {
                            target.cell(dst + at).store(moved(*pte));
                        }
                    }
                }
                offset = chunk.end;
            }
        }
        done += step;
    }
    done
}
