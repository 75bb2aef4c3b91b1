//! Caches by CPUID: leaf 4 (Intel SDM volume 2, CPUID), or 0x8000_001d where AMD has put the same; older AMD processors have leaves
//! 0x8000_0005 and 0x8000_0006 (AMD64 manual volume 3, appendix E).

use super::insn::cpuid;
use super::platform::platform;
use crate::cache::{Cache, Kind};
use crate::cpu::{self, CpuId, CpuMask};

const INTEL: u32 = 4;
const AMD: u32 = 0x8000_001d;
/// Leaf 0x8000_0001, ECX: the AMD leaf is there.
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;

/// What is known of a cache.
struct Found {
    level: u8,
    kind: Kind,
    line: u32,
    partitions: u32,
    ways: u32,
    sets: u32,
    /// How many APIC ids may share it.
    sharing: u32,
}

fn described(leaf: u32, index: u32) -> Option<Found> {
    let found = cpuid(leaf, index);
    let kind = match found.eax & 0x1f {
        1 => Kind::Data,
        2 => Kind::Instruction,
        3 => Kind::Unified,
        _ => return None,
    };
    Some(Found {
        level: (found.eax >> 5 & 7) as u8,
        kind,
        line: (found.ebx & 0xfff) + 1,
        partitions: (found.ebx >> 12 & 0x3ff) + 1,
        ways: (found.ebx >> 22) + 1,
        sets: found.ecx.wrapping_add(1),
        sharing: (found.eax >> 14 & 0xfff) + 1,
    })
}

/// The first, second and third level as AMD once described them.
fn old_amd(index: u32) -> Option<Found> {
    const LEVEL1: u32 = 0x8000_0005;
    const LEVEL2: u32 = 0x8000_0006;
    const CORES: u32 = 0x8000_0008;
    if cpuid(0x8000_0000, 0).eax < CORES {
        return None;
    }
    let (level, kind, size_kib, ways, line, sharing) = match index {
        0 | 1 => {
            let (first, kind) = match index {
                0 => (cpuid(LEVEL1, 0).ecx, Kind::Data),
                _ => (cpuid(LEVEL1, 0).edx, Kind::Instruction),
            };
            (1, kind, first >> 24, first >> 16 & 0xff, first & 0xff, 1)
        }
        2 => {
            let second = cpuid(LEVEL2, 0).ecx;
            (2, Kind::Unified, second >> 16, associativity(second), second & 0xff, 1)
        }
        3 => {
            let third = cpuid(LEVEL2, 0).edx;
            let cores = (cpuid(CORES, 0).ecx & 0xff) + 1;
            (3, Kind::Unified, (third >> 18) * 512, associativity(third), third & 0xff, cores)
        }
        _ => return None,
    };
    let way = u64::from(ways) * u64::from(line);
    let sets = (u64::from(size_kib) * 1024).checked_div(way).filter(|sets| *sets > 0)?;
    Some(Found { level, kind, line, partitions: 1, ways, sets: sets as u32, sharing })
}

/// Ways, of the code for them.
fn associativity(register: u32) -> u32 {
    match register >> 12 & 0xf {
        6 => 8,
        8 => 16,
        0xa => 32,
        0xb => 48,
        0xc => 64,
        0xd => 96,
        0xe => 128,
        few => few,
    }
}

fn leaf() -> Option<u32> {
    if cpuid(0x8000_0000, 0).eax >= AMD && cpuid(0x8000_0001, 0).ecx & TOPOLOGY_EXTENSIONS != 0 {
        return Some(AMD);
    }
    (cpuid(0, 0).eax >= INTEL).then_some(INTEL)
}

/// See [`crate::cache::of`].
pub fn of(cpu: CpuId, index: u32) -> Option<Cache> {
    let leaf = leaf().filter(|leaf| described(*leaf, 0).is_some());
    let found = match leaf {
        Some(leaf) => described(leaf, index),
        None => old_amd(index),
    }?;
    // APIC ids that share it differ in their low bits only.
    let shift = found.sharing.next_power_of_two().trailing_zeros();
    let apic_id = |cpu: CpuId| platform().apic_ids.get(cpu.index()).copied().unwrap_or(0);
    let id = apic_id(cpu) >> shift;
    let mut shared = CpuMask::EMPTY;
    cpu::possible().iter().filter(|other| apic_id(*other) >> shift == id).for_each(|other| shared.set(other));
    Some(Cache {
        level: found.level,
        kind: found.kind,
        line: found.line,
        partitions: found.partitions,
        ways: found.ways,
        sets: found.sets,
        id,
        shared,
    })
}
