//! `fcntl(F_NOTIFY)`: signals when a directory changes. What `inotify(7)` replaced, and still there.
//!
//! One [`Group`] for all: its mark on a directory stands for all the open files that asked about it.
//!
//! Lock: the table of watchers, a leaf; signals are sent with it released.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use sync::Lazy;

use crate::fasync::{Band, OwnerCell};
use crate::file::File;
use crate::inode::Inode;
use crate::lock::PosixOwner;
use crate::notify::mark::{self, Interest};
use crate::notify::{Event, Found, Group, Kind, Mark, MarkFlags, Object, Priority, mask};

/// `/proc/sys/fs/dir-notify-enable`.
pub static ENABLED: AtomicU32 = AtomicU32::new(1);

/// An open file of a directory, and of whom.
struct Watcher {
    file: usize,
    table: PosixOwner,
    owner: Arc<OwnerCell>,
    fd: i32,
    events: u32,
    /// `DN_MULTISHOT`.
    stays: bool,
}

/// The mark of a directory, and who asked.
struct Directory {
    mark: Arc<Mark>,
    watchers: Vec<Watcher>,
}

/// The one group.
struct Dnotify {
    /// By the id of the mark.
    directories: SpinLock<BTreeMap<u64, Directory>>,
}

static GROUP: Lazy<Arc<Dnotify>> =
    Lazy::new(|| Arc::new(Dnotify { directories: SpinLock::new(BTreeMap::new()) }));

fn group() -> Weak<dyn Group> {
    let group: Arc<dyn Group> = GROUP.clone();
    Arc::downgrade(&group)
}

/// `DN_*` as events.
fn events_of(wanted: u32) -> u32 {
    let pairs = [
        (raw::DN_ACCESS, mask::ACCESS),
        (raw::DN_MODIFY, mask::MODIFY),
        (raw::DN_CREATE, mask::CREATE | mask::MOVED_TO),
        (raw::DN_DELETE, mask::DELETE | mask::MOVED_FROM),
        (raw::DN_RENAME, mask::RENAME),
        (raw::DN_ATTRIB, mask::ATTRIB),
    ];
    pairs.iter().filter(|(bit, _)| wanted & bit != 0).fold(0, |all, (_, events)| all | events)
}

/// `F_NOTIFY` with `wanted` on descriptor `fd` of the table `table`. The caller has seen to an owner of the signals.
///
/// # Errors
/// `ENOTDIR`; `EINVAL`: switched off; `ENOMEM`.
pub fn notify(file: &File, fd: i32, table: PosixOwner, wanted: u32) -> Result<()> {
    if ENABLED.load(Ordering::Relaxed) == 0 {
        return Err(Errno::EINVAL);
    }
    if wanted & !raw::DN_MULTISHOT == 0 {
        closed(file, table);
        return Ok(());
    }
    let inode = file.inode();
    if !inode.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let id = core::ptr::from_ref(file) as usize;
    let new = Watcher {
        file: id,
        table,
        owner: file.owner_cell(),
        fd,
        events: events_of(wanted),
        stays: wanted & raw::DN_MULTISHOT != 0,
    };
    let mark = mark_of(inode)?;
    let replaced = {
        let mut directories = GROUP.directories.lock();
        let directory = directories
            .entry(mark.id())
            .or_insert_with(|| Directory { mark: mark.clone(), watchers: Vec::new() });
        match directory.watchers.iter_mut().find(|known| known.file == id && known.table == table) {
            Some(known) => {
                let merged =
                    Watcher { events: known.events | new.events, stays: known.stays || new.stays, ..new };
                Some(core::mem::replace(known, merged))
            }
            None => {
                directory.watchers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                directory.watchers.push(new);
                None
            }
        }
    };
    drop(replaced);
    GROUP.refresh(&mark);
    Ok(())
}

fn mark_of(inode: &Arc<Inode>) -> Result<Arc<Mark>> {
    let group = group();
    if let Some(mark) = inode.notify.find(&group) {
        return Ok(mark);
    }
    let nothing = Interest { mask: mask::ON_CHILD, ignore: 0, flags: MarkFlags::empty() };
    match mark::attach(&group, Priority::Normal, &Object::Inode(inode.clone()), nothing, 0) {
        Err(Errno::EEXIST) => inode.notify.find(&group).ok_or(Errno::ENOMEM),
        other => other,
    }
}

/// A descriptor of `file` in `table` is closed.
pub(crate) fn closed(file: &File, table: PosixOwner) {
    if !file.inode().is_dir() || file.inode().notify.mask() == 0 {
        return;
    }
    let Some(mark) = file.inode().notify.find(&group()) else { return };
    let id = core::ptr::from_ref(file) as usize;
    GROUP.remove(&mark, |watcher| watcher.file == id && watcher.table == table);
}

impl Dnotify {
    /// Takes watchers away.
    fn remove(&self, mark: &Arc<Mark>, which: impl Fn(&Watcher) -> bool) {
        let mut gone = Vec::new();
        {
            let mut directories = self.directories.lock();
            let Some(directory) = directories.get_mut(&mark.id()) else { return };
            let mut index = 0;
            while let Some(watcher) = directory.watchers.get(index) {
                if which(watcher) && gone.try_reserve(1).is_ok() {
                    gone.push(directory.watchers.swap_remove(index));
                } else {
                    index += 1;
                }
            }
        }
        drop(gone);
        self.refresh(mark);
    }

    /// Makes the mark want what its watchers want; without any it goes.
    fn refresh(&self, mark: &Arc<Mark>) {
        let mut gone = None;
        let wanted = {
            let mut directories = self.directories.lock();
            let Some(directory) = directories.get(&mark.id()) else { return };
            let wanted = directory.watchers.iter().fold(0, |all, watcher| all | watcher.events);
            if directory.watchers.is_empty() {
                gone = directories.remove(&mark.id());
            }
            wanted
        };
        match gone {
            Some(directory) => {
                mark::detach(&directory.mark);
            }
            None => mark::update(mark, |now| Interest { mask: wanted | mask::ON_CHILD, ..now }),
        }
    }
}

impl Group for Dnotify {
    fn event(&self, event: &Event<'_>, found: &Found<'_>) -> Result<()> {
        // DN_RENAME is a rename within the directory.
        if let Some((to, _)) = event.moved
            && !event.dir.is_some_and(|from| Arc::ptr_eq(from, to))
        {
            return Ok(());
        }
        let of_child = found.get(Kind::Parent);
        // What happens to the directory itself, and not in it, concerns nobody unless it is read or changed as one.
        let of_self = found.get(Kind::Inode).filter(|_| event.dir.is_some() || event.is_dir());
        for mark in [of_child, of_self].into_iter().flatten() {
            let mut told: Vec<(Arc<OwnerCell>, i32)> = Vec::new();
            let mut once = false;
            if let Some(directory) = self.directories.lock().get(&mark.id()) {
                for watcher in directory.watchers.iter().filter(|watcher| watcher.events & event.mask != 0) {
                    if told.try_reserve(1).is_ok() {
                        told.push((watcher.owner.clone(), watcher.fd));
                        once |= !watcher.stays;
                    }
                }
            }
            for (owner, fd) in told {
                owner.signal(fd, Band::Msg);
            }
            if once {
                self.remove(mark, |watcher| !watcher.stays && watcher.events & event.mask != 0);
            }
        }
        Ok(())
    }

    fn object_gone(&self, mark: &Arc<Mark>) {
        let gone = self.directories.lock().remove(&mark.id());
        drop(gone);
    }
}
