//! Failures on purpose: `failslab` and `fail_page_alloc`. `Documentation/fault-injection/fault-injection.rst`. What they do is
//! [`mm::inject`]'s; `make-it-fail` and `fail-nth` of each thread are in `procfs/task/fault.rs`.

use core::fmt::{Display, Write};
use core::sync::atomic::Ordering::Relaxed;

use abi::{Errno, Result};
use kernfs::{Attr, StaticDir, Text, attr};
use mm::inject::{self, FAIL_PAGE_ALLOC, FAILSLAB};

fn line(out: &mut Text, value: impl Display) -> Result<()> {
    writeln!(out, "{value}").map_err(|_| Errno::ENOMEM)
}

/// A number as a user writes it.
///
/// # Errors
/// `EINVAL`.
pub(crate) fn parse<T: core::str::FromStr>(data: &[u8]) -> Result<T> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    text.trim_end_matches(['\n', '\0']).trim().parse().map_err(|_| Errno::EINVAL)
}

/// `kstrtobool`.
fn parse_bool(data: &[u8]) -> Result<bool> {
    match data {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] | [b'o' | b'O', b'n' | b'N', ..] => Ok(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] | [b'o' | b'O', b'f' | b'F', ..] => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

macro_rules! number {
    ($of:ident, $name:literal, $field:ident) => {
        attr($name, |out| line(out, $of.$field.load(Relaxed)))
            .writable(|data| {
                $of.$field.store(parse(data)?, Relaxed);
                inject::enable();
                Ok(())
            })
            .mode(0o600)
    };
}

macro_rules! flag {
    ($of:ident, $name:literal, $field:ident) => {
        attr($name, |out| line(out, if $of.$field.load(Relaxed) { 'Y' } else { 'N' }))
            .writable(|data| {
                $of.$field.store(parse_bool(data)?, Relaxed);
                Ok(())
            })
            .mode(0o600)
    };
}

static SLAB: &[Attr] = &[
    number!(FAILSLAB, "probability", probability),
    number!(FAILSLAB, "interval", interval),
    number!(FAILSLAB, "times", times),
    number!(FAILSLAB, "space", space),
    number!(FAILSLAB, "verbose", verbose),
    flag!(FAILSLAB, "task-filter", task_filter),
    flag!(FAILSLAB, "ignore-gfp-wait", ignore_gfp_wait),
];

static PAGES: &[Attr] = &[
    number!(FAIL_PAGE_ALLOC, "probability", probability),
    number!(FAIL_PAGE_ALLOC, "interval", interval),
    number!(FAIL_PAGE_ALLOC, "times", times),
    number!(FAIL_PAGE_ALLOC, "space", space),
    number!(FAIL_PAGE_ALLOC, "verbose", verbose),
    flag!(FAIL_PAGE_ALLOC, "task-filter", task_filter),
    flag!(FAIL_PAGE_ALLOC, "ignore-gfp-wait", ignore_gfp_wait),
    flag!(FAIL_PAGE_ALLOC, "ignore-gfp-highmem", ignore_gfp_highmem),
    number!(FAIL_PAGE_ALLOC, "min-order", min_order),
];

pub(super) fn init(top: &StaticDir) {
    top.mkdir_mode("failslab", 0o755).add_attrs(SLAB);
    top.mkdir_mode("fail_page_alloc", 0o755).add_attrs(PAGES);
}
