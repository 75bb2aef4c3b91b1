//! Per-CPU variables.
//!
//! ```ignore
//! per_cpu! { static TICKS: AtomicU64 = AtomicU64::new(0); }
//! TICKS.get(&guard).fetch_add(1, Relaxed);      // this CPU's; `guard` proves that we stay here
//! TICKS.on(CpuId(3)).load(Relaxed);             // another CPU's
//! ```
//!
//! On bare metal a per-CPU static lies in the section `.data.percpu`, which serves as a template: [`init`] copies it
//! for each possible CPU, and a CPU's register (`gs` base, `TPIDR_EL1`) holds the distance from the template to its
//! copy. Before [`init`] the boot CPU runs on the template itself (distance 0) and must leave nothing there but a
//! balanced preemption count. On the host a per-CPU static is an array.
//!
//! Crates that forbid unsafe code (the macro expands to a link section) use [`PerCpuBox`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::cpu::{self, CpuId, MAX_CPUS};
use crate::preempt::PreemptOff;
use sync::CachePadded;

#[cfg(target_os = "none")]
pub use bare::{PerCpu, init, offset_of, template};
#[cfg(not(target_os = "none"))]
pub use hosted::PerCpu;

/// Declares per-CPU statics; the initial value must be a constant expression.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! per_cpu {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $ty:ty = $init:expr;)+) => {$(
        $(#[$meta])*
        #[unsafe(link_section = ".data.percpu")]
        $vis static $name: $crate::percpu::PerCpu<$ty> = {
            let init = $init;
            // SAFETY: placed in the per-CPU section by the attribute above.
            unsafe { $crate::percpu::PerCpu::new(init) }
        };
    )+};
}

/// Declares per-CPU statics; the initial value must be a constant expression.
#[cfg(not(target_os = "none"))]
#[macro_export]
macro_rules! per_cpu {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $ty:ty = $init:expr;)+) => {$(
        $(#[$meta])*
        $vis static $name: $crate::percpu::PerCpu<$ty> =
            $crate::percpu::PerCpu::new([const { $init }; $crate::cpu::MAX_CPUS]);
    )+};
}

#[cfg(target_os = "none")]
mod bare {
    use core::alloc::Layout;
    use core::cell::UnsafeCell;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// A variable of which each CPU has its own.
    #[repr(transparent)]
    pub struct PerCpu<T> {
        /// In a cell, so that the static is writable data whatever `T` is.
        template: UnsafeCell<T>,
    }

    // SAFETY: other CPUs reach a CPU's copy only by `on`, which asks for `T: Sync`; `get` without `Sync` hands out the
    // reference only while preemption is off on the owning CPU, to code that cannot send it (the guard is borrowed).
    unsafe impl<T> Sync for PerCpu<T> {}

    static OFFSETS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

    impl<T> PerCpu<T> {
        /// # Safety
        /// Only for statics in the section `.data.percpu`: use [`crate::per_cpu!`].
        pub const unsafe fn new(template: T) -> Self {
            Self { template: UnsafeCell::new(template) }
        }

        #[inline]
        fn at(&self, offset: usize) -> *const T {
            self.template.get().cast_const().wrapping_byte_add(offset)
        }

        /// This CPU's copy, for as long as the guard keeps us here. Interrupt handlers may see it too: use atomics or
        /// `Cell`s under an [`crate::irq::IrqGuard`].
        #[inline]
        pub fn get<'a, G: PreemptOff>(&'a self, _guard: &'a G) -> &'a T {
            // SAFETY: `offset` leads from the template to this CPU's copy, which was initialised by `init`.
            unsafe { &*self.at(crate::imp::percpu::offset()) }
        }

        /// The copy of a CPU.
        #[inline]
        pub fn on(&self, cpu: CpuId) -> &T
        where
            T: Sync,
        {
            // SAFETY: as for `get`; `T: Sync` allows the sharing. A CPU that is not possible has offset 0: the template.
            unsafe { &*self.at(OFFSETS[cpu.index()].load(Relaxed)) }
        }

        /// Address of this CPU's copy; the caller may be moved to another CPU at any moment.
        #[inline]
        pub fn current_raw(&self) -> *const T {
            self.at(crate::imp::percpu::offset())
        }
    }

    /// The template: all per-CPU statics of the kernel.
    pub fn template() -> (*const u8, usize) {
        unsafe extern "C" {
            static __percpu_start: u8;
            static __percpu_end: u8;
        }
        let (start, end) = (&raw const __percpu_start, &raw const __percpu_end);
        (start, end.addr() - start.addr())
    }

    /// Makes a copy for each possible CPU and moves the calling (boot) CPU onto its own. `alloc` gives memory that is
    /// never freed, near the CPU.
    ///
    /// # Safety
    /// Once, on the boot CPU, with interrupts off, before any other CPU runs.
    pub unsafe fn init(
        mut alloc: impl FnMut(CpuId, Layout) -> Option<NonNull<u8>>,
    ) -> Result<(), super::NoMemory> {
        let (start, len) = template();
        let layout = Layout::from_size_align(len.max(1), 4096).map_err(|_| super::NoMemory)?;
        for cpu in cpu::possible().iter() {
            let copy = alloc(cpu, layout).ok_or(super::NoMemory)?;
            // SAFETY: both are `len` bytes, and the template is not being written.
            unsafe { core::ptr::copy_nonoverlapping(start, copy.as_ptr(), len) };
            OFFSETS[cpu.index()].store(copy.as_ptr().addr().wrapping_sub(start.addr()), Relaxed);
        }
        // SAFETY: the copy was made above.
        unsafe { crate::imp::percpu::set_offset(offset_of(CpuId::BOOT)) };
        Ok(())
    }

    /// Distance from the template to a CPU's copy.
    pub fn offset_of(cpu: CpuId) -> usize {
        OFFSETS[cpu.index()].load(Relaxed)
    }
}

#[cfg(not(target_os = "none"))]
mod hosted {
    use super::*;

    /// A variable of which each CPU has its own.
    pub struct PerCpu<T> {
        copies: [T; MAX_CPUS],
    }

    // SAFETY: as on bare metal; a host thread keeps its CPU number to itself while a guard lives.
    unsafe impl<T> Sync for PerCpu<T> {}

    impl<T> PerCpu<T> {
        /// Used by [`crate::per_cpu!`].
        pub const fn new(copies: [T; MAX_CPUS]) -> Self {
            Self { copies }
        }

        /// This CPU's copy.
        pub fn get<'a, G: PreemptOff>(&'a self, _guard: &'a G) -> &'a T {
            &self.copies[cpu::current().index()]
        }

        /// The copy of a CPU.
        pub fn on(&self, cpu: CpuId) -> &T
        where
            T: Sync,
        {
            &self.copies[cpu.index()]
        }

        /// Address of this CPU's copy.
        pub fn current_raw(&self) -> *const T {
            &raw const self.copies[cpu::current().index()]
        }
    }
}

/// There was no memory for the per-CPU copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// One value per possible CPU, on the heap, each on cache lines of its own.
#[derive(Debug)]
pub struct PerCpuBox<T> {
    copies: Box<[CachePadded<T>]>,
}

impl<T: Sync> PerCpuBox<T> {
    /// Makes the values; `None` without memory.
    pub fn new(mut make: impl FnMut(CpuId) -> T) -> Option<Self> {
        let cpus = cpu::possible().iter().last().map_or(1, |c| c.index() + 1);
        let mut copies = Vec::new();
        copies.try_reserve_exact(cpus).ok()?;
        copies.extend((0..cpus as u32).map(|c| CachePadded::new(make(CpuId(c)))));
        Some(Self { copies: copies.into_boxed_slice() })
    }

    /// This CPU's value.
    #[inline]
    pub fn get<'a, G: PreemptOff>(&'a self, _guard: &'a G) -> &'a T {
        self.on(cpu::current())
    }

    /// The value of the CPU we happen to be on; for counters, where a move in between does no harm.
    #[inline]
    pub fn get_any(&self) -> &T {
        self.on(cpu::current())
    }

    /// The value of a CPU.
    #[inline]
    pub fn on(&self, cpu: CpuId) -> &T {
        &self.copies[cpu.index().min(self.copies.len() - 1)]
    }

    /// All values, by CPU.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.copies.iter().map(|c| &**c)
    }
}
