//! Where new blocks and inodes are, and how they are freed.
//!
//! | what | module |
//! |---|---|
//! | bitmaps | [`bits`] |
//! | groups: descriptors, bitmaps, what is known of them in memory | [`group`] |
//! | how much is free, and for whom | [`counter`] |
//! | which group has a run of some length | [`index`] |
//! | blocks: taking and giving back | [`blocks`], [`free`] |
//! | inodes: taking and giving back | [`inodes`], [`choose`] |
//!
//! # Why no buddy
//!
//! Linux keeps two pages for each group that it allocates from: the bitmap of what is free, and a buddy bitmap, that is changed with every
//! allocation. Here a group has one: the bits of what must not be taken (on the device in use, or freed by a change that is
//! not on the device yet), in words. A search goes through the runs of a group from the goal on: at most 512 words, most of
//! which are skipped whole, and finds runs that are no powers of two as well. What the buddy is for, finding the *group*, does
//! [`index`]: for each order a bitmap of groups that may have so long a run. It is read without a lock, 64 groups at once, and is an
//! upper bound: a search that found less corrects it.
//!
//! # Locks
//!
//! Each group has a mutex for its bitmaps and its descriptor. No lock is held for two groups, and none for all. Order: group, then a
//! buffer's contents. Counts for decisions are atomic and read without a lock.

pub mod bits;
pub mod blocks;
pub mod choose;
pub mod counter;
pub mod free;
pub mod group;
pub mod index;
pub mod inodes;

pub use blocks::{Request, Run};
pub use counter::{Reserve, Space};
pub use group::Groups;
