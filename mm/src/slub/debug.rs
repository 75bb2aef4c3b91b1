//! `slub_debug=`: what can be checked about objects.
//!
//! | letter | check |
//! |---|---|
//! | F | frees: the pointer is an object of this cache, and in use |
//! | Z | red zones left and right of the object: overruns |
//! | P | poison: writes after free; reads of fresh memory see 0x5a |
//! | U | who allocated and freed it last |
//! | T | a log line per operation |
//!
//! `slub_debug` alone means `FZPU`; `slub_debug=ZP,kmalloc-64,den*` names caches; `;` separates several such groups. With any letter
//! F is on. Values are Linux's: red zone 0xbb free, 0xcc in use; poison 0x6b, 0xa5 at the end.
//!
//! ```text
//! | left red zone | object | to a word | right red zone 8 | link 8 | last alloc | last free |
//! ```

use super::cache::ObjectLayout;
use super::slab::Slab;
use bitflags::bitflags;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use sync::Once;

bitflags! {
    /// Letters of `slub_debug`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DebugFlags: u8 {
        /// F
        const CHECKS = 1 << 0;
        /// Z
        const RED_ZONE = 1 << 1;
        /// P
        const POISON = 1 << 2;
        /// U
        const USER = 1 << 3;
        /// T
        const TRACE = 1 << 4;
    }
}

const RED_INACTIVE: u8 = 0xbb;
const RED_ACTIVE: u8 = 0xcc;
const POISON_FREE: u8 = 0x6b;
const POISON_NEW: u8 = 0x5a;
const POISON_END: u8 = 0xa5;
const RED_BYTES: usize = 8;
const LINK_BYTES: usize = 8;

static OPTIONS: Once<&'static str> = Once::new();
static REPORTS: AtomicUsize = AtomicUsize::new(0);

/// Who used an object last.
#[repr(C)]
#[derive(Clone, Copy)]
struct Track {
    callers: [usize; 8],
    cpu: usize,
    when_ns: u64,
}

/// Sets the value of `slub_debug`. Before the first allocation: caches in use keep what they have.
pub fn set_options(options: &'static str) {
    let _ = OPTIONS.set(options);
}

/// Number of reports so far.
pub fn reports() -> usize {
    REPORTS.load(Relaxed)
}

/// The flags that the options give to a cache.
pub(crate) fn flags_for(name: &str) -> DebugFlags {
    OPTIONS.get().map_or(DebugFlags::empty(), |options| parse(options, name))
}

fn parse(options: &str, name: &str) -> DebugFlags {
    let mut flags = DebugFlags::empty();
    for group in options.split(';') {
        let mut parts = group.split(',');
        let letters = parts.next().unwrap_or("");
        let mut listed = parts.clone().filter(|p| !p.is_empty()).peekable();
        let all = listed.peek().is_none();
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        if all || listed.any(matches) {
            flags = letters_to_flags(letters);
        }
    }
    flags
}

fn letters_to_flags(letters: &str) -> DebugFlags {
    if letters.is_empty() {
        return DebugFlags::CHECKS | DebugFlags::RED_ZONE | DebugFlags::POISON | DebugFlags::USER;
    }
    letters.chars().fold(DebugFlags::empty(), |flags, letter| match letter.to_ascii_uppercase() {
        'F' => flags | DebugFlags::CHECKS,
        'Z' => flags | DebugFlags::RED_ZONE,
        'P' => flags | DebugFlags::POISON,
        'U' => flags | DebugFlags::USER,
        'T' => flags | DebugFlags::TRACE,
        _ => flags,
    })
}

/// Bytes before and after an object.
pub(crate) fn room(size: usize, align: usize, flags: DebugFlags) -> (usize, usize) {
    if flags.is_empty() {
        return (0, 0);
    }
    let tracks = if flags.contains(DebugFlags::USER) { 2 * size_of::<Track>() } else { 0 };
    (align.max(RED_BYTES), size.next_multiple_of(8) - size + RED_BYTES + LINK_BYTES + tracks)
}

/// Where the link is.
pub(crate) const fn link_offset(start: usize, size: usize) -> usize {
    start + size.next_multiple_of(8) + RED_BYTES
}

/// The bytes of an object with its zones.
fn region(object: *mut u8, from: usize, to: usize) -> &'static mut [u8] {
    // SAFETY: inside the object's stride in a slab; the object is changing hands, so nobody else uses it (or it is being
    // misused, which is what is looked for here).
    unsafe { core::slice::from_raw_parts_mut(object.add(from), to - from) }
}

fn fill_red(object: *mut u8, layout: &ObjectLayout, value: u8) {
    if layout.flags.contains(DebugFlags::RED_ZONE) {
        region(object, 0, layout.start).fill(value);
        region(object, layout.start + layout.size, layout.link).fill(value);
    }
}

fn poison(object: *mut u8, layout: &ObjectLayout) {
    if layout.flags.contains(DebugFlags::POISON) {
        let bytes = region(object, layout.start, layout.start + layout.size);
        bytes.fill(POISON_FREE);
        if let Some(last) = bytes.last_mut() {
            *last = POISON_END;
        }
    }
}

/// Prepares the free objects of a new slab.
pub(crate) fn prepare_slab(slab: Slab, layout: &ObjectLayout) {
    if layout.flags.is_empty() {
        return;
    }
    for i in 0..slab.objects() {
        let object = slab.base().wrapping_add(i * layout.stride);
        fill_red(object, layout, RED_INACTIVE);
        poison(object, layout);
        if layout.flags.contains(DebugFlags::USER) {
            region(object, layout.link + LINK_BYTES, layout.link + LINK_BYTES + 2 * size_of::<Track>())
                .fill(0);
        }
    }
}

fn red_ok(name: &str, object: *mut u8, layout: &ObjectLayout, value: u8) -> bool {
    if !layout.flags.contains(DebugFlags::RED_ZONE) {
        return true;
    }
    if region(object, 0, layout.start).iter().any(|b| *b != value) {
        report(name, "Left Redzone overwritten", object, layout);
        return false;
    }
    if region(object, layout.start + layout.size, layout.link).iter().any(|b| *b != value) {
        report(name, "Right Redzone overwritten", object, layout);
        return false;
    }
    true
}

/// An object is about to be handed out: was it left alone while it was free? Then marks it as used.
pub(crate) fn check_alloc(name: &str, object: *mut u8, layout: &ObjectLayout) -> bool {
    if !red_ok(name, object, layout, RED_INACTIVE) {
        return false;
    }
    if layout.flags.contains(DebugFlags::POISON) {
        let bytes = region(object, layout.start, layout.start + layout.size);
        let intact = bytes
            .split_last()
            .is_none_or(|(last, rest)| *last == POISON_END && rest.iter().all(|b| *b == POISON_FREE));
        if !intact {
            report(name, "Poison overwritten", object, layout);
            return false;
        }
        bytes.fill(POISON_NEW);
    }
    fill_red(object, layout, RED_ACTIVE);
    track(object, layout, 0);
    if layout.flags.contains(DebugFlags::TRACE) {
        log::info!("TRACE {name} alloc {object:p}");
    }
    true
}

/// An object comes back: did its user keep inside? Then marks it as free. A damaged one is not taken back.
pub(crate) fn check_free(name: &str, object: *mut u8, layout: &ObjectLayout) -> bool {
    if !red_ok(name, object, layout, RED_ACTIVE) {
        return false;
    }
    poison(object, layout);
    fill_red(object, layout, RED_INACTIVE);
    track(object, layout, 1);
    if layout.flags.contains(DebugFlags::TRACE) {
        log::info!("TRACE {name} free {object:p}");
    }
    true
}

fn track_at(object: *mut u8, layout: &ObjectLayout, which: usize) -> *mut Track {
    object.wrapping_add(layout.link + LINK_BYTES + which * size_of::<Track>()).cast()
}

fn track(object: *mut u8, layout: &ObjectLayout, which: usize) {
    if !layout.flags.contains(DebugFlags::USER) {
        return;
    }
    let mut track = Track {
        callers: [0; 8],
        cpu: arch::cpu::current().index(),
        when_ns: if cfg!(target_os = "none") { arch::time::now_ns() } else { 0 },
    };
    if cfg!(target_os = "none") {
        let mut n = 0;
        arch::backtrace::frames(arch::backtrace::frame_pointer(), |address| {
            track.callers[n] = address;
            n += 1;
            n < track.callers.len()
        });
    }
    // SAFETY: the stride has room for two tracks behind the link (`room`).
    unsafe { track_at(object, layout, which).write_unaligned(track) };
}

/// Says what is wrong with an object, in Linux's words.
#[cold]
pub(crate) fn report(name: &str, what: &str, object: *mut u8, layout: &ObjectLayout) {
    REPORTS.fetch_add(1, Relaxed);
    log::error!("BUG {name}: {what}");
    log::error!(
        "Object {:p} size {} in {:?}",
        object.wrapping_add(layout.start),
        layout.size,
        Slab::of(object).map(|s| s.objects())
    );
    let inside = Slab::of(object).is_some_and(|slab| {
        let offset = object.addr().wrapping_sub(slab.base().addr());
        offset.is_multiple_of(layout.stride) && offset + layout.stride <= slab.bytes()
    });
    if !inside {
        return;
    }
    for (row, bytes) in region(object, 0, layout.link).chunks(16).enumerate().take(12) {
        log::error!("  {:04x}: {bytes:02x?}", row * 16);
    }
    if layout.flags.contains(DebugFlags::USER) {
        for (which, verb) in [(0, "Allocated"), (1, "Freed")] {
            // SAFETY: as in `track`.
            let track = unsafe { track_at(object, layout, which).read_unaligned() };
            log::error!("{verb} cpu={} at {} ns by {:x?}", track.cpu, track.when_ns, track.callers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let fzpu = DebugFlags::CHECKS | DebugFlags::RED_ZONE | DebugFlags::POISON | DebugFlags::USER;
        assert_eq!(parse("", "x"), fzpu);
        assert_eq!(parse("P", "x"), DebugFlags::POISON);
        assert_eq!(parse("Z,kmalloc-64,den*", "dentry"), DebugFlags::RED_ZONE);
        assert_eq!(parse("Z,kmalloc-64,den*", "kmalloc-640"), DebugFlags::empty());
        assert_eq!(parse("-", "x"), DebugFlags::empty());
        assert_eq!(parse("F;P,a", "a"), DebugFlags::POISON);
    }
}
