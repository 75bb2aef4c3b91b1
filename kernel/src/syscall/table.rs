//! The system call table: every subsystem's list, joined at compile time.

use abi::Errno;
use abi::nr::TABLE_LEN;
use arch::trap::TrapFrame;
use arch::uapi;

use super::{Enter, Syscall};

/// The lists that make up the table, one per file that declares calls.
const GROUPS: &[&[Syscall]] = &[
    crate::acct::SYSCALLS,
    crate::aio::syscalls::SYSCALLS,
    crate::cred::caps::SYSCALLS,
    crate::cred::groups::SYSCALLS,
    crate::cred::ids::SYSCALLS,
    crate::cred::prctl::SYSCALLS,
    crate::dev::syslog::SYSCALLS,
    crate::exec::syscalls::SYSCALLS,
    crate::exit::SYSCALLS,
    crate::fork::SYSCALLS,
    crate::fs::dirs::SYSCALLS,
    crate::fs::event::SYSCALLS,
    crate::fs::fd::SYSCALLS,
    crate::fs::legacy::SYSCALLS,
    crate::fs::handle::SYSCALLS,
    crate::fs::mount::SYSCALLS,
    crate::fs::mountapi::SYSCALLS,
    crate::fs::names::SYSCALLS,
    crate::fs::notify::SYSCALLS,
    crate::fs::open::SYSCALLS,
    crate::fs::pipe::SYSCALLS,
    crate::fs::poll::SYSCALLS,
    crate::fs::quota::SYSCALLS,
    crate::fs::rw::SYSCALLS,
    crate::fs::stat::SYSCALLS,
    crate::fs::statmount::SYSCALLS,
    crate::fs::xattr::SYSCALLS,
    crate::futex::futex2::SYSCALLS,
    crate::futex::robust::SYSCALLS,
    crate::futex::syscalls::SYSCALLS,
    crate::futex::waitv::SYSCALLS,
    crate::io_uring::enter::SYSCALLS,
    crate::io_uring::register::SYSCALLS,
    crate::io_uring::setup::SYSCALLS,
    crate::ipc::mqueue::SYSCALLS,
    crate::ipc::msg::control::SYSCALLS,
    crate::ipc::msg::transfer::SYSCALLS,
    crate::ipc::sem::control::SYSCALLS,
    crate::ipc::sem::operate::SYSCALLS,
    crate::ipc::shm::attach::SYSCALLS,
    crate::ipc::shm::control::SYSCALLS,
    crate::job::SYSCALLS,
    crate::keys::syscalls::SYSCALLS,
    crate::landlock::syscalls::SYSCALLS,
    crate::memory::advice::SYSCALLS,
    crate::memory::map::SYSCALLS,
    crate::memory::numa::SYSCALLS,
    crate::memory::other::SYSCALLS,
    crate::memory::pkeys::SYSCALLS,
    crate::memory::secretmem::SYSCALLS,
    crate::memory::remote::SYSCALLS,
    crate::misc::ldt::SYSCALLS,
    crate::misc::arch_calls::SYSCALLS,
    crate::misc::kcmp::SYSCALLS,
    crate::misc::lsm::SYSCALLS,
    crate::misc::membarrier::SYSCALLS,
    crate::misc::ports::SYSCALLS,
    crate::misc::random::SYSCALLS,
    crate::misc::reboot::SYSCALLS,
    crate::misc::rseq::SYSCALLS,
    crate::misc::sched_calls::SYSCALLS,
    crate::misc::sysinfo::SYSCALLS,
    crate::misc::uname::SYSCALLS,
    crate::namespaces::syscalls::SYSCALLS,
    crate::net::options::SYSCALLS,
    crate::net::syscalls::SYSCALLS,
    crate::net::transfer::SYSCALLS,
    crate::pidfd::SYSCALLS,
    crate::process::syscalls::SYSCALLS,
    crate::ptrace::request::SYSCALLS,
    crate::seccomp::syscalls::SYSCALLS,
    crate::signal::kill::SYSCALLS,
    crate::signal::signalfd::SYSCALLS,
    crate::signal::syscalls::SYSCALLS,
    crate::signal::wait::SYSCALLS,
    crate::time::adjust::SYSCALLS,
    crate::time::clock::SYSCALLS,
    crate::time::itimer::SYSCALLS,
    crate::time::posix::syscalls::SYSCALLS,
    crate::time::sleep::SYSCALLS,
    crate::time::usage::SYSCALLS,
    crate::userfaultfd::SYSCALLS,
    crate::wait::SYSCALLS,
];

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
            if let Some(nr) = uapi::syscall_nr(call.nr) {
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
        .find(|call| uapi::syscall_nr(call.nr).is_some_and(|n| usize::from(n) == nr))
}
