//! A file table and how many threads use it.
//!
//! References to the table are counted by `Arc`, but some of those are passing looks of other threads (and of
//! RCU). The users counted here are threads: when the last one leaves, the files close at once, so that a
//! pipe's reader sees the end before a parent's `wait` returns.

use abi::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use vfs::FdTable;

/// A shared file table.
pub struct Files {
    table: FdTable,
    users: AtomicU32,
}

impl core::ops::Deref for Files {
    type Target = FdTable;

    fn deref(&self) -> &FdTable {
        &self.table
    }
}

impl Files {
    /// A table with one user.
    pub fn new(table: FdTable) -> Arc<Self> {
        Arc::new(Self { table, users: AtomicU32::new(1) })
    }

    /// One more user of the same table: `CLONE_FILES`.
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        self.users.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    /// A copy with one user.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Self>> {
        Ok(Self::new(self.table.copy(None)?))
    }

    /// How many threads use it.
    pub fn users(&self) -> u32 {
        self.users.load(Ordering::Acquire)
    }

    /// One user less; the last one closes everything.
    pub fn put_user(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.table.close_all();
        }
    }
}
