//! The inodes of one file system that are in memory, by number (`iget`): one object for each, however it is found.
//!
//! A file system whose inodes are on a device keeps one [`InodeTable`]. [`InodeTable::get`] finds an inode or has it read, once,
//! whoever asks meanwhile. The table holds no references; an inode that is being evicted stays in it until
//! [`InodeTable::forget`], which the file system calls at the end of `InodeOps::evict`, and who asks for it waits for that: the number
//! is not read again from the device before what is in memory has gone there.
//!
//! Locks: those of the table are leaves; references are dropped outside of them.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use hashbrown::HashMap;
use mm::fallible::{TryCollect, TryVec, try_into_boxed_slice};
use sched::wait::WaitQueue;

use crate::inode::{Inode, InodeFlags};
use crate::types::Ino;

/// Parts with a lock of their own.
const SHARDS: usize = 64;

enum Entry {
    /// Somebody reads it.
    Loading,
    /// It is, or was, in memory.
    Known(Weak<Inode>),
}

struct Shard {
    inodes: SpinLock<HashMap<Ino, Entry>>,
    changed: WaitQueue,
}

/// The inodes in memory. See the module text.
pub struct InodeTable {
    shards: Box<[Shard]>,
}

/// Takes the mark of somebody who reads an inode away, if that fails.
struct Loading<'a> {
    shard: &'a Shard,
    ino: Ino,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let gone = {
            let mut inodes = self.shard.inodes.lock();
            match inodes.get(&self.ino) {
                Some(Entry::Loading) => inodes.remove(&self.ino),
                _ => None,
            }
        };
        drop(gone);
        self.shard.changed.wake_all();
    }
}

impl InodeTable {
    /// An empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let shard = |_| Shard { inodes: SpinLock::new(HashMap::default()), changed: WaitQueue::new() };
        let shards = (0..SHARDS).map(shard).try_collect_vec()?;
        Ok(Self { shards: try_into_boxed_slice(shards)? })
    }

    fn shard(&self, ino: Ino) -> &Shard {
        // There are `SHARDS`.
        &self.shards[(ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % SHARDS]
    }

    /// The inode, if it is in memory and stays there.
    pub fn find(&self, ino: Ino) -> Option<Arc<Inode>> {
        let known = match self.shard(ino).inodes.lock().get(&ino) {
            Some(Entry::Known(inode)) => Some(inode.clone()),
            _ => None,
        };
        crate::export::revive(&known?)
    }

    /// The inode, made by `load` if it is not in memory. `load` makes the inode `ino` of this table's file system.
    ///
    /// # Errors
    /// `ENOMEM`, and those of `load`.
    pub fn get(&self, ino: Ino, load: impl FnOnce() -> Result<Arc<Inode>>) -> Result<Arc<Inode>> {
        let shard = self.shard(ino);
        loop {
            let known = {
                let mut inodes = shard.inodes.lock();
                match inodes.get(&ino) {
                    None => {
                        inodes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                        inodes.insert(ino, Entry::Loading);
                        break;
                    }
                    Some(Entry::Loading) => None,
                    Some(Entry::Known(inode)) => Some(inode.clone()),
                }
            };
            if let Some(inode) = known.as_ref().and_then(crate::export::revive) {
                return Ok(inode);
            }
            let same = |entry: Option<&Entry>| match (entry, &known) {
                (Some(Entry::Loading), None) => true,
                (Some(Entry::Known(now)), Some(then)) => Weak::ptr_eq(now, then),
                _ => false,
            };
            shard.changed.wait_event(|| !same(shard.inodes.lock().get(&ino)));
        }
        let loading = Loading { shard, ino };
        let inode = load()?;
        Self::enter(shard, &inode);
        drop(loading);
        Ok(inode)
    }

    /// Enters an inode that was just made and has no entry (a new file).
    ///
    /// # Errors
    /// `ENOMEM`; `EEXIST`: the number is in use, the file system is damaged.
    pub fn insert(&self, inode: &Arc<Inode>) -> Result<()> {
        let shard = self.shard(inode.ino());
        let mut inodes = shard.inodes.lock();
        if inodes.contains_key(&inode.ino()) {
            return Err(Errno::EEXIST);
        }
        inodes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        inodes.insert(inode.ino(), Entry::Loading);
        drop(inodes);
        Self::enter(shard, inode);
        Ok(())
    }

    /// Turns the mark of who reads it into the inode: nothing is allocated.
    fn enter(shard: &Shard, inode: &Arc<Inode>) {
        inode.insert_flags(InodeFlags::EXPORTED);
        if let Some(entry) = shard.inodes.lock().get_mut(&inode.ino()) {
            *entry = Entry::Known(Arc::downgrade(inode));
        }
    }

    /// The inode is gone from memory: for the end of `InodeOps::evict`.
    pub fn forget(&self, inode: &Inode) {
        let shard = self.shard(inode.ino());
        let gone = {
            let mut inodes = shard.inodes.lock();
            match inodes.get(&inode.ino()) {
                Some(Entry::Known(known)) if core::ptr::eq(known.as_ptr(), inode) => {
                    inodes.remove(&inode.ino())
                }
                _ => None,
            }
        };
        drop(gone);
        shard.changed.wake_all();
    }

    /// All inodes that are in memory now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn all(&self) -> Result<Vec<Arc<Inode>>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut known: Vec<Weak<Inode>> = Vec::new();
            loop {
                let inodes = shard.inodes.lock();
                if known.capacity() >= inodes.len() {
                    known.extend(inodes.values().filter_map(|entry| match entry {
                        Entry::Known(inode) => Some(inode.clone()),
                        Entry::Loading => None,
                    }));
                    break;
                }
                let wanted = inodes.len();
                drop(inodes);
                known.try_reserve(wanted).map_err(|_| Errno::ENOMEM)?;
            }
            for inode in known.iter().filter_map(crate::export::revive) {
                all.try_push(inode)?;
            }
        }
        Ok(all)
    }
}
