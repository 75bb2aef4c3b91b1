//! The inode: one file, directory, device or link of a file system, however many names it has.
//!
//! Owns: mode, owner, link count, size, times, the page cache mapping, the data of the file system
//! (behind [`InodeOps`]) and the hooks of locks, pipes and notification.
//!
//! Locks: `rwsem` (`i_rwsem`) is taken by this crate around every change of a directory (exclusive),
//! around lookups that miss the cache (shared), and by file systems around writes of file data.
//! Order: parent directory before child; two directories of a rename as `namei::rename` says;
//! `rwsem` before any page lock. Single attributes are atomics and are read without a lock; the
//! three times and the change counter are under the small spin lock `times`.
//!
//! Invariant: an inode never changes its type or device number.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::creds::{Gid, Uid};
use abi::fs::DevId;
use abi::{Result, raw};
use arch::sync::SpinLock;
use bitflags::bitflags;
use sched::mutex::RwSemaphore;
use sync::Once;

use crate::inode_ops::InodeOps;
use crate::lock::LockContext;
use crate::notify::Watched;
use crate::pipe::Pipe;
use crate::super_block::SuperBlock;
use crate::types::{FileType, Ino, Kstat, Timestamp};
use mm::fallible::{try_arc, try_box};

bitflags! {
    /// Facts about an inode that the path walk must know without a call (`S_*`, `IOP_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InodeFlags: u32 {
        /// Writes are synchronous.
        const SYNC = 1 << 0;
        /// No access time updates.
        const NOATIME = 1 << 1;
        /// Append only (`chattr +a`).
        const APPEND = 1 << 2;
        /// Immutable (`chattr +i`).
        const IMMUTABLE = 1 << 3;
        /// The directory was removed.
        const DEAD = 1 << 4;
        /// Not counted in times: sockets and pipes of the kernel.
        const NOCMTIME = 1 << 5;
        /// Used as swap space.
        const SWAPFILE = 1 << 6;
        /// The file system is in the kernel's memory only.
        const PRIVATE = 1 << 7;
        /// DAX.
        const DAX = 1 << 8;
        /// `InodeOps::permission` replaces the mode check.
        const OP_PERMISSION = 1 << 16;
        /// `InodeOps::revalidate` must be asked about children found in the cache.
        const OP_REVALIDATE = 1 << 17;
        /// `InodeOps::getattr` replaces the generic one.
        const OP_GETATTR = 1 << 18;
        /// Children of this directory are not cached when their lookup fails.
        const NO_NEGATIVE = 1 << 19;
        /// A symbolic link that leads to an object, not to a path (`/proc/PID/fd/N`).
        const MAGIC_LINK = 1 << 20;
        /// `evict_inode` has run.
        const EVICTED = 1 << 21;
        /// An eviction policy wants the dentry dropped at last close.
        const DONT_CACHE = 1 << 22;
        /// There is an access control list.
        const HAS_ACL = 1 << 24;
        /// It can be found by something else than its dentries: a file handle, its number.
        const EXPORTED = 1 << 25;
        /// The file has capabilities (`security.capability`).
        const HAS_CAPS = 1 << 26;
        /// New entries of the directory get an access control list.
        const HAS_DEFAULT_ACL = 1 << 27;
        /// `InodeOps::setxattr` keeps mode and access control lists in step itself.
        const OP_ACL = 1 << 28;
        /// `InodeOps::touch_atime` replaces the generic one.
        const OP_ATIME = 1 << 29;
        /// The directory is the upper or the work directory of a union mount.
        const UNION_INUSE = 1 << 30;
    }
}

/// Access, modification, change and birth time, and the change counter.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Times {
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Timestamp,
    /// `i_version`.
    pub version: u64,
}

/// An inode. See the module text.
pub struct Inode {
    sb: Arc<SuperBlock>,
    ino: Ino,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    nlink: AtomicU32,
    flags: AtomicU32,
    rdev: DevId,
    size: AtomicU64,
    blocks: AtomicU64,
    /// Generation number for file handles.
    pub generation: AtomicU32,
    times: SpinLock<Times>,
    /// `i_rwsem`; see the module text.
    pub rwsem: RwSemaphore<()>,
    ops: Box<dyn InodeOps>,
    mapping: Option<Arc<mm::filemap::Mapping>>,
    link: Once<Arc<[u8]>>,
    locks: Once<Box<LockContext>>,
    pipe: SpinLock<Option<Arc<Pipe>>>,
    /// Open files that may write, minus what denies writing (`i_writecount`).
    pub(crate) write_count: core::sync::atomic::AtomicI32,
    /// Open files that read and do not write (`i_readcount`).
    pub(crate) read_count: AtomicU32,
    /// Dentries that are of no use to anybody any more, and hold references until a grace period is over.
    pub(crate) idle: AtomicU32,
    /// How long data written is expected to live (`F_SET_RW_HINT`).
    pub write_hint: AtomicU8,
    /// Marks of inotify and fanotify.
    pub notify: Watched,
}

/// What a new inode starts with; see [`Inode::new`].
pub struct InodeInit {
    /// Number.
    pub ino: Ino,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// Device number of a device node.
    pub rdev: DevId,
    /// Links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Flags, including the `OP_*` ones that tell which methods are not the default.
    pub flags: InodeFlags,
    /// All four times.
    pub time: Timestamp,
    /// Page cache.
    pub mapping: Option<Arc<mm::filemap::Mapping>>,
}

impl InodeInit {
    /// An inode of root with one link and the present time.
    pub fn new(ino: Ino, mode: u32) -> Self {
        Self {
            ino,
            mode,
            uid: Uid(0),
            gid: Gid(0),
            rdev: DevId::default(),
            nlink: 1,
            size: 0,
            flags: InodeFlags::empty(),
            time: crate::time::now_coarse(),
            mapping: None,
        }
    }
}

impl Inode {
    /// Makes an inode of `sb`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(sb: Arc<SuperBlock>, init: InodeInit, ops: impl InodeOps + 'static) -> Result<Arc<Self>> {
        let t = init.time;
        let ops: Box<dyn InodeOps> = try_box(ops)?;
        // As in `SuperBlock::new_stacked`.
        let rwsem = match sb.stack_depth() {
            0 => RwSemaphore::new(()),
            1 => RwSemaphore::new(()),
            _ => RwSemaphore::new(()),
        };
        Ok(try_arc(Self {
            sb,
            ino: init.ino,
            mode: AtomicU32::new(init.mode),
            uid: AtomicU32::new(init.uid.0),
            gid: AtomicU32::new(init.gid.0),
            nlink: AtomicU32::new(init.nlink),
            flags: AtomicU32::new(init.flags.bits()),
            rdev: init.rdev,
            size: AtomicU64::new(init.size),
            blocks: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            times: SpinLock::new(Times { atime: t, mtime: t, ctime: t, btime: t, version: 0 }),
            rwsem,
            ops,
            mapping: init.mapping,
            link: Once::new(),
            locks: Once::new(),
            pipe: SpinLock::new(None),
            write_count: core::sync::atomic::AtomicI32::new(0),
            read_count: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            write_hint: AtomicU8::new(0),
            notify: Watched::default(),
        })?)
    }

    /// The file system.
    #[inline]
    pub fn sb(&self) -> &Arc<SuperBlock> {
        &self.sb
    }

    /// The inode number.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Type and permissions.
    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }

    /// Changes the permission bits; the type stays.
    pub fn set_permissions(&self, mode: u32) {
        let kind = self.mode() & raw::S_IFMT;
        self.mode.store(kind | mode & !raw::S_IFMT, Ordering::Relaxed);
    }

    /// The type.
    #[inline]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode()).unwrap_or(FileType::Regular)
    }

    /// Whether this is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.mode() & raw::S_IFMT == raw::S_IFDIR
    }

    /// Whether this is a regular file.
    #[inline]
    pub fn is_regular(&self) -> bool {
        self.mode() & raw::S_IFMT == raw::S_IFREG
    }

    /// Whether this is a symbolic link.
    #[inline]
    pub fn is_symlink(&self) -> bool {
        self.mode() & raw::S_IFMT == raw::S_IFLNK
    }

    /// The owner.
    pub fn uid(&self) -> Uid {
        Uid(self.uid.load(Ordering::Relaxed))
    }

    /// The group.
    pub fn gid(&self) -> Gid {
        Gid(self.gid.load(Ordering::Relaxed))
    }

    /// Changes owner and group.
    pub fn set_owner(&self, uid: Uid, gid: Gid) {
        self.uid.store(uid.0, Ordering::Relaxed);
        self.gid.store(gid.0, Ordering::Relaxed);
    }

    /// The device a device node stands for.
    pub fn rdev(&self) -> DevId {
        self.rdev
    }

    /// Number of names.
    pub fn nlink(&self) -> u32 {
        self.nlink.load(Ordering::Relaxed)
    }

    /// Sets the number of names.
    pub fn set_nlink(&self, nlink: u32) {
        self.nlink.store(nlink, Ordering::Relaxed);
    }

    /// One more name.
    pub fn inc_nlink(&self) {
        self.nlink.fetch_add(1, Ordering::Relaxed);
    }

    /// One name less.
    pub fn drop_nlink(&self) {
        let _ = self.nlink.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |links| links.checked_sub(1));
    }

    /// The size in bytes; the page cache keeps it, if there is one.
    #[inline]
    pub fn size(&self) -> u64 {
        match &self.mapping {
            Some(mapping) => mapping.size(),
            None => self.size.load(Ordering::Acquire),
        }
    }

    /// Sets the size; the caller holds `rwsem` for writing.
    pub fn set_size(&self, size: u64) {
        match &self.mapping {
            Some(mapping) => mapping.set_size(size),
            None => self.size.store(size, Ordering::Release),
        }
    }

    /// Allocated space in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Sets the allocated space.
    pub fn set_blocks(&self, blocks: u64) {
        self.blocks.store(blocks, Ordering::Relaxed);
    }

    /// Changes the allocated space by `delta` units of 512 bytes.
    pub fn add_blocks(&self, delta: i64) {
        self.blocks.fetch_add(delta as u64, Ordering::Relaxed);
    }

    /// The flags.
    #[inline]
    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Sets flags; returns what was set before.
    pub fn insert_flags(&self, flags: InodeFlags) -> InodeFlags {
        InodeFlags::from_bits_retain(self.flags.fetch_or(flags.bits(), Ordering::AcqRel))
    }

    /// Clears flags.
    pub fn remove_flags(&self, flags: InodeFlags) {
        self.flags.fetch_and(!flags.bits(), Ordering::AcqRel);
    }

    /// The times.
    pub fn times(&self) -> Times {
        *self.times.lock()
    }

    /// Changes the times.
    pub fn update_times(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.times.lock());
    }

    /// Modification and change time are now (an entry was added, data was written).
    pub fn touch_mtime(&self) {
        let now = self.now();
        self.update_times(|t| {
            t.mtime = now;
            t.ctime = now;
            t.version = t.version.wrapping_add(1);
        });
    }

    /// The change time is now (attributes or links changed).
    pub fn touch_ctime(&self) {
        let now = self.now();
        self.update_times(|t| {
            t.ctime = now;
            t.version = t.version.wrapping_add(1);
        });
    }

    /// The present time in this file system's granularity.
    pub fn now(&self) -> Timestamp {
        crate::time::now_coarse().truncated(self.sb.time_granularity_ns())
    }

    /// The file system's operations.
    #[inline]
    pub fn ops(&self) -> &dyn InodeOps {
        &*self.ops
    }

    /// The file system's own data, if it is a `T`.
    pub fn private<T: Any>(&self) -> Option<&T> {
        let ops: &dyn Any = &*self.ops;
        ops.downcast_ref()
    }

    /// The page cache of this inode.
    #[inline]
    pub fn mapping(&self) -> Option<&Arc<mm::filemap::Mapping>> {
        self.mapping.as_ref()
    }

    /// The target of a symbolic link that is kept in memory.
    pub fn cached_link(&self) -> Option<&Arc<[u8]>> {
        self.link.get()
    }

    /// Keeps the target of a symbolic link in memory, so that the walk need not ask again.
    pub fn set_cached_link(&self, target: Arc<[u8]>) {
        let _ = self.link.set(target);
    }

    /// File locks of this inode.
    pub fn locks(&self) -> Option<&LockContext> {
        self.locks.get().map(|b| &**b)
    }

    /// File locks of this inode, made on first use.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn locks_or_new(self: &Arc<Self>) -> Result<&LockContext> {
        if let Some(locks) = self.locks.get() {
            return Ok(locks);
        }
        let fresh = try_box(LockContext::new())?;
        Ok(self.locks.call_once(|| {
            crate::lock::show::remember(self);
            fresh
        }))
    }

    /// The pipe of a FIFO, if somebody has it open.
    pub(crate) fn pipe(&self) -> &SpinLock<Option<Arc<Pipe>>> {
        &self.pipe
    }

    /// Attributes as `stat(2)` shows them, from the fields of this inode.
    pub fn fill_stat(&self) -> Kstat {
        let times = self.times();
        Kstat {
            result_mask: raw::STATX_BASIC_STATS,
            mode: self.mode(),
            nlink: self.nlink(),
            blksize: self.sb.block_size(),
            attributes: 0,
            attributes_mask: 0,
            ino: self.ino,
            dev: self.sb.dev(),
            rdev: self.rdev,
            uid: self.uid().0,
            gid: self.gid().0,
            size: self.size(),
            atime: times.atime,
            mtime: times.mtime,
            ctime: times.ctime,
            btime: times.btime,
            blocks: self.blocks(),
            mnt_id: 0,
            dio_mem_align: 0,
            dio_offset_align: 0,
            subvol: 0,
        }
    }

    /// Denies writing while a program runs from the file (`ETXTBSY` when somebody writes).
    pub fn deny_write_access(&self) -> Result<()> {
        self.write_count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n <= 0).then_some(n - 1))
            .map(drop)
            .map_err(|_| abi::Errno::ETXTBSY)
    }

    /// Ends [`Inode::deny_write_access`].
    pub fn allow_write_access(&self) {
        self.write_count.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a writer; `ETXTBSY` while a program runs from the file.
    pub fn get_write_access(&self) -> Result<()> {
        self.write_count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n >= 0).then_some(n + 1))
            .map(drop)
            .map_err(|_| abi::Errno::ETXTBSY)
    }

    /// Whether it is open for writing `writers` times, for reading only `readers` times, and not running.
    pub(crate) fn only_opens(&self, writers: i64, readers: u32) -> bool {
        i64::from(self.write_count.load(Ordering::SeqCst)) == writers
            && self.read_count.load(Ordering::SeqCst) == readers
    }

    /// Whether somebody has it open for writing.
    pub fn has_writers(&self) -> bool {
        self.write_count.load(Ordering::Acquire) > 0
    }

    /// Ends [`Inode::get_write_access`].
    pub fn put_write_access(&self) {
        self.write_count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether `dentries` of it and what does not count as a use (marks, dentries that are going) are all that keeps it.
    pub(crate) fn is_unused_but_for(self: &Arc<Self>, dentries: usize) -> bool {
        let idle = self.idle.load(Ordering::Acquire) as usize;
        Arc::strong_count(self) == dentries + idle + self.notify.pins()
    }

    /// Lets the file system release what the inode stands for, once.
    pub(crate) fn evict(&self) {
        if self.claim_eviction() {
            self.ops.evict(self);
        }
    }

    /// Marks the inode as evicted; `false` if it was before. Who marks it calls `InodeOps::evict`.
    pub(crate) fn claim_eviction(&self) -> bool {
        !self.insert_flags(InodeFlags::EVICTED).contains(InodeFlags::EVICTED)
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.evict();
    }
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inode({} {:?} {:o})", self.ino, self.file_type(), self.mode())
    }
}
