//! Memory of the system: `/proc/meminfo`, `/proc/vmstat`, `/proc/zoneinfo`, `/proc/buddyinfo`, …

use core::fmt::Write;

use abi::{Errno, Result};
use kernfs::{Attr, Text, attr};
use mm::stats::{Event, Item, event, item, meminfo};

use super::top;

const FILES: &[Attr] = &[
    attr("meminfo", show_meminfo),
    attr("vmstat", show_vmstat),
    attr("buddyinfo", |out| mm::report::buddyinfo(out).map_err(|_| Errno::ENOMEM)),
    attr("pagetypeinfo", |out| mm::report::pagetypeinfo(out).map_err(|_| Errno::ENOMEM)).mode(0o400),
    attr("zoneinfo", |out| mm::report::zoneinfo(out).map_err(|_| Errno::ENOMEM)),
    attr("slabinfo", |out| mm::report::slabinfo(out).map_err(|_| Errno::ENOMEM)).mode(0o400),
    attr("vmallocinfo", |out| mm::report::vmallocinfo(out).map_err(|_| Errno::ENOMEM)).mode(0o400),
    attr("swaps", |out| {
        out.push(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
        Ok(())
    }),
];

/// Declares the files.
pub(super) fn init() {
    top().add_attrs(FILES);
}

fn kib(pages: usize) -> usize {
    pages * (arch::addr::PAGE_SIZE / 1024)
}

fn show_meminfo(out: &mut Text) -> Result<()> {
    let info = meminfo();
    let anon = (item(Item::ActiveAnon), item(Item::InactiveAnon));
    let file = (item(Item::ActiveFile), item(Item::InactiveFile));
    let shmem = item(Item::Shmem);
    let rows: [(&str, usize); 47] = [
        ("MemTotal", kib(info.total)),
        ("MemFree", kib(info.free)),
        ("MemAvailable", kib(info.available)),
        ("Buffers", 0),
        ("Cached", kib(item(Item::FilePages))),
        ("SwapCached", kib(item(Item::SwapCached))),
        ("Active", kib(anon.0 + file.0)),
        ("Inactive", kib(anon.1 + file.1)),
        ("Active(anon)", kib(anon.0)),
        ("Inactive(anon)", kib(anon.1)),
        ("Active(file)", kib(file.0)),
        ("Inactive(file)", kib(file.1)),
        ("Unevictable", kib(item(Item::Unevictable))),
        ("Mlocked", kib(item(Item::Mlock))),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Zswap", 0),
        ("Zswapped", 0),
        ("Dirty", kib(item(Item::FileDirty))),
        ("Writeback", kib(item(Item::Writeback))),
        ("AnonPages", kib(item(Item::AnonPages))),
        ("Mapped", kib(item(Item::FileMapped))),
        ("Shmem", kib(shmem)),
        ("KReclaimable", kib(info.slab_reclaimable)),
        ("Slab", kib(info.slab_reclaimable + info.slab_unreclaimable)),
        ("SReclaimable", kib(info.slab_reclaimable)),
        ("SUnreclaim", kib(info.slab_unreclaimable)),
        ("KernelStack", info.kernel_stack_kb),
        ("PageTables", kib(info.page_tables)),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", kib(mm::overcommit::limit())),
        ("Committed_AS", kib(mm::overcommit::committed())),
        ("VmallocTotal", kib(info.vmalloc_total)),
        ("VmallocUsed", kib(info.vmalloc_used)),
        ("VmallocChunk", 0),
        ("Percpu", kib(info.percpu)),
        ("HardwareCorrupted", 0),
        ("AnonHugePages", kib(item(Item::AnonThps))),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("Unaccepted", 0),
        ("Balloon", 0),
    ];
    for (name, value) in rows {
        write!(out, "{name}:").map_err(|_| Errno::ENOMEM)?;
        out.pad_to(16);
        writeln!(out, "{value:8} kB").map_err(|_| Errno::ENOMEM)?;
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        write!(out, "{name}:").map_err(|_| Errno::ENOMEM)?;
        out.pad_to(16);
        writeln!(out, "{:8}", 0).map_err(|_| Errno::ENOMEM)?;
    }
    out.push(b"Hugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    Ok(())
}

fn show_vmstat(out: &mut Text) -> Result<()> {
    writeln!(out, "nr_free_pages {}", meminfo().free).map_err(|_| Errno::ENOMEM)?;
    // What else the kernel counts is in `meminfo`.
    let kept = |counter: &Item| !matches!(counter, Item::KernelTables | Item::Vmalloc);
    for counter in Item::ALL.into_iter().filter(kept) {
        writeln!(out, "{} {}", counter.name(), item(counter)).map_err(|_| Errno::ENOMEM)?;
    }
    let (hard, soft) = mm::writeback::thresholds();
    writeln!(out, "nr_dirty_threshold {hard}\nnr_dirty_background_threshold {soft}")
        .map_err(|_| Errno::ENOMEM)?;
    for counter in Event::ALL {
        writeln!(out, "{} {}", counter.name(), event(counter)).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(())
}
