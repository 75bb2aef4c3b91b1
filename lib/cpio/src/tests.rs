use super::*;
use std::vec::Vec;

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    let fields = [7, mode, 1, 2, 1, 99, data.len() as u32, 8, 1, 4, 64, name.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

type Listing = Result<Vec<(Vec<u8>, Vec<u8>)>, Error<core::convert::Infallible>>;

fn list(bytes: &[u8]) -> Listing {
    let mut archive = Archive::new(bytes);
    let mut name = [0; PATH_MAX];
    let mut out = Vec::new();
    while let Some((_, name)) = archive.next(&mut name)? {
        let name = name.to_vec();
        let mut data = Vec::new();
        let mut chunk = [0; 3];
        loop {
            match archive.read_data(&mut chunk)? {
                0 => break,
                count => data.extend_from_slice(&chunk[..count]),
            }
        }
        out.push((name, data));
    }
    Ok(out)
}

#[test]
fn entries_come_with_name_and_data() {
    let mut bytes = Vec::new();
    entry(&mut bytes, "etc", 0o040755, b"");
    entry(&mut bytes, "etc/hello", 0o100644, b"hello world");
    entry(&mut bytes, "TRAILER!!!", 0, b"");
    let listed = list(&bytes).unwrap();
    assert_eq!(listed[0].0, b"etc");
    assert_eq!(listed[1], (b"etc/hello".to_vec(), b"hello world".to_vec()));
    assert_eq!(listed[2].0, TRAILER);
}

#[test]
fn archives_may_follow_each_other_with_padding() {
    let mut bytes = Vec::new();
    entry(&mut bytes, "a", 0o100644, b"1");
    entry(&mut bytes, "TRAILER!!!", 0, b"");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    entry(&mut bytes, "b", 0o100644, b"2");
    assert_eq!(list(&bytes).unwrap().len(), 3);
}

#[test]
fn data_may_be_skipped() {
    let mut bytes = Vec::new();
    entry(&mut bytes, "a", 0o100644, &[b'x'; 5000]);
    entry(&mut bytes, "b", 0o100644, b"2");
    let mut archive = Archive::new(&bytes[..]);
    let mut name = [0; PATH_MAX];
    assert_eq!(archive.next(&mut name).unwrap().unwrap().1, b"a");
    assert_eq!(archive.next(&mut name).unwrap().unwrap().1, b"b");
}

#[test]
fn damage_is_told_apart() {
    let mut bytes = Vec::new();
    entry(&mut bytes, "file", 0o100644, b"some data");
    assert_eq!(list(&bytes[..60]), Err(Error::Truncated));
    assert_eq!(list(&bytes[..bytes.len() - 4]), Err(Error::Truncated));
    let mut broken = bytes.clone();
    broken[0] = b'x';
    assert_eq!(list(&broken), Err(Error::NoMagic));
    let mut broken = bytes.clone();
    broken[20] = b'?';
    assert_eq!(list(&broken), Err(Error::BadNumber));
    let mut broken = bytes;
    broken[94..102].copy_from_slice(b"FFFFFFFF");
    assert_eq!(list(&broken), Err(Error::BadName));
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(mut noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), magic: bool) {
        if magic && noise.len() > 6 {
            noise[..6].copy_from_slice(b"070701");
        }
        let _ = list(&noise);
    }
}
