//! The block layer: from file systems and their page caches down to drivers of disks.
//!
//! | file | what |
//! |---|---|
//! | [`bio`] | what is asked of a device: memory, sectors, what to do |
//! | [`limits`] | what the device can do |
//! | [`request`] | bios joined to what a driver gets, with a tag |
//! | `split` | bios that are too big |
//! | `tags`, `usage` | numbers for requests; who is inside |
//! | [`plug`] | requests held back to become more |
//! | [`elevator`] | I/O schedulers |
//! | [`queue`] | the way of a request; dispatch, flushes, time-outs |
//! | [`disk`] | disks and partitions as devices: numbers, sizes, who has them open, statistics |
//! | [`partition`] | tables of partitions: MBR, GPT |
//! | [`driver`] | what a driver implements, and the batch that it gets |
//!
//! The design is Linux's multi-queue block layer (Bjørling, Axboe, Nellans, Bonnet: *Linux Block IO: Introducing Multi-queue SSD Access on
//! Multi-core Systems*, SYSTOR 2013). A request is a box with one owner at a time: submitter, scheduler, dispatcher, driver. In flight it lies
//! in a place by its tag, and whoever takes it out of there, an interrupt or a time-out, is the one who ends it.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bio;
pub mod disk;
pub mod driver;
pub mod elevator;
pub mod limits;
pub mod partition;
pub mod plug;
pub mod queue;
pub mod request;
mod split;
mod tags;
mod usage;

#[cfg(test)]
mod testing;

pub use bio::{Bio, End, EndIo, Op, OpFlags, Status};
pub use disk::{BlockDevice, Disk};
pub use driver::{Batch, Driver, Shape};
pub use limits::{Features, Limits};
pub use plug::Plug;
pub use queue::Queue;
pub use request::Request;
