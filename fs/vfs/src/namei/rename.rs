//! `rename(2)`, `renameat2(2)`.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};
use bitflags::bitflags;

use super::lookup::lookup_locked;
use super::{At, LookupFlags, path_parent};
use crate::cred::Credentials;
use crate::dcache::{self, Renamed};
use crate::dentry::{Dentry, DentryFlags};
use crate::inode::{Inode, InodeFlags};
use crate::inode_ops::Rename;
use crate::mount::{self, MountNamespace};
use crate::notify;
use crate::path::LookupContext;
use crate::permission::{Removal, inode_permission, may_create, may_delete};
use crate::security::{self, Move, MoveKind};
use crate::types::{MayAccess, NAME_MAX};

bitflags! {
    /// Flags of `renameat2(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// The new name must not exist.
        const NOREPLACE = raw::RENAME_NOREPLACE;
        /// Swap the two.
        const EXCHANGE = raw::RENAME_EXCHANGE;
        /// Leave a whiteout behind.
        const WHITEOUT = raw::RENAME_WHITEOUT;
    }
}

/// `renameat2(2)`.
pub fn rename(
    ctx: &LookupContext<'_>,
    old_at: At<'_>,
    old: &[u8],
    new_at: At<'_>,
    new: &[u8],
    flags: u32,
) -> Result<()> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if flags.contains(RenameFlags::EXCHANGE)
        && flags.intersects(RenameFlags::NOREPLACE | RenameFlags::WHITEOUT)
    {
        return Err(Errno::EINVAL);
    }
    let (old_parent, old_last) = path_parent(ctx, old_at, old, LookupFlags::empty())?;
    let (new_parent, new_last) = path_parent(ctx, new_at, new, LookupFlags::empty())?;
    if !Arc::ptr_eq(&old_parent.mnt, &new_parent.mnt) {
        return Err(Errno::EXDEV);
    }
    if !old_last.is_normal() {
        return Err(Errno::EBUSY);
    }
    if !new_last.is_normal() {
        return Err(if flags.contains(RenameFlags::NOREPLACE) { Errno::EEXIST } else { Errno::EBUSY });
    }
    if old_last.name().len() > NAME_MAX || new_last.name().len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    old_parent.mnt.get_write()?;
    let result = locked(&old_parent.dentry, &new_parent.dentry, || {
        let (old_dir, new_dir) = (old_parent.inode()?, new_parent.inode()?);
        inode_permission(old_dir, ctx.cred, MayAccess::EXEC)?;
        inode_permission(new_dir, ctx.cred, MayAccess::EXEC)?;
        let source = lookup_locked(&old_parent.dentry, old_dir, old_last.name())?;
        let inode = source.inode().ok_or(Errno::ENOENT)?;
        let target = lookup_locked(&new_parent.dentry, new_dir, new_last.name())?;
        if flags.contains(RenameFlags::NOREPLACE) && !target.is_negative() {
            return Err(Errno::EEXIST);
        }
        if flags.contains(RenameFlags::EXCHANGE) {
            let other = target.inode().ok_or(Errno::ENOENT)?;
            if new_last.trailing_slash && !other.is_dir() {
                return Err(Errno::ENOTDIR);
            }
        }
        if !inode.is_dir()
            && (old_last.trailing_slash || new_last.trailing_slash && !flags.contains(RenameFlags::EXCHANGE))
        {
            return Err(Errno::ENOTDIR);
        }
        // Neither may be moved into itself.
        if new_parent.dentry.is_below(&source) {
            return Err(Errno::EINVAL);
        }
        if old_parent.dentry.is_below(&target) {
            return Err(if flags.contains(RenameFlags::EXCHANGE) { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        let kind = if flags.contains(RenameFlags::EXCHANGE) { MoveKind::Exchange } else { MoveKind::Rename };
        let request =
            Move { source: &source, to: &new_parent, target: target.inode().map(|_| &target), kind };
        security::check_move(ctx.cred, &request)?;
        let step = Step {
            cred: ctx.cred,
            ns: Some(ctx.ns),
            old_parent: &old_parent.dentry,
            old_name: old_last.name(),
            source: &source,
            new_parent: &new_parent.dentry,
            new_name: new_last.name(),
            target: &target,
            flags,
        };
        step.run(old_dir, inode, new_dir)
    });
    old_parent.mnt.put_write();
    result
}

/// Runs `f` with both directories locked, ancestor first.
pub(super) fn locked<R>(a: &Arc<Dentry>, b: &Arc<Dentry>, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let (dir_a, dir_b) = (a.inode().ok_or(Errno::ENOENT)?, b.inode().ok_or(Errno::ENOENT)?);
    if Arc::ptr_eq(dir_a, dir_b) {
        let _names = dir_a.rwsem.write();
        return f();
    }
    let _one_at_a_time = a.sb().rename_mutex.lock();
    let b_first = a.is_below(b) || !b.is_below(a) && Arc::as_ptr(dir_b) < Arc::as_ptr(dir_a);
    let (first, second) = if b_first { (dir_b, dir_a) } else { (dir_a, dir_b) };
    let _first = first.rwsem.write();
    let _second = second.rwsem.write_nested();
    f()
}

/// A rename of which all names have been looked up, with both directories locked.
pub(super) struct Step<'a> {
    pub(super) cred: &'a Credentials,
    /// Where nothing may be mounted on what moves.
    pub(super) ns: Option<&'a Arc<MountNamespace>>,
    pub(super) old_parent: &'a Arc<Dentry>,
    pub(super) old_name: &'a [u8],
    pub(super) source: &'a Arc<Dentry>,
    pub(super) new_parent: &'a Arc<Dentry>,
    pub(super) new_name: &'a [u8],
    pub(super) target: &'a Arc<Dentry>,
    pub(super) flags: RenameFlags,
}

impl Step<'_> {
    pub(super) fn run(&self, old_dir: &Arc<Inode>, inode: &Arc<Inode>, new_dir: &Arc<Inode>) -> Result<()> {
        let cred = self.cred;
        let other = self.target.inode();
        if other.is_some_and(|other| Arc::ptr_eq(other, inode)) {
            return Ok(());
        }
        let exchange = self.flags.contains(RenameFlags::EXCHANGE);
        let kind = |inode: &Inode| if inode.is_dir() { Removal::Directory } else { Removal::File };
        may_delete(old_dir, inode, cred, kind(inode))?;
        match other {
            None => may_create(new_dir, cred)?,
            Some(other) if exchange => may_delete(new_dir, other, cred, kind(other))?,
            Some(other) => may_delete(new_dir, other, cred, kind(inode))?,
        }
        // A directory that gets another `..` must be writable itself.
        let moves = !Arc::ptr_eq(old_dir, new_dir);
        if moves && inode.is_dir() {
            inode_permission(inode, cred, MayAccess::WRITE)?;
        }
        if let Some(other) = other
            && moves
            && exchange
            && other.is_dir()
        {
            inode_permission(other, cred, MayAccess::WRITE)?;
        }
        for dentry in [self.source, self.target] {
            if dentry.flags().contains(DentryFlags::MOUNTED)
                && self.ns.is_some_and(|ns| mount::tree::is_local_mountpoint(ns, dentry))
            {
                return Err(Errno::EBUSY);
            }
        }
        let renamed = self.prepare()?;
        old_dir.ops().rename(&Rename {
            cred,
            old_dir,
            old_name: self.old_name,
            inode,
            new_dir,
            new_name: self.new_name,
            target: other,
            flags: self.flags,
        })?;
        self.update_cache(renamed, other);
        self.announce();
        Ok(())
    }

    /// What the cache will need: the new name of the source, and in an exchange that of the target.
    fn prepare(&self) -> Result<(Renamed, Option<Renamed>)> {
        if !self.flags.contains(RenameFlags::EXCHANGE) {
            return Ok((Renamed::new(self.source, self.new_parent, self.new_name)?, None));
        }
        let back = Renamed::as_other(self.target, self.source)?;
        Ok((Renamed::as_other(self.source, self.target)?, Some(back)))
    }

    fn update_cache(&self, renamed: (Renamed, Option<Renamed>), other: Option<&Arc<Inode>>) {
        let to = match renamed {
            (to, Some(back)) => return dcache::d_exchange(to, back),
            (to, None) => to,
        };
        match other {
            Some(other) => {
                if other.is_dir() {
                    other.insert_flags(InodeFlags::DEAD);
                }
                mount::tree::detach_mounts(self.target);
                dcache::d_delete(self.target);
            }
            None => dcache::d_drop(self.target),
        }
        dcache::d_move(to);
    }

    /// Tells of the move, and lets what was replaced go.
    fn announce(&self) {
        let exchange = self.flags.contains(RenameFlags::EXCHANGE);
        let replaced = (!exchange && !self.target.is_negative()).then_some(self.target);
        let (old, new) = ((self.old_parent, self.old_name), (self.new_parent, self.new_name));
        notify::on_move(old.0, old.1, self.source, new.0, new.1, replaced);
        if exchange {
            notify::on_move(new.0, new.1, self.target, old.0, old.1, None);
        }
        if replaced.is_some() {
            dcache::evict_if_unused(self.target, 1);
        }
    }
}
