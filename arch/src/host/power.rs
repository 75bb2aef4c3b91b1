//! Off, reboot, halt.

/// How to reboot (`reboot=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// What the firmware describes, then all else.
    #[default]
    Auto,
    /// Keyboard controller.
    Keyboard,
    /// Triple fault.
    TripleFault,
    /// ACPI reset register.
    Acpi,
}

/// Resets the machine.
pub fn reboot(_mode: Mode) -> ! {
    std::process::abort()
}

/// Switches the machine off; returns if it cannot.
pub fn poweroff() {}
