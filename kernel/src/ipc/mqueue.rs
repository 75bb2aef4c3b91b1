//! POSIX message queues: `mq_open(3)`, `mq_unlink(3)`, `mq_send(3)`, `mq_receive(3)`, `mq_notify(3)`, `mq_getattr(3)`.
//!
//! The queues are files of the `mqueue` file system of the IPC namespace, reached through a mount of the kernel's own: a name is one
//! component, without the slash that the C library takes off.

use super::current_ns;
use crate::fs::context::{self, Caller as FsCaller, fd_flags, file, files, nofile};
use crate::process::user::{MsgqueueCharge, UserCounts};
use crate::process::{Pid, Process, Resource, Thread, current};
use crate::signal::send::{self, Sender};
use crate::signal::{Siginfo, Signal};
use crate::syscall::Syscall;
use abi::ipc::{MQ_PRIO_MAX, MqAttr, NOTIFY_COOKIE_LEN};
use abi::signal::{SI_MESGQ, Sigevent};
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use mm::fallible::{try_arc, try_box};
use mm::user::{UserPtr, UserSlice, UserStr};
use mqueue::{Host, Message, Notification, NotifyInfo, Patience};
use sched::{Clock, Deadline};
use socket::{Socket, SocketOps};
use vfs::cred::UserNamespace;
use vfs::fdtable::Fd;
use vfs::file::{File, FileMode};
use vfs::namei::inside::{open_inside, unlink_inside};
use vfs::super_block::SuperBlock;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[MQ_OPEN, MQ_UNLINK, MQ_TIMEDSEND, MQ_TIMEDRECEIVE, MQ_NOTIFY, MQ_GETSETATTR];

/// `AF_NETLINK`.
const AF_NETLINK: u16 = 16;

/// The calling process, as the file system asks for it.
pub struct Caller;

impl Host for Caller {
    fn super_block(&self) -> Result<Arc<SuperBlock>> {
        Ok(current_ns()?.mqueue_mount()?.sb().clone())
    }

    fn charge(&self, bytes: u64) -> Result<Box<dyn Any + Send + Sync>> {
        let me = current();
        let user = UserCounts::of(me.with_cred(|cred| cred.uid))?;
        let limit = me.process.limits.cur(Resource::Msgqueue);
        let charge = MsgqueueCharge::new(user, bytes, limit).ok_or(Errno::EMFILE)?;
        Ok(try_box(charge)?)
    }
}

/// Reads a name; the empty one names nothing.
fn read_name(name: UserStr) -> Result<alloc::vec::Vec<u8>> {
    let name = context::path(name)?;
    if name.is_empty() { Err(Errno::ENOENT) } else { Ok(name) }
}

#[macros::syscall(mq_open)]
fn sys_mq_open(name: UserStr, oflag: u32, mode: u32, attr: UserPtr<MqAttr>) -> Result<Fd> {
    let attr = attr.read_opt()?;
    let name = read_name(name)?;
    let files = files()?;
    // A descriptor of a queue never survives exec, whatever the flags say.
    let slot = files.reserve(nofile(), fd_flags(true))?;
    let mount = current_ns()?.mqueue_mount()?;
    let caller = FsCaller::current()?;
    let file = open_inside(
        &caller.ctx(),
        &mount.root_path(),
        &name,
        oflag & !raw::O_CLOEXEC,
        mode,
        |dir, name, mode| mqueue::create(caller.cred(), dir, name, mode, attr.as_ref()),
    )?;
    Ok(slot.install(file))
}

#[macros::syscall(mq_unlink)]
fn sys_mq_unlink(name: UserStr) -> Result<()> {
    let name = read_name(name)?;
    let mount = current_ns()?.mqueue_mount()?;
    unlink_inside(&FsCaller::current()?.ctx(), &mount.root_path(), &name)
}

/// How long to wait on `file`: until a time on the system's clock, if one is given.
fn patience(file: &File, timeout: Option<Timespec>) -> Result<Patience> {
    let until = timeout.map(Timespec::to_ns).transpose()?;
    if file.nonblock() {
        return Ok(Patience::None);
    }
    Ok(Patience::Until(until.map(|ns| Deadline::at(Clock::Realtime, ns))))
}

/// A time that a call takes; it is looked at before anything else.
fn read_timeout(timeout: UserPtr<Timespec>) -> Result<Option<Timespec>> {
    let timeout = timeout.read_opt()?;
    if let Some(timeout) = timeout {
        timeout.to_ns()?;
    }
    Ok(timeout)
}

/// The file of a queue that is open for `mode`.
fn queue_file(mqdes: Fd, mode: FileMode) -> Result<Arc<File>> {
    let file = file(mqdes)?;
    mqueue::queue_of(&file)?;
    if file.mode().contains(mode) { Ok(file) } else { Err(Errno::EBADF) }
}

#[macros::syscall(mq_timedsend)]
fn sys_mq_timedsend(
    mqdes: Fd,
    msg_ptr: usize,
    msg_len: usize,
    msg_prio: u32,
    abs_timeout: UserPtr<Timespec>,
) -> Result<()> {
    let timeout = read_timeout(abs_timeout)?;
    if msg_prio >= MQ_PRIO_MAX {
        return Err(Errno::EINVAL);
    }
    let file = queue_file(mqdes, FileMode::WRITE)?;
    if msg_len > mqueue::queue_of(&file)?.message_size() {
        return Err(Errno::EMSGSIZE);
    }
    let text = UserSlice::<u8>::new(msg_ptr, msg_len).to_vec()?;
    mqueue::file::send(&file, Message { priority: msg_prio, text }, patience(&file, timeout)?)
}

#[macros::syscall(mq_timedreceive)]
fn sys_mq_timedreceive(
    mqdes: Fd,
    msg_ptr: usize,
    msg_len: usize,
    msg_prio: UserPtr<u32>,
    abs_timeout: UserPtr<Timespec>,
) -> Result<usize> {
    let timeout = read_timeout(abs_timeout)?;
    let file = queue_file(mqdes, FileMode::READ)?;
    if msg_len < mqueue::queue_of(&file)?.message_size() {
        return Err(Errno::EMSGSIZE);
    }
    let message = mqueue::file::receive(&file, patience(&file, timeout)?)?;
    // It is out of the queue: a bad address loses it.
    msg_prio.write_opt(&message.priority)?;
    UserSlice::new(msg_ptr, message.text.len()).copy_from(&message.text)?;
    Ok(message.text.len())
}

#[macros::syscall(mq_getsetattr)]
fn sys_mq_getsetattr(mqdes: Fd, new: UserPtr<MqAttr>, old: UserPtr<MqAttr>) -> Result<()> {
    let new = new.read_opt()?;
    let nonblock = i64::from(raw::O_NONBLOCK);
    if new.is_some_and(|new| new.flags & !nonblock != 0) {
        return Err(Errno::EINVAL);
    }
    let file = queue_file(mqdes, FileMode::empty())?;
    let mut attr = mqueue::queue_of(&file)?.attr();
    attr.flags = i64::from(file.flags()) & nonblock;
    if let Some(new) = new {
        file.set_flags(raw::O_NONBLOCK, new.flags as u32);
        mqueue::file::accessed(&file);
    }
    old.write_opt(&attr)
}

#[macros::syscall(mq_notify)]
fn sys_mq_notify(mqdes: Fd, sevp: UserPtr<Sigevent>) -> Result<()> {
    let notification = sevp.read_opt()?.map(|event| registration(&event)).transpose()?;
    let file = queue_file(mqdes, FileMode::empty())?;
    let queue = mqueue::queue_of(&file)?;
    match notification {
        Some(notification) => queue.register(notification)?,
        None if queue.unregister() => {}
        None => return Ok(()),
    }
    mqueue::file::accessed(&file);
    Ok(())
}

/// What a `struct sigevent` asks for.
fn registration(event: &Sigevent) -> Result<Arc<dyn Notification>> {
    let me = current();
    let owner = Owner(me.process.pid.clone());
    match event.notify as u32 {
        raw::SIGEV_NONE => Ok(try_arc(Silent(owner))?),
        raw::SIGEV_SIGNAL => {
            if !(0..=crate::signal::set::NSIG as i32).contains(&event.signo) {
                return Err(Errno::EINVAL);
            }
            Ok(try_arc(BySignal {
                owner,
                program: me.mm().map(|mm| mm.id()),
                user_ns: me.with_cred(|cred| cred.user_ns.clone()),
                signo: event.signo,
                value: event.value,
            })?)
        }
        raw::SIGEV_THREAD => {
            let mut cookie = [0; NOTIFY_COOKIE_LEN];
            UserSlice::new(event.value as usize, cookie.len()).copy_to(&mut cookie)?;
            let file = file(Fd::from_raw(event.signo)?)?;
            let socket = file.private::<Socket>().ok_or(Errno::ENOTSOCK)?;
            if socket.family() != AF_NETLINK {
                return Err(Errno::EINVAL);
            }
            Ok(try_arc(ByMessage { owner, socket: socket.ops().clone(), cookie })?)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The process that registered.
struct Owner(Arc<Pid>);

impl Owner {
    fn is_caller(&self) -> bool {
        Arc::ptr_eq(&self.0, &current().process.pid)
    }

    fn show(&self, notify: u32, signo: i32) -> NotifyInfo {
        NotifyInfo { notify: notify as i32, signo, pid: self.0.nr_in(&current().pid_ns()) }
    }
}

/// `SIGEV_NONE`: the registration ends, and that is all.
struct Silent(Owner);

impl Notification for Silent {
    fn fire(&self) {}

    fn is_callers(&self) -> bool {
        self.0.is_caller()
    }

    fn show(&self) -> NotifyInfo {
        self.0.show(raw::SIGEV_NONE, 0)
    }
}

/// `SIGEV_SIGNAL`.
struct BySignal {
    owner: Owner,
    /// The address space of the program that registered: another program in the same process hears nothing.
    program: Option<u64>,
    user_ns: Arc<UserNamespace>,
    signo: i32,
    value: u64,
}

fn program_of(process: &Process) -> Option<u64> {
    process.with_thread(|_, thread: &Thread| thread.mm().map(|mm| mm.id())).flatten()
}

impl Notification for BySignal {
    fn fire(&self) {
        let Some(signal) = Signal::new(self.signo) else { return };
        let Some(process) = self.owner.0.process() else { return };
        if program_of(&process) != self.program {
            return;
        }
        let me = current();
        let pid = me.process.id_in(&process.pid_ns());
        let uid = self.user_ns.from_uid(me.with_cred(|cred| cred.uid));
        let info = Siginfo::from_queue(self.signo, SI_MESGQ, pid, uid, self.value);
        let sender = if pid == 0 { Sender::Privileged } else { Sender::User };
        // A process that cannot take it misses it.
        let _ = send::to_process(&process, signal, &info, sender);
    }

    fn is_callers(&self) -> bool {
        self.owner.is_caller()
    }

    fn show(&self) -> NotifyInfo {
        self.owner.show(raw::SIGEV_SIGNAL, self.signo)
    }
}

/// `SIGEV_THREAD`: the C library waits for the cookie on a socket. Its last byte says what happened.
struct ByMessage {
    owner: Owner,
    socket: Arc<dyn SocketOps>,
    cookie: [u8; NOTIFY_COOKIE_LEN],
}

impl ByMessage {
    const WOKEN_UP: u8 = 1;
    const REMOVED: u8 = 2;

    fn send(&self, what: u8) {
        let mut cookie = self.cookie;
        if let Some(last) = cookie.last_mut() {
            *last = what;
        }
        // Without room in the socket it is lost, as on Linux.
        let _ = self.socket.kernel_message(&cookie);
    }
}

impl Notification for ByMessage {
    fn fire(&self) {
        self.send(Self::WOKEN_UP);
    }

    fn removed(&self) {
        self.send(Self::REMOVED);
    }

    fn is_callers(&self) -> bool {
        self.owner.is_caller()
    }

    fn show(&self) -> NotifyInfo {
        self.owner.show(raw::SIGEV_THREAD, 0)
    }
}
