//! The list: its head is in the super block, the next of each in its `dtime`.

use abi::Result;
use mm::TryVec;

use super::State;
use crate::raw::RawInode;
use crate::tx::Handle;
use crate::volume::Volume;

impl Volume {
    pub(super) fn add_to_list(&self, tx: &mut Handle, state: &mut State, node: &RawInode) -> Result<()> {
        state.list.try_insert(0, node.ino)?;
        let next = state.list.get(1).copied().unwrap_or(0);
        let done = self
            .modify_super(tx, |sb| sb.last_orphan.set(node.ino))
            .and_then(|()| node.update(self, tx, |core| core.dtime.set(next)));
        if done.is_err() {
            state.list.remove(0);
        }
        done
    }

    pub(super) fn remove_from_list(&self, tx: &mut Handle, state: &mut State, node: &RawInode) -> Result<()> {
        let Some(at) = state.list.iter().position(|ino| *ino == node.ino) else { return Ok(()) };
        let next = state.list.get(at + 1).copied().unwrap_or(0);
        match at.checked_sub(1).and_then(|before| state.list.get(before)) {
            None => self.modify_super(tx, |sb| sb.last_orphan.set(next))?,
            Some(before) => {
                RawInode::open(self, *before)?.update(self, tx, |core| core.dtime.set(next))?;
            }
        }
        node.update(self, tx, |core| core.dtime.set(0))?;
        state.list.remove(at);
        Ok(())
    }

    /// The inodes of the list as a crash left it, oldest last.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; a list that is no list ends where it is wrong.
    pub(crate) fn read_list(&self, state: &mut State) -> Result<()> {
        let data = self.sb.data();
        let sb: Option<&crate::disk::super_block::SuperBlock> = crate::disk::at(data.bytes(), self.sb_offset);
        let mut next = sb.map_or(0, |sb| sb.last_orphan.get());
        while next != 0 {
            let seen = state.list.contains(&next);
            let node = RawInode::open(self, next);
            let (false, true, Ok(node)) = (seen, next >= self.layout.first_ino, node) else {
                self.damaged("ext4_orphan_get", next, 0, format_args!("bad orphan inode {next}"));
                return Ok(());
            };
            state.list.try_push(next)?;
            next = node.core().dtime.get();
        }
        Ok(())
    }
}
