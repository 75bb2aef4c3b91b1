//! `numa_maps`: `numa(7)`.

use core::fmt::{self, Write};

use abi::Result;
use arch::addr::PAGE_SIZE;
use kernfs::Text;
use mm::query::{AreaInfo, AreaKind};

use super::View;
use super::maps::each_area;

/// One area: its policy (or the thread's), what it is, and its pages by kind and node.
fn line(out: &mut Text, area: &AreaInfo<'_>, of_thread: &str) -> fmt::Result {
    write!(out, "{:08x} ", area.range().start)?;
    match area.policy() {
        Some(policy) => write!(out, "{policy}")?,
        None => out.write_str(of_thread)?,
    }
    match area.kind() {
        AreaKind::File => {
            out.write_str(" file=")?;
            area.write_name(out)?;
        }
        AreaKind::Heap => out.write_str(" heap")?,
        AreaKind::Stack => out.write_str(" stack")?,
        AreaKind::Other => {}
    }
    let numa = area.numa();
    if numa.pages > 0 {
        let mut number = |name: &str, value: usize, shown: bool| {
            if shown { write!(out, " {name}={value}") } else { Ok(()) }
        };
        number("anon", numa.anon, numa.anon > 0)?;
        number("dirty", numa.dirty, numa.dirty > 0)?;
        number("mapped", numa.pages, numa.pages != numa.anon && numa.pages != numa.dirty)?;
        number("mapmax", numa.most_mapped as usize, numa.most_mapped > 1)?;
        number("active", numa.active, numa.active < numa.pages)?;
        number("writeback", numa.writeback, numa.writeback > 0)?;
        for (node, pages) in numa.nodes.iter().enumerate().filter(|(_, pages)| **pages > 0) {
            write!(out, " N{node}={pages}")?;
        }
        write!(out, " kernelpagesize_kB={}", PAGE_SIZE / 1024)?;
    }
    out.write_char('\n')
}

/// `numa_maps`.
pub(super) fn numa_maps(view: &View<'_>, out: &mut Text) -> Result<()> {
    let Some(space) = view.with_thread(|_, thread| thread.mm())? else { return Ok(()) };
    let policy = view.with_thread(|_, thread| thread.mempolicy.get())?;
    let mut of_thread = alloc::string::String::from("default");
    if let Some(policy) = policy {
        of_thread.clear();
        write!(of_thread, "{policy}").map_err(|_| abi::Errno::ENOMEM)?;
    }
    each_area(&space, |area| line(out, area, &of_thread))
}
