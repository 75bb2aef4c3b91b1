//! arch_prctl(2): the thread's segment bases, on architectures that have them; and map_shadow_stack(2), for which no processor has what
//! it needs.

use crate::process::{Thread, current};
use crate::syscall::Syscall;
use abi::{Errno, Result};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ARCH_PRCTL, MAP_SHADOW_STACK, SET_TID_ADDRESS];

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
    pub const SHSTK_ENABLE: i32 = 0x5001;
    pub const SHSTK_LOCK: i32 = 0x5003;
    pub const SHSTK_UNLOCK: i32 = 0x5004;
    pub const SHSTK_STATUS: i32 = 0x5005;
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

/// `ARCH_SHSTK_SHSTK` and `ARCH_SHSTK_WRSS`.
const SHADOW_STACK_KINDS: usize = 3;

/// Whether an operation is about shadow stacks.
pub fn is_shadow_stack(op: i32) -> bool {
    (code::SHSTK_ENABLE..=code::SHSTK_STATUS).contains(&op)
}

/// `ARCH_SHSTK_*` for `thread`, by itself or by its tracer. Shadow stacks are never on: the kernel does not switch the
/// registers that they take.
///
/// # Errors
/// `EOPNOTSUPP`: they cannot be had. `EPERM`: locked. `EINVAL`, `EFAULT`.
pub fn shadow_stack(thread: &Thread, tracer: bool, op: i32, argument: usize) -> Result<()> {
    use core::sync::atomic::Ordering::Relaxed;
    let locked = &thread.shadow_stacks_locked;
    match op {
        code::SHSTK_STATUS => return UserPtr::<usize>::new(argument).write(&0),
        code::SHSTK_LOCK => {
            locked.fetch_or(argument, Relaxed);
            return Ok(());
        }
        code::SHSTK_UNLOCK if tracer => {
            locked.fetch_and(!argument, Relaxed);
            return Ok(());
        }
        _ if tracer => return Err(Errno::EINVAL),
        _ => {}
    }
    if argument & locked.load(Relaxed) != 0 {
        return Err(Errno::EPERM);
    }
    // One kind at a time.
    if argument.count_ones() == 1 && argument & SHADOW_STACK_KINDS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Err(Errno::EINVAL)
}

#[macros::syscall(map_shadow_stack)]
fn sys_map_shadow_stack(_addr: usize, _size: usize, _flags: u32) -> Result<usize> {
    Err(arch::layout::NO_SHADOW_STACK)
}

/// As Linux without `CONFIG_IA32_EMULATION` and `CONFIG_ADDRESS_MASKING`: what is about them is `EINVAL`.
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
        _ if is_shadow_stack(op) => shadow_stack(&current(), false, op, addr)?,
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
