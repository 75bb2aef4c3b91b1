//! CPU features: from the ID registers to `AT_HWCAP`, `/proc/cpuinfo` and what user mode reads with `mrs`.
//!
//! One table names every feature that this kernel passes on. SVE, SME, pointer authentication, BTI and MTE are not in
//! it: the kernel does not enable them for user mode. Both the hwcap bits and the emulated ID registers come from the
//! table, so they agree.

/// The ID registers that describe features to user mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "names of registers")]
pub enum Reg {
    Pfr0,
    Pfr1,
    Isar0,
    Isar1,
    Isar2,
    Mmfr0,
    Mmfr1,
    Mmfr2,
}

/// How many [`Reg`]s there are.
const REGS: usize = 8;

/// The values of the ID registers, by [`Reg`]; `cpu.rs` reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegs(pub [u64; REGS]);

impl IdRegs {
    fn field(&self, reg: Reg, shift: u32) -> u64 {
        self.0[reg as usize] >> shift & 0xf
    }
}

/// A feature: its name in `/proc/cpuinfo`, its bit (64 and up: `AT_HWCAP2`), where it stands in the ID registers.
struct Feature {
    name: &'static str,
    bit: u32,
    reg: Reg,
    shift: u32,
    least: u64,
}

const fn f(name: &'static str, bit: u32, reg: Reg, shift: u32, least: u64) -> Feature {
    Feature { name, bit, reg, shift, least }
}

/// `HWCAP_EVTSTRM`: ours, not the CPU's: see `arch_cpu_setup`.
const EVTSTRM: u64 = 1 << 2;
/// `HWCAP_CPUID`: `mrs` of ID registers works in user mode: see `emulate.rs`.
const CPUID: u64 = 1 << 11;

/// In the order of the bits, which is the order of `/proc/cpuinfo`.
const FEATURES: &[Feature] = &[
    f("aes", 3, Reg::Isar0, 4, 1),
    f("pmull", 4, Reg::Isar0, 4, 2),
    f("sha1", 5, Reg::Isar0, 8, 1),
    f("sha2", 6, Reg::Isar0, 12, 1),
    f("crc32", 7, Reg::Isar0, 16, 1),
    f("atomics", 8, Reg::Isar0, 20, 2),
    f("asimdrdm", 12, Reg::Isar0, 28, 1),
    f("jscvt", 13, Reg::Isar1, 12, 1),
    f("fcma", 14, Reg::Isar1, 16, 1),
    f("lrcpc", 15, Reg::Isar1, 20, 1),
    f("dcpop", 16, Reg::Isar1, 0, 1),
    f("sha3", 17, Reg::Isar0, 32, 1),
    f("sm3", 18, Reg::Isar0, 36, 1),
    f("sm4", 19, Reg::Isar0, 40, 1),
    f("asimddp", 20, Reg::Isar0, 44, 1),
    f("sha512", 21, Reg::Isar0, 12, 2),
    f("asimdfhm", 23, Reg::Isar0, 48, 1),
    f("dit", 24, Reg::Pfr0, 48, 1),
    f("uscat", 25, Reg::Mmfr2, 32, 1),
    f("ilrcpc", 26, Reg::Isar1, 20, 2),
    f("flagm", 27, Reg::Isar0, 52, 1),
    f("ssbs", 28, Reg::Pfr1, 4, 2),
    f("sb", 29, Reg::Isar1, 36, 1),
    f("dcpodp", 64, Reg::Isar1, 0, 2),
    f("flagm2", 64 + 7, Reg::Isar0, 52, 2),
    f("frint", 64 + 8, Reg::Isar1, 32, 1),
    f("i8mm", 64 + 13, Reg::Isar1, 52, 1),
    f("bf16", 64 + 14, Reg::Isar1, 44, 1),
    f("dgh", 64 + 15, Reg::Isar1, 48, 1),
    f("rng", 64 + 16, Reg::Isar0, 60, 1),
    f("ecv", 64 + 19, Reg::Mmfr0, 60, 1),
    f("afp", 64 + 20, Reg::Mmfr1, 44, 1),
    f("rpres", 64 + 21, Reg::Isar2, 4, 1),
    f("wfxt", 64 + 31, Reg::Isar2, 0, 2),
    f("ebf16", 64 + 32, Reg::Isar1, 44, 2),
    f("cssc", 64 + 34, Reg::Isar2, 52, 1),
    f("rprfm", 64 + 35, Reg::Isar2, 48, 1),
    f("mops", 64 + 43, Reg::Isar2, 16, 1),
    f("hbc", 64 + 44, Reg::Isar2, 20, 1),
    f("lrcpc3", 64 + 46, Reg::Isar1, 20, 3),
    f("lse128", 64 + 47, Reg::Isar0, 20, 3),
];

/// Fields of PFR0 that are signed: 0xf means absent.
const FP_SHIFT: u32 = 16;
const SIMD_SHIFT: u32 = 20;

/// `(AT_HWCAP, AT_HWCAP2)`.
pub fn hwcaps(id: &IdRegs) -> (u64, u64) {
    let mut caps = u128::from(EVTSTRM | CPUID);
    for feature in FEATURES {
        if id.field(feature.reg, feature.shift) >= feature.least {
            caps |= 1 << feature.bit;
        }
    }
    // fp 0, asimd 1, fphp 9, asimdhp 10
    for (shift, plain, half) in [(FP_SHIFT, 0, 9), (SIMD_SHIFT, 1, 10)] {
        match id.field(Reg::Pfr0, shift) {
            0xf => {}
            0 => caps |= 1 << plain,
            _ => caps |= 1 << plain | 1 << half,
        }
    }
    (caps as u64, (caps >> 64) as u64)
}

/// The names of the features set, as `Features` of `/proc/cpuinfo` lists them.
pub fn names(hwcap: u64, hwcap2: u64) -> impl Iterator<Item = &'static str> {
    const OWN: [(&str, u32); 6] =
        [("fp", 0), ("asimd", 1), ("evtstrm", 2), ("fphp", 9), ("asimdhp", 10), ("cpuid", 11)];
    let caps = u128::from(hwcap) | u128::from(hwcap2) << 64;
    (0..128).filter(move |bit| caps >> bit & 1 != 0).filter_map(|bit| {
        let own = OWN.iter().find(|(_, b)| *b == bit).map(|(name, _)| *name);
        own.or_else(|| FEATURES.iter().find(|f| f.bit == bit).map(|f| f.name))
    })
}

/// What user mode reads: the fields that describe features of the table, and elsewhere what Linux gives for
/// "nothing to see here".
pub fn user_value(id: &IdRegs, reg: Reg) -> u64 {
    let (mut mask, rest) = match reg {
        // EL0 and EL1 are AArch64 only.
        Reg::Pfr0 => (0xf << FP_SHIFT | 0xf << SIMD_SHIFT, 0x11),
        // No 4 KiB or 64 KiB granule.
        Reg::Mmfr0 => (0, 0xff00_0000),
        _ => (0, 0),
    };
    for feature in FEATURES.iter().filter(|f| f.reg == reg) {
        mask |= 0xf << feature.shift;
    }
    id.0[reg as usize] & mask | rest & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cortex_a72() {
        // ID registers of a Cortex-A72: AES, PMULL, SHA1, SHA2, CRC32; FP and SIMD without half precision.
        let mut id = IdRegs::default();
        id.0[Reg::Isar0 as usize] = 0x11120;
        id.0[Reg::Pfr0 as usize] = 0x2222;
        let (hwcap, hwcap2) = hwcaps(&id);
        assert_eq!(hwcap2, 0);
        let list: Vec<_> = names(hwcap, hwcap2).collect();
        assert_eq!(list.join(" "), "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid");
        assert_eq!(user_value(&id, Reg::Isar0), 0x11120);
        assert_eq!(user_value(&id, Reg::Pfr0), 0x11);
        assert_eq!(user_value(&id, Reg::Mmfr0), 0xff00_0000);
    }

    #[test]
    fn table_is_in_order() {
        assert!(FEATURES.windows(2).all(|w| w[0].bit < w[1].bit));
    }
}
