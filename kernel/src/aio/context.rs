//! Contexts and their rings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use abi::aio::{AIO_RING_MAGIC, AioRing, IoEvent};
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use arch::paging::Prot;
use arch::sync::{SpinLock, SpinLockIrq};
use mm::vma::{DevicePage, MmapSetup, VmFile, VmFileId, VmFlags};
use mm::{AddressSpace, Mapping, MmapRequest, SharedRing, SortedMap, try_arc};
use sched::wait::WaitQueue;

use super::poll::Poll;
use crate::process::current;

/// `fs.aio-max-nr`: operations that all contexts together may have room for.
pub static MAX_NR: AtomicUsize = AtomicUsize::new(65536);
static NR: AtomicUsize = AtomicUsize::new(0);

/// `fs.aio-nr`: operations that contexts asked for.
pub fn total() -> usize {
    NR.load(Ordering::Relaxed)
}

/// Offsets in the ring's head.
const HEAD: usize = 8;
const TAIL: usize = 12;
const HEADER: usize = size_of::<AioRing>();
const EVENT: usize = size_of::<IoEvent>();

/// The memory of a ring, as something that can be mapped.
struct RingFile {
    memory: Arc<SharedRing>,
}

impl VmFile for RingFile {
    fn mapping(&self) -> Option<Arc<Mapping>> {
        None
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        true
    }

    fn mmap(&self, setup: &mut MmapSetup) -> Result<()> {
        setup.flags |= VmFlags::DONTEXPAND;
        Ok(())
    }

    fn fault(&self, pgoff: u64) -> Result<DevicePage> {
        let frame = usize::try_from(pgoff).ok().and_then(|index| self.memory.frame(index));
        Ok(DevicePage::Frame(frame.ok_or(Errno::EFAULT)?, Prot::empty()))
    }

    fn id(&self) -> VmFileId {
        VmFileId::default()
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/[aio] (deleted)")
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A context. See the module text of [`super`].
pub struct Context {
    memory: Arc<SharedRing>,
    /// Events that the ring has room for; one slot stays empty.
    slots: u32,
    asked: usize,
    /// Serialises writers of the ring.
    tail: SpinLockIrq<u32>,
    /// Operations that were submitted and are not in the ring yet.
    active: AtomicU32,
    /// Serialises readers of the ring.
    reading: sched::mutex::Mutex<()>,
    /// Those who wait for events.
    pub wait: WaitQueue,
    /// Polls under way.
    pub polls: SpinLock<Vec<Arc<Poll>>>,
    dead: AtomicBool,
}

type Key = (u64, usize);
static CONTEXTS: SpinLock<SortedMap<Key, Arc<Context>>> = SpinLock::new(SortedMap::new());

fn slots_for(events: u32) -> Result<(u32, usize)> {
    // Room for every CPU to have some, and for one slot that stays empty; in whole pages.
    let least = 4 * arch::cpu::count() as u64;
    let events = u64::from(events).max(least) * 2;
    if events > 0x1000_0000 / EVENT as u64 {
        return Err(Errno::EINVAL);
    }
    let len = (HEADER + (events as usize + 2) * EVENT).next_multiple_of(PAGE_SIZE);
    Ok((((len - HEADER) / EVENT) as u32, len))
}

/// Makes a context for `events` operations in the running process; its address.
///
/// # Errors
/// `EINVAL`, `EAGAIN` beyond the system's limit, `ENOMEM`.
pub fn create(events: u32) -> Result<usize> {
    let (slots, len) = slots_for(events)?;
    let asked = events as usize;
    let max = MAX_NR.load(Ordering::Relaxed);
    let within = |now: usize| now.checked_add(asked).filter(|sum| *sum <= max);
    NR.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).map_err(|_| Errno::EAGAIN)?;
    let made = make(slots, len, asked);
    if made.is_err() {
        NR.fetch_sub(asked, Ordering::Relaxed);
    }
    made
}

fn make(slots: u32, len: usize, asked: usize) -> Result<usize> {
    static IDS: AtomicU32 = AtomicU32::new(0);
    let me = current();
    let space = me.mm().ok_or(Errno::EINVAL)?;
    let memory = try_arc(SharedRing::alloc(len)?)?;
    memory.write(
        0,
        &AioRing {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            nr: slots,
            magic: AIO_RING_MAGIC,
            compat_features: 1,
            header_length: HEADER as u32,
            ..AioRing::default()
        },
    );
    let file: Arc<dyn VmFile> = try_arc(RingFile { memory: memory.clone() })?;
    let context = try_arc(Context {
        memory,
        slots,
        asked,
        tail: SpinLockIrq::new(0),
        active: AtomicU32::new(0),
        reading: sched::mutex::Mutex::new(()),
        wait: WaitQueue::new(),
        polls: SpinLock::new(Vec::new()),
        dead: AtomicBool::new(false),
    })?;
    let addr = space.mmap(&MmapRequest {
        addr: 0,
        len,
        prot: raw::PROT_READ | raw::PROT_WRITE,
        flags: raw::MAP_SHARED,
        file: Some(file),
        offset: 0,
        limits: &me.process.mm_limits(),
    })?;
    let known = CONTEXTS.lock().try_insert((space.id(), addr), context);
    match known {
        Ok(_) => Ok(addr),
        Err(_) => {
            space.munmap(addr, len)?;
            Err(Errno::ENOMEM)
        }
    }
}

/// The context at `addr` of the running process.
///
/// # Errors
/// `EINVAL`.
pub fn find(addr: usize) -> Result<Arc<Context>> {
    let mm = current().mm().ok_or(Errno::EINVAL)?;
    CONTEXTS.lock().get(&(mm.id(), addr)).cloned().ok_or(Errno::EINVAL)
}

/// Ends the context at `addr` of the running process and unmaps its ring.
///
/// # Errors
/// `EINVAL`.
pub fn destroy(addr: usize) -> Result<()> {
    let mm = current().mm().ok_or(Errno::EINVAL)?;
    let context = CONTEXTS.lock().remove(&(mm.id(), addr)).ok_or(Errno::EINVAL)?;
    context.end();
    mm.munmap(addr, context.memory.len())
}

/// The last user of `space` leaves it: its contexts end.
pub fn exit(space: &AddressSpace) {
    if total() == 0 {
        return;
    }
    loop {
        let id = space.id();
        let context = {
            let mut all = CONTEXTS.lock();
            let key = all.range_from(&(id, 0)).next().map(|(key, _)| *key).filter(|key| key.0 == id);
            key.and_then(|key| all.remove(&key))
        };
        match context {
            Some(context) => context.end(),
            None => return,
        }
    }
}

impl Context {
    /// Cancels what is under way and tells those who wait.
    fn end(&self) {
        self.dead.store(true, Ordering::Release);
        loop {
            let poll = self.polls.lock().pop();
            match poll {
                Some(poll) => poll.cancel(),
                None => break,
            }
        }
        self.wait.wake_all();
        NR.fetch_sub(self.asked, Ordering::Relaxed);
    }

    /// Whether it was destroyed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The most operations of one `io_submit(2)`.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    fn used(&self, tail: u32) -> u32 {
        // The user may write anything to the head.
        let head = self.memory.load(HEAD) % self.slots;
        (tail + self.slots - head) % self.slots
    }

    /// Takes room for the event of one operation.
    ///
    /// # Errors
    /// `EAGAIN`: there is none.
    pub fn reserve(&self) -> Result<()> {
        let tail = self.tail.lock();
        let active = self.active.load(Ordering::Relaxed);
        if self.used(*tail) + active + 1 >= self.slots {
            return Err(Errno::EAGAIN);
        }
        self.active.store(active + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives it back: the operation failed to start.
    pub fn unreserve(&self) {
        let _tail = self.tail.lock();
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// An operation is complete.
    pub fn complete(&self, event: &IoEvent) {
        {
            let mut tail = self.tail.lock();
            self.memory.write(HEADER + *tail as usize * EVENT, event);
            *tail = (*tail + 1) % self.slots;
            self.memory.store(TAIL, *tail);
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
        self.wait.wake_all();
    }

    /// Whether `least` events can be read.
    pub fn has(&self, least: usize) -> bool {
        let tail = *self.tail.lock();
        self.used(tail) as usize >= least
    }

    /// Hands up to `most` events to `deliver`.
    ///
    /// # Errors
    /// That of `deliver`, if nothing was delivered.
    pub fn read(&self, most: usize, mut deliver: impl FnMut(&IoEvent) -> Result<()>) -> Result<usize> {
        let _one = self.reading.lock();
        let mut count = 0;
        while count < most {
            let tail = *self.tail.lock();
            if self.used(tail) == 0 {
                break;
            }
            let head = self.memory.load(HEAD) % self.slots;
            let Some(event) = self.read_event(head) else { break };
            match deliver(&event) {
                Ok(()) => {}
                Err(errno) if count == 0 => return Err(errno),
                Err(_) => break,
            }
            self.memory.store(HEAD, (head + 1) % self.slots);
            count += 1;
        }
        Ok(count)
    }

    fn read_event(&self, at: u32) -> Option<IoEvent> {
        self.memory.read(HEADER + at as usize * EVENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_fill_their_pages() {
        for events in [1, 8, 100, 1000, 65536] {
            let (slots, len) = slots_for(events).unwrap();
            assert!(slots > 2 * events);
            assert!(len.is_multiple_of(PAGE_SIZE) && HEADER + slots as usize * EVENT <= len);
        }
        assert_eq!(slots_for(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(PAGE_SIZE % EVENT, 0);
        assert_eq!(HEADER % EVENT, 0);
    }
}
