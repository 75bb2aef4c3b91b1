//! A mount in the making: everything that is said about a file system before it is mounted, and before it is changed.
//! `fsopen(2)`, `fsconfig(2)`, `fspick(2)`; `mount(2)` goes the same way in one call.
//!
//! [`FsContext`] goes through [`Phase`]s: parameters are set, the super block is made ([`FsContext::create`]), a mount is made of
//! it ([`FsContext::mount`]), and from then on the context changes that file system ([`FsContext::reconfigure`]). One for an
//! existing file system starts there.
//!
//! | file | what it owns |
//! |---|---|
//! | [`param`] | names and values |
//! | [`log`] | messages about what is wrong with them |
//! | [`file`] | the descriptor |
//!
//! Locks: the descriptor's mutex is over every use of its context; `SuperBlock::umount` is taken inside of it.

pub mod file;
pub mod log;
pub mod param;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use abi::cap::Cap;
use abi::fs::DevId;
use abi::{Errno, Result};

use crate::cred::{Credentials, UserNamespace};
use crate::dentry::Dentry;
use crate::fs_type::{FsFlags, FsType};
use crate::mount::{self, Mount};
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::LookupContext;
use crate::super_block::{MS_RMT_MASK, MountRequest, SuperBlock};
use crate::types::FileType;
pub use log::{Level, Log};
pub use param::{Caller, Param, ParamError, ParamResult, Params, Value};

/// How far a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Parameters of a new file system are taken.
    CreateParams,
    /// The super block exists and waits to be mounted.
    AwaitingMount,
    /// It was mounted, or changed; the next call begins a change.
    AwaitingReconfigure,
    /// Parameters of a change are taken.
    ReconfigureParams,
    /// Making or changing it failed; only closing is left.
    Failed,
}

/// A super block that is kept in use although perhaps nothing of it is mounted.
struct Held {
    sb: Arc<SuperBlock>,
    root: Arc<Dentry>,
}

impl Held {
    fn new(root: Arc<Dentry>) -> Self {
        let sb = root.sb().clone();
        sb.activate();
        Self { sb, root }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sb.deactivate();
    }
}

/// A mount in the making. See the module text.
pub struct FsContext {
    fs: &'static dyn FsType,
    phase: Phase,
    cred: Arc<Credentials>,
    user_ns: Arc<UserNamespace>,
    private: Option<Arc<dyn Any + Send + Sync>>,
    /// `SB_*` flags, and which of them were named.
    flags: u32,
    flags_mask: u32,
    source: Option<Vec<u8>>,
    /// The file system's own parameters, as `mount(2)` writes them.
    options: Vec<u8>,
    /// Those that the file system keeps itself.
    params: Option<Box<dyn Params>>,
    held: Option<Held>,
    log: Log,
}

/// What a file system that keeps its parameters itself needs beside the request when it is mounted.
pub struct Making<'a> {
    /// Who mounts it.
    pub ctx: &'a LookupContext<'a>,
    /// Who prepared the mount.
    pub cred: &'a Arc<Credentials>,
    /// What was set; of the type that [`FsType::params`] made.
    pub params: Box<dyn Params>,
    /// Where explanations go.
    pub log: &'a mut Log,
}

/// Whether a file system that exists already will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// It will.
    Allowed,
    /// It must be made now (`FSCONFIG_CMD_CREATE_EXCL`).
    Exclusive,
}

/// The block device that a name means (`lookup_bdev`).
///
/// # Errors
/// `EINVAL` without a name; those of the walk; `ENOTBLK`: it is something else; `EACCES`: device files are of no use there.
pub fn lookup_bdev(ctx: &LookupContext<'_>, name: Option<&[u8]>) -> Result<DevId> {
    let path = path_lookup(ctx, At::Cwd, name.ok_or(Errno::EINVAL)?, LookupFlags::FOLLOW)?;
    let inode = path.inode()?;
    if inode.file_type() != FileType::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if path.mnt.flags() & mount::flags::NODEV != 0 {
        return Err(Errno::EACCES);
    }
    Ok(inode.rdev())
}

impl FsContext {
    /// A context for a new mount of a file system of type `fs`, with `SB_*` flags. `private` is passed on to it.
    pub fn for_mount(
        fs: &'static dyn FsType,
        cred: &Arc<Credentials>,
        flags: u32,
        private: Option<Arc<dyn Any + Send + Sync>>,
        log: Log,
    ) -> Self {
        Self {
            fs,
            phase: Phase::CreateParams,
            cred: cred.clone(),
            user_ns: cred.user_ns.clone(),
            private,
            flags,
            flags_mask: 0,
            source: None,
            options: Vec::new(),
            params: None,
            held: None,
            log,
        }
    }

    /// A context that changes the file system at `root`: the flags in `mask` become `flags`.
    pub fn for_reconfigure(
        root: &Arc<Dentry>,
        cred: &Arc<Credentials>,
        flags: u32,
        mask: u32,
        log: Log,
    ) -> Self {
        Self {
            fs: root.sb().fs_type(),
            phase: Phase::ReconfigureParams,
            cred: cred.clone(),
            user_ns: root.sb().user_ns().clone(),
            private: None,
            flags,
            flags_mask: mask,
            source: None,
            options: Vec::new(),
            params: None,
            held: Some(Held::new(root.clone())),
            log,
        }
    }

    /// Whether every call of `fsconfig(2)` is for the file system, or only those that the old `mount(2)` could express.
    pub fn is_modern(&self) -> bool {
        self.fs.flags().contains(FsFlags::CHECKS_PARAMS)
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The credentials of who made it.
    pub fn cred(&self) -> &Arc<Credentials> {
        &self.cred
    }

    /// The first call after a mount or a change begins the next change.
    pub fn resume(&mut self) {
        if self.phase == Phase::AwaitingReconfigure {
            self.phase = Phase::ReconfigureParams;
        }
    }

    /// Makes the super block, if the caller may.
    ///
    /// # Errors
    /// `EBUSY` in the wrong phase, or if it exists and must not; `EPERM` without `CAP_SYS_ADMIN`; those of the file system.
    pub fn create(&mut self, ctx: &LookupContext<'_>, sharing: Sharing) -> Result<()> {
        if self.phase != Phase::CreateParams {
            return Err(Errno::EBUSY);
        }
        self.may_mount(ctx.cred)?;
        let made = self.make(ctx, sharing);
        self.phase = if made.is_ok() { Phase::AwaitingMount } else { Phase::Failed };
        made
    }

    /// A file system that is safe in the hands of users is mounted by the root of a user namespace, others by the administrator.
    fn may_mount(&self, cred: &Credentials) -> Result<()> {
        let allowed = match self.fs.flags().contains(FsFlags::USERNS_MOUNT) {
            true => cred.ns_capable(&self.user_ns, Cap::SysAdmin),
            false => cred.capable(Cap::SysAdmin),
        };
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// The parameters that the file system keeps itself, if it does.
    fn own_params(&mut self) -> Result<Option<&mut (dyn Params + 'static)>> {
        if self.params.is_none() {
            self.params = self.fs.params()?;
        }
        Ok(self.params.as_deref_mut())
    }

    fn make(&mut self, ctx: &LookupContext<'_>, sharing: Sharing) -> Result<()> {
        self.own_params()?;
        let device = match self.fs.flags().contains(FsFlags::REQUIRES_DEV) {
            true => Some(lookup_bdev(ctx, self.source.as_deref())?),
            false => None,
        };
        let request = MountRequest {
            flags: self.flags,
            source: self.source.as_deref().unwrap_or_default(),
            device,
            options: &self.options,
            user_ns: &self.user_ns,
            private: self.private.clone(),
        };
        let sb = match self.params.take() {
            Some(params) => {
                let making = Making { ctx, cred: &self.cred, params, log: &mut self.log };
                self.fs.mount_prepared(&request, making)?
            }
            None => self.fs.mount(&request)?,
        };
        if sharing == Sharing::Exclusive && (sb.active() > 0 || !self.fs.kill_on_last_umount(&sb)) {
            let text = format_args!("reusing existing filesystem not allowed");
            self.log.add(Level::Warning, self.fs.name(), text);
            return Err(Errno::EBUSY);
        }
        self.held = Some(Held::new(sb.root().ok_or(Errno::ENOENT)?));
        Ok(())
    }

    /// Makes a mount of what [`FsContext::create`] made, attached nowhere. The context then changes that file system.
    ///
    /// # Errors
    /// `EINVAL` if there is nothing to mount yet, `EBUSY` if it was mounted already; `ENOMEM`.
    pub fn mount(&mut self, mnt_flags: u32) -> Result<Arc<Mount>> {
        let held = self.held.as_ref().ok_or(Errno::EINVAL)?;
        if self.phase != Phase::AwaitingMount {
            return Err(Errno::EBUSY);
        }
        let source = self.source.as_deref().unwrap_or_default();
        let mount = Mount::new(held.sb.clone(), held.root.clone(), mnt_flags, source)?;
        self.clean();
        Ok(mount)
    }

    /// Changes the file system, if `cred` may.
    ///
    /// # Errors
    /// `EBUSY` in the wrong phase, or if it cannot become read-only; `EPERM` without `CAP_SYS_ADMIN` over it; those of
    /// the file system.
    pub fn reconfigure(&mut self, cred: &Credentials) -> Result<()> {
        if self.phase != Phase::ReconfigureParams {
            return Err(Errno::EBUSY);
        }
        let Some(sb) = self.held.as_ref().map(|held| held.sb.clone()) else { return Err(Errno::EBUSY) };
        let changed = match cred.ns_capable(sb.user_ns(), Cap::SysAdmin) {
            true => crate::security::check_mounts(cred).and_then(|()| self.change(&sb)),
            false => Err(Errno::EPERM),
        };
        match changed {
            Ok(()) => self.clean(),
            Err(_) => self.phase = Phase::Failed,
        }
        changed
    }

    fn change(&mut self, sb: &Arc<SuperBlock>) -> Result<()> {
        if self.flags_mask & !MS_RMT_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let _exclusive = sb.umount.write();
        let old = sb.flags();
        let new = old & !self.flags_mask | self.flags & self.flags_mask;
        let becomes_read_only = new & !old & crate::super_block::SB_RDONLY != 0;
        if becomes_read_only {
            // From here on nobody can begin to write.
            mount::freeze_writers(sb)?;
        }
        let changed = sb.ops().reconfigure(sb, new, &self.options, &mut self.log);
        match changed {
            Ok(()) => sb.set_flags(new),
            Err(_) if becomes_read_only => sb.set_flags(old),
            Err(_) => {}
        }
        changed
    }

    fn clean(&mut self) {
        self.options.clear();
        self.params = None;
        self.source = None;
        self.flags = 0;
        self.phase = Phase::AwaitingReconfigure;
    }
}
