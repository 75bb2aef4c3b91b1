//! FPU registers in signal frames: from the registers straight to the user's stack and back.
//!
//! The one XSAVE or XRSTOR may fault, and runs with preemption off (the registers must stay this thread's); so it is tried
//! with page faults disabled, and after a fault the pages are brought in outside and it is tried again.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use super::extable::ex_entry;
use super::fpu::{HEADER, components, load_current, load_initial, own, pkru_offset, size};
use super::layout::TASK_SIZE;
use super::pkey;
use super::smap::{clac, stac};
use super::thread::{NO_CPU, Thread};
use super::uaccess::{
    NoFault, UserFault, clear_user, copy_to_user, get_u8, get_u32, get_u64, put_u32, put_u64,
};
use crate::pkey::KeyRights;
use crate::thread::ThreadFlags;

/// In the software part of the FXSAVE area: an extended state follows.
const MAGIC1: u32 = 0x4650_5853;
/// Behind the extended state.
const MAGIC2: u32 = 0x4650_5845;
/// Offset of the software part: magic 1, size with magic 2, components, size.
const SOFTWARE: usize = 464;

/// Bytes that the FPU state takes in a signal frame.
pub(super) fn user_size() -> usize {
    size() + if components() != 0 { size_of::<u32>() } else { 0 }
}

/// The running thread's registers are live from here on, as long as the guard lives. Preemption off.
fn make_live(thread: &Thread) {
    let _irq = crate::irq::IrqGuard::new();
    if thread.flags().contains(ThreadFlags::NEED_FPU_LOAD) {
        load_current();
    }
}

/// One XSAVE (or its kin) of user memory; false if it faulted.
macro_rules! user_access {
    ($insn:literal, $area:expr, $mask:expr) => {{
        let (mask, err): (u64, u32) = ($mask, 0);
        let err: u32 = {
            let mut err = err;
            asm!(
                stac!(),
                concat!("2: ", $insn, " [{area}]"),
                "3:",
                clac!(),
                ".pushsection .text.fixup, \"ax\", @progbits",
                "4: mov {err:e}, 1",
                "jmp 3b",
                ".popsection",
                ex_entry!("2b", "4b"),
                area = in(reg) $area, err = inout(reg) err,
                in("eax") mask as u32, in("edx") (mask >> 32) as u32, options(nostack),
            );
            err
        };
        err == 0
    }};
}

/// Writes the running thread's FPU registers into a signal frame, and `rights` for PKRU, which may be another one
/// now.
pub(super) fn save_to_user(thread: &Thread, at: usize, rights: KeyRights) -> Result<(), UserFault> {
    if thread.fpu.is_none() {
        return clear_user(at, user_size()).map_err(|_| UserFault);
    }
    if at >= TASK_SIZE - user_size() || !at.is_multiple_of(64) {
        return Err(UserFault);
    }
    let extended = components() != 0;
    // The header has words that the processor does not write.
    if extended {
        clear_user(at + HEADER, 64).map_err(|_| UserFault)?;
    }
    for attempt in 0.. {
        {
            let _no_fault = NoFault::new();
            make_live(thread);
            // SAFETY: a user address, as checked; a fault is reported. The registers are live.
            let done = unsafe {
                if extended {
                    user_access!("xsave64", at, components() & !pkey::COMPONENT)
                } else {
                    user_access!("fxsave64", at, 0)
                }
            };
            if done {
                break;
            }
        }
        if attempt == 2 {
            return Err(UserFault);
        }
        // Outside of the guard the pages can be brought in.
        clear_user(at, size()).map_err(|_| UserFault)?;
    }
    let mut software = [0u8; 48];
    if extended {
        // The legacy parts count even if they are in their initial state.
        let mut in_use = get_u64(at + HEADER)? | 3;
        if pkru_offset() != 0 {
            put_u64(at + pkru_offset(), u64::from(rights.0))?;
            in_use |= pkey::COMPONENT;
        }
        put_u64(at + HEADER, in_use)?;
        software[0..4].copy_from_slice(&MAGIC1.to_le_bytes());
        software[4..8].copy_from_slice(&(user_size() as u32).to_le_bytes());
        software[8..16].copy_from_slice(&components().to_le_bytes());
        software[16..20].copy_from_slice(&(size() as u32).to_le_bytes());
        put_u32(at + size(), MAGIC2)?;
    }
    copy_to_user(at + SOFTWARE, &software).map_err(|_| UserFault)
}

/// Takes the running thread's FPU registers from a signal frame. The processor itself refuses what is not loadable.
pub(super) fn load_from_user(thread: &Thread, at: usize) -> Result<(), UserFault> {
    if thread.fpu.is_none() {
        return Ok(());
    }
    if at >= TASK_SIZE - user_size() {
        return Err(UserFault);
    }
    // Which components are there: all that the frame names, or the legacy ones if its marks are not there.
    let mut mask = 3;
    if components() != 0 && get_u32(at + SOFTWARE)? == MAGIC1 {
        let (extended, len) = (get_u32(at + SOFTWARE + 4)? as usize, get_u32(at + SOFTWARE + 16)? as usize);
        if (HEADER + 64..=size()).contains(&len) && extended == len + 4 && get_u32(at + len)? == MAGIC2 {
            mask = get_u64(at + SOFTWARE + 8)? & components();
        }
    }
    let legacy_only = components() == 0 || mask == 3 && get_u32(at + SOFTWARE)? != MAGIC1;
    for _ in 0..3 {
        {
            let _no_fault = NoFault::new();
            let _irq = crate::irq::IrqGuard::new();
            let cpu = crate::cpu::current().0;
            // SAFETY: a user address, as checked; a fault is reported. The registers are this thread's from here on; what
            // the frame does not hold is set to its initial state.
            let done = unsafe {
                if legacy_only {
                    load_initial(!3);
                    user_access!("fxrstor64", at, 0)
                } else {
                    load_initial(!mask);
                    user_access!("xrstor64", at, mask)
                }
            };
            if done {
                own(thread, cpu);
                return Ok(());
            }
            // Half loaded at worst: nobody's.
            thread.fpu_cpu.store(NO_CPU, Relaxed);
            thread.flags().set(ThreadFlags::NEED_FPU_LOAD);
        }
        // Bring the pages in, then once more.
        for page in [at, at + HEADER, at + size() - 1] {
            get_u8(page)?;
        }
    }
    Err(UserFault)
}
