//! Options at level `SOL_SOCKET`: `socket(7)`.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::time::Timeval;
use abi::{Errno, Result, raw_sys::net};
use sched::hrtimer::Deadline;

use crate::stamps::Stamps;

/// What buffers hold by default (`/proc/sys/net/core/{r,w}mem_default`).
pub const BUFFER_DEFAULT: u32 = 212_992;
/// The smallest send buffer.
const SEND_MIN: u32 = 4608;
/// The smallest receive buffer.
const RECEIVE_MIN: u32 = 2304;

/// How long calls wait; zero is for ever.
#[derive(Default)]
pub struct Timeouts {
    /// `SO_RCVTIMEO` in nanoseconds.
    pub receive_ns: AtomicU64,
    /// `SO_SNDTIMEO` in nanoseconds.
    pub send_ns: AtomicU64,
}

/// What the caller may, of what some options ask for.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// `CAP_NET_ADMIN`.
    pub admin: bool,
    /// `CAP_NET_RAW`.
    pub raw: bool,
}

/// The highest priority that anyone may set.
const PRIORITY_MAX: i32 = 6;

/// A socket's common options.
pub struct Options {
    /// `SO_SNDBUF`.
    pub send_buffer: AtomicU32,
    /// `SO_RCVBUF`.
    pub receive_buffer: AtomicU32,
    /// `SO_RCVLOWAT`.
    pub receive_low: AtomicU32,
    /// `SO_PASSCRED`.
    pub pass_credentials: AtomicBool,
    /// `SO_PASSPIDFD`.
    pub pass_process: AtomicBool,
    /// `SO_PEEK_OFF`: where the next peek begins; negative: at the front, always.
    peek_offset: AtomicI32,
    /// Times of reception.
    pub stamps: Stamps,
    priority: AtomicI32,
    mark: AtomicU32,
    /// `SO_RCVTIMEO`, `SO_SNDTIMEO`.
    pub timeouts: Timeouts,
    /// `SO_REUSEADDR`, `SO_KEEPALIVE`, `SO_BROADCAST`, … by number: kept for protocols that look.
    flags: AtomicU64,
    linger: AtomicU64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            send_buffer: AtomicU32::new(BUFFER_DEFAULT),
            receive_buffer: AtomicU32::new(BUFFER_DEFAULT),
            receive_low: AtomicU32::new(1),
            pass_credentials: AtomicBool::new(false),
            pass_process: AtomicBool::new(false),
            peek_offset: AtomicI32::new(-1),
            stamps: Stamps::default(),
            priority: AtomicI32::new(0),
            mark: AtomicU32::new(0),
            timeouts: Timeouts::default(),
            flags: AtomicU64::new(0),
            linger: AtomicU64::new(0),
        }
    }
}

/// Options that are a bit and nothing else.
const BITS: [u32; 8] = [
    net::SO_DEBUG,
    net::SO_REUSEADDR,
    net::SO_DONTROUTE,
    net::SO_BROADCAST,
    net::SO_KEEPALIVE,
    net::SO_OOBINLINE,
    net::SO_REUSEPORT,
    net::SO_PASSSEC,
];

impl Options {
    /// When a receive that begins now gives up.
    pub fn receive_deadline(&self) -> Option<Deadline> {
        deadline(&self.timeouts.receive_ns)
    }

    /// When a send that begins now gives up.
    pub fn send_deadline(&self) -> Option<Deadline> {
        deadline(&self.timeouts.send_ns)
    }

    /// Where a peek begins. `SO_PEEK_OFF`.
    pub fn peek_offset(&self) -> usize {
        self.peek_offset.load(Ordering::Relaxed).max(0) as usize
    }

    /// `count` bytes were peeked at (positive) or received: the next peek goes on from there. The reader's lock is held.
    pub fn move_peek_offset(&self, count: isize) {
        let at = self.peek_offset.load(Ordering::Relaxed);
        if at >= 0 {
            let to = (at as isize).saturating_add(count).clamp(0, i32::MAX as isize);
            self.peek_offset.store(to as i32, Ordering::Relaxed);
        }
    }

    /// Whether urgent data is received with the rest. `SO_OOBINLINE`.
    pub fn oob_inline(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & 1 << net::SO_OOBINLINE != 0
    }

    /// `setsockopt(2)` with an `int`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an option that is not known here; `EPERM`, `EACCES` for what `rights` do not allow.
    pub fn set(&self, option: u32, value: i32, rights: Rights) -> Result<()> {
        let Rights { admin, raw } = rights;
        match option {
            net::SO_SNDBUF => self.set_buffer(&self.send_buffer, value, SEND_MIN, true),
            net::SO_RCVBUF => self.set_buffer(&self.receive_buffer, value, RECEIVE_MIN, true),
            net::SO_SNDBUFFORCE | net::SO_RCVBUFFORCE if !admin => return Err(Errno::EPERM),
            net::SO_SNDBUFFORCE => self.set_buffer(&self.send_buffer, value, SEND_MIN, false),
            net::SO_RCVBUFFORCE => self.set_buffer(&self.receive_buffer, value, RECEIVE_MIN, false),
            net::SO_RCVLOWAT => {
                let low = if value < 0 { i32::MAX } else { value.max(1) };
                self.receive_low.store(low as u32, Ordering::Relaxed);
            }
            net::SO_PASSCRED => self.pass_credentials.store(value != 0, Ordering::Relaxed),
            net::SO_PASSPIDFD => self.pass_process.store(value != 0, Ordering::Relaxed),
            net::SO_PEEK_OFF => self.peek_offset.store(value, Ordering::Relaxed),
            net::SO_PRIORITY if !(0..=PRIORITY_MAX).contains(&value) && !admin && !raw => {
                return Err(Errno::EPERM);
            }
            net::SO_PRIORITY => self.priority.store(value, Ordering::Relaxed),
            net::SO_MARK if !admin && !raw => return Err(Errno::EPERM),
            net::SO_MARK => self.mark.store(value as u32, Ordering::Relaxed),
            _ if Stamps::is_option(option) => self.stamps.set(option, value != 0),
            // Groups are of the internet families.
            net::SO_REUSEPORT if value != 0 => return Err(Errno::EOPNOTSUPP),
            net::SO_DEBUG if value != 0 && !admin => return Err(Errno::EACCES),
            _ => {
                let bit = bit(option)?;
                if value != 0 {
                    self.flags.fetch_or(bit, Ordering::Relaxed);
                } else {
                    self.flags.fetch_and(!bit, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// `getsockopt(2)` with an `int`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an option that is not known here.
    pub fn get(&self, option: u32) -> Result<i32> {
        Ok(match option {
            net::SO_SNDBUF => self.send_buffer.load(Ordering::Relaxed) as i32,
            net::SO_RCVBUF => self.receive_buffer.load(Ordering::Relaxed) as i32,
            net::SO_RCVLOWAT => self.receive_low.load(Ordering::Relaxed) as i32,
            net::SO_SNDLOWAT => 1,
            net::SO_PASSCRED => i32::from(self.pass_credentials.load(Ordering::Relaxed)),
            net::SO_PASSPIDFD => i32::from(self.pass_process.load(Ordering::Relaxed)),
            net::SO_PEEK_OFF => self.peek_offset.load(Ordering::Relaxed),
            net::SO_PRIORITY => self.priority.load(Ordering::Relaxed),
            net::SO_MARK => self.mark.load(Ordering::Relaxed) as i32,
            _ if Stamps::is_option(option) => self.stamps.get(option).into(),
            _ => i32::from(self.flags.load(Ordering::Relaxed) & bit(option)? != 0),
        })
    }

    /// Takes over the options of a listening socket.
    pub fn copy_from(&self, other: &Self) {
        let words = [
            (&self.send_buffer, &other.send_buffer),
            (&self.receive_buffer, &other.receive_buffer),
            (&self.receive_low, &other.receive_low),
        ];
        for (to, from) in words {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let longs = [
            (&self.timeouts.receive_ns, &other.timeouts.receive_ns),
            (&self.timeouts.send_ns, &other.timeouts.send_ns),
            (&self.flags, &other.flags),
            (&self.linger, &other.linger),
        ];
        for (to, from) in longs {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.stamps.copy_from(&other.stamps);
        self.priority.store(other.priority.load(Ordering::Relaxed), Ordering::Relaxed);
        self.mark.store(other.mark.load(Ordering::Relaxed), Ordering::Relaxed);
        self.pass_credentials.store(other.pass_credentials.load(Ordering::Relaxed), Ordering::Relaxed);
        self.pass_process.store(other.pass_process.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// `SO_LINGER`: whether, and for how many seconds.
    pub fn linger(&self) -> (i32, i32) {
        let packed = self.linger.load(Ordering::Relaxed);
        ((packed >> 32) as i32, packed as u32 as i32)
    }

    /// Sets `SO_LINGER`.
    pub fn set_linger(&self, on: i32, seconds: i32) {
        let packed = u64::from(on != 0) << 32 | u64::from(seconds as u32);
        self.linger.store(packed, Ordering::Relaxed);
    }

    fn set_buffer(&self, buffer: &AtomicU32, value: i32, least: u32, bounded: bool) {
        let wanted = value.max(0) as u32;
        let wanted = if bounded { wanted.min(BUFFER_DEFAULT) } else { wanted.min(i32::MAX as u32 / 2) };
        buffer.store((wanted * 2).max(least), Ordering::Relaxed);
    }
}

/// Nanoseconds of a `struct timeval` timeout.
///
/// # Errors
/// `EDOM` for microseconds outside the second.
pub fn timeout_ns(time: Timeval) -> Result<u64> {
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM);
    }
    if time.sec < 0 {
        return Ok(1);
    }
    time.to_ns()
}

fn bit(option: u32) -> Result<u64> {
    if BITS.contains(&option) { Ok(1 << option) } else { Err(Errno::ENOPROTOOPT) }
}

fn deadline(timeout_ns: &AtomicU64) -> Option<Deadline> {
    match timeout_ns.load(Ordering::Relaxed) {
        0 => None,
        ns => Some(Deadline::after_ns(ns)),
    }
}
