//! kcmp(2): whether two processes share a file description, memory, file table and the like.
//!
//! The order that the call reports must be total and constant but tell nothing about where objects lie, so
//! addresses are scrambled with secrets of this boot, one pair per kind of object.

use crate::cred::access::may_inspect;
use crate::process::{Thread, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::user::UserPtr;
use sync::Once;
use vfs::file::File;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[KCMP];

const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_IO: i32 = 5;
const KCMP_SYSVSEM: i32 = 6;
const KCMP_EPOLL_TFD: i32 = 7;
const KINDS: usize = 8;

/// What addresses of a kind are combined with: first exclusive-or, then a multiplication by an odd number.
static SECRETS: Once<[(u64, u64); KINDS]> = Once::new();

fn scramble(addr: usize, kind: i32) -> u64 {
    let secrets = SECRETS
        .call_once(|| core::array::from_fn(|_| (crate::misc::random::u64(), crate::misc::random::u64() | 1)));
    let (mask, factor) = secrets.get(kind as usize).copied().unwrap_or((0, 1));
    (addr as u64 ^ mask).wrapping_mul(factor)
}

/// Where the object of `kind` that `thread` uses lies; 0 if it has none.
fn address(thread: &Thread, kind: i32, fd: usize) -> Result<usize> {
    fn of<T: ?Sized>(object: Option<&Arc<T>>) -> usize {
        object.map_or(0, |object| Arc::as_ptr(object).cast::<u8>().addr())
    }
    Ok(match kind {
        KCMP_FILE => of(Some(&file(thread, fd)?)),
        KCMP_VM => of(thread.mm().as_ref()),
        KCMP_FILES => of(thread.files().as_ref()),
        KCMP_FS => of(thread.fs().as_ref()),
        KCMP_SIGHAND => of(Some(&thread.process.sighand())),
        // Nobody has an I/O context of its own.
        KCMP_IO => 0,
        KCMP_SYSVSEM => thread.ipc.undo_address(),
        _ => return Err(Errno::EINVAL),
    })
}

/// The file behind a descriptor of `thread`.
fn file(thread: &Thread, fd: usize) -> Result<Arc<File>> {
    let files = thread.files().ok_or(Errno::EBADF)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    files.get_raw(vfs::fdtable::Fd::from_raw(fd)?)
}

/// `KCMP_EPOLL_TFD`: a descriptor against what an epoll of the second process watches.
fn compare_epoll(first: &Thread, fd: usize, second: &Thread, slot: usize) -> Result<usize> {
    let slot = UserPtr::<[u32; 3]>::new(slot).read()?;
    let [epoll, target, skip] = slot;
    let own = file(first, fd)?;
    let epoll = file(second, epoll as usize)?;
    let watched = vfs::epoll::watched(&epoll, target, skip as usize)?;
    let place = |file: &Arc<File>| scramble(Arc::as_ptr(file).addr(), KCMP_FILE);
    Ok(order(place(&own), place(&watched)))
}

/// How the call tells an order.
fn order(first: u64, second: u64) -> usize {
    match first.cmp(&second) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

#[macros::syscall(kcmp)]
fn sys_kcmp(pid1: i32, pid2: i32, kind: i32, idx1: usize, idx2: usize) -> Result<usize> {
    let me = current();
    let ns = me.pid_ns();
    let tasks = (ns.task(pid1).ok_or(Errno::ESRCH)?, ns.task(pid2).ok_or(Errno::ESRCH)?);
    let first = tasks.0.data::<Thread>().ok_or(Errno::ESRCH)?;
    let second = tasks.1.data::<Thread>().ok_or(Errno::ESRCH)?;
    may_inspect(&me, first, Cap::SysPtrace)?;
    may_inspect(&me, second, Cap::SysPtrace)?;
    if kind == KCMP_EPOLL_TFD {
        return compare_epoll(first, idx1, second, idx2);
    }
    Ok(order(scramble(address(first, kind, idx1)?, kind), scramble(address(second, kind, idx2)?, kind)))
}
