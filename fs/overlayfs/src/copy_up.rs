//! Copies to the upper layer, before something is changed.
//!
//! Directories above are copied first, from the top down, without what is in them. A file is complete before it gets its name: it is
//! made without one, if the upper layer can do that, otherwise in the work directory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use vfs::attr::notify_change;
use vfs::file_ops::Whence;
use vfs::inode_ops::LinkTarget;
use vfs::namei::layer::{self, New};
use vfs::splice::copy_contents;
use vfs::types::{AttrValid, FileType, Iattr, Kstat};
use vfs::{Dentry, Inode};

use crate::fs::{Change, Lower};
use crate::inode::{Node, NodeFlags, node};
use crate::options::Fsync;

/// Bytes that are copied before others get their turn.
const CHUNK: usize = 1 << 20;

/// What is copied of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    All,
    /// It is about to be cut to nothing.
    Nothing,
}

/// Sees to it that `inode` is in the upper layer.
///
/// # Errors
/// `EROFS`; those of reading the lower and writing the upper layer.
pub(crate) fn copy_up(inode: &Inode, contents: Contents) -> Result<()> {
    node(inode)?.copy_up_node(inode, contents)
}

impl Node {
    pub(crate) fn copy_up_node(&self, inode: &Inode, contents: Contents) -> Result<()> {
        if self.upper().is_some() {
            return Ok(());
        }
        let fs = &self.fs;
        let change = fs.change()?;
        // The topmost directory that is not there comes first.
        loop {
            let mut next: Option<Arc<Inode>> = None;
            let mut place = self.place();
            while let Some(at) = place {
                let above = node(&at.parent)?;
                if above.upper().is_some() {
                    break;
                }
                place = above.place();
                next = Some(at.parent.clone());
            }
            match next {
                Some(directory) => node(&directory)?.copy_one(&directory, &change, Contents::All)?,
                None => return self.copy_one(inode, &change, contents),
            }
        }
    }

    /// Copies this one; the directory above is in the upper layer.
    fn copy_one(&self, inode: &Inode, change: &Change<'_>, contents: Contents) -> Result<()> {
        let _one = self.copying.lock();
        if self.upper().is_some() {
            return Ok(());
        }
        let lower = self.lower().first().ok_or(Errno::EIO)?;
        let real = lower.dentry.inode().ok_or(Errno::ENOENT)?;
        let stat = Self::stat_of(real, raw::STATX_BASIC_STATS)?;
        // What has lost its name is copied for those who have it open.
        let place = self.place().filter(|_| inode.nlink() > 0);
        let parent = match &place {
            Some(place) => Some(node(&place.parent)?),
            None if inode.is_regular() && change.tmpfile => None,
            None => return Err(Errno::ENOENT),
        };
        let above = match parent {
            Some(parent) => Some((parent, parent.upper().ok_or(Errno::EIO)?)),
            None => None,
        };
        // The directory's times are those of the user's changes.
        let times = above.and_then(|(_, dir)| dir.inode()).map(|dir| dir.times());
        if let Some((parent, _)) = above {
            parent.set_impure(change)?;
        }
        let copy = Copy { change, node: self, lower, real, stat: &stat, contents };
        let upper = match (above, place.as_ref()) {
            (Some((_, dir)), Some(place)) if inode.is_regular() && change.tmpfile => {
                let made = copy.nameless()?;
                layer::link(change.cred(), dir, &place.name, &made)?
            }
            (Some((_, dir)), Some(place)) => copy.through_work(dir, &place.name)?,
            _ => copy.nameless()?,
        };
        self.set_upper(upper);
        if inode.is_dir() {
            self.insert(NodeFlags::WHITEOUTS);
            self.changed();
        }
        if let (Some((parent, dir)), Some(times)) = (above, times) {
            let back = Iattr {
                valid: AttrValid::ATIME | AttrValid::MTIME | AttrValid::ATIME_SET | AttrValid::MTIME_SET,
                atime: times.atime,
                mtime: times.mtime,
                ..Iattr::default()
            };
            // They are not worth an error.
            let _ = set_attributes(change, dir, back);
            parent.changed();
        }
        self.copy_attributes(inode)
    }
}

fn set_attributes(change: &Change<'_>, dentry: &Arc<Dentry>, attr: Iattr) -> Result<()> {
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    let _exclusive = inode.rwsem.write();
    notify_change(change.cred(), dentry, attr)
}

/// One copy in the making.
struct Copy<'a> {
    change: &'a Change<'a>,
    node: &'a Node,
    lower: &'a Lower,
    real: &'a Arc<Inode>,
    stat: &'a Kstat,
    contents: Contents,
}

impl Copy<'_> {
    /// A copy of a regular file that has no name yet.
    fn nameless(&self) -> Result<Arc<Dentry>> {
        let made = layer::tmpfile(self.change.cred(), self.change.work, self.stat.mode & 0o7777)?;
        self.data(&made)?;
        self.rest(&made)?;
        Ok(made)
    }

    /// Makes a copy in the work directory and moves it to `name` in `dir`.
    fn through_work(&self, dir: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
        let kind = FileType::from_mode(self.stat.mode).ok_or(Errno::EIO)?;
        let target;
        let new = match kind {
            FileType::Regular => New::File,
            FileType::Directory => New::Directory,
            FileType::Symlink => {
                target = self.link_text()?;
                New::Symlink(&target)
            }
            _ => New::Special(self.stat.rdev),
        };
        let (temporary, made) = self.change.make_temporary(self.change.cred(), self.stat.mode, new)?;
        let done = (|| {
            if kind == FileType::Regular {
                self.data(&made)?;
            }
            self.rest(&made)?;
            self.change.put_in_place(&temporary, dir, name)
        })();
        match done {
            Ok(()) => Ok(made),
            Err(error) => {
                self.change.clean(&temporary);
                Err(error)
            }
        }
    }

    fn link_text(&self) -> Result<Vec<u8>> {
        if let Some(text) = self.real.cached_link() {
            return vfs::util::try_to_vec(text);
        }
        match self.real.ops().get_link(self.real, self.change.cred())? {
            LinkTarget::Path(text) => vfs::util::try_to_vec(&text),
            LinkTarget::Jump(_) => Err(Errno::EIO),
        }
    }

    /// Copies what is in the file; holes stay holes.
    fn data(&self, made: &Arc<Dentry>) -> Result<()> {
        let size = self.stat.size;
        if self.contents == Contents::Nothing || size == 0 {
            return Ok(());
        }
        let cred = self.change.cred();
        let from = layer::open(cred, &self.node.lower_path(self.lower)?, raw::O_RDONLY | raw::O_LARGEFILE)?;
        let to = layer::open(cred, &self.change.path(made), raw::O_WRONLY | raw::O_LARGEFILE)?;
        let mut pos = 0;
        while pos < size {
            let at = i64::try_from(pos).map_err(|_| Errno::EFBIG)?;
            match from.ops().llseek(&from, at, Whence::Data) {
                Ok(data) => pos = data,
                // A hole to the end.
                Err(Errno::ENXIO) => break,
                Err(_) => {}
            }
            if pos >= size {
                break;
            }
            let want = usize::try_from(size - pos).unwrap_or(usize::MAX).min(CHUNK);
            let at = i64::try_from(pos).map_err(|_| Errno::EFBIG)?;
            let hole = from.ops().llseek(&from, at, Whence::Hole).ok().filter(|hole| *hole > pos);
            let want = hole.map_or(want, |hole| usize::try_from(hole - pos).unwrap_or(usize::MAX).min(want));
            let done = copy_contents(&from, &to, pos, want)?;
            if done == 0 {
                break;
            }
            pos += done as u64;
            if sched::current().has_fatal_signal() {
                return Err(Errno::EINTR);
            }
            sched::cond_resched();
        }
        if made.inode().is_some_and(|inode| inode.size() < size) {
            let cut = Iattr { valid: AttrValid::SIZE, size, ..Iattr::default() };
            set_attributes(self.change, made, cut)?;
        }
        if self.change.fs.syncs() {
            vfs::rw::vfs_fsync(&to, 0, u64::MAX, false)?;
        }
        Ok(())
    }

    /// Copies all but the data, and says where it is from.
    fn rest(&self, made: &Arc<Dentry>) -> Result<()> {
        let fs = self.change.fs;
        fs.copy_xattrs(self.real, made)?;
        // Which of several names of a file this copy is of cannot be told.
        if self.real.is_dir() || self.real.nlink() <= 1 {
            match fs.set_origin(made, &self.lower.dentry) {
                Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENOSPC) => {}
                other => other?,
            }
        }
        let mut attr = Iattr {
            valid: AttrValid::UID
                | AttrValid::GID
                | AttrValid::ATIME
                | AttrValid::MTIME
                | AttrValid::ATIME_SET
                | AttrValid::MTIME_SET,
            mode: self.stat.mode & 0o7777,
            uid: self.stat.uid,
            gid: self.stat.gid,
            atime: self.stat.atime,
            mtime: self.stat.mtime,
            ..Iattr::default()
        };
        if !self.real.is_symlink() {
            attr.valid |= AttrValid::MODE;
        }
        set_attributes(self.change, made, attr)?;
        self.sync(made)
    }

    /// With `fsync=strict` a copy is on the disk before it gets its name.
    fn sync(&self, made: &Arc<Dentry>) -> Result<()> {
        if self.change.fs.config.fsync != Fsync::Strict || !(self.real.is_regular() || self.real.is_dir()) {
            return Ok(());
        }
        let flags = raw::O_RDONLY | raw::O_LARGEFILE | raw::O_NOATIME;
        let file = layer::open(self.change.cred(), &self.change.path(made), flags)?;
        vfs::rw::vfs_fsync(&file, 0, u64::MAX, false)
    }
}
