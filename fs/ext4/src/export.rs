//! File handles: an inode's number and generation.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::Result;
use mm::fallible::TryVec;
use vfs::export::{ExportOps, FILEID_INO32_GEN, Fid};
use vfs::{Dentry, Inode, SuperBlock};

use crate::fs::Fs;
use crate::inode::load::Purpose;
use crate::inode::node;

/// The same with the parent's number and generation (`FILEID_INO32_GEN_PARENT`).
const FILEID_INO32_GEN_PARENT: i32 = 2;

/// Most directories above one another that a directory's place is looked for in.
const MAX_DEPTH: usize = 2048;

/// How inodes are found by handles.
pub struct Export(pub(crate) Arc<Fs>);

impl ExportOps for Export {
    fn encode(&self, inode: &Inode, _: Option<&Arc<Dentry>>) -> Result<Fid> {
        let generation = inode.generation.load(Ordering::Relaxed);
        Ok(Fid::new(FILEID_INO32_GEN, [inode.ino() as u32, generation]))
    }

    fn decode(&self, sb: &Arc<SuperBlock>, kind: i32, words: &[u32]) -> Option<Arc<Dentry>> {
        if !matches!(kind, FILEID_INO32_GEN | FILEID_INO32_GEN_PARENT) {
            return None;
        }
        let [ino, generation, ..] = *words else { return None };
        let inode = self.0.iget(sb, ino, Purpose::Handle).ok()?;
        // Generation 0 is any.
        if generation != 0 && inode.generation.load(Ordering::Relaxed) != generation {
            return None;
        }
        if inode.is_dir() {
            return self.reconnect(sb, &inode);
        }
        // Its names are not known: it is shown without one.
        Dentry::new_disconnected(sb, b"/", inode).ok()
    }
}

impl Export {
    /// The dentry of a directory: up to the root by `..`, and down again by the names that are found there.
    fn reconnect(&self, sb: &Arc<SuperBlock>, dir: &Arc<Inode>) -> Option<Arc<Dentry>> {
        let root = sb.root()?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = dir.clone();
        while !root.inode().is_some_and(|root| Arc::ptr_eq(root, &at)) {
            if names.len() >= MAX_DEPTH {
                return None;
            }
            let found = {
                let _names = at.rwsem.read();
                node(&at).ok()?.find_entry(b"..").ok()??
            };
            let parent = self.0.iget(sb, found.ino, Purpose::Named).ok()?;
            if !parent.is_dir() || Arc::ptr_eq(&parent, &at) {
                return None;
            }
            let name = {
                let _names = parent.rwsem.read();
                node(&parent).ok()?.name_of(at.ino()).ok()??
            };
            names.try_push(name).ok()?;
            at = parent;
        }
        let mut dentry = root;
        while let Some(name) = names.pop() {
            dentry = vfs::namei::lookup::lookup_one(&dentry, &name).ok()?;
        }
        dentry.inode().is_some_and(|inode| Arc::ptr_eq(inode, dir)).then_some(dentry)
    }
}
