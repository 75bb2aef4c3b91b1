//! Protection keys of an address space: which are in use, and what a thread may reach with them. `pkeys(7)`.
//!
//! A key is a number in the flags of an area ([`VmFlags::key`]) and in the entries of its pages. What a thread may do with
//! it is a register of the thread ([`arch::pkey`]). The processor checks loads, stores and the kernel's copies of pages that are
//! present; [`denied`] is for those that are not yet, and for pages that the kernel reaches by other ways. Another process's
//! memory is reached without a check: the rights are of this process's threads and say nothing about it.

use crate::fault::{Access, Asker};
use crate::space::AddressSpace;
use crate::vma::VmFlags;
use abi::raw::PROT_EXEC;
use abi::{Errno, Result};
use arch::pkey::{DISABLE_ACCESS, KEYS, Key};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Which keys an address space uses. Changed with `mmap_lock` held exclusively.
pub(crate) struct Keys {
    /// A bit for each key that is allocated.
    allocated: AtomicU32,
    /// The key for areas that may only be executed; 0: none was needed yet.
    execute_only: AtomicU32,
}

impl Keys {
    /// Those of a new program: key 0, which all its areas have.
    pub(crate) fn new() -> Self {
        Self { allocated: AtomicU32::new(arch::pkey::before_any()), execute_only: AtomicU32::new(0) }
    }

    /// Takes those of `from` over: a child has its parent's areas.
    pub(crate) fn copy_from(&self, from: &Self) {
        self.allocated.store(from.allocated.load(Relaxed), Relaxed);
        self.execute_only.store(from.execute_only.load(Relaxed), Relaxed);
    }

    /// The lowest key from `least` on that is free.
    fn allocate(&self, least: Key) -> Option<Key> {
        let allocated = self.allocated.load(Relaxed);
        let key = (least..KEYS).find(|key| allocated >> key & 1 == 0)?;
        self.allocated.store(allocated | 1 << key, Relaxed);
        Some(key)
    }

    fn free(&self, key: Key) {
        self.allocated.fetch_and(!(1 << key), Relaxed);
    }

    /// The key that `number` names, if it is allocated and one that users know of.
    fn known(&self, number: i32) -> Option<Key> {
        let key = Key::try_from(number).ok().filter(|key| *key < KEYS)?;
        let hidden = key != 0 && u32::from(key) == self.execute_only.load(Relaxed);
        (self.allocated.load(Relaxed) >> key & 1 != 0 && !hidden).then_some(key)
    }

    /// The key for areas that may only be executed, closed for the running thread; `None` if all are taken.
    fn execute_only(&self) -> Option<Key> {
        if !arch::pkey::supported() {
            return None;
        }
        let key = match self.execute_only.load(Relaxed) {
            0 => self.allocate(1)?,
            key => key as Key,
        };
        self.execute_only.store(key.into(), Relaxed);
        let rights = arch::pkey::rights();
        if rights.allow(key, false) {
            arch::pkey::set_rights(rights.with(key, DISABLE_ACCESS));
        }
        Some(key)
    }

    /// The flags of a new area with protection `prot`.
    pub(crate) fn of_new_area(&self, prot: u32) -> VmFlags {
        let key = if prot == PROT_EXEC { self.execute_only() } else { None };
        VmFlags::empty().with_key(key.unwrap_or(0))
    }

    /// The key that an area with flags `old` has after `mprotect(2)` with `prot`, which names no key.
    pub(crate) fn after_protect(&self, old: VmFlags, prot: u32) -> Key {
        if prot == PROT_EXEC {
            self.execute_only().unwrap_or(old.key())
        } else if old & VmFlags::ACCESS == VmFlags::EXEC
            && u32::from(old.key()) == self.execute_only.load(Relaxed)
        {
            0
        } else {
            old.key()
        }
    }

    /// The key of `pkey_mprotect(2)`: `None` for -1.
    ///
    /// # Errors
    /// `EINVAL` if it is not allocated.
    pub(crate) fn named(&self, number: i32) -> Result<Option<Key>> {
        match number {
            -1 => Ok(None),
            number => self.known(number).map(Some).ok_or(Errno::EINVAL),
        }
    }
}

impl AddressSpace {
    /// `pkey_alloc(2)`: a key, and `restrictions` (`PKEY_DISABLE_ACCESS`, `PKEY_DISABLE_WRITE`) on it for the running thread,
    /// whose address space this is.
    ///
    /// # Errors
    /// `EINVAL` for other restrictions, `ENOSPC` if there is no key to be had.
    pub fn pkey_alloc(&self, restrictions: usize) -> Result<Key> {
        if restrictions & !(arch::pkey::RESTRICTIONS as usize) != 0 {
            return Err(Errno::EINVAL);
        }
        if !arch::pkey::supported() {
            return Err(Errno::ENOSPC);
        }
        let _areas = self.areas().write();
        let key = self.keys().allocate(0).ok_or(Errno::ENOSPC)?;
        arch::pkey::set_rights(arch::pkey::rights().with(key, restrictions as u32));
        Ok(key)
    }

    /// `pkey_free(2)`. Areas that have the key keep it.
    ///
    /// # Errors
    /// `EINVAL` if it is not allocated.
    pub fn pkey_free(&self, number: i32) -> Result<()> {
        let _areas = self.areas().write();
        let key = self.keys().known(number).ok_or(Errno::EINVAL)?;
        self.keys().free(key);
        Ok(())
    }

    /// The key of the area at `addr`.
    pub fn key_at(&self, addr: usize) -> Option<Key> {
        self.areas().read().get(addr).map(|entry| entry.value.flags().key())
    }
}

/// Whether the running thread's rights forbid the access to a page of an area of its own address space.
#[inline]
pub(crate) fn denied(flags: VmFlags, access: Access, asker: Asker) -> bool {
    let asked = match asker {
        // Key 0 is left to the processor: the page is brought in, and the access fails when it is tried again.
        Asker::User => flags.intersects(VmFlags::KEY),
        Asker::Cpu | Asker::Exiting => true,
        Asker::Remote | Asker::Force => false,
    };
    asked && access != Access::Exec && !arch::pkey::rights().allow(flags.key(), access == Access::Write)
}
