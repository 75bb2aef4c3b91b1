//! What the file layer asks: the way from a place up to the root, and moves between directories.

use super::Domain;
use super::layers::{Denied, Given, Moved, stays_restricted};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;
use core::ops::ControlFlow;
use vfs::dentry::Dentry;
use vfs::path::Path;
use vfs::security::{self, Move, MoveKind, Reach, Rights, is_internal, is_internal_mount};

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// What was looked for is found.
    Decided,
    /// At the root of all.
    Root,
    /// At a place that only the kernel's own mounts have: nothing there is restricted.
    Internal,
}

impl Domain {
    fn given(&self, dentry: &Dentry) -> Option<&Given> {
        self.rules().path(dentry.inode()?)
    }

    /// Shows `visit` the rule of each place from `start` upwards, across mounts. A place that is mounted over does not
    /// count; the root of the mount does.
    fn walk(&self, start: &Path, mut visit: impl FnMut(Option<&Given>) -> ControlFlow<()>) -> End {
        let mut at = start.clone();
        loop {
            if visit(self.given(&at.dentry)).is_break() {
                return End::Decided;
            }
            while Arc::ptr_eq(at.mnt.root(), &at.dentry) {
                match at.mnt.mountpoint() {
                    Some(below) => at = below,
                    None => return End::Root,
                }
            }
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None if is_internal_mount(&at) => return End::Internal,
                None => return End::Root,
            }
        }
    }

    /// What is denied at `dir`, looking up to the root of the mount only. `None`: nothing.
    fn denied_within(&self, root: &Arc<Dentry>, dir: &Arc<Dentry>) -> (Denied, Complete) {
        let mut denied = Denied::new(self.files(), Rights::all());
        if is_internal(dir) {
            return (denied, Complete::Yes);
        }
        let mut at = dir.clone();
        loop {
            if denied.give(self.given(&at), Rights::all()) {
                return (denied, Complete::Yes);
            }
            if Arc::ptr_eq(&at, root) {
                return (denied, Complete::No);
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return (denied, Complete::No),
            }
        }
    }

    /// The object itself, with what its own rule leaves denied.
    fn moved(&self, dentry: &Dentry) -> Moved {
        let mut denied = Denied::new(self.files(), Rights::all());
        denied.give(self.given(dentry), Rights::all());
        Moved { denied, is_dir: dentry.inode().is_some_and(|inode| inode.is_dir()) }
    }

    fn move_within(&self, to: &Path, rights: Rights) -> Result<()> {
        if security::Domain::granted(self, to, rights) == rights { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn move_between(&self, m: &Move<'_>, target: Option<&Arc<Dentry>>, sides: [Side; 2]) -> Result<()> {
        let root = m.to.mnt.root();
        let old_parent = if Arc::ptr_eq(m.source, root) { Some(m.source.clone()) } else { m.source.parent() };
        let Some(old_parent) = old_parent else { return Err(Errno::EXDEV) };
        let mut sides = sides;
        let mut open = true;
        for (side, dir) in sides.iter_mut().zip([&old_parent, &m.to.dentry]) {
            let (denied, complete) = self.denied_within(root, dir);
            side.denied = denied;
            open &= complete == Complete::Yes;
        }
        if open {
            return Ok(());
        }
        let moved = self.moved(m.source);
        let back = target.map(|target| self.moved(target));
        if self.allows_both(&Path::new(m.to.mnt.clone(), root.clone()), &mut sides, &moved, back.as_ref()) {
            return Ok(());
        }
        // Without the right to move at all the caller may still copy.
        let refused = sides.iter().any(|side| side.denied.any(side.rights - Rights::REFER));
        Err(if refused { Errno::EACCES } else { Errno::EXDEV })
    }

    /// Goes on from the root of the mount until both sides are allowed what they need and nobody gains.
    fn allows_both(&self, from: &Path, sides: &mut [Side; 2], moved: &Moved, back: Option<&Moved>) -> bool {
        let mut gains = true;
        let end = self.walk(from, |given| {
            let [old, new] = &mut *sides;
            if gains
                && stays_restricted(moved, &old.denied, &new.denied)
                && back.is_none_or(|back| stays_restricted(back, &new.denied, &old.denied))
            {
                gains = false;
                old.allowed = old.denied.narrow(old.rights);
                new.allowed = new.denied.narrow(new.rights);
                if old.allowed && new.allowed {
                    return ControlFlow::Break(());
                }
            }
            for side in [old, new] {
                let rights = if gains { Rights::all() } else { side.rights };
                side.allowed = side.allowed || side.denied.give(given, rights);
            }
            if sides.iter().all(|side| side.allowed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        end != End::Root
    }
}

/// Whether a walk found everything given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Complete {
    Yes,
    No,
}

/// One of the two directories of a move.
#[derive(Clone, Copy)]
struct Side {
    /// What the move takes there.
    rights: Rights,
    /// What is denied there.
    denied: Denied,
    allowed: bool,
}

impl Side {
    fn new(rights: Rights) -> Self {
        let nothing = Denied::new(core::iter::empty(), Rights::empty());
        Self { rights, denied: nothing, allowed: false }
    }
}

impl security::Domain for Domain {
    fn granted(&self, path: &Path, rights: Rights) -> Rights {
        if !self.has_files() || is_internal(&path.dentry) {
            return rights;
        }
        let mut denied = Denied::new(self.files(), rights);
        if !denied.any(rights) {
            return rights;
        }
        let end = self.walk(path, |given| match denied.give(given, rights) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        if end == End::Internal { rights } else { rights - denied.rights() }
    }

    fn may_move(&self, m: &Move<'_>) -> Result<()> {
        if !self.has_files() {
            return Ok(());
        }
        let inode = m.source.inode().ok_or(Errno::ENOENT)?;
        let mut at_old = Rights::empty();
        let mut at_new = Rights::to_make(inode.file_type());
        let target = m.target.and_then(|target| target.inode());
        if m.kind == MoveKind::Exchange {
            at_old |= Rights::to_make(target.ok_or(Errno::ENOENT)?.file_type());
        }
        if m.kind != MoveKind::Link {
            at_old |= Rights::to_remove(inode);
            at_new |= target.map_or(Rights::empty(), |target| Rights::to_remove(target));
        }
        if m.source.parent().is_some_and(|parent| Arc::ptr_eq(&parent, &m.to.dentry)) {
            return self.move_within(m.to, at_old | at_new);
        }
        let sides = [Side::new(at_old | Rights::REFER), Side::new(at_new | Rights::REFER)];
        let back = m.target.filter(|_| m.kind == MoveKind::Exchange);
        self.move_between(m, back, sides)
    }

    fn restricts_files(&self) -> bool {
        self.has_files()
    }

    fn may_reach(&self, other: Option<&dyn security::Domain>, how: Reach) -> bool {
        let other = other.and_then(|other| {
            let any: &dyn Any = other;
            any.downcast_ref::<Self>()
        });
        self.reaches(other, how)
    }
}
