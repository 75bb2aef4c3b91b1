//! The descriptor of a context: `fsopen(2)` and `fspick(2)` make it, `read(2)` takes messages out of it.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};
use mm::IovIter;
use mm::fallible::try_box;
use sched::mutex::{Mutex, MutexGuard};

use super::log::Log;
use super::{FsContext, Sharing, Value};
use crate::anon;
use crate::cred::Credentials;
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags};
use crate::fs_type::get_fs_type;
use crate::mount;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::LookupContext;

/// What the descriptor stands for.
pub struct ContextFile(Mutex<FsContext>);

impl FileOps for ContextFile {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        let message = self.lock()?.log.take(iter.count())?;
        iter.write_all(message.as_bytes())?;
        Ok(message.len())
    }
}

impl ContextFile {
    fn lock(&self) -> Result<MutexGuard<'_, FsContext>> {
        self.0.lock_interruptible().map_err(|_| Errno::ERESTARTSYS)
    }
}

fn make(cred: &Arc<Credentials>, context: FsContext) -> Result<Arc<File>> {
    let ops = FileImpl::Owned(try_box(ContextFile(Mutex::new(context)))?);
    anon::anon_file(cred, "[fscontext]", ops, raw::O_RDWR)
}

/// The context behind a descriptor; `EINVAL` for other files.
fn context_of(file: &File) -> Result<&ContextFile> {
    file.private::<ContextFile>().ok_or(Errno::EINVAL)
}

/// `fsopen(2)`.
///
/// # Errors
/// `EPERM`; `ENODEV` for an unknown type.
pub fn fsopen(ctx: &LookupContext<'_>, name: &[u8]) -> Result<Arc<File>> {
    let fs = get_fs_type(name).ok_or(Errno::ENODEV)?;
    make(ctx.cred, FsContext::for_mount(fs, ctx.cred, 0, None, Log::for_reader()))
}

/// `fspick(2)`.
///
/// # Errors
/// Those of the walk; `EINVAL` if no mount begins there.
pub fn fspick(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], lookup: LookupFlags) -> Result<Arc<File>> {
    let path = path_lookup(ctx, at, name, lookup)?;
    if !path.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    make(ctx.cred, FsContext::for_reconfigure(&path.dentry, ctx.cred, 0, 0, Log::for_reader()))
}

/// What a call of `fsconfig(2)` wants.
pub enum Command<'a> {
    /// Set a parameter.
    Set(&'a [u8], Value),
    /// Make the super block.
    Create(Sharing),
    /// Change it.
    Reconfigure,
}

/// Whether the file system can be given binary values, places and files (`EOPNOTSUPP` otherwise); `EINVAL` for other files.
pub fn is_modern(file: &File) -> Result<bool> {
    Ok(context_of(file)?.lock()?.is_modern())
}

/// `fsconfig(2)`, done by whom `ctx` says.
///
/// # Errors
/// `EINVAL` for another kind of file; those of [`FsContext`].
pub fn fsconfig(ctx: &LookupContext<'_>, file: &File, command: Command<'_>) -> Result<()> {
    let mut context = context_of(file)?.lock()?;
    context.resume();
    match command {
        Command::Set(key, value) => context.set_param(ctx, key, value),
        Command::Create(sharing) => context.create(ctx, sharing),
        Command::Reconfigure => context.reconfigure(ctx.cred),
    }
}

/// `fsmount(2)`: the mount that a context is ready for.
///
/// # Errors
/// `EINVAL` for another kind of file, or if there is no super block; `EBUSY` if it was mounted already.
pub fn fsmount(ctx: &LookupContext<'_>, file: &File, mnt_flags: u32) -> Result<Arc<File>> {
    let mut context = context_of(file)?.lock()?;
    let mount = context.mount(mnt_flags)?;
    mount::detached::open_mount(ctx, context.cred(), mount)
}
