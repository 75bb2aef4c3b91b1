//! The commit limit: how much private writable memory may be promised (`proc(5)`, `vm.overcommit_memory`).
//!
//! * mode 0, *guess*: a single request larger than all memory and swap is refused;
//! * mode 1, *always*;
//! * mode 2, *never*: the sum of promises stays below `CommitLimit` less two reserves.

use crate::counters::Counters;
use crate::frames;
use abi::{Errno, Result};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// `vm.overcommit_memory`.
pub static MODE: AtomicU32 = AtomicU32::new(0);
/// `vm.overcommit_ratio`, per cent of memory; used when [`static@KBYTES`] is 0.
pub static RATIO: AtomicUsize = AtomicUsize::new(50);
/// `vm.overcommit_kbytes`.
pub static KBYTES: AtomicUsize = AtomicUsize::new(0);
/// `vm.admin_reserve_kbytes`: what only administrators may use of the limit.
pub static ADMIN_RESERVE_KBYTES: AtomicUsize = AtomicUsize::new(8192);
/// `vm.user_reserve_kbytes`: what one process must leave to others, at most 3 % of it.
pub static USER_RESERVE_KBYTES: AtomicUsize = AtomicUsize::new(131_072);

/// Pages promised.
static COMMITTED: AtomicI64 = AtomicI64::new(0);

/// Sets the two reserves as the memory that is free at boot asks for. Once, at boot.
pub(crate) fn init(free_pages: usize) {
    let share = free_pages * 4 / 32;
    ADMIN_RESERVE_KBYTES.store(share.min(8 << 10), Relaxed);
    USER_RESERVE_KBYTES.store(share.min(128 << 10), Relaxed);
}

/// Pages promised so far (`Committed_AS`).
pub fn committed() -> usize {
    COMMITTED.load(Relaxed).max(0) as usize
}

/// Pages that may be promised in mode 2 (`CommitLimit`).
pub fn limit() -> usize {
    let kbytes = KBYTES.load(Relaxed);
    let pages = if kbytes != 0 { kbytes / 4 } else { frames::total_pages() / 100 * RATIO.load(Relaxed) };
    pages + frames::total_swap_pages()
}

/// Promises `pages` more to the owner of `counters`, or fails with `ENOMEM`.
pub(crate) fn charge(pages: usize, counters: &Counters, is_admin: bool) -> Result<()> {
    COMMITTED.fetch_add(pages as i64, Relaxed);
    let allowed = match MODE.load(Relaxed) {
        1 => true,
        0 => pages <= frames::total_pages() + frames::total_swap_pages(),
        _ => {
            let mut limit = limit();
            if !is_admin {
                limit = limit.saturating_sub(ADMIN_RESERVE_KBYTES.load(Relaxed) / 4);
            }
            let reserve = USER_RESERVE_KBYTES.load(Relaxed) / 4;
            limit = limit.saturating_sub(reserve.min(counters.total_vm() / 32));
            committed() < limit
        }
    };
    if allowed {
        return Ok(());
    }
    uncharge(pages);
    Err(Errno::ENOMEM)
}

/// Promises the pages of a shared object (shared anonymous memory, memfd), which no address space owns.
pub fn charge_object(pages: usize) -> Result<()> {
    charge(pages, &Counters::default(), false)
}

/// Takes a promise back.
pub fn uncharge(pages: usize) {
    COMMITTED.fetch_sub(pages as i64, Relaxed);
}
