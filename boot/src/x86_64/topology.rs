//! CPUs and nodes: from the platform's description into [`crate::BootInfo`]'s terms.

use arch::addr::PhysAddr;
use arch::cpu::{self, CpuId, CpuMask, MAX_CPUS};
use arch::native::platform::{MAX_RANGES, Platform};
use sync::Once;

use super::params;
use crate::info::{CpuInfo, MAX_NODES, Numa, NumaRange, PhysRange};

/// What [`init`] found.
pub struct Topology {
    pub cpus: &'static [CpuInfo],
    pub numa: Numa,
}

/// Fixes the possible CPUs and their nodes.
pub fn init(platform: &Platform, cmdline: &str) -> Topology {
    static CPUS: Once<[CpuInfo; MAX_CPUS]> = Once::new();
    static RANGES: Once<[NumaRange; MAX_RANGES]> = Once::new();

    let count = platform.cpus.min(params::cpu_limit(cmdline)).clamp(1, MAX_CPUS);
    cpu::set_possible(CpuMask::first_n(count));
    for i in 0..count {
        cpu::set_node(CpuId(i as u32), platform.cpu_nodes[i]);
    }
    let cpus = CPUS.call_once(|| {
        core::array::from_fn(|i| CpuInfo {
            hw_id: u64::from(platform.apic_ids[i]),
            node: platform.cpu_nodes[i],
        })
    });
    let ranges = RANGES.call_once(|| {
        platform.memory.map(|m| NumaRange {
            range: PhysRange { start: PhysAddr(m.base), end: PhysAddr(m.base.saturating_add(m.len)) },
            node: m.node,
            hotpluggable: m.hotpluggable,
        })
    });
    let mut numa = Numa::single();
    if platform.nodes > 1 {
        numa.nodes = platform.nodes.min(MAX_NODES);
        numa.ranges = &ranges[..platform.memory_count];
        for (to, from) in numa.distance.iter_mut().zip(&platform.distance) {
            to.copy_from_slice(from);
        }
    }
    Topology { cpus: &cpus[..count], numa }
}
