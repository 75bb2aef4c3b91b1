//! Making inodes. One that is known by a real inode is found again by that as long as it is in memory, so that several names of
//! an upper file are one inode, and what watches or locks a file keeps doing so when its name is looked up anew.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use mm::fallible::try_into_boxed_slice;
use vfs::super_block::SuperBlock;
use vfs::util::try_to_vec;
use vfs::{Inode, InodeFlags, InodeInit};

use crate::fs::Fs;
use crate::inode::{Node, NodeFlags, Place, node};
use crate::lookup::Found;
use crate::xattr;

fn address(inode: &Arc<Inode>) -> usize {
    Arc::as_ptr(inode) as usize
}

impl Fs {
    /// The inode for what was found, at `place`: the one there is, or a new one.
    ///
    /// # Errors
    /// `ENOMEM`; those of reading attributes.
    pub(crate) fn inode(
        self: &Arc<Self>,
        sb: &Arc<SuperBlock>,
        found: Found,
        place: Option<Arc<Place>>,
    ) -> Result<Arc<Inode>> {
        let lower = found.lower.first().and_then(|lower| lower.dentry.inode()).cloned();
        let upper = found.upper.as_ref().and_then(|upper| upper.inode()).cloned();
        let shown = upper.as_ref().or(lower.as_ref()).ok_or(Errno::EIO)?.clone();
        let by_lower = match &lower {
            None => false,
            Some(_) if self.upper.is_none() => true,
            // The names of a lower file become files of their own when they are copied.
            Some(lower) => lower.is_dir() || lower.nlink() <= 1,
        };
        // A lower file that will be taken apart is known by nothing.
        let known = match (by_lower, &upper, &lower) {
            (true, _, Some(lower)) => Some(lower.clone()),
            (_, Some(upper), _) => Some(upper.clone()),
            _ => None,
        };
        let mut key = known.as_ref().map(address);
        if let Some(address) = key
            && let Some(there) = self.known(address)
        {
            let same = |there: &Node| match (there.upper().and_then(|upper| upper.inode()), &upper) {
                (Some(its), Some(upper)) => Arc::ptr_eq(its, upper),
                (None, None) => true,
                // It was copied up since the layers were searched, or before this search saw it.
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            if same(node(&there)?) {
                return Ok(there);
            }
            key = None;
        }
        let fsid = match (by_lower || upper.is_none(), found.lower.first()) {
            (true, Some(lower)) => self.layers.get(lower.layer).map_or(0, |layer| layer.fsid),
            _ => 0,
        };
        let ino = self.inode_number(known.as_ref().unwrap_or(&shown), fsid);
        let inode = self.new_inode(sb, found, place, &shown, ino, by_lower, key)?;
        let Some(address) = key else { return Ok(inode) };
        let mut inodes = self.inodes.lock();
        if let Some(there) = inodes.get(&address).and_then(Weak::upgrade) {
            // Somebody else was faster.
            drop(inodes);
            return Ok(there);
        }
        let old = inodes.try_insert(address, Arc::downgrade(&inode));
        drop(inodes);
        drop(old?);
        Ok(inode)
    }

    fn known(&self, address: usize) -> Option<Arc<Inode>> {
        let inodes = self.inodes.lock();
        let there = inodes.get(&address).and_then(Weak::upgrade);
        drop(inodes);
        there
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one inode")]
    fn new_inode(
        self: &Arc<Self>,
        sb: &Arc<SuperBlock>,
        found: Found,
        place: Option<Arc<Place>>,
        shown: &Arc<Inode>,
        ino: u64,
        by_lower: bool,
        key: Option<usize>,
    ) -> Result<Arc<Inode>> {
        let opaque = found.opaque;
        let new = Node::new(self, found, place, sb.stack_depth(), key)?;
        let mut flags = NodeFlags::empty();
        flags.set(NodeFlags::CONST_INO, by_lower);
        flags.set(NodeFlags::OPAQUE, opaque);
        if shown.is_dir() {
            let real = new.real_inode()?;
            flags.set(NodeFlags::WHITEOUTS, new.is_merged() || self.own_get(real, xattr::ORIGIN)?.is_some());
            if new.upper().is_some() {
                flags.set(NodeFlags::IMPURE, self.own_get(real, xattr::IMPURE)?.is_some());
            }
        }
        new.insert(flags);
        new.load_protected()?;
        let mut inode_flags = InodeFlags::OP_GETATTR | InodeFlags::OP_ACL | InodeFlags::OP_ATIME;
        let layers_ask = new.real_inode()?.flags().contains(InodeFlags::OP_PERMISSION)
            || new.lower().iter().any(|lower| {
                lower.dentry.inode().is_some_and(|inode| inode.flags().contains(InodeFlags::OP_PERMISSION))
            });
        if !self.almighty || layers_ask {
            inode_flags |= InodeFlags::OP_PERMISSION;
        }
        let init = InodeInit {
            uid: shown.uid(),
            gid: shown.gid(),
            rdev: shown.rdev(),
            nlink: shown.nlink(),
            flags: inode_flags,
            time: shown.times().mtime,
            ..InodeInit::new(ino, shown.mode())
        };
        let inode = Inode::new(sb.clone(), init, new)?;
        node(&inode)?.copy_attributes(&inode)?;
        if let Some(text) = shown.cached_link() {
            inode.set_cached_link(text.clone());
        }
        Ok(inode)
    }

    /// A place in the directory `parent`.
    pub(crate) fn new_place(parent: &Arc<Inode>, name: &[u8]) -> Result<Arc<Place>> {
        let name = try_into_boxed_slice(try_to_vec(name)?)?;
        Ok(mm::try_arc(Place { parent: parent.clone(), name })?)
    }
}
