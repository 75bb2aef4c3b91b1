//! Inodes that a crash must not leave behind: without a name but still open, or with more blocks than their size says because
//! they are being truncated. They are in a list in the super block, linked through `dtime`, or in a file (`orphan_file`). When the file
//! system is mounted for writing they are truncated or freed.

pub mod file;
pub mod list;

use abi::Result;
use alloc::sync::Arc;
use sched::mutex::Mutex;

use crate::disk::features::Compat;
use crate::disk::super_block::SuperBlock;
use crate::raw::RawInode;
use crate::tx::Handle;
use crate::volume::Volume;

/// Blocks that adding or taking out changes: the inode, the one before it in the list, the super block; or a block of the file.
pub const CREDITS: u32 = 4;

/// Which inodes are orphans.
pub struct Orphans {
    pub(crate) state: Mutex<State>,
    /// The inode of the orphan file; 0: there is none.
    pub(crate) file: u32,
}

/// What is behind the lock.
#[derive(Default)]
pub(crate) struct State {
    /// Those in the list, as it is on the device: the newest first.
    pub(crate) list: alloc::vec::Vec<u32>,
    /// Those in the file: inode, block of the file, place there.
    pub(crate) placed: mm::SortedMap<u32, (u32, u32)>,
    /// Blocks of the orphan file on the device.
    pub(crate) blocks: alloc::vec::Vec<Arc<buffer::Buffer>>,
    /// Where the next free place may be.
    pub(crate) next: u32,
}

impl Orphans {
    /// None yet.
    pub fn new(sb: &SuperBlock) -> Self {
        let has_file = sb.compat().contains(Compat::ORPHAN_FILE);
        let file = if has_file { sb.orphan_file_inum.get() } else { 0 };
        Self { state: Mutex::new(State::default()), file }
    }
}

impl Volume {
    /// Notes an inode, if it is not noted yet.
    ///
    /// # Errors
    /// Those of the handle; `EIO`.
    pub fn add_orphan(&self, tx: &mut Handle, node: &RawInode) -> Result<()> {
        let mut state = self.orphans.state.lock();
        if state.list.contains(&node.ino) || state.placed.get(&node.ino).is_some() {
            return Ok(());
        }
        if self.orphans.file != 0 && self.add_to_file(tx, &mut state, node.ino)? {
            return Ok(());
        }
        self.add_to_list(tx, &mut state, node)
    }

    /// An inode is no orphan any more.
    ///
    /// # Errors
    /// Those of the handle; `EIO`.
    pub fn remove_orphan(&self, tx: &mut Handle, node: &RawInode) -> Result<()> {
        let mut state = self.orphans.state.lock();
        if let Some((block, at)) = state.placed.remove(&node.ino) {
            return self.remove_from_file(tx, &mut state, block, at);
        }
        self.remove_from_list(tx, &mut state, node)
    }

    /// Whether there are none.
    pub fn has_orphans(&self) -> bool {
        let state = self.orphans.state.lock();
        !state.list.is_empty() || !state.placed.is_empty()
    }
}
