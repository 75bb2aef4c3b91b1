//! In which group a new inode is.
//!
//! Directories are spread (M. Orlov's rule): those at the top over all (flexible) groups, those below near to their parent unless
//! its group is fuller than others. Files are where their directory is.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Errno, Result};

use crate::volume::Volume;

/// What a flexible group has.
#[derive(Clone, Copy, Default)]
struct Sums {
    inodes: u64,
    clusters: u64,
    dirs: u64,
}

impl Volume {
    fn flex_size(&self) -> u32 {
        1 << self.layout.flex_bits.min(16)
    }

    fn sums(&self, flex: u32) -> Sums {
        let size = self.flex_size();
        let mut sums = Sums::default();
        for group in self.groups.iter().skip(flex as usize * size as usize).take(size as usize) {
            sums.inodes += u64::from(group.free_inodes.load(Relaxed));
            sums.clusters += u64::from(group.free.load(Relaxed));
            sums.dirs += u64::from(group.used_dirs.load(Relaxed));
        }
        sums
    }

    fn has_inodes(&self, group: u32) -> bool {
        self.groups.get(group).is_ok_and(|group| group.free_inodes.load(Relaxed) > 0)
    }

    /// The first group of a flexible group with a free inode, from `first` on and around.
    fn first_in(&self, flex: u32, first: u32) -> Option<u32> {
        let (start, size) = (flex * self.flex_size(), self.flex_size());
        let end = (start + size).min(self.layout.groups);
        (first.max(start)..end).chain(start..end).find(|group| self.has_inodes(*group))
    }

    /// The group of a new directory. `top`: its parent is the root, or has the flag `TOPDIR`; `random` spreads those.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn group_for_dir(&self, parent: u32, top: bool, random: u32) -> Result<u32> {
        let size = self.flex_size();
        let flexes = self.layout.groups.div_ceil(size);
        let own = parent / size;
        let free_inodes = u64::from(self.groups.free_inodes());
        let average_inodes = free_inodes / u64::from(flexes);
        let average_clusters = self.space.free() / u64::from(flexes);
        if top {
            let start = random % flexes;
            let mut best: Option<(u64, u32)> = None;
            for flex in (start..flexes).chain(0..start) {
                let sums = self.sums(flex);
                if sums.inodes > 0
                    && sums.inodes >= average_inodes
                    && sums.clusters >= average_clusters
                    && best.is_none_or(|(dirs, _)| sums.dirs < dirs)
                {
                    best = Some((sums.dirs, flex));
                }
            }
            if let Some(group) = best.and_then(|(_, flex)| self.first_in(flex, 0)) {
                return Ok(group);
            }
        } else {
            let per_flex = u64::from(self.layout.inodes_per_group) * u64::from(size);
            let clusters_per_flex = u64::from(self.layout.clusters_per_group) * u64::from(size);
            let most_dirs = self.groups.used_dirs() / u64::from(flexes) + per_flex / 16;
            let least_inodes = average_inodes.saturating_sub(per_flex / 4).max(1);
            let least_clusters = average_clusters.saturating_sub(clusters_per_flex / 4);
            for flex in (own..flexes).chain(0..own) {
                let sums = self.sums(flex);
                if sums.inodes >= least_inodes
                    && sums.dirs < most_dirs
                    && sums.clusters >= least_clusters
                    && let Some(group) = self.first_in(flex, if flex == own { parent } else { 0 })
                {
                    return Ok(group);
                }
            }
        }
        let average = free_inodes / u64::from(self.layout.groups);
        let groups = || (parent..self.layout.groups).chain(0..parent);
        groups()
            .find(|group| {
                let free = self.groups.get(*group).map_or(0, |group| group.free_inodes.load(Relaxed));
                free > 0 && u64::from(free) >= average
            })
            .or_else(|| groups().find(|group| self.has_inodes(*group)))
            .ok_or(Errno::ENOSPC)
    }

    /// The group of a new file in a directory of group `parent`.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn group_for_file(&self, parent: u32, dir_ino: u32) -> Result<u32> {
        let has_both = |group: &u32| {
            self.has_inodes(*group) && self.groups.get(*group).is_ok_and(|group| group.free.load(Relaxed) > 0)
        };
        let (size, groups) = (self.flex_size(), self.layout.groups);
        let flex_start = parent / size * size;
        let flex_end = (flex_start + size).min(groups);
        if let Some(group) = (parent..flex_end).chain(flex_start..parent).find(has_both) {
            return Ok(group);
        }
        // Files of different directories of a full group go to different groups: a hash, then growing steps.
        let mut group = ((u64::from(parent) + u64::from(dir_ino)) % u64::from(groups)) as u32;
        let mut step = 1;
        while step < groups {
            if has_both(&group) {
                return Ok(group);
            }
            group = ((u64::from(group) + u64::from(step)) % u64::from(groups)) as u32;
            step <<= 1;
        }
        let mut all = (parent..groups).chain(0..parent);
        all.find(|group| self.has_inodes(*group)).ok_or(Errno::ENOSPC)
    }
}
