//! The texts of `/proc/buddyinfo`, `/proc/pagetypeinfo`, `/proc/zoneinfo`, `/proc/slabinfo` and `/proc/vmallocinfo`, in Linux's formats.

use crate::gfp::{MAX_PAGE_ORDER, MigrateType, NR_ORDERS, ZoneKind};
use crate::node;
use crate::pageblock::PAGEBLOCK_ORDER;
use crate::slub;
use crate::stats::Item;
use crate::vmalloc::{self, AreaKind};
use crate::zone::{Mark, Zone};
use core::fmt::{Result, Write};

fn blocks(w: &mut dyn Write, counts: [usize; NR_ORDERS], width: usize) -> Result {
    for count in counts {
        write!(w, "{count:>width$} ")?;
    }
    writeln!(w)
}

/// `/proc/buddyinfo`. Deferred memory shows as blocks of the largest order, which it is.
pub fn buddyinfo(w: &mut dyn Write) -> Result {
    for zone in node::zones() {
        write!(w, "Node {}, zone {:>8} ", zone.node(), zone.kind().name())?;
        blocks(w, with_deferred(zone, zone.free_blocks()), 6)?;
    }
    Ok(())
}

fn with_deferred(zone: &Zone, mut counts: [usize; NR_ORDERS]) -> [usize; NR_ORDERS] {
    counts[usize::from(MAX_PAGE_ORDER)] += zone.deferred_pages() >> MAX_PAGE_ORDER;
    counts
}

/// `/proc/pagetypeinfo`.
pub fn pagetypeinfo(w: &mut dyn Write) -> Result {
    writeln!(w, "Page block order: {PAGEBLOCK_ORDER}")?;
    writeln!(w, "Pages per block:  {}\n", 1 << PAGEBLOCK_ORDER)?;
    write!(w, "{:<43} ", "Free pages count per migrate type at order")?;
    for order in 0..NR_ORDERS {
        write!(w, "{order:>6} ")?;
    }
    writeln!(w)?;
    for zone in node::zones() {
        for ty in MigrateType::ALL {
            write!(w, "Node {:>4}, zone {:>8}, type {:>12} ", zone.node(), zone.kind().name(), ty.name())?;
            let counts = zone.free_blocks_of(ty);
            blocks(w, if ty == MigrateType::Movable { with_deferred(zone, counts) } else { counts }, 6)?;
        }
    }
    write!(w, "\n{:<23}", "Number of blocks type ")?;
    for ty in MigrateType::ALL {
        write!(w, "{:>12} ", ty.name())?;
    }
    writeln!(w)?;
    for zone in node::zones() {
        write!(w, "Node {}, zone {:>8} ", zone.node(), zone.kind().name())?;
        for count in zone.blocks_by_type() {
            write!(w, "{count:>12} ")?;
        }
        writeln!(w)?;
    }
    Ok(())
}

/// `/proc/zoneinfo`.
pub fn zoneinfo(w: &mut dyn Write) -> Result {
    for node in node::nodes() {
        let mut first = true;
        for kind in ZoneKind::ALL {
            let Some(zone) = node.zone(kind) else { continue };
            writeln!(w, "Node {}, zone {:>8}", node.id(), kind.name())?;
            if core::mem::take(&mut first) {
                writeln!(w, "  per-node stats")?;
                for item in Item::ALL {
                    writeln!(w, "      {:<12} {}", item.name(), crate::stats::item(item))?;
                }
            }
            zone_lines(w, zone)?;
        }
    }
    Ok(())
}

fn zone_lines(w: &mut dyn Write, zone: &Zone) -> Result {
    writeln!(w, "  pages free     {}", zone.free_pages())?;
    writeln!(w, "        boost    0")?;
    writeln!(w, "        min      {}", zone.mark(Mark::Min))?;
    writeln!(w, "        low      {}", zone.mark(Mark::Low))?;
    writeln!(w, "        high     {}", zone.mark(Mark::High))?;
    writeln!(w, "        spanned  {}", zone.spanned_pages())?;
    writeln!(w, "        present  {}", zone.present_pages())?;
    writeln!(w, "        managed  {}", zone.managed_pages())?;
    writeln!(w, "        cma      0")?;
    write!(w, "        protection: (")?;
    for (i, kind) in ZoneKind::ALL.iter().enumerate() {
        write!(w, "{}{}", if i == 0 { "" } else { ", " }, zone.lowmem_reserve(*kind))?;
    }
    writeln!(w, ")")?;
    writeln!(w, "      nr_free_pages {}", zone.free_pages())?;
    writeln!(w, "  pagesets")?;
    for (cpu, (count, high, batch)) in zone.pcp_numbers().enumerate() {
        writeln!(w, "    cpu: {cpu}")?;
        writeln!(w, "              count:    {count}")?;
        writeln!(w, "              high:     {high}")?;
        writeln!(w, "              batch:    {batch}")?;
    }
    writeln!(w, "  node_unreclaimable:  0")?;
    writeln!(w, "  start_pfn:           {}", zone.start_pfn())
}

/// `/proc/slabinfo`.
pub fn slabinfo(w: &mut dyn Write) -> Result {
    writeln!(w, "slabinfo - version: 2.1")?;
    writeln!(
        w,
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
         <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
    )?;
    let mut result = Ok(());
    slub::for_each_cache(|cache| {
        let info = cache.info();
        if result.is_ok() {
            result = writeln!(
                w,
                "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}",
                cache.name(),
                info.objects - info.free_objects,
                info.objects,
                info.object_size,
                info.objects_per_slab,
                info.pages_per_slab,
                0,
                0,
                0,
                info.slabs,
                info.slabs,
                0
            );
        }
    });
    result
}

/// `/proc/vmallocinfo`.
pub fn vmallocinfo(w: &mut dyn Write) -> Result {
    let mut result = Ok(());
    vmalloc::for_each_area(&mut |start, end, kind| {
        if result.is_err() {
            return;
        }
        let len = end.0 - start.0;
        result = match kind {
            AreaKind::Vmalloc => {
                writeln!(w, "{:#018x}-{:#018x} {len:>7} pages={} vmalloc", start.0, end.0, len / 4096 - 1)
            }
            AreaKind::IoRemap(pa) => {
                writeln!(w, "{:#018x}-{:#018x} {len:>7} phys={:#018x} ioremap", start.0, end.0, pa.0)
            }
            AreaKind::Map => {
                writeln!(w, "{:#018x}-{:#018x} {len:>7} pages={} vmap", start.0, end.0, len / 4096 - 1)
            }
        };
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_complete() {
        crate::testing::init();
        let mut text = String::new();
        buddyinfo(&mut text).unwrap();
        assert!(
            text.starts_with("Node 0, zone    DMA32 ") && text.split_whitespace().count() == 4 + NR_ORDERS
        );
        for show in [pagetypeinfo, zoneinfo, slabinfo, vmallocinfo] {
            show(&mut text).unwrap();
        }
        assert!(text.contains("slabinfo - version: 2.1") && text.contains("start_pfn"));
    }
}
