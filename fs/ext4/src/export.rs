//! File handles: an inode's number and generation.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Result;
use vfs::export::{ExportOps, FILEID_INO32_GEN, Fid};
use vfs::{Dentry, Inode, SuperBlock};

use crate::fs::Fs;
use crate::inode::load::Purpose;

/// The same with the parent's number and generation (`FILEID_INO32_GEN_PARENT`).
const FILEID_INO32_GEN_PARENT: i32 = 2;

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
        if let Some(root) = sb.root()
            && root.inode().is_some_and(|root| Arc::ptr_eq(root, &inode))
        {
            return Some(root);
        }
        vfs::export::alias_of(sb, &inode)
    }
}
