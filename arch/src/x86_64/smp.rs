//! Secondary CPUs and inter-processor interrupts.
//!
//! Calls on other CPUs: each CPU has one record per target (so that several senders do not meet) and a list of records
//! waiting for it, which is pushed to without a lock. A sender waits until its records were run, so a record is free
//! again when it is needed next.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::platform::platform;
use super::trap::TrapFrame;
use super::{apic, trampoline};
use crate::cpu::{self, CpuId, CpuMask, MAX_CPUS};
use crate::irq::IrqGuard;
use crate::preempt::PreemptGuard;
use crate::smp::Ipi;
use crate::trap::handler;

/// A function that another CPU shall run.
struct Call {
    next: AtomicPtr<Call>,
    /// Set by the sender, cleared by the receiver when the function has returned.
    pending: AtomicBool,
    what: UnsafeCell<(fn(usize), usize)>,
}

// SAFETY: `what` is written by the sender while `pending` is false and read by the receiver while it is true.
unsafe impl Sync for Call {}

crate::per_cpu! {
    /// This CPU's records, by target.
    static RECORDS: [Call; MAX_CPUS] = [const { Call {
        next: AtomicPtr::new(ptr::null_mut()), pending: AtomicBool::new(false), what: UnsafeCell::new((nothing, 0)),
    } }; MAX_CPUS];
    /// Records that wait for this CPU.
    static WAITING: AtomicPtr<Call> = AtomicPtr::new(ptr::null_mut());
    /// This CPU was stopped for good.
    static STOPPED: AtomicBool = AtomicBool::new(false);
}

fn nothing(_: usize) {}

/// Starts a CPU on the given idle thread and waits until it has called [`crate::cpu::mark_online`]; false if it does
/// not come up.
///
/// # Safety
/// `idle` is an initialised thread of its own, whose entry runs as the CPU's idle loop; it lives for ever.
pub unsafe fn start_secondary(cpu: CpuId, idle: *mut crate::thread::Thread) -> bool {
    // SAFETY: the caller's promise.
    unsafe { trampoline::start(cpu, idle) }
}

fn apic_id(cpu: CpuId) -> u32 {
    platform().apic_ids[cpu.index()]
}

/// Interrupts another CPU (or this one).
#[inline]
pub fn send_ipi(cpu: CpuId, ipi: Ipi) {
    let vector = match ipi {
        Ipi::Reschedule => apic::RESCHEDULE,
        Ipi::Call | Ipi::TlbShootdown => apic::CALL,
        Ipi::Stop => apic::STOP,
        Ipi::Work => apic::WORK,
        Ipi::Backtrace => return apic::send_nmi(apic_id(cpu)),
    };
    apic::send(apic_id(cpu), vector);
}

/// Interrupts a set of CPUs.
pub fn send_ipi_mask(mask: CpuMask, ipi: Ipi) {
    for cpu in mask.and(cpu::online()).iter() {
        send_ipi(cpu, ipi);
    }
}

/// Runs `f(arg)` on each CPU of the mask (also this one), in interrupt context with interrupts off, and waits for all.
/// Call with interrupts on.
pub fn call_on(mask: CpuMask, f: fn(usize), arg: usize) {
    let guard = PreemptGuard::new();
    let me = cpu::current();
    let records = RECORDS.get(&guard);
    let mut others = mask.and(cpu::online());
    others.clear(me);
    for target in others.iter() {
        let call = &records[target.index()];
        // SAFETY: not pending, so nobody reads it; only this CPU writes it, and not from interrupts.
        unsafe { *call.what.get() = (f, arg) };
        call.pending.store(true, Ordering::Relaxed);
        let waiting = WAITING.on(target);
        let mut head = waiting.load(Ordering::Relaxed);
        loop {
            call.next.store(head, Ordering::Relaxed);
            let new = ptr::from_ref(call).cast_mut();
            // Release: what was written above; the receiver acquires.
            match waiting.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // Whoever put the first record there has interrupted the target already.
        if head.is_null() {
            send_ipi(target, Ipi::Call);
        }
    }
    if mask.contains(me) {
        let _irq = IrqGuard::new();
        f(arg);
    }
    for target in others.iter() {
        while records[target.index()].pending.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
}

/// Runs what waits for this CPU. Interrupts off.
pub(super) fn run_calls() {
    let guard = IrqGuard::new();
    let mut next = WAITING.get(&guard).swap(ptr::null_mut(), Ordering::Acquire);
    // SAFETY: records are per-CPU statics; one stays as it is until `pending` is cleared, so the successor is read first.
    while let Some(call) = unsafe { next.as_ref() } {
        next = call.next.load(Ordering::Relaxed);
        // SAFETY: pending, so the sender does not write.
        let (f, arg) = unsafe { *call.what.get() };
        f(arg);
        // Release: the function's effects; the sender acquires.
        call.pending.store(false, Ordering::Release);
    }
}

/// Stops all other CPUs for good (panic, power-off).
pub fn stop_others() {
    let _irq = IrqGuard::new();
    let mut others = cpu::online();
    others.clear(cpu::current());
    send_ipi_mask(others, Ipi::Stop);
    // A CPU with interrupts off may take a while, and one that hangs must not stop us.
    for _ in 0..10_000_000_u64 {
        if others.iter().all(|c| STOPPED.on(c).load(Ordering::Acquire)) {
            return;
        }
        core::hint::spin_loop();
    }
}

/// This CPU was told to stop.
pub(super) fn stopped() -> ! {
    let guard = IrqGuard::new();
    cpu::mark_offline(cpu::current());
    STOPPED.get(&guard).store(true, Ordering::Release);
    cpu::halt()
}

/// An NMI: somebody wants a backtrace (or the button was pressed).
pub(super) fn nmi(_frame: &mut TrapFrame) {
    crate::irqstat::count(crate::irqstat::Kind::Backtrace);
    if let Some(handler) = handler() {
        handler.ipi(Ipi::Backtrace);
    }
}
