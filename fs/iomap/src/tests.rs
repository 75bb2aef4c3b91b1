//! Files over a disk in memory, against an array of bytes.

mod disk;
mod file;

use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;
use std::vec::Vec;

use abi::Errno;
use mm::IovIter;

use disk::Random;
use file::{Kinds, TestFile};

fn read(file: &TestFile, pos: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let got = file.mapping.read(&mut IovIter::dest(&mut bytes), pos).unwrap();
    bytes.truncate(got);
    bytes
}

fn write(file: &TestFile, pos: u64, bytes: &[u8]) {
    assert_eq!(file.mapping.write(&mut IovIter::source(bytes), pos), Ok(bytes.len()));
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed.wrapping_mul(31).wrapping_add(at as u64 * 7) >> 1) as u8).collect()
}

#[test]
fn what_is_written_is_on_the_device_and_comes_back() {
    for block in [512, 1024, 2048, 4096] {
        let file = TestFile::new(4 << 20, block, Kinds::Delayed, 1);
        let bytes = pattern(3, 300_000);
        write(&file, 5000, &bytes);
        assert_eq!(read(&file, 5000, 300_000), bytes);
        file.mapping.write_back(0..u64::MAX).unwrap();
        assert_eq!(file.on_disk(5000, 300_000), bytes);
        assert_eq!(file.mapping.count_cached(0..u64::MAX).1, 0);
        let cached = file.mapping.nr_pages();
        assert_eq!(file.mapping.invalidate(0..u64::MAX >> 12), cached);
        assert_eq!(read(&file, 5000, 300_000), bytes);
        assert_eq!(read(&file, 0, 5000), vec![0; 5000]);
        // What lies together was transferred together.
        let requests = file.disk.reads.load(Ordering::SeqCst);
        assert!(requests < 20, "{requests} reads for {block}");
    }
}

#[test]
fn holes_and_unwritten_extents_are_zeros_and_take_no_blocks() {
    let file = TestFile::new(1 << 20, 1024, Kinds::Delayed, 2);
    file.mapping.set_size(100_000);
    assert_eq!(read(&file, 0, 200_000), vec![0; 100_000]);
    // One block of a page: the other three stay holes.
    write(&file, 9 * 1024, &[7; 1024]);
    file.mapping.write_back(0..u64::MAX).unwrap();
    assert_eq!(file.map.blocks_used(), 1);
    file.map.preallocate(50, 4);
    assert_eq!(read(&file, 50 * 1024, 4096), vec![0; 4096]);
    write(&file, 51 * 1024 + 5, &[9; 10]);
    file.mapping.write_back(0..u64::MAX).unwrap();
    file.mapping.invalidate(0..1000);
    let mut expected = vec![0; 4096];
    expected[1029..1039].fill(9);
    assert_eq!(read(&file, 50 * 1024, 4096), expected);
    assert!(file.map.converted.load(Ordering::SeqCst) > 0);
}

#[test]
fn the_size_on_the_device_follows_the_data() {
    let file = TestFile::new(1 << 20, 4096, Kinds::Delayed, 3);
    write(&file, 0, &[1; 10_000]);
    assert_eq!(file.map.disk_size.load(Ordering::SeqCst), 0);
    file.mapping.write_back(0..4096).unwrap();
    assert_eq!(file.map.disk_size.load(Ordering::SeqCst), 4096);
    file.mapping.write_back(0..u64::MAX).unwrap();
    assert_eq!(file.map.disk_size.load(Ordering::SeqCst), 10_000);
}

#[test]
fn blocks_that_held_something_else_do_not_show_it() {
    for block in [1024, 4096] {
        let file = TestFile::new(1 << 20, block, Kinds::Direct, 4);
        file.disk.scribble();
        write(&file, 5000, &[1; 100]);
        write(&file, 30_000, &[2; 9000]);
        let mut expected = vec![0; 39_000];
        expected[5000..5100].fill(1);
        expected[30_000..].fill(2);
        assert_eq!(read(&file, 0, 50_000), expected);
        file.mapping.write_back(0..u64::MAX).unwrap();
        file.mapping.invalidate(0..1000);
        assert_eq!(read(&file, 0, 50_000), expected);
    }
}

#[test]
fn a_failure_is_told_once_to_each_who_asks() {
    let file = TestFile::new(1 << 20, 4096, Kinds::Delayed, 5);
    let position = || std::sync::atomic::AtomicU32::new(file.mapping.write_error_position());
    let (first, second) = (position(), position());
    write(&file, 0, &[1; 8192]);
    file.disk.fail_writes.store(true, Ordering::SeqCst);
    assert_eq!(file.mapping.write_back(0..u64::MAX), Err(Errno::EIO));
    assert_eq!(file.mapping.write_back(0..u64::MAX), Ok(()));
    for position in [&first, &second] {
        assert_eq!(file.mapping.check_write_errors(position), Err(Errno::EIO));
        assert_eq!(file.mapping.check_write_errors(position), Ok(()));
    }
    assert_eq!(file.mapping.check_write_errors(&position()), Ok(()));
    file.disk.fail_writes.store(false, Ordering::SeqCst);
    write(&file, 0, &[2; 8192]);
    file.mapping.write_back(0..u64::MAX).unwrap();
    assert_eq!(file.on_disk(0, 8192), vec![2; 8192]);
}

#[test]
fn a_failed_read_fails_and_the_next_one_works() {
    let file = TestFile::new(1 << 20, 4096, Kinds::Delayed, 6);
    write(&file, 0, &[3; 50_000]);
    file.mapping.write_back(0..u64::MAX).unwrap();
    file.mapping.invalidate(0..1000);
    file.disk.fail_reads.store(true, Ordering::SeqCst);
    let mut bytes = [0; 100];
    assert_eq!(file.mapping.read(&mut IovIter::dest(&mut bytes), 8192), Err(Errno::EIO));
    file.disk.fail_reads.store(false, Ordering::SeqCst);
    assert_eq!(read(&file, 8192, 100), vec![3; 100]);
}

#[test]
fn direct_transfers_and_the_page_cache_see_the_same() {
    for block in [1024, 4096] {
        let file = TestFile::new(4 << 20, block, Kinds::Delayed, 7);
        write(&file, 0, &pattern(1, 20_000));
        let bytes = pattern(2, 8192 + 512);
        let done = crate::direct_write(&*file.map, &file.mapping, &mut IovIter::source(&bytes), 4096 + 512);
        assert_eq!(done, Ok(bytes.len()));
        let mut expected = pattern(1, 20_000);
        expected[4608..4608 + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(read(&file, 0, 20_000), expected);
        // Behind the end, where there were no blocks, and over more than a wave.
        let long = pattern(5, 1_500_160 / 512 * 512);
        let done = crate::direct_write(&*file.map, &file.mapping, &mut IovIter::source(&long), 40_960);
        assert_eq!((done, file.mapping.size()), (Ok(long.len()), 40_960 + long.len() as u64));
        expected.resize(40_960, 0);
        expected.extend(&long);
        assert_eq!(read(&file, 0, expected.len()), expected);
        // What is dirty is seen by a direct read; the end of the file cuts it.
        write(&file, 100, &[9; 50]);
        expected[100..150].fill(9);
        let size = expected.len().next_multiple_of(512) + 4096;
        let mut back = vec![0; size];
        let done = crate::direct_read(&*file.map, &file.mapping, &mut IovIter::dest(&mut back), 0);
        assert_eq!(done, Ok(expected.len()));
        assert!(back[..expected.len()] == expected[..]);
        assert_eq!(file.on_disk(0, expected.len()), expected);
        let mut odd = [0; 100];
        let mut iter = IovIter::dest(&mut odd);
        assert_eq!(crate::direct_read(&*file.map, &file.mapping, &mut iter, 0), Err(Errno::EINVAL));
        assert_eq!(
            crate::direct_read(&*file.map, &file.mapping, &mut IovIter::dest(&mut back[..512]), 100),
            Err(Errno::EINVAL)
        );
        file.disk.fail_writes.store(true, Ordering::SeqCst);
        let done = crate::direct_write(&*file.map, &file.mapping, &mut IovIter::source(&bytes), 0);
        assert_eq!(done, Err(Errno::ENODATA));
    }
}

#[test]
fn data_and_holes_are_found_and_reported() {
    let file = TestFile::new(1 << 20, 4096, Kinds::Delayed, 8);
    write(&file, 8192, &[1; 4096]);
    file.mapping.write_back(0..u64::MAX).unwrap();
    write(&file, 40_960, &[2; 100]);
    let (map, mapping) = (&*file.map, &*file.mapping);
    assert_eq!(crate::seek_data(map, mapping, 0), Ok(8192));
    assert_eq!(crate::seek_hole(map, mapping, 8192), Ok(12_288));
    assert_eq!(crate::seek_data(map, mapping, 12_288), Ok(40_960));
    assert_eq!(crate::seek_hole(map, mapping, 40_960), Ok(41_060));
    assert_eq!(crate::seek_data(map, mapping, 41_060), Err(Errno::ENXIO));
    let mut found = Vec::new();
    crate::fiemap(map, 0, u64::MAX, mapping.size(), &mut |extent| {
        found.push((extent.logical, extent.length, extent.flags));
        true
    })
    .unwrap();
    use crate::fiemap::flags::{DELALLOC, LAST, UNKNOWN};
    assert_eq!(found, [(8192, 4096, 0), (40_960, 4096, DELALLOC | UNKNOWN | LAST)]);
    crate::zero_range(map, mapping, 0..9000).unwrap();
    assert_eq!(file.map.blocks_used(), 1);
    let mut expected = vec![0; 4096];
    expected[808..].fill(1);
    assert_eq!(read(&file, 8192, 4096), expected);
}

/// Random reads, writes, truncations and holes against an array, while another thread writes back and drops what is clean.
fn random(block: u32, kinds: Kinds, seed: u64, steps: usize) {
    let file = TestFile::new(2 << 20, block, kinds, seed);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(seed ^ 0x5555);
            while !stop.load(Ordering::SeqCst) {
                let start = random.below(400_000);
                match random.below(3) {
                    0 => file.mapping.write_back(start..start + random.below(100_000) + 1).unwrap(),
                    1 => drop(file.mapping.start_write_back(start..u64::MAX, mm::filemap::SyncMode::None)),
                    _ => drop(file.mapping.invalidate(start >> 12..u64::MAX >> 12)),
                }
                std::thread::yield_now();
            }
        });
        let (mut random, mut model) = (Random(seed | 1), Vec::new());
        for step in 0..steps {
            let (pos, len) = (random.below(300_000), random.below(40_000) as usize + 1);
            match random.below(10) {
                0..5 => {
                    let bytes = pattern(seed + step as u64, len);
                    write(&file, pos, &bytes);
                    let end = pos as usize + len;
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[pos as usize..end].copy_from_slice(&bytes);
                }
                5..8 => {
                    let start = (pos as usize).min(model.len());
                    let end = (start + len).min(model.len());
                    let found = read(&file, pos, len);
                    let at = found.iter().zip(&model[start..end]).position(|(a, b)| a != b);
                    if at.is_some() || found.len() != end - start {
                        stop.store(true, Ordering::SeqCst);
                        panic!("{block} {kinds:?} step {step}: {pos}+{len} at {at:?}");
                    }
                }
                8 => {
                    file.truncate(pos);
                    model.resize(pos as usize, 0);
                }
                _ => {
                    file.punch(pos, len as u64);
                    let start = (pos as usize).min(model.len());
                    let end = (start + len).min(model.len());
                    model[start..end].fill(0);
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        file.mapping.write_back(0..u64::MAX).unwrap();
        let differs = |found: Vec<u8>| {
            let at = found.iter().zip(&model).position(|(a, b)| a != b);
            assert!(
                at.is_none() && found.len() == model.len(),
                "{block} {kinds:?}: {at:?} of {}",
                model.len()
            );
        };
        differs(file.on_disk(0, model.len()));
        file.mapping.invalidate(0..u64::MAX >> 12);
        differs(read(&file, 0, model.len() + 10));
    });
}

#[test]
fn a_file_is_an_array_of_bytes() {
    for (block, kinds, seed) in [
        (4096, Kinds::Delayed, 11),
        (1024, Kinds::Delayed, 12),
        (2048, Kinds::Direct, 13),
        (4096, Kinds::Direct, 14),
        (512, Kinds::Delayed, 15),
    ] {
        random(block, kinds, seed, 300);
    }
}
