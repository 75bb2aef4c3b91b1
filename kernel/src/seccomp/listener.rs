//! The descriptor through which another process decides about calls: seccomp_unotify(2).
//!
//! A [`Listener`] belongs to one filter. A thread that the filter stops with `SECCOMP_RET_USER_NOTIF` puts a [`Request`]
//! into it and sleeps ([`super::notify`]); whoever holds the descriptor takes requests and answers them. The
//! spin lock `state` covers all of it and is a leaf: who is to be woken is woken after it.

use super::notify::{AddFd, Request, Stage};
use crate::process::current;
use abi::poll::PollEvents;
use abi::seccomp::{SeccompNotif, SeccompNotifAddfd, SeccompNotifResp, c};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};
use mm::fallible::{TryVec, try_arc};
use mm::user::{UserPtr, copy_struct_from_user};
use sched::wait::{Wait, WaitQueue};
use vfs::file::{File, FileImpl};
use vfs::file_ops::FileOps;
use vfs::poll::PollTable;
use zerocopy::IntoBytes;

/// What threads and the holder of the descriptor meet at.
pub struct Listener {
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    pub killable: bool,
    /// Requests that nobody has taken yet, and all others.
    pub(super) state: SpinLock<State>,
    /// Woken for readers when a request comes, for pollers at every change.
    pub(super) wait: WaitQueue,
    /// No thread has the filter any more.
    orphan: AtomicBool,
}

/// Under the lock of the [`Listener`].
pub(super) struct State {
    /// The descriptor is closed: requests fail with `ENOSYS`.
    pub closed: bool,
    pub next_id: u64,
    /// Oldest first.
    pub requests: Vec<Arc<Request>>,
}

impl Listener {
    /// One that nobody has asked yet. Numbers start anywhere, so that none is guessed.
    pub fn new(killable: bool) -> Self {
        let state = State { closed: false, next_id: crate::misc::random::u64(), requests: Vec::new() };
        Self { killable, state: SpinLock::new(state), wait: WaitQueue::new(), orphan: AtomicBool::new(false) }
    }

    /// Whether the descriptor is closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The filter is gone: nobody will ask any more.
    pub fn orphaned(&self) {
        self.orphan.store(true, Ordering::Release);
        self.wait.wake_all_poll(PollEvents::HUP);
    }

    fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Acquire)
    }

    /// Takes the oldest request that nobody has taken.
    fn take(&self) -> Option<Arc<Request>> {
        let state = self.state.lock();
        let request = state.requests.iter().find(|r| r.answer.lock().stage == Stage::Asked)?;
        request.answer.lock().stage = Stage::Taken;
        Some(request.clone())
    }

    /// `SECCOMP_IOCTL_NOTIF_RECV`.
    fn receive(&self, arg: usize) -> Result<isize> {
        let user = UserPtr::<SeccompNotif>::new(arg);
        if user.read()?.as_bytes().iter().any(|b| *b != 0) {
            return Err(Errno::EINVAL);
        }
        let taken = self.wait.wait(Wait::INTERRUPTIBLE, || match self.take() {
            Some(request) => Some(Ok(request)),
            None if self.is_orphan() => Some(Err(Errno::ENOENT)),
            None => None,
        });
        let request = taken.map_err(|_| Errno::ERESTARTSYS)??;
        self.wait.wake_all_poll(PollEvents::OUT | PollEvents::WRNORM);
        let notif = SeccompNotif {
            id: request.id,
            pid: request.pid.nr_in(&current().pid_ns()) as u32,
            flags: 0,
            data: request.data,
        };
        if let Err(errno) = user.write(&notif) {
            self.give_back(&request);
            return Err(errno);
        }
        Ok(0)
    }

    /// A request could not be delivered: it can be taken again.
    fn give_back(&self, request: &Request) {
        {
            let _state = self.state.lock();
            let mut answer = request.answer.lock();
            if answer.stage != Stage::Taken {
                return;
            }
            answer.stage = Stage::Asked;
        }
        if self.killable {
            // Its thread may sleep through signals now, and has to stop doing so.
            request.ready.complete();
        }
        self.wait.wake_all_poll(PollEvents::IN | PollEvents::RDNORM);
    }

    fn find(state: &State, id: u64) -> Result<Arc<Request>> {
        state.requests.iter().find(|r| r.id == id).cloned().ok_or(Errno::ENOENT)
    }

    /// `SECCOMP_IOCTL_NOTIF_SEND`.
    fn send(&self, arg: usize) -> Result<isize> {
        let resp = UserPtr::<SeccompNotifResp>::new(arg).read()?;
        let go_on = resp.flags & c::SECCOMP_USER_NOTIF_FLAG_CONTINUE != 0;
        if resp.flags & !c::SECCOMP_USER_NOTIF_FLAG_CONTINUE != 0
            || go_on && (resp.error != 0 || resp.val != 0)
        {
            return Err(Errno::EINVAL);
        }
        let request = {
            let state = self.state.lock();
            let request = Self::find(&state, resp.id)?;
            let mut answer = request.answer.lock();
            if answer.stage != Stage::Taken {
                return Err(Errno::EINPROGRESS);
            }
            answer.reply(resp.error, resp.val, go_on);
            drop(answer);
            request
        };
        request.ready.complete();
        Ok(0)
    }

    /// `SECCOMP_IOCTL_NOTIF_ID_VALID`.
    fn id_valid(&self, arg: usize) -> Result<isize> {
        let id = UserPtr::<u64>::new(arg).read()?;
        let state = self.state.lock();
        let request = Self::find(&state, id)?;
        let taken = request.answer.lock().stage == Stage::Taken;
        if taken { Ok(0) } else { Err(Errno::ENOENT) }
    }

    /// `SECCOMP_IOCTL_NOTIF_ADDFD`: gives the stopped thread's process a descriptor.
    fn add_fd(&self, arg: usize, size: usize) -> Result<isize> {
        if !(size_of::<SeccompNotifAddfd>()..arch::addr::PAGE_SIZE).contains(&size) {
            return Err(Errno::EINVAL);
        }
        let wish = copy_struct_from_user(UserPtr::<SeccompNotifAddfd>::new(arg), size)?;
        let set = wish.flags & c::SECCOMP_ADDFD_FLAG_SETFD != 0;
        let send = wish.flags & c::SECCOMP_ADDFD_FLAG_SEND != 0;
        if wish.newfd_flags & !raw::O_CLOEXEC != 0
            || wish.flags & !(c::SECCOMP_ADDFD_FLAG_SETFD | c::SECCOMP_ADDFD_FLAG_SEND) != 0
            || wish.newfd != 0 && !set
        {
            return Err(Errno::EINVAL);
        }
        let file = crate::fs::context::file(vfs::fdtable::Fd::from_raw(wish.srcfd as i32)?)?;
        let add = try_arc(AddFd::new(file, set.then_some(wish.newfd), wish.newfd_flags, send))?;
        let request = {
            let state = self.state.lock();
            let request = Self::find(&state, wish.id)?;
            let mut answer = request.answer.lock();
            if answer.stage != Stage::Taken {
                return Err(Errno::EINPROGRESS);
            }
            if send && !answer.add.is_empty() {
                return Err(Errno::EBUSY);
            }
            answer.add.try_push(add.clone())?;
            if send {
                answer.stage = Stage::Replied;
            }
            drop(answer);
            request
        };
        request.ready.complete();
        if add.done.wait_interruptible().is_err() {
            // It may have been done nevertheless.
            let _state = self.state.lock();
            let mut answer = request.answer.lock();
            let before = answer.add.len();
            answer.add.retain(|other| !Arc::ptr_eq(other, &add));
            if answer.add.len() < before {
                if send && answer.stage == Stage::Replied {
                    answer.stage = Stage::Taken;
                }
                return Err(Errno::ERESTARTSYS);
            }
        }
        add.result()
    }

    /// The descriptor is closed: everybody who waits gets `ENOSYS`.
    fn close(&self) {
        let requests = {
            let mut state = self.state.lock();
            state.closed = true;
            core::mem::take(&mut state.requests)
        };
        for request in requests {
            let mut answer = request.answer.lock();
            if answer.stage != Stage::Replied {
                answer.close();
            }
            drop(answer);
            request.ready.complete();
        }
    }
}

/// The object behind the descriptor.
struct ListenerFile(Arc<Listener>);

/// The `size` bits of an ioctl number.
const fn ioctl_size(cmd: u32) -> usize {
    (cmd >> 16 & 0x3fff) as usize
}

impl FileOps for ListenerFile {
    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            c::SECCOMP_IOCTL_NOTIF_RECV => self.0.receive(arg),
            c::SECCOMP_IOCTL_NOTIF_SEND => self.0.send(arg),
            c::SECCOMP_IOCTL_NOTIF_ID_VALID | c::SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR => {
                self.0.id_valid(arg)
            }
            // Who is woken where is up to the scheduler here: the flag is accepted and changes nothing.
            c::SECCOMP_IOCTL_NOTIF_SET_FLAGS => {
                let known = c::SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP as usize;
                if arg & !known != 0 { Err(Errno::EINVAL) } else { Ok(0) }
            }
            _ if cmd & !(0x3fff << 16) == c::SECCOMP_IOCTL_NOTIF_ADDFD_BASE => {
                self.0.add_fd(arg, ioctl_size(cmd))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.0.wait);
        let mut events = PollEvents::empty();
        for request in &self.0.state.lock().requests {
            match request.answer.lock().stage {
                Stage::Asked => events |= PollEvents::IN | PollEvents::RDNORM,
                Stage::Taken => events |= PollEvents::OUT | PollEvents::WRNORM,
                Stage::Replied => {}
            }
        }
        if self.0.is_orphan() {
            events |= PollEvents::HUP;
        }
        events
    }

    fn release(&self, _: &File) {
        self.0.close();
    }
}

/// The descriptor's file.
///
/// # Errors
/// `ENFILE`, `ENOMEM`.
pub fn file(listener: &Arc<Listener>) -> Result<Arc<File>> {
    let object = try_arc(ListenerFile(listener.clone()))?;
    vfs::anon::anon_file(&current().cred(), "seccomp notify", FileImpl::Shared(object), raw::O_RDWR)
}

/// How a request's thread sleeps.
pub(super) fn sleeps_through_signals(listener: &Listener, request: &Request) -> bool {
    listener.killable && request.answer.lock().stage == Stage::Taken
}
