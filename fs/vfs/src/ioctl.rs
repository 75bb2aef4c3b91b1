//! `ioctl(2)`: the commands that mean the same for every file, and the way to the file for the rest.

use abi::{Errno, Result, raw};
use mm::UserPtr;

use crate::cred::Credentials;
use crate::file::{File, FileMode};
use crate::fileattr;

/// Close on exec.
pub const FIOCLEX: u32 = 0x5451;
/// Do not close on exec.
pub const FIONCLEX: u32 = 0x5450;
/// Switch `O_NONBLOCK`.
pub const FIONBIO: u32 = 0x5421;
/// Switch `O_ASYNC`.
pub const FIOASYNC: u32 = 0x5452;
/// Size of a regular file or device.
pub const FIOQSIZE: u32 = 0x5460;
/// Block size of the file system.
pub const FIGETBSZ: u32 = 2;
/// Bytes that can be read.
pub const FIONREAD: u32 = 0x541B;
/// Inode flags (`lsattr`).
pub const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
/// Sets inode flags (`chattr`).
pub const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
/// Attributes as XFS has them (`xfs_io -c lsattr`).
pub const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// Sets attributes as XFS has them.
pub const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// What the caller still has to do, because it concerns the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Nothing; this is the result.
    Done(isize),
    /// Set or clear the close-on-exec flag.
    SetCloexec(bool),
}

/// `ioctl(2)`. An unknown command gives `ENOTTY`.
pub fn ioctl(file: &File, fd: i32, cred: &Credentials, cmd: u32, arg: usize) -> Result<Handled> {
    let done = |()| Handled::Done(0);
    if file.mode().contains(FileMode::NO_IOCTL) && !crate::security::is_generic_ioctl(cmd) {
        return Err(Errno::EACCES);
    }
    match cmd {
        FIOCLEX => Ok(Handled::SetCloexec(true)),
        FIONCLEX => Ok(Handled::SetCloexec(false)),
        FIONBIO => {
            let on = UserPtr::<i32>::new(arg).read()? != 0;
            file.set_flags(raw::O_NONBLOCK, if on { raw::O_NONBLOCK } else { 0 });
            Ok(Handled::Done(0))
        }
        FIOASYNC => {
            let on = UserPtr::<i32>::new(arg).read()? != 0;
            set_async(file, fd, on).map(done)
        }
        FIOQSIZE if file.inode().is_regular() || file.inode().is_dir() || file.inode().is_symlink() => {
            UserPtr::<u64>::new(arg).write(&file.inode().size()).map(done)
        }
        FIGETBSZ => {
            let size = file.inode().sb().block_size() as i32;
            if size == 0 {
                return Err(Errno::EINVAL);
            }
            UserPtr::<i32>::new(arg).write(&size).map(done)
        }
        FIONREAD if file.inode().is_regular() => {
            let left = file.inode().size() as i64 - file.pos() as i64;
            UserPtr::<i32>::new(arg).write(&(left as i32)).map(done)
        }
        FS_IOC_GETFLAGS | FS_IOC_SETFLAGS | FS_IOC_FSGETXATTR | FS_IOC_FSSETXATTR => {
            let result = match cmd {
                FS_IOC_GETFLAGS => fileattr::get_flags(file, arg),
                FS_IOC_SETFLAGS => fileattr::set_flags(file, cred, arg),
                FS_IOC_FSGETXATTR => fileattr::get_attributes(file, arg),
                _ => fileattr::set_attributes(file, cred, arg),
            };
            match result {
                Err(Errno::ENOTTY) => file.ops().ioctl_by(file, cred, cmd, arg).map(Handled::Done),
                other => other.map(done),
            }
        }
        _ => file.ops().ioctl_by(file, cred, cmd, arg).map(Handled::Done),
    }
}

/// Switches `O_ASYNC`; `fd` is what the signals will name.
///
/// # Errors
/// `ENOTTY` for a file that never signals; `ENOMEM`.
pub fn set_async(file: &File, fd: i32, on: bool) -> Result<()> {
    let now = file.flags() & raw::FASYNC != 0;
    if now != on {
        let lists = file.ops().fasync_lists(file);
        if lists.iter().all(Option::is_none) {
            return Err(Errno::ENOTTY);
        }
        for list in lists.into_iter().flatten() {
            list.set(file, fd, on)?;
        }
        file.set_flags(raw::FASYNC, if on { raw::FASYNC } else { 0 });
    }
    Ok(())
}
