//! The content of `/proc`: `proc(5)`.
//!
//! The frame is `kernfs`; what a file shows is declared here, a file per subject. Each mount belongs
//! to a pid namespace ([`Mounted`]) and shows the processes and numbers of that one.
//!
//! | file | what it owns |
//! |---|---|
//! | [`root`] | the top directory: registered names, then a directory per process |
//! | [`options`] | what a mount shows to whom |
//! | [`task`] | a process's or thread's directory |
//! | [`frames`] | kpagecount, kpageflags |
//! | [`memory`] | meminfo, vmstat, zoneinfo, … |
//! | [`system`] | stat, uptime, version, cpuinfo, softirqs, … |
//! | [`locks`] | locks |
//! | [`inside`] | kallsyms, timer_list |
//! | [`block`] | disks: partitions, diskstats |
//! | [`hardware`] | devices, consoles, interrupts, iomem, … |
//! | [`sysctl`] | `/proc/sys` |

use alloc::sync::Arc;

use abi::Result;
use kernfs::{KernFs, StaticDir};
use sync::Lazy;
use vfs::super_block::MountRequest;

use mm::fallible::try_arc;

mod block;
mod frames;
mod hardware;
mod inside;
mod locks;
mod memory;
pub mod numbers;
mod options;
mod root;
pub mod sysctl;
mod system;
mod task;

pub use task::{open_namespace, process_of};

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;

pub use options::Mounted;

static TOP: Lazy<Arc<StaticDir>> = Lazy::new(StaticDir::new);
static PROCFS: KernFs = KernFs::per_mount("proc", MAGIC, mount)
    .with_params(options::check_param)
    .with_options(kernfs::Options { show: options::show, change: options::change })
    .with_flags(vfs::FsFlags::NO_PERMISSION_EVENTS);

/// The registered part of the top directory: subsystems add their files here.
pub fn top() -> &'static Arc<StaticDir> {
    &TOP
}

fn mount(request: &MountRequest<'_>) -> kernfs::RootOf {
    let ns = crate::process::current().pid_ns();
    let mounted = try_arc(Mounted::new(ns.clone(), request.options)?)?;
    Ok((try_arc(root::Root::new(ns))?, Some(mounted)))
}

/// Declares the files of drivers, after [`init`] and when these have looked for their devices.
pub fn init_drivers() {
    system::init_drivers();
}

/// Declares every file and makes the type known.
///
/// # Errors
/// `EBUSY` if something else is called `proc`.
pub fn init() -> Result<()> {
    root::init();
    memory::init();
    frames::init();
    system::init();
    hardware::init();
    top().add_attrs(block::FILES);
    locks::init();
    inside::init();
    sysctl::init();
    vfs::fs_type::register_filesystem(&PROCFS)
}
