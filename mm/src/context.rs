//! What allocations of the running thread may do, for a whole call tree.
//!
//! A file system that holds its journal, or a block driver on the writeback path, opens a scope; every allocation below it,
//! however deep and in whatever crate, is narrowed. (Linux: `memalloc_nofs_save` and relatives.) The state is three flags of the
//! thread, so it survives sleeping.

use crate::gfp::Gfp;
use arch::thread::{ThreadFlags, current_ref};
use core::marker::PhantomData;
pub use sched::heap::NoFailScope;

/// Restores the flag on drop, if this scope set it.
struct Restore {
    flag: Option<ThreadFlags>,
    _not_send: PhantomData<*mut ()>,
}

impl Restore {
    fn set(flag: ThreadFlags) -> Self {
        let was_set = current_ref().flags().set(flag);
        Self { flag: (!was_set).then_some(flag), _not_send: PhantomData }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(flag) = self.flag {
            current_ref().flags().clear(flag);
        }
    }
}

macro_rules! scope {
    ($(#[$meta:meta])* $name:ident = $flag:ident) => {
        $(#[$meta])*
        #[must_use]
        pub struct $name { _restore: Restore }

        impl $name {
            /// Opens the scope; it ends when the value is dropped. Nests.
            pub fn enter() -> Self {
                Self { _restore: Restore::set(ThreadFlags::$flag) }
            }
        }
    };
}

scope!(
    /// Allocations below start no I/O.
    NoIoScope = MEMALLOC_NOIO
);
scope!(
    /// Allocations below do not enter file systems.
    NoFsScope = MEMALLOC_NOFS
);
scope!(
    /// Allocations below may use the reserves and do not reclaim: they lead to memory being freed.
    MemallocScope = MEMALLOC
);

/// `gfp` as the running thread's scopes allow it.
pub(crate) fn narrow(mut gfp: Gfp) -> Gfp {
    if arch::irq::in_interrupt() {
        return gfp;
    }
    let flags = current_ref().flags().load();
    if flags.contains(ThreadFlags::MEMALLOC) {
        gfp |= Gfp::MEMALLOC;
    }
    if flags.contains(ThreadFlags::MEMALLOC_NOIO) {
        gfp &= !(Gfp::IO | Gfp::FS);
    }
    if flags.contains(ThreadFlags::MEMALLOC_NOFS) {
        gfp &= !Gfp::FS;
    }
    if flags.contains(ThreadFlags::MEMALLOC_NOFAIL) {
        if gfp.may_sleep() {
            gfp |= Gfp::NOFAIL;
        } else if !can_sleep() {
            gfp |= Gfp::MEMALLOC;
        }
    }
    gfp
}

/// Whether this code may sleep: no spin lock held, no interrupt, interrupts on.
#[inline]
pub fn can_sleep() -> bool {
    arch::preempt::count() == 0 && arch::irq::enabled()
}

/// The flags for an allocation whose caller could not say (the global allocator): may sleep where that is possible,
/// never enters a file system.
#[inline]
pub fn gfp_here() -> Gfp {
    if can_sleep() { Gfp::NOFS | Gfp::HIGH } else { Gfp::ATOMIC }
}
