//! I/O schedulers ("elevators"): in which order requests go to the device.
//!
//! A scheduler keeps the requests of all hardware queues of a device. It is asked for as many as the device has room for in one call, under
//! one lock: [`Elevator::dispatch`].
//!
//! | file | what | for |
//! |---|---|---|
//! | [`deadline`] | `mq-deadline`: by sector, but nobody waits too long | disks, and devices without many queues |
//! | [`kyber`] | few tokens for writes, so that reads stay fast | fast devices with many queues |
//! | [`bfq`] | shares of the device for processes, by weight | interactive use of slow devices |
//! | `gate` | how many requests that nobody waits for may be made | |
//! | `kick` | having a hardware queue run again | |
//!
//! A scheduler may hold back what it has: until something ends, or until a timer of its own expires. It then has the hardware queue run again
//! through its [`Kick`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::fifo::{Chained, Fifo};

use crate::bio::{Bio, Op, OpFlags};
use crate::limits::Limits;
use crate::request::Request;

pub mod bfq;
pub mod deadline;
pub(crate) mod gate;
mod kick;
pub mod kyber;
#[cfg(test)]
pub(crate) mod testing;

pub use gate::Limit;
pub use kick::Kick;

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

    /// The same with requests that have waited elsewhere already: they go before others of their kind.
    fn insert_first(&self, requests: &mut Fifo<Request>) {
        self.insert(requests);
    }

    /// Moves up to `most` requests to the end of `to`, in the order in which they are to go.
    fn dispatch(&self, hw: usize, to: &mut Fifo<Request>, most: usize, now_ns: u64);

    /// Whether [`dispatch`](Self::dispatch) would find something for this hardware queue. Without a lock, may be a little late.
    fn has_work(&self, hw: usize) -> bool;

    /// Moves all requests that wait for this hardware queue, or for any, to the end of `to`: there is no device any more.
    fn drain(&self, hw: usize, to: &mut Fifo<Request>);

    /// A request that it was given is over, whether it dispatched or drained it. In interrupts. Schedulers note in the request what they need to
    /// know then.
    fn completed(&self, _request: &Request) {}

    /// How many requests like this one may be made for a hardware queue, `None`: as many as there are.
    fn limit(&self, _op: Op, _flags: OpFlags) -> Option<Limit> {
        None
    }

    /// It is not in use any more: stops its timers. May sleep.
    fn stop(&self) {}

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
pub const NAMES: [&str; 4] = ["none", "mq-deadline", "kyber", "bfq"];

/// What a scheduler is made for.
pub(crate) struct Place {
    /// Hardware queues.
    pub(crate) queues: usize,
    /// Requests for each of them.
    pub(crate) slots: u32,
    /// Whether it takes the device time to get somewhere.
    pub(crate) rotational: bool,
    pub(crate) kick: Kick,
}

/// A scheduler. `None` stands for "none": requests go to the device as they come.
///
/// # Errors
/// `EINVAL`: nobody knows that name; `ENOMEM`.
pub(crate) fn make(name: &str, place: Place) -> Result<Option<Arc<dyn Elevator>>> {
    match name {
        "none" => Ok(None),
        "mq-deadline" => Ok(Some(deadline::Deadline::new(place)?)),
        "kyber" => Ok(Some(kyber::Kyber::new(place)?)),
        "bfq" => Ok(Some(bfq::Bfq::new(place)?)),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
impl Place {
    pub(crate) fn for_test(queues: usize, slots: u32, rotational: bool) -> Self {
        mm::testing::init();
        Self { queues, slots, rotational, kick: Kick::new(alloc::boxed::Box::default(), None) }
    }
}
