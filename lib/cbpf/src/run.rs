//! The interpreter.

use crate::decode::{Alu, Op};
use crate::{Data, MEM_WORDS, Program, Width};

impl Program {
    /// What the program returns for `data`. `None`: it asked for something that is not there.
    pub fn run<D: Data + ?Sized>(&self, data: &D) -> Option<u32> {
        let (mut a, mut x) = (0u32, 0u32);
        let mut mem = [0u32; MEM_WORDS];
        let mut pc = 0usize;
        loop {
            // The verifier has seen to it that there is always a next instruction.
            let op = *self.ops.get(pc)?;
            pc += 1;
            let mut jump = |taken: bool, jt: u8, jf: u8| pc += usize::from(if taken { jt } else { jf });
            match op {
                Op::LdWord(k) => a = data.load(k, Width::Word)?,
                Op::JeqK(jt, jf, k) => jump(a == k, jt, jf),
                Op::JgeK(jt, jf, k) => jump(a >= k, jt, jf),
                Op::JgtK(jt, jf, k) => jump(a > k, jt, jf),
                Op::JsetK(jt, jf, k) => jump(a & k != 0, jt, jf),
                Op::RetK(k) => return Some(k),
                Op::AndK(k) => a &= k,
                Op::Ja(k) => pc += k as usize,
                Op::JeqX(jt, jf) => jump(a == x, jt, jf),
                Op::JgeX(jt, jf) => jump(a >= x, jt, jf),
                Op::JgtX(jt, jf) => jump(a > x, jt, jf),
                Op::JsetX(jt, jf) => jump(a & x != 0, jt, jf),
                Op::LdFact(fact) => a = data.ancillary(fact, a, x)?,
                Op::LdAbs(width, k) => a = data.load(k, width)?,
                Op::LdInd(width, k) => a = data.load(x.wrapping_add(k), width)?,
                Op::LdLen => a = data.len(),
                Op::LdImm(k) => a = k,
                Op::LdMem(k) => a = *mem.get(usize::from(k))?,
                Op::LdxImm(k) => x = k,
                Op::LdxMem(k) => x = *mem.get(usize::from(k))?,
                Op::LdxLen => x = data.len(),
                Op::LdxMsh(k) => x = (data.load(k, Width::Byte)? & 15) << 2,
                Op::St(k) => *mem.get_mut(usize::from(k))? = a,
                Op::Stx(k) => *mem.get_mut(usize::from(k))? = x,
                Op::AluK(alu, k) => a = alu.apply(a, k)?,
                // A division by zero ends the program with 0.
                Op::AluX(alu) => match alu.apply(a, x) {
                    Some(value) => a = value,
                    None => return Some(0),
                },
                Op::Neg => a = a.wrapping_neg(),
                Op::RetA => return Some(a),
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
    }
}

impl Alu {
    /// The result; `None` for a division by zero.
    fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => return a.checked_div(b),
            Self::Mod => return a.checked_rem(b),
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Lsh => a.wrapping_shl(b),
            Self::Rsh => a.wrapping_shr(b),
        })
    }
}
