//! The system call table: every subsystem's list, joined at compile time.

use abi::Errno;
use abi::nr::TABLE_LEN;
use arch::trap::TrapFrame;
use arch::uapi;

use super::{Enter, Syscall};

/// The lists that make up the table, one per file that declares calls.
const GROUPS: &[&[Syscall]] = &[];

/// The call with each number; unknown numbers answer `ENOSYS`.
pub static ENTRIES: [Enter; TABLE_LEN] = join(GROUPS);

fn not_implemented(_: &mut TrapFrame) -> isize {
    Errno::ENOSYS.to_return()
}

const fn join(groups: &[&[Syscall]]) -> [Enter; TABLE_LEN] {
    let mut entries = [not_implemented as Enter; TABLE_LEN];
    let mut taken = [false; TABLE_LEN];
    let mut g = 0;
    while g < groups.len() {
        let mut i = 0;
        while i < groups[g].len() {
            let call = &groups[g][i];
            if let Some(nr) = uapi::syscall_number(&call.nr) {
                assert!(!taken[nr as usize], "a system call is declared twice");
                taken[nr as usize] = true;
                entries[nr as usize] = call.enter;
            }
            i += 1;
        }
        g += 1;
    }
    entries
}

/// The declared call with number `nr`, for the trace.
pub fn describe(nr: usize) -> Option<&'static Syscall> {
    GROUPS
        .iter()
        .copied()
        .flatten()
        .find(|call| uapi::syscall_number(&call.nr).is_some_and(|n| usize::from(n) == nr))
}
