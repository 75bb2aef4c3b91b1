//! Times of reception: `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, `SO_TIMESTAMPING`.
//!
//! One of the first two, in its old or new form, has each message say when it came. The third says which times of which clocks are wanted;
//! there is only software's here. The forms differ for programs whose `time_t` has 32 bits, so old and new are the same here but for the
//! number; which one is used was said by the last option that was set, of all.
//!
//! Source: `socket(7)`, "Timestamping" of the kernel's networking documentation.

use core::sync::atomic::{AtomicU32, Ordering};

use abi::raw_sys::net;
use abi::{Errno, Result};

/// Messages have times.
const ON: u32 = 1 << 0;
/// They are in nanoseconds.
const NANOSECONDS: u32 = 1 << 1;
/// Control messages have the new numbers.
const NEW: u32 = 1 << 2;

/// `SOF_TIMESTAMPING_*`.
mod flag {
    pub const RX_SOFTWARE: u32 = 1 << 3;
    pub const SOFTWARE: u32 = 1 << 4;
    pub const OPT_ID: u32 = 1 << 7;
    pub const OPT_TSONLY: u32 = 1 << 11;
    pub const OPT_STATS: u32 = 1 << 12;
    pub const BIND_PHC: u32 = 1 << 15;
    pub const OPT_ID_TCP: u32 = 1 << 16;
    pub const OPT_RX_FILTER: u32 = 1 << 17;
    pub const ALL: u32 = (1 << 18) - 1;
}

/// What a socket wants to know of times.
#[derive(Default)]
pub struct Stamps {
    state: AtomicU32,
    flags: AtomicU32,
}

impl Stamps {
    /// Whether `option` is one of the four that switch times on and off.
    pub fn is_option(option: u32) -> bool {
        matches!(
            option,
            net::SO_TIMESTAMP_OLD | net::SO_TIMESTAMPNS_OLD | net::SO_TIMESTAMP_NEW | net::SO_TIMESTAMPNS_NEW
        )
    }

    fn change(&self, clear: u32, set: u32) {
        let _ =
            self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(state & !clear | set));
    }

    /// Sets one of the four.
    pub fn set(&self, option: u32, on: bool) {
        if !on {
            return self.change(ON | NANOSECONDS, 0);
        }
        let parts = matches!(option, net::SO_TIMESTAMPNS_OLD | net::SO_TIMESTAMPNS_NEW);
        let new = matches!(option, net::SO_TIMESTAMP_NEW | net::SO_TIMESTAMPNS_NEW);
        let set = ON | if parts { NANOSECONDS } else { 0 } | if new { NEW } else { 0 };
        self.change(NANOSECONDS | NEW, set);
    }

    /// One of the four.
    pub fn get(&self, option: u32) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        match option {
            net::SO_TIMESTAMP_OLD => state & (ON | NANOSECONDS | NEW) == ON,
            net::SO_TIMESTAMPNS_OLD => state & (NANOSECONDS | NEW) == NANOSECONDS,
            net::SO_TIMESTAMP_NEW => state & (ON | NEW) == ON | NEW,
            _ => state & (NANOSECONDS | NEW) == NANOSECONDS | NEW,
        }
    }

    /// Whether messages have times: the option that says in which form.
    pub fn wanted(&self) -> Option<u32> {
        let state = self.state.load(Ordering::Relaxed);
        if state & ON == 0 {
            return None;
        }
        Some(match (state & NANOSECONDS != 0, state & NEW != 0) {
            (false, false) => net::SO_TIMESTAMP_OLD,
            (false, true) => net::SO_TIMESTAMP_NEW,
            (true, false) => net::SO_TIMESTAMPNS_OLD,
            (true, true) => net::SO_TIMESTAMPNS_NEW,
        })
    }

    /// Sets `SO_TIMESTAMPING`, by its old or new number.
    ///
    /// # Errors
    /// `EINVAL`: flags; `EOPNOTSUPP`: there is no clock of a device.
    pub fn set_stamping(&self, option: u32, flags: u32) -> Result<()> {
        let has = |bit| flags & bit != 0;
        if has(!flag::ALL)
            || has(flag::OPT_ID_TCP) && !has(flag::OPT_ID)
            || has(flag::OPT_STATS) && !has(flag::OPT_TSONLY)
        {
            return Err(Errno::EINVAL);
        }
        if has(flag::BIND_PHC) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.flags.store(flags, Ordering::Relaxed);
        self.change(NEW, if option == net::SO_TIMESTAMPING_NEW { NEW } else { 0 });
        Ok(())
    }

    /// `SO_TIMESTAMPING`; nothing under the new number unless the new form is in use.
    pub fn stamping(&self, option: u32) -> u32 {
        let shown = option == net::SO_TIMESTAMPING_OLD || self.state.load(Ordering::Relaxed) & NEW != 0;
        if shown { self.flags.load(Ordering::Relaxed) } else { 0 }
    }

    /// Whether a received message that has a time says it once more, for `SO_TIMESTAMPING`: the option that says in which form.
    pub fn stamping_wanted(&self) -> Option<u32> {
        let flags = self.flags.load(Ordering::Relaxed);
        let wanted = flags & flag::SOFTWARE != 0
            && (flags & flag::RX_SOFTWARE != 0 || flags & flag::OPT_RX_FILTER == 0);
        let new = self.state.load(Ordering::Relaxed) & NEW != 0;
        wanted.then_some(if new { net::SO_TIMESTAMPING_NEW } else { net::SO_TIMESTAMPING_OLD })
    }

    /// Takes over what another socket wants.
    pub fn copy_from(&self, other: &Self) {
        self.state.store(other.state.load(Ordering::Relaxed), Ordering::Relaxed);
        self.flags.store(other.flags.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
