//! The vDSO image and its data page.

/// The ELF shared object, a whole number of pages. Mapped read-execute into every process, right after [`VVAR_PAGES`]
/// pages of data.
pub fn image() -> &'static [u8] {
    &[]
}

/// Pages of data in front of the image.
pub const VVAR_PAGES: usize = 2;

/// The words of the page of a time namespace that are not 0: where they stand in the page, and what they are.
pub fn namespace_words(_monotonic_ns: i64, _boottime_ns: i64) -> [(usize, u64); 6] {
    [(0, 0); 6]
}

/// The data page (kernel memory, mapped read-only into processes).
pub fn vvar_page() -> crate::addr::PhysAddr {
    crate::addr::PhysAddr(0)
}

/// Offset of the `rt_sigreturn` trampoline in the image (arm64), if there is one.
pub const SIGRETURN_OFFSET: Option<usize> = None;

/// What the data page says; refreshed by the timekeeper, at most at every tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct VdsoTime {
    /// CLOCK_REALTIME = monotonic + this, ns.
    pub wall_offset_ns: u64,
    /// CLOCK_BOOTTIME = monotonic + this, ns.
    pub boot_offset_ns: u64,
    /// CLOCK_TAI - CLOCK_REALTIME, s.
    pub tai_offset_s: i32,
    /// CLOCK_MONOTONIC at the last tick, ns: for the coarse clocks.
    pub coarse_ns: u64,
    /// Resolution of the coarse clocks, ns.
    pub coarse_res_ns: u32,
    /// CLOCK_MONOTONIC = now_ns + this, ns.
    pub mono_offset_ns: i64,
    /// `(base, mult, shift)` of the cycle counter; a `mult` of 0 sends programs to the system call.
    pub clock: (u64, u32, u32),
    /// The same of CLOCK_MONOTONIC_RAW.
    pub raw_clock: (u64, u32, u32),
    /// `tz_minuteswest`, `tz_dsttime` for gettimeofday.
    pub timezone: (i32, i32),
}

/// Updates the data page under its sequence count. One caller at a time.
pub fn update(_time: &VdsoTime) {}
