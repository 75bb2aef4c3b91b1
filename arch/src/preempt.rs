//! Kernel preemption: one word counts why this code may not be preempted.
//!
//! Bits as in Linux: 0–7 preemption, 8–15 softirq, 16–19 hard interrupts, 20–23 NMI. The architecture keeps the word
//! where it is cheapest (x86: a per-CPU variable; arm64: the thread) together with a folded, inverted copy of the
//! current thread's `NEED_RESCHED` flag, so that [`enable`] tests both with one decrement.
//!
//! Every call of [`crate::thread::switch`] is made with the preemption part of the count equal to [`SWITCH_COUNT`] and
//! interrupts off: on x86 the word belongs to the CPU, on arm64 to the thread, and so the two agree.

use core::marker::PhantomData;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::imp::preempt as imp;

/// Bits that count [`disable`].
pub const PREEMPT_MASK: u32 = 0xff;
/// Bits that count softirq sections.
pub const SOFTIRQ_MASK: u32 = 0xff00;
/// Bits that count nested hard interrupts.
pub const HARDIRQ_MASK: u32 = 0xf_0000;
/// Bits that count nested NMIs.
pub const NMI_MASK: u32 = 0xf0_0000;
/// One softirq section.
pub const SOFTIRQ_OFFSET: u32 = 1 << 8;
/// One hard interrupt.
pub const HARDIRQ_OFFSET: u32 = 1 << 16;
/// One NMI.
pub const NMI_OFFSET: u32 = 1 << 20;
/// The count at every context switch, and with which a new thread starts.
pub const SWITCH_COUNT: u32 = 1;

/// The count alone, without the folded flag. 0: preemptible (if interrupts are on).
#[inline]
pub fn count() -> u32 {
    imp::count()
}

/// No preemption until the matching [`enable`]. Nests.
#[inline]
pub fn disable() {
    imp::add(1);
    compiler_fence(Ordering::SeqCst);
}

/// Ends [`disable`]; if it was the last one and a reschedule is due, calls [`crate::trap::TrapHandler::preempt`].
#[inline]
pub fn enable() {
    compiler_fence(Ordering::SeqCst);
    if imp::sub_and_test(1) {
        preempt_slow();
    }
}

/// Calls [`crate::trap::TrapHandler::preempt`] if a reschedule is due and allowed: after interrupts were switched on
/// again.
#[inline]
pub fn check() {
    if imp::sub_and_test(0) {
        preempt_slow();
    }
}

/// Ends [`disable`] without looking whether a reschedule is due: for the scheduler itself.
#[inline]
pub fn enable_no_resched() {
    compiler_fence(Ordering::SeqCst);
    imp::sub_and_test(1);
}

#[cold]
#[inline(never)]
fn preempt_slow() {
    if crate::irq::enabled()
        && let Some(handler) = crate::trap::handler()
    {
        handler.preempt();
    }
}

/// Adds to the count by hand (softirq sections, idle task set-up).
#[inline]
pub fn add(offset: u32) {
    imp::add(offset);
    compiler_fence(Ordering::SeqCst);
}

/// Takes from the count by hand, without a reschedule.
#[inline]
pub fn sub(offset: u32) {
    compiler_fence(Ordering::SeqCst);
    imp::sub_and_test(offset);
}

/// The current thread shall call the scheduler soon: sets its flag `NEED_RESCHED` and the folded copy. For another
/// CPU's thread: set the flag in its `Thread`, then send `Ipi::Reschedule`, whose receiver calls [`fold_need_resched`].
#[inline]
pub fn set_need_resched() {
    crate::thread::current_ref().flags().set(crate::thread::ThreadFlags::NEED_RESCHED);
    imp::set_folded();
}

/// Takes the current thread's `NEED_RESCHED` flag over into the folded copy; on receipt of `Ipi::Reschedule`.
#[inline]
pub fn fold_need_resched() {
    if need_resched() {
        imp::set_folded();
    }
}

/// Whether the current thread shall call the scheduler.
#[inline]
pub fn need_resched() -> bool {
    crate::thread::current_ref().flags().contains(crate::thread::ThreadFlags::NEED_RESCHED)
}

/// The scheduler has picked: forget the request of the current thread.
#[inline]
pub fn clear_need_resched() {
    crate::thread::current_ref().flags().clear(crate::thread::ThreadFlags::NEED_RESCHED);
    imp::clear_folded();
}

/// A hard interrupt begins; the trap code of the architecture calls this.
#[inline]
pub fn hardirq_enter() {
    imp::add(HARDIRQ_OFFSET);
}

/// A hard interrupt ends.
#[inline]
pub fn hardirq_exit() {
    imp::sub_and_test(HARDIRQ_OFFSET);
}

/// Proof, while it lives, that this code stays on its CPU.
///
/// # Safety
/// An implementor's value may only exist while preemption (or interrupts) are off on the current CPU, and is not `Send`.
pub unsafe trait PreemptOff {}

/// Preemption is off while this lives.
#[must_use]
pub struct PreemptGuard {
    _not_send: PhantomData<*mut ()>,
}

impl PreemptGuard {
    /// Switches preemption off.
    #[inline]
    pub fn new() -> Self {
        disable();
        Self { _not_send: PhantomData }
    }
}

impl Default for PreemptGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        enable();
    }
}

// SAFETY: the guard switched preemption off and is !Send.
unsafe impl PreemptOff for PreemptGuard {}
// SAFETY: with interrupts off nothing preempts either; the guard is !Send.
unsafe impl PreemptOff for crate::irq::IrqGuard {}
