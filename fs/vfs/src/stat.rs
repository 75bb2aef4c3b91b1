//! Looking at attributes: `stat(2)`, `statx(2)`, `statfs(2)`.

use abi::fs::{Statfs, Statx, StatxTimestamp};
use abi::{Result, raw};

use crate::file::File;
use crate::inode::InodeFlags;
use crate::mount::statfs_flags;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::{LookupContext, Path};
use crate::super_block::SuperBlock;
use crate::types::{FileType, Kstat, Timestamp};

/// `st_blksize` for files that say nothing else.
pub const DEFAULT_BLOCK_SIZE: u32 = 4096;

/// Attributes of a place; `request_mask` are `STATX_*` bits.
pub fn vfs_getattr(path: &Path, request_mask: u32) -> Result<Kstat> {
    let inode = path.inode()?;
    let flags = inode.flags();
    let mut stat = if flags.contains(InodeFlags::OP_GETATTR) {
        inode.ops().getattr(inode, request_mask)?
    } else {
        inode.fill_stat()
    };
    for (flag, attribute) in [
        (InodeFlags::IMMUTABLE, raw::STATX_ATTR_IMMUTABLE),
        (InodeFlags::APPEND, raw::STATX_ATTR_APPEND),
        (InodeFlags::DAX, raw::STATX_ATTR_DAX),
    ] {
        if flags.contains(flag) {
            stat.attributes |= u64::from(attribute);
        }
    }
    if path.is_mount_root() {
        stat.attributes |= u64::from(raw::STATX_ATTR_MOUNT_ROOT);
    }
    stat.attributes_mask |=
        u64::from(raw::STATX_ATTR_AUTOMOUNT | raw::STATX_ATTR_DAX | raw::STATX_ATTR_MOUNT_ROOT);
    if request_mask & raw::STATX_MNT_ID_UNIQUE != 0 {
        stat.mnt_id = path.mnt.unique_id();
        stat.result_mask |= raw::STATX_MNT_ID_UNIQUE;
    } else {
        stat.mnt_id = u64::from(path.mnt.id());
        stat.result_mask |= raw::STATX_MNT_ID;
    }
    Ok(stat)
}

/// Attributes of an open file (`O_PATH` or not).
pub fn fstat(file: &File) -> Result<Kstat> {
    vfs_getattr(file.path(), raw::STATX_BASIC_STATS)
}

/// Attributes by name; `flags` are `AT_*`.
pub fn stat(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], flags: u32, mask: u32) -> Result<Kstat> {
    let path = path_lookup(ctx, at, name, LookupFlags::from_at(flags))?;
    vfs_getattr(&path, mask)
}

/// What identifies a file system that has no identification of its own.
fn fsid_of_device(sb: &SuperBlock) -> [i32; 2] {
    [sb.dev().encode() as i32, 0]
}

/// `f_fsid` of `statfs(2)`.
pub fn fsid(sb: &SuperBlock) -> [i32; 2] {
    match sb.ops().statfs(sb) {
        Ok(st) if st.fsid != [0, 0] => st.fsid,
        _ => fsid_of_device(sb),
    }
}

/// `statfs(2)` of a place.
pub fn statfs(path: &Path) -> Result<Statfs> {
    let sb = path.dentry.sb();
    let mut st = sb.ops().statfs(sb)?;
    if st.frsize == 0 {
        st.frsize = st.bsize;
    }
    if st.fsid == [0, 0] {
        st.fsid = fsid_of_device(sb);
    }
    st.flags = statfs_flags(&path.mnt);
    Ok(st)
}

fn statx_time(time: Timestamp) -> StatxTimestamp {
    StatxTimestamp { sec: time.sec, nsec: time.nsec, pad: 0 }
}

impl Kstat {
    /// As `statx(2)` shows it; `uid` and `gid` are already those the caller's namespace sees.
    pub fn to_statx(&self, uid: u32, gid: u32) -> Statx {
        Statx {
            mask: self.result_mask,
            blksize: self.blksize,
            attributes: self.attributes,
            nlink: self.nlink,
            uid,
            gid,
            mode: self.mode as u16,
            ino: self.ino,
            size: self.size,
            blocks: self.blocks,
            attributes_mask: self.attributes_mask,
            atime: statx_time(self.atime),
            btime: statx_time(self.btime),
            ctime: statx_time(self.ctime),
            mtime: statx_time(self.mtime),
            rdev_major: self.rdev.major,
            rdev_minor: self.rdev.minor,
            dev_major: self.dev.major,
            dev_minor: self.dev.minor,
            mnt_id: self.mnt_id,
            dio_mem_align: self.dio_mem_align,
            dio_offset_align: self.dio_offset_align,
            subvol: self.subvol,
            ..Statx::default()
        }
    }

    /// As `stat(2)` shows it on x86_64.
    pub fn to_x86_64(&self, uid: u32, gid: u32) -> abi::x86_64::Stat {
        abi::x86_64::Stat {
            dev: u64::from(self.dev.encode()),
            ino: self.ino,
            nlink: u64::from(self.nlink),
            mode: self.mode,
            uid,
            gid,
            rdev: u64::from(self.rdev.encode()),
            size: self.size as i64,
            blksize: i64::from(self.blksize),
            blocks: self.blocks as i64,
            atime: self.atime.sec as u64,
            atime_nsec: u64::from(self.atime.nsec),
            mtime: self.mtime.sec as u64,
            mtime_nsec: u64::from(self.mtime.nsec),
            ctime: self.ctime.sec as u64,
            ctime_nsec: u64::from(self.ctime.nsec),
            ..abi::x86_64::Stat::default()
        }
    }

    /// As `stat(2)` shows it on architectures with the generic layout.
    pub fn to_generic(&self, uid: u32, gid: u32) -> abi::generic::Stat {
        abi::generic::Stat {
            dev: u64::from(self.dev.encode()),
            ino: self.ino,
            mode: self.mode,
            nlink: self.nlink,
            uid,
            gid,
            rdev: u64::from(self.rdev.encode()),
            size: self.size as i64,
            blksize: self.blksize as i32,
            blocks: self.blocks as i64,
            atime: self.atime.sec,
            atime_nsec: u64::from(self.atime.nsec),
            mtime: self.mtime.sec,
            mtime_nsec: u64::from(self.mtime.nsec),
            ctime: self.ctime.sec,
            ctime_nsec: u64::from(self.ctime.nsec),
            ..abi::generic::Stat::default()
        }
    }

    /// The type.
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode)
    }
}

/// Makes an architecture's `struct stat` of the attributes.
pub trait FromKstat: Sized {
    /// `uid` and `gid` are those the caller's namespace sees.
    fn from_kstat(stat: &Kstat, uid: u32, gid: u32) -> Self;
}

impl FromKstat for abi::x86_64::Stat {
    fn from_kstat(stat: &Kstat, uid: u32, gid: u32) -> Self {
        stat.to_x86_64(uid, gid)
    }
}

impl FromKstat for abi::generic::Stat {
    fn from_kstat(stat: &Kstat, uid: u32, gid: u32) -> Self {
        stat.to_generic(uid, gid)
    }
}
