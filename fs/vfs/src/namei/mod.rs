//! From names to places: the path walk and the calls that take names. `path_resolution(7)`.
//!
//! # The walk
//!
//! [`walk::Walk`] resolves as many components as it can under RCU: the dentry cache, mounts, `..` and
//! modes are all read without a lock, a reference or a write to shared memory. It takes references
//! only where it stops: at the end, at a symbolic link, or at a component that needs a sleeping step
//! (not cached, or the file system wants to be asked). That one step is done with references held;
//! then the walk goes on under RCU from there.
//!
//! # Locks
//!
//! A name is made or removed with the directory's `rwsem` held for writing; a missed lookup holds
//! it for reading. A rename between directories holds the file system's `rename_mutex`, then the two
//! directories, ancestor first (by address if unrelated), then the inodes that move or go.
//!
//! Files: [`walk`], [`lookup`] (one component, cached or not), [`open`], [`create`] (names that
//! appear), [`remove`], [`rename`], [`dirs`] (working and root directory, `readlink`, `access`), [`inside`] (names that are not
//! paths), [`layer`] (for file systems that stand on others).

pub mod create;
pub mod dirs;
pub mod inside;
pub mod layer;
pub mod lookup;
pub mod open;
pub mod remove;
pub mod rename;
pub mod walk;

use core::sync::atomic::AtomicU32;

use abi::raw;
use bitflags::bitflags;

use crate::file::File;

pub use create::{link, mkdir, mknod, symlink};
pub use dirs::{access, chdir, chroot, fchdir, readlink};
pub use open::{OpenArgs, open, open_found, open_path};
pub use remove::{rmdir, unlink};
pub use rename::{RenameFlags, rename};
pub use walk::{path_lookup, path_parent};

bitflags! {
    /// How to resolve a name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LookupFlags: u32 {
        /// Follow a symbolic link at the end.
        const FOLLOW = 1 << 0;
        /// The result must be a directory.
        const DIRECTORY = 1 << 1;
        /// An empty name means the starting point (`AT_EMPTY_PATH`).
        const EMPTY = 1 << 2;
        /// Do not trigger automounts.
        const NO_AUTOMOUNT = 1 << 3;
        /// Does not count as a use of the mount (`MNT_EXPIRE`).
        const NO_USE = 1 << 4;
        /// `RESOLVE_NO_XDEV`: do not cross mounts.
        const NO_XDEV = 1 << 8;
        /// `RESOLVE_NO_MAGICLINKS`.
        const NO_MAGICLINKS = 1 << 9;
        /// `RESOLVE_NO_SYMLINKS`.
        const NO_SYMLINKS = 1 << 10;
        /// `RESOLVE_BENEATH`: do not leave the starting directory.
        const BENEATH = 1 << 11;
        /// `RESOLVE_IN_ROOT`: the starting directory is the root.
        const IN_ROOT = 1 << 12;
        /// `RESOLVE_CACHED`: only what needs no waiting.
        const CACHED = 1 << 13;
    }
}

impl LookupFlags {
    /// From the `AT_*` flags of a call that follows links unless `AT_SYMLINK_NOFOLLOW`.
    pub fn from_at(flags: u32) -> Self {
        let mut lookup = Self::empty();
        lookup.set(Self::FOLLOW, flags & raw::AT_SYMLINK_NOFOLLOW == 0);
        lookup.set(Self::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
        lookup.set(Self::NO_AUTOMOUNT, flags & raw::AT_NO_AUTOMOUNT != 0);
        lookup
    }

    /// From the `RESOLVE_*` flags of `openat2(2)`.
    pub fn from_resolve(resolve: u64) -> Self {
        let mut lookup = Self::empty();
        for (bit, flag) in [
            (raw::RESOLVE_NO_XDEV, Self::NO_XDEV),
            (raw::RESOLVE_NO_MAGICLINKS, Self::NO_MAGICLINKS),
            (raw::RESOLVE_NO_SYMLINKS, Self::NO_SYMLINKS | Self::NO_MAGICLINKS),
            (raw::RESOLVE_BENEATH, Self::BENEATH),
            (raw::RESOLVE_IN_ROOT, Self::IN_ROOT),
            (raw::RESOLVE_CACHED, Self::CACHED),
        ] {
            if resolve & u64::from(bit) != 0 {
                lookup |= flag;
            }
        }
        lookup
    }

    /// Whether the walk must not leave its starting directory.
    pub fn is_scoped(self) -> bool {
        self.intersects(Self::BENEATH | Self::IN_ROOT)
    }
}

/// Where a relative name starts.
#[derive(Clone, Copy)]
pub enum At<'a> {
    /// At the working directory (`AT_FDCWD`).
    Cwd,
    /// At an open directory.
    File(&'a File),
}

/// `/proc/sys/fs/protected_symlinks`.
pub static PROTECTED_SYMLINKS: AtomicU32 = AtomicU32::new(0);
/// `/proc/sys/fs/protected_hardlinks`.
pub static PROTECTED_HARDLINKS: AtomicU32 = AtomicU32::new(0);
/// `/proc/sys/fs/protected_fifos`.
pub static PROTECTED_FIFOS: AtomicU32 = AtomicU32::new(0);
/// `/proc/sys/fs/protected_regular`.
pub static PROTECTED_REGULAR: AtomicU32 = AtomicU32::new(0);
