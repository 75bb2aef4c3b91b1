//! Small vocabulary types: file types, permission masks, times and attributes.
//!
//! Owns no state. See `inode(7)` and `stat(2)`.

use abi::fs::DevId;
use abi::raw;
use bitflags::bitflags;

/// An inode number.
pub type Ino = u64;

/// The longest name of one directory entry.
pub const NAME_MAX: usize = 255;
/// The longest path, its final NUL included.
pub const PATH_MAX: usize = 4096;
/// The largest file position.
pub const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;

/// What an inode is (`S_IFMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum FileType {
    Fifo = 0o010000,
    CharDevice = 0o020000,
    Directory = 0o040000,
    BlockDevice = 0o060000,
    Regular = 0o100000,
    Symlink = 0o120000,
    Socket = 0o140000,
}

impl FileType {
    /// The type in `mode`, if those bits name one.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & raw::S_IFMT {
            raw::S_IFIFO => Self::Fifo,
            raw::S_IFCHR => Self::CharDevice,
            raw::S_IFDIR => Self::Directory,
            raw::S_IFBLK => Self::BlockDevice,
            raw::S_IFREG => Self::Regular,
            raw::S_IFLNK => Self::Symlink,
            raw::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// `d_type` of `getdents64(2)`.
    pub const fn dirent_type(self) -> u8 {
        (self as u32 >> 12) as u8
    }

    /// Whether the inode is a device node.
    pub const fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

bitflags! {
    /// What a permission check asks for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MayAccess: u32 {
        /// Execute a file, search a directory.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
        /// Append only.
        const APPEND = 8;
        /// The check of `access(2)`.
        const ACCESS = 16;
        /// The check of `open(2)`.
        const OPEN = 32;
        /// The check of `chdir(2)`.
        const CHDIR = 64;
        /// The caller cannot sleep.
        const NOT_BLOCK = 128;
    }
}

/// A point in time as inodes keep it: nanoseconds since the epoch, before and after 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds, always 0 to 999,999,999.
    pub nsec: u32,
}

impl Timestamp {
    /// A time from its parts.
    pub const fn new(sec: i64, nsec: u32) -> Self {
        Self { sec, nsec }
    }

    /// The time `ns` nanoseconds after the epoch.
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
    }

    /// The time rounded down to multiples of `granularity_ns`.
    pub const fn truncated(self, granularity_ns: u32) -> Self {
        match granularity_ns {
            0 | 1 => self,
            g if g >= 1_000_000_000 => Self { sec: self.sec, nsec: 0 },
            g => Self { sec: self.sec, nsec: self.nsec - self.nsec % g },
        }
    }
}

/// What `stat(2)`, `statx(2)` and `getattr` hand around.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Kstat {
    /// `STATX_*` bits of the fields that are valid.
    pub result_mask: u32,
    pub mode: u32,
    pub nlink: u32,
    pub blksize: u32,
    /// `STATX_ATTR_*`.
    pub attributes: u64,
    pub attributes_mask: u64,
    pub ino: Ino,
    pub dev: DevId,
    pub rdev: DevId,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Timestamp,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub mnt_id: u64,
    pub dio_mem_align: u32,
    pub dio_offset_align: u32,
    pub subvol: u64,
}

bitflags! {
    /// Fields of [`Iattr`] that are to change (Linux's `ATTR_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AttrValid: u32 {
        /// `mode`.
        const MODE = 1 << 0;
        /// `uid`.
        const UID = 1 << 1;
        /// `gid`.
        const GID = 1 << 2;
        /// `size`.
        const SIZE = 1 << 3;
        /// `atime`.
        const ATIME = 1 << 4;
        /// `mtime`.
        const MTIME = 1 << 5;
        /// `ctime`.
        const CTIME = 1 << 6;
        /// The access time was given, not "now".
        const ATIME_SET = 1 << 7;
        /// The modification time was given, not "now".
        const MTIME_SET = 1 << 8;
        /// Do not check permissions.
        const FORCE = 1 << 9;
        /// Remove the set-user-id bit.
        const KILL_SUID = 1 << 11;
        /// Remove the set-group-id bit.
        const KILL_SGID = 1 << 12;
        /// The mode change follows from another one and is not checked again.
        const FORCE_MODE = 1 << 13;
        /// Truncation by an open file or by `O_TRUNC`.
        const OPEN = 1 << 15;
        /// `utimes(2)` with both times "now".
        const TOUCH = 1 << 17;
    }
}

/// A change of attributes for `InodeOps::setattr`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Iattr {
    pub valid: AttrValid,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
}

impl Default for Iattr {
    fn default() -> Self {
        Self {
            valid: AttrValid::empty(),
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        }
    }
}
