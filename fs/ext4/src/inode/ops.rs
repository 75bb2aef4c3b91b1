//! What the VFS asks of an inode: reading.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use vfs::file::{FileImpl, OpenFile};
use vfs::fileattr::FileAttr;
use vfs::inode_ops::{InodeOps, LinkTarget};
use vfs::permission::generic_permission;
use vfs::types::{Kstat, MayAccess};
use vfs::{Credentials, Inode, InodeFlags};

use super::Node;
use super::load::Purpose;
use crate::dir::readdir::OpenDir;
use crate::disk::dir::NAME_LEN;
use crate::error::{EFSCORRUPTED, place};
use crate::file::FILE_OPS;
use mm::fallible::try_box;

/// The operations of an inode: its [`Node`].
pub struct Ext4Inode(pub(crate) Arc<Node>);

impl InodeOps for Ext4Inode {
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        let node = &self.0;
        if !dir.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > NAME_LEN {
            return Err(Errno::ENAMETOOLONG);
        }
        let Some(found) = node.find_entry(name)? else { return Ok(None) };
        if found.ino == 0 || found.ino > node.fs.layout.inodes_count {
            let text = format_args!("bad inode number: {}", found.ino);
            return Err(node.fs.error(place!("ext4_lookup", node.ino), EFSCORRUPTED, text));
        }
        if found.ino == node.ino {
            let text = format_args!("'{}' linked to parent dir", vfs::util::Lossy(name));
            return Err(node.fs.error(place!("ext4_lookup", node.ino), EFSCORRUPTED, text));
        }
        match node.fs.iget(dir.sb(), found.ino, Purpose::Named) {
            Err(Errno::ESTALE) => {
                let text = format_args!("deleted inode referenced: {}", found.ino);
                Err(node.fs.error(place!("ext4_lookup", node.ino), EFSCORRUPTED, text))
            }
            other => other.map(Some),
        }
    }

    fn get_link(&self, inode: &Arc<Inode>, _: &Arc<Credentials>) -> Result<LinkTarget> {
        if let Some(target) = inode.cached_link() {
            return Ok(LinkTarget::Path(target.clone()));
        }
        if !inode.is_symlink() {
            return Err(Errno::EINVAL);
        }
        Ok(LinkTarget::Path(self.0.read_link(inode)?))
    }

    fn permission(&self, inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
        // Lists are read from the device.
        if mask.contains(MayAccess::NOT_BLOCK) && inode.flags().contains(InodeFlags::HAS_ACL) {
            return Err(Errno::EAGAIN);
        }
        generic_permission(inode, cred, mask)
    }

    fn getattr(&self, inode: &Arc<Inode>, request_mask: u32) -> Result<Kstat> {
        Ok(self.0.stat(inode, request_mask))
    }

    fn has_fileattr(&self, _: &Inode) -> bool {
        true
    }

    fn fileattr_get(&self, inode: &Arc<Inode>) -> Result<FileAttr> {
        Ok(self.0.fileattr(inode))
    }

    fn getxattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        self.0.getxattr(inode, name)
    }

    fn listxattr(&self, _: &Inode) -> Result<Vec<u8>> {
        self.0.listxattr()
    }

    fn open(&self, inode: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        if inode.is_dir() {
            return Ok(FileImpl::Owned(try_box(OpenDir::default())?));
        }
        Ok(FileImpl::Static(&FILE_OPS))
    }

    fn evict(&self, inode: &Inode) {
        if let Some(mapping) = inode.mapping() {
            mapping.truncate(0);
        }
        self.0.fs.inodes.forget(inode);
    }
}
