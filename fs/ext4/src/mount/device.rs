//! The types `ext4`, `ext3` and `ext2`, and the block device that a mount claims.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use abi::fs::DevId;
use abi::{Errno, Result};
use block::disk::{Access, BlockDevice, Claim, HolderId, Opened, by_number};
use mm::fallible::try_box;
use sched::mutex::Mutex;
use vfs::fs_context::{Level, Log, ParamResult};
use vfs::super_block::{MountRequest, SB_RDONLY, with_device};
use vfs::{FsFlags, FsType, SuperBlock, register_filesystem};

use super::{Kind, Mounting};
use crate::options::Options;

/// A type of file system.
#[derive(Debug)]
pub struct Ext4Type {
    name: &'static str,
    kind: Kind,
}

/// `ext4`.
pub static EXT4: Ext4Type = Ext4Type { name: "ext4", kind: Kind::Ext4 };
/// `ext3`.
pub static EXT3: Ext4Type = Ext4Type { name: "ext3", kind: Kind::Ext3 };
/// `ext2`.
pub static EXT2: Ext4Type = Ext4Type { name: "ext2", kind: Kind::Ext2 };

/// Makes the types known, in the order in which Linux tries them for a root device.
///
/// # Errors
/// `EBUSY`, `ENOMEM`.
pub fn register() -> Result<()> {
    register_filesystem(&EXT3)?;
    register_filesystem(&EXT2)?;
    register_filesystem(&EXT4)
}

/// By what a file system is called.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    uuid: [u8; 16],
    label: [u8; 16],
}

impl Identity {
    /// Whether that is its UUID, in either case.
    pub fn is_uuid(&self, text: &str) -> bool {
        super::uuid_text(&self.uuid).is_ok_and(|uuid| uuid.eq_ignore_ascii_case(text))
    }

    /// Whether that is its label.
    pub fn is_label(&self, text: &str) -> bool {
        let len = self.label.iter().position(|byte| *byte == 0).unwrap_or(self.label.len());
        !text.is_empty() && self.label.get(..len) == Some(text.as_bytes())
    }
}

/// Looks what the file system on a device is called.
///
/// # Errors
/// `EINVAL`: it has none of ext4, ext3 or ext2; those of the device.
pub fn identify(device: &Arc<BlockDevice>) -> Result<Identity> {
    let opened = device.open(Access { read: true, write: false }, None)?;
    let messages = crate::messages::Messages { device: device.name(), silent: true };
    let found = super::find_super(opened.device(), 1, &messages)?;
    Ok(Identity { uuid: found.sb.uuid, label: found.sb.volume_name })
}

/// One mount at a time looks for a super block of its device and claims it.
static MOUNTING: Mutex<()> = Mutex::new(());

impl Ext4Type {
    /// The super block that is mounted of the device, if it is of this type and as read-only as is wanted.
    fn mounted(&'static self, dev: DevId, flags: u32) -> Result<Option<Arc<SuperBlock>>> {
        let me: &'static dyn FsType = self;
        let Some(sb) = with_device(dev).filter(|sb| core::ptr::addr_eq(sb.fs_type(), me)) else {
            return Ok(None);
        };
        if (sb.flags() ^ flags) & SB_RDONLY != 0 {
            let text = format_args!("Can't mount, would change RO state");
            Log::to_console().add(Level::Warning, self.name, text);
            return Err(Errno::EBUSY);
        }
        Ok(Some(sb))
    }

    /// Opens and claims the device.
    fn claim(dev: DevId, flags: u32) -> Result<Opened> {
        let device = by_number(dev).ok_or(Errno::ENXIO)?;
        let write = flags & SB_RDONLY == 0;
        if write && device.is_read_only() {
            return Err(Errno::EACCES);
        }
        device.open(Access { read: true, write }, Some(Claim::new(HolderId::new())))
    }
}

impl FsType for Ext4Type {
    fn name(&self) -> &'static str {
        self.name
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REQUIRES_DEV | FsFlags::ALLOW_IDMAP | FsFlags::CHECKS_PARAMS
    }

    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        Options::blank().set(key, value)
    }

    fn mount(&'static self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let dev = request.device.ok_or(Errno::EINVAL)?;
        let _one = MOUNTING.lock();
        if let Some(sb) = self.mounted(dev, request.flags)? {
            return Ok(sb);
        }
        let opened = Self::claim(dev, request.flags)?;
        let mounting = Mounting {
            device: opened.device().clone(),
            name: opened.device().name(),
            dev,
            kind: self.kind,
            flags: request.flags,
            options: request.options,
        };
        let (fs, flags) = super::open(&mounting)?;
        let hold: Box<dyn Any + Send + Sync> = try_box(opened)?;
        super::fill(self, fs, flags, request.user_ns.clone(), Some(hold))
    }
}
