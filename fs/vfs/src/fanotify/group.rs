//! The instance: its queue, and the file operations.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::fanotify::{Metadata, init, mark as mark_flags, response};
use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::{SortedMap, TryCollect, TryDeque, TryVec, try_arc_cyclic};
use mm::user::UserPtr;
use sched::mutex::Mutex;
use sched::wait::{Wait, WaitQueue};

use super::event::{FanEvent, What, filter, remember};
use super::permission::Permission;
use super::{Actor, MAX_QUEUED_EVENTS, host};
use crate::anon;
use crate::cred::Credentials;
use crate::export;
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags, Whence};
use crate::notify::account::{FANOTIFY_GROUPS, FANOTIFY_MARKS};
use crate::notify::{Event, Found, Group, Mark, MarkFlags, Object, Priority, mark, mask};
use crate::poll::PollTable;

/// How many events from the end of the queue are looked at for one that a new event can join.
const MERGE_DEPTH: usize = 128;

#[derive(Default)]
pub(super) struct State {
    /// With room for one more: the overflow.
    queue: VecDeque<FanEvent>,
    /// Questions that were read, by the descriptor that the reader got.
    asked: Vec<(i32, Arc<Permission>)>,
    pub(super) marks: SortedMap<u64, Arc<Mark>>,
    /// The queue is full, and says so.
    overflowed: bool,
    /// The instance is closed: nothing is queued any more.
    closed: bool,
}

/// A fanotify instance.
pub struct Fanotify {
    pub(super) me: Weak<Fanotify>,
    /// Flags of `fanotify_init(2)`.
    pub(super) flags: u32,
    /// Made without `CAP_SYS_ADMIN`.
    pub(super) unprivileged: bool,
    /// How event descriptors are opened.
    pub(super) file_flags: u32,
    limit: usize,
    pub(super) uid: u32,
    pub(super) state: SpinLock<State>,
    /// Orders additions and removals of marks.
    pub(super) marking: Mutex<()>,
    readable: WaitQueue,
    pub(super) answers: WaitQueue,
}

/// `O_SYNC` without the `O_DSYNC` that it contains.
const SYNC_BIT: u32 = 0o4000000;
/// How event descriptors may be opened.
const EVENT_FILE_FLAGS: u32 = raw::O_ACCMODE
    | raw::O_APPEND
    | raw::O_NONBLOCK
    | SYNC_BIT
    | raw::O_DSYNC
    | raw::O_CLOEXEC
    | raw::O_LARGEFILE
    | raw::O_NOATIME;

/// `fanotify_init(2)`, `FAN_CLOEXEC` left to the caller.
pub fn fanotify_init(cred: &Arc<Credentials>, flags: u32, file_flags: u32) -> Result<Arc<File>> {
    let fid_mode = flags & init::FID_BITS;
    let class = flags & (init::CLASS_CONTENT | init::CLASS_PRE_CONTENT);
    let unprivileged = !cred.capable(Cap::SysAdmin);
    if unprivileged && (flags & init::ADMIN != 0 || fid_mode == 0) {
        return Err(Errno::EPERM);
    }
    let has = |bit| flags & bit != 0;
    let accmode = file_flags & raw::O_ACCMODE;
    if flags & !init::ALL != 0
        || has(init::REPORT_PIDFD) && has(init::REPORT_TID)
        || file_flags & !EVENT_FILE_FLAGS != 0
        || accmode == raw::O_ACCMODE
        || fid_mode != 0 && class != 0
        || has(init::REPORT_NAME) && !has(init::REPORT_DIR_FID)
        || has(init::REPORT_TARGET_FID) && !(has(init::REPORT_NAME) && has(init::REPORT_FID))
    {
        return Err(Errno::EINVAL);
    }
    let uid = cred.euid.0;
    let mut state = State::default();
    state.queue.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    FANOTIFY_GROUPS.charge(uid, Errno::EMFILE)?;
    let limit = match has(init::UNLIMITED_QUEUE) {
        true => usize::MAX,
        false => MAX_QUEUED_EVENTS.load(Ordering::Relaxed) as usize,
    };
    let group = try_arc_cyclic(|me| Fanotify {
        me: me.clone(),
        flags,
        unprivileged,
        file_flags: file_flags | raw::O_LARGEFILE,
        limit,
        uid,
        state: SpinLock::new(state),
        marking: Mutex::new(()),
        readable: WaitQueue::new(),
        answers: WaitQueue::new(),
    })
    .inspect_err(|_| FANOTIFY_GROUPS.uncharge(uid, 1))?;
    if class == init::CLASS_CONTENT | init::CLASS_PRE_CONTENT {
        return Err(Errno::EINVAL);
    }
    let nonblock = if has(init::NONBLOCK) { raw::O_NONBLOCK } else { 0 };
    anon::anon_file_seekable(cred, "[fanotify]", FileImpl::Shared(group), raw::O_RDWR | nonblock)
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    /// It is in the queue itself.
    Queued,
    /// It says nothing new, or the queue is full or closed.
    Not,
    /// There was no memory for it.
    Lost,
}

impl State {
    /// Says, once, that events were lost.
    fn overflow(&mut self) {
        if !self.overflowed && !self.closed {
            self.overflowed = true;
            self.queue.push_back_reserved(FanEvent {
                mask: mask::Q_OVERFLOW,
                who: None,
                what: What::Overflow,
            });
        }
    }
}

impl Fanotify {
    /// When it sees events.
    pub(super) fn priority(&self) -> Priority {
        match self.flags & (init::CLASS_CONTENT | init::CLASS_PRE_CONTENT) {
            0 => Priority::Normal,
            init::CLASS_CONTENT => Priority::Content,
            _ => Priority::PreContent,
        }
    }

    /// Queues an event, or joins it with one that is queued.
    fn push(&self, event: FanEvent) -> Pushed {
        let mut left = None;
        let pushed = {
            let mut state = self.state.lock();
            if state.closed {
                return Pushed::Not;
            }
            if state.queue.len() >= self.limit {
                // An operation that waits is not lost, it goes on.
                state.overflow();
                left = Some(event);
                Pushed::Not
            } else if let Some(old) =
                state.queue.iter_mut().rev().take(MERGE_DEPTH).find(|old| old.absorbs(&event))
            {
                old.mask |= event.mask;
                left = Some(event);
                Pushed::Not
            } else if state.queue.try_reserve(2).is_ok() {
                state.queue.push_back_reserved(event);
                Pushed::Queued
            } else {
                left = Some(event);
                Pushed::Lost
            }
        };
        drop(left);
        self.wake();
        pushed
    }

    fn wake(&self) {
        self.readable.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
    }

    /// There is no memory for an event with `mask`. What waits is refused, so that nothing is missed; of anything else the reader
    /// hears that it was lost.
    fn lost(&self, mask: u32) -> Result<()> {
        if mask & mask::PERM == 0 {
            self.state.lock().overflow();
            self.wake();
        }
        Err(Errno::ENOMEM)
    }

    /// Takes the next event if its records fit `room` bytes.
    fn pop(&self, room: usize) -> Option<Result<FanEvent>> {
        let mut state = self.state.lock();
        let next = state.queue.front()?;
        if self.event_len(next) > room {
            return Some(Err(Errno::EINVAL));
        }
        let next = state.queue.pop_front()?;
        if matches!(next.what, What::Overflow) {
            state.overflowed = false;
        }
        Some(Ok(next))
    }

    /// Who asked gave up: the question is not shown any more.
    pub(super) fn withdraw(&self, question: &Permission) {
        let mut gone = None;
        let mut state = self.state.lock();
        let same = |other: &Arc<Permission>| core::ptr::eq(&**other, question);
        let queued =
            state.queue.iter().position(|event| matches!(&event.what, What::Permission(p) if same(p)));
        if let Some(at) = queued {
            gone = state.queue.remove(at);
        }
        drop(state);
        drop(gone);
    }

    /// The question that a reader got descriptor `fd` with.
    pub(super) fn asked_with(&self, fd: i32) -> Option<Arc<Permission>> {
        let mut state = self.state.lock();
        let at = state.asked.iter().position(|(asked, _)| *asked == fd)?;
        Some(state.asked.remove(at).1)
    }

    /// A reader gets the question as descriptor `fd`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn ask(&self, fd: i32, question: &Arc<Permission>) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Errno::ENOMEM);
        }
        state.asked.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        state.asked.push_reserved((fd, question.clone()));
        Ok(())
    }

    /// One of its marks is gone.
    pub(super) fn forget(&self, mark: &Arc<Mark>) {
        let gone = self.state.lock().marks.remove(&mark.id());
        if gone.is_some() && self.flags & init::UNLIMITED_MARKS == 0 {
            FANOTIFY_MARKS.uncharge(self.uid, 1);
        }
        drop(gone);
    }
}

impl Group for Fanotify {
    fn event(&self, event: &Event<'_>, found: &Found<'_>) -> Result<()> {
        let (mask, matched) = filter(self.flags, event, found);
        if mask == 0 {
            return Ok(());
        }
        let what = match remember(self.flags, mask, event, matched) {
            Ok(what) => what,
            Err(Errno::ENOMEM) => return self.lost(mask),
            Err(_) => return Ok(()),
        };
        let actor = if self.flags & init::REPORT_TID != 0 { Actor::Thread } else { Actor::Process };
        let who = host()?.acting(actor);
        let question = match &what {
            What::Permission(question) => Some(question.clone()),
            _ => None,
        };
        match (self.push(FanEvent { mask, who, what }), question) {
            (Pushed::Queued, Some(question)) => self.wait_for_answer(&question),
            (Pushed::Lost, _) => self.lost(mask),
            _ => Ok(()),
        }
    }

    fn object_gone(&self, mark: &Arc<Mark>) {
        self.forget(mark);
    }
}

impl FileOps for Fanotify {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let size = iter.count();
        loop {
            match self.pop(iter.count()) {
                Some(Ok(event)) => {
                    if let Err(error) = self.deliver(event, iter) {
                        let done = size - iter.count();
                        return if done > 0 && error != Errno::EFAULT { Ok(done) } else { Err(error) };
                    }
                }
                Some(Err(error)) if iter.count() == size => return Err(error),
                _ if iter.count() < size => return Ok(size - iter.count()),
                _ if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
                _ => {
                    let ready = || (!self.state.lock().queue.is_empty()).then_some(());
                    self.readable.wait(Wait::INTERRUPTIBLE, ready).map_err(|_| Errno::ERESTARTSYS)?;
                }
            }
        }
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        self.take_answer(iter)
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.readable);
        let empty = self.state.lock().queue.is_empty();
        if empty { PollEvents::empty() } else { PollEvents::IN | PollEvents::RDNORM }
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        Ok(file.pos())
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != crate::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes = self.state.lock().queue.len() * size_of::<Metadata>();
        UserPtr::<i32>::new(arg).write(&(bytes as i32))?;
        Ok(0)
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let flags = self.flags;
        writeln!(out, "fanotify flags:{flags:x} event-flags:{:x}", self.file_flags)?;
        let marks = self.state.lock().marks.values().rev().cloned().try_collect_vec();
        for mark in marks.map_err(|_| fmt::Error)? {
            let mut bits = 0;
            for (flag, bit) in [
                (MarkFlags::SURV_MODIFY, mark_flags::IGNORED_SURV_MODIFY),
                (MarkFlags::EVICTABLE, mark_flags::EVICTABLE),
                (MarkFlags::IGNORE_FLAGS, mark_flags::IGNORE),
            ] {
                bits |= if mark.flags().contains(flag) { bit } else { 0 };
            }
            let (mask, ignore) = (mark.mask(), mark.ignore());
            let dev = |dev: abi::fs::DevId| dev.major << 20 | dev.minor;
            let rest = format_args!("mflags:{bits:x} mask:{mask:x} ignored_mask:{ignore:x}");
            match mark.object() {
                Some(Object::Inode(inode)) => {
                    let (ino, dev) = (inode.ino(), dev(inode.sb().dev()));
                    write!(out, "fanotify ino:{ino:x} sdev:{dev:x} {rest} ")?;
                    export::show(&inode, out)?;
                    out.write_char('\n')?;
                }
                Some(Object::Mount(mount)) => writeln!(out, "fanotify mnt_id:{:x} {rest}", mount.id())?,
                Some(Object::Super(sb)) => writeln!(out, "fanotify sdev:{:x} {rest}", dev(sb.dev()))?,
                None => {}
            }
        }
        Ok(())
    }

    fn release(&self, _: &File) {
        let (queue, asked, marks) = {
            let mut state = self.state.lock();
            state.closed = true;
            let state = &mut *state;
            (
                core::mem::take(&mut state.queue),
                core::mem::take(&mut state.asked),
                core::mem::take(&mut state.marks),
            )
        };
        // Nobody will answer any more: everything goes on.
        for (_, question) in &asked {
            question.answer(response::ALLOW);
        }
        for event in &queue {
            if let What::Permission(question) = &event.what {
                question.answer(response::ALLOW);
            }
        }
        self.answers.wake_all();
        for mark in marks.values() {
            mark::detach(mark);
        }
        if self.flags & init::UNLIMITED_MARKS == 0 {
            FANOTIFY_MARKS.uncharge(self.uid, marks.len() as u32);
        }
    }
}

impl Drop for Fanotify {
    fn drop(&mut self) {
        FANOTIFY_GROUPS.uncharge(self.uid, 1);
    }
}
