//! From the device into memory: `iget`, with everything that is checked of an inode once.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::creds::{Gid, Uid};
use abi::fs::DevId;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::fallible::try_arc;
use sched::mutex::RwSemaphore;
use sync::Once;
use vfs::types::Timestamp;
use vfs::{FileType, Inode, InodeFlags, InodeInit, SuperBlock};

use super::Node;
use super::ops::Ext4Inode;
use crate::disk::at;
use crate::disk::features::{Compat, Incompat, RoCompat};
use crate::disk::inode::{
    self as disk, CORE_SIZE, Core, Extra, Flags, ROOT_INO, decode_device, decode_time, extra_end,
};
use crate::error::{EFSBADCRC, EFSCORRUPTED, place};
use crate::extents::status::StatusCache;
use crate::fs::Fs;

/// What an inode is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A name leads to it.
    Named,
    /// It is one of the file system's own: the root, the journal, quota files.
    Special,
    /// A file handle leads to it: what is wrong is the handle.
    Handle,
    /// It holds the value of an extended attribute.
    Attribute,
}

/// An inode's fields, checked as far as they stand alone.
struct Loaded {
    core: Core,
    extra: Extra,
    size: u64,
}

impl Fs {
    /// The inode with that number.
    ///
    /// # Errors
    /// `EUCLEAN`, `EBADMSG`: it is damaged; `ESTALE`: it is not in use; `EIO`, `ENOMEM`.
    pub fn iget(self: &Arc<Self>, sb: &Arc<SuperBlock>, ino: u32, purpose: Purpose) -> Result<Arc<Inode>> {
        let out_of_range = ino < ROOT_INO || ino > self.layout.inodes_count;
        if out_of_range || purpose != Purpose::Special && self.is_special(ino) {
            if purpose == Purpose::Handle {
                return Err(Errno::ESTALE);
            }
            let text = format_args!("inode #{ino}: comm {}: iget: illegal inode #", sched::current().comm());
            return Err(self.error(place!("__ext4_iget"), EFSCORRUPTED, text));
        }
        let inode = self.inodes.get(ino.into(), || self.load(sb, ino, purpose))?;
        // An inode of a value and one of a file are not taken for each other.
        let of_attribute = super::node(&inode)?.flags().contains(Flags::EA_INODE);
        if of_attribute != (purpose == Purpose::Attribute) {
            if purpose == Purpose::Handle {
                return Err(Errno::ESTALE);
            }
            let text = if of_attribute { "unexpected EA_INODE flag" } else { "missing EA_INODE flag" };
            return Err(self.error(place!("__ext4_iget", ino), EFSCORRUPTED, format_args!("{text}")));
        }
        Ok(inode)
    }

    /// Whether no name leads to the inode.
    fn is_special(&self, ino: u32) -> bool {
        let own = [self.sb.usr_quota_inum, self.sb.grp_quota_inum, self.sb.prj_quota_inum];
        ino < self.layout.first_ino && ino != ROOT_INO
            || own.iter().any(|own| own.get() == ino)
            || self.sb.orphan_file_inum.get() == ino
    }

    fn load(self: &Arc<Self>, sb: &Arc<SuperBlock>, ino: u32, purpose: Purpose) -> Result<Arc<Inode>> {
        let loaded = self.with_raw_inode(ino, |raw| self.check(ino, purpose, raw))?;
        let Loaded { core, extra, size } = loaded;
        let kind = FileType::from_mode(core.mode.get().into());
        let flags = core.flags();
        let generation = core.generation.get();
        let node = try_arc(Node {
            fs: self.clone(),
            ino,
            generation,
            seed: self.checksums.inode_seed(ino, generation),
            extra_isize: extra.extra_isize.get(),
            project: AtomicU32::new(if extra.has(extra_end::PROJID) { extra.projid.get() } else { 0 }),
            disk_size: AtomicU64::new(size),
            flags: AtomicU32::new(flags.bits()),
            file_acl: AtomicU64::new(core.file_acl()),
            root: SpinLock::new(core.block),
            tree: RwSemaphore::new(()),
            status: StatusCache::default(),
            inode: Once::new(),
        })?;
        let mapping = match kind {
            Some(FileType::Regular) => Some(node.new_mapping(size)?),
            _ => None,
        };
        let device = match kind {
            Some(FileType::CharDevice | FileType::BlockDevice) => {
                let slot = |index| core.address(index).unwrap_or_default();
                let (major, minor) = decode_device(slot(0), slot(1));
                DevId::new(major, minor)
            }
            _ => DevId::default(),
        };
        let user_ns = sb.user_ns();
        let init = InodeInit {
            uid: user_ns.make_uid(core.uid()).unwrap_or(Uid(core.uid())),
            gid: user_ns.make_gid(core.gid()).unwrap_or(Gid(core.gid())),
            rdev: device,
            nlink: core.links_count.get().into(),
            size,
            flags: InodeFlags::OP_GETATTR | self.vfs_flags(flags, &core, &extra),
            mapping,
            ..InodeInit::new(ino.into(), core.mode.get().into())
        };
        let inode = Inode::new(sb.clone(), init, Ext4Inode(node.clone()))?;
        inode.generation.store(generation, Ordering::Relaxed);
        inode.set_blocks(core.sectors(self.layout.huge_file, self.layout.block_bits));
        inode.update_times(|times| {
            let time = |seconds, nanoseconds, end| {
                let (sec, nsec) = decode_time(seconds, extra.has(end).then_some(nanoseconds));
                Timestamp::new(sec, nsec)
            };
            times.atime = time(core.atime, extra.atime_extra, extra_end::ATIME);
            times.mtime = time(core.mtime, extra.mtime_extra, extra_end::MTIME);
            times.ctime = time(core.ctime, extra.ctime_extra, extra_end::CTIME);
            if extra.has(extra_end::CRTIME) {
                times.btime = time(extra.crtime, extra.crtime_extra, extra_end::CRTIME_EXTRA);
            } else {
                times.btime = Timestamp::default();
            }
            let high = if extra.has(extra_end::VERSION) { extra.version_hi.get() } else { 0 };
            times.version = u64::from(high) << 32 | u64::from(core.version.get());
        });
        let _ = node.inode.set(Arc::downgrade(&inode));
        if inode.is_symlink() && !flags.contains(Flags::INLINE_DATA) && node.is_fast_symlink(&inode) {
            node.cache_fast_symlink(&inode)?;
        }
        Ok(inode)
    }

    /// Which flags of the VFS follow from those of the inode. Lists and capabilities: there may be some, as soon as there are
    /// extended attributes; who looks and finds none notes it.
    fn vfs_flags(&self, flags: Flags, core: &Core, extra: &Extra) -> InodeFlags {
        let mut set = super::attr::vfs_flags(flags);
        let in_body =
            usize::from(self.layout.inode_size) > CORE_SIZE + usize::from(extra.extra_isize.get()) + 4;
        let symlink = u32::from(core.mode.get()) & raw::S_IFMT == raw::S_IFLNK;
        if (core.file_acl() != 0 || in_body && extra.extra_isize.get() != 0) && !symlink {
            set |= InodeFlags::HAS_CAPS;
            if self.options().acl {
                set |= InodeFlags::HAS_ACL | InodeFlags::OP_PERMISSION;
                if u32::from(core.mode.get()) & raw::S_IFMT == raw::S_IFDIR {
                    set |= InodeFlags::HAS_DEFAULT_ACL;
                }
            }
        }
        set
    }

    fn check(&self, ino: u32, purpose: Purpose, raw: &[u8]) -> Result<Loaded> {
        let bad =
            |text: core::fmt::Arguments<'_>| Err(self.error(place!("__ext4_iget", ino), EFSCORRUPTED, text));
        let core: Core = *at(raw, 0).ok_or(EFSCORRUPTED)?;
        if ino == ROOT_INO && core.links_count.get() == 0 {
            return bad(format_args!("iget: root inode unallocated"));
        }
        if purpose == Purpose::Handle && core.links_count.get() == 0 {
            return Err(Errno::ESTALE);
        }
        let mut extra = Extra::default();
        if raw.len() > CORE_SIZE {
            extra = *at(raw, CORE_SIZE).ok_or(EFSCORRUPTED)?;
            let isize = usize::from(extra.extra_isize.get());
            if CORE_SIZE + isize > raw.len() || !isize.is_multiple_of(4) {
                return bad(format_args!("iget: bad extra_isize {isize} (inode size {})", raw.len()));
            }
        }
        let seed = self.checksums.inode_seed(ino, core.generation.get());
        if !self.checksums.inode_is_right(seed, raw) {
            let text = format_args!("iget: checksum invalid");
            return Err(self.error(place!("__ext4_iget", ino), EFSBADCRC, text));
        }
        let mode = u32::from(core.mode.get());
        if core.links_count.get() == 0 && mode == 0
            || core.links_count.get() == 0 && purpose == Purpose::Named
        {
            if purpose == Purpose::Special {
                return bad(format_args!("iget: special inode unallocated"));
            }
            return Err(Errno::ESTALE);
        }
        let kind = FileType::from_mode(mode);
        let flags = core.flags();
        let wide = self.incompat.contains(Incompat::LARGEDIR) || kind == Some(FileType::Regular);
        let size = if wide { core.size() } else { core.size_lo.get().into() };
        if size > i64::MAX as u64 {
            return bad(format_args!("iget: bad i_size value: {}", size as i64));
        }
        if !self.compat.contains(Compat::DIR_INDEX)
            && flags.contains(Flags::INDEX)
            && kind == Some(FileType::Directory)
        {
            return bad(format_args!("iget: Dir with htree data on filesystem without dir_index feature."));
        }
        if flags.contains(Flags::INLINE_DATA)
            && (!self.incompat.contains(Incompat::INLINE_DATA) || raw.len() == CORE_SIZE)
        {
            return bad(format_args!("iget: inline data without the feature"));
        }
        if flags.contains(Flags::EXTENTS) && !self.incompat.contains(Incompat::EXTENTS) {
            return bad(format_args!("iget: extents without the feature"));
        }
        let acl = core.file_acl();
        if acl != 0 && !self.layout.is_valid(acl, 1) {
            return bad(format_args!("iget: bad extended attribute block {acl}"));
        }
        if flags.contains(Flags::CASEFOLD) {
            return bad(format_args!("iget: casefold flag without casefold feature"));
        }
        if kind.is_none() {
            return bad(format_args!("iget: bogus i_mode ({mode:o})"));
        }
        if kind == Some(FileType::Symlink) && flags.intersects(Flags::APPEND | Flags::IMMUTABLE) {
            return bad(format_args!("iget: immutable or append flags not allowed on symlinks"));
        }
        let has_blocks = matches!(kind, Some(FileType::Regular | FileType::Directory))
            || kind == Some(FileType::Symlink) && !Self::is_short(&core, size);
        if has_blocks && !flags.contains(Flags::INLINE_DATA) && flags.contains(Flags::EXTENTS) {
            self.check_root(ino, &core.block)?;
        }
        Ok(Loaded { core, extra, size })
    }

    /// Whether a link's target may be in `i_block`: whoever follows it decides.
    fn is_short(core: &Core, size: u64) -> bool {
        core.blocks_lo.get() == 0 || size < disk::BLOCK_BYTES as u64
    }

    /// Whether the values of attributes can be in inodes of their own.
    pub(crate) fn has_ea_inodes(&self) -> bool {
        self.incompat.contains(Incompat::EA_INODE)
    }

    /// Whether directories have trees.
    pub(crate) fn has_dir_index(&self) -> bool {
        self.compat.contains(Compat::DIR_INDEX)
    }

    /// Whether a directory may count one link for all (`dir_nlink`).
    pub fn has_dir_nlink(&self) -> bool {
        self.ro_compat.contains(RoCompat::DIR_NLINK)
    }
}
