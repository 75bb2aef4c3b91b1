//! What only this architecture has: the description of the machine that `boot` reads from the device tree, the steps of
//! early boot, and PSCI.

use sync::Once;

use super::{alternative, asid, cpu, fpu, intc, paging, thread, time};
use crate::addr::PhysAddr;
use crate::cpu::{CpuId, MAX_CPUS};
use crate::intc::{IrqNumber, Trigger};
use crate::pci::Window;

pub use super::paging::{map_step, sync_instructions};
pub use super::power::psci;

/// How to reach the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// How a secondary CPU is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// PSCI CPU_ON.
    Psci,
    /// The CPU polls this address for where to go.
    SpinTable(PhysAddr),
    /// Not at all.
    None,
}

/// A CPU of the machine.
#[derive(Clone, Copy, Debug)]
pub struct CpuInfo {
    /// Affinity fields of MPIDR_EL1.
    pub mpidr: u64,
    /// NUMA node.
    pub node: u32,
    /// How it starts.
    pub enable: EnableMethod,
}

/// The interrupt controller.
#[derive(Clone, Copy, Debug)]
pub enum Gic {
    /// GICv2: distributor and CPU interface.
    V2 {
        /// Distributor.
        dist: PhysAddr,
        /// CPU interface.
        cpu: PhysAddr,
    },
    /// GICv3 and later: distributor and regions of redistributors (base, bytes), the last of them `(0, 0)`.
    V3 {
        /// Distributor.
        dist: PhysAddr,
        /// Redistributors.
        redist: [(PhysAddr, u64); 8],
    },
}

/// What turns messages of devices into interrupts.
#[derive(Clone, Copy, Debug)]
pub enum MsiController {
    /// Frames of a GICv2m, the last of them 0: writing the number of a line raises it.
    V2m([PhysAddr; 4]),
    /// The interrupt translation service of a GICv3.
    Its(PhysAddr),
}

/// The most ranges of addresses of a PCI host bridge.
pub const MAX_PCI_WINDOWS: usize = 8;
/// The most interrupt lines that a PCI host bridge maps.
pub const MAX_PCI_LINES: usize = 32;

/// A line of a PCI device: interrupt pin `pin` of a device whose address agrees with `unit` in the bits of the bridge's mask.
#[derive(Clone, Copy, Debug)]
pub struct PciLine {
    /// First cell of the unit address.
    pub unit: u32,
    /// 1 to 4.
    pub pin: u32,
    /// Where it arrives.
    pub irq: IrqNumber,
    /// How.
    pub trigger: Trigger,
}

/// A PCI host bridge with memory-mapped configuration space.
#[derive(Clone, Copy, Debug)]
pub struct PciHost {
    /// Configuration space.
    pub ecam: PhysAddr,
    /// Its bytes.
    pub ecam_len: u64,
    /// The segment.
    pub segment: u16,
    /// First and last bus.
    pub buses: (u8, u8),
    /// Addresses that can be given to devices.
    pub windows: [Option<Window>; MAX_PCI_WINDOWS],
    /// Which bits of unit address and pin count for `lines`.
    pub line_mask: (u32, u32),
    /// Interrupt lines.
    pub lines: [Option<PciLine>; MAX_PCI_LINES],
    /// First requester id, first id of the interrupt translation service, and how many of them there are.
    pub msi_map: (u32, u32, u32),
}

impl PciHost {
    /// With nothing in it.
    pub const fn new() -> Self {
        Self {
            ecam: PhysAddr(0),
            ecam_len: 0,
            segment: 0,
            buses: (0, 255),
            windows: [None; MAX_PCI_WINDOWS],
            line_mask: (0, 0),
            lines: [None; MAX_PCI_LINES],
            msi_map: (0, 0, 0x1_0000),
        }
    }
}

impl Default for PciHost {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers of a virtio device.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    /// Where.
    pub base: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// Its interrupt.
    pub irq: IrqNumber,
    /// How that triggers.
    pub trigger: Trigger,
}

/// The most virtio devices without a bus.
pub const MAX_VIRTIO_MMIO: usize = 64;

/// The machine, as far as `arch` drives it.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The interrupt controller.
    pub gic: Option<Gic>,
    /// What takes messages of devices.
    pub msi: Option<MsiController>,
    /// The PCI host bridge.
    pub pci: Option<PciHost>,
    /// virtio devices without a bus.
    pub virtio_mmio: [Option<VirtioMmio>; MAX_VIRTIO_MMIO],
    /// INTID of the virtual timer.
    pub timer_irq: u32,
    /// PSCI, if there is one.
    pub psci: Option<Conduit>,
    /// CPUs by logical number; the boot CPU first.
    pub cpus: [CpuInfo; MAX_CPUS],
    /// A PL011 for the early console.
    pub uart: Option<PhysAddr>,
    /// Its INTID.
    pub uart_irq: Option<u32>,
    /// A PL031.
    pub rtc: Option<PhysAddr>,
    /// Whether the CPUs came up at EL2, so that a hypervisor could be installed.
    pub booted_at_el2: bool,
}

impl Platform {
    /// With nothing in it.
    pub const fn new() -> Self {
        let cpu = CpuInfo { mpidr: 0, node: 0, enable: EnableMethod::None };
        Self {
            gic: None,
            msi: None,
            pci: None,
            virtio_mmio: [None; MAX_VIRTIO_MMIO],
            timer_irq: 27,
            psci: None,
            cpus: [cpu; MAX_CPUS],
            uart: None,
            uart_irq: None,
            rtc: None,
            booted_at_el2: false,
        }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::new()
    }
}

static PLATFORM: Once<Platform> = Once::new();
static NOTHING: Platform = Platform::new();

/// The machine.
#[inline]
pub fn platform() -> &'static Platform {
    PLATFORM.get().unwrap_or(&NOTHING)
}

/// Records the machine: the early console works from here on.
pub fn set_platform(platform: Platform) {
    PLATFORM.call_once(|| platform);
}

/// Sets up the boot CPU and what all CPUs share: features, interrupt controller, clock. Interrupts stay off. The kernel
/// image, the direct map and the platform are in place; per-CPU variables are still the template.
pub fn init_boot() {
    cpu::init_boot();
    fpu::init_cpu();
    super::debug::init_cpu();
    asid::init();
    paging::init();
    intc::init_boot();
    time::init_boot();
}

/// Patches instructions for this CPU; see [`alternative`].
///
/// # Safety
/// As for [`alternative::apply`].
pub unsafe fn apply_alternatives() {
    // SAFETY: as the caller promises.
    unsafe { alternative::apply() };
}

/// The thread that boots: current before there is a scheduler.
pub fn boot_thread() -> *mut crate::thread::Thread {
    thread::boot_thread()
}

/// The rest of a secondary's set-up, on its own stack and per-CPU data.
pub(super) fn init_secondary(_cpu: CpuId) {
    cpu::init_cpu();
    fpu::init_cpu();
    super::debug::init_cpu();
    intc::init_cpu();
    time::init_cpu();
}
