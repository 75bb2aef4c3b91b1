//! `/sys/devices/system/memory`: memory in blocks that can be put offline, as `lsmem(1)` and `chmem(8)` want it
//! (`Documentation/admin-guide/mm/memory-hotplug.rst`).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use kernfs::{Context, Entry, Node, Show, StaticDir, Text, next_ino};
use mm::hotplug::{self, BLOCK_BYTES, State};

use super::device::add_uevent;
use super::{FILE_SIZE, add_constant, add_file, directory, print};

/// A file of one block.
struct OfBlock {
    index: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// `state`: in words.
    State,
    /// `online`: 1 or 0.
    Online,
    /// `valid_zones`: where it is, or could be.
    Zones,
}

impl OfBlock {
    fn is_online(&self) -> bool {
        hotplug::state(self.index) == Some(State::Online)
    }

    /// Puts the block offline; `EINVAL` if it is.
    fn offline(&self) -> Result<()> {
        let processes = crate::process::init_pid_ns();
        hotplug::offline(self.index, &mut |frames| {
            for space in processes.processes().filter_map(|process| process.mm()) {
                space.move_out_of(frames);
            }
        })
    }
}

impl Show for OfBlock {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let online = self.is_online();
        match self.what {
            What::State => print(out, format_args!("{}\n", if online { "online" } else { "offline" })),
            What::Online => print(out, format_args!("{}\n", u8::from(online))),
            What::Zones => match hotplug::zone_of_block(self.index) {
                Some(zone) => print(out, format_args!("{}\n", zone.kind().name())),
                None => print(out, format_args!("none\n")),
            },
        }
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        let word = data.strip_suffix(b"\n").unwrap_or(data);
        match (self.what, word) {
            // Its zone is given: no other holds memory in that place.
            (What::State, b"online" | b"online_kernel") => hotplug::online(self.index),
            (What::State, b"offline") => self.offline(),
            (What::Online, _) => match crate::procfs::sysctl::parse(data, 0..=1)? == 1u8 {
                wanted if wanted == self.is_online() => Ok(()),
                true => hotplug::online(self.index),
                false => self.offline(),
            },
            _ => Err(Errno::EINVAL),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn add(dir: &StaticDir, name: &str, index: u64, what: What) {
    let mode = if matches!(what, What::Zones) { 0o444 } else { 0o644 };
    let node = Node::Text(Arc::new(OfBlock { index, what }));
    dir.add_entry(name, Entry::new(node, next_ino(), mode).sized(FILE_SIZE));
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_block(dir: &StaticDir, index: u64, node: usize) {
    let block = dir.mkdir_mode(&format!("memory{index}"), 0o755);
    add_uevent(&block, String::new());
    block.mkdir_mode("power", 0o755);
    add_constant(&block, "phys_index", format!("{index:08x}"));
    add_constant(&block, "phys_device", "0");
    add_constant(&block, "removable", "1");
    add(&block, "state", index, What::State);
    add(&block, "online", index, What::Online);
    add(&block, "valid_zones", index, What::Zones);
    block.add_link("subsystem", "../../../../bus/memory");
    block.add_link(&format!("node{node}"), &format!("../../node/node{node}"));
    let home = directory(&format!("devices/system/node/node{node}"));
    home.add_link(&format!("memory{index}"), &format!("../../memory/memory{index}"));
    directory("bus/memory/devices")
        .add_link(&format!("memory{index}"), &format!("../../../devices/system/memory/memory{index}"));
}

/// Declares the files: a directory for each block that holds usable memory.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
pub(super) fn init() {
    let dir = directory("devices/system/memory");
    add_uevent(&dir, String::new());
    dir.mkdir_mode("power", 0o755);
    add_constant(&dir, "block_size_bytes", format!("{BLOCK_BYTES:x}"));
    // Nothing is plugged in while the system runs, so there is nothing to do by itself.
    add_file(&dir, "auto_online_blocks", |out| print(out, format_args!("offline\n")));
    let mut last = None;
    for zone in mm::node::zones().filter(|zone| zone.present_pages() > 0) {
        let start = zone.start_pfn() * PAGE_SIZE as u64 / BLOCK_BYTES;
        let end = ((zone.start_pfn() + zone.spanned_pages() as u64) * PAGE_SIZE as u64).div_ceil(BLOCK_BYTES);
        for index in start..end {
            // A hole (on a PC below 4 GiB) is no block; two zones can share one.
            if last.is_some_and(|last| index <= last) || hotplug::state(index).is_none() {
                continue;
            }
            last = Some(index);
            add_block(&dir, index, zone.node());
        }
    }
}
