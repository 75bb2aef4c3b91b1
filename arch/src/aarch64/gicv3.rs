//! GICv3 and GICv4 (Arm IHI 0069): distributor, a redistributor per CPU, CPU interface in system registers.
//!
//! Affinity routing is on; all interrupts are group 1 (non-secure).

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sync::Once;

use super::native::platform;
use super::sysreg::{isb, read_sysreg, write_sysreg};
use crate::addr::PhysAddr;
use crate::cpu::{CpuId, CpuMask, MAX_CPUS};
use crate::mmio::{self, MmioRegion};

/// Distributor registers.
mod gicd {
    pub const CTLR: usize = 0x0000;
    pub const TYPER: usize = 0x0004;
    pub const IGROUPR: usize = 0x0080;
    pub const ISENABLER: usize = 0x0100;
    pub const ICENABLER: usize = 0x0180;
    pub const ICPENDR: usize = 0x0280;
    pub const IPRIORITYR: usize = 0x0400;
    pub const ICFGR: usize = 0x0c00;
    pub const IROUTER: usize = 0x6000;
    /// CTLR: register write pending.
    pub const RWP: u32 = 1 << 31;
    /// CTLR: affinity routing, both groups on.
    pub const ENABLE: u32 = 1 << 4 | 1 << 1 | 1;
}

/// Redistributor registers; the second frame has the layout of the distributor's first registers.
mod gicr {
    pub const TYPER: usize = 0x0008;
    pub const WAKER: usize = 0x0014;
    pub const SGI_BASE: usize = 0x1_0000;
    pub const FRAME: usize = 0x2_0000;
    pub const TYPER_VLPIS: u64 = 1 << 1;
    pub const TYPER_LAST: u64 = 1 << 4;
    pub const WAKER_SLEEP: u32 = 1 << 1;
    pub const WAKER_ASLEEP: u32 = 1 << 2;
}

const PRIORITY: u32 = 0xa0a0_a0a0;

struct Device {
    dist: MmioRegion,
    redist: [Option<MmioRegion>; 8],
}

static DEVICE: Once<Device> = Once::new();
/// Region and offset of each CPU's redistributor, plus one; 0: not found yet.
static FRAME: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
const REGION_SHIFT: u32 = 48;

fn device() -> Option<&'static Device> {
    DEVICE.get()
}

/// Resets the distributor.
pub fn init(dist: PhysAddr, redist: [(PhysAddr, u64); 8]) -> bool {
    let Some(dist) = mmio::ioremap(dist, 0x1_0000) else {
        return false;
    };
    let map = |(base, len): (PhysAddr, u64)| if len == 0 { None } else { mmio::ioremap(base, len as usize) };
    let dist = &DEVICE.call_once(|| Device { dist, redist: redist.map(map) }).dist;
    dist.write32(gicd::CTLR, 0);
    wait(dist, gicd::CTLR, gicd::RWP);
    let lines = lines() as usize;
    for line in (32..lines).step_by(32) {
        dist.write32(gicd::IGROUPR + line / 8, u32::MAX);
        dist.write32(gicd::ICENABLER + line / 8, u32::MAX);
        dist.write32(gicd::ICPENDR + line / 8, u32::MAX);
    }
    for line in (32..lines).step_by(4) {
        dist.write32(gicd::IPRIORITYR + line, PRIORITY);
    }
    for line in (32..lines).step_by(16) {
        dist.write32(gicd::ICFGR + line / 4, 0);
    }
    wait(dist, gicd::CTLR, gicd::RWP);
    dist.write32(gicd::CTLR, gicd::ENABLE);
    wait(dist, gicd::CTLR, gicd::RWP);
    let here = affinity(read_sysreg!("mpidr_el1"));
    for line in 32..lines {
        dist.write64(gicd::IROUTER + line * 8, here);
    }
    true
}

fn wait(region: &MmioRegion, register: usize, bits: u32) {
    for _ in 0..1_000_000 {
        if region.read32(register) & bits == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Affinity fields of an MPIDR.
fn affinity(mpidr: u64) -> u64 {
    mpidr & 0xff_00ff_ffff
}

/// Finds this CPU's redistributor.
fn find_frame(device: &Device) -> Option<(usize, usize)> {
    let mpidr = affinity(read_sysreg!("mpidr_el1"));
    // GICR_TYPER shows Aff3..Aff0 in its upper half.
    let wanted = (mpidr & 0xff_ffff) | (mpidr >> 32 & 0xff) << 24;
    for (number, region) in device.redist.iter().enumerate() {
        let Some(region) = region else { continue };
        let mut at = 0;
        while at + gicr::FRAME <= region.len() {
            let typer = region.read64(at + gicr::TYPER);
            if typer >> 32 == wanted {
                return Some((number, at));
            }
            if typer & gicr::TYPER_LAST != 0 {
                break;
            }
            at += if typer & gicr::TYPER_VLPIS != 0 { 2 * gicr::FRAME } else { gicr::FRAME };
        }
    }
    None
}

/// This CPU's redistributor and interface.
pub fn init_cpu() {
    let Some(device) = device() else {
        return;
    };
    let cpu = crate::cpu::current();
    let Some((number, at)) = find_frame(device) else {
        log::error!("CPU{cpu}: no redistributor");
        return;
    };
    FRAME[cpu.index()].store((number << REGION_SHIFT | at) + 1, Relaxed);
    let Some(region) = &device.redist[number] else {
        return;
    };
    let waker = region.read32(at + gicr::WAKER);
    region.write32(at + gicr::WAKER, waker & !gicr::WAKER_SLEEP);
    wait(region, at + gicr::WAKER, gicr::WAKER_ASLEEP);

    let sgi = at + gicr::SGI_BASE;
    region.write32(sgi + gicd::IGROUPR, u32::MAX);
    region.write32(sgi + gicd::ICENABLER, 0xffff_0000);
    for line in (0..32).step_by(4) {
        region.write32(sgi + gicd::IPRIORITYR + line, PRIORITY);
    }
    region.write32(sgi + gicd::ISENABLER, 0x0000_ffff);

    // ICC_SRE_EL1, ICC_PMR_EL1, ICC_BPR1_EL1, ICC_CTLR_EL1 (EOI drops and deactivates), ICC_IGRPEN1_EL1.
    write_sysreg!("S3_0_C12_C12_5", read_sysreg!("S3_0_C12_C12_5") | 1);
    isb();
    write_sysreg!("S3_0_C4_C6_0", 0xf0);
    write_sysreg!("S3_0_C12_C12_3", 0);
    write_sysreg!("S3_0_C12_C12_4", 0);
    write_sysreg!("S3_0_C12_C12_7", 1);
    isb();
}

/// One more than the last INTID.
pub fn lines() -> u32 {
    device().map_or(32, |d| ((d.dist.read32(gicd::TYPER) & 0x1f) + 1) * 32)
}

/// The interrupt to handle.
#[inline]
pub fn acknowledge() -> Option<u32> {
    let iar = read_sysreg!("S3_0_C12_C12_0");
    // SAFETY: a barrier: what the device wrote before it interrupted is visible to the handler.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    let intid = iar as u32 & 0xff_ffff;
    (!(1020..8192).contains(&intid)).then_some(intid)
}

/// Done with it.
#[inline]
pub fn end(intid: u32) {
    write_sysreg!("S3_0_C12_C12_1", u64::from(intid));
    isb();
}

/// Sends an SGI: one write for each group of CPUs that differ in Aff0 only.
pub fn send_sgi(mask: CpuMask, sgi: u32) {
    let mut left = mask;
    while let Some(first) = left.first() {
        let mpidr = platform().cpus[first.index()].mpidr;
        let (cluster, range) = (mpidr & !0xff, mpidr >> 4 & 0xf);
        let mut targets = 0u64;
        for cpu in left.iter() {
            let other = platform().cpus[cpu.index()].mpidr;
            if other & !0xff == cluster && other >> 4 & 0xf == range {
                targets |= 1 << (other & 0xf);
                left.clear(cpu);
            }
        }
        let value = (mpidr >> 32 & 0xff) << 48
            | range << 44
            | (mpidr >> 16 & 0xff) << 32
            | u64::from(sgi) << 24
            | (mpidr >> 8 & 0xff) << 16
            | targets;
        write_sysreg!("S3_0_C12_C11_5", value);
    }
    isb();
}

/// A CPU's redistributor: its region and where in it.
pub fn redistributor(cpu: CpuId) -> Option<(&'static MmioRegion, usize)> {
    let frame = FRAME[cpu.index()].load(Relaxed).checked_sub(1)?;
    let region = device()?.redist.get(frame >> REGION_SHIFT)?.as_ref()?;
    Some((region, frame & ((1 << REGION_SHIFT) - 1)))
}

/// The registers that mask a line, and where in them its bank begins.
fn bank(line: u32) -> Option<(&'static MmioRegion, usize)> {
    let device = device()?;
    if line >= 32 {
        return Some((&device.dist, 0));
    }
    let (region, at) = redistributor(crate::cpu::current())?;
    Some((region, at + gicr::SGI_BASE))
}

/// Masks or unmasks; lines below 32 on this CPU.
pub fn set_enabled(line: u32, on: bool) {
    if let Some((region, base)) = bank(line) {
        let register = if on { gicd::ISENABLER } else { gicd::ICENABLER };
        region.write32(base + register + line as usize / 32 * 4, 1 << (line % 32));
    }
}

/// Level or edge.
pub fn set_level(line: u32, level: bool) {
    if let Some((region, base)) = bank(line) {
        let (at, bit) = (base + gicd::ICFGR + line as usize / 16 * 4, 2 << (line % 16 * 2));
        let old = region.read32(at);
        region.write32(at, if level { old & !bit } else { old | bit });
    }
}

/// Routes a line to one CPU.
pub fn set_target(line: u32, cpu: CpuId) -> bool {
    let Some(device) = device() else {
        return false;
    };
    device.dist.write64(gicd::IROUTER + line as usize * 8, affinity(platform().cpus[cpu.index()].mpidr));
    true
}
