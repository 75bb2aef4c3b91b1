//! `/dev/cpu_dma_latency`: how long a CPU may take to wake up. `Documentation/power/pm_qos_interface.rst` of Linux.
//!
//! An open file is a request, which goes when it is closed. The smallest of all counts: with 0 microseconds idle CPUs
//! do not sleep ([`sched::set_idle_polls`]); every other value leaves time for the one kind of sleep that there is.

use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::IovIter;
use mm::fallible::TryVec;
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags};

/// Microseconds without a request.
const DEFAULT: i32 = 2_000_000_000;

/// Requests and their values.
static REQUESTS: SpinLock<Vec<(u64, i32)>> = SpinLock::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An open file.
pub(super) struct Request(u64);

impl Request {
    /// One that asks for nothing yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        REQUESTS.lock().try_push((id, DEFAULT))?;
        Ok(Self(id))
    }

    fn change(&self, value: Option<i32>) {
        {
            let mut requests = REQUESTS.lock();
            match value {
                Some(value) => {
                    requests.iter_mut().filter(|(id, _)| *id == self.0).for_each(|(_, old)| *old = value)
                }
                None => requests.retain(|(id, _)| *id != self.0),
            }
        }
        sched::set_idle_polls(limit() <= 0);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.change(None);
    }
}

/// What all requests together allow, in microseconds.
fn limit() -> i32 {
    REQUESTS.lock().iter().map(|(_, value)| *value).min().unwrap_or(DEFAULT)
}

/// A number in hexadecimal, with or without `0x`.
fn parse(text: &[u8]) -> Result<i32> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Errno::EINVAL);
    }
    let value = i64::from_str_radix(digits, 16).map_err(|_| Errno::ERANGE)?;
    i32::try_from(if negative { -value } else { value }).map_err(|_| Errno::ERANGE)
}

impl FileOps for Request {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let bytes = limit().to_ne_bytes();
        let rest = usize::try_from(*pos).ok().and_then(|pos| bytes.get(pos..)).unwrap_or_default();
        let part = rest.get(..rest.len().min(iter.count())).unwrap_or_default();
        let count = iter.copy_to_iter(part);
        if count < part.len() && count == 0 {
            return Err(Errno::EFAULT);
        }
        *pos += count as u64;
        Ok(count)
    }

    /// Four bytes are the value itself, anything else is text.
    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        let mut bytes = [0; 16];
        let count = iter.count();
        let part = bytes.get_mut(..count.min(16)).unwrap_or_default();
        if iter.copy_from_iter(part) < part.len() {
            return Err(Errno::EFAULT);
        }
        let value = match (count, bytes.first_chunk::<4>()) {
            (4, Some(value)) => i32::from_ne_bytes(*value),
            (5.., _) | (..=3, _) if count <= 12 => parse(bytes.get(..count).unwrap_or_default())?,
            _ => return Err(Errno::EINVAL),
        };
        self.change(Some(value));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse(b"0x1f\n"), Ok(31));
        assert_eq!(parse(b"ff"), Ok(255));
        assert_eq!(parse(b"-1"), Ok(-1));
        assert_eq!(parse(b"80000000"), Err(Errno::ERANGE));
        for bad in [&b""[..], b"\n", b"0x", b"1 ", b"g"] {
            assert_eq!(parse(bad), Err(Errno::EINVAL));
        }
    }
}
