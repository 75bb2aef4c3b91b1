//! The content of `/proc`: `proc(5)`.
//!
//! The frame is `kernfs`; what a file shows is declared here, a file per subject. Each mount belongs
//! to a pid namespace ([`Mounted`]) and shows the processes and numbers of that one.
//!
//! | file | what it owns |
//! |---|---|
//! | [`root`] | the top directory: registered names, then a directory per process |
//! | [`task`] | a process's or thread's directory |
//! | [`memory`] | meminfo, vmstat, zoneinfo, … |
//! | [`system`] | stat, uptime, version, cpuinfo, softirqs, … |
//! | [`locks`] | locks |
//! | [`inside`] | kallsyms, timer_list |
//! | [`hardware`] | devices, consoles, interrupts, iomem, … |
//! | [`sysctl`] | `/proc/sys` |

use alloc::sync::Arc;

use abi::Result;
use kernfs::{KernFs, StaticDir};
use sync::Lazy;
use vfs::fs_context::{ParamError, ParamResult};
use vfs::super_block::MountRequest;

use crate::process::PidNamespace;

mod hardware;
mod inside;
mod locks;
mod memory;
pub mod numbers;
mod root;
pub mod sysctl;
mod system;
mod task;

pub use task::open_namespace;

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;

/// What an instance of procfs was mounted for.
pub struct Mounted {
    /// Whose processes it shows.
    pub ns: Arc<PidNamespace>,
}

static TOP: Lazy<Arc<StaticDir>> = Lazy::new(StaticDir::new);
static PROCFS: KernFs = KernFs::per_mount("proc", MAGIC, mount)
    .with_params(check_param)
    .with_flags(vfs::FsFlags::NO_PERMISSION_EVENTS);

/// The registered part of the top directory: subsystems add their files here.
pub fn top() -> &'static Arc<StaticDir> {
    &TOP
}

fn mount(_: &MountRequest<'_>) -> kernfs::RootOf {
    let ns = crate::process::current().pid_ns();
    let mounted = Arc::new(Mounted { ns: ns.clone() });
    Ok((Arc::new(root::Root::new(ns)), Some(mounted)))
}

/// Parameters of a mount. All processes are visible to everybody so far, whatever `hidepid=` says.
fn check_param(key: &str, value: Option<&str>) -> ParamResult {
    let fits = match (key, value) {
        ("gid", Some(gid)) => gid.parse::<u32>().is_ok(),
        ("hidepid", Some(level)) => {
            matches!(level, "0" | "1" | "2" | "4" | "off" | "noaccess" | "invisible" | "ptraceable")
        }
        ("subset", Some(part)) => part == "pid",
        ("gid" | "hidepid" | "subset", None) => false,
        _ => return Err(ParamError::Unknown),
    };
    if fits { Ok(()) } else { Err(ParamError::BadValue) }
}

/// Declares every file and makes the type known.
///
/// # Errors
/// `EBUSY` if something else is called `proc`.
pub fn init() -> Result<()> {
    root::init();
    memory::init();
    system::init();
    hardware::init();
    locks::init();
    inside::init();
    sysctl::init();
    vfs::fs_type::register_filesystem(&PROCFS)
}
