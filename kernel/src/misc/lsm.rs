//! Security modules as programs see them: lsm_list_modules(2), lsm_get_self_attr(2), lsm_set_self_attr(2).
//!
//! There are two, capabilities and Landlock, and neither gives a process attributes: reading and writing them is checked as far
//! as that, and then not supported.

use crate::syscall::Syscall;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use mm::user::{UserPtr, UserSlice};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[LSM_GET_SELF_ATTR, LSM_SET_SELF_ATTR, LSM_LIST_MODULES];

/// `LSM_ID_UNDEF`
const UNDEFINED: u64 = 0;
/// `LSM_ID_CAPABILITY` and `LSM_ID_LANDLOCK`, in the order in which they are asked.
const MODULES: [u64; 2] = [100, 110];

/// `LSM_ATTR_UNDEF`
const NO_ATTRIBUTE: u32 = 0;
/// `LSM_FLAG_SINGLE`: only the attribute of the module that the buffer names.
const SINGLE: u32 = 1;

/// `struct lsm_ctx`, before the value.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Context {
    id: u64,
    flags: u64,
    /// Of all of it, with the value and padding.
    len: u64,
    /// Of the value.
    value_len: u64,
}

#[macros::syscall(lsm_list_modules)]
fn sys_lsm_list_modules(ids: UserPtr<u64>, size: UserPtr<u32>, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let room = size.read()?;
    let needed = size_of_val(&MODULES) as u32;
    size.write(&needed)?;
    if room < needed {
        return Err(Errno::E2BIG);
    }
    for (index, id) in MODULES.iter().enumerate() {
        ids.add(index).write(id)?;
    }
    Ok(MODULES.len())
}

#[macros::syscall(lsm_get_self_attr)]
fn sys_lsm_get_self_attr(attr: u32, ctx: UserPtr<Context>, size: UserPtr<u32>, flags: u32) -> Result<usize> {
    if attr == NO_ATTRIBUTE || size.is_null() {
        return Err(Errno::EINVAL);
    }
    size.read()?;
    if flags != 0 {
        if flags != SINGLE || ctx.is_null() {
            return Err(Errno::EINVAL);
        }
        if ctx.read()?.id == UNDEFINED {
            return Err(Errno::EINVAL);
        }
    }
    size.write(&0)?;
    Err(Errno::EOPNOTSUPP)
}

#[macros::syscall(lsm_set_self_attr)]
fn sys_lsm_set_self_attr(_attr: u32, ctx: UserPtr<Context>, size: u32, flags: u32) -> Result<usize> {
    let size = size as usize;
    if flags != 0 || size < size_of::<Context>() {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let bytes = UserSlice::<u8>::new(ctx.addr(), size).to_vec()?;
    let (context, _) = Context::read_from_prefix(&bytes).map_err(|_| Errno::EINVAL)?;
    let needed = context.value_len.checked_add(size_of::<Context>() as u64);
    if context.len > size as u64 || needed.is_none_or(|needed| needed > context.len) {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EOPNOTSUPP)
}
