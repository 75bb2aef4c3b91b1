//! The vDSO in an address space: `[vvar]`, the page with the time data, directly below `[vdso]`, the code (`vdso(7)`).
//!
//! The pages are the kernel's and the same for all processes. Both areas are made once; an address space only refers to them.

use crate::space::{AddressSpace, Limits};
use crate::vma::SpecialMapping;
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

#[expect(clippy::disallowed_methods, reason = "once, for the first program")]
fn areas() -> &'static Areas {
    AREAS.call_once(|| {
        let data = arch::vdso::vvar_page().pfn();
        let image = arch::vdso::image();
        let code = image.chunks(PAGE_SIZE).map(|page| virt_to_phys(VirtAddr(page.as_ptr().addr())).pfn());
        [
            Arc::new(SpecialMapping {
                name: "[vvar]",
                pages: (0..VVAR_PAGES as u64).map(|number| Pfn(data.0 + number)).collect(),
            }),
            Arc::new(SpecialMapping { name: "[vdso]", pages: code.collect::<Vec<_>>() }),
        ]
    })
}

/// Maps the vDSO, at `hint` if there is room. Returns the address of its ELF header (`AT_SYSINFO_EHDR`), or 0 if this machine
/// has none.
pub fn map(space: &AddressSpace, hint: usize, limits: &Limits) -> Result<usize> {
    if arch::vdso::image().is_empty() {
        return Ok(0);
    }
    let [data, code] = areas();
    let parts = [(data.clone(), PROT_READ), (code.clone(), PROT_READ | PROT_EXEC)];
    let base = space.install_specials(&parts, hint, limits)?;
    Ok(base + VVAR_PAGES * PAGE_SIZE)
}
