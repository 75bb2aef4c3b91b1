//! Error sequences: each who looks sees an error once, whoever else has seen it (`errseq_t`; `Documentation/core-api/errseq.rst`).
//!
//! A value holds the last error, whether anybody has seen it, and a count of errors that were seen, so that it changes with each one that
//! somebody could miss. A position in the sequence is a value as well: different from the present one means that there is something new.

use abi::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering};

const ERRNO: u32 = 0xfff;
const SEEN: u32 = 1 << 12;
const STEP: u32 = 1 << 13;

/// The errors of one object.
#[derive(Debug, Default)]
pub struct ErrSeq(AtomicU32);

impl ErrSeq {
    /// No error yet.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Notes an error. Any context.
    pub fn set(&self, error: Errno) {
        let number = error.code() as u32 & ERRNO;
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
            let new = old & !(ERRNO | SEEN) | number;
            // A step only if somebody would miss it otherwise.
            let new = if old & SEEN != 0 { new.wrapping_add(STEP) } else { new };
            (new != old).then_some(new)
        });
    }

    /// Where somebody begins who comes now: an error that nobody has seen is still ahead.
    pub fn sample(&self) -> u32 {
        let now = self.0.load(Ordering::Acquire);
        if now & SEEN == 0 { 0 } else { now }
    }

    /// Whether there was an error since `position`.
    ///
    /// # Errors
    /// The last one.
    pub fn check(&self, position: u32) -> Result<()> {
        let now = self.0.load(Ordering::Acquire);
        if now == position { Ok(()) } else { result(now) }
    }

    /// The same; moves `position` on, so that it is said once.
    ///
    /// # Errors
    /// The last one.
    pub fn check_and_advance(&self, position: &AtomicU32) -> Result<()> {
        let mut before = position.load(Ordering::Acquire);
        loop {
            let now = self.0.load(Ordering::Acquire);
            if now == before {
                return Ok(());
            }
            let seen = now | SEEN;
            if now != seen && self.0.compare_exchange(now, seen, Ordering::AcqRel, Ordering::Acquire).is_err()
            {
                continue;
            }
            // Of two who look at the same position one gets to know.
            match position.compare_exchange(before, seen, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return result(now),
                Err(other) => before = other,
            }
        }
    }
}

fn result(value: u32) -> Result<()> {
    match Errno::new((value & ERRNO) as i32) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_looks_sees_an_error_once() {
        let errors = ErrSeq::new();
        let (a, b) = (AtomicU32::new(errors.sample()), AtomicU32::new(errors.sample()));
        assert_eq!(errors.check_and_advance(&a), Ok(()));
        errors.set(Errno::EIO);
        // Somebody who comes before anyone has seen it sees it too.
        let c = AtomicU32::new(errors.sample());
        for one in [&a, &b, &c] {
            assert_eq!(errors.check_and_advance(one), Err(Errno::EIO));
            assert_eq!(errors.check_and_advance(one), Ok(()));
        }
        // Somebody who comes later does not.
        let d = AtomicU32::new(errors.sample());
        assert_eq!(errors.check_and_advance(&d), Ok(()));
        // The same error again is another one.
        errors.set(Errno::EIO);
        errors.set(Errno::ENOSPC);
        assert_eq!(errors.check(d.load(Ordering::Relaxed)), Err(Errno::ENOSPC));
        for one in [&a, &b, &c, &d] {
            assert_eq!(errors.check_and_advance(one), Err(Errno::ENOSPC));
            assert_eq!(errors.check_and_advance(one), Ok(()));
        }
    }
}
