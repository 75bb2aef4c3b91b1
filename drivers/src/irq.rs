//! Device interrupts: who handles which, and how often they came.
//!
//! A driver asks for its interrupt with [`request`]; the kernel's trap handler calls [`handle`]. The
//! table is read under RCU, so handling takes no lock and writes nothing shared: counts are per CPU.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::CpuId;
use arch::intc::{self, IrqNumber, Trigger};
use arch::irqstat::{self, Kind};
use arch::percpu::PerCpuBox;
use mm::fallible::try_arc;
use sync::{Once, RcuPtr};

/// What a driver does about its interrupt. Runs in hard interrupt context.
pub type Handler = Box<dyn Fn() + Send + Sync>;

/// Where an interrupt comes from, as `/proc/interrupts` tells it.
pub enum Source {
    /// A line of the interrupt controller.
    Line(Trigger),
    /// A message.
    Message {
        /// Of which kind and device: `PCI-MSIX-0000:00:02.0`.
        device: Arc<String>,
        /// Its number among those of the device.
        index: u16,
    },
}

struct Action {
    name: String,
    source: Source,
    handler: Handler,
    counts: PerCpuBox<AtomicU64>,
}

static TABLE: Once<Box<[RcuPtr<Action>]>> = Once::new();

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn table() -> &'static [RcuPtr<Action>] {
    TABLE.call_once(|| (0..intc::nr_irqs()).map(|_| RcuPtr::new(None)).collect())
}

/// Has `handler` called for each interrupt on line `irq`, and switches it on.
///
/// # Errors
/// `EINVAL` for a number that the controller does not have, `EBUSY` if it has a handler, `ENOMEM`.
pub fn request(irq: IrqNumber, trigger: Trigger, name: &str, handler: Handler) -> Result<()> {
    request_from(irq, Source::Line(trigger), name, handler)
}

/// The same for an interrupt of any source.
///
/// # Errors
/// As [`request`].
pub fn request_from(irq: IrqNumber, source: Source, name: &str, handler: Handler) -> Result<()> {
    let slot = table().get(irq.0 as usize).ok_or(Errno::EINVAL)?;
    let counts = PerCpuBox::new(|_| AtomicU64::new(0)).ok_or(Errno::ENOMEM)?;
    let line = match &source {
        Source::Line(trigger) => Some(*trigger),
        Source::Message { .. } => None,
    };
    let name = mm::fallible::try_format(format_args!("{name}"))?;
    let action = try_arc(Action { name, source, handler, counts })?;
    if slot.compare_replace(core::ptr::null(), Some(action)).is_err() {
        return Err(Errno::EBUSY);
    }
    if let Some(trigger) = line {
        intc::set_trigger(irq, trigger);
    }
    intc::enable(irq);
    Ok(())
}

/// Has nobody called any more for `irq`. When it returns, no handler of it runs. May sleep.
pub fn free(irq: IrqNumber) {
    let Some(slot) = table().get(irq.0 as usize) else { return };
    intc::disable(irq);
    drop(slot.replace(None));
    sched::rcu::synchronize();
}

/// Handles an interrupt; whether somebody felt responsible. An interrupt of nobody is switched off.
pub fn handle(irq: IrqNumber) -> bool {
    let guard = sched::rcu::read_lock();
    let action = TABLE.get().and_then(|table| table.get(irq.0 as usize)?.load(&guard));
    let Some(action) = action else {
        intc::disable(irq);
        return false;
    };
    action.counts.get(&guard).fetch_add(1, Ordering::Relaxed);
    (action.handler)();
    true
}

/// All interrupts so far, with those of the architecture.
pub fn total() -> u64 {
    let mut total = irqstat::total();
    for_each(|_, action| {
        total += action.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        Ok(())
    })
    .unwrap_or_default();
    total
}

fn for_each(mut f: impl FnMut(u32, &Action) -> fmt::Result) -> fmt::Result {
    for (number, slot) in table().iter().enumerate() {
        // The reference is held, not the guard: `f` may allocate.
        let action = slot.load_arc(&sched::rcu::read_lock());
        if let Some(action) = action {
            f(number as u32, &action)?;
        }
    }
    Ok(())
}

/// The counts of `/proc/stat`'s `intr` line, each with a space in front.
pub fn show_counts(out: &mut dyn fmt::Write) -> fmt::Result {
    let timer = irqstat::timer_line().map(|line| line.0);
    for (number, slot) in (0..).zip(table()) {
        let action = slot.load_arc(&sched::rcu::read_lock());
        let count = match action {
            Some(action) => action.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(),
            None if timer == Some(number) => irqstat::sum(Kind::Timer),
            None => 0,
        };
        write!(out, " {count}")?;
    }
    Ok(())
}

/// `/proc/interrupts`.
pub fn show(out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "           ")?;
    for cpu in arch::cpu::online().iter() {
        write!(out, "CPU{:<8}", cpu.0)?;
    }
    writeln!(out)?;
    // Labels are as wide as the widest number.
    let width =
        intc::nr_irqs().saturating_sub(1).checked_ilog10().map_or(3, |digits| digits as usize + 1).max(3);
    if let Some(line) = irqstat::timer_line() {
        columns(out, width, line.0, |cpu| irqstat::on(cpu, Kind::Timer))?;
        write!(out, "  ")?;
        intc::describe(line, out)?;
        writeln!(out, "  arch_timer")?;
    }
    for_each(|number, action| {
        let on = |cpu| action.counts.on(cpu).load(Ordering::Relaxed);
        columns(out, width, number, on)?;
        write!(out, "  ")?;
        match &action.source {
            Source::Line(_) => intc::describe(IrqNumber(number), out)?,
            Source::Message { device, index } => {
                // Behind the name of the chip, the number within the device.
                let chip = intc::msi_chip();
                intc::describe_message(format_args!("{chip}{device} {index:width$}"), out)?;
            }
        }
        writeln!(out, "  {}", action.name)
    })?;
    for row in irqstat::ROWS {
        match row.text {
            Some(text) => {
                columns(out, width, row.label, |cpu| irqstat::on(cpu, row.kind))?;
                writeln!(out, "  {text}")?;
            }
            None => writeln!(out, "{:>width$}: {:10}", row.label, irqstat::sum(row.kind))?,
        }
    }
    Ok(())
}

/// A label and a count per CPU; a label that is too wide takes its room from the first column.
fn columns(
    out: &mut dyn fmt::Write,
    width: usize,
    label: impl fmt::Display,
    on: impl Fn(CpuId) -> u64,
) -> fmt::Result {
    struct Length(usize);
    impl fmt::Write for Length {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut length = Length(0);
    fmt::write(&mut length, format_args!("{label}"))?;
    write!(out, "{label:>width$}:")?;
    let mut column = 11usize.saturating_sub(length.0.saturating_sub(width));
    for cpu in arch::cpu::online().iter() {
        write!(out, "{:column$}", on(cpu))?;
        column = 11;
    }
    Ok(())
}
