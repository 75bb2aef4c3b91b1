//! The format of page table entries: pure arithmetic, tested on the build machine.
//!
//! Bits of the hardware: P 0, W 1, U 2, PWT 3, PCD 4, A 5, D 6, PS 7, G 8, the protection key 59 to 62, NX 63. With the PAT as [`PAT`] sets it, PWT alone
//! is write-combining, PCD alone uncached, both strongly uncached.
//!
//! Not-present entries with content: G set means `PROT_NONE` (a frame is there), W set and G clear a software entry.
//! Software: bit 9 "special", bit 10 "write-protected by userfaultfd", bit 11 "soft-dirty" (the bits that Linux uses).

use crate::addr::{Pfn, PhysAddr};
use crate::paging::{Level, Prot};

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const SPECIAL: u64 = 1 << 9;
const UFFD_WP: u64 = 1 << 10;
const SOFT_DIRTY: u64 = 1 << 11;
/// Where the protection key of a user page lies.
const KEY_SHIFT: u32 = 59;
const NX: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;
/// In a not-present entry: a software entry.
const SOFT: u64 = W;

/// The memory types: write-back, write-combining, uncached-minus, uncached, and the same with write-protect and
/// write-through in the upper half, which is not used.
#[allow(dead_code)]
pub const PAT: u64 = 0x0407_0506_0007_0106;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// The empty entry.
    pub const NONE: Self = Self(0);

    const fn prot_bits(prot: Prot) -> u64 {
        let user = prot.contains(Prot::USER);
        if user && !prot.intersects(Prot::READ.union(Prot::WRITE).union(Prot::EXEC)) {
            return G | NX;
        }
        let mut bits = P;
        if prot.contains(Prot::WRITE) {
            // Nobody looks at the dirty marks of kernel mappings: spare the processor the update.
            bits |= if user { W } else { W | D };
        }
        if user {
            bits |= U | (prot.key() as u64) << KEY_SHIFT;
        } else if prot.contains(Prot::GLOBAL) {
            bits |= G;
        }
        if !prot.contains(Prot::EXEC) {
            bits |= NX;
        }
        if prot.contains(Prot::DEVICE) {
            bits |= PCD | PWT;
        } else if prot.contains(Prot::NOCACHE) {
            bits |= PCD;
        } else if prot.contains(Prot::WRITECOMBINE) {
            bits |= PWT;
        }
        bits
    }

    /// An entry that maps memory. Leaves are created accessed; writable user leaves are created dirty only by `with_dirty`.
    #[inline]
    pub const fn leaf(pfn: Pfn, prot: Prot, level: Level) -> Self {
        let size = if level > 0 { PS } else { 0 };
        Self(pfn.0 << 12 & ADDR | A | size | Self::prot_bits(prot))
    }

    /// An entry that points to the next table (of user space if `user`).
    #[inline]
    pub const fn table(table: PhysAddr, user: bool) -> Self {
        Self(table.0 & ADDR | P | W | A | if user { U } else { 0 })
    }

    /// No translation and no swap or migration entry.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Translates (or, with `PROT_NONE`, holds a frame that no access reaches: see [`Self::is_prot_none`]).
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & (P | G) != 0
    }

    /// Holds a frame but allows no access (mprotect PROT_NONE, NUMA hinting).
    #[inline]
    pub const fn is_prot_none(self) -> bool {
        self.0 & (P | G) == G
    }

    /// Maps memory, as seen in a table of `level`.
    #[inline]
    pub const fn is_leaf(self, level: Level) -> bool {
        self.is_present() && (level == 0 || self.0 & PS != 0)
    }

    /// The frame mapped, or of the next table.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn((self.0 & ADDR) >> 12)
    }

    /// What the mapping allows.
    pub const fn prot(self) -> Prot {
        if self.is_prot_none() {
            return Prot::USER;
        }
        let mut prot = Prot::READ;
        if self.0 & W != 0 {
            prot = prot.union(Prot::WRITE);
        }
        if self.0 & NX == 0 {
            prot = prot.union(Prot::EXEC);
        }
        if self.0 & U != 0 {
            prot = prot.union(Prot::USER).union(Prot::of_key((self.0 >> KEY_SHIFT & 0xf) as u8));
        } else if self.0 & G != 0 {
            prot = prot.union(Prot::GLOBAL);
        }
        match self.0 & (PWT | PCD) {
            0 => prot,
            PWT => prot.union(Prot::WRITECOMBINE),
            PCD => prot.union(Prot::NOCACHE),
            _ => prot.union(Prot::DEVICE),
        }
    }

    /// May be written.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & (P | W) == P | W
    }

    /// Was written through this mapping.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & D != 0
    }

    /// Was accessed.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & A != 0
    }

    /// Is accessible from user mode.
    #[inline]
    pub const fn is_user(self) -> bool {
        self.0 & U != 0
    }

    /// May be executed.
    #[inline]
    pub const fn is_exec(self) -> bool {
        self.0 & (P | NX) == P
    }

    /// A software mark: maps a page that is not ours to count (zero page, device memory).
    #[inline]
    pub const fn is_special(self) -> bool {
        self.is_present() && self.0 & SPECIAL != 0
    }

    const fn with(self, bit: u64, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }

    /// With write permission (and, where hardware needs it, the dirty bookkeeping).
    #[inline]
    pub const fn with_writable(self, on: bool) -> Self {
        self.with(W, on)
    }

    /// With the dirty mark. What becomes dirty becomes soft-dirty as well.
    #[inline]
    pub const fn with_dirty(self, on: bool) -> Self {
        if on { self.with(D | SOFT_DIRTY, true) } else { self.with(D, false) }
    }

    /// With the accessed mark.
    #[inline]
    pub const fn with_accessed(self, on: bool) -> Self {
        self.with(A, on)
    }

    /// With the special mark.
    #[inline]
    pub const fn with_special(self, on: bool) -> Self {
        self.with(SPECIAL, on)
    }

    /// A software mark: a store goes to a `userfaultfd(2)` first. Never together with write permission.
    #[inline]
    pub const fn is_uffd_wp(self) -> bool {
        self.is_present() && self.0 & UFFD_WP != 0
    }

    /// With that mark; setting it takes the write permission away.
    #[inline]
    pub const fn with_uffd_wp(self, on: bool) -> Self {
        if on { self.with(W, false).with(UFFD_WP, true) } else { self.with(UFFD_WP, false) }
    }

    /// A software mark: was written since `/proc/PID/clear_refs` was told to forget.
    #[inline]
    pub const fn is_soft_dirty(self) -> bool {
        self.is_present() && self.0 & SOFT_DIRTY != 0
    }

    /// With that mark.
    #[inline]
    pub const fn with_soft_dirty(self, on: bool) -> Self {
        self.with(SOFT_DIRTY, on)
    }

    /// Of another frame; all else stays.
    #[inline]
    pub const fn with_pfn(self, pfn: Pfn) -> Self {
        Self(self.0 & !ADDR | pfn.0 << 12 & ADDR)
    }

    /// With other permissions; frame, size and all marks stay.
    pub const fn with_prot(self, prot: Prot) -> Self {
        Self(self.0 & (ADDR | A | D | PS | SPECIAL | UFFD_WP | SOFT_DIRTY) | Self::prot_bits(prot))
    }

    /// A non-present entry for `mm`: swap, migration, poison. `kind` below 32, `payload` below 2^50.
    #[inline]
    pub const fn software(kind: u8, payload: u64) -> Self {
        Self(SOFT | (kind as u64 & 31) << 2 | (payload & ((1 << 50) - 1)) << 9)
    }

    /// Takes a [`Self::software`] entry apart.
    #[inline]
    pub const fn as_software(self) -> Option<(u8, u64)> {
        if self.0 & (P | G | SOFT) != SOFT {
            return None;
        }
        Some(((self.0 >> 2 & 31) as u8, self.0 >> 9 & ((1 << 50) - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER_RW: Prot = Prot::READ.union(Prot::WRITE).union(Prot::USER);

    #[test]
    fn round_trips_protections() {
        for prot in [
            USER_RW,
            Prot::READ | Prot::USER,
            Prot::READ | Prot::EXEC | Prot::USER,
            Prot::USER,
            USER_RW | Prot::of_key(15),
            Prot::READ | Prot::EXEC | Prot::USER | Prot::of_key(1),
            Prot::KERNEL_RW,
            Prot::KERNEL_RX,
            Prot::KERNEL_DEVICE,
            Prot::KERNEL_RW | Prot::WRITECOMBINE,
        ] {
            let pte = Pte::leaf(Pfn(0x12345), prot, 0);
            assert_eq!(pte.prot(), prot);
            assert_eq!(pte.pfn(), Pfn(0x12345));
            assert!(pte.is_present() && pte.is_leaf(0) && pte.as_software().is_none());
        }
    }

    #[test]
    fn hardware_bits() {
        assert_eq!(Pte::leaf(Pfn(1), USER_RW, 0).0, 0x8000_0000_0000_1027);
        assert_eq!(Pte::leaf(Pfn(0x200), Prot::KERNEL_RX, 1).0, 0x20_01a1);
        assert_eq!(Pte::leaf(Pfn(1), USER_RW | Prot::of_key(5), 0).0, 0xa800_0000_0000_1027);
        assert_eq!(Pte::table(PhysAddr(0x3000), true).0, 0x3027);
        assert!(!Pte::table(PhysAddr(0x3000), true).is_leaf(1));
        // PROT_NONE must not be present to the hardware.
        assert_eq!(Pte::leaf(Pfn(1), Prot::USER, 0).0 & P, 0);
        assert!(Pte::leaf(Pfn(1), Prot::USER, 0).is_prot_none());
    }

    #[test]
    fn changing_protection_keeps_marks() {
        let pte = Pte::leaf(Pfn(7), USER_RW, 0).with_dirty(true).with_special(true);
        let none = pte.with_prot(Prot::USER);
        assert!(none.is_prot_none() && none.is_dirty() && none.is_special() && none.pfn() == Pfn(7));
        assert_eq!(none.with_prot(USER_RW), pte);
        let keyed = pte.with_prot(USER_RW | Prot::of_key(9));
        assert!(keyed.prot().key() == 9 && keyed.is_dirty() && keyed.with_prot(USER_RW) == pte);
    }

    #[test]
    fn marks_of_software() {
        let pte = Pte::leaf(Pfn(7), USER_RW, 0);
        assert!(!pte.is_soft_dirty() && !pte.is_uffd_wp());
        let dirty = pte.with_dirty(true);
        assert!(dirty.is_soft_dirty() && dirty.with_dirty(false).is_soft_dirty());
        assert!(!dirty.with_soft_dirty(false).is_soft_dirty() && dirty.with_soft_dirty(false).is_dirty());
        let guarded = dirty.with_uffd_wp(true);
        assert!(guarded.is_uffd_wp() && !guarded.is_writable());
        assert!(guarded.with_prot(Prot::USER).with_prot(Prot::READ | Prot::USER).is_uffd_wp());
        assert!(!guarded.with_uffd_wp(false).is_writable());
        assert!(!Pte::software(3, u64::MAX).is_uffd_wp() && !Pte::software(3, u64::MAX).is_soft_dirty());
    }

    #[test]
    fn software_entries() {
        for (kind, payload) in [(0, 0), (31, (1 << 50) - 1), (5, 0x1_2345)] {
            let pte = Pte::software(kind, payload);
            assert_eq!(pte.as_software(), Some((kind, payload)));
            assert!(!pte.is_present() && !pte.is_none());
        }
        assert_eq!(Pte::NONE.as_software(), None);
    }
}
