//! Sockets in flight, and the collector for those that nobody can receive any more (`unix(7)`, `SCM_RIGHTS`).
//!
//! A message may carry a socket whose own queue holds a message that carries the first: when their descriptors are
//! closed, each is kept by the other. The collector finds such sockets by counting. A socket is a candidate when
//! every reference to its file is one from a message in flight. References out of the candidates' own queues are
//! taken off; what has some left is held from outside, and with it all that its queue holds. The rest is garbage.
//!
//! # Why the counts can be trusted
//!
//! All of it happens under one lock, which a file also takes on its way into a message and out of one. A candidate
//! has no descriptor and no call is working with it; it could get one only through a queue, so from a reader that has
//! the queue's socket open. A reader that takes the file out passes the lock ([`InFlight::take`]), one that
//! peeks does so after it has cloned ([`settle`]) and before it gives up the socket that it reads from.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::OutOfMemory;
use mm::fallible::{SortedMap, TryVec, try_to_vec, try_with_capacity};
use sched::workqueue::{self, Work};
use socket::{FlightLimit, Socket};
use sync::Once;
use vfs::file::File;

use crate::endpoint::Endpoint;

/// A socket that messages carry.
struct Entry {
    endpoint: Arc<Endpoint>,
    file: Weak<File>,
    /// Messages that carry it, each as often as it does.
    count: usize,
    /// While collecting: of those, the ones that are not accounted for.
    rest: usize,
    candidate: bool,
}

#[derive(Default)]
struct State {
    sockets: Vec<Entry>,
    /// Files in flight by the user who sent them.
    users: SortedMap<u32, usize>,
}

static STATE: SpinLock<State> = SpinLock::new(State { sockets: Vec::new(), users: SortedMap::new() });
/// How many sockets are in flight, to be read without the lock.
static SOCKETS: AtomicUsize = AtomicUsize::new(0);
static COLLECTOR: Once<Work> = Once::new();

/// Makes the collector ready to run.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    let work = Work::new(collect)?;
    COLLECTOR.call_once(|| work);
    Ok(())
}

/// Files that travel with a message.
#[derive(Default)]
pub struct InFlight {
    files: Vec<Arc<File>>,
    user: u32,
}

impl InFlight {
    /// Sends `files` on their way.
    ///
    /// # Errors
    /// `ETOOMANYREFS`: the sender has more in flight than it may have open. `ENOMEM`.
    pub fn new(files: Vec<Arc<File>>) -> Result<Self> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let FlightLimit { user, most } = socket::current_flight_limit();
        let endpoints = files.iter().filter(|file| endpoint(file).is_some()).count();
        let mut state = STATE.lock();
        if state.users.get(&user).copied().unwrap_or(0) as u64 > most {
            return Err(Errno::ETOOMANYREFS);
        }
        state.sockets.try_reserve(endpoints).map_err(OutOfMemory::from)?;
        match state.users.get_mut(&user) {
            Some(count) => *count += files.len(),
            None => drop(state.users.try_insert(user, files.len())?),
        }
        for file in &files {
            state.enter(file);
        }
        drop(state);
        Ok(Self { files, user })
    }

    /// The files.
    pub fn files(&self) -> &[Arc<File>] {
        &self.files
    }

    /// Receives them. Not to be called under a lock of sockets.
    pub fn take(mut self) -> Vec<Arc<File>> {
        let files = core::mem::take(&mut self.files);
        self.arrived(&files);
        files
    }

    /// The files once more, for one who only looks. Under the lock of the queue: [`settle`] has to follow.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn peek(&self) -> Result<Vec<Arc<File>>> {
        Ok(try_to_vec(&self.files)?)
    }

    fn arrived(&self, files: &[Arc<File>]) {
        if files.is_empty() {
            return;
        }
        for file in files {
            // What it referred to is dropped outside of the lock.
            let gone = STATE.lock().leave(file);
            drop(gone);
        }
        let mut state = STATE.lock();
        if let Some(count) = state.users.get_mut(&self.user) {
            *count -= files.len();
            if *count == 0 {
                state.users.remove(&self.user);
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.arrived(&self.files);
    }
}

/// Waits for a collection that is going on: files that were peeked at before count as referred to after it.
pub fn settle() {
    drop(STATE.lock());
}

/// Has garbage looked for, soon, if there can be any: a socket was closed.
pub fn closed() {
    if SOCKETS.load(Ordering::Relaxed) != 0
        && let Some(work) = COLLECTOR.get()
    {
        workqueue::system().queue_work(work);
    }
}

/// The unix socket that a file is.
fn endpoint(file: &File) -> Option<&Endpoint> {
    let ops: &dyn Any = &**file.private::<Socket>()?.ops();
    ops.downcast_ref()
}

impl State {
    /// One message more carries `file`; there is room for its entry.
    fn enter(&mut self, file: &Arc<File>) {
        let Some(endpoint) = endpoint(file) else { return };
        if let Some(entry) = self.sockets.get_mut(endpoint.flight.get()) {
            entry.count += 1;
            return;
        }
        let Some(endpoint) = endpoint.me() else { return };
        endpoint.flight.set(self.sockets.len());
        let file = Arc::downgrade(file);
        self.sockets.push_reserved(Entry { endpoint, file, count: 1, rest: 0, candidate: false });
        SOCKETS.store(self.sockets.len(), Ordering::Relaxed);
    }

    /// One message less carries `file`. Returns the entry if it was the last.
    fn leave(&mut self, file: &File) -> Option<Entry> {
        let slot = endpoint(file)?.flight.get();
        let entry = self.sockets.get_mut(slot)?;
        entry.count -= 1;
        if entry.count > 0 {
            return None;
        }
        entry.endpoint.flight.clear();
        let entry = self.sockets.swap_remove(slot);
        if let Some(moved) = self.sockets.get(slot) {
            moved.endpoint.flight.set(slot);
        }
        SOCKETS.store(self.sockets.len(), Ordering::Relaxed);
        Some(entry)
    }

    /// Runs `f` on the slot of each candidate that the queue of the one in `slot` holds.
    fn each_child(&mut self, slot: usize, mut f: impl FnMut(&mut Entry, usize)) {
        let Some(entry) = self.sockets.get(slot) else { return };
        let owner = entry.endpoint.clone();
        owner.each_waiting_file(&mut |file| {
            let child = endpoint(file).map_or(usize::MAX, |endpoint| endpoint.flight.get());
            if let Some(entry) = self.sockets.get_mut(child).filter(|entry| entry.candidate) {
                f(entry, child);
            }
        });
        // The state holds it as well: this is not the last reference.
        drop(owner);
    }

    /// The sockets that only messages in each other's queues refer to.
    fn garbage(&mut self) -> Result<Vec<Arc<Endpoint>>> {
        let total = self.sockets.len();
        let mut work = try_with_capacity(total)?;
        for entry in &mut self.sockets {
            entry.rest = entry.count;
            entry.candidate = entry.file.strong_count() == entry.count;
        }
        for slot in 0..total {
            if self.sockets.get(slot).is_some_and(|entry| entry.candidate) {
                self.each_child(slot, |child, _| child.rest = child.rest.saturating_sub(1));
            }
        }
        for (slot, entry) in self.sockets.iter_mut().enumerate() {
            if entry.candidate && entry.rest > 0 {
                entry.candidate = false;
                work.push_reserved(slot);
            }
        }
        while let Some(slot) = work.pop() {
            self.each_child(slot, |child, slot| {
                child.candidate = false;
                work.push_reserved(slot);
            });
        }
        let dead = self.sockets.iter().filter(|entry| entry.candidate);
        let mut garbage = try_with_capacity(dead.clone().count())?;
        dead.for_each(|entry| garbage.push_reserved(entry.endpoint.clone()));
        Ok(garbage)
    }
}

/// Frees the sockets that nobody can receive any more.
pub fn collect() {
    // Without memory there will be another socket closed.
    let Ok(garbage) = STATE.lock().garbage() else { return };
    // Nobody can reach them: what is garbage stays so without the lock.
    for endpoint in &garbage {
        endpoint.purge();
    }
}

/// Where a socket stands in the list; changes under its lock.
pub struct Slot(AtomicUsize);

impl Slot {
    /// In none.
    pub const fn new() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, slot: usize) {
        self.0.store(slot, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.set(usize::MAX);
    }
}
