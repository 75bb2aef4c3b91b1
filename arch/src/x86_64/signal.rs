//! Signal frames on the user stack: `struct rt_sigframe` of Linux's UAPI.
//!
//! ```text
//! pretcode | ucontext: flags link stack sigcontext mask | siginfo | … | FPU state (64-aligned), its end mark
//! ```
//!
//! The FPU state goes from the registers straight to the user's stack and back, as one XSAVE or XRSTOR that may fault;
//! see [`super::fpu_frame`]. A handler starts with fresh FPU registers, PKRU among them.

use core::mem::offset_of;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::desc::{USER_CS, USER_DS};
use super::msr::{FLAG_DF, FLAG_RF, FLAG_TF};
use super::uaccess::{UserFault, copy_from_user, copy_to_user};
use super::{fpu, fpu_frame};
use crate::signal::{AltStack, SigFrameInfo, SigReturn};
use crate::thread::Thread;
use crate::trap::TrapFrame;

const SA_RESTORER: usize = 0x0400_0000;
/// `uc_flags`: the FPU state has XSAVE's format.
const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: `ss` is saved, and restored whatever it is.
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Below the stack pointer a function may keep data.
const RED_ZONE: usize = 128;

/// `struct sigcontext`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    trap_nr: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct rt_sigframe` without the FPU state.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    pretcode: u64,
    uc_flags: u64,
    uc_link: u64,
    stack_sp: u64,
    stack_flags: i32,
    stack_pad: u32,
    stack_size: u64,
    context: SigContext,
    mask: u64,
    info: [u8; 128],
}

pub(super) const FRAME_SIZE: usize = size_of::<Frame>();
const _: () =
    assert!(FRAME_SIZE == 440 && offset_of!(Frame, context) == 48 && offset_of!(Frame, mask) == 304);

/// The stack is given up while a handler runs, so nothing is nested on it (sigaltstack(2)).
const SS_AUTODISARM: i32 = i32::MIN;

/// Pushes an `rt_sigframe` and points the frame at the handler. On failure nothing is changed (and the kernel sends
/// SIGSEGV).
pub fn setup_rt_frame(
    frame: &mut TrapFrame,
    thread: &mut Thread,
    sig: &SigFrameInfo<'_>,
) -> Result<(), UserFault> {
    // Without a restorer there is no way back; Linux refuses too.
    if sig.flags & SA_RESTORER == 0 {
        return Err(UserFault);
    }
    let top = sig.on_stack.unwrap_or_else(|| frame.sp().wrapping_sub(RED_ZONE));
    let fpstate = top.wrapping_sub(fpu_frame::user_size()) & !63;
    // As after a call: 8 bytes off a multiple of 16.
    let at = (fpstate.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);

    // A handler that would not fit onto its alternate stack must not run into what lies below.
    let alt = sig.altstack;
    let nested = alt.flags & SS_AUTODISARM == 0 && alt.holds(top);
    if (sig.on_stack.is_some() || nested) && !alt.holds(at) {
        return Err(UserFault);
    }

    fpu_frame::save_to_user(thread, fpstate, sig.key_rights)?;
    let image = Frame {
        pretcode: sig.restorer as u64,
        uc_flags: UC_SIGCONTEXT_SS
            | UC_STRICT_RESTORE_SS
            | if fpu::components() != 0 { UC_FP_XSTATE } else { 0 },
        uc_link: 0,
        stack_sp: alt.sp as u64,
        stack_flags: alt.flags,
        stack_pad: 0,
        stack_size: alt.size as u64,
        context: SigContext {
            r8: frame.r8,
            r9: frame.r9,
            r10: frame.r10,
            r11: frame.r11,
            r12: frame.r12,
            r13: frame.r13,
            r14: frame.r14,
            r15: frame.r15,
            rdi: frame.rdi,
            rsi: frame.rsi,
            rbp: frame.rbp,
            rbx: frame.rbx,
            rdx: frame.rdx,
            rax: frame.rax,
            rcx: frame.rcx,
            rsp: frame.rsp,
            rip: frame.rip,
            rflags: frame.rflags,
            cs: frame.cs as u16,
            gs: 0,
            fs: 0,
            ss: frame.ss as u16,
            error_code: sig.error_code,
            trap_nr: u64::from(sig.trap_nr),
            old_mask: sig.mask_before,
            cr2: sig.fault_addr as u64,
            fpstate: fpstate as u64,
            reserved: [0; 8],
        },
        mask: sig.mask_before,
        info: *sig.siginfo,
    };
    copy_to_user(at, image.as_bytes()).map_err(|_| UserFault)?;

    frame.rdi = sig.signo as u64;
    frame.rsi = (at + offset_of!(Frame, info)) as u64;
    frame.rdx = (at + offset_of!(Frame, uc_flags)) as u64;
    frame.rax = 0;
    frame.rip = sig.handler as u64;
    frame.rsp = at as u64;
    frame.cs = u64::from(USER_CS);
    frame.ss = u64::from(USER_DS);
    frame.rflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    frame.full_return();
    fpu::reset_current(thread);
    Ok(())
}

/// Undoes [`setup_rt_frame`] for `rt_sigreturn`: registers and FPU state come from the user stack, sanitised. The system
/// call's result is then the restored register: leave `frame.return_value()` as it is.
pub fn restore_rt_frame(frame: &mut TrapFrame, thread: &mut Thread) -> Result<SigReturn, UserFault> {
    // The handler's `ret` has taken `pretcode` off the stack.
    let at = frame.sp().wrapping_sub(size_of::<u64>());
    let mut image = Frame::new_zeroed();
    let known = offset_of!(Frame, info);
    let bytes = image.as_mut_bytes().get_mut(..known).ok_or(UserFault)?;
    copy_from_user(bytes, at).map_err(|_| UserFault)?;

    let c = &image.context;
    if c.fpstate == 0 {
        fpu::reset_current(thread);
    } else if let Err(fault) = fpu_frame::load_from_user(thread, c.fpstate as usize) {
        fpu::reset_current(thread);
        return Err(fault);
    }
    (frame.r8, frame.r9, frame.r10, frame.r11) = (c.r8, c.r9, c.r10, c.r11);
    (frame.r12, frame.r13, frame.r14, frame.r15) = (c.r12, c.r13, c.r14, c.r15);
    (frame.rdi, frame.rsi, frame.rbp, frame.rbx) = (c.rdi, c.rsi, c.rbp, c.rbx);
    (frame.rdx, frame.rax, frame.rcx, frame.rsp) = (c.rdx, c.rax, c.rcx, c.rsp);
    frame.rip = c.rip;
    // Segments of programs are theirs to choose; what cannot be loaded is their fault when it is tried.
    frame.cs = u64::from(c.cs | 3);
    frame.ss = u64::from(c.ss | 3);
    if image.uc_flags & UC_STRICT_RESTORE_SS == 0 && c.cs | 3 == USER_CS {
        // A program from before `ss` was saved.
        frame.ss = u64::from(USER_DS);
    }
    frame.set_user_flags(c.rflags);
    frame.set_syscall_nr(-1);
    frame.full_return();
    Ok(SigReturn {
        mask: image.mask,
        altstack: AltStack {
            sp: image.stack_sp as usize,
            flags: image.stack_flags,
            size: image.stack_size as usize,
        },
    })
}
