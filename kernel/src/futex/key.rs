//! What names a futex, and where it hashes to.

use crate::process::current;
use abi::{Errno, Result};
use arch::addr::PAGE_SHIFT;
use mm::remote::FutexKey;

/// Whether a futex may be shared between address spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `FUTEX_PRIVATE_FLAG`: this address space only.
    Private,
    /// Any process that maps the same memory.
    Shared,
}

/// The identity of a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Key {
    /// A word of one address space: its identity and the address.
    Private {
        /// Number of the address space.
        mm: u64,
        /// User address.
        addr: usize,
    },
    /// A word of a shared object.
    Shared {
        /// Identity of the object (page cache mapping).
        object: u64,
        /// Byte offset in it.
        offset: u64,
    },
}

impl Key {
    /// The key of the word at `addr` in the running process.
    ///
    /// # Errors
    /// `EINVAL` for a misaligned address, `EFAULT` for one that is not mapped (or not user space).
    pub fn of(addr: usize, scope: Scope) -> Result<Self> {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !mm::user::access_ok(addr, 4) {
            return Err(Errno::EFAULT);
        }
        let me = current();
        if scope == Scope::Private {
            let guard = sched::rcu::read_lock();
            let mm = me.mm.load(&guard).ok_or(Errno::EFAULT)?;
            return Ok(Self::Private { mm: mm.id(), addr });
        }
        let mm = me.mm().ok_or(Errno::EFAULT)?;
        Ok(match mm.futex_key(addr, true)? {
            FutexKey::Private(mm, addr) => Self::Private { mm, addr },
            FutexKey::Shared(object, index, offset) => {
                Self::Shared { object, offset: index << PAGE_SHIFT | u64::from(offset) }
            }
        })
    }

    /// A well-mixed hash; buckets take its upper bits.
    pub fn hash(&self) -> u64 {
        let (a, b) = match *self {
            Self::Private { mm, addr } => (mm, addr as u64 >> 2),
            Self::Shared { object, offset } => (object.wrapping_add(1), offset >> 2),
        };
        // One round of multiply-xor per word; constants are odd and close to 2^64 divided by the golden ratio.
        let x = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ x >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_spread() {
        // The words of one page, and the same address in many processes, fill the buckets evenly.
        for keys in [
            (0..4096).map(|i| Key::Private { mm: 77, addr: 0x7f00_0000_0000 + i * 4 }).collect::<Vec<_>>(),
            (0..4096).map(|i| Key::Private { mm: i, addr: 0x7f12_3456_7000 }).collect(),
            (0..4096).map(|i| Key::Shared { object: 77, offset: i as u64 * 64 }).collect(),
        ] {
            let mut buckets = [0; 256];
            for k in &keys {
                buckets[(k.hash() >> 56) as usize] += 1;
            }
            assert!(*buckets.iter().max().unwrap() < 48, "{buckets:?}");
        }
    }

    #[test]
    fn different_words_differ() {
        let a = Key::Private { mm: 1, addr: 8 };
        assert_ne!(a, Key::Private { mm: 1, addr: 4 });
        assert_ne!(a, Key::Private { mm: 2, addr: 8 });
        assert_ne!(a, Key::Shared { object: 1, offset: 8 });
    }
}
