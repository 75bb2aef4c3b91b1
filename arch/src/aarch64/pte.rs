//! Page table entries (VMSAv8-64, 4 KiB granule).
//!
//! Software's view of an entry and the hardware's differ in what "writable" means. Bit 51 (DBM) says that writing is
//! allowed; AP\[2\] set (read-only) says that the page is still clean. The first write makes the hardware clear AP\[2\]
//! (FEAT_HAFDBS) or faults, and `mm` answers a write fault on a writable entry with `with_dirty(true)`. Hence:
//!
//! | DBM | AP\[2\] | software dirty | means |
//! |---|---|---|---|
//! | 0 | 1 | 0 / 1 | read-only, clean / dirty |
//! | 1 | 1 | 0 | writable, clean |
//! | 1 | 0 | any | writable, dirty |
//!
//! Non-present entries have bit 0 clear: `PROT_NONE` mappings keep everything else and set bit 58; software entries
//! have bit 1 set, a kind in bits 2–6 and a payload in bits 7–56.

use crate::addr::{Pfn, PhysAddr};
use crate::paging::{Level, Prot};

const VALID: u64 = 1 << 0;
/// At level 0 a page, above a table (clear: a block).
const TYPE: u64 = 1 << 1;
const ATTR_SHIFT: u32 = 2;
const USER: u64 = 1 << 6;
const RDONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const ADDR: u64 = 0x0000_ffff_ffff_f000;
const WRITE: u64 = 1 << 51;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const DIRTY: u64 = 1 << 55;
const SPECIAL: u64 = 1 << 56;
const UFFD_WP: u64 = 1 << 57;
const PROT_NONE: u64 = 1 << 58;
const TABLE_PXN: u64 = 1 << 59;
const TABLE_UXN: u64 = 1 << 60;

/// Indices into MAIR_EL1, as `head.rs` fills it.
mod attr {
    pub const NORMAL: u64 = 0;
    pub const NORMAL_NC: u64 = 1;
    pub const DEVICE_NGNRE: u64 = 3;
}

const SOFT_MARK: u64 = 1 << 1;
const SOFT_KIND_SHIFT: u32 = 2;
const SOFT_PAYLOAD_SHIFT: u32 = 7;
const SOFT_PAYLOAD: u64 = (1 << 50) - 1;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// The empty entry.
    pub const NONE: Self = Self(0);

    /// An entry that maps memory. Leaves are created accessed; writable user leaves are created dirty only by `with_dirty`.
    pub const fn leaf(pfn: Pfn, prot: Prot, level: Level) -> Self {
        let attr = if prot.contains(Prot::DEVICE) {
            attr::DEVICE_NGNRE
        } else if prot.intersects(Prot::WRITECOMBINE.union(Prot::NOCACHE)) {
            attr::NORMAL_NC
        } else {
            attr::NORMAL
        };
        let page = if level == 0 { TYPE } else { 0 };
        let bits =
            (pfn.0 << 12) & ADDR | page | attr << ATTR_SHIFT | INNER_SHAREABLE | AF | permission_bits(prot);
        let kernel = !prot.contains(Prot::USER);
        // Nobody asks whether kernel memory is dirty: writable at once.
        Self(if kernel && prot.contains(Prot::WRITE) { bits & !RDONLY } else { bits })
    }

    /// An entry that points to the next table (of user space if `user`).
    pub const fn table(table: PhysAddr, user: bool) -> Self {
        Self(table.0 & ADDR | VALID | TYPE | if user { TABLE_PXN } else { TABLE_UXN })
    }

    /// No translation and no swap or migration entry.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Translates (or, with `PROT_NONE`, holds a frame that no access reaches: see [`Self::is_prot_none`]).
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & (VALID | PROT_NONE) != 0
    }

    /// Holds a frame but allows no access (mprotect PROT_NONE, NUMA hinting).
    pub const fn is_prot_none(self) -> bool {
        self.0 & (VALID | PROT_NONE) == PROT_NONE
    }

    /// Maps memory, as seen in a table of `level`.
    #[inline]
    pub const fn is_leaf(self, level: Level) -> bool {
        self.is_present() && (level == 0 || self.0 & TYPE == 0)
    }

    /// The frame mapped, or of the next table.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn((self.0 & ADDR) >> 12)
    }

    /// What the mapping allows.
    pub const fn prot(self) -> Prot {
        let mut prot = if self.is_user() { Prot::USER } else { Prot::empty() };
        if self.0 & NG == 0 {
            prot = prot.union(Prot::GLOBAL);
        }
        match self.0 >> ATTR_SHIFT & 7 {
            attr::DEVICE_NGNRE => prot = prot.union(Prot::DEVICE),
            attr::NORMAL_NC => prot = prot.union(Prot::NOCACHE),
            _ => {}
        }
        if self.is_prot_none() {
            return prot;
        }
        prot = prot.union(Prot::READ);
        if self.is_writable() {
            prot = prot.union(Prot::WRITE);
        }
        if self.is_exec() {
            prot = prot.union(Prot::EXEC);
        }
        prot
    }

    /// May be written.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Was written through this mapping.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0 || self.0 & (WRITE | RDONLY) == WRITE
    }

    /// Was accessed.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & AF != 0
    }

    /// Is accessible from user mode.
    pub const fn is_user(self) -> bool {
        self.0 & USER != 0
    }

    /// May be executed.
    pub const fn is_exec(self) -> bool {
        if self.is_user() { self.0 & UXN == 0 } else { self.0 & PXN == 0 }
    }

    /// A software mark: maps a page that is not ours to count (zero page, device memory).
    pub const fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }

    /// With write permission (and, where hardware needs it, the dirty bookkeeping).
    pub const fn with_writable(self, on: bool) -> Self {
        let dirty = self.is_dirty();
        if on {
            Self(self.0 | WRITE | RDONLY).with_dirty_if(dirty)
        } else {
            Self((self.0 | RDONLY) & !WRITE | if dirty { DIRTY } else { 0 })
        }
    }

    const fn with_dirty_if(self, dirty: bool) -> Self {
        if dirty { self.with_dirty(true) } else { self }
    }

    /// User mode will fetch instructions through it.
    #[inline]
    pub(super) const fn is_user_code(self) -> bool {
        self.0 & (VALID | USER | UXN | SPECIAL) == VALID | USER
    }

    /// With the dirty mark.
    pub const fn with_dirty(self, on: bool) -> Self {
        if !on {
            Self(self.0 & !DIRTY | RDONLY)
        } else if self.is_writable() {
            Self((self.0 | DIRTY) & !RDONLY)
        } else {
            Self(self.0 | DIRTY)
        }
    }

    /// With the accessed mark.
    pub const fn with_accessed(self, on: bool) -> Self {
        Self(if on { self.0 | AF } else { self.0 & !AF })
    }

    /// With the special mark.
    pub const fn with_special(self, on: bool) -> Self {
        Self(if on { self.0 | SPECIAL } else { self.0 & !SPECIAL })
    }

    /// A software mark: a store goes to a `userfaultfd(2)` first. Never together with write permission.
    #[inline]
    pub const fn is_uffd_wp(self) -> bool {
        self.is_present() && self.0 & UFFD_WP != 0
    }

    /// With that mark; setting it takes the write permission away.
    #[inline]
    pub const fn with_uffd_wp(self, on: bool) -> Self {
        if on { Self(self.with_writable(false).0 | UFFD_WP) } else { Self(self.0 & !UFFD_WP) }
    }

    /// Whether the page was written since soft-dirty marks were cleared; as on Linux there is no such mark here.
    #[inline]
    pub const fn is_soft_dirty(self) -> bool {
        false
    }

    /// With that mark: nothing changes.
    #[inline]
    pub const fn with_soft_dirty(self, _on: bool) -> Self {
        self
    }

    /// Of another frame; all else stays.
    pub const fn with_pfn(self, pfn: Pfn) -> Self {
        Self(self.0 & !ADDR | pfn.0 << 12 & ADDR)
    }

    /// With other permissions; frame and all marks stay.
    pub const fn with_prot(self, prot: Prot) -> Self {
        const CHANGED: u64 = VALID | PROT_NONE | USER | RDONLY | NG | WRITE | PXN | UXN;
        Self(self.0 & !(CHANGED | DIRTY) | permission_bits(prot)).with_dirty_if(self.is_dirty())
    }

    /// A non-present entry for `mm`: swap, migration, poison. `kind` below 32, `payload` below 2^50.
    pub const fn software(kind: u8, payload: u64) -> Self {
        Self(
            SOFT_MARK
                | ((kind & 31) as u64) << SOFT_KIND_SHIFT
                | (payload & SOFT_PAYLOAD) << SOFT_PAYLOAD_SHIFT,
        )
    }

    /// Takes a [`Self::software`] entry apart.
    pub const fn as_software(self) -> Option<(u8, u64)> {
        if self.is_present() || self.0 & SOFT_MARK == 0 {
            return None;
        }
        Some(((self.0 >> SOFT_KIND_SHIFT) as u8 & 31, self.0 >> SOFT_PAYLOAD_SHIFT & SOFT_PAYLOAD))
    }
}

/// The bits that say who may do what. Entries begin clean.
const fn permission_bits(prot: Prot) -> u64 {
    let user = prot.contains(Prot::USER);
    let access = Prot::READ.union(Prot::WRITE).union(Prot::EXEC);
    let mut bits = RDONLY | PXN | UXN;
    bits |= if prot.intersects(access) { VALID } else { PROT_NONE };
    if !prot.contains(Prot::GLOBAL) {
        bits |= NG;
    }
    if user {
        bits |= USER;
    }
    if prot.contains(Prot::WRITE) {
        bits |= WRITE;
    }
    if prot.contains(Prot::EXEC) {
        bits &= if user { !UXN } else { !PXN };
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: Prot = Prot::USER.union(Prot::READ).union(Prot::WRITE);
    const RO: Prot = Prot::USER.union(Prot::READ);
    const NOTHING: Prot = Prot::USER;

    #[test]
    fn permissions_come_back() {
        let pfn = Pfn(0x1234_5678);
        let kernel = [Prot::KERNEL_RW, Prot::KERNEL_RO, Prot::KERNEL_RX, Prot::KERNEL_DEVICE];
        for prot in [RW, RO, RO.union(Prot::EXEC), RW.union(Prot::EXEC), NOTHING].into_iter().chain(kernel) {
            for level in 0..3 {
                let pte = Pte::leaf(pfn, prot, level);
                assert_eq!(pte.prot(), prot);
                assert_eq!(pte.pfn(), pfn);
                assert!(
                    pte.is_present()
                        && pte.is_leaf(level)
                        && pte.is_accessed()
                        && pte.as_software().is_none()
                );
                assert_eq!(pte.is_prot_none(), prot == NOTHING);
            }
        }
        // Users never get at kernel mappings, the kernel never executes user memory.
        assert_eq!(Pte::leaf(pfn, Prot::KERNEL_RX, 0).0 & (USER | UXN | PXN), UXN);
        assert_eq!(Pte::leaf(pfn, RO.union(Prot::EXEC), 0).0 & (USER | UXN | PXN), USER | PXN);
        let table = Pte::table(PhysAddr(0x5000), true);
        assert!(table.is_present() && !table.is_leaf(1) && table.pfn() == Pfn(5));
    }

    #[test]
    fn guarded_by_userfaultfd() {
        let pte = Pte::leaf(Pfn(7), RW, 0).with_dirty(true).with_uffd_wp(true);
        assert!(pte.is_uffd_wp() && !pte.is_writable() && pte.is_dirty());
        assert!(pte.with_prot(NOTHING).with_prot(RO).is_uffd_wp());
        assert!(!pte.with_uffd_wp(false).is_writable() && !pte.with_uffd_wp(false).is_uffd_wp());
        assert!(!Pte::software(3, u64::MAX).is_uffd_wp());
    }

    /// What the hardware does on a write: allowed if AP[2] is clear, or by clearing it if DBM is set.
    fn hardware_write(pte: Pte) -> Option<Pte> {
        let writable = pte.0 & VALID != 0 && (pte.0 & RDONLY == 0 || pte.0 & WRITE != 0);
        writable.then_some(Pte(if pte.0 & WRITE != 0 { pte.0 & !RDONLY } else { pte.0 }))
    }

    #[test]
    fn dirty_survives_all_changes() {
        let clean = Pte::leaf(Pfn(9), RW, 0);
        assert!(!clean.is_dirty() && clean.is_writable());
        for dirty in [clean.with_dirty(true), hardware_write(clean).unwrap()] {
            assert!(dirty.is_dirty() && dirty.0 & RDONLY == 0);
            let protected = dirty.with_writable(false);
            assert!(protected.is_dirty() && !protected.is_writable() && hardware_write(protected).is_none());
            let again = protected.with_writable(true);
            assert!(again.is_dirty() && again.0 & RDONLY == 0);
            assert!(dirty.with_prot(RO).is_dirty() && dirty.with_prot(RO).with_prot(RW).is_dirty());
            assert!(
                dirty.with_prot(NOTHING).is_dirty() && hardware_write(dirty.with_prot(NOTHING)).is_none()
            );
            assert!(dirty.with_accessed(false).with_special(true).is_dirty());
            let washed = dirty.with_dirty(false);
            assert!(!washed.is_dirty() && washed.is_writable() && washed.0 & RDONLY != 0);
        }
        assert!(!clean.with_writable(false).with_writable(true).is_dirty());
        assert!(!clean.with_prot(RO).is_dirty() && hardware_write(clean.with_prot(RO)).is_none());
    }

    #[test]
    fn software_entries() {
        for (kind, payload) in [(0, 0), (31, SOFT_PAYLOAD), (7, 0x2_1234_5678_9abc)] {
            let pte = Pte::software(kind, payload);
            assert!(!pte.is_none() && !pte.is_present() && pte.0 & VALID == 0);
            assert_eq!(pte.as_software(), Some((kind, payload)));
        }
        assert_eq!(Pte::NONE.as_software(), None);
    }
}
