//! Timekeeping: the system's clocks over the processor's cycle counter.
//!
//! The cycle counter gives raw time (`CLOCK_MONOTONIC_RAW`). Monotonic time follows it with the
//! correction of `adjtimex(2)`, which [`Ntp`] makes anew each second; without a correction the two are
//! the same and reading either is the same few instructions. The wall clock is monotonic time plus an offset that
//! `settimeofday(2)` changes; boot time is the same as monotonic time, as the machine never
//! suspends. The coarse clocks show the time of the last tick. The vDSO's data page repeats all of
//! it for user space.
//!
//! Locks: [`KEEPER`] (interrupts off) for writers; readers take none.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use abi::time::{NSEC_PER_SEC, Timeval, Timex};
use arch::sync::SpinLockIrq;
use sync::{Once, SeqCount};

use crate::ntp::{self, Ntp};
use crate::workqueue::{self, Work};

/// Ticks per second.
pub const HZ: u64 = 250;
/// Nanoseconds between ticks: the resolution of the coarse clocks.
pub const TICK_NS: u64 = NSEC_PER_SEC / HZ;

/// The clocks that timers can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Clock {
    /// Never set, never goes back.
    Monotonic = 0,
    /// Wall clock time.
    Realtime = 1,
    /// Monotonic, counting suspended time too.
    Boottime = 2,
    /// Wall clock time without leap seconds.
    Tai = 3,
}

impl Clock {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [Self::Monotonic, Self::Realtime, Self::Boottime, Self::Tai];
}

/// Wall clock minus monotonic, nanoseconds (wrapping).
static WALL_OFFSET: AtomicU64 = AtomicU64::new(0);
static TAI_OFFSET_S: AtomicI32 = AtomicI32::new(0);
/// Monotonic time at the last tick.
static COARSE: AtomicU64 = AtomicU64::new(0);
/// How often the wall clock was set (not slewed).
static SET_COUNT: AtomicU32 = AtomicU32::new(0);
/// Whether monotonic differs from raw: see `Slope`.
static SLOPED: AtomicBool = AtomicBool::new(false);
static SLOPE_SEQ: SeqCount = SeqCount::new();
static SLOPE_RAW: AtomicU64 = AtomicU64::new(0);
static SLOPE_MONO: AtomicU64 = AtomicU64::new(0);
/// Correction in units of 2^-32 (a two's complement `i64`).
static SLOPE_RATE: AtomicU64 = AtomicU64::new(0);

struct Keeper {
    ntp: Ntp,
    /// When the wall clock's next second begins, on the monotonic clock.
    next_second: u64,
    timezone: (i32, i32),
}

static KEEPER: SpinLockIrq<Keeper> =
    SpinLockIrq::new(Keeper { ntp: Ntp::new(), next_second: 0, timezone: (0, 0) });

static ON_SET: Once<fn()> = Once::new();
/// Tells everybody that a leap second moved the wall clock. Made when one is announced.
static LEAP: Once<Work> = Once::new();

/// Nanoseconds on the raw clock: what the scheduler itself measures with.
#[inline]
pub fn raw_ns() -> u64 {
    arch::time::now_ns()
}

/// Nanoseconds on `CLOCK_MONOTONIC`.
#[inline]
pub fn monotonic_ns() -> u64 {
    let raw = arch::time::now_ns();
    if SLOPED.load(Ordering::Relaxed) { sloped(raw) } else { raw }
}

fn sloped(raw: u64) -> u64 {
    loop {
        let seq = SLOPE_SEQ.begin();
        let since = raw.wrapping_sub(SLOPE_RAW.load(Ordering::Relaxed)).cast_signed();
        let rate = SLOPE_RATE.load(Ordering::Relaxed).cast_signed();
        let mono = SLOPE_MONO.load(Ordering::Relaxed);
        if !SLOPE_SEQ.retry(seq) {
            let extra = (i128::from(since) * i128::from(rate)) >> 32;
            return mono.wrapping_add_signed(since).wrapping_add_signed(extra as i64);
        }
    }
}

/// The raw time at which monotonic time will be `mono`.
pub(crate) fn monotonic_to_raw(mono: u64) -> u64 {
    if !SLOPED.load(Ordering::Relaxed) || mono == u64::MAX {
        return mono;
    }
    let raw = arch::time::now_ns();
    raw.saturating_add_signed(mono.wrapping_sub(sloped(raw)).cast_signed())
}

/// Nanoseconds since the epoch on `CLOCK_REALTIME`.
#[inline]
pub fn realtime_ns() -> u64 {
    monotonic_ns().wrapping_add(WALL_OFFSET.load(Ordering::Relaxed))
}

/// Nanoseconds on `CLOCK_BOOTTIME`.
#[inline]
pub fn boottime_ns() -> u64 {
    monotonic_ns()
}

/// `CLOCK_MONOTONIC_COARSE`: monotonic time at the last tick.
pub fn monotonic_coarse_ns() -> u64 {
    COARSE.load(Ordering::Relaxed)
}

/// `CLOCK_REALTIME_COARSE`: wall clock time at the last tick (file time stamps).
pub fn realtime_coarse_ns() -> u64 {
    COARSE.load(Ordering::Relaxed).wrapping_add(WALL_OFFSET.load(Ordering::Relaxed))
}

/// Ticks since boot.
pub fn jiffies() -> u64 {
    COARSE.load(Ordering::Relaxed) / TICK_NS
}

fn offset(clock: Clock) -> u64 {
    match clock {
        Clock::Monotonic | Clock::Boottime => 0,
        Clock::Realtime => WALL_OFFSET.load(Ordering::Relaxed),
        Clock::Tai => {
            let tai = i64::from(TAI_OFFSET_S.load(Ordering::Relaxed)) * NSEC_PER_SEC as i64;
            WALL_OFFSET.load(Ordering::Relaxed).wrapping_add_signed(tai)
        }
    }
}

/// Nanoseconds on `clock`.
pub fn clock_ns(clock: Clock) -> u64 {
    monotonic_ns().wrapping_add(offset(clock))
}

/// When `ns` of `clock` is on the monotonic clock; the past of a set clock is 0.
pub(crate) fn to_monotonic(clock: Clock, ns: u64) -> u64 {
    match clock {
        Clock::Monotonic | Clock::Boottime => ns,
        _ => ns.saturating_sub(offset(clock)),
    }
}

/// Sets the wall clock (`settimeofday`, `clock_settime`, RTC at boot).
pub fn set_realtime(ns: u64) {
    move_wall(&mut KEEPER.lock(), |now| ns.wrapping_sub(now));
    clock_was_set();
}

/// Gives the wall clock the offset that `offset` makes of the monotonic time.
fn move_wall(keeper: &mut Keeper, offset: impl FnOnce(u64) -> u64) {
    let now = monotonic_ns();
    WALL_OFFSET.store(offset(now), Ordering::Relaxed);
    SET_COUNT.fetch_add(1, Ordering::Release);
    keeper.ntp.clear();
    keeper.next_second = second_after(now);
    apply_slope(keeper);
    update_vdso(keeper);
}

/// When the wall clock's next second begins, `now` and the answer on the monotonic clock.
fn second_after(now: u64) -> u64 {
    now + NSEC_PER_SEC - now.wrapping_add(WALL_OFFSET.load(Ordering::Relaxed)) % NSEC_PER_SEC
}

fn clock_was_set() {
    crate::platform::on_each_cpu(|_| hrtimer_reprogram(), 0);
    if let Some(hook) = ON_SET.get() {
        hook();
    }
}

fn hrtimer_reprogram() {
    crate::hrtimer::reprogram();
}

/// Registers who hears that the wall clock was set (timerfd's `TFD_TIMER_CANCEL_ON_SET`). Once.
pub fn on_clock_set(hook: fn()) {
    ON_SET.call_once(|| hook);
}

/// How often the wall clock was set: compare two reads to know whether it was in between.
pub fn clock_set_count() -> u32 {
    SET_COUNT.load(Ordering::Acquire)
}

/// The kernel's time zone: (minutes west, DST kind).
pub fn timezone() -> (i32, i32) {
    KEEPER.lock().timezone
}

/// Sets the kernel's time zone (`settimeofday`).
pub fn set_timezone(minutes_west: i32, dst: i32) {
    let mut keeper = KEEPER.lock();
    keeper.timezone = (minutes_west, dst);
    update_vdso(&keeper);
}

/// adjtimex(2): steps the wall clock by `step_ns` first, does and reports what [`Ntp::adjust`] describes, and the time.
/// The caller checked rights and values. Returns the state of the clock (`TIME_*`).
///
/// # Errors
/// `ENOMEM` for what a leap second needs.
pub fn adjtimex(tx: &mut Timex, step_ns: Option<i64>) -> Result<i32> {
    if LEAP.get().is_none() && tx.status & (ntp::STA_INS | ntp::STA_DEL) != 0 {
        let work = Work::new(clock_was_set)?;
        LEAP.call_once(|| work);
    }
    let state = {
        let mut keeper = KEEPER.lock();
        if let Some(step_ns) = step_ns {
            let wall = WALL_OFFSET.load(Ordering::Relaxed);
            move_wall(&mut keeper, |_| wall.wrapping_add_signed(step_ns));
        }
        let wall = realtime_ns();
        let state = keeper.ntp.adjust(tx, (wall / NSEC_PER_SEC).cast_signed());
        tx.time = Timeval::from_ns(wall);
        if tx.status & ntp::STA_NANO != 0 {
            tx.time.usec = (wall % NSEC_PER_SEC).cast_signed();
        }
        TAI_OFFSET_S.store(keeper.ntp.tai_s(), Ordering::Relaxed);
        apply_slope(&keeper);
        update_vdso(&keeper);
        state
    };
    if step_ns.is_some() {
        clock_was_set();
    }
    Ok(state)
}

/// Starts a new slope at this moment, if the rate changed.
fn apply_slope(keeper: &Keeper) {
    let rate = keeper.ntp.rate();
    if rate == SLOPE_RATE.load(Ordering::Relaxed).cast_signed() {
        return;
    }
    let raw = arch::time::now_ns();
    let mono = if SLOPED.load(Ordering::Relaxed) { sloped(raw) } else { raw };
    SLOPE_SEQ.write_begin();
    SLOPE_RAW.store(raw, Ordering::Relaxed);
    SLOPE_MONO.store(mono, Ordering::Relaxed);
    SLOPE_RATE.store(rate.cast_unsigned(), Ordering::Relaxed);
    SLOPE_SEQ.write_end();
    SLOPED.store(true, Ordering::Relaxed);
    update_vdso(keeper);
}

/// The tick of the CPU that keeps time. Interrupts off.
pub(crate) fn tick() {
    let now = monotonic_ns();
    COARSE.store(now, Ordering::Relaxed);
    let mut keeper = KEEPER.lock();
    if now >= keeper.next_second {
        seconds(&mut keeper, now);
    }
    update_vdso(&keeper);
}

/// Seconds of the wall clock began up to `now`: the correction of the running one.
#[cold]
fn seconds(keeper: &mut Keeper, now: u64) {
    while now >= keeper.next_second {
        let wall = keeper.next_second.wrapping_add(WALL_OFFSET.load(Ordering::Relaxed));
        let leap = keeper.ntp.second(wall / NSEC_PER_SEC);
        if leap != 0 {
            let by = i64::from(leap) * NSEC_PER_SEC.cast_signed();
            let offset = WALL_OFFSET.load(Ordering::Relaxed);
            WALL_OFFSET.store(offset.wrapping_add_signed(by), Ordering::Relaxed);
            TAI_OFFSET_S.store(keeper.ntp.tai_s(), Ordering::Relaxed);
            SET_COUNT.fetch_add(1, Ordering::Release);
            if let Some(work) = LEAP.get() {
                workqueue::system().queue_work(work);
            }
        }
        keeper.next_second += NSEC_PER_SEC;
    }
    apply_slope(keeper);
}

/// Starts the wall clock from the hardware's. Once, at boot, after the cycle counter is calibrated.
pub fn init() {
    let mut keeper = KEEPER.lock();
    WALL_OFFSET.store(arch::time::boot_epoch_ns(), Ordering::Relaxed);
    COARSE.store(monotonic_ns(), Ordering::Relaxed);
    keeper.next_second = second_after(monotonic_ns());
    update_vdso(&keeper);
}

fn update_vdso(keeper: &Keeper) {
    let (base, mult, shift) = arch::time::clock_params();
    let mut time = arch::vdso::VdsoTime {
        wall_offset_ns: WALL_OFFSET.load(Ordering::Relaxed),
        boot_offset_ns: 0,
        tai_offset_s: TAI_OFFSET_S.load(Ordering::Relaxed),
        coarse_ns: COARSE.load(Ordering::Relaxed),
        coarse_res_ns: TICK_NS as u32,
        mono_offset_ns: 0,
        clock: (base, mult, shift),
        raw_clock: (base, mult, shift),
        timezone: keeper.timezone,
    };
    if SLOPED.load(Ordering::Relaxed) {
        // The vDSO counts cycles from a new base with a corrected factor.
        let cycles = arch::time::now_raw();
        let raw = arch::time::cycles_to_ns(cycles.wrapping_sub(base));
        let rate = SLOPE_RATE.load(Ordering::Relaxed).cast_signed();
        let corrected = i64::from(mult) + ((i64::from(mult) * (rate >> 8)) >> 24);
        time.clock = (cycles, corrected.clamp(1, i64::from(u32::MAX)) as u32, shift);
        // Of the same moment as the new base: were it read again, the vDSO would be ahead.
        time.mono_offset_ns = sloped(raw).cast_signed();
    }
    arch::vdso::update(&time);
}
