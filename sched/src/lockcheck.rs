//! The lock-order validator: its view of sleeping locks, and what it must know of tasks and CPUs.

pub(crate) use sync::lockdep::Class;
use sync::lockdep::{self, Mode};

#[inline(always)]
#[track_caller]
pub(crate) fn acquire(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Sleep, false);
}

#[inline(always)]
pub(crate) fn acquire_nested(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Nested, false);
}

#[inline(always)]
pub(crate) fn acquired_try(class: &Class, address: usize) {
    lockdep::acquire(class, address, Mode::Try, false);
}

#[inline(always)]
pub(crate) fn release(class: &Class, address: usize) {
    lockdep::release(class, address);
}

/// Switches the validator on (debug builds).
pub(crate) fn init() {
    #[cfg(debug_assertions)]
    lockdep::set_environment(&checks::Tasks);
}

#[cfg(debug_assertions)]
mod checks {
    use sync::lockdep::{Environment, Held};

    /// Locks held by interrupt handlers.
    struct PerCpu([Held; arch::cpu::MAX_CPUS]);

    // SAFETY: only the interrupt handler that runs on a CPU uses the CPU's element.
    unsafe impl Sync for PerCpu {}

    static IN_INTERRUPT: PerCpu = PerCpu([const { Held::new() }; arch::cpu::MAX_CPUS]);

    pub(super) struct Tasks;

    impl Environment for Tasks {
        fn held(&self) -> Option<&Held> {
            if arch::irq::in_interrupt() {
                return Some(&IN_INTERRUPT.0[arch::cpu::current().index()]);
            }
            let held: *const Held = &raw const crate::platform::try_current()?.held;
            // SAFETY: the running task is alive, and only it (not its interrupts) uses the list.
            Some(unsafe { &*held })
        }

        fn in_interrupt(&self) -> bool {
            arch::irq::in_interrupt()
        }

        fn irqs_on(&self) -> bool {
            arch::irq::enabled()
        }

        fn uninterrupted(&self, f: &mut dyn FnMut()) {
            let _irqs_off = arch::irq::IrqGuard::new();
            f();
        }

        fn report(&self, message: core::fmt::Arguments<'_>) {
            log::error!("lockdep: {message}");
            #[cfg(test)]
            panic!("lockdep: {message}");
        }
    }
}
