//! devtmpfs: one tmpfs for the whole system, in which the kernel makes a node for each device it finds.
//!
//! All mounts of type `devtmpfs` show the same tree. Drivers call [`create_node`] and [`delete_node`]; names may contain
//! slashes, directories are made on the way.

use alloc::sync::Arc;

use abi::creds::{Gid, Uid};
use abi::fs::DevId;
use abi::{Errno, Result, raw};
use sync::Lazy;
use vfs::fs_context::ParamResult;
use vfs::mount::{Mount, MountNamespace, kernel_mount, kernel_namespace};
use vfs::path::{FsStruct, LookupContext};
use vfs::super_block::{MountRequest, SuperBlock};
use vfs::{At, Credentials, FsFlags, FsType, UserNamespace, namei};

use crate::new_super;

/// The file system type `devtmpfs`.
pub struct Devtmpfs;

/// The type, for [`vfs::register_filesystem`].
pub static DEVTMPFS: Devtmpfs = Devtmpfs;

struct Instance {
    sb: Arc<SuperBlock>,
    /// A private namespace in which the kernel itself works on the tree.
    ns: Arc<MountNamespace>,
    fs: FsStruct,
}

static INSTANCE: Lazy<Result<Instance>> = Lazy::new(|| {
    let request = MountRequest {
        flags: 0,
        source: b"devtmpfs",
        device: None,
        options: b"mode=0755",
        user_ns: UserNamespace::initial(),
        private: None,
    };
    let sb = new_super(&DEVTMPFS, &request, crate::Flavor::Tmpfs)?;
    let mount: Arc<Mount> = kernel_mount(&sb, 0, b"devtmpfs")?;
    let ns = kernel_namespace(&mount);
    let fs = FsStruct::new(mount.root_path())?;
    fs.set_umask(0);
    Ok(Instance { sb, ns, fs })
});

impl FsType for Devtmpfs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::CHECKS_PARAMS
    }

    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        crate::check_param(key, value)
    }

    fn kill_on_last_umount(&self, _: &SuperBlock) -> bool {
        false
    }

    fn mount(&self, _: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        INSTANCE.as_ref().map(|instance| instance.sb.clone()).map_err(|error| *error)
    }
}

fn with_tree<R>(f: impl FnOnce(&LookupContext<'_>) -> Result<R>) -> Result<R> {
    let instance = INSTANCE.as_ref().map_err(|error| *error)?;
    f(&LookupContext { cred: Credentials::kernel(), fs: &instance.fs, ns: &instance.ns })
}

/// Makes the node `name` (relative to `/dev`) of type and permissions `mode` for device `dev`.
pub fn create_node(name: &str, mode: u32, dev: DevId) -> Result<()> {
    create_node_owned(name, mode, dev, Uid(0), Gid(0))
}

/// [`create_node`] with an owner.
pub fn create_node_owned(name: &str, mode: u32, dev: DevId, uid: Uid, gid: Gid) -> Result<()> {
    with_tree(|ctx| {
        let mut made = namei::mknod(ctx, At::Cwd, name.as_bytes(), mode, dev);
        if matches!(made, Err(Errno::ENOENT)) {
            for (index, _) in name.match_indices('/') {
                let parent = name.get(..index).unwrap_or_default();
                match namei::mkdir(ctx, At::Cwd, parent.as_bytes(), 0o755) {
                    Ok(_) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            made = namei::mknod(ctx, At::Cwd, name.as_bytes(), mode, dev);
        }
        let path = made?;
        // The mask of the caller does not matter here, nor does who it is.
        vfs::attr::chown_path(ctx.cred, &path, Some(uid), Some(gid))?;
        vfs::attr::chmod_path(ctx.cred, &path, mode & 0o7777)
    })
}

/// Makes the symbolic link `name` to `target`.
pub fn create_link(name: &str, target: &str) -> Result<()> {
    with_tree(|ctx| namei::symlink(ctx, target.as_bytes(), At::Cwd, name.as_bytes()).map(drop))
}

/// Makes the directory `name`.
pub fn create_dir(name: &str) -> Result<()> {
    with_tree(|ctx| namei::mkdir(ctx, At::Cwd, name.as_bytes(), 0o755).map(drop))
}

/// Removes the node `name`, if it still is the kernel's device node.
pub fn delete_node(name: &str) -> Result<()> {
    with_tree(|ctx| namei::unlink(ctx, At::Cwd, name.as_bytes()))
}

/// Mode of a character device node with permissions `permissions`.
pub const fn chr(permissions: u32) -> u32 {
    raw::S_IFCHR | permissions
}

/// Mode of a block device node with permissions `permissions`.
pub const fn blk(permissions: u32) -> u32 {
    raw::S_IFBLK | permissions
}
