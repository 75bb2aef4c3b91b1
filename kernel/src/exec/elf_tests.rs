use super::*;
use alloc::vec;
use proptest::prelude::*;

const LIMIT: u64 = 0x7fff_ffff_f000;
const MACHINE: u16 = 62;

fn header_bytes(kind: u16, machine: u16, phnum: u16) -> Vec<u8> {
    let mut b = vec![0u8; EHDR_SIZE];
    b[..4].copy_from_slice(b"\x7fELF");
    b[16..18].copy_from_slice(&kind.to_le_bytes());
    b[18..20].copy_from_slice(&machine.to_le_bytes());
    b[24..32].copy_from_slice(&0x401000u64.to_le_bytes());
    b[32..40].copy_from_slice(&64u64.to_le_bytes());
    b[54..56].copy_from_slice(&(PHDR_SIZE as u16).to_le_bytes());
    b[56..58].copy_from_slice(&phnum.to_le_bytes());
    b
}

fn load(offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> ProgramHeader {
    ProgramHeader { kind: PT_LOAD, flags: 5, offset, vaddr, filesz, memsz, align: 4096 }
}

#[test]
fn accepts_a_plain_program() {
    let h = Header::parse(&header_bytes(2, MACHINE, 2), MACHINE).unwrap();
    assert_eq!(h.kind, Kind::Fixed);
    let mut data = load(0x1ff0, 0x403ff0, 0x30, 0x5000);
    data.flags = 6;
    let p = plan(&h, &[load(0, 0x400000, 0x1234, 0x1234), data], LIMIT).unwrap();
    assert_eq!((p.start, p.end), (0x400000, 0x409000));
    assert_eq!(p.phdr, 0x400040);
    assert_eq!(p.brk(), 0x408ff0);
    assert_eq!(p.segments[1].start, 0x403000);
    assert_eq!(p.segments[1].mapped_end(), 0x405000);
    assert_eq!(p.segments[1].file_offset, 0x1000);
}

#[test]
fn refuses_what_is_not_ours() {
    assert_eq!(Header::parse(b"", MACHINE), Err(Errno::ENOEXEC));
    assert_eq!(Header::parse(b"\x7fELF", MACHINE), Err(Errno::ENOEXEC));
    assert_eq!(Header::parse(&header_bytes(2, 183, 1), MACHINE), Err(Errno::ENOEXEC));
    assert_eq!(Header::parse(&header_bytes(1, MACHINE, 1), MACHINE), Err(Errno::ENOEXEC));
    assert_eq!(Header::parse(&header_bytes(2, MACHINE, 0), MACHINE), Err(Errno::ENOEXEC));
    assert_eq!(Header::parse(&header_bytes(2, MACHINE, 2000), MACHINE), Err(Errno::ENOEXEC));
}

#[test]
fn refuses_broken_segments() {
    let h = Header::parse(&header_bytes(2, MACHINE, 1), MACHINE).unwrap();
    let err = |ph| plan(&h, &[ph], LIMIT).unwrap_err();
    assert_eq!(err(load(0, 0x400000, 2, 1)), Errno::EINVAL);
    assert_eq!(err(load(0, LIMIT, 1, 1)), Errno::EINVAL);
    assert_eq!(err(load(0, u64::MAX - 10, 1, 100)), Errno::EINVAL);
    assert_eq!(err(load(0x10, 0x400000, 1, 1)), Errno::EINVAL);
    assert_eq!(err(load(u64::MAX - 4095, 0x400000, 1, 1)), Errno::EINVAL);
    assert_eq!(plan(&h, &[], LIMIT).unwrap_err(), Errno::ENOEXEC);
    let interp = ProgramHeader { kind: PT_INTERP, filesz: 1, ..Default::default() };
    assert_eq!(plan(&h, &[interp], LIMIT).unwrap_err(), Errno::ENOEXEC);
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = Header::parse(&bytes, MACHINE);
        let _ = parse_program_headers(&bytes);
    }

    #[test]
    fn plans_stay_inside_the_address_space(
        raw in proptest::collection::vec((0u32..4, 0u32..8, any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..12),
        small in any::<bool>(),
    ) {
        let h = Header { kind: Kind::Dynamic, entry: 0, phoff: 64, phnum: raw.len() as u16 };
        let cut = |x: u64| if small { x & 0xff_ffff } else { x };
        let list: Vec<_> = raw.iter().map(|&(kind, flags, offset, vaddr, filesz, memsz, align)| ProgramHeader {
            kind, flags, offset: cut(offset), vaddr: (cut(vaddr) & !PAGE_MASK) | (cut(offset) & PAGE_MASK),
            filesz: cut(filesz), memsz: cut(memsz).max(cut(filesz)), align,
        }).collect();
        if let Ok(p) = plan(&h, &list, LIMIT) {
            prop_assert!(p.end <= LIMIT);
            prop_assert!(p.start < p.end || p.segments.iter().all(|s| s.mem_end == s.start));
            for s in &p.segments {
                prop_assert!(s.start >= p.start && s.mem_end <= p.end && s.file_end <= s.mem_end);
                prop_assert_eq!(s.start & PAGE_MASK, 0);
                prop_assert_eq!(s.file_offset & PAGE_MASK, 0);
            }
        }
    }
}
