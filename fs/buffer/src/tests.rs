use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use abi::Errno;
use block::{Op, OpFlags};

use crate::testing::{Disk, Random};
use crate::{BufferCache, WriteBatch};

fn numbered(blocks: u64, size: usize) -> Vec<u8> {
    (0..blocks).flat_map(|block| (0..size / 8).flat_map(move |_| block.to_le_bytes())).collect()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn cache(disk: &Arc<Disk>, size: u32) -> Arc<BufferCache> {
    BufferCache::new(disk.clone(), size).unwrap()
}

#[test]
fn read_write_and_snapshots() {
    for size in [1024, 2048, 4096] {
        let disk = Arc::new(Disk::new(numbered(100, size)).threaded(7));
        let cache = cache(&disk, size as u32);
        let buffer = cache.read(42).unwrap();
        assert!(Arc::ptr_eq(&buffer, &cache.read(42).unwrap()));
        assert_eq!((number(buffer.data().bytes()), buffer.size(), cache.len()), (42, size, 1));
        let old = buffer.data();
        buffer.write(|bytes| bytes[..8].copy_from_slice(&777u64.to_le_bytes())).unwrap();
        assert_eq!((number(old.bytes()), number(buffer.data().bytes())), (42, 777));
        drop(old);
        // Without a snapshot it changes where it is.
        let at = buffer.data().bytes().as_ptr();
        buffer.write(|bytes| bytes[0] = 9).unwrap();
        assert_eq!(buffer.data().bytes().as_ptr(), at);
        assert_eq!(number(&disk.image()[42 * size..]), 42);
        cache.write_back().unwrap();
        assert!(!buffer.is_dirty());
        assert_eq!(disk.image()[42 * size..43 * size], *buffer.data().bytes());
        assert_eq!(cache.read(100).unwrap_err(), Errno::EIO);
        assert_eq!(cache.read(u64::MAX).unwrap_err(), Errno::EIO);
        let fresh = cache.get(5).unwrap();
        assert!(!fresh.is_valid() && number(fresh.data().bytes()) == 0);
        fresh.create(|bytes| bytes[1] = 1).unwrap();
        assert_eq!(number(cache.read(5).unwrap().data().bytes()), 256);
        fresh.forget();
        assert_eq!(number(cache.read(5).unwrap().data().bytes()), 5);
    }
    let disk = Arc::new(Disk::zeroed(8));
    for size in [0, 1000, 8192, 256] {
        assert!(BufferCache::new(disk.clone(), size).is_err());
    }
}

#[test]
fn one_read_for_many_readers_and_readahead() {
    let disk = Arc::new(Disk::new(numbered(64, 4096)).threaded(3));
    let cache = cache(&disk, 4096);
    disk.hold(true);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let cache = cache.clone();
            thread::spawn(move || number(cache.read(9).unwrap().data().bytes()))
        })
        .collect();
    cache.readahead(&[9, 10, 11, 1000, 12, 9]);
    disk.hold(false);
    assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 9));
    for block in [10, 11, 12] {
        assert_eq!(number(cache.read(block).unwrap().data().bytes()), block);
    }
    assert_eq!(disk.counts().0, 4);
    // What was read ahead and never looked at goes too.
    cache.readahead(&[20, 21]);
    while disk.counts().0 != 6 {
        thread::yield_now();
    }
    cache.get(20).unwrap().create(|bytes| bytes.fill(8)).unwrap();
    assert_eq!(cache.read(20).unwrap().data().bytes(), [8; 4096]);
    while cache.trim() != 0 || !cache.is_empty() {
        thread::yield_now();
    }
    assert_eq!(number(cache.read(20).unwrap().data().bytes()), 20);
}

#[test]
fn errors_are_told_and_remembered() {
    let disk = Arc::new(Disk::new(numbered(64, 1024)).threaded(5));
    let cache = cache(&disk, 1024);
    disk.fail(|op, sector, _| op == Op::Read && sector == 14 || op == Op::Write && sector == 20);
    assert_eq!(cache.read(7).unwrap_err(), Errno::EIO);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.clone();
            thread::spawn(move || cache.read(7).unwrap_err())
        })
        .collect();
    assert!(readers.into_iter().all(|reader| reader.join().unwrap() == Errno::EIO));
    for block in [9, 10, 11] {
        cache.read(block).unwrap().write(|bytes| bytes[0] = 0xff).unwrap();
    }
    assert_eq!(cache.write_back(), Err(Errno::EIO));
    assert_eq!(cache.write_back(), Ok(()));
    let bad = cache.read(10).unwrap();
    assert!(bad.write_failed() && cache.write_errors() == 1 && !cache.read(9).unwrap().write_failed());
    disk.repair();
    assert_eq!(number(cache.read(7).unwrap().data().bytes()), 7);
    bad.mark_dirty();
    cache.write_back().unwrap();
    assert!(!bad.write_failed() && disk.image()[10 * 1024] == 0xff);
}

/// Many threads change and read few blocks while a small cache drops what it can: no change is lost, and no block has two buffers.
#[test]
fn threads_against_eviction_and_write_back() {
    const BLOCKS: u64 = 48;
    let disk = Arc::new(Disk::zeroed(BLOCKS * 2).threaded(11));
    let cache = cache(&disk, 1024);
    let total: Arc<Vec<AtomicU64>> = Arc::new((0..BLOCKS).map(|_| AtomicU64::new(0)).collect());
    let threads: Vec<_> = (0..6u64)
        .map(|seed| {
            let (cache, total) = (cache.clone(), total.clone());
            thread::spawn(move || {
                let mut random = Random::new(seed + 1);
                for _ in 0..400 {
                    let block = random.below(BLOCKS);
                    let buffer = cache.read(block).unwrap();
                    match random.below(8) {
                        0 => cache.write_back().unwrap(),
                        1 | 2 => drop(cache.trim()),
                        3 => {
                            let data = buffer.data();
                            let first = number(data.bytes());
                            thread::yield_now();
                            assert_eq!(first, number(&data.bytes()[8..]));
                        }
                        _ => {
                            buffer
                                .write(|bytes| {
                                    let next = number(bytes) + 1;
                                    bytes[..8].copy_from_slice(&next.to_le_bytes());
                                    bytes[8..16].copy_from_slice(&next.to_le_bytes());
                                })
                                .unwrap();
                            total[block as usize].fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    cache.write_back().unwrap();
    let image = disk.image();
    for block in 0..BLOCKS {
        let expected = total[block as usize].load(Ordering::SeqCst);
        assert_eq!(number(&image[block as usize * 1024..]), expected);
        assert_eq!(number(cache.read(block).unwrap().data().bytes()), expected);
    }
}

#[test]
fn memory_is_given_back_but_not_what_is_used() {
    let disk = Arc::new(Disk::new(numbered(500, 4096)));
    let cache = cache(&disk, 4096);
    let kept: Vec<_> = (0..10).map(|block| cache.read(block).unwrap()).collect();
    for block in 10..500 {
        cache.read(block).unwrap();
    }
    kept[3].write(|bytes| bytes[0] = 1).unwrap();
    cache.read(400).unwrap().write(|bytes| bytes[0] = 1).unwrap();
    assert_eq!(cache.len(), 500);
    // Neighbours of what went just now are still referred to by it until a grace period is over.
    for _ in 0..1000 {
        cache.trim();
        if cache.len() == 11 {
            break;
        }
        sched::rcu::synchronize();
        thread::yield_now();
    }
    assert_eq!(cache.len(), 11);
    assert!(Arc::ptr_eq(&kept[5], &cache.read(5).unwrap()));
}

#[test]
fn a_batch_waits_for_older_writes_of_the_same_buffer() {
    let disk = Arc::new(Disk::zeroed(64).threaded(2));
    let cache = cache(&disk, 1024);
    let buffers: Vec<_> = (0..4).map(|block| cache.read(block).unwrap()).collect();
    let threads: Vec<_> = (0..4u64)
        .map(|seed| {
            let (cache, buffers) = (cache.clone(), buffers.clone());
            thread::spawn(move || {
                let mut random = Random::new(seed + 9);
                for _ in 0..50 {
                    let mut batch = WriteBatch::new(&cache, OpFlags::SYNC);
                    for _ in 0..3 {
                        let buffer = &buffers[random.below(4) as usize];
                        batch.add(buffer, &buffer.data()).unwrap();
                    }
                    assert_eq!(batch.wait().len(), 3);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_power_cut_keeps_what_was_flushed() {
    let disk = Arc::new(Disk::zeroed(64));
    disk.note_events();
    let cache = cache(&disk, 1024);
    cache.read(1).unwrap().write(|bytes| bytes.fill(1)).unwrap();
    cache.write_back().unwrap();
    cache.flush().unwrap();
    cache.read(2).unwrap().write(|bytes| bytes.fill(2)).unwrap();
    cache.write_back().unwrap();
    let mut crashes = disk.crashes();
    assert_eq!(crashes.len(), 3);
    crashes.advance(3);
    let images: Vec<_> = (0..50).map(|seed| crashes.image(&mut Random::new(seed))).collect();
    assert!(images.iter().all(|image| image[1024..2048] == [1; 1024]));
    assert!(images.iter().any(|image| image[2048] == 2) && images.iter().any(|image| image[2048] == 0));
    assert!(images.iter().any(|image| image[2048] != image[2560]));
}
