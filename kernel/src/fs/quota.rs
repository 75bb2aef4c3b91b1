//! `quotactl(2)`, `quotactl_fd(2)`: no file system here counts what its users have, so all that can be had is the right error.

use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::UserStr;
use vfs::fdtable::Fd;
use vfs::namei::{At, LookupFlags, path_lookup};
use vfs::types::FileType;

use super::context::{Caller, file_raw};
use crate::syscall::Syscall;

/// Kinds of quotas: users, groups, projects.
const MAXQUOTAS: u32 = 3;
/// `Q_SYNC` without the kind.
const Q_SYNC: u32 = 0x80_0001;

/// Takes the kind off a command.
fn split(cmd: u32) -> Result<u32> {
    if cmd & 0xff >= MAXQUOTAS { Err(Errno::EINVAL) } else { Ok(cmd >> 8) }
}

#[syscall(quotactl)]
fn sys_quotactl(cmd: u32, special: UserStr, _id: u32, _addr: usize) -> Result<()> {
    let command = split(cmd)?;
    if special.addr() == 0 {
        // Nothing to write back anywhere.
        return if command == Q_SYNC { Ok(()) } else { Err(Errno::ENODEV) };
    }
    let name = special.read_path()?;
    let path = path_lookup(&Caller::current()?.ctx(), At::Cwd, &name, LookupFlags::FOLLOW)?;
    if path.inode()?.file_type() != FileType::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if path.mnt.flags() & raw::MS_NODEV != 0 {
        return Err(Errno::EACCES);
    }
    // No file system is mounted from it.
    Err(Errno::ENODEV)
}

#[syscall(quotactl_fd)]
fn sys_quotactl_fd(fd: Fd, cmd: u32, _id: u32, _addr: usize) -> Result<()> {
    let file = file_raw(fd)?;
    split(cmd)?;
    drop(file);
    Err(Errno::ENOSYS)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[QUOTACTL, QUOTACTL_FD];
