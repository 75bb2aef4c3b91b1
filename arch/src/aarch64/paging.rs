//! Page table entries (VMSAv8-64, 4 KiB granule, four levels), and the kernel's own tables.
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

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::addr::{Pfn, PhysAddr, VirtAddr, phys_to_virt, virt_to_phys};
use crate::paging::{ENTRIES, Level, OutOfTables, Prot, index, level_size};
use crate::sync::SpinLock;

/// Levels of the table; the root is level `LEVELS - 1`.
pub const LEVELS: usize = 4;

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

    /// With other permissions; frame, dirty, accessed and special marks stay.
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

/// An entry in a live table.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PteCell(AtomicU64);

impl PteCell {
    /// Reads.
    #[inline]
    pub fn load(&self) -> Pte {
        Pte(self.0.load(Ordering::Acquire))
    }

    /// Writes an entry that was none, or under the table's lock one that no CPU can change meanwhile. Makes it visible
    /// to the walker as the architecture demands: for user entries the order of stores suffices (a CPU that does not
    /// see it yet faults once more); kernel entries are used without a fault handler, so [`map_kernel`] adds barriers.
    #[inline]
    pub fn store(&self, pte: Pte) {
        self.0.store(pte.0, Ordering::Release);
    }

    /// Takes the entry out and leaves `pte`: the hardware's last dirty and accessed marks are in what comes back.
    #[inline]
    pub fn swap(&self, pte: Pte) -> Pte {
        Pte(self.0.swap(pte.0, Ordering::AcqRel))
    }

    /// Replaces `old` by `new` if nothing (also no hardware mark) changed.
    #[inline]
    pub fn compare_exchange(&self, old: Pte, new: Pte) -> Result<Pte, Pte> {
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).map(Pte).map_err(Pte)
    }
}

unsafe extern "C" {
    static arch_kernel_root: [PteCell; ENTRIES];
    static arch_reserved_root: [PteCell; ENTRIES];
}

/// The kernel's own root table (TTBR1).
pub fn kernel_root() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const arch_kernel_root).addr()))
}

/// An empty user half, for CPUs without an address space.
pub(super) fn reserved_root() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const arch_reserved_root).addr()))
}

/// Fills a zeroed root table for a new user address space: nothing to do, the kernel's half hangs at TTBR1.
///
/// # Safety
/// `root` is a page of its own, zeroed.
pub unsafe fn init_user_root(_root: PhysAddr) {}

static TABLE_ALLOCATOR: AtomicUsize = AtomicUsize::new(0);
/// A frame that lost the race to become a table; 0: none.
static SPARE: AtomicU64 = AtomicU64::new(0);
/// Orders changes of the kernel's tables.
static KERNEL_TABLES: SpinLock<()> = SpinLock::new(());

/// Gives the source of zeroed frames for the kernel's tables (first memblock, later the page allocator).
pub fn set_table_allocator(alloc: fn() -> Option<PhysAddr>) {
    TABLE_ALLOCATOR.store(alloc as usize, Ordering::Release);
}

fn allocate_table() -> Option<PhysAddr> {
    let spare = SPARE.swap(0, Ordering::Acquire);
    if spare != 0 {
        return Some(PhysAddr(spare));
    }
    let alloc = TABLE_ALLOCATOR.load(Ordering::Acquire);
    if alloc == 0 {
        return None;
    }
    // SAFETY: only `set_table_allocator` stores here, a function of this type.
    let alloc = unsafe { core::mem::transmute::<usize, fn() -> Option<PhysAddr>>(alloc) };
    alloc()
}

fn keep_spare(table: PhysAddr) {
    // A frame that finds the place taken is lost: it took two lost races at once.
    let _ = SPARE.compare_exchange(0, table.0, Ordering::Release, Ordering::Relaxed);
}

/// Maps `len` bytes of kernel address space, in blocks where alignment allows.
///
/// # Safety
/// Nothing else lives in that range, and the memory may be accessed as `prot` says.
pub unsafe fn map_kernel(va: usize, pa: PhysAddr, len: usize, prot: Prot) -> Result<(), OutOfTables> {
    let mut done = 0;
    let mut spare = None;
    while done < len {
        let guard = KERNEL_TABLES.lock();
        let mut access = |pa: PhysAddr| phys_to_virt(pa).cast::<PteCell>().cast_const();
        // SAFETY: the kernel's root; its tables are reachable through the direct map (or the image) and, under the
        // lock, change only here. The caller vouches for the range.
        let result = unsafe {
            map_step(&raw const arch_kernel_root, va, pa, len, done, prot, &mut || spare.take(), &mut access)
        };
        drop(guard);
        match result {
            Ok(step) => done += step,
            // Allocate with the lock open, and try again.
            Err(OutOfTables) => spare = Some(allocate_table().ok_or(OutOfTables)?),
        }
    }
    if let Some(table) = spare {
        keep_spare(table);
    }
    super::sysreg::dsb_ishst();
    super::sysreg::isb();
    Ok(())
}

/// Writes the entry that maps `va + done` as large as possible, making tables from `alloc` on the way; returns the bytes
/// mapped. Generic, so that it makes no calls through pointers: boot code runs it before relocation is effective.
///
/// # Safety
/// `root` is a root table, `access` gives addresses at which tables can be read and written, `alloc` gives zeroed
/// frames, and nobody else changes the tables meanwhile.
#[allow(clippy::too_many_arguments, reason = "the walk of boot code and kernel in one place")]
pub unsafe fn map_step(
    root: *const [PteCell; ENTRIES],
    va: usize,
    pa: PhysAddr,
    len: usize,
    done: usize,
    prot: Prot,
    alloc: &mut impl FnMut() -> Option<PhysAddr>,
    access: &mut impl FnMut(PhysAddr) -> *const PteCell,
) -> Result<usize, OutOfTables> {
    let (va, pa, left) = (va + done, pa + done as u64, len - done);
    let mut table = root.cast::<PteCell>();
    let mut level = LEVELS as Level - 1;
    loop {
        // SAFETY: the index is below `ENTRIES`; `table` is a table as promised.
        let cell = unsafe { &*table.add(index(level, va)) };
        let entry = cell.load();
        let size = level_size(level);
        let fits =
            level < 3 && left >= size && va.is_multiple_of(size) && (pa.0 as usize).is_multiple_of(size);
        if level == 0 || fits && !(entry.is_present() && !entry.is_leaf(level)) {
            cell.store(Pte::leaf(pa.pfn(), prot, level));
            return Ok(size);
        }
        let next = if entry.is_present() {
            debug_assert!(!entry.is_leaf(level));
            entry.pfn().addr()
        } else {
            let new = alloc().ok_or(OutOfTables)?;
            cell.store(Pte::table(new, false));
            new
        };
        table = access(next);
        level -= 1;
    }
}

/// Unmaps kernel address space (4 KiB mappings); the caller flushes with [`crate::tlb::flush_kernel`].
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap_kernel(va: usize, len: usize, mut f: impl FnMut(Pfn)) {
    for va in (va..va + len).step_by(level_size(0)) {
        let guard = KERNEL_TABLES.lock();
        let entry = walk_kernel(va).map_or(Pte::NONE, |cell| cell.swap(Pte::NONE));
        drop(guard);
        if entry.is_present() {
            f(entry.pfn());
        }
    }
}

/// The level-0 entry of a kernel address, if there are tables down to it.
fn walk_kernel(va: usize) -> Option<&'static PteCell> {
    let mut table = (&raw const arch_kernel_root).cast::<PteCell>();
    for level in (1..LEVELS as Level).rev() {
        // SAFETY: the index is below `ENTRIES`; kernel tables are never freed.
        let entry = unsafe { &*table.add(index(level, va)) }.load();
        if !entry.is_present() || entry.is_leaf(level) {
            return None;
        }
        table = phys_to_virt(entry.pfn().addr()).cast::<PteCell>();
    }
    // SAFETY: as above.
    Some(unsafe { &*table.add(index(0, va)) })
}

/// Makes instructions written to a page of RAM visible to instruction fetches of all CPUs: before a user mapping of it
/// becomes executable. `va` is the kernel's address of the memory.
pub fn sync_instructions(va: usize, len: usize) {
    let ctr = super::sysreg::read_sysreg!("ctr_el0");
    let (idc, dic) = (ctr & 1 << 28 != 0, ctr & 1 << 29 != 0);
    if !idc {
        let line = 4usize << (ctr >> 16 & 0xf);
        for at in (va & !(line - 1)..va + len).step_by(line) {
            // SAFETY: cleans a line of mapped memory to the point of unification; contents do not change.
            unsafe { core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
        }
    }
    super::sysreg::dsb_ish();
    if !dic {
        // SAFETY: invalidating instruction caches loses nothing.
        unsafe { core::arch::asm!("ic ialluis", "dsb ish", options(nostack, preserves_flags)) };
    }
    super::sysreg::isb();
}
