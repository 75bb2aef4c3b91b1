//! Names for addresses of the kernel's code: for oopses and `/proc/kallsyms`.
//!
//! The image reserves room for a table of functions ([`symtab`]), which the build fills in after linking. An image that
//! did not go through that step has no names, and addresses are printed as numbers.

use core::fmt;

pub use symtab::Symbol;
use symtab::Table;

#[cfg(target_os = "none")]
mod room {
    /// Bytes that the image reserves.
    const ROOM: usize = 256 << 10;

    core::arch::global_asm!(
        ".pushsection .ksyms, \"a\", %progbits",
        ".p2align 3",
        ".globl __ksyms_start, __ksyms_end",
        "__ksyms_start: .skip {ROOM}",
        "__ksyms_end:",
        ".popsection",
        ROOM = const ROOM,
    );

    pub fn bytes() -> &'static [u8] {
        unsafe extern "C" {
            static __ksyms_start: u8;
            static __ksyms_end: u8;
        }
        let (start, end) = (&raw const __ksyms_start, &raw const __ksyms_end);
        // SAFETY: the symbols enclose constant data.
        unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
    }
}

/// The table, if the build filled it in.
#[cfg(target_os = "none")]
pub fn table() -> Option<Table<'static>> {
    Table::new(room::bytes())
}

/// The table, if the build filled it in.
#[cfg(not(target_os = "none"))]
pub fn table() -> Option<Table<'static>> {
    None
}

/// The function that an address of the kernel image lies in.
pub fn lookup(address: usize) -> Option<Symbol<'static>> {
    let image = crate::addr::image();
    if !image.contains(&address) {
        return None;
    }
    table()?.lookup((address - image.start) as u32)
}

/// Prints an address as `function+0x12/0x80`, or as a number.
#[derive(Clone, Copy, Debug)]
pub struct At(pub usize);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.0.wrapping_sub(crate::addr::image().start);
        match lookup(self.0) {
            Some(symbol) => write!(f, "{symbol}+{:#x}/{:#x}", offset - symbol.start as usize, symbol.size),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}
