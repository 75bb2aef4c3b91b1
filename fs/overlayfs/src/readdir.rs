//! Listings. A directory that is in one layer only is listed as that layer lists it; a merged one from a list of all names, which is
//! made once and kept until the directory changes. An open directory goes on with the list that it began with.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::SortedMap;
use mm::fallible::{TryVec, try_arc, try_arc_slice};
use vfs::Ino;
use vfs::dir::{DirContext, DirEntry, Receiver, iterate_dir};
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::namei::layer;
use vfs::namei::lookup::lookup_locked;
use vfs::path::Path;
use vfs::types::FileType;

use crate::inode::{Node, NodeFlags, node};
use crate::lookup::is_whiteout;
use crate::xattr;

/// The position of the first entry that is not `.` or `..`.
const FIRST: u64 = 2;

/// One name of a merged directory.
struct Entry {
    name: Arc<[u8]>,
    /// As the layer says.
    ino: Ino,
    kind: Option<FileType>,
    /// Index of the lower layer; none for the upper one.
    layer: Option<usize>,
}

/// All names of a merged directory.
pub(crate) struct Cache {
    version: u64,
    entries: Vec<Entry>,
}

/// Name, number and type, as a layer lists them.
type Listed = (Arc<[u8]>, Ino, Option<FileType>);

/// Collects the entries of one layer's directory.
struct Collector {
    entries: Vec<Listed>,
    failed: bool,
    new: bool,
}

impl Receiver for Collector {
    fn entry(&mut self, entry: &DirEntry<'_>) -> bool {
        self.new = true;
        if matches!(entry.name, b"." | b"..") {
            return true;
        }
        let kept =
            try_arc_slice(entry.name).and_then(|name| self.entries.try_push((name, entry.ino, entry.kind)));
        self.failed |= kept.is_err();
        kept.is_ok()
    }
}

impl Node {
    /// The entries of the directory at `path`, in one layer.
    fn list_layer(&self, path: &Path) -> Result<Vec<Listed>> {
        let flags = raw::O_RDONLY | raw::O_DIRECTORY | raw::O_LARGEFILE | raw::O_NOATIME;
        let file = layer::open(&self.fs.cred, path, flags)?;
        let mut all = Collector { entries: Vec::new(), failed: false, new: true };
        while core::mem::take(&mut all.new) {
            iterate_dir(&file, &mut all)?;
            if all.failed {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(all.entries)
    }

    /// Calls `f` with each name of each layer, topmost first, and whether it is a whiteout. Of a name that is in several
    /// layers only the topmost counts.
    fn each_name(
        &self,
        mut f: impl FnMut(&Arc<[u8]>, Ino, Option<FileType>, Option<usize>, bool) -> Result<()>,
    ) -> Result<()> {
        let mut seen: SortedMap<Arc<[u8]>, ()> = SortedMap::default();
        let upper = self.upper().map(|_| None);
        for lower in upper.into_iter().chain(self.lower().iter().map(Some)) {
            let layer = lower.map(|lower| lower.layer);
            let path = lower.map_or_else(|| self.real_path(), |lower| self.lower_path(lower))?;
            let dir = path.inode()?.clone();
            let marked = match layer.and_then(|index| self.fs.layers.get(index)) {
                Some(layer) if layer.xwhiteouts.load(Ordering::Relaxed) => self.fs.holds_xwhiteouts(&dir)?,
                _ => false,
            };
            for (name, ino, kind) in self.list_layer(&path)? {
                if seen.contains_key(&*name) {
                    continue;
                }
                let may_be = match kind {
                    Some(FileType::CharDevice) | None => true,
                    Some(FileType::Regular) => marked,
                    Some(_) => false,
                };
                let whiteout = may_be && self.is_hidden(&path, &name, marked)?;
                f(&name, ino, kind, layer, whiteout)?;
                seen.try_insert(name, ())?;
            }
            sched::cond_resched();
        }
        Ok(())
    }

    fn is_hidden(&self, dir: &Path, name: &[u8], marked: bool) -> Result<bool> {
        let found = layer::lookup(&self.fs.cred, &dir.dentry, name)?;
        let Some(inode) = found.as_ref().and_then(|found| found.inode()) else { return Ok(true) };
        if is_whiteout(inode) {
            return Ok(true);
        }
        Ok(marked
            && inode.is_regular()
            && inode.size() == 0
            && self.fs.own_get(inode, xattr::WHITEOUT)?.is_some())
    }

    /// All names, as they are now.
    fn merged(&self) -> Result<Arc<Cache>> {
        let version = self.version.load(Ordering::Acquire);
        let kept = self.cache.lock().clone();
        if let Some(kept) = kept
            && kept.version == version
        {
            return Ok(kept);
        }
        let mut entries = Vec::new();
        self.each_name(|name, ino, kind, layer, whiteout| {
            if whiteout {
                return Ok(());
            }
            Ok(entries.try_push(Entry { name: name.clone(), ino, kind, layer })?)
        })?;
        let cache = try_arc(Cache { version, entries })?;
        let old = self.cache.lock().replace(cache.clone());
        drop(old);
        Ok(cache)
    }

    /// Whether what a layer lists need not be what is shown.
    pub(crate) fn may_hold_whiteouts(&self) -> bool {
        self.is_merged() || self.has(NodeFlags::WHITEOUTS)
    }

    /// Checks that the directory shows nothing. Returns the whiteouts that the upper directory has.
    ///
    /// # Errors
    /// `ENOTEMPTY`.
    pub(crate) fn must_be_empty(&self) -> Result<Vec<Vec<u8>>> {
        let mut whiteouts = Vec::new();
        self.each_name(|name, _, _, layer, whiteout| {
            if !whiteout {
                return Err(Errno::ENOTEMPTY);
            }
            if layer.is_none() {
                whiteouts.try_push(vfs::util::try_to_vec(name)?)?;
            }
            Ok(())
        })?;
        Ok(whiteouts)
    }

    /// The number that `stat(2)` shows for entry `name` of this directory, whose own listing is running.
    fn number_of(&self, file: &File, name: &[u8]) -> Option<Ino> {
        let dir = file.inode();
        let child = lookup_locked(&file.path().dentry, dir, name).ok()?;
        let inode = child.inode()?;
        Some(inode.ops().getattr(inode, raw::STATX_INO).ok()?.ino)
    }

    /// The number to be shown for an entry that a layer lists with `ino`.
    fn entry_number(&self, file: &File, name: &[u8], ino: Ino, layer: Option<usize>) -> Ino {
        // A copy keeps the number of what it was copied from.
        if layer.is_none() && self.has(NodeFlags::IMPURE) {
            return self.number_of(file, name).unwrap_or(ino);
        }
        let fsid = layer.and_then(|index| self.fs.layers.get(index)).map_or(0, |layer| layer.fsid);
        self.fs.map_ino(ino, fsid).unwrap_or(ino)
    }
}

/// An open directory.
pub(crate) struct OvlDir {
    /// The one layer that it is in.
    real: Option<Arc<File>>,
    /// The list that this open goes through.
    list: SpinLock<Option<Arc<Cache>>>,
}

impl OvlDir {
    /// The directory `inode`, opened with `flags`.
    pub(crate) fn open(node: &Node, flags: u32) -> Result<Self> {
        let alone = !node.may_hold_whiteouts();
        let real = match alone {
            true => Some(layer::open(&node.fs.cred, &node.real_path()?, flags | raw::O_NOATIME)?),
            // Whether it could be opened is known now as well.
            false => {
                layer::open(&node.fs.cred, &node.real_path()?, flags | raw::O_NOATIME)?;
                None
            }
        };
        Ok(Self { real, list: SpinLock::new(None) })
    }

    fn list_real(&self, node: &Node, real: &Arc<File>, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        let layer = if node.upper().is_some() { None } else { node.lower().first().map(|lower| lower.layer) };
        let parent = file.path().dentry.parent().and_then(|parent| parent.inode().map(|inode| inode.ino()));
        let own = file.inode().ino();
        let mut at = ctx.pos;
        {
            let mut receive = |entry: &DirEntry<'_>| {
                let ino = match entry.name {
                    b"." => own,
                    b".." => parent.unwrap_or(own),
                    name => node.entry_number(file, name, entry.ino, layer),
                };
                ctx.emit(entry.name, ino, entry.kind, entry.next)
            };
            let mut inner = DirContext::new(at, &mut receive);
            let _names = real.inode().rwsem.read();
            real.ops().iterate(real, &mut inner)?;
            at = inner.pos;
        }
        ctx.pos = at;
        Ok(())
    }
}

impl FileOps for OvlDir {
    fn read_iter(&self, _: &File, _: &mut mm::IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        let node = node(file.inode())?;
        if let Some(real) = &self.real
            && !node.is_merged()
            && Arc::ptr_eq(real.inode(), node.real_inode()?)
        {
            return self.list_real(node, real, file, ctx);
        }
        // From the start the list is made anew.
        let kept = if ctx.pos == 0 { None } else { self.list.lock().clone() };
        let list = match kept {
            Some(list) => list,
            None => {
                let list = node.merged()?;
                let old = self.list.lock().replace(list.clone());
                drop(old);
                list
            }
        };
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        let skip = usize::try_from(ctx.pos - FIRST).unwrap_or(usize::MAX);
        for entry in list.entries.iter().skip(skip) {
            let ino = node.entry_number(file, &entry.name, entry.ino, entry.layer);
            let next = ctx.pos + 1;
            if !ctx.emit(&entry.name, ino, entry.kind, next) {
                break;
            }
        }
        Ok(())
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        match &self.real {
            Some(real) => {
                real.set_pos(file.pos());
                let pos = real.ops().llseek(real, offset, whence)?;
                file.set_pos(pos);
                Ok(pos)
            }
            None => {
                let target = match whence {
                    Whence::Set => Some(offset),
                    Whence::Cur => offset.checked_add(file.pos() as i64),
                    _ => None,
                };
                let pos = target.and_then(|at| u64::try_from(at).ok()).ok_or(Errno::EINVAL)?;
                file.set_pos(pos);
                Ok(pos)
            }
        }
    }

    fn fsync(&self, file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
        let node = node(file.inode())?;
        if node.upper().is_none() || !node.fs.syncs() {
            return Ok(());
        }
        let flags = raw::O_RDONLY | raw::O_DIRECTORY | raw::O_LARGEFILE;
        let upper = layer::open(&node.fs.cred, &node.real_path()?, flags)?;
        vfs::rw::vfs_fsync(&upper, start, end, datasync)
    }
}
