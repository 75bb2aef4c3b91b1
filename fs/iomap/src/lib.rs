//! Files over extents: the page cache of a file system that knows where bytes lie on its device, and nothing else.
//!
//! | file | what |
//! |---|---|
//! | [`extent`] | [`Mapper`], which a file system implements for each inode; [`Extent`] |
//! | [`ops`] | [`IomapOps`]: the page cache's side |
//! | `read` | folios are read: large bios over contiguous extents, several under way |
//! | `write` | dirty folios are written; what is to be done behind that |
//! | [`ending`] | the same, in threads |
//! | [`direct`] | transfers between a user's memory and the device |
//! | [`zero`] | parts of blocks become zero |
//! | [`seek`], [`fiemap`] | where there is data |
//!
//! The division of labour is that of Linux's `fs/iomap` (`Documentation/filesystems/iomap`): a file system answers "where are these
//! bytes", for one purpose or another, and all transfers are made here.
//!
//! # A block smaller than a page
//!
//! A folio is read or dirty as a whole, but each of its blocks is mapped by itself: a folio that lies in several extents has a part in several
//! bios, and is over when the last of them is. Blocks of a dirty folio that are a hole are not written: what was stored in them has a
//! reservation.
//!
//! # Interrupts
//!
//! Bios end in interrupts. There folios are unlocked and write-backs ended; what calls the file system again (unwritten extents, sizes) is left
//! to a thread, and only that holds the [`Mapper`]: its last reference must not be dropped in an interrupt.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod direct;
pub mod ending;
pub mod extent;
pub mod fiemap;
pub mod ops;
mod pieces;
mod read;
pub mod seek;
mod write;
pub mod zero;

#[cfg(test)]
mod tests;

pub use direct::{direct_read, direct_write};
pub use ending::Endings;
pub use extent::{Extent, Kind, Mapper, Purpose};
pub use fiemap::fiemap;
pub use ops::{IomapOps, new_mapping};
pub use seek::{seek_data, seek_hole};
pub use zero::{truncate_page, zero_range};
