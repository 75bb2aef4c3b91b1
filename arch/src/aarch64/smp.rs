//! Secondary CPUs and inter-processor interrupts.
//!
//! Secondaries start one at a time: `arch_secondary_data` tells the next one its thread, per-CPU offset, stack and
//! number; it reads that after its MMU is on, so the caches are coherent.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::native::{self, EnableMethod};
use super::{cpu as this_cpu, intc, power, thread};
use crate::addr::{VirtAddr, phys_to_virt, virt_to_phys};
use crate::cpu::{self, CpuId, CpuMask};
use crate::irqstat::{Kind, count};
use crate::percpu;
use crate::smp::Ipi;
use crate::sync::SpinLock;
use crate::thread::Thread;
use crate::trap::handler;

/// What the starting CPU finds; the assembler of `head.rs` knows the layout.
#[repr(C)]
struct SecondaryData {
    thread: AtomicUsize,
    per_cpu_offset: AtomicUsize,
    stack: AtomicUsize,
    cpu: AtomicUsize,
}

#[unsafe(export_name = "arch_secondary_data")]
static SECONDARY_DATA: SecondaryData = SecondaryData {
    thread: AtomicUsize::new(0),
    per_cpu_offset: AtomicUsize::new(0),
    stack: AtomicUsize::new(0),
    cpu: AtomicUsize::new(0),
};

/// How long a secondary may take; emulated machines with more CPUs than the host has are slow.
const START_TIMEOUT_NS: u64 = 10_000_000_000;

unsafe extern "C" {
    fn arch_secondary_entry();
}

/// Starts a CPU on the given idle thread and waits until it has called [`crate::cpu::mark_online`]; false if it does
/// not come up.
///
/// # Safety
/// `idle` is an initialised thread of its own, whose entry runs as the CPU's idle loop; it lives for ever.
pub unsafe fn start_secondary(cpu: CpuId, idle: *mut Thread) -> bool {
    let info = native::platform().cpus[cpu.index()];
    // SAFETY: `idle` is live and runs nowhere.
    let stack = unsafe {
        (*idle).set_cpu(cpu);
        (*idle).user_frame().addr()
    };
    SECONDARY_DATA.thread.store(idle.expose_provenance(), Ordering::Relaxed);
    SECONDARY_DATA.per_cpu_offset.store(percpu::offset_of(cpu), Ordering::Relaxed);
    SECONDARY_DATA.stack.store(stack, Ordering::Relaxed);
    SECONDARY_DATA.cpu.store(cpu.index(), Ordering::Release);
    super::sysreg::dsb_sy();

    let entry = virt_to_phys(VirtAddr(arch_secondary_entry as unsafe extern "C" fn() as usize));
    match info.enable {
        EnableMethod::Psci => {
            if let Err(error) = power::psci::cpu_on(info.mpidr, entry) {
                log::error!("CPU{cpu}: failed to boot: {error:?}");
                return false;
            }
        }
        EnableMethod::SpinTable(release) => {
            let at = phys_to_virt(release).cast::<u64>();
            // SAFETY: the firmware keeps this word of (reserved, directly mapped) memory for us; the CPU that reads it
            // has no caches on, hence the cleaning.
            unsafe {
                at.write_volatile(entry.0);
                asm!("dc civac, {}", "dsb sy", "sev", in(reg) at, options(nostack, preserves_flags));
            }
        }
        EnableMethod::None => return false,
    }
    let start = crate::time::now_ns();
    while !cpu::online().contains(cpu) {
        if crate::time::now_ns().wrapping_sub(start) > START_TIMEOUT_NS {
            log::error!("CPU{cpu}: failed to come online");
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A secondary arrives here from `head.rs`, with its thread, stack and per-CPU data, interrupts off.
#[unsafe(no_mangle)]
extern "C" fn arch_secondary_rust(cpu: usize) -> ! {
    super::asid::unload();
    if !this_cpu::check_secondary() {
        log::error!("CPU{cpu}: lacks features of the boot CPU");
        this_cpu::halt();
    }
    native::init_secondary(CpuId(cpu as u32));
    // SAFETY: the idle thread was initialised; this is its stack.
    unsafe { thread::start_current() }
}

/// Interrupts another CPU (or this one).
#[inline]
pub fn send_ipi(cpu: CpuId, ipi: Ipi) {
    intc::send_sgi(CpuMask::of(cpu), ipi as u32);
}

/// Interrupts a set of CPUs.
pub fn send_ipi_mask(mask: CpuMask, ipi: Ipi) {
    if !mask.is_empty() {
        intc::send_sgi(mask, ipi as u32);
    }
}

/// The call in progress, see [`call_on`].
struct Call {
    function: AtomicUsize,
    argument: AtomicUsize,
    /// CPUs that have not run it yet.
    pending: AtomicU64,
}

static CALL: Call =
    Call { function: AtomicUsize::new(0), argument: AtomicUsize::new(0), pending: AtomicU64::new(0) };
/// One call at a time.
static CALL_LOCK: SpinLock<()> = SpinLock::new(());

/// Runs `f(arg)` on each CPU of the mask (also this one), in interrupt context with interrupts off, and waits for all.
/// Call with interrupts on.
pub fn call_on(mask: CpuMask, f: fn(usize), arg: usize) {
    // Waiters spin with interrupts on, so they answer the calls of others.
    let guard = CALL_LOCK.lock();
    let me = cpu::current();
    let others = mask.and(cpu::online()).without(CpuMask::of(me));
    if !others.is_empty() {
        CALL.function.store(f as usize, Ordering::Relaxed);
        CALL.argument.store(arg, Ordering::Relaxed);
        CALL.pending.store(others.bits(), Ordering::Release);
        send_ipi_mask(others, Ipi::Call);
    }
    if mask.contains(me) {
        let _irqs_off = crate::irq::IrqGuard::new();
        f(arg);
    }
    while CALL.pending.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
    drop(guard);
}

fn run_call() {
    let bit = CpuMask::of(cpu::current()).bits();
    if CALL.pending.load(Ordering::Acquire) & bit == 0 {
        return;
    }
    // SAFETY: only `call_on` stores here, a function of this type, before it publishes `pending`.
    let function = unsafe { core::mem::transmute::<usize, fn(usize)>(CALL.function.load(Ordering::Relaxed)) };
    function(CALL.argument.load(Ordering::Relaxed));
    CALL.pending.fetch_and(!bit, Ordering::Release);
}

/// Stops all other CPUs for good (panic, power-off).
pub fn stop_others() {
    let others = cpu::online().without(CpuMask::of(cpu::current()));
    send_ipi_mask(others, Ipi::Stop);
    // They answer soon, or are stuck themselves: do not wait for ever.
    for _ in 0..10_000_000 {
        if cpu::online().without(CpuMask::of(cpu::current())).is_empty() {
            return;
        }
        core::hint::spin_loop();
    }
}

/// An SGI arrived.
pub(super) fn handle_ipi(sgi: u32) {
    let ipi = match sgi {
        0 => Ipi::Reschedule,
        1 => {
            count(Kind::Call);
            return run_call();
        }
        2 => Ipi::TlbShootdown,
        3 => {
            cpu::mark_offline(cpu::current());
            this_cpu::halt()
        }
        4 => Ipi::Backtrace,
        5 => Ipi::Work,
        _ => return,
    };
    match ipi {
        Ipi::Reschedule => {
            count(Kind::Reschedule);
            crate::preempt::fold_need_resched();
        }
        Ipi::Work => count(Kind::Work),
        Ipi::Backtrace => count(Kind::Backtrace),
        _ => {}
    }
    if let Some(handler) = handler() {
        handler.ipi(ipi);
    }
}
