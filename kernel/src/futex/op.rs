//! The operation word of `FUTEX_WAKE_OP`, decoded.

use abi::{Errno, Result, raw};
use arch::uaccess::FutexOp;

/// How the old value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A decoded operation: change the word, then compare its old value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WakeOp {
    /// What to do to the word.
    pub op: FutexOp,
    /// With what.
    pub arg: u32,
    compare: Compare,
    compare_arg: i32,
}

/// The low 12 bits of `word`, sign extended.
fn signed12(word: u32) -> i32 {
    (word << 20) as i32 >> 20
}

impl WakeOp {
    /// Decodes `val3` of the call.
    ///
    /// # Errors
    /// `ENOSYS` for an operation or comparison that does not exist.
    pub fn decode(word: u32) -> Result<Self> {
        let mut arg = signed12(word >> 12) as u32;
        let code = word >> 28;
        if code & raw::FUTEX_OP_OPARG_SHIFT != 0 {
            // A shift outside 0..31 is a mistake of the program; only the low bits count.
            arg = 1u32 << (arg & 31);
        }
        let op = match code & 7 {
            raw::FUTEX_OP_SET => FutexOp::Set,
            raw::FUTEX_OP_ADD => FutexOp::Add,
            raw::FUTEX_OP_OR => FutexOp::Or,
            raw::FUTEX_OP_ANDN => FutexOp::AndNot,
            raw::FUTEX_OP_XOR => FutexOp::Xor,
            _ => return Err(Errno::ENOSYS),
        };
        let compare = match word >> 24 & 15 {
            raw::FUTEX_OP_CMP_EQ => Compare::Eq,
            raw::FUTEX_OP_CMP_NE => Compare::Ne,
            raw::FUTEX_OP_CMP_LT => Compare::Lt,
            raw::FUTEX_OP_CMP_LE => Compare::Le,
            raw::FUTEX_OP_CMP_GT => Compare::Gt,
            raw::FUTEX_OP_CMP_GE => Compare::Ge,
            _ => return Err(Errno::ENOSYS),
        };
        Ok(Self { op, arg, compare, compare_arg: signed12(word) })
    }

    /// Whether the second futex is to be woken, given the word's old value.
    pub fn wakes_second(&self, old: u32) -> bool {
        let (old, arg) = (old as i32, self.compare_arg);
        match self.compare {
            Compare::Eq => old == arg,
            Compare::Ne => old != arg,
            Compare::Lt => old < arg,
            Compare::Le => old <= arg,
            Compare::Gt => old > arg,
            Compare::Ge => old >= arg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The macro of the man page.
    fn encode(op: u32, oparg: u32, cmp: u32, cmparg: u32) -> u32 {
        op << 28 | cmp << 24 | (oparg & 0xfff) << 12 | (cmparg & 0xfff)
    }

    #[test]
    fn decodes_what_glibc_uses() {
        let op = WakeOp::decode(encode(0, 0, 4, 1)).unwrap();
        assert_eq!((op.op, op.arg), (FutexOp::Set, 0));
        assert!(op.wakes_second(2) && !op.wakes_second(1));
    }

    #[test]
    fn arguments_are_signed_and_shifts_are_bounded() {
        let op = WakeOp::decode(encode(1, 0xfff, 2, 0xfff)).unwrap();
        assert_eq!(op.arg, u32::MAX);
        assert!(op.wakes_second(-2i32 as u32) && !op.wakes_second(0));
        assert_eq!(WakeOp::decode(encode(2 | 8, 31, 0, 0)).unwrap().arg, 1 << 31);
        assert_eq!(WakeOp::decode(encode(2 | 8, 63, 0, 0)).unwrap().arg, 1 << 31);
    }

    #[test]
    fn unknown_codes() {
        assert_eq!(WakeOp::decode(encode(5, 0, 0, 0)), Err(Errno::ENOSYS));
        assert_eq!(WakeOp::decode(encode(0, 0, 6, 0)), Err(Errno::ENOSYS));
    }
}
