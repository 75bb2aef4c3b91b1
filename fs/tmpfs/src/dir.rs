//! The entries of one directory: by name, and by a cookie that grows, so that listings are stable.

use abi::Result;
use alloc::sync::Arc;

use mm::fallible::{SortedMap, try_arc_slice};
use vfs::{Ino, Inode};

/// Cookies below this are `.` and `..`.
const FIRST_COOKIE: u64 = 2;

struct Entry {
    cookie: u64,
    inode: Arc<Inode>,
}

struct Place {
    name: Arc<[u8]>,
    inode: Arc<Inode>,
}

/// A directory's entries. Both maps lead to the inode, so that neither way needs the other map.
#[derive(Default)]
pub(crate) struct DirTable {
    by_name: SortedMap<Arc<[u8]>, Entry>,
    by_cookie: SortedMap<u64, Place>,
    next: u64,
}

/// An entry as a listing wants it.
pub(crate) struct Listed {
    pub(crate) name: Arc<[u8]>,
    pub(crate) ino: Ino,
    pub(crate) kind: vfs::FileType,
    pub(crate) cookie: u64,
}

impl DirTable {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<Inode>> {
        self.by_name.get(name).map(|entry| &entry.inode)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds an entry at the end of listings; the name must be new.
    pub(crate) fn insert(&mut self, name: &[u8], inode: Arc<Inode>) -> Result<()> {
        let cookie = self.next.max(FIRST_COOKIE);
        let name = try_arc_slice(name)?;
        self.by_cookie.try_insert(cookie, Place { name: name.clone(), inode: inode.clone() })?;
        if let Err(error) = self.by_name.try_insert(name, Entry { cookie, inode }) {
            self.by_cookie.remove(&cookie);
            return Err(error.into());
        }
        self.next = cookie + 1;
        Ok(())
    }

    /// Makes an existing name stand for another inode, keeping its place in listings.
    pub(crate) fn replace(&mut self, name: &[u8], inode: Arc<Inode>) -> Option<Arc<Inode>> {
        let entry = self.by_name.get_mut(name)?;
        if let Some(place) = self.by_cookie.get_mut(&entry.cookie) {
            place.inode = inode.clone();
        }
        Some(core::mem::replace(&mut entry.inode, inode))
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Arc<Inode>> {
        let entry = self.by_name.remove(name)?;
        self.by_cookie.remove(&entry.cookie);
        Some(entry.inode)
    }

    /// The entries with the lowest cookies at or after `cookie`, in order, as many as there is room
    /// for in `out`.
    pub(crate) fn list(&self, cookie: u64, out: &mut [Option<Listed>]) {
        let mut places = self.by_cookie.range_from(&cookie);
        for slot in out {
            *slot = places.next().map(|(cookie, Place { name, inode })| Listed {
                name: name.clone(),
                ino: inode.ino(),
                kind: inode.file_type(),
                cookie: *cookie,
            });
        }
    }

    /// All inodes, leaving the table empty.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Inode>> + use<> {
        self.by_cookie.clear();
        core::mem::take(&mut self.by_name).into_values().map(|entry| entry.inode)
    }
}
