//! x86_64: the architecture's half of every module (see the root of this crate), and what only x86 has.
//!
//! | file | what |
//! |---|---|
//! | `insn`, `msr`, `features` | instructions and registers Rust has no word for; what CPUID says |
//! | `desc`, `entry`, `exception` | GDT, TSS, IDT; entry and exit assembly; exceptions into signals, faults, oopses |
//! | `thread`, `fpu`, `fpu_frame`, `signal`, `uaccess`, `extable`, `smap` | the machine side of threads |
//! | `ldt`, `segment` | segments of programs |
//! | `memory` | `memcpy` and its like |
//! | `paging`, `pte`, `tlb`, `asid` | address translation |
//! | `apic`, `ioapic`, `intc`, `smp`, `trampoline` | interrupts and the other CPUs |
//! | `time`, `calibrate`, `kvmclock`, `cmos`, `date` | time |
//! | `platform`, `mptable`, `power` | what ACPI or the MP table told us, and off and reboot by it |
//! | `init` | the order in which a CPU is brought up |

pub mod asid;
pub mod backtrace;
pub mod cache;
pub mod cpu;
pub mod earlycon;
pub mod elf;
pub mod fpu;
pub mod intc;
pub mod ioport;
pub mod irq;
pub mod irqstat;
pub mod layout;
pub mod ldt;
pub mod mmio;
pub mod native;
pub mod paging;
pub mod pci;
pub mod percpu;
pub mod pkey;
pub mod power;
pub mod preempt;
pub mod ptrace;
pub mod random;
mod rare;
pub mod resource;
pub mod rtc;
pub mod serial;
pub mod signal;
pub mod smp;
pub mod thread;
pub mod time;
pub mod tlb;
pub mod trap;
pub mod uaccess;
pub mod uapi;
pub mod unhandled;
pub mod vdso;

pub mod apic;
mod calibrate;
mod cmos;
mod cpuinfo;
mod date;
pub mod debugreg;
mod desc;
mod entry;
mod exception;
mod extable;
pub mod features;
mod fpu_frame;
pub mod init;
pub mod insn;
pub mod ioapic;
mod kvmclock;
mod memory;
mod mptable;
mod msi;
pub mod msr;
pub mod pio;
pub mod platform;
mod pte;
mod segment;
mod smap;
pub mod trampoline;
