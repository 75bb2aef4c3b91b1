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

/// Missing: `ARCH_GET_CPUID`, `ARCH_SET_CPUID`, `ARCH_GET_XCOMP_SUPP` and relatives, `ARCH_MAP_VDSO_64`, `ARCH_SHSTK_ENABLE` and relatives.
#[macros::syscall(arch_prctl)]
fn sys_arch_prctl(op: i32, addr: usize) -> Result<()> {
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
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

#[macros::syscall(set_tid_address)]
fn sys_set_tid_address(tidptr: usize) -> Result<i32> {
    let me = current();
    me.clear_child_tid.store(tidptr, core::sync::atomic::Ordering::Relaxed);
    Ok(me.tid())
}
