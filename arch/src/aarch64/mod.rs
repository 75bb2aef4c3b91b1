//! arm64 (ARMv8.0-A and later, 4 KiB pages, 48-bit addresses), GICv2 or GICv3, generic timer, PSCI.
//!
//! | file | what |
//! |---|---|
//! | `head` | CPU set-up before the MMU is on, EL2 stub, entry of secondaries |
//! | `vectors`, `trap`, `esr`, `extable`, `emulate` | exceptions |
//! | `thread`, `fpu`, `preempt`, `percpu`, `irq` | the running thread and CPU |
//! | `paging`, `pte`, `tlb`, `asid`, `asid_alloc`, `layout` | address translation |
//! | `uaccess`, `memory`, `alternative` | copies, and instructions chosen by CPU features |
//! | `intc`, `gicv2`, `gicv3`, `time`, `smp`, `power`, `earlycon`, `mmio` | devices that every machine has |
//! | `debug` | single steps |
//! | `cpu`, `cpufeature`, `random`, `elf`, `uapi` | what the CPU is |
//! | `signal`, `vdso` | what user mode sees |

mod alternative;
pub mod asid;
mod asid_alloc;
pub mod backtrace;
pub mod cache;
pub mod cpu;
mod cpufeature;
mod debug;
pub mod earlycon;
pub mod elf;
mod emulate;
mod esr;
mod extable;
pub mod fpu;
mod gicv2;
mod gicv2m;
mod gicv3;
mod head;
pub mod intc;
pub mod ioport;
pub mod irq;
pub mod irqstat;
mod its;
pub mod layout;
pub mod ldt;
mod memory;
pub mod mmio;
pub mod native;
pub mod paging;
pub mod pci;
pub mod percpu;
pub mod pkey;
pub mod power;
pub mod preempt;
mod pte;
pub mod ptrace;
pub mod random;
pub mod resource;
pub mod rtc;
pub mod serial;
pub mod signal;
pub mod smp;
mod sysreg;
pub mod thread;
pub mod time;
pub mod tlb;
pub mod trap;
pub mod uaccess;
pub mod uapi;
pub mod unhandled;
pub mod vdso;
mod vectors;
