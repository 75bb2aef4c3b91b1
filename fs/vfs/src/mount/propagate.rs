//! Propagation of mount events: shared, slave, private and unbindable mounts.
//! `mount_namespaces(7)`, "SHARED SUBTREES".
//!
//! Mounts that see each other's events form a *peer group* with a number. A mount may also be the
//! slave of a group: it sees the group's events, the group does not see its own. Who is in a group
//! and who is its slave is kept in one table. Runs under [`super::NAMESPACE`].

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use collections::idalloc::IdAlloc;

use super::{Mount, MountNamespace, attr, tree};
use crate::dentry::Dentry;
use crate::path::Path;

/// A kind of propagation that `mount(2)` can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Shared,
    Slave,
    Private,
    Unbindable,
}

impl Kind {
    /// From one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE`.
    pub fn from_ms(ms: u32) -> Option<Self> {
        Some(match ms {
            raw::MS_SHARED => Self::Shared,
            raw::MS_SLAVE => Self::Slave,
            raw::MS_PRIVATE => Self::Private,
            raw::MS_UNBINDABLE => Self::Unbindable,
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Group {
    members: Vec<Weak<Mount>>,
    slaves: Vec<Weak<Mount>>,
}

static GROUPS: SpinLock<BTreeMap<u32, Group>> = SpinLock::new(BTreeMap::new());
static GROUP_IDS: SpinLock<IdAlloc> = SpinLock::new(IdAlloc::new(1, 1 << 30));

fn new_group() -> Result<u32> {
    GROUP_IDS.lock().alloc().map_err(|_| Errno::ENOSPC)
}

fn alive(list: &[Weak<Mount>]) -> Vec<Arc<Mount>> {
    list.iter().filter_map(Weak::upgrade).collect()
}

/// Members of peer group `group`.
pub fn members(group: u32) -> Vec<Arc<Mount>> {
    GROUPS.lock().get(&group).map_or_else(Vec::new, |g| alive(&g.members))
}

/// Slaves of peer group `group`.
pub fn slaves(group: u32) -> Vec<Arc<Mount>> {
    GROUPS.lock().get(&group).map_or_else(Vec::new, |g| alive(&g.slaves))
}

/// The peer group of `mount` (0 for none), and the one it is a slave of.
pub fn groups(mount: &Mount) -> (u32, u32) {
    let p = mount.propagation.lock();
    (p.group, p.master)
}

fn is(weak: &Weak<Mount>, mount: &Arc<Mount>) -> bool {
    core::ptr::eq(weak.as_ptr(), Arc::as_ptr(mount))
}

fn join_group(mount: &Arc<Mount>, group: u32) {
    mount.propagation.lock().group = group;
    if group != 0 {
        GROUPS.lock().entry(group).or_default().members.push(Arc::downgrade(mount));
    }
}

fn join_master(mount: &Arc<Mount>, master: u32) {
    mount.propagation.lock().master = master;
    if master != 0 {
        GROUPS.lock().entry(master).or_default().slaves.push(Arc::downgrade(mount));
    }
}

fn leave_master(mount: &Arc<Mount>) {
    let master = core::mem::take(&mut mount.propagation.lock().master);
    if let Some(group) = GROUPS.lock().get_mut(&master) {
        group.slaves.retain(|other| !is(other, mount));
    }
}

/// Leaves the peer group. The slaves of a group that is now empty go to `heir` (0: they become private).
/// Returns whether other members are left.
fn leave_group(mount: &Arc<Mount>, heir: u32) -> bool {
    let id = core::mem::take(&mut mount.propagation.lock().group);
    if id == 0 {
        return false;
    }
    let orphans = {
        let mut groups = GROUPS.lock();
        let Some(group) = groups.get_mut(&id) else { return false };
        group.members.retain(|other| !is(other, mount) && other.strong_count() > 0);
        if !group.members.is_empty() {
            return true;
        }
        groups.remove(&id).map(|group| group.slaves)
    };
    GROUP_IDS.lock().free(id);
    for slave in alive(&orphans.unwrap_or_default()) {
        join_master(&slave, heir);
    }
    false
}

/// A mount goes away.
pub(super) fn leave(mount: &Arc<Mount>) {
    let (_, master) = groups(mount);
    leave_group(mount, master);
    leave_master(mount);
    mount.propagation.lock().unbindable = false;
}

/// A copy of a mount is in the same group and the slave of the same.
pub(super) fn inherit(old: &Arc<Mount>, copy: &Arc<Mount>) {
    let (group, master) = groups(old);
    join_group(copy, group);
    join_master(copy, master);
    let unbindable = old.propagation.lock().unbindable;
    copy.propagation.lock().unbindable = unbindable;
}

/// `MOVE_MOUNT_SET_GROUP`: `to`, which is private, gets the group and master of `from`.
pub(super) fn join(from: &Arc<Mount>, to: &Arc<Mount>) {
    let (group, master) = groups(from);
    join_group(to, group);
    join_master(to, master);
}

/// Whether a new mount at `at` would be mirrored on the root of `mount`, which begins with what `at` covers.
pub(super) fn would_cover(at: &Path, mount: &Arc<Mount>) -> bool {
    Arc::ptr_eq(mount.root(), &at.dentry)
        && groups(&at.mnt).0 != 0
        && all_receivers(&at.mnt).iter().any(|receiver| Arc::ptr_eq(receiver, mount))
}

/// `mount(2)` with `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE` on one mount.
pub(super) fn change_kind(mount: &Arc<Mount>, kind: Kind) -> Result<()> {
    let (group, master) = groups(mount);
    match kind {
        Kind::Shared => {
            if group == 0 {
                let id = new_group()?;
                join_group(mount, id);
            }
            mount.propagation.lock().unbindable = false;
        }
        Kind::Slave => {
            if group != 0 && leave_group(mount, master) {
                leave_master(mount);
                join_master(mount, group);
            }
            mount.propagation.lock().unbindable = false;
        }
        Kind::Private | Kind::Unbindable => {
            leave(mount);
            mount.propagation.lock().unbindable = kind == Kind::Unbindable;
        }
    }
    Ok(())
}

/// A mount that receives the events of another, and how its copies relate to the source.
struct Receiver {
    mount: Arc<Mount>,
    /// Peer group of the copies of the tree's mounts, by place in the tree; `None`: not shared.
    groups: Option<Arc<Vec<u32>>>,
    /// Whose slaves the copies are, by place in the tree.
    masters: Option<Arc<Vec<u32>>>,
}

/// Everybody who receives events of `at`, which is shared. `source` are the groups of the tree that is mounted; ids of groups that
/// had to be made go to `minted`.
fn receivers(at: &Arc<Mount>, source: Vec<u32>, minted: &mut Vec<u32>) -> Result<Vec<Receiver>> {
    let (group, _) = groups(at);
    let mut found = Vec::new();
    let mut queue = alloc::vec![(group, Arc::new(source), None::<Arc<Vec<u32>>>)];
    let mut seen = Vec::new();
    while let Some((group, sources, masters)) = queue.pop() {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        for mount in members(group) {
            if !Arc::ptr_eq(&mount, at) {
                found.push(Receiver { mount, groups: Some(sources.clone()), masters: masters.clone() });
            }
        }
        for slave in slaves(group) {
            let (own, _) = groups(&slave);
            if own == 0 {
                found.push(Receiver { mount: slave, groups: None, masters: Some(sources.clone()) });
            } else if !seen.contains(&own) {
                let first = minted.len();
                for _ in 0..sources.len() {
                    minted.push(new_group()?);
                }
                let ids = minted.get(first..).unwrap_or_default().to_vec();
                queue.push((own, Arc::new(ids), Some(sources.clone())));
            }
        }
    }
    Ok(found)
}

/// Numbers for the peer groups that [`share`] gives to the mounts of `tree` that have none.
///
/// # Errors
/// `ENOSPC`, `ENOMEM`.
pub(super) fn new_groups(tree: &[Arc<Mount>]) -> Result<Vec<u32>> {
    let count = tree.iter().filter(|mount| groups(mount).0 == 0).count();
    let mut fresh = Vec::new();
    fresh.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for _ in 0..count {
        match new_group() {
            Ok(id) => fresh.push(id),
            Err(error) => {
                free_groups(fresh);
                return Err(error);
            }
        }
    }
    Ok(fresh)
}

/// Gives back numbers of groups that nobody joined.
pub(super) fn free_groups(unused: Vec<u32>) {
    let mut ids = GROUP_IDS.lock();
    for id in unused {
        ids.free(id);
    }
}

/// Gives every unshared mount of a tree a peer group of its own, with the numbers that [`new_groups`] set aside.
pub(super) fn share(tree: &[Arc<Mount>], fresh: Vec<u32>) {
    let unshared = tree.iter().filter(|mount| groups(mount).0 == 0);
    for (mount, id) in unshared.zip(fresh) {
        join_group(mount, id);
        mount.propagation.lock().unbindable = false;
    }
}

/// A copy of the tree, and where it goes.
struct Delivery {
    to: Path,
    ns: Arc<MountNamespace>,
    copy: Arc<Mount>,
}

/// The tree at `top` is about to be attached at `at`, whose mount is shared: makes the tree shared, and
/// attaches copies wherever the event travels. If one of them cannot be made, none is attached.
pub(super) fn propagate_mount(top: &Arc<Mount>, at: &Path) -> Result<()> {
    let tree = tree::subtree(top);
    let fresh = new_groups(&tree)?;
    let mut next = fresh.iter().copied();
    let shared = |mount: &Arc<Mount>| match groups(mount).0 {
        0 => next.next().unwrap_or(0),
        group => group,
    };
    let source = tree.iter().map(shared).collect();
    let mut minted = Vec::new();
    let mut deliveries = Vec::new();
    let made = receivers(&at.mnt, source, &mut minted).and_then(|receivers| {
        receivers.into_iter().try_for_each(|receiver| prepare(&tree, at, receiver, &mut deliveries))
    });
    match made {
        Ok(()) => {
            share(&tree, fresh);
            deliver(at, deliveries);
        }
        Err(_) => {
            deliveries.iter().for_each(|delivery| tree::discard(&delivery.copy));
            minted.extend(fresh);
            // Slaves may have come to a group before any member.
            GROUPS.lock().retain(|id, group| !group.members.is_empty() || !minted.contains(id));
        }
    }
    // Groups that nobody joined.
    let unused: Vec<u32> = {
        let groups = GROUPS.lock();
        minted.into_iter().filter(|id| !groups.contains_key(id)).collect()
    };
    free_groups(unused);
    made
}

/// Makes the copy that one receiver gets.
fn prepare(tree: &[Arc<Mount>], at: &Path, receiver: Receiver, into: &mut Vec<Delivery>) -> Result<()> {
    // What is mounted nowhere receives nothing.
    let Some(ns) = receiver.mount.namespace().filter(|ns| !ns.is_anonymous()) else { return Ok(()) };
    if !at.dentry.is_below(receiver.mount.root()) {
        return Ok(());
    }
    ns.room_for(tree.len())?;
    let copies = copy_plain(tree)?;
    for (index, copy) in copies.iter().enumerate() {
        let pick =
            |ids: &Option<Arc<Vec<u32>>>| ids.as_ref().and_then(|v| v.get(index).copied()).unwrap_or(0);
        join_group(copy, pick(&receiver.groups));
        join_master(copy, pick(&receiver.masters));
    }
    if let Some(copy) = copies.first().cloned() {
        let to = Path::new(receiver.mount, at.dentry.clone());
        into.push(Delivery { to, ns, copy });
    }
    Ok(())
}

fn deliver(at: &Path, deliveries: Vec<Delivery>) {
    let owner = at.mnt.namespace();
    for Delivery { to, ns, copy } in deliveries {
        tree::attach(&copy, &to);
        // A namespace of other users gets it as a whole that it cannot take apart.
        if owner.as_ref().is_some_and(|owner| !Arc::ptr_eq(owner.user_ns(), ns.user_ns())) {
            attr::lock_tree(&copy);
        }
        ns.changed();
    }
}

/// A copy of a tree (parents first) with no propagation of its own.
fn copy_plain(tree: &[Arc<Mount>]) -> Result<Vec<Arc<Mount>>> {
    let mut copies: Vec<Arc<Mount>> = Vec::new();
    for (index, old) in tree.iter().enumerate() {
        let copy = match tree::clone_bare(old, old.root()) {
            Ok(copy) => copy,
            Err(error) => {
                copies.first().into_iter().for_each(tree::discard);
                return Err(error);
            }
        };
        if index > 0
            && let Some(at) = old.mountpoint()
            && let Some(parent) = tree.iter().position(|m| Arc::ptr_eq(m, &at.mnt))
            && let Some(parent_copy) = copies.get(parent)
        {
            copy.locked.store(old.locked.load(Ordering::Relaxed), Ordering::Relaxed);
            tree::attach(&copy, &Path::new(parent_copy.clone(), at.dentry));
        }
        copies.push(copy);
    }
    Ok(copies)
}

/// All mounts that see events of `at`.
pub(super) fn all_receivers(at: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let (group, _) = groups(at);
    let mut found: Vec<Arc<Mount>> = Vec::new();
    let mut queue = alloc::vec![group];
    let mut seen = alloc::vec![0];
    while let Some(group) = queue.pop() {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        for mount in members(group).into_iter().chain(slaves(group)) {
            queue.push(groups(&mount).0);
            if !Arc::ptr_eq(&mount, at) && !found.iter().any(|m| Arc::ptr_eq(m, &mount)) {
                found.push(mount);
            }
        }
    }
    found
}

/// The mirror of `mount` (attached at `dentry`) on `receiver`.
fn mirror(receiver: &Arc<Mount>, dentry: &Arc<Dentry>, mount: &Arc<Mount>) -> Option<Arc<Mount>> {
    let child = receiver.child(dentry)?;
    (Arc::ptr_eq(child.root(), mount.root()) && !Arc::ptr_eq(&child, mount)).then_some(child)
}

/// Adds the mirrors of mounts that go, as far as nothing else is mounted on them.
pub(super) fn add_umounts(gone: &mut Vec<Arc<Mount>>) {
    let listed = |list: &[Arc<Mount>], m: &Arc<Mount>| list.iter().any(|g| Arc::ptr_eq(g, m));
    let mut candidates = Vec::new();
    for mount in gone.iter() {
        let Some(at) = mount.mountpoint() else { continue };
        for receiver in all_receivers(&at.mnt) {
            if let Some(other) = mirror(&receiver, &at.dentry, mount)
                && !listed(gone, &other)
                && !listed(&candidates, &other)
            {
                candidates.push(other);
            }
        }
    }
    // Leaves first: a mirror goes when all that is mounted on it goes too.
    loop {
        let ready = candidates.iter().position(|m| m.children().iter().all(|c| listed(gone, c)));
        match ready {
            Some(index) => gone.push(candidates.remove(index)),
            None => return,
        }
    }
}

/// Whether a mirror of `mount` is in use, so that a plain umount must fail.
pub(super) fn mirrors_busy(mount: &Arc<Mount>, busy: impl Fn(&Arc<Mount>) -> bool) -> bool {
    let Some(at) = mount.mountpoint() else { return false };
    all_receivers(&at.mnt).iter().any(|receiver| {
        mirror(receiver, &at.dentry, mount).is_some_and(|m| m.children().is_empty() && busy(&m))
    })
}

/// The closest peer group above a slave that is visible from `root` (`propagate_from` of mountinfo);
/// only asked when it differs from the master.
pub(super) fn dominating_group(mount: &Mount, root: &Path) -> Option<u32> {
    let (_, mut master) = groups(mount);
    let own = root.mnt.namespace()?;
    for _ in 0..64 {
        if master == 0 {
            return None;
        }
        let all = members(master);
        if all.iter().any(|m| m.namespace().is_some_and(|n| Arc::ptr_eq(&n, &own))) {
            return Some(master);
        }
        master = all.first().map_or(0, |m| groups(m).1);
    }
    None
}
