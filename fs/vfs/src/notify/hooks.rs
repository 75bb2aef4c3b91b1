//! Where things happen: what the rest of the crate calls.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Result;

use super::dispatch::{Data, Event, Kind, send};
use super::mark::{self, Watched};
use super::mask;
use crate::dentry::{Dentry, DentryFlags, Name};
use crate::file::{File, FileMode};
use crate::inode::Inode;
use crate::super_block::SuperBlock;

/// The bit of an event that happened to `inode`, if that is a directory.
fn dir_bit(inode: &Inode) -> u32 {
    if inode.is_dir() { mask::ISDIR } else { 0 }
}

/// An event of an open file.
#[inline]
pub fn on_file(file: &File, events: u32) {
    if mark::any() {
        // Nobody can refuse what has happened.
        let _ = file_event(file, events);
    }
}

/// The file was opened.
#[inline]
pub fn on_open(file: &File) {
    let exec = if file.mode().contains(FileMode::EXEC) { mask::OPEN_EXEC } else { 0 };
    on_file(file, mask::OPEN | exec);
}

/// The file was closed for good.
#[inline]
pub fn on_close(file: &File) {
    let written = file.mode().contains(FileMode::WRITE);
    on_file(file, if written { mask::CLOSE_WRITE } else { mask::CLOSE_NOWRITE });
}

/// May the file be opened?
///
/// # Errors
/// `EPERM`: a listener says no; `ERESTARTSYS`: killed before there was an answer.
#[inline]
pub fn may_open(file: &File) -> Result<()> {
    if !mark::any() {
        return Ok(());
    }
    if file.mode().contains(FileMode::EXEC) {
        file_event(file, mask::OPEN_EXEC_PERM)?;
    }
    file_event(file, mask::OPEN_PERM)
}

/// May the file be read?
///
/// # Errors
/// As [`may_open`].
#[inline]
pub fn may_read(file: &File) -> Result<()> {
    if mark::any() { file_event(file, mask::ACCESS_PERM) } else { Ok(()) }
}

#[cold]
fn file_event(file: &File, events: u32) -> Result<()> {
    if file.mode().intersects(FileMode::NONOTIFY | FileMode::PATH) {
        return Ok(());
    }
    with_parent(Data::Path(file.path()), events)
}

/// An event of what a dentry stands for.
#[inline]
pub fn on_dentry(dentry: &Arc<Dentry>, events: u32) {
    if mark::any() {
        let _ = with_parent(Data::Dentry(dentry), events);
    }
}

/// What marks want with directory and name.
fn wants_parent(watched: &Watched) -> u32 {
    let wanted = watched.mask();
    if wanted & mask::ON_CHILD != 0 { wanted & mask::WITH_PARENT } else { 0 }
}

/// An event that is shown to the object, and to its directory with the name.
#[cold]
fn with_parent(data: Data<'_>, events: u32) -> Result<()> {
    let (Some(dentry), Some(inode)) = (data.dentry(), data.inode()) else { return Ok(()) };
    let sb = dentry.sb();
    if sb.notify.beneath() == 0 {
        return Ok(());
    }
    let mut events = events | dir_bit(inode);
    let mount = data.path().map(|path| &path.mnt.notify);
    let own = inode.notify.mask() | sb.notify.mask() | mount.map_or(0, Watched::mask);
    let watching = {
        let guard = sched::rcu::read_lock();
        let dir = dentry.name(&guard).and_then(Name::parent).and_then(|parent| parent.inode());
        let wanted = dir.map_or(0, |dir| dir.notify.mask());
        if wanted & mask::ON_CHILD != 0 { wanted & mask::ON_CHILDREN & events } else { 0 }
    };
    if watching == 0 && own & events == 0 {
        return Ok(());
    }
    let needed = [Some(&inode.notify), Some(&sb.notify), mount].into_iter().flatten().map(wants_parent);
    let needed = if events & mask::ISDIR != 0 { 0 } else { needed.fold(0, |all, one| all | one) & events };
    let name = if watching | needed != 0 { dentry.name_arc() } else { None };
    let dir = name.as_ref().and_then(|name| name.parent());
    if watching != 0 && dir.is_some() {
        events |= mask::ON_CHILD;
    }
    let event = Event {
        mask: events,
        data,
        dir,
        name: name.as_ref().filter(|_| dir.is_some()).map(|name| name.bytes()),
        cookie: 0,
        moved: None,
    };
    let parent = dir.filter(|_| events & mask::ON_CHILD != 0).and_then(|dir| dir.inode());
    let objects = [
        (Kind::Inode, Some(&inode.notify)),
        (Kind::Parent, parent.map(|parent| &parent.notify)),
        (Kind::Mount, mount),
        (Kind::Super, Some(&sb.notify)),
    ];
    send(&event, &objects)
}

/// The name `name` of `dir` appeared or went; `child` is what it stands for, `alias` a dentry of that.
#[inline]
pub fn on_entry(dir: &Arc<Dentry>, child: Data<'_>, events: u32, name: &[u8]) {
    if mark::any() {
        entry(dir, child, events, name, 0);
    }
}

#[cold]
fn entry(dir: &Arc<Dentry>, child: Data<'_>, events: u32, name: &[u8], cookie: u32) {
    let sb = dir.sb();
    let (Some(inode), Some(child_inode)) = (dir.inode(), child.inode()) else { return };
    if sb.notify.beneath() == 0 {
        return;
    }
    let events = events | dir_bit(child_inode);
    let event = Event { mask: events, data: child, dir: Some(dir), name: Some(name), cookie, moved: None };
    let _ = send(&event, &[(Kind::Inode, Some(&inode.notify)), (Kind::Super, Some(&sb.notify))]);
}

/// The inode itself changed, whatever its names; `alias` is one of them.
#[inline]
pub fn on_inode(inode: &Arc<Inode>, alias: Option<&Arc<Dentry>>, events: u32) {
    if mark::any() {
        of_inode(inode, alias, events);
    }
}

#[cold]
fn of_inode(inode: &Arc<Inode>, alias: Option<&Arc<Dentry>>, events: u32) {
    let sb = inode.sb();
    if sb.notify.beneath() == 0 {
        return;
    }
    let data = alias.map_or(Data::Inode(inode), Data::Dentry);
    let event = Event { mask: events | dir_bit(inode), data, dir: None, name: None, cookie: 0, moved: None };
    let _ = send(&event, &[(Kind::Inode, Some(&inode.notify)), (Kind::Super, Some(&sb.notify))]);
}

static COOKIE: AtomicU32 = AtomicU32::new(0);

/// A rename happened: `source` was `old_name` in `old_dir` and has its new place already. `replaced` lost its name to it.
#[inline]
pub fn on_move(
    old_dir: &Arc<Dentry>,
    old_name: &[u8],
    source: &Arc<Dentry>,
    new_dir: &Arc<Dentry>,
    new_name: &[u8],
    replaced: Option<&Arc<Dentry>>,
) {
    if mark::any() {
        moved(old_dir, old_name, source, new_dir, new_name, replaced);
    }
}

#[cold]
fn moved(
    old_dir: &Arc<Dentry>,
    old_name: &[u8],
    source: &Arc<Dentry>,
    new_dir: &Arc<Dentry>,
    new_name: &[u8],
    replaced: Option<&Arc<Dentry>>,
) {
    let sb = old_dir.sb();
    let (Some(inode), Some(from), Some(to)) = (source.inode(), old_dir.inode(), new_dir.inode()) else {
        return;
    };
    if sb.notify.beneath() == 0 {
        return;
    }
    let both = Event {
        mask: mask::RENAME | dir_bit(inode),
        data: Data::Dentry(source),
        dir: Some(old_dir),
        name: Some(old_name),
        cookie: 0,
        moved: Some((new_dir, new_name)),
    };
    let objects = [
        (Kind::Inode, Some(&from.notify)),
        (Kind::NewDirectory, Some(&to.notify)),
        (Kind::Super, Some(&sb.notify)),
    ];
    let _ = send(&both, &objects);
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    entry(old_dir, Data::Dentry(source), mask::MOVED_FROM, old_name, cookie);
    entry(new_dir, Data::Dentry(source), mask::MOVED_TO, new_name, cookie);
    if let Some(target) = replaced
        && let Some(inode) = target.inode()
    {
        of_inode(inode, None, mask::ATTRIB);
    }
    of_inode(inode, Some(source), mask::MOVE_SELF);
}

/// The inode has neither names nor users left: says so, and its marks are over.
#[inline]
pub fn inode_removed(inode: &Arc<Inode>) {
    if mark::any() {
        of_inode(inode, None, mask::DELETE_SELF);
        end_marks(inode);
    }
}

fn end_marks(inode: &Arc<Inode>) {
    let marks = inode.notify.marks();
    for mark in marks.iter().flat_map(|marks| marks.iter()) {
        if mark::detach(mark)
            && let Some(group) = mark.group()
        {
            group.object_gone(mark);
        }
    }
}

/// The file system was unmounted for the last time: what was watched on it is not any more.
pub fn unmounted(sb: &Arc<SuperBlock>) {
    if sb.notify.beneath() == 0 {
        return;
    }
    let mut from = 0;
    while let Some(mark) = mark::inode_mark_of(sb, from) {
        from = mark.id() + 1;
        let Some(mark::Object::Inode(inode)) = mark.object() else { continue };
        of_inode(&inode, None, mask::UNMOUNT);
        end_marks(&inode);
    }
    let marks = mark::super_marks_of(sb);
    for mark in marks.iter().flat_map(|marks| marks.iter()) {
        if mark::detach(mark)
            && let Some(group) = mark.group()
        {
            group.object_gone(mark);
        }
    }
}

/// Whether what an event came through has lost its name (`IN_EXCL_UNLINK`).
pub(crate) fn is_nameless(data: Data<'_>) -> bool {
    data.path().is_some_and(|path| {
        path.dentry.is_unlinked() && !path.dentry.flags().contains(DentryFlags::DISCONNECTED)
    })
}
