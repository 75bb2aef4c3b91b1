//! Attributes behind the fields of an inode.

use abi::{Errno, Result};

use super::list::List;
use crate::disk::inode::{CORE_SIZE, Extra};
use crate::disk::xattr::{BodyHeader, MAGIC};
use crate::disk::{at, at_mut};
use crate::volume::CORRUPT;

/// Where the attributes of an inode are: the header, if there is room for one.
fn header(raw: &[u8]) -> Option<usize> {
    if raw.len() <= CORE_SIZE {
        return None;
    }
    let extra: &Extra = at(raw, CORE_SIZE)?;
    let start = CORE_SIZE + usize::from(extra.extra_isize.get());
    (start.is_multiple_of(4) && start + 8 <= raw.len()).then_some(start)
}

/// All attributes of an inode's bytes.
///
/// # Errors
/// `EFSCORRUPTED`, `ENOMEM`.
pub fn read(raw: &[u8]) -> Result<List> {
    let Some(start) = header(raw) else { return Ok(List::default()) };
    let magic: &BodyHeader = at(raw, start).ok_or(CORRUPT)?;
    if magic.magic.get() != MAGIC {
        return Ok(List::default());
    }
    List::read(raw, start + 4, start + 4)
}

/// Looks at a value.
///
/// # Errors
/// `EFSCORRUPTED`, `ENOMEM`.
pub fn find<R>(raw: &[u8], index: u8, name: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
    let list = read(raw)?;
    let found = list.position(index, name).ok().and_then(|at| list.0.get(at));
    Ok(found.map(|attribute| f(&attribute.value)))
}

/// Writes all attributes.
///
/// # Errors
/// `ENOSPC`: there is no room, and nothing is changed.
pub fn write(raw: &mut [u8], list: &List) -> Result<()> {
    let Some(start) = header(raw) else {
        return if list.0.is_empty() { Ok(()) } else { Err(Errno::ENOSPC) };
    };
    if list.0.is_empty() {
        raw.get_mut(start..).unwrap_or_default().fill(0);
        return Ok(());
    }
    list.write(raw, start + 4, start + 4, false)?;
    at_mut::<BodyHeader>(raw, start).ok_or(CORRUPT)?.magic.set(MAGIC);
    Ok(())
}

/// Sets (`Some`) or removes a value.
///
/// # Errors
/// `ENOSPC`: there is no room, and nothing is changed; `EFSCORRUPTED`, `ENOMEM`.
pub fn set(raw: &mut [u8], index: u8, name: &[u8], value: Option<&[u8]>) -> Result<()> {
    let mut list = read(raw)?;
    list.set(index, name, value)?;
    write(raw, &list)
}
