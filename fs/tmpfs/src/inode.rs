//! Inodes: making, naming, renaming, removing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::creds::{Gid, Uid};
use abi::fs::DevId;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::fallible::{TryCollect, TryVec, try_arc, try_arc_slice};
use mm::{AddressSpaceOps, Mapping};
use vfs::acl;
use vfs::attr::{new_entry_owner, simple_setattr};
use vfs::file::{FileImpl, OpenFile};
use vfs::fileattr::FileAttr;
use vfs::inode_ops::{InodeOps, Rename};
use vfs::namei::RenameFlags;
use vfs::super_block::SuperBlock;
use vfs::types::{AttrValid, Iattr, Kstat};
use vfs::{Credentials, FileType, Inode, InodeFlags, InodeInit};

use crate::TmpfsSuper;
use crate::dir::DirTable;
use crate::file::{DIR_OPS, FILE_OPS};
use crate::limits::Limits;
use crate::ramfs::{self, is_ramfs};
use crate::xattrs::Xattrs;

/// What a directory's size grows by per entry.
const ENTRY_SIZE: u64 = 20;

/// Accounting of a file's pages.
struct Pages(Arc<Limits>);

impl AddressSpaceOps for Pages {
    fn account(&self, pages: i64) -> Result<()> {
        if pages >= 0 {
            return self.0.charge_blocks(pages as u64);
        }
        self.0.uncharge_blocks(pages.unsigned_abs());
        Ok(())
    }

    fn is_memory(&self) -> bool {
        true
    }
}

/// The data of one inode.
pub(crate) struct TmpfsInode {
    limits: Arc<Limits>,
    /// Entries, if it is a directory.
    pub(crate) dir: SpinLock<DirTable>,
    xattrs: Xattrs,
    /// `F_SEAL_*`; only memfds can change them.
    pub(crate) seals: AtomicU32,
    /// `FS_*_FL`: what [`CHANGEABLE`] has.
    attributes: AtomicU32,
    /// Counts in `limits`: until it is evicted.
    charged: AtomicBool,
}

impl Drop for TmpfsInode {
    fn drop(&mut self) {
        self.uncharge();
    }
}

pub(crate) struct NewInode {
    pub(crate) mode: u32,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) rdev: DevId,
    pub(crate) seals: u32,
    /// `FS_*_FL`, of [`INHERITED`].
    pub(crate) attributes: u32,
}

pub(crate) fn new_inode(sb: &Arc<SuperBlock>, limits: &Arc<Limits>, new: NewInode) -> Result<Arc<Inode>> {
    let kind = FileType::from_mode(new.mode);
    let directory = kind == Some(FileType::Directory);
    let mapping = match kind {
        Some(FileType::Regular) => Some(try_arc(Mapping::new(try_arc(Pages(limits.clone()))?, 0))?),
        _ => None,
    };
    limits.charge_inode()?;
    let ops = TmpfsInode {
        limits: limits.clone(),
        dir: SpinLock::new(DirTable::default()),
        xattrs: Xattrs::default(),
        seals: AtomicU32::new(new.seals),
        attributes: AtomicU32::new(new.attributes),
        charged: AtomicBool::new(true),
    };
    let init = InodeInit {
        uid: new.uid,
        gid: new.gid,
        rdev: new.rdev,
        nlink: if directory { 2 } else { 1 },
        size: if directory { 2 * ENTRY_SIZE } else { 0 },
        flags: InodeFlags::OP_GETATTR | inode_flags(new.attributes),
        mapping,
        ..InodeInit::new(vfs::anon::next_ino(), new.mode)
    };
    Inode::new(sb.clone(), init, ops)
}

pub(crate) fn new_root(
    sb: &Arc<SuperBlock>,
    limits: &Arc<Limits>,
    mode: u32,
    uid: Uid,
    gid: Gid,
) -> Result<Arc<Inode>> {
    let (rdev, seals) = (DevId::default(), raw::F_SEAL_SEAL);
    new_inode(sb, limits, NewInode { mode, uid, gid, rdev, seals, attributes: 0 })
}

/// The attributes of `chattr(1)` that can be changed.
const CHANGEABLE: u32 = raw::FS_IMMUTABLE_FL | raw::FS_APPEND_FL | raw::FS_NODUMP_FL | raw::FS_NOATIME_FL;

/// Those that new entries take over from their directory.
const INHERITED: u32 = raw::FS_NODUMP_FL | raw::FS_NOATIME_FL;

/// Which attribute is which flag of the inode, that the rest of the system obeys.
const OBEYED: [(u32, InodeFlags); 3] = [
    (raw::FS_IMMUTABLE_FL, InodeFlags::IMMUTABLE),
    (raw::FS_APPEND_FL, InodeFlags::APPEND),
    (raw::FS_NOATIME_FL, InodeFlags::NOATIME),
];

/// The flags of an inode with `attributes`.
fn inode_flags(attributes: u32) -> InodeFlags {
    let mut flags = InodeFlags::empty();
    for (attribute, flag) in OBEYED {
        flags.set(flag, attributes & attribute != 0);
    }
    flags
}

fn has_xattrs(inode: &Inode) -> Result<()> {
    if is_ramfs(inode) { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

/// The tmpfs data of an inode of this file system.
pub(crate) fn data(inode: &Inode) -> Result<&TmpfsInode> {
    inode.private().ok_or(Errno::EXDEV)
}

impl TmpfsInode {
    fn make(&self, cred: &Credentials, dir: &Arc<Inode>, mode: u32, rdev: DevId) -> Result<Arc<Inode>> {
        let (uid, gid) = new_entry_owner(dir, cred);
        let sb = dir.sb();
        let limits = &sb.private::<TmpfsSuper>().ok_or(Errno::EINVAL)?.limits;
        let attributes = self.attributes.load(Ordering::Relaxed) & INHERITED;
        let new = NewInode { mode, uid, gid, rdev, seals: raw::F_SEAL_SEAL, attributes };
        let inode = new_inode(sb, limits, new)?;
        self.inherit_acl(&inode)?;
        Ok(inode)
    }

    /// A default access list of the directory becomes the list of the new entry.
    fn inherit_acl(&self, inode: &Arc<Inode>) -> Result<()> {
        let Ok(value) = self.xattrs.get(acl::ACL_DEFAULT) else { return Ok(()) };
        if inode.is_symlink() {
            return Ok(());
        }
        let child = data(inode)?;
        if inode.is_dir() {
            child.xattrs.set(acl::ACL_DEFAULT, &value, 0)?;
            inode.insert_flags(InodeFlags::HAS_DEFAULT_ACL);
        }
        let inherited = acl::inherit(&value, inode.mode())?;
        inode.set_permissions(inherited.mode);
        if let Some(list) = inherited.access {
            child.xattrs.set(acl::ACL_ACCESS, &list, 0)?;
            inode.insert_flags(InodeFlags::HAS_ACL);
        }
        Ok(())
    }

    fn enter(&self, dir: &Inode, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        self.dir.lock().insert(name, inode.clone())?;
        dir.set_size(dir.size() + ENTRY_SIZE);
        dir.touch_mtime();
        if inode.is_dir() {
            dir.inc_nlink();
        }
        Ok(())
    }

    /// Gives the inode's part of the limit back, once.
    fn uncharge(&self) {
        if self.charged.swap(false, Ordering::Relaxed) {
            self.limits.uncharge_inode();
        }
    }

    /// Takes the entry out; the inode is dropped by the caller, with no lock held.
    fn leave(&self, dir: &Inode, name: &[u8]) -> Option<Arc<Inode>> {
        let inode = self.dir.lock().remove(name);
        dir.set_size(dir.size().saturating_sub(ENTRY_SIZE));
        dir.touch_mtime();
        inode
    }

    fn is_empty(&self) -> bool {
        self.dir.lock().is_empty()
    }
}

impl InodeOps for TmpfsInode {
    fn lookup(&self, _: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        Ok(self.dir.lock().get(name).cloned())
    }

    fn create(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        self.mknod(cred, dir, name, mode, DevId::default())
    }

    fn mknod(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        mode: u32,
        dev: DevId,
    ) -> Result<Arc<Inode>> {
        let inode = self.make(cred, dir, mode, dev)?;
        self.enter(dir, name, &inode)?;
        Ok(inode)
    }

    fn mkdir(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        self.mknod(cred, dir, name, mode, DevId::default())
    }

    fn symlink(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        target: &[u8],
    ) -> Result<Arc<Inode>> {
        let text = try_arc_slice(target)?;
        let inode = self.make(cred, dir, raw::S_IFLNK | 0o777, DevId::default())?;
        inode.set_size(text.len() as u64);
        inode.set_cached_link(text);
        self.enter(dir, name, &inode)?;
        Ok(inode)
    }

    fn link(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        // Each name counts: it costs memory like an inode does.
        let counts = inode.nlink() > 0;
        if counts {
            self.limits.charge_inode()?;
        }
        if let Err(error) = self.enter(dir, name, inode) {
            if counts {
                self.limits.uncharge_inode();
            }
            return Err(error);
        }
        inode.inc_nlink();
        inode.touch_ctime();
        Ok(())
    }

    fn unlink(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        let gone = self.leave(dir, name);
        if inode.nlink() > 1 {
            self.limits.uncharge_inode();
        }
        inode.drop_nlink();
        inode.touch_ctime();
        drop(gone);
        Ok(())
    }

    fn rmdir(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        if !data(inode)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        let gone = self.leave(dir, name);
        dir.drop_nlink();
        inode.set_nlink(0);
        inode.touch_ctime();
        drop(gone);
        Ok(())
    }

    fn rename(&self, r: &Rename<'_>) -> Result<()> {
        let new = data(r.new_dir)?;
        if r.flags.contains(RenameFlags::EXCHANGE) {
            return self.exchange(r, new);
        }
        if let Some(target) = r.target
            && target.is_dir()
            && !data(target)?.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        if r.flags.contains(RenameFlags::WHITEOUT) && is_ramfs(r.old_dir) {
            return Err(Errno::EINVAL);
        }
        let whiteout = match r.flags.contains(RenameFlags::WHITEOUT) {
            true => Some(self.make(r.cred, r.old_dir, raw::S_IFCHR, DevId::default())?),
            false => None,
        };
        let moved = r.inode.is_dir();
        let mut gone = None;
        if let Some(target) = r.target {
            // In the target's place: that takes no memory.
            gone = new.dir.lock().replace(r.new_name, r.inode.clone());
            r.new_dir.touch_mtime();
            if moved {
                r.new_dir.inc_nlink();
            }
            if target.is_dir() {
                r.new_dir.drop_nlink();
                target.set_nlink(0);
            } else {
                if target.nlink() > 1 {
                    self.limits.uncharge_inode();
                }
                target.drop_nlink();
            }
            target.touch_ctime();
        } else {
            new.enter(r.new_dir, r.new_name, r.inode)?;
        }
        let old = match whiteout {
            Some(whiteout) => {
                r.old_dir.touch_mtime();
                self.dir.lock().replace(r.old_name, whiteout)
            }
            None => self.leave(r.old_dir, r.old_name),
        };
        if moved {
            r.old_dir.drop_nlink();
        }
        r.inode.touch_ctime();
        drop((gone, old));
        Ok(())
    }

    fn tmpfile(&self, cred: &Credentials, dir: &Arc<Inode>, mode: u32) -> Result<Arc<Inode>> {
        let inode = self.make(cred, dir, mode, DevId::default())?;
        inode.set_nlink(0);
        Ok(inode)
    }

    fn getattr(&self, inode: &Arc<Inode>, _: u32) -> Result<Kstat> {
        let mut stat = inode.fill_stat();
        if let Some(mapping) = inode.mapping() {
            stat.blocks = mapping.nr_pages() as u64 * (arch::addr::PAGE_SIZE as u64 / 512);
        }
        if is_ramfs(inode) {
            return Ok(stat);
        }
        stat.result_mask |= raw::STATX_BTIME;
        if self.attributes.load(Ordering::Relaxed) & raw::FS_NODUMP_FL != 0 {
            stat.attributes |= u64::from(raw::STATX_ATTR_NODUMP);
        }
        stat.attributes_mask |=
            u64::from(raw::STATX_ATTR_APPEND | raw::STATX_ATTR_IMMUTABLE | raw::STATX_ATTR_NODUMP);
        Ok(stat)
    }

    fn setattr(&self, inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
        if attr.valid.contains(AttrValid::MODE)
            && self.seals.load(Ordering::Acquire) & raw::F_SEAL_EXEC != 0
            && (inode.mode() ^ attr.mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        if attr.valid.contains(AttrValid::SIZE)
            && let Some(mapping) = inode.mapping()
        {
            let (old, new) = (mapping.size(), attr.size);
            let seals = self.seals.load(Ordering::Acquire);
            if new < old && seals & raw::F_SEAL_SHRINK != 0 || new > old && seals & raw::F_SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            if new != old {
                mapping.truncate(new);
            }
        }
        simple_setattr(inode, attr)
    }

    fn has_fileattr(&self, inode: &Inode) -> bool {
        !is_ramfs(inode) && (inode.is_regular() || inode.is_dir())
    }

    fn fileattr_get(&self, inode: &Arc<Inode>) -> Result<FileAttr> {
        if !self.has_fileattr(inode) {
            return Err(Errno::ENOTTY);
        }
        Ok(FileAttr::from_flags(self.attributes.load(Ordering::Relaxed)))
    }

    fn fileattr_set(&self, inode: &Arc<Inode>, attr: &FileAttr) -> Result<()> {
        if attr.is_more_than_flags() || attr.flags & !CHANGEABLE != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.attributes.store(attr.flags, Ordering::Relaxed);
        let set = inode_flags(attr.flags);
        inode.insert_flags(set);
        inode.remove_flags(inode_flags(CHANGEABLE) - set);
        inode.touch_ctime();
        Ok(())
    }

    fn getxattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        has_xattrs(inode)?;
        self.xattrs.get(name)
    }

    fn setxattr(&self, inode: &Inode, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        has_xattrs(inode)?;
        self.xattrs.set(name, value, flags)
    }

    fn removexattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        has_xattrs(inode)?;
        self.xattrs.remove(name)
    }

    fn listxattr(&self, _: &Inode) -> Result<Vec<u8>> {
        self.xattrs.list()
    }

    fn open(&self, inode: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        match (inode.is_dir(), is_ramfs(inode)) {
            (true, true) => return Ok(FileImpl::Static(&ramfs::RAMFS_DIR)),
            (true, false) => return Ok(FileImpl::Static(&DIR_OPS)),
            (false, true) => return Ok(FileImpl::Static(&ramfs::RAMFS_FILE)),
            (false, false) => {}
        }
        Ok(FileImpl::Static(&FILE_OPS))
    }

    /// Gives up contents and, for a directory, everything below it: one inode after the other, however deep.
    fn evict(&self, inode: &Inode) {
        if let Some(mapping) = inode.mapping() {
            mapping.truncate(0);
        }
        let _no_fail = mm::context::NoFailScope::enter();
        let mut below = self.dir.lock().drain().try_collect_vec().unwrap_or_default();
        while let Some(child) = below.pop() {
            if child.is_dir()
                && Arc::strong_count(&child) == 1
                && let Ok(child) = data(&child)
            {
                let _ = below.try_extend(child.dir.lock().drain());
            }
        }
        self.uncharge();
        if let Some(sb) = inode.sb().private::<TmpfsSuper>() {
            sb.exported.forget(inode);
        }
    }
}

impl TmpfsInode {
    fn exchange(&self, r: &Rename<'_>, new: &TmpfsInode) -> Result<()> {
        let other = r.target.ok_or(Errno::ENOENT)?;
        let first = self.dir.lock().replace(r.old_name, other.clone());
        let second = new.dir.lock().replace(r.new_name, r.inode.clone());
        let (a, b) = (r.inode.is_dir(), other.is_dir());
        if !Arc::ptr_eq(r.old_dir, r.new_dir) && a != b {
            let (loses, gains) = if a { (r.old_dir, r.new_dir) } else { (r.new_dir, r.old_dir) };
            loses.drop_nlink();
            gains.inc_nlink();
        }
        r.old_dir.touch_mtime();
        r.new_dir.touch_mtime();
        r.inode.touch_ctime();
        other.touch_ctime();
        drop((first, second));
        Ok(())
    }
}
