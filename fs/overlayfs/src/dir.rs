//! Names that appear and go.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use vfs::acl;
use vfs::attr::{new_entry_owner, notify_change};
use vfs::namei::RenameFlags;
use vfs::namei::layer::{self, New};
use vfs::types::{AttrValid, Iattr};
use vfs::{Credentials, Dentry, Inode};

use crate::copy_up::{Contents, copy_up};
use crate::fs::{Change, Fs};
use crate::inode::{Node, NodeFlags, node};
use crate::lookup::{Found, is_whiteout};

impl Node {
    /// This directory in the upper layer, where it is made to be if need be.
    pub(crate) fn upper_dir(&self, dir: &Inode) -> Result<&Arc<Dentry>> {
        copy_up(dir, Contents::All)?;
        self.upper().ok_or(Errno::EIO)
    }

    /// Makes `name` in this directory.
    pub(crate) fn make(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        name: &[u8],
        mode: u32,
        new: New<'_>,
    ) -> Result<Arc<Inode>> {
        let fs = &self.fs;
        let change = fs.change()?;
        let upper_dir = self.upper_dir(dir)?;
        // The new file is the caller's; all else that it takes is allowed to who mounted.
        let (uid, gid) = new_entry_owner(dir, cred);
        let acting = Credentials { fsuid: uid, fsgid: gid, ..Credentials::clone(&fs.cred) };
        let directory = matches!(new, New::Directory);
        let mut opaque = false;
        let upper = match layer::lookup(&fs.cred, upper_dir, name)? {
            None => {
                let made = layer::make(&acting, upper_dir, name, mode, new)?;
                // It hides nothing now; this keeps it so, whatever appears below.
                if directory && self.is_merged() && !fs.allows_offline_changes() {
                    opaque = fs.own_set(&made, crate::xattr::OPAQUE, b"y").is_ok();
                }
                made
            }
            Some(there) if there.inode().is_some_and(|inode| is_whiteout(inode)) => {
                opaque = directory;
                self.make_over_whiteout(&change, &acting, upper_dir, name, mode, new)?
            }
            // Somebody changed the layer behind our back.
            Some(_) => return Err(Errno::ESTALE),
        };
        self.changed();
        self.copy_attributes(dir)?;
        let found = Found { upper: Some(upper), opaque, ..Found::default() };
        fs.inode(dir.sb(), found, Some(Fs::new_place(dir, name)?))
    }

    fn make_over_whiteout(
        &self,
        change: &Change<'_>,
        acting: &Credentials,
        upper_dir: &Arc<Dentry>,
        name: &[u8],
        mode: u32,
        new: New<'_>,
    ) -> Result<Arc<Dentry>> {
        let directory = matches!(new, New::Directory);
        let (temporary, made) = change.make_temporary(acting, mode, new)?;
        let done = (|| {
            if !matches!(new, New::Symlink(_)) {
                self.inherit(change, &made, mode)?;
            }
            if !directory {
                return change.put_in_place(&temporary, upper_dir, name);
            }
            change.fs.own_set(&made, crate::xattr::OPAQUE, b"y")?;
            change.swap_in(&temporary, upper_dir, name, RenameFlags::EXCHANGE)?;
            // What came back is the whiteout.
            change.clean(&temporary);
            Ok(())
        })();
        match done {
            Ok(()) => Ok(made),
            Err(error) => {
                change.clean(&temporary);
                Err(error)
            }
        }
    }

    /// A file that was made in the work directory gets what it would have got in this one.
    fn inherit(&self, change: &Change<'_>, made: &Arc<Dentry>, mode: u32) -> Result<()> {
        let inode = made.inode().ok_or(Errno::ENOENT)?;
        let mut mode = mode & 0o7777;
        let mut access = None;
        let default = self.acl_default()?;
        if let Some(default) = &default {
            let inherited = acl::inherit(default, mode)?;
            (mode, access) = (inherited.mode, inherited.access);
        }
        let _exclusive = inode.rwsem.write();
        if inode.mode() & 0o7777 != mode {
            let attr = Iattr { valid: AttrValid::MODE, mode, ..Iattr::default() };
            notify_change(change.cred(), made, attr)?;
        }
        if let Some(list) = access {
            vfs::xattr::set_locked(inode, acl::ACL_ACCESS, &list, 0)?;
        }
        if let Some(list) = default
            && inode.is_dir()
        {
            vfs::xattr::set_locked(inode, acl::ACL_DEFAULT, &list, 0)?;
        }
        Ok(())
    }

    /// Makes a regular file without a name.
    pub(crate) fn make_nameless(
        &self,
        cred: &Credentials,
        dir: &Arc<Inode>,
        mode: u32,
    ) -> Result<Arc<Inode>> {
        let fs = &self.fs;
        let _change = fs.change()?;
        let upper_dir = self.upper_dir(dir)?;
        let (uid, gid) = new_entry_owner(dir, cred);
        let acting = Credentials { fsuid: uid, fsgid: gid, ..Credentials::clone(&fs.cred) };
        let upper = layer::tmpfile(&acting, upper_dir, mode & 0o7777)?;
        let found = Found { upper: Some(upper), ..Found::default() };
        fs.inode(dir.sb(), found, None)
    }

    /// Gives `inode` the name `name` in this directory.
    pub(crate) fn make_link(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        let fs = &self.fs;
        let change = fs.change()?;
        copy_up(inode, Contents::All)?;
        let upper_dir = self.upper_dir(dir)?;
        let source = node(inode)?;
        let upper = source.upper().ok_or(Errno::EIO)?;
        if source.has_origin() {
            self.set_impure(&change)?;
        }
        match layer::lookup(&fs.cred, upper_dir, name)? {
            None => drop(layer::link(&fs.cred, upper_dir, name, upper)?),
            Some(there) if there.inode().is_some_and(|inode| is_whiteout(inode)) => {
                let temporary = change.temporary()?;
                layer::link(&fs.cred, change.work, &temporary, upper)?;
                if let Err(error) = change.put_in_place(&temporary, upper_dir, name) {
                    change.clean(&temporary);
                    return Err(error);
                }
            }
            Some(_) => return Err(Errno::ESTALE),
        }
        self.changed();
        self.copy_attributes(dir)?;
        source.copy_links(inode);
        source.copy_attributes(inode)
    }

    /// Whether it is a copy, or merged with something.
    pub(crate) fn has_origin(&self) -> bool {
        self.has(NodeFlags::CONST_INO) && !self.lower().is_empty()
    }

    /// It has as many names as the upper file.
    pub(crate) fn copy_links(&self, inode: &Inode) {
        if let Some(upper) = self.upper().and_then(|upper| upper.inode()) {
            inode.set_nlink(upper.nlink());
        }
    }

    /// Removes `name`, which stands for `inode`: a file or an empty directory.
    pub(crate) fn take_away(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        let fs = &self.fs;
        let change = fs.change()?;
        let victim = node(inode)?;
        let hides = self.hides(victim, name)?;
        // A directory that is in the upper layer only is not removed there unless it is empty.
        let whiteouts = match inode.is_dir() && (hides || victim.may_hold_whiteouts()) {
            true => victim.must_be_empty()?,
            false => Vec::new(),
        };
        let upper_dir = self.upper_dir(dir)?;
        let _not_copied_meanwhile = victim.copying.lock();
        let there = victim.in_upper(upper_dir, name)?;
        let there = match there {
            Some(_) if !whiteouts.is_empty() => {
                Some(victim.replace_by_empty(&change, upper_dir, name, &whiteouts)?)
            }
            there => there,
        };
        match (hides, &there) {
            (true, there) => change.whiteout(upper_dir, name, there.as_ref())?,
            (false, Some(_)) => layer::remove(&fs.cred, upper_dir, name)?,
            (false, None) => return Err(Errno::ESTALE),
        }
        self.changed();
        self.copy_attributes(dir)?;
        victim.lost_name(inode)
    }

    /// A name of `inode` is gone.
    pub(crate) fn lost_name(&self, inode: &Inode) -> Result<()> {
        match self.upper() {
            Some(_) if inode.is_dir() => inode.set_nlink(0),
            Some(_) => self.copy_links(inode),
            None => inode.set_nlink(0),
        }
        if self.upper().is_some() { self.copy_attributes(inode) } else { Ok(()) }
    }

    /// What the name of this node is in the upper layer; it must be what is thought to be there.
    pub(crate) fn in_upper(&self, upper_dir: &Arc<Dentry>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        let there = layer::lookup(&self.fs.cred, upper_dir, name)?;
        let same =
            match (self.upper().and_then(|upper| upper.inode()), there.as_ref().and_then(|d| d.inode())) {
                (Some(known), Some(there)) => Arc::ptr_eq(known, there),
                (None, None) => true,
                _ => false,
            };
        if same { Ok(there) } else { Err(Errno::ESTALE) }
    }

    /// Whether something would come to light in this directory if `victim`, called `name`, were not there.
    pub(crate) fn hides(&self, victim: &Node, name: &[u8]) -> Result<bool> {
        if victim.upper().is_none() {
            return Ok(true);
        }
        for lower in self.lower() {
            match layer::lookup(&self.fs.cred, &lower.dentry, name) {
                Ok(None) | Err(Errno::ENOENT | Errno::ENAMETOOLONG) => {}
                Ok(Some(there)) => return Ok(!there.inode().is_some_and(|inode| is_whiteout(inode))),
                // Something is there that we cannot see.
                Err(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Puts an empty opaque directory in the place of this one, which holds nothing but whiteouts, and removes it.
    pub(crate) fn replace_by_empty(
        &self,
        change: &Change<'_>,
        upper_dir: &Arc<Dentry>,
        name: &[u8],
        whiteouts: &[Vec<u8>],
    ) -> Result<Arc<Dentry>> {
        let fs = change.fs;
        let old = self.upper().ok_or(Errno::EIO)?;
        let real = old.inode().ok_or(Errno::ENOENT)?;
        let (temporary, empty) =
            change.make_temporary(&fs.cred, raw::S_IFDIR | real.mode() & 0o7777, New::Directory)?;
        let swapped = (|| {
            fs.copy_xattrs(real, &empty)?;
            fs.own_set(&empty, crate::xattr::OPAQUE, b"y")?;
            {
                let inode = empty.inode().ok_or(Errno::ENOENT)?;
                let _exclusive = inode.rwsem.write();
                let attr = Iattr {
                    valid: AttrValid::UID | AttrValid::GID | AttrValid::MODE,
                    mode: real.mode() & 0o7777,
                    uid: real.uid().0,
                    gid: real.gid().0,
                    ..Iattr::default()
                };
                notify_change(change.cred(), &empty, attr)?;
            }
            change.swap_in(&temporary, upper_dir, name, RenameFlags::EXCHANGE)
        })();
        if let Err(error) = swapped {
            change.clean(&temporary);
            return Err(error);
        }
        for whiteout in whiteouts {
            if let Err(error) = layer::remove(&fs.cred, old, whiteout) {
                log::error!("overlayfs: cleanup of a whiteout failed ({error})");
            }
        }
        change.clean(&temporary);
        Ok(empty)
    }
}
