//! The types of keys.

use abi::{Errno, Result};

/// A type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any bytes, readable.
    User,
    /// Any bytes for the kernel alone; the description says who uses them: `SERVICE:NAME`.
    Logon,
    /// Other keys.
    Keyring,
    /// Up to a mebibyte.
    BigKey,
}

/// What a big key costs of a user's quota, whatever its size.
const BIG_KEY_QUOTA: usize = 16;
const BIG_KEY_MAX: usize = 1024 * 1024;
const USER_MAX: usize = 32767;

impl Kind {
    /// By name.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        [Self::User, Self::Logon, Self::Keyring, Self::BigKey]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Logon => "logon",
            Self::Keyring => "keyring",
            Self::BigKey => "big_key",
        }
    }

    /// Whether the payload can be read by users.
    pub fn is_readable(self) -> bool {
        self != Self::Logon
    }

    /// Whether the payload can be replaced.
    pub fn is_updatable(self) -> bool {
        self != Self::Keyring
    }

    /// What a payload of `len` bytes costs of the quota.
    ///
    /// # Errors
    /// `EINVAL`: not with this length.
    pub fn check_payload(self, len: usize) -> Result<usize> {
        match self {
            Self::User | Self::Logon if (1..=USER_MAX).contains(&len) => Ok(len),
            Self::BigKey if (1..=BIG_KEY_MAX).contains(&len) => Ok(BIG_KEY_QUOTA),
            Self::Keyring if len == 0 => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether a new key may be called that.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check_description(self, description: &[u8]) -> Result<()> {
        let service = || description.iter().position(|b| *b == b':').is_some_and(|at| at > 0);
        let fits = !description.is_empty() && (self != Self::Logon || service());
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
