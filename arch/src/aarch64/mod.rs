//! The architecture's half of every module: see the root of this crate.

pub mod asid;
pub mod backtrace;
pub mod cpu;
pub mod earlycon;
pub mod elf;
pub mod fpu;
pub mod intc;
pub mod ioport;
pub mod irq;
pub mod layout;
pub mod mmio;
pub mod native;
pub mod paging;
pub mod percpu;
pub mod power;
pub mod preempt;
pub mod random;
pub mod signal;
pub mod smp;
pub mod thread;
pub mod time;
pub mod tlb;
pub mod trap;
pub mod uaccess;
pub mod uapi;
pub mod vdso;
