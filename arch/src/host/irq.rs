//! The interrupt flag.

/// The state that [`local_save`] found.
#[derive(Clone, Copy, Debug)]
pub struct Flags(pub usize);

/// Switches interrupts off and tells how they were.
#[inline]
pub fn local_save() -> Flags {
    todo!()
}

/// Puts interrupts back as [`local_save`] found them.
#[inline]
pub fn local_restore(_flags: Flags) {
    todo!()
}

/// Interrupts off.
#[inline]
pub fn local_disable() {
    todo!()
}

/// Interrupts on.
#[inline]
pub fn local_enable() {
    todo!()
}

/// Whether interrupts are on.
#[inline]
pub fn enabled() -> bool {
    todo!()
}
