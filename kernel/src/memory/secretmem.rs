//! memfd_secret(2): a file whose pages only its mappings reach.
//!
//! The file can be sized once and mapped shared; it cannot be read or written, and what reaches user pages by other ways than
//! the processor's (debuggers, `process_vm_readv(2)`, pinned buffers, page migration, userfaultfd) is refused by `mm` for mappings
//! that say [`AddressSpaceOps::is_secret`]. Its areas are never
//! executed and not dumped. They count as memory of files does: Debian's Linux 6.12 does not show them as locked either, and does not hold
//! them against `RLIMIT_MEMLOCK`, unlike the manual page.
//!
//! Linux also takes the pages out of the kernel's own map of all memory. Here they stay in it: the map is made of large pages
//! that are never split, and all CPUs would have to be told of each page that comes and goes.

use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use mm::fallible::try_arc;
use mm::vma::{MmapSetup, VmFlags};
use mm::{AddressSpaceOps, Mapping};
use sync::Lazy;
use vfs::anon::PseudoFs;
use vfs::attr::simple_setattr;
use vfs::dentry::Dentry;
use vfs::file::{FileImpl, FileMode, OpenFile};
use vfs::file_ops::FileOps;
use vfs::inode_ops::InodeOps;
use vfs::types::{AttrValid, Iattr};
use vfs::{Credentials, Fd, File, Inode, InodeFlags, InodeInit, Mount, Path};

use crate::fs::context::{Caller, install};
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MEMFD_SECRET];

/// `secretmem.enable=`: whether there is such memory at all.
pub static ENABLED: AtomicBool = AtomicBool::new(true);

static SECRETMEM: PseudoFs = PseudoFs { name: "secretmem", magic: raw::SECRETMEM_MAGIC as u64 };
static MOUNT: Lazy<Result<Arc<Mount>>> = Lazy::new(|| SECRETMEM.kernel_mount());

/// The pages.
struct Pages;

impl AddressSpaceOps for Pages {
    fn is_memory(&self) -> bool {
        true
    }

    fn is_secret(&self) -> bool {
        true
    }
}

struct SecretInode;

impl InodeOps for SecretInode {
    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Err(Errno::ENXIO)
    }

    fn setattr(&self, inode: &Arc<Inode>, attr: &Iattr) -> Result<()> {
        if attr.valid.contains(AttrValid::SIZE) {
            // Once and for all: pages are never taken away from who maps them.
            if inode.size() != 0 {
                return Err(Errno::EINVAL);
            }
            inode.set_size(attr.size);
        }
        simple_setattr(inode, attr)
    }
}

struct SecretFile;

static FILE_OPS: SecretFile = SecretFile;

impl FileOps for SecretFile {
    fn mmap(&self, _: &File, setup: &mut MmapSetup) -> Result<()> {
        if !setup.flags.contains(VmFlags::SHARED) {
            return Err(Errno::EINVAL);
        }
        if setup.flags.contains(VmFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        setup.flags.remove(VmFlags::MAYEXEC);
        setup.flags |= VmFlags::DONTDUMP;
        Ok(())
    }
}

fn secret_file(cred: &Arc<Credentials>) -> Result<Arc<File>> {
    let mount = MOUNT.as_ref().map_err(|error| *error)?;
    let init = InodeInit {
        uid: cred.fsuid,
        gid: cred.fsgid,
        flags: InodeFlags::PRIVATE,
        mapping: Some(try_arc(Mapping::new(try_arc(Pages)?, 0))?),
        ..InodeInit::new(vfs::anon::next_ino(), raw::S_IFREG | 0o600)
    };
    let inode = Inode::new(mount.sb().clone(), init, SecretInode)?;
    let root = mount.sb().root().ok_or(Errno::ENOENT)?;
    // Shown as `/secretmem (deleted)`.
    let dentry = Dentry::new_unnamed(&root, b"secretmem", inode, false)?;
    let path = Path::new(mount.clone(), dentry);
    let mode = FileMode::READ | FileMode::WRITE;
    let open = OpenFile { path: &path, cred, flags: raw::O_RDWR | raw::O_LARGEFILE, mode };
    File::new(open, FileImpl::Static(&FILE_OPS))
}

#[macros::syscall(memfd_secret)]
fn sys_memfd_secret(flags: u32) -> Result<Fd> {
    if !ENABLED.load(Ordering::Relaxed) {
        return Err(Errno::ENOSYS);
    }
    if flags & !raw::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(secret_file(Caller::current()?.cred())?, flags & raw::O_CLOEXEC != 0)
}
