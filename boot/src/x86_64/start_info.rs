//! What the PVH loader left in memory, copied out of it.
//!
//! All of it lies below 4 GiB, where boot's first tables map memory at its own address.

use core::cell::UnsafeCell;

use super::pvh;
use crate::info::{MemoryKind, MemoryRegion, PhysRange};

/// The longest command line, as on Linux (`COMMAND_LINE_SIZE`).
const MAX_CMDLINE: usize = 2048;
/// The most lines of the memory map.
const MAX_REGIONS: usize = 128;
const FOUR_GIB: u64 = 1 << 32;

/// The start info in our own terms.
pub struct Start {
    pub cmdline: &'static str,
    pub initrd: Option<PhysRange>,
    pub rsdp: u64,
    pub memory: &'static [MemoryRegion],
}

struct Store {
    cmdline: [u8; MAX_CMDLINE],
    regions: [MemoryRegion; MAX_REGIONS],
}

struct Cell(UnsafeCell<Store>);

// SAFETY: written once by `read`, before there are other CPUs.
unsafe impl Sync for Cell {}

static STORE: Cell = Cell(UnsafeCell::new(Store {
    cmdline: [0; MAX_CMDLINE],
    regions: [MemoryRegion { range: PhysRange::new(0, 0), kind: MemoryKind::Reserved }; MAX_REGIONS],
}));

/// Memory of the loader.
///
/// # Safety
/// Identity mapped and not written while the slice lives.
unsafe fn memory<'a>(at: u64, len: usize) -> &'a [u8] {
    if at == 0 || at >= FOUR_GIB || len as u64 > FOUR_GIB - at {
        return &[];
    }
    // SAFETY: below 4 GiB everything is mapped; the caller promises the rest.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at as usize), len) }
}

/// Firmware's memory; `None` beyond what is mapped.
///
/// # Safety
/// As [`memory`].
pub unsafe fn firmware(at: u64, len: usize) -> Option<&'static [u8]> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { memory(at, len) };
    (bytes.len() == len && len > 0).then_some(bytes)
}

/// A NUL-terminated string of the loader, without the NUL, cut at [`MAX_CMDLINE`].
///
/// # Safety
/// As [`memory`].
unsafe fn string<'a>(at: u64) -> &'a [u8] {
    // SAFETY: as the caller promises.
    let bytes = unsafe { memory(at, MAX_CMDLINE) };
    bytes.split(|&b| b == 0).next().unwrap_or(&[])
}

/// Whether a word is on the command line; keeps nothing.
pub fn cmdline_has(start_info_at: u64, word: &str) -> bool {
    // SAFETY: nobody has written to the loader's memory.
    let cmdline = unsafe {
        let Some(info) = pvh::StartInfo::parse(memory(start_info_at, pvh::START_INFO_LEN)) else {
            return false;
        };
        string(info.cmdline_at)
    };
    cmdline.split(u8::is_ascii_whitespace).any(|w| w == word.as_bytes())
}

/// Reads everything. `None` if it is not a start info.
///
/// # Safety
/// Once; the first 4 GiB are identity mapped and the loader's records untouched.
pub unsafe fn read(at: u64) -> Option<Start> {
    // SAFETY: the caller's promise, here and below.
    let store = unsafe { &mut *STORE.0.get() };
    // SAFETY: as above.
    let info = pvh::StartInfo::parse(unsafe { memory(at, pvh::START_INFO_LEN) })?;

    // SAFETY: as above.
    let cmdline = unsafe { string(info.cmdline_at) };
    let target = &mut store.cmdline[..cmdline.len()];
    target.copy_from_slice(cmdline);
    // Bytes that are not UTF-8 end the command line.
    let cmdline = match core::str::from_utf8(target) {
        Ok(s) => s,
        Err(e) => core::str::from_utf8(&target[..e.valid_up_to()]).unwrap_or(""),
    };

    let initrd = (info.modules > 0).then(|| {
        // SAFETY: as above.
        let (start, len) = pvh::module(unsafe { memory(info.modules_at, pvh::MODULE_LEN) });
        PhysRange::new(start, len)
    });

    let mut n = 0;
    for i in 0..u64::from(info.memmap_entries) {
        // SAFETY: as above.
        let (base, len, kind) = pvh::memmap_entry(unsafe {
            memory(info.memmap_at + i * pvh::MEMMAP_LEN as u64, pvh::MEMMAP_LEN)
        });
        let kind = match kind {
            1 => MemoryKind::Usable,
            3 => MemoryKind::AcpiReclaim,
            4 => MemoryKind::AcpiNvs,
            7 => MemoryKind::Persistent,
            _ => MemoryKind::Reserved,
        };
        let Some(slot) = store.regions.get_mut(n) else { break };
        if len > 0 {
            *slot = MemoryRegion { range: PhysRange::new(base, len), kind };
            n += 1;
        }
    }
    store.regions[..n].sort_unstable_by_key(|r| r.range.start);
    Some(Start {
        cmdline,
        initrd: initrd.filter(|r| !r.is_empty()),
        rsdp: info.rsdp,
        memory: &store.regions[..n],
    })
}
