//! Address space identities and the switch between address spaces.
//!
//! Every address space has an identity that is never used again and a generation that each flush advances. A CPU notes
//! for each space it knows (with PCIDs: the last [`SLOTS`]; without: one) up to which generation its TLB is clean, and
//! flushes when it comes back to a space whose generation has moved on. That makes two things cheap: a CPU that only
//! *borrows* the tables (kernel threads: lazy) need not be interrupted for a flush, and a switch back finds its TLB entries.
//!
//! Ordering: [`switch_mm`] puts the CPU into the space's mask before it reads the generation; a flush advances the
//! generation before it reads the mask; both are sequentially consistent, so one of the two sees the other.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::ldt::{self, Ldt};
use super::{features, insn, paging};
use crate::addr::PhysAddr;
use crate::cpu::{self, AtomicCpuMask, CpuId, CpuMask};
use crate::irq::IrqGuard;
use crate::preempt::PreemptOff;

/// Address spaces whose TLB entries a CPU keeps apart (with PCIDs). PCID 0 belongs to the kernel's own tables.
const SLOTS: usize = 6;
/// In CR3: keep the entries of that PCID.
const CR3_KEEP: u64 = 1 << 63;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What the processor knows of an address space: its page table root, its TLB identity and who runs it.
pub struct MmContext {
    root: PhysAddr,
    id: u64,
    pub(super) generation: AtomicU64,
    pub(super) cpus: AtomicCpuMask,
    pub(super) ldt: Ldt,
}

impl MmContext {
    /// For a root table made by [`crate::paging::init_user_root`].
    pub fn new(root: PhysAddr) -> Self {
        Self {
            root,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(1),
            cpus: AtomicCpuMask::new(CpuMask::EMPTY),
            ldt: Ldt::new(),
        }
    }

    /// The root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// CPUs whose TLB may hold translations of it (among those that have it loaded).
    pub fn cpumask(&self) -> CpuMask {
        self.cpus.load(Ordering::SeqCst)
    }
}

/// A space whose entries this CPU's TLB may hold, and up to which generation they are clean.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) generation: u64,
}

/// What a CPU has loaded. Only that CPU touches it, with interrupts off.
pub(super) struct Loaded {
    /// The space, null for the kernel's own tables.
    pub(super) mm: *const MmContext,
    /// Its slot.
    pub(super) slot: usize,
    pub(super) slots: [Slot; SLOTS],
    next: usize,
    /// The local descriptor table that the processor uses.
    pub(super) ldt: *const ldt::Table,
}

crate::per_cpu! {
    static LOADED: UnsafeCell<Loaded> = UnsafeCell::new(Loaded {
        mm: core::ptr::null(), slot: 0, slots: [Slot { id: 0, generation: 0 }; SLOTS], next: 0,
        ldt: core::ptr::null(),
    });
    /// This CPU runs a kernel thread on borrowed tables. Others read it.
    static LAZY: AtomicBool = AtomicBool::new(false);
}

/// Whether a CPU only borrows the tables it has loaded.
pub(super) fn is_lazy(cpu: CpuId) -> bool {
    LAZY.on(cpu).load(Ordering::SeqCst)
}

/// # Safety
/// Interrupts stay off while the reference lives, and there is only one.
#[allow(clippy::mut_from_ref, reason = "the variable is this CPU's own; the guard only says so")]
pub(super) unsafe fn loaded<G: PreemptOff>(guard: &G) -> &mut Loaded {
    // SAFETY: this CPU's own; the caller's promise makes it exclusive.
    unsafe { &mut *LOADED.get(guard).get() }
}

fn cr3(root: PhysAddr, slot: usize, keep: bool) -> u64 {
    if !features::has_pcid() {
        return root.0;
    }
    root.0 | (slot as u64 + 1) | if keep { CR3_KEEP } else { 0 }
}

/// Switches this CPU to `next`; interrupts off.
///
/// # Safety
/// The tables of `next` map the kernel, and stay alive until this CPU switches away *and* `forget` was called.
pub unsafe fn switch_mm(next: &MmContext) {
    let guard = IrqGuard::new();
    let me = cpu::current();
    // SAFETY: interrupts are off.
    let loaded = unsafe { loaded(&guard) };
    let lazy = LAZY.get(&guard);
    if core::ptr::eq(loaded.mm, next) {
        if lazy.load(Ordering::Relaxed) {
            lazy.store(false, Ordering::SeqCst);
            let generation = next.generation.load(Ordering::SeqCst);
            if loaded.slots[loaded.slot].generation != generation {
                // SAFETY: the same tables, entries dropped.
                unsafe { insn::write_cr3(cr3(next.root, loaded.slot, false)) };
                loaded.slots[loaded.slot].generation = generation;
            }
        }
        return;
    }
    // SAFETY: a loaded space is alive: `forget` comes before its end.
    if let Some(prev) = unsafe { loaded.mm.as_ref() } {
        prev.cpus.clear(me, Ordering::SeqCst);
    }
    next.cpus.set(me, Ordering::SeqCst);
    let generation = next.generation.load(Ordering::SeqCst);
    let (slot, keep) = if features::has_pcid() {
        match loaded.slots.iter().position(|s| s.id == next.id) {
            Some(slot) => (slot, loaded.slots[slot].generation == generation),
            None => {
                loaded.next = (loaded.next + 1) % SLOTS;
                (loaded.next, false)
            }
        }
    } else {
        (0, false)
    };
    loaded.mm = next;
    loaded.slot = slot;
    loaded.slots[slot] = Slot { id: next.id, generation };
    lazy.store(false, Ordering::SeqCst);
    // SAFETY: the caller's promise about the tables.
    unsafe { insn::write_cr3(cr3(next.root, slot, keep)) };
    // Read after this CPU is in the mask: see `ldt`.
    ldt::load(loaded, next.ldt.get());
}

/// This CPU goes on with the tables of the last user space but runs a kernel thread: it need not be interrupted for
/// flushes as long as it does.
pub fn enter_lazy() {
    let guard = IrqGuard::new();
    LAZY.get(&guard).store(true, Ordering::SeqCst);
}

/// Goes over to the kernel's own tables if `mm` is loaded here.
fn leave(mm: *const MmContext) {
    let guard = IrqGuard::new();
    // SAFETY: interrupts are off.
    let loaded = unsafe { loaded(&guard) };
    if !core::ptr::eq(loaded.mm, mm) {
        return;
    }
    // SAFETY: still alive: `forget` waits for us.
    unsafe { (*mm).cpus.clear(cpu::current(), Ordering::SeqCst) };
    loaded.mm = core::ptr::null();
    ldt::load(loaded, core::ptr::null());
    // SAFETY: the kernel's tables map the kernel.
    unsafe { insn::write_cr3(paging::kernel_root().0) };
}

/// The address space dies: no CPU may keep its tables loaded (lazy ones are kicked onto the kernel's own).
/// Interrupts on.
pub fn forget(mm: &MmContext) {
    leave(mm);
    let others = mm.cpumask();
    if !others.is_empty() {
        super::smp::call_on(
            others,
            |mm| leave(core::ptr::with_exposed_provenance(mm)),
            core::ptr::from_ref(mm).expose_provenance(),
        );
    }
}
