//! Restrictions that threads put on themselves: landlock(7), `landlock_*(2)`; ABI version 6.
//!
//! A [`Ruleset`] is built through its descriptor: which rights it handles, and rules that give some of them back below a
//! directory or for a port. [`Domain`] is what a thread gets by `landlock_restrict_self`: the rules of up to sixteen
//! rulesets, one layer each. A right is granted when every layer that handles it has a rule that gives it on the way from
//! the place up to the root. A domain is immutable and lives in the credentials, so children inherit it and exec keeps it.
//!
//! | file | matter |
//! |---|---|
//! | [`ruleset`] | rulesets and their descriptors |
//! | [`domain`] | domains, how they nest |
//! | [`layers`] | which layers still deny which rights; the rule for moves between directories |
//! | [`files`] | walking up from a place; what the file layer asks through [`vfs::security`] |
//! | [`syscalls`] | the three calls |
//!
//! Rules name inodes and keep them, and with them their file system in memory, as long as the domain lives.

pub mod domain;
pub mod files;
pub mod layers;
pub mod ruleset;
pub mod syscalls;

pub use domain::Domain;
pub use ruleset::Ruleset;

/// Most rulesets on top of each other.
pub const MAX_LAYERS: usize = 16;

/// What a layer handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub files: vfs::security::Rights,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub net: u16,
    /// `LANDLOCK_SCOPE_*`.
    pub scoped: u8,
}

/// `LANDLOCK_ACCESS_NET_BIND_TCP`, `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
pub const NET_RIGHTS: u16 = 3;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
pub const SCOPE_ABSTRACT_UNIX_SOCKET: u8 = 1;
/// `LANDLOCK_SCOPE_SIGNAL`.
pub const SCOPE_SIGNAL: u8 = 2;
