//! Boot parameters: who takes which, and what is left for init. `bootparam(7)`.

use alloc::string::String;
use alloc::vec::Vec;

use core::sync::atomic::{AtomicUsize, Ordering};

use sync::Once;

use crate::oops::{PANIC_ON_OOPS, PANIC_ON_WARN, PANIC_TIMEOUT};
use crate::params::{self, InitArgs, Invalid, Param, parse_number, same_name};
use crate::printk;

static LINE: Once<&'static str> = Once::new();
static FOR_INIT: Once<InitArgs> = Once::new();
static CONSOLES: Once<Vec<String>> = Once::new();
static MAX_CPUS: AtomicUsize = AtomicUsize::new(usize::MAX);
static RDINIT: Once<&'static str> = Once::new();
static INIT: Once<&'static str> = Once::new();

/// The command line as the boot loader passed it.
pub fn command_line() -> &'static str {
    LINE.get().copied().unwrap_or_default()
}

/// What the command line leaves for init.
pub(super) fn for_init() -> &'static InitArgs {
    static NOTHING: InitArgs = InitArgs { args: Vec::new(), env: Vec::new() };
    FOR_INIT.get().unwrap_or(&NOTHING)
}

/// The devices that `console=` named, without their options; the last one is `/dev/console`.
pub(super) fn consoles() -> &'static [String] {
    CONSOLES.get().map(Vec::as_slice).unwrap_or_default()
}

/// `maxcpus=`: how many CPUs boot starts.
pub(super) fn max_cpus() -> usize {
    MAX_CPUS.load(Ordering::Relaxed)
}

/// `init=`: the program of the root file system.
pub(super) fn init_program() -> Option<&'static str> {
    INIT.get().copied()
}

/// `rdinit=`: the program tried first in an initramfs.
pub(super) fn rdinit_program() -> &'static str {
    RDINIT.get().copied().unwrap_or("/init")
}

/// Takes the parameters that matter before there is a heap.
pub(super) fn parse_early(line: &'static str) {
    LINE.call_once(|| line);
    for word in line.split_ascii_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--", _) => return,
            ("earlycon", spec) if arch::earlycon::setup((!spec.is_empty()).then_some(spec)) => {
                printk::enable_early_console();
            }
            ("quiet", _) => printk::set_console_level(4),
            ("debug", _) => printk::set_console_level(10),
            #[cfg(all(debug_assertions, target_os = "none"))]
            ("kmemleak", "on") => mm::kmemleak::switch_on(),
            ("ignore_loglevel", _) => printk::set_console_level(15),
            ("loglevel", level) => {
                if let Ok(level) = parse_number(level) {
                    printk::set_console_level(level.min(15) as u8);
                }
            }
            _ => {}
        }
    }
}

/// Parameters that are taken when there is a heap. Those of `parse_early` and of `boot` are listed so that
/// init does not see them.
const PARAMS: &[Param] = &[
    Param {
        name: "maxcpus",
        set: |value| {
            named(value, &|text| {
                // 0 means 1 here: the boot CPU is up.
                MAX_CPUS.store(parse_number(text)?.max(1) as usize, Ordering::Relaxed);
                Ok(())
            })
        },
    },
    Param { name: "console", set: |value| named(value, &|_| Ok(())) },
    Param {
        name: "rdinit",
        set: |value| {
            named(value, &|path| {
                RDINIT.call_once(|| path);
                Ok(())
            })
        },
    },
    Param {
        name: "init",
        set: |value| {
            named(value, &|path| {
                INIT.call_once(|| path);
                Ok(())
            })
        },
    },
    Param {
        name: "panic",
        set: |value| {
            named(value, &|text| {
                PANIC_TIMEOUT.store(text.parse().map_err(|_| Invalid)?, Ordering::Relaxed);
                Ok(())
            })
        },
    },
    Param {
        name: "panic_on_warn",
        set: |_| {
            PANIC_ON_WARN.store(true, Ordering::Relaxed);
            Ok(())
        },
    },
    Param {
        name: "nowatchdog",
        set: |_| {
            crate::watchdog::switch_off();
            Ok(())
        },
    },
    Param {
        name: "nosoftlockup",
        set: |_| {
            crate::watchdog::switch_off();
            Ok(())
        },
    },
    Param {
        name: "watchdog_thresh",
        set: |value| {
            named(value, &|text| {
                crate::watchdog::set_thresh(text.parse().map_err(|_| Invalid)?).map_err(|_| Invalid)
            })
        },
    },
    Param {
        name: "softlockup_panic",
        set: |value| {
            named(value, &|text| {
                crate::watchdog::SOFTLOCKUP_PANIC.store(parse_number(text)? != 0, Ordering::Relaxed);
                Ok(())
            })
        },
    },
    Param {
        name: "hung_task_panic",
        set: |value| {
            named(value, &|text| {
                crate::watchdog::hung_task::PANIC.store(parse_number(text)? != 0, Ordering::Relaxed);
                Ok(())
            })
        },
    },
    Param {
        name: "secretmem.enable",
        set: |value| {
            named(value, &|text| {
                let on = match text {
                    "1" | "y" | "Y" | "on" => true,
                    "0" | "n" | "N" | "off" => false,
                    _ => return Err(Invalid),
                };
                crate::memory::secretmem::ENABLED.store(on, Ordering::Relaxed);
                Ok(())
            })
        },
    },
    Param {
        name: "oops",
        set: |value| {
            PANIC_ON_OOPS.store(i32::from(value == Some("panic")), Ordering::Relaxed);
            Ok(())
        },
    },
];

/// Not for init: known elsewhere (`printk`, `boot`), or Linux's and without effect here so far (`preempt`,
/// `reboot`, `root*`, `ro`, `rw`, `slub_debug`).
const TAKEN: &[&str] = &[
    "earlycon",
    "quiet",
    "debug",
    "ignore_loglevel",
    "loglevel",
    "nokaslr",
    "kmemleak",
    "mem",
    "nr_cpus",
    "nosmp",
    "ro",
    "rw",
    "root",
    "rootwait",
    "rootdelay",
    "rootfstype",
    "rootflags",
    "reboot",
    "preempt",
    "slub_debug",
    "initrd",
    "BOOT_IMAGE",
    "x2apic",
    "nox2apic",
    "nosmap",
    "nosmep",
    "nopku",
];

fn named(
    value: Option<&'static str>,
    take: &dyn Fn(&'static str) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    take(value.ok_or(Invalid)?)
}

/// Takes all other parameters.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn parse(line: &'static str) {
    let mut consoles = Vec::new();
    let rest = params::parse(line, |name, value| {
        if name == "console"
            && let Some(device) = value
        {
            consoles.push(String::from(device.split(',').next().unwrap_or(device)));
        }
        if let Some(param) = PARAMS.iter().find(|param| same_name(param.name, name)) {
            if (param.set)(value).is_err() {
                log::warn!("Malformed early option '{name}'");
            }
            return true;
        }
        match drivers::block::parameter(name, value) {
            Some(true) => return true,
            Some(false) => {
                log::warn!("{name}: invalid parameter");
                return true;
            }
            None => {}
        }
        TAKEN.iter().any(|taken| same_name(taken, name))
    });
    CONSOLES.call_once(|| consoles);
    FOR_INIT.call_once(|| rest);
}
