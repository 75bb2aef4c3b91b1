//! File descriptors: small integers that stand for open files. `open(2)`, `dup(2)`, `close_range(2)`.
//!
//! Slots live in chunks that double in size and never move, so a lookup follows two pointers and
//! takes only the lock of its own slot: threads of a process that use different descriptors touch no
//! common cache line. What is free and what closes on exec is in bitmaps under one lock, which only
//! opening and closing take.
//!
//! A file leaves its slot before it is released, so `close(2)` has released it when it returns (no
//! grace period is involved).
//!
//! Locks: `state`, then a slot. Files are dropped with neither held.
//!
//! Invariant: a slot holds a file only if its bit is set in `state`; a set bit with an empty slot is a descriptor
//! that is being opened.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use bitflags::bitflags;
use collections::bitmap::Bitmap;
use collections::idalloc::{IdAlloc, IdError};
use sync::Once;

use crate::file::{File, FileMode};
use crate::lock::PosixOwner;
use mm::fallible::{TryVec, try_with_capacity};

/// How many descriptors a table may have, whatever `RLIMIT_NOFILE` says (`/proc/sys/fs/nr_open`).
pub static NR_OPEN: AtomicU32 = AtomicU32::new(1024 * 1024);
/// The most that a table can have.
pub const MAX_OPEN: u32 = 1 << 30;
/// Slots of the first two chunks; each further chunk doubles the table.
const FIRST: usize = 64;
const CHUNKS: usize = 25;

/// `limit`, but no more than a table may have.
fn clip(limit: u64) -> u32 {
    limit.min(NR_OPEN.load(Ordering::Relaxed).min(MAX_OPEN).into()) as u32
}

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub u32);

impl Fd {
    /// From an argument of a system call: `EBADF` when negative.
    pub fn from_raw(fd: i32) -> Result<Self> {
        u32::try_from(fd).map(Self).map_err(|_| Errno::EBADF)
    }

    /// As system calls return it.
    pub const fn raw(self) -> i32 {
        self.0 as i32
    }
}

bitflags! {
    /// Properties of a descriptor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FdFlags: u32 {
        /// `FD_CLOEXEC`.
        const CLOEXEC = 1;
    }
}

type Slot = SpinLock<Option<Arc<File>>>;

struct State {
    used: IdAlloc,
    cloexec: Bitmap,
}

/// A table of descriptors (`files_struct`), shared by the threads of a process.
pub struct FdTable {
    chunks: [Once<Box<[Slot]>>; CHUNKS],
    state: SpinLock<State>,
    id: u64,
    /// Tasks that share the table; kept by the kernel.
    pub users: AtomicU32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Chunk and place in it.
#[inline]
fn locate(fd: u32) -> (usize, usize) {
    let fd = fd as usize;
    if fd < FIRST {
        return (0, fd);
    }
    let chunk = (fd / FIRST).ilog2() as usize;
    (chunk + 1, fd - (FIRST << chunk))
}

fn chunk_len(chunk: usize) -> usize {
    if chunk == 0 { FIRST } else { FIRST << (chunk - 1) }
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            state: SpinLock::new(State { used: IdAlloc::new(0, MAX_OPEN), cloexec: Bitmap::new() }),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            users: AtomicU32::new(1),
        }
    }

    /// Owner of the POSIX locks taken through this table.
    pub fn posix_owner(&self) -> PosixOwner {
        PosixOwner(self.id)
    }

    #[inline]
    fn slot(&self, fd: u32) -> Option<&Slot> {
        let (chunk, index) = locate(fd);
        self.chunks.get(chunk)?.get()?.get(index)
    }

    /// The file behind `fd`; `EBADF` if there is none, or if it is an `O_PATH` one.
    #[inline]
    pub fn get(&self, fd: Fd) -> Result<Arc<File>> {
        let file = self.get_raw(fd)?;
        if file.mode().contains(FileMode::PATH) { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The file behind `fd`, `O_PATH` or not.
    #[inline]
    pub fn get_raw(&self, fd: Fd) -> Result<Arc<File>> {
        self.slot(fd.0).and_then(|slot| slot.lock().clone()).ok_or(Errno::EBADF)
    }

    fn ensure_chunk(&self, fd: u32) -> Result<()> {
        let (chunk, _) = locate(fd);
        let Some(once) = self.chunks.get(chunk) else { return Err(Errno::EMFILE) };
        if once.get().is_some() {
            return Ok(());
        }
        let mut slots: Vec<Slot> = try_with_capacity(chunk_len(chunk))?;
        slots.try_extend((0..chunk_len(chunk)).map(|_| SpinLock::new(None)))?;
        let _ = once.set(slots.into_boxed_slice());
        Ok(())
    }

    /// Takes the lowest free descriptor at or above `from` and below `limit` (`RLIMIT_NOFILE`);
    /// `EMFILE` when there is none.
    pub fn reserve_from(&self, from: u32, limit: u64, flags: FdFlags) -> Result<FdReservation<'_>> {
        let limit = clip(limit);
        let fd = {
            let mut state = self.state.lock();
            let fd = state.used.alloc_range(from, limit).map_err(|error| match error {
                IdError::NoSpace => Errno::EMFILE,
                IdError::OutOfMemory => Errno::ENOMEM,
            })?;
            if set_cloexec(&mut state, fd, flags).is_err() {
                state.used.free(fd);
                return Err(Errno::ENOMEM);
            }
            fd
        };
        let reservation = FdReservation { table: self, fd, installed: false };
        self.ensure_chunk(fd)?;
        Ok(reservation)
    }

    /// Takes the lowest free descriptor.
    pub fn reserve(&self, limit: u64, flags: FdFlags) -> Result<FdReservation<'_>> {
        self.reserve_from(0, limit, flags)
    }

    /// Gives `file` the lowest free descriptor.
    pub fn install(&self, file: Arc<File>, limit: u64, flags: FdFlags) -> Result<Fd> {
        Ok(self.reserve(limit, flags)?.install(file))
    }

    /// `fcntl(F_DUPFD)`: another descriptor of the same file, at or above `from` (`EINVAL` when that
    /// is beyond the limit).
    pub fn dup_from(&self, fd: Fd, from: u32, limit: u64, flags: FdFlags) -> Result<Fd> {
        let file = self.get_raw(fd)?;
        if u64::from(from) >= limit {
            return Err(Errno::EINVAL);
        }
        Ok(self.reserve_from(from, limit, flags)?.install(file))
    }

    /// `dup(2)`.
    pub fn dup(&self, fd: Fd, limit: u64) -> Result<Fd> {
        let file = self.get_raw(fd)?;
        self.install(file, limit, FdFlags::empty())
    }

    /// `dup3(2)`, and `dup2(2)` with different numbers: makes `to` a descriptor of what `from` is,
    /// closing what it was.
    pub fn dup_to(&self, from: Fd, to: Fd, limit: u64, flags: FdFlags) -> Result<Fd> {
        if to.0 >= clip(limit) {
            return Err(Errno::EBADF);
        }
        self.put_at(to, self.get_raw(from)?, limit, flags)
    }

    /// Makes `to` a descriptor of `file`, closing what it was. `EBADF` beyond the limit.
    pub fn put_at(&self, to: Fd, file: Arc<File>, limit: u64, flags: FdFlags) -> Result<Fd> {
        if to.0 >= clip(limit) {
            return Err(Errno::EBADF);
        }
        self.ensure_chunk(to.0)?;
        let old = {
            let mut state = self.state.lock();
            let slot = self.slot(to.0).ok_or(Errno::EBADF)?;
            let mut slot = slot.lock();
            if slot.is_none() && state.used.is_used(to.0) {
                // Another thread is just opening it.
                return Err(Errno::EBUSY);
            }
            if !state.used.is_used(to.0) {
                state.used.reserve(to.0).map_err(|_| Errno::ENOMEM)?;
            }
            set_cloexec(&mut state, to.0, flags)?;
            slot.replace(file)
        };
        if let Some(old) = old {
            // The error of the implicit close is not reported.
            let _ = old.close_one(self.posix_owner());
        }
        Ok(to)
    }

    /// `close(2)`: the descriptor is free again whatever `flush` returned.
    pub fn close(&self, fd: Fd) -> Result<()> {
        let file = self.take(fd.0).ok_or(Errno::EBADF)?;
        file.close_one(self.posix_owner())
    }

    /// Takes a file out of the table without flushing.
    fn take(&self, fd: u32) -> Option<Arc<File>> {
        let mut state = self.state.lock();
        let file = self.slot(fd)?.lock().take()?;
        state.used.free(fd);
        state.cloexec.clear(fd as usize);
        Some(file)
    }

    /// `close_range(2)` without `CLOSE_RANGE_CLOEXEC`.
    pub fn close_range(&self, first: u32, last: u32) {
        let mut fd = first;
        loop {
            let next = self.state.lock().used.next_used(fd);
            match next {
                Some(found) if found <= last => {
                    if let Some(file) = self.take(found) {
                        let _ = file.close_one(self.posix_owner());
                    }
                    match found.checked_add(1) {
                        Some(after) => fd = after,
                        None => return,
                    }
                }
                _ => return,
            }
        }
    }

    /// `close_range(2)` with `CLOSE_RANGE_CLOEXEC`.
    pub fn cloexec_range(&self, first: u32, last: u32) -> Result<()> {
        let mut state = self.state.lock();
        let mut fd = first;
        while let Some(found) = state.used.next_used(fd).filter(|found| *found <= last) {
            state.cloexec.set(found as usize).map_err(|_| Errno::ENOMEM)?;
            fd = found + 1;
        }
        Ok(())
    }

    /// Closes what `execve(2)` closes.
    pub fn close_on_exec(&self) {
        loop {
            let next = self.state.lock().cloexec.next_set(0);
            let Some(fd) = next else { return };
            match self.take(fd as u32) {
                Some(file) => drop(file.close_one(self.posix_owner())),
                None => {
                    self.state.lock().cloexec.clear(fd);
                }
            }
        }
    }

    /// Closes everything (exit).
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX);
    }

    /// The flags of `fd` (`F_GETFD`).
    pub fn flags(&self, fd: Fd) -> Result<FdFlags> {
        self.get_raw(fd)?;
        let set = self.state.lock().cloexec.test(fd.0 as usize);
        Ok(if set { FdFlags::CLOEXEC } else { FdFlags::empty() })
    }

    /// Sets the flags of `fd` (`F_SETFD`).
    pub fn set_flags(&self, fd: Fd, flags: FdFlags) -> Result<()> {
        let mut state = self.state.lock();
        if !state.used.is_used(fd.0) || self.slot(fd.0).is_none_or(|slot| slot.lock().is_none()) {
            return Err(Errno::EBADF);
        }
        set_cloexec(&mut state, fd.0, flags)
    }

    /// The lowest descriptor at or above `from` that has a file (`/proc/PID/fd`).
    pub fn next_open(&self, from: u32) -> Option<(Fd, Arc<File>)> {
        let mut fd = from;
        loop {
            let found = self.state.lock().used.next_used(fd)?;
            if let Ok(file) = self.get_raw(Fd(found)) {
                return Some((Fd(found), file));
            }
            fd = found.checked_add(1)?;
        }
    }

    /// One past the highest descriptor in use (`FDSize` of `/proc/PID/status` is this rounded up).
    pub fn size(&self) -> usize {
        (0..CHUNKS)
            .rev()
            .find(|i| self.chunks.get(*i).is_some_and(|c| c.get().is_some()))
            .map_or(FIRST, |chunk| chunk_len(chunk).saturating_mul(if chunk == 0 { 1 } else { 2 }))
    }

    /// How many descriptors are open.
    pub fn count(&self) -> usize {
        self.state.lock().used.count() as usize
    }

    /// A copy for `fork(2)`, or for `close_range(CLOSE_RANGE_UNSHARE)`, which leaves out `except`.
    pub fn copy(&self, except: Option<core::ops::RangeInclusive<u32>>) -> Result<Self> {
        let copy = Self::new();
        let mut fd = 0;
        while let Some((found, file)) = self.next_open(fd) {
            fd = match found.0.checked_add(1) {
                Some(next) => next,
                None => break,
            };
            if except.as_ref().is_some_and(|range| range.contains(&found.0)) {
                continue;
            }
            copy.ensure_chunk(found.0)?;
            let cloexec = self.state.lock().cloexec.test(found.0 as usize);
            let flags = if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
            let mut state = copy.state.lock();
            state.used.reserve(found.0).map_err(|_| Errno::ENOMEM)?;
            set_cloexec(&mut state, found.0, flags)?;
            if let Some(slot) = copy.slot(found.0) {
                *slot.lock() = Some(file);
            }
        }
        Ok(copy)
    }
}

fn set_cloexec(state: &mut State, fd: u32, flags: FdFlags) -> Result<()> {
    if flags.contains(FdFlags::CLOEXEC) {
        state.cloexec.set(fd as usize).map_err(|_| Errno::ENOMEM)?;
    } else {
        state.cloexec.clear(fd as usize);
    }
    Ok(())
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// A descriptor that was taken but has no file yet; given back when dropped.
#[must_use = "install a file, or the descriptor is given back"]
pub struct FdReservation<'a> {
    table: &'a FdTable,
    fd: u32,
    installed: bool,
}

impl FdReservation<'_> {
    /// The number.
    pub fn fd(&self) -> Fd {
        Fd(self.fd)
    }

    /// Makes the descriptor stand for `file`.
    pub fn install(mut self, file: Arc<File>) -> Fd {
        self.installed = true;
        if let Some(slot) = self.table.slot(self.fd) {
            *slot.lock() = Some(file);
        }
        Fd(self.fd)
    }
}

impl Drop for FdReservation<'_> {
    fn drop(&mut self) {
        if !self.installed {
            let mut state = self.table.state.lock();
            state.used.free(self.fd);
            state.cloexec.clear(self.fd as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_tile_the_numbers() {
        let mut next = (0, 0);
        for fd in 0..5000 {
            let (chunk, index) = locate(fd);
            if index == 0 && fd != 0 {
                assert_eq!(next, (chunk - 1, chunk_len(chunk - 1)));
            } else {
                assert_eq!(next, (chunk, index));
            }
            next = (chunk, index + 1);
        }
        let (chunk, index) = locate(MAX_OPEN - 1);
        assert_eq!(chunk, CHUNKS - 1);
        assert_eq!(index, chunk_len(chunk) - 1);
    }
}
