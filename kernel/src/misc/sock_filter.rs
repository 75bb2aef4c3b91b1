//! Programs of classic BPF as users pass them, for seccomp and for sockets: `struct sock_fprog` of `linux/filter.h`.

use abi::seccomp::SockFilter;
use abi::{Errno, Result};
use alloc::vec::Vec;
use cbpf::{Insn, MAX_INSNS};
use mm::user::UserPtr;

/// Reads `len` instructions at `addr`.
///
/// # Errors
/// `EINVAL`: none, too many, or no address; `EFAULT`, `ENOMEM`.
pub fn read(addr: usize, len: u16) -> Result<Vec<Insn>> {
    let len = usize::from(len);
    if len == 0 || len > MAX_INSNS || addr == 0 {
        return Err(Errno::EINVAL);
    }
    let raw = UserPtr::<SockFilter>::new(addr).slice(len).to_vec()?;
    let mut insns = Vec::new();
    insns.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    insns.extend(raw.iter().map(|i| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k }));
    Ok(insns)
}

/// Writes instructions to `addr`.
///
/// # Errors
/// `EFAULT`.
pub fn write(addr: usize, insns: &[Insn]) -> Result<()> {
    let to = UserPtr::<SockFilter>::new(addr).slice(insns.len());
    for (index, i) in insns.iter().enumerate() {
        to.write_at(index, &SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })?;
    }
    Ok(())
}
