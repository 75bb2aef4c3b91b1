//! `ioctl_userfaultfd(2)`. Structures are read but for their last word, which is the result and is written even when the call fails.

use crate::process::current;
use abi::cap::Cap;
use abi::uffd::{UFFDIO_MOVE, UFFDIO_POISON, UffdioApi, UffdioRange, UffdioRangeMode, UffdioTransfer};
use abi::{Errno, Result, raw, raw_sys};
use alloc::sync::Arc;
use mm::uffd::{Context, FEATURES, Fill, Guarded, Holes, Protection, check_range, check_source};
use mm::user::UserPtr;
use mm::vma::VmFlags;
use raw_sys::ioctl::{
    UFFDIO_API, UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE,
    UFFDIO_WRITEPROTECT, UFFDIO_ZEROPAGE,
};

/// What works on any descriptor, a bit each.
pub(super) const API_IOCTLS: u64 =
    1 << raw::_UFFDIO_REGISTER | 1 << raw::_UFFDIO_UNREGISTER | 1 << raw::_UFFDIO_API;
/// What works on registered ranges.
pub(super) const RANGE_IOCTLS: u64 = 1 << raw::_UFFDIO_WAKE
    | 1 << raw::_UFFDIO_COPY
    | 1 << raw::_UFFDIO_ZEROPAGE
    | 1 << raw::_UFFDIO_MOVE
    | 1 << raw::_UFFDIO_WRITEPROTECT
    | 1 << raw::_UFFDIO_CONTINUE
    | 1 << raw::_UFFDIO_POISON;

/// `UFFDIO_*_MODE_DONTWAKE` of everything but `UFFDIO_WRITEPROTECT`.
const DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`, `UFFDIO_CONTINUE_MODE_WP`.
const WP: u64 = 2;
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`.
const ALLOW_SRC_HOLES: u64 = 2;

pub(super) fn ioctl(context: &Arc<Context>, cmd: u32, arg: usize) -> Result<isize> {
    if cmd != UFFDIO_API && !context.is_agreed() {
        return Err(Errno::EINVAL);
    }
    match cmd {
        UFFDIO_API => api(context, UserPtr::new(arg)),
        UFFDIO_REGISTER => register(context, UserPtr::new(arg)),
        UFFDIO_UNREGISTER => context.unregister(range_at(arg)?),
        UFFDIO_WAKE => {
            context.wake(range_at(arg)?);
            Ok(())
        }
        UFFDIO_COPY => copy(context, UserPtr::new(arg)),
        UFFDIO_ZEROPAGE => fill(context, UserPtr::new(arg), Fill::Zero, 0),
        UFFDIO_CONTINUE => fill(context, UserPtr::new(arg), Fill::Continue, WP),
        UFFDIO_POISON => fill(context, UserPtr::new(arg), Fill::Poison, 0),
        UFFDIO_WRITEPROTECT => protect(context, UserPtr::new(arg)),
        UFFDIO_MOVE => relocate(context, UserPtr::new(arg)),
        _ => Err(Errno::EINVAL),
    }
    .map(|()| 0)
}

fn range_at(arg: usize) -> Result<core::ops::Range<usize>> {
    let range = UserPtr::<UffdioRange>::new(arg).read()?;
    check_range(range.start, range.len)
}

fn api(context: &Context, at: UserPtr<UffdioApi>) -> Result<()> {
    let agreed = agree(context, at);
    if agreed.is_err() {
        at.write(&UffdioApi::default())?;
    }
    agreed
}

fn agree(context: &Context, at: UserPtr<UffdioApi>) -> Result<()> {
    let wanted = at.read()?;
    let mut features = wanted.features;
    if wanted.api != u64::from(raw::UFFD_API) {
        return Err(Errno::EINVAL);
    }
    let forks = features & u64::from(raw::UFFD_FEATURE_EVENT_FORK) != 0;
    if forks && !current().with_cred(|cred| cred.capable(Cap::SysPtrace)) {
        return Err(Errno::EPERM);
    }
    if features & u64::from(raw::UFFD_FEATURE_WP_ASYNC) != 0 {
        features |= u64::from(raw::UFFD_FEATURE_WP_UNPOPULATED);
    }
    if features & !FEATURES != 0 {
        return Err(Errno::EINVAL);
    }
    at.write(&UffdioApi { api: wanted.api, features: FEATURES, ioctls: API_IOCTLS })?;
    context.agree(features)
}

/// The word behind the input: the result.
fn result_of<T>(at: UserPtr<T>) -> UserPtr<i64> {
    UserPtr::new(at.addr().wrapping_add(size_of::<T>()))
}

fn register(context: &Arc<Context>, at: UserPtr<UffdioRangeMode>) -> Result<()> {
    let input = at.read()?;
    let flags = Context::flags_of(input.mode).ok_or(Errno::EINVAL)?;
    context.register(check_range(input.range.start, input.range.len)?, flags)?;
    let mut ioctls = RANGE_IOCTLS;
    if !flags.contains(VmFlags::UFFD_WP) {
        ioctls &= !(1 << raw::_UFFDIO_WRITEPROTECT);
    }
    if !flags.contains(VmFlags::UFFD_MINOR) {
        ioctls &= !(1 << raw::_UFFDIO_CONTINUE);
    }
    result_of(at).write(&(ioctls as i64))
}

/// Tells how many bytes were done, or the error; wakes who waits for them. A part is `EAGAIN`.
fn finish<T>(
    context: &Context,
    at: UserPtr<T>,
    (start, len): (usize, usize),
    done: Result<usize>,
    wake: bool,
) -> Result<()> {
    let word = match done {
        Err(Errno::ESRCH) => return Err(Errno::ESRCH),
        Err(error) => error.to_return() as i64,
        Ok(done) => done as i64,
    };
    result_of(at).write(&word)?;
    let done = done?;
    if wake {
        context.wake(start..start + done);
    }
    if done == len { Ok(()) } else { Err(Errno::EAGAIN) }
}

fn guarded(mode: u64) -> Guarded {
    if mode & WP != 0 { Guarded::Yes } else { Guarded::No }
}

fn copy(context: &Context, at: UserPtr<UffdioTransfer>) -> Result<()> {
    if context.is_changing() {
        return Err(Errno::EAGAIN);
    }
    let input = at.read()?;
    let source = check_source(input.src, input.len)?;
    let range = check_range(input.dst, input.len)?;
    if input.mode & !(DONTWAKE | WP) != 0 {
        return Err(Errno::EINVAL);
    }
    let done = context.fill(range.clone(), Fill::Copy(source.start), guarded(input.mode));
    finish(context, at, (range.start, range.len()), done, input.mode & DONTWAKE == 0)
}

/// Everything else that fills pages; `known` are its modes beside `DONTWAKE`.
fn fill(context: &Context, at: UserPtr<UffdioRangeMode>, fill: Fill, known: u64) -> Result<()> {
    if context.is_changing() {
        return Err(Errno::EAGAIN);
    }
    let input = at.read()?;
    let range = check_range(input.range.start, input.range.len)?;
    if input.mode & !(DONTWAKE | known) != 0 {
        return Err(Errno::EINVAL);
    }
    let done = context.fill(range.clone(), fill, guarded(input.mode & known));
    finish(context, at, (range.start, range.len()), done, input.mode & DONTWAKE == 0)
}

fn protect(context: &Context, at: UserPtr<UffdioRangeMode>) -> Result<()> {
    /// `UFFDIO_WRITEPROTECT_MODE_WP`.
    const ON: u64 = 1;
    /// `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`.
    const QUIET: u64 = 2;
    if context.is_changing() {
        return Err(Errno::EAGAIN);
    }
    let input = at.read()?;
    let range = check_range(input.range.start, input.range.len)?;
    if input.mode & !(ON | QUIET) != 0 || input.mode == ON | QUIET {
        return Err(Errno::EINVAL);
    }
    let protection = if input.mode & ON != 0 { Protection::On } else { Protection::Off };
    context.protect(range.clone(), protection)?;
    if input.mode == 0 {
        context.wake(range);
    }
    Ok(())
}

fn relocate(context: &Arc<Context>, at: UserPtr<UffdioTransfer>) -> Result<()> {
    if context.is_changing() {
        return Err(Errno::EAGAIN);
    }
    let input = at.read()?;
    // Only within one's own memory.
    let own =
        context.space().is_ok_and(|space| current().mm().is_some_and(|mine| Arc::ptr_eq(&mine, &space)));
    if !own {
        return Err(Errno::EINVAL);
    }
    let dst = check_range(input.dst, input.len)?;
    let src = check_range(input.src, input.len)?;
    if input.mode & !(DONTWAKE | ALLOW_SRC_HOLES) != 0 {
        return Err(Errno::EINVAL);
    }
    let holes = if input.mode & ALLOW_SRC_HOLES != 0 { Holes::Allowed } else { Holes::Refused };
    let done = context.relocate(dst.start, src.start, dst.len(), holes);
    finish(context, at, (dst.start, dst.len()), done, input.mode & DONTWAKE == 0)
}
