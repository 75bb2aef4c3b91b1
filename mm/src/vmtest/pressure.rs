//! Reclaim: the page cache gives way, what is used stays.

use super::files::{disk_file, map_file};
use super::*;
use crate::gfp::{Gfp, ZoneKind};
use crate::iov::IovIter;
use crate::pressure::{ReclaimRequest, Reclaimer};
use abi::raw::{PROT_EXEC, PROT_READ};

const AT: usize = 0x6100_0000_0000;

fn request(pages: usize) -> ReclaimRequest {
    ReclaimRequest { node: 0, zone: ZoneKind::Normal, order: 0, gfp: Gfp::KERNEL, pages }
}

fn read_pages(mapping: &crate::filemap::Mapping, first: usize, count: usize) {
    let mut bytes = vec![0; PAGE_SIZE];
    for page in first..first + count {
        mapping.read(&mut IovIter::dest(&mut bytes), (page * PAGE_SIZE) as u64).unwrap();
    }
}

#[test]
fn what_is_read_twice_survives_a_stream() {
    let _serial = super::serial();
    drop(space());
    crate::reclaim::drop_pagecache();
    let (hot, _) = disk_file(vec![1; 64 * PAGE_SIZE]);
    read_pages(&hot, 0, 64);
    read_pages(&hot, 0, 64);
    let (stream, _) = disk_file(vec![2; 512 * PAGE_SIZE]);
    read_pages(&stream, 0, 512);
    let freed = crate::reclaim::RECLAIMER.shrink(&request(448));
    assert!(freed >= 448, "freed {freed}");
    assert_eq!(hot.nr_pages(), 64);
    assert!(stream.nr_pages() <= 64);
}

#[test]
fn mapped_and_dirty_pages_are_unmapped_and_go_when_they_are_written() {
    let _serial = super::serial();
    let s = space();
    crate::reclaim::drop_pagecache();
    let (mapping, disk) = disk_file(vec![1; 40 * PAGE_SIZE]);
    map_file(&s, &mapping, AT, 40, PROT_READ | abi::raw::PROT_WRITE, MAP_SHARED, true).unwrap();
    for page in 0..40 {
        store(&s, AT + page * PAGE_SIZE, 7).unwrap();
    }
    assert_eq!(s.counters().file(), 40);
    // Used a moment ago: the first rounds give a second chance.
    for _ in 0..8 {
        crate::reclaim::RECLAIMER.shrink(&ReclaimRequest { gfp: Gfp::NOFS, ..request(1000) });
    }
    assert_eq!((mapping.nr_pages(), s.counters().file()), (40, 0));
    mapping.write_back(0..u64::MAX).unwrap();
    for _ in 0..8 {
        crate::reclaim::RECLAIMER.shrink(&request(1000));
    }
    assert_eq!((mapping.nr_pages(), s.counters().file()), (0, 0));
    assert_eq!(disk.bytes.lock().unwrap()[39 * PAGE_SIZE], 7);
    assert_eq!(load(&s, AT), Ok(7));
    // Locked pages stay.
    s.mlock(AT, 40 * PAGE_SIZE, 0, &Limits::NONE).unwrap();
    for _ in 0..8 {
        crate::reclaim::RECLAIMER.shrink(&request(1000));
    }
    assert_eq!(mapping.nr_pages(), 40);
}

#[test]
fn drop_caches_spares_the_mapped() {
    let _serial = super::serial();
    let s = space();
    let (mapping, _) = disk_file(vec![1; 40 * PAGE_SIZE]);
    read_pages(&mapping, 0, 40);
    map_file(&s, &mapping, AT, 4, PROT_READ | PROT_EXEC, MAP_PRIVATE, false).unwrap();
    load(&s, AT).unwrap();
    crate::reclaim::drop_pagecache();
    assert_eq!(mapping.nr_pages(), 4);
}
