//! `statmount(2)`, `listmount(2)`: mounts by their unique ids, which are never used again.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::cap::Cap;
use abi::fs::Statmount;
use abi::{Errno, Result, raw};
use zerocopy::FromZeros;

use super::object::by_unique_id;
use super::propagate;
use super::tree::is_reachable;
use super::{Mount, MountNamespace, NAMESPACE, attr};
use crate::path::{LookupContext, Path, render, within_super};
use crate::super_block::{SB_DIRSYNC, SB_LAZYTIME, SB_RDONLY, SB_SYNCHRONOUS};
use mm::OutOfMemory;
use mm::fallible::TryVec;

/// Ids up to this one are of the kind that is used again.
pub const UNIQUE_ID_OFFSET: u64 = 1 << 31;
/// What `listmount(2)` takes for the caller's root directory.
pub const LSMT_ROOT: u64 = u64::MAX;

/// The namespace that a request names: the caller's own, or one that it administers.
///
/// # Errors
/// `ENOENT` if there is none; `refusal` if it is none of the caller's business.
pub fn requested(ctx: &LookupContext<'_>, id: u64, refusal: Errno) -> Result<Arc<MountNamespace>> {
    if id == 0 {
        return Ok(ctx.ns.clone());
    }
    let ns = MountNamespace::by_id(id).ok_or(Errno::ENOENT)?;
    let own = Arc::ptr_eq(&ns, ctx.ns);
    if own || ctx.cred.ns_capable(ns.user_ns(), Cap::SysAdmin) { Ok(ns) } else { Err(refusal) }
}

/// Where names begin: the caller's root directory. Of another namespace it is the oldest mount on its first one (the initramfs,
/// which an ordinary system has covered).
fn root_of(ctx: &LookupContext<'_>, ns: &Arc<MountNamespace>) -> Result<Path> {
    if Arc::ptr_eq(ns, ctx.ns) {
        return ctx.fs.root();
    }
    let first = ns.root()?.children().into_iter().next();
    first.map(|mount| mount.root_path()).ok_or(Errno::ENOENT)
}

fn find(ns: &Arc<MountNamespace>, id: u64) -> Result<Arc<Mount>> {
    by_unique_id(id).filter(|mount| mount.is_in(ns)).ok_or(Errno::ENOENT)
}

/// `EPERM` for a place that `root` does not contain, unless the caller administers the namespace.
fn may_see(ctx: &LookupContext<'_>, ns: &MountNamespace, place: &Path, root: &Path) -> Result<()> {
    if is_reachable(place, root) || ctx.cred.ns_capable(ns.user_ns(), Cap::SysAdmin) {
        return Ok(());
    }
    Err(Errno::EPERM)
}

/// Strings of a `struct statmount`.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    /// Adds `text` with its NUL and returns its offset. Offset zero is an empty string.
    fn add(&mut self, text: &[u8]) -> Result<u32> {
        self.0.try_reserve(text.len() + 2).map_err(OutOfMemory::from)?;
        if self.0.is_empty() {
            self.0.push_reserved(0);
        }
        let at = self.0.len() as u32;
        self.0.try_extend_from_slice(text)?;
        self.0.push_reserved(0);
        Ok(at)
    }
}

/// The text that `f` writes.
fn written(f: impl FnOnce(&mut dyn Write) -> core::fmt::Result) -> Result<String> {
    let mut out = String::new();
    f(&mut out).map_err(|_| Errno::ENOMEM)?;
    Ok(out)
}

/// Questions whose answers are strings.
pub const STRINGS: u64 =
    (raw::STATMOUNT_FS_TYPE | raw::STATMOUNT_MNT_ROOT | raw::STATMOUNT_MNT_POINT | raw::STATMOUNT_MNT_OPTS)
        as u64;

/// `statmount(2)`: what `mask` (`STATMOUNT_*`) asks of the mount `id`, and the strings that follow.
///
/// # Errors
/// `ENOENT` if the namespace has no such mount; `EPERM` if it is not below the caller's root directory.
pub fn statmount(
    ctx: &LookupContext<'_>,
    ns: &Arc<MountNamespace>,
    id: u64,
    mask: u64,
) -> Result<(Statmount, Vec<u8>)> {
    let _shape = NAMESPACE.read();
    let mount = find(ns, id)?;
    let root = root_of(ctx, ns)?;
    may_see(ctx, ns, &mount.root_path(), &root)?;
    let wants = |flag: u32| mask & u64::from(flag) != 0;
    let mut st = Statmount::new_zeroed();
    if wants(raw::STATMOUNT_SB_BASIC) {
        super_basic(&mut st, &mount);
    }
    if wants(raw::STATMOUNT_MNT_BASIC) {
        mount_basic(&mut st, &mount);
    }
    if wants(raw::STATMOUNT_PROPAGATE_FROM) {
        st.mask |= u64::from(raw::STATMOUNT_PROPAGATE_FROM);
        let from = propagate::dominating_group(&mount, &ctx.fs.root()?);
        st.propagate_from = u64::from(from.unwrap_or(0));
    }
    let strings = strings(&mut st, &mount, &root, mask)?;
    if wants(raw::STATMOUNT_MNT_NS_ID) {
        st.mask |= u64::from(raw::STATMOUNT_MNT_NS_ID);
        st.mnt_ns_id = ns.id();
    }
    Ok((st, strings))
}

fn super_basic(st: &mut Statmount, mount: &Mount) {
    let sb = mount.sb();
    st.mask |= u64::from(raw::STATMOUNT_SB_BASIC);
    (st.sb_dev_major, st.sb_dev_minor) = (sb.dev().major, sb.dev().minor);
    st.sb_magic = sb.magic();
    st.sb_flags = sb.flags() & (SB_RDONLY | SB_SYNCHRONOUS | SB_DIRSYNC | SB_LAZYTIME);
}

fn mount_basic(st: &mut Statmount, mount: &Arc<Mount>) {
    let parent = mount.mountpoint().map_or_else(|| mount.clone(), |at| at.mnt);
    st.mask |= u64::from(raw::STATMOUNT_MNT_BASIC);
    (st.mnt_id, st.mnt_id_old) = (mount.unique_id(), mount.id());
    (st.mnt_parent_id, st.mnt_parent_id_old) = (parent.unique_id(), parent.id());
    st.mnt_attr = attr::to_attributes(mount);
    let (group, master) = propagate::groups(mount);
    let kinds = [
        (group != 0, raw::MS_SHARED),
        (master != 0, raw::MS_SLAVE),
        (mount.propagation.lock().unbindable, raw::MS_UNBINDABLE),
    ];
    let kind = kinds.iter().filter(|(is, _)| *is).fold(0, |set, (_, bit)| set | bit);
    st.mnt_propagation = u64::from(if kind == 0 { raw::MS_PRIVATE } else { kind });
    (st.mnt_peer_group, st.mnt_master) = (u64::from(group), u64::from(master));
}

fn strings(st: &mut Statmount, mount: &Arc<Mount>, root: &Path, mask: u64) -> Result<Vec<u8>> {
    let mut strings = Strings::default();
    let wants = |flag: u32| mask & u64::from(flag) != 0;
    if wants(raw::STATMOUNT_FS_TYPE) {
        st.fs_type = strings.add(mount.sb().fs_type().name().as_bytes())?;
    }
    if wants(raw::STATMOUNT_MNT_ROOT) {
        st.mnt_root = strings.add(&within_super(mount.root())?)?;
    }
    if wants(raw::STATMOUNT_MNT_POINT) {
        let place = mount.root_path();
        let name = if is_reachable(&place, root) { render(&place, Some(root))? } else { Vec::new() };
        st.mnt_point = strings.add(&name)?;
    }
    if wants(raw::STATMOUNT_MNT_OPTS) {
        let sb = mount.sb();
        let text = written(|out| sb.ops().show_options(sb, out))?;
        st.mnt_opts = strings.add(text.strip_prefix(',').unwrap_or(&text).as_bytes())?;
    }
    st.mask |= mask & STRINGS;
    Ok(strings.0)
}

/// The order of a list of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Forward,
    /// The youngest first (`LISTMOUNT_REVERSE`).
    Reverse,
}

/// `listmount(2)`: up to `max` ids of mounts below `parent` (an id, or [`LSMT_ROOT`]), after `last` (0 for the first).
///
/// # Errors
/// As [`statmount`].
pub fn listmount(
    ctx: &LookupContext<'_>,
    ns: &Arc<MountNamespace>,
    parent: u64,
    last: u64,
    max: usize,
    order: Order,
) -> Result<Vec<u64>> {
    let mut all = ns.mounts();
    let _shape = NAMESPACE.read();
    let root = root_of(ctx, ns)?;
    let top = match parent {
        LSMT_ROOT => root.clone(),
        id => find(ns, id)?.root_path(),
    };
    may_see(ctx, ns, &top, &root)?;
    all.sort_unstable_by_key(|mount| mount.unique_id());
    if order == Order::Reverse {
        all.reverse();
    }
    let later = |id: u64| match order {
        _ if last == 0 => true,
        Order::Forward => id > last,
        Order::Reverse => id < last,
    };
    let mut ids = Vec::new();
    for mount in &all {
        let id = mount.unique_id();
        if ids.len() == max {
            break;
        }
        if !later(id) || id == parent || !is_reachable(&mount.root_path(), &top) {
            continue;
        }
        ids.try_push(id)?;
    }
    Ok(ids)
}
