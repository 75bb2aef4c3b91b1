//! Mounts: `mount(2)`, `umount(2)`, `pivot_root(2)`.

use alloc::vec::Vec;

use abi::Result;
use arch::addr::PAGE_SIZE;
use macros::syscall;
use mm::fallible::try_vec;
use mm::user::{UserStr, copy_from_user};
use vfs::mount::ops as mounts;

use super::context::Caller;
use crate::process;
use crate::syscall::Syscall;

/// The data argument: up to a page, cut at its NUL; what cannot be read counts as its end.
fn options(addr: usize) -> Result<Vec<u8>> {
    if addr == 0 {
        return Ok(Vec::new());
    }
    let mut data = try_vec(0, PAGE_SIZE)?;
    if copy_from_user(&mut data, addr).is_err() {
        // Perhaps only the end of the page is missing.
        let first = PAGE_SIZE - addr % PAGE_SIZE;
        data.fill(0);
        copy_from_user(data.get_mut(..first).unwrap_or_default(), addr)?;
    }
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    data.truncate(end);
    Ok(data)
}

fn optional(text: UserStr) -> Result<Option<Vec<u8>>> {
    if text.addr() == 0 { Ok(None) } else { text.read_path().map(Some) }
}

#[syscall(mount)]
fn sys_mount(source: UserStr, target: UserStr, fs_type: UserStr, flags: usize, data: usize) -> Result<()> {
    let fs_type = optional(fs_type)?;
    let source = optional(source)?.unwrap_or_default();
    let options = options(data)?;
    let target = target.read_path()?;
    let caller = Caller::current()?;
    mounts::mount(&caller.ctx(), &source, &target, fs_type.as_deref(), flags as u32, &options, None)
}

#[syscall(umount2)]
fn sys_umount2(target: UserStr, flags: u32) -> Result<()> {
    let target = target.read_path()?;
    mounts::umount(&Caller::current()?.ctx(), &target, flags)
}

#[syscall(pivot_root)]
fn sys_pivot_root(new_root: UserStr, put_old: UserStr) -> Result<()> {
    let (new_root, put_old) = (new_root.read_path()?, put_old.read_path()?);
    let (old, new) = mounts::pivot_root(&Caller::current()?.ctx(), &new_root, &put_old)?;
    process::replace_roots(&old, &new);
    Ok(())
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MOUNT, UMOUNT2, PIVOT_ROOT];
