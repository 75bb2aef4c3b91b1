//! What the VFS asks of the mounted file system.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use abi::fs::Statfs;
use abi::{Errno, Result};
use vfs::SuperBlock;
use vfs::export::ExportOps;
use vfs::fs_context::{Level, Log};
use vfs::super_block::{SB_POSIXACL, SB_RDONLY, SuperOps};

use super::{MAGIC, groups, uuid_text};
use crate::disk::dir::NAME_LEN;
use crate::disk::features::Incompat;
use crate::export::Export;
use crate::fs::Fs;
use crate::messages::Messages;
use mm::fallible::try_arc;
use sched::mutex::Mutex;

/// A mounted file system, as the VFS has it.
pub struct Ext4Super {
    fs: Arc<Fs>,
    export: Export,
    /// What is kept as long as it is mounted: the claim of the device.
    hold: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl Ext4Super {
    pub(super) fn new(fs: Arc<Fs>, hold: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { export: Export(fs.clone()), fs, hold: Mutex::new(hold) }
    }

    /// The file system.
    pub fn fs(&self) -> &Arc<Fs> {
        &self.fs
    }
}

/// The file system of a super block of this crate.
pub fn fs_of(sb: &SuperBlock) -> Option<&Arc<Fs>> {
    sb.private::<Ext4Super>().map(Ext4Super::fs)
}

impl SuperOps for Ext4Super {
    fn statfs(&self, _: &SuperBlock) -> Result<Statfs> {
        let (fs, layout) = (&self.fs, &self.fs.layout);
        let (clusters, inodes) = groups::free(&fs.descs, layout)?;
        let free = clusters << layout.cluster_ratio_bits;
        let overhead = if fs.options().minix_df { 0 } else { fs.overhead };
        let reserved = fs.sb.reserved_blocks_count().saturating_add(fs.reserved());
        let [low, high] = [0, 8].map(|at| {
            let half = fs.sb.uuid.get(at..).and_then(|half| half.first_chunk::<8>());
            half.map_or(0, |half| u64::from_le_bytes(*half))
        });
        let fsid = low ^ high;
        Ok(Statfs {
            type_: MAGIC as i64,
            bsize: layout.block_size() as i64,
            frsize: layout.block_size() as i64,
            blocks: layout.blocks_count.saturating_sub(overhead),
            bfree: free,
            bavail: free.saturating_sub(reserved),
            files: layout.inodes_count.into(),
            ffree: inodes,
            fsid: [fsid as i32, (fsid >> 32) as i32],
            namelen: NAME_LEN as i64,
            ..Statfs::default()
        })
    }

    fn export(&self) -> Option<&dyn ExportOps> {
        Some(&self.export)
    }

    fn reconfigure(&self, sb: &SuperBlock, flags: u32, options: &[u8], log: &mut Log) -> Result<()> {
        let fs = &self.fs;
        let old = fs.options();
        let new = (*old).clone().parse(options)?;
        let messages = Messages { device: &fs.name, silent: false };
        if new.data != old.data {
            return Err(messages.invalid(format_args!("Cannot change data mode on remount")));
        }
        if new.dax != old.dax {
            return Err(messages.invalid(format_args!("can't change dax mount option while remounting")));
        }
        if flags & SB_RDONLY == 0 && sb.is_read_only() {
            super::features::may_write(&fs.sb, &messages)?;
        }
        if new.sb != old.sb {
            log.add(Level::Warning, "EXT4-fs", format_args!("Ignoring sb option on remount"));
        }
        if new.acl != old.acl {
            let acl = if new.acl { SB_POSIXACL } else { 0 };
            sb.set_flags(sb.flags() & !SB_POSIXACL | acl);
        }
        let new = try_arc(new)?;
        let before = core::mem::replace(&mut *fs.options.lock(), new);
        drop(before);
        let access = if flags & SB_RDONLY != 0 { "ro" } else { "r/w" };
        let uuid = uuid_text(&fs.sb.uuid)?;
        messages.info(format_args!("re-mounted {uuid} {access}."));
        Ok(())
    }

    fn show_options(&self, _: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        self.fs.options().show(&self.fs.default_options, out)
    }

    fn sync_fs(&self, sb: &SuperBlock, _: bool) -> Result<()> {
        // Nothing is ever dirty.
        if sb.is_read_only() { Ok(()) } else { Err(Errno::EROFS) }
    }

    fn put_super(&self, _: &SuperBlock) {
        if let Ok(uuid) = uuid_text(&self.fs.sb.uuid) {
            let messages = Messages { device: &self.fs.name, silent: false };
            messages.info(format_args!("unmounting filesystem {uuid}."));
        }
        // Dentries that wait for readers may keep this alive: the device is free now.
        let hold = self.hold.lock().take();
        drop(hold);
    }
}

impl Fs {
    /// Blocks that writes which must not fail may use (`ext4_calculate_resv_clusters`).
    fn reserved(&self) -> u64 {
        if !self.incompat.contains(Incompat::EXTENTS) {
            return 0;
        }
        let clusters = self.layout.blocks_count >> self.layout.cluster_ratio_bits;
        (clusters / 50).min(4096) << self.layout.cluster_ratio_bits
    }
}
