//! The namespaces of a thread: namespaces(7).
//!
//! [`NsProxy`] is the set that most calls need, shared by fork and replaced as a whole by
//! unshare(2) and setns(2). The user namespace is part of the credentials; a thread's own pid
//! namespace is that of its [`super::Pid`], while `pid_for_children` is the one its children will get.

use super::PidNamespace;
use crate::ipc::IpcNamespace;
use abi::raw;
use abi::system::Utsname;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicI64, Ordering};
use mm::AddressSpace;
use mm::fallible::try_arc;
use mm::vdso::TimePage;
use vfs::cred::UserNamespace;
use vfs::mount::MountNamespace;
use vfs::ns_count::NsCharge;

/// Inode numbers of the initial namespaces (`PROC_*_INIT_INO`).
pub const IPC_INIT_INO: u32 = 0xefff_ffff;
/// See [`IPC_INIT_INO`].
pub const UTS_INIT_INO: u32 = 0xefff_fffe;
/// See [`IPC_INIT_INO`].
pub const USER_INIT_INO: u32 = 0xefff_fffd;
/// See [`IPC_INIT_INO`].
pub const PID_INIT_INO: u32 = 0xefff_fffc;
/// See [`IPC_INIT_INO`].
pub const CGROUP_INIT_INO: u32 = 0xefff_fffb;
/// See [`IPC_INIT_INO`].
pub const TIME_INIT_INO: u32 = 0xefff_fffa;

/// See [`IPC_INIT_INO`]; the first of Linux's dynamic numbers.
pub const NET_INIT_INO: u32 = vfs::mount::FIRST_NS - 1;

/// A new inode number for a namespace.
pub fn next_inum() -> u32 {
    vfs::mount::next_ns_inum()
}

/// Host and domain name: uts_namespaces(7).
pub struct UtsNamespace {
    /// Capabilities over it are held in this one.
    pub user_ns: Arc<UserNamespace>,
    /// The names; `release` and `version` are filled in at boot.
    pub name: SpinLock<Utsname>,
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// Counts for its makers.
    _charge: NsCharge,
}

impl UtsNamespace {
    /// A namespace with these names.
    pub fn new(name: Utsname, inum: u32, user_ns: Arc<UserNamespace>, charge: NsCharge) -> Self {
        Self { user_ns, name: SpinLock::new(name), inum, _charge: charge }
    }

    /// A copy for `CLONE_NEWUTS`.
    pub fn duplicate(&self, user_ns: Arc<UserNamespace>, charge: NsCharge) -> Self {
        Self::new(*self.name.lock(), next_inum(), user_ns, charge)
    }
}

/// Network devices, addresses, sockets: network_namespaces(7). Filled by the network stack.
pub struct NetNamespace {
    /// Capabilities over it are held in this one.
    pub user_ns: Arc<UserNamespace>,
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// Counts for its makers.
    pub charge: NsCharge,
}

/// The root of what a process sees of the cgroup tree: cgroup_namespaces(7).
pub struct CgroupNamespace {
    /// Capabilities over it are held in this one.
    pub user_ns: Arc<UserNamespace>,
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// Counts for its makers.
    pub charge: NsCharge,
}

/// Offsets of the monotonic and boot clocks: time_namespaces(7).
pub struct TimeNamespace {
    /// Capabilities over it are held in this one.
    pub user_ns: Arc<UserNamespace>,
    /// Added to `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: AtomicI64,
    /// Added to `CLOCK_BOOTTIME`, in nanoseconds.
    pub boottime_ns: AtomicI64,
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// What the vDSO reads in it; none in the first one.
    page: Option<Arc<TimePage>>,
    /// Somebody has entered it: the offsets stay. Held while they are changed.
    entered: SpinLock<bool>,
    /// Counts for its makers.
    _charge: NsCharge,
}

impl TimeNamespace {
    /// The first one.
    pub fn initial() -> Self {
        Self {
            user_ns: UserNamespace::initial().clone(),
            monotonic_ns: AtomicI64::new(0),
            boottime_ns: AtomicI64::new(0),
            inum: TIME_INIT_INO,
            page: None,
            entered: SpinLock::new(true),
            _charge: NsCharge::none(),
        }
    }

    /// A namespace with offsets as here, for `CLONE_NEWTIME`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self, user_ns: Arc<UserNamespace>, charge: NsCharge) -> Result<Self> {
        let copy = |from: &AtomicI64| AtomicI64::new(from.load(Ordering::Relaxed));
        Ok(Self {
            user_ns,
            monotonic_ns: copy(&self.monotonic_ns),
            boottime_ns: copy(&self.boottime_ns),
            inum: next_inum(),
            page: Some(try_arc(TimePage::new()?)?),
            entered: SpinLock::new(false),
            _charge: charge,
        })
    }

    /// Changes the offsets (nanoseconds) that are named.
    ///
    /// # Errors
    /// `EACCES` once a process has entered.
    pub fn set_offsets(&self, monotonic_ns: Option<i64>, boottime_ns: Option<i64>) -> Result<()> {
        let entered = self.entered.lock();
        if *entered {
            return Err(Errno::EACCES);
        }
        for (to, value) in [(&self.monotonic_ns, monotonic_ns), (&self.boottime_ns, boottime_ns)] {
            if let Some(value) = value {
                to.store(value, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A process that runs in `space` is in this namespace from now on.
    pub fn enter(&self, space: &AddressSpace) {
        let Some(page) = &self.page else { return space.set_time_page(None) };
        {
            let mut entered = self.entered.lock();
            if !*entered {
                page.set(self.monotonic_ns.load(Ordering::Relaxed), self.boottime_ns.load(Ordering::Relaxed));
                *entered = true;
            }
        }
        space.set_time_page(Some(page.clone()));
    }
}

/// The namespaces of a thread, except user and its own pid namespace.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct NsProxy {
    pub mnt: Arc<MountNamespace>,
    pub uts: Arc<UtsNamespace>,
    pub ipc: Arc<IpcNamespace>,
    pub net: Arc<NetNamespace>,
    pub cgroup: Arc<CgroupNamespace>,
    pub time: Arc<TimeNamespace>,
    pub time_for_children: Arc<TimeNamespace>,
    pub pid_for_children: Arc<PidNamespace>,
}

impl NsProxy {
    /// The namespaces that the system starts with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn initial(mnt: Arc<MountNamespace>) -> Result<Self> {
        let owner = || UserNamespace::initial().clone();
        let time = try_arc(TimeNamespace::initial())?;
        Ok(Self {
            mnt,
            uts: try_arc(UtsNamespace::new(
                crate::misc::uname::initial(),
                UTS_INIT_INO,
                owner(),
                NsCharge::none(),
            ))?,
            ipc: try_arc(IpcNamespace::initial()?)?,
            net: try_arc(NetNamespace { user_ns: owner(), inum: NET_INIT_INO, charge: NsCharge::none() })?,
            cgroup: try_arc(CgroupNamespace {
                user_ns: owner(),
                inum: CGROUP_INIT_INO,
                charge: NsCharge::none(),
            })?,
            time: time.clone(),
            time_for_children: time,
            pid_for_children: super::init_pid_ns(),
        })
    }

    /// The same, in the time namespace that is meant for children, for a process whose memory is new: fork(2), execve(2).
    /// `None`: it is in that one already.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_time_of_children(&self) -> Result<Option<Arc<Self>>> {
        if Arc::ptr_eq(&self.time, &self.time_for_children) {
            return Ok(None);
        }
        Ok(Some(try_arc(Self { time: self.time_for_children.clone(), ..self.clone() })?))
    }
}

/// The `CLONE_NEW*` flags that make a new [`NsProxy`].
pub const NEW_FLAGS: u64 = (raw::CLONE_NEWNS
    | raw::CLONE_NEWUTS
    | raw::CLONE_NEWIPC
    | raw::CLONE_NEWPID
    | raw::CLONE_NEWNET
    | raw::CLONE_NEWCGROUP
    | raw::CLONE_NEWTIME) as u64;
