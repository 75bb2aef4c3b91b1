//! A mounted overlay: its layers, how inode numbers of theirs become its own, and the table of its inodes.
//!
//! # Inode numbers
//!
//! With all layers on one file system the numbers of the real inodes are used as they are. Otherwise, with `xino=on` or `auto`, the
//! highest bits say which file system a number is from; without, files have the number and a device number of their file system's
//! own, and directories have numbers that are made up.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::fs::{DevId, Statfs};
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::SortedMap;
use vfs::fs_context::Log;
use vfs::inode::InodeFlags;
use vfs::mount::Mount;
use vfs::path::Path;
use vfs::stat;
use vfs::super_block::{AnonymousDev, SB_RDONLY, SuperBlock, SuperOps, sync_one};
use vfs::types::Kstat;
use vfs::{Credentials, Dentry, Ino, Inode};

use crate::options::{Config, Fsync, Uuid};

/// A lower layer.
pub(crate) struct Layer {
    /// A mount of it of our own.
    pub(crate) mnt: Arc<Mount>,
    pub(crate) root: Arc<Dentry>,
    /// Which file system it is on; 0 is that of the upper layer.
    pub(crate) fsid: u32,
    /// Whiteouts that are attributes were seen in it.
    pub(crate) xwhiteouts: AtomicBool,
}

/// A directory in a lower layer, or whatever else a name stands for there.
#[derive(Clone)]
pub(crate) struct Lower {
    /// Index in [`Fs::layers`].
    pub(crate) layer: usize,
    pub(crate) dentry: Arc<Dentry>,
}

/// The upper layer and its work directory.
pub(crate) struct Upper {
    pub(crate) mnt: Arc<Mount>,
    pub(crate) root: Arc<Dentry>,
    /// `workdir=`.
    pub(crate) base: Arc<Dentry>,
    /// The directory `work` in it; none if it could not be made, and the mount is read-only for that.
    pub(crate) work: Option<Arc<Dentry>>,
    /// Which of both were marked as in use by this mount.
    pub(crate) marked: [AtomicBool; 2],
    /// It can make files without a name.
    pub(crate) tmpfile: bool,
}

/// A file system that layers are on.
pub(crate) struct LayerFs {
    pub(crate) sb: DevId,
    /// The device number that its files have here, if numbers are not mapped.
    pub(crate) dev: DevId,
    /// What that number is taken from.
    pub(crate) _own: Option<AnonymousDev>,
}

/// How numbers of layers are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// All layers are on one file system.
    Same,
    /// So many high bits say which file system a number is from.
    Bits(u32),
    /// Not at all.
    Apart,
}

/// A mounted overlay. See the module text.
pub(crate) struct Fs {
    pub(crate) config: Config,
    /// Who mounted it.
    pub(crate) cred: Arc<Credentials>,
    pub(crate) upper: Option<Upper>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) systems: Vec<LayerFs>,
    pub(crate) numbers: Numbers,
    /// Our attributes cannot be set in the upper layer.
    pub(crate) no_xattr: bool,
    /// Who mounted it may do everything in every layer, so nobody needs to ask.
    pub(crate) almighty: bool,
    /// Directories that layers begin at: none may turn up inside of another one.
    pub(crate) traps: Vec<Arc<Inode>>,
    /// Inodes by the address of the real inode that they are known by.
    pub(crate) inodes: SpinLock<SortedMap<usize, Weak<Inode>>>,
    /// Temporary names, made-up inode numbers.
    pub(crate) counter: AtomicU64,
}

/// The right to write to the upper layer, while it lives.
pub(crate) struct Writing<'a>(&'a Mount);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.put_write();
    }
}

/// The upper layer, ready to be changed.
pub(crate) struct Change<'a> {
    pub(crate) fs: &'a Fs,
    pub(crate) mnt: &'a Arc<Mount>,
    pub(crate) work: &'a Arc<Dentry>,
    pub(crate) tmpfile: bool,
    _writing: Writing<'a>,
}

impl Fs {
    /// Begins a change of the upper layer.
    ///
    /// # Errors
    /// `EROFS`.
    pub(crate) fn change(&self) -> Result<Change<'_>> {
        let upper = self.upper.as_ref().ok_or(Errno::EROFS)?;
        let work = upper.work.as_ref().ok_or(Errno::EROFS)?;
        upper.mnt.get_write()?;
        let _writing = Writing(&upper.mnt);
        Ok(Change { fs: self, mnt: &upper.mnt, work, tmpfile: upper.tmpfile, _writing })
    }

    /// Whether the upper layer may be changed while nothing is mounted: nothing is assumed about it then.
    pub(crate) fn allows_offline_changes(&self) -> bool {
        !self.config.makes_redirects() && self.config.xino != crate::options::Xino::On
    }

    /// Whether what was written must reach the disk when asked for.
    pub(crate) fn syncs(&self) -> bool {
        self.config.fsync != Fsync::Volatile
    }

    /// Our name of a number of file system `fsid`, if numbers are mapped and this one can be.
    pub(crate) fn map_ino(&self, ino: Ino, fsid: u32) -> Option<Ino> {
        match self.numbers {
            Numbers::Same => Some(ino),
            Numbers::Bits(bits) => {
                let shift = 64 - bits;
                (ino >> shift == 0).then_some(ino | u64::from(fsid) << (shift + 1))
            }
            Numbers::Apart => None,
        }
    }

    /// The number of a new inode here that is known by real inode `real`.
    pub(crate) fn inode_number(&self, real: &Inode, fsid: u32) -> Ino {
        if let Some(mapped) = self.map_ino(real.ino(), fsid) {
            return mapped;
        }
        if !real.is_dir() {
            return real.ino();
        }
        let made_up = self.counter.fetch_add(1, Ordering::Relaxed);
        match self.numbers {
            // The lowest of the bits is for those.
            Numbers::Bits(bits) => made_up & (u64::MAX >> bits) | 1 << (64 - bits),
            _ => made_up,
        }
    }

    /// Turns device and number of a real inode into those of `inode`.
    pub(crate) fn map_stat(&self, inode: &Inode, stat: &mut Kstat, fsid: u32) {
        if let Some(mapped) = self.map_ino(stat.ino, fsid) {
            stat.ino = mapped;
            stat.dev = inode.sb().dev();
        } else if inode.is_dir() {
            stat.ino = inode.ino();
            stat.dev = inode.sb().dev();
        } else if let Some(system) = self.systems.get(fsid as usize) {
            stat.dev = system.dev;
        }
    }

    /// Whether `inode` is where one of our layers begins.
    pub(crate) fn is_trap(&self, inode: &Arc<Inode>) -> bool {
        self.traps.iter().any(|trap| Arc::ptr_eq(trap, inode))
    }
}

impl Change<'_> {
    /// `dentry` of the upper layer as a place.
    pub(crate) fn path(&self, dentry: &Arc<Dentry>) -> Path {
        Path::new(self.mnt.clone(), dentry.clone())
    }

    /// Who mounted it.
    pub(crate) fn cred(&self) -> &Arc<Credentials> {
        &self.fs.cred
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        self.unmark();
    }
}

impl Upper {
    /// The directories are free for others.
    fn unmark(&self) {
        for (dentry, marked) in [&self.root, &self.base].into_iter().zip(&self.marked) {
            if marked.swap(false, Ordering::Relaxed)
                && let Some(inode) = dentry.inode()
            {
                inode.remove_flags(InodeFlags::UNION_INUSE);
            }
        }
    }
}

/// The super block's part.
pub(crate) struct Super(pub(crate) Arc<Fs>);

impl SuperOps for Super {
    fn statfs(&self, _: &SuperBlock) -> Result<Statfs> {
        let fs = &self.0;
        let path = match (&fs.upper, fs.layers.first()) {
            (Some(upper), _) => Path::new(upper.mnt.clone(), upper.root.clone()),
            (None, Some(layer)) => Path::new(layer.mnt.clone(), layer.root.clone()),
            (None, None) => return Err(Errno::EIO),
        };
        let mut st = stat::statfs(&path)?;
        st.type_ = i64::from(raw::OVERLAYFS_SUPER_MAGIC);
        if fs.config.uuid == Uuid::On {
            st.fsid = [0, 0];
        }
        Ok(st)
    }

    fn sync_fs(&self, _: &SuperBlock, wait: bool) -> Result<()> {
        match &self.0.upper {
            Some(upper) if wait && self.0.syncs() => sync_one(upper.mnt.sb()),
            _ => Ok(()),
        }
    }

    fn reconfigure(&self, sb: &SuperBlock, flags: u32, _: &[u8], _: &mut Log) -> Result<()> {
        let writable = self.0.upper.as_ref().is_some_and(|upper| upper.work.is_some());
        if flags & SB_RDONLY == 0 && !writable {
            return Err(Errno::EROFS);
        }
        if flags & SB_RDONLY != 0
            && !sb.is_read_only()
            && let Some(upper) = &self.0.upper
            && self.0.syncs()
        {
            return sync_one(upper.mnt.sb());
        }
        Ok(())
    }

    fn show_options(&self, _: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.config.show(self.0.numbers == Numbers::Same, out)
    }

    fn put_super(&self, _: &SuperBlock) {
        if let Some(upper) = &self.0.upper {
            upper.unmark();
        }
    }
}
