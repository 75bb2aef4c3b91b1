//! `statx(2)` and the flags of `chattr(1)`.

use abi::raw;
use vfs::fileattr::FileAttr;
use vfs::types::Kstat;
use vfs::{Inode, InodeFlags};

use super::Node;
use crate::disk::features::RoCompat;
use crate::disk::inode::{Flags, extra_end};

/// Which flags of an inode are which of the VFS.
pub(crate) fn vfs_flags(flags: Flags) -> InodeFlags {
    let mut set = InodeFlags::empty();
    for (flag, of_vfs) in [
        (Flags::SYNC, InodeFlags::SYNC),
        (Flags::APPEND, InodeFlags::APPEND),
        (Flags::IMMUTABLE, InodeFlags::IMMUTABLE),
        (Flags::NOATIME, InodeFlags::NOATIME),
    ] {
        set.set(of_vfs, flags.contains(flag));
    }
    set
}

impl Node {
    /// What `statx(2)` shows (`ext4_getattr`).
    pub(crate) fn stat(&self, inode: &Inode, request: u32) -> Kstat {
        let mut stat = inode.fill_stat();
        if request & raw::STATX_BTIME != 0 && usize::from(self.extra_isize) >= extra_end::CRTIME {
            stat.result_mask |= raw::STATX_BTIME;
        }
        let flags = self.flags();
        for (flag, attribute) in [
            (Flags::APPEND, raw::STATX_ATTR_APPEND),
            (Flags::COMPR, raw::STATX_ATTR_COMPRESSED),
            (Flags::ENCRYPT, raw::STATX_ATTR_ENCRYPTED),
            (Flags::IMMUTABLE, raw::STATX_ATTR_IMMUTABLE),
            (Flags::NODUMP, raw::STATX_ATTR_NODUMP),
            (Flags::VERITY, raw::STATX_ATTR_VERITY),
        ] {
            stat.attributes_mask |= u64::from(attribute);
            if flags.contains(flag) {
                stat.attributes |= u64::from(attribute);
            }
        }
        // Data in the inode or an attribute takes no block; who looks for holes may take a file without blocks for one.
        if flags.contains(Flags::INLINE_DATA) && inode.is_regular() {
            stat.blocks += stat.size.div_ceil(512);
        }
        stat
    }

    /// `FS_IOC_GETFLAGS` and `FS_IOC_FSGETXATTR`.
    pub(crate) fn fileattr(&self, inode: &Inode) -> FileAttr {
        let mut flags = self.flags().bits() & Flags::USER_VISIBLE;
        if inode.is_regular() {
            flags &= !raw::FS_PROJINHERIT_FL;
        }
        let mut attr = FileAttr::from_flags(flags);
        if self.fs.ro_compat.contains(RoCompat::PROJECT) {
            attr.projid = self.project.load(core::sync::atomic::Ordering::Relaxed);
        }
        attr
    }
}
