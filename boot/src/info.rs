//! What boot tells the kernel, in terms that no boot protocol shows through.

use arch::addr::PhysAddr;

/// A range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// One past the last byte.
    pub end: PhysAddr,
}

impl PhysRange {
    /// From a base and a length; saturates at the end of the address space.
    pub const fn new(start: u64, len: u64) -> Self {
        Self { start: PhysAddr(start), end: PhysAddr(start.saturating_add(len)) }
    }

    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether it holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What firmware says a region of the physical address space is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemoryKind {
    /// RAM for the kernel.
    Usable,
    /// Not for us.
    #[default]
    Reserved,
    /// ACPI tables: usable once they were read.
    AcpiReclaim,
    /// ACPI non-volatile storage.
    AcpiNvs,
    /// Persistent memory (NVDIMM).
    Persistent,
}

/// One line of the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryRegion {
    /// Where.
    pub range: PhysRange,
    /// What.
    pub kind: MemoryKind,
}

/// A CPU that firmware describes; its index in [`BootInfo::cpus`] is its logical number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuInfo {
    /// APIC id or MPIDR.
    pub hw_id: u64,
    /// NUMA node.
    pub node: u32,
}

/// A range of memory that belongs to a NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NumaRange {
    /// Where.
    pub range: PhysRange,
    /// The logical node number (dense from 0).
    pub node: u32,
    /// May be unplugged.
    pub hotpluggable: bool,
}

/// The most NUMA nodes.
pub const MAX_NODES: usize = 16;

/// The NUMA topology. Without one: a single node that holds everything.
#[derive(Clone, Copy, Debug)]
pub struct Numa {
    /// Number of nodes, at least 1.
    pub nodes: usize,
    /// Memory of the nodes, sorted; empty if there is one node.
    pub ranges: &'static [NumaRange],
    /// Relative distances, 10 = local.
    pub distance: [[u8; MAX_NODES]; MAX_NODES],
}

impl Numa {
    /// One node.
    pub const fn single() -> Self {
        let mut distance = [[20; MAX_NODES]; MAX_NODES];
        let mut i = 0;
        while i < MAX_NODES {
            distance[i][i] = 10;
            i += 1;
        }
        Self { nodes: 1, ranges: &[], distance }
    }

    /// The node of an address; 0 if firmware does not say.
    pub fn node_of(&self, addr: PhysAddr) -> u32 {
        let found = self.ranges.iter().find(|r| r.range.start <= addr && addr < r.range.end);
        found.map_or(0, |r| r.node)
    }
}

/// The machine as the kernel finds it.
#[derive(Debug)]
pub struct BootInfo {
    /// The firmware's memory map, sorted by address.
    pub memory: &'static [MemoryRegion],
    /// The kernel image in memory.
    pub image: PhysRange,
    /// Parts of `image` that nothing needs once the kernel runs on its final page tables (e.g. alignment gaps).
    pub image_free: &'static [PhysRange],
    /// The initramfs; reserved in memblock until the kernel frees it.
    pub initrd: Option<PhysRange>,
    /// The command line.
    pub cmdline: &'static str,
    /// The ACPI root pointer.
    pub rsdp: Option<PhysAddr>,
    /// The flattened device tree; reserved in memblock.
    pub dtb: Option<PhysAddr>,
    /// Nodes.
    pub numa: Numa,
    /// The possible CPUs, the boot CPU first.
    pub cpus: &'static [CpuInfo],
    /// By how much the image was moved (KASLR).
    pub slide: usize,
    /// Bytes of entropy that the boot loader passed.
    pub seed: &'static [u8],
}
