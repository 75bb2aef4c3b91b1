//! Where the blocks of a file are: the one question that reading asks, whatever the answer comes from.

use core::ops::Range;

use abi::Result;

use crate::disk::inode::Flags;
use crate::inode::Node;

/// What the blocks of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nowhere: they read as zeros.
    Hole,
    /// On the device.
    Written,
    /// They have their place on the device, and read as zeros.
    Unwritten,
}

/// A run of blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First block on the device; 0 for a hole.
    pub start: u64,
    /// Blocks, at least 1.
    pub len: u32,
    /// What they are.
    pub state: State,
}

impl Mapped {
    /// A hole.
    pub fn hole(len: u32) -> Self {
        Self { start: 0, len, state: State::Hole }
    }

    /// The blocks on the device, if there is something to be read.
    pub fn on_device(&self) -> Option<Range<u64>> {
        (self.state == State::Written).then(|| self.start..self.start + u64::from(self.len))
    }
}

impl Node {
    /// Where `block` of the file is, and as many behind it as are known to be like it, one behind the other.
    ///
    /// # Errors
    /// `EUCLEAN`, `EBADMSG`: the file's tree is damaged; `EIO`, `ENOMEM`.
    pub fn map(&self, block: u32) -> Result<Mapped> {
        if let Some(known) = self.status.get(block) {
            return Ok(known);
        }
        let _tree = self.tree.read();
        self.map_locked(block)
    }

    /// The same with `tree` held.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_locked(&self, block: u32) -> Result<Mapped> {
        if self.flags().contains(Flags::INLINE_DATA) {
            return Ok(Mapped::hole(u32::MAX - block));
        }
        let mapped = match self.flags().contains(Flags::EXTENTS) {
            true => self.find_extent(block)?,
            false => self.find_address(block)?,
        };
        self.status.insert(block, mapped);
        Ok(mapped)
    }
}
