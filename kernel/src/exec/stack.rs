//! The first stack of a program: strings, auxiliary vector, pointers, and the vDSO that the vector points to.
//!
//! From the top down: eight zero bytes, the file name, environment strings, argument strings, the platform's name,
//! 16 random bytes, and below them, aligned to 16: auxiliary vector, environment pointers, argument pointers, their
//! count. The new memory is already the running one, so everything is an ordinary copy to user space.
//! getauxval(3).

use super::args::Vectors;
use super::binfmt::Exec;
use crate::process::current;
use abi::Result;
use abi::raw_sys::auxvec;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::{TryVec, try_arc, try_with_capacity};
use mm::space::{AUXV_WORDS, Limits};
use mm::user::copy_to_user;
use zerocopy::IntoBytes;

/// What the loader found out.
pub struct Aux {
    /// `AT_PHDR`.
    pub phdr: usize,
    /// `AT_PHNUM`.
    pub phnum: usize,
    /// `AT_ENTRY`: the program's own.
    pub entry: usize,
    /// `AT_BASE`: where the loader is.
    pub base: usize,
    /// `AT_SYSINFO_EHDR`: the vDSO; 0 for none.
    pub vdso: usize,
    /// `AT_SECURE`.
    pub secure: bool,
}

/// Room that is mapped at once below what the strings need.
const INITIAL_ROOM: usize = 128 * 1024;

/// Bytes of stack to map for `strings` bytes of strings and `pointers` pointers.
pub fn initial_size(strings: usize, pointers: usize) -> usize {
    (strings + (pointers + 64) * 8 + PAGE_SIZE + INITIAL_ROOM).next_multiple_of(PAGE_SIZE)
}

/// Maps the vDSO with its data page in front; 0 if this machine has none.
///
/// # Errors
/// `ENOMEM`.
pub fn map_vdso(space: &AddressSpace, limits: &Limits, hint: usize) -> Result<usize> {
    let base = mm::vdso::map(space, hint, limits)?;
    space.layout.vdso.store(base, Ordering::Relaxed);
    Ok(base)
}

/// Writes to the stack from one address upward.
struct Writer {
    at: usize,
}

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        copy_to_user(self.at, bytes)?;
        self.at += bytes.len();
        Ok(())
    }
}

/// Calls `f` with the offset of each string in the pieces that `pieces` supplies.
fn string_offsets(
    pieces: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    mut f: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    let mut start = 0;
    pieces(&mut |piece| {
        for byte in piece {
            offset += 1;
            if *byte == 0 {
                f(start)?;
                start = offset;
            }
        }
        Ok(())
    })
}

/// Writes everything; returns the stack pointer.
///
/// # Errors
/// `EFAULT`, `ENOMEM`.
pub fn write(space: &Arc<AddressSpace>, exec: &Exec<'_>, aux: &Aux, top: usize) -> Result<usize> {
    let vectors = &exec.vectors;
    let platform = arch::elf::PLATFORM.as_bytes();
    let filename_at = top - 8 - (exec.filename.len() + 1);
    let env_at = filename_at - vectors.envp.len();
    let args_at = env_at - vectors.args_len();
    let platform_at = (args_at - (platform.len() + 1)) & !15;
    let random_at = (platform_at - 16) & !15;

    let mut w = Writer { at: args_at };
    vectors.for_each_arg_piece(|p| w.bytes(p))?;
    vectors.envp.for_each_piece(0, |p| w.bytes(p))?;
    w.bytes(&exec.filename)?;
    w.bytes(&[0; 9])?;
    let mut w = Writer { at: platform_at };
    w.bytes(platform)?;
    w.bytes(&[0])?;
    let mut random = [0u8; 16];
    crate::misc::random::fill(&mut random);
    copy_to_user(random_at, &random)?;

    let list = aux_vector(aux, platform_at, random_at, filename_at)?;
    let words = 1 + vectors.argc() + 1 + vectors.envp.count() + 1 + list.len();
    let sp = (random_at - words * 8) & !15;
    write_pointers(vectors, &list, sp, args_at, env_at)?;

    let layout = &space.layout;
    layout.start_stack.store(sp, Ordering::Relaxed);
    layout.arg_start.store(args_at, Ordering::Relaxed);
    layout.arg_end.store(env_at, Ordering::Relaxed);
    layout.env_start.store(env_at, Ordering::Relaxed);
    layout.env_end.store(filename_at, Ordering::Relaxed);
    let mut auxv = [0; AUXV_WORDS];
    for (word, value) in auxv.iter_mut().zip(&list) {
        *word = *value;
    }
    space.set_auxv(try_arc(auxv)?);
    Ok(sp)
}

fn write_pointers(vectors: &Vectors, list: &[usize], sp: usize, args_at: usize, env_at: usize) -> Result<()> {
    let count = 3 + vectors.argc() + vectors.envp.count() + list.len();
    let mut words: Vec<usize> = try_with_capacity(count)?;
    words.try_push(vectors.argc())?;
    string_offsets(|f| vectors.for_each_arg_piece(f), |offset| Ok(words.try_push(args_at + offset)?))?;
    words.try_push(0)?;
    string_offsets(|f| vectors.envp.for_each_piece(0, f), |offset| Ok(words.try_push(env_at + offset)?))?;
    words.try_push(0)?;
    words.try_extend_from_slice(list)?;
    copy_to_user(sp, words.as_slice().as_bytes())
}

/// The auxiliary vector, in Linux's order.
fn aux_vector(aux: &Aux, platform_at: usize, random_at: usize, filename_at: usize) -> Result<Vec<usize>> {
    let me = current();
    let ids = me.with_cred(|c| {
        let ns = &c.user_ns;
        [ns.from_uid(c.uid), ns.from_uid(c.euid), ns.from_gid(c.gid), ns.from_gid(c.egid)]
            .map(|id| id as usize)
    });
    let mut list = try_with_capacity(48)?;
    let mut put = |kind: u32, value: usize| {
        list.push_reserved(kind as usize);
        list.push_reserved(value);
    };
    if aux.vdso != 0 {
        put(auxvec::AT_SYSINFO_EHDR, aux.vdso);
    }
    put(auxvec::AT_MINSIGSTKSZ, arch::cpu::min_sigstack_size());
    put(auxvec::AT_HWCAP, arch::cpu::hwcap());
    put(auxvec::AT_PAGESZ, PAGE_SIZE);
    put(auxvec::AT_CLKTCK, abi::time::USER_HZ as usize);
    put(auxvec::AT_PHDR, aux.phdr);
    put(auxvec::AT_PHENT, super::elf::PHDR_SIZE);
    put(auxvec::AT_PHNUM, aux.phnum);
    put(auxvec::AT_BASE, aux.base);
    put(auxvec::AT_FLAGS, 0);
    put(auxvec::AT_ENTRY, aux.entry);
    put(auxvec::AT_UID, ids[0]);
    put(auxvec::AT_EUID, ids[1]);
    put(auxvec::AT_GID, ids[2]);
    put(auxvec::AT_EGID, ids[3]);
    put(auxvec::AT_SECURE, aux.secure.into());
    put(auxvec::AT_RANDOM, random_at);
    put(auxvec::AT_HWCAP2, arch::cpu::hwcap2());
    put(auxvec::AT_EXECFN, filename_at);
    put(auxvec::AT_PLATFORM, platform_at);
    put(auxvec::AT_RSEQ_FEATURE_SIZE, crate::misc::rseq::FEATURE_SIZE);
    put(auxvec::AT_RSEQ_ALIGN, crate::misc::rseq::ALIGN);
    put(auxvec::AT_NULL, 0);
    Ok(list)
}
