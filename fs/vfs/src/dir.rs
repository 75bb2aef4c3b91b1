//! Listing directories: `getdents64(2)`.
//!
//! A file system calls [`DirContext::emit`] for each entry, starting with the entry whose cookie is
//! [`DirContext::pos`], and stops when it returns `false`. The position after an entry is its
//! successor's cookie, so a listing goes on where it stopped, whatever was added or removed meanwhile.

use alloc::sync::Arc;

use abi::fs::Dirent64Header;
use abi::{Errno, Result};
use mm::IovIter;
use zerocopy::IntoBytes;

use crate::file::File;
use crate::inode::InodeFlags;
use crate::types::{FileType, Ino};

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: Ino,
    /// Type, if known.
    pub kind: Option<FileType>,
    /// The cookie of the entry after this one.
    pub next: u64,
}

/// Who receives the entries; `false` means "no room, stop".
pub type Filler<'a> = dyn FnMut(&DirEntry<'_>) -> bool + 'a;

/// A listing in progress.
pub struct DirContext<'a> {
    /// Where to start, and where the next call goes on.
    pub pos: u64,
    filler: &'a mut Filler<'a>,
}

impl<'a> DirContext<'a> {
    /// A listing from `pos` into `filler`.
    pub fn new(pos: u64, filler: &'a mut Filler<'a>) -> Self {
        Self { pos, filler }
    }

    /// Hands out one entry and moves the position behind it; `false` when there was no room (the
    /// position stays).
    pub fn emit(&mut self, name: &[u8], ino: Ino, kind: Option<FileType>, next: u64) -> bool {
        if !(self.filler)(&DirEntry { name, ino, kind, next }) {
            return false;
        }
        self.pos = next;
        true
    }

    /// Hands out `.` (position 0) and `..` (position 1) as needed; entries proper start at 2.
    pub fn emit_dots(&mut self, file: &File) -> bool {
        if self.pos == 0 && !self.emit(b".", file.inode().ino(), Some(FileType::Directory), 1) {
            return false;
        }
        if self.pos == 1 {
            let parent = match file.path().dentry.parent() {
                Some(parent) => parent.inode().map_or(1, |inode| inode.ino()),
                None => file.inode().ino(),
            };
            return self.emit(b"..", parent, Some(FileType::Directory), 2);
        }
        true
    }
}

/// Lists the open directory into `filler` from the file's position on.
pub fn iterate_dir(file: &Arc<File>, filler: &mut Filler<'_>) -> Result<()> {
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let _pos = file.lock_pos();
    let _names = file.inode().rwsem.read();
    if file.inode().flags().contains(InodeFlags::DEAD) {
        return Err(Errno::ENOENT);
    }
    let mut forward = |entry: &DirEntry<'_>| filler(entry);
    let mut ctx = DirContext::new(file.pos(), &mut forward);
    let result = file.ops().iterate(file, &mut ctx);
    let pos = ctx.pos;
    file.set_pos(pos);
    crate::attr::touch_atime(file.path());
    result
}

/// `getdents64(2)`: fills `out` with as many records as fit. `EINVAL` when the first does not fit.
pub fn getdents64(file: &Arc<File>, out: &mut IovIter<'_>) -> Result<usize> {
    file.want_read()?;
    let mut done = 0;
    let mut failure = None;
    let mut full = false;
    iterate_dir(file, &mut |entry: &DirEntry<'_>| {
        if entry.name.is_empty() || entry.name.contains(&b'/') {
            failure = Some(Errno::EIO);
            return false;
        }
        let reclen = (size_of::<Dirent64Header>() + entry.name.len() + 1).next_multiple_of(8);
        if reclen > out.count() {
            full = true;
            return false;
        }
        match write_record(out, entry, reclen) {
            Ok(()) => {
                done += reclen;
                true
            }
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    })?;
    match failure {
        _ if done > 0 => Ok(done),
        Some(error) => Err(error),
        None if full => Err(Errno::EINVAL),
        None => Ok(0),
    }
}

fn write_record(out: &mut IovIter<'_>, entry: &DirEntry<'_>, reclen: usize) -> Result<()> {
    let header = Dirent64Header {
        ino: entry.ino,
        off: entry.next as i64,
        reclen: reclen as u16,
        type_: entry.kind.map_or(0, FileType::dirent_type),
    };
    // Records are small: built here, copied out in one go.
    let mut record = [0u8; (size_of::<Dirent64Header>() + 256).next_multiple_of(8)];
    let fixed = size_of::<Dirent64Header>();
    record.get_mut(..fixed).ok_or(Errno::EIO)?.copy_from_slice(header.as_bytes());
    record.get_mut(fixed..fixed + entry.name.len()).ok_or(Errno::EIO)?.copy_from_slice(entry.name);
    out.write_all(record.get(..reclen).ok_or(Errno::EIO)?)
}
