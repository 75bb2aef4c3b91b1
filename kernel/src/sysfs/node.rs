//! `/sys/devices/system/node`: `numa(7)`.
//!
//! Free and total memory are those of the node. What is counted for the whole system only (caches, mapped and
//! anonymous pages) is shown at node 0.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::cpu::{self, CpuId, CpuMask};
use kernfs::{Context, Entry, Node, Show, Text, next_ino};
use mm::fallible::try_format;
use mm::stats::{Item, item};

use super::device::add_uevent;
use super::{add_file, directory, print};
use crate::procfs::numbers::{write_list, write_mask};

fn cpus_of(node: u32) -> CpuMask {
    cpu::online().iter().filter(|cpu| cpu::node_of(*cpu) == node).fold(CpuMask::EMPTY, |mut set, cpu| {
        set.set(cpu);
        set
    })
}

/// Nodes as a set: the same text form as CPUs.
fn nodes_with(keep: impl Fn(u32) -> bool) -> CpuMask {
    mm::node::nodes().map(|node| node.id() as u32).filter(|id| keep(*id)).fold(
        CpuMask::EMPTY,
        |mut set, id| {
            set.set(CpuId(id));
            set
        },
    )
}

fn line(out: &mut Text, set: CpuMask) -> Result<()> {
    write_list(out, set).map_err(|_| Errno::ENOMEM)?;
    out.push(b"\n");
    Ok(())
}

fn meminfo(node: u32, out: &mut Text) -> Result<()> {
    let kib = |pages: usize| pages * (PAGE_SIZE / 1024);
    let zones = || mm::node::zones().filter(move |zone| zone.node() == node as usize);
    let total: usize = zones().map(|zone| zone.managed_pages()).sum();
    let free: usize = zones().map(|zone| zone.free_pages()).sum();
    let of = |items: &[Item]| -> usize {
        if node == 0 { kib(items.iter().map(|counter| item(*counter)).sum()) } else { 0 }
    };
    let slab = [Item::SlabReclaimable, Item::SlabUnreclaimable];
    let stacks = if node == 0 { item(Item::KernelStackKb) } else { 0 };
    let rows = [
        ("MemTotal", kib(total)),
        ("MemFree", kib(free)),
        ("MemUsed", kib(total.saturating_sub(free))),
        ("SwapCached", of(&[Item::SwapCached])),
        ("Active", of(&[Item::ActiveAnon, Item::ActiveFile])),
        ("Inactive", of(&[Item::InactiveAnon, Item::InactiveFile])),
        ("Active(anon)", of(&[Item::ActiveAnon])),
        ("Inactive(anon)", of(&[Item::InactiveAnon])),
        ("Active(file)", of(&[Item::ActiveFile])),
        ("Inactive(file)", of(&[Item::InactiveFile])),
        ("Unevictable", of(&[Item::Unevictable])),
        ("Mlocked", of(&[Item::Mlock])),
        ("Dirty", of(&[Item::FileDirty])),
        ("Writeback", of(&[Item::Writeback])),
        ("FilePages", of(&[Item::FilePages])),
        ("Mapped", of(&[Item::FileMapped])),
        ("AnonPages", of(&[Item::AnonPages])),
        ("Shmem", of(&[Item::Shmem])),
        ("KernelStack", stacks),
        ("PageTables", of(&[Item::PageTables])),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("KReclaimable", of(&[Item::SlabReclaimable])),
        ("Slab", of(&slab)),
        ("SReclaimable", of(&[Item::SlabReclaimable])),
        ("SUnreclaim", of(&[Item::SlabUnreclaimable])),
        ("AnonHugePages", of(&[Item::AnonThps])),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
    ];
    for (name, value) in rows {
        print(out, format_args!("Node {node} {:<15} {value:>8} kB\n", try_format(format_args!("{name}:"))?))?;
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Surp"] {
        print(out, format_args!("Node {node} {:<16} {:>5}\n", try_format(format_args!("{name}:"))?, 0))?;
    }
    Ok(())
}

fn numastat(node: u32, out: &mut Text) -> Result<()> {
    let stat = mm::page_alloc::numa_stat(node as usize);
    let rows = [
        ("numa_hit", stat.hit),
        ("numa_miss", stat.miss),
        ("numa_foreign", stat.foreign),
        ("interleave_hit", stat.interleave_hit),
        ("local_node", stat.local),
        ("other_node", stat.other),
    ];
    rows.iter().try_for_each(|(name, value)| print(out, format_args!("{name} {value}\n")))
}

fn distances(node: u32, out: &mut Text) -> Result<()> {
    let single = boot::info::Numa::single();
    let numa = crate::init::boot_info().map_or(&single, |info| &info.numa);
    let row = numa.distance.get(node as usize).ok_or(Errno::EIO)?;
    for (index, distance) in row.iter().take(numa.nodes).enumerate() {
        print(out, format_args!("{}{distance}", if index > 0 { " " } else { "" }))?;
    }
    out.push(b"\n");
    Ok(())
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_node(id: u32) {
    let dir = directory(&format!("devices/system/node/node{id}"));
    add_uevent(&dir, String::new());
    dir.add_link("subsystem", "../../../../bus/node");
    dir.mkdir_mode("power", 0o755);
    add_file(&dir, "cpulist", move |out| line(out, cpus_of(id)));
    add_file(&dir, "cpumap", move |out| {
        write_mask(out, cpus_of(id), cpu::possible()).map_err(|_| Errno::ENOMEM)?;
        out.push(b"\n");
        Ok(())
    });
    add_file(&dir, "meminfo", move |out| meminfo(id, out));
    add_file(&dir, "distance", move |out| distances(id, out));
    add_file(&dir, "numastat", move |out| numastat(id, out));
    for cpu in cpu::possible().iter().filter(|cpu| cpu::node_of(*cpu) == id) {
        dir.add_link(&format!("cpu{}", cpu.0), &format!("../../cpu/cpu{}", cpu.0));
    }
    directory("bus/node/devices")
        .add_link(&format!("node{id}"), &format!("../../../devices/system/node/node{id}"));
}

/// The weights of weighted interleaving: a number from 1 to 255 for each node; 0 and an empty line stand for 1.
#[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_weights() {
    struct Weight(usize);
    impl Show for Weight {
        fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
            print(out, format_args!("{}\n", mm::mempolicy::weight(self.0)))
        }
        fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
            let blank = matches!(data, b"" | b"\n");
            let weight = if blank { 0 } else { crate::procfs::sysctl::parse(data, 0..=u8::MAX)? };
            mm::mempolicy::set_weight(self.0, weight);
            Ok(())
        }
    }
    let dir = directory("kernel/mm/mempolicy/weighted_interleave");
    for node in mm::node::nodes() {
        let show = Node::Text(Arc::new(Weight(node.id())));
        let entry = Entry::new(show, next_ino(), 0o644).sized(PAGE_SIZE as u64);
        dir.add_entry(&format!("node{}", node.id()), entry);
    }
}

/// Declares the files.
pub(super) fn init() {
    let dir = directory("devices/system/node");
    add_uevent(&dir, String::new());
    dir.mkdir_mode("power", 0o755);
    for name in ["online", "possible"] {
        add_file(&dir, name, |out| line(out, nodes_with(|_| true)));
    }
    add_file(&dir, "has_cpu", |out| line(out, nodes_with(|id| !cpus_of(id).is_empty())));
    for name in ["has_memory", "has_normal_memory"] {
        add_file(&dir, name, |out| {
            line(
                out,
                nodes_with(|id| mm::node::node(id as usize).is_some_and(|node| node.present_pages() > 0)),
            )
        });
    }
    mm::node::nodes().for_each(|node| add_node(node.id() as u32));
    add_weights();
}
