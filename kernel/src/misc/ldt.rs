//! modify_ldt(2), on the architecture that has local descriptor tables.

use crate::process::current;
use crate::syscall::Syscall;
use abi::{Errno, Result};
use mm::fallible::try_vec;
use mm::user::{UserPtr, copy_to_user};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MODIFY_LDT];

/// `sizeof(struct user_desc)`
const USER_DESC_SIZE: usize = 16;

#[macros::syscall(modify_ldt)]
fn sys_modify_ldt(func: i32, ptr: usize, bytecount: usize) -> Result<isize> {
    let result = match func {
        0 => read(ptr, bytecount),
        1 => write(ptr, bytecount, true),
        2 => read_default(ptr, bytecount),
        0x11 => write(ptr, bytecount, false),
        _ => Err(Errno::ENOSYS),
    };
    // The call returns an `int`, and its errors have never been made longer than that.
    Ok(match result {
        Ok(count) => count as isize,
        Err(errno) => (errno.code().wrapping_neg() as u32) as isize,
    })
}

/// What there is of the table, and zeros.
fn read(ptr: usize, len: usize) -> Result<usize> {
    let mm = current().mm().ok_or(Errno::EINVAL)?;
    #[allow(clippy::unnecessary_min_or_max, reason = "it is 0 where there are no such tables")]
    let len = len.min(arch::ldt::MAX_LEN);
    let mut bytes = try_vec(0, len)?;
    if arch::ldt::read(mm.arch_context(), &mut bytes) == 0 {
        return Ok(0);
    }
    copy_to_user(ptr, &bytes)?;
    Ok(len)
}

fn read_default(ptr: usize, len: usize) -> Result<usize> {
    let zeros = [0; arch::ldt::DEFAULT_LEN];
    let part = zeros.get(..len.min(zeros.len())).unwrap_or_default();
    copy_to_user(ptr, part)?;
    Ok(part.len())
}

fn write(ptr: usize, len: usize, old: bool) -> Result<usize> {
    if len != USER_DESC_SIZE {
        return Err(Errno::EINVAL);
    }
    let data = UserPtr::<[u8; USER_DESC_SIZE]>::new(ptr).read()?;
    let mm = current().mm().ok_or(Errno::EINVAL)?;
    arch::ldt::write(mm.arch_context(), &data, old)?;
    Ok(0)
}
