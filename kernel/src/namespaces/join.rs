//! Namespaces as descriptors, and how a thread joins them: setns(2).
//!
//! A call joins all namespaces that it names or none: [`Joining`] checks each against what the thread is and will be, and
//! only then is anything changed.

use super::user::all_capabilities;
use crate::ipc::{self, IpcNamespace};
use crate::process::nsproxy::{CgroupNamespace, NetNamespace, TimeNamespace, UtsNamespace};
use crate::process::{CurrentThread, NsProxy, PidNamespace, current};
use abi::cap::Cap;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::context::NoFailScope;
use mm::fallible::try_arc;
use vfs::cred::{Credentials, UserNamespace};
use vfs::file::File;
use vfs::file_ops::FileOps;
use vfs::mount::MountNamespace;
use vfs::namei::lookup::follow_down;
use vfs::path::Path;

/// A namespace as `/proc/<pid>/ns` hands it out: what `setns` can join.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Namespace {
    Mnt(Arc<MountNamespace>),
    Uts(Arc<UtsNamespace>),
    Ipc(Arc<IpcNamespace>),
    Net(Arc<NetNamespace>),
    Pid(Arc<PidNamespace>),
    User(Arc<UserNamespace>),
    Cgroup(Arc<CgroupNamespace>),
    Time(Arc<TimeNamespace>),
}

impl Namespace {
    /// The `CLONE_NEW*` flag of its kind.
    pub fn flag(&self) -> u32 {
        match self {
            Self::Mnt(_) => raw::CLONE_NEWNS,
            Self::Uts(_) => raw::CLONE_NEWUTS,
            Self::Ipc(_) => raw::CLONE_NEWIPC,
            Self::Net(_) => raw::CLONE_NEWNET,
            Self::Pid(_) => raw::CLONE_NEWPID,
            Self::User(_) => raw::CLONE_NEWUSER,
            Self::Cgroup(_) => raw::CLONE_NEWCGROUP,
            Self::Time(_) => raw::CLONE_NEWTIME,
        }
    }

    /// The user namespace that capabilities over it are held in: for a user namespace its parent; the first one has none.
    pub fn owner(&self) -> Option<&Arc<UserNamespace>> {
        match self {
            Self::Mnt(ns) => Some(ns.user_ns()),
            Self::Uts(ns) => Some(&ns.user_ns),
            Self::Ipc(ns) => Some(&ns.user_ns),
            Self::Net(ns) => Some(&ns.user_ns),
            Self::Pid(ns) => Some(ns.user_ns()),
            Self::User(ns) => ns.parent.as_ref(),
            Self::Cgroup(ns) => Some(&ns.user_ns),
            Self::Time(ns) => Some(&ns.user_ns),
        }
    }
}

/// The file of a namespace.
pub struct NamespaceFile(pub Namespace);

impl FileOps for NamespaceFile {
    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        super::ioctl::request(&self.0, cmd, arg)
    }
}

/// What the thread will have.
struct Joining {
    /// What it has now, and acts with.
    cred: Arc<Credentials>,
    new_cred: Option<Credentials>,
    proxy: NsProxy,
    root: Option<Path>,
    leaves_ipc: bool,
    changes_time: bool,
}

impl Joining {
    /// The user namespace that it will be in.
    fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.new_cred.as_ref().unwrap_or(&self.cred).user_ns
    }

    /// `EPERM` unless the thread administers `owner`'s and, by then, its own namespace.
    fn require(&self, owner: &Arc<UserNamespace>) -> Result<()> {
        let may = |ns| self.cred.ns_capable(ns, Cap::SysAdmin);
        if may(owner) && may(self.user_ns()) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn user(&mut self, me: &CurrentThread, user: &Arc<UserNamespace>) -> Result<()> {
        if Arc::ptr_eq(user, &self.cred.user_ns) || me.process.thread_count() > 1 || shares_directories(me)? {
            return Err(Errno::EINVAL);
        }
        if !self.cred.ns_capable(user, Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let mut new = Credentials::clone(&self.cred);
        new.user_ns = user.clone();
        all_capabilities(&mut new);
        self.new_cred = Some(new);
        Ok(())
    }

    fn mnt(&mut self, me: &CurrentThread, mnt: &Arc<MountNamespace>) -> Result<()> {
        if !self.cred.ns_capable(self.user_ns(), Cap::SysChroot) {
            return Err(Errno::EPERM);
        }
        if mnt.is_anonymous() || shares_directories(me)? {
            return Err(Errno::EINVAL);
        }
        // The first mount may be covered by others.
        self.root = Some(follow_down(mnt.root()?.root_path()));
        self.proxy.mnt = mnt.clone();
        Ok(())
    }

    fn add(&mut self, me: &CurrentThread, ns: &Namespace) -> Result<()> {
        match ns {
            Namespace::User(user) => return self.user(me, user),
            // Its threads would disagree about the time.
            Namespace::Time(_) if !is_alone_in_memory(me) => return Err(Errno::EUSERS),
            _ => self.require(ns.owner().ok_or(Errno::EPERM)?)?,
        }
        match ns {
            Namespace::Mnt(mnt) => self.mnt(me, mnt)?,
            Namespace::Uts(uts) => self.proxy.uts = uts.clone(),
            Namespace::Ipc(ipc) => {
                self.proxy.ipc = ipc.clone();
                self.leaves_ipc = true;
            }
            Namespace::Net(net) => self.proxy.net = net.clone(),
            Namespace::Cgroup(cgroup) => self.proxy.cgroup = cgroup.clone(),
            Namespace::Time(time) => {
                self.proxy.time = time.clone();
                self.proxy.time_for_children = time.clone();
                self.changes_time = true;
            }
            Namespace::Pid(pid_ns) => {
                // Only downward: a child must stay visible to its parent's namespace.
                if !pid_ns.is_inside(&me.pid_ns()) {
                    return Err(Errno::EINVAL);
                }
                self.proxy.pid_for_children = pid_ns.clone();
            }
            Namespace::User(_) => {}
        }
        Ok(())
    }

    fn commit(self, me: &CurrentThread) -> Result<()> {
        let fs = me.fs().ok_or(Errno::EINVAL)?;
        // From here on it is done whole.
        let _no_fail = NoFailScope::enter();
        let proxy = try_arc(self.proxy)?;
        if let Some(new) = self.new_cred {
            crate::cred::commit::commit(me, new)?;
        }
        if let Some(root) = self.root {
            fs.set_root(root.clone())?;
            fs.set_cwd(root)?;
        }
        if self.leaves_ipc {
            ipc::task::leave_semaphores(me);
        }
        if self.changes_time
            && let Some(mm) = me.mm()
        {
            proxy.time.enter(&mm);
        }
        drop(me.nsproxy.replace(Some(proxy)));
        Ok(())
    }
}

/// Whether nobody else runs in the memory of the running thread.
fn is_alone_in_memory(me: &CurrentThread) -> bool {
    me.process.thread_count() == 1 && me.mm().is_none_or(|mm| mm.users() == 1)
}

/// Whether other threads have the same root and working directory (`CLONE_FS`).
fn shares_directories(me: &CurrentThread) -> Result<bool> {
    Ok(me.fs().ok_or(Errno::EINVAL)?.users.load(Ordering::Acquire) > 1)
}

/// Joins all of `list`, in which a user namespace comes first.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` over one of them, or over the user namespace that the thread will be in; `EINVAL` and
/// `EUSERS` for what a thread that shares its memory or directories cannot join, and a pid namespace that is not below.
pub(super) fn join<'a>(list: impl Iterator<Item = &'a Namespace>) -> Result<()> {
    let me = current();
    let mut joining = Joining {
        cred: me.cred(),
        new_cred: None,
        proxy: NsProxy::clone(&*me.nsproxy().ok_or(Errno::EINVAL)?),
        root: None,
        leaves_ipc: false,
        changes_time: false,
    };
    for ns in list {
        joining.add(&me, ns)?;
    }
    joining.commit(&me)
}
