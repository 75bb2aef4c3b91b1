//! Local descriptor tables: modify_ldt(2).
//!
//! A table belongs to an address space ([`MmContext`]), like its page tables, and the switch between spaces loads it. It is never
//! changed: a change is a copy, which takes the old one's place; every CPU that has the space loaded is made to load the new
//! table before the old one is freed.
//!
//! The descriptors are the program's: whatever a selector of them leads to must end in the program. The kernel looks at a selector
//! before it loads it ([`loadable`]); `iret` may fail, which becomes the program's fault
//! ([`super::exception::bad_iret`]). There are no segments of 16 bits: see [`UserDesc::descriptor`].

use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

use abi::Errno;

use super::asid::{self, MmContext};
use super::desc;
use super::segment::{self, ENTRIES, TABLE_LOCAL, USER_DESC_SIZE, UserDesc};
use super::smp;
use super::thread::Selectors;
use crate::irq::IrqGuard;
use crate::sync::SpinLock;

/// Bytes that reading the default table gives, all zero.
pub const DEFAULT_LEN: usize = 128;
/// Most bytes of a table.
pub const MAX_LEN: usize = ENTRIES as usize * 8;

/// A table; at least one descriptor.
pub(super) struct Table(Vec<u64>);

impl Table {
    /// One with room for `len` descriptors.
    fn with_room(len: usize) -> Result<alloc::boxed::Box<Self>, Errno> {
        let mut entries = Vec::new();
        entries.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        // The box itself, without a way to panic: a vector of one.
        let mut one: Vec<Self> = Vec::new();
        one.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        one.push(Self(entries));
        let slice = alloc::boxed::Box::into_raw(one.into_boxed_slice());
        // SAFETY: a slice of one element has the element's layout.
        Ok(unsafe { alloc::boxed::Box::from_raw(slice.cast::<Self>()) })
    }
}

/// The table of an address space.
pub(super) struct Ldt {
    table: AtomicPtr<Table>,
    /// One change at a time, and no reader sees a table go.
    changing: SpinLock<()>,
}

impl Ldt {
    pub(super) fn new() -> Self {
        Self { table: AtomicPtr::new(core::ptr::null_mut()), changing: SpinLock::new(()) }
    }

    /// The table; null for none. It stays while the caller's CPU has the space loaded and interrupts off.
    pub(super) fn get(&self) -> *const Table {
        self.table.load(Ordering::SeqCst)
    }
}

impl Drop for Ldt {
    fn drop(&mut self) {
        free(*self.table.get_mut());
    }
}

fn free(table: *mut Table) {
    if !table.is_null() {
        // SAFETY: made by `Box::into_raw`, and no CPU has it any more.
        drop(unsafe { alloc::boxed::Box::from_raw(table) });
    }
}

/// Copies the table, as far as `out` reaches; how many bytes it was.
pub fn read(mm: &MmContext, out: &mut [u8]) -> usize {
    let _changing = mm.ldt.changing.lock();
    // SAFETY: not freed while the lock is held.
    let Some(table) = (unsafe { mm.ldt.get().as_ref() }) else { return 0 };
    let mut count = 0;
    for (to, entry) in out.chunks_exact_mut(8).zip(&table.0) {
        to.copy_from_slice(&entry.to_le_bytes());
        count += 8;
    }
    count
}

/// Changes a descriptor of the running program's table, as `struct user_desc` in `data` says. `old`: function 1.
///
/// # Errors
/// `EINVAL`: there is no such entry, or a program may not have such a segment. `ENOMEM`.
pub fn write(mm: &MmContext, data: &[u8; USER_DESC_SIZE], old: bool) -> Result<(), Errno> {
    let wanted = UserDesc::new(data);
    if wanted.entry >= ENTRIES {
        return Err(Errno::EINVAL);
    }
    let descriptor = wanted.descriptor(old).ok_or(Errno::EINVAL)?;
    let index = wanted.entry as usize;
    replace(mm, mm, index + 1, |entries| {
        if let Some(entry) = entries.get_mut(index) {
            *entry = descriptor;
        }
    })
}

/// Gives the new space `to`, which no CPU has loaded, the table of `from`.
///
/// # Errors
/// `ENOMEM`.
pub fn copy(from: &MmContext, to: &MmContext) -> Result<(), Errno> {
    if from.ldt.get().is_null() {
        return Ok(());
    }
    replace(from, to, 0, |_| ())
}

/// Gives `to` a table like that of `from`, of at least `len` descriptors, changed by `change`.
fn replace(
    from: &MmContext,
    to: &MmContext,
    len: usize,
    change: impl FnOnce(&mut [u64]),
) -> Result<(), Errno> {
    let len_of = |mm: &MmContext| {
        // SAFETY: not freed while the lock is held, by the callers below.
        unsafe { mm.ldt.get().as_ref() }.map_or(0, |table| table.0.len())
    };
    loop {
        let size = {
            let _changing = from.ldt.changing.lock();
            len_of(from).max(len)
        };
        let mut table = Table::with_room(size)?;
        let changing = from.ldt.changing.lock();
        if len_of(from).max(len) > size {
            // Another thread was faster, and needs more.
            continue;
        }
        // SAFETY: as in `len_of`.
        if let Some(old) = unsafe { from.ldt.get().as_ref() } {
            table.0.extend_from_slice(&old.0);
        }
        table.0.resize(size, 0);
        change(&mut table.0);
        let old = to.ldt.table.swap(alloc::boxed::Box::into_raw(table), Ordering::SeqCst);
        drop(changing);
        // Whoever loads the space from here on finds the new one. The others have marked themselves before they looked.
        reload(core::ptr::from_ref(to));
        let others = to.cpumask();
        if !others.is_empty() {
            let reload = |mm| reload(core::ptr::with_exposed_provenance(mm));
            smp::call_on(others, reload, core::ptr::from_ref(to).expose_provenance());
        }
        free(old);
        return Ok(());
    }
}

/// Loads the table of `mm` again, if this CPU has the space loaded.
fn reload(mm: *const MmContext) {
    let guard = IrqGuard::new();
    // SAFETY: interrupts are off.
    let loaded = unsafe { asid::loaded(&guard) };
    if !core::ptr::eq(loaded.mm, mm) {
        return;
    }
    // SAFETY: the caller has the space.
    load(loaded, unsafe { &*mm }.ldt.get());
    // Registers keep what they were loaded with; data segments are to be what the table now says.
    let selectors = Selectors::live();
    if selectors.any_local() {
        // SAFETY: interrupts are off.
        unsafe { selectors.load_data(table_of(loaded.ldt)) };
    }
}

/// Loads `table`, if it is not loaded. Interrupts off.
pub(super) fn load(loaded: &mut asid::Loaded, table: *const Table) {
    if loaded.ldt == table {
        return;
    }
    loaded.ldt = table;
    let entries = table_of(table);
    desc::set_ldt(entries.as_ptr().addr(), entries.len());
}

/// The descriptors of a table that this CPU has loaded.
fn table_of<'a>(table: *const Table) -> &'a [u64] {
    // SAFETY: who has it loaded and interrupts off keeps it (see the module text).
    unsafe { table.as_ref() }.map_or(&[], |table| table.0.as_slice())
}

/// The descriptors that this CPU has loaded.
///
/// # Safety
/// Interrupts stay off as long as they are used.
pub(super) unsafe fn current<'a>(guard: &IrqGuard) -> &'a [u64] {
    // SAFETY: the caller's promise.
    table_of(unsafe { asid::loaded(guard) }.ldt)
}

/// `selector` if a data segment register can be loaded with it without a fault, 0 otherwise.
pub(super) fn loadable(selector: u16, entries: &[u64]) -> u16 {
    let index = usize::from(selector >> 3);
    let good = match selector & TABLE_LOCAL {
        0 => desc::is_user_data(index),
        _ => entries.get(index).is_some_and(|entry| segment::is_loadable(*entry)),
    };
    if good { selector } else { 0 }
}
