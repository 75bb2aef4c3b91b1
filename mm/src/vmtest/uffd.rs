//! userfaultfds and what page tables tell of pages, as far as nobody has to wait.

use super::*;
use crate::pagemap::scan::{Category, Found, Region, Request};
use crate::pagemap::{Frames, Refs};
use crate::uffd::{Context, Fill, Guarded, Holes, Mode, Protection, check_range, check_source};
use crate::vma::VmFlags;
use abi::Errno;
use abi::raw::{PROT_READ, PROT_WRITE, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_UNPOPULATED};

const AT: usize = 0x5000_0000_0000;
const RW: u32 = PROT_READ | PROT_WRITE;

fn context(space: &Arc<AddressSpace>, features: u32) -> Arc<Context> {
    space.get_user();
    let context = Context::new(space, Mode::Full, || 1).unwrap();
    assert!(!context.is_agreed());
    context.agree(u64::from(features)).unwrap();
    assert_eq!(context.agree(0), Err(Errno::EINVAL));
    context
}

fn page(number: usize) -> usize {
    AT + number * PAGE_SIZE
}

#[test]
fn ranges() {
    assert_eq!(check_range(AT as u64, 4096), Ok(AT..AT + 4096));
    for (start, len) in
        [(AT as u64 + 1, 4096), (AT as u64, 0), (AT as u64, 100), (0, 4096), (u64::MAX - 4095, 4096)]
    {
        assert_eq!(check_range(start, len), Err(Errno::EINVAL), "{start:#x} {len}");
    }
    assert_eq!(check_range(AT as u64, !4095), Err(Errno::EINVAL));
    assert_eq!(check_source(AT as u64 + 1, 4096), Ok(AT + 1..AT + 4097));
    assert_eq!(check_source(u64::MAX - 10, 4096), Err(Errno::EINVAL));
}

#[test]
fn pages_are_put_where_none_are() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 8, RW, false);
    store(&s, page(3), 5).unwrap();
    let context = context(&s, 0);
    context.register(page(0)..page(8), VmFlags::UFFD_MISSING).unwrap();
    assert_eq!(context.fill(page(0)..page(8), Fill::Zero, Guarded::No), Ok(3 * PAGE_SIZE));
    assert_eq!(context.fill(page(3)..page(4), Fill::Zero, Guarded::No), Err(Errno::EEXIST));
    assert_eq!(context.fill(page(4)..page(5), Fill::Zero, Guarded::Yes), Err(Errno::EINVAL));
    assert_eq!(context.fill(page(4)..page(9), Fill::Zero, Guarded::No), Err(Errno::ENOENT));
    assert_eq!(context.fill(page(4)..page(5), Fill::Poison, Guarded::No), Ok(PAGE_SIZE));
    assert_eq!(load(&s, page(4)), Err(FaultError::Poisoned));
    assert_eq!((load(&s, page(0)), load(&s, page(3))), (Ok(0), Ok(5)));
    store(&s, page(0), 9).unwrap();
    assert_eq!(context.relocate(page(5), page(0), PAGE_SIZE, Holes::Refused), Ok(PAGE_SIZE));
    assert_eq!(context.relocate(page(6), page(7), PAGE_SIZE, Holes::Refused), Err(Errno::ENOENT));
    assert_eq!(load(&s, page(5)), Ok(9));
    context.unregister(page(0)..page(8)).unwrap();
    assert_eq!((load(&s, page(0)), load(&s, page(7))), (Ok(0), Ok(0)));
    assert_eq!(s.map_count(), 1);
    s.put_user();
    assert_eq!(context.fill(page(0)..page(1), Fill::Zero, Guarded::No).err(), Some(Errno::ESRCH));
}

#[test]
fn stores_are_found_by_a_scan() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 1030, RW, false);
    let context = context(&s, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
    store(&s, page(1), 1).unwrap();
    context.register(page(0)..page(1030), VmFlags::UFFD_WP).unwrap();
    context.protect(page(0)..page(1030), Protection::On).unwrap();
    let request = Request {
        inverted: Category::empty(),
        all: Category::WRITTEN,
        any: Category::empty(),
        report: Category::WRITTEN,
        protect: true,
        insist: true,
        max_pages: u64::MAX,
    };
    let scan = |from: usize, room: usize| {
        let mut found = Found::new(Some(room)).unwrap();
        let stop = s.scan_pages(page(from)..page(1030), &request, &mut found).unwrap();
        (found.regions, stop)
    };
    assert_eq!(scan(0, 8), (Vec::new(), None));
    for number in [1, 2, 7, 600, 1029] {
        store(&s, page(number), 3).unwrap();
    }
    let region =
        |from: usize, to: usize| Region { start: page(from), end: page(to), categories: Category::WRITTEN };
    assert_eq!(scan(0, 2), (vec![region(1, 3), region(7, 8)], Some(page(600))));
    assert_eq!(scan(0, 8), (vec![region(600, 601), region(1029, 1030)], None));
    assert_eq!(scan(0, 8), (Vec::new(), None));
    assert_eq!(load(&s, page(600)), Ok(3));
    context.release();
    store(&s, page(600), 4).unwrap();
    s.put_user();
}

#[test]
fn soft_dirty_marks() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 4, RW, false);
    store(&s, page(0), 1).unwrap();
    let dirty = || {
        let mut words = [0; 4];
        assert_eq!(s.pagemap(AT, Frames::Hidden, &mut words), 4);
        words.map(|word| word >> 55 & 1)
    };
    assert_eq!(dirty(), [1; 4]);
    s.clear_refs(Refs::SoftDirty);
    assert_eq!(load(&s, page(0)), Ok(1));
    assert_eq!(dirty(), [0; 4]);
    store(&s, page(0), 2).unwrap();
    store(&s, page(2), 2).unwrap();
    assert_eq!(dirty(), [1, 0, 1, 0]);
}
