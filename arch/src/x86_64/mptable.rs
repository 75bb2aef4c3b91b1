//! The MP table (Intel MultiProcessor Specification 1.4): what machines without ACPI have, such as QEMU's
//! `microvm,acpi=off`. Pure parsing, tested on the build machine.

use crate::acpi::Map;

/// An entry that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A usable CPU.
    Cpu {
        /// The id of its local APIC.
        apic_id: u8,
        /// The one that booted.
        boot: bool,
    },
    /// An I/O APIC.
    IoApic {
        /// Its id.
        id: u8,
        /// Its registers.
        address: u32,
    },
    /// An ISA interrupt is wired to a pin.
    Isa {
        /// The ISA line.
        irq: u8,
        /// The I/O APIC's id.
        ioapic: u8,
        /// Its pin.
        pin: u8,
        /// Polarity and trigger, as in the MADT.
        flags: u16,
    },
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |a, b| a.wrapping_add(*b))
}

fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Looks where the specification says: the extended BIOS data area, the end of base memory, the BIOS.
pub fn find(map: Map<'_>) -> Option<&'static [u8]> {
    let ebda = le(map(0x40e, 2)?, 0).map_or(0, |b| u64::from(u16::from_le_bytes(b)) << 4);
    let places = [(ebda, 1024), (0x9_fc00, 1024), (0xf_0000, 0x1_0000)];
    places.iter().filter(|(at, _)| *at != 0).find_map(|&(at, len)| {
        let area = map(at, len)?;
        let pointer = area.chunks_exact(16).find(|p| p.starts_with(b"_MP_") && sum(p) == 0)?;
        let config = u64::from(u32::from_le_bytes(le(pointer, 4)?));
        let header = map(config, 44)?;
        let len = usize::from(u16::from_le_bytes(le(header, 4)?));
        let table = map(config, len)?;
        (table.starts_with(b"PCMP") && len >= 44 && sum(table) == 0).then_some(table)
    })
}

/// Address of the local APICs.
pub fn local_apic(table: &[u8]) -> u32 {
    le(table, 36).map_or(0xfee0_0000, u32::from_le_bytes)
}

/// The entries of a table, as many as its length holds: the count in the header is 0 on some machines (qboot).
pub fn entries(table: &[u8]) -> impl Iterator<Item = Entry> {
    let mut rest = table.get(44..).unwrap_or(&[]);
    let mut isa_bus = None;
    core::iter::from_fn(move || {
        let len = match *rest.first()? {
            0 => 20,
            1..=4 => 8,
            _ => return None,
        };
        let e = rest.get(..len)?;
        rest = &rest[len..];
        Some(match e[0] {
            0 if e[3] & 1 != 0 => Some(Entry::Cpu { apic_id: e[1], boot: e[3] & 2 != 0 }),
            1 => {
                if e[2..8].starts_with(b"ISA") {
                    isa_bus = Some(e[1]);
                }
                None
            }
            2 if e[3] & 1 != 0 => Some(Entry::IoApic { id: e[1], address: u32::from_le_bytes(le(e, 4)?) }),
            3 if e[1] == 0 && isa_bus == Some(e[4]) => {
                Some(Entry::Isa { irq: e[5], ioapic: e[6], pin: e[7], flags: u16::from_le_bytes(le(e, 2)?) })
            }
            _ => None,
        })
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_entries() {
        let mut t = b"PCMP".to_vec();
        t.resize(44, 0);
        t[36..40].copy_from_slice(&0xfee0_0000u32.to_le_bytes());
        let mut push = |e: &[u8]| t.extend(e);
        push(&[0, 0, 0x14, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        push(&[0, 1, 0x14, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        push(&[1, 0, b'I', b'S', b'A', b' ', b' ', b' ']);
        push(&[2, 2, 0x11, 1, 0, 0, 0xc0, 0xfe]);
        push(&[3, 0, 0, 0, 0, 0, 2, 2]);
        push(&[4, 3, 0, 0, 0, 0, 0, 0]);
        let found: Vec<_> = entries(&t).collect();
        assert_eq!(found[0], Entry::Cpu { apic_id: 0, boot: true });
        assert_eq!(found[1], Entry::Cpu { apic_id: 1, boot: false });
        assert_eq!(found[2], Entry::IoApic { id: 2, address: 0xfec0_0000 });
        assert_eq!(found[3], Entry::Isa { irq: 0, ioapic: 2, pin: 2, flags: 0 });
        assert_eq!(found.len(), 4);
        assert_eq!(local_apic(&t), 0xfee0_0000);
        // A last entry that is cut off is not there.
        assert_eq!(entries(&t[..t.len() - 9]).count(), 3);
    }
}
