//! Classic BPF: the verifier, the decoder and the interpreter behind seccomp and socket filters.
//!
//! A program is a list of [`Insn`]s as user space passes them. [`Program::new`] checks it (every jump goes forward to an
//! instruction, every path ends in a return, scratch memory is written before it is read, so a run ends after at most as
//! many steps as there are instructions) and decodes it once into [`Op`](decode::Op)s, of which the interpreter
//! executes one per step without looking at an encoding again. What a program looks at is [`Data`]; what
//! a user of this crate does not want to allow, it refuses through the function it gives to `new`.
//!
//! Owns no packets and knows no system calls. Source: "Linux Socket Filtering aka Berkeley Packet Filter" of the
//! kernel's user documentation, bpf(4).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod code;
mod decode;
mod run;
#[cfg(test)]
mod tests;
mod verify;

use alloc::vec::Vec;

/// Longest program (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
pub const MEM_WORDS: usize = 16;

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, size, mode or operation, source: see [`code`].
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Constant, offset or index.
    pub k: u32,
}

/// Why a program is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It breaks a rule.
    Invalid,
    /// No memory to decode it.
    NoMemory,
}

/// How much a load fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

/// What a program reads.
pub trait Data {
    /// Its length in bytes (`BPF_LEN`).
    fn len(&self) -> u32;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `offset`, which the program chooses freely. `None` ends the program without a result.
    fn load(&self, offset: u32, width: Width) -> Option<u32>;

    /// The fact that an absolute load at [`code::ANCILLARY`] plus `fact` asks for, with the registers as they are. `None` ends the
    /// program without a result.
    fn ancillary(&self, fact: u32, a: u32, x: u32) -> Option<u32> {
        let _ = (fact, a, x);
        None
    }
}

/// A checked and decoded program.
#[derive(Debug)]
pub struct Program {
    ops: Vec<decode::Op>,
}

impl Program {
    /// Checks and decodes `insns`; `allowed` may refuse instructions that are valid in general.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(insns: &[Insn], allowed: impl Fn(&Insn) -> bool) -> Result<Self, Error> {
        verify::check(insns)?;
        if !insns.iter().all(allowed) {
            return Err(Error::Invalid);
        }
        Ok(Self { ops: decode::decode(insns)? })
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Never: a program has a return at least.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
