//! What only this architecture has: the description of the machine that `boot` reads from the device tree, the steps of
//! early boot, and PSCI.

use sync::Once;

use super::{alternative, asid, cpu, fpu, intc, paging, thread, time};
use crate::addr::PhysAddr;
use crate::cpu::{CpuId, MAX_CPUS};

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

/// The machine, as far as `arch` drives it.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The interrupt controller.
    pub gic: Option<Gic>,
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
