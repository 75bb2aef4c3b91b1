//! The seam for what restricts a thread beyond its credentials' ids and capabilities: landlock(7).
//!
//! Credentials may carry a [`Domain`]. The file layer asks it where Linux has its security hooks for paths, with the
//! place and the [`Rights`] that the operation takes; other subsystems ask through [`Domain::may_reach`]. Credentials
//! without a domain cost one test of a field that is in the cache already.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Debug;

use abi::{Errno, Result};
use bitflags::bitflags;

use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::file::FileMode;
use crate::inode::{Inode, InodeFlags};
use crate::path::Path;
use crate::super_block::SB_NOUSER;
use crate::types::FileType;

bitflags! {
    /// What can be done to a place; the numbers are those of `LANDLOCK_ACCESS_FS_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Rights: u16 {
        /// Run a program.
        const EXECUTE = 1 << 0;
        /// Open for writing.
        const WRITE_FILE = 1 << 1;
        /// Open for reading.
        const READ_FILE = 1 << 2;
        /// Open a directory.
        const READ_DIR = 1 << 3;
        /// Remove a directory, or rename it away.
        const REMOVE_DIR = 1 << 4;
        /// Remove or rename something else.
        const REMOVE_FILE = 1 << 5;
        /// Make a character device.
        const MAKE_CHAR = 1 << 6;
        /// Make a directory.
        const MAKE_DIR = 1 << 7;
        /// Make a regular file.
        const MAKE_REG = 1 << 8;
        /// Make a socket.
        const MAKE_SOCK = 1 << 9;
        /// Make a FIFO.
        const MAKE_FIFO = 1 << 10;
        /// Make a block device.
        const MAKE_BLOCK = 1 << 11;
        /// Make a symbolic link.
        const MAKE_SYM = 1 << 12;
        /// Link or rename from or to another directory.
        const REFER = 1 << 13;
        /// Change the size.
        const TRUNCATE = 1 << 14;
        /// `ioctl(2)` on a device.
        const IOCTL_DEV = 1 << 15;
    }
}

impl Rights {
    /// Those that mean something for what is not a directory.
    pub const FILE: Self = Self::EXECUTE
        .union(Self::WRITE_FILE)
        .union(Self::READ_FILE)
        .union(Self::TRUNCATE)
        .union(Self::IOCTL_DEV);

    /// What making an object of this type takes.
    pub fn to_make(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::MAKE_DIR,
            FileType::Symlink => Self::MAKE_SYM,
            FileType::CharDevice => Self::MAKE_CHAR,
            FileType::BlockDevice => Self::MAKE_BLOCK,
            FileType::Fifo => Self::MAKE_FIFO,
            FileType::Socket => Self::MAKE_SOCK,
            FileType::Regular => Self::MAKE_REG,
        }
    }

    /// What taking a name away from `inode` takes.
    pub fn to_remove(inode: &Inode) -> Self {
        if inode.is_dir() { Self::REMOVE_DIR } else { Self::REMOVE_FILE }
    }
}

/// An object gets a name in another place.
pub struct Move<'a> {
    /// The name it has.
    pub source: &'a Arc<Dentry>,
    /// The directory for the new name; both are on its mount.
    pub to: &'a Path,
    /// What has the new name now.
    pub target: Option<&'a Arc<Dentry>>,
    /// See [`MoveKind`].
    pub kind: MoveKind,
}

/// What happens to the names of a [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// The old name stays: `link(2)`.
    Link,
    /// The old name goes, and with it what had the new one.
    Rename,
    /// The two are swapped.
    Exchange,
}

/// How one thread acts on another, or on its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Connects or sends to an abstract unix socket.
    AbstractSocket,
    /// Sends a signal.
    Signal,
    /// Looks into its memory or state.
    Inspect,
}

/// A restriction that credentials carry.
pub trait Domain: Any + Send + Sync + Debug {
    /// Those of `rights` that `path` allows.
    fn granted(&self, path: &Path, rights: Rights) -> Rights;

    /// Whether an object may get a name in another place.
    ///
    /// # Errors
    /// `EACCES`; `EXDEV`: not to that directory, but a copy may be possible.
    fn may_move(&self, request: &Move<'_>) -> Result<()>;

    /// Whether files are restricted at all: then mounts may not be changed.
    fn restricts_files(&self) -> bool;

    /// Whether threads of this domain may act on those of `other` (no restriction: `None`).
    fn may_reach(&self, other: Option<&dyn Domain>, how: Reach) -> bool;
}

/// Whether `cred` may do all of `rights` at `path`.
///
/// # Errors
/// `EACCES`.
#[inline]
pub fn check(cred: &Credentials, path: &Path, rights: Rights) -> Result<()> {
    match &cred.domain {
        None => Ok(()),
        Some(domain) if domain.granted(path, rights) == rights => Ok(()),
        Some(_) => Err(Errno::EACCES),
    }
}

/// Whether `cred` may give an object another name.
///
/// # Errors
/// As [`Domain::may_move`].
#[inline]
pub fn check_move(cred: &Credentials, request: &Move<'_>) -> Result<()> {
    cred.domain.as_ref().map_or(Ok(()), |domain| domain.may_move(request))
}

/// Whether `cred` may change mounts, as far as domains go.
///
/// # Errors
/// `EPERM`.
pub fn check_mounts(cred: &Credentials) -> Result<()> {
    let restricted = cred.domain.as_ref().is_some_and(|domain| domain.restricts_files());
    if restricted { Err(Errno::EPERM) } else { Ok(()) }
}

/// Whether `cred` may act on what `other` restricts.
///
/// # Errors
/// `EPERM`.
#[inline]
pub fn check_reach(cred: &Credentials, other: Option<&Arc<dyn Domain>>, how: Reach) -> Result<()> {
    match &cred.domain {
        Some(domain) if !domain.may_reach(other.map(|other| &**other), how) => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// Whether `cred` may open `path` with `flags` (`O_*`) for what `mode` says; the result is what the open file may not be
/// used for although it is open.
///
/// # Errors
/// `EACCES`.
#[inline]
pub(crate) fn check_open(cred: &Credentials, path: &Path, mode: FileMode) -> Result<FileMode> {
    match &cred.domain {
        None => Ok(FileMode::empty()),
        Some(domain) => open_in(&**domain, path, mode),
    }
}

fn open_in(domain: &dyn Domain, path: &Path, mode: FileMode) -> Result<FileMode> {
    let inode = path.inode()?;
    let needed = if mode.contains(FileMode::READ) && inode.is_dir() {
        Rights::READ_DIR
    } else {
        let of = |bit, right| if mode.contains(bit) { right } else { Rights::empty() };
        of(FileMode::READ, Rights::READ_FILE)
            | of(FileMode::WRITE, Rights::WRITE_FILE)
            | of(FileMode::EXEC, Rights::EXECUTE)
    };
    let granted = domain.granted(path, needed | Rights::TRUNCATE | Rights::IOCTL_DEV);
    if !granted.contains(needed) {
        return Err(Errno::EACCES);
    }
    let mut denied = FileMode::empty();
    denied.set(FileMode::NO_TRUNCATE, !granted.contains(Rights::TRUNCATE));
    let device = matches!(inode.file_type(), FileType::CharDevice | FileType::BlockDevice);
    denied.set(FileMode::NO_IOCTL, device && !granted.contains(Rights::IOCTL_DEV));
    Ok(denied)
}

/// Whether an `ioctl(2)` never reaches the device: it concerns the descriptor or the file system.
pub(crate) fn is_generic_ioctl(cmd: u32) -> bool {
    use crate::ioctl::{FIGETBSZ, FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIOQSIZE};
    const FIFREEZE: u32 = 0xc004_5877;
    const FITHAW: u32 = 0xc004_5878;
    const FS_IOC_FIEMAP: u32 = 0xc020_660b;
    const FICLONE: u32 = 0x4004_9409;
    const FICLONERANGE: u32 = 0x4020_940d;
    const FIDEDUPERANGE: u32 = 0xc018_9436;
    const FS_IOC_GETFSUUID: u32 = 0x8011_1500;
    const FS_IOC_GETFSSYSFSPATH: u32 = 0x8081_1501;
    matches!(
        cmd,
        FIOCLEX
            | FIONCLEX
            | FIONBIO
            | FIOASYNC
            | FIOQSIZE
            | FIGETBSZ
            | FIFREEZE
            | FITHAW
            | FS_IOC_FIEMAP
            | FICLONE
            | FICLONERANGE
            | FIDEDUPERANGE
            | FS_IOC_GETFSUUID
            | FS_IOC_GETFSSYSFSPATH
    )
}

/// Whether a place belongs to the kernel alone, so that no rule can name it: pipes, sockets, anonymous files.
pub fn is_internal(dentry: &Dentry) -> bool {
    dentry.sb().flags() & SB_NOUSER != 0
        || dentry.inode().is_some_and(|inode| inode.flags().contains(InodeFlags::PRIVATE))
}

/// Whether a mount is the kernel's own, in no namespace.
pub fn is_internal_mount(path: &Path) -> bool {
    path.mnt.namespace().is_none()
}
