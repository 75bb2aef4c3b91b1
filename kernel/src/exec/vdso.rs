//! Mapping the vDSO: the data page, read-only, and behind it the code.

use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::{PAGE_SIZE, Pfn};
use mm::space::Limits;
use mm::vma::SpecialMapping;
use mm::{AddressSpace, MmapRequest};
use sync::Once;

/// The two mappings, made when the first program needs them.
static MAPPINGS: Once<Option<(Arc<SpecialMapping>, Arc<SpecialMapping>)>> = Once::new();

fn frames() -> Option<(Arc<SpecialMapping>, Arc<SpecialMapping>)> {
    let image = arch::vdso::image();
    if image.is_empty() {
        return None;
    }
    let first = image.as_ptr().addr();
    let code: Option<Vec<Pfn>> =
        (0..image.len()).step_by(PAGE_SIZE).map(|at| Some(mm::kmap::translate(first + at)?.pfn())).collect();
    let data = Vec::from([arch::vdso::vvar_page().pfn()]);
    Some((
        Arc::new(SpecialMapping { name: "[vvar]", pages: data }),
        Arc::new(SpecialMapping { name: "[vdso]", pages: code? }),
    ))
}

/// Maps it near `hint`; returns the address of the image, 0 if this machine has none.
///
/// # Errors
/// `ENOMEM`.
pub fn map(space: &AddressSpace, hint: usize, limits: &Limits) -> Result<usize> {
    let Some((data, code)) = MAPPINGS.call_once(frames).clone() else { return Ok(0) };
    let len = (data.pages.len() + code.pages.len()) * PAGE_SIZE;
    // One gap for both: found with a reservation that is given back at once.
    let base = space.mmap(&MmapRequest {
        addr: hint,
        len,
        prot: raw::PROT_NONE,
        flags: raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE,
        file: None,
        offset: 0,
        limits,
    })?;
    space.munmap(base, len)?;
    let image = base + data.pages.len() * PAGE_SIZE;
    let at = space.install_special(data, raw::PROT_READ, base, limits)?;
    let got = space.install_special(code, raw::PROT_READ | raw::PROT_EXEC, image, limits)?;
    if at != base || got != image { Err(Errno::ENOMEM) } else { Ok(image) }
}
