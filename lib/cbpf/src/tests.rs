use crate::code::*;
use crate::{Data, Error, Insn, MAX_INSNS, Program, Width};
use proptest::prelude::*;

struct Bytes(Vec<u8>);

impl Data for Bytes {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn load(&self, offset: u32, width: Width) -> Option<u32> {
        let at = offset as usize;
        let byte = |i: usize| self.0.get(at.checked_add(i)?).map(|b| u32::from(*b));
        match width {
            Width::Byte => byte(0),
            Width::Half => Some(byte(0)? << 8 | byte(1)?),
            Width::Word => Some(byte(0)? << 24 | byte(1)? << 16 | byte(2)? << 8 | byte(3)?),
        }
    }
}

fn s(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

fn j(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code: JMP | code, jt, jf, k }
}

fn build(insns: &[Insn]) -> Result<Program, Error> {
    Program::new(insns, |_| true)
}

fn result(insns: &[Insn]) -> Option<u32> {
    build(insns).unwrap().run(&Bytes(vec![0x45, 1, 2, 3, 4, 5]))
}

#[test]
fn loads_and_arithmetic() {
    assert_eq!(result(&[s(LD | W | ABS, 1), s(RET | A, 0)]), Some(0x0102_0304));
    assert_eq!(result(&[s(LD | H | ABS, 4), s(RET | A, 0)]), Some(0x0405));
    assert_eq!(result(&[s(LDX | IMM, 2), s(LD | B | IND, 1), s(RET | A, 0)]), Some(3));
    assert_eq!(result(&[s(LDX | B | MSH, 0), s(MISC | TXA, 0), s(RET | A, 0)]), Some(20));
    assert_eq!(result(&[s(LD | LEN, 0), s(ALU | NEG, 0), s(RET | A, 0)]), Some(6u32.wrapping_neg()));
    assert_eq!(result(&[s(LD | W | ABS, 3), s(RET | A, 0)]), None);
    // Division by a zero in X returns 0.
    assert_eq!(result(&[s(LD | IMM, 7), s(ALU | DIV | X, 0), s(RET | K, 9)]), Some(0));
    assert_eq!(result(&[s(LD | IMM, 7), s(ALU | MOD | K, 4), s(RET | A, 0)]), Some(3));
    let swap = [s(LD | IMM, 5), s(ST, 3), s(LDX | MEM, 3), s(MISC | TXA, 0), s(RET | A, 0)];
    assert_eq!(result(&swap), Some(5));
}

#[test]
fn jumps() {
    let program = |jump| [s(LD | IMM, 6), jump, s(RET | K, 0), s(RET | K, 1)];
    assert_eq!(result(&program(j(JEQ, 6, 1, 0))), Some(1));
    assert_eq!(result(&program(j(JGT, 6, 1, 0))), Some(0));
    assert_eq!(result(&program(j(JGE, 6, 1, 0))), Some(1));
    assert_eq!(result(&program(j(JSET, 1, 1, 0))), Some(0));
    assert_eq!(result(&program(j(JA, 1, 0, 0))), Some(1));
    assert_eq!(result(&program(j(JEQ | X, 0, 1, 0))), Some(0));
}

#[test]
fn what_is_refused() {
    let ret = s(RET | K, 0);
    let bad: &[&[Insn]] = &[
        &[],
        &[s(LD | IMM, 0)],
        &[s(ALU | DIV | K, 0), ret],
        &[s(ALU | MOD | K, 0), ret],
        &[s(ALU | LSH | K, 32), ret],
        &[s(ST, 16), ret],
        &[s(LD | MEM, 0), ret],
        &[s(LDX | MEM, 1), ret],
        &[j(JA, 1, 0, 0), ret],
        &[j(JA, u32::MAX, 0, 0), ret],
        &[j(JEQ, 0, 1, 0), ret],
        &[j(JEQ, 0, 0, 1), ret],
        &[s(RET | X, 0)],
        &[s(0xff, 0), ret],
        &[s(0x100, 0), ret],
        &[s(LD | 0x18, 0), ret],
        &[s(LD | W | ABS, ANCILLARY_END), ret],
        // Written on one of two ways only.
        &[j(JEQ, 0, 0, 1), s(ST, 2), s(LD | MEM, 2), ret],
    ];
    for insns in bad {
        assert_eq!(build(insns).err(), Some(Error::Invalid), "{insns:?}");
    }
    assert!(build(&[s(LD | W | ABS, ANCILLARY), ret]).is_ok());
    assert!(build(&[j(JEQ, 0, 0, 1), s(ST, 2), s(LD | IMM, 2), ret]).is_ok());
    assert!(build(&vec![ret; MAX_INSNS]).is_ok());
    assert!(build(&vec![ret; MAX_INSNS + 1]).is_err());
    assert!(Program::new(&[s(ALU | NEG, 0), ret], |i| i.code != ALU | NEG).is_err());
}

/// The definition, without decoding: what each instruction means by its encoding.
fn model(insns: &[Insn], data: &Bytes) -> Option<u32> {
    let (mut a, mut x, mut mem, mut pc) = (0u32, 0u32, [0u32; 16], 0);
    loop {
        let i = insns[pc];
        pc += 1;
        let width = match i.code & 0x18 {
            H => Width::Half,
            B => Width::Byte,
            _ => Width::Word,
        };
        let b = if i.code & X != 0 { x } else { i.k };
        match i.code & 7 {
            LD | LDX => {
                let value = match i.code & 0xe0 {
                    IMM => i.k,
                    ABS => data.load(i.k, width)?,
                    IND => data.load(x.wrapping_add(i.k), width)?,
                    MEM => mem[i.k as usize],
                    LEN => data.len(),
                    _ => 4 * (data.load(i.k, Width::Byte)? & 15),
                };
                if i.code & 7 == LD { a = value } else { x = value }
            }
            ST => mem[i.k as usize] = a,
            STX => mem[i.k as usize] = x,
            ALU => {
                a = match i.code & 0xf0 {
                    ADD => a.wrapping_add(b),
                    SUB => a.wrapping_sub(b),
                    MUL => a.wrapping_mul(b),
                    DIV | MOD if b == 0 => return Some(0),
                    DIV => a / b,
                    MOD => a % b,
                    AND => a & b,
                    OR => a | b,
                    XOR => a ^ b,
                    LSH => a << (b & 31),
                    RSH => a >> (b & 31),
                    _ => a.wrapping_neg(),
                }
            }
            JMP if i.code & 0xf0 == JA => pc += i.k as usize,
            JMP => {
                let taken = match i.code & 0xf0 {
                    JEQ => a == b,
                    JGT => a > b,
                    JGE => a >= b,
                    _ => a & b != 0,
                };
                pc += usize::from(if taken { i.jt } else { i.jf });
            }
            RET => return Some(if i.code & 0x18 == A { a } else { i.k }),
            _ if i.code & TXA != 0 => a = x,
            _ => x = a,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_interpreter_does_what_the_definition_says(
        words in proptest::collection::vec((0u16..0x100, 0u8..4, 0u8..4, prop_oneof![0u32..20, any::<u32>()]), 0..24),
        data in proptest::collection::vec(any::<u8>(), 0..24),
    ) {
        let ret = s(RET | A, 0);
        let mut insns: Vec<Insn> = Vec::new();
        for (code, jt, jf, k) in words {
            // Only instructions that are valid at the end of a program: jumps go into the returns that follow.
            let insn = Insn { code, jt, jf, k: if code & 7 == JMP && code & 0xf0 == JA { k % 4 } else { k } };
            let mut all = insns.clone();
            all.push(insn);
            all.extend([ret; 5]);
            if build(&all).is_ok() {
                insns.push(insn);
            }
        }
        insns.extend([ret; 5]);
        let data = Bytes(data);
        if let Ok(program) = build(&insns) {
            prop_assert_eq!(program.run(&data), model(&insns, &data));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_run_to_an_end(
        words in proptest::collection::vec(any::<(u16, u8, u8, u32)>(), 0..16),
    ) {
        let insns: Vec<Insn> = words.into_iter().map(|(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
        if let Ok(program) = build(&insns) {
            let _ = program.run(&Bytes(vec![0; 64]));
        }
    }
}
