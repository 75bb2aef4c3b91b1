//! The auxiliary vector of a program, as the kernel has put it on its stack: between the environment's pointers and its
//! strings, found by walking from the stack's start.

use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::TryVec;
use mm::remote::{RemoteBuf, RemoteMode};

/// More than any environment can have.
const LONGEST: usize = 8 << 20;
/// No more entries than the kernel ever writes.
const ENTRIES: usize = 64;

/// The vector with its end mark; empty if the program has overwritten what leads there.
///
/// # Errors
/// `EIO`: the stack is gone. `ENOMEM`.
pub fn read(space: &AddressSpace) -> Result<Vec<u8>> {
    let mut words = Words { space, at: space.layout.start_stack.load(Ordering::Relaxed) };
    let argc = words.next().ok_or(Errno::EIO)?;
    // Arguments with their null pointer, then the environment up to its own.
    words.at = words.at.saturating_add(argc.saturating_add(1).saturating_mul(8));
    let mut out = Vec::new();
    for _ in 0..LONGEST {
        match words.next() {
            Some(0) => break,
            Some(_) => {}
            None => return Ok(out),
        }
    }
    for _ in 0..ENTRIES {
        let (Some(kind), Some(value)) = (words.next(), words.next()) else { break };
        out.try_extend_from_slice(&kind.to_ne_bytes())?;
        out.try_extend_from_slice(&value.to_ne_bytes())?;
        if kind == 0 {
            break;
        }
    }
    Ok(out)
}

struct Words<'a> {
    space: &'a AddressSpace,
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<usize> {
        let mut bytes = [0u8; 8];
        let got = self.space.access_remote(self.at, RemoteBuf::Read(&mut bytes), RemoteMode::Force);
        self.at = self.at.checked_add(8)?;
        (got == 8).then(|| usize::from_ne_bytes(bytes))
    }
}
