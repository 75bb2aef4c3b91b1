//! Listing a directory.
//!
//! Where there is a tree, names come in the order of their hashes, and a position *is* a hash: it stays right whatever is added
//! or removed meanwhile. A directory of one block, or in the inode, is listed the same way, because it may get a tree before the
//! listing ends. Others are listed block by block, and a position is a place in them.
//!
//! Names with one and the same hash share a position. [`OpenDir`] remembers how many of them were shown already.

use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::fallible::TryVec;
use vfs::file_ops::{FileOps, Whence};
use vfs::{DirContext, File};

use super::block::Expect;
use super::kind_of;
use super::tree::TreeError;
use crate::disk::dir::{self, Entry, Format};
use crate::disk::hash::{Hash, hash};
use crate::error::{EFSCORRUPTED, place};
use crate::fs::HashInfo;
use crate::inode::{Node, node};

/// The position behind the last name.
const EOF: u64 = i64::MAX as u64;

/// A hash as a position.
fn position(hash: Hash) -> u64 {
    u64::from(hash.major >> 1) << 32 | u64::from(hash.minor)
}

/// A position as a hash.
fn hash_at(position: u64) -> Hash {
    Hash { major: ((position >> 32) as u32) << 1, minor: position as u32 }
}

/// An open directory.
#[derive(Default)]
pub struct OpenDir {
    /// A position, and how many names there were shown.
    shown: SpinLock<(u64, usize)>,
}

/// A name that will be listed: it is in `names`.
struct Listed {
    hash: Hash,
    ino: u32,
    file_type: u8,
    name: core::ops::Range<usize>,
}

/// Names of some leaves, to be sorted.
#[derive(Default)]
struct Names {
    list: Vec<Listed>,
    names: Vec<u8>,
}

impl Names {
    fn add(&mut self, hash: Hash, ino: u32, file_type: u8, name: &[u8]) -> Result<()> {
        let start = self.names.len();
        self.names.try_extend_from_slice(name)?;
        let name = start..self.names.len();
        Ok(self.list.try_push(Listed { hash, ino, file_type, name })?)
    }

    fn add_entry(&mut self, entry: &Entry<'_>, info: &HashInfo, from: Hash) -> Result<()> {
        if entry.inode == 0 || entry.name.is_empty() {
            return Ok(());
        }
        let hash = hash(entry.name, info.version, &info.seed);
        if hash < from {
            return Ok(());
        }
        self.add(hash, entry.inode, entry.file_type, entry.name)
    }
}

impl Node {
    /// Whether the directory is listed by hashes.
    fn lists_by_hash(&self) -> bool {
        self.fs.has_dir_index() && (self.has_tree() || self.is_inline() || self.dir_blocks() == 1)
    }

    /// Puts the names of one block whose hash is `from` or above into `names`.
    fn collect_block(
        &self,
        block: u32,
        expect: Expect,
        info: &HashInfo,
        from: Hash,
        names: &mut Names,
    ) -> Result<()> {
        let data = self.dir_block(block, expect)?;
        let data = data.ok_or_else(|| self.hole_in_tree(block))?;
        for entry in dir::entries(data.bytes(), 0, self.fs.dir_format()) {
            match entry {
                Ok(entry) => names.add_entry(&entry, info, from)?,
                // What comes before it is listed.
                Err(damage) => {
                    self.bad_entry(&damage, self.place_of(block), data.len());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Collects the names from hash `from` on, of at least one leaf that has any; returns the hash that the rest begins with
    /// (`ext4_htree_fill_tree`).
    fn collect(&self, from: Hash, names: &mut Names) -> core::result::Result<Option<Hash>, TreeError> {
        if self.is_inline() {
            let info = self.fs.hash;
            let inline = self.inline_dir()?;
            let format = Format { has_tail: false, ..self.fs.dir_format() };
            let dot =
                |name, inode| Entry { offset: 0, rec_len: 12, inode, name, file_type: dir::file_type::DIR };
            names.add_entry(&dot(b".", self.ino), &info, from)?;
            names.add_entry(&dot(b"..", inline.parent), &info, from)?;
            for entry in inline.entries(format) {
                let entry = entry.map_err(|damage| self.bad_entry(&damage, 0, 60))?;
                names.add_entry(&entry, &info, from)?;
            }
            return Ok(None);
        }
        if !self.has_tree() {
            self.collect_block(0, Expect::Any, &self.fs.hash, from, names)?;
            return Ok(None);
        }
        let mut way = self.probe(|_| from.major)?;
        let info = way.hash;
        if from.major == 0 && from.minor == 0 {
            names.add(Hash::default(), self.ino, dir::file_type::DIR, b".")?;
        }
        if from <= (Hash { major: 2, minor: 0 }) {
            let parent = self.find_entry(b"..")?.map_or(self.ino, |found| found.ino);
            names.add(Hash { major: 2, minor: 0 }, parent, dir::file_type::DIR, b"..")?;
        }
        for _ in 0..=self.dir_blocks() {
            let block = way.leaf(self)?;
            self.collect_block(block, Expect::Entries, &info, from, names)?;
            match self.next_leaf(&mut way, None)? {
                None => return Ok(None),
                // The next leaf has no name with a hash that this one has.
                Some(next) if next & 1 == 0 && !names.list.is_empty() => {
                    return Ok(Some(Hash { major: next, minor: 0 }));
                }
                Some(_) => {}
            }
        }
        let text = format_args!("Corrupt directory, running e2fsck is recommended");
        Err(self.fs.error(place!("ext4_dx_readdir", self.ino), EFSCORRUPTED, text).into())
    }
}

impl OpenDir {
    /// Lists from the position on; `Damaged` only if nothing was listed.
    fn list_by_hash(&self, dir: &Node, ctx: &mut DirContext<'_>) -> core::result::Result<(), TreeError> {
        while ctx.pos < EOF {
            let mut names = Names::default();
            let from = hash_at(ctx.pos);
            let rest = dir.collect(from, &mut names)?;
            let behind = rest.map_or(EOF, position);
            names.list.sort_unstable_by_key(|listed| (listed.hash, listed.name.start));
            let start = position(from);
            let skip = match *self.shown.lock() {
                (at, shown) if at == start => shown,
                _ => 0,
            };
            let mut shown = (start, 0);
            for (index, listed) in names.list.iter().enumerate() {
                let at = position(listed.hash);
                if at != shown.0 {
                    shown = (at, 0);
                }
                shown.1 += 1;
                if at == start && shown.1 <= skip {
                    continue;
                }
                ctx.pos = at;
                let next = names.list.get(index + 1).map_or(behind, |next| position(next.hash));
                let name = names.names.get(listed.name.clone()).unwrap_or_default();
                if !ctx.emit(name, listed.ino.into(), kind_of(listed.file_type), next.max(at)) {
                    *self.shown.lock() = (at, shown.1 - 1);
                    return Ok(());
                }
            }
            ctx.pos = ctx.pos.max(behind);
            if ctx.pos <= start {
                // A tree out of order: there is no way on.
                return Err(TreeError::Failed(EFSCORRUPTED));
            }
        }
        Ok(())
    }

    fn list_blocks(&self, dir: &Node, ctx: &mut DirContext<'_>) -> Result<()> {
        let bits = dir.fs.layout.block_bits;
        let size = dir.disk_size.load(core::sync::atomic::Ordering::Relaxed);
        while ctx.pos < size {
            let Ok(block) = u32::try_from(ctx.pos >> bits) else { return Ok(()) };
            let start = u64::from(block) << bits;
            let data = match dir.dir_block(block, Expect::Any) {
                Ok(Some(data)) => data,
                Ok(None) => {
                    let text = format_args!("directory contains a hole at offset {}", ctx.pos);
                    dir.fs.error(place!("ext4_readdir", dir.ino), EFSCORRUPTED, text);
                    ctx.pos = start + (u64::from(dir.map(block)?.len) << bits);
                    continue;
                }
                // What cannot be read is left out.
                Err(Errno::EBADMSG) => {
                    ctx.pos = start + (1 << bits);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in dir::entries(data.bytes(), 0, dir.fs.dir_format()) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(damage) => {
                        dir.bad_entry(&damage, dir.place_of(block), data.len());
                        break;
                    }
                };
                let at = start + entry.offset as u64;
                if at < ctx.pos || entry.inode == 0 {
                    continue;
                }
                ctx.pos = at;
                let next = at + entry.rec_len as u64;
                if !ctx.emit(entry.name, entry.inode.into(), kind_of(entry.file_type), next) {
                    return Ok(());
                }
            }
            ctx.pos = ctx.pos.max(start + (1 << bits));
        }
        Ok(())
    }
}

impl FileOps for OpenDir {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        let dir = node(file.inode())?;
        if dir.lists_by_hash() {
            match self.list_by_hash(dir, ctx) {
                Ok(()) => return Ok(()),
                Err(TreeError::Failed(error)) => return Err(error),
                Err(TreeError::Damaged) => {}
            }
        } else if dir.is_inline() {
            return self.list_inline(dir, ctx);
        }
        self.list_blocks(dir, ctx)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let dir = node(file.inode())?;
        let (end, most) = match dir.lists_by_hash() {
            true => (EOF, EOF),
            false => (file.inode().size(), dir.fs.layout.max_bytes_mapped.max(dir.fs.layout.max_bytes)),
        };
        let position = match whence {
            Whence::Set => Some(offset),
            Whence::Cur => (file.pos() as i64).checked_add(offset),
            Whence::End => (end as i64).checked_add(offset),
            Whence::Data | Whence::Hole => None,
        };
        let position = position.and_then(|position| u64::try_from(position).ok()).filter(|p| *p <= most);
        let position = position.ok_or(Errno::EINVAL)?;
        file.set_pos(position);
        *self.shown.lock() = (0, 0);
        Ok(position)
    }

    fn fsync(&self, file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
        crate::file::sync(file, start, end, datasync)
    }

    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        crate::ioctl::ioctl(file, cmd, arg)
    }
}

impl OpenDir {
    /// Names in the inode of a file system without hash trees: positions are places, the dots first.
    fn list_inline(&self, dir: &Node, ctx: &mut DirContext<'_>) -> Result<()> {
        /// Where Linux has the dots, and the first entry.
        const DOT_DOT: u64 = 12;
        const FIRST: u64 = 24;
        let inline = dir.inline_dir()?;
        let directory = Some(vfs::FileType::Directory);
        if ctx.pos == 0 && !ctx.emit(b".", dir.ino.into(), directory, DOT_DOT) {
            return Ok(());
        }
        if ctx.pos <= DOT_DOT {
            ctx.pos = DOT_DOT;
            if !ctx.emit(b"..", inline.parent.into(), directory, FIRST) {
                return Ok(());
            }
        }
        for entry in inline.entries(dir.fs.dir_format()) {
            let entry = entry.map_err(|damage| dir.bad_entry(&damage, 0, 60))?;
            let at = FIRST + entry.offset as u64;
            if at < ctx.pos || entry.inode == 0 {
                continue;
            }
            ctx.pos = at;
            let next = at + entry.rec_len as u64;
            if !ctx.emit(entry.name, entry.inode.into(), kind_of(entry.file_type), next) {
                return Ok(());
            }
        }
        Ok(())
    }
}
