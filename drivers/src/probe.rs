//! Devices that are still being looked for, in the background.
//!
//! What a driver must wait for (a link that comes up, a disk that spins up) it does in a thread of its own, so that booting goes on. Who
//! needs all devices to be there, as to find the root file system, waits for the end of it: Linux's `wait_for_device_probe`.

use abi::Result;
use core::sync::atomic::{AtomicUsize, Ordering};
use sched::wait::WaitQueue;

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static DONE: WaitQueue = WaitQueue::new();

/// One who is looking for devices: as long as this lives.
struct Looking;

impl Looking {
    fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if RUNNING.fetch_sub(1, Ordering::AcqRel) == 1 {
            DONE.wake_all();
        }
    }
}

/// Has `f` look for devices in a thread called `name`.
///
/// # Errors
/// `ENOMEM`.
pub fn in_background(name: &str, f: impl FnOnce() + Send + 'static) -> Result<()> {
    let looking = Looking::begin();
    sched::kthread::spawn(name, move || {
        f();
        drop(looking);
    })?;
    Ok(())
}

/// Waits until all who began to look for devices are done.
pub fn wait() {
    DONE.wait_event(|| RUNNING.load(Ordering::Acquire) == 0);
}
