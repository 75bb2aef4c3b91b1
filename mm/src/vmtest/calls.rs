//! Single calls: error precedence and effects that the model does not reach.

use super::*;
use crate::remote::{FutexKey, RemoteBuf, RemoteMode};
use crate::vma::STACK_GUARD_GAP;
use abi::Errno;
use abi::raw::*;
use core::sync::atomic::Ordering;

const AT: usize = 0x5000_0000_0000;
const RW: u32 = PROT_READ | PROT_WRITE;

#[test]
fn mmap_errors() {
    let _serial = super::serial();
    let s = space();
    let anon = MAP_PRIVATE | MAP_ANONYMOUS;
    let call = |addr, len, prot, flags, offset| {
        s.mmap(&MmapRequest { addr, len, prot, flags, file: None, offset, limits: &Limits::NONE })
    };
    assert_eq!(call(0, 0, RW, anon, 0), Err(Errno::EINVAL));
    assert_eq!(call(0, 4096, RW, anon, 1), Err(Errno::EINVAL));
    assert_eq!(call(0, 4096, RW, MAP_ANONYMOUS, 0), Err(Errno::EINVAL));
    assert_eq!(call(0, usize::MAX, RW, anon, 0), Err(Errno::ENOMEM));
    assert_eq!(call(AT + 1, 4096, RW, anon | MAP_FIXED, 0), Err(Errno::EINVAL));
    assert_eq!(call(0, 4096, RW, anon | MAP_HUGETLB, 0), Err(Errno::ENOMEM));
    assert_eq!(call(AT, 4096, RW, anon | MAP_FIXED, 0), Ok(AT));
    assert_eq!(call(AT, 4096, RW, anon | MAP_FIXED_NOREPLACE, 0), Err(Errno::EEXIST));
    // A hint that is taken moves elsewhere.
    assert_ne!(call(AT, 4096, RW, anon, 0), Ok(AT));
    let low = Limits { can_map_low: false, ..Limits::NONE };
    let request = MmapRequest {
        addr: 4096,
        len: 4096,
        prot: RW,
        flags: anon | MAP_FIXED,
        file: None,
        offset: 0,
        limits: &low,
    };
    assert_eq!(s.mmap(&request), Err(Errno::EPERM));
    let small = Limits { address_space: 8192, ..Limits::NONE };
    let request =
        MmapRequest { addr: 0, len: 1 << 20, prot: RW, flags: anon, file: None, offset: 0, limits: &small };
    assert_eq!(s.mmap(&request), Err(Errno::ENOMEM));
}

#[test]
fn top_down_placement_merges() {
    let _serial = super::serial();
    let s = space();
    let first = map(&s, 0, 4, RW, MAP_PRIVATE | MAP_ANONYMOUS).unwrap();
    let second = map(&s, 0, 4, RW, MAP_PRIVATE | MAP_ANONYMOUS).unwrap();
    assert_eq!(second + 4 * PAGE_SIZE, first);
    assert_eq!(s.map_count(), 1);
    s.mprotect(second + PAGE_SIZE, PAGE_SIZE, PROT_READ, &Limits::NONE).unwrap();
    assert_eq!(s.map_count(), 3);
    s.mprotect(second + PAGE_SIZE, PAGE_SIZE, RW, &Limits::NONE).unwrap();
    assert_eq!(s.map_count(), 1);
}

#[test]
fn munmap_and_mprotect_errors() {
    let _serial = super::serial();
    let s = space();
    assert_eq!(s.munmap(1, 4096), Err(Errno::EINVAL));
    assert_eq!(s.munmap(AT, 0), Err(Errno::EINVAL));
    assert_eq!(s.munmap(AT, 4096), Ok(()));
    assert_eq!(s.mprotect(AT, 4096, RW, &Limits::NONE), Err(Errno::ENOMEM));
    assert_eq!(s.mprotect(AT, 0, RW, &Limits::NONE), Ok(()));
    assert_eq!(s.mprotect(AT + 1, 0, RW, &Limits::NONE), Err(Errno::EINVAL));
    assert_eq!(s.mprotect(AT, 4096, 0x100, &Limits::NONE), Err(Errno::EINVAL));
    map_fixed(&s, AT, 4, RW, false);
    assert_eq!(s.mprotect(AT, 4096, RW | PROT_GROWSDOWN, &Limits::NONE), Err(Errno::EINVAL));
}

#[test]
fn mremap_modes() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 4, RW, false);
    for page in 0..4 {
        store(&s, AT + page * PAGE_SIZE, 10 + page as u64).unwrap();
    }
    let call = |addr, old, new, flags, to| {
        s.mremap(addr, old * PAGE_SIZE, new * PAGE_SIZE, flags, to, &Limits::NONE)
    };
    assert_eq!(call(AT, 4, 4, 8, 0), Err(Errno::EINVAL));
    assert_eq!(call(AT, 4, 4, MREMAP_FIXED, AT), Err(Errno::EINVAL));
    assert_eq!(call(AT, 4, 0, 0, 0), Err(Errno::EINVAL));
    assert_eq!(call(AT - PAGE_SIZE, 1, 2, 0, 0), Err(Errno::EFAULT));
    assert_eq!(call(AT, 5, 8, 0, 0), Err(Errno::EFAULT));
    assert_eq!(call(AT, 0, 8, MREMAP_MAYMOVE, 0), Err(Errno::EINVAL));
    map_fixed(&s, AT + 4 * PAGE_SIZE, 1, PROT_READ, false);
    assert_eq!(call(AT, 4, 8, 0, 0), Err(Errno::ENOMEM));
    let moved = call(AT, 4, 8, MREMAP_MAYMOVE, 0).unwrap();
    assert_eq!(load(&s, AT), Err(FaultError::NotMapped));
    for page in 0..8 {
        let expect = if page < 4 { 10 + page as u64 } else { 0 };
        assert_eq!(load(&s, moved + page * PAGE_SIZE), Ok(expect));
    }
    let kept = call(moved, 8, 8, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0).unwrap();
    assert_eq!(load(&s, kept), Ok(10));
    assert_eq!(load(&s, moved), Ok(0));
    assert_eq!(call(kept, 8, 2, 0, 0), Ok(kept));
    assert_eq!(load(&s, kept + 2 * PAGE_SIZE), Err(FaultError::NotMapped));
}

#[test]
fn heap_grows_and_shrinks() {
    let _serial = super::serial();
    let s = space();
    s.layout.start_brk.store(AT + 100, Ordering::Relaxed);
    s.layout.brk.store(AT + 100, Ordering::Relaxed);
    let limits = Limits { data: 1 << 20, ..Limits::NONE };
    assert_eq!(s.brk(0, &limits), AT + 100);
    assert_eq!(s.brk(AT + 10_000, &limits), AT + 10_000);
    store(&s, AT + 8192, 5).unwrap();
    assert_eq!(s.brk(AT + (2 << 20), &limits), AT + 10_000);
    assert_eq!(s.brk(AT + 20_000, &limits), AT + 20_000);
    assert_eq!(s.map_count(), 1);
    assert_eq!(s.brk(AT + 4097, &limits), AT + 4097);
    assert_eq!(load(&s, AT + 8192), Err(FaultError::NotMapped));
}

#[test]
fn stack_grows_to_its_limit_and_keeps_its_distance() {
    let _serial = super::serial();
    let s = space();
    let top = AT + (64 << 20);
    s.map_anonymous(top - 4 * PAGE_SIZE..top, RW, crate::mmap::StackKind::GrowsDown, &Limits::NONE).unwrap();
    store(&s, top - (1 << 20), 1).unwrap();
    assert_eq!(load(&s, top - (1 << 20) - PAGE_SIZE), Ok(0));
    // The limit of the test processor is 8 MiB.
    assert_eq!(store(&s, top - (9 << 20), 1), Err(FaultError::NotMapped));
    let below = top - (4 << 20);
    map_fixed(&s, below - PAGE_SIZE, 1, RW, false);
    assert_eq!(store(&s, below + STACK_GUARD_GAP - PAGE_SIZE, 1), Err(FaultError::NotMapped));
    assert_eq!(store(&s, below + STACK_GUARD_GAP, 1), Ok(()));
}

#[test]
fn madvise_errors_and_effects() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 4, RW, false);
    assert_eq!(s.madvise(AT, 4096, 999), Err(Errno::EINVAL));
    assert_eq!(s.madvise(AT, 4096, MADV_MERGEABLE), Err(Errno::EINVAL));
    assert_eq!(s.madvise(AT + 1, 4096, MADV_NORMAL), Err(Errno::EINVAL));
    assert_eq!(s.madvise(AT, 0, MADV_DONTNEED), Ok(()));
    assert_eq!(s.madvise(AT, 5 * 4096, MADV_DONTNEED), Err(Errno::ENOMEM));
    assert_eq!(s.madvise(AT, 4096, MADV_REMOVE), Err(Errno::EINVAL));
    s.mlock(AT, 4096, 0, &Limits::NONE).unwrap();
    assert_eq!(s.madvise(AT, 4096, MADV_DONTNEED), Err(Errno::EINVAL));
    s.munlock(AT, 4096).unwrap();
    store(&s, AT, 9).unwrap();
    s.madvise(AT, 2 * 4096, MADV_WIPEONFORK).unwrap();
    s.madvise(AT + 2 * 4096, 4096, MADV_DONTFORK).unwrap();
    let child = s.fork().unwrap();
    assert_eq!(load(&child, AT), Ok(0));
    assert_eq!(load(&child, AT + 2 * 4096), Err(FaultError::NotMapped));
    assert_eq!(load(&s, AT), Ok(9));
    s.madvise(AT, 4 * 4096, MADV_POPULATE_WRITE).unwrap();
    assert_eq!(s.counters().anon(), 4);
}

#[test]
fn mincore_and_msync() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 4, RW, false);
    store(&s, AT + 4096, 1).unwrap();
    let mut bytes = Vec::new();
    s.mincore(AT, 4 * 4096, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes, [0, 1, 0, 0]);
    assert_eq!(s.mincore(AT, 5 * 4096, &mut |_| Ok(())), Err(Errno::ENOMEM));
    assert_eq!(s.mincore(AT + 1, 4096, &mut |_| Ok(())), Err(Errno::EINVAL));
    assert_eq!(s.msync(AT, 4096, MS_SYNC | MS_ASYNC), Err(Errno::EINVAL));
    assert_eq!(s.msync(AT, 4096, MS_SYNC), Ok(()));
    assert_eq!(s.msync(AT, 5 * 4096, MS_SYNC), Err(Errno::ENOMEM));
}

#[test]
fn lock_limits() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 8, RW, false);
    let poor = Limits { memlock: 4 * PAGE_SIZE, can_lock: false, ..Limits::NONE };
    assert_eq!(s.mlock(AT, 5 * PAGE_SIZE, 0, &poor), Err(Errno::ENOMEM));
    assert_eq!(s.mlock(AT, 4 * PAGE_SIZE, 0, &poor), Ok(()));
    assert_eq!(s.mlock(AT, 4 * PAGE_SIZE, 0, &poor), Ok(()));
    assert_eq!(s.mlock(AT + 4 * PAGE_SIZE, 1, 0, &poor), Err(Errno::ENOMEM));
    assert_eq!(s.mlock(AT, 1, 2, &poor), Err(Errno::EINVAL));
    let none = Limits { memlock: 0, ..poor };
    assert_eq!(s.mlock(AT, 1, 0, &none), Err(Errno::EPERM));
    assert_eq!(s.mlockall(0, &poor), Err(Errno::EINVAL));
    assert_eq!(s.mlockall(MCL_CURRENT, &poor), Err(Errno::ENOMEM));
    s.munlockall().unwrap();
    assert_eq!(s.counters().locked_vm(), 0);
    s.mlockall(MCL_FUTURE, &Limits::NONE).unwrap();
    let addr = map(&s, 0, 2, RW, MAP_PRIVATE | MAP_ANONYMOUS).unwrap();
    assert_eq!((s.counters().locked_vm(), s.counters().anon()), (2, 6));
    assert_eq!(s.munmap(addr, 2 * PAGE_SIZE), Ok(()));
}

#[test]
fn debugger_access_breaks_cow_and_ignores_protection() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 2, RW, false);
    store(&s, AT, 0x1111).unwrap();
    let child = s.fork().unwrap();
    child.mprotect(AT, 2 * PAGE_SIZE, PROT_READ, &Limits::NONE).unwrap();
    let mut word = [0u8; 8];
    assert_eq!(child.access_remote(AT, RemoteBuf::Read(&mut word), RemoteMode::Plain), 8);
    assert_eq!(u64::from_le_bytes(word), 0x1111);
    let new = 0x2222u64.to_le_bytes();
    assert_eq!(child.access_remote(AT, RemoteBuf::Write(&new), RemoteMode::Plain), 0);
    assert_eq!(child.access_remote(AT, RemoteBuf::Write(&new), RemoteMode::Force), 8);
    assert_eq!((load(&child, AT), load(&s, AT)), (Ok(0x2222), Ok(0x1111)));
    assert_eq!(store(&child, AT, 1), Err(FaultError::Forbidden));
    // Across a page border, to the end of the area.
    let mut long = [0u8; 8192];
    assert_eq!(s.access_remote(AT + 4096, RemoteBuf::Read(&mut long), RemoteMode::Plain), 4096);
}

#[test]
fn futex_keys() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 1, RW, false);
    map_fixed(&s, AT + 0x10000, 1, RW, true);
    let child = s.fork().unwrap();
    assert_eq!(s.futex_key(AT + 1, false), Err(Errno::EINVAL));
    assert_eq!(s.futex_key(AT + 0x20000, true), Err(Errno::EFAULT));
    assert_eq!(s.futex_key(AT + 8, true), Ok(FutexKey::Private(s.id(), AT + 8)));
    assert_ne!(s.futex_key(AT + 8, true), child.futex_key(AT + 8, true));
    assert_eq!(s.futex_key(AT + 0x10008, true), child.futex_key(AT + 0x10008, true));
    assert!(matches!(s.futex_key(AT + 0x10008, true), Ok(FutexKey::Shared(..))));
}

#[test]
fn user_pointers_and_iovecs() {
    let _serial = super::serial();
    use crate::iov::{Direction, import_iovec};
    use crate::user::{UserPtr, UserSlice, UserStr};
    let s = space();
    map_fixed(&s, AT, 2, RW, false);
    arch::uaccess::set_user_memory(Some(Arc::new(UserView(s.clone()))));
    UserPtr::<u64>::new(AT).write(&42).unwrap();
    assert_eq!(UserPtr::<u64>::new(AT).read(), Ok(42));
    assert_eq!(UserPtr::<u64>::new(AT + 2 * PAGE_SIZE).read(), Err(Errno::EFAULT));
    UserSlice::<u8>::new(AT + 100, 6).copy_from(b"hello\0").unwrap();
    assert_eq!(UserStr::new(AT + 100).read_path().unwrap(), b"hello");
    let mut small = [0; 5];
    assert_eq!(UserStr::new(AT + 100).read_into(&mut small, Errno::ENAMETOOLONG), Err(Errno::ENAMETOOLONG));
    // Three segments, the last beyond the mapping.
    let segments: [usize; 6] = [AT + 200, 3, AT + 300, 0, AT + 2 * PAGE_SIZE - 2, 4];
    UserSlice::<usize>::new(AT + 1000, 6).copy_from(&segments).unwrap();
    let mut iter = import_iovec(Direction::Dest, AT + 1000, 3).unwrap();
    assert_eq!(iter.count(), 7);
    assert_eq!(iter.copy_to_iter(b"abcdefg"), 5);
    assert_eq!(iter.count(), 2);
    assert_eq!(UserSlice::<u8>::new(AT + 200, 3).to_vec().unwrap(), b"abc");
    assert_eq!(UserSlice::<u8>::new(AT + 2 * PAGE_SIZE - 2, 2).to_vec().unwrap(), b"de");
    iter.unwind(4);
    assert_eq!(iter.count(), 6);
    assert!(matches!(import_iovec(Direction::Dest, AT + 1000, 1025), Err(Errno::EINVAL)));
    UserSlice::<usize>::new(AT + 1000, 2).copy_from(&[AT, usize::MAX]).unwrap();
    assert!(matches!(import_iovec(Direction::Dest, AT + 1000, 1), Err(Errno::EINVAL)));
    arch::uaccess::set_user_memory(None);
}

#[test]
fn special_mappings() {
    use crate::vma::SpecialMapping;
    let _serial = super::serial();
    let s = space();
    let page = |name| {
        let frame = crate::alloc_page(crate::Gfp::KERNEL | crate::Gfp::ZERO).unwrap();
        Arc::new(SpecialMapping { name, pages: vec![frame.into_raw()], time_page: None })
    };
    let parts = [(page("[vvar]"), PROT_READ), (page("[vdso]"), PROT_READ | PROT_EXEC)];
    let at = s.install_specials(&parts, AT, &Limits::NONE).unwrap();
    assert_eq!(at, AT);
    assert_eq!((load(&s, AT), store(&s, AT, 1)), (Ok(0), Err(FaultError::Forbidden)));
    assert!(access(&s, AT + PAGE_SIZE, Access::Exec).is_ok());
    let child = s.fork().unwrap();
    assert_eq!(load(&child, AT + PAGE_SIZE), Ok(0));
    let mut names = Vec::new();
    child.for_each_area(0, &mut |area| {
        let mut name = String::new();
        area.write_name(&mut name).unwrap();
        names.push((name, String::from_utf8(area.perms().to_vec()).unwrap()));
        true
    });
    assert_eq!(names, [("[vvar]".into(), "r--p".into()), ("[vdso]".into(), "r-xp".into())]);
    assert_eq!(s.mprotect(AT, PAGE_SIZE, RW, &Limits::NONE), Err(Errno::EACCES));
    assert_eq!((s.counters().rss(), child.counters().rss()), (0, 0));
    // Code may be patched, in a copy; the frame itself stays as it is.
    let code = AT + PAGE_SIZE;
    assert_eq!(store(&s, code, 1), Err(FaultError::Forbidden));
    assert_eq!(s.access_remote(code, RemoteBuf::Write(&[7]), RemoteMode::Force), 1);
    assert_eq!(s.access_remote(AT, RemoteBuf::Write(&[7]), RemoteMode::Force), 0);
    assert_eq!((load(&s, code), load(&child, code)), (Ok(7), Ok(0)));
    assert_eq!(s.mprotect(code, PAGE_SIZE, RW, &Limits::NONE), Ok(()));
    assert_eq!((store(&s, code, 8), load(&s, code)), (Ok(()), Ok(8)));
    let second = s.fork().unwrap();
    assert_eq!((load(&second, code), s.counters().rss()), (Ok(8), 1));
    assert_eq!(s.munmap(AT, PAGE_SIZE), Ok(()));
}
