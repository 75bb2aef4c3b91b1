//! Off, reboot, halt.

use super::platform::platform;
use super::{insn, pio};
use crate::acpi::Register;
use crate::addr::PhysAddr;

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

const SLEEP_ENABLE: u16 = 1 << 13;

fn write_register(register: Register, value: u8) {
    match register {
        // SAFETY: the FADT names this port for the purpose.
        Register::Port(port) => unsafe { pio::outb(port, value) },
        Register::Memory(at) => {
            if let Some(region) = super::mmio::ioremap(PhysAddr(at), 1) {
                region.write8(0, value);
            }
        }
        // SAFETY: configuration mechanism 1, as the FADT describes.
        Register::Pci(device, function, offset) => unsafe {
            let address =
                1 << 31 | u32::from(device) << 11 | u32::from(function) << 8 | u32::from(offset & 0xfc);
            pio::outl(0xcf8, address);
            pio::outb(0xcfc + (offset & 3), value);
        },
    }
}

fn wait() {
    // Some milliseconds, with or without a clock.
    for _ in 0..1_000_000 {
        core::hint::spin_loop();
    }
}

fn keyboard() {
    for _ in 0..10 {
        for _ in 0..10_000 {
            // SAFETY: reads the controller's status.
            if unsafe { pio::inb(0x64) } & 2 == 0 {
                break;
            }
        }
        // SAFETY: pulses the reset line, which is the purpose.
        unsafe { pio::outb(0x64, 0xfe) };
        wait();
    }
}

/// Resets the machine.
pub fn reboot(mode: Mode) -> ! {
    insn::cli();
    let fadt = platform().fadt;
    if matches!(mode, Mode::Auto | Mode::Acpi)
        && let Some((register, value)) = fadt.and_then(|f| f.reset)
    {
        write_register(register, value);
        wait();
    }
    let has_keyboard = fadt.is_none_or(|f| f.has_keyboard_controller);
    if mode == Mode::Keyboard || mode == Mode::Auto && has_keyboard {
        keyboard();
    }
    triple_fault()
}

/// An exception without an interrupt table: the processor gives up.
fn triple_fault() -> ! {
    let none = [0u16; 5];
    // SAFETY: nothing runs after this.
    unsafe { core::arch::asm!("lidt [{}]", "int3", "2: hlt", "jmp 2b", in(reg) &none, options(noreturn)) }
}

/// Switches the machine off; returns if it cannot.
pub fn poweroff() {
    insn::cli();
    let p = platform();
    let (Some(fadt), Some((a, b))) = (p.fadt, p.s5) else { return };
    if fadt.hardware_reduced {
        if let Some(register) = fadt.sleep_control {
            write_register(register, a << 2 | 1 << 5);
            wait();
        }
        return;
    }
    for (port, kind) in fadt.pm1_control.into_iter().zip([a, b]) {
        let Some(port) = port else { continue };
        // SAFETY: the FADT names this port for the purpose.
        unsafe {
            // The firmware may own the registers still.
            if pio::inw(port) & 1 == 0
                && let Some((smi, value)) = fadt.acpi_enable
            {
                pio::outb(smi, value);
                wait();
            }
            let rest = pio::inw(port) & !(7 << 10 | SLEEP_ENABLE);
            pio::outw(port, rest | u16::from(kind & 7) << 10);
            pio::outw(port, rest | u16::from(kind & 7) << 10 | SLEEP_ENABLE);
        }
    }
    wait();
}
