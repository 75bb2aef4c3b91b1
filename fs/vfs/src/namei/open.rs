//! `open(2)`, `openat2(2)`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::fs::OpenHow;
use abi::{Errno, Result, raw};

use super::create::attach;
use super::lookup::{follow_down, lookup_locked, lookup_one};
use super::walk::Walk;
use super::{At, LookupFlags, path_lookup};
use crate::attr;
use crate::chrdev;
use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::file::{File, FileImpl, FileMode, OpenFile};
use crate::file_ops::NoOps;
use crate::inode::{Inode, InodeFlags};
use crate::lock::lease::break_lease;
use crate::notify::{self, Data};
use crate::path::{LookupContext, Path};
use crate::permission::{inode_permission, may_create, owner_or_capable};
use crate::pipe;
use crate::security::{self, Rights};
use crate::types::{AttrValid, FileType, Iattr, MayAccess, NAME_MAX};
use mm::fallible::try_format;

/// `O_TMPFILE` without the `O_DIRECTORY` that it contains.
const TMPFILE_BIT: u32 = 0o20000000;
/// `O_SYNC` without the `O_DSYNC` that it contains.
const SYNC_BIT: u32 = 0o4000000;
/// Opened to be run (`execve(2)`); not visible to users.
pub const FMODE_EXEC: u32 = 0o40;

const VALID: u32 = raw::O_ACCMODE
    | raw::O_CREAT
    | raw::O_EXCL
    | raw::O_NOCTTY
    | raw::O_TRUNC
    | raw::O_APPEND
    | raw::O_NONBLOCK
    | raw::O_DSYNC
    | SYNC_BIT
    | raw::FASYNC
    | raw::O_DIRECT
    | raw::O_LARGEFILE
    | raw::O_DIRECTORY
    | raw::O_NOFOLLOW
    | raw::O_NOATIME
    | raw::O_CLOEXEC
    | raw::O_PATH
    | TMPFILE_BIT;

const VALID_RESOLVE: u64 = (raw::RESOLVE_NO_XDEV
    | raw::RESOLVE_NO_MAGICLINKS
    | raw::RESOLVE_NO_SYMLINKS
    | raw::RESOLVE_BENEATH
    | raw::RESOLVE_IN_ROOT
    | raw::RESOLVE_CACHED) as u64;

/// What to open, checked.
#[derive(Clone, Copy, Debug)]
pub struct OpenArgs {
    /// `O_*`, `O_CLOEXEC` removed.
    pub flags: u32,
    /// Permissions of a new file.
    pub mode: u32,
    /// How to resolve.
    pub resolve: LookupFlags,
}

impl OpenArgs {
    /// From the arguments of `open(2)`, which ignores what it does not know.
    pub fn from_open(flags: u32, mode: u32) -> Result<Self> {
        let mut flags = flags & VALID;
        let mut mode = mode & 0o7777;
        if flags & raw::O_PATH != 0 {
            flags &= raw::O_DIRECTORY | raw::O_NOFOLLOW | raw::O_PATH | raw::O_CLOEXEC;
        }
        if flags & (raw::O_CREAT | TMPFILE_BIT) == 0 {
            mode = 0;
        }
        Self::build(flags, mode, LookupFlags::empty())
    }

    /// From the structure of `openat2(2)`, which refuses what it does not know.
    pub fn from_how(how: &OpenHow) -> Result<Self> {
        let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
        if flags & !VALID != 0 || how.resolve & !VALID_RESOLVE != 0 {
            return Err(Errno::EINVAL);
        }
        let scoped = u64::from(raw::RESOLVE_BENEATH | raw::RESOLVE_IN_ROOT);
        if how.resolve & scoped == scoped {
            return Err(Errno::EINVAL);
        }
        let creates = flags & (raw::O_CREAT | TMPFILE_BIT) != 0;
        if how.mode & !0o7777 != 0 || !creates && how.mode != 0 {
            return Err(Errno::EINVAL);
        }
        if flags & raw::O_PATH != 0
            && flags & !(raw::O_DIRECTORY | raw::O_NOFOLLOW | raw::O_PATH | raw::O_CLOEXEC) != 0
        {
            return Err(Errno::EINVAL);
        }
        let resolve = LookupFlags::from_resolve(how.resolve);
        if resolve.contains(LookupFlags::CACHED) && flags & (raw::O_TRUNC | raw::O_CREAT | TMPFILE_BIT) != 0 {
            return Err(Errno::EAGAIN);
        }
        Self::build(flags, how.mode as u32, resolve)
    }

    fn build(mut flags: u32, mode: u32, resolve: LookupFlags) -> Result<Self> {
        if flags & (raw::O_DIRECTORY | raw::O_CREAT) == raw::O_DIRECTORY | raw::O_CREAT {
            return Err(Errno::EINVAL);
        }
        if flags & TMPFILE_BIT != 0 {
            let writes = matches!(flags & raw::O_ACCMODE, raw::O_WRONLY | raw::O_RDWR);
            if flags & raw::O_DIRECTORY == 0 || !writes {
                return Err(Errno::EINVAL);
            }
        }
        if flags & SYNC_BIT != 0 {
            flags |= raw::O_DSYNC;
        }
        Ok(Self { flags: flags & !raw::O_CLOEXEC, mode, resolve })
    }

    /// What access the flags ask for.
    fn access(&self) -> MayAccess {
        let mut access = match self.flags & raw::O_ACCMODE {
            raw::O_RDONLY => MayAccess::READ,
            raw::O_WRONLY => MayAccess::WRITE,
            _ => MayAccess::READ | MayAccess::WRITE,
        };
        if self.flags & raw::O_TRUNC != 0 {
            access |= MayAccess::WRITE;
        }
        if self.flags & raw::O_APPEND != 0 {
            access |= MayAccess::APPEND;
        }
        if self.flags & FMODE_EXEC != 0 {
            access |= MayAccess::EXEC;
        }
        access
    }

    fn lookup_flags(&self) -> LookupFlags {
        let mut lookup = self.resolve;
        lookup.set(LookupFlags::FOLLOW, self.flags & raw::O_NOFOLLOW == 0);
        lookup.set(LookupFlags::DIRECTORY, self.flags & raw::O_DIRECTORY != 0);
        lookup
    }
}

/// Opens `name`.
pub fn open(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], args: &OpenArgs) -> Result<Arc<File>> {
    if args.flags & TMPFILE_BIT != 0 {
        return open_tmpfile(ctx, at, name, args);
    }
    if args.flags & raw::O_CREAT != 0 {
        return open_create(ctx, at, name, args);
    }
    let path = path_lookup(ctx, at, name, args.lookup_flags())?;
    open_path(ctx, path, args)
}

/// Opens the place `path` (`/proc/PID/fd/N`, `execve(2)`, the kernel itself).
pub fn open_path(ctx: &LookupContext<'_>, path: Path, args: &OpenArgs) -> Result<Arc<File>> {
    if args.flags & raw::O_PATH != 0 {
        return open_o_path(ctx, &path, args);
    }
    may_open(ctx, &path, args, args.access())?;
    do_open(ctx.cred, &path, args, FileMode::empty())
}

/// Opens the place `path`, which was found by a file handle. It exists, so `O_CREAT` makes nothing.
pub fn open_found(ctx: &LookupContext<'_>, path: Path, args: &OpenArgs) -> Result<Arc<File>> {
    if args.flags & raw::O_DIRECTORY != 0 && !path.inode()?.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if args.flags & TMPFILE_BIT != 0 {
        return open_tmpfile_in(ctx, &path, args);
    }
    if args.flags & raw::O_CREAT != 0 {
        if args.flags & raw::O_EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        if path.inode()?.is_dir() {
            return Err(Errno::EISDIR);
        }
    }
    open_path(ctx, path, args)
}

fn open_o_path(ctx: &LookupContext<'_>, path: &Path, args: &OpenArgs) -> Result<Arc<File>> {
    path.inode()?;
    let open = OpenFile { path, cred: ctx.cred, flags: args.flags, mode: FileMode::PATH };
    File::new(open, FileImpl::Static(&NoOps))
}

fn open_create(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], args: &OpenArgs) -> Result<Arc<File>> {
    let mut walk = Walk::new(ctx, at, name, args.resolve)?;
    loop {
        let last = walk.run_parent()?;
        if !last.is_normal() || last.trailing_slash {
            return Err(Errno::EISDIR);
        }
        if last.name().len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let parent = walk.path()?;
        inode_permission(parent.inode()?, ctx.cred, MayAccess::EXEC)?;
        let mut dentry = lookup_one(&parent.dentry, last.name())?;
        if dentry.is_negative() {
            match create_locked(ctx, &parent, last.name(), args)? {
                Ok(file) => return Ok(file),
                Err(existing) => dentry = existing,
            }
        }
        if args.flags & raw::O_EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        let path = follow_down(Path::new(parent.mnt.clone(), dentry));
        if args.resolve.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&path.mnt, &parent.mnt) {
            return Err(Errno::EXDEV);
        }
        let inode = path.inode()?;
        if inode.is_symlink() {
            if args.flags & raw::O_NOFOLLOW != 0 {
                return Err(Errno::ELOOP);
            }
            walk.follow_last(&path.dentry)?;
            if let Some(jumped) = walk.jumped() {
                return open_path(ctx, jumped, args);
            }
            continue;
        }
        if inode.is_dir() {
            return Err(Errno::EISDIR);
        }
        may_create_in_sticky(ctx, parent.inode()?, inode)?;
        may_open(ctx, &path, args, args.access())?;
        return do_open(ctx.cred, &path, args, FileMode::empty());
    }
}

/// Makes the file if it does not exist yet; gives back the dentry if it does.
fn create_locked(
    ctx: &LookupContext<'_>,
    parent: &Path,
    name: &[u8],
    args: &OpenArgs,
) -> Result<Result<Arc<File>, Arc<Dentry>>> {
    let dir = parent.inode()?;
    let write = parent.mnt.get_write();
    let made = (|| -> Result<Result<Arc<Dentry>, Arc<Dentry>>> {
        let _names = dir.rwsem.write();
        let dentry = lookup_locked(&parent.dentry, dir, name)?;
        if !dentry.is_negative() {
            return Ok(Err(dentry));
        }
        write?;
        security::check(ctx.cred, parent, Rights::MAKE_REG)?;
        may_create(dir, ctx.cred)?;
        let mode =
            attr::new_entry_mode(dir, ctx.cred, raw::S_IFREG | attr::masked(dir, args.mode, ctx.fs.umask()));
        let inode = dir.ops().create(ctx.cred, dir, name, mode)?;
        let dentry = attach(&parent.dentry, &dentry, name, inode)?;
        notify::on_entry(&parent.dentry, Data::Dentry(&dentry), notify::mask::CREATE, name);
        Ok(Ok(dentry))
    })();
    if write.is_ok() {
        parent.mnt.put_write();
    }
    match made? {
        Ok(dentry) => {
            let path = Path::new(parent.mnt.clone(), dentry);
            let fresh = OpenArgs { flags: args.flags & !raw::O_TRUNC, ..*args };
            // Who makes a file may open it as asked, whatever its mode says.
            may_open(ctx, &path, &fresh, MayAccess::empty())?;
            do_open(ctx.cred, &path, &fresh, FileMode::CREATED).map(Ok)
        }
        Err(existing) => Ok(Err(existing)),
    }
}

fn open_tmpfile(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], args: &OpenArgs) -> Result<Arc<File>> {
    let parent = path_lookup(ctx, at, name, args.lookup_flags() | LookupFlags::DIRECTORY)?;
    open_tmpfile_in(ctx, &parent, args)
}

fn open_tmpfile_in(ctx: &LookupContext<'_>, parent: &Path, args: &OpenArgs) -> Result<Arc<File>> {
    let dir = parent.inode()?;
    parent.mnt.get_write()?;
    let result = (|| {
        inode_permission(dir, ctx.cred, MayAccess::WRITE | MayAccess::EXEC)?;
        let mode =
            attr::new_entry_mode(dir, ctx.cred, raw::S_IFREG | attr::masked(dir, args.mode, ctx.fs.umask()));
        let inode = dir.ops().tmpfile(ctx.cred, dir, mode)?;
        let text = try_format(format_args!("#{}", inode.ino()))?;
        let dentry =
            Dentry::new_unnamed(&parent.dentry, text.as_bytes(), inode, args.flags & raw::O_EXCL == 0)?;
        let path = Path::new(parent.mnt.clone(), dentry);
        let fresh = OpenArgs { flags: args.flags & !(raw::O_TRUNC | raw::O_EXCL), ..*args };
        may_open(ctx, &path, &fresh, MayAccess::empty())?;
        do_open(ctx.cred, &path, &OpenArgs { flags: args.flags, ..fresh }, FileMode::CREATED)
    })();
    parent.mnt.put_write();
    result
}

/// May the place be opened like that?
fn may_open(ctx: &LookupContext<'_>, path: &Path, args: &OpenArgs, access: MayAccess) -> Result<()> {
    let inode = path.inode()?;
    let writes = access.contains(MayAccess::WRITE);
    match inode.file_type() {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Directory if writes => return Err(Errno::EISDIR),
        FileType::Directory if access.contains(MayAccess::EXEC) => return Err(Errno::EACCES),
        FileType::CharDevice | FileType::BlockDevice if path.mnt.flags() & raw::MS_NODEV != 0 => {
            return Err(Errno::EACCES);
        }
        FileType::Regular if access.contains(MayAccess::EXEC) && path.mnt.flags() & raw::MS_NOEXEC != 0 => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    if !access.is_empty() {
        inode_permission(inode, ctx.cred, access | MayAccess::OPEN)?;
    }
    if inode.flags().contains(InodeFlags::APPEND) {
        let reads = args.flags & raw::O_ACCMODE == raw::O_RDONLY;
        if !reads && args.flags & raw::O_APPEND == 0 || args.flags & raw::O_TRUNC != 0 {
            return Err(Errno::EPERM);
        }
    }
    if args.flags & raw::O_NOATIME != 0 && !owner_or_capable(inode, ctx.cred) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `/proc/sys/fs/protected_fifos` and `protected_regular`: in a sticky directory `O_CREAT` does not
/// open what somebody else put there.
fn may_create_in_sticky(ctx: &LookupContext<'_>, dir: &Inode, inode: &Inode) -> Result<()> {
    let level = match inode.file_type() {
        FileType::Fifo => super::PROTECTED_FIFOS.load(Ordering::Relaxed),
        FileType::Regular => super::PROTECTED_REGULAR.load(Ordering::Relaxed),
        _ => 0,
    };
    let mode = dir.mode();
    if level == 0 || mode & raw::S_ISVTX == 0 || inode.uid() == dir.uid() || inode.uid() == ctx.cred.fsuid {
        return Ok(());
    }
    if mode & raw::S_IWOTH != 0 || level >= 2 && mode & raw::S_IWGRP != 0 {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// Opens `path`, which an event is about, for somebody who may; the open file makes no events.
pub(crate) fn open_unheard(cred: &Arc<Credentials>, path: &Path, flags: u32) -> Result<Arc<File>> {
    let args = OpenArgs { flags, mode: 0, resolve: LookupFlags::empty() };
    do_open(cred, path, &args, FileMode::NONOTIFY)
}

/// Makes the open file: counts writers, calls the file system or the device, truncates.
pub(super) fn do_open(
    cred: &Arc<Credentials>,
    path: &Path,
    args: &OpenArgs,
    extra: FileMode,
) -> Result<Arc<File>> {
    let inode = path.inode()?;
    let mut mode = extra | FileMode::LSEEK | FileMode::PREAD | FileMode::PWRITE;
    match args.flags & raw::O_ACCMODE {
        raw::O_RDONLY => mode |= FileMode::READ,
        raw::O_WRONLY => mode |= FileMode::WRITE,
        raw::O_RDWR => mode |= FileMode::READ | FileMode::WRITE,
        // Access 3 is for ioctl only.
        _ => {}
    }
    if args.flags & FMODE_EXEC != 0 {
        mode |= FileMode::EXEC;
    }
    if matches!(inode.file_type(), FileType::Regular | FileType::Directory) {
        mode |= FileMode::ATOMIC_POS;
    }
    let special = matches!(
        inode.file_type(),
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket
    );
    let truncates = args.flags & raw::O_TRUNC != 0 && inode.is_regular();
    let mut undo = Undo { path, mount: false, inode: false, reader: false };
    if (mode.contains(FileMode::WRITE) || truncates) && !special {
        if mode.contains(FileMode::WRITE) {
            inode.get_write_access()?;
            undo.inode = true;
        }
        path.mnt.get_write()?;
        undo.mount = true;
    }
    mode |= security::check_open(cred, path, mode)?;
    if truncates && mode.contains(FileMode::NO_TRUNCATE) {
        return Err(Errno::EACCES);
    }
    // Counted before leases are looked at: either the lease sees this open, or this open sees the lease.
    if inode.is_regular() && mode & (FileMode::READ | FileMode::WRITE) == FileMode::READ {
        inode.read_count.fetch_add(1, Ordering::SeqCst);
        arch::cpu::barrier_after_atomic();
        undo.reader = true;
    }
    if inode.is_regular() {
        break_lease(inode, args.flags)?;
    }
    let mut open = OpenFile { path, cred, flags: args.flags, mode };
    let ops = match inode.file_type() {
        FileType::CharDevice => chrdev::open(inode, &mut open)?,
        FileType::BlockDevice => chrdev::open_block(inode, &mut open)?,
        FileType::Fifo => pipe::open_fifo(inode, &mut open)?,
        FileType::Socket => return Err(Errno::ENXIO),
        _ => inode.ops().open(inode, &mut open)?,
    };
    if args.flags & raw::O_DIRECT != 0 && !special && inode.is_regular() && !ops.supports_direct() {
        return Err(Errno::EINVAL);
    }
    if undo.inode {
        open.mode |= FileMode::WRITE_COUNTED;
    }
    if undo.reader {
        open.mode |= FileMode::READ_COUNTED;
    }
    let keeps_mount = undo.mount && mode.contains(FileMode::WRITE);
    if keeps_mount {
        open.mode |= FileMode::WRITER;
    }
    let mut file = File::new(open, ops)?;
    undo.inode = false;
    undo.reader = false;
    undo.mount &= !keeps_mount;
    if inode.file_type() == FileType::Fifo {
        pipe::opened(&file);
    }
    if let Err(error) = notify::may_open(&file) {
        File::was_refused(&mut file);
        return Err(error);
    }
    notify::on_open(&file);
    if truncates {
        let change = Iattr { valid: AttrValid::SIZE | AttrValid::OPEN, size: 0, ..Iattr::default() };
        // Also an open for reading only counts as a writer while it truncates: not of a program that runs.
        inode.get_write_access()?;
        let truncated = attr::do_truncate(cred, &path.dentry, change);
        inode.put_write_access();
        truncated?;
    }
    Ok(file)
}

/// What an open has counted so far and gives back when it fails.
struct Undo<'a> {
    path: &'a Path,
    mount: bool,
    inode: bool,
    reader: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.mount {
            self.path.mnt.put_write();
        }
        if self.inode
            && let Some(inode) = self.path.dentry.inode()
        {
            inode.put_write_access();
        }
        if self.reader
            && let Some(inode) = self.path.dentry.inode()
        {
            inode.read_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
