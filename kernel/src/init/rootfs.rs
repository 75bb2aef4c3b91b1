//! The root directory: its mount, the file system types, and the initramfs that fills it.

use abi::Result;
use alloc::sync::Arc;
use boot::BootInfo;
use vfs::cred::UserNamespace;
use vfs::fs_type::{FsType, register_filesystem};
use vfs::mount::{Mount, ops};
use vfs::super_block::MountRequest;

use crate::fs::context::Caller;

/// Mounts the empty root directory.
pub(super) fn mount_root() -> Result<Arc<Mount>> {
    let user_ns = UserNamespace::initial();
    let request =
        MountRequest { flags: 0, source: b"rootfs", device: None, options: b"", user_ns, private: None };
    let sb = tmpfs::ROOTFS.mount(&request)?;
    ops::kernel_mount(&sb, 0, b"rootfs")
}

/// Makes the types known that programs may mount.
pub(super) fn register_types() -> Result<()> {
    register_filesystem(&tmpfs::TMPFS)?;
    register_filesystem(&tmpfs::ramfs::RAMFS)?;
    register_filesystem(&tmpfs::devtmpfs::DEVTMPFS)?;
    register_filesystem(&devpts::DEVPTS)?;
    register_filesystem(&mqueue::MQUEUE)?;
    ext4::mount::device::register()?;
    register_filesystem(&overlayfs::OVERLAY)
}

/// Unpacks the initramfs that the boot loader passed, and gives its memory back.
pub(super) fn unpack(info: &BootInfo) {
    let Some(range) = info.initrd else {
        log::info!("no initramfs");
        return;
    };
    let Ok(caller) = Caller::current() else { return };
    log::info!("Unpacking initramfs...");
    let unpacked = mm::init::with_reserved(range, |archive| initramfs::unpack(&caller.ctx(), archive));
    match unpacked {
        Ok(()) => {}
        Err(failure) => log::error!("Initramfs unpacking failed: {failure}"),
    }
    mm::init::release(range);
    log::info!("Freeing initrd memory: {}K", range.len() / 1024);
}
