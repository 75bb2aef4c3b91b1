//! The dentry cache: a hash table from (parent, name) to dentry that readers search without a lock.
//!
//! Each bucket is a chain of immutable [`Link`]s under RCU; a writer takes the bucket's spin lock.
//! A reader that meets a link compares a name that cannot change under it, so no sequence count is
//! needed: a rename takes the old link out and puts a new one in, and a reader that misses in
//! between falls back to a lookup under the directory's `rwsem`, which waits for the rename.
//!
//! The shrinker is a clock: it sweeps the buckets, drops the dentries that have no users and were not used since
//! the last sweep. New entries make it run when the table is over its limit.
//!
//! Locks: the bucket lock is innermost; nothing is dropped under it (victims are collected).

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use arch::sync::SpinLock;
use sched::rcu::ReadGuard;
use sync::{Lazy, RcuPtr};

use crate::dentry::{Dentry, DentryFlags, Name};
use crate::inode::Inode;
use crate::super_block::SuperBlock;
use mm::fallible::{TryVec, try_arc};

/// A place in a hash chain. Immutable but for `next`.
struct Link {
    hash: u64,
    name: Arc<Name>,
    dentry: Arc<Dentry>,
    next: RcuPtr<Link>,
}

impl Link {
    fn new(dentry: &Arc<Dentry>, name: Arc<Name>) -> Result<Arc<Self>> {
        dentry.links.fetch_add(1, Ordering::AcqRel);
        Ok(try_arc(Self { hash: name.hash(), name, dentry: dentry.clone(), next: RcuPtr::empty() })?)
    }

    fn matches(&self, parent: &Dentry, hash: u64, bytes: &[u8]) -> bool {
        self.hash == hash
            && self.name.parent().is_some_and(|p| core::ptr::eq(&**p, parent))
            && self.name.bytes() == bytes
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.dentry.links.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Bucket {
    head: RcuPtr<Link>,
    lock: SpinLock<()>,
}

struct Table {
    buckets: Box<[Bucket]>,
    mask: usize,
    /// Where the shrinker goes on.
    hand: AtomicUsize,
}

/// Buckets that an addition to a full table sweeps.
const SWEEP_BUCKETS: usize = 8;

/// Number of buckets; set by [`init`] before the first use.
static BUCKETS: AtomicUsize = AtomicUsize::new(1024);
/// Above this many dentries new ones push old ones out.
static LIMIT: AtomicUsize = AtomicUsize::new(16 * 1024);
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
static TABLE: Lazy<Table> = Lazy::new(|| {
    let count = BUCKETS.load(Ordering::Relaxed).next_power_of_two();
    let buckets = (0..count).map(|_| Bucket { head: RcuPtr::empty(), lock: SpinLock::new(()) });
    Table { buckets: buckets.collect(), mask: count - 1, hand: AtomicUsize::new(0) }
});
static NR_DENTRY: AtomicUsize = AtomicUsize::new(0);

/// Sizes the table for a machine with `pages` pages of memory; call before the first mount.
pub fn init(pages: usize) {
    BUCKETS.store((pages / 32).clamp(256, 1 << 16), Ordering::Relaxed);
    LIMIT.store((pages / 2).clamp(2048, 1 << 22), Ordering::Relaxed);
}

/// Dentries that exist (`/proc/sys/fs/dentry-state`).
pub fn nr_dentry() -> usize {
    NR_DENTRY.load(Ordering::Relaxed)
}

pub(crate) fn count_new() {
    NR_DENTRY.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn count_gone() {
    NR_DENTRY.fetch_sub(1, Ordering::Relaxed);
}

/// Hash of `name` in `parent`: eight bytes at a time, multiply and fold.
#[inline]
pub fn hash_name(parent: &Dentry, name: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = (core::ptr::from_ref(parent) as usize as u64) >> 6;
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(K);
        hash ^= hash >> 29;
    }
    let mut last = rest.len() as u64;
    for byte in rest {
        last = last << 8 | u64::from(*byte);
    }
    hash = (hash ^ last).wrapping_mul(K);
    hash ^ hash >> 32
}

fn bucket(hash: u64) -> &'static Bucket {
    let table: &'static Table = &TABLE;
    // The mask keeps the index inside the table.
    &table.buckets[hash as usize & table.mask]
}

/// Finds `name` in `parent` without a lock or a reference.
#[inline]
pub(crate) fn lookup_rcu<'g>(guard: &'g ReadGuard, parent: &Dentry, name: &[u8]) -> Option<&'g Arc<Dentry>> {
    let hash = hash_name(parent, name);
    let mut at = bucket(hash).head.load(guard);
    while let Some(link) = at {
        if link.matches(parent, hash, name) {
            return Some(&link.dentry);
        }
        at = link.next.load(guard);
    }
    None
}

/// Finds `name` in `parent` and takes a reference.
pub fn lookup(parent: &Dentry, name: &[u8]) -> Option<Arc<Dentry>> {
    let guard = sched::rcu::read_lock();
    let found = Arc::clone(lookup_rcu(&guard, parent, name)?);
    // Pairs with the fence in `drop_if_unused`: either it saw this reference or we see the flag.
    fence(Ordering::SeqCst);
    found.flags().contains(DentryFlags::HASHED).then_some(found)
}

/// A borrowed dentry with a reference of its own, unless it left the cache meanwhile.
pub(crate) fn legitimize(dentry: &Arc<Dentry>) -> Option<Arc<Dentry>> {
    let dentry = Arc::clone(dentry);
    fence(Ordering::SeqCst);
    (!dentry.is_unlinked() || dentry.flags().contains(DentryFlags::DISCONNECTED)).then_some(dentry)
}

/// Puts a new dentry for `name` into the cache; returns the one that another task put there first,
/// if any. `revision` is stored before others can see the dentry.
pub(crate) fn add(
    parent: &Arc<Dentry>,
    name: &[u8],
    inode: Option<Arc<Inode>>,
    revision: usize,
) -> Result<Arc<Dentry>> {
    let dentry = Dentry::new_child(parent, name, inode)?;
    dentry.revision.store(revision, Ordering::Relaxed);
    let Some(full) = dentry.name_arc() else { return Ok(dentry) };
    let link = Link::new(&dentry, full)?;
    let existing = {
        let guard = sched::rcu::read_lock();
        let bucket = bucket(link.hash);
        let _locked = bucket.lock.lock();
        match lookup_rcu(&guard, parent, name) {
            Some(found) => Some(Arc::clone(found)),
            None => {
                dentry.insert_flags(DentryFlags::HASHED | DentryFlags::REFERENCED);
                push(bucket, &guard, link);
                None
            }
        }
    };
    if let Some(found) = existing {
        return Ok(found);
    }
    if nr_dentry() > LIMIT.load(Ordering::Relaxed) {
        sweep(32, SWEEP_BUCKETS);
    }
    Ok(dentry)
}

/// Links in at the head; the bucket lock is held.
fn push(bucket: &Bucket, guard: &ReadGuard, link: Arc<Link>) {
    drop(link.next.replace(bucket.head.load_arc(guard)));
    drop(bucket.head.replace(Some(link)));
}

/// Takes the link of `dentry` out of its chain; the caller drops what comes back.
fn unlink(bucket: &'static Bucket, dentry: &Dentry) -> bool {
    let guard = sched::rcu::read_lock();
    let _locked = bucket.lock.lock();
    let mut slot = &bucket.head;
    while let Some(link) = slot.load(&guard) {
        if core::ptr::eq(&*link.dentry, dentry) {
            dentry.remove_flags(DentryFlags::HASHED);
            drop(slot.replace(link.next.load_arc(&guard)));
            return true;
        }
        slot = &link.next;
    }
    false
}

/// Takes `dentry` out of the cache (Linux's `d_drop`).
pub fn d_drop(dentry: &Dentry) {
    if let Some(name) = dentry.name_arc() {
        unlink(bucket(name.hash()), dentry);
    }
}

/// A name was removed: the dentry leaves the cache. [`evict_if_unused`] then lets the inode go, if that was its last name.
pub(crate) fn d_delete(dentry: &Arc<Dentry>) {
    dentry.insert_flags(DentryFlags::DELETED | DentryFlags::CANT_MOUNT);
    d_drop(dentry);
}

/// A dentry without a name lost a user: if it has no more than `users` (those of the caller), it is of no use any more, and its
/// inode, if that has neither names nor other users, gives up its space at once.
pub(crate) fn evict_if_unused(dentry: &Arc<Dentry>, users: usize) {
    let Some(inode) = dentry.inode() else { return };
    if !dentry.is_unlinked() {
        return;
    }
    fence(Ordering::SeqCst);
    if dentry.users() > users {
        return;
    }
    if !dentry.insert_flags(DentryFlags::IDLE).contains(DentryFlags::IDLE) {
        inode.idle.fetch_add(1, Ordering::AcqRel);
    }
    // Marks keep the inode in memory, not in use.
    let unused = || inode.nlink() == 0 && dentry.users() <= users && inode.is_unused_but_for(0);
    if crate::export::claim_eviction(inode, unused) {
        crate::notify::inode_removed(inode);
        inode.ops().evict(inode);
    }
}

/// A name that a dentry is about to get, with all that takes memory: made before the file system renames, because nothing may fail
/// afterwards.
pub(crate) struct Renamed(Arc<Link>);

impl Renamed {
    /// `dentry` shall be `name` in `parent`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(dentry: &Arc<Dentry>, parent: &Arc<Dentry>, name: &[u8]) -> Result<Self> {
        Ok(Self(Link::new(dentry, Name::new(Some(parent.clone()), name)?)?))
    }

    /// `dentry` shall be called as `other` is.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn as_other(dentry: &Arc<Dentry>, other: &Dentry) -> Result<Self> {
        Ok(Self(Link::new(dentry, other.name_arc().ok_or(Errno::ENOENT)?)?))
    }
}

/// Gives a dentry a new parent and name.
pub(crate) fn d_move(to: Renamed) {
    d_drop(&to.0.dentry);
    rehash(to.0);
}

/// Swaps the names of two dentries.
pub(crate) fn d_exchange(a: Renamed, b: Renamed) {
    d_drop(&a.0.dentry);
    d_drop(&b.0.dentry);
    rehash(a.0);
    rehash(b.0);
}

fn rehash(link: Arc<Link>) {
    let dentry = link.dentry.clone();
    dentry.replace_name(link.name.clone());
    let bucket = bucket(link.hash);
    let guard = sched::rcu::read_lock();
    let _locked = bucket.lock.lock();
    dentry.insert_flags(DentryFlags::HASHED);
    push(bucket, &guard, link);
}

/// Drops `dentry` from the cache if nobody uses it; `users` are the caller's own references.
fn drop_if_unused(dentry: &Arc<Dentry>, users: usize) -> bool {
    let Some(name) = dentry.name_arc() else { return false };
    if dentry.flags().intersects(DentryFlags::MOUNTED | DentryFlags::EXPORTED)
        || dentry.child_names.load(Ordering::Acquire) > 0
        || dentry.users() > users
    {
        return false;
    }
    if !unlink(bucket(name.hash()), dentry) {
        return false;
    }
    // Pairs with the fence in `lookup` and `legitimize`.
    fence(Ordering::SeqCst);
    if dentry.users() > users || dentry.child_names.load(Ordering::Acquire) > 0 {
        // The table must have it again, whatever it takes.
        let _no_fail = mm::context::NoFailScope::enter();
        if let Ok(link) = Link::new(dentry, name) {
            rehash(link);
        }
        return false;
    }
    true
}

/// Frees up to `count` unused dentries; returns how many went. The memory reclaimer calls this.
pub fn shrink(count: usize) -> usize {
    sweep(count, TABLE.mask + 1)
}

/// Looks at up to `buckets` buckets from the clock's hand on. An entry that makes the table too full pays for
/// a few, so that a table full of dentries in use costs no more than one that is not.
fn sweep(count: usize, buckets: usize) -> usize {
    let table: &'static Table = &TABLE;
    let mut freed = 0;
    for _ in 0..buckets {
        if freed >= count {
            break;
        }
        let at = table.hand.fetch_add(1, Ordering::Relaxed) & table.mask;
        let mut victims: Vec<Arc<Dentry>> = Vec::new();
        collect(&table.buckets[at], &mut victims, |dentry| {
            !dentry.remove_flags(DentryFlags::REFERENCED).contains(DentryFlags::REFERENCED)
        });
        freed += victims.iter().filter(|victim| drop_if_unused(victim, 1)).count();
    }
    freed
}

/// Unused dentries of a bucket that `pick` agrees to.
fn collect(bucket: &'static Bucket, into: &mut Vec<Arc<Dentry>>, pick: impl Fn(&Dentry) -> bool) {
    let guard = sched::rcu::read_lock();
    let mut at = bucket.head.load(&guard);
    while let Some(link) = at {
        if pick(&link.dentry) && into.try_reserve(1).is_ok() {
            into.push_reserved(Arc::clone(&link.dentry));
        }
        at = link.next.load(&guard);
    }
}

/// Drops every dentry of `sb` from the cache.
pub(crate) fn shrink_super(sb: &SuperBlock) {
    for bucket in &TABLE.buckets {
        let mut victims = Vec::new();
        collect(bucket, &mut victims, |dentry| core::ptr::eq(&**dentry.sb(), sb));
        for victim in &victims {
            unlink(bucket, victim);
        }
    }
}
