//! `epoll(7)`.
//!
//! An [`Epoll`] has items, one per watched (file, descriptor). An item is a callback on the wait queues of its file;
//! when one of them is woken with events of interest, the item goes to the end of the ready list, in constant
//! time and without allocating (room for every item is reserved when it is added). `epoll_wait` takes items off the
//! list, asks their files again, and puts level-triggered ones back.
//!
//! Locks: `items` (sleeps) is outside of `ready`; the callback runs under a wait queue's lock with interrupts off and
//! takes `ready` only. Files are asked with none of them held. Adding an epoll to an epoll takes [`NESTING`] first.
//!
//! Invariant: `EpItem::queued` is true exactly while the item is on the ready list.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::{SpinLock, SpinLockIrq};
use sched::hrtimer::Deadline;
use sched::mutex::Mutex;
use sched::state::WaitError;
use sched::wait::{Registration, Share, Wait, WaitQueue, WakeCallback};

use crate::anon;
use crate::cred::Credentials;
use crate::file::{File, FileImpl};
use crate::file_ops::FileOps;
use crate::notify::account::{EPOLL_LIMIT, UserCount};
use crate::poll::PollTable;
use mm::fallible::{SortedMap, TryCollect, TryDeque, TryVec, try_arc, try_arc_cyclic};

/// Bits of the event mask that are not events.
const PRIVATE_BITS: u32 = raw::EPOLLWAKEUP | raw::EPOLLONESHOT | raw::EPOLLET | raw::EPOLLEXCLUSIVE;
/// What may stand beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_OK: u32 = raw::EPOLLIN
    | raw::EPOLLOUT
    | raw::EPOLLERR
    | raw::EPOLLHUP
    | raw::EPOLLWAKEUP
    | raw::EPOLLET
    | raw::EPOLLEXCLUSIVE;
/// How deep epolls may watch epolls.
const MAX_NESTS: usize = 4;

/// Serialises the additions that could close a circle.
static NESTING: Mutex<()> = Mutex::new(());

/// Which file, through which descriptor.
type Key = (usize, u32);

struct Ready {
    list: VecDeque<Arc<EpItem>>,
}

/// What callbacks need: outlives the epoll while items exist.
struct Core {
    ready: SpinLockIrq<Ready>,
    /// `epoll_wait` callers.
    waiters: WaitQueue,
    /// Who polls the epoll itself.
    pollers: WaitQueue,
}

struct EpItem {
    file: Weak<File>,
    key: Key,
    /// Events and private bits.
    events: AtomicU32,
    data: AtomicU64,
    queued: AtomicBool,
    removed: AtomicBool,
    registrations: SpinLock<Vec<Registration>>,
}

impl EpItem {
    fn wanted(&self) -> PollEvents {
        PollEvents::from_bits_truncate(self.events.load(Ordering::Acquire))
    }

    fn enqueue(self: &Arc<Self>, ready: &mut Ready) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            ready.list.push_back_reserved(self.clone());
        }
    }

    fn look(&self) -> PollEvents {
        match self.file.upgrade() {
            Some(file) => crate::poll::look(&file) & self.wanted(),
            None => PollEvents::empty(),
        }
    }
}

/// The callback on a queue: a reference to the item that does not keep it in a circle.
struct ItemCallback(Weak<EpItem>, Arc<Core>, bool);

impl WakeCallback for ItemCallback {
    fn wake(&self, events: PollEvents) -> bool {
        let Some(item) = self.0.upgrade() else { return false };
        let wanted = item.events.load(Ordering::Acquire);
        let off = wanted & !PRIVATE_BITS == 0;
        let matches = events.is_empty() || events.bits() & wanted & !PRIVATE_BITS != 0;
        let woke = if off || !matches || item.removed.load(Ordering::Acquire) {
            false
        } else {
            let mut ready = self.1.ready.lock();
            item.enqueue(&mut ready);
            drop(ready);
            let waiting = self.1.waiters.has_waiters();
            self.1.waiters.wake_one();
            // Epolls that watch each other form no circle (`check_loops`).
            self.1.pollers.wake_all_poll_nested(PollEvents::IN | PollEvents::RDNORM);
            waiting
        };
        // The epoll's table keeps the item, so this is not the last reference (see `remove`).
        drop(item);
        woke || !self.2
    }
}

/// The file that `epoll` watches as descriptor `fd`: number `skip` of those added under that number (`kcmp(2)`).
///
/// # Errors
/// `EINVAL`: not an epoll; `ENOENT`: it watches no such file.
pub fn watched(epoll: &File, fd: u32, skip: usize) -> Result<Arc<File>> {
    let epoll = epoll.private::<Epoll>().ok_or(Errno::EINVAL)?;
    let items = epoll.items.lock();
    let item = items.values().filter(|item| item.key.1 == fd).nth(skip).ok_or(Errno::ENOENT)?;
    item.file.upgrade().ok_or(Errno::ENOENT)
}

/// An epoll instance.
pub struct Epoll {
    me: Weak<Epoll>,
    core: Arc<Core>,
    items: Mutex<SortedMap<Key, Arc<EpItem>>>,
    /// The watches of its maker, in all epolls.
    watches: Arc<UserCount>,
}

/// The epolls that watch a file.
pub(crate) struct EpollLinks {
    any: AtomicBool,
    list: SpinLock<Vec<(Weak<Epoll>, Key)>>,
}

impl EpollLinks {
    pub(crate) const fn new() -> Self {
        Self { any: AtomicBool::new(false), list: SpinLock::new(Vec::new()) }
    }

    fn add(&self, epoll: &Weak<Epoll>, key: Key) -> Result<()> {
        let mut list = self.list.lock();
        list.try_push((epoll.clone(), key))?;
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// The file is gone: takes it out of all epolls.
    pub(crate) fn release(&self) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        // A statement of its own: in the head of the loop the lock would be held all through it.
        let links = core::mem::take(&mut *self.list.lock());
        for (epoll, key) in links {
            if let Some(epoll) = epoll.upgrade() {
                epoll.forget(key);
            }
        }
    }
}

/// `epoll_create1(2)`: an epoll file.
pub fn epoll_create(cred: &Arc<Credentials>) -> Result<Arc<File>> {
    let core = try_arc(Core {
        ready: SpinLockIrq::new(Ready { list: VecDeque::new() }),
        waiters: WaitQueue::new(),
        pollers: WaitQueue::new(),
    })?;
    let watches = UserCount::of_user(cred.uid.0)?;
    let epoll =
        try_arc_cyclic(|me| Epoll { me: me.clone(), core, items: Mutex::new(SortedMap::new()), watches })?;
    anon::anon_file(cred, "[eventpoll]", FileImpl::Shared(epoll), raw::O_RDWR)
}

fn epoll_of(file: &File) -> Result<&Epoll> {
    file.private::<Epoll>().ok_or(Errno::EINVAL)
}

/// `epoll_ctl(2)`: `op` is `EPOLL_CTL_*`; `events` and `data` are those of the event structure.
pub fn epoll_ctl(
    epfile: &Arc<File>,
    op: u32,
    fd: u32,
    file: &Arc<File>,
    events: u32,
    data: u64,
) -> Result<()> {
    if !file.ops().can_poll(file) {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(epfile, file) {
        return Err(Errno::EINVAL);
    }
    let epoll = epoll_of(epfile)?;
    let fits = op == raw::EPOLL_CTL_ADD && file.private::<Epoll>().is_none() && events & !EXCLUSIVE_OK == 0;
    if events & raw::EPOLLEXCLUSIVE != 0 && op != raw::EPOLL_CTL_DEL && !fits {
        return Err(Errno::EINVAL);
    }
    let key = (Arc::as_ptr(file) as usize, fd);
    let events = events | raw::EPOLLERR | raw::EPOLLHUP;
    match op {
        raw::EPOLL_CTL_ADD => match file.private::<Epoll>() {
            Some(inner) => {
                let _one_at_a_time = NESTING.lock();
                inner.check_loops(epoll, 0)?;
                epoll.insert(key, file, events, data)
            }
            None => epoll.insert(key, file, events, data),
        },
        raw::EPOLL_CTL_DEL => epoll.remove(key, file),
        raw::EPOLL_CTL_MOD => epoll.modify(key, file, events, data),
        _ => Err(Errno::EINVAL),
    }
}

/// `epoll_wait(2)`: hands up to `max` events to `deliver` (events, data). `deadline` none waits for ever;
/// `wait` false does not wait at all.
pub fn epoll_wait(
    epfile: &Arc<File>,
    max: usize,
    wait: bool,
    deadline: Option<Deadline>,
    deliver: &mut dyn FnMut(u32, u64) -> Result<()>,
) -> Result<usize> {
    let epoll = epoll_of(epfile)?;
    loop {
        let count = epoll.send(max, deliver)?;
        if count > 0 || !wait {
            return Ok(count);
        }
        // What is ready may not be so any more when it is looked at, again and again.
        if sched::current().has_pending_signal() {
            return Err(Errno::EINTR);
        }
        let ready = || (!epoll.core.ready.lock().list.is_empty()).then_some(());
        let how = Wait::INTERRUPTIBLE.exclusive().until(deadline);
        match epoll.core.waiters.wait(how, ready) {
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(0),
            Err(WaitError::Interrupted) => return Err(Errno::EINTR),
        }
    }
}

impl Epoll {
    fn insert(&self, key: Key, file: &Arc<File>, events: u32, data: u64) -> Result<()> {
        let item = try_arc(EpItem {
            file: Arc::downgrade(file),
            key,
            events: AtomicU32::new(events),
            data: AtomicU64::new(data),
            queued: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            registrations: SpinLock::new(Vec::new()),
        })?;
        let exclusive = events & raw::EPOLLEXCLUSIVE != 0;
        let share = if exclusive { Share::Exclusive } else { Share::All };
        let callback: Arc<dyn WakeCallback> =
            try_arc(ItemCallback(Arc::downgrade(&item), self.core.clone(), exclusive))?;
        {
            let mut items = self.items.lock();
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            if !self.watches.charge(EPOLL_LIMIT.load(Ordering::Relaxed)) {
                return Err(Errno::ENOSPC);
            }
            let added = self.reserve(items.len() + 1).and_then(|()| {
                items.try_insert(key, item.clone())?;
                file.epoll.add(&self.me, key).inspect_err(|_| {
                    items.remove(&key);
                })
            });
            if let Err(error) = added {
                self.watches.uncharge();
                return Err(error);
            }
        }
        let mut failed = None;
        let mut made = Vec::new();
        let mut register = |queue: &WaitQueue| {
            if made.try_reserve(1).is_err() {
                failed = Some(Errno::ENOMEM);
                return;
            }
            match queue.register(callback.clone(), share) {
                Ok(registration) => made.push_reserved(registration),
                Err(error) => failed = Some(error),
            }
        };
        let ready = file.ops().poll(file, &mut PollTable::new(&mut register, item.wanted()));
        *item.registrations.lock() = made;
        if let Some(error) = failed {
            let _ = self.remove(key, file);
            return Err(error);
        }
        if ready.intersects(item.wanted()) {
            self.make_ready(&item);
        }
        Ok(())
    }

    /// Makes sure that the callback never has to allocate.
    fn reserve(&self, items: usize) -> Result<()> {
        let capacity = self.core.ready.lock().list.capacity();
        if capacity >= items {
            return Ok(());
        }
        let mut bigger = VecDeque::new();
        bigger.try_reserve(items.max(8).next_power_of_two()).map_err(|_| Errno::ENOMEM)?;
        let old = {
            let mut ready = self.core.ready.lock();
            ready.list.drain(..).for_each(|item| bigger.push_back_reserved(item));
            core::mem::replace(&mut ready.list, bigger)
        };
        drop(old);
        Ok(())
    }

    fn make_ready(&self, item: &Arc<EpItem>) {
        let mut ready = self.core.ready.lock();
        item.enqueue(&mut ready);
        drop(ready);
        self.core.waiters.wake_one();
        self.core.pollers.wake_all_poll(PollEvents::IN | PollEvents::RDNORM);
    }

    fn modify(&self, key: Key, file: &Arc<File>, events: u32, data: u64) -> Result<()> {
        let item = self.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)?;
        if item.events.load(Ordering::Relaxed) & raw::EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.data.store(data, Ordering::Relaxed);
        item.events.store(events, Ordering::Release);
        // Pairs with the barrier of a waker: either it sees the new mask, or we see its change.
        core::sync::atomic::fence(Ordering::SeqCst);
        if crate::poll::look(file).intersects(item.wanted()) {
            self.make_ready(&item);
        }
        Ok(())
    }

    fn remove(&self, key: Key, file: &Arc<File>) -> Result<()> {
        if !self.forget(key) {
            return Err(Errno::ENOENT);
        }
        let me = self.me.as_ptr();
        file.epoll.list.lock().retain(|(epoll, k)| *k != key || !core::ptr::eq(epoll.as_ptr(), me));
        Ok(())
    }

    /// Takes an item out; whether there was one.
    fn forget(&self, key: Key) -> bool {
        let Some(item) = self.items.lock().remove(&key) else { return false };
        self.retire(&item);
        true
    }

    /// An item that was taken out goes for good.
    fn retire(&self, item: &Arc<EpItem>) {
        item.removed.store(true, Ordering::Release);
        self.watches.uncharge();
        // Off the queues first: afterwards no callback can hold the item.
        let registrations = core::mem::take(&mut *item.registrations.lock());
        drop(registrations);
        let gone = {
            let mut ready = self.core.ready.lock();
            match ready.list.iter().position(|other| Arc::ptr_eq(other, item)) {
                Some(index) => ready.list.remove(index),
                None => None,
            }
        };
        drop(gone);
    }

    /// Takes ready items off the list and delivers those that are still ready.
    fn send(&self, max: usize, deliver: &mut dyn FnMut(u32, u64) -> Result<()>) -> Result<usize> {
        let mut pending = self.core.ready.lock().list.len();
        let mut count = 0;
        let mut again = false;
        let mut failure = None;
        while pending > 0 && count < max && failure.is_none() {
            pending -= 1;
            let Some(item) = ({
                let mut ready = self.core.ready.lock();
                let item = ready.list.pop_front();
                if let Some(item) = &item {
                    item.queued.store(false, Ordering::Release);
                }
                item
            }) else {
                break;
            };
            let events = item.look();
            if events.is_empty() || item.removed.load(Ordering::Acquire) {
                continue;
            }
            if let Err(error) = deliver(events.bits(), item.data.load(Ordering::Relaxed)) {
                self.requeue(&item);
                failure = Some(error);
                break;
            }
            count += 1;
            let mask = item.events.load(Ordering::Acquire);
            if mask & raw::EPOLLONESHOT != 0 {
                item.events.fetch_and(PRIVATE_BITS, Ordering::AcqRel);
            } else if mask & raw::EPOLLET == 0 {
                self.requeue(&item);
                again = true;
            }
        }
        if again || count == max {
            // Others may sleep although something is ready.
            if !self.core.ready.lock().list.is_empty() {
                self.core.waiters.wake_one();
            }
        }
        match failure {
            Some(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    fn requeue(&self, item: &Arc<EpItem>) {
        let mut ready = self.core.ready.lock();
        if !item.removed.load(Ordering::Acquire) {
            item.enqueue(&mut ready);
        }
    }

    /// Whether `target` can be reached from here (`ELOOP`), or the nesting gets too deep.
    fn check_loops(&self, target: &Epoll, depth: usize) -> Result<()> {
        if depth > MAX_NESTS || core::ptr::eq(self, target) {
            return Err(Errno::ELOOP);
        }
        let files = self.items.lock().values().filter_map(|item| item.file.upgrade()).try_collect_vec()?;
        for file in &files {
            if let Some(inner) = file.private::<Epoll>() {
                inner.check_loops(target, depth + 1)?;
            }
        }
        Ok(())
    }
}

impl FileOps for Epoll {
    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.core.pollers);
        // Items that are not ready after all leave the list.
        let mut left = self.core.ready.lock().list.len();
        while left > 0 {
            left -= 1;
            let item = self.core.ready.lock().list.front().cloned();
            let Some(item) = item else { break };
            if !item.look().is_empty() {
                return PollEvents::IN | PollEvents::RDNORM;
            }
            let stale = {
                let mut ready = self.core.ready.lock();
                if ready.list.front().is_some_and(|front| Arc::ptr_eq(front, &item)) {
                    item.queued.store(false, Ordering::Release);
                    ready.list.pop_front()
                } else {
                    None
                }
            };
            drop(stale);
            // It may have become ready between the look and now.
            if !item.look().is_empty() {
                self.requeue(&item);
                return PollEvents::IN | PollEvents::RDNORM;
            }
        }
        PollEvents::empty()
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let items = self.items.lock().values().cloned().try_collect_vec().map_err(|_| fmt::Error)?;
        for item in items {
            let Some(file) = item.file.upgrade() else { continue };
            let inode = file.inode();
            writeln!(
                out,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}",
                item.key.1,
                item.events.load(Ordering::Relaxed),
                item.data.load(Ordering::Relaxed),
                file.pos(),
                inode.ino(),
                inode.sb().dev().encode(),
            )?;
        }
        Ok(())
    }

    fn release(&self, _: &File) {
        let items = core::mem::take(&mut *self.items.lock());
        for item in items.values() {
            self.retire(item);
            if let Some(file) = item.file.upgrade() {
                let me = self.me.as_ptr();
                file.epoll.list.lock().retain(|(epoll, _)| !core::ptr::eq(epoll.as_ptr(), me));
            }
        }
    }
}
