//! The kernel's own inside: `/proc/kallsyms`, `/proc/timer_list`.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::cpu::CpuId;
use arch::symbols;
use kernfs::{Context, Node, Show, Text, attr};
use sched::hrtimer::{self, Listed};
use sched::time::Clock;
use vfs::cred::Credentials;

use super::{sysctl, top};

fn text(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

/// Whether `cred` may see where things are in the kernel: `kptr_restrict` of `proc_sys_kernel(5)`.
pub(super) fn may_see_addresses(cred: &Credentials) -> bool {
    sysctl::KPTR_RESTRICT.load(Ordering::Relaxed) < 2 && cred.capable(Cap::Syslog)
}

/// Writes a function's name as one word.
pub(super) struct OneWord<'a, 'b>(pub &'a mut (dyn Write + 'b));

impl Write for OneWord<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, part) in text.split(' ').enumerate() {
            if index > 0 {
                self.0.write_char('_')?;
            }
            self.0.write_str(part)?;
        }
        Ok(())
    }
}

struct Symbols;

impl Show for Symbols {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        let Some(table) = symbols::table() else { return Ok(()) };
        let visible = may_see_addresses(cx.cred);
        let image = arch::addr::image().start;
        for symbol in (0..table.len()).map_while(|index| table.get(index)) {
            let address = if visible { image + symbol.start as usize } else { 0 };
            text(write!(out, "{address:016x} t "))?;
            text(write!(OneWord(out), "{symbol}"))?;
            out.push(b"\n");
        }
        Ok(())
    }
}

const CLOCKS: [(Clock, &str); Clock::COUNT] = [
    (Clock::Monotonic, "monotonic"),
    (Clock::Realtime, "realtime"),
    (Clock::Boottime, "boottime"),
    (Clock::Tai, "tai"),
];

fn show_timers(out: &mut Text) -> Result<()> {
    let now = sched::time::monotonic_ns();
    text(write!(out, "Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: {}\n", Clock::COUNT))?;
    text(write!(out, "now at {now} nsecs\n\n"))?;
    arch::cpu::online().iter().try_for_each(|cpu| show_cpu(cpu, out))
}

fn show_cpu(cpu: CpuId, out: &mut Text) -> Result<()> {
    let (timers, next) = hrtimer::list(cpu).ok_or(Errno::ENOMEM)?;
    text(writeln!(out, "cpu: {}", cpu.0))?;
    for (index, (clock, name)) in CLOCKS.into_iter().enumerate() {
        // Read one after the other: what passed in between is not an offset of the clock to itself.
        let distance = sched::time::clock_ns(clock).wrapping_sub(sched::time::monotonic_ns()) as i64;
        let offset = if clock == Clock::Monotonic { 0 } else { distance };
        text(write!(
            out,
            " clock {index}:\n  .index:      {index}\n  .resolution: 1 nsecs\n  .get_time:   {name}\n  .offset:     {offset} nsecs\nactive timers:\n"
        ))?;
        let of_clock = timers.iter().filter(|timer| timer.clock == clock);
        for (number, timer) in of_clock.enumerate() {
            text(show_timer(number, timer, out))?;
        }
    }
    text(writeln!(out, "  .expires_next   : {next} nsecs\n  .hres_active    : 1\n"))
}

fn show_timer(number: usize, timer: &Listed, out: &mut Text) -> fmt::Result {
    write!(out, " #{number}: ")?;
    match symbols::lookup(timer.func) {
        Some(symbol) => write!(OneWord(out), "{symbol}")?,
        None => write!(out, "?")?,
    }
    let now = sched::time::clock_ns(timer.clock);
    let left = |at: u64| at.wrapping_sub(now) as i64;
    let Listed { soft, hard, .. } = *timer;
    writeln!(out, ", S:01\n # expires at {soft}-{hard} nsecs [in {} to {} nsecs]", left(soft), left(hard))
}

/// Declares the files.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() {
    const TIMERS: &[kernfs::Attr] = &[attr("timer_list", show_timers).mode(0o400)];
    top().add_attrs(TIMERS);
    top().add("kallsyms", Node::Text(Arc::new(Symbols)), 0o444);
}
