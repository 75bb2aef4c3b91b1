//! `maps`, `smaps`, `smaps_rollup`: `proc_pid_maps(5)`.
//!
//! `maps` and `smaps` are made as far as they are read: [`areas`]. The sum is made at once: with the areas locked for one at a time.

use core::fmt::{self, Write};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use kernfs::Text;
use mm::AddressSpace;
use mm::query::{AreaInfo, AreaStats};
use vfs::file::{FileImpl, OpenFile};

use super::{Subject, areas};

/// Column of the name.
const NAME_COLUMN: usize = 73;

/// Calls `f` with each area, one hold of the lock per area.
pub(super) fn each_area(space: &AddressSpace, mut f: impl FnMut(&AreaInfo<'_>) -> fmt::Result) -> Result<()> {
    let mut from = 0;
    loop {
        let mut next = None;
        let mut result = Ok(());
        space.for_each_area(from, &mut |area| {
            result = f(area);
            next = Some(area.range().end);
            false
        });
        result.map_err(|_| Errno::ENOMEM)?;
        match next {
            Some(end) if end > from => from = end,
            _ => return Ok(()),
        }
        sched::cond_resched();
    }
}

/// The entry of an area in `maps`.
fn address_line(out: &mut Text, area: &AreaInfo<'_>) -> fmt::Result {
    let range = area.range();
    let perms = area.perms();
    write!(out, "{:08x}-{:08x} ", range.start, range.end)?;
    out.push(&perms);
    let id = area.file_id();
    write!(out, " {:08x} {:02x}:{:02x} {} ", area.offset(), id.major, id.minor, id.ino)?;
    let end = out.as_bytes().len();
    out.pad_to(NAME_COLUMN);
    let padded = out.as_bytes().len();
    area.write_name(out)?;
    if out.as_bytes().len() == padded {
        // Without a name there is no padding either.
        out.truncate(end);
    }
    out.write_char('\n')
}

/// Opens `maps`.
pub(super) fn open_maps(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    areas::open(subject, address_line)
}

const fn kib(bytes: usize) -> usize {
    bytes / 1024
}

fn row(out: &mut Text, name: &str, kib: usize) -> fmt::Result {
    write!(out, "{name}:")?;
    out.pad_to(16);
    writeln!(out, "{kib:8} kB")
}

fn counters(out: &mut Text, stats: &AreaStats, rollup: Option<[u64; 3]>) -> fmt::Result {
    row(out, "Rss", kib(stats.rss))?;
    row(out, "Pss", (stats.pss() / 1024) as usize)?;
    row(out, "Pss_Dirty", (stats.pss_dirty_scaled >> 22) as usize)?;
    if let Some([anon, file, shmem]) = rollup {
        row(out, "Pss_Anon", (anon >> 22) as usize)?;
        row(out, "Pss_File", (file >> 22) as usize)?;
        row(out, "Pss_Shmem", (shmem >> 22) as usize)?;
    }
    let rows = [
        ("Shared_Clean", stats.shared_clean),
        ("Shared_Dirty", stats.shared_dirty),
        ("Private_Clean", stats.private_clean),
        ("Private_Dirty", stats.private_dirty),
        ("Referenced", stats.referenced),
        ("Anonymous", stats.anonymous),
        ("KSM", 0),
        ("LazyFree", stats.lazyfree),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
    ];
    rows.iter().try_for_each(|(name, bytes)| row(out, name, kib(*bytes)))?;
    row(out, "Locked", (stats.locked_pss_scaled >> 22) as usize)
}

/// Opens `smaps`.
pub(super) fn open_smaps(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    areas::open(subject, details)
}

/// The entry of an area in `smaps`.
fn details(out: &mut Text, area: &AreaInfo<'_>) -> fmt::Result {
    address_line(out, area)?;
    let range = area.range();
    row(out, "Size", kib(range.end - range.start))?;
    row(out, "KernelPageSize", kib(PAGE_SIZE))?;
    row(out, "MMUPageSize", kib(PAGE_SIZE))?;
    counters(out, &area.stats(), None)?;
    writeln!(out, "THPeligible:           0")?;
    if arch::pkey::supported() {
        writeln!(out, "ProtectionKey:  {:8}", area.flags().key())?;
    }
    out.write_str("VmFlags: ")?;
    for name in area.flags().smaps_names() {
        write!(out, "{name} ")?;
    }
    out.write_char('\n')
}

/// `smaps_rollup`: one entry for all.
pub(super) fn smaps_rollup(space: &AddressSpace, out: &mut Text) -> Result<()> {
    let mut sum = AreaStats::default();
    let mut kinds = [0u64; 3];
    let mut span: Option<(usize, usize)> = None;
    each_area(space, |area| {
        let stats = area.stats();
        let range = area.range();
        span = Some((span.map_or(range.start, |(start, _)| start), range.end));
        let kind = if area.is_file() { 1 } else { 0 };
        if let Some(total) = kinds.get_mut(kind) {
            *total += stats.pss_scaled;
        }
        sum.add(&stats);
        Ok(())
    })?;
    let (start, end) = span.unwrap_or((0, 0));
    let line = |out: &mut Text| -> fmt::Result {
        write!(out, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ")?;
        out.pad_to(NAME_COLUMN);
        out.write_str("[rollup]\n")?;
        counters(out, &sum, Some(kinds))
    };
    line(out).map_err(|_| Errno::ENOMEM)
}
