//! From archives in memory to files below the root directory.
//!
//! Takes what Linux takes: any number of newc archives, plain or compressed, one after another,
//! aligned to four bytes and padded with zeroes. Whatever is damaged ends the unpacking with one
//! message; what came before stays.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use cpio::{Archive, Entry, PATH_MAX, TRAILER};
use mm::IovIter;
use vfs::file_ops::IoFlags;
use vfs::namei::{self, At, LookupFlags, OpenArgs};
use vfs::path::LookupContext;
use vfs::types::{AttrValid, FileType, Iattr, Timestamp};

use crate::decompress::{Decoder, Format};

/// Bytes of file data that are moved at a time.
const CHUNK: usize = 64 * 1024;

/// Why unpacking stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The compressed data is damaged.
    Compressed(Format),
    /// Compressed in a way that is not supported.
    Unsupported(Format),
    /// The archive itself is damaged.
    Archive(&'static str),
    /// Neither an archive nor a known compression.
    Unknown,
    /// A file could not be made.
    File(Errno),
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Compressed(format) => write!(f, "damaged {} data", format.name()),
            Self::Unsupported(format) => write!(f, "compression method {} not configured", format.name()),
            Self::Archive(what) => f.write_str(what),
            Self::Unknown => f.write_str("invalid magic at start of compressed archive"),
            Self::File(errno) => write!(f, "write error {errno}"),
        }
    }
}

/// Unpacks `data` below the root directory of `ctx`.
///
/// # Errors
/// What stopped it; files unpacked until then stay.
pub fn unpack(ctx: &LookupContext<'_>, data: &[u8]) -> core::result::Result<(), Failure> {
    let mut unpacker = Unpacker::new(ctx).map_err(Failure::File)?;
    let result = unpacker.run(data);
    unpacker.apply_directory_times();
    result
}

/// A file is known by inode, device and type, so that its links find it.
type LinkKey = (u32, (u32, u32), u32);

struct Unpacker<'a> {
    ctx: &'a LookupContext<'a>,
    name: Box<[u8; PATH_MAX]>,
    chunk: Vec<u8>,
    links: BTreeMap<LinkKey, Vec<u8>>,
    /// Directories and their times: set last, because making entries changes them.
    directories: Vec<(Vec<u8>, u32)>,
}

impl<'a> Unpacker<'a> {
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn new(ctx: &'a LookupContext<'a>) -> Result<Self> {
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
        chunk.resize(CHUNK, 0);
        Ok(Self {
            ctx,
            name: Box::new([0; PATH_MAX]),
            chunk,
            links: BTreeMap::new(),
            directories: Vec::new(),
        })
    }

    fn run(&mut self, mut data: &[u8]) -> core::result::Result<(), Failure> {
        loop {
            let padding = data.iter().take_while(|&&byte| byte == 0).count();
            data = &data[padding..];
            if data.is_empty() {
                return Ok(());
            }
            if data.starts_with(b"0707") {
                let (result, rest) = self.plain(data);
                result?;
                data = rest;
                continue;
            }
            let format = Format::detect(data).ok_or(Failure::Unknown)?;
            if matches!(format, Format::Bzip2 | Format::Lzma | Format::Lzo) {
                return Err(Failure::Unsupported(format));
            }
            let mut decoder = Decoder::new(format, data).map_err(|_| Failure::Compressed(format))?;
            let mut archive = Archive::new(&mut decoder);
            while let Some(_more) = self.entry(&mut archive, |_| Failure::Compressed(format))? {}
            data = decoder.rest();
        }
    }

    /// Unpacks uncompressed archives; stops where something compressed follows.
    fn plain<'d>(&mut self, data: &'d [u8]) -> (core::result::Result<(), Failure>, &'d [u8]) {
        let mut archive = Archive::new(data);
        loop {
            match self.entry(&mut archive, |never| match never {}) {
                Ok(Some(false)) => {}
                // After a trailer anything may follow; look at it afresh.
                Ok(Some(true)) => return (Ok(()), archive.into_source()),
                Ok(None) => return (Ok(()), &[]),
                Err(failure) => return (Err(failure), &[]),
            }
        }
    }

    /// Unpacks one entry. `Some(true)` for the trailer, `None` at the end.
    fn entry<R: cpio::Read>(
        &mut self,
        archive: &mut Archive<R>,
        source: impl Fn(R::Error) -> Failure,
    ) -> core::result::Result<Option<bool>, Failure> {
        let explain = |error: cpio::Error<R::Error>| match error {
            cpio::Error::Source(error) => source(error),
            cpio::Error::Truncated => Failure::Archive("junk or truncated data in archive"),
            cpio::Error::NoMagic => Failure::Archive("no cpio magic"),
            cpio::Error::BadNumber => Failure::Archive("broken cpio header"),
            cpio::Error::BadName => Failure::Archive("broken cpio name"),
        };
        let Some((entry, name)) = archive.next(&mut self.name).map_err(explain)? else {
            return Ok(None);
        };
        if name == TRAILER {
            self.links.clear();
            return Ok(Some(true));
        }
        // Names are relative to the root, with or without a slash in front.
        let name = copy(name).map_err(Failure::File)?;
        match FileType::from_mode(entry.mode) {
            Some(FileType::Regular) => self.regular(&entry, name, archive, &explain)?,
            Some(FileType::Symlink) => self.symlink(&entry, &name, archive, &explain)?,
            Some(FileType::Directory) => self.directory(&entry, name),
            Some(_) => self.special(&entry, name),
            None => {}
        }
        Ok(Some(false))
    }

    fn regular<R: cpio::Read>(
        &mut self,
        entry: &Entry,
        name: Vec<u8>,
        archive: &mut Archive<R>,
        explain: &impl Fn(cpio::Error<R::Error>) -> Failure,
    ) -> core::result::Result<(), Failure> {
        let linked = self.link(entry, &name);
        if !linked {
            self.clear(&name, entry.mode);
        } else if entry.size == 0 {
            return Ok(());
        }
        let flags = raw::O_WRONLY | raw::O_CREAT | raw::O_LARGEFILE | if linked { 0 } else { raw::O_TRUNC };
        let args = OpenArgs::from_open(flags, entry.mode & 0o7777).map_err(Failure::File)?;
        let file = match namei::open(self.ctx, At::Cwd, &name, &args) {
            Ok(file) => file,
            // As Linux: an entry whose directory is missing is skipped.
            Err(_) => return Ok(()),
        };
        let mut pos = 0;
        loop {
            let count = archive.read_data(&mut self.chunk).map_err(explain)?;
            if count == 0 {
                break;
            }
            let bytes = self.chunk.get(..count).unwrap_or_default();
            let mut source = IovIter::source(bytes);
            while !source.is_empty() {
                file.ops()
                    .write_iter(&file, &mut source, &mut pos, IoFlags::empty())
                    .map_err(Failure::File)?;
            }
        }
        drop(file);
        self.attributes(&name, entry);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn symlink<R: cpio::Read>(
        &mut self,
        entry: &Entry,
        name: &[u8],
        archive: &mut Archive<R>,
        explain: &impl Fn(cpio::Error<R::Error>) -> Failure,
    ) -> core::result::Result<(), Failure> {
        let mut target = Vec::new();
        loop {
            let count = archive.read_data(&mut self.chunk).map_err(explain)?;
            if count == 0 {
                break;
            }
            if target.len() + count > PATH_MAX {
                return Ok(());
            }
            target.try_reserve(count).map_err(|_| Failure::File(Errno::ENOMEM))?;
            target.extend_from_slice(self.chunk.get(..count).unwrap_or_default());
        }
        self.clear(name, entry.mode);
        if namei::symlink(self.ctx, &target, At::Cwd, name).is_ok() {
            self.attributes(name, entry);
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn directory(&mut self, entry: &Entry, name: Vec<u8>) {
        self.clear(&name, entry.mode);
        // It may be there already: the attributes of the later entry count.
        let _ = namei::mkdir(self.ctx, At::Cwd, &name, entry.mode & 0o7777);
        self.attributes(&name, entry);
        if self.directories.try_reserve(1).is_ok() {
            self.directories.push((name, entry.mtime));
        }
    }

    fn special(&mut self, entry: &Entry, name: Vec<u8>) {
        if self.link(entry, &name) {
            return;
        }
        self.clear(&name, entry.mode);
        let dev = DevId::new(entry.rdev.0, entry.rdev.1);
        if namei::mknod(self.ctx, At::Cwd, &name, entry.mode, dev).is_ok() {
            self.attributes(&name, entry);
        }
    }

    /// Makes `name` a link to the file that an earlier entry with the same inode made; whether it did.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn link(&mut self, entry: &Entry, name: &[u8]) -> bool {
        if entry.nlink < 2 {
            return false;
        }
        let key = (entry.ino, entry.dev, entry.mode & raw::S_IFMT);
        if let Some(first) = self.links.get(&key) {
            self.clear(name, 0);
            return namei::link(self.ctx, At::Cwd, first, At::Cwd, name, 0).is_ok();
        }
        if let Ok(name) = copy(name) {
            self.links.insert(key, name);
        }
        false
    }

    /// Removes what stands where an entry of another type goes. Directories stay for directories.
    fn clear(&self, name: &[u8], mode: u32) {
        let Ok(path) = namei::path_lookup(self.ctx, At::Cwd, name, LookupFlags::empty()) else { return };
        let Ok(inode) = path.inode() else { return };
        let (there, wanted) = (inode.file_type(), FileType::from_mode(mode));
        if Some(there) == wanted && there != FileType::Symlink {
            return;
        }
        let _ = match there {
            FileType::Directory => namei::rmdir(self.ctx, At::Cwd, name),
            _ => namei::unlink(self.ctx, At::Cwd, name),
        };
    }

    /// Gives a new file owner, permissions and time.
    fn attributes(&self, name: &[u8], entry: &Entry) {
        let mut change =
            Iattr { uid: entry.uid, gid: entry.gid, mode: entry.mode & 0o7777, ..Iattr::default() };
        change.valid = AttrValid::UID | AttrValid::GID;
        self.change(name, &change);
        if FileType::from_mode(entry.mode) != Some(FileType::Symlink) {
            change.valid = AttrValid::MODE;
            self.change(name, &change);
        }
        self.set_time(name, entry.mtime);
    }

    fn set_time(&self, name: &[u8], mtime: u32) {
        let time = Timestamp::new(i64::from(mtime), 0);
        let valid = AttrValid::MTIME | AttrValid::MTIME_SET | AttrValid::ATIME | AttrValid::ATIME_SET;
        self.change(name, &Iattr { valid, mtime: time, atime: time, ..Iattr::default() });
    }

    fn change(&self, name: &[u8], change: &Iattr) {
        let Ok(path) = namei::path_lookup(self.ctx, At::Cwd, name, LookupFlags::empty()) else { return };
        let Ok(inode) = path.inode() else { return };
        let _exclusive = inode.rwsem.write();
        // The unpacker acts as root: what a file system cannot keep, it does not.
        let _ = vfs::attr::notify_change(self.ctx.cred, &path.dentry, *change);
    }

    fn apply_directory_times(&mut self) {
        for (name, mtime) in core::mem::take(&mut self.directories) {
            self.set_time(&name, mtime);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    out.extend_from_slice(bytes);
    Ok(out)
}
