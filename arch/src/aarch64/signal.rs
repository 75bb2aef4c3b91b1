//! Signal frames on the user stack, laid out as Linux's `rt_sigframe` of arm64 (`sigreturn(2)`).
//!
//! ```text
//! sp ->  siginfo_t                128
//!        ucontext: flags, link    16
//!                  uc_stack       24
//!                  uc_sigmask     8, padded to 128, aligned to 16
//!                  sigcontext     fault_address, regs[31], sp, pc, pstate; aligned to 16
//!                  __reserved     4096: fpsimd_context, esr_context, terminator
//!        frame record             x29, x30 of the interrupted code: debuggers walk through it
//! ```

use super::fpu::FPSIMD_SIZE;
use super::trap::{USER_REGS_SIZE, pstate};
use crate::signal::{AltStack, SigFrameInfo, SigReturn};
use crate::thread::Thread;
use crate::trap::TrapFrame;
use crate::uaccess::{self, UserFault};

/// Offsets within the frame.
mod at {
    pub const SIGINFO: usize = 0;
    pub const UCONTEXT: usize = 128;
    pub const UC_STACK: usize = UCONTEXT + 16;
    pub const UC_SIGMASK: usize = UC_STACK + 24;
    pub const FAULT_ADDRESS: usize = 304;
    pub const REGS: usize = FAULT_ADDRESS + 8;
    pub const RESERVED: usize = FAULT_ADDRESS + 288;
    pub const END: usize = RESERVED + 4096;
}

const _: () = assert!(at::REGS + USER_REGS_SIZE <= at::RESERVED && at::END == 4688);

/// `struct frame_record`.
const RECORD_SIZE: usize = 16;

/// `AT_MINSIGSTKSZ`: what a frame takes at most, with the alignment of its two parts.
pub(super) const MIN_SIGSTACK_SIZE: usize = at::END + RECORD_SIZE + 16;

const FPSIMD_MAGIC: u32 = 0x4650_8001;
const ESR_MAGIC: u32 = 0x4553_5201;
/// Header, fpsr, fpcr, 32 registers.
const FPSIMD_CONTEXT: usize = 528;
const ESR_CONTEXT: usize = 16;
/// Magic and size.
const HEADER: usize = 8;
/// `user_fpsimd_state` has the registers first and fpsr, fpcr after them.
const VREGS: usize = 512;

const SA_SIGINFO: usize = 4;
const SA_RESTORER: usize = 0x0400_0000;

fn store(to: usize, bytes: &[u8]) -> Result<(), UserFault> {
    uaccess::copy_to_user(to, bytes).map_err(|_| UserFault)
}

fn load(to: &mut [u8], from: usize) -> Result<(), UserFault> {
    uaccess::copy_from_user(to, from).map_err(|_| UserFault)
}

fn header(magic: u32, size: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&magic.to_ne_bytes());
    bytes[4..].copy_from_slice(&(size as u32).to_ne_bytes());
    bytes
}

/// Pushes an `rt_sigframe` and points the frame at the handler. On failure nothing is changed (and the kernel sends
/// SIGSEGV).
pub fn setup_rt_frame(
    frame: &mut TrapFrame,
    thread: &mut Thread,
    sig: &SigFrameInfo<'_>,
) -> Result<(), UserFault> {
    let top = sig.on_stack.unwrap_or(frame.sp());
    let record = (top.checked_sub(RECORD_SIZE).ok_or(UserFault)?) & !15;
    let sp = record.checked_sub(at::END).ok_or(UserFault)? & !15;

    store(record, bytes2(&[frame.regs[29], frame.regs[30]]).as_slice())?;
    if sig.flags & SA_SIGINFO != 0 {
        store(sp + at::SIGINFO, sig.siginfo)?;
    }
    // uc_flags, uc_link, uc_stack, uc_sigmask.
    let flags = sig.altstack.flags as u32 as u64;
    let mut head = [0u8; 48];
    let words = [0, 0, sig.altstack.sp as u64, flags, sig.altstack.size as u64, sig.mask_before];
    for (chunk, word) in head.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    store(sp + at::UCONTEXT, &head)?;
    uaccess::clear_user(sp + at::UC_SIGMASK + 8, at::FAULT_ADDRESS - at::UC_SIGMASK - 8)
        .map_err(|_| UserFault)?;
    uaccess::put_u64(sp + at::FAULT_ADDRESS, sig.fault_addr as u64)?;
    store(sp + at::REGS, &frame.user_regs(thread))?;

    let mut context = sp + at::RESERVED;
    let esr = core::mem::take(&mut thread.fault_esr);
    if let Some(fpu) = thread.fpu_saved() {
        let fpu = fpu.bytes();
        store(context, &header(FPSIMD_MAGIC, FPSIMD_CONTEXT))?;
        store(context + HEADER, &fpu[VREGS..VREGS + 8])?;
        store(context + HEADER + 8, &fpu[..VREGS])?;
        context += FPSIMD_CONTEXT;
    }
    if esr != 0 {
        store(context, &header(ESR_MAGIC, ESR_CONTEXT))?;
        uaccess::put_u64(context + HEADER, esr)?;
        context += ESR_CONTEXT;
    }
    store(context, &header(0, 0))?;

    frame.regs[0] = sig.signo as u64;
    if sig.flags & SA_SIGINFO != 0 {
        frame.regs[1] = (sp + at::SIGINFO) as u64;
        frame.regs[2] = (sp + at::UCONTEXT) as u64;
    }
    frame.sp = sp as u64;
    frame.regs[29] = record as u64;
    let trampoline = if sig.flags & SA_RESTORER != 0 { sig.restorer } else { sig.sigreturn_trampoline };
    frame.regs[30] = trampoline as u64;
    frame.pc = sig.handler as u64;
    frame.pstate &= !(pstate::BTYPE | pstate::TCO);
    Ok(())
}

fn bytes2(words: &[u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
    bytes
}

/// Undoes [`setup_rt_frame`] for `rt_sigreturn`: registers and FPU state come from the user stack, sanitised.
pub fn restore_rt_frame(frame: &mut TrapFrame, thread: &mut Thread) -> Result<SigReturn, UserFault> {
    let sp = frame.sp();
    if !sp.is_multiple_of(16) {
        return Err(UserFault);
    }
    let mask = uaccess::get_u64(sp + at::UC_SIGMASK)?;
    let altstack = AltStack {
        sp: uaccess::get_u64(sp + at::UC_STACK)? as usize,
        flags: uaccess::get_u32(sp + at::UC_STACK + 8)? as i32,
        size: uaccess::get_u64(sp + at::UC_STACK + 16)? as usize,
    };
    let mut regs = [0; USER_REGS_SIZE];
    load(&mut regs, sp + at::REGS)?;
    let mut fpu = [0; FPSIMD_SIZE];
    let found = read_fpsimd(sp + at::RESERVED, &mut fpu)?;

    // A frame that asks for more than user mode is invalid, as after ptrace.
    if !frame.set_user_regs(thread, &regs) {
        return Err(UserFault);
    }
    // Nothing to restart: this was the last word on the interrupted system call.
    frame.set_syscall_nr(-1);
    if let Some(state) = thread.fpu_mut() {
        if !found {
            return Err(UserFault);
        }
        state.set_bytes(&fpu);
    }
    Ok(SigReturn { mask, altstack })
}

/// Finds the `fpsimd_context` among the records; false if there is none.
fn read_fpsimd(mut at: usize, out: &mut [u8; FPSIMD_SIZE]) -> Result<bool, UserFault> {
    let end = at + 4096;
    let mut found = false;
    while at + HEADER <= end {
        let (magic, size) = (uaccess::get_u32(at)?, uaccess::get_u32(at + 4)? as usize);
        if magic == 0 {
            return if size == 0 { Ok(found) } else { Err(UserFault) };
        }
        if size < HEADER || size % 16 != 0 || size > end - at {
            return Err(UserFault);
        }
        if magic == FPSIMD_MAGIC {
            if size != FPSIMD_CONTEXT || found {
                return Err(UserFault);
            }
            load(&mut out[VREGS..VREGS + 8], at + HEADER)?;
            load(&mut out[..VREGS], at + HEADER + 8)?;
            found = true;
        } else if magic != ESR_MAGIC {
            return Err(UserFault);
        }
        at += size;
    }
    Err(UserFault)
}
