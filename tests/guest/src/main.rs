//! Tests of the Linux ABI, to be run inside the guest.
//!
//! One static program with a file per family of system calls. It is written against the manual
//! pages and must pass on Linux 6.12 (`cargo xtask test --oracle`); nothing in it may know which
//! kernel it runs on. As init (pid 1) it mounts the usual file systems, runs all tests and powers
//! off. Otherwise: `guest-tests [--list] [PART-OF-NAME…]`.
//!
//! Output: `ok NAME` or `FAIL NAME: why` for each test, then `N passed, N failed`.
// C types differ between the architectures, so a cast that one of them needs is idle on the other; results of calls
// that only prepare a test are dropped on purpose; pointers here are made to be wrong.
#![allow(
    clippy::unnecessary_cast,
    dropping_copy_types,
    clippy::manual_dangling_ptr,
    clippy::neg_cmp_op_on_partial_ord
)]

mod acct;
mod aio;
mod coredump;
mod creds;
mod devices;
mod disks;
mod epollwait;
mod fanotify;
mod fanotify_permission;
mod fanotify_report;
mod fcntl;
mod fileattr;
mod files;
mod fsmisc;
mod futex;
mod futex_pi;
mod handles;
mod harness;
mod helpers;
mod hostile;
mod inotify;
mod io_uring;
mod ipc;
mod keys;
mod kpage;
mod landlock;
#[cfg(target_arch = "x86_64")]
mod ldt;
#[cfg(target_arch = "x86_64")]
mod legacy;
mod loopdev;
mod lsm;
mod maps;
mod memctl;
mod memhotplug;
mod memory;
mod mountapi;
mod mountattr;
mod mounts;
mod mounttree;
mod mqueues;
mod namespaces;
mod numa;
mod overlay;
mod overlay_copy;
mod pagemap;
mod paths;
mod pci;
mod pipes;
mod pkeys;
#[cfg(target_arch = "x86_64")]
mod ports;
mod prctl;
mod prelude;
mod process;
mod pseudo;
mod pseudofs;
mod ptrace;
mod ptrace_debug;
mod ptrace_events;
mod remap;
mod sched;
mod seccomp;
mod seccomp_notify;
mod secretmem;
mod siginfo;
mod signals;
mod statmount;
mod sys;
mod sysctl_kernel;
mod sysctl_vm;
mod sysv;
mod sysv_msg;
mod sysv_shm;
mod sysv_undo;
mod sysv_wait;
mod threads;
mod time;
mod timens;
mod timers;
mod trace_line;
mod tty;
mod uffd;
mod unix;
mod unix_control;
mod unix_filter;
mod unix_oob;
mod unix_options;
mod unix_stamps;
mod uring;
mod uring_hostile;
mod uring_net;
mod uring_ops;
mod uring_ring;
mod uring_rsrc;
mod uring_wait;
mod usage;
mod userfaultfd;
mod userfaultfd_events;
mod userfaultfd_protect;
mod userfaultfd_wait;
mod watchdog;
mod xattrs;

/// All tests.
const TABLES: &[&[harness::Test]] = &[
    fileattr::TESTS,
    files::TESTS,
    pagemap::TESTS,
    paths::TESTS,
    pci::TESTS,
    handles::TESTS,
    inotify::TESTS,
    fanotify::TESTS,
    fanotify_report::TESTS,
    fanotify_permission::TESTS,
    fcntl::TESTS,
    fsmisc::TESTS,
    process::TESTS,
    ptrace::TESTS,
    ptrace_events::TESTS,
    ptrace_debug::TESTS,
    coredump::TESTS,
    prctl::TESTS,
    memory::TESTS,
    maps::TESTS,
    memctl::TESTS,
    memhotplug::TESTS,
    signals::TESTS,
    secretmem::TESTS,
    siginfo::TESTS,
    ipc::TESTS,
    mqueues::TESTS,
    epollwait::TESTS,
    threads::TESTS,
    futex::TESTS,
    futex_pi::TESTS,
    pipes::TESTS,
    pkeys::TESTS,
    namespaces::TESTS,
    time::TESTS,
    timens::TESTS,
    timers::TESTS,
    remap::TESTS,
    sched::TESTS,
    creds::TESTS,
    seccomp::TESTS,
    seccomp_notify::TESTS,
    kpage::TESTS,
    landlock::TESTS,
    loopdev::TESTS,
    lsm::TESTS,
    keys::TESTS,
    trace_line::TESTS,
    devices::TESTS,
    disks::TESTS,
    tty::TESTS,
    pseudo::TESTS,
    pseudofs::TESTS,
    sysctl_kernel::TESTS,
    sysctl_vm::TESTS,
    numa::TESTS,
    mounts::TESTS,
    mountapi::TESTS,
    statmount::TESTS,
    mountattr::TESTS,
    mounttree::TESTS,
    overlay::TESTS,
    overlay_copy::TESTS,
    hostile::TESTS,
    unix::TESTS,
    unix_control::TESTS,
    unix_filter::TESTS,
    unix_oob::TESTS,
    unix_options::TESTS,
    unix_stamps::TESTS,
    xattrs::TESTS,
    #[cfg(target_arch = "x86_64")]
    legacy::TESTS,
    #[cfg(target_arch = "x86_64")]
    ldt::TESTS,
    #[cfg(target_arch = "x86_64")]
    ports::TESTS,
    sysv::TESTS,
    sysv_undo::TESTS,
    sysv_wait::TESTS,
    sysv_msg::TESTS,
    sysv_shm::TESTS,
    io_uring::TESTS,
    uring_wait::TESTS,
    uring_ring::TESTS,
    uring_ops::TESTS,
    userfaultfd::TESTS,
    userfaultfd_events::TESTS,
    userfaultfd_protect::TESTS,
    userfaultfd_wait::TESTS,
    uring_rsrc::TESTS,
    uring_net::TESTS,
    uring_hostile::TESTS,
    acct::TESTS,
    usage::TESTS,
    aio::TESTS,
    watchdog::TESTS,
];

fn main() {
    helpers::dispatch(&std::env::args().collect::<Vec<_>>());
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if sys::getpid() == 1 {
        harness::mount_system();
        // The kernel passes what it does not know on its command line: `guest_filter=NAME,NAME…`.
        let filters: Vec<String> = args
            .iter()
            .chain(std::env::vars().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().iter())
            .filter_map(|word| word.strip_prefix("guest_filter="))
            .flat_map(|names| names.split(',').map(str::to_string))
            .collect();
        harness::run(TABLES, &filters);
        harness::look_for_leaks();
        harness::power_off();
    }
    if args.first().is_some_and(|arg| arg == "--list") {
        for test in TABLES.iter().copied().flatten() {
            println!("{}", test.name.trim_start_matches("guest_tests::"));
        }
        return;
    }
    args.retain(|arg| !arg.starts_with("--"));
    let failed = harness::run(TABLES, &args);
    std::process::exit(i32::from(failed > 0));
}
