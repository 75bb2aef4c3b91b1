//! `fanotify_mark(2)`.

use alloc::sync::{Arc, Weak};

use abi::cap::Cap;
use abi::fanotify::{init, mark as flag};
use abi::{Errno, Result};

use super::group::Fanotify;
use crate::file::File;
use crate::fs_type::FsFlags;
use crate::inode::Inode;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::notify::account::FANOTIFY_MARKS;
use crate::notify::mark::{self, Interest};
use crate::notify::{Group, Mark, MarkFlags, Object, mask};
use crate::path::{LookupContext, Path};
use crate::permission::inode_permission;
use crate::super_block::SB_NOUSER;
use crate::types::MayAccess;

/// Events with an open descriptor.
const FD_EVENTS: u32 = mask::ACCESS | mask::MODIFY | mask::CLOSE | mask::OPEN | mask::OPEN_EXEC | mask::PERM;
/// What a mask may say besides.
const EVENT_FLAGS: u32 = mask::ISDIR | mask::ON_CHILD;
/// All that a mask may say.
const KNOWN: u32 =
    FD_EVENTS | mask::DIRENT | mask::ATTRIB | mask::MOVE_SELF | mask::DELETE_SELF | mask::ERROR | EVENT_FLAGS;
/// What only directories have.
const DIRECTORY_ONLY: u32 = mask::DIRENT | EVENT_FLAGS;

/// The arguments that need no look at the file system.
///
/// # Errors
/// `EINVAL`.
pub fn check_arguments(flags: u32, mask: u64) -> Result<()> {
    let mask = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let command = flags & flag::COMMANDS;
    let nothing = mask == 0 && matches!(command, flag::ADD | flag::REMOVE);
    if flags & !flag::ALL != 0
        || flags & flag::TYPE_BITS == flag::TYPE_BITS
        || !matches!(command, flag::ADD | flag::REMOVE | flag::FLUSH)
        || nothing
        || command == flag::FLUSH && flags & !(flag::TYPE_BITS | flag::FLUSH) != 0
        || mask & !KNOWN != 0
        || flags & flag::IGNORE_BITS == flag::IGNORE_BITS
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Where the object of a mark is.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// At a name.
    Name(At<'a>, &'a [u8]),
    /// An open file, or the working directory.
    Place(&'a Path),
}

/// One call.
struct Request<'a> {
    group: &'a Fanotify,
    flags: u32,
    mask: u32,
    /// Bits that cannot be taken away, because the user did not set them.
    fixed: u32,
}

/// `fanotify_mark(2)` with arguments that passed [`check_arguments`].
pub fn fanotify_mark(
    ctx: &LookupContext<'_>,
    file: &File,
    flags: u32,
    mask: u32,
    target: Target<'_>,
) -> Result<()> {
    let group = file.private::<Fanotify>().ok_or(Errno::EINVAL)?;
    let mut request = Request { group, flags, mask, fixed: 0 };
    if flags & flag::IGNORE_BITS == flag::IGNORED_MASK {
        request.mask &= !EVENT_FLAGS;
        request.fixed = EVENT_FLAGS;
    }
    request.check(ctx)?;
    if flags & flag::COMMANDS == flag::FLUSH {
        request.flush();
        return Ok(());
    }
    let path = request.find(ctx, target)?;
    request.apply(&path)
}

impl Request<'_> {
    fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    fn on_inode(&self) -> bool {
        !self.has(flag::TYPE_BITS)
    }

    fn adds(&self) -> bool {
        self.has(flag::ADD)
    }

    fn fid_mode(&self) -> u32 {
        self.group.flags & init::FID_BITS
    }

    /// What depends on the group and the caller.
    fn check(&self, ctx: &LookupContext<'_>) -> Result<()> {
        let class = self.group.flags & (init::CLASS_CONTENT | init::CLASS_PRE_CONTENT);
        if !self.on_inode() && (self.group.unprivileged || !ctx.cred.capable(Cap::SysAdmin)) {
            return Err(Errno::EPERM);
        }
        let without_fd = self.mask & !(FD_EVENTS | EVENT_FLAGS) != 0;
        if self.mask & mask::PERM != 0 && class == 0
            || self.mask & mask::ERROR != 0 && !self.has(flag::FILESYSTEM)
            || self.has(flag::EVICTABLE) && !self.on_inode()
            || without_fd && (self.fid_mode() == 0 || self.has(flag::MOUNT))
            || self.mask & mask::RENAME != 0 && self.fid_mode() & init::REPORT_NAME == 0
        {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn find(&self, ctx: &LookupContext<'_>, target: Target<'_>) -> Result<Path> {
        let path = match target {
            Target::Place(path) => {
                if self.has(flag::ONLYDIR) && !path.inode()?.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                path.clone()
            }
            Target::Name(at, name) => {
                let mut lookup = LookupFlags::empty();
                lookup.set(LookupFlags::FOLLOW, !self.has(flag::DONT_FOLLOW));
                lookup.set(LookupFlags::DIRECTORY, self.has(flag::ONLYDIR));
                path_lookup(ctx, at, name, lookup)?
            }
        };
        inode_permission(path.inode()?, ctx.cred, MayAccess::READ)?;
        Ok(path)
    }

    /// Whether a file system can have such marks.
    fn supported(&self, path: &Path, inode: &Inode) -> Result<()> {
        let sb = path.mnt.sb();
        if self.mask & mask::PERM != 0 && sb.fs_type().flags().contains(FsFlags::NO_PERMISSION_EVENTS)
            || !self.on_inode() && sb.flags() & SB_NOUSER != 0
        {
            return Err(Errno::EINVAL);
        }
        let strict = self.group.flags & init::REPORT_TARGET_FID != 0
            || self.mask & mask::RENAME != 0
            || self.has(flag::IGNORE);
        if strict && self.on_inode() && !inode.is_dir() && self.mask & DIRECTORY_ONLY != 0 {
            return Err(Errno::ENOTDIR);
        }
        Ok(())
    }

    /// Whether its events can be reported by file handles.
    fn reportable(&self, path: &Path) -> Result<()> {
        let sb = path.mnt.sb();
        if self.on_inode() {
            return Ok(());
        }
        if crate::stat::fsid(sb) == [0, 0] {
            return Err(Errno::ENODEV);
        }
        // Handles of what nobody marked must lead back to it.
        if sb.ops().export().is_none() { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
    }

    fn apply(mut self, path: &Path) -> Result<()> {
        let inode = path.inode()?;
        if self.adds() {
            self.supported(path, inode)?;
        }
        if self.fid_mode() != 0 {
            self.reportable(path)?;
        }
        let directory = self.on_inode() && inode.is_dir();
        if self.adds() && self.has(flag::IGNORE_BITS) && !self.has(flag::IGNORED_SURV_MODIFY) {
            if self.has(flag::IGNORE) && (!self.on_inode() || directory) {
                return Err(if self.on_inode() { Errno::EISDIR } else { Errno::EINVAL });
            }
            // Whoever writes to it would end the ignoring at once.
            if self.on_inode() && inode.has_writers() {
                return Ok(());
            }
        }
        if !directory {
            self.mask &= !mask::ON_CHILD;
            self.fixed = mask::ON_CHILD;
            // Directory and name are wanted with events of what is no directory.
            let parents = self.fid_mode() & init::REPORT_DIR_FID != 0;
            if parents && self.adds() && !self.has(flag::IGNORE_BITS) {
                self.mask |= mask::ON_CHILD;
            }
        }
        let (object, watched) = match self.flags & flag::TYPE_BITS {
            flag::MOUNT => (Object::Mount(path.mnt.clone()), &path.mnt.notify),
            flag::FILESYSTEM => (Object::Super(path.mnt.sb().clone()), &path.mnt.sb().notify),
            _ => (Object::Inode(inode.clone()), &inode.notify),
        };
        let group: Weak<dyn Group> = self.group.me.clone();
        let _one_at_a_time = self.group.marking.lock();
        let existing = watched.find(&group);
        match (self.adds(), existing) {
            (true, Some(mark)) => self.extend(&mark),
            (true, None) => self.make(&group, &object),
            (false, Some(mark)) => {
                self.reduce(&mark);
                Ok(())
            }
            (false, None) => Err(Errno::ENOENT),
        }
    }

    /// What the mark is with the request added to it.
    fn added_to(&self, now: Interest) -> Interest {
        let mut next = now;
        if self.has(flag::IGNORE_BITS) {
            next.ignore |= self.mask;
            next.flags.set(
                MarkFlags::IGNORE_FLAGS,
                self.has(flag::IGNORE) || now.flags.contains(MarkFlags::IGNORE_FLAGS),
            );
            if self.has(flag::IGNORED_SURV_MODIFY) {
                next.flags |= MarkFlags::SURV_MODIFY;
            }
        } else {
            next.mask |= self.mask;
        }
        if !self.has(flag::EVICTABLE) {
            next.flags.remove(MarkFlags::EVICTABLE);
        }
        next
    }

    fn make(&self, group: &Weak<dyn Group>, object: &Object) -> Result<()> {
        let limited = self.group.flags & init::UNLIMITED_MARKS == 0;
        if limited {
            FANOTIFY_MARKS.charge(self.group.uid, Errno::ENOSPC)?;
        }
        let blank = Interest { mask: 0, ignore: 0, flags: MarkFlags::EVICTABLE };
        let wanted = self.added_to(blank);
        let made = mark::attach(group, self.group.priority(), object, wanted, 0).and_then(|mark| {
            let kept = self.group.state.lock().marks.try_insert(mark.id(), mark.clone());
            if kept.is_err() {
                mark::detach(&mark);
            }
            kept.map(drop).map_err(Errno::from)
        });
        if limited && made.is_err() {
            FANOTIFY_MARKS.uncharge(self.group.uid, 1);
        }
        made
    }

    fn extend(&self, mark: &Arc<Mark>) -> Result<()> {
        let flags = mark.flags();
        if self.has(flag::EVICTABLE) && !flags.contains(MarkFlags::EVICTABLE)
            || self.has(flag::IGNORED_MASK) && flags.contains(MarkFlags::IGNORE_FLAGS)
            || self.has(flag::IGNORE)
                && !self.has(flag::IGNORED_SURV_MODIFY)
                && flags.contains(MarkFlags::SURV_MODIFY)
        {
            return Err(Errno::EEXIST);
        }
        mark::update(mark, |now| self.added_to(now));
        Ok(())
    }

    fn reduce(&self, mark: &Arc<Mark>) {
        let taken = self.mask & !self.fixed;
        let mut empty = false;
        mark::update(mark, |now| {
            let mut next = now;
            if self.has(flag::IGNORE_BITS) {
                next.ignore &= !taken;
            } else {
                next.mask &= !taken;
            }
            empty = (next.mask | next.ignore) & !self.fixed == 0;
            next
        });
        if empty && mark::detach(mark) {
            self.group.forget(mark);
        }
    }

    /// Removes all marks of one kind.
    fn flush(&self) {
        let _one_at_a_time = self.group.marking.lock();
        let mut from = 0;
        let next =
            |from| self.group.state.lock().marks.range_from(&from).next().map(|(_, mark)| mark.clone());
        while let Some(mark) = next(from) {
            from = mark.id() + 1;
            let kind = match mark.object() {
                Some(Object::Mount(_)) => flag::MOUNT,
                Some(Object::Super(_)) => flag::FILESYSTEM,
                Some(Object::Inode(_)) => 0,
                None => continue,
            };
            if kind == self.flags & flag::TYPE_BITS && mark::detach(&mark) {
                self.group.forget(&mark);
            }
        }
    }
}
