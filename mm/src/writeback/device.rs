//! What pages are written to: Linux's `backing_dev_info`.
//!
//! A [`BackingDevice`] knows which mappings are dirty and since when, how fast its device writes, and its own rules. A mapping enters the
//! list with the first page that becomes dirty, and the list keeps it, and with it whatever its file system gave as its
//! [host](Mapping::set_host), until it is clean again: so nothing that is dirty is forgotten because nobody uses the file.
//!
//! Locks: `lists` → tree of a mapping. Pages become dirty under table locks, so nothing sleeps or allocates there.

use crate::fallible::{TryVec, try_arc_cyclic, try_format};
use crate::filemap::{Mapping, SyncMode};
use crate::readahead::DEFAULT_PAGES;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use intrusive_collections::{LinkedList, LinkedListAtomicLink, intrusive_adapter};

use sync::Once;

use super::bandwidth::Bandwidth;
use super::flusher::Flusher;

/// A mapping's side of the list of what is dirty.
pub(crate) struct DirtyState {
    me: Weak<Mapping>,
    /// In the list, or being written by a flusher that will look again. Changed under the device's `lists`.
    listed: AtomicBool,
    /// When the first of its dirty pages became so, in milliseconds.
    since_ms: AtomicU64,
    /// Where a write-back that was not for anybody goes on, in pages.
    pub(super) cursor: AtomicU64,
    /// Whose it is: a number of the file system's.
    group: AtomicU64,
    host: SpinLock<Host>,
}

type AnyArc = Arc<dyn Any + Send + Sync>;

/// What is to stay while the mapping is dirty.
#[derive(Default)]
struct Host {
    weak: Option<Weak<dyn Any + Send + Sync>>,
    held: Option<AnyArc>,
}

impl DirtyState {
    /// Of a mapping that can be listed.
    pub(crate) fn new(me: Weak<Mapping>) -> Self {
        Self {
            me,
            listed: AtomicBool::new(false),
            since_ms: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
            group: AtomicU64::new(0),
            host: SpinLock::new(Host::default()),
        }
    }

    fn hold_host(&self) {
        let mut host = self.host.lock();
        if host.held.is_none() {
            host.held = host.weak.as_ref().and_then(Weak::upgrade);
        }
    }

    /// To be dropped without a lock.
    fn release_host(&self) -> Option<AnyArc> {
        self.host.lock().held.take()
    }
}

impl Default for DirtyState {
    fn default() -> Self {
        Self::new(Weak::new())
    }
}

impl Mapping {
    /// What is to stay in memory as long as something of this mapping is dirty, such as its inode; and a number that all mappings of the
    /// file system have, for [`BackingDevice::sync`]. Once.
    pub fn set_host(&self, host: Weak<dyn Any + Send + Sync>, group: u64) {
        self.dirty.group.store(group, Ordering::Relaxed);
        self.dirty.host.lock().weak = Some(host);
    }
}

intrusive_adapter!(Dirty = Arc<Mapping>: Mapping { dirty_link: LinkedListAtomicLink });

struct Lists {
    /// By when they became dirty.
    dirty: LinkedList<Dirty>,
    /// Those that a flusher is at.
    writing: LinkedList<Dirty>,
}

/// A device, as write-back and readahead see it. See the module documentation.
pub struct BackingDevice {
    name: String,
    /// `MAJ:MIN` below `/sys/class/bdi`, if it is there.
    numbers: Once<(u32, u32)>,
    read_ahead_kb: AtomicU32,
    stable_pages: AtomicBool,
    dirtied: AtomicU64,
    written: AtomicU64,
    pub(super) bandwidth: Bandwidth,
    lists: SpinLock<Lists>,
    pub(super) flusher: Flusher,
}

impl BackingDevice {
    /// A device with a name for threads and messages.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(name: &str) -> Result<Arc<Self>> {
        let name = try_format(format_args!("{name}"))?;
        let flusher = Flusher::new()?;
        let device = try_arc_cyclic(|me| {
            flusher.belongs_to(me.clone());
            Self {
                name,
                numbers: Once::new(),
                read_ahead_kb: AtomicU32::new(DEFAULT_PAGES * PAGE_SIZE as u32 / 1024),
                stable_pages: AtomicBool::new(false),
                dirtied: AtomicU64::new(0),
                written: AtomicU64::new(0),
                bandwidth: Bandwidth::new(),
                lists: SpinLock::new(Lists {
                    dirty: LinkedList::new(Dirty::NEW),
                    writing: LinkedList::new(Dirty::NEW),
                }),
                flusher,
            }
        })?;
        super::devices::add(&device)?;
        Ok(device)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its numbers, if it is a block device.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        self.numbers.get().copied()
    }

    /// Says which. Once.
    pub fn set_numbers(&self, numbers: (u32, u32)) {
        self.numbers.call_once(|| numbers);
    }

    /// `read_ahead_kb`: what is read ahead at most, in KiB.
    pub fn read_ahead_kb(&self) -> u32 {
        self.read_ahead_kb.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_read_ahead_kb(&self, kb: u32) {
        self.read_ahead_kb.store(kb, Ordering::Relaxed);
    }

    /// The same in pages.
    pub fn read_ahead_pages(&self) -> u32 {
        self.read_ahead_kb() / (PAGE_SIZE as u32 / 1024)
    }

    /// Whether pages must not change while they are written.
    #[inline]
    pub fn needs_stable_pages(&self) -> bool {
        self.stable_pages.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set_stable_pages(&self, stable: bool) {
        self.stable_pages.store(stable, Ordering::Relaxed);
    }

    /// Pages that became dirty, ever.
    pub fn dirtied(&self) -> u64 {
        self.dirtied.load(Ordering::Relaxed)
    }

    /// Pages that were written, ever.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A page of `mapping` became dirty.
    #[inline]
    pub(crate) fn count_dirtied(&self, mapping: &Mapping) {
        self.dirtied.fetch_add(1, Ordering::Relaxed);
        if !mapping.dirty.listed.load(Ordering::Acquire) {
            self.list(mapping);
        }
    }

    /// Pages were written. Any context.
    #[inline]
    pub(crate) fn count_written(&self, pages: u64) {
        self.written.fetch_add(pages, Ordering::Relaxed);
    }

    #[cold]
    fn list(&self, mapping: &Mapping) {
        let Some(mapping) = mapping.dirty.me.upgrade() else { return };
        mapping.dirty.hold_host();
        let late = {
            let mut lists = self.lists.lock();
            if mapping.dirty.listed.swap(true, Ordering::AcqRel) {
                // Not the last reference: the list has one.
                Some(mapping)
            } else {
                mapping.dirty.since_ms.store(super::now_ms(), Ordering::Relaxed);
                lists.dirty.push_back(mapping);
                None
            }
        };
        if late.is_none() {
            self.flusher.arm();
        }
    }

    /// Takes the mapping that is dirty longest, if that is since `before_ms` or earlier, to write it. [`settle`](Self::settle) follows.
    pub(super) fn take_dirty(&self, before_ms: u64) -> Option<Arc<Mapping>> {
        let mut lists = self.lists.lock();
        let first = lists.dirty.front();
        if first.get()?.dirty.since_ms.load(Ordering::Relaxed) > before_ms {
            return None;
        }
        let mapping = lists.dirty.pop_front()?;
        lists.writing.push_back(mapping.clone());
        Some(mapping)
    }

    /// A mapping that was [taken](Self::take_dirty): goes back if something of it is dirty or on its way.
    pub(super) fn settle(&self, mapping: Arc<Mapping>, now_ms: u64) {
        let clean = {
            let mut lists = self.lists.lock();
            // SAFETY: `take_dirty` has put it there, and only this takes it out.
            let entry = unsafe { lists.writing.cursor_mut_from_ptr(Arc::as_ptr(&mapping)) }.remove();
            mapping.dirty.listed.store(false, Ordering::Release);
            // Who makes a page dirty looks at `listed` behind that: one of us sees the other.
            if !mapping.is_settled() && !mapping.dirty.listed.swap(true, Ordering::AcqRel) {
                mapping.dirty.since_ms.store(now_ms, Ordering::Relaxed);
                if let Some(entry) = entry {
                    lists.dirty.push_back(entry);
                }
                None
            } else {
                entry
            }
        };
        if clean.is_some() {
            let host = mapping.dirty.release_host();
            drop(clean);
            drop(mapping);
            drop(host);
        }
    }

    /// Whether a mapping is in the list.
    pub fn has_dirty(&self) -> bool {
        let lists = self.lists.lock();
        !lists.dirty.is_empty() || !lists.writing.is_empty()
    }

    /// Lets go of the mappings that are clean by now: before a file system goes away.
    pub fn release_clean(&self) {
        let mut left = self.lists.lock().dirty.iter().count();
        let now = super::now_ms();
        while left > 0
            && let Some(mapping) = self.take_dirty(u64::MAX)
        {
            left -= 1;
            self.settle(mapping, now);
        }
    }

    /// The mappings of `group` (all for `None`) that may have something dirty or on its way.
    fn dirty_mappings(&self, group: Option<u64>) -> Result<Vec<Arc<Mapping>>> {
        let mut found: Vec<Arc<Mapping>> = Vec::new();
        loop {
            let room = found.capacity();
            let mut count = 0;
            {
                let lists = self.lists.lock();
                for mapping in lists.dirty.iter().chain(lists.writing.iter()) {
                    if group.is_some_and(|group| mapping.dirty.group.load(Ordering::Relaxed) != group) {
                        continue;
                    }
                    count += 1;
                    if count <= room
                        && let Some(mapping) = mapping.dirty.me.upgrade()
                    {
                        found.push_reserved(mapping);
                    }
                }
            }
            if count <= room {
                return Ok(found);
            }
            found.clear();
            found.try_reserve(count + 8).map_err(|_| Errno::ENOMEM)?;
        }
    }

    /// Writes what is dirty of the mappings of `group` (all for `None`) and waits for it: `sync(2)`, `syncfs(2)`, unmounting.
    ///
    /// # Errors
    /// The first that came up; `ENOMEM`.
    pub fn sync(&self, group: Option<u64>) -> Result<()> {
        let mappings = self.dirty_mappings(group)?;
        let mut result = Ok(());
        for mapping in &mappings {
            result = result.and(mapping.start_write_back(0..u64::MAX, SyncMode::All));
        }
        for mapping in &mappings {
            mapping.wait_on_writeback(0..u64::MAX);
            result = result.and(mapping.peek_write_error());
        }
        result
    }

    /// Starts writing what is dirty of the mappings of `group`, and does not wait.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn start_sync(&self, group: Option<u64>) -> Result<()> {
        for mapping in self.dirty_mappings(group)? {
            let _ = mapping.start_write_back(0..u64::MAX, SyncMode::None);
        }
        Ok(())
    }
}

impl fmt::Debug for BackingDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackingDevice({})", self.name)
    }
}
