//! Objects that can be watched, and the marks on them.
//!
//! Invariant: a mark is in its object's list, in the registry, and counted in the file system's [`Watched::beneath`] and in
//! [`ACTIVE`], exactly while it is attached; and every one of that changes under the registry's lock. Lists are replaced, never
//! changed, so that who walks one needs no lock. Without memory for the shorter list a mark that is detached stays in the list, wanting
//! nothing, until the list is replaced the next time.
//!
//! A mark keeps its inode in memory (a *pin*), unless it is evictable. Pins do not count as uses: an inode without names and
//! users ends although it is watched ([`Watched::pins`]), and the marks with it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use bitflags::bitflags;
use mm::fallible::{SortedMap, TryVec, try_arc, try_with_capacity};

use super::dispatch::{Event, Found};
use super::mask;
use crate::inode::{Inode, InodeFlags};
use crate::mount::Mount;
use crate::super_block::SuperBlock;

/// Who sees an event first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before there is content to look at (`FAN_CLASS_PRE_CONTENT`).
    PreContent,
    /// When there is (`FAN_CLASS_CONTENT`).
    Content,
    /// To be told only.
    Normal,
}

/// A receiver of events.
pub trait Group: Send + Sync {
    /// An event that at least one of the marks in `found` wants.
    ///
    /// # Errors
    /// For a permission event: it may not happen.
    fn event(&self, event: &Event<'_>, found: &Found<'_>) -> Result<()>;

    /// The object of `mark` is gone, and the mark is detached.
    fn object_gone(&self, mark: &Arc<Mark>);
}

bitflags! {
    /// How a mark works.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MarkFlags: u32 {
        /// Does not keep the inode in memory.
        const EVICTABLE = 1 << 0;
        /// The ignore mask has event flags of its own (`FAN_MARK_IGNORE`).
        const IGNORE_FLAGS = 1 << 1;
        /// The ignore mask survives a modification.
        const SURV_MODIFY = 1 << 2;
        /// inotify: events of children whose name is gone are not wanted.
        const EXCL_UNLINK = 1 << 3;
        /// inotify: ends after one event.
        const ONESHOT = 1 << 4;
    }
}

/// What a mark is on.
#[derive(Clone)]
pub enum Object {
    /// An inode.
    Inode(Arc<Inode>),
    /// A mount.
    Mount(Arc<Mount>),
    /// A file system.
    Super(Arc<SuperBlock>),
}

impl Object {
    fn watched(&self) -> &Watched {
        match self {
            Self::Inode(inode) => &inode.notify,
            Self::Mount(mount) => &mount.notify,
            Self::Super(sb) => &sb.notify,
        }
    }

    fn sb(&self) -> &Arc<SuperBlock> {
        match self {
            Self::Inode(inode) => inode.sb(),
            Self::Mount(mount) => mount.sb(),
            Self::Super(sb) => sb,
        }
    }
}

/// The same without keeping it.
enum WeakObject {
    Inode(Weak<Inode>),
    Mount(Weak<Mount>),
    Super(Weak<SuperBlock>),
}

/// A group's interest in an object.
pub struct Mark {
    id: u64,
    group: Weak<dyn Group>,
    order: Order,
    object: WeakObject,
    sb: Weak<SuperBlock>,
    pin: SpinLock<Option<Arc<Inode>>>,
    /// What is wanted.
    mask: AtomicU32,
    /// What is not wanted after all.
    ignore: AtomicU32,
    flags: AtomicU32,
    /// It is over, and in a list for want of memory only.
    over: AtomicBool,
    /// inotify: the watch descriptor.
    pub wd: i32,
}

/// Lists are sorted by it: important groups first, the marks of one group in one place.
type Order = (Priority, usize);

/// The address of a group, as its identity.
fn address(group: &Weak<dyn Group>) -> usize {
    group.as_ptr().cast::<()>() as usize
}

impl Mark {
    /// What is wanted.
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Relaxed)
    }

    /// What is not wanted after all.
    pub fn ignore(&self) -> u32 {
        self.ignore.load(Ordering::Relaxed)
    }

    /// How it works.
    pub fn flags(&self) -> MarkFlags {
        MarkFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// A number that no other mark ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whose it is.
    pub fn group(&self) -> Option<Arc<dyn Group>> {
        self.group.upgrade()
    }

    /// What it is on, if that still exists.
    pub fn object(&self) -> Option<Object> {
        Some(match &self.object {
            WeakObject::Inode(inode) => Object::Inode(inode.upgrade()?),
            WeakObject::Mount(mount) => Object::Mount(mount.upgrade()?),
            WeakObject::Super(sb) => Object::Super(sb.upgrade()?),
        })
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// What the object must look out for because of the mark.
    fn wants(&self) -> u32 {
        let (wanted, ignore) = (self.mask(), self.ignore());
        if ignore == 0 {
            return wanted;
        }
        // A modification ends the ignoring, so it must be noticed.
        let modify = if self.flags().contains(MarkFlags::SURV_MODIFY) { 0 } else { mask::MODIFY };
        wanted | ignore | modify
    }

    /// Events that the mark takes back, for an event of a directory or not, met as the parent's mark or not.
    pub(crate) fn ignores(&self, is_dir: bool, as_parent: bool) -> u32 {
        let ignore = self.ignore();
        let events = ignore & mask::ALL;
        if events == 0 || !is_dir && !as_parent {
            return events;
        }
        // Without flags of its own the ignore mask means directories too, and children if the mask does.
        let flags = match self.flags().contains(MarkFlags::IGNORE_FLAGS) {
            true => ignore,
            false => mask::ISDIR | self.mask() & mask::ON_CHILD,
        };
        if is_dir && flags & mask::ISDIR == 0 || as_parent && flags & mask::ON_CHILD == 0 {
            0
        } else {
            events
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// It shall not be found any more, whatever list it is in.
    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.mask.store(0, Ordering::Relaxed);
        self.ignore.store(0, Ordering::Relaxed);
    }

    /// Forgets the ignore mask unless it survives modifications.
    pub(super) fn modified(&self) {
        if !self.flags().contains(MarkFlags::SURV_MODIFY) {
            self.ignore.store(0, Ordering::Relaxed);
        }
    }
}

/// Marks of an object, sorted by [`Order`].
pub(super) type Marks = Vec<Arc<Mark>>;

/// What an object that can be watched has.
#[derive(Default)]
pub struct Watched {
    mask: AtomicU32,
    /// Marks that pin an inode.
    pins: AtomicU32,
    /// Of a file system: marks on it and on all its inodes and mounts.
    beneath: AtomicU32,
    marks: SpinLock<Option<Arc<Marks>>>,
}

impl Watched {
    /// What the marks want to see.
    #[inline]
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Relaxed)
    }

    /// Marks on a file system, its mounts and inodes.
    #[inline]
    pub fn beneath(&self) -> u32 {
        self.beneath.load(Ordering::Relaxed)
    }

    /// References to an inode that marks hold.
    #[inline]
    pub fn pins(&self) -> usize {
        self.pins.load(Ordering::Relaxed) as usize
    }

    pub(super) fn marks(&self) -> Option<Arc<Marks>> {
        self.marks.lock().clone()
    }

    /// The mark of `group`.
    pub fn find(&self, group: &Weak<dyn Group>) -> Option<Arc<Mark>> {
        let marks = self.marks()?;
        marks.iter().find(|mark| mark.order.1 == address(group) && !mark.is_over()).cloned()
    }

    /// Replaces the list; the caller drops the old one with no lock held.
    fn replace(&self, marks: Option<Arc<Marks>>) -> Option<Arc<Marks>> {
        let union = marks.iter().flat_map(|marks| marks.iter()).fold(0, |mask, mark| mask | mark.wants());
        self.mask.store(union, Ordering::Relaxed);
        core::mem::replace(&mut *self.marks.lock(), marks)
    }
}

impl Drop for Watched {
    /// The object goes: its marks go without a word to anybody but their groups.
    fn drop(&mut self) {
        let marks = self.marks.get_mut().take();
        for mark in marks.iter().flat_map(|marks| marks.iter()) {
            if unregister(mark)
                && let Some(group) = mark.group()
            {
                group.object_gone(mark);
            }
        }
    }
}

/// All marks that are attached, by id.
static REGISTRY: SpinLock<SortedMap<u64, Arc<Mark>>> = SpinLock::new(SortedMap::new());
/// How many there are.
static ACTIVE: AtomicU32 = AtomicU32::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Whether there is any mark at all.
#[inline]
pub fn any() -> bool {
    ACTIVE.load(Ordering::Relaxed) != 0
}

/// What a mark that is made, or changed, shall be.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Interest {
    pub mask: u32,
    pub ignore: u32,
    pub flags: MarkFlags,
}

/// Puts a mark of `group` on `object`, which has none of it yet.
///
/// # Errors
/// `EEXIST`: it has; `ENOMEM`; `ENOENT`: the inode is gone.
pub fn attach(
    group: &Weak<dyn Group>,
    priority: Priority,
    object: &Object,
    interest: Interest,
    wd: i32,
) -> Result<Arc<Mark>> {
    let order = (priority, address(group));
    let pin = match object {
        Object::Inode(inode) if !interest.flags.contains(MarkFlags::EVICTABLE) => Some(inode.clone()),
        _ => None,
    };
    let watched = object.watched();
    let pinned = u32::from(pin.is_some());
    let mark = try_arc(Mark {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        group: group.clone(),
        order,
        object: match object {
            Object::Inode(inode) => WeakObject::Inode(Arc::downgrade(inode)),
            Object::Mount(mount) => WeakObject::Mount(Arc::downgrade(mount)),
            Object::Super(sb) => WeakObject::Super(Arc::downgrade(sb)),
        },
        sb: Arc::downgrade(object.sb()),
        pin: SpinLock::new(pin),
        mask: AtomicU32::new(interest.mask),
        ignore: AtomicU32::new(interest.ignore),
        flags: AtomicU32::new(interest.flags.bits()),
        over: AtomicBool::new(false),
        wd,
    })?;
    let old;
    {
        let mut registry = REGISTRY.lock();
        let current = watched.marks();
        let list = current.as_deref().map_or(&[][..], |list| list);
        let (before, after) = list.split_at(list.partition_point(|mark| mark.order < order));
        if after.iter().any(|other| other.order == order && !other.is_over()) {
            return Err(Errno::EEXIST);
        }
        let alive = |mark: &&Arc<Mark>| !mark.is_over();
        let mut longer = try_with_capacity(list.len() + 1)?;
        longer.extend(before.iter().filter(alive).cloned());
        longer.push_reserved(mark.clone());
        longer.extend(after.iter().filter(alive).cloned());
        let longer = try_arc(longer)?;
        registry.try_insert(mark.id, mark.clone())?;
        watched.pins.fetch_add(pinned, Ordering::Relaxed);
        object.sb().notify.beneath.fetch_add(1, Ordering::Relaxed);
        ACTIVE.fetch_add(1, Ordering::Relaxed);
        old = watched.replace(Some(longer));
    }
    drop(old);
    // Either the end of the inode meets the mark, or the mark sees the end.
    if let Object::Inode(inode) = object
        && inode.flags().contains(InodeFlags::EVICTED)
    {
        detach(&mark);
        return Err(Errno::ENOENT);
    }
    Ok(mark)
}

/// Changes a mark: `change` gets what it is and says what it shall be.
pub fn update(mark: &Arc<Mark>, change: impl FnOnce(Interest) -> Interest) {
    let Some(object) = mark.object() else { return };
    let mut unpinned = None;
    {
        let registry = REGISTRY.lock();
        let now = change(Interest { mask: mark.mask(), ignore: mark.ignore(), flags: mark.flags() });
        mark.mask.store(now.mask, Ordering::Relaxed);
        mark.ignore.store(now.ignore, Ordering::Relaxed);
        mark.flags.store(now.flags.bits(), Ordering::Relaxed);
        let attached = registry.contains_key(&mark.id);
        if let Object::Inode(inode) = &object
            && attached
            && !now.flags.contains(MarkFlags::EVICTABLE)
        {
            let mut pin = mark.pin.lock();
            if pin.is_none() {
                inode.notify.pins.fetch_add(1, Ordering::Relaxed);
                unpinned = pin.replace(inode.clone());
            }
        }
        refresh(object.watched());
    }
    drop((unpinned, object));
}

/// Computes anew what the object must look out for.
fn refresh(watched: &Watched) {
    let marks = watched.marks();
    let union = marks.iter().flat_map(|marks| marks.iter()).fold(0, |mask, mark| mask | mark.wants());
    watched.mask.store(union, Ordering::Relaxed);
}

/// Takes the mark out of the counts; whether it was in.
fn unregister(mark: &Arc<Mark>) -> bool {
    let gone = REGISTRY.lock().remove(&mark.id);
    let was = gone.is_some();
    if was {
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
        if let Some(sb) = mark.sb.upgrade() {
            sb.notify.beneath.fetch_sub(1, Ordering::Relaxed);
        }
    }
    drop(gone);
    was
}

/// Takes a mark off its object; whether it was on it.
pub fn detach(mark: &Arc<Mark>) -> bool {
    let object = mark.object();
    let (mut old, mut pin, mut gone) = (None, None, None);
    {
        let mut registry = REGISTRY.lock();
        gone = registry.remove(&mark.id).or(gone);
        if gone.is_some() {
            ACTIVE.fetch_sub(1, Ordering::Relaxed);
            if let Some(object) = &object {
                let watched = object.watched();
                object.sb().notify.beneath.fetch_sub(1, Ordering::Relaxed);
                pin = mark.pin.lock().take();
                watched.pins.fetch_sub(u32::from(pin.is_some()), Ordering::Relaxed);
                mark.end();
                match rest_of(watched) {
                    Ok(rest) => old = watched.replace(rest),
                    Err(_) => refresh(watched),
                }
            }
        }
    }
    let was = gone.is_some();
    drop((old, gone, object));
    // Last: the inode may go with it.
    drop(pin);
    was
}

/// The marks that are not over, as a list.
fn rest_of(watched: &Watched) -> Result<Option<Arc<Marks>>> {
    let Some(marks) = watched.marks() else { return Ok(None) };
    let alive = || marks.iter().filter(|mark| !mark.is_over());
    let mut rest = try_with_capacity(alive().count())?;
    rest.extend(alive().cloned());
    Ok(if rest.is_empty() { None } else { Some(try_arc(rest)?) })
}

/// The first mark on an inode of `sb` whose id is `from` or more.
pub(super) fn inode_mark_of(sb: &Arc<SuperBlock>, from: u64) -> Option<Arc<Mark>> {
    let registry = REGISTRY.lock();
    registry
        .range_from(&from)
        .map(|(_, mark)| mark)
        .filter(|mark| matches!(mark.object, WeakObject::Inode(_)))
        .find(|mark| core::ptr::eq(mark.sb.as_ptr(), Arc::as_ptr(sb)))
        .cloned()
}

/// Every mark on `sb` itself.
pub(super) fn super_marks_of(sb: &Arc<SuperBlock>) -> Option<Arc<Marks>> {
    sb.notify.marks()
}
