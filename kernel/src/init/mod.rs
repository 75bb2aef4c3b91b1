//! How the machine is put together: read [`start`] from top to bottom.
//!
//! This is the one place where implementations meet the traits that lower layers own. Order matters
//! here and nowhere else; each step says what it needs from the ones before.
//!
//! | step | file |
//! |---|---|
//! | boot parameters | [`cmdline`] |
//! | consoles and devices | [`devices`] |
//! | the root directory | [`rootfs`], [`root`] |
//! | the first process | [`first`] |

use abi::Result;
use boot::BootInfo;
use sync::Once;

mod cmdline;
mod devices;
mod first;
mod root;
mod rootfs;

pub use cmdline::command_line;

static INFO: Once<&'static BootInfo> = Once::new();

/// What the boot loader told us.
pub fn boot_info() -> Option<&'static BootInfo> {
    INFO.get().copied()
}

/// The kernel's first function: on the boot CPU, on the boot stack, interrupts off, no heap.
pub fn start(info: &'static BootInfo) -> ! {
    INFO.call_once(|| info);

    // A voice first: from here on everything that is logged is kept, and shown if `earlycon` asks.
    crate::printk::init();
    cmdline::parse_early(info.cmdline);
    arch::trap::set_handler(&crate::traps::Kernel);
    log::info!("{}", crate::version::banner());
    log::info!("Command line: {}", info.cmdline);

    // Memory: frames, then the heap, then address spaces.
    if let Err(error) = memory(info) {
        panic!("no memory for the memory manager: {error:?}");
    }
    cmdline::parse(info.cmdline);

    // Time and tasks. The code that runs here becomes a task, later the boot CPU's idle task.
    sched::time::init();
    sched::init();
    sched::start_tick();
    arch::irq::local_enable();

    // All CPUs, and the threads that serve them.
    let cpus = sched::start_secondaries(cmdline::max_cpus()).unwrap_or(1);
    log::info!(
        "smp: Brought up {} node{}, {cpus} CPU{}",
        info.numa.nodes,
        plural(info.numa.nodes),
        plural(cpus)
    );

    if let Err(error) = services(info) {
        panic!("cannot start: {error}");
    }
    sched::run_idle()
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Takes memory over from the boot allocator.
fn memory(info: &'static BootInfo) -> core::result::Result<(), mm::OutOfMemory> {
    let config = mm::init::Config {
        numa: &info.numa,
        dma_end: arch::layout::DMA_END,
        movable_per_node: 0,
        cpus: info.cpus.len().max(1),
    };
    let total = boot::memblock::with(|memblock| {
        mm::init::init(memblock, &config)?;
        Ok::<_, mm::OutOfMemory>(memblock.total())
    })?;
    mm::init_virtual();
    log::info!("Memory: {}K of {}K available", mm::stats::meminfo().free * 4, total / 1024);
    Ok(())
}

/// Everything that may sleep runs in the first process; this makes what it stands on.
fn services(info: &'static BootInfo) -> Result<()> {
    let pages = mm::stats::meminfo().total;
    crate::misc::random::init();
    crate::misc::random::add_bytes(info.seed);
    vfs::init(pages)?;
    vfs::rw::set_writer(&crate::process::Writer);
    vfs::mount::umount::on_unmount(crate::acct::unmounted);
    vfs::cred::on_use(crate::process::used_privilege);
    vfs::fanotify::set_host(&crate::fs::notify::FanotifyHost);
    vfs::fasync::set_sigio(&crate::signal::sigio::SendSigio);
    let root = rootfs::mount_root()?;
    first::spawn(root, info)?;
    Ok(())
}

/// What the first process does before it becomes a program: it may sleep.
fn late(info: &'static BootInfo) -> Result<()> {
    sched::start_threads()?;
    mm::reclaim::start_kswapd()?;
    mm::writeback::start()?;
    crate::watchdog::start()?;
    #[cfg(all(debug_assertions, target_os = "none"))]
    mm::kmemleak::set_task_number(crate::watchdog::number);
    mm::oom::set_victims(&crate::memory::oom::Victims);
    mm::mempolicy::set_task_policies(&crate::memory::numa::Tasks);
    drivers::tty::job::set_job_control(&crate::job::Jobs);
    crate::tty_hooks::set(&crate::job::Jobs);
    socket::set_host(&crate::net::Caller);
    unix::init()?;
    mqueue::set_host(&crate::ipc::mqueue::Caller);
    rootfs::register_types()?;
    crate::procfs::init()?;
    crate::net::init()?;
    devices::init(info)?;
    crate::procfs::init_drivers();
    crate::dev::init()?;
    crate::userfaultfd::init()?;
    crate::sysfs::init()?;
    crate::debugfs::init()?;
    rootfs::unpack(info);
    Ok(())
}
