//! Instructions as the interpreter wants them: one variant each, eight bytes.

use crate::code::*;
use crate::{Error, Insn, Width};
use alloc::vec::Vec;

/// Arithmetic with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
}

/// A decoded instruction. `A` and `X` are the two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    LdWord(u32),
    /// A fact, by its offset from [`ANCILLARY`].
    LdFact(u32),
    LdAbs(Width, u32),
    LdInd(Width, u32),
    LdLen,
    LdImm(u32),
    LdMem(u8),
    LdxImm(u32),
    LdxMem(u8),
    LdxLen,
    /// The header length of an IPv4 packet: 4 × the low four bits of a byte.
    LdxMsh(u32),
    St(u8),
    Stx(u8),
    AndK(u32),
    AluK(Alu, u32),
    AluX(Alu),
    Neg,
    Ja(u32),
    JeqK(u8, u8, u32),
    JgtK(u8, u8, u32),
    JgeK(u8, u8, u32),
    JsetK(u8, u8, u32),
    JeqX(u8, u8),
    JgtX(u8, u8),
    JgeX(u8, u8),
    JsetX(u8, u8),
    RetK(u32),
    RetA,
    Tax,
    Txa,
}

const _: () = assert!(size_of::<Op>() == 8);

/// Decodes a checked program.
pub(crate) fn decode(insns: &[Insn]) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    ops.try_reserve_exact(insns.len()).map_err(|_| Error::NoMemory)?;
    for insn in insns {
        ops.push(one(insn).ok_or(Error::Invalid)?);
    }
    Ok(ops)
}

fn one(insn: &Insn) -> Option<Op> {
    let Insn { code, jt, jf, k } = *insn;
    Some(match code & 7 {
        LD => match code & 0xe0 {
            ABS if k >= ANCILLARY => Op::LdFact(k - ANCILLARY),
            ABS if width(code)? == Width::Word => Op::LdWord(k),
            ABS => Op::LdAbs(width(code)?, k),
            IND => Op::LdInd(width(code)?, k),
            LEN => Op::LdLen,
            IMM => Op::LdImm(k),
            _ => Op::LdMem(k as u8),
        },
        LDX => match code & 0xe0 {
            LEN => Op::LdxLen,
            IMM => Op::LdxImm(k),
            MEM => Op::LdxMem(k as u8),
            _ => Op::LdxMsh(k),
        },
        ST => Op::St(k as u8),
        STX => Op::Stx(k as u8),
        ALU if code & 0xf0 == NEG => Op::Neg,
        ALU if code & X != 0 => Op::AluX(alu(code)?),
        ALU if code & 0xf0 == AND => Op::AndK(k),
        ALU => Op::AluK(alu(code)?, k),
        JMP => match (code & 0xf0, code & X != 0) {
            (JA, _) => Op::Ja(k),
            (JEQ, false) => Op::JeqK(jt, jf, k),
            (JGT, false) => Op::JgtK(jt, jf, k),
            (JGE, false) => Op::JgeK(jt, jf, k),
            (JSET, false) => Op::JsetK(jt, jf, k),
            (JEQ, true) => Op::JeqX(jt, jf),
            (JGT, true) => Op::JgtX(jt, jf),
            (JGE, true) => Op::JgeX(jt, jf),
            (JSET, true) => Op::JsetX(jt, jf),
            _ => return None,
        },
        RET if code & 0x18 == A => Op::RetA,
        RET => Op::RetK(k),
        _ if code & TXA != 0 => Op::Txa,
        _ => Op::Tax,
    })
}

fn width(code: u16) -> Option<Width> {
    match code & 0x18 {
        W => Some(Width::Word),
        H => Some(Width::Half),
        B => Some(Width::Byte),
        _ => None,
    }
}

fn alu(code: u16) -> Option<Alu> {
    Some(match code & 0xf0 {
        ADD => Alu::Add,
        SUB => Alu::Sub,
        MUL => Alu::Mul,
        DIV => Alu::Div,
        MOD => Alu::Mod,
        AND => Alu::And,
        OR => Alu::Or,
        XOR => Alu::Xor,
        LSH => Alu::Lsh,
        RSH => Alu::Rsh,
        _ => return None,
    })
}
