//! `ns/`: a link per namespace: `namespaces(7)`. Opening one gives a descriptor for `setns(2)`.
//!
//! The objects live in a file system that only the kernel mounts (`nsfs`). A namespace's inode is made when it is
//! asked for; its number is that of the namespace, so two links to one namespace compare equal in `stat(2)`.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};
use kernfs::{Context, Dir, Entry, Link, Listing, Node};
use sync::Lazy;
use vfs::anon::PseudoFs;
use vfs::dentry::Dentry;
use vfs::file::{File, FileImpl, OpenFile};
use vfs::inode::{Inode, InodeInit};
use vfs::inode_ops::{InodeOps, LinkTarget};
use vfs::mount::{Mount, MountNamespace};
use vfs::namei::{OpenArgs, open_path};
use vfs::path::Path;
use vfs::types::FileType;

use super::access::{self, Mode};
use super::{Class, Subject};
use crate::fs::context::Caller;
use crate::namespaces::{Namespace, NamespaceFile};
use mm::fallible::{try_arc, try_box, try_format};

static NSFS: PseudoFs = PseudoFs { name: "nsfs", magic: 0x6e73_6673 };
static MOUNT: Lazy<Result<Arc<Mount>>> = Lazy::new(|| NSFS.kernel_mount());

/// The names, in Linux's order.
const NAMES: [&str; 10] =
    ["net", "uts", "ipc", "pid", "pid_for_children", "user", "mnt", "cgroup", "time", "time_for_children"];

struct NsInode(Namespace);

impl InodeOps for NsInode {
    fn is_bindable(&self) -> bool {
        true
    }

    fn mount_namespace(&self) -> Option<&Arc<MountNamespace>> {
        match &self.0 {
            Namespace::Mnt(ns) => Some(ns),
            _ => None,
        }
    }

    fn open(&self, _: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        if open.writable() {
            return Err(Errno::EPERM);
        }
        Ok(FileImpl::Owned(try_box(NamespaceFile(self.0.clone()))?))
    }
}

/// Kind and number of a namespace, as its link shows them.
fn identity(ns: &Namespace) -> (&'static str, u32) {
    match ns {
        Namespace::Mnt(ns) => ("mnt", ns.inum()),
        Namespace::Uts(ns) => ("uts", ns.inum),
        Namespace::Ipc(ns) => ("ipc", ns.inum),
        Namespace::Net(ns) => ("net", ns.inum),
        Namespace::Pid(ns) => ("pid", ns.inum),
        Namespace::User(ns) => ("user", ns.ns_inum),
        Namespace::Cgroup(ns) => ("cgroup", ns.inum),
        Namespace::Time(ns) => ("time", ns.inum),
    }
}

/// The object of a namespace in nsfs.
fn path_of(ns: Namespace) -> Result<Path> {
    let mount = MOUNT.as_ref().map_err(|error| *error)?;
    let (kind, number) = identity(&ns);
    let init = InodeInit::new(u64::from(number), raw::S_IFREG | 0o444);
    let inode = Inode::new(mount.sb().clone(), init, NsInode(ns))?;
    let dentry = Dentry::new_disconnected(
        mount.sb(),
        try_format(format_args!("{kind}:[{number}]"))?.as_bytes(),
        inode,
    )?;
    Ok(Path::new(mount.clone(), dentry))
}

/// Opens a namespace as a file.
///
/// # Errors
/// `ENOMEM`, `ENFILE`.
pub fn open_namespace(ns: Namespace) -> Result<Arc<File>> {
    let path = path_of(ns)?;
    open_path(&Caller::current()?.ctx(), path, &OpenArgs::from_open(raw::O_RDONLY, 0)?)
}

fn namespace_of(subject: &Subject, index: usize) -> Result<Namespace> {
    subject.with_thread(|_, thread| {
        access::check(thread, Mode::Read)?;
        let proxy = thread.nsproxy().ok_or(Errno::ENOENT)?;
        Ok(match index {
            0 => Namespace::Net(proxy.net.clone()),
            1 => Namespace::Uts(proxy.uts.clone()),
            2 => Namespace::Ipc(proxy.ipc.clone()),
            3 => Namespace::Pid(thread.pid_ns()),
            4 => Namespace::Pid(proxy.pid_for_children.clone()),
            5 => Namespace::User(thread.cred().user_ns.clone()),
            6 => Namespace::Mnt(proxy.mnt.clone()),
            7 => Namespace::Cgroup(proxy.cgroup.clone()),
            8 => Namespace::Time(proxy.time.clone()),
            _ => Namespace::Time(proxy.time_for_children.clone()),
        })
    })?
}

struct NsLink {
    subject: Subject,
    index: usize,
}

impl Link for NsLink {
    fn target(&self, _: &Context<'_>) -> Result<LinkTarget> {
        Ok(LinkTarget::Jump(path_of(namespace_of(&self.subject, self.index)?)?))
    }

    fn text(&self, _: &Context<'_>) -> Result<Option<alloc::vec::Vec<u8>>> {
        let (kind, number) = identity(&namespace_of(&self.subject, self.index)?);
        Ok(Some(try_format(format_args!("{kind}:[{number}]"))?.into_bytes()))
    }

    fn is_magic(&self) -> bool {
        true
    }
}

struct NsDir(Subject);

impl Dir for NsDir {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let Some(index) = NAMES.iter().position(|known| known.as_bytes() == name) else { return Ok(None) };
        let link = Node::Link(try_arc(NsLink { subject: self.0.clone(), index })?);
        let (uid, gid) = self.0.owner(false);
        Ok(Some(Entry::new(link, self.0.ino(Class::Ns, index as u64), 0o777).owned_by(uid, gid)))
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        for (index, name) in NAMES.iter().enumerate().skip(from as usize) {
            let index = index as u64;
            if !emit(name.as_bytes(), self.0.ino(Class::Ns, index), FileType::Symlink, index + 1) {
                break;
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }
}

/// `ns/`.
pub(super) fn dir(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(NsDir(subject.clone()))?)
}
