//! The work directory when a mount begins: emptied of what an earlier one left, and used to find out what the upper layer can do.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cap::Cap;
use abi::{Errno, Result, raw};
use mm::fallible::TryVec;
use vfs::attr::notify_change;
use vfs::dir::{DirEntry, iterate_dir};
use vfs::namei::RenameFlags;
use vfs::namei::layer::{self, New};
use vfs::path::Path;
use vfs::types::{AttrValid, Iattr};
use vfs::util::Lossy;
use vfs::{Credentials, Dentry, acl};

use crate::fs::Upper;
use crate::lookup::is_whiteout;
use crate::mount::Traps;
use crate::options::{Config, Fsync, Redirect, Uuid, Xino};

/// The work directory proper, in `workdir=`.
const WORK: &[u8] = b"work";
/// In it: what this mount does that others must not ignore.
const INCOMPAT: &[u8] = b"incompat";

/// The work directory in the making.
pub(crate) struct Preparing<'a> {
    pub(crate) cred: &'a Arc<Credentials>,
    pub(crate) config: &'a mut Config,
    pub(crate) no_xattr: bool,
}

impl Preparing<'_> {
    /// Makes the work directory, and finds out what the upper layer can do.
    pub(crate) fn work(mut self, mut upper: Upper, traps: &mut Traps) -> Result<(Option<Upper>, bool)> {
        let mnt = upper.mnt.clone();
        mnt.get_write()?;
        let made = self.make_work(&mut upper, traps);
        mnt.put_write();
        made?;
        Ok((Some(upper), self.no_xattr))
    }

    fn make_work(&mut self, upper: &mut Upper, traps: &mut Traps) -> Result<()> {
        let work = match fresh_directory(self.cred, upper, WORK) {
            Ok(work) => work,
            // Another mount left something that must not be ignored.
            Err(Errno::EINVAL) => return Err(Errno::EINVAL),
            Err(error) => {
                let dir = self.config.workdir.as_deref().unwrap_or_default();
                log::warn!(
                    "overlayfs: failed to create directory {}/work (errno: {error}); mounting read-only",
                    Lossy(dir)
                );
                return Ok(());
            }
        };
        traps.add(&work, "workdir")?;
        upper.tmpfile = layer::tmpfile(self.cred, &work, 0).is_ok();
        if !upper.tmpfile {
            log::warn!("overlayfs: upper fs does not support tmpfile.");
        }
        if !self.can_leave_whiteouts(&work)? {
            log::warn!("overlayfs: upper fs does not support RENAME_WHITEOUT.");
        }
        self.check_xattrs(&work);
        if self.config.fsync == Fsync::Volatile {
            self.mark_volatile(&work).inspect_err(|_| {
                log::error!("overlayfs: Failed to create volatile/dirty file.");
            })?;
        }
        if self.config.xino == Xino::Auto && work.sb().ops().export().is_none() {
            log::warn!("overlayfs: upper fs does not support file handles, falling back to xino=off.");
            self.config.xino = Xino::Off;
        }
        upper.work = Some(work);
        Ok(())
    }

    /// Whether `RENAME_WHITEOUT` works.
    fn can_leave_whiteouts(&self, work: &Arc<Dentry>) -> Result<bool> {
        let (from, to) = (b"#0".as_slice(), b"#1".as_slice());
        layer::make(self.cred, work, from, raw::S_IFREG, New::File)?;
        let renamed = layer::rename(self.cred, (work, from), (work, to), RenameFlags::WHITEOUT);
        let left = layer::lookup(self.cred, work, from)?;
        let whiteout = left.as_ref().and_then(|left| left.inode()).is_some_and(|inode| is_whiteout(inode));
        for name in [from, to] {
            if layer::lookup(self.cred, work, name)?.is_some() {
                layer::remove(self.cred, work, name)?;
            }
        }
        match renamed {
            Err(Errno::EINVAL) => Ok(false),
            other => other.map(|()| whiteout),
        }
    }

    /// Whether attributes of ours can be set; what takes them is off otherwise.
    fn check_xattrs(&mut self, work: &Arc<Dentry>) {
        let name: &[u8] =
            if self.config.userxattr { b"user.overlay.opaque" } else { b"trusted.overlay.opaque" };
        let set = match work.inode() {
            Some(_) if !self.config.userxattr && !self.cred.capable(Cap::SysAdmin) => Err(Errno::EPERM),
            Some(inode) => {
                let _exclusive = inode.rwsem.write();
                vfs::xattr::set_locked(inode, name, b"0", 0)
                    .and_then(|()| vfs::xattr::remove_locked(inode, name))
            }
            None => Err(Errno::ENOENT),
        };
        let Err(error) = set else { return };
        log::warn!("overlayfs: failed to set xattr on upper");
        self.no_xattr = true;
        if self.config.follows_redirects() {
            self.config.redirect = Redirect::NoFollow;
            log::warn!("overlayfs: ...falling back to redirect_dir=nofollow.");
        }
        if matches!(self.config.uuid, Uuid::Auto | Uuid::On) {
            self.config.uuid = Uuid::Null;
            log::warn!("overlayfs: ...falling back to uuid=null.");
        }
        if self.config.xino == Xino::Auto {
            self.config.xino = Xino::Off;
            log::warn!("overlayfs: ...falling back to xino=off.");
        }
        if error == Errno::EPERM && !self.config.userxattr {
            log::info!("overlayfs: try mounting with 'userxattr' option");
        }
    }

    /// Leaves something that keeps the layer from being mounted again: it may not be whole.
    fn mark_volatile(&self, work: &Arc<Dentry>) -> Result<()> {
        let mut at = work.clone();
        for name in [INCOMPAT, b"volatile"] {
            at = layer::make(self.cred, &at, name, raw::S_IFDIR, New::Directory)?;
        }
        layer::make(self.cred, &at, b"dirty", raw::S_IFREG, New::File).map(drop)
    }
}

/// An empty directory `name` in the work directory's; what is there of an earlier mount is removed.
///
/// # Errors
/// `EINVAL` if that must not be ignored.
fn fresh_directory(cred: &Arc<Credentials>, upper: &Upper, name: &[u8]) -> Result<Arc<Dentry>> {
    if layer::lookup(cred, &upper.base, name)?.is_some() {
        let path = Path::new(upper.mnt.clone(), upper.base.clone());
        remove_left(cred, &path, name, 0)?;
    }
    let made = layer::make(cred, &upper.base, name, raw::S_IFDIR, New::Directory)?;
    let inode = made.inode().ok_or(Errno::ENOENT)?;
    let exclusive = inode.rwsem.write();
    for list in [acl::ACL_DEFAULT, acl::ACL_ACCESS] {
        match vfs::xattr::remove_locked(inode, list) {
            Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
            other => other?,
        }
    }
    notify_change(cred, &made, Iattr { valid: AttrValid::MODE, mode: 0, ..Iattr::default() })?;
    drop(exclusive);
    Ok(made)
}

/// How deep the work directory's contents are removed.
const DEEPEST: u32 = 2;

/// Removes `name`, which an earlier mount left in `dir`.
fn remove_left(cred: &Arc<Credentials>, dir: &Path, name: &[u8], level: u32) -> Result<()> {
    let Some(there) = layer::lookup(cred, &dir.dentry, name)? else { return Ok(()) };
    let directory = there.inode().is_some_and(|inode| inode.is_dir());
    if directory && level < DEEPEST && layer::remove(cred, &dir.dentry, name).is_err() {
        let inner = Path::new(dir.mnt.clone(), there);
        for left in names_in(cred, &inner)? {
            if level == 1 && name == INCOMPAT {
                log::error!("overlayfs: overlay with incompat feature '{}' cannot be mounted", Lossy(&left));
                return Err(Errno::EINVAL);
            }
            remove_left(cred, &inner, &left, level + 1)?;
        }
        return layer::remove(cred, &dir.dentry, name);
    }
    match directory && level < DEEPEST {
        true => Ok(()),
        false => layer::remove(cred, &dir.dentry, name),
    }
}

fn names_in(cred: &Arc<Credentials>, dir: &Path) -> Result<Vec<Vec<u8>>> {
    let file = layer::open(cred, dir, raw::O_RDONLY | raw::O_DIRECTORY | raw::O_LARGEFILE)?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut seen = usize::MAX;
    let mut failed = false;
    while seen != names.len() {
        seen = names.len();
        iterate_dir(&file, &mut |entry: &DirEntry<'_>| {
            if matches!(entry.name, b"." | b"..") {
                return true;
            }
            let kept = mm::try_to_vec(entry.name).and_then(|name| names.try_push(name));
            failed |= kept.is_err();
            kept.is_ok()
        })?;
        if failed {
            return Err(Errno::ENOMEM);
        }
    }
    Ok(names)
}
