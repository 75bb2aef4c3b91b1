//! See [`crate::resource`].

use super::platform::platform;
use crate::resource::{Space, Used};

/// Ports of the chips that every PC has and that this kernel programs.
const PORTS: [(u64, u64, &str); 4] =
    [(0x20, 0x21, "pic1"), (0x40, 0x43, "timer0"), (0x70, 0x71, "rtc0"), (0xa0, 0xa1, "pic2")];

const IOAPICS: [&str; 8] =
    ["IOAPIC 0", "IOAPIC 1", "IOAPIC 2", "IOAPIC 3", "IOAPIC 4", "IOAPIC 5", "IOAPIC 6", "IOAPIC 7"];

/// Calls `f` with each range.
pub fn for_each(f: &mut dyn FnMut(Used)) {
    for (start, last, name) in PORTS {
        f(Used { space: Space::Ports, start, last, name });
    }
    let platform = platform();
    for (ioapic, name) in platform.ioapics.iter().take(platform.ioapic_count).zip(IOAPICS) {
        f(Used::memory(ioapic.address.into(), 0x400, name));
    }
    if let Some(hpet) = platform.hpet {
        f(Used::memory(hpet, 0x400, "HPET 0"));
    }
    f(Used::memory(platform.lapic, 0x1000, "Local APIC"));
}
