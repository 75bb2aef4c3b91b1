//! Inodes in memory.
//!
//! A [`Node`] is what the file system knows of an inode. The VFS' inode has it behind its operations ([`ops`]), its page cache has it
//! to read and write ([`crate::data`]).
//!
//! | file | what |
//! |---|---|
//! | [`load`] | from the device into memory, with all checks (`iget`) |
//! | [`ops`] | what the VFS asks of an inode |
//! | [`attr`] | `stat(2)`, `chattr(1)` |
//!
//! Locks: `tree` is held for reading while the extent tree or the addresses are walked, and for writing while they change; inside of
//! the VFS' `rwsem` and of folio locks. The spin locks of the root and of the status cache are leaves.

pub mod attr;
pub mod load;
pub mod ops;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Result;
use arch::sync::SpinLock;
use sched::mutex::RwSemaphore;
use sync::Once;
use vfs::Inode;

use crate::disk::checksum::InodeSeed;
use crate::disk::inode::{BLOCK_BYTES, Flags};
use crate::error::EFSCORRUPTED;
use crate::extents::status::StatusCache;
use crate::fs::Fs;

/// What the file system knows of an inode. See the module text.
pub struct Node {
    /// The file system.
    pub fs: Arc<Fs>,
    /// Its number.
    pub ino: u32,
    /// Its generation.
    pub generation: u32,
    /// What the checksums of its blocks begin with.
    pub seed: InodeSeed,
    /// Bytes of the extra fields that it has on the device.
    pub extra_isize: u16,
    /// The project that it counts for.
    pub project: AtomicU32,
    /// Size on the device (`i_disksize`).
    pub disk_size: AtomicU64,
    flags: AtomicU32,
    file_acl: AtomicU64,
    root: SpinLock<[u8; BLOCK_BYTES]>,
    /// See the module text.
    pub tree: RwSemaphore<()>,
    /// Where its blocks are, as far as was asked.
    pub status: StatusCache,
    inode: Once<Weak<Inode>>,
}

impl Node {
    /// Its flags (`i_flags`).
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes its flags in memory: sets those of `set` and clears those of `clear`.
    pub fn change_flags(&self, set: Flags, clear: Flags) {
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |flags| {
            Some(flags & !clear.bits() | set.bits())
        });
    }

    /// Its block of extended attributes; 0: none.
    pub fn file_acl(&self) -> u64 {
        self.file_acl.load(Ordering::Relaxed)
    }

    /// Changes its block of extended attributes in memory.
    pub fn set_file_acl(&self, block: u64) {
        self.file_acl.store(block, Ordering::Relaxed);
    }

    /// `i_block`: addresses, the root of the extent tree, a short link, or data.
    pub fn root(&self) -> [u8; BLOCK_BYTES] {
        *self.root.lock()
    }

    /// Changes `i_block` in memory. Where it is a tree, `tree` is held for writing.
    pub fn change_root<R>(&self, change: impl FnOnce(&mut [u8; BLOCK_BYTES]) -> R) -> R {
        change(&mut self.root.lock())
    }

    /// The VFS' inode; none when it is going.
    pub fn inode(&self) -> Option<Arc<Inode>> {
        self.inode.get()?.upgrade()
    }

    /// Reads the inode as it is on the device: `f` gets all its bytes.
    ///
    /// # Errors
    /// Those of the device.
    pub fn with_raw<R>(&self, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        self.fs.with_raw_inode(self.ino, f)
    }
}

impl Fs {
    /// Reads an inode as it is on the device: `f` gets all its bytes.
    ///
    /// # Errors
    /// Those of the device; `EUCLEAN`: there is no such inode.
    pub fn with_raw_inode<R>(&self, ino: u32, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        let (block, offset) = self.inode_place(ino)?;
        let block = self.read_table(block, ino)?.data();
        let end = offset + usize::from(self.layout.inode_size);
        f(block.bytes().get(offset..end).ok_or(EFSCORRUPTED)?)
    }
}

/// The file system's part of a VFS inode of this crate.
///
/// # Errors
/// `EXDEV`: it is another file system's.
pub fn node(inode: &Inode) -> Result<&Arc<Node>> {
    inode.private::<ops::Ext4Inode>().map(|ops| &ops.0).ok_or(abi::Errno::EXDEV)
}
