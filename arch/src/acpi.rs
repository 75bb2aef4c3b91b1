//! ACPI tables: finding them, and the few that a kernel needs before it can run AML.
//!
//! Pure parsing over byte slices, so it is tested on the build machine. Tables come from firmware, which is as
//! trustworthy as any input: lengths are checked, a bad checksum or a short table reads as "not there".
//! Specification: ACPI 6.5, chapter 5.2.

/// Reads physical memory: `len` bytes at an address, if that can be reached.
pub type Map<'a> = &'a dyn Fn(u64, usize) -> Option<&'static [u8]>;

/// Little-endian integers at offsets; `None` beyond the end.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    fn u64(self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.0.get(at..at + 8)?.try_into().ok()?))
    }
}

const HEADER: usize = 36;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// The table at an address, header included, if its length and checksum are right.
pub fn table(map: Map<'_>, at: u64) -> Option<&'static [u8]> {
    let len = Bytes(map(at, HEADER)?).u32(4)? as usize;
    if !(HEADER..=16 << 20).contains(&len) {
        return None;
    }
    let table = map(at, len)?;
    (sum(table) == 0).then_some(table)
}

/// The directory of tables.
#[derive(Clone, Copy)]
pub struct Root {
    directory: &'static [u8],
    wide: bool,
}

impl Root {
    /// From the root pointer's address.
    pub fn new(map: Map<'_>, rsdp: u64) -> Option<Self> {
        let v1 = map(rsdp, 20)?;
        if !v1.starts_with(b"RSD PTR ") || sum(v1) != 0 {
            return None;
        }
        if v1.get(15).is_some_and(|&revision| revision >= 2)
            && let Some(v2) = map(rsdp, 36)
            && sum(v2) == 0
            && let Some(xsdt) = Bytes(v2).u64(24).filter(|&a| a != 0)
            && let Some(directory) = table(map, xsdt)
        {
            return Some(Self { directory, wide: true });
        }
        let rsdt = Bytes(v1).u32(16)?;
        Some(Self { directory: table(map, u64::from(rsdt))?, wide: false })
    }

    /// The tables' addresses.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        let wide = self.wide;
        self.directory[HEADER..].chunks_exact(if wide { 8 } else { 4 }).filter_map(move |entry| {
            if wide { Bytes(entry).u64(0) } else { Bytes(entry).u32(0).map(u64::from) }
        })
    }

    /// The first table with a signature.
    pub fn find(&self, map: Map<'_>, signature: &[u8; 4]) -> Option<&'static [u8]> {
        self.addresses().filter_map(|at| table(map, at)).find(|t| t.starts_with(signature))
    }
}

/// Looks for a root pointer in memory at `at`, as a BIOS leaves it; for boot loaders that do not pass it on.
pub fn scan(memory: &[u8], at: u64) -> Option<u64> {
    let found = |candidate: &[u8]| {
        candidate.starts_with(b"RSD PTR ") && candidate.get(..20).is_some_and(|v1| sum(v1) == 0)
    };
    let index = memory.chunks(16).enumerate().position(|(i, _)| found(&memory[i * 16..]))?;
    Some(at + index as u64 * 16)
}

/// Polarity and trigger of an interrupt, from the flags of MADT entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntiFlags(pub u16);

impl IntiFlags {
    /// Active low; `None`: as the bus has it.
    pub fn active_low(self) -> Option<bool> {
        match self.0 & 3 {
            1 => Some(false),
            3 => Some(true),
            _ => None,
        }
    }

    /// Level triggered; `None`: as the bus has it.
    pub fn level(self) -> Option<bool> {
        match self.0 >> 2 & 3 {
            1 => Some(false),
            3 => Some(true),
            _ => None,
        }
    }
}

/// An entry of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MadtEntry {
    /// A CPU with its APIC id; `usable`: enabled, or can be brought online.
    Cpu {
        /// The id of its local APIC.
        apic_id: u32,
        /// Enabled now.
        enabled: bool,
    },
    /// An I/O APIC.
    IoApic {
        /// Its id.
        id: u8,
        /// Its registers.
        address: u32,
        /// The interrupt of its first pin.
        gsi_base: u32,
    },
    /// An ISA interrupt that does not arrive where it would be expected.
    Override {
        /// The ISA line.
        isa: u8,
        /// Where it arrives.
        gsi: u32,
        /// How.
        flags: IntiFlags,
    },
    /// The local APICs' registers are elsewhere.
    LocalApicAddress(u64),
}

/// Address of the local APICs, and the MADT's entries.
pub fn madt(table: &'static [u8]) -> (u32, impl Iterator<Item = MadtEntry>) {
    let address = Bytes(table).u32(36).unwrap_or(0xfee0_0000);
    let mut rest = table.get(44..).unwrap_or(&[]);
    let entries = core::iter::from_fn(move || {
        loop {
            let len = usize::from(Bytes(rest).u8(1)?);
            let entry = Bytes(rest.get(..len).filter(|_| len >= 2)?);
            rest = &rest[len..];
            let parsed = match entry.u8(0)? {
                0 => cpu(entry.u8(3).map(u32::from), entry.u32(4)),
                1 => ioapic(entry),
                2 => isa_override(entry),
                5 => entry.u64(4).map(MadtEntry::LocalApicAddress),
                9 => cpu(entry.u32(4), entry.u32(8)),
                _ => None,
            };
            if parsed.is_some() {
                return parsed;
            }
        }
    });
    (address, entries)
}

fn cpu(apic_id: Option<u32>, flags: Option<u32>) -> Option<MadtEntry> {
    Some(MadtEntry::Cpu { apic_id: apic_id?, enabled: flags? & 1 != 0 })
}

fn ioapic(e: Bytes<'_>) -> Option<MadtEntry> {
    Some(MadtEntry::IoApic { id: e.u8(2)?, address: e.u32(4)?, gsi_base: e.u32(8)? })
}

fn isa_override(e: Bytes<'_>) -> Option<MadtEntry> {
    Some(MadtEntry::Override { isa: e.u8(3)?, gsi: e.u32(4)?, flags: IntiFlags(e.u16(8)?) })
}

/// An entry of the SRAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affinity {
    /// A CPU belongs to a domain.
    Cpu {
        /// The id of its local APIC.
        apic_id: u32,
        /// The domain.
        domain: u32,
    },
    /// Memory belongs to a domain.
    Memory {
        /// First byte.
        base: u64,
        /// Bytes.
        len: u64,
        /// The domain.
        domain: u32,
        /// It may be unplugged (or plugged).
        hotpluggable: bool,
    },
}

/// The enabled entries of the SRAT.
pub fn srat(table: &'static [u8]) -> impl Iterator<Item = Affinity> {
    let mut rest = table.get(48..).unwrap_or(&[]);
    core::iter::from_fn(move || {
        loop {
            let len = usize::from(Bytes(rest).u8(1)?);
            let e = Bytes(rest.get(..len).filter(|_| len >= 2)?);
            rest = &rest[len..];
            if let Some(parsed) = affinity(e) {
                return Some(parsed);
            }
        }
    })
}

fn affinity(e: Bytes<'_>) -> Option<Affinity> {
    let enabled = |flags: u32| (flags & 1 != 0).then_some(flags);
    match e.u8(0)? {
        0 => {
            enabled(e.u32(4)?)?;
            let domain = u32::from(e.u8(2)?)
                | u32::from(e.u8(9)?) << 8
                | u32::from(e.u8(10)?) << 16
                | u32::from(e.u8(11)?) << 24;
            Some(Affinity::Cpu { apic_id: u32::from(e.u8(3)?), domain })
        }
        1 => {
            let flags = enabled(e.u32(28)?)?;
            Some(Affinity::Memory {
                base: e.u64(8)?,
                len: e.u64(16)?,
                domain: e.u32(2)?,
                hotpluggable: flags & 2 != 0,
            })
        }
        2 => {
            enabled(e.u32(12)?)?;
            Some(Affinity::Cpu { apic_id: e.u32(8)?, domain: e.u32(4)? })
        }
        _ => None,
    }
}

/// The distance between two domains by the SLIT.
pub fn slit_distance(table: &[u8], from: u32, to: u32) -> Option<u8> {
    let n = Bytes(table).u64(36)?;
    if u64::from(from) >= n || u64::from(to) >= n || n > 256 {
        return None;
    }
    Bytes(table).u8(44 + (u64::from(from) * n + u64::from(to)) as usize)
}

/// Address of the first HPET's registers.
pub fn hpet_address(table: &[u8]) -> Option<u64> {
    Bytes(table).u64(44)
}

/// A window of PCI configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ecam {
    /// Address of bus 0's window.
    pub base: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
}

/// The windows of the MCFG.
pub fn mcfg(table: &'static [u8]) -> impl Iterator<Item = Ecam> {
    table.get(44..).unwrap_or(&[]).chunks_exact(16).filter_map(|e| {
        let e = Bytes(e);
        Some(Ecam { base: e.u64(0)?, segment: e.u16(8)?, first_bus: e.u8(10)?, last_bus: e.u8(11)? })
    })
}

/// A register described by a generic address structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// In memory.
    Memory(u64),
    /// An I/O port.
    Port(u16),
    /// In the configuration space of a device on bus 0: device, function, offset.
    Pci(u8, u8, u16),
}

fn gas(table: &[u8], at: usize) -> Option<Register> {
    let b = Bytes(table);
    let address = b.u64(at + 4).filter(|&a| a != 0)?;
    match b.u8(at)? {
        0 => Some(Register::Memory(address)),
        1 => Some(Register::Port(address as u16)),
        2 => Some(Register::Pci((address >> 32) as u8, (address >> 16) as u8, address as u16)),
        _ => None,
    }
}

/// What the FADT says about power and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fadt {
    /// No legacy hardware: sleep by the sleep control register.
    pub hardware_reduced: bool,
    /// There is a keyboard controller.
    pub has_keyboard_controller: bool,
    /// The PM timer's port.
    pub pm_timer: Option<u16>,
    /// Its counter has 32 bits (else 24).
    pub pm_timer_32bit: bool,
    /// PM1 control registers.
    pub pm1_control: [Option<u16>; 2],
    /// Port and value that switch ACPI mode on.
    pub acpi_enable: Option<(u16, u8)>,
    /// Reset register and value.
    pub reset: Option<(Register, u8)>,
    /// Sleep control register.
    pub sleep_control: Option<Register>,
    /// Address of the DSDT.
    pub dsdt: u64,
}

/// Parses the FADT.
pub fn fadt(table: &[u8]) -> Fadt {
    let b = Bytes(table);
    let flags = b.u32(112).unwrap_or(0);
    let port = |legacy: usize, extended: usize| match gas(table, extended) {
        Some(Register::Port(p)) => Some(p),
        _ => b.u32(legacy).filter(|&p| p != 0).map(|p| p as u16),
    };
    let smi = b.u32(48).unwrap_or(0) as u16;
    Fadt {
        hardware_reduced: flags >> 20 & 1 != 0,
        has_keyboard_controller: b.u16(109).unwrap_or(2) & 2 != 0,
        pm_timer: port(76, 208).filter(|_| b.u8(91).unwrap_or(0) == 4),
        pm_timer_32bit: flags >> 8 & 1 != 0,
        pm1_control: [port(64, 172), port(68, 184)],
        acpi_enable: b.u8(52).filter(|&v| v != 0 && smi != 0).map(|v| (smi, v)),
        reset: if flags >> 10 & 1 != 0 { gas(table, 116).zip(b.u8(128)) } else { None },
        sleep_control: gas(table, 244),
        dsdt: b.u64(140).filter(|&a| a != 0).or(b.u32(40).map(u64::from)).unwrap_or(0),
    }
}

/// The two `SLP_TYP` values of `\_S5` in an AML table: what to write to switch the machine off.
///
/// Looks for the definition `Name (_S5_, Package () { … })` without running AML: real firmware defines it with constants.
pub fn s5(table: &[u8]) -> Option<(u8, u8)> {
    let aml = table.get(HEADER..)?;
    for at in 0..aml.len().saturating_sub(8) {
        let rest = &aml[at..];
        // NameOp, optionally with the root prefix.
        let body = match rest {
            [0x08, b'_', b'S', b'5', b'_', 0x12, body @ ..]
            | [0x08, b'\\', b'_', b'S', b'5', b'_', 0x12, body @ ..] => body,
            _ => continue,
        };
        // The package's length takes 1 to 4 bytes, by the top bits of the first; then the number of elements.
        let skip = usize::from(body.first()? >> 6) + 2;
        let mut elements = body.get(skip..)?;
        let mut next = || -> Option<u8> {
            let (value, used) = match *elements.first()? {
                0x00 => (0, 1),
                0x01 => (1, 1),
                0x0a => (*elements.get(1)?, 2),
                0x0b => (*elements.get(1)?, 3),
                0x0c => (*elements.get(1)?, 5),
                _ => return None,
            };
            elements = elements.get(used..)?;
            Some(value)
        };
        let a = next()?;
        return Some((a, next().unwrap_or(a)));
    }
    None
}

#[cfg(test)]
mod tests;
