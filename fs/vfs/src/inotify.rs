//! `inotify(7)`: events of files, as records that can be read.
//!
//! A [`Watch`] joins an inode to an instance; watches of an inode are found by its address. [`notify`] calls
//! [`Inotify`]'s side for inodes that carry `InodeFlags::WATCHED` only, so that files that nobody watches cost one flag test.
//!
//! Locks: [`WATCHED`] (which inode has which watches) is outside of an instance's `state`; both are short spin locks. Waiters are
//! woken, and watches dropped, with neither held.
//!
//! Invariant: a watch is in its instance's table exactly while it is in `WATCHED`.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::{SortedMap, TryCollect, TryDeque, TryVec, try_arc, try_arc_cyclic, try_to_vec};
use mm::user::UserPtr;
use sched::wait::{Wait, WaitQueue};

use crate::anon;
use crate::cred::Credentials;
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags};
use crate::inode::{Inode, InodeFlags};
use crate::namei::walk::path_lookup;
use crate::namei::{At, LookupFlags};
use crate::notify::{self, Listener};
use crate::path::LookupContext;
use crate::permission::inode_permission;
use crate::poll::PollTable;
use crate::super_block::SuperBlock;
use crate::types::MayAccess;

/// `/proc/sys/fs/inotify/max_queued_events`.
pub static MAX_QUEUED_EVENTS: AtomicU32 = AtomicU32::new(16384);
/// `/proc/sys/fs/inotify/max_user_instances`.
pub static MAX_USER_INSTANCES: AtomicU32 = AtomicU32::new(128);
/// `/proc/sys/fs/inotify/max_user_watches`.
pub static MAX_USER_WATCHES: AtomicU32 = AtomicU32::new(8192);

/// Bits of a mask that a program may give.
const KNOWN: u32 = raw::IN_ALL_EVENTS
    | raw::IN_ONLYDIR
    | raw::IN_DONT_FOLLOW
    | raw::IN_EXCL_UNLINK
    | raw::IN_MASK_CREATE
    | raw::IN_MASK_ADD
    | raw::IN_ISDIR
    | raw::IN_ONESHOT
    | raw::IN_UNMOUNT
    | raw::IN_Q_OVERFLOW
    | raw::IN_IGNORED;
/// Bytes of a record without its name; names are padded to multiples of it.
const HEADER: usize = 16;

struct Watch {
    wd: i32,
    mask: AtomicU32,
    inode: Arc<Inode>,
    owner: Weak<Inotify>,
}

/// Watches by the address of their inode, which they keep alive.
static WATCHED: SpinLock<SortedMap<usize, Arc<Vec<Arc<Watch>>>>> = SpinLock::new(SortedMap::new());

/// Instances and watches of a user.
#[derive(Clone, Copy, Default)]
struct Usage {
    instances: u32,
    watches: u32,
}

impl Usage {
    fn one_watch_less(&mut self) -> bool {
        self.watches = self.watches.saturating_sub(1);
        true
    }

    fn one_instance_less(&mut self) -> bool {
        self.instances = self.instances.saturating_sub(1);
        true
    }
}

static USAGE: SpinLock<SortedMap<u32, Usage>> = SpinLock::new(SortedMap::new());

/// Changes what `uid` uses; `false`, and no change, if `change` refuses.
///
/// # Errors
/// `ENOMEM`, not for a user that is counted already.
fn account(uid: u32, change: impl FnOnce(&mut Usage) -> bool) -> Result<bool> {
    let mut usage = USAGE.lock();
    let entry = usage.try_get_or_insert_with(uid, Usage::default)?;
    let allowed = change(entry);
    if entry.instances == 0 && entry.watches == 0 {
        usage.remove(&uid);
    }
    Ok(allowed)
}

struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes of the name in the record: with its NUL and padding; none for an event without one.
    fn name_space(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn size(&self) -> usize {
        HEADER + self.name_space()
    }

    fn repeats(&self, other: &Self) -> bool {
        self.mask & raw::IN_IGNORED == 0
            && (self.wd, self.mask, self.cookie) == (other.wd, other.mask, other.cookie)
            && self.name == other.name
    }

    fn write(&self, iter: &mut IovIter<'_>) -> Result<()> {
        let mut header = [0; HEADER];
        let words = [self.wd as u32, self.mask, self.cookie, self.name_space() as u32];
        for (slot, word) in header.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        iter.write_all(&header)?;
        iter.write_all(&self.name)?;
        let padding = [0; HEADER];
        iter.write_all(padding.get(..self.name_space() - self.name.len()).unwrap_or_default())
    }
}

#[derive(Default)]
struct State {
    watches: SortedMap<i32, Arc<Watch>>,
    events: VecDeque<Event>,
    last_wd: i32,
}

/// An inotify instance.
pub struct Inotify {
    me: Weak<Inotify>,
    state: SpinLock<State>,
    queue: WaitQueue,
    uid: u32,
}

/// `inotify_init1(2)`, `IN_CLOEXEC` left to the caller.
pub fn inotify_init(cred: &Arc<Credentials>, flags: u32) -> Result<Arc<File>> {
    if flags & !(raw::IN_NONBLOCK | raw::IN_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let uid = cred.uid.0;
    let limit = MAX_USER_INSTANCES.load(Ordering::Relaxed);
    let counted = account(uid, |usage| {
        let allowed = usage.instances < limit;
        usage.instances += u32::from(allowed);
        allowed
    })?;
    if !counted {
        return Err(Errno::EMFILE);
    }
    notify::set_listener(&Inotifies);
    let made = try_arc_cyclic(|me| Inotify {
        me: me.clone(),
        state: SpinLock::new(State::default()),
        queue: WaitQueue::new(),
        uid,
    });
    let open = raw::O_RDONLY | flags & raw::IN_NONBLOCK;
    let file = made
        .map_err(Errno::from)
        .and_then(|instance| anon::anon_file(cred, "inotify", FileImpl::Shared(instance), open));
    if file.is_err() {
        // Otherwise the last close does it.
        let _ = account(uid, Usage::one_instance_less);
    }
    file
}

fn instance_of(file: &File) -> Result<&Inotify> {
    file.private::<Inotify>().ok_or(Errno::EINVAL)
}

/// `inotify_add_watch(2)`; returns the watch descriptor.
pub fn add_watch(ctx: &LookupContext<'_>, file: &File, name: &[u8], mask: u32) -> Result<i32> {
    if mask & KNOWN == 0
        || mask & (raw::IN_MASK_ADD | raw::IN_MASK_CREATE) == raw::IN_MASK_ADD | raw::IN_MASK_CREATE
    {
        return Err(Errno::EINVAL);
    }
    let instance = instance_of(file)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, mask & raw::IN_DONT_FOLLOW == 0);
    lookup.set(LookupFlags::DIRECTORY, mask & raw::IN_ONLYDIR != 0);
    let path = path_lookup(ctx, At::Cwd, name, lookup)?;
    let inode = path.inode()?;
    inode_permission(inode, ctx.cred, MayAccess::READ)?;
    instance.watch(inode, mask)
}

/// `inotify_rm_watch(2)`.
pub fn rm_watch(file: &File, wd: i32) -> Result<()> {
    let instance = instance_of(file)?;
    let watch = instance.state.lock().watches.get(&wd).cloned().ok_or(Errno::EINVAL)?;
    instance.forget(&watch);
    Ok(())
}

/// Takes a watch out of the inode's list; whether it was there.
fn unlink(watch: &Arc<Watch>) -> bool {
    let key = Arc::as_ptr(&watch.inode) as usize;
    let old;
    {
        let mut watched = WATCHED.lock();
        let Some(list) = watched.get(&key).filter(|list| list.iter().any(|w| Arc::ptr_eq(w, watch))) else {
            return false;
        };
        if list.len() == 1 {
            watch.inode.remove_flags(InodeFlags::WATCHED);
            old = watched.remove(&key);
        } else {
            // A watch that ends cannot be refused that.
            let _no_fail = mm::context::NoFailScope::enter();
            let others = list.iter().filter(|w| !Arc::ptr_eq(w, watch)).cloned();
            let rest = others.try_collect_vec().and_then(try_arc);
            old = rest.ok().and_then(|rest| watched.try_insert(key, rest).ok()?);
        }
    }
    drop(old);
    true
}

impl Inotify {
    fn watch(&self, inode: &Arc<Inode>, mask: u32) -> Result<i32> {
        let events = mask & (raw::IN_ALL_EVENTS | raw::IN_ONESHOT | raw::IN_EXCL_UNLINK) | raw::IN_UNMOUNT;
        let key = Arc::as_ptr(inode) as usize;
        let limit = MAX_USER_WATCHES.load(Ordering::Relaxed);
        let mut old = None;
        let wd = {
            let mut watched = WATCHED.lock();
            let list = watched.get(&key);
            let me = self.me.as_ptr();
            let mine = list.and_then(|list| list.iter().find(|w| core::ptr::eq(w.owner.as_ptr(), me)));
            if let Some(watch) = mine {
                if mask & raw::IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST);
                }
                let kept = if mask & raw::IN_MASK_ADD != 0 { watch.mask.load(Ordering::Relaxed) } else { 0 };
                watch.mask.store(kept | events, Ordering::Relaxed);
                return Ok(watch.wd);
            }
            let mut longer = Vec::new();
            let count = list.map_or(0, |list| list.len());
            longer.try_reserve_exact(count + 1).map_err(|_| Errno::ENOMEM)?;
            longer.try_extend(list.iter().flat_map(|list| list.iter().cloned()))?;
            let mut state = self.state.lock();
            let wd = state.next_wd();
            let mask = AtomicU32::new(events);
            let watch = try_arc(Watch { wd, mask, inode: inode.clone(), owner: self.me.clone() })?;
            longer.push_reserved(watch.clone());
            let longer = try_arc(longer)?;
            let counted = account(self.uid, |usage| {
                let allowed = usage.watches < limit;
                usage.watches += u32::from(allowed);
                allowed
            })?;
            if !counted {
                return Err(Errno::ENOSPC);
            }
            let kept = state.watches.try_insert(wd, watch);
            match kept.and_then(|_| watched.try_insert(key, longer)) {
                Ok(before) => old = before.or(old),
                Err(error) => {
                    let watch = state.watches.remove(&wd);
                    drop(state);
                    let _ = account(self.uid, Usage::one_watch_less);
                    drop(watched);
                    drop(watch);
                    return Err(error.into());
                }
            }
            inode.insert_flags(InodeFlags::WATCHED);
            wd
        };
        drop(old);
        Ok(wd)
    }

    /// Ends a watch and says so.
    fn forget(&self, watch: &Arc<Watch>) {
        if !unlink(watch) {
            return;
        }
        self.push(Event { wd: watch.wd, mask: raw::IN_IGNORED, cookie: 0, name: Vec::new() });
        let gone = self.state.lock().watches.remove(&watch.wd);
        let _ = account(self.uid, Usage::one_watch_less);
        drop(gone);
    }

    fn push(&self, event: Event) {
        {
            let mut state = self.state.lock();
            if state.events.back().is_some_and(|last| event.repeats(last)) {
                return;
            }
            let limit = MAX_QUEUED_EVENTS.load(Ordering::Relaxed) as usize;
            let overflow = Event { wd: -1, mask: raw::IN_Q_OVERFLOW, cookie: 0, name: Vec::new() };
            if state.events.try_reserve(1).is_err() {
                return;
            }
            if state.events.len() < limit {
                state.events.push_back_reserved(event);
            } else if state.events.back().is_some_and(|last| overflow.repeats(last)) {
                return;
            } else {
                state.events.push_back_reserved(overflow);
            }
        }
        self.queue.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Takes the next event if its record fits `room` bytes.
    fn pop(&self, room: usize) -> Option<Result<Event>> {
        let mut state = self.state.lock();
        let next = state.events.front()?;
        if next.size() > room {
            return Some(Err(Errno::EINVAL));
        }
        state.events.pop_front().map(Ok)
    }
}

impl State {
    /// A descriptor that was not used lately (`idr_alloc_cyclic`).
    fn next_wd(&mut self) -> i32 {
        loop {
            self.last_wd = self.last_wd.checked_add(1).unwrap_or(1);
            if !self.watches.contains_key(&self.last_wd) {
                return self.last_wd;
            }
        }
    }
}

impl FileOps for Inotify {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let size = iter.count();
        loop {
            match self.pop(iter.count()) {
                Some(Ok(event)) => event.write(iter)?,
                Some(Err(error)) if iter.count() == size => return Err(error),
                _ if iter.count() < size => return Ok(size - iter.count()),
                _ if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
                _ => {
                    let ready = || (!self.state.lock().events.is_empty()).then_some(());
                    self.queue.wait(Wait::INTERRUPTIBLE, ready).map_err(|_| Errno::ERESTARTSYS)?;
                }
            }
        }
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.queue);
        let empty = self.state.lock().events.is_empty();
        if empty { PollEvents::empty() } else { PollEvents::IN | PollEvents::RDNORM }
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != crate::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().events.iter().map(Event::size).sum();
        UserPtr::<i32>::new(arg).write(&(bytes as i32))?;
        Ok(0)
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let watches = self.state.lock().watches.values().cloned().try_collect_vec();
        let watches = watches.map_err(|_| fmt::Error)?;
        for watch in watches {
            let (ino, dev) = (watch.inode.ino(), watch.inode.sb().dev().encode());
            let mask = watch.mask.load(Ordering::Relaxed);
            writeln!(
                out,
                "inotify wd:{:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0 ",
                watch.wd
            )?;
        }
        Ok(())
    }

    fn release(&self, _: &File) {
        let watches = core::mem::take(&mut self.state.lock().watches);
        for watch in watches.values() {
            unlink(watch);
        }
        let _ = account(self.uid, |usage| {
            usage.watches = usage.watches.saturating_sub(watches.len() as u32);
            usage.one_instance_less()
        });
    }
}

/// Hands the events of inodes to their watches.
struct Inotifies;

impl Listener for Inotifies {
    fn event(&self, inode: &Arc<Inode>, mask: u32, name: Option<&[u8]>, cookie: u32) {
        let list = WATCHED.lock().get(&(Arc::as_ptr(inode) as usize)).cloned();
        for watch in list.iter().flat_map(|list| list.iter()) {
            let Some(instance) = watch.owner.upgrade() else { continue };
            let wanted = watch.mask.load(Ordering::Relaxed);
            let hit = wanted & mask & (raw::IN_ALL_EVENTS | raw::IN_UNMOUNT) != 0;
            if hit {
                let Ok(copy) = try_to_vec(name.unwrap_or_default()) else { continue };
                instance.push(Event { wd: watch.wd, mask, cookie, name: copy });
            }
            let over = mask & (raw::IN_DELETE_SELF | raw::IN_UNMOUNT) != 0 && name.is_none();
            if over || hit && wanted & raw::IN_ONESHOT != 0 {
                instance.forget(watch);
            }
        }
    }
}

/// The file system goes: its watches end.
pub(crate) fn unmounted(sb: &Arc<SuperBlock>) {
    let inodes: Vec<Arc<Inode>> = {
        let watched = WATCHED.lock();
        let all = watched.values().filter_map(|list| list.first()).map(|watch| watch.inode.clone());
        // Whatever the file system's end takes.
        let _no_fail = mm::context::NoFailScope::enter();
        all.filter(|inode| Arc::ptr_eq(inode.sb(), sb)).try_collect_vec().unwrap_or_default()
    };
    for inode in inodes {
        Inotifies.event(&inode, raw::IN_UNMOUNT, None, 0);
    }
}
