//! What operations cost when every CPU makes them at the same time.
//!
//! Each CPU has one worker, bound to it. A row counts the instructions of all CPUs together, per operation: what a kernel spends on waiting
//! for locks and on interrupts between CPUs is in it, sleep is not. Rows end with the number of CPUs.

use crate::measure::Rows;
use crate::process::fork;
use crate::sys::{self, call, must};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE};
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const PAGE: usize = 4096;
/// Pages that a fault row touches in one operation.
const PAGES: usize = 256;

/// What the first process tells the workers; in memory that all share.
struct Control {
    /// Counts up with each batch.
    generation: AtomicU32,
    /// Workers that are done with it.
    done: AtomicU32,
    /// Operations per worker; 0: end.
    count: AtomicU64,
}

/// What a worker's operations are: the number of its CPU, and how many to make.
type Work<'a> = &'a (dyn Fn(usize, u64) + Sync);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Threads,
    Processes,
}

fn futex_wait(word: &AtomicU32, value: u32) {
    call!(SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, 0);
}

fn futex_wake(word: &AtomicU32) {
    must!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
}

fn control() -> &'static Control {
    let at = must!(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, usize::MAX, 0);
    // SAFETY: a fresh page of zeros, which is a valid value, and which is never unmapped.
    unsafe { &*(at as *const Control) }
}

fn worker(control: &Control, cpu: usize, cpus: u32, work: Work<'_>) {
    let mask = 1_u64 << cpu;
    must!(SYS_sched_setaffinity, 0, 8, &raw const mask);
    let mut seen = 0;
    loop {
        while control.generation.load(Ordering::Acquire) == seen {
            futex_wait(&control.generation, seen);
        }
        seen = control.generation.load(Ordering::Acquire);
        let count = control.count.load(Ordering::Relaxed);
        if count != 0 {
            work(cpu, count);
        }
        if control.done.fetch_add(1, Ordering::AcqRel) + 1 == cpus {
            futex_wake(&control.done);
        }
        if count == 0 {
            return;
        }
    }
}

/// Has all workers make `count` operations; what the counter says they took.
fn batch(control: &Control, cpus: u32, count: u64) -> u64 {
    control.count.store(count, Ordering::Relaxed);
    control.done.store(0, Ordering::Relaxed);
    let start = sys::now();
    control.generation.fetch_add(1, Ordering::AcqRel);
    futex_wake(&control.generation);
    loop {
        let done = control.done.load(Ordering::Acquire);
        if done == cpus {
            return sys::now() - start;
        }
        futex_wait(&control.done, done);
    }
}

/// Measures `work`, of which one operation counts as `unit`, on `cpus` CPUs.
fn row(rows: &Rows, name: &str, cpus: u32, kind: Kind, unit: u64, work: Work<'_>) {
    let name = format!("{name}_{cpus}");
    if !rows.wants(&name) {
        return;
    }
    let control = control();
    let measure = || {
        // The first batches wait for the workers to arrive.
        rows.batches(&name, unit * u64::from(cpus), |count| batch(control, cpus, count));
        batch(control, cpus, 0);
    };
    if kind == Kind::Threads {
        std::thread::scope(|scope| {
            for cpu in 0..cpus as usize {
                scope.spawn(move || worker(control, cpu, cpus, work));
            }
            measure();
        });
    } else {
        let children: Vec<_> =
            (0..cpus as usize).map(|cpu| fork(|| worker(control, cpu, cpus, work))).collect();
        measure();
        children.into_iter().for_each(|child| child.wait());
    }
}

/// Runs the rows on `cpus` CPUs.
pub fn run(rows: &Rows, cpus: u32) {
    faults(rows, cpus);
    files(rows, cpus);
    turns(rows, cpus);
    row(rows, "scale_fork", cpus, Kind::Processes, 1, &|_, count| {
        for _ in 0..count {
            fork(|| {}).wait();
        }
    });
}

fn map(length: usize) -> usize {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    must!(SYS_mmap, 0, length, PROT_READ | PROT_WRITE, flags, usize::MAX, 0)
}

fn faults(rows: &Rows, cpus: u32) {
    let areas: Vec<usize> = (0..cpus).map(|_| map(PAGES * PAGE)).collect();
    for area in &areas {
        call!(SYS_madvise, *area, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
    }
    let fault = |cpu: usize, count: u64| {
        for _ in 0..count {
            must!(SYS_madvise, areas[cpu], PAGES * PAGE, libc::MADV_DONTNEED);
            for page in 0..PAGES {
                // SAFETY: the worker's own area.
                unsafe { ((areas[cpu] + page * PAGE) as *mut u8).write_volatile(1) };
            }
        }
    };
    // Threads share the address space, processes the page allocator alone.
    row(rows, "scale_fault", cpus, Kind::Threads, PAGES as u64, &fault);
    row(rows, "scale_fault_processes", cpus, Kind::Processes, PAGES as u64, &fault);
    row(rows, "scale_mmap", cpus, Kind::Threads, 1, &|_, count| {
        for _ in 0..count {
            let at = map(4 * PAGE);
            // SAFETY: just mapped.
            unsafe { (at as *mut u8).write_volatile(1) };
            must!(SYS_munmap, at, 4 * PAGE);
        }
    });
}

fn files(rows: &Rows, cpus: u32) {
    let paths: Vec<CString> =
        (0..cpus).filter_map(|cpu| CString::new(format!("/tmp/scale{cpu}")).ok()).collect();
    for path in &paths {
        let fd = must!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), O_CREAT | O_RDWR, 0o644);
        must!(SYS_close, fd);
    }
    let open_close = |cpu: usize, count: u64| {
        for _ in 0..count {
            let fd = must!(SYS_openat, libc::AT_FDCWD, paths[cpu].as_ptr(), O_RDWR, 0);
            must!(SYS_close, fd);
        }
    };
    row(rows, "scale_open_close", cpus, Kind::Threads, 1, &open_close);
    row(rows, "scale_open_close_processes", cpus, Kind::Processes, 1, &open_close);
    row(rows, "scale_stat_same", cpus, Kind::Processes, 1, &|_, count| {
        // SAFETY: plain old data.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        for _ in 0..count {
            must!(SYS_newfstatat, libc::AT_FDCWD, paths[0].as_ptr(), &raw mut status, 0);
        }
    });
}

/// Pairs of workers on different CPUs that take turns.
fn turns(rows: &Rows, cpus: u32) {
    let words: Vec<AtomicU32> = (0..cpus / 2).map(|_| AtomicU32::new(0)).collect();
    row(rows, "scale_futex", cpus, Kind::Threads, 1, &|cpu, count| {
        let (word, mine) = (&words[cpu / 2], cpu as u32 % 2);
        for _ in 0..count {
            while word.load(Ordering::Acquire) != mine {
                call!(SYS_futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 1 - mine, 0);
            }
            word.store(1 - mine, Ordering::Release);
            must!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
        }
    });
    let pipes: Vec<[i32; 2]> = (0..cpus)
        .map(|_| {
            let mut ends = [0; 2];
            must!(SYS_pipe2, ends.as_mut_ptr(), 0);
            ends
        })
        .collect();
    row(rows, "scale_pipe", cpus, Kind::Processes, 1, &|cpu, count| {
        // Each worker reads from the pipe of its own number, and writes to that of its partner.
        let (own, other) = (pipes[cpu][0], pipes[cpu ^ 1][1]);
        let mut byte = [0_u8];
        for _ in 0..count {
            if cpu % 2 == 0 {
                must!(SYS_write, other, byte.as_ptr(), 1);
            }
            must!(SYS_read, own, byte.as_mut_ptr(), 1);
            if cpu % 2 == 1 {
                must!(SYS_write, other, byte.as_ptr(), 1);
            }
        }
    });
}
