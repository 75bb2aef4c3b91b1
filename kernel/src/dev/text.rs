//! Records of the log as text, in the two forms that users see.

use alloc::vec::Vec;

use abi::{Errno, Result};
use core::fmt::Write;
use kernfs::Text;

use crate::printk::ring::Header;

/// A record as `/dev/kmsg` shows it: `priority,sequence,microseconds,-;text`, with unusual bytes escaped.
pub(super) fn record(header: &Header, text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Text::new();
    write!(out, "{},{},{},-;", header.priority.0, header.seq, header.time_ns / 1000)
        .map_err(|_| Errno::ENOMEM)?;
    for &byte in text {
        match byte {
            b' '..=b'[' | b']'..=b'~' => out.push(&[byte]),
            _ => write!(out, "\\x{byte:02x}").map_err(|_| Errno::ENOMEM)?,
        }
    }
    out.push(b"\n");
    out.finish()
}

/// A record as `syslog(2)` shows it: `<priority>[seconds.microseconds] text`, the prefix before each line.
pub(super) fn lines(header: &Header, text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Text::new();
    let micros = header.time_ns / 1000;
    for line in text.split(|&byte| byte == b'\n') {
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        write!(out, "<{}>[{seconds:5}.{rest:06}] ", header.priority.0).map_err(|_| Errno::ENOMEM)?;
        out.push(line);
        out.push(b"\n");
    }
    out.finish()
}

/// Takes a `<priority>` off the front of what a user wrote. Users are facility 1 unless they say otherwise, and
/// never the kernel (0).
pub(super) fn parse_prefix(text: &[u8], default_level: u8) -> (u16, &[u8]) {
    const USER: u16 = 1 << 3;
    let plain = (USER | u16::from(default_level), text);
    let Some(rest) = text.strip_prefix(b"<") else { return plain };
    let Some(end) = rest.iter().position(|byte| !byte.is_ascii_digit()) else { return plain };
    if end == 0 || rest.get(end) != Some(&b'>') {
        return plain;
    }
    let digits = rest.get(..end).unwrap_or_default();
    let number = digits
        .iter()
        .fold(0u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    let facility = (number & 0x7ff) as u16 & !7;
    let facility = if facility == 0 { USER } else { facility };
    (facility | (number & 7) as u16, rest.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printk::ring::Priority;

    fn header() -> Header {
        Header { seq: 7, time_ns: 1_500_002_999, priority: Priority(30), len: 0 }
    }

    #[test]
    fn records_are_escaped() {
        assert_eq!(record(&header(), b"a\\b\n\xff").unwrap(), b"30,7,1500002,-;a\\x5cb\\x0a\\xff\n");
    }

    #[test]
    fn each_line_has_its_prefix() {
        assert_eq!(lines(&header(), b"a\nb").unwrap(), b"<30>[    1.500002] a\n<30>[    1.500002] b\n");
    }

    #[test]
    fn users_choose_level_and_facility_but_are_not_the_kernel() {
        assert_eq!(parse_prefix(b"x", 4), (12, &b"x"[..]));
        assert_eq!(parse_prefix(b"<6>x", 4), (14, &b"x"[..]));
        assert_eq!(parse_prefix(b"<30>x", 4), (30, &b"x"[..]));
        for odd in [&b"<>x"[..], b"<3x", b"<12", b"<"] {
            assert_eq!(parse_prefix(odd, 4), (12, odd));
        }
    }
}
