//! Register sets, and `struct user` of `sys/user.h`.

use abi::Errno;

use super::fpu::{self, FXSAVE_SIZE};
use super::trap::USER_REGS_SIZE;
use crate::ptrace::{Direction, NT_PRFPREG, NT_PRSTATUS, Regset, Short};
use crate::thread::Thread;
use crate::trap::TrapFrame;

/// The whole XSAVE area.
pub const NT_X86_XSTATE: u32 = 0x202;

/// `AUDIT_ARCH_X86_64`.
pub const AUDIT_ARCH: u32 = 0xc000_003e;

/// `PTRACE_ARCH_PRCTL`.
pub const ARCH_PRCTL: Option<u32> = Some(30);
/// `PTRACE_OLDSETOPTIONS`.
pub const OLD_SETOPTIONS: Option<u32> = Some(21);

/// `sizeof(struct user)`.
const USER_SIZE: usize = 928;
/// `offsetof(struct user, u_debugreg)`.
const DEBUGREG_OFFSET: usize = 848;

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
        len: || FXSAVE_SIZE,
        get: get_fp,
        set: Some(set_fp),
        short: Short::Refuse(Errno::EINVAL),
        in_core: true,
        owner: "CORE",
    },
    Regset {
        note: NT_X86_XSTATE,
        unit: 8,
        len: || if fpu::components() == 0 { 0 } else { fpu::size() },
        get: get_xstate,
        set: Some(set_xstate),
        short: Short::Refuse(Errno::EFAULT),
        in_core: true,
        owner: "LINUX",
    },
];

/// Memory that a write may need, got before the thread is looked at.
#[derive(Default)]
pub struct Room;

impl Room {
    /// For a write of set `note`: none is needed here.
    ///
    /// # Errors
    /// Never.
    pub fn new(_note: u32) -> Result<Self, Errno> {
        Ok(Self)
    }
}

fn put(out: &mut [u8], bytes: &[u8]) {
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn set_general(thread: &mut Thread, frame: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let regs = data.first_chunk::<USER_REGS_SIZE>().ok_or(Errno::EINVAL)?;
    if frame.set_user_regs(thread, regs) { Ok(()) } else { Err(Errno::EIO) }
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

fn get_xstate(thread: &mut Thread, _: &mut TrapFrame, out: &mut [u8]) {
    let rights = thread.key_rights();
    if let Some(fpu) = thread.fpu_mut() {
        fpu.write_xstate(out, rights);
    }
}

fn set_xstate(thread: &mut Thread, _: &mut TrapFrame, data: &[u8], _: &mut Room) -> Result<(), Errno> {
    let fpu = thread.fpu_mut().ok_or(Errno::EIO)?;
    let rights = fpu.read_xstate(data).ok_or(Errno::EINVAL)?;
    thread.set_key_rights(rights);
    Ok(())
}

/// `PTRACE_GETREGS` and its kin: which set they move, and which way.
pub fn legacy_request(request: u32) -> Option<(Direction, u32)> {
    match request {
        12 => Some((Direction::Get, NT_PRSTATUS)),
        13 => Some((Direction::Set, NT_PRSTATUS)),
        14 => Some((Direction::Get, NT_PRFPREG)),
        15 => Some((Direction::Set, NT_PRFPREG)),
        _ => None,
    }
}

/// `PTRACE_PEEKUSER`: the word at `offset` of `struct user`.
///
/// # Errors
/// `EIO` beyond it, or misaligned.
pub fn peek_user(thread: &mut Thread, frame: &mut TrapFrame, offset: usize) -> Result<usize, Errno> {
    if !offset.is_multiple_of(8) || offset >= USER_SIZE {
        return Err(Errno::EIO);
    }
    if offset < USER_REGS_SIZE {
        let regs = frame.user_regs(thread);
        let word = regs.get(offset..).and_then(|rest| rest.first_chunk::<8>());
        return Ok(word.map_or(0, |w| usize::from_le_bytes(*w)));
    }
    match debug_index(offset) {
        Some(index) => Ok(thread.debug.get(index) as usize),
        // The rest of the structure is about files of old.
        None => Ok(0),
    }
}

/// `PTRACE_POKEUSER`.
///
/// # Errors
/// `EIO` for what cannot be written, `EINVAL` for a debug register that may not have this value.
pub fn poke_user(
    thread: &mut Thread,
    frame: &mut TrapFrame,
    offset: usize,
    value: usize,
) -> Result<(), Errno> {
    if !offset.is_multiple_of(8) || offset >= USER_SIZE {
        return Err(Errno::EIO);
    }
    if offset < USER_REGS_SIZE {
        let mut regs = frame.user_regs(thread);
        if let Some(word) = regs.get_mut(offset..offset + 8) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        return set_general(thread, frame, &regs, &mut Room);
    }
    match debug_index(offset) {
        Some(index) => thread.debug.set(index, value as u64),
        None => Err(Errno::EIO),
    }
}

fn debug_index(offset: usize) -> Option<usize> {
    let index = offset.checked_sub(DEBUGREG_OFFSET)? / 8;
    (index < 8).then_some(index)
}
