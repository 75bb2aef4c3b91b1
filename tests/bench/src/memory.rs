//! Mappings and page faults.

use crate::files::open;
use crate::measure::Rows;
use crate::process::fork;
use crate::sys::{self, must};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE};

const PAGE: usize = 4096;
/// Pages per mapping of the page fault rows.
const PAGES: usize = 256;

fn map(length: usize, protection: i32, flags: i32, fd: usize) -> usize {
    must!(SYS_mmap, 0, length, protection, flags, fd, 0)
}

fn unmap(address: usize, length: usize) {
    must!(SYS_munmap, address, length);
}

/// Counts touching every page of a mapping, `write` or not.
fn touch(address: usize, write: bool) -> u64 {
    let start = sys::now();
    for page in 0..PAGES {
        let pointer = (address + page * PAGE) as *mut u8;
        // SAFETY: the callers' mapping has PAGES pages with that permission.
        unsafe {
            if write {
                pointer.write_volatile(1);
            } else {
                pointer.read_volatile();
            }
        }
    }
    sys::now() - start
}

/// Runs the rows.
pub fn run(rows: &Rows) {
    faults(rows);
    mappings(rows);
}

fn faults(rows: &Rows) {
    let length = PAGES * PAGE;
    let anonymous = map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, usize::MAX);
    // One page per fault on every kernel. One without huge pages refuses.
    sys::call!(SYS_madvise, anonymous, length, libc::MADV_NOHUGEPAGE);
    let rounds = |count: u64, mut round: Box<dyn FnMut() -> u64 + '_>| (0..count).map(|_| round()).sum();
    rows.batches("fault_anon", PAGES as u64, |count| {
        rounds(
            count,
            Box::new(|| {
                must!(SYS_madvise, anonymous, length, libc::MADV_DONTNEED);
                touch(anonymous, true)
            }),
        )
    });
    rows.batches("fault_zero_page", PAGES as u64, |count| {
        rounds(
            count,
            Box::new(|| {
                must!(SYS_madvise, anonymous, length, libc::MADV_DONTNEED);
                touch(anonymous, false)
            }),
        )
    });
    if rows.wants("fault_cow") {
        touch(anonymous, true);
        let shared = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, usize::MAX);
        rows.batches("fault_cow", PAGES as u64, |count| {
            rounds(
                count,
                Box::new(|| {
                    let result = shared as *mut u64;
                    fork(|| {
                        let spent = touch(anonymous, true);
                        // SAFETY: a page shared with the parent, which reads it after we end.
                        unsafe { result.write_volatile(spent) };
                    })
                    .wait();
                    // SAFETY: the child that wrote it has ended.
                    unsafe { result.read_volatile() }
                }),
            )
        });
        unmap(shared, PAGE);
    }
    unmap(anonymous, length);

    let file = open(c"/tmp/mapped", O_RDWR | O_CREAT);
    let bytes = vec![1u8; length];
    must!(SYS_write, file, bytes.as_ptr(), length);
    for (name, protection, flags, write) in [
        ("fault_file_read", PROT_READ, MAP_PRIVATE, false),
        ("fault_file_cow", PROT_READ | PROT_WRITE, MAP_PRIVATE, true),
        ("fault_file_shared", PROT_READ | PROT_WRITE, MAP_SHARED, true),
    ] {
        rows.batches(name, PAGES as u64, |count| {
            rounds(
                count,
                Box::new(|| {
                    let address = map(length, protection, flags, file);
                    let spent = touch(address, write);
                    unmap(address, length);
                    spent
                }),
            )
        });
    }
    must!(SYS_close, file);
}

fn mappings(rows: &Rows) {
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    rows.each("mmap_munmap", || {
        unmap(map(16 * PAGE, PROT_READ, anonymous, usize::MAX), 16 * PAGE);
    });
    rows.each("mmap_touch_munmap", || {
        let address = map(16 * PAGE, PROT_READ | PROT_WRITE, anonymous, usize::MAX);
        for page in 0..16 {
            // SAFETY: the mapping has sixteen pages.
            unsafe { ((address + page * PAGE) as *mut u8).write_volatile(1) };
        }
        unmap(address, 16 * PAGE);
    });
    // The middle of a mapping, so that it splits and merges.
    let address = map(3 * PAGE, PROT_READ | PROT_WRITE, anonymous, usize::MAX);
    rows.each("mprotect", || {
        must!(SYS_mprotect, address + PAGE, PAGE, PROT_READ);
        must!(SYS_mprotect, address + PAGE, PAGE, PROT_READ | PROT_WRITE);
    });
    unmap(address, 3 * PAGE);
    let now = must!(SYS_brk, 0);
    rows.each("brk", || {
        must!(SYS_brk, now + PAGE);
        must!(SYS_brk, now);
    });
}
