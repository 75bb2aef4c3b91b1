//! Device interrupts: who handles which, and how often they came.
//!
//! A driver asks for its interrupt with [`request`]; the kernel's trap handler calls [`handle`]. The
//! table is read under RCU, so handling takes no lock and writes nothing shared: counts are per CPU.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::CpuId;
use arch::intc::{self, IrqNumber, Trigger};
use arch::irqstat::{self, Kind};
use arch::percpu::PerCpuBox;
use sync::{Once, RcuPtr};

/// What a driver does about its interrupt. Runs in hard interrupt context.
pub type Handler = Box<dyn Fn() + Send + Sync>;

struct Action {
    name: &'static str,
    handler: Handler,
    counts: PerCpuBox<AtomicU64>,
}

static TABLE: Once<Box<[RcuPtr<Action>]>> = Once::new();

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn table() -> &'static [RcuPtr<Action>] {
    TABLE.call_once(|| (0..intc::nr_irqs()).map(|_| RcuPtr::new(None)).collect())
}

/// Has `handler` called for each interrupt `irq`, and switches it on.
///
/// # Errors
/// `EINVAL` for a number that the controller does not have, `EBUSY` if it has a handler, `ENOMEM`.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn request(irq: IrqNumber, trigger: Trigger, name: &'static str, handler: Handler) -> Result<()> {
    let slot = table().get(irq.0 as usize).ok_or(Errno::EINVAL)?;
    if !slot.is_none() {
        return Err(Errno::EBUSY);
    }
    let counts = PerCpuBox::new(|_| AtomicU64::new(0)).ok_or(Errno::ENOMEM)?;
    drop(slot.replace(Some(Arc::new(Action { name, handler, counts }))));
    intc::set_trigger(irq, trigger);
    intc::enable(irq);
    Ok(())
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
        intc::describe(IrqNumber(number), out)?;
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
