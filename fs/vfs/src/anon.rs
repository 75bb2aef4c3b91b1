//! Files without a place in any tree: anonymous inodes (epoll, eventfd, timerfd …) and pipes.
//!
//! Both live in file systems that only the kernel mounts. All anonymous files share one inode, as on Linux.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::fs::Statfs;
use abi::{Errno, Result, raw};
use sync::Lazy;

use crate::cred::{Credentials, UserNamespace};
use crate::dentry::Dentry;
use crate::file::{File, FileImpl, FileMode, OpenFile};
use crate::fs_type::{FsFlags, FsType};
use crate::inode::{Inode, InodeFlags, InodeInit};
use crate::inode_ops::InodeOps;
use crate::mount::Mount;
use crate::path::Path;
use crate::super_block::{MountRequest, SB_NOUSER, SuperBlock, SuperInfo, SuperOps};
use crate::types::{MAX_LFS_FILESIZE, NAME_MAX};
use mm::fallible::{try_box, try_format};

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

/// A number for an inode of a file system that only exists in memory (`get_next_ino`).
pub fn next_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// A file system of the kernel's own: a name, a magic number, and nothing on it.
pub struct PseudoFs {
    /// The type's name.
    pub name: &'static str,
    /// `f_type`.
    pub magic: u64,
}

struct PseudoOps;

impl SuperOps for PseudoOps {
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs> {
        Ok(simple_statfs(sb))
    }
}

/// What `statfs(2)` shows of file systems without space of their own.
pub fn simple_statfs(sb: &SuperBlock) -> Statfs {
    let bsize = i64::from(sb.block_size());
    Statfs { type_: sb.magic() as i64, bsize, frsize: bsize, namelen: NAME_MAX as i64, ..Statfs::default() }
}

/// Inode operations of objects that are opened by their makers only.
pub struct NoInodeOps;

impl InodeOps for NoInodeOps {
    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Err(Errno::ENXIO)
    }
}

impl FsType for PseudoFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NO_USER
    }

    fn mount(&self, _: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        Err(Errno::EINVAL)
    }
}

impl PseudoFs {
    /// Makes the one mount of the file system.
    pub fn kernel_mount(&'static self) -> Result<Arc<Mount>> {
        let info = SuperInfo {
            magic: self.magic,
            block_size: arch::addr::PAGE_SIZE as u32,
            max_bytes: MAX_LFS_FILESIZE,
            time_granularity_ns: 1,
            flags: SB_NOUSER,
            dev: None,
        };
        let sb = SuperBlock::new(self, info, UserNamespace::initial().clone(), try_box(PseudoOps)?)?;
        let root = Inode::new(sb.clone(), InodeInit::new(next_ino(), raw::S_IFDIR | 0o755), NoInodeOps)?;
        sb.set_root(root)?;
        crate::mount::kernel_mount(&sb, 0, self.name.as_bytes())
    }
}

static PIPEFS: PseudoFs = PseudoFs { name: "pipefs", magic: raw::PIPEFS_MAGIC as u64 };
static ANON_INODEFS: PseudoFs = PseudoFs { name: "anon_inodefs", magic: raw::ANON_INODE_FS_MAGIC as u64 };

static PIPE_MOUNT: Lazy<Result<Arc<Mount>>> = Lazy::new(|| PIPEFS.kernel_mount());
static ANON: Lazy<Result<(Arc<Mount>, Arc<Inode>)>> = Lazy::new(|| {
    let mount = ANON_INODEFS.kernel_mount()?;
    // No type bits: `stat(2)` shows 0600, as on Linux.
    let init =
        InodeInit { flags: InodeFlags::NOCMTIME | InodeFlags::PRIVATE, ..InodeInit::new(next_ino(), 0o600) };
    let inode = Inode::new(mount.sb().clone(), init, NoInodeOps)?;
    Ok((mount, inode))
});

/// Registers the types, for `/proc/filesystems`.
pub(crate) fn init() -> Result<()> {
    // Now, when there is memory: a failure would stay.
    PIPE_MOUNT.as_ref().map_err(|error| *error)?;
    ANON.as_ref().map_err(|error| *error)?;
    crate::fs_type::register_filesystem(&PIPEFS)
}

/// An inode and dentry for a new pipe, called `pipe:[N]`.
pub(crate) fn pipe_path(cred: &Credentials) -> Result<Path> {
    let mount = PIPE_MOUNT.as_ref().map_err(|error| *error)?;
    let ino = next_ino();
    let init = InodeInit { uid: cred.fsuid, gid: cred.fsgid, ..InodeInit::new(ino, raw::S_IFIFO | 0o600) };
    let inode = Inode::new(mount.sb().clone(), init, NoInodeOps)?;
    let dentry =
        Dentry::new_disconnected(mount.sb(), try_format(format_args!("pipe:[{ino}]"))?.as_bytes(), inode)?;
    Ok(Path::new(mount.clone(), dentry))
}

/// An open file called `anon_inode:NAME` (by convention `[name]`) with operations `ops`. `flags` are access mode
/// and `O_NONBLOCK`.
pub fn anon_file(cred: &Arc<Credentials>, name: &str, ops: FileImpl, flags: u32) -> Result<Arc<File>> {
    open_anon(cred, name, ops, flags, FileMode::STREAM | FileMode::NOWAIT)
}

/// The same for objects whose position can be set, to no effect: their `llseek` leaves it alone.
pub fn anon_file_seekable(
    cred: &Arc<Credentials>,
    name: &str,
    ops: FileImpl,
    flags: u32,
) -> Result<Arc<File>> {
    open_anon(cred, name, ops, flags, FileMode::LSEEK | FileMode::PREAD | FileMode::PWRITE)
}

fn open_anon(
    cred: &Arc<Credentials>,
    name: &str,
    ops: FileImpl,
    flags: u32,
    extra: FileMode,
) -> Result<Arc<File>> {
    let (mount, inode) = ANON.as_ref().map_err(|error| *error)?;
    let dentry = Dentry::new_disconnected(
        mount.sb(),
        try_format(format_args!("anon_inode:{name}"))?.as_bytes(),
        inode.clone(),
    )?;
    let path = Path::new(mount.clone(), dentry);
    let mode = match flags & raw::O_ACCMODE {
        raw::O_RDONLY => FileMode::READ,
        raw::O_WRONLY => FileMode::WRITE,
        _ => FileMode::READ | FileMode::WRITE,
    };
    File::new(OpenFile { path: &path, cred, flags, mode: mode | extra }, ops)
}
