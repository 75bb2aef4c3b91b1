//! The rules every program obeys.

use crate::code::*;
use crate::{Error, Insn, MAX_INSNS, MEM_WORDS};
use alloc::vec::Vec;

/// Checks a whole program.
pub(crate) fn check(insns: &[Insn]) -> Result<(), Error> {
    if insns.is_empty() || insns.len() > MAX_INSNS {
        return Err(Error::Invalid);
    }
    for (pc, insn) in insns.iter().enumerate() {
        if !known(insn.code) || !operands(insn, insns.len() - pc - 1) {
            return Err(Error::Invalid);
        }
    }
    match insns.last() {
        Some(last) if last.code & 7 == RET => initialised(insns),
        _ => Err(Error::Invalid),
    }
}

/// Whether there is such an instruction.
fn known(code: u16) -> bool {
    const LD_MODES: [u16; 9] =
        [W | ABS, H | ABS, B | ABS, W | IND, H | IND, B | IND, W | LEN, W | IMM, W | MEM];
    const LDX_MODES: [u16; 4] = [W | LEN, B | MSH, W | IMM, W | MEM];
    const ALU_OPS: [u16; 10] = [ADD, SUB, MUL, DIV, MOD, AND, OR, XOR, LSH, RSH];
    const JUMPS: [u16; 4] = [JEQ, JGE, JGT, JSET];
    let rest = code & !7;
    match code & 7 {
        LD => LD_MODES.contains(&rest),
        LDX => LDX_MODES.contains(&rest),
        ST | STX => rest == 0,
        ALU => rest == NEG || ALU_OPS.contains(&(rest & !X)),
        JMP => rest == JA || JUMPS.contains(&(rest & !X)),
        RET => rest == K || rest == A,
        _ => rest == TAX || rest == TXA,
    }
}

/// Whether the operands are in range; `after` instructions follow.
fn operands(insn: &Insn, after: usize) -> bool {
    const DIV_K: u16 = ALU | DIV | K;
    const MOD_K: u16 = ALU | MOD | K;
    const LSH_K: u16 = ALU | LSH | K;
    const RSH_K: u16 = ALU | RSH | K;
    const LD_MEM: u16 = LD | MEM;
    const LDX_MEM: u16 = LDX | MEM;
    let k = insn.k as usize;
    match insn.code {
        DIV_K | MOD_K => k != 0,
        LSH_K | RSH_K => k < 32,
        LD_MEM | LDX_MEM | ST | STX => k < MEM_WORDS,
        JMP => k < after,
        code if code & 7 == JMP => usize::from(insn.jt) < after && usize::from(insn.jf) < after,
        code if code & 7 == LD && code & 0xe0 == ABS && insn.k >= ANCILLARY => {
            insn.k < ANCILLARY_END && insn.k.is_multiple_of(4)
        }
        _ => true,
    }
}

/// Scratch memory is written before it is read, on every path.
fn initialised(insns: &[Insn]) -> Result<(), Error> {
    const LD_MEM: u16 = LD | MEM;
    const LDX_MEM: u16 = LDX | MEM;
    // What all known ways to an instruction have written. Jumps go forward, so one pass sees them all.
    let mut written: Vec<u16> = Vec::new();
    written.try_reserve_exact(insns.len()).map_err(|_| Error::NoMemory)?;
    written.resize(insns.len(), u16::MAX);
    let mut now = 0u16;
    for (pc, insn) in insns.iter().enumerate() {
        now &= written.get(pc).copied().unwrap_or(0);
        let mut arrive = |skip: usize, now: u16| {
            if let Some(there) = written.get_mut(pc + 1 + skip) {
                *there &= now;
            }
        };
        match insn.code {
            ST | STX => now |= 1 << insn.k,
            LD_MEM | LDX_MEM if now & 1 << insn.k == 0 => return Err(Error::Invalid),
            JMP => {
                arrive(insn.k as usize, now);
                now = u16::MAX;
            }
            code if code & 7 == JMP => {
                arrive(insn.jt.into(), now);
                arrive(insn.jf.into(), now);
                now = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
