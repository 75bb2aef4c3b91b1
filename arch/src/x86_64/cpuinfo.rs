//! `/proc/cpuinfo`.

use core::fmt;

use crate::cpu::CpuId;

/// The entry of `/proc/cpuinfo` for a CPU, in the format of Linux.
pub fn write_cpuinfo(w: &mut dyn fmt::Write, cpu: CpuId) -> fmt::Result {
    writeln!(w, "processor\t: {cpu}\n")
}
