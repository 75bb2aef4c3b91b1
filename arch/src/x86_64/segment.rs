//! Segment descriptors of programs, as numbers: `struct user_desc` of modify_ldt(2), and Intel SDM volume 3, 3.4.5.

/// Most descriptors of a table.
pub const ENTRIES: u32 = 8192;
/// `struct user_desc`
pub const USER_DESC_SIZE: usize = 16;

/// In a selector: the local table.
pub const TABLE_LOCAL: u16 = 4;

const ACCESSED: u64 = 1 << 40;
const WRITABLE: u64 = 1 << 41;
const CODE: u64 = 1 << 43;
const NOT_SYSTEM: u64 = 1 << 44;
const DPL_USER: u64 = 3 << 45;
const PRESENT: u64 = 1 << 47;
const AVAILABLE: u64 = 1 << 52;
const BIG: u64 = 1 << 54;
const PAGES: u64 = 1 << 55;

/// `struct user_desc`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserDesc {
    pub entry: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

impl UserDesc {
    const SEG_32BIT: u32 = 1 << 0;
    const CONTENTS: u32 = 3 << 1;
    const READ_EXEC_ONLY: u32 = 1 << 3;
    const LIMIT_IN_PAGES: u32 = 1 << 4;
    const NOT_PRESENT: u32 = 1 << 5;
    const USEABLE: u32 = 1 << 6;
    const LM: u32 = 1 << 7;

    /// From a program's memory.
    pub fn new(bytes: &[u8; USER_DESC_SIZE]) -> Self {
        let word = |at: usize| {
            let part = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            part.map_or(0, |part| u32::from_le_bytes(*part))
        };
        Self { entry: word(0), base: word(4), limit: word(8), flags: word(12) }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn contents(&self) -> u32 {
        (self.flags & Self::CONTENTS) >> 1
    }

    /// Whether it asks for no descriptor at all.
    fn is_empty(&self, old: bool) -> bool {
        let known = Self::SEG_32BIT
            | Self::CONTENTS
            | Self::READ_EXEC_ONLY
            | Self::LIMIT_IN_PAGES
            | Self::NOT_PRESENT
            | Self::USEABLE
            | Self::LM;
        let cleared = self.flags & known == Self::READ_EXEC_ONLY | Self::NOT_PRESENT;
        self.base == 0 && self.limit == 0 && (old || cleared)
    }

    /// The descriptor; `None` for what a program may not have: conforming code, and segments of 16 bits, as the return to a
    /// stack of 16 bits would show a part of the kernel's stack pointer. `old`: modify_ldt's function 1.
    pub fn descriptor(&self, old: bool) -> Option<u64> {
        const CONFORMING: u32 = 3;
        if self.contents() == CONFORMING && (old || !self.has(Self::NOT_PRESENT)) {
            return None;
        }
        if self.is_empty(old) {
            return Some(0);
        }
        if !self.has(Self::SEG_32BIT) {
            return None;
        }
        let (base, limit) = (u64::from(self.base), u64::from(self.limit));
        let mut bits = limit & 0xffff
            | (base & 0xff_ffff) << 16
            | (limit & 0xf_0000) << 32
            | (base & 0xff00_0000) << 32
            | ACCESSED
            | NOT_SYSTEM
            | DPL_USER
            | u64::from(self.contents()) << 42;
        for (set, bit) in [
            (!self.has(Self::READ_EXEC_ONLY), WRITABLE),
            (!self.has(Self::NOT_PRESENT), PRESENT),
            (self.has(Self::USEABLE) && !old, AVAILABLE),
            (self.has(Self::SEG_32BIT), BIG),
            (self.has(Self::LIMIT_IN_PAGES), PAGES),
        ] {
            if set {
                bits |= bit;
            }
        }
        Some(bits)
    }
}

/// Whether a data segment register can be loaded with a descriptor of a program's.
pub fn is_loadable(descriptor: u64) -> bool {
    let needed = PRESENT | NOT_SYSTEM | DPL_USER;
    descriptor & needed == needed && (descriptor & CODE == 0 || descriptor & WRITABLE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(entry: u32, base: u32, limit: u32, flags: u32) -> UserDesc {
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip([entry, base, limit, flags]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        UserDesc::new(&bytes)
    }

    #[test]
    fn flat_data() {
        // 32 bits, limit in pages.
        let flat = desc(3, 0, 0xf_ffff, 1 | 1 << 4);
        assert_eq!(flat.entry, 3);
        assert_eq!(flat.descriptor(false), Some(0x00cf_f300_0000_ffff));
        assert!(is_loadable(0x00cf_f300_0000_ffff));
    }

    #[test]
    fn base_and_limit() {
        let some = desc(0, 0x1234_5678, 0x9_abcd, 1 | 2 << 1 | 1 << 6);
        assert_eq!(some.descriptor(false), Some(0x1259_fb34_5678_abcd));
        assert_eq!(some.descriptor(true), Some(0x1249_fb34_5678_abcd));
    }

    #[test]
    fn nothing_and_what_is_refused() {
        assert_eq!(desc(0, 0, 0, 1 << 3 | 1 << 5).descriptor(false), Some(0));
        assert_eq!(desc(0, 0, 0, 0).descriptor(true), Some(0));
        assert_eq!(desc(0, 0, 0, 0).descriptor(false), None);
        assert_eq!(desc(0, 0, 1, 3 << 1).descriptor(false), None);
        assert_eq!(desc(0, 0, 1, 3 << 1 | 1 << 5).descriptor(true), None);
        let absent = desc(0, 0, 1, 1 | 3 << 1 | 1 << 5).descriptor(false);
        assert!(absent.is_some_and(|bits| !is_loadable(bits)));
        // Code that may not be read.
        let unreadable = desc(0, 0, 1, 1 | 2 << 1 | 1 << 3).descriptor(false);
        assert!(unreadable.is_some_and(|bits| !is_loadable(bits)));
    }
}
