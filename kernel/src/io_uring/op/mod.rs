//! The operations.
//!
//! [`OpDef`] says what the machinery has to know of each; `prep` turns a submission into an [`Op`], reading everything that the
//! user may change afterwards (names, segment lists, times); [`issue`] tries it, and may be called again.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::io_uring::{OP_LAST, Sqe};
use abi::poll::PollEvents;
use abi::{Errno, Result};
use vfs::cred::Credentials;
use vfs::fdtable::Fd;
use vfs::file::File;

use super::cancel::Cancel;
use super::complete::{Cx, result};
use super::request::{Head, Request, flags};
use super::ring::Ring;
use super::timeout::{Remove, Timeout};
use crate::fs::context;
use crate::process::current;

pub mod buffers;
pub mod child;
pub mod fd;
pub mod file;
pub mod futex;
pub mod misc;
pub mod name;
pub mod net;
pub mod open;
pub mod ready;
pub mod ring_msg;
pub mod rw;
pub mod xattr;

/// `IORING_OP_TIMEOUT`.
pub const TIMEOUT: u8 = 11;
/// `IORING_OP_LINK_TIMEOUT`.
pub const LINK_TIMEOUT: u8 = 15;

/// Whether cancelling one such request is reported as 1: children and futexes.
pub fn is_counted(opcode: u8) -> bool {
    matches!(opcode, 50 | 51 | 53)
}

/// What came of issuing a request.
pub enum Issue {
    /// Complete: result and flags.
    Done(i32, u32),
    /// It would wait until its file has one of these events.
    WouldBlock(PollEvents),
    /// It may sleep: for a worker.
    Punt,
    /// It waits for something it has registered with, or has completed itself.
    Pending,
    /// It has to wait, for which the request must be shared: it is to be tried again as one that is.
    Share,
}

impl Issue {
    /// Complete with the result of a call.
    pub fn of(value: Result<usize>) -> Self {
        Self::Done(result(value), 0)
    }
}

/// What `prep` functions see.
pub struct Prep<'a> {
    /// The ring.
    pub ring: &'a Arc<Ring>,
    /// [`flags`] of the request.
    pub bits: u32,
    /// The personality.
    pub cred: Option<&'a Arc<Credentials>>,
}

impl Prep<'_> {
    /// Whether a flag is set.
    pub fn has(&self, bit: u32) -> bool {
        self.bits & bit != 0
    }
}

/// What `issue` functions see.
pub struct Call<'a, 'c> {
    /// Where completions go.
    pub cx: &'a mut Cx<'c>,
    /// The request.
    pub req: &'a Head,
    /// The same, if others may know it.
    pub shared: Option<&'a Arc<Request>>,
    /// It may sleep.
    pub worker: bool,
}

impl<'a> Call<'a, '_> {
    /// The file.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn file(&self) -> Result<&'a Arc<File>> {
        self.req.file().ok_or(Errno::EBADF)
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        self.cx.ring
    }
}

/// An operation with its arguments. It is moved into its request, so the larger ones are boxed.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub enum Op {
    #[default]
    Idle,
    Nop(Option<i32>),
    Rw(rw::Rw),
    File(file::FileOp),
    Splice(file::Splice),
    Name(Box<name::NameOp>),
    Xattr(Box<xattr::XattrOp>),
    Open(Box<open::Open>),
    Close(open::Close),
    FilesUpdate(fd::FilesUpdate),
    FixedFdInstall(u32),
    Poll(ready::PollAdd),
    PollRemove(ready::PollRemove),
    EpollCtl(ready::EpollCtl),
    Timeout(Timeout),
    LinkTimeout(Timeout),
    TimeoutRemove(Remove),
    Cancel(Cancel),
    Statx(misc::Statx),
    Madvise(misc::Madvise),
    Provide(buffers::Provide),
    Remove(buffers::Remove),
    Message(ring_msg::Message),
    Futex(futex::FutexOp),
    WaitId(Box<child::WaitIdOp>),
    Net(net::NetOp),
}

const _: () = assert!(size_of::<Op>() <= 72);

impl Op {
    /// Whether dropping it would do nothing. Of those that are often made and complete at once; `false` is always right.
    #[inline(always)]
    pub fn owns_nothing(&self) -> bool {
        match self {
            Self::Idle | Self::Nop(_) => true,
            Self::Rw(rw) => rw.owns_nothing(),
            _ => false,
        }
    }
}

/// Puts a new operation where none is: a request is as good as new when it is prepared. There is nothing to drop, and saying so spares the
/// functions that make operations a look at what each kind may own.
#[inline(always)]
fn fill(place: &mut Op, op: Op) {
    debug_assert!(matches!(place, Op::Idle), "an operation is prepared in a request that has one");
    core::mem::forget(core::mem::replace(place, op));
}

/// Makes an operation in the place that its request has for it.
type PrepFn = fn(&Prep<'_>, &Sqe, &mut Op) -> Result<()>;

/// What the machinery knows of an operation.
pub struct OpDef {
    /// Makes the operation.
    pub prep: PrepFn,
    /// `fd` names a file that it works on.
    pub needs_file: bool,
    /// It can wait for its file to become ready.
    pub pollable: bool,
    /// It can take a provided buffer.
    pub buffer_select: bool,
    /// `ioprio` means something.
    pub ioprio: bool,
    /// It exists on rings with `IOPOLL`.
    pub iopoll: bool,
    /// It may take for ever, whatever its file.
    pub unbounded: bool,
}

impl OpDef {
    const fn new(prep: PrepFn) -> Self {
        Self {
            prep,
            needs_file: false,
            pollable: false,
            buffer_select: false,
            ioprio: false,
            iopoll: false,
            unbounded: false,
        }
    }

    const fn file(mut self) -> Self {
        self.needs_file = true;
        self
    }

    const fn pollable(mut self) -> Self {
        self.pollable = true;
        self.needs_file = true;
        self
    }

    const fn select(mut self) -> Self {
        self.buffer_select = true;
        self
    }

    const fn prio(mut self) -> Self {
        self.ioprio = true;
        self
    }

    const fn iopoll(mut self) -> Self {
        self.iopoll = true;
        self
    }

    const fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self
    }

    /// What is known of `opcode`; `None` for what there is not.
    #[inline]
    pub fn of(opcode: u8) -> Option<&'static Self> {
        TABLE.get(usize::from(opcode)).and_then(Option::as_ref)
    }
}

/// The definition of an operation that a function `fn(&Prep, &Sqe) -> Result<Op>` makes. The function becomes part of one that puts the
/// result in place, so that it is not moved.
macro_rules! op {
    ($prep:expr) => {
        OpDef::new(|prep, entry, place| {
            fill(place, $prep(prep, entry)?);
            Ok(())
        })
    };
}

/// By number, `IORING_OP_*`.
static TABLE: [Option<OpDef>; OP_LAST as usize] = [
    Some(op!(misc::prep_nop).iopoll()),
    Some(op!(rw::prep_readv).pollable().select().prio().iopoll()),
    Some(op!(rw::prep_writev).pollable().prio().iopoll()),
    Some(op!(file::prep_fsync).file()),
    Some(op!(rw::prep_read_fixed).pollable().prio().iopoll()),
    Some(op!(rw::prep_write_fixed).pollable().prio().iopoll()),
    Some(op!(ready::prep_add).file().unbounded()),
    Some(op!(ready::prep_remove)),
    Some(op!(file::prep_sync_range).file()),
    Some(op!(net::prep_sendmsg).pollable().prio().unbounded()),
    Some(op!(net::prep_recvmsg).pollable().select().prio().unbounded()),
    Some(op!(Timeout::prepare)),
    Some(op!(Remove::prepare)),
    Some(op!(net::prep_accept).pollable().prio().unbounded()),
    Some(op!(Cancel::prepare)),
    Some(op!(Timeout::prepare_link)),
    Some(op!(net::prep_connect).pollable().unbounded()),
    Some(op!(file::prep_fallocate).file()),
    Some(op!(open::prep_openat)),
    Some(op!(open::prep_close)),
    Some(op!(fd::prep_files_update).iopoll()),
    Some(op!(misc::prep_statx)),
    Some(op!(rw::prep_read).pollable().select().prio().iopoll()),
    Some(op!(rw::prep_write).pollable().prio().iopoll()),
    Some(op!(file::prep_fadvise).file()),
    Some(op!(misc::prep_madvise)),
    Some(op!(net::prep_send).pollable().prio().unbounded()),
    Some(op!(net::prep_recv).pollable().select().prio().unbounded()),
    Some(op!(open::prep_openat2)),
    Some(op!(ready::prep_epoll_ctl)),
    Some(op!(file::prep_splice).file().unbounded()),
    Some(op!(buffers::prep_provide).iopoll()),
    Some(op!(buffers::prep_remove).iopoll()),
    Some(op!(file::prep_tee).file().unbounded()),
    Some(op!(net::prep_shutdown).file()),
    Some(op!(name::prep_rename)),
    Some(op!(name::prep_unlink)),
    Some(op!(name::prep_mkdir)),
    Some(op!(name::prep_symlink)),
    Some(op!(name::prep_link)),
    Some(op!(ring_msg::prep).file().iopoll()),
    Some(op!(xattr::prep_fset).file()),
    Some(op!(xattr::prep_set)),
    Some(op!(xattr::prep_fget).file()),
    Some(op!(xattr::prep_get)),
    Some(op!(net::prep_socket)),
    // Commands of drivers: no file takes any.
    None,
    Some(op!(net::prep_send_zc).pollable().prio().unbounded()),
    Some(op!(net::prep_send_zc).pollable().prio().unbounded()),
    Some(op!(rw::prep_read_multishot).pollable().select()),
    Some(op!(child::prep).unbounded()),
    Some(op!(futex::prep_wait)),
    Some(op!(futex::prep_wake)),
    Some(op!(futex::prep_waitv)),
    Some(op!(fd::prep_install).file()),
    Some(op!(file::prep_ftruncate).file()),
    Some(op!(net::prep_bind).file()),
    Some(op!(net::prep_listen).file()),
];

/// Runs `f` with other credentials, if there are any.
#[inline]
pub fn as_personality<R>(cred: Option<&Arc<Credentials>>, f: impl FnOnce() -> R) -> R {
    let Some(cred) = cred else { return f() };
    let me = current();
    if core::ptr::eq(me.cred.as_ptr(), Arc::as_ptr(cred)) {
        return f();
    }
    let own = me.cred();
    drop(me.cred.replace(Some(cred.clone())));
    let value = f();
    drop(me.cred.replace(Some(own)));
    value
}

/// Looks the request's file up, if it needs one and has none yet.
///
/// # Errors
/// `EBADF`.
#[inline]
pub fn assign_file(ring: &Ring, req: &Head) -> Result<()> {
    if req.has(flags::NEEDS_FILE) && req.file.get().is_none() { find_file(ring, req) } else { Ok(()) }
}

#[inline(never)]
fn find_file(ring: &Ring, req: &Head) -> Result<()> {
    let file = if req.has(flags::FIXED_FILE) {
        let (file, node) = ring.files.lock().get(req.fd as u32)?;
        if let Some(node) = node {
            let _ = req.node.set(node);
        }
        file
    } else {
        context::file(Fd::from_raw(req.fd)?)?
    };
    let _ = req.file.set(file);
    Ok(())
}

/// Tries the operation of `req`: by its thread, or by a worker that may sleep.
pub fn issue(cx: &mut Cx<'_>, req: &Arc<Request>, worker: bool) -> Issue {
    if let Err(errno) = assign_file(cx.ring, req) {
        return Issue::of(Err(errno));
    }
    as_personality(req.cred.get(), || {
        let mut op = req.op.lock();
        let mut call = Call { cx, req: &req.head, shared: Some(req), worker };
        run(&mut op, &mut call)
    })
}

/// Tries the operation of a request that nobody else knows, by its thread.
#[inline(always)]
pub fn issue_alone(cx: &mut Cx<'_>, req: &mut Request) -> Issue {
    let (op, head) = (req.op.get_mut(), &req.head);
    if let Err(errno) = assign_file(cx.ring, head) {
        return Issue::of(Err(errno));
    }
    let mut call = Call { cx, req: head, shared: None, worker: false };
    match head.cred.get() {
        None => run(op, &mut call),
        cred => as_personality(cred, || run_outlined(op, &mut call)),
    }
}

/// The commonest are called from here, and this is small: the others have a frame that only they need.
#[inline(always)]
fn run(op: &mut Op, call: &mut Call<'_, '_>) -> Issue {
    match op {
        Op::Nop(injected) => Issue::Done(injected.unwrap_or(0), 0),
        Op::Rw(rw) => rw.issue(call),
        Op::Net(net) => net.issue(call),
        _ => run_other(op, call),
    }
}

/// As [`run`], not part of its caller.
#[inline(never)]
fn run_outlined(op: &mut Op, call: &mut Call<'_, '_>) -> Issue {
    run(op, call)
}

#[inline(never)]
fn run_other(op: &mut Op, call: &mut Call<'_, '_>) -> Issue {
    match op {
        Op::Idle | Op::Nop(_) | Op::Rw(_) | Op::Net(_) | Op::LinkTimeout(_) => Issue::of(Err(Errno::EINVAL)),
        Op::File(file) => sleeping(call, |call| file.run(call)),
        Op::Splice(splice) => sleeping(call, |call| splice.run(call)),
        Op::Name(name) => sleeping(call, |_| name.run().map(|()| 0)),
        Op::Xattr(xattr) => sleeping(call, |call| xattr.run(call)),
        Op::Open(open) => open.issue(call),
        Op::Close(close) => Issue::of(close.run(call).map(|()| 0)),
        Op::FilesUpdate(update) => Issue::of(update.run(call)),
        Op::FixedFdInstall(bits) => Issue::of(fd::install(call, *bits)),
        Op::Poll(poll) => poll.issue(call),
        Op::PollRemove(remove) => Issue::of(remove.run(call).map(|()| 0)),
        Op::EpollCtl(ctl) => Issue::of(ctl.run().map(|()| 0)),
        Op::Timeout(timeout) => match call.shared {
            Some(req) => timeout.issue(call.cx, req),
            None => Issue::Share,
        },
        Op::TimeoutRemove(remove) => Issue::of(remove.issue(call.cx)),
        Op::Cancel(cancel) => Issue::of(cancel.issue(call.cx, call.req)),
        Op::Statx(statx) => sleeping(call, |_| statx.run().map(|()| 0)),
        Op::Madvise(advise) => sleeping(call, |_| advise.run().map(|()| 0)),
        Op::Provide(provide) => Issue::of(provide.run(call).map(|()| 0)),
        Op::Remove(remove) => Issue::of(remove.run(call)),
        Op::Message(message) => Issue::of(message.run(call).map(|()| 0)),
        Op::Futex(futex) => futex.issue(call),
        Op::WaitId(wait) => wait.issue(call),
    }
}

/// An operation that may sleep: workers do it.
fn sleeping(call: &mut Call<'_, '_>, f: impl FnOnce(&mut Call<'_, '_>) -> Result<usize>) -> Issue {
    if call.worker { Issue::of(f(call)) } else { Issue::Punt }
}
