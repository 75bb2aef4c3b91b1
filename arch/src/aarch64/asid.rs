//! Address space identities and the switch between address spaces.
//!
//! An address space gets an ASID of 8 or 16 bits when it first runs. When they run out, a new *generation* begins: every
//! CPU keeps the ASID it is running with, all others are free again, and each CPU flushes its TLB before it uses one of
//! the new generation. `id` of an address space holds generation and ASID together, so the switch needs no lock as long
//! as the generation is current: it publishes the ASID in `ACTIVE` by compare-exchange, and a rollover, which takes
//! `ACTIVE` of all CPUs by exchange with 0, makes that fail.
//!
//! TTBR0 carries the ASID, so root and identity change in one write. A CPU that goes on to a kernel thread leaves TTBR0
//! as it is; [`forget`] clears it where a dying address space is still loaded.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::asid_alloc::{AsidAllocator, Claim};
use super::sysreg::read_sysreg;
use super::{paging, tlb};
use crate::addr::PhysAddr;
use crate::cpu::{self, CpuId, CpuMask, MAX_CPUS};
use crate::sync::SpinLockIrq;

/// What the processor knows of an address space: its page table root, its TLB identity and who runs it.
pub struct MmContext {
    root: PhysAddr,
    /// Generation above the ASID; 0: never ran.
    id: AtomicU64,
}

crate::per_cpu! {
    /// Generation and ASID that this CPU runs with; 0 after a rollover that it has not noticed.
    static ACTIVE: AtomicU64 = AtomicU64::new(0);
    /// The root in TTBR0; 0: none.
    static LOADED: AtomicU64 = AtomicU64::new(0);
}

static ALLOCATOR: SpinLockIrq<AsidAllocator> = SpinLockIrq::new(AsidAllocator::new());
/// The current generation, readable without the lock.
static GENERATION: AtomicU64 = AtomicU64::new(AsidAllocator::FIRST_GENERATION);

impl MmContext {
    /// For a root table made by [`crate::paging::init_user_root`].
    pub fn new(root: PhysAddr) -> Self {
        Self { root, id: AtomicU64::new(0) }
    }

    /// The root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// CPUs whose TLB may hold translations of it: invalidation is broadcast, so nobody keeps count.
    pub fn cpumask(&self) -> CpuMask {
        if self.asid().is_some() { cpu::online() } else { CpuMask::EMPTY }
    }

    /// Its ASID; `None` if it never ran. One of an old generation is as good: no TLB holds entries under it by the time
    /// it is used by another, and forgetting those of another is harmless.
    #[inline]
    pub(super) fn asid(&self) -> Option<u64> {
        match self.id.load(Ordering::Relaxed) {
            0 => None,
            id => Some(id & AsidAllocator::ASID_MASK),
        }
    }
}

/// Whether the CPU has 16-bit ASIDs.
pub(super) fn init() {
    let bits = if read_sysreg!("id_aa64mmfr0_el1") >> 4 & 0xf == 2 { 16 } else { 8 };
    ALLOCATOR.lock().set_bits(bits);
}

/// Switches this CPU to `next`; interrupts off.
///
/// # Safety
/// The tables of `next` map the kernel, and stay alive until this CPU switches away *and* `forget` was called.
pub unsafe fn switch_mm(next: &MmContext) {
    // SAFETY: interrupts are off: these are this CPU's, and atomic.
    let (active, loaded) = unsafe { (&*ACTIVE.current_raw(), &*LOADED.current_raw()) };
    let mut id = next.id.load(Ordering::Relaxed);
    let old = active.load(Ordering::Relaxed);
    let current = (id ^ GENERATION.load(Ordering::Acquire)) >> AsidAllocator::ASID_BITS == 0;
    if current && old == id && loaded.load(Ordering::Relaxed) == next.root.0 {
        return;
    }
    if old == 0 || !current || active.compare_exchange(old, id, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        id = allocate(next, active);
    }
    loaded.store(next.root.0, Ordering::Relaxed);
    // SAFETY: the caller vouches for the tables; the kernel's half is unaffected.
    unsafe { load(next.root, id & AsidAllocator::ASID_MASK) };
}

#[cold]
fn allocate(next: &MmContext, active: &AtomicU64) -> u64 {
    let this = cpu::current();
    let mut allocator = ALLOCATOR.lock();
    let Claim { id, rolled_over } = allocator.claim(next.id.load(Ordering::Relaxed), |cpu| {
        if cpu.index() >= MAX_CPUS { 0 } else { ACTIVE.on(cpu).swap(0, Ordering::AcqRel) }
    });
    next.id.store(id, Ordering::Relaxed);
    if rolled_over {
        GENERATION.store(id & !AsidAllocator::ASID_MASK, Ordering::Release);
    }
    if allocator.take_flush(this) {
        tlb::flush_all_local();
    }
    active.store(id, Ordering::Release);
    id
}

/// # Safety
/// `root` is a user root table that stays alive while loaded.
unsafe fn load(root: PhysAddr, asid: u64) {
    let ttbr = root.0 | asid << 48;
    // SAFETY: as the caller promises.
    unsafe { asm!("msr ttbr0_el1, {}", "isb", in(reg) ttbr, options(nostack, preserves_flags)) };
}

/// This CPU goes on with the tables of the last user space but runs a kernel thread.
#[inline]
pub fn enter_lazy() {}

/// The address space dies: no CPU may keep its tables loaded (lazy ones are kicked onto the kernel's own).
/// Interrupts on.
pub fn forget(mm: &MmContext) {
    let mut holders = CpuMask::EMPTY;
    for cpu in cpu::online().iter() {
        if LOADED.on(cpu).load(Ordering::Acquire) == mm.root.0 {
            holders.set(cpu);
        }
    }
    if !holders.is_empty() {
        crate::smp::call_on(holders, drop_root, mm.root.0 as usize);
    }
    if mm.asid().is_some() {
        tlb::flush_mm(mm);
    }
}

/// Interrupts off.
fn drop_root(root: usize) {
    // SAFETY: interrupts are off: this CPU's variable.
    let loaded = unsafe { &*LOADED.current_raw() };
    if loaded.load(Ordering::Relaxed) == root as u64 {
        unload();
    }
}

/// Puts the empty user half into TTBR0. Interrupts off.
pub(super) fn unload() {
    // SAFETY: interrupts are off: these are this CPU's; the reserved root is a static, empty table. ASID 0 is never
    // given to an address space.
    unsafe {
        (*LOADED.current_raw()).store(0, Ordering::Release);
        (*ACTIVE.current_raw()).store(0, Ordering::Release);
        load(paging::reserved_root(), 0);
    }
}

const _: () = assert!(size_of::<CpuId>() == 4);
