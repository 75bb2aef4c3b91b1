//! One mounted file system, however many places it is mounted at.
//!
//! Owns: the root dentry, flags, device number and the file system's data behind [`SuperOps`].
//! A super block is *active* while a [`crate::mount::Mount`] of it exists. When the last one goes,
//! [`SuperBlock::deactivate`] drops the cached dentries and calls `put_super`.
//!
//! Lock: `umount` is held for writing while flags change (remount) and during shutdown.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::fs::{DevId, Statfs};
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use collections::idalloc::IdAlloc;
use sched::mutex::RwSemaphore;

use crate::cred::UserNamespace;
use crate::dcache;
use crate::dentry::Dentry;
use crate::export::ExportOps;
use crate::fs_context::Log;
use crate::fs_type::FsType;
use crate::notify::Watched;
use mm::fallible::{TryCollect, TryVec, try_arc};

/// Flags of a super block that `mount(2)` may set (`SB_*`, same values as `MS_*`).
pub const SB_RDONLY: u32 = raw::MS_RDONLY;
/// The kernel's own: users cannot mount it, and no rule names what is on it.
pub const SB_NOUSER: u32 = raw::MS_NOUSER;
/// Writes are synchronous.
pub const SB_SYNCHRONOUS: u32 = raw::MS_SYNCHRONOUS;
/// Directory changes are synchronous.
pub const SB_DIRSYNC: u32 = raw::MS_DIRSYNC;
/// Times are written lazily.
pub const SB_LAZYTIME: u32 = raw::MS_LAZYTIME;
/// Access control lists are honoured.
pub const SB_POSIXACL: u32 = raw::MS_POSIXACL;
/// Those that a remount may change.
pub const MS_RMT_MASK: u32 = SB_RDONLY | SB_SYNCHRONOUS | raw::MS_MANDLOCK | raw::MS_I_VERSION | SB_LAZYTIME;

/// What a file system implements for the whole of it.
#[allow(unused_variables)]
pub trait SuperOps: Any + Send + Sync {
    /// Space and inodes for `statfs(2)`; `type_`, `bsize`, `namelen` and `frsize` must be set.
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs>;

    /// Writes everything to the backing store: what its files have in the page cache (`mm::writeback::BackingDevice::sync` of its group), its
    /// metadata, and what the device has in its cache.
    fn sync_fs(&self, sb: &SuperBlock, wait: bool) -> Result<()> {
        Ok(())
    }

    /// Applies new flags and options (`mount -o remount`).
    fn remount(&self, sb: &SuperBlock, flags: u32, options: &[u8]) -> Result<()> {
        Ok(())
    }

    /// The same with a place for explanations; what `mount(2)` and `fsconfig(2)` call.
    fn reconfigure(&self, sb: &SuperBlock, flags: u32, options: &[u8], log: &mut Log) -> Result<()> {
        let _ = log;
        self.remount(sb, flags, options)
    }

    /// Options for `/proc/mounts`, each with a leading comma.
    fn show_options(&self, sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    /// Another device name for `/proc/mounts` than the one given to mount.
    fn show_devname(&self, out: &mut dyn fmt::Write) -> Option<fmt::Result> {
        None
    }

    /// `umount -f`: gives up on what is in flight.
    fn umount_begin(&self, sb: &SuperBlock) {}

    /// How inodes are found by file handles, if they are.
    fn export(&self) -> Option<&dyn ExportOps> {
        None
    }

    /// The last mount is gone; dentries have been dropped.
    fn put_super(&self, sb: &SuperBlock) {}
}

/// A mounted file system. See the module text.
pub struct SuperBlock {
    fs_type: &'static dyn FsType,
    dev: DevId,
    _anonymous: Option<AnonymousDev>,
    magic: u64,
    block_size: u32,
    max_bytes: u64,
    time_granularity_ns: u32,
    flags: AtomicU32,
    root: SpinLock<Option<Arc<Dentry>>>,
    active: AtomicUsize,
    ops: Box<dyn SuperOps>,
    /// See the module text.
    pub umount: RwSemaphore<()>,
    user_ns: Arc<UserNamespace>,
    /// What `statx(2)`, `FS_IOC_GETUUID` and file ids use.
    pub uuid: [u8; 16],
    /// One rename between directories at a time (`s_vfs_rename_mutex`).
    pub(crate) rename_mutex: sched::mutex::Mutex<()>,
    /// Marks of fanotify.
    pub notify: Watched,
    /// See [`SuperBlock::stack_depth`].
    stack_depth: u32,
}

/// How many file systems may stand on each other (`FILESYSTEM_MAX_STACK_DEPTH`).
pub const MAX_STACK_DEPTH: u32 = 2;

/// What is special about a file system that stands on others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stacked {
    /// One more than the deepest of those it stands on.
    pub depth: u32,
    /// See [`SuperBlock::uuid`].
    pub uuid: [u8; 16],
}

/// Facts that a file system gives when it makes its super block.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SuperInfo {
    pub magic: u64,
    pub block_size: u32,
    pub max_bytes: u64,
    pub time_granularity_ns: u32,
    pub flags: u32,
    /// The block device; none for file systems without one, which get an anonymous number.
    pub dev: Option<DevId>,
}

/// Every super block that is in use.
static ALL: SpinLock<Vec<Weak<SuperBlock>>> = SpinLock::new(Vec::new());

/// `sync(2)`: writes every file system to its backing store.
pub fn sync_all() {
    // `sync(2)` has no way to say that it did not.
    let _no_fail = mm::context::NoFailScope::enter();
    // All devices at once, before anybody is waited for.
    mm::writeback::devices::for_each(&mut |device| {
        let _ = device.start_sync(None);
    });
    let live = ALL.lock().iter().filter_map(Weak::upgrade).try_collect_vec().unwrap_or_default();
    for sb in live.iter().filter(|sb| !sb.is_read_only()) {
        if let Err(error) = sync_one(sb) {
            log::warn!("{}: sync failed: {error}", sb.fs_type.name());
        }
    }
    mm::writeback::devices::for_each(&mut |device| {
        if let Err(error) = device.sync(None) {
            log::warn!("{}: sync failed: {error}", device.name());
        }
    });
}

/// The super block of a mounted file system with device number `dev`.
pub fn with_device(dev: DevId) -> Option<Arc<SuperBlock>> {
    // An upgraded one that is not the right one must not be dropped under the lock.
    let mut index = 0;
    loop {
        let candidate = {
            let all = ALL.lock();
            let rest = all.get(index..)?;
            let step = rest.iter().position(|sb| sb.strong_count() > 0)?;
            index += step + 1;
            rest.get(step)?.upgrade()
        };
        if let Some(sb) = candidate
            && sb.dev() == dev
            && sb.active() > 0
        {
            return Some(sb);
        }
    }
}

/// `syncfs(2)`.
pub fn sync_one(sb: &SuperBlock) -> Result<()> {
    let _mounted = sb.umount.read();
    sb.ops.sync_fs(sb, true)
}

static ANONYMOUS_MINORS: SpinLock<IdAlloc> = SpinLock::new(IdAlloc::new(1, 1 << 20));

/// A device number of its own that no device has, until it is dropped.
#[derive(Debug)]
pub struct AnonymousDev(u32);

impl AnonymousDev {
    /// A number that nobody has.
    ///
    /// # Errors
    /// `EMFILE` when all are taken.
    pub fn new() -> Result<Self> {
        Ok(Self(ANONYMOUS_MINORS.lock().alloc().map_err(|_| Errno::EMFILE)?))
    }

    /// The number.
    pub fn id(&self) -> DevId {
        DevId::new(0, self.0)
    }
}

impl Drop for AnonymousDev {
    fn drop(&mut self) {
        ANONYMOUS_MINORS.lock().free(self.0);
    }
}

impl SuperBlock {
    /// Makes a super block without a root; the file system then calls [`SuperBlock::set_root`].
    pub fn new(
        fs_type: &'static dyn FsType,
        info: SuperInfo,
        user_ns: Arc<UserNamespace>,
        ops: Box<dyn SuperOps>,
    ) -> Result<Arc<Self>> {
        Self::new_stacked(fs_type, info, user_ns, ops, Stacked::default())
    }

    /// The same for a file system that stands on others.
    pub fn new_stacked(
        fs_type: &'static dyn FsType,
        info: SuperInfo,
        user_ns: Arc<UserNamespace>,
        ops: Box<dyn SuperOps>,
        stacked: Stacked,
    ) -> Result<Arc<Self>> {
        let (dev, _anonymous) = match info.dev {
            Some(dev) => (dev, None),
            None => {
                let own = AnonymousDev::new()?;
                (own.id(), Some(own))
            }
        };
        let sb = try_arc(Self {
            fs_type,
            dev,
            _anonymous,
            magic: info.magic,
            block_size: info.block_size,
            max_bytes: info.max_bytes,
            time_granularity_ns: info.time_granularity_ns,
            flags: AtomicU32::new(info.flags),
            root: SpinLock::new(None),
            active: AtomicUsize::new(0),
            ops,
            // Each level of the stack has lock classes of its own: what stands on others holds its locks while it takes theirs.
            umount: match stacked.depth {
                0 => RwSemaphore::new(()),
                1 => RwSemaphore::new(()),
                _ => RwSemaphore::new(()),
            },
            user_ns,
            uuid: stacked.uuid,
            rename_mutex: match stacked.depth {
                0 => sched::mutex::Mutex::new(()),
                1 => sched::mutex::Mutex::new(()),
                _ => sched::mutex::Mutex::new(()),
            },
            notify: Watched::default(),
            stack_depth: stacked.depth,
        })?;
        let mut all = ALL.lock();
        all.retain(|known| known.strong_count() > 0);
        all.try_push(Arc::downgrade(&sb))?;
        drop(all);
        Ok(sb)
    }

    /// The type it was mounted as.
    pub fn fs_type(&self) -> &'static dyn FsType {
        self.fs_type
    }

    /// Device number (`st_dev`).
    pub fn dev(&self) -> DevId {
        self.dev
    }

    /// `f_type` of `statfs(2)`.
    pub fn magic(&self) -> u64 {
        self.magic
    }

    /// Preferred I/O size.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Largest file.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Granularity of inode times.
    pub fn time_granularity_ns(&self) -> u32 {
        self.time_granularity_ns
    }

    /// `SB_*` flags.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// The flags, seen in one order with the counts of writers.
    #[inline]
    pub(crate) fn flags_ordered(&self) -> u32 {
        self.flags.load(Ordering::SeqCst)
    }

    /// Replaces the `SB_*` flags.
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::SeqCst);
    }

    /// Whether the file system is read-only.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.flags() & SB_RDONLY != 0
    }

    /// How many file systems it stands on, one on the other: 0 for one that stands on a device or in memory.
    #[inline]
    pub fn stack_depth(&self) -> u32 {
        self.stack_depth
    }

    /// The namespace whose root owns the file system.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// The file system's operations.
    pub fn ops(&self) -> &dyn SuperOps {
        &*self.ops
    }

    /// The file system's own data, if it is a `T`.
    pub fn private<T: Any>(&self) -> Option<&T> {
        let ops: &dyn Any = &*self.ops;
        ops.downcast_ref()
    }

    /// The root directory; none before [`SuperBlock::set_root`] and after shutdown.
    pub fn root(&self) -> Option<Arc<Dentry>> {
        self.root.lock().clone()
    }

    /// Makes `inode` the root directory.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_root(self: &Arc<Self>, inode: Arc<crate::inode::Inode>) -> Result<Arc<Dentry>> {
        let root = Dentry::new_root(self, inode)?;
        *self.root.lock() = Some(root.clone());
        Ok(root)
    }

    /// One more mount.
    pub(crate) fn activate(&self) {
        self.active.fetch_add(1, Ordering::AcqRel);
    }

    /// How many mounts there are.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// One mount less; the last one shuts the file system down.
    pub(crate) fn deactivate(self: &Arc<Self>) {
        if self.active.fetch_sub(1, Ordering::AcqRel) == 1 && self.fs_type.kill_on_last_umount(self) {
            self.shutdown();
        }
    }

    /// Drops every cached dentry and lets the file system go.
    pub fn shutdown(self: &Arc<Self>) {
        crate::notify::unmounted(self);
        let _exclusive = self.umount.write();
        if let Err(error) = self.ops.sync_fs(self, true) {
            log::warn!("{}: sync at umount failed: {error}", self.fs_type.name());
        }
        dcache::shrink_super(self);
        let root = self.root.lock().take();
        drop(root);
        self.ops.put_super(self);
    }

    /// The flags part of the options in `/proc/mounts`.
    pub fn show_flags(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let flags = self.flags();
        for (bit, text) in [
            (SB_SYNCHRONOUS, ",sync"),
            (SB_DIRSYNC, ",dirsync"),
            (raw::MS_MANDLOCK, ",mand"),
            (SB_LAZYTIME, ",lazytime"),
        ] {
            if flags & bit != 0 {
                out.write_str(text)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SuperBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SuperBlock({} {:?})", self.fs_type.name(), self.dev)
    }
}

/// Every `key[=value]` of a comma-separated option string.
pub fn parse_options(options: &[u8]) -> impl Iterator<Item = (&str, Option<&str>)> {
    options.split(|b| *b == b',').filter_map(|part| {
        let text = core::str::from_utf8(part).ok()?;
        if text.is_empty() {
            return None;
        }
        Some(match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        })
    })
}

/// What `mount(2)` hands to a file system.
#[derive(Debug)]
pub struct MountRequest<'a> {
    /// `SB_*` flags.
    pub flags: u32,
    /// The device or source text.
    pub source: &'a [u8],
    /// The block device that `source` names, for types that need one ([`crate::fs_type::FsFlags::REQUIRES_DEV`]).
    pub device: Option<DevId>,
    /// Options of the file system.
    pub options: &'a [u8],
    /// The user namespace of the mounter.
    pub user_ns: &'a Arc<UserNamespace>,
    /// Opaque namespace data of the mounter (pid namespace for procfs, …).
    pub private: Option<Arc<dyn Any + Send + Sync>>,
}

impl MountRequest<'_> {}
