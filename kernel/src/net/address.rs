//! Socket addresses in user memory.

use abi::socket::SOCKADDR_MAX;
use abi::{Errno, Result};
use mm::user::{UserPtr, UserSlice};
use socket::SocketAddr;

/// Reads an address of `len` bytes.
///
/// # Errors
/// `EINVAL` for a length that no address has, `EFAULT`.
pub(super) fn read(addr: usize, len: i32) -> Result<SocketAddr> {
    let len = usize::try_from(len).ok().filter(|len| *len <= SOCKADDR_MAX).ok_or(Errno::EINVAL)?;
    let mut bytes = [0; SOCKADDR_MAX];
    let part = bytes.get_mut(..len).ok_or(Errno::EINVAL)?;
    UserSlice::<u8>::new(addr, len).copy_to(part)?;
    SocketAddr::new(part)
}

/// Writes as much of an address as the user has room for, and how long it is.
///
/// # Errors
/// `EINVAL` for a negative room, `EFAULT`.
pub(super) fn write(from: &SocketAddr, addr: usize, len: UserPtr<i32>) -> Result<()> {
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let bytes = from.bytes();
    let count = bytes.len().min(room);
    UserSlice::<u8>::new(addr, count).copy_from(bytes.get(..count).unwrap_or_default())?;
    len.write(&(bytes.len() as i32))
}
