//! System calls about the machine and small per-thread facilities.

pub mod arch_calls;
pub mod kcmp;
pub mod ldt;
pub mod lsm;
pub mod membarrier;
pub mod ports;
pub mod random;
pub mod reboot;
pub mod restart;
pub mod rseq;
pub mod sched_calls;
pub mod sock_filter;
pub mod speculation;
pub mod sysinfo;
pub mod uname;
