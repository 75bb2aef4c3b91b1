//! A plug: bios that their submitter holds back for a moment, so that those behind can join them and the driver gets many at once.
//!
//! Who submits many bios in a row makes one, passes it along, and finishes it before it waits for any of them. A plug holds nothing that
//! others could wait for: tags are taken when it lets go.

use alloc::sync::Arc;

use collections::fifo::{Chained, Fifo};

use crate::bio::Bio;
use crate::queue::Queue;

/// So many bios are held back at most.
const MOST: usize = 32;

/// Bios that are held back, for one device at a time.
#[derive(Default)]
pub struct Plug {
    queue: Option<Arc<Queue>>,
    list: Fifo<Bio>,
}

impl Plug {
    /// Nothing is held back yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all go that is held back.
    pub fn flush(&mut self) {
        let list = core::mem::take(&mut self.list);
        if let Some(queue) = self.queue.take() {
            queue.submit_all(list);
        }
    }

    /// The same, at the end.
    pub fn finish(mut self) {
        self.flush();
    }

    /// Holds a bio back.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, bio: Chained<Bio>) {
        if !self.queue.as_ref().is_some_and(|of| Arc::ptr_eq(of, queue)) {
            self.flush();
            self.queue = Some(queue.clone());
        }
        self.list.push_back(bio);
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
