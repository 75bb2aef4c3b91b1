//! Taking blocks.
//!
//! A request has a goal and a length. In this order: what is free at the goal; a run that is long enough behind the goal in its
//! group; a run that is long enough in another group of the same flexible group; in any group; then the same with half the
//! length. So a file becomes long runs near to its inode, and a full disk is used to the last block.

use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::bits::{self, Words};
use super::counter::Reserve;
use super::group::{Bitmap, State};
use crate::tx::Handle;
use crate::volume::Volume;

/// Blocks of the device, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub start: u64,
    /// How many.
    pub len: u32,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Where.
    pub goal: u64,
    /// How many at most; at least 1.
    pub len: u32,
    /// What is free at the goal is taken even if it is shorter: what is there would go on.
    pub append: bool,
    /// Who pays.
    pub reserve: Reserve,
    /// The blocks were promised before ([`super::Space::promise`]), and are not any more when they are taken.
    pub promised: bool,
}

/// Requests of as many blocks go where the last such one ended, if the goal has no room.
const STREAM_LEN: u32 = 16;

impl Volume {
    /// Takes up to `request.len` blocks, one behind the other, and at least one.
    ///
    /// # Errors
    /// `ENOSPC` (see [`Volume::with_room`]); `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn allocate(&self, tx: &mut Handle, request: &Request) -> Result<Run> {
        let mut len = request.len.clamp(1, self.layout.clusters_per_group);
        if !request.promised {
            // With less than was asked for.
            while let Err(error) = self.space.promise(len.into(), request.reserve) {
                if len == 1 {
                    return Err(error);
                }
                len /= 2;
            }
        }
        let found = self.search(tx, request, len);
        let used = found.as_ref().map_or(0, |run| run.len);
        self.space.used(used.into());
        // What is not used of it is not promised any more; who had a promise keeps the rest.
        self.space.unpromise(if request.promised { used.into() } else { len.into() });
        found
    }

    fn search(&self, tx: &mut Handle, request: &Request, wanted: u32) -> Result<Run> {
        let layout = &self.layout;
        let in_range = layout.is_valid(request.goal, 1);
        let goal = if in_range { request.goal } else { layout.first_data_block.into() };
        let (group, at) = layout.group_of(goal);
        if let Some(run) = self.take_at(tx, group, at, wanted, request.append)? {
            return Ok(run);
        }
        let flex = 1u32 << layout.flex_bits.min(16);
        let flex_start = group / flex * flex;
        let mut len = wanted;
        loop {
            let order = len.ilog2();
            if let Some(run) = self.take_in(tx, group, at, len, order)? {
                return Ok(run);
            }
            let last = self.groups.stream.load(Ordering::Relaxed);
            let stream = if len >= STREAM_LEN && last != 0 { layout.group_of(last).0 } else { group };
            let ranges = [
                (group + 1, flex_start.saturating_add(flex)),
                (flex_start, group),
                (stream, layout.groups),
                (0, layout.groups),
            ];
            for (from, to) in ranges {
                let mut from = from;
                while let Some(other) = self.groups.index.next(order, from, to) {
                    if let Some(run) = self.take_in(tx, other, 0, len, order)? {
                        if len >= STREAM_LEN {
                            self.groups.stream.store(run.start + u64::from(run.len), Ordering::Relaxed);
                        }
                        return Ok(run);
                    }
                    from = other + 1;
                }
            }
            if len == 1 {
                return Err(Errno::ENOSPC);
            }
            len = if len.is_power_of_two() { len / 2 } else { 1 << len.ilog2() };
        }
    }

    /// What is free at the goal itself.
    fn take_at(
        &self,
        tx: &mut Handle,
        group: u32,
        at: u32,
        wanted: u32,
        append: bool,
    ) -> Result<Option<Run>> {
        if self.groups.get(group)?.free.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let Ok(mut state) = self.lock_blocks(group) else { return Ok(None) };
        let count = self.layout.group_blocks(group);
        let end = bits::next(&state.taken, at, count, true);
        let len = end.saturating_sub(at);
        if len == 0 || len < wanted && !append {
            return Ok(None);
        }
        self.take(tx, group, &mut state, at, len.min(wanted)).map(Some)
    }

    /// A run of at least `len` blocks in a group, preferably behind `from`; what is there is at least 2^`order`.
    fn take_in(&self, tx: &mut Handle, group: u32, from: u32, len: u32, order: u32) -> Result<Option<Run>> {
        let index = &self.groups.index;
        if index.next(order, group, group + 1).is_none() {
            return Ok(None);
        }
        // A damaged group is not used; that was said.
        let Ok(mut state) = self.lock_blocks(group) else {
            index.set(group, 0);
            return Ok(None);
        };
        let count = self.layout.group_blocks(group);
        if state.longest < len {
            return Ok(None);
        }
        let behind = bits::free_runs(&state.taken, from, count).find(|(_, run)| *run >= len);
        let found = match behind {
            Some(found) => Some(found),
            None => {
                let mut longest = 0;
                let found = bits::free_runs(&state.taken, 0, count).find(|(_, run)| {
                    longest = longest.max(*run);
                    *run >= len
                });
                if found.is_none() {
                    // The whole group was looked at.
                    state.longest = longest;
                    index.set(group, longest);
                }
                found
            }
        };
        let Some((start, _)) = found else { return Ok(None) };
        self.take(tx, group, &mut state, start, len).map(Some)
    }

    /// Takes blocks that are free.
    fn take(&self, tx: &mut Handle, group: u32, state: &mut State, at: u32, len: u32) -> Result<Run> {
        let start = self.layout.group_start(group) + u64::from(at);
        if !self.is_valid(start, len.into()) {
            let text = format_args!(
                "Allocating blocks {start}-{} which overlap fs metadata",
                start + u64::from(len)
            );
            return Err(self.damaged("ext4_mb_mark_diskspace_used", 0, start, text));
        }
        let changed = self.modify_bitmap(
            tx,
            group,
            Bitmap::Blocks,
            |bytes| bits::change(bytes, at..at + len, true),
            |desc, changed| desc.free_clusters = desc.free_clusters.saturating_sub(*changed),
        )?;
        Words(&mut state.taken).change(at..at + len, true);
        if changed != len {
            let text =
                format_args!("group {group}: {} of the blocks from {start} were in use", len - changed);
            return Err(self.damaged("ext4_mb_mark_diskspace_used", 0, start, text));
        }
        if state.longest != 0 && self.groups.get(group)?.free.load(Ordering::Relaxed) == 0 {
            state.longest = 0;
            self.groups.index.set(group, 0);
        }
        Ok(Run { start, len })
    }
}
