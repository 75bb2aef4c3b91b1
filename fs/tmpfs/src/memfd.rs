//! `memfd_create(2)`: a file of a tmpfs that nobody mounted, and its seals.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use sync::Lazy;
use vfs::dentry::Dentry;
use vfs::file::{FileImpl, FileMode, OpenFile};
use vfs::super_block::MountRequest;
use vfs::{Credentials, File, Mount, Path, UserNamespace};

use crate::file::FILE_OPS;
use crate::inode::{NewInode, data, new_inode};
use crate::{TmpfsSuper, new_super};
use mm::fallible::TryVec;

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_HUGETLB: u32 = 4;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;
/// The longest name: `memfd:` and this fit `NAME_MAX`.
pub const NAME_LIMIT: usize = 249;
const ALL_SEALS: u32 = raw::F_SEAL_SEAL
    | raw::F_SEAL_EXEC
    | raw::F_SEAL_SHRINK
    | raw::F_SEAL_GROW
    | raw::F_SEAL_WRITE
    | raw::F_SEAL_FUTURE_WRITE;

static MOUNT: Lazy<Result<Arc<Mount>>> = Lazy::new(|| {
    let request = MountRequest {
        flags: vfs::super_block::SB_NOUSER,
        source: b"tmpfs",
        device: None,
        // No limits: what uses it is charged to its user.
        options: b"size=0,nr_inodes=0",
        user_ns: UserNamespace::initial(),
        private: None,
    };
    let sb = new_super(&crate::TMPFS, &request, crate::Flavor::Tmpfs)?;
    sb.set_flags(sb.flags() | vfs::super_block::SB_NOUSER);
    vfs::mount::kernel_mount(&sb, 0, b"tmpfs")
});

/// A nameless file of size `size` (`memfd:name`, `SYSV…`, …), readable and writable.
pub fn kernel_file(
    cred: &Arc<Credentials>,
    name: &[u8],
    mode: u32,
    size: u64,
    seals: u32,
) -> Result<Arc<File>> {
    let mount = MOUNT.as_ref().map_err(|error| *error)?;
    let sb = mount.sb();
    let limits = &sb.private::<TmpfsSuper>().ok_or(Errno::EINVAL)?.limits;
    let new = NewInode {
        mode: raw::S_IFREG | mode,
        uid: cred.fsuid,
        gid: cred.fsgid,
        rdev: DevId::default(),
        seals,
        attributes: 0,
    };
    let inode = new_inode(sb, limits, new)?;
    inode.set_nlink(0);
    inode.set_size(size);
    // Shown as `/memfd:name (deleted)`: an unlinked entry of the root.
    let root = sb.root().ok_or(Errno::ENOENT)?;
    let dentry = Dentry::new_unnamed(&root, name, inode, false)?;
    let path = Path::new(mount.clone(), dentry);
    let mode = FileMode::READ
        | FileMode::WRITE
        | FileMode::LSEEK
        | FileMode::PREAD
        | FileMode::PWRITE
        | FileMode::ATOMIC_POS;
    let open = OpenFile { path: &path, cred, flags: raw::O_RDWR | raw::O_LARGEFILE, mode };
    File::new(open, FileImpl::Static(&FILE_OPS))
}

/// Checks and completes the flags of `memfd_create(2)`; `noexec` is `vm.memfd_noexec` of the caller's pid namespace: with 1 what says
/// nothing is not executable, with 2 nothing is.
///
/// # Errors
/// `EINVAL`; `EACCES`: an executable file is asked for, but there are none.
pub fn check_flags(flags: u32, noexec: u32) -> Result<u32> {
    let huge = if flags & MFD_HUGETLB != 0 { MFD_HUGETLB | 0x3f << raw::MAP_HUGE_SHIFT } else { 0 };
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC | huge;
    if flags & !known != 0 || flags & (MFD_EXEC | MFD_NOEXEC_SEAL) == MFD_EXEC | MFD_NOEXEC_SEAL {
        return Err(Errno::EINVAL);
    }
    let flags = match flags & (MFD_EXEC | MFD_NOEXEC_SEAL) {
        0 if noexec >= 1 => flags | MFD_NOEXEC_SEAL,
        0 => flags | MFD_EXEC,
        _ => flags,
    };
    if noexec >= 2 && flags & MFD_NOEXEC_SEAL == 0 { Err(Errno::EACCES) } else { Ok(flags) }
}

/// `memfd_create(2)` with the flags of [`check_flags`], `MFD_CLOEXEC` left to the caller.
pub fn memfd_create(cred: &Arc<Credentials>, name: &[u8], flags: u32) -> Result<Arc<File>> {
    if flags & MFD_HUGETLB != 0 {
        // No huge pages are set aside.
        return Err(Errno::ENOENT);
    }
    if name.len() > NAME_LIMIT {
        return Err(Errno::EINVAL);
    }
    let (mode, seals) = if flags & MFD_NOEXEC_SEAL != 0 {
        (0o666, raw::F_SEAL_EXEC)
    } else if flags & MFD_ALLOW_SEALING != 0 {
        (0o777, 0)
    } else {
        (0o777, raw::F_SEAL_SEAL)
    };
    let mut full = mm::fallible::try_with_capacity(name.len() + 6)?;
    full.try_extend_from_slice(b"memfd:")?;
    full.try_extend_from_slice(name)?;
    kernel_file(cred, &full, mode, 0, seals)
}

/// `F_ADD_SEALS`.
pub(crate) fn add_seals(file: &File, mut add: u32) -> Result<()> {
    if add & !ALL_SEALS != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = file.inode();
    let _exclusive = inode.rwsem.write();
    let seals = &data(inode)?.seals;
    let old = seals.load(Ordering::Acquire);
    if old & raw::F_SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    if add & raw::F_SEAL_WRITE != 0 && old & raw::F_SEAL_WRITE == 0 {
        inode.mapping().ok_or(Errno::EINVAL)?.deny_writable()?;
    }
    // A file that cannot become executable, but is, must not change at all.
    if add & raw::F_SEAL_EXEC != 0 && inode.mode() & 0o111 != 0 {
        add |= raw::F_SEAL_SHRINK | raw::F_SEAL_GROW | raw::F_SEAL_WRITE | raw::F_SEAL_FUTURE_WRITE;
    }
    seals.store(old | add, Ordering::Release);
    Ok(())
}
