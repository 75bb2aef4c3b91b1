//! Calls that a path of filters allows whatever their arguments: a bit each.
//!
//! A program is run once for every call, with a view that knows the number and the architecture and nothing
//! else. If it returns "allow" without having asked for more, it always will.

use abi::nr::TABLE_LEN;
use abi::seccomp::{SeccompData, c};
use cbpf::{Data, Program, Width};
use core::mem::offset_of;

const WORDS: usize = TABLE_LEN.div_ceil(64);

/// A bit per system call.
pub struct Allowed([u64; WORDS]);

struct NumberOnly(u32);

impl Data for NumberOnly {
    fn len(&self) -> u32 {
        size_of::<SeccompData>() as u32
    }

    fn load(&self, offset: u32, _: Width) -> Option<u32> {
        const NR: usize = offset_of!(SeccompData, nr);
        const ARCH: usize = offset_of!(SeccompData, arch);
        match offset as usize {
            NR => Some(self.0),
            ARCH => Some(arch::uapi::AUDIT_ARCH),
            _ => None,
        }
    }
}

impl Allowed {
    /// What `program` always allows, among what those before it do.
    pub fn of(program: &Program, before: Option<&Self>) -> Self {
        let mut bits = [0; WORDS];
        for nr in 0..TABLE_LEN as u32 {
            if before.is_some_and(|b| !b.has(nr as i32)) {
                continue;
            }
            let value = program.run(&NumberOnly(nr));
            if value.is_some_and(|v| v & c::SECCOMP_RET_ACTION_FULL == c::SECCOMP_RET_ALLOW)
                && let Some(word) = bits.get_mut(nr as usize / 64)
            {
                *word |= 1 << (nr % 64);
            }
        }
        Self(bits)
    }

    /// Whether call `nr` is.
    #[inline]
    pub fn has(&self, nr: i32) -> bool {
        let nr = nr as u32 as usize;
        self.0.get(nr / 64).is_some_and(|word| word >> (nr % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cbpf::{Insn, code};

    fn insn(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
        Insn { code, jt, jf, k }
    }

    #[test]
    fn only_what_needs_no_argument() {
        use code::*;
        // nr 1: allowed; nr 2: depends on an argument; others: denied.
        let insns = [
            insn(LD | W | ABS, 0, 0, 0),
            insn(JMP | JEQ, 1, 3, 0),
            insn(JMP | JEQ, 2, 0, 3),
            insn(LD | W | ABS, 16, 0, 0),
            insn(JMP | JEQ, 0, 0, 1),
            insn(RET, c::SECCOMP_RET_ALLOW, 0, 0),
            insn(RET, c::SECCOMP_RET_ERRNO | 1, 0, 0),
        ];
        let program = Program::new(&insns, super::super::filter::is_allowed).unwrap();
        let first = Allowed::of(&program, None);
        assert_eq!([0, 1, 2, 3, -1].map(|nr| first.has(nr)), [false, true, false, false, false]);
        let all = Program::new(&[insn(RET, c::SECCOMP_RET_ALLOW, 0, 0)], |_| true).unwrap();
        let second = Allowed::of(&all, Some(&first));
        assert_eq!([0, 1, 2].map(|nr| second.has(nr)), [false, true, false]);
        assert!(Allowed::of(&all, None).has(TABLE_LEN as i32 - 1));
        assert!(!Allowed::of(&all, None).has(i32::MAX));
    }
}
