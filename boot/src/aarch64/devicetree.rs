//! What the device tree says of the machine: memory, CPUs, NUMA, interrupt controller, firmware, devices of `arch`.

use arch::addr::PhysAddr;
use arch::cpu::MAX_CPUS;
use arch::native::{Conduit, EnableMethod, Gic, MsiController, PciHost, PciLine, Platform, VirtioMmio};
use arch::pci::{Space, Window};

use crate::fdt::{Fdt, Node};
use crate::info::{CpuInfo, MAX_NODES, MemoryKind, MemoryRegion, Numa, NumaRange, PhysRange};

/// The most memory ranges taken from a tree.
const MAX_RANGES: usize = 64;

/// A list of bounded length.
#[derive(Debug)]
pub struct Bounded<T: Copy, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy, const N: usize> Bounded<T, N> {
    const fn new(fill: T) -> Self {
        Self { items: [fill; N], len: 0 }
    }

    fn push(&mut self, item: T) {
        if let Some(slot) = self.items.get_mut(self.len) {
            *slot = item;
            self.len += 1;
        }
    }

    /// The items.
    pub fn as_slice(&self) -> &[T] {
        &self.items[..self.len]
    }
}

/// Everything that boot takes from the tree; lives in a static.
#[derive(Debug)]
pub struct Machine {
    /// RAM and reserved ranges, sorted.
    pub memory: Bounded<MemoryRegion, MAX_RANGES>,
    /// Memory by node, sorted.
    pub numa_ranges: Bounded<NumaRange, MAX_RANGES>,
    /// CPUs, the boot CPU first.
    pub cpus: Bounded<CpuInfo, MAX_CPUS>,
    /// Number of nodes, distances (ranges are in `numa_ranges`).
    pub numa: Numa,
    /// The initramfs.
    pub initrd: Option<PhysRange>,
    /// What `arch` drives.
    pub platform: Platform,
    /// `numa-node-id` of each logical node.
    node_ids: Bounded<u32, MAX_NODES>,
}

const NO_RANGE: NumaRange = NumaRange { range: PhysRange::new(0, 0), node: 0, hotpluggable: false };
const NO_REGION: MemoryRegion = MemoryRegion { range: PhysRange::new(0, 0), kind: MemoryKind::Reserved };
const NO_CPU: CpuInfo = CpuInfo { hw_id: 0, node: 0 };
/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

impl Machine {
    /// Nothing known.
    pub const fn new() -> Self {
        Self {
            memory: Bounded::new(NO_REGION),
            numa_ranges: Bounded::new(NO_RANGE),
            cpus: Bounded::new(NO_CPU),
            numa: Numa::single(),
            initrd: None,
            platform: Platform::new(),
            node_ids: Bounded::new(0),
        }
    }

    /// Reads the tree. `boot_mpidr`: of the CPU that runs this.
    pub fn read(&mut self, fdt: &Fdt<'_>, boot_mpidr: u64) {
        self.read_nodes(fdt);
        self.read_memory(fdt);
        self.read_cpus(fdt, boot_mpidr & AFFINITY);
        self.read_distances(fdt);
        self.read_chosen(fdt);
        self.platform.psci = psci(fdt);
        self.platform.gic = gic(fdt);
        self.platform.msi = msi(fdt);
        self.platform.pci = pci(fdt);
        virtio_mmio(fdt, &mut self.platform.virtio_mmio);
        self.platform.timer_irq = timer(fdt).unwrap_or(27);
        let uart = uart(fdt);
        self.platform.uart = uart.as_ref().and_then(|n| n.reg().next()).map(|(base, _)| PhysAddr(base));
        self.platform.uart_irq = uart.as_ref().and_then(first_irq);
        self.platform.rtc = device(fdt, "arm,pl031");
    }

    /// Collects the `numa-node-id`s; a node's number is its rank among them, so ids that count from 0 stay.
    fn read_nodes(&mut self, fdt: &Fdt<'_>) {
        for id in fdt.nodes().filter_map(|n| n.u32("numa-node-id")) {
            if !self.node_ids.as_slice().contains(&id) {
                self.node_ids.push(id);
            }
        }
        let len = self.node_ids.len;
        self.node_ids.items[..len].sort_unstable();
    }

    /// The logical node of a `numa-node-id`.
    fn node(&self, id: Option<u32>) -> u32 {
        let rank = id.and_then(|id| self.node_ids.as_slice().iter().position(|n| *n == id));
        rank.unwrap_or(0) as u32
    }

    fn read_memory(&mut self, fdt: &Fdt<'_>) {
        for node in fdt.nodes().filter(|n| n.str("device_type") == Some("memory") && n.is_enabled()) {
            let id = self.node(node.u32("numa-node-id"));
            let hotpluggable = node.property("hotpluggable").is_some();
            for (base, len) in node.reg().filter(|(_, len)| *len != 0) {
                let range = PhysRange::new(base, len);
                self.memory.push(MemoryRegion { range, kind: MemoryKind::Usable });
                self.numa_ranges.push(NumaRange { range, node: id, hotpluggable });
            }
        }
        let len = self.numa_ranges.len;
        self.numa_ranges.items[..len].sort_unstable_by_key(|r| r.range.start);
        for (base, len) in fdt.reservations() {
            self.memory.push(MemoryRegion { range: PhysRange::new(base, len), kind: MemoryKind::Reserved });
        }
        if let Some(reserved) = fdt.find("/reserved-memory") {
            for node in reserved.children().filter(Node::is_enabled) {
                for (base, len) in node.reg() {
                    self.memory
                        .push(MemoryRegion { range: PhysRange::new(base, len), kind: MemoryKind::Reserved });
                }
            }
        }
        let len = self.memory.len;
        self.memory.items[..len].sort_unstable_by_key(|r| (r.range.start, r.range.end));
    }

    fn read_cpus(&mut self, fdt: &Fdt<'_>, boot_mpidr: u64) {
        self.add_cpu(boot_mpidr, 0, EnableMethod::Psci);
        let Some(cpus) = fdt.find("/cpus") else { return };
        for cpu in cpus.children().filter(|n| n.str("device_type") == Some("cpu")) {
            let Some((mpidr, _)) = cpu.reg().next() else { continue };
            let node = self.node(cpu.u32("numa-node-id"));
            if mpidr & AFFINITY == boot_mpidr {
                self.cpus.items[0].node = node;
                self.platform.cpus[0].node = node;
                continue;
            }
            // "disabled" means: not running yet, and started by the enable method; "fail" means broken.
            if cpu.str("status").is_some_and(|s| s.starts_with("fail")) {
                continue;
            }
            let enable = match cpu.str("enable-method") {
                Some("psci") => EnableMethod::Psci,
                Some("spin-table") => {
                    let cells = crate::fdt::Cells { address: 2, size: 0 };
                    let release = cpu.ranges_of("cpu-release-addr", cells).next();
                    release.map_or(EnableMethod::None, |(at, _)| EnableMethod::SpinTable(PhysAddr(at)))
                }
                _ => EnableMethod::None,
            };
            self.add_cpu(mpidr & AFFINITY, node, enable);
        }
    }

    fn add_cpu(&mut self, mpidr: u64, node: u32, enable: EnableMethod) {
        let index = self.cpus.as_slice().len();
        if let Some(cpu) = self.platform.cpus.get_mut(index) {
            *cpu = arch::native::CpuInfo { mpidr, node, enable };
            self.cpus.push(CpuInfo { hw_id: mpidr, node });
        }
    }

    fn read_distances(&mut self, fdt: &Fdt<'_>) {
        self.numa.nodes = self.node_ids.as_slice().len().max(1);
        let Some(map) = fdt.find_compatible("numa-distance-map-v1") else { return };
        let mut cells = map.cells("distance-matrix");
        while let (Some(from), Some(to), Some(distance)) = (cells.next(), cells.next(), cells.next()) {
            let ids = self.node_ids.as_slice();
            let find = |id| ids.iter().position(|n| *n == id);
            if let (Some(from), Some(to)) = (find(from), find(to)) {
                self.numa.distance[from][to] = distance.min(255) as u8;
                // One direction is enough where only one is given.
                if from != to && self.numa.distance[to][from] == 20 {
                    self.numa.distance[to][from] = distance.min(255) as u8;
                }
            }
        }
    }

    fn read_chosen(&mut self, fdt: &Fdt<'_>) {
        let Some(chosen) = fdt.find("/chosen") else { return };
        let address = |name| match chosen.property(name) {
            Some(value @ ([_, _, _, _] | [_, _, _, _, _, _, _, _])) => {
                Some(value.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
            }
            _ => None,
        };
        if let (Some(start), Some(end)) = (address("linux,initrd-start"), address("linux,initrd-end"))
            && start < end
        {
            self.initrd = Some(PhysRange { start: PhysAddr(start), end: PhysAddr(end) });
        }
    }
}

fn psci(fdt: &Fdt<'_>) -> Option<Conduit> {
    let node = fdt.nodes().find(|n| {
        n.is_compatible("arm,psci-1.0") || n.is_compatible("arm,psci-0.2") || n.is_compatible("arm,psci")
    })?;
    match node.str("method")? {
        "hvc" => Some(Conduit::Hvc),
        "smc" => Some(Conduit::Smc),
        _ => None,
    }
}

fn gic(fdt: &Fdt<'_>) -> Option<Gic> {
    if let Some(node) = fdt.find_compatible("arm,gic-v3") {
        let mut reg = node.reg();
        let dist = PhysAddr(reg.next()?.0);
        let regions = node.u32("#redistributor-regions").unwrap_or(1) as usize;
        let mut redist = [(PhysAddr(0), 0); 8];
        for (slot, (base, len)) in redist.iter_mut().take(regions).zip(reg) {
            *slot = (PhysAddr(base), len);
        }
        return Some(Gic::V3 { dist, redist });
    }
    const V2: [&str; 4] = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a9-gic", "arm,cortex-a7-gic"];
    let node = fdt.nodes().find(|n| V2.iter().any(|name| n.is_compatible(name)))?;
    let mut reg = node.reg();
    Some(Gic::V2 { dist: PhysAddr(reg.next()?.0), cpu: PhysAddr(reg.next()?.0) })
}

/// What takes messages: the interrupt translation service, or frames of a GICv2m.
fn msi(fdt: &Fdt<'_>) -> Option<MsiController> {
    if let Some(base) = device(fdt, "arm,gic-v3-its") {
        return Some(MsiController::Its(base));
    }
    let mut frames = [PhysAddr(0); 4];
    let nodes = fdt.nodes().filter(|node| node.is_compatible("arm,gic-v2m-frame"));
    for (frame, (base, _)) in frames.iter_mut().zip(nodes.filter_map(|node| node.reg().next())) {
        *frame = PhysAddr(base);
    }
    (frames[0].0 != 0).then_some(MsiController::V2m(frames))
}

/// The first PCI host bridge with a generic configuration space (IEEE 1275's PCI bus binding; the Devicetree specification,
/// "Interrupt mapping").
fn pci(fdt: &Fdt<'_>) -> Option<PciHost> {
    let node = fdt.nodes().find(|n| n.is_compatible("pci-host-ecam-generic") && n.is_enabled())?;
    let (base, len) = node.reg().next()?;
    let mut host = PciHost { ecam: PhysAddr(base), ecam_len: len, ..PciHost::new() };
    host.segment = node.u32("linux,pci-domain").unwrap_or(0) as u16;
    let mut buses = node.cells("bus-range");
    if let (Some(first), Some(last)) = (buses.next(), buses.next()) {
        host.buses = (first.min(255) as u8, last.min(255) as u8);
    }
    // Three cells of a PCI address, two of a CPU address (this architecture's), two of a length.
    let mut cells = node.cells("ranges");
    let mut windows = host.windows.iter_mut();
    while let Some(range) = take::<7>(&mut cells) {
        let wide = |at: usize| u64::from(range[at]) << 32 | u64::from(range[at + 1]);
        let space = match range[0] >> 24 & 3 {
            1 => Space::Io,
            2 => Space::Memory32,
            3 => Space::Memory64,
            _ => continue,
        };
        let window =
            Window { space, prefetchable: range[0] >> 30 & 1 != 0, bus: wide(1), cpu: wide(3), len: wide(5) };
        if let Some(slot) = windows.next() {
            *slot = Some(window);
        }
    }
    let mut map = node.cells("msi-map");
    if let Some([first, _, to, len]) = take::<4>(&mut map) {
        host.msi_map = (first, to, len);
    }
    let mut mask = node.cells("interrupt-map-mask");
    if let Some([unit, _, _, pin]) = take::<4>(&mut mask) {
        host.line_mask = (unit, pin);
    }
    let mut map = node.cells("interrupt-map");
    let mut lines = host.lines.iter_mut();
    while let Some([unit, _, _, pin, parent]) = take::<5>(&mut map) {
        let cells = fdt.by_phandle(parent).and_then(|node| node.u32("#address-cells")).unwrap_or(0);
        for _ in 0..cells.min(4) {
            map.next();
        }
        let Some(specifier) = take::<3>(&mut map) else { break };
        let Some((irq, trigger)) = arch::intc::irq_from_dt(&specifier) else { continue };
        if let Some(slot) = lines.next() {
            *slot = Some(PciLine { unit, pin, irq, trigger });
        }
    }
    Some(host)
}

/// The next `N` cells.
fn take<const N: usize>(cells: &mut impl Iterator<Item = u32>) -> Option<[u32; N]> {
    let mut out = [0; N];
    for cell in &mut out {
        *cell = cells.next()?;
    }
    Some(out)
}

/// Places for virtio devices, by address.
fn virtio_mmio(fdt: &Fdt<'_>, devices: &mut [Option<VirtioMmio>]) {
    let nodes = fdt.nodes().filter(|node| node.is_compatible("virtio,mmio") && node.is_enabled());
    let mut slots = devices.iter_mut();
    for node in nodes {
        let mut cells = node.cells("interrupts");
        let irq = take::<3>(&mut cells).and_then(|specifier| arch::intc::irq_from_dt(&specifier));
        if let (Some((base, len)), Some((irq, trigger))) = (node.reg().next(), irq)
            && let Some(slot) = slots.next()
        {
            *slot = Some(VirtioMmio { base: PhysAddr(base), len, irq, trigger });
        }
    }
    devices.sort_unstable_by_key(|device| device.map_or(u64::MAX, |device| device.base.0));
}

/// The third interrupt of the timer node is the virtual timer's.
fn timer(fdt: &Fdt<'_>) -> Option<u32> {
    let node = fdt.find_compatible("arm,armv8-timer").or_else(|| fdt.find_compatible("arm,armv7-timer"))?;
    let mut cells = node.cells("interrupts").skip(6);
    let specifier = [cells.next()?, cells.next()?, cells.next()?];
    arch::intc::irq_from_dt(&specifier).map(|(irq, _)| irq.0)
}

fn device(fdt: &Fdt<'_>, compatible: &str) -> Option<PhysAddr> {
    let node = fdt.nodes().find(|n| n.is_compatible(compatible) && n.is_enabled())?;
    node.reg().next().map(|(base, _)| PhysAddr(base))
}

/// The UART of `stdout-path`, if it is a PL011; else the first there is.
fn uart<'a>(fdt: &Fdt<'a>) -> Option<Node<'a>> {
    let path = fdt.find("/chosen").and_then(|c| c.str("stdout-path"));
    let path = path.map(|p| p.split(':').next().unwrap_or(p));
    let path = match path {
        Some(alias) if !alias.starts_with('/') => fdt.find("/aliases").and_then(|a| a.str(alias)),
        path => path,
    };
    let node = path.and_then(|p| fdt.find(p)).filter(|n| n.is_compatible("arm,pl011"));
    node.or_else(|| fdt.nodes().find(|n| n.is_compatible("arm,pl011") && n.is_enabled()))
}

/// The INTID of a device's first interrupt.
fn first_irq(node: &Node<'_>) -> Option<u32> {
    let mut cells = node.cells("interrupts");
    let specifier = [cells.next()?, cells.next()?, cells.next()?];
    arch::intc::irq_from_dt(&specifier).map(|(irq, _)| irq.0)
}
