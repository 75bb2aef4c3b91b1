//! What an event becomes: which of the marks matter, what is remembered of it, and which events are the same.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fanotify::init;
use abi::{Errno, Result};
use mm::fallible::try_arc;

use super::Who;
use super::permission::Permission;
use crate::dentry::Dentry;
use crate::export::{self, Fid};
use crate::notify::{Event, Found, Kind, mask};
use crate::path::Path;
use crate::types::FileType;

/// Events that a user sees.
const OUTGOING: u32 = mask::ALL & !mask::UNMOUNT | mask::ISDIR;

/// The part of an event that a group gets to see, and which of the marks it matched; zero for nothing.
pub(super) fn filter(flags: u32, event: &Event<'_>, found: &Found<'_>) -> (u32, Matched) {
    let fid_mode = flags & init::FID_BITS;
    if fid_mode == 0 {
        // There must be something that can be opened, and that opening does nothing to.
        let kind = event.data.path().and_then(|path| path.dentry.inode()).map(|inode| inode.file_type());
        if !matches!(kind, Some(FileType::Regular | FileType::Directory)) {
            return (0, Matched::default());
        }
    } else if fid_mode & init::REPORT_FID == 0 && event.dir.is_none() && !event.is_dir() {
        // No directory to report.
        return (0, Matched::default());
    }
    let (mut wanted, mut ignored, mut matched) = (0, 0, Matched::default());
    for (kind, mark) in found.iter() {
        ignored |= mark.ignores(event.is_dir(), kind == Kind::Parent);
        let mask = mark.mask();
        if event.is_dir() && mask & mask::ISDIR == 0 || kind == Kind::Parent && mask & mask::ON_CHILD == 0 {
            continue;
        }
        wanted |= mask;
        match kind {
            Kind::Inode => matched.inode = true,
            Kind::NewDirectory => matched.new_directory = true,
            Kind::Super => matched.sb = true,
            Kind::Parent | Kind::Mount => {}
        }
    }
    let left = event.mask & wanted & !ignored;
    if left & mask::ALL == 0 {
        return (0, matched);
    }
    // A program that gets descriptors can see itself what is a directory.
    (left & OUTGOING & if fid_mode == 0 { !mask::ISDIR } else { u32::MAX }, matched)
}

/// Which of a group's marks an event matched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Matched {
    inode: bool,
    new_directory: bool,
    sb: bool,
}

/// What is remembered of an event.
pub(super) enum What {
    /// Events were lost.
    Overflow,
    /// A place to open.
    Path(Path),
    /// An inode.
    Object(Identity),
    /// A directory, the name of an entry, and more.
    Names(Names),
    /// A place to open, where somebody waits.
    Permission(Arc<Permission>),
}

/// A file handle with its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) fsid: [i32; 2],
    pub(super) fid: Fid,
}

/// Handles of directories, names in them, and the handle of what has the name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) fsid: [i32; 2],
    pub(super) dir: Option<Fid>,
    pub(super) name: Vec<u8>,
    pub(super) moved: Option<(Fid, Vec<u8>)>,
    pub(super) child: Option<Fid>,
}

/// A queued event.
pub(super) struct FanEvent {
    pub(super) mask: u32,
    pub(super) who: Option<Who>,
    pub(super) what: What,
}

impl FanEvent {
    /// Whether `new` adds nothing to this one but bits.
    pub(super) fn absorbs(&self, new: &Self) -> bool {
        let same_who = match (&self.who, &new.who) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if !same_who || (self.mask ^ new.mask) & (mask::ISDIR | mask::RENAME) != 0 {
            return false;
        }
        match (&self.what, &new.what) {
            (What::Path(a), What::Path(b)) => a.same(b),
            (What::Object(a), What::Object(b)) => a == b,
            (What::Names(a), What::Names(b)) => a == b,
            _ => false,
        }
    }
}

fn name_of(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::util::try_to_vec(bytes)
}

fn identify(dentry: &Arc<Dentry>) -> Result<Fid> {
    export::encode(dentry.inode().ok_or(Errno::ENOENT)?, Some(dentry))
}

/// What to remember of `event` for a group with `flags`.
///
/// # Errors
/// `ENOMEM`; `ENOENT` if nothing can be said of it.
pub(super) fn remember(flags: u32, mask: u32, event: &Event<'_>, matched: Matched) -> Result<What> {
    let fid_mode = flags & init::FID_BITS;
    if fid_mode == 0 {
        let path = event.data.path().ok_or(Errno::ENOENT)?.clone();
        return Ok(if mask & mask::PERM != 0 {
            What::Permission(try_arc(Permission::new(path))?)
        } else {
            What::Path(path)
        });
    }
    let inode = event.data.inode().ok_or(Errno::ENOENT)?;
    let fsid = crate::stat::fsid(inode.sb());
    let dirent = mask & mask::DIRENT != 0;
    let own = || export::encode(inode, event.data.dentry());
    // The directory that an event is about: that of the names, or itself.
    let dir = match event.dir {
        _ if fid_mode & init::REPORT_DIR_FID == 0 => None,
        _ if !dirent && inode.is_dir() => Some(own()?),
        Some(dir) if dir.inode().is_some() => Some(identify(dir)?),
        _ => None,
    };
    let Some(dir) = dir else {
        // Changes of names are told of the directory, unless the target is asked for.
        let of_directory = dirent && fid_mode & init::REPORT_TARGET_FID == 0;
        let fid = if of_directory { identify(event.dir.ok_or(Errno::ENOENT)?) } else { own() };
        return Ok(What::Object(Identity { fsid, fid: fid? }));
    };
    let wants_child = match dirent {
        true => fid_mode & init::REPORT_TARGET_FID != 0,
        false => fid_mode & init::REPORT_FID != 0 && !event.is_dir(),
    };
    let is_self = !dirent && inode.is_dir();
    let child = if wants_child && !is_self { Some(own()?) } else { None };
    let named = fid_mode & init::REPORT_NAME != 0 && (dirent || !event.is_dir());
    let name = event.name.filter(|_| named);
    let (mut reported, mut moved) = ((Some(dir), name), None);
    if mask & mask::RENAME != 0 {
        if !matched.sb && !matched.inode {
            reported = (None, None);
        }
        if matched.sb || matched.new_directory {
            let (to, name) = event.moved.ok_or(Errno::ENOENT)?;
            moved = Some((identify(to)?, name_of(name)?));
        }
    }
    if reported.1.is_none() && moved.is_none() && child.is_none() {
        return Ok(What::Object(Identity { fsid, fid: dir }));
    }
    Ok(What::Names(Names {
        fsid,
        dir: reported.0,
        name: name_of(reported.1.unwrap_or_default())?,
        moved,
        child,
    }))
}
