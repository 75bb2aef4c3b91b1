//! Write-back: when dirty pages go to their devices, and what that means for those who make pages dirty.
//!
//! | file | what |
//! |---|---|
//! | this | parameters (`vm.dirty_*`, `proc_sys_vm(5)`) and thresholds |
//! | `device` | [`BackingDevice`]: what is dirty of a device, since when; its rules |
//! | `devices` | all of them |
//! | `flusher` | the threads that write: in the background, by age, because memory is short |
//! | `bandwidth` | how fast a device writes |
//! | `throttle` | writers wait so that devices keep up |

mod bandwidth;
mod device;
pub mod devices;
mod flusher;
mod throttle;

pub use device::BackingDevice;
pub(crate) use device::DirtyState;
pub use flusher::{Reason, start, wake_all};
pub(crate) use throttle::{balance, balance_after_fault, wait_for_progress};

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::stats::{self, Item};
use arch::addr::PAGE_SIZE;

/// `vm.dirty_ratio`: per cent of the memory that is available, from which on writers wait. Used when [`static@DIRTY_BYTES`] is 0.
pub static DIRTY_RATIO: AtomicUsize = AtomicUsize::new(20);
/// `vm.dirty_bytes`: the same in bytes.
pub static DIRTY_BYTES: AtomicUsize = AtomicUsize::new(0);
/// `vm.dirty_background_ratio`: per cent from which on pages are written in the background.
pub static BACKGROUND_RATIO: AtomicUsize = AtomicUsize::new(10);
/// `vm.dirty_background_bytes`: the same in bytes.
pub static BACKGROUND_BYTES: AtomicUsize = AtomicUsize::new(0);
/// `vm.dirty_expire_centisecs`: the age at which a page is written in any case.
pub static EXPIRE_CENTISECS: AtomicU32 = AtomicU32::new(3000);
/// `vm.dirty_writeback_centisecs`: how often ages are looked at; 0 never.
pub static INTERVAL_CENTISECS: AtomicU32 = AtomicU32::new(500);
/// `vm.dirtytime_expire_seconds`: the age at which an inode is written of which only times changed.
pub static DIRTYTIME_SECONDS: AtomicU32 = AtomicU32::new(43_200);
/// `vm.laptop_mode`: seconds after a read at which all is written, to let the disk sleep; 0 off.
pub static LAPTOP_MODE: AtomicU32 = AtomicU32::new(0);

/// The most pages that one call has read ahead, whatever the device (`io_pages`): 2 MiB.
pub(crate) const BIGGEST_READ: u64 = (2 << 20) / PAGE_SIZE as u64;

/// Milliseconds since boot.
pub(crate) fn now_ms() -> u64 {
    sched::time::monotonic_ns() / 1_000_000
}

/// Dirty pages from which on writers wait, and from which on the background writes (`nr_dirty_threshold`,
/// `nr_dirty_background_threshold`).
pub fn thresholds() -> (usize, usize) {
    let reserve: usize = crate::node::zones().map(|zone| zone.mark(crate::zone::Mark::High)).sum();
    let cache = stats::item(Item::InactiveFile) + stats::item(Item::ActiveFile);
    let available = stats::meminfo().free.saturating_sub(reserve) + cache;
    let pages = |bytes: &AtomicUsize, ratio: &AtomicUsize| match bytes.load(Relaxed) {
        0 => available / 100 * ratio.load(Relaxed) + available % 100 * ratio.load(Relaxed) / 100,
        bytes => bytes.div_ceil(PAGE_SIZE),
    };
    let hard = pages(&DIRTY_BYTES, &DIRTY_RATIO);
    let soft = pages(&BACKGROUND_BYTES, &BACKGROUND_RATIO);
    // The background must have a chance to begin before writers wait.
    (hard, if soft >= hard { hard / 2 } else { soft })
}
