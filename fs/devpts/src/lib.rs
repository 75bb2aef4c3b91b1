//! devpts: where the slaves of pseudo terminals have their names. `pts(4)`.
//!
//! Each mount is an [`Instance`] of its own, with its own numbers and its own `ptmx`. The terminals themselves are
//! the driver's (`drivers::tty`): opening `ptmx` (5:2) or a slave (136:N) goes to it through the registry of character
//! devices. It asks here for a number ([`Instance::reserve`]), gives the number a name ([`Reserved::publish`]), and finds
//! behind a slave's inode the object that it put there ([`object_of`]).
//!
//! Lock: `Instance::state`, a leaf. Names appear and go without a directory operation, so missing names are not cached and
//! a removed name is taken out of the dentry cache here.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod inode;
mod options;

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::fs::{DevId, Statfs};
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use collections::idalloc::IdAlloc;
use vfs::namei::lookup::{follow_down, lookup_one};
use vfs::super_block::{MountRequest, SuperBlock, SuperInfo, SuperOps};
use vfs::types::MAX_LFS_FILESIZE;
use vfs::{Credentials, FsFlags, FsType, Inode, Path, dcache};

use mm::fallible::{SortedMap, try_arc, try_box};
use options::Options;

/// Most terminals of all instances together (`/proc/sys/kernel/pty/max`).
pub static PTY_LIMIT: AtomicU32 = AtomicU32::new(4096);
/// Of these, how many are kept for the first instance (`/proc/sys/kernel/pty/reserve`).
pub static PTY_RESERVE: AtomicU32 = AtomicU32::new(1024);
static PTY_COUNT: AtomicU32 = AtomicU32::new(0);

/// Terminals there are (`/proc/sys/kernel/pty/nr`).
pub fn pty_count() -> u32 {
    PTY_COUNT.load(Ordering::Relaxed)
}

/// The most numbers an instance can have.
const NUMBER_MAX: u32 = 1 << 20;

/// The file system type.
pub struct Devpts;

/// The type, for [`vfs::register_filesystem`].
pub static DEVPTS: Devpts = Devpts;

struct State {
    numbers: IdAlloc,
    slaves: SortedMap<u32, Arc<Inode>>,
    options: Options,
}

/// One mounted devpts.
pub struct Instance {
    state: SpinLock<State>,
    sb: SpinLock<Weak<SuperBlock>>,
    /// Mounted in the initial user namespace: may use the reserve.
    privileged: bool,
}

struct DevptsSuper(Arc<Instance>);

impl FsType for Devpts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::USERNS_MOUNT
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let options = Options::default().with(request.options)?;
        let state = State { numbers: IdAlloc::new(0, NUMBER_MAX), slaves: SortedMap::new(), options };
        let instance = try_arc(Instance {
            state: SpinLock::new(state),
            sb: SpinLock::new(Weak::new()),
            privileged: request.user_ns.is_initial(),
        })?;
        let info = SuperInfo {
            magic: u64::from(raw::DEVPTS_SUPER_MAGIC),
            block_size: PAGE_SIZE as u32,
            max_bytes: MAX_LFS_FILESIZE,
            time_granularity_ns: 1,
            flags: request.flags,
            dev: None,
        };
        let ops = try_box(DevptsSuper(instance.clone()))?;
        let sb = SuperBlock::new(&DEVPTS, info, request.user_ns.clone(), ops)?;
        *instance.sb.lock() = Arc::downgrade(&sb);
        sb.set_root(inode::new_root(&sb, &instance)?)?;
        Ok(sb)
    }
}

impl SuperOps for DevptsSuper {
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs> {
        Ok(vfs::anon::simple_statfs(sb))
    }

    fn remount(&self, sb: &SuperBlock, _: u32, text: &[u8]) -> Result<()> {
        // What is not given goes back to its default, as on Linux.
        let options = Options::default().with(text)?;
        if let Some(root) = sb.root().as_ref().and_then(|root| root.inode()) {
            inode::set_ptmx_mode(root, options.ptmx_mode);
        }
        self.0.state.lock().options = options;
        Ok(())
    }

    fn show_options(&self, _: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let options = self.0.state.lock().options.clone();
        options.show(out)
    }
}

/// The instance that an opened `ptmx` belongs to: the file system it lies on, or else the devpts mounted on `pts` beside it
/// (`/dev/ptmx` and `/dev/pts`). `ENODEV` if there is none.
pub fn instance_for(ptmx: &Path) -> Result<Arc<Instance>> {
    if let Some(super_data) = ptmx.dentry.sb().private::<DevptsSuper>() {
        return Ok(super_data.0.clone());
    }
    let parent = ptmx.dentry.parent().ok_or(Errno::ENODEV)?;
    let beside = lookup_one(&parent, b"pts")?;
    if beside.is_negative() {
        return Err(Errno::ENODEV);
    }
    let pts = follow_down(Path::new(ptmx.mnt.clone(), beside));
    if !pts.is_mount_root() {
        return Err(Errno::ENODEV);
    }
    let super_data = pts.dentry.sb().private::<DevptsSuper>().ok_or(Errno::ENODEV)?;
    Ok(super_data.0.clone())
}

/// The object behind a slave's inode; none for other inodes.
pub fn object_of(inode: &Inode) -> Option<Arc<dyn Any + Send + Sync>> {
    inode::object_of(inode)
}

impl Instance {
    /// Takes the lowest free number; `ENOSPC` when there is none, here or in the system.
    pub fn reserve(self: &Arc<Self>) -> Result<Reserved> {
        let reserve = if self.privileged { 0 } else { PTY_RESERVE.load(Ordering::Relaxed) };
        let limit = PTY_LIMIT.load(Ordering::Relaxed).saturating_sub(reserve);
        PTY_COUNT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .map_err(|_| Errno::ENOSPC)?;
        let number = {
            let mut state = self.state.lock();
            let max = state.options.max;
            state.numbers.alloc_range(0, max)
        };
        match number {
            Ok(index) => Ok(Reserved { instance: self.clone(), index, published: false }),
            Err(_) => {
                PTY_COUNT.fetch_sub(1, Ordering::Relaxed);
                Err(Errno::ENOSPC)
            }
        }
    }

    fn free(&self, index: u32) {
        self.state.lock().numbers.free(index);
        PTY_COUNT.fetch_sub(1, Ordering::Relaxed);
    }

    fn remove(&self, index: u32) {
        let slave = self.state.lock().slaves.remove(&index);
        let Some(slave) = slave else { return };
        slave.drop_nlink();
        let sb = self.sb.lock().upgrade();
        if let Some(root) = sb.and_then(|sb| sb.root()) {
            if let Some(dentry) = dcache::lookup(&root, inode::Decimal::of(index).as_bytes()) {
                dcache::d_drop(&dentry);
            }
            if let Some(dir) = root.inode() {
                dir.touch_mtime();
            }
        }
    }
}

/// A number that has no name yet; given back when dropped.
pub struct Reserved {
    instance: Arc<Instance>,
    index: u32,
    published: bool,
}

impl Reserved {
    /// The number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Gives the number its name: a character device node for `dev`, owned by `cred` unless the mount says otherwise, with `object`
    /// behind it.
    pub fn publish(
        mut self,
        cred: &Credentials,
        dev: DevId,
        object: Arc<dyn Any + Send + Sync>,
    ) -> Result<PtsName> {
        let instance = self.instance.clone();
        let sb = instance.sb.lock().upgrade().ok_or(Errno::ENODEV)?;
        let slave = inode::new_slave(&sb, &instance, self.index, cred, dev, object)?;
        instance.state.lock().slaves.try_insert(self.index, slave)?;
        if let Some(dir) = sb.root().and_then(|root| root.inode().cloned()) {
            dir.touch_mtime();
        }
        self.published = true;
        Ok(PtsName { instance, index: self.index })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.published {
            self.instance.free(self.index);
        }
    }
}

/// The name of a slave; it goes, with its number, when this is dropped.
pub struct PtsName {
    instance: Arc<Instance>,
    index: u32,
}

impl PtsName {
    /// The number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The place of the slave as seen through the mount of the master (`TIOCGPTPEER`): `ptmx` is what the master was opened as.
    pub fn path(&self, ptmx: &Path) -> Result<Path> {
        let root = match ptmx.dentry.sb().private::<DevptsSuper>() {
            Some(_) => ptmx.mnt.root_path(),
            None => {
                let parent = ptmx.dentry.parent().ok_or(Errno::ENODEV)?;
                follow_down(Path::new(ptmx.mnt.clone(), lookup_one(&parent, b"pts")?))
            }
        };
        let dentry = lookup_one(&root.dentry, inode::Decimal::of(self.index).as_bytes())?;
        if dentry.is_negative() {
            return Err(Errno::EIO);
        }
        Ok(Path::new(root.mnt, dentry))
    }
}

impl Drop for PtsName {
    fn drop(&mut self) {
        self.instance.remove(self.index);
        self.instance.free(self.index);
    }
}
