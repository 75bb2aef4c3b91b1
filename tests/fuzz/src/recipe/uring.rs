//! Rings: `io_uring(7)`, `io_setup(2)`.

use super::Cook;

/// Bytes of a submission.
const SQE: usize = 64;

fn at(base: u64, offset: u64) -> *mut u32 {
    (base + offset) as *mut u32
}

/// A ring, submissions of any kind, and calls that register.
pub fn ring(cook: &Cook<'_>) {
    let entries = 1 << cook.below(6);
    let flags = cook.few_of(0x1_ffff);
    let mut params = [0_u32; 30];
    params[2] = flags as u32;
    let fd = cook.open(libc::SYS_io_uring_setup, [entries, params.as_mut_ptr() as u64, 0, 0, 0, 0]);
    if (fd as i64) < 0 {
        return;
    }
    let map = |cook: &Cook<'_>, len: u64, offset: u64| {
        let shared = (libc::MAP_SHARED | libc::MAP_POPULATE) as u64;
        cook.call(libc::SYS_mmap, [0, len, 3, shared, fd, offset])
    };
    let sq = map(cook, 0x4000, 0);
    let sqes = map(cook, entries * SQE as u64 * if flags & 1 << 10 != 0 { 2 } else { 1 }, 0x1000_0000);
    if sq <= 0 || sqes <= 0 {
        return;
    }
    let (sq, sqes) = (sq as u64, sqes as u64);
    // struct io_uring_params: the offsets of the submission ring begin at word 10, those of the completions at 20.
    let (tail, mask, array) = (u64::from(params[11]), u64::from(params[12]), u64::from(params[16]));
    for _ in 0..cook.below(4) {
        register(cook, fd);
    }
    for _ in 0..1 + cook.below(4) {
        let count = 1 + cook.below(entries);
        for _ in 0..count {
            submission(cook, sqes + SQE as u64 * cook.rng.below(entries));
        }
        let slot = cook.below(entries);
        // SAFETY: the rings as the kernel described them; if another thread has unmapped them this program ends.
        unsafe {
            let old = tail_of(sq, tail);
            let index = u64::from(old) & u64::from(at(sq, mask).read_volatile());
            if flags & 1 << 16 == 0 {
                at(sq, array + 4 * index).write_volatile(if cook.rng.one_in(32) { !0 } else { slot as u32 });
            }
            at(sq, tail).write_volatile(old.wrapping_add(count as u32));
        }
        let least = if cook.rng.one_in(4) { 1 } else { 0 };
        let enter = cook.few_of(0x1f) | u64::from(cook.rng.one_in(2));
        cook.call(libc::SYS_io_uring_enter, [fd, count, least, enter, 0, 8]);
    }
    if cook.rng.one_in(3) {
        cook.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
}

/// # Safety
/// `sq` is a mapped ring.
unsafe fn tail_of(sq: u64, tail: u64) -> u32 {
    // SAFETY: the caller's.
    unsafe { at(sq, tail).read_volatile() }
}

/// Fills in one submission.
fn submission(cook: &Cook<'_>, place: u64) {
    let opcode = cook.below(60);
    let flags = cook.few_of(0x7f);
    let fd = cook.arg(b'f');
    let address = if cook.rng.one_in(3) { cook.arg(b'p') } else { cook.arg(b'B') };
    let (offset, len) = (cook.arg(b'o'), cook.arg(if cook.rng.one_in(2) { b'k' } else { b'l' }));
    let (rw, data) = (cook.arg(b'g'), cook.below(8));
    let (buffer, file, more) = (cook.below(4), cook.below(8), cook.arg(b'b'));
    let words = [
        opcode | flags << 8 | (fd & 0xffff_ffff) << 32,
        if cook.rng.one_in(3) { cook.arg(b't') } else { offset },
        address,
        len & 0xffff_ffff | rw << 32,
        data,
        buffer | file << 32,
        more,
        0,
    ];
    for (index, word) in (0..).zip(words) {
        // SAFETY: inside the submissions; see `ring`.
        unsafe { ((place + index * 8) as *mut u64).write_volatile(word) };
    }
}

fn register(cook: &Cook<'_>, fd: u64) {
    let opcode = cook.below(34);
    let fds: Vec<u64> = (0..8).map(|_| cook.arg(b'f') | cook.arg(b'f') << 32).collect();
    let argument = match opcode {
        0 => cook.arg(b'v'),
        2 | 6 => cook.words(&fds),
        _ => cook.arg(b'B'),
    };
    let count = cook.below(9);
    cook.call(libc::SYS_io_uring_register, [fd, opcode, argument, count, 0, 0]);
}

/// A context, requests, events.
pub fn aio(cook: &Cook<'_>) {
    let mut context = 0_u64;
    let most = 1 + cook.below(40);
    cook.call(libc::SYS_io_setup, [most, (&raw mut context) as u64, 0, 0, 0, 0]);
    let mut pointers = Vec::new();
    for _ in 0..1 + cook.below(8) {
        let opcode = cook.below(9);
        let (fd, buffer, len, offset) = (cook.arg(b'f'), cook.arg(b'b'), cook.arg(b'l'), cook.arg(b'o'));
        let result = cook.rng.one_in(3);
        let eventfd = cook.arg(b'f');
        let words = [
            cook.below(8),
            cook.few_of(0x3f) << 32,
            opcode | (fd & 0xffff_ffff) << 32,
            if opcode > 6 { cook.arg(b'v') } else { buffer },
            len,
            offset,
            0,
            u64::from(result) | eventfd << 32,
        ];
        pointers.push(cook.words(&words));
    }
    let list = cook.words(&pointers);
    cook.call(libc::SYS_io_submit, [context, pointers.len() as u64, list, 0, 0, 0]);
    let (events, time) = (cook.arg(b'b'), cook.arg(b't'));
    if cook.rng.one_in(3) {
        cook.call(libc::SYS_io_cancel, [context, pointers[0], events, 0, 0, 0]);
    }
    let least = cook.below(3);
    cook.call(libc::SYS_io_getevents, [context, least, 8, events, time, 0]);
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_io_destroy, [context, 0, 0, 0, 0, 0]);
    }
}
