//! Consoles: devices that show the kernel log.

/// A device that shows the kernel log.
pub trait Console: Send + Sync {
    /// Name and index as `console=` gives them, for example `ttyS0`.
    fn name(&self) -> &str;

    /// Writes `bytes` before returning, a `\n` as the device's own line end. Called with interrupts
    /// off and from any context: it polls and takes only interrupt-safe locks.
    fn write(&self, bytes: &[u8]);
}
