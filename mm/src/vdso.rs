//! The vDSO in an address space: `[vvar]`, the pages with the time data, directly below `[vdso]`, the code (`vdso(7)`).
//!
//! The pages are the kernel's and the same for all processes, except that a time namespace has a page of its own
//! ([`TimePage`]), which its processes have as the last of `[vvar]`. Both areas are made once; an address space only refers
//! to them.

use crate::gather::{Gather, Which};
use crate::shared::SharedRing;
use crate::space::{AddressSpace, Limits};
use crate::vma::{Backing, SpecialMapping, Vma};
use abi::Result;
use abi::raw::{PROT_EXEC, PROT_READ};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::{PAGE_SIZE, Pfn, VirtAddr, virt_to_phys};
use arch::vdso::VVAR_PAGES;
use sync::Once;

/// Data and code.
type Areas = [Arc<SpecialMapping>; 2];

static AREAS: Once<Areas> = Once::new();

#[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "once, for the first program")]
fn areas() -> &'static Areas {
    AREAS.call_once(|| {
        let data = arch::vdso::vvar_page().pfn();
        let image = arch::vdso::image();
        let code = image.chunks(PAGE_SIZE).map(|page| virt_to_phys(VirtAddr(page.as_ptr().addr())).pfn());
        [
            Arc::new(SpecialMapping {
                name: "[vvar]",
                pages: alloc::vec![data; VVAR_PAGES],
                time_page: Some(VVAR_PAGES - 1),
            }),
            Arc::new(SpecialMapping { name: "[vdso]", pages: code.collect::<Vec<_>>(), time_page: None }),
        ]
    })
}

/// Maps the vDSO, at `hint` if there is room. Returns the address of its ELF header (`AT_SYSINFO_EHDR`), or 0 if this machine
/// has none.
///
/// # Errors
/// `ENOMEM`.
pub fn map(space: &AddressSpace, hint: usize, limits: &Limits) -> Result<usize> {
    if arch::vdso::image().is_empty() {
        return Ok(0);
    }
    let [data, code] = areas();
    let parts = [(data.clone(), PROT_READ), (code.clone(), PROT_READ | PROT_EXEC)];
    let base = space.install_specials(&parts, hint, limits)?;
    Ok(base + VVAR_PAGES * PAGE_SIZE)
}

/// The page of a time namespace, from which the vDSO reads what to add to clocks: `time_namespaces(7)`.
pub struct TimePage(SharedRing);

impl TimePage {
    /// A page that adds nothing.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let page = Self(SharedRing::alloc(PAGE_SIZE)?);
        page.set(0, 0);
        Ok(page)
    }

    /// Sets what is added to the monotonic and to the boot clock, in nanoseconds. Nobody reads the page yet.
    pub fn set(&self, monotonic_ns: i64, boottime_ns: i64) {
        for (offset, word) in arch::vdso::namespace_words(monotonic_ns, boottime_ns) {
            self.0.write(offset, &word);
        }
    }
}

impl AddressSpace {
    /// What is mapped for the page of the time namespace.
    pub(crate) fn time_frame(&self) -> Option<Pfn> {
        self.time_page.lock().as_ref().and_then(|page| page.0.frame(0))
    }

    /// Its process enters another time namespace, with this page; `None`: the first one.
    pub fn set_time_page(&self, page: Option<Arc<TimePage>>) {
        if page.is_none() && self.time_page.lock().is_none() {
            return;
        }
        let _old;
        let areas = self.areas().write();
        _old = core::mem::replace(&mut *self.time_page.lock(), page);
        // A fault that still saw the old page holds the lock of its area.
        for vma in areas.iter().map(|entry| &entry.value).filter(|vma| has_time_page(vma)) {
            let _locked = vma.write();
            let mut gather = Gather::new(self);
            gather.unmap(vma.range(), Which::All);
            gather.finish();
        }
    }
}

fn has_time_page(vma: &Vma) -> bool {
    matches!(vma.backing(), Backing::Special(special) if special.time_page.is_some())
}
