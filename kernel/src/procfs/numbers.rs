//! Sets of CPUs and nodes as text: `cpuset(7)`, "Formats".

use core::fmt::{Result, Write};

use arch::cpu::CpuMask;

/// As a list: `0-3,6`.
pub fn write_list(out: &mut dyn Write, set: CpuMask) -> Result {
    let mut first = true;
    let mut ids = set.iter().map(|cpu| cpu.0).peekable();
    while let Some(start) = ids.next() {
        let mut end = start;
        while let Some(next) = ids.next_if(|next| *next == end + 1) {
            end = next;
        }
        if !first {
            out.write_char(',')?;
        }
        first = false;
        write!(out, "{start}")?;
        if end > start {
            write!(out, "-{end}")?;
        }
    }
    Ok(())
}

/// As a mask in hexadecimal, groups of 32 bits separated by commas, as wide as `universe`.
pub fn write_mask(out: &mut dyn Write, set: CpuMask, universe: CpuMask) -> Result {
    let bits = set.iter().fold(0u64, |bits, cpu| bits | 1 << (cpu.0 & 63));
    let width = universe.iter().last().map_or(1, |cpu| cpu.0 + 1);
    if width > 32 {
        let digits = (width - 32).div_ceil(4) as usize;
        return write!(out, "{:0digits$x},{:08x}", bits >> 32, bits as u32);
    }
    let digits = width.div_ceil(4) as usize;
    write!(out, "{:0digits$x}", bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch::cpu::CpuId;
    use std::string::String;

    fn set(ids: &[u32]) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        ids.iter().for_each(|id| mask.set(CpuId(*id)));
        mask
    }

    #[test]
    fn lists_join_neighbours() {
        for (ids, text) in [(&[][..], ""), (&[0], "0"), (&[0, 1, 2], "0-2"), (&[0, 2, 3, 7], "0,2-3,7")] {
            let mut out = String::new();
            write_list(&mut out, set(ids)).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn masks_are_as_wide_as_the_machine() {
        for (ids, width, text) in [(&[0][..], 1, "1"), (&[0, 2], 8, "05"), (&[33], 40, "02,00000000")] {
            let mut out = String::new();
            write_mask(&mut out, set(ids), CpuMask::first_n(width)).unwrap();
            assert_eq!(out, text);
        }
    }
}
