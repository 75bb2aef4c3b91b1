//! The file system type: one tree, mounted once for all or once per namespace.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use abi::Result;
use abi::fs::Statfs;
use arch::sync::SpinLock;
use vfs::fs_context::ParamResult;
use vfs::fs_type::{FsFlags, FsType};
use vfs::super_block::{MountRequest, SuperBlock, SuperInfo, SuperOps};

use crate::inode;
use crate::node::{Dir, Entry, Node};
use mm::fallible::try_box;

/// What an instance knows of itself.
pub struct KernSuper {
    magic: u64,
    data: Option<Arc<dyn Any + Send + Sync>>,
    options: Option<Options>,
}

/// What an instance does with the options it was mounted with; `data` is what it was mounted for.
#[derive(Clone, Copy)]
pub struct Options {
    /// Writes them, each with a leading comma.
    pub show: fn(data: &dyn Any, out: &mut dyn fmt::Write) -> fmt::Result,
    /// Changes them (`mount -o remount`).
    pub change: fn(data: &dyn Any, options: &[u8]) -> Result<()>,
}

impl KernSuper {
    /// What the instance was mounted for, if it is a `T`.
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }
}

impl SuperOps for KernSuper {
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs> {
        Ok(Statfs {
            type_: self.magic as i64,
            bsize: i64::from(sb.block_size()),
            namelen: 255,
            frsize: i64::from(sb.block_size()),
            ..Statfs::default()
        })
    }

    fn show_options(&self, _: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        match (&self.options, &self.data) {
            (Some(options), Some(data)) => (options.show)(data.as_ref(), out),
            _ => Ok(()),
        }
    }

    fn remount(&self, _: &SuperBlock, _: u32, text: &[u8]) -> Result<()> {
        match (&self.options, &self.data) {
            (Some(options), Some(data)) => (options.change)(data.as_ref(), text),
            _ => Ok(()),
        }
    }
}

/// Makes an instance with `root` as its root directory.
///
/// # Errors
/// `ENOMEM`, `EMFILE`.
pub fn new_super(
    fs_type: &'static dyn FsType,
    magic: u64,
    request: &MountRequest<'_>,
    root: Arc<dyn Dir>,
    data: Option<Arc<dyn Any + Send + Sync>>,
) -> Result<Arc<SuperBlock>> {
    with_options(fs_type, KernSuper { magic, data, options: None }, request, root)
}

fn with_options(
    fs_type: &'static dyn FsType,
    own: KernSuper,
    request: &MountRequest<'_>,
    root: Arc<dyn Dir>,
) -> Result<Arc<SuperBlock>> {
    let info = SuperInfo {
        magic: own.magic,
        block_size: 4096,
        max_bytes: i64::MAX as u64,
        time_granularity_ns: 1,
        flags: request.flags,
        dev: None,
    };
    let sb = SuperBlock::new(fs_type, info, request.user_ns.clone(), try_box(own)?)?;
    let access = root.access();
    sb.set_root(inode::make(&sb, Entry::new(Node::Dir(root), 1, 0o555).accessed_by(access))?)?;
    Ok(sb)
}

/// How an instance finds the tree it shows.
pub type RootFor = fn(&MountRequest<'_>) -> RootOf;

/// The root directory of an instance, and what the instance was mounted for.
pub type RootOf = Result<(Arc<dyn Dir>, Option<Arc<dyn Any + Send + Sync>>)>;

/// Says whether a parameter is known and makes sense.
pub type CheckParam = fn(&str, Option<&str>) -> ParamResult;

/// A type of file system made of nodes.
pub struct KernFs {
    name: &'static str,
    magic: u64,
    root: RootFor,
    /// What is a parameter; without it everything is.
    check: Option<CheckParam>,
    /// Permissions of the root directory.
    mode: u32,
    /// Whether root of a user namespace may mount it.
    userns: bool,
    options: Option<Options>,
    /// Flags of the type beyond the usual.
    extra_flags: FsFlags,
    /// The one instance of a tree that is the same for everybody.
    single: Option<SpinLock<Option<Arc<SuperBlock>>>>,
}

impl KernFs {
    /// A tree that is the same however often it is mounted (sysfs).
    pub const fn single(name: &'static str, magic: u64, root: RootFor) -> Self {
        Self {
            name,
            magic,
            root,
            check: None,
            mode: 0o555,
            userns: true,
            options: None,
            extra_flags: FsFlags::empty(),
            single: Some(SpinLock::new(None)),
        }
    }

    /// A tree that depends on who mounts it (procfs: the pid namespace).
    pub const fn per_mount(name: &'static str, magic: u64, root: RootFor) -> Self {
        Self {
            name,
            magic,
            root,
            check: None,
            mode: 0o555,
            userns: true,
            options: None,
            extra_flags: FsFlags::empty(),
            single: None,
        }
    }

    /// With options that its instances show and change.
    pub const fn with_options(mut self, options: Options) -> Self {
        self.options = Some(options);
        self
    }

    /// Not for root of a user namespace, and with a root directory of this mode.
    pub const fn for_administrators(mut self, mode: u32) -> Self {
        self.userns = false;
        self.mode = mode;
        self
    }

    /// With more flags.
    pub const fn with_flags(mut self, flags: FsFlags) -> Self {
        self.extra_flags = flags;
        self
    }

    /// With parameters that `check` knows, and no others.
    pub const fn with_params(mut self, check: CheckParam) -> Self {
        self.check = Some(check);
        self
    }
}

impl FsType for KernFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn flags(&self) -> FsFlags {
        let mut flags = self.extra_flags;
        flags.set(FsFlags::USERNS_MOUNT, self.userns);
        flags.set(FsFlags::CHECKS_PARAMS, self.check.is_some());
        flags
    }

    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        self.check.map_or(Ok(()), |check| check(key, value))
    }

    fn mount(&'static self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let make = || {
            let (root, data) = (self.root)(request)?;
            let own = KernSuper { magic: self.magic, data, options: self.options };
            let sb = with_options(self, own, request, root)?;
            if let Some(root) = sb.root().as_ref().and_then(|root| root.inode()) {
                root.set_permissions(self.mode);
            }
            Ok(sb)
        };
        let Some(single) = &self.single else { return make() };
        if let Some(sb) = single.lock().clone() {
            return Ok(sb);
        }
        let fresh = make()?;
        Ok(single.lock().get_or_insert(fresh).clone())
    }

    fn kill_on_last_umount(&self, _: &SuperBlock) -> bool {
        self.single.is_none()
    }
}
