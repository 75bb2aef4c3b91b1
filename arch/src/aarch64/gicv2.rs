//! GICv2 (Arm IHI 0048): memory-mapped distributor and CPU interface, at most eight CPUs.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use sync::Once;

use crate::addr::PhysAddr;
use crate::cpu::{CpuId, CpuMask};
use crate::mmio::{self, MmioRegion};

/// Distributor registers.
mod gicd {
    pub const CTLR: usize = 0x000;
    pub const TYPER: usize = 0x004;
    pub const ISENABLER: usize = 0x100;
    pub const ICENABLER: usize = 0x180;
    pub const ICPENDR: usize = 0x280;
    pub const IPRIORITYR: usize = 0x400;
    pub const ITARGETSR: usize = 0x800;
    pub const ICFGR: usize = 0xc00;
    pub const SGIR: usize = 0xf00;
}

/// CPU interface registers.
mod gicc {
    pub const CTLR: usize = 0x00;
    pub const PMR: usize = 0x04;
    pub const BPR: usize = 0x08;
    pub const IAR: usize = 0x0c;
    pub const EOIR: usize = 0x10;
}

const PRIORITY: u32 = 0xa0a0_a0a0;
/// From here on an IAR means "nothing pending".
const SPURIOUS: u32 = 1020;

struct Device {
    dist: MmioRegion,
    cpu: MmioRegion,
}

static DEVICE: Once<Device> = Once::new();
/// The bit of each CPU in target registers.
static TARGET: [AtomicU8; 8] = [const { AtomicU8::new(0) }; 8];

fn device() -> Option<&'static Device> {
    DEVICE.get()
}

/// Resets the distributor.
pub fn init(dist: PhysAddr, cpu: PhysAddr) -> bool {
    let (Some(dist), Some(cpu)) = (mmio::ioremap(dist, 0x1000), mmio::ioremap(cpu, 0x1000)) else {
        return false;
    };
    let device = DEVICE.call_once(|| Device { dist, cpu });
    let dist = &device.dist;
    dist.write32(gicd::CTLR, 0);
    let lines = lines() as usize;
    let boot_target = target_of_this_cpu(dist);
    for line in (32..lines).step_by(32) {
        dist.write32(gicd::ICENABLER + line / 8, u32::MAX);
        dist.write32(gicd::ICPENDR + line / 8, u32::MAX);
    }
    for line in (32..lines).step_by(4) {
        dist.write32(gicd::IPRIORITYR + line, PRIORITY);
        dist.write32(gicd::ITARGETSR + line, u32::from(boot_target) * 0x0101_0101);
    }
    for line in (32..lines).step_by(16) {
        dist.write32(gicd::ICFGR + line / 4, 0);
    }
    dist.write32(gicd::CTLR, 1);
    true
}

/// The banked target register of an SGI shows the reader's own bit.
fn target_of_this_cpu(dist: &MmioRegion) -> u8 {
    let word = (0..32)
        .step_by(4)
        .map(|line| dist.read32(gicd::ITARGETSR + line))
        .find(|word| *word != 0)
        .unwrap_or(1);
    (word | word >> 8 | word >> 16 | word >> 24) as u8
}

/// This CPU's banked registers and interface.
pub fn init_cpu() {
    let Some(Device { dist, cpu }) = device() else {
        return;
    };
    if let Some(target) = TARGET.get(crate::cpu::current().index()) {
        target.store(target_of_this_cpu(dist), Relaxed);
    }
    dist.write32(gicd::ICENABLER, 0xffff_0000);
    dist.write32(gicd::ISENABLER, 0x0000_ffff);
    for line in (0..32).step_by(4) {
        dist.write32(gicd::IPRIORITYR + line, PRIORITY);
    }
    cpu.write32(gicc::PMR, 0xf0);
    cpu.write32(gicc::BPR, 0);
    cpu.write32(gicc::CTLR, 1);
}

/// One more than the last INTID.
pub fn lines() -> u32 {
    device().map_or(32, |d| ((d.dist.read32(gicd::TYPER) & 0x1f) + 1) * 32)
}

/// The interrupt to handle, as [`end`] wants it back.
#[inline]
pub fn acknowledge() -> Option<u32> {
    let iar = device()?.cpu.read32(gicc::IAR);
    (iar & 0x3ff < SPURIOUS).then_some(iar)
}

/// Done with it.
#[inline]
pub fn end(iar: u32) {
    if let Some(device) = device() {
        device.cpu.write32(gicc::EOIR, iar);
    }
}

/// Sends an SGI.
pub fn send_sgi(mask: CpuMask, sgi: u32) {
    let targets =
        mask.iter().fold(0, |t, cpu| t | TARGET.get(cpu.index()).map_or(0, |t| u32::from(t.load(Relaxed))));
    if let Some(device) = device() {
        device.dist.write32(gicd::SGIR, targets << 16 | sgi);
    }
}

/// Masks or unmasks.
pub fn set_enabled(line: u32, on: bool) {
    if let Some(device) = device() {
        let register = if on { gicd::ISENABLER } else { gicd::ICENABLER };
        device.dist.write32(register + line as usize / 32 * 4, 1 << (line % 32));
    }
}

/// Level or edge.
pub fn set_level(line: u32, level: bool) {
    if let Some(device) = device() {
        let (at, bit) = (gicd::ICFGR + line as usize / 16 * 4, 2 << (line % 16 * 2));
        let old = device.dist.read32(at);
        device.dist.write32(at, if level { old & !bit } else { old | bit });
    }
}

/// Routes a line to one CPU.
pub fn set_target(line: u32, cpu: CpuId) -> bool {
    let (Some(device), Some(target)) = (device(), TARGET.get(cpu.index())) else {
        return false;
    };
    device.dist.write8(gicd::ITARGETSR + line as usize, target.load(Relaxed));
    true
}
