//! Listing directories: `getdents64(2)`, `getdents(2)`.
//!
//! A file system calls [`DirContext::emit`] for each entry, starting with the entry whose cookie is
//! [`DirContext::pos`], and stops when it returns `false`. The position after an entry is its
//! successor's cookie, so a listing goes on where it stopped, whatever was added or removed meanwhile.

use alloc::sync::Arc;

use abi::fs::Dirent64Header;
use abi::{Errno, Result};
use mm::IovIter;
use zerocopy::{FromBytes, IntoBytes};

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
    /// Its cookie: a listing from there begins with it.
    pub at: u64,
    /// The cookie of the entry after this one.
    pub next: u64,
}

/// Who receives the entries. A closure that returns whether there was room is one.
pub trait Receiver {
    /// Takes one entry; `false` means "no room, stop".
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool;

    /// The listing stops here. A receiver that collected entries and could not deliver the last of them answers the
    /// cookie of the first that is lost: the next listing goes on there.
    fn finish(&mut self) -> Option<u64> {
        None
    }
}

impl<F: FnMut(&DirEntry<'_>) -> bool> Receiver for F {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        self(entry)
    }
}

/// A listing in progress.
pub struct DirContext<'a> {
    /// Where to start, and where the next call goes on.
    pub pos: u64,
    receiver: &'a mut dyn Receiver,
}

impl<'a> DirContext<'a> {
    /// A listing from `pos` into `receiver`.
    pub fn new(pos: u64, receiver: &'a mut dyn Receiver) -> Self {
        Self { pos, receiver }
    }

    /// Hands out one entry and moves the position behind it; `false` when there was no room (the
    /// position stays).
    pub fn emit(&mut self, name: &[u8], ino: Ino, kind: Option<FileType>, next: u64) -> bool {
        if !self.receiver.entry(&DirEntry { name, ino, kind, at: self.pos, next }) {
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

/// Lists the open directory into `receiver` from the file's position on.
pub fn iterate_dir<R: Receiver>(file: &Arc<File>, receiver: &mut R) -> Result<()> {
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    crate::notify::may_read(file)?;
    let _pos = file.lock_pos();
    let _names = file.inode().rwsem.read();
    if file.inode().flags().contains(InodeFlags::DEAD) {
        return Err(Errno::ENOENT);
    }
    let mut ctx = DirContext::new(file.pos(), receiver);
    let result = file.ops().iterate(file, &mut ctx);
    crate::notify::on_file(file, crate::notify::mask::ACCESS);
    let pos = ctx.pos;
    file.set_pos(receiver.finish().unwrap_or(pos));
    crate::attr::touch_atime(file.path());
    result
}

/// Where a record has the type of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Before the name: `struct linux_dirent64`.
    TypeBeforeName,
    /// In the record's last byte: `struct linux_dirent`, which had none at first.
    TypeLast,
}

impl Layout {
    /// Bytes before the name.
    fn fixed(self) -> usize {
        match self {
            Self::TypeBeforeName => size_of::<Dirent64Header>(),
            Self::TypeLast => size_of::<Dirent64Header>() - 1,
        }
    }
}

/// `getdents64(2)`, `getdents(2)`: fills `out` with as many records as fit. `EINVAL` when the first does not fit.
pub fn getdents(file: &Arc<File>, out: &mut IovIter<'_>, layout: Layout) -> Result<usize> {
    file.want_read()?;
    let mut records = Records::new(out, layout);
    iterate_dir(file, &mut records)?;
    match records.failure {
        _ if records.done > 0 => Ok(records.done),
        Some(error) => Err(error),
        None => Ok(0),
    }
}

/// Room for at least one record of the longest name, and for dozens of usual ones.
const STAGE: usize = 1024;

/// Collects records and copies them out many at a time: a copy to user space costs more than making a record.
struct Records<'o, 'm> {
    out: &'o mut IovIter<'m>,
    layout: Layout,
    stage: [u8; STAGE],
    staged: usize,
    /// Cookie of the first staged record.
    first: u64,
    /// Bytes delivered.
    done: usize,
    failure: Option<Errno>,
}

impl<'o, 'm> Records<'o, 'm> {
    fn new(out: &'o mut IovIter<'m>, layout: Layout) -> Self {
        Self { out, layout, stage: [0; STAGE], staged: 0, first: 0, done: 0, failure: None }
    }

    /// Copies the staged records out; whether all of them arrived.
    fn deliver(&mut self) -> bool {
        let staged = core::mem::take(&mut self.staged);
        let Some(records) = self.stage.get(..staged) else { return false };
        let start = self.out.position();
        if self.out.copy_to_iter(records) == staged {
            self.done += staged;
            return true;
        }
        // Not all of the buffer can be written: whole records as far as it goes.
        self.out.restore(start);
        self.failure = Some(Errno::EFAULT);
        let mut rest = records;
        while let Ok((header, _)) = Dirent64Header::read_from_prefix(rest) {
            let Some((record, after)) = rest.split_at_checked(usize::from(header.reclen)) else { break };
            if self.out.write_all(record).is_err() {
                break;
            }
            self.done += record.len();
            self.first = header.off as u64;
            rest = after;
        }
        false
    }

    /// Appends a record at the end of the stage, where there is room for it.
    fn put(&mut self, entry: &DirEntry<'_>, reclen: usize) -> Option<()> {
        let header = Dirent64Header {
            ino: entry.ino,
            off: entry.next as i64,
            reclen: reclen as u16,
            type_: entry.kind.map_or(0, FileType::dirent_type),
        };
        let record = self.stage.get_mut(self.staged..self.staged + reclen)?;
        let (fixed, name) = record.split_at_mut_checked(self.layout.fixed())?;
        fixed.copy_from_slice(header.as_bytes().get(..fixed.len())?);
        let (name, end) = name.split_at_mut_checked(entry.name.len())?;
        name.copy_from_slice(entry.name);
        end.fill(0);
        if self.layout == Layout::TypeLast {
            *end.last_mut()? = header.type_;
        }
        if self.staged == 0 {
            self.first = entry.at;
        }
        self.staged += reclen;
        Some(())
    }
}

impl Receiver for Records<'_, '_> {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        if entry.name.is_empty() || entry.name.contains(&b'/') {
            self.failure = Some(Errno::EIO);
            return false;
        }
        // The same for both layouts: the type takes one byte in each.
        let reclen = (size_of::<Dirent64Header>() + entry.name.len() + 1).next_multiple_of(8);
        if reclen > self.out.count() - self.staged {
            self.failure = Some(Errno::EINVAL);
            return false;
        }
        if self.staged + reclen > STAGE && !self.deliver() {
            return false;
        }
        self.put(entry, reclen).is_some()
    }

    fn finish(&mut self) -> Option<u64> {
        (self.failure == Some(Errno::EFAULT) || !self.deliver()).then_some(self.first)
    }
}
