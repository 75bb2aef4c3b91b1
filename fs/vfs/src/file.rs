//! Open files: `struct file`, and what opening one involves.
//!
//! [`File`] is the open file description of POSIX: position, status flags, credentials at open time.
//! Descriptors ([`crate::fdtable`]) are references to it. The last reference releases it: locks
//! owned by the description go, then `FileOps::release` runs.
//!
//! Locks: `pos` is held over `read(2)`, `write(2)`, `lseek(2)` and `getdents64(2)` of files that have a
//! position, when the description is shared. `owner` is a leaf.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use bitflags::bitflags;
use sched::mutex::{Mutex, MutexGuard};
use sync::Once;

use crate::cred::Credentials;
use crate::dentry::DentryFlags;
use crate::epoll::EpollLinks;
use crate::fasync::{FileOwner, OwnerCell};
use crate::file_ops::FileOps;
use crate::inode::Inode;
use crate::path::Path;
use crate::types::FileType;
use mm::fallible::{try_arc, try_arc_with};
use mm::readahead::ReadState;

bitflags! {
    /// What an open file can do (`FMODE_*`); fixed at open.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FileMode: u32 {
        /// Open for reading.
        const READ = 1 << 0;
        /// Open for writing.
        const WRITE = 1 << 1;
        /// Has a position that `lseek(2)` changes.
        const LSEEK = 1 << 2;
        /// `pread(2)` works.
        const PREAD = 1 << 3;
        /// `pwrite(2)` works.
        const PWRITE = 1 << 4;
        /// Opened to be executed.
        const EXEC = 1 << 5;
        /// `O_PATH`: names a place, gives no access to the data.
        const PATH = 1 << 6;
        /// The position must be locked (regular files and directories).
        const ATOMIC_POS = 1 << 7;
        /// A write reference on the mount is held.
        const WRITER = 1 << 8;
        /// No notification of readers and writers.
        const NONOTIFY = 1 << 9;
        /// Operations know `RWF_NOWAIT`.
        const NOWAIT = 1 << 10;
        /// Created by this open.
        const CREATED = 1 << 11;
        /// Positions are unsigned (`/dev/mem`).
        const UNSIGNED_OFFSET = 1 << 12;
        /// Counted as a writer of the inode (`i_writecount`).
        const WRITE_COUNTED = 1 << 13;
        /// A stream: no position at all, `read` passes none.
        const STREAM = 1 << 14;
        /// The opener's domain forbids to change the size ([`crate::security`]).
        const NO_TRUNCATE = 1 << 15;
        /// The opener's domain forbids `ioctl(2)` on the device.
        const NO_IOCTL = 1 << 16;
        /// Counted as a reader of the inode.
        const READ_COUNTED = 1 << 17;
    }
}

/// The operations of an open file: shared by all opens, or made for this one.
pub enum FileImpl {
    /// One object for every file of the kind; data is found through the inode.
    Static(&'static dyn FileOps),
    /// An object that others hold too (the pipe of a FIFO, a tty).
    Shared(Arc<dyn FileOps>),
    /// An object of this open alone.
    Owned(Box<dyn FileOps>),
}

impl Deref for FileImpl {
    type Target = dyn FileOps;

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Static(ops) => *ops,
            Self::Shared(ops) => &**ops,
            Self::Owned(ops) => &**ops,
        }
    }
}

/// An open in progress, as `InodeOps::open` sees it.
pub struct OpenFile<'a> {
    /// The place that is opened.
    pub path: &'a Path,
    /// The acting credentials.
    pub cred: &'a Arc<Credentials>,
    /// `O_*` flags.
    pub flags: u32,
    /// What the file will be able to do; an implementation clears what it cannot
    /// ([`OpenFile::nonseekable`], [`OpenFile::stream`]).
    pub mode: FileMode,
}

impl OpenFile<'_> {
    /// The file has no position that could be set.
    pub fn nonseekable(&mut self) {
        self.mode.remove(FileMode::LSEEK | FileMode::PREAD | FileMode::PWRITE);
    }

    /// The file has no position at all.
    pub fn stream(&mut self) {
        self.nonseekable();
        self.mode.remove(FileMode::ATOMIC_POS);
        self.mode.insert(FileMode::STREAM);
    }

    /// Whether the file is opened for writing.
    pub fn writable(&self) -> bool {
        self.mode.contains(FileMode::WRITE)
    }

    /// Whether the file is opened for reading.
    pub fn readable(&self) -> bool {
        self.mode.contains(FileMode::READ)
    }

    /// Whether the opener wants no waiting.
    pub fn nonblock(&self) -> bool {
        self.flags & raw::O_NONBLOCK != 0
    }
}

/// An open file description. See the module text.
pub struct File {
    path: Path,
    ops: FileImpl,
    mode: FileMode,
    flags: AtomicU32,
    pos: AtomicU64,
    pos_lock: Mutex<()>,
    cred: Arc<Credentials>,
    owner: Once<Arc<OwnerCell>>,
    /// Where readahead stands and what the user advised (`POSIX_FADV_*`).
    pub readahead: SpinLock<ReadState>,
    /// Up to where failures of write-back are known here (`f_wb_err`).
    write_errors: AtomicU32,
    pub(crate) epoll: EpollLinks,
    /// Whether any POSIX or flock lock was ever taken through this file.
    pub(crate) has_locks: AtomicBool,
    /// Data the opener wants to keep with the file (sockets: none; kernfs: seq state lives in ops).
    pub version: AtomicU64,
}

static NR_FILES: AtomicUsize = AtomicUsize::new(0);
static MAX_FILES: AtomicUsize = AtomicUsize::new(8192);

/// Open files now (`/proc/sys/fs/file-nr`).
pub fn nr_files() -> usize {
    NR_FILES.load(Ordering::Relaxed)
}

/// The limit (`/proc/sys/fs/file-max`).
pub fn max_files() -> usize {
    MAX_FILES.load(Ordering::Relaxed)
}

/// Sets the limit.
pub fn set_max_files(max: usize) {
    MAX_FILES.store(max, Ordering::Relaxed);
}

impl File {
    /// Makes an open file. `ENFILE` at the system's limit, which binds all but the administrator.
    pub fn new(open: OpenFile<'_>, ops: FileImpl) -> Result<Arc<Self>> {
        let count = NR_FILES.fetch_add(1, Ordering::Relaxed);
        if count >= max_files() && !open.cred.capable(abi::cap::Cap::SysAdmin) {
            NR_FILES.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENFILE);
        }
        const KEPT: u32 = !(raw::O_CREAT | raw::O_EXCL | raw::O_NOCTTY | raw::O_TRUNC);
        let made = try_arc_with(|| Self {
            path: open.path.clone(),
            ops,
            mode: open.mode,
            flags: AtomicU32::new(open.flags & KEPT),
            pos: AtomicU64::new(0),
            pos_lock: Mutex::new(()),
            cred: open.cred.clone(),
            owner: Once::new(),
            readahead: SpinLock::new(ReadState::new()),
            write_errors: AtomicU32::new(0),
            epoll: EpollLinks::new(),
            has_locks: AtomicBool::new(false),
            version: AtomicU64::new(0),
        });
        if made.is_err() {
            NR_FILES.fetch_sub(1, Ordering::Relaxed);
        }
        let file = made?;
        file.begin_write_errors();
        Ok(file)
    }

    /// What failed before, and somebody knows of, is none of this open file's business.
    fn begin_write_errors(&self) {
        let position = match self.path.dentry.inode() {
            Some(inode) if inode.is_regular() => {
                inode.mapping().map(|mapping| mapping.write_error_position())
            }
            Some(inode) if inode.file_type() == FileType::BlockDevice => {
                self.ops.mapping(self).map(|mapping| mapping.write_error_position())
            }
            _ => None,
        };
        self.write_errors.store(position.unwrap_or(0), Ordering::Relaxed);
    }

    /// The open of a new file was refused: nobody hears that it is closed.
    pub(crate) fn was_refused(file: &mut Arc<Self>) {
        if let Some(file) = Arc::get_mut(file) {
            file.mode |= FileMode::NONOTIFY;
        }
    }

    /// The place that was opened.
    #[inline]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The inode. Every open file has one.
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        match self.path.dentry.inode() {
            Some(inode) => inode,
            // `open` only takes positive dentries, and they stay positive.
            None => unreachable!("open file without inode"),
        }
    }

    /// The page cache that the file's data goes through, if there is one.
    pub fn mapping(&self) -> Option<Arc<mm::Mapping>> {
        self.ops.mapping(self)
    }

    /// What the file can do.
    #[inline]
    pub fn mode(&self) -> FileMode {
        self.mode
    }

    /// `O_*` status flags as `F_GETFL` shows them.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Replaces the flags in `mask` by those in `flags`.
    pub fn set_flags(&self, mask: u32, flags: u32) {
        let _ = self
            .flags
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old & !mask | flags & mask));
    }

    /// Whether calls on the file must not wait.
    #[inline]
    pub fn nonblock(&self) -> bool {
        self.flags() & raw::O_NONBLOCK != 0
    }

    /// The operations.
    #[inline]
    pub fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// The operations, if they are a `T`: how a subsystem recognises its own files.
    pub fn private<T: FileOps>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.ops;
        any.downcast_ref()
    }

    /// The shared operations object, if there is one (sockets, pidfds, epoll).
    pub fn shared_ops(&self) -> Option<&Arc<dyn FileOps>> {
        match &self.ops {
            FileImpl::Shared(ops) => Some(ops),
            _ => None,
        }
    }

    /// Credentials at open time.
    pub fn cred(&self) -> &Arc<Credentials> {
        &self.cred
    }

    /// The position.
    #[inline]
    pub fn pos(&self) -> u64 {
        self.pos.load(Ordering::Relaxed)
    }

    /// Sets the position.
    #[inline]
    pub fn set_pos(&self, pos: u64) {
        self.pos.store(pos, Ordering::Relaxed);
    }

    /// Locks the position if the file has one and others share the description (`shared` is
    /// whether the caller's reference is not the only one).
    pub fn lock_pos(self: &Arc<Self>) -> Option<MutexGuard<'_, ()>> {
        self.mode.contains(FileMode::ATOMIC_POS).then(|| self.pos_lock.lock())
    }

    /// Whether `read(2)` is allowed: `EBADF` otherwise.
    #[inline]
    pub fn want_read(&self) -> Result<()> {
        if self.mode.contains(FileMode::READ) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Whether `write(2)` is allowed: `EBADF` otherwise.
    #[inline]
    pub fn want_write(&self) -> Result<()> {
        if self.mode.contains(FileMode::WRITE) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// What could not be written since this was asked last through this open file; each open file gets to know each failure once.
    ///
    /// # Errors
    /// The last failure: `EIO`, `ENOSPC`.
    pub fn check_write_errors(&self) -> Result<()> {
        self.ops.mapping(self).map_or(Ok(()), |mapping| mapping.check_write_errors(&self.write_errors))
    }

    /// Writes what the page cache has newer of `start..=end` and waits for it (`file_write_and_wait_range`): what `fsync(2)` of a file system
    /// begins with.
    ///
    /// # Errors
    /// What failed now, or was not told yet.
    pub fn write_and_wait(&self, start: u64, end: u64) -> Result<()> {
        let Some(mapping) = self.ops.mapping(self) else { return Ok(()) };
        if mapping.is_memory() {
            return Ok(());
        }
        let range = start..end.saturating_add(1);
        let started = mapping.start_write_back(range.clone(), mm::filemap::SyncMode::All);
        mapping.wait_on_writeback(range);
        // What could not be started is noted there as well.
        self.check_write_errors().and(started)
    }

    /// Who gets `SIGIO`, if that was ever said.
    pub fn owner(&self) -> Option<FileOwner> {
        self.owner.get().map(|owner| owner.get())
    }

    /// Tells the owner that urgent data came: `SIGURG`. `false`: there is no owner.
    pub fn signal_urgent(&self) -> bool {
        self.owner.get().is_some_and(|owner| crate::fasync::signal_urgent(owner))
    }

    /// Who gets `SIGIO`, to be changed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn owner_cell(&self) -> Result<Arc<OwnerCell>> {
        if let Some(owner) = self.owner.get() {
            return Ok(owner.clone());
        }
        let new = try_arc(OwnerCell::default())?;
        Ok(self.owner.call_once(|| new).clone())
    }

    /// The type of the inode.
    pub fn file_type(&self) -> FileType {
        self.inode().file_type()
    }

    /// A name for `/proc/PID/fd` and `/proc/PID/maps`.
    pub fn display_name(&self, root: Option<&Path>) -> Result<Vec<u8>> {
        crate::path::d_path(&self.path, root)
    }

    /// One descriptor of the file is closed (`close(2)`, exit): flushes, and drops the POSIX locks of
    /// `owner`, the caller's descriptor table.
    pub fn close_one(self: &Arc<Self>, owner: crate::lock::PosixOwner) -> Result<()> {
        if self.mode.contains(FileMode::PATH) {
            return Ok(());
        }
        let result = self.ops.flush(self);
        crate::dnotify::closed(self, owner);
        if let Some(locks) = self.inode().locks() {
            locks.release_posix(owner);
        }
        result
    }
}

impl Drop for File {
    fn drop(&mut self) {
        NR_FILES.fetch_sub(1, Ordering::Relaxed);
        if self.mode.contains(FileMode::PATH) {
            return;
        }
        self.epoll.release();
        if self.has_locks.load(Ordering::Acquire)
            && let Some(locks) = self.inode().locks()
        {
            locks.release_file(self);
        }
        crate::notify::on_close(self);
        if self.flags() & raw::FASYNC != 0 {
            for list in self.ops.fasync_lists(self).into_iter().flatten() {
                let _ = list.set(self, -1, false);
            }
        }
        self.ops.release(self);
        if self.mode.contains(FileMode::WRITE_COUNTED) {
            self.inode().put_write_access();
        }
        if self.mode.contains(FileMode::READ_COUNTED) {
            self.inode().read_count.fetch_sub(1, Ordering::Relaxed);
        }
        if self.mode.contains(FileMode::WRITER) {
            self.path.mnt.put_write();
        }
        // Something in a directory that has lost its name.
        if self.path.dentry.is_unlinked() && !self.path.dentry.flags().contains(DentryFlags::DISCONNECTED)
            || self.inode().nlink() == 0
        {
            crate::dcache::evict_if_unused(&self.path.dentry, 1);
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?} {:?})", self.path, self.mode)
    }
}
