//! Addresses for devices that firmware gave none.
//!
//! Bottom up: what is behind a bridge, sorted by size, tells what the bridge needs to let through; then top down from the host bridge's
//! windows. Every piece is aligned to its size, so sorted by size they follow each other without gaps.

use alloc::vec::Vec;

use arch::pci::{Space, Window};
use mm::fallible::TryVec;

use super::config::{Host, Width};
use super::device::BarKind;
use super::regs;
use super::scan::Found;

/// Granularity of what a bridge lets through.
const BRIDGE_MEMORY: u64 = 1 << 20;
const BRIDGE_IO: u64 = 1 << 12;
/// What a port gets for devices that come later.
const SPARE_MEMORY: u64 = 2 << 20;
const SPARE_IO: u64 = 1 << 12;
/// Ports below are those of devices that have always been there.
const FIRST_PORT: u64 = 0x1000;

/// The kinds of addresses, each from a window of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pool {
    Io,
    Memory,
    Prefetch,
}

const POOLS: [Pool; 3] = [Pool::Io, Pool::Memory, Pool::Prefetch];

impl Pool {
    fn of(kind: BarKind) -> Option<Self> {
        match kind {
            BarKind::Io => Some(Self::Io),
            // What is prefetchable but narrow could not be above 4 GiB, where that window is.
            BarKind::Memory { wide: true, prefetchable: true } => Some(Self::Prefetch),
            BarKind::Memory { .. } => Some(Self::Memory),
            // Nobody reads it.
            BarKind::Rom | BarKind::None => None,
        }
    }

    fn granularity(self) -> u64 {
        if self == Self::Io { BRIDGE_IO } else { BRIDGE_MEMORY }
    }
}

/// Who wants addresses.
#[derive(Clone, Copy)]
enum Owner {
    Bar(usize, usize),
    Bridge(usize),
}

#[derive(Clone, Copy)]
struct Need {
    owner: Owner,
    len: u64,
    align: u64,
}

/// What is needed behind `parent`, largest alignment first.
fn needs(found: &[Found], parent: Option<usize>, pool: Pool) -> abi::Result<Vec<Need>> {
    let mut needs = Vec::new();
    for (index, one) in found.iter().enumerate().filter(|(_, one)| one.parent == parent) {
        for (bar, what) in one.bars.iter().enumerate() {
            if Pool::of(what.kind) == Some(pool) && what.len > 0 {
                needs.try_push(Need { owner: Owner::Bar(index, bar), len: what.len, align: what.len })?;
            }
        }
        if one.bridge.is_some() {
            // Behind bridges behind it there are only those found later: this ends.
            let (len, align) = size(found, index, pool)?;
            if len > 0 {
                needs.try_push(Need { owner: Owner::Bridge(index), len, align })?;
            }
        }
    }
    needs.sort_by_key(|need| core::cmp::Reverse(need.align));
    Ok(needs)
}

/// What a bridge has to let through: bytes and their alignment.
fn size(found: &[Found], bridge: usize, pool: Pool) -> abi::Result<(u64, u64)> {
    let unit = pool.granularity();
    let needs = needs(found, Some(bridge), pool)?;
    let align = needs.first().map_or(unit, |need| need.align.max(unit));
    let mut end = 0u64;
    for need in &needs {
        end = end.next_multiple_of(need.align).saturating_add(need.len);
    }
    if found.get(bridge).is_some_and(|bridge| bridge.hotplug) {
        end = end.max(if pool == Pool::Io { SPARE_IO } else { SPARE_MEMORY });
    }
    Ok((end.checked_next_multiple_of(unit).unwrap_or(u64::MAX), align))
}

/// Gives addresses from a range of bus addresses to what is behind `parent`.
fn place(
    found: &mut [Found],
    host: &Host,
    parent: Option<usize>,
    pool: Pool,
    window: &Window,
    range: (u64, u64),
) -> abi::Result<()> {
    let (mut next, end) = range;
    for need in needs(found, parent, pool)? {
        let at = next
            .checked_next_multiple_of(need.align)
            .filter(|at| at.checked_add(need.len).is_some_and(|last| last <= end));
        let Some(at) = at else {
            log::warn!("PCI: no room for {:#x} bytes", need.len);
            continue;
        };
        next = at + need.len;
        match need.owner {
            Owner::Bar(index, bar) => {
                let device = &mut found[index];
                // As the CPU sees it.
                device.bars[bar].start = at - window.bus + window.cpu;
                let register = regs::BAR0 + 4 * bar as u16;
                host.write(device.address, register, Width::Double, at as u32);
                if matches!(device.bars[bar].kind, BarKind::Memory { wide: true, .. }) {
                    host.write(device.address, register + 4, Width::Double, (at >> 32) as u32);
                }
            }
            Owner::Bridge(index) => {
                open_bridge(host, &found[index], pool, at, at + (need.len - 1));
                place(found, host, Some(index), pool, window, (at, next))?;
            }
        }
    }
    Ok(())
}

/// A bridge lets addresses through.
fn open_bridge(host: &Host, bridge: &Found, pool: Pool, first: u64, last: u64) {
    let write = |register, width, value: u64| host.write(bridge.address, register, width, value as u32);
    let memory = |first: u64, last: u64| (first >> 16 & 0xfff0) | (last >> 16 & 0xfff0) << 16;
    match pool {
        Pool::Io => {
            write(regs::IO_BASE, Width::Word, (first >> 8 & 0xf0) | (last >> 8 & 0xf0) << 8);
            write(regs::IO_BASE_UPPER, Width::Double, (first >> 16 & 0xffff) | (last >> 16 & 0xffff) << 16);
        }
        Pool::Memory => write(regs::MEMORY_BASE, Width::Double, memory(first, last)),
        Pool::Prefetch => {
            write(regs::PREFETCH_BASE_UPPER, Width::Double, first >> 32);
            write(regs::PREFETCH_LIMIT_UPPER, Width::Double, last >> 32);
            write(regs::PREFETCH_BASE, Width::Double, memory(first, last));
        }
    }
}

/// A bridge lets nothing through: base above limit.
fn close_bridge(host: &Host, bridge: &Found) {
    let write = |register, width, value| host.write(bridge.address, register, width, value);
    write(regs::IO_BASE, Width::Word, 0x00f0);
    write(regs::MEMORY_BASE, Width::Double, 0x0000_fff0);
    write(regs::PREFETCH_LIMIT_UPPER, Width::Double, 0);
    write(regs::PREFETCH_BASE, Width::Double, 0x0000_fff0);
    write(regs::PREFETCH_BASE_UPPER, Width::Double, u32::MAX);
}

/// Gives addresses to all devices; what does not fit has none.
pub(super) fn assign(host: &Host, found: &mut [Found]) -> abi::Result<()> {
    for device in found.iter_mut() {
        for bar in &mut device.bars {
            bar.start = 0;
        }
    }
    for bridge in found.iter().filter(|one| one.bridge.is_some()) {
        close_bridge(host, bridge);
    }
    let window = |space: Space| host.windows.iter().find(|window| window.space == space).copied();
    let memory = window(Space::Memory32);
    for pool in POOLS {
        let window = match pool {
            Pool::Io => window(Space::Io),
            Pool::Memory => memory,
            Pool::Prefetch => window(Space::Memory64).or(memory),
        };
        let Some(window) = window else { continue };
        let mut first = window.bus;
        if pool == Pool::Io {
            first = first.max(FIRST_PORT);
        }
        if pool == Pool::Prefetch && Some(window) == memory {
            first = end_of_memory(found, &window);
        }
        place(found, host, None, pool, &window, (first, window.bus.saturating_add(window.len)))?;
    }
    let mut command = Vec::new();
    for bridge in found.iter().filter(|one| one.bridge.is_some()) {
        command.try_push(bridge.address)?;
    }
    // Bridges pass on what they are asked, in both directions.
    for address in command {
        let bits = regs::COMMAND_IO | regs::COMMAND_MEMORY | regs::COMMAND_MASTER;
        let old = host.read(address, regs::COMMAND, Width::Word);
        host.write(address, regs::COMMAND, Width::Word, old | u32::from(bits));
    }
    Ok(())
}

/// Where the part of a window begins that has not been given away.
fn end_of_memory(found: &[Found], window: &Window) -> u64 {
    let bars = found.iter().flat_map(|one| &one.bars);
    let given = bars.filter(|bar| Pool::of(bar.kind) == Some(Pool::Memory) && bar.start != 0);
    let end = given.map(|bar| bar.start - window.cpu + window.bus + bar.len).max().unwrap_or(window.bus);
    end.next_multiple_of(BRIDGE_MEMORY)
}
