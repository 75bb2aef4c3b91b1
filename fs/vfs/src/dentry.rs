//! Directory entries: a name in a directory, and the inode it stands for, if any.
//!
//! A dentry without inode is *negative*: the name is known not to exist. A negative dentry can
//! become positive once; a positive one keeps its inode for life (an unlinked name is unhashed,
//! not made negative), so readers see it without a lock.
//!
//! Parent and name together are one immutable [`Name`]; a rename replaces it. Readers reach it
//! through [`sync::RcuPtr`], so a name is never seen half changed.
//!
//! `users` counts: [`Dentry::users`] is the number of references beyond those of the cache itself
//! (the hash chain, the names of cached children, and whatever of these waits for a grace
//! period). Zero users means the dentry may be dropped.

use abi::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bitflags::bitflags;
use sync::{Once, RcuPtr, RcuReadSide};

use crate::inode::Inode;
use crate::super_block::SuperBlock;
use mm::fallible::try_arc;

bitflags! {
    /// State of a dentry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DentryFlags: u32 {
        /// In the hash table.
        const HASHED = 1 << 0;
        /// Something is mounted on it in some namespace.
        const MOUNTED = 1 << 1;
        /// Used since the last sweep of the shrinker.
        const REFERENCED = 1 << 2;
        /// The root of a file system.
        const ROOT = 1 << 3;
        /// No mount may be put on it any more: it is being removed.
        const CANT_MOUNT = 1 << 4;
        /// Never had a name in a directory (pipes, anonymous inodes).
        const DISCONNECTED = 1 << 5;
        /// Was unlinked; paths show ` (deleted)`.
        const DELETED = 1 << 6;
        /// Made by `O_TMPFILE`: may be given its first name by `linkat(2)`.
        const LINKABLE = 1 << 7;
        /// A file handle was made of it: stays in the cache as long as the name exists.
        const EXPORTED = 1 << 8;
        /// Without name and users: only waits for readers to be gone. Counted in [`Inode::idle`].
        const IDLE = 1 << 9;
    }
}

/// Bytes of a name that need no allocation of their own.
const INLINE_NAME: usize = 30;

enum NameBytes {
    Inline(u8, [u8; INLINE_NAME]),
    Heap(Box<[u8]>),
}

/// A parent and a name in it. Immutable.
pub struct Name {
    parent: Option<Arc<Dentry>>,
    hash: u64,
    bytes: NameBytes,
}

impl Name {
    pub(crate) fn new(parent: Option<Arc<Dentry>>, bytes: &[u8]) -> Result<Arc<Self>> {
        let mut inline = [0; INLINE_NAME];
        let bytes_kept = match inline.get_mut(..bytes.len()) {
            Some(part) => {
                part.copy_from_slice(bytes);
                NameBytes::Inline(bytes.len() as u8, inline)
            }
            None => NameBytes::Heap(mm::try_to_vec(bytes)?.into_boxed_slice()),
        };
        let hash = match &parent {
            Some(parent) => {
                parent.child_names.fetch_add(1, Ordering::AcqRel);
                crate::dcache::hash_name(parent, bytes)
            }
            None => 0,
        };
        Ok(try_arc(Self { parent, hash, bytes: bytes_kept })?)
    }

    /// The directory; none for a root.
    pub fn parent(&self) -> Option<&Arc<Dentry>> {
        self.parent.as_ref()
    }

    /// The name.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            NameBytes::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            NameBytes::Heap(bytes) => bytes,
        }
    }

    /// Takes the parent out, with its count.
    fn take_parent(&mut self) -> Option<Arc<Dentry>> {
        let parent = self.parent.take()?;
        parent.child_names.fetch_sub(1, Ordering::AcqRel);
        Some(parent)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        drop(self.take_parent());
    }
}

/// A directory entry. See the module text.
pub struct Dentry {
    name: RcuPtr<Name>,
    inode: Once<Arc<Inode>>,
    sb: Arc<SuperBlock>,
    flags: AtomicU32,
    /// References from hash chain links, waiting ones included.
    pub(crate) links: AtomicUsize,
    /// References from names of children, waiting ones included.
    pub(crate) child_names: AtomicUsize,
    /// What the file system's `revalidate` compares with (a change counter of the directory).
    pub revision: AtomicUsize,
}

impl Dentry {
    fn with(
        sb: &Arc<SuperBlock>,
        name: Arc<Name>,
        inode: Option<Arc<Inode>>,
        flags: DentryFlags,
    ) -> Result<Arc<Self>> {
        let slot = Once::new();
        if let Some(inode) = inode {
            let _ = slot.set(inode);
        }
        crate::dcache::count_new();
        Ok(try_arc(Self {
            name: RcuPtr::new(Some(name)),
            inode: slot,
            sb: sb.clone(),
            flags: AtomicU32::new(flags.bits()),
            links: AtomicUsize::new(0),
            child_names: AtomicUsize::new(0),
            revision: AtomicUsize::new(0),
        })?)
    }

    /// The root of a file system.
    pub(crate) fn new_root(sb: &Arc<SuperBlock>, inode: Arc<Inode>) -> Result<Arc<Self>> {
        Self::with(sb, Name::new(None, b"/")?, Some(inode), DentryFlags::ROOT)
    }

    /// A dentry outside every directory: `pipe:[1]`, `anon_inode:[eventpoll]`, `memfd:name`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new_disconnected(sb: &Arc<SuperBlock>, name: &[u8], inode: Arc<Inode>) -> Result<Arc<Self>> {
        Self::with(sb, Name::new(None, name)?, Some(inode), DentryFlags::DISCONNECTED)
    }

    /// A file without a name in `parent` (`O_TMPFILE`); `linkable` if it may get one later.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new_unnamed(
        parent: &Arc<Dentry>,
        name: &[u8],
        inode: Arc<Inode>,
        linkable: bool,
    ) -> Result<Arc<Self>> {
        let flags = if linkable { DentryFlags::LINKABLE } else { DentryFlags::empty() };
        Self::with(&parent.sb, Name::new(Some(parent.clone()), name)?, Some(inode), flags)
    }

    /// An entry of `parent` that is not hashed yet.
    pub(crate) fn new_child(
        parent: &Arc<Dentry>,
        name: &[u8],
        inode: Option<Arc<Inode>>,
    ) -> Result<Arc<Self>> {
        Self::with(&parent.sb, Name::new(Some(parent.clone()), name)?, inode, DentryFlags::empty())
    }

    /// The inode; none for a negative dentry.
    #[inline]
    pub fn inode(&self) -> Option<&Arc<Inode>> {
        self.inode.get()
    }

    /// Whether the name is known not to exist.
    pub fn is_negative(&self) -> bool {
        self.inode.get().is_none()
    }

    /// Makes a negative dentry positive.
    pub(crate) fn instantiate(&self, inode: Arc<Inode>) {
        let done = self.inode.set(inode);
        debug_assert!(done.is_ok(), "dentry was positive");
    }

    /// The file system.
    pub fn sb(&self) -> &Arc<SuperBlock> {
        &self.sb
    }

    /// Parent and name, as they are now.
    #[inline]
    pub fn name<'g>(&'g self, guard: &'g impl RcuReadSide) -> Option<&'g Name> {
        self.name.load(guard)
    }

    /// Parent and name, kept alive.
    pub fn name_arc(&self) -> Option<Arc<Name>> {
        self.name.load_arc(&sched::rcu::read_lock())
    }

    pub(crate) fn replace_name(&self, name: Arc<Name>) {
        drop(self.name.replace(Some(name)));
    }

    /// The parent directory; none for roots and disconnected dentries.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        let guard = sched::rcu::read_lock();
        self.name.load(&guard)?.parent.clone()
    }

    /// State bits.
    #[inline]
    pub fn flags(&self) -> DentryFlags {
        DentryFlags::from_bits_retain(self.flags.load(Ordering::Acquire))
    }

    /// Sets state bits; returns the old ones.
    pub(crate) fn insert_flags(&self, flags: DentryFlags) -> DentryFlags {
        DentryFlags::from_bits_retain(self.flags.fetch_or(flags.bits(), Ordering::AcqRel))
    }

    /// Clears state bits; returns the old ones.
    pub(crate) fn remove_flags(&self, flags: DentryFlags) -> DentryFlags {
        DentryFlags::from_bits_retain(self.flags.fetch_and(!flags.bits(), Ordering::AcqRel))
    }

    /// Notes a use for the shrinker.
    #[inline]
    pub(crate) fn mark_used(&self) {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags & DentryFlags::REFERENCED.bits() == 0 {
            self.flags.fetch_or(DentryFlags::REFERENCED.bits(), Ordering::Relaxed);
        }
    }

    /// Whether the name is gone from its directory (or never was in one).
    pub fn is_unlinked(&self) -> bool {
        let flags = self.flags();
        !flags.intersects(DentryFlags::HASHED | DentryFlags::ROOT)
    }

    /// References beyond the cache's own; see the module text.
    pub fn users(self: &Arc<Self>) -> usize {
        let own = self.links.load(Ordering::Acquire) + self.child_names.load(Ordering::Acquire);
        Arc::strong_count(self).saturating_sub(own)
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_below(&self, ancestor: &Dentry) -> bool {
        let guard = sched::rcu::read_lock();
        let mut at: &Dentry = self;
        loop {
            if core::ptr::eq(at, ancestor) {
                return true;
            }
            match at.name.load(&guard).and_then(|name| name.parent.as_deref()) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }
}

impl Dentry {
    /// The dentry goes while others have looked at its inode: if nothing is left that uses that, its marks end.
    fn last_of_watched(&self) {
        let Some(inode) = self.inode.get() else { return };
        if self.flags().contains(DentryFlags::IDLE) {
            inode.idle.fetch_sub(1, Ordering::AcqRel);
        }
        if inode.notify.pins() > 0
            && inode.nlink() == 0
            && crate::export::claim_eviction(inode, || inode.is_unused_but_for(1))
        {
            crate::notify::inode_removed(inode);
            inode.ops().evict(inode);
        }
    }
}

impl Drop for Dentry {
    /// Lets go of the parents one after the other: a deep path whose last user leaves must not
    /// recurse once per level.
    fn drop(&mut self) {
        crate::dcache::count_gone();
        self.last_of_watched();
        let mut next = core::mem::take(&mut self.name).into_inner();
        while let Some(mut name) = next.and_then(Arc::into_inner) {
            let Some(parent) = name.take_parent() else { return };
            match Arc::into_inner(parent) {
                Some(mut parent) => next = core::mem::take(&mut parent.name).into_inner(),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name_arc();
        let text = crate::util::Lossy(name.as_ref().map_or(b"", |n| n.bytes()));
        write!(f, "Dentry({text} {:?})", self.inode())
    }
}
