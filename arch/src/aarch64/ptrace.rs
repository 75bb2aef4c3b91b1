//! Register sets of a thread: `NT_ARM_*` of `linux/elf.h`.

use alloc::vec::Vec;

use abi::Errno;

use super::debug::{self, Kind};
use super::trap::USER_REGS_SIZE;
use crate::ptrace::{Direction, NT_PRFPREG, NT_PRSTATUS, Regset, Short};
use crate::thread::Thread;
use crate::trap::TrapFrame;

/// The thread pointer.
pub const NT_ARM_TLS: u32 = 0x401;
/// Hardware breakpoints.
pub const NT_ARM_HW_BREAK: u32 = 0x402;
/// Hardware watchpoints.
pub const NT_ARM_HW_WATCH: u32 = 0x403;
/// The number of the system call.
pub const NT_ARM_SYSTEM_CALL: u32 = 0x404;

/// `AUDIT_ARCH_AARCH64`.
pub const AUDIT_ARCH: u32 = 0xc000_00b7;

/// There is no `PTRACE_ARCH_PRCTL`.
pub const ARCH_PRCTL: Option<u32> = None;
/// There never was a `PTRACE_OLDSETOPTIONS`.
pub const OLD_SETOPTIONS: Option<u32> = None;

/// The sets, general registers first.
pub const REGSETS: &[Regset] = &[
    Regset {
        note: NT_PRSTATUS,
        unit: 8,
        len: || USER_REGS_SIZE,
        get: |thread, frame, out| put(out, &frame.user_regs(thread)),
        set: Some(set_general),
        short: Short::Merge,
        in_core: false,
        owner: "CORE",
    },
    Regset {
        note: NT_PRFPREG,
        unit: 4,
        len: super::fpu::size,
        get: get_fp,
        set: Some(set_fp),
        short: Short::Merge,
        in_core: true,
        owner: "CORE",
    },
    Regset {
        note: NT_ARM_TLS,
        unit: 8,
        len: || 8,
        get: |thread, _, out| put(out, &thread.tls().to_ne_bytes()),
        set: Some(set_tls),
        short: Short::Merge,
        in_core: true,
        owner: "LINUX",
    },
    Regset {
        note: NT_ARM_HW_BREAK,
        unit: 4,
        len: || debug::SET_SIZE,
        get: |thread, _, out| thread.debug.read(Kind::Breakpoint, out),
        set: Some(|thread, _, data, room| thread.debug.write(Kind::Breakpoint, data, &mut room.0)),
        short: Short::Merge,
        in_core: true,
        owner: "LINUX",
    },
    Regset {
        note: NT_ARM_HW_WATCH,
        unit: 4,
        len: || debug::SET_SIZE,
        get: |thread, _, out| thread.debug.read(Kind::Watchpoint, out),
        set: Some(|thread, _, data, room| thread.debug.write(Kind::Watchpoint, data, &mut room.0)),
        short: Short::Merge,
        in_core: true,
        owner: "LINUX",
    },
    Regset {
        note: NT_ARM_SYSTEM_CALL,
        unit: 4,
        len: || 4,
        get: |_, frame, out| put(out, &(frame.syscall_nr() as i32).to_ne_bytes()),
        set: Some(set_syscall),
        short: Short::Merge,
        in_core: true,
        owner: "LINUX",
    },
];

/// Memory that a write may need, got before the thread is looked at.
#[derive(Default)]
pub struct Room(Vec<debug::Entry>);

impl Room {
    /// For a write of set `note`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(note: u32) -> Result<Self, Errno> {
        Ok(match note {
            NT_ARM_HW_BREAK | NT_ARM_HW_WATCH => Self(debug::room()?),
            _ => Self::default(),
        })
    }
}

fn put(out: &mut [u8], bytes: &[u8]) {
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn set_general(thread: &mut Thread, frame: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let regs = data.first_chunk::<USER_REGS_SIZE>().ok_or(Errno::EINVAL)?;
    let mut new = *frame;
    if !new.set_user_regs(thread, regs) {
        return Err(Errno::EINVAL);
    }
    *frame = new;
    Ok(())
}

fn get_fp(thread: &mut Thread, _: &mut TrapFrame, out: &mut [u8]) {
    if let Some(fpu) = thread.fpu_mut() {
        fpu.write_fpregs(out);
    }
}

fn set_fp(thread: &mut Thread, _: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let fpu = thread.fpu_mut().ok_or(Errno::EIO)?;
    if fpu.read_fpregs(data) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn set_tls(thread: &mut Thread, _: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let word = data.first_chunk::<8>().ok_or(Errno::EINVAL)?;
    thread.set_tls(usize::from_ne_bytes(*word));
    Ok(())
}

fn set_syscall(_: &mut Thread, frame: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let nr = data.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    frame.set_syscall_nr(i32::from_ne_bytes(*nr) as isize);
    Ok(())
}

/// No request of this architecture moves a whole set but `PTRACE_GETREGSET`.
pub fn legacy_request(_: u32) -> Option<(Direction, u32)> {
    None
}

/// There is no `struct user` here.
///
/// # Errors
/// `EIO`.
pub fn peek_user(_: &mut Thread, _: &mut TrapFrame, _: usize) -> Result<usize, Errno> {
    Err(Errno::EIO)
}

/// As [`peek_user`].
///
/// # Errors
/// `EIO`.
pub fn poke_user(_: &mut Thread, _: &mut TrapFrame, _: usize, _: usize) -> Result<(), Errno> {
    Err(Errno::EIO)
}
