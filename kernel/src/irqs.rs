//! Device interrupts: which driver's function a number belongs to.
//!
//! Handlers are registered once per number by drivers; the table is read under RCU in interrupt context. Counts per
//! CPU are what `/proc/interrupts` shows.

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::cpu::MAX_CPUS;
use arch::intc::IrqNumber;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::RcuPtr;

/// How many interrupt numbers there can be.
pub const MAX_IRQS: usize = 1024;

/// A registered interrupt.
pub struct Action {
    /// The driver's name.
    pub name: &'static str,
    /// Called in hard interrupt context.
    handler: Box<dyn Fn() + Send + Sync>,
    /// How often it came, by CPU.
    pub counts: [AtomicU64; MAX_CPUS],
}

static TABLE: [RcuPtr<Action>; MAX_IRQS] = [const { RcuPtr::empty() }; MAX_IRQS];
/// Interrupts that nobody asked for.
pub static SPURIOUS: AtomicU64 = AtomicU64::new(0);

/// Registers `handler` for `irq`.
///
/// # Errors
/// `EINVAL`: no such number; `EBUSY`: it has one.
pub fn register(irq: IrqNumber, name: &'static str, handler: Box<dyn Fn() + Send + Sync>) -> Result<()> {
    let slot = TABLE.get(irq.0 as usize).ok_or(Errno::EINVAL)?;
    let action = Action { name, handler, counts: [const { AtomicU64::new(0) }; MAX_CPUS] };
    match slot.compare_replace(core::ptr::null(), Some(Arc::new(action))) {
        Ok(old) => {
            drop(old);
            Ok(())
        }
        Err(_) => Err(Errno::EBUSY),
    }
}

/// An interrupt arrived.
pub fn handle(irq: IrqNumber) {
    let guard = sched::rcu::read_lock();
    match TABLE.get(irq.0 as usize).and_then(|slot| slot.load(&guard)) {
        Some(action) => {
            if let Some(count) = action.counts.get(arch::cpu::current().index()) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            (action.handler)();
        }
        None => {
            SPURIOUS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Calls `f` for each registered interrupt: `/proc/interrupts`.
pub fn for_each(mut f: impl FnMut(u32, &Action)) {
    for (number, slot) in TABLE.iter().enumerate() {
        let action = slot.load_arc(&sched::rcu::read_lock());
        if let Some(action) = action {
            f(number as u32, &action);
        }
    }
}
