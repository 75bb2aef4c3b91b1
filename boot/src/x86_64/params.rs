//! The few boot parameters that matter before the kernel parses them all.

use arch::earlycon;
use arch::native::features;

/// Early console and processor features.
pub fn early(cmdline: &'static str) {
    for word in cmdline.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        match name {
            "earlycon" | "earlyprintk" => earlycon::enable(earlycon::setup(value)),
            "nosmap" => features::disable(features::SMAP),
            "nosmep" => features::disable(features::SMEP),
            "nopcid" => features::disable(features::PCID),
            "nox2apic" => features::disable(features::X2APIC),
            "nofsgsbase" => features::disable(features::FSGSBASE),
            "noxsave" => features::disable(features::XSAVE | features::XSAVEOPT),
            "noxsaveopt" => features::disable(features::XSAVEOPT),
            "--" => break,
            _ => {}
        }
    }
}
