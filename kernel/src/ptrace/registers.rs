//! The registers of a stopped thread: `PTRACE_GETREGSET` and its older kin, `PTRACE_PEEKUSER`.

use super::stop::stands;
use crate::process::Thread;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::ptrace::{Direction, Regset, Room, Short, regset};
use arch::trap::TrapFrame;
use mm::user::{UserPtr, copy_from_user, copy_to_user};
use sched::Task;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Runs `f` on the registers of a thread that stands in a stop, waiting for the instant in which it still goes to sleep.
///
/// # Errors
/// `ESRCH`: it does not stand any more.
pub fn with<R>(
    task: &Arc<Task>,
    f: impl FnOnce(&mut arch::thread::Thread, &mut TrapFrame) -> R,
) -> Result<R> {
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    let mut f = Some(f);
    loop {
        if !stands(thread) {
            return Err(Errno::ESRCH);
        }
        let done = task.with_traced(|machine, frame| f.take().map(|f| f(machine, frame)));
        if let Some(result) = done {
            return result.ok_or(Errno::ESRCH);
        }
        sched::sleep_ns(10_000);
    }
}

/// `struct iovec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Iovec {
    base: usize,
    len: usize,
}

fn buffer(len: usize) -> Result<Vec<u8>> {
    Ok(mm::fallible::try_vec(0, len)?)
}

fn get(task: &Arc<Task>, set: &Regset, buffer: &mut [u8]) -> Result<()> {
    with(task, |machine, frame| (set.get)(machine, frame, buffer))
}

/// Moves up to `len` bytes of a set between the tracer's memory at `addr` and the thread; how many.
fn transfer(task: &Arc<Task>, set: &Regset, way: Direction, addr: usize, len: usize) -> Result<usize> {
    let whole = (set.len)();
    if whole == 0 {
        return Err(Errno::ENODEV);
    }
    let len = len.min(whole);
    let mut bytes = buffer(whole)?;
    match way {
        Direction::Get => {
            get(task, set, &mut bytes)?;
            copy_to_user(addr, bytes.get(..len).unwrap_or_default())?;
        }
        Direction::Set => {
            let write = set.set.ok_or(Errno::EOPNOTSUPP)?;
            if let Short::Refuse(errno) = set.short
                && len < whole
            {
                return Err(errno);
            }
            let mut room = Room::new(set.note)?;
            let mut new = buffer(len)?;
            copy_from_user(&mut new, addr)?;
            with(task, |machine, frame| {
                if len < whole {
                    (set.get)(machine, frame, &mut bytes);
                }
                if let Some(first) = bytes.get_mut(..len) {
                    first.copy_from_slice(&new);
                }
                write(machine, frame, &bytes, &mut room)
            })??;
        }
    }
    Ok(len)
}

/// `PTRACE_GETREGSET`, `PTRACE_SETREGSET`: `note` is the set, `data` a `struct iovec` whose length is brought up to date.
///
/// # Errors
/// `EINVAL`: no such set, a length that is not of whole registers. `EFAULT`, `EIO`, `ESRCH`.
pub fn by_iovec(task: &Arc<Task>, way: Direction, note: usize, data: usize) -> Result<()> {
    let at = UserPtr::<Iovec>::new(data);
    let mut vector = at.read()?;
    let set = u32::try_from(note).ok().and_then(regset).ok_or(Errno::EINVAL)?;
    if !vector.len.is_multiple_of(set.unit) {
        return Err(Errno::EINVAL);
    }
    vector.len = transfer(task, set, way, vector.base, vector.len)?;
    at.byte_add::<usize>(size_of::<usize>()).write(&vector.len)
}

/// A whole set, for the requests that are older than `PTRACE_GETREGSET`.
///
/// # Errors
/// `EFAULT`, `EIO`, `ESRCH`.
pub fn whole(task: &Arc<Task>, way: Direction, note: u32, data: usize) -> Result<()> {
    let set = regset(note).ok_or(Errno::EIO)?;
    transfer(task, set, way, data, usize::MAX).map(drop)
}

/// `PTRACE_PEEKUSER`.
///
/// # Errors
/// `EIO`: there is nothing at `offset`. `EFAULT`, `ESRCH`.
pub fn peek_user(task: &Arc<Task>, offset: usize, data: usize) -> Result<()> {
    let word = with(task, |machine, frame| arch::ptrace::peek_user(machine, frame, offset))??;
    UserPtr::<usize>::new(data).write(&word)
}

/// `PTRACE_POKEUSER`.
///
/// # Errors
/// `EIO`: nothing at `offset` can be written. `EINVAL`: not with this value. `ESRCH`.
pub fn poke_user(task: &Arc<Task>, offset: usize, value: usize) -> Result<()> {
    with(task, |machine, frame| arch::ptrace::poke_user(machine, frame, offset, value))?
}

/// `PTRACE_ARCH_PRCTL`: arch_prctl(2) for the thread, with results in the tracer's memory.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`, `ESRCH`.
pub fn arch_prctl(task: &Arc<Task>, thread: &Thread, op: i32, addr: usize) -> Result<()> {
    use crate::misc::arch_calls::{Base, base_of, is_shadow_stack, shadow_stack};
    if is_shadow_stack(op) {
        return shadow_stack(thread, true, op, addr);
    }
    let (base, set) = base_of(op).ok_or(Errno::EINVAL)?;
    if !set {
        let value = with(task, |machine, _| match base {
            Base::Fs => machine.tls(),
            Base::Gs => machine.gs_base(),
        })?;
        return UserPtr::<usize>::new(addr).write(&value);
    }
    if addr >= arch::layout::TASK_SIZE {
        return Err(Errno::EPERM);
    }
    with(task, |machine, _| match base {
        Base::Fs => machine.set_tls(addr),
        Base::Gs => machine.set_gs_base(addr),
    })
}
