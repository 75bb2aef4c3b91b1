//! Requests that every open file knows; the rest goes to the file: `ioctl(2)`.

use alloc::sync::Arc;

use abi::raw_sys::ioctl as request;
use abi::{Errno, Result, raw};
use mm::user::UserPtr;
use vfs::fdtable::{Fd, FdFlags};
use vfs::file::{File, FileMode};
use vfs::types::FileType;

use super::context::files;

/// Runs a request on the file behind `fd`.
pub fn ioctl(fd: Fd, file: &Arc<File>, cmd: u32, arg: usize) -> Result<isize> {
    if file.mode().contains(FileMode::PATH) {
        return Err(Errno::EBADF);
    }
    let on = || UserPtr::<i32>::new(arg).read().map(|value| value != 0);
    match cmd {
        request::FIOCLEX => files()?.set_flags(fd, FdFlags::CLOEXEC)?,
        request::FIONCLEX => files()?.set_flags(fd, FdFlags::empty())?,
        request::FIONBIO => file.set_flags(raw::O_NONBLOCK, if on()? { raw::O_NONBLOCK } else { 0 }),
        request::FIOASYNC => {
            let on = on()?;
            if on != (file.flags() & raw::FASYNC != 0) {
                file.ops().fasync(file, on)?;
                file.set_flags(raw::FASYNC, if on { raw::FASYNC } else { 0 });
            }
        }
        request::FIOQSIZE => match file.file_type() {
            FileType::Regular | FileType::Directory | FileType::Symlink => {
                UserPtr::<u64>::new(arg).write(&file.inode().size())?;
            }
            _ => return Err(Errno::ENOTTY),
        },
        request::FIGETBSZ => {
            UserPtr::<i32>::new(arg).write(&(file.path().dentry.sb().blocksize() as i32))?;
        }
        request::FIONREAD if file.file_type() == FileType::Regular => {
            let left = file.inode().size().saturating_sub(file.pos());
            UserPtr::<i32>::new(arg).write(&(left as i32))?;
        }
        _ => return file.ops().ioctl(file, cmd, arg),
    }
    Ok(0)
}
