//! What a lock switches off while it is held.

/// The execution context a lock establishes before it spins and restores after it is released.
///
/// `enter` runs before the lock word is touched and `leave` after it was released, so a lock
/// whose context turns interrupts off can never be interrupted by a handler that wants it.
pub trait Context {
    /// What `leave` needs to put things back as they were (for example the interrupt flag).
    type Saved;
    /// Whether interrupts are off under this context (used by the validator).
    const IRQS_OFF: bool = false;
    /// Switches things off.
    fn enter() -> Self::Saved;
    /// Restores what `enter` found. May reschedule.
    fn leave(saved: Self::Saved);
}

/// Switches nothing off: for locks whose callers already run in the context the lock needs,
/// and for tests.
#[derive(Debug, Clone, Copy)]
pub struct Bare;

impl Context for Bare {
    type Saved = ();
    #[inline(always)]
    fn enter() {}
    #[inline(always)]
    fn leave((): ()) {}
}
