//! The auxiliary vector that an address space shows of itself: `PR_GET_AUXV`, `PR_SET_MM_AUXV`, getauxval(3).

use abi::{Errno, Result};
use mm::AddressSpace;
use mm::fallible::try_arc;
use mm::space::{AUXV_WORDS, Auxv};
use mm::user::UserSlice;
use zerocopy::{FromZeros, IntoBytes};

/// The part of `auxv` up to and with the entry that ends it.
pub fn used(auxv: &Auxv) -> &[usize] {
    let entries = auxv.chunks_exact(2).take_while(|entry| entry.first() != Some(&0)).count();
    auxv.get(..(entries + 1) * 2).unwrap_or(auxv)
}

/// `PR_GET_AUXV`: copies as much as fits into `len` bytes; the size of all of it.
///
/// # Errors
/// `EFAULT`.
pub fn get(space: &AddressSpace, addr: usize, len: usize) -> Result<usize> {
    let auxv = space.auxv();
    let empty = [0; AUXV_WORDS];
    let bytes = auxv.as_deref().unwrap_or(&empty).as_bytes();
    let part = bytes.get(..len.min(bytes.len())).unwrap_or_default();
    UserSlice::<u8>::new(addr, part.len()).copy_from(part)?;
    Ok(bytes.len())
}

/// Reads a vector of `len` bytes; its end is marked, whatever it says.
///
/// # Errors
/// `EINVAL`: longer than any. `EFAULT`.
pub fn read(addr: usize, len: usize) -> Result<Auxv> {
    let mut auxv = Auxv::new_zeroed();
    let bytes = auxv.as_mut_bytes().get_mut(..len).ok_or(Errno::EINVAL)?;
    UserSlice::<u8>::new(addr, len).copy_to(bytes)?;
    let [.., kind, value] = &mut auxv;
    (*kind, *value) = (0, 0);
    Ok(auxv)
}

/// `PR_SET_MM_AUXV`.
///
/// # Errors
/// As [`read`]; `ENOMEM`.
pub fn set(space: &AddressSpace, addr: usize, len: usize) -> Result<()> {
    space.set_auxv(try_arc(read(addr, len)?)?);
    Ok(())
}
