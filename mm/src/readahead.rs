//! Readahead: pages are read before they are asked for, where that is likely to pay.
//!
//! Each open file has a [`ReadState`]: the window that was read last, `start..start + size`, of which the last `async_size` pages are ahead
//! of what was asked for. The first of these carries the flag `READAHEAD`. A reader that comes to it has the next window read, twice as
//! large, while it still has pages to go through: so a stream never waits. A reader that finds nothing begins a window, if it looks
//! like a stream: at the beginning of the file, or where it left off. Others get what they ask for and nothing more.
//!
//! Several streams through one open file disturb each other's window, but not the cache: pages behind or ahead of the position that are
//! cached without a gap tell of a stream as well (*On the design of a new Linux readahead framework*, Wu Fengguang et al., 2008). The
//! numbers are those of Linux's `mm/readahead.c`.
//!
//! [`decide`] knows nothing of folios: it is tested with traces.

use crate::filemap::{Mapping, PAGE};
use crate::folio_lock::FolioGuard;
use crate::gfp::Gfp;
use crate::page::PageFlags;
use core::sync::atomic::{AtomicU32, Ordering};

/// What a device reads ahead unless told otherwise, in pages (`VM_READAHEAD_PAGES`: 128 KiB).
pub const DEFAULT_PAGES: u32 = 32;
/// Beyond so many misses a mapping is not read around any more.
const MMAP_LOTSAMISS: u32 = 100;

/// What a user said about the way a file is read (`POSIX_FADV_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    #[default]
    Normal,
    /// From the beginning to the end: twice as far ahead.
    Sequential,
    /// Here and there: nothing ahead.
    Random,
}

/// Where readahead stands in an open file.
#[derive(Clone, Copy, Debug)]
pub struct ReadState {
    /// First page of the window.
    pub start: u64,
    /// Pages in the window.
    pub size: u32,
    /// So many pages before its end the next window is read.
    pub async_size: u32,
    /// Most pages of a window; `None`: as the device has it.
    pub pages: Option<u32>,
    /// Faults that found nothing, less those that did.
    pub mmap_miss: u32,
    /// The byte behind the last read; `u64::MAX`: there was none.
    pub previous: u64,
    /// What the user said.
    pub advice: Advice,
}

impl ReadState {
    /// Of a file that is opened now.
    pub const fn new() -> Self {
        Self {
            start: 0,
            size: 0,
            async_size: 0,
            pages: None,
            mmap_miss: 0,
            previous: u64::MAX,
            advice: Advice::Normal,
        }
    }

    /// Most pages of a window, for a device that reads `device` pages ahead.
    pub fn max_pages(&self, device: u32) -> u32 {
        let pages = self.pages.unwrap_or(device);
        if self.advice == Advice::Sequential { pages.saturating_mul(2) } else { pages }
    }
}

impl Default for ReadState {
    fn default() -> Self {
        Self::new()
    }
}

/// What brings readahead about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A page was missing.
    Missing,
    /// A page with the mark was come by.
    Marker,
}

/// Pages that are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub start: u64,
    /// How many.
    pub pages: u32,
    /// How many of them, at the end, are ahead: the first of these gets the mark.
    pub ahead: u32,
}

/// What the cache holds around a page.
pub trait History {
    /// How many pages before `index` are cached without a gap, up to `max`.
    fn before(&self, index: u64, max: u32) -> u64;
    /// How many pages from `index` on are cached without a gap, up to `max`.
    fn from(&self, index: u64, max: u32) -> u64;
}

fn first_size(wanted: u32, max: u32) -> u32 {
    let size = wanted.checked_next_power_of_two().unwrap_or(max);
    if size <= max / 32 {
        size * 4
    } else if size <= max / 4 {
        size * 2
    } else {
        max
    }
}

fn next_size(size: u32, max: u32) -> u32 {
    if size < max / 16 {
        size * 4
    } else if size <= max / 2 {
        size * 2
    } else {
        max
    }
}

/// What to read when `wanted` pages from `index` on are asked for. `max`: most pages of a window, not 0.
pub fn decide(
    state: &mut ReadState,
    trigger: Trigger,
    index: u64,
    wanted: u32,
    max: u32,
    history: &dyn History,
) -> Option<Window> {
    let wanted = wanted.max(1);
    match trigger {
        Trigger::Missing => {
            if state.advice == Advice::Random {
                return Some(Window { start: index, pages: wanted, ahead: 0 });
            }
            let before = state.previous / PAGE;
            let continues = state.previous != u64::MAX && index.wrapping_sub(before) <= 1;
            if index == 0 || wanted > max || continues {
                state.start = index;
                state.size = first_size(wanted, max);
                state.async_size = if state.size > wanted { state.size - wanted } else { state.size / 2 };
            } else {
                let behind = history.before(index, max);
                if behind <= u64::from(wanted) {
                    // Alone: the window stays another's.
                    return Some(Window { start: index, pages: wanted, ahead: 0 });
                }
                // From the beginning of the file on: a strong sign.
                let behind = if behind == index { behind * 2 } else { behind };
                state.start = index;
                state.size = (behind + u64::from(wanted)).min(u64::from(max)) as u32;
                state.async_size = 1;
            }
        }
        Trigger::Marker => {
            let expected = (state.start + u64::from(state.size)).checked_sub(u64::from(state.async_size));
            if expected == Some(index) && state.size > 0 {
                state.start += u64::from(state.size);
                state.size = next_size(state.size, max);
            } else {
                // Another stream's window: what is cached from here on is as large as that was.
                let ahead = history.from(index + 1, max) + 1;
                if ahead > u64::from(max) {
                    return None;
                }
                state.start = index + ahead;
                state.size = next_size((ahead as u32).saturating_add(wanted), max);
            }
            state.async_size = state.size;
        }
    }
    Some(Window { start: state.start, pages: state.size, ahead: state.async_size })
}

/// What a fault of a mapping reads that finds nothing: pages around it (`do_sync_mmap_readahead`).
pub fn decide_around(state: &mut ReadState, index: u64, max: u32) -> Option<Window> {
    state.mmap_miss = (state.mmap_miss + 1).min(MMAP_LOTSAMISS * 10);
    if max == 0 || state.mmap_miss > MMAP_LOTSAMISS {
        return None;
    }
    state.start = index.saturating_sub(u64::from(max / 2));
    state.size = max;
    state.async_size = max / 4;
    Some(Window { start: state.start, pages: state.size, ahead: state.async_size })
}

/// Folios that are to be read ahead: each comes locked, in the cache, without contents. Those that are cached already are passed over.
pub struct Run<'a> {
    mapping: &'a Mapping,
    next: u64,
    end: u64,
    mark: u64,
    got: u32,
}

impl<'a> Run<'a> {
    fn new(mapping: &'a Mapping, window: Window) -> Self {
        let size = mapping.size().div_ceil(PAGE);
        let end = window.start.saturating_add(u64::from(window.pages));
        let mark = if window.ahead == 0 { u64::MAX } else { end.saturating_sub(u64::from(window.ahead)) };
        Self { mapping, next: window.start, end: end.min(size), mark, got: 0 }
    }

    /// The mapping.
    pub fn mapping(&self) -> &'a Mapping {
        self.mapping
    }

    /// The byte behind the last page that may come.
    pub fn end(&self) -> u64 {
        self.end.saturating_mul(PAGE)
    }

    /// The next folio. `None`: no more, or no memory for it.
    #[expect(clippy::should_implement_trait, reason = "the run can be asked for its end in between")]
    pub fn next(&mut self) -> Option<FolioGuard> {
        while self.next < self.end {
            let index = self.next;
            self.next += 1;
            if self.mapping.get(index).is_some() {
                continue;
            }
            let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN;
            match self.mapping.add_to_read(index, gfp) {
                Ok(Some(guard)) => {
                    if index == self.mark {
                        guard.page().set(PageFlags::READAHEAD);
                    }
                    self.got += 1;
                    return Some(guard);
                }
                Ok(None) => {}
                Err(_) => {
                    self.next = self.end;
                    return None;
                }
            }
        }
        None
    }
}

impl History for Mapping {
    fn before(&self, index: u64, max: u32) -> u64 {
        self.cached_before(index, u64::from(max))
    }

    fn from(&self, index: u64, max: u32) -> u64 {
        self.cached_from(index, u64::from(max))
    }
}

/// What mappings without a device of their own read ahead.
static PAGES: AtomicU32 = AtomicU32::new(DEFAULT_PAGES);

impl Mapping {
    /// Pages that are read ahead at most, unless an open file says otherwise.
    pub fn read_ahead_pages(&self) -> u32 {
        self.device().map_or_else(|| PAGES.load(Ordering::Relaxed), |device| device.read_ahead_pages())
    }

    /// Has a window read, if the file system can do that. Nothing is waited for.
    pub(crate) fn read_window(&self, window: Window) {
        let mut run = Run::new(self, window);
        let _shared = self.invalidate_lock().read();
        self.ops().readahead(&mut run);
    }

    /// Pages from `index` on are asked for, and the first is missing.
    pub(crate) fn read_ahead_missing(&self, state: &mut ReadState, index: u64, wanted: u32) {
        let max = state.max_pages(self.read_ahead_pages());
        let window = if max == 0 {
            Some(Window { start: index, pages: 1, ahead: 0 })
        } else {
            decide(state, Trigger::Missing, index, wanted, max, self)
        };
        if let Some(window) = window {
            self.read_window(window);
        }
    }

    /// A page with the mark is come by.
    pub(crate) fn read_ahead_marked(&self, state: &mut ReadState, page: &crate::Page, wanted: u32) {
        let max = state.max_pages(self.read_ahead_pages());
        if max == 0 || page.test(PageFlags::WRITEBACK) {
            return;
        }
        page.clear(PageFlags::READAHEAD);
        if let Some(window) = decide(state, Trigger::Marker, page.index(), wanted, max, self) {
            self.read_window(window);
        }
    }

    /// Has pages read that somebody says to want (`readahead(2)`, `POSIX_FADV_WILLNEED`): in pieces of 2 MiB, and no more than the device
    /// takes at once.
    pub fn force_read_ahead(&self, index: u64, pages: u64) {
        if self.is_memory() {
            return;
        }
        let most = u64::from(self.read_ahead_pages().max(1)).max(crate::writeback::BIGGEST_READ);
        let (mut at, mut left) = (index, pages.min(most));
        while left > 0 {
            let now = left.min((2 << 20) / PAGE);
            self.read_window(Window { start: at, pages: now as u32, ahead: 0 });
            (at, left) = (at.saturating_add(now), left - now);
        }
    }
}

#[cfg(test)]
mod tests;
