//! The interrupt translation service of GICv3 (Arm IHI 0069, chapters 5 and 6): messages of devices become locality-specific
//! interrupts (LPIs), each of one CPU.
//!
//! The device writes an event number to a register of the service, which finds the device by the id that comes with the write, the LPI by the device's
//! table, and the CPU by the *collection* of the LPI. Tables are memory that the service owns; they are changed by commands in a
//! ring. Collection n is CPU n's redistributor.
//!
//! Nothing is set up before the first device asks.
//!
//! Lock: [`STATE`] (interrupts off), held while a command is carried out.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::gicv3;
use super::intc::{FIRST_LPI, LPIS, table_memory};
use super::sysreg::dsb_sy;
use crate::addr::{PhysAddr, phys_to_virt};
use crate::cpu::{CpuId, CpuMask};
use crate::intc::{Message, least_loaded};
use crate::mmio::{self, MmioRegion};
use crate::sync::SpinLockIrq;

/// Registers of the service.
mod gits {
    pub const CTLR: usize = 0x0000;
    pub const TYPER: usize = 0x0008;
    pub const CBASER: usize = 0x0080;
    pub const CWRITER: usize = 0x0088;
    pub const CREADR: usize = 0x0090;
    pub const BASER: usize = 0x0100;
    pub const TRANSLATER: u64 = 0x1_0040;
    pub const QUIESCENT: u32 = 1 << 31;
}

/// Registers of a redistributor.
mod gicr {
    pub const CTLR: usize = 0x0000;
    pub const TYPER: usize = 0x0008;
    pub const PROPBASER: usize = 0x0070;
    pub const PENDBASER: usize = 0x0078;
    pub const ENABLE_LPIS: u32 = 1;
    pub const PENDING_IS_ZERO: u64 = 1 << 62;
}

/// Tables are ordinary memory, cached, shared by all CPUs: of the table registers (inner cacheability from bit 59, shareability
/// from bit 10) and those of the redistributors (cacheability from bit 7).
const MEMORY: u64 = 7 << 59 | 1 << 10;
const LPI_MEMORY: u64 = 7 << 7 | 1 << 10;
const SHAREABLE: u64 = 3 << 10;
const VALID: u64 = 1 << 63;
/// Bits of interrupt numbers: the fewest that there can be.
const ID_BITS: u64 = 14;
/// Bits of device ids that the table has room for.
const MAX_DEVICE_BITS: u32 = 16;
/// Devices with a table of events.
const MAX_DEVICES: usize = 128;
/// The most events of a device: those of MSI-X.
const MAX_EVENTS: u32 = 2048;
const QUEUE: u64 = 4096;
const COMMAND: u64 = 32;
/// Priority of an LPI, with the bit that lets it through.
const ENABLED: u8 = 0xa0 | 1;

#[derive(Clone, Copy)]
struct Device {
    id: u32,
    events: u32,
}

#[derive(Clone, Copy)]
struct Lpi {
    device: u32,
    event: u32,
    cpu: CpuId,
}

struct Service {
    registers: MmioRegion,
    queue: PhysAddr,
    device_bits: u32,
    /// Bytes of an event in a device's table.
    entry: u64,
    /// What commands call each CPU's redistributor.
    targets: [u64; crate::cpu::MAX_CPUS],
    /// The byte that says of each LPI whether it is on.
    configuration: PhysAddr,
}

/// What has come of setting it up.
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Setup {
    New,
    Broken,
    Ready(Service),
}

struct State {
    setup: Setup,
    users: Users,
}

/// Who uses what; too large to be moved.
struct Users {
    devices: [Option<Device>; MAX_DEVICES],
    lpis: [Option<Lpi>; LPIS],
}

static STATE: SpinLockIrq<State> = SpinLockIrq::new(State {
    setup: Setup::New,
    users: Users { devices: [None; MAX_DEVICES], lpis: [None; LPIS] },
});

impl Service {
    /// Sets up everything; `None` if the hardware is not as it should be or memory is short.
    fn new(base: PhysAddr) -> Option<Self> {
        let registers = mmio::ioremap(base, 0x1_0000)?;
        registers.write32(gits::CTLR, 0);
        for _ in 0..1_000_000 {
            if registers.read32(gits::CTLR) & gits::QUIESCENT != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        let typer = registers.read64(gits::TYPER);
        let device_bits = ((typer >> 13 & 0x1f) as u32 + 1).min(MAX_DEVICE_BITS);
        for index in 0..8 {
            let register = gits::BASER + 8 * index;
            let old = registers.read64(register);
            let entry = (old >> 48 & 0x1f) + 1;
            let entries = match old >> 56 & 7 {
                1 => 1 << device_bits,
                4 => crate::cpu::MAX_CPUS as u64,
                _ => continue,
            };
            let bytes = (entries * entry).next_multiple_of(4096).next_power_of_two();
            let table = table_memory(bytes as usize)?;
            // Pages of 4 KiB, 16 KiB or 64 KiB: what the hardware takes shows in what it reads back.
            let written = [(0u64, 4096u64), (1, 16384), (2, 65536)].into_iter().any(|(code, page)| {
                let pages = bytes.div_ceil(page);
                if bytes < page || pages > 256 {
                    return false;
                }
                registers.write64(register, VALID | MEMORY | table.0 | code << 8 | (pages - 1));
                registers.read64(register) >> 8 & 3 == code
            });
            if !written || registers.read64(register) & SHAREABLE == 0 {
                log::warn!("ITS: no table of kind {}", old >> 56 & 7);
                return None;
            }
        }
        let queue = table_memory(QUEUE as usize)?;
        registers.write64(gits::CBASER, VALID | MEMORY | queue.0 | (QUEUE / 4096 - 1));
        if registers.read64(gits::CBASER) & SHAREABLE == 0 {
            log::warn!("ITS: not coherent with the CPUs' caches");
            return None;
        }
        registers.write64(gits::CWRITER, 0);
        registers.write32(gits::CTLR, 1);
        let configuration = table_memory(1 << ID_BITS)?;
        let mut service = Self {
            registers,
            queue,
            device_bits,
            entry: (typer >> 4 & 0xf) + 1,
            targets: [0; crate::cpu::MAX_CPUS],
            configuration,
        };
        let physical = typer >> 19 & 1 != 0;
        for cpu in crate::cpu::online().iter() {
            service.add_cpu(cpu, physical)?;
        }
        Some(service)
    }

    /// A CPU takes LPIs from now on.
    fn add_cpu(&mut self, cpu: CpuId, physical: bool) -> Option<()> {
        let (region, at) = gicv3::redistributor(cpu)?;
        let pending = table_memory(1 << 16)?;
        region.write64(at + gicr::PROPBASER, self.configuration.0 | LPI_MEMORY | (ID_BITS - 1));
        region.write64(at + gicr::PENDBASER, pending.0 | LPI_MEMORY | gicr::PENDING_IS_ZERO);
        let control = region.read32(at + gicr::CTLR);
        region.write32(at + gicr::CTLR, control | gicr::ENABLE_LPIS);
        dsb_sy();
        self.targets[cpu.index()] = if physical {
            region.phys().0 + at as u64
        } else {
            (region.read64(at + gicr::TYPER) >> 8 & 0xffff) << 16
        };
        let target = self.targets[cpu.index()];
        self.command([0x09, 0, VALID | target | cpu.index() as u64, 0])?;
        self.command([0x0d, 0, cpu.index() as u64, 0])?;
        self.sync(cpu)
    }

    /// Has a command carried out, and waits for that.
    fn command(&self, words: [u64; 4]) -> Option<()> {
        let at = self.registers.read64(gits::CWRITER) & (QUEUE - COMMAND);
        let slot = phys_to_virt(PhysAddr(self.queue.0 + at)).cast::<u64>();
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: within the ring, which is ours; the service does not read this slot before it is told to.
            unsafe { slot.add(index).write_volatile(word.to_le()) };
        }
        dsb_sy();
        let next = (at + COMMAND) % QUEUE;
        self.registers.write64(gits::CWRITER, next);
        for _ in 0..1_000_000 {
            let read = self.registers.read64(gits::CREADR);
            if read & (QUEUE - COMMAND) == next {
                return Some(());
            }
            if read & 1 != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        log::warn!("ITS: command {:#x} failed", words[0]);
        None
    }

    /// Waits until a CPU's redistributor has seen all commands.
    fn sync(&self, cpu: CpuId) -> Option<()> {
        self.command([0x05, 0, self.targets[cpu.index()], 0])
    }

    /// Gives a device a table for its events, once.
    fn add_device(&self, users: &mut Users, id: u32, events: u32) -> Option<()> {
        if let Some(device) = users.devices.iter().flatten().find(|device| device.id == id) {
            return (events <= device.events).then_some(());
        }
        if id >> self.device_bits != 0 {
            return None;
        }
        let slot = users.devices.iter_mut().find(|slot| slot.is_none())?;
        // A device keeps its table: there is room for a driver that wants more.
        let events = events.clamp(32, MAX_EVENTS).next_power_of_two();
        let bytes = (u64::from(events) * self.entry).max(4096).next_power_of_two();
        let table = table_memory(bytes as usize)?;
        let bits = u64::from(events.trailing_zeros());
        self.command([0x08 | u64::from(id) << 32, bits - 1, VALID | table.0, 0])?;
        *slot = Some(Device { id, events });
        Some(())
    }

    fn set_enabled(&self, users: &Users, index: usize, on: bool) {
        let at = self.configuration.0 + u64::from(FIRST_LPI - 8192) + index as u64;
        let byte = phys_to_virt(PhysAddr(at)).cast_const().cast::<AtomicU8>();
        // SAFETY: within the table, which is ours; the redistributors read it, too.
        unsafe { &*byte }.store(if on { ENABLED } else { ENABLED & !1 }, Relaxed);
        dsb_sy();
        if let Some(lpi) = users.lpis.get(index).copied().flatten() {
            let _ = self.command([0x0c | u64::from(lpi.device) << 32, lpi.event.into(), 0, 0]);
            let _ = self.sync(lpi.cpu);
        }
    }

    fn alloc(&self, users: &mut Users, device: u32, event: u32, events: u32, cpus: CpuMask) -> Option<usize> {
        if event >= events {
            return None;
        }
        self.add_device(users, device, events)?;
        let cpu = users.choose(cpus)?;
        let index = users.lpis.iter().position(Option::is_none)?;
        let (id, number) = (u64::from(device) << 32, u64::from(FIRST_LPI) + index as u64);
        self.command([0x0a | id, u64::from(event) | number << 32, cpu.index() as u64, 0])?;
        users.lpis[index] = Some(Lpi { device, event, cpu });
        self.sync(cpu)?;
        self.set_enabled(users, index, true);
        Some(index)
    }
}

impl Users {
    fn choose(&self, cpus: CpuMask) -> Option<CpuId> {
        let load = |cpu| self.lpis.iter().flatten().filter(|lpi| lpi.cpu == cpu).count() as u32;
        least_loaded(cpus, load)
    }

    fn lpi(&self, index: u32) -> Option<Lpi> {
        self.lpis.get(index as usize).copied().flatten()
    }
}

fn with<R>(f: impl FnOnce(&Service, &mut Users) -> Option<R>) -> Option<R> {
    let State { setup, users } = &mut *STATE.lock();
    match setup {
        Setup::Ready(service) => f(service, users),
        _ => None,
    }
}

/// An LPI for an event of a device, by its number from the first; see [`crate::intc::MsiVector::new`].
pub(super) fn alloc(base: PhysAddr, device: u32, event: u32, events: u32, cpus: CpuMask) -> Option<u32> {
    let State { setup, users } = &mut *STATE.lock();
    if matches!(setup, Setup::New) {
        *setup = Service::new(base).map_or(Setup::Broken, Setup::Ready);
    }
    match setup {
        Setup::Ready(service) => service.alloc(users, device, event, events, cpus).map(|index| index as u32),
        _ => None,
    }
}

/// What the device writes.
pub(super) fn message(base: PhysAddr, index: u32) -> Option<Message> {
    let lpi = with(|_, users| users.lpi(index))?;
    Some(Message { address: base.0 + gits::TRANSLATER, data: lpi.event })
}

/// Sends it to one of `cpus`.
pub(super) fn set_affinity(index: u32, cpus: CpuMask) -> bool {
    let moved = with(|service, users| {
        let lpi = users.lpi(index)?;
        if cpus.contains(lpi.cpu) {
            return Some(());
        }
        let cpu = users.choose(cpus)?;
        let id = u64::from(lpi.device) << 32;
        service.command([0x01 | id, lpi.event.into(), cpu.index() as u64, 0])?;
        users.lpis[index as usize] = Some(Lpi { cpu, ..lpi });
        service.sync(lpi.cpu)
    });
    moved.is_some()
}

/// The CPU that it goes to.
pub(super) fn cpu_of(index: u32) -> Option<CpuId> {
    with(|_, users| users.lpi(index)).map(|lpi| lpi.cpu)
}

/// Lets it through or not.
pub(super) fn set_enabled(index: u32, on: bool) {
    let _ = with(|service, users| {
        users.lpi(index)?;
        service.set_enabled(users, index as usize, on);
        Some(())
    });
}

/// Gives it back.
pub(super) fn free(index: u32) {
    let _ = with(|service, users| {
        let lpi = users.lpi(index)?;
        service.set_enabled(users, index as usize, false);
        let _ = service.command([0x0f | u64::from(lpi.device) << 32, lpi.event.into(), 0, 0]);
        let _ = service.sync(lpi.cpu);
        users.lpis[index as usize] = None;
        Some(())
    });
}
