//! The work directory: what is made there under a temporary name is moved to its place when it is complete, so that nobody
//! sees the half of it, also after a crash.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::fs::DevId;
use abi::{Result, raw};
use mm::try_format;
use vfs::namei::RenameFlags;
use vfs::namei::layer::{self, New};
use vfs::util::Lossy;
use vfs::{Credentials, Dentry};

use crate::fs::Change;

/// The bits of a type.
const TYPE: u32 = raw::S_IFMT;

impl Change<'_> {
    /// A name that nobody has in the work directory.
    pub(crate) fn temporary(&self) -> Result<Vec<u8>> {
        let number = self.fs.counter.fetch_add(1, Ordering::Relaxed);
        Ok(try_format(format_args!("#{number:x}"))?.into_bytes())
    }

    /// Makes something in the work directory; returns its name with it.
    pub(crate) fn make_temporary(
        &self,
        cred: &Credentials,
        mode: u32,
        new: New<'_>,
    ) -> Result<(Vec<u8>, Arc<Dentry>)> {
        let name = self.temporary()?;
        let dentry = layer::make(cred, self.work, &name, mode, new)?;
        Ok((name, dentry))
    }

    /// Removes something from the work directory. What cannot be removed is found by the next mount.
    pub(crate) fn clean(&self, name: &[u8]) {
        if let Err(error) = layer::remove(self.cred(), self.work, name) {
            log::error!("overlayfs: cleanup of '{}' failed ({error})", Lossy(name));
        }
    }

    /// Moves `temporary` from the work directory to `name` in the upper directory `dir`, over what is there.
    pub(crate) fn put_in_place(&self, temporary: &[u8], dir: &Arc<Dentry>, name: &[u8]) -> Result<()> {
        self.swap_in(temporary, dir, name, RenameFlags::empty())
    }

    /// The same with flags: with `EXCHANGE` what was there is in the work directory afterwards.
    pub(crate) fn swap_in(
        &self,
        temporary: &[u8],
        dir: &Arc<Dentry>,
        name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        layer::rename(self.cred(), (self.work, temporary), (dir, name), flags)
    }

    /// Puts a whiteout at `name` of the upper directory `dir`, in the place of `there`.
    pub(crate) fn whiteout(&self, dir: &Arc<Dentry>, name: &[u8], there: Option<&Arc<Dentry>>) -> Result<()> {
        let (temporary, _) =
            self.make_temporary(self.cred(), raw::S_IFCHR & TYPE, New::Special(DevId::default()))?;
        // A directory cannot be replaced by something else.
        let exchange = there.and_then(|there| there.inode()).is_some_and(|inode| inode.is_dir());
        let flags = if exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        let moved = self.swap_in(&temporary, dir, name, flags);
        if exchange || moved.is_err() {
            self.clean(&temporary);
        }
        moved
    }
}
