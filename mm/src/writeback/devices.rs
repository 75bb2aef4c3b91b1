//! All devices that pages are written to.

use super::BackingDevice;
use crate::fallible::TryVec;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;

static ALL: SpinLock<Vec<Weak<BackingDevice>>> = SpinLock::new(Vec::new());

pub(super) fn add(device: &Arc<BackingDevice>) -> Result<()> {
    let mut room: Vec<Weak<BackingDevice>> = Vec::new();
    loop {
        {
            let mut all = ALL.lock();
            all.retain(|weak| weak.strong_count() > 0);
            if all.len() < all.capacity() {
                all.push_reserved(Arc::downgrade(device));
                return Ok(());
            }
            if room.capacity() > all.len() {
                core::mem::swap(&mut *all, &mut room);
                for weak in room.drain(..) {
                    all.push_reserved(weak);
                }
                continue;
            }
            room = Vec::new();
        }
        let wanted = (ALL.lock().len() * 2).max(8);
        room.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
    }
}

fn nth(at: usize) -> Option<Option<Arc<BackingDevice>>> {
    ALL.lock().get(at).map(Weak::upgrade)
}

/// Calls `f` with each device that is there.
pub fn for_each(f: &mut dyn FnMut(&Arc<BackingDevice>)) {
    let mut at = 0;
    while let Some(device) = nth(at) {
        if let Some(device) = device {
            f(&device);
        }
        at += 1;
    }
}

/// The device with these numbers (`/sys/class/bdi/MAJ:MIN`).
pub fn by_numbers(numbers: (u32, u32)) -> Option<Arc<BackingDevice>> {
    let mut found = None;
    for_each(&mut |device| {
        if device.numbers() == Some(numbers) {
            found = Some(device.clone());
        }
    });
    found
}
