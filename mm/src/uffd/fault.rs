//! Faults that are put to a context, and the threads that wait for the answers.

use super::{AGREED, Context, Mode};
use crate::fallible::{TryVec, try_arc};
use crate::fault::{Access, Asker, FaultError};
use crate::ptable::Marker;
use crate::space::AddressSpace;
use crate::vma::{Backing, VmFlags, Vma};
use abi::poll::PollEvents;
use abi::raw::{
    UFFD_FEATURE_EXACT_ADDRESS, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_THREAD_ID, UFFD_PAGEFAULT_FLAG_MINOR,
    UFFD_PAGEFAULT_FLAG_WP, UFFD_PAGEFAULT_FLAG_WRITE,
};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::paging::Pte;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use sched::wait::{Wait, WaitQueue};

/// Why a context is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no page.
    Missing,
    /// There is one in the cache that is not mapped.
    Minor,
    /// A store to a protected page.
    Protected,
}

/// What the reader learns of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// `UFFD_PAGEFAULT_FLAG_*`.
    pub flags: u64,
    /// Where; of the page, unless exact addresses were asked for.
    pub address: usize,
    /// The thread, if that was asked for; else 0.
    pub tid: i32,
}

/// A thread that waits.
pub(crate) struct FaultWait {
    page: usize,
    pub(super) fault: PageFault,
    answered: AtomicBool,
    queue: WaitQueue,
}

impl FaultWait {
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}

/// Why the context of `vma` is to be asked about an access to `addr`, whose entry holds `pte`; nothing if it need not be.
#[cold]
pub(crate) fn reason(vma: &Vma, addr: usize, pte: Pte, write: bool) -> Option<Reason> {
    let flags = vma.flags();
    let is_async = || vma.uffd().is_none_or(|context| context.is_wp_async());
    let marker = Marker::of(pte);
    if !pte.is_none() && marker.is_none() {
        let protected = write && flags.contains(VmFlags::UFFD_WP) && pte.is_uffd_wp();
        return (protected && !is_async()).then_some(Reason::Protected);
    }
    if marker.is_some_and(|marker| marker.poisoned) {
        return None;
    }
    let missing = flags.contains(VmFlags::UFFD_MISSING);
    match vma.backing() {
        Backing::Anonymous if missing => return Some(Reason::Missing),
        Backing::File(_, Some(mapping)) if mapping.is_memory() => {
            let index = vma.index_of(addr);
            if index >= mapping.size().div_ceil(PAGE_SIZE as u64) {
                return None;
            }
            let cached = mapping.get(index).is_some();
            if cached && flags.contains(VmFlags::UFFD_MINOR) {
                return Some(Reason::Minor);
            }
            if !cached && missing {
                return Some(Reason::Missing);
            }
        }
        _ => {}
    }
    let protected = write && flags.contains(VmFlags::UFFD_WP) && marker.is_some_and(|marker| marker.uffd_wp);
    (protected && !is_async()).then_some(Reason::Protected)
}

impl AddressSpace {
    /// The context that the access to `addr` is to be put to, and why.
    fn userfault_at(&self, vma: &Vma, addr: usize, write: bool) -> Option<Reason> {
        let pte = self.pgd().table(addr).map_or(Pte::NONE, |table| table.peek(addr));
        reason(vma, addr, pte, write)
    }

    /// Puts an access to the userfaultfd of its area and sleeps until it is answered, or need not be any more: the access is to be tried
    /// again then. No lock is held.
    ///
    /// # Errors
    /// `Bus`: nobody can be asked, or a signal came that the caller cannot deal with before the access.
    #[cold]
    pub(crate) fn userfault(&self, addr: usize, access: Access, asker: Asker) -> Result<(), FaultError> {
        let page = addr & !(PAGE_SIZE - 1);
        let write = access == Access::Write;
        let (context, wait) = {
            let areas = self.areas().read();
            let Some(entry) = areas.get(page) else { return Ok(()) };
            let vma = &entry.value;
            let Some(context) = vma.uffd() else { return Ok(()) };
            let Some(reason) = self.userfault_at(vma, page, write) else { return Ok(()) };
            let refuses = context.has(UFFD_FEATURE_SIGBUS)
                || matches!(asker, Asker::Exiting | Asker::Force)
                || context.mode() == Mode::UserOnly && asker != Asker::User;
            if refuses {
                return Err(FaultError::Bus);
            }
            let fault = context.describe(addr, write, reason);
            let wait = FaultWait { page, fault, answered: AtomicBool::new(false), queue: WaitQueue::new() };
            let wait = try_arc(wait).map_err(|_| FaultError::OutOfMemory)?;
            if !context.enter(&wait)? {
                drop(areas);
                // Being closed, which takes the area from it as soon as it gets the lock.
                sched::yield_now();
                return Ok(());
            }
            // The answer may have come before we were in the list.
            if self.userfault_at(vma, page, write).is_none() {
                context.leave(&wait);
                return Ok(());
            }
            (context, wait)
        };
        context.readers.wake_up_poll(PollEvents::IN);
        let how = if asker == Asker::User { Wait::INTERRUPTIBLE } else { Wait::KILLABLE };
        let woken = wait.queue.wait(how, || wait.answered.load(Ordering::Acquire).then_some(()));
        context.leave(&wait);
        match woken {
            Ok(()) => Ok(()),
            // The signal is dealt with before the instruction is executed again.
            Err(_) if asker == Asker::User => Ok(()),
            Err(_) => Err(FaultError::Bus),
        }
    }
}

impl Context {
    fn describe(&self, addr: usize, write: bool, reason: Reason) -> PageFault {
        let mut flags = if write { UFFD_PAGEFAULT_FLAG_WRITE } else { 0 };
        flags |= match reason {
            Reason::Missing => 0,
            Reason::Minor => UFFD_PAGEFAULT_FLAG_MINOR,
            Reason::Protected => UFFD_PAGEFAULT_FLAG_WP,
        };
        let exact = self.has(UFFD_FEATURE_EXACT_ADDRESS);
        PageFault {
            flags: u64::from(flags),
            address: if exact { addr } else { addr & !(PAGE_SIZE - 1) },
            tid: if self.has(UFFD_FEATURE_THREAD_ID) { (self.tid)() } else { 0 },
        }
    }

    /// Enters a fault among those pending; whether the context still takes any.
    fn enter(&self, wait: &Arc<FaultWait>) -> Result<bool, FaultError> {
        debug_assert!(self.features() & AGREED != 0);
        let mut state = self.state.lock();
        if state.released {
            return Ok(false);
        }
        state.pending.try_push(wait.clone()).map_err(|_| FaultError::OutOfMemory)?;
        Ok(true)
    }

    /// Takes a fault out of whichever list it is in.
    fn leave(&self, wait: &Arc<FaultWait>) {
        let mut state = self.state.lock();
        let mut gone = None;
        if let Some(at) = state.pending.iter().position(|other| Arc::ptr_eq(other, wait)) {
            gone = Some(state.pending.remove(at));
        } else if let Some(at) = state.taken.iter().position(|other| Arc::ptr_eq(other, wait)) {
            gone = Some(state.taken.swap_remove(at));
        }
        drop(state);
        drop(gone);
    }

    /// The oldest fault that nobody has read; it is read now.
    pub fn take_fault(&self) -> Option<PageFault> {
        let mut state = self.state.lock();
        if state.pending.is_empty() {
            return None;
        }
        // Without room it would be answered by nobody: it stays where it is for the next attempt.
        state.taken.try_reserve(1).ok()?;
        let wait = state.pending.remove(0);
        let fault = wait.fault;
        state.taken.push_reserved(wait);
        Some(fault)
    }

    /// Answers all faults in `range`.
    pub fn wake(&self, range: Range<usize>) {
        loop {
            let found = {
                let mut state = self.state.lock();
                let inside = |wait: &Arc<FaultWait>| range.contains(&wait.page);
                if let Some(at) = state.pending.iter().position(inside) {
                    state.pending.remove(at)
                } else if let Some(at) = state.taken.iter().position(inside) {
                    state.taken.swap_remove(at)
                } else {
                    return;
                }
            };
            found.answer();
        }
    }
}
