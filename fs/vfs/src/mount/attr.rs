//! Flags of mounts: `mount_setattr(2)`, and the flags of `mount(2)` and `fsmount(2)` in our terms.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;

use super::object::{all_of, flags};
use super::propagate::{self, Kind};
use super::{Mount, tree};
use crate::path::{LookupContext, Path};
use crate::super_block::{SB_RDONLY, SuperBlock};

/// One at a time makes writers wait: two could otherwise wait for each other's mounts.
static HOLDING: SpinLock<()> = SpinLock::new(());

/// What `MOUNT_ATTR_*` bits mean, those of access times left out.
const PLAIN: [(u32, u32); 6] = [
    (raw::MOUNT_ATTR_RDONLY, flags::RDONLY),
    (raw::MOUNT_ATTR_NOSUID, flags::NOSUID),
    (raw::MOUNT_ATTR_NODEV, flags::NODEV),
    (raw::MOUNT_ATTR_NOEXEC, flags::NOEXEC),
    (raw::MOUNT_ATTR_NODIRATIME, flags::NODIRATIME),
    (raw::MOUNT_ATTR_NOSYMFOLLOW, flags::NOSYMFOLLOW),
];

const ATTR_ATIME: u64 = raw::MOUNT_ATTR__ATIME as u64;
/// What `fsmount(2)` takes.
const ATTR_FLAGS: u64 = {
    let mut all = ATTR_ATIME;
    let mut index = 0;
    while index < PLAIN.len() {
        all |= PLAIN[index].0 as u64;
        index += 1;
    }
    all
};

fn plain(attr: u64) -> u32 {
    PLAIN.iter().filter(|(bit, _)| attr & u64::from(*bit) != 0).fold(0, |set, (_, flag)| set | flag)
}

/// The flag for one of the three ways to keep access times.
fn atime(attr: u64) -> Result<u32> {
    match (attr & ATTR_ATIME) as u32 {
        raw::MOUNT_ATTR_RELATIME => Ok(flags::RELATIME),
        raw::MOUNT_ATTR_NOATIME => Ok(flags::NOATIME),
        raw::MOUNT_ATTR_STRICTATIME => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// Flags of a new mount from the attributes of `fsmount(2)`; `EINVAL` for unknown ones.
pub fn from_attributes(attr: u64) -> Result<u32> {
    if attr & !ATTR_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(plain(attr) | atime(attr)?)
}

/// Flags of a mount as `statmount(2)` shows them.
pub fn to_attributes(mount: &Mount) -> u64 {
    let set = mount.flags();
    let mut attr: u64 =
        PLAIN.iter().filter(|(_, flag)| set & flag != 0).map(|(bit, _)| u64::from(*bit)).sum();
    if set & flags::NOATIME != 0 {
        attr |= u64::from(raw::MOUNT_ATTR_NOATIME);
    } else if set & flags::RELATIME == 0 {
        attr |= u64::from(raw::MOUNT_ATTR_STRICTATIME);
    }
    attr
}

/// Flags of a new mount from those of `mount(2)`.
pub(super) fn from_ms(ms: u32) -> u32 {
    let mut set = ms & (flags::ALL & !flags::RELATIME);
    if ms & raw::MS_NOATIME == 0 {
        set |= flags::RELATIME;
    }
    if ms & raw::MS_STRICTATIME != 0 {
        set &= !(flags::RELATIME | flags::NOATIME);
    }
    set
}

/// Flags of a remount: one that says nothing about access times keeps them.
pub(super) fn from_remount(mount: &Mount, ms: u32) -> u32 {
    const SAID: u32 = raw::MS_NOATIME | raw::MS_NODIRATIME | raw::MS_RELATIME | raw::MS_STRICTATIME;
    match ms & SAID {
        0 => from_ms(ms) & !flags::ATIME | mount.flags() & flags::ATIME,
        _ => from_ms(ms),
    }
}

/// Whether `wanted` leaves alone what came locked from a more privileged namespace.
fn respects_locks(mount: &Mount, wanted: u32) -> bool {
    let locked = mount.locked_flags.load(Ordering::Relaxed);
    let now = mount.flags();
    if locked & flags::ATIME != 0 && (now ^ wanted) & flags::ATIME != 0 {
        return false;
    }
    now & locked & !flags::ATIME & !wanted == 0
}

/// `EPERM` unless the flags may become `wanted`.
pub(super) fn check_locked(mount: &Mount, wanted: u32) -> Result<()> {
    if respects_locks(mount, wanted) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The tree at `top` belongs to a less privileged namespace now: what it hides and forbids stays so.
pub(super) fn lock_tree(top: &Arc<Mount>) {
    const KEPT: u32 = flags::RDONLY | flags::NODEV | flags::NOSUID | flags::NOEXEC;
    for mount in tree::subtree(top) {
        mount.locked_flags.store(mount.flags() & KEPT | flags::ATIME, Ordering::Relaxed);
        if !Arc::ptr_eq(&mount, top) {
            mount.locked.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `f` while nobody begins to write through any of `mounts`; `EBUSY` if somebody does already.
fn without_writers<R>(mounts: &[Arc<Mount>], f: impl FnOnce() -> R) -> Result<R> {
    let _one = HOLDING.lock();
    let held = mounts.iter().take_while(|mount| mount.hold_writers()).count();
    let done = if held == mounts.len() { Ok(f()) } else { Err(Errno::EBUSY) };
    mounts.iter().take(held).for_each(|mount| mount.release_writers());
    done
}

/// The file system becomes read-only, unless somebody writes to it through one of its mounts (`EBUSY`).
pub(crate) fn freeze_writers(sb: &Arc<SuperBlock>) -> Result<()> {
    without_writers(&all_of(sb), || sb.set_flags(sb.flags() | SB_RDONLY))
}

/// New flags for one mount; going read-only needs that nobody writes.
pub(super) fn set_mount_flags(mount: &Arc<Mount>, wanted: u32) -> Result<()> {
    check_locked(mount, wanted)?;
    if wanted & !mount.flags() & flags::RDONLY != 0 {
        return without_writers(core::slice::from_ref(mount), || mount.set_flags(wanted));
    }
    mount.set_flags(wanted);
    Ok(())
}

/// A change that `mount_setattr(2)` asks for, checked.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    set: u32,
    clear: u32,
    propagation: Option<Kind>,
}

impl Change {
    /// From the fields of `struct mount_attr`; `EINVAL` for what makes no sense.
    pub fn new(set: u64, clear: u64, propagation: u64) -> Result<Self> {
        let propagation = match u32::try_from(propagation).map_err(|_| Errno::EINVAL)? {
            0 => None,
            ms => Some(Kind::from_ms(ms).ok_or(Errno::EINVAL)?),
        };
        if (set | clear) & !ATTR_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        let mut change = Self { set: plain(set), clear: plain(clear), propagation };
        // The three ways to keep access times exclude each other: one is chosen by clearing all of them.
        match (clear & ATTR_ATIME, set & ATTR_ATIME) {
            (ATTR_ATIME, _) => {
                change.clear |= flags::RELATIME | flags::NOATIME;
                change.set |= atime(set)?;
            }
            (0, 0) => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(change)
    }

    fn apply_to(&self, now: u32) -> u32 {
        now & !self.clear | self.set
    }
}

/// Whether only the one mount changes, or all below it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The one mount.
    One,
    /// The tree (`AT_RECURSIVE`).
    Tree,
}

/// `mount_setattr(2)`: all of the mounts change, or none.
pub fn setattr(ctx: &LookupContext<'_>, at: &Path, change: &Change, depth: Depth) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _shape = super::change();
    let ns = at.mnt.namespace().ok_or(Errno::EINVAL)?;
    // A tree that only a descriptor holds is changed at its root; everything else must be ours.
    let loose = ns.is_anonymous() && at.mnt.mountpoint().is_none();
    if !loose && !Arc::ptr_eq(&ns, ctx.ns) {
        return Err(Errno::EINVAL);
    }
    let mounts = match depth {
        Depth::One => alloc::vec![at.mnt.clone()],
        Depth::Tree => tree::subtree(&at.mnt),
    };
    mounts.iter().try_for_each(|mount| check_locked(mount, change.apply_to(mount.flags())))?;
    let become_read_only: Vec<Arc<Mount>> =
        mounts.iter().filter(|m| change.set & !m.flags() & flags::RDONLY != 0).cloned().collect();
    // What can fail comes before what cannot.
    let fresh = match change.propagation {
        Some(Kind::Shared) => propagate::new_groups(&mounts)?,
        _ => Vec::new(),
    };
    let apply = || mounts.iter().for_each(|mount| mount.set_flags(change.apply_to(mount.flags())));
    let applied = match become_read_only.is_empty() {
        true => {
            apply();
            Ok(())
        }
        false => without_writers(&become_read_only, apply),
    };
    if let Err(error) = applied {
        propagate::free_groups(fresh);
        return Err(error);
    }
    propagate::share(&mounts, fresh);
    if let Some(kind) = change.propagation {
        mounts.iter().try_for_each(|mount| propagate::change_kind(mount, kind))?;
    }
    ns.changed();
    Ok(())
}
