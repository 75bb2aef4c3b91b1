//! Events: what happens to the areas of a context beside faults.
//!
//! Whoever changes the address space makes an [`Event`] before the change, with `mmap_lock` held, and delivers it afterwards without the
//! lock. The thread goes on when the event was read (or the descriptor is closed, or the thread is killed). Until then the
//! context is [*changing*](Context::is_changing), so that the reader does not put pages where it does not know what is there.

use super::Context;
use crate::context::NoFailScope;
use crate::fallible::{TryVec, try_arc};
use crate::space::AddressSpace;
use crate::vma::{Vma, VmaTree};
use abi::poll::PollEvents;
use abi::raw::{UFFD_FEATURE_EVENT_FORK, UFFD_FEATURE_EVENT_REMOVE, UFFD_FEATURE_EVENT_UNMAP};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};
use sched::wait::{Wait, WaitQueue};

/// What happened.
#[derive(Clone)]
pub enum Change {
    /// A child process has the areas too; its context.
    Fork(Arc<Context>),
    /// Pages were moved.
    Remap {
        /// From here.
        from: usize,
        /// To here.
        to: usize,
        /// Bytes.
        len: usize,
    },
    /// Pages are about to be dropped.
    Remove(Range<usize>),
    /// Areas are gone.
    Unmap(Range<usize>),
}

/// Nobody has read it.
const UNREAD: u8 = 0;
/// A reader is making a descriptor of it.
const OFFERED: u8 = 1;
/// It was read.
const READ: u8 = 2;
/// Its maker does not wait any more.
const GONE: u8 = 3;

/// An event in the list of its context.
pub(crate) struct EventWait {
    change: Change,
    /// Changes under the lock of the context's state.
    stage: AtomicU8,
    queue: WaitQueue,
}

impl EventWait {
    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }

    fn set_stage(&self, stage: u8) {
        self.stage.store(stage, Ordering::Release);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.stage() == UNREAD
    }

    /// The context is closed. Its state is locked.
    pub(super) fn give_up(&self) {
        self.set_stage(GONE);
    }

    pub(super) fn wake(&self) {
        self.queue.wake_all();
    }
}

/// An event that is made and not delivered. While it exists its context is changing.
pub struct Event {
    context: Arc<Context>,
    wait: Arc<EventWait>,
}

impl Drop for Event {
    fn drop(&mut self) {
        self.context.changing.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Event {
    fn new(context: Arc<Context>, change: Change) -> Result<Self> {
        let wait = try_arc(EventWait { change, stage: AtomicU8::new(UNREAD), queue: WaitQueue::new() })?;
        context.changing.fetch_add(1, Ordering::AcqRel);
        Ok(Self { context, wait })
    }

    /// Tells the reader, and waits until it knows. No lock is held.
    #[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
    pub fn deliver(self) {
        let context = &self.context;
        let entered = {
            // The change is made already: it is too late to fail.
            let _scope = NoFailScope::enter();
            let mut state = context.state.lock();
            if !state.released {
                state.events.push(self.wait.clone());
            }
            !state.released
        };
        if entered {
            context.readers.wake_up_poll(PollEvents::IN);
            let _ = self.wait.queue.wait(Wait::KILLABLE, || (self.wait.stage() >= READ).then_some(()));
        }
        let read = {
            let mut state = context.state.lock();
            state.events.retain(|other| !Arc::ptr_eq(other, &self.wait));
            let read = self.wait.stage() == READ;
            if !read {
                self.wait.set_stage(GONE);
            }
            read
        };
        if let Change::Fork(child) = &self.wait.change
            && !read
        {
            // Nobody will ever have its descriptor.
            child.release();
        }
    }
}

/// A fork that a reader is about to get a descriptor for. Unless it is accepted the next reader gets it.
pub struct ForkOffer {
    context: Arc<Context>,
    wait: Arc<EventWait>,
}

impl ForkOffer {
    /// The child's context.
    pub fn child(&self) -> Option<Arc<Context>> {
        match &self.wait.change {
            Change::Fork(child) => Some(child.clone()),
            _ => None,
        }
    }

    /// The descriptor is made.
    ///
    /// # Errors
    /// `ENOENT`: the forking thread was killed, and the child's areas are not registered any more.
    pub fn accept(self) -> Result<()> {
        let accepted = {
            let mut state = self.context.state.lock();
            let accepted = self.wait.stage() == OFFERED;
            if accepted {
                self.wait.set_stage(READ);
                state.events.retain(|other| !Arc::ptr_eq(other, &self.wait));
            }
            accepted
        };
        self.wait.queue.wake_all();
        if accepted { Ok(()) } else { Err(Errno::ENOENT) }
    }
}

impl Drop for ForkOffer {
    fn drop(&mut self) {
        let again = {
            let _state = self.context.state.lock();
            let again = self.wait.stage() == OFFERED;
            if again {
                self.wait.set_stage(UNREAD);
            }
            again
        };
        if again {
            self.context.readers.wake_up_poll(PollEvents::IN);
        }
    }
}

impl Context {
    /// The oldest event that nobody has read. It is read now; of a fork an offer comes with it.
    pub fn take_event(self: &Arc<Self>) -> Option<(Change, Option<ForkOffer>)> {
        let wait = {
            let mut state = self.state.lock();
            let at = state.events.iter().position(|event| event.is_unread())?;
            let wait = state.events.get(at)?.clone();
            if let Change::Fork(_) = wait.change {
                wait.set_stage(OFFERED);
                let offer = ForkOffer { context: self.clone(), wait: wait.clone() };
                return Some((wait.change.clone(), Some(offer)));
            }
            wait.set_stage(READ);
            state.events.remove(at);
            wait
        };
        wait.queue.wake_all();
        Some((wait.change.clone(), None))
    }

    /// The context that areas in `child` are to have, if the reader wants to know of forks; one for all areas of a fork.
    pub(crate) fn fork_to(
        self: &Arc<Self>,
        child: &Arc<AddressSpace>,
        forks: &mut Vec<Event>,
    ) -> Result<Option<Arc<Context>>> {
        if !self.has(UFFD_FEATURE_EVENT_FORK) {
            return Ok(None);
        }
        let known = forks.iter().find(|event| Arc::ptr_eq(&event.context, self));
        if let Some(Change::Fork(context)) = known.map(|event| &event.wait.change) {
            return Ok(Some(context.clone()));
        }
        let context = Self::with_features(child, self.mode, self.tid, self.features())?;
        forks.try_push(Event::new(self.clone(), Change::Fork(context.clone()))?)?;
        Ok(Some(context))
    }
}

/// `range` is about to be unmapped: makes events for the contexts that want to know. `mmap_lock` is held exclusively.
pub(crate) fn note_unmap(space: &AddressSpace, areas: &mut VmaTree, range: Range<usize>) -> Result<()> {
    // Nobody is told of the end of a process.
    if space.users() == 0 {
        return Ok(());
    }
    let mut events: Vec<Event> = Vec::new();
    for entry in areas.overlapping(range.clone()) {
        let Some(context) = entry.value.uffd().filter(|c| c.has(UFFD_FEATURE_EVENT_UNMAP)) else { continue };
        if events.iter().any(|event| Arc::ptr_eq(&event.context, &context)) {
            continue;
        }
        events.try_push(Event::new(context, Change::Unmap(range.clone()))?)?;
    }
    areas.events.try_extend(events)?;
    Ok(())
}

/// Pages of `vma` are about to be moved: the event, if its context wants to know, and room for it. `mmap_lock` is held exclusively.
pub(crate) fn note_remap(
    areas: &mut VmaTree,
    vma: &Vma,
    from: usize,
    to: usize,
    len: usize,
) -> Result<Option<Event>> {
    let Some(context) = vma.uffd().filter(|context| context.follows_moves()) else { return Ok(None) };
    areas.events.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    Event::new(context, Change::Remap { from, to, len }).map(Some)
}

/// Pages of `vma` are about to be dropped: the event, if its context wants to know.
pub(crate) fn note_remove(vma: &Vma, range: Range<usize>) -> Result<Option<Event>> {
    let Some(context) = vma.uffd().filter(|c| c.has(UFFD_FEATURE_EVENT_REMOVE)) else { return Ok(None) };
    Event::new(context, Change::Remove(range)).map(Some)
}
