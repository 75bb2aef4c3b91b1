//! The initramfs: the first files of the system, from an archive that the boot loader put into memory.
//!
//! | file | what it does |
//! |---|---|
//! | [`unpack`](unpack()) | walks the archives and makes files through `vfs` |
//! | [`decompress`] | gzip, zstd, xz and lz4 as streams in bounded memory |
//!
//! The archive format itself is `lib/cpio`.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod decompress;
mod unpack;

pub use unpack::{Failure, unpack};
