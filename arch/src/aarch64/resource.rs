//! See [`crate::resource`].

use super::native::{Gic, platform};
use crate::resource::Used;

/// Calls `f` with each range.
pub fn for_each(f: &mut dyn FnMut(Used)) {
    let platform = platform();
    match platform.gic {
        Some(Gic::V2 { dist, cpu }) => {
            f(Used::memory(dist.0, 0x1000, "GICD"));
            f(Used::memory(cpu.0, 0x2000, "GICC"));
        }
        Some(Gic::V3 { dist, redist }) => {
            f(Used::memory(dist.0, 0x1_0000, "GICD"));
            for (base, len) in redist.into_iter().filter(|(_, len)| *len > 0) {
                f(Used::memory(base.0, len, "GICR"));
            }
        }
        None => {}
    }
    if let Some(rtc) = platform.rtc {
        f(Used::memory(rtc.0, 0x1000, "rtc-pl031"));
    }
}
