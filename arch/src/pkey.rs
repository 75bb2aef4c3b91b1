//! Protection keys: each page of user memory may carry one of 16 numbers, and a register of the thread says what it may do
//! with the pages of each. `pkeys(7)`.
//!
//! The register is part of the thread's state and is live whenever the thread runs, in the kernel too: what the kernel
//! copies from and to the thread's memory is checked by the processor as the thread's own accesses are. Instruction
//! fetches are never checked.

pub use crate::imp::pkey::*;

/// How many keys there are where there are any.
pub const KEYS: u8 = 16;

/// A key: below [`KEYS`].
pub type Key = u8;

/// `PKEY_DISABLE_ACCESS`: neither loads nor stores.
pub const DISABLE_ACCESS: u32 = 1;
/// `PKEY_DISABLE_WRITE`: no stores.
pub const DISABLE_WRITE: u32 = 2;

/// What a thread may do with the pages of each key: two bits for every key, from key 0 upwards, of [`DISABLE_ACCESS`] and
/// [`DISABLE_WRITE`] (the layout of PKRU).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRights(pub u32);

impl KeyRights {
    /// Everything, with all keys.
    pub const ALL: Self = Self(0);
    /// What a program and a signal handler begin with: everything with key 0, and no access with any other.
    pub const FRESH: Self = Self(0x5555_5554);

    const fn shift(key: Key) -> u32 {
        (key & (KEYS - 1)) as u32 * 2
    }

    /// Whether pages of `key` may be read, or written.
    #[inline]
    pub const fn allow(self, key: Key, write: bool) -> bool {
        let bits = self.0 >> Self::shift(key);
        bits & DISABLE_ACCESS == 0 && (!write || bits & DISABLE_WRITE == 0)
    }

    /// With `restrictions` ([`DISABLE_ACCESS`], [`DISABLE_WRITE`]) as the only ones of `key`.
    pub const fn with(self, key: Key, restrictions: u32) -> Self {
        let both = DISABLE_ACCESS | DISABLE_WRITE;
        Self(self.0 & !(both << Self::shift(key)) | (restrictions & both) << Self::shift(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_by_key() {
        assert!(KeyRights::FRESH.allow(0, true));
        for key in 1..KEYS {
            assert!(!KeyRights::FRESH.allow(key, false) && !KeyRights::FRESH.allow(key, true));
            let readable = KeyRights::FRESH.with(key, DISABLE_WRITE);
            assert!(readable.allow(key, false) && !readable.allow(key, true));
            let open = readable.with(key, 0);
            assert!(open.allow(key, true));
            assert_eq!(open.with(key, DISABLE_ACCESS), KeyRights::FRESH);
        }
        assert!(KeyRights::ALL.allow(15, true));
    }
}
