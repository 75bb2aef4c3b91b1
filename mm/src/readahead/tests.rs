//! Traces: which windows come for which accesses.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

/// A cache that holds whatever was read.
#[derive(Default)]
struct Cache {
    pages: BTreeSet<u64>,
    marks: BTreeSet<u64>,
    windows: Vec<(u64, u32, u32)>,
    missed: usize,
}

impl History for Cache {
    fn before(&self, index: u64, max: u32) -> u64 {
        (0..index).rev().take(max as usize).take_while(|at| self.pages.contains(at)).count() as u64
    }
    fn from(&self, index: u64, max: u32) -> u64 {
        (index..).take(max as usize).take_while(|at| self.pages.contains(at)).count() as u64
    }
}

impl Cache {
    fn fill(&mut self, window: Option<Window>, size: u64) {
        let Some(window) = window else { return };
        self.windows.push((window.start, window.pages, window.ahead));
        for at in window.start..(window.start + u64::from(window.pages)).min(size) {
            if self.pages.insert(at) && at + u64::from(window.ahead) == window.start + u64::from(window.pages)
            {
                self.marks.insert(at);
            }
        }
    }

    /// A read of `wanted` pages, page by page.
    fn read(&mut self, state: &mut ReadState, index: u64, wanted: u32, size: u64) {
        for at in index..(index + u64::from(wanted)).min(size) {
            let left = (index + u64::from(wanted) - at) as u32;
            if !self.pages.contains(&at) {
                self.missed += 1;
                let window = decide(state, Trigger::Missing, at, left, 32, self);
                self.fill(window, size);
            }
            if self.marks.remove(&at) {
                let window = decide(state, Trigger::Marker, at, left, 32, self);
                self.fill(window, size);
            }
            assert!(self.pages.contains(&at));
            state.previous = (at + 1) * PAGE - 1;
        }
    }
}

#[test]
fn a_stream_misses_once_and_its_windows_double() {
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    for at in 0..200 {
        cache.read(&mut state, at, 1, 1 << 20);
    }
    assert_eq!(cache.missed, 1);
    assert_eq!(cache.windows[..5], [(0, 4, 3), (4, 8, 8), (12, 16, 16), (28, 32, 32), (60, 32, 32)]);
    // Never more than two windows ahead.
    assert!(cache.pages.len() < 200 + 64);
}

#[test]
fn large_reads_from_the_beginning() {
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    for at in (0..512).step_by(16) {
        cache.read(&mut state, at, 16, 512);
    }
    assert_eq!((cache.missed, cache.pages.len()), (1, 512));
    assert_eq!(cache.windows[0], (0, 32, 16));
    // What is larger than a window is cut by the caller's loop.
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    cache.read(&mut state, 1000, 100, 1 << 20);
    assert_eq!(cache.windows[0], (1000, 32, 16));
}

#[test]
fn random_reads_bring_nothing_else() {
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    for at in [500, 20, 900, 333, 40, 777] {
        cache.read(&mut state, at, 1, 1000);
    }
    assert_eq!((cache.pages.len(), cache.missed), (6, 6));
    state.advice = Advice::Random;
    for at in 100..110 {
        cache.read(&mut state, at, 1, 1000);
    }
    assert_eq!(cache.pages.len(), 16);
}

#[test]
fn a_stream_in_the_middle_is_seen_at_its_second_read() {
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    for at in 5000..5200 {
        cache.read(&mut state, at, 1, 1 << 20);
    }
    assert_eq!(cache.windows[..2], [(5000, 1, 0), (5001, 4, 3)]);
    assert_eq!(cache.missed, 2);
}

#[test]
fn interleaved_streams_are_recognised_by_what_is_cached() {
    let (mut cache, mut state) = (Cache::default(), ReadState::new());
    let mut misses = BTreeMap::new();
    for at in 0..400u64 {
        for stream in [10_000, 50_000] {
            let before = cache.missed;
            cache.read(&mut state, stream + at, 1, 1 << 20);
            *misses.entry(stream).or_insert(0) += cache.missed - before;
        }
    }
    // A few until they are known; then none.
    assert!(misses.values().all(|&count| count <= 4), "{misses:?} {:?}", cache.windows);
}

#[test]
fn faults_read_around_until_it_does_not_pay() {
    let mut state = ReadState::new();
    assert_eq!(decide_around(&mut state, 100, 32), Some(Window { start: 84, pages: 32, ahead: 8 }));
    assert_eq!(decide_around(&mut state, 3, 32), Some(Window { start: 0, pages: 32, ahead: 8 }));
    for at in 0..200 {
        decide_around(&mut state, at * 1000, 32);
    }
    assert_eq!(decide_around(&mut state, 7, 32), None);
    let sizes: Vec<u32> = vec![first_size(1, 32), first_size(2, 32), first_size(9, 32), next_size(1, 32)];
    assert_eq!(sizes, [4, 4, 32, 4]);
}
