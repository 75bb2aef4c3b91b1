//! tmpfs: files that live in the page cache and nowhere else. `tmpfs(5)`, `shmem(7)`.
//!
//! The same code is rootfs, tmpfs, ramfs ([`ramfs`]), devtmpfs ([`devtmpfs`]), and the memory behind `memfd_create(2)` ([`memfd`]).
//!
//! Owns: directories (a name map and a map of stable cookies, so a listing goes on where it stopped), contents as
//! [`mm::Mapping`]s without a backing store, extended attributes, seals, and the accounting against `size=` and
//! `nr_inodes=`. Locks: the directory map's spin lock is a leaf under `inode.rwsem`; limits are atomics.
//!
//! Files: [`options`] (mount options), [`limits`] (accounting), [`dir`] (the directory map), [`inode`] (inode operations),
//! [`file`] (file operations), [`xattrs`].
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod devtmpfs;
mod dir;
mod file;
mod inode;
mod limits;
pub mod memfd;
mod options;
pub mod ramfs;
mod xattrs;

use alloc::sync::Arc;
use core::fmt;

use abi::fs::Statfs;
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use vfs::export::{AliasTable, ExportOps};
use vfs::fs_context::{Level, Log, ParamResult};
use vfs::super_block::{MountRequest, SuperBlock, SuperInfo, SuperOps};
use vfs::types::NAME_MAX;
use vfs::{FsFlags, FsType};

use limits::Limits;
use mm::fallible::{try_arc, try_box};
use options::Options;

/// The file system type `tmpfs`.
pub struct Tmpfs;
/// The file system type `rootfs`: a tmpfs that only the kernel mounts.
pub struct Rootfs;

/// The type, for [`vfs::register_filesystem`].
pub static TMPFS: Tmpfs = Tmpfs;
/// The type of the first mount.
pub static ROOTFS: Rootfs = Rootfs;

/// What a super block of this crate is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavor {
    Tmpfs,
    Ramfs,
}

/// A mounted tmpfs.
pub(crate) struct TmpfsSuper {
    pub(crate) flavor: Flavor,
    limits: Arc<Limits>,
    options: SpinLock<Options>,
    /// Inodes that have file handles.
    pub(crate) exported: AliasTable,
}

/// The largest file.
const MAX_BYTES: u64 = i64::MAX as u64;

/// Makes a file system of type `fs`.
pub(crate) fn new_super(
    fs: &'static dyn FsType,
    request: &MountRequest<'_>,
    flavor: Flavor,
) -> Result<Arc<SuperBlock>> {
    let (options, magic, flags) = match flavor {
        Flavor::Tmpfs => (
            Options::parse(request.options, Options::default_for_memory())?,
            u64::from(raw::TMPFS_MAGIC),
            vfs::super_block::SB_POSIXACL,
        ),
        Flavor::Ramfs => (ramfs::parse(request.options)?, ramfs::MAGIC, 0),
    };
    let limits = try_arc(Limits::new(options.max_blocks, options.max_inodes))?;
    let info = SuperInfo {
        magic,
        block_size: PAGE_SIZE as u32,
        max_bytes: MAX_BYTES,
        time_granularity_ns: 1,
        flags: request.flags | flags,
        dev: None,
    };
    // The options name users as the mounter does.
    let uid = request.user_ns.make_uid(options.uid.0).ok_or(Errno::EINVAL)?;
    let gid = request.user_ns.make_gid(options.gid.0).ok_or(Errno::EINVAL)?;
    let mode = options.mode;
    let ops = TmpfsSuper {
        flavor,
        limits: limits.clone(),
        options: SpinLock::new(options),
        exported: AliasTable::default(),
    };
    let sb = SuperBlock::new(fs, info, request.user_ns.clone(), try_box(ops)?)?;
    let root = inode::new_root(&sb, &limits, raw::S_IFDIR | mode, uid, gid)?;
    sb.set_root(root)?;
    Ok(sb)
}

/// Whether an option is known and makes sense, whatever the others say.
pub(crate) fn check_param(key: &str, value: Option<&str>) -> ParamResult {
    Options::default_for_memory().set(key, value)
}

impl FsType for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::USERNS_MOUNT | FsFlags::CHECKS_PARAMS
    }

    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        check_param(key, value)
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        new_super(&TMPFS, request, Flavor::Tmpfs)
    }
}

impl FsType for Rootfs {
    fn name(&self) -> &'static str {
        "rootfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NO_USER | FsFlags::CHECKS_PARAMS
    }

    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        check_param(key, value)
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        new_super(&ROOTFS, request, Flavor::Tmpfs)
    }
}

impl SuperOps for TmpfsSuper {
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs> {
        let mut st = Statfs {
            type_: sb.magic() as i64,
            bsize: PAGE_SIZE as i64,
            frsize: PAGE_SIZE as i64,
            namelen: NAME_MAX as i64,
            ..Statfs::default()
        };
        if let Some(max) = self.limits.max_blocks() {
            st.blocks = max;
            st.bfree = max.saturating_sub(self.limits.used_blocks());
            st.bavail = st.bfree;
        }
        if let Some(max) = self.limits.max_inodes() {
            st.files = max;
            st.ffree = max.saturating_sub(self.limits.used_inodes());
        }
        Ok(st)
    }

    fn export(&self) -> Option<&dyn ExportOps> {
        (self.flavor == Flavor::Tmpfs).then_some(&self.exported)
    }

    fn reconfigure(&self, sb: &SuperBlock, _: u32, options: &[u8], log: &mut Log) -> Result<()> {
        if self.flavor == Flavor::Ramfs {
            return Ok(());
        }
        let mut current = self.options.lock();
        let new = Options::parse(options, current.clone())?;
        // A limit cannot appear where there was none, nor fall below what is in use.
        let objection = |old: Option<u64>, new: Option<u64>, used: u64, late, small| match new {
            _ if old == new => None,
            Some(_) if old.is_none() => Some(late),
            Some(max) if max < used => Some(small),
            _ => None,
        };
        let blocks = objection(
            current.max_blocks,
            new.max_blocks,
            self.limits.used_blocks(),
            "Cannot retroactively limit size",
            "Too small a size for current use",
        );
        let inodes = objection(
            current.max_inodes,
            new.max_inodes,
            self.limits.used_inodes(),
            "Cannot retroactively limit inodes",
            "Too few inodes for current use",
        );
        if let Some(why) = blocks.or(inodes) {
            drop(current);
            log.add(Level::Error, sb.fs_type().name(), format_args!("{why}"));
            return Err(Errno::EINVAL);
        }
        self.limits.set(new.max_blocks, new.max_inodes);
        let (mode, uid, gid) = (current.mode, current.uid, current.gid);
        *current = new;
        (current.mode, current.uid, current.gid) = (mode, uid, gid);
        Ok(())
    }

    fn show_options(&self, _: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let options = self.options.lock().clone();
        match self.flavor {
            Flavor::Tmpfs => options.show(out),
            Flavor::Ramfs => ramfs::show(&options, out),
        }
    }
}
