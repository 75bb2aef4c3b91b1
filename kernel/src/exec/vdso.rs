//! Mapping the vDSO: the data page, read-only, and behind it the code.

use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use mm::fallible::{TryVec, try_arc, try_to_vec};
use mm::space::Limits;
use mm::vma::SpecialMapping;
use mm::{AddressSpace, MmapRequest};
use sync::Once;

/// The two mappings, made when the first program needs them.
static MAPPINGS: Once<Mappings> = Once::new();

type Mappings = Option<(Arc<SpecialMapping>, Arc<SpecialMapping>)>;

fn frames() -> Result<Mappings> {
    let image = arch::vdso::image();
    if image.is_empty() {
        return Ok(None);
    }
    let first = image.as_ptr().addr();
    let mut code = Vec::new();
    for at in (0..image.len()).step_by(PAGE_SIZE) {
        let Some(page) = mm::kmap::translate(first + at) else { return Ok(None) };
        code.try_push(page.pfn())?;
    }
    let data = try_to_vec(&[arch::vdso::vvar_page().pfn()])?;
    Ok(Some((
        try_arc(SpecialMapping { name: "[vvar]", pages: data })?,
        try_arc(SpecialMapping { name: "[vdso]", pages: code })?,
    )))
}

/// Maps it near `hint`; returns the address of the image, 0 if this machine has none.
///
/// # Errors
/// `ENOMEM`.
pub fn map(space: &AddressSpace, hint: usize, limits: &Limits) -> Result<usize> {
    let mappings = match MAPPINGS.get() {
        Some(mappings) => mappings,
        None => {
            let made = frames()?;
            MAPPINGS.call_once(|| made)
        }
    };
    let Some((data, code)) = mappings.clone() else { return Ok(0) };
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
