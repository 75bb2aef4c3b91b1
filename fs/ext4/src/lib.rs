//! ext4, and with it ext3 and ext2: the file system, as Linux's `ext4` driver serves all three. `ext4(5)`.
//!
//! | what | module |
//! |---|---|
//! | the format on the device, checksums, hashes | [`disk`] |
//!
//! The format is documented in the kernel's *Documentation/filesystems/ext4*.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod dir_write;
pub mod disk;
pub mod extent_write;
pub mod layout;
pub mod messages;
pub mod ops;
pub mod orphan;
pub mod raw;
pub mod space;
pub mod tx;
pub mod volume;
pub mod xattr_write;

#[cfg(test)]
mod write_tests;
