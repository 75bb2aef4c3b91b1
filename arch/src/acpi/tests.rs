use std::collections::BTreeMap;

use super::*;

fn leak(v: Vec<u8>) -> &'static [u8] {
    Box::leak(v.into_boxed_slice())
}

fn with_header(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut t = signature.to_vec();
    t.extend(((HEADER + body.len()) as u32).to_le_bytes());
    t.resize(HEADER, 0);
    t.extend(body);
    t[9] = 0u8.wrapping_sub(sum(&t));
    t
}

fn memory(tables: &[(u64, Vec<u8>)]) -> impl Fn(u64, usize) -> Option<&'static [u8]> + use<> {
    let map: BTreeMap<u64, &'static [u8]> = tables.iter().map(|(a, t)| (*a, leak(t.clone()))).collect();
    move |at, len| map.get(&at)?.get(..len)
}

fn rsdp(rsdt: u32) -> Vec<u8> {
    let mut r = b"RSD PTR \0KARST \0".to_vec();
    r.extend(rsdt.to_le_bytes());
    r[8] = 0u8.wrapping_sub(sum(&r));
    r
}

#[test]
fn finds_tables_by_signature() {
    let map = memory(&[
        (0xf0000, rsdp(0x1000)),
        (0x1000, with_header(b"RSDT", &[0x00, 0x20, 0, 0, 0x00, 0x30, 0, 0])),
        (0x2000, with_header(b"AAAA", &[])),
        (0x3000, with_header(b"HPET", &[0; 20])),
    ]);
    let root = Root::new(&map, 0xf0000).unwrap();
    assert_eq!(root.addresses().collect::<Vec<_>>(), [0x2000, 0x3000]);
    assert!(root.find(&map, b"HPET").is_some());
    assert!(root.find(&map, b"MCFG").is_none());
}

#[test]
fn refuses_bad_checksums_and_lengths() {
    let mut bad = with_header(b"HPET", &[1; 8]);
    bad[40] ^= 1;
    let mut short = with_header(b"HPET", &[1; 8]);
    short[4] = 10;
    let map = memory(&[(1, bad), (2, short), (3, vec![1, 2, 3])]);
    assert!((1..5).all(|at| table(&map, at).is_none()));
    assert!(Root::new(&map, 1).is_none());
}

#[test]
fn madt_entries() {
    let mut body = 0xfee0_0000u32.to_le_bytes().to_vec();
    body.extend([1, 0, 0, 0]);
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 1, 0, 0, 0, 0]);
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
    body.extend([4, 6, 0xff, 0, 0, 1]);
    body.extend([9, 16, 0, 0, 0x44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    body.extend([0, 200]);
    let (address, entries) = madt(leak(with_header(b"APIC", &body)));
    assert_eq!(address, 0xfee0_0000);
    let entries: Vec<_> = entries.collect();
    assert_eq!(entries[0], MadtEntry::Cpu { apic_id: 0, enabled: true });
    assert_eq!(entries[1], MadtEntry::Cpu { apic_id: 1, enabled: false });
    assert_eq!(entries[2], MadtEntry::IoApic { id: 0, address: 0xfec0_0000, gsi_base: 0 });
    let MadtEntry::Override { isa: 9, gsi: 9, flags } = entries[4] else { panic!("{:?}", entries[4]) };
    assert_eq!((flags.active_low(), flags.level()), (Some(false), Some(true)));
    assert_eq!(entries[5], MadtEntry::Cpu { apic_id: 0x144, enabled: true });
    assert_eq!(entries.len(), 6);
}

#[test]
fn a_madt_entry_of_length_zero_ends_the_table() {
    let mut body = vec![0; 8];
    body.extend([0, 0, 0, 0]);
    assert_eq!(madt(leak(with_header(b"APIC", &body))).1.count(), 0);
}

#[test]
fn srat_and_slit() {
    let mut body = vec![0; 12];
    body.extend([0, 16, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut mem = vec![1, 40, 1, 0, 0, 0, 0, 0];
    mem.extend(0x1_0000_0000u64.to_le_bytes());
    mem.extend(0x4000_0000u64.to_le_bytes());
    mem.extend([0, 0, 0, 0, 3, 0, 0, 0]);
    mem.resize(40, 0);
    body.extend(mem);
    let entries: Vec<_> = srat(leak(with_header(b"SRAT", &body))).collect();
    assert_eq!(entries[0], Affinity::Cpu { apic_id: 3, domain: 1 });
    let expected = Affinity::Memory { base: 0x1_0000_0000, len: 0x4000_0000, domain: 1, hotpluggable: true };
    assert_eq!(entries[1], expected);

    let mut slit = 2u64.to_le_bytes().to_vec();
    slit.extend([10, 21, 21, 10]);
    let slit = with_header(b"SLIT", &slit);
    assert_eq!(slit_distance(&slit, 0, 1), Some(21));
    assert_eq!(slit_distance(&slit, 1, 1), Some(10));
    assert_eq!(slit_distance(&slit, 2, 0), None);
}

#[test]
fn s5_packages() {
    let table = |aml: &[u8]| with_header(b"DSDT", aml);
    let qemu = [0x10, 0x08, b'_', b'S', b'5', b'_', 0x12, 0x06, 0x04, 0x00, 0x00, 0x00, 0x00, 0, 0];
    assert_eq!(s5(&table(&qemu)), Some((0, 0)));
    let bytes = [0x08, b'\\', b'_', b'S', b'5', b'_', 0x12, 0x0a, 0x04, 0x0a, 5, 0x0a, 6, 0, 0];
    assert_eq!(s5(&table(&bytes)), Some((5, 6)));
    assert_eq!(s5(&table(&[1, 2, 3])), None);
    assert_eq!(s5(&table(&qemu[..7])), None);
}

#[test]
fn fadt_fields() {
    let mut body = vec![0; 276 - HEADER];
    let mut put =
        |at: usize, bytes: &[u8]| body[at - HEADER..at - HEADER + bytes.len()].copy_from_slice(bytes);
    put(64, &0x604u32.to_le_bytes());
    put(76, &0x608u32.to_le_bytes());
    put(91, &[4]);
    put(112, &((1u32 << 10) | (1 << 8)).to_le_bytes());
    put(116, &[1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    put(128, &[0x0f]);
    put(48, &0xb2u32.to_le_bytes());
    put(52, &[2]);
    let f = fadt(&with_header(b"FACP", &body));
    assert_eq!(f.pm1_control, [Some(0x604), None]);
    assert_eq!((f.pm_timer, f.pm_timer_32bit), (Some(0x608), true));
    assert_eq!(f.reset, Some((Register::Port(0xcf9), 0x0f)));
    assert_eq!(f.acpi_enable, Some((0xb2, 2)));
    assert!(!f.hardware_reduced);
    assert_eq!(fadt(&[]), Fadt { has_keyboard_controller: true, ..Fadt::default() });
}

#[test]
fn scans_for_the_root_pointer() {
    let mut bios = vec![0xff; 64];
    bios.extend(rsdp(0x1000));
    assert_eq!(scan(&bios, 0xe0000), Some(0xe0040));
    bios[70] ^= 1;
    assert_eq!(scan(&bios, 0xe0000), None);
    assert_eq!(scan(b"RSD PTR ", 0), None);
}
