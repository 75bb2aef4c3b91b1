//! A table of objects of one kind: identifiers and keys.
//!
//! An identifier is an index and a sequence number (`seq << 15 | index`), so that a number that is used again does not name the
//! next object that gets its index. Indices are given out in turn, over half as many again as are in use (64 at least), and
//! the sequence number grows each time the turn starts over.
//!
//! Finding an object by identifier takes no lock: the array of slots is read under RCU and replaced when it has to grow. Everything
//! else holds `index`, exclusively for changes.

use super::perm::{Perm, index_of, seq_of};
use super::{IpcNamespace, MNI, MNI_SHIFT};
use abi::ipc::IPC_PRIVATE;
use abi::ipc::flag::{IPC_CREAT, IPC_EXCL};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use collections::idalloc::IdAlloc;
use hashbrown::HashMap;
use mm::fallible::{TryVec, try_arc, try_with_capacity};
use sched::mutex::{RwSemaphore, RwSemaphoreReadGuard, RwSemaphoreWriteGuard};
use sync::RcuPtr;

/// Sequence numbers are below this.
const SEQ_MAX: u32 = i32::MAX as u32 >> MNI_SHIFT;
/// The turn through the indices is at least this long.
const MIN_CYCLE: u32 = 64;
/// Slots of the first array.
const FIRST_SLOTS: usize = 16;

/// Something that a table holds.
pub trait Object: Send + Sync + 'static {
    /// Its identity.
    fn perm(&self) -> &Perm;
}

struct Slots<T>(Box<[RcuPtr<T>]>);

/// Which identifiers and keys there are.
pub struct Index {
    used: IdAlloc,
    keys: HashMap<i32, u32>,
    seq: u32,
    last: Option<u32>,
    /// The identifier that the next object shall have (`sem_next_id` and relatives).
    next_id: Option<i32>,
}

impl Index {
    /// How many objects there are.
    pub fn in_use(&self) -> u32 {
        self.used.count()
    }

    /// The identifier that was asked for with `*_next_id`.
    pub fn next_id(&self) -> Option<i32> {
        self.next_id
    }

    /// Chooses the identifier of the next object (checkpoint/restore).
    pub fn set_next_id(&mut self, id: Option<i32>) {
        self.next_id = id;
    }

    /// Takes an index and makes an identifier of it.
    fn alloc(&mut self) -> Result<i32> {
        if let Some(wanted) = self.next_id.take() {
            self.used.set_max(MNI);
            let index = self.used.alloc_range(index_of(wanted), MNI).map_err(|_| Errno::ENOSPC)?;
            return Ok((seq_of(wanted) << MNI_SHIFT | index) as i32);
        }
        let cycle = (self.in_use() * 3 / 2).clamp(MIN_CYCLE, MNI);
        self.used.set_max(cycle);
        let index = self.used.alloc_cyclic().map_err(|_| Errno::ENOSPC)?;
        if self.last.is_some_and(|last| index <= last) {
            self.seq = (self.seq + 1) % SEQ_MAX;
        }
        self.last = Some(index);
        Ok((self.seq << MNI_SHIFT | index) as i32)
    }
}

/// The table.
pub struct Ids<T: Object> {
    slots: RcuPtr<Slots<T>>,
    index: RwSemaphore<Index>,
}

impl<T: Object> Default for Ids<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a `*get` call asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The key.
    pub key: i32,
    /// `IPC_CREAT`, `IPC_EXCL`, and the permissions.
    pub flags: u32,
}

impl<T: Object> Ids<T> {
    /// An empty table; allocates nothing.
    pub fn new() -> Self {
        Self {
            slots: RcuPtr::empty(),
            index: RwSemaphore::new(Index {
                used: IdAlloc::new(0, MNI),
                keys: HashMap::new(),
                seq: 0,
                last: None,
                next_id: None,
            }),
        }
    }

    /// Locks the table for looking.
    pub fn read(&self) -> RwSemaphoreReadGuard<'_, Index> {
        self.index.read()
    }

    /// Locks the table for changes.
    pub fn write(&self) -> RwSemaphoreWriteGuard<'_, Index> {
        self.index.write()
    }

    /// The object in slot `index`, whatever its sequence number.
    #[inline]
    fn at(&self, index: u32) -> Option<Arc<T>> {
        let guard = sched::rcu::read_lock();
        self.slots.load(&guard)?.0.get(index as usize)?.load_arc(&guard)
    }

    /// The object with identifier `id`.
    ///
    /// # Errors
    /// `EINVAL`: there is none, or its index belongs to another one by now.
    #[inline]
    pub fn get(&self, id: i32) -> Result<Arc<T>> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        let object = self.at(index_of(id)).ok_or(Errno::EINVAL)?;
        if object.perm().id() == id { Ok(object) } else { Err(Errno::EINVAL) }
    }

    /// The object in the slot that `*_STAT` commands name.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn get_slot(&self, slot: i32) -> Result<Arc<T>> {
        if slot < 0 {
            return Err(Errno::EINVAL);
        }
        self.at(index_of(slot)).ok_or(Errno::EINVAL)
    }

    /// The object that `IPC_SET` or `IPC_RMID` is for. The table is locked for changes.
    ///
    /// # Errors
    /// Those of [`Ids::get`] and [`Perm::check_control`].
    pub fn get_to_control(&self, ns: &IpcNamespace, id: i32) -> Result<Arc<T>> {
        let object = self.get(id)?;
        object.perm().check_control(ns)?;
        Ok(object)
    }

    /// Calls `f` with each object, in the order of their slots, until it returns false. `index` shows that the table is locked.
    pub fn for_each(&self, index: &Index, mut f: impl FnMut(&Arc<T>) -> bool) {
        let mut next = index.used.next_used(0);
        while let Some(slot) = next {
            if self.at(slot).is_some_and(|object| !f(&object)) {
                return;
            }
            next = index.used.next_used(slot + 1);
        }
    }

    /// The highest slot in use, as the `*_INFO` commands return it: 0 if there is none.
    pub fn max_slot(&self, index: &Index) -> i32 {
        let guard = sched::rcu::read_lock();
        let Some(slots) = self.slots.load(&guard) else { return 0 };
        let used = (0..slots.0.len() as u32).rev().find(|slot| index.used.is_used(*slot));
        used.unwrap_or(0) as i32
    }

    /// `semget(2)`, `msgget(2)`, `shmget(2)`: finds the object with a key, or has `make` make one (with the table locked and
    /// [`Ids::insert`]). `fits` checks what is there already.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`; those of `make` and `fits`.
    pub fn get_or_make(
        &self,
        ns: &IpcNamespace,
        wanted: Wanted,
        fits: impl Fn(&T) -> Result<()>,
        make: impl FnOnce(&mut Index) -> Result<Arc<T>>,
    ) -> Result<i32> {
        let existing = |index: &Index| -> Result<Option<i32>> {
            let Some(object) = index.keys.get(&wanted.key).and_then(|slot| self.at(*slot)) else {
                return Ok(None);
            };
            if wanted.flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            fits(&object)?;
            object.perm().check(ns, wanted.flags)?;
            Ok(Some(object.perm().id()))
        };
        if wanted.key != IPC_PRIVATE
            && let Some(id) = existing(&self.index.read())?
        {
            return Ok(id);
        }
        let mut index = self.index.write();
        if wanted.key != IPC_PRIVATE {
            // Somebody may have been faster.
            if let Some(id) = existing(&index)? {
                return Ok(id);
            }
            if wanted.flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        make(&mut index).map(|object| object.perm().id())
    }

    /// Adds the object that `build` makes of its identity, with permissions and key of `wanted`, unless there are `limit` already.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn insert(
        &self,
        index: &mut Index,
        wanted: Wanted,
        limit: u32,
        build: impl FnOnce(Perm) -> T,
    ) -> Result<Arc<T>> {
        if index.in_use() >= limit.min(MNI) {
            return Err(Errno::ENOSPC);
        }
        index.keys.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let id = index.alloc()?;
        let slot = index_of(id);
        if let Err(error) = self.grow_to(slot as usize + 1) {
            index.used.free(slot);
            return Err(error);
        }
        let built = try_arc(build(Perm::new(id, wanted.key, wanted.flags & super::perm::RIGHTS)));
        if built.is_err() {
            index.used.free(slot);
        }
        let object = built?;
        if wanted.key != IPC_PRIVATE {
            index.keys.insert(wanted.key, slot);
        }
        let guard = sched::rcu::read_lock();
        if let Some(at) = self.slots.load(&guard).and_then(|slots| slots.0.get(slot as usize)) {
            drop(at.replace(Some(object.clone())));
        }
        Ok(object)
    }

    /// Makes room for `count` slots; the table is locked for changes.
    #[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
    fn grow_to(&self, count: usize) -> Result<()> {
        let old = self.slots.load_arc(&sched::rcu::read_lock());
        let old = old.as_ref().map_or(&[][..], |slots| &slots.0);
        if count <= old.len() {
            return Ok(());
        }
        let len = count.next_power_of_two().max(FIRST_SLOTS);
        let mut new = try_with_capacity(len)?;
        let guard = sched::rcu::read_lock();
        new.try_extend(old.iter().map(|slot| RcuPtr::new(slot.load_arc(&guard))))?;
        new.resize_with(len, RcuPtr::empty);
        drop(self.slots.replace(Some(try_arc(Slots(new.into_boxed_slice()))?)));
        Ok(())
    }

    /// Takes the key of an object away, so that it is found by its identifier only.
    pub fn forget_key(&self, index: &mut Index, object: &T) {
        let key = object.perm().forget_key();
        if key != IPC_PRIVATE {
            index.keys.remove(&key);
        }
    }

    /// Takes an object out. Its lock is not held; it was marked removed under it.
    pub fn remove(&self, index: &mut Index, object: &T) {
        self.forget_key(index, object);
        let slot = index_of(object.perm().id());
        index.used.free(slot);
        let guard = sched::rcu::read_lock();
        if let Some(at) = self.slots.load(&guard).and_then(|slots| slots.0.get(slot as usize)) {
            drop(at.replace(None));
        }
    }
}
