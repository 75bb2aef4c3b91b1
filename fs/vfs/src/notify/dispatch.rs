//! From an event to the groups that want it.

use alloc::sync::Arc;

use abi::Result;

use super::mark::{Mark, Marks, Watched};
use super::mask;
use crate::dentry::Dentry;
use crate::inode::Inode;
use crate::path::Path;

/// What an event happened to, as well as it is known.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// A place: it happened through a mount.
    Path(&'a Path),
    /// A dentry.
    Dentry(&'a Arc<Dentry>),
    /// An inode, whatever its names.
    Inode(&'a Arc<Inode>),
}

impl<'a> Data<'a> {
    /// The inode.
    pub fn inode(self) -> Option<&'a Arc<Inode>> {
        match self {
            Self::Path(path) => path.dentry.inode(),
            Self::Dentry(dentry) => dentry.inode(),
            Self::Inode(inode) => Some(inode),
        }
    }

    /// The place.
    pub fn path(self) -> Option<&'a Path> {
        match self {
            Self::Path(path) => Some(path),
            _ => None,
        }
    }

    /// A dentry of the inode.
    pub fn dentry(self) -> Option<&'a Arc<Dentry>> {
        match self {
            Self::Path(path) => Some(&path.dentry),
            Self::Dentry(dentry) => Some(dentry),
            Self::Inode(_) => None,
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// The bits of [`mask`].
    pub mask: u32,
    /// What it happened to.
    pub data: Data<'a>,
    /// The directory whose entry it happened to.
    pub dir: Option<&'a Arc<Dentry>>,
    /// The name of the entry.
    pub name: Option<&'a [u8]>,
    /// Joins the two halves of a rename.
    pub cookie: u32,
    /// Of a rename: the new directory and name.
    pub moved: Option<(&'a Arc<Dentry>, &'a [u8])>,
}

impl<'a> Event<'a> {
    /// The inode of the directory.
    pub fn dir_inode(&self) -> Option<&'a Arc<Inode>> {
        self.dir.and_then(|dir| dir.inode())
    }

    /// Whether it happened to a directory.
    pub fn is_dir(&self) -> bool {
        self.mask & mask::ISDIR != 0
    }
}

/// Which of the objects of an event a mark is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// What it happened to; for changes of a directory's names, the directory.
    Inode,
    /// The directory that watches its children.
    Parent,
    /// Of a rename: the new directory.
    NewDirectory,
    /// The mount.
    Mount,
    /// The file system.
    Super,
}

const KINDS: [Kind; 5] = [Kind::Inode, Kind::Parent, Kind::NewDirectory, Kind::Mount, Kind::Super];

/// The marks of one group that an event concerns.
#[derive(Default)]
pub struct Found<'a>([Option<&'a Arc<Mark>>; KINDS.len()]);

impl<'a> Found<'a> {
    /// The mark on one of the objects.
    pub fn get(&self, kind: Kind) -> Option<&'a Arc<Mark>> {
        self.0.get(kind as usize).copied().flatten()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &'a Arc<Mark>)> + '_ {
        KINDS.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// Whether the marks together want the event.
    fn wants(&self, event: u32) -> bool {
        let is_dir = event & mask::ISDIR != 0;
        let (mut wanted, mut ignored) = (0, 0);
        for (kind, mark) in self.iter() {
            if event & mask::MODIFY != 0 {
                mark.modified();
            }
            wanted |= mark.mask();
            ignored |= mark.ignores(is_dir, kind == Kind::Parent);
        }
        event & mask::ALL & wanted & !ignored != 0
    }
}

/// Hands `event` to the groups with marks on its objects, important ones first.
///
/// # Errors
/// Of the first group that refuses a permission event.
pub(super) fn send(event: &Event<'_>, objects: &[(Kind, Option<&Watched>)]) -> Result<()> {
    let interest = objects.iter().fold(0, |mask, (_, watched)| mask | watched.map_or(0, Watched::mask));
    if interest & event.mask & mask::ALL == 0 {
        return Ok(());
    }
    let mut lists: [Option<Arc<Marks>>; KINDS.len()] = [const { None }; KINDS.len()];
    for (kind, watched) in objects {
        if let Some(slot) = lists.get_mut(*kind as usize) {
            *slot = watched.and_then(Watched::marks);
        }
    }
    let mut rest: [&[Arc<Mark>]; KINDS.len()] = [&[]; KINDS.len()];
    for (slot, list) in rest.iter_mut().zip(&lists) {
        *slot = list.as_deref().map_or(&[][..], |list| list);
    }
    while let Some(next) = rest.iter().filter_map(|list| Some(list.first()?.order())).min() {
        let mut found = Found::default();
        for (slot, list) in found.0.iter_mut().zip(&mut rest) {
            if let Some((mark, after)) = list.split_first()
                && mark.order() == next
            {
                *slot = Some(mark);
                *list = after;
            }
        }
        if !found.wants(event.mask) {
            continue;
        }
        let group = found.iter().next().and_then(|(_, mark)| mark.group());
        if let Some(group) = group {
            let answer = group.event(event, &found);
            if event.mask & mask::PERM != 0 {
                answer?;
            }
        }
    }
    Ok(())
}
