//! The allocator of ASIDs, apart from the hardware: generations, reuse at rollover, who has to flush.

use crate::cpu::{CpuId, CpuMask, MAX_CPUS};

const WORDS: usize = (1 << 16) / 64;

/// Owns which ASIDs of the current generation are taken.
pub struct AsidAllocator {
    generation: u64,
    /// ASIDs in use: 2^bits, 0 never given out.
    asids: usize,
    hint: usize,
    used: [u64; WORDS],
    /// What each CPU ran with at the last rollover: these keep their ASID.
    reserved: [u64; MAX_CPUS],
    flush: CpuMask,
}

/// What [`AsidAllocator::claim`] decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Generation and ASID.
    pub id: u64,
    /// A new generation began.
    pub rolled_over: bool,
}

impl AsidAllocator {
    /// Bits below the generation.
    pub const ASID_BITS: u32 = 16;
    /// The ASID in an id.
    pub const ASID_MASK: u64 = (1 << Self::ASID_BITS) - 1;
    /// The generation that boot begins with; no id is older, so an id of 0 never matches.
    pub const FIRST_GENERATION: u64 = 1 << Self::ASID_BITS;

    /// For 8-bit ASIDs, until [`Self::set_bits`].
    pub const fn new() -> Self {
        Self {
            generation: Self::FIRST_GENERATION,
            asids: 1 << 8,
            hint: 1,
            used: [0; WORDS],
            reserved: [0; MAX_CPUS],
            flush: CpuMask::EMPTY,
        }
    }

    /// How wide ASIDs are: 8 or 16.
    pub fn set_bits(&mut self, bits: u32) {
        self.asids = 1 << bits;
    }

    /// An id of the current generation for an address space whose last one was `old` (0: none). `take_active` reads and
    /// clears what a CPU runs with, for a rollover.
    pub fn claim(&mut self, old: u64, take_active: impl FnMut(CpuId) -> u64) -> Claim {
        if old != 0 {
            if (old ^ self.generation) >> Self::ASID_BITS == 0 {
                return Claim { id: old, rolled_over: false };
            }
            let renewed = self.generation | old & Self::ASID_MASK;
            if self.renew_reserved(old, renewed) {
                return Claim { id: renewed, rolled_over: false };
            }
            let asid = (old & Self::ASID_MASK) as usize;
            if asid < self.asids && !self.test_and_set(asid) {
                return Claim { id: renewed, rolled_over: false };
            }
        }
        if let Some(asid) = self.find_free() {
            return Claim { id: self.generation | asid as u64, rolled_over: false };
        }
        self.roll_over(take_active);
        // There are more ASIDs than CPUs, so one is free now.
        let asid = self.find_free().unwrap_or(1);
        Claim { id: self.generation | asid as u64, rolled_over: true }
    }

    /// Whether this CPU must flush its TLB before it uses an id; asks once per rollover.
    pub fn take_flush(&mut self, cpu: CpuId) -> bool {
        let due = self.flush.contains(cpu);
        self.flush.clear(cpu);
        due
    }

    fn renew_reserved(&mut self, old: u64, new: u64) -> bool {
        let mut hit = false;
        for reserved in &mut self.reserved {
            if *reserved == old {
                *reserved = new;
                hit = true;
            }
        }
        hit
    }

    fn test_and_set(&mut self, asid: usize) -> bool {
        let (word, bit) = (asid / 64, 1 << (asid % 64));
        let was = self.used[word] & bit != 0;
        self.used[word] |= bit;
        was
    }

    fn find_free(&mut self) -> Option<usize> {
        let first = self.hint / 64;
        for word in first..self.asids / 64 {
            let mut taken = self.used[word];
            if word == 0 {
                taken |= 1;
            }
            if word == first {
                taken |= (1 << (self.hint % 64)) - 1;
            }
            if taken != u64::MAX {
                let asid = word * 64 + taken.trailing_ones() as usize;
                self.used[word] |= 1 << (asid % 64);
                self.hint = asid;
                return Some(asid);
            }
        }
        None
    }

    fn roll_over(&mut self, mut take_active: impl FnMut(CpuId) -> u64) {
        self.generation += Self::FIRST_GENERATION;
        self.used.fill(0);
        self.hint = 1;
        for cpu in 0..MAX_CPUS as u32 {
            let active = take_active(CpuId(cpu));
            // A CPU that has not switched since the last rollover still runs with what was reserved then.
            if active != 0 {
                self.reserved[cpu as usize] = active;
            }
            let kept = (self.reserved[cpu as usize] & Self::ASID_MASK) as usize;
            if kept != 0 {
                self.test_and_set(kept);
            }
        }
        self.flush = CpuMask::ALL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_within_a_generation() {
        let mut a = AsidAllocator::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 1..256 {
            let claim = a.claim(0, |_| 0);
            assert!(!claim.rolled_over);
            assert_ne!(claim.id & AsidAllocator::ASID_MASK, 0);
            assert!(seen.insert(claim.id));
        }
        assert!(!a.take_flush(CpuId(0)));
        let claim = a.claim(0, |_| 0);
        assert!(claim.rolled_over);
        assert!(a.take_flush(CpuId(0)) && !a.take_flush(CpuId(0)) && a.take_flush(CpuId(1)));
    }

    #[test]
    fn a_running_address_space_keeps_its_asid() {
        let mut a = AsidAllocator::new();
        let running = a.claim(0, |_| 0).id;
        loop {
            let claim = a.claim(0, |cpu| if cpu == CpuId(2) { running } else { 0 });
            if claim.rolled_over {
                assert_ne!(claim.id & AsidAllocator::ASID_MASK, running & AsidAllocator::ASID_MASK);
                break;
            }
        }
        for _ in 0..250 {
            let id = a.claim(0, |_| 0).id;
            assert_ne!(id & AsidAllocator::ASID_MASK, running & AsidAllocator::ASID_MASK);
        }
        let renewed = a.claim(running, |_| 0).id;
        assert_eq!(renewed & AsidAllocator::ASID_MASK, running & AsidAllocator::ASID_MASK);
        assert_ne!(renewed, running);
    }
}
