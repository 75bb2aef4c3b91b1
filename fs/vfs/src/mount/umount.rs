//! `umount(2)`: plainly, lazily, after a second look (`MNT_EXPIRE`).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result, raw};
use sync::Once;

use super::ops::{check_mnt, may_mount};
use super::tree::{self, Going};
use super::{Mount, freeze_writers, propagate};
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::LookupContext;

/// References of an attached mount that nobody uses: its parent's vector and the caller's.
const IDLE_REFERENCES: usize = 2;

static UNMOUNTED: Once<fn(&Arc<Mount>)> = Once::new();

/// Registers who hears that a mount is gone from its place, of those that hold it passively. Once.
pub fn on_unmount(hook: fn(&Arc<Mount>)) {
    UNMOUNTED.call_once(|| hook);
}

fn is_busy(mount: &Arc<Mount>) -> bool {
    Arc::strong_count(mount) > IDLE_REFERENCES + mount.passive.load(Ordering::Relaxed)
}

/// Lets go the references of readers that are just leaving and of old vectors, which are not users. Not under
/// [`NAMESPACE`]: what runs after a grace period may be the end of a namespace, which takes it.
fn settle(mount: &Arc<Mount>) {
    if is_busy(mount) {
        sched::rcu::barrier();
    }
}

/// `umount2(2)`.
pub fn umount(ctx: &LookupContext<'_>, target: &[u8], umount_flags: u32) -> Result<()> {
    const UMOUNT_NOFOLLOW: u32 = 8;
    const KNOWN: u32 = raw::MNT_FORCE | raw::MNT_DETACH | raw::MNT_EXPIRE | UMOUNT_NOFOLLOW;
    if umount_flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::NO_AUTOMOUNT | LookupFlags::NO_USE;
    lookup.set(LookupFlags::FOLLOW, umount_flags & UMOUNT_NOFOLLOW == 0);
    let path = path_lookup(ctx, At::Cwd, target, lookup)?;
    if !may_mount(ctx) {
        return Err(Errno::EPERM);
    }
    if !path.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    check_mnt(ctx, &path.mnt)?;
    if path.mnt.locked.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    if umount_flags & raw::MNT_FORCE != 0 && !ctx.cred.capable(Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    crate::security::check_mounts(ctx.cred)?;
    let mount = path.mnt.clone();
    drop(path);
    do_umount(ctx, &mount, umount_flags)
}

fn do_umount(ctx: &LookupContext<'_>, mount: &Arc<Mount>, umount_flags: u32) -> Result<()> {
    let lazy = umount_flags & raw::MNT_DETACH != 0;
    let is_own_root = Arc::ptr_eq(mount, &ctx.fs.root()?.mnt);
    if umount_flags & raw::MNT_EXPIRE != 0 {
        if is_own_root || umount_flags & (raw::MNT_FORCE | raw::MNT_DETACH) != 0 {
            return Err(Errno::EINVAL);
        }
        settle(mount);
        if is_busy(mount) {
            return Err(Errno::EBUSY);
        }
        if !mount.expiry_mark.swap(true, Ordering::Relaxed) {
            return Err(Errno::EAGAIN);
        }
    }
    if umount_flags & raw::MNT_FORCE != 0 {
        mount.sb().ops().umount_begin(mount.sb());
    }
    if is_own_root && !lazy {
        return root_read_only(ctx, mount);
    }
    if !lazy {
        settle(mount);
    }
    let gone = {
        let _shape = super::change();
        check_mnt(ctx, mount)?;
        let in_use = || {
            !mount.children().is_empty()
                || is_busy(mount)
                || propagate::mirrors_busy(mount, |m| Arc::strong_count(m) > IDLE_REFERENCES + 1)
        };
        if mount.locked.load(Ordering::Relaxed) || ctx.ns.is_root(mount) {
            return Err(Errno::EINVAL);
        }
        if !lazy && in_use() {
            return Err(Errno::EBUSY);
        }
        tree::umount_tree(mount, Going::Mirrored)
    };
    tree::finish(gone);
    if mount.passive.load(Ordering::Relaxed) != 0
        && let Some(hook) = UNMOUNTED.get()
    {
        hook(mount);
    }
    Ok(())
}

/// The file system of one's own root directory cannot go; it becomes read-only instead.
fn root_read_only(ctx: &LookupContext<'_>, mount: &Arc<Mount>) -> Result<()> {
    let sb = mount.sb();
    if !ctx.cred.ns_capable(sb.user_ns(), Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let _exclusive = sb.umount.write();
    if sb.is_read_only() { Ok(()) } else { freeze_writers(sb) }
}
