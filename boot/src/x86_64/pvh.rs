//! The PVH boot protocol: `struct hvm_start_info` and what it points to.
//!
//! Reference: the Xen headers `arch-x86/hvm/start_info.h`. All integers little-endian, all pointers physical.
#![allow(dead_code)]

/// `magic` of the start info.
pub const MAGIC: u32 = 0x336e_c578;

/// Reads integers at offsets of a record; 0 beyond its end, so that a short (old) record reads as one with empty fields.
pub struct Record<'a>(pub &'a [u8]);

impl Record<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
}

/// The fixed part of the start info, version 1 (version 0 has no memory map).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartInfo {
    /// Number of modules; the first is the initramfs.
    pub modules: u32,
    /// Their list.
    pub modules_at: u64,
    /// The command line, NUL-terminated.
    pub cmdline_at: u64,
    /// The ACPI root pointer, 0 without.
    pub rsdp: u64,
    /// The memory map.
    pub memmap_at: u64,
    /// Its entries.
    pub memmap_entries: u32,
}

/// Bytes of the start info.
pub const START_INFO_LEN: usize = 56;
/// Bytes of a module list entry.
pub const MODULE_LEN: usize = 32;
/// Bytes of a memory map entry.
pub const MEMMAP_LEN: usize = 24;

impl StartInfo {
    /// Parses; `None` if the magic is wrong.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let r = Record(bytes);
        if r.u32(0) != MAGIC {
            return None;
        }
        let with_map = r.u32(4) >= 1;
        Some(Self {
            modules: r.u32(12),
            modules_at: r.u64(16),
            cmdline_at: r.u64(24),
            rsdp: r.u64(32),
            memmap_at: if with_map { r.u64(40) } else { 0 },
            memmap_entries: if with_map { r.u32(48) } else { 0 },
        })
    }
}

/// Address and length of a module.
pub fn module(bytes: &[u8]) -> (u64, u64) {
    let r = Record(bytes);
    (r.u64(0), r.u64(8))
}

/// Address, length and E820 type of a memory map entry.
pub fn memmap_entry(bytes: &[u8]) -> (u64, u64, u32) {
    let r = Record(bytes);
    (r.u64(0), r.u64(8), r.u32(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_info() {
        let mut b = Vec::new();
        for v in [MAGIC, 1, 0, 1] {
            b.extend(v.to_le_bytes());
        }
        for v in [0x1000u64, 0x2000, 0xf5250, 0x3000] {
            b.extend(v.to_le_bytes());
        }
        b.extend(7u32.to_le_bytes());
        b.extend(0u32.to_le_bytes());
        assert_eq!(b.len(), START_INFO_LEN);
        let s = StartInfo::parse(&b).unwrap();
        assert_eq!((s.modules, s.modules_at, s.cmdline_at, s.rsdp), (1, 0x1000, 0x2000, 0xf5250));
        assert_eq!((s.memmap_at, s.memmap_entries), (0x3000, 7));
        b[4] = 0;
        assert_eq!(StartInfo::parse(&b).unwrap().memmap_entries, 0);
        b[0] = 0;
        assert_eq!(StartInfo::parse(&b), None);
    }

    #[test]
    fn short_records_read_as_zero() {
        assert_eq!(memmap_entry(&[1, 0, 0, 0, 0, 0, 0, 0]), (1, 0, 0));
        assert_eq!(StartInfo::parse(&[]), None);
    }
}
