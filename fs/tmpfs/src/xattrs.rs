//! Extended attributes of one inode.

use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::fallible::{SortedMap, TryVec};

/// Bytes of names and values that one inode may hold.
const LIMIT: usize = 128 * 1024;

#[derive(Default)]
struct Store {
    map: SortedMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

/// The attributes.
#[derive(Default)]
pub(crate) struct Xattrs(SpinLock<Store>);

fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    vfs::util::try_to_vec(bytes)
}

impl Xattrs {
    pub(crate) fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        let store = self.0.lock();
        copy(store.map.get(name).ok_or(Errno::ENODATA)?)
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let (name, value) = (copy(name)?, copy(value)?);
        let old = {
            let mut store = self.0.lock();
            let existing = store.map.get(&name).map(Vec::len);
            match existing {
                Some(_) if flags & raw::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
                None if flags & raw::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
                _ => {}
            }
            let freed = existing.map_or(0, |len| len + name.len());
            let bytes = store.bytes - freed + name.len() + value.len();
            if bytes > LIMIT {
                return Err(Errno::ENOSPC);
            }
            let old = store.map.try_insert(name, value)?;
            store.bytes = bytes;
            old
        };
        drop(old);
        Ok(())
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Result<()> {
        let old = {
            let mut store = self.0.lock();
            let old = store.map.remove(name).ok_or(Errno::ENODATA)?;
            store.bytes -= old.len() + name.len();
            old
        };
        drop(old);
        Ok(())
    }

    pub(crate) fn list(&self) -> Result<Vec<u8>> {
        let store = self.0.lock();
        let mut out = Vec::new();
        for name in store.map.keys() {
            out.try_extend_from_slice(name)?;
            out.try_push(0)?;
        }
        Ok(out)
    }
}
