//! The few boot parameters that matter before the kernel parses them all.

use arch::earlycon;
use arch::native::features;

/// The words for the kernel: what follows `--` is for init.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    cmdline.split_ascii_whitespace().take_while(|w| *w != "--")
}

/// Early console and processor features.
pub fn early(cmdline: &'static str) {
    // QEMU's own emulation reads its clock in the middle of a translation block when the timer is an MSR, which ends the
    // emulator with `-icount`; memory-mapped registers do not have that problem. `x2apic` asks for MSRs all the same.
    if features::is_tcg() && !words(cmdline).any(|w| w == "x2apic") {
        features::disable(features::X2APIC);
    }
    for word in words(cmdline) {
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        match name {
            "earlycon" | "earlyprintk" => earlycon::enable(earlycon::setup(value)),
            "nosmap" => features::disable(features::SMAP),
            "nosmep" => features::disable(features::SMEP),
            "nopcid" => features::disable(features::PCID),
            "nox2apic" => features::disable(features::X2APIC),
            "nofsgsbase" => features::disable(features::FSGSBASE),
            "noxsave" => features::disable(features::XSAVE | features::XSAVEOPT | features::PKU),
            "nopku" => features::disable(features::PKU),
            "noxsaveopt" => features::disable(features::XSAVEOPT),
            _ => {}
        }
    }
}

/// The most CPUs that the command line allows: `nr_cpus=`, `nosmp`.
pub fn cpu_limit(cmdline: &str) -> usize {
    let mut limit = usize::MAX;
    for word in words(cmdline) {
        if word == "nosmp" {
            limit = 1;
        } else if let Some(n) = word.strip_prefix("nr_cpus=").and_then(|n| n.parse().ok()) {
            limit = limit.min(n);
        }
    }
    limit
}

/// `mem=`: the most memory to use, in bytes.
pub fn memory_limit(cmdline: &str) -> Option<u64> {
    let words = words(cmdline);
    words.filter_map(|w| crate::memblock::parse_size(w.strip_prefix("mem=")?)).last()
}
