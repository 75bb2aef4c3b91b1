//! The exception table: instructions of the kernel that may fault, and where to go on if they do.
//!
//! Entries are pairs of 32-bit offsets relative to themselves, so they need no relocation. The table is short (one entry
//! per user-copy instruction) and only searched when an access really failed, therefore not sorted.

use super::trap::TrapFrame;

#[repr(C)]
struct Entry {
    insn: i32,
    fixup: i32,
}

fn table() -> &'static [Entry] {
    unsafe extern "C" {
        static __ex_table_start: Entry;
        static __ex_table_end: Entry;
    }
    let (start, end) = (&raw const __ex_table_start, &raw const __ex_table_end);
    // SAFETY: the linker script places the symbols around the whole table, which is constant.
    unsafe { core::slice::from_raw_parts(start, (end.addr() - start.addr()) / size_of::<Entry>()) }
}

fn target(field: &i32) -> usize {
    core::ptr::from_ref(field).addr().wrapping_add_signed(*field as isize)
}

/// Sends the frame to the fixup of its instruction, if there is one.
pub(super) fn fixup(frame: &mut TrapFrame) -> bool {
    let ip = frame.ip();
    match table().iter().find(|e| target(&e.insn) == ip) {
        Some(entry) => {
            frame.rip = target(&entry.fixup) as u64;
            true
        }
        None => false,
    }
}

/// Assembly that adds an entry: the instruction at the first label, the fixup at the second.
macro_rules! ex_entry {
    ($insn:literal, $fixup:literal) => {
        concat!(
            ".pushsection __ex_table, \"a\", @progbits\n.p2align 2\n.long ",
            $insn,
            " - .\n.long ",
            $fixup,
            " - .\n.popsection"
        )
    };
}

pub(super) use ex_entry;
