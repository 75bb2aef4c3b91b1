//! GICv2m (Arm Server Base System Architecture, appendix on GICv2m): a device writes the number of a shared line to a register, and
//! that line is raised.
//!
//! Lock: [`TAKEN`] (interrupts off), a leaf.

use sync::Once;

use crate::addr::PhysAddr;
use crate::cpu::CpuId;
use crate::intc::Message;
use crate::mmio::{self, MmioRegion};
use crate::sync::SpinLockIrq;

const TYPER: usize = 0x008;
const SET_SPI: u64 = 0x040;

struct Frame {
    base: PhysAddr,
    first: u32,
    count: u32,
}

static FRAMES: Once<[Option<Frame>; 4]> = Once::new();
/// Lines in use, a bit each, and the CPU of each.
static TAKEN: SpinLockIrq<[Option<CpuId>; 1024]> = SpinLockIrq::new([None; 1024]);

fn frames(bases: [PhysAddr; 4]) -> &'static [Option<Frame>; 4] {
    FRAMES.call_once(|| {
        bases.map(|base| {
            let registers: MmioRegion = (base.0 != 0).then(|| mmio::ioremap(base, 0x1000)).flatten()?;
            let typer = registers.read32(TYPER);
            let (first, count) = (typer >> 16 & 0x3ff, typer & 0x3ff);
            (first >= 32 && first + count <= 1020).then_some(Frame { base, first, count })
        })
    })
}

/// A free line, which goes to `cpu`.
pub(super) fn alloc(bases: [PhysAddr; 4], cpu: CpuId) -> Option<u32> {
    let mut taken = TAKEN.lock();
    let all = frames(bases).iter().flatten();
    let line = all
        .flat_map(|frame| frame.first..frame.first + frame.count)
        .find(|line| taken[*line as usize].is_none())?;
    taken[line as usize] = Some(cpu);
    Some(line)
}

/// What the device writes.
pub(super) fn message(bases: [PhysAddr; 4], line: u32) -> Option<Message> {
    let frame = frames(bases).iter().flatten().find(|f| (f.first..f.first + f.count).contains(&line))?;
    Some(Message { address: frame.base.0 + SET_SPI, data: line })
}

/// How many messages go to a CPU.
pub(super) fn load(cpu: CpuId) -> u32 {
    TAKEN.lock().iter().filter(|of| **of == Some(cpu)).count() as u32
}

/// It goes to `cpu` now.
pub(super) fn moved(line: u32, cpu: CpuId) {
    if let Some(slot) = TAKEN.lock().get_mut(line as usize) {
        *slot = Some(cpu);
    }
}

/// The CPU of a line that is a message.
pub(super) fn cpu_of(line: u32) -> Option<CpuId> {
    TAKEN.lock().get(line as usize).copied().flatten()
}

/// Gives it back.
pub(super) fn free(line: u32) {
    if let Some(slot) = TAKEN.lock().get_mut(line as usize) {
        *slot = None;
    }
}
