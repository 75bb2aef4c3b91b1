//! Changing attributes: `chmod(2)`, `chown(2)`, `utimensat(2)`, `truncate(2)`, and the rules of who may and
//! of what falls away with it (set-user-id bits, capabilities).

use alloc::sync::Arc;

use abi::cap::Cap;
use abi::creds::{Gid, Uid};
use abi::time::Timespec;
use abi::{Errno, Result, raw};

use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::file::{File, FileMode};
use crate::inode::{Inode, InodeFlags, Times};
use crate::lock::lease::break_lease;
use crate::mount::flags as mnt_flags;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::notify;
use crate::path::{LookupContext, Path};
use crate::permission::{inode_permission, owner_or_capable};
use crate::security::{self, Rights};
use crate::types::{AttrValid, FileType, Iattr, MAX_LFS_FILESIZE, MayAccess, Timestamp};

/// Mode of a new entry of `dir`: a set-group-id directory passes its group on (and the bit, to
/// directories); a set-group-id file needs its maker to be in that group.
pub fn new_entry_mode(dir: &Inode, cred: &Credentials, mode: u32) -> u32 {
    if dir.mode() & raw::S_ISGID == 0 {
        return mode;
    }
    if mode & raw::S_IFMT == raw::S_IFDIR {
        return mode | raw::S_ISGID;
    }
    let group_exec = raw::S_ISGID | raw::S_IXGRP;
    if mode & group_exec == group_exec
        && !cred.in_group(dir.gid())
        && !cred.capable_wrt(dir.uid().0, dir.gid().0, Cap::Fsetid)
    {
        return mode & !raw::S_ISGID;
    }
    mode
}

/// Owner and group of a new entry of `dir`.
pub fn new_entry_owner(dir: &Inode, cred: &Credentials) -> (Uid, Gid) {
    let gid = if dir.mode() & raw::S_ISGID != 0 { dir.gid() } else { cred.fsgid };
    (cred.fsuid, gid)
}

/// Applies a change to the fields of the inode; size changes are the file system's own business.
pub fn simple_setattr(inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
    if attr.valid.intersects(AttrValid::UID | AttrValid::GID) {
        let uid = if attr.valid.contains(AttrValid::UID) { Uid(attr.uid) } else { inode.uid() };
        let gid = if attr.valid.contains(AttrValid::GID) { Gid(attr.gid) } else { inode.gid() };
        inode.set_owner(uid, gid);
    }
    if attr.valid.contains(AttrValid::MODE) {
        inode.set_permissions(attr.mode);
    }
    let granularity = inode.sb().time_granularity_ns();
    inode.update_times(|t| {
        if attr.valid.contains(AttrValid::ATIME) {
            t.atime = attr.atime.truncated(granularity);
        }
        if attr.valid.contains(AttrValid::MTIME) {
            t.mtime = attr.mtime.truncated(granularity);
        }
        if attr.valid.contains(AttrValid::CTIME) {
            t.ctime = attr.ctime.truncated(granularity);
            t.version = t.version.wrapping_add(1);
        }
    });
    Ok(())
}

/// May `cred` make this change? Adjusts the set-group-id bit of a new mode.
fn setattr_prepare(cred: &Credentials, inode: &Inode, attr: &mut Iattr) -> Result<()> {
    if attr.valid.contains(AttrValid::SIZE) {
        if attr.size > MAX_LFS_FILESIZE {
            return Err(Errno::EINVAL);
        }
        if attr.size > inode.sb().max_bytes() {
            return Err(Errno::EFBIG);
        }
        if inode.flags().contains(InodeFlags::SWAPFILE) {
            return Err(Errno::ETXTBSY);
        }
    }
    if attr.valid.contains(AttrValid::FORCE) {
        return Ok(());
    }
    let capable = |cap| cred.capable_wrt(inode.uid().0, inode.gid().0, cap);
    if attr.valid.contains(AttrValid::UID)
        && !(cred.fsuid == inode.uid() && attr.uid == inode.uid().0 || capable(Cap::Chown))
    {
        return Err(Errno::EPERM);
    }
    if attr.valid.contains(AttrValid::GID) {
        let own = cred.fsuid == inode.uid() && (attr.gid == inode.gid().0 || cred.in_group(Gid(attr.gid)));
        if !own && !capable(Cap::Chown) {
            return Err(Errno::EPERM);
        }
    }
    if attr.valid.contains(AttrValid::MODE) {
        if !owner_or_capable(inode, cred) {
            return Err(Errno::EPERM);
        }
        let gid = if attr.valid.contains(AttrValid::GID) { Gid(attr.gid) } else { inode.gid() };
        if !cred.in_group(gid) && !capable(Cap::Fsetid) {
            attr.mode &= !raw::S_ISGID;
        }
    }
    let set_times = AttrValid::ATIME_SET | AttrValid::MTIME_SET;
    if attr.valid.intersects(set_times) && !owner_or_capable(inode, cred) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Makes a change: checks it, turns "kill the set-id bits" into a mode, stamps the change time. The
/// caller holds `inode.rwsem` for writing.
pub fn notify_change(cred: &Credentials, dentry: &Arc<Dentry>, mut attr: Iattr) -> Result<()> {
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    let touches = AttrValid::MODE | AttrValid::UID | AttrValid::GID;
    let flags = inode.flags();
    if attr.valid.intersects(touches | AttrValid::ATIME_SET | AttrValid::MTIME_SET | AttrValid::TOUCH)
        && flags.contains(InodeFlags::IMMUTABLE)
    {
        return Err(Errno::EPERM);
    }
    if attr.valid.intersects(touches | AttrValid::ATIME_SET | AttrValid::MTIME_SET)
        && flags.contains(InodeFlags::APPEND)
    {
        return Err(Errno::EPERM);
    }
    if attr.valid.contains(AttrValid::TOUCH) && !owner_or_capable(inode, cred) {
        inode_permission(inode, cred, MayAccess::WRITE)?;
    }
    if attr.valid.contains(AttrValid::MODE) && inode.is_symlink() {
        return Err(Errno::EOPNOTSUPP);
    }
    let now = inode.now();
    attr.valid |= AttrValid::CTIME;
    attr.ctime = now;
    if !attr.valid.contains(AttrValid::ATIME_SET) {
        attr.atime = now;
    }
    if !attr.valid.contains(AttrValid::MTIME_SET) {
        attr.mtime = now;
    }
    if attr.valid.intersects(AttrValid::KILL_SUID | AttrValid::KILL_SGID) {
        let mut mode = if attr.valid.contains(AttrValid::MODE) { attr.mode } else { inode.mode() };
        let before = mode;
        if attr.valid.contains(AttrValid::KILL_SUID) {
            mode &= !raw::S_ISUID;
        }
        if attr.valid.contains(AttrValid::KILL_SGID) {
            mode &= !raw::S_ISGID;
        }
        attr.valid.remove(AttrValid::KILL_SUID | AttrValid::KILL_SGID);
        if mode != before {
            attr.valid |= AttrValid::MODE | AttrValid::FORCE_MODE;
            attr.mode = mode;
        }
    }
    let forced = attr.valid.contains(AttrValid::FORCE_MODE);
    let checked = attr.valid;
    if forced {
        attr.valid.remove(AttrValid::MODE | AttrValid::FORCE_MODE);
    }
    setattr_prepare(cred, inode, &mut attr)?;
    attr.valid = checked & !AttrValid::FORCE_MODE;
    if attr.valid.contains(AttrValid::MODE) {
        attr.mode &= 0o7777;
        update_acl(inode, attr.mode)?;
    }
    inode.ops().setattr(inode, &attr)?;
    notify::on_dentry(dentry, events_of(attr.valid));
    Ok(())
}

/// The permissions of a new entry of `dir`: those asked for less the mask, which a default access list replaces.
pub(crate) fn masked(dir: &Inode, mode: u32, umask: u32) -> u32 {
    if dir.flags().contains(InodeFlags::HAS_DEFAULT_ACL) { mode } else { mode & !umask }
}

/// What a change of attributes looks like to those who watch.
fn events_of(valid: AttrValid) -> u32 {
    let mut events = 0;
    if valid.intersects(AttrValid::UID | AttrValid::GID | AttrValid::MODE) {
        events |= notify::mask::ATTRIB;
    }
    if valid.contains(AttrValid::SIZE) {
        events |= notify::mask::MODIFY;
    }
    // Both times together are a utimes(2).
    events
        | match (valid.contains(AttrValid::ATIME), valid.contains(AttrValid::MTIME)) {
            (true, true) => notify::mask::ATTRIB,
            (true, false) => notify::mask::ACCESS,
            (false, true) => notify::mask::MODIFY,
            (false, false) => 0,
        }
}

/// A mode change goes through to the access control list.
fn update_acl(inode: &Inode, mode: u32) -> Result<()> {
    use crate::acl;
    if !inode.flags().contains(InodeFlags::HAS_ACL) {
        return Ok(());
    }
    let mut list = acl::parse(&inode.ops().getxattr(inode, acl::ACL_ACCESS)?)?;
    acl::with_mode(&mut list, mode);
    inode.ops().setxattr(inode, acl::ACL_ACCESS, &acl::render(&list)?, 0)
}

/// Bits that fall away when somebody without `CAP_FSETID` changes the contents or the owner.
fn privileges_to_kill(inode: &Inode, cred: &Credentials) -> AttrValid {
    let mode = inode.mode();
    let mut kill = AttrValid::empty();
    if !inode.is_regular() {
        return kill;
    }
    if mode & raw::S_ISUID != 0 {
        kill |= AttrValid::KILL_SUID;
    }
    if mode & raw::S_ISGID != 0 && (mode & raw::S_IXGRP != 0 || !cred.in_group(inode.gid())) {
        kill |= AttrValid::KILL_SGID;
    }
    kill
}

/// Contents were or will be changed by a write: set-id bits and file capabilities fall away. The
/// caller holds `inode.rwsem` for writing.
pub fn remove_privileges(dentry: &Arc<Dentry>, cred: &Credentials) -> Result<()> {
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    if inode.mode() & (raw::S_ISUID | raw::S_ISGID) == 0 && !inode.flags().contains(InodeFlags::HAS_CAPS) {
        return Ok(());
    }
    drop_capabilities(inode)?;
    let kill = privileges_to_kill(inode, cred);
    if kill.is_empty() || cred.capable_wrt(inode.uid().0, inode.gid().0, Cap::Fsetid) {
        return Ok(());
    }
    let change = Iattr { valid: kill | AttrValid::FORCE, ..Iattr::default() };
    notify_change(cred, dentry, change)
}

/// Takes the file's capabilities away: what it runs is not what they were given to.
fn drop_capabilities(inode: &Arc<Inode>) -> Result<()> {
    if !inode.flags().contains(InodeFlags::HAS_CAPS) {
        return Ok(());
    }
    inode.remove_flags(InodeFlags::HAS_CAPS);
    match inode.ops().removexattr(inode, crate::xattr::CAPABILITIES) {
        Err(Errno::ENODATA) => Ok(()),
        other => other,
    }
}

/// Before data is written: times and set-id bits. The caller holds `inode.rwsem` for writing.
pub fn file_modified(file: &File) -> Result<()> {
    let inode = file.inode();
    remove_privileges(&file.path().dentry, file.cred())?;
    if !inode.flags().contains(InodeFlags::NOCMTIME) {
        inode.touch_mtime();
    }
    Ok(())
}

/// After data was read: the access time, as the mount wants it.
pub fn touch_atime(path: &Path) {
    let Some(inode) = path.dentry.inode() else { return };
    if inode.flags().intersects(InodeFlags::NOATIME | InodeFlags::NOCMTIME) {
        return;
    }
    let mnt = path.mnt.flags();
    let sb = inode.sb().flags();
    if mnt & mnt_flags::NOATIME != 0
        || sb & (raw::MS_RDONLY | raw::MS_NOATIME) != 0
        || mnt & mnt_flags::NODIRATIME != 0 && inode.is_dir()
        || path.mnt.is_read_only()
    {
        return;
    }
    let now = inode.now();
    // It was read since it was changed, and not long ago.
    let known = |t: &Times| {
        mnt & mnt_flags::RELATIME != 0
            && t.atime > t.mtime
            && t.atime > t.ctime
            && now.sec - t.atime.sec < 24 * 60 * 60
    };
    if inode.flags().contains(InodeFlags::OP_ATIME) {
        if !known(&inode.times()) {
            inode.ops().touch_atime(inode);
        }
        return;
    }
    inode.update_times(|t| {
        if !known(t) {
            t.atime = now;
        }
    });
}

/// After data was read through `file`.
#[inline]
pub fn file_accessed(file: &File) {
    if file.flags() & raw::O_NOATIME == 0 {
        touch_atime(file.path());
    }
}

fn with_write<R>(path: &Path, f: impl FnOnce(&Arc<Inode>) -> Result<R>) -> Result<R> {
    let inode = path.inode()?;
    path.mnt.get_write()?;
    let result = {
        let _exclusive = inode.rwsem.write();
        f(inode)
    };
    path.mnt.put_write();
    result
}

/// `chmod(2)` of a place.
pub fn chmod_path(cred: &Credentials, path: &Path, mode: u32) -> Result<()> {
    with_write(path, |inode| {
        let mode = mode & 0o7777 | inode.mode() & !0o7777;
        notify_change(cred, &path.dentry, Iattr { valid: AttrValid::MODE, mode, ..Iattr::default() })
    })
}

/// `fchmodat2(2)`; flags are `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn chmod(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], mode: u32, flags: u32) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path_lookup(ctx, at, name, LookupFlags::from_at(flags))?;
    chmod_path(ctx.cred, &path, mode)
}

/// `chown(2)` of a place; ids are the kernel's, `None` leaves one alone.
pub fn chown_path(cred: &Credentials, path: &Path, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
    with_write(path, |inode| {
        let mut attr = Iattr { valid: AttrValid::CTIME, ..Iattr::default() };
        if let Some(uid) = uid {
            attr.valid |= AttrValid::UID;
            attr.uid = uid.0;
        }
        if let Some(gid) = gid {
            attr.valid |= AttrValid::GID;
            attr.gid = gid.0;
        }
        if !inode.is_dir() {
            attr.valid |= AttrValid::KILL_SUID;
            if inode.mode() & raw::S_ISGID != 0
                && (inode.mode() & raw::S_IXGRP != 0 || !cred.in_group(inode.gid()))
            {
                attr.valid |= AttrValid::KILL_SGID;
            }
        }
        notify_change(cred, &path.dentry, attr)?;
        if inode.is_dir() { Ok(()) } else { drop_capabilities(inode) }
    })
}

/// `fchownat(2)`; flags are `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn chown(
    ctx: &LookupContext<'_>,
    at: At<'_>,
    name: &[u8],
    uid: Option<Uid>,
    gid: Option<Gid>,
    flags: u32,
) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path_lookup(ctx, at, name, LookupFlags::from_at(flags))?;
    chown_path(ctx.cred, &path, uid, gid)
}

/// `tv_nsec` that means "now".
pub const UTIME_NOW: i64 = (1 << 30) - 1;
/// `tv_nsec` that means "leave alone".
pub const UTIME_OMIT: i64 = (1 << 30) - 2;

/// `utimensat(2)` of a place; `None` sets both times to now.
pub fn utimes_path(cred: &Credentials, path: &Path, times: Option<[Timespec; 2]>) -> Result<()> {
    let mut attr =
        Iattr { valid: AttrValid::CTIME | AttrValid::MTIME | AttrValid::ATIME, ..Iattr::default() };
    match times {
        None => attr.valid |= AttrValid::TOUCH,
        Some([atime, mtime]) => {
            for time in [atime, mtime] {
                if !matches!(time.nsec, UTIME_NOW | UTIME_OMIT | 0..1_000_000_000) {
                    return Err(Errno::EINVAL);
                }
            }
            if atime.nsec == UTIME_OMIT && mtime.nsec == UTIME_OMIT {
                return Ok(());
            }
            if atime.nsec == UTIME_NOW && mtime.nsec == UTIME_NOW {
                attr.valid |= AttrValid::TOUCH;
            }
            match atime.nsec {
                UTIME_OMIT => attr.valid.remove(AttrValid::ATIME),
                UTIME_NOW => {}
                nsec => {
                    attr.valid |= AttrValid::ATIME_SET;
                    attr.atime = Timestamp::new(atime.sec, nsec as u32);
                }
            }
            match mtime.nsec {
                UTIME_OMIT => attr.valid.remove(AttrValid::MTIME),
                UTIME_NOW => {}
                nsec => {
                    attr.valid |= AttrValid::MTIME_SET;
                    attr.mtime = Timestamp::new(mtime.sec, nsec as u32);
                }
            }
            // One time "now" and the other left alone or set: that takes the owner.
            if !attr.valid.contains(AttrValid::TOUCH)
                && !attr.valid.intersects(AttrValid::ATIME_SET | AttrValid::MTIME_SET)
            {
                return with_write(path, |inode| {
                    if !owner_or_capable(inode, cred) {
                        return Err(Errno::EPERM);
                    }
                    notify_change(cred, &path.dentry, attr)
                });
            }
        }
    }
    with_write(path, |_| notify_change(cred, &path.dentry, attr))
}

/// `utimensat(2)` by name; flags are `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn utimes(
    ctx: &LookupContext<'_>,
    at: At<'_>,
    name: &[u8],
    times: Option<[Timespec; 2]>,
    flags: u32,
) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path_lookup(ctx, at, name, LookupFlags::from_at(flags))?;
    utimes_path(ctx.cred, &path, times)
}

/// Changes the size; set-id bits fall away.
pub(crate) fn do_truncate(cred: &Credentials, dentry: &Arc<Dentry>, mut change: Iattr) -> Result<()> {
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    let _exclusive = inode.rwsem.write();
    change.valid |= AttrValid::MTIME;
    crate::rw::may_grow(inode.size(), change.size)?;
    drop_capabilities(inode)?;
    if !cred.capable_wrt(inode.uid().0, inode.gid().0, Cap::Fsetid) {
        change.valid |= privileges_to_kill(inode, cred);
    }
    notify_change(cred, dentry, change)
}

/// `truncate(2)`.
pub fn truncate(ctx: &LookupContext<'_>, name: &[u8], size: i64) -> Result<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let path = path_lookup(ctx, At::Cwd, name, LookupFlags::FOLLOW)?;
    let inode = path.inode()?;
    match inode.file_type() {
        FileType::Directory => return Err(Errno::EISDIR),
        FileType::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    path.mnt.get_write()?;
    let result = (|| {
        inode_permission(inode, ctx.cred, MayAccess::WRITE)?;
        if inode.flags().contains(InodeFlags::APPEND) {
            return Err(Errno::EPERM);
        }
        security::check(ctx.cred, &path, Rights::TRUNCATE)?;
        inode.get_write_access()?;
        if let Err(error) = break_lease(inode, raw::O_WRONLY) {
            inode.put_write_access();
            return Err(error);
        }
        let change = Iattr { valid: AttrValid::SIZE, size, ..Iattr::default() };
        let result = do_truncate(ctx.cred, &path.dentry, change);
        inode.put_write_access();
        result
    })();
    path.mnt.put_write();
    result
}

/// `ftruncate(2)`.
pub fn ftruncate(file: &File, size: i64) -> Result<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let inode = file.inode();
    if !inode.is_regular() || !file.mode().contains(FileMode::WRITE) {
        return Err(Errno::EINVAL);
    }
    if inode.flags().contains(InodeFlags::APPEND) {
        return Err(Errno::EPERM);
    }
    if file.mode().contains(FileMode::NO_TRUNCATE) {
        return Err(Errno::EACCES);
    }
    let change = Iattr { valid: AttrValid::SIZE | AttrValid::OPEN, size, ..Iattr::default() };
    do_truncate(file.cred(), &file.path().dentry, change)
}
