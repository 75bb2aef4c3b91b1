//! Flags of inodes: `chattr(1)`, and what the file system notes for itself.
#![allow(missing_docs, reason = "the names are those of the FS_*_FL and EXT4_*_FL constants")]

use bitflags::bitflags;

bitflags! {
    /// `flags` of an inode.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        const SECRM = 0x1;
        const UNRM = 0x2;
        const COMPR = 0x4;
        const SYNC = 0x8;
        const IMMUTABLE = 0x10;
        const APPEND = 0x20;
        const NODUMP = 0x40;
        const NOATIME = 0x80;
        const DIRTY = 0x100;
        const COMPRBLK = 0x200;
        const NOCOMPR = 0x400;
        const ENCRYPT = 0x800;
        const INDEX = 0x1000;
        const IMAGIC = 0x2000;
        const JOURNAL_DATA = 0x4000;
        const NOTAIL = 0x8000;
        const DIRSYNC = 0x1_0000;
        const TOPDIR = 0x2_0000;
        const HUGE_FILE = 0x4_0000;
        const EXTENTS = 0x8_0000;
        const VERITY = 0x10_0000;
        const EA_INODE = 0x20_0000;
        const DAX = 0x200_0000;
        const INLINE_DATA = 0x1000_0000;
        const PROJINHERIT = 0x2000_0000;
        const CASEFOLD = 0x4000_0000;
        const RESERVED = 0x8000_0000;
    }
}

impl Flags {
    /// What `FS_IOC_GETFLAGS` shows (`EXT4_FL_USER_VISIBLE`).
    pub const USER_VISIBLE: u32 = 0x725b_dfff;
    /// What `FS_IOC_SETFLAGS` may change (`EXT4_FL_USER_MODIFIABLE`).
    pub const USER_MODIFIABLE: u32 = 0x624b_c0ff;
    /// What a new inode takes over from its directory (`EXT4_FL_INHERITED`).
    pub const INHERITED: Self = Self::SECRM
        .union(Self::UNRM)
        .union(Self::COMPR)
        .union(Self::SYNC)
        .union(Self::NODUMP)
        .union(Self::NOATIME)
        .union(Self::NOCOMPR)
        .union(Self::JOURNAL_DATA)
        .union(Self::NOTAIL)
        .union(Self::DIRSYNC)
        .union(Self::PROJINHERIT)
        .union(Self::CASEFOLD)
        .union(Self::DAX);
    /// What of that makes sense for files (`EXT4_REG_FLMASK` leaves out these).
    pub const NOT_FOR_FILES: Self =
        Self::DIRSYNC.union(Self::TOPDIR).union(Self::CASEFOLD).union(Self::PROJINHERIT);
    /// What of that makes sense for others than files and directories.
    pub const FOR_OTHERS: Self = Self::NODUMP.union(Self::NOATIME);
}
