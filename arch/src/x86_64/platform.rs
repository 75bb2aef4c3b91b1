//! What firmware says about the machine, read once at boot: ACPI, or the MP table where there is none.

use sync::Once;

use super::insn::cpuid;
use super::mptable;
use crate::acpi::{self, Affinity, Ecam, Fadt, IntiFlags, MadtEntry, Map};
use crate::cpu::MAX_CPUS;

/// The most I/O APICs.
const MAX_IOAPICS: usize = 8;
/// The most memory affinity ranges.
pub const MAX_RANGES: usize = 64;
/// The most proximity domains.
pub const MAX_DOMAINS: usize = 16;

/// An I/O APIC.
#[derive(Clone, Copy, Debug, Default)]
pub struct IoApic {
    /// Its registers.
    pub address: u32,
    /// The interrupt of its first pin.
    pub gsi_base: u32,
    /// Its id, as the MP table refers to it.
    pub id: u8,
}

/// Where an ISA interrupt arrives, and how.
#[derive(Clone, Copy, Debug)]
pub struct IsaLine {
    /// Global system interrupt.
    pub gsi: u32,
    /// Active low.
    pub active_low: bool,
    /// Level triggered.
    pub level: bool,
}

/// Memory of a proximity domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryAffinity {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub len: u64,
    /// Dense node number.
    pub node: u32,
    /// May be unplugged.
    pub hotpluggable: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The local APICs' registers.
    pub lapic: u64,
    /// APIC ids by CPU number, the boot CPU first.
    pub apic_ids: [u32; MAX_CPUS],
    /// How many there are.
    pub cpus: usize,
    /// Nodes by CPU number.
    pub cpu_nodes: [u32; MAX_CPUS],
    /// I/O APICs.
    pub ioapics: [IoApic; MAX_IOAPICS],
    /// How many there are.
    pub ioapic_count: usize,
    /// The ISA lines.
    pub isa: [IsaLine; 16],
    /// The HPET's registers.
    pub hpet: Option<u64>,
    /// Power and time.
    pub fadt: Option<Fadt>,
    /// `SLP_TYP` values of S5.
    pub s5: Option<(u8, u8)>,
    /// PCI configuration space.
    pub ecam: [Ecam; 4],
    /// How many windows there are.
    pub ecam_count: usize,
    /// Memory of nodes.
    pub memory: [MemoryAffinity; MAX_RANGES],
    /// How many ranges there are.
    pub memory_count: usize,
    /// Proximity domains by node number.
    pub domains: [u32; MAX_DOMAINS],
    /// How many nodes there are, at least 1.
    pub nodes: usize,
    /// Distances between nodes.
    pub distance: [[u8; MAX_DOMAINS]; MAX_DOMAINS],
}

static PLATFORM: Once<Platform> = Once::new();

/// The machine; an empty one before [`init`].
pub fn platform() -> &'static Platform {
    PLATFORM.call_once(Platform::new)
}

/// Reads the firmware's tables. `map` reaches physical memory while this runs.
pub fn init(rsdp: Option<u64>, map: Map<'_>) -> &'static Platform {
    PLATFORM.call_once(|| {
        let mut p = Platform::new();
        match rsdp.and_then(|at| acpi::Root::new(map, at)) {
            Some(root) => p.read_acpi(root, map),
            None => p.read_mptable(map),
        }
        p
    })
}

/// This CPU's APIC id.
pub fn own_apic_id() -> u32 {
    if cpuid(0, 0).eax >= 0xb {
        let leaf = cpuid(0xb, 0);
        if leaf.ebx != 0 {
            return leaf.edx;
        }
    }
    cpuid(1, 0).ebx >> 24
}

impl Platform {
    fn new() -> Self {
        let mut distance = [[20; MAX_DOMAINS]; MAX_DOMAINS];
        for (i, row) in distance.iter_mut().enumerate() {
            row[i] = 10;
        }
        let mut apic_ids = [0; MAX_CPUS];
        apic_ids[0] = own_apic_id();
        Self {
            lapic: 0xfee0_0000,
            apic_ids,
            cpus: 1,
            cpu_nodes: [0; MAX_CPUS],
            ioapics: [IoApic::default(); MAX_IOAPICS],
            ioapic_count: 0,
            isa: core::array::from_fn(|i| IsaLine { gsi: i as u32, active_low: false, level: false }),
            hpet: None,
            fadt: None,
            s5: None,
            ecam: [Ecam::default(); 4],
            ecam_count: 0,
            memory: [MemoryAffinity::default(); MAX_RANGES],
            memory_count: 0,
            domains: [0; MAX_DOMAINS],
            nodes: 1,
            distance,
        }
    }

    fn add_cpu(&mut self, apic_id: u32) {
        if self.apic_ids[..self.cpus].contains(&apic_id) {
            return;
        }
        if let Some(slot) = self.apic_ids.get_mut(self.cpus) {
            *slot = apic_id;
            self.cpus += 1;
        }
    }

    fn add_ioapic(&mut self, ioapic: IoApic) {
        if let Some(slot) = self.ioapics.get_mut(self.ioapic_count) {
            *slot = ioapic;
            self.ioapic_count += 1;
        }
    }

    fn set_isa(&mut self, isa: u8, gsi: u32, flags: IntiFlags) {
        // The line that this one's pin would belong to is nowhere then (as line 2 when line 0 arrives at pin 2).
        if let Some(line) = self.isa.get_mut(usize::from(isa)) {
            *line = IsaLine {
                gsi,
                active_low: flags.active_low().unwrap_or(false),
                level: flags.level().unwrap_or(false),
            };
        }
    }

    fn read_acpi(&mut self, root: acpi::Root, map: Map<'_>) {
        if let Some(table) = root.find(map, b"APIC") {
            let (address, entries) = acpi::madt(table);
            self.lapic = u64::from(address);
            for entry in entries {
                match entry {
                    MadtEntry::Cpu { apic_id, enabled: true } if apic_id != u32::MAX => self.add_cpu(apic_id),
                    MadtEntry::Cpu { .. } => {}
                    MadtEntry::IoApic { id, address, gsi_base } => {
                        self.add_ioapic(IoApic { address, gsi_base, id })
                    }
                    MadtEntry::Override { isa, gsi, flags } => self.set_isa(isa, gsi, flags),
                    MadtEntry::LocalApicAddress(address) => self.lapic = address,
                }
            }
        }
        self.hpet = root.find(map, b"HPET").and_then(acpi::hpet_address);
        if let Some(table) = root.find(map, b"FACP") {
            let fadt = acpi::fadt(table);
            self.s5 = acpi::table(map, fadt.dsdt).and_then(acpi::s5);
            self.fadt = Some(fadt);
        }
        if let Some(table) = root.find(map, b"MCFG") {
            for (slot, window) in self.ecam.iter_mut().zip(acpi::mcfg(table)) {
                *slot = window;
                self.ecam_count += 1;
            }
        }
        if let Some(table) = root.find(map, b"SRAT") {
            self.read_srat(table);
        }
        if let Some(table) = root.find(map, b"SLIT") {
            for from in 0..self.nodes {
                for to in 0..self.nodes {
                    if let Some(d) = acpi::slit_distance(table, self.domains[from], self.domains[to]) {
                        self.distance[from][to] = d;
                    }
                }
            }
        }
    }

    fn read_srat(&mut self, table: &'static [u8]) {
        let mut nodes = 0;
        let mut node_of = |domains: &mut [u32; MAX_DOMAINS], domain: u32| {
            if let Some(i) = domains[..nodes].iter().position(|&d| d == domain) {
                return i as u32;
            }
            let Some(slot) = domains.get_mut(nodes) else { return 0 };
            *slot = domain;
            nodes += 1;
            nodes as u32 - 1
        };
        for entry in acpi::srat(table) {
            match entry {
                Affinity::Cpu { apic_id, domain } => {
                    let node = node_of(&mut self.domains, domain);
                    if let Some(cpu) = self.apic_ids[..self.cpus].iter().position(|&id| id == apic_id) {
                        self.cpu_nodes[cpu] = node;
                    }
                }
                Affinity::Memory { base, len, domain, hotpluggable } if len > 0 => {
                    let node = node_of(&mut self.domains, domain);
                    if let Some(slot) = self.memory.get_mut(self.memory_count) {
                        *slot = MemoryAffinity { base, len, node, hotpluggable };
                        self.memory_count += 1;
                    }
                }
                Affinity::Memory { .. } => {}
            }
        }
        self.memory[..self.memory_count].sort_unstable_by_key(|m| m.base);
        self.nodes = nodes.max(1);
    }

    fn read_mptable(&mut self, map: Map<'_>) {
        let Some(table) = mptable::find(map) else {
            // Every PC has one there.
            return self.add_ioapic(IoApic { address: 0xfec0_0000, gsi_base: 0, id: 0 });
        };
        self.lapic = u64::from(mptable::local_apic(table));
        for entry in mptable::entries(table) {
            match entry {
                mptable::Entry::Cpu { apic_id, .. } => self.add_cpu(u32::from(apic_id)),
                mptable::Entry::IoApic { id, address } => {
                    self.add_ioapic(IoApic { address, gsi_base: 0, id })
                }
                mptable::Entry::Isa { irq, ioapic, pin, flags } if self.ioapics[0].id == ioapic => {
                    self.set_isa(irq, u32::from(pin), IntiFlags(flags));
                }
                mptable::Entry::Isa { .. } => {}
            }
        }
    }
}
