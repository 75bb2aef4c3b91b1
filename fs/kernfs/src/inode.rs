//! Nodes as inodes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use vfs::cred::Credentials;
use vfs::dentry::Dentry;
use vfs::dir::DirContext;
use vfs::file::{File, FileImpl, FileMode, OpenFile};
use vfs::file_ops::{FileOps, Whence};
use vfs::inode::{Inode, InodeFlags, InodeInit};
use vfs::inode_ops::{InodeOps, LinkTarget, Revalidate};
use vfs::permission::generic_permission;
use vfs::super_block::SuperBlock;
use vfs::types::{Iattr, Kstat, MayAccess};

use crate::node::{Access, Context, Dir, Entry, Node, PermissionFn};
use crate::text::{Source, TextFile};
use mm::fallible::try_box;

/// Positions of `.` and `..`; a directory's own positions come after them.
const DOTS: u64 = 2;

/// The operations of a node's inode.
struct KernInode {
    node: Node,
    access: Access,
    permission: Option<PermissionFn>,
}

/// Makes the inode of `entry`.
pub(crate) fn make(sb: &Arc<SuperBlock>, entry: Entry) -> Result<Arc<Inode>> {
    let type_bits = entry.node.file_type() as u32;
    let mut init = InodeInit::new(entry.ino, type_bits | entry.mode);
    init.uid = entry.uid;
    init.gid = entry.gid;
    init.size = entry.size;
    if entry.access == Access::Sysctl {
        init.flags |= InodeFlags::OP_PERMISSION;
    }
    match &entry.node {
        Node::Dir(dir) => {
            if dir.revision().is_none() {
                init.flags |= InodeFlags::NO_NEGATIVE;
            }
            init.nlink = dir.nlink();
            if dir.is_guarded() {
                init.flags |= InodeFlags::OP_PERMISSION | InodeFlags::OP_GETATTR;
            }
            init.flags |= InodeFlags::OP_REVALIDATE;
        }
        Node::Link(link) if link.is_magic() => init.flags |= InodeFlags::MAGIC_LINK,
        _ => {}
    }
    if entry.permission.is_some() {
        init.flags |= InodeFlags::OP_PERMISSION;
    }
    let ops = KernInode { node: entry.node, access: entry.access, permission: entry.permission };
    Inode::new(sb.clone(), init, ops)
}

/// The directory behind an inode of a tree of this crate.
pub fn directory(inode: &Inode) -> Option<&Arc<dyn Dir>> {
    inode.private::<KernInode>()?.dir().ok()
}

impl KernInode {
    fn dir(&self) -> Result<&Arc<dyn Dir>> {
        match &self.node {
            Node::Dir(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }
}

impl InodeOps for KernInode {
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        let cx = Context { sb: dir.sb(), cred: Credentials::kernel() };
        match self.dir()?.lookup(&cx, name)? {
            Some(entry) => make(dir.sb(), entry).map(Some),
            None if self.access == Access::Bits => Ok(None),
            // Whatever is to be done with a name that does not exist in procfs, this is the answer.
            None => Err(Errno::ENOENT),
        }
    }

    fn revision(&self) -> usize {
        match &self.node {
            Node::Dir(dir) => dir.revision().unwrap_or(0),
            _ => 0,
        }
    }

    fn revalidate(&self, dir: &Inode, child: &Dentry, may_sleep: bool) -> Revalidate {
        let Node::Dir(me) = &self.node else { return Revalidate::Valid };
        let alive = |inode: &Inode| match inode.private::<Self>().map(|child| &child.node) {
            Some(Node::Dir(dir)) => dir.is_alive(),
            _ => true,
        };
        if !me.is_alive() || !child.inode().is_none_or(|inode| alive(inode)) {
            return Revalidate::Invalid;
        }
        let revision = me.revision();
        match revision {
            Some(now) if child.revision.load(Ordering::Acquire) == now => return Revalidate::Valid,
            None if !me.is_volatile() => return Revalidate::Valid,
            _ => {}
        }
        if !may_sleep {
            return Revalidate::Retry;
        }
        let Some(name) = child.name_arc() else { return Revalidate::Invalid };
        let cx = Context { sb: dir.sb(), cred: Credentials::kernel() };
        match (me.lookup(&cx, name.bytes()), child.inode()) {
            (Ok(Some(entry)), Some(inode)) if entry.ino == inode.ino() => {
                if me.follows_owner() && (entry.uid, entry.gid) != (inode.uid(), inode.gid()) {
                    inode.set_owner(entry.uid, entry.gid);
                }
                if entry.size != inode.size() {
                    inode.set_size(entry.size);
                }
            }
            (Ok(None), None) => {}
            _ => return Revalidate::Invalid,
        }
        // What was read before the lookup: a change since then is seen next time.
        child.revision.store(revision.unwrap_or(0), Ordering::Release);
        Revalidate::Valid
    }

    fn get_link(&self, inode: &Arc<Inode>, cred: &Arc<Credentials>) -> Result<LinkTarget> {
        match &self.node {
            Node::Link(link) => {
                let cx = Context { sb: inode.sb(), cred };
                link.may_follow(&cx)?;
                link.target(&cx)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn readlink(&self, inode: &Arc<Inode>, cred: &Arc<Credentials>) -> Result<Vec<u8>> {
        let Node::Link(link) = &self.node else { return Err(Errno::EINVAL) };
        let cx = Context { sb: inode.sb(), cred };
        if let Some(text) = link.text(&cx)? {
            return Ok(text);
        }
        match link.target(&cx)? {
            LinkTarget::Path(path) => vfs::util::try_to_vec(&path),
            LinkTarget::Jump(path) => vfs::path::d_path(&path, None),
        }
    }

    fn getattr(&self, inode: &Arc<Inode>, _: u32) -> Result<Kstat> {
        if let Node::Dir(dir) = &self.node {
            dir.may_see(&Context { sb: inode.sb(), cred: Credentials::kernel() })?;
        }
        Ok(inode.fill_stat())
    }

    fn setattr(&self, inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
        // `open(O_TRUNC)` of a sysctl is how shells write to it.
        let mut attr = *attr;
        attr.valid.remove(vfs::types::AttrValid::SIZE);
        vfs::attr::simple_setattr(inode, &attr)
    }

    fn permission(&self, inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
        if let Some(permission) = self.permission {
            return permission(cred, mask);
        }
        if let Node::Dir(dir) = &self.node
            && dir.is_guarded()
        {
            dir.may_enter(&Context { sb: inode.sb(), cred })?;
        }
        if self.access != Access::Sysctl {
            return generic_permission(inode, cred, mask);
        }
        let shift = if cred.euid == Uid(0) {
            6
        } else if cred.in_egroup(Gid(0)) {
            3
        } else {
            0
        };
        let wanted = mask.bits() & 7;
        if inode.mode() >> shift & wanted == wanted { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn open(&self, inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        if self.access == Access::Bits && !inode.is_dir() {
            let mode = inode.mode();
            let readable = !open.mode.contains(FileMode::READ) || mode & 0o444 != 0;
            if !readable || open.writable() && mode & 0o222 == 0 {
                return Err(Errno::EACCES);
            }
        }
        let cx = Context { sb: inode.sb(), cred: open.cred };
        let source = match &self.node {
            Node::Dir(dir) => return Ok(FileImpl::Owned(try_box(DirFile { dir: dir.clone() })?)),
            Node::Text(show) => Source::Shared(show.clone()),
            Node::Attr(attr) => Source::Constant(attr),
            Node::Custom(custom) => return custom(&cx, open),
            Node::Link(_) => return Err(Errno::ELOOP),
        };
        source.open(&cx)?;
        Ok(FileImpl::Owned(try_box(TextFile::new(source))?))
    }
}

/// An open directory.
struct DirFile {
    dir: Arc<dyn Dir>,
}

impl FileOps for DirFile {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        if !self.dir.is_alive() {
            return Err(Errno::ENOENT);
        }
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        let cx = Context { sb: file.inode().sb(), cred: file.cred() };
        let from = ctx.pos.saturating_sub(DOTS);
        self.dir.list(&cx, from, &mut |name, ino, kind, next| ctx.emit(name, ino, Some(kind), next + DOTS))
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let base = match whence {
            Whence::Set => 0,
            Whence::Cur => file.pos() as i64,
            _ => return Err(Errno::EINVAL),
        };
        let target = base.checked_add(offset).and_then(|at| u64::try_from(at).ok()).ok_or(Errno::EINVAL)?;
        file.set_pos(target);
        Ok(target)
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
