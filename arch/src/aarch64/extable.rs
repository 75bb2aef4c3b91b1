//! The exception table: where to go on when an instruction that may fault does, and the fault cannot be resolved.
//!
//! Each entry holds two 32-bit distances from itself: to the instruction and to its fix-up. All such instructions lie
//! in the section `.uaccess.text`, so a comparison with its bounds settles most look-ups.

use core::mem::size_of;

#[repr(C)]
struct Entry {
    instruction: i32,
    fixup: i32,
}

unsafe extern "C" {
    static _ex_table_start: Entry;
    static _ex_table_end: Entry;
    static _uaccess_start: u8;
    static _uaccess_end: u8;
}

/// Where to continue after a fault of the instruction at `ip`.
pub fn fixup(ip: usize) -> Option<usize> {
    if ip < (&raw const _uaccess_start).addr() || ip >= (&raw const _uaccess_end).addr() {
        return None;
    }
    let (start, end) = (&raw const _ex_table_start, &raw const _ex_table_end);
    let len = (end.addr() - start.addr()) / size_of::<Entry>();
    // SAFETY: the linker script gathers the entries between the two symbols; the table is never written.
    let table = unsafe { core::slice::from_raw_parts(start, len) };
    table.iter().find_map(|entry| {
        let at = (&raw const *entry).addr();
        let instruction = at.wrapping_add_signed(entry.instruction as isize);
        let fixup = (at + 4).wrapping_add_signed(entry.fixup as isize);
        (instruction == ip).then_some(fixup)
    })
}
