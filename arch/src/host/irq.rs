//! The interrupt flag: while it is off, the thread occupies its virtual CPU.

use super::hosted;

/// The state that [`local_save`] found.
#[derive(Clone, Copy, Debug)]
pub struct Flags(pub usize);

/// Switches interrupts off and tells how they were.
#[inline]
pub fn local_save() -> Flags {
    Flags(usize::from(hosted::set_irqs_off(true)))
}

/// Puts interrupts back as [`local_save`] found them.
#[inline]
pub fn local_restore(flags: Flags) {
    hosted::set_irqs_off(flags.0 != 0);
}

/// Interrupts off.
#[inline]
pub fn local_disable() {
    hosted::set_irqs_off(true);
}

/// Interrupts on.
#[inline]
pub fn local_enable() {
    hosted::set_irqs_off(false);
}

/// Whether interrupts are on.
#[inline]
pub fn enabled() -> bool {
    !hosted::irqs_off()
}
