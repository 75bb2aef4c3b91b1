//! Protocol families: which `socket(2)` arguments lead to which code.

use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::sync::SpinLock;

use crate::ops::SocketOps;
use crate::socket::Kind;

/// What `socket(2)` asked for, apart from the family.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// `SOCK_*`.
    pub kind: Kind,
    /// The third argument.
    pub number: i32,
}

/// A protocol family.
pub trait Family: Send + Sync {
    /// `AF_*`.
    fn number(&self) -> u16;

    /// Makes a socket.
    ///
    /// # Errors
    /// `ESOCKTNOSUPPORT` for a type, `EPROTONOSUPPORT` for a protocol that the family does not have.
    fn create(&self, protocol: Protocol) -> Result<Arc<dyn SocketOps>>;

    /// Makes two connected sockets (`socketpair(2)`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the family has no pairs.
    fn pair(&self, _protocol: Protocol) -> Result<(Arc<dyn SocketOps>, Arc<dyn SocketOps>)> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// Most families that can register; Linux has 46 numbers.
const MOST: usize = 48;

static FAMILIES: SpinLock<[Option<&'static dyn Family>; MOST]> = SpinLock::new([None; MOST]);

/// Makes a family known. The last one registered for a number counts.
pub fn register(family: &'static dyn Family) {
    if let Some(slot) = FAMILIES.lock().get_mut(usize::from(family.number())) {
        *slot = Some(family);
    }
}

/// The family with number `number`.
///
/// # Errors
/// `EAFNOSUPPORT`.
pub fn create(number: i32) -> Result<&'static dyn Family> {
    let index = usize::try_from(number).map_err(|_| Errno::EAFNOSUPPORT)?;
    FAMILIES.lock().get(index).copied().flatten().ok_or(Errno::EAFNOSUPPORT)
}
