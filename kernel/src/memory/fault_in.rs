//! Making user pages present before an access that cannot wait for them.

use arch::addr::PAGE_SIZE;
use arch::uaccess::{FutexOp, futex_op, get_u8};

fn pages(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let first = from & !(PAGE_SIZE - 1);
    (first..to).step_by(PAGE_SIZE)
}

/// Touches each page of `from..to` for reading, from the top down; pages that cannot be had are left out.
pub fn fault_in_readable(from: usize, to: usize) {
    for page in pages(from, to) {
        if get_u8(page).is_err() {
            break;
        }
    }
}

/// Touches each page of `from..to` for writing without changing it, from the top down (a stack grows that way).
pub fn fault_in_writable(from: usize, to: usize) {
    let mut page = to.saturating_sub(1) & !(PAGE_SIZE - 1);
    let first = from & !(PAGE_SIZE - 1);
    // Adding zero is the one write that changes nothing, whoever else writes there.
    while page >= first && futex_op(FutexOp::Add, page, 0).is_ok() {
        let Some(next) = page.checked_sub(PAGE_SIZE) else { break };
        page = next;
    }
}

/// Makes the page of the word at `addr` present for writing.
///
/// # Errors
/// `EFAULT`.
pub fn fault_in_word(addr: usize) -> abi::Result<()> {
    futex_op(FutexOp::Add, addr, 0).map(|_| ()).map_err(|_| abi::Errno::EFAULT)
}
