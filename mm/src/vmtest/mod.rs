//! Tests of virtual memory on the host: a processor that walks the page tables by hand, and models.

mod calls;
mod files;
mod model;
mod pressure;
mod threads;
mod uffd;

use crate::fault::{Access, Asker, FaultError};
use crate::mmap::MmapRequest;
use crate::space::{AddressSpace, Limits};
use abi::raw::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED};
use arch::addr::{PAGE_SIZE, phys_to_virt};
use arch::paging::Prot;
use std::sync::Arc;

/// A new address space with everything below it ready.
pub fn space() -> Arc<AddressSpace> {
    crate::testing::init();
    crate::init_virtual();
    AddressSpace::new().unwrap()
}

/// Accesses as the processor makes them: through the page tables, faulting as needed.
pub fn access(space: &AddressSpace, addr: usize, how: Access) -> Result<*mut u8, FaultError> {
    for _ in 0..4 {
        let page = addr & !(PAGE_SIZE - 1);
        if let Some(table) = space.pgd().table(page) {
            let table = table.lock();
            let cell = table.cell(page);
            let pte = cell.load();
            if pte.is_present() && !pte.is_prot_none() && pte.as_software().is_none() {
                let prot = pte.prot();
                let ok = match how {
                    Access::Read => prot.contains(Prot::READ),
                    Access::Write => pte.is_writable(),
                    Access::Exec => prot.contains(Prot::EXEC),
                };
                if ok {
                    let mut new = pte.with_accessed(true);
                    if how == Access::Write {
                        new = new.with_dirty(true);
                    }
                    cell.store(new);
                    return Ok(phys_to_virt(pte.pfn().addr()).wrapping_add(addr - page));
                }
            }
        }
        space.handle_fault(addr, how, Asker::Cpu, &|| Limits { stack: 8 << 20, ..Limits::NONE })?;
    }
    panic!("the fault at {addr:#x} does not make progress");
}

pub fn store(space: &AddressSpace, addr: usize, value: u64) -> Result<(), FaultError> {
    let ptr = access(space, addr, Access::Write)?;
    // SAFETY: a frame of the arena that the tables map writable.
    unsafe { ptr.cast::<u64>().write_unaligned(value) };
    Ok(())
}

pub fn load(space: &AddressSpace, addr: usize) -> Result<u64, FaultError> {
    let ptr = access(space, addr, Access::Read)?;
    // SAFETY: a frame of the arena that the tables map.
    Ok(unsafe { ptr.cast::<u64>().read_unaligned() })
}

pub fn map(space: &AddressSpace, addr: usize, pages: usize, prot: u32, flags: u32) -> abi::Result<usize> {
    space.mmap(&MmapRequest {
        addr,
        len: pages * PAGE_SIZE,
        prot,
        flags,
        file: None,
        offset: 0,
        limits: &Limits::NONE,
    })
}

pub fn map_fixed(space: &AddressSpace, addr: usize, pages: usize, prot: u32, shared: bool) {
    let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
    assert_eq!(map(space, addr, pages, prot, MAP_ANONYMOUS | MAP_FIXED | kind), Ok(addr));
}

/// Gives user copies of this thread the memory of `space`.
pub struct UserView(pub Arc<AddressSpace>);

impl arch::uaccess::UserMemory for UserView {
    fn read(&self, addr: usize, dst: &mut [u8]) -> usize {
        let mut done = 0;
        while done < dst.len() {
            let Ok(ptr) = self.touch(addr + done, Access::Read) else { break };
            // SAFETY: a frame of the arena that the tables map.
            dst[done] = unsafe { ptr.read() };
            done += 1;
        }
        done
    }
    fn write(&self, addr: usize, src: &[u8]) -> usize {
        let mut done = 0;
        while done < src.len() {
            let Ok(ptr) = self.touch(addr + done, Access::Write) else { break };
            // SAFETY: a frame of the arena that the tables map writable.
            unsafe { ptr.write(src[done]) };
            done += 1;
        }
        done
    }
    fn cmpxchg(&self, _addr: usize, _old: u32, _new: u32) -> Option<u32> {
        None
    }
}

impl UserView {
    fn touch(&self, addr: usize, how: Access) -> Result<*mut u8, FaultError> {
        if arch::uaccess::faults_disabled() {
            let page = addr & !(PAGE_SIZE - 1);
            let pte = self.0.pgd().table(page).map(|t| t.peek(page)).filter(|p| p.is_present());
            let pte = pte.filter(|p| how == Access::Read || p.is_writable());
            let pte = pte.ok_or(FaultError::NotMapped)?;
            return Ok(phys_to_virt(pte.pfn().addr()).wrapping_add(addr - page));
        }
        access(&self.0, addr, how)
    }
}

/// Tests that look at global numbers, or fill memory, run one at a time.
pub fn serial() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}
