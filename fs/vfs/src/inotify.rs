//! `inotify(7)`: events of files, as records that can be read.
//!
//! An [`Inotify`] is a [`Group`] whose marks ([`crate::notify`]) have numbers, the watch descriptors. Its queue joins an event
//! with the last one if they are the same, and says once that it is full, or that there was no memory: the room for that record is kept.
//!
//! Lock: an instance's `state`, a leaf. Readers are woken with it released.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::{SortedMap, TryCollect, TryDeque, try_arc_cyclic, try_to_vec};
use mm::user::UserPtr;
use sched::wait::{Wait, WaitQueue};

use crate::anon;
use crate::cred::Credentials;
use crate::export;
use crate::fasync::{Band, FasyncList};
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags, Whence};
use crate::inode::Inode;
use crate::namei::walk::path_lookup;
use crate::namei::{At, LookupFlags};
use crate::notify::account::{INOTIFY_INSTANCES, INOTIFY_WATCHES};
use crate::notify::mark::{self, Interest};
use crate::notify::{Event, Found, Group, Kind, Mark, MarkFlags, Object, Priority, hooks, mask};
use crate::path::LookupContext;
use crate::permission::inode_permission;
use crate::poll::PollTable;
use crate::types::MayAccess;

/// `/proc/sys/fs/inotify/max_queued_events`, for instances to come.
pub static MAX_QUEUED_EVENTS: AtomicU32 = AtomicU32::new(16384);

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
/// Bits of an event that a program sees.
const SHOWN: u32 =
    raw::IN_ALL_EVENTS | raw::IN_ISDIR | raw::IN_UNMOUNT | raw::IN_IGNORED | raw::IN_Q_OVERFLOW;
/// Bytes of a record without its name; names are padded to multiples of it.
const HEADER: usize = 16;

struct Record {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Record {
    /// Without a name.
    fn plain(wd: i32, mask: u32) -> Self {
        Self { wd, mask, cookie: 0, name: Vec::new() }
    }

    /// Bytes of the name in the record: with its NUL and padding; none for an event without one.
    fn name_space(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn size(&self) -> usize {
        HEADER + self.name_space()
    }

    /// Whether it would tell nothing after `last`.
    fn repeats(&self, last: &Self) -> bool {
        last.mask & mask::IGNORED == 0
            && (self.wd, self.mask) == (last.wd, last.mask)
            && self.name == last.name
    }

    fn write(&self, iter: &mut IovIter<'_>) -> Result<()> {
        let mut header = [0; HEADER];
        let words = [self.wd as u32, self.mask & SHOWN, self.cookie, self.name_space() as u32];
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
    /// By descriptor; none while the mark is being made.
    watches: SortedMap<i32, Option<Arc<Mark>>>,
    /// With room for one more: the overflow.
    records: VecDeque<Record>,
    last_wd: i32,
    /// The queue is full, and says so.
    overflowed: bool,
}

/// An inotify instance.
pub struct Inotify {
    me: Weak<Inotify>,
    state: SpinLock<State>,
    queue: WaitQueue,
    fasync: FasyncList,
    limit: usize,
    uid: u32,
}

/// `inotify_init1(2)`, `IN_CLOEXEC` left to the caller.
pub fn inotify_init(cred: &Arc<Credentials>, flags: u32) -> Result<Arc<File>> {
    if flags & !(raw::IN_NONBLOCK | raw::IN_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let uid = cred.euid.0;
    let mut state = State::default();
    state.records.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    INOTIFY_INSTANCES.charge(uid, Errno::EMFILE)?;
    let instance = try_arc_cyclic(|me| Inotify {
        me: me.clone(),
        state: SpinLock::new(state),
        queue: WaitQueue::new(),
        fasync: FasyncList::new(),
        limit: MAX_QUEUED_EVENTS.load(Ordering::Relaxed) as usize,
        uid,
    })
    .inspect_err(|_| INOTIFY_INSTANCES.uncharge(uid, 1))?;
    anon::anon_file_seekable(
        cred,
        "inotify",
        FileImpl::Shared(instance),
        raw::O_RDONLY | flags & raw::IN_NONBLOCK,
    )
}

/// Whether a mask has bits, and only such as mean something.
///
/// # Errors
/// `EINVAL`.
pub fn check_mask(mask: u32) -> Result<()> {
    if mask == 0 || mask & !KNOWN != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn instance_of(file: &File) -> Result<&Inotify> {
    file.private::<Inotify>().ok_or(Errno::EINVAL)
}

/// `inotify_add_watch(2)`; returns the watch descriptor.
pub fn add_watch(ctx: &LookupContext<'_>, file: &File, name: &[u8], mask: u32) -> Result<i32> {
    check_mask(mask)?;
    if mask & (raw::IN_MASK_ADD | raw::IN_MASK_CREATE) == raw::IN_MASK_ADD | raw::IN_MASK_CREATE {
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
    let watch = instance.state.lock().watches.get(&wd).cloned().flatten().ok_or(Errno::EINVAL)?;
    if mark::detach(&watch) {
        instance.ended(&watch);
    }
    Ok(())
}

/// What `mask` asks of a mark on `inode`.
fn interest(inode: &Inode, asked: u32) -> Interest {
    let children = if inode.is_dir() { mask::ON_CHILD } else { 0 };
    let mut flags = MarkFlags::empty();
    flags.set(MarkFlags::EXCL_UNLINK, asked & raw::IN_EXCL_UNLINK != 0);
    flags.set(MarkFlags::ONESHOT, asked & raw::IN_ONESHOT != 0);
    Interest { mask: asked & raw::IN_ALL_EVENTS | mask::UNMOUNT | children, ignore: 0, flags }
}

impl Inotify {
    fn watch(&self, inode: &Arc<Inode>, asked: u32) -> Result<i32> {
        let group: Weak<dyn Group> = self.me.clone();
        let wanted = interest(inode, asked);
        if let Some(mark) = inode.notify.find(&group) {
            return Self::change(&mark, wanted, asked);
        }
        INOTIFY_WATCHES.charge(self.uid, Errno::ENOSPC)?;
        let wd = self.state.lock().new_wd().inspect_err(|_| INOTIFY_WATCHES.uncharge(self.uid, 1))?;
        match mark::attach(&group, Priority::Normal, &Object::Inode(inode.clone()), wanted, wd) {
            Ok(mark) => {
                // It is not there if the watch has ended in the meantime.
                if let Some(place) = self.state.lock().watches.get_mut(&wd) {
                    *place = Some(mark.clone());
                }
                Ok(wd)
            }
            Err(error) => {
                self.forget(wd);
                match (error, inode.notify.find(&group)) {
                    // Another thread was faster.
                    (Errno::EEXIST, Some(mark)) => Self::change(&mark, wanted, asked),
                    _ => Err(error),
                }
            }
        }
    }

    fn change(mark: &Arc<Mark>, wanted: Interest, asked: u32) -> Result<i32> {
        if asked & raw::IN_MASK_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        mark::update(mark, |now| match asked & raw::IN_MASK_ADD != 0 {
            true => Interest { mask: now.mask | wanted.mask, ignore: 0, flags: now.flags | wanted.flags },
            false => wanted,
        });
        Ok(mark.wd)
    }

    /// A watch is over: says so.
    fn ended(&self, watch: &Arc<Mark>) {
        self.push(Record::plain(watch.wd, mask::IGNORED));
        self.forget(watch.wd);
    }

    /// A descriptor means nothing any more.
    fn forget(&self, wd: i32) {
        let gone = self.state.lock().watches.remove(&wd);
        if gone.is_some() {
            INOTIFY_WATCHES.uncharge(self.uid, 1);
        }
        drop(gone);
    }

    fn push(&self, record: Record) {
        {
            let mut state = self.state.lock();
            if state.overflowed || state.records.back().is_some_and(|last| record.repeats(last)) {
                return;
            }
            let fits = state.records.len() < self.limit && state.records.try_reserve(2).is_ok();
            if fits {
                state.records.push_back_reserved(record);
            } else {
                state.overflow();
            }
        }
        self.wake();
    }

    /// An event is lost.
    fn overflow(&self) {
        self.state.lock().overflow();
        self.wake();
    }

    fn wake(&self) {
        self.queue.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
        self.fasync.kill(Band::In);
    }

    /// Takes the next record if it fits `room` bytes.
    fn pop(&self, room: usize) -> Option<Result<Record>> {
        let mut state = self.state.lock();
        let next = state.records.front()?;
        if next.size() > room {
            return Some(Err(Errno::EINVAL));
        }
        let next = state.records.pop_front()?;
        if next.mask & mask::Q_OVERFLOW != 0 {
            state.overflowed = false;
        }
        Some(Ok(next))
    }

    /// One mark's share of an event.
    fn one(&self, watch: &Arc<Mark>, event: &Event<'_>, name: Option<&[u8]>, cookie: u32) {
        let excluded = watch.flags().contains(MarkFlags::EXCL_UNLINK) && hooks::is_nameless(event.data);
        if excluded || watch.mask() & event.mask & mask::ALL == 0 {
            return;
        }
        let Ok(name) = try_to_vec(name.unwrap_or_default()) else { return self.overflow() };
        self.push(Record { wd: watch.wd, mask: event.mask & SHOWN, cookie, name });
        if watch.flags().contains(MarkFlags::ONESHOT) && mark::detach(watch) {
            self.ended(watch);
        }
    }
}

impl State {
    /// A descriptor that was not used lately, with its place in the table.
    fn new_wd(&mut self) -> Result<i32> {
        loop {
            self.last_wd = self.last_wd.checked_add(1).unwrap_or(1);
            if !self.watches.contains_key(&self.last_wd) {
                self.watches.try_insert(self.last_wd, None)?;
                return Ok(self.last_wd);
            }
        }
    }

    /// Says, once, that events were lost.
    fn overflow(&mut self) {
        if !self.overflowed {
            self.overflowed = true;
            self.records.push_back_reserved(Record::plain(-1, mask::Q_OVERFLOW));
        }
    }
}

impl Group for Inotify {
    fn event(&self, event: &Event<'_>, found: &Found<'_>) -> Result<()> {
        if let Some(watch) = found.get(Kind::Parent) {
            self.one(watch, event, event.name, 0);
        }
        if let Some(watch) = found.get(Kind::Inode) {
            // The name is the directory's business.
            let on_child = event.mask & mask::ON_CHILD != 0;
            self.one(
                watch,
                event,
                event.name.filter(|_| !on_child && event.mask & mask::DIRENT != 0),
                event.cookie,
            );
        }
        Ok(())
    }

    fn object_gone(&self, mark: &Arc<Mark>) {
        self.ended(mark);
    }
}

impl FileOps for Inotify {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let size = iter.count();
        loop {
            match self.pop(iter.count()) {
                Some(Ok(record)) => record.write(iter)?,
                Some(Err(error)) if iter.count() == size => return Err(error),
                _ if iter.count() < size => return Ok(size - iter.count()),
                _ if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
                _ => {
                    let ready = || (!self.state.lock().records.is_empty()).then_some(());
                    self.queue.wait(Wait::INTERRUPTIBLE, ready).map_err(|_| Errno::ERESTARTSYS)?;
                }
            }
        }
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.queue);
        let empty = self.state.lock().records.is_empty();
        if empty { PollEvents::empty() } else { PollEvents::IN | PollEvents::RDNORM }
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn fasync_lists(&self, _: &File) -> [Option<&FasyncList>; 2] {
        [Some(&self.fasync), None]
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        Ok(file.pos())
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != crate::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().records.iter().map(Record::size).sum();
        UserPtr::<i32>::new(arg).write(&(bytes as i32))?;
        Ok(0)
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let watches = self.state.lock().watches.values().rev().flatten().cloned().try_collect_vec();
        let watches = watches.map_err(|_| fmt::Error)?;
        for watch in watches {
            let Some(Object::Inode(inode)) = watch.object() else { continue };
            let (ino, dev) = (inode.ino(), inode.sb().dev());
            let mut shown = watch.mask() & raw::IN_ALL_EVENTS;
            for (flag, bit) in
                [(MarkFlags::EXCL_UNLINK, raw::IN_EXCL_UNLINK), (MarkFlags::ONESHOT, raw::IN_ONESHOT)]
            {
                shown |= if watch.flags().contains(flag) { bit } else { 0 };
            }
            write!(out, "inotify wd:{:x} ino:{ino:x} sdev:{:x}", watch.wd, dev.major << 20 | dev.minor)?;
            write!(out, " mask:{shown:x} ignored_mask:0 ")?;
            export::show(&inode, out)?;
            out.write_char('\n')?;
        }
        Ok(())
    }

    fn release(&self, _: &File) {
        let watches = core::mem::take(&mut self.state.lock().watches);
        for watch in watches.values().flatten() {
            mark::detach(watch);
        }
        INOTIFY_WATCHES.uncharge(self.uid, watches.len() as u32);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        INOTIFY_INSTANCES.uncharge(self.uid, 1);
    }
}
