//! A plug: requests that their submitter holds back for a moment, so that those behind can join them and the driver gets many at once.
//!
//! Who submits many bios in a row makes one, passes it along, and finishes it. It may not sleep for what it has plugged itself before that; the
//! block layer does not.

use alloc::boxed::Box;
use alloc::sync::Arc;

use collections::fifo::Fifo;

use crate::bio::Bio;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::request::Request;

/// So many requests are held back at most.
const MOST: usize = 32;

/// Requests that are held back, for one device at a time.
#[derive(Default)]
pub struct Plug {
    queue: Option<Arc<Queue>>,
    list: Fifo<Request>,
}

impl Plug {
    /// Nothing is held back yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all go that is held back.
    pub fn flush(&mut self) {
        let list = core::mem::take(&mut self.list);
        if let Some(queue) = self.queue.take().filter(|_| !list.is_empty()) {
            queue.insert_plugged(list);
        }
    }

    /// The same, at the end.
    pub fn finish(mut self) {
        self.flush();
    }

    /// Adds a bio to the youngest request, if it fits there: sequential submitters find it at once.
    pub(crate) fn merge(
        &mut self,
        queue: &Arc<Queue>,
        bio: Box<Bio>,
        segments: u32,
        limits: &Limits,
    ) -> Result<(), Box<Bio>> {
        if !self.queue.as_ref().is_some_and(|of| Arc::ptr_eq(of, queue)) {
            return Err(bio);
        }
        let Some(request) = self.list.back_mut() else { return Err(bio) };
        match request.can_merge(&bio, segments, limits) {
            Some(side) => {
                request.merge(bio, segments, side);
                Ok(())
            }
            None => Err(bio),
        }
    }

    /// Holds a request back.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, request: Box<Request>) {
        if !self.queue.as_ref().is_some_and(|of| Arc::ptr_eq(of, queue)) {
            self.flush();
            self.queue = Some(queue.clone());
        }
        self.list.push_back(request);
        if self.list.len() >= MOST {
            self.flush();
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.flush();
    }
}
