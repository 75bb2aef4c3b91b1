//! Instructions of user mode that trap and are carried out here: reads of ID registers (`HWCAP_CPUID`), and the restart
//! of memory copy instructions that began on a CPU with another register format.

use super::cpu;
use super::cpufeature::{Reg, user_value};
use super::sysreg::read_sysreg;
use super::trap::TrapFrame;
use crate::uaccess;

/// `mrs Xt, S3_0_c0_c<crm>_<op2>` after masking Xt, CRm and op2.
const MRS_ID: u32 = 0xd538_0000;
const MRS_ID_MASK: u32 = 0xffff_f000;

/// Emulates `mrs` of an ID register at the frame's PC; false if it is something else.
pub fn system_register(frame: &mut TrapFrame, _esr: u64) -> bool {
    let Ok(instruction) = uaccess::get_u32(frame.ip()) else {
        return false;
    };
    if instruction & MRS_ID_MASK != MRS_ID {
        return false;
    }
    let (crm, op2, rt) = (instruction >> 8 & 0xf, instruction >> 5 & 7, instruction as usize & 31);
    let id = cpu::id_regs();
    let value = match (crm, op2) {
        (0, 0) => read_sysreg!("midr_el1"),
        // Uniprocessor bits as Linux shows them: the format, no affinity.
        (0, 5) => 1 << 31,
        (0, 6) => 0,
        (4, 0) => user_value(id, Reg::Pfr0),
        (4, 1) => user_value(id, Reg::Pfr1),
        // Debug architecture 8, nothing else.
        (5, 0) => 6,
        (6, 0) => user_value(id, Reg::Isar0),
        (6, 1) => user_value(id, Reg::Isar1),
        (6, 2) => user_value(id, Reg::Isar2),
        (7, 0) => user_value(id, Reg::Mmfr0),
        (7, 1) => user_value(id, Reg::Mmfr1),
        (7, 2) => user_value(id, Reg::Mmfr2),
        // Not allocated or nothing to see: they read as zero.
        (4..=7, _) => 0,
        _ => return false,
    };
    if let Some(reg) = frame.regs.get_mut(rt) {
        *reg = value;
    }
    frame.set_ip(frame.ip().wrapping_add(4));
    true
}

/// The registers of a memory copy or set are in the format of another CPU: put them back as they were for the prologue
/// instruction, and go back to it. (Arm ARM, "Memory Copy and Memory Set exceptions".)
pub fn restart_memory_copy(frame: &mut TrapFrame, esr: u64) {
    let wrong_option = esr & 1 << 17 != 0;
    let option_a = esr & 1 << 16 != 0;
    let (dst, src, size) = ((esr >> 10 & 31) as usize, (esr >> 5 & 31) as usize, (esr & 31) as usize);
    if dst > 30 || size > 30 {
        return;
    }
    let is_set = esr & 1 << 24 != 0;
    let count = frame.regs[size];
    if is_set {
        // Format A keeps the end and a negative count.
        if option_a != wrong_option {
            frame.regs[dst] = frame.regs[dst].wrapping_add(count);
            frame.regs[size] = count.wrapping_neg();
        }
    } else if src <= 30 {
        if option_a != wrong_option {
            if count as i64 >= 0 {
                // Backward format A holds the start already.
            } else {
                frame.regs[dst] = frame.regs[dst].wrapping_add(count);
                frame.regs[src] = frame.regs[src].wrapping_add(count);
                frame.regs[size] = count.wrapping_neg();
            }
        } else if frame.pstate & 1 << 31 != 0 {
            // Backward format B counts from the ends.
            frame.regs[dst] = frame.regs[dst].wrapping_sub(count);
            frame.regs[src] = frame.regs[src].wrapping_sub(count);
        }
    }
    // Epilogue or main instruction: the prologue is two or one before.
    let back = if esr & 1 << 18 != 0 { 8 } else { 4 };
    frame.set_ip(frame.ip().wrapping_sub(back));
}
