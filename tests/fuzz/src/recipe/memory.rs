//! Memory: mappings, policies, faults handled by the program, pipes that share pages.

use super::Cook;
use crate::args::{ARENA, ARENA_LEN};

const PAGE: u64 = 4096;

/// Mappings of one small range, changed over and over while it is read and written through the kernel.
pub fn mappings(cook: &Cook<'_>) {
    // Its own range: the arena serves the other calls.
    let base = ARENA as u64 + 2 * ARENA_LEN as u64;
    let name = cook.bytes(b"m\0");
    let memfd = cook.open(libc::SYS_memfd_create, [name, cook.rng.bits() & 3, 0, 0, 0, 0]);
    cook.call(libc::SYS_ftruncate, [memfd, 16 * PAGE, 0, 0, 0, 0]);
    for _ in 0..4 + cook.below(16) {
        let (at, len) = (base + PAGE * cook.below(24), PAGE * (1 + cook.below(8)));
        let protection = cook.below(8);
        match cook.below(10) {
            0 | 1 => {
                let flags = *cook.rng.pick(&[0x32, 0x31, 0x132, 0x8032, 0x4032, 0x2032]);
                cook.call(libc::SYS_mmap, [at, len, protection, flags, u64::MAX, 0])
            }
            2 | 3 => {
                let flags = *cook.rng.pick(&[0x11, 0x12]);
                let offset = PAGE * cook.below(20);
                cook.call(libc::SYS_mmap, [at, len, protection, flags, memfd, offset])
            }
            4 => cook.call(libc::SYS_munmap, [at, len, 0, 0, 0, 0]),
            5 => cook.call(libc::SYS_mprotect, [at, len, protection, 0, 0, 0]),
            6 => {
                let to = base + PAGE * cook.below(24);
                let flags = cook.below(8);
                cook.call(libc::SYS_mremap, [at, len, PAGE * (1 + cook.rng.below(8)), flags, to, 0])
            }
            7 => {
                let advice =
                    *cook.rng.pick(&[0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
                cook.call(libc::SYS_madvise, [at, len, advice, 0, 0, 0])
            }
            8 => {
                let size = PAGE * cook.below(20);
                cook.call(libc::SYS_ftruncate, [memfd, size, 0, 0, 0, 0])
            }
            _ => cook.call(libc::SYS_mlock2, [at, len, cook.rng.below(2), 0, 0, 0]),
        };
        // SAFETY: only asks.
        let pid = unsafe { libc::getpid() } as u64;
        let (local, remote) = ([ARENA as u64, len], [at, len]);
        let (local, remote) = (cook.words(&local), cook.words(&remote));
        let nr = *cook.rng.pick(&[libc::SYS_process_vm_readv, libc::SYS_process_vm_writev]);
        cook.call(nr, [pid, local, 1, remote, 1, 0]);
    }
}

/// Where pages may lie.
pub fn policies(cook: &Cook<'_>) {
    for _ in 0..1 + cook.below(5) {
        let (at, len) = (cook.arg(b'a'), PAGE * (1 + cook.rng.below(16)));
        let mode = cook.below(7) | cook.few_of(7) << 13;
        let mask = cook.below(4);
        let mask = cook.words(&[mask]);
        let bits = cook.below(66);
        match cook.below(4) {
            0 => cook.call(libc::SYS_mbind, [at, len, mode, mask, bits, cook.rng.below(16)]),
            1 => cook.call(libc::SYS_set_mempolicy, [mode, mask, bits, 0, 0, 0]),
            2 => cook.call(libc::SYS_migrate_pages, [0, bits, mask, mask, 0, 0]),
            _ => {
                let pages = cook.words(&[at, at + PAGE, at + 5 * PAGE, 0]);
                let nodes = cook.words(&[cook.rng.below(2) | cook.rng.below(3) << 32, 0]);
                let status = cook.arg(b'b');
                cook.call(libc::SYS_move_pages, [0, 4, pages, nodes, status, cook.rng.below(8)])
            }
        };
    }
}

/// Faults that the program handles itself.
pub fn faults(cook: &Cook<'_>) {
    let flags = (libc::O_NONBLOCK as u64) | cook.rng.below(2);
    let fd = cook.open(libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0]);
    let features = cook.few_of(0x1_ffff);
    let api = cook.words(&[0xaa, features, 0]);
    cook.call(libc::SYS_ioctl, [fd, 0xc018_aa3f, api, 0, 0, 0]);
    let base = ARENA as u64 + 3 * ARENA_LEN as u64;
    cook.call(libc::SYS_mmap, [base, 16 * PAGE, 3, *cook.rng.pick(&[0x32, 0x31]), u64::MAX, 0]);
    for _ in 0..2 + cook.below(10) {
        let (at, len) = (base + PAGE * cook.below(16), PAGE * (1 + cook.below(6)));
        let source = cook.arg(b'a');
        let mode = cook.few_of(7);
        let command = *cook.rng.pick(&[
            0xc020_aa00,
            0x8010_aa01,
            0x8010_aa02,
            0xc028_aa03,
            0xc020_aa04,
            0xc018_aa06,
            0xc020_aa07,
            0xc020_aa08,
            0xc028_aa05,
        ]);
        let place = match command & 0xff {
            3 | 5 => cook.words(&[at, source, len, mode, 0]),
            _ => cook.words(&[at, len, mode, 0]),
        };
        cook.call(libc::SYS_ioctl, [fd, command, place, 0, 0, 0]);
        let (buffer, room) = (cook.arg(b'b'), cook.below(128));
        cook.call(libc::SYS_read, [fd, buffer, room, 0, 0, 0]);
    }
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
}

/// Pipes that hand pages on.
pub fn pipes(cook: &Cook<'_>) {
    let mut ends = [[-1_i32; 2]; 2];
    for pair in &mut ends {
        cook.call(libc::SYS_pipe2, [pair.as_mut_ptr() as u64, (libc::O_NONBLOCK) as u64, 0, 0, 0, 0]);
        pair.iter().for_each(|fd| cook.known.borrow_mut().learn("open", i64::from(*fd)));
    }
    let [one, two] = ends.map(|pair| pair.map(|fd| fd as u64));
    for _ in 0..3 + cook.below(12) {
        let (len, flags) = (cook.arg(b'l'), cook.below(16) | 2);
        let (vector, file) = (cook.arg(b'v'), cook.arg(b'f'));
        match cook.below(7) {
            0 => cook.call(libc::SYS_vmsplice, [one[1], vector, 1 + cook.rng.below(8), flags, 0, 0]),
            1 => cook.call(libc::SYS_tee, [one[0], two[1], len, flags, 0, 0]),
            2 => cook.call(libc::SYS_splice, [one[0], 0, two[1], 0, len, flags]),
            3 => cook.call(libc::SYS_splice, [two[0], 0, file, 0, len, flags]),
            4 => cook.call(libc::SYS_splice, [file, 0, one[1], 0, len, flags]),
            5 => cook.call(libc::SYS_fcntl, [one[1], 1031, PAGE << cook.rng.below(8), 0, 0, 0]),
            _ => cook.call(libc::SYS_readv, [two[0], vector, 4, 0, 0, 0]),
        };
    }
}
