//! The flags and attributes of `chattr(1)`: `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`, `FS_IOC_FSGETXATTR`,
//! `FS_IOC_FSSETXATTR`. `ioctl_iflags(2)`, `<linux/fs.h>`.
//!
//! There are two spellings of one set: the flags of ext2 (`FS_*_FL`), and those of XFS (`FS_XFLAG_*`) with extent sizes
//! and a project. A file system sees [`FileAttr`], which has both; what only one of the spellings can say is kept when
//! the other one is used. A file system without [`InodeOps::fileattr_get`](crate::inode_ops::InodeOps::fileattr_get)
//! knows none of these requests.

use abi::cap::Cap;
use abi::fs::Fsxattr;
use abi::{Errno, Result, raw};
use mm::UserPtr;

use crate::cred::Credentials;
use crate::file::File;
use crate::inode::Inode;
use crate::permission::{owner_or_capable, want_write};

/// Attributes of a file, in both spellings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttr {
    /// `FS_*_FL`.
    pub flags: u32,
    /// `FS_XFLAG_*`.
    pub xflags: u32,
    /// Size of the extents to be allocated, in bytes.
    pub extsize: u32,
    /// Number of extents there are.
    pub nextents: u32,
    /// Project, for quotas.
    pub projid: u32,
    /// Size of the extents that a copy on write allocates, in bytes.
    pub cowextsize: u32,
}

/// What both spellings have.
const COMMON: [(u32, u32); 7] = [
    (raw::FS_SYNC_FL, raw::FS_XFLAG_SYNC),
    (raw::FS_IMMUTABLE_FL, raw::FS_XFLAG_IMMUTABLE),
    (raw::FS_APPEND_FL, raw::FS_XFLAG_APPEND),
    (raw::FS_NODUMP_FL, raw::FS_XFLAG_NODUMP),
    (raw::FS_NOATIME_FL, raw::FS_XFLAG_NOATIME),
    (raw::FS_DAX_FL, raw::FS_XFLAG_DAX),
    (raw::FS_PROJINHERIT_FL, raw::FS_XFLAG_PROJINHERIT),
];

/// The first spelling's part of [`COMMON`].
fn common_flags() -> u32 {
    COMMON.iter().fold(0, |all, (flag, _)| all | flag)
}

/// The second spelling's part of [`COMMON`].
fn common_xflags() -> u32 {
    COMMON.iter().fold(0, |all, (_, xflag)| all | xflag)
}

impl FileAttr {
    /// Attributes that are these flags (`FS_*_FL`) and nothing else.
    pub fn from_flags(flags: u32) -> Self {
        let said = |all, (flag, xflag)| if flags & flag != 0 { all | xflag } else { all };
        Self { flags, xflags: COMMON.into_iter().fold(0, said), ..Self::default() }
    }

    /// Attributes as the second spelling gives them.
    fn from_user(user: &Fsxattr) -> Self {
        let said = |all, (flag, xflag)| if user.xflags & xflag != 0 { all | flag } else { all };
        Self {
            flags: COMMON.into_iter().fold(0, said),
            xflags: user.xflags,
            extsize: user.extsize,
            nextents: 0,
            projid: user.projid,
            cowextsize: user.cowextsize,
        }
    }

    /// Whether it says anything that the flags cannot.
    pub fn is_more_than_flags(&self) -> bool {
        self.xflags & !common_xflags() != 0 || self.extsize != 0 || self.projid != 0 || self.cowextsize != 0
    }
}

/// `FS_IOC_GETFLAGS`. `ENOTTY` where there are no flags.
pub(crate) fn get_flags(file: &File, arg: usize) -> Result<()> {
    let inode = file.inode();
    UserPtr::<u32>::new(arg).write(&inode.ops().fileattr_get(inode)?.flags)
}

/// `FS_IOC_SETFLAGS`: `EPERM` for who is not the owner, or changes what takes `CAP_LINUX_IMMUTABLE`.
pub(crate) fn set_flags(file: &File, cred: &Credentials, arg: usize) -> Result<()> {
    let flags = UserPtr::<u32>::new(arg).read()?;
    want_write(&file.path().mnt)?;
    change(file.inode(), cred, |old| FileAttr {
        flags,
        xflags: FileAttr::from_flags(flags).xflags | old.xflags & !common_xflags(),
        ..*old
    })
}

/// `FS_IOC_FSGETXATTR`. `ENOTTY` where there are no attributes.
pub(crate) fn get_attributes(file: &File, arg: usize) -> Result<()> {
    let inode = file.inode();
    let attr = inode.ops().fileattr_get(inode)?;
    let user = Fsxattr {
        xflags: attr.xflags,
        extsize: attr.extsize,
        nextents: attr.nextents,
        projid: attr.projid,
        cowextsize: attr.cowextsize,
        pad: [0; 8],
    };
    UserPtr::<Fsxattr>::new(arg).write(&user)
}

/// `FS_IOC_FSSETXATTR`. As [`set_flags`]; `EINVAL` for sizes that the type of file cannot have.
pub(crate) fn set_attributes(file: &File, cred: &Credentials, arg: usize) -> Result<()> {
    let user = UserPtr::<Fsxattr>::new(arg).read()?;
    want_write(&file.path().mnt)?;
    let new = FileAttr::from_user(&user);
    change(file.inode(), cred, |old| FileAttr { flags: new.flags | old.flags & !common_flags(), ..new })
}

/// Makes a change to the attributes there are: checks it, then asks the file system.
fn change(
    inode: &alloc::sync::Arc<Inode>,
    cred: &Credentials,
    wanted: impl FnOnce(&FileAttr) -> FileAttr,
) -> Result<()> {
    // Without any attributes that is the answer, whoever asks.
    if !inode.ops().has_fileattr(inode) {
        return Err(Errno::ENOTTY);
    }
    if !owner_or_capable(inode, cred) {
        return Err(Errno::EPERM);
    }
    let _exclusive = inode.rwsem.write();
    let old = inode.ops().fileattr_get(inode)?;
    let mut new = wanted(&old);
    check(inode, cred, &old, &new)?;
    // A size of nothing is no size.
    if new.extsize == 0 {
        new.xflags &= !(raw::FS_XFLAG_EXTSIZE | raw::FS_XFLAG_EXTSZINHERIT);
    }
    if new.cowextsize == 0 {
        new.xflags &= !raw::FS_XFLAG_COWEXTSIZE;
    }
    inode.ops().fileattr_set(inode, &new)
}

/// What is the same for all file systems: privilege, projects, and which type of file can have what.
fn check(inode: &Inode, cred: &Credentials, old: &FileAttr, new: &FileAttr) -> Result<()> {
    let guarded = raw::FS_APPEND_FL | raw::FS_IMMUTABLE_FL;
    if (old.flags ^ new.flags) & guarded != 0 && !cred.capable(Cap::LinuxImmutable) {
        return Err(Errno::EPERM);
    }
    // Projects are counted in the initial namespace only, and the last number is none.
    let project = if cred.user_ns.is_initial() {
        new.projid != old.projid && new.projid == u32::MAX
    } else {
        new.projid != old.projid || (new.xflags ^ old.xflags) & raw::FS_XFLAG_PROJINHERIT != 0
    };
    let has = |xflag| new.xflags & xflag != 0;
    let (regular, directory) = (inode.is_regular(), inode.is_dir());
    if project
        || has(raw::FS_XFLAG_EXTSIZE) && !regular
        || has(raw::FS_XFLAG_EXTSZINHERIT) && !directory
        || has(raw::FS_XFLAG_COWEXTSIZE | raw::FS_XFLAG_DAX) && !regular && !directory
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
