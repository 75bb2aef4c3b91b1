//! Inodes, and their attributes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use bitflags::bitflags;
use sched::mutex::Mutex;
use sync::Once;
use vfs::acl;
use vfs::attr::{notify_change, touch_atime};
use vfs::file::{FileImpl, OpenFile};
use vfs::fileattr::FileAttr;
use vfs::inode_ops::{InodeOps, LinkTarget, Rename};
use vfs::namei::layer::{self, New};
use vfs::path::Path;
use vfs::permission::{generic_permission, inode_permission};
use vfs::types::{AttrValid, FileType, Iattr, Kstat, MayAccess};
use vfs::util::try_to_vec;
use vfs::{Credentials, Dentry, Inode, InodeFlags};

use crate::copy_up::{Contents, copy_up};
use crate::fs::{Change, Fs, Lower};
use crate::lookup::Found;
use crate::readdir::Cache;
use crate::xattr;

bitflags! {
    /// What is known of a node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct NodeFlags: u32 {
        /// It is known by its lower inode, whose number it keeps over copy up.
        const CONST_INO = 1;
        /// The upper directory hides those below, or there never were any.
        const OPAQUE = 2;
        /// The upper directory has entries with an origin.
        const IMPURE = 4;
        /// There may be whiteouts in the directory.
        const WHITEOUTS = 8;
        /// `IMMUTABLE` is ours, not the real file's.
        const PROT_IMMUTABLE = 16;
        /// `APPEND` is.
        const PROT_APPEND = 32;
    }
}

/// Where a node is, in the overlay.
pub(crate) struct Place {
    pub(crate) parent: Arc<Inode>,
    pub(crate) name: Box<[u8]>,
}

/// What an inode stands for. See the crate's text.
pub(crate) struct Node {
    pub(crate) fs: Arc<Fs>,
    upper: Once<Arc<Dentry>>,
    /// Of a directory: all that are merged. Of others: the one that is shown, or what it was copied from.
    lower: Vec<Lower>,
    /// What it is called as long as it is not in the upper layer; none for the root.
    place: SpinLock<Option<Arc<Place>>>,
    /// Held while it is copied up, removed or renamed.
    pub(crate) copying: Mutex<()>,
    flags: AtomicU32,
    /// Where the upper directory says it is in the layers below.
    pub(crate) redirect: SpinLock<Option<Arc<[u8]>>>,
    /// Counts changes of the directory.
    pub(crate) version: AtomicU64,
    pub(crate) cache: SpinLock<Option<Arc<Cache>>>,
    /// Its key in the table of inodes.
    key: Option<usize>,
}

/// The data of an inode of an overlay.
pub(crate) fn node(inode: &Inode) -> Result<&Node> {
    inode.private().ok_or(Errno::EXDEV)
}

/// Flags that the real inode has for both.
const MIRRORED: InodeFlags = InodeFlags::SYNC
    .union(InodeFlags::NOATIME)
    .union(InodeFlags::APPEND)
    .union(InodeFlags::IMMUTABLE)
    .union(InodeFlags::HAS_ACL)
    .union(InodeFlags::HAS_DEFAULT_ACL)
    .union(InodeFlags::HAS_CAPS);

impl Node {
    /// What stands for `found`, at `place`; `key` is its place in the table of inodes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        fs: &Arc<Fs>,
        found: Found,
        place: Option<Arc<Place>>,
        depth: u32,
        key: Option<usize>,
    ) -> Result<Self> {
        let upper = Once::new();
        if let Some(dentry) = found.upper {
            let _ = upper.set(dentry);
        }
        Ok(Self {
            fs: fs.clone(),
            upper,
            lower: found.lower,
            place: SpinLock::new(place),
            // As with the locks of inodes, each level has a class of its own.
            copying: match depth {
                1 => Mutex::new(()),
                _ => Mutex::new(()),
            },
            flags: AtomicU32::new(0),
            redirect: SpinLock::new(match &found.redirect {
                Some(text) => Some(mm::fallible::try_arc_slice(text)?),
                None => None,
            }),
            version: AtomicU64::new(0),
            cache: SpinLock::new(None),
            key,
        })
    }

    /// The real one in the upper layer.
    #[inline]
    pub(crate) fn upper(&self) -> Option<&Arc<Dentry>> {
        self.upper.get()
    }

    /// It is in the upper layer from now on.
    pub(crate) fn set_upper(&self, upper: Arc<Dentry>) {
        let _ = self.upper.set(upper);
    }

    /// Those in lower layers.
    #[inline]
    pub(crate) fn lower(&self) -> &[Lower] {
        &self.lower
    }

    /// The real one that is shown.
    pub(crate) fn real(&self) -> Result<&Arc<Dentry>> {
        let lower = || self.lower.first().map(|lower| &lower.dentry);
        self.upper().or_else(lower).ok_or(Errno::EIO)
    }

    /// The inode of that.
    pub(crate) fn real_inode(&self) -> Result<&Arc<Inode>> {
        self.real()?.inode().ok_or(Errno::ENOENT)
    }

    /// The one that is shown, through our mount of its layer.
    pub(crate) fn real_path(&self) -> Result<Path> {
        if let (Some(dentry), Some(upper)) = (self.upper(), &self.fs.upper) {
            return Ok(Path::new(upper.mnt.clone(), dentry.clone()));
        }
        self.lower.first().ok_or(Errno::EIO).and_then(|lower| self.lower_path(lower))
    }

    /// `lower` through our mount of its layer.
    pub(crate) fn lower_path(&self, lower: &Lower) -> Result<Path> {
        let layer = self.fs.layers.get(lower.layer).ok_or(Errno::EIO)?;
        Ok(Path::new(layer.mnt.clone(), lower.dentry.clone()))
    }

    pub(crate) fn has(&self, flags: NodeFlags) -> bool {
        NodeFlags::from_bits_retain(self.flags.load(Ordering::Acquire)).intersects(flags)
    }

    pub(crate) fn insert(&self, flags: NodeFlags) {
        self.flags.fetch_or(flags.bits(), Ordering::AcqRel);
    }

    fn remove(&self, flags: NodeFlags) {
        self.flags.fetch_and(!flags.bits(), Ordering::AcqRel);
    }

    /// Whether directories of more than one layer are shown as one.
    pub(crate) fn is_merged(&self) -> bool {
        self.lower.len() + usize::from(self.upper().is_some()) > 1
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        self.place.lock().clone()
    }

    /// It is somewhere else now.
    pub(crate) fn set_place(&self, place: Option<Arc<Place>>) {
        let old = core::mem::replace(&mut *self.place.lock(), place);
        drop(old);
    }

    /// The directory was changed: listings begin anew.
    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        let old = self.cache.lock().take();
        drop(old);
    }

    /// The directory has entries with an origin.
    ///
    /// # Errors
    /// Those of setting attributes.
    pub(crate) fn set_impure(&self, change: &Change<'_>) -> Result<()> {
        if self.has(NodeFlags::IMPURE) {
            return Ok(());
        }
        let upper = self.upper().ok_or(Errno::EIO)?;
        match change.fs.own_set(upper, xattr::IMPURE, b"y") {
            // Without attributes there are no origins either.
            Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
            other => other?,
        }
        self.insert(NodeFlags::IMPURE);
        Ok(())
    }

    /// Makes the upper directory hide those below.
    ///
    /// # Errors
    /// Those of setting attributes.
    pub(crate) fn set_opaque(&self, upper: &Arc<Dentry>) -> Result<()> {
        self.fs.own_set(upper, xattr::OPAQUE, b"y")?;
        self.insert(NodeFlags::OPAQUE);
        Ok(())
    }

    /// Takes over what may have changed of the real inode.
    pub(crate) fn copy_attributes(&self, inode: &Inode) -> Result<()> {
        let real = self.real_inode()?;
        inode.set_owner(real.uid(), real.gid());
        inode.set_permissions(real.mode());
        let times = real.times();
        inode.update_times(|t| *t = times);
        inode.set_size(real.size());
        let mut flags = real.flags() & MIRRORED;
        flags.set(
            InodeFlags::IMMUTABLE,
            flags.contains(InodeFlags::IMMUTABLE) || self.has(NodeFlags::PROT_IMMUTABLE),
        );
        flags.set(InodeFlags::APPEND, flags.contains(InodeFlags::APPEND) || self.has(NodeFlags::PROT_APPEND));
        let gone = inode.flags() & MIRRORED & !flags;
        if !gone.is_empty() {
            inode.remove_flags(gone);
        }
        if !inode.flags().contains(flags) {
            inode.insert_flags(flags);
        }
        Ok(())
    }

    /// Changes attributes of the upper inode.
    pub(crate) fn change_upper(&self, inode: &Inode, attr: Iattr) -> Result<()> {
        let upper = self.upper().ok_or(Errno::EIO)?;
        let real = upper.inode().ok_or(Errno::ENOENT)?;
        let changed = {
            let _exclusive = real.rwsem.write();
            notify_change(&self.fs.cred, upper, attr)
        };
        self.copy_attributes(inode)?;
        changed
    }

    /// Attributes of `real` as its own file system shows them.
    pub(crate) fn stat_of(real: &Arc<Inode>, request_mask: u32) -> Result<Kstat> {
        if real.flags().contains(InodeFlags::OP_GETATTR) {
            return real.ops().getattr(real, request_mask);
        }
        Ok(real.fill_stat())
    }

    /// Flags of `chattr(1)` that are kept beside the upper file.
    pub(crate) fn load_protected(&self) -> Result<()> {
        let Some(upper) = self.upper().and_then(|upper| upper.inode()) else { return Ok(()) };
        for letter in self.fs.own_get(upper, xattr::PROTATTR)?.unwrap_or_default() {
            match letter {
                b'i' => self.insert(NodeFlags::PROT_IMMUTABLE),
                b'a' => self.insert(NodeFlags::PROT_APPEND),
                _ => break,
            }
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The directories above go one after the other, however deep they are.
        let mut next = self.place.lock().take();
        while let Some(place) = next.take().and_then(Arc::into_inner) {
            let Some(parent) = Arc::into_inner(place.parent) else { break };
            next = node(&parent).ok().and_then(|above| above.place.lock().take());
        }
        let Some(key) = self.key else { return };
        let mut inodes = self.fs.inodes.lock();
        // Another one may have taken the place already.
        if inodes.get(&key).is_some_and(|inode| inode.strong_count() == 0) {
            let gone = inodes.remove(&key);
            drop(inodes);
            drop(gone);
        }
    }
}

impl InodeOps for Node {
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        match self.fs.find(self, name)? {
            None => Ok(None),
            Some(found) => self.fs.inode(dir.sb(), found, Some(Fs::new_place(dir, name)?)).map(Some),
        }
    }

    fn create(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        self.make(cred, dir, name, mode, New::File)
    }

    fn mknod(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        mode: u32,
        dev: DevId,
    ) -> Result<Arc<Inode>> {
        // Whiteouts are ours to make.
        if mode & raw::S_IFMT == raw::S_IFCHR && dev == DevId::default() {
            return Err(Errno::EPERM);
        }
        self.make(cred, dir, name, mode, New::Special(dev))
    }

    fn mkdir(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        self.make(cred, dir, name, mode, New::Directory)
    }

    fn symlink(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], to: &[u8]) -> Result<Arc<Inode>> {
        self.make(cred, dir, name, raw::S_IFLNK | 0o777, New::Symlink(to))
    }

    fn link(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        self.make_link(dir, name, inode)
    }

    fn unlink(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        self.take_away(dir, name, inode)
    }

    fn rmdir(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        self.take_away(dir, name, inode)
    }

    fn rename(&self, request: &Rename<'_>) -> Result<()> {
        crate::rename::rename(request)
    }

    fn tmpfile(&self, cred: &Credentials, dir: &Arc<Inode>, mode: u32) -> Result<Arc<Inode>> {
        self.make_nameless(cred, dir, mode)
    }

    fn get_link(&self, inode: &Arc<Inode>, _: &Arc<Credentials>) -> Result<LinkTarget> {
        if let Some(text) = inode.cached_link() {
            return Ok(LinkTarget::Path(text.clone()));
        }
        let real = self.real_inode()?;
        match real.cached_link() {
            Some(text) => Ok(LinkTarget::Path(text.clone())),
            None => real.ops().get_link(real, &self.fs.cred),
        }
    }

    fn readlink(&self, _: &Arc<Inode>, _: &Arc<Credentials>) -> Result<Vec<u8>> {
        let real = self.real_inode()?;
        match real.cached_link() {
            Some(text) => try_to_vec(text),
            None => real.ops().readlink(real, &self.fs.cred),
        }
    }

    /// The caller needs the rights that the attributes here give, and who mounted those of the real inode.
    fn permission(&self, inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
        generic_permission(inode, cred, mask)?;
        let real = self.real_inode()?;
        let mut mask = mask - MayAccess::ACCESS - MayAccess::OPEN;
        let special = matches!(
            real.file_type(),
            FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket
        );
        if self.upper().is_none() && !special && mask.contains(MayAccess::WRITE) {
            // It will be copied for that, which takes reading.
            mask.remove(MayAccess::WRITE | MayAccess::APPEND);
            mask.insert(MayAccess::READ);
        }
        inode_permission(real, &self.fs.cred, mask)
    }

    fn getattr(&self, inode: &Arc<Inode>, request_mask: u32) -> Result<Kstat> {
        let mut stat = Self::stat_of(self.real_inode()?, request_mask)?;
        let mut fsid = 0;
        let lower = self.lower.first();
        let layer_of = |lower: &Lower| self.fs.layers.get(lower.layer).map_or(0, |layer| layer.fsid);
        if self.upper().is_none() {
            fsid = lower.map_or(0, layer_of);
        } else if let Some(lower) = lower
            && let Some(origin) = lower.dentry.inode()
            && self.has(NodeFlags::CONST_INO)
            && (inode.is_dir() && self.fs.numbers != crate::fs::Numbers::Apart
                || !inode.is_dir() && origin.nlink() == 1)
        {
            // It keeps the number that it had before it was copied.
            fsid = layer_of(lower);
            stat.ino = Self::stat_of(origin, raw::STATX_INO)?.ino;
        }
        self.fs.map_stat(inode, &mut stat, fsid);
        if inode.is_dir() && self.is_merged() {
            stat.nlink = 1;
        }
        Ok(stat)
    }

    fn setattr(&self, inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
        let _change = self.fs.change()?;
        let contents = match attr.valid.contains(AttrValid::SIZE) {
            true if attr.size == 0 => Contents::Nothing,
            _ => Contents::All,
        };
        copy_up(inode, contents)?;
        let mut attr = *attr;
        attr.valid.remove(AttrValid::OPEN | AttrValid::FORCE_MODE);
        if !attr.valid.contains(AttrValid::SIZE) {
            return self.change_upper(inode, attr);
        }
        let real = self.real_inode()?;
        real.get_write_access()?;
        let changed = self.change_upper(inode, attr);
        real.put_write_access();
        changed
    }

    fn touch_atime(&self, inode: &Inode) {
        let Some(upper) = self.upper() else { return };
        let Ok(path) = self.real_path() else { return };
        touch_atime(&path);
        if let Some(real) = upper.inode() {
            let atime = real.times().atime;
            inode.update_times(|t| t.atime = atime);
        }
    }

    fn has_fileattr(&self, _: &Inode) -> bool {
        self.real_inode().is_ok_and(|real| real.ops().has_fileattr(real))
    }

    fn fileattr_get(&self, _: &Arc<Inode>) -> Result<FileAttr> {
        let real = self.real_inode()?;
        let mut attr = real.ops().fileattr_get(real)?;
        for (flag, fs_flag, xflag) in PROTECTED {
            if self.has(flag) {
                attr.flags |= fs_flag;
                attr.xflags |= xflag;
            }
        }
        Ok(attr)
    }

    fn fileattr_set(&self, inode: &Arc<Inode>, attr: &FileAttr) -> Result<()> {
        let _change = self.fs.change()?;
        copy_up(inode, Contents::All)?;
        let upper = self.upper().ok_or(Errno::EIO)?;
        // A real file with these flags could not be moved or linked any more.
        let mut letters: [u8; 2] = [0; 2];
        let mut count = 0;
        let mut real_attr = *attr;
        for ((_, fs_flag, xflag), letter) in PROTECTED.iter().zip(*b"ai") {
            if attr.flags & fs_flag != 0
                && let Some(slot) = letters.get_mut(count)
            {
                *slot = letter;
                count += 1;
            }
            real_attr.flags &= !fs_flag;
            real_attr.xflags &= !xflag;
        }
        match letters.get(..count).unwrap_or_default() {
            [] => self.fs.own_remove(upper, xattr::PROTATTR)?,
            text => self.fs.own_set(upper, xattr::PROTATTR, text)?,
        }
        let real = upper.inode().ok_or(Errno::ENOENT)?;
        {
            let _exclusive = real.rwsem.write();
            real.ops().fileattr_set(real, &real_attr)?;
        }
        for (flag, fs_flag, _) in PROTECTED {
            if attr.flags & fs_flag != 0 { self.insert(flag) } else { self.remove(flag) }
        }
        self.copy_attributes(inode)
    }

    fn getxattr(&self, _: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        let real = self.real_inode()?;
        match xattr::escaped(name, self.fs.config.userxattr)? {
            Some(kept) => real.ops().getxattr(real, &kept),
            None => real.ops().getxattr(real, name),
        }
    }

    fn setxattr(&self, inode: &Inode, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        self.change_xattr(inode, name, |real, name| vfs::xattr::set_locked(real, name, value, flags))
    }

    fn removexattr(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        // What is not there is no reason to copy.
        self.getxattr(inode, name)?;
        self.change_xattr(inode, name, vfs::xattr::remove_locked)
    }

    fn listxattr(&self, _: &Inode) -> Result<Vec<u8>> {
        let real = self.real_inode()?;
        xattr::shown(&real.ops().listxattr(real)?, self.fs.config.userxattr)
    }

    fn open(&self, inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        crate::file::open(self, inode, open)
    }

    fn evict(&self, _: &Inode) {
        self.set_place(None);
        if let Some(upper) = self.upper() {
            layer::release(upper);
        }
    }
}

/// Flags that are kept beside the upper file: append only, immutable.
const PROTECTED: [(NodeFlags, u32, u32); 2] = [
    (NodeFlags::PROT_APPEND, raw::FS_APPEND_FL, raw::FS_XFLAG_APPEND),
    (NodeFlags::PROT_IMMUTABLE, raw::FS_IMMUTABLE_FL, raw::FS_XFLAG_IMMUTABLE),
];

impl Node {
    fn change_xattr(
        &self,
        inode: &Inode,
        name: &[u8],
        change: impl FnOnce(&Arc<Inode>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let _change = self.fs.change()?;
        self.copy_up_node(inode, Contents::All)?;
        let real = self.real_inode()?;
        let kept = xattr::escaped(name, self.fs.config.userxattr)?;
        {
            let _exclusive = real.rwsem.write();
            change(real, kept.as_deref().unwrap_or(name))?;
            real.touch_ctime();
        }
        self.copy_attributes(inode)
    }

    pub(crate) fn acl_default(&self) -> Result<Option<Vec<u8>>> {
        let real = self.real_inode()?;
        match real.ops().getxattr(real, acl::ACL_DEFAULT) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
