//! I/O schedulers ("elevators"): in which order requests go to the device.
//!
//! A scheduler keeps the requests of all hardware queues of a device. It is asked for as many as the device has room for in one call, under
//! one lock: [`Elevator::dispatch`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::fifo::{Chained, Fifo};

use crate::bio::Bio;
use crate::limits::Limits;
use crate::request::Request;

pub mod deadline;

/// A scheduler of one device.
pub trait Elevator: Send + Sync {
    /// Its name, as in `/sys/block/DISK/queue/scheduler`.
    fn name(&self) -> &'static str;

    /// Adds a bio of `segments` pieces to a request that waits, if there is a fitting one.
    ///
    /// # Errors
    /// The bio, if there is not.
    fn merge(&self, bio: Chained<Bio>, segments: u32, limits: &Limits) -> Result<(), Chained<Bio>>;

    /// Takes requests over, each of which has a [`Request::slot`] below the number that the scheduler was made for.
    fn insert(&self, requests: &mut Fifo<Request>);

    /// Moves up to `most` requests to the end of `to`, in the order in which they are to go.
    fn dispatch(&self, hw: usize, to: &mut Fifo<Request>, most: usize, now_ns: u64);

    /// Whether [`dispatch`](Self::dispatch) would find something for this hardware queue. Without a lock, may be a little late.
    fn has_work(&self, hw: usize) -> bool;

    /// A request that it dispatched is over. In interrupts.
    fn completed(&self, _request: &Request) {}

    /// The value of one of its attributes in `/sys/block/DISK/queue/iosched`.
    ///
    /// # Errors
    /// `ENOENT`: there is no such attribute.
    fn get(&self, _attribute: &str) -> Result<u64> {
        Err(Errno::ENOENT)
    }

    /// Changes one.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a value that it cannot have.
    fn set(&self, _attribute: &str, _value: u64) -> Result<()> {
        Err(Errno::ENOENT)
    }

    /// The names of its attributes.
    fn attributes(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The names of all schedulers, in the order in which they are shown.
pub const NAMES: [&str; 2] = ["none", "mq-deadline"];

/// A scheduler for up to `slots` requests on each of `queues` hardware queues. `None` stands for "none": requests go to the device as they come.
///
/// # Errors
/// `EINVAL`: nobody knows that name; `ENOMEM`.
pub(crate) fn make(name: &str, queues: usize, slots: u32) -> Result<Option<Arc<dyn Elevator>>> {
    match name {
        "none" => Ok(None),
        "mq-deadline" => Ok(Some(deadline::Deadline::new(queues, slots)?)),
        _ => Err(Errno::EINVAL),
    }
}
