//! Against what e2fsprogs computes, and against itself.

use super::checksum::{crc16, crc32c};
use super::hash::{Version, hash};
use super::inode::{decode_device, decode_time, encode_device, encode_time};
use super::*;
use proptest::prelude::*;
use std::process::Command;

#[test]
fn checksums_have_their_published_check_values() {
    assert_eq!(crc32c(!0, b"123456789") ^ !0, 0xe306_9283);
    assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789") ^ !0, 0xe306_9283);
    assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    assert_eq!(crc16(crc16(0, b"1234"), b"56789"), 0xbb3d);
}

/// debugfs' `dx_hash`.
fn debugfs_hash(name: &str, kind: &str, seed: Option<&str>) -> (u32, u32) {
    let seed = seed.map(|seed| format!("-s {seed} ")).unwrap_or_default();
    let request = format!("dx_hash {seed}-h {kind} {name}");
    let out = Command::new("debugfs").args(["-R", &request]).output().expect("debugfs");
    let text = String::from_utf8(out.stdout).unwrap();
    let numbers: Vec<u32> = text
        .split("0x")
        .skip(1)
        .map(|n| n.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap())
        .map(|n| u32::from_str_radix(n, 16).unwrap())
        .collect();
    match numbers[..] {
        [major, minor] => (major, minor),
        _ => panic!("{request}: {text}"),
    }
}

#[test]
fn hashes_are_those_of_debugfs() {
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let bytes: Vec<u8> = uuid
        .split('-')
        .flat_map(|part| (0..part.len() / 2).map(move |i| (part, i)))
        .map(|(part, i)| u8::from_str_radix(&part[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let seed: Vec<u32> = bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    let seed: [u32; 4] = seed.try_into().unwrap();
    let long = "x".repeat(255);
    let names = [
        "a",
        "ab",
        "abc",
        "abcd",
        "lost+found",
        "a_name_of_thirty_two_characters__",
        "grün",
        "日本語",
        &long,
    ];
    for name in names {
        for (kind, version) in [
            ("0", Version::Legacy),
            ("3", Version::LegacyUnsigned),
            ("1", Version::HalfMd4),
            ("4", Version::HalfMd4Unsigned),
            ("2", Version::Tea),
            ("5", Version::TeaUnsigned),
        ] {
            for (text, seed) in [(None, [0; 4]), (Some(uuid), seed)] {
                let ours = hash(name.as_bytes(), version, &seed);
                assert_eq!(
                    (ours.major, ours.minor),
                    debugfs_hash(name, kind, text),
                    "{name} {kind} {text:?}"
                );
            }
        }
    }
}

#[test]
fn the_last_hash_is_never_a_names() {
    for i in 0..10_000 {
        let name = format!("file{i}");
        let hash = hash(name.as_bytes(), Version::HalfMd4, &[0; 4]);
        assert!(hash.major & 1 == 0 && hash.major >> 1 < hash::EOF_32);
    }
}

proptest! {
    #[test]
    fn times_survive(seconds in -(1i64 << 31)..(1i64 << 34) - (1 << 31), nanoseconds in 0u32..1_000_000_000) {
        let (low, extra) = encode_time(seconds, nanoseconds);
        prop_assert_eq!(decode_time(low, Some(extra)), (seconds, nanoseconds));
    }

    #[test]
    fn devices_survive(major in 0u32..1 << 12, minor in 0u32..1 << 20) {
        prop_assume!(major != 0 || minor != 0);
        let (old, new) = encode_device(major, minor);
        prop_assert_eq!(decode_device(old, new), (major, minor));
    }

    #[test]
    fn space_survives(sectors in 0u64..1 << 49, block_bits in 10u32..13) {
        let sectors = sectors >> (block_bits - 9) << (block_bits - 9);
        let mut core = inode::Core::read_from_bytes(&[0; 128]).unwrap();
        prop_assert!(core.set_sectors(sectors, true, block_bits));
        prop_assert_eq!(core.sectors(true, block_bits), sectors);
        prop_assert_eq!(core.set_sectors(sectors, false, block_bits), sectors < 1 << 32);
    }

    #[test]
    fn group_descriptors_survive(bytes in prop::collection::vec(any::<u8>(), 64)) {
        let desc = group::GroupDesc::read(&bytes).unwrap();
        let mut out = bytes.clone();
        desc.write(&mut out).unwrap();
        prop_assert_eq!(&out, &bytes);
        let mut empty = [0; 64];
        desc.write(&mut empty).unwrap();
        prop_assert_eq!(group::GroupDesc::read(&empty), Some(desc));
    }

    #[test]
    fn nothing_panics_on_any_block(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..320) {
        let format = dir::Format { has_types: at % 2 == 0, inodes_count: 100, has_tail: at % 3 == 0 };
        let _ = dir::entries(&bytes, at, format).count();
        let _ = dir::tail(&bytes);
        let _ = htree::places_offset(&bytes).map(|at| htree::places(&bytes, at, true));
        let _ = xattr::attributes(&bytes, at).count();
        let _ = orphan::read(&bytes);
        if let Ok(header) = extent::check_header(&bytes, 0, false) {
            let _ = extent::entries::<extent::Extent>(&bytes, header).len();
        }
    }
}

#[test]
fn extents_with_and_without_data() {
    for (len, unwritten) in
        [(1, false), (1, true), (extent::MAX_LEN, false), (extent::MAX_UNWRITTEN_LEN, true)]
    {
        let extent = extent::Extent::new(7, len, 0x1234_5678_9abc, unwritten);
        assert_eq!((extent.len(), extent.is_unwritten(), extent.start()), (len, unwritten, 0x1234_5678_9abc));
    }
    assert_eq!(extent::entries_in_block(4096), 340);
    assert_eq!(extent::tail_offset(340) + 4, 4096);
    assert_eq!(extent::entries_in_block(1024), 84);
}
