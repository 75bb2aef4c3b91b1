//! Caches by CLIDR_EL1 and CCSIDR_EL1: Arm ARM, D24.2.
//!
//! The registers describe the caches that maintenance by set and way reaches, and say nothing about who shares them: each CPU is
//! taken to have its own.

use super::sysreg::{isb, read_sysreg, write_sysreg};
use crate::cache::{Cache, Kind};
use crate::cpu::{CpuId, CpuMask};
use crate::irq::IrqGuard;

/// What CLIDR_EL1 says of a level.
const INSTRUCTION: u64 = 1;
const DATA: u64 = 2;
const SEPARATE: u64 = 3;
const UNIFIED: u64 = 4;
const LEVELS: u32 = 7;

/// Level and kind of cache `index`.
fn place(index: u32) -> Option<(u32, Kind)> {
    let clidr = read_sysreg!("clidr_el1");
    let mut at = 0;
    for level in 0..LEVELS {
        let kinds: &[Kind] = match clidr >> (3 * level) & 7 {
            INSTRUCTION => &[Kind::Instruction],
            DATA => &[Kind::Data],
            SEPARATE => &[Kind::Data, Kind::Instruction],
            UNIFIED => &[Kind::Unified],
            _ => return None,
        };
        if let Some(kind) = kinds.get((index - at) as usize) {
            return Some((level, *kind));
        }
        at += kinds.len() as u32;
    }
    None
}

/// See [`crate::cache::of`].
pub fn of(cpu: CpuId, index: u32) -> Option<Cache> {
    let (level, kind) = place(index)?;
    let select = u64::from(level) << 1 | u64::from(kind == Kind::Instruction);
    let ccsidr = {
        let _stay = IrqGuard::new();
        write_sysreg!("csselr_el1", select);
        isb();
        read_sysreg!("ccsidr_el1")
    };
    let line = 16_u32 << (ccsidr & 7);
    // FEAT_CCIDX: longer fields.
    let wide = read_sysreg!("id_aa64mmfr2_el1") >> 20 & 0xf != 0;
    let (ways, sets) = match wide {
        true => (ccsidr >> 3 & 0x1f_ffff, ccsidr >> 32 & 0xff_ffff),
        false => (ccsidr >> 3 & 0x3ff, ccsidr >> 13 & 0x7fff),
    };
    let (ways, sets) = (ways as u32 + 1, sets as u32 + 1);
    Some(Cache {
        level: level as u8 + 1,
        kind,
        line,
        partitions: 1,
        ways,
        sets,
        id: cpu.0,
        shared: CpuMask::of(cpu),
    })
}
