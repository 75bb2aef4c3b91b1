//! What is said about a damaged file system, what is noted of it, and what happens then (`errors=`).

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use vfs::super_block::SB_RDONLY;

use crate::fs::Fs;
use crate::options::OnError;

/// `EFSCORRUPTED`: what is on the device is impossible.
pub const EFSCORRUPTED: Errno = Errno::EUCLEAN;
/// `EFSBADCRC`: what is on the device has another checksum.
pub const EFSBADCRC: Errno = Errno::EBADMSG;

/// Where in the file system something is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The function that noticed, for the message and for the super block.
    pub function: &'static str,
    /// Its line.
    pub line: u32,
    /// The inode; 0: none.
    pub ino: u32,
    /// The block; 0: none.
    pub block: u64,
}

/// An error as the super block notes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted {
    /// Where.
    pub place: Place,
    /// When, in seconds.
    pub time: i64,
    /// The error's number as the format has it.
    pub code: u8,
}

/// Errors of this mount, that are not in the super block yet.
#[derive(Default)]
pub struct Errors {
    /// How many.
    pub count: AtomicU32,
    /// The first and the last.
    noted: SpinLock<Option<(Noted, Noted)>>,
    panicked: AtomicBool,
    said: RateLimit,
}

/// A damaged file system is noticed over and over: ten messages in five seconds will do.
#[derive(Default)]
struct RateLimit {
    window: AtomicU64,
    count: AtomicU32,
}

impl RateLimit {
    fn allows(&self) -> bool {
        const INTERVAL_NS: u64 = 5 * 1_000_000_000;
        let window = sched::time::boottime_ns() / INTERVAL_NS + 1;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < 10
    }
}

impl Errors {
    /// How many errors there were since the last call, the first and the last: for who writes the super block.
    pub fn take(&self) -> Option<(u32, Noted, Noted)> {
        let (first, last) = self.noted.lock().take()?;
        Some((self.count.swap(0, Ordering::Relaxed), first, last))
    }

    /// The same, without taking them.
    pub fn peek(&self) -> Option<(u32, Noted, Noted)> {
        let (first, last) = (*self.noted.lock())?;
        Some((self.count.load(Ordering::Relaxed), first, last))
    }

    fn note(&self, noted: Noted) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut both = self.noted.lock();
        let first = both.map_or(noted, |(first, _)| first);
        *both = Some((first, noted));
    }
}

/// `s_first_error_errcode`: the format's own numbers.
fn code_of(error: Errno) -> u8 {
    match error {
        Errno::EIO => 2,
        Errno::ENOMEM => 3,
        EFSBADCRC => 4,
        EFSCORRUPTED => 5,
        Errno::ENOSPC => 6,
        Errno::ENOKEY => 7,
        Errno::EROFS => 8,
        Errno::EFBIG => 9,
        Errno::EEXIST => 10,
        Errno::ERANGE => 11,
        Errno::EOVERFLOW => 12,
        Errno::EBUSY => 13,
        Errno::ENOTDIR => 14,
        Errno::ENOTEMPTY => 15,
        Errno::ESHUTDOWN => 16,
        Errno::EFAULT => 17,
        _ => 1,
    }
}

/// The optional parts of a message.
struct Where(Place);

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.ino != 0 {
            write!(f, "inode #{}: ", self.0.ino)?;
        }
        if self.0.block != 0 {
            write!(f, "block {}: ", self.0.block)?;
        }
        Ok(())
    }
}

impl Fs {
    /// The file system is damaged (`ext4_error`): says so, notes it, and does what `errors=` wants. Returns `error`.
    #[cold]
    pub fn error(&self, place: Place, error: Errno, text: fmt::Arguments<'_>) -> Errno {
        if self.errors.said.allows() {
            log::error!(
                "EXT4-fs error (device {}): {}:{}: {}comm {}: {text}",
                self.name,
                place.function,
                place.line,
                Where(place),
                sched::current().comm(),
            );
        }
        let time = vfs::time::now_coarse().sec;
        self.errors.note(Noted { place, time, code: code_of(error) });
        self.react();
        error
    }

    /// Something is odd (`ext4_warning`).
    #[cold]
    pub fn warning(&self, place: Place, text: fmt::Arguments<'_>) {
        if !self.errors.said.allows() {
            return;
        }
        let comm = if place.ino == 0 { None } else { Some(sched::current().comm()) };
        match comm {
            Some(comm) => log::warn!(
                "EXT4-fs warning (device {}): {}:{}: {}comm {comm}: {text}",
                self.name,
                place.function,
                place.line,
                Where(place),
            ),
            None => log::warn!(
                "EXT4-fs warning (device {}): {}:{}: {text}",
                self.name,
                place.function,
                place.line
            ),
        }
    }

    fn react(&self) {
        let Some(sb) = self.vfs() else { return };
        if sb.is_read_only() {
            return;
        }
        match self.options().errors {
            OnError::Continue => {}
            OnError::ReadOnly => {
                log::error!("EXT4-fs ({}): Remounting filesystem read-only", self.name);
                sb.set_flags(sb.flags() | SB_RDONLY);
            }
            OnError::Panic => {
                // Only once: what runs while the machine goes down may notice more.
                if !self.errors.panicked.swap(true, Ordering::Relaxed) {
                    panic!("EXT4-fs (device {}): panic forced after error", self.name);
                }
            }
        }
    }
}

/// A [`Place`] in the present line: `place!("function")`, `place!("function", ino)`, `place!("function", ino, block)`.
macro_rules! place {
    ($function:literal) => {
        place!($function, 0, 0)
    };
    ($function:literal, $ino:expr) => {
        place!($function, $ino, 0)
    };
    ($function:literal, $ino:expr, $block:expr) => {
        $crate::error::Place { function: $function, line: line!(), ino: $ino, block: $block }
    };
}
pub(crate) use place;

/// A part of a structure that must be there after its size was checked; the error if it is not.
pub(crate) fn there<T>(part: Option<T>) -> Result<T> {
    part.ok_or(EFSCORRUPTED)
}
