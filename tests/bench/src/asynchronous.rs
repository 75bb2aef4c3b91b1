//! Asynchronous calls: io_uring and native AIO.

use crate::files::open;
use crate::measure::Rows;
use crate::sys::must;
use libc::{MAP_POPULATE, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE};
use std::sync::atomic::{AtomicU32, Ordering};

/// Submissions of one call in a batch.
const BATCH: u32 = 32;

/// A ring, mapped: words and entries by their offsets.
struct Ring {
    fd: usize,
    rings: usize,
    sqes: usize,
    offsets: [u32; 30],
    tail: u32,
}

impl Ring {
    fn new(entries: u32) -> Ring {
        let mut params = [0_u32; 30];
        let fd = must!(SYS_io_uring_setup, entries, params.as_mut_ptr());
        let (prot, flags) = (PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE);
        let len = params[16] + 4 * entries + params[25] + 16 * params[1];
        let rings = must!(SYS_mmap, 0, len, prot, flags, fd, 0);
        let sqes = must!(SYS_mmap, 0, 64 * entries, prot, flags, fd, 0x1000_0000);
        Ring { fd, rings, sqes, offsets: params, tail: 0 }
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: an aligned offset that the kernel gave, inside a mapping that is never removed.
        unsafe { &*((self.rings + offset as usize) as *const AtomicU32) }
    }

    /// Puts the first words of a submission into the ring.
    fn push(&mut self, words: [u64; 5]) {
        let slot = (self.tail % BATCH) as usize;
        let mut entry = [0_u64; 8];
        entry[..5].copy_from_slice(&words);
        // SAFETY: the slot lies in the mapping of the submissions, which has room for a batch.
        unsafe { std::ptr::write_volatile((self.sqes + 64 * slot) as *mut [u64; 8], entry) };
        self.word(self.offsets[16] + 4 * slot as u32).store(slot as u32, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        self.word(self.offsets[11]).store(self.tail, Ordering::Release);
    }

    /// Submits `count`, waits for them and consumes them.
    fn run(&self, count: u32) {
        must!(SYS_io_uring_enter, self.fd, count, count, 1, 0, 0);
        let done = self.word(self.offsets[21]).load(Ordering::Acquire);
        self.word(self.offsets[20]).store(done, Ordering::Release);
    }
}

/// Runs the rows.
pub fn run(rows: &Rows) {
    if ["uring_nop", "uring_nop_32", "uring_read_4k", "uring_read_4k_32"].iter().any(|row| rows.wants(row)) {
        uring(rows);
    }
    if rows.wants("aio_read_4k") {
        aio(rows);
    }
}

fn uring(rows: &Rows) {
    let mut ring = Ring::new(BATCH);
    let mut page = vec![0_u8; 4096];
    let file = open(c"/tmp/file", O_RDWR | O_CREAT);
    let buffer = page.as_mut_ptr();
    must!(SYS_write, file, buffer, 4096);
    let nop = [0; 5];
    // Opcode and descriptor, offset, address, length.
    let read = [22 | (file as u64) << 32, 0, buffer as u64, 4096, 0];
    for (label, words) in [("nop", nop), ("read_4k", read)] {
        rows.each(&format!("uring_{label}"), || {
            ring.push(words);
            ring.run(1);
        });
        let batches = |count: u64| {
            let start = crate::sys::now();
            for _ in 0..count {
                for _ in 0..BATCH {
                    ring.push(words);
                }
                ring.run(BATCH);
            }
            crate::sys::now() - start
        };
        rows.batches(&format!("uring_{label}_32"), u64::from(BATCH), batches);
    }
    must!(SYS_close, file);
    must!(SYS_close, ring.fd);
}

fn aio(rows: &Rows) {
    let mut context = 0_usize;
    must!(SYS_io_setup, 8, &raw mut context);
    let mut page = vec![0_u8; 4096];
    let file = open(c"/tmp/file", O_RDWR | O_CREAT);
    let buffer = page.as_mut_ptr();
    must!(SYS_write, file, buffer, 4096);
    // data, key, opcode and descriptor, buffer, length, offset, flags.
    let iocb = [0, 0, (file as u64) << 32, buffer as u64, 4096, 0, 0, 0_u64];
    let list = [iocb.as_ptr()];
    let mut event = [0_u64; 4];
    rows.each("aio_read_4k", || {
        must!(SYS_io_submit, context, 1, list.as_ptr());
        must!(SYS_io_getevents, context, 1, 1, event.as_mut_ptr(), 0);
    });
    must!(SYS_io_destroy, context);
    must!(SYS_close, file);
}
