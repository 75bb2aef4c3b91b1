//! Entries that a userfaultfd left its mark on, as a page fault meets them.

use super::reason;
use crate::fault::{Fault, FaultError, Outcome, Resolved};
use crate::ptable::{Marker, Table};
use crate::vma::VmFlags;
use arch::paging::Pte;

impl Fault<'_> {
    /// A software entry is in the way.
    #[cold]
    pub(crate) fn marked(mut self, table: Table<'_>, pte: Pte) -> Outcome {
        let Some(marker) = Marker::of(pte) else { return Err(FaultError::Bus) };
        if marker.poisoned {
            return Err(FaultError::Poisoned);
        }
        if reason(self.vma, self.addr, pte, self.write).is_some() {
            return Err(FaultError::Userfault);
        }
        self.empty = pte;
        if self.write || !self.flags.contains(VmFlags::UFFD_WP) {
            // Nobody wants to know any more.
            let table = table.lock();
            if table.cell(self.addr).load() == pte {
                table.cell(self.addr).store(Pte::NONE);
            }
            self.empty = Pte::NONE;
        }
        self.missing(table)
    }

    /// A store to a page that a userfaultfd protected.
    #[cold]
    pub(crate) fn guarded(&self, table: Table<'_>, pte: Pte) -> Outcome {
        if reason(self.vma, self.addr, pte, true).is_some() {
            return Err(FaultError::Userfault);
        }
        let open = pte.with_uffd_wp(false);
        {
            let table = table.lock();
            let cell = table.cell(self.addr);
            if cell.load().with_accessed(true) != pte.with_accessed(true) {
                return Ok(Resolved::Minor);
            }
            cell.store(open);
        }
        self.write_protected(table, open)
    }
}
