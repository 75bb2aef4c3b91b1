//! `/proc/cpuinfo`: what CPUID says, by the names Linux gives it.
//!
//! All CPUs are taken to be alike: but for its place in the topology, every one shows what the reading CPU is.

use core::fmt::{self, Write};

use super::insn::cpuid;
use super::platform::platform;
use super::{features, insn};
use crate::cpu::{self, CpuId};
use crate::time::clock_hz;

/// One register of a CPUID leaf, and the names of its bits from 0 upwards (`-`: none).
struct Word {
    leaf: u32,
    subleaf: u32,
    register: fn(&core::arch::x86_64::CpuidResult) -> u32,
    names: &'static str,
}

/// In the order in which Linux prints them.
const WORDS: [Word; 8] = [
    Word {
        leaf: 1,
        subleaf: 0,
        register: |r| r.edx,
        names: "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr \
                sse sse2 ss ht tm ia64 pbe",
    },
    Word {
        leaf: 0x8000_0001,
        subleaf: 0,
        register: |r| r.edx,
        names: "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    },
    Word {
        leaf: 1,
        subleaf: 0,
        register: |r| r.ecx,
        names: "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 \
                sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
    },
    Word {
        leaf: 0x8000_0001,
        subleaf: 0,
        register: |r| r.ecx,
        names: "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp \
                fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx",
    },
    Word {
        leaf: 7,
        subleaf: 0,
        register: |r| r.ebx,
        names: "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq rdseed \
                adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    },
    Word { leaf: 0xd, subleaf: 1, register: |r| r.eax, names: "xsaveopt xsavec xgetbv1 xsaves" },
    Word {
        leaf: 7,
        subleaf: 0,
        register: |r| r.ecx,
        // Five-level paging is not used, and so not shown.
        names: "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme \
                avx512_vpopcntdq - - - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd",
    },
    Word {
        leaf: 7,
        subleaf: 0,
        register: |r| r.edx,
        names: "- - - - fsrm - - - avx512_vp2intersect - md_clear - - - serialize",
    },
];

/// Whether CPUID has the leaf.
fn has_leaf(leaf: u32) -> bool {
    cpuid(leaf & 0x8000_0000, 0).eax >= leaf
}

/// Whether a feature that the CPU has was switched off by a boot parameter.
fn switched_off(name: &str) -> bool {
    match name {
        "smap" => !features::has_smap(),
        "smep" => !features::has_smep(),
        "umip" => !features::has_umip(),
        "fsgsbase" => !features::has_fsgsbase(),
        "pcid" => !features::has_pcid(),
        "xsave" => !features::has_xsave(),
        "xsaveopt" => !features::has_xsaveopt(),
        "pku" | "ospke" => !features::has_pku(),
        _ => false,
    }
}

/// Text that CPUID gives in registers, without the padding.
struct Text<const N: usize>([u32; N]);

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().flat_map(|r| r.to_le_bytes()).take_while(|&b| b != 0);
        let mut started = false;
        for b in bytes {
            started |= b != b' ';
            if started {
                f.write_char(char::from(b))?;
            }
        }
        Ok(())
    }
}

fn write_flags(w: &mut dyn fmt::Write) -> fmt::Result {
    write!(w, "flags\t\t:")?;
    for (i, word) in WORDS.iter().enumerate() {
        if has_leaf(word.leaf) {
            let value = (word.register)(&cpuid(word.leaf, word.subleaf));
            for (bit, name) in word.names.split_ascii_whitespace().enumerate() {
                if value >> bit & 1 != 0 && name != "-" && !switched_off(name) {
                    write!(w, " {name}")?;
                }
            }
        }
        // What Linux makes up itself comes after the first two words.
        if i == 1 {
            if features::has_invariant_tsc() {
                write!(w, " constant_tsc")?;
            }
            write!(w, " rep_good nopl")?;
            if has_leaf(0xb) {
                write!(w, " xtopology")?;
            }
            if features::has_invariant_tsc() {
                write!(w, " nonstop_tsc")?;
            }
            write!(w, " cpuid")?;
        }
    }
    writeln!(w)
}

/// Bits of an APIC id that tell threads of a core, and CPUs of a package, apart.
fn topology_shifts() -> (u32, u32) {
    if !has_leaf(0xb) || cpuid(0xb, 0).ebx == 0 {
        return (0, 0);
    }
    (cpuid(0xb, 0).eax & 31, cpuid(0xb, 1).eax & 31)
}

/// The entry of `/proc/cpuinfo` for a CPU, in the format of Linux.
pub fn write_cpuinfo(w: &mut dyn fmt::Write, cpu: CpuId) -> fmt::Result {
    let max = cpuid(0, 0);
    let signature = cpuid(1, 0);
    let id = signature.eax;
    let mut family = id >> 8 & 15;
    let mut model = id >> 4 & 15;
    if family == 6 || family == 15 {
        model |= id >> 12 & 0xf0;
    }
    if family == 15 {
        family += id >> 20 & 0xff;
    }
    writeln!(w, "processor\t: {cpu}")?;
    writeln!(w, "vendor_id\t: {}", Text([max.ebx, max.edx, max.ecx]))?;
    writeln!(w, "cpu family\t: {family}\nmodel\t\t: {model}")?;
    write!(w, "model name\t: ")?;
    if has_leaf(0x8000_0004) {
        let [a, b, c] = [2, 3, 4].map(|n| cpuid(0x8000_0000 + n, 0));
        let name = [a.eax, a.ebx, a.ecx, a.edx, b.eax, b.ebx, b.ecx, b.edx, c.eax, c.ebx, c.ecx, c.edx];
        writeln!(w, "{}", Text(name))?;
    } else {
        writeln!(w, "unknown")?;
    }
    writeln!(w, "stepping\t: {}", id & 15)?;
    let khz = clock_hz() / 1000;
    writeln!(w, "cpu MHz\t\t: {}.{:03}", khz / 1000, khz % 1000)?;
    let cache = if has_leaf(0x8000_0006) { cpuid(0x8000_0006, 0) } else { features::zero() };
    writeln!(w, "cache size\t: {} KB", cache.ecx >> 16)?;

    let (thread_bits, package_bits) = topology_shifts();
    let apic_id = |c: CpuId| platform().apic_ids[c.index()];
    let me = apic_id(cpu);
    let package = |id: u32| if package_bits == 0 { id } else { id >> package_bits };
    let mates = || cpu::online().iter().map(apic_id).filter(|&id| package(id) == package(me));
    let core = |id: u32| id >> thread_bits;
    let cores = mates().filter(|&id| mates().find(|&other| core(other) == core(id)) == Some(id)).count();
    writeln!(w, "physical id\t: {}", package(me))?;
    writeln!(w, "siblings\t: {}", mates().count())?;
    writeln!(w, "core id\t\t: {}", core(me) & ((1 << (package_bits - thread_bits.min(package_bits))) - 1))?;
    writeln!(w, "cpu cores\t: {cores}")?;
    writeln!(w, "apicid\t\t: {me}\ninitial apicid\t: {me}")?;
    writeln!(w, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes", max.eax)?;
    write_flags(w)?;
    writeln!(w, "bugs\t\t:")?;
    // Two loops per cycle, as Linux computes it from a known TSC.
    let loops = khz * 2 / 10;
    writeln!(w, "bogomips\t: {}.{:02}", loops / 100, loops % 100)?;
    let tlb = (cache.ebx >> 16 & 0xfff) + (cache.ebx & 0xfff);
    if tlb != 0 {
        writeln!(w, "TLB size\t: {tlb} 4K pages")?;
    }
    let line = (signature.ebx >> 8 & 0xff) * 8;
    writeln!(w, "clflush size\t: {line}\ncache_alignment\t: {line}")?;
    let physical = if has_leaf(0x8000_0008) { insn::cpuid(0x8000_0008, 0).eax & 0xff } else { 36 };
    writeln!(w, "address sizes\t: {physical} bits physical, 48 bits virtual")?;
    writeln!(w, "power management:\n")
}
