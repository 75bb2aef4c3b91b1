//! `userfaultfd(2)`: page faults that a program resolves itself.
//!
//! A [`Context`] is what a descriptor of `userfaultfd(2)` stands for; the descriptor itself (`read`, `poll`, `ioctl`) is the kernel crate's.
//! It belongs to the address space of the process that made it, whose areas are *registered* with it: [`VmFlags::UFFD`] says for what,
//! and the area holds a reference to the context. A context only knows its space weakly, because the areas of the space hold it.
//!
//! | file | what it does |
//! |---|---|
//! | this one | the context, what is enabled |
//! | `fault.rs` | which faults are put to a context; the thread that waits for an answer |
//! | `entry.rs` | entries with a mark, as a fault meets them |
//! | `event.rs` | fork, `mremap`, `munmap`, `MADV_DONTNEED` and the like, told to whoever reads the descriptor |
//! | `register.rs` | registering areas, letting go of them |
//! | `fill.rs` | putting pages where they are missing: `UFFDIO_COPY`, `ZEROPAGE`, `CONTINUE`, `POISON` |
//! | `guard.rs` | write protection: `UFFDIO_WRITEPROTECT` |
//! | `relocate.rs` | `UFFDIO_MOVE` |
//!
//! # The life of a fault
//!
//! [`AddressSpace::fault_in`] finds that the area has a flag of [`VmFlags::UFFD`] (one test of a word that it has loaded anyway) and that
//! [`reason`] has one; it fails with [`FaultError::Userfault`](crate::fault::FaultError::Userfault). Its caller lets go of every lock
//! and calls [`AddressSpace::userfault`], which takes `mmap_lock` shared, enters the fault in the context's list of pending ones, looks
//! once more whether it is still due (the answer may just have come), lets go and sleeps. The reader moves it to the list of those taken.
//! Whoever fills the page wakes the faults of its range, in either list. The access is then tried again.
//!
//! # Locks
//!
//! `state` is a leaf; waiters are woken after it is released. Events are made under `mmap_lock` (exclusive, or shared for advice) and
//! delivered without it: the making counts as a *change under way*, during which pages are not filled (`EAGAIN`).

mod entry;
mod event;
mod fault;
mod fill;
pub(crate) mod guard;
mod register;
mod relocate;

pub use event::{Change, Event, ForkOffer};
pub(crate) use event::{note_remap, note_remove, note_unmap};
pub use fault::PageFault;
pub(crate) use fault::reason;
pub use fill::{Fill, Guarded};
pub use guard::Protection;
pub use register::{check_range, check_source};
pub use relocate::Holes;

use crate::fallible::try_arc;
use crate::space::AddressSpace;
use crate::vma::VmFlags;
use abi::raw::{
    UFFD_FEATURE_EVENT_FORK, UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_REMOVE, UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_EXACT_ADDRESS, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE,
    UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_POISON, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_THREAD_ID,
    UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_HUGETLBFS_SHMEM, UFFD_FEATURE_WP_UNPOPULATED,
};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use event::EventWait;
use fault::FaultWait;
use sched::wait::WaitQueue;

/// What there is (`UFFD_FEATURE_*`): all of Linux 6.12 but huge pages.
pub const FEATURES: u64 = (UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | UFFD_FEATURE_EVENT_FORK
    | UFFD_FEATURE_EVENT_REMAP
    | UFFD_FEATURE_EVENT_REMOVE
    | UFFD_FEATURE_EVENT_UNMAP
    | UFFD_FEATURE_MISSING_SHMEM
    | UFFD_FEATURE_MINOR_SHMEM
    | UFFD_FEATURE_SIGBUS
    | UFFD_FEATURE_THREAD_ID
    | UFFD_FEATURE_EXACT_ADDRESS
    | UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    | UFFD_FEATURE_WP_UNPOPULATED
    | UFFD_FEATURE_WP_ASYNC
    | UFFD_FEATURE_POISON
    | UFFD_FEATURE_MOVE) as u64;

/// Set in the features of a context that has agreed on them.
const AGREED: u64 = 1 << 31;

/// Which faults a context can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All.
    Full,
    /// Those of user mode (`UFFD_USER_MODE_ONLY`).
    UserOnly,
}

/// What waits to be read or answered.
#[derive(Default)]
pub(crate) struct State {
    /// Faults that nobody has read, oldest first.
    pending: Vec<Arc<FaultWait>>,
    /// Faults that were read and not answered.
    taken: Vec<Arc<FaultWait>>,
    /// Events that nobody has read, oldest first.
    events: Vec<Arc<EventWait>>,
    /// The descriptor is closed.
    released: bool,
}

/// See the module documentation.
pub struct Context {
    pub(crate) state: SpinLock<State>,
    /// Who waits for something to read.
    pub readers: WaitQueue,
    features: AtomicU64,
    mode: Mode,
    /// Changes of the address space that are under way and not known to the reader yet.
    changing: AtomicU32,
    space: Weak<AddressSpace>,
    /// The id of the running thread as it sees itself.
    tid: fn() -> i32,
}

impl Context {
    /// A context for `space`. `tid` tells the id of the running thread, for `UFFD_FEATURE_THREAD_ID`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(space: &Arc<AddressSpace>, mode: Mode, tid: fn() -> i32) -> Result<Arc<Self>> {
        Self::with_features(space, mode, tid, 0)
    }

    fn with_features(
        space: &Arc<AddressSpace>,
        mode: Mode,
        tid: fn() -> i32,
        features: u64,
    ) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            state: SpinLock::new(State::default()),
            readers: WaitQueue::new(),
            features: AtomicU64::new(features),
            mode,
            changing: AtomicU32::new(0),
            space: Arc::downgrade(space),
            tid,
        })?)
    }

    /// Settles which features are on, once.
    ///
    /// # Errors
    /// `EINVAL` the second time.
    pub fn agree(&self, features: u64) -> Result<()> {
        self.features
            .compare_exchange(0, features | AGREED, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| Errno::EINVAL)
    }

    /// Whether the features are settled: nothing else works before.
    pub fn is_agreed(&self) -> bool {
        self.features() != 0
    }

    /// The features, as `/proc/PID/fdinfo` shows them; 0 before they are settled.
    pub fn features(&self) -> u64 {
        self.features.load(Ordering::Acquire)
    }

    fn has(&self, feature: u32) -> bool {
        self.features() & u64::from(feature) != 0
    }

    /// Which faults it can be asked about.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether stores to protected pages are only recorded.
    pub(crate) fn is_wp_async(&self) -> bool {
        self.has(UFFD_FEATURE_WP_ASYNC)
    }

    /// Whether areas that `mremap(2)` moves stay registered.
    pub(crate) fn follows_moves(&self) -> bool {
        self.has(UFFD_FEATURE_EVENT_REMAP)
    }

    /// Whether the reader has yet to learn of a change of the address space.
    pub fn is_changing(&self) -> bool {
        self.changing.load(Ordering::Acquire) > 0
    }

    /// The address space, if anybody runs in it.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn space(&self) -> Result<Arc<AddressSpace>> {
        self.space.upgrade().filter(|space| space.users() > 0).ok_or(Errno::ESRCH)
    }

    /// Pending faults, and all that are not answered: `/proc/PID/fdinfo`.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.pending.len(), state.pending.len() + state.taken.len())
    }

    /// Whether there is something to read.
    pub fn is_readable(&self) -> bool {
        let state = self.state.lock();
        !state.pending.is_empty() || state.events.iter().any(|event| event.is_unread())
    }

    /// What `mode` of `UFFDIO_REGISTER` stands for; nothing for unknown bits or none at all.
    pub fn flags_of(mode: u64) -> Option<VmFlags> {
        const KNOWN: [(u32, VmFlags); 3] = [
            (abi::raw::UFFDIO_REGISTER_MODE_MISSING, VmFlags::UFFD_MISSING),
            (abi::raw::UFFDIO_REGISTER_MODE_WP, VmFlags::UFFD_WP),
            (abi::raw::UFFDIO_REGISTER_MODE_MINOR, VmFlags::UFFD_MINOR),
        ];
        let mut flags = VmFlags::empty();
        let mut rest = mode;
        for (bit, flag) in KNOWN {
            if mode & u64::from(bit) != 0 {
                flags |= flag;
                rest &= !u64::from(bit);
            }
        }
        (rest == 0 && !flags.is_empty()).then_some(flags)
    }
}
