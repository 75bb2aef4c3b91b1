//! The files behind sockets. They live in a file system that only the kernel mounts; `/proc/PID/fd` shows them as
//! `socket:[N]`.

use alloc::sync::Arc;

use abi::socket::{SOCK_CLOEXEC, SOCK_NONBLOCK};
use abi::{Errno, Result, raw};
use socket::Socket;
use sync::Lazy;
use vfs::anon::{NoInodeOps, PseudoFs, next_ino};
use vfs::dentry::Dentry;
use vfs::fdtable::Fd;
use vfs::file::{File, FileImpl, FileMode, OpenFile};
use vfs::inode::{Inode, InodeInit};
use vfs::mount::Mount;
use vfs::path::Path;

use crate::fs::context;
use crate::process::current;
use mm::fallible::{try_box, try_format};

static SOCKFS: PseudoFs = PseudoFs { name: "sockfs", magic: raw::SOCKFS_MAGIC as u64 };
static MOUNT: Lazy<Result<Arc<Mount>>> = Lazy::new(|| SOCKFS.kernel_mount());

/// Makes the file system known, for `/proc/filesystems`.
///
/// # Errors
/// `EBUSY` if the name is taken.
pub fn init() -> Result<()> {
    vfs::fs_type::register_filesystem(&SOCKFS)
}

/// Sockets that exist.
pub fn sockets_in_use() -> usize {
    socket::in_use()
}

/// The file of a new socket; `flags` are `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
pub(super) fn make_file(socket: Socket, flags: u32) -> Result<Arc<File>> {
    let mount = MOUNT.as_ref().map_err(|error| *error)?;
    let cred = current().cred();
    let ino = next_ino();
    let init = InodeInit { uid: cred.fsuid, gid: cred.fsgid, ..InodeInit::new(ino, raw::S_IFSOCK | 0o777) };
    let inode = Inode::new(mount.sb().clone(), init, NoInodeOps)?;
    let dentry =
        Dentry::new_disconnected(mount.sb(), try_format(format_args!("socket:[{ino}]"))?.as_bytes(), inode)?;
    let path = Path::new(mount.clone(), dentry);
    let nonblock = if flags & SOCK_NONBLOCK != 0 { raw::O_NONBLOCK } else { 0 };
    let mode = FileMode::READ | FileMode::WRITE | FileMode::STREAM | FileMode::NOWAIT;
    let open = OpenFile { path: &path, cred: &cred, flags: raw::O_RDWR | nonblock, mode };
    socket.set_ino(ino);
    let ops = socket.ops().clone();
    let file = File::new(open, FileImpl::Owned(try_box(socket)?))?;
    ops.set_file(&file);
    Ok(file)
}

/// Gives a socket's file a descriptor.
pub(super) fn install(file: Arc<File>, flags: u32) -> Result<Fd> {
    context::install(file, flags & SOCK_CLOEXEC != 0)
}

/// The file of a socket, from a descriptor.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub(super) fn socket_file(fd: Fd) -> Result<SocketFile> {
    let file = context::file(fd)?;
    match file.private::<Socket>() {
        Some(_) => Ok(SocketFile(file)),
        None => Err(Errno::ENOTSOCK),
    }
}

/// A file that is a socket.
pub(super) struct SocketFile(Arc<File>);

impl SocketFile {
    /// From an open file.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub(super) fn new(file: &Arc<File>) -> Result<Self> {
        match file.private::<Socket>() {
            Some(_) => Ok(Self(file.clone())),
            None => Err(Errno::ENOTSOCK),
        }
    }

    /// The socket.
    pub(super) fn socket(&self) -> Result<&Socket> {
        self.0.private().ok_or(Errno::ENOTSOCK)
    }

    /// Whether calls must not wait.
    pub(super) fn nonblock(&self) -> bool {
        self.0.nonblock()
    }
}
