//! Giving blocks back. They are free on the device with the change that frees them, and may be taken again when that change is on the
//! device: until then a crash would bring the old owner back.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering;

use abi::Result;
use mm::try_box;

use super::bits;
use super::blocks::Run;
use super::group::{Bitmap, Groups};
use crate::tx::{Committed, Handle};
use crate::volume::Volume;

/// Blocks of one group that wait for their change.
struct Freed {
    /// Not the file system: the journal's thread must not be who lets it go.
    groups: Arc<Groups>,
    group: u32,
    range: Range<u32>,
    /// Of the group.
    count: u32,
}

impl Committed for Freed {
    fn committed(self: alloc::boxed::Box<Self>, _: Result<()>) {
        self.groups.release(self.group, self.range.clone(), self.count);
    }
}

impl Volume {
    /// Gives blocks back. Blocks of metadata were revoked before.
    ///
    /// # Errors
    /// `EFSCORRUPTED` for what cannot be a file's, or is free already; `EIO`, `ENOMEM`.
    pub fn free(self: &Arc<Self>, tx: &mut Handle, run: Run) -> Result<()> {
        if !self.is_valid(run.start, run.len.into()) {
            let text =
                format_args!("Freeing blocks not in datazone - block = {}, count = {}", run.start, run.len);
            return Err(self.damaged("ext4_free_blocks", 0, run.start, text));
        }
        let (mut start, mut left) = (run.start, run.len);
        while left > 0 {
            let (group, at) = self.layout.group_of(start);
            let len = left.min(self.layout.group_blocks(group).saturating_sub(at));
            if len == 0 {
                return Err(self.damaged("ext4_free_blocks", 0, start, format_args!("no such group")));
            }
            self.free_in(tx, group, at..at + len)?;
            (start, left) = (start + u64::from(len), left - len);
        }
        Ok(())
    }

    fn free_in(self: &Arc<Self>, tx: &mut Handle, group: u32, range: Range<u32>) -> Result<()> {
        let waiting = try_box(Freed {
            groups: self.groups.clone(),
            group,
            range: range.clone(),
            count: self.layout.group_blocks(group),
        })?;
        let state = self.lock_blocks(group)?;
        let changed = self.modify_bitmap(
            tx,
            group,
            Bitmap::Blocks,
            |bytes| {
                if range.clone().any(|bit| !bits::is_set(bytes, bit)) {
                    return 0;
                }
                bits::change(bytes, range.clone(), false)
            },
            |desc, changed| desc.free_clusters = desc.free_clusters.saturating_add(*changed),
        )?;
        drop(state);
        if changed == 0 {
            let start = self.layout.group_start(group) + u64::from(range.start);
            let text = format_args!("bit already cleared for block {start}");
            return Err(self.damaged("mb_free_blocks", 0, start, text));
        }
        self.space.freed(changed.into());
        self.groups.waiting.fetch_add(changed.into(), Ordering::Relaxed);
        tx.on_commit(waiting)
    }
}
