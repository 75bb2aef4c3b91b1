//! Data in the inode (`inline_data`): the first 60 bytes where addresses would be, the rest as the value of the extended
//! attribute `system.data`.

use alloc::vec::Vec;

use abi::Result;
use mm::fallible::{TryVec, try_with_capacity};

use crate::disk::inode::BLOCK_BYTES;
use crate::disk::xattr::{INLINE_DATA_NAME, index};
use crate::error::there;
use crate::inode::Node;

impl Node {
    /// All bytes that there is room for: as many as the file has, or more.
    ///
    /// # Errors
    /// `EUCLEAN`: the attribute is damaged or missing.
    pub(crate) fn inline_bytes(&self) -> Result<Vec<u8>> {
        let root = self.root();
        self.with_raw(|raw| {
            let body = self.body_attributes(raw)?;
            let rest = match body.find(index::SYSTEM, INLINE_DATA_NAME)? {
                Some(attribute) => there(body.value(&attribute))?,
                None => &[],
            };
            let mut bytes = try_with_capacity(BLOCK_BYTES + rest.len())?;
            bytes.try_extend_from_slice(&root)?;
            bytes.try_extend_from_slice(rest)?;
            Ok(bytes)
        })
    }

    /// The file's contents.
    ///
    /// # Errors
    /// As [`Self::inline_bytes`].
    pub(crate) fn inline_data(&self) -> Result<Vec<u8>> {
        let mut bytes = self.inline_bytes()?;
        let size = self.disk_size.load(core::sync::atomic::Ordering::Relaxed);
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }
}
