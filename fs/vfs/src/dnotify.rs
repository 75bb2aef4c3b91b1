//! `fcntl(F_NOTIFY)`: signals when a directory changes. What `inotify(7)` replaced, and still there.
//!
//! One [`Group`] for all: its mark on a directory stands for all the open files that asked about it.
//!
//! Lock: the table of watchers, a leaf; signals are sent with it released.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::fallible::{SortedMap, TryVec};
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

/// The one group.
struct Dnotify {
    /// Who asked about a directory, by the id of its mark.
    directories: SpinLock<SortedMap<u64, Vec<Watcher>>>,
}

#[expect(clippy::disallowed_methods, reason = "made by `init`, while the system comes up")]
static GROUP: Lazy<Arc<Dnotify>> =
    Lazy::new(|| Arc::new(Dnotify { directories: SpinLock::new(SortedMap::new()) }));

/// Makes the group.
pub(crate) fn init() {
    let _made = &**GROUP;
}

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
        owner: file.owner_cell()?,
        fd,
        events: events_of(wanted),
        stays: wanted & raw::DN_MULTISHOT != 0,
    };
    let mark = mark_of(inode)?;
    let added = GROUP.add(&mark, new);
    GROUP.refresh(&mark);
    added
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
    /// Adds a watcher, or changes what it asked for.
    fn add(&self, mark: &Arc<Mark>, new: Watcher) -> Result<()> {
        // What is replaced is dropped with the lock released.
        let replaced;
        {
            let mut directories = self.directories.lock();
            let watchers = directories.try_get_or_insert_with(mark.id(), Vec::new)?;
            let same = |known: &&mut Watcher| known.file == new.file && known.table == new.table;
            replaced = match watchers.iter_mut().find(same) {
                Some(known) => {
                    let (events, stays) = (known.events | new.events, known.stays || new.stays);
                    Some(core::mem::replace(known, Watcher { events, stays, ..new }))
                }
                None => {
                    watchers.try_push(new)?;
                    None
                }
            };
        }
        drop(replaced);
        Ok(())
    }

    /// Takes watchers away.
    fn remove(&self, mark: &Arc<Mark>, which: impl Fn(&Watcher) -> bool) {
        loop {
            let gone = {
                let mut directories = self.directories.lock();
                let Some(watchers) = directories.get_mut(&mark.id()) else { return };
                watchers.iter().position(&which).map(|at| watchers.swap_remove(at))
            };
            if gone.is_none() {
                break;
            }
        }
        self.refresh(mark);
    }

    /// Makes the mark want what its watchers want; without any it goes.
    fn refresh(&self, mark: &Arc<Mark>) {
        let (gone, wanted);
        {
            let mut directories = self.directories.lock();
            let watchers = directories.get(&mark.id()).map_or(&[][..], Vec::as_slice);
            wanted = watchers.iter().fold(0, |all, watcher| all | watcher.events);
            let over = watchers.is_empty();
            gone = over.then(|| directories.remove(&mark.id()));
        }
        match gone {
            Some(directory) => {
                mark::detach(mark);
                drop(directory);
            }
            None => mark::update(mark, |now| Interest { mask: wanted | mask::ON_CHILD, ..now }),
        }
    }

    /// The watcher at `index` of those who want to hear of `events`, to be told; one that does not stay is taken away. Whether it was.
    fn tell(&self, mark: &Arc<Mark>, events: u32, index: &mut usize) -> Option<(Arc<OwnerCell>, i32, bool)> {
        let mut directories = self.directories.lock();
        let watchers = directories.get_mut(&mark.id())?;
        let later = watchers.get(*index..)?.iter().position(|watcher| watcher.events & events != 0);
        *index += later?;
        let watcher = watchers.get(*index)?;
        if watcher.stays {
            *index += 1;
            return Some((watcher.owner.clone(), watcher.fd, false));
        }
        let gone = watchers.swap_remove(*index);
        Some((gone.owner, gone.fd, true))
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
            let (mut index, mut fewer) = (0, false);
            while let Some((owner, fd, gone)) = self.tell(mark, event.mask, &mut index) {
                owner.signal(fd, Band::Msg);
                fewer |= gone;
            }
            if fewer {
                self.refresh(mark);
            }
        }
        Ok(())
    }

    fn object_gone(&self, mark: &Arc<Mark>) {
        let gone = self.directories.lock().remove(&mark.id());
        drop(gone);
    }
}
