//! Disks and their partitions, as those see them who use them: devices with a number, a name, and so many sectors.
//!
//! | file | what |
//! |---|---|
//! | `device` | [`BlockDevice`]: a whole disk or a partition; transfers to it |
//! | `sync_io` | transfers that somebody waits for: bytes, flushes, discards, zeroes |
//! | `gendisk` | [`Disk`]: what a driver makes of its device; coming and going |
//! | `parts` | partitions: found, added, taken away |
//! | `open` | who has a device open, and who has it for itself |
//! | `registry` | numbers and names |
//! | [`stat`] | what was transferred |
//!
//! A driver makes a [`crate::Queue`], a [`Disk`] over it, says how large it is, and [adds](Disk::add) it: it gets its numbers, its partitions
//! are looked for, and the [`Observer`] makes it visible. A [`BlockDevice`] stays as long as somebody has it, also if the disk is
//! [removed](Disk::remove): transfers to it fail then.
//!
//! # Locks
//!
//! `Disk::opening` (sleeping: opens, closes, changes of partitions) → page caches, queues. The table of partitions and the registry are
//! spin locks under which nothing else is taken.

mod device;
mod gendisk;
mod open;
mod parts;
mod registry;
pub mod stat;
mod sync_io;

#[cfg(test)]
mod tests;

pub use device::BlockDevice;
pub use gendisk::{After, Attribute, Call, Disk, DiskOps, Event, Geometry, Numbers, Removal, Spec, letters};
pub use open::{Access, Claim, Holder, HolderId, Opened};
pub use registry::{
    BLKEXT_MAJOR, LOOP_MAJOR, Observer, RAM_MAJOR, SD_MAJOR, all, by_name, by_number, majors, register_major,
    set_observer,
};
pub use sync_io::Zeroing;
