//! A segment: its memory, who is attached, when it goes.
//!
//! Lock: one per segment, a leaf. Its memory is dropped outside.

use crate::ipc::actor::LastPid;
use crate::ipc::ids::{Index, Object};
use crate::ipc::perm::Perm;
use crate::ipc::{IpcNamespace, now};
use crate::process::user::ShmLockCharge;
use crate::process::{Pid, with_current};
use abi::Result;
use abi::ipc::flag::SHM_DEST;
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::sync::{Preempt, SpinLock};
use core::sync::atomic::Ordering::Relaxed;
use mm::fallible::TryVec;
use mm::shmem::AnonShared;
use sync::SpinLockGuard;

/// What the lock of a segment covers.
pub struct State {
    /// Its memory; none once it is destroyed.
    pub object: Option<Arc<AnonShared>>,
    /// Memory areas that map it, and `shmat` calls under way.
    pub attached: u64,
    /// Time of the last attach.
    pub atime: i64,
    /// Time of the last detach.
    pub dtime: i64,
    /// Time of creation or of the last change by `shmctl`.
    pub ctime: i64,
    /// Who made it.
    pub cpid: LastPid,
    /// Who attached or detached last.
    pub lpid: LastPid,
    /// The thread that made it has not exited.
    pub has_creator: bool,
    /// On whose account it is locked (`SHM_LOCK`).
    pub locked: Option<ShmLockCharge>,
}

/// A segment.
pub struct Segment {
    perm: Perm,
    /// The key that it was made with.
    creation_key: i32,
    size: usize,
    state: SpinLock<State>,
}

impl Object for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

/// Notes the running process in `last`. Mappings can also go without one: in the kernel's own threads.
fn note(last: &mut LastPid) {
    with_current(|thread| last.set(&thread.process.pid));
}

impl Segment {
    /// A segment of `size` bytes over `object`.
    pub fn new(perm: Perm, size: usize, object: Arc<AnonShared>, creator: &Arc<Pid>) -> Self {
        let mut cpid = LastPid::default();
        cpid.set(creator);
        Self {
            creation_key: perm.key(),
            perm,
            size,
            state: SpinLock::new(State {
                object: Some(object),
                attached: 0,
                atime: 0,
                dtime: 0,
                ctime: now(),
                cpid,
                lpid: LastPid::default(),
                has_creator: true,
                locked: None,
            }),
        }
    }

    /// The key that it was made with; it can lose it.
    pub fn creation_key(&self) -> i32 {
        self.creation_key
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its size in pages.
    pub fn pages(&self) -> usize {
        self.size.div_ceil(PAGE_SIZE)
    }

    /// Takes the lock.
    pub fn lock(&self) -> SpinLockGuard<'_, State, Preempt> {
        self.state.lock()
    }

    /// Bytes of it that are in memory.
    pub fn resident_pages(&self) -> usize {
        let object = self.lock().object.clone();
        object.map_or(0, |object| object.cache().nr_pages())
    }

    /// Keeps it from going: an attach begins. Ends with [`Segment::release`].
    ///
    /// # Errors
    /// `EIDRM`: it is gone.
    pub fn hold(&self) -> Result<Arc<AnonShared>> {
        let mut state = self.lock();
        self.perm.check_alive()?;
        let object = state.object.clone().ok_or(abi::Errno::EIDRM)?;
        state.attached += 1;
        Ok(object)
    }

    /// An attach is over; the areas that it made count for themselves.
    pub fn release(&self, ns: &IpcNamespace) {
        let unused = {
            let mut state = self.lock();
            state.attached = state.attached.saturating_sub(1);
            self.may_go(ns, &state)
        };
        if unused {
            self.destroy_if_unused(ns);
        }
    }

    /// A memory area maps it from now on.
    pub fn attached(&self) {
        let mut state = self.lock();
        state.attached += 1;
        state.atime = now();
        note(&mut state.lpid);
    }

    /// A memory area maps it no more.
    pub fn detached(&self, ns: &IpcNamespace) {
        let unused = {
            let mut state = self.lock();
            state.attached = state.attached.saturating_sub(1);
            state.dtime = now();
            note(&mut state.lpid);
            self.may_go(ns, &state)
        };
        if unused {
            self.destroy_if_unused(ns);
        }
    }

    /// Whether nobody uses it and nobody shall begin to.
    fn may_go(&self, ns: &IpcNamespace, state: &State) -> bool {
        state.attached == 0
            && (self.perm.mode() & SHM_DEST != 0 || ns.limits.shm_rmid_forced.load(Relaxed) != 0)
    }

    /// Destroys the segment unless somebody has attached it meanwhile.
    pub fn destroy_if_unused(&self, ns: &IpcNamespace) {
        let mut index = ns.shm.write();
        let may_go = self.may_go(ns, &self.lock());
        if may_go {
            self.destroy(ns, &mut index);
        }
    }

    /// Destroys the segment unless somebody is attached, or begins to be; whether it is gone. The table is locked for
    /// changes.
    pub fn destroy(&self, ns: &IpcNamespace, index: &mut Index) -> bool {
        let (object, charge) = {
            let mut state = self.lock();
            if self.perm.is_removed() {
                return true;
            }
            // `hold` does not wait for the table.
            if state.attached > 0 {
                return false;
            }
            self.perm.mark_removed();
            (state.object.take(), state.locked.take())
        };
        ns.shm.remove(index, self);
        ns.shm_pages.fetch_sub(self.pages(), Relaxed);
        if let Some(object) = &object {
            object.cache().truncate(0);
        }
        drop((object, charge));
        true
    }

    /// The thread that made it exits, or changes its namespace.
    pub fn creator_left(&self, ns: &IpcNamespace) {
        let unused = {
            let mut state = self.lock();
            state.has_creator = false;
            self.may_go(ns, &state)
        };
        if unused {
            self.destroy_if_unused(ns);
        }
    }
}

/// `kernel.shm_rmid_forced` was switched on: what nobody is attached to and whose maker has gone goes too.
pub fn destroy_orphans(ns: &IpcNamespace) {
    let mut index = ns.shm.write();
    let mut orphans = alloc::vec::Vec::new();
    ns.shm.for_each(&index, |segment| {
        let state = segment.lock();
        let orphan = !state.has_creator && segment.may_go(ns, &state);
        drop(state);
        // Without memory the rest stays until it is attached and detached.
        if orphan && orphans.try_reserve(1).is_ok() {
            orphans.push_reserved(segment.clone());
        }
        true
    });
    for segment in orphans {
        segment.destroy(ns, &mut index);
    }
}
