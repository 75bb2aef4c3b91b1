//! Questions about file systems that newer calls answer better: `ustat(2)`, `sysfs(2)`. Neither exists on arm64.

use abi::fs::DevId;
use abi::{Errno, Result};
use macros::syscall;
use mm::user::{UserPtr, UserSlice, UserStr};
use vfs::fs_type::filesystems;
use vfs::super_block;
use vfs::types::PATH_MAX;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[USTAT, SYSFS];

/// `struct ustat`: names are always empty.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ustat {
    /// Free blocks.
    tfree: i32,
    pad: u32,
    /// Free inodes.
    tinode: u64,
    fname: [u8; 6],
    fpack: [u8; 6],
    end: u32,
}

#[syscall(ustat)]
fn sys_ustat(dev: u32, buf: UserPtr<Ustat>) -> Result<()> {
    let sb = super_block::with_device(DevId::decode(dev)).ok_or(Errno::EINVAL)?;
    let found = sb.ops().statfs(&sb)?;
    buf.write(&Ustat {
        tfree: found.bfree as i32,
        pad: 0,
        tinode: found.ffree,
        fname: [0; 6],
        fpack: [0; 6],
        end: 0,
    })
}

#[syscall(sysfs)]
fn sys_sysfs(option: i32, arg1: usize, arg2: usize) -> Result<usize> {
    let types = filesystems()?;
    match option {
        1 => {
            let name = UserStr::new(arg1).read(PATH_MAX, Errno::ENAMETOOLONG)?;
            if name.is_empty() {
                return Err(Errno::ENOENT);
            }
            types.iter().position(|known| known.name().as_bytes() == name).ok_or(Errno::EINVAL)
        }
        2 => {
            // The prototype has an unsigned int.
            let name = types.get(arg1 as u32 as usize).ok_or(Errno::EINVAL)?.name();
            UserSlice::<u8>::new(arg2, name.len()).copy_from(name.as_bytes())?;
            UserPtr::<u8>::new(arg2.wrapping_add(name.len())).write(&0)?;
            Ok(0)
        }
        3 => Ok(types.len()),
        _ => Err(Errno::EINVAL),
    }
}
