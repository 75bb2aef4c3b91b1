//! Restartable sequences: rseq(2).
//!
//! A thread registers a structure in its memory where the kernel keeps the number of the CPU it runs on, and where
//! the thread names a critical section. When the thread was preempted, migrated or signalled inside that section, it
//! goes on at the section's abort handler. The work is done on the way back to user mode, with page faults allowed.

use crate::process::{CurrentThread, current};
use crate::signal::{Signal, force};
use crate::syscall::Syscall;
use abi::{Errno, Result};
use arch::thread::ThreadFlags;
use arch::trap::TrapFrame;
use arch::uaccess::{UserFault, get_u32, get_u64, put_u32, put_u64};
use core::sync::atomic::Ordering;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[RSEQ];

/// `AT_RSEQ_FEATURE_SIZE`: up to and including `mm_cid`.
pub const FEATURE_SIZE: usize = 28;
/// `AT_RSEQ_ALIGN`.
pub const ALIGN: usize = 32;
/// The size of the structure that programs before the feature size knew.
const ORIGINAL_SIZE: u32 = 32;

/// Offsets in the user's structure.
mod field {
    pub const CPU_ID_START: usize = 0;
    pub const CPU_ID: usize = 4;
    pub const SECTION: usize = 8;
    pub const NODE_ID: usize = 20;
    pub const MM_CID: usize = 24;
}

const FLAG_UNREGISTER: u32 = 1;
/// `RSEQ_CPU_ID_UNINITIALIZED`.
const CPU_ID_NONE: u32 = u32::MAX;

#[macros::syscall(rseq)]
fn sys_rseq(rseq: usize, rseq_len: u32, flags: u32, sig: u32) -> Result<()> {
    let me = current();
    let state = &me.rseq;
    let (addr, len) = (state.addr.load(Ordering::Relaxed), state.len.load(Ordering::Relaxed));
    if flags & FLAG_UNREGISTER != 0 {
        if flags != FLAG_UNREGISTER || addr == 0 || addr != rseq || len != rseq_len {
            return Err(Errno::EINVAL);
        }
        if state.sig.load(Ordering::Relaxed) != sig {
            return Err(Errno::EPERM);
        }
        reset(addr).map_err(|_| Errno::EFAULT)?;
        state.clear();
        return Ok(());
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if addr != 0 {
        if addr != rseq || len != rseq_len {
            return Err(Errno::EINVAL);
        }
        return Err(if state.sig.load(Ordering::Relaxed) == sig { Errno::EBUSY } else { Errno::EPERM });
    }
    let original = rseq_len == ORIGINAL_SIZE && rseq.is_multiple_of(ALIGN);
    let newer = rseq_len > ORIGINAL_SIZE && rseq.is_multiple_of(ALIGN);
    if !original && !newer {
        return Err(Errno::EINVAL);
    }
    if !mm::user::access_ok(rseq, rseq_len as usize) {
        return Err(Errno::EFAULT);
    }
    put_u64(rseq + field::SECTION, 0).map_err(|_| Errno::EFAULT)?;
    state.len.store(rseq_len, Ordering::Relaxed);
    state.sig.store(sig, Ordering::Relaxed);
    state.addr.store(rseq, Ordering::Relaxed);
    me.task().thread_flags().set(ThreadFlags::NOTIFY_RESUME);
    Ok(())
}

fn reset(addr: usize) -> Result<(), UserFault> {
    put_u32(addr + field::CPU_ID_START, 0)?;
    put_u32(addr + field::CPU_ID, CPU_ID_NONE)?;
    put_u32(addr + field::NODE_ID, 0)?;
    put_u32(addr + field::MM_CID, 0)
}

/// On the way to user mode after the thread may have moved: writes the CPU's number and aborts a critical section.
pub fn on_resume(frame: &mut TrapFrame, me: &CurrentThread) {
    let addr = me.rseq.addr.load(Ordering::Relaxed);
    if addr == 0 {
        return;
    }
    if abort_section(frame, me, addr).and_then(|()| update(addr)).is_err() {
        force::force_signal(Signal::SIGSEGV);
    }
}

/// Before a signal frame is written: the handler must not come back into a section.
pub fn on_signal(frame: &mut TrapFrame, me: &CurrentThread) {
    on_resume(frame, me);
}

fn update(addr: usize) -> Result<(), UserFault> {
    let cpu = arch::cpu::current();
    put_u32(addr + field::CPU_ID_START, cpu.0)?;
    put_u32(addr + field::CPU_ID, cpu.0)?;
    put_u32(addr + field::NODE_ID, arch::cpu::node_of(cpu))?;
    put_u32(addr + field::MM_CID, cpu.0)
}

/// If the thread is inside its critical section, it continues at the abort handler.
fn abort_section(frame: &mut TrapFrame, me: &CurrentThread, addr: usize) -> Result<(), UserFault> {
    let section = get_u64(addr + field::SECTION)? as usize;
    if section == 0 {
        return Ok(());
    }
    // struct rseq_cs: version and flags, start, length, abort handler.
    let version_flags = get_u64(section)?;
    let start = get_u64(section.wrapping_add(8))? as usize;
    let length = get_u64(section.wrapping_add(16))? as usize;
    let abort = get_u64(section.wrapping_add(24))? as usize;
    let limit = arch::layout::TASK_SIZE;
    let end = start.checked_add(length).ok_or(UserFault)?;
    let abort_inside = abort.wrapping_sub(start) < length;
    if version_flags & 0xffff_ffff != 0 || start >= limit || end > limit || abort >= limit || abort_inside {
        return Err(UserFault);
    }
    if frame.ip().wrapping_sub(start) >= length {
        // Left already: the pointer is stale.
        return put_u64(addr + field::SECTION, 0);
    }
    // The signature in front of the handler keeps the mechanism from being a jump to anywhere.
    if get_u32(abort.wrapping_sub(4))? != me.rseq.sig.load(Ordering::Relaxed) {
        return Err(UserFault);
    }
    put_u64(addr + field::SECTION, 0)?;
    frame.set_ip(abort);
    Ok(())
}
