//! arch_prctl(2): the thread's segment bases, on architectures that have them.

use crate::process::current;
use crate::syscall::Syscall;
use abi::{Errno, Result};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ARCH_PRCTL, SET_TID_ADDRESS];

/// `ARCH_*` of `asm/prctl.h`.
mod code {
    pub const SET_GS: i32 = 0x1001;
    pub const SET_FS: i32 = 0x1002;
    pub const GET_FS: i32 = 0x1003;
    pub const GET_GS: i32 = 0x1004;
    pub const GET_CPUID: i32 = 0x1011;
    pub const SET_CPUID: i32 = 0x1012;
    pub const GET_XCOMP_SUPP: i32 = 0x1021;
    pub const GET_XCOMP_PERM: i32 = 0x1022;
    pub const REQ_XCOMP_PERM: i32 = 0x1023;
    pub const GET_XCOMP_GUEST_PERM: i32 = 0x1024;
    pub const REQ_XCOMP_GUEST_PERM: i32 = 0x1025;
    pub const MAP_VDSO_64: i32 = 0x2003;
}

/// A segment's base address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// `fs`.
    Fs,
    /// `gs`.
    Gs,
}

/// The base that an operation is about, and whether it sets it.
pub fn base_of(op: i32) -> Option<(Base, bool)> {
    match op {
        code::SET_FS => Some((Base::Fs, true)),
        code::GET_FS => Some((Base::Fs, false)),
        code::SET_GS => Some((Base::Gs, true)),
        code::GET_GS => Some((Base::Gs, false)),
        _ => None,
    }
}

fn check(addr: usize) -> Result<()> {
    if addr < arch::layout::TASK_SIZE { Ok(()) } else { Err(Errno::EPERM) }
}

/// Highest number of a state component that a program may have to ask for.
const LAST_COMPONENT: usize = 18;

/// As Linux without `CONFIG_IA32_EMULATION` and `CONFIG_ADDRESS_MASKING`: what is about them is `EINVAL`.
///
/// Missing: `ARCH_SHSTK_ENABLE` and relatives.
#[macros::syscall(arch_prctl)]
fn sys_arch_prctl(op: i32, addr: usize) -> Result<usize> {
    let task = sched::current();
    match op {
        code::SET_FS => {
            check(addr)?;
            task.with_thread(|t| t.set_tls(addr));
        }
        code::GET_FS => UserPtr::<usize>::new(addr).write(&task.with_thread(|t| t.tls()))?,
        code::SET_GS => {
            check(addr)?;
            task.with_thread(|t| t.set_gs_base(addr));
        }
        code::GET_GS => UserPtr::<usize>::new(addr).write(&task.with_thread(|t| t.gs_base()))?,
        // `cpuid` works, and nothing makes it fault.
        code::GET_CPUID => return Ok(1),
        code::SET_CPUID => return Err(Errno::ENODEV),
        // Every component that the kernel saves is allowed from the start.
        code::GET_XCOMP_SUPP | code::GET_XCOMP_PERM | code::GET_XCOMP_GUEST_PERM => {
            UserPtr::<u64>::new(addr).write(&arch::fpu::user_components())?;
        }
        code::REQ_XCOMP_PERM | code::REQ_XCOMP_GUEST_PERM if addr > LAST_COMPONENT => {
            return Err(Errno::EINVAL);
        }
        code::REQ_XCOMP_PERM | code::REQ_XCOMP_GUEST_PERM => return Err(Errno::EOPNOTSUPP),
        code::MAP_VDSO_64 => return map_vdso(addr),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Maps the vDSO near `addr`, if the program has unmapped what exec gave it; the size of its code.
fn map_vdso(addr: usize) -> Result<usize> {
    let space = crate::memory::space()?;
    let mut mapped = false;
    space.for_each_area(0, &mut |area| {
        mapped |= area.is_special();
        !mapped
    });
    if mapped {
        return Err(Errno::EEXIST);
    }
    crate::exec::stack::map_vdso(&space, &current().process.mm_limits(), addr)?;
    Ok(arch::vdso::image().len())
}

#[macros::syscall(set_tid_address)]
fn sys_set_tid_address(tidptr: usize) -> Result<i32> {
    let me = current();
    me.clear_child_tid.store(tidptr, core::sync::atomic::Ordering::Relaxed);
    Ok(me.tid())
}
