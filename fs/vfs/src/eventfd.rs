//! `eventfd(2)`: a counter that can be waited for.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::SpinLockIrq;
use mm::IovIter;
use mm::fallible::try_box;
use sched::wait::{Wait, WaitQueue};

use crate::anon;
use crate::cred::Credentials;
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags};
use crate::poll::PollTable;

/// The counter can hold one less than this.
const MAX: u64 = u64::MAX;

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// An event counter.
pub struct EventFd {
    count: SpinLockIrq<u64>,
    queue: WaitQueue,
    semaphore: bool,
    id: u32,
}

/// `eventfd2(2)`: `flags` are `EFD_SEMAPHORE`, `EFD_NONBLOCK` and `EFD_CLOEXEC`.
pub fn eventfd(cred: &Arc<Credentials>, initial: u32, flags: u32) -> Result<Arc<File>> {
    if flags & !(raw::EFD_SEMAPHORE | raw::EFD_NONBLOCK | raw::EFD_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let event = EventFd {
        count: SpinLockIrq::new(u64::from(initial)),
        queue: WaitQueue::new(),
        semaphore: flags & raw::EFD_SEMAPHORE != 0,
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
    };
    let open_flags = raw::O_RDWR | flags & raw::EFD_NONBLOCK;
    anon::anon_file(cred, "[eventfd]", FileImpl::Owned(try_box(event)?), open_flags)
}

impl EventFd {
    /// Adds without waiting, up to the limit; for the kernel's own notifications, also from interrupts.
    pub fn signal(&self, by: u64) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(by).min(MAX - 1);
        }
        self.queue.wake_up_poll(PollEvents::IN);
    }

    fn take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        match *count {
            0 => None,
            _ if self.semaphore => {
                *count -= 1;
                Some(1)
            }
            all => {
                *count = 0;
                Some(all)
            }
        }
    }

    fn add(&self, by: u64) -> Option<()> {
        let mut count = self.count.lock();
        // Stays below the maximum.
        let sum = count.checked_add(by).filter(|sum| *sum < MAX)?;
        *count = sum;
        Some(())
    }
}

impl FileOps for EventFd {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.count() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.take() {
            Some(value) => value,
            None if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
            None => self.queue.wait(Wait::INTERRUPTIBLE, || self.take()).map_err(|_| Errno::ERESTARTSYS)?,
        };
        self.queue.wake_up_poll(PollEvents::OUT);
        iter.write_all(&value.to_ne_bytes())?;
        Ok(8)
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.count() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        iter.read_exact(&mut bytes)?;
        let by = u64::from_ne_bytes(bytes);
        if by == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.add(by) {
            Some(()) => {}
            None if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
            None => self.queue.wait(Wait::INTERRUPTIBLE, || self.add(by)).map_err(|_| Errno::ERESTARTSYS)?,
        }
        self.queue.wake_up_poll(PollEvents::IN);
        Ok(8)
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.queue);
        let count = *self.count.lock();
        let mut ready = PollEvents::empty();
        if count > 0 {
            ready |= PollEvents::IN;
        }
        if count == MAX {
            ready |= PollEvents::ERR;
        }
        if count < MAX - 1 {
            ready |= PollEvents::OUT;
        }
        ready
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let count = *self.count.lock();
        writeln!(out, "eventfd-count: {count:16x}")?;
        writeln!(out, "eventfd-id: {}", self.id)?;
        writeln!(out, "eventfd-semaphore: {}", i32::from(self.semaphore))
    }
}
