//! The page cache: reads and writes against a byte array, mappings, truncation, holes.

use super::*;
use crate::filemap::{AddressSpaceOps, Mapping, MemoryOps, WritebackControl};
use crate::folio_lock::FolioGuard;
use crate::iov::{Direction, IovIter};
use crate::vma::{MmapSetup, VmFile, VmFileId};
use abi::raw::{PROT_READ, PROT_WRITE};
use abi::{Errno, Result};
use proptest::prelude::*;
use std::sync::Mutex;

/// A disk in a vector.
#[derive(Default)]
pub struct Disk {
    pub bytes: Mutex<Vec<u8>>,
    pub reads: Mutex<usize>,
}

impl AddressSpaceOps for Disk {
    fn read_folio(&self, _mapping: &Mapping, folio: &FolioGuard) -> Result<()> {
        *self.reads.lock().unwrap() += 1;
        let bytes = self.bytes.lock().unwrap();
        let start = (folio.index() as usize * PAGE_SIZE).min(bytes.len());
        let end = (start + PAGE_SIZE).min(bytes.len());
        folio.zero(0..PAGE_SIZE);
        folio.folio().copy_in(0, &bytes[start..end]).unwrap();
        folio.mark_uptodate();
        Ok(())
    }
    fn write_folios(&self, mapping: &Mapping, control: &mut WritebackControl) -> Result<()> {
        let mut folios = mapping.dirty_folios(control);
        while let Some(folio) = folios.next() {
            let mut bytes = self.bytes.lock().unwrap();
            let start = folio.index() as usize * PAGE_SIZE;
            let end = (start + PAGE_SIZE).min(mapping.size() as usize);
            if start >= end {
                mapping.skip(&folio);
                continue;
            }
            let _writeback = mapping.start_io(&folio);
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            folio.folio().copy_out(0, &mut bytes[start..end]).unwrap();
        }
        Ok(())
    }
}

pub struct TestFile {
    pub mapping: Arc<Mapping>,
    pub writable: bool,
}

impl VmFile for TestFile {
    fn mapping(&self) -> Option<Arc<Mapping>> {
        Some(self.mapping.clone())
    }
    fn readable(&self) -> bool {
        true
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn mmap(&self, _setup: &mut MmapSetup) -> Result<()> {
        Ok(())
    }
    fn id(&self) -> VmFileId {
        VmFileId { major: 8, minor: 1, ino: 42 }
    }
    fn write_path(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        out.write_str("/test")
    }
    fn sync_range(&self, range: core::ops::Range<u64>) -> Result<()> {
        self.mapping.write_back(range)
    }
    fn as_any(self: Arc<Self>) -> Arc<dyn core::any::Any + Send + Sync> {
        self
    }
}

pub fn memory_file(size: u64) -> Arc<Mapping> {
    Arc::new(Mapping::new(Arc::new(MemoryOps), size))
}

pub fn disk_file(bytes: Vec<u8>) -> (Arc<Mapping>, Arc<Disk>) {
    let size = bytes.len() as u64;
    let disk = Arc::new(Disk { bytes: Mutex::new(bytes), reads: Mutex::new(0) });
    (Arc::new(Mapping::new(disk.clone(), size)), disk)
}

pub fn map_file(
    space: &AddressSpace,
    mapping: &Arc<Mapping>,
    addr: usize,
    pages: usize,
    prot: u32,
    flags: u32,
    writable: bool,
) -> Result<usize> {
    let file = Arc::new(TestFile { mapping: mapping.clone(), writable });
    space.mmap(&MmapRequest {
        addr,
        len: pages * PAGE_SIZE,
        prot,
        flags,
        file: Some(file),
        offset: 0,
        limits: &Limits::NONE,
    })
}

fn read_at(mapping: &Mapping, pos: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut iter = IovIter::dest(&mut out);
    let got = mapping.read(&mut iter, pos).unwrap();
    out.truncate(got);
    out
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, usize, u8),
    Read(u64, usize),
    Truncate(u64),
    Punch(u64, u64),
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    let pos = 0..40_000u64;
    prop_oneof![
        4 => (pos.clone(), 1..10_000usize, any::<u8>()).prop_map(|(p, l, b)| Op::Write(p, l, b)),
        3 => (pos.clone(), 1..10_000usize).prop_map(|(p, l)| Op::Read(p, l)),
        1 => pos.clone().prop_map(Op::Truncate),
        1 => (pos, 1..20_000u64).prop_map(|(p, l)| Op::Punch(p, l)),
        1 => Just(Op::Evict),
    ]
}

fn run(mapping: &Mapping, ops: &[Op], holes: bool) {
    let mut model: Vec<u8> = Vec::new();
    for op in ops {
        match *op {
            Op::Write(pos, len, byte) => {
                let bytes: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                assert_eq!(mapping.write(&mut IovIter::source(&bytes), pos), Ok(len));
                let (start, end) = (pos as usize, pos as usize + len);
                if model.len() < end {
                    model.resize(end, 0);
                }
                model[start..end].copy_from_slice(&bytes);
            }
            Op::Read(pos, len) => {
                let start = (pos as usize).min(model.len());
                let end = (start + len).min(model.len());
                assert_eq!(read_at(mapping, pos, len), &model[start..end]);
            }
            Op::Truncate(size) => {
                mapping.truncate(size);
                model.resize(size as usize, 0);
            }
            Op::Punch(pos, len) if holes => {
                mapping.punch_hole(pos..pos + len);
                let start = (pos as usize).min(model.len());
                let end = (start + len as usize).min(model.len());
                model[start..end].fill(0);
            }
            Op::Punch(..) => {}
            Op::Evict => {
                mapping.write_back(0..u64::MAX).unwrap();
                mapping.invalidate(0..u64::MAX / PAGE_SIZE as u64);
            }
        }
        assert_eq!(mapping.size(), model.len() as u64);
    }
    assert_eq!(read_at(mapping, 0, model.len() + 1), model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn memory_objects_behave_like_bytes(ops in prop::collection::vec(op(), 1..60)) {
        let _serial = super::serial();
        drop(space());
        run(&memory_file(0), &ops, true);
    }

    #[test]
    fn files_behave_like_bytes(ops in prop::collection::vec(op(), 1..60)) {
        let _serial = super::serial();
        drop(space());
        let (mapping, disk) = disk_file(Vec::new());
        // The disk forgets what was cut off, as a file system does.
        let mut growing = Vec::new();
        for op in ops {
            if let Op::Truncate(size) = op {
                run_segment(&mapping, &disk, size);
                continue;
            }
            growing.push(op);
        }
        mapping.truncate(0);
        disk.bytes.lock().unwrap().clear();
        run(&mapping, &growing, false);
    }
}

fn run_segment(mapping: &Mapping, disk: &Disk, size: u64) {
    mapping.truncate(size);
    disk.bytes.lock().unwrap().truncate(size as usize);
}

const AT: usize = 0x6000_0000_0000;

#[test]
fn private_and_shared_mappings() {
    let _serial = super::serial();
    let s = space();
    let (mapping, disk) = disk_file((0..5 * PAGE_SIZE - 100).map(|i| (i / PAGE_SIZE) as u8 + 1).collect());
    let private = map_file(&s, &mapping, AT, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE, false).unwrap();
    let shared = map_file(&s, &mapping, AT + 0x10000, 5, PROT_READ | PROT_WRITE, MAP_SHARED, true).unwrap();
    assert_eq!(map_file(&s, &mapping, 0, 1, PROT_READ | PROT_WRITE, MAP_SHARED, false), Err(Errno::EACCES));
    assert_eq!(load(&s, private).unwrap() & 0xff, 1);
    assert_eq!(load(&s, shared + PAGE_SIZE).unwrap() & 0xff, 2);
    // The rest of the last page is zero, the page behind it is not there.
    assert_eq!(load(&s, private + 5 * PAGE_SIZE - 8), Ok(0));
    assert_eq!(load(&s, private + 5 * PAGE_SIZE), Err(FaultError::Bus));
    store(&s, private, 0xaa).unwrap();
    store(&s, shared, 0xbb).unwrap();
    assert_eq!((load(&s, private), load(&s, shared)), (Ok(0xaa), Ok(0xbb)));
    assert_eq!(read_at(&mapping, 0, 1), [0xbb]);
    assert_eq!((s.counters().anon(), mapping.is_writably_mapped()), (1, true));
    // A write through the file shows in the mapping, and msync brings stores to the disk.
    mapping.write(&mut IovIter::source(&[7]), PAGE_SIZE as u64).unwrap();
    assert_eq!(load(&s, shared + PAGE_SIZE).unwrap() & 0xff, 7);
    s.msync(shared, 5 * PAGE_SIZE, abi::raw::MS_SYNC).unwrap();
    assert_eq!(disk.bytes.lock().unwrap()[0], 0xbb);
    // After the write-back the next store is noticed again.
    store(&s, shared, 0xcc).unwrap();
    s.msync(shared, PAGE_SIZE, abi::raw::MS_SYNC).unwrap();
    assert_eq!(disk.bytes.lock().unwrap()[0], 0xcc);
    // Fork copies no file pages, but the private copy.
    let child = s.fork().unwrap();
    assert_eq!((load(&child, private), load(&child, shared)), (Ok(0xaa), Ok(0xcc)));
    // Truncation takes private copies too.
    mapping.truncate(0);
    assert_eq!(load(&s, private), Err(FaultError::Bus));
    assert_eq!(load(&child, shared), Err(FaultError::Bus));
    drop(child);
    s.munmap(AT, 0x20000).unwrap();
    assert!(!mapping.is_mapped() && !mapping.is_writably_mapped());
    assert_eq!(s.counters().rss(), 0);
    mapping.deny_writable().unwrap();
    mapping.set_size(4096);
    assert_eq!(map_file(&s, &mapping, 0, 1, PROT_WRITE, MAP_SHARED, true), Err(Errno::EPERM));
}

#[test]
fn fault_around_maps_what_is_cached() {
    let _serial = super::serial();
    let s = space();
    let (mapping, disk) = disk_file(vec![1; 64 * PAGE_SIZE]);
    let at = map_file(&s, &mapping, AT, 64, PROT_READ, MAP_PRIVATE, false).unwrap();
    read_at(&mapping, 0, 32 * PAGE_SIZE);
    let reads = *disk.reads.lock().unwrap();
    load(&s, at + 3 * PAGE_SIZE).unwrap();
    assert_eq!((s.counters().file(), *disk.reads.lock().unwrap()), (16, reads));
    load(&s, at + 40 * PAGE_SIZE).unwrap();
    assert_eq!((s.counters().file(), *disk.reads.lock().unwrap()), (17, reads + 1));
}

#[test]
fn holes_and_data() {
    let _serial = super::serial();
    drop(space());
    let mapping = memory_file(0);
    mapping.set_size(10 * PAGE_SIZE as u64);
    let page = PAGE_SIZE as u64;
    mapping.write(&mut IovIter::source(&[1]), 3 * page + 5).unwrap();
    assert_eq!((mapping.seek_data(0), mapping.seek_data(4 * page)), (Some(3 * page), None));
    assert_eq!((mapping.seek_hole(0), mapping.seek_hole(3 * page + 7)), (Some(0), Some(4 * page)));
    assert_eq!((mapping.seek_hole(10 * page), mapping.nr_pages()), (None, 1));
    mapping.punch_hole(3 * page..4 * page);
    assert_eq!((mapping.seek_data(0), mapping.nr_pages()), (None, 0));
}

#[test]
fn a_write_from_a_mapping_of_the_same_page() {
    let _serial = super::serial();
    let s = space();
    let mapping = memory_file(2 * PAGE_SIZE as u64);
    mapping.write(&mut IovIter::source(b"source"), 0).unwrap();
    map_file(&s, &mapping, AT, 2, PROT_READ, MAP_SHARED, true).unwrap();
    arch::uaccess::set_user_memory(Some(Arc::new(UserView(s.clone()))));
    let mut iter = IovIter::user(Direction::Source, AT, 6).unwrap();
    assert_eq!(mapping.write(&mut iter, 100), Ok(6));
    assert_eq!(read_at(&mapping, 100, 6), b"source");
    let mut iter = IovIter::user(Direction::Source, AT + 2 * PAGE_SIZE - 3, 6).unwrap();
    assert_eq!(mapping.write(&mut iter, 200), Ok(3));
    let mut iter = IovIter::user(Direction::Source, AT + 3 * PAGE_SIZE, 6).unwrap();
    assert_eq!(mapping.write(&mut iter, 200), Err(Errno::EFAULT));
    arch::uaccess::set_user_memory(None);
}

#[test]
fn shared_validate_refuses_unknown_flags() {
    use abi::raw::{MAP_SHARED_VALIDATE, MAP_SYNC};
    let _serial = super::serial();
    let s = space();
    let mapping = memory_file(PAGE_SIZE as u64);
    let call = |flags| map_file(&s, &mapping, 0, 1, PROT_READ, flags, true);
    assert_eq!(call(MAP_SHARED_VALIDATE | MAP_SYNC), Err(Errno::EOPNOTSUPP));
    assert_eq!(call(MAP_SHARED_VALIDATE | 0x40_0000), Err(Errno::EOPNOTSUPP));
    assert!(call(MAP_SHARED_VALIDATE).is_ok());
    // The old kind passes over what it does not know.
    assert!(call(MAP_SHARED | MAP_SYNC).is_ok());
    mapping.preallocate(0..3 * PAGE_SIZE as u64).unwrap();
    assert_eq!((mapping.nr_pages(), mapping.size()), (3, PAGE_SIZE as u64));
}
